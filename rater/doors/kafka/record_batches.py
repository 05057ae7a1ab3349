"""Kafka's record batches, format 2: stored bytes -> batches -> records in one buffer, and records -> bodies.

A fetch returns batches as they lie in the log: a header of 61 bytes, then the body, which is the records one behind the
other, compressed as one piece if at all. A header is read in Python, a body by a kernel: no Python object per record.
Whatever a length in a body claims is checked against the end of its record before it is believed, so bytes that are
damaged (or written by somebody who means harm) end in `CorruptBatch`, never in a read beyond the buffer.

Bodies are the unit of writing, too: what `Block.body` holds and what `Writer.write` takes. Ours carry deltas from 0, the
batch's own time and no headers; the few records with headers (`frame_few`) are framed in Python.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Generic, TypeVar

import numpy as np
from aiokafka.record.util import encode_varint

from rater.contract.records import Records
from rater.core.compiled import kernel
from rater.core.words import PADDING, copy_bytes
from rater.doors.kafka.checksum import crc32c
from rater.doors.kafka.compression import DECOMPRESSED_BYTES_MAX, NotDecompressed, decompressed
from rater.doors.kafka.log import Block, LogProblem

Array = np.ndarray[Any, Any]
U8 = np.uint64

# base offset, length after it, leader epoch, magic, CRC, attributes, last offset delta, base and largest timestamp,
# producer id, epoch, base sequence, count
HEADER = struct.Struct(">qiibIhiqqqhii")
CHECKED = struct.Struct(">hiqqqhii")  # the part of the header that the CRC covers, with the body
PREFIX = struct.Struct(">qiibI")
AFTER_LENGTH = 12  # the length counts from here
MAGIC = 2
CODEC, APPEND_TIME, TRANSACTIONAL, CONTROL = 0x07, 0x08, 0x10, 0x20

RECORD_BYTES_MIN = 7  # length, attributes, two deltas, key, value, headers: a byte each
BODY_BYTES_MAX = 900_000  # below a broker's usual `max.message.bytes` of 1 MiB, with its header and some room
# Of one kind, to topics of our own, which take 16 MiB (`topics.py`). A request holds one batch for a place, and each costs
# the event loop a quarter of a millisecond: at full load a transaction has 11 MB of rated calls.
OWN_BYTES_MAX = 4_000_000


class CorruptBatch(LogProblem):
    """Stored bytes that are not what Kafka's record format promises."""


class Marker(IntEnum):
    """How a transaction ended, as its control record says."""

    ABORT = 0
    COMMIT = 1


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as stored: its header, and the body still compressed (an aborted one need never be inflated)."""

    base_offset: int
    last_offset_delta: int
    count: int
    attributes: int
    base_timestamp_ms: int
    max_timestamp_ms: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    stored: memoryview

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.last_offset_delta + 1

    @property
    def transactional(self) -> bool:
        return bool(self.attributes & TRANSACTIONAL)

    @property
    def control(self) -> bool:
        return bool(self.attributes & CONTROL)

    @property
    def codec(self) -> int:
        return self.attributes & CODEC

    def body(self, bytes_max: int = DECOMPRESSED_BYTES_MAX) -> bytes:
        """The records, decompressed. Raises `CorruptBatch`, also for a body of more than `bytes_max`."""
        try:
            return decompressed(self.codec, self.stored, bytes_max)
        except NotDecompressed as problem:
            raise CorruptBatch(f"batch at offset {self.base_offset}: {problem}") from problem

    def block(self, bytes_max: int = DECOMPRESSED_BYTES_MAX) -> Block:
        """What readers get. Where the topic stamps records at the append, that is the batch's time."""
        time_ms = self.max_timestamp_ms if self.attributes & APPEND_TIME else self.base_timestamp_ms
        return Block(self.base_offset, self.next_offset, self.count, self.body(bytes_max), time_ms)

    def marker(self) -> Marker | None:
        """Of a control batch: commit or abort; None for a kind that is no transaction's end."""
        key = records_from_blocks([self.block()], self.base_offset)[0].key(0) if self.count else None
        if key is None or len(key) < 4:
            raise CorruptBatch(f"control batch at offset {self.base_offset}: expected a key of version and type")
        kind = int.from_bytes(key[2:4], "big")
        return Marker(kind) if kind in (Marker.ABORT, Marker.COMMIT) else None


