"""`rater audit` proves honest books and finds a single changed byte, in any output and in any table of the state."""

import random
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from rater.doors.files.outputs import EVENTS, JOURNAL, OUTPUTS, RATED, REJECTED_CDRS, REJECTED_COMMANDS
from tests.doors.front import front, refused, told
from tests.faults.scenarios import calls, scenario, write_lines

SHELVES = ("accounts", "lots", "users", "fleets", "pools", "numbers", "totals", "holds")


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Books of two runs in batches of seven, with recharges approved among the calls of the second."""
    folder = tmp_path_factory.mktemp("honest")
    made = scenario("plain", folder / "inputs")
    out = folder / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RATER_BATCH_RECORDS_MAX", "7")
        told(front(*made.args(out)))
        more = write_lines(folder / "more.jsonl", calls(40, first=110))
        told(front("rate", more, "--rates", made.folder / "deck", "--state", out / "state.db", "--out", out,
                   "--recharge", "approve", "--json"))  # fmt: skip
    return out


@pytest.fixture
def books(honest: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(honest, tmp_path / "out"))


def audit(books: Path) -> str:
    """The sentence of an audit that must fail: status 1, one line, no stack trace."""
    text = refused(front("audit", "--state", books / "state.db", "--out", books), status=1)
    assert text.count("\n") == 1
    return text


def test_honest_books_pass_wherever_they_lie(honest: Path, books: Path):
    for out in (honest, books):
        found = told(front("audit", "--state", out / "state.db", "--out", out, "--json"))
        assert found["ok"] is True
        assert found["rated"] == (out / RATED).read_bytes().count(b"\n")
        assert found["rejected"] == (out / REJECTED_CDRS).read_bytes().count(b"\n")
        assert found["batches"] == (out / JOURNAL).read_bytes().count(b"\n")
        charges = [orjson.loads(line)["charge_micros"] for line in (out / RATED).read_bytes().splitlines()]
        assert found["charge_micros"] == {"USD": sum(charges)}
    assert front("audit", "--state", honest / "state.db", "--out", honest).status == 0


def test_an_audit_changes_nothing(books: Path):
    before = {path.name: path.read_bytes() for path in books.iterdir()}
    told(front("audit", "--state", books / "state.db", "--out", books, "--json"))
    assert {path.name: path.read_bytes() for path in books.iterdir()} == before


def test_an_audit_that_fails_says_so_in_json_too(books: Path):
    (books / RATED).write_bytes((books / RATED).read_bytes().replace(b'"charge_micros":2', b'"charge_micros":3', 1))
    ended = front("audit", "--state", books / "state.db", "--out", books, "--json")
    assert ended.status == 1
    found = orjson.loads(ended.stdout)
    assert found["ok"] is False
    assert RATED in found["difference"]


# ---------------------------------------------------------------------------------------------- the output files


def other(byte: int) -> int:
    """Another byte of the same kind, so that a line stays what it was in form."""
    if 48 <= byte <= 57:
        return 48 + (byte - 47) % 10
    if 97 <= byte <= 121:
        return byte + 1
    return byte ^ 1


def change(path: Path, at: int, to: int | None = None) -> int:
    """Change one byte; the number of its line."""
    data = bytearray(path.read_bytes())
    data[at] = other(data[at]) if to is None else to
    path.write_bytes(data)
    return data[:at].count(b"\n") + 1


def names(text: str, path: Path, line: int) -> None:
    """The sentence leads to the file, and to the line or, where only ids can tell, near it."""
    assert path.name in text
    found = [int(number) for number in re.findall(r"lines? (\d+)", text)]
    assert found, text
    assert min(abs(number - line) for number in found) <= (0 if "near" not in text and "lines" not in text else 20), (
        text,
        line,
    )


# A place in a line: the first match of a pattern from the middle of the file on; group 1 is the byte.
PLACES = [
    (RATED, rb'"callee":"\+\d(\d)'),
    (RATED, rb'"billable_ms":\d(\d)'),
    (RATED, rb'"call":\{"record_id":"(\w)'),
    (RATED, rb'"user":"(\w)'),
    (RATED, rb'"caller":"\+44(\d)'),
    (RATED, rb'"start":"\d+-\d+-\d+T\d\d:\d(\d)'),
    (RATED, rb'"disposition":"(\w)'),
    (RATED, rb'"outcome":"(\w)'),
    (RATED, rb',"tenant":"(\w)\w+","record_id":"\w+","charge'),
    (RATED, rb'"charge_micros":(\d)'),
    (RATED, rb'"currency":"(U)'),
    (RATED, rb'"billed_minutes":(\d)'),
    (RATED, rb'"pool":"(\w)'),
    (RATED, rb'"lots":\[\["(\w)'),
    (RATED, rb'"debt_micros":(\d)'),
    (RATED, rb'"balance_micros":-?(\d)'),
    (RATED, rb'"account_version":(\d)'),
    (RATED, rb'"flags":\["(\w)'),
    (RATED, rb'"input":\[0,(\d)'),
    (RATED, rb'"input":\[(0)'),
    (RATED, rb'(\{)"v":1'),
    (RATED, rb'"v":1(,)'),
    (EVENTS, rb'"balance_micros":-?(\d)'),
    (EVENTS, rb'"id":"(\w)'),
    (EVENTS, rb'"time":"\d+-\d+-\d(\d)'),
    (EVENTS, rb'"input":\[0,(\d)'),
    (EVENTS, rb'"account_version":(\d)'),
    (EVENTS, rb'(\})\n'),
    (REJECTED_CDRS, rb'"reason":"(\w)'),
    (REJECTED_CDRS, rb'"detail":"(\w)'),
    (REJECTED_CDRS, rb'"raw_b64":"\w\w(\w)'),
    (REJECTED_CDRS, rb'"input":\[0,(\d)'),
    (REJECTED_COMMANDS, rb'"reason":"(\w)'),
    (REJECTED_COMMANDS, rb'"raw_b64":"\w\w(\w)'),
    (REJECTED_COMMANDS, rb'"input":\[0,(\d)'),
    (JOURNAL, rb'"batch":(\d)'),
    (JOURNAL, rb'"read":(\d)'),
    (JOURNAL, rb'"duplicates":(\d)'),
    (JOURNAL, rb'"applied":\[\[(\d)'),
    (JOURNAL, rb'"segments":\[\[(\d)'),
    (JOURNAL, rb'"state_digest":"(\w)'),
    (JOURNAL, rb'"previous":"(\w)'),
    (JOURNAL, rb'"USD":(\d)'),
]  # fmt: skip


@pytest.mark.parametrize(("name", "pattern"), PLACES, ids=[f"{name} {pattern.decode()}" for name, pattern in PLACES])
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_one_changed_byte_is_found(books: Path, name: str, pattern: bytes, where: str):
    path = books / name
    matches = list(re.finditer(pattern, path.read_bytes()))
    assert matches
    match = matches[{"first": 0, "middle": len(matches) // 2, "last": -1}[where]]
    line = change(path, match.start(1))
    names(audit(books), path, line)


@pytest.mark.parametrize("seed", range(60))
def test_any_byte_changed_to_any_other_is_found(books: Path, seed: int):
    rng = random.Random(seed)
    path = books / OUTPUTS[seed % len(OUTPUTS)]
    data = path.read_bytes()
    at = rng.randrange(len(data))
    line = change(path, at, data[at] ^ rng.randint(1, 255))
    text = audit(books)
    assert path.name in text, (seed, text)
    if data[at] != 10 and path.read_bytes()[at] != 10:
        names(text, path, line)


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_file_that_is_cut_missing_or_longer_is_found(books: Path, name: str):
    path = books / name
    data = path.read_bytes()
    for cut in (data[:-1], data[: data.rindex(b"\n", 0, -1) + 1], b""):
        path.write_bytes(cut)
        assert name in audit(books)
    path.unlink()
    assert name in audit(books)


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("tail", [b"\n", b"x", b"again"])
def test_something_written_behind_the_last_commit_is_found_when_no_run_is_open(books: Path, name: str, tail: bytes):
    path = books / name
    data = path.read_bytes()
    path.write_bytes(data + (data.splitlines(keepends=True)[-1] if tail == b"again" else tail))
    assert name in audit(books)


@pytest.mark.parametrize("name", OUTPUTS)
def test_swapped_doubled_and_left_out_lines_are_found(books: Path, name: str):
    path = books / name
    lines = path.read_bytes().splitlines(keepends=True)
    middle = len(lines) // 2
    swapped = [*lines[:middle], lines[middle + 1], lines[middle], *lines[middle + 2 :]]
    doubled = [*lines[:middle], lines[middle], *lines[middle:]]
    left_out = [*lines[:middle], *lines[middle + 1 :]]
    for changed in (swapped, doubled, left_out):
        path.write_bytes(b"".join(changed))
        assert name in audit(books)


def test_a_call_taken_out_with_its_line_and_its_count_is_found(books: Path):
    """Whoever changes the journal file, too, meets the state's own journal."""
    rated, journal = books / RATED, books / JOURNAL
    lines = rated.read_bytes().splitlines(keepends=True)
    rated.write_bytes(b"".join(lines[:-1]))
    text = journal.read_bytes()
    at = text.rindex(b'"rated":')
    journal.write_bytes(text[:at] + text[at:].replace(b'"rated":', b'"rated": ', 1))
    assert JOURNAL in audit(books) or RATED in audit(books)


