"""`rater mediate`: files of a switch become call records, each once, whatever interrupts it."""

import gzip
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rater.sources.asterisk_layouts import LAYOUTS
from tests.doors.front import front, refused, told
from tests.faults.processes import Nursery, nursery
from tests.schema_check import validate
from tests.sources.support import ASTERISK, row

ROOT = Path(__file__).resolve().parents[2]
MASTER = LAYOUTS["master-18"]


def line(number: int, **changed: str) -> bytes:
    return row(MASTER, uniqueid=f"1768483800.{number}", **changed)


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    (tmp_path / "pbx.toml").write_text(ASTERISK, "utf-8")
    (tmp_path / "Master.csv").write_bytes(b"".join(line(n) for n in range(5)) + b"not a row\n")
    return tmp_path


def mediated(desk: Path, *inputs: Path, **options: Any) -> dict[str, Any]:
    extra = [f"--{name}" for name in options]
    return told(front("mediate", *inputs, "--source", "asterisk-csv", "--profile", desk / "pbx.toml", "--out", desk / "out",
                      "--json", *extra))  # fmt: skip


def written(desk: Path) -> list[dict[str, Any]]:
    return [validate("cdrs", text) for text in (desk / "out" / "cdrs.jsonl").read_bytes().splitlines()]


def numbers(desk: Path) -> list[int]:
    """Which of the lines became calls, in order."""
    return [int(call["record_id"].split("1768483800.")[1].split(":")[0]) for call in written(desk)]


def test_calls_and_rejections_are_written_and_counted(desk: Path):
    found = mediated(desk, desk / "Master.csv")
    assert (found["read"], found["written"], found["connected"], found["rejected"]) == (6, 5, 5, 1)
    assert found["billed_s"] == 5 * 154
    assert found["rejected_by_reason"] == {"bad_source_row": 1}
    assert len(written(desk)) == 5
    [rejected] = (desk / "out" / "rejected-raw.jsonl").read_bytes().splitlines()
    fields = validate("rejected-raw", rejected)
    assert (fields["reason"], fields["file"], fields["record"]) == ("bad_source_row", "Master.csv", 6)


def test_what_it_writes_is_what_rate_reads(desk: Path):
    mediated(desk, desk / "Master.csv")
    opened = {"command_id": "c", "tenant": "acme", "type": "tenant.opened", "at": "2026-01-01T00:00:00Z", "country": "GB",
              "currency": "USD", "billing_mode": "prepaid"}  # fmt: skip
    (desk / "accounts.jsonl").write_text(json.dumps(opened), "utf-8")
    ended = front("rate", desk / "out" / "cdrs.jsonl", "--commands", desk / "accounts.jsonl", "--rates",
                  ROOT / "rates" / "example-usd", "--out", desk / "rated", "--json")  # fmt: skip
    assert (told(ended)["read"], told(ended)["rated"]) == (5, 5)


def test_a_folder_is_read_in_order_and_unfinished_files_are_left_alone(desk: Path):
    drop = desk / "drop"
    drop.mkdir()
    (drop / "b.csv").write_bytes(line(2))
    (drop / "a.csv.gz").write_bytes(gzip.compress(line(1)))
    (drop / "c.csv.part").write_bytes(line(3))
    (drop / ".d.csv").write_bytes(line(4))
    assert mediated(desk, drop)["written"] == 2
    assert numbers(desk) == [1, 2]


def test_a_file_that_is_done_is_passed_over_and_a_new_one_read(desk: Path):
    mediated(desk, desk / "Master.csv")
    (desk / "Master.csv.1").write_bytes(line(9))
    again = mediated(desk, desk / "Master.csv", desk / "Master.csv.1")
    assert (again["files"], again["files_known"], again["written"]) == (1, 1, 1)
    assert len(written(desk)) == 6


def test_a_file_that_has_grown_is_refused_with_what_to_do(desk: Path):
    mediated(desk, desk / "Master.csv")
    big = desk / "Master.csv"
    big.write_bytes(big.read_bytes() + line(7))
    ended = front("mediate", big, "--source", "asterisk-csv", "--profile", desk / "pbx.toml", "--out", desk / "out")
    assert "--follow" in refused(ended)


def test_another_profile_needs_another_folder(desk: Path):
    mediated(desk, desk / "Master.csv")
    (desk / "pbx.toml").write_text(ASTERISK.replace('tenant = "acme"', 'tenant = "other"'), "utf-8")
    ended = front("mediate", desk / "Master.csv", "--source", "asterisk-csv", "--profile", desk / "pbx.toml", "--out",
                  desk / "out")  # fmt: skip
    assert "another profile" in refused(ended)


