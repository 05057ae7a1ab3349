"""The recharges of a tenant, each with its beginning and its end, from the account events."""

from collections.abc import Iterable
from dataclasses import dataclass

from rater.usage.rows import Told

REQUESTED, SUCCEEDED, FAILED = "rater.recharge.requested", "rater.recharge.succeeded", "rater.recharge.failed"
RECHARGE_EVENTS = (REQUESTED, SUCCEEDED, FAILED)


@dataclass(slots=True)
class Recharge:
    """One recharge. `state`: pending, succeeded or failed. Instants UTC ms, amounts micro-units; None where not known."""

    recharge_id: str
    state: str = "pending"
    currency: str | None = None
    requested_ms: int | None = None
    asked_micros: int | None = None
    trigger_micros: int | None = None
    balance_before_micros: int | None = None
    closed_ms: int | None = None
    paid_micros: int | None = None
    lot_id: str | None = None
    reason: str | None = None
    balance_after_micros: int | None = None


def recharges(events: Iterable[Told]) -> list[Recharge]:
    """In the order in which they were first heard of; `events` of one tenant in the order of its log."""
    found: dict[str, Recharge] = {}
    for event in events:
        data = event.data()
        name = data.get("recharge_id")
        if event.type not in RECHARGE_EVENTS or name is None:
            continue
        recharge = found.setdefault(name, Recharge(name))
        recharge.currency = data.get("currency")
        if event.type == REQUESTED:
            recharge.requested_ms, recharge.asked_micros = event.time_ms, data["amount_micros"]
            recharge.trigger_micros, recharge.balance_before_micros = data["trigger_micros"], data["balance_micros"]
            continue
        recharge.closed_ms, recharge.balance_after_micros = event.time_ms, data.get("balance_micros")
        recharge.state = "succeeded" if event.type == SUCCEEDED else "failed"
        recharge.paid_micros = data.get("amount_micros") if event.type == SUCCEEDED else None
        recharge.lot_id, recharge.reason = data.get("lot_id"), data.get("reason")
    return list(found.values())
