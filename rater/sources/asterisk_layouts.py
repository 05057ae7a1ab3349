"""Which columns an Asterisk file has, and whether they are enough for what the profile asks.

Nothing about a row can be seen from its width alone, so a layout is named in the profile or written in a header.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from rater.sources.profile import SourceProfile, Table
from rater.sources.record import words

MASTER = words(
    """accountcode src dst dcontext clid channel dstchannel lastapp lastdata start answer end duration billsec
    disposition amaflags"""
)
NEW = ("peeraccount", "linkedid", "sequence")
LAYOUTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "master-16": MASTER,
        "master-17-uniqueid": (*MASTER, "uniqueid"),
        "master-17-userfield": (*MASTER, "userfield"),
        "master-18": (*MASTER, "uniqueid", "userfield"),
        "newcolumns-19": (*MASTER, *NEW),
        "newcolumns-20-uniqueid": (*MASTER, "uniqueid", *NEW),
        "newcolumns-20-userfield": (*MASTER, "userfield", *NEW),
        "newcolumns-21": (*MASTER, "uniqueid", "userfield", *NEW),
        "cdr-custom": words(
            """clid src dst dcontext channel dstchannel lastapp lastdata start answer end duration billsec disposition
            amaflags accountcode uniqueid userfield sequence"""
        ),
    }
)
HEADER_LAYOUT = "header"
KNOWN_COLUMNS = frozenset(
    words("calldate did cnum cnam outbound_cnum outbound_cnam dst_cnam recordingfile")
) | frozenset(name for layout in LAYOUTS.values() for name in layout)
ALIASES = {"calldate": "start"}
NEEDED = ("src", "dst", "start", "billsec", "disposition")
PEERS = {"channel-peer": "channel", "dstchannel-peer": "dstchannel"}


class Settings(NamedTuple):
    """The `[asterisk]` table."""

    columns: tuple[str, ...]
    header: bool
    delimiter: str
    linkedid_policy: str
    special_destination: str
    called_column_in: str


def read_settings(profile: SourceProfile) -> Settings:
    table = profile.family_table()
    columns, header = read_columns(table)
    settings = Settings(
        columns=columns,
        header=header,
        delimiter=table.choice("delimiter", (",", ";", "\t", "|"), ","),
        linkedid_policy=table.choice("linkedid_policy", ("all", "first"), "all"),
        special_destination=table.choice("special_destination", ("reject", "skip", "lastdata", "did"), "reject"),
        called_column_in=table.text("called_column_in", "the column of the number that an inbound call reached", "dst"),
    )
    table.done()
    return settings


def read_columns(table: Table) -> tuple[tuple[str, ...], bool]:
    """The names of the columns, and whether the file begins with a header that names them."""
    if table.has("columns"):
        if table.has("layout"):
            raise table.refuse("columns", "either layout or columns, not both")
        columns = table.texts("columns", "a list of column names")
        if not columns:
            raise table.refuse("columns", "a list of column names; layout = 'header' reads them from the file")
        for name in columns:
            if name not in KNOWN_COLUMNS and not name.startswith("-"):
                raise table.refuse("columns", f"known names, or '-' before a column to pass over; {name!r} is neither")
        used = [ALIASES.get(name, name) for name in columns if not name.startswith("-")]
        if len(used) != len(set(used)):
            raise table.refuse("columns", "each column once")
        return tuple(columns), table.flag("header", False)
    choices = (*LAYOUTS, HEADER_LAYOUT)
    expected = "one of " + ", ".join(choices) + "; or columns = [...]"
    layout = table.text("layout", expected)
    if layout not in choices:
        near = [choice for choice in choices if choice.startswith(layout + "-")] if layout else []
        why = f"one of {', '.join(near)}: this width does not say which column it has"
        raise table.refuse("layout", why if near else expected)
    if layout == HEADER_LAYOUT:
        return (), True
    return LAYOUTS[layout], table.flag("header", False)


def is_header(values: list[str], columns: tuple[str, ...]) -> bool:
    """Does this row name the columns that the layout says? A call is never taken for a header."""
    if len(values) != len(columns):
        return False
    named = [
        (ALIASES.get(found, found), ALIASES.get(name, name))
        for found, name in zip([value.strip().lower() for value in values], columns, strict=True)
        if not name.startswith("-")
    ]
    return all(found == name for found, name in named)


def column_places(names: tuple[str, ...]) -> dict[str, int]:
    """Column name -> its place; `calldate` is the start."""
    places: dict[str, int] = {}
    for place, name in enumerate(names):
        places.setdefault(ALIASES.get(name, name), place)
    return places


def columns_wanted(profile: SourceProfile, settings: Settings) -> list[tuple[str, str]]:
    """Every column that this profile makes necessary, and what for."""
    wanted = [(name, "every call record") for name in NEEDED]
    if not profile.tenants.every:
        wanted.append((profile.tenants.column or "accountcode", "[tenants]"))
    for key, column in (("column", profile.users.column), ("column_in", profile.users.column_in)):
        if column:
            wanted.append((PEERS.get(column, column), f"[users] {key}"))
    if profile.call_types.by == "dcontext":
        wanted.append(("dcontext", "[call_types] by"))
    if profile.call_types.by == "trunks":
        wanted += [("channel", "[call_types] by"), ("dstchannel", "[call_types] by")]
    if settings.linkedid_policy == "first":
        wanted += [("uniqueid", "linkedid_policy"), ("linkedid", "linkedid_policy")]
    if settings.special_destination == "lastdata":
        wanted += [("lastapp", "special_destination"), ("lastdata", "special_destination")]
    if settings.special_destination == "did":
        wanted.append(("did", "special_destination"))
    wanted.append((settings.called_column_in, "called_column_in"))
    return wanted


def columns_missing(places: Mapping[str, int], wanted: list[tuple[str, str]]) -> str:
    """What a layout lacks for this profile, in words; empty when it lacks nothing."""
    lacking = [f"{name} (for {why})" for name, why in wanted if name not in places]
    if "end" not in places and "duration" not in places:
        lacking.append("end or duration")
    if not {"uniqueid", "sequence"} <= places.keys() and "channel" not in places:
        lacking.append("uniqueid and sequence, or channel: nothing else names a record for ever")
    return ", ".join(lacking)


def check_profile(profile: SourceProfile, settings: Settings) -> None:
    if not profile.switch:
        raise profile.refuse("switch", "nothing", "the name of this switch; two switches may give the same uniqueid")
    if profile.call_types.by in ("", "column"):
        raise profile.refuse("[call_types] by", repr(profile.call_types.by), "one of dcontext, trunks, numbers")
    if profile.call_types.by == "dcontext" and not profile.call_types.known:
        raise profile.refuse("[call_types.map]", "nothing", "a call type for each dcontext, '*' for any other")
    if profile.call_types.by == "trunks" and not profile.call_types.trunks:
        raise profile.refuse("[call_types] trunks", "nothing", "the trunks' channel peers, for example ['carrier1']")
    if profile.call_types.by == "numbers" and not profile.call_types.owned:
        raise profile.refuse("[call_types] owned", "nothing", "the tenants' own numbers, for example ['+4420794600']")
    if not profile.users.column:
        raise profile.refuse("[users] column", "nothing", "the column that names the user, for example 'src'")
    tenants = profile.tenants
    if not (tenants.every or tenants.same or tenants.default or tenants.known):
        raise profile.refuse("tenant", "nothing", "tenant = '...', or a [tenants] table that maps the account codes")
    if settings.columns:
        lacking = columns_missing(column_places(settings.columns), columns_wanted(profile, settings))
        if lacking:
            raise profile.refuse("[asterisk] layout", "a layout without " + lacking, "a layout that has these columns")


def check_zone(profile: SourceProfile) -> None:
    if not profile.zone:
        raise profile.refuse(
            "zone", "nothing", "'UTC' (usegmtime=yes) or an IANA zone: Asterisk writes wall-clock times without a zone"
        )
