"""Kamailio's accounting as JSON (acc_json, or what a script sends to Kafka): transactions, or the CDRs of its dialogs.

A CDR holds a start, an end and a duration, and beyond that only what `cdr_extra` adds. With the module's default its
start is the INVITE and its duration holds the ringing, so the profile must say that `cdr_start_on_confirmed` is set.
A server that writes both kinds tells each call twice; the profile says which is billed, and the other is a leg.
"""

from typing import Any

from rater.sources.graph import sip_disposition
from rater.sources.profile import SourceProfile
from rater.sources.record import BILLABLE_MS_MAX, NotBilled, SourceRecord, Unusable
from rater.sources.sip_accounting import Flat, SipAccounting, read_settings, seconds_ms


class Kamailio(SipAccounting):
    """Reads the records of one Kamailio."""

    def __init__(self, profile: SourceProfile) -> None:
        table = profile.family_table()
        settings = read_settings(table, ("transactions", "cdr"), "src_user", "dst_user")
        confirmed = table.flag("cdr_start_on_confirmed", False)
        table.done()
        if settings.records == "cdr" and not confirmed:
            raise profile.refuse(
                "[kamailio] cdr_start_on_confirmed",
                "false" if table.has("cdr_start_on_confirmed") else "nothing",
                "true, here and in kamailio.cfg; without it a CDR begins with the INVITE and bills the ringing",
            )
        super().__init__(profile, settings)

    def record(self, raw: bytes, value: dict[str, Any]) -> list[SourceRecord]:
        is_cdr = "start_time" in value and "duration" in value
        row = Flat(value)
        if not is_cdr and "method" not in value:
            raise Unusable("bad_source_row", "neither a transaction (method) nor a CDR (start_time, duration)")
        if self.settings.records == "transactions":
            if is_cdr:
                raise NotBilled("a CDR; the profile bills the transactions")
            return self.transaction(raw, row)
        if not is_cdr:
            raise NotBilled("a transaction; the profile bills the CDRs")
        return [SourceRecord(raw, self.cdr(row))]

    def cdr(self, row: Flat) -> bytes:
        callid, start = row.needed("callid"), row.needed("start_time")
        start_ms = self.instant("start_time", start)
        end_ms = self.instant("end_time", row.needed("end_time"))
        billable_ms = seconds_ms("duration", row.needed("duration"))
        if billable_ms > BILLABLE_MS_MAX:
            raise Unusable("bad_field", f"duration: {billable_ms // 1000} s is more than 86400 s (24 h)")
        code = self.code(row) if row.get("sip_code") else 0
        _, call = self.written(
            (callid, row.get("from_tag"), row.get("to_tag"), start),
            self.facts(row),
            start_ms=start_ms,
            answer_ms=start_ms if billable_ms else None,
            end_ms=end_ms,
            billable_ms=billable_ms,
            disposition=disposition(code, billable_ms),
        )
        return call


def disposition(code: int, billable_ms: int) -> str:
    """By the answer's code where `cdr_extra` gives one; else a duration is an answer, and none says nothing."""
    if code >= 300:
        return sip_disposition(code)
    return "answered" if billable_ms or code else "unknown"
