"""Ids seen, each charged once: an open-addressing set of 16-byte slots, at most 13/16 full, at least half of that.

A slot keeps 96 bits of the keyed hash of (kind, tenant, id) and a 32-bit check of the content: two ids among a thousand
million meet with probability 6e-12; a conflict passes for a duplicate once in four thousand million conflicts. Memory is
16 bytes / fill: 20 to 39.4 bytes an id; while ids move into the next set, and shortly before, that of both: 60.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from rater.core.compiled import kernel

Array = np.ndarray[Any, Any]
U8 = np.uint64
LOW_32 = U8(0xFFFFFFFF)
HIGH_32 = U8(0xFFFFFFFF00000000)

NEW, SAME, OTHER = 0, 1, 2
FILL_NUMERATOR, FILL_DENOMINATOR = 13, 16
SMALLEST = 1 << 10


def room_of(slots: int) -> int:
    """How many ids a set of so many slots takes."""
    return slots * FILL_NUMERATOR // FILL_DENOMINATOR


def slots_for(ids: int) -> int:
    """The smallest power of two that keeps `ids` at most 13/16 full."""
    slots = SMALLEST
    while room_of(slots) < ids:
        slots *= 2
    return slots


@kernel
def entry_of(high: Any, low: Any, content: Any) -> Any:
    """The two words of a slot; the first is never 0, which marks an empty slot."""
    first = high if high != U8(0) else U8(1)
    return first, (low & HIGH_32) | (content & LOW_32)


@kernel
def place_of(seen: Any, first: Any, second: Any) -> Any:
    """The slot that holds this id or, where none does, the empty one it would take."""
    mask = seen.shape[0] - 1
    slot = np.int64(first & U8(mask))
    while seen[slot, 0] != U8(0):
        if seen[slot, 0] == first and (seen[slot, 1] ^ second) & HIGH_32 == U8(0):
            return slot
        slot = (slot + 1) & mask
    return slot


@kernel
def verdict(seen: Any, slot: Any, second: Any) -> Any:
    """NEW, SAME (a duplicate) or OTHER (same id, other content)."""
    if seen[slot, 0] == U8(0):
        return NEW
    return SAME if (seen[slot, 1] ^ second) & LOW_32 == U8(0) else OTHER


@kernel
def remember(seen: Any, fresh: Any, tally: Any, slot: Any, first: Any, second: Any) -> None:
    seen[slot, 0] = first
    seen[slot, 1] = second
    fresh[tally[1], 0] = first
    fresh[tally[1], 1] = second
    tally[0] += 1
    tally[1] += 1


@kernel
def refill(seen: Any, entries: Any, count: Any) -> None:
    """Enter ids, which may be there already: after a restore, or while the set grows."""
    for k in range(count):
        if entries[k, 0] != U8(0):
            enter(seen, entries[k, 0], entries[k, 1])


@kernel
def enter(seen: Any, first: Any, second: Any) -> None:
    slot = place_of(seen, first, second)
    seen[slot, 0] = first
    seen[slot, 1] = second


@kernel
def refill_below(seen: Any, old: Any, below: Any, ids: Any, count: Any) -> None:
    """Enter those of the ids that another set keeps in its slots below this one."""
    for k in range(count):
        if place_of(old, ids[k, 0], ids[k, 1]) < below:
            enter(seen, ids[k, 0], ids[k, 1])


@kernel
def gather(seen: Any, found: Any) -> None:
    """The ids of a set, in the order of their slots. `found` has room for one more: every slot is copied, and only one that
    holds an id is gone past, for whether it does cannot be foretold.
    """
    at = 0
    for slot in range(seen.shape[0]):
        found[at, 0] = seen[slot, 0]
        found[at, 1] = seen[slot, 1]
        at += seen[slot, 0] != U8(0)


@dataclass(slots=True)
class NextSeen:
    """The set to move into when this one is full: the ids move beside the batches, so many slots with each.

    All at once they take 10 ns each, and their memory much longer (50 ms for two million slots): the calls of every partition would
    wait. What comes into the old set behind the slots that were gone through is met later; what comes in before them is told here.
    """

    slots: Array
    moved: int = 0  # slots of the old set that were gone through

    @staticmethod
    def of(slots: int) -> "NextSeen":
        return NextSeen(np.zeros((slots, 2), np.uint64))

    def move(self, old: Array, more: int) -> None:
        upto = min(self.moved + more, len(old))
        refill(self.slots, old[self.moved : upto], upto - self.moved)
        self.moved = upto

    def told(self, old: Array, added: Array) -> None:
        """These are in the old set now. All of them would be all over the memory of this one, most of it not asked for yet."""
        refill_below(self.slots, old, self.moved, added, len(added))
