"""`rater worker` as an operator meets it: a process on a real Apache Kafka, started, fed, stopped, killed, told wrong things.

Where how it starts is in question it starts as `python -m rater worker`; elsewhere it is forked (see `nursery`).
"""

import asyncio
import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.workload import Shape, calls, commands, write_deck
from tests.kafka.broker import KafkaCluster
from tests.kafka.checker_io import main as checked
from tests.kafka.workers import ROOT, Deployment, Worker, ending, running

Deploy = Callable[..., Deployment]
numbers = itertools.count()

ACCOUNT = [
    b'{"command_id":"c1","tenant":"acme","type":"tenant.opened","at":"2026-11-01T00:00:00Z","country":"GB","currency":"USD",'
    b'"billing_mode":"prepaid"}',
    b'{"command_id":"c2","tenant":"acme","type":"licence.assigned","at":"2026-11-01T00:00:00Z","user":"u-1","plan":"MCOPSTNC",'
    b'"country":"GB"}',
    b'{"command_id":"c4","tenant":"acme","type":"funds.added","at":"2026-11-01T00:00:00Z","lot_id":"lot-1",'
    b'"amount_micros":50000000}',
]


def call(record_id: str, tenant: str = "acme") -> bytes:
    record = {
        "record_id": record_id, "tenant": tenant, "call_type": "user_out", "user": "u-1", "caller": None,
        "callee": "+12125550123", "start": "2026-11-03T13:30:00Z", "answer": "2026-11-03T13:30:00Z",
        "end": "2026-11-03T13:32:00Z", "billable_ms": 120_000, "disposition": "answered",
    }  # fmt: skip
    return json.dumps(record, separators=(",", ":")).encode()


@pytest.fixture
def deploy(kafka: KafkaCluster, tmp_path: Path) -> Deploy:
    def make(**settings: object) -> Deployment:
        return Deployment(kafka.bootstrap, f"worker-{next(numbers)}-{tmp_path.name}", tmp_path, **settings).create()  # type: ignore[arg-type]

    return make


def rated(deployment: Deployment, expected: int) -> list[dict[str, object]]:
    """The committed rated calls of every partition; waits for as many as are expected, and a moment for too many."""
    return asyncio.run(read(deployment, "rated-cdrs", expected))


async def read(deployment: Deployment, topic: str, expected: int) -> list[dict[str, object]]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=deployment.bootstrap, isolation_level="read_committed", enable_auto_commit=False
    )
    await consumer.start()
    try:
        places = [TopicPartition(deployment.prefix + topic, number) for number in range(deployment.partitions)]
        consumer.assign(places)
        await consumer.seek_to_beginning()
        found: list[dict[str, object]] = []
        quiet = 0
        while quiet < (2 if len(found) >= expected else 60):
            batch = await consumer.getmany(timeout_ms=500)
            found += [json.loads(record.value) for records in batch.values() for record in records]
            quiet = 0 if batch else quiet + 1
        return found
    finally:
        await consumer.stop()


def counted(worker: Worker, what: str, count: int) -> None:
    worker.wait(lambda status: status["counts"][what] >= count, f"{count} {what}")


def test_a_worker_rates_what_comes_and_stops_when_told(deploy: Deploy):
    deployment = deploy(forked=False)
    worker = deployment.worker()
    with ending(worker):
        worker.wait_running(2)
        deployment.feed("account-commands", ACCOUNT)
        counted(worker, "commands", 3)
        deployment.feed("cdrs", [call("r-1"), call("r-2"), call("r-1"), b"{", call("r-3", "nobody")])
        counted(worker, "rated", 2)
        counted(worker, "rejected", 2)
        assert worker.stop() == 0
    lines = rated(deployment, 2)
    assert [line["record_id"] for line in lines] == ["r-1", "r-2"]
    assert [line["account_version"] for line in lines] == [4, 5]
    assert "Traceback" not in worker.log()


