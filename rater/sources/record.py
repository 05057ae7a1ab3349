"""What every source hands on: one record as it came, and the canonical call record made of it, or why not.

The rules here are those of the contract for a call record, checked once for all families, so that no source can write
a line that the engine refuses. Instants and durations are UTC milliseconds. What a switch calls things, and how its
files are framed, is not known here.
"""

import hashlib
import re
from collections.abc import Iterator
from datetime import date
from functools import lru_cache
from typing import BinaryIO, NamedTuple, Protocol, runtime_checkable

import orjson


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


CALL_TYPES = frozenset(
    words("""user_out user_out_conf user_out_transfer user_out_forwarding user_in conf_out conf_in ucap_out ucap_in
    unassigned_in emergency dr_in dr_out dr_out_user_conf dr_out_user_forwarding dr_out_user_transfer
    dr_emergency_out dr_unassigned_in dr_in_bot dr_in_ucap dr_out_bot dr_out_ucap""")
)
INBOUND_TYPES = frozenset(call_type for call_type in CALL_TYPES if "_in" in call_type)
DISPOSITIONS = frozenset(words("answered no_answer busy cancelled congestion failed unknown"))

RECORD_BYTES_MAX = 65_536
BILLABLE_MS_MAX = 86_400_000
TOLERANCE_MS = 1_500
DAY_MS = 86_400_000
EPOCH_DAY = date(1970, 1, 1).toordinal()

TWO_DIGITS = tuple([f"{number:02d}" for number in range(100)])
THREE_DIGITS = tuple([f"{number:03d}" for number in range(1000)])

TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
E164 = re.compile(r"\+[0-9]{3,15}")
PRINTABLE = re.compile(r"[ -~]{1,128}")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class SourceRecord(NamedTuple):
    """One record of a switch's file, or one call made of several (`parts` of them, their bytes joined by line feeds).

    `canonical` is the call record as compact JSON, or None. Then `reason` says why it is rejected, or is empty for a
    row that is not billed on purpose, and `kind` names what it is: `leg` (the profile says so), `header`, `event` (a
    message that is no call record), `repeat` (a part of a call, delivered before), `incomplete` (a call of which parts
    never came) or `correction` (a part that came after its call was closed; `corrects` is the id of the call record
    that was written, if one was).
    """

    raw: bytes
    canonical: bytes | None
    reason: str = ""
    detail: str = ""
    kind: str = "call"
    parts: int = 1
    corrects: str = ""


class Source(Protocol):
    def read(self, stream: BinaryIO) -> Iterator[SourceRecord]: ...


@runtime_checkable
class Assembling(Source, Protocol):
    """A source that keeps calls open from one `read` to the next, because a call's records may lie in several files.

    One object reads all files of a run. A door that has a next run writes `open_calls()` down together with the place
    up to which it has read, in one act, and gives it to `resume` before it reads on from there; nothing is then lost
    or doubled, however often it is interrupted. `close(until_ms)` ends the calls whose time-out has passed at that
    record time (a door that knows how far time has come may call it; records that are read do so by themselves).
    `close()` ends everything: for a door that has no next run. Calls that lack a part end as rejections with all their
    parts, so that these can be sent again together with what was missing.
    """

    def open_calls(self) -> bytes: ...

    def resume(self, state: bytes) -> None: ...

    def close(self, until_ms: int | None = None) -> Iterator[SourceRecord]: ...


class Unusable(Exception):
    """A record that cannot become a call record; caught by the source that met it, never seen outside."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class NotBilled(Exception):
    """A row that the profile says is a leg or an internal call."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


def shown(text: str) -> str:
    """A value for a message: quoted when it cannot be a phone number, described when it could."""
    digits = sum(character.isdigit() for character in text)
    if digits > 3:
        return f"a value of {len(text)} characters with {digits} digits"
    cut = text if len(text) <= 40 else text[:37] + "..."
    return ascii(cut)


def instant_text(instant_ms: int) -> str:
    """1768483800200 -> 2026-01-15T13:30:00.200Z"""
    minutes, rest_ms = divmod(instant_ms, 60_000)
    return f"{minute_text(minutes)}:{TWO_DIGITS[rest_ms // 1000]}.{THREE_DIGITS[rest_ms % 1000]}Z"


@lru_cache(maxsize=16_384)
def minute_text(minutes: int) -> str:
    """The records of a file lie close together, so a few thousand minutes serve them all: 29474730 -> 2026-01-15T13:30"""
    days, minute_of_day = divmod(minutes, 1440)
    try:
        day = date.fromordinal(EPOCH_DAY + days)
    except (ValueError, OverflowError):
        raise Unusable("bad_times", "an instant lies outside the years 1-9999") from None
    return f"{day.isoformat()}T{minute_of_day // 60:02d}:{minute_of_day % 60:02d}"


def seconds_text(duration_ms: int) -> str:
    return f"{duration_ms / 1000:.3f} s"


