"""A mail as a real SMTP server gets it, and what its answers mean."""

import asyncio
from email.message import EmailMessage
from pathlib import Path

import pytest

from rater.doors.service.mail import NONE, STARTTLS, TLS, MailSender, MailServer
from rater.doors.service.notification_outcome import Away, Delivered, Later, Refused
from rater.doors.settings.secret import Secret
from rater.notify.contexts import context_of
from rater.notify.examples import example_events
from rater.notify.mime import compose
from rater.notify.rendering import Letter, Templates
from tests.service.mailbox import Mailbox, certificate, login, server_context

TEMPLATES = Templates()
KEY = "0123456789abcdef0123456789abcdef01234567"
WRITTEN_MS = 1_793_712_767_000


def server(port: int, **changed: object) -> MailServer:
    told = {
        "host": "127.0.0.1",
        "port": port,
        "security": NONE,
        "sender": "calling@example.com",
        "sender_name": "Contoso Calling",
    }
    return MailServer(**told | {"timeout_s": 5.0} | changed)  # type: ignore[arg-type]


def written(to: str = "anne@example.com", kind: str = "recharge_failed", language: str = "fr") -> EmailMessage:
    letter = TEMPLATES.render(kind, language, context_of(example_events(kind)[0]))
    return compose(letter, to, KEY, WRITTEN_MS, server(25).writes_as)


def send(to: MailServer, message: EmailMessage | None = None) -> object:
    return asyncio.run(MailSender(to).send(message or written()))


def test_a_mail_has_a_text_and_a_page_and_says_that_a_machine_wrote_it():
    with Mailbox() as box:
        assert send(server(box.port)) == Delivered()
    ((address, mail),) = box.taken
    assert address == "anne@example.com"
    assert mail["From"] == "Contoso Calling <calling@example.com>"
    assert mail["To"] == "anne@example.com"
    assert mail["Subject"] == "contoso : échec de la recharge, vérifiez le moyen de paiement"
    assert mail["Message-ID"] == f"<{KEY}@example.com>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Content-Language"] == "fr"
    assert mail["Date"] is not None
    assert mail.get_content_type() == "multipart/alternative"
    text, page = mail.iter_parts()
    assert text.get_content_type() == "text/plain"
    assert page.get_content_type() == "text/html"
    assert "Échecs consécutifs : 1" in text.get_content()
    assert "Échecs consécutifs" in page.get_content()


def test_the_same_message_is_the_same_bytes_whenever_it_is_made():
    assert bytes(written()) == bytes(written())


def test_every_line_that_travels_is_ascii_and_not_too_long():
    raw = bytes(written(kind="service_blocked"))
    assert raw.isascii()
    assert max(map(len, raw.split(b"\r\n"))) <= 998


@pytest.mark.parametrize(
    "address", ["a@b.c\r\nBcc: eve@example.com", "Anne <a@b.c>", "a@b.c, eve@example.com", "é@b.c", ""]
)
def test_nothing_but_a_plain_address_becomes_a_recipient(address: str):
    with pytest.raises(ValueError, match="no plain address"):
        written(address)


def test_a_subject_cannot_end_its_header():
    letter = Letter("one\r\nBcc: eve@example.com\u2028\x00two", "text\n", "<p>", "en")
    mail = compose(letter, "a@b.c", KEY, WRITTEN_MS, server(25).writes_as)
    assert mail["Subject"] == "one Bcc: eve@example.com two"
    assert mail["Bcc"] is None


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            "550 5.1.1 no such user",
            Refused("address_refused", "the mail server answered 550 5.1.1 (SMTPRecipientRefused)"),
        ),
        ("450 4.2.0 greylisted", Later("the mail server answered 450 4.2.0 (SMTPRecipientRefused)")),
        ("421 going down", Away("the mail server answered 421 (SMTPRecipientRefused)")),
    ],
)
def test_an_address_is_refused_for_good_for_now_or_by_a_server_that_goes_away(answer: str, expected: object):
    with Mailbox() as box:
        box.refuse["anne@example.com"] = answer
        assert send(server(box.port)) == expected
    assert box.taken == []


@pytest.mark.parametrize(("answer", "kind"), [("554 5.7.1 spam", Refused), ("451 4.3.0 try again", Later)])
def test_a_message_is_refused_for_good_or_for_now(answer: str, kind: type):
    with Mailbox() as box:
        box.refuse_data.append(answer)
        assert isinstance(send(server(box.port)), kind)


def test_a_server_that_is_not_there_is_away():
    assert isinstance(send(server(Mailbox().port)), Away)


def test_what_the_server_says_of_the_address_is_told_to_nobody():
    with Mailbox() as box:
        box.refuse["anne@example.com"] = "550 anne@example.com is unknown"
        assert "anne" not in repr(send(server(box.port)))


# ---------------------------------------------------------------------------------------------- TLS and passwords


def test_starttls_with_a_password_delivers(tmp_path: Path):
    cert, key = certificate(tmp_path, "localhost")
    options = {"tls_context": server_context(cert, key), "require_starttls": True, "auth_required": True,
               "authenticator": login(b"rater", b"s3cret")}  # fmt: skip
    with Mailbox(**options) as box:
        known = server(
            box.port, host="localhost", security=STARTTLS, ca_file=cert, username="rater", password=Secret("s3cret")
        )
        assert send(known) == Delivered()
        wrong = server(
            box.port, host="localhost", security=STARTTLS, ca_file=cert, username="rater", password=Secret("no")
        )
        assert isinstance(send(wrong), Away)
    assert len(box.taken) == 1


def test_tls_from_the_first_byte_delivers(tmp_path: Path):
    cert, key = certificate(tmp_path, "localhost")
    with Mailbox(ssl_context=server_context(cert, key)) as box:
        assert send(server(box.port, host="localhost", security=TLS, ca_file=cert)) == Delivered()


def test_a_certificate_nobody_vouches_for_gets_no_mail(tmp_path: Path):
    cert, key = certificate(tmp_path, "localhost")
    with Mailbox(tls_context=server_context(cert, key)) as box:
        assert isinstance(send(server(box.port, host="localhost", security=STARTTLS)), Away)
    assert box.attempts == 0


def test_a_certificate_of_another_host_gets_no_mail(tmp_path: Path):
    cert, key = certificate(tmp_path, "mail.example.com")
    with Mailbox(tls_context=server_context(cert, key)) as box:
        assert isinstance(send(server(box.port, host="localhost", security=STARTTLS, ca_file=cert)), Away)
    assert box.attempts == 0


def test_a_server_without_tls_gets_nothing_where_tls_was_asked_for():
    with Mailbox() as box:
        assert isinstance(send(server(box.port, host="localhost", security=STARTTLS)), Away)
    assert box.attempts == 0


def test_no_password_is_shown():
    assert "s3cret" not in repr(server(25, username="rater", password=Secret("s3cret")))
