"""Restoring a partition: a base (the state kept in memory, or a snapshot) plus the tail of its two logs, or the logs alone.

`rater-state` gives rows and the watermark, `rater-journal` gives ids and the chain of lines. Both are read up to their
last stable offset. What comes out has been checked against itself: every row there, the chain unbroken, as many ids as
the watermark counts. Whether it agrees with the group's offsets is for `witnesses` to say.
"""

import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from rater.contract.journal import NO_DIGEST, digest_of
from rater.contract.records import Records
from rater.core.state import State
from rater.doors.failpoints import reached
from rater.doors.kafka.changelog import ChangelogProblem, RowsRead, Watermark
from rater.doors.kafka.log import InThread, LogProblem, OffsetGone, Place, Reader
from rater.doors.kafka.record_batches import records_from_blocks
from rater.doors.kafka.snapshot import Base, SnapshotUnusable
from rater.doors.kafka.witnesses import JournalEnd

ID_BYTES = 16


class JournalProblem(LogProblem):
    """The journal contradicts itself or has a hole."""


class BaseUnusable(Exception):
    """A base that the logs do not continue: restore without it."""


@dataclass(slots=True)
class Restored:
    """What the logs say. `state` is None when they say nothing at all: nobody has ever rated this partition."""

    state: State | None
    watermark: Watermark | None
    journal: JournalEnd | None
    state_offset: int  # where each log is read on from
    journal_offset: int
    line_offset: int = -1
    rows_read: int = 0
    ids_read: int = 0
    lines_read: int = 0


# (what is being read, records read so far, the offset reached, the offset to reach)
Progress = Callable[[str, int, int, int], None]


def quiet(what: str, read: int, offset: int, end: int) -> None:
    """Nobody watches."""


class LinesRead:
    """Journal lines in order: the chain, the ids, and where the last line lies."""

    def __init__(self, where: str, base: Base | None) -> None:
        self.where = where
        self.ids: list[bytes] = []
        self.lines = 0
        self.end: JournalEnd | None = None
        self.line_offset = -1
        self.met_base = False  # its last line is there, and the same
        self._after = base.watermark if base is not None else None
        if self._after is not None:
            mark = self._after
            self.end = JournalEnd(mark.batch, mark.next_cdr, mark.next_command, mark.state_digest, mark.journal_digest)

    def take(self, records: Records) -> None:
        for place in range(records.count):
            self._take_line(records.raw(place), int(records.offsets[place]))

    def _take_line(self, raw: bytes, offset: int) -> None:
        try:
            line = orjson.loads(raw)
            batch, digest = line["batch"], digest_of(raw)
            ids = base64.b64decode(line["seen_b64"], validate=True)
            end = JournalEnd(batch, line["cdrs"][2], line["commands"][2], line["state_digest"], digest)
        except (ValueError, KeyError, TypeError, IndexError):
            raise JournalProblem(
                f"{self.where}, offset {offset}: not a line that rater writes: {raw[:60]!r}; another program writes to this topic, "
                "or it was damaged: restore it from a backup"
            ) from None
        if self._after is not None and batch <= self._after.batch:
            if batch == self._after.batch and digest != self._after.journal_digest:
                raise BaseUnusable(f"{self.where}, offset {offset}: batch {batch} is not the one the base ends with")
            self.met_base = batch == self._after.batch
            self.line_offset = offset
            return
        previous = self.end.digest if self.end is not None else NO_DIGEST
        expected = self.end.batch + 1 if self.end is not None else 1
        if batch != expected or line["previous"] != previous:
            problem = (
                f"{self.where}, offset {offset}: found batch {batch} behind {line['previous'][:8]}..., expected batch "
                f"{expected} behind {previous[:8]}..."
            )
            if self._after is not None:
                raise BaseUnusable(problem)
            raise JournalProblem(
                f"{problem}; lines were deleted or written by another program. Expected retention.ms=-1: ids seen live here"
            )
        self.ids.append(ids)
        self.end = end
        self.line_offset = offset
        self.lines += 1


async def read_to_end(
    reader: Reader, place: Place, start: int, end: int, take: Callable[[Records], None], progress: Progress
) -> int:
    """Hand every record from `start` to before `end` on; the offset reached, which is at least `end`."""
    offset, read = start, 0
    while offset < end:
        blocks, following = await reader.read(place, offset)
        if not blocks and following == offset:
            raise LogProblem(
                f"{place}: nothing more to read at offset {offset}, although the log is said to be stable up to {end}"
            )
        if blocks:
            records, _ = records_from_blocks(blocks, offset)
            take(records)
            read += records.count
            reached("mid-restore")
        offset = following
        progress(place.topic, read, offset, end)
    return offset


