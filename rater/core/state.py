"""The state of one partition: shelves of rows and the ids seen, as arrays that grow between batches.

Kernels never allocate rows: `reserve` makes room before a batch for the most that its commands and calls could add.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rater.core.accounts import (
    ACCOUNT,
    DIRTY,
    FLEET,
    FREE,
    FREED,
    HOLD,
    LOT,
    NUMBER,
    POOL,
    ROWS,
    STAMP,
    TOTAL,
    USER,
    Books,
    Shelf,
    index_rows,
    index_used_rows,
)
from rater.core.seen import SMALLEST, NextSeen, gather, refill, room_of, slots_for

Array = np.ndarray[Any, Any]

SHELVES: dict[str, np.dtype[Any]] = {
    "accounts": ACCOUNT,
    "lots": LOT,
    "users": USER,
    "fleets": FLEET,
    "pools": POOL,
    "numbers": NUMBER,
    "totals": TOTAL,
    "holds": HOLD,
}
WITHOUT_INDEX = frozenset({"lots"})
USED_AGAIN = frozenset({"lots", "holds"})  # rows of these are given back
_SMALLEST_SHELF = 64
# The next set of ids is begun when a sixteenth of this one is left, and where that is many batches, not before the last of them.
ALMOST_FULL, LAST_BATCHES = 16, 256
READY_BEFORE = 4  # memory is asked for when the last quarter fills, and moved into when the last sixteenth does
WORTH_MAKING_READY = 1 << 16  # slots: the next set has two megabytes


def _records(count: int, dtype: np.dtype[Any]) -> Array:
    return np.zeros(count, dtype).view(np.recarray)


def _index_for(rows: int) -> Array:
    return np.zeros(1 << max(7, (2 * rows - 1).bit_length()), np.uint64)


def _index(name: str, rows: Array, count: int, index: Array) -> None:
    """Fill an empty index, where this kind of row has one."""
    if name in WITHOUT_INDEX:
        return
    fill = index_used_rows if name in USED_AGAIN else index_rows
    fill(rows, count, index)


def _new_shelf(dtype: np.dtype[Any], capacity: int) -> Shelf:
    tally = np.zeros(5, np.int64)
    tally[FREE] = -1
    tally[STAMP] = 1  # rows carry 0 until they are touched
    return Shelf(
        _records(capacity, dtype),
        _index_for(capacity),
        np.zeros(capacity, np.int64),
        np.zeros(capacity, np.int64),
        tally,
    )


def _grown(name: str, shelf: Shelf, capacity: int) -> Shelf:
    count = int(shelf.tally[ROWS])
    rows = _records(capacity, shelf.rows.dtype)
    rows[:count] = shelf.rows[:count]
    stamps = np.zeros(capacity, np.int64)
    stamps[:count] = shelf.stamps[:count]
    dirty = np.zeros(capacity, np.int64)
    changed = int(shelf.tally[DIRTY])
    dirty[:changed] = shelf.dirty[:changed]
    index = _index_for(capacity)
    _index(name, rows, count, index)
    return Shelf(rows, index, stamps, dirty, shelf.tally)


@dataclass(slots=True)
class State:
    """Rows and ids of one partition. `key` is the SipHash key that names them; it is made once and kept with the state."""

    key: Array
    shelves: dict[str, Shelf] = field(default_factory=dict)
    seen: Array = field(default_factory=lambda: np.zeros((SMALLEST, 2), np.uint64))
    fresh: Array = field(default_factory=lambda: np.zeros((SMALLEST, 2), np.uint64))
    seen_tally: Array = field(default_factory=lambda: np.zeros(2, np.int64))
    scratch: Array = field(default_factory=lambda: np.zeros(64, np.uint8))
    next_seen: NextSeen | None = None
    ready: Array | None = None  # memory for the next set of ids, asked for by somebody who has the time

    @staticmethod
    def empty(key: bytes = bytes(16)) -> "State":
        """A state without tenants. A fixed key makes runs comparable; a door that faces the world draws a random one."""
        state = State(np.frombuffer(key, np.uint64).copy())
        for name, dtype in SHELVES.items():
            state.shelves[name] = _new_shelf(dtype, _SMALLEST_SHELF)
        return state

    def books(self) -> Books:
        shelves = self.shelves
        return Books(
            accounts=shelves["accounts"],
            lots=shelves["lots"],
            users=shelves["users"],
            fleets=shelves["fleets"],
            pools=shelves["pools"],
            numbers=shelves["numbers"],
            totals=shelves["totals"],
            holds=shelves["holds"],
            seen=self.seen,
            fresh=self.fresh,
            seen_tally=self.seen_tally,
            key=self.key,
            scratch=self.scratch,
        )

    def rows(self, name: str) -> Any:
        """The rows in use of one shelf."""
        shelf = self.shelves[name]
        return shelf.rows[: int(shelf.tally[ROWS])]

    def row_counts(self) -> dict[str, int]:
        """Rows in use of each shelf."""
        return {name: int(shelf.tally[ROWS]) for name, shelf in self.shelves.items()}

    def open_holds(self) -> int:
        """Authorized calls whose record has not come yet."""
        tally = self.shelves["holds"].tally
        return int(tally[ROWS] - tally[FREED])

    def free_rows(self) -> dict[str, int]:
        """The first free row of each shelf, -1 for none."""
        return {name: int(shelf.tally[FREE]) for name, shelf in self.shelves.items()}

    def reserve(self, commands: int, calls: int) -> None:
        """Make room for what so many commands and calls could add at most."""
        need = {"accounts": commands, "lots": commands, "users": commands, "fleets": commands, "numbers": commands, "holds": commands,
                "pools": commands + calls, "totals": commands + calls}  # fmt: skip
        for name, more in need.items():
            shelf = self.shelves[name]
            wanted = int(shelf.tally[ROWS]) + more
            if wanted > shelf.rows.size:
                self.shelves[name] = _grown(name, shelf, max(2 * shelf.rows.size, wanted))
        more = 2 * (commands + calls)
        self._make_room_for_ids(more)
        if int(self.seen_tally[1]) + more > self.fresh.shape[0]:
            fresh = np.zeros((max(2 * self.fresh.shape[0], int(self.seen_tally[1]) + more), 2), np.uint64)
            fresh[: self.seen_tally[1]] = self.fresh[: self.seen_tally[1]]
            self.fresh = fresh

    def _make_room_for_ids(self, more: int) -> None:
        slots = self.seen.shape[0]
        left = room_of(slots) - int(self.seen_tally[0]) - more
        if left < 0:
            self._move_ids(slots_for(int(self.seen_tally[0]) + more))
        elif left < min(slots // ALMOST_FULL, LAST_BATCHES * more):
            self.next_seen = self.next_seen or self._next_of(2 * slots)
            self.next_seen.move(self.seen, slots * more // (2 * left + 1) + 1)  # half of `more` is what comes as a rule

    def slots_to_make_ready(self) -> int:
        """Of how many slots the next set will be, where it is time that somebody asks for its memory; else 0.

        Asking for it is most of what moving costs, and who has a thread beside this one can do it there: see `make_ready`.
        """
        slots = self.seen.shape[0]
        left = room_of(slots) - int(self.seen_tally[0])
        soon = slots >= WORTH_MAKING_READY and left < slots // READY_BEFORE
        return 2 * slots if soon and self.next_seen is None and self.ready is None else 0

    def make_ready(self, memory: Array) -> None:
        """Take memory for the next set (zeros, uint64[slots, 2]); what is not of the size that is wanted is let go."""
        if len(memory) == self.slots_to_make_ready():
            self.ready = memory

    def _next_of(self, slots: int) -> NextSeen:
        ready, self.ready = self.ready, None
        return NextSeen(ready) if ready is not None and len(ready) == slots else NextSeen.of(slots)

    def _move_ids(self, slots: int) -> None:
        """Into a set of so many slots: the one that was begun, where it is of that size."""
        begun, self.next_seen = self.next_seen, None
        found = begun if begun is not None and len(begun.slots) == slots else self._next_of(slots)
        found.told(self.seen, self.fresh_ids())
        found.move(self.seen, len(self.seen))
        self.seen = found.slots

    def changed(self) -> dict[str, Array]:
        """Row numbers touched since `committed`, ascending."""
        return {name: np.sort(shelf.dirty[: int(shelf.tally[DIRTY])]) for name, shelf in self.shelves.items()}

    def fresh_ids(self) -> Array:
        """Ids first seen since `committed`, in order: uint64[n, 2]."""
        ids: Array = self.fresh[: int(self.seen_tally[1])]
        return ids

    def committed(self) -> None:
        """What was changed is safe elsewhere: the next batch starts a clean list."""
        if self.next_seen is not None:
            self.next_seen.told(self.seen, self.fresh_ids())
        for shelf in self.shelves.values():
            shelf.tally[DIRTY] = 0
            shelf.tally[STAMP] += 1
        self.seen_tally[1] = 0

    def restore_shelf(self, name: str, rows: Array, free: int) -> None:
        """Take rows as they were stored; the index is made again from them."""
        dtype = SHELVES[name]
        count = len(rows)
        shelf = _new_shelf(dtype, max(_SMALLEST_SHELF, count + count // 4))
        shelf.rows[:count] = rows
        shelf.tally[ROWS] = count
        shelf.tally[FREE] = free
        if name in USED_AGAIN:
            shelf.tally[FREED] = int(np.count_nonzero(rows["account"] < 0))
        _index(name, shelf.rows, count, shelf.index)
        self.shelves[name] = shelf

    def restore_seen(self, ids: Array) -> None:
        self.seen, self.next_seen, self.ready = np.zeros((slots_for(len(ids)), 2), np.uint64), None, None
        refill(self.seen, ids, len(ids))
        self.seen_tally[0] = len(ids)

    def add_seen(self, ids: Array) -> None:
        """More ids, known to be distinct from each other and from those kept: a restore goes on where a snapshot ends."""
        slots = slots_for(int(self.seen_tally[0]) + len(ids))
        if slots > self.seen.shape[0]:
            self._move_ids(slots)
        refill(self.seen, ids, len(ids))
        if self.next_seen is not None:
            self.next_seen.told(self.seen, ids)
        self.seen_tally[0] += len(ids)

    def seen_ids(self, into: Array | None = None) -> Array:
        """Every id kept, in no order: uint64[n, 2], new or in the room that is given, which is for one more."""
        count = int(self.seen_tally[0])
        ids: Array = np.empty((count + 1, 2), np.uint64) if into is None else into
        gather(self.seen, ids)
        return ids[:count]

    def seen_bytes(self) -> int:
        """Memory of the ids seen."""
        return int(self.seen.nbytes)
