"""A transactional writer whose epoch the broker raises with every transaction (KIP-890 part 2): Kafka 4.0 and newer.

aiokafka's producer speaks the older protocol, in which a request that comes late can end, or be part of, the next
transaction, and which takes five requests one after the other where this takes three: records (the broker adds their
partitions to the transaction itself), offsets, end. Here nothing is ever sent a second time unless the broker has
answered that it did nothing: a request without an answer ends the writer, and the logs say what happened.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from typing import Any, TypeVar

import aiokafka
from aiokafka import errors
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.protocol.transaction import InitProducerIdRequest

from rater.doors.failpoints import reached
from rater.doors.kafka.client_connection import (
    Connection,
    KnownTopics,
    ask_any,
    close_client,
    leader_of,
    problem_text,
    translated,
    within,
)
from rater.doors.kafka.client_protocol import (
    TRANSACTION_FEATURE,
    End,
    FeaturesRequest,
    Produce,
    TransactionOffsets,
    feature_level,
)
from rater.doors.kafka.client_steps import Steps
from rater.doors.kafka.compression import NONE
from rater.doors.kafka.log import LogProblem, LogTimeout, Place, Stored
from rater.doors.kafka.record_batches import TRANSACTIONAL, batch_bytes

BUMPING = 2  # the level of `transaction.version` with which epochs go up
RETRY_S, RETRY_MAX_S = 0.002, 0.1
FENCED_EPOCH, ABORT_WANTED = 90, 120  # numbers that have no class in aiokafka

NO_LEADER = frozenset({
    errors.UnknownTopicOrPartitionError.errno, errors.LeaderNotAvailableError.errno,
    errors.NotLeaderForPartitionError.errno, errors.NotEnoughReplicasError.errno,
})  # fmt: skip
NO_COORDINATOR = frozenset({
    errors.GroupLoadInProgressError.errno, errors.GroupCoordinatorNotAvailableError.errno,
    errors.NotCoordinatorForGroupError.errno,
})  # fmt: skip
# Answers that say that nothing was done: ask again, maybe somebody else.
NOTHING_DONE = NO_LEADER | NO_COORDINATOR | {errors.ConcurrentTransactions.errno}

LOOK_AGAIN = (
    errors.CoordinatorNotAvailableError, errors.GroupLoadInProgressError, errors.KafkaConnectionError,
    errors.NodeNotReadyError, errors.RequestTimedOutError,
)  # fmt: skip

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")


class NothingDone(Exception):
    """The broker answered that it did nothing, and may do it when asked again."""

    def __init__(self, code: int, why: str = "") -> None:
        self.code = code
        super().__init__(why or errors.for_code(code).__name__)


def check(code: int) -> None:
    """Raises what an error code of an answer means."""
    if code == 0:
        return
    if code in NOTHING_DONE:
        raise NothingDone(code)
    raise problem_of(code)


def problem_of(code: int) -> Exception:
    problem: Exception = errors.for_code(code)()
    if code == FENCED_EPOCH:
        problem = errors.ProducerFenced("error 90, producer fenced")
    elif code == ABORT_WANTED:
        problem = LogProblem("the broker cannot go on with this transaction (error 120): it must be aborted")
    return problem


@dataclass(slots=True)
class Queued:
    """A batch that is to be written; `first` is the offset of its first record, when the broker has it."""

    place: Place
    batch: bytes
    count: int
    first: int = -1


class EpochWriter:
    """See `log.Writer`. Open one with `open_writer`."""

    def __init__(
        self,
        client: AIOKafkaClient,
        name: str,
        connection: Connection,
        topics: KnownTopics,
        clock_ms: Callable[[], int],
    ) -> None:
        self._client, self._name, self._connection = client, name, connection
        self._topics, self._clock_ms = topics, clock_ms
        self._steps = Steps(name, connection.deadline_s)
        self._producer = (-1, -1)  # id and epoch
        self._sequences: dict[Place, int] = {}  # of this epoch; one epoch is one transaction
        self._wrote = False  # the broker may have opened the transaction
        self._turn = asyncio.Lock()
        self._coordinators: dict[tuple[Any, str], int] = {}

    @property
    def tainted(self) -> bool:
        return self._steps.tainted

    async def begin(self) -> None:
        self._steps.check_closed()
        async with self._steps.step("beginning a transaction"):
            self._steps.open = True

    async def write(self, place: Place, body: bytes, count: int, codec: int = NONE) -> int:
        async with self._steps.write(place, count), self._turn:
            return (await self._written([(place, (body, count, codec))]))[0]

    async def write_all(self, bodies: Sequence[tuple[Place, Stored]]) -> list[int]:
        async with self._steps.write_all([count for _, (_, count, _) in bodies]), self._turn:
            return await self._written(bodies)

    async def write_offsets(self, group: str, offsets: Mapping[Place, int]) -> None:
        self._steps.check_open()
        topics = ", ".join(sorted({place.topic for place in offsets}))
        needs = f"READ on group {group} and on topics {topics}"
        async with self._steps.step(f"writing offsets of group {group}", needs):
            await self._topics.require(self._client, list(offsets))
            self._wrote = True

            async def ask() -> None:
                request = TransactionOffsets(self._name, group, self._producer, offsets)
                answer = await self._ask(await self._coordinator(CoordinationType.GROUP, group), request)
                for _, partitions, _ in answer.topics:
                    for _, code, _ in partitions:
                        check(code)

            await self._until_done(ask)

    async def commit(self) -> None:
        self._steps.check_open()
        async with self._steps.step("committing"):
            self._steps.check_written()
            await self._end(committed=True)
            self._steps.open = False

    async def abort(self) -> None:
        if not self._steps.open:
            raise LogProblem(f"{self._name}: no transaction is open")
        async with self._steps.last_step("aborting"):
            await self._end(committed=False)
        self._steps.open = False

    async def close(self) -> None:
        self._steps.end()
        await close_client(self._client)

    # ------------------------------------------------------------------------------------------------ records

    async def _written(self, bodies: Sequence[tuple[Place, Stored]]) -> list[int]:
        """In order, and of one place the next when the one before is there: what the broker puts off must not be overtaken."""
        await self._topics.require(self._client, [place for place, _ in bodies])
        firsts: list[int] = []
        while len(firsts) < len(bodies):
            batches: dict[Place, Queued] = {}
            for place, stored in bodies[len(firsts) :]:
                if place in batches:
                    break
                batches[place] = self._queued(place, *stored)
            await self._send_all(batches)
            for queued in batches.values():
                firsts.append(queued.first)
                reached("mid-produce")
        return firsts

    def _queued(self, place: Place, body: bytes, count: int, codec: int) -> Queued:
        sequence = self._sequences.get(place, 0)
        self._sequences[place] = sequence + count
        batch = batch_bytes(
            body, count, self._clock_ms(), attributes=TRANSACTIONAL | codec, producer=(*self._producer, sequence)
        )
        return Queued(place, batch, count)

    async def _send_all(self, batches: dict[Place, Queued]) -> None:
        """One request for each broker. No request is under way any more when this returns or raises."""
        of_node: defaultdict[int, dict[Place, Queued]] = defaultdict(dict)
        for place, queued in batches.items():
            of_node[await leader_of(self._client, place)][place] = queued
        self._wrote = True
        if len(of_node) == 1:
            await self._send(*of_node.popitem())
            return
        for ended in await asyncio.gather(*starmap(self._send, of_node.items()), return_exceptions=True):
            if ended is not None:
                raise ended

    async def _send(self, node: int, batches: dict[Place, Queued]) -> None:
        wait = RETRY_S
        while batches := await self._send_once(node, batches):
            await asyncio.sleep(wait)
            wait = min(2 * wait, RETRY_MAX_S)
            node = await self._common_leader(batches)

    async def _send_once(self, node: int, batches: dict[Place, Queued]) -> dict[Place, Queued]:
        """The batches that must be sent again."""
        timeout_ms = int(1000 * self._connection.request_timeout_s)
        request = Produce(self._name, timeout_ms, {place: queued.batch for place, queued in batches.items()})
        try:
            answer = await self._ask(node, request, ConnectionGroup.DEFAULT)
        except NothingDone:
            self._client.force_metadata_update()
            return batches
        again: dict[Place, Queued] = {}
        for topic, partitions, _ in answer.topics:
            for number, code, first, *_ in partitions:
                queued = batches[Place(topic, number)]
                if code in NOTHING_DONE:
                    again[queued.place] = queued
                    if code in NO_LEADER:
                        self._client.force_metadata_update()
                elif code:
                    doing = f"{self._name}: writing {queued.count} records to {queued.place}"
                    raise translated(problem_of(code), doing, f"WRITE on topic {topic}")
                else:
                    queued.first = first
        return again

    async def _common_leader(self, batches: dict[Place, Queued]) -> int:
        """The broker to ask again. Raises where they were spread over several meanwhile: taking over anew is simpler, and rare."""
        nodes = {await leader_of(self._client, place) for place in batches}
        if len(nodes) == 1:
            return nodes.pop()
        raise LogProblem(f"{self._name}: the leaders of {', '.join(map(str, batches))} moved apart")

    # ------------------------------------------------------------------------------------------------ requests

    async def _ask(self, node: int, request: Any, group: Any = ConnectionGroup.COORDINATION) -> Any:
        """The one place that sends. What gets no answer may still take effect: this writer does nothing more then."""
        if not await self._client.ready(node, group=group):
            raise NothingDone(errors.LeaderNotAvailableError.errno, f"broker {node} is not reached")
        try:
            return await self._client.send(node, request, group=group)
        except BaseException as problem:
            asked = type(request).__name__
            log.warning("%s: %s: %s", self._name, asked, problem_text(problem))
            self._steps.tainted = True
            if isinstance(problem, errors.RequestTimedOutError):
                raise LogTimeout(
                    f"{self._name}: {asked}: no answer within {self._connection.request_timeout_s:g} s; whether it took effect "
                    "is not known. Check that the brokers run; the log itself says what was done"
                ) from problem
            raise

    async def _end(self, committed: bool) -> None:
        if not self._wrote:
            return  # the broker knows of no transaction

        async def ask() -> tuple[int, int]:
            node = await self._coordinator(CoordinationType.TRANSACTION, self._name)
            # called when it is on its way and its answer is waited for
            asyncio.get_running_loop().call_soon(reached, "during-commit")
            answer = await self._ask(node, End(self._name, self._producer, committed))
            check(answer.error_code)
            return answer.producer_id, answer.epoch

        self._producer = await self._until_done(ask)
        self._sequences.clear()
        self._wrote = False

    async def take_the_id(self, transaction_timeout_ms: int) -> None:
        """A new epoch: older writers are fenced, and what they left open is aborted when this returns."""

        async def ask() -> tuple[int, int]:
            node = await self._coordinator(CoordinationType.TRANSACTION, self._name)
            try:
                answer = await self._ask(node, InitProducerIdRequest(self._name, transaction_timeout_ms))
            except (LogTimeout, errors.KafkaConnectionError) as problem:  # twice is two new epochs, which is as well
                raise NothingDone(errors.CoordinatorNotAvailableError.errno, problem_text(problem)) from problem
            check(answer.error_code)
            return answer.producer_id, answer.producer_epoch

        self._producer = await self._until_done(ask)
        self._steps.tainted = False

    async def _until_done(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        wait = RETRY_S
        while True:
            try:
                return await ask()
            except NothingDone as answer:
                if answer.code in NO_COORDINATOR or answer.code in NO_LEADER:
                    self._coordinators.clear()
            await asyncio.sleep(wait)
            wait = min(2 * wait, RETRY_MAX_S)

    async def _coordinator(self, kind: Any, key: str) -> int:
        """Asking for it changes nothing: whatever goes wrong, ask again."""
        if (kind, key) not in self._coordinators:
            try:
                self._coordinators[kind, key] = await self._client.coordinator_lookup(kind, key)
            except LOOK_AGAIN as problem:
                raise NothingDone(errors.CoordinatorNotAvailableError.errno, problem_text(problem)) from None
        return self._coordinators[kind, key]


async def bumps_epochs(client: AIOKafkaClient) -> bool:
    """Whether the cluster has switched on what this writer needs."""
    try:
        answer = await ask_any(client, FeaturesRequest("rater-aiokafka", aiokafka.__version__))
    except NotImplementedError:  # a broker older than Kafka 2.4
        return False
    if answer.error_code:
        raise errors.for_code(answer.error_code)()
    return feature_level(answer.tags, TRANSACTION_FEATURE) >= BUMPING


async def open_writer(
    client: AIOKafkaClient,
    transactional_id: str,
    connection: Connection,
    transaction_timeout_ms: int,
    topics: KnownTopics,
    clock_ms: Callable[[], int],
) -> EpochWriter:
    """Takes the client over, and closes it when the writer cannot be opened."""
    writer = EpochWriter(client, transactional_id, connection, topics, clock_ms)
    needs = f"WRITE and DESCRIBE on transactional id {transactional_id}"
    try:
        async with within(connection.deadline_s, f"opening the writer {transactional_id}", needs):
            if topics.counts:
                client.set_topics(topics.counts)  # one question for all, while the first transaction is prepared
            await writer.take_the_id(transaction_timeout_ms)
    except BaseException:
        await writer.close()
        raise
    return writer
