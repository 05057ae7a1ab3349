"""Connections to a cluster through aiokafka: every wait ends, no topic is ever created, every failure says what to do.

aiokafka has no public name for much of what is needed here and in `client_*`, so these files hold for one minor version
of it. What is private and used: `AIOKafkaClient`, `GroupCoordinator`, `SubscriptionState`, the request classes,
`Sender.sender_task`, `BatchBuilder` with its three hooks, and a connection's stream writer, reader, frames, versions and handshake.
"""

import asyncio
import functools
import logging
import ssl
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiokafka
import aiokafka.client
from aiokafka import errors
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.conn import create_conn
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.metadata import MetadataRequest

from rater.doors.kafka import client_frames
from rater.doors.kafka.log import Fenced, LogProblem, LogTimeout, Place, Refused

AIOKAFKA = "0.14."
if not aiokafka.__version__.startswith(AIOKAFKA):
    raise ImportError(
        f"aiokafka {aiokafka.__version__} is installed, expected {AIOKAFKA}x: the Kafka door uses names of it that are not "
        "public; install what requirements.lock names"
    )

BACKOFF_S = 0.1
START_BACKOFF_S = 0.5  # aiokafka logs an error at each try
CLOSE_S = 2.0  # a goodbye is a courtesy
NEW_TOPIC_S = 2.0  # every broker knows a topic that was created this long ago
PROBE_S = 5.0

FENCED = (errors.ProducerFenced, errors.InvalidProducerEpoch, errors.InvalidTxnState)
# After `transactional.id.expiration.ms` (a week) without a transaction a broker forgets an id: nobody else has it.
FORGOTTEN = (errors.InvalidProducerIdMapping, errors.UnknownProducerId)
REFUSED = (
    errors.TopicAuthorizationFailedError, errors.GroupAuthorizationFailedError, errors.ClusterAuthorizationFailedError,
    errors.TransactionalIdAuthorizationFailed, errors.SaslAuthenticationFailed, errors.AuthenticationFailedError,
    errors.AuthenticationMethodNotSupported, errors.UnsupportedSaslMechanismError, errors.IllegalSaslStateError,
    errors.SecurityDisabled, errors.UnknownTopicOrPartitionError, errors.InvalidTopicError, ssl.SSLError,
)  # fmt: skip

