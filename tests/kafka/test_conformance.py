"""What `log.py` promises, held against both that speak it: the log in memory, and aiokafka with a real Apache Kafka."""

import asyncio
import functools
import itertools
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from rater.doors.kafka.admin import NewTopic, open_admin
from rater.doors.kafka.client import KafkaLog
from rater.doors.kafka.compression import CODECS, packed
from rater.doors.kafka.log import (
    Block,
    Bodies,
    Fenced,
    Log,
    LogProblem,
    LogTimeout,
    Member,
    OffsetGone,
    Place,
    Reader,
    Refused,
    Stored,
    Writer,
)  # fmt: skip
from rater.doors.kafka.memory import MemoryLog
from rater.doors.kafka.record_batches import frame_few, records_from_blocks
from rater.doors.settings.connection import Connection
from tests.kafka.broker import KafkaCluster

STUCK_S = 90  # a test that waits this long waits for something that will not come
MESSAGE_BYTES_MAX = 1 << 20
DEADLINE_S = 2.0  # of a log whose broker is dead
Few = tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]
names = itertools.count(time.time_ns())


# ------------------------------------------------------------------------------------------------ the two stages


class MemoryStage:
    """Waiting is cut short: there is no network to wait for."""

    def __init__(self) -> None:
        self.memory = MemoryLog(
            {},
            sleep=lambda seconds: asyncio.sleep(min(seconds, 0.02)),
            deadline_s=DEADLINE_S,
            message_bytes_max=MESSAGE_BYTES_MAX,
        )

    def log(self, _deadline_s: float = 15.0) -> Log:
        return self.memory

    async def topic(self, partitions: int = 1) -> str:
        topic = name()
        self.memory.create_topic(topic, partitions)
        return topic

    async def append(self, place: Place, *values: bytes) -> None:
        self.memory.append(place, [(b"key", value) for value in values])

    async def append_any(self, place: Place, records: Sequence[Few], _codec: str) -> None:
        """Blocks are decompressed, so here a codec changes nothing."""
        ((body, count),) = frame_few(records)
        self.memory.append_body(place, body, count)

    async def delete_records(self, place: Place, before: int) -> None:
        self.memory.delete_records(place, before)

    def stop_broker(self) -> None:
        self.memory.down = True

    def resume_broker(self) -> None:
        self.memory.down = False


class KafkaStage:
    def __init__(self, cluster: KafkaCluster, transaction_version: int) -> None:
        self._cluster = cluster
        self._transaction_version = transaction_version
        self._stopped = False

    def log(self, deadline_s: float = 15.0) -> Log:
        now_ms = time.time_ns() // 1_000_000
        return KafkaLog(
            {"bootstrap_servers": self._cluster.bootstrap},
            deadline_s=deadline_s, session_timeout_ms=6_000, clock_ms=lambda: now_ms,
            transaction_version=self._transaction_version,
        )  # fmt: skip

    async def topic(self, partitions: int = 1) -> str:
        topic = name()
        async with open_admin(Connection(bootstrap_servers=(self._cluster.bootstrap,))) as admin:
            await admin.create([NewTopic(topic, partitions, 1, {"max.message.bytes": str(MESSAGE_BYTES_MAX)})])
        return topic

    async def append(self, place: Place, *values: bytes) -> None:
        await self.append_any(place, [(b"key", value, []) for value in values], "none")

    async def append_any(self, place: Place, records: Sequence[Few], codec: str) -> None:
        """As one batch of an ordinary producer."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self._cluster.bootstrap,
            compression_type=None if codec == "none" else codec,
            max_batch_size=MESSAGE_BYTES_MAX,
        )
        await producer.start()
        try:
            batch = producer.create_batch()
            for key, value, headers in records:
                assert batch.append(key=key, value=value, timestamp=None, headers=headers) is not None
            batch.close()
            await (await producer.send_batch(batch, place.topic, partition=place.partition))
        finally:
            await producer.stop()

    async def delete_records(self, place: Place, before: int) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._cluster.bootstrap)
        await admin.start()
        try:
            await admin.delete_records({TopicPartition(*place): RecordsToDelete(before_offset=before)})
        finally:
            await admin.close()

    def stop_broker(self) -> None:
        self._stopped = True
        self._cluster.pause()

    def resume_broker(self) -> None:
        if self._stopped:
            self._stopped = False
            self._cluster.resume()
            asyncio.run(asyncio.wait_for(self._let_in_again(), STUCK_S))

    async def _let_in_again(self) -> None:
        """A controller that stood still takes its broker for dead, and knows of none until that one has spoken again."""
        while True:
            try:
                await self.topic()
            except LogProblem:
                await asyncio.sleep(0.1)
            else:
                return


Stage = MemoryStage | KafkaStage


ON_KAFKA = [pytest.param(version, marks=pytest.mark.kafka, id=f"kafka-v{version}") for version in (1, 2)]


@pytest.fixture(params=["memory", *ON_KAFKA])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """The log in memory, and Kafka by both protocols of transactions."""
    version = request.param
    made: Stage = (
        MemoryStage()
        if version == "memory"
        else KafkaStage(request.getfixturevalue("kafka"), transaction_version=version)
    )
    yield made
    made.resume_broker()


def on_both(test: Callable[[Stage], Awaitable[None]]) -> Callable[[Stage], None]:
    @functools.wraps(test)
    def runs(stage: Stage) -> None:
        async def ends() -> None:
            await asyncio.wait_for(test(stage), STUCK_S)

        asyncio.run(ends())

    return runs


def name() -> str:
    return f"conform-{next(names)}"


# ------------------------------------------------------------------------------------------------ words


def framed(*values: bytes) -> tuple[bytes, int]:
    ((body, count),) = frame_few([(b"key", value, []) for value in values])
    return body, count


def values_of(blocks: Sequence[Block], first_offset: int = 0) -> list[bytes]:
    records, _ = records_from_blocks(blocks, first_offset)
    return [records.raw(k) for k in range(records.count)]


async def at_once(writer: Writer, bodies: Bodies, group: str, offsets: Mapping[Place, int]) -> list[int]:
    """A transaction whose steps are in the writer's hands."""
    return await writer.transact(lambda: (bodies, offsets), group, asyncio.to_thread)


