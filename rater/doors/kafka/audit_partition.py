"""One partition audited: replayed from its inputs, line by line of its journal, and compared with all it has written."""

from base64 import b64decode
from typing import Any

from rater.contract.journal import NO_DIGEST, JournalLine, digest_of, state_digest
from rater.core.numbering import NUMBERING_VERSION
from rater.core.state import State
from rater.doors.differences import Difference, field_difference
from rater.doors.kafka.audit_scope import SETTLE_S, PartitionAudited, Scope
from rater.doors.kafka.audit_state import CannotAudit, Changelog, balances, check_base, open_changelog
from rater.doors.kafka.audit_streams import (
    ForwardedStream,
    InputRange,
    JournalLines,
    Line,
    OutputStream,
    forwarded_from,
    last_line,
    parsed,
    too_many,
)
from rater.doors.kafka.changelog import ChangelogProblem, Watermark
from rater.doors.kafka.log import Place, Reader
from rater.doors.kafka.names import CDRS, COMMANDS, JOURNAL, OUTPUTS, STATE
from rater.doors.kafka.outputs import vouch, write_outcome
from rater.doors.kafka.partitioning import partition_of
from rater.doors.kafka.record_batches import BodyWriter, CorruptBatch
from rater.doors.kafka.snapshot import Base, SnapshotUnusable
from rater.doors.kafka.witnesses import GroupOffsets, JournalEnd, disagreement
from rater.doors.kafka.witnesses import Names as WitnessNames
from rater.doors.rules import RuleBook
from rater.pipeline import Batch, Outcome, Workspace, decide


