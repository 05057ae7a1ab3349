"""`rater traffic`: invented calls onto the topics, in real time, so that there is something to look at."""

import asyncio
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

import click

from rater.doors.kafka.commands import FILE, require_kafka
from rater.doors.kafka.names import CDRS, COMMANDS
from rater.doors.settings.connection import Connection

Record = tuple[str, str, bytes]  # what it is (call, command, raw), key, value
RAW_TOPIC = "raw-cdrs."
TICK_S = 60.0


class Invented(Protocol):
    """What somebody else makes up; this door only sends it."""

    def opening(self) -> Iterable[Record]: ...

    def ticks(self, now_ms: int) -> Iterable[Record]: ...

    def ended(self, now_ms: int, count: int, raw: bool) -> Iterable[Record]: ...


def make_traffic_command(invent: Callable[[int], Invented]) -> click.Command:
    """The command, given who invents: `invent(now_ms)` begins a run."""

    @click.command("traffic")
    @click.option("--calls-per-s", default=5, show_default=True, type=click.IntRange(1, 10_000), help="Calls a second.")
    @click.option("--seconds", type=click.IntRange(1), help="Stop after so many. [until stopped]")
    @click.option(
        "--raw", metavar="NAME", help="Send a fifth of the calls to raw-cdrs.NAME, as a Kamailio writes them."
    )
    @click.option("--bootstrap", metavar="HOST:PORT,...", help="The brokers. [RATER_BOOTSTRAP_SERVERS]")
    @click.option("--topic-prefix", metavar="TEXT", help="Before every topic's name. [RATER_TOPIC_PREFIX, else none]")
    @click.option("--config", type=FILE, help="Settings of a worker (TOML); variables RATER_* win over it.")
    def traffic_command(calls_per_s: int, seconds: int | None, raw: str | None, bootstrap: str | None,
                        topic_prefix: str | None, config: Path | None) -> None:  # fmt: skip
        """Invent accounts and calls of three companies that do not exist, for trials and demonstrations.

        \b
        rater traffic --bootstrap localhost:9092                       # 5 calls a second, until stopped
        rater traffic --calls-per-s 200 --seconds 60 --bootstrap localhost:9092
        rater traffic --raw edge1 --bootstrap localhost:9092           # a fifth by way of rater mediation-agent

        Never on topics with customers in them: it opens contoso, fabrikam and northwind and spends their money.
        """
        require_kafka()
        from rater.doors.clock import wall_ms
        from rater.doors.kafka.settings import load_connection

        connection, prefix = load_connection(config, bootstrap_servers=bootstrap, topic_prefix=topic_prefix)
        topics = {"call": prefix + CDRS, "command": prefix + COMMANDS, "raw": f"{prefix}{RAW_TOPIC}{raw}"}
        sent = asyncio.run(_send(connection, invent(wall_ms()), topics, calls_per_s, seconds, raw is not None))
        click.echo(f"{sent:,} calls sent")

    return traffic_command


async def _send(
    connection: Connection, invented: Invented, topics: dict[str, str], calls_per_s: int, seconds: int | None, raw: bool
) -> int:
    """Until SIGTERM, Ctrl-C or the end of `seconds`; how many calls. Where the brokers are slow, fewer a second."""
    from aiokafka import AIOKafkaProducer

    from rater.doors.clock import monotonic, wall_ms
    from rater.doors.kafka.presence import require_topics

    await require_topics(connection, [name for kind, name in topics.items() if raw or kind != "raw"])
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    producer = AIOKafkaProducer(**connection.client_arguments(), acks="all", enable_idempotence=True, linger_ms=20)
    await producer.start()

    async def send(records: Iterable[Record]) -> None:
        for kind, key, value in records:
            await producer.send(topics[kind], value, key=key.encode())

    sent, ticked_s, began_s = 0, float("-inf"), monotonic()
    try:
        await send(invented.opening())
        await producer.flush()
        while not stopped.is_set() and (seconds is None or monotonic() - began_s < seconds):
            second_s = monotonic()
            if second_s - ticked_s >= TICK_S:
                ticked_s = second_s
                await send(invented.ticks(wall_ms()))
            await send(invented.ended(wall_ms(), calls_per_s, raw))
            sent += calls_per_s
            await _rest(stopped, second_s + 1 - monotonic())
    finally:
        await producer.stop()
    return sent


async def _rest(stopped: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stopped.wait(), max(seconds, 0.01))
    except TimeoutError:
        return