def stored(*values: bytes) -> Stored:
    return (*framed(*values), 0)


async def visible(reader: Reader, place: Place, offset: int = 0) -> list[bytes]:
    """All that can be read from `offset` up to the last stable offset, which is where reading must end."""
    first, found = offset, []
    _, stable = await reader.bounds(place)
    while offset < stable:
        blocks, following = await reader.read(place, offset)
        assert following > offset
        found += values_of(blocks, first)
        offset = following
    assert offset == stable
    return found


async def committed_batch(log: Log, transactional_id: str, place: Place, *values: bytes) -> None:
    writer = await log.open_writer(transactional_id)
    await writer.begin()
    await writer.write(place, *framed(*values))
    await writer.commit()
    await writer.close()


async def settled(log: Log, *transactional_ids: str) -> None:
    """The next writer of an id opens when the markers of the last one are written: only then can bounds be trusted."""
    for transactional_id in transactional_ids:
        await (await log.open_writer(transactional_id)).close()


@dataclass
class Follower:
    """Listeners that note what they were told, and begin to read where they are told to."""

    topics: Sequence[str]
    said: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    member: Member | None = None
    mine: frozenset[int] = frozenset()
    begins: bool = True
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def assigned(self, numbers: frozenset[int]) -> None:
        self.said.append(("assigned", tuple(sorted(numbers))))
        self.mine = numbers
        if self.begins:
            self.begin()
        self._changed.set()

    def begin(self) -> None:
        assert self.member is not None
        for place in self.places:
            self.member.seek(place, 0)
        self.member.resume(self.places)

    async def revoked(self, numbers: frozenset[int]) -> None:
        self.said.append(("revoked", tuple(sorted(numbers))))
        self.mine = frozenset()
        self._changed.set()

    @property
    def places(self) -> list[Place]:
        return [Place(topic, number) for topic in self.topics for number in sorted(self.mine)]

    async def holds(self, *numbers: int) -> None:
        while self.mine != frozenset(numbers):
            self._changed.clear()
            await self._changed.wait()

    async def fetched(self, count: int) -> dict[Place, list[bytes]]:
        """The next `count` records of all places, or what came instead within some fetches."""
        assert self.member is not None
        found: dict[Place, list[bytes]] = {}
        for _ in range(40):
            for place, blocks in (await self.member.fetch(self.places, 1 << 20, 0.5)).items():
                found.setdefault(place, []).extend(values_of(blocks))
            if sum(map(len, found.values())) >= count:
                break
        return found


async def follow(
    log: Log, group: str, topics: Sequence[str], instance_id: str | None = None, begins: bool = True
) -> Follower:
    follower = Follower(topics, begins=begins)
    follower.member = await log.join(group, topics, instance_id, follower.assigned, follower.revoked)
    return follower


# ------------------------------------------------------------------------------------------------ transactions


