"""A worker process in a simulated world: its crew, its way to the log, and how it dies, stalls and comes back.

Every await of a process on the log passes the world's `step`. There a dead process waits forever, so that nothing of it
has any effect from then on, not even its `finally` clauses: that is kill -9. A stalled one waits until it is woken.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from rater.doors.kafka.compression import NONE
from rater.doors.kafka.crew import Crew, Kit
from rater.doors.kafka.log import (
    Assigned,
    Bodies,
    InThread,
    Member,
    Place,
    Prepare,
    Reader,
    Revoked,
    Writer,
    each_written,
    step_by_step,
)
from rater.doors.kafka.memory import MemoryWriter
from rater.doors.kafka.memory_group import MemoryMember
from rater.doors.kafka.snapshot import Snapshots
from rater.doors.kafka.surroundings import BatchReport, Phase, Surroundings, Watch
from rater.doors.kafka.task import PartitionTask
from tests.kafka.simulation_input import SimulatedRules

if TYPE_CHECKING:
    from tests.kafka.simulation import World

PROCESS: ContextVar["Process | None"] = ContextVar("PROCESS", default=None)
WRITER: ContextVar["ProcessWriter | None"] = ContextVar("WRITER", default=None)
BUG = re.compile(r"[A-Za-z]*(Error|Exception|Interrupt|StopIteration): ")  # not a sentence of ours


class Process(Watch):
    """One life of a worker. `slot`: the machine it runs on, whose snapshots and instance id it has."""

    def __init__(self, world: "World", slot: int, life: int) -> None:
        self.world, self.slot, self.name = world, slot, f"w{slot}.{life}"
        self.alive, self.stalled_until, self.doomed = True, 0.0, False
        self.phases: dict[int, tuple[Phase, str]] = {}
        self.member: MemoryMember | None = None
        weather = world.weather
        self.instance_id = f"instance-{slot}" if weather.static else None
        around = Surroundings(
            now=world.loop.time,
            sleep=self.sleep,
            in_thread=self.in_thread,
            aside=self.in_thread,
            unhurried=self.in_thread,
            new_key=lambda: world.rng.randbytes(16),
            say=lambda partition, sentence: world.note(self.name, f"partition {partition}: {sentence}"),
            watch=self,
        )
        kit = Kit(
            log=ProcessLog(self),
            names=world.names,
            partitions=world.partitions,
            rules=SimulatedRules(weather.rules_since, world.loop.time),
            snapshots=Snapshots(world.folder / str(slot), world.names.app_id),
            limits=weather.limits,
            around=around,
        )
        self.crew = Crew(kit, self._crashed)

    # ---- life and death

    async def start(self) -> None:
        PROCESS.set(self)
        try:
            await self.crew.join(self.instance_id)
        except Exception as problem:
            self._crashed(problem)

    async def leave(self) -> None:
        """A clean stop."""
        PROCESS.set(self)
        try:
            await self.crew.leave()
        except Exception as problem:
            self._crashed(problem)
            return
        self.world.note(self.name, "has left")
        self.alive = False
        self._expire_later()
        self.world.restart_later(self)

    def _crashed(self, problem: BaseException) -> None:
        self.world.bug_if(
            BUG.match(f"{type(problem).__name__}: ") is not None, f"exception: {self.name} crashed: {problem!r}"
        )
        self.die(f"crashed: {problem}")

    def die(self, why: str) -> None:
        if not self.alive:
            return
        self.world.note(self.name, f"dies: {why}")
        self.alive = False
        if self.member is not None:
            self.member.kill()
        self._expire_later()
        self.world.restart_later(self)

    def _expire_later(self) -> None:
        if self.member is not None:
            self.world.loop.call_later(self.world.weather.session_s, self.member.expire_session)

    def stall(self, seconds: float) -> None:
        """SIGSTOP, a long collection of garbage, a machine that sleeps."""
        loop, session_s = self.world.loop, self.world.weather.session_s
        self.stalled_until = loop.time() + seconds
        if self.member is not None and seconds > session_s:
            loop.call_later(session_s, self._expire_if_stalled, self.member)

    def _expire_if_stalled(self, member: MemoryMember) -> None:
        if not self.alive:
            return
        self.world.note(self.name, "its session expires while it is stalled")
        member.expire_session()
        self.world.loop.call_later(max(0.0, self.stalled_until - self.world.loop.time()), self._wake, member)

    def _wake(self, member: MemoryMember) -> None:
        if self.alive:
            self.world.note(self.name, "wakes and hears that it is out of the group")
            member.wake()

    async def gate(self) -> None:
        while True:
            if not self.alive:
                self.world.dead_waits.append(self.world.loop.create_future())
                await self.world.dead_waits[-1]
            left = self.stalled_until - self.world.loop.time()
            if left <= 0:
                return
            await asyncio.sleep(left)

    # ---- what its partition tasks are given

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.gate()

    async def in_thread(self, work: Callable[[], Any]) -> Any:
        await self.world.step("thread.before")
        done = work()
        await self.world.step("thread.after")
        return done

    def phase(self, partition: int, phase: Phase, why: str) -> None:
        if self.alive:
            self.phases[partition] = phase, why
            self.world.note(self.name, f"partition {partition} {phase.value} {why}")
            if phase is Phase.STOPPED:
                self.world.stopped(partition, why)

    def restoring(self, partition: int, topic: str, read: int, offset: int, end: int) -> None:
        """Nothing to see."""

    def committed(self, partition: int, report: BatchReport) -> None:
        self.world.committed(self, partition, report)

    def aborted(self, partition: int, why: str) -> None:
        """`phase` has told it."""

    def task(self, partition: int) -> PartitionTask | None:
        running = self.crew._running.get(partition)
        return None if running is None else running.task


class ProcessLog:
    """The log as one process reaches it: the world knows who asks, and with which writer."""

    def __init__(self, process: Process) -> None:
        self._process, self._log = process, process.world.log

    async def open_writer(self, transactional_id: str) -> Writer:
        return ProcessWriter(self._process, await self._log.open_writer(transactional_id), transactional_id)

    async def open_reader(self) -> Reader:
        return await self._log.open_reader()

    async def join(
        self, group: str, topics: Sequence[str], instance_id: str | None, assigned: Assigned, revoked: Revoked
    ) -> Member:
        member = await self._log.join(group, topics, instance_id, self._heard(assigned), self._heard(revoked))
        self._process.member = member
        return member

    def _heard(
        self, listener: Callable[[frozenset[int]], Awaitable[None]]
    ) -> Callable[[frozenset[int]], Awaitable[None]]:
        async def hear(numbers: frozenset[int]) -> None:
            PROCESS.set(self._process)
            self._process.world.note(self._process.name, f"{listener.__name__} {sorted(numbers)}")
            await self._process.world.step("listener.before")
            await listener(numbers)
            await self._process.world.step("listener.after")

        return hear

    async def partition_counts(self, topics: Sequence[str]) -> dict[str, int]:
        return await self._log.partition_counts(topics)

    async def close(self) -> None:
        """The world's log goes on."""


class ProcessWriter:
    """A writer that the world can tell from others while one of its requests is under way."""

    def __init__(self, process: Process, writer: MemoryWriter, transactional_id: str) -> None:
        self.process, self.inner, self.transactional_id = process, writer, transactional_id

    @property
    def tainted(self) -> bool:
        return self.inner.tainted

    async def begin(self) -> None:
        WRITER.set(self)
        await self.inner.begin()

    async def write(self, place: Place, body: bytes, count: int, codec: int = NONE) -> int:
        WRITER.set(self)
        return await self.inner.write(place, body, count, codec)

    async def write_all(self, bodies: Bodies) -> list[int]:
        return await each_written(self, bodies)

    async def transact(self, prepare: Prepare, group: str, in_thread: InThread) -> list[int]:
        return await step_by_step(self, prepare, group, in_thread)

    async def write_offsets(self, group: str, offsets: Mapping[Place, int]) -> None:
        WRITER.set(self)
        await self.inner.write_offsets(group, offsets)

    async def commit(self) -> None:
        WRITER.set(self)
        await self.inner.commit()

    async def abort(self) -> None:
        WRITER.set(self)
        await self.inner.abort()

    async def close(self) -> None:
        await self.inner.close()
