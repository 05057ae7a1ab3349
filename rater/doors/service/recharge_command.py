"""`rater recharge-agent`: asks a payment provider for what fell below its trigger, until stopped."""

from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rater.doors.service.provider import Provider
    from rater.doors.service.recharge_settings import RechargeSettings
    from rater.doors.settings.connection import Connection

Require = Callable[["Connection", Sequence[str]], Coroutine[Any, Any, None]]
HELP = """Recharge accounts that fall below their trigger: ask a payment provider, once each, and write the outcome as a command.

\b
export RATER_APP_ID=rating-eu RATER_BOOTSTRAP_SERVERS=kafka1:9092,kafka2:9092 RATER_STATE_DIR=/var/lib/rater
RATER_RECHARGE_LEDGER=ledger.toml rater recharge-agent                            # limits from a file, no money moves
RATER_RECHARGE_PROVIDER=http RATER_RECHARGE_HTTP_URL=https://pay.example/recharges \\
  RATER_RECHARGE_HTTP_SECRET_FILE=/run/secrets/pay rater recharge-agent
rater recharge-agent --config agents.toml

RATER_RECHARGE_GUARDS names the limits (how many an hour, how much a day) and the switch that stops all or one tenant's; it is
read again when it changes. http://127.0.0.1:6067/recharges says what is open and what a person has to do, /metrics counts.
SIGTERM stops it; what is under way goes on with the next start, and nobody pays twice. docs/recharge.md has the whole.
"""


def make_recharge_command(require_packages: Callable[[], None], require_topics: Require) -> click.Command:
    """The command, given how the front door checks for the Kafka packages and for the topics."""

    @click.command("recharge-agent", help=HELP, short_help="Recharge accounts that fall below their trigger.")
    @click.option("--config", type=click.Path(path_type=Path), help="Settings (TOML); variables RATER_* win over it.")
    @click.option("--bootstrap", metavar="HOST:PORT,...", help="The brokers. [RATER_BOOTSTRAP_SERVERS]")
    def recharge_agent_command(config: Path | None, bootstrap: str | None) -> None:
        require_packages()
        import asyncio

        from rater.doors.service.recharge_agent import COMMANDS, EVENTS
        from rater.doors.service.recharge_settings import load_recharge_settings

        settings = load_recharge_settings(config, bootstrap_servers=bootstrap)
        around = settings.surroundings
        asyncio.run(require_topics(around.connection, [around.topic(EVENTS), around.topic(COMMANDS)]))
        run_recharge_agent(settings)

    return recharge_agent_command


def run_recharge_agent(settings: "RechargeSettings") -> None:
    """Until a signal stops it; raises `SystemExit`."""
    from rater.doors.clock import wall_ms
    from rater.doors.metrics import RechargeMetrics, new_registry
    from rater.doors.service.agent_app import run_agent
    from rater.doors.service.agent_log import AgentLog
    from rater.doors.service.recharge_agent import COMMANDS, EVENTS, RechargeAgent
    from rater.doors.service.recharge_guards import GuardsFile
    from rater.doors.service.recharge_store import RechargeStore
    from rater.doors.service.recharge_work import Desk

    around = settings.surroundings
    folder = around.state_dir / "recharge"
    folder.mkdir(parents=True, exist_ok=True)
    registry = new_registry()
    logs: list[AgentLog] = []

    async def publish(tenant: str, command: bytes) -> None:
        await logs[0].publish(COMMANDS, tenant, command)

    class Agent(RechargeAgent):
        async def start(self, agent_log: AgentLog) -> None:
            logs.append(agent_log)
            await super().start(agent_log)

    guards = GuardsFile(settings.guards)
    desk = Desk(
        RechargeStore(folder / "recharges.db"),
        make_provider(settings, folder),
        guards,
        publish,
        RechargeMetrics(registry),
        wall_ms,
    )
    run_agent(around, [EVENTS], Agent(desk, registry, settings.poll_ms))


def make_provider(settings: "RechargeSettings", folder: Path) -> "Provider":
    """Raises `SettingsRefused` where its packages are not installed."""
    from rater.doors.settings.values import SettingsRefused

    try:
        return _make_provider(settings, folder)
    except ModuleNotFoundError as missing:
        extra = "kafka,recharge,stripe" if settings.provider == "stripe" else "kafka,recharge"
        raise SettingsRefused(
            f"the provider {settings.provider} needs the package {missing.name}; install rater with its extras, in a checkout: "
            f"pip install '.[{extra}]'"
        ) from None


def _make_provider(settings: "RechargeSettings", folder: Path) -> "Provider":
    from rater.doors.clock import wall_ms

    if settings.provider == "http" and settings.http_secret is not None:
        from rater.doors.service.provider_http import HttpProvider

        return HttpProvider(settings.http_url, settings.http_secret, settings.http_timeout_ms, wall_ms)
    if settings.provider == "stripe" and settings.stripe_key is not None and settings.stripe_customers is not None:
        from rater.doors.service.provider_stripe import StripeProvider, load_customers

        return StripeProvider(settings.stripe_key, load_customers(settings.stripe_customers), settings.stripe_url)
    from rater.doors.service.provider_ledger import LedgerProvider, load_agreements

    assert settings.ledger is not None
    return LedgerProvider(load_agreements(settings.ledger), folder / "ledger.db", wall_ms)
