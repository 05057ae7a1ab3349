"""A deck is one set of prices with one version, made whole again from its canonical text."""

import hashlib
import json
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rater.core.deck import (
    ALWAYS_FROM_MS,
    ALWAYS_TO_MS,
    DeckTerms,
    InboundRate,
    Rate,
    RateDeck,
    build_deck_set,
    deck_from_canonical,
    inbound_key,
    make_deck,
)
from rater.core.numbering import country_code
from tests.deck_tables import made, price, prices_of, rate_of, rows_of, text_of

TABLE = """
    1     0.0205  country=US
    1212  0.0195  name=New_York
    44    0.0100  60/1 fee=0.05 min=0.10 country=GB name=United_Kingdom
    447   0.0900  to=2026-07-01 class=mobile
    447   0.0800  from=2026-07-01 class=mobile
    4490  1.5     30/6 fee=0.25 class=premium
    800   0       class=toll_free
"""
US = country_code("US")
INBOUND = (InboundRate(US, 2, 0, 22_000_000, 10_000), InboundRate(US, 1, US, 5_000_000, 0))


def same_arrays(one: RateDeck, other: RateDeck) -> bool:
    pairs = [
        (one.rows, other.rows),
        (one.nodes, other.nodes),
        (one.inbound, other.inbound),
        (one.texts, other.texts),
    ]
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


# --- rows ------------------------------------------------------------------------------------------------------------


def test_a_row_keeps_each_of_its_terms_exactly() -> None:
    assert rows_of(made(TABLE)) == [
        {"prefix": "1", "rate": "0.0205", "country": "US"},
        {"prefix": "1212", "rate": "0.0195", "name": "New York"},
        {
            "prefix": "44", "rate": "0.01", "name": "United Kingdom", "country": "GB", "fee": "0.05", "min": "0.1", "increments": "60/1",
        },
        {"prefix": "447", "rate": "0.09", "class": "mobile", "to": "2026-07-01T00:00:00.000Z"},
        {"prefix": "447", "rate": "0.08", "class": "mobile", "from": "2026-07-01T00:00:00.000Z"},
        {"prefix": "4490", "rate": "1.5", "class": "premium", "fee": "0.25", "increments": "30/6"},
        {"prefix": "800", "rate": "0", "class": "toll_free"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name", ["Côte d'Ivoire", 'The "best" one', "back\\slash", "a\tb", "東京", "\u2028", "emoji 📞"]
)
def test_the_name_of_a_destination_may_be_any_text_and_comes_out_as_json(name: str) -> None:
    deck = make_deck(DeckTerms('d"1', "USD"), [rate_of("44  0.01")._replace(destination=name)], [])
    assert rows_of(deck)[0]["name"] == name
    assert text_of(deck, 0, int(deck.rows[0].text_at)) == {"deck": 'd"1', "deck_version": deck.version}
    assert rows_of(deck_from_canonical(deck.canonical))[0]["name"] == name


def test_a_row_without_a_name_says_null() -> None:
    deck = made("44  0.01")
    row = deck.rows[0]
    told = text_of(deck, int(row.text_at), int(row.text_length))
    assert told == {"rate_nanos_per_minute": 10_000_000, "prefix": "44", "destination": None}


def test_the_finest_and_the_highest_price_are_kept_to_the_last_digit() -> None:
    assert prices_of(made("1  0.000000001\n2  9999.999999999")) == {"1": "0.000000001", "2": "9999.999999999"}


# --- canonical text and version --------------------------------------------------------------------------------------


def test_a_deck_is_made_whole_again_from_its_canonical_text() -> None:
    deck = made(TABLE, INBOUND, direction="both", initial_s=30, step_s=6, valid_from_ms=1_000)
    again = deck_from_canonical(deck.canonical)
    assert (again.terms, again.version, again.canonical) == (deck.terms, deck.version, deck.canonical)
    assert same_arrays(deck, again)


def test_the_order_of_the_rows_does_not_matter() -> None:
    lines = TABLE.strip().splitlines()
    deck, other = made(TABLE, INBOUND), made("\n".join(reversed(lines)), INBOUND[::-1])
    assert deck.version == other.version
    assert same_arrays(deck, other)


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("price", "44  0.010000001"),
        ("prefix", "45  0.01"),
        ("name", "44  0.01  name=UK"),
        ("country", "44  0.01  country=GB"),
        ("class", "44  0.01  class=mobile"),
        ("fee", "44  0.01  fee=0.000001"),
        ("minimum", "44  0.01  min=0.000001"),
        ("initial", "44  0.01  59/60"),
        ("step", "44  0.01  60/59"),
        ("start", "44  0.01  from=2026-01-01"),
        ("end", "44  0.01  to=2026-01-01"),
        ("another row", "44  0.01\n45  0.01"),
        ("no row", ""),
    ],
)
def test_a_change_of_any_term_of_a_row_is_another_version(what: str, line: str) -> None:
    assert made(line).version != made("44  0.01").version, what


@pytest.mark.parametrize(
    "terms",
    [
        {"name": "other"},
        {"currency": "EUR"},
        {"direction": "both"},
        {"initial_s": 1},
        {"step_s": 1},
        {"valid_from_ms": 0},
    ],
)
def test_a_change_of_any_term_of_the_deck_is_another_version(terms: dict[str, object]) -> None:
    assert made("44  0.01", **terms).version != made("44  0.01").version


