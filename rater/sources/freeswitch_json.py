"""FreeSWITCH's JSON records: files and request bodies of mod_json_cdr and mod_format_cdr, events of mod_event_kafka.

A file holds one record, or many one after the other, pretty-printed or not. A body is the JSON itself, or a form
`cdr=...` with the JSON URL-encoded or in base64; what the switch could not post lies in its error folder encoded, but
without the `cdr=`. All of these may stand in one file.
"""

import re
from base64 import b64decode
from collections.abc import Iterator
from typing import Any, BinaryIO
from urllib.parse import unquote_to_bytes

from rater.sources.freeswitch import FIRST, ORIGINATORS, Calls, Leg, read_settings
from rater.sources.objects import Objects, Piece, parse
from rater.sources.parties import Getter
from rater.sources.profile import SourceProfile
from rater.sources.record import RECORD_BYTES_MAX, SourceRecord, Unusable, words

FORM = b"cdr="
ENCODED = re.compile(rb"\s*+%7B", re.IGNORECASE)
BASE64 = re.compile(rb"[A-Za-z0-9+/ ]{16,}={0,2}")
PROFILE = frozenset(
    words(
        """username dialplan caller_id_name caller_id_number ani aniii network_addr rdnis destination_number source
        context chan_name"""
    )
)
EVENT_HEADERS = {
    "username": "Caller-Username",
    "dialplan": "Caller-Dialplan",
    "caller_id_name": "Caller-Caller-ID-Name",
    "caller_id_number": "Caller-Caller-ID-Number",
    "ani": "Caller-ANI",
    "aniii": "Caller-ANI-II",
    "network_addr": "Caller-Network-Addr",
    "rdnis": "Caller-RDNIS",
    "destination_number": "Caller-Destination-Number",
    "source": "Caller-Source",
    "context": "Caller-Context",
    "chan_name": "Caller-Channel-Name",
}
INSTEAD = {"uuid": "Unique-ID", "hangup_cause": "Hangup-Cause", "call_uuid": "Channel-Call-UUID"}
HANGUP_COMPLETE = "CHANNEL_HANGUP_COMPLETE"


class Bodies(Objects):
    """Rows of JSON, and encoded bodies one a line between them."""

    def junk(self) -> Piece:
        last = min(len(self.held), self.at + RECORD_BYTES_MAX + 1)
        feed = self.held.find(b"\n", self.at, last)
        end = feed if feed >= 0 else last
        line = self.held[self.at : end]
        if not is_body(line):
            return super().junk()
        if len(line) > RECORD_BYTES_MAX:
            return self.too_long()
        self.at = end
        raw = line.rstrip()
        value = parse(decoded(raw))
        if value is None:
            return Piece(raw, None, "bad_source_row", "an encoded body that holds no JSON object; was it cut off?")
        return Piece(raw, value)

    def too_long(self) -> Piece:
        """Pass over the rest of a body that no record may be as long as."""
        raw = self.held[self.at : self.at + RECORD_BYTES_MAX]
        while (feed := self.held.find(b"\n", self.at)) < 0 and not (self.ended and self.at == len(self.held)):
            self.at = len(self.held)
            self.fill()
        self.at = feed if feed >= 0 else len(self.held)
        return Piece(raw, None, "too_large", f"a body of more than {RECORD_BYTES_MAX} bytes")


def is_body(line: bytes) -> bool:
    if line.startswith(FORM):
        return not line.startswith(FORM + b"{")
    return ENCODED.match(line) is not None or BASE64.fullmatch(line.rstrip()) is not None


def decoded(body: bytes, encoded: re.Pattern[bytes] = ENCODED, plain: bytes | None = None) -> bytes:
    """What is inside a form body or an encoded line; empty when there is nothing. A `+` that a web server made a space is base64's `+`.

    `encoded`: how it begins percent-encoded; `plain`: how it begins where a server has decoded half of the form, so that percent signs are left inside.
    """
    text = body.removeprefix(FORM).partition(b"&")[0]
    if encoded.match(text):
        return unquote_to_bytes(text.replace(b"+", b" "))
    if b"%" in text:
        text = unquote_to_bytes(text)
    if plain is not None and text.lstrip().startswith(plain):
        return text
    try:
        return b64decode(text.replace(b" ", b"+"), validate=True).rstrip(b"\0")
    except ValueError:
        return b""


