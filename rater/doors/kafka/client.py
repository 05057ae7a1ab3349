"""A Kafka cluster as the partition task needs it (see `log`), spoken to with aiokafka."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

from aiokafka.client import AIOKafkaClient

from rater.doors.clock import wall_ms
from rater.doors.kafka import client_connection, client_epochs, client_member, client_writer
from rater.doors.kafka.client_connection import Connection, KnownTopics, close_client, within
from rater.doors.kafka.client_fetch import KafkaReader
from rater.doors.kafka.client_member import KafkaMember
from rater.doors.kafka.client_pump import Sizes
from rater.doors.kafka.log import Assigned, LogProblem, Place, Refused, Revoked, Writer

REQUEST_TIMEOUT_MS = 10_000
OLDER_PROTOCOL = 1  # a level of Kafka's feature `transaction.version`


class KafkaLog:
    """See `log.Log`. `arguments` are those of aiokafka's clients for reaching the cluster and being let in.

    `deadline_s` ends every call. `transaction_timeout_ms` ends what a dead process left open, where nobody takes its place.
    `transaction_version`: 2 or 1 instead of what the cluster speaks. After records of `urgent_topics` a member rests less before it
    fetches more: somebody waits for them.
    """

    def __init__(
        self,
        arguments: Mapping[str, Any],
        *,
        request_timeout_ms: int | None = None,
        session_timeout_ms: int = 10_000,
        transaction_timeout_ms: int = 60_000,
        transaction_version: int | None = None,
        deadline_s: float = 15.0,
        sizes: Sizes | None = None,
        urgent_topics: Collection[str] = (),
        clock_ms: Callable[[], int] = wall_ms,
    ) -> None:
        reaching = dict(arguments)
        given_ms = reaching.pop("request_timeout_ms", REQUEST_TIMEOUT_MS)
        self._connection = Connection(reaching, (request_timeout_ms or given_ms) / 1000, deadline_s)
        self._session_timeout_s = session_timeout_ms / 1000
        self._transaction_timeout_ms = transaction_timeout_ms
        self._sizes = sizes or Sizes()
        self._urgent_topics = urgent_topics
        self._clock_ms = clock_ms
        self._topics = KnownTopics()
        self._transaction_version = transaction_version

    async def open_writer(self, transactional_id: str) -> Writer:
        """As the cluster allows: with an epoch for each transaction (Kafka 4.0), or by aiokafka's own protocol."""
        how = (transactional_id, self._connection, self._transaction_timeout_ms, self._topics, self._clock_ms)
        client = None
        if self._transaction_version != OLDER_PROTOCOL:
            client = await self._connection.open()
        if client is not None and await self._bumps_epochs(client):
            return await client_epochs.open_writer(client, *how)
        if client is not None:
            await close_client(client)
        return await client_writer.open_writer(*how)

    async def _bumps_epochs(self, client: AIOKafkaClient) -> bool:
        """Asked once: a cluster that is upgraded meanwhile is found to be so at the next start."""
        if self._transaction_version is None:
            doing = "asking which transactions the cluster speaks"
            async with within(self._connection.deadline_s, doing, "nothing more"):
                bumps = await client_epochs.bumps_epochs(client)
            self._transaction_version = client_epochs.BUMPING if bumps else OLDER_PROTOCOL
        return self._transaction_version == client_epochs.BUMPING

    async def open_reader(self) -> KafkaReader:
        return KafkaReader(await self._connection.open(), self._connection, self._topics, self._sizes.place_bytes)

    async def join(
        self, group: str, topics: Sequence[str], instance_id: str | None, assigned: Assigned, revoked: Revoked
    ) -> KafkaMember:
        counts = await self._ask_counts(topics, client_connection.settled_counts)
        missing = [topic for topic in topics if topic not in counts]
        if missing:
            raise Refused(f"joining group {group}: topics {', '.join(missing)} are not there; create them first")
        if len(set(counts.values())) > 1:
            raise LogProblem(f"joining group {group}: partitions {counts}, expected the same number for every topic")
        return await client_member.join(
            self._connection,
            group,
            topics,
            instance_id,
            self._session_timeout_s,
            self._sizes,
            self._urgent_topics,
            assigned,
            revoked,
        )

    async def partition_counts(self, topics: Sequence[str]) -> dict[str, int]:
        return await self._ask_counts(topics, client_connection.partition_counts)

    async def _ask_counts(self, topics: Sequence[str], ask: Callable[..., Awaitable[dict[str, int]]]) -> dict[str, int]:
        client = await self._connection.open()
        try:
            async with within(self._connection.deadline_s, "asking for partitions", f"DESCRIBE on {', '.join(topics)}"):
                return await ask(client, topics)
        finally:
            await close_client(client)

    async def group_offsets(self, group: str, places: Sequence[Place]) -> dict[Place, int]:
        client = await self._connection.open()
        try:
            async with within(
                self._connection.deadline_s, f"group {group}: asking for its offsets", f"DESCRIBE on group {group}"
            ):
                return await client_connection.group_offsets(client, group, places)
        finally:
            await close_client(client)

    async def close(self) -> None:
        """Writers, readers and members are closed by those who opened them; there is nothing else."""