# What aiokafka's connections take of what its clients take.
OF_ONE_CONNECTION = frozenset({
    "client_id", "ssl_context", "security_protocol", "sasl_mechanism", "sasl_plain_username", "sasl_plain_password",
    "sasl_kerberos_service_name", "sasl_kerberos_domain_name", "sasl_oauth_token_provider",
})  # fmt: skip

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach a cluster: what aiokafka's clients take (`bootstrap_servers`, `security_protocol`, ...), and patience.

    `request_timeout_s` is for one request, `deadline_s` for one call of the log, which may try several times.
    """

    arguments: Mapping[str, Any]
    request_timeout_s: float
    deadline_s: float

    @property
    def servers(self) -> str:
        servers = self.arguments.get("bootstrap_servers", "localhost")
        return servers if isinstance(servers, str) else ",".join(servers)

    def client(self, request_timeout_s: float | None = None) -> AIOKafkaClient:
        timeout_ms = int(1000 * (request_timeout_s or self.request_timeout_s))
        return quick_reading(without_creating_topics(AIOKafkaClient(**self.arguments, request_timeout_ms=timeout_ms)))

    def of_one(self) -> dict[str, Any]:
        """What of the arguments is for a single connection."""
        return {name: value for name, value in self.arguments.items() if name in OF_ONE_CONNECTION}

    async def open(self, request_timeout_s: float | None = None) -> AIOKafkaClient:
        """A client that has heard from a broker."""
        client = self.client(request_timeout_s)
        try:
            await self.start(client, client.bootstrap)
        except BaseException:
            await close_client(client)
            raise
        return client

    async def start(self, client: AIOKafkaClient, start: Callable[[], Awaitable[Any]]) -> None:
        """Call `start` until a broker answers. Raises `Refused` where one answers but lets nobody in, else `LogTimeout`."""
        reasons = "no answer"
        try:
            async with asyncio.timeout(self.deadline_s):
                while True:
                    try:
                        await start()
                        return
                    except errors.KafkaConnectionError as problem:
                        log.info("no broker yet: %s", problem)
                    reasons = await self._why_no_broker(client)
                    await asyncio.sleep(START_BACKOFF_S)
        except TimeoutError:
            raise LogTimeout(
                f"connecting to {self.servers}: not done within {self.deadline_s:g} s ({reasons}); check that the brokers "
                "run and that bootstrap servers, security protocol and firewall agree with them"
            ) from None

    async def _why_no_broker(self, client: AIOKafkaClient) -> str:
        """What each bootstrap server says; aiokafka only logs it. Raises `Refused` when it is about who we are."""
        arguments = self.of_one()
        said: list[str] = []
        for host, port, _ in client.hosts:
            try:
                async with asyncio.timeout(PROBE_S):
                    probe = await create_conn(host, port, request_timeout_ms=int(1000 * PROBE_S), **arguments)
                    await probe.close()
            except REFUSED as problem:
                raise Refused(
                    f"{host}:{port} refuses the connection: {problem_text(problem)}; check security protocol, certificates, "
                    "SASL mechanism, user name and password"
                ) from problem
            except (OSError, errors.KafkaError) as problem:
                said.append(f"{host}:{port}: {problem_text(problem)}")
        return "; ".join(said) or "the brokers answer now"


def without_creating_topics(client: AIOKafkaClient) -> AIOKafkaClient:
    """Asking for a topic's partitions creates it, where brokers are so configured; this client asks them not to.

    aiokafka has no setting for it.
    """
    asking = functools.partial(MetadataRequest, allow_auto_topic_creation=False)
    return with_name(client, "_metadata_update", "MetadataRequest", asking)


def quick_reading(client: AIOKafkaClient) -> AIOKafkaClient:
    """Answers are read through `client_frames`."""
    return with_name(client, "_get_conn", "create_conn", client_frames.create_conn)


def with_name(client: AIOKafkaClient, method: str, name: str, stands_for: Any) -> AIOKafkaClient:
    """This one client gets the same method, in whose module the name stands for something else."""
    as_it_is = getattr(AIOKafkaClient, method)
    same = types.FunctionType(
        as_it_is.__code__, {**vars(aiokafka.client), name: stands_for}, argdefs=as_it_is.__defaults__
    )
    same.__kwdefaults__ = as_it_is.__kwdefaults__
    setattr(client, method, types.MethodType(same, client))
    return client


async def close_client(client: AIOKafkaClient) -> None:
    """Let go of all sockets, at the latest after `CLOSE_S`. Raises nothing."""
    writers = [connection._writer for connection in client._conns.values() if connection._writer is not None]
    try:
        async with asyncio.timeout(CLOSE_S):
            await client.close()
    except Exception as problem:  # whatever aiokafka makes of a dead socket
        log.debug("closing: %s", problem_text(problem))
    for writer in writers:
        writer.transport.abort()
    # whoever still waits for news of the cluster would wait for ever
    if client._md_update_fut is not None and not client._md_update_fut.done():
        client._md_update_fut.set_result(False)


@asynccontextmanager
async def within(deadline_s: float, doing: str, needs: str) -> AsyncIterator[None]:
    """A deadline around aiokafka's calls, and `LogProblem`s for whatever they raise.

    `doing` begins the message; `needs` is what the principal must be allowed, for when it is not.
    """
    try:
        async with asyncio.timeout(deadline_s):
            yield
    except Exception as problem:  # aiokafka raises its own, AssertionError and KeyError
        told = told_within(problem, deadline_s, doing, needs)
        if told is problem:
            raise
        raise told from problem


def told_within(problem: Exception, deadline_s: float, doing: str, needs: str) -> LogProblem:
    """What went wrong while `doing`, a deadline around it included, as a `LogProblem`."""
    if isinstance(problem, LogProblem):
        return problem
    if isinstance(problem, TimeoutError):
        return LogTimeout(
            f"{doing}: no answer within {deadline_s:g} s; whether it took effect is not known. Check that the brokers run; "
            "the log itself says what was done"
        )
    return translated(problem, doing, needs)


def translated(problem: BaseException, doing: str, needs: str) -> LogProblem:
    """aiokafka wraps what the broker said once or twice: the innermost known cause decides."""
    for cause in causes(problem):
        if isinstance(cause, LogProblem):
            return cause
        if isinstance(cause, errors.UnknownTopicOrPartitionError | errors.InvalidTopicError):
            return Refused(f"{doing}: a topic or partition is not there; create the topics first")
        if isinstance(cause, FENCED):
            return Fenced(
                f"{doing}: a newer writer holds this transactional id, or the transaction ran into its timeout "
                f"({problem_text(cause)}); nothing of this transaction counts"
            )
        if isinstance(cause, FORGOTTEN):
            return LogProblem(
                f"{doing}: the broker has forgotten this transactional id ({problem_text(cause)}); open a new writer"
            )
        if isinstance(cause, REFUSED):
            return Refused(
                f"{doing}: the broker refuses ({problem_text(cause)}); the user of this process needs {needs}"
            )
        if isinstance(cause, errors.MessageSizeTooLargeError):
            return LogProblem(
                f"{doing}: a batch is larger than the broker takes; raise max.message.bytes of the topic or write smaller batches"
            )
    return LogProblem(f"{doing}: {problem_text(problem)}")


def causes(problem: BaseException | None) -> Iterator[BaseException]:
    while problem is not None:
        yield problem
        problem = problem.__cause__


def problem_text(problem: BaseException) -> str:
    return f"{type(problem).__name__}: {problem}" if str(problem) else type(problem).__name__


async def partition_counts(client: AIOKafkaClient, topics: Collection[str]) -> dict[str, int]:
    """How many partitions each topic has, as some broker knows now; topics that are not there are left out."""
    if not topics:
        return {}
    response = await ask_any(client, MetadataRequest(sorted(topics), allow_auto_topic_creation=False))
    counts: dict[str, int] = {}
    for error_code, topic, _, partitions in response.topics:
        error = errors.for_code(error_code)
        if error is errors.NoError:
            counts[topic] = len(partitions)
        elif error is errors.TopicAuthorizationFailedError:
            raise Refused(
                f"topic {topic}: the broker refuses to describe it; the user of this process needs DESCRIBE on it"
            )
        elif error not in (errors.UnknownTopicOrPartitionError, errors.LeaderNotAvailableError):
            raise LogProblem(f"topic {topic}: asked for its partitions, the broker answers {error.__name__}")
    return counts


async def settled_counts(client: AIOKafkaClient, topics: Collection[str]) -> dict[str, int]:
    """As `partition_counts`, after a moment for topics that were made just now."""
    give_up = asyncio.get_running_loop().time() + NEW_TOPIC_S
    counts = await partition_counts(client, topics)
    while len(counts) < len(set(topics)) and asyncio.get_running_loop().time() < give_up:
        await asyncio.sleep(BACKOFF_S)
        counts = await partition_counts(client, topics)
    return counts


async def group_offsets(client: AIOKafkaClient, group: str, places: Collection[Place]) -> dict[Place, int]:
    """A group's offsets as its coordinator knows them, asked from outside; places without one are left out."""
    by_topic: dict[str, list[int]] = {}
    for place in places:
        by_topic.setdefault(place.topic, []).append(place.partition)
    while True:
        try:
            node = await client.coordinator_lookup(CoordinationType.GROUP, group)
            response = await client.send(node, OffsetFetchRequest(group, list(by_topic.items())))
            break
        except (errors.CoordinatorNotAvailableError, errors.KafkaConnectionError, errors.NodeNotReadyError) as problem:
            log.info("asking for the offsets of group %s: %s", group, problem_text(problem))
            await asyncio.sleep(BACKOFF_S)
    found: dict[Place, int] = {}
    for topic, partitions in response.topics:
        for number, offset, _, error_code in partitions:
            if error_code or response.error_code:
                raise errors.for_code(error_code or response.error_code)()
            if offset >= 0:
                found[Place(topic, number)] = offset
    return found


