"""Oracle/AcmePacket local CDR files: start, interim and stop rows, told apart by their first column.

Columns have places, not names, and the places change with release and options, so the profile names the map of its
release or gives its own. Display names bring quotes that nobody escapes: a quoted value ends at a quote before a comma.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC
from types import MappingProxyType
from typing import BinaryIO, NamedTuple

from rater.sources.assembly import read_limits
from rater.sources.graph import sip_disposition
from rater.sources.numbers import is_digits
from rater.sources.parties import Parties, Sides, check_rules, uri_number
from rater.sources.profile import SourceProfile, Table
from rater.sources.record import (
    INBOUND_TYPES,
    PRINTABLE,
    TOLERANCE_MS,
    SourceRecord,
    Unusable,
    instant_text,
    record_id,
    seconds_text,
    shown,
    words,
)
from rater.sources.rows import Rows, Splitter, Values, utf8
from rater.sources.stamps import MONTHS, Minutes, checked, span_ms, wall_instants
from rater.sources.stops import STOP, StopSource
from rater.sources.times import WallClock, settle, zone_named

KINDS = {"1": "start", "2": STOP, "3": "interim"}
STATUS, SESSION = 0, 3
PART_TIMES = (12, 11)  # connect and setup of start and interim rows, in every published map
C640_STOP = MappingProxyType(
    {
        "nas_address": 2,
        "session_id": 4,
        "ingress_call_id": 5,
        "egress_call_id": 6,
        "generic_id": 9,
        "calling": 10,
        "called": 11,
        "terminate_cause": 12,
        "session_time": 13,
        "setup": 14,
        "connect": 15,
        "disconnect": 16,
        "cause": 17,
        "egress_realm": 22,
        "ingress_realm": 23,
        "routing_number": 121,
        "trunk_group_in": 122,
        "trunk_group_out": 123,
        "p_asserted_id": 126,
        "diversion": 131,
        "disposition": 132,
        "sip_status": 135,
        "final_routing_number": 136,
    }
)
RELEASES: Mapping[str, tuple[int, Mapping[str, int]]] = MappingProxyType({"C6.4.0": (175, C640_STOP)})
NEEDED = words("session_id calling called session_time setup connect disconnect")
URIS = frozenset(words("calling called p_asserted_id diversion routing_number final_routing_number"))
ANSWERED = "3"
STAMP = re.compile(
    r"([0-9]{1,2}):([0-9]{2}):([0-9]{2})(\.[0-9]{1,9})? ([A-Z]{1,5}) ([A-Za-z]{3}) +([0-9]{1,2}) ([0-9]{4})"
)
WIDTH_MAX = 1000
UTC_NAMES = ("UTC", "GMT", "Z")


class Settings(NamedTuple):
    """The `[acme]` table; places count from 0."""

    width: int
    places: Mapping[str, int]
    billable: str
    trunk_in: str
    trunk_out: str


class StopRow(Values):
    """A stop row by our names; an address is read as the number inside it."""

    __slots__ = ()

    def get(self, name: str) -> str:
        place = self.places.get(name)
        if place is None:
            return ""
        text = self.values[place].strip()
        if not text.isascii():
            text = utf8(name, text)
        return uri_number(text) if name in URIS else text


class AcmeRows(Rows):
    """Rows with Acme's quotes. Every line is one row."""

    def parse(self, line: bytes) -> list[str]:
        text = line.decode("latin-1")
        return strict_or_loose(text, self.splitter)


