"""What the notification agent is told, and how it says what is wrong."""

from pathlib import Path

import pytest

from rater.doors.service.mail import NONE, STARTTLS
from rater.doors.service.notification_settings import load_notification_settings
from rater.doors.settings.values import SettingsRefused
from rater.notify.contacts import EMAIL, Contact

ENVIRONMENT = {
    "RATER_APP_ID": "rating-eu", "RATER_BOOTSTRAP_SERVERS": "127.0.0.1:9092", "RATER_STATE_DIR": "/tmp/rater",
    "RATER_NOTIFICATION_MAIL_HOST": "smtp.example.com", "RATER_NOTIFICATION_MAIL_FROM": "calling@example.com",
}  # fmt: skip


def load(config: Path | None = None, **changed: str):  # type: ignore[no-untyped-def]
    return load_notification_settings(config, ENVIRONMENT | {f"RATER_NOTIFICATION_{k}": v for k, v in changed.items()})


def test_what_is_not_said_has_a_safe_meaning():
    settings = load()
    assert (settings.mail.security, settings.mail.port) == (STARTTLS, 587)
    assert not settings.webhooks.allow_private
    assert settings.operator is None
    assert settings.agent.group == "rating-eu-notification"
    assert settings.outbox == Path("/tmp/rater/notifications/rating-eu-notification.sqlite3")


def test_the_port_follows_the_security():
    assert load(MAIL_SECURITY="tls").mail.port == 465
    assert load(MAIL_SECURITY="tls", MAIL_PORT="2465").mail.port == 2465


def test_a_file_says_the_same(tmp_path: Path):
    config = tmp_path / "agent.toml"
    config.write_text(
        'notification_storm_messages = 3\nnotification_operator_email = "noc@example.com"\nrates = "elsewhere"\n'
    )
    settings = load(config, OPERATOR_LANGUAGE="fr")
    assert settings.storm.messages == 3
    assert settings.operator == Contact(EMAIL, "noc@example.com", "fr")


def test_the_password_comes_from_a_private_file_and_is_never_shown(tmp_path: Path):
    file = tmp_path / "password"
    file.write_text("s3cret\n")
    file.chmod(0o600)
    settings = load(MAIL_USERNAME="rater", MAIL_PASSWORD_FILE=str(file))
    assert settings.mail.password is not None
    assert settings.mail.password.reveal() == "s3cret"
    assert "s3cret" not in repr(settings)
    file.chmod(0o644)
    with pytest.raises(SettingsRefused, match="chmod o-rwx"):
        load(MAIL_USERNAME="rater", MAIL_PASSWORD_FILE=str(file))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"MAIL_SECURITY": "none"}, "balances would cross a network"),
        ({"MAIL_SECURITY": "ssl"}, "one of starttls, tls, none"),
        ({"MAIL_USERNAME": "rater"}, "MAIL_PASSWORD_FILE is not set"),
        ({"MAIL_PASSWORD": "x"}, "MAIL_USERNAME is not set"),
        ({"MAIL_FROM": "Anne <a@b.c>"}, "one mail address without a name"),
        ({"MAIL_FROM": "a@b.c\r\nBcc: x@y.z"}, "one mail address without a name"),
        ({"MAIL_NAME": "a\nb"}, "a name on one line"),
        ({"OPERATOR_EMAIL": "nobody"}, "one mail address"),
        ({"STORM_MESSAGES": "0"}, "a whole number from 1 to 10000"),
        ({"EXPIRE_HOURS": "900"}, "a whole number from 1 to 168"),
        ({"TEMPLATES": "/nowhere"}, "a folder that is there"),
        ({"MAIL_HOTS": "x"}, "the nearest known one is RATER_NOTIFICATION_MAIL_HOST"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(changed: dict[str, str], told: str):
    with pytest.raises(SettingsRefused) as refused:
        load(**changed)
    assert told in str(refused.value)


def test_plain_mail_stays_on_this_machine_or_is_asked_for():
    assert load(MAIL_SECURITY="none", MAIL_HOST="127.0.0.1").mail.security == NONE
    assert load(MAIL_SECURITY="none", MAIL_ALLOW_PLAINTEXT="true").mail.security == NONE


@pytest.mark.parametrize("missing", ["RATER_NOTIFICATION_MAIL_HOST", "RATER_NOTIFICATION_MAIL_FROM", "RATER_STATE_DIR"])
def test_what_is_needed_is_named(missing: str):
    with pytest.raises(SettingsRefused, match=f"{missing} is not set"):
        load_notification_settings(None, {name: text for name, text in ENVIRONMENT.items() if name != missing})
