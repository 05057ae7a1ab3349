"""The steps of a transaction, for whichever writer takes them: in order, each with a deadline, none after one that failed."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType

from aiokafka import errors

from rater.doors.kafka.client_connection import problem_text, told_within, translated
from rater.doors.kafka.log import Fenced, LogProblem, Place

Text = tuple[str, str]  # what is done, and what it needs


def offsets_of(group: str, offsets: Mapping[Place, int]) -> Text:
    topics = ", ".join(sorted({place.topic for place in offsets}))
    return f"writing offsets of group {group}", f"READ on group {group} and on topics {topics}"


class Steps:
    """What is open, and what went wrong. `death` tells why the client itself has ended, where it has."""

    def __init__(self, name: str, deadline_s: float, death: Callable[[], BaseException | None] = lambda: None) -> None:
        self.name = name
        self.tainted = False
        self.open = False  # a transaction is
        self.deadline_s, self.death = deadline_s, death
        self._spoilt: LogProblem | None = None
        self.writes = 0  # under way

    def check_closed(self) -> None:
        if self.open and self._spoilt is None:
            raise LogProblem(f"{self.name}: a transaction is open; commit or abort it first")

    def check_open(self) -> None:
        if not self.open and self._spoilt is None:
            raise LogProblem(f"{self.name}: no transaction is open; begin one first")

    def write(self, place: Place, count: int) -> "Step":
        """The step of a batch of records; no commit while one is under way."""
        self.check_open()
        if count == 0:
            raise LogProblem(f"{place}: nothing to write; expected at least one record")
        return self.step(f"writing {count} records to {place}", f"WRITE on topic {place.topic}", writes=1)

    def write_all(self, counts: Sequence[int]) -> "Step":
        """The same for batches of several places."""
        self.check_open()
        self.check_counts(counts)
        doing = f"writing {sum(counts)} records to {len(counts)} places"
        return self.step(doing, "WRITE on the topics of its outputs", writes=1)

    def check_counts(self, counts: Sequence[int]) -> None:
        if 0 in counts:
            raise LogProblem(
                f"{self.name}: nothing to write for one of {len(counts)} places; expected at least one record"
            )

    @contextmanager
    def part(self, doing: str, needs: str | None = None) -> Iterator[None]:
        """A part of a step."""
        try:
            yield
        except errors.KafkaError as problem:
            raise translated(problem, *self._told(doing, needs)) from problem

    def _told(self, doing: str, needs: str | None) -> Text:
        return f"{self.name}: {doing}", needs or f"WRITE on transactional id {self.name}"

    def check_written(self) -> None:
        if self.writes:
            raise LogProblem(f"{self.name}: commit while {self.writes} writes are under way; await them first")

    def step(self, doing: str, needs: str | None = None, writes: int = 0, timed: bool = True) -> "Step":
        """One step of a transaction: none is taken after one that failed. Without a deadline where it is not `timed`."""
        if self._spoilt is not None:
            kind = Fenced if isinstance(self._spoilt, Fenced) else LogProblem
            raise kind(
                f"{self.name}: {doing}: an earlier step failed ({self._spoilt}); close this writer, open a new one"
            )
        return Step(self, *self._told(doing, needs), writes, timed)

    def last_step(self, doing: str) -> "Step":
        """As `step`, also after one that failed: an abort."""
        return Step(self, *self._told(doing, None), 0, True)

    def spoil(self, problem: BaseException) -> None:
        """A sequence number may be used up, a request may be adrift: nothing good can come of this writer."""
        self.tainted = True
        if self._spoilt is None:
            self._spoilt = problem if isinstance(problem, LogProblem) else LogProblem(problem_text(problem))

    @property
    def healthy(self) -> bool:
        return not (self.open or self.tainted)

    def end(self) -> None:
        """The writer is closed."""
        self._spoilt = self._spoilt or LogProblem("it is closed")


class Step:
    """A step under way, for `async with`. A transaction has about ten: one object each, not four generators in each other."""

    __slots__ = ("_deadline", "_doing", "_needs", "_steps", "_writes")

    def __init__(self, steps: Steps, doing: str, needs: str, writes: int, timed: bool) -> None:
        self._steps, self._doing, self._needs, self._writes = steps, doing, needs, writes
        self._deadline = asyncio.timeout(steps.deadline_s if timed else None)

    async def __aenter__(self) -> None:
        await self._deadline.__aenter__()
        self._steps.writes += self._writes

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._steps.writes -= self._writes
        cause = self._root(problem)
        try:
            await self._deadline.__aexit__(kind, problem, trace)
        except TimeoutError as late:
            cause = late
        if cause is None:
            return
        told = self._told(cause)
        self._steps.spoil(told)
        if told is not problem:
            raise told from cause

    def _root(self, problem: BaseException | None) -> BaseException | None:
        """What the client itself has ended with, where it has: its own cause says what the broker answered."""
        if not isinstance(problem, Exception) or isinstance(problem, LogProblem):
            return problem
        return self._steps.death() or problem

    def _told(self, cause: BaseException) -> BaseException:
        if not isinstance(cause, Exception):  # cancelled
            return cause
        return told_within(cause, self._steps.deadline_s, self._doing, self._needs)
