"""Records of one input in one buffer, and call records read into rows: the scanner first, the slow reader for the rest."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from rater.contract.reader import read_slowly
from rater.contract.scanner import UNSURE, scan
from rater.core.calls import CALL
from rater.core.reasons import InvariantBroken, Reason
from rater.core.words import PADDING, as_buffer

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Records:
    """Records of one input in one buffer: where each begins and ends, its offset, and its key where the log has keys."""

    buffer: Array  # uint8, padded
    starts: Array
    ends: Array
    offsets: Array
    key_starts: Array  # -1: no key
    key_ends: Array

    @property
    def count(self) -> int:
        return int(self.starts.size)

    def raw(self, place: int) -> bytes:
        raw: bytes = self.buffer[self.starts[place] : self.ends[place]].tobytes()
        return raw

    def key(self, place: int) -> bytes | None:
        start = int(self.key_starts[place])
        return None if start < 0 else self.buffer[start : self.key_ends[place]].tobytes()


def records_of(raws: list[bytes], first_offset: int = 0) -> Records:
    """Records from a list of bytes, without keys."""
    lengths = np.array([len(raw) for raw in raws], np.int64)
    ends = np.cumsum(lengths)
    none = np.full(len(raws), -1, np.int64)
    offsets = np.arange(first_offset, first_offset + len(raws), dtype=np.int64)
    return Records(as_buffer(b"".join(raws)), ends - lengths, ends, offsets, none, none)


@dataclass(frozen=True, slots=True)
class SourceFault:
    """A record that a source could not make canonical: it is rejected as it came."""

    raw: bytes
    reason: Reason
    detail: str


def read_calls(records: Records, faults: dict[int, SourceFault], scratch: Any) -> tuple[Any, Array]:
    """Scan a batch: (rows, buffer); the buffer grows by the canonical forms of what only the slow reader could read."""
    rows: Any = np.zeros(records.count, CALL).view(np.recarray)
    buffer = records.buffer
    unsure = scan(buffer, records.starts, records.ends, rows, 0, records.count, False, scratch)
    for place, fault in faults.items():
        unsure -= int(rows[place].reason == UNSURE)
        rows[place].reason = int(fault.reason)
    if not unsure:
        return rows, buffer
    extra: list[bytes] = []
    starts, ends = records.starts.copy(), records.ends.copy()
    used = buffer.size - PADDING
    again: list[int] = []
    for place in np.flatnonzero(rows.reason == UNSURE).tolist():
        read = read_slowly(records.raw(place))
        if isinstance(read, Reason):
            rows[place].reason = int(read)
            continue
        canonical = read[0]
        extra.append(canonical)
        starts[place], ends[place] = used, used + len(canonical)
        used += len(canonical)
        again.append(place)
    buffer = np.concatenate([buffer[: buffer.size - PADDING], as_buffer(b"".join(extra))])
    for place in again:
        # a canonical form may be longer than its record (escapes written out), so the size was judged on the record
        if scan(buffer, starts, ends, rows, place, 1, True, scratch):
            raise InvariantBroken(f"record {place} of a batch: the scanner does not read its canonical form")
    return rows, buffer
