"""When a batch is full of enough: the commit interval, on a loop whose time leaps to the next timer."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import pytest

from rater.doors.kafka.fetched import Fetched
from rater.doors.kafka.log import Block, Place
from rater.doors.kafka.names import CDRS, COMMANDS, Names
from rater.doors.kafka.surroundings import Limits, Surroundings
from rater.doors.kafka.task import PartitionTask
from tests.kafka.simulation_loop import VirtualLoop

NAMES = Names("rating")
CALLS, ACCOUNT_COMMANDS = NAMES.place(CDRS, 0), NAMES.place(COMMANDS, 0)
INTERVAL_S = 0.02


@dataclass
class Arrivals:
    """The fetching half of a `Member`: (seconds, place) of blocks that come one after the other."""

    coming: list[tuple[float, Place]]

    async def fetch(self, _places: Sequence[Place], _max_bytes: int, timeout_s: float) -> dict[Place, list[Block]]:
        now = asyncio.get_running_loop().time()
        if not self.coming or self.coming[0][0] > now + timeout_s:
            await asyncio.sleep(timeout_s)
            return {}
        at_s, place = self.coming.pop(0)
        await asyncio.sleep(max(at_s - now, 0.0))
        return {place: [Block(0, 1, 1, b"a record", 1_000)]}


def batches(coming: list[tuple[float, Place]], commit_s: float = 0.0, count: int = 1) -> list[tuple[int, int, float]]:
    """(calls, commands, when in ms it was full) of the first batches, each of which takes `commit_s` to commit."""

    async def gather_all() -> list[tuple[int, int, float]]:
        loop, nothing = asyncio.get_running_loop(), cast(Any, None)
        around = cast(Surroundings, type("Around", (), {"now": staticmethod(loop.time)}))
        limits = Limits(commit_interval_s=INTERVAL_S, records_max=4)
        member = cast(Any, Arrivals(coming))
        task = PartitionTask(0, 1, nothing, member, NAMES, nothing, nothing, limits, around)
        found = []
        while len(found) < count:
            fetched: Fetched = await task._gather()
            if fetched.count:
                found.append((len(fetched.calls), len(fetched.commands), round(loop.time() * 1000, 3)))
                await asyncio.sleep(commit_s)
        return found

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(gather_all())


def test_a_call_after_a_pause_is_rated_at_once():
    assert batches([(3.0, CALLS)]) == [(1, 0, 3000.0)]


def test_calls_that_follow_are_gathered_until_an_interval_after_the_batch_before():
    coming = [(3.0, CALLS), (3.002, CALLS), (3.010, CALLS), (3.030, CALLS)]
    assert batches(coming, count=3) == [(1, 0, 3000.0), (2, 0, 3020.0), (1, 0, 3040.0)]


@pytest.mark.parametrize(("commit_ms", "full_ms"), [(5, 3020.0), (15, 3020.0), (50, 3050.0)])
def test_the_time_of_a_commit_is_part_of_the_interval(commit_ms: int, full_ms: float):
    found = batches([(3.0, CALLS), (3.001, CALLS)], commit_ms / 1000, count=2)
    assert found[1] == (1, 0, full_ms)


def test_a_command_does_not_wait_and_takes_along_what_came_before_it():
    coming = [(3.0, CALLS), (3.002, CALLS), (3.005, ACCOUNT_COMMANDS), (3.006, CALLS)]
    assert batches(coming, count=3) == [(1, 0, 3000.0), (1, 1, 3005.0), (1, 0, 3025.0)]


def test_a_full_batch_does_not_wait():
    coming = [(3.0, CALLS), *((3.002, CALLS) for _ in range(5))]
    assert batches(coming, count=3) == [(1, 0, 3000.0), (4, 0, 3002.0), (1, 0, 3022.0)]