class Acme(StopSource):
    """Reads the files of one border controller."""

    def __init__(self, profile: SourceProfile) -> None:
        self.profile = profile
        check_rules(profile, ("trunks", "numbers", "column"), "ingress_realm")
        table = profile.family_table()
        limits = read_limits(table)
        self.settings = read_settings(table)
        check_columns(profile, self.settings)
        self.parties = Parties(profile, ("calling", "called", "called", profile.call_types.column), "ingress_realm")
        self.utc = WallClock(UTC)
        zone = zone_named(profile.zone)
        self.clock = WallClock(zone) if zone is not None else None
        self.splitter = Splitter()
        self.read_last = (b"", StopRow({}, []))
        self.minutes = Minutes()
        self.assemble_by(self.write, limits, profile.source)

    def read(self, stream: BinaryIO) -> Iterator[SourceRecord]:
        rows = AcmeRows(stream, ",", None)
        for row in rows:
            if row.values is None:
                yield SourceRecord(row.raw, None, row.reason, row.fault)
                continue
            try:
                found = self.take(row.raw, row.values)
            except Unusable as fault:
                found = [SourceRecord(row.raw, None, fault.reason, fault.detail)]
            yield from found

    def take(self, raw: bytes, values: list[str]) -> list[SourceRecord]:
        kind = KINDS.get(values[STATUS].strip())
        if kind is None:
            raise Unusable("bad_source_row", "the first column is not 1 (start), 2 (stop) or 3 (interim)")
        if len(values) <= PART_TIMES[0]:
            raise Unusable("bad_source_row", f"found {len(values)} columns, too few for any record")
        if kind == STOP:
            row = StopRow(self.settings.places, self.whole(raw, values))
            self.read_last = (raw, row)
            at_ms, session = self.stop_ms(row), row.get("session_id")
        else:
            at_ms, session = self.part_ms(values), utf8("session_id", values[SESSION].strip())
        if not session:
            raise Unusable("missing_field", "session_id: is empty, so nothing names this record")
        return self.part(session, kind, at_ms, raw)

    def whole(self, raw: bytes, values: list[str]) -> list[str]:
        """The stop's values in the width of its map, by either way of reading quotes."""
        if len(values) != self.settings.width:
            values = loose_values(raw.decode("latin-1"))
        if len(values) != self.settings.width:
            raise Unusable("bad_source_row", f"found {len(values)} columns, expected {self.settings.width}")
        return values

    def stop_ms(self, row: StopRow) -> int:
        ends = self.instants("disconnect", row.get("disconnect"))
        if not ends:
            raise Unusable("missing_field", "disconnect: is empty")
        return ends[0]

    def part_ms(self, values: list[str]) -> int:
        for place in PART_TIMES:
            found = self.instants("setup", values[place].strip())
            if found:
                return found[0]
        raise Unusable("missing_field", "setup and connect: both are empty")

    def write(self, raw: bytes) -> tuple[str, bytes]:
        last, row = self.read_last
        if raw != last:
            values = strict_or_loose(raw.decode("latin-1"), self.splitter)
            row = StopRow(self.settings.places, self.whole(raw, values))
        return self.call(row)

    def call(self, row: StopRow) -> tuple[str, bytes]:
        settled = self.parties.settle(self.sides(row))
        times = start_ms, answer_ms, end_ms = self.times(row)
        disposition = self.disposition(row, answer_ms)
        billable_ms = self.billable_ms(row, answer_ms, end_ms)
        name = record_id(self.profile.switch, row.get("session_id"), STOP, instant_text(start_ms))
        return name, self.parties.call_record(
            name,
            settled,
            self.parties.whose(row.get, settled.call_type),
            times,
            billable_ms,
            disposition,
            call_id=printable(row.get("ingress_call_id")),
            forwarded_by=None if settled.call_type in INBOUND_TYPES else printable(row.get("diversion")),
        )

    def sides(self, row: StopRow) -> Sides:
        calling, called = row.get("calling"), row.get("called")
        column = self.profile.call_types.column
        return Sides(
            caller=calling,
            caller_in=calling,
            called=called,
            reached=called,
            trunk_in=row.get(self.settings.trunk_in),
            trunk_out=row.get(self.settings.trunk_out),
            word=row.get(column) if column else "",
        )

    def times(self, row: StopRow) -> tuple[int, int | None, int]:
        starts = self.instants("setup", row.get("setup"))
        answers = self.instants("connect", row.get("connect"))
        ends = self.instants("disconnect", row.get("disconnect"))
        if not starts or not ends:
            raise Unusable("missing_field", f"{'disconnect' if starts else 'setup'}: is empty")
        return settle(starts, answers or (None,), ends, None, self.session_ms(row) if answers else None, None)

    def session_ms(self, row: StopRow) -> int | None:
        text = row.get("session_time")
        return span_ms("session_time", text, "s") if text else None

    def billable_ms(self, row: StopRow, answer_ms: int | None, end_ms: int) -> int:
        """Between connect and disconnect, to the millisecond, when the switch's whole seconds agree."""
        session_ms = self.session_ms(row)
        if answer_ms is None:
            return 0
        if self.settings.billable == "session_time":
            if session_ms is None:
                raise Unusable("missing_field", "session_time: is empty")
            return session_ms
        talked_ms = end_ms - answer_ms
        if session_ms is not None and abs(session_ms - talked_ms) > TOLERANCE_MS:
            raise Unusable(
                "bad_times",
                f"session_time says {seconds_text(session_ms)}, connect to disconnect {seconds_text(talked_ms)}; "
                "they may differ by 1.5 s",
            )
        return checked("connect to disconnect", talked_ms)

    def disposition(self, row: StopRow, answer_ms: int | None) -> str:
        word = row.get("disposition")
        if (answer_ms is None) == (word == ANSWERED) and word:
            raise Unusable("bad_field", f"disposition: {shown(word)} and the connect time contradict each other")
        if answer_ms is not None:
            return "answered"
        status = row.get("sip_status")
        return sip_disposition(int(status)) if is_digits(status) and len(status) == 3 else "unknown"

    def instants(self, name: str, text: str) -> tuple[int, ...]:
        """What a stamp may mean; the long way once a minute."""
        time, _, day = text.partition(" ")
        found = self.minutes.instants(day, time)
        if found is None:
            found = self.instants_of(name, text)
            self.minutes.remember(day, time, found)
        return found

    def instants_of(self, name: str, text: str) -> tuple[int, ...]:
        """13:30:12.700 UTC JAN 15 2026; another zone than UTC is read by the profile's zone."""
        if not text or text == "0":
            return ()
        found = STAMP.fullmatch(text)
        month = MONTHS.get(found[6].lower()) if found else None
        if found is None or month is None:
            raise Unusable("bad_field", f"{name}: not a time; expected for example 13:30:12.700 UTC JAN 15 2026")
        if found[8] in ("1970", "1969"):
            return ()
        clock = self.utc if found[5] in UTC_NAMES else self.clock
        if clock is None:
            raise Unusable(
                "bad_field", f"{name}: in the zone {found[5]}; the profile's zone does not say which that is"
            )
        hour, minute, second, decimals, _, _, day, year = found.groups()
        wall = f"{year}-{month:02d}-{day:0>2} {hour:0>2}:{minute}:{second}"
        instants = wall_instants(clock, name, wall, decimals or "")
        if not instants:
            raise Unusable("bad_times", f"{name}: does not exist in {self.profile.zone}, the clocks skip it")
        return instants


