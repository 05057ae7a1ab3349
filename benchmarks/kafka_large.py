"""A deployment with many accounts and many ids, made offline: how long a restore takes and what a worker then weighs.

The engine applies the commands that open the accounts; rows, ids and journal lines go to the topics as a worker writes them,
chained and counted, so that a worker believes them. The ids are random numbers: a restore never looks inside one.
"""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.engine import COMMANDS_AT_ONCE, NOTHING
from benchmarks.files import PLANS
from benchmarks.kafka_scene import PARTITIONS, Scene, Worker, memory_mib_of, wait_until
from benchmarks.report import Goal, Line, figure, progress
from benchmarks.workload import commands_of, tenant_name
from rater.contract.counts import Counts
from rater.contract.journal import NO_DIGEST, JournalLine, digest_of, encode_journal, state_digest
from rater.core.state import State
from rater.doors.kafka.changelog import Watermark, write_changes
from rater.doors.kafka.client import KafkaLog
from rater.doors.kafka.compression import ZSTD
from rater.doors.kafka.log import Writer
from rater.doors.kafka.names import CDRS, COMMANDS, JOURNAL, STATE
from rater.doors.kafka.outputs import Packed, journal_body, packing
from rater.doors.kafka.partitioning import partition_of
from rater.doors.kafka.record_batches import BodyWriter
from rater.doors.kafka.restore import restore
from rater.doors.rules import RuleBook, load_rule_book
from rater.pipeline import Batch, Workspace, decide, records_of

ROWS_PER_S_MIN = 300_000
IDS_A_LINE = 20_000
SEED = 20_261_101


@dataclass(frozen=True, slots=True)
class Crowd:
    """How much there is to restore."""

    accounts: int = 1_000_000
    ids: int = 10_000_000


QUICK = Crowd(accounts=100_000, ids=1_000_000)


Bodies = tuple[list[tuple[Packed, int]], list[tuple[Packed, int]]]  # for state and journal


@dataclass(slots=True)
class Made:
    """A partition as it is being made: its books, its last watermark, and what waits to be written."""

    state: State
    mark: Watermark

    def batch(self, book: RuleBook, writer: BodyWriter[Packed], ids: bytes) -> Bodies:
        """What the changes since the last batch, and these ids, come to: bodies for state and journal."""
        mark, state = self.mark, self.state
        state.seen_tally[0] += len(ids) // 16
        digest = state_digest(mark.state_digest, state)
        line = encode_journal(JournalLine(
            mark.batch + 1, mark.partition, [[0, 0, 0, 0]], Counts(), list(mark.decks), book.plans_version, book.numbering_version,
            state_digest=digest, previous=mark.journal_digest, seen=state.fresh_ids().tobytes() + ids,
        ))  # fmt: skip
        self.mark = replace(mark, batch=mark.batch + 1, state_digest=digest, journal_digest=digest_of(line),
                            rows=state.row_counts(), free=state.free_rows(), ids=int(state.seen_tally[0]))  # fmt: skip
        bodies = write_changes(state, self.mark, writer), journal_body(line, writer.keep)
        state.committed()
        return bodies


def opening_of(ranks: list[int]) -> Iterator[list[bytes]]:
    """The commands that open these tenants, some at a time; each tenant is a small one."""
    import random

    found: list[bytes] = []
    for rank in ranks:
        found += commands_of(rank, random.Random(rank))
        if len(found) >= COMMANDS_AT_ONCE:
            yield found
            found = []
    yield found


async def make_partition(scene: Scene, log: KafkaLog, partition: int, ranks: list[int], ids: int) -> None:
    """Write one partition's rows, ids, journal and group offsets."""
    book = load_rule_book(scene.deck, PLANS)
    key = np.random.Generator(np.random.PCG64([SEED, partition]))
    state = State.empty(key.bytes(16))
    versions = tuple(deck.version for deck in book.decks)
    made = Made(state, Watermark(partition, 0, 0, 0, NO_DIGEST, NO_DIGEST, state.row_counts(), state.free_rows(), 0,
                                 state.key.tobytes().hex(), versions, book.plans_version))  # fmt: skip
    workspace, bodies = Workspace(), BodyWriter(packing(ZSTD))
    writer = await log.open_writer(scene.names.transactional_id(partition))
    for raws in opening_of(ranks):
        decide(state, book.rules, Batch(partition, records_of(raws), NOTHING), workspace)
        await _commit(scene, writer, partition, made.batch(book, bodies, b""))
    left = ids
    while left > 0:
        count = min(IDS_A_LINE, left)
        drawn = key.integers(1, 2**64 - 1, (count, 2), np.uint64).tobytes()
        await _commit(scene, writer, partition, made.batch(book, bodies, drawn))
        left -= count
    await writer.close()


