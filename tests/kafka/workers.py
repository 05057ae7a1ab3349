"""Worker processes as a test starts, watches, stops and kills them; and topics of its own for each test."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from aiokafka import AIOKafkaProducer

from rater.doors.kafka.topics import Wanted, create_topics
from rater.doors.settings.connection import Connection
from tests.kafka.broker import free_ports
from tests.kafka.checker_model import home_of
from tests.kafka.nursery import Forked, shared

ROOT = Path(__file__).resolve().parents[2]
RATES = ROOT / "rates" / "example-usd"
Process: TypeAlias = subprocess.Popen[bytes] | Forked
PATIENCE_S = 120.0  # for what will happen on a busy machine; never a measure of anything


class TooLate(AssertionError):
    """Something that should have come to pass did not."""


def connection(bootstrap: str) -> Connection:
    return Connection(bootstrap_servers=tuple(bootstrap.split(",")))


@dataclass
class Deployment:
    """Topics of one test on a shared broker, and how its workers are told about them."""

    bootstrap: str
    name: str
    folder: Path
    partitions: int = 2
    replicas: int = 1
    rates: Path = RATES
    settings: dict[str, str] = field(default_factory=dict)
    forked: bool = True  # workers come from the nursery; False: each starts as `python -m rater worker`, from nothing

    @property
    def prefix(self) -> str:
        return f"{self.name}."

    def create(self) -> "Deployment":
        asyncio.run(
            create_topics(connection(self.bootstrap), self.prefix, Wanted(self.partitions, self.replicas, None))
        )
        return self

    def environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RATER_")}
        kept |= {name: os.environ[name] for name in ("RATER_CACHE_DIR", "RATER_KAFKA_JARS") if name in os.environ}
        own = {
            "RATER_APP_ID": self.name,
            "RATER_BOOTSTRAP_SERVERS": self.bootstrap,
            "RATER_RATES": str(self.rates),
            "RATER_STATE_DIR": str(self.folder / "state"),
            "RATER_TOPIC_PREFIX": self.prefix,
            "RATER_COMMIT_INTERVAL_MS": "20",
            "RATER_SESSION_TIMEOUT_MS": "3000",  # what a kill costs: the group waits so long for the dead
            "PYTHONPATH": str(ROOT),
        }
        return kept | own | self.settings | dict(extra)

    def worker(self, number: int = 0, **extra: str) -> "Worker":
        """A process; each number has a state folder of its own, as machines have."""
        port = free_ports(1)[0]
        state = self.folder / f"state-{number}"
        state.mkdir(parents=True, exist_ok=True)
        environment = self.environment({"RATER_STATE_DIR": str(state), "RATER_WEB_PORT": str(port), **extra})
        log = self.folder / f"worker-{number}-{port}.log"
        return Worker(started(("rater", "worker"), environment, log, self.forked), port, log)

    def feed(self, topic: str, lines: Iterable[bytes], keyed: bool = True) -> None:
        """Produce records as a switch or billing would; without a tenant to be read, into partition 0."""
        asyncio.run(self._feed(self.prefix + topic, list(lines), keyed))

    async def _feed(self, topic: str, lines: Sequence[bytes], keyed: bool) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, linger_ms=5, acks="all", enable_idempotence=True)
        await producer.start()
        try:
            sent = []
            for line in lines:
                tenant = tenant_of(line)
                partition = home_of(tenant, self.partitions) if tenant else 0
                key = tenant.encode() if tenant and keyed else None
                sent.append(await producer.send(topic, line, key=key, partition=partition))
            await asyncio.gather(*sent)
        finally:
            await producer.stop()


def started(module: Sequence[str], environment: Mapping[str, str], log: Path, forked: bool) -> Process:
    """`python -m module`; `rater` forked from a process that has loaded everything, where that is wanted."""
    if forked and module[0] == "rater":
        return shared().start(module[1:], environment, log)
    with log.open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-m", *module], env=environment, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out,
            stderr=subprocess.STDOUT,
        )  # fmt: skip


def tenant_of(line: bytes) -> str | None:
    try:
        tenant = json.loads(line)["tenant"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return tenant if isinstance(tenant, str) else None


@dataclass
class Worker:
    """One `rater worker` process."""

    process: Process
    port: int
    log_file: Path

    def status(self) -> dict[str, Any] | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/partitions", timeout=5) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except (OSError, ValueError):
            return None

    def wait_running(self, partitions: int) -> None:
        """Until so many partitions are being rated here."""
        self.wait(lambda status: running(status) == partitions, f"{partitions} running partitions")

    def wait(self, fulfilled: Any, what: str, patience_s: float = PATIENCE_S) -> dict[str, Any]:
        deadline = time.monotonic() + patience_s
        status = None
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise TooLate(
                    f"the worker ended with {self.process.returncode}, expected {what}:\n{self.log()[-3000:]}"
                )
            status = self.status()
            if status is not None and fulfilled(status):
                return status
            time.sleep(0.05)
        raise TooLate(f"expected {what}; found {status}\n{self.log()[-3000:]}")

    def log(self) -> str:
        return self.log_file.read_text("utf-8", "replace")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self, patience_s: float = PATIENCE_S) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(patience_s)

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def ended(self, patience_s: float = PATIENCE_S) -> int:
        return self.process.wait(patience_s)


def running(status: Mapping[str, Any]) -> int:
    return sum(partition["phase"] == "running" for partition in status["partitions"].values())


@contextlib.contextmanager
def ending(*workers: Worker) -> Iterator[None]:
    """Whatever happens in the test, no worker outlives it."""
    try:
        yield
    finally:
        for worker in workers:
            if worker.process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    worker.resume()
                worker.kill()
