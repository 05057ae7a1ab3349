"""Stories about calls and money, told line by line and checked as they are told.

`tell` reads a table: rates and plans first, then what happens, each line with what must come of it behind `->`; lines
that begin with `!` are the events of the line above them, in order. Once a story has such a line, every event must be told.

    rate      1212    0.0205                       a row of the deck: prefix, price a minute, then 60/6, fee=, min=, class=,
    rate      449     1.50  60/60 fee=0.25 class=premium        country=, from=, to=
    inbound   US toll_free * 0.022 fee=0.01
    plan      MCOPSTN1 US 5 0 from=2023-01-25
    open      US USD prepaid                       prepaid, post_usage or overage; left out: US USD prepaid
    licence   u MCOPSTN1 US                        unlicence u MCOPSTN1
    number    +18005550199 toll_free US            unnumber +18005550199
    funds     lot-1 5.00 expires=2026-12-01 for=contoso:recharge:1
    recharge  on below=1.00 with=5.00              fail contoso:recharge:1; adjust -0.50; tick
    contacts  a@b.example https://hooks.example/x   the whole list; tick: time passed
    call      +12125550123 61s -> charged 0.0410 minutes=0+2 lots=lot-1:0.0410 balance=4.959
    ! pool.reached percent=80
    ask       c1 +12125550123 10m hold=1h          may it start? answered by an event; a call with call_id=c1 ends the hold
    ! call.authorized payer=credits seconds=600 amount=0.2050

A call, made or asked about, is a `user_out` of user `u` at the story's instant unless the line says `type=`, `by=`, `from=`, `at=`, `rang=`.
"""

import functools
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from rater.core.instants import instant_text, parse_instant
from rater.core.state import State
from rater.doors.accounts import account_row, lots_of, pools_of
from rater.doors.rules import RuleBook, load_rule_book
from rater.pipeline import Batch, Outcome, Respond, Workspace, decide, records_of
from tests.schema_check import validate

Row = dict[str, Any]

TENANT = "contoso"
NOON = "2026-11-03T12:00:00Z"
NOBODY_CALLS = "870,Inmarsat,,,1,,,,,,"  # the only row of a story that is not about prices
OUTBOUND = "prefix,destination,country,class,rate_per_minute,connection_fee,minimum_charge,initial_s,step_s,valid_from,valid_to"
INBOUND = "number_country,number_type,origin_country,rate_per_minute,connection_fee"
PLANS = "plan,country,domestic_minutes,international_minutes,valid_from"


# ---------------------------------------------------------------------------------------------- words into values


def micros(text: str) -> int:
    """1.25 -> 1_250_000"""
    amount = Decimal(text) * 1_000_000
    assert amount == int(amount), text
    return int(amount)


def instant(text: str) -> str:
    """`2026-11-03`, `2026-11-03T10:00` or more, with or without its Z, as an instant of the contract."""
    text = text.removesuffix("Z")
    if "T" not in text:
        text += "T00:00"
    return text + (":00Z" if text.count(":") == 1 else "Z")


def instant_ms(text: str) -> int:
    found = parse_instant(instant(text))
    assert found is not None, text
    return found


def duration_ms(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h)", text).groups()  # type: ignore[union-attr]
    return int(number) * {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}[unit]


# ---------------------------------------------------------------------------------------------- rates


@dataclass
class Rates:
    """The texts of a deck folder and of a plans file, in the making."""

    currency: str = "USD"
    increments: tuple[int, int] | None = None
    outbound: list[str] = field(default_factory=list)
    inbound: list[str] = field(default_factory=list)
    plans: list[str] = field(default_factory=list)

    def files(self) -> dict[str, str]:
        head = ['name = "story"', f'currency = "{self.currency}"', 'direction = "outbound"']
        head.append('price_ceiling_per_minute = "10000"')
        rows = self.outbound or [NOBODY_CALLS]
        if self.increments:
            head += [f"initial_s = {self.increments[0]}", f"step_s = {self.increments[1]}"]
        files = {"deck.toml": "\n".join(head) + "\n", "outbound.csv": "\n".join([OUTBOUND, *rows]) + "\n"}
        if self.inbound:
            files["inbound.csv"] = "\n".join([INBOUND, *self.inbound]) + "\n"
        return files

    def plans_text(self) -> str:
        return "\n".join([PLANS, *self.plans]) + "\n"

    def write(self, folder: Path) -> Path:
        """A deck folder with its plans beside it; the deck's path."""
        deck, plans = folder / "deck", folder / "plans"
        deck.mkdir(parents=True)
        plans.mkdir()
        for name, text in self.files().items():
            (deck / name).write_text(text)
        (plans / "calling-plans.csv").write_text(self.plans_text())
        return deck

    def book(self) -> RuleBook:
        return _book(tuple(sorted(self.files().items())), self.plans_text())