@on_both
async def test_nothing_of_a_transaction_is_there_before_the_commit_and_all_of_it_after(stage: Stage):
    log, topic, group, own = stage.log(), await stage.topic(2), name(), name()
    here, there = Place(topic, 0), Place(topic, 1)
    reader, writer = await log.open_reader(), await log.open_writer(own)
    member = (await follow(log, group, [topic])).member
    assert member is not None
    await writer.begin()
    await writer.write(here, *framed(b"1", b"2"))
    await writer.write(there, *framed(b"3"))
    await writer.write_offsets(group, {here: 17})
    assert [await reader.bounds(place) for place in (here, there)] == [(0, 0), (0, 0)]
    assert [await reader.read(place, 0) for place in (here, there)] == [([], 0), ([], 0)]
    assert await member.committed(here) is None
    await writer.commit()
    await writer.close()
    await settled(log, own)
    assert await visible(reader, here) == [b"1", b"2"]
    assert await visible(reader, there) == [b"3"]
    assert await member.committed(here) == 17
    await member.close()


@on_both
async def test_a_whole_transaction_at_once_is_what_its_steps_are(stage: Stage):
    log, topic, group, own = stage.log(), await stage.topic(2), name(), name()
    here, there = Place(topic, 0), Place(topic, 1)
    reader, writer = await log.open_reader(), await log.open_writer(own)
    member = (await follow(log, group, [topic])).member
    assert member is not None
    bodies = [(here, stored(b"1", b"2")), (there, stored(b"3")), (here, stored(b"4"))]
    assert await at_once(writer, bodies, group, {here: 17, there: 4}) == [0, 0, 2]
    await writer.begin()
    await writer.write(here, *framed(b"5"))
    with pytest.raises(LogProblem, match="a transaction is open"):
        await at_once(writer, bodies, group, {here: 18})
    await writer.abort()
    assert await at_once(writer, [(there, stored(b"6"))], group, {here: 19}) == [2]
    await writer.close()
    await settled(log, own)
    assert await visible(reader, here) == [b"1", b"2", b"4"]
    assert await visible(reader, there) == [b"3", b"6"]
    assert [await member.committed(place) for place in (here, there)] == [19, 4]
    await member.close()


@on_both
async def test_a_whole_transaction_that_fails_can_be_aborted_and_nothing_of_it_is_there(stage: Stage):
    log, topic, group, own = stage.log(), await stage.topic(), name(), name()
    here, nowhere = Place(topic, 0), Place(topic, 9)
    reader, writer = await log.open_reader(), await log.open_writer(own)
    with pytest.raises(LogProblem, match=re.escape(str(nowhere))):
        await at_once(writer, [(here, stored(b"1"))], group, {nowhere: 1})
    await writer.abort()
    await writer.close()
    await settled(log, own)
    assert await visible(reader, here) == []


@on_both
async def test_what_cannot_be_prepared_is_raised_as_it_is_and_nothing_is_written(stage: Stage):
    log, topic, group, own = stage.log(), await stage.topic(), name(), name()
    here = Place(topic, 0)
    reader, writer = await log.open_reader(), await log.open_writer(own)

    def fail() -> tuple[Bodies, Mapping[Place, int]]:
        raise ZeroDivisionError("a deck is missing")

    with pytest.raises(ZeroDivisionError, match="a deck is missing"):
        await writer.transact(fail, group, asyncio.to_thread)
    with suppress(LogProblem):  # nothing need be open
        await writer.abort()
    await writer.close()
    await settled(log, own)
    assert await visible(reader, here) == []


@on_both
async def test_bodies_written_together_keep_the_order_of_each_place(stage: Stage):
    log, topic, own = stage.log(), await stage.topic(2), name()
    here, there = Place(topic, 0), Place(topic, 1)
    writer = await log.open_writer(own)
    await writer.begin()
    pairs = (
        (here, framed(b"1", b"2")),
        (there, framed(b"a")),
        (here, framed(b"3")),
        (here, framed(b"4")),
        (there, framed(b"b")),
    )
    bodies = [(place, (body, count, 0)) for place, (body, count) in pairs]
    assert await writer.write_all(bodies) == [0, 0, 2, 3, 1]
    assert await writer.write_all([]) == []
    await writer.commit()
    await writer.close()
    await settled(log, own)
    reader = await log.open_reader()
    assert await visible(reader, here) == [b"1", b"2", b"3", b"4"]
    assert await visible(reader, there) == [b"a", b"b"]


@on_both
async def test_one_body_that_cannot_be_written_spoils_all_that_are_written_with_it(stage: Stage):
    log, topic, own = stage.log(), await stage.topic(1), name()
    place, nowhere = Place(topic, 0), Place(name(), 0)
    writer = await log.open_writer(own)
    await writer.begin()
    body, count = framed(b"x")
    with pytest.raises(Refused, match="create"):
        await writer.write_all([(place, (body, count, 0)), (nowhere, (body, count, 0))])
    with pytest.raises(LogProblem):
        await writer.commit()
    await writer.abort()
    await writer.close()
    await settled(log, own)
    assert await visible(await log.open_reader(), place) == []


