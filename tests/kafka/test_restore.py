"""Restoring a partition: from memory, from a snapshot or from the topics alone the same state; or a sentence and no state."""

import asyncio
import copy
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import orjson
import pytest

from rater.contract.journal import digest_of, row_bytes
from rater.core.accounts import FREE
from rater.core.state import SHELVES, State
from rater.doors.kafka.changelog import ChangelogProblem, decode_watermark
from rater.doors.kafka.log import Block, LogProblem, OffsetGone, Place, Reader
from rater.doors.kafka.memory import MemoryLog
from rater.doors.kafka.names import CDRS, COMMANDS, JOURNAL, STATE
from rater.doors.kafka.restore import BaseUnusable, JournalProblem, Restored, read_to_end, restore, restore_best
from rater.doors.kafka.snapshot import Base, Room, SnapshotUnusable, image_of
from rater.doors.kafka.witnesses import GroupOffsets, Names, disagreement
from tests.faults.scenarios import calls, commands, rates
from tests.kafka.harness import APP, Bench, body_of

T = TypeVar("T")
STATE_PLACE, JOURNAL_PLACE = Place(STATE, 0), Place(JOURNAL, 0)


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, MemoryLog]:
    """A partition rated in many batches: where it stands now, and the log as it was some batches ago."""
    folder = tmp_path_factory.mktemp("restore")
    bench = Bench(folder, rates().write(folder / "in"), 1, bytes_max=3_000)
    bench.send(COMMANDS, commands())
    bench.send(CDRS, calls(80))
    bench.run()
    older = copy.deepcopy(bench.log)
    bench.send(CDRS, calls(60, first=80))
    bench.run()
    assert len(bench.values(JOURNAL, 0)) > 12
    return bench, older


@pytest.fixture
def bench(stages: tuple[Bench, MemoryLog]) -> Bench:
    made = copy.copy(stages[0])
    made.log = copy.deepcopy(stages[0].log)
    return made


@pytest.fixture
def base(stages: tuple[Bench, MemoryLog]) -> Base:
    """Some batches ago."""
    return base_of(restored(stages[1]))


def with_reader(log: MemoryLog, act: Callable[[Reader], Awaitable[T]]) -> T:
    async def go() -> T:
        return await act(await log.open_reader())

    return asyncio.run(go())


def restored(log: MemoryLog, base: Base | None = None) -> Restored:
    return with_reader(log, lambda reader: restore(reader, STATE_PLACE, JOURNAL_PLACE, base))


def base_of(found: Restored) -> Base:
    assert found.state is not None
    assert found.watermark is not None
    return Base(found.state, found.watermark, found.state_offset, found.journal_offset, found.line_offset)


def same(a: State | None, b: State | None) -> bool:
    assert a is not None
    assert b is not None
    rows = all(
        np.array_equal(row_bytes(a.rows(name)), row_bytes(b.rows(name)))
        and a.shelves[name].tally[FREE] == b.shelves[name].tally[FREE]
        for name in SHELVES
    )
    return rows and sorted(a.seen_ids().tolist()) == sorted(b.seen_ids().tolist()) and bool((a.key == b.key).all())


def agree(bench: Bench, found: Restored) -> str | None:
    offsets = bench.log.group(APP).offsets
    group = GroupOffsets(offsets[Place(CDRS, 0)], offsets[Place(COMMANDS, 0)])
    return disagreement(found.watermark, found.journal, group, Names(APP, 0))


# ------------------------------------------------------------------------------------------------ the same state


def test_the_topics_alone_give_a_state_that_all_witnesses_vouch_for(bench: Bench):
    found = restored(bench.log)
    assert agree(bench, found) is None
    assert found.lines_read == len(bench.values(JOURNAL, 0))
    assert found.rows_read == len(bench.values(STATE, 0))
    assert found.watermark is not None
    assert found.ids_read == found.watermark.ids > 50
    assert found.line_offset == int(bench.records(JOURNAL, 0).offsets[-1])


