"""What the log on aiokafka does with a real broker, a bad network and a second process, beyond the common suite."""

import asyncio
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.kafka.broker import KafkaCluster, free_ports
from tests.kafka.proxy import Api, Proxy, Side, error_codes

aiokafka = pytest.importorskip("aiokafka")
from aiokafka import errors  # noqa: E402
from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # noqa: E402

from rater.doors.kafka.client import KafkaLog  # noqa: E402
from rater.doors.kafka.client_asking import Asking, NothingDone, Queued  # noqa: E402
from rater.doors.kafka.client_connection import KnownTopics  # noqa: E402
from rater.doors.kafka.client_fetch import KafkaReader  # noqa: E402
from rater.doors.kafka.client_line import Line  # noqa: E402
from rater.doors.kafka.client_member import KafkaMember  # noqa: E402
from rater.doors.kafka.client_pump import Sizes  # noqa: E402
from rater.doors.kafka.client_writer import KafkaWriter  # noqa: E402
from rater.doors.kafka.log import (  # noqa: E402
    Block,
    Bodies,
    Fenced,
    LogProblem,
    LogTimeout,
    OffsetGone,
    Place,
    Refused,
    Writer,
)
from rater.doors.kafka.record_batches import frame_few, records_from_blocks  # noqa: E402

STUCK_S = 90  # a test that waits this long waits for something that will not come
NOW_MS = time.time_ns() // 1_000_000  # brokers delete what is old by its own account
names = itertools.count(time.time_ns())


def run(test: Awaitable[None]) -> None:
    async def ended() -> None:
        await asyncio.wait_for(test, STUCK_S)

    asyncio.run(ended())


async def new_topic(kafka: KafkaCluster, partitions: int = 1, replicas: int = 1, **configuration: str) -> str:
    topic = f"client-{next(names)}"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        configs = {key.replace("_", "."): value for key, value in configuration.items()}
        await admin.create_topics([NewTopic(topic, partitions, replicas, topic_configs=configs)])
    finally:
        await admin.close()
    return topic


def log_on(bootstrap: str, **options: Any) -> KafkaLog:
    return KafkaLog({"bootstrap_servers": bootstrap}, **{"clock_ms": lambda: NOW_MS, **options})


def body(*values: bytes) -> tuple[bytes, int]:
    ((framed, count),) = frame_few([(b"key", value, []) for value in values])
    return framed, count


async def commit(writer: Writer, place: Place, *values: bytes) -> None:
    await writer.begin()
    await writer.write(place, *body(*values))
    await writer.commit()


def values_of(blocks: Sequence[Block], first_offset: int = 0) -> list[bytes]:
    records = records_from_blocks(blocks, first_offset)[0]
    return [bytes(records.buffer[a:b]) for a, b in zip(records.starts, records.ends, strict=True)]


async def visible(log: KafkaLog, place: Place, *transactional_ids: str) -> list[bytes]:
    """The values a reader of committed records sees, up to the last stable offset.

    These ids (one named like the topic, if none is given) are taken over first: that ends what they have under way.
    """
    for transactional_id in transactional_ids or [place.topic]:
        await (await log.open_writer(transactional_id)).close()
    reader = await log.open_reader()
    try:
        start, end = await reader.bounds(place)
        offset, found = start, []
        while offset < end:
            blocks, offset = await reader.read(place, offset)
            found += values_of(blocks)
        return found
    finally:
        await reader.close()


async def first_of(reader: KafkaReader, place: Place, offset: int) -> list[bytes]:
    """The values there, as soon as the marker behind them is."""
    while not (found := await reader.read(place, offset))[0]:
        pass
    return values_of(found[0])


async def committed(kafka: KafkaCluster, group: str, place: Place) -> int | None:
    """Asked for by somebody outside the group."""
    consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        offset = await consumer.committed(aiokafka.TopicPartition(*place))
        return None if offset is None else int(offset)
    finally:
        await consumer.stop()


# ------------------------------------------------------------------------------------------------ what a broker stores


@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
def test_records_of_every_codec_are_read_with_headers_and_null_keys(kafka: KafkaCluster, codec: str | None) -> None:
    async def test() -> None:
        place = Place(await new_topic(kafka), 0)
        producer = aiokafka.AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, compression_type=codec, linger_ms=20)
        await producer.start()
        sent = [b"value %d " % number * 20 for number in range(50)]
        await asyncio.gather(*[
            await producer.send(place.topic, value, key=None if number % 2 else b"k", headers=[("h", b"x")])
            for number, value in enumerate(sent)
        ])  # fmt: skip
        await producer.stop()
        log = log_on(kafka.bootstrap)
        reader = await log.open_reader()
        blocks, end = await reader.read(place, 0)
        await reader.close()
        records = records_from_blocks(blocks, 0)[0]
        assert end == 50
        assert values_of(blocks) == sent
        assert [records.key(number) for number in range(4)] == [b"k", None, b"k", None]

    run(test())


def test_aborted_records_and_markers_are_passed_over(kafka: KafkaCluster) -> None:
    """Two writers interleaved on a place, one of them aborting, and an abort at the very end."""

    async def test() -> None:
        place = Place(await new_topic(kafka), 0)
        log = log_on(kafka.bootstrap)
        one, two = await log.open_writer(f"{place.topic}-1"), await log.open_writer(f"{place.topic}-2")
        await one.begin()
        await two.begin()
        for number in range(3):
            await one.write(place, *body(b"kept %d" % number))
            await two.write(place, *body(b"void %d" % number))
        await two.abort()
        await one.write(place, *body(b"kept 3"))
        await one.commit()
        await commit(two, place, b"kept 4")  # the same producer id as the aborted ones
        await two.begin()
        await two.write(place, *body(b"void"))
        await two.abort()
        assert await visible(log, place, f"{place.topic}-1", f"{place.topic}-2") == [b"kept %d" % n for n in range(5)]
        reader = await log.open_reader()
        start, end = await reader.bounds(place)
        assert (start, end) == (0, 13)  # 5 kept, 4 void, 4 markers
        blocks, offset = await reader.read(place, end - 2)
        assert (blocks, offset) == ([], end)
        assert await reader.read(place, end) == ([], end)
        with pytest.raises(OffsetGone, match=f"{place}: offset {end + 1} is not in the log"):
            await reader.read(place, end + 1)
        await reader.close()
        await one.close()
        await two.close()

    run(test())


