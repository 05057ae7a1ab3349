"""A source profile: what a switch does not write into its records, read from one TOML file.

One format for all families: who the switch is, its zone, whose account codes and users it writes, how it writes
numbers, which calls are which. A family's own settings stand in a table of its name. A key that nobody knows is
refused, because a misspelt one would change bills in silence.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rater.sources.numbers import EMERGENCY_EVERYWHERE, NumberRules, is_digits
from rater.sources.record import CALL_TYPES, E164, TENANT
from rater.sources.times import zone_named

SWITCH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
TARGETS = "a call type of the contract or 'skip'"


def no_entries() -> Mapping[str, str]:
    return MappingProxyType({})


class ProfileRefused(Exception):
    """A profile that cannot be used: which file, which key, what stands there, what should."""

    def __init__(self, file: str, key: str, found: str, expected: str) -> None:
        super().__init__(f"{file}: {key}: found {found}; expected {expected}")
        self.file = file
        self.key = key
        self.found = found
        self.expected = expected


class Table:
    """One table of a profile. Each read names what it expects; `done` refuses what nobody asked for."""

    def __init__(self, file: str, name: str, data: Mapping[str, Any]) -> None:
        self.file = file
        self.name = name
        self.data = data
        self.asked: set[str] = set()

    def key(self, name: str) -> str:
        return f"[{self.name}] {name}" if self.name else name

    def refuse(self, name: str, expected: str) -> ProfileRefused:
        found = repr(self.data[name]) if name in self.data else "nothing"
        return ProfileRefused(self.file, self.key(name), found, expected)

    def has(self, name: str) -> bool:
        return name in self.data

    def text(self, name: str, expected: str, default: str | None = None) -> str:
        self.asked.add(name)
        value = self.data.get(name, default)
        if not isinstance(value, str):
            raise self.refuse(name, expected)
        return value

    def choice(self, name: str, choices: tuple[str, ...], default: str | None = None) -> str:
        expected = "one of " + ", ".join(choices)
        value = self.text(name, expected, default)
        if value not in choices:
            raise self.refuse(name, expected)
        return value

    def flag(self, name: str, default: bool) -> bool:
        self.asked.add(name)
        value = self.data.get(name, default)
        if not isinstance(value, bool):
            raise self.refuse(name, "true or false")
        return value

    def count(self, name: str, lowest: int, highest: int, default: int) -> int:
        self.asked.add(name)
        value = self.data.get(name, default)
        if type(value) is not int or not lowest <= value <= highest:
            raise self.refuse(name, f"a whole number from {lowest} to {highest}")
        return value

    def texts(self, name: str, expected: str) -> tuple[str, ...]:
        self.asked.add(name)
        value = self.data.get(name, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.refuse(name, expected)
        return tuple(value)

    def digits(self, name: str, expected: str) -> tuple[str, ...]:
        """A list of prefixes, the longest first so that it wins."""
        value = self.texts(name, expected)
        if not all(is_digits(item) for item in value):
            raise self.refuse(name, expected)
        return tuple(sorted(value, key=lambda item: (-len(item), item)))

    def table(self, name: str) -> "Table":
        self.asked.add(name)
        value = self.data.get(name, {})
        if not isinstance(value, dict):
            raise self.refuse(name, "a table")
        return Table(self.file, f"{self.name}.{name}" if self.name else name, value)

    def mapping(self, expected: str, pattern: re.Pattern[str] | None = None) -> Mapping[str, str]:
        """The whole table as text -> text."""
        for name, value in self.data.items():
            if not isinstance(value, str) or (pattern and not pattern.fullmatch(value)):
                raise self.refuse(name, expected)
        self.asked.update(self.data)
        return MappingProxyType(dict(self.data))

    def done(self) -> None:
        for name in self.data:
            if name not in self.asked:
                known = ", ".join(sorted(self.asked)) or "no key here"
                raise ProfileRefused(self.file, self.key(name), "a key that is not known", known)


@dataclass(frozen=True, slots=True)
class Tenants:
    """Whose calls these are: one tenant for all, or by a column of the record."""

    every: str = ""
    column: str = ""
    same: bool = False
    default: str = ""
    known: Mapping[str, str] = field(default_factory=no_entries)


@dataclass(frozen=True, slots=True)
class Users:
    column: str = ""
    column_in: str = ""
    unmapped: str = "same"
    known: Mapping[str, str] = field(default_factory=no_entries)


@dataclass(frozen=True, slots=True)
class CallTypes:
    """Which call is which: by a column's value, by trunk, or by the numbers the tenants own."""

    by: str = ""
    column: str = ""
    known: Mapping[str, str] = field(default_factory=no_entries)
    trunks: frozenset[str] = frozenset()
    owned: tuple[str, ...] = ()
    inbound: str = "user_in"
    outbound: str = "user_out"
    internal: str = "skip"
    transit: str = ""


