"""What the books hold about one account, as an object: the shape of `rater balance --json` and of the live answers over HTTP."""

from dataclasses import dataclass
from typing import Any

from rater.contract.events import currency_text, json_name, pool_name, recharge_id, row_name
from rater.core.accounts import DOMESTIC, INTERNATIONAL, POST_USAGE, balance_of, find_named
from rater.core.hashing import KIND_TENANT
from rater.core.instants import NEVER_MS, instant_text, month_of, month_text
from rater.core.numbering import country_text
from rater.core.plans import MCOMEETADD, MCOPSTN8, PLANS, ZONE_A_MINUTES, allotment, pool_country
from rater.core.state import State
from rater.core.words import as_buffer

NUMBER_TYPE_TEXTS = ("user", "service", "toll_free")


@dataclass(frozen=True, slots=True)
class PoolLine:
    """One pool of one month."""

    name: str
    month: int
    capacity: int
    used: int
    held: int = 0

    def as_object(self) -> dict[str, Any]:
        return {
            "pool": self.name,
            "capacity": self.capacity,
            "used": self.used,
            "left": max(self.capacity - self.used, 0),
            "held": self.held,
        }


def account_row(state: State, tenant: str) -> int:
    name = tenant.encode()
    return int(find_named(state.shelves["accounts"], state.key, KIND_TENANT, 0, as_buffer(name), 0, len(name)))


def lots_of(state: State, row: int) -> list[dict[str, Any]]:
    """The lots of an account in the order they are drawn."""
    lots, lot = [], int(state.shelves["accounts"].rows[row].first_lot)
    while lot >= 0:
        found = state.shelves["lots"].rows[lot]
        expires = None if found.expires_ms >= NEVER_MS else instant_text(found.expires_ms)
        lots.append(
            {
                "lot_id": row_name(found),
                "left_micros": int(found.left_micros),
                "amount_micros": int(found.amount_micros),
                "added_at": instant_text(found.at_ms),
                "expires_at": expires,
            }
        )
        lot = int(found.next)
    return lots


def licences_of(state: State, row: int) -> list[dict[str, Any]]:
    users = state.rows("users")
    return [
        {"user": json_name(user), "plan": plan, "country": country_text(int(user.countries[code]))}
        for user in users[users.account == row]
        for code, plan in enumerate(PLANS)
        if int(user.held) >> code & 1
    ]


def numbers_of(state: State, row: int) -> list[dict[str, Any]]:
    numbers = state.rows("numbers")
    return [
        {
            "number": "+" + row_name(number),
            "number_type": NUMBER_TYPE_TEXTS[int(number.number_type)],
            "country": country_text(int(number.country)),
        }
        for number in numbers[(numbers.account == row) & (numbers.assigned != 0)]
    ]


def _assigned(state: State, row: int, country: int, plan: int) -> int:
    fleets = state.rows("fleets")
    found = fleets[(fleets.account == row) & (fleets.country == country) & (fleets.plan == plan)]
    return int(found.assigned.sum())


def used_pools(state: State, row: int) -> list[PoolLine]:
    """Pools that gave minutes, with today's licences."""
    pools = state.rows("pools")
    lines = []
    for pool in pools[pools.account == row]:
        plan = int(pool.plan)
        if plan == MCOPSTN8:
            user = state.shelves["users"].rows[int(pool.user)]
            holds = int(user.held) >> plan & 1 and int(pool_country(int(user.countries[plan]))) == int(pool.country)
            licences = int(bool(holds))
        elif plan == MCOMEETADD:
            licences = int(state.shelves["accounts"].rows[row].conference_licences)
        else:
            licences = _assigned(state, row, int(pool.country), plan)
        capacity = int(pool.allotment) * licences
        name = pool_name(pool, state.shelves["users"].rows)
        lines.append(PoolLine(name, int(pool.month), capacity, int(pool.used), int(pool.held)))
    return lines


