"""`deck.toml`: what a deck is called, its terms, and where a carrier's own CSV keeps what we need.

A key we do not know is an error: a typing mistake must not be silent.
"""

import codecs
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from rater.core.deck import ALWAYS_FROM_MS, CLASSES, DeckTerms
from rater.core.instants import parse_instant
from rater.doors.decks.findings import ERROR, SENTENCE_SHOWN, Finding, as_shown
from rater.doors.decks.values import Dates, nanos_of

FILE = "deck.toml"
OUTBOUND, INBOUND = "outbound.csv", "inbound.csv"
UTF_8 = "utf-8-sig"
COLUMNS_MAX = 10_000

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
INFORMATION = {
    "description",
    "notes",
    "carrier",
    "source",
    "licence",
    "license",
    "version",
}  # for people; nothing reads them
DEFAULT_CEILING = "20"
DIRECTIONS = {"outbound": "outbound", "out": "outbound", "inbound": "inbound", "in": "inbound", "both": "both"}
# Codecs of Python that are no way to write a file of text down, or that let through what is no text (lone surrogates).
NO_TEXT = {"utf-7", "unicode-escape", "raw-unicode-escape", "idna", "punycode", "undefined"}


@dataclass(frozen=True, slots=True)
class DeckProfile:
    """A deck's terms and the description of its file."""

    terms: DeckTerms
    ceiling_nanos: int
    file: Path
    own_layout: bool  # a carrier's file, whose columns nobody here named
    columns: dict[str, str | int] = field(default_factory=dict)
    delimiter: str = ","
    encoding: str = UTF_8
    decimal_mark: str = "."
    prefix_style: str = "plain"
    several_prefixes: bool = False
    dates: Dates = field(default_factory=Dates)
    skip_lines: int = 0
    header: bool = True
    currency_sign: str = ""
    default_class: int = 0
    classes: dict[str, int] = field(default_factory=dict)


def _value_text(value: Any) -> str:
    """A setting as its message shows it."""
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    if value is None:
        return "missing"
    if type(value) is int and value.bit_length() > 128:
        return "a number of very many digits"
    return f"'{as_shown(value)}'" if isinstance(value, str) else as_shown(str(value))


class _Reader:
    """Reads typed values out of the table and notes what is wrong with them."""

    def __init__(self, path: Path, table: dict[str, Any]) -> None:
        self.path, self.table = path, table
        self.findings: list[Finding] = []

    def wrong(self, key: str, found: Any, expected: str) -> None:
        self.findings.append(
            Finding(ERROR, "bad_setting", str(self.path), 0, f"{as_shown(key)} is {_value_text(found)}", expected)
        )

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
    good: dict[str, str | int] = {}
    for name, value in columns.items():
        if name not in known:
            reader.wrong(f"columns.{name}", value, "one of " + " ".join(known))
        elif header and not isinstance(value, str):
            reader.wrong(f"columns.{name}", value, "the text of a column header")
        elif not header and (type(value) is not int or not 1 <= value <= COLUMNS_MAX):
            reader.wrong(f"columns.{name}", value, "the place of a column, counted from 1, as the file has no header")
        else:
            good[name] = value.strip() if isinstance(value, str) else value
    if not header and not columns:
        reader.wrong("header", False, "a table [columns] with the place of each column, as the file has no header")
    return good


def _classes(reader: _Reader) -> dict[str, int]:
    classes = reader.table.get("classes", {})
    codes: dict[str, int] = {}
    if not isinstance(classes, dict):
        reader.wrong("classes", classes, 'a table such as "Mobile" = "mobile"')
        return {}
    for word, name in classes.items():
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
    try:
        return nanos_of(str(value) if isinstance(value, str | int | float) else "")
    except ValueError:  # no price, or an integer of more digits than Python writes
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
        DIRECTIONS[reader.text("direction", "outbound", "outbound, inbound or both", lambda v: v in DIRECTIONS)],
        reader.number("initial_s", 60, 0, 86_400),
        reader.number("step_s", 60, 1, 86_400),
        _valid_from(reader),
    )  # fmt: skip


def read_profile(folder: Path) -> tuple[DeckProfile | None, list[Finding]]:
    """The profile of a deck folder; findings say what is wrong with it."""
    path = folder / FILE
    table = _toml(path)
    if isinstance(table, Finding):
        return None, [table]
    reader = _Reader(path, table)
    for key in sorted(table.keys() - KEYS - INFORMATION):
        reader.wrong(key, table[key], "one of the keys " + " ".join(sorted(KEYS)))
    header = reader.truth("header", True)
    own = "file" in table or "columns" in table or not header
    style = reader.text("prefix_style", "plain", "one of " + " ".join(PREFIX_STYLES), lambda v: v in PREFIX_STYLES)
    file = reader.text("file", OUTBOUND, "the name of a CSV file", lambda v: v and v.isprintable())
    default_class = reader.text("default_class", "geographic", "one of " + " ".join(CLASSES), lambda v: v in CLASSES)
    profile = DeckProfile(
        _terms(reader, folder),
        _ceiling(reader),
        folder / file,
        own,
        _columns(reader, header) if own else {},
        reader.text("delimiter", ",", "one character, such as ';' or a tab", _is_delimiter),
        _encoding(reader.text("encoding", UTF_8, "an encoding such as utf-8 or cp1252", _is_encoding)),
        reader.text("decimal_mark", ".", "'.' or ','", lambda v: v in (".", ",")),
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


def _toml(path: Path) -> dict[str, Any] | Finding:
    """The file as a table, or what is wrong with it."""
    try:
        text = path.read_text(encoding=UTF_8)
    except FileNotFoundError:
        return Finding(ERROR, "no_deck", str(path), 0, "no such file", "a deck.toml in the deck folder")
    except UnicodeDecodeError:
        return Finding(ERROR, "no_deck", str(path), 0, "the file is not UTF-8", "a text file in UTF-8")
    except OSError as error:
        return Finding(ERROR, "no_deck", str(path), 0, f"cannot be read: {error.strerror}", "a readable file")
    try:
        return tomllib.loads(text)
    except RecursionError:  # [[[[[...
        return Finding(ERROR, "bad_toml", str(path), 0, "a value nested too deep", "TOML")
    except ValueError as error:  # no TOML, or an integer of more digits than Python reads
        return Finding(ERROR, "bad_toml", str(path), 0, as_shown(str(error), SENTENCE_SHOWN), "TOML")


def _is_delimiter(text: str) -> bool:
    return text == "\t" or (len(text) == 1 and text.isprintable() and not text.isalnum() and text not in "\"'+-. ")


def _is_encoding(name: str) -> bool:
    try:
        "x".encode(name)
        return codecs.lookup(name).name not in NO_TEXT
    except (LookupError, ValueError):
        return False


def _encoding(name: str) -> str:
    """A spreadsheet begins UTF-8 with a mark of its own; it is never part of the first title."""
    return UTF_8 if codecs.lookup(name).name == "utf-8" else name
