"""Snapshots: the committed state of a partition in one file, so that a restore reads the logs from there on.

A file is a header (JSON), the rows of each shelf, the ids seen, and a BLAKE2 digest of all that. It is written beside its
name and renamed, so that what has the name is whole; and it is only a shortcut: whatever is odd about it, the partition
is restored from its topics.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from rater.core.state import SHELVES, State
from rater.doors.failpoints import reached
from rater.doors.kafka.changelog import LAYOUT, ChangelogProblem, Watermark, decode_watermark, flat
from rater.doors.kafka.fresh_memory import ask_for
from rater.doors.kafka.rests import STEP_BYTES, Rest, no_rest

Array = np.ndarray[Any, Any]

MAGIC = b"rater-snapshot-1\n"
DIGEST_BYTES, ID_BYTES = 32, 16
HEADER_BYTES_MAX = 1 << 20
# What goes to the disk at once. A hundred megabytes in one go keep others who write to it waiting (a broker on the same machine).
PIECE_BYTES = 4 << 20


class SnapshotUnusable(Exception):
    """Why a snapshot is passed over; never a reason to stop."""


@dataclass(frozen=True, slots=True)
class Base:
    """A committed state and where the logs stood then: what a restore begins with.

    `state_offset` and `journal_offset`: everything before is in the state. `line_offset`: where the journal line of
    `watermark.batch` lies, which must still be there and the same.
    """

    state: State
    watermark: Watermark
    state_offset: int
    journal_offset: int
    line_offset: int


@dataclass(frozen=True, slots=True)
class Image:
    """A copy of a base's bytes: taken between two batches, written while the next ones are decided."""

    header: bytes
    parts: tuple[memoryview, ...]


class Room:
    """Memory for an image, kept for the next one, which takes its place.

    A system gives fresh memory page by page, which takes several times as long as to copy a state into it, and the partition waits.
    """

    def __init__(self) -> None:
        self._bytes: Array = np.empty(0, np.uint8)

    def make(self, size: int, rest: Rest = no_rest) -> None:
        """Have room for so many bytes, and for a state that grows a little meanwhile. Takes its time."""
        if size > self._bytes.size:
            self._bytes = np.empty(0, np.uint8)  # the old one first: they need not be there together
            self._bytes = np.empty(size + size // 4, np.uint8)
            ask_for(self._bytes, rest)

    def take(self, size: int) -> Array:
        self.make(size)
        return self._bytes[:size]


def image_bytes(state: State) -> int:
    """How much room an image of this state takes."""
    return sum(flat(state.rows(name)).size for name in SHELVES) + ID_BYTES * (int(state.seen_tally[0]) + 1)


def image_of(base: Base, app_id: str, room: Room) -> Image:
    """Valid until the room is taken for another. numpy copies, and lets other threads go on meanwhile; `bytes` would not."""
    state, ids = base.state, int(base.state.seen_tally[0])
    header = {
        "app_id": app_id,
        "watermark": base.watermark.encode().decode(),
        "state_offset": base.state_offset,
        "journal_offset": base.journal_offset,
        "line_offset": base.line_offset,
        "ids": ids,
    }
    whole = room.take(image_bytes(state))
    at = ID_BYTES * (ids + 1)  # in front, where they are aligned, though the file has them last
    state.seen_ids(whole[:at].view(np.uint64).reshape(-1, 2))
    parts = []
    for name in SHELVES:
        rows = flat(state.rows(name))
        part = whole[at : at + rows.size]
        part[:] = rows
        parts.append(part.data)
        at += rows.size
    return Image(orjson.dumps(header), (*parts, whole[: ID_BYTES * ids].data))


class Snapshots:
    """The snapshot files of one worker, one a partition, and the room in which they are made, one at a time."""

    def __init__(self, folder: Path, app_id: str) -> None:
        self.folder, self.app_id = folder, app_id
        self.room = Room()

    def path(self, partition: int) -> Path:
        return self.folder / f"{self.app_id}-{partition}.snapshot"

    def save(self, partition: int, image: Image, rest: Rest = no_rest) -> int:
        """Write, make durable, rename; the bytes written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.path(partition)
        for left in self.folder.glob(f"{path.stem}.*.part"):  # by a process that died while it wrote
            left.unlink(missing_ok=True)
        beside = path.with_suffix(f".{os.getpid()}.part")
        digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        size = durable = 0
        parts: list[bytes | memoryview] = [MAGIC, len(image.header).to_bytes(4, "big"), image.header, *image.parts]
        with beside.open("wb") as file:
            for part in parts:
                for at in range(0, len(part), STEP_BYTES):
                    step = part[at : at + STEP_BYTES]
                    digest.update(step)
                    size += file.write(step)
                    if size - durable >= PIECE_BYTES:
                        file.flush()
                        os.fsync(file.fileno())
                        durable = size
                    rest()
                reached("mid-snapshot")
            file.write(digest.digest())
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return size

    def load(self, partition: int) -> Base:
        """Raises `SnapshotUnusable`, saying why."""
        path = self.path(partition)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise SnapshotUnusable(f"{path}: no snapshot yet") from None
        except OSError as error:
            raise SnapshotUnusable(f"{path}: cannot be read: {error.strerror}") from None
        return self._parse(path, partition, data)

    def discard(self, partition: int) -> None:
        self.path(partition).unlink(missing_ok=True)

    def _parse(self, path: Path, partition: int, data: bytes) -> Base:
        body, digest = data[:-DIGEST_BYTES], data[-DIGEST_BYTES:]
        if hashlib.blake2b(body, digest_size=DIGEST_BYTES).digest() != digest:
            raise SnapshotUnusable(f"{path}: its digest does not fit its {len(data)} bytes: cut short or changed")
        if not body.startswith(MAGIC):
            raise SnapshotUnusable(f"{path}: not a snapshot of this version of rater")
        try:
            return self._base_of(path, partition, body)
        except (ChangelogProblem, ValueError, KeyError, TypeError, AttributeError) as problem:
            raise SnapshotUnusable(f"{path}: cannot be read as rater wrote it: {problem}") from None

    def _base_of(self, path: Path, partition: int, body: bytes) -> Base:
        at = len(MAGIC) + 4
        length = int.from_bytes(body[at - 4 : at], "big")
        header = orjson.loads(body[at : at + length])
        at += length
        raw = header["watermark"].encode()
        if orjson.loads(raw).get("layout") != LAYOUT:
            raise SnapshotUnusable(f"{path}: rows of another layout: another version of rater wrote it")
        watermark = decode_watermark(raw, str(path))
        if (header["app_id"], watermark.partition) != (self.app_id, partition):
            raise SnapshotUnusable(
                f"{path}: of {header['app_id']}, partition {watermark.partition}; expected {self.app_id}, partition {partition}"
            )
        state = State.empty(bytes.fromhex(watermark.key))
        for name, dtype in SHELVES.items():
            size = watermark.rows[name] * dtype.itemsize
            rows = np.frombuffer(body, dtype, watermark.rows[name], at)
            state.restore_shelf(name, rows.view(np.recarray), watermark.free[name])
            at += size
        ids = np.frombuffer(body, np.uint64, 2 * header["ids"], at).reshape(-1, 2).copy()  # aligned
        state.restore_seen(ids)
        return Base(state, watermark, header["state_offset"], header["journal_offset"], header["line_offset"])
