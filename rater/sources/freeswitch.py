"""What the three ways in which FreeSWITCH writes a call have in common: its variables, its causes, its two legs.

A record is asked for channel variables by name (`Getter`); how they are found in JSON, CSV or an event is the business
of the module that reads it. Each leg is a record. One of them is billed, as a rule the one without an originator, by
microseconds where they are written; `billsec` is the difference of two truncated seconds and may be one too many.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from rater.sources.numbers import is_digits
from rater.sources.parties import Getter, Parties, Sides, check_rules
from rater.sources.profile import SourceProfile, Table
from rater.sources.record import (
    BILLABLE_MS_MAX,
    DISPOSITIONS,
    NotBilled,
    SourceRecord,
    Unusable,
    record_id,
    shown,
    words,
)
from rater.sources.times import WallClock, settle, zone_named

# How a conversation can end, and how an attempt that never became one. The first say `answered` when there was an
# answer; the second never do: a dialplan that answered before it failed to reach anyone has not connected the caller.
ENDINGS: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(words("NORMAL_CLEARING ALLOTTED_TIMEOUT NORMAL_UNSPECIFIED"), "no_answer")
    | dict.fromkeys(words("BLIND_TRANSFER ATTENDED_TRANSFER MANAGER_REQUEST BOWOUT"), "cancelled")
    | dict.fromkeys(words("RECOVERY_ON_TIMER_EXPIRE MEDIA_TIMEOUT"), "no_answer")
    | dict.fromkeys(words("NETWORK_OUT_OF_ORDER NORMAL_TEMPORARY_FAILURE"), "congestion")
    | dict.fromkeys(words("SUCCESS NONE"), "unknown")
    | dict.fromkeys(words("PROTOCOL_ERROR INTERWORKING SYSTEM_SHUTDOWN CRASH SRTP_READ_ERROR"), "failed")
)
FAILURES: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(words("USER_BUSY BUSY_EVERYWHERE"), "busy")
    | dict.fromkeys(words("NO_ANSWER NO_USER_RESPONSE PROGRESS_TIMEOUT NO_PICKUP"), "no_answer")
    | dict.fromkeys(words("ORIGINATOR_CANCEL LOSE_RACE PICKED_OFF"), "cancelled")
    | dict.fromkeys(
        words("NORMAL_CIRCUIT_CONGESTION SWITCH_CONGESTION REQUESTED_CHAN_UNAVAIL PRE_EMPTED"), "congestion"
    )
    | dict.fromkeys(
        words(
            """UNALLOCATED_NUMBER NO_ROUTE_TRANSIT_NET NO_ROUTE_DESTINATION CHANNEL_UNACCEPTABLE CALL_AWARDED_DELIVERED
            SUBSCRIBER_ABSENT CALL_REJECTED NUMBER_CHANGED REDIRECTION_TO_NEW_DESTINATION EXCHANGE_ROUTING_ERROR
            DESTINATION_OUT_OF_ORDER INVALID_NUMBER_FORMAT FACILITY_REJECTED RESPONSE_TO_STATUS_ENQUIRY
            ACCESS_INFO_DISCARDED FACILITY_NOT_SUBSCRIBED OUTGOING_CALL_BARRED INCOMING_CALL_BARRED
            BEARERCAPABILITY_NOTAUTH BEARERCAPABILITY_NOTAVAIL SERVICE_UNAVAILABLE BEARERCAPABILITY_NOTIMPL
            CHAN_NOT_IMPLEMENTED FACILITY_NOT_IMPLEMENTED SERVICE_NOT_IMPLEMENTED INVALID_CALL_REFERENCE
            INCOMPATIBLE_DESTINATION INVALID_MSG_UNSPECIFIED MANDATORY_IE_MISSING MESSAGE_TYPE_NONEXIST WRONG_MESSAGE
            IE_NONEXIST INVALID_IE_CONTENTS WRONG_CALL_STATE MANDATORY_IE_LENGTH_ERROR USER_CHALLENGE
            USER_NOT_REGISTERED INVALID_GATEWAY GATEWAY_DOWN INVALID_URL INVALID_PROFILE DECLINE
            DOES_NOT_EXIST_ANYWHERE NOT_ACCEPTABLE UNWANTED NO_IDENTITY BAD_IDENTITY_INFO UNSUPPORTED_CERTIFICATE
            INVALID_IDENTITY STALE_DATE REJECT_ALL"""
        ),
        "failed",
    )
)
CALL_IDS = ("call_uuid", "originating_leg_uuid", "bleg_uuid", "signal_bond")
ORIGINATORS = ("originator", "originating_leg_uuid")
FIRST = "first_destination_number"
NEVER = ("1970-01-01", "1969-12-31", "0000-00-00")
UUID_OF_TIME = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-1([0-9a-f]{3})-[0-9a-f]{4}-[0-9a-f]{12}")
UUID_EPOCH_MS = 12_219_292_800_000  # uuids of version 1 count from 1582-10-15


class Settings(NamedTuple):
    """What every `[freeswitch]` table may say: where the numbers stand, and what a called leg that moved on is."""

    caller: str
    called: str
    called_in: str
    billed_leg: str
    transferred: str
    causes: Mapping[str, str]


class Leg(NamedTuple):
    """What names a record for ever, and which leg it is: called by another one now, or some time before."""

    switch: str
    id_parts: tuple[str, ...]
    called_now: bool
    called_once: bool


def read_settings(profile: SourceProfile, table: Table, called_in: str) -> Settings:
    causes = table.table("causes").mapping("a disposition: one of " + ", ".join(sorted(DISPOSITIONS)))
    for cause, disposition in causes.items():
        if disposition not in DISPOSITIONS:
            raise profile.refuse(
                f"[freeswitch.causes] {cause}", repr(disposition), "one of " + ", ".join(sorted(DISPOSITIONS))
            )
    return Settings(
        caller=table.text("caller", "the variable that holds the caller", "caller_id_number"),
        called=table.text("called", "the variable that holds the number called", "destination_number"),
        called_in=table.text("called_in", "the variable of the number that an inbound call reached", called_in),
        billed_leg=table.choice("billed_leg", ("a", "b"), "a"),
        transferred=table.choice("transferred", ("reject", "leg", "call"), "reject"),
        causes=causes,
    )


class Calls:
    """Makes call records of what FreeSWITCH says of a leg."""

    def __init__(self, profile: SourceProfile, settings: Settings, *, begins_with_answer: bool = False) -> None:
        check_rules(profile, ("column", "numbers"), "accountcode")
        if profile.call_types.by == "column" and not profile.call_types.column:
            raise profile.refuse("[call_types] column", "nothing", "a variable, for example 'context'")
        zone = zone_named(profile.zone) if profile.zone else None
        self.clock = WallClock(zone) if zone is not None else None
        self.profile = profile
        self.settings = settings
        self.begins_with_answer = begins_with_answer
        word = profile.call_types.column
        self.parties = Parties(profile, (settings.caller, settings.called, settings.called_in, word), "accountcode")

    def record(self, raw: bytes, get: Getter, leg: Leg) -> SourceRecord:
        try:
            return SourceRecord(raw, self.call(get, leg))
        except Unusable as fault:
            return SourceRecord(raw, None, fault.reason, fault.detail)
        except NotBilled as why:
            return SourceRecord(raw, None, "", why.detail, "leg")

    def call(self, get: Getter, leg: Leg) -> bytes:
        self.check_leg(leg)
        settings = self.settings
        sides = Sides(
            caller=get(settings.caller),
            caller_in=get(settings.caller),
            called=get(settings.called),
            reached=get(settings.called_in),
            word=get(self.profile.call_types.column) if self.profile.call_types.column else "",
            also_dialled=get(FIRST),
        )
        settled = self.parties.settle(sides)
        billable_ms = self.billable_ms(get)
        times = _, answer_ms, _ = self.times(get, billable_ms)
        return self.parties.call_record(
            record_id(self.profile.switch, *leg.id_parts),
            settled,
            self.parties.whose(get, settled.call_type),
            times,
            billable_ms,
            self.disposition(get, answer_ms is not None and billable_ms > 0),
            switch=leg.switch,
            call_id=next(filter(None, map(get, CALL_IDS)), None),
        )

    def check_leg(self, leg: Leg) -> None:
        if leg.called_once and not leg.called_now and self.settings.transferred != "call":
            if self.settings.transferred == "leg":
                raise NotBilled("a leg that was called and then transferred, by [freeswitch] transferred")
            raise Unusable(
                "bad_field",
                "originator: this leg was called by another and then went on through the dialplan; "
                "[freeswitch] transferred says whether such a leg is billed",
            )
        if leg.called_now and self.settings.billed_leg == "a":
            raise NotBilled("a B leg: another leg called it; [freeswitch] billed_leg is 'a'")
        if not leg.called_now and not leg.called_once and self.settings.billed_leg == "b":
            raise NotBilled("an A leg: no other leg called it; [freeswitch] billed_leg is 'b'")

    def disposition(self, get: Getter, talked: bool) -> str:
        cause = get("hangup_cause")
        known = self.settings.causes.get(cause)
        if known is not None:
            return known
        ending = ENDINGS.get(cause)
        if ending is not None:
            return "answered" if talked else ending
        failure = FAILURES.get(cause)
        if failure is not None:
            return failure
        if not cause:
            raise Unusable("missing_field", "hangup_cause: is empty")
        raise Unusable(
            "bad_field",
            f"hangup_cause: {shown(cause)} is not known; a line under [freeswitch.causes] can say what it is",
        )

    # When, and for how long.

    def billable_ms(self, get: Getter) -> int:
        """Finer digits are cut off: billusec 154550999 -> 154550."""
        for name, per_ms in (("billusec", 1000), ("billmsec", 1)):
            text = get(name)
            if text:
                return within_a_day(name, whole(name, text) // per_ms)
        text = get("billsec")
        if not text:
            raise Unusable("missing_field", "billusec, billmsec and billsec: all are absent or empty")
        return within_a_day("billsec", whole("billsec", text) * 1000)

    def times(self, get: Getter, billable_ms: int) -> tuple[int, int | None, int]:
        answers = self.instants(get, "answer")
        starts = answers if self.begins_with_answer else self.instants(get, "start")
        ends = self.instants(get, "end")
        if not starts:
            raise Unusable("missing_field", "start: is absent or says never")
        if not ends:
            raise Unusable("missing_field", "end: is absent or says never")
        duration = get("duration") if len(starts) + len(ends) > 2 or len(answers) > 1 else ""
        duration_ms = whole("duration", duration) * 1000 if duration else None
        return settle(starts, answers or (None,), ends, duration_ms, billable_ms, born_ms(get("uuid")))

    def instants(self, get: Getter, name: str) -> tuple[int, ...]:
        """What the switch says of this moment, from the finest form it wrote; empty for never."""
        text = get(name + "_uepoch")
        if text:
            us = whole(name + "_uepoch", text)
            return (us // 1000,) if us else ()
        text = get(name + "_epoch")
        if text:
            seconds = whole(name + "_epoch", text)
            return (seconds * 1000,) if seconds else ()
        text = get(name + "_stamp") if self.clock is not None else ""
        if not text or self.clock is None or text.startswith(NEVER):
            return ()
        found = self.clock.instants(name + "_stamp", text)
        if not found:
            raise Unusable(
                "bad_times", f"{name}_stamp: {text} does not exist in {self.profile.zone}, the clocks skip it"
            )
        return found


def whole(name: str, text: str) -> int:
    if len(text) <= 17 and is_digits(text):
        return int(text)
    raise Unusable("bad_field", f"{name}: {shown(text)}; expected a whole number")


def within_a_day(name: str, billable_ms: int) -> int:
    if billable_ms > BILLABLE_MS_MAX:
        raise Unusable("bad_field", f"{name}: {billable_ms // 1000} s is more than 86400 s (24 h)")
    return billable_ms


def born_ms(uuid: str) -> int | None:
    """When the channel was made, if its uuid is of the kind that says so (version 1)."""
    found = UUID_OF_TIME.fullmatch(uuid)
    if found is None:
        return None
    return int(found[3] + found[2] + found[1], 16) // 10_000 - UUID_EPOCH_MS
