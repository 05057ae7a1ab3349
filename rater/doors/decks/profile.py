"""`deck.toml`: what a deck is called, its terms, and where a carrier's own CSV keeps what we need.

A key we do not know is an error: a typing mistake must not be silent.
"""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from rater.core.deck import ALWAYS_FROM_MS, CLASSES, DeckTerms
from rater.core.instants import parse_instant
from rater.doors.decks.findings import ERROR, Finding
from rater.doors.decks.values import BadValue, Dates, nanos_of

FILE = "deck.toml"
OUTBOUND, INBOUND = "outbound.csv", "inbound.csv"

OUTBOUND_COLUMNS = (
    "prefix", "destination", "country", "class", "rate_per_minute", "connection_fee", "minimum_charge", "initial_s",
    "step_s", "valid_from", "valid_to",
)  # fmt: skip
EXTRA_COLUMNS = ("increments", "country_code")  # a carrier's own: "60/6" in one cell, the code apart from the area
INBOUND_COLUMNS = ("number_country", "number_type", "origin_country", "rate_per_minute", "connection_fee")

# How a carrier writes +44: our name and the spellings of it that deck.toml may use.
PREFIX_STYLES = {
    "plain": "plain", "44": "plain", "+": "plus", "+44": "plus", "plus": "plus", "00": "zeros", "0044": "zeros",
    "011": "north", "01144": "north", "regex": "regex", "^44.*": "regex",
}  # fmt: skip
KEYS = {
    "name", "currency", "direction", "price_ceiling_per_minute", "initial_s", "step_s", "valid_from", "file", "delimiter",
    "encoding", "decimal_mark", "prefix_style", "several_prefixes", "date_order", "zone", "skip_lines", "header",
    "currency_sign", "default_class", "columns", "classes",
}  # fmt: skip
DEFAULT_CEILING = "20"


@dataclass(frozen=True, slots=True)
class DeckProfile:
    """A deck's terms and the description of its file."""

    terms: DeckTerms
    ceiling_nanos: int
    file: Path
    own_layout: bool  # a carrier's file, whose columns nobody here named
    columns: dict[str, str | int] = field(default_factory=dict)
    delimiter: str = ","
    encoding: str = "utf-8-sig"
    decimal_mark: str = "."
    prefix_style: str = "plain"
    several_prefixes: bool = False
    dates: Dates = field(default_factory=Dates)
    skip_lines: int = 0
    header: bool = True
    currency_sign: str = ""
    default_class: int = 0
    classes: dict[str, int] = field(default_factory=dict)


class _Reader:
    """Reads typed values out of the table and notes what is wrong with them."""

    def __init__(self, path: Path, table: dict[str, Any]) -> None:
        self.path, self.table = path, table
        self.findings: list[Finding] = []

    def wrong(self, key: str, found: Any, expected: str) -> None:
        self.findings.append(Finding(ERROR, "bad_setting", str(self.path), 0, f"{key} is {found!r}", expected))

    def text(self, key: str, default: str | None, expected: str, allowed: Any = None) -> str:
        value = self.table.get(key, default)
        if not isinstance(value, str) or (allowed is not None and not allowed(value)):
            self.wrong(key, value, expected)
            return default or ""
        return value

    def number(self, key: str, default: int, least: int, most: int) -> int:
        value = self.table.get(key, default)
        if type(value) is not int or not least <= value <= most:
            self.wrong(key, value, f"a whole number from {least} to {most}")
            return default
        return value

    def truth(self, key: str, default: bool) -> bool:
        value = self.table.get(key, default)
        if not isinstance(value, bool):
            self.wrong(key, value, "true or false")
            return default
        return value


def _columns(reader: _Reader, header: bool) -> dict[str, str | int]:
    """Our names -> the carrier's headers, or places counted from 1 where the file has no header."""
    columns = reader.table.get("columns", {})
    known = OUTBOUND_COLUMNS + EXTRA_COLUMNS
    if not isinstance(columns, dict):
        reader.wrong("columns", columns, 'a table such as prefix = "Prefix"')
        return {}
    for name, value in columns.items():
        if name not in known:
            reader.wrong(f"columns.{name}", value, "one of " + " ".join(known))
        elif header and not isinstance(value, str):
            reader.wrong(f"columns.{name}", value, "the text of a column header")
        elif not header and (type(value) is not int or value < 1):
            reader.wrong(f"columns.{name}", value, "the place of a column, counted from 1, as the file has no header")
    return columns


