"""How far behind the partitions are that stand or restore: nobody fetches for them, so somebody has to ask.

Once in a while the ends of their inputs are asked for, and the time of the first record that waits. It is for watching only: whatever
goes wrong here, the partition's own words say what is wrong with it.
"""

import logging

from rater.doors.kafka.log import Log, LogProblem, Place, Reader
from rater.doors.kafka.names import CDRS, COMMANDS, Names
from rater.doors.kafka.status import StatusBoard
from rater.doors.kafka.surroundings import Backlog

log = logging.getLogger("rater.worker")

EVERY_S = 15.0


class Standing:
    """Asks for the partitions of a board that are not running."""

    def __init__(self, log: Log, names: Names, board: StatusBoard) -> None:
        self._log, self._names, self._board = log, names, board
        self._reader: Reader | None = None

    async def look(self) -> None:
        for partition in self._board.standing():
            try:
                await self._look_at(partition)
            except LogProblem as problem:
                log.debug("partition %d: what waits is not known: %s", partition, problem)
                await self.close()

    async def close(self) -> None:
        if self._reader is not None:
            await self._reader.close()
            self._reader = None

    async def _look_at(self, partition: int) -> None:
        if self._reader is None:
            self._reader = await self._log.open_reader()
        places = [self._names.place(name, partition) for name in (CDRS, COMMANDS)]
        bounds = [await self._reader.bounds(place) for place in places]
        following = self._board.following(partition)
        if following is None:  # not taken over by this process yet: the group knows how far the last one came
            known = await self._log.group_offsets(self._names.app_id, places)
            calls, commands = (known.get(place, start) for place, (start, _) in zip(places, bounds, strict=True))
            following = calls, commands
        waiting = [
            await self._first_ms(self._reader, place, max(offset, start))
            for place, offset, (start, end) in zip(places, following, bounds, strict=True)
            if offset < end
        ]
        ends = [end for _, end in bounds]
        oldest_ms = min((at_ms for at_ms in waiting if at_ms), default=0)
        self._board.waits(partition, following, Backlog(ends[0], ends[1], oldest_ms))

    async def _first_ms(self, reader: Reader, place: Place, offset: int) -> int:
        """The broker's time of the first record from `offset` on, 0 where there is none."""
        blocks, _ = await reader.read(place, offset)
        return blocks[0].timestamp_ms if blocks else 0
