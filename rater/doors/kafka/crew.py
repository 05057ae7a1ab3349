"""The partition tasks of one process: begun when the group assigns, ended when it revokes."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from rater.doors.kafka.log import Log, Member
from rater.doors.kafka.names import INPUTS, Names
from rater.doors.kafka.snapshot import Base, Snapshots
from rater.doors.kafka.surroundings import Backlog, Limits, Rules, Surroundings
from rater.doors.kafka.task import PartitionTask

KEPT_S = 600.0  # how long the state of a partition that went elsewhere stays in memory, in case it comes back


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """What every partition task of a process is made with."""

    log: Log
    names: Names
    partitions: int
    rules: Rules
    snapshots: Snapshots
    limits: Limits
    around: Surroundings


@dataclass(slots=True)
class _Running:
    task: PartitionTask
    ended: asyncio.Task[None]


class Crew:
    """`crash` is called with whatever a partition task cannot survive: the process must end then, and start anew."""

    def __init__(self, kit: Kit, crash: Callable[[BaseException], None]) -> None:
        self._kit, self._crash = kit, crash
        self._running: dict[int, _Running] = {}
        self._kept: dict[int, tuple[float, Base]] = {}
        self._member: Member | None = None
        self._joined: asyncio.Future[Member]

    async def join(self, instance_id: str | None) -> None:
        """Become a member of the group; partitions come with `assigned`."""
        names = self._kit.names
        topics = [names.topic(name) for name in INPUTS]
        joining = asyncio.get_running_loop().create_future()
        self._joined = joining
        self._member = await self._kit.log.join(names.app_id, topics, instance_id, self._assigned, self._revoked)
        joining.set_result(self._member)

    def check(self) -> None:
        """Raises what ended the membership for good. With no partition left nobody fetches, and nobody else would hear of it."""
        if self._member is not None:
            self._member.check()

    def backlogs(self) -> dict[int, Backlog]:
        """What waits in front of each partition here: for whoever scrapes, nobody is asked."""
        return {number: running.task.backlog() for number, running in self._running.items()}

    def task(self, partition: int) -> PartitionTask | None:
        """The task of a partition that is ours."""
        running = self._running.get(partition)
        return None if running is None else running.task

    @property
    def assigned(self) -> frozenset[int] | None:
        """The partitions that are ours, be it none; None until the group has said so: "all of them run" means nothing then."""
        settled = self._member is not None and self._member.settled
        return frozenset(self._running) if settled else None

    async def leave(self) -> None:
        """Finish what is under way, give the partitions back, leave the group."""
        if self._member is not None:
            await self._member.close()
            self._member = None
        async with self._kit.around.saving:  # the snapshot on its way: only we wait for it now
            pass

    async def _assigned(self, numbers: frozenset[int]) -> None:
        for number in sorted(numbers):
            self._around_say(number, "assigned")
            self._running[number] = await self._begin(number)

    async def _begin(self, number: int) -> _Running:
        kit = self._kit
        _, kept = self._kept.pop(number, (0.0, None))
        member = await asyncio.shield(self._joined)
        task = PartitionTask(number, kit.partitions, kit.log, member, kit.names, kit.rules, kit.snapshots, kit.limits,
                             kit.around, kept)  # fmt: skip
        running = asyncio.create_task(task.run(), name=f"partition {number}")
        running.add_done_callback(self._ended)
        return _Running(task, running)

    def _ended(self, ended: asyncio.Task[None]) -> None:
        if not ended.cancelled() and (problem := ended.exception()) is not None:
            self._crash(problem)

    async def _revoked(self, numbers: frozenset[int]) -> None:
        """Returns when nothing of these partitions can be written by us any more."""
        going = {number: self._running.pop(number) for number in sorted(numbers) if number in self._running}
        for running in going.values():
            running.task.stop()
        if going:
            await asyncio.wait([running.ended for running in going.values()])
        now = self._kit.around.now()
        self._kept = {number: (since, base) for number, (since, base) in self._kept.items() if now - since < KEPT_S}
        for number, running in going.items():
            if running.task.base is not None:
                self._kept[number] = (now, running.task.base)

    def _around_say(self, number: int, sentence: str) -> None:
        self._kit.around.say(number, sentence)
