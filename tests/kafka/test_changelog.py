"""Rows of a state as changelog records, and back: every bit, any order of batches, and nothing that rater did not write."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from rater.contract.journal import row_bytes
from rater.contract.records import Records
from rater.core.accounts import FREE
from rater.core.state import SHELVES, State
from rater.doors.kafka.changelog import (
    LAYOUT,
    META,
    ChangelogProblem,
    RowsRead,
    Watermark,
    decode_watermark,
    write_changes,
)
from rater.doors.kafka.log import Block
from rater.doors.kafka.record_batches import BodyWriter, frame_few, records_from_blocks
from rater.doors.rules import load_rule_book
from rater.pipeline import Batch, decide, records_of
from tests.faults.scenarios import calls, commands, rates

KEY = bytes(range(16))
WHERE = "rater-state-0"
Entry = tuple[bytes | None, bytes]


def mark_of(state: State, batch: int) -> Watermark:
    return Watermark(0, batch, 0, 0, "", "", state.row_counts(), state.free_rows(), int(state.seen_tally[0]), KEY.hex(),
                     ("deck",), "plans")  # fmt: skip


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> tuple[State, list[list[Entry]]]:
    """A state, and the records of the batches that led there."""
    book = load_rule_book(rates().write(tmp_path_factory.mktemp("rates")))
    state, batches = State.empty(KEY), []
    given, called = commands(), calls(100)
    for number in range(5):
        part = given if number == 0 else []
        batch = Batch(0, records_of(part), records_of(called[20 * number : 20 * number + 20], 20 * number))
        decide(state, book.rules, batch)
        bodies = write_changes(state, mark_of(state, number + 1), BodyWriter(bytes, 2_000))
        batches.append(entries(bodies))
        state.committed()
    return state, batches


def entries(bodies: Sequence[tuple[bytes, int]]) -> list[Entry]:
    found: list[Entry] = []
    for body, count in bodies:
        records = records_of_body(body, count)
        found += [(records.key(k), records.raw(k)) for k in range(count)]
    return found


def records_of_body(body: bytes, count: int, first: int = 0) -> Records:
    return records_from_blocks([Block(first, first + count, count, body, 0)], first)[0]


def framed(given: Sequence[Entry], first: int = 0) -> Records:
    ((body, count),) = frame_few([(key, value, ()) for key, value in given], 1 << 40)
    return records_of_body(body, count, first)


def read(*parts: Sequence[Entry], base: State | None = None) -> RowsRead:
    rows, first = RowsRead(base, WHERE), 0
    for part in parts:
        rows.take(framed(part, first))
        first += len(part)
    return rows


def restored(rows: RowsRead) -> State:
    assert rows.watermark is not None
    state = State.empty(KEY)
    rows.into(state, rows.watermark)
    return state


def same(a: State, b: State) -> bool:
    return all(
        np.array_equal(row_bytes(a.rows(name)), row_bytes(b.rows(name))) and a.shelves[name].tally[FREE] == b.shelves[name].tally[FREE]
        for name in SHELVES
    )  # fmt: skip


def compacted(batches: Sequence[Sequence[Entry]]) -> list[Entry]:
    """The last record of each key, in the order of the log."""
    whole = [entry for batch in batches for entry in batch]
    last = {key: place for place, (key, _) in enumerate(whole)}
    return [entry for place, entry in enumerate(whole) if last[entry[0]] == place]


History = tuple[State, list[list[Entry]]]

# ------------------------------------------------------------------------------------------------ rows


def test_every_row_comes_back_to_the_bit(history: History):
    state, batches = history
    assert all(state.rows(name).size for name in SHELVES)
    assert same(restored(read(*batches)), state)


def test_a_batch_ends_with_its_watermark(history: History):
    for number, batch in enumerate(history[1]):
        assert batch[-1][0] == META
        assert decode_watermark(batch[-1][1], WHERE).batch == number + 1
        assert all(key != META for key, _ in batch[:-1])


def test_a_batch_writes_each_row_once_and_only_what_it_has_changed(history: History):
    state, batches = history
    for batch in batches[1:]:
        keys = [key for key, _ in batch]
        assert len(keys) == len(set(keys))
        assert len(keys) < sum(state.rows(name).size for name in SHELVES)


def test_a_value_holds_no_zero_bytes_at_its_end(history: History):
    assert all(not value.endswith(b"\0") for batch in history[1] for _, value in batch)


def test_of_two_versions_of_a_row_the_later_one_counts(history: History):
    state, batches = history
    older = dict(batches[1])
    twice = [key for key, value in batches[2] if key in older and key != META and older[key] != value]
    assert twice
    assert same(restored(read(batches[0], batches[1], batches[1], *batches[2:])), state)


def test_a_shorter_later_version_leaves_nothing_of_a_longer_one():
    """Zero bytes at the end are not written, so they must be put back."""
    size = SHELVES["fleets"].itemsize
    rows = read([(b"fleets/0", b"\xff" * size)], [(b"fleets/0", b"\x01")])
    state = State.empty(KEY)
    mark = mark_of(state, 1)
    rows.into(state, Watermark(**{**as_fields(mark), "rows": {**mark.rows, "fleets": 1}}))
    assert row_bytes(state.rows("fleets")).tobytes() == b"\x01" + bytes(size - 1)


def as_fields(mark: Watermark) -> dict[str, Any]:
    return {name: getattr(mark, name) for name in Watermark.__dataclass_fields__}


def test_a_compacted_changelog_gives_the_same_rows(history: History):
    state, batches = history
    short = compacted(batches)
    assert len(short) < sum(map(len, batches))
    assert same(restored(read(short)), state)
    assert same(restored(read(short[:7], short[7:])), state)


def test_a_base_and_the_batches_behind_it_give_the_same_rows(history: History):
    state, batches = history
    base = restored(read(*batches[:3]))
    assert same(restored(read(*batches[3:], base=base)), state)


def test_nothing_read_changes_nothing():
    rows = RowsRead(None, WHERE)
    rows.take(records_of([]))
    assert (rows.count, rows.watermark) == (0, None)


# ------------------------------------------------------------------------------------------------ what is refused


def test_a_row_that_is_missing_is_counted_and_named(history: History):
    """Also where compaction or retention has taken it: the watermark knows how many there are."""
    batches = history[1]
    short = compacted(batches)
    gone = next(place for place, (key, _) in enumerate(short) if key is not None and key.startswith(b"lots/"))
    rows = read([*short[:gone], *short[gone + 1 :]])
    assert rows.watermark is not None
    with pytest.raises(
        ChangelogProblem, match=r"rater-state-0: 1 of \d+ rows of lots are missing.*cleanup.policy=compact"
    ):
        rows.into(State.empty(KEY), rows.watermark)


def test_a_row_that_the_watermark_does_not_count_is_told_apart(history: History):
    batches = history[1]
    rows = read(*batches)
    assert rows.watermark is not None
    assert rows.row_beyond(rows.watermark) is None
    rows = read(*batches, [(b"numbers/300", b"x"), batches[-1][-1]])
    assert rows.row_beyond(decode_watermark(batches[-1][-1][1], WHERE)) == ("numbers", 300)


@pytest.mark.parametrize(
    "key",
    [None, b"", b"me", b"lots", b"lots/", b"lots/1x", b"lots/-1", b"lots 1", b"wots/1", b"tenants", b"users/1234567890123",
     b"meta1", b"/1", b"\xff\xff\xff\xff"],
)  # fmt: skip
def test_a_foreign_key_is_refused_with_its_offset(key: bytes | None):
    rows = RowsRead(None, WHERE)
    with pytest.raises(ChangelogProblem, match="rater-state-0, offset 41: found key") as refused:
        rows.take(framed([(b"lots/0", b"x"), (key, b"y")], 40))
    assert repr(key) in str(refused.value)
    assert "Another program writes to this topic" in str(refused.value)


def test_a_row_longer_than_its_shelf_has_is_refused_with_its_offset():
    size = SHELVES["pools"].itemsize
    with pytest.raises(
        ChangelogProblem, match=rf"offset 1: a row of pools of {size + 1} bytes; expected at most {size}"
    ):
        read([(b"pools/0", b"x" * size), (b"pools/1", b"x" * (size + 1))])


def test_a_row_number_no_state_can_have_is_refused():
    with pytest.raises(ChangelogProblem, match="row 99999999999 of lots; no state has so many"):
        read([(b"lots/99999999999", b"x")])


# ------------------------------------------------------------------------------------------------ watermarks


def test_a_watermark_comes_back_as_it_was():
    mark = mark_of(State.empty(KEY), 3)
    assert decode_watermark(mark.encode(), WHERE) == mark


def test_a_watermark_of_another_version_names_both():
    raw = orjson.dumps(orjson.loads(mark_of(State.empty(KEY), 3).encode()) | {"v": 2})
    with pytest.raises(ChangelogProblem, match="a watermark of version 2; this rater reads version 1"):
        decode_watermark(raw, WHERE)


def test_rows_of_another_layout_are_refused_with_what_to_do():
    raw = orjson.dumps(orjson.loads(mark_of(State.empty(KEY), 3).encode()) | {"layout": "f" * 32})
    with pytest.raises(
        ChangelogProblem, match=f"{'f' * 32}; this rater reads layout {LAYOUT}. Run the version that wrote them"
    ):
        decode_watermark(raw, WHERE)


WHOLE: dict[str, Any] = orjson.loads(mark_of(State.empty(KEY), 3).encode())


@pytest.mark.parametrize(
    "raw",
    [b"", b"nonsense", b"[]", b"7", b"null", orjson.dumps({name: v for name, v in WHOLE.items() if name != "ids"}),
     orjson.dumps(WHOLE | {"more": 1}), orjson.dumps(WHOLE | {"rows": {}}), orjson.dumps(WHOLE | {"rows": 3}),
     orjson.dumps(WHOLE | {"free": None}), orjson.dumps(WHOLE | {"decks": 3})],
)  # fmt: skip
def test_what_is_no_watermark_is_refused_with_its_place(raw: bytes):
    with pytest.raises(ChangelogProblem, match=f"{WHERE}"):
        decode_watermark(raw, WHERE)


def test_only_the_last_watermark_counts(history: History):
    rows = read(*history[1])
    assert rows.watermark is not None
    assert rows.watermark.batch == len(history[1])


def test_a_body_is_never_larger_than_asked_for(tmp_path: Path):
    state = State.empty(KEY)
    decide(state, load_rule_book(rates().write(tmp_path)).rules, Batch(0, records_of(commands()), records_of([])))
    bodies = write_changes(state, mark_of(state, 1), BodyWriter(bytes, 1_000))
    assert len(bodies) > 3
    assert all(len(body) <= 1_000 or count == 1 for body, count in bodies)
    assert same(restored(read(entries(bodies))), state)
