"""What a worker is told: `RATER_*` variables and a TOML file, the variables winning; every value checked, with a sentence.

A key of the file is the variable's name without `RATER_`, in lower case: `web_port = 6066`. Secrets are never in the file:
they come from a variable or from a file of their own, and no text, repr or error shows them.
"""

import difflib
import ipaddress
import os
import re
import ssl
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECURITY_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
SASL_MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")

# Read by other parts of rater, or by its tests; a worker's environment may hold them.
OTHER_VARIABLES = frozenset({"RATER_CACHE_DIR", "RATER_FAILPOINT", "RATER_KAFKA_JARS", "RATER_TRACEBACK"})

NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")  # what Kafka takes for a topic, and its tools for a group
HOST_PORT = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})")


class SettingsRefused(Exception):
    """A setting is missing, unknown or wrong; the text names it, what was found, what was expected."""


class Secret:
    """A text that shows itself only when asked to. No dataclass: `asdict` of what holds it would write it out."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "Secret(***)"


class _Hidden(str):
    """A password on its way into a client's arguments: the text itself, but not in the repr of what holds it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Where the brokers are and how to prove who we are to them."""

    bootstrap_servers: tuple[str, ...]
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: Secret | None = None
    ssl_ca_file: Path | None = None
    ssl_cert_file: Path | None = None
    ssl_key_file: Path | None = None
    ssl_key_password: Secret | None = None
    allow_plaintext: bool = False
    request_timeout_ms: int = 10_000
    client_id: str = "rater"

    @property
    def uses_tls(self) -> bool:
        return self.security_protocol in ("SSL", "SASL_SSL")

    @property
    def uses_sasl(self) -> bool:
        return self.security_protocol.startswith("SASL_")

    def client_arguments(self) -> dict[str, Any]:
        """How every aiokafka client reaches the cluster and is let in; time-outs are each client's own. Raises `SettingsRefused` for unusable certificates."""
        arguments: dict[str, Any] = {
            "bootstrap_servers": list(self.bootstrap_servers),
            "client_id": self.client_id,
            "security_protocol": self.security_protocol,
        }
        if self.uses_tls:
            arguments["ssl_context"] = self.tls_context()
        if self.uses_sasl and self.sasl_password is not None:
            arguments["sasl_mechanism"] = self.sasl_mechanism
            arguments["sasl_plain_username"] = self.sasl_username
            arguments["sasl_plain_password"] = _Hidden(self.sasl_password.reveal())
        return arguments

    def tls_context(self) -> ssl.SSLContext:
        """TLS 1.2 or newer; the broker's certificate and its host name are always verified."""
        try:
            context = ssl.create_default_context(cafile=None if self.ssl_ca_file is None else str(self.ssl_ca_file))
        except (ssl.SSLError, OSError) as error:
            raise SettingsRefused(
                f"RATER_SSL_CA_FILE {self.ssl_ca_file}: {_ssl_reason(error)}; expected certificates in PEM form"
            ) from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.ssl_cert_file is not None and self.ssl_key_file is not None:
            _load_own_certificate(context, self.ssl_cert_file, self.ssl_key_file, self.ssl_key_password)
        return context


def _load_own_certificate(context: ssl.SSLContext, certificate: Path, key: Path, password: Secret | None) -> None:
    # Without a function OpenSSL asks for the password of an encrypted key on the terminal, and a service would hang there.
    given = "" if password is None else password.reveal()
    try:
        context.load_cert_chain(certificate, key, password=lambda: given)
    except (ssl.SSLError, OSError) as error:
        raise SettingsRefused(
            f"RATER_SSL_CERT_FILE {certificate} with RATER_SSL_KEY_FILE {key}: {_ssl_reason(error)}; expected a certificate "
            "(and what signed it) and its private key in PEM form, RATER_SSL_KEY_PASSWORD_FILE if the key is encrypted"
        ) from None


