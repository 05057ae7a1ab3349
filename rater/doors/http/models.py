"""The shapes of answers, for the OpenAPI document: amounts in micro-units of the currency, instants in UTC with Z.

Answers are written by those who know them; a test holds every answer against these shapes. Later versions may add fields.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Shape(BaseModel):
    """More fields may come; those that are here stay."""

    model_config = ConfigDict(extra="allow")


class Problem(Shape):
    """RFC 9457"""

    type: str
    title: str
    status: int
    detail: str = Field(description="What was found, what was expected.")


class Reflected(Shape):
    """Everything before this offset is in the answer."""

    feed: str
    topic: str
    partition: int
    offset: int


class Call(Shape):
    """One rated call."""

    record_id: str
    start: str
    end: str
    outcome: str
    charge_micros: int
    currency: str
    billed_minutes: int
    pool: str | None
    pool_minutes: int
    credit_minutes: int
    call_type: str
    user_id: str | None
    caller: str | None
    callee: str
    capability: str | None
    lots: list[list[Any]]
    flags: list[str]


class UsagePage(Shape):
    calls: list[Call]
    next: str | None = Field(description="Send it as `after` for the page behind; null at the end.")
    reflects: list[Reflected]


class AfterPoolCall(Call):
    pool_ended: str
    why: str = Field(description="straddled: the pool paid a part of it; ended: nothing was left.")


class AfterPool(Shape):
    charge_micros: int
    calls: list[AfterPoolCall]
    reflects: list[Reflected]


class Recharge(Shape):
    recharge_id: str
    state: str
    requested_at: str | None
    asked_micros: int | None
    closed_at: str | None
    paid_micros: int | None
    reason: str | None


class Recharges(Shape):
    recharges: list[Recharge]
    reflects: list[Reflected]


class EventPage(Shape):
    events: list[dict[str, Any]] = Field(description="CloudEvents, as in the topic account-events.")
    next: str | None
    reflects: list[Reflected]


class Day(Shape):
    day: str
    currency: str
    calls: int
    connected: int
    charge_micros: int
    billed_minutes: int
    pool_minutes: int
    credit_minutes: int


class Daily(Shape):
    days: list[Day]
    reflects: list[Reflected]


class Standing(Shape):
    """The committed state that answered: batches of the partition, and the offsets before which everything is in it."""

    partition: int
    batch: int
    next_cdr: int
    next_command: int


class RechargeSettings(Shape):
    enabled: bool
    trigger_micros: int
    amount_micros: int
    in_flight: str | None


class Balance(Shape):
    tenant: str
    currency: str
    billing_mode: str
    balance_micros: int
    held_micros: int = Field(
        description="Set aside for calls that were authorized and whose record has not come; not taken off the balance."
    )
    open_calls: int = Field(description="How many such calls there are.")
    debt_micros: int
    invoice_micros: int
    blocked: bool
    recharge: RechargeSettings
    account_version: int
    last_seen: str
    reflects: Standing


class Lot(Shape):
    lot_id: str
    left_micros: int
    amount_micros: int
    added_at: str
    expires_at: str | None


class Lots(Shape):
    tenant: str
    currency: str
    lots: list[Lot]
    reflects: Standing


class Pool(Shape):
    pool: str
    total: int
    used: int
    left: int
    held: int = Field(description="Of what is left: minutes set aside for calls that were authorized.")
    percent: float | None = Field(description="Of the total that is used; null where no licence gives minutes now.")


class Pools(Shape):
    tenant: str
    pools: list[Pool]
    reflects: Standing


class Account(Balance):
    """Everything the books hold."""

    lots: list[Lot]
    licences: list[dict[str, Any]]
    numbers: list[dict[str, Any]]
    months: list[dict[str, Any]]


class Placed(Shape):
    partition: int
    offset: int


class Command(Shape):
    """One accepted change."""

    id: str
    tenant: str
    command_id: str
    type: str
    state: str = Field(description="begun, accepted, applied or rejected; begun: send the same request again.")
    received_at: str
    placed: Placed | None = Field(description="Where it lies in the topic account-commands.")
    batch: int | None = Field(description="The partition had committed this batch when it was seen to be decided.")
    decided_at: str | None
    reason: str | None = Field(description="Why it was rejected.")


class AuditEntry(Command):
    """Who, what, before, after; null where it could not be known."""

    number: int
    who: str
    token: str
    command: dict[str, Any]
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class Audit(Shape):
    changes: list[AuditEntry]
    next: int | None


class Held(Shape):
    """What is set aside for the call."""

    pool: str | None
    pool_minutes: int
    amount_micros: int
    currency: str


class After(Shape):
    """Everything before this command of the partition is in the answer."""

    partition: int
    next_command: int


class Authorization(Shape):
    """Whether the call may start. `payer`, `seconds`, `expires_at`, `held` where it may; `reason` and `detail` where not."""

    allowed: bool
    call_id: str
    payer: str | None = Field(
        default=None,
        description="pool, credits, pool_and_credits, invoice, pool_and_invoice, nobody (the call is free).",
    )
    seconds: int | None = Field(default=None, description="How long the call may last; ask again before, to extend it.")
    expires_at: str | None = Field(default=None, description="When what is held is free again without a call record.")
    held: Held | None = None
    reason: str | None = Field(default=None, description="no_credit, no_credit_licence, no_rate.")
    detail: str | None = None
    balance_micros: int
    held_micros: int = Field(description="Of all open calls of the account, this one included.")
    currency: str
    account_version: int
    reflects: After


class Health(Shape):
    alive: bool


class Ready(Shape):
    ready: bool
    following: bool | None = Field(description="Whether it hears what workers commit; null where it has no brokers.")


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text, "content": {"application/problem+json": {}}}
    for status, text in {
        400: "The question is wrong.",
        401: "No token in force.",
        403: "The token's scope is too small.",
        404: "No such tenant, or not the token's.",
        413: "The body is too large.",
        414: "The address is too long.",
        422: "A field is wrong.",
        429: "Too many requests.",
        431: "Too many headers, or too long ones.",
        503: "What would answer cannot be reached now.",
    }.items()
}
