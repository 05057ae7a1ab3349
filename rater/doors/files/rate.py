"""`rater rate`: files of call records in, rated calls and account events out, exactly once.

One thread reads and decides; a second one writes the previous batch, makes it durable and commits it together with the
state. A batch counts when its transaction is committed; what was written of an uncommitted one is cut off at the next start.
"""

import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from rater.contract.counts import Counts
from rater.contract.journal import JournalLine, digest_of, encode_journal, state_digest
from rater.doors.clock import stopwatch
from rater.doors.failpoints import reached
from rater.doors.files.inputs import LineStream, Piece, Place, SourceStream, identity_of
from rater.doors.files.outbox import NOTHING, tell
from rater.doors.files.outputs import EVENTS, JOURNAL, RATED, REJECTED_CDRS, REJECTED_COMMANDS, Outputs
from rater.doors.files.recharge import responder
from rater.doors.files.store import Commit, StateProblem, Store, dirty_pages
from rater.doors.rules import RuleBook
from rater.pipeline import Batch, Outcome, Workspace, decide, records_of
from rater.sources import SourceProfile, open_source

BATCH_RECORDS_MAX = 50_000
BATCH_BYTES_MAX = 32 << 20
CANONICAL = "canonical"


@dataclass(frozen=True, slots=True)
class RateRequest:
    """What a person asked `rater rate` to do."""

    calls: list[str]
    commands: list[str]
    state: Path
    out: Path
    recharge: str = "none"
    source: str = CANONICAL
    profile: SourceProfile | None = None
    profile_text: str = ""
    batch_records_max: int = BATCH_RECORDS_MAX
    abandon_unfinished: bool = False
    outbox: bool = True


@dataclass(slots=True)
class Summary:
    """What a run came to."""

    counts: Counts = field(default_factory=Counts)
    blank_lines: int = 0
    skipped: int = 0
    resumed: bool = False
    wall_s: float = 0.0
    tenants: int = 0
    ids_kept: int = 0
    ids_bytes: int = 0
    mails: int = 0


Progress = Callable[[str, int], None]


def _quiet(phase: str, done: int) -> None:
    """Nobody watches."""


Item = tuple[dict[str, Sequence[bytes | memoryview]], JournalLine, Commit]


class _Stage:
    """One thread that takes items in order and hands them on; a failure stops the work and surfaces at the next hand-over."""

    def __init__(self, name: str, work: Callable[[Item], None], following: "_Stage | None" = None) -> None:
        self._work, self._following = work, following
        self._queue: queue.Queue[Item | None] = queue.Queue(maxsize=1)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def hand_over(self, item: Item) -> None:
        self.check()
        self._queue.put(item)

    def check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._following is not None:
            self._following.check()

    def finish(self) -> None:
        self._queue.put(None)
        self._thread.join()
        if self._following is not None:
            self._following.finish()
        self.check()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            if self._failure is None:
                try:
                    self._work(item)
                    if self._following is not None:
                        self._following.hand_over(item)
                except BaseException as failure:  # handed to the deciding thread, which stops the run
                    self._failure = failure


class _Writer:
    """Behind the deciding thread, in order: one thread writes a batch, the next makes it durable and commits it."""

    def __init__(self, outputs: Outputs, store: Store) -> None:
        self._outputs, self._store = outputs, store
        self._digest = store.meta("journal_digest")
        self._first = _Stage("rater-writer", self._write, _Stage("rater-committer", self._commit))

    def hand_over(self, blocks: dict[str, Sequence[bytes | memoryview]], line: JournalLine, commit: Commit) -> None:
        self._first.hand_over((blocks, line, commit))

    def finish(self) -> None:
        self._first.finish()

    def _write(self, item: Item) -> None:
        blocks, line, commit = item
        for name, parts in blocks.items():
            line.bytes[name], line.digests[name] = sum(map(len, parts)), digest_of(*parts)
        line.previous = self._digest
        commit.journal = encode_journal(line)
        self._digest = commit.meta["journal_digest"] = digest_of(commit.journal)
        blocks[JOURNAL] = [commit.journal + b"\n"]
        self._outputs.append(blocks)
        commit.lengths = dict(self._outputs.lengths)

    def _commit(self, item: Item) -> None:
        self._outputs.sync(name for name, parts in item[0].items() if parts)
        self._store.commit(item[2])


