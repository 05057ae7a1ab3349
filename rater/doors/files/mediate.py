"""`rater mediate`: what switches wrote -> canonical call records, one line a billed call, and rejections that say why.

Exactly once, too: the committed lengths of both outputs, the files that are done, how far the current one was read and the
calls still open at its beginning are one small file, replaced in one act (`mediated.json`). After a kill the outputs are cut
back to those lengths and the current file is read again from its beginning; of one that is followed, which is committed in
between, what was handed out is passed over.
"""

import base64
import fcntl
import gzip
import json
import os
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import orjson

from rater.contract.journal import digest_of
from rater.doors.failpoints import reached
from rater.doors.files.inputs import HEAD_BYTES, STANDARD_INPUT, InputProblem, open_input
from rater.doors.files.outputs import Outputs
from rater.sources import Assembling, Source, SourceProfile, SourceRecord, open_source
from rater.sources.assembly import StateRefused

CDRS, REJECTED_RAW, STATE = "cdrs.jsonl", "rejected-raw.jsonl", "mediated.json"
NAMES = (CDRS, REJECTED_RAW)
WRITE_RECORDS = 20_000
POLL_S = 0.5
UNFINISHED = (".tmp", ".part", ".partial", ".filepart", ".crdownload")  # how programs call what they still write


class MediationProblem(Exception):
    """Something a person has to decide or put right; the text says what was found and what to do."""


@dataclass(slots=True)
class MediateRequest:
    """What a person asked `rater mediate` to do."""

    inputs: list[str]
    source: str
    profile: SourceProfile
    profile_text: str
    out: Path
    follow: bool = False
    close: bool = False


@dataclass(slots=True)
class Tally:
    """What came of it. `billed_ms` counts connected calls alone."""

    read: int = 0
    written: int = 0
    connected: int = 0
    billed_ms: int = 0
    rejected: int = 0
    not_billed: int = 0
    files: int = 0
    files_known: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)
    rejected_by_reason: Counter[str] = field(default_factory=Counter)

    def as_object(self) -> dict[str, Any]:
        """`rater mediate --json`"""
        whole, rest = divmod(self.billed_ms, 1000)
        return {
            "read": self.read,
            "written": self.written,
            "connected": self.connected,
            "billed_s": whole if not rest else self.billed_ms / 1000,
            "rejected": self.rejected,
            "rejected_by_reason": dict(sorted(self.rejected_by_reason.items())),
            "not_billed": self.not_billed,
            "by_kind": dict(sorted(self.by_kind.items())),
            "files": self.files,
            "files_known": self.files_known,
        }


@dataclass(slots=True)
class Progressed:
    """What `mediated.json` holds."""

    source: str
    profile: str
    finished: list[dict[str, Any]] = field(default_factory=list)
    current: dict[str, Any] | None = None
    done: int = 0  # records handed out of the current file
    open_calls: str = ""  # base64, as they stood at the beginning of the current file
    lengths: dict[str, int] = field(default_factory=dict)


