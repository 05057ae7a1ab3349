"""Snapshots beside rating: a partition that writes one holds up nobody, and the next one waits for its turn."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rater.core.state import State
from rater.doors.clock import stopwatch
from rater.doors.kafka import rests
from rater.doors.kafka.crew import Crew
from rater.doors.kafka.log import Place
from rater.doors.kafka.names import CDRS
from rater.doors.kafka.rests import Rest, no_rest
from rater.doors.kafka.snapshot import Base, Image, Snapshots, image_bytes, image_of
from rater.doors.kafka.snapshot_keeper import SnapshotKeeper
from rater.doors.kafka.surroundings import Surroundings
from tests.kafka.harness import APP, STUCK_S, Bench
from tests.kafka.test_changelog import mark_of

RATES = Path(__file__).resolve().parents[2] / "rates" / "example-usd"


class SlowDisk(Snapshots):
    """A snapshot is written at once, and its thread is kept until `released`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, APP)
        self.written: list[int] = []
        self.released = asyncio.Event()

    def save(self, partition: int, image: Image, rest: Rest = no_rest) -> int:
        self.written.append(partition)
        return super().save(partition, image, rest)

    async def unhurried(self, work: Callable[[], Any]) -> Any:
        before = len(self.written)
        result = work()
        if len(self.written) > before:
            await self.released.wait()
        return result


async def rate_more(bench: Bench) -> None:
    for partition in range(bench.partitions):
        bench.put(Place(CDRS, partition), [(b"nobody", b"{")] * 3)
    while not bench.rated():
        await asyncio.sleep(0.001)


def on_a_slow_disk(bench: Bench, crashed: list[BaseException]) -> tuple[Crew, SlowDisk]:
    """A worker whose partitions always want a snapshot."""
    bench.limits = replace(bench.limits, snapshot_interval_s=0.001)
    disk = bench.snapshots = SlowDisk(bench.folder / "snapshots")
    kit = bench.kit()
    return Crew(replace(kit, around=replace(kit.around, unhurried=disk.unhurried)), crashed.append), disk


def test_while_one_partition_writes_its_snapshot_all_go_on_and_no_other_begins_one(tmp_path: Path):
    async def go() -> None:
        bench = Bench(tmp_path, RATES)
        crashed: list[BaseException] = []
        crew, disk = on_a_slow_disk(bench, crashed)
        async with asyncio.timeout(STUCK_S):
            await crew.join(None)
            for _ in range(5):
                await rate_more(bench)
            assert len(disk.written) == 1
            disk.released.set()
            while set(disk.written) != {0, 1}:
                await rate_more(bench)
            await crew.leave()
        assert crashed == []

    asyncio.run(go())


def test_who_takes_over_from_a_worker_that_ends_waits_for_no_snapshot_of_it(tmp_path: Path):
    """The worker itself ends when it is written."""

    async def go() -> None:
        bench = Bench(tmp_path, RATES)
        crashed: list[BaseException] = []
        ending, disk = on_a_slow_disk(bench, crashed)
        other = Snapshots(tmp_path / "another machine's", APP)
        following = Crew(replace(bench.kit(), snapshots=other), crashed.append)
        async with asyncio.timeout(STUCK_S):
            await ending.join(None)
            while not disk.written:
                await rate_more(bench)
            leaving = asyncio.create_task(ending.leave())
            await following.join(None)
            for _ in range(3):
                await rate_more(bench)
            assert following.assigned == {0, 1}
            assert not leaving.done()
            disk.released.set()
            await leaving
            await following.leave()
        assert crashed == []

    asyncio.run(go())


def test_a_disk_that_refuses_a_snapshot_does_not_keep_the_turn(tmp_path: Path):
    class FullDisk(Snapshots):
        def save(self, partition: int, image: Image, *_rest: Rest) -> int:
            raise OSError(f"no space left for partition {partition} ({len(image.parts)} parts)")

    async def go() -> list[str]:
        bench = Bench(tmp_path, RATES)
        bench.limits = replace(bench.limits, snapshot_interval_s=0.001)
        bench.snapshots = FullDisk(tmp_path / "snapshots", APP)
        crew = Crew(bench.kit(), lambda problem: bench.said.append(str(problem)))
        async with asyncio.timeout(STUCK_S):
            await crew.join(None)
            while not all(any(f"partition {p} " in said for said in bench.said) for p in range(2)):
                await rate_more(bench)
            await crew.leave()
        return [said for said in bench.said if said.startswith("no snapshot")]

    assert len(asyncio.run(go())) >= 2


