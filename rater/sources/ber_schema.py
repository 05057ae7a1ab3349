"""The fields of 3GPP TS 32.298 records that a call needs, and how their octets are read.

Records are sets of tagged members, and every release and vendor adds some; a member that is not here is passed over by
its tag. So each member is one alternative of a choice, decoded by itself with asn1tools, in whatever order they come.
The tags are those of the standard's modules for CS, IMS and MMTel records.
"""

import importlib
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from rater.sources.numbers import is_digits
from rater.sources.record import Unusable
from rater.sources.times import instant_ms

MODULE = """
Calls DEFINITIONS IMPLICIT TAGS ::= BEGIN
InvolvedParty ::= CHOICE {
  sipUri [0] GraphicString, telUri [1] GraphicString, urn [2] GraphicString, isdn [3] GraphicString,
  external [4] UTF8String }
Diagnostics ::= CHOICE { gsm0408Cause [0] INTEGER, mapError [1] INTEGER, q767Cause [2] INTEGER }
Ims ::= CHOICE {
  recordType [0] INTEGER, role [3] INTEGER, sessionId [5] OCTET STRING, calling [6] SEQUENCE OF InvolvedParty,
  called [7] InvolvedParty, requested [9] OCTET STRING, answered [10] OCTET STRING, ended [11] OCTET STRING,
  opened [12] OCTET STRING, closed [13] OCTET STRING, sequence [16] INTEGER, cause [17] INTEGER,
  chargingId [19] OCTET STRING, requestedMs [37] INTEGER, answeredMs [38] INTEGER, endedMs [39] INTEGER }
Mo ::= CHOICE {
  recordType [0] INTEGER, served [3] OCTET STRING, calling [4] OCTET STRING, called [5] OCTET STRING,
  entity [9] OCTET STRING, trunkIn [10] TrunkGroup, trunkOut [11] TrunkGroup, seized [22] OCTET STRING,
  answered [23] OCTET STRING, released [24] OCTET STRING, duration [25] INTEGER, cause [30] INTEGER,
  diagnostics [31] Diagnostics, callReference [32] OCTET STRING, sequence [33] INTEGER }
Mt ::= CHOICE {
  recordType [0] INTEGER, served [3] OCTET STRING, calling [4] OCTET STRING, entity [6] OCTET STRING,
  trunkIn [7] TrunkGroup, trunkOut [8] TrunkGroup, seized [19] OCTET STRING, answered [20] OCTET STRING,
  released [21] OCTET STRING, duration [22] INTEGER, cause [27] INTEGER, diagnostics [28] Diagnostics,
  callReference [29] OCTET STRING, sequence [30] INTEGER }
TrunkGroup ::= CHOICE { number [0] INTEGER, name [1] GraphicString }
END
"""
MEMBER = re.compile(r"[{,]\s*\w+ \[(\d+)\]")
CHOICE = re.compile(r"^(Ims|Mo|Mt) ::= CHOICE \{(.*?)\}", re.DOTALL | re.MULTILINE)
TAGS: Mapping[str, frozenset[int]] = MappingProxyType(
    {name: frozenset(map(int, MEMBER.findall("{" + body))) for name, body in CHOICE.findall(MODULE)}
)
MO, MT = 0, 1
IMS_RECORDS = frozenset({63, 69, 83})  # S-CSCF, application server, MMTel
INTERNATIONAL = 1
NIBBLES = "0123456789*#abc"
SOS = "urn:service:sos"

Decode = Callable[[str, bytes], tuple[str, Any]]


@lru_cache(maxsize=1)
def compiled() -> Decode | None:
    """asn1tools' decoder of the module above; None when it is not installed."""
    try:
        asn1tools = importlib.import_module("asn1tools")
    except ImportError:
        return None
    decode: Decode = asn1tools.compile_string(MODULE, "ber").decode
    return decode


