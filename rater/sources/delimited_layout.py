"""What a profile says of a delimited or fixed-width file: its frame, its columns, and which column is which.

Nothing is found out from the file, except the names in a header where the profile says that there is one.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from rater.sources.parties import check_rules
from rater.sources.profile import SourceProfile, Table
from rater.sources.record import DISPOSITIONS
from rater.sources.stamps import EPOCHS, UNITS, read_pattern

ENCODINGS = ("utf-8", "cp1252", "latin-1")
PASSED_OVER = "-"
BY_BILLABLE = "by_billable"
WIDTH_MAX = 4096
ONE = ("call_id", "caller", "called", "reached", "trunk_in", "trunk_out", "billable", "duration", "disposition")
MANY = ("record_id", "start", "answer", "end")


class Settings(NamedTuple):
    """The `[delimited]` table. `fields` maps our words to columns; `only` keeps rows by a column's value."""

    delimiter: str
    quote: str
    escape: str
    widths: tuple[int, ...]
    short_lines: bool
    encoding: str
    header: bool
    skip_lines: int
    ignore: tuple[bytes, ...]
    places: Mapping[str, int]
    width: int | None
    one: Mapping[str, str]
    many: Mapping[str, tuple[str, ...]]
    time_format: str
    never: tuple[str, ...]
    unit: str
    duration_unit: str
    decimal: str
    dispositions: Mapping[str, str]
    only: Mapping[str, frozenset[str]]


def read_settings(profile: SourceProfile) -> Settings:
    table = profile.family_table()
    one, many = read_fields(table.table("fields"))
    places, width, header = read_columns(table)
    widths = read_widths(table, width)
    unit = table.choice("unit", UNITS, "s")
    settings = Settings(
        delimiter=read_delimiter(table, widths),
        quote=table.choice("quote", ('"', "'", ""), '"'),
        escape=table.choice("escape", ("", "\\"), ""),
        widths=widths,
        short_lines=table.flag("short_lines", False),
        encoding=table.choice("encoding", ENCODINGS, "utf-8"),
        header=header,
        skip_lines=table.count("skip_lines", 0, 100, 0),
        ignore=tuple(text.encode() for text in table.texts("ignore", "a list of beginnings of lines") if text),
        places=places,
        width=width,
        one=one,
        many=many,
        time_format=read_time_format(table, profile),
        never=table.texts("never", "a list of stamps that mean never"),
        unit=unit,
        duration_unit=table.choice("duration_unit", UNITS, unit),
        decimal=table.choice("decimal", (".", ","), "."),
        dispositions=read_dispositions(table),
        only=read_only(table.table("only")),
    )
    table.done()
    check(profile, settings)
    return settings


def read_fields(table: Table) -> tuple[Mapping[str, str], Mapping[str, tuple[str, ...]]]:
    one = {name: table.text(name, "the name of a column") for name in ONE if table.has(name)}
    many = {}
    for name in MANY:
        table.asked.add(name)
        if table.has(name):
            value = table.data[name]
            many[name] = (value,) if isinstance(value, str) else table.texts(name, "a column, or a list of columns")
            if not many[name] or not all(many[name]):
                raise table.refuse(name, "a column, or a list of columns")
    table.asked.update(ONE)
    for name in ("record_id", "start"):
        if name not in many:
            raise table.refuse(name, "the columns that name a record for ever" if name == "record_id" else "a column")
    for name in ("caller", "called", "disposition"):
        if name not in one:
            why = "a column, or 'by_billable': answered when time was billed" if name == "disposition" else "a column"
            raise table.refuse(name, why)
    if "billable" not in one and not {"answer", "end"} <= many.keys():
        raise table.refuse("billable", "a column; or answer and end, between which a call is billed")
    if one["disposition"] == BY_BILLABLE and "billable" not in one:
        raise table.refuse("billable", "a column, because disposition = 'by_billable'")
    table.done()
    return MappingProxyType(one), MappingProxyType(many)