def read_batches(raw: bytes | memoryview) -> Iterator[Batch]:
    """The batches of a fetched record set, each checked by its CRC.

    A broker cuts a response where it is full: a last batch that is not whole is left out. Raises `CorruptBatch`.
    """
    view = memoryview(raw)
    at = 0
    while len(view) - at >= HEADER.size:
        header = HEADER.unpack_from(view, at)
        base_offset, length, _, magic, crc = header[:5]
        if magic != MAGIC:
            raise CorruptBatch(
                f"batch at offset {base_offset}: found record format {magic}, expected {MAGIC}; "
                "rewrite the topic with a producer of Kafka 0.11 or later"
            )
        end = at + AFTER_LENGTH + length
        if end < at + HEADER.size:
            raise CorruptBatch(f"batch at offset {base_offset}: found length {length}, expected at least a header's")
        if end > len(view):
            return
        found = crc32c(bytes(view[at + PREFIX.size : at + HEADER.size]), view[at + HEADER.size : end])
        if found != crc:
            raise CorruptBatch(
                f"batch at offset {base_offset}: its CRC is {found:08x}, its header says {crc:08x}; the bytes were "
                "changed on the broker's disk or on the way: read another replica"
            )
        yield batch_of(header, view[at + HEADER.size : end])
        at = end


def batch_of(header: tuple[Any, ...], stored: memoryview) -> Batch:
    base_offset, _, _, _, _, attributes, last, first_ms, max_ms, producer, epoch, sequence, count = header
    if count < 0 or last < max(count - 1, 0):
        raise CorruptBatch(f"batch at offset {base_offset}: found {count} records up to offset delta {last}")
    return Batch(base_offset, last, count, attributes, first_ms, max_ms, producer, epoch, sequence, stored)


def batch_bytes(
    body: bytes,
    count: int,
    timestamp_ms: int,
    *,
    base_offset: int = 0,
    attributes: int = 0,
    producer: tuple[int, int, int] = (-1, -1, -1),
) -> bytes:
    """A whole batch around a body, which is `packed` already: its codec is an attribute. `producer`: id, epoch, base sequence."""
    rest = CHECKED.pack(attributes, max(count - 1, 0), timestamp_ms, timestamp_ms, *producer, count)
    length = HEADER.size - AFTER_LENGTH + len(body)
    prefix = PREFIX.pack(base_offset, length, -1, MAGIC, crc32c(rest, body))
    return b"".join((prefix, rest, body))


# ------------------------------------------------------------------------------------------------ reading records

BLOCK_COLUMNS = 6
START, END, COUNT, FIRST, NEXT, TIME = range(BLOCK_COLUMNS)
BROKEN = 1 << 62  # a place after every end: what a varint that does not end is followed by
TIME_MAX = 1 << 61  # a producer may write any time; two beyond this could not be added


@kernel
def varint(buffer: Any, at: Any, end: Any) -> Any:
    """(value, place after it); `BROKEN` as that place where the number does not end before `end`."""
    value, shift = U8(0), 0
    while at < end and shift < 70:
        byte = U8(buffer[U8(at)])
        at += 1
        value |= (byte & U8(127)) << U8(shift)
        if byte < U8(128):
            return np.int64(value >> U8(1)) ^ -np.int64(value & U8(1)), at
        shift += 7
    return np.int64(0), BROKEN


@kernel
def span(buffer: Any, at: Any, end: Any) -> Any:
    """(start, end) of bytes behind their length; start -1 for null (and its end is where to go on), `BROKEN` as end."""
    length, at = varint(buffer, at, end)
    if length < 0:
        return np.int64(-1), at
    if length > end - at:
        return at, BROKEN
    return at, at + length


