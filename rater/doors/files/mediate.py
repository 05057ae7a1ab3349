"""`rater mediate`: what switches wrote -> canonical call records, one line a billed call, and rejections that say why.

Exactly once, too: the committed lengths of both outputs, the files that are done, how far the current one was read and the
calls still open at its beginning are one small file, replaced in one act (`mediated.json`). After a kill the outputs are cut
back to those lengths and the current file is read again from its beginning; of one that is followed, which is committed in
between, what was handed out is passed over.
"""

import base64
import fcntl
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import orjson

from rater.contract.journal import digest_of
from rater.doors.failpoints import reached
from rater.doors.files.file_marks import files_of, is_same_file, mark_of
from rater.doors.files.following import Followed
from rater.doors.files.inputs import STANDARD_INPUT, open_input
from rater.doors.files.outputs import Outputs
from rater.sources import Assembling, Source, SourceProfile, SourceRecord, open_source
from rater.sources.assembly import StateRefused
from rater.sources.rejected import encode_rejected

CDRS, REJECTED_RAW, STATE = "cdrs.jsonl", "rejected-raw.jsonl", "mediated.json"
NAMES = (CDRS, REJECTED_RAW)
WRITE_RECORDS = 20_000


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
        identity = mark_of(name)
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
        stream = open_input(name)
        with nullcontext(stream) if name == STANDARD_INPUT else stream:
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


def mediate(request: MediateRequest, progress: Callable[[str, int], None]) -> Tally:
    """Carry it out; the same call again goes on where it was interrupted and passes over what is done."""
    mediator = Mediator(request, progress)
    try:
        return mediator.run()
    finally:
        mediator.close()