def test_a_worker_that_was_killed_goes_on_where_the_log_stands(deploy: Deploy):
    deployment = deploy()
    first = deployment.worker()
    with ending(first):
        first.wait_running(2)
        deployment.feed("account-commands", ACCOUNT)
        deployment.feed("cdrs", [call(f"r-{n}") for n in range(50)])
        counted(first, "rated", 50)
        first.kill()
    second = deployment.worker()
    with ending(second):
        deployment.feed("cdrs", [call(f"r-{n}") for n in range(25, 75)])
        counted(second, "rated", 25)
        counted(second, "duplicates", 25)
        assert second.stop() == 0
    assert [line["record_id"] for line in rated(deployment, 75)] == [f"r-{n}" for n in range(75)]


def test_a_state_folder_that_is_lost_costs_nothing_but_time(deploy: Deploy):
    deployment = deploy(forked=False)
    with ending(first := deployment.worker(number=1)):
        first.wait_running(2)
        deployment.feed("account-commands", ACCOUNT)
        deployment.feed("cdrs", [call("r-1")])
        counted(first, "rated", 1)
        assert first.stop() == 0
    with ending(second := deployment.worker(number=2)):
        deployment.feed("cdrs", [call("r-1"), call("r-2")])
        counted(second, "rated", 1)
        counted(second, "duplicates", 1)
    assert [line["account_version"] for line in rated(deployment, 2)] == [4, 5]


def test_two_workers_share_the_partitions_and_each_call_is_rated_once(deploy: Deploy, tmp_path: Path):
    shape = Shape(tenants=40, calls=4_000)
    deployment = deploy(partitions=4, rates=write_deck(tmp_path / "deck", shape))
    first, second = deployment.worker(1), deployment.worker(2)
    with ending(first, second):
        first.wait_running(2)
        second.wait_running(2)
        lines = [line.rstrip(b"\n") for line in calls(shape)]
        deployment.feed("account-commands", [line.rstrip(b"\n") for line in commands(shape)])
        deployment.feed("cdrs", lines[:2_000])
        counted(first, "rated", 100)
        assert first.stop() == 0
        second.wait_running(4)
        third = deployment.worker(3)
        with ending(third):
            deployment.feed("cdrs", lines[2_000:])
            third.wait_running(2)
            found = rated(deployment, 3_900)
            assert third.stop() == 0
        assert second.stop() == 0
    assert checked(["--bootstrap", deployment.bootstrap, "--rates", str(deployment.rates), "--app-id", deployment.name,
                    "--topic-prefix", deployment.prefix]) == 0  # fmt: skip
    ids = [(line["tenant"], line["record_id"]) for line in found]
    assert len(ids) == len(set(ids))
    versions: dict[object, int] = {}
    for line in found:
        assert line["account_version"] > versions.get(line["tenant"], 0)  # type: ignore[operator]
        versions[line["tenant"]] = line["account_version"]  # type: ignore[assignment]


def test_a_deck_comes_into_force_by_the_log_and_a_worker_without_it_says_so(deploy: Deploy, tmp_path: Path):
    shape = Shape(tenants=1, prefixes=6_000, calls=1)
    deployment = deploy(rates=write_deck(tmp_path / "deck", shape), partitions=1)
    worker = deployment.worker()
    with ending(worker):
        worker.wait_running(1)
        deployment.feed("account-commands", ACCOUNT)
        deployment.feed("cdrs", [call("r-1")])
        counted(worker, "rated", 1)
        unknown = {"command_id": "d", "type": "deck.activated", "at": "2026-12-01T00:00:00Z", "decks": ["f" * 16]}
        deployment.feed("account-commands", [json.dumps(unknown).encode()])
        stopped = worker.wait(lambda status: status["partitions"]["0"]["phase"] == "stopped", "a stopped partition")
        assert "activated deck " + "f" * 16 in stopped["partitions"]["0"]["why"]
        assert not stopped["ready"]