@kernel
def scan_blocks(
    buffer: Any, blocks: Any, first_offset: Any,
    starts: Any, ends: Any, offsets: Any, key_starts: Any, key_ends: Any, times: Any,
) -> Any:  # fmt: skip
    """Note where each record from `first_offset` on lies: (records noted, -1, 0), or (_, block, place) of a fault."""
    found = 0
    for block in range(blocks.shape[0]):
        at, end = blocks[block, START], blocks[block, END]
        last = np.int64(-1)
        for _ in range(blocks[block, COUNT]):
            place = at
            length, at = varint(buffer, at, end)
            if length < 0 or length > end - at:
                return found, block, place
            record_end = at + length
            delta_ms, at = varint(buffer, at + 1, record_end)  # behind a byte of attributes, of which none is in use
            delta, at = varint(buffer, at, record_end)
            key_start, key_end = span(buffer, at, record_end)
            start, value_end = span(buffer, key_end, record_end)
            headers, at = varint(buffer, value_end, record_end)
            # headers are skipped, of at least two bytes each; without them a record ends here
            if at > record_end or headers < 0 or headers > record_end - at or (headers == 0 and at != record_end):
                return found, block, place
            # offsets rise within a batch and stay inside it
            if delta <= last or delta >= blocks[block, NEXT] - blocks[block, FIRST]:
                return found, block, place
            last, at = delta, record_end
            offset = blocks[block, FIRST] + delta
            if offset >= first_offset:
                to = U8(found)
                starts[to] = start if start >= 0 else value_end
                ends[to] = value_end
                offsets[to] = offset
                key_starts[to], key_ends[to] = key_start, key_end
                times[to] = blocks[block, TIME] + (delta_ms if -TIME_MAX < delta_ms < TIME_MAX else 0)
                found += 1
        if at != end:
            return found, block, at
    return found, -1, 0


def records_from_blocks(blocks: Sequence[Block], first_offset: int) -> tuple[Records, Array]:
    """Records of these blocks whose offset is at least `first_offset`, in one buffer, and their times (int64 ms).

    A null value is an empty record. Raises `CorruptBatch`, saying which batch.
    """
    table, buffer = joined(blocks)
    columns = np.empty((BLOCK_COLUMNS, int(table[:, COUNT].sum())), np.int64)
    found, block, place = scan_blocks(buffer, table, first_offset, *columns)
    if block >= 0:
        at = int(place) - int(table[block, START])
        raise CorruptBatch(
            f"batch at offset {blocks[block].first_offset}: byte {at} of its {len(blocks[block].body)} decompressed bytes "
            f"does not begin a record, with {blocks[block].count} records expected; whoever wrote it does not keep to Kafka's format"
        )
    starts, ends, offsets, key_starts, key_ends, times = columns[:, :found]
    return Records(buffer, starts, ends, offsets, key_starts, key_ends), times


def joined(blocks: Sequence[Block]) -> tuple[Array, Array]:
    """A row of columns `START`... for each block, and all bodies in one padded buffer."""
    table = np.empty((len(blocks), BLOCK_COLUMNS), np.int64)
    at = 0
    for place, block in enumerate(blocks):
        size = len(block.body)
        if not 0 <= block.count <= size // RECORD_BYTES_MIN:
            raise CorruptBatch(
                f"batch at offset {block.first_offset}: found a count of {block.count} records in {size} decompressed bytes"
            )
        time_ms = max(min(block.timestamp_ms, TIME_MAX), -TIME_MAX)
        table[place] = at, at + size, block.count, block.first_offset, block.next_offset, time_ms
        at += size
    buffer = np.empty(at + PADDING, np.uint8)
    for place, block in enumerate(blocks):
        buffer[table[place, START] : table[place, END]] = np.frombuffer(block.body, np.uint8)
    buffer[at:] = 0
    return table, buffer


# ------------------------------------------------------------------------------------------------ writing records


@kernel
def varint_size(value: Any) -> Any:
    """Bytes of a number that is not below -1."""
    rest, size = value << 1, 1
    while rest >= 128:
        rest >>= 7
        size += 1
    return size


@kernel
def put_varint(out: Any, at: Any, value: Any) -> Any:
    """A number that is not below -1."""
    rest = value << 1 if value >= 0 else 1
    while rest >= 128:
        out[U8(at)] = (rest & 127) | 128
        at += 1
        rest >>= 7
    out[U8(at)] = rest
    return at + 1


@kernel
def frame(
    out: Any, at: Any, delta0: Any,
    key_buffer: Any, key_starts: Any, key_ends: Any, value_buffer: Any, value_starts: Any, value_ends: Any,
    first: Any, last: Any,
) -> Any:  # fmt: skip
    """Write records `first` to `last` (not included) into `out` from `at`, their offset deltas from `delta0` on.

    Returns the next free place and the first record that had no room. A start of -1 is null, of key or value.
    """
    delta = delta0
    for k in range(first, last):
        place = U8(k)
        key_start, value_start = key_starts[place], value_starts[place]
        key_size = key_ends[place] - key_start if key_start >= 0 else -1
        value_size = value_ends[place] - value_start if value_start >= 0 else -1
        # attributes, time and header count are a byte each, and zero
        size = 3 + varint_size(delta) + varint_size(key_size) + varint_size(value_size)
        size += max(key_size, 0) + max(value_size, 0)
        if at + varint_size(size) + size > out.size:
            return at, k
        at = put_varint(out, at, size)
        out[U8(at)], out[U8(at + 1)] = 0, 0
        at = put_varint(out, at + 2, delta)
        at = put_varint(out, at, key_size)
        if key_size > 0:
            copy_bytes(out, at, key_buffer, key_start, key_size)
            at += key_size
        at = put_varint(out, at, value_size)
        if value_size > 0:
            copy_bytes(out, at, value_buffer, value_start, value_size)
            at += value_size
        out[U8(at)] = 0
        at += 1
        delta += 1
    return at, last


