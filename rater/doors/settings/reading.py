"""All settings of a command, gathered: from the file, then the environment, then its options; what is unknown is refused.

A key of the file is the variable's name without `RATER_`, in lower case: `web_port = 6066`. One file and one environment may serve a
worker and all agents of a machine: what belongs to another of them is passed over, and checked by that one.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rater.doors.settings.values import Parse, SettingsRefused, Value

# Read by other parts of rater, or by its tests; a worker's environment may hold them.
OTHER_VARIABLES = frozenset({"RATER_CACHE_DIR", "RATER_FAILPOINT", "RATER_KAFKA_JARS", "RATER_TRACEBACK"})

# The start of every key that only one of the agents reads.
AGENT_PREFIXES = ("api_", "recharge_", "notification_", "mediation_", "history_")
# What only the rating worker reads; a test holds this against its own table.
WORKER_ONLY = frozenset({
    "batch_bytes_max", "batch_records_max", "commit_interval_ms", "compression", "engine_threads",
    "group_instance_id", "internal_secret", "internal_secret_file", "plans", "rates", "snapshot_interval_s",
    "transaction_timeout_ms", "transaction_version", "web_host", "web_port",
})  # fmt: skip

OPTIONS = {  # how the command line calls them
    "bootstrap_servers": "--bootstrap", "topic_prefix": "--topic-prefix", "app_id": "--app-id", "rates": "--rates",
    "state_dir": "--state-dir",
}  # fmt: skip
NEEDED = {
    "app_id": "the name of this deployment: consumer group and start of its transactional ids, for example rating-eu",
    "bootstrap_servers": "the brokers, for example kafka1:9092,kafka2:9092",
    "rates": "the folder of the rate deck, for example rates/example-usd",
    "state_dir": "a folder for snapshots, for example /var/lib/rater",
}


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The settings a command knows: how each is read, and which of them are secrets (`x` and the file with it, `x_file`)."""

    keys: Mapping[str, Parse]
    secrets: frozenset[str] = frozenset()
    elsewhere: frozenset[str] = WORKER_ONLY
    needed: Mapping[str, str] = field(default_factory=lambda: NEEDED)

    def belongs_elsewhere(self, key: str) -> bool:
        """An agent's key whose agent is not this one, or the worker's."""
        if key in self.keys:
            return False
        own = {prefix for prefix in AGENT_PREFIXES if any(known.startswith(prefix) for known in self.keys)}
        return key in self.elsewhere or any(key.startswith(prefix) for prefix in AGENT_PREFIXES if prefix not in own)


def variable(key: str) -> str:
    return f"RATER_{key.upper()}"


def gather(
    vocabulary: Vocabulary,
    config: Path | None,
    environment: Mapping[str, str] | None,
    given: Mapping[str, str | None],
) -> dict[str, Value]:
    """Each setting's winning text; `given` are command line options by key, None for not given."""
    values = {} if config is None else _from_file(vocabulary, config)
    for key, value in _from_environment(vocabulary, os.environ if environment is None else environment).items():
        _replace(vocabulary, values, key, value)
    for key, text in given.items():
        if text is not None:
            _replace(vocabulary, values, key, Value(text, OPTIONS.get(key, key)))
    return values


def parse(vocabulary: Vocabulary, values: Mapping[str, Value]) -> dict[str, Any]:
    """What the texts mean. A secret is under its own key, whichever way it was given."""
    found = {key: vocabulary.keys[key](value) for key, value in values.items()}
    for secret in vocabulary.secrets:
        if secret in found and f"{secret}_file" in found:
            raise SettingsRefused(f"both {variable(secret)} and {variable(secret)}_FILE are set; expected one of them")
        if f"{secret}_file" in found:
            found[secret] = found.pop(f"{secret}_file")
    return found


def need(vocabulary: Vocabulary, found: Mapping[str, object], *keys: str) -> None:
    for key in keys:
        if key not in found:
            raise SettingsRefused(f"{variable(key)} is not set; expected {vocabulary.needed[key]}")


def _replace(vocabulary: Vocabulary, values: dict[str, Value], key: str, value: Value) -> None:
    """What wins wins over the other way to give the same secret too: a variable with a password beats a file's `..._file`."""
    twin = key.removesuffix("_file") if key.removesuffix("_file") in vocabulary.secrets - {key} else f"{key}_file"
    if twin in values and not values[twin].origin.startswith("RATER_"):
        del values[twin]
    values[key] = value


def _from_file(vocabulary: Vocabulary, config: Path) -> dict[str, Value]:
    try:
        told = tomllib.loads(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsRefused(f"{config}: {error.strerror}; expected a TOML file with settings") from None
    except UnicodeDecodeError as error:
        raise SettingsRefused(f"{config}: byte {error.start} is not UTF-8; expected a TOML file in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsRefused(f"{config}: {error}; expected TOML, for example web_port = 6066") from None
    return {
        key: _file_value(vocabulary, config, key, value)
        for key, value in told.items()
        if not vocabulary.belongs_elsewhere(key)
    }


def _file_value(vocabulary: Vocabulary, config: Path, key: str, value: object) -> Value:
    if key in vocabulary.secrets:
        raise SettingsRefused(
            f"{config}: {key} has no place in a settings file; give {variable(key)} or name a file by {key}_file"
        )
    if key not in vocabulary.keys:
        raise SettingsRefused(f"{config}: unknown setting {key!r}; {_nearest(key, vocabulary.keys)}")
    if isinstance(value, bool):
        return Value("true" if value else "false", f"{config}: {key}")
    if isinstance(value, int | str):
        return Value(str(value), f"{config}: {key}")
    raise SettingsRefused(
        f"{config}: {key} is a {type(value).__name__}; expected a text, a whole number, true or false"
    )


def _from_environment(vocabulary: Vocabulary, environment: Mapping[str, str]) -> dict[str, Value]:
    by_variable = {variable(key): key for key in vocabulary.keys}
    values = {}
    for name in sorted(environment):
        if not name.startswith("RATER_") or name in OTHER_VARIABLES:
            continue
        if vocabulary.belongs_elsewhere(name.removeprefix("RATER_").lower()):
            continue
        if name not in by_variable:
            raise SettingsRefused(f"unknown variable {name} in the environment; {_nearest(name, by_variable)}")
        values[by_variable[name]] = Value(environment[name], name)
    return values


def _nearest(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    return f"the nearest known one is {near[0]}"