# ---------------------------------------------------------------------------------------------- the state


Deed = Callable[[sqlite3.Connection], object]


def spoil(books: Path, deed: Deed) -> str:
    db = sqlite3.connect(books / "state.db")
    deed(db)
    db.commit()
    db.close()
    return audit(books)


def flip(table: str, column: str, where: str, at: float) -> Deed:
    """Change one byte of one value; `at` is a part of its length."""

    def deed(db: sqlite3.Connection) -> None:
        row, value = db.execute(f"select rowid, {column} from {table} where {where} limit 1").fetchone()
        data = bytearray(value.encode() if isinstance(value, str) else value)
        place = min(int(at * len(data)), len(data) - 1)
        data[place] = other(data[place])
        db.execute(
            f"update {table} set {column} = ? where rowid = ?",
            (data.decode() if isinstance(value, str) else bytes(data), row),
        )

    return deed


def flip_keyed(table: str, column: str, where: str, at: float) -> Deed:
    """As `flip`, for a table without row numbers."""

    def deed(db: sqlite3.Connection) -> None:
        [value] = db.execute(f"select {column} from {table} where {where} limit 1").fetchone()
        data = bytearray(value.encode() if isinstance(value, str) else value)
        place = min(int(at * len(data)), len(data) - 1)
        data[place] = other(data[place])
        db.execute(
            f"update {table} set {column} = ? where {where}",
            (data.decode() if isinstance(value, str) else bytes(data),),
        )

    return deed


