"""May a call start, who pays, and for how long at most: decided before the call, by the rules that will charge it.

    emergency, direct routing, inbound to a user        it may, nobody pays
    everything else                                     pool minutes that nobody holds, then credits that nobody holds

A question is a row of `CALL` without times, but for the instant it was asked as `start_ms`. What is granted is held.
Refused are only calls that credits have to pay: without a rate, without the licence, without credit (charging-rules 2.2, 7).
"""

from typing import Any

from rater.core.accounts import Books, balance_of, find
from rater.core.calls import (
    BOT_OUT,
    CONFERENCE_OUT,
    DIRECT_ROUTING,
    EMERGENCY,
    UNASSIGNED_IN,
    USER_IN,
    USER_OUT,
    WAYS,
)
from rater.core.charging import clear
from rater.core.compiled import kernel
from rater.core.hashing import KIND_USER, identity
from rater.core.holds import HELD, end_hold, hold_named, open_hold
from rater.core.payers import (
    Rules,
    inbound_terms,
    is_forwarded_to_emergency,
    lacks_credit_licence,
    minutes_first,
)
from rater.core.rating import billed_minutes, paid_part
from rater.core.thresholds import CALL_AUTHORIZED, CALL_REFUSED, announce, gate_refuses_at_zero

NO_CREDIT, NO_CREDIT_LICENCE, NO_RATE = 1, 2, 3
REFUSALS = ("", "no_credit", "no_credit_licence", "no_rate")

BY_POOL, BY_CREDITS, BY_INVOICE = 1, 2, 4  # bits of who pays
PAYERS = {
    0: "nobody",
    BY_POOL: "pool",
    BY_CREDITS: "credits",
    BY_POOL | BY_CREDITS: "pool_and_credits",
    BY_INVOICE: "invoice",
    BY_POOL | BY_INVOICE: "pool_and_invoice",
}


@kernel
def longest_paid(
    available_micros: Any,
    pool_minutes: Any,
    wanted_s: Any,
    initial_s: Any,
    step_s: Any,
    rate_nanos: Any,
    fee_micros: Any,
    minimum_micros: Any,
) -> Any:
    """(seconds, micros): how long a call can last for the credits available, and what they pay for it then."""
    price = paid_part(1000 * wanted_s, pool_minutes, initial_s, step_s, rate_nanos, fee_micros, minimum_micros)
    if price <= available_micros:
        return wanted_s, price
    paid_s, unpaid_s, paid_micros = 60 * pool_minutes, wanted_s, 0
    while unpaid_s - paid_s > 1:
        middle_s = (paid_s + unpaid_s) // 2
        price = paid_part(1000 * middle_s, pool_minutes, initial_s, step_s, rate_nanos, fee_micros, minimum_micros)
        if price <= available_micros:
            paid_s, paid_micros = middle_s, price
        else:
            unpaid_s = middle_s
    return paid_s, paid_micros


@kernel
def offer_credits(
    account: Any,
    answer: Any,
    wanted_s: Any,
    refused: Any,
    initial_s: Any,
    step_s: Any,
    rate_nanos: Any,
    fee_micros: Any,
    minimum_micros: Any,
) -> Any:
    """(seconds, payers, refusal) once the pool gave what it has; `refused` is why credits may pay nothing, or 0."""
    by_pool = BY_POOL if answer.pool_minutes > 0 else 0
    if refused == 0 and not gate_refuses_at_zero(account):
        return wanted_s, by_pool | BY_INVOICE, 0
    available = 0
    if refused == 0:
        available = max(balance_of(account) - account.held_micros, 0)  # lots may have expired under a hold
    seconds, micros = longest_paid(
        available, answer.pool_minutes, wanted_s, initial_s, step_s, rate_nanos, fee_micros, minimum_micros
    )
    if seconds == 0:
        return 0, 0, refused if refused != 0 else NO_CREDIT
    answer.charge_micros = micros
    return seconds, by_pool | (BY_CREDITS if micros > 0 else 0), 0


@kernel
def offer_pool_alone(answer: Any, refused: Any) -> Any:
    """As `offer_credits`, where nobody can say what the rest costs."""
    if answer.pool_minutes == 0:
        return 0, 0, refused
    return 60 * answer.pool_minutes, BY_POOL, 0