def test_a_base_and_the_tail_give_the_same_state_and_read_less(bench: Bench, base: Base):
    whole, tail = restored(bench.log), restored(bench.log, base)
    assert same(whole.state, tail.state)
    assert (whole.watermark, whole.journal) == (tail.watermark, tail.journal)
    assert (whole.state_offset, whole.journal_offset, whole.line_offset) == (
        tail.state_offset,
        tail.journal_offset,
        tail.line_offset,
    )
    assert 0 < tail.rows_read < whole.rows_read
    assert 0 < tail.lines_read < whole.lines_read


def test_a_base_that_nothing_has_moved_since_reads_no_row_and_no_id(bench: Bench):
    kept = base_of(restored(bench.log))
    again = restored(bench.log, kept)
    assert (again.rows_read, again.ids_read, again.lines_read) == (0, 0, 0)
    assert again.state is kept.state
    assert agree(bench, again) is None


@pytest.mark.parametrize("with_base", [False, True])
def test_compaction_changes_nothing(bench: Bench, base: Base, with_base: bool):
    wanted = restored(bench.log).state
    bench.log.compact(STATE)
    assert same(restored(bench.log, base if with_base else None).state, wanted)


def test_a_partition_nobody_has_rated_has_no_state():
    found = restored(MemoryLog({STATE: 1, JOURNAL: 1}))
    assert (found.state, found.watermark, found.journal) == (None, None, None)


def test_what_an_aborted_transaction_wrote_is_not_restored(bench: Bench):
    wanted = restored(bench.log)

    async def void() -> None:
        writer = await bench.log.open_writer("rating-0")
        await writer.begin()
        await writer.write(STATE_PLACE, *body_of(b"void", key=b"lots/0"))
        await writer.write(JOURNAL_PLACE, *body_of(b"void"))
        await writer.abort()

    asyncio.run(void())
    found = restored(bench.log)
    assert same(found.state, wanted.state)
    assert (found.watermark, found.journal) == (wanted.watermark, wanted.journal)


def test_an_open_transaction_is_not_waited_for(bench: Bench):
    """It ends at the last stable offset: whoever restores has fenced the writer before."""

    async def open_one() -> None:
        writer = await bench.log.open_writer("other")
        await writer.begin()
        await writer.write(JOURNAL_PLACE, *body_of(b"open"))

    wanted = restored(bench.log).journal
    asyncio.run(open_one())
    assert restored(bench.log).journal == wanted


def test_progress_is_told_topic_by_topic_up_to_the_end(bench: Bench):
    told: list[tuple[str, int, int, int]] = []
    with_reader(
        bench.log,
        lambda reader: restore(reader, STATE_PLACE, JOURNAL_PLACE, None, lambda *step: told.append(step)),
    )
    assert {step[0] for step in told} == {STATE, JOURNAL}
    for topic in (STATE, JOURNAL):
        last = [step for step in told if step[0] == topic][-1]
        assert last[1] == len(bench.values(topic, 0))
        assert last[2] >= last[3]


# ------------------------------------------------------------------------------------------------ a journal that contradicts


def placed(bench: Bench, topic: str) -> tuple[list[int], list[bytes | None]]:
    """Offsets and keys of partition 0."""
    records = bench.records(topic, 0)
    return [int(offset) for offset in records.offsets], [records.key(place) for place in range(records.count)]


def journal_offsets(bench: Bench) -> list[int]:
    return [int(offset) for offset in bench.records(JOURNAL, 0).offsets]


def test_a_hole_in_the_journal_is_refused_with_its_offset(bench: Bench):
    offsets = journal_offsets(bench)
    bench.remove(JOURNAL, 0, offsets[4])
    with pytest.raises(
        JournalProblem, match=rf"rater-journal-0, offset {offsets[5]}: found batch 6 .* expected batch 5"
    ):
        restored(bench.log)


def test_a_journal_that_retention_has_cut_is_refused_and_told_why(bench: Bench):
    offsets = journal_offsets(bench)
    bench.log.delete_records(JOURNAL_PLACE, offsets[1])
    with pytest.raises(
        JournalProblem, match=r"found batch 2 .* expected batch 1 .*retention.ms=-1: ids seen live here"
    ):
        restored(bench.log)


