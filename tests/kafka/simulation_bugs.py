"""Bugs to plant, one at a time: what a door like this gets wrong, and what the simulation must therefore catch."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from rater.doors.kafka import restore as restoring
from rater.doors.kafka import task as tasks
from rater.doors.kafka.changelog import write_changes
from rater.doors.kafka.fetched import Fetched
from rater.doors.kafka.log import Fenced, LogTimeout, Place
from rater.doors.kafka.memory import MemoryLog, MemoryWriter
from rater.doors.kafka.names import EVENTS
from rater.doors.kafka.outputs import Written, write_outcome
from rater.doors.kafka.restore import Restored
from rater.doors.kafka.snapshot import Base
from rater.doors.kafka.task import Decided, PartitionTask
from rater.doors.kafka.witnesses import GroupOffsets, JournalEnd
from rater.pipeline import Outcome, decide

Patch = pytest.MonkeyPatch
Decide = Callable[[], Decided]
Committed = tuple[Decided, tuple[int, int]]


def offsets_outside_the_transaction(patch: Patch) -> None:
    async def write_offsets(self: MemoryWriter, group: str, offsets: Mapping[Place, int]) -> None:
        await self._request("write_offsets", lambda: self._log.group(group).offsets.update(offsets))

    patch.setattr(MemoryWriter, "write_offsets", write_offsets)


def offset_of_the_last_record_read(patch: Patch) -> None:
    """Kafka's group offset is what to read next, one behind the last record read."""
    right = MemoryWriter.write_offsets

    async def write_offsets(self: MemoryWriter, group: str, offsets: Mapping[Place, int]) -> None:
        await right(self, group, {place: max(offset - 1, 0) for place, offset in offsets.items()})

    patch.setattr(MemoryWriter, "write_offsets", write_offsets)


def state_published_before_the_commit(patch: Patch) -> None:
    """Published before the commit, and gone on with after a failure."""
    commit, take_over = PartitionTask._commit, PartitionTask._take_over

    async def published(self: Any, deciding: Decide) -> Committed:
        def decided_and_published() -> Decided:
            decided = deciding()
            held = decided.report.state
            held.committed()
            self._published = Base(held, decided.watermark, 0, 0, -1)
            return decided

        return await commit(self, decided_and_published)

    async def go_on(self: Any) -> None:
        await take_over(self)
        if getattr(self, "_published", None) is not None:
            self._base = self._published
            self._member.seek(self._calls, self._base.watermark.next_cdr)
            self._member.seek(self._commands, self._base.watermark.next_command)

    patch.setattr(PartitionTask, "_commit", published)
    patch.setattr(PartitionTask, "_take_over", go_on)


def state_kept_after_a_failed_batch(patch: Patch) -> None:
    """The watermark is the old one, the rows are half the new ones."""
    rate, drop = PartitionTask._rate, PartitionTask._drop

    async def rate_and_keep(self: Any, fetched: Fetched, begun: float) -> None:
        self._before = self._base
        await rate(self, fetched, begun)
        self._before = None

    async def drop_but_keep(self: Any, problem: Exception) -> None:
        await drop(self, problem)
        self._base = getattr(self, "_before", None)

    patch.setattr(PartitionTask, "_rate", rate_and_keep)
    patch.setattr(PartitionTask, "_drop", drop_but_keep)


def no_fencing(patch: Patch) -> None:
    """A new writer that does not bump the epoch: what an old one does still counts."""
    right = MemoryLog._bump

    def bump(self: MemoryLog, known: Any) -> None:
        epoch = known.epoch
        right(self, known)
        known.epoch = max(epoch, 0)

    patch.setattr(MemoryLog, "_bump", bump)


def fenced_and_went_on(patch: Patch) -> None:
    """A fenced task opens a new writer and goes on with the state it has."""
    commit = PartitionTask._commit

    async def insist(self: Any, deciding: Decide) -> Committed:
        decided = await self._around.in_thread(deciding)
        try:
            return await commit(self, lambda: decided)
        except Fenced:
            self._writer = await self._log.open_writer(self._names.transactional_id(self.partition))
            return await commit(self, lambda: decided)

    patch.setattr(PartitionTask, "_commit", insist)


def tainted_writer_used_again(patch: Patch) -> None:
    patch.setattr(PartitionTask, "_tainted", lambda _self: False)
    commit = PartitionTask._commit

    async def blind(self: Any, deciding: Decide) -> Committed:
        decided = await self._around.in_thread(deciding)
        self._writer.inner.tainted = False
        return await commit(self, lambda: decided)

    patch.setattr(PartitionTask, "_commit", blind)


def new_writer_without_a_look_at_the_log(patch: Patch) -> None:
    """A tainted writer is replaced just before the commit: that fences a successor, and commits behind its back."""
    patch.setattr(PartitionTask, "_tainted", lambda _self: False)
    commit = PartitionTask._commit

    async def renewed(self: Any, deciding: Decide) -> Committed:
        decided = await self._around.in_thread(deciding)
        if self._writer.tainted:
            self._writer = await self._log.open_writer(self._names.transactional_id(self.partition))
        return await commit(self, lambda: decided)

    patch.setattr(PartitionTask, "_commit", renewed)