@pytest.mark.parametrize("shelf", SHELVES)
@pytest.mark.parametrize("at", [0.0, 0.05, 0.11, 0.3, 0.5, 0.77, 0.93, 1.0])
def test_one_changed_byte_in_a_row_of_the_books_is_found(books: Path, shelf: str, at: float):
    text = spoil(books, flip_keyed("pages", "data", f"shelf = '{shelf}' and page = 0", at))
    assert shelf in text
    assert "row" in text


def test_a_changed_balance_names_the_tenant(books: Path):
    text = spoil(books, flip_keyed("pages", "data", "shelf = 'accounts' and page = 0", 0.1))
    assert "contoso" in text or "fabrikam" in text or "adatum" in text


@pytest.mark.parametrize("batch", [1, 5, 12])
@pytest.mark.parametrize("at", [0.0, 0.5, 1.0])
def test_one_changed_byte_in_the_ids_is_found(books: Path, batch: int, at: float):
    assert "id" in spoil(books, flip("seen", "ids", f"batch = {batch}", at))


@pytest.mark.parametrize("batch", [1, 5, 12])
@pytest.mark.parametrize("at", [0.01, 0.3, 0.6, 0.99])
def test_one_changed_byte_in_the_journal_of_the_state_is_found(books: Path, batch: int, at: float):
    assert "journal" in spoil(books, flip("journal", "line", f"batch = {batch}", at))


