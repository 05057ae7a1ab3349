"""`rater history sink` as a process on a real Apache Kafka, fed by a real worker: stopped, killed, two at once."""

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from rater.doors.failpoints import HISTORY_FAILPOINTS
from rater.doors.history.opening import open_history
from rater.doors.history.store import EVENTS, KAFKA, RATED, HistoryProblem, Store
from tests.kafka.broker import KafkaCluster
from tests.kafka.test_worker import ACCOUNT, call, read
from tests.kafka.workers import PATIENCE_S, ROOT, Deployment, Process, started

numbers = itertools.count()
TENANTS = [f"acme-{k}" for k in range(6)]
CALLS = 60 * len(TENANTS)


@dataclass(frozen=True)
class Rated:
    """Topics whose worker has rated everything, and what stands in them."""

    deployment: Deployment
    calls: list[tuple[str, str, int]]
    events: list[dict[str, Any]]


@pytest.fixture(scope="module")
def rated(kafka: KafkaCluster, tmp_path_factory: pytest.TempPathFactory) -> Rated:
    folder = tmp_path_factory.mktemp("history-sink")
    deployment = Deployment(kafka.bootstrap, f"sink-{os.getpid()}-{next(numbers)}", folder).create()
    deployment.feed("account-commands", [one.replace(b'"acme"', f'"{t}"'.encode()) for t in TENANTS for one in ACCOUNT])
    worker = deployment.worker()
    try:
        worker.wait_running(deployment.partitions)
        for start in range(0, 60, 20):  # several batches, and so several transactions
            deployment.feed("cdrs", [call(f"r{k}", tenant) for tenant in TENANTS for k in range(start, start + 20)])
        status = worker.wait(lambda status: status["counts"]["rated"] >= CALLS, f"{CALLS} rated")
        assert worker.stop() == 0
    finally:
        worker.kill()
    calls = [(row["tenant"], row["record_id"], row["charge_micros"]) for row in told(deployment, RATED, CALLS)]
    return Rated(deployment, sorted(calls), told(deployment, EVENTS, status["counts"]["events"]))


@contextmanager
def sink(deployment: Deployment, target: str, failpoint: str = "", forked: bool = True) -> Iterator[Process]:
    extra = {"RATER_FAILPOINT": failpoint} if failpoint else {}
    environment = deployment.environment({"RATER_HISTORY_STORE": target, **extra})
    log = deployment.folder / f"sink-{next(numbers)}.log"
    process = started(("rater", "history", "sink"), environment, log, forked)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        sys.stdout.write(log.read_text("utf-8", "replace"))


def told(deployment: Deployment, topic: str, count: int) -> list[dict[str, Any]]:
    return asyncio.run(read(deployment, topic, count))


def calls_kept(target: str) -> list[tuple[str, str, int]]:
    store = open_history(target)
    try:
        with store.reading() as ask:
            return sorted(ask("select tenant, record_id, charge_micros from calls", ()))
    finally:
        store.close()


def until(process: Process, what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the sink ended with {process.returncode}"
        try:
            if what():
                return
        except HistoryProblem:
            pass  # not begun yet
        time.sleep(0.1)
    raise AssertionError("the sink did not come so far")


@pytest.mark.parametrize("failpoint", ["", *HISTORY_FAILPOINTS])
def test_killed_at_any_step_the_next_sink_ends_with_every_record_once(rated: Rated, target: str, failpoint: str):
    """Undisturbed it is the very command, from nothing."""
    if failpoint:
        at = f"{failpoint}:2" if failpoint == "before-history-commit" else failpoint
        with sink(rated.deployment, target, at) as process:
            assert process.wait(PATIENCE_S) == -signal.SIGKILL
    with sink(rated.deployment, target, forked=bool(failpoint)) as process:
        until(process, lambda: len(calls_kept(target)) >= len(rated.calls))
        time.sleep(0.5)  # for what would come too much; the assertion is on what is there
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    assert calls_kept(target) == rated.calls
    check_events_and_places(rated, open_history(target))


def check_events_and_places(rated: Rated, store: Store) -> None:
    try:
        with store.reading() as ask:
            kept = sorted(body for (body,) in ask("select body from events", ()))
        assert [orjson.loads(body) for body in kept] == [orjson.loads(one) for one in sorted(map(text, rated.events))]
        positions = store.positions(store.feed(KAFKA, rated.deployment.prefix))
        assert {place.number for place in positions if place.topic == RATED} == set(range(rated.deployment.partitions))
    finally:
        store.close()


def text(event: dict[str, Any]) -> str:
    return orjson.dumps(event).decode()


def test_a_topic_that_is_not_there_is_told_with_what_makes_it(kafka: KafkaCluster, tmp_path: Path):
    deployment = Deployment(kafka.bootstrap, "nothing-here", tmp_path)
    environment = deployment.environment({"RATER_HISTORY_STORE": str(tmp_path / "h.db")})
    ended = subprocess.run(
        [sys.executable, "-m", "rater", "history", "sink"], env=environment, cwd=ROOT, capture_output=True, timeout=PATIENCE_S,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert b"topics nothing-here.rated-cdrs, nothing-here.account-events are not there" in ended.stderr
