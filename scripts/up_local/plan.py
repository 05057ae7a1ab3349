"""The set: the same services as docker-compose.yml, by the same names, in the order in which they are started."""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from scripts.up_local.parts import HOST, CannotStart, Part, Place, Ports

RATED = "g0.expr=sum%20by%20(outcome)%20(rate(rater_calls_rated_total%5B1m%5D))&g0.tab=0"
RATER = (sys.executable, "-m", "rater")
APP_ID, RAW, PARTITIONS = "local", "edge1", 4
AGENTS = {
    "recharge-agent": (6067, "asks a payment provider (here a ledger) to recharge accounts", {"recharges": "recharges"}),
    "notification-agent": (6068, "tells people by mail what happened to their account", {}),
    "mediation-agent": (6069, "makes call records of what a Kamailio writes to raw-cdrs.edge1", {"waiting": "mediation"}),
}  # fmt: skip


def rates(place: Place) -> Path:
    """A copy of the example deck, so that another can be put in its place and activated."""
    folder = place.folder("rates") / "example-usd"
    if not folder.exists():
        shutil.copytree(place.root / "rates" / "example-usd", folder)
    return folder


def common(place: Place, ports: Ports) -> dict[str, str]:
    """What every process of rater is told."""
    return {
        "RATER_APP_ID": APP_ID,
        "RATER_BOOTSTRAP_SERVERS": f"{HOST}:{ports.broker}",
        "RATER_RATES": str(rates(place)),
        "RATER_LOG_FORMAT": "text",
    }


def topics_command() -> tuple[str, ...]:
    return (*RATER, "topics", "create", "--partitions", str(PARTITIONS), "--replication-factor", "1",
            "--raw", RAW, "--notifications")  # fmt: skip


def parts_of_rater(place: Place, ports: Ports, calls_per_s: int) -> list[Part]:
    """Workers, agents, the sink, and the traffic that keeps them busy."""
    return [
        *(_worker(place, ports, number) for number in (1, 2)),
        *(_agent(place, ports, name) for name in AGENTS),
        Part("history-sink", "keeps rated calls and events in a database, for questions", (*RATER, "history", "sink"),
             _told(place, ports, "history-sink", RATER_HISTORY_STORE=str(history_file(place)))),
        _api(place, ports),
        Part("traffic", f"invents {calls_per_s} calls a second of three companies",
             (*RATER, "traffic", "--raw", RAW, "--calls-per-s", str(calls_per_s)), common(place, ports)),
    ]  # fmt: skip


def history_file(place: Place) -> Path:
    return place.folder("history-sink") / "history.db"


def _told(place: Place, ports: Ports, name: str, **more: str) -> Mapping[str, str]:
    return common(place, ports) | {"RATER_STATE_DIR": str(place.folder(name))} | more


def _worker(place: Place, ports: Ports, number: int) -> Part:
    name, port = f"worker-{number}", ports.worker(number)
    pages = {"partitions": "partitions", "metrics": "metrics", "ready": "readyz"}
    return Part(
        name=name,
        what="rates calls, debits minutes and money",
        command=(*RATER, "worker"),
        environment=_told(place, ports, name, RATER_WEB_PORT=str(port), RATER_GROUP_INSTANCE_ID=name),
        health=f"http://{HOST}:{port}/healthz",
        ports={"pages": port},
        links={text: f"http://{HOST}:{port}/{path}" for text, path in pages.items()},
    )


def _agent(place: Place, ports: Ports, name: str) -> Part:
    port, what, pages = AGENTS[name]
    port = ports.at(port)
    agent = name.removesuffix("-agent")
    own = {f"RATER_{agent.upper()}_WEB_PORT": str(port)} | {
        "recharge": {
            "RATER_RECHARGE_LEDGER": str(place.root / "ops" / "recharge" / "ledger.toml"),
            "RATER_RECHARGE_GUARDS": str(place.root / "ops" / "recharge" / "guards.toml"),
        },
        "notification": {
            "RATER_NOTIFICATION_MAIL_HOST": HOST,
            "RATER_NOTIFICATION_MAIL_PORT": str(ports.smtp),
            "RATER_NOTIFICATION_MAIL_SECURITY": "none",
            "RATER_NOTIFICATION_MAIL_FROM": "calling@rater.example",
            "RATER_NOTIFICATION_OPERATOR_EMAIL": "operator@rater.example",
        },
        "mediation": {"RATER_MEDIATION_PROFILES": str(place.root / "ops" / "mediation")},
    }[agent]
    links = {**pages, "partitions": "partitions", "metrics": "metrics"}
    return Part(
        name=name,
        what=what,
        command=(*RATER, name),
        environment=_told(place, ports, name, **own),
        health=f"http://{HOST}:{port}/healthz",
        ports={"pages": port},
        links={text: f"http://{HOST}:{port}/{path}" for text, path in links.items()},
    )


