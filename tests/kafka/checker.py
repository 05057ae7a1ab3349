"""The independent checker of a Kafka run: every invariant of reliability.md, recomputed from the topics by the slow twin.

`check` is a pure function of what a read_committed reader finds in the topics, so it needs no broker and can be tested by
planting faults. `checker_watch` asks the same of a run that is still going on; `checker_io` reads a broker.

    python -m tests.kafka.checker --bootstrap localhost:9092 --rates rates/example-usd [--rates OTHER] [--topic-prefix x.]

prints what was checked and every invariant broken; exit status 1 if any is. What each line of the table means:

    I1  conservation per account    I5  running balance and version   I9   answers never go back (needs the web door's answers)
    I2  double entry is zero        I6  order per account             I10  state = log, every row to the byte
    I3  nothing lost                I7  one alarm per crossing        I11  same input, same answer
    I4  nothing twice               I8  atomic: G = J = W             I12  settled: nothing unread, no open transaction
    I13 rules as the log names them I15 rejections are whole
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from tests.kafka.checker_batch import Books, check_batch
from tests.kafka.checker_cut import Answer, Cut, Line, Pool, line_of
from tests.kafka.checker_model import (
    CDRS,
    COMMANDS,
    FORWARDED_FROM,
    INPUTS,
    JOURNAL,
    OUTPUTS,
    STATE,
    TOPICS,
    Ends,
    GroupOffsets,
    Record,
    RuleBook,
    Topics,
    UnknownRules,
    Violation,
    rule_set,
    same,
)
from tests.kafka.checker_state import i10_state, meta_row
from tests.kafka.checker_twin import Expected, PartitionTwin

INVARIANTS = {
    "I1": "conservation per account",
    "I2": "double entry comes to zero",
    "I3": "nothing lost",
    "I4": "nothing twice",
    "I5": "running balance",
    "I6": "order per account",
    "I7": "one alarm per crossing",
    "I8": "one act: outputs, journal, offsets, state",
    "I9": "a reader never goes back",
    "I10": "state = log",
    "I11": "same input, same answer",
    "I12": "settled",
    "I13": "rules as the log names them",
    "I15": "rejections are whole",
}


class Audit:
    """A log that is fed record by record and judged batch by batch."""

    def __init__(self, book: RuleBook, partitions: int) -> None:
        rated_ids: dict[tuple[str, str], str] = {}  # one for all partitions
        self.partitions = partitions
        self.pools = [Pool(p) for p in range(partitions)]
        self.books = [Books(PartitionTwin(p, partitions, book), rated_ids) for p in range(partitions)]
        self.judged = [0] * partitions  # journal records taken
        self.stopped: set[int] = set()  # partitions whose journal cannot be followed any further
        self.copies: list[tuple[str, Record, str]] = []  # (topic, forwarded copy, where it says it came from)
        self.metas: dict[int, Record] = {}
        self.state_rows: list[dict[bytes, Record]] = [
            {} for _ in range(partitions)
        ]  # by key, as compaction leaves them
        self.outside: list[Violation] = []

    # ---- feeding

    def add(self, topic: str, record: Record) -> Answer | None:
        """Take a record in; where it is an output, what it answers."""
        if not 0 <= record.partition < self.partitions:
            told = f"a partition beyond the {self.partitions} of the run"
            self.outside.append(Violation("I6", told, topic, record.partition, record.offset))
            return None
        if topic in INPUTS:
            for name, value in record.headers:
                if name == FORWARDED_FROM:
                    self.copies.append((topic, record, (value or b"").decode("utf-8", "replace")))
        if topic == STATE:
            self._state(record)
        return self.pools[record.partition].add(topic, record)

    def _state(self, record: Record) -> None:
        if record.key == b"meta":
            self.metas[record.partition] = record
        elif record.key is not None and record.value is not None:
            self.state_rows[record.partition][record.key] = record
        elif record.key is not None:
            self.state_rows[record.partition].pop(record.key, None)

    # ---- judging

    def waiting(self, partition: int) -> int:
        """Journal lines that are there and not judged."""
        return 0 if partition in self.stopped else len(self.pools[partition].lines) - self.judged[partition]

    def judge_next(self, partition: int) -> Iterator[Violation]:
        """The next batch of a partition, and before it what no journal line accounts for."""
        record = self.pools[partition].lines[self.judged[partition]]
        self.judged[partition] += 1
        try:
            line = line_of(record)
        except (ValueError, RecursionError) as wrong:
            self.stopped.add(partition)
            yield Violation("I8", f"not a journal line, so the partition cannot be followed further: {wrong}", JOURNAL,
                            partition, record.offset)  # fmt: skip
            return
        yield from self._unaccounted(partition, line)
        books = self.books[partition]
        segments = [clipped(segment, books.ends) for segment in line.segments]
        if segments != line.segments:
            yield Violation("I8", "the batch reads again what an earlier batch has read", JOURNAL, partition, record.offset,
                            "", [books.ends[COMMANDS], books.ends[CDRS]], line.segments)  # fmt: skip
        yield from self._decide(partition, self.pools[partition].cut(line, segments))

    def _unaccounted(self, partition: int, line: Line) -> Iterator[Violation]:
        """Inputs between the end of the batch before and the start of this: only markers and aborted records may lie there."""
        books, pool = self.books[partition], self.pools[partition]
        gap = []
        for topic in INPUTS:
            since, until = books.ends[topic], line.starts[topic]
            missed = pool.unread(topic, since, until)
            for offset in missed[:1]:
                yield Violation("I8", f"{len(missed)} committed records that no journal line reads", topic, partition, offset, "",
                                f"a line from {since}", f"the next one begins at {until}")  # fmt: skip
            gap.append((since, max(since, until), bool(missed)))
        if any(missed for _, _, missed in gap):
            (call_from, call_to, _), (command_from, command_to, _) = gap
            yield from self._decide(partition, pool.cut(None, [[command_from, command_to, call_from, call_to]]))

    def _decide(self, partition: int, cut: Cut) -> Iterator[Violation]:
        books = self.books[partition]
        try:
            if books.lines == 0 and cut.line is not None and not cut.calls and not cut.commands:
                first_rules(books, cut.line)
            expected = self._expected(books, cut)
        except UnknownRules as wrong:
            self.stopped.add(partition)
            offset = cut.line.record.offset if cut.line else -1
            yield Violation("I13", f"the batch cannot be decided: {wrong}", JOURNAL, partition, offset)
            return
        yield from check_batch(books, cut, expected)

    def _expected(self, books: Books, cut: Cut) -> Expected:
        """Segment by segment; Kafka's lines have one."""
        whole: Expected | None = None
        for command_from, command_to, call_from, call_to in (
            cut.line.segments if cut.line else [[0, 1 << 62, 0, 1 << 62]]
        ):
            commands = [record for record in cut.commands if command_from <= record.offset < command_to]
            calls = [record for record in cut.calls if call_from <= record.offset < call_to]
            part = books.twin.batch(commands, calls)
            whole = part if whole is None else joined(whole, part)
        assert whole is not None
        return whole

    def finish(self, offsets: GroupOffsets, ends: Ends | None = None) -> Iterator[Violation]:
        """What is left when every journal line is judged. `ends`: given for a run that has come to rest."""
        yield from self.outside
        for partition, pool in enumerate(self.pools):
            books = self.books[partition]
            yield from i8_outputs_without_line(pool)
            yield from i8_group_offsets(partition, books, pool, offsets)
            yield from i8_watermark(partition, books, self.metas.get(partition))
            if partition not in self.stopped:
                yield from i10_state(books, self.metas.get(partition), self.state_rows[partition])
                if ends is not None:
                    yield from i12_settled(partition, books, pool)
        yield from i3_forwarded([entry for books in self.books for entry in books.forwards], self.copies)
        if ends is not None:
            yield from i12_no_open_transaction(ends)

    def checked(self) -> Counter[str]:
        total: Counter[str] = Counter()
        for books in self.books:
            total.update(books.checked)
        total["I10"] = sum(map(len, self.state_rows))
        total["I12"] = self.partitions
        return total


