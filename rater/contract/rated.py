"""Rated calls: an answer -> the bytes of the topic `rated-cdrs`, the call's own bytes spliced in.

Every field of contract section 3 is written for every call, in this order, 0 or null where it does not apply.
"""

from typing import Any

import numpy as np

from rater.core.accounts import ZONE_A, balance_of
from rater.core.charging import (
    CAPABILITY_CREDITS,
    CAPABILITY_FREECALL,
    FLAG_LATE,
    FLAG_NO_CREDIT_LICENCE,
    FLAG_NO_PLAN,
    FLAG_OVERDRAWN,
    OUTCOMES,
)
from rater.core.compiled import kernel
from rater.core.plans import PLANS
from rater.core.writing import (
    fragment,
    fragments,
    put,
    put_choice,
    put_country,
    put_escaped,
    put_int,
    put_month,
    put_span,
)

HEAD = fragment('{"v":1,"call":')
OUTCOME_TEXTS, OUTCOME_BOUNDS = fragments([f',"outcome":"{name}","tenant":"' for name in OUTCOMES])
RECORD = fragment('","record_id":"')
CHARGE = fragment('","charge_micros":')
CURRENCY = fragment(',"currency":"')
BILLED = fragment('","billed_minutes":')
POOL_NULL = fragment(',"pool":null,"pool_minutes":0')
POOL_OPEN = fragment(',"pool":"')
POOL_CLOSE = fragment('","pool_minutes":')
CREDIT = fragment(',"credit_minutes":')
FEE = fragment(',"connection_fee_micros":')
COMMA = fragment(",")
RATE = fragment(',"rate_nanos_per_minute":')
PREFIX_NULL = fragment(',"prefix":null,"destination":null')
COUNTRY = fragment(',"destination_country":')
CONTEXT_TEXTS, CONTEXT_BOUNDS = fragments(
    [f',"destination_context":{text}' for text in ("null", '"Domestic"', '"International"')]
)
CAPABILITY_TEXTS, CAPABILITY_BOUNDS = fragments(
    [f',"capability":"{name}",' for name in PLANS]
    + [f',"capability":{t},' for t in ("null", '"MCOPSTNPP"', '"FREECALL"')]
)
NO_CAPABILITY_TEXT, CREDITS_TEXT, FREECALL_TEXT = len(PLANS), len(PLANS) + 1, len(PLANS) + 2
DECK_NULL = fragment('"deck":null,"deck_version":null')
LOTS = fragment(',"lots":[')
LOT_OPEN = fragment('["')
LOT_CLOSE = fragment('",')
DEBT = fragment('],"debt_micros":')
INVOICE = fragment(',"invoice_micros":')
BALANCE = fragment(',"balance_micros":')
VERSION = fragment(',"account_version":')
NO_FLAGS = fragment(',"flags":[],"input":[')
FLAGS_OPEN = fragment(',"flags":[')
FLAGS_CLOSE = fragment('],"input":[')
FLAG_BITS = np.array([FLAG_NO_CREDIT_LICENCE, FLAG_OVERDRAWN, FLAG_LATE, FLAG_NO_PLAN], np.int64)
FLAG_TEXTS, FLAG_BOUNDS = fragments(['"no_credit_licence",', '"overdrawn",', '"late",', '"no_plan",'])
CLOSE = fragment("]}\n")

PLAN_TEXTS, PLAN_BOUNDS = fragments([f"/{name}/" for name in PLANS])
SCOPE_TEXTS, SCOPE_BOUNDS = fragments(["domestic/", "international/", "zone-a/"])

# Room a rated call may need besides the call, its ids, its user and the deck's texts.
LINE_ROOM = 900
LOT_ROOM = 2 * 136 + 24


@kernel
def put_pool_name(out: Any, at: Any, pool: Any, users: Any) -> Any:
    """`GB/MCOPSTN1/domestic/2026-11`; `/<user>` behind it where the minutes are one user's; `*` for the conference pool."""
    if pool.scope == ZONE_A:
        out[at] = 42
        at += 1
    else:
        out[at], out[at + 1] = pool.country >> 8, pool.country & 255
        at += 2
    at = put_choice(out, at, PLAN_TEXTS, PLAN_BOUNDS, pool.plan)
    at = put_choice(out, at, SCOPE_TEXTS, SCOPE_BOUNDS, pool.scope)
    at = put_month(out, at, pool.month)
    if pool.user >= 0:
        out[at] = 47
        user = users[pool.user]
        at = put_span(out, at + 1, user.name, 0, user.name_length)
    return at