async def at_once(work: Callable[[], Any]) -> Any:
    return work()


async def restore(
    reader: Reader,
    state_place: Place,
    journal_place: Place,
    base: Base | None,
    progress: Progress = quiet,
    aside: InThread = at_once,
) -> Restored:
    """Raises `BaseUnusable` when the logs do not continue the base, `LogProblem` when they contradict themselves."""
    state_start, state_end = await reader.bounds(state_place)
    journal_start, journal_end = await reader.bounds(journal_place)
    lines = LinesRead(str(journal_place), base)
    rows: RowsRead | None = None
    state_from, journal_from = state_start, journal_start
    if base is not None:
        if not (state_start <= base.state_offset <= state_end):
            raise BaseUnusable(
                f"{state_place}: offset {base.state_offset} is not between {state_start} and {state_end}"
            )
        if not (journal_start <= base.line_offset < journal_end):
            raise BaseUnusable(
                f"{journal_place}: offset {base.line_offset} is not between {journal_start} and {journal_end}"
            )
        state_from, journal_from = base.state_offset, base.line_offset

    def take_rows(records: Records) -> None:
        nonlocal rows
        if rows is None:
            rows = RowsRead(base.state if base is not None else None, str(state_place))
        rows.take(records)

    try:
        # Rows first: what another version wrote says so, before its lines seem to be out of order.
        state_offset = await read_to_end(reader, state_place, state_from, state_end, take_rows, progress)
        journal_offset = await read_to_end(reader, journal_place, journal_from, journal_end, lines.take, progress)
    except OffsetGone as gone:
        if base is not None:
            raise BaseUnusable(str(gone)) from gone
        raise
    if base is not None and not lines.met_base:
        raise BaseUnusable(f"{journal_place}: no line at offset {base.line_offset}, where the base has its last one")
    state, watermark = await aside(lambda: _assemble(base, rows, lines, str(state_place)))
    return Restored(
        state,
        watermark,
        lines.end,
        state_offset,
        journal_offset,
        lines.line_offset,
        rows.count if rows is not None else 0,
        sum(len(ids) for ids in lines.ids) // ID_BYTES,
        lines.lines,
    )


def _assemble(
    base: Base | None, rows: RowsRead | None, lines: LinesRead, where: str
) -> tuple[State | None, Watermark | None]:
    watermark = base.watermark if base is not None else None
    if rows is not None and rows.watermark is not None:
        watermark = rows.watermark
    if watermark is None:
        if rows is not None:
            raise ChangelogProblem(f"{where}: {rows.count} rows, but no watermark says what they are")
        return None, None
    state = base.state if base is not None else State.empty(bytes.fromhex(watermark.key))
    if rows is not None:
        rows.into(state, watermark)
    ids = np.frombuffer(b"".join(lines.ids), np.uint64).reshape(-1, 2)
    if base is not None:
        state.add_seen(ids)
    else:
        state.restore_seen(ids)
    kept = int(state.seen_tally[0])
    # Behind a torn transaction the two logs differ by whole batches; that is for the witnesses to say, in their words.
    if lines.end is not None and lines.end.batch == watermark.batch and kept != watermark.ids:
        raise JournalProblem(
            f"{where}: the watermark counts {watermark.ids} ids seen, the journal gave {kept}: journal lines are missing"
        )
    return state, watermark


def nobody_listens(sentence: str) -> None:
    """Nobody listens."""


async def restore_best(
    reader: Reader,
    state_place: Place,
    journal_place: Place,
    kept: Base | None,
    load_snapshot: Callable[[], Awaitable[Base]],
    progress: Progress = quiet,
    say: Callable[[str], None] = nobody_listens,
    aside: InThread = at_once,
) -> Restored:
    """From what this process still has in memory, else from the snapshot, else from the topics alone.

    `aside` runs what takes a second for a million rows, while others of the process go on.
    """

    async def memory() -> Base:
        assert kept is not None
        return kept

    for load in (load_snapshot,) if kept is None else (memory, load_snapshot):
        try:
            return await restore(reader, state_place, journal_place, await load(), progress, aside)
        except (SnapshotUnusable, BaseUnusable, ChangelogProblem) as problem:
            say(str(problem))
    return await restore(reader, state_place, journal_place, None, progress, aside)