def first_rules(books: Books, line: Line) -> None:
    """A partition's first line reads nothing and puts in force the rules it names."""
    books.twin.take(rule_set(books.twin.book, map(str, line.row["decks"]), str(line.row["plans"])))


def clipped(segment: list[int], ends: Mapping[str, int]) -> list[int]:
    """A segment without what was read before."""
    command_from, command_to, call_from, call_to = segment
    command_from, call_from = max(command_from, ends[COMMANDS]), max(call_from, ends[CDRS])
    return [command_from, max(command_from, command_to), call_from, max(call_from, call_to)]


def joined(whole: Expected, part: Expected) -> Expected:
    return Expected(
        whole.rated | part.rated,
        whole.events + part.events,
        whole.rejected_cdrs | part.rejected_cdrs,
        whole.rejected_commands | part.rejected_commands,
        whole.applied + part.applied,
        whole.duplicate_cdrs | part.duplicate_cdrs,
        whole.duplicate_commands | part.duplicate_commands,
        whole.forwarded_cdrs | part.forwarded_cdrs,
        whole.forwarded_commands | part.forwarded_commands,
        whole.unknown_fields + part.unknown_fields,
        whole.ids + part.ids,
        whole.balances | part.balances,
    )


# ---------------------------------------------------------------------------------------------- what a whole log must hold


