"""The dashboard, held against its table, and each of its queries against a real Prometheus that scrapes a real worker.

The worker is `rater worker` on a real Apache Kafka under load. The panels of the agents are asked of a stand-in: a page with the
metrics as `rater/doors/metrics.py` declares them, a few of them counted up; it shows that names and labels fit, and nothing about the agents.
"""

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from wsgiref.simple_server import WSGIServer

import pytest
from prometheus_client import start_http_server

from benchmarks.workload import Shape, calls, commands, write_deck
from rater.doors.metrics import MediationMetrics, NotificationMetrics, RechargeMetrics, new_registry
from rater.doors.metrics_api import ApiMetrics
from scripts.generate_dashboard import FILE, ROWS, dashboard, text
from tests.kafka.broker import KafkaCluster, free_ports
from tests.kafka.workers import Deployment, Worker, ending
from tests.ops.prometheus import Prometheus

PANELS = [panel for panel in dashboard()["panels"] if panel["type"] != "row"]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
# What a worker under this load does, whatever else it does.
ABOVE_ZERO = {"Partitions rated", "Calls rated", "Rejected", "Broker to commit", "Broker to commit, p99", "Charged",
              "Where a batch's time goes", "Commit", "Records in a batch", "Batches", "Bytes", "Restores", "Phase", "Decks in force", "Ids kept",
              "Memory of ids and state", "Age of the decks", }  # fmt: skip


def test_the_file_is_what_the_table_says():
    assert FILE.read_text("utf-8") == text(), "run python -m scripts.generate_dashboard"


def test_panels_have_numbers_of_their_own_a_word_of_help_and_do_not_overlap():
    assert len({panel["id"] for panel in dashboard()["panels"]}) == len(dashboard()["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        cells = set(
            itertools.product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"]))
        )
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        assert panel["description"].endswith(".")
        taken |= cells


# ---------------------------------------------------------------------------------------------- with everything real


def stand_in(over: threading.Event) -> tuple[WSGIServer, int]:
    """The agents' metrics, and something counted in each; the API is asked five times a second until it is over."""
    registry = new_registry()
    recharge, notification, mediation = (
        RechargeMetrics(registry),
        NotificationMetrics(registry),
        MediationMetrics(registry),
    )
    api = ApiMetrics(registry)
    api.requests.labels("/v1/authorize", "2xx").inc(5)
    api.authorizations.labels("allowed").inc(4)
    api.authorizations.labels("late").inc()
    api.following.set(1)
    mediation.read.labels("raw-sw1").inc(9)
    mediation.calls.labels("raw-sw1").inc(8)
    mediation.rejected.labels("raw-sw1", "bad_times").inc()
    mediation.waiting.labels("raw-sw1").set(1)
    recharge.refusals.labels("daily_limit").inc()
    recharge.outcomes.labels("approved").inc(3)
    notification.sent.labels("email", "single").inc()
    notification.undelivered.labels("email", "refused").inc()
    notification.failed.labels("email", "later").inc()
    asked = api.seconds.labels("/v1/authorize")

    def ask() -> None:
        while not over.wait(0.2):
            asked.observe(0.01)

    threading.Thread(target=ask, daemon=True).start()
    server, _ = start_http_server(free_ports(1)[0], "127.0.0.1", registry)
    return server, int(server.server_port)


class Load:
    """Calls and commands until told to stop: charged and free ones, duplicates, rejected ones, a tenant unknown."""

    def __init__(self, deployment: Deployment, shape: Shape) -> None:
        self._deployment = deployment
        self._lines = [line.rstrip(b"\n") for line in calls(shape)]
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        deployment.feed("account-commands", [line.rstrip(b"\n") for line in commands(shape)] + [b'{"type":"nothing"}'])

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        """The same calls again and again, each round under ids of its own; some of them twice."""
        for turn in itertools.count():
            for start in range(0, len(self._lines), 200):
                if self._stopped.wait(0.2):
                    return
                some = [
                    line.replace(b'"record_id":"', b'"record_id":"%d-' % turn)
                    for line in self._lines[start : start + 200]
                ]
                self._deployment.feed("cdrs", [*some, *some[:5], b"{", b'{"tenant":"nobody"}'])


@pytest.fixture(scope="module")
def kafka_here(broker_possible: None) -> Iterator[KafkaCluster]:
    with KafkaCluster() as cluster:
        yield cluster


def as_grafana_asks(expression: str) -> str:
    return expression.replace("$__rate_interval", "10s").replace("$instance", ".*")


@pytest.mark.kafka
@pytest.mark.slow
def test_every_panel_has_data_from_a_worker_under_load(kafka_here: KafkaCluster, tmp_path: Path):
    shape = Shape(tenants=40, calls=4_000)
    rates = write_deck(tmp_path / "deck", shape)
    deployment = Deployment(kafka_here.bootstrap, "dashboard", tmp_path, partitions=4, rates=rates).create()
    over = threading.Event()
    agents, agents_port = stand_in(over)
    first = deployment.worker(1)
    second: Worker | None = None
    try:
        first.wait_running(4)
        jobs = {"rater-worker": [f"127.0.0.1:{first.port}"], "rater-agents": [f"127.0.0.1:{agents_port}"]}
        with Prometheus(tmp_path, jobs) as server, Load(deployment, shape):
            since_s = time.time()
            server.wait(lambda: server.targets() == {"rater-worker": "up", "rater-agents": "up"}, "both to be scraped")
            first.wait(lambda status: status["counts"]["rated"] > 500, "rated calls")
            second = deployment.worker(2)  # takes two partitions and gives them back: the first restores them
            second.wait_running(2)
            assert second.stop() == 0
            first.wait_running(4)
            for title, expression in QUERIES:
                asked, above = as_grafana_asks(expression), title in ABOVE_ZERO
                # the first scrapes may all have been of a worker that restored
                server.wait(
                    lambda asked=asked, above=above: drawn(server.samples(asked, since_s), above),
                    f"data for {title}: {asked}",
                )
            judged_the_rules(server)
    finally:
        with ending(*filter(None, (first, second))):
            over.set()
            agents.shutdown()


def drawn(samples: list[float], above_zero: bool) -> bool:
    """Whether a panel would draw something, above its ground where that is asked for. NaN is a hole."""
    numbers = [sample for sample in samples if sample == sample]
    return any(number > 0 for number in numbers) if above_zero else bool(numbers)


def judged_the_rules(server: Prometheus) -> None:
    server.wait(lambda: set(server.rules().values()) == {"ok"}, "every rule to be evaluated")


def test_the_table_and_the_queries_can_be_told_apart():
    assert sum(len(panels) for panels in ROWS.values()) == len(PANELS)
    assert {panel["title"] for panel in PANELS} >= ABOVE_ZERO
    of_agents = ("rater_recharge", "rater_notification", "rater_mediation", "rater_api")
    assert all("$instance" in query or any(name in query for name in of_agents) for _, query in QUERIES)
