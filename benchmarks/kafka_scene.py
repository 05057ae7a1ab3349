"""A deployment to measure: one real broker, the topics of rater filled with the canonical workload, and worker processes.

Inputs are written as finished record batches (`BodyWriter`), keyed by tenant as Kafka's default partitioner places them, so
filling costs next to nothing and nothing of it is in a figure.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
from aiokafka import AIOKafkaProducer

from benchmarks.files import PLANS
from rater.core.words import PADDING
from rater.doors.kafka.admin import NewTopic, open_admin
from rater.doors.kafka.client_writer import FramedBatch
from rater.doors.kafka.names import CDRS, COMMANDS, Names
from rater.doors.kafka.outputs import Body
from rater.doors.kafka.partitioning import partition_of
from rater.doors.kafka.record_batches import BodyWriter, batch_bytes
from rater.doors.kafka.topics import Wanted, create_topics
from rater.doors.settings.connection import Connection
from tests.kafka.broker import KafkaCluster, free_ports, jars

PARTITIONS = 2  # as many as this machine has cores: each is a transaction a commit interval, and those are what small batches cost
# What docs/operations.md says of brokers with commit intervals of less than 100 ms.
BROKER = {"add.partitions.to.txn.retry.backoff.ms": "2"}
MEMORY = Path("/dev/shm")
MEMORY_BYTES_MIN = 16 << 30  # topics of the longest benchmark, and everything else that runs
INPUT_BODY_BYTES = 256 << 10  # what a producer with some linger sends at once: about 750 calls
ASK_S = 0.02  # how often the group's offsets are looked at
ASK_AGAIN_S = 15.0
QUIET_S = 120.0  # a worker that commits nothing for so long is taken for dead
TENANT = b'"tenant":"'
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def cluster_of(heap: str, files: Path | None) -> KafkaCluster:
    """One broker, set up for hours of load; its files lie in memory where there is room, or in the folder that is named.

    A broker has disks of its own; where it shares the only one with all else, delays are longer (docs/performance-kafka.md).
    """
    return KafkaCluster(
        heap=heap, properties=BROKER, for_long=True, inside=files or (MEMORY if _room_in_memory() else None)
    )


def files_of(cluster: KafkaCluster) -> str:
    """Where a broker's files lie: the conditions of a figure."""
    return "in memory" if cluster.folder.is_relative_to(MEMORY) else "on disk"


def _room_in_memory() -> bool:
    try:
        known = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = min(int(known["MemAvailable"].split()[0]) << 10, shutil.disk_usage(MEMORY).free)
    except (OSError, KeyError, ValueError):
        return False
    return os.access(MEMORY, os.W_OK) and free >= MEMORY_BYTES_MIN


def broker_name() -> str:
    """Which Kafka was measured."""
    version = next(jars().glob("kafka_2.13-*.jar")).stem.rpartition("-")[2]
    return f"Apache Kafka {version}, one node, loopback"


def java_pid(cluster: KafkaCluster) -> int:
    process = cluster.node().process
    assert process is not None
    return process.pid


# --- filling -----------------------------------------------------------------------------------------------------------


def bodies_by_partition(
    lines: Sequence[bytes], limit_bytes: int = INPUT_BODY_BYTES, partitions: int = PARTITIONS
) -> list[list[Body]]:
    """Lines as finished bodies, one list for each partition, in the order of the lines; the key is the tenant in the line."""
    starts = np.zeros(len(lines) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, lines), np.int64, len(lines)), out=starts[1:])
    keys = np.empty((2, len(lines)), np.int64)
    homes = np.empty(len(lines), np.int64)
    known: dict[bytes, int] = {}
    for place, line in enumerate(lines):
        first = line.index(TENANT) + len(TENANT)
        last = line.index(b'"', first)
        tenant = line[first:last]
        home = known.get(tenant)
        if home is None:
            home = known[tenant] = partition_of(tenant, partitions)
        homes[place] = home
        keys[:, place] = first, last
    keys += starts[:-1]
    buffer = np.frombuffer(b"".join(lines) + bytes(PADDING), np.uint8)
    writer = BodyWriter(bytes, limit_bytes)
    found = []
    for partition in range(partitions):
        mine = np.flatnonzero(homes == partition)
        writer.add(buffer, keys[0][mine], keys[1][mine], buffer, starts[:-1][mine], starts[1:][mine])
        found.append(writer.finish())
    return found


