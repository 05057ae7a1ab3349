"""A log in one process with the transactions of a real one: epochs, fencing, markers, the last stable offset.

It is what simulations run on, so nothing here looks at a clock, draws lots or iterates over a set: time and waiting are
given, and `step(name)` is awaited before and after every effect (`"commit.before"`, `"commit.after"`, ...), where a
scheduler may delay the task, end it, or raise `LogTimeout` with the effect done or not done.

What only a network can do to a real log a test asks for by name: `delay_end` and `delay_offsets` (a request that was
repeated and arrives once more, later), `expire_transaction`, `delete_records`, `compact`, `set_offset`, `down`, and for
members `kill`, `expire_session`, `wake`.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from rater.doors.kafka.compression import DECOMPRESSED_BYTES_MAX, NONE, decompressed
from rater.doors.kafka.log import (
    Assigned,
    Block,
    Bodies,
    Fenced,
    InThread,
    LogProblem,
    Place,
    Prepare,
    Revoked,
    each_written,
    step_by_step,
)
from rater.doors.kafka.memory_broker import NOBODY, Broker, Clock, Sleep, Step
from rater.doors.kafka.memory_group import Group, MemoryMember
from rater.doors.kafka.record_batches import Marker, frame_few

T = TypeVar("T")

MESSAGE_BYTES_MAX = 16 << 20
READ_BYTES = 1 << 20


@dataclass(slots=True)
class Transactions:
    """What the coordinator knows of a transactional id."""

    producer: int
    epoch: int = -1
    open: bool = False
    ended: Marker | None = None  # how the last transaction ended
    places: dict[Place, None] = field(
        default_factory=dict
    )  # where the open one has written: a set that keeps its order
    offsets: dict[str, dict[Place, int]] = field(default_factory=dict)  # of groups, visible at the commit


class MemoryLog:
    """`Log` in memory: `topics` with their partition counts, a clock in milliseconds, and how to wait."""

    def __init__(
        self,
        topics: Mapping[str, int],
        clock: Clock = lambda: 0,
        sleep: Sleep = asyncio.sleep,
        step: Step | None = None,
        deadline_s: float = 5.0,
        message_bytes_max: int = MESSAGE_BYTES_MAX,
    ) -> None:
        self.message_bytes_max = message_bytes_max
        self.broker = Broker(topics, clock, sleep, step, deadline_s)
        self.leaderless: set[Place] = set()  # for a test
        self._ids: dict[str, Transactions] = {}
        self._writers: dict[str, MemoryWriter] = {}
        self._groups: dict[str, Group] = {}

    # ---------------------------------------------------------------------------------------- the log

    async def open_writer(self, transactional_id: str) -> "MemoryWriter":
        await self.broker.before("open_writer")
        known = self._ids.setdefault(transactional_id, Transactions(len(self._ids)))
        self._bump(known)
        writer = MemoryWriter(self, known, transactional_id)
        self._writers[transactional_id] = writer
        await self.broker.after("open_writer")
        return writer

    async def open_reader(self) -> "MemoryReader":
        await self.broker.before("open_reader")
        await self.broker.after("open_reader")
        return MemoryReader(self.broker)

    async def join(
        self, group: str, topics: Sequence[str], instance_id: str | None, assigned: Assigned, revoked: Revoked
    ) -> MemoryMember:
        await self.broker.before("join")
        for topic in topics:
            self.broker.partition(Place(topic, 0))
        await self.broker.after("join")
        return self.group(group).join(topics, instance_id, assigned, revoked)

    async def partition_counts(self, topics: Sequence[str]) -> dict[str, int]:
        await self.broker.before("partition_counts")
        counts = {topic: self.broker.topics[topic] for topic in topics if topic in self.broker.topics}
        await self.broker.after("partition_counts")
        return counts

    async def group_offsets(self, group: str, places: Sequence[Place]) -> dict[Place, int]:
        await self.broker.before("group_offsets")
        known = self._groups[group].offsets if group in self._groups else {}
        found = {place: known[place] for place in places if place in known}
        await self.broker.after("group_offsets")
        return found

    async def close(self) -> None:
        """Nothing to let go of; members and writers are closed by who opened them."""

    def group(self, name: str) -> Group:
        found = self._groups.get(name)
        if found is None:
            found = self._groups[name] = Group(name, self.broker)
        return found

    # ---------------------------------------------------------------------------------------- transactions

    def _bump(self, known: Transactions) -> None:
        """A new epoch: older writers are fenced, and what they left open is aborted."""
        known.epoch += 1
        if known.open:
            self.end(known, Marker.ABORT)
        known.offsets.clear()

    def end(self, known: Transactions, marker: Marker) -> None:
        """Markers into every place of the open transaction, then the offsets, as one act.

        Places without a leader get none and stay open until a later transaction of the same id ends there: Kafka 4.3 does so.
        """
        now_ms = self.broker.clock()
        for place in known.places:
            if place not in self.leaderless:
                self.broker.partition(place).mark(known.producer, marker, now_ms)
        if marker is Marker.COMMIT:
            for group, offsets in known.offsets.items():
                self.group(group).offsets.update(offsets)
        known.places.clear()
        known.offsets.clear()
        known.open, known.ended = False, marker
        self.broker.changed()

    # ---------------------------------------------------------------------------------------- what a test may do

    @property
    def down(self) -> bool:
        """A dead broker: every request ends with `LogTimeout` after its deadline."""
        return self.broker.down

    @down.setter
    def down(self, down: bool) -> None:
        self.broker.down = down

    def create_topic(self, topic: str, partitions: int) -> None:
        self.broker.create_topic(topic, partitions)

    def append(self, place: Place, records: Sequence[tuple[bytes | None, bytes | None]]) -> int:
        """Records outside any transaction, as one batch; returns the offset of the first."""
        ((body, count),) = frame_few([(key, value, ()) for key, value in records], 1 << 40)
        return self.append_body(place, body, count)

    def append_body(self, place: Place, body: bytes, count: int) -> int:
        first = self.broker.partition(place).append(body, count, self.broker.clock(), NOBODY)
        self.broker.changed()
        return first

    def delete_records(self, place: Place, before: int) -> None:
        """Retention: records before this offset are gone."""
        self.broker.partition(place).delete_before(before)

    def compact(self, topic: str) -> None:
        """The last record of every key stays, offsets stay, the others are gone."""
        for partition in range(self.broker.topics[topic]):
            self.broker.partition(Place(topic, partition)).compact()

    def set_offset(self, group: str, place: Place, offset: int | None) -> None:
        """What an operator does to a group's offset: moves it, or (None) deletes it."""
        self.group(group).offsets.pop(place, None)
        if offset is not None:
            self.group(group).offsets[place] = offset

    def expire_transaction(self, transactional_id: str) -> None:
        """The transaction timeout: what is open is aborted, and its writer is fenced."""
        if self._ids[transactional_id].open:
            self._bump(self._ids[transactional_id])

    def delay_end(self, transactional_id: str, marker: Marker = Marker.COMMIT) -> Callable[[], bool]:
        """The client loses a connection and sends its request to end the transaction twice: the writer is tainted.

        Call what is returned when the other copy arrives: it ends whatever transaction of the same epoch is open then.
        Returns whether there was one, which is a torn transaction.
        """
        known, epoch = self._taint(transactional_id)

        def arrives() -> bool:
            if known.epoch != epoch or not known.open:
                return False
            self.end(known, marker)
            return True

        return arrives

    def delay_offsets(self, transactional_id: str) -> Callable[[], bool]:
        """The same for the transaction's offsets: the late copy takes the place of newer ones of the same epoch."""
        known, epoch = self._taint(transactional_id)
        offsets = {group: dict(of_group) for group, of_group in known.offsets.items()}

        def arrives() -> bool:
            if known.epoch != epoch:
                return False
            for group, of_group in offsets.items():
                known.offsets.setdefault(group, {}).update(of_group)
            return bool(offsets)

        return arrives

    def _taint(self, transactional_id: str) -> tuple[Transactions, int]:
        known = self._ids[transactional_id]
        self._writers[transactional_id].tainted = True
        return known, known.epoch


