"""`rater history` as an operator meets it: answers as tables and objects, refusals as sentences, settings and their secrets."""

from pathlib import Path

import pytest

from rater.doors.history.settings import load_sink_settings
from rater.doors.history.store import Store
from rater.doors.kafka.settings import load_worker_settings
from rater.doors.settings.values import SettingsRefused
from tests.doors.front import front, refused, told
from tests.history.support import event, put, rated

BROKER = {"RATER_BOOTSTRAP_SERVERS": "127.0.0.1:9092"}
POOL = "GB/MCOPSTN1/domestic/2026-11"


@pytest.fixture
def history(sqlite_store: Store) -> str:
    put(
        sqlite_store,
        [rated(0, pool=POOL, pool_minutes=1, destination_context="Domestic"), rated(1, start="2026-12-01T00:00:00.000Z")],
        [event(0, "recharge.requested", "2026-11-01T10:00:00.000Z", recharge_id="contoso:recharge:1", amount_micros=1_000_000,
               trigger_micros=1, balance_micros=0, currency="USD")],
    )  # fmt: skip
    return sqlite_store.name


@pytest.mark.parametrize("command", ["usage", "daily", "after-pool", "recharges", "events"])
def test_every_question_is_answered_as_a_table_and_as_an_object(history: str, command: str):
    shown = front("history", command, "contoso", "--history", history)
    assert shown.status == 0, shown.stderr
    assert "Reflects account-events-0 before 1, rated-cdrs-0 before 2." in shown.stdout.decode()
    found = told(front("history", command, "contoso", "--history", history, "--json"))
    assert [(one["topic"], one["partition"], one["offset"]) for one in found["reflects"]] == [
        ("account-events", 0, 1), ("rated-cdrs", 0, 2),
    ]  # fmt: skip


def test_a_screen_shows_no_number_whole_and_the_tenants_own_export_does(history: str, tmp_path: Path):
    for command in ("usage", "after-pool"):
        text = front("history", command, "contoso", "--history", history).stdout.decode()
        assert "+1...23" in text
        assert "2125550123" not in text
    out = tmp_path / "x.csv"
    shown = front("history", "export", "contoso", "--history", history, "--month", "2026-11", "--out", out)
    assert shown.stdout.decode() == f"{out}: 1 calls, 0.041 USD\n"
    assert b"+12125550123" in out.read_bytes()
    masked = front("history", "export", "contoso", "--history", history, "--out", out, "--mask", "CH")
    assert masked.status == 0
    assert b"+1212555****" in out.read_bytes()
    assert b"+12125550123" not in out.read_bytes()


def test_pages_follow_each_other(history: str):
    first = told(front("history", "usage", "contoso", "--history", history, "--limit", "1", "--json"))
    again = ("history", "usage", "contoso", "--history", history, "--limit", "1", "--json", "--after", first["next"])
    assert [call["record_id"] for call in first["calls"] + told(front(*again))["calls"]] == ["r0", "r1"]


def test_what_is_old_is_deleted_when_asked_and_confirmed(history: str):
    args = ("history", "forget", "--before", "2026-12-01", "--history", history)
    assert front(*args, stdin=b"n\n").status != 0
    assert told(front(*args, "--yes", "--json")) == {"calls": 1, "events": 1}
    found = told(front("history", "status", "--history", history, "--json"))
    assert (found["calls"], found["first_start"]) == (1, "2026-12-01T00:00:00.000Z")


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["usage", "nobody"], "the history has no call and no event of tenant 'nobody'"),
        (["usage", "contoso", "--month", "2026-13"], "--month is '2026-13'; expected year and month"),
        (["usage", "contoso", "--month", "2026-11", "--to", "2026-11-02"], "--month goes without --from and --to"),
        (["daily", "contoso", "--from", "yesterday"], "--from is 'yesterday'; expected a day or an instant in UTC"),
        (["usage", "contoso", "--after", "1.2"], "expected what the answer before gave as next"),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused_in_a_sentence(history: str, args: list[str], sentence: str):
    assert sentence in refused(front("history", *args, "--history", history))


def test_a_history_that_is_not_there_is_not_made_by_a_question(tmp_path: Path):
    text = refused(front("history", "usage", "contoso", "--history", tmp_path / "none.db"))
    assert "no such history; rater history load or rater history sink makes one" in text
    assert not (tmp_path / "none.db").exists()


# ---------------------------------------------------------------------------------------------- settings of the sink


def test_a_sink_reads_the_settings_of_the_machine_and_passes_over_the_workers(tmp_path: Path):
    config = tmp_path / "worker.toml"
    config.write_text(
        'app_id = "rating-eu"\nrates = "/nowhere"\ntopic_prefix = "eu."\nhistory_store = "/var/lib/h.db"\n'
    )
    found = load_sink_settings(config, BROKER | {"RATER_STATE_DIR": "/nowhere", "RATER_WEB_PORT": "6066"})
    assert (found.topic_prefix, found.history) == ("eu.", "/var/lib/h.db")
    assert (
        load_sink_settings(config, BROKER | {"RATER_HISTORY_STORE": "postgresql://db/h"}).history == "postgresql://db/h"
    )
    assert load_sink_settings(None, BROKER).history == "history.db"


def test_a_password_has_no_place_in_a_settings_file(tmp_path: Path):
    config = tmp_path / "sink.toml"
    config.write_text('history_store = "postgresql://rater:hunter2@db/rater"\n')
    with pytest.raises(SettingsRefused) as wrong:
        load_sink_settings(config, BROKER)
    assert "holds a password; expected it in PGPASSFILE" in str(wrong.value)
    assert "hunter2" not in str(wrong.value)


def test_a_worker_of_the_same_machine_passes_over_what_the_sink_is_told(tmp_path: Path):
    theirs = {"RATER_APP_ID": "eu", "RATER_RATES": str(tmp_path), "RATER_STATE_DIR": str(tmp_path)}
    assert load_worker_settings(None, BROKER | theirs | {"RATER_HISTORY_STORE": "h.db"}).app_id == "eu"


def test_a_history_is_for_its_owners_eyes(history: str):
    assert Path(history).stat().st_mode & 0o077 == 0


def test_a_wrong_variable_is_named(tmp_path: Path):
    with pytest.raises(
        SettingsRefused, match="unknown variable RATER_HISTORY_STOER in the environment; the nearest known one"
    ):
        load_sink_settings(None, BROKER | {"RATER_HISTORY_STOER": "x"})
    with pytest.raises(SettingsRefused, match="RATER_BOOTSTRAP_SERVERS is not set"):
        load_sink_settings(None, {})


def test_a_database_that_does_not_answer_is_told_without_its_password():
    text = refused(front("history", "status", "--history", "postgresql://rater:hunter2@127.0.0.1:9/none"))
    assert "postgresql://127.0.0.1:9/none" in text
    assert "hunter2" not in text
