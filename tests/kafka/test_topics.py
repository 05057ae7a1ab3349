"""`rater topics create` and `check` on a real broker: what is made, what is refused, and what the refusals say to run."""

import asyncio
import json
import re
from itertools import count

import pytest
from aiokafka.cluster import ClusterMetadata
from click.testing import CliRunner, Result

from rater.doors.kafka.admin import NewTopic, open_admin
from rater.doors.kafka.commands import topics_group
from rater.doors.kafka.log import LogTimeout, Refused
from rater.doors.kafka.topics import TOPICS, TopicsWrong, Wanted, check_topics, create_topics, names
from rater.doors.settings.connection import Connection
from rater.doors.settings.values import SettingsRefused
from tests.kafka.broker import KafkaCluster, free_ports, run_tool

_prefixes = count()


@pytest.fixture
def prefix() -> str:
    """The broker is shared: each test has topics of its own."""
    return f"topics{next(_prefixes)}."


def connection(kafka: KafkaCluster) -> Connection:
    return Connection(bootstrap_servers=tuple(kafka.bootstrap.split(",")))


def create(
    kafka: KafkaCluster, prefix: str, partitions: int = 3, replicas: int = 1, in_sync: int | None = None
) -> list[str]:
    return list(asyncio.run(create_topics(connection(kafka), prefix, Wanted(partitions, replicas, in_sync))).created)


def check(kafka: KafkaCluster, prefix: str) -> int:
    return asyncio.run(check_topics(connection(kafka), prefix))


def settings_of(kafka: KafkaCluster, topic: str) -> dict[str, str]:
    async def ask() -> dict[str, str]:
        async with open_admin(connection(kafka)) as admin:
            return (await admin.configs([topic]))[topic]

    return asyncio.run(ask())


@pytest.mark.parametrize("times", [1, 3])
def test_a_broker_that_has_just_started_names_nobody_and_is_asked_again(
    kafka: KafkaCluster, prefix: str, monkeypatch: pytest.MonkeyPatch, times: int
):
    heard: list[object] = []
    honest = ClusterMetadata.update_metadata

    def update(self: ClusterMetadata, metadata: object) -> None:
        heard.append(metadata)
        if len(heard) > times:
            honest(self, metadata)

    monkeypatch.setattr(ClusterMetadata, "update_metadata", update)

    async def ask() -> None:
        async with open_admin(connection(kafka)) as admin:
            assert await admin.topics([f"{prefix}not-there"]) == {}

    asyncio.run(ask())
    assert len(heard) > times


def test_a_cluster_that_never_names_a_broker_is_said_so(kafka: KafkaCluster, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ClusterMetadata, "update_metadata", lambda *_: None)
    given = Connection(bootstrap_servers=(kafka.bootstrap,), request_timeout_ms=500)

    async def ask() -> None:
        async with open_admin(given):
            raise AssertionError("opened without a broker")

    with pytest.raises(LogTimeout, match=r"answered, but named no broker of its cluster within 500 ms"):
        asyncio.run(ask())


def make(kafka: KafkaCluster, prefix: str, topic: str, *settings: str) -> None:
    """All topics, one of them with settings of somebody else's choice."""
    rules = next(known.rules for known in TOPICS if known.name == topic)
    configs = {rule.key: rule.value for rule in rules} | dict(setting.split("=") for setting in settings)

    async def ask() -> None:
        async with open_admin(connection(kafka)) as admin:
            await admin.create(
                [
                    NewTopic(
                        prefix + known.name,
                        3,
                        1,
                        configs if known.name == topic else {rule.key: rule.value for rule in known.rules},
                    )
                    for known in TOPICS
                ]
            )
            while len(await admin.topics(names(prefix))) < len(TOPICS):
                await asyncio.sleep(0.02)

    asyncio.run(asyncio.wait_for(ask(), 60))


def topics_tool(kafka: KafkaCluster, *arguments: str) -> None:
    run_tool("org.apache.kafka.tools.TopicCommand", "--bootstrap-server", kafka.bootstrap, *arguments)


