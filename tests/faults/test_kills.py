"""Killed at any moment, `rater rate` run again ends in the same bytes, the same balances and the same books.

Every injection counts only if the process really died of it. The undisturbed run is the expectation; the key of the state is
fixed, so that journals and rows can be compared to the byte.
"""

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from rater.doors.failpoints import FAILPOINTS, OUTBOX_FAILPOINTS
from rater.doors.files.store import Store
from tests.faults.planted import PLANTED
from tests.faults.processes import Nursery, nursery, rater
from tests.faults.scenarios import SCENARIOS, Scenario, differences, new_state, scenario, seen

pytestmark = pytest.mark.slow

PER_BATCH = FAILPOINTS[: FAILPOINTS.index("before-finish")]


@dataclass
class Undisturbed:
    """A scenario, what it comes to when nobody disturbs it, and in how many batches."""

    scenario: Scenario
    expected: dict[str, Any]
    summary: dict[str, Any]
    template: Path
    batches: int

    def begin(self, folder: Path) -> Path:
        out = folder / "out"
        if out.exists():
            shutil.rmtree(out)
        new_state(out, self.template)
        return out

    def is_done(self, out: Path) -> bool:
        """Did the process die after its work was finished and before it could say so? Then nothing was interrupted."""
        if not (out / "journal.jsonl").exists() or (out / "state.db").stat().st_size == 0:
            return False
        store = Store(out / "state.db", read_only=True)
        try:
            return bool(store.meta("batch") == self.batches and store.unfinished() is None)
        finally:
            store.close()

    def finish(self, runner: Any, out: Path, **how: Any) -> list[str]:
        """Run until done; what differs from the undisturbed run."""
        ended = self.scenario.run(runner, out, **how)
        assert ended.status == 0, ended.stderr.decode()
        found = orjson.loads(ended.stdout)
        different = [name for name in found if name != "wall_s" and found[name] != self.summary[name]]
        return differences(seen(out), self.expected) + different


