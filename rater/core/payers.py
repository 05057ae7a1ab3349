"""Who pays for a call: the order of payers for each kind of call (contract section 3, charging-rules 7).

    emergency, direct routing, inbound to a user        nobody
    outbound of a user                                  the plan's pool, then credits
    outbound from a conference                          the US/CA add-on, the Zone A pool, then credits
    outbound of a bot                                   the plan's pool of its resource account, then credits
    inbound to a toll-free number                       credits; also to any number of a pay-per-minute organiser

"Credits" are lots, then debt or invoice. `settle` fills the answer; only `charging` touches money.
"""

from typing import Any, NamedTuple

import numpy as np

from rater.core.accounts import (
    NUMBER_SERVICE,
    NUMBER_TOLL_FREE,
    PREPAID,
    Books,
    balance_of,
    copy_name,
    find,
)
from rater.core.calls import (
    BOT_OUT,
    CONFERENCE_IN,
    CONFERENCE_OUT,
    DIRECT_ROUTING,
    EMERGENCY,
    USER_IN,
    USER_OUT,
    WAYS,
)
from rater.core.charging import (
    CAPABILITY_CREDITS,
    CAPABILITY_FREECALL,
    CHARGED,
    CONTEXT_DOMESTIC,
    CONTEXT_INTERNATIONAL,
    FLAG_LATE,
    FLAG_NO_CREDIT_LICENCE,
    FLAG_NO_PLAN,
    FLAG_OVERDRAWN,
    FREE,
    FREECALL,
    INVOICED,
    NOT_CONNECTED,
    POOLED,
    chosen_plan,
    clear,
    debit,
    is_pay_per_minute,
    take_conference_minutes,
    take_plan_minutes,
)
from rater.core.compiled import kernel
from rater.core.deck import DeckSet
from rater.core.hashing import KIND_MISSING_RATE, KIND_NUMBER, identity
from rater.core.instants import DAY_MS, month_of
from rater.core.numbering import Numbering, country_of, is_emergency
from rater.core.plans import (
    CALLING_PLANS,
    MCOMEETACPEA,
    MCOMEETADD,
    MCOMEETADD_DIALOUT_US,
    MCOPSTNC,
    PAYG,
    in_zone_a,
    is_domestic,
    pool_country,
)
from rater.core.prefixes import deck_for, inbound_rate, longest_prefix
from rater.core.rating import billed_minutes, is_connected, paid_part
from rater.core.seen import NEW, entry_of, place_of, remember, verdict
from rater.core.thresholds import RATE_MISSING, announce, watch_pool
from rater.core.words import copy_bytes

U8 = np.uint64
PREMIUM = 3
CALLING_PLAN_BITS = (1 << (PAYG + 1)) - 1  # MCOPSTN1 ... MCOPSTN9 and PAYG are the first plan codes
UNITED_STATES = ord("U") * 256 + ord("S")
CANADA = ord("C") * 256 + ord("A")


class Rules(NamedTuple):
    """What rates a call and does not change with it: numbering, emergency numbers, plans, decks."""

    numbering: Numbering
    emergency: Any
    plans: Any
    decks: DeckSet


@kernel
def context_of(country: Any, destination: Any) -> Any:
    return CONTEXT_DOMESTIC if is_domestic(pool_country(country), destination) else CONTEXT_INTERNATIONAL


@kernel
def home_of(user: Any, tenant_country: Any) -> Any:
    """Where a user without a plan for the call calls from: the first calling plan's licence, else the tenant."""
    for plan in CALLING_PLANS:
        if user.held >> plan & 1:
            return user.countries[plan]
    if user.held >> PAYG & 1:
        return user.countries[PAYG]
    return tenant_country


@kernel
def is_forwarded_to_emergency(rules: Rules, account: Any, buffer: Any, call: Any) -> Any:
    return is_emergency(rules.emergency, account.country, buffer, call.callee_at, call.callee_end)


