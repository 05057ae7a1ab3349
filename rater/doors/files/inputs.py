"""Files of call records and commands -> batches of records, cut at the same places however often a run is interrupted.

A batch is the next N lines of the stream of all files; where it ends depends on nothing but the bytes. A place in the
stream is (file, bytes of it consumed after decompression), or for a source (file, records consumed).
"""

import gzip
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import numpy as np

from rater.core.reasons import REASON_OF_TEXT
from rater.core.words import PADDING
from rater.pipeline import Records, SourceFault, records_of
from rater.sources import Assembling, Source, SourceRecord

Array = np.ndarray[Any, Any]

READ_BYTES = 8 << 20
LINE_FEED, CARRIAGE_RETURN = 10, 13
HEAD_BYTES = 1 << 16
STANDARD_INPUT = "-"
GZIP_MAGIC = b"\x1f\x8b"


class InputProblem(Exception):
    """An input file cannot be read; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Place:
    """How far a stream was read: `file` counts from 0, `done` is bytes (lines) or records (source) of that file."""

    file: int = 0
    done: int = 0


@dataclass(slots=True)
class Piece:
    """One batch of a stream: the records, where the stream stands after them, and what was passed over."""

    records: Records
    after: Place
    blank_lines: int = 0
    raw_bytes: int = 0
    faults: dict[int, SourceFault] = field(default_factory=dict)
    skipped: int = 0


def open_input(name: str) -> IO[bytes]:
    """A file, a gzip file (by its first two bytes), or standard input."""
    if name == STANDARD_INPUT:
        zipped = cast(BufferedReader, sys.stdin.buffer).peek(2)[:2] == GZIP_MAGIC
        return cast(IO[bytes], gzip.open(sys.stdin.buffer, "rb")) if zipped else sys.stdin.buffer
    try:
        stream = Path(name).open("rb")  # noqa: SIM115  # the stream outlives this function
        magic = stream.read(2)
        stream.seek(0)
    except OSError as error:
        raise InputProblem(f"{name}: {error.strerror or error}") from None
    return cast(IO[bytes], gzip.open(stream, "rb")) if magic == GZIP_MAGIC else stream


def identity_of(name: str) -> dict[str, Any]:
    """What tells a file from another of the same name: its size and a checksum of its first 64 KiB."""
    if name == STANDARD_INPUT:
        return {"name": name}
    path = Path(name)
    try:
        with path.open("rb") as stream:
            head = zlib.crc32(stream.read(HEAD_BYTES))
        return {"name": str(path.resolve()), "size": path.stat().st_size, "head": head}
    except OSError as error:
        raise InputProblem(f"{name}: {error.strerror or error}") from None


def read_some(stream: IO[bytes], size: int, name: str) -> bytes:
    try:
        return stream.read(size)
    except (OSError, EOFError, zlib.error) as error:
        raise InputProblem(f"{name}: cannot be read further: {error}") from None


def skip_bytes(stream: IO[bytes], count: int, name: str) -> None:
    """Pass over what an earlier, interrupted run has committed."""
    if stream.seekable():
        stream.seek(count)
        return
    while count:
        chunk = read_some(stream, min(count, READ_BYTES), name)
        if not chunk:
            if count == 1:  # the last line had no line feed of its own
                return
            raise InputProblem(f"{name}: ends before the place where the interrupted run stopped")
        count -= len(chunk)


def _lines_to_records(data: bytearray, feeds: Array, first_offset: int) -> tuple[Records, int]:
    """Records of the lines that `feeds` (places of line feeds) end; blank lines are left out and counted."""
    used = int(feeds[-1]) + 1 if feeds.size else 0
    buffer = np.zeros(used + PADDING, np.uint8)
    buffer[:used] = np.frombuffer(data, np.uint8, used)
    starts = np.empty(feeds.size, np.int64)
    if feeds.size:
        starts[0] = 0
        starts[1:] = feeds[:-1] + 1
    ends = feeds.astype(np.int64)
    ends = ends - ((ends > starts) & (buffer[np.maximum(ends - 1, 0)] == CARRIAGE_RETURN))
    keep = ends > starts
    for k in np.flatnonzero(keep & (buffer[starts] <= 32)):
        keep[k] = bool(data[starts[k] : ends[k]].strip(b" \t\r\n"))
    blank = int(feeds.size - np.count_nonzero(keep))
    starts, ends = starts[keep], ends[keep]
    none = np.full(starts.size, -1, np.int64)
    offsets = np.arange(first_offset, first_offset + starts.size, dtype=np.int64)
    return Records(buffer, starts, ends, offsets, none, none), blank


class LineStream:
    """Lines of several files, a batch at a time."""

    def __init__(self, names: list[str], lines_max: int, bytes_max: int, start: Place, first_offset: int) -> None:
        self._names, self._lines_max, self._bytes_max = names, lines_max, bytes_max
        self._place, self._offset = start, first_offset

    def pieces(self) -> Iterator[Piece]:
        data = bytearray()  # lines not handed out yet, each ended by a line feed
        marks: list[tuple[int, Place]] = []  # (place in data, place in the stream) where a file's bytes begin
        feeds = np.zeros(0, np.int64)
        for number in range(self._place.file, len(self._names)):
            name = self._names[number]
            done = self._place.done if number == self._place.file else 0
            stream = open_input(name)
            try:
                if done:
                    skip_bytes(stream, done, name)
                marks.append((len(data), Place(number, done)))
                ended = False
                while not ended:
                    chunk = read_some(stream, READ_BYTES, name)
                    ended = not chunk
                    fresh = len(data)
                    data += chunk
                    if ended and len(data) > marks[-1][0] and data[-1] != LINE_FEED:
                        data.append(LINE_FEED)
                    new = np.flatnonzero(np.frombuffer(data, np.uint8)[fresh:] == LINE_FEED) + fresh
                    feeds = np.concatenate([feeds, new])
                    while True:
                        cut = self._cut(feeds)
                        if cut == 0:
                            break
                        piece, used = self._piece(data, feeds[:cut], marks)
                        yield piece
                        data = data[used:]
                        feeds = feeds[cut:] - used
                        last = [m for m in marks if m[0] <= used][-1]
                        moved = Place(last[1].file, last[1].done + used - last[0])
                        marks = [(0, moved)] + [(at - used, place) for at, place in marks if at > used]
            finally:
                if name != STANDARD_INPUT:
                    stream.close()
        if feeds.size:
            piece, _ = self._piece(data, feeds, marks)
            piece.after = Place(len(self._names), 0)
            yield piece

    def _cut(self, feeds: Array) -> int:
        """How many of the lines make a whole batch; 0 when more must be read first."""
        if feeds.size == 0:
            return 0
        fit = int(np.searchsorted(feeds, self._bytes_max, "right"))
        if fit < feeds.size:
            return min(max(fit, 1), self._lines_max)
        return self._lines_max if feeds.size >= self._lines_max else 0

    def _piece(self, data: bytearray, feeds: Array, marks: list[tuple[int, Place]]) -> tuple[Piece, int]:
        used = int(feeds[-1]) + 1
        records, blank = _lines_to_records(data, feeds, self._offset)
        self._offset += records.count
        at, place = [m for m in marks if m[0] < used][-1]
        after = Place(place.file, place.done + used - at)
        return Piece(records, after, blank, used), used


class SourceStream:
    """Records of a switch's own files, made canonical, a batch at a time.

    A source that keeps calls open reads all files as one object, and what is open after the last file ends there: a
    run of `rate` does not know whether there will be another, so such calls are rejected with all their parts and may
    be sent again. An interrupted run begins at the first file once more and passes over what it has handed out, since
    the calls that were open are nowhere but in the files; the same bytes are read to the same records.
    """

    def __init__(
        self, names: list[str], open_source: Callable[[], Source], records_max: int, start: Place, first_offset: int
    ) -> None:
        self._names, self._open, self._max = names, open_source, records_max
        self._place, self._offset = start, first_offset

    def _numbered(self) -> Iterator[tuple[SourceRecord, Place]]:
        source = self._open()
        assembling = source if isinstance(source, Assembling) else None
        for number in range(0 if assembling else self._place.file, len(self._names)):
            stream = open_input(self._names[number])
            reader = assembling or self._open()
            yield from self._unread(number, reader.read(cast(BinaryIO, stream)))
            if self._names[number] != STANDARD_INPUT:
                stream.close()
        if assembling:
            yield from self._unread(len(self._names), assembling.close())

    def _unread(self, number: int, records: Iterator[SourceRecord]) -> Iterator[tuple[SourceRecord, Place]]:
        """The records of one file that an interrupted run has not handed out; the end counts as a file of its own."""
        for count, record in enumerate(records, 1):
            place = Place(number, count)
            if (number, count) > (self._place.file, self._place.done):
                yield record, place

    def pieces(self) -> Iterator[Piece]:
        raws: list[bytes] = []
        faults: dict[int, SourceFault] = {}
        taken, skipped, after = 0, 0, self._place
        for record, place in self._numbered():
            taken, after = taken + 1, place
            if record.canonical is not None:
                raws.append(record.canonical)
            elif record.reason:
                faults[len(raws)] = SourceFault(record.raw, REASON_OF_TEXT[record.reason], record.detail)
                raws.append(record.raw)
            else:
                skipped += 1
            if taken == self._max:
                yield self._piece(raws, faults, after, skipped)
                raws, faults, taken, skipped = [], {}, 0, 0
        if taken:
            yield self._piece(raws, faults, Place(len(self._names) + 1, 0), skipped)

    def _piece(self, raws: list[bytes], faults: dict[int, SourceFault], after: Place, skipped: int) -> Piece:
        records = records_of(raws, self._offset)
        self._offset += records.count
        return Piece(records, after, 0, sum(map(len, raws)), faults, skipped)
