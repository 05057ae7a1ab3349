"""When a partition's snapshot is taken: every interval, beside rating, in turn with the worker's other partitions.

Images of several at once would be so much more memory, and a queue at the disk. The partition itself waits only while its
state is copied, between two batches; room for the copy is made before, and the file is written after that, with rests.
"""

import asyncio

from rater.doors.kafka.rests import Errand
from rater.doors.kafka.snapshot import Base, Snapshots, image_bytes, image_of
from rater.doors.kafka.surroundings import Surroundings


class SnapshotKeeper:
    """Of one partition. Its task says when the state may be copied (`between_batches`) and when there is none (`lost`)."""

    def __init__(
        self,
        partition: int,
        partitions: int,
        app_id: str,
        snapshots: Snapshots,
        interval_s: float,
        around: Surroundings,
    ) -> None:
        self._partition, self._app_id, self._snapshots = partition, app_id, snapshots
        self._interval_s, self._around = interval_s, around
        self._first_s = interval_s * (partition + 1) / partitions  # not all at once: they take turns
        self._due: float | None = None
        self._batch = -1  # what the last snapshot holds
        self._errand = Errand(around.saving)
        self._has_state = False
        self._wanted: asyncio.Future[Base] | None = None  # a state that stands still until `_copied`
        self._copied = asyncio.Event()
        self._copied.set()

    def taken_over(self) -> None:
        self._has_state = True
        if self._due is None:
            self._due = self._around.now() + self._first_s

    async def between_batches(self, base: Base) -> None:
        """Begin a snapshot where one is due and the state has changed; copy the state for one that has its turn."""
        if self._due is not None and self._around.now() >= self._due:
            self._due = self._around.now() + self._interval_s
            if base.watermark.batch != self._batch and not self._errand.under_way:
                size = image_bytes(base.state)
                self._errand.begin(lambda: self._take(size))
        if self._wanted is not None:
            wanted, self._wanted = self._wanted, None
            self._copied.clear()
            wanted.set_result(base)
            await self._copied.wait()

    async def _take(self, size: int) -> None:
        try:
            await self._write(size)
        except (OSError, MemoryError) as error:  # a full disk must not stop rating: the topics have everything
            self._around.say(self._partition, f"no snapshot: {error}")

    async def _write(self, size: int) -> None:
        unhurried, snapshots, rests = self._around.unhurried, self._snapshots, self._errand.rests
        rests.begin()
        await unhurried(lambda: snapshots.room.make(size, rests.rest))
        if not self._has_state:
            return  # nobody would give one, and others wait for their turn
        self._wanted = asyncio.get_running_loop().create_future()
        base = await self._wanted
        try:  # here and not where the partition waits: whatever ends that, the turn is kept for as long as the room is written to
            image = await unhurried(lambda: image_of(base, self._app_id, snapshots.room))
        finally:
            self._copied.set()
        self._batch = base.watermark.batch
        rests.begin()
        await unhurried(lambda: snapshots.save(self._partition, image, rests.rest))

    def lost(self) -> None:
        """The state was thrown away: whoever waits to copy it passes his turn on."""
        self._has_state = False
        wanted, self._wanted = self._wanted, None
        if wanted is not None:
            wanted.cancel()

    async def end(self) -> None:
        """What waits for its turn, or for a batch to end, is not begun any more; what is being written is finished beside what follows.

        Returns when nobody reads the state any more: whoever gets the partition next need not wait for a disk.
        """
        self.lost()
        self._errand.hurry()
        await self._copied.wait()
