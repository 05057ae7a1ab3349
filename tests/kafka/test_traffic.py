"""`rater traffic` against a real broker: commands, calls and raw records on their topics, each with its key."""

import asyncio
from pathlib import Path

import orjson
import pytest

from rater.doors.files.demo_live import LiveTraffic
from rater.doors.kafka.raw_topics import create_raw_topics
from rater.doors.kafka.topics import TopicsWrong, Wanted
from rater.doors.kafka.traffic_command import make_traffic_command
from rater.doors.settings.connection import Connection
from tests.kafka.broker import KafkaCluster
from tests.service.processes import deployment, read

pytestmark = pytest.mark.kafka
COMMAND = make_traffic_command(LiveTraffic)


def run(kafka: KafkaCluster, prefix: str, *more: str) -> None:
    arguments = [
        "--bootstrap",
        kafka.bootstrap,
        "--topic-prefix",
        prefix,
        "--calls-per-s",
        "20",
        "--seconds",
        "1",
        *more,
    ]
    COMMAND.main(arguments, standalone_mode=False)


def test_a_second_of_traffic_is_accounts_and_calls_under_their_tenants(
    kafka: KafkaCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    made = deployment(kafka, tmp_path, partitions=2)
    connection = Connection(bootstrap_servers=tuple(kafka.bootstrap.split(",")))
    asyncio.run(create_raw_topics(connection, made.prefix, ["edge1"], Wanted(2, 1, None)))
    run(kafka, made.prefix, "--raw", "edge1")
    assert capsys.readouterr().out.endswith(" calls sent\n")
    commands = read(made, "account-commands", lambda found: len(found) > 50)
    assert {orjson.loads(record.value)["tenant"].encode() == record.key for record in commands} == {True}
    assert len(read(made, "cdrs", lambda found: len(found) >= 16)) >= 16
    raw = read(made, "raw-cdrs.edge1", lambda found: len(found) >= 8)
    assert {orjson.loads(record.value)["callid"].encode() == record.key for record in raw} == {True}


def test_without_its_topics_it_says_so_and_makes_none(kafka: KafkaCluster):
    with pytest.raises(TopicsWrong, match="cdrs is not there"):
        run(kafka, "nowhere.")
