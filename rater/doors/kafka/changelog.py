"""The changelog (`rater-state`): rows of the state as records, and records as rows again.

Key `<shelf>/<row number>`, value the row's own bytes without the zero bytes at its end; key `meta` is the watermark, once a
batch, behind the rows it speaks for. The topic is compacted: what is left of it is one record a row, the newest.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from rater.contract.journal import DIGESTS_BY, digest_of
from rater.contract.records import Records
from rater.core.compiled import kernel
from rater.core.state import SHELVES, State
from rater.core.words import copy_bytes
from rater.core.writing import put, put_int
from rater.doors.kafka.log import LogProblem
from rater.doors.kafka.record_batches import BodyWriter, Kept

Array = np.ndarray[Any, Any]

META = b"meta"
META_KEY, META_END = np.frombuffer(META, np.uint8).copy(), np.array([len(META)], np.int64)
FROM_START = np.zeros(1, np.int64)
NAMES = tuple(SHELVES)
PREFIXES = {name: np.frombuffer(f"{name}/".encode(), np.uint8).copy() for name in NAMES}
LETTERS = np.array([ord(name[0]) for name in NAMES], np.int64)  # no two shelves begin alike
PREFIX_LENGTHS = np.array([len(name) + 1 for name in NAMES], np.int64)
KEY_BYTES_MAX = max(len(name) for name in NAMES) + 20
OF_META, UNKNOWN_KEY = len(NAMES), -1
ROW_DIGITS_MAX = 12


class ChangelogProblem(LogProblem):
    """The changelog holds something that this version of rater cannot have written."""


def layout_digest() -> str:
    """What a row's bytes mean, fields, types and places of every shelf; and what the digests of state and journal are."""
    fields = [[name, dtype.itemsize, [[n, str(f[0]), f[1]] for n, f in (dtype.fields or {}).items()]]
              for name, dtype in SHELVES.items()]  # fmt: skip
    return digest_of(DIGESTS_BY.encode(), orjson.dumps(fields))


LAYOUT = layout_digest()


@dataclass(frozen=True, slots=True)
class Watermark:
    """How far a state has come: after `batch`, the next input offsets, digests of what led there, and its rows."""

    partition: int
    batch: int
    next_cdr: int
    next_command: int
    state_digest: str
    journal_digest: str
    rows: dict[str, int]
    free: dict[str, int]
    ids: int
    key: str
    decks: tuple[str, ...]
    plans: str
    layout: str = LAYOUT

    def encode(self) -> bytes:
        # not `asdict`, which copies every name and number: a tenth of a millisecond a batch
        return orjson.dumps({"v": 1} | {name: getattr(self, name) for name in self.__slots__})


def decode_watermark(raw: bytes, where: str) -> Watermark:
    try:
        fields = orjson.loads(raw)
    except orjson.JSONDecodeError:
        fields = None
    if not isinstance(fields, dict):
        raise ChangelogProblem(f"{where}: the watermark is not a JSON object: {raw[:60]!r}")
    version = fields.pop("v", None)
    if version != 1:
        raise ChangelogProblem(f"{where}: a watermark of version {version}; this rater reads version 1")
    if fields.get("layout") != LAYOUT:
        raise ChangelogProblem(
            f"{where}: rows of layout {fields.get('layout')}; this rater reads layout {LAYOUT}. Run the version that wrote them, or "
            "rate the inputs again under a new RATER_APP_ID and RATER_TOPIC_PREFIX"
        )
    if fields.keys() != FIELDS or not all(_of_every_shelf(fields[name]) for name in ("rows", "free")):
        raise ChangelogProblem(f"{where}: a watermark with other fields than rater's: {' '.join(sorted(fields))}")
    if not isinstance(fields["decks"], list):
        raise ChangelogProblem(f"{where}: a watermark whose decks are {fields['decks']!r}; expected a list of versions")
    return Watermark(**{**fields, "decks": tuple(fields["decks"])})


def _of_every_shelf(counts: Any) -> bool:
    return isinstance(counts, dict) and counts.keys() == SHELVES.keys()


FIELDS = frozenset(Watermark.__dataclass_fields__)


def flat(rows: Array) -> Array:
    """Rows as one run of bytes, the same memory."""
    return rows.view(np.ndarray).view(np.uint8).reshape(-1)


# ------------------------------------------------------------------------------------------------ rows -> records


@kernel
def span_rows(
    rows: Any, size: Any, changed: Any, prefix: Any, keys: Any, key_starts: Any, key_ends: Any, starts: Any, ends: Any
) -> None:
    """Where the value of each changed row lies in `rows` (bytes), and its key, written into `keys`."""
    at = 0
    for k in range(changed.size):
        row = changed[k]
        key_starts[k] = at
        at = put(keys, at, prefix)
        at = put_int(keys, at, row)
        key_ends[k] = at
        start = row * size
        end = start + size
        while end > start and rows[end - 1] == 0:
            end -= 1
        starts[k], ends[k] = start, end


def write_changes(state: State, watermark: Watermark, writer: BodyWriter[Kept]) -> list[tuple[Kept, int]]:
    """Bodies for `rater-state`: every row changed since the last commit, then the watermark."""
    for name, changed in state.changed().items():
        if not changed.size:
            continue
        rows = flat(state.shelves[name].rows)
        keys = np.empty(changed.size * KEY_BYTES_MAX, np.uint8)
        spans = np.empty((4, changed.size), np.int64)
        span_rows(rows, SHELVES[name].itemsize, changed, PREFIXES[name], keys, *spans)
        writer.add(keys, spans[0], spans[1], rows, spans[2], spans[3])
    meta = np.frombuffer(watermark.encode(), np.uint8).copy()
    writer.add(META_KEY, FROM_START, META_END, meta, FROM_START, np.array([meta.size], np.int64))
    return writer.finish()


