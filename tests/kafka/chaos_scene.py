"""One deployment under fire: workers that a supervisor starts again, load, a checker that watches, and a timeline.

A scene is settled when everything sent is rated: then the checker demands all that must hold of a run at rest.
"""

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import confluent_kafka

from tests.kafka.broker import KafkaCluster, free_ports
from tests.kafka.chaos_load import Decks, Load
from tests.kafka.checker_io import BrokerSource, ReadProblem, rules_of
from tests.kafka.checker_model import INPUTS, RuleBook, Violation
from tests.kafka.checker_watch import Watcher
from tests.kafka.nursery import Forked, Nursery
from tests.kafka.proxy import Proxy
from tests.kafka.workers import Deployment, Worker, running

SETTLED_S = 60.0  # how long a run may take from the last fault to rest (I12)
SESSION_MS = 3_000


class Cluster(Protocol):
    """Brokers, ours or somebody's. `nodes`: as many replicas as our topics get."""

    @property
    def bootstrap(self) -> str: ...

    @property
    def nodes(self) -> int: ...


@dataclass
class Timeline:
    """What happened when, seconds since the start."""

    begun: float = field(default_factory=time.monotonic)
    entries: list[str] = field(default_factory=list)

    def note(self, sentence: str) -> None:
        self.entries.append(f"{time.monotonic() - self.begun:8.2f}  {sentence}")


@dataclass
class Slot:
    """A place for a worker: a machine, with a folder of its own."""

    number: int
    worker: Worker | None = None
    process: Forked | None = None
    wanted: bool = False  # whether the supervisor starts it again
    statuses: list[int] = field(default_factory=list)  # how its processes ended

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Fleet:
    """The workers of a deployment, and their supervisor."""

    def __init__(
        self, deployment: Deployment, nursery: Nursery, decks: Decks, count: int, static: bool, timeline: Timeline,
        planted: str = "",
    ) -> None:  # fmt: skip
        self.deployment, self.static = deployment, static
        self._nursery, self._timeline, self._planted = nursery, timeline, planted
        self.slots = [Slot(number) for number in range(count)]
        for slot in self.slots:
            decks.keep(self.state_of(slot.number))
        self._ending = threading.Event()
        self._busy = threading.RLock()
        self._thread = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
        self._thread.start()

    def state_of(self, number: int) -> Path:
        return self.deployment.folder / f"state-{number}"

    def start(self, slot: Slot, failpoint: str = "", **extra: str) -> None:
        with self._busy:
            assert not slot.alive, f"worker {slot.number} runs already"
            slot.process, slot.worker = self._launch(slot.number, failpoint, extra)
            slot.wanted = True

    def start_instead(self, slot: Slot, failpoint: str, wanted: bool) -> None:
        """Of the one that runs there; `wanted`: the supervisor starts it again when it ends."""
        with self._busy:  # or the supervisor starts one between these, and nobody ever ends it
            if slot.alive:
                self.kill(slot)
            self.start(slot, failpoint)
            slot.wanted = wanted

    def _launch(self, number: int, failpoint: str, extra: Mapping[str, str]) -> tuple[Forked, Worker]:
        port = free_ports(1)[0]
        own = {"RATER_STATE_DIR": str(self.state_of(number)), "RATER_WEB_PORT": str(port)}
        own |= {"RATER_FAILPOINT": failpoint} if failpoint else {}
        own |= {"RATER_GROUP_INSTANCE_ID": f"worker-{number}"} if self.static else {}
        log = self.deployment.folder / f"worker-{number}.log"
        with log.open("a") as out:
            out.write(f"=== start, failpoint '{failpoint}' {dict(extra)}\n")
        process = self._nursery.start(["worker"], self.deployment.environment(own | dict(extra)), log, self._planted)
        self._timeline.note(f"worker {number}: process {process.pid} starts {failpoint} {dict(extra) or ''}")
        return process, Worker(process, port, log)

    def extra_worker(self, number: int, **extra: str) -> tuple[Forked, Worker]:
        """One that nobody supervises."""
        return self._launch(number, "", extra)

    def release(self, slot: Slot) -> Forked:
        """The supervisor leaves it alone from now on."""
        with self._busy:
            slot.wanted = False
            assert slot.process is not None
            return slot.process

    def kill(self, slot: Slot) -> None:
        process = self.release(slot)
        process.kill()
        process.wait(30.0)
        self.note_end(slot)

    def stop(self, slot: Slot) -> int:
        process = self.release(slot)
        process.send_signal(15)
        status = process.wait(60.0)
        self.note_end(slot)
        return status

    def note_end(self, slot: Slot) -> None:
        assert slot.process is not None
        status = slot.process.poll()
        if status is not None:
            slot.statuses.append(status)
            self._timeline.note(f"worker {slot.number}: process {slot.process.pid} ended with {status}")

    def _supervise(self) -> None:
        while not self._ending.wait(0.3):
            with self._busy:
                for slot in self.slots:
                    if slot.wanted and not slot.alive:
                        self.note_end(slot)
                        self.start(slot)

    def statuses(self) -> dict[int, dict[str, Any]]:
        found = {}
        for slot in self.slots:
            if slot.alive and slot.worker is not None and slot.process is not None and not slot.process.stopped():
                status = slot.worker.status()
                if status is not None:
                    found[slot.number] = status
        return found

    def running(self) -> int:
        """Partitions that some worker says it is rating."""
        return sum(running(status) for status in self.statuses().values())

    def owner(self, partition: int) -> Slot | None:
        for number, status in self.statuses().items():
            if status["partitions"].get(str(partition), {}).get("phase") == "running":
                return self.slots[number]
        return None

    def wait_running(self, partitions: int, patience_s: float = 30.0) -> bool:
        return until(lambda: self.running() == partitions, patience_s)

    def end(self) -> None:
        self._ending.set()
        self._thread.join(30.0)
        for slot in self.slots:
            if slot.process is not None and slot.alive:
                slot.process.kill()
                slot.process.wait(30.0)


