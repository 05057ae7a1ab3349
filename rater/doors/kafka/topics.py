"""The topics of a deployment: their settings and why, made once, checked at every start of a worker.

Partition p of every topic belongs together, so all have one partition count, and it never changes: a tenant's balance lives
in the partition its name hashes to, and another count would send its calls to a partition that has never heard of it.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rater.doors.kafka.admin import Admin, NewTopic, TopicFound, open_admin
from rater.doors.kafka.log import LogTimeout, Refused
from rater.doors.kafka.names import CDRS, INPUTS, JOURNAL, OUTPUTS, STATE
from rater.doors.settings.connection import Connection

MIB = 1 << 20
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

PARTITIONS_MAX = 4_096  # a transactional id and two sockets a broker each; more wants a second deployment


class TopicsWrong(Refused):
    """Some topic is missing or set in a way that loses money; the text lists each, and the commands that put it right."""

    def __init__(self, problems: Sequence[str], commands: Sequence[str]) -> None:
        self.problems = tuple(problems)
        self.commands = tuple(commands)
        lines = ["the topics do not fit:", *(f"  {problem}" for problem in problems)]
        if commands:
            lines += ["run:", *(f"  {command}" for command in commands)]
        super().__init__("\n".join(lines))


@dataclass(frozen=True, slots=True)
class Rule:
    """One topic setting: what `create` gives it, what a check accepts, and why."""

    key: str
    value: str
    accepts: Callable[[str], bool]
    expected: str
    why: str


def exactly(key: str, value: str, why: str) -> Rule:
    return Rule(key, value, lambda found: found == value, value, why)


def at_least(key: str, value: int, least: int, why: str) -> Rule:
    """`value` when we make it; whoever sets it knows better as long as it is not below `least`. -1 is without limit."""
    return Rule(key, str(value), lambda found: int(found) == -1 or int(found) >= least, f"at least {least}", why)


def between(key: str, value: int, most: int, why: str) -> Rule:
    return Rule(key, str(value), lambda found: value <= int(found) <= most, f"{value} to {most}", why)


# Thirteen months: a year can be audited from the topics, and there is a month to do it in. A week is the least that
# outlasts an outage over a long weekend and the rebuild after it.
KEPT_MS, KEPT_LEAST_MS = 396 * DAY_MS, 7 * DAY_MS

COMMON = (
    exactly("unclean.leader.election.enable", "false", "a replica that lags must not become leader: what it lacks would be lost"),
    exactly("message.timestamp.type", "LogAppendTime",
            "age is counted by the broker's clock: a record dated in the past is not deleted at once, one dated in the "
            "future does not keep its segment for ever, so no ceiling on dates is needed"),
)  # fmt: skip

INPUT_BYTES = between(
    "max.message.bytes", MIB + (64 << 10), 16 * MIB,
    "a batch is read whole whatever limit a reader asks for, so this bounds the memory of every partition; 1 MiB is what "
    "producers send at most unless told otherwise, and 64 KiB hold the framing of a misplaced record sent on",
)  # fmt: skip
BATCH_BYTES = at_least(
    "max.message.bytes", 16 * MIB, 16 * MIB, "what a batch of calls becomes is written as one message"
)
DELETED = exactly("cleanup.policy", "delete", "every record counts, not only the last of its key")
NOT_BY_SIZE = exactly("retention.bytes", "-1", "a busy day must not shorten what is kept")


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of every deployment; its name follows the prefix."""

    name: str
    rules: tuple[Rule, ...]


def input_topic(name: str) -> Topic:
    kept = at_least(
        "retention.ms", KEPT_MS, KEPT_LEAST_MS, "longer than the longest outage and a rebuild; an audit reads it again"
    )
    return Topic(name, (DELETED, kept, NOT_BY_SIZE, INPUT_BYTES, *COMMON))


def output_topic(name: str) -> Topic:
    kept = at_least(
        "retention.ms", KEPT_MS, KEPT_LEAST_MS, "an audit compares it, and whoever reads it may have an outage too"
    )
    return Topic(name, (DELETED, kept, NOT_BY_SIZE, BATCH_BYTES, *COMMON))


