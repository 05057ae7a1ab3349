"""Topics as an audit reads them, each once and in order: ranges of the inputs, lines of the journal, records of the outputs.

Nothing is kept but the blocks of one answer; what a batch wrote is compared block by block, which is to the byte, and record
by record only where the blocks differ (a mirror may have cut them otherwise).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import orjson
from aiokafka.record.util import decode_varint

from rater.contract.records import Records, records_of
from rater.doors.differences import Difference, field_difference
from rater.doors.kafka.log import Block, Place, Reader
from rater.doors.kafka.outputs import FORWARDED_FROM, Body
from rater.doors.kafka.record_batches import records_from_blocks

SHOWN = 60  # characters of a value in a sentence
Header = tuple[bytes, bytes | None]


class Record(NamedTuple):
    """One record, whole."""

    offset: int
    key: bytes | None
    value: bytes
    headers: tuple[Header, ...]

    def same(self, other: "Record") -> bool:
        return self[1:] == other[1:]


def records_in(block: Block) -> Iterator[Record]:
    """Records with their headers, in Python: for the few places where headers matter or bytes differ."""
    data, at = bytearray(block.body), 0

    def taken(at: int) -> tuple[bytes | None, int]:
        length, at = decode_varint(data, at)
        return (None, at) if length < 0 else (bytes(data[at : at + length]), at + length)

    for _ in range(block.count):
        length, inside = decode_varint(data, at)
        at = inside + length
        _, inside = decode_varint(data, inside + 1)
        delta, inside = decode_varint(data, inside)
        key, inside = taken(inside)
        value, inside = taken(inside)
        count, inside = decode_varint(data, inside)
        headers: list[Header] = []
        for _ in range(count):
            name, inside = taken(inside)
            content, inside = taken(inside)
            headers.append((name or b"", content))
        yield Record(block.first_offset + delta, key, value or b"", tuple(headers))


def records_of_bodies(bodies: Iterable[Body]) -> list[Record]:
    """What was to be written: their offsets are places in the list."""
    expected: list[Record] = []
    for body, count in bodies:
        expected += records_in(Block(len(expected), len(expected) + count, count, body, 0))
    return expected


def shown(raw: bytes | None) -> str:
    return "null" if raw is None else repr(raw[:SHOWN]) + (" ..." if len(raw) > SHOWN else "")


class Source:
    """Blocks of one place in order, from `offset` on; asks the log again when those at hand are used up."""

    def __init__(self, reader: Reader, place: Place, offset: int) -> None:
        self.reader, self.place, self.offset = reader, place, offset
        self._blocks: list[Block] = []

    async def block(self) -> Block | None:
        """The next block, not taken yet; None at the last stable offset."""
        while not self._blocks:
            blocks, following = await self.reader.read(self.place, self.offset)
            if not blocks and following == self.offset:
                return None
            self._blocks = list(blocks)
            self.offset = following if not blocks else self.offset
            if blocks:
                self._following = following
        return self._blocks[0]

    def drop(self) -> None:
        """The block is used."""
        used = self._blocks.pop(0)
        self.offset = self._blocks[0].first_offset if self._blocks else max(self._following, used.next_offset)


MARK = FORWARDED_FROM.encode()


def forwarded_from(record: Record) -> tuple[int, int] | None:
    """Partition and offset a record was forwarded from; None for one that was not, or that only claims so."""
    content = next((content for name, content in record.headers if name == MARK), None)
    partition, slash, offset = (content or b"").partition(b"/")
    return (int(partition), int(offset)) if slash and partition.isdigit() and offset.isdigit() else None


class InputRange(Source):
    """The records of an input as batches cut them. `forwarded`: source partition -> (least offset there, offset here)."""

    def __init__(self, reader: Reader, place: Place, offset: int) -> None:
        super().__init__(reader, place, offset)
        self.forwarded: dict[int, tuple[int, int]] = {}

    def _note_forwarded(self, block: Block, start: int, end: int) -> None:
        if MARK not in block.body:
            return
        for record in records_in(block):
            source = forwarded_from(record) if start <= record.offset < end else None
            if source is not None:
                known = self.forwarded.get(source[0], (source[1], record.offset))
                self.forwarded[source[0]] = min(known, (source[1], record.offset))

    async def take(self, start: int, end: int, batch: int) -> Records:
        """Records with offsets from `start` to before `end`. Raises `Difference` where the log ends before it does."""
        if self.offset > start or not self._blocks:
            self._blocks, self.offset = [], start
        blocks: list[Block] = []
        while self.offset < end:
            block = await self.block()
            if block is None:
                raise Difference(
                    f"{self.place}: ends at offset {self.offset}; batch {batch} of the journal has read up to {end}"
                )
            if block.first_offset >= end:
                break
            blocks.append(block)
            self._note_forwarded(block, start, end)
            if block.next_offset > end:
                break  # a part of it belongs to the next batch
            self.drop()
        return cut(blocks, start, end)


def cut(blocks: Sequence[Block], start: int, end: int) -> Records:
    if not blocks:
        return records_of([])
    records, _ = records_from_blocks(blocks, start)
    count = int(np.searchsorted(records.offsets, end))
    if count == records.count:
        return records
    spans = (records.starts, records.ends, records.offsets, records.key_starts, records.key_ends)
    return Records(records.buffer, *(span[:count] for span in spans))


@dataclass(frozen=True, slots=True)
class Line:
    """A journal line and where it lies."""

    offset: int
    raw: bytes


class JournalLines(Source):
    """Journal lines, one at a time."""

    def __init__(self, reader: Reader, place: Place, offset: int) -> None:
        super().__init__(reader, place, offset)
        self._lines: list[Line] = []

    async def next(self) -> Line | None:
        while not self._lines:
            start = self.offset
            block = await self.block()
            if block is None:
                return None
            records, _ = records_from_blocks([block], start)
            self._lines = [Line(int(records.offsets[k]), records.raw(k)) for k in range(records.count)]
            self.drop()
        return self._lines.pop(0)


async def last_line(reader: Reader, place: Place, start: int, end: int) -> Line | None:
    """The last line before `end`, found from behind."""
    back = 16
    while end > start:
        lines = JournalLines(reader, place, max(start, end - back))
        found: Line | None = None
        while lines.offset < end or lines._lines:
            line = await lines.next()
            if line is None:
                break
            found = line if line.offset < end else found
        if found is not None or end - back <= start:
            return found
        back *= 8
    return None


class OutputStream(Source):
    """An output of one partition, compared with what each batch must have written.

    Where retention has taken its beginning, comparison sets in with the first record that is left.
    """

    def __init__(self, reader: Reader, place: Place, start: int) -> None:
        super().__init__(reader, place, start)
        self.gone_before = start if start > 0 else 0  # offset of the first record left, until it is found in a batch
        self.first = start
        self.compared = 0
        self.passed = 0  # records the replay gives that retention has taken
        self.seeking = False  # the batches before are not replayed: begin at the first record of those that are

    async def compare(self, bodies: Sequence[Body], batch: int) -> None:
        """Raises `Difference` at the first record that is not what the batch wrote."""
        expected = list(bodies)
        if self.seeking and expected:
            await self._seek(records_of_bodies(expected)[0], batch)
        elif self.gone_before:
            await self._compare_records(records_of_bodies(expected), batch)
            return
        while expected:
            block = await self._whole_block()
            if block is None or (block.body, block.count) != expected[0]:
                await self._compare_records(records_of_bodies(expected), batch)
                return
            self.compared += block.count
            self.drop()
            del expected[0]

    async def _whole_block(self) -> Block | None:
        block = await self.block()
        return None if block is None or block.first_offset < self.first else block

    async def _compare_records(self, expected: Sequence[Record], batch: int) -> None:
        expected = await self._behind_the_gap(expected)
        at = 0
        while at < len(expected):
            block = await self.block()
            if block is None:
                raise Difference(
                    f"{self.place}: ends at offset {self.offset}; batch {batch} wrote {len(expected) - at} more, the first is "
                    f"{shown(expected[at].value)}"
                )
            found = [record for record in records_in(block) if record.offset >= self.first]
            for k, record in enumerate(found):
                if at == len(expected):
                    self._keep(record)
                    return
                if not record.same(expected[at]):
                    behind = [*found[k + 1 :], *await self._records_behind()]
                    raise Difference(difference_of(self.place, batch, record, expected[at], expected[at + 1 :], behind))
                at += 1
                self.compared += 1
            self.drop()

    async def _records_behind(self) -> list[Record]:
        """Of the next block, to tell a record too many from a changed one."""
        self.drop()
        block = await self.block()
        return [] if block is None else list(records_in(block))

    def _keep(self, record: Record) -> None:
        """The rest of a block belongs to the next batch."""
        self.first = record.offset

    async def _seek(self, wanted: Record, batch: int) -> None:
        while (block := await self.block()) is not None:
            for record in records_in(block):
                if record.offset >= self.first and record.same(wanted):
                    self.seeking, self.gone_before, self.first = False, 0, record.offset
                    return
            self.drop()
        raise Difference(f"{self.place}: nowhere holds the first record of batch {batch}: {shown(wanted.value)}")

    async def _behind_the_gap(self, expected: Sequence[Record]) -> Sequence[Record]:
        """What of a batch retention has left, when it has taken the beginning of the topic."""
        if not self.gone_before:
            return expected
        block = await self.block()
        first = next((r for r in records_in(block) if r.offset >= self.first), None) if block is not None else None
        for k, record in enumerate(expected):
            if first is not None and record.same(first):
                self.passed, self.gone_before = self.passed + k, 0
                return expected[k:]
        self.passed += len(expected)
        return ()

    async def left(self, end: int) -> Record | None:
        """The first record before `end` that no batch has written; None while no batch replayed has written any."""
        if self.seeking:
            return None
        while True:
            block = await self.block()
            if block is None or block.first_offset >= end:
                return None
            for record in records_in(block):
                if self.first <= record.offset < end:
                    return record
            self.drop()


def difference_of(
    place: Place, batch: int, found: Record, wanted: Record, then: Sequence[Record], behind: Sequence[Record]
) -> str:
    """What is wrong with a record, in the words that fit: gone, too many, in another order, or changed."""
    where = f"{place} offset {found.offset}, batch {batch}"
    if any(found.same(later) for later in then):
        if any(wanted.same(later) for later in behind):
            return f"{where}: records have changed places: found {shown(found.value)}, expected {shown(wanted.value)} first"
        return f"{where}: the record before it is missing: found {shown(found.value)}, expected {shown(wanted.value)}"
    if any(wanted.same(later) for later in behind):
        return f"{where}: found a record that the replay does not give: {shown(found.value)}"
    if found.key != wanted.key:
        return f"{where}: the key is {shown(found.key)}, the replay gives {shown(wanted.key)}"
    if found.headers != wanted.headers:
        return f"{where}: the headers are {list(found.headers)}, the replay gives {list(wanted.headers)}"
    return f"{where}{field_difference(found.value, wanted.value)}"


class ForwardedStream(Source):
    """What one partition has forwarded to another: records of the other's input that say so in their header."""

    def __init__(self, reader: Reader, place: Place, start: int, source: int) -> None:
        super().__init__(reader, place, start)
        self.source, self.start = source, start
        self._waiting: list[Record] = []
        self.compared = 0
        self._gap = start > 0

    async def next(self) -> Record | None:
        """The next record forwarded from `source`, not taken yet."""
        while not self._waiting:
            block = await self.block()
            if block is None:
                return None
            if MARK in block.body:
                self._waiting = [r for r in records_in(block) if r.offset >= self.start and self._mine(r)]
            self.drop()
        return self._waiting[0]

    def _mine(self, record: Record) -> bool:
        source = forwarded_from(record)
        return source is not None and source[0] == self.source

    async def compare(self, bodies: Sequence[Body], batch: int) -> None:
        for wanted in records_of_bodies(bodies):
            found = await self.next()
            if self._gap and (found is None or not found.same(wanted)):
                continue  # taken by retention
            self._gap = False
            if found is None:
                raise Difference(
                    f"{self.place}: does not hold what batch {batch} of partition {self.source} forwarded: {shown(wanted.value)}"
                )
            if not found.same(wanted):
                raise Difference(difference_of(self.place, batch, found, wanted, (), self._waiting[1:]))
            self._waiting.pop(0)
            self.compared += 1


def too_many(stream: OutputStream | ForwardedStream, record: Record) -> str:
    return f"{stream.place} offset {record.offset}: no batch has written this record: {shown(record.value)}"


def parsed(where: str, line: Line) -> dict[str, Any]:
    """A journal line as an object."""
    try:
        value = orjson.loads(line.raw)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise Difference(f"{where} offset {line.offset}: not a journal line any more: {shown(line.raw)}")
    return value
