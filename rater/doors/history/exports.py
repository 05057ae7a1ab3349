"""A tenant's usage as a file: CSV (RFC 4180), XLSX, Parquet, in the columns of `rater.usage.export`.

A file appears under its name only when it is whole. Numbers are shown whole: it is the tenant's own export. In a CSV no cell
is a formula; in XLSX and Parquet texts are texts by their type, so they need no apostrophe and get none.
"""

import csv
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rater.core.instants import instant_text
from rater.doors.history.queries import Filter, Reflected, reflected, usage_chunks
from rater.doors.history.store import HistoryProblem, Store
from rater.usage.cells import cents, harmless, two_decimals
from rater.usage.export import AMOUNT, COLUMNS, COUNT, INSTANT, Column, export_row

FORMATS = ("csv", "xlsx", "parquet")
SHEET_ROWS_MAX = 1_048_576
CELL_CHARACTERS_MAX = 32_767
NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
TAKEN_FOR_MORE = ("=", "#")  # of which the library would make a formula or an error, and not the text that it is
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Rows = Iterable[list[list[Any]]]  # chunks of rows


@dataclass(frozen=True, slots=True)
class Exported:
    """What went into a file. `charge_micros` is the exact sum by currency; the file's own column is rounded call by call."""

    path: Path
    rows: int
    charge_micros: dict[str, int]
    reflects: list[Reflected]


def export(
    store: Store, tenant: str, wanted: Filter, path: Path, form: str, columns: str = "usage", hidden: int = 0
) -> Exported:
    """Write the file. `columns`: usage, newer or detail; `hidden`: last digits of external numbers that are masked."""
    chosen = COLUMNS[columns]
    write = {"csv": write_csv, "xlsx": write_xlsx, "parquet": write_parquet}[form]
    _check_library(form)
    charged: dict[str, int] = {}
    count = 0

    def chunks() -> Iterator[list[list[Any]]]:
        nonlocal count
        for usages in usage_chunks(read, tenant, wanted):
            for usage in usages:
                charged[usage.currency] = charged.get(usage.currency, 0) + usage.charge_micros
            count += len(usages)
            yield [export_row(usage, chosen, hidden) for usage in usages]

    with store.reading() as read:
        told = reflected(read, tenant)
        with _whole(path) as unfinished:
            write(unfinished, chosen, chunks())
    return Exported(path, count, charged, told)


def _check_library(form: str) -> None:
    library = {"xlsx": "openpyxl", "parquet": "pyarrow"}.get(form)
    if library is not None and find_spec(library) is None:
        raise HistoryProblem(
            f"{form} needs {library}; install rater with its extra, in a checkout: pip install '.[history]', or export csv"
        )


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A file beside the one meant, which takes its name when it is written and durable."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise HistoryProblem(f"{path}: {error.strerror}; expected a file that can be written") from None
    unfinished = Path(name)
    try:
        yield unfinished
        with unfinished.open("rb") as stream:
            os.fsync(stream.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


# ---------------------------------------------------------------------------------------------- CSV


def write_csv(path: Path, columns: Sequence[Column], chunks: Rows) -> None:
    """First row names, CRLF line ends, UTF-8 without a mark, a cell quoted where it must be."""
    make = [_csv_cell(column.kind) for column in columns]
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\r\n")
        writer.writerow([column.name for column in columns])
        for rows in chunks:
            writer.writerows([cell(value) for cell, value in zip(make, row, strict=True)] for row in rows)


def _csv_cell(kind: str) -> Callable[[Any], str]:
    if kind == AMOUNT:
        return two_decimals
    if kind == INSTANT:
        return instant_text
    if kind == COUNT:
        return str
    return lambda value: "" if value is None else harmless(value)


# ---------------------------------------------------------------------------------------------- XLSX


def write_xlsx(path: Path, columns: Sequence[Column], chunks: Rows) -> None:
    """Written row by row; a sheet that is full is followed by another. Instants are UTC, as a spreadsheet's dates have no zone."""
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.styles import Font

    book = Workbook(write_only=True)
    bold = Font(bold=True)
    sheet: Any = None
    left = 0

    def cell(column: Column, value: Any) -> Any:
        if value is None:
            return None
        if column.kind == COUNT:
            return value
        if column.kind == AMOUNT:
            made = WriteOnlyCell(sheet, Decimal(cents(value)).scaleb(-2))
            made.number_format = "0.00"
            return made
        if column.kind == INSTANT:
            made = WriteOnlyCell(sheet, (EPOCH + timedelta(milliseconds=value)).replace(tzinfo=None))
            made.number_format = 'yyyy\\-mm\\-dd"T"hh:mm:ss.000"Z"'
            return made
        text = NOT_IN_XML.sub("\ufffd", value)[:CELL_CHARACTERS_MAX]
        if not text.startswith(TAKEN_FOR_MORE):
            return text
        made = WriteOnlyCell(sheet, text)
        made.data_type = "s"
        return made

    def begin() -> Any:
        begun = book.create_sheet("Usage" if not book.worksheets else f"Usage {len(book.worksheets) + 1}")
        begun.freeze_panes = "A2"
        head = [WriteOnlyCell(begun, column.name) for column in columns]
        for name in head:
            name.font = bold
        begun.append(head)
        return begun

    sheet, left = begin(), SHEET_ROWS_MAX - 1
    for rows in chunks:
        for row in rows:
            if not left:
                sheet, left = begin(), SHEET_ROWS_MAX - 1
            sheet.append([cell(column, value) for column, value in zip(columns, row, strict=True)])
            left -= 1
    book.save(path)


# ---------------------------------------------------------------------------------------------- Parquet


def write_parquet(path: Path, columns: Sequence[Column], chunks: Rows) -> None:
    """numeric(16,2) as decimals, instants as UTC milliseconds, texts as texts."""
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {AMOUNT: pa.decimal128(18, 2), INSTANT: pa.timestamp("ms", tz="UTC"), COUNT: pa.int64()}
    schema = pa.schema([pa.field(column.name, kinds.get(column.kind, pa.string())) for column in columns])
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for rows in chunks:
            arrays = [
                pa.array(_values(column, values), field.type)
                for column, field, values in zip(columns, schema, zip(*rows, strict=True), strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _values(column: Column, values: Sequence[Any]) -> Sequence[Any]:
    return [Decimal(cents(value)).scaleb(-2) for value in values] if column.kind == AMOUNT else values
