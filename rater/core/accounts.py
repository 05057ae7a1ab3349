"""The rows of the state: accounts, lots, users' licences, fleets of licences, pools, numbers, totals of months and holds.

A shelf is one kind of row in a record array, found through an open-addressing index of (hash tag, row number). Rows are
added and changed, never moved and never deleted: what ends is marked so, and the row of a lot or hold that ended is used again. Every row is
self-contained bytes, so a snapshot of a shelf is its array and a changelog record is one row.
"""

from typing import Any, NamedTuple

import numpy as np

from rater.core.compiled import kernel
from rater.core.hashing import identity, mixed
from rater.core.words import copy_bytes

U8 = np.uint64
LOW_32 = U8(0xFFFFFFFF)
THIRTY_TWO = U8(32)

PREPAID, POST_USAGE = 0, 1
DOMESTIC, INTERNATIONAL, ZONE_A = 0, 1, 2
NUMBER_USER, NUMBER_SERVICE, NUMBER_TOLL_FREE = 0, 1, 2

_IDENTITY = [("hash_0", np.uint64), ("hash_1", np.uint64)]

ACCOUNT = np.dtype(
    [
        *_IDENTITY,
        ("version", np.int64),
        ("lots_micros", np.int64),  # what is left in lots
        ("debt_micros", np.int64),
        ("invoice_micros", np.int64),  # running total since the tenant was opened
        ("trigger_micros", np.int64),
        ("recharge_micros", np.int64),
        ("wait_until_ms", np.int64),  # after a failed recharge: the first call end that may ask again
        ("next_expiry_ms", np.int64),  # earliest expiry of its lots
        ("last_seen_ms", np.int64),
        ("closed_before", np.int64),  # months below this are closed
        ("first_lot", np.int64),
        ("lot_count", np.int64),
        ("recharges", np.int64),  # requested so far; the last one is the one in flight
        ("failures", np.int64),  # in a row
        ("zero_crossings", np.int64),
        ("blocks", np.int64),
        ("conference_licences", np.int64),  # MCOMEETADD assigned
        (
            "month",
            np.int64,
        ),  # of the last call; what the calls of it came to that its totals do not have yet (`core.months`):
        ("month_calls", np.int64),
        ("month_connected", np.int64),
        ("month_charge_micros", np.int64),
        ("month_invoice_micros", np.int64),
        ("month_pool_minutes", np.int64),
        ("month_credit_minutes", np.int64),
        ("month_late", np.int64),
        ("hold_count", np.int64),
        ("currency", np.int64),
        ("country", np.int64),
        ("billing_mode", np.int8),
        ("overage", np.int8),
        ("recharge_enabled", np.int8),
        ("in_flight", np.int8),
        ("blocked", np.int8),
        ("name_length", np.int16),
        # what a call seldom looks at
        ("name", np.uint8, (64,)),
        ("first_open_month", np.int64),  # totals not told yet, the earliest month first; -1 for none
        ("open_months", np.int64),
        ("first_hold", np.int64),  # of its open holds, or -1
        ("held_micros", np.int64),  # what they hold together
        ("next_hold_ms", np.int64),  # no hold expires before
        ("expired_holds", np.int64),  # so far
    ],
    align=True,
)

LOT = np.dtype(
    [
        ("account", np.int64),  # -1 when the row is free
        ("next", np.int64),
        ("left_micros", np.int64),
        ("amount_micros", np.int64),
        ("at_ms", np.int64),
        ("expires_ms", np.int64),
        ("name_length", np.int16),
        ("warned", np.int8),  # its coming expiry was announced
        ("name", np.uint8, (136,)),
    ],
    align=True,
)

USER = np.dtype(
    [
        *_IDENTITY,
        ("account", np.int64),
        ("held", np.int64),  # bit k: holds plan k
        ("countries", np.int64, (11,)),
        ("fleets", np.int64, (11,)),  # row of the fleet this licence counts in
        ("name_length", np.int16),
        ("name", np.uint8, (260,)),
    ],
    align=True,
)

FLEET = np.dtype(  # the licences of one plan and pool country that a tenant has assigned
    [
        *_IDENTITY,
        ("account", np.int64),
        ("country", np.int64),
        ("plan", np.int64),
        ("assigned", np.int64),
    ],
    align=True,
)

