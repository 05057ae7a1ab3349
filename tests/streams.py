"""Seeded streams for the comparison of the product with its slow twin: small, and dense in hard cases.

`stream(seed)` is a scenario: a deck, a plans table, and rounds. A round is one run: its commands come before its
calls, and the next round goes on where it ended. The same seed is the same bytes, for one version of this file and
of the twin: the generator runs a twin beside itself, so that it can answer the recharge that is in flight, call just
before a wait ends, or fill the month in which a lot expires.

Everything generated here is decided by the documents. `doubtful=True` adds the cases where they leave a doubt.
No line holds a line feed; some hold a carriage return, which is JSON white space and ends no record.
"""

import base64
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tests.twin import DAY_MS, HOUR_MS, MINUTE_MS, Row, Twin, instant_ms, instant_text, month_start_ms

PLANS_HEAD = "plan,country,domestic_minutes,international_minutes,valid_from\n"

# Real numbering plans, so that a numbering table and this list name the same countries.
NUMBERS = {
    "US": ["+12125550123", "+14155550142", "+12065550101", "+12125559876"],
    "PR": ["+17875550123", "+19395550177"],
    "CA": ["+14165550123", "+16045550188"],
    "GB": ["+442079460018", "+442079460999", "+447700900123", "+441632960001"],
    "DE": ["+4930123456", "+4989123456", "+4915112345678"],
    "MX": ["+525512345678", "+523312345678"],
    "FR": ["+33142685300"],
    "JP": ["+81312345678"],
    "BR": ["+551121234567"],
    "NG": ["+2348021234567"],
}
PREMIUM_NUMBER = "+448712345678"
UNASSIGNED_NUMBERS = ["+9991234567", "+2101234567"]
TOLL_FREE_US = "+18005550199"
TOLL_FREE_GB = "+448081570000"
SERVICE_US = "+12125550000"
SERVICE_DE = "+4930000001"

GUIDE = {
    "1": "US", "1787": "PR", "1939": "PR", "1416": "CA", "1604": "CA", "44": "GB", "49": "DE", "52": "MX",
    "33": "FR", "81": "JP", "55": "BR", "234": "NG",
}  # fmt: skip


def guide_country(digits: str) -> str | None:
    """A dozen countries: enough for the generator and for the twin's own tests, not a numbering table."""
    for length in (4, 3, 2, 1):
        if digits[:length] in GUIDE:
            return GUIDE[digits[:length]]
    return None


@dataclass(frozen=True, slots=True)
class Round:
    commands: list[bytes]
    calls: list[bytes]


@dataclass(frozen=True, slots=True)
class Scenario:
    seed: int
    deck_files: dict[str, str]  # file name -> text
    plans: str
    rounds: list[Round]

    def run(self, twin: Twin) -> Twin:
        """Feed every round; offsets count over all runs, commands and calls apart."""
        command_offset = call_offset = 0
        for part in self.rounds:
            for raw in part.commands:
                twin.command(raw, command_offset)
                command_offset += 1
            for raw in part.calls:
                twin.call(raw, call_offset)
                call_offset += 1
        return twin


def stream(seed: int, *, doubtful: bool = False) -> Scenario:
    return Writer(seed, doubtful).scenario()


# ---------------------------------------------------------------------------------------------- decks and plans


def deck_files(rng: random.Random, pivots: list[int]) -> dict[str, str]:
    """Prefixes one to seven deep below the numbers that are called, with windows that meet at the pivots."""
    initial_s, step_s = rng.choice([(60, 60), (60, 60), (30, 6), (1, 1), (60, 1)])
    head = [
        'name = "stream"',
        'currency = "USD"',
        'direction = "outbound"',
        'price_ceiling_per_minute = "100"',
        f"initial_s = {initial_s}",
        f"step_s = {step_s}",
    ]
    if rng.random() < 0.2:
        head = head[:4]  # the contract's default increments
    lines = ["prefix,destination,country,class,rate_per_minute,connection_fee,minimum_charge,initial_s,step_s,"
             "valid_from,valid_to"]  # fmt: skip
    prefixes: dict[str, str] = {}
    for country, numbers in NUMBERS.items():
        if country in ("JP", "NG") and rng.random() < 0.7:
            continue  # a country without a rate
        if rng.random() < 0.8:
            prefixes.setdefault(numbers[0][1 : (2 if numbers[0].startswith("+1") else 3)], country)
        for number in numbers:
            depth = rng.randint(1, 7)
            for length in sorted(rng.sample(range(1, 12), depth)):
                digits = number[1 : 1 + length]
                if len(digits) >= (1 if country in ("US", "PR", "CA") else 2):
                    prefixes.setdefault(digits, country)
    for digits, country in rng.sample(sorted(prefixes.items()), len(prefixes)):
        lines += deck_rows(rng, digits, country, pivots)
    lines += ["44871,UK premium,GB,premium,1.5,0.25,,60,60,,", "1800,Toll free,US,toll_free,0,,,,,,"]
    if rng.random() < 0.3:
        lines.append(lines[-2])  # two rows alike: the first counts
    if rng.random() < 0.5:
        lines.append("999,Nowhere,,special,0.3,,,1/1,,,".replace("1/1", "1"))
    inbound = ["number_country,number_type,origin_country,rate_per_minute,connection_fee"]
    for row in ("US,toll_free,*,0.022,", "US,toll_free,CA,0.033,0.01", "GB,toll_free,GB,0.029000001,0.005",
                "US,service,*,0.01,", "DE,service,DE,0.015,", "DE,service,*,0,", "US,toll_free,PR,0.05,",
                "GB,service,*,0.0123,0.1"):  # fmt: skip
        if rng.random() < 0.8:
            inbound.append(row)
    files = {"deck.toml": "\n".join(head) + "\n", "outbound.csv": "\n".join(lines) + "\n"}
    if rng.random() < 0.9:
        files["inbound.csv"] = "\n".join(inbound) + "\n"
    return files


RATES = ["0", "0.000000001", "0.0205", "0.123456789", "1", "0.0333", "0.01", "0.000008333", "0.25", "0.0123455"]


def deck_rows(rng: random.Random, digits: str, country: str, pivots: list[int]) -> list[str]:
    """One prefix: a single row, or windows back to back, with gaps."""
    cuts: list[int | None] = [None]
    if len(digits) > 2 and rng.random() < 0.5:
        cuts += sorted(rng.sample(pivots, rng.randint(1, len(pivots))))
    cuts.append(None)
    rows = []
    for since, until in pairwise(cuts):
        if len(cuts) > 2 and rng.random() < 0.25:
            continue  # a gap: the shorter prefix answers
        cells = [
            digits,
            rng.choice(["", f"Place {digits}", f'"Place, {digits}"', f"Ort \u00e4 {digits}", '"say ""hi"""']),
            rng.choice(["", country]),
            rng.choice(["", "geographic", "mobile", "geographic", "special", "geographic", "premium"]),
            rng.choice(RATES),
            rng.choice(["", "", "", "0", "0.05", "0.000001", "0.5"]),
            rng.choice(["", "", "", "0.1", "0.000001"]),
            *rng.choice([("", ""), ("60", "60"), ("60", "1"), ("30", "6"), ("1", "1"), ("0", "1"), ("", "1")]),
            "" if since is None else instant_text(since),
            "" if until is None else instant_text(until),
        ]
        rows.append(",".join(cells))
    return rows