@functools.lru_cache(maxsize=256)
def _book(files: tuple[tuple[str, str], ...], plans: str) -> RuleBook:
    with tempfile.TemporaryDirectory() as folder:
        deck = Path(folder) / "deck"
        deck.mkdir()
        for name, text in files:
            (deck / name).write_text(text)
        plans_file = Path(folder) / "plans.csv"
        plans_file.write_text(plans)
        return load_rule_book(deck, plans_file)


def add_rate(rates: Rates, words: list[str], options: dict[str, str]) -> None:
    prefix, price = words[:2]
    initial, step = words[2].split("/") if len(words) > 2 else ("", "")
    wanted = ("class", "fee", "min", "from", "to")
    number_class, fee, least, start, end = (options.get(name, "") for name in wanted)
    name = options.get("name", f"Place {prefix}")
    days = [instant(day) if day else "" for day in (start, end)]
    rates.outbound.append(
        ",".join([prefix, name, options.get("country", ""), number_class, price, fee, least, initial, step, *days])
    )


# ---------------------------------------------------------------------------------------------- the bench


@dataclass
class Answers:
    """What one piece of input came to, parsed."""

    rated: list[Row]
    events: list[Row]
    rejected: list[Row]
    rejected_commands: list[Row]
    outcome: Outcome

    @property
    def reasons(self) -> list[str]:
        return [row["reason"] for row in (*self.rejected, *self.rejected_commands)]

    def event_types(self) -> list[str]:
        return [event["type"].removeprefix("rater.") for event in self.events]


def rated_lines(outcome: Outcome) -> list[bytes]:
    return [line + b"\n" for block in outcome.rated for line in block.split(b"\n")[:-1]]


def everything(outcome: Outcome) -> tuple[bytes, ...]:
    """The bytes of a batch, topic by topic."""
    return (
        b"".join(outcome.rated),
        b"\n".join(outcome.events),
        b"\n".join(outcome.rejected_cdrs),
        b"\n".join(outcome.rejected_commands),
    )


class Bench:
    """A state, its rules, and the offsets where its two inputs stand."""

    def __init__(self, book: RuleBook, respond: Respond | None = None, key: bytes = bytes(range(16))) -> None:
        self.book, self.respond = book, respond
        self.state = State.empty(key)
        self.workspace = Workspace()
        self.next_command = self.next_call = 0
        self.count = 0

    def decide(self, commands: Sequence[bytes], calls: Sequence[bytes]) -> Outcome:
        """One batch, as raw bytes."""
        batch = Batch(
            0,
            records_of(list(commands), self.next_command),
            records_of(list(calls), self.next_call),
            self.next_command,
            self.next_call,
        )
        outcome = decide(self.state, self.book.rules, batch, self.workspace, self.respond)
        self.next_command, self.next_call = outcome.segments[-1][1], outcome.segments[-1][3]
        self.state.committed()
        return outcome

    def run(self, commands: Sequence[bytes] = (), calls: Sequence[bytes] = ()) -> Answers:
        """One batch, parsed, every line held against its schema."""
        outcome = self.decide(commands, calls)
        return Answers(
            [validate("rated-cdrs", line) for line in rated_lines(outcome)],
            [validate("account-events", line) for line in outcome.events],
            [validate("rejected-cdrs", line) for line in outcome.rejected_cdrs],
            [validate("rejected-commands", line) for line in outcome.rejected_commands],
            outcome,
        )

    def command(self, kind: str, at: str = NOON, tenant: str = TENANT, **fields: Any) -> Answers:
        return self.run([self.command_bytes(kind, at, tenant, **fields)])

    def command_bytes(self, kind: str, at: str = NOON, tenant: str = TENANT, **fields: Any) -> bytes:
        self.count += 1
        record = {"command_id": f"c{self.count}", "tenant": tenant, "type": kind, "at": at, "by": "ops"} | fields
        return orjson.dumps(record)

    def call(self, callee: str = "+12125550123", ms: int = 60_000, **fields: Any) -> Answers:
        return self.run(calls=[orjson.dumps(self.record(callee, ms, **fields))])

    def record(self, callee: str = "+12125550123", ms: int = 60_000, **fields: Any) -> Row:
        """A call record; `start` moves the whole call, `rang_ms` comes before the answer."""
        self.count += 1
        return call_record(fields.pop("record_id", f"r{self.count}"), callee, ms, **fields)

    def balance(self, tenant: str = TENANT) -> Row:
        row = account_row(self.state, tenant)
        account = self.state.shelves["accounts"].rows[row]
        return {
            "balance_micros": int(account.lots_micros - account.debt_micros),
            "debt_micros": int(account.debt_micros),
            "held_micros": int(account.held_micros),
            "open_calls": int(account.hold_count),
            "invoice_micros": int(account.invoice_micros),
            "lots": {lot["lot_id"]: lot["left_micros"] for lot in lots_of(self.state, row)},
            "expires": {lot["lot_id"]: lot["expires_at"] for lot in lots_of(self.state, row)},
            "pools": {
                line.name: (line.capacity, line.used) for line in pools_of(self.state, row, self.book.rules.plans)
            },
            "version": int(account.version),
            "in_flight": bool(account.in_flight),
        }