class Mediator:
    """One output folder, opened for one process at a time."""

    def __init__(self, request: MediateRequest, progress: Callable[[str, int], None]) -> None:
        self.request, self.progress = request, progress
        self.tally = Tally()
        self._lock = self._take_lock()
        self._state = self._load()
        self._outputs = Outputs(request.out, self._state.lengths, NAMES)
        if not self._state.lengths:
            self._state.lengths = dict(self._outputs.lengths)
            self._save()  # the outputs are ours from here on, whatever interrupts the first file
        self._blocks: dict[str, list[bytes]] = {name: [] for name in NAMES}
        self._taken, self._bytes = 0, 0  # records and their bytes since the last write
        self._source = self._opened()

    def close(self) -> None:
        self._outputs.close()
        self._lock.close()

    # --- beginning -----------------------------------------------------------------------------------------------

    def _take_lock(self) -> IO[bytes]:
        self.request.out.mkdir(parents=True, exist_ok=True)
        lock = (self.request.out / f".{STATE}.lock").open("ab")
        try:
            fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise MediationProblem(
                f"{self.request.out}: another rater mediates into this folder; wait for it or choose another --out"
            ) from None
        return lock

    def _load(self) -> Progressed:
        request, path = self.request, self.request.out / STATE
        profile = digest_of(request.profile_text.encode())
        if not path.exists():
            return Progressed(request.source, profile, lengths={})
        try:
            state = Progressed(**json.loads(path.read_text("utf-8")))
        except (ValueError, TypeError) as error:
            raise MediationProblem(f"{path}: cannot be read: {error}; restore it or choose another --out") from None
        if (state.source, state.profile) != (request.source, profile):
            raise MediationProblem(
                f"{path}: this folder was made with source {state.source} and another profile than the one given; the same "
                "calls would get other records. Choose another --out, or the profile it was made with"
            )
        return state

    def _opened(self) -> Source:
        source = open_source(self.request.source, self.request.profile)
        if isinstance(source, Assembling) and self._state.open_calls:
            try:
                source.resume(base64.b64decode(self._state.open_calls))
            except StateRefused as refused:
                raise MediationProblem(
                    f"{self.request.out / STATE}: the calls left open cannot be taken up: {refused}; restore the file, or begin "
                    "anew with another --out"
                ) from None
        return source

    # --- files ---------------------------------------------------------------------------------------------------

    def run(self) -> Tally:
        names = [name for given in self.request.inputs for name in files_of(given)]
        self._order(names)
        for number, name in enumerate(names):
            self._file(name, self.request.follow and number == len(names) - 1)
        if self.request.close and isinstance(self._source, Assembling):
            for record in self._source.close():
                self._take(record, "", 0)
            self._commit(finished=True)
        return self.tally

    def _order(self, names: Sequence[str]) -> None:
        """An interrupted file comes first: what was open at its beginning belongs to it alone."""
        current = self._state.current
        if current is None or not names:
            return
        if not any(is_same_file(current, name) for name in names):
            raise MediationProblem(
                f"{self.request.out}: {current['name']} was read up to record {self._state.done} when a run was interrupted; "
                "name it again first, so that it is finished"
            )

    def _file(self, name: str, follow: bool) -> None:
        identity = identity_of(name)
        if name != STANDARD_INPUT and any(known == identity for known in self._state.finished):
            self.tally.files_known += 1
            return
        if not follow and any(known["size"] and is_same_file(known, name) for known in self._state.finished):
            raise MediationProblem(
                f"{name}: has grown since it was read to its end; a file that is still written is read with --follow"
            )
        passed = self._state.done if self._state.current and is_same_file(self._state.current, name) else 0
        if self._state.current is None or not passed:
            self._begin(identity)
        self.tally.files += 1
        with opened(name) as stream:
            readable = Followed(stream, name, self._idle) if follow else stream
            for count, record in enumerate(self._source.read(cast(BinaryIO, readable)), 1):
                if count <= passed:
                    continue
                self._take(record, name, count)
                self._state.done = count
                if self._taken >= WRITE_RECORDS:
                    self._commit() if follow else self._write()
        if follow:
            self._commit()  # stopped, not finished: the next run goes on in it
        else:
            self._state.finished.append(identity)
            self._commit(finished=True)

    def _begin(self, identity: dict[str, Any]) -> None:
        self._state.current, self._state.done = identity, 0
        if isinstance(self._source, Assembling):
            self._state.open_calls = base64.b64encode(self._source.open_calls()).decode()

    def _idle(self) -> None:
        """Nothing more to read for now: what was handed out is worth committing."""
        if self._taken:
            self._commit()

    # --- records -------------------------------------------------------------------------------------------------

    def _take(self, record: SourceRecord, name: str, number: int) -> None:
        tally = self.tally
        tally.read += record.parts
        self._taken += 1
        self._bytes += len(record.raw)
        if record.canonical is not None:
            tally.written += 1
            self._blocks[CDRS].append(record.canonical + b"\n")
            call = orjson.loads(record.canonical)
            if call["answer"] is not None and call["disposition"] == "answered" and call["billable_ms"] > 0:
                tally.connected += 1
                tally.billed_ms += call["billable_ms"]
        elif record.reason:
            tally.rejected += 1
            tally.rejected_by_reason[record.reason] += 1
            self._blocks[REJECTED_RAW].append(encode_rejected(record, self.request.source, name, number) + b"\n")
        else:
            tally.not_billed += 1
        tally.by_kind[record.kind] += 1

    def _write(self) -> None:
        """Out of memory; it counts with the next commit."""
        self._outputs.append(self._blocks)
        self._blocks = {name: [] for name in NAMES}
        self.progress("mediating", self._bytes)
        self._taken, self._bytes = 0, 0

    def _commit(self, finished: bool = False) -> None:
        self._write()
        self._outputs.sync(NAMES)
        state = self._state
        state.lengths = dict(self._outputs.lengths)
        if finished:
            state.current, state.done = None, 0
            if isinstance(self._source, Assembling):
                state.open_calls = base64.b64encode(self._source.open_calls()).decode()
        self._save()
        reached("after-commit")

    def _save(self) -> None:
        replace_durably(self.request.out / STATE, orjson.dumps(self._state, option=orjson.OPT_INDENT_2))