@kernel
def look_up_rate(rules: Rules, account: Any, buffer: Any, call: Any, answer: Any) -> None:
    """Destination and deck row of the called number; our own table says the country, the deck's word is the second."""
    decks = rules.decks
    answer.destination = country_of(
        rules.numbering.nodes, rules.numbering.country, buffer, call.callee_at, call.callee_end
    )
    answer.head = deck_for(decks.heads, account.currency, call.start_ms)
    if answer.head < 0:
        return
    row = longest_prefix(
        decks.nodes, decks.rows, decks.heads[answer.head].root, buffer, call.callee_at, call.callee_end, call.start_ms
    )
    answer.deck_row = row
    if row >= 0:
        answer.rate_nanos = decks.rows[row].rate_nanos
        if answer.destination == 0:
            answer.destination = decks.rows[row].country


@kernel
def pay_rest(
    books: Books,
    account: Any,
    call: Any,
    answer: Any,
    draw_rows: Any,
    draw_micros: Any,
    rated: Any,
    charge: Any,
    fee: Any,
) -> None:
    """The minutes no pool gave: credits pay them, or nobody where there is no rate (`rated` false)."""
    rest = answer.billed_minutes - answer.pool_minutes
    if rest == 0:
        answer.outcome = POOLED
        return
    if not rated:
        answer.outcome = FREECALL
        answer.capability = CAPABILITY_FREECALL
        return
    answer.credit_minutes = rest
    answer.fee_micros = fee
    answer.charge_micros = charge
    if charge == 0:
        answer.outcome = POOLED if answer.pool_minutes > 0 else FREE
        return
    before = balance_of(account)
    debit(account, books.lots, answer, draw_rows, draw_micros)
    answer.outcome = INVOICED if answer.invoice_micros > 0 else CHARGED
    if account.billing_mode == PREPAID and (before <= 0 or balance_of(account) < 0):
        answer.marks |= FLAG_OVERDRAWN


@kernel
def note_minutes(answer: Any, pool: Any, taken: Any, payer: Any) -> None:
    """The pool that paid, if it gave a minute."""
    if taken > 0:
        answer.pool = pool
        answer.pool_minutes = taken
        answer.capability = payer


@kernel
def conference_minutes(
    books: Books, account_row: Any, account: Any, call: Any, answer: Any, held: Any, is_premium: Any, holds: Any
) -> Any:
    """What the conference licences pay: the capacity of the Zone A pool, or -1 where the add-on pays the whole call."""
    answer.context = context_of(account.country, answer.destination)
    if is_premium:
        return 0
    destination = pool_country(answer.destination)
    if held >> MCOMEETADD_DIALOUT_US & 1 and (destination == UNITED_STATES or destination == CANADA):
        answer.capability = MCOMEETADD_DIALOUT_US
        return -1
    if is_pay_per_minute(held) or not in_zone_a(answer.destination):
        return 0
    month = month_of(call.start_ms)
    licences = account.conference_licences
    pool, taken, capacity = take_conference_minutes(books, account_row, licences, month, answer.billed_minutes, holds)
    note_minutes(answer, pool, taken, MCOMEETADD)
    return capacity


@kernel
def plan_minutes(
    books: Books,
    plans: Any,
    account_row: Any,
    account: Any,
    user_row: Any,
    call: Any,
    answer: Any,
    is_premium: Any,
    holds: Any,
) -> Any:
    """What the plan of the user (or of the bot's resource account) pays: the capacity of its pool."""
    if user_row < 0:
        answer.context = context_of(account.country, answer.destination)
        return 0
    user = books.users.rows[user_row]
    plan, allotted = -1, -1
    if not is_premium:
        plan, allotted = chosen_plan(user, plans, answer.destination, call.start_ms)
    if plan < 0:
        answer.context = context_of(home_of(user, account.country), answer.destination)
        return 0
    answer.context = context_of(user.countries[plan], answer.destination)
    domestic = answer.context == CONTEXT_DOMESTIC
    month = month_of(call.start_ms)
    pool, taken, capacity = take_plan_minutes(
        books, account_row, user_row, plan, plans, allotted, domestic, month, answer.billed_minutes, holds
    )
    note_minutes(answer, pool, taken, plan)
    return capacity


@kernel
def price_of(row: Any, billable_ms: Any, pool_minutes: Any) -> Any:
    """What a deck row asks for the part of a call that no pool gave."""
    return paid_part(
        billable_ms,
        pool_minutes,
        row.initial_s,
        row.step_s,
        row.rate_nanos,
        row.connection_fee_micros,
        row.minimum_charge_micros,
    )