def plans_text(rng: random.Random, dated: bool) -> str:
    """Small allotments, so that pools run out; US and PR alike, because they share."""
    small = {"MCOPSTN1": (5, 0), "MCOPSTN2": (6, 4), "MCOPSTN5": (3, 0), "MCOPSTN6": (4, 0), "MCOPSTN8": (3, 0),
             "MCOPSTN9": (0, 3)}  # fmt: skip
    rows = []
    for plan, (domestic, international) in small.items():
        more = rng.randint(0, 3)
        for country in ("US", "PR", "CA", "GB", "DE", "MX"):
            if country == "MX" and plan not in ("MCOPSTN1", "MCOPSTN2"):
                continue
            first, second = domestic + more * (domestic > 0), international + more * (international > 0)
            rows.append(f"{plan},{country},{first},{second},")
            if country == "GB" and plan in ("MCOPSTN1", "MCOPSTN2"):
                rows.pop()
                before, after = (1200, 3000) if dated and rng.random() < 0.5 else (2, 5)
                rows.append(f"{plan},GB,{before},{second},")
                rows.append(f"{plan},GB,{after},{second},2023-01-25")
    rng.shuffle(rows)
    return PLANS_HEAD + "\n".join(rows) + "\n"


# ---------------------------------------------------------------------------------------------- how a record is written


def compact(record: Row) -> bytes:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()


def rewritten(rng: random.Random, record: Row) -> bytes:
    """The same content in other bytes: key order, white space, escapes."""
    keys = list(record)
    rng.shuffle(keys)
    gap = rng.choice(["", " ", "\t", "  ", "\r", " \r "])
    parts = []
    for key in keys:
        value = record[key]
        written = escaped(rng, value) if isinstance(value, str) else json.dumps(value, ensure_ascii=rng.random() < 0.5)
        parts.append(f"{gap}{escaped(rng, key)}{gap}:{gap}{written}{gap}")
    lead = rng.choice(["", " ", "\t"])
    return (lead + "{" + ",".join(parts) + "}" + lead).encode()


def escaped(rng: random.Random, text: str) -> str:
    """A JSON string in which some letters are written as escapes, upper or lower case."""
    if rng.random() < 0.5:
        return json.dumps(text, ensure_ascii=rng.random() < 0.5)
    letters = []
    for letter in text:
        if letter == "/" and rng.random() < 0.5:
            letters.append("\\/")
        elif rng.random() < 0.2 and ord(letter) < 0x10000:
            form = "{:04x}" if rng.random() < 0.5 else "{:04X}"
            letters.append("\\u" + form.format(ord(letter)))
        else:
            letters.append(json.dumps(letter, ensure_ascii=False)[1:-1])
    return '"' + "".join(letters) + '"'


# ---------------------------------------------------------------------------------------------- poison


def swapped(record: Row, name: str, written: str) -> bytes:
    """The record with one value replaced by raw JSON text."""
    parts = []
    for key, value in record.items():
        shown = written if key == name else json.dumps(value, ensure_ascii=False)
        parts.append(f"{json.dumps(key, ensure_ascii=False)}:{shown}")
    return ("{" + ",".join(parts) + "}").encode()


def padded(record: Row, size: int) -> bytes:
    """Exactly `size` bytes, by an unknown field."""
    bare = compact(record | {"padding": ""})
    return compact(record | {"padding": "x" * (size - len(bare))})