def test_sources_are_listed_and_canonical_is_none_of_them(desk: Path):
    names = front("mediate", "--source", "help").stdout.decode().split()
    assert "asterisk-csv" in names
    assert "rater rate" in refused(front("mediate", "x", "--source", "canonical"))
    assert refused(front("mediate", "--source", "asterisk-csv", "--profile", desk / "pbx.toml"))


def command(desk: Path, *args: str) -> list[str]:
    return [
        "mediate",
        "--source",
        "asterisk-csv",
        "--profile",
        str(desk / "pbx.toml"),
        "--out",
        str(desk / "out"),
        *args,
    ]


def process(desk: Path, *args: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "rater", *command(desk, *args)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


@pytest.fixture(scope="module")
def runs() -> Iterator[Nursery]:
    with nursery() as found:
        yield found


@pytest.mark.parametrize("point", ["before-write", "mid-write", "after-write", "after-sync", "after-commit"])
@pytest.mark.parametrize("times", [1, 2])
def test_killed_anywhere_and_run_again_the_outputs_are_those_of_an_undisturbed_run(
    desk: Path, runs: Nursery, point: str, times: int
):
    (desk / "more.csv").write_bytes(b"".join(line(n) for n in range(100, 110)) + b"bad\n")
    files = [str(desk / "Master.csv"), str(desk / "more.csv")]
    assert runs.run(command(desk, *files), failpoint=f"{point}:{times}").killed
    again = runs.run(command(desk, *files))
    assert again.status == 0, again.stderr.decode()
    disturbed = [(desk / "out" / name).read_bytes() for name in ("cdrs.jsonl", "rejected-raw.jsonl")]
    (desk / "out").rename(desk / "disturbed")
    mediated(desk, *map(Path, files))
    assert disturbed == [(desk / "out" / name).read_bytes() for name in ("cdrs.jsonl", "rejected-raw.jsonl")]


def wait_for(desk: Path, lines: int) -> None:
    deadline = time.monotonic() + 60
    path = desk / "out" / "cdrs.jsonl"
    while time.monotonic() < deadline and (not path.exists() or path.read_bytes().count(b"\n") < lines):
        time.sleep(0.05)
    time.sleep(0.2)  # the commit behind the lines
    assert path.read_bytes().count(b"\n") == lines


def test_a_growing_file_is_followed_line_by_line_and_over_a_kill(desk: Path):
    growing = desk / "growing.csv"
    growing.write_bytes(line(1) + line(2)[:20])
    first = process(desk, str(growing), "--follow")
    try:
        wait_for(desk, 1)
        with growing.open("ab") as file:
            file.write(line(2)[20:] + line(3))
        wait_for(desk, 3)
    finally:
        first.kill()
        first.wait()
    with growing.open("ab") as file:
        file.write(line(4))
    second = process(desk, str(growing), "--follow")
    try:
        wait_for(desk, 4)
        second.send_signal(signal.SIGTERM)
        assert second.wait(30) == 0
    finally:
        second.kill()
    assert numbers(desk) == [1, 2, 3, 4]


def test_files_dropped_into_a_folder_are_read_once_and_moved(desk: Path):
    drop = desk / "drop"
    drop.mkdir()
    watching = process(desk, "--watch", str(drop), "--json")
    try:
        (drop / "good.csv").write_bytes(line(1) + line(2))
        (drop / "bad.csv").write_bytes(b"no row at all\n")
        (drop / "half.csv.part").write_bytes(line(3)[:30])
        wait_for(desk, 2)
        (drop / "half.csv.part").write_bytes(line(3))
        (drop / "half.csv.part").rename(drop / "half.csv")
        wait_for(desk, 3)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and len(list(drop.glob("*/*.csv"))) < 3:
            time.sleep(0.05)
        watching.send_signal(signal.SIGTERM)
        out, _ = watching.communicate(timeout=30)
    finally:
        watching.kill()
    assert sorted(path.name for path in (drop / "done").iterdir()) == ["good.csv", "half.csv"]
    assert sorted(path.name for path in (drop / "bad").iterdir()) == ["bad.csv", "bad.csv.reasons"]
    assert (drop / "bad" / "bad.csv.reasons").read_text("utf-8") == "bad_source_row: 1\n"
    assert json.loads(out)["written"] == 3
