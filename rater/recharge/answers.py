"""What a payment provider answers, and the command it becomes. Funds are never added for what was not asked.

An approval of another amount or currency is a failed recharge with a reason, and a payment that somebody has to give back: it is
named. The command's id is the recharge's and the verdict, so the engine applies it once, however often it is published.
"""

from dataclasses import dataclass
from typing import Any

import orjson

from rater.core.instants import instant_text, parse_instant
from rater.recharge.amounts import amount_text
from rater.recharge.requests import Request

REASON_MAX = 500


@dataclass(frozen=True, slots=True)
class Approved:
    """Money was taken. `reference` is the provider's name of the payment; `at` when, by the provider, if it says so."""

    amount_micros: int
    currency: str
    reference: str = ""
    at: str | None = None


@dataclass(frozen=True, slots=True)
class Declined:
    """No money was taken, and none will be. `reason` is for the person who has to do something about it."""

    reason: str
    reference: str = ""
    at: str | None = None


@dataclass(frozen=True, slots=True)
class Pending:
    """The provider has it and will say later."""

    reference: str = ""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The provider has never heard of this recharge."""


Answer = Approved | Declined | Pending
Verdict = Approved | Declined

APPROVED, DECLINED, WRONG, REFUSED = "approved", "declined", "wrong", "refused"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is published for a recharge, and what a person has to be told. `refund` names money to give back, in a sentence."""

    verdict: str  # approved, declined, wrong (the provider took what was not asked), refused (by a guard, never asked)
    command: bytes
    reason: str = ""
    refund: str = ""


def settle(request: Request, answer: Verdict, by: str, now_ms: int) -> Outcome:
    """The command that closes a recharge. It takes effect when the provider decided, else now; never before it was requested."""
    at = _instant(request, answer.at, now_ms)
    if isinstance(answer, Declined):
        reason = " ".join(answer.reason.split())[:REASON_MAX] or "declined without a reason"
        return Outcome(DECLINED, _failed(request, at, by, reason), reason)
    if (answer.amount_micros, answer.currency) != (request.amount_micros, request.currency):
        return _wrong(request, answer, by, at)
    return Outcome(APPROVED, _funds(request, at, by))


def refuse(request: Request, reason: str, by: str, now_ms: int) -> Outcome:
    """A recharge that is not asked for; the customer and the operator read why."""
    return Outcome(REFUSED, _failed(request, _instant(request, None, now_ms), by, reason), reason)


def _wrong(request: Request, answer: Approved, by: str, at: str) -> Outcome:
    asked = amount_text(request.amount_micros, request.currency)
    taken = amount_text(answer.amount_micros, answer.currency)
    payment = answer.reference or "without a reference"
    reason = f"the payment provider took {taken} where {asked} was asked (payment {payment}); nothing was added, it is to be refunded"
    refund = f"{request.recharge_id}: refund payment {payment}: {taken} was taken where {asked} was asked"
    return Outcome(WRONG, _failed(request, at, by, reason), reason, refund)


def contradiction(request: Request, settled: str, late: Verdict) -> str:
    """What a person has to do about an answer that comes when the recharge is settled otherwise; empty for nothing.

    `settled` is the verdict published. An approval of what failed is money without funds; a decline of what was approved is funds
    without money, maybe: only the provider's own books say which of its two answers holds.
    """
    if isinstance(late, Approved) and settled != APPROVED:
        taken = amount_text(late.amount_micros, late.currency)
        payment = late.reference or "without a reference"
        if settled == WRONG:
            return ""  # that payment was named when it was found out
        return f"{request.recharge_id}: refund payment {payment}: {taken} was approved after the recharge had failed"
    if isinstance(late, Declined) and settled == APPROVED:
        return f"{request.recharge_id}: ask the provider: it declined ({late.reason}) after it had approved, and the funds are added"
    if isinstance(late, Approved) and (late.amount_micros, late.currency) != (request.amount_micros, request.currency):
        taken, asked = (
            amount_text(late.amount_micros, late.currency),
            amount_text(request.amount_micros, request.currency),
        )
        return f"{request.recharge_id}: ask the provider: it says now that it took {taken}, and said {asked} before"
    return ""


def _instant(request: Request, decided: str | None, now_ms: int) -> str:
    decided_ms = parse_instant(decided) if decided is not None else None
    return instant_text(max(now_ms if decided_ms is None else decided_ms, request.at_ms))


def _funds(request: Request, at: str, by: str) -> bytes:
    return orjson.dumps(
        {"command_id": f"{request.recharge_id}:approved", "type": "funds.added", "lot_id": request.recharge_id,
         "amount_micros": request.amount_micros, **_common(request, at, by)}
    )  # fmt: skip


def _failed(request: Request, at: str, by: str, reason: str) -> bytes:
    return orjson.dumps(
        {"command_id": f"{request.recharge_id}:declined", "type": "recharge.failed", "reason": reason, **_common(request, at, by)}
    )  # fmt: skip


def _common(request: Request, at: str, by: str) -> dict[str, Any]:
    return {"tenant": request.tenant, "at": at, "by": by, "recharge_id": request.recharge_id}
