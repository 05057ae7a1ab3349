"""docker-compose.yml, without an engine: valid by its own schema, and everything it names is there and is taken.

`compose-spec.json` is the schema of the Compose Specification (compose-spec/compose-go 2.16.2, Apache-2.0), as it came.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
import yaml

from rater.__main__ import cli
from rater.doors.history.settings import load_sink_settings
from rater.doors.http.settings import load_api_settings
from rater.doors.kafka.settings import load_connection, load_worker_settings
from rater.doors.service.mediation_settings import load_mediation_settings
from rater.doors.service.notification_settings import load_notification_settings
from rater.doors.service.recharge_settings import load_recharge_settings
from scripts.up_local import plan
from scripts.up_local.parts import Place, Ports

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docker-compose.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service.get("build") and "entrypoint" not in service}
LOADERS = {
    "topics": load_connection,
    "traffic": load_connection,
    "worker": load_worker_settings,
    "recharge-agent": load_recharge_settings,
    "notification-agent": load_notification_settings,
    "mediation-agent": load_mediation_settings,
    "history": load_sink_settings,
    "api": load_api_settings,
}
METRICS_PORTS = {"api": 6071}  # of its own: the other one asks for a token
WEB_PORTS = {"worker": 6066, "recharge-agent": 6067, "notification-agent": 6068, "mediation-agent": 6069, "api": 6070}


def binds(service: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    """(path in the checkout, path in the container) of what a service sees of this folder."""
    for volume in service.get("volumes", []):
        source, target, *_ = volume.split(":")
        if source.startswith("."):
            yield ROOT / source, target


def test_it_is_a_compose_file_by_the_specification():
    jsonschema.validate(COMPOSE, json.loads((Path(__file__).parent / "compose-spec.json").read_text("utf-8")))


def test_a_misspelt_key_would_be_found():
    schema = json.loads((Path(__file__).parent / "compose-spec.json").read_text("utf-8"))
    wrong = COMPOSE | {"services": SERVICES | {"worker-1": SERVICES["worker-1"] | {"enviroment": {}}}}
    with pytest.raises(jsonschema.ValidationError, match="enviroment"):
        jsonschema.validate(wrong, schema)


def test_the_set_is_whole():
    assert set(SERVICES) == {
        "broker", "topics", "secret", "worker-1", "worker-2", "recharge-agent", "notification-agent", "mediation-agent", "history-sink", "api",
        "prometheus", "grafana", "mail-catcher", "traffic",
    }  # fmt: skip


@pytest.mark.parametrize("name", SERVICES)
def test_every_file_it_names_is_there(name: str):
    for source, _ in binds(SERVICES[name]):
        assert source.exists(), f"{name}: {source}"
    if build := SERVICES[name].get("build"):
        assert (ROOT / build / "Dockerfile").is_file()


@pytest.mark.parametrize("name", SERVICES)
def test_every_volume_is_declared_and_every_image_has_a_version(name: str):
    service = SERVICES[name]
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        assert source.startswith("./") or source in COMPOSE["volumes"], f"{name}: {source}"
    assert re.fullmatch(r"[a-z0-9./-]+:v?\d+\.\d+\.\d+", service["image"]), service["image"]


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_waited_for_can_become_true(name: str):
    waited = SERVICES[name].get("depends_on", {})
    for other, how in waited.items():
        condition = how["condition"]
        if condition == "service_healthy":
            assert "test" in SERVICES[other]["healthcheck"], f"{name} waits for {other}, which has no health check"
        else:
            assert condition == "service_completed_successfully"
            assert SERVICES[other]["restart"] == "no", f"{name} waits for the end of {other}, which is started again"


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_to_this_machine_alone(name: str):
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:"), f"{name}: {port}"


def test_no_port_of_this_machine_is_wanted_twice():
    wanted = [port.split(":")[1] for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(wanted) == len(set(wanted))


def test_no_secret_stands_in_the_file():
    for name, service in SERVICES.items():
        for key in service.get("environment", {}):
            secret = re.search(r"PASSWORD|SECRET|TOKEN|_KEY", key)
            assert not secret or key.endswith("_FILE"), f"{name}: {key}"


def test_the_secret_is_drawn_once_and_is_for_its_owner_alone(tmp_path: Path):
    (script,) = SERVICES["secret"]["command"]
    for _ in range(2):
        subprocess.run(["sh", "-c", script.replace("/var/lib/rater-internal", str(tmp_path))], check=True)
        drawn = (tmp_path / "secret").read_text()
        assert len(drawn.strip()) == 44
        (tmp_path / "first").write_text(drawn) if not (tmp_path / "first").exists() else None
    assert drawn == (tmp_path / "first").read_text()
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", OURS)
def test_every_command_is_one_of_rater_and_knows_its_options(name: str):
    """With `--help` behind it a command line is read to its end, and does nothing."""
    assert not cli.main([*OURS[name]["command"], "--help"], prog_name="rater", standalone_mode=False)


@pytest.mark.parametrize("name", OURS)
def test_a_command_line_with_an_unknown_option_would_be_found(name: str):
    with pytest.raises(click.UsageError):
        cli.main([*OURS[name]["command"], "--bogus", "--help"], prog_name="rater", standalone_mode=False)


@pytest.mark.parametrize("name", OURS)
def test_every_environment_is_taken_by_the_command_it_is_for(name: str, tmp_path: Path):
    """As the process would read it, with the paths of the container where they lie in this checkout."""
    service = OURS[name]
    load_of = LOADERS[service["command"][0]]
    (tmp_path / "internal").mkdir()
    (tmp_path / "internal" / "secret").write_text("drawn at the first start")
    (tmp_path / "internal" / "secret").chmod(0o600)
    places = [*binds(service), (tmp_path / "internal", "/var/lib/rater-internal"), (tmp_path, "/var/lib/rater")]
    environment = {}
    for key, text in service["environment"].items():
        assert isinstance(text, str), f"{name}: {key} is {text!r}; YAML made a {type(text).__name__} of it, quote it"
        for source, target in places:
            text = text.replace(target, str(source)) if text.startswith(target) else text
        environment[key] = text
    load_of(None, environment)
    with pytest.raises(Exception, match="RATER_"):
        load_of(None, environment | {"RATER_BOOTSTRAP_SERVERS": "nowhere"})


@pytest.mark.parametrize("name", [name for name in OURS if OURS[name]["command"][0] in WEB_PORTS])
def test_a_page_is_open_to_the_network_of_the_file_and_its_health_is_asked_at_its_own_port(name: str):
    service = OURS[name]
    command = service["command"][0]
    environment, port = service["environment"], WEB_PORTS[command]
    host = {"worker": "RATER_WEB_HOST", "api": "RATER_API_HOST"}.get(command)
    assert environment[host or f"RATER_{command.removesuffix('-agent').upper()}_WEB_HOST"] == "0.0.0.0"
    assert environment.get("HEALTH_URL", "http://127.0.0.1:6066/healthz") == f"http://127.0.0.1:{port}/healthz"
    assert service["ports"][0].endswith(f":{port}")


def test_the_workers_have_names_and_folders_of_their_own():
    workers = [OURS["worker-1"], OURS["worker-2"]]
    assert len({worker["environment"]["RATER_GROUP_INSTANCE_ID"] for worker in workers}) == 2
    assert len({worker["volumes"][0] for worker in workers}) == 2


def test_prometheus_scrapes_services_of_this_file_where_they_listen():
    groups = yaml.safe_load((ROOT / "ops" / "prometheus" / "targets" / "rater.yml").read_text("utf-8"))
    found = {target for group in groups for target in group["targets"]}
    expected = {
        f"{name}:{METRICS_PORTS.get(service['command'][0], WEB_PORTS[service['command'][0]])}"
        for name, service in OURS.items()
        if service["command"][0] in WEB_PORTS
    }
    assert found == expected


def test_the_traffic_goes_to_a_raw_topic_that_is_made_and_has_a_profile():
    (raw,) = (
        OURS["traffic"]["command"][index + 1]
        for index, word in enumerate(OURS["traffic"]["command"])
        if word == "--raw"
    )
    assert raw in OURS["topics"]["command"]
    assert (ROOT / "ops" / "mediation" / f"{raw}.toml").is_file()
    assert raw == plan.RAW


def test_up_local_runs_the_same_set(tmp_path: Path):
    """All of it but what cannot run without an image, and the topics, which it makes itself."""
    place, ports = Place(ROOT, tmp_path), Ports()
    parts = [plan.mail_catcher(place, ports), *plan.parts_of_rater(place, ports, 5)]
    assert {part.name for part in parts} | {"broker", "topics", "secret", "prometheus", "grafana"} == set(SERVICES)
    for part in parts:
        if part.name in OURS and part.name != "traffic":
            assert part.command[-len(OURS[part.name]["command"]) :] == tuple(OURS[part.name]["command"])
