"""Committed records of many partitions, from offsets of one's own choice, outside any group: for what keeps its own place.

A group's offsets live in the broker; whoever stores rows elsewhere wants the place beside the rows, in one transaction. So
nothing is committed here, and a reader that is killed leaves no trace.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from rater.doors.kafka.client import KafkaLog
from rater.doors.kafka.log import LogProblem, LogTimeout, OffsetGone, Place, Reader, Refused
from rater.doors.kafka.record_batches import records_from_blocks
from rater.doors.settings.connection import Connection

REST_S = 0.2  # where nothing was new anywhere
PLACES_AT_ONCE = 8  # each answer may be a megabyte, and many times that once it is rows

log = logging.getLogger(__name__)


class Chunk(NamedTuple):
    """What followed in one partition: `values` of its records with their offsets, and where to go on."""

    topic: str
    partition: int
    values: list[tuple[int, bytes]]
    next_offset: int


class Tail:
    """Several places, read side by side. `prefix` is of the topics' names; chunks and offsets are told without it."""

    def __init__(
        self,
        reader: Reader,
        prefix: str = "",
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._reader = reader
        self._prefix = prefix
        self._sleep = sleep
        self._next: dict[Place, int] = {}

    async def seek(self, offsets: Mapping[tuple[str, int], int | None]) -> None:
        """Where to read next, by topic and partition; None is the oldest record there is."""
        found: dict[Place, int] = {}
        for (topic, partition), offset in offsets.items():
            place = Place(self._prefix + topic, partition)
            if offset is None:
                offset, _ = await self._reader.bounds(place)
                if offset:
                    log.warning("%s: begins at offset %s, what was before is no longer in the log", place, offset)
            found[place] = offset
        self._next = found

    async def poll(self) -> list[Chunk]:
        """What is new, at most an answer of the broker for each of a few places; empty after a short rest where nothing is.

        A broker that does not answer is asked again and again, with a warning each time. Raises `OffsetGone`, `Refused`,
        and what else no patience mends.
        """
        places = list(self._next)
        for start in range(0, len(places), PLACES_AT_ONCE):
            asked = places[start : start + PLACES_AT_ONCE]
            answers = await asyncio.gather(*(self._read(place, self._next[place]) for place in asked))
            found = [chunk for chunk in answers if chunk is not None]
            for chunk in found:
                self._next[Place(self._prefix + chunk.topic, chunk.partition)] = chunk.next_offset
            if found:
                self._ask_last(places[: start + PLACES_AT_ONCE])
                return found
        await self._sleep(REST_S)
        return []

    def _ask_last(self, places: Sequence[Place]) -> None:
        """Everybody's turn comes, also where the first places never end."""
        for place in places:
            self._next[place] = self._next.pop(place)

    async def _read(self, place: Place, offset: int) -> Chunk | None:
        try:
            blocks, following = await self._reader.read(place, offset)
        except LogTimeout as late:
            log.warning("%s: no answer from the broker: %s", place, late)
            return None
        except OffsetGone:
            start, end = await self._reader.bounds(place)
            raise OffsetGone(
                f"{place}: offset {offset} is to be read next, and the log holds {start} to {end}: retention deleted what "
                "was not read yet, or the topic is another one; restore the topic, or begin a new history"
            ) from None
        if following == offset and not blocks:
            return None
        records, _ = records_from_blocks(blocks, offset)
        values: Sequence[tuple[int, bytes]] = [
            (int(records.offsets[place_]), records.raw(place_)) for place_ in range(records.count)
        ]
        return Chunk(place.topic.removeprefix(self._prefix), place.partition, list(values), following)

    async def close(self) -> None:
        await self._reader.close()


@asynccontextmanager
async def open_tail(connection: Connection, prefix: str, topics: Sequence[str]) -> AsyncIterator[tuple[Tail, int]]:
    """A tail of these topics on a real cluster, and how many partitions each has. Raises `LogProblem`."""
    cluster = KafkaLog(connection.client_arguments(), request_timeout_ms=connection.request_timeout_ms)
    names = [prefix + topic for topic in topics]
    counts = await cluster.partition_counts(names)
    missing = [name for name in names if name not in counts]
    if missing:
        raise Refused(
            f"topics {', '.join(missing)} are not there; is the topic prefix right? rater topics create makes them"
        )
    if len(set(counts.values())) > 1:
        raise LogProblem(f"partitions {counts}; expected the same number for every topic")
    tail = Tail(await cluster.open_reader(), prefix)
    try:
        yield tail, counts[names[0]]
    finally:
        await tail.close()
        await cluster.close()
