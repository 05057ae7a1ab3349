"""The mails of a run, as files: `outbox/<tenant>/<when>-<what>-<language>-<name>.eml` beside the other outputs.

What `rater notification-agent` would send, nobody sends here. Mails are made from the account events after these are committed, by
the very rendering of the agent, and a mail's file is named by its event and recipient: a process that is killed on the way
makes the same files again with the same bytes, and a run is finished only when its mails are written. A mark in the folder says
how far the events are told. Without the folder (somebody took the mails away), all of them are told again.
"""

import mmap
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from rater.contract.journal import digest_of
from rater.doors.failpoints import reached
from rater.doors.files.addressees import Addressees
from rater.doors.files.outputs import EVENTS, OutputProblem

OUTBOX, MARK, INDEX = "outbox", ".told.json", "index.html"
_LIST = b'"type":"rater.contacts.set"'
_WITNESS_BYTES = 4096


@dataclass(slots=True)
class Mark:
    """How many bytes of the events are told, a digest of the last of them, and the lists of contacts that stood then."""

    told: int = 0
    witness: str = ""
    contacts: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Told:
    """How many mails were written, and who is told from now on: (tenant, event)."""

    mails: int
    contacts: list[tuple[str, bytes]]


NOTHING = Told(0, [])


def tell(out: Path, committed: int, contacts: Iterable[bytes]) -> Told:
    """Write the mails of the events that are committed (bytes) and not told yet. `contacts`: lists that the state knows of, from
    whatever folder they came. Raises `OutputProblem`."""
    folder, events = out / OUTBOX, out / EVENTS
    try:
        mark, known = _read_mark(folder, events, committed), list(contacts)
        if mark is None:
            if not known and not _names_a_list(events, committed):
                return NOTHING  # nobody is to be told anything: no folder
            mark = _begin(folder, known)
        addressees = Addressees([*known, *mark.contacts])
        count = 0
        if mark.told < committed:
            from rater.doors.files.outbox_mails import write_mails

            count = write_mails(folder, addressees, _lines(events, mark.told, committed))
            reached("before-outbox-mark")
            bodies = [body for _, body in addressees.newest()]
            _write_mark(folder, Mark(committed, _witness(events, committed), bodies))
    except OSError as error:
        raise OutputProblem(f"{error.filename or folder}: {error.strerror or error}") from None
    return Told(count, list(addressees.newest()))


def _begin(folder: Path, known: list[bytes]) -> Mark:
    """The mark comes first: a folder without one is somebody else's."""
    folder.mkdir(exist_ok=True)
    mark = Mark(0, digest_of(b""), known)
    _write_mark(folder, mark)
    return mark


def _names_a_list(events: Path, committed: int) -> bool:
    if not committed:
        return False
    with events.open("rb") as stream, mmap.mmap(stream.fileno(), committed, access=mmap.ACCESS_READ) as text:
        return text.find(_LIST) >= 0


def _lines(events: Path, start: int, end: int) -> Iterator[bytes]:
    with events.open("rb") as stream:
        stream.seek(start)
        while start < end:
            line = stream.readline()
            start += len(line)
            yield line.removesuffix(b"\n")


def _witness(events: Path, end: int) -> str:
    with events.open("rb") as stream:
        start = max(end - _WITNESS_BYTES, 0)
        stream.seek(start)
        return digest_of(stream.read(end - start))


def _read_mark(folder: Path, events: Path, committed: int) -> Mark | None:
    """None for a folder that is not there yet, or was made and not used."""
    file = folder / MARK
    if not file.exists():
        if folder.exists() and any(found.name != _half(file).name for found in folder.iterdir()):
            raise OutputProblem(
                f"{folder}: exists, and holds no {MARK}, so no run made it; move it away, or choose another --out"
            )
        return None
    try:
        found = orjson.loads(file.read_bytes())
        mark = Mark(found["told"], found["witness"], [text.encode() for text in found["contacts"]])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OutputProblem(
            f"{file}: cannot be read ({error}); move {folder} away, and its mails are written again"
        ) from None
    if mark.told > committed or mark.witness != _witness(events, mark.told):
        raise OutputProblem(
            f"{folder}: its mails are not those of {events} ({mark.told} bytes told, {committed} are committed); move it away, and "
            "the mails are written again"
        )
    return mark


def _write_mark(folder: Path, mark: Mark) -> None:
    shown: dict[str, Any] = {
        "told": mark.told, "witness": mark.witness, "contacts": [body.decode() for body in mark.contacts],
    }  # fmt: skip
    half = _half(folder / MARK)
    half.write_bytes(orjson.dumps(shown) + b"\n")
    sync(half)  # before it takes the name of the one before: a loss of power leaves the one or the other
    half.replace(folder / MARK)
    sync(folder)


def write_whole(path: Path, data: bytes) -> None:
    """The whole file or the one before it, for whoever looks; durable once `sync` has been told so."""
    half = _half(path)
    half.write_bytes(data)
    half.replace(path)


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _half(path: Path) -> Path:
    return path.with_name(f".{path.name}.half")
