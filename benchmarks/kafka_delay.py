"""From the append of a call to its rated call, committed and in a consumer's hands, at a steady pace.

The input topic is stamped by the broker at the append. A consumer that reads `rated-cdrs` as read_committed notes when each
batch reached it, and which input offsets it spans: the first and the last rated call of a batch carry theirs, and rating
keeps the order. One offset in `SAMPLE_EVERY` is looked up. All clocks are this machine's. The delay includes the fetch of
the consumer.

A broker that has just started spends up to half a core on compiling itself, for one to two minutes, and then needs half of
what it needed before; one that has run for a day is through with that. What it compiles depends on what it is asked, so `warm_up`
gives it the load that is measured, consumer and pace included, until its compilers have nothing left to do.

Load and consumer share the machine with what they measure, so both do little: requests are put together before the clock
starts, and of a batch two calls are read.
"""

import asyncio
import gc
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.kafka_scene import PARTITIONS, Scene, Worker, bodies_by_partition, cpu_s_of, java_pid
from benchmarks.report import progress
from rater.doors.kafka.client import KafkaLog
from rater.doors.kafka.client_connection import Connection, KnownTopics, close_client, leader_of
from rater.doors.kafka.client_fetch import fetch
from rater.doors.kafka.client_protocol import Produce
from rater.doors.kafka.log import Block, Place, Reader
from rater.doors.kafka.names import CDRS, RATED
from rater.doors.kafka.record_batches import batch_bytes

Array = np.ndarray[Any, Any]

SAMPLE_EVERY = 20
LINGER_S = 0.02  # of the one producer: what came meanwhile is one request, with a batch for each partition
REQUEST_MS = 10_000
FETCH_BYTES, FETCH_WAIT_MS = 4 << 20, 100
WARM_SHARE = 0.2  # of the records: the first ones meet caches that are empty and a worker that has just started
WARM_STEPS_MAX = 16
COMPILING_MAX = 0.01  # of a core: the compilers of a broker that is warm
QUIET_S = 5.0
PROBE_TURNS, PROBE_EVERY_S = 8_000, 0.1  # of an empty loop, 0.2 ms
SLOWED = 1.5  # a probe that takes so many times what the fastest took
INPUT = b'"input":['
RECORD_ID = b'"record_id":"'


@dataclass(frozen=True, slots=True)
class Load:
    """What one linger gathered: a request, and how many calls are in it."""

    request: Produce
    calls: int


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU seconds, so far or between two looks: of the worker, of the broker, and of this process, which is load and consumer."""

    worker_s: float
    broker_s: float
    ours_s: float

    def since(self, before: "Spent") -> "Spent":
        return Spent(self.worker_s - before.worker_s, self.broker_s - before.broker_s, self.ours_s - before.ours_s)

    @property
    def all_s(self) -> float:
        return self.worker_s + self.broker_s + self.ours_s


@dataclass(frozen=True, slots=True)
class Delays:
    """What a load met: the delay of each sampled call in the order in which they were rated, the pace (calls a second), what it cost."""

    ms: Array
    per_s: float
    spent: Spent
    wall_s: float
    probes_us: Array

    @property
    def settled(self) -> Array:
        """Without the first ones."""
        return self.ms[int(len(self.ms) * WARM_SHARE) :]

    def quantile_ms(self, share: float) -> float:
        return float(np.quantile(self.settled, share))


@dataclass(frozen=True, slots=True)
class Seen:
    """A batch of rated calls in the consumer's hands: the input offsets it spans and when it came (ms, UTC)."""

    partition: int
    first: int
    last: int
    at_ms: float


def loads_of(lines: Sequence[bytes], topic: str, per_s: float, partitions: int = PARTITIONS) -> list[Load]:
    """Calls as a producer sends them that gets `per_s` of them a second, in finished requests."""
    step = max(round(per_s * LINGER_S), 1)
    return [load_of(lines[at : at + step], topic, partitions) for at in range(0, len(lines), step)]