def snapshot_trusted_without_its_tail(patch: Patch) -> None:
    right = restoring.restore

    async def restore(reader: Any, state: Place, journal: Place, base: Base | None, *more: Any) -> Restored:
        if base is None:
            return await right(reader, state, journal, base, *more)
        mark = base.watermark
        end = JournalEnd(mark.batch, mark.next_cdr, mark.next_command, mark.state_digest, mark.journal_digest)
        return Restored(base.state, mark, end, base.state_offset, base.journal_offset, base.line_offset)

    patch.setattr(restoring, "restore", restore)
    patch.setattr(tasks, "disagreement", lambda *_: None)


def group_offset_trusted_alone(patch: Patch) -> None:
    adopt = PartitionTask._adopt

    async def trust(self: Any, restored: Restored, group: GroupOffsets) -> None:
        await adopt(self, restored, group)
        mark = replace(self._base.watermark, next_cdr=group.cdrs or 0, next_command=group.commands or 0)
        self._base = replace(self._base, watermark=mark)

    patch.setattr(tasks, "disagreement", lambda *_: None)
    patch.setattr(PartitionTask, "_adopt", trust)


def commit_timed_out_taken_for_done(patch: Patch) -> None:
    right = MemoryWriter.commit

    async def commit(self: MemoryWriter) -> None:
        try:
            await right(self)
        except LogTimeout:
            self._begun, self._spoilt = False, ""

    patch.setattr(MemoryWriter, "commit", commit)


def no_duplicates_known(patch: Patch) -> None:
    def forgetful(state: Any, *more: Any, **named: Any) -> Outcome:
        state.seen[:] = 0
        return decide(state, *more, **named)

    patch.setattr(tasks, "decide", forgetful)


def alarm_on_a_level(patch: Patch) -> None:
    """As long as a balance is low, every batch says so again."""
    last: dict[int, bytes] = {}

    def nagging(state: Any, rules: Any, batch: Any, *more: Any, **named: Any) -> Outcome:
        outcome = decide(state, rules, batch, *more, **named)
        if outcome.events:
            last[id(state)] = outcome.events[-1]
        elif id(state) in last and batch.calls.count:
            outcome.events.append(last[id(state)])
            outcome.counts.events += 1
        return outcome

    patch.setattr(tasks, "decide", nagging)


def an_output_outside_the_transaction(patch: Patch) -> None:
    right = MemoryWriter._append

    def append(self: MemoryWriter, place: Place, body: bytes, count: int, codec: int) -> int:
        if place.topic == EVENTS:
            return self._log.append_body(place, body, count)
        return right(self, place, body, count, codec)

    patch.setattr(MemoryWriter, "_append", append)


def forwards_forgotten(patch: Patch) -> None:
    def write_partly(outcome: Outcome, partition: int, *more: Any) -> Written:
        written = write_outcome(outcome, partition, *more)
        written.bodies = {place: bodies for place, bodies in written.bodies.items() if place.partition == partition}
        return written

    patch.setattr(tasks, "write_outcome", write_partly)


def a_row_missing_from_the_changelog(patch: Patch) -> None:
    """The pools are not written: nobody notices until a restore."""

    def write_most(state: Any, watermark: Any, writer: Any) -> Any:
        tally = state.shelves["pools"].tally.copy()
        state.shelves["pools"].tally[1] = 0
        try:
            return write_changes(state, watermark, writer)
        finally:
            state.shelves["pools"].tally[:] = tally

    patch.setattr(tasks, "write_changes", write_most)


def witnesses_heard_only_once(patch: Patch) -> None:
    """A stalled worker hears some witnesses before and some after its successor went on, and calls for an operator."""

    async def believe(_self: Any, _restored: Restored) -> None:
        """Whatever the log says by now."""

    patch.setattr(PartitionTask, "_still_alone", believe)


def leftovers_committed_with_our_own(patch: Patch) -> None:
    """What the broker left open of an older writer is ended by the next commit: a batch that never counted counts."""

    async def unseen(_self: Any, _mark: Any) -> None:
        """Nobody looks."""

    patch.setattr(PartitionTask, "_end_leftovers", unseen)


BUGS: tuple[Callable[[Patch], None], ...] = (
    offsets_outside_the_transaction,
    offset_of_the_last_record_read,
    state_published_before_the_commit,
    state_kept_after_a_failed_batch,
    no_fencing,
    fenced_and_went_on,
    tainted_writer_used_again,
    new_writer_without_a_look_at_the_log,
    snapshot_trusted_without_its_tail,
    group_offset_trusted_alone,
    commit_timed_out_taken_for_done,
    no_duplicates_known,
    alarm_on_a_level,
    an_output_outside_the_transaction,
    forwards_forgotten,
    a_row_missing_from_the_changelog,
    witnesses_heard_only_once,
    leftovers_committed_with_our_own,
)
