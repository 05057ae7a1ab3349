"""What `rater api` is told: this machine alone by default, TLS or a refusal elsewhere; and its commands."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from rater.__main__ import cli
from rater.doors.http.serve import make_api
from rater.doors.http.settings import ApiSettings, load_api_settings
from rater.doors.settings.values import SettingsRefused


def private(path: Path, text: str = "x") -> str:
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


def test_by_default_it_listens_on_this_machine_alone_and_changes_nothing():
    settings = load_api_settings(None, {})
    assert (settings.api_host, settings.api_port) == ("127.0.0.1", 6070)
    assert (settings.connection, settings.history, settings.api_workers) == (None, None, ())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "api.example", "10.0.0.1"])
def test_elsewhere_it_wants_a_certificate_or_a_word_that_a_proxy_has_one(host: str, tmp_path: Path):
    with pytest.raises(SettingsRefused, match="RATER_API_TLS_CERT_FILE"):
        load_api_settings(None, {"RATER_API_HOST": host})
    certificate = {
        "RATER_API_TLS_CERT_FILE": private(tmp_path / "cert"),
        "RATER_API_TLS_KEY_FILE": private(tmp_path / "key"),
    }
    assert load_api_settings(None, {"RATER_API_HOST": host, **certificate}).api_host == host
    assert load_api_settings(None, {"RATER_API_HOST": host, "RATER_API_ALLOW_PLAINTEXT": "true"}).api_host == host


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"RATER_API_WORKERS": "worker1:6066"}, "without TLS"),
        ({"RATER_API_WORKERS": "https://worker1:6066"}, "RATER_INTERNAL_SECRET_FILE"),
        ({"RATER_API_WORKERS": "http://127.0.0.1:6066/live"}, "host:port"),
        ({"RATER_API_WORKERS": "http://user:pw@127.0.0.1:6066"}, "host:port"),
        ({"RATER_API_WORKERS": "ftp://127.0.0.1"}, "host:port"),
        ({"RATER_API_WORKERS": "127.0.0.1:99999"}, "host:port"),
        ({"RATER_API_PORT": "0"}, "whole number"),
        ({"RATER_API_PROT": "1"}, "RATER_API_PORT"),
        ({"RATER_API_TLS_CERT_FILE": __file__}, "RATER_API_TLS_KEY_FILE is not set"),
        ({"RATER_BOOTSTRAP_SERVERS": "kafka1:9092"}, "without TLS"),
    ],
)
def test_wrong_settings_are_refused_in_a_sentence(given: dict[str, str], told: str):
    with pytest.raises(SettingsRefused, match=told):
        load_api_settings(None, given)


def test_several_workers_and_the_secret_they_share(tmp_path: Path):
    settings = load_api_settings(
        None,
        {
            "RATER_API_WORKERS": "127.0.0.1:6066, https://w2.example:6066/",
            "RATER_INTERNAL_SECRET_FILE": private(tmp_path / "secret", "s3cret\n"),
        },
    )
    assert settings.api_workers == ("http://127.0.0.1:6066", "https://w2.example:6066")
    assert settings.internal_secret is not None
    assert settings.internal_secret.reveal() == "s3cret"
    assert "s3cret" not in repr(settings)


def test_the_environment_of_a_worker_and_its_agents_is_no_hindrance():
    others = {
        "RATER_RATES": "/etc/rater",
        "RATER_APP_ID": "rating-eu",
        "RATER_RECHARGE_PROVIDER": "ledger",
        "RATER_STATE_DIR": "/x",
    }
    assert load_api_settings(None, others).api_port == 6070


def test_tokens_are_made_listed_and_revoked_on_the_command_line(tmp_path: Path):
    run, file = CliRunner(), ["--file", str(tmp_path / "api.db")]
    made = run.invoke(
        cli, ["api", "token", "create", "finance", "--tenant", "contoso", "--scope", "funds", "--json", *file]
    )
    assert made.exit_code == 0, made.output
    token = json.loads(made.stdout)["token"]
    listed = run.invoke(cli, ["api", "token", "list", *file])
    assert token.split("_")[1] in listed.output
    assert token.split("_", 2)[2] not in listed.output
    assert "funds      in force  finance  contoso" in listed.output
    revoke = ["api", "token", "revoke", token.split("_")[1], *file]
    assert run.invoke(cli, revoke).exit_code == 0
    assert "revoked 20" in run.invoke(cli, ["api", "token", "list", *file]).output
    assert run.invoke(cli, revoke).exit_code == 2


@pytest.mark.parametrize(
    "wrong", [["api", "token", "create", "x", "--tenant", "a/b"], ["api", "token", "create", "\n", "--tenant", "*"], ["api", "token", "list"]]
)  # fmt: skip
def test_a_wrong_token_command_is_a_sentence_and_status_2(wrong: list[str], tmp_path: Path):
    told = CliRunner().invoke(cli, [*wrong, "--file", str(tmp_path / "api.db")])
    assert told.exit_code == 2
    assert "expected" in told.output or "no such file" in told.output


def test_help_teaches_by_example():
    told = CliRunner().invoke(cli, ["api", "--help"]).output
    assert "rater api token create finance --tenant contoso --scope funds" in told


def test_a_history_that_is_not_there_is_said_before_anything_is_served(tmp_path: Path):
    found = CliRunner().invoke(
        cli, ["api"], env={**{k: None for k in os.environ if k.startswith("RATER_")}, "RATER_HISTORY_STORE": str(tmp_path / "no.db"), "RATER_API_FILE": str(tmp_path / "api.db")}
    )  # fmt: skip
    assert "no such history" in str(found.exception)


def test_a_start_removes_exports_that_a_killed_process_left(tmp_path: Path):
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports" / ".export-1.csv.x").write_text("+442079460018")
    (tmp_path / "exports" / "export-1.csv").write_text("+442079460018")
    api = make_api(ApiSettings(api_file=tmp_path / "api.db"), None)
    assert list((tmp_path / "exports").iterdir()) == []
    api.database.close()
