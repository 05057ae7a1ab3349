"""What a block of calls will need, asked of memory before it is needed.

A large state does not fit in the processor's caches: account, id and user of a call each cost a wait of some hundred
instructions, one after the other. Here they are looked up for a block of calls in stages, so that the waits overlap. That
changes no answer: calls neither open accounts nor add users, and the ids seen are looked at again when a call is decided.
"""

from typing import Any

import numpy as np

from rater.core.accounts import Books, find, likely_row
from rater.core.compiled import kernel
from rater.core.hashing import KIND_CALL, KIND_TENANT, KIND_USER, identity
from rater.core.plans import PLANS
from rater.core.seen import entry_of
from rater.core.words import prefetch, trailing_zeros

U8 = np.uint64
BLOCK = 32  # calls; enough to overlap the waits, few enough that nothing is pushed out again

# How much of a row a call reads or writes: the names at the end are not worth fetching.
ACCOUNT_BYTES, LOT_BYTES, USER_BYTES, FLEET_BYTES = 256, 128, 256, 48


@kernel
def fetch_slot(index: Any, high: Any) -> None:
    prefetch(index, np.int64(high & U8(index.shape[0] - 1)), 0)


@kernel
def fetch_row(rows: Any, row: Any, size: Any) -> None:
    for offset in range(0, size + 63, 64):  # a row may begin anywhere in a line
        prefetch(rows, row, offset)


@kernel
def name_tenants(books: Books, buffer: Any, calls: Any, first: Any, last: Any) -> None:
    for r in range(first, last):
        call = calls[r]
        if call.reason == 0:
            high, low = identity(books.key[0], books.key[1], KIND_TENANT, 0, buffer, call.tenant_at, call.tenant_end)
            call.entry, call.check = high, low
            fetch_slot(books.accounts.index, high)


@kernel
def name_calls(books: Books, buffer: Any, calls: Any, first: Any, last: Any) -> None:
    for r in range(first, last):
        call = calls[r]
        if call.reason == 0:
            account = find(books.accounts, call.entry, call.check)
            call.account = account
            call.user = -1
            if account >= 0:
                high, low = identity(
                    books.key[0], books.key[1], KIND_CALL, account, buffer, call.record_at, call.record_end
                )
                call.entry, call.check = entry_of(high, low, call.content)
                prefetch(books.seen, np.int64(call.entry & U8(books.seen.shape[0] - 1)) * 2, 0)
                prefetch(books.accounts.stamps, account, 0)
                prefetch(books.lots.stamps, books.accounts.rows[account].first_lot, 0)
                fetch_row(books.lots.rows, books.accounts.rows[account].first_lot, LOT_BYTES)
                if call.user_at >= 0:
                    call.user_high, call.user_low = identity(
                        books.key[0], books.key[1], KIND_USER, account, buffer, call.user_at, call.user_end
                    )
                    fetch_slot(books.users.index, call.user_high)


@kernel
def look_ahead(books: Books, buffer: Any, calls: Any, first: Any, last: Any) -> None:
    """Fill `account`, `entry`, `check` and `user` of the calls from `first` to before `last`."""
    name_tenants(books, buffer, calls, first, last)
    for r in range(first, last):
        if calls[r].reason == 0:
            fetch_row(books.accounts.rows, likely_row(books.accounts, calls[r].entry), ACCOUNT_BYTES)
    name_calls(books, buffer, calls, first, last)
    for r in range(first, last):
        if calls[r].reason == 0 and calls[r].account >= 0 and calls[r].user_at >= 0:
            fetch_row(books.users.rows, likely_row(books.users, calls[r].user_high), USER_BYTES)
    for r in range(first, last):
        if calls[r].reason == 0 and calls[r].account >= 0 and calls[r].user_at >= 0:
            user = find(books.users, calls[r].user_high, calls[r].user_low)
            calls[r].user = user
            if user >= 0:
                plan = trailing_zeros(U8(books.users.rows[user].held))
                if plan < len(PLANS):
                    fetch_row(books.fleets.rows, books.users.rows[user].fleets[plan], FLEET_BYTES)
