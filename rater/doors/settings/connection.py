"""Where the brokers are and how to prove who we are to them: one rule for the worker, the topics and the agents."""

import ipaddress
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rater.doors.settings import values
from rater.doors.settings.secret import Hidden, Secret
from rater.doors.settings.values import Parse, SettingsRefused, Value

SECURITY_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
SASL_MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")


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
            arguments["sasl_plain_password"] = Hidden(self.sasl_password.reveal())
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


CONNECTION_KEYS: Mapping[str, Parse] = {
    "bootstrap_servers": values.servers,
    "security_protocol": values.one_of(*SECURITY_PROTOCOLS),
    "sasl_mechanism": values.one_of(*SASL_MECHANISMS),
    "sasl_username": values.text,
    "sasl_password": values.secret,
    "sasl_password_file": values.secret_file,
    "ssl_ca_file": values.existing_file,
    "ssl_cert_file": values.existing_file,
    "ssl_key_file": values.private_file,
    "ssl_key_password": values.secret,
    "ssl_key_password_file": values.secret_file,
    "allow_plaintext": values.flag,
    "request_timeout_ms": values.whole(1_000, 300_000, 10_000),
}
CONNECTION_SECRETS = frozenset({"sasl_password", "ssl_key_password"})


def make_connection(found: Mapping[str, Any], told: Mapping[str, Value]) -> Connection:
    """From what `parse` found, checked as a whole; `told` names what to blame."""
    named = {key: found[key] for key in CONNECTION_KEYS if key in found}
    connection = Connection(client_id=found.get("app_id", "rater"), **named)
    _check_sasl(connection, told)
    _check_tls(connection, told)
    refuse_plaintext(connection, [host_of(server) for server in connection.bootstrap_servers])
    return connection


def _check_sasl(connection: Connection, told: Mapping[str, Value]) -> None:
    given = [key for key in told if key.startswith("sasl_")]
    if not connection.uses_sasl:
        if given:
            raise SettingsRefused(
                f"{told[given[0]].origin} is set and RATER_SECURITY_PROTOCOL is {connection.security_protocol}; "
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


def _check_tls(connection: Connection, told: Mapping[str, Value]) -> None:
    given = [key for key in told if key.startswith("ssl_")]
    if not connection.uses_tls:
        if given:
            raise SettingsRefused(
                f"{told[given[0]].origin} is set and RATER_SECURITY_PROTOCOL is {connection.security_protocol}; "
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