def encode_rejected(record: SourceRecord, source: str, name: str, number: int) -> bytes:
    """One line of `rejected-raw.jsonl`."""
    return orjson.dumps(
        {
            "v": 1,
            "reason": record.reason,
            "detail": record.detail,
            "kind": record.kind,
            "parts": record.parts,
            "corrects": record.corrects or None,
            "source": source,
            "file": Path(name).name if name else None,
            "record": number or None,
            "raw_b64": base64.b64encode(record.raw).decode(),
        }
    )


def replace_durably(path: Path, data: bytes) -> None:
    beside = path.with_name(f".{path.name}.part")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def files_of(given: str) -> list[str]:
    """A file, standard input, or the files of a folder in order of name, without hidden and unfinished ones."""
    if given == STANDARD_INPUT or not Path(given).is_dir():
        return [given]
    return [str(path) for path in sorted(Path(given).iterdir()) if path.is_file() and is_finished_name(path)]


def is_finished_name(path: Path) -> bool:
    return not path.name.startswith(".") and path.suffix not in UNFINISHED


def identity_of(name: str) -> dict[str, Any]:
    """What tells a file from another of the same name: its size, and a checksum of so many first bytes."""
    if name == STANDARD_INPUT:
        return {"name": name, "size": 0, "head_bytes": 0, "head": 0}
    path = Path(name)
    try:
        size = path.stat().st_size
        head_bytes = min(size, HEAD_BYTES)
        return {"name": str(path.resolve()), "size": size, "head_bytes": head_bytes, "head": head_of(path, head_bytes)}
    except OSError as error:
        raise InputProblem(f"{name}: {error.strerror or error}") from None


def head_of(path: Path, count: int) -> int:
    with path.open("rb") as stream:
        return zlib.crc32(stream.read(count))


def is_same_file(known: dict[str, Any], name: str) -> bool:
    """The same name and the same beginning; it may have grown since."""
    if name == STANDARD_INPUT or known["name"] != str(Path(name).resolve()):
        return False
    try:
        grown = Path(name).stat().st_size >= known["size"]
        return bool(grown and head_of(Path(name), known["head_bytes"]) == known["head"])
    except OSError as error:
        raise InputProblem(f"{name}: {error.strerror or error}") from None


def opened(name: str) -> Any:
    stream = open_input(name)
    return stream if name != STANDARD_INPUT else _NotClosed(stream)


