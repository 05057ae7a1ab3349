"""Microsoft Graph's two call logs: calls of calling plans (pstnCallLogRow) and of Direct Routing (directRoutingLogRow).

Both come as JSON with instants in UTC and an id that names the row for ever. Money in these rows is what Microsoft
took, not what we charge; it is not read. The log measures whole seconds: `duration` is what is billed.
"""

from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from rater.sources.numbers import e164, emergency_callee, is_digits, is_withheld, unmasked
from rater.sources.objects import Objects
from rater.sources.profile import SourceProfile
from rater.sources.record import (
    BILLABLE_MS_MAX,
    CALL_TYPES,
    INBOUND_TYPES,
    TOLERANCE_MS,
    NotBilled,
    SourceRecord,
    Unusable,
    canonical_call,
    check_text,
    needs_user,
    shown,
)
from rater.sources.times import instant_ms

USER_COLUMNS = ("userId", "userPrincipalName")
NEVER = "0001-01-01"
BYOT_TYPES = {
    "ByotIn": "dr_in",
    "ByotOut": "dr_out",
    "ByotOutUserConf": "dr_out_user_conf",
    "ByotOutUserForwarding": "dr_out_user_forwarding",
    "ByotOutUserTransfer": "dr_out_user_transfer",
    "ByotInUcap": "dr_in_bot",
    "ByotOutUcap": "dr_out_bot",
}
SIP_DISPOSITIONS = {
    408: "no_answer",
    480: "no_answer",
    486: "busy",
    487: "cancelled",
    503: "congestion",
    600: "busy",
}


class GraphRow(NamedTuple):
    """Typed reading of one row; each read names the field when it is not what Graph promises."""

    values: dict[str, Any]

    def text(self, name: str) -> str:
        """The text, empty when absent or null."""
        value = self.values.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise Unusable("bad_field", f"{name}: found {type(value).__name__}; expected text")
        return value

    def needed(self, name: str) -> str:
        value = self.text(name)
        if not value:
            raise Unusable("missing_field", f"{name}: is absent or empty")
        return value

    def whole(self, name: str) -> int:
        value = self.values.get(name)
        if value is None:
            raise Unusable("missing_field", f"{name}: is absent or null")
        if type(value) is not int:
            raise Unusable("bad_field", f"{name}: found {type(value).__name__}; expected a whole number")
        return value

    def instant(self, name: str) -> int | None:
        """UTC milliseconds; None when absent or the year-1 stamp that stands for never."""
        value = self.text(name)
        return None if not value or value.startswith(NEVER) else instant_ms(name, value)

    def instant_needed(self, name: str) -> int:
        value = self.instant(name)
        if value is None:
            raise Unusable("missing_field", f"{name}: is absent or says never")
        return value


def billable(duration_s: int) -> int:
    if not 0 <= duration_s <= BILLABLE_MS_MAX // 1000:
        raise Unusable("bad_field", f"duration: {duration_s} s; expected 0 to 86400 (24 h)")
    return duration_s * 1000


class GraphSource:
    """What both logs share: the frame, tenant, user and numbers."""

    def __init__(self, profile: SourceProfile) -> None:
        table = profile.family_table()
        self.masked_callee = table.choice("masked_callee", ("reject", "cut"), "reject")
        table.done()
        self.profile = profile
        self.user_column = profile.users.column or USER_COLUMNS[0]
        if self.user_column not in USER_COLUMNS:
            raise profile.refuse("[users] column", repr(self.user_column), "one of " + ", ".join(USER_COLUMNS))
        if profile.users.column_in:
            raise profile.refuse("[users] column_in", repr(profile.users.column_in), "nothing: Graph names the user")
        if not profile.tenants.every:
            raise profile.refuse("tenant", "nothing", "the tenant whose export this is, for example tenant = 'contoso'")
        if profile.zone:
            raise profile.refuse("zone", repr(profile.zone), "nothing: Graph writes UTC and says so")
        if profile.call_types.by:
            raise profile.refuse("[call_types] by", repr(profile.call_types.by), "nothing: Graph names the call type")

    def read(self, stream: BinaryIO) -> Iterator[SourceRecord]:
        for piece in Objects(stream):
            if piece.value is None:
                yield SourceRecord(piece.raw, None, piece.reason, piece.fault)
            else:
                yield self.record(piece.raw, GraphRow(piece.value))

    def record(self, raw: bytes, row: GraphRow) -> SourceRecord:
        try:
            return SourceRecord(raw, self.call(row))
        except Unusable as fault:
            return SourceRecord(raw, None, fault.reason, fault.detail)
        except NotBilled as why:
            return SourceRecord(raw, None, "", why.detail, "leg")

    def call(self, row: GraphRow) -> bytes:
        raise NotImplementedError

    def record_id(self, row: GraphRow) -> str:
        return row.needed("id")

    def call_type(self, row: GraphRow, names: dict[str, str]) -> str:
        """Microsoft's word as ours; the profile may add words that Microsoft has added."""
        word = row.needed("callType")
        found = self.profile.call_types.known.get(word) or names.get(word) or word
        if found == "skip":
            raise NotBilled("a call type that is not billed, by [call_types.map]")
        if found not in CALL_TYPES:
            raise Unusable(
                "bad_field", f"callType: {shown(word)} is not known; a line under [call_types.map] can say what it is"
            )
        return found

    def user(self, row: GraphRow, call_type: str) -> str | None:
        users = self.profile.users
        text = row.text(self.user_column)
        if text:
            check_text(self.user_column, text)
        found = users.known.get(text) or (text if users.unmapped == "same" else "")
        if not found and needs_user(call_type):
            why = "is not under [users.map]" if text else "is empty"
            raise Unusable("missing_field", f"user: {self.user_column} {why}, and {call_type} needs a user")
        return found or None

    def caller(self, row: GraphRow) -> str | None:
        """The caller, cut where its masking begins; None when withheld or no number at all."""
        text = row.text("callerNumber")
        if "*" in text:
            return unmasked(text)
        return None if is_withheld(text) else e164(text, self.profile.numbers, dialled=False)

    def callee(self, row: GraphRow, call_type: str, *, cut: bool) -> str:
        text = row.needed("calleeNumber")
        if call_type == "dr_emergency_out" and is_digits(text) and 3 <= len(text) <= 15:
            return "+" + text
        emergency = None if call_type in INBOUND_TYPES else emergency_callee(text, self.profile.numbers)
        if emergency is not None:
            return emergency
        if "*" not in text:
            number = e164(text, self.profile.numbers, dialled=False)
            if number is None:
                raise Unusable("bad_field", "calleeNumber: not '+' and 3 to 15 digits; no rule under [numbers] helps")
            return number
        known = unmasked(text)
        if not cut:
            raise Unusable("bad_field", "calleeNumber: its last digits are masked with '*'; its rate cannot be found")
        if known is None:
            raise Unusable("bad_field", "calleeNumber: masked with '*' and fewer than 3 digits are left")
        return known