def call_record(record_id: str, callee: str = "+12125550123", ms: int = 60_000, **fields: Any) -> Row:
    start = fields.pop("start", NOON)
    rang_ms = fields.pop("rang_ms", 0)
    start_ms = instant_ms(start)
    return {
        "record_id": record_id, "tenant": TENANT, "call_type": "user_out", "user": "u",
        "caller": "+442079460018", "callee": callee, "start": start, "answer": instant_text(start_ms + rang_ms),
        "end": instant_text(start_ms + rang_ms + ms), "billable_ms": ms, "disposition": "answered",
    } | fields  # fmt: skip


# ---------------------------------------------------------------------------------------------- stories

MONEY_KEYS = {
    "balance": "balance_micros", "debt": "debt_micros", "invoice": "invoice_micros", "fee": "connection_fee_micros",
    "charge": "charge_micros", "amount": "amount_micros", "trigger": "trigger_micros", "forfeited": "forfeited_micros",
    "left": "left_micros", "held": "held_micros",
}  # fmt: skip
REASONS = frozenset(
    """not_json not_an_object too_large duplicate_key bad_field missing_field bad_times key_mismatch unknown_tenant conflict
    unknown_command already_open already_assigned not_assigned not_in_flight out_of_range duplicate""".split()
)


class Story:
    """One telling: what was said so far, and the events that nobody has told yet."""

    def __init__(self) -> None:
        self.rates = Rates()
        self.bench: Bench | None = None
        self.opened: set[str] = set()
        self.at = NOON
        self.untold: list[Row] = []
        self.last: Answers | None = None
        self.sent: dict[str, bytes] = {}

    # --- before the first deed

    def start(self) -> Bench:
        if self.bench is None:
            self.bench = Bench(self.rates.book())
        return self.bench

    def account(self, tenant: str) -> Bench:
        bench = self.start()
        if tenant not in self.opened:
            self.opened.add(tenant)
            self.give("tenant.opened", tenant, at="2020-01-01T00:00:00Z", country="US", currency="USD",
                      billing_mode="prepaid")  # fmt: skip
        return bench

    # --- deeds

    def give(self, kind: str, tenant: str, **fields: Any) -> Answers:
        bench = self.start()
        return self.send(bench.command_bytes(kind, fields.pop("at", self.at), tenant, **fields), True)

    def send(self, raw: bytes, is_command: bool) -> Answers:
        bench = self.start()
        self.last = bench.run([raw]) if is_command else bench.run(calls=[raw])
        self.untold += self.last.events
        return self.last

    def line(self, words: list[str], options: dict[str, str], expected: list[str], told: dict[str, str]) -> None:
        verb, *words = words
        if verb in ("rate", "inbound", "plan", "deck"):
            self.add_rule(verb, words, options)
            return
        tenant = options.pop("tenant", TENANT)
        if verb == "open":
            self.opened.add(tenant)
            country, currency, mode = words
            more = {"overage": True} if mode == "overage" else {}
            mode = "post_usage" if mode == "overage" else mode
            answers = self.give("tenant.opened", tenant, country=country, currency=currency, billing_mode=mode, **more)
        elif verb == "call":
            self.account(tenant)
            answers = self.send(self.call_bytes(tenant, words, options), False)
        elif verb == "again":
            is_command = b'"command_id"' in self.sent[words[0]]
            answers = self.send(self.sent[words[0]], is_command)
        elif verb == "balance":
            self.check_balance(words, options, tenant)
            return
        else:
            self.account(tenant)
            answers = self.command(verb, tenant, words, options)
        self.check(answers, expected, told)

    def add_rule(self, verb: str, words: list[str], options: dict[str, str]) -> None:
        assert self.bench is None, "rates come before the first deed"
        if verb == "rate":
            add_rate(self.rates, words, options)
        elif verb == "inbound":
            self.rates.inbound.append(",".join([*words, options.get("fee", "")]))
        elif verb == "plan":
            self.rates.plans.append(",".join([*words, options.get("from", "")]))
        else:
            self.rates.currency = options.get("currency", "USD")
            if "increments" in options:
                first, step = options["increments"].split("/")
                self.rates.increments = int(first), int(step)

    def call_bytes(self, tenant: str, words: list[str], options: dict[str, str]) -> bytes:
        assert self.bench is not None
        fields: Row = {"tenant": tenant, "start": instant(options.pop("at", self.at)), "user": options.pop("by", "u")}
        if "id" in options:
            fields["record_id"] = options.pop("id")
        if "type" in options:
            fields["call_type"] = options.pop("type")
        if "from" in options:
            caller = options.pop("from")
            fields["caller"] = None if caller == "withheld" else caller
        if "rang" in options:
            fields["rang_ms"] = duration_ms(options.pop("rang"))
        answered = options.pop("answered", "yes")
        fields |= options
        record = self.bench.record(fields.pop("callee", words[0]), duration_ms(words[1]), **fields)
        if answered == "no":
            record["answer"] = None
        raw = orjson.dumps(record)
        self.sent.setdefault(record["record_id"], raw)
        return raw

    def command(self, verb: str, tenant: str, words: list[str], options: dict[str, str]) -> Answers:
        fields: Row = {"at": instant(options.pop("at", self.at))}
        if "id" in options:
            fields["command_id"] = options.pop("id")
        kind, more = COMMANDS[verb](words, options)
        raw = self.start().command_bytes(kind, fields.pop("at"), tenant, **fields, **more)
        self.sent.setdefault(orjson.loads(raw)["command_id"], raw)
        return self.send(raw, True)

    # --- what must come of it

    def check(self, answers: Answers, expected: list[str], told: dict[str, str]) -> None:
        counts = answers.outcome.counts
        word = expected[0] if expected else None
        if word == "duplicate":
            assert counts.duplicates + counts.commands_duplicates == 1
            assert not answers.reasons
            assert not answers.rated
            assert not answers.events
            return
        if word in REASONS:
            assert answers.reasons == [word], answers.reasons
            assert not answers.rated
            assert not answers.events
            return
        assert not answers.reasons, (answers.reasons, [*answers.rejected, *answers.rejected_commands])
        assert counts.rated + counts.commands == 1
        if answers.rated:
            self.check_rated(answers.rated[0], expected, told)
        else:
            assert expected in ([], ["applied"])

    def check_rated(self, rated: Row, expected: list[str], told: dict[str, str]) -> None:
        found = dict(rated)
        if expected:
            assert rated["outcome"] == expected[0], rated
        if len(expected) > 1:
            assert rated["charge_micros"] == micros(expected[1]), rated
        for key, value in told.items():
            check_value(found, key, value)

    def check_balance(self, words: list[str], options: dict[str, str], tenant: str) -> None:
        assert self.bench is not None
        found = self.bench.balance(tenant)
        if words:
            assert found["balance_micros"] == micros(words[0]), found
        for key, value in options.items():
            if key == "pool":
                name, used = value.split("=")
                assert "{1}/{0}".format(*found["pools"][name]) == used, found["pools"]
            else:
                check_value(found, key, value)

    def check_event(self, words: list[str], told: dict[str, str]) -> None:
        assert self.untold, f"expected {words[0]}, but nothing more was announced"
        event = self.untold.pop(0)
        assert event["type"] == f"rater.{words[0]}", event
        found = event | event["data"]
        for key, value in told.items():
            check_value(found, key, value)