def _classes(reader: _Reader) -> dict[str, int]:
    classes = reader.table.get("classes", {})
    codes: dict[str, int] = {}
    for word, name in classes.items() if isinstance(classes, dict) else []:
        if name in CLASSES:
            codes[word.strip().lower()] = CLASSES.index(name)
        else:
            reader.wrong(f"classes.{word}", name, "one of " + " ".join(CLASSES))
    return codes


def _zone(reader: _Reader) -> ZoneInfo:
    name = reader.text("zone", "UTC", "a time zone such as Europe/Paris or UTC")
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        reader.wrong("zone", name, "a time zone such as Europe/Paris or UTC")
        return ZoneInfo("UTC")


def _ceiling(reader: _Reader) -> int:
    value = reader.table.get("price_ceiling_per_minute", DEFAULT_CEILING)
    text = value if isinstance(value, str) else repr(value) if isinstance(value, int | float) else ""
    try:
        return nanos_of(text)
    except BadValue:
        reader.wrong("price_ceiling_per_minute", value, 'a price such as "20"')
        return nanos_of(DEFAULT_CEILING)


def _valid_from(reader: _Reader) -> int:
    value = reader.table.get("valid_from")
    if value is None:
        return ALWAYS_FROM_MS
    instant = None
    if isinstance(value, str):
        instant = parse_instant(value if "T" in value else f"{value}T00:00:00Z")
    if instant is None:
        reader.wrong("valid_from", value, 'a date such as "2026-01-01" or an instant such as "2026-01-01T00:00:00Z"')
        return ALWAYS_FROM_MS
    return instant


def _terms(reader: _Reader, folder: Path) -> DeckTerms:
    return DeckTerms(
        reader.text("name", folder.resolve().name, "a name of 1 to 64 printable characters", lambda v: v.isprintable() and 1 <= len(v) <= 64),
        reader.text("currency", None, "a currency code of three capital letters", lambda v: len(v) == 3 and v.isascii() and v.isalpha() and v.isupper()),
        reader.text("direction", "outbound", "outbound, inbound or both", lambda v: v in ("outbound", "inbound", "both", "out", "in")),
        reader.number("initial_s", 60, 0, 86_400),
        reader.number("step_s", 60, 1, 86_400),
        _valid_from(reader),
    )  # fmt: skip


def read_profile(folder: Path) -> tuple[DeckProfile | None, list[Finding]]:
    """The profile of a deck folder; findings say what is wrong with it."""
    path = folder / FILE
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return None, [Finding(ERROR, "no_deck", str(path), 0, "no such file", "a deck.toml in the deck folder")]
    except (OSError, UnicodeDecodeError) as error:
        return None, [Finding(ERROR, "no_deck", str(path), 0, f"cannot be read: {error}", "a text file in UTF-8")]
    except tomllib.TOMLDecodeError as error:
        return None, [Finding(ERROR, "bad_toml", str(path), 0, str(error), "TOML")]
    reader = _Reader(path, table)
    for key in sorted(table.keys() - KEYS):
        reader.wrong(key, table[key], "one of the keys " + " ".join(sorted(KEYS)))
    header = reader.truth("header", True)
    own = "file" in table or "columns" in table
    style = reader.text("prefix_style", "plain", "one of " + " ".join(PREFIX_STYLES), lambda v: v in PREFIX_STYLES)
    file = reader.text("file", OUTBOUND, "the name of a CSV file")
    default_class = reader.text("default_class", "geographic", "one of " + " ".join(CLASSES), lambda v: v in CLASSES)
    profile = DeckProfile(
        _terms(reader, folder),
        _ceiling(reader),
        folder / file,
        own,
        _columns(reader, header) if own else {},
        reader.text("delimiter", ",", "one character", lambda v: len(v) == 1),
        reader.text("encoding", "utf-8-sig", "an encoding such as utf-8 or cp1252", _is_encoding),
        reader.text("decimal_mark", ".", "'.' or ','", lambda v: v in ".,"),
        PREFIX_STYLES.get(style, "plain"),
        reader.truth("several_prefixes", False),
        Dates(reader.text("date_order", "ymd", "ymd, dmy or mdy", lambda v: v in ("ymd", "dmy", "mdy")), _zone(reader)),
        reader.number("skip_lines", 0, 0, 1000),
        header,
        reader.text("currency_sign", "", "the sign before a price"),
        CLASSES.index(default_class) if default_class in CLASSES else 0,
        _classes(reader),
    )
    return profile, reader.findings


def _is_encoding(name: str) -> bool:
    try:
        "x".encode(name)
    except LookupError:
        return False
    return True
