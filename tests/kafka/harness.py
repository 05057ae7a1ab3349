"""Partitions rated on the log in memory: real tasks and crews, no broker, no clock to wait for."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from rater.contract.records import Records
from rater.doors.kafka.audit_streams import records_in
from rater.doors.kafka.compression import CODECS
from rater.doors.kafka.crew import Crew, Kit
from rater.doors.kafka.log import Block, Place
from rater.doors.kafka.memory import MemoryLog
from rater.doors.kafka.memory_broker import Stored
from rater.doors.kafka.names import CDRS, COMMANDS, INPUTS, TOPICS, Names
from rater.doors.kafka.partitioning import partition_of
from rater.doors.kafka.record_batches import frame_few, framed_record, records_from_blocks
from rater.doors.kafka.rule_sets import RuleSets
from rater.doors.kafka.snapshot import Snapshots
from rater.doors.kafka.surroundings import BatchReport, Limits, Phase, Surroundings, Watch

APP = "rating"
KEY = bytes(range(16))
STUCK_S = 300.0  # a cold cache compiles the engine first; never a measure of anything
Change = Callable[[bytes | None, bytes], tuple[bytes | None, bytes]]


def key_of(raw: bytes) -> bytes | None:
    """The tenant; nothing for what no producer could read."""
    try:
        tenant: str = orjson.loads(raw)["tenant"]
        return tenant.encode()
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


@dataclass(slots=True)
class Seen(Watch):
    """A `Watch` that notes what it was told."""

    phases: list[tuple[int, Phase, str]] = field(default_factory=list)
    reports: list[BatchReport] = field(default_factory=list)

    def phase(self, partition: int, phase: Phase, why: str) -> None:
        self.phases.append((partition, phase, why))

    def restoring(self, partition: int, topic: str, read: int, offset: int, end: int) -> None:
        """Of no interest."""

    def committed(self, partition: int, report: BatchReport) -> None:  # noqa: ARG002
        self.reports.append(report)

    def aborted(self, partition: int, why: str) -> None:
        """`phase` has told it."""


class Bench:
    """A cluster in memory, decks in a folder, and one worker at a time."""

    def __init__(self, folder: Path, rates: Path, partitions: int = 2, bytes_max: int = 4 << 20) -> None:
        self.folder, self.rates, self.partitions = folder, rates, partitions
        self.names = Names(APP)
        self.log = MemoryLog(dict.fromkeys(TOPICS, partitions), sleep=lambda s: asyncio.sleep(min(s, 0.01)))
        self.snapshots = Snapshots(folder / "snapshots", APP)
        self.limits = Limits(commit_interval_s=0.0, bytes_max=bytes_max, snapshot_interval_s=1e9, codec=CODECS["zstd"])
        self.seen = Seen()
        self.said: list[str] = []

    def rules(self) -> RuleSets:
        return RuleSets(self.rates, None, self.folder / "rates", self.said.append)

    # ---- sending

    def home(self, raw: bytes) -> tuple[bytes | None, int]:
        """Key and partition of a record, as a producer that reads it would choose them."""
        tenant = key_of(raw)
        return tenant, 0 if tenant is None else partition_of(tenant, self.partitions)

    def send(self, topic: str, raws: Sequence[bytes], each: int = 7) -> None:
        """Records to their partitions, `each` in a producer's batch."""
        of: dict[int, list[tuple[bytes | None, bytes]]] = {}
        for raw in raws:
            key, partition = self.home(raw)
            of.setdefault(partition, []).append((key, raw))
        for partition, records in sorted(of.items()):
            self.put(Place(topic, partition), records, each)

    def put(self, place: Place, records: Sequence[tuple[bytes | None, bytes]], each: int = 7) -> None:
        for at in range(0, len(records), each):
            self.log.append(place, records[at : at + each])

    # ---- working

    def kit(self) -> Kit:
        async def in_thread(work: Callable[[], Any]) -> Any:
            return work()

        around = Surroundings(
            now=asyncio.get_running_loop().time,
            sleep=lambda seconds: asyncio.sleep(min(seconds, 0.01)),
            in_thread=in_thread,
            aside=in_thread,
            unhurried=in_thread,
            new_key=lambda: KEY,
            say=lambda _partition, sentence: self.said.append(sentence),
            watch=self.seen,
        )
        return Kit(log=self.log, names=self.names, partitions=self.partitions, rules=self.rules(),
                   snapshots=self.snapshots, limits=self.limits, around=around)  # fmt: skip

    def rated(self) -> bool:
        """Every input record is behind the group's offsets."""
        group = self.log.group(APP)
        places = [self.names.place(name, p) for name in INPUTS for p in range(self.partitions)]
        return all(group.offsets.get(place, -1) >= self.last_record(place) + 1 for place in places)

    def last_record(self, place: Place) -> int:
        found = [stored.block for stored in self.log.broker.partition(place).batches if stored.readable]
        return found[-1].next_offset - 1 if found else -1

    async def work(self) -> None:
        """One worker, until everything is rated."""
        crashed: list[BaseException] = []
        crew = Crew(self.kit(), crashed.append)
        async with asyncio.timeout(STUCK_S):
            await crew.join(None)
            while not self.rated() and not crashed:
                await asyncio.sleep(0.001)
            await crew.leave()
        if crashed:
            raise crashed[0]

    def run(self) -> None:
        asyncio.run(self.work())

    # ---- looking, and doing harm

    def stored(self, name: str, partition: int) -> list[Stored]:
        return [s for s in self.log.broker.partition(self.names.place(name, partition)).batches if s.readable]

    def records(self, name: str, partition: int) -> Records:
        """Every record of a topic, with keys and offsets."""
        return records_from_blocks([s.block for s in self.stored(name, partition)], 0)[0]

    def values(self, name: str, partition: int) -> list[bytes]:
        records = self.records(name, partition)
        return [records.raw(k) for k in range(records.count)]

    def rewrite(self, name: str, partition: int, offset: int, change: Change) -> None:
        """Another key or value at an offset, as a damaged or forged topic would hold it."""
        self._reframe(name, partition, offset, lambda record: [(*change(record[0], record[1]), record[2])])

    def remove(self, name: str, partition: int, offset: int) -> None:
        self._reframe(name, partition, offset, lambda _: [])

    def swap(self, name: str, partition: int, offset: int) -> None:
        """A record and the one behind it in the same batch change places."""
        block, records = self._block(name, partition, offset)
        at = next(k for k, (found, *_) in enumerate(records) if found == offset)
        contents = [record[1:] for record in records]
        contents[at], contents[at + 1] = contents[at + 1], contents[at]
        self._set(block, [(records[k][0], *contents[k]) for k in range(len(records))])

    def _reframe(self, name: str, partition: int, offset: int, change: Callable[[Any], list[Any]]) -> None:
        block, records = self._block(name, partition, offset)
        changed = []
        for found, *record in records:
            changed += [(found, *new) for new in (change(record) if found == offset else [record])]
        self._set(block, changed)

    def _block(self, name: str, partition: int, offset: int) -> tuple[Stored, list[Any]]:
        for stored in self.stored(name, partition):
            if stored.block.first_offset <= offset < stored.block.next_offset:
                return stored, [(r.offset, r.key, r.value, r.headers) for r in records_in(stored.block)]
        raise AssertionError(f"{name}-{partition} has no record at {offset}")

    def _set(self, stored: Stored, records: list[Any]) -> None:
        old = stored.block
        body = b"".join(
            framed_record(offset - old.first_offset, key, value, [(n.decode(), c) for n, c in headers])
            for offset, key, value, headers in records
        )
        stored.block = Block(old.first_offset, old.next_offset, len(records), body, old.timestamp_ms)


def body_of(*values: bytes, key: bytes | None = b"k") -> tuple[bytes, int]:
    ((body, count),) = frame_few([(key, value, ()) for value in values])
    return body, count


__all__ = ["APP", "CDRS", "COMMANDS", "KEY", "Bench", "Seen", "body_of", "key_of"]
