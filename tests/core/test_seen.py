"""The set of ids seen, against a dict: nothing forgotten, nothing invented, however full and however unlucky."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rater.core.seen import NEW, OTHER, SAME, entry_of, place_of, refill, remember, slots_for, verdict
from rater.core.state import State

U8 = np.uint64
words = st.integers(0, 2**64 - 1)
# Few different hashes that crowd into few slots, so that probing is what is tested.
crowded = st.tuples(
    st.sampled_from([0, 1, 2, 1023, 1024, 2**63, 2**64 - 1]), st.sampled_from([0, 1 << 32, 7 << 32, 2**64 - 1]), words
)


class Seen:
    def __init__(self, slots: int) -> None:
        self.slots = np.zeros((slots, 2), U8)
        self.fresh = np.zeros((4 * slots, 2), U8)
        self.tally = np.zeros(2, np.int64)

    def meet(self, high: int, low: int, content: int) -> int:
        first, second = map(U8, entry_of(U8(high), U8(low), U8(content)))
        slot = place_of(self.slots, first, second)
        known = int(verdict(self.slots, slot, second))
        if known == NEW:
            remember(self.slots, self.fresh, self.tally, slot, first, second)
        return known


def expected(known: dict[tuple[int, int], int], high: int, low: int, content: int) -> int:
    """96 bits name an id, 32 its content; the hash 0 stands for an empty slot and counts as 1."""
    name, said = (high or 1, low >> 32), content & 0xFFFFFFFF
    if name not in known:
        known[name] = said
        return NEW
    return SAME if known[name] == said else OTHER


@given(st.lists(crowded, max_size=60))
def test_it_answers_like_a_dict(meetings: list[tuple[int, int, int]]):
    seen, known = Seen(1024), {}
    for high, low, content in meetings:
        assert seen.meet(high, low, content) == expected(known, high, low, content)
    assert seen.tally[0] == len(known)
    assert np.count_nonzero(seen.slots[:, 0]) == len(known)


@pytest.mark.parametrize("seed", range(3))
def test_it_answers_like_a_dict_when_it_is_as_full_as_it_gets(seed: int):
    rng = np.random.default_rng(seed)
    slots = 1024
    ids = rng.integers(0, 2**63, (slots * 13 // 16, 2)).tolist()
    seen, known = Seen(slots), {}
    for high, low in [*ids, *ids, *rng.integers(0, 2**63, (200, 2)).tolist()]:
        if len(known) < slots * 13 // 16 or (high or 1, low >> 32) in known:
            assert seen.meet(high, low, 5) == expected(known, high, low, 5)


@given(st.lists(crowded, max_size=60))
def test_nothing_is_lost_when_it_grows(meetings: list[tuple[int, int, int]]):
    seen, known = Seen(1024), {}
    for meeting in meetings:
        seen.meet(*meeting)
        expected(known, *meeting)
    bigger = Seen(4096)
    refill(bigger.slots, seen.slots, 1024)
    bigger.tally[0] = seen.tally[0]
    for high, low, content in meetings:
        assert bigger.meet(high, low, content) == expected(known, high, low, content)


@given(st.integers(0, 10**7))
def test_there_is_room_for_what_it_is_asked_to_hold(ids: int):
    slots = slots_for(ids)
    assert slots & (slots - 1) == 0
    assert slots * 13 >= ids * 16
    assert slots == 1024 or slots // 2 * 13 < ids * 16


def test_fresh_ids_are_listed_in_the_order_they_came():
    seen = Seen(1024)
    for k in (5, 3, 5, 9):
        seen.meet(k, k << 32, 1)
    assert seen.fresh[: seen.tally[1], 0].tolist() == [5, 3, 9]


def state_of(ids: int) -> State:
    state = State.empty()
    state.restore_seen(np.random.default_rng(4).integers(1, 1 << 62, (ids, 2), np.uint64))
    return state


def remember_all(state: State, ids: np.ndarray) -> None:
    """What the calls of a batch do."""
    for high, low in ids.tolist():
        first, second = U8(high), U8(low)
        remember(state.seen, state.fresh, state.seen_tally, place_of(state.seen, first, second), first, second)


def ids_in(slots: np.ndarray) -> set[tuple[int, int]]:
    return {(high, low) for high, low in slots.tolist() if high}


def test_ids_move_into_the_next_set_batch_by_batch_while_the_last_sixteenth_fills():
    state, batch, moved, begun = state_of(200_000), 500, [0], None
    known = ids_in(state.seen)
    while state.seen.shape[0] == 262_144:
        state.reserve(0, batch)
        if state.next_seen is not None:
            begun = state.next_seen
            moved.append(begun.moved)
        more = np.random.default_rng(len(known)).integers(1, 1 << 62, (batch, 2), np.uint64)
        remember_all(state, more)
        state.committed()
        known |= ids_in(more)
    assert begun is not None
    assert 262_144 * 12 // 16 < state.seen_tally[0] <= 262_144 * 13 // 16 + batch
    assert moved[-1] == 262_144
    assert len(moved) > 12
    assert max(np.diff(moved)) < 262_144 / 4
    assert state.seen is begun.slots
    assert state.next_seen is None
    assert ids_in(state.seen) == known
    assert np.count_nonzero(state.seen[:, 0]) == state.seen_tally[0] == len(known)


def test_ids_of_a_batch_that_makes_room_more_than_once_are_all_there_when_the_set_has_moved():
    """A command makes room again in the middle of a batch, after ids that came before it."""
    state = state_of(770)
    state.reserve(0, 10)
    assert state.next_seen is not None
    state.next_seen.move(state.seen, 1_024)
    more = np.random.default_rng(1).integers(1, 1 << 62, (10, 2), np.uint64)
    remember_all(state, more)
    known = ids_in(state.seen)
    state.reserve(1, 100)
    assert state.next_seen is None
    assert state.seen.shape[0] == 2_048
    assert ids_in(state.seen) == known


@pytest.mark.parametrize("batch", [1, 40, 900, 30_000])
def test_ids_are_all_there_after_the_set_moved_however_large_the_batches(batch: int):
    state = state_of(780)
    known = {tuple(row) for row in state.seen_ids().tolist()}
    for k in range(3_000 // batch + 2):
        state.reserve(0, batch)
        more = np.random.default_rng(1_000 + k).integers(1, 1 << 62, (batch, 2), np.uint64)
        state.add_seen(more)
        known |= {tuple(row) for row in more.tolist()}
    assert {tuple(row) for row in state.seen_ids().tolist()} == known


def test_a_restored_set_forgets_the_one_that_was_begun():
    state = state_of(790)
    state.reserve(0, 10)
    assert state.next_seen is not None
    state.restore_seen(np.array([[7, 8]], np.uint64))
    state.reserve(0, 1)
    assert state.next_seen is None
    assert state.seen_ids().tolist() == [[7, 8]]


def test_memory_that_was_made_ready_is_what_the_ids_move_into():
    state, batch = state_of(148_000), 500
    assert state.seen.shape[0] == 262_144
    assert state.slots_to_make_ready() == 524_288  # the last quarter has begun
    memory = np.zeros((524_288, 2), np.uint64)
    state.make_ready(memory)
    assert state.slots_to_make_ready() == 0
    known = ids_in(state.seen)
    while state.seen.shape[0] == 262_144:
        state.reserve(0, batch)
        more = np.random.default_rng(len(known)).integers(1, 1 << 62, (batch, 2), np.uint64)
        remember_all(state, more)
        state.committed()
        known |= ids_in(more)
    assert state.seen is memory
    assert ids_in(state.seen) == known
    assert state.ready is None
    assert state.slots_to_make_ready() == 0


@pytest.mark.parametrize("ids", [0, 900, 36_000, 147_000])
def test_nobody_is_asked_for_memory_while_the_set_is_small_or_has_room(ids: int):
    assert state_of(ids).slots_to_make_ready() == 0


def test_memory_of_another_size_or_too_late_is_let_go():
    state = state_of(148_000)
    state.make_ready(np.zeros((1_024, 2), np.uint64))
    assert state.ready is None
    state = state_of(200_000)
    state.reserve(0, 500)
    assert state.next_seen is not None
    begun = state.next_seen.slots
    assert state.slots_to_make_ready() == 0
    state.make_ready(np.zeros((524_288, 2), np.uint64))
    assert state.ready is None
    assert state.next_seen.slots is begun


def test_a_restored_set_forgets_the_memory_that_was_made_ready():
    state = state_of(190_000)
    state.make_ready(np.zeros((524_288, 2), np.uint64))
    state.restore_seen(np.array([[7, 8]], np.uint64))
    assert state.ready is None


def test_a_batch_that_is_larger_than_what_was_foreseen_moves_into_a_set_of_its_own_size():
    state = state_of(190_000)
    state.make_ready(np.zeros((524_288, 2), np.uint64))
    known = ids_in(state.seen)
    state.reserve(0, 300_000)
    assert state.seen.shape[0] == 1_048_576
    assert state.ready is None
    assert ids_in(state.seen) == known
