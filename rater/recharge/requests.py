"""What account events say about recharges: one was requested, or one is closed."""

from dataclasses import dataclass
from typing import Any

import orjson

from rater.core.instants import parse_instant

REQUESTED = "rater.recharge.requested"
SUCCEEDED = "rater.recharge.succeeded"
FAILED = "rater.recharge.failed"


class Unreadable(Exception):
    """An account event that is none; the text says what was found and what was expected."""


@dataclass(frozen=True, slots=True)
class Request:
    """A balance fell below its trigger: collect `amount_micros` from the tenant. `recharge_id` names it for ever.

    `by_command`: a command led to it (a new card, a new trigger) and not a call; a declined card is then worth another try.
    """

    recharge_id: str
    tenant: str
    amount_micros: int
    currency: str
    at: str
    by_command: bool = False

    @property
    def at_ms(self) -> int:
        return parse_instant(self.at) or 0


@dataclass(frozen=True, slots=True)
class Closed:
    """The engine has taken an outcome. `lot_id` is the lot of a success, empty for a failure."""

    recharge_id: str
    tenant: str
    at: str
    lot_id: str = ""
    amount_micros: int = 0
    reason: str = ""

    @property
    def succeeded(self) -> bool:
        return bool(self.lot_id)


def read_event(value: bytes | None) -> Request | Closed | None:
    """An account event; None for one that is not about recharges. Raises `Unreadable`."""
    try:
        event = orjson.loads(value or b"")
    except orjson.JSONDecodeError as error:
        raise Unreadable(f"not JSON: {error}; expected an account event") from None
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise Unreadable("no object with a `type`; expected an account event")
    kind = event["type"]
    if kind not in (REQUESTED, SUCCEEDED, FAILED):
        return None
    data = event.get("data")
    if not isinstance(data, dict):
        raise Unreadable(f"{kind} without data; expected an object")
    tenant, at = _text(event, "subject", kind), _text(event, "time", kind)
    if parse_instant(at) is None:
        raise Unreadable(f"{kind}: time is {at!r}; expected an instant such as 2026-11-03T13:30:00.200Z")
    recharge_id = _text(data, "recharge_id", kind)
    if kind == REQUESTED:
        return Request(
            recharge_id, tenant, _amount(data, kind), _text(data, "currency", kind), at, data.get("cause") == "command"
        )
    if kind == SUCCEEDED:
        return Closed(recharge_id, tenant, at, _text(data, "lot_id", kind), _amount(data, kind))
    return Closed(recharge_id, tenant, at, reason=_text(data, "reason", kind))


def _text(fields: dict[str, Any], name: str, kind: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise Unreadable(f"{kind}: {name} is missing; expected text")
    return value


def _amount(data: dict[str, Any], kind: str) -> int:
    value = data.get("amount_micros")
    if type(value) is not int or value <= 0:
        raise Unreadable(f"{kind}: amount_micros is {value!r}; expected a whole number above 0")
    return value
