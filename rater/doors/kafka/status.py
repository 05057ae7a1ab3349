"""What a worker's partitions are doing: kept for people to look at, measured, and told to the log when it changes."""

import base64
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import orjson

from rater.contract.counts import Counts
from rater.core.state import State
from rater.doors.clock import monotonic, wall_ms
from rater.doors.kafka.changelog import Watermark
from rater.doors.kafka.measures import Committed, Measures
from rater.doors.kafka.surroundings import Backlog, BatchReport, Phase, Watch
from rater.doors.rules import RuleBook

log = logging.getLogger("rater.worker")

# Of a batch, for one line of each reason; a monster is not read again for the sake of its id.
REJECTED_LOOKED_AT, REJECTED_BYTES_MAX = 20, 1 << 17
UNTOLD_MAX = 16  # batches: half a millisecond to tell


@dataclass(slots=True)
class PartitionStatus:
    """One partition as an operator sees it."""

    phase: str = Phase.RELEASED.value
    why: str = ""
    decks: str = ""  # in force: names and content hashes
    restored: int = 0  # records read so far by a restore under way
    restore_left: int = 0  # offsets it still has to read, of the topic it reads now
    batch: int = 0
    next_cdr: int = 0
    next_command: int = 0
    end_cdr: int | None = None  # of the inputs, as last heard
    end_command: int | None = None
    aborted: int = 0  # transactions
    failures: int = 0  # times it was thrown back to its log


FirstUsed = Callable[[RuleBook], Mapping[str, float]]


class Assignment(Protocol):
    """What a crew knows of its partitions."""

    @property
    def assigned(self) -> frozenset[int] | None:
        """The partitions that are ours; None while the group has not said."""

    def backlogs(self) -> Mapping[int, Backlog]: ...


