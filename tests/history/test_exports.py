"""Exports to the byte: the columns a customer knows, amounts half up to two decimals, and no cell that becomes a formula."""

import csv
import datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from pyarrow import parquet

from rater.doors.history import exports
from rater.doors.history.exports import export
from rater.doors.history.queries import Filter
from rater.doors.history.store import Store
from rater.usage.cells import MASKED, connected_seconds, harmless, masked_parties, two_decimals
from rater.usage.export import COLUMNS
from tests.history.support import put, rated, twin_of

HEADER = (
    "UsageId,Call ID,Conference ID,User Location,AAD ObjectId,UPN,User Display Name,Caller ID,Destination Number,Call Type,"
    "Number Type,Domestic/International,Destination Dialed,Start Time,End Time,Duration Seconds,Connection Fee,Charge,Currency,"
    "Capability"
)
GUID = "47794cd0-f0e5-45c5-9033-2eb6b5fc84e0"


def exported(store: Store, path: Path, form: str = "csv", columns: str = "usage", hidden: int = 0) -> Path:
    return export(store, "contoso", Filter(), path / f"x.{form}", form, columns, hidden).path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_csv_is_these_bytes(store: Store, tmp_path: Path):
    put(store, [
        rated(0, pool="GB/MCOPSTN1/domestic/2026-11", connection_fee_micros=5_000, call_id='a,"b"', user=GUID),
        rated(1, start="2026-11-03T13:31:00.000Z", outcome="not_connected", answer=None, charge_micros=0, billed_minutes=0,
              billable_ms=0, pool=None, destination=None, capability=None, caller=None, destination_context=None),
    ])  # fmt: skip
    assert exported(store, tmp_path).read_bytes() == (
        HEADER.encode() + b"\r\n"
        b'r0,"a,""b""",,GB,'
        + GUID.encode()
        + b",,,+442079460018,+12125550123,user_out,,International,United States - New York,"
        b"2026-11-03T13:30:00.200Z,2026-11-03T13:32:47.250Z,155,0.01,0.04,USD,MCOPSTNPP\r\n"
        b"r1,,,,,u-1842,,,+12125550123,user_out,,,US,2026-11-03T13:31:00.000Z,2026-11-03T13:33:34.550Z,0,0.00,0.00,USD,\r\n"
    )


def test_the_newer_columns_and_the_detail_come_behind(sqlite_store: Store, tmp_path: Path):
    put(sqlite_store, [rated(0)])
    (newer,) = rows_of(exported(sqlite_store, tmp_path, columns="newer"))
    assert list(newer)[:20] == HEADER.split(",")
    assert list(newer)[20:] == ["Operator", "Source of Call Duration", "Call Direction", "External Country"]
    assert (newer["Call Direction"], newer["External Country"], newer["Source of Call Duration"]) == (
        "Outbound", "US", "freeswitch",
    )  # fmt: skip
    (detail,) = rows_of(exported(sqlite_store, tmp_path, columns="detail"))
    assert (detail["Pool Minutes"], detail["Credit Minutes"], detail["Charge Micros"], detail["Lots"]) == (
        "1", "2", "41000", '[["lot-7",41000]]',
    )  # fmt: skip
    assert detail["Deck Version"]


@pytest.mark.parametrize(
    ("micros", "text"),
    [(0, "0.00"), (4_999, "0.00"), (5_000, "0.01"), (14_999, "0.01"), (15_000, "0.02"), (1_005_000, "1.01"),
     (999_995_000, "1000.00"), (123_456_789_012_345, "123456789.01"), (-5_001, "-0.01"), (-5_000, "0.00")],
)  # fmt: skip
def test_two_decimals_half_up(micros: int, text: str):
    assert two_decimals(micros) == text


def test_two_decimals_are_the_nearest_of_all():
    for micros in range(-30_000, 30_000, 37):
        assert abs(Fraction(two_decimals(micros)) - Fraction(micros, 10**6)) <= Fraction(5, 1000)


