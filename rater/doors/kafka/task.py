"""The partition task: one partition's calls and commands, rated exactly once.

Take over (fence, restore, hear the three witnesses), then one transaction a batch: fetch, decide, write outputs, changelog,
journal and both input offsets, commit; only then is the state committed too. Whatever fails, the state in memory is
thrown away and the partition is taken over anew from what the log says: nothing is ever guessed or undone by hand.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from rater.contract.journal import NO_DIGEST, JournalLine, digest_of, state_digest
from rater.core.state import State
from rater.doors.failpoints import reached
from rater.doors.kafka.changelog import Watermark, write_changes
from rater.doors.kafka.fetched import Fetched, records_in
from rater.doors.kafka.leftovers import abort_in, counts_already, left_open
from rater.doors.kafka.log import Bodies, Fenced, Log, LogProblem, Member, Place, Reader, Refused, Stored, Writer
from rater.doors.kafka.names import CDRS, COMMANDS, JOURNAL, REJECTED_COMMANDS, STATE, Names
from rater.doors.kafka.next_ids import NextIds
from rater.doors.kafka.outputs import Packed, Written, journal_body, packing, to_store, vouch, write_outcome
from rater.doors.kafka.partitioning import partition_of
from rater.doors.kafka.record_batches import BodyWriter
from rater.doors.kafka.restore import Restored, restore_best
from rater.doors.kafka.rule_sets import DeckMissing
from rater.doors.kafka.snapshot import Base, Snapshots
from rater.doors.kafka.snapshot_keeper import SnapshotKeeper
from rater.doors.kafka.surroundings import (
    Backlog,
    BatchReport,
    Disagreement,
    Limits,
    Phase,
    Rules,
    Surroundings,
)
from rater.doors.kafka.witnesses import GroupOffsets, disagreement, never_started
from rater.doors.kafka.witnesses import Names as WitnessNames
from rater.doors.rules import RuleBook
from rater.pipeline import Batch, Outcome, Workspace, decide

Result = TypeVar("Result")
IDLE_S = 0.5  # how long a fetch waits for a first record before the task looks around


@dataclass(slots=True)
class Decided:
    """A batch ready to be written."""

    outcome: Outcome
    stored: list[tuple[Place, Stored]]
    watermark: Watermark
    report: BatchReport
    ready_at: float  # by the monotonic clock


class PartitionTask:
    """One partition of one worker, from its assignment to its release. `run` ends when `stop` was called, or raises `Fenced`."""

    def __init__(
        self,
        partition: int,
        partitions: int,
        log: Log,
        member: Member,
        names: Names,
        rules: Rules,
        snapshots: Snapshots,
        limits: Limits,
        around: Surroundings,
        kept: Base | None = None,
    ) -> None:
        self.partition, self._partitions = partition, partitions
        self._log, self._member, self._names = log, member, names
        self._rules, self._snapshots, self._limits, self._around = rules, snapshots, limits, around
        self._calls, self._commands = names.place(CDRS, partition), names.place(COMMANDS, partition)
        self._workspace, self._bodies = Workspace(lends=True), BodyWriter(packing(limits.codec))
        self._stopping = asyncio.Event()
        self._base: Base | None = kept  # the committed state, valid between two batches
        self._book: RuleBook | None = None
        self._writer: Writer | None = None
        self._reader: Reader | None = None
        self._due = 0.0  # the next commit, where anything came
        self._keeper = SnapshotKeeper(
            partition, partitions, names.app_id, snapshots, limits.snapshot_interval_s, around
        )
        self._next_ids = NextIds(partition, around)
        self._transaction_open = False
        self._oldest_ms = 0  # of the batch on its way
        self._lookers: list[tuple[Callable[[Base, RuleBook], Any], asyncio.Future[Any]]] = []
        self._current = False  # taken over: the committed state is what the log says, and may be shown

    def backlog(self) -> Backlog:
        """For operators: how far the inputs reach, and since when the oldest record waits."""
        return Backlog(self._member.end(self._calls), self._member.end(self._commands), self._oldest_ms)

    @property
    def base(self) -> Base | None:
        """The committed state, for whoever gets this partition next in this process; None while a batch is on its way."""
        return self._base

    async def look(self, see: Callable[[Base, RuleBook], Result]) -> Result:
        """What `see` makes of the committed state: now, or when the batch on its way is committed.

        It runs on the loop, between two batches, so it must be quick, and must change and keep nothing. Waits for as long as the
        partition is not being rated: give it a deadline.
        """
        seen: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._lookers.append((see, seen))
        self._show()
        return await seen

    def _show(self) -> None:
        """Answer whoever looks, if the state in memory is a committed one."""
        base, book = self._base, self._book
        if not self._current or base is None or book is None:
            return
        lookers, self._lookers = self._lookers, []
        for see, seen in lookers:
            if seen.done():
                continue  # nobody waits any more
            try:
                seen.set_result(see(base, book))
            except Exception as problem:  # the looker's own
                seen.set_exception(problem)

    def stop(self) -> None:
        """Finish the transaction under way and end."""
        self._stopping.set()

    async def run(self) -> None:
        """Rate until stopped; problems are told, waited out and started over. `Fenced` ends the worker."""
        wait = self._limits.retry_s
        try:
            while not self._stopping.is_set():
                try:
                    await self._take_over()
                    self._tell(Phase.RUNNING, "")
                    wait = self._limits.retry_s
                    await self._work()
                except Fenced:
                    raise
                except Exception as problem:  # whatever it was: forget what is in memory, look at the log again
                    if self._stopping.is_set() and self._only_waited(problem):
                        return  # told to go while it waited for the log: nobody is to be alarmed
                    self._tell(Phase.STOPPED, _sentence(problem))
                    await self._drop(problem)
                    if isinstance(problem, Disagreement | DeckMissing):
                        wait = self._limits.retry_max_s  # a person has to do something first
                    await self._pause(wait)
                    wait = min(2 * wait, self._limits.retry_max_s)
        finally:
            await self._release()

    def _only_waited(self, problem: Exception) -> bool:
        """The log did not answer, and nothing was begun."""
        told = isinstance(problem, LogProblem) and not isinstance(problem, Disagreement | DeckMissing)
        return told and not self._transaction_open

    # --- taking over ---------------------------------------------------------------------------------------------

    async def _take_over(self) -> None:
        self._current = False
        self._tell(Phase.RESTORING, "")
        self._member.pause((self._calls, self._commands))
        reached("opening-writer")
        self._writer = await self._log.open_writer(self._names.transactional_id(self.partition))
        if self._reader is None:
            self._reader = await self._log.open_reader()
        restored = await self._restore()
        group = GroupOffsets(await self._member.committed(self._calls), await self._member.committed(self._commands))
        first = never_started(restored.watermark, restored.journal, group)
        if not first:
            await self._adopt(restored, group)
        await self._end_leftovers(restored.watermark)
        if first:
            await self._begin()
        assert self._base is not None
        mark = self._base.watermark
        self._book = self._rules.find(mark.decks, mark.plans)
        self._rules.keep(self._book)
        self._around.watch.rules(self.partition, self._book)
        self._around.watch.taken_over(self.partition, self._base.state, mark)
        self._member.seek(self._calls, mark.next_cdr)
        self._member.seek(self._commands, mark.next_command)
        self._member.resume((self._calls, self._commands))
        self._keeper.taken_over()
        self._current = True
        self._show()

    async def _restore(self) -> Restored:
        assert self._reader is not None
        kept, self._base = self._base, None

        def progress(topic: str, read: int, offset: int, end: int) -> None:
            self._around.watch.restoring(self.partition, topic, read, offset, end)

        async def load_snapshot() -> Base:
            """In a thread: other partitions go on meanwhile."""
            base: Base = await self._around.aside(lambda: self._snapshots.load(self.partition))
            return base

        return await restore_best(
            self._reader,
            self._names.place(STATE, self.partition),
            self._names.place(JOURNAL, self.partition),
            kept,
            load_snapshot,
            progress,
            lambda sentence: self._around.say(self.partition, sentence),
            self._around.aside,
        )

    async def _adopt(self, restored: Restored, group: GroupOffsets) -> None:
        """Go on where the log stands, if the witnesses agree."""
        names = WitnessNames(self._names.app_id, self.partition, self._calls.topic, self._commands.topic)
        problem = disagreement(restored.watermark, restored.journal, group, names)
        if problem is not None:
            await self._still_alone(restored)
            raise Disagreement(problem)
        assert restored.state is not None
        assert restored.watermark is not None
        self._base = Base(
            restored.state,
            restored.watermark,
            restored.state_offset,
            restored.journal_offset,
            restored.line_offset,
        )

    async def _end_leftovers(self, mark: Watermark | None) -> None:
        """Abort what the broker left open of an older writer, if it belongs to a batch that never counted.

        The witnesses agree: the last batch that counts is there in journal and state. What is open behind it in those two does not
        count, nor do outputs of inputs that are still to be read. An output of inputs that are done is another matter: its
        batch was committed, and aborting it would lose it.
        """
        assert self._reader is not None
        assert self._writer is not None
        left = await left_open(self._reader, self._names.own_places(self.partition))
        if not left:
            return
        places = ", ".join(map(str, left))
        unsure = [place for place in left if await self._counts(place, mark)]
        await abort_in(
            self._writer, [self._names.place(JOURNAL, self.partition)] if unsure else left
        )  # raises where it is a successor's
        if unsure:
            raise Disagreement(
                f"partition {self.partition}: {', '.join(map(str, unsure))}: records of a committed batch are still open there: the broker "
                "never wrote the marker; stop the workers and write it with Kafka's tools (docs/kafka.md), then compare with "
                "`rater audit --bootstrap`"
            )
        self._around.say(
            self.partition, f"{places}: the broker had not ended a transaction of an older writer; aborted now"
        )

    async def _counts(self, place: Place, mark: Watermark | None) -> bool:
        assert self._reader is not None
        if mark is None or place in {self._names.place(name, self.partition) for name in (STATE, JOURNAL)}:
            return False
        try:
            block = await self._reader.first_held(place)
        except Refused:  # a worker need not be allowed to read its outputs
            return True
        of_commands = place == self._names.place(REJECTED_COMMANDS, self.partition)
        return counts_already(block, mark.next_command if of_commands else mark.next_cdr, mark.next_command)

    async def _still_alone(self, restored: Restored) -> None:
        """The witnesses are heard one after the other: raises `LogProblem` if a successor has gone on meanwhile.

        Then we were stalled and are fenced; nothing is wrong, and no operator must be told to move an offset.
        """
        assert self._reader is not None
        for name, offset in ((STATE, restored.state_offset), (JOURNAL, restored.journal_offset)):
            place = self._names.place(name, self.partition)
            _, end = await self._reader.bounds(place)
            if end > offset:
                raise LogProblem(
                    f"{place} grew from {offset} to {end} while it was read: another worker has taken over"
                )

    async def _begin(self) -> None:
        """The very first start: batch 1 reads nothing, draws the key, and activates the rules at hand."""
        assert self._reader is not None
        book = self._rules.current
        state = State.empty(self._around.new_key())
        first_call, _ = await self._reader.bounds(self._calls)
        first_command, _ = await self._reader.bounds(self._commands)
        before = Watermark(
            self.partition, 0, first_call, first_command, NO_DIGEST, NO_DIGEST, state.row_counts(), state.free_rows(), 0,
            state.key.tobytes().hex(), _versions(book), book.plans_version,
        )  # fmt: skip
        self._rules.keep(book)
        self._base = Base(state, before, 0, 0, -1)
        self._book = book
        self._around.say(self.partition, "first start: no state, no journal, no group offsets; begins at the log start")
        await self._rate(Fetched(), self._around.now())

    # --- working -------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while not self._stopping.is_set():
            if self._tainted():
                await self._renew()
            begun = self._around.now()
            fetched = await self._gather()
            fetched.ends = self._positions()
            if self._stopping.is_set():
                return  # nothing of it was begun; the next owner fetches it again
            if self._tainted():
                continue  # taking over goes back to what was not rated
            if fetched.count or self._moved(fetched):
                await self._rate(fetched, begun)
            if self._base is not None:
                self._next_ids.between_batches(self._base.state)
                await self._keeper.between_batches(self._base)

    def _moved(self, fetched: Fetched) -> bool:
        """Blocks without records (all compacted away) still move the offsets, and so do markers and aborted records."""
        assert self._base is not None
        mark = self._base.watermark
        further = fetched.ends and (fetched.ends[self._calls], fetched.ends[self._commands]) != (
            mark.next_cdr,
            mark.next_command,
        )
        return bool(fetched.calls or fetched.commands or further)

    def _positions(self) -> dict[Place, int]:
        """Where the inputs are read up to; empty when they were revoked just now.

        Not where the last block ends: were markers left unread, and then deleted by retention together with the records
        before them, the offsets of a partition that has nothing to do would lie before the log's start.
        """
        try:
            return {place: self._member.position(place) for place in (self._calls, self._commands)}
        except LogProblem:
            return {}

    async def _gather(self) -> Fetched:
        """Everything that arrives until the next commit is due or a batch is full; nobody waits for a command.

        A batch is due an interval after the one before was, on average: one that was late leaves its time to the next. What came
        while the batch before was written need not wait, nor what comes after a pause; and what comes once an interval waits for
        nothing, where a fixed distance between two batches would fall behind it little by little, until it waits for all of the
        next (the generic cell rate algorithm, ITU-T I.371, with a tolerance of one interval).
        """
        limits, fetched = self._limits, Fetched()
        places = (self._calls, self._commands)
        fetched.add(await self._member.fetch(places, limits.bytes_max, IDLE_S), self._calls, self._commands)
        if not fetched.size:
            return fetched
        self._oldest_ms = fetched.oldest_ms()
        while not (fetched.commands or fetched.is_full(limits) or self._stopping.is_set()):
            left = self._due - self._around.now()
            if left <= 0:
                break
            more = await self._member.fetch(places, limits.bytes_max - fetched.size, left)
            fetched.add(more, self._calls, self._commands)
        now = self._around.now()  # a batch that was full, or has a command, may be early: nobody waits longer for that
        self._due = min(max(self._due, now - limits.commit_interval_s), now) + limits.commit_interval_s
        return fetched

    async def _rate(self, fetched: Fetched, begun: float) -> None:
        """One batch, one transaction. On any exception the state in memory is no longer to be trusted."""
        base, self._base = self._base, None
        assert base is not None
        reached("after-poll")
        fetch_s = self._around.now() - begun
        decided, places = await self._commit(lambda: self._decide(base, fetched, fetch_s))
        reached("after-log-commit")
        base.state.committed()
        state_end, line_offset = places
        self._base = Base(base.state, decided.watermark, state_end, line_offset + 1, line_offset)
        self._show()
        report, self._oldest_ms = decided.report, 0
        if report.outcome.activations and self._book is not None:
            self._around.watch.rules(self.partition, self._book)
        report.commit_s = self._around.now() - decided.ready_at
        self._around.watch.committed(self.partition, report)

    def _decide(self, base: Base, fetched: Fetched, fetch_s: float) -> Decided:
        """Runs in a thread: nobody else touches this partition's state meanwhile."""
        started, mark = self._around.now(), base.watermark
        calls, call_times = records_in(fetched.calls, mark.next_cdr)
        commands, _ = records_in(fetched.commands, mark.next_command)
        assert self._book is not None
        book = self._book

        def activate(fields: dict[str, Any]) -> Any:
            nonlocal book
            book = self._rules.find(fields["decks"], fields.get("plans") or book.plans_version)
            self._rules.keep(book)
            return book.rules

        def home(tenant: bytes) -> int:
            return partition_of(tenant, self._partitions)

        batch = Batch(self.partition, commands, calls, mark.next_command, mark.next_cdr, home=home)
        outcome = decide(base.state, book.rules, batch, self._workspace, activate=activate)
        decided_at = self._around.now()
        self._book = book
        watermark, written = self._write(base, fetched, outcome, book)
        stored, written_bytes = to_store(written)
        report = BatchReport(
            outcome, base.state, fetched.size, written_bytes, fetch_s, decided_at - started, self._around.now() - decided_at,
            int(call_times.min()) if call_times.size else 0, watermark,
        )  # fmt: skip
        return Decided(outcome, stored, watermark, report, self._around.now())

    def _write(
        self, base: Base, fetched: Fetched, outcome: Outcome, book: RuleBook
    ) -> tuple[Watermark, Written[Packed]]:
        mark, state = base.watermark, base.state
        next_cdr = fetched.next_offset(self._calls, fetched.calls, mark.next_cdr)
        next_command = fetched.next_offset(self._commands, fetched.commands, mark.next_command)
        written = write_outcome(outcome, self.partition, self._names, self._bodies)
        digest = state_digest(mark.state_digest, state)
        line = vouch(
            JournalLine(
                mark.batch + 1,
                self.partition,
                [[mark.next_command, next_command, mark.next_cdr, next_cdr]],
                outcome.counts,
                list(_versions(book)),
                book.plans_version,
                book.numbering_version,
                outcome.applied,
                state_digest=digest,
                previous=mark.journal_digest,
                seen=state.fresh_ids().tobytes(),
            ),
            outcome,
        )
        watermark = Watermark(
            self.partition, mark.batch + 1, next_cdr, next_command, digest, digest_of(line), state.row_counts(),
            state.free_rows(), int(state.seen_tally[0]), mark.key, _versions(book), book.plans_version,
        )  # fmt: skip
        written.add(self._names.place(STATE, self.partition), write_changes(state, watermark, self._bodies))
        written.add(self._names.place(JOURNAL, self.partition), journal_body(line, self._bodies.keep))
        return watermark, written

    async def _commit(self, decide: Callable[[], Decided]) -> tuple[Decided, tuple[int, int]]:
        """A batch, everything of it in one transaction: and (offset behind its state rows, offset of its journal line)."""
        assert self._writer is not None
        decided: Decided | None = None

        def prepare() -> tuple[Bodies, dict[Place, int]]:
            nonlocal decided
            with self._around.turn:
                decided = decide()
            self._transaction_open = True
            mark = decided.watermark
            return decided.stored, {self._calls: mark.next_cdr, self._commands: mark.next_command}

        firsts = await self._writer.transact(prepare, self._names.app_id, self._around.in_thread)
        self._transaction_open = False
        assert decided is not None
        ends = _ends(decided.stored, firsts)
        return decided, (
            ends[self._names.place(STATE, self.partition)],
            ends[self._names.place(JOURNAL, self.partition)] - 1,
        )

    def _tainted(self) -> bool:
        return self._writer is not None and self._writer.tainted

    async def _renew(self) -> None:
        """A tainted writer may have a request under way that would end the next transaction: take over anew, before it begins.

        A new writer alone will not do. It fences whoever has taken this partition over since (we may have been stalled), and
        would commit on top of what they wrote: only the logs say whether the state in memory is still the latest.
        """
        assert self._writer is not None
        self._around.say(self.partition, "a request was repeated or slow: a new writer, so that it cannot do harm")
        self._around.watch.writer_replaced(self.partition, "tainted")
        await self._writer.close()
        await self._take_over()
        self._tell(Phase.RUNNING, "")

    # --- letting go ----------------------------------------------------------------------------------------------

    async def _drop(self, problem: Exception) -> None:
        """After a failure: abort what is open, forget the state, keep nothing of the writer."""
        self._base, self._current = None, False
        self._keeper.lost()
        self._around.watch.failed(self.partition, problem)
        was_open, self._transaction_open = self._transaction_open, False
        if was_open:
            self._around.watch.aborted(self.partition, _sentence(problem))
        self._around.say(self.partition, _sentence(problem))
        if self._writer is not None:
            self._around.watch.writer_replaced(self.partition, "failure")
            try:
                await self._writer.abort()
            except LogProblem as still:
                if was_open:
                    self._around.say(self.partition, f"abort: {still}; the next writer's start aborts it")
            await self._writer.close()
            self._writer = None

    async def _pause(self, seconds: float) -> None:
        until = self._around.now() + seconds
        while not self._stopping.is_set() and self._around.now() < until:
            await self._around.sleep(min(0.2, until - self._around.now()))

    async def _release(self) -> None:
        reached("in-revoke")
        self._current = False
        await self._keeper.end()
        await self._next_ids.end()
        for opened in (self._writer, self._reader):
            if opened is not None:
                await opened.close()
        self._writer = self._reader = None
        self._tell(Phase.RELEASED, "")

    def _tell(self, phase: Phase, why: str) -> None:
        self._around.watch.phase(self.partition, phase, why)


def _versions(book: RuleBook) -> tuple[str, ...]:
    """Sorted: a set of decks reads the same, wherever it was found."""
    return tuple(sorted(deck.version for deck in book.decks))


def _ends(stored: Bodies, firsts: Sequence[int]) -> dict[Place, int]:
    """The offset behind the last record of each place."""
    ends: dict[Place, int] = {}
    for (place, (_, count, _)), first in zip(stored, firsts, strict=True):
        ends[place] = max(first + count, ends.get(place, 0))
    return ends


def _sentence(problem: BaseException) -> str:
    return str(problem) if isinstance(problem, LogProblem) else f"{type(problem).__name__}: {problem}"