def load_of(lines: Sequence[bytes], topic: str, partitions: int) -> Load:
    batches: dict[Place, bytes] = {}
    room = sum(map(len, lines)) * 2
    for partition, bodies in enumerate(bodies_by_partition(lines, room, partitions)):
        for body, count in bodies:  # one, for there is room
            batches[Place(topic, partition)] = batch_bytes(body, count, 0)
    return Load(Produce(None, REQUEST_MS, batches), len(lines))


async def feed(bootstrap: str, topic: str, loads: Sequence[Load], per_s: float) -> float:
    """Send the loads in turn so that `per_s` calls a second go out; the pace that was reached."""
    client = await Connection({"bootstrap_servers": [bootstrap]}, 10.0, 15.0).open()
    try:
        place = Place(topic, 0)
        await KnownTopics().require(client, [place])
        node = await leader_of(client, place)
        sent, waiting = 0, []
        begun = time.perf_counter()
        for load in loads:
            sent += load.calls
            await asyncio.sleep(sent / per_s - (time.perf_counter() - begun))
            waiting.append(asyncio.create_task(client.send(node, load.request)))
        answers = await asyncio.gather(*waiting)
        reached = sent / (time.perf_counter() - begun)
    finally:
        await close_client(client)
    refused = {code for answer in answers for _, partitions, _ in answer.topics for _, code, *_ in partitions} - {0}
    if refused:
        raise RuntimeError(f"the broker did not take all of the load: error codes {sorted(refused)}")
    return reached


def warm_up(
    scene: Scene, worker: Worker, lines: Sequence[bytes], per_s: float, steps_max: int = WARM_STEPS_MAX
) -> tuple[int, float]:
    """These calls, each time as new ones, at this pace: see `until_compiled`."""

    def step(number: int) -> Callable[[], object]:
        loads = loads_of(again(lines, number), scene.names.topic(CDRS), per_s)
        return lambda: asyncio.run(measured(scene, worker, loads, per_s))

    return until_compiled(scene, step, steps_max)


def until_compiled(scene: Scene, step: Callable[[int], Callable[[], object]], steps_max: int) -> tuple[int, float]:
    """Steps of a load until the broker compiles no more in one, or long enough: how many, and the share of a core that its compilers
    took in the last.

    `step` prepares a step, outside the clock, and returns what runs it.
    """
    pid, share = java_pid(scene.cluster), 1.0
    for number in range(steps_max):
        progress(f"warming the broker, step {number + 1} of at most {steps_max}")
        run = step(number)
        before, begun = compilers_s(pid), time.perf_counter()
        run()
        took = sum(spent_s - before.get(thread, 0.0) for thread, spent_s in compilers_s(pid).items())
        share = took / (time.perf_counter() - begun)
        if share < COMPILING_MAX:
            return number + 1, share
    return steps_max, share


def again(lines: Iterable[bytes], number: int) -> list[bytes]:
    """The same calls under other record ids, so that they are none that came before."""
    return [line.replace(RECORD_ID, RECORD_ID + b"%d-" % number, 1) for line in lines]


def compilers_s(pid: int) -> dict[int, float]:
    """CPU seconds so far of each thread in which a Java machine compiles; it ends those that have nothing to do."""
    found: dict[int, float] = {}
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            if "Compiler" in (thread / "comm").read_text():
                found[int(thread.name)] = cpu_s_of(pid, int(thread.name))
    return found


async def listen(scene: Scene, asked: dict[Place, int], seen: list[Seen], over: asyncio.Event) -> None:
    """Read rated calls as they are committed, until told that it is over and nothing more comes.

    One request for all partitions that waits at the broker: one each, again and again, would be a load of their own.
    """
    client = await Connection({"bootstrap_servers": [scene.bootstrap]}, 10.0, 15.0).open()
    try:
        await KnownTopics().require(client, list(asked))
        node = await leader_of(client, next(iter(asked)))
        while True:
            answers = await fetch(client, node, asked, FETCH_BYTES, FETCH_WAIT_MS)
            at_ms = time.time_ns() / 1e6
            if over.is_set() and not any(answer.blocks for answer in answers.values()):
                return
            for place, answer in answers.items():
                seen += [Seen(place.partition, *span_of(block), at_ms) for block in answer.blocks]
                asked[place] = answer.next_offset
    finally:
        await close_client(client)


