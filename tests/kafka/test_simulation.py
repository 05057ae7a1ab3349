"""The Kafka door under every fault we could think of, a thousand times over, each time the same for the same seed.

A seed that fails prints how to see its timeline: `python -m tests.kafka.simulation SEED -v`. Bugs that were found here are
planted again among `BUGS`, beside those a door like this is known to get wrong: each must be caught, and by what is named.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from rater.doors.kafka.log import Place
from rater.doors.kafka.memory import MemoryWriter
from rater.doors.kafka.names import CDRS
from rater.doors.kafka.record_batches import frame_few
from rater.doors.kafka.surroundings import Phase
from tests.kafka import simulation_bugs as bugs
from tests.kafka.simulation import World, end, simulate
from tests.kafka.simulation_loop import NothingLeft, VirtualLoop

SEEDS, CHUNK = 1_000, 25
SEEDS_TO_CATCH = 200
SEEDS_TO_CATCH_THE_RARE = 2_000  # a stall between two questions, in which another takes over: one seed in 500

FAULTS = {
    "time-out before", "time-out after", "killed", "stalled", "slow listener", "clean leave", "fenced", "transaction expired",
    "late commit", "late offsets", "commit lost, and late", "copy took effect", "copy had no effect", "broker down",
    "upstream transaction aborted", "compaction", "retention of what was read", "retention of what was not read",
    "offset moved", "offset deleted", "stopped for a moved offset", "rules not there yet", "snapshot cut",
    "snapshot changed", "snapshot swapped", "snapshot deleted", "snapshot older",
}  # fmt: skip


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_seed_heals_and_its_log_is_right(first: int) -> None:
    told = []
    for seed in range(first, first + CHUNK):
        report = simulate(seed)
        told += [f"python -m tests.kafka.simulation {seed} -v: {problem}" for problem in report.problems[:3]]
    assert told == []


def test_the_same_seed_is_the_same_run() -> None:
    one, other = simulate(21, verbose=True), simulate(21, verbose=True)
    assert one.timeline == other.timeline
    assert one.batches > 5
    assert one.faults == other.faults


def test_every_kind_of_fault_is_injected() -> None:
    faults: Counter[str] = Counter()
    seed = 0
    while not faults.keys() >= FAULTS and seed < 500:
        faults += simulate(seed).faults
        seed += 1
    assert faults.keys() >= FAULTS


CAUGHT_BY: dict[Callable[[pytest.MonkeyPatch], None], str] = {
    bugs.offsets_outside_the_transaction: "I12",
    bugs.offset_of_the_last_record_read: "I12",
    bugs.state_published_before_the_commit: "I8",
    bugs.state_kept_after_a_failed_batch: "I12",
    bugs.no_fencing: "I4",
    bugs.fenced_and_went_on: "I4",
    bugs.tainted_writer_used_again: "I8",
    bugs.new_writer_without_a_look_at_the_log: "I8",
    bugs.snapshot_trusted_without_its_tail: "I4",
    bugs.group_offset_trusted_alone: "I8",
    bugs.commit_timed_out_taken_for_done: "I9",
    bugs.no_duplicates_known: "I4",
    bugs.alarm_on_a_level: "I7",
    bugs.an_output_outside_the_transaction: "I8",
    bugs.forwards_forgotten: "I3",
    bugs.a_row_missing_from_the_changelog: "I10",
    bugs.witnesses_heard_only_once: "false alarm",
    bugs.leftovers_committed_with_our_own: "I8",
}


@pytest.mark.parametrize("bug", CAUGHT_BY, ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_caught(bug: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    bug(monkeypatch)
    caught: Counter[str] = Counter()
    seeds = SEEDS_TO_CATCH_THE_RARE if bug is bugs.witnesses_heard_only_once else SEEDS_TO_CATCH
    for seed in range(seeds):
        caught.update({problem.partition(":")[0] for problem in simulate(seed).problems})
        if caught[CAUGHT_BY[bug]]:
            return
    pytest.fail(f"{bug.__name__}: {seeds} seeds, caught only by {dict(caught)}")


async def idle_partition_whose_records_have_expired(world: World) -> tuple[Phase, str]:
    """The last things in the log are a commit marker and an aborted record; then retention deletes all there is."""
    world.healing = True  # no faults
    world.start(0)
    await asyncio.sleep(1)
    place = Place(CDRS, 0)
    for ended in (MemoryWriter.commit, MemoryWriter.abort):
        upstream = await world.log.open_writer("upstream")
        await upstream.begin()
        ((body, count),) = frame_few([(None, b"not a call", ())])
        await upstream.write(place, body, count)
        await ended(upstream)
        await asyncio.sleep(2)
    world.log.delete_records(place, world.log.broker.partitions[place].end)
    world.processes[0].die("restarted")
    await asyncio.sleep(20)
    return world.processes[0].phases[0]


def test_an_idle_partition_goes_on_when_retention_has_deleted_all_it_had_read(tmp_path: Path) -> None:
    loop = VirtualLoop()
    world = World(0, loop, tmp_path, verbose=False)
    try:
        phase, why = loop.run_until_complete(idle_partition_whose_records_have_expired(world))
    finally:
        end(loop)
    assert (phase, why) == (Phase.RUNNING, "")


def test_time_leaps_and_a_world_in_which_all_wait_ends() -> None:
    loop = VirtualLoop()
    loop.run_until_complete(asyncio.sleep(86_400))
    assert loop.time() == 86_400
    waiting = loop.create_future()
    with pytest.raises(NothingLeft):
        loop.run_until_complete(waiting)
    loop.close()