def command(*arguments: str) -> Result:
    return CliRunner().invoke(topics_group, arguments)


def test_all_topics_are_made_with_one_partition_count_and_pass_the_check(kafka: KafkaCluster, prefix: str) -> None:
    assert sorted(create(kafka, prefix)) == sorted(names(prefix))
    assert check(kafka, prefix) == 3


def test_creating_twice_changes_nothing(kafka: KafkaCluster, prefix: str) -> None:
    create(kafka, prefix)
    before = {name: settings_of(kafka, name) for name in names(prefix)}
    assert create(kafka, prefix) == []
    assert {name: settings_of(kafka, name) for name in names(prefix)} == before


def test_the_settings_that_no_loss_needs_are_on_the_broker(kafka: KafkaCluster, prefix: str) -> None:
    create(kafka, prefix)
    state, journal, inputs, rated = (
        settings_of(kafka, prefix + name) for name in ("rater-state", "rater-journal", "cdrs", "rated-cdrs")
    )
    assert state["cleanup.policy"] == "compact"
    assert int(state["min.compaction.lag.ms"]) == 3_600_000
    assert int(state["delete.retention.ms"]) == 30 * 86_400_000
    assert journal["cleanup.policy"] == "delete"
    assert (journal["retention.ms"], journal["retention.bytes"]) == ("-1", "-1")
    assert int(inputs["retention.ms"]) == 396 * 86_400_000
    assert int(inputs["max.message.bytes"]) == (1 << 20) + (64 << 10)
    assert {int(topic["max.message.bytes"]) for topic in (state, journal, rated)} == {16 << 20}
    for topic in (state, journal, inputs, rated):
        assert topic["unclean.leader.election.enable"] == "false"
        assert topic["message.timestamp.type"] == "LogAppendTime"
        assert topic["min.insync.replicas"] == "1"


def test_another_partition_count_is_refused_with_the_reason(kafka: KafkaCluster, prefix: str) -> None:
    """Growing is refused as shrinking is: both move tenants away from their balances."""
    create(kafka, prefix, partitions=3)
    for partitions in (2, 4):
        with pytest.raises(
            TopicsWrong, match=f"{re.escape(prefix)}cdrs has 3 partitions.*expected {partitions}: .*tenant's balance"
        ):
            create(kafka, prefix, partitions=partitions)


def test_one_topic_with_another_count_stops_creation_before_anything_is_made(kafka: KafkaCluster, prefix: str) -> None:
    topics_tool(kafka, "--create", "--topic", f"{prefix}cdrs", "--partitions", "5", "--replication-factor", "1")
    with pytest.raises(TopicsWrong, match="cdrs has 5 partitions; expected 3"):
        create(kafka, prefix)
    with pytest.raises(TopicsWrong, match="rater-state is not there"):
        check(kafka, prefix)


def test_a_check_lists_every_missing_topic_and_one_command_that_makes_them(kafka: KafkaCluster, prefix: str) -> None:
    with pytest.raises(TopicsWrong) as wrong:
        check(kafka, prefix)
    assert [problem.split()[0] for problem in wrong.value.problems] == names(prefix)
    assert wrong.value.commands == (
        f"rater topics create --partitions N --replication-factor R --bootstrap {kafka.bootstrap} --topic-prefix {prefix}",
    )


def test_the_command_for_a_deleted_topic_has_the_numbers_of_those_that_are_left(
    kafka: KafkaCluster, prefix: str
) -> None:
    create(kafka, prefix)
    topics_tool(kafka, "--delete", "--topic", f"{prefix}rated-cdrs")
    with pytest.raises(TopicsWrong) as wrong:
        check(kafka, prefix)
    assert wrong.value.problems == (f"{prefix}rated-cdrs is not there",)
    arguments = wrong.value.commands[0].split()[2:]
    assert arguments[:5] == ["create", "--partitions", "3", "--replication-factor", "1"]
    assert command(*arguments).exit_code == 0
    assert check(kafka, prefix) == 3


