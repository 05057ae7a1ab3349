"""`rater worker` on a real broker: what a call costs it, how long a call takes through it, and what others need.

Everything is measured in one run, on one broker, on this machine, so read the ratios first. The canonical workload lies in
two partitions. The worker is the real command in a process of its own; its pace is that of the group's committed offsets,
its CPU that of the system's account of the process, both from the first committed batch of calls to the last. "Warm" is
the second half of the records, as the Kafka Streams application counts it. The broker's own CPU is in no figure but its own.
"""

import asyncio
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks import kafka_delay, kafka_large
from benchmarks.kafka_peers import (
    Peer,
    PeerFailed,
    Took,
    environment_for_peers,
    measure,
    measure_streams,
    streams_folder,
    streams_missing,
)
from benchmarks.kafka_scene import (
    ASK_S,
    PARTITIONS,
    Pace,
    Scene,
    Worker,
    bodies_by_partition,
    both_paces,
    broker_name,
    cluster_of,
    cpu_s_of,
    files_of,
    java_pid,
    memory_mib_of,
    wait_until,
    watch,
)
from benchmarks.report import Goal, Line, figure, progress
from benchmarks.workload import Shape, calls, commands, write_deck
from rater.doors.kafka.names import CDRS, COMMANDS, Names

CALLS_PER_S_MIN = 150_000
STREAMS_SHARE_MAX = 0.5
P99_MS_MAX = 60.0
STOP_S_MAX = 2.0
DELAY_COMMIT_MS = 20


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured. Peers get fewer records where they are slow."""

    calls: int = 1_000_000  # for one worker, and as many again for two
    floor: int = 300_000
    tenants: int = 10_000
    prefixes: int = 6_000
    delay_s: float = 20.0
    delay_windows: int = 5  # one behind the other: what one of them meets is a matter of chance
    # Of the load that is measured, again and again until the broker compiles no more, before the delay is measured.
    warm_s: float = 10.0
    warm_steps: int = kafka_delay.WARM_STEPS_MAX
    confluent: int = 300_000
    quix: int = 100_000
    faust: int = 30_000
    streams: int = 1_000_000
    heap: str = "1g"
    broker_files: Path | None = None
    peers: bool = False
    peers_python: Path | None = None  # an environment that has the peers already
    large: bool = False
    crowd: kafka_large.Crowd = field(default_factory=kafka_large.Crowd)
    streams_folder: Path | None = None


QUICK = Sizes(
    calls=300_000,
    floor=100_000,
    delay_s=8.0,
    delay_windows=1,
    warm_s=5.0,
    warm_steps=2,
    confluent=100_000,
    quix=30_000,
    faust=10_000,
    streams=300_000,
    crowd=kafka_large.QUICK,
)


def sizes(
    quick: bool,
    large: bool,
    with_peers: bool,
    peers_python: Path | None,
    streams_at: Path | None,
    broker_files: Path | None = None,
) -> Sizes:
    """What was asked for on the command line."""
    return replace(
        QUICK if quick else Sizes(), large=large, peers=with_peers or peers_python is not None, peers_python=peers_python,
        streams_folder=streams_at, broker_files=broker_files,
    )  # fmt: skip


@dataclass(slots=True)
class Found:
    """What the last line sums up."""

    one: tuple[Pace, Pace] | None = None
    plain: Pace | None = None  # of the second half, uncompressed, as the others write
    floor: Took | None = None
    streams: Took | None = None
    streams_packed: Took | None = None  # the same, compressed as the worker's
    p99_ms: float | None = None
    broker_files: str | None = None
    absent: dict[str, str] = field(default_factory=dict)


def pace_lines(name: str, whole: Pace, warm: Pace, goal: Goal | None, **more: Any) -> list[Line]:
    size = {"calls": whole.records, "wall_s": round(whole.wall_s, 2)}
    return [
        figure("kafka", f"{name}, calls", whole.per_s, "calls/s", goal, **size, warm=round(warm.per_s), **more),
        figure("kafka", f"{name}, CPU", whole.cpu_us, "us/call", None, warm=round(warm.cpu_us, 3)),
    ]


def took_lines(name: str, took: Took) -> list[Line]:
    return [
        figure(
            "kafka", f"{name}, CPU", took.us_cpu, "us/call", None, warm=round(took.warm_us_cpu, 3), calls=took.records
        ),
        figure("kafka", f"{name}, wall", took.us_wall, "us/call", None, warm=round(took.warm_us_wall, 3)),
    ]


# --- the worker --------------------------------------------------------------------------------------------------------


def open_accounts(scene: Scene, lines: list[bytes]) -> Iterator[Line]:
    """Commands first, by a worker that is then stopped: what is timed later begins with a restore, outside the clock."""
    scene.fill(COMMANDS, bodies_by_partition(lines))
    worker, offsets = Worker(scene, "worker-0"), scene.offsets()
    try:
        samples = watch(offsets, [worker], COMMANDS)
    finally:
        worker.stop()
        offsets.close()
    opened = samples[-1].done - samples[0].done
    yield figure(
        "kafka", "open accounts, start-up included", samples[-1].at_s - samples[0].at_s, "s", None, commands=opened
    )


def rate(scene: Scene, workers: int, **settings: str) -> tuple[Pace, Pace, float, float]:
    """What the workers need for all calls that wait: whole, warm, highest memory of one (MiB), the broker's CPU (us a call)."""
    offsets = scene.offsets()
    running = [
        Worker(scene, f"worker-{number}", group_instance_id=f"bench-{number}", **settings) for number in range(workers)
    ]
    try:
        before = cpu_s_of(java_pid(scene.cluster))
        samples = watch(offsets, running)
        broker_us = (cpu_s_of(java_pid(scene.cluster)) - before) / (samples[-1].done - samples[0].done) * 1e6
        peak = max(memory_mib_of(worker.pid, "VmHWM") for worker in running)
        return *both_paces(samples), peak, broker_us
    finally:
        for worker in running:
            worker.stop()
        offsets.close()


