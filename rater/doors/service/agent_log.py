"""The log as an agent needs it: committed records with explicit acknowledgement, and publishing that waits for the brokers.

Faust's own consumer reads uncommitted records and those of aborted transactions (its isolation level is fixed unless the whole
application runs its `exactly_once`), and takes the first record behind a transaction's marker for acknowledged: docs/recharge.md
has the measurement. An agent would pay for a recharge that was never requested. So the group is aiokafka's, read committed, offsets by
hand; Faust gives the process.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition, errors
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

from rater.doors.clock import monotonic
from rater.doors.publishing import CLOSE_S, NotPublished, Publisher
from rater.doors.service.acknowledged import Acknowledged
from rater.doors.settings.agent import AgentSettings
from rater.doors.settings.connection import refuse_plaintext

log = logging.getLogger("rater.agent")

POLL_MS = 500
BATCH_RECORDS_MAX = 500
OUTSTANDING_MAX = 50_000  # records of a partition handed out and not done; beyond, reading waits
COMMIT_S = 1.0

Headers = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One committed record. `acknowledge` says that its effect is done and published: at once, or hours later, in any order."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int  # by the broker's clock
    acknowledge: Callable[[], None]

    @property
    def place(self) -> str:
        return f"{self.topic} partition {self.partition} offset {self.offset}"


class Reader(Protocol):
    """What an agent does with what it reads. Whatever one of these raises ends the process: its supervisor starts it anew."""

    async def assigned(self, partitions: frozenset[TopicPartition]) -> None:
        """These are ours from now on; records that were not acknowledged come again."""

    async def take(self, delivery: Delivery) -> None:
        """One record, in the order of its partition. Returns soon: what takes long is done elsewhere and acknowledged later.
        What cannot be read is counted, told, and acknowledged; it never raises."""

    async def caught_up(self, partitions: frozenset[TopicPartition]) -> None:
        """Everything that was committed when these were assigned has been taken."""

    async def revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """Another process may have these in a moment: start nothing new for them. What was acknowledged is committed next."""

    def begin_at_ms(self, partition: TopicPartition) -> int | None:
        """An instant to read this partition again from, when that is before its committed offset; None: from there."""


@dataclass(slots=True)
class _Held:
    """A partition of ours: what was handed out, and how far it must be read to be caught up."""

    acknowledged: Acknowledged
    end: int
    caught_up: bool = False
    paused: bool = False


class AgentLog(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """One member of the agent's group and one producer. `start`, `run` until stopped, `stop`."""

    def __init__(self, settings: AgentSettings, topics: Sequence[str], reader: Reader) -> None:
        self._settings, self._topics, self._reader = settings, [settings.topic(name) for name in topics], reader
        self._held: dict[TopicPartition, _Held] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._consumer: Any = None
        self._publisher = Publisher(settings.connection)
        self._failure: BaseException | None = None
        self._turned = monotonic()

    # ------------------------------------------------------------------------------------------------ life

    async def start(self) -> None:
        """Joins the group. Raises what aiokafka says when no broker answers."""
        settings = self._settings
        self._consumer = AIOKafkaConsumer(
            **settings.connection.client_arguments(),
            group_id=settings.group,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            request_timeout_ms=max(settings.connection.request_timeout_ms, settings.session_timeout_ms + 5_000),
            session_timeout_ms=settings.session_timeout_ms,
            heartbeat_interval_ms=min(3_000, settings.session_timeout_ms // 3),
            rebalance_timeout_ms=settings.session_timeout_ms,
            max_poll_records=BATCH_RECORDS_MAX,
            partition_assignment_strategy=[RangePartitionAssignor],
        )
        self._consumer.subscribe(self._topics, listener=self)
        await self._consumer.start()
        refuse_plaintext(settings.connection, [broker.host for broker in self._consumer._client.cluster.brokers()])

    async def run(self) -> None:
        """Reads until cancelled; raises what the process must end for."""
        committer = asyncio.create_task(self._commit_regularly())
        try:
            while True:
                if committer.done():
                    committer.result()
                await self._turn()
        finally:
            committer.cancel()
            await asyncio.gather(committer, return_exceptions=True)

    async def stop(self) -> None:
        """Commits what was acknowledged and leaves the group; a dead broker does not hold it up for long."""
        if self._consumer is not None:
            try:
                async with asyncio.timeout(CLOSE_S):
                    await self.commit()
                    await self._consumer.stop()
            except Exception as problem:
                log.warning("leaving the group: %s: %s", type(problem).__name__, problem)
        await self._publisher.close()

    def silent_s(self) -> float:
        """Seconds since the reading loop last turned; a healthy one turns twice a second."""
        return monotonic() - self._turned

    def partitions(self) -> dict[str, dict[str, object]]:
        """For people: how far each partition is."""
        return {
            f"{place.topic}-{place.partition}": {
                "next": held.acknowledged.committable(),
                "outstanding": held.acknowledged.outstanding(),
                "caught_up": held.caught_up,
            }
            for place, held in sorted(self._held.items())
        }

    def ready(self) -> bool:
        return all(held.caught_up for held in self._held.values())

    # ------------------------------------------------------------------------------------------------ reading

    async def _turn(self) -> None:
        self._turned = monotonic()
        if self._failure is not None:
            raise self._failure
        self._hold_back()
        found = await self._consumer.getmany(timeout_ms=POLL_MS)
        # Bound to the assignment it was fetched for, before anything waits: what comes of it later must not be taken for
        # something that a later assignment of the same partition has handed out.
        batches = [(place, self._held[place], records) for place, records in found.items() if place in self._held]
        for _, held, records in batches:
            self._begin(held, records)
        for place, held, records in batches:
            for record in records:
                if self._held.get(place) is not held:
                    break
                await self._reader.take(self._delivery(place, held.acknowledged, record))
        await self._follow_positions()

    def _begin(self, held: _Held, records: Sequence[Any]) -> None:
        """Everything that was fetched is open before the first of it is taken: a commit meanwhile must not pass over it."""
        for record in records:
            held.acknowledged.begin(record.offset)
        if records:
            held.acknowledged.read_to(records[-1].offset + 1)

    def _delivery(self, place: TopicPartition, acknowledged: Acknowledged, record: Any) -> Delivery:
        # The tracker of this assignment: an acknowledgement that comes after the partition went away says nothing about
        # what a later assignment has handed out.
        return Delivery(
            place.topic, place.partition, record.offset, record.key, record.value, tuple(record.headers), record.timestamp,
            lambda: acknowledged.done(record.offset),
        )  # fmt: skip

    async def _follow_positions(self) -> None:
        """How far each partition is, the markers of transactions included: they are never handed out, only passed."""
        reached = []
        for place, held in list(self._held.items()):
            try:
                async with asyncio.timeout(POLL_MS / 1000):
                    position = await self._consumer.position(place)
            except (errors.IllegalStateError, TimeoutError):
                continue  # it went to another member meanwhile, or nobody knows yet
            if self._held.get(place) is not held:
                continue
            held.acknowledged.read_to(position)
            if not held.caught_up and position >= held.end:
                held.caught_up = True
                reached.append(place)
        if reached:
            await self._reader.caught_up(frozenset(reached))

    def _hold_back(self) -> None:
        for place, held in self._held.items():
            many = held.acknowledged.outstanding() >= OUTSTANDING_MAX
            if many and not held.paused:
                log.warning("%s-%d: %d records wait for their effect; reading goes on when some are done",
                            place.topic, place.partition, held.acknowledged.outstanding())  # fmt: skip
                self._consumer.pause(place)
            elif held.paused and not many:
                self._consumer.resume(place)
            held.paused = many

    # ------------------------------------------------------------------------------------------------ the group

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        try:
            places = frozenset(assigned)
            if not places:
                return
            # Before the first await: aiokafka fetches already, and what it hands out now nobody holds.
            self._consumer.pause(*places)
            ends = await self._consumer.end_offsets(list(places))
            self._held = {place: _Held(Acknowledged(), ends[place]) for place in places}
            await self._reader.assigned(places)
            await self._move_back(places)
            self._consumer.resume(*places)
        except BaseException as problem:
            self.fail(problem)
            raise

    async def _move_back(self, places: frozenset[TopicPartition]) -> None:
        wanted = {place: begin for place in places if (begin := self._reader.begin_at_ms(place)) is not None}
        if not wanted:
            return
        for place, found in (await self._consumer.offsets_for_times(wanted)).items():
            committed = await self._consumer.committed(place)
            self._committed[place] = -1 if committed is None else committed  # never set back by what is read again
            if found is not None and committed is not None and found.offset < committed:
                self._consumer.seek(place, found.offset)

    async def on_partitions_revoked(self, _revoked: Iterable[TopicPartition]) -> None:
        try:
            places = frozenset(self._held)
            if places:
                await self._reader.revoked(places)
                await self.commit()
        except BaseException as problem:
            self.fail(problem)
            raise
        finally:
            self._held, self._committed = {}, {}

    def fail(self, problem: BaseException) -> None:
        """The next turn of the loop raises it: aiokafka logs what a listener raises and goes on, and a task of an agent ends in silence."""
        if not isinstance(problem, asyncio.CancelledError):
            self._failure = self._failure or problem

    async def commit(self) -> None:
        """The offsets that a successor has to begin at, where they have moved."""
        wanted: dict[TopicPartition, int] = {}
        for place, held in self._held.items():
            offset = held.acknowledged.committable()
            if offset is not None and offset > self._committed.get(place, -1):
                wanted[place] = offset
        if not wanted:
            return
        try:
            async with asyncio.timeout(self._settings.connection.request_timeout_ms / 1000):
                await self._consumer.commit(wanted)
        except (errors.CommitFailedError, errors.IllegalStateError) as problem:
            log.info("offsets not committed, the group has changed: %s", problem)
            return
        except (errors.KafkaError, TimeoutError) as problem:
            log.warning("offsets not committed: %s: %s; tried again in %g s", type(problem).__name__, problem, COMMIT_S)
            return
        self._committed.update(wanted)

    async def _commit_regularly(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_S)
            await self.commit()

    # ------------------------------------------------------------------------------------------------ publishing

    async def publish(self, topic: str, tenant: str, value: bytes, headers: Mapping[str, bytes] | None = None) -> None:
        """See `Publisher.publish`; the topic without its prefix. Raises `NotPublished`."""
        await self._publisher.publish(self._settings.topic(topic), tenant, value, headers)


__all__ = ["AgentLog", "Delivery", "NotPublished", "Reader", "TopicPartition"]
