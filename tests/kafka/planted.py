"""Bugs to plant in a worker, each a mistake that someone could make: the scenarios are worth what they find of these.

    python -m tests.kafka.planted offsets_outside_the_transaction -- worker

runs the real worker with that bug in this one process; `python -m tests.kafka.chaos --planted` runs each with the fault that
should bring it to light, and prints what caught it. `GAP_S` widens a window that a bug opens, so that a kill finds it soon.
"""

import asyncio
import secrets
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rater.core.accounts import DIRTY, ROWS
from rater.core.state import State
from rater.doors.kafka import restore as restore_module
from rater.doors.kafka import task as task_module
from rater.doors.kafka.client_asking import Asking
from rater.doors.kafka.client_line import Line
from rater.doors.kafka.client_writer import KafkaWriter
from rater.doors.kafka.log import Place
from rater.doors.kafka.names import JOURNAL, STATE, Names
from rater.doors.kafka.outputs import Stored
from rater.doors.kafka.restore import Restored
from rater.doors.kafka.snapshot import SnapshotUnusable
from rater.doors.kafka.task import Decided, PartitionTask
from rater.doors.kafka.witnesses import JournalEnd

GAP_S = 0.05
Offsets = Mapping[Place, int]
Turns = list[tuple[list[tuple[Place, Stored]], bool]]  # what each transaction writes, and whether the offsets with it


def _in_steps(order: Callable[[PartitionTask, Decided], Turns]) -> None:
    """A batch in several transactions: each writes these bodies, and the offsets where it says so."""

    async def commit(self: PartitionTask, decide: Callable[[], Decided]) -> tuple[Decided, tuple[int, int]]:
        decided = await self._around.in_thread(decide)
        writer = self._writer
        assert writer is not None
        mark = decided.watermark
        ends: dict[Place, int] = {}
        for number, (stored, with_offsets) in enumerate(order(self, decided)):
            if number:
                await asyncio.sleep(GAP_S)
            await writer.begin()
            ends |= task_module._ends(stored, await writer.write_all(stored))
            if with_offsets:
                offsets = {self._calls: mark.next_cdr, self._commands: mark.next_command}
                await writer.write_offsets(self._names.app_id, offsets)
            await writer.commit()
        place = self._names.place
        return decided, (ends[place(STATE, self.partition)], ends[place(JOURNAL, self.partition)] - 1)

    PartitionTask._commit = commit  # type: ignore[method-assign]


def offsets_outside_the_transaction() -> None:
    """What was written is committed, and then, on its own, that it was read."""
    _in_steps(lambda _, decided: [(decided.stored, False), ([], True)])


def auto_commit() -> None:
    """That it was read is committed before anything was made of it."""
    _in_steps(lambda _, decided: [([], True), (decided.stored, False)])


def state_published_before_commit() -> None:
    """State and journal are visible before the outputs and the offsets are."""

    def order(task: PartitionTask, decided: Decided) -> Turns:
        first = {task._names.place(name, task.partition) for name in (STATE, JOURNAL)}
        early = [(place, body) for place, body in decided.stored if place in first]
        return [(early, False), ([(place, body) for place, body in decided.stored if place not in first], True)]

    _in_steps(order)


def offset_instead_of_offset_plus_one() -> None:
    """The offset of the last record read, where the next one to read is asked for."""
    honest = Asking.write_offsets

    def write_offsets(self: Asking, coordinator: Line, group: str, offsets: Offsets) -> None:
        honest(self, coordinator, group, {place: max(0, offset - 1) for place, offset in offsets.items()})

    Asking.write_offsets = write_offsets  # type: ignore[method-assign]


def no_fencing() -> None:
    """Each take-over has a transactional id of its own, so nobody stops the one before."""
    Names.transactional_id = lambda self, partition: f"{self.app_id}-{partition}-{secrets.token_hex(4)}"  # type: ignore[method-assign]


def no_new_producer_after_a_silent_retry() -> None:
    """A request that was repeated is forgotten when its answer comes. Only the older protocol repeats requests."""
    KafkaWriter.tainted = property(lambda _: False)  # type: ignore[assignment]


def stale_snapshot_trusted() -> None:
    """What the snapshot says is the state; the topics are not read on."""
    honest = restore_module.restore_best

    async def restore_best(
        reader: Any, state_place: Any, journal_place: Any, kept: Any, load: Any, *more: Any
    ) -> Restored:
        try:
            base = await load()
        except SnapshotUnusable:
            return await honest(reader, state_place, journal_place, kept, load, *more)
        mark = base.watermark
        _, state_offset = await reader.bounds(state_place)
        _, journal_offset = await reader.bounds(journal_place)
        end = JournalEnd(mark.batch, mark.next_cdr, mark.next_command, mark.state_digest, mark.journal_digest)
        return Restored(base.state, mark, end, state_offset, journal_offset, journal_offset - 1)

    vars(task_module)["restore_best"] = restore_best


def _after_each_batch(change: Callable[[State], None]) -> None:
    honest = State.committed

    def committed(self: State) -> None:
        honest(self)
        change(self)

    State.committed = committed  # type: ignore[method-assign]


def no_deduplication() -> None:
    """Ids are forgotten after each batch."""
    _after_each_batch(lambda state: state.restore_seen(np.zeros((0, 2), np.uint64)))


def float_money() -> None:
    """Balances are kept in whole units, in single precision."""

    def change(state: State) -> None:
        rows = state.rows("accounts")
        units = rows.lots_micros.astype(np.float32) / np.float32(1e6)
        rows.lots_micros[:] = (units * np.float32(1e6)).astype(np.int64)

    _after_each_batch(change)


def pools_written_once() -> None:
    """What a pool has given reaches the changelog when its row is made, and not again: every row is there, an old one."""
    honest = vars(task_module)["write_changes"]
    written: Counter[int] = Counter()

    def write_changes(state: State, watermark: Any, writer: Any) -> Any:
        kept = state.shelves["pools"]
        new = np.arange(written[watermark.partition], kept.tally[ROWS])
        tally = kept.tally.copy()
        tally[DIRTY] = new.size
        state.shelves["pools"] = kept._replace(dirty=new, tally=tally)
        bodies = honest(state, watermark, writer)
        state.shelves["pools"] = kept
        written[watermark.partition] = int(kept.tally[ROWS])
        return bodies

    vars(task_module)["write_changes"] = write_changes


def alarm_on_level() -> None:
    """That an alarm was told is forgotten, so it is told again while the balance is low."""

    def change(state: State) -> None:
        rows = state.rows("accounts")
        rows.in_flight[:] = 0
        rows.blocked[:] = 0

    _after_each_batch(change)


PLANTED: dict[str, Callable[[], None]] = {
    bug.__name__: bug
    for bug in (
        offsets_outside_the_transaction, state_published_before_commit, offset_instead_of_offset_plus_one, no_fencing,
        no_new_producer_after_a_silent_retry, stale_snapshot_trusted, no_deduplication, float_money, alarm_on_level, auto_commit,
        pools_written_once,
    )
}  # fmt: skip


def plant(name: str) -> None:
    PLANTED[name]()


def main() -> None:
    if len(sys.argv) < 4 or sys.argv[1] not in PLANTED or sys.argv[2] != "--":
        sys.exit(f"usage: python -m tests.kafka.planted BUG -- worker; BUG is one of {', '.join(PLANTED)}")
    plant(sys.argv[1])
    sys.argv[1:3] = []
    from rater.__main__ import main as rater

    rater()


if __name__ == "__main__":
    main()
