"""What is wrong with a deck as a whole (errors, which refuse it) and what is only odd (warnings, which do not)."""

from typing import Any

import numpy as np

from rater.core.compiled import kernel
from rater.core.deck import Rate, RateDeck
from rater.core.numbering import (
    class_of,
    country_of,
    country_text,
    is_placeless,
    load_numbering,
)
from rater.core.prefixes import parent_rows
from rater.doors.decks.findings import ERROR, WARNING, Finding
from rater.doors.decks.reading import ReadDeck

Array = np.ndarray[Any, Any]

DEAR_TIMES = 50
EQUAL_FEE_SHARE = 0.9
NANOS_PER_MICRO = 1_000

# Country calling codes of two digits (ITU-T E.164); 1 and 7 have one digit, all others three.
TWO_DIGIT_CODES = frozenset(
    "20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65 66 81 82 84 86 90 91 "
    "92 93 94 95 98".split()
)


def calling_code(prefix: str) -> str:
    """The country calling code that a prefix begins with (or, for a shorter prefix, the prefix)."""
    if prefix[0] in "17":
        return prefix[0]
    return prefix[:2] if prefix[:2] in TWO_DIGIT_CODES else prefix[:3]


@kernel
def look_up_all(
    nodes: Any, country: Any, number_class: Any, digits: Any, ends: Any, countries: Any, classes: Any, placeless: Any
) -> None:
    """Country, class and placelessness of every prefix laid end to end."""
    start = 0
    for k in range(ends.size):
        countries[k] = country_of(nodes, country, digits, start, ends[k])
        classes[k] = class_of(nodes, number_class, digits, start, ends[k])
        placeless[k] = is_placeless(nodes, country, digits, start, ends[k])
        start = ends[k]


class _Deck:
    """The rates of a deck as columns, for the checks."""

    def __init__(self, read: ReadDeck, file: str) -> None:
        self.read, self.file = read, file
        self.rates: list[Rate] = read.rates
        self.digits = np.frombuffer("".join(rate[0] for rate in read.rates).encode(), np.uint8).copy()
        self.ends = np.cumsum([len(rate[0]) for rate in read.rates]).astype(np.int64)
        self.rate_nanos = np.array([rate.rate_nanos for rate in read.rates], np.int64)

    def finding(self, level: str, rule: str, place: Any, found: str, expected: str) -> Finding:
        return Finding(level, rule, self.file, self.read.lines[place], found, expected)


def _ceiling(deck: _Deck, ceiling_nanos: int) -> list[Finding]:
    return [
        deck.finding(
            ERROR, "above_ceiling", place, f"{_price(int(deck.rate_nanos[place]))} a minute for prefix {deck.rates[place].prefix}",
            f"at most {_price(ceiling_nanos)} a minute (price_ceiling_per_minute; a lost decimal point?)",
        )
        for place in np.flatnonzero(deck.rate_nanos > ceiling_nanos)
    ]  # fmt: skip


def _price(nanos: int) -> str:
    whole, fraction = divmod(nanos, 10**9)
    return f"{whole}.{fraction:09d}".rstrip("0").rstrip(".")


def _overlaps(deck: _Deck) -> list[Finding]:
    """Rows of one prefix in force at one instant: an error where what a call costs or counts as differs, else a repetition."""
    findings = []
    reach = 0  # among the rows of this prefix so far, the one in force longest
    for place in range(1, len(deck.rates)):
        earlier, later = deck.rates[reach], deck.rates[place]
        if later[0] != earlier[0]:
            reach = place
            continue
        if later.valid_from_ms < earlier.valid_to_ms:
            alike = earlier[4:] == later[4:]
            found = f"prefix {later.prefix} is in force together with line {deck.read.lines[reach]}"
            found += (
                ", at the same price"
                if alike
                else ", at another price"
                if earlier[6:] != later[6:]
                else ", in another country or class"
            )
            level, rule = (WARNING, "repeated_row") if alike else (ERROR, "overlap")
            findings.append(deck.finding(level, rule, place, found, "one price for a prefix at any instant"))
        if later.valid_to_ms > earlier.valid_to_ms:
            reach = place
    return findings


