"""What takes long beside rating: its rests and its turn."""

import asyncio

import numpy as np
import pytest

from rater.doors.kafka import rests
from rater.doors.kafka.fresh_memory import ask_for
from rater.doors.kafka.rests import STEP_BYTES, Rests, Turns, no_rest


@pytest.mark.parametrize(
    ("worked", "rested"),
    [(0.001, 0.008), (0.25, 2.0), (3_600.0, 2.0)],
    ids=["a step", "the longest", "a machine that stood still"],
)
def test_a_rest_is_eight_times_as_long_as_the_work_before_it_and_two_seconds_at_most(
    worked: float, rested: float, monkeypatch: pytest.MonkeyPatch
):
    resting, waited = Rests(Turns()), []
    monkeypatch.setattr(rests, "stopwatch", lambda: lambda: worked)
    monkeypatch.setattr(resting, "_hurry", type("Hurry", (), {"wait": staticmethod(waited.append)}))
    resting.begin()
    resting.rest()
    resting.rest()
    assert waited == [rested, rested]


def test_turns_are_taken_one_at_a_time_in_order_and_whoever_gives_up_is_no_longer_counted():
    async def go() -> None:
        turns, taken = Turns(), []

        async def take(name: str) -> None:
            async with turns:
                taken.append(name)

        async with turns:
            waiting = [asyncio.create_task(take(name)) for name in "abc"]
            await asyncio.sleep(0)
            assert (turns.locked(), turns.waiting, taken) == (True, 3, [])
            waiting[1].cancel()
            await asyncio.sleep(0)
            assert turns.waiting == 2
        await asyncio.wait(waiting)
        assert (turns.locked(), turns.waiting, taken) == (False, 0, ["a", "c"])

    asyncio.run(go())


def test_memory_is_asked_for_in_pieces_that_let_other_threads_run():
    """numpy keeps the interpreter to itself while it writes few items, however long the system takes for each."""
    pieces: list[slice] = []

    class Watched(np.ndarray):
        def __setitem__(self, piece: slice, value: int) -> None:
            pieces.append(piece)
            super().__setitem__(piece, value)

    memory = np.empty(3 * STEP_BYTES + 5, np.uint8).view(Watched)
    ask_for(memory, no_rest)
    assert [(piece.start, piece.step) for piece in pieces] == [(k * STEP_BYTES, None) for k in range(4)]
    assert not memory.any()
