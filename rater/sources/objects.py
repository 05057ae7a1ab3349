"""Rows of a JSON file, one object at a time, each with its bytes, in bounded memory.

The file is an array of rows, a page `{"value": [...]}` of a web interface, several of these one after the other, or
one row a line. Rows are found by their braces with strings and escapes respected, then parsed. A row that does not
parse ends where the next one seems to begin (`}, {`, `} ]`, or a line that begins with `{`); it is rejected with its
bytes and reading goes on there. What a row means is not known here.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import orjson

from rater.sources.record import RECORD_BYTES_MAX

CHUNK_BYTES = 262_144
STRING = rb'"(?:[^"\\\x00-\x1f]++|\\.)*+"'
SCALAR = rb'[^\s,:{}\[\]"]++'
MEMBER = STRING + rb"\s*+:\s*+(?:" + STRING + rb"|" + SCALAR + rb")\s*+"
FLAT_ROW = re.compile(rb'\{(?:[^"{}\[\]]++|' + STRING + rb")*+\}")
# Members are repeated without `*+`: before 3.11.5 Python loses its way where what is repeated may go back within itself (gh-106052).
PAGE_HEAD = re.compile(rb"\{\s*+(?:(?!\"value\"\s*+:)" + MEMBER + rb",\s*+)*\"value\"\s*+:\s*+\[")
PAGE_TAIL = re.compile(rb"\]\s*+(?:,\s*+" + MEMBER + rb")*\}")
PAGE_KEY = b'"value"'
BRACES = re.compile(STRING + rb'|[{}]|"')
BETWEEN = re.compile(rb"(?:[\s,\x1e]|\xef\xbb\xbf)*+")
NEXT_ROW = re.compile(rb"\}(?=\s*,\s*\{)|\}(?=\s*\])|\n(?=[ \t]*\{)")
BRACE, OPENING, CLOSING = b"{[]"
CUT_OFF = "the file ends inside an array; was the download cut off?"


@dataclass(frozen=True, slots=True)
class Piece:
    """One row's bytes and its value, or None and why."""

    raw: bytes
    value: dict[str, Any] | None
    reason: str = ""
    fault: str = ""


def parse(raw: bytes) -> dict[str, Any] | None:
    """The object, or None. Bytes that are not UTF-8 come through as surrogates, which only a used field minds."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        try:
            value = json.loads(raw.decode("utf-8", "surrogateescape"), parse_constant=refuse_constant)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def refuse_constant(name: str) -> None:
    raise ValueError(name)


class Objects:
    """Reads rows. At every decision the next RECORD_BYTES_MAX bytes, or all that is left, are at hand."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.held = b""
        self.at = 0
        self.ended = False
        self.in_page = False
        self.arrays = 0

    def fill(self) -> None:
        while not self.ended and len(self.held) - self.at <= RECORD_BYTES_MAX:
            more = self.stream.read(CHUNK_BYTES)
            self.ended = not more
            self.held = self.held[self.at :] + more
            self.at = 0

    def __iter__(self) -> Iterator[Piece]:
        while self.next_row():
            if self.held[self.at] == BRACE:
                piece = self.row()
                if piece is not None:
                    yield piece
            else:
                yield self.junk()
        if self.in_page or self.arrays > 0:
            yield Piece(b"", None, "bad_source_row", CUT_OFF)

    def next_row(self) -> bool:
        """Move to the next thing that is no bracket, comma or space; False at the end of the file."""
        while True:
            self.fill()
            self.skip_space()
            if self.at == len(self.held):
                if self.ended:
                    return False
                continue
            self.fill()
            here = self.held[self.at]
            tail = PAGE_TAIL.match(self.held, self.at) if self.in_page else None
            if tail is not None:
                self.at = tail.end()
                self.in_page = False
            elif here == OPENING:
                self.at += 1
                self.arrays += 1
            elif here == CLOSING and self.arrays > 0:
                self.at += 1
                self.arrays -= 1
            else:
                return True

    def skip_space(self) -> None:
        between = BETWEEN.match(self.held, self.at)
        if between is not None:
            self.at = between.end()

    def row(self) -> Piece | None:
        """The row that begins here; None when it is the head of a page."""
        whole = self.whole()
        if whole is not None:
            return whole
        flat = FLAT_ROW.match(self.held, self.at)
        if flat is None:
            head = PAGE_HEAD.match(self.held, self.at)
            if head is not None:
                self.at = head.end()
                self.in_page = True
                return None
        end = flat.end() if flat is not None else self.closing_brace()
        if end is not None and end - self.at <= RECORD_BYTES_MAX:
            raw = self.held[self.at : end]
            value = parse(raw)
            if value is not None:
                self.at = end
                return Piece(raw, value)
        return self.broken()

    def whole(self) -> Piece | None:
        """The row that ends with its line, at a brace in the first column, or with the file: quick for a deep row."""
        for end in self.likely_ends():
            raw = self.held[self.at : end].rstrip(b" \t\r\n,")
            if raw.endswith(b"}") and PAGE_KEY not in raw:
                try:
                    value = orjson.loads(raw)
                except orjson.JSONDecodeError:
                    continue
                self.at += len(raw)
                return Piece(raw, value)
        return None

    def likely_ends(self) -> Iterator[int]:
        last = min(len(self.held), self.at + RECORD_BYTES_MAX)
        feed = self.held.find(b"\n", self.at, last)
        if feed >= 0:
            yield feed
            brace = self.held.find(b"\n}", feed, last)
            if brace >= 0:
                yield brace + 2
                return
        if self.ended and last == len(self.held):
            yield last

    def closing_brace(self) -> int | None:
        depth = 0
        for found in BRACES.finditer(self.held, self.at, self.at + RECORD_BYTES_MAX):
            token = found[0]
            if token == b"{":
                depth += 1
            elif token == b"}":
                depth -= 1
                if depth == 0:
                    return found.end()
            elif token == b'"':
                return None  # a string that does not end
        return None

    def broken(self) -> Piece:
        found = NEXT_ROW.search(self.held, self.at + 1, self.at + RECORD_BYTES_MAX)
        last = min(len(self.held), self.at + RECORD_BYTES_MAX)
        end = found.end() if found else last
        raw = self.held[self.at : end].rstrip()
        self.at = end
        if found is None and not (self.ended and last == len(self.held)):
            return Piece(raw, None, "too_large", f"no end of this object within {RECORD_BYTES_MAX} bytes")
        return Piece(raw, None, "bad_source_row", "not a JSON object; reading goes on where the next one begins")

    def junk(self) -> Piece:
        """Bytes that belong to no row: up to the line end or the next brace."""
        window = self.held[self.at : self.at + RECORD_BYTES_MAX]
        ends = [place for place in (window.find(b"\n"), window.find(b"{")) if place > 0]
        raw = window[: min(ends)] if ends else window
        self.at += len(raw)
        return Piece(raw.rstrip(), None, "bad_source_row", "text where a JSON object should begin")