def test_a_changed_line_breaks_the_chain_at_the_next_one(bench: Bench):
    offsets = journal_offsets(bench)
    bench.rewrite(JOURNAL, 0, offsets[4], lambda key, raw: (key, raw.replace(b'"faults":[]', b'"faults":[1]')))
    with pytest.raises(JournalProblem, match=rf"offset {offsets[5]}: found batch 6 behind"):
        restored(bench.log)


def test_a_changed_last_line_is_for_the_witnesses_to_find(bench: Bench):
    """No line stands behind it: the watermark holds its digest."""
    offsets = journal_offsets(bench)
    bench.rewrite(JOURNAL, 0, offsets[-1], lambda key, raw: (key, raw.replace(b'"faults":[]', b'"faults":[1]')))
    assert "journal digest" in (agree(bench, restored(bench.log)) or "")


def test_a_line_that_stands_twice_is_refused(bench: Bench):
    raw = bench.values(JOURNAL, 0)[-1]
    bench.log.append_body(JOURNAL_PLACE, *body_of(raw, key=None))
    with pytest.raises(JournalProblem, match="expected batch"):
        restored(bench.log)


NO_LINES: list[Callable[[bytes], bytes]] = [
    lambda raw: raw[:0],
    lambda raw: b"nonsense" + raw,
    lambda raw: b"[" + raw + b"]",
    lambda raw: raw[:1] + raw[-1:],
    lambda raw: raw[:-1],
    lambda raw: raw.replace(b'"seen_b64":"', b'"seen_b64":"!'),
    lambda raw: raw.replace(b'"cdrs":[', b'"cdr":['),
    lambda raw: orjson.dumps(orjson.loads(raw) | {"commands": [0]}),
]


@pytest.mark.parametrize("change", NO_LINES)
def test_what_is_no_journal_line_is_refused_with_its_offset(bench: Bench, change: Callable[[bytes], bytes]):
    offset = journal_offsets(bench)[3]
    bench.rewrite(JOURNAL, 0, offset, lambda key, raw: (key, change(raw)))
    with pytest.raises(JournalProblem, match=rf"rater-journal-0, offset {offset}: not a line that rater writes"):
        restored(bench.log)


def test_ids_that_are_missing_from_a_line_are_counted(bench: Bench):
    """A chain forged throughout: the watermark still knows how many ids there are."""
    previous, forged = None, []
    for raw in bench.values(JOURNAL, 0):
        line = orjson.loads(raw)
        if previous is not None:
            line["previous"] = previous
        if line["batch"] == 4:
            line["seen_b64"] = ""
        forged.append(orjson.dumps(line))
        previous = digest_of(forged[-1])
    for offset, raw in zip(journal_offsets(bench), forged, strict=True):
        bench.rewrite(JOURNAL, 0, offset, lambda key, _, raw=raw: (key, raw))
    with pytest.raises(JournalProblem, match=r"counts \d+ ids seen, the journal gave \d+: journal lines are missing"):
        restored(bench.log)


# ------------------------------------------------------------------------------------------------ a changelog that contradicts


def test_a_missing_row_is_refused(bench: Bench):
    bench.log.compact(STATE)
    bench.remove(STATE, 0, int(bench.records(STATE, 0).offsets[0]))
    with pytest.raises(ChangelogProblem, match=r"1 of \d+ rows of \w+ are missing"):
        restored(bench.log)


def test_a_foreign_key_is_refused_with_its_offset(bench: Bench):
    offset = bench.log.append_body(STATE_PLACE, *body_of(b"x", key=b"hello"))
    with pytest.raises(ChangelogProblem, match=f"rater-state-0, offset {offset}: found key b'hello'"):
        restored(bench.log)


