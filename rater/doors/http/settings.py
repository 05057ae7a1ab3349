"""What `rater api` is told: where it listens, its own file, the history, the workers, and the brokers if it may write."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from rater.doors.settings import values
from rater.doors.settings.connection import (
    CONNECTION_KEYS,
    CONNECTION_SECRETS,
    Connection,
    is_loopback,
    make_connection,
)
from rater.doors.settings.log_keys import LOG_KEYS
from rater.doors.settings.reading import WORKER_ONLY, Vocabulary, gather, parse
from rater.doors.settings.secret import Secret
from rater.doors.settings.values import Parse, SettingsRefused, Value

PORT, PAGES_PORT = 6070, 6071
INTERNAL_SECRET = "internal_secret"


def _workers(value: Value) -> tuple[str, ...]:
    """Base addresses: `kafka1:6066` is http://kafka1:6066."""
    found = []
    for part in filter(None, (one.strip() for one in value.text.split(","))):
        address = part if "://" in part else f"http://{part}"
        split = urlsplit(address)
        try:
            usable = split.scheme in ("http", "https") and split.hostname and (split.port or 0) <= 65_535
        except ValueError:
            usable = False
        if not usable or split.path not in ("", "/") or split.query or split.fragment or split.username:
            raise value.wrong("host:port, several with commas between, for example worker1:6066,worker2:6066")
        found.append(address.rstrip("/"))
    return tuple(found)


API_KEYS: Mapping[str, Parse] = {
    "api_host": values.host,
    "api_port": values.whole(1, 65_535, PORT),
    "api_file": values.text,
    "api_workers": _workers,
    "api_tls_cert_file": values.existing_file,
    "api_tls_key_file": values.private_file,
    "api_allow_plaintext": values.flag,
    "api_pages_host": values.host,
    "api_pages_port": values.whole(1, 65_535, PAGES_PORT),
    "api_requests_per_minute": values.whole(1, 1_000_000, 600),
    "api_authorizations_per_minute": values.whole(1, 10_000_000, 120_000),
    "api_body_bytes_max": values.whole(1_024, 1 << 20, 1 << 16),
    "api_timeout_s": values.whole(1, 600, 30),
}
VOCABULARY = Vocabulary(
    {
        **CONNECTION_KEYS, **LOG_KEYS, **API_KEYS, "topic_prefix": values.prefix, "history_store": values.text,
        INTERNAL_SECRET: values.secret, f"{INTERNAL_SECRET}_file": values.secret_file,
    },
    CONNECTION_SECRETS | {INTERNAL_SECRET},
    elsewhere=(WORKER_ONLY - {INTERNAL_SECRET, f"{INTERNAL_SECRET}_file"}) | {"app_id", "state_dir", "session_timeout_ms"},
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """Checked. Without `connection` nothing can be written, without `history` no question about calls is answered."""

    api_file: Path
    api_host: str = "127.0.0.1"
    api_port: int = PORT
    api_workers: tuple[str, ...] = ()
    api_tls_cert_file: Path | None = None
    api_tls_key_file: Path | None = None
    api_pages_host: str = "127.0.0.1"
    api_pages_port: int = PAGES_PORT
    api_requests_per_minute: int = 600
    api_authorizations_per_minute: int = 120_000
    api_body_bytes_max: int = 1 << 16
    api_timeout_s: int = 30
    history: str | None = None
    connection: Connection | None = None
    topic_prefix: str = ""
    internal_secret: Secret | None = None
    log_format: str = "auto"
    log_file: Path | None = None


def load_api_settings(
    config: Path | None = None, environment: Mapping[str, str] | None = None, **given: str | None
) -> ApiSettings:
    """From the file, then the environment, then `given`. Raises `SettingsRefused`."""
    told = gather(VOCABULARY, config, environment, given)
    found = parse(VOCABULARY, told)
    own = {key: found[key] for key in API_KEYS if key in found and key != "api_allow_plaintext"}
    own["api_file"] = Path(found.get("api_file", "api.db"))
    settings = ApiSettings(
        **own,
        history=found.get("history_store"),
        connection=make_connection(found, told) if "bootstrap_servers" in found else None,
        internal_secret=found.get(INTERNAL_SECRET),
        **{key: found[key] for key in ("topic_prefix", *LOG_KEYS) if key in found},
    )
    _check_tls(settings, found.get("api_allow_plaintext", False))
    _check_workers(settings, found.get("allow_plaintext", False))
    return settings


def _check_tls(settings: ApiSettings, allowed: bool) -> None:
    """Tokens and numbers would cross a network for anybody to read."""
    if (settings.api_tls_cert_file is None) != (settings.api_tls_key_file is None):
        missing = "RATER_API_TLS_CERT_FILE" if settings.api_tls_cert_file is None else "RATER_API_TLS_KEY_FILE"
        raise SettingsRefused(f"{missing} is not set; expected a certificate and its key together")
    if settings.api_tls_cert_file is None and not is_loopback(settings.api_host) and not allowed:
        raise SettingsRefused(
            f"RATER_API_HOST is {settings.api_host}, not this machine alone, and there is no certificate; expected "
            "RATER_API_TLS_CERT_FILE and RATER_API_TLS_KEY_FILE, or RATER_API_ALLOW_PLAINTEXT=true behind a proxy that has them"
        )


def _check_workers(settings: ApiSettings, allowed: bool) -> None:
    for worker in settings.api_workers:
        split = urlsplit(worker)
        if split.scheme == "http" and not is_loopback(split.hostname or "") and not allowed:
            raise SettingsRefused(
                f"RATER_API_WORKERS holds {worker}, which is not this machine, without TLS: balances would cross the network "
                "for anybody to read; expected https, or RATER_ALLOW_PLAINTEXT=true if the network is trusted"
            )
        if not is_loopback(split.hostname or "") and settings.internal_secret is None:
            raise SettingsRefused(
                "RATER_API_WORKERS holds workers of other machines; expected RATER_INTERNAL_SECRET_FILE, the same as theirs"
            )
