"""The mediation agent on a real Apache Kafka: each call once by its id, none lost, whatever is killed and in whatever order parts come."""

import asyncio
import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from rater.doors.failpoints import MEDIATION_FAILPOINTS
from rater.doors.kafka.raw_topics import create_raw_topics
from rater.doors.kafka.topics import Wanted
from rater.sources.asterisk_layouts import LAYOUTS
from tests.kafka.broker import KafkaCluster
from tests.kafka.checker_model import home_of
from tests.kafka.workers import Deployment, connection, ending
from tests.schema_check import validate
from tests.service.processes import AgentProcess, committed, deployment, read, start_agent
from tests.sources.support import ASTERISK, row
from tests.sources.test_origins import acc

DOCS = Path(__file__).resolve().parents[2] / "docs" / "sources"
MASTER = LAYOUTS["master-18"]
KAMAILIO, PBX = "raw-cdrs.edge1", "raw-cdrs.pbx1"
# The kills come after something was published; the first value is answered at once, the second waits.
ONCE_AND_LATER = [*((point, "1") for point in MEDIATION_FAILPOINTS), (MEDIATION_FAILPOINTS[0], "3")]


@pytest.fixture
def deployed(kafka: KafkaCluster, tmp_path: Path) -> Deployment:
    made = deployment(kafka, tmp_path, partitions=2)
    asyncio.run(create_raw_topics(connection(made.bootstrap), made.prefix, ["edge1", "pbx1"], Wanted(2, 1, None)))
    profiles = tmp_path / "profiles"
    profiles.mkdir()
    (profiles / "edge1.toml").write_text((DOCS / "kamailio.toml").read_text("utf-8"), "utf-8")
    (profiles / "pbx1.toml").write_text(ASTERISK.replace('tenant = "acme"', "[tenants]\nsame = true"), "utf-8")
    return made


def start(deployed: Deployment, number: int = 0, **extra: str) -> AgentProcess:
    profiles = str(deployed.folder / "profiles")
    return start_agent(
        deployed,
        ("rater", "mediation-agent"),
        agent="mediation",
        number=number,
        RATER_MEDIATION_PROFILES=profiles,
        **extra,
    )


def send(deployed: Deployment, topic: str, values: Sequence[tuple[int, bytes | None]]) -> list[int]:
    """(partition, value) each, in order; the offsets."""

    async def run() -> list[int]:
        producer = AIOKafkaProducer(bootstrap_servers=deployed.bootstrap, acks="all")
        await producer.start()
        try:
            return [
                (await producer.send_and_wait(deployed.prefix + topic, value, key=b"k", partition=place)).offset
                for place, value in values
            ]
        finally:
            await producer.stop()

    return asyncio.run(run())


def calls_of(records: Iterable[Any]) -> dict[str, bytes]:
    """By record id; a call that came twice must have come as the same bytes, on its tenant's partition, under its key."""
    found: dict[str, bytes] = {}
    for record in records:
        call = validate("cdrs", record.value)
        assert found.setdefault(call["record_id"], record.value) == record.value, "the same bytes each time"
        assert record.key.decode() == call["tenant"]
    return found


def homes_are_right(deployed: Deployment, records: Iterable[Any]) -> bool:
    return all(record.partition == home_of(record.key.decode(), deployed.partitions) for record in records)


def wait_until_done(agent: AgentProcess, outstanding: int = 0) -> None:
    agent.wait(
        lambda status: status["partitions"] and all(one["caught_up"] for one in status["partitions"].values())
        and sum(one["outstanding"] for one in status["partitions"].values()) == outstanding,
        f"{outstanding} outstanding",
    )  # fmt: skip


def line(number: int, **changed: str) -> bytes:
    return row(MASTER, uniqueid=f"1768483800.{number}", **changed)


