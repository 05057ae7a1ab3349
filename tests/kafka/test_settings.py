"""What a worker is told: where it comes from, which wins, and what is refused with which sentence."""

import dataclasses
import re
import traceback
from pathlib import Path

import pytest

from rater.doors.kafka import client_connection
from rater.doors.kafka.compression import CODECS
from rater.doors.kafka.settings import KEYS, WORKER_KEYS, WorkerSettings, load_connection, load_worker_settings
from rater.doors.kafka.worker import limits_of
from rater.doors.settings.connection import Connection, refuse_plaintext
from rater.doors.settings.reading import AGENT_PREFIXES, OTHER_VARIABLES, WORKER_ONLY, variable
from rater.doors.settings.secret import Secret
from rater.doors.settings.values import SettingsRefused

PASSWORD = "correct-horse-battery"


@pytest.fixture
def least(tmp_path: Path) -> dict[str, str]:
    """The variables without which no worker starts."""
    return {
        "RATER_APP_ID": "rating-eu",
        "RATER_BOOTSTRAP_SERVERS": "127.0.0.1:9092",
        "RATER_RATES": str(tmp_path),
        "RATER_STATE_DIR": str(tmp_path / "state"),
    }


@pytest.fixture
def scram(least: dict[str, str], tmp_path: Path) -> dict[str, str]:
    secret = tmp_path / "password"
    secret.write_text(PASSWORD + "\n")
    secret.chmod(0o600)
    return least | {
        "RATER_SECURITY_PROTOCOL": "SASL_SSL",
        "RATER_SASL_MECHANISM": "SCRAM-SHA-512",
        "RATER_SASL_USERNAME": "rater",
        "RATER_SASL_PASSWORD_FILE": str(secret),
    }


def load(environment: dict[str, str], toml: str | None = None, tmp_path: Path | None = None) -> WorkerSettings:
    if toml is None or tmp_path is None:
        return load_worker_settings(None, environment)
    config = tmp_path / "rater.toml"
    config.write_text(toml)
    return load_worker_settings(config, environment)


def refusal(environment: dict[str, str], toml: str | None = None, tmp_path: Path | None = None) -> str:
    with pytest.raises(SettingsRefused) as refused:
        load(environment, toml, tmp_path)
    return str(refused.value)


def test_four_settings_are_enough_and_the_rest_have_defaults(least: dict[str, str], tmp_path: Path) -> None:
    settings = load(least)
    assert settings.app_id == "rating-eu"
    assert settings.connection.bootstrap_servers == ("127.0.0.1:9092",)
    assert settings.connection.security_protocol == "PLAINTEXT"
    assert (settings.rates, settings.state_dir, settings.plans) == (tmp_path, tmp_path / "state", None)
    assert (settings.web_host, settings.web_port) == ("127.0.0.1", 6066)
    assert (settings.commit_interval_ms, settings.topic_prefix, settings.group_instance_id) == (100, "", None)
    assert (settings.compression, limits_of(settings).codec) == ("zstd", CODECS["zstd"])


@pytest.mark.parametrize("name", ["RATER_APP_ID", "RATER_BOOTSTRAP_SERVERS", "RATER_RATES", "RATER_STATE_DIR"])
def test_what_is_needed_and_not_set_is_named_with_an_example(least: dict[str, str], name: str) -> None:
    del least[name]
    assert re.match(f"{name} is not set; expected .*, for example ", refusal(least))


def test_the_file_gives_what_the_environment_does_not_and_the_environment_wins(
    least: dict[str, str], tmp_path: Path
) -> None:
    toml = 'web_port = 7000\nweb_host = "0.0.0.0"\ncommit_interval_ms = 20\napp_id = "from-file"'
    settings = load(least | {"RATER_COMMIT_INTERVAL_MS": "50"}, toml, tmp_path)
    assert (settings.web_port, settings.web_host) == (7000, "0.0.0.0")
    assert (settings.commit_interval_ms, settings.app_id) == (50, "rating-eu")