def broken_json(rng: random.Random, record: Row) -> bytes:
    good = compact(record)
    text = good.decode()
    return rng.choice(
        [
            b"{",
            b"not json",
            b"\x00",
            good + b"}",
            good + b" {}",
            good + b"\x00",
            good[:-1],
            good[: len(good) // 2],
            b"\xef\xbb\xbf" + good,
            good[:-1] + b',"x":"\xff\xfe"}',
            good[:-1] + b',"x":"\xed\xa0\x80"}',
            good[:-1] + b',"x":"\xc0\xaf"}',
            good[:-1] + b',"x":"\\ud800"}',
            good[:-1] + b',"x":"\\udc00\\ud800"}',
            good[:-1] + b',"\\udfff":1}',
            good[:-1] + b',"x":NaN}',
            good[:-1] + b',"x":-Infinity}',
            good[:-1] + b',"x":01}',
            good[:-1] + b',"x":+1}',
            good[:-1] + b',"x":.5}',
            good[:-1] + b',"x":1.}',
            good[:-1] + b',"x":1_000}',
            good[:-1] + b',"x":0x10}',
            good[:-1] + b',"x":"\x01"}',
            good[:-1] + b',"x":"a\tb"}',
            good[:-1] + b',"x":"\\x41"}',
            good[:-1] + b',"x":"\\u12g4"}',
            good[:-1] + b',"x":tru}',
            good[:-1] + b',"x":None}',
            good[:-1] + b",}",
            good[:-1] + b',"x":[1,]}',
            good[:-1] + b',"x":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
            b"[" * 60_000,
            text.replace('"', "'").encode(),
            text.replace(":", "\u00a0:", 1).encode(),
            b"/* a */" + good,
            text.encode("utf-16"),
        ]
    )


def not_an_object(rng: random.Random, record: Row) -> bytes:
    return rng.choice(
        [b"null", b"true", b"[]", b"12", b'"text"', b"-0", b"1e5", b"[" + compact(record) + b"]", b'[{"a":1,"a":1}]']
    )


def repeated_key(rng: random.Random, record: Row) -> bytes:
    good = compact(record)
    first = next(iter(record))
    return rng.choice(
        [
            good[:-1] + b',"tenant":"other"}',
            good[:-1] + b',"' + first.encode() + b'":null}',
            good[:-1] + b',"\\u0074enant":' + json.dumps(record["tenant"]).encode() + b"}",
            good[:-1] + b',"x":1,"y":2,"x":1}',
            good[:-1] + b',"x":1,"\\u0078":1}',
        ]
    )


def wrong_size(rng: random.Random, record: Row) -> bytes:
    return rng.choice([padded(record, 65_537), b"x" * 65_537, padded(record, 100_000), b" " + padded(record, 65_536)])


BAD_INSTANTS = [
    "2026-11-03T13:30:00", "2026-11-03 13:30:00Z", "2026-11-03T13:30:00+00:00", "2026-11-03T13:30:00z",
    "2026-11-03t13:30:00Z", "2026-11-03T13:30:60Z", "2026-11-03T24:00:00Z", "2026-02-29T00:00:00Z",
    "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-11-31T00:00:00Z", "2026-11-03T13:30Z",
    "2026-11-03T13:30:00.Z", "2026-11-03T13:30:00.0123456789Z", "2026-11-03T13:30:00,5Z", "0000-01-01T00:00:00Z",
    "+2026-11-03T13:30:00Z", "\u0662\u0660\u0662\u0666-11-03T13:30:00Z", "2026-11-03T13:30:00Z\n",
    " 2026-11-03T13:30:00Z",
    "1700-02-29T00:00:00Z", "2100-02-29T00:00:00Z", "10000-01-01T00:00:00Z", "", "now", "2026-W45-2T00:00:00Z",
]  # fmt: skip
BAD_NUMBERS = [
    "442079460018", "+44 2079", "+12", "+1234567890123456", "+", "", "++4420794600", "+44\u0662\u0660\u0667\u0669",
    "+\uff14\uff1420794600", "+4420794\u00b2", "=cmd|' /C calc'!A0", "+44207946_0018", "+442079460018\n",
    "\u200b+442079",
    "+4420 ", "tel:+442079460018", "+" + "1" * 200, "anonymous", "0044207946", "+44207946a",
]  # fmt: skip
BAD_INTEGERS = [
    '"60000"', "60000.0", "6e4", "true", "false", "-1", "86400001", "9007199254740993", "9223372036854775808",
    "18446744073709551616", "1" + "0" * 29, "[60000]", "{}", '"\\u0666\\u0660"', '" 12\\n"', '"1_000"', "-60000", "0.0",
    "-9223372036854775809", "1E2", "60000.5",
]  # fmt: skip
BAD_TEXTS = ["a\u0000b", "a\nb", "line\r\nforged", "\x7f", "", "x" * 129, "\u00e4" * 65, "\U0001f600" * 33, "tab\there"]
BAD_IDS = ["", "x" * 129, "caf\u00e9", "a\nb", "a\u00a0b", "\u200b", "a\tb", "\x7f"]
BAD_TENANTS = ["", "-a", ".a", "a b", "a/b", "../etc", "x" * 65, "\u00e4", "a\n", "_a", "\u0661", "${jndi:ldap://x}"]


def bad_call_field(rng: random.Random, record: Row) -> bytes:
    name = rng.choice(
        ["record_id", "tenant", "call_type", "user", "caller", "callee", "start", "answer", "end", "billable_ms",
         "billable_ms", "disposition", "switch", "source", "call_id"]
    )  # fmt: skip
    values: dict[str, list[Any]] = {
        "record_id": BAD_IDS,
        "tenant": BAD_TENANTS,
        "call_type": ["USER_OUT", "oc_out", "user_out ", "", "dr_", "dr_anything", 7],
        "user": [*BAD_TEXTS, 7, True, [], {}],
        "caller": [*BAD_NUMBERS, 7, 442079460018],
        "callee": [*BAD_NUMBERS, 7],
        "start": [*BAD_INSTANTS, 1793712600, 0.5],
        "answer": [*BAD_INSTANTS, False],
        "end": [*BAD_INSTANTS, []],
        "disposition": ["ANSWERED", "answer", "", 1],
        "switch": [*BAD_TEXTS, 1, False],
        "source": [*BAD_TEXTS, ["freeswitch"]],
        "call_id": [*BAD_TEXTS, {}],
    }
    if name == "billable_ms":
        return swapped(record, name, rng.choice(BAD_INTEGERS))
    return compact({**record, name: rng.choice(values[name])})


def missing_call_field(rng: random.Random, record: Row) -> bytes:
    required = ["record_id", "tenant", "call_type", "caller", "callee", "start", "answer", "end", "billable_ms",
                "disposition"]  # fmt: skip
    if record["call_type"].startswith(("user_", "conf_")):
        required.append("user")
    name = rng.choice(required)
    if name not in ("caller", "answer") and rng.random() < 0.4:
        return compact({**record, name: None})
    return compact({key: value for key, value in record.items() if key != name})


def bad_times(rng: random.Random, record: Row) -> bytes:
    start, end = instant_ms(record["start"]), instant_ms(record["end"])
    middle = end if record["answer"] is None else instant_ms(record["answer"])
    measured = {"answer": instant_text(middle), "disposition": "answered"}
    far = max(end - middle, 0)
    changes: list[Row] = [
        {"start": instant_text(end + 1), "answer": None},
        {"start": instant_text(middle + 1), "answer": instant_text(middle)},
        {"answer": instant_text(end + 1)},
        {"answer": instant_text(start - 1)},
        measured | {"billable_ms": far + 1_501},
    ]
    if far >= 1_501:
        changes.append(measured | {"billable_ms": far - 1_501})
    return compact(record | rng.choice(changes))


CALL_POISON: list[Callable[[random.Random, Row], bytes]] = [
    broken_json, broken_json, not_an_object, repeated_key, wrong_size, bad_call_field, bad_call_field, bad_call_field,
    missing_call_field, bad_times, bad_times,
]  # fmt: skip


CONTACTS: list[Row] = [
    {"email": "finance@contoso.example"}, {"email": "Finance@Contoso.example"}, {"email": "o'neil+x@a-b.example"},
    {"email": "root@mailhost", "webhook": None}, {"webhook": "https://hooks.example/rater?x=1"},
    {"webhook": "http://[::1]:8080/a"}, {"webhook": "https://hooks.example", "note": "unknown"},
]  # fmt: skip
BAD_CONTACTS: list[Row] = [
    {"email": "a@b@c"}, {"email": "a b@c"}, {"email": "@c"}, {"email": "a@"}, {"email": "a@-c"}, {"email": "a@b..c"},
    {"email": "a@b.c\r\nBcc: x@y.z"}, {"email": "x" * 65 + "@c"}, {"email": "\u00e4@c"}, {"email": 5}, {"email": ""},
    {"email": "a@" + "b." * 130 + "c"}, {"email": "a@b", "webhook": "https://c"}, {"email": None, "webhook": None},
    {"email": None, "webhook": "ftp://x"}, {"email": None, "webhook": "https://u:p@x/"}, {"email": None, "webhook": "https://"},
    {"email": None, "webhook": "https://x/\u00e4"}, {"email": None, "webhook": "https://x/" + "y" * 2_000},
    {"language": "de"}, {"language": 1}, {"roles": "boss"}, {"roles": [""]}, {"roles": [1]}, {"roles": ["x" * 65]},
    {"roles": ["a\nb"]}, {"roles": ["a"] * 21}, {"events": []}, {"events": ["balance.zero"]}, {"events": "rater.balance.zero"},
    {"events": [None]}, {"roles": ["other settings"]}, {"language": None, "roles": None, "events": None},
]  # fmt: skip


def bad_command_field(rng: random.Random, record: Row) -> bytes:
    values: dict[str, list[Any]] = {
        "command_id": BAD_IDS,
        "tenant": BAD_TENANTS,
        "at": [*BAD_INSTANTS, 5],
        "by": [*BAD_TEXTS, 5],
        "type": [7, True, []],
        "country": ["gb", "GBR", "", "G1", 44, "\u0413\u0411"],
        "currency": ["usd", "US", "", "$", 1],
        "billing_mode": ["PREPAID", "", "post-usage", 1],
        "overage": [1, "true"],
        "user": [*BAD_TEXTS, 5],
        "plan": ["mcopstn1", "MCOPSTN3", "", "MCOPSTNPP", 1],
        "number": [*BAD_NUMBERS, 5],
        "number_type": ["tollfree", "", "TOLL_FREE", 2],
        "lot_id": BAD_IDS,
        "recharge_id": BAD_IDS,
        "expires_at": [*BAD_INSTANTS, 5],
        "enabled": [1, 0, "yes"],
        "contacts": [5, "a@b.c", {}, {"email": "a@b.c"}, [None], ["a@b.c"], [[]], [{}], [{"email": "a@b.c"}] * 51],
        "reason": [*BAD_TEXTS, 5],
        "call_id": [*BAD_TEXTS, "", "a\nb", "x" * 129, 5],
        "call_type": ["USER_OUT", "", "fax", 1],
        "caller": [*BAD_NUMBERS, 5],
        "callee": [*BAD_NUMBERS, 5],
        "seconds": [0, -1, 86_401, "60", True],
        "hold_seconds": [0, -1, 172_801, "60", False],
    }
    name = rng.choice([name for name in record if name not in undecided(record)])
    if name.endswith("_micros"):
        return swapped(record, name, rng.choice([text for text in BAD_INTEGERS if not text[-1].isdigit() or "." in text
                                                 or "e" in text.lower() or len(text) > 18]))  # fmt: skip
    if name not in values:
        return swapped(record, "at", '"never"')
    return compact({**record, name: rng.choice(values[name])})


def undecided(record: Row) -> set[str]:
    """What a removed number was for: the schema says that it is not needed, the contract names it."""
    return {"number_type", "country"} if record["type"] == "number.removed" else set()


def missing_command_field(rng: random.Random, record: Row) -> bytes:
    optional = {"expires_at", "recharge_id", "by", "reason", "note", *undecided(record)}
    if record["type"] == "licence.removed":
        optional.add("country")
    if record.get("billing_mode") == "prepaid":
        optional.add("overage")
    if record["type"] == "call.authorize":
        optional |= {"caller", "seconds", "hold_seconds"}
        if not record["call_type"].startswith(("user_", "conf_")):
            optional.add("user")
    name = rng.choice([key for key in record if key not in optional])
    if rng.random() < 0.4:
        return compact({**record, name: None})
    return compact({key: value for key, value in record.items() if key != name})


def unknown_command(rng: random.Random, record: Row) -> bytes:
    return compact({**record, "type": rng.choice(["tenant.closed", "", "Funds.added", "funds.added ", "pool.reset"])})


COMMAND_POISON: list[Callable[[random.Random, Row], bytes]] = [
    broken_json, not_an_object, repeated_key, wrong_size, bad_command_field, bad_command_field, missing_command_field,
    unknown_command,
]  # fmt: skip


# ---------------------------------------------------------------------------------------------- the writer

DURATIONS_MS = [
    1, 999, 1_000, 1_001, 5_000, 29_999, 30_000, 30_001, 36_001, 59_000, 59_001, 59_999, 60_000, 60_001, 61_000, 66_001,
    119_999, 120_000, 120_001, 150_000, 180_000, 241_000, 300_001,
]  # fmt: skip
UNKNOWN_FIELDS: list[Row] = [
    {"x": None},
    {"extra": {"deep": [1, {"er": "\u00e4\u20ac\U0001f600", "tenant": "nested"}], "f": 1.5}},
    {"note": 'quote " backslash \\ slash / tab \t'},
    {"billable_ms_raw": 154550.25, "V": True},
    {"caller ": "+1", "Tenant": "other"},
    {"": ""},
    {"tags": [], "map": {}, "n": -1},
    {"zwj": "a\u200db", "rtl": "\u202eabc", "ls": "\u2028"},
    {"formula": "=cmd|' /C calc'!A0", "path": "../../etc/passwd", "j": "${jndi:ldap://x/y}"},
    {"nul": "a\u0000b"},
    {"call": {"outcome": "charged", "charge_micros": 1}},
]
STARTS = ["2023-01-23T10:00:00Z", "2024-02-26T22:00:00Z", "2026-10-29T12:00:00Z", "2025-12-29T18:00:00Z",
          "2026-11-03T13:30:00Z", "2023-02-26T09:00:00Z", "2025-02-26T20:00:00Z"]  # fmt: skip


class Writer:
    """One scenario in the making; it owns the clock, the ids used and the twin that runs beside it."""

    def __init__(self, seed: int, doubtful: bool) -> None:
        self.rng = random.Random(seed)
        self.seed = seed
        self.doubtful = doubtful
        rng = self.rng
        self.now = instant_ms(STARTS[seed % len(STARTS)])
        hours = (rng.randint(8, 35), rng.randint(50, 120), rng.randint(150, 400))  # apart, so that no window is empty
        self.pivots = [self.now + hour * HOUR_MS for hour in hours]
        if seed % len(STARTS) == 0:
            self.pivots[0] = instant_ms("2023-01-25T00:00:00Z")
        self.deck = deck_files(rng, self.pivots)
        self.plans = plans_text(rng, dated=seed % len(STARTS) == 0)
        self.twin = Twin(self.deck, self.plans, guide_country)
        self.rounds: list[Round] = []
        self.commands: list[bytes] = []
        self.calls: list[bytes] = []
        self.command_count = self.call_count = self.ids = 0
        self.sent_calls: list[Row] = []
        self.sent_commands: list[Row] = []
        self.tenants: dict[str, Row] = {}

    def scenario(self) -> Scenario:
        rng = self.rng
        self.choose_tenants()
        for name, opening in self.tenants.items():
            if not opening["late"]:
                self.open_tenant(name)
        for _ in range(rng.randint(3, 6)):
            for _ in range(rng.randint(2, 9)):
                self.one_command()
            for _ in range(rng.randint(8, 30)):
                self.one_call()
            if rng.random() < 0.3:
                self.two_counters()
            if rng.random() < 0.3:
                self.window_edges()
            self.end_round()
            self.jump()
        if self.seed % 3 == 1:
            self.declined_cards()
        if self.seed % 7 == 3:
            self.last_instants()
        return Scenario(self.seed, self.deck, self.plans, self.rounds)

    # ---- plumbing

    def send_command(self, raw: bytes) -> None:
        self.commands.append(raw)
        self.twin.command(raw, self.command_count)
        self.command_count += 1

    def send_call(self, raw: bytes) -> None:
        self.calls.append(raw)
        self.twin.call(raw, self.call_count)
        self.call_count += 1

    def end_round(self) -> None:
        self.rounds.append(Round(self.commands, self.calls))
        self.commands, self.calls = [], []

    def new_id(self, kind: str) -> str:
        self.ids += 1
        shapes = [f"{kind}-{self.ids}", f"sw1:{kind}:{self.ids}:0", f'{kind} {self.ids} ~!"\\/', f"{kind}{self.ids}"]
        return self.rng.choice(shapes)

    def step(self) -> int:
        """Time goes on, from seconds to days; now and then it stands still."""
        rng = self.rng
        self.now += rng.choice([0, 1, 7_000, 45_000, 5 * MINUTE_MS, 5 * MINUTE_MS, HOUR_MS, 9 * HOUR_MS, DAY_MS])
        return self.now

    def jump(self) -> None:
        """Between rounds: to the edge of a month, of a pivot or of a lot, or far ahead."""
        rng = self.rng
        edges = [pivot for pivot in self.pivots if pivot > self.now]
        edges += [month_start_ms(self.now + 31 * DAY_MS)]
        for account in self.twin.accounts.values():
            edges += [lot["expires_ms"] for lot in account["lots"] if (lot["expires_ms"] or 0) > self.now]
            if account["recharge"]["ask_again_ms"] > self.now:
                edges.append(account["recharge"]["ask_again_ms"])
        near = 500 if rng.random() < 0.08 else 33
        edges = sorted(edge for edge in edges if edge < self.now + near * DAY_MS)
        if edges:
            edge = rng.choice(edges)
            self.now = edge - rng.choice([0, 1, 60_000, 3 * MINUTE_MS, HOUR_MS])

    # ---- tenants

    def choose_tenants(self) -> None:
        rng = self.rng
        shapes: list[Row] = [
            {"country": "US", "currency": "USD", "billing_mode": "prepaid"},
            {"country": rng.choice(["GB", "GB", "CA", "PR"]), "currency": "USD", "billing_mode": "prepaid"},
            {"country": "US", "currency": "USD", "billing_mode": "post_usage", "overage": True},
            {"country": "DE", "currency": "USD", "billing_mode": "post_usage", "overage": False},
            {"country": "DE", "currency": "EUR", "billing_mode": rng.choice(["prepaid", "prepaid"])},
        ]
        names = ["contoso", "Contoso", "a.b-c_D", "7", "x" * 64, "fabrikam", "tenant-2"]
        for name, shape in zip(rng.sample(names, 5), shapes, strict=True):
            users = [f"u-{letter}" for letter in "abcd"] + ["J\u00f6rg \u20ac", 'o\'neil/"q"\\'][: rng.randint(0, 2)]
            self.tenants[name] = {"opening": shape, "users": users, "late": shape["currency"] == "EUR"}

    def command_record(self, tenant: str, kind: str, **fields: object) -> Row:
        at = instant_text(self.step())
        if at.endswith(".000Z") and self.rng.random() < 0.5:
            at = at.replace(".000Z", "Z")
        record = {"command_id": self.new_id("c"), "tenant": tenant, "type": kind, "at": at, "by": "ops", **fields}
        if self.rng.random() < 0.1:
            record |= self.rng.choice(UNKNOWN_FIELDS)
        return record

    def give(self, tenant: str, kind: str, **fields: object) -> None:
        """Send a good command, in one of its spellings; sometimes again, sometimes poisoned first."""
        rng = self.rng
        record = self.command_record(tenant, kind, **fields)
        if rng.random() < 0.08:
            self.send_command(rng.choice(COMMAND_POISON)(rng, record))  # not remembered: the good one follows
        if rng.random() < 0.01:
            self.send_command(padded(record, 65_536))
        else:
            self.send_command(compact(record) if rng.random() < 0.6 else rewritten(rng, record))
        self.sent_commands.append(record)
        if rng.random() < 0.06:
            self.send_command(rewritten(rng, rng.choice(self.sent_commands)))
        if rng.random() < 0.04:
            other = rng.choice(self.sent_commands)
            self.send_command(compact({**other, "by": "someone else"}))

    def open_tenant(self, tenant: str) -> None:
        rng = self.rng
        self.give(tenant, "tenant.opened", **self.tenants[tenant]["opening"])
        prepaid = self.tenants[tenant]["opening"]["billing_mode"] == "prepaid"
        home = self.tenants[tenant]["opening"]["country"]
        for plan in rng.sample(["MCOPSTN1", "MCOPSTN2", "MCOPSTN8", "MCOMEETADD", "MCOPSTN9"], rng.randint(1, 3)):
            self.give(tenant, "licence.assigned", user="u-a", plan=plan, country=home)
        for _ in range(rng.randint(4, 9)):
            self.assign_licence(tenant)
        own = [(TOLL_FREE_US, "toll_free", "US"), (TOLL_FREE_GB, "toll_free", "GB"), (SERVICE_US, "service", "US")]
        for number, number_type, country in (*own, ("+12125550777", "user", "US")):
            if rng.random() < 0.6:
                self.give(tenant, "number.assigned", number=number, number_type=number_type, country=country)
        for _ in range(rng.randint(1, 3) if rng.random() < (0.8 if prepaid else 0.4) else 0):
            self.add_funds(tenant)
        if rng.random() < 0.6:
            self.configure_recharge(tenant)

    # ---- commands

    def one_command(self) -> None:
        rng = self.rng
        tenant = rng.choice(list(self.tenants))
        if tenant not in self.twin.accounts:
            if rng.random() < 0.5:
                self.open_tenant(tenant)
            else:
                self.assign_licence(tenant)  # unknown_tenant; the same bytes may come again once it is open
            return
        makers = [
            self.assign_licence, self.assign_licence, self.remove_licence, self.move_licence, self.change_number,
            self.add_funds, self.add_funds, self.add_funds, self.add_funds, self.answer_recharge, self.answer_recharge,
            self.answer_recharge, self.fail_recharge, self.fail_recharge, self.configure_recharge, self.adjust,
            self.adjust, self.tick, self.tick, self.tick, self.tick, self.set_contacts, self.resend_rejected, self.open_again,
            *[self.authorize] * 8,
        ]  # fmt: skip
        rng.choice(makers)(tenant)

    def assign_licence(self, tenant: str) -> None:
        rng = self.rng
        home = self.tenants[tenant]["opening"]["country"]
        plan = rng.choice(
            ["MCOPSTN1", "MCOPSTN1", "MCOPSTN2", "MCOPSTN2", "MCOPSTN5", "MCOPSTN6", "MCOPSTN8", "MCOPSTN9", "PAYG",
             "MCOPSTNC", "MCOPSTNC", "MCOMEETADD", "MCOMEETADD", "MCOMEETACPEA", "MCOMEETACPEA",
             "MCOMEETADD_DIALOUT_US"]
        )  # fmt: skip
        country = rng.choice([home, home, home, "US", "PR", "CA", "GB", "DE", "MX"])
        users = self.tenants[tenant]["users"]
        user = rng.choice(users[:2] if plan.startswith("MCOMEET") else users)
        self.give(tenant, "licence.assigned", user=user, plan=plan, country=country)

    def remove_licence(self, tenant: str) -> None:
        rng = self.rng
        held = sorted(self.twin.accounts[tenant]["licences"].items())
        if not held or rng.random() < 0.2:
            self.give(tenant, "licence.removed", user="u-nobody", plan="MCOPSTN1", country="US")
            return
        (user, plan), country = rng.choice(held)
        unsaid: Row = {"country": None} if self.doubtful else {}
        where: Row = rng.choice([{"country": country}, {}, unsaid, {"country": "FR"}])
        self.give(tenant, "licence.removed", user=user, plan=plan, **where)

    def move_licence(self, tenant: str) -> None:
        held = sorted(self.twin.accounts[tenant]["licences"].items())
        if held:
            (user, plan), country = self.rng.choice(held)
            target = self.rng.choice(["US", "PR", "CA", "GB", country])
            self.give(tenant, "licence.assigned", user=user, plan=plan, country=target)

    def change_number(self, tenant: str) -> None:
        """Only what no document leaves open: assign a new number, remove one that is there."""
        known = self.twin.accounts[tenant]["numbers"]
        if self.doubtful and self.rng.random() < 0.5:
            kind = self.rng.choice(["number.assigned", "number.removed"])
            self.give(tenant, kind, number=SERVICE_US, number_type=self.rng.choice(["service", "user"]), country="US")
        elif known and self.rng.random() < 0.5:
            number = self.rng.choice(sorted(known))
            number_type, country = known[number]
            self.give(tenant, "number.removed", number=number, number_type=number_type, country=country)
        elif SERVICE_DE not in known:
            self.give(tenant, "number.assigned", number=SERVICE_DE, number_type="service", country="DE")
        elif TOLL_FREE_GB not in known:
            self.give(tenant, "number.assigned", number=TOLL_FREE_GB, number_type="toll_free", country="GB")

    def add_funds(self, tenant: str, **recharge: object) -> None:
        """Lots at one instant, lots that end within the stream, lots dated back, ends of months and leap days."""
        rng = self.rng
        amounts = [1, 20_000, 150_000, 1_000_000, 2_500_000, 6_000_000, 9_000_000, 999_999]
        lot_id = rng.choice([f"lot-{self.ids}", f"LOT {self.ids}", f"a{self.ids}"])
        fields: Row = {"lot_id": lot_id, "amount_micros": rng.choice(amounts)}
        day = self.now - self.now % DAY_MS
        if rng.random() < 0.4:
            term = rng.choice([10 * DAY_MS, 2 * DAY_MS, 20 * HOUR_MS, 10 * DAY_MS + 1])
            fields["expires_at"] = instant_text(self.now + term)
        elif self.doubtful and rng.random() < 0.2:
            fields["expires_at"] = None
        lots = sorted(self.twin.accounts[tenant]["lot_ids"])
        if lots and rng.random() < 0.05:
            fields["lot_id"] = rng.choice(lots)  # conflict
        if rng.random() < 0.2:
            self.now += rng.choice([0, day + DAY_MS - 1 - self.now])  # the last millisecond of the day
        self.give(tenant, "funds.added", **fields, **recharge)
        record = self.sent_commands[-1]
        if rng.random() < 0.5 and record["type"] == "funds.added" and record["tenant"] == tenant:
            self.add_sibling(record)

    def add_sibling(self, record: Row) -> None:
        """A second lot: of the same instant (the id decides), or older and late (drawn first), or a year old."""
        rng = self.rng
        at = instant_ms(record["at"])
        other = {**record, "command_id": self.new_id("c"), "lot_id": f"Z{self.ids}"}
        other.pop("recharge_id", None)
        leap_day = instant_ms("2024-02-29T23:59:59.999Z")
        year_old = [at - 363 * DAY_MS, at - 365 * DAY_MS + 20 * HOUR_MS]
        if abs(at - 365 * DAY_MS - leap_day) < 9 * DAY_MS:
            year_old = [leap_day, leap_day - DAY_MS]  # both end on 28 February
        chance = rng.random() * (0.65 if leap_day in year_old else 1)
        if chance < 0.3:
            at -= 3 * HOUR_MS
        elif chance < 0.6:
            at = rng.choice(year_old)
            other.pop("expires_at", None)  # the default: twelve calendar months, the day clamped
        other["at"] = instant_text(at)
        self.send_command(compact(other))
        self.sent_commands.append(other)

    def answer_recharge(self, tenant: str) -> None:
        recharge = self.twin.accounts[tenant]["recharge"]
        right = recharge["in_flight"]
        if right is not None and self.rng.random() < 0.6:
            self.add_funds(tenant, recharge_id=right)
        elif self.rng.random() < 0.4:  # unknown, or closed long ago
            wrong = self.rng.choice([f"{tenant}:recharge:{recharge['requests']}", f"{tenant}:recharge:99", "r"])
            self.add_funds(tenant, recharge_id=wrong)

    def fail_recharge(self, tenant: str) -> None:
        recharge = self.twin.accounts[tenant]["recharge"]
        right = recharge["in_flight"]
        if right is not None and self.rng.random() < 0.85:
            self.give(tenant, "recharge.failed", recharge_id=right, reason="card declined")
        elif self.rng.random() < 0.5:
            self.give(tenant, "recharge.failed", recharge_id=f"{tenant}:recharge:77", reason="expired card")

    def configure_recharge(self, tenant: str) -> None:
        rng = self.rng
        settings = [(0, 1_000_000), (100_000, 50_000), (1_000_000, 1_000_000), (20_000_000, 5_000_000)]
        trigger, amount = rng.choice(settings)
        self.give(
            tenant, "recharge.configured", enabled=rng.random() < 0.85, trigger_micros=trigger, amount_micros=amount
        )

    def adjust(self, tenant: str) -> None:
        balance = self.twin.balance(tenant)["balance_micros"]
        amounts = [1, -1, 250_000, -250_000, -5_000_000, 3_000_000]
        if balance != 0:
            amounts += [-balance, -balance]  # exactly to zero
        recharge = self.twin.accounts[tenant]["recharge"]
        if balance != recharge["trigger_micros"]:
            amounts.append(recharge["trigger_micros"] - balance)  # exactly at the trigger: not below
        if self.rng.random() < 0.1:
            amounts = [0]
        self.give(tenant, "account.adjusted", amount_micros=self.rng.choice(amounts), reason="goodwill")

    def tick(self, tenant: str) -> None:
        """At the first instant that closes the month before, at the last that does not, or in order, or far back."""
        closing = month_start_ms(self.now) + 48 * HOUR_MS
        ends = [lot["expires_ms"] for lot in self.twin.accounts[tenant]["lots"] if lot["expires_ms"] is not None]
        warning = self.rng.choice(ends) - 30 * DAY_MS if ends else self.now
        at = self.rng.choice(
            [self.now, closing, closing, closing - 1, closing - 1, closing - 60 * DAY_MS, warning, warning - 1]
        )
        self.give(tenant, "clock.ticked", at=instant_text(at))

    def set_contacts(self, tenant: str) -> None:
        """Some good ones, repeats among them; else one of the ways to get a contact wrong."""
        rng = self.rng
        contacts = [dict(rng.choice(CONTACTS)) for _ in range(rng.choice([0, 1, 2, 3, 3, 50]))]
        for name in rng.sample(["language", "roles", "events"], rng.randint(0, 3)):
            for contact in contacts:  # alike for all, so that no address comes with two settings
                contact[name] = {"language": "fr", "roles": ["finance", "finance", "Tr\u00e9so"],
                                 "events": ["rater.balance.zero", "rater.lot.expiring", "rater.balance.zero"]}[name]  # fmt: skip
        if contacts and rng.random() < 0.4:
            contacts[rng.randrange(len(contacts))] |= rng.choice(BAD_CONTACTS)
        self.give(tenant, "contacts.set", contacts=contacts)

    def authorize(self, tenant: str) -> None:
        """A call to come, long or short; sometimes of an id that has a hold, or when a hold expires."""
        rng = self.rng
        call = self.call_record()
        fields: Row = {name: call[name] for name in ("call_type", "user", "caller", "callee") if name in call}
        holds = self.twin.accounts[tenant]["holds"]
        names = [f"call-{self.ids}", f'J\u00f6rg/"{self.ids}\\', f"{self.ids}@edge1"]
        fields["call_id"] = rng.choice(names) if not holds or rng.random() < 0.9 else rng.choice(list(holds))
        if rng.random() < 0.8:
            fields["seconds"] = rng.choice([1, 59, 60, 61, 600, 3_600, 40_000, 86_400])
        if rng.random() < 0.5:
            fields["hold_seconds"] = rng.choice([1, 3_600, 86_400, 172_800])
        if holds and rng.random() < 0.1:
            self.now = max(self.now, rng.choice(list(holds.values()))["expires_ms"] - rng.choice([0, 1]))
            fields["at"] = instant_text(self.now)
        self.give(tenant, "call.authorize", **fields)

    def resend_rejected(self, _tenant: str) -> None:
        """Bytes that were rejected once: their cause may be gone by now."""
        if self.twin.rejected_commands:
            self.send_command(base64.b64decode(self.rng.choice(self.twin.rejected_commands)["raw_b64"]))

    def open_again(self, tenant: str) -> None:
        if self.rng.random() < 0.3:
            self.give(tenant, "tenant.opened", **self.tenants[tenant]["opening"])

    # ---- calls

    def one_call(self) -> None:
        rng = self.rng
        chance = rng.random()
        if self.sent_calls and chance < 0.05:
            self.send_call(rewritten(rng, rng.choice(self.sent_calls)))
        elif self.sent_calls and chance < 0.07:
            self.send_call(compact(rng.choice(self.sent_calls)))
        elif self.sent_calls and chance < 0.10:
            self.send_call(compact(self.changed(rng.choice(self.sent_calls))))
        elif chance < 0.17:
            self.send_call(rng.choice(CALL_POISON)(rng, self.call_record()))
        elif chance < 0.19 and self.twin.rejected_cdrs:
            self.send_call(base64.b64decode(rng.choice(self.twin.rejected_cdrs)["raw_b64"]))
        elif chance < 0.20:
            record = self.call_record()
            poisoned = rng.choice(CALL_POISON)(rng, record)
            self.send_call(poisoned)
            self.good_call(record)  # the rejected one is not remembered
        elif chance < 0.21:
            self.send_call(padded(self.call_record(), 65_536))
        elif self.doubtful and chance < 0.24:
            self.send_call(self.doubtful_call())
        else:
            self.good_call(self.call_record())

    def good_call(self, record: Row) -> None:
        self.send_call(compact(record) if self.rng.random() < 0.6 else rewritten(self.rng, record))
        self.sent_calls.append(record)

    def changed(self, record: Row) -> Row:
        """The same id, other content."""
        changes: list[Row] = [
            {"switch": "other"},
            {"unknown": {"nested": self.rng.randint(1, 9)}},
            {"disposition": "failed" if record["disposition"] == "answered" else "answered"},
            {"callee": "+442079460777"},
        ]
        return record | self.rng.choice(changes)

    def call_start(self, tenant: str, talk_ms: int, ring_ms: int) -> int:
        """Mostly now; else at a pivot, at the edges of a month, in an earlier one, or so as to end at a wait's end."""
        rng = self.rng
        start = self.step()
        chance = rng.random()
        edges = [*self.pivots, month_start_ms(start), month_start_ms(start), month_start_ms(start + 31 * DAY_MS)]
        if chance < 0.2:
            near = [edge for edge in edges if abs(edge - start) < 20 * DAY_MS]
            start = rng.choice(near or edges) + rng.choice([0, -1, 1, -30_000])
        elif chance < 0.28:
            start -= rng.choice([20, 35, 62]) * DAY_MS
        elif chance < 0.32:
            start = month_start_ms(start) - rng.choice([0, 1, 31 * DAY_MS])
        account = self.twin.accounts.get(tenant)
        if account is not None and chance > 0.75:
            ends = [lot["expires_ms"] for lot in account["lots"] if lot["expires_ms"] is not None]
            if account["recharge"]["failures"] > 0:
                ends = [account["recharge"]["ask_again_ms"]] * 3 + ends
            ends = [end for end in ends if start - DAY_MS < end < start + 12 * DAY_MS]
            if ends:
                end = rng.choice(ends) + rng.choice([0, -1, 1])
                start = end - talk_ms - ring_ms
                self.now = max(self.now, end)
        return start

    def call_record(self) -> Row:
        rng = self.rng
        open_now = [name for name in self.tenants if name in self.twin.accounts]
        tenant = rng.choice(open_now if rng.random() < 0.95 else [*self.tenants, "nobody-opened"])
        users = [*self.tenants[tenant]["users"], "u-a", "u-a"] if tenant in self.tenants else ["u-a"]
        kind = rng.choice(
            ["user_out"] * 12 + ["user_out_conf", "user_out_transfer", "user_out_forwarding", "user_in"]
            + ["conf_out"] * 5 + ["conf_in"] * 4 + ["ucap_out"] * 2 + ["ucap_in"] * 2 + ["unassigned_in"]
            + ["emergency", "dr_in", "dr_out", "dr_out_user_conf", "dr_emergency_out", "dr_in_bot"][: rng.randint(1, 6)]
        )  # fmt: skip
        talk_ms = rng.choice(DURATIONS_MS) if rng.random() < 0.85 else rng.randint(1, 900_000)
        if rng.random() < (0.03 if self.seed % len(STARTS) == 0 else 0.002):  # a real allotment takes long calls
            talk_ms = rng.choice([86_400_000, 71_400_000])
        ring_ms = rng.choice([0, 1, 3_000, 12_500])
        start = self.call_start(tenant, talk_ms, ring_ms)
        answer = start + ring_ms
        apart = rng.choice([0, 0, 0, 0, 40, -40, 1_500, -1_500])
        end = max(answer, answer + talk_ms + apart)
        record: Row = {
            "record_id": self.new_id("r"),
            "tenant": tenant,
            "call_type": kind,
            "user": rng.choice(users),
            "caller": self.caller(),
            "callee": self.callee(kind, tenant),
            "start": self.spelled(start),
            "answer": self.spelled(answer),
            "end": self.spelled(end),
            "billable_ms": talk_ms,
            "disposition": "answered",
        }
        if not kind.startswith(("user_", "conf_")) and rng.random() < 0.5:
            record["user"] = None
            if rng.random() < 0.5:
                del record["user"]
        self.unconnect(record)
        holds = self.twin.accounts[tenant]["holds"] if tenant in self.twin.accounts else {}
        if holds and rng.random() < 0.5:
            record["call_id"] = rng.choice(list(holds))
        if rng.random() < 0.4:
            record |= {"source": "freeswitch", "switch": "sw1"}
        if rng.random() < 0.1:
            record |= {"conference_id": "conf \u00fc", "call_id": None, "forwarded_by": "u-b"}
        if rng.random() < 0.15:
            record |= rng.choice(UNKNOWN_FIELDS)
        return record

    def unconnect(self, record: Row) -> None:
        """One call in ten was not connected, in each of the ways there are."""
        way = self.rng.random()
        if way < 0.03:
            record |= {"answer": None, "disposition": self.rng.choice(["no_answer", "busy", "cancelled", "failed"])}
            record["billable_ms"] = self.rng.choice([0, 0, 60_000])
        elif way < 0.05:
            record |= {"answer": None}
        elif way < 0.07:
            record["disposition"] = self.rng.choice(["no_answer", "congestion", "unknown"])
        elif way < 0.09:
            record |= {"answer": record["end"], "billable_ms": 0}

    def spelled(self, ms: int) -> str:
        """One instant in several spellings; digits beyond the third are cut off."""
        text = instant_text(ms)
        if text.endswith(".000Z") and self.rng.random() < 0.5:
            return text[:-5] + "Z"
        if text.endswith("00Z") and self.rng.random() < 0.3:
            return text[:-3] + "Z"
        return text[:-1] + self.rng.choice(["", "", "", "", "0", "999", "000001", "999999"]) + "Z"

    def caller(self) -> str | None:
        rng = self.rng
        if rng.random() < 0.1:
            return None
        if rng.random() < 0.05:
            return rng.choice(UNASSIGNED_NUMBERS)
        return rng.choice(NUMBERS[rng.choice(["US", "CA", "PR", "GB", "DE", "MX", "JP"])])

    def callee(self, kind: str, tenant: str) -> str:
        rng = self.rng
        if kind.endswith(("_in", "_in_bot")):
            own = [TOLL_FREE_US, TOLL_FREE_US, TOLL_FREE_GB, SERVICE_US, SERVICE_DE, "+12125550777", "+4930999999"]
            return rng.choice(own)
        if kind == "emergency" or rng.random() < 0.03:
            return rng.choice(["+112", "+911", "+112", "+911", "+9112", "+1123", "+999", "+110"])
        if rng.random() < 0.06:
            return PREMIUM_NUMBER
        if rng.random() < 0.08:
            return rng.choice([*UNASSIGNED_NUMBERS, TOLL_FREE_US])
        if kind == "conf_out" and rng.random() < 0.3:
            return rng.choice(NUMBERS[rng.choice(["US", "CA", "PR"])])
        if tenant in self.tenants and rng.random() < 0.45:
            return rng.choice(NUMBERS[self.tenants[tenant]["opening"]["country"]])
        country = rng.choice(["US", "US", "US", "GB", "GB", "GB", "CA", "PR", "DE", "MX", "FR", "JP", "BR", "NG"])
        return rng.choice(NUMBERS[country])

    def last_instants(self) -> None:
        """The last year there is: every lot is gone, and what comes back from it stays gone."""
        tenants = [name for name in self.tenants if name in self.twin.accounts]
        for tenant in tenants:
            one = {"tenant": tenant, "user": "u-a", "disposition": "answered", "billable_ms": 60_000}
            last = {"start": "9999-12-31T23:58:59.999Z", "answer": "9999-12-31T23:58:59.999Z"}
            first = {"start": "0001-01-01T00:00:00Z", "answer": "0001-01-01T00:00:00Z"}
            self.send_call(compact(self.call_record() | one | last | {"end": "9999-12-31T23:59:59.999Z"}))
            self.send_call(compact(self.call_record() | one | first | {"end": "0001-01-01T00:01:00Z"}))
            self.good_call(self.call_record() | {"tenant": tenant, "user": "u-a"})
        self.end_round()

    def declined_cards(self) -> None:
        """One tenant's recharge declined again and again, with paid calls that end just before and at each wait's end.

        Two rounds for each failure: a call raises the request, a command declines it.
        """
        rng = self.rng
        tenant = next(iter(self.tenants))
        self.give(tenant, "recharge.configured", enabled=True, trigger_micros=60_000_000, amount_micros=1_000_000)
        recharge = self.twin.accounts[tenant]["recharge"]
        for _ in range(rng.randint(3, 10)):
            if recharge["in_flight"] is None:  # should not be, after the call at the end of the wait
                break
            self.give(tenant, "recharge.failed", recharge_id=recharge["in_flight"], reason="declined")
            if rng.random() < 0.3:
                self.give(tenant, "account.adjusted", amount_micros=-1, reason="must not ask")
            if rng.random() < 0.15:
                self.add_funds(tenant)  # money without a recharge: the wait stays
            if rng.random() < 0.12:  # a new configuration clears the wait and asks at once
                fields = {"enabled": True, "trigger_micros": 70_000_000, "amount_micros": 1}
                self.give(tenant, "recharge.configured", **fields)
            end = recharge["ask_again_ms"]
            if recharge["failures"] == 0:
                continue
            for ends_at in (end - 1, end, end + 1):
                self.good_call(self.premium_call(tenant, ends_at))
                if rng.random() < 0.2:
                    self.good_call(self.premium_call(tenant, ends_at) | {"answer": None})
            self.now = max(self.now, end)
            self.end_round()

    def two_counters(self) -> None:
        """Both counters of MCOPSTN2 brought to their caps in turns, by a user who holds nothing else."""
        rng = self.rng
        tenant = rng.choice(sorted(self.twin.accounts))
        home = rng.choice(["US", "GB", "DE"])
        self.give(tenant, "licence.assigned", user="u-two", plan="MCOPSTN2", country=home)
        abroad = "FR" if rng.random() < 0.5 else "MX"
        for _ in range(rng.randint(4, 9)):
            talk_ms = rng.choice([60_000, 60_001, 119_999, 180_000])
            callee = rng.choice(NUMBERS[rng.choice([home, abroad])])
            self.good_call(self.plain_call(tenant, "u-two", callee, self.step(), talk_ms))

    def window_edges(self) -> None:
        """Calls that start at the first instant of a deck row, the last before it, and one after."""
        rng = self.rng
        tenant = rng.choice(sorted(self.twin.accounts))
        numbers = [number for several in NUMBERS.values() for number in several]
        edges = []
        for number in numbers:
            for length in range(1, 12):
                for row in self.twin.deck.rows.get(number[1 : 1 + length], []):
                    edges += [(edge, number) for edge in (row["valid_from"], row["valid_to"]) if edge is not None]
        for edge, number in rng.sample(edges, min(3, len(edges))):
            for start in (edge - 1, edge):
                self.good_call(self.plain_call(tenant, "u-no-plan", number, start, 90_000))

    def plain_call(self, tenant: str, user: str, callee: str, start: int, talk_ms: int) -> Row:
        record = self.call_record() | {"tenant": tenant, "call_type": "user_out", "user": user, "callee": callee}
        record |= {"start": instant_text(start), "answer": instant_text(start), "end": instant_text(start + talk_ms)}
        return record | {"billable_ms": talk_ms, "disposition": "answered"}

    def premium_call(self, tenant: str, end: int) -> Row:
        """A call that always costs: its deck row is in every stream, and no pool pays it."""
        return self.plain_call(tenant, "u-a", PREMIUM_NUMBER, end - 60_001, 60_001)

    # ---- doubts

    def doubtful_call(self) -> bytes:
        """Where the documents leave a doubt; the twin's reading is in its comments."""
        rng = self.rng
        record = self.call_record()
        quiet = {**record, "answer": None}
        return rng.choice(
            [
                swapped(quiet, "billable_ms", "-0"),
                swapped(record, "billable_ms", "1e400"),
                swapped(record, "billable_ms", "9" * 5_000),
                compact(record)[:-1] + b',"x":{"a":1,"a":1}}',
                compact(record)[:-1] + b',"x":1e400}',
                compact({**record, "switch": "a\u0085b"}),
                compact({**record, "switch": "a\u2028b"}),
                compact(record)[:-1] + b',"x":' + b"[" * 200 + b"]" * 200 + b"}",
            ]
        )