class MemoryWriter:
    """`Writer` in memory; it holds what an aiokafka producer holds, the coordinator (`Transactions`) the rest."""

    def __init__(self, log: MemoryLog, known: Transactions, transactional_id: str) -> None:
        self.tainted = False
        self._log = log
        self._broker = log.broker
        self._known = known
        self._id = transactional_id
        self._epoch = known.epoch
        self._begun = False
        self._spoilt = ""
        self._added: dict[Place, None] = {}  # partitions it has told the coordinator of
        self._touched = False  # has the coordinator heard of this transaction at all?
        self._under_way = 0  # writes
        self._turns: dict[Place, asyncio.Lock] = {}

    async def begin(self) -> None:
        self._check_usable()
        if self._begun:
            raise LogProblem(f"transactional id {self._id}: a transaction is open; commit or abort it first")
        self._begun = True
        self._touched = False
        self._added.clear()

    async def write(self, place: Place, body: bytes, count: int, codec: int = NONE) -> int:
        self._check_open()
        turn = self._turns.get(place)
        if turn is None:
            turn = self._turns[place] = asyncio.Lock()
        self._under_way += 1
        try:
            async with turn:
                return await self._request("write", lambda: self._append(place, body, count, codec))
        finally:
            self._under_way -= 1

    async def write_all(self, bodies: Bodies) -> list[int]:
        return await each_written(self, bodies)

    async def transact(self, prepare: Prepare, group: str, in_thread: InThread) -> list[int]:
        return await step_by_step(self, prepare, group, in_thread)

    def _append(self, place: Place, body: bytes, count: int, codec: int) -> int:
        partition = self._broker.partition(place)
        if len(body) > self._log.message_bytes_max:
            raise LogProblem(
                f"{place}: a batch of {len(body)} bytes; the topic takes {self._log.message_bytes_max} at most"
            )
        if place not in self._added:
            self._known.open = True
            self._known.places[place] = None
            self._added[place] = None
        elif place not in self._known.places:
            raise Fenced(f"{place}: the transaction of {self._id} was ended by somebody else; open a new writer")
        self._touched = True
        records = decompressed(codec, memoryview(body), DECOMPRESSED_BYTES_MAX)
        return partition.append(records, count, self._broker.clock(), self._known.producer)

    async def write_offsets(self, group: str, offsets: Mapping[Place, int]) -> None:
        self._check_open()

        def keep() -> None:
            for place in offsets:
                self._broker.partition(place)
            self._known.open = self._touched = True
            self._known.offsets.setdefault(group, {}).update(offsets)

        await self._request("write_offsets", keep)

    async def commit(self) -> None:
        self._check_open()
        if self._under_way:
            self._spoilt = f"commit while {self._under_way} writes were under way"
            raise LogProblem(f"transactional id {self._id}: {self._spoilt}; await them first")
        await self._request("commit", lambda: self._end(Marker.COMMIT))
        self._begun = False

    async def abort(self) -> None:
        if self._begun:
            await self._request("abort", lambda: self._end(Marker.ABORT))
            self._begun = False

    def _end(self, marker: Marker) -> None:
        """A transaction nobody wrote in is not ended at the coordinator; one that has ended so already is ended again."""
        if self._known.open:
            self._log.end(self._known, marker)
        elif self._touched and self._known.ended is not marker:
            raise Fenced(f"transactional id {self._id}: the transaction has ended otherwise; open a new writer")

    async def close(self) -> None:
        """The transaction it leaves open stays open, until a new writer or the coordinator's timeout."""
        self._spoilt = self._spoilt or "it is closed"

    async def _request(self, name: str, effect: Callable[[], T]) -> T:
        try:
            await self._broker.before(name)
            if self._known.epoch != self._epoch:
                raise Fenced(f"transactional id {self._id}: a newer writer holds it; stop this partition here")
            if self._spoilt and name != "abort":
                self._check_usable()
            done = effect()
            await self._broker.after(name)
            return done
        except BaseException as problem:
            self._spoilt = self._spoilt or f"{name} failed: {problem!r}"
            raise

    def _check_usable(self) -> None:
        if self._known.epoch != self._epoch:
            raise Fenced(f"transactional id {self._id}: a newer writer holds it; stop this partition here")
        if self._spoilt:
            raise LogProblem(f"transactional id {self._id}: this writer is spoilt, {self._spoilt}; open a new one")

    def _check_open(self) -> None:
        self._check_usable()
        if not self._begun:
            raise LogProblem(f"transactional id {self._id}: no transaction is open; begin one first")


class MemoryReader:
    """`Reader` in memory."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def bounds(self, place: Place) -> tuple[int, int]:
        await self._broker.before("bounds")
        partition = self._broker.partition(place)
        found = partition.start, partition.stable
        await self._broker.after("bounds")
        return found

    async def held_back(self, place: Place) -> int:
        await self._broker.before("held_back")
        partition = self._broker.partition(place)
        held = partition.end - partition.stable
        await self._broker.after("held_back")
        return held

    async def first_held(self, place: Place) -> Block | None:
        await self._broker.before("first_held")
        found = self._broker.partition(place).first_held()
        await self._broker.after("first_held")
        return found

    async def read(self, place: Place, offset: int) -> tuple[Sequence[Block], int]:
        await self._broker.before("read")
        found = self._broker.partition(place).read(offset, READ_BYTES)
        await self._broker.after("read")
        return found

    async def close(self) -> None:
        """Nothing to let go of."""
