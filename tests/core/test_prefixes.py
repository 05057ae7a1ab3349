"""Digits to a rate row: the longest prefix among the rows in force, on the day of the call."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rater.core.deck import ALWAYS_FROM_MS, ALWAYS_TO_MS, DeckTerms, InboundRate, Rate, build_deck_set, make_deck
from rater.core.numbering import country_code
from rater.core.prefixes import inbound_rate, longest_prefix, parent_rows
from tests.deck_tables import found_row, instant_ms, made, price, row_of

USER, SERVICE, TOLL_FREE = range(3)


# --- the longest prefix ----------------------------------------------------------------------------------------------


def test_the_longest_prefix_wins_even_when_a_shorter_one_is_cheaper() -> None:
    deck = made("""
        44     0.01
        447    0.09
        44770  0.50
    """)
    assert price(deck, "442079460123") == "0.01"
    assert price(deck, "447700900123") == "0.5"
    assert price(deck, "447911123456") == "0.09"


def test_a_number_is_priced_by_its_own_prefix_and_by_nothing_longer_than_itself() -> None:
    deck = made("""
        44770  0.50
        999    0.10
    """)
    assert price(deck, "44770") == "0.5"
    assert price(deck, "4477") is None
    assert price(deck, "999") == "0.1"
    assert price(deck, "") is None


def test_a_number_between_the_rows_has_no_price() -> None:
    deck = made("""
        1212   0.02
        1787   0.03
    """)
    assert price(deck, "12025550123") is None
    assert price(deck, "33199001234") is None


def test_digits_behind_the_number_do_not_count() -> None:
    deck = made("""
        44   0.01
        447  0.09
    """)
    decks = build_deck_set([deck])
    digits = np.frombuffer(b"447", np.uint8).copy()
    root = decks.heads[0].root
    assert decks.rows[longest_prefix(decks.nodes, decks.rows, root, digits, 0, 2, np.int64(0))].rate_nanos == 10_000_000
    assert decks.rows[longest_prefix(decks.nodes, decks.rows, root, digits, 0, 3, np.int64(0))].rate_nanos == 90_000_000
    assert longest_prefix(decks.nodes, decks.rows, root, digits, 1, 3, np.int64(0)) == -1


def test_a_prefix_may_begin_with_any_digit() -> None:
    deck = made("\n".join(f"{digit}  0.0{digit + 1}" for digit in range(9)) + "\n9  0.1")
    assert [price(deck, f"{digit}555") for digit in range(10)] == [f"0.0{digit + 1}" for digit in range(9)] + ["0.1"]


# --- rows in force ---------------------------------------------------------------------------------------------------


CHANGE = """
    44   0.01
    447  0.09  to=2026-07-01
    447  0.08  from=2026-07-01 to=2026-10-01