# ------------------------------------------------------------------------------------------------ records -> rows


@kernel
def read_keys(buffer: Any, key_starts: Any, key_ends: Any, letters: Any, lengths: Any, shelves: Any, rows: Any) -> Any:
    """Shelf and row number of each record; the first record whose key is neither a row nor `meta`, or -1."""
    for k in range(key_starts.size):
        at, end = key_starts[k], key_ends[k]
        shelves[k], rows[k] = UNKNOWN_KEY, 0
        if at < 0 or end - at < 3:
            return k
        if end - at == 4 and buffer[at] == 109:  # "meta"; no shelf begins with m
            shelves[k] = OF_META
            continue
        for shelf in range(letters.size):
            if buffer[at] == letters[shelf]:
                shelves[k] = shelf
        if shelves[k] < 0:
            return k
        at += lengths[shelves[k]]
        if at >= end or end - at > ROW_DIGITS_MAX or buffer[at - 1] != 47:
            return k
        while at < end:
            digit = np.int64(buffer[at]) - 48
            if digit < 0 or digit > 9:
                return k
            rows[k] = rows[k] * 10 + digit
            at += 1
    return -1


@kernel
def lay_rows(
    buffer: Any, starts: Any, ends: Any, shelves: Any, numbers: Any, shelf: Any, rows: Any, size: Any, present: Any
) -> Any:
    """Copy the records of one shelf to their rows; the first record that is longer than a row, or -1."""
    for k in range(starts.size):
        if shelves[k] != shelf:
            continue
        length = ends[k] - starts[k]
        if length > size:
            return k
        at = numbers[k] * size
        copy_bytes(rows, at, buffer, starts[k], length)
        for place in range(at + length, at + size):
            rows[place] = 0
        present[numbers[k]] = 1
    return -1


class RowsRead:
    """Shelves as they are read back, on top of an older state or of nothing."""

    def __init__(self, base: State | None, where: str) -> None:
        self.where = where
        self.count = 0
        self.watermark: Watermark | None = None
        self._flat: dict[str, Array] = {}
        self._present: dict[str, Array] = {}
        for name, dtype in SHELVES.items():
            rows = flat(base.rows(name)).copy() if base is not None else np.zeros(0, np.uint8)
            self._flat[name] = rows
            self._present[name] = np.ones(rows.size // dtype.itemsize, np.uint8)

    def take(self, records: Records) -> None:
        """Records in the order of the log: a later row replaces an earlier one."""
        if not records.count:
            return
        shelves, numbers = np.empty(records.count, np.int64), np.empty(records.count, np.int64)
        odd = read_keys(records.buffer, records.key_starts, records.key_ends, LETTERS, PREFIX_LENGTHS, shelves, numbers)
        if odd >= 0:
            raise ChangelogProblem(
                f"{self.where}, offset {records.offsets[odd]}: found key {records.key(int(odd))!r}; expected `meta` or "
                f"`<shelf>/<row>` with a shelf of {' '.join(NAMES)}. Another program writes to this topic"
            )
        for shelf, name in enumerate(NAMES):
            self._take_shelf(records, shelves, numbers, shelf, name)
        for place in np.flatnonzero(shelves == OF_META)[-1:].tolist():
            self.watermark = decode_watermark(records.raw(place), f"{self.where}, offset {int(records.offsets[place])}")
        self.count += records.count

    def _take_shelf(self, records: Records, shelves: Array, numbers: Array, shelf: int, name: str) -> None:
        mine = numbers[shelves == shelf]
        if not mine.size:
            return
        size = SHELVES[name].itemsize
        self._make_room(name, int(mine.max()) + 1, size)
        odd = lay_rows(
            records.buffer, records.starts, records.ends, shelves, numbers, shelf, self._flat[name], size,
            self._present[name],
        )  # fmt: skip
        if odd >= 0:
            raise ChangelogProblem(
                f"{self.where}, offset {records.offsets[odd]}: a row of {name} of {records.ends[odd] - records.starts[odd]} "
                f"bytes; expected at most {size}"
            )

    def _make_room(self, name: str, rows: int, size: int) -> None:
        have = self._present[name].size
        if rows <= have:
            return
        if rows > 1 << 32:
            raise ChangelogProblem(f"{self.where}: row {rows - 1} of {name}; no state has so many")
        room = max(rows, 2 * have)
        flat_rows, present = np.zeros(room * size, np.uint8), np.zeros(room, np.uint8)
        flat_rows[: have * size] = self._flat[name]
        present[:have] = self._present[name]
        self._flat[name], self._present[name] = flat_rows, present

    def row_beyond(self, watermark: Watermark) -> tuple[str, int] | None:
        """A row that is there although the watermark does not count it: nothing restores it, and rater never wrote it."""
        for name in NAMES:
            more = np.flatnonzero(self._present[name][watermark.rows[name] :])
            if more.size:
                return name, watermark.rows[name] + int(more[0])
        return None

    def into(self, state: State, watermark: Watermark) -> None:
        """Fill the state's shelves as the watermark counts them. Raises `ChangelogProblem` for a row that is not there."""
        for name, dtype in SHELVES.items():
            count = watermark.rows[name]
            there = int(self._present[name][:count].sum())
            if there != count:
                raise ChangelogProblem(
                    f"{self.where}: {count - there} of {count} rows of {name} are missing; records were deleted from the "
                    "changelog. Expected cleanup.policy=compact and nothing else"
                )
            rows = self._flat[name][: count * dtype.itemsize].view(dtype)
            state.restore_shelf(name, rows.view(np.recarray), watermark.free[name])
