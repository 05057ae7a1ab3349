"""A deck's CSV files -> exact rates with the lines they stand on, and what cannot be read."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rater.core.deck import ALWAYS_FROM_MS, ALWAYS_TO_MS, CLASSES, NUMBER_TYPES, InboundRate, Rate
from rater.core.numbering import country_code
from rater.doors.decks.findings import ERROR, Finding
from rater.doors.decks.profile import EXTRA_COLUMNS, INBOUND_COLUMNS, OUTBOUND_COLUMNS, DeckProfile
from rater.doors.decks.values import (
    BadValue,
    increments_of,
    micros_of,
    nanos_of,
    plain_price,
    prefixes_of,
    seconds_of,
)

PLAIN_STYLE = "plain"


@dataclass(slots=True)
class ReadDeck:
    """What a deck's files hold: rates, the line of each, and whether its class cell was empty."""

    rates: list[Rate] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    unclassed: list[bool] = field(default_factory=list)
    inbound: list[InboundRate] = field(default_factory=list)
    inbound_lines: list[int] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    rows: int = 0

    def sort(self) -> None:
        """By prefix and validity, each rate with its line."""
        order = sorted(range(len(self.rates)), key=self.rates.__getitem__)
        self.rates = [self.rates[k] for k in order]
        self.lines = [self.lines[k] for k in order]
        self.unclassed = [self.unclassed[k] for k in order]