"""


@pytest.mark.parametrize(
    ("instant", "expected"),
    [
        ("0001-01-01T00:00:00Z", "0.09"),
        ("2026-06-30T23:59:59.999Z", "0.09"),
        ("2026-07-01T00:00:00.000Z", "0.08"),
        ("2026-09-30T23:59:59.999Z", "0.08"),
    ],
)
def test_a_price_change_leaves_no_instant_with_two_prices_or_none(instant: str, expected: str) -> None:
    assert price(made(CHANGE), "447700900123", instant) == expected


def test_where_no_row_of_the_longest_prefix_is_in_force_a_shorter_one_decides() -> None:
    assert price(made(CHANGE), "447700900123", "2026-10-01") == "0.01"
    assert price(made(CHANGE), "447700900123", "9999-12-31T23:59:59.999Z") == "0.01"


def test_a_longer_prefix_that_is_not_yet_in_force_does_not_hide_the_one_below_it() -> None:
    deck = made("""
        4     0.05
        44    0.01  to=2026-01-01
        447   0.09  from=2027-01-01
        4477  0.07
    """)
    assert price(deck, "447911123456") == "0.05"
    assert price(deck, "447711123456") == "0.07"
    assert price(deck, "447911123456", "2027-01-01") == "0.09"


def test_rows_of_one_prefix_are_chained_in_the_order_of_their_validity_whatever_the_order_they_came_in() -> None:
    lines = [f"44  0.{k:02d}  from=20{k}-01-01 to=20{k + 1}-01-01" for k in range(10, 40)]
    deck = made("\n".join(lines[::2] + lines[1::2][::-1]))
    assert [price(deck, "4420", f"20{k}-06-01") for k in range(10, 40)] == [
        f"0.{k:02d}".rstrip("0") for k in range(10, 40)
    ]
    assert price(deck, "4420", "2009-12-31T23:59:59.999Z") is None
    assert price(deck, "4420", "2040-01-01") is None
    assert list(deck.rows.next_row) == [*range(1, 30), -1]


# --- against a slow lookup -------------------------------------------------------------------------------------------


@st.composite
def small_rates(draw: st.DrawFn) -> Rate:
    """Few digits and few instants, so that prefixes nest and rows overlap."""
    start = draw(st.sampled_from([ALWAYS_FROM_MS, 0, 1, 2, 3]))
    end = draw(st.sampled_from([1, 2, 3, 4, ALWAYS_TO_MS]).filter(lambda end: end > start))
    prefix = draw(st.text("0159", min_size=1, max_size=5))
    return Rate(prefix, start, end, "", 0, 0, draw(st.integers(0, 10**13)), 0, 0, 60, 60)


def slow_lookup(rates: list[Rate], digits: str, at_ms: int) -> Rate | None:
    rows: dict[str, list[Rate]] = {}
    for rate in sorted(rates):
        rows.setdefault(rate.prefix, []).append(rate)
    for length in range(len(digits), 0, -1):
        for rate in rows.get(digits[:length], []):
            if rate.valid_from_ms <= at_ms < rate.valid_to_ms:
                return rate
    return None


@given(
    st.lists(small_rates(), max_size=30),
    st.lists(st.tuples(st.text("0159", max_size=8), st.integers(-1, 5)), min_size=1, max_size=20),
    st.lists(small_rates(), max_size=5),
)
@settings(max_examples=150, deadline=None)
def test_the_trie_finds_what_a_slow_lookup_finds(
    rates: list[Rate], calls: list[tuple[str, int]], others: list[Rate]
) -> None:
    # The deck stands behind another one, so that every place in it is shifted.
    decks = build_deck_set([make_deck(DeckTerms("o", "EUR"), others, []), make_deck(DeckTerms("d", "USD"), rates, [])])
    for digits, at_ms in calls:
        buffer = np.frombuffer(digits.encode() or b";", np.uint8).copy()
        row = longest_prefix(decks.nodes, decks.rows, decks.heads[1].root, buffer, 0, len(digits), np.int64(at_ms))
        expected = slow_lookup(rates, digits, at_ms)
        if expected is None:
            assert row == -1
        else:
            found = decks.rows[row]
            assert row_of(decks, int(row))["prefix"] == expected.prefix
            assert (found.valid_from_ms, found.valid_to_ms, found.rate_nanos) == (
                expected.valid_from_ms,
                expected.valid_to_ms,
                expected.rate_nanos,
            )


@given(st.lists(st.text("0159", min_size=1, max_size=5), min_size=1, max_size=40, unique=True))
@settings(max_examples=100, deadline=None)
def test_the_parent_of_a_prefix_is_the_longest_shorter_one(prefixes: list[str]) -> None:
    deck = made("\n".join(f"{prefix}  0.01" for prefix in prefixes))
    ordered = sorted(prefixes)
    parents = np.full(len(ordered), -1, np.int64)
    ends = np.cumsum([len(prefix) for prefix in ordered]).astype(np.int64)
    parent_rows(deck.nodes, np.frombuffer("".join(ordered).encode(), np.uint8).copy(), ends, parents)
    for prefix, parent in zip(ordered, parents, strict=True):
        shorter = [other for other in prefixes if prefix != other and prefix.startswith(other)]
        assert (ordered[parent] if parent >= 0 else None) == max(shorter, key=len, default=None)


# --- several decks ---------------------------------------------------------------------------------------------------


def test_each_currency_has_its_own_deck_and_a_currency_without_one_has_no_price() -> None:
    decks = build_deck_set(
        [made("44  0.01", currency="USD"), made("44  0.02\n447  0.03", currency="EUR"), made("1  0.04", currency="GBP")]
    )
    assert price(decks, "447700900123", currency="USD") == "0.01"
    assert price(decks, "447700900123", currency="EUR") == "0.03"
    assert price(decks, "447700900123", currency="GBP") is None
    assert price(decks, "12125550123", currency="GBP") == "0.04"
    assert price(decks, "447700900123", currency="CHF") is None


@pytest.mark.parametrize(
    ("instant", "expected"),
    [
        ("2025-12-31T23:59:59.999Z", "0.01"),
        ("2026-01-01T00:00:00Z", "0.02"),
        ("2026-06-30T23:59:59.999Z", "0.02"),
        ("2026-07-01T00:00:00Z", "0.03"),
    ],
)
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_of_several_decks_of_one_currency_the_latest_that_is_valid_by_then_decides(
    instant: str, expected: str, order: tuple[int, ...]
) -> None:
    january, july = (instant_ms(day) for day in ("2026-01-01", "2026-07-01"))
    decks = [made("44  0.01"), made("44  0.02", valid_from_ms=january), made("44  0.03", valid_from_ms=july)]
    assert price(build_deck_set([decks[k] for k in order]), "4420", instant) == expected


def test_the_new_deck_replaces_the_old_one_whole_so_a_prefix_it_lacks_has_no_price() -> None:
    new = made("1  0.02", valid_from_ms=instant_ms("2026-01-01"))
    decks = build_deck_set([made("1  0.01\n44  0.05"), new])
    assert price(decks, "4420", "2025-12-31") == "0.05"
    assert price(decks, "4420", "2026-01-01") is None


def test_before_its_first_deck_a_currency_has_no_price() -> None:
    decks = build_deck_set([made("44  0.01", valid_from_ms=instant_ms("2026-01-01"))])
    assert price(decks, "4420", "2025-12-31T23:59:59.999Z") is None
    assert price(decks, "4420", "2026-01-01") == "0.01"


def test_without_any_deck_nothing_has_a_price() -> None:
    assert found_row(build_deck_set([]), "4420") == -1


# --- inbound ---------------------------------------------------------------------------------------------------------

US, CA, GB, DE = map(country_code, ("US", "CA", "GB", "DE"))
INBOUND = (
    InboundRate(US, TOLL_FREE, 0, 22_000_000, 10_000),
    InboundRate(US, TOLL_FREE, CA, 30_000_000, 0),
    InboundRate(US, SERVICE, CA, 5_000_000, 0),
    InboundRate(GB, TOLL_FREE, 0, 60_000_000, 0),
)


@pytest.mark.parametrize(
    ("number_country", "kind", "origin", "expected"),
    [
        (US, TOLL_FREE, CA, 30_000_000),  # its own row
        (US, TOLL_FREE, DE, 22_000_000),  # else any origin
        (US, TOLL_FREE, 0, 22_000_000),  # the caller withheld the number
        (US, SERVICE, CA, 5_000_000),
        (US, SERVICE, DE, None),  # no row for any origin
        (US, SERVICE, 0, None),
        (US, USER, CA, None),
        (GB, TOLL_FREE, GB, 60_000_000),
        (GB, SERVICE, GB, None),
        (CA, TOLL_FREE, CA, None),
    ],
)
def test_an_inbound_call_has_the_price_of_its_exact_origin_else_of_any(
    number_country: int, kind: int, origin: int, expected: int | None
) -> None:
    other = made("1  0.01", (InboundRate(US, TOLL_FREE, DE, 1, 1), InboundRate(CA, TOLL_FREE, 0, 2, 2)), currency="EUR")
    decks = build_deck_set([other, made("1  0.01", INBOUND)])
    head = decks.heads[1]
    row = inbound_rate(decks.inbound, head.inbound_from, head.inbound_to, number_country, kind, origin)
    assert (int(decks.inbound[row].rate_nanos) if row >= 0 else None) == expected


@given(
    st.lists(
        st.builds(
            InboundRate,
            st.sampled_from([US, CA, GB]),
            st.sampled_from([USER, SERVICE, TOLL_FREE]),
            st.sampled_from([0, US, CA, GB, DE]),
            st.integers(0, 10**13),
            st.just(0),
        ),
        max_size=20,
        unique_by=lambda rate: rate[:3],
    )
)
@settings(max_examples=100, deadline=None)
def test_the_search_among_inbound_rows_finds_what_a_dict_finds(rates: list[InboundRate]) -> None:
    prices = {rate[:3]: rate.rate_nanos for rate in rates}
    decks = build_deck_set([made("1  0.01", tuple(rates))])
    for number_country in (US, CA, GB, DE):
        for kind in (USER, SERVICE, TOLL_FREE):
            for origin in (0, US, CA, GB, DE):
                row = inbound_rate(decks.inbound, 0, len(rates), number_country, kind, origin)
                exact, any_origin = (number_country, kind, origin), (number_country, kind, 0)
                expected = prices.get(exact, prices.get(any_origin))
                assert (int(decks.inbound[row].rate_nanos) if row >= 0 else None) == expected
