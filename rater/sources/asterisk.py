"""Asterisk's CDR files: Master.csv in all its widths, cdr_custom, and exports of the SQL table with a header.

The files name no column and no zone, so the profile does; a row of another width is rejected, never re-split by guess.
Times are whole seconds of a wall clock, `billsec` is the floor of what was measured and is what is billed. A row is one
leg or one attempt: each becomes a call record, and what was not answered is there with no charge to come.
"""

import re
from collections.abc import Iterator
from typing import BinaryIO, Protocol

from rater.sources.asterisk_layouts import (
    PEERS,
    Settings,
    check_profile,
    check_zone,
    column_places,
    columns_missing,
    columns_wanted,
    is_header,
    read_settings,
)
from rater.sources.numbers import e164, emergency_callee, is_digits, is_internal, is_withheld
from rater.sources.profile import SourceProfile
from rater.sources.record import (
    BILLABLE_MS_MAX,
    INBOUND_TYPES,
    NotBilled,
    SourceRecord,
    Unusable,
    canonical_call,
    needs_user,
    record_id,
    shown,
)
from rater.sources.rows import Rows, Values
from rater.sources.times import WallClock, settle, zone_named

DISPOSITIONS = {
    "ANSWERED": "answered",
    "NO ANSWER": "no_answer",
    "BUSY": "busy",
    "FAILED": "failed",
    "CONGESTION": "congestion",
    "CANCEL": "cancelled",
    "": "unknown",
    # The bits of the switch's own enum, which a mapping `disposition(int64)` and the Kafka modules write.
    "0": "no_answer",
    "1": "unknown",
    "2": "failed",
    "4": "busy",
    "8": "answered",
    "16": "congestion",
    "32": "cancelled",
}
SECONDS = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,9}))?")
PEER = re.compile(r"[^/]+/(.+?)(?:-[0-9a-f]{8}(?:;[12])?)?")
DIALLED = re.compile(r"[^/,&]+/(?:[^/,&@]+/)?(\+?[0-9*#]+)(?:@[^,&]*)?(?:,.*)?", re.DOTALL)
BORN = re.compile(r"(?:.*-)?([0-9]{9,10})\.[0-9]+")
NEVER = ("1970-01-01", "1969-12-31", "0000-00-00")


class Named(Protocol):
    """One row by column name; a column that is not there is empty."""

    def get(self, name: str) -> str: ...

    def has(self, name: str) -> bool: ...


