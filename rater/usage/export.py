"""A rated call as a row of the PSTN usage export that customers know: names and order of charging-rules 4.3.

What a rated call does not say stays empty: the display name (a directory's), the number type. A user is an object id where it
looks like one, else a sign-in name. The user's location is the country of the plan whose pool paid; a call that no pool paid
does not name it. `UsageId` is the record id.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rater.usage.cells import connected_seconds, is_inbound, masked_parties
from rater.usage.rows import Usage

TEXT, COUNT, AMOUNT, INSTANT = "text", "count", "amount", "instant"  # instants in ms, amounts in micro-units

GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name in the export, what kind of value it has, and where the value is."""

    name: str
    kind: str
    value: Callable[[Usage, tuple[str | None, str]], Any]  # of a call and its (caller, callee) as they may be shown


def object_id(usage: Usage) -> str | None:
    return usage.user_id if usage.user_id and GUID.fullmatch(usage.user_id) else None


def sign_in(usage: Usage) -> str | None:
    return None if object_id(usage) else usage.user_id


def location(usage: Usage) -> str | None:
    """GB of `GB/MCOPSTN1/domestic/2026-11`; the conference pool (`*`) is nobody's country."""
    if usage.pool is None or usage.pool.startswith("*"):
        return None
    return usage.pool.split("/", 1)[0]


def external_country(usage: Usage) -> str | None:
    """The other party's country: known of who was called, not of who called."""
    return None if is_inbound(usage.call_type) else usage.country


USAGE = (
    Column("UsageId", TEXT, lambda u, _: u.record_id),
    Column("Call ID", TEXT, lambda u, _: u.call_id),
    Column("Conference ID", TEXT, lambda u, _: u.conference_id),
    Column("User Location", TEXT, lambda u, _: location(u)),
    Column("AAD ObjectId", TEXT, lambda u, _: object_id(u)),
    Column("UPN", TEXT, lambda u, _: sign_in(u)),
    Column("User Display Name", TEXT, lambda _u, _: None),
    Column("Caller ID", TEXT, lambda _u, parties: parties[0]),
    Column("Destination Number", TEXT, lambda _u, parties: parties[1]),
    Column("Call Type", TEXT, lambda u, _: u.call_type),
    Column("Number Type", TEXT, lambda _u, _: None),
    Column("Domestic/International", TEXT, lambda u, _: u.context),
    Column("Destination Dialed", TEXT, lambda u, _: u.destination or u.country),
    Column("Start Time", INSTANT, lambda u, _: u.start_ms),
    Column("End Time", INSTANT, lambda u, _: u.end_ms),
    Column("Duration Seconds", COUNT, lambda u, _: connected_seconds(u.billable_ms, u.outcome)),
    Column("Connection Fee", AMOUNT, lambda u, _: u.fee_micros),
    Column("Charge", AMOUNT, lambda u, _: u.charge_micros),
    Column("Currency", TEXT, lambda u, _: u.currency),
    Column("Capability", TEXT, lambda u, _: u.capability),
)
# Of the newer export; the first two say what a switch would have to tell us.
NEWER = (
    Column("Operator", TEXT, lambda _u, _: None),
    Column("Source of Call Duration", TEXT, lambda u, _: u.source),
    Column("Call Direction", TEXT, lambda u, _: "Inbound" if is_inbound(u.call_type) else "Outbound"),
    Column("External Country", TEXT, lambda u, _: external_country(u)),
)
# What the export of the portal does not say and its users ask for: who paid which part, and at which price.
DETAIL = (
    Column("Outcome", TEXT, lambda u, _: u.outcome),
    Column("Billed Minutes", COUNT, lambda u, _: u.billed_minutes),
    Column("Pool", TEXT, lambda u, _: u.pool),
    Column("Pool Minutes", COUNT, lambda u, _: u.pool_minutes),
    Column("Credit Minutes", COUNT, lambda u, _: u.credit_minutes),
    Column("Charge Micros", COUNT, lambda u, _: u.charge_micros),
    Column("Rate Nanos Per Minute", COUNT, lambda u, _: u.rate_nanos),
    Column("Prefix", TEXT, lambda u, _: u.prefix),
    Column("Lots", TEXT, lambda u, _: u.lots),
    Column("Debt Micros", COUNT, lambda u, _: u.debt_micros),
    Column("Deck", TEXT, lambda u, _: u.deck),
    Column("Deck Version", TEXT, lambda u, _: u.deck_version),
    Column("Flags", TEXT, lambda u, _: u.flags),
    Column("Account Version", COUNT, lambda u, _: u.account_version),
)
COLUMNS = {"usage": USAGE, "newer": USAGE + NEWER, "detail": USAGE + NEWER + DETAIL}


def export_row(usage: Usage, columns: tuple[Column, ...], hidden: int) -> list[Any]:
    """The values of a call, amounts still in micro-units and instants in ms; `hidden` digits of the external number go."""
    parties = masked_parties(usage.caller, usage.callee, usage.call_type, hidden)
    return [column.value(usage, parties) for column in columns]
