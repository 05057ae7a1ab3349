"""From the append of a call to the funds in the wallet, and to the mail in the box: the whole loop, every process the real command.

Each tenant makes one call that takes it below its trigger. The clock starts before the call is sent; the funds are there when a
consumer that reads committed records has `rater.recharge.succeeded`; the mail is there when an SMTP server on loopback has all of
it. One topic's delay is another's start, so the figure holds two transactions of the worker, the agents' reading, and the provider.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from benchmarks.kafka_scene import broker_name
from benchmarks.report import Goal, Line, figure
from rater.doors.clock import wall_ms
from rater.doors.kafka.partitioning import partition_of
from tests.kafka.broker import KafkaCluster
from tests.kafka.workers import Deployment
from tests.service.bank import Bank
from tests.service.loop_scene import PARTITIONS, call, ledger, loop, make_topics, opening
from tests.service.mailbox import Mailbox

P99 = Goal(2_000)
QUIET_S = 60.0
OWN = {"RATER_COMMIT_INTERVAL_MS": "100"}  # the default; tests are in more of a hurry


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many tenants make their call, and how many a second."""

    tenants: int = 120
    per_s: float = 5.0
    warm: int = 10  # not counted: the first ones meet connections that are not open yet


QUICK = Sizes(tenants=40)


class TimedMailbox(Mailbox):
    """Notes when each recipient's first mail was there whole."""

    def __init__(self) -> None:
        super().__init__()
        self.came: dict[str, float] = {}

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        for address in envelope.rcpt_tos:
            self.came.setdefault(address, time.perf_counter())
        return await super().handle_DATA(server, session, envelope)


@dataclass
class Delays:
    """Seconds of `perf_counter`, by tenant."""

    sent: dict[str, float] = field(default_factory=dict)
    funded: dict[str, float] = field(default_factory=dict)


def run(sizes: Sizes) -> Iterator[Line]:
    with tempfile.TemporaryDirectory() as folder, KafkaCluster(for_long=True) as cluster:
        for provider in ("ledger", "http"):
            yield from measure(cluster, Path(folder) / provider, provider, sizes)


def measure(cluster: KafkaCluster, folder: Path, provider: str, sizes: Sizes) -> Iterator[Line]:
    folder.mkdir()
    deployed = Deployment(cluster.bootstrap, f"loop-{provider}-{wall_ms()}", folder, PARTITIONS, settings=OWN)
    make_topics(deployed)
    tenants = [f"tenant-{number}" for number in range(sizes.warm + sizes.tenants)]
    with ExitStack() as stack:
        box = TimedMailbox()
        stack.enter_context(box)
        told = stack.enter_context(Bank().open()) if provider == "http" else ledger(folder)
        stack.enter_context(loop(deployed, box, told))
        deployed.feed(
            "account-commands", [line for name in tenants for line in opening(name, [{"email": _address(name)}])]
        )
        delays = asyncio.run(_calls(deployed, tenants, sizes.per_s))
        box.wait_for(len(tenants), QUIET_S)
    counted = tenants[sizes.warm :]
    more = {"provider": provider, "tenants": len(counted), "calls_per_s": sizes.per_s, "broker": broker_name()}
    yield from _figures("call to funds", [delays.funded[name] - delays.sent[name] for name in counted], more)
    yield from _figures("call to mail", [box.came[_address(name)] - delays.sent[name] for name in counted], more)


def _figures(name: str, seconds: list[float], more: dict[str, Any]) -> Iterator[Line]:
    p50, p99 = np.percentile(np.array(seconds) * 1000, [50, 99])
    yield figure("loop", f"{name}, p50", p50, "ms", **more)
    yield figure("loop", f"{name}, p99", p99, "ms", P99, **more)


def _address(tenant: str) -> str:
    return f"finance@{tenant}.example"


async def _calls(deployed: Deployment, tenants: list[str], per_s: float) -> Delays:
    """One call of each, at a steady pace, until the funds of all have come."""
    delays = Delays()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=deployed.bootstrap,
        isolation_level="read_committed",
        enable_auto_commit=False,
        fetch_max_wait_ms=50,
    )
    producer = AIOKafkaProducer(bootstrap_servers=deployed.bootstrap, acks="all")
    await consumer.start()
    await producer.start()
    try:
        consumer.assign([TopicPartition(f"{deployed.prefix}account-events", n) for n in range(deployed.partitions)])
        await consumer.seek_to_beginning()
        async with asyncio.timeout(QUIET_S + len(tenants) / per_s):
            opened = asyncio.Event()
            listening = asyncio.create_task(_listen(consumer, len(tenants), opened, delays))
            await opened.wait()
            for tenant in tenants:
                place = partition_of(tenant.encode(), deployed.partitions)
                delays.sent[tenant] = time.perf_counter()
                await producer.send_and_wait(
                    f"{deployed.prefix}cdrs", call(tenant, 1, 2), key=tenant.encode(), partition=place
                )
                await asyncio.sleep(1 / per_s)
            await listening
    finally:
        await producer.stop()
        await consumer.stop()
    return delays


async def _listen(consumer: Any, count: int, opened: asyncio.Event, delays: Delays) -> None:
    """Notes each tenant's funds; `opened` once every account is there."""
    accounts = 0
    async for record in consumer:
        event = orjson.loads(record.value)
        accounts += event["type"] == "rater.contacts.set"
        if accounts == count:
            opened.set()
        if event["type"] == "rater.recharge.succeeded":
            delays.funded[event["subject"]] = time.perf_counter()
            if len(delays.funded) == count:
                return
