"""News -> account events: CloudEvents 1.0, structured JSON (topic `account-events`).

`id` is a function of what happened (tenant, type, period, crossing), `time` comes from the data.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import orjson

from rater.contract.rated import put_pool_name
from rater.core.authorizing import PAYERS, REFUSALS
from rater.core.calls import CALL_TYPES, REFUSED_WITHOUT_CREDIT
from rater.core.holds import HELD
from rater.core.instants import DAY_MS, NEVER_MS, day_text, instant_text, month_text
from rater.core.months import CALLS, CHARGE, CONNECTED, CREDIT_MINUTES, INVOICE, LATE, POOL_MINUTES
from rater.core.thresholds import (
    BALANCE_ZERO,
    CALL_AUTHORIZED,
    CALL_REFUSED,
    CONTACTS_SET,
    HOLD_EXPIRED,
    LOT_EXPIRED,
    LOT_EXPIRING,
    MONTH_CLOSED,
    POOL_REACHED,
    RATE_MISSING,
    RECHARGE_FAILED,
    RECHARGE_REQUESTED,
    RECHARGE_SUCCEEDED,
    SERVICE_BLOCKED,
    SERVICE_RESTORED,
)

Array = np.ndarray[Any, Any]

EVENT_TYPES = {
    POOL_REACHED: "pool.reached",
    RECHARGE_REQUESTED: "recharge.requested",
    RECHARGE_SUCCEEDED: "recharge.succeeded",
    RECHARGE_FAILED: "recharge.failed",
    BALANCE_ZERO: "balance.zero",
    SERVICE_BLOCKED: "service.blocked",
    SERVICE_RESTORED: "service.restored",
    LOT_EXPIRED: "lot.expired",
    RATE_MISSING: "rate.missing",
    CONTACTS_SET: "contacts.set",
    LOT_EXPIRING: "lot.expiring",
    MONTH_CLOSED: "month.closed",
    CALL_AUTHORIZED: "call.authorized",
    CALL_REFUSED: "call.refused",
    HOLD_EXPIRED: "authorization.expired",
}

# Told to the switch that asked, thousands an hour: no contact is told of them.
ANSWERS = frozenset(f"rater.{EVENT_TYPES[kind]}" for kind in (CALL_AUTHORIZED, CALL_REFUSED, HOLD_EXPIRED))


class News(NamedTuple):
    """A row of NEWS as plain Python values: reading fields of numpy records one by one takes longer than all the rest."""

    kind: int
    record: int
    is_call: int
    account: int
    version: int
    at_ms: int
    balance_micros: int
    number: int
    amount_micros: int
    until_ms: int
    pool: int
    used: int
    capacity: int
    totals: list[int]
    name_length: int
    name: bytes


def plain(rows: Array) -> Array:
    """The same rows without attribute access: a field is then a quick look-up."""
    return rows.view(np.ndarray)


def read_news(rows: Array) -> list[News]:
    """NEWS rows, column by column."""
    table = plain(rows)
    columns = [table[name].tolist() for name in News._fields[:-1]]
    names = [name.tobytes() for name in table["name"]]
    return [News(*values) for values in zip(*columns, names, strict=True)]


def row_name(row: Any) -> str:
    """The name a row carries as raw characters (tenant, lot, digits)."""
    return bytes(row.name[: row.name_length]).decode()


def json_name(row: Any) -> str:
    """The name of a user, kept in JSON text form."""
    name: str = orjson.loads(b'"' + bytes(row.name[: row.name_length]) + b'"')
    return name


def currency_text(currency: int) -> str:
    return int(currency).to_bytes(3, "big").decode()


def pool_name(pool: Any, users: Array) -> str:
    """As a rated call writes it."""
    out = np.zeros(400, np.uint8)
    end = put_pool_name(out, 0, pool, users)
    name: str = orjson.loads(b'"' + out[:end].tobytes() + b'"')
    return name


def recharge_id(tenant: str, number: int) -> str:
    return f"{tenant}:recharge:{int(number)}"


@dataclass(frozen=True, slots=True)
class Cause:
    """What made the news: a command's fields, or a call's type and record id."""

    command: dict[str, Any] | None
    call_type: str
    record_id: str
    input: list[int]


@dataclass(frozen=True, slots=True)
class Shown:
    """The rows an event is told from."""

    accounts: Array  # `plain`
    pools: Array
    users: Array


Details = tuple[str, dict[str, Any]]


def _pool_reached(news: Any, shown: Shown, tenant: str, cause: Cause) -> Details:
    name = pool_name(shown.pools[news.pool], shown.users)
    data = {"percent": int(news.number), "pool": name, "capacity": int(news.capacity), "used": int(news.used)}
    return f"{name}/{int(news.number)}", data


def _money(news: Any, shown: Shown) -> dict[str, Any]:
    return {
        "balance_micros": int(news.balance_micros),
        "currency": currency_text(shown.accounts["currency"][news.account]),
    }


def _recharge_requested(news: Any, shown: Shown, tenant: str, cause: Cause) -> Details:
    asked = {
        "recharge_id": recharge_id(tenant, news.number),
        "amount_micros": int(news.amount_micros),
        "trigger_micros": int(news.capacity),
    }
    return str(int(news.number)), asked | _money(news, shown)


def _recharge_succeeded(news: Any, shown: Shown, tenant: str, cause: Cause) -> Details:
    command = cause.command or {}
    told = {k: command.get(k) for k in ("recharge_id", "lot_id")} | {"amount_micros": int(news.amount_micros)}
    return str(command.get("command_id")), told | _money(news, shown)


def _recharge_failed(news: Any, shown: Shown, tenant: str, cause: Cause) -> Details:
    command = cause.command or {}
    told = {k: command.get(k) for k in ("recharge_id", "reason")}
    wait = {"failures": int(news.number), "next_attempt_after": instant_text(news.until_ms)}
    return str(command.get("command_id")), told | _money(news, shown) | wait


def _balance_zero(news: Any, shown: Shown, tenant: str, cause: Cause) -> Details:
    return str(int(news.number)), _money(news, shown) | {"crossing": int(news.number)}


def _service(news: Any, shown: Shown, tenant: str, cause: Cause) -> Details:
    return str(int(news.number)), {"call_types": list(REFUSED_WITHOUT_CREDIT)} | _money(news, shown)


def _lot_expired(news: Any, shown: Shown, tenant: str, cause: Cause) -> Details:
    name = row_name(news)
    told = {
        "lot_id": name,
        "forfeited_micros": int(news.amount_micros),
        "expires_at": instant_text(news.until_ms) if news.until_ms < NEVER_MS else None,
    }
    return name, told | _money(news, shown)


def _lot_expiring(news: Any, shown: Shown, tenant: str, cause: Cause) -> Details:
    name = row_name(news)
    told = {"lot_id": name, "left_micros": int(news.amount_micros), "expires_at": instant_text(news.until_ms)}
    return name, told | _money(news, shown)


def _month_closed(news: Any, shown: Shown, tenant: str, cause: Cause) -> Details:
    month, sums = month_text(news.number), news.totals
    told = {
        "month": month,
        "calls": sums[CALLS],
        "connected_calls": sums[CONNECTED],
        "charge_micros": sums[CHARGE],
        "invoice_micros": sums[INVOICE],
        "pool_minutes": sums[POOL_MINUTES],
        "credit_minutes": sums[CREDIT_MINUTES],
        "late_calls": sums[LATE],
    }
    return month, told | _money(news, shown)


def _contacts_set(news: Any, shown: Shown, tenant: str, cause: Cause) -> Details:
    """The contacts as `read_contacts` left them in the command's fields."""
    command = cause.command or {}
    return str(command.get("command_id")), {"contacts": command.get("contacts")}


