"""Holds: minutes and credits kept for calls that were authorized, so that calls going on at once cannot spend the same twice.

A hold takes nothing: what a call costs is debited when its record comes, whatever is held. It only counts against the next
authorization. It ends with the record that carries its call id, with another authorization of that id, or when it expires by
the instant of a command; then its place in the books is used again.
"""

from typing import Any

import numpy as np

from rater.core.accounts import Books, copy_name, enter, find, give_row, leave, take_row, touch
from rater.core.compiled import kernel
from rater.core.hashing import KIND_HOLD, identity
from rater.core.instants import NEVER_MS
from rater.core.thresholds import HOLD_EXPIRED, announce

HELD = 0  # place of `totals` in a row of news


@kernel
def hold_named(books: Books, account_row: Any, buffer: Any, start: Any, end: Any) -> Any:
    """The open hold of a call id, or -1."""
    high, low = identity(books.key[0], books.key[1], KIND_HOLD, account_row, buffer, start, end)
    return find(books.holds, high, low)


@kernel
def open_hold(
    books: Books,
    account_row: Any,
    account: Any,
    buffer: Any,
    start: Any,
    end: Any,
    answer: Any,
    at_ms: Any,
    expires_ms: Any,
) -> None:
    """Keep what an authorization offered; its pool minutes are in `held` of the pool already. The id has no open hold."""
    holds = books.holds
    row = take_row(holds)
    hold = holds.rows[row]
    high, low = identity(books.key[0], books.key[1], KIND_HOLD, account_row, buffer, start, end)
    hold.hash_0, hold.hash_1 = high, low
    hold.account = account_row
    hold.previous = -1
    hold.next = account.first_hold
    hold.pool = answer.pool
    hold.pool_minutes = answer.pool_minutes
    hold.micros = answer.charge_micros
    hold.at_ms = at_ms
    hold.expires_ms = expires_ms
    hold.name_length = end - start
    for k in range(hold.name.size):
        hold.name[k] = buffer[start + k] if k < end - start else np.uint8(0)
    if account.first_hold >= 0:
        touch(holds, account.first_hold)
        holds.rows[account.first_hold].previous = row
    account.first_hold = row
    account.hold_count += 1
    account.held_micros += answer.charge_micros
    account.next_hold_ms = min(account.next_hold_ms, expires_ms)
    enter(holds.index, high, row)


@kernel
def end_hold(books: Books, account: Any, row: Any) -> None:
    """What it kept is free again. The account is touched by the caller."""
    holds = books.holds
    hold = holds.rows[row]
    touch(holds, row)
    if hold.previous >= 0:
        touch(holds, hold.previous)
        holds.rows[hold.previous].next = hold.next
    else:
        account.first_hold = hold.next
    if hold.next >= 0:
        touch(holds, hold.next)
        holds.rows[hold.next].previous = hold.previous
    if hold.pool >= 0:
        touch(books.pools, hold.pool)
        books.pools.rows[hold.pool].held -= hold.pool_minutes
    account.hold_count -= 1
    account.held_micros -= hold.micros
    if account.hold_count == 0:
        account.next_hold_ms = NEVER_MS
    leave(holds, row)
    give_row(holds, row)


@kernel
def end_hold_of_call(books: Books, account_row: Any, account: Any, buffer: Any, call: Any) -> None:
    """The record of an authorized call came."""
    if call.call_id_at < 0:
        return
    row = hold_named(books, account_row, buffer, call.call_id_at, call.call_id_end)
    if row >= 0:
        end_hold(books, account, row)


@kernel
def expiring_holds(account: Any, at_ms: Any) -> Any:
    """How many holds can expire at most by this instant."""
    return account.hold_count if at_ms >= account.next_hold_ms else 0


@kernel
def expire_holds(
    books: Books, news: Any, news_tally: Any, account_row: Any, account: Any, record: Any, at_ms: Any
) -> None:
    """End and tell every hold that has expired by the instant of a command."""
    if expiring_holds(account, at_ms) == 0:
        return
    account.next_hold_ms = NEVER_MS
    row = account.first_hold
    while row >= 0:
        hold = books.holds.rows[row]
        following = hold.next
        if hold.expires_ms <= at_ms:
            account.expired_holds += 1
            end_hold(books, account, row)
            told = announce(news, news_tally, HOLD_EXPIRED, account_row, account, record, 0, at_ms)
            news[told].number = account.expired_holds
            news[told].amount_micros = hold.micros
            news[told].until_ms = hold.expires_ms
            news[told].pool = hold.pool
            news[told].used = hold.pool_minutes
            news[told].totals[HELD] = account.held_micros
            news[told].name_length = hold.name_length
            copy_name(news[told].name, hold.name, hold.name_length)
        else:
            account.next_hold_ms = min(account.next_hold_ms, hold.expires_ms)
        row = following