POOL = np.dtype(
    [
        *_IDENTITY,
        ("account", np.int64),
        ("user", np.int64),  # row of the user of an unpooled plan, else -1
        ("country", np.int64),
        ("plan", np.int64),
        ("scope", np.int64),
        ("month", np.int64),
        ("used", np.int64),
        ("held", np.int64),  # minutes that open holds keep for calls still going on
        ("allotment", np.int64),  # minutes a licence gave at the last call
        ("announced", np.int64),  # bit 0: 80 %, bit 1: 100 %
    ],
    align=True,
)

NUMBER = np.dtype(
    [
        *_IDENTITY,
        ("account", np.int64),
        ("country", np.int64),
        ("number_type", np.int64),
        ("assigned", np.int64),
        ("name_length", np.int16),
        ("name", np.uint8, (16,)),
    ],
    align=True,
)

TOTAL = np.dtype(  # what the calls of one month, by their start, came to for one tenant
    [
        *_IDENTITY,
        ("account", np.int64),
        ("month", np.int64),
        ("next", np.int64),  # the next later month that is not told yet, or -1
        ("calls", np.int64),
        ("connected", np.int64),
        ("charge_micros", np.int64),
        ("invoice_micros", np.int64),
        ("pool_minutes", np.int64),
        ("credit_minutes", np.int64),
        ("late", np.int64),  # calls that came when the month was closed
        ("told", np.int64),  # its summary was announced
    ],
    align=True,
)

HOLD = np.dtype(  # minutes and credits kept for one authorized call until its record comes or the hold expires
    [
        *_IDENTITY,
        ("account", np.int64),  # -1 when the row is free
        ("next", np.int64),
        ("previous", np.int64),
        ("pool", np.int64),  # row, or -1
        ("pool_minutes", np.int64),
        ("micros", np.int64),
        ("at_ms", np.int64),
        ("expires_ms", np.int64),
        ("name_length", np.int16),
        ("name", np.uint8, (260,)),  # the call's id, in JSON text form
    ],
    align=True,
)

# Places in a tally (kernels write the numbers).
ROWS, DIRTY, STAMP, FREE, FREED = 0, 1, 2, 3, 4


class Shelf(NamedTuple):
    """One kind of row. `tally` = [rows, dirty rows of this batch, batch stamp, first free row or -1, free rows]."""

    rows: Any
    index: Any  # uint64: tag << 32 | row + 1; 0 is empty
    stamps: Any  # int64 per row: the batch that touched it last
    dirty: Any  # int64: rows touched in this batch
    tally: Any


class Books(NamedTuple):
    """Everything a batch may read or change, as arrays: what a kernel is given."""

    accounts: Shelf
    lots: Shelf
    users: Shelf
    fleets: Shelf
    pools: Shelf
    numbers: Shelf
    totals: Shelf
    holds: Shelf
    seen: Any  # uint64[slots, 2]
    fresh: Any  # uint64[n, 2]: ids first seen in this batch
    seen_tally: Any  # int64: [ids kept, ids fresh in this batch]
    key: Any  # uint64[2]: the SipHash key of this state
    scratch: Any  # uint8[64]: for composing a key


@kernel
def copy_name(target: Any, source: Any, length: Any) -> None:
    """The first bytes of a name; assigning slices would compile to a page of shape checks."""
    copy_bytes(target, 0, source, 0, length)


@kernel
def clear_name(target: Any) -> None:
    for k in range(target.size):
        target[k] = 0


@kernel
def touch(shelf: Shelf, row: Any) -> None:
    """Remember that a row changes in this batch: it must reach the log."""
    stamp = shelf.tally[2]
    if shelf.stamps[row] != stamp:
        shelf.stamps[row] = stamp
        shelf.dirty[shelf.tally[1]] = row
        shelf.tally[1] += 1


@kernel
def find(shelf: Shelf, high: Any, low: Any) -> Any:
    """The row of an identity, or -1."""
    index = shelf.index
    mask = index.size - 1
    tag = high >> THIRTY_TWO
    slot = np.int64(high & U8(mask))
    while True:
        entry = index[slot]
        if entry == U8(0):
            return -1
        if entry >> THIRTY_TWO == tag:
            row = np.int64(entry & LOW_32) - 1
            if shelf.rows[row].hash_0 == high and shelf.rows[row].hash_1 == low:
                return row
        slot = (slot + 1) & mask


@kernel
def find_named(shelf: Shelf, key: Any, kind: Any, owner: Any, buffer: Any, start: Any, end: Any) -> Any:
    """The row of a name, or -1: for callers in Python, whose whole numbers must not meet 64-bit hashes."""
    high, low = identity(key[0], key[1], kind, owner, buffer, start, end)
    return find(shelf, high, low)


