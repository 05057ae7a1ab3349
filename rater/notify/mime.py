"""A letter -> the MIME message that carries it: what a mail server is handed, and what an outbox folder keeps."""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime

from rater.notify.contacts import is_address
from rater.notify.formats import one_line
from rater.notify.naming import message_id
from rater.notify.rendering import Letter


@dataclass(frozen=True, slots=True)
class Sender:
    """Whom a mail comes from."""

    address: str
    name: str = ""

    @property
    def domain(self) -> str:
        return self.address.rpartition("@")[2]


def compose(letter: Letter, recipient: str, key: str, written_ms: int, sender: Sender) -> EmailMessage:
    """The same bytes for the same message, whenever it is made; only the boundary between the parts is named by chance
    in the standard library, so it is named by the key. Raises `ValueError` for a recipient that is no plain address."""
    if not is_address(recipient):
        raise ValueError("the recipient is no plain address")
    message = EmailMessage(policy=SMTP_POLICY)
    message["From"] = Address(sender.name, addr_spec=sender.address)
    message["To"] = Address(addr_spec=recipient)
    message["Subject"] = one_line(letter.subject)
    message["Date"] = format_datetime(datetime.fromtimestamp(written_ms // 1000, UTC))
    message["Message-ID"] = message_id(key, sender.domain)
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no robot answers it
    message["X-Auto-Response-Suppress"] = "All"
    message.set_content(letter.text, subtype="plain", charset="utf-8", cte="quoted-printable")
    message.add_alternative(letter.html, subtype="html", charset="utf-8", cte="quoted-printable")
    message["Content-Language"] = letter.language  # last: a header about content would go to the first part
    message.set_boundary(f"=_{key}")
    return message
