"""One charge x its account -> minutes from a pool, then debits from lots, then debt or invoice.

Rules: contract section 3 and charging-rules 1, 2 and 7. Both sides are checked: what was drawn adds up to the charge.
"""

from typing import Any

import numpy as np

from rater.core.accounts import (
    DOMESTIC,
    INTERNATIONAL,
    POST_USAGE,
    ZONE_A,
    Books,
    Shelf,
    add,
    clear_name,
    copy_name,
    find,
    give_row,
    pool_identity,
    take_row,
    touch,
)
from rater.core.compiled import kernel
from rater.core.instants import NEVER_MS
from rater.core.money import BALANCE_MICROS_MAX
from rater.core.plans import (
    CALLING_PLANS,
    MCOMEETACPEA,
    MCOMEETADD,
    MCOPSTN2,
    MCOPSTN8,
    ZONE_A_MINUTES,
    allotment,
    is_domestic,
    pool_country,
)

# What a call came to.
POOLED, CHARGED, INVOICED, FREE, NOT_CONNECTED, FREECALL = range(6)
OUTCOMES = ("pooled", "charged", "invoiced", "free", "not_connected", "freecall")

NO_CONTEXT, CONTEXT_DOMESTIC, CONTEXT_INTERNATIONAL = 0, 1, 2

# Flags, in the order they are written.
FLAG_NO_CREDIT_LICENCE, FLAG_OVERDRAWN, FLAG_LATE, FLAG_NO_PLAN = 1, 2, 4, 8

# Capability: a plan code, or one of these.
NO_CAPABILITY, CAPABILITY_CREDITS, CAPABILITY_FREECALL = -1, 100, 101

ANSWER = np.dtype(
    [
        ("outcome", np.int64),
        ("charge_micros", np.int64),
        ("billed_minutes", np.int64),
        ("pool", np.int64),
        ("pool_minutes", np.int64),
        ("credit_minutes", np.int64),
        ("fee_micros", np.int64),
        ("rate_nanos", np.int64),
        ("deck_row", np.int64),
        ("head", np.int64),
        ("destination", np.int64),
        ("context", np.int64),
        ("capability", np.int64),
        ("drawn", np.int64),
        ("debt_micros", np.int64),
        ("invoice_micros", np.int64),
        ("marks", np.int64),
    ],
    align=True,
)


@kernel
def clear(answer: Any) -> None:
    """An answer that says nothing yet: free of charge, no deck, no pool."""
    answer.outcome = FREE
    answer.charge_micros = 0
    answer.billed_minutes = 0
    answer.pool = -1
    answer.pool_minutes = 0
    answer.credit_minutes = 0
    answer.fee_micros = 0
    answer.rate_nanos = 0
    answer.deck_row = -1
    answer.head = -1
    answer.destination = 0
    answer.context = NO_CONTEXT
    answer.capability = NO_CAPABILITY
    answer.drawn = 0
    answer.debt_micros = 0
    answer.invoice_micros = 0
    answer.marks = 0


@kernel
def chosen_plan(user: Any, plans: Any, destination: Any, start_ms: Any) -> Any:
    """The user's plan that has minutes for this destination, and its row of allotments: (-1, -1) when none has.

    One plan, never two: the first in the order of `CALLING_PLANS` with an allotment for the scope, however much of its
    pool is left.
    """
    for plan in CALLING_PLANS:
        if user.held >> plan & 1:
            country = pool_country(user.countries[plan])
            row = allotment(plans, plan, country, start_ms)
            if row >= 0:
                domestic = is_domestic(country, destination)
                if (plans[row].domestic if domestic else plans[row].international) > 0:
                    return plan, row
    return -1, -1


@kernel
def capacity_of(minutes: Any, plan: Any, assigned: Any) -> Any:
    """Minutes a licence gives x licences assigned now; MCOPSTN8 is each user's own."""
    return minutes if plan == MCOPSTN8 else minutes * assigned