def _ssl_reason(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or type(error).__name__


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
    session_timeout_ms: int = 10_000
    transaction_timeout_ms: int = 15_000
    request_timeout_ms: int = 10_000
    snapshot_interval_s: int = 60
    engine_threads: int = 1


@dataclass(frozen=True, slots=True)
class _Value:
    """One setting as text, and the name to blame: the variable, or the file and its key."""

    text: str
    origin: str

    def wrong(self, expected: str) -> SettingsRefused:
        return SettingsRefused(f"{self.origin} is '{self.text}'; expected {expected}")


Parse = Callable[[_Value], Any]


def _name(value: _Value) -> str:
    if not NAME.fullmatch(value.text):
        raise value.wrong("1 to 200 letters, digits, '.', '_' or '-', for example rating-eu")
    return value.text


def _prefix(value: _Value) -> str:
    if value.text and not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", value.text):
        raise value.wrong("at most 100 letters, digits, '.', '_' or '-', for example staging.")
    return value.text


def _servers(value: _Value) -> tuple[str, ...]:
    servers = tuple(part.strip() for part in value.text.split(","))
    for server in servers:
        match = HOST_PORT.fullmatch(server)
        if match is None or not 1 <= int(match["port"]) <= 65_535:
            raise value.wrong("host:port, several with commas between, for example kafka1:9092,kafka2:9092")
    return servers


def _existing_file(value: _Value) -> Path:
    path = Path(value.text)
    if not path.is_file():
        raise value.wrong("a file that can be read; there is none of that name")
    return path


def _existing_folder(value: _Value) -> Path:
    path = Path(value.text)
    if not path.is_dir():
        raise value.wrong("a folder that is there, for example rates/example-usd")
    return path


def _state_folder(value: _Value) -> Path:
    path = Path(value.text)
    if not value.text or (path.exists() and not path.is_dir()):
        raise value.wrong("a folder, made when it is not there, for example /var/lib/rater")
    return path


def _host(value: _Value) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._:-]{1,253}", value.text):
        raise value.wrong("a host name or an address, for example 127.0.0.1")
    return value.text


def _flag(value: _Value) -> bool:
    if value.text not in ("true", "false"):
        raise value.wrong("true or false")
    return value.text == "true"


def _one_of(*words: str) -> Parse:
    def parse(value: _Value) -> str:
        if value.text not in words:
            raise value.wrong(f"one of {', '.join(words)}")
        return value.text

    return parse


def _whole(least: int, most: int, example: int) -> Parse:
    def parse(value: _Value) -> int:
        text = value.text
        if not (text.isascii() and text.isdigit() and len(text) <= 18 and least <= int(text) <= most):
            raise value.wrong(f"a whole number from {least} to {most}, for example {example}")
        return int(text)

    return parse


def _text(value: _Value) -> str:
    if not value.text:
        raise value.wrong("a text")
    return value.text


def _secret(value: _Value) -> Secret:
    if not value.text:
        raise SettingsRefused(f"{value.origin} is empty; expected a password")
    return Secret(value.text)


def _secret_file(value: _Value) -> Secret:
    """The content of a file, without the line end an editor leaves; refused when everybody on the machine can read it."""
    if not Path(value.text).is_file():
        # Not shown: what is in the wrong place may be the password itself.
        raise SettingsRefused(f"{value.origin} names no file; expected one with a password in it")
    path = _private_file(value)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise value.wrong("a file in UTF-8") from None
    except OSError as error:
        raise SettingsRefused(
            f"{value.origin} is '{path}': {error.strerror}; expected a file that can be read"
        ) from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise value.wrong("a file with a password in it; it is empty")
    return Secret(text)


def _private_file(value: _Value) -> Path:
    path = _existing_file(value)
    mode = path.stat().st_mode & 0o777
    if mode & 0o007:
        raise value.wrong(f"a file that others cannot touch; its mode is {mode:04o}: run chmod o-rwx {path}")
    return path


CONNECTION_KEYS: Mapping[str, Parse] = {
    "bootstrap_servers": _servers,
    "security_protocol": _one_of(*SECURITY_PROTOCOLS),
    "sasl_mechanism": _one_of(*SASL_MECHANISMS),
    "sasl_username": _text,
    "sasl_password": _secret,
    "sasl_password_file": _secret_file,
    "ssl_ca_file": _existing_file,
    "ssl_cert_file": _existing_file,
    "ssl_key_file": _private_file,
    "ssl_key_password": _secret,
    "ssl_key_password_file": _secret_file,
    "allow_plaintext": _flag,
    "request_timeout_ms": _whole(1_000, 300_000, 10_000),
}

WORKER_KEYS: Mapping[str, Parse] = {
    "app_id": _name,
    "rates": _existing_folder,
    "plans": _existing_file,
    "state_dir": _state_folder,
    "web_host": _host,
    "web_port": _whole(1, 65_535, 6066),
    "topic_prefix": _prefix,
    "group_instance_id": _name,
    "commit_interval_ms": _whole(1, 10_000, 100),
    "batch_records_max": _whole(1, 1_000_000, 20_000),
    "batch_bytes_max": _whole(1 << 16, 1 << 28, 4 << 20),
    "session_timeout_ms": _whole(1_000, 1_800_000, 10_000),
    "transaction_timeout_ms": _whole(1_000, 900_000, 15_000),
    "snapshot_interval_s": _whole(1, 86_400, 60),
    "engine_threads": _whole(1, 256, 2),
}