def one_worker(scene: Scene, found: Found) -> Iterator[Line]:
    progress("kafka: one worker")
    whole, warm, peak, broker_us = rate(scene, 1)
    found.one = whole, warm
    yield from pace_lines("one worker", whole, warm, Goal(CALLS_PER_S_MIN, at_most=False))
    yield figure("kafka", "one worker, memory at its highest", peak, "MiB")
    yield figure("kafka", "broker, CPU while one worker rates", broker_us, "us/call")


def uncompressed(scene: Scene, found: Found, lines: list[bytes]) -> Iterator[Line]:
    """As the floor and the others write."""
    progress("kafka: one worker, uncompressed")
    scene.fill(CDRS, bodies_by_partition(lines))
    whole, found.plain, _, broker_us = rate(scene, 1, compression="none")
    yield from pace_lines("one worker, uncompressed", whole, found.plain, None)
    yield figure("kafka", "broker, CPU meanwhile, uncompressed", broker_us, "us/call")


def two_workers(scene: Scene, lines: list[bytes]) -> Iterator[Line]:
    progress("kafka: two workers")
    scene.fill(CDRS, bodies_by_partition(lines))
    whole, warm, _, _ = rate(scene, 2)
    yield from pace_lines("two workers", whole, warm, None, read="warm: the first half has the group's rebalance in it")