@kernel
def minutes_first(
    books: Books,
    rules: Rules,
    buffer: Any,
    account_row: Any,
    account: Any,
    call: Any,
    answer: Any,
    way: Any,
    holds: Any,
) -> Any:
    """Rate and pool of an outbound call: (capacity of the pool, -1 where an add-on pays it all; licences held; per minute).

    The minutes are used, or with `holds` only held.
    """
    look_up_rate(rules, account, buffer, call, answer)
    row, user_row = answer.deck_row, call.user
    is_premium = row >= 0 and rules.decks.rows[row].number_class == PREMIUM
    held = books.users.rows[user_row].held if user_row >= 0 else 0
    pays_per_minute = way == CONFERENCE_OUT and is_pay_per_minute(held)
    if way == CONFERENCE_OUT:
        capacity = conference_minutes(books, account_row, account, call, answer, held, is_premium, holds)
    else:
        capacity = plan_minutes(books, rules.plans, account_row, account, user_row, call, answer, is_premium, holds)
    return capacity, held, pays_per_minute


@kernel
def lacks_credit_licence(account: Any, way: Any, held: Any, pays_per_minute: Any) -> Any:
    """Credits are there, but this user may not draw on them: the tenant's own bots and pay-per-minute organisers may."""
    return account.billing_mode == PREPAID and way != BOT_OUT and held >> MCOPSTNC & 1 == 0 and not pays_per_minute


@kernel
def settle_outbound(
    books: Books,
    rules: Rules,
    buffer: Any,
    account_row: Any,
    account: Any,
    call: Any,
    answer: Any,
    way: Any,
    draw_rows: Any,
    draw_micros: Any,
    news: Any,
    news_tally: Any,
    record: Any,
) -> None:
    """Minutes first, credits for the rest, and what that announces."""
    capacity, held, pays_per_minute = minutes_first(
        books, rules, buffer, account_row, account, call, answer, way, False
    )
    if capacity < 0:
        return
    if way == USER_OUT and held & CALLING_PLAN_BITS == 0:
        answer.marks |= FLAG_NO_PLAN
    row, deck_rows = answer.deck_row, rules.decks.rows
    charge, fee = 0, 0
    if row >= 0 and answer.pool_minutes < answer.billed_minutes:
        fee = deck_rows[row].connection_fee_micros
        charge = price_of(deck_rows[row], call.billable_ms, answer.pool_minutes)
    pay_rest(books, account, call, answer, draw_rows, draw_micros, row >= 0, charge, fee)
    if answer.credit_minutes > 0:
        answer.capability = MCOMEETACPEA if pays_per_minute else CAPABILITY_CREDITS
    if answer.charge_micros > 0 and lacks_credit_licence(account, way, held, pays_per_minute):
        answer.marks |= FLAG_NO_CREDIT_LICENCE
    if answer.pool >= 0:
        pool = books.pools.rows[answer.pool]
        watch_pool(news, news_tally, account_row, account, answer.pool, pool, capacity, record, call.end_ms)
    if answer.outcome == FREECALL:
        miss_rate(books, buffer, account_row, account, call, call.callee_at, call.callee_end, news, news_tally, record)


@kernel
def inbound_terms(
    books: Books, rules: Rules, buffer: Any, account_row: Any, account: Any, call: Any, answer: Any, way: Any
) -> Any:
    """What an inbound call is paid by: (whether anybody pays, row of the inbound rates or -1, pay-per-minute organiser).

    Toll-free numbers and pay-per-minute conferences cost by the caller's country; everything else is free.
    """
    high, low = identity(books.key[0], books.key[1], KIND_NUMBER, account_row, buffer, call.callee_at, call.callee_end)
    number = find(books.numbers, high, low)
    assigned = number >= 0 and books.numbers.rows[number].assigned != 0
    number_type = books.numbers.rows[number].number_type if assigned else NUMBER_SERVICE
    user_row = call.user
    per_minute = way == CONFERENCE_IN and user_row >= 0 and is_pay_per_minute(books.users.rows[user_row].held)
    if number_type != NUMBER_TOLL_FREE and not per_minute:
        return False, -1, False
    numbering = rules.numbering
    if assigned:
        number_country = np.int64(books.numbers.rows[number].country)
    else:
        number_country = np.int64(
            country_of(numbering.nodes, numbering.country, buffer, call.callee_at, call.callee_end)
        )
    origin = np.int64(0)
    if call.caller_at >= 0:
        origin = np.int64(country_of(numbering.nodes, numbering.country, buffer, call.caller_at, call.caller_end))
    decks = rules.decks
    head = deck_for(decks.heads, account.currency, call.start_ms)
    if head < 0:
        return True, -1, per_minute
    answer.head = head
    heads = decks.heads
    row = inbound_rate(
        decks.inbound, heads[head].inbound_from, heads[head].inbound_to, number_country, number_type, origin
    )
    return True, row, per_minute