MEMORY, MEMORY_BYTES_MIN = Path("/dev/shm"), 256 << 20


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where fsync costs nothing, if this machine has such a place.

    Every run calls it as often as ever. What SIGKILL leaves behind does not depend on it: the page cache outlives the process.
    """
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= MEMORY_BYTES_MIN:
        with tempfile.TemporaryDirectory(prefix="rater-kills-", dir=MEMORY) as folder:
            yield Path(folder)
    else:
        yield tmp_path_factory.mktemp("kills")


@pytest.fixture
def tmp_path(ground: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=ground) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def runs() -> Iterator[Nursery]:
    with nursery() as found:
        yield found


@pytest.fixture(scope="module")
def undisturbed(runs: Nursery, ground: Path) -> Any:
    known: dict[str, Undisturbed] = {}

    def find(name: str) -> Undisturbed:
        if name not in known:
            folder = ground / f"of-{name}"
            folder.mkdir()
            made = scenario(name, folder / "inputs")
            template, out = folder / "empty.db", folder / "undisturbed"
            new_state(out, template)
            ended = made.run(runs.run, out)
            assert ended.status == 0, ended.stderr.decode()
            expected = seen(out)
            batches = expected["journal.jsonl"].count(b"\n")
            known[name] = Undisturbed(made, expected, orjson.loads(ended.stdout), template, batches)
        return known[name]

    return find


def test_the_undisturbed_runs_are_worth_interrupting(undisturbed: Any):
    """Every kind of output, duplicates, conflicts, expiries and several batches of commands and of calls."""
    plain = undisturbed("plain")
    read = [orjson.loads(line)["cdrs"][1] for line in plain.expected["journal.jsonl"].splitlines()]
    assert len(read) == plain.batches
    assert (
        read[4] == 0 < read[19]
    )  # so that kills at batch 5 are among the commands, and kills from 20 on among the calls
    assert plain.batches > 28
    assert all(
        plain.expected[name] for name in ("rejected-cdrs.jsonl", "rejected-commands.jsonl", "account-events.jsonl")
    )
    assert plain.summary["duplicates"] > 5
    assert plain.summary["rejected"] > 5
    assert b"lot.expired" in plain.expected["account-events.jsonl"]
    for name in SCENARIOS:
        assert undisturbed(name).batches > 8
    assert b":approved" in undisturbed("approve").expected["journal.jsonl"]
    assert b":declined" in undisturbed("decline").expected["journal.jsonl"]


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name not in ("approve", "decline", "source", "mails")])
def test_how_the_same_calls_come_in_changes_nothing_of_what_comes_out(undisturbed: Any, name: str):
    topics = ("rated-cdrs.jsonl", "account-events.jsonl", "rejected-cdrs.jsonl", "rejected-commands.jsonl")
    for topic in topics:
        assert undisturbed(name).expected[topic] == undisturbed("plain").expected[topic]


@pytest.mark.parametrize("failpoint", FAILPOINTS)
def test_killed_at_every_occurrence_of_a_failpoint(undisturbed: Any, runs: Nursery, tmp_path: Path, failpoint: str):
    plain = undisturbed("plain")
    for count in range(1, plain.batches + 1 if failpoint in PER_BATCH else 2):
        out = plain.begin(tmp_path)
        assert plain.scenario.run(runs.run, out, failpoint=f"{failpoint}:{count}").killed
        assert plain.finish(runs.run, out) == [], f"{failpoint}:{count}"


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name not in ("plain", "mails")])
def test_killed_in_every_kind_of_run(undisturbed: Any, runs: Nursery, tmp_path: Path, name: str):
    found = undisturbed(name)
    wrong = []
    for failpoint in FAILPOINTS:
        counts = {1, 2, found.batches // 2, found.batches} if failpoint in PER_BATCH else {1}
        for count in sorted(counts):
            out = found.begin(tmp_path)
            assert found.scenario.run(runs.run, out, failpoint=f"{failpoint}:{count}").killed
            if different := found.finish(runs.run, out):
                wrong.append((f"{failpoint}:{count}", different))
    assert wrong == []


def test_killed_while_its_mails_are_written(undisturbed: Any, runs: Nursery, tmp_path: Path):
    """Behind the first mails, one in the middle, the last, and before the mark: the run is not finished, and ends with the same mails, none more and none less."""
    found = undisturbed("mails")
    mails = sum(name.endswith(".eml") for name in found.expected)
    assert mails > 12
    mid, before_mark = OUTBOX_FAILPOINTS
    for failpoint in (*(f"{mid}:{count}" for count in (1, 2, mails // 2, mails)), f"{before_mark}:1"):
        out = found.begin(tmp_path)
        assert found.scenario.run(runs.run, out, failpoint=failpoint).killed
        assert found.finish(runs.run, out) == [], failpoint


@pytest.mark.parametrize("name", ["plain", "approve", "several-files", "source"])
def test_killed_again_and_again_until_there_is_nothing_left_to_kill(
    undisturbed: Any, runs: Nursery, tmp_path: Path, name: str
):
    """Every start dies, at another place, some without having done anything; the last one finishes."""
    found = undisturbed(name)
    rng = random.Random(7)
    out = found.begin(tmp_path)
    kills = 0
    while kills < 60:
        ended = found.scenario.run(runs.run, out, failpoint=f"{rng.choice(PER_BATCH)}:{rng.choice([1, 1, 2, 2, 3])}")
        if not ended.killed:
            assert ended.status == 0, ended.stderr.decode()
            break
        kills += 1
    assert kills >= 5
    assert differences(seen(out), found.expected) == []


def test_killed_at_forty_moments_that_nobody_chose(undisturbed: Any, runs: Nursery, tmp_path: Path):
    plain = undisturbed("plain")
    rng = random.Random(11)
    landed = 0
    for _ in range(120):
        out = plain.begin(tmp_path)
        ended = plain.scenario.run(runs.run, out, kill_after_s=rng.uniform(0.0, 0.4))
        if ended.killed and not plain.is_done(out):
            landed += 1
            assert plain.finish(runs.run, out) == []
        if landed == 40:
            break
    assert landed == 40


def test_a_new_state_may_be_killed_while_it_is_made(undisturbed: Any, runs: Nursery, tmp_path: Path):
    """Without a prepared state the key is new each time: what people see is compared, not the books' own bytes."""
    plain = undisturbed("plain")
    rng = random.Random(13)
    landed = 0
    for _ in range(120):
        out = tmp_path / "out"
        shutil.rmtree(out, ignore_errors=True)
        if not plain.scenario.run(runs.run, out, kill_after_s=rng.uniform(0.0, 0.12)).killed:
            continue
        if (out / "state.db").exists() and (out / "state.db").stat().st_size and plain.is_done(out):
            continue  # it died between its last commit and its exit: the same command is a new run
        landed += 1
        ended = plain.scenario.run(runs.run, out)
        assert ended.status == 0, ended.stderr.decode()
        found = seen(out)
        for topic in ("rated-cdrs.jsonl", "account-events.jsonl", "rejected-cdrs.jsonl", "rejected-commands.jsonl"):
            assert found[topic] == plain.expected[topic]
        if landed == 15:
            break
    assert landed == 15


