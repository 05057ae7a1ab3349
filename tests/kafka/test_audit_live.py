"""`rater audit --bootstrap` on a real Apache Kafka, beside a worker that goes on rating: it agrees, and finds what was forged."""

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import confluent_kafka
import pytest

from benchmarks.workload import Shape, calls, commands, write_deck
from rater.doors.kafka.topics import Wanted, create_topics
from tests.doors.front import front
from tests.faults.processes import Ended
from tests.kafka.broker import KafkaCluster
from tests.kafka.checker_io import BrokerSource, read_topics
from tests.kafka.checker_model import CDRS, COMMANDS, INPUTS, JOURNAL, RATED, TOPICS, Record, home_of
from tests.kafka.workers import Deployment, Worker, connection, ending, tenant_of

PARTITIONS = 2
SHAPE = Shape(tenants=30, prefixes=300, calls=200_000)  # more calls than any of these tests takes


class Feed(threading.Thread):
    """Calls at an even pace until the test has seen enough."""

    def __init__(self, deployment: Deployment) -> None:
        super().__init__(name="feed", daemon=True)
        self._deployment, self._enough = deployment, threading.Event()
        self.start()

    def run(self) -> None:
        producer = confluent_kafka.Producer(
            {"bootstrap.servers": self._deployment.bootstrap, "enable.idempotence": True}
        )
        for number, line in enumerate(calls(SHAPE)):
            raw = line.rstrip(b"\n")
            tenant = tenant_of(raw)
            home = home_of(tenant, PARTITIONS) if tenant else 0
            producer.produce(self._deployment.prefix + CDRS, raw, tenant.encode() if tenant else None, home)
            if number % 25 == 0:
                producer.flush(30.0)
                if self._enough.wait(0.05):
                    return

    def end(self) -> None:
        self._enough.set()
        self.join(60.0)


@dataclass
class Live:
    """A worker that rates while somebody sends."""

    deployment: Deployment
    worker: Worker
    feed: Feed

    def batches(self) -> int:
        """Journal lines and markers so far, of all partitions."""
        asker = confluent_kafka.Consumer({"bootstrap.servers": self.deployment.bootstrap, "group.id": "asks-for-ends"})
        places = [confluent_kafka.TopicPartition(self.deployment.prefix + JOURNAL, p) for p in range(PARTITIONS)]
        try:
            return sum(asker.get_watermark_offsets(place, timeout=30.0, cached=False)[1] for place in places)
        finally:
            asker.close()

    def audit(self) -> Ended:
        return front("audit", "--bootstrap", self.deployment.bootstrap, "--app-id", self.deployment.name, "--topic-prefix",
                     self.deployment.prefix, "--rates", self.deployment.rates, "--json")  # fmt: skip


