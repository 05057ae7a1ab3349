"""The Kafka door in a simulated world: one seed decides inputs, sizes, delays and every fault, and a failing seed repeats.

Real partition tasks and crews run on the log in memory, under an event loop with virtual time. A seed has two parts:
faults, between any two awaits and by the hour, while inputs arrive; then healing, within which everything must be rated,
every partition must run and no transaction may stay open. After that the independent checker reads the log, states
restored from topics and from snapshots are compared byte by byte, and the engine replays every batch.

    python -m tests.kafka.simulation SEED [-v]      one seed; -v prints its timeline
    python -m tests.kafka.simulation FIRST-LAST     many, and what they injected
"""

import asyncio
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from rater.contract.journal import digest_of
from rater.doors.kafka.log import LogProblem, LogTimeout, Place
from rater.doors.kafka.memory import MemoryLog, MemoryWriter
from rater.doors.kafka.names import CDRS, COMMANDS, INPUTS, JOURNAL, STATE, TOPICS, Names
from rater.doors.kafka.record_batches import Marker, frame_few
from rater.doors.kafka.snapshot import Base, Snapshots, SnapshotUnusable
from rater.doors.kafka.surroundings import BatchReport, Limits, Phase
from tests.kafka.checker_model import Record
from tests.kafka.simulation_check import (
    checked,
    committed_of,
    contents_of,
    records_of_block,
    replayed,
    restores,
    unread_at,
)
from tests.kafka.simulation_input import Sent, inputs
from tests.kafka.simulation_loop import NothingLeft, VirtualLoop
from tests.kafka.simulation_process import BUG, PROCESS, WRITER, Process, ProcessWriter

DELAYS_S = (0.0, 0.0, 0.001, 0.004, 0.02, 0.09)
HEAL_S = 120.0  # virtual seconds within which a healed world must have come to rest
REPAIR = re.compile(r"--topic (\S+):(\d+) --to-offset (\d+)")
GONE = "is not in the log"
MAY_TIME_OUT = frozenset({"open_writer", "open_reader", "bounds", "read", "committed", "write", "write_offsets", "commit",
                          "abort", "join"})  # fmt: skip
IN_TRANSACTION = frozenset({"write.after", "write_offsets.before", "write_offsets.after", "commit.before"})


@dataclass(slots=True)
class Weather:
    """What a seed makes of its world. Rates are per step; a kind of fault that a seed does not have is 0."""

    delay: float
    time_out: float
    kill: float
    stall: float
    late: float
    events: tuple[str, ...]  # by the hour, one after the other
    pause_s: float  # between two events
    limits: Limits
    session_s: float
    static: bool
    rules_since: float


EVENTS = ("leave", "kill", "compact", "snapshot", "offsets", "fence", "expire", "leaderless", "down", "read-retention",
          "retention")  # fmt: skip


def weather_of(rng: random.Random) -> Weather:
    def rate(most: float, chance: float = 0.5) -> float:
        return rng.choice([most, most / 3]) if rng.random() < chance else 0.0

    kinds = [kind for kind in EVENTS if rng.random() < (0.12 if kind == "retention" else 0.4)]
    count = rng.choice([0, 2, 4, 7])
    return Weather(
        delay=rng.choice([0.0, 0.2, 0.6]),
        time_out=rate(0.02),
        kill=rate(0.01),
        stall=rate(0.008),
        late=rate(0.3),
        events=tuple(rng.choice(kinds) for _ in range(count)) if kinds else (),
        pause_s=rng.choice([0.3, 1.0, 2.5]),
        limits=Limits(
            commit_interval_s=rng.choice([0.0, 0.05, 0.3]),
            records_max=rng.choice([1, 3, 10, 50]),
            bytes_max=rng.choice([400, 4_000, 1 << 20]),
            snapshot_interval_s=rng.choice([0.2, 1.0, 1_000.0]),
            retry_s=0.1,
            retry_max_s=2.0,
        ),
        session_s=rng.choice([1.0, 3.0]),
        static=rng.random() < 0.3,
        rules_since=rng.choice([0.0, 0.0, 0.0, 4.0]),
    )


@dataclass(slots=True)
class Report:
    """What became of a seed."""

    seed: int
    problems: list[str]
    faults: Counter[str]
    batches: int
    steps: int
    virtual_s: float
    timeline: list[str] = field(default_factory=list)