@on_both
async def test_what_is_packed_is_read_as_it_was_framed_whatever_the_codec(stage: Stage):
    log, topic, own = stage.log(), await stage.topic(1), name()
    place, writer = Place(topic, 0), await log.open_writer(own)
    wanted = {codec: [b"%d of %s " % (k, codec.encode()) * 20 for k in range(100)] for codec in CODECS}
    await writer.begin()
    for codec, values in wanted.items():
        body, count = framed(*values)
        stored, number = packed(CODECS[codec], body)
        assert number == CODECS[codec]
        assert await writer.write(place, stored, count, number) == 100 * number
    await writer.commit()
    await writer.close()
    await settled(log, own)
    assert await visible(await log.open_reader(), place) == [value for values in wanted.values() for value in values]


@on_both
async def test_a_groups_offsets_can_be_asked_for_without_joining_it(stage: Stage):
    log, topic, group, own = stage.log(), await stage.topic(2), name(), name()
    here, there = Place(topic, 0), Place(topic, 1)
    assert await log.group_offsets(group, [here, there]) == {}
    writer = await log.open_writer(own)
    await writer.begin()
    await writer.write_offsets(group, {here: 17})
    assert await log.group_offsets(group, [here, there]) == {}
    await writer.commit()
    await writer.close()
    await settled(log, own)
    assert await log.group_offsets(group, [here, there]) == {here: 17}


@on_both
async def test_nothing_of_an_aborted_transaction_is_ever_read(stage: Stage):
    log, topic, group, own = stage.log(), await stage.topic(), name(), name()
    place = Place(topic, 0)
    await committed_batch(log, own, place, b"before")
    writer = await log.open_writer(own)
    await writer.begin()
    await writer.write(place, *framed(b"void", b"void"))
    await writer.write_offsets(group, {place: 17})
    await writer.abort()
    await writer.begin()
    await writer.write(place, *framed(b"after"))
    await writer.commit()
    await writer.close()
    await settled(log, own)
    reader = await log.open_reader()
    assert await visible(reader, place) == [b"before", b"after"]
    follower = await follow(log, group, [topic])
    await follower.holds(0)
    assert follower.member is not None
    assert await follower.member.committed(place) is None
    assert await follower.fetched(2) == {place: [b"before", b"after"]}
    await follower.member.close()


@on_both
async def test_one_writer_after_the_other_is_not_tainted_and_an_empty_transaction_ends_well(stage: Stage):
    log, topic = stage.log(), await stage.topic()
    writer = await log.open_writer(name())
    for _ in range(3):
        await writer.begin()
        await writer.commit()
        await writer.begin()
        await writer.abort()
        await writer.begin()
        await writer.write(Place(topic, 0), *framed(b"x"))
        await writer.commit()
        assert not writer.tainted
    await writer.close()


@on_both
async def test_opening_a_writer_aborts_what_an_older_one_left_open(stage: Stage):
    log, topic, own = stage.log(), await stage.topic(), name()
    place = Place(topic, 0)
    older = await log.open_writer(own)
    await older.begin()
    await older.write(place, *framed(b"void"))
    newer = await stage.log().open_writer(own)
    reader = await log.open_reader()
    start, stable = await reader.bounds(place)
    assert (start, stable) == (0, 2)  # the record and its marker: nothing is open any more
    assert await visible(reader, place) == []
    await newer.begin()
    await newer.write(place, *framed(b"counts"))
    await newer.commit()
    await newer.close()
    with pytest.raises(Fenced):
        await older.commit()
    await settled(log, own)
    assert await visible(reader, place) == [b"counts"]
    await older.close()


@pytest.mark.parametrize("act", ["write", "write_offsets", "commit", "abort"])
def test_whatever_an_older_writer_does_raises_fenced(stage: Stage, act: str):
    @on_both
    async def test(stage: Stage) -> None:
        log, topic, own, group = stage.log(), await stage.topic(2), name(), name()
        place = Place(topic, 0)
        older = await log.open_writer(own)
        await older.begin()
        await older.write(place, *framed(b"void"))
        await settled(log, own)
        acts: dict[str, Callable[[], Awaitable[Any]]] = {
            "write": lambda: older.write(Place(topic, 1), *framed(b"void")),
            "write_offsets": lambda: older.write_offsets(group, {place: 3}),
            "commit": older.commit,
            "abort": older.abort,
        }
        with pytest.raises(Fenced):
            await acts[act]()
        with pytest.raises(LogProblem):
            await older.begin()
        await older.close()
        reader = await log.open_reader()
        assert await visible(reader, place) == await visible(reader, Place(topic, 1)) == []

    test(stage)