@pytest.fixture(scope="module")
def live(kafka: KafkaCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("audit-live")
    rates = write_deck(folder / "deck", SHAPE)
    deployment = Deployment(kafka.bootstrap, folder.name, folder, PARTITIONS, rates=rates).create()
    worker = deployment.worker()
    with ending(worker):
        deployment.feed(COMMANDS, [line.rstrip(b"\n") for line in commands(SHAPE)])
        feed = Feed(deployment)
        try:
            worker.wait(lambda status: status["counts"]["rated"] >= 500, "500 rated calls")
            yield Live(deployment, worker, feed)
        finally:
            feed.end()


def object_of(ended: Ended, status: int) -> dict[str, Any]:
    assert ended.status == status, ended.stderr.decode()
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def test_an_audit_agrees_while_the_worker_commits_batch_after_batch(live: Live):
    before = live.batches()
    told = object_of(live.audit(), 0)
    assert live.batches() > before, "nothing was rated during the audit"
    assert [one["ok"] for one in told["partitions"]] == [True, True]
    assert all(one["group_checked"] and one["batches"] > 1 and one["rated"] > 0 for one in told["partitions"])


def test_a_call_slipped_in_among_the_rated_ones_is_found_beside_the_live_worker(live: Live):
    """Another program writes a rated call of its own: a real line with another charge."""
    forged_at: list[tuple[int, int]] = []
    partition = 1
    line = rated_lines(live.deployment)[partition][0]
    forged = (line.value or b"").replace(b'"charge_micros":', b'"charge_micros":1', 1)
    forger = confluent_kafka.Producer({"bootstrap.servers": live.deployment.bootstrap})
    forger.produce(live.deployment.prefix + RATED, forged, line.key, partition,
                   on_delivery=lambda _, sent: forged_at.append((sent.partition(), sent.offset())))  # fmt: skip
    forger.flush(30.0)
    (place,) = forged_at
    before = live.batches()
    told = object_of(live.audit(), 1)
    assert live.batches() > before, "nothing was rated during the audit"
    assert [one["ok"] for one in told["partitions"]] == [True, False]
    assert f"{RATED}-{place[0]} offset {place[1]}" in told["partitions"][partition]["difference"]


def rated_lines(deployment: Deployment) -> dict[int, list[Record]]:
    source = BrokerSource(deployment.bootstrap, deployment.name, deployment.prefix)
    try:
        found: dict[int, list[Record]] = {p: [] for p in range(PARTITIONS)}
        for _, record in source.poll((RATED,)):
            found[record.partition].append(record)
        return found
    finally:
        source.close()


# ---------------------------------------------------------------------------------------------- one byte of a copy


def copied(deployment: Deployment, prefix: str, changed: tuple[str, int, int, bytes]) -> int:
    """All topics under another prefix, one value (topic, partition, offset) replaced; the replaced one's new offset.

    A broker's record cannot be changed where it lies. Inputs keep their offsets, which the outputs name.
    """
    asyncio.run(create_topics(connection(deployment.bootstrap), prefix, Wanted(PARTITIONS, 1, None)))
    source = BrokerSource(deployment.bootstrap, deployment.name, deployment.prefix)
    try:
        topics = read_topics(source)
    finally:
        source.close()
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": deployment.bootstrap, "linger.ms": 20, "enable.idempotence": True}
    )
    offsets: dict[tuple[str, int], int] = {}
    found = -1
    for topic in TOPICS:
        for record in sorted(topics[topic], key=lambda record: record[:2]):
            at = offsets.get((topic, record.partition), 0)
            assert topic not in INPUTS or at == record.offset
            here = (topic, record.partition, record.offset) == changed[:3]
            found = at if here else found
            producer.produce(prefix + topic, changed[3] if here else record.value, record.key, record.partition,
                             headers=list(record.headers))  # fmt: skip
            producer.poll(0)
            offsets[topic, record.partition] = at + 1
    assert producer.flush(60.0) == 0
    return found


def test_one_digit_of_a_charge_is_found_in_a_copy_of_the_topics(live: Live):
    live.feed.end()
    assert live.worker.stop() == 0  # what is copied stands still; what was not read any more is no batch's
    partition = 0
    lines = rated_lines(live.deployment)[partition]
    line = next(line for line in lines if json.loads(line.value or b"")["charge_micros"] > 0)
    charge = json.loads(line.value or b"")["charge_micros"]
    digit = b'"charge_micros":%d' % charge
    value = (line.value or b"").replace(digit, b'"charge_micros":%d' % (charge + 1), 1)
    prefix = f"copy-{live.deployment.prefix}"
    offset = copied(live.deployment, prefix, (RATED, partition, line.offset, value))
    told = object_of(
        front("audit", "--bootstrap", live.deployment.bootstrap, "--topic-prefix", prefix, "--rates", live.deployment.rates,
              "--json"), 1,
    )  # fmt: skip
    difference = told["partitions"][partition]["difference"]
    assert f"{RATED}-{partition} offset {offset}" in difference
    assert f"charge_micros is {charge + 1}, the replay gives {charge}" in difference