@kernel
def settle_inbound(
    books: Books,
    rules: Rules,
    buffer: Any,
    account_row: Any,
    account: Any,
    call: Any,
    answer: Any,
    way: Any,
    draw_rows: Any,
    draw_micros: Any,
    news: Any,
    news_tally: Any,
    record: Any,
) -> None:
    """Credits pay, or nobody."""
    pays, row, per_minute = inbound_terms(books, rules, buffer, account_row, account, call, answer, way)
    if not pays:
        return
    charge, fee = 0, 0
    if row >= 0:
        head, rate = rules.decks.heads[answer.head], rules.decks.inbound[row]
        answer.rate_nanos = rate.rate_nanos
        fee = rate.connection_fee_micros
        charge = paid_part(call.billable_ms, 0, head.initial_s, head.step_s, rate.rate_nanos, fee, 0)
    pay_rest(books, account, call, answer, draw_rows, draw_micros, row >= 0, charge, fee)
    if answer.credit_minutes > 0:
        answer.capability = MCOMEETACPEA if per_minute else CAPABILITY_CREDITS
    if answer.outcome == FREECALL:
        miss_rate(books, buffer, account_row, account, call, call.caller_at, call.caller_end, news, news_tally, record)


@kernel
def miss_rate(
    books: Books,
    buffer: Any,
    account_row: Any,
    account: Any,
    call: Any,
    digits_at: Any,
    digits_end: Any,
    news: Any,
    news_tally: Any,
    record: Any,
) -> None:
    """A connected, payable call without a rate: announced once per tenant, first four digits and day of its start."""
    length = 1
    day = call.start_ms // DAY_MS
    key = books.scratch
    key[0] = 42
    if digits_at >= 0:
        length = min(digits_end - digits_at, 4)
        copy_bytes(key, 0, buffer, digits_at, length)
    for k in range(8):
        key[length + k] = (day >> (8 * k)) & 255
    high, low = identity(books.key[0], books.key[1], KIND_MISSING_RATE, account_row, key, 0, length + 8)
    first, second = entry_of(high, low, U8(0))
    slot = place_of(books.seen, first, second)
    if verdict(books.seen, slot, second) != NEW:
        return
    remember(books.seen, books.fresh, books.seen_tally, slot, first, second)
    row = announce(news, news_tally, RATE_MISSING, account_row, account, record, 1, call.end_ms)
    news[row].number = day
    news[row].name_length = length
    copy_name(news[row].name, key, length)


@kernel
def settle(
    books: Books,
    rules: Rules,
    buffer: Any,
    account_row: Any,
    account: Any,
    call: Any,
    answer: Any,
    draw_rows: Any,
    draw_micros: Any,
    news: Any,
    news_tally: Any,
    record: Any,
) -> None:
    """One call x its account -> who paid what. The account's lots are already free of what has expired."""
    clear(answer)
    if month_of(call.start_ms) < account.closed_before:
        answer.marks |= FLAG_LATE
    if not is_connected(call):
        answer.outcome = NOT_CONNECTED
        return
    answer.billed_minutes = billed_minutes(call.billable_ms)
    way = WAYS[call.call_type]
    if way == EMERGENCY or way == DIRECT_ROUTING or way == USER_IN:
        return
    if way == USER_OUT or way == CONFERENCE_OUT or way == BOT_OUT:
        if not is_forwarded_to_emergency(rules, account, buffer, call):
            settle_outbound(
                books,
                rules,
                buffer,
                account_row,
                account,
                call,
                answer,
                way,
                draw_rows,
                draw_micros,
                news,
                news_tally,
                record,
            )
        return
    settle_inbound(
        books, rules, buffer, account_row, account, call, answer, way, draw_rows, draw_micros, news, news_tally, record
    )
