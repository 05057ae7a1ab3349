"""3GPP TS 32.291: the messages of converged charging (Nchf) for voice, put together to calls.

A network function opens a charging session, reports used time in containers, rating group by rating group, and releases
it. What each message reports adds up; messages are numbered, so that a repetition is counted once and a gap is seen: a
call is complete with its release and every number before it. The session's name is where the profile says, since what
is unique differs from network to network. Whole seconds per container are what the network measured and what is billed.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, BinaryIO, NamedTuple

from rater.sources.assembly import AssembledSource, Assembly, read_limits
from rater.sources.objects import Objects
from rater.sources.parties import Parties, Settled, Sides, check_rules, uri_number
from rater.sources.parts import Part
from rater.sources.profile import SourceProfile
from rater.sources.record import (
    BILLABLE_MS_MAX,
    TOLERANCE_MS,
    NotBilled,
    SourceRecord,
    Unusable,
    canonical_call,
    record_id,
    shown,
)
from rater.sources.times import instant_ms

CREATE, UPDATE, RELEASE = "create", "update", "release"
OPERATIONS = {
    "create": CREATE,
    "initial": CREATE,
    "update": UPDATE,
    "release": RELEASE,
    "termination": RELEASE,
    "terminate": RELEASE,
}
ROLES = {"MO": "MO", "MT": "MT", "ORIGINATING": "MO", "TERMINATING": "MT", "FORWARDING": "FORWARDING"}
CALLER = "iMSChargingInformation.callingPartyAddresses"
CALLEE = "iMSChargingInformation.calledPartyAddress"
MSISDN = "msisdn-"
CALL_ID_BYTES_MAX = 128
SEQUENCE_MAX = 2**32


class Message(NamedTuple):
    """One request: its values by dotted path, first in the body, then in what was wrapped around it."""

    body: Mapping[str, Any]
    around: Mapping[str, Any]

    def value(self, path: str) -> Any:
        for place in (self.body, self.around):
            found: Any = place
            for name in path.split("."):
                found = found.get(name) if isinstance(found, dict) else None
            if found is not None:
                return found
        return None

    def get(self, path: str) -> str:
        """Text; of a list its first value, since 32.291 lists the addresses of one party; empty when absent."""
        value = self.value(path)
        if isinstance(value, list):
            value = value[0] if value else None
        if value is None:
            return ""
        if type(value) is int:
            return str(value)
        if not isinstance(value, str):
            raise Unusable("bad_field", f"{path}: found {type(value).__name__}; expected text")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Unusable("bad_field", f"{path}: bytes that are not UTF-8; expected UTF-8 text") from None
        return value

    def needed(self, path: str) -> str:
        value = self.get(path)
        if not value:
            raise Unusable("missing_field", f"{path}: is absent or empty")
        return value

    def whole(self, path: str) -> int:
        value = self.value(path)
        if value is None:
            raise Unusable("missing_field", f"{path}: is absent")
        return whole(path, value, SEQUENCE_MAX)


def whole(name: str, value: Any, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise Unusable("bad_field", f"{name}: found {type(value).__name__}; expected a whole number from 0 to {most}")
    return value


class Nchf(AssembledSource):
    """Reads the messages that one charging function was sent."""

    def __init__(self, profile: SourceProfile) -> None:
        table = profile.family_table()
        self.session = table.texts("session", "a list of paths, for example ['chargingId']")
        self.caller = table.text("caller", "the path of the calling party", CALLER)
        self.callee = table.text("callee", "the path of the called party", CALLEE)
        self.create_is_answer = table.choice("create", ("answer", "invite")) == "answer"
        self.times_win = table.choice("rounding", ("reject", "times"), "reject") == "times"
        groups = table.data.get("rating_groups", [])
        table.asked.add("rating_groups")
        if not isinstance(groups, list) or not all(type(group) is int and group >= 0 for group in groups):
            raise table.refuse("rating_groups", "a list of whole numbers, for example [100]")
        self.groups = frozenset(groups)
        limits = read_limits(table)
        table.done()
        if not self.session:
            raise profile.refuse(
                "[3gpp] session", "nothing", "the paths that name a session, for example ['chargingId']"
            )
        if profile.zone:
            raise profile.refuse("zone", repr(profile.zone), "nothing: the instants of 32.291 carry their zone")
        check_rules(profile, ("column", "numbers"), "tenantIdentifier")
        self.profile = profile
        self.kind = profile.call_types.column
        self.parties = Parties(profile, (self.caller, self.callee, self.callee, self.kind), "tenantIdentifier")
        columns = (self.parties.tenant_column, profile.users.column, profile.users.column_in, self.kind)
        self.columns = tuple(dict.fromkeys(name for name in columns if name))
        self.assembly = Assembly(self, limits, profile.source)

    def read(self, stream: BinaryIO) -> Iterator[SourceRecord]:
        for piece in Objects(stream):
            if piece.value is None:
                yield SourceRecord(piece.raw, None, piece.reason, piece.fault)
                continue
            try:
                part = self.part(piece.raw, piece.value)
            except Unusable as fault:
                yield SourceRecord(piece.raw, None, fault.reason, fault.detail)
            except NotBilled as why:
                yield SourceRecord(piece.raw, None, "", why.detail, "leg")
            else:
                yield from self.assembly.add(part)

    # One message.

    def part(self, raw: bytes, value: dict[str, Any]) -> Part:
        body = value.get("body")
        message = Message(body if isinstance(body, dict) else value, value)
        if message.value("oneTimeEvent") is True:
            raise NotBilled("a one-time event, which reports no time of a session")
        named = [message.needed(path) for path in self.session]
        at_ms = instant_ms("invocationTimeStamp", message.needed("invocationTimeStamp"))
        sequence = message.whole("invocationSequenceNumber")
        used, is_final = self.used(message)
        operation = self.operation(message, used, is_final)
        facts: dict[str, Any] = {
            "operation": operation,
            "sequence": sequence,
            "at": at_ms,
            "named": named,
            "used": used,
            "caller": message.get(self.caller) or message.get("subscriberIdentifier"),
            "callee": message.get(self.callee),
            "columns": {name: message.get(name) for name in self.columns},
        }
        key = "\n".join(named)
        return Part(key, f"{sequence:010d}", at_ms, raw, facts, opens=operation == CREATE)

    def operation(self, message: Message, used: list[list[int]], is_final: bool) -> str:
        """By its word; where nothing says so, FINAL is the release and a message that reports nothing the creation."""
        word = message.around.get("op")
        if word is None:
            return RELEASE if is_final else UPDATE if used else CREATE
        found = OPERATIONS.get(word) if isinstance(word, str) else None
        if found is None:
            raise Unusable("bad_field", "op: expected create, update or release")
        return found

    def used(self, message: Message) -> tuple[list[list[int]], bool]:
        """[rating group, number, seconds] of each container with a time, and whether one of them is the last."""
        found: list[list[int]] = []
        units = message.value("multipleUnitUsage") or []
        final = has_final(message.value("triggers"))
        for unit in listed("multipleUnitUsage", units):
            group = whole("ratingGroup", unit.get("ratingGroup"), SEQUENCE_MAX)
            for container in listed("usedUnitContainer", unit.get("usedUnitContainer") or []):
                final = final or has_final(container.get("triggers"))
                number = whole("localSequenceNumber", container.get("localSequenceNumber"), SEQUENCE_MAX)
                if container.get("time") is not None:
                    found.append([group, number, whole("time", container["time"], BILLABLE_MS_MAX // 1000)])
        return found, final

    # One call.

    def is_complete(self, parts: Sequence[Part]) -> bool:
        return not self.lacks(parts)

    def lacks(self, parts: Sequence[Part]) -> str:
        operations = {part.facts["operation"] for part in parts}
        if CREATE not in operations:
            return "its first message (create) never came"
        if RELEASE not in operations:
            return "its last message (release) never came"
        numbers = sorted(part.facts["sequence"] for part in parts)
        gaps = sum(after - before - 1 for before, after in pairwise(numbers))
        return f"{gaps} of its messages, by their numbers, never came" if gaps else ""

    def call(self, parts: Sequence[Part]) -> tuple[str, bytes]:
        messages = sorted((part.facts for part in parts), key=lambda facts: int(facts["sequence"]))
        first, last = messages[0], messages[-1]
        if [facts["operation"] for facts in messages].count(CREATE) != 1 or first["operation"] != CREATE:
            raise Unusable(
                "bad_field", "invocationSequenceNumber: the creation of the session is not its first message"
            )
        if [facts["operation"] for facts in messages].count(RELEASE) != 1 or last["operation"] != RELEASE:
            raise Unusable("bad_field", "invocationSequenceNumber: the release of the session is not its last message")
        times = [int(facts["at"]) for facts in messages]
        if times != sorted(times):
            raise Unusable("bad_times", "invocationTimeStamp: does not follow invocationSequenceNumber")
        if any(facts["named"] != first["named"] for facts in messages):
            raise Unusable("bad_field", "session: two sessions under one name")
        sides = self.sides(first)
        used_ms, containers = self.used_ms(messages)
        start_ms, end_ms = times[0], times[-1]
        answer_ms, billable_ms = self.talked(start_ms, end_ms, used_ms, containers)

        def get(name: str) -> str:
            found: str = first["columns"].get(name, "")
            return found

        name = record_id(self.profile.switch, *first["named"], str(start_ms))
        call_id = first["named"][0] if len(first["named"]) == 1 else ""
        call = canonical_call(
            record_id=name,
            tenant=self.parties.tenant(get),
            call_type=sides.call_type,
            user=self.parties.user(get, sides.call_type),
            caller=sides.caller,
            callee=sides.callee,
            start_ms=start_ms,
            answer_ms=answer_ms,
            end_ms=end_ms,
            billable_ms=billable_ms,
            disposition="answered" if billable_ms else "unknown",
            source=self.profile.source,
            switch=self.profile.switch,
            call_id=call_id if len(call_id.encode()) <= CALL_ID_BYTES_MAX else None,
        )
        return name, call

    def sides(self, first: Mapping[str, Any]) -> Settled:
        caller, callee = address(first["caller"]), address(first["callee"])
        word = first["columns"].get(self.kind, "")
        return self.parties.settle(
            Sides(caller=caller, caller_in=caller, called=callee, reached=callee, word=ROLES.get(word, word))
        )

    def used_ms(self, messages: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
        """Milliseconds used and the containers that make them up, of the rating groups that are billed."""
        seconds: dict[tuple[int, int], int] = {}
        for facts in messages:
            for group, number, used_s in facts["used"]:
                if self.groups and group not in self.groups:
                    continue
                if seconds.setdefault((group, number), used_s) != used_s:
                    raise Unusable("conflict", "localSequenceNumber: one container was reported with two times")
        found = {group for group, _ in seconds}
        if len(found) > 1 and not self.groups:
            raise Unusable("bad_field", f"ratingGroup: {len(found)} groups report time; rating_groups says which count")
        if not seconds and any(facts["used"] for facts in messages):
            raise Unusable("bad_field", "ratingGroup: only groups that rating_groups does not name report time")
        return sum(seconds.values()) * 1000, len(seconds)

    def talked(self, start_ms: int, end_ms: int, used_ms: int, containers: int) -> tuple[int | None, int]:
        """Answer and billed time. The network rounds each container up, so the sum may exceed the time between."""
        if used_ms == 0:
            return None, 0
        if not self.create_is_answer:
            return max(start_ms, end_ms - used_ms), used_ms
        between_ms = end_ms - start_ms
        excess_ms = used_ms - between_ms
        if self.times_win and TOLERANCE_MS < excess_ms <= containers * 1000:
            return start_ms, between_ms
        return start_ms, used_ms


def listed(name: str, value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise Unusable("bad_field", f"{name}: found {shown(type(value).__name__)}; expected a list of objects")
    return value


def has_final(triggers: Any) -> bool:
    if not isinstance(triggers, list):
        return False
    return any(isinstance(trigger, dict) and trigger.get("triggerType") == "FINAL" for trigger in triggers)


def address(text: str) -> str:
    """A number out of a SIP or TEL URI or a GPSI: msisdn-442079460018 -> +442079460018"""
    return "+" + text[len(MSISDN) :] if text.startswith(MSISDN) else uri_number(text)
