"""A partition of the log, cut into batches as its journal says: what each batch read and what it answered.

Records come in any order and at any time (`Pool.add`); `Pool.cut` takes those of one batch out again, so that what is
left when the journal ends is what no committed batch accounts for.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from tests.kafka.checker_model import (
    CDRS,
    COMMANDS,
    EVENTS,
    INPUTS,
    JOURNAL,
    OUTPUTS,
    RATED,
    REJECTED_CDRS,
    REJECTED_COMMANDS,
    Record,
    Row,
    digest,
    strict_object,
)

CALL, COMMAND = "call", "command"


@dataclass(frozen=True, slots=True)
class Answer:
    """A record of an output topic, and which input it answers."""

    topic: str
    record: Record
    row: Row | None  # None: not what rater writes, and `problem` says why
    place: tuple[int, int] | None  # (partition, offset) of the input
    cause: str = CALL
    problem: str = ""

    @property
    def tenant(self) -> str:
        row = self.row or {}
        told = row.get("subject") if self.topic == EVENTS else row.get("tenant")
        return told if isinstance(told, str) else ""


def answer_of(topic: str, record: Record) -> Answer:
    try:
        row = strict_object(record.value)
        told: Any = row["data"] if topic == EVENTS else row
        cause = told["cause"] if topic == EVENTS else COMMAND if topic == REJECTED_COMMANDS else CALL
        partition, offset = told["input"]
        if type(partition) is not int or type(offset) is not int or cause not in (CALL, COMMAND):
            raise ValueError("`input` or `cause` is not what the contract says")
        return Answer(topic, record, row, (partition, offset), cause)
    except (ValueError, KeyError, TypeError, RecursionError) as wrong:
        return Answer(
            topic, record, None, None, CALL, f"not a record that rater writes: {type(wrong).__name__}: {wrong}"
        )


@dataclass(frozen=True, slots=True)
class Line:
    """A journal line that can be read. `segments`: [command from, to, call from, to] in the order they were decided."""

    record: Record
    row: Row
    segments: list[list[int]]

    @property
    def raw(self) -> bytes:
        return self.record.value or b""

    @property
    def digest(self) -> str:
        return digest(self.raw)

    @property
    def ends(self) -> dict[str, int]:
        """The offset each input is read up to."""
        return {CDRS: self.segments[-1][3], COMMANDS: self.segments[-1][1]}

    @property
    def starts(self) -> dict[str, int]:
        return {CDRS: self.segments[0][2], COMMANDS: self.segments[0][0]}


def line_of(record: Record) -> Line:
    """`ValueError` where the line is not one that rater writes."""
    row = strict_object(record.value)
    segments = row.get("segments")
    if not isinstance(segments, list) or not segments:
        raise ValueError("no segments")
    for segment in segments:
        if not isinstance(segment, list) or len(segment) != 4 or not all(type(part) is int for part in segment):
            raise ValueError(f"a segment is four whole numbers, found {segment}")
        if segment[0] > segment[1] or segment[2] > segment[3]:
            raise ValueError(f"a segment that ends before it begins: {segment}")
    for name in ("batch", "cdrs", "commands", "counts", "by_outcome", "totals", "decks", "plans", "applied", "faults",
                 "bytes", "digests", "state_digest", "previous", "misrouted", "commands_misrouted",
                 "seen_b64"):  # fmt: skip
        if name not in row:
            raise ValueError(f"{name} is missing")
    return Line(record, row, segments)


@dataclass
class Cut:
    """One batch. Answers are in the order of their topics."""

    partition: int
    line: Line | None  # None: inputs that no journal line accounts for, taken so that what follows can be judged
    commands: list[Record] = field(default_factory=list)
    calls: list[Record] = field(default_factory=list)
    answers: dict[str, list[Answer]] = field(default_factory=dict)

    def by_input(self, topic: str) -> dict[int, list[Answer]]:
        found: dict[int, list[Answer]] = defaultdict(list)
        for answer in self.answers.get(topic, []):
            if answer.place is not None:
                found[answer.place[1]].append(answer)
        return found


class Pool:
    """What is known of one partition and not yet judged."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.inputs: dict[str, dict[int, Record]] = {topic: {} for topic in INPUTS}
        self.answers: dict[tuple[str, str, int], list[Answer]] = defaultdict(list)  # (topic, cause, input offset)
        self.strays: list[Answer] = []  # unreadable, or about an input of another partition
        self.lines: list[Record] = []
        self.highest: dict[str, int] = {}

    def add(self, topic: str, record: Record) -> Answer | None:
        if topic in INPUTS:
            self.inputs[topic][record.offset] = record
        elif topic == JOURNAL:
            self.lines.append(record)
        elif topic in OUTPUTS:
            answer = answer_of(topic, record)
            if answer.place is None or answer.place[0] != self.partition:
                self.strays.append(answer)
            else:
                self.answers[topic, answer.cause, answer.place[1]].append(answer)
            return answer
        return None

    def left(self) -> list[Answer]:
        """Answers that no batch took."""
        rest = [answer for several in self.answers.values() for answer in several]
        return sorted(rest, key=lambda answer: (answer.topic, answer.record.offset))

    def unread(self, topic: str, since: int, until: int | None = None) -> list[int]:
        """Offsets of inputs not taken by any batch, from `since` on."""
        return sorted(o for o in self.inputs[topic] if o >= since and (until is None or o < until))

    def cut(self, line: Line | None, segments: list[list[int]]) -> Cut:
        """Take everything of these ranges out of the pool."""
        cut = Cut(self.partition, line, answers={topic: [] for topic in OUTPUTS})
        for command_from, command_to, call_from, call_to in segments:
            cut.commands += self._inputs(COMMANDS, command_from, command_to)
            cut.calls += self._inputs(CDRS, call_from, call_to)
            for cause, since, until in ((COMMAND, command_from, command_to), (CALL, call_from, call_to)):
                self._answers(cut, cause, since, until)
        for several in cut.answers.values():
            several.sort(key=lambda answer: answer.record.offset)
        return cut

    def _inputs(self, topic: str, since: int, until: int) -> list[Record]:
        known = self.inputs[topic]
        return [known.pop(offset) for offset in range(since, until) if offset in known]

    def _answers(self, cut: Cut, cause: str, since: int, until: int) -> None:
        topics = (EVENTS, REJECTED_COMMANDS) if cause == COMMAND else (EVENTS, RATED, REJECTED_CDRS)
        if not self.answers:
            return
        for offset in range(since, until):
            for topic in topics:
                cut.answers[topic] += self.answers.pop((topic, cause, offset), [])
