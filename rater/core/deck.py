"""RateDeck: rates as rows with their validity, and several decks as one set of arrays.

Rates are nano-units of the deck's currency a minute, fees and minimum charges micro-units, instants UTC milliseconds,
validity half-open. A deck is immutable and named by the hash of its canonical text, from which it is made whole again: a
state keeps that text, so an audit reads the very deck a call was rated with. Nothing here reads a file or judges a price.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring as _quoted
from typing import Any, NamedTuple

import numpy as np

from rater.core.numbering import country_code, country_text
from rater.core.trie import NODE_WIDTH, build_trie

Array = np.ndarray[Any, Any]

ALWAYS_FROM_MS, ALWAYS_TO_MS = -(1 << 62), 1 << 62
CLASSES = ("geographic", "mobile", "toll_free", "premium", "special")
NUMBER_TYPES = ("user", "service", "toll_free")
ANY_ORIGIN = 0
_INBOUND_BELOW = "inbound"

DECK_ROW = np.dtype(
    [
        ("rate_nanos", np.int64),
        ("connection_fee_micros", np.int64),
        ("minimum_charge_micros", np.int64),
        ("valid_from_ms", np.int64),
        ("valid_to_ms", np.int64),
        ("text_at", np.int64),
        ("text_length", np.int32),
        ("initial_s", np.int32),
        ("step_s", np.int32),
        ("next_row", np.int32),
        ("country", np.int16),
        ("number_class", np.int8),
    ],
    align=True,
)
INBOUND_ROW = np.dtype(
    [("key", np.int64), ("rate_nanos", np.int64), ("connection_fee_micros", np.int64)],
    align=True,
)
DECK_HEAD = np.dtype(
    [
        ("valid_from_ms", np.int64),
        ("text_at", np.int64),
        ("currency", np.int32),
        ("text_length", np.int32),
        ("root", np.int32),
        ("inbound_from", np.int32),
        ("inbound_to", np.int32),
        ("initial_s", np.int32),
        ("step_s", np.int32),
    ],
    align=True,
)


class DeckSet(NamedTuple):
    """Decks as kernels see them. Node 0 is a dummy, so that a child 0 means "none"."""

    heads: Any
    nodes: Any
    rows: Any
    inbound: Any
    texts: Any


class Rate(NamedTuple):
    """One outbound row of a deck, in exact units; rows sort by prefix, then validity, as in the canonical text."""

    prefix: str
    valid_from_ms: int
    valid_to_ms: int
    destination: str
    country: int
    number_class: int
    rate_nanos: int
    connection_fee_micros: int
    minimum_charge_micros: int
    initial_s: int
    step_s: int


class InboundRate(NamedTuple):
    """One inbound row: what a number of ours costs when it is called; origin 0 is any."""

    number_country: int
    number_type: int
    origin_country: int
    rate_nanos: int
    connection_fee_micros: int


@dataclass(frozen=True, slots=True)
class DeckTerms:
    """What holds for a whole deck."""

    name: str
    currency: str
    direction: str = "outbound"
    initial_s: int = 60
    step_s: int = 60
    valid_from_ms: int = ALWAYS_FROM_MS


@dataclass(frozen=True, slots=True)
class RateDeck:
    """One immutable deck: its terms, its version, its canonical text, and its arrays."""

    terms: DeckTerms
    version: str
    canonical: bytes
    rows: Array
    nodes: Array  # the root is node 1
    inbound: Array
    texts: Array

    @property
    def name(self) -> str:
        return self.terms.name

    @property
    def currency(self) -> str:
        return self.terms.currency


def inbound_key(number_country: int, number_type: int, origin_country: int) -> int:
    return number_country << 24 | number_type << 16 | origin_country


def canonical_text(terms: DeckTerms, rates: Sequence[Rate], inbound: Sequence[InboundRate]) -> bytes:
    """One text for one set of prices, however a carrier wrote them down. `rates` and `inbound` come sorted."""
    head = json.dumps(
        [
            "rater deck 1",
            terms.name,
            terms.currency,
            terms.direction,
            terms.initial_s,
            terms.step_s,
            terms.valid_from_ms,
        ],
        ensure_ascii=False,
    )
    lines = [head]
    lines += [
        f"{p}\t{start}\t{end}\t{_quoted(d)}\t{c}\t{k}\t{rate}\t{fee}\t{least}\t{first}\t{step}"
        for p, start, end, d, c, k, rate, fee, least, first, step in rates
    ]
    lines.append(_INBOUND_BELOW)
    lines += ["\t".join(map(str, row)) for row in inbound]
    return "\n".join(lines).encode()


def make_deck(terms: DeckTerms, rates: Iterable[Rate], inbound: Iterable[InboundRate]) -> RateDeck:
    """A deck from rows in any order; rows of one prefix are tried in the order of their validity."""
    ordered = sorted(rates)
    ordered_inbound = sorted(inbound)
    canonical = canonical_text(terms, ordered, ordered_inbound)
    version = hashlib.sha256(canonical).hexdigest()[:16]
    return _with_arrays(terms, version, canonical, ordered, ordered_inbound)


def deck_from_canonical(canonical: bytes) -> RateDeck:
    """The deck whose canonical text this is."""
    text = canonical.decode()
    head_line, _, rest = text.partition("\n")
    kind, name, currency, direction, initial_s, step_s, valid_from_ms = json.loads(head_line)
    if kind != "rater deck 1":
        raise ValueError(f"not the canonical text of a deck: {kind!r}")
    lines = rest.split("\n")
    border = lines.index(_INBOUND_BELOW)
    rates = []
    for line in lines[:border]:
        prefix, start, end, destination, *numbers = line.split("\t")
        rates.append(Rate(prefix, int(start), int(end), json.loads(destination), *map(int, numbers)))
    inbound = [InboundRate(*map(int, line.split("\t"))) for line in lines[border + 1 :]]
    terms = DeckTerms(name, currency, direction, initial_s, step_s, valid_from_ms)
    return make_deck(terms, rates, inbound)


def _with_arrays(
    terms: DeckTerms, version: str, canonical: bytes, rates: Sequence[Rate], inbound: Sequence[InboundRate]
) -> RateDeck:
    head = f'"deck":{_quoted(terms.name)},"deck_version":"{version}"'.encode()
    texts = [head]
    texts += [
        f'"rate_nanos_per_minute":{rate[6]},"prefix":"{rate[0]}","destination":{_quoted(rate[3]) if rate[3] else "null"}'.encode()
        for rate in rates
    ]
    lengths = np.array([len(text) for text in texts], np.int64)
    starts = np.cumsum(lengths) - lengths
    rows = np.zeros(len(rates), DECK_ROW).view(np.recarray)
    nodes = np.zeros((2, NODE_WIDTH), np.int32)
    if rates:
        columns = list(zip(*rates, strict=True))
        for name, column in zip(Rate._fields, columns, strict=True):
            if name in (DECK_ROW.names or ()):
                rows[name] = column
        rows["text_at"], rows["text_length"] = starts[1:], lengths[1:]
        digits = "".join(columns[0]).encode()
        ends = np.cumsum([len(prefix) for prefix in columns[0]])
        nodes, rows["next_row"] = build_trie(np.frombuffer(digits, np.uint8).copy(), ends.astype(np.int64))
    else:
        nodes[:, 10] = -1
    priced = np.zeros(len(inbound), INBOUND_ROW).view(np.recarray)
    for k, row in enumerate(inbound):
        priced[k] = (
            inbound_key(row.number_country, row.number_type, row.origin_country),
            row.rate_nanos,
            row.connection_fee_micros,
        )
    return RateDeck(terms, version, canonical, rows, nodes, priced, np.frombuffer(b"".join(texts), np.uint8).copy())


def build_deck_set(decks: Sequence[RateDeck]) -> DeckSet:
    """Several decks in one set of arrays, places shifted."""
    heads = np.zeros(len(decks), DECK_HEAD).view(np.recarray)
    nodes, rows, inbound, texts = [np.zeros((1, NODE_WIDTH), np.int32)], [], [], []
    node_at, row_at, inbound_at, text_at = 1, 0, 0, 0
    for k, deck in enumerate(decks):
        terms = deck.terms
        head = heads[k]
        head.valid_from_ms = terms.valid_from_ms
        head.currency = int.from_bytes(terms.currency.encode(), "big")
        head.text_at = text_at
        head.text_length = int(deck.rows["text_at"][0] if deck.rows.size else deck.texts.size)
        head.root = node_at
        head.inbound_from, head.inbound_to = inbound_at, inbound_at + deck.inbound.size
        head.initial_s, head.step_s = terms.initial_s, terms.step_s
        shifted = deck.nodes[1:].copy()
        shifted[:, :10] += (shifted[:, :10] != 0) * np.int32(node_at - 1)
        shifted[:, 10] += (shifted[:, 10] >= 0) * np.int32(row_at)
        own = deck.rows.copy()
        own["text_at"] += text_at
        own["next_row"] += (own["next_row"] >= 0) * np.int32(row_at)
        nodes.append(shifted)
        rows.append(own)
        inbound.append(deck.inbound)
        texts.append(deck.texts)
        node_at, row_at = node_at + len(shifted), row_at + own.size
        inbound_at, text_at = inbound_at + deck.inbound.size, text_at + deck.texts.size
    empty_rows, empty_inbound = np.zeros(0, DECK_ROW), np.zeros(0, INBOUND_ROW)
    return DeckSet(
        heads,
        np.concatenate(nodes),
        np.concatenate([empty_rows, *rows]).view(np.recarray),
        np.concatenate([empty_inbound, *inbound]).view(np.recarray),
        np.concatenate([np.zeros(0, np.uint8), *texts]),
    )


def country_of_text(text: str) -> int:
    """`GB` -> its code; an empty text is unknown."""
    return country_code(text) if text else 0


def text_of_country(country: int) -> str:
    return country_text(country) if country else ""