@on_both
async def test_after_a_failed_write_there_is_no_commit_but_a_new_writer_goes_on(stage: Stage):
    log, topic, own = stage.log(), await stage.topic(), name()
    place = Place(topic, 0)
    writer = await log.open_writer(own)
    await writer.begin()
    await writer.write(place, *framed(b"void"))
    with pytest.raises(LogProblem):
        await writer.write(place, *framed(b"x" * MESSAGE_BYTES_MAX))
    with pytest.raises(LogProblem):
        await writer.commit()
    await writer.close()
    await committed_batch(log, own, place, b"counts")
    await settled(log, own)
    assert await visible(await log.open_reader(), place) == [b"counts"]


@on_both
async def test_a_writer_wants_a_transaction_to_be_begun_once(stage: Stage):
    log, topic = stage.log(), await stage.topic()
    place = Place(topic, 0)
    for act in ("write", "commit", "begin twice"):
        writer = await log.open_writer(name())
        if act == "begin twice":
            await writer.begin()
        with pytest.raises(LogProblem):
            await (
                writer.write(place, *framed(b"x"))
                if act == "write"
                else writer.commit()
                if act == "commit"
                else writer.begin()
            )
        await writer.close()
    assert await visible(await log.open_reader(), place) == []


@on_both
async def test_writes_to_one_place_keep_their_order_and_say_their_offset(stage: Stage):
    log, topic, own = stage.log(), await stage.topic(2), name()
    here, there = Place(topic, 0), Place(topic, 1)
    writer = await log.open_writer(own)
    await writer.begin()
    offsets = await asyncio.gather(
        *(writer.write(place, *framed(b"%d" % k, b"+")) for k in range(20) for place in (here, there))
    )
    await writer.commit()
    await writer.close()
    assert offsets == [2 * k for k in range(20) for _ in (here, there)]
    await settled(log, own)
    reader = await log.open_reader()
    for place in (here, there):
        assert await visible(reader, place) == [value for k in range(20) for value in (b"%d" % k, b"+")]


# ------------------------------------------------------------------------------------------------ reading


@on_both
async def test_what_comes_behind_an_open_transaction_waits_for_its_end(stage: Stage):
    log, topic, own = stage.log(), await stage.topic(), name()
    place = Place(topic, 0)
    await stage.append(place, b"first")
    writer, other = await log.open_writer(own), name()
    await writer.begin()
    await writer.write(place, *framed(b"open"))
    await stage.append(place, b"behind")
    await committed_batch(log, other, place, b"committed behind")
    reader = await log.open_reader()
    assert await reader.bounds(place) == (0, 1)
    assert await visible(reader, place) == [b"first"]
    assert await reader.read(place, 1) == ([], 1)
    held = await reader.first_held(place)
    assert held is not None
    assert values_of([held], held.first_offset) == [b"open"]
    assert await reader.held_back(place) == 4  # two of the transactions, one in between, and the marker of the second
    await writer.commit()
    await writer.close()
    await settled(log, own, other)
    assert await visible(reader, place) == [b"first", b"open", b"behind", b"committed behind"]
    assert await reader.held_back(place) == 0
    assert await reader.first_held(place) is None


@on_both
async def test_two_transactions_woven_into_each_other_are_told_apart(stage: Stage):
    log, topic, one, two = stage.log(), await stage.topic(), name(), name()
    place = Place(topic, 0)
    good, bad = await log.open_writer(one), await log.open_writer(two)
    for writer in (good, bad):
        await writer.begin()
    for k in range(3):
        await bad.write(place, *framed(b"void"))
        await good.write(place, *framed(b"%d" % k))
    await bad.abort()
    await bad.begin()
    await bad.write(place, *framed(b"3"))
    await good.commit()
    await bad.commit()
    for writer in (good, bad):
        await writer.close()
    await settled(log, one, two)
    assert await visible(await log.open_reader(), place) == [b"0", b"1", b"2", b"3"]


@on_both
async def test_the_bounds_are_the_log_start_and_the_last_stable_offset(stage: Stage):
    log, topic = stage.log(), await stage.topic()
    place = Place(topic, 0)
    reader = await log.open_reader()
    assert await reader.bounds(place) == (0, 0)
    await stage.append(place, b"a", b"b", b"c")
    assert await reader.bounds(place) == (0, 3)
    await stage.delete_records(place, 2)
    assert await reader.bounds(place) == (2, 3)
    await reader.close()


