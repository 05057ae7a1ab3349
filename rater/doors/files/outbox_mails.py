"""Events -> the mails of an outbox folder. Apart from `outbox`, because templates and their languages are slow to import."""

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from rater.core.instants import parse_instant
from rater.doors.failpoints import reached
from rater.doors.files.addressees import Addressees
from rater.doors.files.outbox import sync, write_whole
from rater.doors.files.outbox_index import write_index
from rater.doors.files.outputs import OutputProblem
from rater.notify.contacts import EMAIL
from rater.notify.contexts import context_of
from rater.notify.events import read_event
from rater.notify.kinds import Message, messages_of, one_mail_a_pair
from rater.notify.mime import Sender, compose
from rater.notify.rendering import Templates, TemplatesRefused

# `.invalid` is nobody's, for ever (RFC 2606): a mail that is sent on by mistake is answered to no one.
SENDER = Sender("calling@rater.invalid", "Calling")
NAME_CHARACTERS = 10


@cache
def house_templates() -> Templates:
    return Templates()


def write_mails(folder: Path, addressees: Addressees, lines: Iterable[bytes]) -> int:
    """How many; each file is made durable, and their folders, before this returns. `addressees` learns on the way."""
    written: list[Path] = []
    for message in one_mail_a_pair(_messages(addressees, lines)):
        mail = folder / message.event.tenant / file_name(message)
        mail.parent.mkdir(exist_ok=True)
        write_whole(mail, mail_of(message))
        written.append(mail)
        reached("mid-outbox")
    if written:
        write_index(folder)
        # Behind all of them: the first sync takes most of the others with it.
        for place in (*written, *sorted({mail.parent for mail in written}), folder):
            sync(place)
    return len(written)


def _messages(addressees: Addressees, lines: Iterable[bytes]) -> Iterator[Message]:
    for line in lines:
        event = read_event(line)
        addressees.learn(event)
        yield from (message for message in messages_of(event, addressees.of(event)) if message.channel == EMAIL)


def file_name(message: Message) -> str:
    """Sorted as it happened, and the same however often it is written."""
    when = message.event.time[:19].replace("T", "-").replace(":", "")
    return f"{when}-{message.kind}-{message.language}-{message.key[:NAME_CHARACTERS]}.eml"


def mail_of(message: Message) -> bytes:
    """Dated by the event: no machine's clock enters a file."""
    event = message.event
    try:
        letter = house_templates().render(message.kind, message.language, context_of(event))
    except TemplatesRefused as refused:
        raise OutputProblem(
            f"the mail of {event.id} cannot be written: {refused}; --no-outbox leaves mails out"
        ) from None
    written_ms = parse_instant(event.time) or 0
    return compose(letter, message.address, message.key, written_ms, SENDER).as_bytes()