def i8_outputs_without_line(pool: Pool) -> Iterator[Violation]:
    """An answer that no batch accounts for: visible although its input, by journal and offsets, was not read."""
    for answer in pool.strays:
        what = answer.problem or "answers an input of another partition"
        invariant = "I8" if answer.problem else "I6"
        yield Violation(invariant, what, answer.topic, answer.record.partition, answer.record.offset, answer.tenant,
                        f"an input of partition {pool.partition}", answer.place or answer.record.value)  # fmt: skip
    for answer in pool.left():
        yield Violation("I8", "is visible, but no journal line reads its input", answer.topic, answer.record.partition,
                        answer.record.offset, answer.tenant, "a journal line", f"input {answer.place}")  # fmt: skip


def i8_group_offsets(partition: int, books: Books, pool: Pool, offsets: GroupOffsets) -> Iterator[Violation]:
    """G = J: the group reads on where the last journal line ends."""
    for topic in INPUTS:
        found = offsets.get((topic, partition))
        wanted = books.last.ends[topic] if books.last else None
        if not same(found, wanted) and not (wanted is None and found == 0):
            yield Violation("I8", "the group offset is not the end of the last journal line (G, J)", topic, partition,
                            -1 if found is None else found, "", wanted, found)  # fmt: skip


def i8_watermark(partition: int, books: Books, meta: Record | None) -> Iterator[Violation]:
    """W = J: the state stands where the journal ends, and at its digests."""
    if books.last is None:
        if meta is not None:
            yield Violation("I8", "a state watermark without a journal line", STATE, partition, meta.offset)
        return
    if meta is None:
        yield Violation(
            "I8", "no state watermark, where the journal has lines", STATE, partition, -1, "", "key meta", "nothing"
        )
        return
    row = meta_row(meta)
    line = books.last
    wanted = {"partition": partition, "batch": line.row["batch"], "next_cdr": line.ends[CDRS],
              "next_command": line.ends[COMMANDS], "state_digest": line.row["state_digest"], "journal_digest": line.digest,
              "decks": line.row["decks"], "plans": line.row["plans"]}  # fmt: skip
    for name, value in wanted.items():
        if not same(value, row.get(name)):
            yield Violation("I8", f"{name} of the state watermark is not the journal's (W, J)", STATE, partition, meta.offset,
                            "", value, row.get(name))  # fmt: skip


def i3_forwarded(sources: list[tuple[str, Record, int]], copies: list[tuple[str, Record, str]]) -> Iterator[Violation]:
    """Each misplaced record read stands once, as it came, in the partition it belongs to; and no copy without its source."""
    found: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for topic, copy, source in copies:
        found[topic, source].append(copy)
    for topic, record, home in sources:
        several = found.pop((topic, f"{record.partition}/{record.offset}"), [])
        if not several:
            yield Violation("I3", "a misplaced record was read and not forwarded", topic, record.partition, record.offset, "",
                            f"a copy in partition {home}", "none")  # fmt: skip
        for again in several[1:]:
            yield Violation("I4", "a misplaced record was forwarded twice", topic, again.partition, again.offset, "", "one copy",
                            f"also at offset {several[0].offset}")  # fmt: skip
        for copy in several:
            if copy.partition != home:
                yield Violation("I3", "a misplaced record was forwarded to a wrong partition", topic, copy.partition,
                                copy.offset, "", home, copy.partition)  # fmt: skip
            if (copy.key, copy.value) != (record.key, record.value):
                yield Violation("I3", "a forwarded record is not the one that came", topic, copy.partition, copy.offset, "",
                                (record.key, record.value), (copy.key, copy.value))  # fmt: skip
    for (topic, source), several in found.items():
        for copy in several:
            yield Violation("I8", "a forwarded copy whose source no committed batch has read", topic, copy.partition,
                            copy.offset, "", "no copy", f"from {source}")  # fmt: skip