@on_both
async def test_an_offset_that_is_not_in_the_log_is_gone(stage: Stage):
    log, topic, group = stage.log(), await stage.topic(), name()
    place = Place(topic, 0)
    await stage.append(place, b"a", b"b", b"c")
    await stage.append(place, b"d")
    await stage.delete_records(place, 3)
    reader = await log.open_reader()
    for offset in (0, 2, 5, 1_000):
        with pytest.raises(OffsetGone, match=place.topic):
            await reader.read(place, offset)
    assert await visible(reader, place, 3) == [b"d"]
    assert await reader.read(place, 4) == ([], 4)
    follower = await follow(log, group, [topic], begins=False)
    await follower.holds(0)
    assert follower.member is not None
    for offset in (0, 5):
        follower.member.seek(place, offset)
        follower.member.resume([place])
        with pytest.raises(OffsetGone, match=place.topic):
            await follower.fetched(1)
    follower.member.seek(place, 3)
    assert await follower.fetched(1) == {place: [b"d"]}
    await follower.member.close()


@on_both
async def test_a_block_may_begin_before_the_offset(stage: Stage):
    log, topic = stage.log(), await stage.topic()
    place = Place(topic, 0)
    await stage.append(place, b"a", b"b", b"c")
    reader = await log.open_reader()
    blocks, following = await reader.read(place, 2)
    assert [(block.first_offset, block.next_offset, block.count) for block in blocks] == [(0, 3, 3)]
    assert following == 3
    assert values_of(blocks, 2) == [b"c"]
    # also where the log itself begins inside a batch
    await stage.delete_records(place, 1)
    assert values_of((await reader.read(place, 1))[0], 1) == [b"b", b"c"]


@pytest.mark.parametrize("codec", CODECS)
def test_compressed_batches_headers_and_nulls_are_read(stage: Stage, codec: str):
    records: list[Few] = [
        (b"key", b"value" * 100, [("trace", b"abc"), ("null", None)]),
        (None, b"no key" * 100, []),
        (b"", b"", []),
        (b"tombstone", None, []),
    ] * 50

    @on_both
    async def test(stage: Stage) -> None:
        place = Place(await stage.topic(), 0)
        await stage.append_any(place, records, codec)
        reader = await stage.log().open_reader()
        blocks, following = await reader.read(place, 0)
        found, _ = records_from_blocks(blocks, 0)
        assert following == 200
        assert [(found.key(k), found.raw(k)) for k in range(found.count)] == [
            (key, value or b"") for key, value, _ in records
        ]
        await reader.close()

    test(stage)


@on_both
async def test_a_position_passes_markers_and_aborted_records_at_the_end(stage: Stage):
    log, topic, own = stage.log(), await stage.topic(), name()
    place = Place(topic, 0)
    await committed_batch(log, own, place, b"a")
    writer = await log.open_writer(own)
    await writer.begin()
    await writer.write(place, *framed(b"void", b"void"))
    await writer.abort()
    await writer.close()
    await settled(log, own)
    reader = await log.open_reader()
    assert await reader.bounds(place) == (0, 5)
    assert await visible(reader, place) == [b"a"]
    blocks, following = await reader.read(place, 1)
    assert (list(blocks), following) == ([], 5)
    assert await reader.read(place, 5) == ([], 5)
    follower = await follow(log, name(), [topic])
    await follower.holds(0)
    member = follower.member
    assert member is not None
    assert await follower.fetched(1) == {place: [b"a"]}
    while member.position(place) < 5:
        assert await member.fetch([place], 1 << 20, 0.2) == {}
    assert (member.position(place), member.end(place)) == (5, 5)
    await member.close()


@on_both
async def test_much_is_read_in_parts_without_a_gap(stage: Stage):
    log, topic, own = stage.log(), await stage.topic(), name()
    place = Place(topic, 0)
    writer = await log.open_writer(own)
    for k in range(8):
        await writer.begin()
        await writer.write(place, *framed(*(b"%d-%d" % (k, j) + b"." * 90_000 for j in range(5))))
        await writer.commit()
    await writer.close()
    await settled(log, own)
    found = await visible(await log.open_reader(), place)
    assert [value.rstrip(b".") for value in found] == [b"%d-%d" % (k, j) for k in range(8) for j in range(5)]


@on_both
async def test_topics_that_are_not_there_are_left_out_or_refused(stage: Stage):
    log, topic = stage.log(), await stage.topic(3)
    missing = name()
    assert await log.partition_counts([topic, missing]) == {topic: 3}
    reader = await log.open_reader()
    with pytest.raises(Refused):
        await reader.bounds(Place(missing, 0))
    with pytest.raises(Refused):
        await reader.read(Place(topic, 3), 0)
    follower = Follower([missing])
    with pytest.raises(Refused):
        await log.join(name(), [missing], None, follower.assigned, follower.revoked)
    for act in ("write", "write_offsets"):
        writer = await log.open_writer(name())
        await writer.begin()
        with pytest.raises(Refused):
            await (
                writer.write(Place(missing, 0), *framed(b"x"))
                if act == "write"
                else writer.write_offsets(name(), {Place(missing, 0): 1})
            )
        await writer.close()
    assert await log.partition_counts([missing]) == {}  # asking has not made it


