"""Cisco CUCM's CDR files: columns by the names in the header line, times in epoch seconds.

A file begins with a line of names and a line of SQL types; some begin with the types, and files of call quality (CMR)
go the same way. Numbers are as dialled; what left the gateway (`outpulsed...`) is the better callee where it is given.
Each leg of a call is a row with a duration of its own: rows that touch a trunk are billed, by [call_types].
"""

import re
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from rater.sources.numbers import is_digits
from rater.sources.parties import Parties, Sides, check_rules, disposition_of
from rater.sources.profile import SourceProfile
from rater.sources.record import (
    BILLABLE_MS_MAX,
    INBOUND_TYPES,
    NotBilled,
    SourceRecord,
    Unusable,
    record_id,
    words,
)
from rater.sources.rows import Rows, Values

DOCUMENTED = words(
    """cdrRecordType globalCallID_callManagerId globalCallID_callId origLegCallIdentifier dateTimeOrigination
    origNodeId origSpan origIpAddr callingPartyNumber callingPartyUnicodeLoginUserID origCause_location
    origCause_value origPrecedenceLevel origMediaTransportAddress_IP origMediaTransportAddress_Port
    origMediaCap_payloadCapability origMediaCap_maxFramesPerPacket origMediaCap_g723BitRate origVideoCap_Codec
    origVideoCap_Bandwidth origVideoCap_Resolution origVideoTransportAddress_IP origVideoTransportAddress_Port
    origRSVPAudioStat origRSVPVideoStat destLegIdentifier destNodeId destSpan destIpAddr originalCalledPartyNumber
    finalCalledPartyNumber finalCalledPartyUnicodeLoginUserID destCause_location destCause_value destPrecedenceLevel
    destMediaTransportAddress_IP destMediaTransportAddress_Port destMediaCap_payloadCapability
    destMediaCap_maxFramesPerPacket destMediaCap_g723BitRate destVideoCap_Codec destVideoCap_Bandwidth
    destVideoCap_Resolution destVideoTransportAddress_IP destVideoTransportAddress_Port destRSVPAudioStat
    destRSVPVideoStat dateTimeConnect dateTimeDisconnect lastRedirectDn pkid originalCalledPartyNumberPartition
    callingPartyNumberPartition finalCalledPartyNumberPartition lastRedirectDnPartition duration origDeviceName
    destDeviceName origCallTerminationOnBehalfOf destCallTerminationOnBehalfOf origCalledPartyRedirectOnBehalfOf
    lastRedirectRedirectOnBehalfOf origCalledPartyRedirectReason lastRedirectRedirectReason destConversationId
    globalCallId_ClusterID joinOnBehalfOf comment authCodeDescription authorizationLevel clientMatterCode
    origDTMFMethod destDTMFMethod callSecuredStatus origConversationId origMediaCap_Bandwidth destMediaCap_Bandwidth
    authorizationCodeValue outpulsedCallingPartyNumber outpulsedCalledPartyNumber origIpv4v6Addr destIpv4v6Addr
    origVideoCap_Codec_Channel2 origVideoCap_Bandwidth_Channel2 origVideoCap_Resolution_Channel2
    origVideoTransportAddress_IP_Channel2 origVideoTransportAddress_Port_Channel2 origVideoChannel_Role_Channel2
    destVideoCap_Codec_Channel2 destVideoCap_Bandwidth_Channel2 destVideoCap_Resolution_Channel2
    destVideoTransportAddress_IP_Channel2 destVideoTransportAddress_Port_Channel2 destVideoChannel_Role_Channel2
    IncomingProtocolID IncomingProtocolCallRef OutgoingProtocolID OutgoingProtocolCallRef currentRoutingReason
    origRoutingReason lastRedirectingRoutingReason huntPilotPartition huntPilotDN calledPartyPatternUsage
    IncomingICID IncomingOrigIOI IncomingTermIOI OutgoingICID OutgoingOrigIOI OutgoingTermIOI
    outpulsedOriginalCalledPartyNumber outpulsedLastRedirectingNumber"""
)
FIRST_COLUMN = DOCUMENTED[0]
SQL_TYPE = re.compile(r"(?:INTEGER|BIGINT|STRING|UNIQUEIDENTIFIER|VARCHAR\([0-9]+\)|CHAR\([0-9]+\))", re.IGNORECASE)
NEEDED = words(
    """cdrRecordType pkid dateTimeOrigination dateTimeConnect dateTimeDisconnect duration callingPartyNumber
    originalCalledPartyNumber finalCalledPartyNumber origDeviceName destDeviceName"""
)
CALL, QUALITY = "1", "2"
RECORDING = "354"
BY_RECORDING = "27"
SIGNED_32_MAX = 2_147_483_647