def test_an_open_transaction_hides_what_lies_behind_it(kafka: KafkaCluster) -> None:
    async def test() -> None:
        place = Place(await new_topic(kafka), 0)
        log = log_on(kafka.bootstrap)
        slow, quick = await log.open_writer(f"{place.topic}-1"), await log.open_writer(f"{place.topic}-2")
        await commit(quick, place, b"first")
        await slow.begin()
        await slow.write(place, *body(b"slow"))
        await commit(quick, place, b"second")
        assert await visible(log, place, f"{place.topic}-2") == [b"first"]
        await slow.commit()
        assert await visible(log, place, f"{place.topic}-1") == [b"first", b"slow", b"second"]
        await slow.close()
        await quick.close()

    run(test())


def test_other_consumers_of_the_process_keep_their_records(kafka: KafkaCluster) -> None:
    async def test() -> None:
        place = Place(await new_topic(kafka), 0)
        log = log_on(kafka.bootstrap)
        writer = await log.open_writer(place.topic)
        await commit(writer, place, b"seen")
        consumer = aiokafka.AIOKafkaConsumer(
            place.topic,
            bootstrap_servers=kafka.bootstrap,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
        )
        await consumer.start()
        record = await consumer.getone()
        assert (record.key, record.value, record.timestamp) == (b"key", b"seen", NOW_MS)
        await consumer.stop()
        await writer.close()

    run(test())


def test_a_batch_too_large_is_an_error_and_nothing_of_its_transaction_is_committed(kafka: KafkaCluster) -> None:
    async def test() -> None:
        small = Place(await new_topic(kafka, max_message_bytes="1000"), 0)
        place = Place(await new_topic(kafka), 0)
        log = log_on(kafka.bootstrap)
        writer = await log.open_writer(small.topic)
        await writer.begin()
        await writer.write(place, *body(b"fits"))
        await writer.write_offsets(small.topic, {place: 7})
        with pytest.raises(LogProblem, match=r"max\.message\.bytes"):
            await writer.write(small, *body(b"x" * 2000))
        with pytest.raises(LogProblem, match="an earlier step failed"):
            await writer.commit()
        await writer.abort()
        assert writer.tainted
        with pytest.raises(LogProblem, match="open a new one"):
            await writer.begin()
        await writer.close()
        assert await visible(log, place) == []
        assert await committed(kafka, small.topic, place) is None
        following = await log.open_writer(small.topic)
        await commit(following, small, b"short")
        await following.close()
        assert await visible(log, small) == [b"short"]

    run(test())


def test_writes_to_one_place_keep_their_order(kafka: KafkaCluster) -> None:
    """Also when the first one finds that the broker asked does not know the new topic yet, and waits."""

    class LateForOne(KnownTopics):
        waited = False

        async def require(self, *asked: Any) -> None:
            if not self.waited:
                self.waited = True
                await asyncio.sleep(0.1)
            await super().require(*asked)

    async def test() -> None:
        place = Place(await new_topic(kafka), 0)
        log = log_on(kafka.bootstrap)
        log._topics = LateForOne()
        writer = await log.open_writer(place.topic)
        await writer.begin()
        sent = [b"%03d" % number for number in range(60)]
        offsets = await asyncio.gather(*[writer.write(place, *body(value)) for value in sent])
        assert offsets == list(range(60))
        await writer.commit()
        await writer.close()
        assert await visible(log, place) == sent

    run(test())


