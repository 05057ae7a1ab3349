"""Following committed records for the API, on a real Apache Kafka: from now on or from an instant on, through restarts of the broker."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from rater.doors.clock import wall_ms
from rater.doors.kafka.client import KafkaLog
from rater.doors.kafka.follow import Following, heard_in
from rater.doors.kafka.log import Block, Place
from rater.doors.kafka.record_batches import frame_few
from rater.doors.kafka.topics import Wanted, create_topics
from rater.doors.listening import EVENTS, REJECTED_COMMANDS, Heard
from tests.kafka.broker import KafkaCluster
from tests.kafka.workers import PATIENCE_S, connection

PARTITIONS = 3
MARK = b"0123456789abcdef"
numbers = itertools.count()


@dataclass
class Ear:
    """A listener that keeps what it hears."""

    since: dict[str, int] = field(default_factory=dict)
    heard: list[tuple[str, int, bytes]] = field(default_factory=list)

    def since_ms(self, topic: str) -> int:
        return self.since.get(topic, wall_ms() - 10_000)

    def mark(self, topic: str) -> bytes:
        return MARK if topic == EVENTS else b""

    def hear(self, topic: str, heard: Sequence[Heard]) -> None:
        self.heard += [(topic, one.partition, one.value) for one in heard]

    async def until(self, count: int) -> list[tuple[str, int, bytes]]:
        async with asyncio.timeout(PATIENCE_S):
            while len(self.heard) < count:
                await asyncio.sleep(0.02)
        return self.heard


async def until_follows(following: Following, follows: bool = True) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while (not following.trouble) is not follows:
            await asyncio.sleep(0.02)


@asynccontextmanager
async def followed(bootstrap: str, prefix: str, ear: Ear) -> AsyncIterator[Following]:
    following = Following(connection(bootstrap), prefix, ear)
    assert following.trouble == "it has not begun yet"
    running = asyncio.ensure_future(following.run())
    try:
        yield following
    finally:
        running.cancel()
        await asyncio.wait([running])


class Engine:
    """Writes as a worker does: in transactions."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self._log = KafkaLog({"bootstrap_servers": [bootstrap]}, transaction_timeout_ms=10_000)
        self._prefix = prefix

    async def write(self, topic: str, values: Sequence[bytes], partition: int = 0, commit: bool = True) -> None:
        writer = await self._log.open_writer(f"{self._prefix}engine")
        await writer.begin()
        for body, count in frame_few([(b"acme", value, ()) for value in values], 1 << 20):
            await writer.write(Place(self._prefix + topic, partition), body, count)
        await (writer.commit() if commit else writer.abort())
        await writer.close()


def fresh() -> str:
    return f"follow-{next(numbers)}."


async def made(bootstrap: str) -> str:
    prefix = fresh()
    await create_topics(connection(bootstrap), prefix, Wanted(PARTITIONS, 1))
    return prefix


def test_what_is_committed_is_heard_once_in_order_and_nothing_else(kafka: KafkaCluster):
    async def run() -> None:
        prefix = await made(kafka.bootstrap)
        engine, ear = Engine(kafka.bootstrap, prefix), Ear()
        async with followed(kafka.bootstrap, prefix, ear) as following:
            await until_follows(following)
            failures = following.failures  # a topic that was just made may have had no leader yet
            await engine.write(EVENTS, [MARK + b" aborted"], commit=False)
            await engine.write(EVENTS, [b"another's"])
            await engine.write(EVENTS, [MARK + b"-1", b"between", MARK + b"-2"], partition=2)
            await engine.write(REJECTED_COMMANDS, [b"no mark needed"], partition=1)
            assert await ear.until(3) == [
                (EVENTS, 2, MARK + b"-1"), (EVENTS, 2, MARK + b"-2"), (REJECTED_COMMANDS, 1, b"no mark needed"),
            ]  # fmt: skip
            assert (following.trouble, following.failures) == ("", failures)

    asyncio.run(run())


def test_it_begins_where_the_listener_says(kafka: KafkaCluster):
    async def run() -> None:
        prefix = await made(kafka.bootstrap)
        engine = Engine(kafka.bootstrap, prefix)
        await engine.write(EVENTS, [MARK + b" long ago"])
        await engine.write(REJECTED_COMMANDS, [b"missed while away"])
        ear = Ear({EVENTS: wall_ms() + 3_600_000, REJECTED_COMMANDS: wall_ms() - 3_600_000})
        async with followed(kafka.bootstrap, prefix, ear) as following:
            await until_follows(following)
            await engine.write(EVENTS, [MARK + b" now"])
            assert sorted(await ear.until(2)) == [
                (EVENTS, 0, MARK + b" now"), (REJECTED_COMMANDS, 0, b"missed while away"),
            ]  # fmt: skip

    asyncio.run(run())


def test_a_broker_that_dies_and_comes_back_is_followed_again(broker_possible: None):
    async def run(cluster: KafkaCluster) -> None:
        prefix = await made(cluster.bootstrap)
        engine, ear = Engine(cluster.bootstrap, prefix), Ear()
        async with followed(cluster.bootstrap, prefix, ear) as following:
            await until_follows(following)
            await asyncio.to_thread(cluster.kill)
            await until_follows(following, False)
            await asyncio.to_thread(cluster.restart)
            await until_follows(following)
            assert following.failures > 0
            await engine.write(EVENTS, [MARK + b" after"])
            assert await ear.until(1) == [(EVENTS, 0, MARK + b" after")]

    with KafkaCluster() as cluster:
        asyncio.run(run(cluster))


def test_a_broker_that_hangs_is_noticed_before_any_request_times_out(broker_possible: None):
    async def run(cluster: KafkaCluster) -> None:
        prefix = await made(cluster.bootstrap)
        async with followed(cluster.bootstrap, prefix, Ear()) as following:
            await until_follows(following)
            cluster.pause()
            await until_follows(following, False)
            assert following.trouble in ("a broker does not answer", "the brokers cannot be reached")
            cluster.resume()
            await until_follows(following)

    with KafkaCluster() as cluster:
        asyncio.run(run(cluster))


def test_topics_that_are_not_there_yet_are_waited_for(kafka: KafkaCluster):
    async def run() -> None:
        prefix = fresh()
        async with followed(kafka.bootstrap, prefix, Ear()) as following:
            async with asyncio.timeout(PATIENCE_S):
                while following.trouble != "the brokers do not let it read":
                    await asyncio.sleep(0.02)
            await create_topics(connection(kafka.bootstrap), prefix, Wanted(PARTITIONS, 1))
            await until_follows(following)

    asyncio.run(run())


def block(values: Sequence[bytes], first: int) -> Block:
    ((body, count),) = frame_few([(None, value, ()) for value in values], 1 << 20)
    return Block(first, first + count, count, body, 0)


def test_a_batch_without_the_mark_is_passed_over_and_so_is_what_lies_before_the_offset():
    blocks = [
        block([MARK + b"-0", MARK + b"-1"], 10),
        Block(12, 22, 10, b"not even a record", 0),
        block([b"x", MARK], 22),
    ]
    assert heard_in(blocks, 11, 4, MARK) == [Heard(4, 11, MARK + b"-1"), Heard(4, 23, MARK)]
    assert heard_in(blocks[1:2], 12, 4, MARK) == []