@kernel
def likely_row(shelf: Shelf, high: Any) -> Any:
    """The row that `find` will most likely look at, told by the index alone; -1 where there is none."""
    index = shelf.index
    mask = index.size - 1
    tag = high >> THIRTY_TWO
    slot = np.int64(high & U8(mask))
    while index[slot] != U8(0):
        if index[slot] >> THIRTY_TWO == tag:
            return np.int64(index[slot] & LOW_32) - 1
        slot = (slot + 1) & mask
    return -1


@kernel
def enter(index: Any, high: Any, row: Any) -> None:
    """Put a row under its hash; the caller knows that it is not there yet and that there is room."""
    mask = index.size - 1
    slot = np.int64(high & U8(mask))
    while index[slot] != U8(0):
        slot = (slot + 1) & mask
    index[slot] = ((high >> THIRTY_TWO) << THIRTY_TWO) | U8(row + 1)


@kernel
def add(shelf: Shelf, high: Any, low: Any) -> Any:
    """A new row with this identity, everything else 0; touched."""
    row = shelf.tally[0]
    shelf.tally[0] += 1
    shelf.rows[row].hash_0 = high
    shelf.rows[row].hash_1 = low
    enter(shelf.index, high, row)
    touch(shelf, row)
    return row


@kernel
def index_rows(rows: Any, count: Any, index: Any) -> None:
    """Fill an empty index from the rows themselves (after a restore, or when the shelf grew)."""
    for row in range(count):
        enter(index, rows[row].hash_0, row)


@kernel
def index_used_rows(rows: Any, count: Any, index: Any) -> None:
    """As `index_rows`, for a shelf whose rows are used again."""
    for row in range(count):
        if rows[row].account >= 0:
            enter(index, rows[row].hash_0, row)


@kernel
def leave(shelf: Shelf, row: Any) -> None:
    """Take a row out of the index. What had to go on past it moves back, so that every search still ends at the first gap."""
    index = shelf.index
    mask = index.size - 1
    gap = np.int64(shelf.rows[row].hash_0 & U8(mask))
    while np.int64(index[gap] & LOW_32) - 1 != row:
        gap = (gap + 1) & mask
    slot = (gap + 1) & mask
    while index[slot] != U8(0):
        home = np.int64(shelf.rows[np.int64(index[slot] & LOW_32) - 1].hash_0 & U8(mask))
        if (slot - home) & mask >= (slot - gap) & mask:
            index[gap] = index[slot]
            gap = slot
        slot = (slot + 1) & mask
    index[gap] = U8(0)


@kernel
def take_row(shelf: Shelf) -> Any:
    """A free row of a shelf whose rows are used again: one that was given back before, else a new one; touched."""
    row = shelf.tally[3]
    if row >= 0:
        shelf.tally[3] = shelf.rows[row].next
        shelf.tally[4] -= 1
    else:
        row = shelf.tally[0]
        shelf.tally[0] += 1
    touch(shelf, row)
    return row


@kernel
def give_row(shelf: Shelf, row: Any) -> None:
    """The caller has touched it."""
    shelf.rows[row].account = -1
    shelf.rows[row].next = shelf.tally[3]
    shelf.tally[3] = row
    shelf.tally[4] += 1


@kernel
def fleet_identity(account: Any, country: Any, plan: Any) -> Any:
    """Exact: `mixed` is a bijection, so equal halves mean equal keys."""
    low = (U8(country) << THIRTY_TWO) | U8(plan)
    return mixed(U8(account) + mixed(low)), low


@kernel
def pool_identity(account: Any, user: Any, country: Any, plan: Any, scope: Any, month: Any) -> Any:
    """As `fleet_identity`; the user row is shifted by one so that "no user" is 0."""
    low = (U8(country) << U8(48)) | (U8(plan) << U8(40)) | (U8(scope) << THIRTY_TWO) | U8(month)
    owner = (U8(account) << THIRTY_TWO) | U8(user + 1)
    return mixed(owner + mixed(low)), low


@kernel
def total_identity(account: Any, month: Any) -> Any:
    """As `fleet_identity`."""
    low = U8(month)
    return mixed(U8(account) + mixed(low)), low


@kernel
def balance_of(account: Any) -> Any:
    """What is left in lots, less the debt."""
    return account.lots_micros - account.debt_micros
