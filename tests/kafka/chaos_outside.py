"""Chaos against a cluster that is already there: what may be done to it, and that nothing of ours stays behind.

Brokers that belong to somebody are not killed, stopped or put behind a proxy. What is left strikes our own workers, group,
transactional ids and snapshots, in topics of our own whose names begin with `chaos-`.
"""

import contextlib
import random
import time
from dataclasses import dataclass
from typing import Any

from tests.kafka import chaos_faults as faults
from tests.kafka.chaos_faults import Fault
from tests.kafka.checker_model import TOPICS
from tests.kafka.workers import Deployment

LEFT_OUT = (
    "a cluster that is already there: brokers are neither killed nor stopped, and no proxy stands before them, so faults on "
    "brokers and on requests on their way are left out"
)
SESSION_MS = 6_000  # the shortest that a broker allows unless it is told otherwise
REPLICAS_MAX = 3
OF_WORKERS: tuple[Fault, ...] = (faults.kills_at_some,) * 2 + (faults.random_kills,) * 3 + (
    faults.zombie, faults.zombie_at_some, faults.zombie_at_some, faults.rebalance_storm, faults.hijack, faults.some_snapshot,
    faults.some_offsets,
)  # fmt: skip


class NoCluster(Exception):
    """Nobody answers, or not with what is needed; the text says what to look at."""


@dataclass(frozen=True, slots=True)
class Outside:
    """Somebody's cluster. `nodes`: as many replicas as our topics get there."""

    bootstrap: str
    nodes: int

    def forget(self, deployment: Deployment) -> None:
        """Delete a round's topics and its group. What cannot be deleted stays, and can be recognised by its name."""
        admin = admin_of(self.bootstrap)
        names = [deployment.prefix + topic for topic in TOPICS]
        for asked in (
            admin.delete_topics(names, operation_timeout=30.0),
            admin.delete_consumer_groups([deployment.name]),
        ):
            for future in asked.values():
                with contextlib.suppress(Exception):
                    future.result(30.0)


def admin_of(bootstrap: str) -> Any:
    from confluent_kafka.admin import AdminClient

    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})


def outside(bootstrap: str, patience_s: float = 15.0) -> Outside:
    """Ask who is there. Raises `NoCluster`."""
    import confluent_kafka

    try:
        brokers = admin_of(bootstrap).list_topics(timeout=patience_s).brokers
    except confluent_kafka.KafkaException as problem:
        raise NoCluster(
            f"--bootstrap {bootstrap}: no broker answered within {patience_s:.0f} s ({problem.args[0].str()}); expected "
            "host:port,... of a cluster that speaks plain text to this machine"
        ) from problem
    return Outside(bootstrap, min(len(brokers), REPLICAS_MAX))


def plan_of_workers(rng: random.Random, count: int = 7) -> tuple[list[Fault], dict[str, Any]]:
    """Faults on what is ours, in the mix of rounds on brokers of our own."""
    shape: dict[str, Any] = {"static": rng.random() < 0.6, "workers": rng.choice((2, 3, 3)), "partitions": rng.choice((3, 4)),
                             "version": None, "settings": settings()}  # fmt: skip
    plan = [rng.choice(OF_WORKERS) for _ in range(count - 3)]
    if shape["static"]:
        plan += [faults.twin_instance, faults.rolling_restart]
    plan += [faults.kill_storm] * 3
    rng.shuffle(plan)
    return plan, shape


def settings() -> dict[str, str]:
    """Of the workers: a session that any broker allows; whoever names a cluster here trusts the network to it."""
    return {"RATER_SESSION_TIMEOUT_MS": str(SESSION_MS), "RATER_ALLOW_PLAINTEXT": "true"}


def name_of(seed: int) -> str:
    return f"chaos-{seed}-{int(time.time() * 1000) % 1_000_000_000}"