def header_at(data: bytes, at: int) -> tuple[int, int, int]:
    """Tag number, size of tag and length octets, and length of the content (-1: indefinite). IndexError at the end."""
    number, size = data[at] & 0x1F, 1
    if number == 0x1F:
        number = 0
        while True:
            octet = data[at + size]
            size += 1
            number = number << 7 | octet & 0x7F
            if octet < 0x80:
                break
            if size > 4:
                raise ValueError("a tag of more than four octets")
    length = data[at + size]
    size += 1
    if length == 0x80:
        return number, size, -1
    if length > 0x80:
        octets = length & 0x7F
        if octets > 4:
            raise ValueError("a length of more than four octets")
        if at + size + octets > len(data):
            raise IndexError
        length = int.from_bytes(data[at + size : at + size + octets], "big")
        size += octets
    return number, size, length


def end_of(data: bytes, at: int) -> int:
    """Where the element that begins here ends; inside indefinite lengths the elements are walked to their end marks.

    IndexError when `data` ends first, ValueError when this is no element.
    """
    _, size, length = header_at(data, at)
    if length >= 0:
        return at + size + length
    if not data[at] & 0x20:
        raise ValueError("an indefinite length of a primitive element")
    depth, place = 1, at + size
    while depth:
        if data[place] == 0 and data[place + 1] == 0:
            depth -= 1
            place += 2
            continue
        _, size, length = header_at(data, place)
        if length < 0:
            depth += 1
        place += size + max(length, 0)
    return place


def members(content: bytes, kind: str, decode: Decode) -> dict[str, Any]:
    """The members that we know, by name. A member twice, or one that does not decode, is a broken record."""
    tags = TAGS[kind]
    found: dict[str, Any] = {}
    place = 0
    while place < len(content):
        if content[place] == 0 and content[place + 1 : place + 2] == b"\x00":
            break  # the end mark of an indefinite length
        number, size, length = header_at(content, place)
        end = place + size + length if length >= 0 else end_of(content, place)
        if end > len(content):
            raise IndexError
        if number in tags and content[place] & 0xC0 == 0x80:
            name, value = decode(kind, content[place:end])
            if name in found:
                raise ValueError("a member comes twice")
            found[name] = value
        place = end
    return found


def stamp_ms(name: str, octets: bytes) -> int:
    """Nine octets YYMMDDhhmmss, sign, hhmm; digits in BCD: 260115133000 + 0000 -> 2026-01-15T13:30:00Z."""
    digits = octets[:6].hex() + octets[7:].hex()
    if len(octets) != 9 or octets[6:7] not in (b"+", b"-") or not is_digits(digits):
        raise Unusable("bad_field", f"{name}: not a time stamp of nine octets")
    day = f"20{digits[0:2]}-{digits[2:4]}-{digits[4:6]}T{digits[6:8]}:{digits[8:10]}:{digits[10:12]}"
    return instant_ms(name, f"{day}{octets[6:7].decode()}{digits[12:16]}")


def tbcd(octets: bytes) -> str:
    """Digits with the low half first, F for none: 21 43 F5 -> 12345."""
    digits: list[str] = []
    for octet in octets:
        for nibble in (octet & 0x0F, octet >> 4):
            if nibble == 0x0F:
                return "".join(digits)
            digits.append(NIBBLES[nibble])
    return "".join(digits)


def directory_number(octets: bytes) -> str:
    """Type of number, perhaps the octet of presentation, then digits; an international one gets its `+`."""
    if not octets:
        return ""
    digits = tbcd(octets[1:] if octets[0] & 0x80 else octets[2:])
    return "+" + digits if digits and octets[0] >> 4 & 0x07 == INTERNATIONAL else digits


def text_of(octets: bytes) -> str:
    """An identifier as text when it is plain text, else its octets in hexadecimal."""
    if octets and all(0x20 <= octet <= 0x7E for octet in octets):
        return octets.decode("ascii")
    return octets.hex()
