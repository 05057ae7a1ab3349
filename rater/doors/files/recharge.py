"""The embedded door's own answer to a recharge request: approve or decline at once, as a command like any other."""

from typing import Any

import orjson

from rater.pipeline import Respond

IN_A_ROW_MAX = 100


def responder(mode: str) -> Respond | None:
    """`approve` or `decline`; None for `none`, which leaves a request in flight.

    A tenant whose recharge is too small for its debt would be recharged for ever at one record; after 100 approvals behind
    one record the next is declined.
    """
    if mode == "none":
        return None

    def respond(request: dict[str, Any], in_a_row: int) -> bytes:
        tenant, at, recharge_id = request["tenant"], request["time"], request["recharge_id"]
        common = {"tenant": tenant, "at": at, "by": f"rater rate --recharge {mode}", "recharge_id": recharge_id}
        if mode == "approve" and in_a_row <= IN_A_ROW_MAX:
            return orjson.dumps(
                {"command_id": f"{recharge_id}:approved", "type": "funds.added", "lot_id": recharge_id,
                 "amount_micros": request["amount_micros"], **common}
            )  # fmt: skip
        reason = "declined by --recharge decline"
        if mode == "approve":
            reason = f"{IN_A_ROW_MAX} recharges in a row did not reach the trigger"
        return orjson.dumps(
            {"command_id": f"{recharge_id}:declined", "type": "recharge.failed", "reason": reason, **common}
        )

    return respond
