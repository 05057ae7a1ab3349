"""deploy/kubernetes/, without a cluster: each object against the schema of Kubernetes, and against what rater takes."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from rater.doors.history.settings import load_sink_settings
from rater.doors.http.settings import load_api_settings
from rater.doors.kafka.settings import load_worker_settings
from rater.doors.service.mediation_settings import load_mediation_settings
from rater.doors.service.notification_settings import load_notification_settings
from rater.doors.service.recharge_settings import load_recharge_settings

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text("utf-8"))
VERSION = "1.31"
OBJECTS: list[dict[str, Any]] = [
    document
    for name in KUSTOMIZATION["resources"]
    for document in yaml.safe_load_all((FOLDER / name).read_text("utf-8"))
]
PODS = {thing["metadata"]["name"]: thing for thing in OBJECTS if thing["kind"] in ("StatefulSet", "Deployment")}
LOADERS = {
    "rater-worker": load_worker_settings,
    "recharge-agent": load_recharge_settings,
    "notification-agent": load_notification_settings,
    "mediation-agent": load_mediation_settings,
    "history-sink": load_sink_settings,
    "api": load_api_settings,
}
FILES = {  # a name in a Secret or a ConfigMap that is not in the folder -> what may stand there
    "rates": ROOT / "rates" / "example-usd",
    "profiles": ROOT / "ops" / "mediation",
}


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {thing["metadata"]["name"]: thing for thing in OBJECTS if thing["kind"] == kind}


def container(name: str) -> dict[str, Any]:
    (only,) = PODS[name]["spec"]["template"]["spec"]["containers"]
    return dict(only)


@pytest.mark.parametrize("thing", OBJECTS, ids=lambda thing: f"{thing['kind']}-{thing['metadata']['name']}")
def test_each_object_is_one_of_kubernetes(thing: dict[str, Any]):
    kubernetes_validate.validate(thing, VERSION, strict=True)


def test_a_misspelt_field_would_be_found():
    wrong = {**PODS["rater-worker"], "spec": {**PODS["rater-worker"]["spec"], "replica": 3}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSION, strict=True)


def test_every_file_of_the_folder_is_applied():
    assert {file.name for file in FOLDER.glob("*.yaml")} == {"kustomization.yaml", *KUSTOMIZATION["resources"]}


def test_the_names_of_rater_are_all_there():
    assert set(PODS) == set(LOADERS)


@pytest.mark.parametrize("name", PODS)
def test_a_pod_is_not_root_and_cannot_become_it(name: str):
    pod = PODS[name]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False, "Kubernetes would add RATER_WORKER_... variables, which rater refuses"
    assert container(name)["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip


@pytest.mark.parametrize("name", ["rater-worker", "history-sink"])
def test_who_rates_or_reads_finds_the_machine_code_of_the_image(name: str):
    """The folder is hidden by an empty one that can be written to; without the copy every start compiles for half a minute."""
    pod = PODS[name]["spec"]["template"]["spec"]
    (copying,) = pod["initContainers"]
    (cache,) = (mount["mountPath"] for mount in container(name)["volumeMounts"] if mount["name"] == "cache")
    assert copying["command"][-2:] == [f"{cache}/.", f"{copying['volumeMounts'][0]['mountPath']}/"]
    assert f"RATER_CACHE_DIR={cache}" in (ROOT / "Dockerfile").read_text("utf-8")
    assert copying["securityContext"] == container(name)["securityContext"]


@pytest.mark.parametrize("name", PODS)
def test_memory_is_bounded_and_a_processor_is_asked_for(name: str):
    resources = container(name)["resources"]
    assert {"cpu", "memory"} <= set(resources["requests"])
    assert "memory" in resources["limits"]
    assert "cpu" not in resources["limits"], "a throttled worker looks like a slow broker"


@pytest.mark.parametrize("name", [name for name in PODS if name not in ("history-sink", "api")])
def test_probes_ask_what_they_mean_and_prometheus_finds_the_port(name: str):
    found = container(name)
    (port,) = found["ports"]
    assert found["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": port["name"]}
    assert found["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": port["name"]}
    # A restore is no reason to kill a process, and the liveness of a busy one gets half a minute.
    assert found["livenessProbe"]["periodSeconds"] * found["livenessProbe"]["failureThreshold"] >= 30
    notes = PODS[name]["spec"]["template"]["metadata"]["annotations"]
    assert notes["prometheus.io/scrape"] == "true"
    assert notes["prometheus.io/port"] == str(port["containerPort"])
    assert notes["prometheus.io/path"] == "/metrics"


@pytest.mark.parametrize("name", [name for name, thing in PODS.items() if thing["kind"] == "StatefulSet"])
def test_a_service_and_its_selector_lead_to_the_pods(name: str):
    thing = PODS[name]
    service = of_kind("Service")[thing["spec"]["serviceName"]]
    labels = thing["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert thing["spec"]["selector"]["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize("name", ["rater-worker", "recharge-agent", "notification-agent", "mediation-agent"])
def test_one_pod_at_a_time_may_be_taken_away(name: str):
    budget = of_kind("PodDisruptionBudget")[name]["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"] == PODS[name]["spec"]["selector"]


def test_a_worker_has_its_pods_name_in_the_group():
    (told,) = (one for one in container("rater-worker")["env"] if one["name"] == "RATER_GROUP_INSTANCE_ID")
    assert told["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"


def test_the_api_asks_every_worker_there_is():
    environment = {one["name"]: one.get("value", "") for one in container("api")["env"]}
    count = PODS["rater-worker"]["spec"]["replicas"]
    assert environment["RATER_API_WORKERS"].split(",") == [f"rater-worker-{n}.rater-worker:6066" for n in range(count)]


@pytest.mark.parametrize("name", PODS)
def test_every_environment_is_taken_by_the_process_it_is_for(name: str, tmp_path: Path):
    environment = environment_of(name, tmp_path)
    LOADERS[name](None, environment)
    with pytest.raises(Exception, match="RATER_"):
        LOADERS[name](None, environment | {"RATER_BOOTSTRAP_SERVERS": "nowhere"})


def environment_of(name: str, folder: Path) -> dict[str, str]:
    """As the process would read it; what is mounted lies in a folder, with the mode it is mounted with."""
    pod, found = PODS[name]["spec"]["template"]["spec"], container(name)
    told = dict(of_kind("ConfigMap")["rater"]["data"])
    for one in found["env"]:
        told[one["name"]] = one["value"] if "value" in one else made_up(one["valueFrom"])
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = [mount for mount in found["volumeMounts"] if mount["name"] != "tmp"]
    for mount in sorted(mounts, key=lambda mount: len(mount["mountPath"]), reverse=True):
        here = FILES.get(mount["name"]) or mounted(volumes.get(mount["name"]), folder / mount["name"])
        told = {key: text.replace(mount["mountPath"], str(here), 1) if text.startswith(mount["mountPath"]) else text
                for key, text in told.items()}  # fmt: skip
    return told


def made_up(source: dict[str, Any]) -> str:
    return "rater-worker-0" if "fieldRef" in source else "postgresql://rater@db/rater"


def mounted(volume: dict[str, Any] | None, folder: Path) -> Path:
    folder.mkdir()
    if volume is not None and "secret" in volume:
        names = [item["path"] for item in volume["secret"].get("items", [])] or ["tls.crt", "tls.key"]
        for file in names:
            (folder / file).write_text("a secret")
            (folder / file).chmod(volume["secret"]["defaultMode"])
    elif volume is not None and "configMap" in volume:
        data = of_kind("ConfigMap").get(volume["configMap"]["name"], {}).get("data", {"ca.pem": "a certificate"})
        for file, text in data.items():
            (folder / file).write_text(text)
    return folder
