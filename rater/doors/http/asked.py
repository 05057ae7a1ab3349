"""What a switch asks before it connects a call, the command that the question becomes, and what the engine's word means in HTTP."""

from typing import Annotated, Any, Literal, get_args

import orjson
from pydantic import Field, TypeAdapter, field_validator

from rater.contract.commands import CALL_SECONDS, CALL_SECONDS_MAX, HOLD_LONGER_S, HOLD_SECONDS_MAX
from rater.core import authorizing
from rater.core.calls import CALL_TYPES
from rater.core.instants import instant_text
from rater.doors.http.access import NO_TENANT
from rater.doors.http.changes import PLAIN, Change
from rater.doors.http.problems import Problem
from rater.doors.http.tokens import Caller

AUTHORIZE_COMMAND = "call.authorize"
TEXT_BYTES_MAX = 128

Number = Annotated[str, Field(pattern=r"^\+[0-9]{3,15}$")]
Text = Annotated[str, Field(min_length=1, max_length=TEXT_BYTES_MAX, pattern=PLAIN)]
CallType = Literal[
    "user_out", "user_out_conf", "user_out_transfer", "user_out_forwarding", "user_in", "conf_out", "conf_in", "ucap_out",
    "ucap_in", "unassigned_in", "emergency", "dr_in", "dr_out", "dr_out_user_conf", "dr_out_user_forwarding",
    "dr_out_user_transfer", "dr_emergency_out", "dr_unassigned_in", "dr_in_bot", "dr_in_ucap", "dr_out_bot", "dr_out_ucap",
]  # fmt: skip
assert get_args(CallType) == CALL_TYPES

REFUSALS = {
    "no_credit": "no pool and no credits are left for a minute of this call",
    "no_credit_licence": "no pool pays for this call, and this user has no licence that lets credits pay",
    "no_rate": "the rate deck has no price for this number",
}
assert (*REFUSALS,) == authorizing.REFUSALS[1:]


class Question(Change):
    """May this call start, and for how long?"""

    tenant: Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    call_id: Annotated[
        Text, Field(description="The switch's own name of the call; its call record must carry the same.")
    ]
    call_type: CallType
    user: Annotated[Text, Field(description="Who pays within the tenant; needed for user_* and conf_*.")] | None = None
    caller: Number | None = None
    callee: Number
    seconds: int | None = Field(
        default=None,
        ge=1,
        le=CALL_SECONDS_MAX,
        description=f"The longest that the switch would let it last; else {CALL_SECONDS}.",
    )
    hold_seconds: int | None = Field(
        default=None,
        ge=1,
        le=HOLD_SECONDS_MAX,
        description=f"When what is held is free again; else seconds + {HOLD_LONGER_S}.",
    )

    @field_validator("call_id", "user")
    @classmethod
    def _fits(cls, text: str | None) -> str | None:
        if text is not None and len(text.encode()) > TEXT_BYTES_MAX:
            raise ValueError(f"expected at most {TEXT_BYTES_MAX} bytes of UTF-8")
        return text


read_question = TypeAdapter(Question).validate_json  # compiled once


def command_of_question(question: Question, command_id: str, caller: Caller, now_ms: int) -> bytes:
    """`at` is now: from then on the hold is counted."""
    told: dict[str, Any] = {"command_id": command_id, "tenant": question.tenant, "type": AUTHORIZE_COMMAND}
    told |= {"at": instant_text(now_ms), "by": f"{caller.label} (api token {caller.token_id})"}
    fields = question.__dict__
    return orjson.dumps(told | {name: fields[name] for name in _FIELDS if fields[name] is not None})


_FIELDS = tuple(name for name in Question.model_fields if name != "tenant")


def answer_of(event: dict[str, Any]) -> dict[str, Any]:
    """The body of a 200, from the engine's event."""
    data = event["data"]
    partition, offset = data["input"]
    told = {
        "allowed": event["type"] == "rater.call.authorized",
        "call_id": data["call_id"],
        "balance_micros": data["balance_micros"],
        "held_micros": data["held_micros"],
        "currency": data["currency"],
        "account_version": data["account_version"],
        "reflects": {"partition": partition, "next_command": offset + 1},
    }
    if told["allowed"]:
        held = {name: data[name] for name in ("pool", "pool_minutes", "amount_micros", "currency")}
        more = {"payer": data["payer"], "seconds": data["seconds"], "expires_at": data["expires_at"], "held": held}
    else:
        more = {"reason": data["reason"], "detail": REFUSALS.get(data["reason"], "the call may not start")}
    return told | more


def problem_of(reason: str, detail: str) -> Problem:
    """Of a question that the engine did not take."""
    if reason == "unknown_tenant":
        return Problem(404, NO_TENANT)
    if reason == "unknown_command":
        return Problem(503, "the workers are older than this API and authorize no calls", {"Retry-After": "60"})
    return Problem(422, f"body {detail or reason}")
