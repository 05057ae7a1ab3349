"""The command line: exit statuses, one object with --json, and a sentence instead of a stack trace whatever goes wrong."""

import fcntl
import importlib.metadata
import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.doors.front import front, refused, told
from tests.faults.processes import rater
from tests.faults.scenarios import ASTERISK, asterisk_rows, calls, commands, rates, write_lines
from tests.workbench import call_record

COMMANDS = [["rate"], ["explain"], ["balance"], ["audit"], ["demo"], ["warm-up"], ["deck", "lint"]]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a deck, calls, commands, and the books of one run in `out`."""
    folder = tmp_path_factory.mktemp("desk")
    rates().write(folder)
    write_lines(folder / "commands.jsonl", commands())
    write_lines(folder / "calls.jsonl", calls())
    write_lines(folder / "one.jsonl", [orjson.dumps(call_record("one"))])
    told(front("rate", folder / "calls.jsonl", "--rates", folder / "deck", "--commands", folder / "commands.jsonl",
               "--out", folder / "out", "--json"))  # fmt: skip
    return folder


def rate(desk: Path, out: Path, *more: Any) -> Any:
    return front(
        "rate", desk / "one.jsonl", "--rates", desk / "deck", "--commands", desk / "commands.jsonl", "--out", out, *more
    )


# ---------------------------------------------------------------------------------------------- help


def test_help_names_every_command_and_shows_how_to_begin():
    text = front("--help").stdout.decode()
    for command in COMMANDS:
        assert command[0] in text
    assert "rater demo" in text
    assert "Exit status" in text
    assert front("-h").stdout.decode() == text


@pytest.mark.parametrize(
    "command", [command for command in COMMANDS if command[0] not in ("demo", "warm-up")], ids=" ".join
)
def test_the_help_of_a_command_shows_an_example(command: list[str]):
    ended = front(*command, "--help")
    assert ended.status == 0
    text = ended.stdout.decode()
    assert re.search(
        rf"^\s+(.*\| )?rater {' '.join(command)} ", text.split("Usage:")[1].split("\n", 1)[1], re.MULTILINE
    ), text


def test_the_version_is_one_line():
    try:
        importlib.metadata.version("rater")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("rater is not installed here, only checked out")
    ended = front("--version")
    assert ended.status == 0
    assert ended.stdout.count(b"\n") == 1


# ---------------------------------------------------------------------------------------------- exit statuses and --json


def test_what_worked_is_status_nothing_even_with_rejections(desk: Path, tmp_path: Path):
    (tmp_path / "junk.jsonl").write_bytes(b"junk\n")
    ended = front("rate", tmp_path / "junk.jsonl", "--rates", desk / "deck", "--out", tmp_path / "out")
    assert ended.status == 0
    assert b"1" in ended.stdout


def json_of(ended: Any) -> dict[str, Any]:
    """One object, from the first byte to the last, and silence elsewhere."""
    found = told(ended)
    assert ended.stdout.startswith(b"{")
    assert ended.stdout.endswith(b"}\n")
    assert ended.stderr == b""
    return found


def test_json_is_one_object_and_nothing_else(desk: Path, tmp_path: Path):
    out = desk / "out"
    assert json_of(rate(desk, tmp_path / "out", "--json"))["rated"] == 1
    assert json_of(front("balance", "contoso", "--state", out / "state.db", "--json"))["tenant"] == "contoso"
    assert json_of(front("audit", "--state", out / "state.db", "--out", out, "--json"))["ok"] is True
    assert "steps" in json_of(
        front("explain", "--rates", desk / "deck", "--state", out / "state.db", "--call", desk / "one.jsonl", "--json")
    )
    json_of(front("deck", "lint", desk / "deck", "--json"))


def test_a_balance_has_what_the_contract_asks_for(desk: Path):
    found = json_of(front("balance", "contoso", "--state", desk / "out" / "state.db", "--json"))
    wanted = "tenant currency balance_micros debt_micros invoice_micros lots pools recharge account_version".split()
    assert set(wanted) <= set(found)
    assert all({"lot_id", "left_micros", "expires_at"} <= set(lot) for lot in found["lots"])
    assert all({"pool", "capacity", "used", "left"} <= set(pool) for pool in found["pools"])
    assert {"enabled", "trigger_micros", "amount_micros", "in_flight"} <= set(found["recharge"])
    rated = [orjson.loads(line) for line in (desk / "out" / "rated-cdrs.jsonl").read_bytes().splitlines()]
    last = [row for row in rated if row["tenant"] == "contoso"][-1]
    assert (found["balance_micros"], found["account_version"]) == (last["balance_micros"], last["account_version"])


@pytest.mark.parametrize("tenant", ["contoso", "fabrikam", "adatum"])
def test_every_tenant_has_a_balance_to_show(desk: Path, tenant: str):
    state = desk / "out" / "state.db"
    assert json_of(front("balance", tenant, "--state", state, "--json"))["tenant"] == tenant
    ended = front("balance", tenant, "--state", state)
    assert ended.status == 0
    assert tenant in ended.stdout.decode()


def test_two_hundred_tenants_have_balances_whatever_their_hashes(desk: Path, tmp_path: Path):
    names = [f"tenant-{k}" for k in range(200)]
    opened = [orjson.dumps({"command_id": "1", "tenant": name, "type": "tenant.opened", "at": "2026-01-01T00:00:00Z",
                            "country": "US", "currency": "USD", "billing_mode": "prepaid"}) for name in names]  # fmt: skip
    given = write_lines(tmp_path / "opened.jsonl", opened)
    told(front("rate", "--commands", given, "--rates", desk / "deck", "--out", tmp_path / "out", "--json"))
    for name in names:
        assert told(front("balance", name, "--state", tmp_path / "out" / "state.db", "--json"))["account_version"] == 1


def test_an_explanation_changes_nothing_and_agrees_with_the_price(desk: Path, tmp_path: Path):
    call = orjson.dumps(call_record("why", ms=150_000, start="2026-11-20T12:00:00Z"))
    (tmp_path / "call.json").write_bytes(call)
    state = desk / "out" / "state.db"
    before = state.read_bytes()
    found = json_of(
        front("explain", "--rates", desk / "deck", "--state", state, "--call", tmp_path / "call.json", "--json")
    )
    again = json_of(front("explain", "--rates", desk / "deck", "--state", state, "--call", "-", "--json", stdin=call))
    assert found == again
    assert state.read_bytes() == before
    wanted = (
        "charge_micros billed_minutes pool_minutes credit_minutes outcome prefix rate_nanos_per_minute steps".split()
    )
    assert set(wanted) <= set(found)
    assert found["steps"]
    assert all(isinstance(step, str) and step for step in found["steps"])
    copy = tmp_path / "out"
    import shutil

    shutil.copytree(desk / "out", copy)
    shutil.move(copy / "state.db", tmp_path / "copy.db")
    told(front("rate", tmp_path / "call.json", "--rates", desk / "deck", "--state", tmp_path / "copy.db", "--out", tmp_path / "new",
               "--json"))  # fmt: skip
    [rated] = [orjson.loads(line) for line in (tmp_path / "new" / "rated-cdrs.jsonl").read_bytes().splitlines()]
    for name in wanted[:-1]:
        assert found[name] == rated[name], name


@pytest.mark.parametrize(
    "call",
    [
        b"",
        b"junk",
        b"{}",
        b"[]",
        orjson.dumps(call_record("x", billable_ms=-1)),
        orjson.dumps(call_record("x", tenant="nobody")),
    ],
)
def test_a_call_that_cannot_be_explained_is_a_failed_check_in_a_sentence(desk: Path, call: bytes):
    ended = front("explain", "--rates", desk / "deck", "--state", desk / "out" / "state.db", "--call", "-", stdin=call)
    refused(ended, status=1)


# ---------------------------------------------------------------------------------------------- wrong usage


USAGE = [
    ([], None),
    (["frobnicate"], "frobnicate"),
    (["rate"], "--rates"),
    (["rate", "calls.jsonl"], "--rates"),
    (["rate", "--rates", "deck"], "nothing to do"),
    (["rate", "calls.jsonl", "--rates", "deck", "--recharge", "maybe"], "maybe"),
    (["rate", "calls.jsonl", "--rates", "deck", "--source", "telepathy"], "telepathy"),
    (["rate", "calls.jsonl", "--rates", "deck", "--source", "asterisk-csv"], "--profile"),
    (["rate", "calls.jsonl", "--rates", "deck", "--profile", "x.toml"], "--profile"),
    (["rate", "calls.jsonl", "--rates", "deck", "--frob"], "--frob"),
    (["balance"], "TENANT"),
    (["balance", "contoso"], "--state"),
    (["audit", "--out", "out"], "--state"),
    (["explain", "--rates", "deck"], "--call"),
]


@pytest.mark.parametrize(("args", "named"), USAGE[1:], ids=[" ".join(args) for args, _ in USAGE[1:]])
def test_wrong_usage_is_status_two_and_names_what_is_wrong(args: list[str], named: str):
    assert named in refused(front(*args))


def test_nothing_at_all_shows_the_help():
    ended = front()
    assert ended.status in (0, 2)
    assert b"rater demo" in ended.stdout + ended.stderr


# ---------------------------------------------------------------------------------------------- what is wrong with files


def deck_with(folder: Path, **files: str | None) -> Path:
    deck = rates().write(folder)
    for name, text in files.items():
        path = deck / name.replace("_", ".")
        if text is None:
            path.unlink()
        else:
            path.write_text(text)
    return deck


GOOD_TOML = 'name = "x"\ncurrency = "USD"\n'
HEAD = "prefix,rate_per_minute\n"
BAD_DECKS: list[tuple[str, dict[str, str | None], str]] = [
    ("no deck.toml", {"deck_toml": None}, "deck.toml"),
    ("no prices", {"outbound_csv": None}, "outbound.csv"),
    ("TOML that is none", {"deck_toml": "name = "}, "deck.toml"),
    ("no currency", {"deck_toml": 'name = "x"\n'}, "currency"),
    ("a price that is none", {"outbound_csv": HEAD + "44,free\n"}, "line 2"),
    ("a price finer than the unit", {"outbound_csv": HEAD + "44,0.0000000001\n"}, "line 2"),
    ("a negative price", {"outbound_csv": HEAD + "44,-1\n"}, "line 2"),
    ("a prefix with a space", {"outbound_csv": HEAD + "1,0.1\n44 7,0.1\n"}, "line 3"),
    ("a column that nobody knows", {"outbound_csv": "prefix,rate\n44,1\n"}, "outbound.csv"),
    ("no rows", {"outbound_csv": HEAD, "inbound_csv": None}, "outbound.csv"),
]


@pytest.mark.parametrize(("files", "named"), [row[1:] for row in BAD_DECKS], ids=[row[0] for row in BAD_DECKS])
def test_a_bad_deck_refuses_to_start_and_says_where(
    desk: Path, tmp_path: Path, files: dict[str, str | None], named: str
):
    deck = deck_with(tmp_path, **files)
    ended = front("rate", desk / "one.jsonl", "--rates", deck, "--out", tmp_path / "out")
    assert named in refused(ended)
    assert not (tmp_path / "out").exists()


BAD_PLANS = [
    "",
    "plan,country\n",
    "plan,country,domestic_minutes,international_minutes,valid_from\nMCOPSTN1,gb,1,0,\n",
    "\xff",
]


@pytest.mark.parametrize("text", BAD_PLANS)
def test_bad_plans_refuse_to_start(desk: Path, tmp_path: Path, text: str):
    (tmp_path / "plans.csv").write_bytes(text.encode("latin-1"))
    assert "plans.csv" in refused(rate(desk, tmp_path / "out", "--plans", tmp_path / "plans.csv"))
    assert "none.csv" in refused(rate(desk, tmp_path / "out", "--plans", tmp_path / "none.csv"))


def test_files_that_are_not_there_are_named(desk: Path, tmp_path: Path):
    out, state = desk / "out", desk / "out" / "state.db"
    none = tmp_path / "none"
    deck = desk / "deck"
    for args in (
        ["rate", none, "--rates", deck, "--out", tmp_path / "o"],
        ["rate", desk / "one.jsonl", "--rates", none, "--out", tmp_path / "o"],
        ["rate", desk / "one.jsonl", "--rates", deck, "--commands", none, "--out", tmp_path / "o"],
        [
            "rate",
            desk / "one.jsonl",
            "--rates",
            deck,
            "--source",
            "asterisk-csv",
            "--profile",
            none,
            "--out",
            tmp_path / "o",
        ],
        ["balance", "contoso", "--state", none],
        ["audit", "--state", none, "--out", out],
        ["explain", "--rates", deck, "--call", none],
        ["explain", "--rates", none, "--call", desk / "one.jsonl"],
        ["explain", "--rates", deck, "--state", none, "--call", desk / "one.jsonl"],
    ):
        assert str(none) in refused(front(*args)), args
    assert str(none) in refused(front("audit", "--state", state, "--out", none), status=1)
    assert not none.exists()


def test_a_bad_profile_is_a_sentence(desk: Path, tmp_path: Path):
    for text in ("source = ", 'source = "asterisk-csv"\n', ASTERISK + "\n[frob]\nx = 1\n"):
        (tmp_path / "p.toml").write_text(text)
        ended = rate(desk, tmp_path / "out", "--source", "asterisk-csv", "--profile", tmp_path / "p.toml")
        assert "p.toml" in refused(ended)


def test_a_source_is_read_through_its_profile(desk: Path, tmp_path: Path):
    (tmp_path / "pbx.toml").write_text(ASTERISK)
    rows = write_lines(tmp_path / "Master.csv", asterisk_rows())
    found = told(front("rate", rows, "--rates", desk / "deck", "--commands", desk / "commands.jsonl", "--source", "asterisk-csv",
                       "--profile", tmp_path / "pbx.toml", "--out", tmp_path / "out", "--json"))  # fmt: skip
    assert found["rated"] > 40
    assert found["duplicates"] == 5
    assert found["rejected"] == 6
    reasons = {
        orjson.loads(line)["reason"] for line in (tmp_path / "out" / "rejected-cdrs.jsonl").read_bytes().splitlines()
    }
    assert reasons == {"bad_field"}  # a start that is no time
    assert (
        told(front("audit", "--state", tmp_path / "out" / "state.db", "--out", tmp_path / "out", "--json"))["ok"]
        is True
    )


@pytest.mark.parametrize("name", ["nobody", "", "Contoso", "té", "x" * 500])
def test_an_unknown_tenant_is_named(desk: Path, name: str):
    assert f"no tenant '{name}'" in refused(front("balance", name, "--state", desk / "out" / "state.db"))


@pytest.mark.parametrize(
    "content", [b"not a database at all, but long enough to be read as one" * 50, b"SQLite format 3\0" + b"x" * 5000]
)
def test_a_state_that_is_no_state_is_a_sentence_and_left_alone(desk: Path, tmp_path: Path, content: bytes):
    state = tmp_path / "state.db"
    state.write_bytes(content)
    assert "state.db" in refused(rate(desk, tmp_path / "out", "--state", state))
    assert "state.db" in refused(front("balance", "contoso", "--state", state))
    assert "state.db" in refused(front("audit", "--state", state, "--out", tmp_path))
    assert state.read_bytes() == content


def test_a_database_of_somebody_else_is_left_alone(desk: Path, tmp_path: Path):
    state = tmp_path / "other.db"
    db = sqlite3.connect(state)
    db.execute("create table photos (id integer)")
    db.commit()
    db.close()
    before = state.read_bytes()
    assert "other.db" in refused(rate(desk, tmp_path / "out", "--state", state))
    assert state.read_bytes() == before


def test_a_state_of_another_version_says_which(desk: Path, tmp_path: Path):
    told(rate(desk, tmp_path / "out", "--json"))
    db = sqlite3.connect(tmp_path / "out" / "state.db")
    db.execute("update meta set value = '1' where name = 'schema_version'")
    db.commit()
    db.close()
    for ended in (rate(desk, tmp_path / "out"), front("balance", "contoso", "--state", tmp_path / "out" / "state.db")):
        assert "version 1; this rater reads version 4. Go on with the rater that wrote it" in refused(ended)


def test_a_state_in_use_is_refused(desk: Path, tmp_path: Path):
    told(rate(desk, tmp_path / "out", "--json"))
    with (tmp_path / "out" / "state.db").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert "another rater is using this state" in refused(rate(desk, tmp_path / "out"))
    assert told(rate(desk, tmp_path / "out", "--json"))["duplicates"] == 1


def test_an_unreadable_gzip_file_is_named(desk: Path, tmp_path: Path):
    (tmp_path / "calls.gz").write_bytes(b"\x1f\x8bnothing of the kind")
    ended = front("rate", tmp_path / "calls.gz", "--rates", desk / "deck", "--out", tmp_path / "out")
    assert "calls.gz" in refused(ended)


def test_names_with_spaces_and_letters_of_the_world(desk: Path, tmp_path: Path):
    folder = tmp_path / "Büro der Anrufe 電話"
    folder.mkdir()
    calls_file = write_lines(folder / "calls vom Montag.jsonl", [orjson.dumps(call_record("one"))])
    ended = front(
        "rate",
        calls_file,
        "--rates",
        desk / "deck",
        "--commands",
        desk / "commands.jsonl",
        "--out",
        folder / "out",
        "--json",
    )
    assert told(ended)["rated"] == 1
    assert told(front("audit", "--state", folder / "out" / "state.db", "--out", folder / "out", "--json"))["ok"] is True


# ---------------------------------------------------------------------------------------------- decks


def test_a_good_deck_lints_with_status_nothing_and_a_bad_one_with_one(desk: Path, tmp_path: Path):
    assert front("deck", "lint", desk / "deck").status == 0
    for name, files, named in BAD_DECKS:
        deck = deck_with(tmp_path / name, **files)
        ended = front("deck", "lint", deck, "--json")
        assert ended.status == 1, name
        assert named.removeprefix("line ") in json.dumps(json.loads(ended.stdout)), name
        ended = front("deck", "lint", deck)
        assert ended.status == 1
        assert named.removeprefix("line ") in (ended.stdout + ended.stderr).decode()


# ---------------------------------------------------------------------------------------------- real processes


def test_a_real_process_reads_a_pipe_and_prints_json(desk: Path, tmp_path: Path):
    lines = b"\r\n".join([orjson.dumps(call_record("a")), b"", orjson.dumps(call_record("b"))])
    args = [
        "rate",
        "-",
        "--rates",
        str(desk / "deck"),
        "--commands",
        str(desk / "commands.jsonl"),
        "--out",
        str(tmp_path / "out"),
    ]
    ended = rater([*args, "--json"], stdin=lines)
    assert ended.status == 0, ended.stderr.decode()
    assert json.loads(ended.stdout)["rated"] == 2
    assert not ended.stderr or b"compiling the engine" in ended.stderr


def test_a_reader_that_goes_away_is_no_stack_trace(desk: Path):
    code = f"{sys.executable} -m rater balance contoso --state {desk / 'out' / 'state.db'} --json | head -c 1"
    done = subprocess.run(
        ["bash", "-c", code], capture_output=True, check=False, cwd=Path(__file__).resolve().parents[2]
    )
    assert done.stdout == b"{"
    assert b"Traceback" not in done.stderr
    assert b"Exception" not in done.stderr


def test_an_interrupt_says_how_to_go_on(desk: Path, tmp_path: Path):
    """Ctrl-C while standard input is silent: status 130, a sentence, and the books of what was committed.

    The signal's default is put back first: a shell's background job, and so its children, would ignore it.
    """
    import signal
    import time

    args = [
        "rate",
        "-",
        "--rates",
        str(desk / "deck"),
        "--commands",
        str(desk / "commands.jsonl"),
        "--out",
        str(tmp_path / "out"),
    ]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    process = subprocess.Popen([sys.executable, "-m", "rater", *args], env=environment, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # fmt: skip
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (tmp_path / "out" / "journal.jsonl").exists():
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err.decode()
    assert b"interrupted" in err
    assert b"Traceback" not in err
    assert out == b""
    ended = front(*args, "--json", stdin=orjson.dumps(call_record("a")))
    assert told(ended)["rated"] == 1