def unused_pools(state: State, row: int, plans: Any, known: set[str]) -> list[PoolLine]:
    """Pools that licences give in the account's latest month and nobody has drawn on yet."""
    account = state.shelves["accounts"].rows[row]
    at_ms = int(account.last_seen_ms)
    month = int(month_of(at_ms))
    lines = []
    fleets = state.rows("fleets")
    for fleet in fleets[(fleets.account == row) & (fleets.assigned > 0)]:
        plan, country = int(fleet.plan), int(fleet.country)
        found = int(allotment(plans, plan, country, at_ms)) if plan < MCOPSTN8 or plan == MCOPSTN8 + 1 else -1
        if found < 0:
            continue
        for scope, minutes in (
            (DOMESTIC, int(plans[found].domestic)),
            (INTERNATIONAL, int(plans[found].international)),
        ):
            scope_text = "domestic" if scope == DOMESTIC else "international"
            name = f"{country_text(country)}/{PLANS[plan]}/{scope_text}/{month_text(month)}"
            if minutes and name not in known:
                lines.append(PoolLine(name, month, minutes * int(fleet.assigned), 0))
    conference = int(account.conference_licences)
    name = f"*/{PLANS[MCOMEETADD]}/zone-a/{month_text(month)}"
    if conference and name not in known:
        lines.append(PoolLine(name, month, ZONE_A_MINUTES * conference, 0))
    return lines


def pools_of(state: State, row: int, plans: Any) -> list[PoolLine]:
    used = used_pools(state, row)
    unused = unused_pools(state, row, plans, {line.name for line in used})
    return sorted([*used, *unused], key=lambda line: (-line.month, line.name))


MONTH_SUMS = {  # of a row of totals -> in an account's row, for the month that is running
    "calls": "month_calls",
    "connected": "month_connected",
    "charge_micros": "month_charge_micros",
    "invoice_micros": "month_invoice_micros",
    "pool_minutes": "month_pool_minutes",
    "credit_minutes": "month_credit_minutes",
    "late": "month_late",
}


def months_of(state: State, row: int) -> list[dict[str, Any]]:
    """What the calls of each month came to, the newest month first. `told`: its summary was announced."""
    totals, account = state.rows("totals"), state.shelves["accounts"].rows[row]
    sums = {
        int(total.month): {name: int(total[name]) for name in MONTH_SUMS} for total in totals[totals.account == row]
    }
    told = {int(total.month) for total in totals[totals.account == row] if total.told}
    if account.month_calls:
        running = sums.setdefault(int(account.month), dict.fromkeys(MONTH_SUMS, 0))
        for name, counted in MONTH_SUMS.items():
            running[name] += int(account[counted])
    return [
        {
            "month": month_text(month),
            "calls": of_month["calls"],
            "connected_calls": of_month["connected"],
            "charge_micros": of_month["charge_micros"],
            "invoice_micros": of_month["invoice_micros"],
            "pool_minutes": of_month["pool_minutes"],
            "credit_minutes": of_month["credit_minutes"],
            "late_calls": of_month["late"],
            "told": month in told,
        }
        for month, of_month in sorted(sums.items(), reverse=True)
    ]


def account_object(state: State, row: int, plans: Any) -> dict[str, Any]:
    """Everything the books hold about one account."""
    account = state.shelves["accounts"].rows[row]
    tenant = row_name(account)
    in_flight = recharge_id(tenant, account.recharges) if account.in_flight else None
    return {
        "tenant": tenant,
        "country": country_text(int(account.country)),
        "currency": currency_text(account.currency),
        "billing_mode": "post_usage" if account.billing_mode == POST_USAGE else "prepaid",
        "overage": bool(account.overage),
        "balance_micros": int(balance_of(account)),
        "held_micros": int(account.held_micros),
        "open_calls": int(account.hold_count),
        "debt_micros": int(account.debt_micros),
        "invoice_micros": int(account.invoice_micros),
        "blocked": bool(account.blocked),
        "lots": lots_of(state, row),
        "pools": [line.as_object() for line in pools_of(state, row, plans)],
        "months": months_of(state, row),
        "licences": licences_of(state, row),
        "numbers": numbers_of(state, row),
        "recharge": {
            "enabled": bool(account.recharge_enabled),
            "trigger_micros": int(account.trigger_micros),
            "amount_micros": int(account.recharge_micros),
            "in_flight": in_flight,
            "failures": int(account.failures),
            "wait_until": instant_text(account.wait_until_ms) if account.failures else None,
        },
        "account_version": int(account.version),
        "last_seen": instant_text(account.last_seen_ms),
    }