class _Run:
    """One run: the books, where the streams stand, and what has been handed to the writer."""

    def __init__(self, request: RateRequest, book: RuleBook, store: Store, progress: Progress) -> None:
        self.request, self.book, self.store, self.progress = request, book, store, progress
        self.state = store.load_state()
        self.workspace = Workspace()
        self.respond = responder(request.recharge)
        self.summary = Summary()
        self.batch = store.meta("batch")
        self.next_cdr, self.next_command = store.meta("next_cdr"), store.meta("next_command")
        self.digest = store.meta("state_digest")
        self.phase, self.place = "commands", Place()
        self.run, self.out = 0, 0

    # --- beginning -------------------------------------------------------------------------------------------

    def spec(self) -> dict[str, Any]:
        """What makes an interrupted run the same run when it is asked for again."""
        request, book = self.request, self.book
        return {
            "calls": [identity_of(name) for name in request.calls],
            "commands": [identity_of(name) for name in request.commands],
            "source": request.source,
            "profile": digest_of(request.profile_text.encode()),
            "recharge": request.recharge,
            "decks": [deck.version for deck in book.decks],
            "plans": book.plans_version,
            "out": str(request.out.resolve()),
            "batch_records_max": request.batch_records_max,
        }

    def take_up(self) -> None:
        """Go on with an interrupted run of the same request, or begin a new one."""
        spec = self.spec()
        unfinished = self.store.unfinished()
        if unfinished is not None and self.request.abandon_unfinished:
            self.store.finish_run(unfinished[0])
            unfinished = None
        if unfinished is None:
            self.run = self.store.start_run(spec)
            return
        self.run, known, place, counts = unfinished
        if known != spec:
            different = ", ".join(key for key in spec if known.get(key) != spec[key])
            raise StateProblem(
                f"{self.store.path}: an interrupted run is not finished, and this one differs from it in: {different}. Run "
                "the interrupted command again first, or leave the rest of it undone with --abandon-unfinished"
            )
        self.summary.resumed = True
        if place:
            self.phase, self.place = place["phase"], Place(place["file"], place["done"])
            self.summary.blank_lines, self.summary.skipped = counts.pop("blank_lines"), counts.pop("skipped")
            self.summary.counts = Counts(**counts)

    # --- one batch -------------------------------------------------------------------------------------------

    def take(self, piece: Piece, phase: str, writer: _Writer) -> None:
        nothing = records_of([])
        calls, commands = (nothing, piece.records) if phase == "commands" else (piece.records, nothing)
        if phase == "commands":  # answers to recharge requests have offsets too, so later commands move up
            first = self.next_command
            piece.records.offsets[:] = range(first, first + piece.records.count)
        batch = Batch(0, commands, calls, self.next_command, self.next_cdr, piece.faults)
        outcome = decide(self.state, self.book.rules, batch, self.workspace, self.respond)
        self.next_command, self.next_cdr = outcome.segments[-1][1], outcome.segments[-1][3]
        self.batch += 1
        self.summary.counts.add(outcome.counts)
        self.summary.blank_lines += piece.blank_lines
        self.summary.skipped += piece.skipped
        self.digest = state_digest(self.digest, self.state)
        line = JournalLine(
            self.batch,
            0,
            outcome.segments,
            outcome.counts,
            [deck.version for deck in self.book.decks],
            self.book.plans_version,
            self.book.numbering_version,
            outcome.applied,
            [int(piece.records.offsets[place]) for place in sorted(piece.faults)],
            state_digest=self.digest,
        )
        writer.hand_over(blocks_of(outcome), line, self.commit_of(piece, phase))
        self.state.committed()

    def commit_of(self, piece: Piece, phase: str) -> Commit:
        counts = asdict(self.summary.counts)
        counts |= {"blank_lines": self.summary.blank_lines, "skipped": self.summary.skipped}
        meta = {
            "batch": self.batch,
            "next_cdr": self.next_cdr,
            "next_command": self.next_command,
            "state_digest": self.digest,
            "plans": self.book.plans_version,
            "decks": [deck.version for deck in self.book.decks],
            "rows": self.state.row_counts(),
            "free": self.state.free_rows(),
        }
        place = {"phase": phase, "file": piece.after.file, "done": piece.after.done}
        return Commit(
            self.batch, b"", dirty_pages(self.state), self.state.fresh_ids().tobytes(), meta, self.out, {}, self.run, place,
            counts,
        )  # fmt: skip

    # --- streams ---------------------------------------------------------------------------------------------

    def streams(self) -> Iterator[tuple[str, Iterator[Piece]]]:
        """Commands, then calls, from where the run stands. Offsets count over all runs, so calls start when reached."""
        request = self.request
        most = request.batch_records_max
        if self.phase == "commands":
            lines = LineStream(request.commands, most, BATCH_BYTES_MAX, self.place, self.next_command)
            yield "commands", lines.pieces()
            self.phase, self.place = "calls", Place()
        if request.source == CANONICAL:
            yield "calls", LineStream(request.calls, most, BATCH_BYTES_MAX, self.place, self.next_cdr).pieces()
        else:
            profile = cast(SourceProfile, request.profile)

            def opened() -> Any:
                return open_source(request.source, profile)

            yield "calls", SourceStream(request.calls, opened, most, self.place, self.next_cdr).pieces()

    def work(self) -> Summary:
        with self.store.transaction():
            self.out = self.store.out_id(self.request.out)
            outputs = Outputs(self.request.out, self.store.lengths(self.out))
            self.store.register_out(self.out, outputs.lengths)
            for deck in self.book.decks:
                self.store.keep_text("deck", deck.version, deck.canonical)
            self.store.keep_text("plans", self.book.plans_version, self.book.plans_text.encode())
            self.take_up()
        writer = _Writer(outputs, self.store)
        try:
            for phase, pieces in self.streams():
                for piece in pieces:
                    self.take(piece, phase, writer)
                    self.progress(phase, piece.raw_bytes)
        finally:
            writer.finish()
            outputs.close()
        # Before the run is finished: one that is killed in between goes on here when it is asked for again.
        told = NOTHING
        if self.request.outbox:
            self.progress("mails", 0)
            told = tell(self.request.out, outputs.lengths[EVENTS], self.store.contacts())
        self.summary.mails = told.mails
        reached("before-finish")
        with self.store.transaction():
            self.store.keep_contacts(told.contacts)
            self.store.finish_run(self.run)
        self.summary.tenants = int(self.state.rows("accounts").size)
        self.summary.ids_kept = int(self.state.seen_tally[0])
        self.summary.ids_bytes = self.state.seen_bytes()
        return self.summary