async def _commit(scene: Scene, writer: Writer, partition: int, batch: Bodies) -> None:
    await writer.begin()
    for name, bodies in zip((STATE, JOURNAL), batch, strict=True):
        for body, count in bodies:
            await writer.write(scene.names.place(name, partition), body.stored, count, body.codec)
    inputs = (scene.names.place(CDRS, partition), scene.names.place(COMMANDS, partition))
    await writer.write_offsets(scene.names.app_id, dict.fromkeys(inputs, 0))
    await writer.commit()


async def make(scene: Scene, crowd: Crowd) -> None:
    log = KafkaLog({"bootstrap_servers": [scene.bootstrap]})
    homes: list[list[int]] = [[] for _ in range(PARTITIONS)]
    for rank in range(10_000, 10_000 + crowd.accounts):  # ranks that are opened with two commands
        homes[partition_of(tenant_name(rank).encode(), PARTITIONS)].append(rank)
    for partition, ranks in enumerate(homes):
        await make_partition(scene, log, partition, ranks, crowd.ids // PARTITIONS)


async def restored(scene: Scene) -> tuple[int, int, float, float]:
    """(rows, ids, seconds, of them for the rows) of restoring every partition from the topics, in this process."""
    log = KafkaLog({"bootstrap_servers": [scene.bootstrap]})
    reader = await log.open_reader()
    rows, ids, begun = 0, 0, time.perf_counter()
    rows_s, began_rows = 0.0, 0.0

    def progressed(topic: str, _read: int, offset: int, end: int) -> None:
        nonlocal rows_s, began_rows
        if topic == scene.names.topic(JOURNAL) and offset >= end:
            began_rows = time.perf_counter()

    for partition in range(PARTITIONS):
        places = (scene.names.place(STATE, partition), scene.names.place(JOURNAL, partition))
        found = await restore(reader, *places, None, progressed)
        rows_s += time.perf_counter() - began_rows
        assert found.watermark is not None
        rows, ids = rows + sum(found.watermark.rows.values()), ids + found.ids_read
    spent = time.perf_counter() - begun
    await reader.close()
    return rows, ids, spent, rows_s


def started(scene: Scene, name: str) -> tuple[Worker, float]:
    """A worker and the seconds until it rates all partitions, start-up included."""
    begun = time.perf_counter()
    worker = Worker(scene, name, snapshot_interval_s="1")

    def all_running() -> bool:
        worker.check()
        return worker.running() == PARTITIONS

    wait_until(all_running, "a worker that restores", limit_s=600, pause_s=0.02)
    return worker, time.perf_counter() - begun


def run(scene: Scene, crowd: Crowd) -> Iterator[Line]:
    progress("kafka: making many accounts and ids")
    scene.create()
    asyncio.run(make(scene, crowd))
    progress("kafka: restoring them")
    rows, ids, spent, rows_s = asyncio.run(restored(scene))
    size = {"accounts": crowd.accounts, "rows": rows, "ids": ids}
    yield figure("kafka", "restore from the topics, rows", rows / rows_s, "rows/s", Goal(ROWS_PER_S_MIN, at_most=False), **size, seconds=round(rows_s, 2))  # fmt: skip
    yield figure("kafka", "restore from the topics, ids", ids / max(spent - rows_s, 1e-9), "ids/s", Goal(ROWS_PER_S_MIN, at_most=False), seconds=round(spent - rows_s, 2))  # fmt: skip
    worker, ready_s = started(scene, "large")
    try:
        yield figure("kafka", "large worker: start to ready, from the topics", ready_s, "s", None, **size)
        yield figure("kafka", "large worker: memory", memory_mib_of(worker.pid), "MiB", None, peak_mib=round(memory_mib_of(worker.pid, "VmHWM")))  # fmt: skip
        wait_until(lambda: len(list(worker.state_dir.glob("*.snapshot"))) == PARTITIONS, "snapshots", limit_s=300)
        yield figure(
            "kafka", "large worker: memory at its highest, snapshots written", memory_mib_of(worker.pid, "VmHWM"), "MiB"
        )
    finally:
        worker.stop()
    worker, ready_s = started(scene, "large")
    worker.stop()
    yield figure("kafka", "large worker: start to ready, from snapshots", ready_s, "s", None, rows_and_ids_per_s=round((rows + ids) / ready_s))  # fmt: skip
    for snapshot in worker.state_dir.glob("*.snapshot"):
        snapshot.unlink()
    worker, _ = started(scene, "large")
    try:
        wait_until(
            lambda: bool(list(worker.state_dir.glob("*.part"))), "a snapshot that is being written", pause_s=0.01
        )
    finally:
        stop_s = worker.stop()
    mib = sum(snapshot.stat().st_size for snapshot in worker.state_dir.glob("*.snapshot")) / 1024**2
    yield figure("kafka", "large worker: SIGTERM to exit while a snapshot is written", stop_s, "s", None, snapshot_mib=round(mib))  # fmt: skip
