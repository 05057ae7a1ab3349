"""The sink on the log in memory: every committed record once, whoever is killed, and however many sinks there are."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from rater.doors.failpoints import HISTORY_FAILPOINTS
from rater.doors.history.opening import open_history
from rater.doors.history.sink import Fed, Sink
from rater.doors.history.store import EVENTS, KAFKA, RATED, TOPICS, Batch, Moved, Position, Store, StoreAway
from rater.doors.kafka.log import OffsetGone, Place
from rater.doors.kafka.memory import MemoryLog
from rater.doors.kafka.record_batches import frame_few
from rater.doors.kafka.tail import Tail
from tests.history.conftest import Open
from tests.history.killing import killed_at
from tests.history.support import event, lines, rated

PREFIX, PARTITIONS, EACH, BATCHES = "eu.", 3, 5, 12
STUCK_S = 120.0


def filled() -> MemoryLog:
    """Topics with committed batches of five records; every third batch is of a transaction that was aborted."""
    log = MemoryLog({PREFIX + topic: PARTITIONS for topic in TOPICS})

    async def fill() -> None:
        for number in range(BATCHES * PARTITIONS):
            writer = await log.open_writer(f"w{number}")
            partition = number % PARTITIONS
            numbers = range(number * EACH, (number + 1) * EACH)
            told = {
                RATED: lines(rated(k, f"tenant-{partition}") for k in numbers),
                EVENTS: lines([event(number, "balance.zero", "2026-11-03T13:30:00.000Z", f"tenant-{partition}")]),
            }
            await writer.begin()
            for topic, values in told.items():
                ((body, count),) = frame_few([(b"k", value, ()) for value in values])
                await writer.write(Place(PREFIX + topic, partition), body, count)
            await (writer.abort() if number % 3 == 2 and number > 2 else writer.commit())

    asyncio.run(fill())
    return log


COMMITTED = [k for number in range(BATCHES * PARTITIONS) if not (number % 3 == 2 and number > 2)
             for k in range(number * EACH, (number + 1) * EACH)]  # fmt: skip


class Slow(Tail):
    """One partition's answer a poll, so that there are many transactions."""

    async def poll(self) -> list[Any]:
        for place, offset in self._next.items():
            chunk = await self._read(place, offset)
            if chunk is not None:
                self._next[place] = chunk.next_offset
                return [chunk]
        await asyncio.sleep(0)
        return []


async def fed(
    log: MemoryLog, store: Store, until: Callable[[Sink], bool], sink: Sink | None = None, tail_of: type[Tail] = Slow
) -> Fed:
    tail = tail_of(await log.open_reader(), PREFIX)
    sink = sink or Sink(store, tail, PREFIX, PARTITIONS)
    stop = asyncio.Event()

    async def watch() -> None:
        while not until(sink):
            await asyncio.sleep(0.001)
        stop.set()

    async with asyncio.timeout(STUCK_S):
        _, found = await asyncio.gather(watch(), sink.run(stop))
    return found


def all_read(log: MemoryLog, store: Store) -> Callable[[Sink], bool]:
    """Every partition of the history stands at the end of its log."""
    ends = {
        (topic, p): log.broker.partition(Place(PREFIX + topic, p)).stable for topic in TOPICS for p in range(PARTITIONS)
    }

    def done(_: Sink) -> bool:
        known = store.positions(store.feed(KAFKA, PREFIX))
        return {tuple(place): position.place for place, position in known.items()} == ends

    return done


def kept(store: Store) -> list[int]:
    with store.reading() as read:
        return [place for (place,) in read("select in_place from calls order by in_place", ())]


def small_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rater.doors.kafka.memory.READ_BYTES", 6000)


@pytest.mark.parametrize("tail_of", [Slow, Tail])
def test_every_committed_record_is_kept_once_and_no_aborted_one(
    store: Store, tail_of: type[Tail], monkeypatch: pytest.MonkeyPatch
):
    small_reads(monkeypatch)
    monkeypatch.setattr("rater.doors.kafka.tail.PLACES_AT_ONCE", 2)
    log = filled()
    found = asyncio.run(fed(log, store, all_read(log, store), tail_of=tail_of))
    assert kept(store) == COMMITTED
    assert found.calls == len(COMMITTED)
    assert found.transactions > 6
    again = asyncio.run(fed(log, store, lambda _: True))
    assert again.calls == 0


