"""Asterisk's call records as JSON: cdr_beanstalkd, the manager's Cdr event, and both modules for Kafka.

Two ways to name the fields (`Source`, `BillableSeconds`; `src`, `billsec`), one meaning, so the rules are those of the
CSV files. Which way it is can be seen in the record. Events of the channel log (CEL) and other manager events are
evidence, not calls. Where stamps carry milliseconds, the conversation is measured between them.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, BinaryIO

from rater.sources.asterisk import AsteriskCalls, Named
from rater.sources.asterisk_layouts import Settings, check_profile
from rater.sources.objects import Objects
from rater.sources.profile import SourceProfile
from rater.sources.record import BILLABLE_MS_MAX, SourceRecord, Unusable, record_id, shown

SPOKEN: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "accountcode": ("AccountCode",),
        "src": ("Source",),
        "dst": ("Destination",),
        "dcontext": ("DestinationContext",),
        "clid": ("CallerID",),
        "channel": ("Channel",),
        "dstchannel": ("DestinationChannel",),
        "lastapp": ("LastApplication",),
        "lastdata": ("LastData",),
        "start": ("StartTime",),
        "answer": ("AnswerTime",),
        "end": ("EndTime",),
        "duration": ("Duration",),
        "billsec": ("BillableSeconds", "Billsec"),
        "disposition": ("Disposition",),
        "amaflags": ("AMAFlags",),
        "uniqueid": ("UniqueID",),
        "userfield": ("UserField",),
        "linkedid": ("LinkedID",),
        "sequence": ("Sequence",),
    }
)
SHORT: Mapping[str, tuple[str, ...]] = MappingProxyType({"duration": ("duration", "durationsec")})
COUNTS = frozenset({"duration", "billsec", "sequence"})
CALL_EVENT = "Cdr"
SYSTEMS = ("SystemName", "EntityID")


class Fields:
    """One record by the names of the CSV columns, whichever names it came with; anything else by its own name."""

    __slots__ = ("spoken", "values")

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values
        self.spoken = "StartTime" in values

    def key(self, name: str) -> str:
        if not self.spoken and name != "duration":
            return name
        keys = (SPOKEN if self.spoken else SHORT).get(name, (name,))
        return keys[0] if keys[0] in self.values else keys[-1]

    def has(self, name: str) -> bool:
        return self.key(name) in self.values

    def get(self, name: str) -> str:
        """Text; a whole number as text. A short-named count that is text was overwritten by a variable of a dialplan."""
        key = self.key(name)
        value = self.values.get(key)
        if type(value) is str and name not in COUNTS and value.isascii():
            return value
        if value is None:
            return ""
        if type(value) is int and (name in COUNTS or name == "disposition"):
            return str(value)
        if not isinstance(value, str) or (name in COUNTS and not self.spoken):
            expected = "a whole number" if name in COUNTS else "text"
            raise Unusable("bad_field", f"{key}: found {type(value).__name__}; expected {expected}")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise Unusable("bad_field", f"{key}: bytes that are not UTF-8; expected UTF-8 text") from None
        return value


class AsteriskJson(AsteriskCalls):
    """Reads the messages of one Asterisk, or of several that name themselves in each record."""

    def __init__(self, profile: SourceProfile) -> None:
        table = profile.family_table()
        settings = Settings(
            columns=(),
            header=False,
            delimiter=",",
            linkedid_policy=table.choice("linkedid_policy", ("all", "first"), "all"),
            special_destination=table.choice("special_destination", ("reject", "skip", "lastdata"), "reject"),
            called_column_in=table.text("called_column_in", "the field of the number an inbound call reached", "dst"),
        )
        self.system = table.choice("system", ("", *SYSTEMS), "")
        table.done()
        super().__init__(profile, settings)
        check_profile(profile, settings)

    def read(self, stream: BinaryIO) -> Iterator[SourceRecord]:
        for piece in Objects(stream):
            if piece.value is None:
                yield SourceRecord(piece.raw, None, piece.reason, piece.fault)
            elif other := other_event(piece.value):
                yield SourceRecord(piece.raw, None, "", other, "event")
            else:
                yield self.record(piece.raw, Fields(piece.value))

    def check_leg(self, row: Named) -> None:
        if self.settings.linkedid_policy == "first":
            for name in ("uniqueid", "linkedid"):
                if not row.get(name):
                    raise Unusable("missing_field", f"{name}: is absent or empty; linkedid_policy = 'first' needs it")
        super().check_leg(row)

    def switch(self, row: Named) -> str:
        if not self.system:
            return super().switch(row)
        system = row.get(self.system)
        if not system:
            raise Unusable("missing_field", f"{self.system}: is absent or empty; [asterisk] system needs it")
        return system

    def record_id(self, row: Named) -> str:
        """What names the record in its CSV row too; of several Asterisks in one topic, behind the name of the one."""
        system = (self.switch(row),) if self.system else ()
        if not (row.get("uniqueid") or row.get("linkedid") or row.get("channel")):
            raise Unusable("missing_field", "uniqueid, linkedid and channel: nothing names this record")
        return record_id(self.profile.switch, *system, *self.id_parts(row))

    def billable_ms(self, row: Named) -> int:
        """`billsec` is the whole seconds of end - answer; with milliseconds in both stamps that can be had in full."""
        floor_ms = super().billable_ms(row)
        if floor_ms == 0 or "." not in row.get("answer") or "." not in row.get("end"):
            return floor_ms
        answers, ends = self.instants(row, "answer"), self.instants(row, "end")
        if len(answers) == len(ends) == 1 and 0 <= ends[0] - answers[0] - floor_ms < 1000:
            return min(ends[0] - answers[0], BILLABLE_MS_MAX)
        return floor_ms

    def instants(self, row: Named, name: str) -> tuple[int, ...]:
        text = row.get(name)
        if not self.profile.zone and len(text) == 19:
            raise Unusable("bad_field", f"{name}: has no zone, and the profile names none")
        return super().instants(row, name)


def other_event(values: dict[str, Any]) -> str:
    """What this is, when it is no call record; else empty."""
    event = values.get("Event", CALL_EVENT)
    if event != CALL_EVENT:
        return f"a manager event {shown(str(event))}" if isinstance(event, str) else ""
    if "EventName" in values and "EventTime" in values:
        return "an event of the channel log (CEL)"
    return ""