class PlainBatch(FramedBatch):
    """A finished body outside any transaction, as a switch's producer sends it."""

    def _build(self) -> bytes:
        return batch_bytes(self._body, self._count, self._timestamp_ms)


async def write_bodies(bootstrap: str, topic: str, bodies: Sequence[Sequence[Body]]) -> None:
    """Every partition's bodies in order, the partitions side by side; returns when the broker has them all."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", max_request_size=8 << 20)
    await producer.start()
    try:
        await asyncio.gather(*(_write_partition(producer, topic, p, mine) for p, mine in enumerate(bodies)))
    finally:
        await producer.stop()


async def _write_partition(producer: Any, topic: str, partition: int, bodies: Sequence[Body]) -> None:
    now_ms = time.time_ns() // 1_000_000
    for body, count in bodies:
        written = await producer.send_batch(PlainBatch(body, count, now_ms), topic, partition=partition)
        await written


# --- processes ---------------------------------------------------------------------------------------------------------


def cpu_s_of(pid: int, thread: int | None = None) -> float:
    """User and system seconds of a process so far, all its threads; or of one of them."""
    of = f"/proc/{pid}/stat" if thread is None else f"/proc/{pid}/task/{thread}/stat"
    fields = Path(of).read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


def memory_mib_of(pid: int, what: str = "VmRSS") -> float:
    """Resident memory now (`VmRSS`) or at its highest (`VmHWM`)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) / 1024
    return 0.0


class Worker:
    """One `rater worker`, the real command, in a process of its own; what it says goes to a file."""

    def __init__(self, scene: "Scene", name: str, **settings: str) -> None:
        self.port = free_ports(1)[0]
        self.said = scene.folder / f"{name}.log"
        self.state_dir = scene.folder / name
        plain = {
            key: value for key, value in os.environ.items() if not key.startswith("RATER_") or key == "RATER_CACHE_DIR"
        }
        environment = plain | {
            "RATER_APP_ID": scene.names.app_id,
            "RATER_TOPIC_PREFIX": scene.names.prefix,
            "RATER_BOOTSTRAP_SERVERS": scene.bootstrap,
            "RATER_RATES": str(scene.deck),
            "RATER_PLANS": str(PLANS),
            "RATER_STATE_DIR": str(self.state_dir),
            "RATER_WEB_PORT": str(self.port),
            **{f"RATER_{key.upper()}": value for key, value in settings.items()},
        }
        self.state_dir.mkdir(exist_ok=True)
        with self.said.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "rater", "worker"], env=environment, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self.process.pid

    def cpu_s(self) -> float:
        self.check()
        return cpu_s_of(self.pid)

    def check(self) -> None:
        if self.process.poll() is not None:
            raise RuntimeError(
                f"the worker ended with status {self.process.returncode}: {self.said.read_text()[-2000:]}"
            )

    def partitions(self) -> dict[str, Any]:
        """What its page says; nothing while it does not serve yet."""
        import orjson

        try:
            with urlopen(f"http://127.0.0.1:{self.port}/partitions", timeout=5) as answer:
                found: dict[str, Any] = orjson.loads(answer.read())["partitions"]
        except (URLError, OSError):
            return {}
        return found

    def running(self) -> int:
        """How many partitions it rates."""
        return sum(partition["phase"] == "running" for partition in self.partitions().values())

    def stop(self) -> float:
        """The seconds from the signal to the end of the process."""
        begun = time.perf_counter()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return time.perf_counter() - begun


def wait_until(there: Callable[[], bool], what: str, limit_s: float = QUIET_S, pause_s: float = 0.1) -> None:
    give_up = time.monotonic() + limit_s
    while not there():
        if time.monotonic() > give_up:
            raise RuntimeError(f"waited {limit_s:.0f} s for {what}")
        time.sleep(pause_s)


