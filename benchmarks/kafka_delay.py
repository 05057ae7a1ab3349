"""From the append of a call to its rated call, committed and in a consumer's hands, at a steady pace.

The input topic is stamped by the broker at the append. A consumer that reads `rated-cdrs` as read_committed notes when each
batch reached it; one rated call in `SAMPLE_EVERY` is looked up by the input offset it carries. All clocks are this
machine's. The delay includes the fetch of the consumer.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from aiokafka import AIOKafkaProducer

from benchmarks.kafka_scene import PARTITIONS, PlainBatch, Scene
from rater.doors.kafka.client import KafkaLog
from rater.doors.kafka.client_connection import Connection, KnownTopics, close_client, leader_of
from rater.doors.kafka.client_fetch import fetch
from rater.doors.kafka.log import Place, Reader
from rater.doors.kafka.names import CDRS, RATED
from rater.doors.kafka.outputs import Body
from rater.doors.kafka.record_batches import records_from_blocks

Array = np.ndarray[Any, Any]

SAMPLE_EVERY = 20
STEP_S = 0.005
FETCH_BYTES, FETCH_WAIT_MS = 4 << 20, 100
WARM_SHARE = 0.2  # of the records: the first ones meet caches that are empty and a worker that has just started
QUIET_S = 5.0


@dataclass(frozen=True, slots=True)
class Seen:
    """A rated call in the consumer's hands: where its call lies and when it came (ms, UTC)."""

    partition: int
    offset: int
    at_ms: float


async def feed(bootstrap: str, topic: str, bodies: Sequence[Sequence[Body]], per_s: float) -> float:
    """Send small bodies in turn so that `per_s` records a second go out; the pace that was reached."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", max_request_size=8 << 20)
    await producer.start()
    sent, waiting = 0, []
    begun = time.perf_counter()
    for partition, (body, count) in in_turn(bodies):
        ahead_s = sent / per_s - (time.perf_counter() - begun)
        if ahead_s > 0:
            await asyncio.sleep(max(ahead_s, STEP_S))
        batch = PlainBatch(body, count, time.time_ns() // 1_000_000)
        waiting.append(await producer.send_batch(batch, topic, partition=partition))
        sent += count
    await asyncio.gather(*waiting)
    reached = sent / (time.perf_counter() - begun)
    await producer.stop()
    return reached


def in_turn(bodies: Sequence[Sequence[Body]]) -> list[tuple[int, Body]]:
    """(partition, body): those of every partition spread evenly over the run, however many it has."""
    placed = [((k + 0.5) / len(mine), p, body) for p, mine in enumerate(bodies) for k, body in enumerate(mine)]
    return [(p, body) for _, p, body in sorted(placed, key=lambda entry: entry[:2])]


async def listen(scene: Scene, asked: dict[Place, int], seen: list[Seen], over: asyncio.Event) -> None:
    """Read rated calls as they are committed, until told that it is over and nothing more comes.

    One request for all partitions that waits at the broker: four that ask again and again would be a load of their own.
    """
    connection = Connection({"bootstrap_servers": [scene.bootstrap]}, 10.0, 15.0)
    client = await connection.open()
    try:
        await KnownTopics().require(client, list(asked))
        node = await leader_of(client, next(iter(asked)))
        while True:
            answers = await fetch(client, node, asked, FETCH_BYTES, FETCH_WAIT_MS)
            at_ms = time.time_ns() / 1e6
            if over.is_set() and not any(answer.blocks for answer in answers.values()):
                return
            for place, answer in answers.items():
                if answer.blocks:
                    records, _ = records_from_blocks(answer.blocks, asked[place])
                    for k in range(0, records.count, SAMPLE_EVERY):
                        seen.append(Seen(place.partition, orjson.loads(records.raw(k))["input"][1], at_ms))
                asked[place] = answer.next_offset
    finally:
        await close_client(client)


async def appended_ms(reader: Reader, scene: Scene, first: Sequence[int]) -> list[tuple[Array, Array]]:
    """For each partition: first offsets of the batches of the calls from `first` on, and when each was appended (ms)."""
    found = []
    for partition in range(PARTITIONS):
        place = scene.names.place(CDRS, partition)
        _, end = await reader.bounds(place)
        offset, offsets, times = first[partition], [], []
        while offset < end:
            blocks, offset = await reader.read(place, offset)
            offsets += [block.first_offset for block in blocks]
            times += [block.timestamp_ms for block in blocks]
        found.append((np.array(offsets), np.array(times)))
    return found


async def delays_ms(scene: Scene, bodies: Sequence[Sequence[Body]], per_s: float) -> tuple[Array, float]:
    """Milliseconds of each sampled call in the order in which they were rated, and the pace (calls a second)."""
    log = KafkaLog({"bootstrap_servers": [scene.bootstrap]})
    reader = await log.open_reader()
    numbers = range(PARTITIONS)
    first = [(await reader.bounds(scene.names.place(CDRS, p)))[1] for p in numbers]
    rated = {scene.names.place(RATED, p): (await reader.bounds(scene.names.place(RATED, p)))[1] for p in numbers}
    seen: list[Seen] = []
    over = asyncio.Event()
    listening = asyncio.create_task(listen(scene, rated, seen, over))
    reached = await feed(scene.bootstrap, scene.names.topic(CDRS), bodies, per_s)
    await asyncio.sleep(QUIET_S)
    over.set()
    await listening
    appended = await appended_ms(reader, scene, first)
    await reader.close()
    return delays_of(seen, appended), reached


def delays_of(seen: Sequence[Seen], appended: Sequence[tuple[Array, Array]]) -> Array:
    """When each was seen minus when its batch was appended."""
    found = []
    for one in sorted(seen, key=lambda one: one.at_ms):
        offsets, times = appended[one.partition]
        found.append(one.at_ms - times[int(np.searchsorted(offsets, one.offset, "right")) - 1])
    return np.array(found)


def settled(delays: Array) -> Array:
    """Without the first ones."""
    return delays[int(len(delays) * WARM_SHARE) :]
