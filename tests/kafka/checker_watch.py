"""The checker beside a run that still goes on: what must hold at every committed prefix, asked again at every step.

Topics cannot be read at one instant, and a transaction does not become visible at one instant either: its coordinator
writes a commit marker into each partition, one after the other, and each partition shows the batch when its marker has
come. So at any time *one* batch of a partition may be half visible. Not two: a transactional id (there is one for each
input partition) cannot begin another transaction, nor can a successor be fenced in, before every marker of the last one
is written. From that follows what may be demanded, if the order of reading is kept, outputs, then journal, then group
offsets, then inputs, each up to an end asked for when its turn came:

* An output seen in the first reading belongs at most to the batch behind the last line seen in the second: were it of the
  batch after that, all markers of the one between, its journal line's too, were written before, and the line was seen.
* When line n + 1 is visible, every output of batch n is: batches are judged one line late, and then in full.
* The group's offsets, read after the journal, are no lower than the end of the last line but one, never go back (a late
  TxnOffsetCommit moves them back without any error), and are always the end of some line.
* An input that a line reads was committed before its batch began, so a later reading of the inputs has it.

`finish` is for a run that has stopped: then nothing is half visible, and all of `check` is demanded.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Protocol

from tests.kafka.checker import Audit
from tests.kafka.checker_cut import COMMAND, Answer, line_of
from tests.kafka.checker_model import (
    CDRS,
    COMMANDS,
    INPUTS,
    JOURNAL,
    OUTPUTS,
    STATE,
    Ends,
    GroupOffsets,
    Record,
    RuleBook,
    Violation,
)


class Source(Protocol):
    """Reads a log on, committed records only."""

    def poll(self, topics: Iterable[str]) -> Iterable[tuple[str, Record]]:
        """Everything new, at least up to the ends that the partitions have when this is called."""

    def group_offsets(self) -> GroupOffsets:
        """What the group reads next, read now."""

    def ends(self) -> Ends: ...


class Watcher:
    """Reads a growing log and says what is wrong with it, each thing once."""

    def __init__(self, source: Source, book: RuleBook, partitions: int) -> None:
        self.source, self.audit = source, Audit(book, partitions)
        self._ends: dict[tuple[str, int], list[int]] = {(t, p): [] for t in INPUTS for p in range(partitions)}
        self._open: list[deque[tuple[Answer, int]]] = [
            deque() for _ in range(partitions)
        ]  # answer, latest batch it may be of
        self._group: dict[tuple[str, int], int] = {}
        self._told: set[str] = set()

    def step(self) -> list[Violation]:
        """One reading; the violations it brought to light."""
        complete = [self._visible(p) - 1 for p in range(self.audit.partitions)]  # lines whose batch is visible in full
        outputs = [self.audit.add(topic, record) for topic, record in self.source.poll(OUTPUTS)]
        for _, record in self.source.poll((JOURNAL,)):
            self._line(record)
        found = list(self._group_offsets(self.source.group_offsets()))
        for topic, record in self.source.poll((*INPUTS, STATE)):
            self.audit.add(topic, record)
        for answer in outputs:
            if answer is not None and answer.place is not None:
                partition = answer.record.partition
                self._open[partition].append((answer, self._visible(partition) + 1))
        for partition in range(self.audit.partitions):
            found += self._too_early(partition)
            found += self._judge(partition, complete[partition])
        return self._news(found)

    def finish(self) -> list[Violation]:
        """The last reading, of a run that has stopped and been settled."""
        found = self.step()
        for partition in range(self.audit.partitions):
            found += self._judge(partition, self._visible(partition))
        return found + self._news(self.audit.finish(self.source.group_offsets(), self.source.ends()))

    def judged(self) -> int:
        """Batches checked so far."""
        return sum(self.audit.judged)

    def _visible(self, partition: int) -> int:
        return len(self._ends[CDRS, partition])

    def _news(self, violations: Iterable[Violation]) -> list[Violation]:
        """Those not told before: a group offset that is wrong stays wrong at every reading."""
        fresh = [violation for violation in violations if str(violation) not in self._told]
        self._told |= {str(violation) for violation in fresh}
        return fresh

    def _line(self, record: Record) -> None:
        self.audit.add(JOURNAL, record)
        try:
            ends = line_of(record).ends
        except (ValueError, RecursionError):
            ends = {topic: (self._ends[topic, record.partition] or [0])[-1] for topic in INPUTS}  # `judge_next` tells
        for topic, end in ends.items():
            self._ends[topic, record.partition].append(end)

    def _judge(self, partition: int, lines: int) -> Iterator[Violation]:
        while self.audit.judged[partition] < lines and self.audit.waiting(partition):
            yield from self.audit.judge_next(partition)

    def _too_early(self, partition: int) -> Iterator[Violation]:
        """Outputs that were visible while two batches of their partition had no visible journal line."""
        waiting: deque[tuple[Answer, int]] = deque()
        for answer, latest in self._open[partition]:
            assert answer.place is not None
            ends = self._ends[COMMANDS if answer.cause == COMMAND else CDRS, partition]
            batch = bisect_right(ends, answer.place[1]) + 1
            if batch > len(ends):
                waiting.append((answer, latest))  # its line is yet to come; if it never does, `finish` tells
            elif batch > latest:
                yield Violation("I8", "was visible before the journal line of an earlier batch", answer.topic, partition,
                                answer.record.offset, answer.tenant, f"batch {latest} at most", f"batch {batch}")  # fmt: skip
        self._open[partition] = waiting

    def _group_offsets(self, offsets: GroupOffsets) -> Iterator[Violation]:
        for (topic, partition), ends in self._ends.items():
            found, before = offsets.get((topic, partition), -1), self._group.get((topic, partition), -1)
            least = ends[-2] if len(ends) > 1 else -1
            if found < least:
                yield Violation("I8", "the group offset is behind the last journal line but one", topic, partition, found, "",
                                f"{least} or more", found)  # fmt: skip
            if found < before:
                yield Violation(
                    "I8", "the group offset went back", topic, partition, found, "", f"{before} or more", found
                )
            at = bisect_left(ends, before)
            if before >= 0 and at < len(ends) and ends[at] != before:
                yield Violation("I8", "the group offset was not the end of any journal line", topic, partition, before, "",
                                "an end of a batch", before)  # fmt: skip
            self._group[topic, partition] = found
