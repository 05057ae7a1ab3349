"""`rater audit`: derive every balance again from the log, and find the first byte that does not agree.

The log is what the runs wrote: rated and rejected records carry the inputs' own bytes, the journal the commands and the
order. The audit replays them through the same engine with the decks and plans the state kept, and compares every output
line, every id, every row of the books and the chain of digests. Duplicates left no trace but their number.
"""

import sqlite3
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from rater.contract.journal import NO_DIGEST, digest_of, row_bytes, state_digest
from rater.contract.scanner import nested_end
from rater.core.reasons import REASON_OF_TEXT
from rater.core.state import SHELVES, State
from rater.core.words import PADDING
from rater.doors.differences import Difference, field_difference, owner, row_difference
from rater.doors.files.outputs import EVENTS, JOURNAL, OUTPUTS, RATED, REJECTED_CDRS, REJECTED_COMMANDS
from rater.doors.files.rate import blocks_of
from rater.doors.files.store import StateProblem, Store
from rater.doors.rules import RuleBook, kept_rule_book
from rater.pipeline import Batch, Outcome, Records, SourceFault, Workspace, decide, records_of

Array = np.ndarray[Any, Any]
CALL_AT = len(b'{"v":1,"call":')


class MissingFolder(StateProblem):
    """Outputs of this state lie in a folder that the audit was not shown."""


@dataclass(slots=True)
class Audited:
    """What an audit has proved."""

    batches: int = 0
    rated: int = 0
    rejected: int = 0
    commands: int = 0
    duplicates: int = 0
    tenants: int = 0
    charge_micros: dict[str, int] = field(default_factory=dict)


def lines_of(data: bytes) -> list[bytes]:
    """Lines with their line feeds; a carriage return inside a call's own bytes ends no line."""
    return [line + b"\n" for line in data.split(b"\n")[:-1]] + [rest for rest in (data.rpartition(b"\n")[2],) if rest]


@dataclass(slots=True)
class _Slice:
    """One batch's part of an output file."""

    path: Path
    first_line: int
    at: int
    data: bytes

    def lines(self) -> list[bytes]:
        return lines_of(self.data)

    def where(self, line: int) -> str:
        return f"{self.path} line {self.first_line + line}"


class _Files:
    """The output files of one folder, read batch by batch from the start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._streams = {}
        self._at = dict.fromkeys(OUTPUTS, 0)
        self._line = dict.fromkeys(OUTPUTS, 1)
        for name in OUTPUTS:
            try:
                self._streams[name] = (folder / name).open("rb")
            except OSError as error:
                raise Difference(f"{folder / name}: cannot be read: {error.strerror}") from None

    def take(self, name: str, size: int) -> _Slice:
        data = self._streams[name].read(size)
        part = _Slice(self.folder / name, self._line[name], self._at[name], data)
        if len(data) < size:
            raise Difference(
                f"{part.path} ends at byte {part.at + len(data)}; the journal says it goes on to {part.at + size}"
            )
        self._at[name] += size
        self._line[name] += data.count(b"\n")
        return part

    def position(self, name: str) -> int:
        return self._at[name]

    def close(self) -> None:
        for stream in self._streams.values():
            stream.close()


def call_bytes(line: bytes) -> bytes:
    """The call's own bytes in a rated line."""
    buffer = np.frombuffer(line + bytes(PADDING), np.uint8).copy()
    end = int(nested_end(buffer, CALL_AT, len(line)))
    if end < 0:
        raise ValueError("no call in the line")
    return line[CALL_AT:end]


