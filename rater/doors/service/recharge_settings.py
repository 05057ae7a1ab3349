"""What the recharge agent is told, beside what every agent is: its provider, the limits, how patient it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from rater.doors.settings import values
from rater.doors.settings.agent import AgentSettings, load_agent_settings
from rater.doors.settings.connection import is_loopback
from rater.doors.settings.reading import variable
from rater.doors.settings.secret import Secret
from rater.doors.settings.values import Parse, SettingsRefused, Value

PROVIDERS = ("ledger", "http", "stripe")


def _url(value: Value) -> str:
    parts = urlsplit(value.text)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise value.wrong("an address without query or password, for example https://pay.example/recharges")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise value.wrong("https: amounts and signatures would cross the network for anybody to read")
    return value.text


KEYS: Mapping[str, Parse] = {
    "recharge_provider": values.one_of(*PROVIDERS),
    "recharge_guards": values.existing_file,
    "recharge_poll_ms": values.whole(100, 3_600_000, 30_000),
    "recharge_ledger": values.existing_file,
    "recharge_http_url": _url,
    "recharge_http_timeout_ms": values.whole(100, 300_000, 10_000),
    "recharge_http_secret": values.secret,
    "recharge_http_secret_file": values.secret_file,
    "recharge_stripe_key": values.secret,
    "recharge_stripe_key_file": values.secret_file,
    "recharge_stripe_customers": values.existing_file,
    "recharge_stripe_url": _url,
}
SECRETS = frozenset({"recharge_http_secret", "recharge_stripe_key"})
NEEDED_BY = {
    "ledger": {"recharge_ledger": "the file of agreements, for example ledger.toml; docs/recharge.md shows one"},
    "http": {
        "recharge_http_url": "where the provider takes requests, for example https://pay.example/recharges",
        "recharge_http_secret": "the secret of the signatures, or its file in RATER_RECHARGE_HTTP_SECRET_FILE",
    },
    "stripe": {
        "recharge_stripe_key": "a restricted API key, or its file in RATER_RECHARGE_STRIPE_KEY_FILE",
        "recharge_stripe_customers": "a file that names each tenant's customer and payment method; docs/recharge.md shows one",
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RechargeSettings:
    """Everything `rater recharge-agent` is told, checked."""

    surroundings: AgentSettings
    provider: str = "ledger"
    guards: Path | None = None
    poll_ms: int = 30_000
    ledger: Path | None = None
    http_url: str = ""
    http_timeout_ms: int = 10_000
    http_secret: Secret | None = None
    stripe_key: Secret | None = None
    stripe_customers: Path | None = None
    stripe_url: str | None = None


def load_recharge_settings(
    config: Path | None = None, environment: Mapping[str, str] | None = None, **given: str | None
) -> RechargeSettings:
    """Raises `SettingsRefused`."""
    surroundings, found = load_agent_settings("recharge", KEYS, SECRETS, config, environment, **given)
    provider = found.get("recharge_provider", "ledger")
    for key, expected in NEEDED_BY[provider].items():
        if key not in found:
            raise SettingsRefused(f"{variable(key)} is not set and the provider is {provider}; expected {expected}")
    own = {key.removeprefix("recharge_"): value for key, value in found.items()}
    return RechargeSettings(surroundings=surroundings, **own)