# ------------------------------------------------------------------------------------------------ groups


@on_both
async def test_a_member_is_settled_when_the_group_has_spoken_also_where_nothing_is_left_for_it(stage: Stage):
    topic, group = await stage.topic(1), name()
    one, two = await follow(stage.log(), group, [topic]), await follow(stage.log(), group, [topic])
    for follower in (one, two):
        assert follower.member is not None
        while not follower.member.settled:
            await asyncio.sleep(0.01)
    while sorted(len(follower.mine) for follower in (one, two)) != [0, 1]:
        await asyncio.sleep(0.01)
    assert one.member is not None
    assert two.member is not None
    await one.member.close()
    assert not one.member.settled
    await two.holds(0)
    await two.member.close()


@on_both
async def test_a_member_alone_gets_all_numbers_of_all_topics_paused(stage: Stage):
    log, calls, commands = stage.log(), await stage.topic(2), await stage.topic(2)
    for topic in (calls, commands):
        await stage.append(Place(topic, 1), b"x")
    follower = await follow(log, name(), [calls, commands], begins=False)
    await follower.holds(0, 1)
    member = follower.member
    assert member is not None
    assert follower.said == [("assigned", (0, 1))]
    assert await member.fetch(follower.places, 1 << 20, 0.3) == {}
    with pytest.raises(LogProblem):
        member.position(Place(calls, 1))
    member.resume(follower.places)  # resumed, but nobody has said from where
    assert await member.fetch(follower.places, 1 << 20, 0.3) == {}
    follower.begin()
    assert await follower.fetched(2) == {Place(calls, 1): [b"x"], Place(commands, 1): [b"x"]}
    assert member.position(Place(calls, 1)) == member.end(Place(calls, 1)) == 1
    await member.close()
    assert follower.said[1:] == [("revoked", (0, 1))]


@on_both
async def test_pause_resume_and_seek_decide_what_is_fetched(stage: Stage):
    log, topic = stage.log(), await stage.topic(2)
    here, there = Place(topic, 0), Place(topic, 1)
    for k in range(3):
        for place in (here, there):
            await stage.append(place, b"%d" % k)
    follower = await follow(log, name(), [topic])
    await follower.holds(0, 1)
    member = follower.member
    assert member is not None
    assert await member.fetch([here], 1, 5.0) != {}
    assert member.position(here) == 1  # one block at least, and not much more than `max_bytes`
    member.pause([here])
    assert await follower.fetched(3) == {there: [b"0", b"1", b"2"]}
    assert await member.fetch([here, there], 1 << 20, 0.3) == {}
    assert member.position(here) == 1
    member.resume([here])
    assert await follower.fetched(2) == {here: [b"1", b"2"]}
    member.seek(there, 1)
    assert member.position(there) == 1
    assert await follower.fetched(2) == {there: [b"1", b"2"]}
    member.seek(here, 2)
    assert await member.fetch([there], 1 << 20, 0.3) == {}  # only what is asked for
    await member.close()


@on_both
async def test_a_fetch_that_waits_gets_what_comes(stage: Stage):
    log, topic, own = stage.log(), await stage.topic(2), name()
    here, there = Place(topic, 0), Place(topic, 1)
    follower = await follow(log, name(), [topic])
    await follower.holds(0, 1)
    member = follower.member
    assert member is not None

    async def first_of(place: Place) -> list[bytes]:
        while not (found := await member.fetch([place], 1 << 20, 5.0)):
            pass
        return values_of(found[place])

    waiting = [asyncio.create_task(first_of(place)) for place in (here, there)]
    writer = await log.open_writer(own)
    await writer.begin()
    await writer.write(there, *framed(b"there"))
    await writer.write(here, *framed(b"here"))
    await writer.commit()
    await writer.close()
    assert await asyncio.gather(*waiting) == [[b"here"], [b"there"]]
    await member.close()


