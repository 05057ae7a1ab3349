"""A real Apache Kafka on this machine: its jars by Maven, one node that is broker and controller, kept between starts."""

import base64
import hashlib
import os
import shutil
import subprocess
import uuid
from pathlib import Path

from scripts.up_local.parts import HOST, CannotStart, Part, Place, Ports

POM = Path("tests/kafka/jars/pom.xml")
SETTINGS = {
    "auto.create.topics.enable": "false",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "log.cleaner.dedupe.buffer.size": str(16 << 20),
    "add.partitions.to.txn.retry.backoff.ms": "2",  # of 20: what a transaction waits that follows another at once
}


def broker(place: Place, ports: Ports) -> Part:
    """The broker, its folder formatted where it is new. Raises `CannotStart` without Java or the jars."""
    if shutil.which("java") is None:
        raise CannotStart("found no Java; Apache Kafka 4 needs 17 or newer (Debian: default-jre-headless)")
    classpath = f"{jars(place.root / POM)}/*"
    folder = place.folder("broker")
    properties = folder / "server.properties"
    properties.write_text("".join(f"{key}={value}\n" for key, value in _properties(folder, ports).items()))
    if not (folder / "data" / "meta.properties").exists():
        _format(classpath, properties)
    java = ("java", "-Xmx512m", "-XX:+UseSerialGC", "-cp", classpath)
    return Part(
        name="broker",
        what="Apache Kafka: the log that everything is written to",
        command=(*java, "kafka.Kafka", str(properties)),
        health=f"tcp:{ports.broker}",
        ports={"clients": ports.broker, "controller": ports.controller},
        stop_s=30.0,
    )


def jars(pom: Path) -> Path:
    """The folder with the jars that the pom names, filled on first use; the tests use the same one."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    root = Path(os.environ.get("RATER_KAFKA_JARS") or cache / "rater" / "kafka-jars")
    folder = root / hashlib.sha256(pom.read_bytes()).hexdigest()[:16]
    if folder.is_dir():
        return folder
    if shutil.which("mvn") is None:
        raise CannotStart(f"found no Maven and no {folder}; Maven brings the jars of Apache Kafka (Debian: maven)")
    partial = folder.with_name(f".partial-{os.getpid()}")
    command = ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", "-DincludeScope=runtime",
               f"-DoutputDirectory={partial}"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotStart(f"Maven could not copy the jars named in {pom}:\n{done.stdout}{done.stderr}")
    partial.rename(folder)
    return folder


def _format(classpath: str, properties: Path) -> None:
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    command = ["java", "-Xmx256m", "-cp", classpath, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}",
               "--config", str(properties)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotStart(f"the folder of the broker could not be formatted:\n{done.stdout}{done.stderr}")


def _properties(folder: Path, ports: Ports) -> dict[str, str]:
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{HOST}:{ports.controller}",
        "listeners": f"CLIENTS://{HOST}:{ports.broker},CONTROLLER://{HOST}:{ports.controller}",
        "advertised.listeners": f"CLIENTS://{HOST}:{ports.broker}",
        "listener.security.protocol.map": "CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "CLIENTS",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(folder / "data"),
        **SETTINGS,
    }
