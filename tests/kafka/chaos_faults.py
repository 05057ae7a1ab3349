"""Faults, each with the evidence that it landed: the process died at that very place, the proxy held that request.

A fault that did not land is counted as injected and not as landed. What was broken is put right before a function
returns, except for workers: their supervisor starts them again.
"""

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import confluent_kafka

from tests.kafka.chaos_proxy import fault_on_the_way
from tests.kafka.chaos_scene import SESSION_MS, Scene, Slot, until
from tests.kafka.proxy import Api

POINTS = (
    "opening-writer", "mid-restore", "after-poll", "after-begin", "mid-produce", "before-offsets", "after-offsets",
    "during-commit", "after-log-commit", "mid-snapshot", "in-revoke",
)  # fmt: skip
LATEST = {"opening-writer": 2, "mid-restore": 3, "mid-produce": 25, "mid-snapshot": 8, "in-revoke": 1}
ZOMBIE_POINTS = ("after-begin", "before-offsets", "after-offsets", "during-commit", "after-log-commit")
PATIENCE_S = 25.0


@dataclass(frozen=True, slots=True)
class Injection:
    """One fault: its kind, whether it landed, and how that is known."""

    kind: str
    landed: bool
    evidence: str


Fault = Callable[[Scene], list[Injection]]


# ---------------------------------------------------------------------------------------------- processes that die


def kills_at(scene: Scene, points: Sequence[str]) -> list[Injection]:
    """As many workers at once as there are points, each to die at its own."""
    fleet, rng = scene.fleet, scene.rng
    slots = rng.sample(fleet.slots, len(points))
    for slot, point in zip(slots, points, strict=True):
        fleet.start_instead(slot, f"{point}:{rng.randint(1, LATEST.get(point, 6))}", wanted=False)
    deadline = time.monotonic() + PATIENCE_S
    found = []
    for slot, point in zip(slots, points, strict=True):
        assert slot.process is not None
        if point == "in-revoke":  # nobody else does it for us: the worker is told to go when it has something to let go
            until(lambda slot=slot: at_work(scene, slot) or not slot.alive, PATIENCE_S)  # type: ignore[misc]
            slot.process.send_signal(signal.SIGTERM)
        until(lambda slot=slot: not slot.alive, max(0.5, deadline - time.monotonic()))  # type: ignore[misc]
        landed = slot.process.poll() == -signal.SIGKILL
        found.append(Injection(f"kill at {point}", landed, f"process {slot.process.pid}: {slot.process.poll()}"))
        if slot.alive:
            fleet.kill(slot)
        slot.wanted = True
    return found


def at_work(scene: Scene, slot: Slot) -> bool:
    status = scene.fleet.statuses().get(slot.number, {"partitions": {}})
    return any(part["phase"] == "running" for part in status["partitions"].values())


def kills_at_some(scene: Scene) -> list[Injection]:
    count = scene.rng.randint(1, len(scene.fleet.slots))
    return kills_at(scene, scene.rng.choices(POINTS, k=count))


def kill_storm(scene: Scene) -> list[Injection]:
    """All workers die, each at a place of its own, and again before they have recovered."""
    found: list[Injection] = []
    for _ in range(4):
        found += kills_at(scene, scene.rng.choices(POINTS, k=len(scene.fleet.slots)))
    return found


def random_kills(scene: Scene) -> list[Injection]:
    """One to all workers at once, wherever they are."""
    scene.fleet.wait_running(scene.partitions, PATIENCE_S)
    time.sleep(scene.rng.uniform(0.0, 0.5))
    statuses = scene.fleet.statuses()
    count = scene.rng.randint(1, len(scene.fleet.slots))
    found = []
    for slot in scene.rng.sample(scene.fleet.slots, count):
        busy = any(
            part["phase"] == "running" for part in statuses.get(slot.number, {"partitions": {}})["partitions"].values()
        )
        landed = busy and slot.alive
        scene.fleet.kill(slot)
        found.append(Injection("kill -9 at random", landed, f"{count} of {len(scene.fleet.slots)} at once"))
        slot.wanted = True
    return found


# ---------------------------------------------------------------------------------------------- zombies


def zombie(scene: Scene) -> list[Injection]:
    """SIGSTOP for longer than the session, anywhere; others take over; then it wakes up."""
    slot = busy_slot(scene)
    if slot is None or slot.process is None:
        return [Injection("zombie, stopped at random", False, "no worker was rating")]
    slot.process.send_signal(signal.SIGSTOP)
    return [_awoken(scene, slot, "zombie, stopped at random")]


