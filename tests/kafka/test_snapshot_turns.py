"""Snapshots beside rating: a partition that writes one holds up nobody, and the next one waits for its turn."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rater.doors.kafka.crew import Crew
from rater.doors.kafka.log import Place
from rater.doors.kafka.names import CDRS
from rater.doors.kafka.snapshot import Image, Snapshots
from tests.kafka.harness import APP, STUCK_S, Bench

RATES = Path(__file__).resolve().parents[2] / "rates" / "example-usd"


class SlowDisk(Snapshots):
    """A snapshot is written at once, and its thread is kept until `released`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, APP)
        self.written: list[int] = []
        self.released = asyncio.Event()

    def save(self, partition: int, image: Image) -> int:
        self.written.append(partition)
        return super().save(partition, image)

    async def aside(self, work: Callable[[], Any]) -> Any:
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


def test_while_one_partition_writes_its_snapshot_all_go_on_and_no_other_begins_one(tmp_path: Path):
    async def go() -> None:
        bench = Bench(tmp_path, RATES)
        bench.limits = replace(bench.limits, snapshot_interval_s=0.001)
        disk = bench.snapshots = SlowDisk(tmp_path / "snapshots")
        kit = bench.kit()
        crashed: list[BaseException] = []
        crew = Crew(replace(kit, around=replace(kit.around, aside=disk.aside)), crashed.append)
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


def test_a_disk_that_refuses_a_snapshot_does_not_keep_the_turn(tmp_path: Path):
    class FullDisk(Snapshots):
        def save(self, partition: int, image: Image) -> int:
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