@kernel
def put_flags(out: Any, at: Any, flags: Any) -> Any:
    if flags == 0:
        return put(out, at, NO_FLAGS)
    at = put(out, at, FLAGS_OPEN)
    for k in range(FLAG_BITS.size):
        if flags & FLAG_BITS[k]:
            at = put_choice(out, at, FLAG_TEXTS, FLAG_BOUNDS, k)
    return put(out, at - 1, FLAGS_CLOSE)


@kernel
def capability_text(capability: Any) -> Any:
    if capability == CAPABILITY_CREDITS:
        return CREDITS_TEXT
    if capability == CAPABILITY_FREECALL:
        return FREECALL_TEXT
    return capability if capability >= 0 else NO_CAPABILITY_TEXT


@kernel
def put_deck_row(out: Any, at: Any, rate_nanos: Any, deck_row: Any, deck_rows: Any, deck_texts: Any) -> Any:
    """Rate, prefix and destination: one ready-made fragment of the deck, or an inbound rate without a prefix."""
    if deck_row >= 0:
        at = put(out, at, COMMA)
        start = deck_rows[deck_row].text_at
        return put_span(out, at, deck_texts, start, start + deck_rows[deck_row].text_length)
    at = put(out, at, RATE)
    at = put_int(out, at, rate_nanos)
    return put(out, at, PREFIX_NULL)


@kernel
def put_lots(out: Any, at: Any, drawn: Any, draw_rows: Any, draw_micros: Any, lots: Any) -> Any:
    at = put(out, at, LOTS)
    for k in range(drawn):
        if k > 0:
            at = put(out, at, COMMA)
        at = put(out, at, LOT_OPEN)
        lot = lots[draw_rows[k]]
        at = put_escaped(out, at, lot.name, lot.name_length)
        at = put(out, at, LOT_CLOSE)
        at = put_int(out, at, draw_micros[k])
        out[at] = 93
        at += 1
    return at


@kernel
def write_rated(
    out: Any,
    at: Any,
    raw: Any,
    raw_start: Any,
    raw_end: Any,
    call: Any,
    answer: Any,
    account: Any,
    pools: Any,
    users: Any,
    lots: Any,
    draw_rows: Any,
    draw_micros: Any,
    heads: Any,
    deck_rows: Any,
    deck_texts: Any,
    partition: Any,
    offset: Any,
) -> Any:
    """One line of `rated-cdrs`, its line feed included; the next free place."""
    at = put(out, at, HEAD)
    at = put_span(out, at, raw, raw_start, raw_end)
    at = put_choice(out, at, OUTCOME_TEXTS, OUTCOME_BOUNDS, answer.outcome)
    at = put_span(out, at, raw, call.tenant_at, call.tenant_end)
    at = put(out, at, RECORD)
    at = put_span(out, at, raw, call.record_at, call.record_end)
    at = put(out, at, CHARGE)
    at = put_int(out, at, answer.charge_micros)
    at = put(out, at, CURRENCY)
    currency = account.currency
    out[at], out[at + 1], out[at + 2] = currency >> 16, currency >> 8 & 255, currency & 255
    at = put(out, at + 3, BILLED)
    at = put_int(out, at, answer.billed_minutes)
    if answer.pool < 0:
        at = put(out, at, POOL_NULL)
    else:
        at = put(out, at, POOL_OPEN)
        at = put_pool_name(out, at, pools[answer.pool], users)
        at = put(out, at, POOL_CLOSE)
        at = put_int(out, at, answer.pool_minutes)
    at = put(out, at, CREDIT)
    at = put_int(out, at, answer.credit_minutes)
    at = put(out, at, FEE)
    at = put_int(out, at, answer.fee_micros)
    at = put_deck_row(out, at, answer.rate_nanos, answer.deck_row, deck_rows, deck_texts)
    at = put(out, at, COUNTRY)
    at = put_country(out, at, answer.destination)
    at = put_choice(out, at, CONTEXT_TEXTS, CONTEXT_BOUNDS, answer.context)
    at = put_choice(out, at, CAPABILITY_TEXTS, CAPABILITY_BOUNDS, capability_text(answer.capability))
    if answer.head < 0:
        at = put(out, at, DECK_NULL)
    else:
        start = heads[answer.head].text_at
        at = put_span(out, at, deck_texts, start, start + heads[answer.head].text_length)
    at = put_lots(out, at, answer.drawn, draw_rows, draw_micros, lots)
    at = put(out, at, DEBT)
    at = put_int(out, at, answer.debt_micros)
    at = put(out, at, INVOICE)
    at = put_int(out, at, answer.invoice_micros)
    at = put(out, at, BALANCE)
    at = put_int(out, at, balance_of(account))
    at = put(out, at, VERSION)
    at = put_int(out, at, account.version)
    at = put_flags(out, at, answer.marks)
    at = put_int(out, at, partition)
    at = put(out, at, COMMA)
    at = put_int(out, at, offset)
    return put(out, at, CLOSE)