class World:
    """One seed's world."""

    def __init__(self, seed: int, loop: VirtualLoop, folder: Path, verbose: bool) -> None:
        self.seed, self.loop, self.folder, self.verbose = seed, loop, folder, verbose
        self.rng = random.Random(f"faults {seed}")
        shape = random.Random(f"shape {seed}")
        self.weather = weather_of(shape)
        self.partitions, self.slots = shape.choice([1, 2, 2, 3]), shape.choice([1, 1, 2, 3])
        self.sent = inputs(shape, self.partitions, shape.choice([10, 30, 60, 100]))
        self.names = Names("rater")
        self.log = MemoryLog(
            dict.fromkeys(TOPICS, self.partitions), lambda: int(1000 * loop.time()), asyncio.sleep, self.step, 1.0
        )
        self.processes: dict[int, Process] = {}
        self.lives: Counter[int] = Counter()
        self.faults: Counter[str] = Counter()
        self.problems: list[str] = []
        self.timeline: list[str] = []
        self.gone: list[tuple[str, Record]] = []  # inputs that retention has deleted
        self.copies: dict[
            str, list[Callable[[], bool]]
        ] = {}  # requests on their way a second time, by transactional id
        self.moved: set[int] = set()  # partitions whose offsets an operator has moved
        self.dead_waits: list[asyncio.Future[None]] = []  # kept, so that nobody collects the tasks that wait for them
        self.healing = False
        self.batches = self.steps = 0

    # ---- telling

    def note(self, who: str, what: str) -> None:
        if self.verbose:
            what = what.replace(str(self.folder), "")  # else no two runs were alike
            self.timeline.append(f"{self.loop.time():9.3f}  {who:8} {what}")

    def fault(self, kind: str, who: str = "world", what: str = "") -> None:
        self.faults[kind] += 1
        self.note(who, f"*** {kind} {what}")

    def bug_if(self, wrong: bool, sentence: str) -> None:
        if wrong and sentence not in self.problems:
            self.note("world", sentence)
            self.problems.append(sentence)

    def stopped(self, partition: int, why: str) -> None:
        """A partition is stopped, and says why: never without a cause, never in a programmer's words."""
        self.bug_if(BUG.match(why) is not None, f"exception: partition {partition} was stopped by {why}")
        if "not here yet" in why:
            self.faults["rules not there yet"] += 1
        if REPAIR.search(why):
            self.faults["stopped for a moved offset"] += 1
            self.bug_if(
                partition not in self.moved, f"false alarm: nobody moved offsets, but partition {partition} says: {why}"
            )

    def committed(self, process: Process, partition: int, report: BatchReport) -> None:
        self.batches += 1
        mark = report.watermark
        there = any(digest_of(line) == mark.journal_digest for line in self.lines(partition))
        self.bug_if(
            not there, f"I9: partition {partition}: {process.name} told of batch {mark.batch} before it was committed"
        )
        self.note(
            process.name,
            f"partition {partition} committed batch {mark.batch}, next {mark.next_command} {mark.next_cdr}",
        )

    # ---- faults between two awaits

    async def step(self, name: str) -> None:
        process = PROCESS.get()
        if process is None:
            return
        if not process.alive or process.stalled_until > self.loop.time():
            await process.gate()
        self.steps += 1
        if self.steps > 200_000:
            raise NothingLeft("200,000 steps: this does not come to an end")
        if not self.healing:
            await self._trouble(process, name)
        if not process.alive or process.stalled_until > self.loop.time():
            await process.gate()

    async def _trouble(self, process: Process, name: str) -> None:
        weather, chance = self.weather, self.rng.random()
        stall = weather.stall * (8 if name.startswith("thread") else 1)  # where the processor is busy
        if name in IN_TRANSACTION or name == "commit.after":
            await self._late(name)
        if process.doomed and name.startswith("thread"):  # a tainted writer's process, and while a batch is decided
            process.doomed = False
            self.fault("stalled", process.name, f"5.0 s at {name}, its writer tainted")
            process.stall(5.0)
        elif chance < weather.delay:
            await asyncio.sleep(self.rng.choice(DELAYS_S))
        elif name.startswith("listener") and chance > 0.85:
            self.fault("slow listener", process.name, name)
            await asyncio.sleep(self.rng.choice([0.5, 2.0]))
        elif chance > 1 - weather.kill:
            self.fault("killed", process.name, name)
            process.die(f"killed at {name}")
        elif chance > 1 - weather.kill - stall:
            seconds = self.rng.choice([0.3, 2.0, 5.0])
            self.fault("stalled", process.name, f"{seconds} s at {name}")
            process.stall(seconds)
        elif chance > 1 - weather.kill - stall - weather.time_out and name.partition(".")[0] in MAY_TIME_OUT:
            self.fault(f"time-out {name.partition('.')[2]}", process.name, name)
            await self._time_out(name)

    async def _time_out(self, name: str) -> None:
        await asyncio.sleep(self.log.broker.deadline_s)
        raise LogTimeout(f"{name}: no answer within {self.log.broker.deadline_s} s")

    async def _late(self, name: str) -> None:
        """A request to end a transaction, or of its offsets, is sent twice; the copy arrives when it hurts most."""
        writer = WRITER.get()
        if writer is None:
            return
        copies = self.copies.get(writer.transactional_id)
        if copies and name in IN_TRANSACTION and self.rng.random() < 0.3:
            self._arrives(writer.transactional_id, copies.pop())
        mine = self.log._writers[writer.transactional_id] is writer.inner
        if not mine or name == "write.after" or self.rng.random() >= self.weather.late:
            return
        if name == "commit.after":
            self._send_again(writer, "late commit", self.log.delay_end(writer.transactional_id))
        elif name == "write_offsets.after":
            self._send_again(writer, "late offsets", self.log.delay_offsets(writer.transactional_id))
        elif name == "commit.before" and self.rng.random() < 0.3:
            self._send_again(
                writer, "commit lost, and late", self.log.delay_end(writer.transactional_id, Marker.COMMIT)
            )
            await self._time_out(name)

    def _send_again(self, writer: ProcessWriter, kind: str, copy: Callable[[], bool]) -> None:
        self.fault(kind, writer.process.name, writer.transactional_id)
        self.copies.setdefault(writer.transactional_id, []).append(copy)
        writer.process.doomed = self.weather.stall > 0 and self.rng.random() < 0.3
        self.loop.call_later(self.rng.choice([0.5, 1.5]), self._arrives_at_last, writer.transactional_id, copy)

    def _arrives_at_last(self, transactional_id: str, copy: Callable[[], bool]) -> None:
        if copy in self.copies[transactional_id]:
            self.copies[transactional_id].remove(copy)
            self._arrives(transactional_id, copy)

    def _arrives(self, transactional_id: str, copy: Callable[[], bool]) -> None:
        self.fault("copy took effect" if copy() else "copy had no effect", what=transactional_id)

    # ---- processes

    def start(self, slot: int) -> None:
        if slot in self.processes and self.processes[slot].alive:
            return
        self.lives[slot] += 1
        process = self.processes[slot] = Process(self, slot, self.lives[slot])
        self.note(process.name, "starts")
        self.loop.create_task(process.start())

    def restart_later(self, process: Process) -> None:
        self.loop.call_later(self.rng.choice([0.05, 0.5, 4.0]), self.start, process.slot)

    def someone(self) -> Process | None:
        alive = [process for process in self.processes.values() if process.alive]
        return self.rng.choice(alive) if alive else None

    def owner(self, partition: int) -> Process | None:
        """The one living process that says it runs a partition."""
        running = [
            p for p in self.processes.values() if p.alive and p.phases.get(partition, (None,))[0] is Phase.RUNNING
        ]
        return running[0] if len(running) == 1 else None

    # ---- what happens by the hour

    async def events(self) -> None:
        for event in self.weather.events:
            await asyncio.sleep(self.rng.uniform(0, 2 * self.weather.pause_s))
            happen: Callable[[], Awaitable[None]] = getattr(self, "_" + event.replace("-", "_"))
            await happen()

    async def _leave(self) -> None:
        process = self.someone()
        if process is not None:
            self.fault("clean leave", process.name)
            self.loop.create_task(process.leave())

    async def _kill(self) -> None:
        process = self.someone()
        if process is not None:
            self.fault("killed", process.name)
            process.die("killed")

    async def _compact(self) -> None:
        self.fault("compaction")
        self.log.compact(STATE)

    async def _snapshot(self) -> None:
        """Damaged, cut short, of another partition, deleted, or put back from a backup; and then the process dies."""
        files = sorted(self.folder.glob("*/*.snapshot"))
        if not files:
            return
        path, way = self.rng.choice(files), self.rng.choice(["cut", "changed", "swapped", "deleted", "older"])
        self.fault(f"snapshot {way}", what=str(path.relative_to(self.folder)))
        data = path.read_bytes()
        if way == "cut":
            path.write_bytes(data[: self.rng.randrange(len(data))])
        elif way == "changed":
            at = self.rng.randrange(len(data))
            path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        elif way == "swapped":
            path.write_bytes(self.rng.choice(files).read_bytes())
        elif way == "deleted":
            path.unlink()
        else:
            self.loop.call_later(2.0, path.write_bytes, data)
            return
        slot = int(path.parent.name)
        if slot in self.processes:
            self.processes[slot].die("killed with its snapshot")

    async def _offsets(self) -> None:
        """An operator moves or deletes the group's offset, which is seen when the partition is taken over again."""
        place = Place(self.rng.choice(INPUTS), self.rng.randrange(self.partitions))
        if not self.ends(place.partition):
            return
        offset = self.rng.choice([None, 0, self.rng.randint(0, self.log.broker.partitions[place].end)])
        self.fault("offset deleted" if offset is None else "offset moved", what=f"{place} to {offset}")
        self.moved.add(place.partition)
        self.log.set_offset(self.names.app_id, place, offset)
        for process in list(self.processes.values()):
            if self.rng.random() < 0.7:
                process.die("killed after the offset was moved")

    async def _fence(self) -> None:
        """Somebody opens a writer of the same id: another deployment with the same name."""
        partition = self.rng.randrange(self.partitions)
        self.fault("fenced", what=f"partition {partition}")
        try:
            await self.log.open_writer(self.names.transactional_id(partition))
        except LogTimeout:
            return

    async def _leaderless(self) -> None:
        """A transaction expires while none of the places of its partition has a leader: aborted, and no marker says so.

        Inputs have one. A forwarded record that is left open there goes out with the next transaction; twice, as its batch is
        rated again: a duplicate, which is dropped.
        """
        own = {place for number in range(self.partitions) for place in self.names.own_places(number)}
        for _ in range(20):
            self.log.leaderless |= own  # in the same moment: no other transaction ends meanwhile
            expired = self._expire_one()
            self.log.leaderless.clear()
            if expired:
                return
            await asyncio.sleep(0.02)

    async def _expire(self) -> None:
        """The coordinator's time-out for a transaction that takes too long."""
        for _ in range(20):
            if self._expire_one():
                return
            await asyncio.sleep(0.02)

    def _expire_one(self) -> bool:
        for partition in range(self.partitions):
            known = self.log._ids.get(self.names.transactional_id(partition))
            if known is not None and known.open:
                self.fault("transaction expired", what=f"partition {partition}")
                self.log.expire_transaction(self.names.transactional_id(partition))
                return True
        return False

    async def _down(self) -> None:
        self.fault("broker down")
        self.log.down = True
        await asyncio.sleep(self.rng.choice([0.2, 1.5, 4.0]))
        self.log.down = False
        self.log.broker.changed()
        self.note("world", "broker up")

    async def _read_retention(self) -> None:
        """Deletes what was read."""
        for place, offset in sorted(self.log.group(self.names.app_id).offsets.items()):
            if place.partition not in self.moved:
                self.fault("retention of what was read")
                self._delete(place, offset)

    async def _retention(self) -> None:
        """Deletes what was not read: nothing brings it back."""
        place = Place(self.rng.choice(INPUTS), self.rng.randrange(self.partitions))
        since = self.ends(place.partition).get(place)
        unread = committed_of(self.log, place, since) if since is not None else []
        if unread:
            self.fault("retention of what was not read", what=str(place))
            self._delete(place, unread[-1].offset + 1)

    def _delete(self, place: Place, before: int) -> None:
        start = self.log.broker.partitions[place].start
        self.gone += [(place.topic, record) for record in committed_of(self.log, place, start, before)]
        self.log.delete_records(place, before)

    # ---- inputs

    async def produce(self) -> None:
        """In small batches, some of them in transactions of their own, which may be aborted and sent again."""
        left, rng = list(self.sent), self.rng
        hurry = rng.choice([0.02, 0.1, 0.4])
        while left:
            batch, left = left[: (count := rng.choice([1, 1, 2, 4, 12]))], left[count:]
            if rng.random() < 0.15:
                left = await self._produce_as_one(batch) + left
            else:
                for place, records in by_place(batch):
                    self.log.append(place, records)
            if rng.random() < 0.7:
                await asyncio.sleep(rng.choice([0.0, 1.0, 2.0]) * hurry)

    async def _produce_as_one(self, batch: list[Sent]) -> list[Sent]:
        """One transaction; what of it has to be sent again."""
        try:
            writer: MemoryWriter = await self.log.open_writer("upstream")
            await writer.begin()
            for place, records in by_place(batch):
                ((body, count),) = frame_few([(key, value, ()) for key, value in records], 1 << 40)
                await writer.write(place, body, count)
                await asyncio.sleep(self.rng.choice([0.0, 0.0, 0.1, 1.0]))
            if self.rng.random() < 0.4:
                self.fault("upstream transaction aborted")
                await writer.abort()
                return batch
            await writer.commit()
        except LogTimeout:  # the broker was down, before any effect; the next writer aborts what this one left open
            while self.log.down:
                await asyncio.sleep(0.5)
            await self.log.open_writer("upstream")
            return batch
        return []

    # ---- healing

    async def heal(self) -> None:
        self.healing = True
        self.log.down = False
        self.log.broker.changed()
        self.note("world", "--- heals")
        await asyncio.sleep(6.0)  # stalls and restarts under way end
        if self.moved:
            for process in list(self.processes.values()):
                process.die("restarted by the operator who moved offsets")
        until = self.loop.time() + HEAL_S
        while (troubles := self.restless()) and self.loop.time() < until:
            self.repair()
            await asyncio.sleep(1.0)
        self.problems += [f"I12: after {HEAL_S:.0f} s: {trouble}" for trouble in troubles]

    def repair(self) -> None:
        """The operator does what the sentence says, and only where an offset was moved."""
        for partition in sorted(self.moved):
            for process in self.processes.values():
                phase, why = process.phases.get(partition, (None, ""))
                told = REPAIR.search(why)
                if process.alive and phase is Phase.STOPPED and told is not None:
                    self.note("operator", f"sets {told[1]}-{told[2]} back to {told[3]}")
                    self.log.set_offset(self.names.app_id, Place(told[1], int(told[2])), int(told[3]))

    def restless(self) -> list[str]:
        """Why the world is not at rest."""
        found = [
            f"{place}: an open transaction"
            for place, held in self.log.broker.partitions.items()
            if held.stable != held.end
        ]
        for partition in range(self.partitions):
            found += self._restless(partition)
        return found

    def _restless(self, partition: int) -> list[str]:
        if lost := self.lost(partition):
            stopped = [
                p
                for p in self.processes.values()
                if p.alive and p.phases.get(partition, (None, ""))[0] is Phase.STOPPED
            ]
            if any(GONE in process.phases[partition][1] for process in stopped):
                return []
            return [f"{lost[0]}: unread records were deleted, and nobody says so"]
        owner = self.owner(partition)
        if owner is None:
            return [f"partition {partition} is not run by one process: {self._phases(partition)}"]
        task = owner.task(partition)
        if task is None or task.base is None:
            return [f"partition {partition} is between two batches"]
        mark, found = task.base.watermark, []
        for topic, offset in ((CDRS, mark.next_cdr), (COMMANDS, mark.next_command)):
            if unread_at(self.log, Place(topic, partition), offset):
                found.append(f"{topic}-{partition}: not read behind offset {offset}; {self._phases(partition)}")
        return found

    def _phases(self, partition: int) -> str:
        told = [(p.name, *p.phases[partition]) for p in self.processes.values() if p.alive and partition in p.phases]
        return "; ".join(f"{name} {phase.value} {why}" for name, phase, why in told) or "nobody has it"

    def lines(self, partition: int) -> Iterator[bytes]:
        """Committed journal lines, the last one first."""
        lines = self.log.broker.partitions[Place(JOURNAL, partition)]
        for stored in reversed(lines.batches):
            if stored.readable and stored.block.next_offset <= lines.stable:
                yield from (record.value or b"" for record in records_of_block(stored.block, partition))

    def ends(self, partition: int) -> dict[Place, int]:
        """How far the last committed batch has read; empty for a partition that was never rated."""
        line = next(self.lines(partition), None)
        if line is None:
            return {}
        row = orjson.loads(line)
        return {Place(CDRS, partition): row["cdrs"][2], Place(COMMANDS, partition): row["commands"][2]}

    def lost(self, partition: int) -> list[Place]:
        """Where retention has deleted what the partition still had to read."""
        return [place for place, end in self.ends(partition).items() if self.log.broker.partitions[place].start > end]

    # ---- the end

    async def judge(self) -> None:
        contents = contents_of(self.log, self.gone)
        lost = [partition for partition in range(self.partitions) if self.lost(partition)]
        self.problems += checked(self.log, contents, self.names.app_id, self.partitions, settled=not lost)
        if self.problems:
            return
        for partition in range(self.partitions):
            bases = self._bases(partition)
            self.problems += await restores(self.log, self.names, partition, bases)
            mark = next(
                (record for record in reversed(contents[STATE]) if record[0] == partition and record.key == b"meta"),
                None,
            )
            if mark is not None and mark.value is not None:
                key = orjson.loads(mark.value)["key"]
                self.problems += replayed(contents, self.names, partition, self.partitions, key)

    def _bases(self, partition: int) -> list[tuple[str, Base]]:
        found = []
        owner = self.owner(partition)
        task = owner.task(partition) if owner else None
        if task is not None and task.base is not None:
            found.append(("memory", task.base))
        for slot in range(self.slots):
            try:
                found.append(
                    (f"snapshot {slot}", Snapshots(self.folder / str(slot), self.names.app_id).load(partition))
                )
            except SnapshotUnusable:
                continue
        return found

    async def run(self) -> None:
        for slot in range(self.slots):
            self.start(slot)
        await asyncio.gather(self.produce(), self.events())
        await asyncio.sleep(self.rng.choice([0.0, 0.5, 2.0]))
        await self.heal()
        await self.judge()


