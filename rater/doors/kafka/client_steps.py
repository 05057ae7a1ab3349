"""The steps of a transaction, for whichever writer takes them: in order, each with a deadline, none after one that failed."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from rater.doors.kafka.client_connection import problem_text, within
from rater.doors.kafka.log import Fenced, LogProblem, Place


class Steps:
    """What is open, and what went wrong. `death` tells why the client itself has ended, where it has."""

    def __init__(self, name: str, deadline_s: float, death: Callable[[], BaseException | None] = lambda: None) -> None:
        self.name = name
        self.tainted = False
        self.open = False  # a transaction is
        self._deadline_s, self._death = deadline_s, death
        self._spoilt: LogProblem | None = None
        self._writes = 0  # under way

    def check_closed(self) -> None:
        if self.open and self._spoilt is None:
            raise LogProblem(f"{self.name}: a transaction is open; commit or abort it first")

    def check_open(self) -> None:
        if not self.open and self._spoilt is None:
            raise LogProblem(f"{self.name}: no transaction is open; begin one first")

    @asynccontextmanager
    async def write(self, place: Place, count: int) -> AsyncIterator[None]:
        """The step of a batch of records; no commit while one is under way."""
        self.check_open()
        if count == 0:
            raise LogProblem(f"{place}: nothing to write; expected at least one record")
        async with self.step(f"writing {count} records to {place}", f"WRITE on topic {place.topic}"):
            self._writes += 1
            try:
                yield
            finally:
                self._writes -= 1

    def check_written(self) -> None:
        if self._writes:
            raise LogProblem(f"{self.name}: commit while {self._writes} writes are under way; await them first")

    @asynccontextmanager
    async def step(self, doing: str, needs: str | None = None) -> AsyncIterator[None]:
        """One step of a transaction: none is taken after one that failed."""
        if self._spoilt is not None:
            kind = Fenced if isinstance(self._spoilt, Fenced) else LogProblem
            raise kind(
                f"{self.name}: {doing}: an earlier step failed ({self._spoilt}); close this writer, open a new one"
            )
        async with self.last_step(doing, needs):
            yield

    @asynccontextmanager
    async def last_step(self, doing: str, needs: str | None = None) -> AsyncIterator[None]:
        """As `step`, also after one that failed: an abort."""
        needs = needs or f"WRITE on transactional id {self.name}"
        try:
            async with within(self._deadline_s, f"{self.name}: {doing}", needs):
                try:
                    yield
                except LogProblem:
                    raise
                except Exception:
                    death = self._death()
                    if death is not None:
                        raise death  # noqa: B904  # its own cause says what the broker answered
                    raise
        except BaseException as problem:
            self.spoil(problem)
            raise

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
