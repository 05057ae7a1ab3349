"""`rater history load`: what `rater rate --out` wrote, each line once, between runs, beside them, and killed at any moment."""

import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest

from rater.doors.failpoints import HISTORY_FAILPOINTS
from rater.doors.files.committed import committed_lengths
from rater.doors.history.folder import Loaded, load_folder
from rater.doors.history.opening import open_history
from rater.doors.history.store import HistoryProblem, Store
from rater.usage.rows import CALL_COLUMNS, call_row
from tests.doors.front import front, told
from tests.faults.scenarios import calls, commands, rates, write_lines
from tests.history.killing import killed_at


class Desk:
    """A deck, an account, and runs of `rater rate` into one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder, folder / "out"
        self.deck = rates().write(folder)
        self.accounts = write_lines(folder / "commands.jsonl", commands())
        self.runs, self.left = 0, calls()

    def rate(self, count: int) -> None:
        """A run of so many calls that no run had before, in batches of ten."""
        self.runs += 1
        mine, self.left = self.left[:count], self.left[count:]
        file = write_lines(self.folder / f"calls-{self.runs}.jsonl", mine)
        more = ["--commands", self.accounts] if self.runs == 1 else []
        told(front("rate", file, *more, "--rates", self.deck, "--out", self.out, "--json"))

    def lines(self, name: str = "rated-cdrs.jsonl") -> list[bytes]:
        return (self.out / name).read_bytes().splitlines()

    def committed(self) -> dict[str, int]:
        return committed_lengths(self.out / "state.db", self.out)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setenv("RATER_BATCH_RECORDS_MAX", "10")
    return Desk(tmp_path)


def kept(store: Store) -> list[tuple[Any, ...]]:
    """Whole rows, but for the number of the feed, of which there is one."""
    columns = ", ".join("1" if name == "feed" else name for name in CALL_COLUMNS)
    with store.reading() as read:
        return read(f"select {columns} from calls order by place", ())


def expected(desk: Desk) -> list[tuple[Any, ...]]:
    return [call_row(line, 1, 0, place) for place, line in enumerate(desk.lines())]


def events(store: Store) -> list[bytes]:
    with store.reading() as read:
        return [body.encode() for (body,) in read("select body from events order by place", ())]


def test_each_load_takes_what_is_new_and_only_that(desk: Desk, store: Store):
    desk.rate(60)
    first = load_folder(store, desk.out, desk.committed())
    assert first.calls == len(desk.lines())
    assert load_folder(store, desk.out, desk.committed()) == Loaded()
    desk.rate(25)
    second = load_folder(store, desk.out, desk.committed())
    assert (first.calls + second.calls, first.events + second.events) == (len(desk.lines()), len(events(store)))
    assert kept(store) == expected(desk)
    assert events(store) == desk.lines("account-events.jsonl")


@pytest.mark.parametrize("times", [1, 2, 4])
@pytest.mark.parametrize("failpoint", HISTORY_FAILPOINTS)
def test_killed_anywhere_the_next_load_ends_with_every_line_once(desk: Desk, target: str, failpoint: str, times: int):
    desk.rate(60)
    committed = desk.committed()
    open_history(target, make=True).close()

    def work() -> None:
        load_folder(open_history(target, make=True), desk.out, committed, rows_max=8)

    died = killed_at(failpoint, times, work)
    assert died, f"{failpoint} was not reached {times} times"
    store = open_history(target)
    try:
        before = kept(store)
        assert before == expected(desk)[: len(before)]
        load_folder(store, desk.out, committed, rows_max=8)
        assert kept(store) == expected(desk)
        assert events(store) == desk.lines("account-events.jsonl")
    finally:
        store.close()


def test_what_a_run_has_written_and_not_committed_is_left(desk: Desk, sqlite_store: Store):
    desk.rate(30)
    committed, whole = desk.committed(), len(desk.lines())
    for name in ("rated-cdrs.jsonl", "account-events.jsonl", "journal.jsonl"):
        with (desk.out / name).open("ab") as stream:
            stream.write(b'{"half":')
    assert load_folder(sqlite_store, desk.out, committed).calls == whole
    assert load_folder(sqlite_store, desk.out, committed) == Loaded()


def test_without_a_state_file_the_journal_says_how_far_and_a_half_written_end_waits(
    desk: Desk, sqlite_store: Store, tmp_path: Path
):
    desk.rate(30)
    copy = tmp_path / "copy"
    shutil.copytree(desk.out, copy)
    rated = (copy / "rated-cdrs.jsonl").read_bytes()
    (copy / "rated-cdrs.jsonl").write_bytes(rated[:-100])
    loaded = load_folder(sqlite_store, copy, None)
    assert 0 < loaded.calls < len(desk.lines())
    (copy / "rated-cdrs.jsonl").write_bytes(rated)
    assert loaded.calls + load_folder(sqlite_store, copy, None).calls == len(desk.lines())


def test_a_folder_that_was_moved_is_still_the_same_one(desk: Desk, sqlite_store: Store):
    desk.rate(30)
    load_folder(sqlite_store, desk.out, desk.committed())
    moved = desk.out.rename(desk.folder / "elsewhere")
    assert load_folder(sqlite_store, moved, committed_lengths(moved / "state.db", moved)) == Loaded()


def test_a_journal_that_is_not_the_one_that_was_read_is_refused(desk: Desk, sqlite_store: Store):
    desk.rate(30)
    load_folder(sqlite_store, desk.out, desk.committed())
    journal = (desk.out / "journal.jsonl").read_bytes()
    first, rest = journal.split(b"\n", 1)
    (desk.out / "journal.jsonl").write_bytes(first + b"\n" + rest.replace(b'"batch":', b'"batch" :'))
    with pytest.raises(HistoryProblem, match="is not the one that was loaded"):
        load_folder(sqlite_store, desk.out, None)


def test_a_rated_call_that_was_changed_is_refused(desk: Desk, sqlite_store: Store):
    desk.rate(30)
    path = desk.out / "rated-cdrs.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"charge_micros":', b'"charge_micros": ', 1)[:-1])
    with pytest.raises(HistoryProblem, match="are not what the journal says of them"):
        load_folder(sqlite_store, desk.out, desk.committed())
    assert kept(sqlite_store) == []


def test_a_folder_of_something_else_is_refused(sqlite_store: Store, tmp_path: Path):
    with pytest.raises(HistoryProblem, match="expected the --out folder of rater rate"):
        load_folder(sqlite_store, tmp_path, None)


def test_the_command_says_what_it_added_and_twice_adds_nothing(desk: Desk, tmp_path: Path):
    desk.rate(30)
    history, whole = tmp_path / "h.db", len(desk.lines())
    assert told(front("history", "load", desk.out, "--history", history, "--json"))["calls"] == whole
    assert told(front("history", "load", desk.out, "--history", history, "--json")) == {
        "batches": 0, "calls": 0, "events": 0, "set_aside": 0,
    }  # fmt: skip
    status = told(front("history", "status", "--history", history, "--json"))
    assert status["calls"] == whole
    assert {one["topic"]: one["offset"] for one in status["positions"]}["rated-cdrs"] == whole
    first = orjson.loads(desk.lines()[0])
    page = told(front("history", "usage", first["tenant"], "--history", history, "--limit", "1", "--json"))
    assert page["calls"][0]["callee"].startswith("+")
