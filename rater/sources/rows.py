"""Rows of a delimited file, one at a time, each with its bytes; a broken row never takes the next one along.

A row ends at the first line end outside quotes. A line that ends inside quotes may be a value with a line break in
it, or a row cut off by a full disk; it is joined with the lines after it only when that gives a whole row of the
right width and none of those lines is a row itself. Otherwise the broken row ends at its line end. Bytes
become text one to one (Latin-1), so a foreign byte in a column that nobody uses does no harm; `utf8` reads the others.
"""

import csv
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

from rater.sources.record import RECORD_BYTES_MAX, Unusable

JOINED_LINES_MAX = 8
BOM = b"\xef\xbb\xbf"


class Row(NamedTuple):
    """The row's bytes without its line end, and its values; or None and why."""

    raw: bytes
    values: list[str] | None
    reason: str = ""
    fault: str = ""


def utf8(name: str, text: str) -> str:
    """A value read one byte to one character, as the UTF-8 it was written in."""
    if text.isascii():
        return text
    try:
        return text.encode("latin-1").decode()
    except UnicodeDecodeError:
        raise Unusable("bad_field", f"{name}: bytes that are not UTF-8; expected UTF-8 text") from None


class Values:
    """One row by the names of its columns; one that the layout does not have is empty."""

    __slots__ = ("places", "values")

    def __init__(self, places: Mapping[str, int], values: list[str]) -> None:
        self.places = places
        self.values = values

    def get(self, name: str) -> str:
        place = self.places.get(name)
        if place is None:
            return ""
        text = self.values[place]
        return text if text.isascii() else utf8(name, text)

    def has(self, name: str) -> bool:
        return name in self.places


class Splitter:
    """Splits one line at a time with one csv.reader, since making a reader costs as much as a short line does.

    The reader takes its lines from a stack over a None: after a line, the None ends a row that is still inside quotes,
    and the reader with it. Such a row is a csv.Error, as any is that breaks the rules, and the next line has a new reader.
    """

    def __init__(self, **dialect: Any) -> None:
        self.dialect = dialect
        self.renew()

    def renew(self) -> None:
        self.lines: list[str | None] = [None]
        self.reader = csv.reader(iter(self.lines.pop, None), strict=True, **self.dialect)

    def split(self, line: str) -> list[str] | None:
        """The line's values, or None."""
        self.lines.append(line)
        try:
            return next(self.reader)
        except csv.Error:
            self.renew()
            return None


class Rows:
    """Reads rows; `width` is how many values a row has, None until the header has said so."""

    def __init__(self, stream: BinaryIO, delimiter: str, width: int | None) -> None:
        self.stream = stream
        self.delimiter = delimiter
        self.width = width
        self.ahead: deque[tuple[bytes, int]] = deque()
        self.splitter = Splitter(delimiter=delimiter)

    def __iter__(self) -> Iterator[Row]:
        taken = self.read_line()
        if taken is not None:
            self.ahead.append((taken[0].removeprefix(BOM), taken[1]))
        while (taken := self.ahead.popleft() if self.ahead else self.read_line()) is not None:
            line, size = taken
            if size > RECORD_BYTES_MAX:
                yield Row(line, None, "too_large", f"a line of {size} bytes, of which the first {len(line)} are kept")
            elif line.strip():
                yield self.row(line)

    def row(self, line: bytes) -> Row:
        values = self.parse(line)
        if values is not None:
            if self.width is None or len(values) == self.width:
                return Row(line, values)
            return Row(line, None, "bad_source_row", f"found {len(values)} columns, expected {self.width}")
        if line.count(b'"') % 2:
            return self.joined(line) or Row(
                line, None, "bad_source_row", "a quote is opened and not closed; the row ends at its line end"
            )
        return Row(line, None, "bad_source_row", "a quote inside a quoted value is not doubled")

    def joined(self, line: bytes) -> Row | None:
        """The row that spans lines, if one does; the lines looked at stay where they are otherwise."""
        whole = line
        for index in range(JOINED_LINES_MAX - 1):
            while len(self.ahead) <= index:
                read = self.read_line()
                if read is None:
                    return None
                self.ahead.append(read)
            following, size = self.ahead[index]
            alone = self.parse(following)
            whole += b"\n" + following
            if len(whole) > RECORD_BYTES_MAX or size > RECORD_BYTES_MAX:
                return None
            if self.width is None or (alone is not None and len(alone) == self.width):
                return None
            values = self.parse(whole)
            if values is not None and len(values) == self.width:
                for _ in range(index + 1):
                    self.ahead.popleft()
                return Row(whole.removesuffix(b"\r"), values)
        return None

    def parse(self, line: bytes) -> list[str] | None:
        return self.splitter.split(line.decode("latin-1"))

    def read_line(self) -> tuple[bytes, int] | None:
        """The next line without its end, at most RECORD_BYTES_MAX bytes of it, and how long it is in the file."""
        line = self.stream.readline(RECORD_BYTES_MAX + 2)
        if not line:
            return None
        if line.endswith(b"\n"):
            return trimmed(line[:-1])
        size = len(line)
        while size > RECORD_BYTES_MAX:
            more = self.stream.readline(RECORD_BYTES_MAX)
            size += len(more.removesuffix(b"\n"))
            if not more or more.endswith(b"\n"):
                return line[:RECORD_BYTES_MAX], size
        return trimmed(line)


def trimmed(line: bytes) -> tuple[bytes, int]:
    line = line.removesuffix(b"\r")
    return line[:RECORD_BYTES_MAX], len(line)