def delay(scene: Scene, found: Found, sizes: Sizes, lines: list[bytes], per_s: float) -> Iterator[Line]:
    """At half of what one worker can do, on a broker that has compiled what it needs with the first of these calls."""
    progress("kafka: delay")
    warm = int(per_s * sizes.warm_s)
    measured = lines[warm : warm + int(per_s * sizes.delay_s)]
    worker = Worker(scene, "worker-0", commit_interval_ms=str(DELAY_COMMIT_MS))
    windows = []
    try:
        wait_until(lambda: worker.running() == PARTITIONS, "a worker to begin")
        steps, compiling = kafka_delay.warm_up(scene, worker, lines[:warm], per_s, sizes.warm_steps)
        for number in range(sizes.delay_windows):
            loads = kafka_delay.loads_of(kafka_delay.again(measured, number), scene.names.topic(CDRS), per_s)
            progress(f"kafka: delay, measured, window {number + 1} of {sizes.delay_windows}")
            windows.append(asyncio.run(kafka_delay.measured(scene, worker, loads, per_s)))
    finally:
        worker.stop()
    found.p99_ms = p99 = kafka_delay.median_ms(windows, 0.99)
    counted = len(measured) * len(windows)

    def a_call_us(spent_s: Iterable[float]) -> float:
        return round(sum(spent_s) / counted * 1e6, 2)

    yield figure(
        "kafka", "append to committed rated call, p99", p99, "ms", Goal(P99_MS_MAX),
        of_each_window=[round(window.quantile_ms(0.99), 1) for window in windows],
        together=round(kafka_delay.together_ms(windows, 0.99), 1),
        p50=round(kafka_delay.median_ms(windows, 0.5), 1), p999=round(kafka_delay.median_ms(windows, 0.999), 1),
        calls_per_s=round(min(window.per_s for window in windows)), asked=round(per_s),
        sampled=sum(len(window.settled) for window in windows), commit_interval_ms=DELAY_COMMIT_MS,
        broker_files=found.broker_files,
        warmed_s=round(steps * sizes.warm_s), still_compiling=round(compiling, 3),
        worker_us=a_call_us(window.spent.worker_s for window in windows),
        broker_us=a_call_us(window.spent.broker_s for window in windows),
        load_and_consumer_us=a_call_us(window.spent.ours_s for window in windows),
        slowed=[round(share, 2) for share in kafka_delay.slowed_share(windows)],
        processors_busy=[round(window.spent.all_s / window.wall_s, 2) for window in windows],
    )  # fmt: skip


def stopping(scene: Scene, lines: list[bytes]) -> Iterator[Line]:
    """Told to end in the middle of a backlog: its batches are committed or aborted, and it is gone."""
    progress("kafka: a worker is told to stop")
    scene.fill(CDRS, bodies_by_partition(lines))
    worker, offsets = Worker(scene, "worker-0"), scene.offsets()
    try:
        before = sum(offsets.committed())
        wait_until(lambda: sum(offsets.committed()) > before, "a worker that rates", pause_s=ASK_S)
        seconds = worker.stop()
        left = sum(offsets.ends()) - sum(offsets.committed())
    finally:
        worker.stop()
        offsets.close()
    yield figure(
        "kafka", "told to stop under full load: SIGTERM to exit", seconds, "s", Goal(STOP_S_MAX), calls_left=left
    )


# --- the others --------------------------------------------------------------------------------------------------------


def floor(scene: Scene, found: Found, records: int) -> Iterator[Line]:
    found.floor = measure(scene, Peer("floor: aiokafka, orjson, no rating", "floor", records), Path(sys.executable))
    yield from took_lines("floor: aiokafka, orjson, no rating", found.floor)


def peers_of(sizes: Sizes) -> list[Peer]:
    return [
        Peer("confluent-kafka loop, exactly once", "confluent_loop", sizes.confluent),
        Peer("Quix Streams, exactly once", "quix", sizes.quix),
        Peer("Faust agent, at least once", "faust_agent", sizes.faust, ("at_least_once",)),
        Peer("Faust agent, exactly once", "faust_agent", sizes.faust, ("exactly_once",)),
    ]


def peers(scene: Scene, found: Found, sizes: Sizes) -> Iterator[Line]:
    if not sizes.peers:
        found.absent |= {peer.name: "left out; --peers installs and measures it" for peer in peers_of(sizes)}
        return
    python = sizes.peers_python or environment_for_peers(scene.folder / "peers")
    for peer in peers_of(sizes):
        try:
            yield from took_lines(peer.name, measure(scene, peer, python))
        except PeerFailed as problem:
            found.absent[peer.name] = str(problem)


def streams(scene: Scene, found: Found, sizes: Sizes) -> Iterator[Line]:
    folder = streams_folder(sizes.streams_folder)
    why = streams_missing(folder)
    if why is None:
        try:
            found.streams, found.streams_packed = measure_streams(scene, folder, sizes.streams)
            yield from took_lines("Kafka Streams, de-duplication, stores in memory", found.streams)
            yield from took_lines("Kafka Streams, the same, zstd", found.streams_packed)
            return
        except PeerFailed as problem:
            why = str(problem)
    found.absent["Kafka Streams"] = why