def check_value(found: Row, key: str, value: str) -> None:
    """One `key=value` of a line against what was found."""
    if key == "minutes":
        assert f"{found['pool_minutes']}+{found['credit_minutes']}" == value, found
    elif key == "lots":
        lots = found["lots"].items() if isinstance(found["lots"], dict) else found["lots"]
        wanted = [] if value == "none" else [part.rsplit(":", 1) for part in value.split(",")]
        assert [list(lot) for lot in lots] == [[name, micros(amount)] for name, amount in wanted], found
    elif key == "flags":
        assert found["flags"] == ([] if value == "none" else value.split(",")), found
    elif key in MONEY_KEYS:
        assert found[MONEY_KEYS[key]] == micros(value), found
    elif key in ("time", "expires_at", "next_attempt_after"):
        assert instant_ms(found[key]) == instant_ms(value), found
    else:
        assert str(found[key]) == ("None" if value == "null" else value), (key, found)


Made = tuple[str, Row]


def _licence(words: list[str], options: dict[str, str]) -> Made:
    user, plan, *country = words
    return "licence.assigned", {"user": user, "plan": plan, "country": country[0] if country else "US"}


def _unlicence(words: list[str], options: dict[str, str]) -> Made:
    user, plan, *country = words
    return "licence.removed", {"user": user, "plan": plan} | ({"country": country[0]} if country else {})