@pytest.mark.parametrize("kind", ["deck", "plans"])
@pytest.mark.parametrize("at", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_one_changed_byte_in_a_kept_deck_or_plan_is_found(books: Path, kind: str, at: float):
    assert kind in spoil(books, flip_keyed("texts", "data", f"kind = '{kind}'", at))


META = (
    """schema_version key batch next_cdr next_command state_digest journal_digest rows free plans decks seal""".split()
)


@pytest.mark.parametrize("name", [name for name in META if name != "schema_version"])
@pytest.mark.parametrize("at", [0.2, 0.6])
def test_one_changed_byte_in_a_word_about_the_whole_is_found(books: Path, name: str, at: float):
    spoil(books, flip_keyed("meta", "value", f"name = '{name}'", at))


SMALL: list[tuple[str, Deed]] = [
    ("a run's request", flip("runs", "spec", "id = 1", 0.5)),
    ("a run's place", flip("runs", "place", "id = 1", 0.5)),
    ("a run's counts", flip("runs", "counts", "id = 2", 0.5)),
    ("a run reopened", lambda db: db.execute("update runs set finished = 0 where id = 2")),
    ("a run left out", lambda db: db.execute("delete from runs where id = 1")),
    ("a length", lambda db: db.execute("update outputs set length = length + 1 where name = 'rated-cdrs.jsonl'")),
    ("a length left out", lambda db: db.execute("delete from outputs where name = 'account-events.jsonl'")),
    ("a folder", lambda db: db.execute("update outs set path = path || 'x'")),
    ("an id that nobody sent, in a batch of its own", lambda db: db.execute("insert into seen values (999, ?)", (bytes(range(16)),))),
    ("an id that nobody sent, before the first", lambda db: db.execute("insert into seen values (0, ?)", (bytes(range(16)),))),
    ("the ids of a batch left out", lambda db: db.execute("delete from seen where batch = 5")),
    ("half an id", lambda db: db.execute("update seen set ids = cast(substr(ids, 1, 8) as blob) where batch = 5")),
    ("a batch left out", lambda db: db.execute("delete from journal where batch = 5")),
    ("the last batch left out", lambda db: db.execute("delete from journal where batch = (select max(batch) from journal)")),
    ("a batch that never was", lambda db: db.execute("insert into journal values (999, 1, ?)", (b"{}",))),
    ("a page left out", lambda db: db.execute("delete from pages where shelf = 'users'")),
    ("a page cut short", lambda db: db.execute("update pages set data = substr(data, 1, 30) where shelf = 'accounts'")),
    ("a page too many", lambda db: db.execute("insert into pages values ('lots', 9, ?)", (bytes(240),))),
    ("a deck left out", lambda db: db.execute("delete from texts where kind = 'deck'")),
    ("plans left out", lambda db: db.execute("delete from texts where kind = 'plans'")),
    ("a word that is no JSON", lambda db: db.execute("update meta set value = 'x' where name = 'batch'")),
    ("a key left out", lambda db: db.execute("delete from meta where name = 'key'")),
    ("the seal left out", lambda db: db.execute("delete from meta where name = 'seal'")),
    ("a table left out", lambda db: db.execute("drop table runs")),
]  # fmt: skip


@pytest.mark.parametrize("deed", [deed for _, deed in SMALL], ids=[name for name, _ in SMALL])
def test_a_change_in_the_small_tables_is_found(books: Path, deed: Deed):
    spoil(books, deed)


@pytest.mark.parametrize("seed", range(12))
def test_a_changed_byte_of_the_file_itself_is_found_or_was_in_no_use(books: Path, seed: int):
    """SQLite leaves bytes unused; a byte that mattered makes the audit fail with a sentence, never with a stack trace."""
    path = books / "state.db"
    data = path.read_bytes()
    rng = random.Random(seed)
    change(path, rng.randrange(100, len(data)), rng.randrange(256))
    ended = front("audit", "--state", path, "--out", books)
    text = ended.stderr.decode()
    assert ended.status in (0, 1), text
    assert "Traceback" not in text
    assert "unexpected" not in text


# ---------------------------------------------------------------------------------------------- what an audit is asked


def test_an_audit_of_nothing_is_wrong_usage(tmp_path: Path, books: Path):
    assert "no such state file" in refused(front("audit", "--state", tmp_path / "none.db", "--out", books))
    assert "--out" in refused(front("audit", "--state", books / "state.db"))


def test_books_whose_run_failed_before_it_began_are_still_honest(books: Path, honest: Path):
    inputs = honest.parent / "inputs"
    ended = front(
        "rate", books / "none.jsonl", "--rates", inputs / "deck", "--state", honest / "state.db", "--out", honest
    )
    assert "none.jsonl" in refused(ended)
    ended = front(
        "rate", books / "none.jsonl", "--rates", inputs / "deck", "--state", books / "state.db", "--out", books
    )
    refused(ended)  # copied elsewhere, the files are not this folder's
    for out in (honest, books):
        assert told(front("audit", "--state", out / "state.db", "--out", out, "--json"))["ok"] is True


def test_a_run_that_failed_before_it_began_leaves_no_state_or_an_honest_one(tmp_path: Path, honest: Path):
    out = tmp_path / "new"
    refused(front("rate", tmp_path / "none.jsonl", "--rates", honest.parent / "inputs" / "deck", "--out", out))
    if (out / "state.db").exists():
        found = told(front("audit", "--state", out / "state.db", "--out", out, "--json"))
        assert (found["batches"], found["rated"]) == (0, 0)


@pytest.mark.parametrize("mode", ["none", "approve", "decline"])
def test_books_are_honest_whatever_answers_a_recharge(tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch):
    """Recharges asked for by commands and by calls, in batches of any size."""
    made = scenario("plain", tmp_path / "inputs")
    for batch in (1, 3, 7, 50_000):
        monkeypatch.setenv("RATER_BATCH_RECORDS_MAX", str(batch))
        out = tmp_path / f"{mode}-{batch}"
        told(front(*made.args(out), "--recharge", mode))
        assert told(front("audit", "--state", out / "state.db", "--out", out, "--json"))["ok"] is True
        if batch > 1:
            for name in (RATED, EVENTS, REJECTED_CDRS, REJECTED_COMMANDS):
                assert (out / name).read_bytes() == (tmp_path / f"{mode}-1" / name).read_bytes()
