"""Fetching whole record batches from the leaders of places, and a reader of places outside any group.

The requests are made here and not by aiokafka's `Fetcher`, which makes a Python object per record, holds back all
partitions of a broker while one of them is not emptied, and looks for offsets of its own before it is told where to read.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka import errors
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest

from rater.doors.kafka.client_connection import (
    BACKOFF_S,
    Connection,
    KnownTopics,
    close_client,
    leader_of,
    problem_text,
    within,
)
from rater.doors.kafka.log import Block, LogProblem, OffsetGone, Place, Refused
from rater.doors.kafka.record_batches import CorruptBatch, Marker, read_batches

READ_UNCOMMITTED, READ_COMMITTED = 0, 1
EARLIEST, LATEST = -2, -1  # as times that stand for offsets
NO_REPLICA = -1  # we are a consumer
FETCH_VERSION = 11  # of Kafka 2.3
ANSWER_BYTES_MAX = 64 << 20
WAIT_MS = 10  # how long a broker waits for the first byte

# A leader moves, a replica lags, a log folder fails over: look again for the leader. The numbers have no class in aiokafka:
# fenced leader epoch, unknown leader epoch, offset not available.
MOVED = frozenset({
    errors.UnknownTopicOrPartitionError.errno, errors.LeaderNotAvailableError.errno, errors.KafkaStorageError.errno,
    errors.NotLeaderForPartitionError.errno, errors.ReplicaNotAvailableError.errno, errors.RequestTimedOutError.errno,
    74, 75, 78,
})  # fmt: skip

log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """What a leader says about a place when asked for its records from an offset on."""

    blocks: list[Block]
    next_offset: int  # to ask for next; beyond the blocks where markers and aborted records follow
    stable_end: int | None  # the last stable offset
    problem: LogProblem | None  # what stands at `next_offset`, or in the way of all
    moved: bool  # ask again, maybe another node


async def fetch(
    client: AIOKafkaClient,
    node: int,
    asked: Mapping[Place, int],
    place_bytes: int,
    wait_ms: int = WAIT_MS,
    isolation: int = READ_COMMITTED,
) -> dict[Place, Answer]:
    """Committed batches of these places from these offsets on; places that the node does not speak of are left out.

    Raises what `client.send` raises.
    """
    by_topic: defaultdict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for place, offset in asked.items():
        by_topic[place.topic].append((place.partition, offset, place_bytes))
    request = FetchRequest(wait_ms, 1, ANSWER_BYTES_MAX, isolation, list(by_topic.items()))
    response = await client.send(node, request)
    if response.API_VERSION < FETCH_VERSION:
        raise LogProblem(f"broker {node} speaks version {response.API_VERSION} of Fetch; Kafka 2.3 or newer is needed")
    if response.error_code:
        raise errors.for_code(response.error_code)()
    if response.throttle_time_ms and not response.topics:
        await asyncio.sleep(response.throttle_time_ms / 1000)
    return {
        place: answer(place, asked[place], *rest)
        for topic, partitions in response.topics
        for place, rest in ((Place(topic, number), rest) for number, *rest in partitions)
    }


def answer(
    place: Place, offset: int, error_code: int, _high_water: int, stable_end: int, _log_start: int,
    aborted: Sequence[tuple[int, int]] | None, _replica: int, raw: bytes | None,
) -> Answer:  # fmt: skip
    if error_code == 0:
        blocks, next_offset, corrupt = committed_blocks(raw or b"", aborted or (), offset)
        broken = None if corrupt is None else CorruptBatch(f"{place}: {corrupt}")
        return Answer(blocks, next_offset, stable_end, broken, False)
    if error_code in MOVED:
        return Answer([], offset, None, None, True)
    error = errors.for_code(error_code)
    problem: LogProblem
    if error is errors.OffsetOutOfRangeError:
        problem = OffsetGone(f"{place}: offset {offset} is not in the log: it was deleted, or the log was cut")
    elif error is errors.TopicAuthorizationFailedError:
        problem = Refused(
            f"{place}: the broker refuses to read it; the user of this process needs READ on topic {place.topic}"
        )
    else:
        problem = LogProblem(
            f"{place}: fetching from offset {offset}, the broker answers {error.__name__} ({error_code})"
        )
    return Answer([], offset, None, problem, False)


def committed_blocks(
    raw: bytes, aborted: Sequence[tuple[int, int]], offset: int
) -> tuple[list[Block], int, CorruptBatch | None]:
    """(blocks, offset to read next, what is wrong with the batch there) of a fetched record set.

    `aborted` is what the broker sends with it: (producer id, first offset) of each aborted transaction that reaches into
    it. From that offset on the producer's transactional batches do not count, up to its abort marker.
    """
    blocks: list[Block] = []
    pending = sorted(aborted, key=lambda transaction: transaction[1], reverse=True)
    void: set[int] = set()  # producers whose transaction at this place was aborted
    try:
        for batch in read_batches(raw):
            while pending and pending[-1][1] <= batch.base_offset:
                void.add(pending.pop()[0])
            if batch.next_offset <= offset:
                continue
            if batch.control:
                if batch.producer_id in void and batch.marker() is Marker.ABORT:
                    void.discard(batch.producer_id)
            elif batch.count and not (batch.transactional and batch.producer_id in void):
                blocks.append(batch.block())
            offset = batch.next_offset
    except CorruptBatch as problem:
        return blocks, offset, problem
    return blocks, offset, None


class KafkaReader:
    """See `log.Reader`."""

    def __init__(self, client: AIOKafkaClient, connection: Connection, topics: KnownTopics, place_bytes: int) -> None:
        self._client = client
        self._connection = connection
        self._topics = topics
        self._place_bytes = place_bytes

    async def bounds(self, place: Place) -> tuple[int, int]:
        async with within(
            self._connection.deadline_s, f"{place}: asking for its bounds", f"READ on topic {place.topic}"
        ):
            await self._topics.require(self._client, [place])
            return await self._offset_of(place, EARLIEST), await self._offset_of(place, LATEST)

    async def held_back(self, place: Place) -> int:
        needs = f"DESCRIBE on topic {place.topic}"
        async with within(self._connection.deadline_s, f"{place}: asking for its ends", needs):
            await self._topics.require(self._client, [place])
            stable = await self._offset_of(place, LATEST)
            return await self._offset_of(place, LATEST, READ_UNCOMMITTED) - stable

    async def first_held(self, place: Place) -> Block | None:
        async with within(
            self._connection.deadline_s, f"{place}: reading what is not committed", f"READ on topic {place.topic}"
        ):
            _, stable = await self.bounds(place)
            asked = {place: stable}
            while True:
                answers = await self._ask(
                    place,
                    lambda node: fetch(self._client, node, asked, self._place_bytes, isolation=READ_UNCOMMITTED),
                )
                answer = answers.get(place) if answers else None
                if answer is not None and answer.problem is not None:
                    raise answer.problem
                if answer is not None and not answer.moved:
                    return answer.blocks[0] if answer.blocks else None

    async def _offset_of(self, place: Place, time: int, isolation: int = READ_COMMITTED) -> int:
        request = OffsetRequest(NO_REPLICA, isolation, [(place.topic, [(place.partition, time)])])
        while True:
            response = await self._ask(place, lambda node: self._client.send(node, request))
            if response is not None:
                _, error_code, _, offset = response.topics[0][1][0]
                if error_code == 0:
                    return int(offset)
                if error_code not in MOVED:
                    raise errors.for_code(error_code)()
                await self._look_again()

    async def read(self, place: Place, offset: int) -> tuple[Sequence[Block], int]:
        stable_end = -1
        async with within(
            self._connection.deadline_s, f"{place}: reading from offset {offset}", f"READ on topic {place.topic}"
        ):
            await self._topics.require(self._client, [place])
            while True:
                found = await self._read_once(place, offset)
                if found is None:
                    continue
                if found.next_offset > offset:
                    return found.blocks, found.next_offset
                if found.problem is not None:
                    raise found.problem
                if found.stable_end is not None and offset >= found.stable_end:
                    return [], offset
                if found.stable_end == stable_end:
                    raise LogProblem(
                        f"{place}: committed up to offset {stable_end}, but twice nothing was there from offset {offset} on; "
                        "compaction has taken the end of the log, or the broker is not sound: write to the topic again or restore it"
                    )
                stable_end = -1 if found.stable_end is None else found.stable_end

    async def _read_once(self, place: Place, offset: int) -> Answer | None:
        asked = {place: offset}
        answers = await self._ask(place, lambda node: fetch(self._client, node, asked, self._place_bytes))
        found: Answer | None = answers.get(place) if answers else None
        if found is not None and found.moved:
            await self._look_again()
            return None
        return found

    async def _ask(self, place: Place, ask: Callable[[int], Any]) -> Any:
        """What the leader says; None when it did not."""
        try:
            return await ask(await leader_of(self._client, place))
        except (errors.KafkaConnectionError, errors.NodeNotReadyError, errors.RequestTimedOutError, OSError) as problem:
            log.warning("%s: %s", place, problem_text(problem))
            await self._look_again()
            return None

    async def _look_again(self) -> None:
        self._client.force_metadata_update()
        await asyncio.sleep(BACKOFF_S)

    async def close(self) -> None:
        await close_client(self._client)