def until(fulfilled: Callable[[], bool], patience_s: float, step_s: float = 0.1) -> bool:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if fulfilled():
            return True
        time.sleep(step_s)
    return fulfilled()


class ProxyThread:
    """A proxy on a loop of its own; faults run coroutines there."""

    def __init__(self, broker_port: int) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self.proxy = Proxy(broker_port)
        self.run(self.proxy.__aenter__())

    def run(self, coroutine: Coroutine[Any, Any, Any], patience_s: float = 60.0) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(patience_s)

    def close(self) -> None:
        self.run(self.proxy.__aexit__(None, None, None))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10.0)
        self.loop.close()


class Watch:
    """A `Watcher` in a thread. Paused while there is no broker to be asked; begun anew when a reading failed halfway."""

    def __init__(self, bootstrap: str, deployment: Deployment, book: RuleBook, timeline: Timeline) -> None:
        self._bootstrap, self._deployment, self._book, self._timeline = bootstrap, deployment, book, timeline
        self._source: BrokerSource | None = None
        self._watcher: Watcher | None = None
        self._reading = threading.Lock()
        self._ending = threading.Event()
        self.violations: list[Violation] = []
        self.steps = 0
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._thread.start()

    def _opened(self) -> Watcher:
        if self._watcher is None:
            self._source = BrokerSource(self._bootstrap, self._deployment.name, self._deployment.prefix, timeout_s=20.0)
            self._watcher = Watcher(self._source, self._book, self._deployment.partitions)
        return self._watcher

    def forget(self) -> None:
        if self._source is not None:
            self._source.close()
        self._source = self._watcher = None

    def step(self) -> Watcher | None:
        """Only while `paused` or by the thread. None where the reading failed; the next one begins anew."""
        try:
            watcher = self._opened()
            self._found(watcher.step())
            self.steps += 1
            return watcher
        except (ReadProblem, confluent_kafka.KafkaException) as problem:
            self._timeline.note(f"watcher begins anew: {problem}")
            with contextlib.suppress(Exception):
                self.forget()
            self._source = self._watcher = None
            return None

    def _found(self, violations: list[Violation]) -> None:
        for violation in violations:
            self._timeline.note(f"VIOLATION {violation}")
        self.violations += violations

    def _run(self) -> None:
        while not self._ending.wait(1.0):
            with self._reading:
                self.step()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        with self._reading:
            yield

    def settle(self, patience_s: float) -> bool:
        """Whether everything sent is read, committed and told within this time."""
        deadline = time.monotonic() + patience_s
        with self._reading:
            while time.monotonic() < deadline:
                watcher = self.step()
                if watcher is not None and settled(watcher):
                    return True
                time.sleep(0.3)
        return False

    def finish(self) -> Watcher:
        self._ending.set()
        self._thread.join(60.0)
        for _ in range(3):
            try:
                watcher = self._opened()
                self._found(watcher.finish())
                return watcher
            except (ReadProblem, confluent_kafka.KafkaException) as problem:
                self._timeline.note(f"last reading begins anew: {problem}")
                with contextlib.suppress(Exception):
                    self.forget()
                self._source = self._watcher = None
        raise ReadProblem("the topics could not be read in three attempts; see the timeline")

    def close(self) -> None:
        self._ending.set()
        self._thread.join(60.0)
        with contextlib.suppress(Exception):
            self.forget()