def test_each_raw_topic_by_its_profile_and_every_record_with_its_place(deployed: Deployment):
    offsets = send(
        deployed,
        KAMAILIO,
        [(1, acc("BYE", 1, 1768483967)), (1, acc("INVITE", 2, 1768483812)), (1, acc("INVITE", 1, 1768483812))],
    )
    send(deployed, PBX, [(0, line(1)), (0, line(2) + line(3) + b"not a row\n"), (0, line(4, dst="h"))])
    agent = start(deployed)
    with ending(agent):
        found = read(deployed, "cdrs", lambda found: len(found) >= 4)
        rejected = read(deployed, "rejected-raw", lambda found: len(found) >= 2)
        wait_until_done(agent, outstanding=1)
        status, page = agent.get("/mediation")
        metrics = agent.get("/metrics")[1].decode()
        assert agent.stop() == 0
    assert len(calls_of(found)) == 4
    assert homes_are_right(deployed, found)
    headers = {json.loads(record.value)["record_id"]: dict(record.headers) for record in found}
    [pair] = [told for name, told in headers.items() if name.startswith("edge1:1@x")]
    assert pair == {
        "raw-topic": f"{deployed.prefix}{KAMAILIO}".encode(), "raw-partition": b"1", "raw-offsets": f"{offsets[0]},{offsets[2]}".encode(),
    }  # fmt: skip
    assert sorted(told["raw-offsets"] for name, told in headers.items() if name.startswith("pbx1")) == [
        b"0",
        b"1",
        b"1",
    ]
    reasons = [validate("rejected-raw", record.value) for record in rejected]
    # in no order: publishing is begun in the order of reading, each record in a request of its own
    assert sorted((one["input"]["offsets"], one["reason"], one["record"]) for one in reasons) == [
        ([1], "bad_source_row", 3),
        ([2], "bad_field", 1),
    ]
    assert status == 200
    assert json.loads(page)["parts_waiting"][f"{deployed.prefix}{KAMAILIO}-1"] == 1
    assert f'rater_mediation_calls_total{{topic="{deployed.prefix}{PBX}"}} 3.0' in metrics
    assert "+44" not in agent.log()
    assert "442079460018" not in agent.log()


def test_an_open_call_holds_its_offset_back_and_completes_after_a_kill_and_a_lost_disk(deployed: Deployment):
    send(
        deployed,
        KAMAILIO,
        [(0, acc("INVITE", 1, 1768483812)), (0, acc("INVITE", 2, 1768483812)), (0, acc("BYE", 2, 1768483967))],
    )
    first = start(deployed, 1)
    with ending(first):
        read(deployed, "cdrs", lambda found: len(found) >= 1)
        wait_until_done(first, outstanding=1)
        assert first.stop() == 0  # what may be committed is committed
    assert committed(deployed, f"{deployed.name}-mediation", KAMAILIO)[0] in (None, 0)
    send(deployed, KAMAILIO, [(0, acc("BYE", 1, 1768483967))])
    second = start(deployed, 2)  # another folder: nothing of the first one's disk
    with ending(second):
        found = read(deployed, "cdrs", lambda found: len(calls_of(found)) == 2)
        wait_until_done(second)
        assert second.stop() == 0
    assert len(calls_of(found)) == 2
    assert committed(deployed, f"{deployed.name}-mediation", KAMAILIO)[0] == 4


def test_tombstones_and_poison_stop_nothing(deployed: Deployment):
    poison = [
        None,
        b"",
        b"\xff\xfe\x00",
        b"{" * 5000,
        b'{"method": 5}',
        b"[[[[",
        b"NaN",
        b"{}",
        acc("INVITE", 1, 10**12),
    ]
    values = [(0, value) for value in poison]
    send(deployed, KAMAILIO, [*values, (0, acc("INVITE", 7, 1768483812)), (0, acc("BYE", 7, 1768483967))])
    send(deployed, PBX, [*values, (0, line(7))])
    agent = start(deployed)
    with ending(agent):
        found = read(deployed, "cdrs", lambda found: len(found) >= 2)
        agent.wait(
            lambda status: sum(one["outstanding"] for one in status["partitions"].values()) <= 1, "everything answered"
        )
        rejected = read(deployed, "rejected-raw", lambda found: len(found) >= 10)
        assert agent.stop() == 0
    assert len(calls_of(found)) == 2
    for record in rejected:
        validate("rejected-raw", record.value)


