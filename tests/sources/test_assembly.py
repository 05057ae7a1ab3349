"""Calls in parts: out of order, twice, over restarts, too late, too many; each once, and no part is lost."""

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rater.sources.assembly import Assembly, Limits, StateRefused
from rater.sources.parts import Part
from rater.sources.record import NotBilled, SourceRecord, Unusable

HOUR_MS = 3_600_000


class Pairs:
    """A call is a start and a stop; `what` of the start may say that it cannot be billed."""

    def is_complete(self, parts: Sequence[Part]) -> bool:
        return {"start", "stop"} <= {part.name for part in parts}

    def lacks(self, parts: Sequence[Part]) -> str:
        return "no stop" if parts[0].name == "start" else "no start"

    def call(self, parts: Sequence[Part]) -> tuple[str, bytes]:
        what = parts[0].facts.get("what")
        if what == "bad":
            raise Unusable("bad_field", "it is bad")
        if what == "leg":
            raise NotBilled("a leg")
        when = b"" if parts[0].at_ms == 0 else b" %d" % parts[0].at_ms
        return f"id-{parts[0].key}", b"call " + b"+".join(part.raw for part in parts) + when


def start(key: str, at_s: int = 0, **facts: Any) -> Part:
    return Part(key, "start", at_s * 1000, f"<{key}".encode(), facts, opens=True)


def stop(key: str, at_s: int = 10, **facts: Any) -> Part:
    return Part(key, "stop", at_s * 1000, f"{key}>".encode(), facts)


def assembly(**limits: Any) -> Assembly:
    return Assembly(Pairs(), Limits(**limits), "pairs")


def run(some: Assembly, parts: Sequence[Part]) -> list[SourceRecord]:
    found = []
    for part in parts:
        found += some.add(part)
    return found


def kinds(records: Sequence[SourceRecord]) -> list[str]:
    return [record.kind for record in records]


def pass_time(some: Assembly, at_s: int) -> None:
    """Enough different stamps for record time to reach `at_s`."""
    for place in range(5):
        some.see((at_s + place) * 1000)


def test_the_parts_of_a_call_become_one_call_in_either_order() -> None:
    [call] = run(assembly(), [start("a"), stop("a")])
    assert (call.canonical, call.parts, call.raw) == (b"call <a+a>", 2, b"<a\na>")
    assert run(assembly(), [stop("a"), start("a")]) == [call]


def test_a_part_delivered_twice_is_a_repeat_before_and_after_the_call() -> None:
    records = run(assembly(), [start("a"), start("a"), stop("a"), stop("a"), start("a")])
    assert kinds(records) == ["repeat", "call", "repeat", "repeat"]
    assert [record.reason for record in records] == [""] * 4


def test_a_late_part_is_a_correction_that_names_the_call_and_never_a_second_call() -> None:
    *_, late = run(assembly(), [start("a"), stop("a"), stop("a", 99)])
    assert (late.canonical, late.kind, late.reason, late.corrects) == (None, "correction", "conflict", "id-a")
    assert late.raw == b"a>"


def test_a_call_without_its_stop_ends_after_its_time_out_in_record_time_with_all_its_parts() -> None:
    some = assembly(close_after_ms=HOUR_MS)
    assert run(some, [start("a", 0)]) == []
    pass_time(some, 3_600)
    assert some.add(start("b", 3_600)) == []
    pass_time(some, 3_601)
    [ended] = some.add(start("c", 3_602))
    assert (ended.kind, ended.reason, ended.raw, ended.canonical) == ("incomplete", "missing_field", b"<a", None)
    assert ended.detail == "an incomplete call: no stop; nothing more came for 3600 s of record time"


def test_what_comes_after_the_time_out_is_flagged_and_all_parts_together_may_be_sent_again() -> None:
    some = assembly(close_after_ms=HOUR_MS)
    run(some, [start("a", 0)])
    pass_time(some, 9_000)
    assert kinds(some.close(9_000_000)) == ["incomplete"]
    assert kinds(run(some, [stop("a")])) == ["correction"]
    records = run(some, [start("a"), stop("a")])
    assert kinds(records) == ["call"]
    assert records[0].canonical == b"call <a+a>"


def test_one_wild_stamp_does_not_move_record_time() -> None:
    some = assembly(close_after_ms=HOUR_MS)
    wild = start("wild", 9_999_999_999)
    assert run(some, [wild, *(start(str(k), k) for k in range(50)), *(stop(str(k), 60 + k) for k in range(50))]) != []
    assert some.open_count == 1


def test_files_that_come_late_and_in_any_order_close_nothing_early() -> None:
    days = [[start(f"{day}", day * 86_400), stop(f"{day}", day * 86_400 + 60)] for day in range(30)]
    random.Random(5).shuffle(days)
    records = run(assembly(close_after_ms=25 * HOUR_MS), [part for day in days for part in day])
    assert kinds(records) == ["call"] * 30


def test_beyond_the_maximum_the_oldest_closes_and_says_so() -> None:
    some = assembly(calls_max=2)
    [ended] = run(some, [start("a"), start("b"), start("c")])
    assert (ended.raw, ended.kind) == (b"<a", "incomplete")
    assert "closed as the oldest: more than 2 open calls" in ended.detail
    assert some.open_count == 2