class AsteriskCalls:
    """Makes call records of rows, wherever they were written: asked for a value by the name of its column."""

    def __init__(self, profile: SourceProfile, settings: Settings) -> None:
        self.profile = profile
        self.settings = settings
        zone = zone_named(profile.zone or "UTC")
        if zone is None:
            raise profile.refuse("zone", repr(profile.zone), "'UTC' or an IANA zone such as 'Europe/London'")
        self.clock = WallClock(zone)

    def record(self, raw: bytes, row: Named) -> SourceRecord:
        try:
            return SourceRecord(raw, self.call(row))
        except Unusable as fault:
            return SourceRecord(raw, None, fault.reason, fault.detail)
        except NotBilled as why:
            return SourceRecord(raw, None, "", why.detail, "leg")

    def call(self, row: Named) -> bytes:
        self.check_leg(row)
        call_type, caller, callee = self.parties(row)
        disposition = self.disposition(row)
        billable_ms = self.billable_ms(row)
        start_ms, answer_ms, end_ms = self.times(row, billable_ms, disposition)
        return canonical_call(
            record_id=self.record_id(row),
            tenant=self.tenant(row),
            call_type=call_type,
            user=self.user(row, call_type),
            caller=caller,
            callee=callee,
            start_ms=start_ms,
            answer_ms=answer_ms,
            end_ms=end_ms,
            billable_ms=billable_ms,
            disposition=disposition,
            source=self.profile.source,
            switch=self.switch(row),
            call_id=row.get("linkedid") or row.get("uniqueid"),
        )

    def check_leg(self, row: Named) -> None:
        """`first`: only the rows of the channel that began the call; a rule that one row decides, in any file order."""
        if self.settings.linkedid_policy == "first":
            linkedid = row.get("linkedid")
            if linkedid and linkedid != row.get("uniqueid"):
                raise NotBilled("a further leg: its uniqueid is not the linkedid, and linkedid_policy is 'first'")

    # Who called whom, and which kind of call it is.

    def parties(self, row: Named) -> tuple[str, str | None, str]:
        """Call type, caller and callee. An emergency number is recognised before any other rule is asked."""
        rules = self.profile.numbers
        dialled = self.dialled(row)
        kind = self.kind(row, dialled)
        if kind not in INBOUND_TYPES:
            emergency = emergency_callee(dialled, rules)
            if emergency is not None:
                return "emergency", self.caller(row, required=False), emergency
        if kind == "skip":
            raise NotBilled("an internal call by [call_types]")
        if not kind:
            raise self.unknown_kind(row)
        if kind in INBOUND_TYPES:
            reached = row.get(self.settings.called_column_in)
            return kind, self.caller(row, required=True), self.callee(reached, self.settings.called_column_in, False)
        if is_internal(dialled, rules):
            raise NotBilled("a call to an extension or a feature code, by [numbers] internal_digits_max")
        return kind, self.caller(row, required=False), self.callee(dialled, "dst", True)

    def dialled(self, row: Named) -> str:
        """What was called: `dst`, or what the profile says when that is `s`, `h`, `i` or a name of the dialplan."""
        dst = row.get("dst")
        if dst[:1] in ("+", "*", "#") or dst[:1].isdigit() or dst in self.profile.numbers.extensions:
            return dst
        match self.settings.special_destination:
            case "did":
                return row.get("did")
            case "lastdata":
                found = DIALLED.fullmatch(row.get("lastdata")) if row.get("lastapp") == "Dial" else None
                return found[1] if found else ""
        return dst

    def is_special(self, dst: str) -> bool:
        return not any(character.isdigit() for character in dst)

    def kind(self, row: Named, dialled: str) -> str:
        """The call type of the profile's rules, `skip`, or nothing when no rule fits."""
        types = self.profile.call_types
        if types.by == "dcontext":
            return types.known.get(row.get("dcontext")) or types.known.get("*", "")
        if types.by == "trunks":
            comes_in = peer(row.get("channel")) in types.trunks
            goes_out = peer(row.get("dstchannel")) in types.trunks
        else:
            comes_in = not self.is_owned(row.get("src"), dialled=False)
            goes_out = not self.is_owned(dialled, dialled=True)
        if comes_in and goes_out:
            return types.transit
        if comes_in:
            return types.inbound
        return types.outbound if goes_out else types.internal

    def is_owned(self, text: str, *, dialled: bool) -> bool:
        number = e164(text, self.profile.numbers, dialled=dialled)
        return is_internal(text, self.profile.numbers) or (
            number is not None and number.startswith(self.profile.call_types.owned)
        )

    def unknown_kind(self, row: Named) -> Unusable:
        types = self.profile.call_types
        if types.by == "dcontext":
            return Unusable("bad_field", f"dcontext: {shown(row.get('dcontext'))} has no rule under [call_types.map]")
        return Unusable("bad_field", "both sides are outside and [call_types] transit does not say what such a call is")

    def caller(self, row: Named, *, required: bool) -> str | None:
        """The caller, or None when withheld. An inbound call's price hangs on it, so there it must be readable."""
        src = row.get("src")
        number = e164(src, self.profile.numbers, dialled=False)
        if number is None and required and not is_withheld(src):
            raise Unusable("bad_field", "src: no rule under [numbers] makes this caller a number with '+' and country")
        return number

    def callee(self, text: str, column: str, dialled: bool) -> str:
        if not text:
            raise Unusable("missing_field", f"{column}: holds no number that was dialled")
        number = e164(text, self.profile.numbers, dialled=dialled)
        if number is not None:
            return number
        if self.is_special(text):
            if dialled and self.settings.special_destination == "skip":
                raise NotBilled("a destination of the dialplan, by special_destination")
            raise Unusable("bad_field", f"{column}: {shown(text)} is no number; see special_destination in the profile")
        raise Unusable("bad_field", f"{column}: no rule under [numbers] makes this a number with '+' and country")

    # Whose call it is.

    def tenant(self, row: Named) -> str:
        tenants = self.profile.tenants
        if tenants.every:
            return tenants.every
        column = tenants.column or "accountcode"
        code = row.get(column)
        found = tenants.known.get(code) or (code if tenants.same else "") or ("" if code else tenants.default)
        if found:
            return found
        if code:
            raise Unusable("unknown_tenant", f"{column}: {shown(code)} has no tenant under [tenants.map]")
        raise Unusable("missing_field", f"tenant: {column} is empty and [tenants] has no default")

    def user(self, row: Named, call_type: str) -> str | None:
        users = self.profile.users
        column = users.column_in or users.column if call_type in INBOUND_TYPES else users.column
        text = peer(row.get(PEERS[column])) if column in PEERS else row.get(column)
        found = users.known.get(text) or (text if users.unmapped == "same" else "")
        if not found and needs_user(call_type):
            why = f"{shown(text)} is not under [users.map]" if text else "is empty"
            raise Unusable("missing_field", f"user: {column} {why}")
        return found or None

    def switch(self, row: Named) -> str:  # noqa: ARG002  # a family whose records name the switch looks there
        return self.profile.switch

    def record_id(self, row: Named) -> str:
        return record_id(self.profile.switch, *self.id_parts(row))

    def id_parts(self, row: Named) -> tuple[str, ...]:
        sequence = row.get("sequence")
        named = (row.get("uniqueid"), row.get("linkedid"))
        if sequence and named[0]:
            return (*named, sequence)
        more = (sequence,) if sequence else ()
        return (*named, row.get("channel"), row.get("dstchannel"), row.get("start"), *more)

    # When, and for how long.

    def disposition(self, row: Named) -> str:
        text = row.get("disposition")
        found = DISPOSITIONS.get(text)
        if found is None:
            raise Unusable("bad_field", f"disposition: {shown(text)} is not one that Asterisk writes")
        return found

    def billable_ms(self, row: Named) -> int:
        text = row.get("billsec")
        if not text:
            raise Unusable("missing_field", "billsec: is empty; expected seconds")
        billable_ms = seconds_ms("billsec", text)
        if billable_ms > BILLABLE_MS_MAX:
            raise Unusable("bad_field", f"billsec: {billable_ms // 1000} s is more than 86400 s (24 h)")
        return billable_ms

    def times(self, row: Named, billable_ms: int, disposition: str) -> tuple[int, int | None, int]:
        starts = self.instants(row, "start")
        if not starts:
            raise Unusable("missing_field", "start: is empty")
        duration = row.get("duration")
        duration_ms = seconds_ms("duration", duration) if duration else None
        ends = self.instants(row, "end")
        if not ends:
            if duration_ms is None:
                raise Unusable("missing_field", "end: is empty, and so is duration")
            starts = self.settled_start(starts, row)
            ends = (starts[0] + duration_ms,)
        # A stamp of the dialplan's own Answer() on an attempt that failed and took no time is no answer of the callee.
        unanswered = billable_ms == 0 and disposition != "answered"
        answers: tuple[int | None, ...] = (None,)
        if not unanswered and row.has("answer"):
            answers = self.instants(row, "answer") or (None,)
        elif not unanswered and billable_ms > 0:
            answers = tuple([end_ms - billable_ms for end_ms in ends])
        return settle(starts, answers, ends, duration_ms, billable_ms, born_ms(row.get("uniqueid")))

    def settled_start(self, starts: tuple[int, ...], row: Named) -> tuple[int, ...]:
        start_ms, _, _ = settle(starts, (None,), (max(starts),), None, None, born_ms(row.get("uniqueid")))
        return (start_ms,)

    def instants(self, row: Named, name: str) -> tuple[int, ...]:
        """What the stamp may mean; empty when the switch wrote none."""
        text = row.get(name)
        if not text or text == "0" or text.startswith(NEVER):
            return ()
        found = self.clock.instants(name, text)
        if not found:
            raise Unusable(
                "bad_times",
                f"{name}: {text} does not exist in {self.profile.zone}, the clocks skip it; "
                "is the zone right (usegmtime=yes writes UTC)?",
            )
        return found


