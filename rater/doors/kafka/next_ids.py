"""Memory for a partition's next set of ids, asked for beside rating.

A system gives fresh memory page by page, and where it is a guest of another one each megabyte may take ten milliseconds: of a set for
thirteen million ids that is two seconds and a half. A batch that asks for its share of it makes its calls wait; a thread beside it does not.
"""

import threading

import numpy as np

from rater.core.state import State
from rater.doors.kafka.fresh_memory import Array, ask_for
from rater.doors.kafka.rests import Errand, Rest
from rater.doors.kafka.surroundings import Surroundings


class NextIds:
    """Of one partition. Its task says when nobody works on the state (`between_batches`)."""

    def __init__(self, partition: int, around: Surroundings) -> None:
        self._partition, self._around = partition, around
        self._errand = Errand(around.making_room)
        self._slots = 0  # wanted
        self._made: Array | None = None
        self._ended = threading.Event()

    def between_batches(self, state: State) -> None:
        """Hand memory over that is ready, and begin to ask for some where it is time to."""
        made, self._made = self._made, None
        if made is not None:
            state.make_ready(made)
        self._slots = state.slots_to_make_ready()
        if self._slots and not self._errand.under_way:
            self._errand.begin(self._make)

    async def _make(self) -> None:
        slots, rests = self._slots, self._errand.rests
        if not slots:
            return  # a batch could not wait for our turn, and has asked for its share
        rests.begin()
        try:
            self._made = await self._around.unhurried(lambda: ready_slots(slots, rests.rest, self._ended))
        except MemoryError as error:  # the batch that needs it will say so
            self._around.say(self._partition, f"no memory yet for {slots} slots of ids: {error}")

    async def end(self) -> None:
        """What is under way is left where it is, and what waits for its turn is not begun any more."""
        self._ended.set()
        await self._errand.end()
        self._made = None


def ready_slots(slots: int, rest: Rest, ended: threading.Event) -> Array:
    """Zeros whose memory is there, unless it ended before."""
    memory = np.zeros((slots, 2), np.uint64)
    ask_for(memory.reshape(-1).view(np.uint8), rest, ended.is_set)
    return memory