KEYS: Mapping[str, Parse] = {**CONNECTION_KEYS, **WORKER_KEYS}
OPTIONS = {  # how the command line calls them
    "bootstrap_servers": "--bootstrap", "topic_prefix": "--topic-prefix", "app_id": "--app-id", "rates": "--rates",
    "state_dir": "--state-dir",
}  # fmt: skip
SECRETS = frozenset({"sasl_password", "ssl_key_password"})
NEEDED = {
    "app_id": "the name of this deployment: consumer group and start of its transactional ids, for example rating-eu",
    "bootstrap_servers": "the brokers, for example kafka1:9092,kafka2:9092",
    "rates": "the folder of the rate deck, for example rates/example-usd",
    "state_dir": "a folder for snapshots, for example /var/lib/rater",
}


def variable(key: str) -> str:
    return f"RATER_{key.upper()}"


def load_worker_settings(
    config: Path | None = None, environment: Mapping[str, str] | None = None, **given: str | None
) -> WorkerSettings:
    """From the file, then the environment, then `given` (command line options by key, None for not given)."""
    values = _gather(config, environment, given)
    found = {key: KEYS[key](value) for key, value in values.items()}
    _need(found, *NEEDED)
    connection = _connection(found, values)
    own = {key: found[key] for key in WORKER_KEYS if key in found}
    settings = WorkerSettings(connection=connection, request_timeout_ms=connection.request_timeout_ms, **own)
    _check_times(settings)
    return settings


def load_connection(
    config: Path | None = None, environment: Mapping[str, str] | None = None, **given: str | None
) -> tuple[Connection, str]:
    """The connection and the topic prefix alone, for commands that need no deck and no state."""
    values = _gather(config, environment, given)
    found = {key: KEYS[key](value) for key, value in values.items() if key in CONNECTION_KEYS or key == "topic_prefix"}
    _need(found, "bootstrap_servers")
    return _connection(found, values), found.get("topic_prefix", "")


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
    values = _gather(config, environment, given)
    found = {key: KEYS[key](value) for key, value in values.items() if key in CONNECTION_KEYS or key in AUDIT_KEYS}
    _need(found, "bootstrap_servers", "rates")
    own = {key: found[key] for key in AUDIT_KEYS if key in found}
    return AuditSettings(connection=_connection(found, values), **own)


def _gather(
    config: Path | None, environment: Mapping[str, str] | None, given: Mapping[str, str | None]
) -> dict[str, _Value]:
    values = {} if config is None else _from_file(config)
    for key, value in _from_environment(os.environ if environment is None else environment).items():
        _replace(values, key, value)
    for key, text in given.items():
        if text is not None:
            _replace(values, key, _Value(text, OPTIONS.get(key, key)))
    return values


def _replace(values: dict[str, _Value], key: str, value: _Value) -> None:
    """What wins wins over the other way to give the same secret too: a variable with a password beats a file's `..._file`."""
    twin = key.removesuffix("_file") if key.endswith("password_file") else f"{key}_file"
    if twin in values and not values[twin].origin.startswith("RATER_"):
        del values[twin]
    values[key] = value


