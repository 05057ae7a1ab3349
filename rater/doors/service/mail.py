"""A MIME message -> one SMTP transaction.

One connection a message: notifications are few, and a connection that was kept may have died unnoticed. The certificate is verified,
TLS is never optional once it is asked for, and without it nothing leaves the machine unless the operator says so.
"""

import asyncio
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

import aiosmtplib

from rater.doors.service.notification_outcome import Away, Delivered, Later, Outcome, Refused
from rater.doors.settings.secret import Secret
from rater.notify.mime import Sender

TLS, STARTTLS, NONE = "tls", "starttls", "none"
PORTS = {TLS: 465, STARTTLS: 587, NONE: 25}


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """Where mail is handed over, and how we prove who we are."""

    host: str
    port: int
    security: str = STARTTLS
    username: str | None = None
    password: Secret | None = None
    sender: str = "rater@localhost"
    sender_name: str = ""
    ca_file: Path | None = None
    timeout_s: float = 20.0

    def tls_context(self) -> ssl.SSLContext:
        """TLS 1.2 or newer; raises `OSError` for a file of authorities that cannot be read."""
        context = ssl.create_default_context(cafile=None if self.ca_file is None else str(self.ca_file))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    @property
    def writes_as(self) -> Sender:
        return Sender(self.sender, self.sender_name)


class MailSender:
    """Hands messages to one server."""

    def __init__(self, server: MailServer) -> None:
        self.server = server
        self._leaving: set[asyncio.Task[None]] = set()
        self._context = server.tls_context() if server.security != NONE else None

    async def send(self, message: EmailMessage) -> Outcome:
        server = self.server
        client = aiosmtplib.SMTP(
            hostname=server.host, port=server.port, timeout=server.timeout_s, use_tls=server.security == TLS,
            start_tls=server.security == STARTTLS, tls_context=self._context,
            username=server.username, password=None if server.password is None else server.password.reveal(),
        )  # fmt: skip
        try:
            await client.connect()
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as problem:
            client.close()
            return Away(_told(problem))
        try:
            await client.send_message(message)
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as problem:
            client.close()
            return verdict(problem)
        # Not waited for: a stop that arrived now would forget that the server has the message.
        leaving = asyncio.create_task(_leave(client))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)
        return Delivered()


async def _leave(client: aiosmtplib.SMTP) -> None:
    """The message is the server's already; a server that does not say goodbye changes nothing."""
    try:
        await client.quit(timeout=2)
    except (aiosmtplib.SMTPException, OSError, TimeoutError):
        client.close()


def verdict(problem: Exception) -> Outcome:
    """What a failure inside a transaction says about this message, and what about the server."""
    if isinstance(problem, aiosmtplib.SMTPRecipientsRefused):
        problem = problem.recipients[0]
    if not isinstance(problem, aiosmtplib.SMTPResponseException):
        # Broken off in the middle: the message may be what breaks it, so it is this message that counts an attempt.
        return Later(_told(problem))
    if problem.code == 421 or isinstance(problem, aiosmtplib.SMTPSenderRefused):
        return Away(_told(problem))  # shutting down; or our own address is refused, and so would be every message
    if 500 <= problem.code < 600:
        by_address = isinstance(problem, aiosmtplib.SMTPRecipientRefused)
        return Refused("address_refused" if by_address else "message_refused", _told(problem))
    return Later(_told(problem))


def _told(problem: BaseException) -> str:
    """The server's own words may repeat the address, so of them only the codes are kept."""
    if isinstance(problem, aiosmtplib.SMTPResponseException):
        words = str(problem.message).split(" ", 1)[0]
        status = f" {words}" if words.count(".") == 2 and words.replace(".", "").isdigit() else ""
        return f"the mail server answered {problem.code}{status} ({type(problem).__name__})"
    return f"the mail server did not take part: {type(problem).__name__}"
