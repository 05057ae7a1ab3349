"""`rater topics`: make and check the topics of a deployment. The front door hooks the group in."""

import asyncio
import logging
import sys
from pathlib import Path
from typing import Any

import click

FILE = click.Path(path_type=Path)

connection_options = (
    click.option("--bootstrap", metavar="HOST:PORT,...", help="The brokers. [RATER_BOOTSTRAP_SERVERS]"),
    click.option("--topic-prefix", metavar="TEXT", help="Before every topic's name. [RATER_TOPIC_PREFIX, else none]"),
    click.option("--config", type=FILE, help="Settings (TOML); variables RATER_* win over it."),
    click.option("--json", "as_json", is_flag=True, help="One object on standard output and nothing else."),
)


def with_connection(command: Any) -> Any:
    for option in reversed(connection_options):
        command = option(command)
    return command


def require_kafka() -> None:
    """The Kafka packages are an extra: the embedded rater runs without."""
    try:
        import aiokafka  # noqa: F401
    except ImportError:
        raise click.UsageError(
            "this needs the Kafka packages; install rater with its extra, in a checkout: pip install '.[kafka]'"
        ) from None
    # Where no log is set up, what the client says of each failed try would go to the terminal beside our one sentence.
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())


def print_json(value: dict[str, object]) -> None:
    import orjson

    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


@click.group("topics")
def topics_group() -> None:
    """The Kafka topics of a deployment."""


@topics_group.command("create")
@click.option("--partitions", required=True, type=int, help="Of every topic, for good; at most one worker each.")
@click.option("--replication-factor", required=True, type=int, help="Copies of every partition; 3 in production.")
@click.option("--min-insync-replicas", type=int, help="Copies a commit waits for. [one less than there are]")
@click.option(
    "--raw",
    "raw",
    multiple=True,
    metavar="NAME",
    help="For `rater mediation-agent`: also raw-cdrs.NAME, and rejected-raw. Repeatable.",
)
@click.option("--notifications", is_flag=True, help="Also the topics of `rater notification-agent`.")
@with_connection
def create_command(partitions: int, replication_factor: int, min_insync_replicas: int | None, raw: tuple[str, ...],
                   notifications: bool, bootstrap: str | None,
                   topic_prefix: str | None, config: Path | None, as_json: bool) -> None:  # fmt: skip
    """Make the topics that are missing, with the settings that no loss and no double charge need.

    \b
    rater topics create --partitions 12 --replication-factor 3 --bootstrap kafka1:9092,kafka2:9092
    rater topics create --partitions 12 --replication-factor 3 --bootstrap kafka1:9092 --raw kamailio   # and raw-cdrs.kamailio

    Twice is as good as once. A topic that is there with another partition count or unsafe settings is refused, with the
    reason and the command that puts it right.
    """
    require_kafka()
    from rater.doors.kafka.notification_topics import NOTIFICATION_TOPICS
    from rater.doors.kafka.raw_topics import create_more, raw_topics
    from rater.doors.kafka.settings import load_connection
    from rater.doors.kafka.topics import Created, Wanted, create_topics

    connection, prefix = load_connection(config, bootstrap_servers=bootstrap, topic_prefix=topic_prefix)
    wanted = Wanted(partitions, replication_factor, min_insync_replicas)
    agents = [*raw_topics(raw), *(NOTIFICATION_TOPICS if notifications else ())]  # refused before anything is made
    made = asyncio.run(create_topics(connection, prefix, wanted))
    more = asyncio.run(create_more(connection, prefix, agents, wanted))
    made = Created(made.created + more.created, made.existing + more.existing)
    if as_json:
        print_json({"created": list(made.created), "existing": list(made.existing), "partitions": partitions})
        return
    for name in made.created:
        click.echo(f"created {name}: {partitions} partitions, {replication_factor} replicas, {wanted.in_sync} in sync")
    for name in made.existing:
        click.echo(f"is there {name}")


@topics_group.command("check")
@with_connection
def check_command(bootstrap: str | None, topic_prefix: str | None, config: Path | None, as_json: bool) -> None:
    """Check every topic as a worker does at its start: all there, one partition count, safe settings.

    \b
    rater topics check --bootstrap kafka1:9092

    Exit status 1 if a topic is missing or wrong; the commands that put it right are printed.
    """
    require_kafka()
    from rater.doors.kafka.settings import load_connection
    from rater.doors.kafka.topics import TopicsWrong, check_topics, names

    connection, prefix = load_connection(config, bootstrap_servers=bootstrap, topic_prefix=topic_prefix)
    try:
        partitions = asyncio.run(check_topics(connection, prefix))
    except TopicsWrong as wrong:
        if as_json:
            print_json({"ok": False, "problems": list(wrong.problems), "commands": list(wrong.commands)})
        else:
            click.echo(f"rater: {wrong}", err=True)
        sys.exit(1)
    if as_json:
        print_json({"ok": True, "partitions": partitions, "topics": names(prefix)})
    else:
        click.echo(f"{len(names(prefix))} topics of {partitions} partitions, all set as they must be")
