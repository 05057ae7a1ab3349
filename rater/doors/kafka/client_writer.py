"""A transactional writer on aiokafka: whole batches, a deadline on every call, and a mark when a request may be adrift."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import aiokafka.producer.sender
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.protocol.transaction import EndTxnRequest
from aiokafka.structs import OffsetAndMetadata

from rater.doors.failpoints import reached
from rater.doors.kafka.client_connection import (
    CLOSE_S,
    Connection,
    KnownTopics,
    close_client,
    problem_text,
    within,
    without_creating_topics,
)
from rater.doors.kafka.client_requests import quick
from rater.doors.kafka.client_steps import Steps
from rater.doors.kafka.compression import NONE
from rater.doors.kafka.log import Bodies, InThread, LogProblem, Place, Prepare, each_written, step_by_step
from rater.doors.kafka.record_batches import TRANSACTIONAL, batch_bytes

# The first write after a commit often finds the coordinator still busy with it. aiokafka asks again after 20 ms, which is
# most of a small transaction (24 ms, 5 ms with this). The name is the module's, so other transactional producers of this
# process ask again sooner, too.
aiokafka.producer.sender.BACKOFF_OVERRIDE = 0.002
RETRY_BACKOFF_MS = 20  # an older writer's open transaction is aborted while we wait: 26 ms instead of 106
# A request this late by comparison with its timeout may have been sent twice by something on the way.
SLOW_SHARE = 0.5

log = logging.getLogger(__name__)


class FramedBatch(BatchBuilder):  # type: ignore[misc]  # aiokafka has no types
    """A body whose records are framed already: only the header is added, when the sender has given it its numbers."""

    def __init__(self, body: bytes, count: int, timestamp_ms: int, codec: int = NONE) -> None:
        # `BatchBuilder.__init__` would make a builder of records
        self._body = body
        self._count = count
        self._attributes = TRANSACTIONAL | codec
        self._timestamp_ms = timestamp_ms
        self._producer = (-1, -1, -1)
        self._bytes: bytes | None = None

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytes:
        if self._bytes is None:
            self._bytes = batch_bytes(
                self._body, self._count, self._timestamp_ms, attributes=self._attributes, producer=self._producer
            )
        return self._bytes

    def append(self, **_: Any) -> None:
        return None  # full

    def record_count(self) -> int:
        return self._count

    def size(self) -> int:
        return len(self._body)

    def close(self) -> None:
        pass

    def closed(self) -> bool:
        return True


class KafkaWriter:
    """See `log.Writer`. Open one with `open_writer`."""

    def __init__(
        self,
        producer: AIOKafkaProducer,
        name: str,
        connection: Connection,
        topics: KnownTopics,
        clock_ms: Callable[[], int],
    ) -> None:
        self._producer = producer
        self._name = name
        self._connection = connection
        self._topics = topics
        self._clock_ms = clock_ms
        self._steps = Steps(name, connection.deadline_s, self._death)
        self._turns: defaultdict[Place, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._watch_requests()

    @property
    def tainted(self) -> bool:
        return self._steps.tainted

    def _watch_requests(self) -> None:
        """aiokafka repeats a request whose answer did not come and tells nobody; the first may still take effect."""
        send = self._producer.client.send
        slow_s = SLOW_SHARE * self._connection.request_timeout_s
        now = asyncio.get_running_loop().time

        async def watched(node: Any, request: Any, **options: Any) -> Any:
            began = now()
            if request.API_KEY == EndTxnRequest.API_KEY:  # called when it is on its way and its answer is waited for
                asyncio.get_running_loop().call_soon(reached, "during-commit")
            try:
                return await send(node, quick(request), **options)
            except BaseException as problem:
                log.warning("%s: %s: %s", self._name, type(request).__name__, problem_text(problem))
                self._steps.tainted = True
                raise
            finally:
                self._steps.tainted |= now() - began > slow_s

        self._producer.client.send = watched

    async def begin(self) -> None:
        self._steps.check_closed()
        async with self._steps.step("beginning a transaction"):
            await self._producer.begin_transaction()
            self._steps.open = True

    async def write(self, place: Place, body: bytes, count: int, codec: int = NONE) -> int:
        async with self._steps.write(place, count):
            batch = FramedBatch(body, count, self._clock_ms(), codec)
            async with self._turns[place]:  # whoever waits for the topic or for room could be overtaken
                await self._topics.require(self._producer.client, [place])
                written = await self._producer.send_batch(batch, place.topic, partition=place.partition)
            first = int((await written).offset)
            if first < 0:  # the answer to a repeated request, when the broker has forgotten where it put the first
                raise LogProblem(f"{self._name}: {place}: written twice, and the broker does not say where")
            return first

    async def write_all(self, bodies: Bodies) -> list[int]:
        return await each_written(self, bodies)

    async def transact(self, prepare: Prepare, group: str, in_thread: InThread) -> list[int]:
        return await step_by_step(self, prepare, group, in_thread)

    async def write_offsets(self, group: str, offsets: Mapping[Place, int]) -> None:
        self._steps.check_open()
        topics = ", ".join(sorted({place.topic for place in offsets}))
        async with self._steps.step(
            f"writing offsets of group {group}", f"READ on group {group} and on topics {topics}"
        ):
            await self._topics.require(self._producer.client, list(offsets))
            following = {TopicPartition(*place): OffsetAndMetadata(offset, "") for place, offset in offsets.items()}
            await self._producer.send_offsets_to_transaction(following, group)

    async def commit(self) -> None:
        self._steps.check_open()
        async with self._steps.step("committing"):
            self._steps.check_written()
            await self._producer.commit_transaction()
            self._steps.open = False

    async def abort(self) -> None:
        if not self._steps.open:
            raise LogProblem(f"{self._name}: no transaction is open")
        async with self._steps.last_step("aborting"):
            await self._producer.abort_transaction()
        self._steps.open = False

    def _death(self) -> BaseException | None:
        """What ended aiokafka's sender; its other parts then raise copies that have lost their cause."""
        sender = self._producer._sender.sender_task
        return sender.exception() if sender is not None and sender.done() and not sender.cancelled() else None

    async def close(self) -> None:
        healthy = self._steps.healthy
        self._steps.end()
        await close_producer(self._producer, grace_s=CLOSE_S if healthy else 0.0)


