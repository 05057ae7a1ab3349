"""What a client may change, as it asks for it, and the account command that it becomes.

Command ids and lot ids from here have no colon: those of recharges do (`contoso:recharge:7`), and nobody may take one away from an agent.
"""

import hashlib
from typing import Annotated, Any, Literal, get_args

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict, Field, field_validator

from rater.contract.commands import decode_command
from rater.contract.contacts import CONTACTS_MAX, LANGUAGES, ROLES_MAX, TYPES_TOLD
from rater.core.administration import COMMAND
from rater.core.instants import instant_text
from rater.core.money import AMOUNT_MICROS_MAX
from rater.core.plans import PLANS
from rater.doors.http.tokens import Caller

KEY = "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
INSTANT = (
    r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,3})?Z$"
)
PLAIN = r"^[^\x00-\x1f\x7f]+$"

Plan = Literal[
    "MCOPSTN1", "MCOPSTN2", "MCOPSTN5", "MCOPSTN6", "MCOPSTN8", "MCOPSTN9", "PAYG", "MCOPSTNC", "MCOMEETADD",
    "MCOMEETACPEA", "MCOMEETADD_DIALOUT_US",
]  # fmt: skip
assert set(get_args(Plan)) == set(PLANS)


class Change(BaseModel):
    """What is asked for: nothing is coerced, nothing unknown is passed over."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Funds(Change):
    """Credits, a lot of their own."""

    amount_micros: int = Field(ge=1, le=AMOUNT_MICROS_MAX, description="50 USD are 50000000.")
    lot_id: Annotated[str, Field(pattern=KEY, description="Else the Idempotency-Key.")] | None = None
    expires_at: Annotated[str, Field(pattern=INSTANT, description="Else 12 months from now.")] | None = None

    @field_validator("lot_id")
    @classmethod
    def _of_an_adjustment(cls, lot_id: str | None) -> str | None:
        if lot_id is not None and lot_id.startswith("adj-"):
            raise ValueError("lots of adjustments are called adj-...; expected another name")
        return lot_id


class RechargeChange(Change):
    """When the account recharges itself, and with how much."""

    enabled: bool
    trigger_micros: int = Field(ge=0, le=AMOUNT_MICROS_MAX)
    amount_micros: int = Field(ge=1, le=AMOUNT_MICROS_MAX)


class Contact(Change):
    """Either `email` or `webhook`."""

    email: Annotated[str, Field(max_length=254)] | None = None
    webhook: Annotated[str, Field(max_length=2_000)] | None = None
    language: Literal["en", "fr"] | None = Field(default=None, description="Else en.")
    roles: list[Annotated[str, Field(min_length=1, max_length=64)]] | None = Field(default=None, max_length=ROLES_MAX)
    events: list[str] | None = Field(default=None, description="Event types; without it all: " + " ".join(TYPES_TOLD))


class Contacts(Change):
    """The whole list; it replaces the one before."""

    contacts: list[Contact] = Field(max_length=CONTACTS_MAX)


class Licence(Change):
    """One licence of one user, assigned or removed."""

    change: Literal["assign", "remove"]
    user: str = Field(min_length=1, max_length=128, pattern=PLAIN)
    plan: Plan
    country: str = Field(pattern="^[A-Z]{2}$", description="The user's licence location.")


assert LANGUAGES == ("en", "fr")


def command_of(change: Change, tenant: str, key: str, caller: Caller, now_ms: int) -> dict[str, Any]:
    """The command's fields. `at` is now: time enters an account as data, and this is where it becomes data."""
    told: dict[str, Any] = {"command_id": key, "tenant": tenant, "type": type_of(change), "at": instant_text(now_ms)}
    told["by"] = f"{caller.label} (api token {caller.token_id})"
    if isinstance(change, Contacts):
        return told | {"contacts": [contact.model_dump(exclude_none=True) for contact in change.contacts]}
    fields = change.model_dump(exclude_none=True, exclude={"change"})
    if isinstance(change, Funds):
        fields.setdefault("lot_id", key)
    return told | fields


def type_of(change: Change) -> str:
    if isinstance(change, Licence):
        return "licence.assigned" if change.change == "assign" else "licence.removed"
    known = {Funds: "funds.added", RechargeChange: "recharge.configured", Contacts: "contacts.set"}
    return known[type(change)]


def digest_of_change(change: Change) -> bytes:
    """The same for a request that is sent again, whatever the time is by then."""
    told = {"type": type_of(change), "asked": change.model_dump(mode="json")}
    return hashlib.sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS)).digest()


def content_of_body(body: bytes) -> tuple[int, str]:
    """(What the engine knows the command's content by, why it would not even be read: empty where it would)."""
    row = np.zeros(1, COMMAND).view(np.recarray)[0]
    _, detail = decode_command(row, body)
    return int(row.content), detail or ("the command cannot be read" if row.reason else "")
