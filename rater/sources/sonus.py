"""Ribbon/Sonus ACT files: START, STOP, ATTEMPT and INTERMEDIATE lines, each type with places of its own.

Stamps are in tenths of a second of the gateway's clock; lengths are ticks of 10 ms and are what is billed. Some fields
are lists of sub-fields inside quotes. An ATTEMPT is a call that was never answered; everything after its ninth field
stands elsewhere than in a STOP.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import BinaryIO, NamedTuple

from rater.sources.assembly import read_limits
from rater.sources.numbers import is_digits
from rater.sources.parties import Parties, Sides, Times, check_rules, disposition_of
from rater.sources.profile import SourceProfile, Table
from rater.sources.record import DAY_MS, SourceRecord, Unusable, record_id, words
from rater.sources.rows import Rows, Splitter, utf8
from rater.sources.stamps import Minutes, span_ms, wall_instants
from rater.sources.stops import STOP, StopSource
from rater.sources.times import WallClock, settle, zone_named

TICK_MS = 10
STAMP_MS = 100
BASE = {"gateway": 2, "accounting_id": 3, "node_zone": 5, "start_date": 6, "start_time": 7}
STOP_PLACES = MappingProxyType(
    {
        **BASE,
        "answer_ticks": 10,
        "end_date": 11,
        "end_time": 12,
        "duration_ticks": 14,
        "reason": 15,
        "service": 16,
        "direction": 17,
        "provider": 18,
        "calling": 20,
        "called": 21,
    }
)
ATTEMPT_PLACES = MappingProxyType(
    {
        **BASE,
        "end_time": 10,
        "end_time_after_date": 11,
        "reason": 12,
        "service": 13,
        "direction": 14,
        "provider": 15,
        "calling": 17,
        "called": 18,
        "end_date": 105,
    }
)
ATTEMPT_COLUMNS_MIN = 18
PARTS = {"START": "start", "INTERMEDIATE": "interim"}
PART_COLUMNS_MIN = 7
OTHER = frozenset(words("REBOOT SWITCHOVER EVENT"))
TITLE = b"Sonus"
DATE = re.compile(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4})")
CLOCK = re.compile(r"([0-9]{1,2}):([0-9]{2}):([0-9]{2})(\.[0-9]{1,9})?")
PLACE = re.compile(r"([1-9][0-9]{0,2})(?:\.([1-9][0-9]{0,2}))?")


class Place(NamedTuple):
    """A field, counted from 0, and a sub-field of it, -1 for the whole."""

    field: int
    inner: int = -1


class Line:
    """One line by our names. A place that the line does not reach is empty."""

    __slots__ = ("places", "values")

    def __init__(self, places: Mapping[str, Place], values: list[str]) -> None:
        self.places = places
        self.values = values

    def get(self, name: str) -> str:
        place = self.places.get(name)
        if place is None:
            return ""
        field, inner = place
        if field >= len(self.values):
            return ""
        text = self.values[field]
        if inner >= 0:
            parts = sub_fields(text)
            text = parts[inner] if inner < len(parts) else ""
        text = text.strip()
        return text if text.isascii() else utf8(name, text)


class Sonus(StopSource):
    """Reads the ACT files of one or several gateways with one profile."""

    def __init__(self, profile: SourceProfile) -> None:
        self.profile = profile
        check_rules(profile, ("trunks", "numbers", "column"), "provider")
        zone = zone_named(profile.zone)
        if zone is None:
            raise profile.refuse(
                "zone", repr(profile.zone) if profile.zone else "nothing", "'UTC' or an IANA zone: releases differ"
            )
        self.clock = WallClock(zone)
        table = profile.family_table()
        limits = read_limits(table)
        self.stop = read_places(table.table("stop"), STOP_PLACES)
        self.attempt = read_places(table.table("attempt"), ATTEMPT_PLACES)
        table.done()
        check_columns(profile, self.stop)
        self.stop_columns = 1 + max(place.field for place in self.stop.values())
        self.parties = Parties(profile, ("calling", "called", "called", profile.call_types.column), "provider")
        self.splitter = Splitter()
        self.minutes = Minutes()
        self.read_last = (b"", Line({}, []))
        self.stamp_last: tuple[tuple[str, str], tuple[int, ...]] = (("", ""), ())
        self.assemble_by(self.write, limits, profile.source)

    def read(self, stream: BinaryIO) -> Iterator[SourceRecord]:
        rows = Rows(stream, ",", None)
        for row in rows:
            if row.raw.startswith(TITLE):
                yield SourceRecord(row.raw, None, kind="header")
                continue
            if row.values is None:
                yield SourceRecord(row.raw, None, row.reason, row.fault)
                continue
            try:
                found = self.take(row.raw, row.values)
            except Unusable as fault:
                found = [SourceRecord(row.raw, None, fault.reason, fault.detail)]
            yield from found

    def take(self, raw: bytes, values: list[str]) -> list[SourceRecord]:
        kind = values[0].strip()
        if kind in OTHER:
            return [SourceRecord(raw, None, "", f"{kind}: no record of a call", "leg")]
        if kind == "ATTEMPT":
            if len(values) < ATTEMPT_COLUMNS_MIN:
                raise Unusable("bad_source_row", f"found {len(values)} columns; an ATTEMPT has {ATTEMPT_COLUMNS_MIN}")
            return [self.single(raw, Line(self.attempt, values))]
        if kind == "STOP":
            if len(values) < self.stop_columns:
                raise Unusable("bad_source_row", f"found {len(values)} columns; this STOP has {self.stop_columns}")
            row = Line(self.stop, values)
            ends = self.instants("end", row.get("end_date"), row.get("end_time"))
            self.read_last = (raw, row)
            return self.part(self.key(row), STOP, ends[0], raw)
        if kind in PARTS:
            if len(values) < PART_COLUMNS_MIN:
                raise Unusable("bad_source_row", f"found {len(values)} columns; too few for any record")
            row = Line(self.stop, values)
            starts = self.instants("start", row.get("start_date"), row.get("start_time"))
            return self.part(self.key(row), PARTS[kind], starts[0], raw)
        raise Unusable("bad_source_row", "the first column names no type of record")

    def key(self, row: Line) -> str:
        gateway, accounting = row.get("gateway"), row.get("accounting_id")
        if not gateway or not accounting:
            raise Unusable("missing_field", "gateway or accounting_id: is empty, so nothing names this record")
        return f"{gateway}\n{accounting}"

    def single(self, raw: bytes, row: Line) -> SourceRecord:
        """An ATTEMPT: nothing else is written of such a call."""
        self.key(row)
        starts = self.instants("start", row.get("start_date"), row.get("start_time"))
        start_ms, _, end_ms = settle(starts, (None,), self.attempt_ends(row, starts), None, None, None)
        self.assembly.see(end_ms)
        _, canonical = self.call(row, "ATTEMPT", (start_ms, None, end_ms), 0, disposition_of(self.reason(row)))
        return SourceRecord(raw, canonical)

    def attempt_ends(self, row: Line, starts: tuple[int, ...]) -> tuple[int, ...]:
        """The tenth field is a time, its date the 105th, or a date with the time behind it, by release.

        A line without any date of its end ended on the day it began, or after midnight.
        """
        text = row.get("end_time")
        if DATE.fullmatch(text):
            return self.instants("end", text, row.get("end_time_after_date"))
        date = row.get("end_date")
        if DATE.fullmatch(date):
            return self.instants("end", date, text)
        ends = self.instants("end", row.get("start_date"), text)
        return tuple([end_ms if end_ms >= starts[0] else end_ms + DAY_MS for end_ms in ends])

    def write(self, raw: bytes) -> tuple[str, bytes]:
        last, row = self.read_last
        if raw != last:
            row = Line(self.stop, self.splitter.split(raw.decode("latin-1")) or [])
        billable_ms = self.ticks(row, "duration_ticks")
        if billable_ms is None:
            raise Unusable("missing_field", "duration_ticks: is empty; expected ticks of 10 ms")
        self.reason(row)
        return self.call(row, "STOP", self.times(row, billable_ms), billable_ms, "answered")

    def times(self, row: Line, billable_ms: int) -> tuple[int, int, int]:
        """The answer is the start and the ticks to it; stamps are cut at a tenth, so it may lie a tenth after the end."""
        ringing_ms = self.ticks(row, "answer_ticks")
        ends = self.instants("end", row.get("end_date"), row.get("end_time"))
        starts = self.instants("start", row.get("start_date"), row.get("start_time"))
        duration_ms = None if ringing_ms is None else ringing_ms + billable_ms
        start_ms, _, end_ms = settle(starts, (None,), ends, duration_ms, None, None)
        if ringing_ms is None:
            return start_ms, max(start_ms, end_ms - billable_ms), end_ms
        answer_ms = start_ms + ringing_ms
        return start_ms, end_ms if end_ms < answer_ms <= end_ms + STAMP_MS else answer_ms, end_ms

    def call(self, row: Line, kind: str, times: Times, billable_ms: int, disposition: str) -> tuple[str, bytes]:
        settled = self.parties.settle(self.sides(row))
        name = record_id(self.profile.switch, row.get("gateway"), row.get("accounting_id"), kind)
        return name, self.parties.call_record(
            name,
            settled,
            self.parties.whose(row.get, settled.call_type),
            times,
            billable_ms,
            disposition,
            switch=row.get("gateway"),
            call_id=row.get("call_id") or row.get("accounting_id"),
        )

    def sides(self, row: Line) -> Sides:
        calling, called = row.get("calling"), row.get("called")
        column = self.profile.call_types.column
        return Sides(
            caller=calling,
            caller_in=calling,
            called=called,
            reached=called,
            trunk_in=row.get("trunk_in"),
            trunk_out=row.get("trunk_out"),
            word=row.get(column) if column else "",
        )

    def reason(self, row: Line) -> int:
        text = row.get("reason")
        if text and not (is_digits(text) and len(text) <= 5):
            raise Unusable("bad_field", "reason: not a number; is this the layout of another release?")
        return int(text or 0)

    def ticks(self, row: Line, name: str) -> int | None:
        text = row.get(name)
        return span_ms(name, text, "10ms") if text else None

    def instants(self, name: str, date: str, clock: str) -> tuple[int, ...]:
        """What a stamp may mean; the long way once a minute, and not twice for the end of one line."""
        if (date, clock) != self.stamp_last[0]:
            found = self.minutes.instants(date, clock)
            if found is None:
                found = self.instants_of(name, date, clock)
                self.minutes.remember(date, clock, found)
            self.stamp_last = ((date, clock), found)
        return self.stamp_last[1]

    def instants_of(self, name: str, date: str, clock: str) -> tuple[int, ...]:
        """01/15/2026 and 13:30:00.2, month first."""
        day, time = DATE.fullmatch(date), CLOCK.fullmatch(clock)
        if day is None or time is None:
            raise Unusable(
                "bad_field", f"{name}: not a date and a time; expected for example 01/15/2026 and 13:30:00.2"
            )
        wall = f"{day[3]}-{day[1]:0>2}-{day[2]:0>2} {time[1]:0>2}:{time[2]}:{time[3]}"
        found = wall_instants(self.clock, name, wall, time[4] or "")
        if not found:
            raise Unusable("bad_times", f"{name}: does not exist in {self.profile.zone}, the clocks skip it")
        return found


def sub_fields(text: str) -> list[str]:
    """`SIP,b1946ac9@198.51.100.7,<sip:...>` -> its parts; a quote among them keeps its commas."""
    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error:
        return text.split(",")


def read_places(table: Table, base: Mapping[str, int]) -> Mapping[str, Place]:
    """The places of a release, and those of the profile: a field (31) or a sub-field of one ("52.2")."""
    places = {name: Place(place - 1) for name, place in base.items()}
    for name in table.data:
        table.asked.add(name)
        value = table.data[name]
        found = PLACE.fullmatch(str(value)) if type(value) in (int, str) else None
        if found is None:
            raise table.refuse(name, 'a field counted from 1, for example 31, or a sub-field, for example "52.2"')
        places[name] = Place(int(found[1]) - 1, int(found[2]) - 1 if found[2] else -1)
    return places


def check_columns(profile: SourceProfile, places: Mapping[str, Place]) -> None:
    wanted = {"[users] column": profile.users.column, "[users] column_in": profile.users.column_in}
    wanted["[call_types] column"] = profile.call_types.column
    if not profile.tenants.every:
        wanted["[tenants] column"] = profile.tenants.column or "provider"
    if profile.call_types.by == "trunks":
        wanted |= {"[sonus.stop] trunk_in": "trunk_in", "[sonus.stop] trunk_out": "trunk_out"}
    for key, name in wanted.items():
        if name and name not in places:
            raise profile.refuse(key, repr(name), "one of " + ", ".join(sorted(places)) + ", or a place for it")