def zombie_at(scene: Scene, point: str) -> list[Injection]:
    """The same, stopped inside a transaction: between offsets and commit for example."""
    kind = f"zombie, stopped at {point}"
    slot = scene.rng.choice(scene.fleet.slots)
    scene.fleet.start_instead(slot, f"{point}:{scene.rng.randint(1, 5)}:stop", wanted=True)
    assert slot.process is not None
    if not until(slot.process.stopped, PATIENCE_S):
        scene.fleet.kill(slot)
        slot.wanted = True
        return [Injection(kind, False, "never came there")]
    return [_awoken(scene, slot, kind)]


def zombie_at_some(scene: Scene) -> list[Injection]:
    return zombie_at(scene, scene.rng.choice(ZOMBIE_POINTS))


def _awoken(scene: Scene, slot: Slot, kind: str) -> Injection:
    """Landed when others rate all partitions while it sleeps."""
    assert slot.process is not None
    others = len(scene.fleet.slots) > 1
    taken = others and until(lambda: scene.fleet.running() == scene.partitions, PATIENCE_S)
    if not others:
        time.sleep(SESSION_MS / 1000 + 1.0)
    slot.process.send_signal(signal.SIGCONT)
    time.sleep(1.5)
    return Injection(kind, taken, f"process {slot.process.pid}, then {slot.process.poll()}")


def busy_slot(scene: Scene) -> Slot | None:
    scene.fleet.wait_running(scene.partitions, PATIENCE_S)
    return scene.fleet.owner(scene.rng.randrange(scene.partitions))


# ---------------------------------------------------------------------------------------------- the group


def rebalance_storm(scene: Scene) -> list[Injection]:
    """A member that rates nothing joins and leaves, again and again."""
    found = []
    for _ in range(3):
        got: list[int] = []
        stranger = confluent_kafka.Consumer({
            "bootstrap.servers": scene.kafka.bootstrap, "group.id": scene.deployment.name, "enable.auto.commit": False,
            "partition.assignment.strategy": "range", "session.timeout.ms": 6_000, "log_level": 0,
        })  # fmt: skip
        topics = [scene.deployment.prefix + topic for topic in ("cdrs", "account-commands")]
        stranger.subscribe(topics, on_assign=lambda _consumer, places, got=got: got.append(len(places)))  # type: ignore[misc]
        deadline = time.monotonic() + 10.0
        while not got and time.monotonic() < deadline:
            stranger.poll(0.1)
        stranger.close()
        found.append(Injection("rebalance", bool(got), f"assigned {got} places"))
    return found


def rolling_restart(scene: Scene) -> list[Injection]:
    found = []
    for slot in scene.fleet.slots:
        scene.fleet.wait_running(scene.partitions, PATIENCE_S)
        if not slot.alive:
            continue
        begun = time.monotonic()
        status = scene.fleet.stop(slot)
        told = f"exit status {status} after {time.monotonic() - begun:.1f} s"
        found.append(Injection("graceful restart", status == 0, told))
        scene.fleet.start(slot)
    return found


# ---------------------------------------------------------------------------------------------- brokers


def broker_kill(scene: Scene) -> list[Injection]:
    index = scene.rng.randrange(scene.brokers.nodes)
    with scene.watch.paused():
        process = scene.brokers.node(index).process
        scene.brokers.kill(index)
        scene.brokers.restart(index)
    landed = process is not None and process.returncode == -signal.SIGKILL
    return [Injection("broker killed and restarted", landed, "SIGKILL under load")]


def broker_stopped(scene: Scene, seconds: float = 15.0) -> list[Injection]:
    scene.fleet.wait_running(scene.partitions, PATIENCE_S)
    index = scene.rng.randrange(scene.brokers.nodes)
    with scene.watch.paused():
        scene.brokers.pause(index)
        time.sleep(seconds)
        scene.brokers.resume(index)
    return [Injection(f"broker stopped {seconds:.0f} s", True, "SIGSTOP under load; the process stood still")]


def broker_stopped_briefly(scene: Scene) -> list[Injection]:
    return broker_stopped(scene, 4.0)


# ---------------------------------------------------------------------------------------------- on the way


