"""The topics of mediation, made on demand: `raw-cdrs.NAME` for what a switch writes, `rejected-raw` for what became no call.

They are no part of a worker's deployment: a raw topic may have another partition count, and no worker asks for it. When it
is made here it gets the count and the settings of the others, since a raw record may not be lost either.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence

from rater.doors.kafka.admin import TopicFound, open_admin
from rater.doors.kafka.log import LogTimeout, Refused
from rater.doors.kafka.topics import Created, Topic, Wanted, input_topic, new_topic, output_topic
from rater.doors.settings.connection import Connection

RAW_PREFIX, REJECTED_RAW = "raw-cdrs.", "rejected-raw"
NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")


def raw_topics(names: Sequence[str]) -> list[Topic]:
    """Raises `Refused` for a name that is no part of a topic's name."""
    for name in names:
        if not NAME.fullmatch(name):
            raise Refused(
                f"--raw is '{name}'; expected letters, digits, '.', '_', '-': the name of a profile, for example kamailio"
            )
    return (
        [*(input_topic(RAW_PREFIX + name) for name in dict.fromkeys(names)), output_topic(REJECTED_RAW)]
        if names
        else []
    )


async def create_raw_topics(connection: Connection, prefix: str, names: Sequence[str], wanted: Wanted) -> Created:
    """Make those that are missing and wait until they have leaders; what is there already stays as it is."""
    return await create_more(connection, prefix, raw_topics(names), wanted)


async def create_more(connection: Connection, prefix: str, topics: Sequence[Topic], wanted: Wanted) -> Created:
    """Topics beside the worker's own: those of an agent."""
    if not topics:
        return Created((), ())
    all_names = [prefix + topic.name for topic in topics]
    async with open_admin(connection) as admin:
        found = await admin.topics(all_names)
        missing = [topic for topic in topics if prefix + topic.name not in found]
        if missing:
            await admin.create([new_topic(topic, prefix, wanted) for topic in missing])
        try:
            async with asyncio.timeout(connection.request_timeout_ms / 1000):
                for broker in await admin.reachable():
                    while not all_led(await admin.topics(all_names, broker), len(all_names)):
                        await asyncio.sleep(0.05)
        except TimeoutError:
            raise LogTimeout(
                "the agents' topics were made, but not all have leaders yet; is every broker up?"
            ) from None
    return Created(tuple(prefix + topic.name for topic in missing), tuple(found))


def all_led(found: Mapping[str, TopicFound], count: int) -> bool:
    return len(found) == count and all(one.leaders == one.partitions for one in found.values())
