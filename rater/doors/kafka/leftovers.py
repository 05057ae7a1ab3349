"""Transactions that the broker left open in a partition's own topics, although it has ended them.

Opening a writer aborts what an older one left open, and only this transactional id writes there, so nothing can be open afterwards. But a
coordinator that finds no leader for a place skips its marker ("likely deleted already", says Kafka 4.3; seen on a cluster of
one broker, right after a restart). The records stay open, hold readers back, and would be committed together with our own
next transaction: calls of an aborted batch, charged twice.
"""

import asyncio
from collections.abc import Sequence

import orjson

from rater.doors.kafka.compression import NONE
from rater.doors.kafka.log import Block, Place, Reader, Writer
from rater.doors.kafka.record_batches import frame_few, records_from_blocks

PLACEHOLDER = (b"-", b"", ())  # aborted, so nobody reads it; a compacted topic wants a key


async def left_open(reader: Reader, places: Sequence[Place]) -> list[Place]:
    """Where readers are held back. Ask after the writer of these places was opened and before it writes."""
    held = await asyncio.gather(*(reader.held_back(place) for place in places))
    return [place for place, count in zip(places, held, strict=True) if count]


async def abort_in(writer: Writer, places: Sequence[Place]) -> None:
    """A transaction of our own there, aborted: its markers end whatever this transactional id has open in these places.

    Raises `Fenced` where a newer writer holds the id: then what is open is its own.
    """
    ((body, count),) = frame_few([PLACEHOLDER])
    await writer.begin()
    await writer.write_all([(place, (body, count, NONE)) for place in places])
    await writer.abort()


def counts_already(block: Block | None, next_offset: int, next_command: int) -> bool:
    """Whether an output that was never committed comes from inputs that are done: its batch was committed, and its marker is missing.

    Every output names its input. `next_offset` is where that input is read on; of events, which come from both, calls: an event
    of a command says so. What cannot be read counts: nobody may abort it then.
    """
    if block is None:
        return False
    try:
        output = orjson.loads(records_from_blocks([block], block.first_offset)[0].raw(0))
        output = output.get("data", output)
        _, offset = output["input"]
        return bool(offset < (next_command if output.get("cause") == "command" else next_offset))
    except (ValueError, KeyError, TypeError, AttributeError):
        return True