def test_bytes_are_bounded_as_well() -> None:
    some = assembly(bytes_max=2_000)
    records = run(some, [Part(str(k), "start", k, b"x" * 500, {}) for k in range(10)])
    assert len(records) == 9
    assert some.open_bytes <= 2_000
    [too_large] = run(assembly(call_bytes_max=1_000), [Part("a", str(k), k, b"x", {}) for k in range(2)])
    assert (too_large.reason, too_large.parts) == ("too_large", 2)


def test_parts_that_contradict_each_other_are_rejected_together_and_none_is_chosen() -> None:
    for order in ([start("a"), start("a", 1), stop("a")], [start("a", 1), start("a"), stop("a")]):
        [ended] = run(assembly(), order)
        assert (ended.reason, ended.parts, ended.canonical) == ("conflict", 3, None)


def test_a_call_that_the_family_rejects_keeps_its_parts_and_may_be_sent_again() -> None:
    bad = [start("a", what="bad"), stop("a")]
    some = assembly()
    first, second = run(some, bad + bad)
    assert first == second
    assert (first.reason, first.raw, first.parts) == ("bad_field", b"<a\na>", 2)
    [leg] = run(assembly(), [start("a", what="leg"), stop("a")])
    assert (leg.kind, leg.reason) == ("leg", "")


def test_a_key_that_is_used_again_begins_a_new_call_after_the_end_of_the_old_one() -> None:
    some = assembly()
    old, new = [start("a", 0), stop("a", 10)], [start("a", 20), stop("a", 30)]
    assert kinds(run(some, old + new)) == ["call", "call"]
    assert kinds(run(some, old + new)) == ["repeat"] * 4
    assert kinds(run(some, [start("a", 25)])) == ["correction"]


def test_a_call_may_settle_before_it_is_written_so_that_stragglers_join() -> None:
    some = assembly(settle_ms=60_000)
    assert run(some, [start("a", 0), stop("a", 10)]) == []
    pass_time(some, 100)
    [call] = some.add(start("b", 105))
    assert (call.kind, call.canonical) == ("call", b"call <a+a>")
    assert kinds(some.close()) == ["incomplete"]


def test_the_end_closes_everything_and_nothing_stays() -> None:
    some = assembly()
    run(some, [start("a"), stop("b")])
    assert [record.raw for record in some.close()] == [b"<a", b"b>"]
    assert (some.open_count, some.open_bytes, some.open_parts) == (0, 0, 0)


def test_the_state_survives_a_restart_byte_for_byte() -> None:
    some = assembly()
    run(some, [start("a", what="x\udc80"), start("b", 1), stop("b"), stop("c", 3), start("d"), start("d", 5)])
    state = some.export()
    other = assembly()
    other.restore(state)
    assert other.export() == state
    assert other.open_bytes == some.open_bytes
    rest = [stop("a"), stop("b"), stop("b", 77), start("c"), stop("d")]
    assert run(other, rest) == run(some, rest)


@pytest.mark.parametrize(
    "state", [b"", b"{}", b"[]", b'{"v":2}', b'{"v":1,"source":"pairs","time":[],"open":[1]}', b"\xff"]
)
def test_a_state_that_cannot_be_read_is_refused_and_changes_nothing(state: bytes) -> None:
    some = assembly()
    run(some, [start("a")])
    before = some.export()
    with pytest.raises(StateRefused):
        some.restore(state)
    assert some.export() == before


def test_the_state_of_another_source_is_refused() -> None:
    with pytest.raises(StateRefused, match="written by 'pairs'"):
        Assembly(Pairs(), Limits(), "other").restore(assembly().export())


PARTS = st.lists(
    st.builds(
        lambda is_start, key, at_s: (start if is_start else stop)(key, at_s),
        st.booleans(),
        st.sampled_from("abcd"),
        st.integers(0, 20) | st.integers(0, 10**6),
    ),
    max_size=60,
)


@given(parts=PARTS, cut=st.integers(0, 60), calls_max=st.integers(1, 5), close_s=st.integers(1, 10_000))
def test_every_part_is_answered_for_once_and_a_restart_changes_nothing(
    parts: list[Part], cut: int, calls_max: int, close_s: int
) -> None:
    whole = assembly(calls_max=calls_max, close_after_ms=close_s * 1000)
    records = run(whole, parts)
    assert sum(record.parts for record in records) + whole.open_parts == len(parts)
    assert whole.open_count <= calls_max
    first = assembly(calls_max=calls_max, close_after_ms=close_s * 1000)
    again = run(first, parts[:cut])
    second = assembly(calls_max=calls_max, close_after_ms=close_s * 1000)
    second.restore(first.export())
    again += run(second, parts[cut:])
    assert again == records
    assert second.close() == whole.close()
    assert all(record.canonical is None or record.kind == "call" for record in records)


@given(parts=PARTS)
def test_delivering_everything_again_writes_no_new_call(parts: list[Part]) -> None:
    some = assembly()
    first = [record.canonical for record in [*run(some, parts), *some.close()] if record.canonical]
    again = {record.canonical for record in [*run(some, parts), *some.close()] if record.canonical}
    assert len(first) == len(set(first))
    assert again & set(first) == set()
