"""Decks written as tables, and decks and lookups told back as plain values, for the tests of the deck room.

44    0.0100                                      prefix, price a minute
447   0.0900  60/1 fee=0.05 min=0.10 country=GB class=mobile from=2026-01-01 to=2026-03-01 name=UK_mobile
"""

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rater.core.deck import (
    ALWAYS_FROM_MS,
    ALWAYS_TO_MS,
    CLASSES,
    DeckSet,
    DeckTerms,
    InboundRate,
    Rate,
    RateDeck,
    build_deck_set,
    country_of_text,
    make_deck,
    text_of_country,
)
from rater.core.instants import instant_text, parse_instant
from rater.core.prefixes import deck_for, longest_prefix

HEADER = "prefix,destination,country,class,rate_per_minute,connection_fee,minimum_charge,initial_s,step_s,valid_from,valid_to"
INBOUND_HEADER = "number_country,number_type,origin_country,rate_per_minute,connection_fee"
STORED = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "rate_decks"
needs_stored_decks = pytest.mark.skipif(
    not STORED.is_dir(), reason="the stored rate decks (../shared/data/rate_decks) are not beside this checkout"
)


# ---------------------------------------------------------------------------------------------- tables into decks


def instant_ms(text: str) -> int:
    """`2026-03-01`, or an instant."""
    found = parse_instant(text if "T" in text else f"{text}T00:00:00Z")
    assert found is not None, text
    return found


def units(text: str, decimals: int) -> int:
    amount = Decimal(text).scaleb(decimals)
    assert amount == int(amount), text
    return int(amount)


def rate_of(line: str) -> Rate:
    prefix, price, *words = line.split()
    said = dict(word.split("=", 1) for word in words if "=" in word)
    initial_s, step_s = next((map(int, word.split("/")) for word in words if re.fullmatch(r"\d+/\d+", word)), (60, 60))
    return Rate(
        prefix=prefix,
        valid_from_ms=instant_ms(said["from"]) if "from" in said else ALWAYS_FROM_MS,
        valid_to_ms=instant_ms(said["to"]) if "to" in said else ALWAYS_TO_MS,
        destination=said.get("name", "").replace("_", " "),
        country=country_of_text(said.get("country", "")),
        number_class=CLASSES.index(said.get("class", "geographic")),
        rate_nanos=units(price, 9),
        connection_fee_micros=units(said.get("fee", "0"), 6),
        minimum_charge_micros=units(said.get("min", "0"), 6),
        initial_s=initial_s,
        step_s=step_s,
    )


def made(table: str, inbound: tuple[InboundRate, ...] = (), **terms: Any) -> RateDeck:
    """The deck a table says."""
    rates = [rate_of(line) for line in table.splitlines() if line.strip()]
    return make_deck(DeckTerms(**{"name": "test", "currency": "USD", **terms}), rates, inbound)


# ---------------------------------------------------------------------------------------------- decks into plain values


def plain(number: int, decimals: int) -> str:
    """20500000, 9 -> 0.0205"""
    text = f"{Decimal(int(number)).scaleb(-decimals):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def text_of(deck: RateDeck | DeckSet, at: int, length: int) -> dict[str, Any]:
    """A fragment of JSON as the object it is part of."""
    fragment: dict[str, Any] = json.loads(b"{" + deck.texts[at : at + length].tobytes() + b"}")
    return fragment


def row_of(deck: RateDeck | DeckSet, row: int) -> dict[str, Any]:
    """One row as the words of a deck; what is at its default is left out."""
    its = deck.rows[row]
    told = text_of(deck, int(its.text_at), int(its.text_length))
    assert told["rate_nanos_per_minute"] == its.rate_nanos
    words = {
        "prefix": told["prefix"],
        "rate": plain(its.rate_nanos, 9),
        "name": told["destination"],
        "country": text_of_country(int(its.country)),
        "class": CLASSES[its.number_class] if its.number_class else "",
        "fee": plain(its.connection_fee_micros, 6) if its.connection_fee_micros else "",
        "min": plain(its.minimum_charge_micros, 6) if its.minimum_charge_micros else "",
        "increments": f"{its.initial_s}/{its.step_s}" if (its.initial_s, its.step_s) != (60, 60) else "",
        "from": instant_text(int(its.valid_from_ms)) if its.valid_from_ms != ALWAYS_FROM_MS else "",
        "to": instant_text(int(its.valid_to_ms)) if its.valid_to_ms != ALWAYS_TO_MS else "",
    }
    return {word: value for word, value in words.items() if value}


def rows_of(deck: RateDeck) -> list[dict[str, Any]]:
    return [row_of(deck, row) for row in range(deck.rows.size)]


def prices_of(deck: RateDeck) -> dict[str, str]:
    """prefix -> price, for decks with one row a prefix."""
    rows = rows_of(deck)
    prices = {row["prefix"]: row["rate"] for row in rows}
    assert len(prices) == len(rows)
    return prices


# ---------------------------------------------------------------------------------------------- lookups


def found_row(decks: DeckSet, digits: str, day: str = "2026-11-03", currency: str = "USD") -> int:
    at_ms = instant_ms(day)
    head = deck_for(decks.heads, int.from_bytes(currency.encode(), "big"), at_ms)
    if head < 0:
        return -1
    buffer = np.frombuffer(f"+{digits};".encode(), np.uint8).copy()
    return int(
        longest_prefix(decks.nodes, decks.rows, decks.heads[head].root, buffer, 1, len(digits) + 1, np.int64(at_ms))
    )


def price(decks: DeckSet | RateDeck, digits: str, day: str = "2026-11-03", currency: str = "USD") -> str | None:
    """What a minute to these digits costs on a day, by the deck of this currency; None where no row is in force."""
    whole = build_deck_set([decks]) if isinstance(decks, RateDeck) else decks
    row = found_row(whole, digits, day, currency)
    return plain(whole.rows[row].rate_nanos, 9) if row >= 0 else None