def keepers(bench: Bench, count: int) -> tuple[list[SnapshotKeeper], Surroundings]:
    around = bench.kit().around
    made = [SnapshotKeeper(p, count, APP, bench.snapshots, 0.0, around) for p in range(count)]
    for keeper in made:
        keeper.taken_over()
    return made, around


async def until_nothing_moves() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_a_partition_that_loses_its_state_passes_its_turn_on(tmp_path: Path):
    async def go() -> None:
        bench = Bench(tmp_path, RATES)
        (first, second), around = keepers(bench, 2)
        base = Base(State.empty(), mark_of(State.empty(), 1), 0, 0, 0)
        await first.between_batches(base)
        await second.between_batches(base)
        await (
            until_nothing_moves()
        )  # the first has its turn and waits for a batch to end, the second waits for its turn
        first.lost()
        await until_nothing_moves()
        await second.between_batches(base)
        await second.end()
        assert [bench.snapshots.path(p).exists() for p in (0, 1)] == [False, True]
        assert not around.saving.locked()
        await first.end()

    asyncio.run(go())


def test_a_partition_without_a_state_does_not_take_its_turn_to_wait_for_one(tmp_path: Path):
    async def go() -> None:
        bench = Bench(tmp_path, RATES)
        (first,), around = keepers(bench, 1)
        await first.between_batches(Base(State.empty(), mark_of(State.empty(), 1), 0, 0, 0))
        first.lost()
        await until_nothing_moves()
        assert not around.saving.locked()
        assert not bench.snapshots.path(0).exists()

    asyncio.run(go())


def test_whoever_is_released_before_its_turn_begins_nothing(tmp_path: Path):
    async def go() -> None:
        bench = Bench(tmp_path, RATES)
        (first, second), around = keepers(bench, 2)
        base = Base(State.empty(), mark_of(State.empty(), 1), 0, 0, 0)
        async with around.saving:  # somebody else's turn, for as long as that takes
            await first.between_batches(base)
            await until_nothing_moves()
            await first.end()
        await second.between_batches(base)
        await until_nothing_moves()
        await second.end()  # it has its turn, and no image yet
        await until_nothing_moves()
        assert not around.saving.locked()
        assert not list(bench.snapshots.folder.glob("*"))

    asyncio.run(go())


def test_a_partition_that_is_cancelled_while_its_state_is_copied_keeps_its_turn_until_that_has_ended(tmp_path: Path):
    """The room is the worker's: another partition's image would be written into at the same time."""

    async def go() -> None:
        bench = Bench(tmp_path, RATES)
        copying, copied, begun = asyncio.Event(), asyncio.Event(), []

        async def unhurried(work: Callable[[], Any]) -> Any:
            begun.append(work)
            if len(begun) == 2:  # there is room; the state is being copied
                copying.set()
                await copied.wait()
            return work()

        around = replace(bench.kit().around, unhurried=unhurried)
        keeper = SnapshotKeeper(0, 1, APP, bench.snapshots, 0.0, around)
        keeper.taken_over()
        base = Base(State.empty(), mark_of(State.empty(), 1), 0, 0, 0)
        await keeper.between_batches(base)
        await until_nothing_moves()
        waiting = asyncio.create_task(keeper.between_batches(base))
        await copying.wait()
        waiting.cancel()
        await until_nothing_moves()
        assert waiting.cancelled()
        assert around.saving.locked()
        ending = asyncio.create_task(keeper.end())
        await until_nothing_moves()
        assert not ending.done()  # whoever gets the partition next would change what is being copied
        copied.set()
        await ending
        async with around.saving:
            assert bench.snapshots.path(0).exists()

    asyncio.run(go())


def test_a_partition_whose_state_is_copied_waits_for_no_restore_of_another(tmp_path: Path):
    async def restoring(_: Callable[[], Any]) -> Any:
        await asyncio.Event().wait()

    async def go() -> None:
        bench = Bench(tmp_path, RATES)
        keeper = SnapshotKeeper(0, 1, APP, bench.snapshots, 0.0, replace(bench.kit().around, aside=restoring))
        keeper.taken_over()
        base = Base(State.empty(), mark_of(State.empty(), 1), 0, 0, 0)
        async with asyncio.timeout(STUCK_S):
            while not bench.snapshots.path(0).exists():
                await keeper.between_batches(base)
                await until_nothing_moves()
        await keeper.end()

    asyncio.run(go())