def _parsed(part: _Slice, place: int, line: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(line)
        if isinstance(value, dict) and isinstance(value["input"], list) and len(value["input"]) == 2:
            return value
    except (orjson.JSONDecodeError, KeyError):
        pass
    raise Difference(f"{part.where(place)}: not a line that rater writes: {line[:60]!r} ...")


@dataclass(slots=True)
class _Inputs:
    """What one batch had read, gathered from its outputs; (offset, bytes) each."""

    calls: list[tuple[int, bytes]]
    commands: list[tuple[int, bytes]]
    faults: dict[int, SourceFault]


def _gather(parts: dict[str, _Slice], line: dict[str, Any]) -> _Inputs:
    calls: list[tuple[int, bytes]] = []
    commands = [(offset, text.encode()) for offset, text in line["applied"]]
    faults: dict[int, SourceFault] = {}
    for place, text in enumerate(parts[RATED].lines()):
        rated = _parsed(parts[RATED], place, text)
        try:
            calls.append((rated["input"][1], call_bytes(text)))
        except ValueError:
            raise Difference(f"{parts[RATED].where(place)}: the call's own bytes cannot be found") from None
    sources = set(line["faults"])
    for place, text in enumerate(parts[REJECTED_CDRS].lines()):
        rejected = _parsed(parts[REJECTED_CDRS], place, text)
        offset = rejected["input"][1]
        try:
            raw = b64decode(rejected["raw_b64"], validate=True)
            if offset in sources:
                faults[offset] = SourceFault(raw, REASON_OF_TEXT[rejected["reason"]], rejected["detail"])
        except (ValueError, KeyError):
            raise Difference(f"{parts[REJECTED_CDRS].where(place)}: not a rejection that rater writes") from None
        calls.append((offset, raw))
    for place, text in enumerate(parts[REJECTED_COMMANDS].lines()):
        rejected = _parsed(parts[REJECTED_COMMANDS], place, text)
        try:
            commands.append((rejected["input"][1], b64decode(rejected["raw_b64"], validate=True)))
        except (ValueError, KeyError):
            raise Difference(f"{parts[REJECTED_COMMANDS].where(place)}: not a rejection that rater writes") from None
    return _Inputs(sorted(calls), sorted(commands), faults)


def _records(numbered: list[tuple[int, bytes]]) -> Records:
    records = records_of([raw for _, raw in numbered])
    records.offsets[:] = [offset for offset, _ in numbered]
    return records


def _replay(state: State, book: RuleBook, inputs: _Inputs, segments: list[list[int]], workspace: Workspace) -> Outcome:
    """Decide the batch's segments again, each commands first, then calls."""
    whole = Outcome()
    for command_from, command_to, call_from, call_to in segments:
        calls = [c for c in inputs.calls if call_from <= c[0] < call_to]
        commands = [c for c in inputs.commands if command_from <= c[0] < command_to]
        faults = {k: inputs.faults[offset] for k, (offset, _) in enumerate(calls) if offset in inputs.faults}
        batch = Batch(0, _records(commands), _records(calls), command_from, call_from, faults)
        outcome = decide(state, book.rules, batch, workspace)
        for name in ("rated", "events", "rejected_cdrs", "rejected_commands", "applied"):
            getattr(whole, name).extend(getattr(outcome, name))
        whole.counts.add(outcome.counts)
    return whole


def first_difference(part: _Slice, expected: bytes) -> str | None:
    """Where a slice differs from what the replay gives: file, line, and the field where both are JSON."""
    if part.data == expected:
        return None
    found_lines, expected_lines = part.lines(), lines_of(expected)
    for place in range(max(len(found_lines), len(expected_lines))):
        found = found_lines[place] if place < len(found_lines) else b""
        wanted = expected_lines[place] if place < len(expected_lines) else b""
        if found == wanted:
            continue
        if not found:
            return f"{part.where(place)}: the replay gives one more line here: {wanted[:80]!r} ..."
        if not wanted:
            return f"{part.where(place)}: the replay does not give this line"
        at = next(
            (k for k in range(min(len(found), len(wanted))) if found[k] != wanted[k]), min(len(found), len(wanted))
        )
        byte = part.at + sum(map(len, found_lines[:place])) + at
        return f"{part.where(place)}, byte {byte} of the file{field_difference(found, wanted)}"
    return None


def _check_counts(line: dict[str, Any], outcome: Outcome, number: int) -> None:
    counts = line["counts"]
    for name in ("rated", "rejected", "commands", "commands_rejected", "events", "unknown_fields"):
        if counts[name] != getattr(outcome.counts, name):
            raise Difference(
                f"journal batch {number}: {name} is {counts[name]}, the replay gives {getattr(outcome.counts, name)}"
            )
    totals = line["totals"]
    replayed = {
        "charge_micros": outcome.counts.charge_micros,
        "pool_minutes": outcome.counts.pool_minutes,
        "credit_minutes": outcome.counts.credit_minutes,
    }
    if totals != replayed:
        raise Difference(f"journal batch {number}: totals are {totals}, the replay gives {replayed}")
    if counts["read"] != counts["rated"] + counts["rejected"] + counts["duplicates"]:
        raise Difference(f"journal batch {number}: read is not rated + rejected + duplicates: {counts}")
    if counts["read"] != line["cdrs"][2] - line["cdrs"][1]:
        raise Difference(f"journal batch {number}: read {counts['read']} of the input range {line['cdrs']}")


def _check_ids(stored: bytes, state: State, parts: dict[str, _Slice], number: int) -> None:
    """The ids of a batch, in order; a call whose own bytes were changed shows here."""
    if stored == state.fresh_ids().tobytes():
        return
    kept = np.frombuffer(stored, np.uint64).reshape(-1, 2)
    replayed = state.fresh_ids()
    if kept.shape == replayed.shape:
        place = int(np.flatnonzero((kept != replayed).any(axis=1))[0])
        raise Difference(
            f"batch {number}: record id {place + 1} of {len(kept)} kept in the state is not the replay's: the id or content of a "
            f"call was changed; look near line {parts[RATED].first_line + place} of {parts[RATED].path}"
        )
    raise Difference(f"batch {number}: the state keeps {len(kept)} record ids, the replay gives {len(replayed)}")


def _check_books(store: Store, state: State) -> None:
    """Every row of the stored books against the replayed ones, byte for byte."""
    for name, dtype in SHELVES.items():
        kept, replayed = store.shelf_bytes(name), row_bytes(state.rows(name))
        if kept == replayed.tobytes():
            continue
        if len(kept) != replayed.size:
            raise Difference(f"state, {name}: {len(kept)} bytes of rows, the replay gives {replayed.size}")
        differs = np.frombuffer(kept, np.uint8).reshape(replayed.shape) != replayed
        row = int(np.flatnonzero(differs.any(axis=1))[0])
        stored = np.frombuffer(kept, dtype).view(np.recarray)
        told = row_difference(stored[row], state.rows(name)[row], dtype)
        raise Difference(f"state, {name} row {row}{owner(name, state.rows(name), row, state)}{told}")
    if store.meta("rows") != state.row_counts() or store.meta("free") != state.free_rows():
        raise Difference("state: the row counts or free rows are not the replay's")


class _Auditor:
    def __init__(self, store: Store, outs: list[Path]) -> None:
        self.store = store
        self.state = State.empty(bytes.fromhex(store.meta("key")))
        self.workspace = Workspace()
        self.books: dict[tuple[tuple[str, ...], str], RuleBook] = {}
        self.files: dict[int, _Files] = {}
        self.folders = self._folders(outs)
        self.audited = Audited()
        self.previous, self.digest = NO_DIGEST, NO_DIGEST
        self.next_cdr, self.next_command = 0, 0

    def _folders(self, outs: list[Path]) -> dict[int, Path]:
        """Which folder holds which batches: by its recorded path, or the only one given where only one was used."""
        recorded = self.store.out_paths()
        given = {out.resolve() for out in outs}
        if len(recorded) == 1 and len(given) == 1:
            return dict.fromkeys(recorded, next(iter(given)))
        missing = [str(path) for path in recorded.values() if path not in given and not path.is_dir()]
        if missing:
            raise MissingFolder(f"this state also wrote to {', '.join(missing)}; pass it with --out too")
        return recorded

    def book(self, line: dict[str, Any]) -> RuleBook:
        key = (tuple(line["decks"]), line["plans"])
        if key not in self.books:
            try:
                decks = [self.store.text("deck", version) for version in key[0]]
                book = kept_rule_book(decks, self.store.text("plans", key[1]).decode())
            except ValueError as error:  # not readable any more, in whatever way
                raise Difference(f"state, deck {' '.join(key[0])} or plans {key[1]}: cannot be read: {error}") from None
            if tuple(deck.version for deck in book.decks) != key[0] or book.plans_version != key[1]:
                raise Difference(f"state: the deck or plans kept as {key} have other content now")
            self.books[key] = book
        return self.books[key]

    def batch(self, number: int, out: int, raw: bytes, ids: bytes) -> None:
        if out not in self.files:
            self.files[out] = _Files(self.folders[out])
        files = self.files[out]
        written = files.take(JOURNAL, len(raw) + 1)
        if difference := first_difference(written, raw + b"\n"):
            raise Difference(f"journal in the state and journal file differ: {difference}")
        try:
            line = orjson.loads(raw)
        except orjson.JSONDecodeError:
            raise Difference(f"state, journal batch {number}: not JSON any more") from None
        if line["batch"] != number or line["previous"] != self.previous:
            raise Difference(f"{written.where(0)}: does not follow the line before it (batch {number})")
        if line["cdrs"][1] != self.next_cdr or line["commands"][1] != self.next_command:
            raise Difference(f"{written.where(0)}: the input ranges do not follow those of the batch before")
        parts = {
            name: files.take(name, line["bytes"][name]) for name in (RATED, EVENTS, REJECTED_CDRS, REJECTED_COMMANDS)
        }
        inputs = _gather(parts, line)
        outcome = _replay(self.state, self.book(line), inputs, line["segments"], self.workspace)
        for name, blocks in blocks_of(outcome).items():
            if difference := first_difference(parts[name], b"".join(blocks)):
                raise Difference(difference)
        _check_ids(ids, self.state, parts, number)
        for name, part in parts.items():
            if digest_of(part.data) != line["digests"][name]:
                raise Difference(
                    f"{part.path} lines {part.first_line} on, bytes {part.at} to {part.at + len(part.data)}: not the bytes "
                    f"whose digest journal batch {number} holds"
                )
        _check_counts(line, outcome, number)
        self.digest = state_digest(self.digest, self.state)
        if self.digest != line["state_digest"]:
            raise Difference(
                f"{written.where(0)}: state_digest is {line['state_digest']}, the replay gives {self.digest}"
            )
        self.state.committed()
        self.previous = digest_of(raw)
        self.next_cdr, self.next_command = line["cdrs"][2], line["commands"][2]
        self.count(line)

    def count(self, line: dict[str, Any]) -> None:
        audited, counts = self.audited, line["counts"]
        audited.batches += 1
        audited.rated += counts["rated"]
        audited.rejected += counts["rejected"]
        audited.commands += counts["commands"]
        audited.duplicates += counts["duplicates"]
        for currency, charge in line["totals"]["charge_micros"].items():
            audited.charge_micros[currency] = audited.charge_micros.get(currency, 0) + charge

    def finish(self) -> Audited:
        store = self.store
        expected = {"batch": self.audited.batches, "next_cdr": self.next_cdr, "next_command": self.next_command,
                    "state_digest": self.digest, "journal_digest": self.previous}  # fmt: skip
        for name, value in expected.items():
            if store.meta(name) != value:
                raise Difference(f"state, {name}: {store.meta(name)}, the replay gives {value}")
        if store.batches_with_ids() != list(range(1, self.audited.batches + 1)):
            raise Difference("state, seen: holds ids of a batch that the journal does not know")
        _check_books(store, self.state)
        for out, files in self.files.items():
            for name, length in store.lengths(out).items():
                if length != files.position(name):
                    raise Difference(
                        f"state: {name} is committed to {length} bytes, the journal accounts for {files.position(name)}"
                    )
        store.check_seal()
        if store.unfinished() is None:
            self._check_ends()
        self.audited.tenants = int(self.state.rows("accounts").size)
        return self.audited

    def _check_ends(self) -> None:
        """With no run open, nothing stands behind what was committed (an open run's next start cuts that off)."""
        for out, lengths in ((out, self.store.lengths(out)) for out in self.folders):
            for name, length in lengths.items():
                path = self.folders[out] / name
                found = path.stat().st_size if path.exists() else 0
                if found != length:
                    raise Difference(f"{path}: {found} bytes found, {length} were committed, and no run is open")

    def close(self) -> None:
        for files in self.files.values():
            files.close()


def _batches(store: Store) -> Iterator[tuple[int, int, bytes, bytes]]:
    for number, out, line in store.journal():
        yield number, out, line, store.batch_ids(number)


def audit(state: Path, outs: list[Path], progress: Callable[[int, int], None] | None = None) -> Audited:
    """Prove the books of a state file, or raise the first `Difference`; `StateProblem` where there is nothing to audit."""
    store = Store(state, read_only=True)
    try:
        return _audited(store, outs, progress)
    except (StateProblem, sqlite3.DatabaseError, ValueError, KeyError, TypeError, IndexError) as error:
        if isinstance(error, MissingFolder):
            raise
        told = str(error) if isinstance(error, StateProblem) else f"{type(error).__name__}: {error}"
        raise Difference(f"state {state}: cannot be read as rater wrote it: {told}") from None
    finally:
        store.close()


def _audited(store: Store, outs: list[Path], progress: Callable[[int, int], None] | None) -> Audited:
    store.check_integrity()
    auditor = _Auditor(store, outs)
    total = int(store.meta("batch"))
    try:
        for number, out, line, ids in _batches(store):
            auditor.batch(number, out, line, ids)
            if progress:
                progress(number, total)
        return auditor.finish()
    finally:
        auditor.close()