def i12_settled(partition: int, books: Books, pool: Pool) -> Iterator[Violation]:
    """At rest, everything is read."""
    for topic in INPUTS:
        unread = pool.unread(topic, books.ends[topic])
        if unread:
            yield Violation(
                "I12", f"{len(unread)} records are not read", topic, partition, unread[0], "", "none", len(unread)
            )


def i12_no_open_transaction(ends: Ends) -> Iterator[Violation]:
    for (topic, partition), end in ends.items():
        if end.stable != end.high:
            yield Violation("I12", "an open transaction holds back readers of committed records", topic, partition, end.stable,
                            "", end.high, end.stable)  # fmt: skip


# ---------------------------------------------------------------------------------------------- beside the topics


class Reading(NamedTuple):
    """An answer of the web door: who asked, and how far the state was that answered."""

    client: str
    partition: int
    offset: int


def i9_never_back(readings: Iterable[Reading]) -> Iterator[Violation]:
    """For one client, the answers about a partition never go back."""
    furthest: dict[tuple[str, int], int] = {}
    for reading in readings:
        place = (reading.client, reading.partition)
        if reading.offset < furthest.get(place, -1):
            yield Violation("I9", f"an answer to {reading.client} goes back", "", reading.partition, reading.offset, "",
                            f"offset {furthest[place]} or more", reading.offset)  # fmt: skip
        furthest[place] = max(reading.offset, furthest.get(place, -1))


def i11_replay(first: Topics, second: Topics) -> Iterator[Violation]:
    """Two runs over the same inputs, however they were cut and killed: the same keys, values and headers, in order."""
    for topic in OUTPUTS:
        a, b = by_partition(first.get(topic, ())), by_partition(second.get(topic, ()))
        for partition in sorted(a.keys() | b.keys()):
            ours, theirs = a.get(partition, []), b.get(partition, [])
            for one, other in zip(ours, theirs, strict=False):
                if one[2:] != other[2:]:
                    yield Violation("I11", "two runs over the same input differ", topic, partition, one.offset, "",
                                    one[2:], other[2:])  # fmt: skip
                    break
            if len(ours) != len(theirs):
                yield Violation("I11", "two runs over the same input wrote different numbers of records", topic, partition, -1,
                                "", len(ours), len(theirs))  # fmt: skip


def by_partition(records: Iterable[Record]) -> dict[int, list[Record]]:
    found: dict[int, list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record[:2]):
        found[record.partition].append(record)
    return found


# ---------------------------------------------------------------------------------------------- the check


def audited(topics: Topics, book: RuleBook, partitions: int) -> tuple[Audit, list[Violation]]:
    """Everything fed, every journal line judged."""
    audit = Audit(book, partitions)
    for topic in TOPICS:
        for record in sorted(topics.get(topic, ()), key=lambda record: record[:2]):
            audit.add(topic, record)
    found: list[Violation] = []
    for partition in range(partitions):
        while audit.waiting(partition):
            found += audit.judge_next(partition)
    return audit, found


def check(
    topics: Topics, offsets: GroupOffsets, book: RuleBook, partitions: int, ends: Ends | None = None
) -> list[Violation]:
    """Every violation in the committed contents of the topics.

    `offsets`: what the group reads next. `book`: every deck and plans table the run could name. `ends`: where the partitions
    end, for a run that has come to rest (I12); without it, inputs may be unread.
    """
    audit, found = audited(topics, book, partitions)
    return found + list(audit.finish(offsets, ends))


def main() -> int:
    from tests.kafka.checker_io import main as of_a_broker  # a client library is needed only here

    return of_a_broker(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