def test_a_grown_topic_is_found_by_the_check(kafka: KafkaCluster, prefix: str) -> None:
    create(kafka, prefix)
    topics_tool(kafka, "--alter", "--topic", f"{prefix}account-commands", "--partitions", "4")
    with pytest.raises(TopicsWrong, match=r"account-commands has 4 partitions; expected 3: .*replay the inputs"):
        check(kafka, prefix)


@pytest.mark.parametrize(
    ("topic", "setting", "told"),
    [
        ("rater-journal", "retention.ms=604800000", "retention.ms is 604800000; expected -1: the record ids seen live here"),
        ("rater-state", "cleanup.policy=delete", "cleanup.policy is delete; expected compact"),
        ("rater-state", "delete.retention.ms=1000", "delete.retention.ms is 1000; expected at least 604800000"),
        ("cdrs", "retention.ms=3600000", "retention.ms is 3600000; expected at least 604800000"),
        ("cdrs", "max.message.bytes=33554432", "max.message.bytes is 33554432; expected 1114112 to 16777216"),
        ("rated-cdrs", "max.message.bytes=1048588", "max.message.bytes is 1048588; expected at least 16777216"),
        ("account-events", "unclean.leader.election.enable=true", "unclean.leader.election.enable is true; expected false"),
        ("cdrs", "message.timestamp.type=CreateTime", "message.timestamp.type is CreateTime; expected LogAppendTime"),
        ("rejected-cdrs", "min.insync.replicas=2", "min.insync.replicas is 2; expected 1 to 1 with 1 replica"),
    ],
)  # fmt: skip
def test_an_unsafe_setting_is_told_with_the_command_that_mends_it(
    kafka: KafkaCluster, prefix: str, topic: str, setting: str, told: str
) -> None:
    make(kafka, prefix, topic, setting)
    with pytest.raises(TopicsWrong) as wrong:
        check(kafka, prefix)
    assert len(wrong.value.problems) == 1
    assert f"{prefix}{topic}: {told}" in wrong.value.problems[0]
    key = setting.split("=")[0]
    command = f"kafka-configs --bootstrap-server {kafka.bootstrap} --alter --entity-type topics --entity-name {prefix}{topic} --add-config {key}="
    assert wrong.value.commands[0].startswith(command)
    with pytest.raises(TopicsWrong, match=re.escape(told)):
        create(kafka, prefix)


def test_the_command_that_is_told_mends_all_that_is_wrong_with_a_topic(kafka: KafkaCluster, prefix: str) -> None:
    make(kafka, prefix, "rater-state", "cleanup.policy=delete", "delete.retention.ms=1000", "max.message.bytes=1048588")
    with pytest.raises(TopicsWrong) as wrong:
        check(kafka, prefix)
    assert len(wrong.value.problems) == 3
    tool, *arguments = wrong.value.commands[0].split()
    assert tool == "kafka-configs"
    run_tool("kafka.admin.ConfigCommand", *arguments)
    assert check(kafka, prefix) == 3


@pytest.mark.parametrize(
    ("topic", "setting"),
    [
        ("cdrs", "retention.ms=-1"),
        ("rated-cdrs", "retention.ms=99999999999"),
        ("rater-state", "min.compaction.lag.ms=86400000"),
    ],
)
def test_a_more_careful_setting_than_ours_passes(kafka: KafkaCluster, prefix: str, topic: str, setting: str) -> None:
    make(kafka, prefix, topic, setting)
    assert check(kafka, prefix) == 3


