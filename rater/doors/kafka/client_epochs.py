"""A transactional writer whose epoch the broker raises with every transaction (KIP-890 part 2): Kafka 4.0 and newer.

aiokafka's producer speaks the older protocol, in which a request that comes late can end, or be part of, the next
transaction, and which takes five requests one after the other where this takes three: records (the broker adds their
partitions to the transaction itself), offsets, end. Here nothing is ever sent a second time unless the broker has
answered that it did nothing: a request without an answer ends the writer, and the logs say what happened.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiokafka
from aiokafka import errors
from aiokafka.client import AIOKafkaClient, CoordinationType

from rater.doors.failpoints import reached
from rater.doors.kafka.client_asking import NO_COORDINATOR, NO_LEADER, NOBODY, Asked, Asking, NothingDone, Records, Way
from rater.doors.kafka.client_connection import (
    Connection,
    KnownTopics,
    ask_any,
    close_client,
    leader_of,
    problem_text,
    within,
)
from rater.doors.kafka.client_line import Line
from rater.doors.kafka.client_protocol import TRANSACTION_FEATURE, FeaturesRequest, feature_level
from rater.doors.kafka.client_steps import Steps, offsets_of
from rater.doors.kafka.compression import NONE
from rater.doors.kafka.log import Bodies, InThread, LogProblem, Place, Prepare

BUMPING = 2  # the level of `transaction.version` with which epochs go up
RETRY_S, RETRY_MAX_S = 0.002, 0.1
HANG_UP_S = 1.0  # how long is waited for a thread that was told to stop waiting
LOOK_AGAIN = (
    errors.CoordinatorNotAvailableError, errors.GroupLoadInProgressError, errors.KafkaConnectionError,
    errors.NodeNotReadyError, errors.RequestTimedOutError,
)  # fmt: skip


def counts_of(bodies: Bodies) -> list[int]:
    return [count for _, (_, count, _) in bodies]


class EpochWriter:
    """See `log.Writer`. Open one with `open_writer`.

    Its thread asks the brokers, over connections of its own, and the client only looks up which: `client_line` says why.
    """

    def __init__(
        self,
        client: AIOKafkaClient,
        name: str,
        connection: Connection,
        topics: KnownTopics,
        clock_ms: Callable[[], int],
    ) -> None:
        self._client, self._name, self._connection = client, name, connection
        self._topics, self._steps = topics, Steps(name, connection.deadline_s)
        self._asking = Asking(name, self._steps, topics, connection.request_timeout_s, clock_ms)
        self._turn = asyncio.Lock()
        self._coordinators: dict[tuple[Any, str], int] = {}
        self._thread = ThreadPoolExecutor(1, "rater-writer")
        self._lines: dict[tuple[str, int], Line] = {}
        self._asked = NOBODY
        self._now = asyncio.get_running_loop().time

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

    async def write_all(self, bodies: Bodies) -> list[int]:
        async with self._steps.write_all(counts_of(bodies)), self._turn:
            return await self._written(bodies)

    async def _written(self, bodies: Bodies) -> list[int]:
        records = Records(bodies)
        await self._topics.require(self._client, records.places)
        self._asking.wrote = True

        async def ask() -> None:
            leaders = await self._leaders(records.places)
            await self._in_thread(lambda: self._asking.write(records, leaders))

        await self._until_done(ask)
        return records.firsts

    async def write_offsets(self, group: str, offsets: Mapping[Place, int]) -> None:
        self._steps.check_open()
        async with self._steps.step(*offsets_of(group, offsets)):
            await self._topics.require(self._client, offsets)
            self._asking.wrote = True

            async def ask() -> None:
                coordinator = await self._coordinator(CoordinationType.GROUP, group)
                await self._in_thread(lambda: self._asking.write_offsets(coordinator, group, offsets))

            await self._until_done(ask)

    async def commit(self) -> None:
        self._steps.check_open()
        async with self._steps.step("committing"):
            self._steps.check_written()
            await self._ended(committed=True)
            self._steps.open = False

    async def transact(self, prepare: Prepare, group: str, in_thread: InThread) -> list[int]:  # noqa: ARG002
        """The thread that prepares asks, too, until a broker puts something off, or is not known: being handed a transaction costs
        a thread as much as asking for it."""
        way, loop = Way(group), asyncio.get_running_loop()
        self._steps.check_closed()

        async def ask() -> None:
            if way.since is not None:
                async with asyncio.timeout(self._left_s(way)):
                    self._asked = await self._who_is_asked(way)
            asking = loop.run_in_executor(self._thread, self._go_on, prepare, way, self._asked)
            await self._waited(asking, lambda: self._left_s(way))

        doing, needs = "a transaction", "WRITE on the topics of its outputs"
        async with self._steps.step(doing, needs, writes=1, timed=False), self._turn:
            self._steps.open = True
            await self._until_done(ask)
            self._steps.open = way.problem is not None
        if way.problem is not None:
            raise way.problem
        return way.records.firsts

    def _go_on(self, prepare: Prepare, way: Way, asked: Asked) -> None:
        if way.since is None:
            try:
                bodies, way.offsets = prepare()
                self._steps.check_counts(counts_of(bodies))
            except Exception as problem:
                way.problem = problem
                return
            way.records, way.since = Records(bodies), self._now()
            reached("after-begin")
        self._asking.go_on(way, asked)

    def _left_s(self, way: Way) -> float:
        """Of the patience with a transaction, which begins when it is prepared. Raises `TimeoutError` when it is at its end."""
        left = self._steps.deadline_s - (0.0 if way.since is None else self._now() - way.since)
        if left <= 0:
            raise TimeoutError
        return left

    async def _who_is_asked(self, way: Way) -> Asked:
        await self._topics.require(self._client, [*way.records.places, *way.offsets])
        leaders = await self._leaders(way.records.places)
        of_group = await self._coordinator(CoordinationType.GROUP, way.group)
        return Asked(leaders, {way.group: of_group}, await self._coordinator(CoordinationType.TRANSACTION, self._name))

    async def abort(self) -> None:
        if not self._steps.open:
            raise LogProblem(f"{self._name}: no transaction is open")
        async with self._steps.last_step("aborting"):
            await self._ended(committed=False)
        self._steps.open = False

    async def _ended(self, committed: bool) -> None:
        if not self._asking.wrote:
            return  # the broker knows of no transaction

        async def ask() -> None:
            coordinator = await self._coordinator(CoordinationType.TRANSACTION, self._name)
            await self._in_thread(lambda: self._asking.end(coordinator, committed))

        await self._until_done(ask)

    async def take_the_id(self, transaction_timeout_ms: int) -> None:
        """A new epoch: older writers are fenced, and what they left open is aborted when this returns."""

        async def ask() -> None:
            coordinator = await self._coordinator(CoordinationType.TRANSACTION, self._name)
            await self._in_thread(lambda: self._asking.take_the_id(coordinator, transaction_timeout_ms))

        await self._until_done(ask)
        self._steps.tainted = False

    async def close(self) -> None:
        self._steps.end()
        self._hang_up()
        self._thread.shutdown(wait=False)
        await close_client(self._client)

    # ------------------------------------------------------------------------------------------------ the thread

    async def _in_thread(self, work: Callable[[], None]) -> None:
        await self._waited(asyncio.get_running_loop().run_in_executor(self._thread, work))

    async def _waited(self, working: asyncio.Future[None], left_s: Callable[[], float | None] = lambda: None) -> None:
        """For the thread's work. No request of it is under way any more when this returns or raises."""
        try:
            while not working.done():
                await asyncio.wait([working], timeout=left_s())
        except (asyncio.CancelledError, TimeoutError):
            self._hang_up()
            working.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            await asyncio.wait([working], timeout=HANG_UP_S)
            raise
        working.result()

    def _hang_up(self) -> None:
        """Whoever waits for an answer is told so; nothing is sent on these connections after this."""
        lines, self._lines, self._asked = [*self._lines.values()], {}, NOBODY
        for line in lines:
            line.interrupt()
        for line in lines:  # by the thread that may be using it
            self._thread.submit(line.close)

    async def _until_done(self, ask: Callable[[], Awaitable[None]]) -> None:
        wait = RETRY_S
        while True:
            try:
                return await ask()
            except NothingDone as answer:
                if answer.code in NO_COORDINATOR or answer.code in NO_LEADER:
                    self._coordinators.clear()
                if answer.code in NO_LEADER:
                    self._client.force_metadata_update()
            await asyncio.sleep(wait)
            wait = min(2 * wait, RETRY_MAX_S)

    async def _leaders(self, places: Iterable[Place]) -> dict[Place, Line]:
        return {place: self._line(await leader_of(self._client, place)) for place in places}

    async def _coordinator(self, kind: Any, key: str) -> Line:
        """Asking for it changes nothing: whatever goes wrong, ask again."""
        if (kind, key) not in self._coordinators:
            try:
                self._coordinators[kind, key] = await self._client.coordinator_lookup(kind, key)
            except LOOK_AGAIN as problem:
                raise NothingDone(errors.CoordinatorNotAvailableError.errno, problem_text(problem)) from None
        return self._line(self._coordinators[kind, key])

    def _line(self, node: int) -> Line:
        broker = self._client.cluster.broker_metadata(node)
        if broker is None:
            raise NothingDone(errors.LeaderNotAvailableError.errno, f"broker {node} is not known")
        where = broker.host, broker.port
        if where not in self._lines:
            timeout_ms = int(1000 * self._connection.request_timeout_s)
            arguments = {"client_id": self._client._client_id} | self._connection.of_one()
            self._lines[where] = Line(*where, request_timeout_ms=timeout_ms, **arguments)
        return self._lines[where]


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
