"""What the recharge agent is told, and what it refuses before it starts."""

import sys
from pathlib import Path

import pytest

from rater.doors.service.recharge_command import make_provider
from rater.doors.service.recharge_settings import KEYS, SECRETS, RechargeSettings, load_recharge_settings
from rater.doors.settings.agent import AGENTS
from rater.doors.settings.reading import AGENT_PREFIXES
from rater.doors.settings.values import SettingsRefused

PASSWORD = "correct-horse-battery"


@pytest.fixture
def least(tmp_path: Path) -> dict[str, str]:
    ledger = tmp_path / "ledger.toml"
    ledger.write_text('[default]\nper_month = { USD = "1" }\n')
    return {
        "RATER_APP_ID": "rating-eu",
        "RATER_BOOTSTRAP_SERVERS": "127.0.0.1:9092",
        "RATER_STATE_DIR": str(tmp_path),
        "RATER_RECHARGE_LEDGER": str(ledger),
    }


def load(environment: dict[str, str]) -> RechargeSettings:
    return load_recharge_settings(None, environment)


def refusal(environment: dict[str, str]) -> str:
    with pytest.raises(SettingsRefused) as refused:
        load(environment)
    return str(refused.value)


def test_the_worker_s_environment_serves_the_agent_too_with_a_group_and_a_page_of_its_own(least: dict[str, str]):
    beside = {
        "RATER_RATES": "/nowhere",
        "RATER_WEB_PORT": "6066",
        "RATER_NOTIFICATION_WEB_PORT": "1",
        "RATER_COMMIT_INTERVAL_MS": "x",
    }
    settings = load(least | beside)
    assert (settings.provider, settings.surroundings.group) == ("ledger", "rating-eu-recharge")
    assert (settings.surroundings.web_host, settings.surroundings.web_port) == ("127.0.0.1", 6067)
    assert load(least | {"RATER_RECHARGE_WEB_PORT": "7000"}).surroundings.web_port == 7000
    assert "unknown variable RATER_RECHARGE_LEGDER" in refusal(least | {"RATER_RECHARGE_LEGDER": "x"})
    assert all(key.startswith("recharge_") for key in KEYS)
    assert {name + "_" for name in AGENTS} <= set(AGENT_PREFIXES)


@pytest.mark.parametrize(
    ("provider", "told"),
    [("http", "RATER_RECHARGE_HTTP_URL is not set and the provider is http; expected where"),
     ("stripe", "RATER_RECHARGE_STRIPE_KEY is not set and the provider is stripe; expected a restricted API key"),
     ("paypal", "RATER_RECHARGE_PROVIDER is 'paypal'; expected one of ledger, http, stripe")],
)  # fmt: skip
def test_a_provider_without_what_it_needs_is_refused(least: dict[str, str], provider: str, told: str):
    assert told in refusal(least | {"RATER_RECHARGE_PROVIDER": provider})


@pytest.mark.parametrize(
    "url",
    [
        "http://pay.example/recharges",
        "ftp://x/",
        "https://",
        "https://u:p@pay.example/",
        "https://pay.example/?a=b",
        "pay.example",
    ],
)
def test_amounts_do_not_cross_a_network_in_the_clear(least: dict[str, str], url: str):
    assert "RATER_RECHARGE_HTTP_URL is" in refusal(least | {"RATER_RECHARGE_HTTP_URL": url})


def test_a_provider_whose_package_is_not_installed_says_which_and_how(
    least: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    customers = tmp_path / "customers.toml"
    customers.write_text("")
    settings = load(least | {"RATER_RECHARGE_PROVIDER": "stripe", "RATER_RECHARGE_STRIPE_KEY": "rk_x",
                             "RATER_RECHARGE_STRIPE_CUSTOMERS": str(customers)})  # fmt: skip
    monkeypatch.setitem(sys.modules, "stripe", None)
    monkeypatch.delitem(sys.modules, "rater.doors.service.provider_stripe", raising=False)
    with pytest.raises(SettingsRefused, match=r"needs the package stripe; .*\[kafka,recharge,stripe\]"):
        make_provider(settings, tmp_path)


def test_a_secret_comes_from_its_variable_or_its_file_and_is_never_shown(least: dict[str, str], tmp_path: Path):
    file = tmp_path / "secret"
    file.write_text(PASSWORD + "\n")
    http = least | {"RATER_RECHARGE_PROVIDER": "http", "RATER_RECHARGE_HTTP_URL": "http://127.0.0.1:1/x"}
    file.chmod(0o644)
    told = refusal(http | {"RATER_RECHARGE_HTTP_SECRET_FILE": str(file)})
    assert "its mode is 0644: run chmod o-rwx" in told
    file.chmod(0o600)
    for way in ({"RATER_RECHARGE_HTTP_SECRET_FILE": str(file)}, {"RATER_RECHARGE_HTTP_SECRET": PASSWORD}):
        settings = load(http | way)
        assert settings.http_secret is not None
        assert settings.http_secret.reveal() == PASSWORD
        assert PASSWORD not in repr(settings)
    config = tmp_path / "agents.toml"
    for secret in sorted(SECRETS):
        config.write_text(f'{secret} = "{PASSWORD}"\n')
        with pytest.raises(SettingsRefused, match=f"{secret} has no place in a settings file") as refused:
            load_recharge_settings(config, least)
        assert PASSWORD not in str(refused.value)