@dataclass(frozen=True, slots=True)
class SourceProfile:
    file: str
    source: str
    switch: str = ""
    zone: str = ""
    tenants: Tenants = field(default_factory=Tenants)
    users: Users = field(default_factory=Users)
    numbers: NumberRules = field(default_factory=NumberRules)
    call_types: CallTypes = field(default_factory=CallTypes)
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def family(self) -> str:
        return family_of(self.source)

    def family_table(self) -> Table:
        return Table(self.file, self.family, self.options)

    def refuse(self, key: str, found: str, expected: str) -> ProfileRefused:
        return ProfileRefused(self.file, key, found, expected)


def family_of(source: str) -> str:
    """asterisk-csv -> asterisk: the table that holds a family's own settings."""
    return source.partition("-")[0]


def read_profile(path: Path, known_sources: tuple[str, ...]) -> SourceProfile:
    """The profile in this file, its common tables checked; the family checks its own table when it is opened."""
    return profile_of(str(path), read_toml(path), known_sources)


def profile_of(file: str, data: Mapping[str, Any], known_sources: tuple[str, ...]) -> SourceProfile:
    """The profile that this TOML document says; `file` is what messages call it."""
    top = Table(file, "", data)
    source = top.choice("source", known_sources)
    family = family_of(source)
    profile = SourceProfile(
        file=file,
        source=source,
        switch=read_switch(top),
        zone=read_zone(top),
        tenants=read_tenants(top),
        users=read_users(top.table("users")),
        numbers=read_numbers(top.table("numbers")),
        call_types=read_call_types(top.table("call_types")),
        options=MappingProxyType(dict(top.table(family).data)),
    )
    top.done()
    return profile


