"""A partition that stands: nobody fetches for it, and its lag is known all the same."""

import asyncio
from pathlib import Path

import pytest

from rater.doors.kafka.crew import Crew
from rater.doors.kafka.log import LogTimeout, Place
from rater.doors.kafka.measures import Measures
from rater.doors.kafka.names import CDRS
from rater.doors.kafka.standing import Standing
from rater.doors.kafka.status import StatusBoard
from rater.doors.metrics import WorkerMetrics, new_registry
from tests.kafka.harness import APP, Bench

RATES = Path(__file__).resolve().parents[2] / "rates" / "example-usd"
NOW_MS = 1_800_000_000_000


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """One partition whose offsets somebody moved: its workers stop it."""
    bench = Bench(tmp_path, RATES, partitions=1)
    bench.log.broker.clock = lambda: NOW_MS - 60_000
    bench.put(Place(CDRS, 0), [(b"nobody", b"{")] * 3)
    bench.run()
    bench.put(Place(CDRS, 0), [(b"nobody", b"{")] * 5)
    bench.log.set_offset(APP, Place(CDRS, 0), 1)
    return bench


async def looked_at(bench: Bench, fails: bool = False) -> dict[str, float | None]:
    registry = new_registry()
    board = StatusBoard(Measures(WorkerMetrics(registry)), now_ms=lambda: NOW_MS)
    bench.seen = board  # type: ignore[assignment]  # a `Watch`, too
    crew = Crew(bench.kit(), lambda problem: pytest.fail(str(problem)))
    board.watch_crew(crew, 1)
    await crew.join(None)
    while board.partitions.get(0) is None or board.partitions[0].phase != "stopped":
        await asyncio.sleep(0.001)
    standing = Standing(bench.log, bench.names, board)
    if fails:

        async def unreachable() -> None:
            raise LogTimeout("no broker")

        bench.log.open_reader = unreachable  # type: ignore[method-assign, assignment]
    await standing.look()
    board.look_ahead()
    found = {
        "records": registry.get_sample_value("rater_lag_records", {"partition": "0", "input": "cdrs"}),
        "seconds": registry.get_sample_value("rater_lag_seconds", {"partition": "0"}),
        "end": registry.get_sample_value("rater_input_end_offset", {"partition": "0", "input": "cdrs"}),
    }
    assert not board.ready()
    await standing.close()
    await crew.leave()
    return found


def test_what_waits_before_a_stopped_partition_is_asked_for(bench: Bench):
    found = asyncio.run(looked_at(bench))
    assert found["end"] == 8
    assert found["records"] == 7  # the group's offset was moved to 1, and nobody has taken the partition over since
    assert found["seconds"] == 60


def test_where_nobody_answers_nothing_is_made_up(bench: Bench):
    assert asyncio.run(looked_at(bench, fails=True))["records"] == 0