@pytest.mark.parametrize(("ms", "seconds"), [(1, 1), (1000, 1), (1001, 2), (0, 0)])
def test_a_started_second_counts(ms: int, seconds: int):
    assert connected_seconds(ms, "charged") == seconds
    assert connected_seconds(ms, "not_connected") == 0


# ---------------------------------------------------------------------------------------------- formulas

DANGEROUS = ["=1+1", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "=cmd|' /C calc'!A0", "+44-20", "+1234567890123456",
             " =1", "\u00a0=1", "\uff1d1", "\uff0b1", "-1", "+", "=", "+12\n", "@"]  # fmt: skip
HARMLESS = ["+442079460018", "+123", "+123456789012345", "contoso", "u-1842", "1+1", "", " ", "a=b", "O'Neill", "'=1"]


@pytest.mark.parametrize("text", DANGEROUS)
def test_what_looks_like_a_formula_gets_an_apostrophe(text: str):
    assert harmless(text) == f"'{text}"


@pytest.mark.parametrize("text", HARMLESS)
def test_a_phone_number_and_plain_text_stay_as_they_are(text: str):
    assert harmless(text) == text


@pytest.mark.parametrize("text", DANGEROUS)
def test_no_text_of_a_switch_becomes_a_formula_in_any_format(sqlite_store: Store, text: str, tmp_path: Path):
    put(sqlite_store, [rated(0, user=text, call_id=text, record_id="=r0", source=text)])
    (row,) = rows_of(exported(sqlite_store, tmp_path, columns="detail"))
    assert (row["UPN"], row["Call ID"], row["UsageId"], row["Source of Call Duration"]) == (
        f"'{text}", f"'{text}", "'=r0", f"'{text}",
    )  # fmt: skip
    assert row["Destination Number"] == "+12125550123"
    sheet = openpyxl.load_workbook(exported(sqlite_store, tmp_path, "xlsx")).active
    cells = {sheet.cell(1, k).value: sheet.cell(2, k) for k in range(1, sheet.max_column + 1)}
    assert {cells[name].data_type for name in ("UsageId", "Call ID", "UPN")} == {"s"}
    assert cells["UsageId"].value == "=r0"
    assert cells["Destination Number"].value == "+12125550123"
    table = parquet.read_table(exported(sqlite_store, tmp_path, "parquet"))
    assert table["UPN"].to_pylist() == [text]


# ---------------------------------------------------------------------------------------------- XLSX and Parquet


def test_a_workbook_has_numbers_as_numbers_and_instants_as_instants(store: Store, tmp_path: Path):
    put(store, [rated(0, connection_fee_micros=5_000)])
    sheet = openpyxl.load_workbook(exported(store, tmp_path, "xlsx")).active
    assert [cell.value for cell in sheet[1]] == HEADER.split(",")
    row = dict(zip(HEADER.split(","), sheet[2], strict=True))
    assert (row["Charge"].value, row["Connection Fee"].value, row["Duration Seconds"].value) == (0.04, 0.01, 155)
    assert row["Charge"].number_format == "0.00"
    assert row["Start Time"].value == datetime.datetime(2026, 11, 3, 13, 30, 0, 200_000)
    assert row["User Display Name"].value is None


def test_a_full_sheet_is_followed_by_another(sqlite_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exports, "SHEET_ROWS_MAX", 4)
    put(sqlite_store, [rated(k) for k in range(7)])
    book = openpyxl.load_workbook(exported(sqlite_store, tmp_path, "xlsx"))
    assert book.sheetnames == ["Usage", "Usage 2", "Usage 3"]
    assert [sheet.max_row for sheet in book] == [4, 4, 2]
    assert all(sheet["A1"].value == "UsageId" for sheet in book)


