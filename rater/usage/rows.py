"""Lines of `rated-cdrs` and `account-events` -> rows of a history, one tuple a line in the order of the columns here.

Instants are UTC milliseconds, amounts micro-units, rates nano-units a minute, all as integers. `feed`, `part` and `place` say
where a line came from: which log, which partition of its topic, which offset in it; together they name a row. `lots` and
`flags` stay the JSON they were. What a line does not have is None.
"""

from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

import orjson

from rater.core.instants import parse_instant

Row = tuple[Any, ...]

TEXT, WHOLE = "text", "whole number"
# Columns in the order in which a line gives them up fastest: fields of the rated call together, fields of the call together.
CALL_COLUMNS = {
    "tenant": TEXT, "start_ms": WHOLE, "feed": WHOLE, "part": WHOLE, "place": WHOLE,
    "record_id": TEXT, "outcome": TEXT, "charge_micros": WHOLE, "currency": TEXT, "billed_minutes": WHOLE,
    "pool": TEXT, "pool_minutes": WHOLE, "credit_minutes": WHOLE, "fee_micros": WHOLE, "rate_nanos": WHOLE,
    "prefix": TEXT, "destination": TEXT, "country": TEXT, "context": TEXT, "capability": TEXT, "deck": TEXT,
    "deck_version": TEXT, "debt_micros": WHOLE, "invoice_micros": WHOLE, "balance_micros": WHOLE,
    "account_version": WHOLE,
    "call_type": TEXT, "caller": TEXT, "callee": TEXT, "billable_ms": WHOLE, "disposition": TEXT,
    "user_id": TEXT, "call_id": TEXT, "conference_id": TEXT, "source": TEXT, "switch": TEXT,
    "answer_ms": WHOLE, "end_ms": WHOLE, "lots": TEXT, "flags": TEXT, "in_part": WHOLE, "in_place": WHOLE,
}  # fmt: skip
EVENT_COLUMNS = {
    "tenant": TEXT, "time_ms": WHOLE, "feed": WHOLE, "part": WHOLE, "place": WHOLE, "event_id": TEXT, "type": TEXT,
    "account_version": WHOLE, "body": TEXT,
}  # fmt: skip

_of_rated = itemgetter(
    "record_id", "outcome", "charge_micros", "currency", "billed_minutes", "pool", "pool_minutes", "credit_minutes",
    "connection_fee_micros", "rate_nanos_per_minute", "prefix", "destination", "destination_country",
    "destination_context", "capability", "deck", "deck_version", "debt_micros", "invoice_micros", "balance_micros",
    "account_version",
)  # fmt: skip
_of_call = itemgetter("call_type", "caller", "callee", "billable_ms", "disposition")
_NUL = b"\\u0000"


class Usage(NamedTuple):
    """One rated call as a history keeps it: `CALL_COLUMNS` by name."""

    tenant: str
    start_ms: int
    feed: int
    part: int
    place: int
    record_id: str
    outcome: str
    charge_micros: int
    currency: str
    billed_minutes: int
    pool: str | None
    pool_minutes: int
    credit_minutes: int
    fee_micros: int
    rate_nanos: int
    prefix: str | None
    destination: str | None
    country: str | None
    context: str | None
    capability: str | None
    deck: str | None
    deck_version: str | None
    debt_micros: int
    invoice_micros: int
    balance_micros: int
    account_version: int
    call_type: str
    caller: str | None
    callee: str
    billable_ms: int
    disposition: str
    user_id: str | None
    call_id: str | None
    conference_id: str | None
    source: str | None
    switch: str | None
    answer_ms: int | None
    end_ms: int
    lots: str | None
    flags: str | None
    in_part: int
    in_place: int

    def drawn(self) -> list[tuple[str, int]]:
        """(lot, micro-units taken from it), first in, first out."""
        return [] if self.lots is None else [(lot, micros) for lot, micros in orjson.loads(self.lots)]

    def marks(self) -> list[str]:
        """`no_credit_licence`, `overdrawn`, `late`, `no_plan`"""
        return [] if self.flags is None else list(orjson.loads(self.flags))

    def __repr__(self) -> str:
        """Without the numbers: a repr ends in logs."""
        return f"Usage({self.tenant} {self.record_id} {self.outcome} {self.charge_micros} {self.currency})"