@kernel
def offer_outbound(
    books: Books,
    rules: Rules,
    buffer: Any,
    account_row: Any,
    account: Any,
    call: Any,
    answer: Any,
    way: Any,
    wanted_s: Any,
) -> Any:
    """As `offer_credits`; the minutes of a pool are held already."""
    capacity, held, pays_per_minute = minutes_first(books, rules, buffer, account_row, account, call, answer, way, True)
    if capacity < 0:
        return wanted_s, 0, 0
    if answer.pool_minutes == answer.billed_minutes:
        return wanted_s, BY_POOL, 0
    if answer.deck_row < 0:
        return offer_pool_alone(answer, NO_RATE)
    row = rules.decks.rows[answer.deck_row]
    refused = NO_CREDIT_LICENCE if lacks_credit_licence(account, way, held, pays_per_minute) else 0
    return offer_credits(
        account,
        answer,
        wanted_s,
        refused,
        row.initial_s,
        row.step_s,
        row.rate_nanos,
        row.connection_fee_micros,
        row.minimum_charge_micros,
    )


@kernel
def offer_inbound(
    books: Books,
    rules: Rules,
    buffer: Any,
    account_row: Any,
    account: Any,
    call: Any,
    answer: Any,
    way: Any,
    wanted_s: Any,
) -> Any:
    """As `offer_credits`."""
    pays, row, _ = inbound_terms(books, rules, buffer, account_row, account, call, answer, way)
    if not pays:
        gated = way == UNASSIGNED_IN and gate_refuses_at_zero(account) and balance_of(account) <= 0
        return (0, 0, NO_CREDIT) if gated else (wanted_s, 0, 0)
    if row < 0:
        return offer_pool_alone(answer, NO_RATE)
    head, rate = rules.decks.heads[answer.head], rules.decks.inbound[row]
    return offer_credits(
        account,
        answer,
        wanted_s,
        0,
        head.initial_s,
        head.step_s,
        rate.rate_nanos,
        rate.connection_fee_micros,
        0,
    )


@kernel
def offer(
    books: Books, rules: Rules, buffer: Any, account_row: Any, account: Any, call: Any, answer: Any, wanted_s: Any
) -> Any:
    """(seconds granted, payers, refusal). `answer` says what is to be held."""
    clear(answer)
    way = WAYS[call.call_type]
    if way == EMERGENCY or way == DIRECT_ROUTING or way == USER_IN:
        return wanted_s, 0, 0
    answer.billed_minutes = billed_minutes(1000 * wanted_s)
    if way == USER_OUT or way == CONFERENCE_OUT or way == BOT_OUT:
        if is_forwarded_to_emergency(rules, account, buffer, call):
            return wanted_s, 0, 0
        return offer_outbound(books, rules, buffer, account_row, account, call, answer, way, wanted_s)
    return offer_inbound(books, rules, buffer, account_row, account, call, answer, way, wanted_s)


@kernel
def authorize(
    books: Books,
    rules: Rules,
    buffer: Any,
    account_row: Any,
    account: Any,
    call: Any,
    command: Any,
    answer: Any,
    news: Any,
    news_tally: Any,
    record: Any,
) -> None:
    """One question x its account -> a hold, or a refusal; told either way. The same call id asked again begins anew."""
    earlier = hold_named(books, account_row, buffer, call.call_id_at, call.call_id_end)
    if earlier >= 0:
        end_hold(books, account, earlier)
    call.user = -1
    if call.user_at >= 0:
        high, low = identity(books.key[0], books.key[1], KIND_USER, account_row, buffer, call.user_at, call.user_end)
        call.user = find(books.users, high, low)
    seconds, payers, refused = offer(books, rules, buffer, account_row, account, call, answer, command.seconds)
    if refused == 0:
        open_hold(
            books,
            account_row,
            account,
            buffer,
            call.call_id_at,
            call.call_id_end,
            answer,
            command.at_ms,
            command.expires_ms,
        )
    kind = CALL_AUTHORIZED if refused == 0 else CALL_REFUSED
    told = announce(news, news_tally, kind, account_row, account, record, 0, command.at_ms)
    news[told].number = seconds
    news[told].capacity = payers if refused == 0 else refused
    news[told].amount_micros = answer.charge_micros
    news[told].until_ms = command.expires_ms
    news[told].pool = answer.pool
    news[told].used = answer.pool_minutes
    news[told].totals[HELD] = account.held_micros
