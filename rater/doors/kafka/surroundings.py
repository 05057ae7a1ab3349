"""What a partition task is given from outside, and what it tells: clocks, threads and rules in; phases and batches out."""

import enum
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

from rater.core.state import State
from rater.doors.kafka.changelog import Watermark
from rater.doors.kafka.compression import NONE
from rater.doors.kafka.log import InThread, LogProblem
from rater.doors.kafka.rests import Turns
from rater.doors.rules import RuleBook
from rater.pipeline import Outcome


class Disagreement(LogProblem):
    """The witnesses disagree: this partition is not rated until a person has looked."""


class Phase(enum.Enum):
    """What a partition is doing, for operators."""

    RESTORING = "restoring"
    RUNNING = "running"
    STOPPED = "stopped"
    RELEASED = "released"


class Rules(Protocol):
    """Where rule books come from."""

    @property
    def current(self) -> RuleBook: ...

    def find(self, decks: Sequence[str], plans: str) -> RuleBook: ...

    def keep(self, book: RuleBook) -> None: ...


# Runs a function while the loop goes on.


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a task is given from outside: clocks, threads, chance. A simulation gives its own."""

    now: Callable[[], float]  # seconds, monotonic
    sleep: Callable[[float], Awaitable[None]]
    in_thread: InThread  # decides a batch, where the writer has no thread of its own
    aside: InThread  # what takes long, while other partitions' batches are decided
    unhurried: InThread  # whose turn it is, `saving` or `making_room`: it rests, and never waits for a thread
    new_key: Callable[[], bytes]  # 16 bytes nobody can guess, for a state that begins
    say: Callable[[int, str], None]  # a sentence about a partition, for the log
    watch: "Watch"
    turn: AbstractContextManager[object] = field(default_factory=nullcontext)  # to decide a batch: so many at once
    saving: Turns = field(default_factory=Turns)  # one partition at a time copies its state and writes it
    making_room: Turns = field(default_factory=Turns)  # one at a time asks for the memory of its next set of ids


class Watch(Protocol):
    """What operators see; called once a batch or less. Whoever wants to hear only some of it inherits the rest."""

    def phase(self, partition: int, phase: Phase, why: str) -> None: ...

    def rules(self, partition: int, book: RuleBook) -> None:
        """These rate the partition from now on."""

    def taken_over(self, partition: int, state: State, watermark: Watermark) -> None:
        """What the partition stands on before its first batch here."""

    def restoring(self, partition: int, topic: str, read: int, offset: int, end: int) -> None: ...

    def committed(self, partition: int, report: "BatchReport") -> None: ...

    def aborted(self, partition: int, why: str) -> None:
        """A transaction was begun and will not be committed."""

    def failed(self, partition: int, problem: Exception) -> None:
        """The partition is thrown back to its log."""

    def writer_replaced(self, partition: int, cause: str) -> None:
        """Another writer will be opened: the one at hand is `tainted`, or there was a `failure`."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in front of a partition, as far as it was heard without asking anybody."""

    end_cdr: int | None  # last stable offsets of the inputs
    end_command: int | None
    oldest_ms: int  # the broker's time of the oldest record taken and not committed; 0 for none


@dataclass(slots=True)
class BatchReport:
    """One committed batch: what it came to and where its time went (seconds); `commit_s` is known last."""

    outcome: Outcome
    state: State
    bytes_in: int  # before compression, as `bytes_out`
    bytes_out: int
    fetch_s: float
    decide_s: float
    encode_s: float
    oldest_ms: int  # the earliest record time of the batch, 0 for none
    watermark: Watermark
    commit_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How large a batch gets and how often things happen."""

    commit_interval_s: float = 0.1
    records_max: int = 20_000
    bytes_max: int = 4 << 20
    codec: int = NONE  # of what is written
    snapshot_interval_s: float = 60.0
    retry_s: float = 0.2
    retry_max_s: float = 10.0