def _rows(profile: DeckProfile, path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of a CSV file, title lines and blank rows left out."""
    with path.open(encoding=profile.encoding, newline="") as stream:
        for _ in range(profile.skip_lines):
            next(stream, None)
        reader = csv.reader(stream, delimiter=profile.delimiter)
        for cells in reader:
            if any(cells):
                yield profile.skip_lines + reader.line_num, cells


def _places(profile: DeckProfile, header: list[str], path: Path, line: int, findings: list[Finding]) -> dict[str, int]:
    """Our column names -> places in a row."""
    if profile.own_layout and profile.columns:
        if not profile.header:
            return {name: int(place) - 1 for name, place in profile.columns.items()}
        titles = {title.strip(): place for place, title in reversed(list(enumerate(header)))}
        for name, title in profile.columns.items():
            if title not in titles:
                found = f"no column '{title}' (for {name})"
                findings.append(Finding(ERROR, "missing_column", str(path), line, found, f"one of {', '.join(titles)}"))
        return {name: titles[str(title)] for name, title in profile.columns.items() if title in titles}
    places: dict[str, int] = {}
    for place, title in enumerate(header):
        name = title.strip()
        if name in places or (name not in OUTBOUND_COLUMNS + EXTRA_COLUMNS and name):
            expected = f"each at most once: {','.join(OUTBOUND_COLUMNS)}"
            findings.append(Finding(ERROR, "unknown_column", str(path), line, f"column '{name}'", expected))
        places.setdefault(name, place)
    places.pop("", None)
    return places


# Prefix, destination and price differ from row to row; the rest seldom does, and is worked out once per combination.
_ORDER = (
    "prefix", "destination", "rate_per_minute", "country", "class", "connection_fee", "minimum_charge", "initial_s", "step_s",
    "valid_from", "valid_to", "increments",
)  # fmt: skip


class _OutboundReader:
    """Turns the rows of one file into rates; the same text is worked out once."""

    def __init__(self, profile: DeckProfile, places: dict[str, int], path: Path, read: ReadDeck) -> None:
        self.profile, self.path, self.read = profile, str(path), read
        self.at = [places.get(name, -1) for name in _ORDER]
        self.code_at = places.get("country_code", -1)
        self.column, self.cell = "", ""  # what is being read, for the finding
        self.terms: dict[tuple[str, ...], tuple[int, ...]] = {}
        self.prices: dict[str, int] = {}
        self.fees: dict[str, int] = {"": 0}
        self.seconds: dict[tuple[str, int], int] = {}
        self.instants: dict[str, int] = {}
        self.countries: dict[str, int] = {"": 0}
        self.plain = profile.prefix_style == PLAIN_STYLE and not profile.several_prefixes and self.code_at < 0

    def wrong(self, line: int, column: str, cell: str, bad: BadValue) -> None:
        shown = f"{column} '{cell[:60]}'"
        self.read.findings.append(Finding(ERROR, bad.rule, self.path, line, shown, bad.expected))

    def price(self, cell: str) -> int:
        if not cell:
            raise BadValue("bad_price", "a price a minute in decimal digits, such as 0.0205")
        known = self.prices[cell] = nanos_of(plain_price(cell, self.profile.currency_sign, self.profile.decimal_mark))
        return known

    def fee(self, cell: str) -> int:
        known = self.fees.get(cell)
        if known is None:
            known = self.fees[cell] = micros_of(
                plain_price(cell, self.profile.currency_sign, self.profile.decimal_mark)
            )
        return known

    def second(self, cell: str, default: int, least: int) -> int:
        if not cell:
            return default
        known = self.seconds.get((cell, least))
        if known is None:
            known = self.seconds[cell, least] = seconds_of(cell.strip(), least)
        return known

    def instant(self, cell: str, default: int) -> int:
        if not cell:
            return default
        known = self.instants.get(cell)
        if known is None:
            known = self.instants[cell] = self.profile.dates.instant(cell)
        return known

    def country(self, cell: str) -> int:
        known = self.countries.get(cell)
        if known is None:
            text = cell.strip()
            if len(text) != 2 or not (text.isascii() and text.isalpha() and text.isupper()):
                raise BadValue("bad_country", "a country code of two capital letters")
            known = self.countries[cell] = country_code(text)
        return known

    def number_class(self, cell: str) -> int:
        text = cell.strip().lower()
        if not text:
            return self.profile.default_class
        if text in self.profile.classes:
            return self.profile.classes[text]
        if text in CLASSES:
            return CLASSES.index(text)
        known = [*CLASSES, *self.profile.classes]
        raise BadValue("bad_class", "one of " + " ".join(known))

    def terms_of(self, cells: tuple[str, ...]) -> tuple[int, ...]:
        """Everything of a row but prefix, destination and price: (from, to, country, class, fee, minimum, initial, step)."""
        country, kind, fee, least, initial, step, start, end, increments = cells
        self.column, self.cell = "country", country
        place = self.country(country)
        self.column, self.cell = "class", kind
        code_of_class = self.number_class(kind)
        self.column, self.cell = "connection_fee", fee
        fee_micros = self.fee(fee)
        self.column, self.cell = "minimum_charge", least
        least_micros = self.fee(least)
        first_s, step_s = self.profile.terms.initial_s, self.profile.terms.step_s
        if increments:
            self.column, self.cell = "increments", increments
            first_s, step_s = increments_of(increments)
        self.column, self.cell = "initial_s", initial
        first_s = self.second(initial, first_s, 0)
        self.column, self.cell = "step_s", step
        step_s = self.second(step, step_s, 1)
        self.column, self.cell = "valid_from", start
        from_ms = self.instant(start, ALWAYS_FROM_MS)
        self.column, self.cell = "valid_to", end
        to_ms = self.instant(end, ALWAYS_TO_MS)
        if to_ms <= from_ms:
            raise BadValue("bad_validity", "an end after valid_from")
        return from_ms, to_ms, place, code_of_class, fee_micros, least_micros, first_s, step_s

    def prefixes(self, prefix: str, cells: list[str]) -> list[str]:
        if self.plain and prefix.isascii() and prefix.isdigit() and len(prefix) <= 15:
            return [prefix]
        code = cells[self.code_at] if 0 <= self.code_at < len(cells) else ""
        return prefixes_of(prefix, self.profile.prefix_style, self.profile.several_prefixes, code)

    def take(self, line: int, cells: list[str]) -> None:
        width = len(cells)
        prefix, destination, price, *others = [cells[at] if 0 <= at < width else "" for at in self.at]
        self.column, self.cell = "prefix", prefix
        try:
            prefixes = self.prefixes(prefix, cells)
            self.column, self.cell = "rate_per_minute", price
            nanos = self.prices.get(price)
            if nanos is None:
                nanos = self.price(price)
            key = tuple(others)
            terms = self.terms.get(key)
            if terms is None:
                terms = self.terms[key] = self.terms_of(key)
        except BadValue as bad:
            self.wrong(line, self.column, self.cell, bad)
            return
        from_ms, to_ms, *rest = terms
        place, code_of_class, fee_micros, least_micros, first_s, step_s = rest
        for digits in prefixes:
            self.read.rates.append(
                Rate(
                    digits,
                    from_ms,
                    to_ms,
                    destination,
                    place,
                    code_of_class,
                    nanos,
                    fee_micros,
                    least_micros,
                    first_s,
                    step_s,
                )
            )
            self.read.lines.append(line)
            self.read.unclassed.append(not others[1])


def read_outbound(profile: DeckProfile, path: Path, read: ReadDeck) -> None:
    """Every row of the outbound file; what cannot be read is a finding."""
    rows = _rows(profile, path)
    header: list[str] = []
    line = 0
    if profile.header or not profile.columns:
        line, header = next(rows, (0, []))
    places = _places(profile, header, path, line, read.findings)
    for name in ("prefix", "rate_per_minute"):
        if name not in places and not (name == "prefix" and "country_code" in places):
            expected = f"a column {name}" + (" in [columns]" if profile.own_layout else "")
            read.findings.append(Finding(ERROR, "missing_column", str(path), line, f"no column {name}", expected))
            return
    width = len(header)
    reader = _OutboundReader(profile, places, path, read)
    for line, cells in rows:
        read.rows += 1
        if width and len(cells) != width and not profile.own_layout:
            expected = f"{width} cells as in the header"
            read.findings.append(Finding(ERROR, "bad_row", str(path), line, f"{len(cells)} cells", expected))
            continue
        reader.take(line, cells)


def _inbound_row(cells: list[str], places: dict[str, int], path: Path, line: int, read: ReadDeck) -> None:
    values = {name: cells[place].strip() if place < len(cells) else "" for name, place in places.items()}
    column = ""
    try:
        column = "number_country"
        country = values[column]
        if len(country) != 2 or not (country.isascii() and country.isalpha() and country.isupper()):
            raise BadValue("bad_country", "a country code of two capital letters")
        column = "number_type"
        if values[column] not in NUMBER_TYPES:
            raise BadValue("bad_number_type", "one of " + " ".join(NUMBER_TYPES))
        column = "origin_country"
        origin = values.get(column, "*") or "*"
        if origin != "*" and (len(origin) != 2 or not (origin.isascii() and origin.isalpha() and origin.isupper())):
            raise BadValue("bad_country", "a country code of two capital letters, or *")
        column = "rate_per_minute"
        nanos = nanos_of(values[column])
        column = "connection_fee"
        fee = micros_of(values.get(column) or "0")
    except BadValue as bad:
        shown = f"{column} '{values.get(column, '')[:60]}'"
        read.findings.append(Finding(ERROR, bad.rule, str(path), line, shown, bad.expected))
        return
    rate = InboundRate(
        country_code(country),
        NUMBER_TYPES.index(values["number_type"]),
        0 if origin == "*" else country_code(origin),
        nanos,
        fee,
    )
    read.inbound.append(rate)
    read.inbound_lines.append(line)


def read_inbound(path: Path, read: ReadDeck) -> None:
    """Every row of `inbound.csv`."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream)
        header = next(reader, [])
        places = {title.strip(): place for place, title in enumerate(header)}
        unknown = [title for title in places if title not in INBOUND_COLUMNS and title]
        missing = [name for name in ("number_country", "number_type", "rate_per_minute") if name not in places]
        if unknown or missing:
            found = f"columns {','.join(header)}"
            read.findings.append(Finding(ERROR, "unknown_column", str(path), 1, found, ",".join(INBOUND_COLUMNS)))
            return
        places.pop("", None)
        seen: dict[tuple[int, int, int], int] = {}
        for cells in reader:
            if not any(cells):
                continue
            before = len(read.inbound)
            _inbound_row(cells, places, path, reader.line_num, read)
            if len(read.inbound) > before:
                key = read.inbound[-1][:3]
                if key in seen:
                    found = f"the same number country, type and origin as line {seen[key]}"
                    expected = "one price for each"
                    read.findings.append(Finding(ERROR, "overlap", str(path), reader.line_num, found, expected))
                seen.setdefault(key, reader.line_num)
