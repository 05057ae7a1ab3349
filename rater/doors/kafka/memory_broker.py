"""The partitions of the log in memory, and where a test may take a hand: time, waiting, a step before and after each effect."""

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from aiokafka.record.util import decode_varint

from rater.doors.kafka.log import Block, LogTimeout, OffsetGone, Place, Refused
from rater.doors.kafka.record_batches import Marker, records_from_blocks

Clock = Callable[[], int]  # milliseconds
Sleep = Callable[[float], Awaitable[None]]  # seconds
Step = Callable[[str], Awaitable[None]]

NOBODY = -1  # the producer of what was appended outside any transaction


@dataclass(slots=True)
class Stored:
    """A batch in a partition. A marker has no records and takes one offset, as on a broker."""

    block: Block
    producer: int
    marker: Marker | None = None
    aborted: bool = False

    @property
    def readable(self) -> bool:
        return self.marker is None and not self.aborted and self.block.count > 0


class Partition:
    """Batches in order of offset, and which transactions are open in it."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.start = 0
        self.end = 0
        self.batches: list[Stored] = []
        self._nexts: list[int] = []  # the next offset of each batch, to find one by bisection
        self._open: dict[int, list[Stored]] = {}  # producer -> its batches of the open transaction

    def append(self, body: bytes, count: int, time_ms: int, producer: int = NOBODY) -> int:
        """Returns the offset of the first record."""
        stored = Stored(Block(self.end, self.end + count, count, body, time_ms), producer)
        if producer != NOBODY:
            self._open.setdefault(producer, []).append(stored)
        return self._put(stored)

    def mark(self, producer: int, marker: Marker, time_ms: int) -> None:
        """End a transaction here."""
        for stored in self._open.pop(producer, ()):
            stored.aborted = marker is Marker.ABORT
        self._put(Stored(Block(self.end, self.end + 1, 0, b"", time_ms), producer, marker))

    def _put(self, stored: Stored) -> int:
        self.batches.append(stored)
        self.end = stored.block.next_offset
        self._nexts.append(self.end)
        return stored.block.first_offset

    @property
    def stable(self) -> int:
        """The last stable offset: nothing from here on may be read, for a transaction before it is open."""
        return min((batches[0].block.first_offset for batches in self._open.values()), default=self.end)

    def first_held(self) -> Block | None:
        """The first block that readers of committed records do not get yet."""
        behind = (
            stored.block
            for stored in self.batches
            if stored.block.first_offset >= self.stable and stored.marker is None
        )
        return next(behind, None)

    def read(self, offset: int, bytes_max: int) -> tuple[list[Block], int]:
        """Committed blocks from `offset` on, about `bytes_max` of them and one at least; and where to read next."""
        if not self.start <= offset <= self.end:
            raise OffsetGone(
                f"{self.place}: offset {offset} is not in the log, which holds {self.start} to {self.end}; "
                "find out who deleted records or moved the offset before going on"
            )
        blocks: list[Block] = []
        stable, size = self.stable, 0
        for at in range(bisect_right(self._nexts, offset), len(self.batches)):
            stored = self.batches[at]
            if stored.block.first_offset >= stable or (blocks and size + len(stored.block.body) > bytes_max):
                break
            if stored.readable:
                blocks.append(stored.block)
                size += len(stored.block.body)
            offset = stored.block.next_offset
        return blocks, offset

    def delete_before(self, offset: int) -> None:
        """Retention: the log now starts at `offset`, which may lie inside a batch."""
        self.start = max(self.start, min(offset, self.end))
        gone = bisect_right(self._nexts, self.start)
        del self.batches[:gone], self._nexts[:gone]

    def compact(self) -> None:
        """Keep the last record of each key below the last stable offset. The last batch stays, if empty, as on a broker."""
        count = bisect_left(self._nexts, self.stable + 1)
        settled = [stored for stored in self.batches[:count] if stored.readable]
        last: dict[bytes | None, int] = {}
        for stored in settled:
            records, _ = records_from_blocks([stored.block], 0)
            last.update((records.key(k), int(records.offsets[k])) for k in range(records.count))
        keep = set(last.values())
        for stored in settled:
            stored.block = thinned(stored.block, keep)
        left = [stored for stored in self.batches[:count] if stored.readable or stored.marker is not None]
        rest = self.batches[count:]
        if count and not rest and (not left or left[-1] is not self.batches[-1]):
            left.append(self.batches[-1])
        self.batches = left + rest
        self._nexts = [stored.block.next_offset for stored in self.batches]


def thinned(block: Block, keep: set[int]) -> Block:
    """The block with only the records of these offsets, unchanged; records without a key are left out."""
    records, _ = records_from_blocks([block], 0)
    data, kept, at = bytearray(block.body), [], 0
    for place in range(records.count):
        length, inside = decode_varint(data, at)
        if records.key_starts[place] >= 0 and int(records.offsets[place]) in keep:
            kept.append(block.body[at : inside + length])
        at = inside + length
    return replace(block, count=len(kept), body=b"".join(kept))


class Broker:
    """Partitions by place, and what every request has in common."""

    def __init__(
        self, topics: Mapping[str, int], clock: Clock, sleep: Sleep, step: Step | None, deadline_s: float
    ) -> None:
        self.partitions: dict[Place, Partition] = {}
        self.topics: dict[str, int] = {}
        for topic, count in topics.items():
            self.create_topic(topic, count)
        self.clock = clock
        self.sleep = sleep
        self.step = step
        self.deadline_s = deadline_s
        self.down = False  # dead: every request waits for its deadline
        self._waiting: list[asyncio.Future[None]] = []

    def create_topic(self, topic: str, partitions: int) -> None:
        self.topics[topic] = partitions
        for place in (Place(topic, number) for number in range(partitions)):
            self.partitions[place] = Partition(place)

    def partition(self, place: Place) -> Partition:
        found = self.partitions.get(place)
        if found is None:
            raise Refused(f"{place} is not there; create the topic, or ask for a partition that it has")
        return found

    async def before(self, request: str, fails: bool = True) -> None:
        if self.step is not None:
            await self.step(f"{request}.before")
        if self.down and fails:
            await self.sleep(self.deadline_s)
            raise LogTimeout(f"{request}: no answer within {self.deadline_s} s; the broker is down")

    async def after(self, request: str) -> None:
        if self.step is not None:
            await self.step(f"{request}.after")

    def changed(self) -> None:
        """Something may be there to read: whoever waits looks again."""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def wait_for_change(self, pause: "asyncio.Future[None]") -> None:
        """Until something changed or `pause` is over."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await asyncio.wait([waiter, pause], return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not waiter.done():
                self._waiting.remove(waiter)