def span_of(block: Block) -> tuple[int, int]:
    """The input offsets of the first and the last rated call of a batch."""
    return offset_at(block.body, block.body.index(INPUT)), offset_at(block.body, block.body.rindex(INPUT))


def offset_at(body: bytes, at: int) -> int:
    """From `"input":[partition,offset]`."""
    return int(body[body.index(b",", at) + 1 : body.index(b"]", at)])


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


def spent_so_far(scene: Scene, worker: Worker) -> Spent:
    return Spent(worker.cpu_s(), cpu_s_of(java_pid(scene.cluster)), time.process_time())


async def measured(scene: Scene, worker: Worker, loads: Sequence[Load], per_s: float) -> Delays:
    """Send a load at this pace and hear of its calls as they are committed. What it cost is counted while it is sent."""
    log = KafkaLog({"bootstrap_servers": [scene.bootstrap]})
    reader = await log.open_reader()
    numbers = range(PARTITIONS)
    first = [(await reader.bounds(scene.names.place(CDRS, p)))[1] for p in numbers]
    rated = {scene.names.place(RATED, p): (await reader.bounds(scene.names.place(RATED, p)))[1] for p in numbers}
    seen: list[Seen] = []
    over = asyncio.Event()
    gc.disable()  # it would walk over millions of calls that wait here, and the clock is ours
    listening = asyncio.create_task(listen(scene, rated, seen, over))
    probes_us: list[float] = []
    probing = asyncio.create_task(probe_pace(probes_us))
    before, begun = spent_so_far(scene, worker), time.perf_counter()
    reached = await feed(scene.bootstrap, scene.names.topic(CDRS), loads, per_s)
    spent, wall_s = spent_so_far(scene, worker).since(before), time.perf_counter() - begun
    probing.cancel()
    await asyncio.sleep(QUIET_S)
    over.set()
    await listening
    gc.enable()
    appended = await appended_ms(reader, scene, first)
    await reader.close()
    return Delays(delays_of(seen, appended), reached, spent, wall_s, np.array(probes_us))


async def probe_pace(probes_us: list[float]) -> None:
    """The processor's own pace, ten times a second, until cancelled: CPU time of instructions that are always the same, and need no memory.

    On a machine that shares its cores with others they take nearly twice as long at times, and the system's `steal` says nothing of it.
    """
    while True:
        await asyncio.sleep(PROBE_EVERY_S)
        begun = time.thread_time_ns()
        for _ in range(PROBE_TURNS):
            pass
        probes_us.append((time.thread_time_ns() - begun) / 1e3)


def slowed_share(windows: Sequence[Delays]) -> list[float]:
    """For each window the share of probes that were slowed, against the fastest of all."""
    fastest = min((window.probes_us.min() for window in windows if window.probes_us.size), default=0.0)
    return [float(np.mean(window.probes_us > SLOWED * fastest)) if window.probes_us.size else 0.0 for window in windows]


def delays_of(seen: Iterable[Seen], appended: Sequence[tuple[Array, Array]]) -> Array:
    """When each sampled call was seen minus when its batch was appended."""
    found = [np.zeros(0)]
    for one in sorted(seen, key=lambda one: one.at_ms):
        offsets, times = appended[one.partition]
        sampled = np.arange(one.first, one.last + 1, SAMPLE_EVERY)
        found.append(one.at_ms - times[np.searchsorted(offsets, sampled, "right") - 1])
    return np.concatenate(found)


def median_ms(windows: Sequence[Delays], share: float) -> float:
    """The median of a quantile over windows that were measured alike: one stall of the machine is one window's."""
    return median(window.quantile_ms(share) for window in windows)


def together_ms(windows: Sequence[Delays], share: float) -> float:
    """The quantile of all windows as if they were one: the worst of them decides it."""
    return float(np.quantile(np.concatenate([window.settled for window in windows]), share))
