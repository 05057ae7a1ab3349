"""Committed records of all partitions from a given instant on, told to a listener as they come: for `rater api`.

One request for each broker, for all its places together, waits at the broker until there is something: an answer is here as soon as
its transaction is committed, and nothing is asked in vain. What is not the listener's is passed over by a search for its mark in the bytes
of a whole batch. Any failure (a broker that restarts, a leader that moves, an offset that is gone) ends the connection; a new one begins
where the listener says. Brokers are asked again for ever, with a growing pause.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence

from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.offset import OffsetRequest

from rater.doors.clock import monotonic
from rater.doors.kafka.client_connection import (
    Connection,
    close_client,
    leader_of,
    partition_counts,
    problem_text,
    within,
)
from rater.doors.kafka.client_fetch import LATEST, NO_REPLICA, READ_COMMITTED, Answer, fetch
from rater.doors.kafka.log import Block, LogProblem, Place, Refused
from rater.doors.kafka.record_batches import records_from_blocks
from rater.doors.listening import EVENTS, REJECTED_COMMANDS, Heard, Listener
from rater.doors.settings.connection import Connection as Settings

TOPICS = (EVENTS, REJECTED_COMMANDS)
PLACE_BYTES = 1 << 20
WAIT_MS = 500  # how long a broker waits for something to answer with
REQUEST_S, DEADLINE_S = 3.0, 15.0
STALE_S = 2.5  # a broker that has not answered for so long is not followed; longer than a pause of this process
PAUSE_S, PAUSE_MAX_S = 0.1, 5.0

log = logging.getLogger("rater.follow")


class Moved(LogProblem):
    """A place has another leader, or none."""


class Following:
    """See `listening.Follower`."""

    def __init__(
        self,
        settings: Settings,
        prefix: str,
        listener: Listener,
        now_s: Callable[[], float] = monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._connection = Connection(settings.client_arguments(), REQUEST_S, DEADLINE_S)
        self._prefix, self._listener = prefix, listener
        self._now_s, self._sleep = now_s, sleep
        self._answered: dict[int, float] = {}  # by broker: when it last answered
        self._why = "it has not begun yet"
        self.failures = 0

    @property
    def trouble(self) -> str:
        if self._why:
            return self._why
        oldest = min(self._answered.values(), default=0.0)
        return "a broker does not answer" if self._now_s() - oldest > STALE_S else ""

    async def run(self) -> None:
        await asyncio.to_thread(records_from_blocks, [], 0)  # compiled now, not while the first question waits
        pause_s = PAUSE_S
        while True:
            begun_s = self._now_s()
            try:
                await self._follow()
            except Exception as problem:  # aiokafka raises its own, and KeyError for what a broker does not know
                self._tell(problem)
            self.failures += 1
            pause_s = PAUSE_S if self._now_s() - begun_s > STALE_S else min(2 * pause_s, PAUSE_MAX_S)
            await self._sleep(pause_s)

    def _tell(self, problem: Exception) -> None:
        while isinstance(problem, ExceptionGroup):
            problem = problem.exceptions[0]
        kind = "the brokers do not let it read" if isinstance(problem, Refused) else "the brokers cannot be reached"
        self._why = "a partition has no leader at the moment" if isinstance(problem, Moved) else kind
        about = {"event": "follow", "reason": type(problem).__name__}
        log.warning("not following %s: %s", " and ".join(TOPICS), problem_text(problem), extra=about)

    async def _follow(self) -> None:
        """Until something fails, which it raises."""
        client = await self._connection.open()
        try:
            by_node = await self._begin(client)
            self._answered = dict.fromkeys(by_node, self._now_s())
            async with asyncio.TaskGroup() as group:
                for node, asked in by_node.items():
                    group.create_task(self._read(client, node, asked))
                self._why = ""
                log.info("following %s", " and ".join(TOPICS), extra={"event": "follow"})
        finally:
            self._why = self._why or "the brokers cannot be reached"
            await close_client(client)

    async def _begin(self, client: AIOKafkaClient) -> dict[int, dict[Place, int]]:
        """Where to read each place, by the broker that leads it."""
        names = [self._prefix + topic for topic in TOPICS]
        found: defaultdict[int, dict[Place, int]] = defaultdict(dict)
        async with within(DEADLINE_S, "asking where to begin", f"READ on {', '.join(names)}"):
            counts = await partition_counts(client, names)
            missing = [name for name in names if name not in counts]
            if missing:
                raise Refused(f"topics {', '.join(missing)} are not there; rater topics create makes them")
            for topic in TOPICS:
                since_ms = self._listener.since_ms(topic)
                for partition in range(counts[self._prefix + topic]):
                    place = Place(self._prefix + topic, partition)
                    node = await leader_of(client, place)
                    found[node][place] = await _offset_at(client, node, place, since_ms)
        return dict(found)

    async def _read(self, client: AIOKafkaClient, node: int, asked: dict[Place, int]) -> None:
        while True:
            answers = await fetch(client, node, asked, PLACE_BYTES, WAIT_MS)
            self._answered[node] = self._now_s()
            for place, answer in answers.items():
                self._hear(place, asked[place], answer)
                asked[place] = answer.next_offset

    def _hear(self, place: Place, offset: int, answer: Answer) -> None:
        topic = place.topic.removeprefix(self._prefix)
        if answer.blocks:
            found = heard_in(answer.blocks, offset, place.partition, self._listener.mark(topic))
            if found:
                self._listener.hear(topic, found)
        if answer.problem is not None:
            raise answer.problem
        if answer.moved:
            raise Moved(f"{place}: it has another leader")


def heard_in(blocks: Sequence[Block], offset: int, partition: int, mark: bytes) -> list[Heard]:
    """The records from `offset` on that have the mark in them; a batch without it is not taken apart."""
    wanted = [block for block in blocks if mark in block.body]
    if not wanted:
        return []
    records, _ = records_from_blocks(wanted, offset)
    values = ((int(records.offsets[place]), records.raw(place)) for place in range(records.count))
    return [Heard(partition, at, value) for at, value in values if mark in value]


async def _offset_at(client: AIOKafkaClient, node: int, place: Place, since_ms: int) -> int:
    """The offset of the first record that is not older; the end where all are."""
    for time in (since_ms, LATEST):
        request = OffsetRequest(NO_REPLICA, READ_COMMITTED, [(place.topic, [(place.partition, time)])])
        response = await client.send(node, request)
        _, error_code, _, offset = response.topics[0][1][0]
        if error_code:
            raise Moved(f"{place}: asked for an offset, the broker answers error {error_code}")
        if offset >= 0:
            return int(offset)
    raise Moved(f"{place}: the broker knows no end of it")


def make_follower(settings: Settings, prefix: str, listener: Listener) -> Following:
    """For the front door."""
    return Following(settings, prefix, listener)
