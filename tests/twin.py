"""The slow twin: the rule book a second time, one record at a time, to be read beside it.

It shares no line with the product. Money is a `Fraction` until the one rounding, time is whole UTC
milliseconds, state is plain dicts and lists. Nothing here is fast, clever or configurable.

"c." in a comment is a section of the contract, "d." a number of docs/decisions.md. Where both leave a doubt the
comment says "reading:" and names the choice.
"""

import ast
import base64
import bisect
import copy
import csv
import io
import json
import math
import re
import tomllib
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

Row = dict[str, Any]
CountryOf = Callable[[str], str | None]
IsEmergency = Callable[[str | None, str], bool]

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
LARGEST_RECORD_BYTES = 65_536
LARGEST_AMOUNT_MICROS = 10**15
DEEPEST_NESTING = 500

USER_OUT = ("user_out", "user_out_conf", "user_out_transfer", "user_out_forwarding")
PLAIN_TYPES = (*USER_OUT, "user_in", "conf_out", "conf_in", "ucap_out", "ucap_in", "unassigned_in", "emergency")
DIRECT_ROUTING_TYPES = (
    "dr_in", "dr_out", "dr_out_user_conf", "dr_out_user_forwarding", "dr_out_user_transfer", "dr_emergency_out",
    "dr_unassigned_in", "dr_in_bot", "dr_in_ucap", "dr_out_bot", "dr_out_ucap",
)  # fmt: skip
CALL_TYPES = PLAIN_TYPES + DIRECT_ROUTING_TYPES
DISPOSITIONS = ("answered", "no_answer", "busy", "cancelled", "congestion", "failed", "unknown")
CALL_FIELDS = (
    "record_id", "tenant", "call_type", "user", "caller", "callee", "start", "answer", "end", "billable_ms",
    "disposition", "source", "switch", "call_id", "conference_id", "forwarded_by",
)  # fmt: skip

CALLING_PLANS = ("MCOPSTN1", "MCOPSTN2", "MCOPSTN5", "MCOPSTN6", "MCOPSTN8", "MCOPSTN9")
LICENCES = (*CALLING_PLANS, "PAYG", "MCOPSTNC", "MCOMEETADD", "MCOMEETACPEA", "MCOMEETADD_DIALOUT_US")
NUMBER_TYPES = ("user", "service", "toll_free")
COMMAND_FIELDS = {
    "tenant.opened": ("country", "currency", "billing_mode", "overage"),
    "licence.assigned": ("user", "plan", "country"),
    "licence.removed": ("user", "plan", "country"),
    "number.assigned": ("number", "number_type", "country"),
    "number.removed": ("number", "number_type", "country"),
    "funds.added": ("lot_id", "amount_micros", "expires_at", "recharge_id"),
    "recharge.configured": ("enabled", "trigger_micros", "amount_micros"),
    "recharge.failed": ("recharge_id", "reason"),
    "account.adjusted": ("amount_micros", "reason"),
    "clock.ticked": (),
    "call.authorize": ("call_id", "call_type", "user", "caller", "callee", "seconds", "hold_seconds"),
    "contacts.set": ("contacts",),
}
EVENT_TYPES = (
    "rater.pool.reached", "rater.recharge.requested", "rater.recharge.succeeded", "rater.recharge.failed",
    "rater.balance.zero", "rater.service.blocked", "rater.service.restored", "rater.lot.expired", "rater.rate.missing",
    "rater.contacts.set", "rater.lot.expiring", "rater.month.closed",
)  # that a contact may ask for: answers to a switch are none of them (d.39)  # fmt: skip
CREDIT_CALL_TYPES = [*USER_OUT, "conf_out", "conf_in", "ucap_out", "ucap_in", "unassigned_in"]
ZONE_A_COUNTRIES = """
    AU AT BE BR BG CA CN HR CZ DK EE FI FR DE GR HK HU IN IE IT JP LU MY MX NL NZ NO PL PT PR RO RU SG SK SI ZA KR ES
    SE CH TW TH GB US
"""
ZONE_A = set(ZONE_A_COUNTRIES.split())
ZONE_A_MINUTES = 60


