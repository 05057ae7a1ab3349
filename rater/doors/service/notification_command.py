"""`rater notification-agent` on the command line."""

from pathlib import Path

import click

FILE = click.Path(path_type=Path)


@click.command("notification-agent")
@click.option("--config", type=FILE, help="Settings (TOML); variables RATER_* win over it.")
@click.option("--bootstrap", metavar="HOST:PORT,...", help="The brokers. [RATER_BOOTSTRAP_SERVERS]")
def notification_agent_command(config: Path | None, bootstrap: str | None) -> None:
    """Tell people by mail and programs by webhook what happens to their account, until stopped.

    \b
    export RATER_APP_ID=rating-eu RATER_BOOTSTRAP_SERVERS=kafka1:9092 RATER_STATE_DIR=/var/lib/rater
    export RATER_NOTIFICATION_MAIL_HOST=smtp.example.com RATER_NOTIFICATION_MAIL_FROM=calling@example.com
    export RATER_NOTIFICATION_MAIL_USERNAME=rater RATER_NOTIFICATION_MAIL_PASSWORD_FILE=/run/secrets/smtp
    rater notification-agent

    Who is told what is set by the command contacts.set of each tenant. Start several to share the partitions out, each with a
    state folder of its own. http://127.0.0.1:6068/metrics counts what was sent, failed and given up. docs/notifications.md
    has all settings.
    """
    try:
        from rater.doors.service.notification_agent import run_notification_agent
        from rater.doors.service.notification_settings import load_notification_settings
    except ImportError as missing:
        raise click.UsageError(
            f"this needs the package {missing.name}; install rater with its extras, in a checkout: pip install '.[kafka,notifications]'"
        ) from None
    from rater.doors.service.outbox import OutboxRefused
    from rater.doors.service.webhook_secrets import SecretsRefused
    from rater.doors.settings.values import SettingsRefused
    from rater.notify.rendering import TemplatesRefused

    settings = load_notification_settings(config, bootstrap_servers=bootstrap)
    try:
        run_notification_agent(settings)
    except (TemplatesRefused, SecretsRefused, OutboxRefused) as refused:
        raise SettingsRefused(str(refused)) from None
