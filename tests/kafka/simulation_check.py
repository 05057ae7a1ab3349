"""What must be true of a simulated log when it has come to rest."""

from collections.abc import Iterator, Sequence

import numpy as np
import orjson
from aiokafka.record.util import decode_varint

from rater.contract.journal import NO_DIGEST, state_digest
from rater.core.state import SHELVES, State
from rater.doors.kafka.changelog import flat
from rater.doors.kafka.log import Block, Place
from rater.doors.kafka.memory import MemoryLog
from rater.doors.kafka.names import CDRS, COMMANDS, JOURNAL, OUTPUTS, STATE, TOPICS, Names
from rater.doors.kafka.outputs import write_outcome
from rater.doors.kafka.partitioning import partition_of
from rater.doors.kafka.record_batches import BodyWriter
from rater.doors.kafka.restore import BaseUnusable, Restored, restore
from rater.doors.kafka.snapshot import Base
from rater.doors.rules import RuleBook
from rater.pipeline import Batch, Records, Workspace, decide, records_of
from tests.kafka.checker import check
from tests.kafka.checker_model import End, Ends, GroupOffsets, Record
from tests.kafka.simulation_input import rulings

Contents = dict[str, list[Record]]


def contents_of(log: MemoryLog, gone: Sequence[tuple[str, Record]] = ()) -> Contents:
    """What a read_committed reader finds, and inputs that retention has deleted since (`gone`)."""
    topics: Contents = {topic: [] for topic in TOPICS}
    for topic, record in gone:
        topics[topic].append(record)
    for place, partition in log.broker.partitions.items():
        topics[place.topic] += committed_of(log, place, partition.start)
    return topics


def committed_of(log: MemoryLog, place: Place, since: int, before: int | None = None) -> list[Record]:
    """Committed records of a place between two offsets."""
    partition = log.broker.partitions[place]
    stable = partition.stable if before is None else min(before, partition.stable)
    found = []
    for stored in partition.batches:
        if stored.readable and stored.block.next_offset > since:
            records = records_of_block(stored.block, place.partition)
            found += [record for record in records if since <= record.offset < stable]
    return found


def records_of_block(block: Block, partition: int) -> Iterator[Record]:
    """Records with their headers, which the product never reads."""
    data, at = bytearray(block.body), 0
    for _ in range(block.count):
        _, at = decode_varint(data, at)
        _, at = decode_varint(data, at + 1)  # behind the attributes: time
        delta, at = decode_varint(data, at)
        key, at = _bytes(data, at)
        value, at = _bytes(data, at)
        count, at = decode_varint(data, at)
        headers = []
        for _ in range(count):
            name, at = _bytes(data, at)
            told, at = _bytes(data, at)
            headers.append(((name or b"").decode(), told))
        yield Record(partition, block.first_offset + delta, key, value, tuple(headers))


def _bytes(data: bytearray, at: int) -> tuple[bytes | None, int]:
    length, at = decode_varint(data, at)
    return (None, at) if length < 0 else (bytes(data[at : at + length]), at + length)


# ---------------------------------------------------------------------------------------------- the oracle


def checked(log: MemoryLog, contents: Contents, group: str, partitions: int, settled: bool) -> Iterator[str]:
    """Every invariant that the independent checker knows."""
    kept = log.group(group).offsets
    offsets: GroupOffsets = {(place.topic, place.partition): offset for place, offset in kept.items()}
    ends: Ends = {
        (place.topic, place.partition): End(held.stable, held.end) for place, held in log.broker.partitions.items()
    }
    for violation in check(contents, offsets, rulings().twin, partitions, ends if settled else None):
        yield str(violation)


# ---------------------------------------------------------------------------------------------- I10: state = log