def test_what_no_workbook_can_hold_is_told_by_a_mark(sqlite_store: Store, tmp_path: Path):
    put(sqlite_store, [rated(0, user="a\x07b", call_id="x" * 40_000)])
    sheet = openpyxl.load_workbook(exported(sqlite_store, tmp_path, "xlsx")).active
    row = dict(zip(HEADER.split(","), sheet[2], strict=True))
    assert row["UPN"].value == "a\ufffdb"
    assert len(row["Call ID"].value) == 32_767


def test_a_parquet_file_has_the_types_of_the_portal(store: Store, tmp_path: Path):
    put(store, [rated(0), rated(1, charge_micros=1_005_000)])
    table = parquet.read_table(exported(store, tmp_path, "parquet"))
    assert table.column_names == HEADER.split(",")
    assert table["Charge"].to_pylist() == [Decimal("0.04"), Decimal("1.01")]
    assert str(table.schema.field("Charge").type) == "decimal128(18, 2)"
    assert str(table.schema.field("Start Time").type) == "timestamp[ms, tz=UTC]"
    assert table["Start Time"].to_pylist()[0] == datetime.datetime(2026, 11, 3, 13, 30, 0, 200_000, datetime.UTC)


@pytest.mark.parametrize("form", ["csv", "xlsx", "parquet"])
def test_a_tenant_without_such_calls_gets_a_file_with_its_head(sqlite_store: Store, form: str, tmp_path: Path):
    put(sqlite_store, [rated(0)])
    made = export(sqlite_store, "contoso", Filter(user="nobody"), tmp_path / "none", form)
    assert made.rows == 0
    assert made.path.stat().st_size > 0


@pytest.mark.parametrize("seed", [1, 7])
def test_an_export_comes_to_what_the_twin_charged(sqlite_store: Store, seed: int, tmp_path: Path):
    twin, _ = twin_of(tmp_path, seed)
    put(sqlite_store, twin.rated, twin.events)
    for tenant in {row["tenant"] for row in twin.rated}:
        mine = [row for row in twin.rated if row["tenant"] == tenant]
        made = export(sqlite_store, tenant, Filter(), tmp_path / "t.csv", "csv", "detail")
        rows = rows_of(made.path)
        assert sum(made.charge_micros.values()) == sum(row["charge_micros"] for row in mine)
        assert sum(int(row["Charge Micros"]) for row in rows) == sum(row["charge_micros"] for row in mine)
        assert sorted(row["Charge"] for row in rows) == sorted(two_decimals(row["charge_micros"]) for row in mine)


# ---------------------------------------------------------------------------------------------- masks, and writing


def test_the_other_partys_number_is_masked_where_a_country_asks_for_it(sqlite_store: Store, tmp_path: Path):
    put(sqlite_store, [rated(0), rated(1, call_type="user_in", caller="+4930123456", callee="+442079460018")])
    out, into = rows_of(exported(sqlite_store, tmp_path, hidden=MASKED["DE"]))
    if out["Call Type"] == "user_in":
        out, into = into, out
    assert (out["Caller ID"], out["Destination Number"]) == ("+442079460018", "+12125550***")
    assert (into["Caller ID"], into["Destination Number"]) == ("+4930123***", "+442079460018")
    assert (MASKED["CH"], MASKED["FR"], MASKED["SE"], MASKED.get("US")) == (4, 4, 3, None)
    assert masked_parties(None, "+441", "conf_in", 4) == (None, "+441")


def test_a_file_that_could_not_be_written_to_the_end_leaves_the_old_one(
    sqlite_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    put(sqlite_store, [rated(0)])
    (tmp_path / "x.csv").write_text("the export of yesterday")

    def fails(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(exports, "export_row", fails)
    with pytest.raises(OSError, match="no space left"):
        exported(sqlite_store, tmp_path)
    assert (tmp_path / "x.csv").read_text() == "the export of yesterday"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_columns_are_those_of_the_portal():
    assert [column.name for column in COLUMNS["usage"]] == HEADER.split(",")