def record_id(switch: str, *parts: str) -> str:
    """The id of one record for ever: the switch and what names the record there, joined by colons.

    A colon or per cent sign inside a part is escaped, so that two different lists never join to one text. What is too
    long for the contract, or not printable ASCII, becomes a 128-bit hash, still after the name of the switch.

        pbx1, 1768483800.2591, 1768483800.2591, 5180  ->  pbx1:1768483800.2591:1768483800.2591:5180
    """
    escaped = [part.replace("%", "%25").replace(":", "%3A") if ":" in part or "%" in part else part for part in parts]
    joined = ":".join([switch, *escaped])
    if PRINTABLE.fullmatch(joined):
        return joined
    digest = hashlib.blake2b(joined.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    return f"{switch}:b2:{digest}"


def check_text(name: str, value: str) -> str:
    """Optional text of the contract: 1-128 bytes of UTF-8 without control characters."""
    if value.isascii() and value.isprintable() and 1 <= len(value) <= 128:
        return value
    try:
        size = len(value) if value.isascii() else len(value.encode())
    except UnicodeEncodeError:
        raise Unusable("bad_field", f"{name}: bytes that are not UTF-8; expected UTF-8 text") from None
    if not 1 <= size <= 128:
        raise Unusable("bad_field", f"{name}: {size} bytes; expected 1 to 128")
    if not value.isprintable() and CONTROL.search(value):
        raise Unusable("bad_field", f"{name}: holds a control character; expected plain text")
    return value


def check_times(start_ms: int, answer_ms: int | None, end_ms: int, billable_ms: int) -> None:
    if start_ms > end_ms:
        raise Unusable("bad_times", f"the call ends {seconds_text(start_ms - end_ms)} before it starts")
    if not 0 <= billable_ms <= BILLABLE_MS_MAX:
        raise Unusable("bad_field", f"billable time is {seconds_text(billable_ms)}; expected 0 to 86400 s (24 h)")
    if answer_ms is None:
        return
    if answer_ms < start_ms:
        raise Unusable("bad_times", f"the answer comes {seconds_text(start_ms - answer_ms)} before the start")
    if answer_ms > end_ms:
        raise Unusable("bad_times", f"the call ends {seconds_text(answer_ms - end_ms)} before its answer")
    talked_ms = end_ms - answer_ms
    if abs(billable_ms - talked_ms) > TOLERANCE_MS:
        raise Unusable(
            "bad_times",
            f"the switch measured {seconds_text(billable_ms)} but end - answer is {seconds_text(talked_ms)}; "
            "they may differ by 1.5 s",
        )


@lru_cache(maxsize=4096)
def is_tenant(text: str) -> bool:
    return TENANT.fullmatch(text) is not None


def needs_user(call_type: str) -> bool:
    return call_type.startswith(("user_", "conf_"))


def canonical_call(
    *,
    record_id: str,
    tenant: str,
    call_type: str,
    user: str | None,
    caller: str | None,
    callee: str,
    start_ms: int,
    answer_ms: int | None,
    end_ms: int,
    billable_ms: int,
    disposition: str,
    source: str,
    switch: str | None,
    **more: str | None,
) -> bytes:
    """The call record as compact JSON, keys in the order of the contract; `more` (call_id ...) follows when present."""
    if not PRINTABLE.fullmatch(record_id):
        raise Unusable("bad_field", "record id: expected 1 to 128 printable ASCII characters")
    if not is_tenant(tenant):
        raise Unusable("bad_field", "tenant: expected up to 64 letters, digits, '.', '_', '-', a letter or digit first")
    if call_type not in CALL_TYPES:
        raise Unusable("bad_field", f"call type {shown(call_type)} is not one of the contract")
    if disposition not in DISPOSITIONS:
        raise Unusable("bad_field", f"disposition {shown(disposition)} is not one of the contract")
    if user is not None:
        check_text("user", user)
    elif needs_user(call_type):
        raise Unusable("missing_field", f"user: {call_type} needs the user who is charged")
    if caller is not None and not E164.fullmatch(caller):
        raise Unusable("bad_field", "caller: expected '+' and 3 to 15 digits")
    if not E164.fullmatch(callee):
        raise Unusable("bad_field", "callee: expected '+' and 3 to 15 digits")
    check_times(start_ms, answer_ms, end_ms, billable_ms)
    call: dict[str, str | int | None] = {
        "record_id": record_id,
        "tenant": tenant,
        "call_type": call_type,
        "user": user,
        "caller": caller,
        "callee": callee,
        "start": instant_text(start_ms),
        "answer": None if answer_ms is None else instant_text(answer_ms),
        "end": instant_text(end_ms),
        "billable_ms": billable_ms,
        "disposition": disposition,
        "source": source,
    }
    if switch:
        call["switch"] = check_text("switch", switch)
    for name, value in more.items():
        if value:
            call[name] = check_text(name, value)
    return orjson.dumps(call)