@on_both
async def test_partitions_move_between_members_as_they_come_and_go(stage: Stage):
    group, topic = name(), await stage.topic(4)
    lets_go, told = asyncio.Event(), []
    log, other = stage.log(), stage.log()
    one, two = Follower([topic]), Follower([topic])

    async def slowly(numbers: frozenset[int]) -> None:
        if len(numbers) == 4:
            told.append("asked")
            await lets_go.wait()
            told.append("let go")
        await one.revoked(numbers)

    async def gets(numbers: frozenset[int]) -> None:
        told.append("has it")
        await two.assigned(numbers)

    one.member = await log.join(group, [topic], None, one.assigned, slowly)
    await one.holds(0, 1, 2, 3)
    two.member = await other.join(group, [topic], None, gets, two.revoked)
    while told != ["asked"]:
        await asyncio.sleep(0.01)
    assert await one.member.fetch(one.places, 1 << 20, 0.2) == {}
    with pytest.raises(LogProblem):
        one.member.seek(Place(topic, 0), 0)  # no longer its own, from before `revoked` is called
    lets_go.set()
    while len(one.mine) != 2 or len(two.mine) != 2:
        await asyncio.sleep(0.01)
    assert told == ["asked", "let go", "has it"]
    assert one.mine | two.mine == {0, 1, 2, 3}
    for number in range(4):
        await stage.append(Place(topic, number), b"%d" % number)
    found = {**await one.fetched(2), **await two.fetched(2)}
    assert found == {Place(topic, number): [b"%d" % number] for number in range(4)}
    await two.member.close()
    await one.holds(0, 1, 2, 3)
    assert two.mine == frozenset()
    await one.member.close()
    assert one.mine == frozenset()


@on_both
async def test_a_static_member_that_comes_back_gets_what_it_had_and_disturbs_nobody(stage: Stage):
    group, topic = name(), await stage.topic(2)
    log, other = stage.log(), stage.log()
    stays = await follow(log, group, [topic], "stays")
    await stays.holds(0, 1)
    leaves = await follow(other, group, [topic], "leaves")
    while len(stays.mine) != 1 or len(leaves.mine) != 1:
        await asyncio.sleep(0.01)
    had, said = leaves.mine, list(stays.said)
    assert leaves.member is not None
    await leaves.member.close()
    assert leaves.said[-1] == ("revoked", tuple(had))
    back = await follow(stage.log(), group, [topic], "leaves")
    await back.holds(*had)
    await stage.append(Place(topic, next(iter(had))), b"x")
    assert await back.fetched(1) == {Place(topic, next(iter(had))): [b"x"]}
    assert stays.said == said
    for follower in (back, stays):
        assert follower.member is not None
        await follower.member.close()


@pytest.mark.parametrize("which", ["assigned", "revoked"])
def test_what_a_listener_raises_surfaces_in_fetch(stage: Stage, which: str):
    @on_both
    async def test(stage: Stage) -> None:
        log, topic, group = stage.log(), await stage.topic(2), name()
        follower = Follower([topic])

        async def fails(numbers: frozenset[int]) -> None:
            raise ZeroDivisionError(which)

        listeners = {"assigned": follower.assigned, "revoked": follower.revoked, which: fails}
        follower.member = await log.join(group, [topic], None, listeners["assigned"], listeners["revoked"])
        other = None
        if which == "revoked":
            await follower.holds(0, 1)
            other = await follow(stage.log(), group, [topic])
        with pytest.raises(ZeroDivisionError, match=which):
            await follower.fetched(1)
        with pytest.raises(ZeroDivisionError, match=which):
            await follower.member.fetch([Place(topic, 0)], 1, 0.1)
        for member in (follower.member, other and other.member):
            if member is not None:
                try:
                    await member.close()
                except ZeroDivisionError:
                    assert which == "revoked"

    test(stage)


# ------------------------------------------------------------------------------------------------ a dead broker


@on_both
async def test_every_wait_ends_when_the_broker_does_not_answer(stage: Stage):
    topic, group, own = await stage.topic(), name(), name()
    place = Place(topic, 0)
    log = stage.log(DEADLINE_S)
    reader, follower = await log.open_reader(), await follow(log, group, [topic])
    await follower.holds(0)
    member = follower.member
    assert member is not None
    await reader.bounds(place)
    writers = [await log.open_writer(name()) for _ in range(3)]
    for writer in writers:
        await writer.begin()
        await writer.write(place, *framed(b"void"))
    stage.stop_broker()
    ends = [
        writers[0].commit(), writers[1].write(place, *framed(b"void")), writers[2].write_offsets(group, {place: 1}),
        reader.bounds(place), reader.read(place, 0), member.committed(place),
        log.open_writer(own), log.partition_counts([topic]),
    ]  # fmt: skip
    for problem in await asyncio.gather(*ends, return_exceptions=True):
        assert isinstance(problem, LogTimeout), problem
    assert await member.fetch([place], 1, 0.1) == {}
    for letting_go in (*(writer.close() for writer in writers), reader.close(), member.close()):
        await letting_go
