"""`rater mediation-agent`: makes call records of what switches write to raw topics, until stopped."""

from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rater.doors.service.mediation_settings import MediationSettings
    from rater.doors.settings.connection import Connection

Require = Callable[["Connection", Sequence[str]], Coroutine[Any, Any, None]]
HELP = """Make call records of what switches write to raw topics: raw-cdrs.NAME -> cdrs, keyed by tenant; the rest to rejected-raw.

\b
mkdir /etc/rater/profiles && cp kamailio.toml asterisk-hq.toml /etc/rater/profiles   # topics raw-cdrs.kamailio, raw-cdrs.asterisk-hq
rater topics create --partitions 12 --replication-factor 3 --raw kamailio --raw asterisk-hq --bootstrap kafka1:9092
export RATER_APP_ID=rating-eu RATER_BOOTSTRAP_SERVERS=kafka1:9092,kafka2:9092 RATER_STATE_DIR=/var/lib/rater
RATER_MEDIATION_PROFILES=/etc/rater/profiles rater mediation-agent
rater mediation-agent --config agents.toml

A value is one record, several, or a whole file, as its source reads them. Parts of one call must come in one partition: key them by the
call (its Call-ID). At least once: a raw record is acknowledged when everything it became is published, so nothing is lost with a disk, and
what comes again the engine knows by its record id. http://127.0.0.1:6069/mediation says what waits, /metrics counts.
"""


def make_mediation_command(require_packages: Callable[[], None], require_topics: Require) -> click.Command:
    """The command, given how the front door checks for the Kafka packages and for the topics."""

    @click.command("mediation-agent", help=HELP, short_help="Make call records of raw topics.")
    @click.option("--config", type=click.Path(path_type=Path), help="Settings (TOML); variables RATER_* win over it.")
    @click.option("--bootstrap", metavar="HOST:PORT,...", help="The brokers. [RATER_BOOTSTRAP_SERVERS]")
    @click.option("--profiles", metavar="DIR", help="Source profiles, one a raw topic. [RATER_MEDIATION_PROFILES]")
    def mediation_agent_command(config: Path | None, bootstrap: str | None, profiles: str | None) -> None:
        require_packages()
        import asyncio

        from rater.doors.service.mediation_names import CDRS, REJECTED_RAW
        from rater.doors.service.mediation_settings import load_mediation_settings

        settings = load_mediation_settings(config, bootstrap_servers=bootstrap, mediation_profiles=profiles)
        around = settings.surroundings
        names = [around.topic(name) for name in (*settings.profiles, CDRS, REJECTED_RAW)]
        asyncio.run(require_topics(around.connection, names))
        run_mediation_agent(settings)

    return mediation_agent_command


def run_mediation_agent(settings: "MediationSettings") -> None:
    """Until a signal stops it; raises `SystemExit`."""
    from rater.doors.metrics import new_registry
    from rater.doors.service.agent_app import run_agent
    from rater.doors.service.mediation_agent import MediationAgent

    around = settings.surroundings
    run_agent(around, list(settings.profiles), MediationAgent(settings.profiles, around.topic_prefix, new_registry()))