def settled(watcher: Watcher) -> bool:
    offsets = watcher.source.group_offsets()
    for partition, pool in enumerate(watcher.audit.pools):
        for topic in INPUTS:
            if any(offset >= offsets.get((topic, partition), -1) for offset in pool.inputs[topic]):
                return False
    return all(end.stable == end.high for end in watcher.source.ends().values())


@dataclass
class Scene:
    """Everything a fault needs."""

    kafka: Cluster
    deployment: Deployment
    fleet: Fleet
    load: Load
    watch: Watch
    proxy: ProxyThread | None
    rng: random.Random
    timeline: Timeline
    decks: Decks
    version: int | None  # of the transactions' protocol; None: what the cluster speaks

    @property
    def brokers(self) -> KafkaCluster:
        """Those that may be struck: brokers of our own."""
        assert isinstance(self.kafka, KafkaCluster), "a fault on brokers that are somebody else's"
        return self.kafka

    @property
    def partitions(self) -> int:
        return self.deployment.partitions

    def place(self, topic: str, partition: int) -> Any:
        return confluent_kafka.TopicPartition(self.deployment.prefix + topic, partition)


@contextlib.contextmanager
def scene(
    kafka: Cluster, nursery: Nursery, decks: Decks, folder: Path, seed: int, *, name: str, proxied: bool = False,
    static: bool = False, workers: int = 2, partitions: int = 3, rate: int = 250, planted: str = "", version: int | None = 2,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Scene]:  # fmt: skip
    rng, timeline = random.Random(seed), Timeline()
    proxy = ProxyThread(kafka.node().ports["CLIENT"]) if proxied and isinstance(kafka, KafkaCluster) else None
    own = {
        "RATER_SESSION_TIMEOUT_MS": str(SESSION_MS),
        "RATER_SNAPSHOT_INTERVAL_S": "1",
        "RATER_TRANSACTION_VERSION": str(version or "auto"),
    }
    own |= {"RATER_REQUEST_TIMEOUT_MS": "1500"} if proxied else {}
    folder.mkdir(parents=True, exist_ok=True)
    deployment = Deployment(
        kafka.bootstrap, name, folder, partitions, kafka.nodes, decks.folders[0], own | dict(settings or {})
    )
    deployment.create()
    if proxy is not None:
        deployment.bootstrap = proxy.proxy.bootstrap
    book = rules_of(list(decks.folders), [])
    opened: list[Any] = []
    try:
        fleet = Fleet(deployment, nursery, decks, workers, static, timeline, planted)
        opened.append(fleet.end)
        load = Load(kafka.bootstrap, deployment.prefix, partitions, decks, seed, rate)
        opened.append(load.end)
        watch = Watch(kafka.bootstrap, deployment, book, timeline)
        opened.append(watch.close)
        for slot in fleet.slots:
            fleet.start(slot)
        yield Scene(kafka, deployment, fleet, load, watch, proxy, rng, timeline, decks, version)
    finally:
        for close in reversed(opened):
            close()
        if proxy is not None:
            proxy.close()
