"""Accounting of SIP servers: transactions (INVITE, BYE) paired to calls, and what their flat JSON records hold.

A server accounts an INVITE when it is answered or refused, and a BYE when somebody hangs up: two records, tags swapped
when it was the callee. The times between them are all there is to bill. Whose attribute names these are, and what else a
server writes, is for kamailio.py and opensips.py.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

from rater.sources.assembly import AssembledSource, Assembly, Limits, read_limits
from rater.sources.graph import sip_disposition
from rater.sources.numbers import is_digits
from rater.sources.objects import Objects
from rater.sources.parties import Parties, Settled, Sides, check_rules, uri_number
from rater.sources.parts import Part
from rater.sources.profile import SourceProfile, Table
from rater.sources.record import (
    NotBilled,
    SourceRecord,
    Unusable,
    record_id,
    shown,
)
from rater.sources.times import WallClock, instant_ms, zone_named

EPOCH = re.compile(r"([0-9]{9,11})(?:\.([0-9]{1,9}))?")
SECONDS = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,9}))?")
CALL_ID_BYTES_MAX = 128
CHALLENGES = (401, 407)
SPOILT = ("NON-UTF8", "INVALID_JSON")
KINDS = ("column", "trunks", "numbers")


class Flat(NamedTuple):
    """One JSON object of plain values, read as text; a value that is absent or null is empty."""

    values: Mapping[str, Any]

    def get(self, name: str) -> str:
        value = self.values.get(name)
        if value is None:
            return ""
        if isinstance(value, str):
            if value in SPOILT:
                raise Unusable(
                    "bad_field", f"{name}: the server could not write this value and put {value} in its place"
                )
            if not value.isascii():
                check_utf8(name, value)
            return value
        if type(value) is int or type(value) is float:
            return str(value)
        raise Unusable("bad_field", f"{name}: found {type(value).__name__}; expected text or a number")

    def needed(self, name: str) -> str:
        value = self.get(name)
        if not value:
            raise Unusable("missing_field", f"{name}: is absent or empty")
        return value


def check_utf8(name: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unusable("bad_field", f"{name}: bytes that are not UTF-8; expected UTF-8 text") from None


def decimal_ms(pattern: re.Pattern[str], text: str) -> int | None:
    """Seconds with or without decimals as milliseconds, finer digits cut off: 154.5506 -> 154550."""
    found = pattern.fullmatch(text)
    return int(found[1]) * 1000 + int((found[2] or "0")[:3].ljust(3, "0")) if found else None


def seconds_ms(name: str, text: str) -> int:
    ms = decimal_ms(SECONDS, text)
    if ms is None:
        raise Unusable("bad_field", f"{name}: not a number of seconds; expected for example 154 or 154.550")
    return ms


class Settings(NamedTuple):
    """The keys that Kamailio's and OpenSIPS's tables share: which attribute holds what."""

    records: str
    caller: str
    callee: str
    called_in: str
    trunk_in: str
    trunk_out: str
    time: str
    limits: Limits


def read_settings(table: Table, records: tuple[str, ...], caller: str, callee: str) -> Settings:
    expected = "the name of an attribute"
    return Settings(
        records=table.choice("records", records),
        caller=table.text("caller", expected, caller),
        callee=table.text("callee", expected, callee),
        called_in=table.text("called_in", expected, "") or table.text("callee", expected, callee),
        trunk_in=table.text("trunk_in", expected, ""),
        trunk_out=table.text("trunk_out", expected, ""),
        time=table.text("time", expected, "time"),
        limits=read_limits(table),
    )


def check_profile(profile: SourceProfile, settings: Settings) -> None:
    check_rules(profile, KINDS, "account")
    if profile.call_types.by == "trunks" and not (settings.trunk_in and settings.trunk_out):
        raise profile.refuse(
            f"[{profile.family}] trunk_in, trunk_out",
            "nothing",
            "the attributes that name where a call came from and went",
        )


class SipAccounting(AssembledSource):
    """What both servers share: reading, instants, the two sides, pairs and refused calls."""

    def __init__(self, profile: SourceProfile, settings: Settings) -> None:
        self.profile = profile
        self.settings = settings
        check_profile(profile, settings)
        types = profile.call_types
        names = (settings.caller, settings.callee, settings.called_in, types.column)
        self.parties = Parties(profile, names, "account")
        zone = zone_named(profile.zone) if profile.zone else None
        self.clock = WallClock(zone) if zone is not None else None
        self.assembly = Assembly(self, settings.limits, profile.source)
        wanted = [settings.caller, settings.callee, settings.called_in, settings.trunk_in, settings.trunk_out]
        wanted += [self.parties.tenant_column, profile.users.column, profile.users.column_in, types.column]
        self.columns = tuple(dict.fromkeys(name for name in wanted if name))

    def read(self, stream: BinaryIO) -> Iterator[SourceRecord]:
        for piece in Objects(stream):
            if piece.value is None:
                yield SourceRecord(piece.raw, None, piece.reason, piece.fault)
            else:
                yield from self.records(piece.raw, piece.value)

    def records(self, raw: bytes, value: dict[str, Any]) -> list[SourceRecord]:
        try:
            return self.record(raw, value)
        except Unusable as fault:
            return [SourceRecord(raw, None, fault.reason, fault.detail)]
        except NotBilled as why:
            return [SourceRecord(raw, None, "", why.detail, "leg")]

    def record(self, raw: bytes, value: dict[str, Any]) -> list[SourceRecord]:
        raise NotImplementedError

    # Values.

    def instant(self, name: str, text: str) -> int:
        """An epoch, a stamp with its zone, or one of the profile's zone; never one of two."""
        ms = decimal_ms(EPOCH, text)
        if ms is not None:
            return ms
        if self.clock is None:
            return instant_ms(name, text)
        found = self.clock.instants(name, text)
        if len(found) != 1:
            why = "comes twice, when the clocks go back" if found else "does not exist, the clocks skip it"
            raise Unusable("bad_times", f"{name}: this time {why} in {self.profile.zone}; let the server write epochs")
        return found[0]

    def code(self, row: Flat) -> int:
        text = row.needed("sip_code")
        if len(text) != 3 or not is_digits(text) or not "200" <= text <= "699":
            raise Unusable("bad_field", f"sip_code: found {shown(text)}; expected a final answer, 200 to 699")
        return int(text)

    def facts(self, row: Flat) -> dict[str, str]:
        """The attributes that the profile uses, numbers out of their URIs."""
        return {name: row.get(name) for name in self.columns}

    def sides(self, facts: Mapping[str, str]) -> Settled:
        settings = self.settings
        caller = uri_number(facts[settings.caller])
        return self.parties.settle(
            Sides(
                caller=caller,
                caller_in=caller,
                called=uri_number(facts[settings.callee]),
                reached=uri_number(facts[settings.called_in]),
                trunk_in=facts.get(settings.trunk_in, ""),
                trunk_out=facts.get(settings.trunk_out, ""),
                word=facts.get(self.profile.call_types.column, ""),
            )
        )

    def written(
        self,
        named: tuple[str, ...],
        facts: Mapping[str, str],
        *,
        start_ms: int,
        answer_ms: int | None,
        end_ms: int,
        billable_ms: int,
        disposition: str,
    ) -> tuple[str, bytes]:
        """Record id and call record; `named` begins with the Call-ID."""
        sides = self.sides(facts)

        def get(name: str) -> str:
            return facts.get(name, "")

        name = record_id(self.profile.switch, *named)
        call = self.parties.call_record(
            name,
            sides,
            self.parties.whose(get, sides.call_type),
            (start_ms, answer_ms, end_ms),
            billable_ms,
            disposition,
            call_id=named[0] if len(named[0].encode()) <= CALL_ID_BYTES_MAX else None,
        )
        return name, call

    # Transactions.

    def transaction(self, raw: bytes, row: Flat) -> list[SourceRecord]:
        """A refused INVITE is a call by itself; an answered one, and a BYE, wait for each other."""
        method = row.needed("method")
        if method not in ("INVITE", "BYE"):
            raise NotBilled(f"a transaction that is no part of a call: {shown(method)}")
        code = self.code(row)
        if code in CHALLENGES:
            raise NotBilled(f"a request that was asked for its password ({code}); it was sent once more")
        callid, tags = row.needed("callid"), (row.get("from_tag"), row.get("to_tag"))
        at_ms = self.instant(self.settings.time, row.needed(self.settings.time))
        if method == "INVITE" and code >= 300:
            self.assembly.see(at_ms)
            return [SourceRecord(raw, self.refused(row, (callid, *tags, "INVITE", str(code)), at_ms, code))]
        if not all(tags):
            raise Unusable("missing_field", "from_tag, to_tag: one is empty; a call cannot be told from others without")
        facts = {"method": method, "callid": callid, "from_tag": tags[0], "to_tag": tags[1]}
        if method == "INVITE":
            facts |= {"=" + name: value for name, value in self.facts(row).items()}
        key = "\n".join([callid, *sorted(tags)])
        return self.assembly.add(Part(key, f"{method} {tags[0]} {at_ms}", at_ms, raw, facts))

    def refused(self, row: Flat, named: tuple[str, ...], at_ms: int, code: int) -> bytes:
        _, call = self.written(
            (*named, str(at_ms)),
            self.facts(row),
            start_ms=at_ms,
            answer_ms=None,
            end_ms=at_ms,
            billable_ms=0,
            disposition=sip_disposition(code),
        )
        return call

    def is_complete(self, parts: Sequence[Part]) -> bool:
        return first_of(parts, "INVITE") is not None and first_of(parts, "BYE") is not None

    def lacks(self, parts: Sequence[Part]) -> str:
        return "a BYE came and no answered INVITE" if first_of(parts, "INVITE") is None else "no BYE came"

    def call(self, parts: Sequence[Part]) -> tuple[str, bytes]:
        """From the first answered INVITE, of several (re-INVITEs change the media), to the first BYE."""
        invite, bye = first_of(parts, "INVITE"), first_of(parts, "BYE")
        if invite is None or bye is None:
            raise Unusable("missing_field", "an INVITE and a BYE are needed")
        facts = {name[1:]: value for name, value in invite.facts.items() if name.startswith("=")}
        named = (invite.facts["callid"], invite.facts["from_tag"], invite.facts["to_tag"], "INVITE")
        return self.written(
            named,
            facts,
            start_ms=invite.at_ms,
            answer_ms=invite.at_ms,
            end_ms=bye.at_ms,
            billable_ms=bye.at_ms - invite.at_ms,
            disposition="answered",
        )


def first_of(parts: Sequence[Part], method: str) -> Part | None:
    return next((part for part in parts if part.facts["method"] == method), None)
