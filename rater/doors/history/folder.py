"""The output folder of `rater rate` -> a history, each line once, however often it is asked and wherever it was stopped.

The journal says how many bytes each batch added to each file and what their digest is, so what is loaded is what was
committed, whole. How far that goes the run's state file knows for certain (`committed`); without it the journal's own lines
are believed, and a last batch that is only half there is left for the next time.

A folder is known by its first batch, not by its name: moved or copied, it is still the same one.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from rater.contract.journal import digest_of
from rater.doors.failpoints import reached
from rater.doors.history.feeding import add_lines
from rater.doors.history.store import EVENTS, FOLDER, RATED, TOPICS, Batch, HistoryProblem, Partition, Position, Store

JOURNAL = "rater-journal"
FILES = {RATED: "rated-cdrs.jsonl", EVENTS: "account-events.jsonl", JOURNAL: "journal.jsonl"}
PLACES = {topic: Partition(topic, 0) for topic in FILES}
ROWS_MAX = 20_000  # in a transaction, give or take a batch of the journal

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class Loaded:
    """What a load added. `batches` of the journal."""

    batches: int = 0
    calls: int = 0
    events: int = 0
    aside: int = 0


@dataclass(slots=True)
class _Step:
    """One committed batch of the journal: what it added to each file, in bytes, and their digests."""

    line: bytes
    bytes: dict[str, int]
    digests: dict[str, str]
    last: bool


def load_folder(
    store: Store,
    folder: Path,
    committed: Mapping[str, int] | None,
    progress: Progress = lambda _done, _total: None,
    rows_max: int = ROWS_MAX,
) -> Loaded:
    """Take what is new in `folder`. `committed`: file name -> bytes, or None where no state file says so.

    Raises `HistoryProblem` where the folder is not what was read before.
    """
    journal = _journal(folder, committed)
    loaded = Loaded()
    if not journal:
        return loaded
    feed = store.feed(FOLDER, digest_of(journal[: journal.index(b"\n") + 1]))
    positions = store.positions(feed)
    _check_followed(folder, journal, positions.get(PLACES[JOURNAL]))
    with ThreadPoolExecutor(1) as writer:  # one batch is written while the next is read
        writing: Future[None] | None = None
        for batch, batches in _batches(folder, feed, journal, positions, committed is not None, rows_max):
            reached("after-history-read")
            if writing is not None:
                writing.result()
            writing = writer.submit(store.append, batch)
            loaded.batches += batches
            loaded.calls += len(batch.calls)
            loaded.events += len(batch.events)
            loaded.aside += len(batch.aside)
            progress(batch.moves[PLACES[JOURNAL]][1].byte, len(journal))
        if writing is not None:
            writing.result()
    return loaded


def _journal(folder: Path, committed: Mapping[str, int] | None) -> bytes:
    """Its committed lines, whole."""
    path = folder / FILES[JOURNAL]
    try:
        data = path.read_bytes()
    except OSError as error:
        raise HistoryProblem(f"{path}: {error.strerror}; expected the --out folder of rater rate") from None
    if committed is None:
        return data[: data.rfind(b"\n") + 1]
    length = committed.get(path.name, 0)
    if len(data) < length:
        raise HistoryProblem(f"{path}: {len(data)} bytes found, {length} were committed; restore the file")
    return data[:length]


def _check_followed(folder: Path, journal: bytes, known: Position | None) -> None:
    """What was read last time is still there, as it was."""
    if known is None:
        return
    before = journal[: known.byte]
    line = before[before.rfind(b"\n", 0, -1) + 1 :]
    if len(before) < known.byte or digest_of(line) != known.mark:
        raise HistoryProblem(
            f"{folder / FILES[JOURNAL]}: batch {known.place} is not the one that was loaded: it had not been committed then, "
            "or the file was replaced; begin a new history, and name the state file (--state) when loading while rater rate runs"
        )


def _steps(folder: Path, journal: bytes, byte: int) -> Iterator[_Step]:
    """Batches of the journal from a byte on."""
    while byte < len(journal):
        end = journal.index(b"\n", byte) + 1
        line = journal[byte:end]
        try:
            told = orjson.loads(line)
            yield _Step(line, told["bytes"], told["digests"], end == len(journal))
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise HistoryProblem(
                f"{folder / FILES[JOURNAL]} byte {byte}: not a line of a journal; restore the file"
            ) from None
        byte = end


def _batches(
    folder: Path, feed: int, journal: bytes, positions: Mapping[Partition, Position], certain: bool, rows_max: int
) -> Iterator[tuple[Batch, int]]:
    """(what one transaction adds, batches of the journal in it)."""
    began = {topic: positions.get(place) for topic, place in PLACES.items()}
    at = {topic: position or Position(0) for topic, position in began.items()}
    batch, batches = Batch(feed), 0
    for step in _steps(folder, journal, at[JOURNAL].byte):
        taken = _taken(folder, step, at, certain)
        if taken is None:
            break
        for topic in TOPICS:
            at[topic] = _add(batch, topic, taken[topic], at[topic])
        mark = digest_of(step.line)
        at[JOURNAL] = Position(at[JOURNAL].place + 1, at[JOURNAL].byte + len(step.line), mark)
        batches += 1
        if batch.size >= rows_max:
            batch.moves = {PLACES[topic]: (began[topic], at[topic]) for topic in FILES}
            yield batch, batches
            began, batch, batches = dict(at), Batch(feed), 0
    if batches:
        batch.moves = {PLACES[topic]: (began[topic], at[topic]) for topic in FILES}
        yield batch, batches


def _taken(folder: Path, step: _Step, at: Mapping[str, Position], certain: bool) -> dict[str, bytes] | None:
    """What a batch added to each file, or None where its end was not written yet."""
    taken: dict[str, bytes] = {}
    for topic in TOPICS:
        path, byte, size = folder / FILES[topic], at[topic].byte, step.bytes.get(FILES[topic], 0)
        data = _read(path, byte, size)
        if len(data) != size or (size and digest_of(data) != step.digests.get(FILES[topic])):
            if step.last and not certain:
                return None
            raise HistoryProblem(
                f"{path}: bytes {byte} to {byte + size} are not what the journal says of them; restore the file"
            )
        taken[topic] = data
    return taken


def _read(path: Path, byte: int, size: int) -> bytes:
    if not size:
        return b""
    try:
        with path.open("rb") as stream:
            stream.seek(byte)
            return stream.read(size)
    except OSError as error:
        raise HistoryProblem(f"{path}: {error.strerror}; the journal says it has {byte + size} bytes") from None


def _add(batch: Batch, topic: str, data: bytes, at: Position) -> Position:
    lines = data.splitlines() if b"\r" not in data else data.split(b"\n")[:-1]
    add_lines(batch, PLACES[topic], enumerate(lines, at.place))
    return Position(at.place + len(lines), at.byte + len(data))


def shown(loaded: Loaded) -> dict[str, Any]:
    """`rater history load --json`"""
    return {"batches": loaded.batches, "calls": loaded.calls, "events": loaded.events, "set_aside": loaded.aside}
