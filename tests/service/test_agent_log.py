"""An agent's log on a real Apache Kafka: committed records only, each again until it is acknowledged, whoever dies."""

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from rater.doors.service.acknowledged import Acknowledged
from tests.kafka.broker import KafkaCluster
from tests.kafka.checker_model import home_of
from tests.kafka.workers import Deployment, ending
from tests.service.processes import AgentProcess, committed, deployment, read, start_agent, write

ECHO = ("tests.service.echo",)


@pytest.fixture
def deployed(kafka: KafkaCluster, tmp_path: Path) -> Deployment:
    return deployment(kafka, tmp_path, partitions=2)


def echo(deployed: Deployment, number: int = 0) -> AgentProcess:
    return start_agent(deployed, ECHO, number=number, ECHO_FOLDER=str(deployed.folder / "echo"))


def echoes(deployed: Deployment, count: int) -> list[Any]:
    return read(deployed, "account-commands", lambda found: len(found) >= count)


def words(records: list[Any]) -> list[str]:
    return sorted(record.value.decode().split(":")[1] for record in records)


def test_an_offset_is_committed_only_behind_everything_that_is_done():
    place = Acknowledged()
    assert place.committable() is None
    for offset in (3, 5, 6):
        place.begin(offset)
    place.read_to(7)
    place.done(5)
    place.done(6)
    assert (place.committable(), place.outstanding()) == (3, 1)
    place.done(3)
    assert (place.committable(), place.outstanding()) == (7, 0)
    place.begin(6)  # handed out again
    place.done(6)
    assert place.committable() == 7


def test_what_was_aborted_is_never_read_and_what_is_published_is_keyed_by_the_tenant(deployed: Deployment):
    write(
        deployed,
        "account-events",
        (True, [("acme", b"one")]),
        (False, [("acme", b"never")]),
        (True, [("beta", b"two")]),
    )
    agent = echo(deployed)
    with ending(agent):
        found = echoes(deployed, 2)
        agent.wait_caught_up(2)
        assert agent.get("/healthz")[0] == 200
        assert agent.get("/readyz")[0] == 200
        assert agent.stop() == 0
    assert words(found) == ["one", "two"]
    assert {record.key: record.partition for record in found} == {
        tenant: home_of(tenant.decode(), 2) for tenant in (b"acme", b"beta")
    }
    assert [record.headers for record in found] == [(("from", b"echo"),)] * 2


def test_a_record_that_waits_is_not_passed_over_and_comes_again_after_a_kill(deployed: Deployment):
    write(deployed, "account-events", (True, [("acme", b"one")]), (True, [("acme", b"hold"), ("acme", b"three")]))
    first = echo(deployed)
    group, home = f"{deployed.name}-recharge", home_of("acme", 2)
    with ending(first):
        assert words(echoes(deployed, 2)) == ["one", "three"]
        first.wait(
            lambda status: status["partitions"][f"{deployed.prefix}account-events-{home}"]["outstanding"] == 1,
            "the record that waits",
        )
        first.kill()
    assert committed(deployed, group, "account-events")[home] in (None, 2)
    (deployed.folder / "echo" / "release").touch()
    second = echo(deployed)
    with ending(second):
        assert "hold" in words(read(deployed, "account-commands", lambda found: "hold" in words(found)))
        second.wait_caught_up(2)
        assert second.stop() == 0
    assert committed(deployed, group, "account-events")[home] == 5  # behind the marker of the second transaction


def test_two_agents_share_the_partitions_and_what_one_held_goes_to_the_other(deployed: Deployment):
    first = echo(deployed, 1)
    with ending(first):
        first.wait_caught_up(2)
        write(deployed, "account-events", (True, [(f"t{n}", b"hold") for n in range(8)]))
        second = echo(deployed, 2)
        with ending(second):
            second.wait_caught_up(1)
            first.wait_caught_up(1)
            first.kill()
            (deployed.folder / "echo" / "release").touch()
            found = read(deployed, "account-commands", lambda found: len({record.key for record in found}) == 8)
            second.wait_caught_up(2)
            assert second.stop() == 0
    assert {record.key for record in found} == {f"t{n}".encode() for n in range(8)}


def test_an_agent_that_cannot_go_on_ends_with_its_reason_and_the_next_begins_there(deployed: Deployment):
    write(deployed, "account-events", (True, [("acme", b"one")]))
    write(deployed, "account-events", (True, [("acme", b"die")]))
    agent = echo(deployed)
    with ending(agent):
        assert agent.ended() != 0
    assert "this agent ends: RuntimeError: told to die" in agent.log()
    assert committed(deployed, f"{deployed.name}-recharge", "account-events")[home_of("acme", 2)] in (None, 0, 2)


def test_a_page_of_an_agent_takes_what_is_posted(deployed: Deployment):
    agent = echo(deployed)
    with ending(agent):
        agent.wait_caught_up(2)
        request = urllib.request.Request(f"http://127.0.0.1:{agent.port}/posted", b"12345", method="POST")
        with urllib.request.urlopen(request, timeout=5) as answer:
            assert json.load(answer) == {"method": "POST", "bytes": 5}
        assert agent.stop() == 0