def test_a_state_whose_very_first_write_was_cut_short_is_begun_again(undisturbed: Any, runs: Nursery, tmp_path: Path):
    """SQLite leaves pages and a journal to roll back; afterwards the file is empty, as if nobody had begun."""
    import subprocess
    import sys

    plain = undisturbed("plain")
    out = tmp_path / "out"
    out.mkdir()
    code = (
        "import sqlite3, os, sys\n"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "db.execute('pragma page_size=8192'); db.execute('pragma cache_size=1'); db.execute('begin immediate')\n"
        "db.execute('create table meta (name text primary key, value blob) without rowid')\n"
        "for k in range(200): db.execute('insert into meta values (?, ?)', (str(k), 'x' * 4000))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(out / "state.db")], check=False)
    assert (out / "state.db").stat().st_size > 0
    ended = plain.scenario.run(runs.run, out)
    assert ended.status == 0, ended.stderr.decode()
    assert seen(out)["rated-cdrs.jsonl"] == plain.expected["rated-cdrs.jsonl"]


@pytest.mark.parametrize("failpoint", FAILPOINTS)
@pytest.mark.parametrize("count", [1, 9])
def test_the_books_of_an_interrupted_run_pass_an_audit(
    undisturbed: Any, runs: Nursery, tmp_path: Path, failpoint: str, count: int
):
    plain = undisturbed("plain")
    out = plain.begin(tmp_path)
    plain.scenario.run(runs.run, out, failpoint=f"{failpoint}:{count if failpoint in PER_BATCH else 1}")
    ended = runs.run(["audit", "--state", str(out / "state.db"), "--out", str(out)])
    assert ended.status == 0, ended.stderr.decode()


def test_an_interrupted_run_must_be_taken_up_by_the_same_command_or_abandoned(
    undisturbed: Any, runs: Nursery, tmp_path: Path
):
    plain = undisturbed("plain")
    out = plain.begin(tmp_path)
    assert plain.scenario.run(runs.run, out, failpoint="after-commit:9").killed
    lines = (plain.scenario.folder / "calls.jsonl").read_bytes().splitlines()
    other = tmp_path / "other.jsonl"
    other.write_bytes(b"\n".join(lines[:60]) + b"\n")
    args = plain.scenario.args(out)
    args[1] = str(other)
    ended = runs.run(args, batch=7)
    assert ended.status == 2
    assert b"an interrupted run is not finished" in ended.stderr
    assert b"calls" in ended.stderr
    assert b"Traceback" not in ended.stderr
    ended = runs.run([*args, "--abandon-unfinished"], batch=7)
    assert ended.status == 0, ended.stderr.decode()
    ended = runs.run(["audit", "--state", str(out / "state.db"), "--out", str(out)])
    assert ended.status == 0, ended.stderr.decode()
    ids = [orjson.loads(line)["record_id"] for line in (out / "rated-cdrs.jsonl").read_bytes().splitlines()]
    tenants = [orjson.loads(line)["tenant"] for line in (out / "rated-cdrs.jsonl").read_bytes().splitlines()]
    assert len(set(zip(tenants, ids, strict=True))) == len(ids)


def test_real_processes_from_their_first_instruction(undisturbed: Any, tmp_path: Path):
    """`python -m rater rate`, each with its own interpreter: one kill a start until all is done, by failpoint and by time."""
    plain = undisturbed("plain")
    rng = random.Random(17)
    out = plain.begin(tmp_path)
    landed = 0
    while landed < 40:
        if landed % 2:
            ended = plain.scenario.run(rater, out, kill_after_s=rng.uniform(0.2, 1.6))
        else:
            ended = plain.scenario.run(rater, out, failpoint=f"{rng.choice(PER_BATCH)}:{rng.choice([1, 2, 2])}")
        if not ended.killed or plain.is_done(out):
            assert ended.killed or ended.status == 0, ended.stderr.decode()
            assert differences(seen(out), plain.expected) == []
            out = plain.begin(tmp_path)
            continue
        landed += 1
    ended = plain.scenario.run(rater, out)
    assert ended.status == 0, ended.stderr.decode()
    assert differences(seen(out), plain.expected) == []


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_caught(undisturbed: Any, runs: Nursery, tmp_path: Path, bug: str):
    """The same kills, in a house with one mistake: at least one of them must end otherwise."""
    plain = undisturbed("plain")
    for failpoint in (
        "after-commit:5",
        "in-transaction:6",
        "before-write:12",
        "after-write:24",
        "mid-write:26",
        "after-commit:20",
    ):
        out = plain.begin(tmp_path)
        assert plain.scenario.run(runs.run, out, failpoint=failpoint, planted=bug).killed
        ended = plain.scenario.run(runs.run, out, planted=bug)
        if ended.status != 0:
            return
        try:
            if differences(seen(out), plain.expected):
                return
        except Exception:
            return  # the books cannot even be read
    pytest.fail(f"{bug}: no kill told it from an honest house")