def test_what_another_version_wrote_is_told_by_its_layout_and_not_as_a_journal_out_of_order(bench: Bench):
    """Another version's digests may be others, too: to this one its lines form no chain."""
    marks = [offset for offset, key in zip(*placed(bench, STATE), strict=True) if key == b"meta"]
    for offset in marks:
        bench.rewrite(STATE, 0, offset, lambda key, raw: (key, orjson.dumps(orjson.loads(raw) | {"layout": "f" * 32})))
    for offset in journal_offsets(bench):
        bench.rewrite(JOURNAL, 0, offset, lambda key, raw: (key, raw.replace(b'"previous":"', b'"previous":"f')))
    with pytest.raises(ChangelogProblem, match=f"rows of layout {'f' * 32}; this rater reads layout"):
        restored(bench.log)


def test_rows_without_a_watermark_are_refused():
    log = MemoryLog({STATE: 1, JOURNAL: 1})
    log.append_body(STATE_PLACE, *body_of(b"x", key=b"lots/0"))
    with pytest.raises(ChangelogProblem, match="1 rows, but no watermark says what they are"):
        restored(log)


def torn(bench: Bench, topic: str) -> None:
    """The last batch of a topic is gone, as after a transaction whose parts ended differently."""
    partition = bench.log.broker.partition(Place(topic, 0))
    while not partition.batches.pop().readable:
        partition._nexts.pop()
    partition._nexts.pop()
    partition.end = partition.batches[-1].block.next_offset


@pytest.mark.parametrize(
    ("topic", "told"), [(STATE, "the journal is 1 batch ahead"), (JOURNAL, "the state is 1 batch ahead")]
)
def test_logs_that_end_at_different_batches_are_restored_for_the_witnesses_to_judge(
    bench: Bench, topic: str, told: str
):
    torn(bench, topic)
    assert told in (agree(bench, restored(bench.log)) or "")


# ------------------------------------------------------------------------------------------------ bases that do not fit


def unusable(log: MemoryLog, base: Base) -> str:
    with pytest.raises(BaseUnusable) as why:
        restored(log, base)
    return str(why.value)


def test_a_base_ahead_of_the_changelog_is_not_used(bench: Bench, base: Base):
    """The topics were restored from a backup, the snapshot was not."""
    assert "rater-state-0: offset 100000 is not between" in unusable(bench.log, replace(base, state_offset=100_000))


@pytest.mark.parametrize("offset", [-1, 100_000])
def test_a_base_whose_line_is_not_in_the_journal_is_not_used(bench: Bench, base: Base, offset: int):
    assert f"rater-journal-0: offset {offset} is not between" in unusable(bench.log, replace(base, line_offset=offset))


def test_a_base_behind_the_start_of_a_compacted_changelog_is_not_used(bench: Bench, base: Base):
    bench.log.delete_records(STATE_PLACE, base.state_offset + 1)
    assert "is not between" in unusable(bench.log, base)


def test_a_base_whose_line_is_gone_is_not_used(bench: Bench, base: Base):
    bench.remove(JOURNAL, 0, base.line_offset)
    assert unusable(bench.log, base)


def test_a_base_whose_last_batch_is_another_one_in_the_journal_is_not_used(bench: Bench, base: Base):
    other = replace(base, watermark=replace(base.watermark, journal_digest="0" * 32))
    assert f"batch {base.watermark.batch} is not the one the base ends with" in unusable(bench.log, other)


def test_a_base_of_another_batch_than_its_line_is_not_used(bench: Bench, base: Base):
    other = replace(base, watermark=replace(base.watermark, batch=base.watermark.batch - 1))
    assert unusable(bench.log, other)


def test_a_broken_chain_behind_a_base_is_told_as_the_bases_problem_first(bench: Bench, base: Base):
    """Without the base the same chain is judged again, from its beginning."""
    gone = next(offset for offset in journal_offsets(bench) if offset > base.line_offset)
    bench.remove(JOURNAL, 0, gone)
    assert "expected batch" in unusable(bench.log, base)


