"""What only the log in memory does: faults asked for by name, steps a scheduler may hold, members that die."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence

import pytest

from rater.doors.kafka.log import Block, Fenced, LogProblem, LogTimeout, OffsetGone, Place
from rater.doors.kafka.memory import MemoryLog, MemoryWriter
from rater.doors.kafka.memory_group import MemoryMember
from rater.doors.kafka.record_batches import Marker, frame_few, records_from_blocks

CALLS, RATED = Place("calls", 0), Place("rated", 0)
TOPICS = {"calls": 4, "rated": 4, "state": 1}


def in_loop(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    @functools.wraps(test)
    def runs() -> None:
        asyncio.run(asyncio.wait_for(test(), 30))  # type: ignore[arg-type]

    return runs


def framed(*values: bytes) -> tuple[bytes, int]:
    ((body, count),) = frame_few([(b"key", value, []) for value in values])
    return body, count


def values_of(blocks: Sequence[Block]) -> list[bytes]:
    records, _ = records_from_blocks(blocks, 0)
    return [records.raw(k) for k in range(records.count)]


async def visible(log: MemoryLog, place: Place) -> list[bytes]:
    reader, found = await log.open_reader(), []
    offset, stable = await reader.bounds(place)
    while offset < stable:
        blocks, offset = await reader.read(place, offset)
        found += values_of(blocks)
    return found


async def batch(writer: MemoryWriter, value: bytes, offset: int) -> None:
    await writer.begin()
    await writer.write(RATED, *framed(value))
    await writer.write_offsets("rater", {CALLS: offset})


# ------------------------------------------------------------------------------------------------ late requests


@in_loop
async def test_a_late_end_of_an_earlier_transaction_tears_the_next_one_of_the_same_epoch():
    log = MemoryLog(TOPICS)
    writer = await log.open_writer("rater-0")
    await batch(writer, b"T1", 10)
    arrives = log.delay_end("rater-0")
    await writer.commit()
    assert writer.tainted
    await batch(writer, b"T2-a", 20)
    assert arrives()
    with pytest.raises(Fenced, match="ended by somebody else"):
        await writer.write(RATED, *framed(b"T2-b"))
    with pytest.raises(Fenced):
        await writer.abort()
    assert await visible(log, RATED) == [b"T1", b"T2-a"]
    assert log.group("rater").offsets == {CALLS: 20}


@in_loop
async def test_a_torn_transaction_may_even_seem_to_be_committed():
    """As seen on Kafka 4.3: the second part opens a transaction of its own, and its commit says all is well."""
    log = MemoryLog(TOPICS)
    writer = await log.open_writer("rater-0")
    await batch(writer, b"T1", 10)
    arrives = log.delay_end("rater-0")
    await writer.commit()
    await batch(writer, b"T2-a", 20)
    assert arrives()
    assert await visible(log, RATED) == [b"T1", b"T2-a"]
    await writer.write(Place("rated", 1), *framed(b"T2-b"))
    assert await visible(log, Place("rated", 1)) == []
    await writer.commit()
    assert await visible(log, Place("rated", 1)) == [b"T2-b"]


@in_loop
async def test_a_new_writer_makes_a_late_end_void():
    log = MemoryLog(TOPICS)
    writer = await log.open_writer("rater-0")
    await batch(writer, b"T1", 10)
    ends, moves = log.delay_end("rater-0"), log.delay_offsets("rater-0")
    await writer.commit()
    writer = await log.open_writer("rater-0")
    assert not writer.tainted
    await batch(writer, b"T2", 20)
    assert not ends()
    assert not moves()
    await writer.abort()
    assert await visible(log, RATED) == [b"T1"]
    assert log.group("rater").offsets == {CALLS: 10}


@in_loop
async def test_late_offsets_move_the_group_back_within_an_epoch():
    log = MemoryLog(TOPICS)
    writer = await log.open_writer("rater-0")
    await batch(writer, b"T1", 10)
    arrives = log.delay_offsets("rater-0")
    await writer.commit()
    await batch(writer, b"T2", 20)
    assert arrives()
    await writer.commit()
    assert log.group("rater").offsets == {CALLS: 10}


@in_loop
async def test_a_late_abort_ends_the_next_transaction_too():
    log = MemoryLog(TOPICS)
    writer = await log.open_writer("rater-0")
    await batch(writer, b"T1", 10)
    arrives = log.delay_end("rater-0", Marker.ABORT)
    await writer.abort()
    await batch(writer, b"T2", 20)
    assert arrives()
    with pytest.raises(Fenced, match="ended otherwise"):
        await writer.commit()
    assert await visible(log, RATED) == []


@in_loop
async def test_a_transaction_that_takes_too_long_is_aborted_and_its_writer_fenced():
    log = MemoryLog(TOPICS)
    writer = await log.open_writer("rater-0")
    log.expire_transaction("rater-0")  # nothing is open: nothing happens
    await batch(writer, b"T1", 10)
    log.expire_transaction("rater-0")
    with pytest.raises(Fenced):
        await writer.commit()
    assert await visible(log, RATED) == []


# ------------------------------------------------------------------------------------------------ steps


class Steps:
    """Names every step; raises at one of them."""

    def __init__(self, fails_at: str = "", problem: BaseException | None = None) -> None:
        self.seen: list[str] = []
        self.fails_at = fails_at
        self.problem = problem or LogTimeout("a deadline passed")

    async def __call__(self, name: str) -> None:
        self.seen.append(name)
        if name == self.fails_at:
            raise self.problem


@in_loop
async def test_every_effect_stands_between_two_steps():
    steps = Steps()
    log = MemoryLog(TOPICS, step=steps)
    writer = await log.open_writer("rater-0")
    await batch(writer, b"T1", 10)
    await writer.commit()
    reader = await log.open_reader()
    await reader.bounds(RATED)
    await reader.read(RATED, 0)
    names = ["open_writer", "write", "write_offsets", "commit", "open_reader", "bounds", "read"]
    assert steps.seen == [f"{name}.{when}" for name in names for when in ("before", "after")]


@pytest.mark.parametrize(("when", "there"), [("before", []), ("after", [b"T1"])])
def test_a_commit_that_timed_out_took_effect_or_did_not_and_only_the_log_says(when: str, there: list[bytes]):
    @in_loop
    async def test() -> None:
        steps = Steps(f"commit.{when}")
        log = MemoryLog(TOPICS, step=steps)
        writer = await log.open_writer("rater-0")
        await batch(writer, b"T1", 10)
        with pytest.raises(LogTimeout):
            await writer.commit()
        for act in (writer.commit, writer.begin):
            with pytest.raises(LogProblem, match="commit failed"):
                await act()
        await log.open_writer("rater-0")
        assert await visible(log, RATED) == there
        assert log.group("rater").offsets == ({CALLS: 10} if there else {})

    test()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_task_that_ends_within_a_write_leaves_the_transaction_to_the_next_writer(when: str):
    @in_loop
    async def test() -> None:
        log = MemoryLog(TOPICS, step=Steps(f"write.{when}", asyncio.CancelledError()))
        writer = await log.open_writer("rater-0")
        await writer.begin()
        with pytest.raises(asyncio.CancelledError):
            await writer.write(RATED, *framed(b"T1"))
        log.broker.step = None
        await log.open_writer("rater-0")
        assert await visible(log, RATED) == []

    test()


@in_loop
async def test_a_fetch_that_fails_after_it_looked_hands_out_nothing_and_stays_where_it_was():
    steps = Steps()
    log = MemoryLog(TOPICS, step=steps)
    log.append(CALLS, [(b"k", b"1")])
    member, _ = await member_of(log, "rater")
    await until(lambda: member.share == {0, 1, 2, 3})
    member.seek(CALLS, 0)
    member.resume([CALLS])
    steps.fails_at = "fetch.after"
    with pytest.raises(LogTimeout):
        await member.fetch([CALLS], 100, 0)
    steps.fails_at = ""
    assert member.position(CALLS) == 0
    assert values_of((await member.fetch([CALLS], 100, 0))[CALLS]) == [b"1"]


@in_loop
async def test_what_is_paused_while_a_fetch_is_held_is_not_handed_out():
    log = MemoryLog(TOPICS)
    log.append(CALLS, [(b"k", b"1")])
    member, _ = await member_of(log, "rater")
    await until(lambda: member.share == {0, 1, 2, 3})

    async def pauses(name: str) -> None:
        if name == "fetch.after":
            member.pause([CALLS])

    member.seek(CALLS, 0)
    member.resume([CALLS])
    log.broker.step = pauses
    assert await member.fetch([CALLS], 100, 0) == {}
    assert member.position(CALLS) == 0


@in_loop
async def test_a_write_that_is_held_holds_the_next_one_to_its_place_and_no_other():
    held = asyncio.Event()
    names: list[str] = []

    async def holds_the_first(name: str) -> None:
        names.append(name)
        if names.count("write.before") == 1 and name == "write.before":
            await held.wait()

    log = MemoryLog(TOPICS, step=holds_the_first)
    writer = await log.open_writer("rater-0")
    await writer.begin()
    first, second = (asyncio.create_task(writer.write(RATED, *framed(value))) for value in (b"1", b"2"))
    await a_while()
    await writer.write(Place("rated", 1), *framed(b"other"))
    with pytest.raises(LogProblem, match="commit while 2 writes"):
        await writer.commit()
    held.set()
    await asyncio.wait([first, second])
    log = MemoryLog(TOPICS, step=holds_the_first)
    names.clear()
    held.clear()
    writer = await log.open_writer("rater-0")
    await writer.begin()
    tasks = [asyncio.create_task(writer.write(RATED, *framed(value))) for value in (b"1", b"2")]
    await a_while()
    held.set()
    assert await asyncio.gather(*tasks) == [0, 1]
    await writer.commit()
    assert await visible(log, RATED) == [b"1", b"2"]


@in_loop
async def test_a_fetch_of_a_paused_place_waits_although_there_are_records():
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    log = MemoryLog(TOPICS, sleep=sleep)
    log.append(CALLS, [(b"k", b"1")])
    member, _ = await member_of(log, "rater")
    await a_while()
    member.seek(CALLS, 0)
    assert await member.fetch([CALLS], 100, 7.0) == {}
    assert waited == [7.0]


@in_loop
async def test_a_fetch_waits_by_the_clock_that_it_is_given():
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    log = MemoryLog(TOPICS, sleep=sleep)
    member, _ = await member_of(log, "rater")
    assert await member.fetch([CALLS], 100, 3_600.0) == {}
    assert waited == [3_600.0]


@in_loop
async def test_records_carry_the_time_of_the_clock():
    log = MemoryLog(TOPICS, clock=lambda: 1_234)
    log.append(CALLS, [(b"k", b"1")])
    blocks, _ = await (await log.open_reader()).read(CALLS, 0)
    assert [block.timestamp_ms for block in blocks] == [1_234]


# ------------------------------------------------------------------------------------------------ groups


async def member_of(log: MemoryLog, group: str, instance_id: str | None = None) -> tuple[MemoryMember, list[str]]:
    said: list[str] = []

    async def assigned(numbers: frozenset[int]) -> None:
        said.append("+" + "".join(map(str, sorted(numbers))))

    async def revoked(numbers: frozenset[int]) -> None:
        said.append("-" + "".join(map(str, sorted(numbers))))

    return await log.join(group, ["calls"], instance_id, assigned, revoked), said


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0)


async def a_while() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


@in_loop
async def test_ranges_are_consecutive_and_the_first_members_get_one_more():
    log = MemoryLog(TOPICS)
    said = [(await member_of(log, "rater"))[1] for _ in range(3)]
    await a_while()
    assert [told[-1] for told in said] == ["+01", "+2", "+3"]
    assert log.group("rater").generation == 1


@in_loop
async def test_more_members_than_partitions_leave_some_with_nothing():
    log = MemoryLog(TOPICS)
    said = [(await member_of(log, "rater"))[1] for _ in range(5)]
    await a_while()
    assert [told[-1:] for told in said] == [["+0"], ["+1"], ["+2"], ["+3"], []]


@in_loop
async def test_a_dead_members_partitions_stay_with_it_until_its_session_expires():
    log = MemoryLog(TOPICS)
    (dead, dead_said), (_, said) = await member_of(log, "rater"), await member_of(log, "rater")
    await a_while()
    dead.kill()
    await a_while()
    assert (dead_said, said) == (["+01"], ["+23"])
    with pytest.raises(LogProblem, match="killed"):
        await dead.fetch([CALLS], 1, 0)
    dead.expire_session()
    await a_while()
    assert (dead_said, said) == (["+01"], ["+23", "-23", "+0123"])


@in_loop
async def test_a_rebalance_waits_for_a_dead_member():
    log = MemoryLog(TOPICS)
    dead, _ = await member_of(log, "rater")
    await a_while()
    dead.kill()
    _, said = await member_of(log, "rater")
    await a_while()
    assert said == []
    dead.expire_session()
    await a_while()
    assert said == ["+0123"]


@in_loop
async def test_a_member_that_slept_too_long_goes_on_until_it_hears_of_it():
    log = MemoryLog(TOPICS)
    log.append(CALLS, [(b"k", b"1")])
    (zombie, zombie_said), (_, said) = await member_of(log, "rater"), await member_of(log, "rater")
    await a_while()
    zombie.seek(CALLS, 0)
    zombie.resume([CALLS])
    zombie.expire_session()
    await a_while()
    assert said == ["+23", "-23", "+0123"]
    assert values_of((await zombie.fetch([CALLS], 1, 0))[CALLS]) == [b"1"]
    zombie.wake()
    assert await zombie.fetch([CALLS], 1, 0) == {}
    await a_while()
    assert zombie_said == ["+01", "-01", "+23"]
    assert said == ["+23", "-23", "+0123", "-0123", "+01"]


@in_loop
async def test_a_second_process_with_the_same_instance_id_takes_over_and_the_first_hears_so():
    log = MemoryLog(TOPICS)
    first, said = await member_of(log, "rater", "worker-1")
    await a_while()
    _, second_said = await member_of(log, "rater", "worker-1")
    await a_while()
    assert (said, second_said) == (["+0123"], ["+0123"])
    with pytest.raises(LogProblem, match="another process has joined group rater as instance worker-1"):
        await first.fetch([CALLS], 1, 0)


@in_loop
async def test_an_operator_may_move_or_delete_a_groups_offset():
    log = MemoryLog(TOPICS)
    member, _ = await member_of(log, "rater")
    log.set_offset("rater", CALLS, 5)
    assert await member.committed(CALLS) == 5
    log.set_offset("rater", CALLS, None)
    assert await member.committed(CALLS) is None


# ------------------------------------------------------------------------------------------------ retention


STATE = Place("state", 0)


@in_loop
async def test_compaction_keeps_the_last_record_of_every_key_and_all_offsets():
    log = MemoryLog(TOPICS)
    writer = await log.open_writer("rater-0")
    for k in range(3):
        await writer.begin()
        ((body, count),) = frame_few([(b"a", b"a%d" % k, []), (b"%d" % k, b"once", []), (b"a", b"A%d" % k, [])])
        await writer.write(STATE, body, count)
        await (writer.abort() if k == 2 else writer.commit())
    log.append(STATE, [(b"tail", b"1"), (b"tail", None)])
    await writer.begin()
    await writer.write(STATE, *framed(b"open"))
    log.append(STATE, [(b"a", b"behind")])
    log.compact("state")
    reader = await log.open_reader()
    records, _ = records_from_blocks([*(await reader.read(STATE, 0))[0]], 0)
    found = [(int(records.offsets[k]), records.key(k), records.raw(k)) for k in range(records.count)]
    assert found == [(1, b"0", b"once"), (5, b"1", b"once"), (6, b"a", b"A1"), (13, b"tail", b"")]
    assert await reader.bounds(STATE) == (0, 14)
    assert (await reader.read(STATE, 0))[1] == 14
    await writer.commit()
    assert await visible(log, STATE) == [b"once", b"once", b"A1", b"", b"open", b"behind"]
    log.compact("state")
    assert await visible(log, STATE) == [b"once", b"once", b"", b"open", b"behind"]


@in_loop
async def test_a_log_that_ends_in_an_abort_is_read_to_its_end_after_compaction():
    log = MemoryLog(TOPICS)
    writer = await log.open_writer("rater-0")
    await writer.begin()
    await writer.write(STATE, *framed(b"void"))
    await writer.abort()
    log.compact("state")
    assert await visible(log, STATE) == []
    assert await (await log.open_reader()).read(STATE, 0) == ([], 2)


@in_loop
async def test_retention_moves_the_start_and_a_member_behind_it_hears_so():
    log = MemoryLog(TOPICS)
    log.append(CALLS, [(b"k", b"1"), (b"k", b"2")])
    log.append(CALLS, [(b"k", b"3")])
    log.delete_records(CALLS, 1)
    member, _ = await member_of(log, "rater")
    await a_while()
    member.seek(CALLS, 0)
    member.resume([CALLS])
    with pytest.raises(OffsetGone, match="calls-0: offset 0 is not in the log, which holds 1 to 3"):
        await member.fetch([CALLS], 1, 0)
    log.delete_records(CALLS, 100)
    assert await (await log.open_reader()).bounds(CALLS) == (3, 3)
    member.seek(CALLS, 3)
    assert await member.fetch([CALLS], 1, 0) == {}


@in_loop
async def test_a_fetch_serves_each_place_in_its_turn():
    log = MemoryLog(TOPICS)
    places = [Place("calls", k) for k in range(4)]
    for place in places:
        for _ in range(2):
            log.append(place, [(b"k", b"x" * 500)])
    member, _ = await member_of(log, "rater")
    await a_while()
    for place in places:
        member.seek(place, 0)
    member.resume(places)
    served = [list(await member.fetch(places, 500, 0)) for _ in range(8)]
    assert sorted(place for found in served[:4] for place in found) == places
    assert await member.fetch(places, 500, 0) == {}