def _numbering(deck: _Deck) -> list[Finding]:
    """Rows that contradict our numbering table: odd, because the deck decides the price and the table the country."""
    table = load_numbering()
    count = len(deck.rates)
    countries, classes = np.zeros(count, np.int64), np.zeros(count, np.int64)
    placeless = np.zeros(count, np.bool_)
    look_up_all(table.nodes, table.country, table.number_class, deck.digits, deck.ends, countries, classes, placeless)
    stated = np.array([rate.country for rate in deck.rates], np.int64)
    findings = []
    for place in np.flatnonzero((stated != 0) & (stated != countries) & ~placeless):
        found = f"country {country_text(int(stated[place]))} for prefix {deck.rates[place].prefix}"
        ours = country_text(int(countries[place])) if countries[place] else "no country"
        findings.append(deck.finding(WARNING, "other_country", int(place), found, f"{ours}, by the numbering table"))
    unclassed = np.array(deck.read.unclassed, np.bool_)
    own = np.array([rate.number_class for rate in deck.rates], np.int64)
    for place in np.flatnonzero(unclassed & (own == 0) & ((classes == 2) | (classes == 3))):
        kind = "toll_free" if classes[place] == 2 else "premium"
        found = f"no class for prefix {deck.rates[place].prefix}"
        findings.append(deck.finding(WARNING, "class_missing", int(place), found, f"{kind}, by the numbering table"))
    return findings


def _dear_under_cheap(deck: _Deck, made: RateDeck) -> list[Finding]:
    """More than 50 times the price of the next shorter prefix: often a lost decimal point, often a true price."""
    parents = np.full(len(deck.rates), -1, np.int64)
    parent_rows(made.nodes, deck.digits, deck.ends, parents)
    rates = made.rows["rate_nanos"]
    dear = (parents >= 0) & (rates > DEAR_TIMES * rates[parents]) & (rates[parents] > 0)
    return [
        deck.finding(
            WARNING, "dear_under_cheap", row,
            f"{_price(int(rates[row]))} a minute for prefix {deck.rates[row].prefix}, "
            f"{int(rates[row] // rates[parents[row]])} times its shorter prefix {deck.rates[parents[row]].prefix}",
            f"at most {DEAR_TIMES} times; check that this is meant",
        )
        for row in np.flatnonzero(dear)
    ]  # fmt: skip


def _roots(deck: _Deck) -> list[Finding]:
    """Calling codes that have rows but no row for the bare code: numbers can fall between the rows."""
    first: dict[str, int] = {}
    prefixes = set()
    for place, rate in enumerate(deck.rates):
        prefixes.add(rate.prefix)
        first.setdefault(calling_code(rate.prefix), place)
    return [
        deck.finding(WARNING, "no_root", place, f"no row for the calling code {code} itself", f"a row with prefix {code}, or calls that match no row are free")
        for code, place in first.items()
        if not any(code.startswith(prefix) for prefix in (code[:k] for k in range(1, len(code) + 1)) if prefix in prefixes)
    ]  # fmt: skip


def _equal_fees(deck: _Deck) -> list[Finding]:
    with_fee = [rate for rate in deck.rates if rate.connection_fee_micros]
    equal = sum(rate.connection_fee_micros * NANOS_PER_MICRO == rate.rate_nanos for rate in with_fee)
    if not deck.rates or equal <= EQUAL_FEE_SHARE * len(deck.rates):
        return []
    found = f"the connection fee equals the price a minute in {equal} of {len(deck.rates)} rows"
    return [Finding(WARNING, "fee_equals_rate", deck.file, 0, found, "a fee of its own; two columns may be mixed up")]


def lint_inbound(read: ReadDeck, ceiling_nanos: int, file: str) -> list[Finding]:
    """The ceiling holds in both directions."""
    return [
        Finding(
            ERROR, "above_ceiling", file, line, f"{_price(rate.rate_nanos)} a minute",
            f"at most {_price(ceiling_nanos)} a minute (price_ceiling_per_minute; a lost decimal point?)",
        )
        for rate, line in zip(read.inbound, read.inbound_lines, strict=True)
        if rate.rate_nanos > ceiling_nanos
    ]  # fmt: skip


def lint_rates(read: ReadDeck, made: RateDeck, ceiling_nanos: int, file: str) -> list[Finding]:
    """Every finding about rows that could be read."""
    if not read.rates:
        return []
    deck = _Deck(read, file)
    findings = [
        *_ceiling(deck, ceiling_nanos),
        *_overlaps(deck),
        *_numbering(deck),
        *_dear_under_cheap(deck, made),
        *_roots(deck),
        *_equal_fees(deck),
    ]
    return sorted(findings, key=lambda finding: finding.line)
