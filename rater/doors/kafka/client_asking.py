"""The requests of a transaction, asked one after the other by a thread: records, offsets, the end. No event loop is needed here.

Nothing is ever sent a second time unless the broker has answered that it did nothing.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aiokafka import errors
from aiokafka.protocol.transaction import InitProducerIdRequest

from rater.doors.failpoints import reached
from rater.doors.kafka.client_connection import KnownTopics, problem_text, translated
from rater.doors.kafka.client_line import Line
from rater.doors.kafka.client_protocol import End, Produce, TransactionOffsets
from rater.doors.kafka.client_steps import Steps, offsets_of
from rater.doors.kafka.log import Bodies, LogProblem, LogTimeout, Place, Stored
from rater.doors.kafka.record_batches import TRANSACTIONAL, batch_bytes

FENCED_EPOCH, ABORT_WANTED = 90, 120  # numbers that have no class in aiokafka

NO_LEADER = frozenset({
    errors.UnknownTopicOrPartitionError.errno, errors.LeaderNotAvailableError.errno,
    errors.NotLeaderForPartitionError.errno, errors.NotEnoughReplicasError.errno,
})  # fmt: skip
NO_COORDINATOR = frozenset({
    errors.GroupLoadInProgressError.errno, errors.GroupCoordinatorNotAvailableError.errno,
    errors.NotCoordinatorForGroupError.errno,
})  # fmt: skip
# Answers that say that nothing was done: ask again, maybe somebody else.
NOTHING_DONE = NO_LEADER | NO_COORDINATOR | {errors.ConcurrentTransactions.errno}

log = logging.getLogger(__name__)


class NothingDone(Exception):
    """Nothing was done, and may be when asked again: the broker says so, or it was not known whom to ask."""

    def __init__(self, code: int, why: str = "") -> None:
        self.code = code
        super().__init__(why or errors.for_code(code).__name__)


def check(code: int) -> None:
    """Raises what an error code of an answer means."""
    if code == 0:
        return
    if code in NOTHING_DONE:
        raise NothingDone(code)
    raise problem_of(code)


def problem_of(code: int) -> Exception:
    problem: Exception = errors.for_code(code)()
    if code == FENCED_EPOCH:
        problem = errors.ProducerFenced("error 90, producer fenced")
    elif code == ABORT_WANTED:
        problem = LogProblem("the broker cannot go on with this transaction (error 120): it must be aborted")
    return problem


@dataclass(slots=True)
class Queued:
    """A batch that is to be written; `first` is the offset of its first record, when the broker has it."""

    place: Place
    batch: bytes
    count: int
    first: int = -1


class Records:
    """Bodies on their way, of each place one at a time: what the broker puts off must not be overtaken."""

    def __init__(self, bodies: Bodies) -> None:
        self.bodies, self._begun = bodies, 0
        self.wave: dict[Place, Queued] = {}  # asked to be written, some of it perhaps put off
        self.firsts: list[int] = []  # of those that are there, in order

    @property
    def places(self) -> set[Place]:
        return {place for place, _ in self.bodies}

    def next_wave(self, queued: Callable[[Place, Stored], Queued]) -> bool:
        """Whether there is something to write."""
        if self.wave and all(batch.first >= 0 for batch in self.wave.values()):
            self.wave = {}
        if not self.wave:
            for place, stored in self.bodies[self._begun :]:
                if place in self.wave:
                    break
                self.wave[place] = queued(place, stored)
            self._begun += len(self.wave)
        return bool(self.wave)


@dataclass(slots=True)
class Way:
    """How far a transaction is."""

    group: str
    records: Records = field(default_factory=lambda: Records(()))
    offsets: Mapping[Place, int] = field(default_factory=dict)
    offsets_there: bool = False
    since: float | None = None  # asked for, by the event loop's clock; None while it is prepared
    problem: Exception | None = None  # of preparing it


class Asked(NamedTuple):
    """Who is asked in a transaction, as far as it is known."""

    leaders: Mapping[Place, Line]
    of_groups: Mapping[str, Line]
    of_transaction: Line | None


NOBODY = Asked({}, {}, None)


class Asking:
    """A writer's requests, and what must be known for the next one.

    One thread at a time. A method that raises `NothingDone` may be called again, maybe with other lines, and goes on where it was.
    """

    def __init__(
        self, name: str, steps: Steps, topics: KnownTopics, patience_s: float, clock_ms: Callable[[], int]
    ) -> None:
        self._name, self._steps, self._topics = name, steps, topics
        self._patience_s, self._clock_ms = patience_s, clock_ms
        self.producer = (-1, -1)  # id and epoch
        self.wrote = False  # the broker may have opened the transaction
        self._sequences: dict[Place, int] = {}  # of this epoch; one epoch is one transaction

    def write(self, records: Records, leaders: Mapping[Place, Line]) -> None:
        while records.next_wave(self._queued):
            self._send(records.wave, leaders)
            for queued in records.wave.values():
                records.firsts.append(queued.first)
                reached("mid-produce")

    def go_on(self, way: Way, asked: Asked) -> None:
        """The rest of a transaction."""
        records, of_group, of_transaction = way.records, asked.of_groups.get(way.group), asked.of_transaction
        if of_group is None or of_transaction is None or not records.places <= asked.leaders.keys():
            raise NothingDone(0, "it is not known whom to ask")
        if self._topics.missing(way.offsets):
            raise NothingDone(0, "it is not known whether the places are there")
        self.wrote = True
        self.write(records, asked.leaders)
        if not way.offsets_there:
            reached("before-offsets")
            with self._steps.part(*offsets_of(way.group, way.offsets)):
                self.write_offsets(of_group, way.group, way.offsets)
            way.offsets_there = True
            reached("after-offsets")
        with self._steps.part("committing"):
            self.end(of_transaction, committed=True)

    def _queued(self, place: Place, stored: Stored) -> Queued:
        body, count, codec = stored
        sequence = self._sequences.get(place, 0)
        self._sequences[place] = sequence + count
        batch = batch_bytes(
            body, count, self._clock_ms(), attributes=TRANSACTIONAL | codec, producer=(*self.producer, sequence)
        )
        return Queued(place, batch, count)

    def _send(self, wave: Mapping[Place, Queued], leaders: Mapping[Place, Line]) -> None:
        """One request for each broker, all of them answered when this returns. `NothingDone` where some must be sent again."""
        of_line: dict[Line, dict[Place, Queued]] = {}
        for place, queued in wave.items():
            if queued.first < 0:
                of_line.setdefault(leaders[place], {})[place] = queued
        for line in of_line:
            self._reach(line)
        timeout_ms = int(1000 * self._patience_s)
        with self._answered("Produce", of_line):
            for line, batches in of_line.items():
                line.tell(Produce(self._name, timeout_ms, {place: queued.batch for place, queued in batches.items()}))
            answers = [line.hear() for line in of_line]
        put_off = 0
        for answer in answers:
            for topic, partitions, _ in answer.topics:
                for number, code, first, *_ in partitions:
                    queued = wave[Place(topic, number)]
                    if code in NOTHING_DONE:
                        put_off = code if put_off not in NO_LEADER else put_off
                    elif code:
                        doing = f"{self._name}: writing {queued.count} records to {queued.place}"
                        raise translated(problem_of(code), doing, f"WRITE on topic {topic}")
                    else:
                        queued.first = first
        if put_off:
            raise NothingDone(put_off)

    def write_offsets(self, coordinator: Line, group: str, offsets: Mapping[Place, int]) -> None:
        answer = self._ask(coordinator, TransactionOffsets(self._name, group, self.producer, offsets))
        for _, partitions, _ in answer.topics:
            for _, code, _ in partitions:
                check(code)

    def end(self, coordinator: Line, committed: bool) -> None:
        request = End(self._name, self.producer, committed)
        answer = self._ask(coordinator, request, on_its_way=lambda: reached("during-commit"))
        check(answer.error_code)
        self.producer = answer.producer_id, answer.epoch
        self._sequences.clear()
        self.wrote = False

    def take_the_id(self, coordinator: Line, transaction_timeout_ms: int) -> None:
        try:
            answer = self._ask(coordinator, InitProducerIdRequest(self._name, transaction_timeout_ms))
        except (LogTimeout, errors.KafkaConnectionError) as problem:  # twice is two new epochs, which is as well
            raise NothingDone(errors.CoordinatorNotAvailableError.errno, problem_text(problem)) from problem
        check(answer.error_code)
        self.producer = answer.producer_id, answer.producer_epoch

    def _ask(self, line: Line, request: Any, on_its_way: Callable[[], None] = lambda: None) -> Any:
        self._reach(line)
        with self._answered(type(request).__name__, [line]):
            line.tell(request)
            on_its_way()
            return line.hear()

    def _reach(self, line: Line) -> None:
        try:
            line.ready()
        except (errors.KafkaError, OSError) as problem:
            log.warning("%s: broker %s:%s: %s", self._name, line.host, line.port, problem_text(problem))
            raise NothingDone(errors.LeaderNotAvailableError.errno, problem_text(problem)) from problem

    @contextmanager
    def _answered(self, asked: str, lines: Iterable[Line]) -> Iterator[None]:
        """Around all that sends. What gets no answer may still take effect: this writer does nothing more then."""
        try:
            yield
        except BaseException as problem:
            self._steps.tainted = True
            log.warning("%s: %s: %s", self._name, asked, problem_text(problem))
            for line in lines:
                line.close()
            if isinstance(problem, errors.RequestTimedOutError):
                raise LogTimeout(
                    f"{self._name}: {asked}: no answer within {self._patience_s:g} s; whether it took effect "
                    "is not known. Check that the brokers run; the log itself says what was done"
                ) from problem
            raise
