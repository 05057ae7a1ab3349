"""What the history commands are told: which history, and for the sink which brokers and topics."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from rater.doors.settings import values
from rater.doors.settings.connection import CONNECTION_KEYS, CONNECTION_SECRETS, Connection, make_connection
from rater.doors.settings.log_keys import LOG_KEYS
from rater.doors.settings.reading import WORKER_ONLY, Vocabulary, gather, need, parse
from rater.doors.settings.values import SettingsRefused, Value

STORE = "history_store"
VARIABLE = "RATER_HISTORY_STORE"
DEFAULT = "history.db"
# Of the worker and the agents of the same machine, whose settings file and environment may be ours too.
THEIRS = WORKER_ONLY | {"app_id", "state_dir", "session_timeout_ms"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkSettings:
    """The brokers, the deployment's prefix, and the history to feed."""

    connection: Connection
    history: str
    topic_prefix: str = ""
    log_format: str = "auto"
    log_file: Path | None = None


def _store(value: Value) -> str:
    if not value.text:
        raise value.wrong("a file, for example /var/lib/rater/history.db, or postgresql://HOST/DATABASE")
    if value.origin.endswith(f": {STORE}") and urlsplit(value.text).password:  # in a file
        raise SettingsRefused(
            f"{value.origin} holds a password; expected it in PGPASSFILE, in PGPASSWORD, or the address in {VARIABLE}"
        )
    return value.text


VOCABULARY = Vocabulary(
    {**CONNECTION_KEYS, **LOG_KEYS, "topic_prefix": values.prefix, STORE: _store}, CONNECTION_SECRETS, elsewhere=THEIRS
)


def load_sink_settings(
    config: Path | None = None, environment: Mapping[str, str] | None = None, **given: str | None
) -> SinkSettings:
    """From the file, then the environment, then `given` (options by key, None for not given)."""
    told = gather(VOCABULARY, config, environment, given)
    found = parse(VOCABULARY, told)
    need(VOCABULARY, found, "bootstrap_servers")
    return SinkSettings(
        connection=make_connection(found, told),
        history=found.get(STORE, DEFAULT),
        **{key: found[key] for key in ("topic_prefix", *LOG_KEYS) if key in found},
    )
