"""What a worker and its audit are told, beside the connection: decks, folders, batch sizes, time-outs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rater.doors.kafka.compression import CODECS
from rater.doors.settings import values
from rater.doors.settings.connection import CONNECTION_KEYS, CONNECTION_SECRETS, Connection, make_connection
from rater.doors.settings.log_keys import LOG_KEYS
from rater.doors.settings.reading import Vocabulary, gather, need, parse
from rater.doors.settings.secret import Secret
from rater.doors.settings.values import Parse, SettingsRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """Everything `rater worker` is told, checked. `_ms` milliseconds, `_s` seconds, `_bytes` bytes."""

    app_id: str
    connection: Connection
    rates: Path
    state_dir: Path
    plans: Path | None = None
    web_host: str = "127.0.0.1"
    web_port: int = 6066
    topic_prefix: str = ""
    group_instance_id: str | None = None
    commit_interval_ms: int = 100
    batch_records_max: int = 20_000
    batch_bytes_max: int = 4 << 20
    compression: str = "zstd"
    session_timeout_ms: int = 10_000
    transaction_timeout_ms: int = 15_000
    transaction_version: str = "auto"
    request_timeout_ms: int = 10_000
    snapshot_interval_s: int = 60
    engine_threads: int = 2  # so that a partition need not wait for another
    internal_secret: Secret | None = None
    log_format: str = "auto"
    log_file: Path | None = None


WORKER_KEYS: Mapping[str, Parse] = {
    "app_id": values.name,
    "rates": values.existing_folder,
    "plans": values.existing_file,
    "state_dir": values.state_folder,
    "web_host": values.host,
    "web_port": values.whole(1, 65_535, 6066),
    "topic_prefix": values.prefix,
    "group_instance_id": values.name,
    "commit_interval_ms": values.whole(1, 10_000, 100),
    "batch_records_max": values.whole(1, 1_000_000, 20_000),
    "batch_bytes_max": values.whole(1 << 16, 1 << 28, 4 << 20),
    "compression": values.one_of(*CODECS),
    "session_timeout_ms": values.whole(1_000, 1_800_000, 10_000),
    "transaction_timeout_ms": values.whole(1_000, 900_000, 15_000),
    "transaction_version": values.one_of("auto", "1", "2"),
    "snapshot_interval_s": values.whole(1, 86_400, 60),
    "engine_threads": values.whole(1, 256, 2),
    "internal_secret": values.secret,
    "internal_secret_file": values.secret_file,
    **LOG_KEYS,
}

KEYS: Mapping[str, Parse] = {**CONNECTION_KEYS, **WORKER_KEYS}
VOCABULARY = Vocabulary(KEYS, CONNECTION_SECRETS | {"internal_secret"})
NEEDED_BY_A_WORKER = ("app_id", "bootstrap_servers", "rates", "state_dir")


def load_worker_settings(
    config: Path | None = None, environment: Mapping[str, str] | None = None, **given: str | None
) -> WorkerSettings:
    """From the file, then the environment, then `given` (command line options by key, None for not given)."""
    told = gather(VOCABULARY, config, environment, given)
    found = parse(VOCABULARY, told)
    need(VOCABULARY, found, *NEEDED_BY_A_WORKER)
    connection = make_connection(found, told)
    own = {key: found[key] for key in WORKER_KEYS if key in found}
    settings = WorkerSettings(connection=connection, request_timeout_ms=connection.request_timeout_ms, **own)
    _check_times(settings)
    return settings


def load_connection(
    config: Path | None = None, environment: Mapping[str, str] | None = None, **given: str | None
) -> tuple[Connection, str]:
    """The connection and the topic prefix alone, for commands that need no deck and no state."""
    told = gather(VOCABULARY, config, environment, given)
    kept = {key: value for key, value in told.items() if key in CONNECTION_KEYS or key == "topic_prefix"}
    found = parse(VOCABULARY, kept)
    need(VOCABULARY, found, "bootstrap_servers")
    return make_connection(found, told), found.get("topic_prefix", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings:
    """What `rater audit` needs of a worker's settings: without `app_id` no group is looked at, without `state_dir` no snapshot."""

    connection: Connection
    rates: Path
    plans: Path | None = None
    topic_prefix: str = ""
    app_id: str | None = None
    state_dir: Path | None = None


AUDIT_KEYS = ("rates", "plans", "topic_prefix", "app_id", "state_dir")


def load_audit_settings(
    config: Path | None = None, environment: Mapping[str, str] | None = None, **given: str | None
) -> AuditSettings:
    """From the places a worker's settings come from; the rest of those is not looked at."""
    told = gather(VOCABULARY, config, environment, given)
    kept = {key: value for key, value in told.items() if key in CONNECTION_KEYS or key in AUDIT_KEYS}
    found = parse(VOCABULARY, kept)
    need(VOCABULARY, found, "bootstrap_servers", "rates")
    own = {key: found[key] for key in AUDIT_KEYS if key in found}
    return AuditSettings(connection=make_connection(found, told), **own)


def _check_times(settings: WorkerSettings) -> None:
    """A commit that the coordinator aborts before it is due can never succeed."""
    if settings.commit_interval_ms * 2 > settings.transaction_timeout_ms:
        raise SettingsRefused(
            f"RATER_COMMIT_INTERVAL_MS is {settings.commit_interval_ms} and RATER_TRANSACTION_TIMEOUT_MS is "
            f"{settings.transaction_timeout_ms}; expected a time-out of at least twice the interval"
        )
