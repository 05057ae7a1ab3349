"""Any delimited or fixed-width file, by its profile alone: one row, one call record.

For the many switches whose layout is a table in a manual. The profile names the columns, their shapes and which of
them is which; a row that does not fit is rejected, never re-split by guess.
"""

import csv
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import BinaryIO

from rater.sources.delimited_layout import (
    BY_BILLABLE,
    Settings,
    columns_missing,
    columns_wanted,
    read_settings,
)
from rater.sources.parties import Parties, Sides
from rater.sources.profile import SourceProfile
from rater.sources.record import NotBilled, SourceRecord, Unusable, record_id, shown
from rater.sources.rows import Row, Rows, Splitter, Values
from rater.sources.stamps import Stamps, span_ms
from rater.sources.times import settle


class Frame(Rows):
    """Rows by the profile's delimiter, quote and escape, or by widths."""

    def __init__(self, stream: BinaryIO, settings: Settings) -> None:
        super().__init__(stream, settings.delimiter or ",", settings.width)  # `parse` below decides, not the delimiter
        self.quote = settings.quote.encode()
        self.short_lines = settings.short_lines
        ends = list(accumulate(settings.widths))
        self.cuts = [slice(end - width, end) for end, width in zip(ends, settings.widths, strict=True)]
        self.line_width = ends[-1] if ends else 0
        self.split = self.split_by(settings)

    def split_by(self, settings: Settings) -> Callable[[str], list[str] | None]:
        if self.cuts:
            return self.by_width
        if not settings.quote and not settings.escape:
            return lambda text: text.split(settings.delimiter)

        return Splitter(
            delimiter=settings.delimiter,
            quotechar=settings.quote or None,
            quoting=csv.QUOTE_MINIMAL if settings.quote else csv.QUOTE_NONE,
            escapechar=settings.escape or None,
            doublequote=not settings.escape,
        ).split

    def by_width(self, text: str) -> list[str] | None:
        if len(text) > self.line_width or (len(text) < self.line_width and not self.short_lines):
            return None
        return [text[cut] for cut in self.cuts]

    def parse(self, line: bytes) -> list[str] | None:
        return self.split(line.decode("latin-1"))

    def row(self, line: bytes) -> Row:
        values = self.parse(line)
        if values is None and self.cuts:
            fault = f"found {len(line)} characters, expected {self.line_width}"
            return Row(line, None, "bad_source_row", fault)
        if values is None and self.quote == b'"':
            return super().row(line)
        if values is None:
            return Row(line, None, "bad_source_row", "a quote or an escape in this row does not close")
        if self.width is None or len(values) == self.width:
            return Row(line, values)
        return Row(line, None, "bad_source_row", f"found {len(values)} columns, expected {self.width}")


class EncodedRow(Values):
    """One row by column name, in the file's encoding, without the spaces around a value."""

    __slots__ = ("encoding",)

    def __init__(self, places: Mapping[str, int], values: list[str], encoding: str) -> None:
        super().__init__(places, values)
        self.encoding = encoding

    def get(self, name: str) -> str:
        place = self.places.get(name)
        if place is None:
            return ""
        text = self.values[place].strip()
        if text.isascii():
            return text
        try:
            return text.encode("latin-1").decode(self.encoding)
        except UnicodeDecodeError:
            raise Unusable("bad_field", f"{name}: bytes that are not {self.encoding.upper()}") from None


