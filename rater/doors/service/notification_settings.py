"""What `rater notification-agent` is told beyond what every agent is: the mail server, webhooks, templates, the storm guard."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rater.doors.service.mail import NONE, PORTS, STARTTLS, TLS, MailServer
from rater.doors.service.notification_courier import CourierRules
from rater.doors.service.notification_storm import StormRules
from rater.doors.service.webhooks import WebhookRules
from rater.doors.settings import values
from rater.doors.settings.agent import AgentSettings, load_agent_settings
from rater.doors.settings.connection import is_loopback
from rater.doors.settings.values import Parse, SettingsRefused, Value
from rater.notify.contacts import EMAIL, LANGUAGES, Contact, is_address
from rater.notify.formats import one_line

AGENT = "notification"
HOUR_MS = 3_600_000


def _address(value: Value) -> str:
    if not is_address(value.text):
        raise value.wrong("one mail address without a name, for example calling@example.com")
    return value.text


def _name(value: Value) -> str:
    if not value.text or value.text != one_line(value.text) or len(value.text) > 80:
        raise value.wrong("a name on one line of at most 80 characters, for example Contoso Calling")
    return value.text


OWN: Mapping[str, Parse] = {
    "notification_mail_host": values.host,
    "notification_mail_port": values.whole(1, 65_535, 587),
    "notification_mail_security": values.one_of(STARTTLS, TLS, NONE),
    "notification_mail_username": values.text,
    "notification_mail_password": values.secret,
    "notification_mail_password_file": values.secret_file,
    "notification_mail_ca_file": values.existing_file,
    "notification_mail_allow_plaintext": values.flag,
    "notification_mail_from": _address,
    "notification_mail_name": _name,
    "notification_mail_timeout_s": values.whole(1, 300, 20),
    "notification_templates": values.existing_folder,
    "notification_webhook_secrets": values.private_file,
    "notification_webhook_allow_private": values.flag,
    "notification_webhook_timeout_s": values.whole(1, 120, 15),
    "notification_operator_email": _address,
    "notification_operator_language": values.one_of(*LANGUAGES),
    "notification_storm_messages": values.whole(1, 10_000, 10),
    "notification_storm_window_s": values.whole(1, 86_400, 600),
    "notification_storm_wait_s": values.whole(1, 3_600, 120),
    "notification_expire_hours": values.whole(1, 168, 48),
}
SECRETS = frozenset({"notification_mail_password"})


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationSettings:
    """Everything the agent is told, checked."""

    agent: AgentSettings
    mail: MailServer
    webhooks: WebhookRules
    webhook_secrets: Path | None
    templates: Path | None
    operator: Contact | None
    storm: StormRules
    courier: CourierRules

    @property
    def outbox(self) -> Path:
        return self.agent.state_dir / "notifications" / f"{self.agent.group}.sqlite3"


def load_notification_settings(
    config: Path | None, environment: Mapping[str, str] | None = None, **given: str | None
) -> NotificationSettings:
    """Raises `SettingsRefused`."""
    agent, found = load_agent_settings(AGENT, OWN, SECRETS, config, environment, **given)
    own = {key.removeprefix("notification_"): value for key, value in found.items()}
    return NotificationSettings(
        agent=agent,
        mail=_mail(own),
        webhooks=WebhookRules(own.get("webhook_allow_private", False), float(own.get("webhook_timeout_s", 15))),
        webhook_secrets=own.get("webhook_secrets"),
        templates=own.get("templates"),
        operator=_operator(own),
        storm=StormRules(
            own.get("storm_messages", 10),
            1000 * own.get("storm_window_s", 600),
            1000 * own.get("storm_wait_s", 120),
        ),
        courier=CourierRules(HOUR_MS * own.get("expire_hours", 48)),
    )


def _mail(own: Mapping[str, Any]) -> MailServer:
    for key, expected in (
        ("mail_host", "the mail server, for example smtp.example.com"),
        ("mail_from", "the address mails come from, for example calling@example.com"),
    ):
        if key not in own:
            raise SettingsRefused(f"RATER_NOTIFICATION_{key.upper()} is not set; expected {expected}")
    if ("mail_username" in own) != ("mail_password" in own):
        missing = "MAIL_PASSWORD_FILE" if "mail_username" in own else "MAIL_USERNAME"
        raise SettingsRefused(f"RATER_NOTIFICATION_{missing} is not set; expected a user and a password together")
    security = own.get("mail_security", STARTTLS)
    host = own["mail_host"]
    if security == NONE and not is_loopback(host) and not own.get("mail_allow_plaintext", False):
        raise SettingsRefused(
            f"RATER_NOTIFICATION_MAIL_SECURITY is none and {host} is not this machine: balances would cross a network for "
            "anybody to read; expected starttls or tls, or RATER_NOTIFICATION_MAIL_ALLOW_PLAINTEXT=true if the network is trusted"
        )
    return MailServer(
        host=host,
        port=own.get("mail_port", PORTS[security]),
        security=security,
        username=own.get("mail_username"),
        password=own.get("mail_password"),
        sender=own["mail_from"],
        sender_name=own.get("mail_name", ""),
        ca_file=own.get("mail_ca_file"),
        timeout_s=float(own.get("mail_timeout_s", 20)),
    )


def _operator(own: Mapping[str, Any]) -> Contact | None:
    if "operator_email" not in own:
        return None
    return Contact(EMAIL, own["operator_email"], own.get("operator_language", LANGUAGES[0]))