def test_every_setting_can_be_given_by_the_file_except_the_secrets(least: dict[str, str], tmp_path: Path) -> None:
    fields = {field.name for field in dataclasses.fields(WorkerSettings)} - {"connection"}
    fields |= {field.name for field in dataclasses.fields(Connection)} - {"client_id"}
    files = {key for key in KEYS if key.endswith(("password_file", "secret_file"))}
    assert fields | files == set(KEYS)
    for secret in ("sasl_password", "ssl_key_password"):
        told = refusal(least, f'{secret} = "{PASSWORD}"', tmp_path)
        assert (
            f"{secret} has no place in a settings file; give {variable(secret)} or name a file by {secret}_file" in told
        )
        assert PASSWORD not in told


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("RATER_APP_ID", "rating eu", "expected 1 to 200 letters, digits, '.', '_' or '-', for example rating-eu"),
        ("RATER_BOOTSTRAP_SERVERS", "kafka1", "expected host:port, several with commas between"),
        ("RATER_BOOTSTRAP_SERVERS", "127.0.0.1:9092,,", "expected host:port"),
        ("RATER_BOOTSTRAP_SERVERS", "127.0.0.1:99999", "expected host:port"),
        ("RATER_RATES", "/nowhere", "expected a folder that is there"),
        ("RATER_PLANS", "/nowhere.csv", "expected a file that can be read"),
        ("RATER_WEB_PORT", "0", "expected a whole number from 1 to 65535, for example 6066"),
        ("RATER_WEB_PORT", "60 66", "expected a whole number"),
        ("RATER_WEB_PORT", "٦٠٦٦", "expected a whole number"),
        ("RATER_WEB_HOST", "a b", "expected a host name or an address"),
        ("RATER_COMMIT_INTERVAL_MS", "0.1", "expected a whole number from 1 to 10000, for example 100"),
        ("RATER_BATCH_RECORDS_MAX", "10k", "expected a whole number from 1 to 1000000, for example 20000"),
        ("RATER_BATCH_BYTES_MAX", "1", "expected a whole number from 65536"),
        ("RATER_COMPRESSION", "brotli", "expected one of none, gzip, snappy, lz4, zstd"),
        ("RATER_TOPIC_PREFIX", "a/b", "expected at most 100 letters"),
        ("RATER_GROUP_INSTANCE_ID", "", "expected 1 to 200 letters"),
        ("RATER_SESSION_TIMEOUT_MS", "-1", "expected a whole number from 1000"),
        ("RATER_SNAPSHOT_INTERVAL_S", "", "expected a whole number from 1"),
        ("RATER_ENGINE_THREADS", "0", "expected a whole number from 1 to 256"),
        ("RATER_SECURITY_PROTOCOL", "TLS", "expected one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
        ("RATER_SASL_MECHANISM", "OAUTHBEARER", "expected one of SCRAM-SHA-512, SCRAM-SHA-256, PLAIN"),
        ("RATER_ALLOW_PLAINTEXT", "yes", "expected true or false"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_with_what_was_found_and_expected(
    least: dict[str, str], setting: str, value: str, expected: str
) -> None:
    told = refusal(least | {setting: value})
    assert told.startswith(f"{setting} is '{value}'; ")
    assert expected in told


def test_a_wrong_value_in_the_file_names_the_file_and_the_key(least: dict[str, str], tmp_path: Path) -> None:
    assert refusal(least, "web_port = 99999", tmp_path).startswith(
        f"{tmp_path}/rater.toml: web_port is '99999'; expected"
    )
    assert "web_port is a float; expected a text, a whole number" in refusal(least, "web_port = 1.5", tmp_path)
    assert "expected TOML, for example web_port = 6066" in refusal(least, "web_port: 1", tmp_path)


def test_a_file_that_is_not_there_is_named(least: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(SettingsRefused, match=r"rater\.toml: No such file or directory; expected a TOML file"):
        load_worker_settings(tmp_path / "rater.toml", least)


def test_an_unknown_name_is_an_error_with_the_nearest_known_one(least: dict[str, str], tmp_path: Path) -> None:
    assert "unknown variable RATER_COMIT_INTERVAL" in refusal(least | {"RATER_COMIT_INTERVAL": "1"})
    assert "the nearest known one is RATER_COMMIT_INTERVAL_MS" in refusal(least | {"RATER_COMIT_INTERVAL": "1"})
    assert "unknown setting 'web_prot'; the nearest known one is web_port" in refusal(least, "web_prot = 1", tmp_path)


def test_variables_of_other_parts_are_left_alone(least: dict[str, str]) -> None:
    assert load(least | dict.fromkeys(OTHER_VARIABLES, "x") | {"HOME": "/", "PATH": "/bin"}).app_id == "rating-eu"


def test_settings_of_the_agents_beside_it_do_not_stop_a_worker(least: dict[str, str], tmp_path: Path) -> None:
    """One environment and one file serve every process of a machine; each checks what is its own."""
    assert (
        load(least | {"RATER_RECHARGE_PROVIDER": "ledger"}, 'notification_language = "fr"', tmp_path).web_port == 6066
    )
    assert "unknown variable RATER_CHARGE_PROVIDER" in refusal(least | {"RATER_CHARGE_PROVIDER": "ledger"})
    assert not [key for key in KEYS if key.startswith(AGENT_PREFIXES)]


def test_what_an_agent_passes_over_is_what_only_a_worker_reads() -> None:
    shared = {"app_id", "state_dir", "topic_prefix", "session_timeout_ms", "log_format", "log_file"}
    assert set(WORKER_KEYS) - shared == WORKER_ONLY


def test_every_variable_the_code_reads_is_known() -> None:
    """A new variable somewhere else must be listed, or it would stop every worker that has it set."""
    root = Path(__file__).parents[2] / "rater"
    read = set()
    for source in root.rglob("*.py"):
        read |= set(re.findall(r"environ[^\n]*?[\"'](RATER_[A-Z_]+)[\"']", source.read_text()))
    assert read - {variable(key) for key in KEYS} <= OTHER_VARIABLES


def test_a_time_out_shorter_than_two_commits_is_refused(least: dict[str, str]) -> None:
    told = refusal(least | {"RATER_COMMIT_INTERVAL_MS": "900", "RATER_TRANSACTION_TIMEOUT_MS": "1000"})
    assert "expected a time-out of at least twice the interval" in told


# --- connection


@pytest.mark.parametrize("server", ["127.0.0.1:9092", "127.8.8.8:9092", "localhost:9092", "[::1]:9092"])
def test_loopback_needs_no_tls(least: dict[str, str], server: str) -> None:
    assert load(least | {"RATER_BOOTSTRAP_SERVERS": server}).connection.bootstrap_servers == (server,)


@pytest.mark.parametrize(
    "server", ["kafka1:9092", "10.0.0.1:9092", "127.0.0.1:9092,kafka2:9092", "[2001:db8::1]:9092", "0.0.0.0:1"]
)
@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SASL_PLAINTEXT"])
def test_another_machine_without_tls_needs_the_flag(scram: dict[str, str], server: str, protocol: str) -> None:
    environment = scram | {"RATER_BOOTSTRAP_SERVERS": server, "RATER_SECURITY_PROTOCOL": protocol}
    if protocol == "PLAINTEXT":
        environment = {name: value for name, value in environment.items() if not name.startswith("RATER_SASL")}
    assert "is not this machine" in refusal(environment)
    assert "RATER_ALLOW_PLAINTEXT=true" in refusal(environment)
    assert load(environment | {"RATER_ALLOW_PLAINTEXT": "true"}).connection.allow_plaintext


def test_what_the_brokers_advertise_is_held_to_the_same_rule() -> None:
    plain = Connection(bootstrap_servers=("127.0.0.1:9092",))
    refuse_plaintext(plain, ["127.0.0.1", "localhost"])
    with pytest.raises(SettingsRefused, match="kafka7 is not this machine"):
        refuse_plaintext(plain, ["127.0.0.1", "kafka7"])
    refuse_plaintext(dataclasses.replace(plain, security_protocol="SSL"), ["kafka7"])


def test_scram_over_tls_becomes_the_clients_arguments(scram: dict[str, str]) -> None:
    arguments = load(scram).connection.client_arguments()
    assert arguments["bootstrap_servers"] == ["127.0.0.1:9092"]
    assert (arguments["security_protocol"], arguments["sasl_mechanism"]) == ("SASL_SSL", "SCRAM-SHA-512")
    assert (arguments["sasl_plain_username"], arguments["sasl_plain_password"]) == ("rater", PASSWORD)
    assert arguments["client_id"] == "rating-eu"
    context = arguments["ssl_context"]
    assert context.check_hostname
    assert context.verify_mode.name == "CERT_REQUIRED"
    assert context.minimum_version.name == "TLSv1_2"


def test_a_plain_connection_has_no_tls_and_no_user(least: dict[str, str]) -> None:
    arguments = load(least).connection.client_arguments()
    assert not any(key.startswith(("ssl", "sasl")) for key in arguments)


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("RATER_SASL_MECHANISM", "RATER_SASL_MECHANISM is not set; expected one of SCRAM-SHA-512"),
        ("RATER_SASL_USERNAME", "RATER_SASL_USERNAME is not set; expected the user"),
        ("RATER_SASL_PASSWORD_FILE", "neither RATER_SASL_PASSWORD_FILE nor RATER_SASL_PASSWORD is set"),
    ],
)
def test_half_a_login_is_refused(scram: dict[str, str], missing: str, told: str) -> None:
    del scram[missing]
    assert told in refusal(scram)


def test_a_login_or_certificates_without_their_protocol_are_refused(scram: dict[str, str], tmp_path: Path) -> None:
    """What was set was meant: a worker must not connect in the clear because one variable is missing."""
    assert "RATER_SECURITY_PROTOCOL is PLAINTEXT; expected SASL_SSL" in refusal(
        scram | {"RATER_SECURITY_PROTOCOL": "PLAINTEXT"}
    )
    certificates = tmp_path / "ca.pem"
    certificates.write_text("")
    told = refusal(scram | {"RATER_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "RATER_SSL_CA_FILE": str(certificates)})
    assert "RATER_SSL_CA_FILE is set and RATER_SECURITY_PROTOCOL is SASL_PLAINTEXT; expected SSL or SASL_SSL" in told


def test_a_certificate_without_its_key_is_refused(scram: dict[str, str], tmp_path: Path) -> None:
    certificate = tmp_path / "cert.pem"
    certificate.write_text("")
    assert "RATER_SSL_KEY_FILE is not set" in refusal(scram | {"RATER_SSL_CERT_FILE": str(certificate)})


def test_unusable_certificates_are_refused_with_the_file_and_the_reason(scram: dict[str, str], tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("not a certificate")
    nonsense.chmod(0o600)
    connection = load(scram | {"RATER_SSL_CA_FILE": str(nonsense)}).connection
    with pytest.raises(
        SettingsRefused, match=r"RATER_SSL_CA_FILE .*nonsense\.pem: .*; expected certificates in PEM form"
    ):
        connection.client_arguments()
    both = {"RATER_SSL_CERT_FILE": str(nonsense), "RATER_SSL_KEY_FILE": str(nonsense)}
    with pytest.raises(SettingsRefused, match=r"RATER_SSL_CERT_FILE .*nonsense\.pem with RATER_SSL_KEY_FILE"):
        load(scram | both).connection.client_arguments()


# --- secrets


def test_a_password_comes_from_the_variable_or_the_file_but_not_from_both(scram: dict[str, str]) -> None:
    assert "both RATER_SASL_PASSWORD and RATER_SASL_PASSWORD_FILE are set" in refusal(
        scram | {"RATER_SASL_PASSWORD": "other"}
    )
    file = scram.pop("RATER_SASL_PASSWORD_FILE")
    assert Path(file).read_text() == PASSWORD + "\n"
    from_variable = load(scram | {"RATER_SASL_PASSWORD": "other"}).connection.sasl_password
    assert from_variable is not None
    assert from_variable.reveal() == "other"


def test_a_password_in_the_environment_wins_over_a_password_file_named_in_the_settings_file(
    scram: dict[str, str], tmp_path: Path
) -> None:
    file = scram.pop("RATER_SASL_PASSWORD_FILE")
    toml = f'sasl_password_file = "{file}"'
    from_file = load(scram, toml, tmp_path).connection.sasl_password
    assert from_file == Secret(PASSWORD)
    assert load(scram | {"RATER_SASL_PASSWORD": "other"}, toml, tmp_path).connection.sasl_password == Secret("other")


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o666, 0o602])
def test_a_password_file_that_others_can_touch_is_refused(scram: dict[str, str], mode: int) -> None:
    Path(scram["RATER_SASL_PASSWORD_FILE"]).chmod(mode)
    assert f"its mode is {mode:04o}: run chmod o-rwx" in refusal(scram)


def test_a_password_file_of_the_group_is_accepted(scram: dict[str, str]) -> None:
    """Secrets mounted for a service user often belong to its group."""
    Path(scram["RATER_SASL_PASSWORD_FILE"]).chmod(0o440)
    assert load(scram).connection.sasl_password == Secret(PASSWORD)


def test_an_empty_password_is_refused(scram: dict[str, str]) -> None:
    Path(scram["RATER_SASL_PASSWORD_FILE"]).write_text("\n")
    assert "expected a file with a password in it; it is empty" in refusal(scram)
    del scram["RATER_SASL_PASSWORD_FILE"]
    assert "RATER_SASL_PASSWORD is empty" in refusal(scram | {"RATER_SASL_PASSWORD": ""})


def test_a_password_put_where_its_files_name_belongs_is_not_shown(scram: dict[str, str]) -> None:
    told = refusal(scram | {"RATER_SASL_PASSWORD_FILE": PASSWORD})
    assert "RATER_SASL_PASSWORD_FILE names no file" in told
    assert PASSWORD not in told


def test_no_repr_no_text_and_no_traceback_shows_a_password(
    scram: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    del scram["RATER_SASL_PASSWORD_FILE"]
    scram["RATER_SASL_PASSWORD"] = PASSWORD
    settings = load(scram)
    shown = [
        repr(settings),
        str(settings),
        f"{settings}",
        repr(dataclasses.asdict(settings)),
        repr(settings.connection),
    ]
    for broken in ("RATER_SASL_MECHANISM", "RATER_SASL_USERNAME", "RATER_APP_ID"):
        try:
            load({name: value for name, value in scram.items() if name != broken})
        except SettingsRefused as refused:
            shown += [str(refused), repr(refused), "".join(traceback.format_exception(refused))]
    arguments = settings.connection.client_arguments()
    shown += [repr(arguments), repr(client_connection.Connection(arguments, 1.0, 1.0)), caplog.text]
    assert arguments["sasl_plain_password"] == PASSWORD
    assert len(shown) == 5 + 9 + 3
    assert not [text for text in shown if PASSWORD in text]
    assert "Secret(***)" in shown[0]


# --- without a worker


def test_topics_need_the_connection_alone(least: dict[str, str]) -> None:
    del least["RATER_RATES"], least["RATER_APP_ID"]
    connection, prefix = load_connection(
        None, least | {"RATER_TOPIC_PREFIX": "staging."}, bootstrap_servers="localhost:1"
    )
    assert connection.bootstrap_servers == ("localhost:1",)
    assert prefix == "staging."
    with pytest.raises(SettingsRefused, match="--bootstrap is 'nowhere'; expected host:port"):
        load_connection(None, {}, bootstrap_servers="nowhere")
    with pytest.raises(SettingsRefused, match="RATER_BOOTSTRAP_SERVERS is not set"):
        load_connection(None, {})
