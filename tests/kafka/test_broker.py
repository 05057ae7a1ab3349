"""The broker that the other suites stand on: it serves, dies, freezes and comes back with what it had."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import aiokafka
import pytest

from rater.doors.kafka.admin import NewTopic, open_admin
from rater.doors.settings.connection import Connection
from tests.kafka import broker
from tests.kafka.broker import BrokerProblem, KafkaCluster

ROOT = Path(__file__).parents[2]


async def _write_and_count(bootstrap: str, topic: str, replicas: int, value: bytes) -> int:
    """Create the topic where it is not there, append one record, and say how many it holds."""
    async with open_admin(Connection(bootstrap_servers=tuple(bootstrap.split(",")))) as admin:
        await admin.create([NewTopic(topic, 1, replicas, {})])
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        written = await producer.send_and_wait(topic, value)
    finally:
        await producer.stop()
    return int(written.offset) + 1


def write_and_count(cluster: KafkaCluster, topic: str, replicas: int = 1) -> int:
    return asyncio.run(asyncio.wait_for(_write_and_count(cluster.bootstrap, topic, replicas, b"x"), 60))


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def closes(port: int) -> bool:
    """The kernel closes a killed process's sockets when its last thread has gone, a little after the kill."""
    give_up = time.monotonic() + broker.STOP_S
    while accepts(port):
        if time.monotonic() > give_up:
            return False
        time.sleep(0.02)
    return True


def children_of(pid: int) -> list[int]:
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"


def test_the_shared_broker_stores_records(kafka: KafkaCluster) -> None:
    assert write_and_count(kafka, "broker-stores") == 1
    assert write_and_count(kafka, "broker-stores") == 2


def test_a_killed_node_comes_back_with_its_records_on_the_same_port(broker_possible: None) -> None:
    with KafkaCluster() as kafka:
        before = kafka.bootstrap
        assert write_and_count(kafka, "kept") == 1
        kafka.kill()
        assert not accepts(kafka.node().ports["CLIENT"])
        kafka.restart()
        assert kafka.bootstrap == before
        assert write_and_count(kafka, "kept") == 2
        kafka.stop()
        assert not accepts(kafka.node().ports["CLIENT"])
        folder = kafka.folder
    assert not folder.exists()


def test_a_paused_node_stands_still_until_it_is_resumed(broker_possible: None) -> None:
    with KafkaCluster() as kafka:
        process = kafka.node().process
        assert process is not None
        kafka.pause()
        assert is_stopped(process.pid)
        kafka.resume()
        assert write_and_count(kafka, "resumed") == 1


@pytest.mark.slow
def test_three_nodes_go_on_with_one_of_them_killed(three_brokers: KafkaCluster) -> None:
    assert write_and_count(three_brokers, "replicated", replicas=3) == 1
    three_brokers.kill(0)
    assert write_and_count(three_brokers, "replicated", replicas=3) == 2
    three_brokers.restart(0)
    assert write_and_count(three_brokers, "replicated", replicas=3) == 3


def test_by_hand_it_prints_the_bootstrap_address_and_a_killed_parent_leaves_no_broker(broker_possible: None) -> None:
    with subprocess.Popen([sys.executable, "-m", "tests.kafka.broker"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, cwd=ROOT) as parent:  # fmt: skip
        assert parent.stdout is not None
        assert parent.stderr is not None
        address = parent.stdout.readline().strip()
        folder = Path(parent.stderr.readline().split(": ")[1].split(";")[0])
        try:
            port = int(address.rsplit(":", 1)[1])
            assert accepts(port)
            java = children_of(parent.pid)
            os.kill(parent.pid, signal.SIGKILL)
            parent.wait()
            assert len(java) == 1
            assert closes(port)
        finally:
            parent.kill()
            shutil.rmtree(folder, ignore_errors=True)


def test_jars_are_copied_once_and_only_complete_folders_have_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Maven that fails half-way leaves nothing that a later start would take for the jars."""
    monkeypatch.setenv("RATER_KAFKA_JARS", str(tmp_path / "jars"))
    monkeypatch.setenv("PATH", str(tmp_path))
    maven = tmp_path / "mvn"
    maven.write_text(
        '#!/bin/sh\nfor word; do case "$word" in -DoutputDirectory=*) : > "${word#*=}/some.jar";; esac; done\nexit 1\n'
    )
    maven.chmod(0o755)
    with pytest.raises(BrokerProblem, match="could not copy the jars"):
        broker.jars()
    maven.write_text(maven.read_text().replace("exit 1", "echo once >> " + str(tmp_path / "calls")))
    first, second = broker.jars(), broker.jars()
    assert first == second
    assert [path.name for path in first.iterdir()] == ["some.jar"]
    assert (tmp_path / "calls").read_text() == "once\n"


@pytest.mark.parametrize(("ci", "outcome"), [("true", "1 error"), ("false", "1 skipped")])
def test_without_java_a_broker_test_is_skipped_with_the_reason_but_fails_in_ci(
    tmp_path: Path, ci: str, outcome: str
) -> None:
    test = f"{Path(__file__)}::{test_the_shared_broker_stores_records.__name__}"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "", "-p", "no:cacheprovider", test]
    environment = os.environ | {"PATH": str(tmp_path), "CI": ci}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert outcome in done.stdout
    assert "Java is not installed" in done.stdout
    assert done.returncode == (1 if ci == "true" else 0)


def test_without_java_the_reason_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "default-jre-headless" in (broker.missing() or "")


def test_ports_are_below_those_the_kernel_gives_to_outgoing_connections() -> None:
    limits = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if not limits.exists():
        pytest.skip("no /proc here: the range is not known")
    assert max(broker.free_ports(20)) < int(limits.read_text().split()[0])