def _from_file(config: Path) -> dict[str, _Value]:
    try:
        told = tomllib.loads(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsRefused(f"{config}: {error.strerror}; expected a TOML file with settings") from None
    except UnicodeDecodeError as error:
        raise SettingsRefused(f"{config}: byte {error.start} is not UTF-8; expected a TOML file in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsRefused(f"{config}: {error}; expected TOML, for example web_port = 6066") from None
    return {key: _file_value(config, key, value) for key, value in told.items()}


def _file_value(config: Path, key: str, value: object) -> _Value:
    if key in SECRETS:
        raise SettingsRefused(
            f"{config}: {key} has no place in a settings file; give {variable(key)} or name a file by {key}_file"
        )
    if key not in KEYS:
        raise SettingsRefused(f"{config}: unknown setting {key!r}; {_nearest(key, KEYS)}")
    if isinstance(value, bool):
        return _Value("true" if value else "false", f"{config}: {key}")
    if isinstance(value, int | str):
        return _Value(str(value), f"{config}: {key}")
    raise SettingsRefused(
        f"{config}: {key} is a {type(value).__name__}; expected a text, a whole number, true or false"
    )


def _from_environment(environment: Mapping[str, str]) -> dict[str, _Value]:
    by_variable = {variable(key): key for key in KEYS}
    values = {}
    for name in sorted(environment):
        if not name.startswith("RATER_") or name in OTHER_VARIABLES:
            continue
        if name not in by_variable:
            raise SettingsRefused(f"unknown variable {name} in the environment; {_nearest(name, by_variable)}")
        values[by_variable[name]] = _Value(environment[name], name)
    return values


def _nearest(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    return f"the nearest known one is {near[0]}"


def _need(found: Mapping[str, object], *keys: str) -> None:
    for key in keys:
        if key not in found:
            raise SettingsRefused(f"{variable(key)} is not set; expected {NEEDED[key]}")


def _connection(found: Mapping[str, Any], values: Mapping[str, _Value]) -> Connection:
    for secret in SECRETS:
        if secret in found and f"{secret}_file" in found:
            raise SettingsRefused(f"both {variable(secret)} and {variable(secret)}_FILE are set; expected one of them")
    named = {key: found[key] for key in CONNECTION_KEYS if key in found and not key.endswith("password_file")}
    for secret in SECRETS:
        if f"{secret}_file" in found:
            named[secret] = found[f"{secret}_file"]
    connection = Connection(client_id=found.get("app_id", "rater"), **named)
    _check_sasl(connection, values)
    _check_tls(connection, values)
    refuse_plaintext(connection, [host_of(server) for server in connection.bootstrap_servers])
    return connection


def _check_sasl(connection: Connection, values: Mapping[str, _Value]) -> None:
    given = [key for key in values if key.startswith("sasl_")]
    if not connection.uses_sasl:
        if given:
            raise SettingsRefused(
                f"{values[given[0]].origin} is set and RATER_SECURITY_PROTOCOL is {connection.security_protocol}; "
                "expected SASL_SSL (or SASL_PLAINTEXT) with it"
            )
        return
    if connection.sasl_mechanism is None:
        raise SettingsRefused(f"RATER_SASL_MECHANISM is not set; expected one of {', '.join(SASL_MECHANISMS)}")
    if connection.sasl_username is None:
        raise SettingsRefused("RATER_SASL_USERNAME is not set; expected the user the broker knows, for example rater")
    if connection.sasl_password is None:
        raise SettingsRefused(
            "neither RATER_SASL_PASSWORD_FILE nor RATER_SASL_PASSWORD is set; expected one, for example /run/secrets/rater"
        )


def _check_tls(connection: Connection, values: Mapping[str, _Value]) -> None:
    given = [key for key in values if key.startswith("ssl_")]
    if not connection.uses_tls:
        if given:
            raise SettingsRefused(
                f"{values[given[0]].origin} is set and RATER_SECURITY_PROTOCOL is {connection.security_protocol}; "
                "expected SSL or SASL_SSL with it"
            )
        return
    if (connection.ssl_cert_file is None) != (connection.ssl_key_file is None):
        missing = "RATER_SSL_CERT_FILE" if connection.ssl_cert_file is None else "RATER_SSL_KEY_FILE"
        raise SettingsRefused(f"{missing} is not set; expected a certificate and its key together")


def host_of(server: str) -> str:
    return server.rsplit(":", 1)[0].strip("[]")


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def refuse_plaintext(connection: Connection, hosts: list[str]) -> None:
    """Call records and balances, and with SASL the password's proof, would cross a network for anybody to read.

    Called with the bootstrap servers' hosts, and again with those the brokers advertise.
    """
    if connection.uses_tls or connection.allow_plaintext:
        return
    for host in hosts:
        if not is_loopback(host):
            raise SettingsRefused(
                f"{host} is not this machine and RATER_SECURITY_PROTOCOL is {connection.security_protocol}, without TLS; "
                "expected SSL or SASL_SSL, or RATER_ALLOW_PLAINTEXT=true if the network is trusted"
            )


def _check_times(settings: WorkerSettings) -> None:
    """A commit that the coordinator aborts before it is due can never succeed."""
    if settings.commit_interval_ms * 2 > settings.transaction_timeout_ms:
        raise SettingsRefused(
            f"RATER_COMMIT_INTERVAL_MS is {settings.commit_interval_ms} and RATER_TRANSACTION_TIMEOUT_MS is "
            f"{settings.transaction_timeout_ms}; expected a time-out of at least twice the interval"
        )