class GraphPstn(GraphSource):
    """Calls of calling plans. The log has no ringing: a call begins with its answer."""

    def call(self, row: GraphRow) -> bytes:
        call_type = self.call_type(row, {})
        if call_type not in INBOUND_TYPES and emergency_callee(row.text("calleeNumber"), self.profile.numbers):
            call_type = "emergency"
        start_ms, end_ms = row.instant_needed("startDateTime"), row.instant_needed("endDateTime")
        billable_ms = billable(row.whole("duration"))
        connected = billable_ms > 0
        return canonical_call(
            record_id=self.record_id(row),
            tenant=self.profile.tenants.every,
            call_type=call_type,
            user=self.user(row, call_type),
            caller=self.caller(row),
            callee=self.callee(row, call_type, cut=self.masked_callee == "cut"),
            start_ms=start_ms,
            answer_ms=start_ms if connected else None,
            end_ms=end_ms,
            billable_ms=billable_ms,
            disposition="answered" if connected else "unknown",
            source=self.profile.source,
            switch=self.profile.switch,
            call_id=row.text("callId"),
            conference_id=row.text("conferenceId"),
        )


class GraphDirectRouting(GraphSource):
    """Calls over the customer's own trunks. Never charged by us, so a masked number is cut and kept."""

    def call(self, row: GraphRow) -> bytes:
        call_type = self.call_type(row, BYOT_TYPES)
        successful = row.values.get("successfulCall")
        if not isinstance(successful, bool):
            raise Unusable("missing_field", "successfulCall: expected true or false")
        start_ms, answer_ms, end_ms, billable_ms = self.connected(row) if successful else self.failed(row)
        return canonical_call(
            record_id=self.record_id(row),
            tenant=self.profile.tenants.every,
            call_type=call_type,
            user=self.user(row, call_type),
            caller=self.caller(row),
            callee=self.callee(row, call_type, cut=True),
            start_ms=start_ms,
            answer_ms=answer_ms,
            end_ms=end_ms,
            billable_ms=billable_ms,
            disposition="answered" if successful else sip_disposition(row.whole("finalSipCode")),
            source=self.profile.source,
            switch=row.text("trunkFullyQualifiedDomainName") or self.profile.switch,
            call_id=row.text("correlationId"),
        )

    def connected(self, row: GraphRow) -> tuple[int, int | None, int, int]:
        """Start, answer, end, billable. Where `duration` counts from the invite, the talking time is end - start."""
        answer_ms, end_ms = row.instant_needed("startDateTime"), row.instant_needed("endDateTime")
        invite_ms = row.instant("inviteDateTime")
        start_ms = answer_ms if invite_ms is None else invite_ms
        billable_ms = billable(row.whole("duration"))
        talked_ms = end_ms - answer_ms
        if abs(billable_ms - talked_ms) > TOLERANCE_MS >= abs(billable_ms - (end_ms - start_ms)):
            billable_ms = talked_ms
        return start_ms, answer_ms, end_ms, billable_ms

    def failed(self, row: GraphRow) -> tuple[int, None, int, int]:
        """A failed call has no answer; `startDateTime` is then the invite or the failure once more."""
        start_ms = row.instant("inviteDateTime")
        tried_ms = row.instant("startDateTime")
        end_ms = row.instant("failureDateTime") or row.instant("endDateTime") or tried_ms or start_ms
        start_ms = tried_ms if start_ms is None else start_ms
        start_ms = end_ms if start_ms is None else start_ms
        if start_ms is None or end_ms is None:
            raise Unusable("missing_field", "inviteDateTime and failureDateTime: both are absent or say never")
        return start_ms, None, end_ms, 0


def sip_disposition(code: int) -> str:
    """486 -> busy, 487 -> cancelled, 503 -> congestion; any other refusal -> failed."""
    found = SIP_DISPOSITIONS.get(code)
    if found is not None:
        return found
    return "failed" if 300 <= code <= 699 else "unknown"
