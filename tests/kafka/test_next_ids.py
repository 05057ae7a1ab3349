"""Memory for the next set of ids, asked for beside rating."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rater.core.state import State
from rater.doors.kafka.next_ids import NextIds, ready_slots
from rater.doors.kafka.surroundings import Surroundings
from tests.kafka.harness import STUCK_S, Bench
from tests.kafka.test_snapshot_turns import RATES

ALMOST = 148_000  # ids in a set of 262,144 slots, whose last quarter has begun


def almost_full() -> State:
    state = State.empty()
    state.restore_seen(np.random.default_rng(1).integers(1, 1 << 62, (ALMOST, 2), np.uint64))
    assert state.slots_to_make_ready() == 524_288
    return state


class Unhurried:
    """Works in a thread, when it may."""

    def __init__(self) -> None:
        self.may = asyncio.Event()
        self.asked = self.done = 0

    async def __call__(self, work: Callable[[], Any]) -> Any:
        self.asked += 1
        await self.may.wait()
        made = await asyncio.to_thread(work)
        self.done += 1
        return made

    async def has_done(self, times: int) -> None:
        """Its work is handed over: with rests, that takes a busy machine a while."""
        async with asyncio.timeout(STUCK_S):
            while self.done < times:
                await asyncio.sleep(0.001)
        await settled()


def surroundings(folder: Path, unhurried: Any, told: list[str]) -> Surroundings:
    around = Bench(folder, RATES).kit().around
    return replace(around, unhurried=unhurried, say=lambda _, sentence: told.append(sentence))


async def settled() -> None:
    for _ in range(200):
        await asyncio.sleep(0.001)


def test_memory_is_asked_for_once_beside_the_batches_and_handed_over_between_two(tmp_path: Path):
    async def go() -> None:
        told: list[str] = []
        unhurried, state = Unhurried(), almost_full()
        keeper = NextIds(0, surroundings(tmp_path, unhurried, told))
        for _ in range(5):
            keeper.between_batches(state)
            await asyncio.sleep(0)
        assert unhurried.asked == 1
        assert state.ready is None
        unhurried.may.set()
        async with asyncio.timeout(STUCK_S):
            while state.ready is None:
                await asyncio.sleep(0.001)
                keeper.between_batches(state)
        assert state.ready.shape == (524_288, 2)
        assert not state.ready.any()
        keeper.between_batches(state)
        await settled()
        assert unhurried.asked == 1
        assert told == []
        await keeper.end()

    asyncio.run(go())


def test_a_state_with_room_asks_for_nothing(tmp_path: Path):
    async def go() -> None:
        unhurried = Unhurried()
        keeper = NextIds(0, surroundings(tmp_path, unhurried, []))
        keeper.between_batches(State.empty())
        await settled()
        assert unhurried.asked == 0
        await keeper.end()

    asyncio.run(go())


def test_memory_made_for_a_state_that_was_thrown_away_serves_the_one_after_it(tmp_path: Path):
    async def go() -> None:
        unhurried = Unhurried()
        unhurried.may.set()
        keeper, other = NextIds(0, surroundings(tmp_path, unhurried, [])), almost_full()
        keeper.between_batches(almost_full())
        await unhurried.has_done(1)
        keeper.between_batches(State.empty())  # let go: it has another size
        keeper.between_batches(other)
        await unhurried.has_done(2)
        keeper.between_batches(other)
        assert other.ready is not None
        assert unhurried.asked == 2
        await keeper.end()

    asyncio.run(go())


def test_no_memory_is_said_and_tried_again_and_rating_goes_on(tmp_path: Path):
    async def refuse(_: Callable[[], Any]) -> Any:
        raise MemoryError("8 MiB")

    async def go() -> None:
        told: list[str] = []
        keeper, state = NextIds(0, surroundings(tmp_path, refuse, told)), almost_full()
        for _ in range(2):
            keeper.between_batches(state)
            await settled()
        assert told == ["no memory yet for 524288 slots of ids: 8 MiB"] * 2
        await keeper.end()

    asyncio.run(go())


def test_one_partition_at_a_time_asks_for_memory_and_whoever_ends_before_its_turn_asks_for_none(tmp_path: Path):
    async def go() -> None:
        unhurried = Unhurried()
        around = surroundings(tmp_path, unhurried, [])
        keepers, states = [NextIds(p, around) for p in range(3)], [almost_full() for _ in range(3)]
        for keeper, state in zip(keepers, states, strict=True):
            keeper.between_batches(state)
        await settled()
        assert (unhurried.asked, around.making_room.waiting) == (1, 2)
        await keepers[1].end()
        unhurried.may.set()
        async with asyncio.timeout(STUCK_S):
            while states[0].ready is None or states[2].ready is None:
                await asyncio.sleep(0.001)
                for p in (0, 2):
                    keepers[p].between_batches(states[p])
        assert unhurried.asked == 2
        assert states[1].ready is None
        assert not around.making_room.locked()
        for p in (0, 2):
            await keepers[p].end()

    asyncio.run(go())


def test_memory_that_is_no_longer_wanted_when_its_turn_comes_is_not_asked_for(tmp_path: Path):
    async def go() -> None:
        unhurried = Unhurried()
        unhurried.may.set()
        around = surroundings(tmp_path, unhurried, [])
        keeper = NextIds(0, around)
        async with around.making_room:  # somebody else's turn
            keeper.between_batches(almost_full())
            await settled()
            keeper.between_batches(State.empty())
        await settled()
        assert unhurried.asked == 0
        keeper.between_batches(almost_full())
        await settled()
        assert unhurried.asked == 1
        await keeper.end()

    asyncio.run(go())


def test_a_worker_that_ends_waits_for_no_memory():
    steps: list[int] = []
    ended = threading.Event()

    def rest() -> None:
        steps.append(1)
        if len(steps) == 3:
            ended.set()

    assert ready_slots(1 << 20, rest, ended).shape == (1 << 20, 2)
    assert len(steps) == 3


@pytest.mark.parametrize("slots", [1 << 10, 1 << 17])
def test_all_of_the_memory_is_asked_for_in_steps(slots: int):
    steps: list[int] = []
    assert not ready_slots(slots, lambda: steps.append(1), threading.Event()).any()
    assert len(steps) == max(slots * 16 >> 18, 1)