def by_place(batch: list[Sent]) -> list[tuple[Place, list[tuple[bytes | None, bytes | None]]]]:
    found: dict[Place, list[tuple[bytes | None, bytes | None]]] = {}
    for sent in batch:
        found.setdefault(Place(sent.topic, sent.partition), []).append((sent.key, sent.value))
    return list(found.items())


def simulate(seed: int, verbose: bool = False) -> Report:
    """Run one seed. Raises nothing that the product does: that is a problem in the report."""
    loop = VirtualLoop()
    shared = Path("/dev/shm")  # nosec: only faster; a snapshot is synced to it
    folder = Path(tempfile.mkdtemp(prefix="rater-", dir=shared if os.access(shared, os.W_OK) else None))
    world = World(seed, loop, folder, verbose)
    loop.set_exception_handler(
        lambda _, told: world.bug_if(True, f"exception: {told['message']}: {told.get('exception')!r}")
    )
    try:
        loop.run_until_complete(world.run())
    except (NothingLeft, LogProblem) as problem:
        world.problems.append(f"I12: {problem!r}")
    finally:
        world.verbose = False  # tasks end in no order now
        end(loop)
        shutil.rmtree(folder)
    return Report(seed, world.problems, world.faults, world.batches, world.steps, loop.time(), world.timeline)


def end(loop: VirtualLoop) -> None:
    """Cancel whatever still waits, dead processes' tasks above all."""
    loop.set_exception_handler(lambda *_: None)
    for _ in range(3):
        waiting = asyncio.all_tasks(loop)
        if not waiting:
            break
        for task in waiting:
            task.cancel()
        try:
            loop.run_until_complete(asyncio.wait(waiting, timeout=1))
        except NothingLeft:
            break
    loop.close()


def main(arguments: list[str]) -> int:
    first, _, last = arguments[0].partition("-")
    seeds = range(int(first), int(last or first) + 1)
    faults: Counter[str] = Counter()
    bad, batches, since = [], 0, time.perf_counter()
    for seed in seeds:
        report = simulate(seed, "-v" in arguments)
        print("\n".join(report.timeline), end="\n" if report.timeline else "")
        for problem in report.problems[:20]:
            print(f"seed {seed}: {problem}")
        faults += report.faults
        batches += report.batches
        if report.problems:
            bad.append(seed)
    spent = time.perf_counter() - since
    print(
        f"{len(seeds)} seeds, {batches} batches, {spent:.1f} s; faults: {dict(faults.most_common())}; bad seeds: {bad}"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