@pytest.mark.parametrize("field", InboundRate._fields)
def test_a_change_of_any_inbound_term_is_another_version(field: str) -> None:
    rate = INBOUND[0]
    assert (
        made("1  0.01", (rate,)).version
        != made("1  0.01", (rate._replace(**{field: getattr(rate, field) + 1}),)).version
    )
    assert made("1  0.01", (rate,)).version != made("1  0.01").version


def test_the_version_is_the_hash_of_a_text_that_says_every_term_in_whole_numbers() -> None:
    deck = made("44  0.0100  60/1 fee=0.05 name=UK country=GB", INBOUND)
    head, row, border, *inbound = deck.canonical.decode().split("\n")
    assert json.loads(head) == ["rater deck 1", "test", "USD", "outbound", 60, 60, ALWAYS_FROM_MS]
    assert row.split("\t") == ["44", str(ALWAYS_FROM_MS), str(ALWAYS_TO_MS), '"UK"', "18242", "0", "10000000", "50000", "0", "60", "1"]  # fmt: skip
    assert (border, inbound) == ("inbound", [f"{US}\t1\t{US}\t5000000\t0", f"{US}\t2\t0\t22000000\t10000"])
    assert deck.version == hashlib.sha256(deck.canonical).hexdigest()[:16]


def test_a_text_that_is_no_deck_is_refused() -> None:
    with pytest.raises(ValueError, match="not the canonical text of a deck: 'rater deck 2'"):
        deck_from_canonical(made("44  0.01").canonical.replace(b"deck 1", b"deck 2"))


any_rates = st.builds(
    Rate,
    prefix=st.text("0123456789", min_size=1, max_size=15),
    valid_from_ms=st.integers(ALWAYS_FROM_MS, 0),
    valid_to_ms=st.integers(1, ALWAYS_TO_MS),
    destination=st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    country=st.sampled_from([0, US]),
    number_class=st.integers(0, 4),
    rate_nanos=st.integers(0, 10**13),
    connection_fee_micros=st.integers(0, 10**12),
    minimum_charge_micros=st.integers(0, 10**12),
    initial_s=st.integers(0, 86_400),
    step_s=st.integers(1, 86_400),
)
any_inbound = st.builds(
    InboundRate,
    st.sampled_from([US, country_code("GB")]),
    st.integers(0, 2),
    st.sampled_from([0, US]),
    st.integers(0, 10**13),
    st.integers(0, 10**12),
)


@given(st.lists(any_rates, max_size=12), st.lists(any_inbound, max_size=6), st.randoms())
@settings(max_examples=100, deadline=None)
def test_any_deck_is_made_whole_again_and_does_not_depend_on_the_order_of_its_rows(
    rates: list[Rate], inbound: list[InboundRate], chance: Random
) -> None:
    terms = DeckTerms("any", "USD")
    deck = make_deck(terms, rates, inbound)
    again = deck_from_canonical(deck.canonical)
    assert (again.version, again.canonical) == (deck.version, deck.canonical)
    assert same_arrays(deck, again)
    chance.shuffle(rates)
    chance.shuffle(inbound)
    shuffled = make_deck(terms, rates, inbound)
    assert shuffled.version == deck.version
    assert same_arrays(deck, shuffled)


# --- sets of decks ---------------------------------------------------------------------------------------------------


def test_each_deck_of_a_set_keeps_its_name_its_terms_and_its_texts() -> None:
    decks = [
        made(TABLE, INBOUND, name="one", initial_s=30, step_s=6),
        made("", INBOUND[:1], name="inbound only", currency="EUR", direction="inbound"),
        made(
            "44  0.03  name=UK to=2027-01-01\n44  0.04  name=UK from=2027-01-01",
            name="three",
            currency="GBP",
            valid_from_ms=5,
        ),
    ]
    whole = build_deck_set(decks)
    for head, deck in zip(whole.heads, decks, strict=True):
        named = text_of(whole, int(head.text_at), int(head.text_length))
        assert named == {"deck": deck.name, "deck_version": deck.version}
        assert int(head.currency).to_bytes(3, "big").decode() == deck.currency
        assert (head.initial_s, head.step_s, head.valid_from_ms) == (
            deck.terms.initial_s,
            deck.terms.step_s,
            deck.terms.valid_from_ms,
        )
        assert np.array_equal(whole.inbound[head.inbound_from : head.inbound_to], deck.inbound)
    chained = [(row, int(after)) for row, after in enumerate(whole.rows.next_row) if after >= 0]
    assert chained == [(3, 4), (7, 8)]
    assert price(whole, "447700900123", "2026-06-30") == "0.09"
    assert price(whole, "447700900123", "2026-07-01") == "0.08"
    assert price(whole, "447700900123", currency="EUR") is None
    assert price(whole, "447700900123", currency="GBP") == "0.03"
    assert text_of(whole, int(whole.rows[-1].text_at), int(whole.rows[-1].text_length))["destination"] == "UK"


def test_a_deck_is_not_changed_by_the_sets_it_is_part_of() -> None:
    deck = made(TABLE, INBOUND)
    before = replace(deck, rows=deck.rows.copy(), nodes=deck.nodes.copy())
    build_deck_set([made("1  0.01", currency="EUR"), deck, deck])
    assert same_arrays(before, deck)


def test_inbound_rows_stand_in_the_order_of_their_keys() -> None:
    deck = made("1  0.01", INBOUND[::-1])
    assert list(deck.inbound.key) == [inbound_key(US, 1, US), inbound_key(US, 2, 0)]
