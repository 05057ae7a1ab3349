"""`inbound.csv` -> exact rates: what numbers of ours cost when they are called. It has one layout, ours."""

from pathlib import Path

from rater.core.deck import ANY_ORIGIN, NUMBER_TYPES, InboundRate
from rater.core.numbering import country_code
from rater.doors.decks.findings import ERROR, Finding, as_shown
from rater.doors.decks.profile import INBOUND_COLUMNS
from rater.doors.decks.reading import ReadDeck
from rater.doors.decks.rows import rows_of
from rater.doors.decks.values import BadValue, country_text_of, micros_of, nanos_of

REQUIRED = ("number_country", "number_type", "rate_per_minute")


def _places(header: list[str], path: Path, line: int, findings: list[Finding]) -> dict[str, int]:
    """Column names -> places; empty where the header is not ours."""
    titles = [title.strip() for title in header]
    wrong = [
        ("unknown_column", f"column '{as_shown(title)}'") for title in titles if title and title not in INBOUND_COLUMNS
    ]
    wrong += [("repeated_column", f"column '{name}' twice") for name in INBOUND_COLUMNS if titles.count(name) > 1]
    wrong += [("missing_column", f"no column {name}") for name in REQUIRED if name not in titles]
    expected = "the columns " + ",".join(INBOUND_COLUMNS)
    findings += [Finding(ERROR, rule, str(path), line, found, expected) for rule, found in wrong]
    return {} if wrong else {title: place for place, title in enumerate(titles) if title}


def _rate(values: dict[str, str]) -> InboundRate:
    column = "number_country"
    try:
        country = country_code(country_text_of(values[column]))
        column = "number_type"
        if values[column] not in NUMBER_TYPES:
            raise BadValue("bad_number_type", "one of " + " ".join(NUMBER_TYPES))
        kind = NUMBER_TYPES.index(values[column])
        column = "origin_country"
        text = values.get(column) or "*"
        origin = ANY_ORIGIN if text == "*" else country_code(country_text_of(text, " or *"))
        column = "rate_per_minute"
        nanos = nanos_of(values[column])
        column = "connection_fee"
        return InboundRate(country, kind, origin, nanos, micros_of(values.get(column) or "0"))
    except BadValue as bad:
        bad.cell = f"{column} '{as_shown(values.get(column, ''))}'"
        raise


def read_inbound(path: Path, read: ReadDeck) -> None:
    """Every row of `inbound.csv`; what cannot be read is a finding."""
    rows = rows_of(path)
    line, _, header = next(rows, (0, 0, []))
    places = _places(header, path, line, read.findings)
    if not places:
        return
    seen: dict[tuple[int, int, int], int] = {}
    for line, _, cells in rows:
        if len(cells) != len(header):
            # A decimal comma makes two cells of one price, and the second would be taken for the connection fee.
            expected = f"{len(header)} cells as in the header"
            read.findings.append(Finding(ERROR, "bad_row", str(path), line, f"{len(cells)} cells", expected))
            continue
        try:
            rate = _rate({name: cells[place].strip() for name, place in places.items()})
        except BadValue as bad:
            read.findings.append(Finding(ERROR, bad.rule, str(path), line, bad.cell, bad.expected))
            continue
        read.inbound.append(rate)
        read.inbound_lines.append(line)
        earlier = seen.setdefault(rate[:3], line)
        if earlier != line:
            found = f"the same number country, type and origin as line {earlier}"
            read.findings.append(Finding(ERROR, "overlap", str(path), line, found, "one price for each"))