class CucmRow(Values):
    """One row by column name; a column that the file does not have is empty."""

    __slots__ = ()

    def count(self, name: str) -> int:
        """A whole number; empty is 0, as in the fields that a release leaves out."""
        text = self.get(name)
        if not text:
            return 0
        digits = text.removeprefix("-")
        if not is_digits(digits) or len(digits) > 12:
            raise Unusable("bad_field", f"{name}: not a whole number")
        return int(text)


class Cucm:
    """Reads the CDR and CMR files of one cluster."""

    def __init__(self, profile: SourceProfile) -> None:
        self.profile = profile
        check_rules(profile, ("trunks", "numbers", "column"))
        table = profile.family_table()
        self.by_position = table.choice("without_names", ("reject", "documented"), "reject") == "documented"
        self.called_in = table.choice(
            "called_in", ("originalCalledPartyNumber", "finalCalledPartyNumber"), "originalCalledPartyNumber"
        )
        self.called = table.choice("called", ("outpulsed", "finalCalledPartyNumber"), "outpulsed") == "outpulsed"
        table.done()
        if not (profile.tenants.every or profile.tenants.column):
            raise profile.refuse(
                "[tenants] column", "nothing", "a CUCM column, for example callingPartyNumberPartition"
            )
        names = ("callingPartyNumber", "finalCalledPartyNumber", self.called_in, profile.call_types.column)
        self.parties = Parties(profile, names)

    def read(self, stream: BinaryIO) -> Iterator[SourceRecord]:
        rows = Rows(stream, ",", None)
        places: dict[str, int] = {}
        lacking = "no line of names came before this row; see without_names in the profile"
        for row in rows:
            values = row.values
            if is_names(row.raw):
                values = rows.parse(row.raw)
            if values is None:
                yield SourceRecord(row.raw, None, row.reason, row.fault)
            elif values[0] == FIRST_COLUMN:
                rows.width = len(values)
                places = {name: place for place, name in reversed(list(enumerate(values)))}
                lacking = self.lacking(places)
                yield SourceRecord(row.raw, None, "bad_source_row" if lacking else "", lacking, "header")
            elif values[0][:1].isalpha() and all(SQL_TYPE.fullmatch(value) for value in values):
                if not places:
                    rows.width = len(values)
                    if self.by_position:
                        places = dict(zip(DOCUMENTED, range(len(values)), strict=False))
                        lacking = self.lacking(places)
                yield SourceRecord(row.raw, None, kind="header")
            elif values[0] == QUALITY:
                yield SourceRecord(row.raw, None, "", "a record of call quality, not of a call", "leg")
            elif lacking:
                yield SourceRecord(row.raw, None, "bad_source_row", lacking)
            else:
                yield self.record(row.raw, CucmRow(places, values))

    def lacking(self, places: Mapping[str, int]) -> str:
        """What the line of names lacks for this profile; nothing for a file of call quality, which holds no calls."""
        if "numberPacketsSent" in places:
            return ""
        wanted = [*NEEDED, self.profile.users.column, self.profile.users.column_in, self.profile.call_types.column]
        if not self.profile.tenants.every:
            wanted.append(self.profile.tenants.column)
        missing = [name for name in wanted if name and name not in places]
        return f"the line of names lacks {', '.join(missing)}" if missing else ""

    def record(self, raw: bytes, row: CucmRow) -> SourceRecord:
        try:
            return SourceRecord(raw, self.call(row))
        except Unusable as fault:
            return SourceRecord(raw, None, fault.reason, fault.detail)
        except NotBilled as why:
            return SourceRecord(raw, None, "", why.detail, "leg")

    def call(self, row: CucmRow) -> bytes:
        if row.get(FIRST_COLUMN) != CALL:
            raise Unusable("bad_field", f"{FIRST_COLUMN}: neither 1 (call) nor 2 (quality)")
        if is_recording(row):
            raise NotBilled("a leg to a recorder")
        settled = self.parties.settle(self.sides(row))
        pkid = row.get("pkid")
        if not pkid:
            raise Unusable("missing_field", "pkid: is empty, so nothing names this record")
        times = _, answer_ms, _ = self.times(row)
        seconds = row.count("duration")
        if not 0 <= seconds * 1000 <= BILLABLE_MS_MAX:
            raise Unusable("bad_field", f"duration: {seconds} s; expected 0 to 86400 s (24 h)")
        inbound = settled.call_type in INBOUND_TYPES
        return self.parties.call_record(
            record_id(self.profile.switch, pkid),
            settled,
            self.parties.whose(row.get, settled.call_type),
            times,
            seconds * 1000,
            "answered" if answer_ms is not None else self.disposition(row),
            call_id=call_id(row),
            forwarded_by=None if inbound else self.forwarded_by(row),
        )

    def sides(self, row: CucmRow) -> Sides:
        dialled = row.get("finalCalledPartyNumber") or row.get("originalCalledPartyNumber")
        left = row.get("outpulsedCalledPartyNumber") if self.called else ""
        calling = row.get("callingPartyNumber")
        column = self.profile.call_types.column
        return Sides(
            caller=row.get("outpulsedCallingPartyNumber") or calling,
            caller_in=calling,
            called=left or dialled,
            reached=row.get(self.called_in),
            trunk_in=row.get("origDeviceName"),
            trunk_out=row.get("destDeviceName"),
            word=row.get(column) if column else "",
            dialled=not left,
            also_dialled=row.get("originalCalledPartyNumber"),
        )

    def forwarded_by(self, row: CucmRow) -> str | None:
        """The number that sent the call on, when it was not the one first dialled."""
        redirected = row.get("origCalledPartyRedirectReason") not in ("", "0")
        return row.get("lastRedirectDn") or None if redirected else None

    def times(self, row: CucmRow) -> tuple[int, int | None, int]:
        start = self.epoch(row, "dateTimeOrigination")
        answer = self.epoch(row, "dateTimeConnect")
        end = self.epoch(row, "dateTimeDisconnect")
        if start is None or end is None:
            name = "dateTimeOrigination" if start is None else "dateTimeDisconnect"
            raise Unusable("missing_field", f"{name}: is empty or 0")
        return start, answer, end

    def epoch(self, row: CucmRow, name: str) -> int | None:
        seconds = row.count(name)
        if not 0 <= seconds <= 2 * SIGNED_32_MAX:
            raise Unusable("bad_field", f"{name}: not a time in epoch seconds")
        return seconds * 1000 if seconds else None

    def disposition(self, row: CucmRow) -> str:
        """By the cause of whichever side gave one. Cisco's own large values say nothing about the called side."""
        return disposition_of(row.count("destCause_value") or row.count("origCause_value"))


def is_names(raw: bytes) -> bool:
    return raw.lstrip(b'"').startswith(FIRST_COLUMN.encode())


def is_recording(row: CucmRow) -> bool:
    """Built-in bridge to a recorder: redirected because of recording (354), or on behalf of it (27)."""
    return (
        row.get("origCalledPartyRedirectReason") == RECORDING
        or row.get("lastRedirectRedirectReason") == RECORDING
        or row.get("joinOnBehalfOf") == BY_RECORDING
    )


def call_id(row: CucmRow) -> str:
    """cluster1:2:91377; the numbers begin again after a node is rebuilt, so it groups legs and identifies nothing."""
    parts = (
        row.get("globalCallId_ClusterID"),
        row.get("globalCallID_callManagerId"),
        row.get("globalCallID_callId"),
    )
    return ":".join(part for part in parts if part)
