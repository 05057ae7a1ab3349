"""`rater topics create --raw`: the topics of mediation on demand, with the settings of the others; twice is as good as once."""

import asyncio
from pathlib import Path

from rater.doors.kafka.admin import open_admin
from tests.doors.front import front, refused, told
from tests.kafka.broker import KafkaCluster
from tests.kafka.workers import connection


def create(kafka: KafkaCluster, *raw: str) -> tuple[str | Path, ...]:
    names = [part for name in raw for part in ("--raw", name)]
    return ("topics", "create", "--partitions", "2", "--replication-factor", "1", "--bootstrap", kafka.bootstrap, "--topic-prefix", "med.",
            "--json", *names)  # fmt: skip


def test_raw_topics_are_made_on_demand_with_safe_settings(kafka: KafkaCluster):
    assert "med.rejected-raw" not in told(front(*create(kafka)))["created"]
    assert told(front(*create(kafka, "edge1", "pbx1")))["created"] == [
        "med.raw-cdrs.edge1",
        "med.raw-cdrs.pbx1",
        "med.rejected-raw",
    ]
    again = told(front(*create(kafka, "edge1", "more")))
    assert again["created"] == ["med.raw-cdrs.more"]
    assert "med.raw-cdrs.edge1" in again["existing"]

    async def settings() -> dict[str, dict[str, str]]:
        async with open_admin(connection(kafka.bootstrap)) as admin:
            return await admin.configs(["med.raw-cdrs.edge1", "med.rejected-raw"])

    for found in asyncio.run(settings()).values():
        assert (found["cleanup.policy"], found["unclean.leader.election.enable"]) == ("delete", "false")


def test_a_name_that_is_none_is_refused_before_anything_is_made(kafka: KafkaCluster):
    assert "--raw is 'a b'" in refused(front(*create(kafka, "a b")))