async def open_writer(
    transactional_id: str,
    connection: Connection,
    transaction_timeout_ms: int,
    topics: KnownTopics,
    clock_ms: Callable[[], int],
) -> KafkaWriter:
    """Starts a producer: by the time it has its epoch, older ones are fenced and what they left open is aborted."""
    producer = AIOKafkaProducer(
        **connection.arguments,
        transactional_id=transactional_id,
        transaction_timeout_ms=transaction_timeout_ms,
        request_timeout_ms=int(1000 * connection.request_timeout_s),
        retry_backoff_ms=RETRY_BACKOFF_MS,
    )
    without_creating_topics(producer.client)
    needs = f"WRITE and DESCRIBE on transactional id {transactional_id}"
    try:
        async with within(connection.deadline_s + CLOSE_S, f"opening the writer {transactional_id}", needs):
            await connection.start(producer.client, producer.start)
    except BaseException:
        await close_producer(producer, grace_s=0.0)
        raise
    if topics.counts:
        producer.client.set_topics(topics.counts)  # one question for all, while the first transaction is prepared
    return KafkaWriter(producer, transactional_id, connection, topics, clock_ms)


async def close_producer(producer: AIOKafkaProducer, grace_s: float) -> None:
    """Stop it if that goes quickly, else take it apart: its own `stop` waits for a dead broker without end."""
    if grace_s > 0:
        try:
            async with asyncio.timeout(grace_s):
                await producer.stop()
        except Exception as problem:
            log.debug("stopping a producer: %s", problem_text(problem))
    producer._closed = True
    sender = producer._sender.sender_task
    for _ in range(3):  # the first cancels its waiting, the next ones what it waits for before it ends
        if sender is None or sender.done():
            break
        sender.cancel()
        await asyncio.wait([sender], timeout=0.05)
    for future in (sender, producer._txn_manager.wait_for_transaction_end(), *unsent(producer)):
        if future is not None and future.done() and not future.cancelled():
            future.exception()  # said already; asyncio complains of what nobody asked for
    await close_client(producer.client)


def unsent(producer: AIOKafkaProducer) -> Iterator[Any]:
    """What tells of batches that were never sent."""
    for batches in producer._message_accumulator._batches.values():
        for batch in batches:
            yield from (batch.future, batch._drain_waiter)
