"""What every agent is told: brokers, group, folder, web page; its own keys begin with its name.

The group is `<app_id>-<agent>`. `web_host` and `web_port` are the worker's; an agent's are `<agent>_web_host`, `<agent>_web_port`, so that one
environment serves all processes of a machine.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rater.doors.settings import values
from rater.doors.settings.connection import CONNECTION_KEYS, CONNECTION_SECRETS, Connection, make_connection
from rater.doors.settings.log_keys import LOG_KEYS
from rater.doors.settings.reading import NEEDED, Vocabulary, gather, need, parse
from rater.doors.settings.values import Parse

AGENTS = {"recharge": 6067, "notification": 6068, "mediation": 6069}  # and the port of each one's web page
NEEDED_BY_AN_AGENT = ("app_id", "bootstrap_servers", "state_dir")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """One agent's surroundings."""

    agent: str
    app_id: str
    connection: Connection
    state_dir: Path
    topic_prefix: str = ""
    web_host: str = "127.0.0.1"
    web_port: int
    session_timeout_ms: int = 10_000
    log_format: str = "auto"
    log_file: Path | None = None

    @property
    def group(self) -> str:
        return f"{self.app_id}-{self.agent}"

    def topic(self, name: str) -> str:
        return self.topic_prefix + name


def load_agent_settings(
    agent: str,
    own: Mapping[str, Parse],
    secrets: frozenset[str] = frozenset(),
    config: Path | None = None,
    environment: Mapping[str, str] | None = None,
    **given: str | None,
) -> tuple[AgentSettings, dict[str, Any]]:
    """The common settings, and what was given of the agent's `own` keys, all of which begin with `<agent>_`.

    A secret `x` is in `secrets` and has two ways in: its variable, or `x_file`; it is found under `x` either way.
    """
    vocabulary = Vocabulary(_keys(agent, own), CONNECTION_SECRETS | secrets, needed=_needed(agent))
    told = gather(vocabulary, config, environment, given)
    found = parse(vocabulary, told)
    need(vocabulary, found, *NEEDED_BY_AN_AGENT)
    names = ("app_id", "state_dir", "topic_prefix", "session_timeout_ms", *LOG_KEYS)
    common: dict[str, Any] = {key: found[key] for key in names if key in found}
    web: dict[str, Any] = {
        key: found[f"{agent}_{key}"] for key in ("web_host", "web_port") if f"{agent}_{key}" in found
    }
    settings = AgentSettings(
        agent=agent, connection=make_connection(found, told), **({"web_port": AGENTS[agent]} | common | web)
    )
    return settings, {key: found[key] for key in own if key in found}


def _keys(agent: str, own: Mapping[str, Parse]) -> dict[str, Parse]:
    return {
        **CONNECTION_KEYS,
        "app_id": values.name,
        "state_dir": values.state_folder,
        "topic_prefix": values.prefix,
        "session_timeout_ms": values.whole(1_000, 1_800_000, 10_000),
        f"{agent}_web_host": values.host,
        f"{agent}_web_port": values.whole(1, 65_535, AGENTS[agent]),
        **LOG_KEYS,
        **own,
    }


def _needed(agent: str) -> dict[str, str]:
    return NEEDED | {
        "app_id": f"the name of the deployment, the worker's; the group is this with -{agent} behind it, for example rating-eu",
        "state_dir": f"a folder for what the {agent} agent must not forget, for example /var/lib/rater",
    }