def lost_or_late(scene: Scene) -> list[Injection]:
    last = Api.ADD_PARTITIONS if scene.version == 1 else Api.PRODUCE  # that is how partitions are added
    api = scene.rng.choice((Api.END_TXN, Api.END_TXN, Api.TXN_OFFSET_COMMIT, last))
    return on_the_way(scene, api, cut=scene.rng.random() < 0.5, late=scene.rng.random() < 0.6)


def on_the_way(scene: Scene, api: Api, cut: bool, late: bool) -> list[Injection]:
    how = f"{'cut' if cut else 'held'} and {'released in the next transaction' if late else 'lost'}"
    assert scene.proxy is not None
    scene.fleet.wait_running(scene.partitions, PATIENCE_S)
    own = f"{scene.deployment.name}-{scene.rng.randrange(scene.partitions)}".encode()
    landed, evidence = scene.proxy.run(fault_on_the_way(scene.proxy.proxy, api, own, cut, late), 90.0)
    return [Injection(f"{api.name} {how}", landed, evidence)]


# ---------------------------------------------------------------------------------------------- other people


def hijack(scene: Scene) -> list[Injection]:
    """Another deployment opens a writer with our transactional id."""
    scene.fleet.wait_running(scene.partitions, PATIENCE_S)
    own = f"{scene.deployment.name}-{scene.rng.randrange(scene.partitions)}"
    thief = confluent_kafka.Producer(
        {"bootstrap.servers": scene.kafka.bootstrap, "transactional.id": own, "log_level": 0}
    )
    try:
        thief.init_transactions(20.0)
    except confluent_kafka.KafkaException as problem:
        return [Injection("second deployment: transactional id", False, str(problem))]
    time.sleep(1.0)
    return [Injection("second deployment: transactional id", True, f"{own} initialised by a stranger")]


def twin_instance(scene: Scene) -> list[Injection]:
    """A second process with a worker's instance id and a state folder of its own; one of the two must end."""
    if not scene.fleet.static:
        return []
    slot = busy_slot(scene)
    if slot is None or slot.process is None:
        return []
    first = slot.process
    folder = scene.fleet.state_of(90 + slot.number)
    scene.decks.keep(folder)
    second, _ = scene.fleet.extra_worker(90 + slot.number, RATER_GROUP_INSTANCE_ID=f"worker-{slot.number}")
    ended = until(lambda: first.poll() is not None or second.poll() is not None, PATIENCE_S)
    told = f"first {first.poll()}, second {second.poll()}"
    if second.poll() is None:
        second.kill()
        second.wait(30.0)
    return [Injection("second deployment: instance id", ended, told)]


# ---------------------------------------------------------------------------------------------- operators


def stop_all(scene: Scene) -> None:
    for slot in scene.fleet.slots:
        slot.wanted = False
    for slot in scene.fleet.slots:
        if slot.alive:
            scene.fleet.stop(slot)


def offsets_moved(scene: Scene, how: str) -> list[Injection]:
    """Group offsets are deleted or reset while the workers are down: refused, nothing rated; put back, it goes on."""
    kind = f"group offsets {how}"
    scene.fleet.wait_running(scene.partitions, PATIENCE_S)
    time.sleep(1.0)
    with scene.watch.paused():
        stop_all(scene)
        own = Offsets(scene)
        before = own.read()
        if len(before) < 2 * scene.partitions:
            for slot in scene.fleet.slots:
                slot.wanted = True
            return [Injection(kind, False, f"not every partition had offsets: {before}")]
        number = scene.rng.randrange(scene.partitions)
        place = ("cdrs", number)
        written = own.journal_end(number)
        if how == "deleted":
            own.delete()
        else:
            own.write({place: before[place] + (5 if how == "reset ahead" else -min(5, before[place]))})
        for slot in scene.fleet.slots:
            scene.fleet.start(slot)
        told = until(lambda: refused(scene, number), 40.0)
        time.sleep(1.0)
        moved = own.journal_end(number) - written
        stop_all(scene)
        own.write(before if how == "deleted" else {place: before[place]})  # the other partitions have gone on
        for slot in scene.fleet.slots:
            slot.wanted = True
    # a stopped partition writes no journal line; what its take-over writes is a transaction of nothing
    evidence = f"partition {number}: refused {told}, journal grew by {moved}"
    if told and moved:
        scene.timeline.note(f"VIOLATION rated while the witnesses disagreed: {evidence}")
    return [Injection(kind, told and moved == 0, evidence)]