def read_columns(table: Table) -> tuple[Mapping[str, int], int | None, bool]:
    """The columns' places, how many there are, and whether the file's first line names them instead."""
    header = table.flag("header", False)
    names = table.texts("columns", "a list of column names, '-' for one to pass over")
    positions = table.table("positions")
    if names and positions.data:
        raise table.refuse("columns", "either columns or [delimited.positions], not both")
    if names:
        used = [name for name in names if name != PASSED_OVER]
        if len(used) != len(set(used)) or not all(used):
            raise table.refuse("columns", "each column once")
        return {name: place for place, name in enumerate(names) if name != PASSED_OVER}, len(names), header
    if positions.data:
        width = table.count("width", 1, WIDTH_MAX, 0)
        places = {name: positions.count(name, 1, width, 0) - 1 for name in positions.data}
        return places, width, header
    if not header:
        raise table.refuse("columns", "a list of names, [delimited.positions] with width, or header = true")
    return {}, None, True


def read_widths(table: Table, count: int | None) -> tuple[int, ...]:
    table.asked.add("widths")
    value = table.data.get("widths", [])
    if not isinstance(value, list) or not all(type(item) is int and 1 <= item <= WIDTH_MAX for item in value):
        raise table.refuse("widths", "a list of widths in characters, for example [10, 16, 1]")
    if value and count is not None and len(value) != count:
        raise table.refuse("widths", f"one width for each of the {count} columns")
    return tuple(value)


def read_delimiter(table: Table, widths: tuple[int, ...]) -> str:
    delimiter = table.text("delimiter", "one character", "" if widths else ",")
    if widths and delimiter:
        raise table.refuse("delimiter", "either widths or a delimiter, not both")
    if not widths and (len(delimiter) != 1 or not delimiter.isascii() or delimiter in "\"'\\\r\n"):
        raise table.refuse("delimiter", "one ASCII character, no quote and no line end")
    return delimiter


def read_time_format(table: Table, profile: SourceProfile) -> str:
    shape = table.text("time_format", "'iso', " + ", ".join(map(repr, EPOCHS)) + ", or a pattern", "iso")
    pattern = None if shape == "iso" or shape in EPOCHS else read_pattern(shape)
    if shape != "iso" and shape not in EPOCHS and pattern is None:
        raise table.refuse(
            "time_format", "'iso', an epoch, or date and time of %Y %y %m %b %d %H %I %p %M %S %f %z, each once"
        )
    if pattern is not None and not pattern.zoned and not profile.zone:
        raise profile.refuse("zone", "nothing", "'UTC' or an IANA zone, because time_format has no %z")
    return shape


def read_dispositions(table: Table) -> Mapping[str, str]:
    inner = table.table("dispositions")
    known = inner.mapping("one of " + ", ".join(sorted(DISPOSITIONS)))
    for name, value in known.items():
        if value not in DISPOSITIONS:
            raise inner.refuse(name, "one of " + ", ".join(sorted(DISPOSITIONS)))
    return known


def read_only(table: Table) -> Mapping[str, frozenset[str]]:
    return MappingProxyType({name: frozenset(table.texts(name, "a list of values")) for name in table.data})


def columns_wanted(profile: SourceProfile, settings: Settings) -> list[tuple[str, str]]:
    wanted = [(column, f"[delimited.fields] {name}") for name, column in settings.one.items() if column != BY_BILLABLE]
    wanted += [(column, f"[delimited.fields] {name}") for name, columns in settings.many.items() for column in columns]
    wanted += [(column, "[delimited.only]") for column in settings.only]
    if not profile.tenants.every:
        wanted.append((profile.tenants.column, "[tenants] column"))
    wanted += [(name, "[users]") for name in (profile.users.column, profile.users.column_in) if name]
    if profile.call_types.column:
        wanted.append((profile.call_types.column, "[call_types] column"))
    return wanted


def columns_missing(places: Mapping[str, int], wanted: list[tuple[str, str]]) -> str:
    return ", ".join(f"{name} (for {why})" for name, why in wanted if name not in places)


def check(profile: SourceProfile, settings: Settings) -> None:
    check_rules(profile, ("column", "trunks", "numbers"))
    by_trunks = profile.call_types.by == "trunks"
    if by_trunks and not {"trunk_in", "trunk_out"} <= settings.one.keys():
        raise profile.refuse("[delimited.fields] trunk_in, trunk_out", "nothing", "columns, because by = 'trunks'")
    if settings.one["disposition"] != BY_BILLABLE and not settings.dispositions:
        raise profile.refuse("[delimited.dispositions]", "nothing", "a disposition for each value, '*' for any other")
    if settings.places:
        lacking = columns_missing(settings.places, columns_wanted(profile, settings))
        if lacking:
            raise profile.refuse("[delimited] columns", "columns without " + lacking, "columns that have these")
