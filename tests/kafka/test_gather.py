"""When a batch is full of enough: the commit interval, on a loop whose time leaps to the next timer."""

import asyncio
from collections.abc import Callable, Sequence
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
        loop = asyncio.get_running_loop()
        if not self.coming or self.coming[0][0] > loop.time() + timeout_s:
            await asyncio.sleep(timeout_s)
            return {}
        await asyncio.sleep(max(self.coming[0][0] - loop.time(), 0.0))
        came_s, found = max(self.coming[0][0], loop.time()), dict[Place, list[Block]]()
        while self.coming and self.coming[0][0] <= came_s:
            found.setdefault(self.coming.pop(0)[1], []).append(Block(0, 1, 1, b"a record", 1_000))
        return found


def batches(
    coming: list[tuple[float, Place]], commit_s: float | Callable[[int], float] = 0.0, count: int = 1, full: int = 4
) -> list[tuple[int, int, float]]:
    """(calls, commands, when in ms it was full) of the first batches, each of which takes `commit_s` to commit; `full` records are one."""

    async def gather_all() -> list[tuple[int, int, float]]:
        loop, nothing = asyncio.get_running_loop(), cast(Any, None)
        around = Surroundings(now=loop.time, sleep=nothing, in_thread=nothing, aside=nothing, unhurried=nothing,
                              new_key=nothing, say=nothing, watch=nothing)  # fmt: skip
        limits = Limits(commit_interval_s=INTERVAL_S, records_max=full)
        member = cast(Any, Arrivals(coming))
        task = PartitionTask(0, 1, nothing, member, NAMES, nothing, nothing, limits, around)
        found = []
        while len(found) < count:
            fetched: Fetched = await task._gather()
            if fetched.count:
                found.append((len(fetched.calls), len(fetched.commands), round(loop.time() * 1000, 3)))
                await asyncio.sleep(commit_s(len(found) - 1) if callable(commit_s) else commit_s)
        return found

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(gather_all())


def test_a_call_after_a_pause_is_rated_at_once():
    assert batches([(3.0, CALLS)]) == [(1, 0, 3000.0)]


def test_calls_that_follow_are_gathered_until_an_interval_after_the_batch_before():
    coming = [(3.0, CALLS), (3.001, CALLS), (3.002, CALLS), (3.010, CALLS), (3.030, CALLS)]
    assert batches(coming, count=4) == [(1, 0, 3000.0), (1, 0, 3001.0), (2, 0, 3020.0), (1, 0, 3040.0)]


@pytest.mark.parametrize(("commit_ms", "full_ms"), [(5, 3020.0), (15, 3030.0), (50, 3100.0)])
def test_the_time_of_a_commit_is_part_of_the_interval(commit_ms: int, full_ms: float):
    coming = [(3.0, CALLS), (3.001, CALLS), (3.001 + commit_ms / 1000, CALLS)]
    found = batches(coming, commit_ms / 1000, count=3)
    assert found[1:] == [(1, 0, 3000.0 + commit_ms), (1, 0, full_ms)]


def test_what_comes_once_an_interval_waits_for_nothing_though_some_of_it_is_late():
    late_ms = [0, 3, 0, 19, 4, 0, 0, 12, 1, 0]
    came_ms = [3_000.0 + 20 * number + late for number, late in enumerate(late_ms)]
    found = batches([(ms / 1000, CALLS) for ms in came_ms], 0.001, count=len(came_ms))
    assert found == [(1, 0, ms) for ms in came_ms]


def test_after_a_commit_of_many_intervals_what_comes_once_an_interval_waits_for_nothing_again():
    """The loads that a slow commit kept waiting are one batch, and with them go the intervals it was late."""
    came_ms = [3_000.0 + 20 * number for number in range(40)]

    def commit_s(number: int) -> float:
        return 0.07 if number == 10 else 0.001

    found = batches([(ms / 1000, CALLS) for ms in came_ms], commit_s, count=36)
    slow = found[11]
    assert slow == (3, 0, 3_270.0)
    assert found[12:] == [(1, 0, ms) for ms in came_ms[14:38]]


@pytest.mark.parametrize("apart_ms", [0.5, 3, 7, 19, 20, 21])
def test_there_are_no_more_batches_than_intervals_but_for_the_first(apart_ms: float):
    came_s = [3 + number * apart_ms / 1000 for number in range(2_000)]
    full_ms = [at_ms for _, _, at_ms in batches([(at_s, CALLS) for at_s in came_s], 0.001, count=40, full=100)]
    for first in range(len(full_ms)):
        for last in range(first + 2, len(full_ms)):
            assert (full_ms[last] - full_ms[first]) / 20 >= last - first - 1 - 1e-6


def test_a_command_does_not_wait_and_takes_along_what_came_before_it():
    coming = [(3.0, CALLS), (3.001, CALLS), (3.002, CALLS), (3.005, ACCOUNT_COMMANDS), (3.006, CALLS)]
    assert batches(coming, count=4) == [(1, 0, 3000.0), (1, 0, 3001.0), (1, 1, 3005.0), (1, 0, 3025.0)]


def test_a_full_batch_does_not_wait():
    coming = [(3.0, CALLS), (3.001, CALLS), *((at_ms / 1000, CALLS) for at_ms in (3002, 3003, 3004, 3005, 3006))]
    assert batches(coming, count=4) == [(1, 0, 3000.0), (1, 0, 3001.0), (4, 0, 3005.0), (1, 0, 3025.0)]


@pytest.mark.parametrize("early", [[CALLS] * 4, [ACCOUNT_COMMANDS]], ids=["full", "with a command"])
def test_after_many_early_batches_a_call_waits_no_longer_than_an_interval(early: list[Place]):
    coming = [(3 + number / 1000, place) for number in range(500) for place in early]
    found = batches([*coming, (3.51, CALLS), (3.6, CALLS)], count=502)
    assert [at_ms for _, _, at_ms in found[-3:]] == [3499.0, 3519.0, 3600.0]