def text_of(name: str, value: object) -> str:
    """Text as it is, whole numbers as text; nothing is empty."""
    if type(value) is str and value.isascii():
        return value
    if value is None:
        return ""
    if type(value) is int:
        return str(value)
    if not isinstance(value, str):
        raise Unusable("bad_field", f"{name}: found {type(value).__name__}; expected text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unusable("bad_field", f"{name}: bytes that are not UTF-8; expected UTF-8 text") from None
    return value


def url_decoded(name: str, text: str) -> str:
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise Unusable("bad_field", f"{name}: bytes that are not UTF-8; expected UTF-8 text") from None


def table_of(value: dict[str, Any], name: str) -> dict[str, Any]:
    found = value.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise Unusable("bad_field", f"{name}: found {type(found).__name__}; expected an object")
    return found


def profiles_of(value: dict[str, Any]) -> list[dict[str, Any]]:
    """The caller profiles, the newest first; there is always one, if an empty one."""
    flow = value.get("callflow")
    if flow is None:
        return [{}]
    flows = flow if isinstance(flow, list) else [flow]
    if not all(isinstance(item, dict) for item in flows):
        raise Unusable("bad_field", "callflow: expected objects")
    return [table_of(item, "caller_profile") for item in flows] or [{}]


class FreeswitchJson:
    """Reads what mod_json_cdr and mod_format_cdr write. Variables are URL-encoded unless the profile says not."""

    def __init__(self, profile: SourceProfile) -> None:
        table = profile.family_table()
        self.encoded = table.choice("values", ("encoded", "plain"), "encoded") == "encoded"
        self.calls = Calls(profile, read_settings(profile, table, FIRST))
        table.done()
        refuse_zone(profile)
        self.profile = profile

    def read(self, stream: BinaryIO) -> Iterator[SourceRecord]:
        for piece in Bodies(stream):
            if piece.value is None:
                yield SourceRecord(piece.raw, None, piece.reason, piece.fault)
            else:
                yield self.record(piece.raw, piece.value)

    def record(self, raw: bytes, value: dict[str, Any]) -> SourceRecord:
        try:
            variables, profiles = table_of(value, "variables"), profiles_of(value)
            get = self.getter(variables, profiles)
            leg = self.leg(value, get, profiles)
        except Unusable as fault:
            return SourceRecord(raw, None, fault.reason, fault.detail)
        return self.calls.record(raw, get, leg)

    def getter(self, variables: dict[str, Any], profiles: list[dict[str, Any]]) -> Getter:
        newest, encoded = profiles[0], self.encoded

        def get(name: str) -> str:
            if name in PROFILE and name in newest:
                return text_of(name, newest[name])
            value = variables.get(name)
            if value is None:
                return text_of(name, profiles[-1].get("destination_number")) if name == FIRST else ""
            text = text_of(name, value)
            return url_decoded(name, text) if encoded and "%" in text else text

        return get

    def leg(self, value: dict[str, Any], get: Getter, profiles: list[dict[str, Any]]) -> Leg:
        """The switch itself calls a leg a B leg when its newest caller profile has an originator."""
        named = has_originator(get)
        called_now = "originator" in profiles[0] or (named and "callflow" not in value)
        core, uuid = text_of("core-uuid", value.get("core-uuid")), get("uuid")
        return Leg(
            switch=text_of("switchname", value.get("switchname")) or self.profile.switch,
            id_parts=identity(core, "core-uuid", uuid),
            called_now=called_now,
            called_once=named or any("originator" in older for older in profiles),
        )


class FreeswitchEvent:
    """Reads the events that mod_event_kafka publishes. Only CHANNEL_HANGUP_COMPLETE has the final variables."""

    def __init__(self, profile: SourceProfile) -> None:
        table = profile.family_table()
        self.calls = Calls(profile, read_settings(profile, table, "destination_number"))
        table.done()
        refuse_zone(profile)
        self.profile = profile

    def read(self, stream: BinaryIO) -> Iterator[SourceRecord]:
        for piece in Objects(stream):
            if piece.value is None:
                yield SourceRecord(piece.raw, None, piece.reason, piece.fault)
            else:
                yield self.record(piece.raw, piece.value)

    def record(self, raw: bytes, event: dict[str, Any]) -> SourceRecord:
        name = event.get("Event-Name")
        if not isinstance(name, str) or not name:
            return SourceRecord(raw, None, "missing_field", "Event-Name: is absent, empty or no text")
        if name != HANGUP_COMPLETE:
            return SourceRecord(raw, None, "", f"an event that is not {HANGUP_COMPLETE}", "event")

        def get(name: str) -> str:
            header = EVENT_HEADERS.get(name)
            if header is not None and header in event:
                return text_of(header, event[header])
            return text_of(name, event.get("variable_" + name)) or text_of(name, event.get(INSTEAD.get(name, "")))

        try:
            leg = self.leg(event, get)
        except Unusable as fault:
            return SourceRecord(raw, None, fault.reason, fault.detail)
        return self.calls.record(raw, get, leg)

    def leg(self, event: dict[str, Any], get: Getter) -> Leg:
        """`Other-Type` says what the other leg is to this one; without it the variables must."""
        other = text_of("Other-Type", event.get("Other-Type"))
        named = has_originator(get)
        switch = text_of("FreeSWITCH-Switchname", event.get("FreeSWITCH-Switchname"))
        return Leg(
            switch=switch or self.profile.switch,
            id_parts=identity(text_of("Core-UUID", event.get("Core-UUID")), "Core-UUID", get("uuid")),
            called_now=other == "originator" or (named and not other),
            called_once=named,
        )


def has_originator(get: Getter) -> bool:
    return any(map(get, ORIGINATORS))


def identity(core: str, core_name: str, uuid: str) -> tuple[str, str]:
    """A uuid may be set by a dialplan and come again; with the uuid of the switch's own run it names one leg."""
    if not uuid:
        raise Unusable("missing_field", "uuid: is absent or empty")
    if not core:
        raise Unusable("missing_field", f"{core_name}: is absent or empty")
    return core, uuid


def refuse_zone(profile: SourceProfile) -> None:
    if profile.zone:
        raise profile.refuse("zone", repr(profile.zone), "nothing: instants are microseconds since 1970, UTC")
