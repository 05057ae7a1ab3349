"""A deck's outbound CSV file -> exact rates with the lines they stand on, and what cannot be read."""

from dataclasses import dataclass, field
from pathlib import Path

from rater.core.deck import ALWAYS_FROM_MS, ALWAYS_TO_MS, CLASSES, InboundRate, Rate
from rater.core.numbering import country_code
from rater.doors.decks.findings import ERROR, SENTENCE_SHOWN, WARNING, Finding, as_shown
from rater.doors.decks.profile import EXTRA_COLUMNS, OUTBOUND_COLUMNS, DeckProfile
from rater.doors.decks.rows import rows_of
from rater.doors.decks.values import (
    BadValue,
    country_text_of,
    destination_of,
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


def _title_fault(name: str, title: str, titles: list[str]) -> tuple[str, str, str] | None:
    """(rule, found, expected) where the header does not have this title once."""
    shown = f"column '{as_shown(title)}'"
    if title not in titles:
        return "missing_column", f"no {shown} (for {name})", "one of " + as_shown(", ".join(titles), SENTENCE_SHOWN)
    if titles.count(title) > 1:
        return "repeated_column", f"{shown} {titles.count(title)} times", "one column of that title"
    return None


def _places(profile: DeckProfile, header: list[str], path: Path, line: int, findings: list[Finding]) -> dict[str, int]:
    """Our column names -> places in a row."""
    if not profile.header:
        return {name: int(place) - 1 for name, place in profile.columns.items()}
    titles = [title.strip() for title in header]
    named = {name: str(title) for name, title in profile.columns.items()} or {title: title for title in titles if title}
    places: dict[str, int] = {}
    for name, title in named.items():
        fault = _title_fault(name, title, titles)
        if name not in OUTBOUND_COLUMNS + EXTRA_COLUMNS:
            known = f"columns among {','.join(OUTBOUND_COLUMNS)}, or [columns] in deck.toml"
            fault = ("unknown_column", f"column '{as_shown(name)}'", known)
        if fault:
            rule, found, expected = fault
            findings.append(Finding(ERROR, rule, str(path), line, found, expected))
        if title in titles:
            places[name] = titles.index(title)
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
        shown = f"{column} '{as_shown(cell)}'"
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
            known = self.seconds[cell, least] = seconds_of(cell, least)
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
            known = self.countries[cell] = country_code(country_text_of(cell))
        return known

    def number_class(self, cell: str) -> int:
        text = cell.lower()
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
        country, kind, fee, least, initial, step, start, end, increments = map(str.strip, cells)
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
            self.column, self.cell = "destination", destination
            destination = destination_of(destination)
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
        unclassed = not others[1].strip()
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
            self.read.unclassed.append(unclassed)


def _lacks(profile: DeckProfile, places: dict[str, int]) -> list[str]:
    """The columns without which there is no row, unless deck.toml names them and the file's header has been blamed."""
    needed = {"prefix": {"prefix", "country_code"}, "rate_per_minute": {"rate_per_minute"}}
    return [name for name, any_of in needed.items() if not any_of & (places.keys() | profile.columns.keys())]


def read_outbound(profile: DeckProfile, path: Path, read: ReadDeck) -> None:
    """Every row of the outbound file; what cannot be read is a finding."""
    rows = rows_of(path, profile.encoding, profile.delimiter, profile.skip_lines)
    line, header = 0, list[str]()
    if profile.header:
        line, _, header = next(rows, (0, 0, []))
    before = len(read.findings)
    places = _places(profile, header, path, line, read.findings)
    for name in _lacks(profile, places):
        expected = f"a column {name}" + (" in [columns] of deck.toml" if profile.columns else "")
        read.findings.append(Finding(ERROR, "missing_column", str(path), line, f"no column {name}", expected))
    if len(read.findings) > before:
        return  # each row would repeat it
    reader = _OutboundReader(profile, places, path, read)
    width = len(header)
    for line, last, cells in rows:
        read.rows += 1
        width = width or len(cells)
        # A carrier's row may lack its empty last cells; ours may not. More cells than titles, not empty: a delimiter
        # within a name, and the price is one cell further on.
        if len(cells) != width and (not profile.own_layout or any(cells[width:])):
            expected = f"{width} cells as in the " + ("header" if header else "first row")
            read.findings.append(Finding(ERROR, "bad_row", str(path), line, f"{len(cells)} cells", expected))
            continue
        if last > line:
            found = f"a row that goes on to line {last}"
            expected = "one row on a line; check that no quote has swallowed rows"
            read.findings.append(Finding(WARNING, "row_of_several_lines", str(path), line, found, expected))
        reader.take(line, cells)