STATE_TOPIC = Topic(STATE, (
    exactly("cleanup.policy", "compact", "the last record of a row is the row, and must never go by age"),
    at_least("min.compaction.lag.ms", HOUR_MS, 10 * 60_000, "a restore in progress must find every offset it was promised"),
    at_least("delete.retention.ms", 30 * DAY_MS, KEPT_LEAST_MS,
             "a snapshot older than this could keep a row whose removal is no longer told"),
    BATCH_BYTES, *COMMON,
))  # fmt: skip
JOURNAL_TOPIC = Topic(JOURNAL, (
    DELETED, exactly("retention.ms", "-1", "the record ids seen live here: without them a call delivered again is charged again"),
    NOT_BY_SIZE, BATCH_BYTES, *COMMON,
))  # fmt: skip

TOPICS = (*map(input_topic, INPUTS), *map(output_topic, OUTPUTS), STATE_TOPIC, JOURNAL_TOPIC)

SAME_COUNT = (
    "partition p of every topic belongs together, and a tenant's balance lives where its name hashes to: with another count "
    "its calls would go to a partition that does not know it. Make topics of the new count under another --topic-prefix and "
    "replay the inputs into them"
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of `create`."""

    partitions: int
    replicas: int
    min_in_sync: int | None = None  # one replica may be away, when not given

    @property
    def in_sync(self) -> int:
        return max(1, self.replicas - 1) if self.min_in_sync is None else self.min_in_sync


@dataclass(frozen=True, slots=True)
class Created:
    created: tuple[str, ...]
    existing: tuple[str, ...]


def names(prefix: str) -> list[str]:
    return [prefix + topic.name for topic in TOPICS]


async def create_topics(connection: Connection, prefix: str, wanted: Wanted) -> Created:
    """Make what is missing; twice is as good as once. Raises `TopicsWrong` before anything is made when a topic that is
    there does not fit, `Refused` for what the broker says."""
    _check_wanted(wanted)
    async with open_admin(connection) as admin:
        found = await admin.topics(names(prefix))
        problems = _count_problems(found, wanted.partitions) + _replica_problems(found, wanted.replicas)
        if problems:
            raise TopicsWrong(problems, [])
        await _check_settings(admin, connection, prefix, found)
        missing = [topic for topic in TOPICS if prefix + topic.name not in found]
        if missing:
            await admin.create([new_topic(topic, prefix, wanted) for topic in missing])
            await _wait_ready(admin, connection, prefix, wanted.partitions)
    return Created(tuple(prefix + topic.name for topic in missing), tuple(found))


def _check_wanted(wanted: Wanted) -> None:
    if not 1 <= wanted.partitions <= PARTITIONS_MAX:
        raise Refused(f"--partitions is {wanted.partitions}; expected 1 to {PARTITIONS_MAX}, for example 12")
    if not 1 <= wanted.replicas <= 32:
        raise Refused(f"--replication-factor is {wanted.replicas}; expected 1 to 32, for example 3")
    if not _in_sync_fits(wanted.in_sync, wanted.replicas):
        raise Refused(f"--min-insync-replicas is {wanted.in_sync}; expected {_in_sync_expected(wanted.replicas)}")


async def _wait_ready(admin: Admin, connection: Connection, prefix: str, partitions: int) -> None:
    """A broker hears of a new topic a moment after the controller has made it, and of its leaders a moment later: ask each
    of them, so that a worker started right afterwards finds all topics wherever it asks. One that is down is left out."""
    try:
        async with asyncio.timeout(connection.request_timeout_ms / 1000):
            for broker in await admin.reachable():
                while not _all_led(await admin.topics(names(prefix), broker), partitions):
                    await asyncio.sleep(0.05)
    except TimeoutError:
        raise LogTimeout(
            f"the topics were made, but not all had leaders within {connection.request_timeout_ms} ms; is every broker up? "
            "`rater topics check` says when they are ready"
        ) from None


def _all_led(found: Mapping[str, TopicFound], partitions: int) -> bool:
    return len(found) == len(TOPICS) and all(topic.leaders == partitions for topic in found.values())


def new_topic(topic: Topic, prefix: str, wanted: Wanted) -> NewTopic:
    configs = {rule.key: rule.value for rule in topic.rules} | {"min.insync.replicas": str(wanted.in_sync)}
    return NewTopic(prefix + topic.name, wanted.partitions, wanted.replicas, configs)


async def check_topics(connection: Connection, prefix: str) -> int:
    """How many partitions every topic has. Raises `TopicsWrong` with all that is missing or wrong and what to run."""
    async with open_admin(connection) as admin:
        found = await admin.topics(names(prefix))
        missing = [name for name in names(prefix) if name not in found]
        counts = {topic.partitions for topic in found.values()}
        problems = [f"{name} is not there" for name in missing]
        commands = [_create_command(connection, prefix, found)] if missing else []
        if len(counts) > 1:
            problems += _count_problems(found, found.get(prefix + CDRS, next(iter(found.values()))).partitions)
        more, repairs = await _setting_problems(admin, connection, prefix, found)
    if problems or more:
        raise TopicsWrong(problems + more, commands + repairs)
    return counts.pop()


async def _check_settings(admin: Admin, connection: Connection, prefix: str, found: Mapping[str, TopicFound]) -> None:
    problems, commands = await _setting_problems(admin, connection, prefix, found)
    if problems:
        raise TopicsWrong(problems, commands)


async def _setting_problems(
    admin: Admin, connection: Connection, prefix: str, found: Mapping[str, TopicFound]
) -> tuple[list[str], list[str]]:
    """Sentences about settings, and a command for each topic that has any."""
    problems: list[str] = []
    commands: list[str] = []
    configs = await admin.configs(list(found)) if found else {}
    for topic in TOPICS:
        name = prefix + topic.name
        if name not in found:
            continue
        rules = (*topic.rules, _in_sync_rule(found[name].replicas))
        broken = [rule for rule in rules if not _accepted(rule, configs[name].get(rule.key, ""))]
        problems += [
            f"{name}: {rule.key} is {configs[name].get(rule.key, 'not set')}; expected {rule.expected}: {rule.why}"
            for rule in broken
        ]
        if broken:
            commands.append(_alter_command(connection, name, broken))
    return problems, commands


def _accepted(rule: Rule, found: str) -> bool:
    try:
        return rule.accepts(found)
    except ValueError:  # not a number where one is expected
        return False


def _in_sync_fits(in_sync: int, replicas: int) -> bool:
    return (2 if replicas >= 3 else 1) <= in_sync <= replicas


def _in_sync_expected(replicas: int) -> str:
    return f"{2 if replicas >= 3 else 1} to {replicas} with {replicas} replica{'s' if replicas > 1 else ''}"


def _in_sync_rule(replicas: int) -> Rule:
    why = "with three replicas a commit must be on two machines; more than there are can never be"
    value = str(max(1, replicas - 1))
    return Rule(
        "min.insync.replicas",
        value,
        lambda found: _in_sync_fits(int(found), replicas),
        _in_sync_expected(replicas),
        why,
    )


def _count_problems(found: Mapping[str, TopicFound], partitions: int) -> list[str]:
    wrong = [
        f"{name} has {topic.partitions} partitions" for name, topic in found.items() if topic.partitions != partitions
    ]
    return [f"{', '.join(wrong)}; expected {partitions}: {SAME_COUNT}"] if wrong else []


def _replica_problems(found: Mapping[str, TopicFound], replicas: int) -> list[str]:
    return [
        f"{name} has {topic.replicas} replicas; expected {replicas}: kafka-reassign-partitions changes it, or ask for what is there"
        for name, topic in found.items()
        if topic.replicas != replicas
    ]


def _tool_options(connection: Connection) -> str:
    login = "" if connection.security_protocol == "PLAINTEXT" else " --command-config admin.properties"
    return f"--bootstrap-server {','.join(connection.bootstrap_servers)}{login}"


def _alter_command(connection: Connection, name: str, rules: Sequence[Rule]) -> str:
    settings = ",".join(f"{rule.key}={rule.value}" for rule in rules)
    return f"kafka-configs {_tool_options(connection)} --alter --entity-type topics --entity-name {name} --add-config {settings}"


def _create_command(connection: Connection, prefix: str, found: Mapping[str, TopicFound]) -> str:
    """With the numbers of the topics that are there, or a place for them."""
    like = next(iter(found.values()), None)
    partitions, replicas = ("N", "R") if like is None else (str(like.partitions), str(like.replicas))
    named = f" --topic-prefix {prefix}" if prefix else ""
    servers = ",".join(connection.bootstrap_servers)
    return f"rater topics create --partitions {partitions} --replication-factor {replicas} --bootstrap {servers}{named}"