def differences(ours: Base | Restored, theirs: Base | Restored) -> Iterator[str]:
    """In what two states of one partition differ, byte by byte."""
    a, b = ours.state, theirs.state
    if ours.watermark != theirs.watermark:
        yield f"watermark {ours.watermark} is not {theirs.watermark}"
    if a is None or b is None:
        if a is not b:
            yield "only one of them has a state"
        return
    for name in SHELVES:
        if flat(a.rows(name)).tobytes() != flat(b.rows(name)).tobytes():
            yield f"rows of {name}"
    if sorted(map(tuple, a.seen_ids().tolist())) != sorted(map(tuple, b.seen_ids().tolist())):
        yield "ids seen"
    if a.key.tobytes() != b.key.tobytes():
        yield "the key"


async def restores(log: MemoryLog, names: Names, partition: int, bases: Sequence[tuple[str, Base]]) -> Iterator[str]:
    """A restore from the topics alone, and one from each base, end in the same state."""
    reader = await log.open_reader()
    places = names.place(STATE, partition), names.place(JOURNAL, partition)
    alone = await restore(reader, *places, None)
    found = []
    for name, base in bases:
        try:
            other = await restore(reader, *places, base)
        except BaseUnusable as unusable:
            found.append(f"I10: partition {partition}, {name} is of no use: {unusable}")
            continue
        found += [f"I10: partition {partition}, restored from {name}: {told}" for told in differences(other, alone)]
    return iter(found)


# ---------------------------------------------------------------------------------------------- I11: the same answers


def replayed(contents: Contents, names: Names, partition: int, partitions: int, key: str) -> Iterator[str]:
    """The engine once more, in one go and without faults, over the batches that the journal names: the same bytes."""
    of = {topic: [record for record in contents[topic] if record.partition == partition] for topic in TOPICS}
    state, workspace, bodies = State.empty(bytes.fromhex(key)), Workspace(), BodyWriter(bytes)
    book, digest = rulings().books[0], NO_DIGEST
    written: dict[str, list[tuple[bytes | None, bytes | None]]] = {topic: [] for topic in OUTPUTS}
    for entry in of[JOURNAL]:
        line = orjson.loads(entry.value or b"")
        ((command_from, command_to, call_from, call_to),) = line["segments"]
        commands = [record for record in of[COMMANDS] if command_from <= record.offset < command_to]
        calls = [record for record in of[CDRS] if call_from <= record.offset < call_to]
        batch = Batch(partition, as_records(commands), as_records(calls), command_from, call_from,
                      home=lambda tenant: partition_of(tenant, partitions))  # fmt: skip
        taken: list[RuleBook] = []

        def activate(fields: dict[str, object], taken: list[RuleBook] = taken) -> object:
            taken.append(next(b for b in rulings().books if [deck.version for deck in b.decks] == fields["decks"]))
            return taken[-1].rules

        outcome = decide(state, book.rules, batch, workspace, activate=activate)
        book = taken[-1] if taken else book
        for place, framed in write_outcome(outcome, partition, names, bodies).bodies.items():
            if place.topic in OUTPUTS:
                for body, count in framed:
                    records = records_of_block(Block(0, count, count, body, 0), partition)
                    written[place.topic] += [(record.key, record.value) for record in records]
        digest = state_digest(digest, state)
        state.committed()
        if digest != line["state_digest"]:
            yield f"I11: partition {partition}, batch {line['batch']}: a replay comes to another state"
            return
    for topic in OUTPUTS:
        if written[topic] != [(record.key, record.value) for record in of[topic]]:
            yield f"I11: {topic}-{partition}: a replay writes other bytes"


def as_records(records: Sequence[Record]) -> Records:
    """Records with keys and offsets of their own, as the engine takes them."""
    count = len(records)
    made = records_of([record.value or b"" for record in records] + [record.key or b"" for record in records])
    present = np.array([record.key is not None for record in records], bool)
    offsets = np.array([record.offset for record in records], np.int64)
    return Records(made.buffer, made.starts[:count], made.ends[:count], offsets,
                   np.where(present, made.starts[count:], -1), np.where(present, made.ends[count:], -1))  # fmt: skip


def unread_at(log: MemoryLog, place: Place, since: int) -> int:
    """How many committed records lie at or behind an offset."""
    return sum(
        min(stored.block.count, stored.block.next_offset - since)
        for stored in log.broker.partitions[place].batches
        if stored.readable and stored.block.next_offset > since
    )
