"""Questions to a cluster outside any group or transaction: which topics it has, how they are set, please make these.

Every await ends: with `LogTimeout` after the connection's request time-out, with `Refused` when the broker says no. Why a
connection could not be opened is asked again, alone, and told: the client keeps that to its own log.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

from aiokafka import errors
from aiokafka.admin.config_resource import ConfigResourceType
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import create_conn
from aiokafka.protocol.admin import CreateTopicsRequest, DescribeConfigsRequest
from aiokafka.protocol.metadata import MetadataRequest

from rater.doors.kafka.client_connection import BACKOFF_S
from rater.doors.kafka.log import LogProblem, LogTimeout, Refused
from rater.doors.settings.connection import Connection, host_of, refuse_plaintext

NOT_THERE = errors.UnknownTopicOrPartitionError.errno
TRANSIENT = (errors.LeaderNotAvailableError.errno, errors.NoError.errno)  # just made: its leader is being chosen
EXISTS = errors.TopicAlreadyExistsError.errno
BAD_REPLICATION = errors.InvalidReplicationFactorError.errno
TOPIC_DENIED = errors.TopicAuthorizationFailedError.errno
CLUSTER_DENIED = errors.ClusterAuthorizationFailedError.errno


@dataclass(frozen=True, slots=True)
class TopicFound:
    """A topic as the cluster describes it; `replicas` is the smallest number any partition has."""

    partitions: int
    replicas: int
    leaders: int  # partitions that have a leader now


@dataclass(frozen=True, slots=True)
class NewTopic:
    name: str
    partitions: int
    replicas: int
    configs: Mapping[str, str]


class Admin:
    """One client; `open_admin` makes and closes it."""

    def __init__(self, client: Any, connection: Connection) -> None:
        self._client = client
        self._connection = connection

    def brokers(self) -> list[int]:
        """The brokers' numbers, as heard when the connection was opened."""
        return sorted(broker.nodeId for broker in self._client.cluster.brokers())

    async def reachable(self) -> list[int]:
        """Those that a connection can be opened to."""
        return [broker for broker in self.brokers() if await self._client.ready(broker)]

    async def topics(self, names: Sequence[str], broker: int | None = None) -> dict[str, TopicFound]:
        """Those of these topics that are there, as some broker or this one knows. Never makes one, whatever the broker's
        auto.create.topics.enable says."""
        answer = await self._ask(MetadataRequest(list(names), False), f"describe topics {', '.join(names)}", broker)
        found = {}
        for code, name, *_, partitions in answer.topics:
            if code == TOPIC_DENIED:
                raise Refused(_not_allowed("Describe", f"topic {name} (Read and Write include it)"))
            if code == NOT_THERE:
                continue
            if code not in TRANSIENT:
                raise Refused(f"topic {name}: {_error_text(code)}")
            replicas = min((len(partition[3]) for partition in partitions), default=0)
            leaders = sum(partition[2] >= 0 for partition in partitions)
            found[name] = TopicFound(len(partitions), replicas, leaders)
        return found

    async def configs(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """The settings in force of these topics, those a broker's default gives included."""
        resources = [(ConfigResourceType.TOPIC, name, None) for name in names]
        answer = await self._ask(DescribeConfigsRequest(resources), f"read the settings of {', '.join(names)}")
        configs: dict[str, dict[str, str]] = {}
        for code, message, _, name, entries in answer.resources:
            if code == TOPIC_DENIED:
                raise Refused(_not_allowed("DescribeConfigs", f"topic {name}"))
            if code:
                raise Refused(f"topic {name}: its settings could not be read: {message or _error_text(code)}")
            configs[name] = {entry[0]: entry[1] or "" for entry in entries}
        return configs

    async def create(self, topics: Sequence[NewTopic]) -> None:
        """Make topics; one that somebody else made meanwhile is not an error here, what it is like is for a check to say."""
        asked: list[Any] = [(new.name, new.partitions, new.replicas, [], list(new.configs.items())) for new in topics]
        request = CreateTopicsRequest(asked, self._connection.request_timeout_ms, False)
        answer = await self._ask(request, f"create topics {', '.join(new.name for new in topics)}")
        for name, code, message in answer.topic_errors:
            if code in (0, EXISTS):
                continue
            if code in (TOPIC_DENIED, CLUSTER_DENIED):
                raise Refused(_not_allowed("Create", f"topic {name}"))
            if code == BAD_REPLICATION:
                raise Refused(
                    f"topic {name} was not created: {message} Expected --replication-factor at most the number of brokers"
                )
            raise Refused(f"topic {name} was not created: {message or _error_text(code)}")

    async def _ask(self, request: Any, what: str, broker: int | None = None) -> Any:
        """The answer of the first broker that gives one: each can answer these, or passes them on to the controller. A
        cluster goes on naming a broker that has just died, so the next is asked."""
        problem: Exception = errors.NodeNotReadyError()
        for node in self.brokers() if broker is None else [broker]:
            try:
                async with asyncio.timeout(self._connection.request_timeout_ms / 1000):
                    return await self._client.send(node, request)
            except (TimeoutError, errors.KafkaError) as failed:
                problem = failed
        if isinstance(problem, TimeoutError | errors.RequestTimedOutError):
            raise LogTimeout(
                f"could not {what}: no answer within {self._connection.request_timeout_ms} ms from {self._advertised()}"
            )
        raise LogProblem(
            f"could not {what}: {_describe(problem)}; is {self._advertised()}, the address the brokers give, reachable from here?"
        )

    def _advertised(self) -> str:
        return ", ".join(sorted(f"{broker.host}:{broker.port}" for broker in self._client.cluster.brokers()))


@asynccontextmanager
async def open_admin(connection: Connection) -> AsyncIterator[Admin]:
    """Raises `Refused` or `LogTimeout` with the reason of every bootstrap server."""
    client = AIOKafkaClient(**connection.client_arguments(), request_timeout_ms=connection.request_timeout_ms)
    try:
        try:
            async with asyncio.timeout(connection.request_timeout_ms / 1000 * len(connection.bootstrap_servers)):
                await client.bootstrap()
        except (TimeoutError, errors.KafkaError):
            await raise_why_unreachable(connection)
        await _until_a_broker_is_named(client, connection)
        refuse_plaintext(connection, [broker.host for broker in client.cluster.brokers()])
        yield Admin(client, connection)
    finally:
        await client.close()


async def _until_a_broker_is_named(client: AIOKafkaClient, connection: Connection) -> None:
    """A broker that has just started answers before it is registered, and then names nobody, itself neither."""
    try:
        async with asyncio.timeout(connection.request_timeout_ms / 1000):
            while not client.cluster.brokers():
                await client.force_metadata_update()
                await asyncio.sleep(BACKOFF_S)
    except TimeoutError:
        raise LogTimeout(
            f"{', '.join(connection.bootstrap_servers)} answered, but named no broker of its cluster within "
            f"{connection.request_timeout_ms} ms; it may still be starting, or no controller has registered it: see its log"
        ) from None


async def raise_why_unreachable(connection: Connection) -> NoReturn:
    """Connect to each bootstrap server alone and raise what it says; to be called when a client could not bootstrap."""
    arguments = connection.client_arguments()
    servers = arguments.pop("bootstrap_servers")
    problems = [await _try_server(connection, server, arguments) for server in servers]
    text = "; ".join(str(problem) for problem in problems)
    if any(isinstance(problem, Refused) for problem in problems):
        raise Refused(text)
    raise LogTimeout(text)


async def _try_server(connection: Connection, server: str, arguments: Mapping[str, Any]) -> LogProblem:
    host, port = host_of(server), int(server.rsplit(":", 1)[1])
    try:
        async with asyncio.timeout(connection.request_timeout_ms / 1000):
            opened = await create_conn(host, port, **arguments, request_timeout_ms=connection.request_timeout_ms)
        opened.close()
    except Exception as error:
        return _problem_of(connection, server, error)
    return LogTimeout(f"{server} accepted the connection now, but did not answer before; try again")


def _problem_of(connection: Connection, server: str, error: Exception) -> LogProblem:
    """The sentence for what went wrong while connecting, in the words of the settings that decide it."""
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    if isinstance(error, errors.AuthenticationFailedError | errors.SaslAuthenticationFailed):
        return Refused(
            f"{server} refuses user '{connection.sasl_username}' by {connection.sasl_mechanism}: {_first_line(error)}; "
            "check RATER_SASL_USERNAME and RATER_SASL_PASSWORD_FILE"
        )
    if isinstance(error, errors.UnsupportedSaslMechanismError):
        return Refused(
            f"{server} does not offer {connection.sasl_mechanism}; set RATER_SASL_MECHANISM to what it offers"
        )
    if isinstance(error, errors.IllegalSaslStateError):
        return Refused(f"{server} does not ask for SASL; expected another RATER_SECURITY_PROTOCOL or another port")
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Refused(
            f"{server}: its certificate is not accepted: {cause.verify_message.rstrip('.')}; check RATER_SSL_CA_FILE and the host name"
        )
    if isinstance(cause, ssl.SSLError):
        return Refused(
            f"{server}: TLS failed: {cause.reason}; check RATER_SECURITY_PROTOCOL, RATER_SSL_CERT_FILE and the port"
        )
    if isinstance(cause, socket.gaierror):
        return Refused(f"{server}: there is no host of that name; check RATER_BOOTSTRAP_SERVERS")
    if isinstance(cause, ConnectionRefusedError):
        return LogTimeout(f"{server}: nobody listens there; is the broker up?")
    if isinstance(cause, TimeoutError | errors.RequestTimedOutError):
        return LogTimeout(f"{server}: no answer within {connection.request_timeout_ms} ms; is it a broker, and up?")
    return Refused(
        f"{server} ended the connection ({_describe(error)}); it may expect TLS, a certificate or SASL: "
        f"RATER_SECURITY_PROTOCOL is {connection.security_protocol}"
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0].removeprefix("[Error 58] ").removeprefix("SaslAuthenticationFailed: ")


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _error_text(code: int) -> str:
    kind = errors.for_code(code)
    return f"{kind.__name__} ({getattr(kind, 'description', None) or code})"


def _not_allowed(operation: str, resource: str) -> str:
    return f"the broker does not allow this user to {operation} {resource}; docs/operations.md lists the ACLs that are needed"