FRAME_OVERHEAD_MAX = 64  # of a record: five numbers of at most ten bytes, and some
Spans = tuple[Array, Array, Array, Array, Array, Array]


Kept = TypeVar("Kept")
Keep = Callable[[bytes | memoryview], Kept]  # what stays of a finished body


class BodyWriter(Generic[Kept]):
    """Collects records into bodies of at most `limit_bytes`; a record that is bigger alone gets a body of its own.

    One buffer serves all bodies of a writer's life: of a finished one stays what `keep` makes of it at once, for instance its bytes.
    """

    def __init__(self, keep: Keep[Kept], limit_bytes: int = OWN_BYTES_MAX) -> None:
        self._out = np.empty(limit_bytes, np.uint8)
        self.keep = keep
        self._at = 0
        self._count = 0
        self._done: list[tuple[Kept, int]] = []

    def add(
        self,
        key_buffer: Array,
        key_starts: Array,
        key_ends: Array,
        value_buffer: Array,
        value_starts: Array,
        value_ends: Array,
        first: int = 0,
        last: int | None = None,
    ) -> None:
        """Records `first` to `last` of these arrays (int64), keys and values as `frame` takes them."""
        last = int(value_starts.size) if last is None else last
        spans: Spans = (key_buffer, key_starts, key_ends, value_buffer, value_starts, value_ends)
        while first < last:
            at, reached = frame(self._out, self._at, self._count, *spans, first, last)
            self._at, self._count = int(at), self._count + int(reached) - first
            first = int(reached)
            if first == last:
                return
            if self._count:
                self._cut()
            else:
                self._add_alone(spans, first)
                first += 1

    def _add_alone(self, spans: Spans, place: int) -> None:
        _, key_starts, key_ends, _, value_starts, value_ends = spans
        size = int(key_ends[place] - key_starts[place]) + int(value_ends[place] - value_starts[place])
        out = np.empty(size + FRAME_OVERHEAD_MAX, np.uint8)
        at, _ = frame(out, 0, 0, *spans, place, place + 1)
        self._done.append((self.keep(out[: int(at)].data), 1))

    def _cut(self) -> None:
        self._done.append((self.keep(self._out[: self._at].data), self._count))
        self._at = self._count = 0

    def finish(self) -> list[tuple[Kept, int]]:
        """(body as it is kept, count of its records), in order; the writer is empty again."""
        if self._count:
            self._cut()
        done, self._done = self._done, []
        return done


Headers = Sequence[tuple[str, bytes | None]]


def frame_few(
    records: Sequence[tuple[bytes | None, bytes | None, Headers]], limit_bytes: int = BODY_BYTES_MAX
) -> list[tuple[bytes, int]]:
    """Bodies, as `BodyWriter` makes them, of a few records (key, value, headers)."""
    done: list[tuple[bytes, int]] = []
    body, count = bytearray(), 0
    for key, value, headers in records:
        framed = framed_record(count, key, value, headers)
        if count and len(body) + len(framed) > limit_bytes:
            done.append((bytes(body), count))
            body, count = bytearray(), 0
            framed = framed_record(count, key, value, headers)
        body += framed
        count += 1
    return [*done, (bytes(body), count)] if count else done


def framed_record(delta: int, key: bytes | None, value: bytes | None, headers: Headers) -> bytes:
    inside = bytearray(2)  # attributes, time delta
    encode_varint(delta, inside.append)
    put_nullable(inside, key)
    put_nullable(inside, value)
    encode_varint(len(headers), inside.append)
    for name, content in headers:
        put_nullable(inside, name.encode())
        put_nullable(inside, content)
    framed = bytearray()
    encode_varint(len(inside), framed.append)
    return bytes(framed + inside)


def put_nullable(out: bytearray, data: bytes | None) -> None:
    encode_varint(-1 if data is None else len(data), out.append)
    out += data or b""