class AsteriskCsv(AsteriskCalls):
    """Reads the files of one Asterisk."""

    def __init__(self, profile: SourceProfile) -> None:
        super().__init__(profile, read_settings(profile))
        check_profile(profile, self.settings)
        check_zone(profile)

    def read(self, stream: BinaryIO) -> Iterator[SourceRecord]:
        columns = self.settings.columns
        places = column_places(columns)
        rows = Rows(stream, self.settings.delimiter, len(columns) or None)
        header = b""
        lacking = ""
        for row in rows:
            if row.values is None:
                yield SourceRecord(row.raw, None, row.reason, row.fault)
            elif rows.width is None:
                header, rows.width = row.raw, len(row.values)
                places, lacking = self.header_places(row.values)
                yield SourceRecord(row.raw, None, "bad_source_row" if lacking else "", lacking, "header")
            elif row.raw == header or (self.settings.header and columns and is_header(row.values, columns)):
                yield SourceRecord(row.raw, None, kind="header")
            elif lacking:
                yield SourceRecord(row.raw, None, "bad_source_row", "no row can be read without the header's columns")
            else:
                yield self.record(row.raw, Values(places, row.values))

    def header_places(self, values: list[str]) -> tuple[dict[str, int], str]:
        names = tuple(value.strip().lower() for value in values)
        places = column_places(names)
        lacking = columns_missing(places, columns_wanted(self.profile, self.settings))
        return places, f"the header lacks {lacking}" if lacking else ""


def peer(channel: str) -> str:
    """PJSIP/carrier1-00000a20 -> carrier1"""
    found = PEER.fullmatch(channel)
    return found[1] if found else channel


def seconds_ms(name: str, text: str) -> int:
    """Seconds as text to milliseconds, finer digits cut off: 154 -> 154000, 154.5506 -> 154550."""
    if len(text) <= 9 and is_digits(text):
        return int(text) * 1000
    found = SECONDS.fullmatch(text)
    if found is None:
        raise Unusable("bad_field", f"{name}: not a number of seconds; expected for example 154 or 154.550")
    return int(found[1]) * 1000 + int((found[2] or "0")[:3].ljust(3, "0"))


def born_ms(uniqueid: str) -> int | None:
    """When the channel was made, UTC: the epoch in pbx1-1768483800.2591."""
    found = BORN.fullmatch(uniqueid)
    return int(found[1]) * 1000 if found else None