class Delimited:
    """Reads the files of one profile."""

    def __init__(self, profile: SourceProfile) -> None:
        self.profile = profile
        self.settings = read_settings(profile)
        one = self.settings.one
        self.parties = Parties(
            profile,
            (one["caller"], one["called"], one.get("reached", one["called"]), profile.call_types.column),
        )
        self.stamps = Stamps(self.settings.time_format, profile.zone, self.settings.never)

    def read(self, stream: BinaryIO) -> Iterator[SourceRecord]:
        settings = self.settings
        places = dict(settings.places)
        frame = Frame(stream, settings)
        header = b""
        lacking = ""
        to_skip = settings.skip_lines
        for row in frame:
            if to_skip > 0:
                to_skip -= 1
                yield SourceRecord(row.raw, None, kind="header")
            elif settings.ignore and row.raw.startswith(settings.ignore):
                yield SourceRecord(row.raw, None, kind="header")
            elif row.values is None:
                yield SourceRecord(row.raw, None, row.reason, row.fault)
            elif settings.header and not header:
                header, frame.width = row.raw, len(row.values)
                if not settings.places:
                    places = {}
                    for place, name in enumerate(row.values):
                        places.setdefault(name.strip(), place)
                    missing = columns_missing(places, columns_wanted(self.profile, settings))
                    lacking = f"the header lacks {missing}" if missing else ""
                yield SourceRecord(row.raw, None, "bad_source_row" if lacking else "", lacking, "header")
            elif row.raw == header:
                yield SourceRecord(row.raw, None, kind="header")
            elif lacking:
                yield SourceRecord(row.raw, None, "bad_source_row", "no row can be read without the header's columns")
            else:
                yield self.record(row.raw, EncodedRow(places, row.values, settings.encoding))

    def record(self, raw: bytes, row: EncodedRow) -> SourceRecord:
        try:
            return SourceRecord(raw, self.call(row))
        except Unusable as fault:
            return SourceRecord(raw, None, fault.reason, fault.detail)
        except NotBilled as why:
            return SourceRecord(raw, None, "", why.detail, "leg")

    def call(self, row: EncodedRow) -> bytes:
        for column, kept in self.settings.only.items():
            if row.get(column) not in kept:
                raise NotBilled(f"{column} is not one of [delimited.only]")
        settled = self.parties.settle(self.sides(row))
        billable_ms = self.measured_ms(row, "billable", self.settings.unit)
        disposition = self.disposition(row, billable_ms)
        times = _, answer_ms, end_ms = self.times(row, billable_ms, disposition)
        if billable_ms is None:
            talked = answer_ms is not None and disposition == "answered"
            billable_ms = end_ms - answer_ms if talked and answer_ms is not None else 0
        return self.parties.call_record(
            self.record_id(row),
            settled,
            self.parties.whose(row.get, settled.call_type),
            times,
            billable_ms,
            disposition,
            call_id=self.value(row, "call_id"),
        )

    def value(self, row: EncodedRow, field: str) -> str:
        column = self.settings.one.get(field)
        return row.get(column) if column else ""

    def joined(self, row: EncodedRow, field: str) -> str:
        return " ".join([row.get(column) for column in self.settings.many.get(field, ())]).strip()

    def sides(self, row: EncodedRow) -> Sides:
        caller, called = self.value(row, "caller"), self.value(row, "called")
        column = self.profile.call_types.column
        return Sides(
            caller=caller,
            caller_in=caller,
            called=called,
            reached=self.value(row, "reached") if "reached" in self.settings.one else called,
            trunk_in=self.value(row, "trunk_in"),
            trunk_out=self.value(row, "trunk_out"),
            word=row.get(column) if column else "",
        )

    def record_id(self, row: EncodedRow) -> str:
        parts = [row.get(column) for column in self.settings.many["record_id"]]
        if not any(parts):
            raise Unusable("missing_field", "record_id: its columns are empty, so nothing names this record")
        return record_id(self.profile.switch, *parts)

    def measured_ms(self, row: EncodedRow, field: str, unit: str) -> int | None:
        column = self.settings.one.get(field)
        if column is None:
            return None
        text = row.get(column)
        if not text:
            raise Unusable("missing_field", f"{column}: is empty; expected a measured time")
        if self.settings.decimal == ",":
            text = text.replace(",", ".")
        return span_ms(column, text, unit)

    def disposition(self, row: EncodedRow, billable_ms: int | None) -> str:
        column = self.settings.one["disposition"]
        if column == BY_BILLABLE:
            return "answered" if billable_ms else "unknown"
        text = row.get(column)
        known = self.settings.dispositions
        found = known.get(text) or known.get("*")
        if found is None:
            raise Unusable("bad_field", f"{column}: {shown(text)} is not under [delimited.dispositions]")
        return found

    def times(self, row: EncodedRow, billable_ms: int | None, disposition: str) -> tuple[int, int | None, int]:
        """Start, answer and end; what has no column, or is empty, follows from what was measured."""
        many = self.settings.many
        duration_ms = self.measured_ms(row, "duration", self.settings.duration_unit)
        starts = self.stamps.instants("start", self.joined(row, "start"))
        written: tuple[int | None, ...] = self.stamps.instants("answer", self.joined(row, "answer"))
        ends = self.stamps.instants("end", self.joined(row, "end"))
        starts = starts or tuple([answer for answer in written if answer is not None])
        if not starts:
            raise Unusable("missing_field", "start: is empty")
        if not ends:
            ends = self.ends(starts, written, duration_ms, billable_ms)
        answers: tuple[int | None, ...] = (None,)
        if disposition == "answered" or billable_ms:
            if written:
                answers = written
            elif "answer" not in many and billable_ms:
                answers = tuple([end_ms - billable_ms for end_ms in ends])
        return settle(starts, answers, ends, duration_ms, billable_ms, None)

    def ends(
        self,
        starts: tuple[int, ...],
        answers: tuple[int | None, ...],
        duration_ms: int | None,
        billable_ms: int | None,
    ) -> tuple[int, ...]:
        if duration_ms is not None:
            return tuple([start_ms + duration_ms for start_ms in starts])
        known = [answer_ms for answer_ms in answers if answer_ms is not None]
        if known and billable_ms is not None:
            return tuple([answer_ms + billable_ms for answer_ms in known])
        if billable_ms == 0:
            return starts
        raise Unusable("missing_field", "end: is empty, and no duration says when the call ended")
