"""What happens to a worker's partitions, recorded as metrics: when it is asked for or has become much, and when something happens.

A batch leaves a few numbers behind, which `status` keeps: its forty series, told between the messages of a commit, were a third of a
millisecond of processor time, for nothing of them is in a cache by then; one batch behind the other they are an eighth of that each.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from rater.contract.counts import Counts
from rater.core.accounts import Shelf
from rater.core.state import State
from rater.doors.kafka.log import LogProblem, LogTimeout, OffsetGone, Refused
from rater.doors.kafka.rule_sets import DeckMissing
from rater.doors.kafka.surroundings import Backlog, Disagreement, Phase
from rater.doors.metrics import INPUTS, PHASES, PartitionSeries, WorkerMetrics
from rater.doors.rules import RuleBook

CDRS, COMMANDS = INPUTS

REASON_OF: tuple[tuple[type[Exception], str], ...] = (
    (Disagreement, "disagreement"),
    (DeckMissing, "deck_missing"),
    (OffsetGone, "offset_gone"),
    (Refused, "refused"),
    (LogTimeout, "timeout"),
    (LogProblem, "log"),
)


def failure_reason(problem: BaseException) -> str:
    """One word of `metrics.FAILURES`: what kind of thing threw a partition back to its log."""
    return next((word for kind, word in REASON_OF if isinstance(problem, kind)), "other")


def shelf_bytes(shelf: Shelf) -> int:
    """Memory of a shelf: its rows, their index, and what marks the changed ones."""
    return int(shelf.rows.nbytes + shelf.index.nbytes + shelf.stamps.nbytes + shelf.dirty.nbytes)


class Committed(NamedTuple):
    """What is kept of a committed batch until it is measured; none of its records, and no state."""

    partition: int
    at_ms: int
    counts: Counts
    bytes_in: int
    bytes_out: int
    stages: tuple[tuple[str, float], ...]  # seconds
    oldest_ms: int  # as in `BatchReport`


@dataclass(slots=True)
class _Known:
    """What was said of a partition last, to find what is new."""

    series: PartitionSeries
    newest_ms: int = 0  # the time of the last record committed, by the broker
    restoring_since: float | None = None
    rules: RuleBook | None = None


class Measures:
    """Partitions as Prometheus sees them."""

    def __init__(self, metrics: WorkerMetrics) -> None:
        self._metrics = metrics
        self._known: dict[int, _Known] = {}

    def partitions(self, count: int) -> None:
        """What all workers together should be rating."""
        self._metrics.partitions.set(count)

    def _of(self, partition: int) -> _Known:
        known = self._known.get(partition)
        if known is None:
            known = self._known[partition] = _Known(self._metrics.of_partition(partition))
        return known

    # --- phases and faults ---------------------------------------------------------------------------------------

    def phase(self, partition: int, phase: Phase, now_s: float) -> None:
        """`now_s` grows only; a restore's time is counted from the first word of a take-over to the first of rating."""
        if phase is Phase.RELEASED:
            if self._known.pop(partition, None) is not None:
                self._metrics.forget_partition(partition)
            return
        known = self._of(partition)
        for word in PHASES:
            known.series.phase[word].set(word == phase.value)
        if phase is Phase.RESTORING and known.restoring_since is None:
            known.restoring_since = now_s
        elif phase is not Phase.RESTORING:
            if phase is Phase.RUNNING:
                self._metrics.stopped.remove_by_labels({"partition": str(partition)})
                if known.restoring_since is not None:
                    self._metrics.restore_seconds.observe(now_s - known.restoring_since)
            known.restoring_since = None
            known.series.restored.set(0)
            known.series.restore_left.set(0)

    def restoring(self, partition: int, read: int, left: int) -> None:
        series = self._of(partition).series
        series.restored.set(read)
        series.restore_left.set(left)

    def failed(self, partition: int, problem: BaseException) -> None:
        reason = failure_reason(problem)
        self._metrics.failures.labels(reason).inc()
        self._metrics.stopped.remove_by_labels({"partition": str(partition)})
        self._metrics.stopped.labels(str(partition), reason).set(1)
        if isinstance(problem, Disagreement):
            self._metrics.disagreements.inc()

    def aborted(self) -> None:
        self._metrics.aborted.inc()

    def writer_replaced(self, cause: str) -> None:
        self._metrics.writers.labels(cause).inc()

    # --- rules and state -----------------------------------------------------------------------------------------

    def rules(self, partition: int, book: RuleBook, first_used: Mapping[str, float]) -> None:
        """Which decks rate this partition now. `first_used`: seconds since 1970 by deck version, where that is known."""
        known, name = self._of(partition), str(partition)
        if known.rules is book:
            return
        for metric in (self._metrics.deck, self._metrics.deck_since, self._metrics.rules):
            metric.remove_by_labels({"partition": name})
        for deck in book.decks:
            self._metrics.deck.labels(name, deck.name, deck.currency, deck.version).set(1)
            self._metrics.charged.labels(self._metrics.currencies.bounded(deck.currency))
            if deck.version in first_used:
                self._metrics.deck_since.labels(name, deck.version).set(first_used[deck.version])
        self._metrics.rules.labels(name, book.plans_version, book.numbering_version).set(1)
        known.rules = book

    def state(self, partition: int, state: State) -> None:
        series = self._of(partition).series
        series.seen_ids.set(int(state.seen_tally[0]))
        series.open_calls.set(state.open_holds())
        series.seen_bytes.set(state.seen_bytes())
        series.state_bytes.set(sum(shelf_bytes(shelf) for shelf in state.shelves.values()))
        name = str(partition)
        for shelf, rows in state.row_counts().items():
            self._metrics.state_rows.labels(name, shelf).set(rows)

    # --- batches -------------------------------------------------------------------------------------------------

    def committed(self, batch: Committed) -> None:
        known = self._of(batch.partition)
        series, counts, metrics = known.series, batch.counts, self._metrics
        series.batches.inc()
        series.last_commit.set(batch.at_ms / 1000)
        series.read[CDRS].inc(counts.read)
        series.read[COMMANDS].inc(counts.commands)
        for outcome, calls in counts.by_outcome.items():
            series.rated[outcome].inc(calls)
        self._count(counts)
        metrics.batch_records.observe(counts.read + counts.commands)
        metrics.bytes.labels("in").inc(batch.bytes_in)
        metrics.bytes.labels("out").inc(batch.bytes_out)
        for stage, seconds in batch.stages:
            metrics.stage.labels(stage).observe(seconds)
        if batch.oldest_ms:
            metrics.end_to_end.observe(max(batch.at_ms - batch.oldest_ms, 0) / 1000)
            known.newest_ms = max(known.newest_ms, batch.oldest_ms)

    def _count(self, counts: Counts) -> None:
        """Sums of the process: they outlive a partition that goes elsewhere."""
        metrics = self._metrics
        for reason, calls in counts.rejected_by_reason.items():
            metrics.rejected.labels(reason).inc(calls)
        for kind, count in counts.events_by_type.items():
            metrics.events.labels(metrics.event_types.bounded(kind)).inc(count)
        for currency, micros in counts.charge_micros.items():
            metrics.charged.labels(metrics.currencies.bounded(currency)).inc(micros)
        for metric, count in (
            (metrics.commands_rejected, counts.commands_rejected),
            (metrics.unknown_fields, counts.unknown_fields),
            (metrics.pool_minutes, counts.pool_minutes),
            (metrics.credit_minutes, counts.credit_minutes),
        ):
            if count:
                metric.inc(count)
        for metric, calls, commands in (
            (metrics.duplicates, counts.duplicates, counts.commands_duplicates),
            (metrics.misrouted, counts.misrouted, counts.commands_misrouted),
        ):
            if calls:
                metric.labels(CDRS).inc(calls)
            if commands:
                metric.labels(COMMANDS).inc(commands)

    # --- how far behind, asked for by whoever scrapes ------------------------------------------------------------

    def backlog(self, partition: int, following: tuple[int, int], backlog: Backlog, now_ms: int) -> None:
        """What waits behind the next offsets of calls and commands. An input whose end was not heard yet says nothing."""
        if partition not in self._known:
            return
        known = self._known[partition]
        waiting = 0
        ends = (backlog.end_cdr, backlog.end_command)
        for input_, next_offset, end in zip(INPUTS, following, ends, strict=True):
            if end is not None:
                behind = max(end - next_offset, 0)
                known.series.lag_records[input_].set(behind)
                known.series.end_offset[input_].set(end)
                waiting += behind
        since_ms = backlog.oldest_ms or known.newest_ms or now_ms
        known.series.lag_seconds.set(max(now_ms - since_ms, 0) / 1000 if waiting else 0)
