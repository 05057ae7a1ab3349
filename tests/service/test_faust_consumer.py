"""Why the agents have a log of their own: what Faust's consumer does on a real Apache Kafka.

These hold the measurement that docs/recharge.md reports. If one fails with a newer Faust, that reason is gone: read the page again.
"""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.kafka.broker import KafkaCluster
from tests.kafka.workers import PATIENCE_S, ROOT, Deployment, TooLate
from tests.service.processes import committed, deployment, write


@pytest.fixture
def deployed(kafka: KafkaCluster, tmp_path: Path) -> Deployment:
    return deployment(kafka, tmp_path, partitions=1)


def test_faust_delivers_aborted_records_and_passes_over_one_that_was_never_acknowledged(deployed: Deployment):
    write(
        deployed,
        "account-events",
        (True, [("a", b"one")]),
        (False, [("a", b"aborted")]),
        (True, [("a", b"held"), ("a", b"last")]),
    )
    group, topic = f"faust-{deployed.name}", f"{deployed.prefix}account-events"
    log = deployed.folder / "faust.log"
    with log.open("wb") as out:
        reader = subprocess.Popen(
            [sys.executable, "-m", "tests.service.faust_reader", deployed.bootstrap, topic, group, str(deployed.folder / "faust")],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        give_up = time.monotonic() + PATIENCE_S
        while committed(deployed, group, "account-events")[0] != 6:  # offsets 0, 2, 4, 5; the markers are 1, 3, 6
            if time.monotonic() > give_up:
                raise TooLate(log.read_text())
            time.sleep(0.2)
    finally:
        reader.kill()
        reader.wait()
    got = [line.removeprefix("got ") for line in log.read_text().splitlines() if line.startswith("got ")]
    assert got == ["one", "aborted", "held", "last"]