def test_records_deleted_while_a_base_is_read_make_it_unusable(bench: Bench, base: Base):
    class Deleting:
        """A reader between whose answers retention strikes."""

        def __init__(self, reader: Reader) -> None:
            self._reader = reader

        async def bounds(self, place: Place) -> tuple[int, int]:
            return await self._reader.bounds(place)

        async def read(self, place: Place, offset: int) -> tuple[Sequence[Block], int]:
            raise OffsetGone(f"{place}: offset {offset} is gone")

        async def close(self) -> None:
            """Nothing to let go of."""

    async def act(reader: Reader) -> None:
        with pytest.raises(BaseUnusable, match="is gone"):
            await restore(Deleting(reader), STATE_PLACE, JOURNAL_PLACE, base)
        with pytest.raises(OffsetGone):
            await restore(Deleting(reader), STATE_PLACE, JOURNAL_PLACE, None)

    with_reader(bench.log, act)


# ------------------------------------------------------------------------------------------------ the best there is


def best(bench: Bench, kept: Base | None, load: Callable[[], Base]) -> tuple[Restored, list[str]]:
    said: list[str] = []

    async def loading() -> Base:
        return load()

    found = with_reader(
        bench.log,
        lambda reader: restore_best(reader, STATE_PLACE, JOURNAL_PLACE, kept, loading, say=said.append),
    )
    return found, said


def no_snapshot() -> Base:
    raise SnapshotUnusable("no snapshot yet")


def test_memory_comes_before_the_snapshot(bench: Bench, base: Base):
    found, said = best(bench, base, no_snapshot)
    assert said == []
    assert found.state is base.state
    assert same(found.state, restored(bench.log).state)


def test_the_snapshot_comes_before_the_topics(bench: Bench, base: Base):
    found, said = best(bench, None, lambda: base)
    assert said == []
    assert found.state is base.state


def test_without_either_the_topics_are_read_from_their_beginning(bench: Bench):
    found, said = best(bench, None, no_snapshot)
    assert said == ["no snapshot yet"]
    assert same(found.state, restored(bench.log).state)


def test_bases_that_do_not_fit_are_passed_over_one_after_the_other_and_each_is_told(bench: Bench, base: Base):
    stale = replace(base, line_offset=10**6)
    other = replace(base, watermark=replace(base.watermark, journal_digest="0" * 32))
    found, said = best(bench, stale, lambda: other)
    assert len(said) == 2
    assert agree(bench, found) is None
    assert same(found.state, restored(bench.log).state)


def test_a_snapshot_file_and_the_tail_give_the_state_of_the_topics(bench: Bench, base: Base, tmp_path: Path):
    bench.snapshots = type(bench.snapshots)(tmp_path, APP)
    bench.snapshots.save(0, image_of(base, APP, Room()))
    found, said = best(bench, None, lambda: bench.snapshots.load(0))
    assert said == []
    assert same(found.state, restored(bench.log).state)
    path = bench.snapshots.path(0)
    path.write_bytes(path.read_bytes()[:-1])
    found, said = best(bench, None, lambda: bench.snapshots.load(0))
    assert "cut short or changed" in said[0]
    assert same(found.state, restored(bench.log).state)


def test_a_log_that_ends_before_its_stable_end_is_not_waited_for():
    """A reader that gives nothing and does not move would be asked for ever."""

    class Silent:
        async def bounds(self, place: Place) -> tuple[int, int]:  # noqa: ARG002
            return 0, 5

        async def read(self, place: Place, offset: int) -> tuple[Sequence[Block], int]:  # noqa: ARG002
            return [], offset

        async def close(self) -> None:
            """Nothing to let go of."""

    with pytest.raises(
        LogProblem, match=r"rater-state-0: nothing more to read at offset 0, although .* stable up to 5"
    ):
        asyncio.run(read_to_end(Silent(), STATE_PLACE, 0, 5, lambda _records: None, lambda *_step: None))


def test_the_watermark_restored_is_the_last_one_written(bench: Bench):
    records = bench.records(STATE, 0)
    last = next(records.raw(k) for k in reversed(range(records.count)) if records.key(k) == b"meta")
    assert restored(bench.log).watermark == decode_watermark(last, "here")