def test_the_same_batch_is_not_written_twice(tmp_path: Path):
    async def go() -> int:
        bench = Bench(tmp_path, RATES)
        disk = bench.snapshots = SlowDisk(tmp_path / "snapshots")
        disk.released.set()
        (keeper,), _ = keepers(bench, 1)
        for batch in (1, 1, 1, 2):
            for _ in range(3):
                await keeper.between_batches(Base(State.empty(), mark_of(State.empty(), batch), 0, 0, 0))
                await until_nothing_moves()
        await keeper.end()
        return len(disk.written)

    assert asyncio.run(go()) == 2


def state_with_ids(count: int) -> State:
    state = State.empty()
    state.restore_seen(np.random.default_rng(5).integers(1, 1 << 62, (count, 2), np.uint64))
    return state


def test_room_and_file_are_made_in_steps_with_a_rest_after_each(tmp_path: Path):
    state, rested = state_with_ids(200_000), []  # 3.2 MB
    base, disk = Base(state, mark_of(state, 1), 0, 0, 0), Snapshots(tmp_path, APP)
    disk.room.make(image_bytes(state), lambda: rested.append("room"))
    disk.save(0, image_of(base, APP, disk.room), lambda: rested.append("file"))
    assert rested.count("room") == 16
    assert rested.count("file") == 13 + 3  # of the ids; of what stands before them


@pytest.mark.parametrize(("partitions", "due"), [(1, [60.0]), (2, [30.0, 60.0]), (3, [20.0, 40.0, 60.0])])
def test_the_first_snapshots_are_due_one_after_the_other_in_the_first_interval(
    tmp_path: Path, partitions: int, due: list[float]
):
    """And an interval later each again: taken all at once, they would wait for each other every time."""

    async def go() -> None:
        bench = Bench(tmp_path, RATES)
        clock = [1_000.0]
        around = replace(bench.kit().around, now=lambda: clock[0])
        disk = bench.snapshots = SlowDisk(tmp_path / "snapshots")
        disk.released.set()
        keepers = [SnapshotKeeper(p, partitions, APP, disk, 60.0, around) for p in range(partitions)]
        for keeper in keepers:
            keeper.taken_over()
        batch = 0
        for rounds in (0.0, 60.0):
            for at in due:
                for moment in (1_000.0 + rounds + at - 0.001, 1_000.0 + rounds + at):
                    clock[0], batch, before = moment, batch + 1, len(disk.written)
                    for _ in range(3):
                        for keeper in keepers:
                            await keeper.between_batches(Base(State.empty(), mark_of(State.empty(), batch), 0, 0, 0))
                        await until_nothing_moves()
                    on_time = moment == 1_000.0 + rounds + at
                    assert disk.written[before:] == ([due.index(at)] if on_time else [])
        for keeper in keepers:
            await keeper.end()

    asyncio.run(go())


def test_a_snapshot_that_others_wait_for_rests_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    waited: list[float] = []
    monkeypatch.setattr(rests, "stopwatch", lambda: lambda: 0.25)

    async def go() -> None:
        bench = Bench(tmp_path, RATES)
        (keeper,), around = keepers(bench, 1)
        monkeypatch.setattr(keeper._errand.rests, "_hurry", type("Hurry", (), {"wait": staticmethod(waited.append)}))
        keeper._errand.rests.rest()
        async with around.saving:
            other = asyncio.create_task(turn_of(around))
            await until_nothing_moves()
            keeper._errand.rests.rest()
        await other
        keeper._errand.rests.rest()

    asyncio.run(go())
    assert waited == [2.0, 0.5, 2.0]


async def turn_of(around: Surroundings) -> None:
    async with around.saving:
        pass


def test_whoever_has_to_go_rests_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rests, "REST_SHARE", 10_000)  # more than ten seconds after each step
    monkeypatch.setattr(rests, "REST_MAX_S", 3_600.0)

    async def go() -> float:
        bench = Bench(tmp_path, RATES)
        around = replace(bench.kit().around, aside=asyncio.to_thread, unhurried=asyncio.to_thread)
        keeper = SnapshotKeeper(0, 1, APP, bench.snapshots, 0.0, around)
        keeper.taken_over()
        state = state_with_ids(200_000)
        base = Base(state, mark_of(state, 1), 0, 0, 0)
        await keeper.between_batches(base)
        bench.snapshots.room.make(image_bytes(state))
        while not list(bench.snapshots.folder.glob("*.part")):
            await keeper.between_batches(base)
            await asyncio.sleep(0.001)
        taken = stopwatch()
        await keeper.end()
        async with around.saving:
            assert bench.snapshots.path(0).exists()
        return taken()

    assert asyncio.run(go()) < 60