def read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ProfileRefused(str(path), "the file", error.strerror or "an error", "a file that can be read") from None
    except UnicodeDecodeError:
        raise ProfileRefused(str(path), "the file", "bytes that are not UTF-8", "TOML in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ProfileRefused(str(path), "the file", f"a fault in its TOML: {error}", "TOML") from None


def read_switch(top: Table) -> str:
    switch = top.text("switch", "a name", "")
    if switch and not SWITCH.fullmatch(switch):
        raise top.refuse("switch", "up to 64 letters, digits, '.', '_', '-'; it becomes part of every record id")
    return switch


def read_zone(top: Table) -> str:
    expected = "'UTC' or an IANA zone such as 'Europe/London'"
    zone = top.text("zone", expected, "")
    if top.has("zone") and zone_named(zone) is None:
        raise top.refuse("zone", expected)
    return zone


def read_tenants(top: Table) -> Tenants:
    expected = "a tenant: up to 64 letters, digits, '.', '_', '-', a letter or digit first"
    every = top.text("tenant", expected, "")
    table = top.table("tenants")
    default = table.text("default", expected, "")
    for owner, name, value in ((top, "tenant", every), (table, "default", default)):
        if owner.has(name) and not TENANT.fullmatch(value):
            raise owner.refuse(name, expected)
    tenants = Tenants(
        every=every,
        column=table.text("column", "the column that names the account", ""),
        same=table.flag("same", False),
        default=default,
        known=table.table("map").mapping(expected, TENANT),
    )
    table.done()
    if every and table.data:
        raise ProfileRefused(top.file, "[tenants]", "a table beside tenant", "one of the two")
    return tenants


def read_users(table: Table) -> Users:
    users = Users(
        column=table.text("column", "the column that names the user", ""),
        column_in=table.text("column_in", "the column that names the user of an inbound call", ""),
        unmapped=table.choice("unmapped", ("same", "reject"), "same"),
        known=table.table("map").mapping("the name of a user"),
    )
    table.done()
    return users


def read_numbers(table: Table) -> NumberRules:
    country_code = table.text("country_code", "digits, for example '44'", "")
    if table.has("country_code") and not (is_digits(country_code) and 1 <= len(country_code) <= 3):
        raise table.refuse("country_code", "one to three digits, for example '44'")
    national = table.text("national", "digits, for example '0'", "")
    if national and not is_digits(national):
        raise table.refuse("national", "digits, for example '0'")
    bare = table.choice("bare", ("reject", "e164", "national"), "reject")
    if not country_code and (national or bare == "national"):
        raise table.refuse("country_code", "the country of national numbers, for example '44'")
    lengths = read_lengths(table)
    if bare == "national" and not lengths:
        raise table.refuse("national_digits", "lengths, for example [10], because bare = 'national'")
    emergency = table.digits("emergency", "a list of numbers, for example ['112', '999']")
    if not country_code and any(len(digits) < 3 for digits in emergency):
        raise table.refuse("country_code", "the country, because an emergency number of two digits stands behind it")
    rules = NumberRules(
        country_code=country_code,
        national=national,
        national_digits=lengths,
        international=table.digits("international", "a list of prefixes, for example ['00']"),
        access=table.digits("access", "a list of access digits, for example ['9']"),
        bare=bare,
        internal_digits_max=table.count("internal_digits_max", 0, 8, 0),
        emergency=EMERGENCY_EVERYWHERE | frozenset(emergency),
        extensions=table.table("extensions").mapping("a full number: '+' and 3 to 15 digits", E164),
    )
    table.done()
    return rules


def read_lengths(table: Table) -> tuple[int, ...]:
    table.asked.add("national_digits")
    value = table.data.get("national_digits", [])
    if not isinstance(value, list) or not all(type(item) is int and 1 <= item <= 14 for item in value):
        raise table.refuse("national_digits", "a list of lengths, for example [9, 10]")
    return tuple(value)


def read_call_types(table: Table) -> CallTypes:
    known = table.table("map").mapping(TARGETS)
    for value, target in known.items():
        if target not in CALL_TYPES and target != "skip":
            raise ProfileRefused(table.file, f"[call_types.map] {value}", repr(target), TARGETS)
    targets = {name: read_target(table, name, default) for name, default in DIRECTIONS.items()}
    owned = table.texts("owned", "a list of '+' and digits, for example ['+4420794600']")
    if not all(number.startswith("+") and is_digits(number[1:]) for number in owned):
        raise table.refuse("owned", "a list of '+' and digits, for example ['+4420794600']")
    types = CallTypes(
        by=table.choice("by", ("", "dcontext", "column", "trunks", "numbers"), ""),
        column=table.text("column", "the column whose value says which call it is", ""),
        known=known,
        trunks=frozenset(table.texts("trunks", "a list of channel peers, for example ['carrier1']")),
        owned=owned,
        **targets,
    )
    if (types.by == "column") != bool(types.column):
        raise table.refuse("column", "a column with by = 'column', none otherwise")
    table.done()
    return types


DIRECTIONS = {"inbound": "user_in", "outbound": "user_out", "internal": "skip", "transit": ""}


def read_target(table: Table, name: str, default: str) -> str:
    target = table.text(name, TARGETS, default)
    if table.has(name) and target not in CALL_TYPES and target != "skip":
        raise table.refuse(name, TARGETS)
    return target