class Refused(Exception):
    """A record that cannot be applied: a reason of the contract's enum and a detail for people."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


# ---------------------------------------------------------------------------------------------- reading JSON


class NotAnInteger(str):
    """A JSON number with a point or an exponent, kept as its text: no float is ever made of it."""


class HugeInteger(str):
    """A JSON integer too long to be anything here, kept as its text."""


def read_object(raw: bytes) -> Row:
    """The record as a dict, or `Refused`. Order of the checks: size, JSON, object, duplicate keys (d.5)."""
    if len(raw) > LARGEST_RECORD_BYTES:
        raise Refused("too_large", f"{len(raw)} bytes")
    try:
        text = raw.decode("utf-8", "strict")
    except UnicodeDecodeError as wrong:
        raise Refused("not_json", "bytes that are not UTF-8") from wrong
    if text.startswith("\ufeff"):
        raise Refused("not_json", "a byte order mark")
    if nesting(text) > DEEPEST_NESTING:
        raise Refused("not_json", "nested too deeply")
    repeated: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> Row:
        # reading: a key twice in a nested object is a fault like one at the top.
        result: Row = {}
        for key, value in items:
            if key in result:
                repeated.append(key)
            result[key] = value
        return result

    def constant(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    try:
        value = json.loads(
            text,
            object_pairs_hook=pairs,
            parse_float=NotAnInteger,
            parse_int=lambda digits: int(digits) if len(digits) < 40 else HugeInteger(digits),
            parse_constant=constant,
        )
    except (ValueError, RecursionError) as wrong:
        raise Refused("not_json", str(wrong)) from wrong
    if has_lone_surrogate(value):
        raise Refused("not_json", "half of a surrogate pair")
    if not isinstance(value, dict):
        raise Refused("not_an_object")
    if repeated:
        raise Refused("duplicate_key", repeated[0])
    return value


def nesting(text: str) -> int:
    """How deep the brackets outside strings go; an unbalanced text is measured all the same."""
    deepest = depth = 0
    for piece in re.findall(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', text, re.DOTALL):
        if piece in ("[", "{"):
            depth += 1
            deepest = max(deepest, depth)
        elif piece in ("]", "}"):
            depth -= 1
    return deepest


def has_lone_surrogate(value: object) -> bool:
    if isinstance(value, str):
        return any(0xD800 <= ord(letter) <= 0xDFFF for letter in value)
    if isinstance(value, dict):
        return any(has_lone_surrogate(key) or has_lone_surrogate(inner) for key, inner in value.items())
    if isinstance(value, list):
        return any(has_lone_surrogate(inner) for inner in value)
    return False


def content(value: object) -> object:
    """What "the same content" compares (d.3): keys sorted, kinds kept apart so that 1, true and 1.0 differ."""
    if isinstance(value, dict):
        return ("object", tuple(sorted((key, content(inner)) for key, inner in value.items())))
    if isinstance(value, list):
        return ("array", tuple(content(inner) for inner in value))
    # reading: numbers of one kind are compared as they are spelled; 1.0 and 1.00 are two contents.
    return (type(value).__name__, value if value is None else str(value))


# ---------------------------------------------------------------------------------------------- instants

EPOCH = date(1970, 1, 1)
INSTANT = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?Z", re.ASCII)


def instant_ms(text: str) -> int:
    """UTC milliseconds of `YYYY-MM-DDTHH:MM:SS[.digits]Z`; decimals beyond three are cut off (d.2)."""
    match = INSTANT.fullmatch(text)
    if match is None:
        raise ValueError("not an instant")
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError("no such time of day")
    days = (date(year, month, day) - EPOCH).days
    thousandths = int(((match.group(7) or "") + "000")[:3])
    return days * DAY_MS + hour * HOUR_MS + minute * MINUTE_MS + second * 1000 + thousandths


def instant_text(ms: int) -> str:
    """reading: every instant the engine writes carries exactly three decimals."""
    days, of_day = divmod(ms, DAY_MS)
    day = EPOCH + timedelta(days=days)
    hours, of_hour = divmod(of_day, HOUR_MS)
    minutes, of_minute = divmod(of_hour, MINUTE_MS)
    seconds, thousandths = divmod(of_minute, 1000)
    return f"{day.isoformat()}T{hours:02}:{minutes:02}:{seconds:02}.{thousandths:03}Z"


def day_of(ms: int) -> date:
    return EPOCH + timedelta(days=ms // DAY_MS)


def month_of(ms: int) -> str:
    return day_of(ms).isoformat()[:7]


def month_start_ms(ms: int) -> int:
    return (day_of(ms).replace(day=1) - EPOCH).days * DAY_MS


def twelve_months_later(ms: int) -> int:
    """The same time of day one calendar year on, the day clamped: 29 February becomes 28 February."""
    day = day_of(ms)
    if day.year == 9999:
        raise Refused("out_of_range", "expires after the year 9999")
    clamped = 28 if (day.month, day.day) == (2, 29) else day.day
    return (date(day.year + 1, day.month, clamped) - EPOCH).days * DAY_MS + ms % DAY_MS


def deck_instant_ms(cell: str) -> int | None:
    """A validity cell: empty, a day (its first instant, UTC) or a whole instant."""
    if cell == "":
        return None
    return instant_ms(cell if "T" in cell else cell + "T00:00:00Z")


def in_force(valid_from: int | None, valid_to: int | None, at: int) -> bool:
    return (valid_from is None or valid_from <= at) and (valid_to is None or at < valid_to)


# ---------------------------------------------------------------------------------------------- fields


def is_integer(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_text(value: object) -> bool:
    """1-128 UTF-8 bytes without control characters (d.4); C0 and DEL are control characters."""
    if not isinstance(value, str) or isinstance(value, NotAnInteger | HugeInteger):
        return False
    if any(ord(letter) < 0x20 or ord(letter) == 0x7F for letter in value):
        return False
    return 1 <= len(value.encode()) <= 128


def is_any_text(value: object) -> bool:
    """Text that no rule uses may be anything (d.4)."""
    return isinstance(value, str) and not isinstance(value, NotAnInteger | HugeInteger)


def matches(pattern: str) -> Callable[[object], bool]:
    def check(value: object) -> bool:
        if not isinstance(value, str) or isinstance(value, NotAnInteger | HugeInteger):
            return False
        return re.fullmatch(pattern, value, re.ASCII) is not None

    return check


def one_of(*words: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and value in words


def is_instant(value: object) -> bool:
    try:
        instant_ms(value if isinstance(value, str) else "")
    except ValueError:
        return False
    return True


is_id = matches("[ -~]{1,128}")
is_tenant = matches("[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
is_number = matches("[+][0-9]{3,15}")
is_country = matches("[A-Z]{2}")

FIELD_RULES: dict[str, Callable[[object], bool]] = {
    "record_id": is_id,
    "command_id": is_id,
    "lot_id": is_id,
    "recharge_id": is_id,
    "tenant": is_tenant,
    "call_type": one_of(*CALL_TYPES),
    "user": is_text,
    "caller": is_number,
    "callee": is_number,
    "number": is_number,
    "start": is_instant,
    "answer": is_instant,
    "end": is_instant,
    "at": is_instant,
    "expires_at": is_instant,
    "billable_ms": lambda value: is_integer(value, 0, 86_400_000),
    "disposition": one_of(*DISPOSITIONS),
    "source": is_any_text,
    "switch": is_any_text,
    "call_id": is_any_text,
    "conference_id": is_any_text,
    "forwarded_by": is_any_text,
    "by": is_any_text,
    "reason": is_any_text,
    "country": is_country,
    "currency": matches("[A-Z]{3}"),
    "billing_mode": one_of("prepaid", "post_usage"),
    "overage": lambda value: isinstance(value, bool),
    "enabled": lambda value: isinstance(value, bool),
    "plan": one_of(*LICENCES),
    "number_type": one_of(*NUMBER_TYPES),
}


def is_contact(value: object) -> bool:
    """One address, and what may stand beside it (d.34)."""
    if not isinstance(value, dict):
        return False
    email, webhook = value.get("email"), value.get("webhook")
    if (email is None) == (webhook is None):
        return False
    good_address = is_email(email) if email is not None else is_webhook(webhook)
    language, roles, events = value.get("language"), value.get("roles"), value.get("events")
    good_language = language is None or (is_any_text(language) and language in ("en", "fr"))
    good_roles = roles is None or (
        isinstance(roles, list) and len(roles) <= 20 and all(is_role(role) for role in roles)
    )
    good_events = events is None or (isinstance(events, list) and events != [] and all(map(is_event_type, events)))
    return good_address and good_language and good_roles and good_events


def is_email(value: object) -> bool:
    """As a browser's e-mail field has it, 254 characters at most."""
    if not is_any_text(value) or not isinstance(value, str) or len(value) > 254 or value.count("@") != 1:
        return False
    local, domain = value.split("@")
    allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    if not 1 <= len(local) <= 64 or any(letter not in allowed + ".!#$%&'*+/=?^_`{|}~-" for letter in local):
        return False
    labels = domain.split(".")
    return all(
        1 <= len(label) <= 63 and label[0] != "-" != label[-1] and all(letter in allowed + "-" for letter in label)
        for label in labels
    )


