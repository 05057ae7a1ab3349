"""`rater rate`: files in, files out, one run after another; each record once, whichever file or run it comes in."""

import gzip
import json
import os
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest

from rater.doors.files.inputs import InputProblem, LineStream, Place
from rater.doors.files.outputs import EVENTS, JOURNAL, OUTPUTS, RATED, REJECTED_CDRS, REJECTED_COMMANDS
from tests.doors.front import front, refused, told
from tests.faults.scenarios import calls, commands, rates, write_lines
from tests.schema_check import validate
from tests.workbench import call_record

TOPIC = {RATED: "rated-cdrs", EVENTS: "account-events", REJECTED_CDRS: "rejected-cdrs", REJECTED_COMMANDS: "rejected-commands",
         JOURNAL: "rater-journal"}  # fmt: skip


class Desk:
    """A folder with a deck and commands, and short ways to rate there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.deck = rates().write(folder)
        self.commands = write_lines(folder / "commands.jsonl", commands())
        self.out = folder / "out"
        self.count = 0

    def file(self, lines: list[bytes], **how: bytes) -> str:
        self.count += 1
        return write_lines(self.folder / f"calls-{self.count}.jsonl", lines, **how)

    def rate(self, *args: Any, stdin: bytes = b"", out: Path | None = None, opened: bool = True) -> dict[str, Any]:
        more = ["--commands", self.commands] if opened else []
        return told(front("rate", *args, *more, "--rates", self.deck, "--out", out or self.out, "--json", stdin=stdin))

    def lines(self, name: str, out: Path | None = None) -> list[bytes]:
        return ((out or self.out) / name).read_bytes().splitlines()

    def bytes(self, out: Path | None = None) -> dict[str, bytes]:
        return {name: ((out or self.out) / name).read_bytes() for name in OUTPUTS if name != JOURNAL}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def records(count: int, first: int = 0, **fields: Any) -> list[bytes]:
    return [orjson.dumps(call_record(f"r{k}", **fields)) for k in range(first, first + count)]


# ---------------------------------------------------------------------------------------------- what comes out


def test_every_line_written_is_what_its_schema_promises(desk: Desk):
    found = desk.rate(desk.file(calls(), end=b"\n"), "--recharge", "approve")
    assert found["rated"] > 80
    for name, topic in TOPIC.items():
        lines = desk.lines(name)
        assert lines, name
        for line in lines:
            validate(topic, line)


def test_every_record_ends_in_exactly_one_place(desk: Desk):
    lines = calls()
    found = desk.rate(desk.file(lines))
    assert found["read"] == len(lines) == found["rated"] + found["rejected"] + found["duplicates"]
    assert found["rated"] == len(desk.lines(RATED)) == sum(found["by_outcome"].values())
    assert found["rejected"] == len(desk.lines(REJECTED_CDRS))
    assert found["events"] == len(desk.lines(EVENTS))
    rated = [orjson.loads(line) for line in desk.lines(RATED)]
    assert found["charge_micros"] == {"USD": sum(row["charge_micros"] for row in rated)}
    assert found["pool_minutes"] == sum(row["pool_minutes"] for row in rated)
    assert found["credit_minutes"] == sum(row["credit_minutes"] for row in rated)
    for outcome, count in found["by_outcome"].items():
        assert count == sum(row["outcome"] == outcome for row in rated)
    offsets = [orjson.loads(line)["input"][1] for name in (RATED, REJECTED_CDRS) for line in desk.lines(name)]
    assert len(set(offsets)) == len(offsets)
    assert set(offsets) <= set(range(len(lines)))


def test_the_summary_has_what_the_contract_asks_for(desk: Desk):
    found = desk.rate(desk.file(records(2)))
    wanted = "read rated rejected duplicates by_outcome charge_micros pool_minutes credit_minutes events wall_s".split()
    assert set(wanted) <= set(found)
    assert found["wall_s"] >= 0


def test_a_run_without_calls_applies_its_commands(desk: Desk):
    found = desk.rate()
    assert (found["read"], found["rated"]) == (0, 0)
    assert len(desk.lines(REJECTED_COMMANDS)) == 5


def test_empty_and_blank_inputs_are_no_records(desk: Desk):
    empty = desk.file([], last=b"")
    blank = desk.file([b"", b"   ", b"\t", b"\r"], end=b"\r\n")
    found = desk.rate(empty, blank)
    assert found["read"] == 0
    assert all(desk.bytes()[name] == b"" for name in (RATED, REJECTED_CDRS))


# ---------------------------------------------------------------------------------------------- how it comes in


@pytest.mark.parametrize(
    "form", ["lf", "no last line feed", "crlf", "blank lines", "gz", "two files", "stdin", "two gz members"]
)
def test_the_same_records_in_another_form_come_to_the_same(desk: Desk, form: str):
    lines = calls()
    args: list[str] = []
    stdin = b""
    if form == "lf":
        args = [desk.file(lines)]
    elif form == "no last line feed":
        args = [desk.file(lines, last=b"")]
    elif form == "crlf":
        args = [desk.file(lines, end=b"\r\n", last=b"\r\n")]
    elif form == "blank lines":
        args = [desk.file([line for pair in lines for line in (b"", pair, b" \t")])]
    elif form in ("gz", "two gz members"):
        half = len(lines) // 2
        parts = [lines] if form == "gz" else [lines[:half], lines[half:]]
        path = desk.folder / "calls.gz"
        path.write_bytes(b"".join(gzip.compress(b"".join(line + b"\n" for line in part)) for part in parts))
        args = [str(path)]
    elif form == "two files":
        args = [desk.file(lines[:50], last=b""), desk.file(lines[50:])]
    elif form == "stdin":
        args, stdin = ["-"], b"\n".join(lines)
    plain = desk.folder / "plain"
    desk.rate(desk.file(lines), out=plain)
    desk.rate(*args, stdin=stdin)
    assert desk.bytes() == desk.bytes(plain)


@pytest.mark.parametrize("batch", [1, 2, 3, 10, 64, 1000])
def test_the_size_of_a_batch_changes_no_byte(desk: Desk, batch: int, monkeypatch: pytest.MonkeyPatch):
    calls_file = desk.file([*calls()[:60], b"", *calls()[60:]])
    whole = desk.folder / "whole"
    desk.rate(calls_file, "--recharge", "approve", out=whole)
    monkeypatch.setenv("RATER_BATCH_RECORDS_MAX", str(batch))
    desk.rate(calls_file, "--recharge", "approve")
    assert desk.bytes() == desk.bytes(whole)


def test_a_file_may_be_given_twice_and_counts_once(desk: Desk):
    calls_file = desk.file(records(10))
    found = desk.rate(calls_file, calls_file)
    assert (found["rated"], found["duplicates"]) == (10, 10)


def test_a_rated_call_holds_the_very_bytes_of_its_record(desk: Desk):
    raw = b' { "note" : "caf\xc3\xa9 \\u20ac \\/" ,' + orjson.dumps(call_record("odd"))[1:] + b" \t"
    desk.rate(desk.file([raw]))
    [line] = desk.lines(RATED)
    assert line.startswith(b'{"v":1,"call":' + raw + b',"outcome":')


def test_a_carriage_return_inside_a_record_ends_nothing(desk: Desk):
    raw = orjson.dumps(call_record("odd")).replace(b',"tenant"', b',\r"tenant"')
    found = desk.rate(desk.file([raw]))
    assert found["rated"] == 1
    assert told(front("audit", "--state", desk.out / "state.db", "--out", desk.out, "--json"))["rated"] == 1


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c"])
def test_only_a_line_feed_ends_a_line(desk: Desk, separator: str):
    raw = json.dumps(call_record("odd", switch=f"a{separator}b"), ensure_ascii=ord(separator) < 32).encode()
    assert desk.rate(desk.file([raw]))["rated"] == 1
    assert told(front("audit", "--state", desk.out / "state.db", "--out", desk.out, "--json"))["rated"] == 1


def test_a_line_longer_than_any_record_is_one_rejection(desk: Desk):
    found = desk.rate(desk.file([*records(1), b"x" * 20_000_000, *records(1, 1)]))
    assert (found["rated"], found["rejected"]) == (2, 1)
    assert orjson.loads(desk.lines(REJECTED_CDRS)[0])["reason"] == "too_large"


# ---------------------------------------------------------------------------------------------- one run after another


def test_a_later_run_goes_on_where_the_last_one_ended(desk: Desk):
    lines = calls()
    whole = desk.folder / "whole"
    desk.rate(desk.file(lines), out=whole)
    desk.rate(desk.file(lines[:33]))
    desk.rate(desk.file(lines[33:34]), opened=False)
    desk.rate(desk.file(lines[34:]), opened=False)
    assert desk.bytes() == desk.bytes(whole)
    inputs = [orjson.loads(line)["cdrs"][1:] for line in desk.lines(JOURNAL)]
    assert all(a[1] == b[0] for a, b in pairwise(inputs))
    balances = [told(front("balance", "contoso", "--state", out / "state.db", "--json")) for out in (whole, desk.out)]
    assert balances[0] == balances[1]


def test_a_record_is_charged_once_in_whichever_run_it_comes(desk: Desk):
    lines = records(10)
    desk.rate(desk.file(lines))
    before = desk.bytes()
    again = desk.rate(desk.file(lines[::-1]), opened=False)
    assert (again["rated"], again["duplicates"]) == (0, 10)
    assert desk.bytes() == before
    changed = desk.rate(desk.file([lines[0].replace(b"+12125550123", b"+12125550124")]), opened=False)
    assert changed["rejected"] == 1
    assert orjson.loads(desk.lines(REJECTED_CDRS)[0])["reason"] == "conflict"


def test_commands_come_before_calls_and_are_applied_once(desk: Desk):
    first = desk.rate(desk.file(records(1)))
    second = desk.rate(desk.file(records(1, 1)))  # the same commands again
    assert first["rated"] == second["rated"] == 1
    versions = [orjson.loads(line)["account_version"] for line in desk.lines(RATED)]
    assert versions[1] == versions[0] + 1


def test_several_command_files_are_applied_in_order(desk: Desk):
    given = commands()
    a, b = (write_lines(desk.folder / name, part) for name, part in (("a.jsonl", given[:3]), ("b.jsonl", given[3:])))
    whole = desk.folder / "whole"
    desk.rate(desk.file(records(3)), out=whole)
    desk.rate(desk.file(records(3)), "--commands", a, "--commands", b, opened=False)
    assert desk.bytes() == desk.bytes(whole)


def test_two_folders_may_share_a_state_and_an_audit_needs_both(desk: Desk):
    state = desk.folder / "shared.db"
    one, two = desk.folder / "one", desk.folder / "two"
    desk.rate(desk.file(records(5)), "--state", state, out=one)
    desk.rate(desk.file(records(5, 5)), "--state", state, out=two, opened=False)
    assert len(desk.lines(RATED, two)) == 5
    assert told(front("audit", "--state", state, "--out", one, "--out", two, "--json"))["rated"] == 10
    (two / RATED).write_bytes((two / RATED).read_bytes().replace(b'"charge_micros":20500', b'"charge_micros":20501', 1))
    assert RATED in refused(front("audit", "--state", state, "--out", one, "--out", two), status=1)


# ---------------------------------------------------------------------------------------------- refusals


def test_an_input_that_is_not_there_stops_the_run_before_it_begins(desk: Desk):
    for args in ([desk.folder / "none.jsonl"], [desk.file(records(1)), desk.folder / "none.jsonl"], [desk.folder]):
        text = refused(front("rate", *args, "--rates", desk.deck, "--out", desk.out))
        assert str(args[-1]) in text
    assert desk.rate(desk.file(records(1)))["rated"] == 1


def test_a_gzip_file_that_is_cut_off_or_damaged_says_so_and_the_rest_is_rated_once(desk: Desk):
    good = gzip.compress(b"\n".join(records(3000)) + b"\n", mtime=0)
    path = desk.folder / "calls.gz"
    for bad in (good[: len(good) // 2], good[:-4], good[:200] + bytes([good[200] ^ 255]) + good[201:]):
        path.write_bytes(bad)
        text = refused(front("rate", path, "--rates", desk.deck, "--commands", desk.commands, "--out", desk.out,
                             "--abandon-unfinished"))  # fmt: skip
        assert "calls.gz" in text
    path.write_bytes(good)
    found = desk.rate(path, "--abandon-unfinished", opened=False)
    assert found["rated"] + found["duplicates"] == 3000
    assert len(desk.lines(RATED)) == 3000


def test_an_output_that_somebody_cut_is_refused_and_left_alone(desk: Desk):
    desk.rate(desk.file(records(5)))
    data = (desk.out / RATED).read_bytes()
    (desk.out / RATED).write_bytes(data[:-1])
    ended = front("rate", desk.file(records(1, 9)), "--rates", desk.deck, "--out", desk.out)
    assert f"{len(data)} were committed" in refused(ended)
    assert (desk.out / RATED).read_bytes() == data[:-1]


def test_the_folder_of_another_state_is_refused_and_left_alone(desk: Desk):
    desk.rate(desk.file(records(5)))
    before = {path.name: path.read_bytes() for path in desk.out.iterdir()}
    ended = front(
        "rate", desk.file(records(5)), "--rates", desk.deck, "--out", desk.out, "--state", desk.folder / "new.db"
    )
    assert "choose another --out" in refused(ended)
    assert {path.name: path.read_bytes() for path in desk.out.iterdir()} == before


def test_the_rest_of_a_file_that_changed_under_an_interrupted_run_is_refused(desk: Desk):
    from tests.faults.processes import nursery

    calls_file = desk.file(records(50))
    args = ["rate", calls_file, "--rates", str(desk.deck), "--commands", desk.commands, "--out", str(desk.out)]
    with nursery() as runs:
        assert runs.run(args, failpoint="after-commit:8", batch=7).killed
    Path(calls_file).write_bytes(b"\n".join(records(50, 1000)))
    text = refused(front(*args))
    assert "an interrupted run is not finished" in text
    assert "calls" in text


# ---------------------------------------------------------------------------------------------- lines into batches


def pieces(names: list[str], lines_max: int, bytes_max: int = 1 << 20, start: Place | None = None) -> list[Any]:
    return list(LineStream(names, lines_max, bytes_max, start or Place(), 0).pieces())


@pytest.mark.parametrize("seed", range(25))
def test_a_stream_is_cut_alike_wherever_it_is_taken_up(tmp_path: Path, seed: int):
    """From the place behind any batch on come the same batches as without an interruption."""
    rng = random.Random(seed)
    names = []
    for number in range(rng.randint(1, 4)):
        lines = [bytes(rng.choice(b"abc \r") for _ in range(rng.randint(0, 9))) for _ in range(rng.randint(0, 12))]
        data = b"\n".join(lines) + rng.choice([b"", b"\n", b"\r\n"])
        path = tmp_path / f"{number}"
        path.write_bytes(gzip.compress(data) if rng.random() < 0.4 else data)
        names.append(str(path))
    lines_max, bytes_max = rng.randint(1, 6), rng.choice([4, 20, 1 << 20])
    whole = pieces(names, lines_max, bytes_max)
    expected = [[piece.records.raw(k) for k in range(piece.records.count)] for piece in whole]
    text = b"\n".join(
        (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).removesuffix(b"\n")
        for data in (Path(name).read_bytes() for name in names)
    )
    lines = [line[:-1] if line.endswith(b"\r") else line for line in text.split(b"\n")]
    assert [raw for batch in expected for raw in batch] == [line for line in lines if line.strip(b" \t\r\n")]
    for k, piece in enumerate(whole):
        rest = pieces(names, lines_max, bytes_max, piece.after)
        assert [[p.records.raw(j) for j in range(p.records.count)] for p in rest] == expected[k + 1 :]


def test_offsets_count_records_and_not_lines(tmp_path: Path):
    path = tmp_path / "a"
    path.write_bytes(b"\n1\n\n2\n \n3")
    stream = LineStream([str(path)], 2, 1 << 20, Place(), 10)
    assert [piece.records.offsets.tolist() for piece in stream.pieces()] == [[10], [11], [12]]


def test_an_input_that_vanishes_is_named(tmp_path: Path):
    with pytest.raises(InputProblem, match=r"none: No such file"):
        pieces([str(tmp_path / "none")], 5)


def test_the_environment_says_how_many_records_are_committed_together(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    for text in ("0", "-1", "10k", "", " 5", "٣", "1e3"):
        monkeypatch.setenv("RATER_BATCH_RECORDS_MAX", text)
        sentence = refused(front("rate", desk.file(records(1)), "--rates", desk.deck, "--out", desk.out))
        assert f"RATER_BATCH_RECORDS_MAX is '{text}'; expected a whole number" in sentence
    monkeypatch.setenv("RATER_BATCH_RECORDS_MAX", "4")
    desk.rate(desk.file(records(10)), out=desk.folder / "four")
    assert len(desk.lines(JOURNAL, desk.folder / "four")) == -(-len(commands()) // 4) + 3


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_a_sentence(desk: Desk):
    desk.out.mkdir()
    desk.out.chmod(0o500)
    assert str(desk.out) in refused(front("rate", desk.file(records(1)), "--rates", desk.deck, "--out", desk.out))