def test_a_batch_the_broker_puts_off_is_not_overtaken_by_the_next_of_its_place(
    kafka: KafkaCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        topic, log = await new_topic(kafka, 2), log_on(kafka.bootstrap, transaction_version=2)
        put_off: set[Place] = set()
        send = Asking._send

        def put_off_once(self: Asking, wave: dict[Place, Queued], leaders: dict[Place, Line]) -> None:
            places = frozenset(wave)
            if places - put_off:  # as a broker does that has not ended the transaction before
                put_off.update(places)
                raise NothingDone(errors.ConcurrentTransactions.errno)
            send(self, wave, leaders)

        monkeypatch.setattr(Asking, "_send", put_off_once)
        writer = await log.open_writer(f"client-{next(names)}")
        await writer.begin()
        places = [Place(topic, 0), Place(topic, 1)]
        firsts = await asyncio.gather(*(writer.write(place, *body(b"a", b"b")) for _ in range(3) for place in places))
        await writer.commit()
        await writer.close()
        assert firsts == [0, 0, 2, 2, 4, 4]

    run(test())


def test_steps_out_of_order_are_refused_and_spoil_nothing(kafka: KafkaCluster) -> None:
    async def test() -> None:
        place = Place(await new_topic(kafka), 0)
        writer = await log_on(kafka.bootstrap).open_writer(place.topic)
        for early in (lambda: writer.write(place, *body(b"x")), lambda: writer.write_offsets("g", {place: 1}),
                      writer.commit, writer.abort):  # fmt: skip
            with pytest.raises(LogProblem, match="no transaction is open"):
                await early()
        await writer.begin()
        with pytest.raises(LogProblem, match="a transaction is open"):
            await writer.begin()
        await writer.write(place, *body(b"x"))
        await writer.commit()
        await writer.close()
        with pytest.raises(LogProblem, match="it is closed"):
            await writer.begin()

    run(test())


def test_a_commit_with_a_write_under_way_is_refused(kafka: KafkaCluster) -> None:
    async def test() -> None:
        place = Place(await new_topic(kafka), 0)
        writer = await log_on(kafka.bootstrap).open_writer(place.topic)
        await writer.begin()
        writing = asyncio.create_task(writer.write(place, *body(b"x")))
        await asyncio.sleep(0)
        with pytest.raises(LogProblem, match="1 writes are under way"):
            await writer.commit()
        await writing
        await writer.abort()
        await writer.close()

    run(test())


# ------------------------------------------------------------------------------------------------ topics that are not there


def test_a_topic_that_is_not_there_is_refused_by_name_and_not_created(kafka: KafkaCluster) -> None:
    async def test() -> None:
        there = Place(await new_topic(kafka, 2), 0)
        async with Proxy(kafka.node().ports["CLIENT"]) as proxy:
            log = log_on(proxy.bootstrap)
            assert await log.partition_counts([there.topic, "no-such-topic"]) == {there.topic: 2}
            for wrong in (Place("no-such-topic", 0), Place(there.topic, 2)):
                writer = await log.open_writer(there.topic)
                await writer.begin()
                with pytest.raises(Refused, match=f"{wrong} is not there"):
                    await writer.write(wrong, *body(b"x"))
                await writer.close()
                writer = await log.open_writer(there.topic)
                await writer.begin()
                with pytest.raises(Refused, match=f"{wrong} is not there"):
                    await writer.write_offsets("group", {wrong: 1})
                await writer.close()
                reader = await log.open_reader()
                with pytest.raises(Refused, match=f"{wrong} is not there"):
                    await reader.read(wrong, 0)
                await reader.close()
            with pytest.raises(Refused, match="no-such-topic are not there"):
                await log.join("group", [there.topic, "no-such-topic"], None, ignored, ignored)
            writer = await log.open_writer(there.topic)
            await commit(writer, there, b"x")
            await writer.close()
            # the last byte of the request is whether the broker may create what it does not know
            asked = [frame for api, frame in proxy.requests if api == Api.METADATA]
            assert len(asked) > 5
            assert [frame[-1] for frame in asked if there.topic.encode() in frame or b"no-such" in frame].count(1) == 0

    run(test())


def test_topics_with_unlike_partition_counts_are_not_joined(kafka: KafkaCluster) -> None:
    async def test() -> None:
        two, three = await new_topic(kafka, 2), await new_topic(kafka, 3)
        with pytest.raises(LogProblem, match="expected the same number"):
            await log_on(kafka.bootstrap).join("group", [two, three], None, ignored, ignored)

    run(test())


async def ignored(_: frozenset[int]) -> None:
    pass


# ------------------------------------------------------------------------------------------------ a bad network


@asynccontextmanager
async def behind_a_proxy(
    kafka: KafkaCluster, version: int = 2, **options: Any
) -> AsyncIterator[tuple[Proxy, KafkaLog, Place]]:
    async with Proxy(kafka.node().ports["CLIENT"]) as proxy:
        log = log_on(proxy.bootstrap, **{"request_timeout_ms": 1500, "transaction_version": version, **options})
        yield proxy, log, Place(await new_topic(kafka), 0)


def test_a_transaction_without_trouble_does_not_taint(kafka: KafkaCluster) -> None:
    async def test() -> None:
        async with behind_a_proxy(kafka) as (_, log, place):
            writer = await log.open_writer(place.topic)
            for number in range(3):
                await commit(writer, place, b"%d" % number)
            assert not writer.tainted
            await writer.close()

    run(test())


@pytest.mark.parametrize("side", list(Side))
def test_by_the_older_protocol_a_connection_that_breaks_while_committing_taints(
    kafka: KafkaCluster, side: Side
) -> None:
    async def test() -> None:
        async with behind_a_proxy(kafka, version=1) as (proxy, log, place):
            writer = await log.open_writer(place.topic)
            rule = proxy.catch(Api.END_TXN, side, cut=True)
            await commit(writer, place, b"x")  # aiokafka asks again and says nothing
            assert rule.caught.locked() is False
            assert writer.tainted
            await writer.close()
            assert await visible(log, place) == [b"x"]

    run(test())


def test_by_the_older_protocol_a_commit_that_is_answered_late_taints(kafka: KafkaCluster) -> None:
    async def test() -> None:
        async with behind_a_proxy(kafka, version=1) as (proxy, log, place):
            writer = await log.open_writer(place.topic)
            rule = proxy.catch(Api.END_TXN, Side.ANSWER)
            committing = asyncio.create_task(commit(writer, place, b"x"))
            await rule.caught.acquire()
            await asyncio.sleep(0.9)  # more than half of the timeout of a request
            await rule.release()
            await committing
            assert [api for api, _ in proxy.requests].count(Api.END_TXN) == 1
            assert writer.tainted
            await writer.close()

    run(test())


@pytest.mark.parametrize("reopened", [True, False])
def test_by_the_older_protocol_a_late_end_of_a_transaction_tears_the_next_one_unless_the_writer_is_new(
    kafka: KafkaCluster, reopened: bool
) -> None:
    """With the old writer the next transaction, half written, is committed by the late request although it is aborted."""

    async def test() -> None:
        async with behind_a_proxy(kafka, version=1) as (proxy, log, place):
            writer = await log.open_writer(place.topic)
            late = proxy.catch(Api.END_TXN, cut=True)
            await commit(writer, place, b"first")
            assert writer.tainted
            if reopened:
                await writer.close()
                writer = await log.open_writer(place.topic)
                assert not writer.tainted
            await writer.begin()
            await writer.write(place, *body(b"half"))
            await late.release()
            await late.answers.acquire()
            (error,) = error_codes(late.answered)
            await writer.abort() if reopened else await ended_somehow(writer.abort())
            await writer.close()
            assert error == (47 if reopened else 0)  # invalid producer epoch
            assert await visible(log, place) == ([b"first"] if reopened else [b"first", b"half"])

    run(test())


async def whole(writer: Writer, place: Place, *values: bytes) -> None:
    """A transaction with everything a batch has; its offset is 2."""
    await writer.begin()
    await writer.write(place, *body(*values))
    await writer.write_offsets(place.topic, {place: 2})
    await writer.commit()


async def at_once(writer: Writer, place: Place, *values: bytes) -> None:
    """The same, without a turn between its steps."""
    bodies = [(place, (*body(*values), 0))]
    await writer.transact(lambda: (bodies, {place: 2}), place.topic, asyncio.to_thread)


Way = Callable[..., Awaitable[None]]


@pytest.mark.parametrize("way", [whole, at_once])
@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("api", [Api.PRODUCE, Api.TXN_OFFSET_COMMIT, Api.END_TXN])
def test_a_connection_that_breaks_in_a_transaction_ends_the_writer_and_nothing_is_sent_again(
    kafka: KafkaCluster, api: Api, side: Side, way: Way
) -> None:
    """Whether a commit without an answer took effect is for the log to say; both answers are whole."""

    async def test() -> None:
        async with behind_a_proxy(kafka) as (proxy, log, place):
            writer = await log.open_writer(place.topic)
            await commit(writer, place, b"first")
            before = len(proxy.requests)  # a topic that is new may have been asked for twice
            proxy.catch(api, side, cut=True)
            with pytest.raises(LogProblem):
                await way(writer, place, b"second")
            assert writer.tainted
            with pytest.raises(LogProblem, match="an earlier step failed"):
                await writer.commit()
            assert [asked for asked, _ in proxy.requests[before:]].count(api) == 1
            await writer.close()
            seen = await visible(log, place)
            offset = await committed(kafka, place.topic, place)
            reached_the_broker = api is Api.END_TXN and side is Side.ANSWER
            assert (seen, offset) == (([b"first", b"second"], 2) if reached_the_broker else ([b"first"], None))

    run(test())


@pytest.mark.parametrize("api", [Api.PRODUCE, Api.TXN_OFFSET_COMMIT, Api.END_TXN])
def test_a_transaction_that_is_cancelled_while_it_waits_ends_at_once_and_asks_nothing_more(
    kafka: KafkaCluster, api: Api
) -> None:
    """A worker that is told to end does not wait for a broker that says nothing."""

    async def test() -> None:
        async with behind_a_proxy(kafka) as (proxy, log, place):
            writer = await log.open_writer(place.topic)
            await at_once(writer, place, b"first", b"there")
            held = proxy.catch(api, Side.ANSWER)
            way = asyncio.create_task(at_once(writer, place, b"second"))
            await held.caught.acquire()
            before, begun = len(proxy.requests), time.monotonic()
            way.cancel()
            with pytest.raises(asyncio.CancelledError):
                await way
            assert time.monotonic() - begun < 2
            assert writer.tainted
            await asyncio.sleep(0.2)
            assert len(proxy.requests) == before
            await writer.close()
            ended = api is Api.END_TXN  # the broker did what it was asked
            assert await visible(log, place) == [b"first", b"there", *([b"second"] if ended else [])]

    run(test())


def test_a_transaction_that_is_cancelled_while_it_is_prepared_asks_nothing(kafka: KafkaCluster) -> None:
    async def test() -> None:
        async with behind_a_proxy(kafka) as (proxy, log, place):
            writer, decided = await log.open_writer(place.topic), threading.Event()
            await at_once(writer, place, b"first")
            before = len(proxy.requests)

            def prepare() -> tuple[Bodies, Mapping[Place, int]]:
                decided.wait(10)
                return [(place, (*body(b"second"), 0))], {place: 2}

            way = asyncio.create_task(writer.transact(prepare, place.topic, asyncio.to_thread))
            await asyncio.sleep(0.1)
            way.cancel()
            asyncio.get_running_loop().call_later(0.1, decided.set)
            with pytest.raises(asyncio.CancelledError):
                await way
            await asyncio.sleep(0.2)
            assert len(proxy.requests) == before
            await writer.close()
            assert await visible(log, place) == [b"first"]

    run(test())


def test_a_transaction_has_its_time_from_when_it_is_prepared(kafka: KafkaCluster) -> None:
    async def test() -> None:
        async with behind_a_proxy(kafka, request_timeout_ms=9000, deadline_s=1.0) as (proxy, log, place):
            writer = await log.open_writer(place.topic)

            def prepare() -> tuple[Bodies, Mapping[Place, int]]:
                time.sleep(1.3)
                return [(place, (*body(b"late"), 0))], {place: 2}

            await writer.transact(prepare, place.topic, asyncio.to_thread)
            proxy.catch(Api.TXN_OFFSET_COMMIT, Side.ANSWER)
            begun = time.monotonic()
            with pytest.raises(
                LogTimeout, match="a transaction: no answer within 1 s; whether it took effect is not known"
            ):
                await at_once(writer, place, b"second")
            assert 1 <= time.monotonic() - begun < 3
            assert writer.tainted
            await writer.close()
            assert await visible(log, place) == [b"late"]

    run(test())


@pytest.mark.parametrize("step", ["_send", "write_offsets", "end"])
def test_a_transaction_that_the_broker_puts_off_goes_on_where_it_was(
    kafka: KafkaCluster, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    async def test() -> None:
        topic, log = await new_topic(kafka, 2), log_on(kafka.bootstrap, transaction_version=2)
        taken, put_off = getattr(Asking, step), []

        def twice_put_off(self: Asking, *how: Any, **more: Any) -> None:
            if len(put_off) < 2:
                put_off.append(step)
                raise NothingDone(errors.ConcurrentTransactions.errno)
            taken(self, *how, **more)

        monkeypatch.setattr(Asking, step, twice_put_off)
        writer = await log.open_writer(topic)
        places = [Place(topic, 0), Place(topic, 1), Place(topic, 0)]
        bodies = [(place, (*body(b"%d" % number), 0)) for number, place in enumerate(places)]
        assert await writer.transact(lambda: (bodies, {places[0]: 2}), topic, asyncio.to_thread) == [0, 0, 1]
        await writer.close()
        assert put_off == [step, step]
        assert [await visible(log, place, topic) for place in places[:2]] == [[b"0", b"2"], [b"1"]]
        assert await committed(kafka, topic, places[0]) == 2

    run(test())


@pytest.mark.parametrize("api", [Api.PRODUCE, Api.TXN_OFFSET_COMMIT, Api.END_TXN])
def test_a_request_that_comes_late_can_do_nothing_to_the_next_transaction(kafka: KafkaCluster, api: Api) -> None:
    """The answer of the broker is 47, invalid producer epoch, or 90, producer fenced."""

    async def test() -> None:
        async with behind_a_proxy(kafka) as (proxy, log, place):
            writer = await log.open_writer(place.topic)
            late = proxy.catch(api, cut=True)
            with pytest.raises(LogProblem):
                await whole(writer, place, b"lost")
            await writer.close()
            writer = await log.open_writer(place.topic)
            await writer.begin()
            await writer.write(place, *body(b"half"))
            await late.release()
            await late.answers.acquire()
            await writer.write_offsets(place.topic, {place: 7})
            await writer.commit()
            await writer.close()
            assert await visible(log, place) == [b"half"]
            assert await committed(kafka, place.topic, place) == 7

    run(test())


def test_every_transaction_has_an_epoch_of_its_own(kafka: KafkaCluster) -> None:
    """So whatever is still under way of the last one is refused, also without a new writer."""

    async def test() -> None:
        async with behind_a_proxy(kafka) as (_, log, place):
            writer = await log.open_writer(place.topic)
            epochs = []
            for number in range(3):
                await commit(writer, place, b"%d" % number)
                epochs.append(writer._asking.producer)
            await writer.begin()
            await writer.write(place, *body(b"aborted"))
            await writer.abort()
            epochs.append(writer._asking.producer)
            assert len(set(epochs)) == 4
            assert await visible(log, place) == [b"0", b"1", b"2"]
            await writer.close()

    run(test())


def test_a_cluster_that_has_not_switched_epochs_on_is_spoken_to_in_the_older_protocol(broker_possible: None) -> None:
    async def test(kafka: KafkaCluster) -> None:
        place = Place(await new_topic(kafka), 0)
        log = log_on(kafka.bootstrap)
        writer = await log.open_writer(place.topic)
        assert isinstance(writer, KafkaWriter)
        await commit(writer, place, b"x")
        await writer.close()
        assert await visible(log, place) == [b"x"]

    with KafkaCluster(transaction_version=1) as older:
        run(test(older))


async def ended_somehow(doing: Awaitable[None]) -> None:
    """The broker has ended this transaction already; what it answers is not the point."""
    with suppress(LogProblem):
        await doing


@pytest.mark.parametrize("reopened", [True, False])
def test_by_the_older_protocol_late_offsets_move_a_group_back_unless_the_writer_is_new(
    kafka: KafkaCluster, reopened: bool
) -> None:
    async def test() -> None:
        async with behind_a_proxy(kafka, version=1) as (proxy, log, place):
            group = place.topic
            writer = await log.open_writer(place.topic)
            late = proxy.catch(Api.TXN_OFFSET_COMMIT, cut=True)
            await writer.begin()
            await writer.write_offsets(group, {place: 10})
            await writer.commit()
            assert writer.tainted
            if reopened:
                await writer.close()
                writer = await log.open_writer(place.topic)
            await writer.begin()
            await writer.write_offsets(group, {place: 20})
            await late.release()
            await late.answers.acquire()
            await writer.commit()
            await writer.close()
            following = await log.open_writer(place.topic)  # after it, offsets are what they stay
            assert await committed(kafka, group, place) == (20 if reopened else 10)
            await following.close()

    run(test())


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("api", [Api.PRODUCE, Api.TXN_OFFSET_COMMIT, Api.END_TXN])
def test_a_broker_that_never_answers_ends_in_a_timeout_and_nothing_is_committed_twice(
    kafka: KafkaCluster, api: Api, version: int
) -> None:
    async def test() -> None:
        async with behind_a_proxy(kafka) as (proxy, _, place):
            log = log_on(proxy.bootstrap, request_timeout_ms=700, deadline_s=2.0, transaction_version=version)
            direct = log_on(kafka.bootstrap)
            writer = await log.open_writer(place.topic)
            proxy.catch(api, times=1000)

            async def whole() -> None:
                await writer.begin()
                await writer.write(place, *body(b"x"))
                await writer.write_offsets(place.topic, {place: 1})
                await writer.commit()

            with pytest.raises(LogTimeout, match=r"no answer within (2|0\.7) s"):
                await whole()
            assert writer.tainted
            await writer.close()
            assert await visible(direct, place) == []
            following = await direct.open_writer(place.topic)
            await commit(following, place, b"again")
            await following.close()
            assert await visible(direct, place) == [b"again"]

    run(test())


@pytest.mark.kafka
def test_a_broker_that_stands_still_ends_every_call_at_its_deadline(broker_possible: None) -> None:
    async def test(kafka: KafkaCluster) -> None:
        place = Place(await new_topic(kafka), 0)
        log = log_on(kafka.bootstrap, request_timeout_ms=700, deadline_s=2.0)
        writer, reader = await log.open_writer(place.topic), await log.open_reader()
        idle = await log.open_writer(f"{place.topic}-idle")
        await commit(writer, place, b"before")
        await reader.read(place, 0)
        member = await Watched.join(log, place.topic, [place.topic])
        await member.settled()
        kafka.pause()
        try:
            await writer.begin()
            calls: dict[str, Awaitable[Any]] = {
                "write": writer.write(place, *body(b"x")),
                "bounds": reader.bounds(place),
                "read": reader.read(place, 0),
                "committed": member.member.committed(place),
                "open_writer": log.open_writer(place.topic),
                "open_reader": log.open_reader(),
                "partition_counts": log.partition_counts([place.topic]),
            }
            ends = await asyncio.gather(*calls.values(), return_exceptions=True)
            assert {name: type(end) for name, end in zip(calls, ends, strict=True)} == dict.fromkeys(calls, LogTimeout)
            assert await member.member.fetch([place], 1 << 20, 0.2) == {}
            await asyncio.gather(writer.close(), idle.close(), reader.close(), member.member.close())
        finally:
            kafka.resume()
        assert await visible(log_on(kafka.bootstrap), place) == [b"before"]

    with KafkaCluster() as own:
        run(test(own))


@pytest.mark.kafka
def test_a_broker_that_comes_back_is_found_again(broker_possible: None) -> None:
    """Reader and member ride it out; the writer is opened anew, which waits for the broker."""

    async def test(kafka: KafkaCluster) -> None:
        place = Place(await new_topic(kafka), 0)
        log = log_on(kafka.bootstrap, deadline_s=60)
        writer, reader = await log.open_writer(place.topic), await log.open_reader()
        await commit(writer, place, b"before")
        assert await first_of(reader, place, 0) == [b"before"]
        member = await Watched.join(log, place.topic, [place.topic])
        await member.settled()
        assert await member.gather([place], 1) == [b"before"]
        kafka.kill()
        await writer.close()
        opening = asyncio.create_task(log.open_writer(place.topic))
        await asyncio.to_thread(kafka.restart)
        writer = await opening
        await commit(writer, place, b"after")
        assert await member.gather([place], 1) == [b"after"]
        assert await first_of(reader, place, 2) == [b"after"]
        await writer.close()
        await reader.close()
        await member.member.close()

    with KafkaCluster() as own:
        run(test(own))


def test_reader_and_member_follow_a_leader_that_moves(three_brokers: KafkaCluster) -> None:
    async def test(kafka: KafkaCluster) -> None:
        place = Place(await new_topic(kafka, replicas=3), 0)
        log = log_on(kafka.bootstrap, deadline_s=40)
        writer, reader = await log.open_writer(place.topic), await log.open_reader()
        member = await Watched.join(log, place.topic, [place.topic])
        await member.settled()
        await commit(writer, place, b"before")
        assert await first_of(reader, place, 0) == await member.gather([place], 1) == [b"before"]
        leader = reader._client.cluster.leader_for_partition(place)
        await asyncio.to_thread(kafka.kill, leader - 1)
        await writer.close()
        writer = await log.open_writer(place.topic)
        await commit(writer, place, b"after")
        assert await first_of(reader, place, 2) == await member.gather([place], 1) == [b"after"]
        assert reader._client.cluster.leader_for_partition(place) != leader
        assert (await reader.bounds(place))[0] == 0
        assert await log.partition_counts([place.topic]) == {place.topic: 1}
        await writer.close()
        await reader.close()
        await member.member.close()

    run(test(three_brokers))


def test_no_broker_at_all_is_said_with_the_address() -> None:
    async def test() -> None:
        (port,) = free_ports(1)
        log = log_on(f"127.0.0.1:{port}", deadline_s=1.0)
        for call in (log.open_reader, lambda: log.open_writer("t"), lambda: log.partition_counts(["t"])):
            with pytest.raises(
                LogTimeout, match=f"connecting to 127.0.0.1:{port}: not done within 1 s .*ConnectionRefused"
            ):
                await call()

    run(test())


def test_a_port_that_is_no_broker_is_said_so() -> None:
    """It takes the connection and never answers."""

    async def test() -> None:
        async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            await reader.read()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(LogTimeout, match=f"connecting to 127.0.0.1:{port}"):
            await log_on(f"127.0.0.1:{port}", request_timeout_ms=300, deadline_s=1.0).open_writer("t")
        server.close()

    run(test())


def test_another_version_of_the_client_is_refused_at_import() -> None:
    code = "import aiokafka; aiokafka.__version__ = '0.15.0'; import rater.doors.kafka.client"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "aiokafka 0.15.0 is installed, expected 0.14.x" in done.stderr


# ------------------------------------------------------------------------------------------------ a second process

OPEN = """
import asyncio, sys
from rater.doors.kafka.client import KafkaLog

async def open_it() -> None:
    writer = await KafkaLog({"bootstrap_servers": sys.argv[1]}).open_writer(sys.argv[2])
    await writer.close()

asyncio.run(open_it())
"""


@pytest.mark.parametrize("step", ["write", "write_offsets", "commit", "abort", "begin"])
def test_a_writer_of_another_process_fences_at_every_step(kafka: KafkaCluster, step: str) -> None:
    async def test() -> None:
        place = Place(await new_topic(kafka), 0)
        log = log_on(kafka.bootstrap)
        writer = await log.open_writer(place.topic)
        if step != "begin":
            await writer.begin()
            await writer.write(place, *body(b"void"))
        done = await asyncio.create_subprocess_exec(sys.executable, "-c", OPEN, kafka.bootstrap, place.topic)
        assert await done.wait() == 0
        steps: dict[str, Callable[[], Awaitable[None]]] = {
            "write": lambda: writer.write(place, *body(b"void")),
            "write_offsets": lambda: writer.write_offsets(place.topic, {place: 1}),
            "commit": writer.commit,
            "abort": writer.abort,
            "begin": lambda: commit(writer, place, b"void"),
        }
        with pytest.raises(Fenced, match="newer writer"):
            await steps[step]()
        with pytest.raises(Fenced):
            await writer.begin()
        await writer.close()
        assert await visible(log, place) == []

    run(test())


# ------------------------------------------------------------------------------------------------ groups


@dataclass
class Watched:
    """A member that reads everything from the start, and what it was told."""

    topics: Sequence[str]
    member: KafkaMember = field(init=False)
    told: list[tuple[str, frozenset[int]]] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @classmethod
    async def join(cls, log: KafkaLog, group: str, topics: Sequence[str], instance_id: str | None = None) -> "Watched":
        watched = cls(topics)
        watched.member = await log.join(group, topics, instance_id, watched._assigned, watched._revoked)
        return watched

    async def _assigned(self, numbers: frozenset[int]) -> None:
        places = [Place(topic, number) for topic in self.topics for number in numbers]
        for place in places:
            self.member.seek(place, 0)
        self.member.resume(places)
        await self._note("assigned", numbers)

    async def _revoked(self, numbers: frozenset[int]) -> None:
        await self._note("revoked", numbers)

    async def _note(self, what: str, numbers: frozenset[int]) -> None:
        async with self.changed:
            self.told.append((what, numbers))
            self.changed.notify_all()

    @property
    def owned(self) -> frozenset[int]:
        return self.told[-1][1] if self.told and self.told[-1][0] == "assigned" else frozenset()

    async def settled(self, *expected: int) -> None:
        """Wait until these partitions are ours, or any."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.owned and (not expected or self.owned == set(expected)))

    async def gather(self, places: Sequence[Place], count: int) -> list[bytes]:
        found: list[bytes] = []
        while len(found) < count:
            for blocks in (await self.member.fetch(places, 1 << 20, 1.0)).values():
                found += values_of(blocks)
        return found


def test_partitions_of_two_topics_move_together_between_members(kafka: KafkaCluster) -> None:
    async def test() -> None:
        cdrs, commands = await new_topic(kafka, 4), await new_topic(kafka, 4)
        log = log_on(kafka.bootstrap)
        writer = await log.open_writer(cdrs)
        await writer.begin()
        for number in range(4):
            await writer.write(Place(cdrs, number), *body(b"cdr %d" % number))
            await writer.write(Place(commands, number), *body(b"command %d" % number))
        await writer.commit()
        first = await Watched.join(log, cdrs, [cdrs, commands])
        await first.settled(0, 1, 2, 3)
        second = await Watched.join(log, cdrs, [cdrs, commands])
        await second.settled()
        await first.settled(*({0, 1, 2, 3} - second.owned))
        assert len(first.owned) == len(second.owned) == 2
        assert first.told[1] == ("revoked", frozenset({0, 1, 2, 3}))
        for one in (first, second):
            for number in one.owned:
                found = await one.gather([Place(cdrs, number), Place(commands, number)], 2)
                assert sorted(found) == [b"cdr %d" % number, b"command %d" % number]
        moved = Place(cdrs, next(iter(second.owned)))
        assert await first.member.fetch([moved], 1 << 20, 0.2) == {}
        with pytest.raises(LogProblem, match="not assigned to this member"):
            first.member.position(moved)
        await second.member.close()
        assert second.told[-1][0] == "revoked"
        await first.settled(0, 1, 2, 3)
        await first.member.close()
        await writer.close()

    run(test())


def test_the_next_owner_waits_until_the_old_one_has_let_go(kafka: KafkaCluster) -> None:
    async def test() -> None:
        topic = await new_topic(kafka, 1)
        log = log_on(kafka.bootstrap)
        order: list[str] = []
        gate, asked = asyncio.Event(), asyncio.Event()

        async def let_go(_: frozenset[int]) -> None:
            asked.set()
            await gate.wait()
            order.append("first lets go")

        async def take(_: frozenset[int]) -> None:
            order.append("taken")

        joined = asyncio.Event()

        async def begin(_: frozenset[int]) -> None:
            joined.set()

        first = await log.join(topic, [topic], None, begin, let_go)
        await joined.wait()
        second = await log.join(topic, [topic], None, take, ignored)
        await asked.wait()
        await asyncio.sleep(0.3)  # room for the mistake
        assert order == []
        leaving = asyncio.create_task(first.close())
        gate.set()
        await leaving
        while "taken" not in order:
            await second.fetch([Place(topic, 0)], 1, 0.1)
        assert order[0] == "first lets go"
        await second.close()

    run(test())


def test_a_static_member_that_restarts_gets_its_partitions_back_and_nobody_else_notices(kafka: KafkaCluster) -> None:
    async def test() -> None:
        topic = await new_topic(kafka, 4)
        log = log_on(kafka.bootstrap)
        first = await Watched.join(log, topic, [topic], "first")
        await first.settled()
        second = await Watched.join(log, topic, [topic], "second")
        await second.settled()
        await first.settled(*({0, 1, 2, 3} - second.owned))
        for name in ("second", "first"):  # one of them leads the group
            restarted, other = (second, first) if name == "second" else (first, second)
            before, kept, told = restarted.owned, other.owned, len(other.told)
            await restarted.member.close()
            again = await Watched.join(log, topic, [topic], name)
            await again.settled()
            assert again.owned == before
            await other.member.fetch([Place(topic, number) for number in kept], 1, 2.5)  # over a heartbeat
            assert other.owned == kept
            assert len(other.told) == told
            first, second = (first, again) if name == "second" else (again, second)
        await first.member.close()
        await second.member.close()

    run(test())


def test_a_static_member_whose_name_another_process_takes_ends(kafka: KafkaCluster) -> None:
    """It must not take it back: the two would take turns for ever."""

    async def test() -> None:
        topic = await new_topic(kafka, 2)
        log = log_on(kafka.bootstrap)
        first = await Watched.join(log, topic, [topic], "same")
        await first.settled()
        second = await Watched.join(log, topic, [topic], "same")
        await second.settled()
        with pytest.raises(LogProblem, match="another process"):
            await first.member.fetch([], 1, 30)
        assert second.told == [("assigned", frozenset({0, 1}))]
        await first.member.close()
        await second.member.close()
        assert len(second.told) == 2

    run(test())


@pytest.mark.kafka
def test_a_static_member_whose_session_expired_joins_anew(broker_possible: None) -> None:
    async def test(kafka: KafkaCluster) -> None:
        topic = await new_topic(kafka, 2)
        async with Proxy(kafka.node().ports["CLIENT"]) as proxy:
            member = await Watched.join(log_on(proxy.bootstrap, session_timeout_ms=2000), topic, [topic], "same")
            await member.settled()
            held = proxy.catch(Api.HEARTBEAT, times=1)
            await held.caught.acquire()
            await asyncio.sleep(3)  # the session
            await held.release()
            while member.told[1:] != [("revoked", frozenset({0, 1})), ("assigned", frozenset({0, 1}))]:
                await member.member.fetch([], 1, 0.1)
            await member.member.close()

    with KafkaCluster() as own:
        run(test(own))


@pytest.mark.parametrize("listener", ["assigned", "revoked"])
def test_what_a_listener_raises_comes_out_of_fetch(kafka: KafkaCluster, listener: str) -> None:
    async def test() -> None:
        topic = await new_topic(kafka, 2)
        log = log_on(kafka.bootstrap)

        async def broken(_: frozenset[int]) -> None:
            raise ArithmeticError("no state")

        joined = asyncio.Event()

        async def fine(_: frozenset[int]) -> None:
            joined.set()

        member = await log.join(
            topic, [topic], None, broken if listener == "assigned" else fine, broken if listener == "revoked" else fine
        )
        if listener == "revoked":
            await joined.wait()
            other = await Watched.join(log, topic, [topic])
            await other.settled()
        with pytest.raises(ArithmeticError, match="no state"):
            await member.fetch([Place(topic, 0)], 1, 30)
        if listener == "revoked":
            await other.member.close()
        try:
            await member.close()
        except ArithmeticError:
            assert listener == "revoked"

    run(test())


def test_only_places_that_run_and_know_where_to_begin_are_fetched(kafka: KafkaCluster) -> None:
    async def test() -> None:
        topic = await new_topic(kafka, 3)
        seeked, paused, unknown = (Place(topic, number) for number in range(3))
        log = log_on(kafka.bootstrap)
        writer = await log.open_writer(topic)
        for place in (seeked, paused, unknown):
            await commit(writer, place, b"in %d" % place.partition)
        joined = asyncio.Event()

        async def assigned(_: frozenset[int]) -> None:
            joined.set()

        member = await log.join(topic, [topic], None, assigned, ignored)
        await joined.wait()
        everything = [seeked, paused, unknown]
        member.seek(seeked, 0)
        member.seek(paused, 0)
        member.resume([seeked, unknown])
        assert list(await member.fetch(everything, 1 << 20, 30)) == [seeked]
        assert await member.fetch(everything, 1 << 20, 0.3) == {}
        member.resume([paused])
        assert list(await member.fetch(everything, 1 << 20, 30)) == [paused]
        member.seek(unknown, 40)
        with pytest.raises(OffsetGone, match=f"{unknown}: offset 40 is not in the log"):
            await member.fetch(everything, 1 << 20, 30)
        member.seek(unknown, 0)
        assert list(await member.fetch(everything, 1 << 20, 30)) == [unknown]
        assert (member.position(unknown), member.end(unknown)) == (2, 2)
        assert await member.committed(unknown) is None
        await member.close()
        await writer.close()

    run(test())


def test_a_seek_makes_void_what_is_under_way(kafka: KafkaCluster) -> None:
    """At the end of a place a request is always under way; its answer is about an offset we have left."""

    async def test() -> None:
        place = Place(await new_topic(kafka), 0)
        log = log_on(kafka.bootstrap)
        writer = await log.open_writer(place.topic)
        await commit(writer, place, b"first")
        await commit(writer, place, b"second")
        await writer.close()
        member = await Watched.join(log, place.topic, [place.topic])
        await member.settled()
        assert await member.gather([place], 2) == [b"first", b"second"]
        for _ in range(10):
            assert await member.member.fetch([place], 1, 0.02) == {}
            member.member.seek(place, 2)
            assert await member.gather([place], 1) == [b"second"]
        await member.member.close()

    run(test())


def test_a_place_that_nobody_empties_does_not_hold_up_another(kafka: KafkaCluster) -> None:
    """Its buffer is full and stays full while the other one's records pass."""

    async def test() -> None:
        topic = await new_topic(kafka, 2)
        full, busy = Place(topic, 0), Place(topic, 1)
        log = log_on(kafka.bootstrap, sizes=Sizes(place_bytes=4096, buffer_bytes=8192))
        writer = await log.open_writer(topic)
        for _ in range(10):
            await commit(writer, full, b"x" * 4000)
        member = await Watched.join(log, topic, [topic])
        await member.settled()
        for number in range(20):
            await commit(writer, busy, b"%d" % number)
            assert await member.gather([busy], 1) == [b"%d" % number]
        held = member.member._pump.held[full]
        assert 8192 <= held.buffered < 8192 + 2 * 4096
        assert await member.gather([full], 10) == [b"x" * 4000] * 10
        await member.member.close()
        await writer.close()

    run(test())


def test_a_fetch_takes_of_each_place_in_turn_up_to_its_limit(kafka: KafkaCluster) -> None:
    async def test() -> None:
        topic = await new_topic(kafka, 2)
        places = [Place(topic, 0), Place(topic, 1)]
        log = log_on(kafka.bootstrap)
        writer = await log.open_writer(topic)
        for number, place in itertools.product(range(5), places):
            await commit(writer, place, b"%d" % number * 1000)
        member = await Watched.join(log, topic, [topic])
        await member.settled()
        while sum(held.buffered for held in member.member._pump.held.values()) < 10_000:
            await asyncio.sleep(0.01)
        found = await member.member.fetch(places, 3000, 30)
        assert {place: len(blocks) for place, blocks in found.items()} == {places[0]: 2, places[1]: 1}
        assert (member.member.position(places[0]), member.member.position(places[1])) == (3, 1)
        assert [len(blocks) for blocks in (await member.member.fetch(places, 1, 30)).values()] == [1]
        await member.member.close()
        await writer.close()

    run(test())