def is_webhook(value: object) -> bool:
    if not is_any_text(value) or not isinstance(value, str) or not 8 <= len(value) <= 2_000:
        return False
    if any(not "!" <= letter <= "~" for letter in value):
        return False
    rest = value.removeprefix("https://") if value.startswith("https://") else value.removeprefix("http://")
    if rest == value:
        return False
    place = re.split(r"[/?]", rest, maxsplit=1)[0]
    named = re.fullmatch(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?", place)
    numbered = re.fullmatch(r"\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?", place)
    return named is not None or numbered is not None


def is_role(value: object) -> bool:
    return is_any_text(value) and isinstance(value, str) and 1 <= len(value) <= 64 and not has_control_character(value)


def has_control_character(text: str) -> bool:
    return any(ord(letter) < 0x20 or ord(letter) == 0x7F for letter in text)


def is_event_type(value: object) -> bool:
    return is_any_text(value) and value in EVENT_TYPES


def contact_with_defaults(given: Row) -> Row:
    kind = "email" if given.get("email") is not None else "webhook"
    events = given.get("events")
    return {
        kind: given[kind],
        "language": given.get("language") or "en",
        "roles": without_repeats(given.get("roles") or []),
        "events": None if events is None else without_repeats(events),
    }


def without_repeats(values: list[str]) -> list[str]:
    return [value for k, value in enumerate(values) if value not in values[:k]]


def contacts_told(given: list[Row]) -> list[Row] | None:
    """Each address once, with its defaults; None where one address comes with two settings (d.34)."""
    told: list[Row] = []
    for contact in map(contact_with_defaults, given):
        address = contact["email"].lower() if "email" in contact else contact["webhook"]
        same = [other for other in told if address in (other.get("email", "").lower(), other.get("webhook"))]
        settings = [[one["language"], one["roles"], one["events"]] for one in (contact, *same)]
        if same and settings[0] != settings[1]:
            return None
        if not same:
            told.append(contact)
    return told


def are_contacts(value: object) -> bool:
    if not isinstance(value, list) or len(value) > 50 or not all(is_contact(contact) for contact in value):
        return False
    return contacts_told(value) is not None


FIELD_RULES["contacts"] = are_contacts


def check_field(record: Row, name: str, *, required: bool, null_allowed: bool = False) -> None:
    """`missing_field` or `bad_field`. A required field that is null counts as absent, but for the two that may be."""
    if name not in record or (record[name] is None and required and not null_allowed):
        if required:
            raise Refused("missing_field", name)
        return
    if record[name] is not None and not FIELD_RULES[name](record[name]):
        raise Refused("bad_field", name)


def check_call(record: Row) -> None:
    """Every field of a call record, in the order of the contract's example; then the times."""
    for name in CALL_FIELDS:
        if name == "user":
            required = record["call_type"].startswith(("user_", "conf_"))
        else:
            required = name not in ("source", "switch", "call_id", "conference_id", "forwarded_by")
        check_field(record, name, required=required, null_allowed=name in ("caller", "answer"))
    start, end = instant_ms(record["start"]), instant_ms(record["end"])
    if start > end:
        raise Refused("bad_times", "start after end")
    if record["answer"] is not None:
        answer = instant_ms(record["answer"])
        if start > answer or answer > end:
            raise Refused("bad_times", "answer outside start and end")
        if abs(record["billable_ms"] - (end - answer)) > 1_500:
            raise Refused("bad_times", "billable_ms is not the time between answer and end")


def check_command(record: Row) -> None:
    """The type, which says what else must be there; the common fields, then those of the type in the order of its row (d.5)."""
    kind = record.get("type")
    if kind is None:
        raise Refused("missing_field", "type")
    if not isinstance(kind, str) or isinstance(kind, NotAnInteger | HugeInteger):
        raise Refused("bad_field", "type")
    if kind not in COMMAND_FIELDS:
        raise Refused("unknown_command", kind)
    for name in ("command_id", "tenant", "at"):
        check_field(record, name, required=True)
    check_field(record, "by", required=False)
    if kind == "call.authorize":
        check_question(record)
        return
    for name in COMMAND_FIELDS[kind]:
        if name.endswith("_micros"):
            check_amount(record, kind, name)
            continue
        optional = (kind, name) in (
            ("licence.removed", "country"),
            ("funds.added", "expires_at"),
            ("funds.added", "recharge_id"),
        ) or name == "overage"
        check_field(record, name, required=not optional)
        if (
            name == "expires_at"
            and record.get(name) is not None
            and instant_ms(record[name]) <= instant_ms(record["at"])
        ):
            raise Refused("bad_field", name)  # reading: `bad_field`, not `bad_times`


def check_question(record: Row) -> None:
    """d.39: a call as its record will tell it, and two lengths of time."""
    call_id = record.get("call_id")
    if call_id is None:
        raise Refused("missing_field", "call_id")
    if not is_text(call_id):
        raise Refused("bad_field", "call_id")
    check_field(record, "call_type", required=True)
    check_field(record, "user", required=record["call_type"].startswith(("user_", "conf_")))
    check_field(record, "caller", required=False)
    check_field(record, "callee", required=True)
    for name, most in (("seconds", 86_400), ("hold_seconds", 172_800)):
        if record.get(name) is not None and not is_integer(record[name], 1, most):
            raise Refused("bad_field", name)


def check_key(record: Row, key: bytes | None) -> None:
    """A record key, when present, must equal the tenant; a line of a file has none."""
    if key is not None and key != record["tenant"].encode():
        raise Refused("key_mismatch", "the record key is not the tenant")


def check_amount(record: Row, kind: str, name: str) -> None:
    """Ranges of amounts. Given: funds 1 to 10^15, adjustment not 0 (d.12, d.13). reading: the rest, by likeness."""
    if record.get(name) is None:
        raise Refused("missing_field", name)
    amount = record[name]
    least = {"account.adjusted": -LARGEST_AMOUNT_MICROS, "recharge.configured": 0}.get(kind, 1)
    if kind == "recharge.configured" and name == "amount_micros" and record["enabled"]:
        least = 1
    if not is_integer(amount, least, LARGEST_AMOUNT_MICROS) or (kind == "account.adjusted" and amount == 0):
        raise Refused("bad_field", name)


# ---------------------------------------------------------------------------------------------- rates and plans


class Deck:
    """The canonical deck files (c.6). Rates stay exact: nano-units and micro-units are whole, or the deck is wrong."""

    def __init__(self, files: Mapping[str, str]) -> None:
        head = tomllib.loads(files["deck.toml"])
        self.name: str = head["name"]
        self.currency: str = head["currency"]
        self.initial_s: int = head.get("initial_s", 60)
        self.step_s: int = head.get("step_s", 60)
        self.rows: dict[str, list[Row]] = {}
        for line in csv.DictReader(io.StringIO(files["outbound.csv"])):
            cell = {name: (value or "").strip() for name, value in line.items()}
            row: Row = {
                "prefix": cell["prefix"],
                "destination": cell.get("destination") or None,
                "country": cell.get("country") or None,
                "class": cell.get("class") or "geographic",
                "rate_nanos": scaled(cell["rate_per_minute"], 9),
                "fee_micros": scaled(cell.get("connection_fee", ""), 6),
                "minimum_micros": scaled(cell.get("minimum_charge", ""), 6),
                "initial_s": int(cell.get("initial_s") or self.initial_s),
                "step_s": int(cell.get("step_s") or self.step_s),
                "valid_from": deck_instant_ms(cell.get("valid_from", "")),
                "valid_to": deck_instant_ms(cell.get("valid_to", "")),
            }
            self.rows.setdefault(row["prefix"], []).append(row)
        self.inbound: dict[tuple[str, str, str], Row] = {}
        for cell in csv.DictReader(io.StringIO(files.get("inbound.csv", ""))):
            self.inbound[cell["number_country"], cell["number_type"], cell["origin_country"]] = {
                "prefix": None,
                "destination": None,
                "country": None,
                "rate_nanos": scaled(cell["rate_per_minute"], 9),
                "fee_micros": scaled(cell.get("connection_fee") or "", 6),
                "minimum_micros": 0,
                "initial_s": self.initial_s,
                "step_s": self.step_s,
            }

    @classmethod
    def from_folder(cls, folder: Path) -> "Deck":
        names = ("deck.toml", "outbound.csv", "inbound.csv")
        return cls({name: (folder / name).read_text("utf-8") for name in names if (folder / name).exists()})

    def outbound_row(self, digits: str, start_ms: int) -> Row | None:
        """The longest prefix among the rows in force at `start` (d.24); of two rows alike, the first."""
        for length in range(len(digits), 0, -1):
            for row in self.rows.get(digits[:length], []):
                if in_force(row["valid_from"], row["valid_to"], start_ms):
                    return row
        return None

    def inbound_row(self, number_country: str | None, number_type: str, origin: str | None) -> Row | None:
        """The row of the caller's country, else `*` (c.3)."""
        exact = self.inbound.get((number_country or "", number_type, origin)) if origin else None
        return exact or self.inbound.get((number_country or "", number_type, "*"))


def scaled(cell: str, decimals: int) -> int:
    value = Fraction(Decimal(cell or "0")) * 10**decimals
    if value.denominator != 1:
        raise ValueError(f"{cell} is finer than {decimals} decimals")
    return int(value)


class Plans:
    """plan x country -> minutes of a scope, by the row in force at the call's start."""

    def __init__(self, text: str) -> None:
        self.rows = list(csv.DictReader(io.StringIO(text)))

    def allotment(self, plan: str, country: str, scope: str, start_ms: int) -> int:
        best_from, best = None, 0
        for row in self.rows:
            since = deck_instant_ms(row["valid_from"] or "")
            if (row["plan"], row["country"]) != (plan, country) or not in_force(since, None, start_ms):
                continue
            if best_from is None or (since is not None and since >= best_from):
                best_from = since if since is not None else -(2**62)
                best = int(row[f"{scope}_minutes"] or 0)
        return best


# ---------------------------------------------------------------------------------------------- small rules


def pool_country(country: str) -> str:
    """PR counts as US everywhere a pool or "domestic" is concerned (d.15)."""
    return "US" if country == "PR" else country


def is_domestic(home: str, called: str | None) -> bool:
    """US and CA call each other domestically; an unknown country is international (d.15)."""
    if called is None:
        return False
    here, there = pool_country(home), pool_country(called)
    return here == there or {here, there} == {"US", "CA"}


def scope_of(home: str, called: str | None) -> str:
    return "domestic" if is_domestic(home, called) else "international"


def billed_minutes(billable_ms: int) -> int:
    return -(-billable_ms // MINUTE_MS)


def charge_micros(row: Row, billable_ms: int, pool_minutes: int) -> int:
    """c.3 "The charge": increments first, then the pool's whole minutes off, then fee and floor, rounded once."""
    s = -(-billable_ms // 1000)
    beyond = max(s - row["initial_s"], 0)
    billable_s = row["initial_s"] + -(-beyond // row["step_s"]) * row["step_s"]
    paid_s = max(billable_s - 60 * pool_minutes, 0)
    exact = Fraction(row["fee_micros"]) + Fraction(row["rate_nanos"], 1000) * paid_s / 60
    exact = max(exact, Fraction(row["minimum_micros"]))
    rounded: int = math.floor(exact + Fraction(1, 2))  # half up; nothing is negative here
    return rounded


def default_emergency(country: str | None, digits: str) -> bool:
    return digits in ("112", "911")


def read_numbering(path: Path) -> tuple[CountryOf, IsEmergency]:
    """The two functions a twin needs, from the data of the generated table; its code is not run.

    Each table is words: a name with a colon, then its prefixes or numbers; `--` names prefixes without a country.
    """
    tables: dict[str, dict[str, list[str]]] = {}
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            table: dict[str, list[str]] = {}
            name = ""
            for word in str(ast.literal_eval(node.value)).split():
                if word.endswith(":"):
                    name = word[:-1]
                table.setdefault(name, []).extend([] if word.endswith(":") else [word])
            tables[node.targets[0].id] = table
    countries = {digits: name for name, prefixes in tables["COUNTRIES"].items() for digits in prefixes}

    def country_of(digits: str) -> str | None:
        for length in range(len(digits), 0, -1):
            if digits[:length] in countries:
                found = countries[digits[:length]]
                return None if found == "--" else found
        return None

    def is_emergency(country: str | None, digits: str) -> bool:
        return digits in ("112", "911") or digits in tables["EMERGENCY"].get(country or "", [])

    return country_of, is_emergency


# ---------------------------------------------------------------------------------------------- the twin


class Twin:
    """Feed it records in order with `command` and `call`; read its lists afterwards."""

    def __init__(
        self,
        deck: Path | Mapping[str, str] | Deck,
        plans: str,
        country_of: CountryOf,
        is_emergency: IsEmergency | None = None,
        deck_version: str | None = None,
    ) -> None:
        if isinstance(deck, Path):
            deck = Deck.from_folder(deck)
        self.deck = deck if isinstance(deck, Deck) else Deck(deck)
        self.plans = Plans(plans)
        self.country_of = country_of
        self.is_emergency = is_emergency or default_emergency
        self.deck_version = deck_version
        self.accounts: dict[str, Row] = {}
        self.rated: list[Row] = []
        self.events: list[Row] = []
        self.rejected_cdrs: list[Row] = []
        self.rejected_commands: list[Row] = []
        self.duplicates = {"cdrs": 0, "commands": 0}
        self.unknown_fields = 0
        self.now: Row = {}  # instant, cause and input of the record at hand

    # ---- one call record

    def call(self, raw: bytes, offset: int, key: bytes | None = None) -> None:
        try:
            call = read_object(raw)
            check_call(call)
            check_key(call, key)
            if call["tenant"] not in self.accounts:
                raise Refused("unknown_tenant", call["tenant"])
            account = self.accounts[call["tenant"]]
            if self.is_duplicate(account["seen_calls"], call["record_id"], call):
                self.duplicates["cdrs"] += 1
                return
        except Refused as wrong:
            self.rejected_cdrs.append(rejection(wrong, raw, offset))
            return
        account["seen_calls"][call["record_id"]] = content(call)
        self.unknown_fields += sum(name not in CALL_FIELDS for name in call)
        account["version"] += 1
        self.now = {"cause": "call", "input": [0, offset], "at": instant_ms(call["end"])}

        account["holds"].pop(call.get("call_id"), None)
        self.expire_lots(account)
        before = balance(account)
        answer = self.rate(account, call)
        self.count_in_month(account, call, answer)
        self.after_call(account, call, answer, before)
        self.rated.append(self.rated_call(account, raw, call, answer, before, offset))

    def rate(self, account: Row, call: Row) -> Row:
        """Who pays what for one call (charging-rules 7). What it leaves out is 0 or null in the rated call."""
        kind = call["call_type"]
        connected = call["answer"] is not None and call["disposition"] == "answered" and call["billable_ms"] > 0
        inbound = kind in ("user_in", "conf_in", "ucap_in", "unassigned_in")
        dialled = kind in (*USER_OUT, "conf_out", "ucap_out")
        emergency = kind == "emergency" or (dialled and self.is_emergency(account["country"], call["callee"][1:]))
        answer: Row = {"outcome": "free", "connected": connected, "emergency": emergency}
        if dialled and connected and not emergency:
            self.find_destination(account, call, answer)
        if not connected:
            return answer | {"outcome": "not_connected", "row": None}
        answer["billed_minutes"] = billed_minutes(call["billable_ms"])
        if emergency or kind in DIRECT_ROUTING_TYPES:
            return answer
        if inbound:
            return self.rate_inbound(account, call, answer)
        return self.rate_outbound(account, call, answer)

    def find_destination(self, account: Row, call: Row, answer: Row) -> None:
        """Deck row, called country, the plan that would give minutes, and domestic or international seen from it.

        Only connected calls have them (d.16, d.20).
        """
        digits, start = call["callee"][1:], instant_ms(call["start"])
        row = self.deck.outbound_row(digits, start) if self.deck.currency == account["currency"] else None
        called = self.country_of(digits) or (row["country"] if row else None)
        home, chosen = account["country"], None
        if call["call_type"] != "conf_out":
            held = self.licences_of(account, call.get("user"))
            home = next((held[plan] for plan in (*CALLING_PLANS, "PAYG") if plan in held), home)
            # reading: a premium number never draws on a pool, so no plan is chosen for it.
            if row is None or row["class"] != "premium":
                chosen = self.choose_plan(held, called, start)
            if chosen is not None:
                home = held[chosen]
        answer["row"], answer["called"], answer["plan"], answer["home"] = row, called, chosen, home
        answer["deck"] = self.deck.currency == account["currency"]
        answer["context"] = scope_of(home, called).capitalize()

    def licences_of(self, account: Row, user: str | None) -> dict[str, str]:
        return {plan: country for (who, plan), country in account["licences"].items() if who == user}

    def choose_plan(self, held: dict[str, str], called: str | None, start: int) -> str | None:
        """The first plan in order with an allotment for the scope, even when its pool is empty (d.14)."""
        for plan in CALLING_PLANS:
            if plan in held:
                scope = scope_of(held[plan], called)
                if self.plans.allotment(plan, pool_country(held[plan]), scope, start) > 0:
                    return plan
        return None

    def rate_outbound(self, account: Row, call: Row, answer: Row) -> Row:
        start, premium = instant_ms(call["start"]), answer["row"] is not None and answer["row"]["class"] == "premium"
        if call["call_type"] == "conf_out":
            held = self.licences_of(account, call["user"])
            if "MCOMEETADD_DIALOUT_US" in held and answer["called"] in ("US", "PR", "CA") and not premium:
                return answer | {"capability": "MCOMEETADD_DIALOUT_US"}
            pay_per_minute_only = "MCOMEETACPEA" in held and "MCOMEETADD" not in held
            if answer["called"] in ZONE_A and not premium and not pay_per_minute_only:
                name = f"*/MCOMEETADD/zone-a/{month_of(start)}"
                self.draw_minutes(account, answer, "MCOMEETADD", name, self.zone_a_capacity(account))
            paid_by = "MCOMEETACPEA" if pay_per_minute_only else "MCOPSTNPP"
        else:
            if answer["plan"] is not None:
                self.draw_from_plan(account, call, answer)
            paid_by = "MCOPSTNPP"
        return self.pay_rest(account, call, answer, paid_by)

    def rate_inbound(self, account: Row, call: Row, answer: Row) -> Row:
        """Free, but for toll-free numbers and conferences of pay-per-minute organisers (d.26)."""
        digits = call["callee"][1:]
        assigned = account["numbers"].get(call["callee"])
        number_type, number_country = assigned or ("service", self.country_of(digits))
        kind = call["call_type"]
        held = self.licences_of(account, call["user"]) if kind == "conf_in" else {}
        pay_per_minute = "MCOMEETACPEA" in held and "MCOMEETADD" not in held
        if kind == "user_in" or (number_type != "toll_free" and not pay_per_minute):
            return answer
        origin = self.country_of(call["caller"][1:]) if call["caller"] is not None else None
        answer["row"] = None
        if self.deck.currency == account["currency"]:
            answer["row"] = self.deck.inbound_row(number_country, number_type, origin)
            answer["deck"] = True
        return self.pay_rest(account, call, answer, "MCOMEETACPEA" if pay_per_minute else "MCOPSTNPP")

    # ---- minutes

    def zone_a_capacity(self, account: Row) -> int:
        return ZONE_A_MINUTES * len([plan for _, plan in account["licences"] if plan == "MCOMEETADD"])

    def plan_capacity(self, account: Row, plan: str, country: str, scope: str, start: int) -> int:
        """Allotment at the call's start x licences assigned now; MCOPSTN8 is each user's own (charging-rules 1.1)."""
        assigned = [held for (_, what), held in account["licences"].items() if what == plan]
        count = 1 if plan == "MCOPSTN8" else sum(pool_country(held) == country for held in assigned)
        return self.plans.allotment(plan, country, scope, start) * count

    def draw_from_plan(self, account: Row, call: Row, answer: Row) -> None:
        plan, start = answer["plan"], instant_ms(call["start"])
        country, scope = pool_country(answer["home"]), scope_of(answer["home"], answer["called"])
        month = month_of(start)
        name = f"{country}/{plan}/{scope}/{month}" + (f"/{call['user']}" if plan == "MCOPSTN8" else "")
        capacity = self.plan_capacity(account, plan, country, scope, start)
        if plan == "MCOPSTN2":  # d.19: the counter that is at its cap stops the other too
            other = "international" if scope == "domestic" else "domestic"
            other_capacity = self.plan_capacity(account, plan, country, other, start)
            if account["used"].get(f"{country}/{plan}/{other}/{month}", 0) >= other_capacity > 0:
                return
        self.draw_minutes(account, answer, plan, name, capacity)
        if answer.get("pool") == name:
            account["pool_shape"][name] = (plan, country, scope, start)

    def draw_minutes(self, account: Row, answer: Row, plan: str, name: str, capacity: int) -> None:
        used = account["used"].get(name, 0)
        taken = min(answer["billed_minutes"], max(capacity - used, 0))
        if taken > 0:
            account["used"][name] = used + taken
            answer |= {"pool": name, "pool_minutes": taken, "pool_capacity": capacity, "capability": plan}

    # ---- money

    def pay_rest(self, account: Row, call: Row, answer: Row, paid_by: str) -> Row:
        """What no pool gave: priced and debited, or a freecall where no rate is known (c.3)."""
        pool_minutes, row = answer.get("pool_minutes", 0), answer["row"]
        rest = answer["billed_minutes"] - pool_minutes
        if rest == 0:
            return answer | {"outcome": "pooled"}
        if row is None:
            return answer | {"outcome": "freecall", "capability": "FREECALL"}
        charge = charge_micros(row, call["billable_ms"], pool_minutes)
        lots, debt, invoice = debit(account, charge, to_invoice=account["billing_mode"] == "post_usage")
        outcome = "invoiced" if invoice else "charged"
        if charge == 0:
            outcome = "pooled" if pool_minutes else "free"
        return answer | {
            "outcome": outcome,
            "credit_minutes": rest,
            "capability": paid_by,
            "charge": charge,
            "fee": row["fee_micros"],
            "lots": lots,
            "debt": debt,
            "invoice": invoice,
        }

    def after_call(self, account: Row, call: Row, answer: Row, before: int) -> None:
        """d.9 (d): pool percentages, missing rate, then what the balance does."""
        if answer.get("pool_minutes", 0) > 0:
            self.look_at_pool(account, answer)
        if answer["outcome"] == "freecall":
            self.announce_missing_rate(account, call)
        self.look_at_balance(account, before)
        changed = answer.get("charge", 0) - answer.get("invoice", 0)
        if changed > 0 and instant_ms(call["end"]) >= account["recharge"]["ask_again_ms"]:
            self.look_at_trigger(account)

    def rated_call(self, account: Row, raw: bytes, call: Row, answer: Row, before: int, offset: int) -> Row:
        """The contract's rated call, every field, in its order."""
        row = answer.get("row")
        return {
            "v": 1,
            "call": json.loads(raw.decode(), parse_int=lambda digits: int(digits) if len(digits) < 4_000 else digits),
            "outcome": answer["outcome"],
            "tenant": call["tenant"],
            "record_id": call["record_id"],
            "charge_micros": answer.get("charge", 0),
            "currency": account["currency"],
            "billed_minutes": answer.get("billed_minutes", 0),
            "pool": answer.get("pool"),
            "pool_minutes": answer.get("pool_minutes", 0),
            "credit_minutes": answer.get("credit_minutes", 0),
            "connection_fee_micros": answer.get("fee", 0),
            "rate_nanos_per_minute": row["rate_nanos"] if row else 0,
            "prefix": row["prefix"] if row else None,
            "destination": row["destination"] if row else None,
            "destination_country": answer.get("called"),
            "destination_context": answer.get("context"),
            "capability": answer.get("capability"),
            "deck": self.deck.name if answer.get("deck") else None,
            "deck_version": self.deck_version if answer.get("deck") else None,
            "lots": answer.get("lots", []),
            "debt_micros": answer.get("debt", 0),
            "invoice_micros": answer.get("invoice", 0),
            "balance_micros": balance(account),
            "account_version": account["version"],
            "flags": self.flags(account, call, answer, before),
            "input": [0, offset],
        }

    def flags(self, account: Row, call: Row, answer: Row, before: int) -> list[str]:
        held = self.licences_of(account, call.get("user"))
        kind, paid = call["call_type"], answer.get("charge", 0) > 0 and account["billing_mode"] == "prepaid"
        pay_per_minute_organiser = kind == "conf_out" and "MCOMEETACPEA" in held and "MCOMEETADD" not in held
        gated = kind in (*USER_OUT, "conf_out") and "MCOPSTNC" not in held and not pay_per_minute_organiser
        without_plan = not any(plan in held for plan in (*CALLING_PLANS, "PAYG"))
        # reading: a user's call to 112 or 911 is an emergency call and so no `user_out` any more.
        plan_wanted = answer["connected"] and kind in USER_OUT and not answer["emergency"]
        raised = {
            "no_credit_licence": paid and gated,
            "overdrawn": paid and (before <= 0 or balance(account) < 0),
            "late": instant_ms(call["start"]) < account["closed_before_ms"],
            "no_plan": plan_wanted and without_plan,
        }
        return [flag for flag, is_raised in raised.items() if is_raised]

    # ---- one account command

    def command(self, raw: bytes, offset: int, key: bytes | None = None) -> None:
        try:
            command = read_object(raw)
            check_command(command)
            check_key(command, key)
            if command["tenant"] in self.accounts:
                account = self.accounts[command["tenant"]]
                if self.is_duplicate(account["seen_commands"], command["command_id"], command):
                    self.duplicates["commands"] += 1
                    return
                self.check_applicable(account, command)
            elif command["type"] == "tenant.opened":
                account = self.accounts[command["tenant"]] = opened(command)
            else:
                raise Refused("unknown_tenant", command["tenant"])
        except Refused as wrong:
            self.rejected_commands.append(rejection(wrong, raw, offset))
            return
        account["seen_commands"][command["command_id"]] = content(command)
        account["version"] += 1
        self.now = {"cause": "command", "input": [0, offset], "at": instant_ms(command["at"])}

        self.expire_lots(account)
        before = balance(account)
        self.apply(account, command)
        self.look_at_balance(account, before)
        # While a wait is on only a call may ask (d.11); the two that end a wait have ended it by now.
        looks = command["type"] in ("account.adjusted", "funds.added", "recharge.configured")
        if looks and account["recharge"]["failures"] == 0:
            self.look_at_trigger(account)

    def check_applicable(self, account: Row, command: Row) -> None:
        """What makes a well-formed command impossible. It changes nothing, so it comes before any expiry."""
        kind = command["type"]
        if kind == "tenant.opened":
            raise Refused("already_open", command["tenant"])
        if kind.startswith("licence."):
            held = account["licences"].get((command["user"], command["plan"]))
            if kind == "licence.assigned" and held == command["country"]:
                raise Refused("already_assigned", command["plan"])
            if kind == "licence.removed" and (held is None or command.get("country") not in (None, held)):
                raise Refused("not_assigned", command["plan"])
        if kind.startswith("number."):
            # reading: numbers follow the rules that d.14 gives for licences.
            wanted = (command["number_type"], command["country"])
            known = account["numbers"].get(command["number"])
            if kind == "number.assigned" and known == wanted:
                raise Refused("already_assigned", "number")
            if kind == "number.removed" and known != wanted:
                raise Refused("not_assigned", "number")
        if kind == "recharge.failed" and account["recharge"]["in_flight"] != command["recharge_id"]:
            raise Refused("not_in_flight", command["recharge_id"])
        if kind == "funds.added":
            if command["lot_id"] in account["lot_ids"]:
                raise Refused("conflict", "lot_id")
            if command.get("expires_at") is None:
                twelve_months_later(instant_ms(command["at"]))

    def apply(self, account: Row, command: Row) -> None:
        kind, at = command["type"], instant_ms(command["at"])
        recharge = account["recharge"]
        if kind == "licence.assigned":
            account["licences"][command["user"], command["plan"]] = command["country"]
        elif kind == "licence.removed":
            del account["licences"][command["user"], command["plan"]]
        elif kind == "number.assigned":
            account["numbers"][command["number"]] = (command["number_type"], command["country"])
        elif kind == "number.removed":
            del account["numbers"][command["number"]]
        elif kind == "funds.added":
            explicit = command.get("expires_at")
            expires = instant_ms(explicit) if explicit is not None else twelve_months_later(at)
            add_money(account, command["lot_id"], command["amount_micros"], at, expires)
            if command.get("recharge_id") is not None:
                self.recharge_succeeded(account, command)
        elif kind == "recharge.configured":
            recharge |= {name: command[name] for name in ("enabled", "trigger_micros", "amount_micros")}
            recharge |= {"failures": 0, "ask_again_ms": -(2**62)}
        elif kind == "recharge.failed":
            self.recharge_failed(account, command)
        elif kind == "account.adjusted":
            if command["amount_micros"] > 0:
                add_money(account, f"adj-{command['command_id']}", command["amount_micros"], at, None)
            else:
                debit(account, -command["amount_micros"], to_invoice=False)
        elif kind == "contacts.set":
            contacts = contacts_told(command["contacts"])
            self.emit(account, "contacts.set", command["command_id"], contacts=contacts)
        elif kind == "clock.ticked":
            self.expire_holds(account, at)
            self.tick(account, at)
        elif kind == "call.authorize":
            self.expire_holds(account, at)
            self.authorize(account, command)

    # ---- a call that wants to begin (d.39)

    def expire_holds(self, account: Row, at: int) -> None:
        """The youngest first."""
        for call_id, hold in reversed(list(account["holds"].items())):
            if hold["expires_ms"] <= at:
                del account["holds"][call_id]
                account["expired_holds"] += 1
                told = {"call_id": call_id, **self.told_of_hold(account, hold)}
                self.emit(account, "authorization.expired", account["expired_holds"], **told)

    def told_of_hold(self, account: Row, hold: Row) -> Row:
        return {
            "pool": hold["pool"],
            "pool_minutes": hold["pool_minutes"],
            "amount_micros": hold["micros"],
            "expires_at": instant_text(hold["expires_ms"]),
            "held_micros": held_micros(account),
            "balance_micros": balance(account),
            "currency": account["currency"],
        }

    def authorize(self, account: Row, command: Row) -> None:
        """The longest call that could be paid if every call that is held for had ended already, at its full length."""
        account["holds"].pop(command["call_id"], None)
        wanted = command.get("seconds") or 3_600
        problems = [self.if_it_lasted(account, command, seconds)["problem"] for seconds in (1, wanted)]
        granted = wanted
        if problems[0] is not None:
            granted = 0
        elif problems[1] is not None:
            # What can be paid for a length can be paid for any shorter one.
            granted = bisect.bisect_left(
                range(1, wanted), True, key=lambda s: self.if_it_lasted(account, command, s)["problem"] is not None
            )
        who = {"call_id": command["call_id"], "call_type": command["call_type"]}
        if granted == 0:
            facts = {"held_micros": held_micros(account), "balance_micros": balance(account)}
            facts |= {"reason": problems[0], "currency": account["currency"]}
            self.emit(account, "call.refused", command["command_id"], **who, **facts)
            return
        found = self.if_it_lasted(account, command, granted)
        hold_ms = 1000 * (command.get("hold_seconds") or wanted + 300)
        hold = {"expires_ms": instant_ms(command["at"]) + hold_ms}
        hold |= {name: found[name] for name in ("pool", "pool_minutes", "micros")}
        account["holds"][command["call_id"]] = hold
        if hold["pool"] is not None:
            account["used"].setdefault(hold["pool"], 0)
            account["pool_shape"].setdefault(hold["pool"], found["shape"])
        told = {"payer": found["payer"], "seconds": granted, **self.told_of_hold(account, hold)}
        self.emit(account, "call.authorized", command["command_id"], **who, **told)

    def if_it_lasted(self, account: Row, command: Row, seconds: int) -> Row:
        """Rate a call of so many seconds on a copy of the books in which all that is held is spent."""
        copied = ("lots", "used", "pool_shape")
        spent = account | {name: copy.deepcopy(account[name]) for name in copied}
        for hold in account["holds"].values():
            if hold["pool"] is not None:
                spent["used"][hold["pool"]] = spent["used"].get(hold["pool"], 0) + hold["pool_minutes"]
        debit(spent, min(held_micros(account), sum(lot["left"] for lot in spent["lots"])), to_invoice=False)
        call: Row = {"user": None, "caller": None} | command
        call |= {"start": command["at"], "answer": command["at"], "billable_ms": 1000 * seconds}
        call |= {"disposition": "answered"}
        answer = self.rate(spent, call)
        charge, pool_minutes = answer.get("charge", 0), answer.get("pool_minutes", 0)
        overage = account["billing_mode"] == "post_usage" and account["overage"]
        problem = None
        if answer["outcome"] == "freecall":
            problem = "no_rate"
        elif charge and "no_credit_licence" in self.flags(spent, call, answer, 0):
            problem = "no_credit_licence"
        elif (
            answer.get("debt", 0)
            or (answer.get("invoice", 0) and not overage)
            or (call["call_type"] == "unassigned_in" and not charge and not overage and balance(account) <= 0)
        ):
            problem = "no_credit"
        by_credits = "invoice" if overage and answer.get("credit_minutes", 0) else "credits" if charge else ""
        payers = [name for name in ("pool" if pool_minutes else "", by_credits) if name]
        return {
            "problem": problem,
            "payer": "_and_".join(payers) or "nobody",
            "pool": answer.get("pool"),
            "pool_minutes": pool_minutes,
            "micros": 0 if overage else charge,
            "shape": spent["pool_shape"].get(answer.get("pool")),
        }

    def tick(self, account: Row, at: int) -> None:
        """d.9 (c): lots that will expire, then months that are closed and were not told."""
        for lot in account["lots"]:
            if lot["expires_ms"] is not None and lot["expires_ms"] <= at + 30 * DAY_MS and not lot["warned"]:
                lot["warned"] = True
                self.emit(
                    account,
                    "lot.expiring",
                    lot["lot_id"],
                    lot_id=lot["lot_id"],
                    left_micros=lot["left"],
                    expires_at=instant_text(lot["expires_ms"]),
                    balance_micros=balance(account),
                    currency=account["currency"],
                )
        if at - 48 * HOUR_MS >= instant_ms("0001-01-01T00:00:00Z"):
            # Every month that ended at least 48 h before `at`: those before the month of that instant.
            account["closed_before_ms"] = max(account["closed_before_ms"], month_start_ms(at - 48 * HOUR_MS))
        for month, total in sorted(account["months"].items()):
            if (
                instant_ms(f"{month}-01T00:00:00Z") < account["closed_before_ms"]
                and month not in account["months_told"]
            ):
                account["months_told"].add(month)
                facts = {"month": month, **total, "balance_micros": balance(account), "currency": account["currency"]}
                self.emit(account, "month.closed", month, **facts)

    def count_in_month(self, account: Row, call: Row, answer: Row) -> None:
        """The UTC month of `start`, closed or not (d.35)."""
        start = instant_ms(call["start"])
        total = account["months"].setdefault(
            month_of(start),
            {
                "calls": 0,
                "connected_calls": 0,
                "charge_micros": 0,
                "invoice_micros": 0,
                "pool_minutes": 0,
                "credit_minutes": 0,
                "late_calls": 0,
            },
        )
        total["calls"] += 1
        total["connected_calls"] += 1 if answer["connected"] else 0
        total["charge_micros"] += answer.get("charge", 0)
        total["invoice_micros"] += answer.get("invoice", 0)
        total["pool_minutes"] += answer.get("pool_minutes", 0)
        total["credit_minutes"] += answer.get("credit_minutes", 0)
        total["late_calls"] += 1 if start < account["closed_before_ms"] else 0

    def recharge_succeeded(self, account: Row, command: Row) -> None:
        """Late or unknown, it is money all the same; it closes the recharge in flight only if it is that one (d.11)."""
        recharge = account["recharge"]
        if recharge["in_flight"] == command["recharge_id"]:
            recharge["in_flight"] = None
        recharge |= {"failures": 0, "ask_again_ms": -(2**62)}
        self.emit(
            account,
            "recharge.succeeded",
            command["command_id"],
            recharge_id=command["recharge_id"],
            lot_id=command["lot_id"],
            amount_micros=command["amount_micros"],
            balance_micros=balance(account),
            currency=account["currency"],
        )

    def recharge_failed(self, account: Row, command: Row) -> None:
        """15 minutes after the first failure in a row, then twice as long each time, at most 24 hours."""
        recharge = account["recharge"]
        recharge["in_flight"] = None
        recharge["failures"] += 1
        wait_ms = min(15 * MINUTE_MS * 2 ** (recharge["failures"] - 1), 24 * HOUR_MS)
        recharge["ask_again_ms"] = instant_ms(command["at"]) + wait_ms
        self.emit(
            account,
            "recharge.failed",
            command["command_id"],
            recharge_id=command["recharge_id"],
            reason=command["reason"],
            balance_micros=balance(account),
            currency=account["currency"],
            failures=recharge["failures"],
            next_attempt_after=instant_text(recharge["ask_again_ms"]),
        )

    # ---- what both share

    def is_duplicate(self, seen: dict[str, object], record_id: str, record: Row) -> bool:
        if record_id not in seen:
            return False
        if seen[record_id] != content(record):
            raise Refused("conflict", record_id)
        return True

    def expire_lots(self, account: Row) -> None:
        """d.9 (a) and (b). reading: in the order lots are drawn, each event with the balance after its own loss."""
        before, expired = balance(account), False
        for lot in list(account["lots"]):
            if lot["expires_ms"] is not None and lot["expires_ms"] <= self.now["at"]:
                account["lots"].remove(lot)
                expired = True
                self.emit(
                    account,
                    "lot.expired",
                    lot["lot_id"],
                    lot_id=lot["lot_id"],
                    forfeited_micros=lot["left"],
                    expires_at=instant_text(lot["expires_ms"]),
                    balance_micros=balance(account),
                    currency=account["currency"],
                )
        if expired:
            self.look_at_balance(account, before)
            if account["recharge"]["failures"] == 0:
                self.look_at_trigger(account)

    def look_at_balance(self, account: Row, before: int) -> None:
        """Zero is a crossing from > 0 to <= 0; a block comes with it, and is lifted by the first balance > 0."""
        after = balance(account)
        money = {"balance_micros": after, "currency": account["currency"]}
        if before > 0 >= after:
            account["crossings"] += 1
            self.emit(account, "balance.zero", account["crossings"], crossing=account["crossings"], **money)
            if not (account["billing_mode"] == "post_usage" and account["overage"]):
                account["blocks"] += 1
                account["blocked"] = True
                self.emit(account, "service.blocked", account["blocks"], call_types=CREDIT_CALL_TYPES, **money)
        elif after > 0 and account["blocked"]:
            account["blocked"] = False
            self.emit(account, "service.restored", account["blocks"], call_types=CREDIT_CALL_TYPES, **money)

    def look_at_trigger(self, account: Row) -> None:
        """Strictly below the trigger, and no recharge in flight (c.3)."""
        recharge = account["recharge"]
        if not recharge["enabled"] or recharge["in_flight"] is not None:
            return
        if balance(account) < recharge["trigger_micros"]:
            recharge["requests"] += 1
            recharge["in_flight"] = f"{account['tenant']}:recharge:{recharge['requests']}"
            self.emit(
                account,
                "recharge.requested",
                recharge["requests"],
                recharge_id=recharge["in_flight"],
                amount_micros=recharge["amount_micros"],
                trigger_micros=recharge["trigger_micros"],
                balance_micros=balance(account),
                currency=account["currency"],
            )

    def look_at_pool(self, account: Row, answer: Row) -> None:
        name, capacity = answer["pool"], answer["pool_capacity"]
        used = account["used"][name]
        for percent in (80, 100):
            if used * 100 >= capacity * percent and (name, percent) not in account["announced"]:
                account["announced"].add((name, percent))
                where = f"{name}/{percent}"
                self.emit(account, "pool.reached", where, percent=percent, pool=name, capacity=capacity, used=used)

    def announce_missing_rate(self, account: Row, call: Row) -> None:
        """At most once per tenant, four digits and UTC day of `start` (d.28)."""
        number = call["caller"] if call["call_type"].endswith("_in") else call["callee"]
        digits = number[1:5] if number is not None else "*"
        day = day_of(instant_ms(call["start"])).isoformat()
        if (digits, day) not in account["missing"]:
            account["missing"].add((digits, day))
            facts = {"digits": digits, "day": day, "call_type": call["call_type"], "record_id": call["record_id"]}
            self.emit(account, "rate.missing", f"{digits}/{day}", **facts)

    def emit(self, account: Row, kind: str, what: object, **data: object) -> None:
        self.events.append(
            {
                "specversion": "1.0",
                "id": f"{account['tenant']}/{kind}/{what}",
                "source": "rater",
                "type": f"rater.{kind}",
                "subject": account["tenant"],
                "time": instant_text(self.now["at"]),
                "datacontenttype": "application/json",
                "data": {
                    **data,
                    "account_version": account["version"],
                    "input": self.now["input"],
                    "cause": self.now["cause"],
                },
            }
        )

    # ---- looking at it

    def balance(self, tenant: str) -> Row:
        """Like `rater balance --json`. reading: `pools` are those that ever gave minutes, by name."""
        account = self.accounts[tenant]
        recharge = account["recharge"]
        pools = []
        for name, used in sorted(account["used"].items()):
            if name.startswith("*/"):
                capacity = self.zone_a_capacity(account)
            else:
                plan, country, scope, start = account["pool_shape"][name]
                capacity = self.plan_capacity(account, plan, country, scope, start)
                if plan == "MCOPSTN8":  # reading: nothing is left to a user who no longer holds it there
                    held = account["licences"].get((name.split("/", 4)[4], plan))
                    capacity = capacity if held is not None and pool_country(held) == country else 0
            held = sum(hold["pool_minutes"] for hold in account["holds"].values() if hold["pool"] == name)
            left = max(capacity - used, 0)
            pools.append({"pool": name, "capacity": capacity, "used": used, "left": left, "held": held})
        lots = [
            {
                "lot_id": lot["lot_id"],
                "left_micros": lot["left"],
                "expires_at": None if lot["expires_ms"] is None else instant_text(lot["expires_ms"]),
            }
            for lot in account["lots"]
        ]
        return {
            "tenant": tenant,
            "currency": account["currency"],
            "balance_micros": balance(account),
            "held_micros": held_micros(account),
            "open_calls": len(account["holds"]),
            "debt_micros": account["debt"],
            "invoice_micros": account["invoice"],
            "lots": lots,
            "pools": pools,
            "recharge": {name: recharge[name] for name in ("enabled", "trigger_micros", "amount_micros", "in_flight")},
            "account_version": account["version"],
        }


# ---------------------------------------------------------------------------------------------- an account


def opened(command: Row) -> Row:
    return {
        "tenant": command["tenant"],
        "country": command["country"],
        "currency": command["currency"],
        "billing_mode": command["billing_mode"],
        "overage": bool(command.get("overage")),
        "version": 0,
        "licences": {},  # (user, plan) -> country
        "numbers": {},  # number -> (type, country)
        "lots": [],  # in the order they are drawn; an emptied lot is gone
        "lot_ids": set(),
        "debt": 0,
        "invoice": 0,
        "used": {},  # pool -> minutes
        "pool_shape": {},  # pool -> what its capacity is computed from
        "announced": set(),  # (pool, percent)
        "closed_before_ms": -(2**62),
        "crossings": 0,
        "blocks": 0,
        "blocked": False,
        "missing": set(),  # (digits, day)
        "months": {},  # month of `start` -> what its calls came to
        "months_told": set(),
        "holds": {},  # call id -> what is kept for the call; the youngest last
        "expired_holds": 0,
        "recharge": {
            "enabled": False,
            "trigger_micros": 0,
            "amount_micros": 0,
            "in_flight": None,
            "requests": 0,
            "failures": 0,  # in a row; 0 = no wait is on
            "ask_again_ms": -(2**62),
        },
        "seen_calls": {},
        "seen_commands": {},
    }


def balance(account: Row) -> int:
    in_lots: int = sum(lot["left"] for lot in account["lots"])
    return in_lots - int(account["debt"])


def held_micros(account: Row) -> int:
    return sum(hold["micros"] for hold in account["holds"].values())


def add_money(account: Row, lot_id: str, amount: int, at: int, expires: int | None) -> None:
    """Debt first, then a lot; lots stay sorted by the `at` of their command, then by id."""
    account["lot_ids"].add(lot_id)
    repaid = min(account["debt"], amount)
    account["debt"] -= repaid
    if amount > repaid:
        lot = {"lot_id": lot_id, "at": at, "left": amount - repaid, "expires_ms": expires, "warned": False}
        account["lots"].append(lot)
        account["lots"].sort(key=lambda lot: (lot["at"], lot["lot_id"]))


def debit(account: Row, amount: int, *, to_invoice: bool) -> tuple[list[list[Any]], int, int]:
    """Lots first in first out; the rest becomes debt, or invoice. Answers what each gave."""
    drawn: list[list[Any]] = []
    for lot in list(account["lots"]):
        taken = min(lot["left"], amount)
        if taken > 0:
            drawn.append([lot["lot_id"], taken])
            lot["left"] -= taken
            amount -= taken
        if lot["left"] == 0:
            account["lots"].remove(lot)
    account["invoice" if to_invoice else "debt"] += amount
    return drawn, (0 if to_invoice else amount), (amount if to_invoice else 0)


def rejection(wrong: Refused, raw: bytes, offset: int) -> Row:
    return {
        "v": 1,
        "reason": wrong.reason,
        "detail": wrong.detail,
        "raw_b64": base64.b64encode(raw).decode(),
        "input": [0, offset],
    }