def test_more_replicas_than_brokers_are_refused_and_nothing_is_made(kafka: KafkaCluster, prefix: str) -> None:
    with pytest.raises(Refused, match="Expected --replication-factor at most the number of brokers"):
        create(kafka, prefix, replicas=2)
    with pytest.raises(TopicsWrong, match="rater-journal is not there"):
        check(kafka, prefix)


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (Wanted(0, 1), "--partitions is 0; expected 1 to 4096"),
        (Wanted(3, 0), "--replication-factor is 0; expected 1 to 32"),
        (Wanted(3, 3, 1), "--min-insync-replicas is 1; expected 2 to 3 with 3 replicas"),
        (Wanted(3, 1, 2), "--min-insync-replicas is 2; expected 1 to 1 with 1 replica"),
    ],
)
def test_numbers_out_of_range_are_refused_before_anybody_is_asked(wanted: Wanted, told: str) -> None:
    nowhere = Connection(bootstrap_servers=("127.0.0.1:1",))
    with pytest.raises(Refused, match=re.escape(told)):
        asyncio.run(create_topics(nowhere, "", wanted))


def test_one_replica_may_be_away_unless_told_otherwise() -> None:
    assert [Wanted(3, replicas).in_sync for replicas in (1, 2, 3, 5)] == [1, 1, 2, 4]


def test_where_nobody_listens_the_sentence_says_so() -> None:
    port = free_ports(1)[0]
    with pytest.raises(LogTimeout, match=f"127.0.0.1:{port}: nobody listens there; is the broker up"):
        asyncio.run(check_topics(Connection(bootstrap_servers=(f"127.0.0.1:{port}",)), ""))


def test_a_frozen_broker_ends_in_a_sentence_after_the_time_out(broker_possible: None) -> None:
    with KafkaCluster() as frozen:
        frozen.pause()
        with pytest.raises(LogTimeout, match="no answer within 1000 ms"):
            asyncio.run(check_topics(Connection(bootstrap_servers=(frozen.bootstrap,), request_timeout_ms=1_000), ""))


def test_a_broker_that_advertises_another_machine_is_refused_without_tls(broker_possible: None) -> None:
    """The way in is loopback, a tunnel say; the connections that follow would not be."""
    with (
        KafkaCluster(advertise=["kafka.example.net:9092"]) as elsewhere,
        pytest.raises(SettingsRefused, match=r"kafka\.example\.net is not this machine"),
    ):
        asyncio.run(check_topics(connection(elsewhere), ""))


def test_three_brokers_keep_three_copies_of_which_two_must_be_in_sync(three_brokers: KafkaCluster, prefix: str) -> None:
    there = connection(three_brokers)
    asyncio.run(create_topics(there, prefix, Wanted(3, 3)))
    assert asyncio.run(check_topics(there, prefix)) == 3
    assert settings_of(three_brokers, f"{prefix}rater-state")["min.insync.replicas"] == "2"
    with pytest.raises(TopicsWrong, match="has 3 replicas; expected 1: kafka-reassign-partitions"):
        asyncio.run(create_topics(there, prefix, Wanted(3, 1)))


def test_a_check_asks_the_next_broker_when_one_has_just_died(three_brokers: KafkaCluster, prefix: str) -> None:
    """The others go on naming the dead one until its session ends."""
    there = connection(three_brokers)
    asyncio.run(create_topics(there, prefix, Wanted(2, 3)))
    three_brokers.kill(0)
    try:
        for _ in range(5):
            assert asyncio.run(check_topics(there, prefix)) == 2
    finally:
        three_brokers.restart(0)


def test_the_commands_speak_to_people_and_to_programs(kafka: KafkaCluster, prefix: str) -> None:
    where = ("--bootstrap", kafka.bootstrap, "--topic-prefix", prefix)
    refused = command("check", *where)
    assert refused.exit_code == 1
    assert "rater topics create --partitions N" in refused.stderr
    told = json.loads(command("check", *where, "--json").stdout)
    assert not told["ok"]
    assert len(told["problems"]) == len(TOPICS)
    made = command("create", "--partitions", "2", "--replication-factor", "1", *where)
    assert made.exit_code == 0
    assert f"created {prefix}cdrs: 2 partitions, 1 replicas, 1 in sync" in made.stdout
    again = json.loads(command("create", "--partitions", "2", "--replication-factor", "1", "--json", *where).stdout)
    assert again["created"] == []
    assert json.loads(command("check", *where, "--json").stdout) == {
        "ok": True,
        "partitions": 2,
        "topics": names(prefix),
    }
