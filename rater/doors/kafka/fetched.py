"""What the partition task has fetched for one batch: blocks of calls and commands, and where the inputs stand behind them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rater.contract.records import Records, records_of
from rater.doors.kafka.log import Block, Place
from rater.doors.kafka.record_batches import records_from_blocks
from rater.doors.kafka.surroundings import Limits


@dataclass(slots=True)
class Fetched:
    """The blocks of one batch, in the order of their offsets."""

    calls: list[Block] = field(default_factory=list)
    commands: list[Block] = field(default_factory=list)
    size: int = 0
    count: int = 0
    # Behind the blocks, and behind markers and aborted records there.
    ends: dict[Place, int] = field(default_factory=dict)

    def oldest_ms(self) -> int:
        """The time of the first record taken, 0 for none: lag in seconds counts from there."""
        return min((blocks[0].timestamp_ms for blocks in (self.calls, self.commands) if blocks), default=0)

    def is_full(self, limits: Limits) -> bool:
        return self.size >= limits.bytes_max or self.count >= limits.records_max

    def add(self, blocks: dict[Place, list[Block]], calls: Place, commands: Place) -> None:
        for target, place in ((self.calls, calls), (self.commands, commands)):
            for block in blocks.get(place, ()):
                target.append(block)
                self.size += len(block.body)
                self.count += block.count

    def next_offset(self, place: Place, blocks: Sequence[Block], before: int) -> int:
        """Where to read on behind these blocks of a place; where it stood before, if nothing came."""
        return self.ends.get(place, blocks[-1].next_offset if blocks else before)


def records_in(blocks: Sequence[Block], first_offset: int) -> tuple[Records, Any]:
    """The records from an offset on, and the time of each (ms, UTC). Most batches have no command: that takes no kernel."""
    if not blocks:
        return records_of([]), np.zeros(0, np.int64)
    return records_from_blocks(blocks, first_offset)