@pytest.mark.parametrize(("failpoint", "count"), ONCE_AND_LATER)
def test_killed_at_every_step_nothing_is_lost_and_the_bytes_are_the_same(
    deployed: Deployment, failpoint: str, count: str
):
    parts = [acc("BYE", 1, 1768483967), acc("INVITE", 2, 1768483812), acc("INVITE", 1, 1768483812), acc("BYE", 2, 1768483967),
             acc("INVITE", 3, 1768483812), acc("BYE", 3, 1768483967)]  # fmt: skip
    first = start(deployed, 1, RATER_FAILPOINT=f"{failpoint}:{count}")
    with ending(first):
        first.wait_caught_up(4)
        send(deployed, KAMAILIO, [(0, part) for part in parts])
        send(deployed, PBX, [(0, line(1) + b"x\n"), (1, line(2))])
        assert first.ended() == -9
    second = start(deployed, 2)
    with ending(second):
        found = read(deployed, "cdrs", lambda found: len(calls_of(found)) == 5)
        read(deployed, "rejected-raw", lambda found: len(found) >= 1)
        wait_until_done(second)
        assert second.stop() == 0
    assert len(calls_of(found)) == 5
    group = f"{deployed.name}-mediation"
    assert committed(deployed, group, KAMAILIO)[0] == len(parts)
    assert [committed(deployed, group, PBX)[place] for place in (0, 1)] == [1, 1]


def test_random_kills_while_parts_come_out_of_order(deployed: Deployment):
    chance = random.Random(7)
    count = 60
    parts = [
        (call % 2, acc(method, call, 1768483812 + (155 if method == "BYE" else 0)))
        for call in range(count)
        for method in ("INVITE", "BYE")
    ]
    chance.shuffle(parts)
    rows = [(n % 2, line(n)) for n in range(count)]
    agent = start(deployed, 0)
    try:
        for number in range(5):
            agent.wait(lambda status: bool(status["partitions"]), "partitions")
            part = slice(number * len(parts) // 5, (number + 1) * len(parts) // 5)
            send(deployed, KAMAILIO, parts[part])
            send(deployed, PBX, rows[number * count // 5 : (number + 1) * count // 5])
            agent.kill()
            agent = start(deployed, number + 1)
        found = read(deployed, "cdrs", lambda found: len(calls_of(found)) == 2 * count)
        wait_until_done(agent)
        assert agent.stop() == 0
    finally:
        agent.kill()
    assert len(calls_of(found)) == 2 * count
    assert homes_are_right(deployed, found)
    offsets = {name: max(committed(deployed, f"{deployed.name}-mediation", name).values()) for name in (KAMAILIO, PBX)}  # type: ignore[type-var]
    assert offsets == {KAMAILIO: count, PBX: count // 2}
    positions = {(dict(one.headers)["raw-topic"], dict(one.headers)["raw-partition"], place)
                 for one in found for place in dict(one.headers)["raw-offsets"].split(b",")}  # fmt: skip
    assert len(positions) == 3 * count, "every raw record became part of exactly one call"


def test_two_agents_share_and_what_one_held_open_the_other_completes(deployed: Deployment):
    send(deployed, KAMAILIO, [(place, acc("INVITE", call, 1768483812)) for call in range(10) for place in [call % 2]])
    first = start(deployed, 1)
    with ending(first):
        first.wait_caught_up(4)
        second = start(deployed, 2)
        with ending(second):
            second.wait_caught_up(2)
            first.kill()
            send(
                deployed,
                KAMAILIO,
                [(place, acc("BYE", call, 1768483967)) for call in range(10) for place in [call % 2]],
            )
            found = read(deployed, "cdrs", lambda found: len(calls_of(found)) == 10)
            wait_until_done(second)
            assert second.stop() == 0
    assert len(calls_of(found)) == 10


def test_settings_that_cannot_be_are_refused_before_anything_begins(deployed: Deployment):
    (deployed.folder / "profiles" / "bad.toml").write_text('source = "kamailio"\nzone = 5\n', "utf-8")
    agent = start(deployed)
    with ending(agent):
        assert agent.ended() == 2
    assert "bad.toml: zone: found 5" in agent.log()
    (deployed.folder / "profiles" / "bad.toml").rename(deployed.folder / "profiles" / "bad")
    (deployed.folder / "profiles" / "new.toml").write_text((DOCS / "kamailio.toml").read_text("utf-8"), "utf-8")
    agent = start(deployed)
    with ending(agent):
        assert agent.ended() == 2
    assert "raw-cdrs.new is not there" in agent.log()
