"""Writing `deck.activated` to every partition of `account-commands`."""

import hashlib
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer

from rater.core.instants import parse_instant
from rater.doors.kafka.log import LogProblem
from rater.doors.kafka.names import COMMANDS
from rater.doors.kafka.topics import check_topics
from rater.doors.rules import RuleBook
from rater.doors.settings.connection import Connection


def activation_of(book: RuleBook, at: str, by: str, command_id: str | None) -> dict[str, Any]:
    """The command: decks and plans by content hash. The same versions at the same instant have the same id."""
    if parse_instant(at) is None:
        raise LogProblem(f"--at is '{at}'; expected an instant such as 2026-12-01T00:00:00Z")
    decks = sorted(deck.version for deck in book.decks)
    if command_id is None:
        command_id = "deck-" + hashlib.sha256(orjson.dumps([decks, book.plans_version, at])).hexdigest()[:24]
    return {
        "command_id": command_id,
        "type": "deck.activated",
        "at": at,
        "by": by,
        "decks": decks,
        "plans": book.plans_version,
        "numbering": book.numbering_version,
    }


async def activate(connection: Connection, prefix: str, command: dict[str, Any]) -> int:
    """Write the command to each partition; how many there are. Run again after a failure: what is there is a duplicate."""
    partitions = await check_topics(connection, prefix)
    raw = orjson.dumps(command)
    producer = AIOKafkaProducer(**connection.client_arguments(), acks="all", enable_idempotence=True)
    await producer.start()
    try:
        for partition in range(partitions):
            await producer.send_and_wait(prefix + COMMANDS, raw, partition=partition)
    finally:
        await producer.stop()
    return partitions