def ratios(found: Found) -> Iterator[Line]:
    """Of the worker as it is where nothing is said, which compresses, to others as they were tuned, which do not; beside it, like with like."""
    if found.one is None or found.plain is None:
        return
    packed_us, plain_us = found.one[1].cpu_us, found.plain.cpu_us
    for name, other, goal in (
        ("floor", found.floor, None), ("Kafka Streams", found.streams, Goal(STREAMS_SHARE_MAX)),
    ):  # fmt: skip
        if other is None:
            continue
        alike = {"both_uncompressed": round(plain_us / other.warm_us_cpu, 3)}
        if other is found.streams and found.streams_packed is not None:
            alike["both_zstd"] = round(packed_us / found.streams_packed.warm_us_cpu, 3)
        yield figure("kafka", f"worker / {name}, CPU, warm", packed_us / other.warm_us_cpu, "ratio", goal, **alike)


def summary(found: Found) -> Line:
    """What the contract names, in one object; null where it was not measured."""
    assert found.one is not None
    whole, warm = found.one
    return {
        **figure("kafka", "summary", whole.per_s, "calls/s"),
        "worker_cpu_us": round(warm.cpu_us, 3),
        "worker_wall_us": round(warm.wall_us, 3),
        "calls_per_s": round(whole.per_s),
        "floor_cpu_us": None if found.floor is None else round(found.floor.warm_us_cpu, 3),
        "streams_cpu_us": None if found.streams is None else round(found.streams.warm_us_cpu, 3),
        "p99_ms": None if found.p99_ms is None else round(found.p99_ms, 1),
        "broker": broker_name(),
        "broker_files": found.broker_files,
        "absent": found.absent,
    }


def canonical(scene: Scene, found: Found, sizes: Sizes) -> Iterator[Line]:
    """The floor, one worker on the same calls, the others, two workers, the delay: one deployment, no call twice by accident."""
    rate_guess = 300_000  # calls a second: nothing is faster, so there are calls enough for the delay
    for_delay = int(rate_guess / 2 * (sizes.warm_s + sizes.delay_s))
    shape = Shape(sizes.tenants, sizes.prefixes, 3 * sizes.calls + for_delay)
    write_deck(scene.deck, shape)
    scene.create()
    progress("kafka: opening accounts")
    yield from open_accounts(scene, commands(shape))
    progress("kafka: writing calls")
    lines = calls(shape)
    fill_s = scene.fill(CDRS, bodies_by_partition(lines[: sizes.calls]))
    yield figure("kafka", "fill", sizes.calls / fill_s, "calls/s", None, partitions=PARTITIONS)
    yield from floor(scene, found, sizes.floor)  # first: a broker that has just started has its own code to compile
    yield from one_worker(scene, found)
    yield from uncompressed(scene, found, lines[sizes.calls : 2 * sizes.calls])
    yield from peers(scene, found, sizes)
    yield from streams(scene, found, sizes)
    yield from two_workers(scene, lines[2 * sizes.calls : 3 * sizes.calls])
    assert found.one is not None
    yield from delay(scene, found, sizes, lines[3 * sizes.calls :], found.one[0].per_s / 2)
    yield from stopping(scene, kafka_delay.again(lines[: sizes.calls], sizes.warm_steps))


def run(sizes: Sizes) -> Iterator[Line]:
    found = Found()
    with (
        tempfile.TemporaryDirectory(prefix="rater-bench-") as name,
        cluster_of(sizes.heap, sizes.broker_files) as cluster,
    ):
        folder, found.broker_files = Path(name), files_of(cluster)
        deck = folder / "deck"
        yield from canonical(Scene(cluster, folder, deck, Names("bench", "bench.")), found, sizes)
        if sizes.large:
            yield from kafka_large.run(Scene(cluster, folder, deck, Names("large", "large.")), sizes.crowd)
    yield from ratios(found)
    yield summary(found)
