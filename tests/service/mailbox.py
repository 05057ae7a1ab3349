"""A real SMTP server on loopback for tests: what it took, and how it is to misbehave."""

import email
import ssl
import subprocess
import threading
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from tests.kafka.broker import free_ports


class Mailbox:
    """`refuse`: address -> the answer to its RCPT; `refuse_data`: the answers to the next DATAs. Started by `open`, any number of times."""

    def __init__(self, **options: Any) -> None:
        (self.port,) = free_ports(1)
        self.taken: list[tuple[str, EmailMessage]] = []
        self.refuse: dict[str, str] = {}
        self.refuse_data: list[str] = []
        self.attempts = 0
        self._options = options
        self._changed = threading.Condition()
        self._controller: Controller | None = None

    def open(self) -> "Mailbox":
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port, **self._options)
        self._controller.start()
        return self

    def close(self) -> None:
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    def __enter__(self) -> "Mailbox":
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:  # noqa: N802
        self.attempts += 1
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        if self.refuse_data:
            return self.refuse_data.pop(0)
        message = email.message_from_bytes(envelope.content, policy=default)
        with self._changed:
            self.taken.extend((address, message) for address in envelope.rcpt_tos)
            self._changed.notify_all()
        return "250 OK"

    def wait_for(self, count: int, timeout_s: float = 60.0) -> None:
        """Until so many were taken; an `AssertionError` says how many came instead."""
        with self._changed:
            done = self._changed.wait_for(lambda: len(self.taken) >= count, timeout_s)
        assert done, f"{len(self.taken)} mails came, {count} were expected"

    def ids(self) -> list[str]:
        return [str(message["Message-ID"]) for _, message in self.taken]

    def subjects(self) -> list[str]:
        return [str(message["Subject"]) for _, message in self.taken]


def login(user: bytes, password: bytes) -> Any:
    """An authenticator for `Mailbox(auth_require_tls=..., authenticator=...)`."""

    def check(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=data == LoginPassword(user, password))

    return check


def certificate(folder: Path, host: str) -> tuple[Path, Path]:
    """A certificate for `host` that is its own authority, and its key."""
    cert, key = folder / f"{host}.pem", folder / f"{host}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", str(key), "-out", str(cert), "-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}"],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


def server_context(cert: Path, key: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    return context
