"""OpenSIPS's accounting events: E_ACC_CDR of finished dialogs, or E_ACC_EVENT of single transactions.

They come as JSON-RPC (event_kafka, event_rabbitmq) or as their parameters alone. In a CDR `time` is the answer and
`created` the INVITE, both in whole seconds; `ms_duration` is what was measured and what is billed, `duration` its
ceiling. A dialog of several legs raises one CDR for each, with the same tags and times: one is billed, the others are
repeats. E_ACC_MISSED_EVENT has been seen with the duration of the call before it and is never billed.
"""

from collections.abc import Sequence
from typing import Any

from rater.sources.graph import sip_disposition
from rater.sources.numbers import is_digits
from rater.sources.parts import Part
from rater.sources.profile import SourceProfile
from rater.sources.record import BILLABLE_MS_MAX, NotBilled, SourceRecord, Unusable, shown
from rater.sources.sip_accounting import Flat, SipAccounting, read_settings

CDR, EVENT, MISSED = "E_ACC_CDR", "E_ACC_EVENT", "E_ACC_MISSED_EVENT"


class OpenSips(SipAccounting):
    """Reads the events of one OpenSIPS."""

    def __init__(self, profile: SourceProfile) -> None:
        table = profile.family_table()
        settings = read_settings(table, ("cdr", "transactions"), "caller", "callee")
        self.whole_seconds = table.flag("whole_seconds", False)
        self.leg = table.text("leg", "the attribute that numbers the legs", "")
        self.billed_leg = table.text("billed_leg", "its value on the leg that is billed", "")
        table.done()
        super().__init__(profile, settings)
        if bool(self.leg) != bool(self.billed_leg):
            raise profile.refuse("[opensips] leg, billed_leg", "one of the two", "both or none")

    def record(self, raw: bytes, value: dict[str, Any]) -> list[SourceRecord]:
        event, row = unwrapped(value)
        if event == MISSED:
            raise NotBilled("a missed call; its event may carry the duration of another one")
        if event == EVENT:
            if self.settings.records == "cdr" and self.is_answered(row):
                raise NotBilled("a transaction; the profile bills the CDRs")
            return self.transaction(raw, row)
        if event != CDR:
            raise NotBilled(f"an event that is no accounting: {shown(event)}")
        if self.settings.records != "cdr":
            raise NotBilled("a CDR; the profile bills the transactions")
        return self.cdr(raw, row)

    def is_answered(self, row: Flat) -> bool:
        """A call that was refused has no CDR, so its transaction is all there is of it."""
        return row.get("method") == "BYE" or row.get("sip_code")[:1] == "2"

    def cdr(self, raw: bytes, row: Flat) -> list[SourceRecord]:
        callid, tags = row.needed("callid"), (row.get("from_tag"), row.get("to_tag"))
        if self.leg and row.get(self.leg) != self.billed_leg:
            raise NotBilled("another leg of the call, by billed_leg")
        code = self.code(row)
        answer_ms = self.instant(self.settings.time, row.needed(self.settings.time))
        created = row.get("created")
        start_ms = self.instant("created", created) if created else answer_ms
        billable_ms = self.billable_ms(row, code)
        facts = {
            "method": "CDR",
            "callid": callid,
            "from_tag": tags[0],
            "to_tag": tags[1],
            "code": code,
            "start_ms": start_ms,
            "billable_ms": billable_ms,
            "leg": self.billed_leg,
        }
        key = "\n".join(["CDR", callid, *tags])
        return self.assembly.add(Part(key, "CDR", answer_ms, raw, facts, self.facts(row)))

    def billable_ms(self, row: Flat, code: int) -> int:
        measured, ceiling = row.get("ms_duration"), row.get("duration")
        for name, text in (("ms_duration", measured), ("duration", ceiling)):
            if text and not (is_digits(text) and len(text) <= 15):
                raise Unusable("bad_field", f"{name}: found {shown(text)}; expected a whole number")
        if not measured:
            if not self.whole_seconds or not ceiling:
                raise Unusable("missing_field", "ms_duration: is absent; whole_seconds = true would bill duration")
            billable_ms = int(ceiling) * 1000
        else:
            billable_ms = int(measured)
            if ceiling and not 0 <= int(ceiling) * 1000 - billable_ms < 1000:
                raise Unusable("bad_times", f"duration is {int(ceiling)} s but ms_duration is {billable_ms} ms")
        if billable_ms > BILLABLE_MS_MAX:
            raise Unusable("bad_field", f"ms_duration: {billable_ms // 1000} s is more than 86400 s (24 h)")
        if billable_ms == 0 and code < 300:
            raise Unusable("bad_times", "an answered call of 0 ms; was do_accounting called with its cdr flag?")
        return billable_ms

    # A CDR is a call of one part; transactions pair up as everywhere.

    def is_complete(self, parts: Sequence[Part]) -> bool:
        return parts[0].name == "CDR" or super().is_complete(parts)

    def call(self, parts: Sequence[Part]) -> tuple[str, bytes]:
        if parts[0].name != "CDR":
            return super().call(parts)
        [part] = parts
        facts = part.facts
        code, billable_ms = facts["code"], facts["billable_ms"]
        connected = code < 300
        leg = (facts["leg"],) if facts["leg"] else ()
        return self.written(
            (facts["callid"], facts["from_tag"], facts["to_tag"], *leg),
            part.more,
            start_ms=facts["start_ms"],
            answer_ms=part.at_ms if connected else None,
            end_ms=part.at_ms + billable_ms,
            billable_ms=billable_ms,
            disposition="answered" if connected else sip_disposition(code),
        )


def unwrapped(value: dict[str, Any]) -> tuple[str, Flat]:
    """The event's name and its parameters, out of JSON-RPC or by themselves."""
    params = value.get("params")
    if isinstance(params, dict):
        event = value.get("method")
        if not isinstance(event, str):
            raise Unusable("bad_field", "method: expected the name of an event beside params")
        return event, Flat(params)
    if "method" not in value:
        raise Unusable("bad_source_row", "no accounting event: neither params nor a method")
    return (CDR if "ms_duration" in value or "created" in value else EVENT), Flat(value)
