"""What takes long and nobody waits for, beside what somebody does: its steps, its rests, and its turn."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

from rater.doors.clock import stopwatch

# A rest is so many times as long as the work before it. A ninth of a core is what calls do not notice: where two cores do four fifths
# of what they can, a third of one is a queue. Where others wait for their turn it is a third, or they would wait for too long.
REST_SHARE, HURRIED_SHARE = 8, 2
REST_MAX_S = 2.0  # a step of more than a quarter of a second stood still: the disk, or all of the machine
STEP_BYTES = 1 << 18  # a millisecond or two of work, then a rest

# Called after every step of work that nobody waits for: whoever has others to think of lets some time go by.
Rest = Callable[[], object]


def no_rest() -> None:
    """There is nobody else."""


class Turns:
    """One at a time, in the order in which they came."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self.waiting = 0  # of those who came, how many have not had their turn

    def locked(self) -> bool:
        return self._lock.locked()

    async def __aenter__(self) -> None:
        self.waiting += 1
        try:
            await self._lock.acquire()
        finally:
            self.waiting -= 1

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()


class Rests:
    """Between steps of work in a thread of its own, so that others who rate have the processors, until told to hurry.

    Shorter ones where others wait for their turn.
    """

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._hurry = threading.Event()
        self._worked = stopwatch()

    def begin(self) -> None:
        """Work begins."""
        self._worked = stopwatch()

    def rest(self) -> None:
        """A step of it is done."""
        share = HURRIED_SHARE if self._turns.waiting else REST_SHARE
        self._hurry.wait(min(share * self._worked(), REST_MAX_S))
        self._worked = stopwatch()

    def hurry(self) -> None:
        """Somebody waits for it: no more rests."""
        self._hurry.set()


class Errand:
    """Such work of somebody, begun now and then: in turn with that of others."""

    def __init__(self, turns: Turns) -> None:
        self._turns, self.rests = turns, Rests(turns)
        self._task: asyncio.Task[None] | None = None
        self._has_turn = False  # something may be under way in another thread

    @property
    def under_way(self) -> bool:
        return self._task is not None and not self._task.done()

    def begin(self, work: Callable[[], Awaitable[None]]) -> None:
        """It gets its turn some time. None may be under way."""
        self._task = asyncio.create_task(self._in_turn(work))

    async def _in_turn(self, work: Callable[[], Awaitable[None]]) -> None:
        async with self._turns:
            self._has_turn = True
            try:
                await work()
            finally:
                self._has_turn = False

    def hurry(self) -> None:
        """What is under way goes on without rests; what waits for its turn is not begun any more."""
        self.rests.hurry()
        if self._task is not None and not self._has_turn:
            self._task.cancel()

    async def end(self) -> None:
        """The same, and what is under way is waited for."""
        self.hurry()
        if self._task is not None:
            await asyncio.wait([self._task])