def _api(place: Place, ports: Ports) -> Part:
    url, port = f"http://{HOST}:{ports.api}", ports.api
    return Part(
        name="api",
        what="answers for balances and usage over HTTP; a token is needed, see below",
        command=(*RATER, "api"),
        environment=common(place, ports) | {
            "RATER_API_PORT": str(port),
            "RATER_API_PAGES_PORT": str(ports.api_pages),
            "RATER_API_FILE": str(api_file(place)),
            "RATER_API_WORKERS": ",".join(f"{HOST}:{ports.worker(number)}" for number in (1, 2)),
            "RATER_HISTORY_STORE": str(history_file(place)),
        },
        health=f"{url}/healthz",
        ports={"pages": port, "metrics": ports.api_pages},
        links={"questions": f"{url}/docs", "metrics": f"http://{HOST}:{ports.api_pages}/metrics"},
    )  # fmt: skip


def api_file(place: Place) -> Path:
    return place.folder("api") / "api.db"


def mail_catcher(place: Place, ports: Ports) -> Part:
    return Part(
        name="mail-catcher",
        what="takes every mail, delivers none, shows all",
        command=(sys.executable, "-m", "scripts.up_local.mail_catcher", "--smtp-port", str(ports.smtp),
                 "--web-port", str(ports.mails), "--folder", str(place.folder("mail-catcher"))),
        health=f"http://{HOST}:{ports.mails}/healthz",
        ports={"SMTP": ports.smtp, "pages": ports.mails},
        links={"mails": f"http://{HOST}:{ports.mails}/"},
    )  # fmt: skip


def prometheus(place: Place, ports: Ports) -> Part | None:
    """With the configuration and the rules of ops/, and the targets of this machine; None where it is not installed."""
    program = shutil.which("prometheus")
    if program is None:
        return None
    folder = place.folder("prometheus")
    for name in ("prometheus.yml", "rules.yml"):
        shutil.copyfile(place.root / "ops" / "prometheus" / name, folder / name)
    (folder / "targets").mkdir(exist_ok=True)
    (folder / "targets" / "rater.yml").write_text(yaml.safe_dump(targets(place, ports)))
    url = f"http://{HOST}:{ports.prometheus}"
    return Part(
        name="prometheus",
        what="scrapes all of them and judges what it sees",
        command=(program, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
                 f"--web.listen-address={HOST}:{ports.prometheus}"),
        health=f"{url}/-/ready",
        ports={"pages": ports.prometheus},
        links={"alerts": "/prometheus/alerts", "targets": "/prometheus/targets", "rated a second": f"/prometheus/graph?{RATED}"},
    )  # fmt: skip


def targets(place: Place, ports: Ports) -> list[dict[str, object]]:
    """ops/prometheus/targets/rater.yml with the ports of this machine in place of the names of containers."""
    here = {f"worker-{number}": ports.worker(number) for number in (1, 2)}
    here |= {name: ports.at(port) for name, (port, _, _) in AGENTS.items()} | {"api": ports.api_pages}
    told = yaml.safe_load((place.root / "ops" / "prometheus" / "targets" / "rater.yml").read_text("utf-8"))
    for group in told:
        names = [target.rsplit(":", 1)[0] for target in group["targets"]]
        unknown = [name for name in names if name not in here]
        if unknown:
            raise CannotStart(f"ops/prometheus/targets/rater.yml names {unknown[0]}; expected one of {', '.join(here)}")
        group["targets"] = [f"{HOST}:{here[name]}" for name in names]
    return list(told)
