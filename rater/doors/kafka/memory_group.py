"""Consumer groups in memory: eager rebalances, ranges of partition numbers, members that die, stall or come back.

A rebalance is one task of the group: everybody gives up everything (`revoked` is awaited), then everybody gets a range
(`assigned` is called). It waits for a member that does not answer until a test lets that member's session expire.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rater.doors.kafka.log import Assigned, Block, LogProblem, Place, Revoked
from rater.doors.kafka.memory_broker import Broker

NOTHING: frozenset[int] = frozenset()


class Group:
    """Offsets and members of a group. `generation` counts rebalances."""

    def __init__(self, name: str, broker: Broker) -> None:
        self.name = name
        self.broker = broker
        self.offsets: dict[Place, int] = {}
        self.generation = 0
        self.members: list[MemoryMember] = []  # in the order they joined
        self._wanted = False
        self._rebalance: asyncio.Task[None] | None = None

    def join(
        self, topics: Sequence[str], instance_id: str | None, assigned: Assigned, revoked: Revoked
    ) -> "MemoryMember":
        member = MemoryMember(self, topics, instance_id, assigned, revoked)
        older = next((one for one in self.members if instance_id and one.instance_id == instance_id), None)
        if older is None:
            self.members.append(member)
            self.want_rebalance()
        else:
            self._replace(older, member)
        return member

    def _replace(self, older: "MemoryMember", member: "MemoryMember") -> None:
        """A static member is back before its session expired: it takes over what it had, and nobody else is disturbed."""
        self.members[self.members.index(older)] = member
        older.leave(f"another process has joined group {self.name} as instance {older.instance_id}; stop one of them")
        if self._rebalance is None:
            member.take(older.share)
        else:
            self.want_rebalance()

    def remove(self, member: "MemoryMember") -> None:
        if member in self.members:
            self.members.remove(member)
            self.want_rebalance()

    def want_rebalance(self) -> None:
        self._wanted = True
        if self._rebalance is None:
            self._rebalance = asyncio.get_running_loop().create_task(self._rebalances(), name=f"rebalance {self.name}")

    async def _rebalances(self) -> None:
        try:
            while self._wanted:
                self._wanted = False
                for member in self.members:
                    member.give_up()
                for member in list(self.members):
                    await member.given_up()
                if not self._wanted:  # else somebody has come or gone meanwhile
                    self.generation += 1
                    for member, share in zip(self.members, self._ranges(), strict=True):
                        member.take(share)
        finally:
            self._rebalance = None

    def _ranges(self) -> list[frozenset[int]]:
        """Consecutive partition numbers for each; the first ones get one more where they do not divide evenly."""
        counts = [self.broker.topics[topic] for member in self.members for topic in member.topics]
        share, more = divmod(max(counts, default=0), max(len(self.members), 1))
        bounds = [k * share + min(k, more) for k in range(len(self.members) + 1)]
        return [frozenset(range(bounds[k], bounds[k + 1])) for k in range(len(self.members))]


@dataclass(slots=True)
class Held:
    """What a member knows of a place that is its own: it begins paused, and nobody has said where to read."""

    paused: bool = True
    position: int | None = None
    end: int | None = None


class MemoryMember:
    """`Member` in memory."""

    def __init__(
        self, group: Group, topics: Sequence[str], instance_id: str | None, assigned: Assigned, revoked: Revoked
    ) -> None:
        self.topics = tuple(topics)
        self.instance_id = instance_id
        self.share = NOTHING  # what the group gave it last
        self._group = group
        self._broker = group.broker
        self._assigned = assigned
        self._revoked = revoked
        self._mine = NOTHING  # what `assigned` was called with, and `revoked` not yet
        self._held: dict[Place, Held] = {}
        self._listening: asyncio.Task[None] | None = None  # the last call of a listener, behind all earlier ones
        self._dead = False  # killed or closed: it hears nothing of the group any more
        self._gone = asyncio.get_running_loop().create_future()  # done: the group no longer counts on it
        self._failure: BaseException | None = None
        self._turn = 0
        self.settled = False  # the group has said what is ours, also where it said nothing

    # ---------------------------------------------------------------------------------------- the interface

    async def committed(self, place: Place) -> int | None:
        await self._broker.before("committed")
        self._broker.partition(place)
        found = self._group.offsets.get(place)
        await self._broker.after("committed")
        return found

    def seek(self, place: Place, offset: int) -> None:
        self._of(place).position = offset
        self._broker.changed()

    def resume(self, places: Iterable[Place]) -> None:
        for place in places:
            self._of(place).paused = False
        self._broker.changed()

    def pause(self, places: Iterable[Place]) -> None:
        for place in places:
            self._of(place).paused = True

    def position(self, place: Place) -> int:
        position = self._of(place).position
        if position is None:
            raise LogProblem(f"{place} has no position yet; seek first")
        return position

    def end(self, place: Place) -> int | None:
        held = self._held.get(place)
        return None if held is None else held.end

    def _of(self, place: Place) -> Held:
        if place not in self._held:
            raise LogProblem(f"{place} is not assigned to this member of group {self._group.name}")
        return self._held[place]

    async def fetch(self, places: Sequence[Place], max_bytes: int, timeout_s: float) -> dict[Place, list[Block]]:
        await self._broker.before("fetch", fails=False)
        pause: asyncio.Future[Any] | None = None
        try:
            while True:
                found = self._look(places, max_bytes)
                if found or timeout_s <= 0 or (pause is not None and pause.done()):
                    break
                pause = pause or asyncio.ensure_future(self._broker.sleep(timeout_s))
                await self._broker.wait_for_change(pause)
        finally:
            if pause is not None:
                pause.cancel()
        await self._broker.after("fetch")
        self._raise_failure()
        # revoked, paused or told to read elsewhere while we waited: it stays unread
        return {place: blocks for place, (held, *seen, blocks) in found.items() if self._moves(place, held, *seen)}

    def _look(self, places: Sequence[Place], max_bytes: int) -> dict[Place, tuple[Held, int, int, list[Block]]]:
        """What there is, each place in its turn the first one asked; only markers and aborted records are passed at once."""
        self._raise_failure()
        found: dict[Place, tuple[Held, int, int, list[Block]]] = {}
        if self._broker.down or not places:
            return found
        self._turn = (self._turn + 1) % len(places)
        for place in (*places[self._turn :], *places[: self._turn]):
            held = self._held.get(place)
            if held is None or held.paused or held.position is None or (found and max_bytes <= 0):
                continue
            partition = self._broker.partition(place)
            blocks, following = partition.read(held.position, max_bytes)
            held.end = partition.stable
            if blocks:
                found[place] = held, held.position, following, blocks
                max_bytes -= sum(len(block.body) for block in blocks)
            else:
                held.position = following
        return found

    def _moves(self, place: Place, held: Held, position: int, following: int) -> bool:
        if self._held.get(place) is not held or held.paused or held.position != position:
            return False
        held.position = following
        return True

    async def close(self) -> None:
        if self._dead:
            return
        self._dead = True
        known = self._failure
        self._let_go()
        while self._listening is not None:
            await asyncio.wait([self._listening])
        if self.instance_id is None:
            self._group.remove(self)
        self.leave(f"this member of group {self._group.name} is closed")
        if self._failure is not known and not isinstance(self._failure, LogProblem):
            self._raise_failure()

    # ---------------------------------------------------------------------------------------- what the group does

    def give_up(self) -> None:
        if not self._dead:
            self._let_go()

    async def given_up(self) -> None:
        """Until its listeners have returned, or the group no longer counts on it."""
        while not self._gone.done() and (self._dead or self._listening is not None):
            on = [self._gone] if self._dead or self._listening is None else [self._gone, self._listening]
            await asyncio.wait(on, return_when=asyncio.FIRST_COMPLETED)

    def take(self, share: frozenset[int]) -> None:
        self.share = share
        self.settled = True
        if share and not self._dead:
            self._mine = share
            self._held = {Place(topic, number): Held() for topic in self.topics for number in sorted(share)}
            self._call(self._assigned, share)

    def leave(self, why: str) -> None:
        """The group no longer counts on it, and it hears so when it fetches."""
        self._dead = True
        self._held = {}
        if not self._gone.done():
            self._gone.set_result(None)
        self._fail(LogProblem(why))

    def _let_go(self) -> None:
        """From here on nothing is handed out; `revoked` is called, after `assigned` has returned."""
        self._held = {}
        self.settled = False
        numbers, self._mine = self._mine, NOTHING
        if numbers:
            self._call(self._revoked, numbers)

    def _call(self, listener: Assigned | Revoked, numbers: frozenset[int]) -> None:
        calling = asyncio.get_running_loop().create_task(self._listen(self._listening, listener, numbers))
        self._listening = calling
        calling.add_done_callback(self._heard)

    async def _listen(
        self, earlier: "asyncio.Task[None] | None", listener: Assigned | Revoked, numbers: frozenset[int]
    ) -> None:
        if earlier is not None:
            await asyncio.wait([earlier])
        try:
            await listener(numbers)
        except Exception as problem:
            self._fail(problem)
        except asyncio.CancelledError:
            self._fail(LogProblem(f"group {self._group.name}: a listener was cancelled"))
            raise

    def _heard(self, calling: "asyncio.Task[None]") -> None:
        if self._listening is calling:
            self._listening = None

    def _fail(self, problem: BaseException) -> None:
        """The first thing that went wrong is what every `fetch` raises from now on."""
        self._failure = self._failure or problem
        self._broker.changed()

    def check(self) -> None:
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    # ---------------------------------------------------------------------------------------- what a test may do

    def kill(self) -> None:
        """The process is gone, without a word: its partitions stay with it until its session expires."""
        self._dead = True
        self._held = {}
        if self._listening is not None:
            self._listening.cancel()
        self._fail(LogProblem(f"this member of group {self._group.name} was killed"))

    def expire_session(self) -> None:
        """The group gives its partitions to others. A member that lives has not heard of it: it goes on with what it has."""
        if not self._gone.done():
            self._gone.set_result(None)
        self._group.remove(self)

    def wake(self) -> None:
        """A member whose session has expired hears of it: it gives up everything and joins anew."""
        if not self._dead and self._gone.done():
            self._gone = asyncio.get_running_loop().create_future()
            self._let_go()
            self._group.members.append(self)
            self._group.want_rebalance()