async def ask_any(client: AIOKafkaClient, request: Any) -> Any:
    """The answer of whichever broker answers; a cluster that comes back may know of none for a moment."""
    while True:
        try:
            return await client.send(client.get_random_node(), request)
        except (errors.KafkaConnectionError, errors.NodeNotReadyError, errors.RequestTimedOutError) as problem:
            log.warning("asking any broker: %s", problem_text(problem))
            client.force_metadata_update()
            await asyncio.sleep(BACKOFF_S)


@dataclass(slots=True)
class KnownTopics:
    """Partition counts as heard. Asked for before a place is used: aiokafka would retry an unknown one for ever."""

    counts: dict[str, int] = field(default_factory=dict)

    def missing(self, places: Iterable[Place]) -> list[Place]:
        return [place for place in places if not 0 <= place.partition < self.counts.get(place.topic, 0)]

    async def require(self, client: AIOKafkaClient, places: Collection[Place]) -> None:
        """Raises `Refused` when one of the places is not there, also not after a moment."""
        give_up = asyncio.get_running_loop().time() + NEW_TOPIC_S  # partitions that were added just now, too
        while missing := self.missing(places):
            self.counts.update(await partition_counts(client, {place.topic for place in missing}))
            missing = self.missing(places)
            if missing and asyncio.get_running_loop().time() > give_up:
                place = missing[0]
                found = self.counts.get(place.topic, 0)
                raise Refused(
                    f"{place} is not there: topic {place.topic} has {found} partitions; create it, or give it more"
                )
            if missing:
                await asyncio.sleep(BACKOFF_S)


async def leader_of(client: AIOKafkaClient, place: Place) -> int:
    """The node to ask about a place; waits for one to be elected."""
    while True:
        node = client.cluster.leader_for_partition(place)
        if node is not None and node != -1:
            return int(node)
        await client.add_topic(place.topic)
        await client.force_metadata_update()
        if client.cluster.leader_for_partition(place) in (None, -1):
            await asyncio.sleep(BACKOFF_S)