class StatusBoard(Watch):
    """The `Watch` of a worker. `first_used` says since when a deck is on this machine's disk."""

    def __init__(
        self,
        measures: Measures,
        first_used: FirstUsed = lambda _book: {},
        now_ms: Callable[[], int] = wall_ms,
        now_s: Callable[[], float] = monotonic,
    ) -> None:
        self.partitions: dict[int, PartitionStatus] = {}
        self.counts = Counts()  # of all that was told
        self._untold: list[Committed] = []
        self._states: dict[int, State] = {}  # of partitions that run: no other is kept alive for us
        self._crew: Assignment | None = None
        self._following: dict[int, tuple[int, int]] = {}  # the next offsets of calls and commands, where they are known
        self._asked: dict[int, Backlog] = {}  # of partitions that do not run, because nobody fetches for them
        self._measures, self._first_used, self._now_ms, self._now_s = measures, first_used, now_ms, now_s

    def watch_crew(self, crew: Assignment, partitions: int) -> None:
        """From now on pages can say what is ours and what waits. `partitions`: how many the topics have."""
        self._crew = crew
        self._measures.partitions(partitions)

    def _of(self, partition: int) -> PartitionStatus:
        return self.partitions.setdefault(partition, PartitionStatus())

    def phase(self, partition: int, phase: Phase, why: str) -> None:
        status = self._of(partition)
        if (status.phase, status.why) != (phase.value, why):
            level = logging.ERROR if phase is Phase.STOPPED else logging.INFO
            about = {"event": "partition", "partition": partition}
            log.log(level, "partition %d: %s%s", partition, phase.value, f": {why}" if why else "", extra=about)
        status.phase, status.why = phase.value, why
        if phase in (Phase.RUNNING, Phase.RELEASED):
            self._asked.pop(partition, None)
        if phase is Phase.RELEASED:
            self._following.pop(partition, None)
        self.tell()
        if phase is not Phase.RUNNING:
            self._states.pop(partition, None)
        with _harmless():
            self._measures.phase(partition, phase, self._now_s())

    def restoring(self, partition: int, topic: str, read: int, offset: int, end: int) -> None:  # noqa: ARG002
        status = self._of(partition)
        status.restored, status.restore_left = read, max(end - offset, 0)
        self._measures.restoring(partition, read, status.restore_left)

    def rules(self, partition: int, book: RuleBook) -> None:
        decks = ", ".join(f"{deck.name} {deck.version}" for deck in book.decks)
        if self._of(partition).decks != decks:
            about = {"event": "deck", "partition": partition}
            log.info("partition %d: rates with deck %s from now on", partition, decks, extra=about)
        self._of(partition).decks = decks
        with _harmless():
            self._measures.rules(partition, book, self._first_used(book))

    def taken_over(self, partition: int, state: State, watermark: Watermark) -> None:
        self._place(partition, watermark)
        self._states[partition] = state
        with _harmless():
            self._measures.state(partition, state)

    def committed(self, partition: int, report: BatchReport) -> None:
        self._place(partition, report.watermark)
        self._states[partition] = report.state
        stages = (
            ("fetch", report.fetch_s),
            ("decide", report.decide_s),
            ("encode", report.encode_s),
            ("commit", report.commit_s),
        )
        counts, at_ms = report.outcome.counts, self._now_ms()
        self._untold.append(
            Committed(partition, at_ms, counts, report.bytes_in, report.bytes_out, stages, report.oldest_ms)
        )
        if len(self._untold) >= UNTOLD_MAX:
            self.tell()
        with _harmless():
            if report.outcome.rejected_cdrs:
                _tell_rejected(partition, report.outcome.rejected_cdrs)
            if given_away := report.outcome.counts.by_outcome.get("freecall", 0):
                about = {"event": "freecall", "partition": partition, "reason": "freecall", "count": given_away}
                log.warning(
                    "partition %d: calls without a rate, charged 0; rater.rate.missing names them",
                    partition,
                    extra=about,
                )

    def _place(self, partition: int, mark: Watermark) -> None:
        status = self._of(partition)
        status.batch, status.next_cdr, status.next_command = mark.batch, mark.next_cdr, mark.next_command
        self._following[partition] = mark.next_cdr, mark.next_command

    def aborted(self, partition: int, why: str) -> None:  # noqa: ARG002  # `phase` has told it
        self._of(partition).aborted += 1
        self._measures.aborted()

    def failed(self, partition: int, problem: Exception) -> None:
        self._states.pop(partition, None)
        self._of(partition).failures += 1
        self._measures.failed(partition, problem)

    def writer_replaced(self, partition: int, cause: str) -> None:  # noqa: ARG002  # the log says which
        self._measures.writer_replaced(cause)

    # --- asked for ----------------------------------------------------------------------------------------------

    def tell(self) -> None:
        """Count and measure what was committed since."""
        untold, self._untold = self._untold, []
        for batch in untold:
            self.counts.add(batch.counts)
            with _harmless():
                self._measures.committed(batch)
        with _harmless():
            for partition in {batch.partition for batch in untold} & self._states.keys():
                self._measures.state(partition, self._states[partition])

    def look_ahead(self) -> None:
        """Take note of what was committed and of what waits: before a page is shown."""
        self.tell()
        now_ms = self._now_ms()
        for partition, backlog in ({} if self._crew is None else self._crew.backlogs()).items():
            status, known = self._of(partition), self._asked.get(partition, backlog)
            status.end_cdr, status.end_command = known.end_cdr, known.end_command
            if partition in self._following:
                self._measures.backlog(partition, self._following[partition], known, now_ms)

    def standing(self) -> list[int]:
        """The partitions that are ours and not being rated."""
        mine = frozenset() if self._crew is None else self._crew.assigned or frozenset()
        return [number for number in sorted(mine) if self._of(number).phase != Phase.RUNNING.value]

    def following(self, partition: int) -> tuple[int, int] | None:
        """The offsets of the next call and command; None before this process has taken the partition over."""
        return self._following.get(partition)

    def waits(self, partition: int, following: tuple[int, int], backlog: Backlog) -> None:
        """What was found out about a partition that does not run, unless it runs meanwhile."""
        if partition in self.standing():
            self._following.setdefault(partition, following)
            self._asked[partition] = backlog

    def ready(self) -> bool:
        """The group has given out its partitions, and every one that is ours is being rated."""
        mine = None if self._crew is None else self._crew.assigned
        return mine is not None and all(self._of(number).phase == Phase.RUNNING.value for number in mine)

    def as_object(self) -> dict[str, Any]:
        self.look_ahead()
        return {
            "ready": self.ready(),
            "partitions": {str(number): asdict(status) for number, status in sorted(self.partitions.items())},
            "counts": asdict(self.counts),
        }


@contextmanager
def _harmless() -> Iterator[None]:
    """A fault in what only watches must not throw a partition back to its log."""
    try:
        yield
    except Exception:
        log.exception("a metric could not be recorded; rating goes on", extra={"event": "metrics"})


def _tell_rejected(partition: int, lines: list[bytes]) -> None:
    """One line for each reason of a batch, with the place to look at; the log leaves out what repeats."""
    told: set[str] = set()
    for line in lines[:REJECTED_LOOKED_AT]:
        if len(line) > REJECTED_BYTES_MAX:
            continue
        found = orjson.loads(line)
        reason, offset = found["reason"], found["input"][1]
        if reason in told:
            continue
        told.add(reason)
        about = {"event": "rejected", "partition": partition, "offset": offset, "reason": reason}
        about |= _record_id(found["raw_b64"])
        log.warning(
            "partition %d offset %d: a call was rejected: %s; rejected-cdrs has it",
            partition,
            offset,
            reason,
            extra=about,
        )


def _record_id(raw_b64: str) -> dict[str, str]:
    """The record's id, where it can be read: what a person searches the switch's records for."""
    try:
        found = orjson.loads(base64.b64decode(raw_b64))["record_id"]
    except (ValueError, KeyError, TypeError):
        return {}
    return {"record_id": found[:128]} if isinstance(found, str) else {}