# --- the scene ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scene:
    """One deployment on one broker."""

    cluster: KafkaCluster
    folder: Path
    deck: Path
    names: Names
    partitions: int = PARTITIONS

    @property
    def bootstrap(self) -> str:
        return self.cluster.bootstrap

    def create(self) -> None:
        asyncio.run(create_topics(self.connection, self.names.prefix, Wanted(self.partitions, 1)))

    @property
    def connection(self) -> Connection:
        return Connection(bootstrap_servers=(self.bootstrap,))

    def fill(self, name: str, bodies: Sequence[Sequence[Body]]) -> float:
        """Write inputs; the seconds it took."""
        begun = time.perf_counter()
        asyncio.run(write_bodies(self.bootstrap, self.names.topic(name), bodies))
        return time.perf_counter() - begun

    def plain_topic(self, name: str) -> str:
        """A topic for a floor or a peer to write to."""

        async def make() -> None:
            async with open_admin(self.connection) as admin:
                await admin.create([NewTopic(name, self.partitions, 1, {"max.message.bytes": str(16 << 20)})])

        asyncio.run(make())
        return name

    def offsets(self) -> "Offsets":
        return Offsets(self.bootstrap, self.names)


class Offsets:
    """The committed offsets of the worker's group, and where its inputs end, as any other client sees them."""

    def __init__(self, bootstrap: str, names: Names) -> None:
        from confluent_kafka import Consumer, TopicPartition

        # "uncommitted": the offset before a commit under way, at once, instead of waiting for its end
        self._consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": names.app_id, "isolation.level": "read_uncommitted"}
        )
        self._places = {
            name: [TopicPartition(names.topic(name), partition) for partition in range(PARTITIONS)]
            for name in (CDRS, COMMANDS)
        }

    def committed(self, name: str = CDRS) -> list[int]:
        from confluent_kafka import KafkaException

        give_up = time.monotonic() + ASK_AGAIN_S
        while True:
            try:
                return [max(found.offset, 0) for found in self._consumer.committed(self._places[name], timeout=30)]
            except (
                KafkaException
            ):  # a new broker makes its topic of offsets at the first question, and is not ready at once
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.2)

    def ends(self, name: str = CDRS) -> list[int]:
        return [self._consumer.get_watermark_offsets(place, timeout=30)[1] for place in self._places[name]]

    def close(self) -> None:
        self._consumer.close()


# --- measuring ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sample:
    """How far the group had come at an instant, and what it had used up."""

    at_s: float
    cpu_s: float
    done: int


@dataclass(frozen=True, slots=True)
class Pace:
    """What a stretch of records took."""

    records: int
    wall_s: float
    cpu_s: float

    @property
    def wall_us(self) -> float:
        return self.wall_s / self.records * 1e6

    @property
    def cpu_us(self) -> float:
        return self.cpu_s / self.records * 1e6

    @property
    def per_s(self) -> float:
        return self.records / self.wall_s


def pace(first: Sample, last: Sample) -> Pace:
    """What lies between two looks."""
    if last.done <= first.done:
        raise RuntimeError(f"all {last.done} records were committed between two looks; measure more of them")
    return Pace(last.done - first.done, last.at_s - first.at_s, last.cpu_s - first.cpu_s)


def both_paces(samples: Sequence[Sample]) -> tuple[Pace, Pace]:
    """From the first committed batch to the end; and from the look nearest to half of that."""
    begun, last = samples[min(1, len(samples) - 1)], samples[-1]
    half = (begun.done + last.done) / 2
    middle = min(samples[1:-1] or [begun], key=lambda sample: abs(sample.done - half))
    return pace(begun, last), pace(middle, last)


def watch(offsets: Offsets, workers: Sequence[Worker], name: str = CDRS) -> list[Sample]:
    """Samples until the group has committed everything that is in the input."""
    ends = sum(offsets.ends(name))
    samples = [Sample(time.perf_counter(), sum(worker.cpu_s() for worker in workers), sum(offsets.committed(name)))]
    moved = time.perf_counter()
    while samples[-1].done < ends:
        time.sleep(ASK_S)
        for worker in workers:
            worker.check()
        done = sum(offsets.committed(name))
        now = time.perf_counter()
        if done > samples[-1].done:
            samples.append(Sample(now, sum(worker.cpu_s() for worker in workers), done))
            moved = now
        elif now - moved > QUIET_S:
            raise RuntimeError(
                f"{ends - done} of {ends} records of {name} are left and nothing moves: {workers[0].said.read_text()[-2000:]}"
            )
    return samples