def refused(scene: Scene, partition: int) -> bool:
    told = [status["partitions"].get(str(partition), {}) for status in scene.fleet.statuses().values()]
    return any(part.get("phase") == "stopped" and "the group" in part.get("why", "") for part in told)


class Offsets:
    """The offsets of the workers' group, as an operator changes them while the group is empty."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        settings = {"bootstrap.servers": scene.kafka.bootstrap, "group.id": scene.deployment.name, "log_level": 0,
                    "enable.auto.commit": False}  # fmt: skip
        self._consumer = confluent_kafka.Consumer(settings)

    def read(self) -> dict[tuple[str, int], int]:
        scene = self._scene
        places = [scene.place(topic, p) for topic in ("cdrs", "account-commands") for p in range(scene.partitions)]
        prefix = len(scene.deployment.prefix)
        found = self._consumer.committed(places, timeout=30.0)
        return {(place.topic[prefix:], place.partition): place.offset for place in found if place.offset >= 0}

    def write(self, offsets: dict[tuple[str, int], int]) -> None:
        places = []
        for (topic, partition), offset in offsets.items():
            place = self._scene.place(topic, partition)
            place.offset = offset
            places.append(place)
        self._patiently(lambda: self._consumer.commit(offsets=places, asynchronous=False))

    def delete(self) -> None:
        from confluent_kafka.admin import AdminClient

        admin = AdminClient({"bootstrap.servers": self._scene.kafka.bootstrap, "log_level": 0})
        name = self._scene.deployment.name
        self._patiently(lambda: admin.delete_consumer_groups([name])[name].result(30.0))

    def journal_end(self, partition: int) -> int:
        place = self._scene.place("rater-journal", partition)
        return int(self._consumer.get_watermark_offsets(place, timeout=30.0, cached=False)[1])

    def _patiently(self, act: Callable[[], Any]) -> None:
        """Static members stay members until their session ends; until then Kafka refuses."""
        deadline = time.monotonic() + 20.0
        while True:
            try:
                act()
                return
            except confluent_kafka.KafkaException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.3)


# ---------------------------------------------------------------------------------------------- snapshots


def snapshots_spoiled(scene: Scene, how: str) -> list[Injection]:
    """A worker dies, its snapshots are damaged, and it starts again alone, so that it has to read them."""
    kind = f"snapshot {how}"
    slot = busy_slot(scene)
    if slot is None:
        return [Injection(kind, False, "no worker was rating")]
    folder = scene.fleet.state_of(slot.number)
    if not until(lambda: len(list(folder.glob("*.snapshot"))) > (how == "of another partition"), 20.0):
        return [Injection(kind, False, "no snapshots yet")]
    old = {path: path.read_bytes() for path in sorted(folder.glob("*.snapshot"))}
    if how == "stale":
        time.sleep(2.5)
    assert slot.worker is not None
    for other in scene.fleet.slots:  # it must be the one that gets them
        if other.alive:
            scene.fleet.kill(other)
    contents = list(old.values())
    for at, (path, data) in enumerate(old.items()):
        newer = path.read_bytes()
        if how == "corrupted":
            spot = scene.rng.randrange(len(newer))
            path.write_bytes(newer[:spot] + bytes([newer[spot] ^ 0x40]) + newer[spot + 1 :])
        elif how == "stale":
            path.write_bytes(data)
        else:
            path.write_bytes(contents[(at + 1) % len(contents)])
    said_before = len(slot.worker.log())
    scene.fleet.start(slot)
    up = scene.fleet.wait_running(scene.partitions, PATIENCE_S + SESSION_MS / 1000)
    said = slot.worker.log()[said_before:]
    sentence = {"corrupted": "its digest does not fit", "stale": "running", "of another partition": "; expected"}[how]
    for other in scene.fleet.slots:
        other.wanted = True
    return [Injection(kind, up and sentence in said, f"the worker said '{sentence}': {sentence in said}")]


SNAPSHOT_FAULTS = ("corrupted", "stale", "of another partition")
OFFSET_FAULTS = ("deleted", "reset back", "reset ahead")


def some_snapshot(scene: Scene) -> list[Injection]:
    return snapshots_spoiled(scene, scene.rng.choice(SNAPSHOT_FAULTS))


def some_offsets(scene: Scene) -> list[Injection]:
    return offsets_moved(scene, scene.rng.choice(OFFSET_FAULTS))
