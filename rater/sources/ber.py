"""3GPP TS 32.298 files in BER: calls of an MSC (MOC, MTC) and of IMS nodes (MMTel, application server, S-CSCF).

Records stand one after another, perhaps filled up with 00 or FF to a block, or behind the headers of TS 32.297. Long
calls are written in partial records with a sequence number; they are added up when none is missing.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from rater.sources.assembly import AssembledSource, Assembly, Part, read_limits
from rater.sources.ber_schema import (
    IMS_RECORDS,
    MO,
    MT,
    SOS,
    compiled,
    directory_number,
    end_of,
    header_at,
    members,
    stamp_ms,
    text_of,
)
from rater.sources.numbers import is_digits
from rater.sources.parties import Parties, Sides, check_rules, disposition_of, uri_number
from rater.sources.profile import SourceProfile
from rater.sources.record import (
    RECORD_BYTES_MAX,
    NotBilled,
    SourceRecord,
    Unusable,
    canonical_call,
    instant_text,
    record_id,
)
from rater.sources.stamps import checked

CHUNK_BYTES = 262_144
FILLER = b"\x00\xff"
NEXT_RECORD = re.compile(
    rb"(?:\xbf[\x3f\x45\x53]|[\xa0\xa1])(?:[\x00-\x80]|\x81.|\x82..|\x83...)\x80\x01[\x00\x01\x3f\x45\x53]", re.DOTALL
)
COLUMNS = ("served", "calling", "called", "node", "trunk_in", "trunk_out", "role")
ROLES = {0: "originating", 1: "terminating", 2: "proxy", 3: "b2bua"}
CS_PARTIAL = (1, 2)
IMS_PARTIAL = (3, 4, 5)
UNSUCCESSFUL = 3
BER_FORMAT = 1
HEADER_BYTES_MIN = 50
NUMBER_KINDS = ("telUri", "isdn")
TOO_LARGE = f"a record of more than {RECORD_BYTES_MAX} bytes"
CUT_OFF = "the file ends inside a record; was it cut off?"


class Elements:
    """The records of a file as bytes, in bounded memory; what is no record is handed out with the reason why."""

    def __init__(self, stream: BinaryIO, framed: bool) -> None:
        self.stream = stream
        self.framed = framed
        self.held = b""
        self.at = 0
        self.ended = False

    def fill(self) -> None:
        while not self.ended and len(self.held) - self.at < RECORD_BYTES_MAX + 64:
            more = self.stream.read(CHUNK_BYTES)
            self.ended = not more
            self.held = self.held[self.at :] + more
            self.at = 0

    def __iter__(self) -> Iterator[tuple[bytes, str]]:
        self.fill()
        if self.framed:
            yield from self.file_header()
        while True:
            self.fill()
            while self.at < len(self.held) and self.held[self.at] in FILLER:
                if self.framed and self.held[self.at : self.at + 4].strip(FILLER):
                    break  # the length of the next record may begin with 00
                self.at += 1
                if len(self.held) - self.at < 64:
                    self.fill()
            if self.at >= len(self.held):
                return
            self.fill()
            yield self.behind_header() if self.framed else self.element()

    def file_header(self) -> Iterator[tuple[bytes, str]]:
        """Step over the header of the file; without one nothing in it can be found, and all of it is handed out."""
        size = int.from_bytes(self.held[4:8], "big")
        if HEADER_BYTES_MIN <= size <= min(len(self.held), RECORD_BYTES_MAX):
            self.at = size
            return
        while self.at < len(self.held):
            yield self.take(min(len(self.held), self.at + RECORD_BYTES_MAX)), "no file header of TS 32.297"
            self.fill()

    def take(self, end: int) -> bytes:
        raw = self.held[self.at : end]
        self.at = end
        return raw

    def element(self) -> tuple[bytes, str]:
        try:
            end = end_of(self.held, self.at)
        except ValueError:
            return self.skipped("no BER record begins here")
        except IndexError:
            return self.skipped(CUT_OFF)
        if end - self.at > RECORD_BYTES_MAX:
            return self.skipped(TOO_LARGE)
        return self.skipped(CUT_OFF) if end > len(self.held) else (self.take(end), "")

    def skipped(self, why: str) -> tuple[bytes, str]:
        """Bytes up to where the next record seems to begin."""
        found = NEXT_RECORD.search(self.held, self.at + 1, self.at + RECORD_BYTES_MAX)
        end = found.start() if found else min(len(self.held), self.at + RECORD_BYTES_MAX)
        return self.take(end), why

    def given_back(self, raw: bytes) -> bytes:
        """Of an element that is no record: what stands before the next one, which its length may have swallowed."""
        found = None if self.framed else NEXT_RECORD.search(raw, 1)
        if found is None:
            return raw
        self.at -= len(raw) - found.start()
        return raw[: found.start()]

    def behind_header(self) -> tuple[bytes, str]:
        """TS 32.297: length, release and version, encoding, perhaps one more octet, then the record."""
        head = self.held[self.at : self.at + 5]
        if len(head) < 5:
            return self.take(len(self.held)), CUT_OFF
        length = int.from_bytes(head[:2], "big")
        size = 5 if head[2] >> 5 == 7 else 4
        end = self.at + size + length
        if end > len(self.held):
            return self.take(len(self.held)), CUT_OFF
        self.at += size
        raw = self.take(end)
        return raw, "" if head[3] >> 5 == BER_FORMAT else "encoded otherwise than in BER, by its header"


class ThreeGppBer(AssembledSource):
    """Reads the files of one network element. A part of the assembly is one record, its facts our reading of it."""

    def __init__(self, profile: SourceProfile) -> None:
        self.profile = profile
        decode = compiled()
        if decode is None:
            raise profile.refuse("source", "'3gpp-ber' without asn1tools", "pip install 'rater[mediation]'")
        self.decode = decode
        check_rules(profile, ("column", "numbers", "trunks"), "served")
        wanted = (profile.users.column, profile.users.column_in, profile.call_types.column, profile.tenants.column)
        for key, name in zip(("users", "users", "call_types", "tenants"), wanted, strict=True):
            if name and name not in COLUMNS:
                raise profile.refuse(f"[{key}] column", repr(name), "one of " + ", ".join(COLUMNS))
        table = profile.family_table()
        limits = read_limits(table)
        self.framed = table.choice("framing", ("concatenated", "ts32297"), "concatenated") == "ts32297"
        table.done()
        self.parties = Parties(profile, ("calling", "called", "called", profile.call_types.column), "served")
        self.assembly = Assembly(self, limits, profile.source)

    def read(self, stream: BinaryIO) -> Iterator[SourceRecord]:
        elements = Elements(stream, self.framed)
        for raw, fault in elements:
            if fault:
                yield SourceRecord(raw, None, "too_large" if fault == TOO_LARGE else "bad_source_row", fault)
                continue
            try:
                found = self.assembly.add(self.part_of(raw))
            except Unusable as why:
                broken = elements.given_back(raw) if why.reason == "bad_source_row" else raw
                found = [SourceRecord(broken, None, why.reason, why.detail)]
            except NotBilled as why:
                found = [SourceRecord(raw, None, "", why.detail, "leg")]
            yield from found

    # One record.

    def part_of(self, raw: bytes) -> Part:
        facts = self.facts(raw)
        sequence = facts["sequence"]
        first_ms = facts["start"] if sequence is None else 0
        key = "\n".join([facts["node"], facts["id"], facts["role"], str(first_ms)])
        name = "" if sequence is None else f"{sequence:012d}"
        again = bool(facts["node"]) and sequence in (0, 1)  # an MSC's call references come again some day
        return Part(key, name, facts["end"], raw, facts, opens=again)

    def facts(self, raw: bytes) -> dict[str, Any]:
        try:
            _, size, length = header_at(raw, 0)
            content = raw[size : size + length] if length >= 0 else raw[size:]
            kind = self.kind(content)
            found = members(content, kind, self.decode)
        except (Unusable, NotBilled):
            raise
        except Exception:  # whatever asn1tools and the walk raise on octets that are no such record
            raise Unusable("bad_source_row", "a record that does not decode as TS 32.298") from None
        return self.ims_facts(found) if kind == "Ims" else self.cs_facts(found, kind)

    def kind(self, content: bytes) -> str:
        """Which record this is, by its own recordType, the first member."""
        place = 0
        while place < len(content):
            number, size, length = header_at(content, place)
            if number == 0 and content[place] == 0x80:
                record_type = int.from_bytes(content[place + size : place + size + length], "big")
                if record_type in IMS_RECORDS:
                    return "Ims"
                if record_type in (MO, MT):
                    return "Mo" if record_type == MO else "Mt"
                raise NotBilled(f"a record of type {record_type}: no voice call that is billed")
            place = place + size + length if length >= 0 else end_of(content, place)
        raise Unusable("bad_source_row", "a record without its recordType")

    def ims_facts(self, found: Mapping[str, Any]) -> dict[str, Any]:
        requested = instant(found, "requested", "requestedMs")
        answered = instant(found, "answered", "answeredMs")
        ended = instant(found, "ended", "endedMs")
        opened, closed = instant(found, "opened"), instant(found, "closed")
        sequence, cause = found.get("sequence"), found.get("cause")
        partial = sequence is not None and cause in IMS_PARTIAL
        start = next((at for at in (requested, answered, opened) if at is not None), None)
        end = ended if ended is not None and not partial else closed
        if start is None or end is None:
            raise Unusable("missing_field", "serviceRequestTimeStamp or the end: the record does not say when it was")
        talked = 0
        if answered is not None:
            since = answered if sequence is None or opened is None else max(opened, answered)
            talked = max(end - since, 0)
        calling = best_party(found.get("calling", []))
        called = party(found["called"]) if "called" in found else ""
        role = ROLES.get(found.get("role", -1), "")
        return {
            "id": text_of(found.get("chargingId", b"")) or text_of(found.get("sessionId", b"")),
            "call_id": text_of(found.get("sessionId", b"")),
            "node": "",
            "role": role,
            "served": called if role == "terminating" else calling,
            "calling": calling,
            "called": called,
            "trunk_in": "",
            "trunk_out": "",
            "start": start,
            "answer": answered,
            "end": end,
            "ms": checked("the time of a record", talked),
            "sequence": checked_sequence(sequence),
            "partial": partial,
            "disposition": "failed" if cause not in (None, 0) else "unknown",
        }

    def cs_facts(self, found: Mapping[str, Any], kind: str) -> dict[str, Any]:
        seized, answered = instant(found, "seized"), instant(found, "answered")
        released = instant(found, "released")
        if "duration" not in found:
            raise Unusable("missing_field", "callDuration: is not there")
        ms = checked("callDuration", max(found["duration"], -1) * 1000)
        if ms < 0:
            raise Unusable("bad_field", "callDuration: is negative")
        start = seized if seized is not None else answered
        if start is None:
            raise Unusable("missing_field", "seizureTime and answerTime: neither is there")
        end = released if released is not None else (start if answered is None else answered) + ms
        served = directory_number(found.get("served", b""))
        calling = directory_number(found.get("calling", b""))
        called = directory_number(found.get("called", b""))
        cause = found.get("cause")
        return {
            "id": found.get("callReference", b"").hex(),
            "call_id": found.get("callReference", b"").hex(),
            "node": directory_number(found.get("entity", b"")) or "msc",
            "role": "originating" if kind == "Mo" else "terminating",
            "served": served,
            "calling": (calling or served) if kind == "Mo" else calling,
            "called": called if kind == "Mo" else served,
            "trunk_in": trunk(found.get("trunkIn")),
            "trunk_out": trunk(found.get("trunkOut")),
            "start": start,
            "answer": answered,
            "end": end,
            "ms": 0 if answered is None else ms,
            "sequence": checked_sequence(found.get("sequence")),
            "partial": cause in CS_PARTIAL,
            "disposition": cs_disposition(found),
        }

    # One call.

    def is_complete(self, parts: Sequence[Part]) -> bool:
        """A single record, or partial ones from the first (0 or 1) to the last without a gap."""
        facts = sorted_facts(parts)
        if len(facts) == 1 and not facts[0]["partial"] and (facts[0]["sequence"] or 0) <= 1:
            return True
        numbers = [fact["sequence"] for fact in facts]
        if None in numbers or numbers[0] > 1 or facts[-1]["partial"]:
            return False
        return numbers == list(range(numbers[0], numbers[0] + len(numbers)))

    def lacks(self, parts: Sequence[Part]) -> str:
        facts = sorted_facts(parts)
        last = "" if any(not fact["partial"] for fact in facts) else ", and the last is not among them"
        return f"{len(facts)} partial records with a gap{last}"

    def call(self, parts: Sequence[Part]) -> tuple[str, bytes]:
        facts = sorted_facts(parts)
        first, last = facts[0], facts[-1]
        if not first["id"]:
            raise Unusable("missing_field", "no charging id and no session id, so nothing names this record")
        get = {name: first[name] for name in COLUMNS}.__getitem__
        column = self.profile.call_types.column
        settled = self.parties.settle(
            Sides(
                caller=first["calling"],
                caller_in=first["calling"],
                called=first["called"],
                reached=first["called"],
                trunk_in=first["trunk_in"],
                trunk_out=first["trunk_out"],
                word=get(column) if column else "",
            )
        )
        answered = next((fact["answer"] for fact in facts if fact["answer"] is not None), None)
        billable_ms = checked("the sum of the parts", sum(fact["ms"] for fact in facts))
        start_ms = min(fact["start"] for fact in facts)
        name = record_id(self.profile.switch, *self.named(first, start_ms))
        return name, canonical_call(
            record_id=name,
            tenant=self.parties.tenant(get),
            call_type=settled.call_type,
            user=self.parties.user(get, settled.call_type),
            caller=settled.caller,
            callee=settled.callee,
            start_ms=start_ms,
            answer_ms=answered,
            end_ms=max(fact["end"] for fact in facts),
            billable_ms=billable_ms,
            disposition="answered" if answered is not None else last["disposition"],
            source=self.profile.source,
            switch=self.profile.switch,
            call_id=first["call_id"][:128],
        )

    def named(self, first: Mapping[str, Any], start_ms: int) -> list[str]:
        """A call reference comes again some day, so its record is named by its first instant, too."""
        return [first["node"], first["id"], first["role"], instant_text(start_ms)]


def sorted_facts(parts: Sequence[Part]) -> list[Mapping[str, Any]]:
    return [part.facts for part in sorted(parts, key=lambda part: part.name)]


def instant(found: Mapping[str, Any], name: str, fraction: str = "") -> int | None:
    octets = found.get(name)
    if octets is None:
        return None
    millis = found.get(fraction, 0) if fraction else 0
    if not 0 <= millis <= 999:
        raise Unusable("bad_field", f"{fraction}: not a fraction in milliseconds")
    return stamp_ms(name, octets) + int(millis)


def checked_sequence(sequence: int | None) -> int | None:
    if sequence is not None and not 0 <= sequence < 10**9:
        raise Unusable("bad_field", "the record's sequence number is out of range")
    return sequence


def party(involved: tuple[str, str]) -> str:
    """The number of a party; an emergency service by its name is 112."""
    kind, text = involved
    if text.lower().startswith(SOS):
        return "112"
    number = uri_number(text)
    return "+" + number if kind == "isdn" and is_digits(number) else number


def best_party(involved: list[tuple[str, str]]) -> str:
    """Of the several names of one caller that which is a number by its kind."""
    return party(min(involved, key=lambda one: one[0] not in NUMBER_KINDS)) if involved else ""


def trunk(group: tuple[str, int | str] | None) -> str:
    return "" if group is None else str(group[1])


def cs_disposition(found: Mapping[str, Any]) -> str:
    diagnostics = found.get("diagnostics")
    if diagnostics is not None and diagnostics[0] in ("gsm0408Cause", "q767Cause"):
        return disposition_of(diagnostics[1])
    return "failed" if found.get("cause") == UNSUCCESSFUL else "unknown"