def printable(text: str) -> str | None:
    """Text that only helps to find a call; odd characters in it shall not cost the call."""
    return text if PRINTABLE.fullmatch(text) else None


def strict_or_loose(text: str, splitter: Splitter) -> list[str]:
    if '"' not in text:
        return text.split(",")
    values = splitter.split(text)
    return loose_values(text) if values is None else values


def loose_values(text: str) -> list[str]:
    """Values where a quote opens after a comma and closes before one; quotes between are part of the value.

    ""Doe, J" <sip:+44@x>;tag=a",1 -> `"Doe, J" <sip:+44@x>;tag=a` and `1`
    """
    values = []
    place, closes = 0, True
    line = text + ","
    while place < len(line):
        end = -1
        if closes and line[place] == '"':
            end = line.find('",', place + 1)
            closes = end >= 0
        if end >= 0:
            values.append(line[place + 1 : end])
            place = end + 2
        else:
            end = line.index(",", place)
            values.append(line[place:end])
            place = end + 1
    return values


def read_settings(table: Table) -> Settings:
    release = table.choice("release", (*RELEASES, "own"))
    width, places = RELEASES.get(release, (0, MappingProxyType({})))
    stop = table.table("stop")
    width = stop.count("width", 1, WIDTH_MAX, width)
    found = {name: place - 1 for name, place in places.items()}
    for name in stop.data:
        if name != "width":
            found[name] = stop.count(name, 1, width, 0) - 1
    for name in NEEDED:
        if name not in found:
            raise stop.refuse(name, "its place in a stop record, counted from 1")
    if any(place >= width for place in found.values()):
        raise stop.refuse("width", "the number of columns of a stop record")
    settings = Settings(
        width=width,
        places=found,
        billable=table.choice("billable", ("times", "session_time"), "times"),
        trunk_in=table.text("trunk_in", "a column of the stop record", "ingress_realm"),
        trunk_out=table.text("trunk_out", "a column of the stop record", "egress_realm"),
    )
    table.done()
    return settings


def check_columns(profile: SourceProfile, settings: Settings) -> None:
    wanted = {"[users] column": profile.users.column, "[users] column_in": profile.users.column_in}
    wanted["[call_types] column"] = profile.call_types.column
    if not profile.tenants.every:
        wanted["[tenants] column"] = profile.tenants.column or "ingress_realm"
    if profile.call_types.by == "trunks":
        wanted |= {"[acme] trunk_in": settings.trunk_in, "[acme] trunk_out": settings.trunk_out}
    for key, name in wanted.items():
        if name and name not in settings.places:
            raise profile.refuse(key, repr(name), "one of " + ", ".join(sorted(settings.places)))
