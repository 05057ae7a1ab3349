"""A history's two databases: rows and places together or not at all, and the same answers of both."""

import logging

import pytest

from rater.doors.history.feeding import add_lines
from rater.doors.history.opening import open_history
from rater.doors.history.store import (
    EVENTS,
    FOLDER,
    KAFKA,
    RATED,
    Batch,
    HistoryProblem,
    Moved,
    Partition,
    Position,
    Store,
)  # fmt: skip
from rater.usage.rows import NewerVersion
from tests.history.conftest import Open
from tests.history.support import event, lines, put, rated

CALLS = Partition(RATED, 3)


def batch_of(store: Store, began: Position | None, first: int, count: int) -> Batch:
    batch = Batch(store.feed(KAFKA, "eu."))
    add_lines(batch, CALLS, enumerate(lines(rated(k) for k in range(first, first + count)), first))
    batch.moves[CALLS] = began, Position(first + count)
    return batch


def count(store: Store, table: str = "calls") -> int:
    with store.reading() as read:
        return int(read(f"select count(*) from {table}", ())[0][0])


def test_rows_and_the_place_behind_them_are_kept_together(open_store: Open):
    store = open_store()
    store.append(batch_of(store, None, 0, 5))
    store.append(batch_of(store, Position(5), 5, 2))
    again = open_store()
    assert again.positions(again.feed(KAFKA, "eu.")) == {CALLS: Position(7)}
    assert count(again) == 7


def test_a_batch_that_was_kept_is_refused_the_second_time_and_leaves_nothing(open_store: Open):
    store, other = open_store(), open_store()
    first = batch_of(store, None, 0, 5)
    store.append(first)
    with pytest.raises(Moved, match=r"rated-cdrs-3 was read from its start on, and somebody else"):
        other.append(batch_of(other, None, 0, 5))
    store.append(batch_of(store, Position(5), 5, 1))
    with pytest.raises(Moved, match="from place 5 on"):
        other.append(batch_of(other, Position(5), 5, 4))
    assert count(store) == 6


def test_a_row_that_is_there_already_takes_its_whole_batch_back(store: Store):
    store.append(batch_of(store, None, 0, 5))
    overlapping = batch_of(store, Position(5), 4, 3)
    with pytest.raises(HistoryProblem):
        store.append(overlapping)
    assert count(store) == 5
    assert store.positions(store.feed(KAFKA, "eu."))[CALLS] == Position(5)


def test_a_line_that_is_no_row_is_set_aside_with_its_reason_and_the_rest_goes_on(
    store: Store, caplog: pytest.LogCaptureFixture
):
    batch = Batch(store.feed(KAFKA, ""))
    good, *bad = [*lines([rated(0)]), b"{", b'{"v":1,"call":{"callee":"+12125550123"}}', b"[]"]
    with caplog.at_level(logging.ERROR):
        add_lines(batch, Partition(RATED, 0), enumerate([good, *bad]))
        add_lines(batch, Partition(EVENTS, 0), enumerate([b'{"subject":7}']))
    batch.moves = {Partition(RATED, 0): (None, Position(4)), Partition(EVENTS, 0): (None, Position(1))}
    store.append(batch)
    with store.reading() as read:
        kept = read("select place, reason, raw from aside where topic = ? order by place", (RATED,))
    assert [place for place, _, _ in kept] == [1, 2, 3]
    assert [bytes(raw) for _, _, raw in kept] == bad
    assert all("expected a rated call" in reason for _, reason, _ in kept)
    assert count(store) == 1
    assert count(store, "aside") == 4
    assert "rated-cdrs-0 place 1: set aside" in caplog.text
    assert "2125550123" not in caplog.text


def test_a_line_of_a_newer_rater_stops_the_feed_instead_of_being_passed_over(sqlite_store: Store):
    batch = Batch(sqlite_store.feed(KAFKA, ""))
    with pytest.raises(NewerVersion, match=r"rated-cdrs-0 place 7: found version 2.*upgrade rater here"):
        add_lines(batch, Partition(RATED, 0), enumerate(lines([rated(7, v=2)]), 7))


def test_a_history_has_one_deployment_or_folders_never_both(store: Store):
    store.feed(KAFKA, "eu.")
    with pytest.raises(HistoryProblem, match=r"is fed from topics with the prefix 'eu\.'"):
        store.feed(KAFKA, "us.")
    with pytest.raises(HistoryProblem, match="history of its own"):
        store.feed(FOLDER, "abc")
    assert store.feed(KAFKA, "eu.") == store.feed(KAFKA, "eu.")


def test_folders_of_several_runs_go_together(store: Store):
    assert store.feed(FOLDER, "one") != store.feed(FOLDER, "two")
    with pytest.raises(HistoryProblem, match="folders of rater rate"):
        store.feed(KAFKA, "")


def test_text_with_a_nul_is_kept_by_both(store: Store):
    put(store, [rated(0, user="a\0b", call_id="\0")])
    with store.reading() as read:
        assert read("select user_id, call_id from calls", ()) == [("a\ufffdb", "\ufffd")]


def test_what_is_forgotten_stays_forgotten(store: Store):
    put(store, [rated(0, start="2026-10-31T23:59:59.999Z"), rated(1, start="2026-11-01T00:00:00.000Z")],
        [event(0, "balance.zero", "2026-10-01T00:00:00.000Z")])  # fmt: skip
    before_ms = 1_793_491_200_000  # 2026-11-01T00:00:00Z
    assert store.forget(before_ms) == (1, 1)
    put(store, [rated(2)])
    with store.reading() as read:
        assert read("select record_id from calls order by record_id", ()) == [("r1",), ("r2",)]


def test_an_answer_is_of_one_moment_while_the_sink_goes_on(open_store: Open):
    store, sink = open_store(), open_store()
    put(sink, [rated(0)])
    with store.reading() as read:
        before = read("select count(*) from calls", ())
        put(sink, [rated(1)])
        assert read("select count(*) from calls", ()) == before
        assert read("select place from positions where topic = ?", (RATED,)) == [(1,)]
    assert count(store) == 2


def test_a_history_that_is_not_there_is_refused_with_what_makes_one(tmp_path):
    with pytest.raises(HistoryProblem, match="no such history; rater history load or rater history sink makes one"):
        open_history(str(tmp_path / "none.db"))


def test_a_file_that_is_no_history_is_refused(tmp_path):
    (tmp_path / "notes.db").write_text("not a database at all" * 100)
    with pytest.raises(HistoryProblem, match="not a usable history"):
        open_history(str(tmp_path / "notes.db"))
