"""The nursery itself: what ends it, and what its workers' waiters hear."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.kafka.nursery import Nursery, nursery
from tests.kafka.workers import RATES, Deployment


@pytest.fixture
def found() -> Iterator[Nursery]:
    with nursery() as made:
        yield made


@pytest.fixture
def silent_broker() -> Iterator[str]:
    """It takes connections and says nothing, so a worker that asks it waits."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def test_a_signal_to_the_tests_own_group_leaves_the_workers_to_the_test(found: Nursery):
    assert os.getsid(found.pid) == found.pid != os.getsid(0)


def test_whoever_waits_for_a_worker_is_told_that_it_went_with_the_nursery(found: Nursery, silent_broker: str, tmp_path):
    deployment = Deployment(silent_broker, "nursery", tmp_path, rates=RATES)
    worker = found.start(["worker"], deployment.environment({}), tmp_path / "log")
    with pytest.raises(subprocess.TimeoutExpired, match=rf"worker {worker.pid} \([RSD]+\)"):
        worker.wait(0.1)
    os.kill(found.pid, signal.SIGKILL)
    assert worker.wait(30.0) == -signal.SIGKILL