def blocks_of(outcome: Outcome) -> dict[str, Sequence[bytes | memoryview]]:
    """What a batch adds to each output file."""
    return {
        RATED: outcome.rated,
        EVENTS: [line + b"\n" for line in outcome.events],
        REJECTED_CDRS: [line + b"\n" for line in outcome.rejected_cdrs],
        REJECTED_COMMANDS: [line + b"\n" for line in outcome.rejected_commands],
    }


def rate(request: RateRequest, book: RuleBook, progress: Progress = _quiet) -> Summary:
    """Carry out a run, or the rest of one that was interrupted."""
    seconds = stopwatch()
    for name in [*request.calls, *request.commands]:
        identity_of(name)  # an input that is not there must not leave a new state behind
    store = Store(request.state)
    try:
        summary = _Run(request, book, store, progress).work()
    finally:
        store.close()
    summary.wall_s = seconds()
    return summary


def summary_object(summary: Summary, request: RateRequest) -> dict[str, Any]:
    """`rater rate --json`"""
    counts = summary.counts
    return {
        "read": counts.read,
        "rated": counts.rated,
        "rejected": counts.rejected,
        "duplicates": counts.duplicates,
        "by_outcome": counts.by_outcome,
        "charge_micros": counts.charge_micros,
        "pool_minutes": counts.pool_minutes,
        "credit_minutes": counts.credit_minutes,
        "events": counts.events,
        "wall_s": round(summary.wall_s, 3),
    }


def settings_from_environment() -> dict[str, int]:
    """`RATER_BATCH_RECORDS_MAX`: how many records are committed together."""
    text = os.environ.get("RATER_BATCH_RECORDS_MAX")
    if text is None:
        return {}
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ValueError(f"RATER_BATCH_RECORDS_MAX is '{text}'; expected a whole number above 0, for example 10000")
    return {"batch_records_max": int(text)}
