"""Agent processes as a test starts, watches, stops and kills them; and records written in transactions, as a worker writes them."""

import asyncio
import itertools
import json
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tests.kafka.broker import KafkaCluster, free_ports
from tests.kafka.checker_model import home_of
from tests.kafka.workers import PATIENCE_S, Deployment, TooLate, Worker, started

numbers = itertools.count()


def deployment(kafka: KafkaCluster, folder: Path, **settings: Any) -> Deployment:
    return Deployment(kafka.bootstrap, f"agent-{next(numbers)}-{folder.name}", folder, **settings).create()


class AgentProcess(Worker):
    """One agent; its pages are read like a worker's."""

    def get(self, path: str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read()

    def status(self) -> dict[str, Any] | None:
        try:
            status, body = self.get("/partitions")
            return json.loads(body) if status == 200 else None
        except (OSError, ValueError):
            return None

    def wait_caught_up(self, partitions: int) -> None:
        self.wait(
            lambda status: sum(held["caught_up"] for held in status["partitions"].values()) == partitions,
            f"{partitions} partitions caught up",
        )


def start_agent(
    deployed: Deployment, module: Sequence[str], agent: str = "recharge", number: int = 0, **extra: str
) -> AgentProcess:
    """Each number has a folder of its own, as machines have."""
    port = free_ports(1)[0]
    state = deployed.folder / f"agent-{number}"
    state.mkdir(parents=True, exist_ok=True)
    environment = deployed.environment(
        {"RATER_STATE_DIR": str(state), f"RATER_{agent.upper()}_WEB_PORT": str(port), **extra}
    )
    log = deployed.folder / f"{agent}-{number}-{port}.log"
    return AgentProcess(started(module, environment, log, deployed.forked), port, log)


def write(deployed: Deployment, topic: str, *transactions: tuple[bool, Sequence[tuple[str, bytes]]]) -> None:
    """(whether it commits, [(tenant, value), ...]) each, in order."""
    asyncio.run(_write(deployed, topic, transactions))


async def _write(
    deployed: Deployment, topic: str, transactions: Sequence[tuple[bool, Sequence[tuple[str, bytes]]]]
) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=deployed.bootstrap, transactional_id=f"test-{deployed.name}-{next(numbers)}"
    )
    await producer.start()
    try:
        for commits, records in transactions:
            await producer.begin_transaction()
            for tenant, value in records:
                place = home_of(tenant, deployed.partitions)
                await producer.send_and_wait(deployed.prefix + topic, value, key=tenant.encode(), partition=place)
            await (producer.commit_transaction() if commits else producer.abort_transaction())
    finally:
        await producer.stop()


def read(deployed: Deployment, topic: str, enough: Callable[[list[Any]], bool], more_s: float = 1.0) -> list[Any]:
    """Every record of a topic, once there are enough; and then for a moment longer, for what should not come."""
    return asyncio.run(_read(deployed, topic, enough, more_s))


async def _read(deployed: Deployment, topic: str, enough: Callable[[list[Any]], bool], more_s: float) -> list[Any]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=deployed.bootstrap, isolation_level="read_committed", enable_auto_commit=False
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(deployed.prefix + topic, number) for number in range(deployed.partitions)])
        await consumer.seek_to_beginning()
        found: list[Any] = []
        give_up = time.monotonic() + PATIENCE_S
        end = None
        while end is None or time.monotonic() < end:
            batch = await consumer.getmany(timeout_ms=200)
            found += [record for records in batch.values() for record in records]
            if end is None and enough(found):
                end = time.monotonic() + more_s
            if time.monotonic() > give_up:
                raise TooLate(f"{topic}: found only {[record.value for record in found]}")
        return found
    finally:
        await consumer.stop()


def committed(deployed: Deployment, group: str, topic: str) -> dict[int, int | None]:
    """The group's offsets, by partition."""
    return asyncio.run(_committed(deployed, group, topic))


async def _committed(deployed: Deployment, group: str, topic: str) -> dict[int, int | None]:
    consumer = AIOKafkaConsumer(bootstrap_servers=deployed.bootstrap, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        places = [TopicPartition(deployed.prefix + topic, number) for number in range(deployed.partitions)]
        consumer.assign(places)
        return {place.partition: await consumer.committed(place) for place in places}
    finally:
        await consumer.stop()
