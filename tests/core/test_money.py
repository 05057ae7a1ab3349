"""The one rounding, against exact fractions, up to the bounds that keep a product inside 64 bits."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rater.core.money import FEE_MICROS_MAX, RATE_NANOS_MAX, charge_micros
from rater.core.rating import billable_seconds, billed_minutes, paid_part


def exact(rate_nanos: int, seconds: int, fee_micros: int, minimum_micros: int) -> int:
    amount = Fraction(rate_nanos * seconds, 60_000) + fee_micros
    return max(math.floor(amount + Fraction(1, 2)), minimum_micros)


@given(
    st.integers(0, RATE_NANOS_MAX), st.integers(0, 3 * 86_400), st.integers(0, FEE_MICROS_MAX), st.integers(0, 10**12)
)
def test_a_charge_is_the_exact_amount_rounded_half_up_once(rate: int, seconds: int, fee: int, least: int):
    assert charge_micros(rate, seconds, fee, least) == exact(rate, seconds, fee, least)


@pytest.mark.parametrize("half", range(1, 40, 2))
def test_an_exact_half_goes_up(half: int):
    assert charge_micros(30_000 * half, 1, 0, 0) == (half + 1) // 2
    assert charge_micros(30_000 * half - 1, 1, 0, 0) == half // 2


def test_the_largest_charge_stays_in_range():
    largest = charge_micros(RATE_NANOS_MAX, 3 * 86_400, FEE_MICROS_MAX, 0)
    assert largest == exact(RATE_NANOS_MAX, 3 * 86_400, FEE_MICROS_MAX, 0)
    assert 0 < largest < 2**63


@given(st.integers(1, 86_400_000))
def test_minutes_are_started_minutes(billable_ms: int):
    assert billed_minutes(billable_ms) == math.ceil(Fraction(billable_ms, 60_000))


@given(st.integers(1, 86_400_000), st.integers(0, 86_400), st.integers(1, 86_400))
def test_increments_are_the_first_block_and_then_whole_steps(billable_ms: int, initial_s: int, step_s: int):
    seconds = billable_seconds(billable_ms, initial_s, step_s)
    needed = math.ceil(Fraction(billable_ms, 1000))
    assert seconds >= max(needed, initial_s)
    assert (seconds - initial_s) % step_s == 0
    assert seconds - step_s < needed or seconds == initial_s


@given(
    st.integers(1, 86_400_000), st.integers(0, 1_440), st.sampled_from([(60, 60), (60, 1), (30, 6), (1, 1), (0, 60)])
)
def test_a_pool_never_makes_the_rest_dearer(billable_ms: int, pool_minutes: int, increments: tuple[int, int]):
    whole = paid_part(billable_ms, 0, *increments, 20_500_000, 0, 0)
    rest = paid_part(billable_ms, pool_minutes, *increments, 20_500_000, 0, 0)
    assert 0 <= rest <= whole
    if pool_minutes * 60_000 <= billable_ms:
        taken = Fraction(20_500_000 * 60 * pool_minutes, 60_000)
        assert abs(whole - rest - taken) <= 1