class PartitionAudit:
    """One partition, from its first line to its last."""

    def __init__(self, scope: Scope, reader: Reader, partition: int) -> None:
        self.scope, self.reader, self.partition = scope, reader, partition
        self.audited = PartitionAudited(partition)
        self.workspace, self.bodies = Workspace(), BodyWriter(bytes)
        self.journal = self.place(JOURNAL)
        self.mark: Watermark  # of the replay: the last batch that agrees
        self.state: State
        self.book: RuleBook
        self.inputs: dict[str, InputRange] = {}
        self.outputs: dict[str, OutputStream] = {}
        self.forwarded: dict[Place, ForwardedStream] = {}
        self.ends: dict[Place, int] = {}
        self.positions: dict[int, tuple[int, int]] = {}  # batch -> next offsets, from the last line at the start on
        self.offsets = GroupOffsets(None, None)
        self.rows_agree = False
        self.ahead: Line | None = None

    def place(self, name: str) -> Place:
        return self.scope.names.place(name, self.partition)

    async def run(self) -> None:
        """The result stands in `audited`; raises `LogProblem` only where the topics cannot be read."""
        try:
            await self._run()
        except (Difference, CorruptBatch, ChangelogProblem) as difference:
            self.audited.difference = str(difference)
        except CannotAudit as problem:
            self.audited.cannot = str(problem)

    async def _run(self) -> None:
        start, end = await self.reader.bounds(self.journal)
        last = await last_line(self.reader, self.journal, start, end)
        for name in OUTPUTS:
            first, self.ends[self.place(name)] = await self.reader.bounds(self.place(name))
            self.outputs[name] = OutputStream(self.reader, self.place(name), first)
        self.offsets = await self._group_offsets()
        changelog = await open_changelog(self.reader, self.place(STATE))
        if last is None or changelog.newest is None:
            await self._check_nothing(last, changelog)
            return
        self.last = self._number(last)
        self.lines = JournalLines(self.reader, self.journal, start)
        self.changelog = changelog
        await self._begin(start)
        await self._replay_lines(max(self.last, changelog.newest.batch))
        for left in range(self.scope.tries, -1, -1):
            problem = await self._open_question()
            if problem is None:
                break
            if not left:
                raise Difference(problem)
            await self.scope.sleep(SETTLE_S)
            self.offsets = await self._group_offsets()
            if not self.rows_agree or changelog.newest.batch < self.last:
                self.rows_agree = False
                await changelog.read_on()
            await self._replay_lines(None)
        self._finish()

    async def _group_offsets(self) -> GroupOffsets:
        if self.scope.group is None:
            return GroupOffsets(None, None)
        calls, commands = self.place(CDRS), self.place(COMMANDS)
        found = await self.scope.log.group_offsets(self.scope.group, [calls, commands])
        return GroupOffsets(found.get(calls), found.get(commands))

    async def _check_nothing(self, last: Line | None, changelog: Changelog) -> None:
        """A partition that nobody has ever rated has nothing anywhere."""
        end = self._journal_end(last) if last is not None else None
        if end is None and changelog.newest is None and self.offsets == GroupOffsets(None, None):
            for name, stream in self.outputs.items():
                record = await stream.left(self.ends[self.place(name)])
                if record is not None:
                    raise Difference(too_many(stream, record))
            return
        raise Difference(disagreement(changelog.newest, end, self.offsets, self._witness_names()) or "no state")

    def _witness_names(self) -> WitnessNames:
        names = self.scope.names
        return WitnessNames(
            self.scope.group or "RATER_APP_ID", self.partition, names.topic(CDRS), names.topic(COMMANDS)
        )

    def _number(self, line: Line) -> int:
        return self._journal_end(line).batch

    def _journal_end(self, line: Line) -> JournalEnd:
        told = parsed(str(self.journal), line)
        try:
            return JournalEnd(
                told["batch"], told["cdrs"][2], told["commands"][2], told["state_digest"], digest_of(line.raw)
            )
        except (KeyError, TypeError, IndexError):
            raise Difference(f"{self.journal} offset {line.offset}: not a line that rater writes") from None

    # --- where the replay begins ---------------------------------------------------------------------------------

    async def _begin(self, journal_start: int) -> None:
        first = await JournalLines(self.reader, self.journal, journal_start).next()
        assert first is not None
        told = self._ranges(first)
        if told[0] != 1:
            raise Difference(
                f"{self.journal} offset {first.offset}: begins with batch {told[0]}, expected 1: lines were deleted; the "
                "journal is kept for ever (retention.ms=-1)"
            )
        starts = {name: (await self.reader.bounds(self.place(name)))[0] for name in (CDRS, COMMANDS)}
        self.inputs = {name: InputRange(self.reader, self.place(name), starts[name]) for name in (CDRS, COMMANDS)}
        newest = self.changelog.newest
        assert newest is not None
        if starts[CDRS] > told[1] or starts[COMMANDS] > told[3]:
            base = await self._sound_base(starts)
            self.state, self.mark = base.state, base.watermark
            self.book = self.scope.rules.find(self.mark.decks, self.mark.plans)
            self.audited.first_batch = self.mark.batch + 1
            self.positions[self.mark.batch] = self.mark.next_cdr, self.mark.next_command
            for stream in self.outputs.values():
                stream.seeking = True
            return
        self.state = State.empty(bytes.fromhex(newest.key))
        self.mark = Watermark(
            self.partition, 0, told[1], told[3], NO_DIGEST, NO_DIGEST, self.state.row_counts(), self.state.free_rows(), 0,
            newest.key, (), "",
        )  # fmt: skip

    def _ranges(self, line: Line) -> tuple[int, int, int, int, int]:
        """(batch, calls from, to, commands from, to)"""
        told = parsed(str(self.journal), line)
        try:
            numbers = (int(told["batch"]), *map(int, told["cdrs"][1:]), *map(int, told["commands"][1:]))
            batch, calls_from, calls_to, commands_from, commands_to = numbers
        except (KeyError, TypeError, ValueError):
            raise Difference(f"{self.journal} offset {line.offset}: not a line that rater writes") from None
        return batch, calls_from, calls_to, commands_from, commands_to

    async def _sound_base(self, starts: dict[str, int]) -> Base:
        """A snapshot that the journal vouches for, where retention has taken the inputs of the first batches."""
        at = starts[CDRS]
        gone = f"{self.place(CDRS)}: cannot audit before offset {at}, and {self.place(COMMANDS)} before offset {starts[COMMANDS]}: "
        gone += "retention has taken what was there"
        if self.scope.snapshots is None:
            raise CannotAudit(
                f"{gone}; {await self._auditable_from(starts)}name a folder with a snapshot by --state-dir"
            )
        try:
            base = self.scope.snapshots.load(self.partition)
        except SnapshotUnusable as problem:
            raise CannotAudit(f"{gone}; {await self._auditable_from(starts)}{problem}") from None
        mark = base.watermark
        if mark.next_cdr < at or mark.next_command < starts[COMMANDS]:
            raise CannotAudit(f"{gone}; the snapshot is older still: it stands at batch {mark.batch}")
        ids, previous = bytearray(), NO_DIGEST
        for number in range(1, mark.batch + 1):
            line = await self.lines.next()
            if line is None:
                raise CannotAudit(f"{gone}; the snapshot stands at batch {mark.batch}, the journal ends before it")
            told = parsed(str(self.journal), line)
            if told.get("batch") != number or told.get("previous") != previous:
                raise Difference(f"{self.journal} offset {line.offset}: does not follow the line before it")
            ids += _ids_of(told)
            previous = digest_of(line.raw)
        if previous != mark.journal_digest:
            raise CannotAudit(f"{gone}; the snapshot stands behind another batch {mark.batch} than the journal's")
        check_base(base, bytes(ids), gone)
        return base

    async def _auditable_from(self, starts: dict[str, int]) -> str:
        """The first batch whose inputs are all there."""
        lines = JournalLines(self.reader, self.journal, self.lines.offset)
        while (line := await lines.next()) is not None:
            number, calls_from, _, commands_from, _ = self._ranges(line)
            if calls_from >= starts[CDRS] and commands_from >= starts[COMMANDS]:
                return f"from batch {number} on it could be audited, on the state after batch {number - 1}: "
        return ""

    # --- batch by batch ------------------------------------------------------------------------------------------

    async def _replay_lines(self, last: int | None) -> None:
        """Up to batch `last`, or every line there is now. A line's digest stands in the next one, which is read first."""
        await self._compare_rows()
        while last is None or self.mark.batch < last:
            line = self.ahead or await self.lines.next()
            if line is None:
                break
            self.ahead = await self.lines.next()
            await self._replay(line, self.ahead)
            await self._compare_rows()
            self.scope.progress(self.partition, self.mark.batch, max(self.last, self.mark.batch))

    async def _replay(self, line: Line, following: Line | None) -> None:
        try:
            await self._batch(line)
        except Difference as difference:
            vouched = parsed(str(self.journal), following).get("previous") if following is not None else None
            newest = self.changelog.newest
            if vouched is None and newest is not None and newest.batch == self.mark.batch + 1:
                vouched = newest.journal_digest
            if vouched is None or vouched == digest_of(line.raw) or str(difference).startswith(str(self.journal)):
                raise
            raise Difference(
                f"{self.journal} offset {line.offset}, batch {self.mark.batch + 1}: the line was changed: its digest is not the "
                f"one that {'the next line' if following is not None else 'the watermark'} holds; with what it says now, {difference}"
            ) from None

    async def _batch(self, line: Line) -> None:
        where = f"{self.journal} offset {line.offset}"
        told, ranges = parsed(str(self.journal), line), self._ranges(line)
        number, calls_from, calls_to, commands_from, commands_to = ranges
        mark = self.mark
        if number != mark.batch + 1:
            raise Difference(f"{where}: found batch {number}, expected {mark.batch + 1} behind batch {mark.batch}")
        if told.get("previous") != mark.journal_digest:
            raise Difference(
                f"{where}, batch {number}: previous is {told.get('previous')}, the line before has {mark.journal_digest}"
            )
        if (calls_from, commands_from) != (mark.next_cdr, mark.next_command):
            raise Difference(
                f"{where}, batch {number}: reads calls from {calls_from} and commands from {commands_from}; expected "
                f"{mark.next_cdr} and {mark.next_command}, where the batch before has ended"
            )
        if told.get("numbering") != NUMBERING_VERSION:
            raise Difference(
                f"{where}, batch {number}: rated with numbering {told.get('numbering')}, this rater has {NUMBERING_VERSION}; "
                "audit with the version that rated"
            )
        if number == 1:
            self.book = self._rules_of(where, told)
        calls = await self.inputs[CDRS].take(calls_from, calls_to, number)
        commands = await self.inputs[COMMANDS].take(commands_from, commands_to, number)
        outcome = self._decide(Batch(self.partition, commands, calls, commands_from, calls_from, home=self._home))
        await self._compare_outputs(outcome, number)
        self._compare_line(line, told, outcome, [commands_from, commands_to, calls_from, calls_to])
        self.audited.count(outcome.counts)
        self.state.committed()
        if number >= self.last:
            self.positions[number] = self.mark.next_cdr, self.mark.next_command

    def _rules_of(self, where: str, told: dict[str, Any]) -> RuleBook:
        try:
            return self.scope.rules.find(told["decks"], told["plans"])
        except (KeyError, TypeError):
            raise Difference(f"{where}: names no decks and plans") from None

    def _home(self, tenant: bytes) -> int:
        return partition_of(tenant, self.scope.partitions)

    def _decide(self, batch: Batch) -> Outcome:
        def activate(fields: dict[str, Any]) -> Any:
            self.book = self.scope.rules.find(fields["decks"], fields.get("plans") or self.book.plans_version)
            return self.book.rules

        return decide(self.state, self.book.rules, batch, self.workspace, activate=activate)

    async def _compare_outputs(self, outcome: Outcome, number: int) -> None:
        written = write_outcome(outcome, self.partition, self.scope.names, self.bodies).bodies
        for name, stream in self.outputs.items():
            await stream.compare(written.pop(self.place(name), []), number)
        for place, bodies in written.items():  # what is left is forwarded
            if place not in self.forwarded:
                start, self.ends[place] = await self.reader.bounds(place)
                self.forwarded[place] = ForwardedStream(self.reader, place, start, self.partition)
            await self.forwarded[place].compare(bodies, number)

    def _compare_line(self, line: Line, told: dict[str, Any], outcome: Outcome, segment: list[int]) -> None:
        mark, state, book = self.mark, self.state, self.book
        decks = sorted(deck.version for deck in book.decks)
        if sorted(map(str, told.get("decks", []))) == sorted(decks):
            decks = told["decks"]  # their order is only that in which a worker has read them
        digest = state_digest(mark.state_digest, state)
        wanted = vouch(
            JournalLine(
                mark.batch + 1, self.partition, [segment], outcome.counts, decks, book.plans_version,
                book.numbering_version, outcome.applied, state_digest=digest, previous=mark.journal_digest,
                seen=state.fresh_ids().tobytes(),
            ),
            outcome,
        )  # fmt: skip
        if line.raw != wanted:
            raise Difference(
                f"{self.journal} offset {line.offset}, batch {mark.batch + 1}{field_difference(line.raw, wanted)}"
            )
        self.mark = Watermark(
            self.partition, mark.batch + 1, segment[3], segment[1], digest, digest_of(line.raw), state.row_counts(),
            state.free_rows(), int(state.seen_tally[0]), mark.key, tuple(decks), book.plans_version,
        )  # fmt: skip

    async def _compare_rows(self) -> None:
        newest = self.changelog.newest
        if newest is not None and newest.batch == self.mark.batch and not self.rows_agree:
            await self.changelog.check(self.state, self.mark)
            self.rows_agree = True

    # --- the end -------------------------------------------------------------------------------------------------

    async def _open_question(self) -> str | None:
        """What does not agree yet; beside a live worker the next look may explain it."""
        newest = self.changelog.newest
        end = JournalEnd(
            self.mark.batch,
            self.mark.next_cdr,
            self.mark.next_command,
            self.mark.state_digest,
            self.mark.journal_digest,
        )
        names = self._witness_names()
        mine = GroupOffsets(self.mark.next_cdr, self.mark.next_command)
        if not self.rows_agree or (newest is not None and newest.batch < self.last):
            return disagreement(newest, end, mine, names)
        if self.scope.group is not None and (self.offsets.cdrs, self.offsets.commands) not in self.positions.values():
            return disagreement(self.mark, end, self.offsets, names)
        for stream in self.outputs.values():
            record = await stream.left(self.ends[stream.place])
            if record is not None:
                return too_many(stream, record)
            if stream.gone_before and stream.passed and await stream.left(1 << 62) is not None:
                return f"{stream.place}: offset {stream.gone_before}, its first record left, is nothing that the replay gives"
        for place, forwards in self.forwarded.items():
            found = await forwards.next()
            if found is not None and found.offset < self.ends[place] and self._was_read(place, found):
                return too_many(forwards, found)
        return None

    def _was_read(self, place: Place, record: Any) -> bool:
        """Whether a forwarded record claims an origin that the batches audited have behind them."""
        source = forwarded_from(record)
        reached = self.mark.next_cdr if place.topic == self.scope.names.topic(CDRS) else self.mark.next_command
        return source is not None and source[1] < reached

    def claimed(self, name: str) -> dict[int, tuple[int, int]]:
        return self.inputs[name].forwarded if name in self.inputs else {}

    def never_forwarded(self, name: str, offset: int, other: "PartitionAudit") -> bool:
        """Whether nothing at all went from here to `other`, and our record at `offset` was read."""
        if self.audited.batches == 0 and self.audited.first_batch == 1:
            return True
        reached = self.mark.next_cdr if name == CDRS else self.mark.next_command
        return other.place(name) not in self.forwarded and offset < reached and self.audited.first_batch == 1

    def _finish(self) -> None:
        audited = self.audited
        audited.tenants = int(self.state.rows("accounts").size)
        audited.balance_micros = balances(self.state)
        audited.group_checked = self.scope.group is not None
        streams = self.outputs.values()
        audited.gone = sum(stream.passed for stream in streams)


def _ids_of(told: dict[str, Any]) -> bytes:
    try:
        return b64decode(told["seen_b64"])
    except (KeyError, TypeError, ValueError):
        raise Difference(f"journal batch {told.get('batch')}: seen_b64 is not what rater writes") from None
