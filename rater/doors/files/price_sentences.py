"""How a price came about, in sentences: deck, prefix, increments, the product and its one rounding.

The arithmetic is done here a second time, in plain integers; if it does not give the engine's charge, the house
contradicts itself and nothing is told.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd

import orjson

from rater.core.deck import ALWAYS_FROM_MS, ALWAYS_TO_MS, CLASSES, DeckSet
from rater.core.instants import instant_text
from rater.core.reasons import InvariantBroken
from rater.doors.files.amounts import exact, grouped, per_minute, plural

_NANO_SECONDS_PER_MICRO = 60_000


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row of the deck whose prefix the digits begin with."""

    row: int
    prefix: str
    destination: str | None
    rate_nanos: int
    valid_from_ms: int
    valid_to_ms: int

    def in_force(self, at_ms: int) -> bool:
        return self.valid_from_ms <= at_ms < self.valid_to_ms

    def validity(self) -> str:
        start = f"from {instant_text(self.valid_from_ms)}" if self.valid_from_ms > ALWAYS_FROM_MS else ""
        end = f"until {instant_text(self.valid_to_ms)}" if self.valid_to_ms < ALWAYS_TO_MS else ""
        return " ".join(filter(None, ["valid", start, end])) if start or end else "always valid"


@dataclass(frozen=True, slots=True)
class Terms:
    """What a paid part is priced with."""

    currency: str
    rate_nanos: int
    fee_micros: int
    minimum_micros: int
    initial_s: int
    step_s: int


def candidates(decks: DeckSet, head: int, digits: str) -> Iterator[Candidate]:
    """Every row whose prefix the digits begin with, shortest prefix first."""
    node = int(decks.heads[head].root)
    for digit in digits:
        node = int(decks.nodes[node, int(digit)])
        if node == 0:
            return
        row = int(decks.nodes[node, 10])
        while row >= 0:
            found = decks.rows[row]
            start = int(found.text_at)
            text = orjson.loads(b"{" + bytes(decks.texts[start : start + int(found.text_length)]) + b"}")
            window = int(found.valid_from_ms), int(found.valid_to_ms)
            yield Candidate(row, text["prefix"], text["destination"], int(found.rate_nanos), *window)
            row = int(found.next_row)


def prefix_steps(decks: DeckSet, head: int, digits: str, at_ms: int, chosen_row: int, currency: str) -> list[str]:
    """Which prefix, and why none of the others."""
    found = list(candidates(decks, head, digits))
    chosen = next((candidate for candidate in found if candidate.row == chosen_row), None)
    if chosen is None:
        dead = "; ".join(f"{c.prefix} is only {c.validity()}" for c in found)
        return [f"No prefix of {digits} has a rate in force at {instant_text(at_ms)}{': ' + dead if dead else ''}."]
    row = decks.rows[chosen_row]
    named = f" ({chosen.destination})" if chosen.destination else ""
    steps = [
        f"The longest prefix of {digits} in force at the start is {chosen.prefix}{named}: "
        f"{per_minute(chosen.rate_nanos, currency)}, class {CLASSES[int(row.number_class)]}, {chosen.validity()}."
    ]
    others = []
    for other in found:
        if other.row == chosen_row:
            continue
        price = per_minute(other.rate_nanos, currency)
        if not other.in_force(at_ms):
            others.append(f"{other.prefix} at {price} is {other.validity()}, so not at the start of this call")
        elif len(other.prefix) < len(chosen.prefix):
            others.append(f"{other.prefix} at {price} is in force but shorter")
        else:
            others.append(f"{other.prefix} at {price} stands in the deck a second time, alike")
    if others:
        steps.append(f"Not taken: {'; '.join(others)}.")
    return steps


def outbound_terms(decks: DeckSet, row: int, currency: str) -> Terms:
    found = decks.rows[row]
    fee, least = int(found.connection_fee_micros), int(found.minimum_charge_micros)
    return Terms(currency, int(found.rate_nanos), fee, least, int(found.initial_s), int(found.step_s))


def charge_steps(terms: Terms, billable_ms: int, pool_minutes: int, charge_micros: int) -> list[str]:
    """From milliseconds to money."""
    raised = _raised_seconds(terms, billable_ms)
    paid = max(raised - 60 * pool_minutes, 0)
    steps = [_increments(terms, billable_ms, raised)]
    if pool_minutes:
        given = f"{grouped(60 * pool_minutes)} s for the {plural(pool_minutes, 'minute')} that the pool gave"
        steps.append(f"Less {given}: {grouped(paid)} s are left to pay.")
    if terms.fee_micros:
        steps.append(
            f"A part is paid, so the connection fee of {exact(terms.fee_micros, terms.currency)} is due, once."
        )
    units = terms.fee_micros * _NANO_SECONDS_PER_MICRO + terms.rate_nanos * paid
    rounded = (units + _NANO_SECONDS_PER_MICRO // 2) // _NANO_SECONDS_PER_MICRO
    steps.append(_product(terms, paid, units, rounded))
    if terms.minimum_micros:
        least = exact(terms.minimum_micros, terms.currency)
        below = rounded < terms.minimum_micros
        steps.append(f"The row's minimum charge is {least}: {'that is charged' if below else 'reached'}.")
    told = max(rounded, terms.minimum_micros)
    if told != charge_micros:
        raise InvariantBroken(f"explain: the steps give {told} micro-units, the engine {charge_micros}")
    return steps


def _raised_seconds(terms: Terms, billable_ms: int) -> int:
    beyond = max(-(-billable_ms // 1000) - terms.initial_s, 0)
    return terms.initial_s + -(-beyond // terms.step_s) * terms.step_s


def _increments(terms: Terms, billable_ms: int, raised: int) -> str:
    seconds = -(-billable_ms // 1000)
    how = f"the first {terms.initial_s} s whole, then every started {terms.step_s} s"
    measured = f"{grouped(billable_ms)} ms are {grouped(seconds)} started seconds"
    becomes = "which it leaves as they are" if raised == seconds else f"raised to {grouped(raised)} s"
    return f"The rate counts {terms.initial_s}/{terms.step_s}, {how}: {measured}, {becomes}."


def _product(terms: Terms, seconds: int, units: int, rounded: int) -> str:
    """The exact product in millionths, and the one rounding."""
    whole, rest = divmod(units, _NANO_SECONDS_PER_MICRO)
    fee = f"{exact(terms.fee_micros, terms.currency)} + " if terms.fee_micros else ""
    product = f"{fee}{per_minute(terms.rate_nanos, terms.currency)} x {grouped(seconds)} s / 60 s"
    money = exact(rounded, terms.currency)
    if rest == 0:
        return f"{product} = {grouped(whole)} millionths, {money}, exactly: there is nothing to round."
    shared = gcd(rest, _NANO_SECONDS_PER_MICRO)
    fraction = f"{rest // shared}/{_NANO_SECONDS_PER_MICRO // shared}"
    return f"{product} = {grouped(whole)} {fraction} millionths, rounded once, half up, to {grouped(rounded)}: {money}."
