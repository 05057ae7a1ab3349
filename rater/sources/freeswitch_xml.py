"""FreeSWITCH's records in XML: files and request bodies of mod_xml_cdr, and of mod_format_cdr with format xml.

The same facts as in JSON (freeswitch_json.py) in another notation, so a record is turned into that shape and read by its
rules; its id is the same, too. Only what stands between `<cdr` and `</cdr>` is parsed: no document type, and so no
entity of anybody's making, can be in it.
"""

import re
from collections.abc import Iterator
from typing import Any, BinaryIO
from xml.etree import ElementTree  # see above: elements alone, never a document type

from rater.sources.freeswitch_json import FORM, FreeswitchJson, decoded
from rater.sources.objects import Objects, Piece
from rater.sources.record import RECORD_BYTES_MAX, SourceRecord

BEGIN = re.compile(rb"<cdr[\s>]")
END = b"</cdr>"
PROLOGUE = re.compile(rb"<\?xml[^>]{0,200}\?>\s*+|cdr=\s*+(?=<)")  # what stands before a record and says nothing of it
NEXT = re.compile(rb"<\?xml|<cdr[\s>]|\n(?=cdr=|%3C)", re.IGNORECASE)
ENCODED = re.compile(rb"\s*+%3C", re.IGNORECASE)
BROKEN = "no XML of a call record; reading goes on where the next one begins"


class XmlRecords(Objects):
    """Records one after another, pretty-printed or not, each perhaps behind an XML declaration; encoded bodies one a line."""

    def __iter__(self) -> Iterator[Piece]:
        while True:
            self.fill()
            self.skip_space()
            prologue = PROLOGUE.match(self.held, self.at)
            if prologue is not None:
                self.at = prologue.end()
                continue
            if self.at < len(self.held):
                self.fill()
                yield self.next_piece()
            elif self.ended:
                return

    def next_piece(self) -> Piece:
        if BEGIN.match(self.held, self.at):
            return self.element()
        line = self.rest_of_line()
        if line.startswith(FORM) or ENCODED.match(line):
            return self.body(line)
        return self.skipped("text where a call record should begin")

    def element(self) -> Piece:
        end = self.held.find(END, self.at, self.at + RECORD_BYTES_MAX)
        if end < 0:
            cut = self.ended and len(self.held) - self.at <= RECORD_BYTES_MAX
            why = "the file ends inside a record; was it cut off?" if cut else f"no end within {RECORD_BYTES_MAX} bytes"
            return self.skipped(why, "bad_source_row" if cut else "too_large")
        following = BEGIN.search(self.held, self.at + 1, end)
        if following is not None:  # one that was cut off, and a whole one behind it
            return self.skipped(BROKEN)
        raw = self.held[self.at : end + len(END)]
        self.at = end + len(END)
        return piece_of(raw, raw)

    def skipped(self, why: str, reason: str = "bad_source_row") -> Piece:
        """Bytes up to where the next record seems to begin."""
        found = NEXT.search(self.held, self.at + 1, self.at + RECORD_BYTES_MAX)
        end = found.start() if found else min(len(self.held), self.at + RECORD_BYTES_MAX)
        raw = self.held[self.at : end].rstrip()
        self.at = end
        return Piece(raw, None, reason, why)

    def rest_of_line(self) -> bytes:
        feed = self.held.find(b"\n", self.at, self.at + RECORD_BYTES_MAX)
        return self.held[self.at : feed if feed >= 0 else self.at + RECORD_BYTES_MAX]

    def body(self, line: bytes) -> Piece:
        self.at += len(line)
        raw = line.rstrip()
        xml = decoded(raw, ENCODED, plain=b"<")
        begin, end = BEGIN.search(xml), xml.rfind(END)
        if begin is None or end < 0:
            return Piece(
                raw, None, "bad_source_row", "an encoded body that holds no XML of a call record; was it cut off?"
            )
        return piece_of(raw, xml[begin.start() : end + len(END)])


def piece_of(raw: bytes, xml: bytes) -> Piece:
    try:
        root = ElementTree.fromstring(xml.decode("utf-8", "strict"))  # see the head of this module
    except (ElementTree.ParseError, UnicodeDecodeError, ValueError):
        return Piece(raw, None, "bad_source_row", BROKEN)
    return Piece(raw, as_json(root))


def as_json(root: "ElementTree.Element") -> dict[str, Any]:
    """The shape that mod_json_cdr writes: attributes, variables, and the call flows in their order, the newest first."""
    flows = []
    for flow in root.findall("callflow"):
        profile = flow.find("caller_profile")
        flows.append({"caller_profile": texts(profile) if profile is not None else {}})
    variables = root.find("variables")
    value: dict[str, Any] = {name: text for name, text in root.attrib.items() if name in ("core-uuid", "switchname")}
    value["variables"] = texts(variables) if variables is not None else {}
    if flows:
        value["callflow"] = flows
    return value


def texts(element: "ElementTree.Element") -> dict[str, Any]:
    """Children by name. One that has children of its own (originator) stays an object, and of two with one name both stay:
    whoever asks for it refuses it."""
    found: dict[str, Any] = {}
    for child in element:
        value: Any = texts(child) if len(child) else (child.text or "").strip()
        before = found.setdefault(child.tag, value)
        if before != value:
            found[child.tag] = [before, value]
    return found


class FreeswitchXml(FreeswitchJson):
    """Reads what mod_xml_cdr and mod_format_cdr write as XML. Variables are URL-encoded unless the profile says not."""

    def read(self, stream: BinaryIO) -> Iterator[SourceRecord]:
        for piece in XmlRecords(stream):
            if piece.value is None:
                yield SourceRecord(piece.raw, None, piece.reason, piece.fault)
            else:
                yield self.record(piece.raw, piece.value)