class Told(NamedTuple):
    """One account event as a history keeps it; `body` is its JSON."""

    tenant: str
    time_ms: int
    feed: int
    part: int
    place: int
    event_id: str
    type: str
    account_version: int | None
    body: str

    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads(self.body)["data"]
        return found


class NotARow(ValueError):
    """A line is not what `rater` writes: which field, what was found. Never the line itself, which holds numbers."""


class NewerVersion(NotARow):
    """A line of a version that this rater does not read yet: nobody's fault, and nothing to set aside."""


@lru_cache(maxsize=1 << 16)
def _minute_ms(text: str) -> int:
    """Of `2026-11-03T13:30`; calls of a batch share their minutes."""
    found = parse_instant(f"{text}:00Z")
    if found is None:
        raise ValueError("instant")
    return found


def instant_ms(text: str) -> int:
    """An instant the contract accepted, as the contract reads it: decimals after the third are cut off.

    Two shapes are nearly all there are, and are cut by position; the compiled reader answers for the rest.
    """
    length = len(text)
    if length == 24:
        return _minute_ms(text[:16]) + int(text[17:19] + text[20:23])
    if length == 20:
        return _minute_ms(text[:16]) + int(text[17:19]) * 1000
    found = parse_instant(text)
    if found is None:
        raise ValueError("instant")
    return found


def call_row(line: bytes, feed: int, part: int, place: int) -> Row:
    """One rated call as a row of `CALL_COLUMNS`. Raises `NotARow`."""
    try:
        told = orjson.loads(line)
        if told["v"] != 1:
            raise NewerVersion(f"found version {told['v']!r}; this rater reads 1")
        call = told["call"]
        answer, lots, flags, optional = call["answer"], told["lots"], told["flags"], call.get
        in_part, in_place = told["input"]
        row = (
            told["tenant"], instant_ms(call["start"]), feed, part, place, *_of_rated(told), *_of_call(call),
            optional("user"), optional("call_id"), optional("conference_id"), optional("source"), optional("switch"),
            None if answer is None else instant_ms(answer), instant_ms(call["end"]),
            orjson.dumps(lots).decode() if lots else None, orjson.dumps(flags).decode() if flags else None,
            in_part, in_place,
        )  # fmt: skip
    except orjson.JSONDecodeError:
        raise NotARow("found what is not JSON; expected a rated call") from None
    except NotARow:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NotARow(f"found a line without a usable {_field(error)}; expected a rated call") from None
    return _without_nul(row) if _NUL in line else row


def event_row(line: bytes, feed: int, part: int, place: int) -> Row:
    """One account event as a row of `EVENT_COLUMNS`; its whole JSON stays beside. Raises `NotARow`."""
    try:
        told = orjson.loads(line)
        version = told["data"].get("account_version")
        place_and_time = told["subject"], instant_ms(told["time"]), feed, part, place
        return *place_and_time, told["id"], told["type"], version, line.decode()
    except orjson.JSONDecodeError:
        raise NotARow("found what is not JSON; expected an account event") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NotARow(f"found a line without a usable {_field(error)}; expected an account event") from None


def _without_nul(row: Row) -> Row:
    """PostgreSQL's text cannot hold U+0000, which any free text of a call may: U+FFFD stands for it."""
    return tuple(value.replace("\0", "\ufffd") if isinstance(value, str) else value for value in row)


def _field(error: Exception) -> str:
    """The missing key; of other errors only their kind, because their text may hold a number somebody dialled."""
    return f"{error.args[0]!r}" if isinstance(error, KeyError) else f"field ({type(error).__name__})"