@kernel
def used_of(
    pools: Shelf, account_row: Any, user_row: Any, country: Any, plan: Any, scope: Any, month: Any, with_held: Any
) -> Any:
    """The pool's row (-1 when no minute was taken yet) and the minutes used; with those held, where the caller asks so."""
    high, low = pool_identity(account_row, user_row, country, plan, scope, month)
    row = find(pools, high, low)
    if row < 0:
        return row, 0
    return row, pools.rows[row].used + (pools.rows[row].held if with_held else 0)


@kernel
def draw_minutes(
    pools: Shelf,
    row: Any,
    account_row: Any,
    user_row: Any,
    country: Any,
    plan: Any,
    scope: Any,
    month: Any,
    minutes_per_licence: Any,
    minutes: Any,
    holds: Any,
) -> Any:
    """Take, or hold, minutes that the pool is known to have; the row is made with its first minute."""
    if row < 0:
        high, low = pool_identity(account_row, user_row, country, plan, scope, month)
        row = add(pools, high, low)
        pools.rows[row].account = account_row
        pools.rows[row].user = user_row
        pools.rows[row].country = country
        pools.rows[row].plan = plan
        pools.rows[row].scope = scope
        pools.rows[row].month = month
    else:
        touch(pools, row)
    if holds:
        pools.rows[row].held += minutes
    else:
        pools.rows[row].used += minutes
    pools.rows[row].allotment = minutes_per_licence
    return row


@kernel
def take_plan_minutes(
    books: Books,
    account_row: Any,
    user_row: Any,
    plan: Any,
    plans: Any,
    row: Any,
    domestic: Any,
    month: Any,
    wanted: Any,
    holds: Any,
) -> Any:
    """Minutes the plan's pool gives to this call: (pool row or -1, minutes, capacity).

    MCOPSTN2 has two counters, and one at its cap stops the other ("whichever first"). `holds`: the minutes are held for a
    call that is only beginning, out of what other such calls have left, and not yet used.
    """
    user = books.users.rows[user_row]
    country = pool_country(user.countries[plan])
    assigned = books.fleets.rows[user.fleets[plan]].assigned
    owner = user_row if plan == MCOPSTN8 else -1
    scope = DOMESTIC if domestic else INTERNATIONAL
    minutes = plans[row].domestic if domestic else plans[row].international
    capacity = capacity_of(minutes, plan, assigned)
    pool, used = used_of(books.pools, account_row, owner, country, plan, scope, month, holds)
    left = max(capacity - used, 0)
    if plan == MCOPSTN2 and left > 0:
        other = capacity_of(plans[row].international if domestic else plans[row].domestic, plan, assigned)
        other_scope = INTERNATIONAL if domestic else DOMESTIC
        _, other_used = used_of(books.pools, account_row, owner, country, plan, other_scope, month, holds)
        if other > 0 and other_used >= other:
            left = 0
    taken = min(wanted, left)
    if taken > 0:
        pool = draw_minutes(
            books.pools, pool, account_row, owner, country, plan, scope, month, np.int64(minutes), taken, holds
        )
    return pool, taken, capacity


@kernel
def take_conference_minutes(books: Books, account_row: Any, licences: Any, month: Any, wanted: Any, holds: Any) -> Any:
    """Minutes the tenant's Zone A pool gives: 60 x MCOMEETADD licences assigned, one pool whatever the organiser."""
    capacity = ZONE_A_MINUTES * licences
    pool, used = used_of(books.pools, account_row, -1, 0, MCOMEETADD, ZONE_A, month, holds)
    taken = min(wanted, max(capacity - used, 0))
    if taken > 0:
        pool = draw_minutes(
            books.pools, pool, account_row, -1, 0, MCOMEETADD, ZONE_A, month, np.int64(ZONE_A_MINUTES), taken, holds
        )
    return pool, taken, capacity


@kernel
def is_pay_per_minute(held: Any) -> Any:
    """A pay-per-minute organiser: every conference call is paid, none from the Zone A pool."""
    return held >> MCOMEETACPEA & 1 != 0 and held >> MCOMEETADD & 1 == 0