@pytest.mark.parametrize("times", [1, 2, 5])
@pytest.mark.parametrize("failpoint", HISTORY_FAILPOINTS)
def test_killed_anywhere_the_next_sink_goes_on_from_there(
    target: str, failpoint: str, times: int, monkeypatch: pytest.MonkeyPatch
):
    small_reads(monkeypatch)
    log = filled()
    open_history(target, make=True).close()

    def work() -> None:
        store = open_history(target, make=True)
        asyncio.run(fed(log, store, all_read(log, store)))

    assert killed_at(failpoint, times, work), f"{failpoint} was not reached {times} times"
    store = open_history(target)
    try:
        before = kept(store)
        assert len(before) == len(set(before))
        assert set(before) <= set(COMMITTED)
        asyncio.run(fed(log, store, all_read(log, store)))
        assert kept(store) == COMMITTED
    finally:
        store.close()


def test_a_partition_that_never_ends_does_not_keep_the_others_waiting(monkeypatch: pytest.MonkeyPatch):
    small_reads(monkeypatch)
    monkeypatch.setattr("rater.doors.kafka.tail.PLACES_AT_ONCE", 1)
    log = filled()

    async def turns() -> list[tuple[str, int]]:
        tail = Tail(await log.open_reader(), PREFIX)
        await tail.seek({(topic, p): None for topic in TOPICS for p in range(PARTITIONS)})
        return [(chunk.topic, chunk.partition) for _ in range(2 * PARTITIONS) for chunk in await tail.poll()]

    assert sorted(asyncio.run(turns())) == sorted((topic, p) for topic in TOPICS for p in range(PARTITIONS))


def test_of_two_sinks_at_once_one_is_refused_and_nothing_is_there_twice(open_store: Open):
    log = filled()
    first, second = open_store(), open_store()

    async def both() -> list[Any]:
        return await asyncio.gather(
            fed(log, first, all_read(log, first)), fed(log, second, all_read(log, second)), return_exceptions=True
        )

    found = asyncio.run(both())
    assert any(isinstance(one, Moved) for one in found) or kept(first) == COMMITTED
    asyncio.run(fed(log, first, all_read(log, first)))
    assert kept(first) == COMMITTED


class Fragile:
    """A store that goes away now and then: before a transaction, or after it, so that its outcome is not heard."""

    def __init__(self, store: Store, after: bool) -> None:
        self._store, self._after, self._count = store, after, 0
        self.name = store.name

    def append(self, batch: Batch) -> None:
        self._count += 1
        if self._count % 2:
            self._store.append(batch)
        elif self._after:
            self._store.append(batch)
            raise StoreAway("the connection was lost")
        else:
            raise StoreAway("no connection")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.mark.parametrize("after", [False, True])
def test_a_database_that_goes_away_is_waited_for_and_its_last_word_is_asked(
    sqlite_store: Store, after: bool, monkeypatch: pytest.MonkeyPatch
):
    small_reads(monkeypatch)
    log = filled()

    async def run() -> Fed:
        tail = Slow(await log.open_reader(), PREFIX)
        fragile: Any = Fragile(sqlite_store, after)
        sink = Sink(fragile, tail, PREFIX, PARTITIONS, sleep=lambda _: asyncio.sleep(0))
        return await fed(log, sqlite_store, all_read(log, sqlite_store), sink)

    asyncio.run(run())
    assert kept(sqlite_store) == COMMITTED


def test_records_that_retention_took_before_they_were_read_are_told_not_passed_over(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
):
    small_reads(monkeypatch)
    log = filled()
    asyncio.run(fed(log, sqlite_store, lambda sink: sink.fed.transactions >= 1))
    for partition in range(PARTITIONS):
        log.delete_records(Place(PREFIX + RATED, partition), 60)
        log.delete_records(Place(PREFIX + EVENTS, partition), 12)
    with pytest.raises(OffsetGone, match=r"is to be read next, and the log holds .* retention deleted"):
        asyncio.run(fed(log, sqlite_store, all_read(log, sqlite_store)))


def test_a_topic_whose_beginning_is_gone_is_read_from_what_is_left(
    sqlite_store: Store, caplog: pytest.LogCaptureFixture
):
    log = filled()
    for partition in range(PARTITIONS):
        log.delete_records(Place(PREFIX + RATED, partition), 12)
    asyncio.run(fed(log, sqlite_store, all_read(log, sqlite_store)))
    assert "what was before is no longer in the log" in caplog.text
    assert set(kept(sqlite_store)) < set(COMMITTED)
    assert len(kept(sqlite_store)) > len(COMMITTED) // 2


def test_a_stop_finishes_the_transaction_under_way(sqlite_store: Store):
    log = filled()
    asyncio.run(fed(log, sqlite_store, lambda sink: sink.fed.transactions >= 2))
    feed = sqlite_store.feed(KAFKA, PREFIX)
    known = sqlite_store.positions(feed)
    with sqlite_store.reading() as read:
        ends = read("select part, max(place) + 1 from calls group by part", ())
    for part, end in ends:
        assert known[next(p for p in known if tuple(p) == (RATED, part))].place >= end
    assert Position(0) not in known.values()