def _funds(words: list[str], options: dict[str, str]) -> Made:
    fields: Row = {"lot_id": words[0], "amount_micros": micros(words[1])}
    if "expires" in options:
        fields["expires_at"] = instant(options["expires"])
    if "for" in options:
        fields["recharge_id"] = options["for"]
    return "funds.added", fields


def _recharge(words: list[str], options: dict[str, str]) -> Made:
    return "recharge.configured", {
        "enabled": words[0] == "on",
        "trigger_micros": micros(options.get("below", "0")),
        "amount_micros": micros(options.get("with", "1")),
    }


def _ask(words: list[str], options: dict[str, str]) -> Made:
    call_id, callee, *longest = words
    fields: Row = {"call_id": call_id, "callee": callee, "call_type": options.get("type", "user_out")}
    fields["user"] = None if options.get("by") == "nobody" else options.get("by", "u")
    if longest:
        fields["seconds"] = duration_ms(longest[0]) // 1000
    if "hold" in options:
        fields["hold_seconds"] = duration_ms(options["hold"]) // 1000
    if "from" in options:
        fields["caller"] = options["from"]
    return "call.authorize", fields


def _contact(address: str) -> Row:
    return {"webhook" if "://" in address else "email": address}


COMMANDS: dict[str, Callable[[list[str], dict[str, str]], Made]] = {
    "licence": _licence,
    "unlicence": _unlicence,
    "number": lambda words, _: ("number.assigned", dict(zip(("number", "number_type", "country"), words, strict=True))),
    "unnumber": lambda words, _: ("number.removed", {"number": words[0]}),
    "funds": _funds,
    "recharge": _recharge,
    "fail": lambda words, _: ("recharge.failed", {"recharge_id": words[0], "reason": "card declined"}),
    "adjust": lambda words, _: ("account.adjusted", {"amount_micros": micros(words[0]), "reason": "goodwill"}),
    "tick": lambda _, __: ("clock.ticked", {}),
    "ask": _ask,
    "contacts": lambda words, _: ("contacts.set", {"contacts": [_contact(word) for word in words]}),
}


def _split(text: str) -> tuple[list[str], dict[str, str]]:
    words, options = [], {}
    for part in text.split():
        key, mark, value = part.partition("=")
        if mark and re.fullmatch(r"[a-z_]+", key):
            options[key] = value
        else:
            words.append(part)
    return words, options


def tell(text: str) -> Story:
    """Tell a story; an `AssertionError` names the line that came out otherwise."""
    story = Story()
    strict = re.search(r"^\s*!", text, re.MULTILINE) is not None
    lines = [line.strip() for line in text.strip().splitlines()]
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        try:
            deed, _, result = line.partition("->")
            words, options = _split(deed)
            expected, told = _split(result)
            if words[0] == "!":
                story.check_event(words[1:], options)
                continue
            if words[0] == "at":
                story.at = instant(words[1])
                continue
            if strict:
                assert not story.untold, f"announced, and not told: {[event['id'] for event in story.untold]}"
            story.untold.clear()
            story.line(words, options, expected, told)
        except Exception as wrong:
            raise AssertionError(f"line {number}: {line}\n  {type(wrong).__name__}: {wrong}") from wrong
    if strict:
        assert not story.untold, f"announced, and not told: {[event['id'] for event in story.untold]}"
    return story


def check_charges(text: str) -> None:
    """A table of rates and of calls with their prices, as house style has it: `call 442079460123 61s 0.0200`."""
    rates, calls = [], []
    for line in text.strip().splitlines():
        words = line.split()
        if not words:
            continue
        (calls if words[0] == "call" else rates).append(line)
    lines = [*rates, "funds  purse  1000000"]
    for line in calls:
        words, options = _split(line)
        _, callee, duration, price = words
        outcome = "freecall 0" if price == "no_rate" else ("free 0" if Decimal(price) == 0 else f"charged {price}")
        more = " ".join(f"{key}={value}" for key, value in options.items())
        lines.append(f"call +{callee.removeprefix('+')} {duration} {more} -> {outcome}")
    tell("\n".join(lines))