def _rate_missing(news: Any, shown: Shown, tenant: str, cause: Cause) -> Details:
    digits, day = row_name(news), day_text(int(news.number) * DAY_MS)
    told = {"digits": digits, "day": day, "call_type": cause.call_type, "record_id": cause.record_id}
    return f"{digits}/{day}", told


def _held(news: Any, shown: Shown) -> dict[str, Any]:
    """What a hold keeps, and what all holds of the account keep after this."""
    return {
        "pool": pool_name(shown.pools[news.pool], shown.users) if news.pool >= 0 else None,
        "pool_minutes": int(news.used),
        "amount_micros": int(news.amount_micros),
        "expires_at": instant_text(news.until_ms),
        "held_micros": int(news.totals[HELD]),
    }


def _call_authorized(news: Any, shown: Shown, tenant: str, cause: Cause) -> Details:
    command = cause.command or {}
    told = {k: command.get(k) for k in ("call_id", "call_type")}
    granted = {"payer": PAYERS[int(news.capacity)], "seconds": int(news.number)}
    return str(command.get("command_id")), told | granted | _held(news, shown) | _money(news, shown)


def _call_refused(news: Any, shown: Shown, tenant: str, cause: Cause) -> Details:
    command = cause.command or {}
    told = {k: command.get(k) for k in ("call_id", "call_type")}
    why = {"reason": REFUSALS[int(news.capacity)], "held_micros": int(news.totals[HELD])}
    return str(command.get("command_id")), told | why | _money(news, shown)


def _hold_expired(news: Any, shown: Shown, tenant: str, cause: Cause) -> Details:
    return str(int(news.number)), {"call_id": json_name(news)} | _held(news, shown) | _money(news, shown)


_TELL: dict[int, Callable[[Any, Shown, str, Cause], Details]] = {
    POOL_REACHED: _pool_reached,
    RECHARGE_REQUESTED: _recharge_requested,
    RECHARGE_SUCCEEDED: _recharge_succeeded,
    RECHARGE_FAILED: _recharge_failed,
    BALANCE_ZERO: _balance_zero,
    SERVICE_BLOCKED: _service,
    SERVICE_RESTORED: _service,
    LOT_EXPIRED: _lot_expired,
    RATE_MISSING: _rate_missing,
    CONTACTS_SET: _contacts_set,
    LOT_EXPIRING: _lot_expiring,
    MONTH_CLOSED: _month_closed,
    CALL_AUTHORIZED: _call_authorized,
    CALL_REFUSED: _call_refused,
    HOLD_EXPIRED: _hold_expired,
}


def _tenant_of(accounts: Array, row: int) -> str:
    length = int(accounts["name_length"][row])
    name: bytes = accounts["name"][row, :length].tobytes()
    return name.decode()


def event_of(news: News, shown: Shown, cause: Cause) -> dict[str, Any]:
    """What one line of `account-events` says."""
    tenant = _tenant_of(shown.accounts, news.account)
    kind = EVENT_TYPES[int(news.kind)]
    period, data = _TELL[int(news.kind)](news, shown, tenant, cause)
    data["account_version"] = int(news.version)
    data["input"] = cause.input
    data["cause"] = "command" if cause.command is not None else "call"
    return {
        "specversion": "1.0",
        "id": f"{tenant}/{kind}/{period}",
        "source": "rater",
        "type": f"rater.{kind}",
        "subject": tenant,
        "time": instant_text(news.at_ms),
        "datacontenttype": "application/json",
        "data": data,
    }


def call_type_text(code: int) -> str:
    return CALL_TYPES[int(code)]