def test_a_new_deck_rates_from_its_activation_on_and_survives_a_restart(deploy: Deploy, tmp_path: Path):
    """The folder changes first, and nothing changes; the log activates, and everything after it has the new price."""
    rates = write_deck(tmp_path / "deck", Shape(tenants=1))
    deployment = deploy(rates=rates, partitions=1)
    worker = deployment.worker()
    with ending(worker):
        worker.wait_running(1)
        deployment.feed("account-commands", ACCOUNT)
        deployment.feed("cdrs", [call("r-1")])
        counted(worker, "rated", 1)
        outbound = rates / "outbound.csv"
        outbound.write_text(outbound.read_text("utf-8") + "999999,Nowhere,,,0.5,,,,,,\n", "utf-8")
        deployment.feed("cdrs", [call("r-2")])
        counted(worker, "rated", 2)
        activated = subprocess.run(
            [sys.executable, "-m", "rater", "deck", "activate", str(rates), "--bootstrap", deployment.bootstrap,
             "--topic-prefix", deployment.prefix, "--json"],
            capture_output=True, check=False, cwd=ROOT, env=deployment.environment({}),
        )  # fmt: skip
        assert activated.returncode == 0, activated.stderr.decode()
        counted(worker, "commands", 4)
        deployment.feed("cdrs", [call("r-3")])
        counted(worker, "rated", 3)
        worker.kill()
    with ending(worker := deployment.worker()):
        deployment.feed("cdrs", [call("r-4")])
        counted(worker, "rated", 1)
    versions = [line["deck_version"] for line in rated(deployment, 4)]
    assert versions[0] == versions[1] != versions[2] == versions[3]
    assert json.loads(activated.stdout)["command"]["decks"] == [versions[2]]


def test_group_offsets_that_were_moved_stop_the_partition_and_say_how_to_set_them_back(deploy: Deploy):
    from aiokafka.structs import OffsetAndMetadata

    deployment = deploy()
    with ending(worker := deployment.worker()):
        worker.wait_running(2)
        deployment.feed("account-commands", ACCOUNT)
        deployment.feed("cdrs", [call("r-1"), call("r-2")])
        counted(worker, "rated", 2)
        assert worker.stop() == 0
    moved = next(n for n in range(2) if n == home(deployment))

    async def move(offset: int) -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=deployment.bootstrap,
            group_id=deployment.name,
            enable_auto_commit=False,  # or it sets the offset back when it stops
        )
        await consumer.start()
        place = TopicPartition(deployment.prefix + "cdrs", moved)
        consumer.assign([place])
        await consumer.commit({place: OffsetAndMetadata(offset, "")})
        await consumer.stop()

    asyncio.run(move(1))
    with ending(worker := deployment.worker()):
        status = worker.wait(lambda status: running(status) == 1 and stopped_why(status), "one partition stopped")
        assert "1 behind: rating on would charge calls twice" in stopped_why(status)
        assert f"--topic {deployment.prefix}cdrs:{moved} --to-offset 2" in stopped_why(status)
        assert worker.stop() == 0
    asyncio.run(move(2))
    with ending(worker := deployment.worker()):
        worker.wait_running(2)
    assert len(rated(deployment, 2)) == 2


def stopped_why(status: dict[str, dict[str, dict[str, str]]]) -> str:
    return " ".join(part["why"] for part in status["partitions"].values() if part["phase"] == "stopped")


def home(deployment: Deployment) -> int:
    from tests.kafka.checker_model import home_of

    return home_of("acme", deployment.partitions)


def test_without_topics_a_worker_says_which_command_makes_them(kafka: KafkaCluster, tmp_path: Path):
    deployment = Deployment(kafka.bootstrap, "never-made", tmp_path, forked=False)
    worker = deployment.worker()
    with ending(worker):
        assert worker.ended() == 2
    assert "rater topics create" in worker.log()
    assert "Traceback" not in worker.log()


def test_a_zombie_wakes_up_fenced_and_ends(deploy: Deploy):
    """SIGSTOP for longer than the session: another worker takes over; whatever the first still tries is void."""
    deployment = deploy(partitions=1)
    first = deployment.worker(1)
    with ending(first):
        first.wait_running(1)
        deployment.feed("account-commands", ACCOUNT)
        deployment.feed("cdrs", [call(f"r-{n}") for n in range(20)])
        counted(first, "rated", 20)
        first.pause()
        second = deployment.worker(2)
        with ending(second):
            deployment.feed("cdrs", [call(f"r-{n}") for n in range(20, 40)])
            counted(second, "rated", 20)
            first.resume()
            deployment.feed("cdrs", [call(f"r-{n}") for n in range(40, 60)])
            found = rated(deployment, 60)
    assert [line["record_id"] for line in found] == [f"r-{n}" for n in range(60)]
    assert [line["account_version"] for line in found] == list(range(4, 64))
