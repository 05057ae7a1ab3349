"""The topics `rated-cdrs` and `account-events` -> a history, each record once, until stopped.

The sink joins no group and writes nothing to Kafka: where it is stands in the history, in the transaction that holds the
rows. Killed at any moment it goes on from there. It reads the next records while the last ones are written.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from rater.doors.failpoints import reached
from rater.doors.history.feeding import add_lines
from rater.doors.history.store import KAFKA, TOPICS, Batch, Partition, Position, Store, StoreAway

AWAY_S, AWAY_MAX_S = 1.0, 30.0

log = logging.getLogger(__name__)


class Chunk(Protocol):
    """What followed in one partition."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def values(self) -> Sequence[tuple[int, bytes]]: ...
    @property
    def next_offset(self) -> int: ...


class Tail(Protocol):
    """Committed records of partitions, from offsets that the sink names."""

    async def seek(self, offsets: Mapping[tuple[str, int], int | None]) -> None: ...

    async def poll(self) -> Sequence[Chunk]: ...


@dataclass(slots=True)
class Fed:
    """What a sink has added since it started."""

    calls: int = 0
    events: int = 0
    aside: int = 0
    transactions: int = 0


class Sink:
    """One deployment's topics into one history. `prefix` names the deployment; `partitions` of each topic."""

    def __init__(
        self,
        store: Store,
        tail: Tail,
        prefix: str,
        partitions: int,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.fed = Fed()
        self._store, self._tail, self._prefix = store, tail, prefix
        self._partitions = [Partition(topic, number) for topic in TOPICS for number in range(partitions)]
        self._sleep = sleep
        self._feed = 0
        self._at: dict[Partition, Position | None] = {}

    async def run(self, stop: asyncio.Event) -> Fed:
        """Until `stop` is set; what was read and not yet kept then is left for the next time.

        A database that went away is waited for. Raises `HistoryProblem` and what the tail raises.
        """
        away_s = AWAY_S
        while not stop.is_set():
            try:
                await self._begin()
                away_s = AWAY_S
                await self._feed_until(stop)
            except StoreAway as away:
                log.warning("%s; trying again in %g s", away, away_s)
                await _first(stop.wait(), self._sleep(away_s))
                away_s = min(2 * away_s, AWAY_MAX_S)
        return self.fed

    async def _begin(self) -> None:
        """Where the history stands; also after a commit whose outcome nobody heard."""
        self._feed = await asyncio.to_thread(self._store.feed, KAFKA, self._prefix)
        known = await asyncio.to_thread(self._store.positions, self._feed)
        self._at = {partition: known.get(partition) for partition in self._partitions}
        await self._tail.seek({(p.topic, p.number): None if at is None else at.place for p, at in self._at.items()})

    async def _feed_until(self, stop: asyncio.Event) -> None:
        writing: asyncio.Task[None] | None = None
        stopped = asyncio.ensure_future(stop.wait())
        try:
            while not stop.is_set():
                polling = asyncio.ensure_future(self._tail.poll())
                await asyncio.wait({polling, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if not polling.done():
                    polling.cancel()
                    await asyncio.gather(polling, return_exceptions=True)
                    break
                chunks = polling.result()
                if writing is not None:
                    done, writing = writing, None
                    await done
                if chunks:
                    reached("after-history-read")
                    writing = asyncio.ensure_future(asyncio.to_thread(self._keep, chunks))
        finally:
            stopped.cancel()
            if writing is not None:
                await writing

    def _keep(self, chunks: Sequence[Chunk]) -> None:
        batch = Batch(self._feed)
        for chunk in chunks:
            partition = Partition(chunk.topic, chunk.partition)
            add_lines(batch, partition, chunk.values)
            batch.moves[partition] = self._at[partition], Position(chunk.next_offset)
        self._store.append(batch)
        for partition, (_, ended) in batch.moves.items():
            self._at[partition] = ended
        self.fed.calls += len(batch.calls)
        self.fed.events += len(batch.events)
        self.fed.aside += len(batch.aside)
        self.fed.transactions += 1


async def _first(*waits: Awaitable[object]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