@kernel
def draw_lots(account: Any, lots: Shelf, amount_micros: Any, draw_rows: Any, draw_micros: Any) -> Any:
    """Take up to an amount from the lots, first in first out: (number of lots drawn, what they could not give).

    Emptied lots leave the account; their rows keep their names until the next lot is added.
    """
    drawn, rest = 0, amount_micros
    while rest > 0 and account.first_lot >= 0:
        lot = account.first_lot
        touch(lots, lot)
        taken = min(rest, lots.rows[lot].left_micros)
        lots.rows[lot].left_micros -= taken
        rest -= taken
        draw_rows[drawn] = lot
        draw_micros[drawn] = taken
        drawn += 1
        if lots.rows[lot].left_micros == 0:
            account.first_lot = lots.rows[lot].next
            account.lot_count -= 1
            give_row(lots, lot)
    if account.first_lot < 0:
        account.next_expiry_ms = NEVER_MS
    account.lots_micros -= amount_micros - rest
    return drawn, rest


@kernel
def debit(account: Any, lots: Shelf, answer: Any, draw_rows: Any, draw_micros: Any) -> None:
    """Pay the answer's charge: lots first, the rest as debt (prepaid) or on the invoice (post-usage)."""
    before = account.lots_micros
    drawn, rest = draw_lots(account, lots, answer.charge_micros, draw_rows, draw_micros)
    answer.drawn = drawn
    if account.billing_mode == POST_USAGE:
        answer.invoice_micros = rest
        account.invoice_micros += rest
    else:
        answer.debt_micros = rest
        account.debt_micros += rest
    total = rest
    for k in range(drawn):
        total += draw_micros[k]
    if total != answer.charge_micros or before - account.lots_micros != answer.charge_micros - rest:
        raise ArithmeticError("the lots drawn and the rest do not add up to the charge; batch not emitted")
    if account.debt_micros > BALANCE_MICROS_MAX or account.invoice_micros > BALANCE_MICROS_MAX:
        raise ArithmeticError("a debt or invoice beyond 4 * 10**18 micro-units; batch not emitted")


@kernel
def name_compare(a: Any, a_length: Any, b: Any, b_length: Any) -> Any:
    """Byte order of two names: negative, 0 or positive."""
    for k in range(min(a_length, b_length)):
        if a[k] != b[k]:
            return -1 if a[k] < b[k] else 1
    return np.int64(a_length) - np.int64(b_length)


@kernel
def add_lot(
    account_row: Any,
    account: Any,
    lots: Shelf,
    amount_micros: Any,
    at_ms: Any,
    expires_ms: Any,
    name: Any,
    name_length: Any,
) -> None:
    """A new lot in its place: by the instant of the command that added it, then by its id."""
    row = take_row(lots)
    lots.rows[row].account = account_row
    lots.rows[row].left_micros = amount_micros
    lots.rows[row].amount_micros = amount_micros
    lots.rows[row].at_ms = at_ms
    lots.rows[row].expires_ms = expires_ms
    lots.rows[row].warned = 0
    lots.rows[row].name_length = name_length
    clear_name(lots.rows[row].name)
    copy_name(lots.rows[row].name, name, name_length)
    previous, following = -1, account.first_lot
    while following >= 0:
        other = lots.rows[following]
        if other.at_ms > at_ms:
            break
        if other.at_ms == at_ms and name_compare(other.name, other.name_length, name, name_length) > 0:
            break
        previous, following = following, other.next
    lots.rows[row].next = following
    if previous < 0:
        account.first_lot = row
    else:
        touch(lots, previous)
        lots.rows[previous].next = row
    account.lot_count += 1
    account.lots_micros += amount_micros
    account.next_expiry_ms = min(account.next_expiry_ms, expires_ms)


@kernel
def fund(
    account_row: Any,
    account: Any,
    lots: Shelf,
    amount_micros: Any,
    at_ms: Any,
    expires_ms: Any,
    name: Any,
    name_length: Any,
) -> Any:
    """Money in: it repays debt first, then becomes a lot. Returns what became a lot."""
    repaid = min(account.debt_micros, amount_micros)
    account.debt_micros -= repaid
    if amount_micros > repaid:
        add_lot(account_row, account, lots, amount_micros - repaid, at_ms, expires_ms, name, name_length)
    return amount_micros - repaid