class _NotClosed:
    """Standard input is not ours to close."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def __enter__(self) -> IO[bytes]:
        return self._stream

    def __exit__(self, *_: object) -> None:
        return None


class Followed:
    """A file that is still written: whole lines as they come; waits at the end until `stop`."""

    def __init__(self, stream: IO[bytes], name: str, idle: Callable[[], None]) -> None:
        self._stream, self._name, self._idle = stream, name, idle
        self._lines = BytesIO()
        self._rest = b""
        if isinstance(cast(object, stream), gzip.GzipFile):
            raise InputProblem(f"{name}: a compressed file cannot be followed; read it when it is complete")

    def read(self, size: int = -1) -> bytes:
        return self._lines.read(size) or self._refilled().read(size)

    def readline(self, limit: int = -1) -> bytes:
        return self._lines.readline(limit) or self._refilled().readline(limit)

    def _refilled(self) -> BytesIO:
        self._lines = BytesIO(self._more())
        return self._lines

    def _more(self) -> bytes:
        """Whole lines; b"" when the reading was stopped."""
        while True:
            data = self._rest + self._stream.read(1 << 20)
            end = data.rfind(b"\n") + 1
            self._rest = data[end:]
            if end:
                return data[:end]
            self._idle()
            if STOP.is_set:
                return b""
            time.sleep(POLL_S)


class _Stop:
    """Set by a signal: a follower ends at the next quiet moment."""

    def __init__(self) -> None:
        self.is_set = False

    def __call__(self, *_: object) -> None:
        self.is_set = True


STOP = _Stop()


def settled_files(folder: Path, known: dict[str, tuple[int, int]]) -> Iterator[Path]:
    """Files of a drop folder whose size and time have not moved since the last look; the rest are looked at again."""
    seen: dict[str, tuple[int, int]] = {}
    for path in sorted(folder.iterdir()):
        if not path.is_file() or not is_finished_name(path):
            continue
        found = path.stat()
        mark = (found.st_size, found.st_mtime_ns)
        seen[path.name] = mark
        if known.get(path.name) == mark:
            yield path
    known.clear()
    known.update(seen)


def mediate(request: MediateRequest, progress: Callable[[str, int], None]) -> Tally:
    """Carry it out; the same call again goes on where it was interrupted and passes over what is done."""
    mediator = Mediator(request, progress)
    try:
        return mediator.run()
    finally:
        mediator.close()


def watch(request: MediateRequest, folder: Path, say: Callable[[str], None]) -> Tally:
    """Each file of a drop folder once, moved to `done/` when it is done, to `bad/` with its reasons when nothing of it was good."""
    total, known = Tally(), dict[str, tuple[int, int]]()
    for name in ("done", "bad"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    while not STOP.is_set:
        for path in list(settled_files(folder, known)):
            one = MediateRequest([str(path)], request.source, request.profile, request.profile_text, request.out)
            try:
                tally = mediate(one, lambda _phase, _count: None)
                reasons = dict(tally.rejected_by_reason) if tally.rejected and not tally.written else {}
            except InputProblem as problem:
                tally, reasons = Tally(files=1), {str(problem): 1}
            place = set_aside(path, folder / ("bad" if reasons else "done"), reasons)
            say(f"{path.name}: {tally.written} calls, {tally.rejected} rejected -> {place.parent.name}/{place.name}")
            add(total, tally)
        time.sleep(POLL_S)
    return total


def set_aside(path: Path, folder: Path, reasons: dict[str, int]) -> Path:
    """Move a file out of the drop folder; a second one of the same name gets a number."""
    target, number = folder / path.name, 1
    while target.exists():
        target, number = folder / f"{path.name}.{number}", number + 1
    if reasons:
        text = "".join(f"{reason}: {count}\n" for reason, count in sorted(reasons.items()))
        replace_durably(folder / f"{target.name}.reasons", text.encode())
    path.replace(target)
    return target


def add(total: Tally, more: Tally) -> None:
    for name in Tally.__dataclass_fields__:
        setattr(total, name, getattr(total, name) + getattr(more, name))
