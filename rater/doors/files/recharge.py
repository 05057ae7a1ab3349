"""The embedded door's own answer to a recharge request: approve or decline at once, by the decisions of the recharge agent."""

from typing import Any

from rater.pipeline import Respond
from rater.recharge.answers import Approved, Declined, Verdict, settle
from rater.recharge.requests import Request

IN_A_ROW_MAX = 100


def responder(mode: str) -> Respond | None:
    """`approve` or `decline`; None for `none`, which leaves a request in flight.

    A tenant whose recharge is too small for its debt would be recharged for ever at one record; after 100 approvals behind
    one record the next is declined. It takes effect at the instant of the request: no machine's clock enters a file.
    """
    if mode == "none":
        return None

    def respond(data: dict[str, Any], in_a_row: int) -> bytes:
        request = Request(data["recharge_id"], data["tenant"], data["amount_micros"], data["currency"], data["time"])
        return settle(request, _answer(request, mode, in_a_row), f"rater rate --recharge {mode}", request.at_ms).command

    return respond


def _answer(request: Request, mode: str, in_a_row: int) -> Verdict:
    if mode == "approve" and in_a_row <= IN_A_ROW_MAX:
        return Approved(request.amount_micros, request.currency, at=request.at)
    if mode == "approve":
        return Declined(f"{IN_A_ROW_MAX} recharges in a row did not reach the trigger", at=request.at)
    return Declined("the card was declined (--recharge decline)", at=request.at)
