"""Deck folders read through their profiles: every convention of a carrier ends in the same exact rows."""

import re
from pathlib import Path
from typing import Any

import pytest

from rater.core.numbering import country_code
from rater.doors import decks
from rater.doors.decks import DeckRefused, lint_deck, load_deck
from rater.doors.decks.profile import KEYS
from tests.deck_tables import HEADER, INBOUND_HEADER, STORED, needs_stored_decks, price, prices_of, rows_of

SETTINGS = 'name = "test"\ncurrency = "USD"\n'


def folder_of(folder: Path, outbound: str | bytes | None = None, settings: str = "", inbound: str = "") -> Path:
    """A deck folder; `settings` come behind the name and the currency."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "deck.toml").write_text(SETTINGS + settings, "utf-8")
    if outbound is not None:
        data = outbound.encode() if isinstance(outbound, str) else outbound
        (folder / "outbound.csv").write_bytes(data)
    if inbound:
        (folder / "inbound.csv").write_text(inbound, "utf-8")
    return folder


CARRIER = """file = "carrier.csv"
{settings}
[columns]
prefix = "Code"
destination = "Destination"
rate_per_minute = "Rate"
{columns}
"""


def carrier(
    folder: Path, text: str, settings: str = "", columns: str = "", encoding: str = "utf-8", newline: str = "\n"
) -> Path:
    """A carrier's own file with a profile; its lines may be indented."""
    folder_of(folder, settings=CARRIER.format(settings=settings, columns=columns))
    lines = [line.strip(" ") for line in text.strip("\n").splitlines()]
    (folder / "carrier.csv").write_bytes(newline.join([*lines, ""]).encode(encoding))
    return folder


def loaded(*args: Any, **kwargs: Any) -> list[dict[str, Any]]:
    return rows_of(load_deck(carrier(*args, **kwargs)))


def refusal(folder: Path) -> str:
    with pytest.raises(DeckRefused) as refused:
        load_deck(folder)
    return str(refused.value)


# --- our own layout --------------------------------------------------------------------------------------------------


def test_a_deck_needs_no_more_than_a_prefix_and_a_price(tmp_path: Path) -> None:
    deck = load_deck(folder_of(tmp_path, "prefix,rate_per_minute\n44,0.01\n1,0.0205\n", "initial_s = 30\nstep_s = 6\n"))
    assert (deck.name, deck.currency, deck.terms.direction) == ("test", "USD", "outbound")
    assert rows_of(deck) == [
        {"prefix": "1", "rate": "0.0205", "increments": "30/6"},
        {"prefix": "44", "rate": "0.01", "increments": "30/6"},
    ]


def test_every_column_of_our_layout_is_read(tmp_path: Path) -> None:
    rows = [
        "447,UK mobile,GB,mobile,0.09,0.05,0.1,60,1,2026-01-01T00:00:00Z,2026-07-01T00:00:00Z",
        '44,"Kingdom, United",GB,,0.01,,,,,,',
        "4490,UK premium,GB,premium,1.5,,,0,1,2026-01-01,2027-01-01",
    ]
    deck = load_deck(folder_of(tmp_path, "\n".join([HEADER, *rows])))
    assert rows_of(deck) == [
        {"prefix": "44", "rate": "0.01", "name": "Kingdom, United", "country": "GB"},
        {
            "prefix": "447", "rate": "0.09", "name": "UK mobile", "country": "GB", "class": "mobile", "fee": "0.05",
            "min": "0.1", "increments": "60/1", "from": "2026-01-01T00:00:00.000Z", "to": "2026-07-01T00:00:00.000Z",
        },
        {
            "prefix": "4490", "rate": "1.5", "name": "UK premium", "country": "GB", "class": "premium",
            "increments": "0/1", "from": "2026-01-01T00:00:00.000Z", "to": "2027-01-01T00:00:00.000Z",
        },
    ]  # fmt: skip


def test_columns_may_stand_in_any_order_and_blank_rows_do_not_count(tmp_path: Path) -> None:
    text = "\r\nrate_per_minute,valid_to,prefix\r\n\r\n0.01,,44\r\n  , ,\r\n0.02,,45\r\n\r\n"
    assert prices_of(load_deck(folder_of(tmp_path, text))) == {"44": "0.01", "45": "0.02"}


def test_a_price_is_read_to_its_last_digit_and_never_as_a_float(tmp_path: Path) -> None:
    text = "prefix,rate_per_minute\n1,0.000000001\n2,19.999999999\n3,.5\n4,7.\n5,0.10000000000000\n6,0\n"
    prices = {"1": "0.000000001", "2": "19.999999999", "3": "0.5", "4": "7", "5": "0.1", "6": "0"}
    assert prices_of(load_deck(folder_of(tmp_path, text))) == prices


def test_a_deck_is_called_after_its_folder_where_it_has_no_name(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "acme-2026", "prefix,rate_per_minute\n1,0.01\n")
    (folder / "deck.toml").write_text('currency = "EUR"\n')
    assert load_deck(folder).name == "acme-2026"


@pytest.mark.parametrize("text", ["2026-01-01", "2026-01-01T00:00:00Z"])
def test_a_deck_is_valid_from_a_day_or_an_instant(tmp_path: Path, text: str) -> None:
    deck = load_deck(folder_of(tmp_path, "prefix,rate_per_minute\n1,0.01\n", f'valid_from = "{text}"\n'))
    assert price(deck, "1212", "2025-12-31T23:59:59.999Z") is None
    assert price(deck, "1212", "2026-01-01") == "0.01"


# --- inbound ---------------------------------------------------------------------------------------------------------


def test_inbound_rows_are_read_beside_the_outbound_ones(tmp_path: Path) -> None:
    inbound = f"{INBOUND_HEADER}\nUS,toll_free,*,0.022,0.01\nUS,service,,0.005,\n\nUS,toll_free,CA,0.03,\n"
    deck = load_deck(folder_of(tmp_path, "prefix,rate_per_minute\n1,0.01\n", inbound="\ufeff" + inbound))
    us, ca = country_code("US"), country_code("CA")
    assert [tuple(map(int, row)) for row in deck.inbound] == [
        (us << 24 | 1 << 16, 5_000_000, 0),
        (us << 24 | 2 << 16, 22_000_000, 10_000),
        (us << 24 | 2 << 16 | ca, 30_000_000, 0),
    ]


def test_a_deck_may_have_inbound_rows_alone(tmp_path: Path) -> None:
    inbound = f"{INBOUND_HEADER}\nUS,toll_free,*,0.022,0.01\n"
    report = lint_deck(folder_of(tmp_path, settings='direction = "inbound"\n', inbound=inbound))
    assert (report.findings, report.rows, report.inbound_rows) == ([], 0, 1)
    deck = load_deck(tmp_path)
    assert (deck.inbound.size, deck.rows.size) == (1, 0)
    assert price(deck, "1212") is None


def test_a_short_word_for_a_direction_means_the_same_deck(tmp_path: Path) -> None:
    text = "prefix,rate_per_minute\n1,0.01\n"
    long = load_deck(folder_of(tmp_path / "long", text, 'direction = "outbound"\n'))
    assert load_deck(folder_of(tmp_path / "short", text, 'direction = "out"\n')).version == long.version


@pytest.mark.parametrize(
    ("direction", "missing"), [("outbound", "outbound.csv"), ("inbound", "inbound.csv"), ("both", "inbound.csv")]
)
def test_what_the_direction_names_must_be_there(tmp_path: Path, direction: str, missing: str) -> None:
    folder_of(tmp_path, settings=f'direction = "{direction}"\n')
    if direction == "both":
        folder_of(tmp_path, "prefix,rate_per_minute\n1,0.01\n", f'direction = "{direction}"\n')
    assert f"{missing}: no such file; expected" in refusal(tmp_path)


# --- how a carrier writes a prefix -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("style", "cell"),
    [
        ("plain", "4420"), ("44", "4420"), ("+44", "+4420"), ("+", "+4420"), ("plus", "+4420"), ("0044", "004420"),
        ("00", "004420"), ("01144", "0114420"), ("011", "0114420"), ("^44.*", "^4420.*"), ("regex", "^4420"),
        ("regex", "^4420$"), ("regex", "^4420.+"), ("plain", " 4420 "), ("+44", " +4420"),
    ],
)  # fmt: skip
def test_a_prefix_is_the_same_in_every_style(tmp_path: Path, style: str, cell: str) -> None:
    rows = loaded(tmp_path, f"Code,Destination,Rate\n{cell},London,0.01\n", f'prefix_style = "{style}"')
    assert rows == [{"prefix": "4420", "name": "London", "rate": "0.01"}]


@pytest.mark.parametrize(
    ("style", "cell", "expected"),
    [
        ("plain", "+4420", "a prefix of digits only"),
        ("plain", "44 20", "a prefix of digits only"),
        ("plain", "9.37E+11", "a prefix of digits only"),
        ("plain", "(+1-264)", "a prefix of digits only"),
        ("plain", "\uff14\uff14", "a prefix of digits only"),
        ("plain", "", "a prefix of 1 to 15 digits"),
        ("plain", "4420794601234567", "a prefix of at most 15 digits"),
        ("+44", "4420", "a prefix that begins with + (prefix_style)"),
        ("+44", "+", "a prefix of 1 to 15 digits"),
        ("0044", "4420", "a prefix that begins with 00 (prefix_style)"),
        ("01144", "004420", "a prefix that begins with 011 (prefix_style)"),
        ("^44.*", "4420", "a pattern such as ^44.* (prefix_style)"),
        ("^44.*", "^44[23].*", "a prefix of digits only"),
        ("^44.*", "^.*", "a prefix of 1 to 15 digits"),
    ],
)
def test_a_prefix_that_is_not_in_the_stated_style_is_refused(
    tmp_path: Path, style: str, cell: str, expected: str
) -> None:
    carrier(tmp_path, f"Code,Destination,Rate\n{cell},London,0.01\n", f'prefix_style = "{style}"')
    assert f"carrier.csv line 2: prefix '{cell}'; expected {expected}" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ('"5510, 5511"', ["5510", "5511"]),
        ('"5510;5511;"', ["5510", "5511"]),
        ('"5510-5512, 5515"', ["5510", "5511", "5512", "5515"]),
        ("0998-1001", ["0998", "0999", "1000", "1001"]),
        ("5510", ["5510"]),
        ("5510-5510", ["5510"]),
    ],
)
def test_several_prefixes_of_a_cell_share_a_price(tmp_path: Path, cell: str, expected: list[str]) -> None:
    rows = loaded(tmp_path, f"Code,Destination,Rate\n{cell},Brazil,0.01\n", "several_prefixes = true")
    assert rows == [{"prefix": prefix, "name": "Brazil", "rate": "0.01"} for prefix in expected]


def test_several_prefixes_may_each_have_their_style(tmp_path: Path) -> None:
    settings = 'several_prefixes = true\nprefix_style = "+44"'
    rows = loaded(tmp_path, 'Code,Destination,Rate\n"+4420, +44131-44133",UK,0.01\n', settings)
    assert [row["prefix"] for row in rows] == ["44131", "44132", "44133", "4420"]


@pytest.mark.parametrize(
    ("cell", "settings", "expected"),
    [
        ("1204-1", "several_prefixes = true", "a range whose ends have the same number of digits"),
        ('"1204-1, 1226"', "several_prefixes = true", "a range whose ends have the same number of digits"),
        ("5512-5510", "several_prefixes = true", "a range that goes up, over at most 10,000 prefixes"),
        ("00000-99999", "several_prefixes = true", "a range that goes up, over at most 10,000 prefixes"),
        ("5510-5512", "", "one prefix in the cell, or several_prefixes = true in deck.toml"),
    ],
)
def test_a_range_that_can_be_read_in_two_ways_is_refused(
    tmp_path: Path, cell: str, settings: str, expected: str
) -> None:
    folder = carrier(tmp_path, f"Code,Destination,Rate\n{cell},Canada,0.01\n", settings)
    shown = cell.strip('"')
    assert f"carrier.csv line 2: prefix '{shown}'; expected {expected}" in refusal(folder)
    assert lint_deck(folder).by_rule("error") == {"ambiguous_range": 1}


def test_code_and_area_may_stand_in_two_columns(tmp_path: Path) -> None:
    text = """
        Country Code,Code,Destination,Rate
        44,20,London,0.01
        44,,United Kingdom,0.02
        1,212,New York,0.03
    """
    assert prices_of(load_deck(carrier(tmp_path, text, columns='country_code = "Country Code"'))) == {
        "1212": "0.03",
        "44": "0.02",
        "4420": "0.01",
    }


def test_areas_of_one_code_may_share_a_cell(tmp_path: Path) -> None:
    text = """
        CC,Code,Destination,Rate
        +61,"38,39",Brisbane,0.01
        +61,20-22,Sydney,0.02
        +61,,Australia,0.03
    """
    settings = 'several_prefixes = true\nprefix_style = "+44"'
    deck = load_deck(carrier(tmp_path, text, settings, 'country_code = "CC"'))
    assert prices_of(deck) == {
        "61": "0.03",
        "6120": "0.02",
        "6121": "0.02",
        "6122": "0.02",
        "6138": "0.01",
        "6139": "0.01",
    }


# --- how a carrier writes a price ------------------------------------------------------------------------------------


def test_a_decimal_comma_and_semicolons(tmp_path: Path) -> None:
    rows = loaded(
        tmp_path,
        """
        Code;Destination;Rate;Setup
        44;Kingdom, United;0,0417;0,05
        45;Denmark;"1,5";
        """,
        'delimiter = ";"\ndecimal_mark = ","',
        'connection_fee = "Setup"',
    )
    assert rows == [
        {"prefix": "44", "name": "Kingdom, United", "rate": "0.0417", "fee": "0.05"},
        {"prefix": "45", "name": "Denmark", "rate": "1.5"},
    ]


@pytest.mark.parametrize(("delimiter", "mark"), [(r"\t", "\t"), ("|", "|"), (":", ":")])
def test_any_character_may_part_the_cells(tmp_path: Path, delimiter: str, mark: str) -> None:
    text = f"Code{mark}Destination{mark}Rate\n44{mark}UK, all{mark}0.01"
    assert loaded(tmp_path, text, f'delimiter = "{delimiter}"') == [{"prefix": "44", "name": "UK, all", "rate": "0.01"}]


@pytest.mark.parametrize(
    ("sign", "cell"), [("$", "$0.377"), ("$", "0.377"), ("$", "$ 0.377"), ("USD", "USD 0.377"), ("€", "€0.377")]
)
def test_a_currency_sign_before_a_price_is_left_out_where_the_profile_names_it(
    tmp_path: Path, sign: str, cell: str
) -> None:
    rows = loaded(tmp_path, f"Code,Destination,Rate\n44,UK,{cell}\n", f'currency_sign = "{sign}"')
    assert rows == [{"prefix": "44", "name": "UK", "rate": "0.377"}]


@pytest.mark.parametrize(
    ("cell", "settings", "rule"),
    [
        ("$0.377", "", "bad_price"),
        ("$0.377-$0.604", 'currency_sign = "$"', "bad_price"),
        ("n/a", "", "bad_price"),
        ("", "", "bad_price"),
        ("1e-2", "", "bad_price"),
        ("0x10", "", "bad_price"),
        ("nan", "", "bad_price"),
        ("\u0660.\u0661", "", "bad_price"),
        ("-0.01", "", "negative_price"),
        ('"1,234.50"', "", "thousands_separator"),
        ("1'234.50", "", "thousands_separator"),
        ('"0,417"', "", "thousands_separator"),
        ('"1.234,50"', 'decimal_mark = ","', "thousands_separator"),
        ('"1,234,50"', 'decimal_mark = ","', "thousands_separator"),
        ("0.0000000001", "", "too_fine"),
        ("10000.000000001", "", "out_of_range"),
        ("9" * 400, "", "out_of_range"),
    ],
)
def test_a_price_that_is_no_plain_decimal_is_refused(tmp_path: Path, cell: str, settings: str, rule: str) -> None:
    report = lint_deck(carrier(tmp_path, f"Code,Destination,Rate\n44,UK,{cell}\n", settings))
    assert report.by_rule("error") == {rule: 1}
    assert report.errors[0].line == 2
    assert report.errors[0].found.startswith("rate_per_minute '")


@pytest.mark.parametrize("column", ["connection_fee", "minimum_charge"])
@pytest.mark.parametrize(
    ("cell", "rule"),
    [("0.0000001", "too_fine"), ("-1", "negative_price"), ("x", "bad_price"), ("1000001", "out_of_range")],
)
def test_a_fee_is_whole_micro_units(tmp_path: Path, column: str, cell: str, rule: str) -> None:
    report = lint_deck(folder_of(tmp_path, f"prefix,rate_per_minute,{column}\n44,0.01,{cell}\n"))
    assert [(error.rule, error.line, error.found) for error in report.errors] == [(rule, 2, f"{column} '{cell}'")]


# --- increments, classes, dates --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "expected"), [("60/60", None), ("1/1", "1/1"), (" 30 / 6 ", "30/6"), ("0/1", "0/1"), ("", None)]
)
def test_increments_may_stand_in_one_cell(tmp_path: Path, cell: str, expected: str | None) -> None:
    [row] = loaded(tmp_path, f"Code,Destination,Rate,Inc\n44,UK,0.01,{cell}\n", columns='increments = "Inc"')
    assert row.get("increments") == expected


def test_increments_may_stand_in_two_columns(tmp_path: Path) -> None:
    columns = 'initial_s = "Interval 1"\nstep_s = "Interval N"'
    text = "Code,Destination,Rate,Interval 1,Interval N\n44,UK,0.01,30,6\n45,DK,0.01,,\n46,SE,0.01,,1\n"
    rows = loaded(tmp_path, text, "initial_s = 10\nstep_s = 5", columns)
    assert [row["increments"] for row in rows] == ["30/6", "10/5", "10/1"]


@pytest.mark.parametrize("cell", ["60", "60/", "/60", "60/0", "60/6/0", "-1/6", "1.5/6", "60/86401", "a/b"])
def test_increments_that_are_no_whole_seconds_are_refused(tmp_path: Path, cell: str) -> None:
    folder = carrier(tmp_path, f"Code,Destination,Rate,Inc\n44,UK,0.01,{cell}\n", columns='increments = "Inc"')
    assert lint_deck(folder).by_rule("error") == {"bad_increment": 1}
    assert f"carrier.csv line 2: increments '{cell}'; expected" in refusal(folder)


def test_a_carriers_words_for_number_classes_are_mapped(tmp_path: Path) -> None:
    text = """
        Code,Destination,Rate,Type
        44,UK,0.01,Landline
        447,UK,0.09,GSM
        4490,UK,1.5,Premium
        4480,UK,0,FREEPHONE
        4455,UK,0.02,
    """
    columns = 'class = "Type"\n[classes]\nlandline = "geographic"\nGsm = "mobile"\nfreephone = "toll_free"'
    rows = loaded(tmp_path, text, 'default_class = "special"', columns)
    assert {row["prefix"]: row.get("class", "geographic") for row in rows} == {
        "44": "geographic",
        "447": "mobile",
        "4490": "premium",
        "4480": "toll_free",
        "4455": "special",
    }


def test_a_class_that_nobody_explained_is_refused(tmp_path: Path) -> None:
    columns = 'class = "Type"\n[classes]\ngsm = "mobile"'
    folder = carrier(tmp_path, "Code,Destination,Rate,Type\n44,UK,0.01,Satellite\n", columns=columns)
    expected = "one of geographic mobile toll_free premium special gsm"
    assert f"carrier.csv line 2: class 'Satellite'; expected {expected}" in refusal(folder)


@pytest.mark.parametrize(
    ("order", "zone", "cell", "expected"),
    [
        ("ymd", "UTC", "2026-03-04", "2026-03-04T00:00:00.000Z"),
        ("dmy", "UTC", "04/03/2026", "2026-03-04T00:00:00.000Z"),
        ("mdy", "UTC", "03/04/2026", "2026-03-04T00:00:00.000Z"),
        ("dmy", "UTC", "4.3.2026 09:30", "2026-03-04T09:30:00.000Z"),
        ("ymd", "Europe/Paris", "2026-03-04", "2026-03-03T23:00:00.000Z"),
        ("ymd", "Europe/Paris", "2026-07-04 00:00:00", "2026-07-03T22:00:00.000Z"),
        ("mdy", "America/New_York", "7/4/2026", "2026-07-04T04:00:00.000Z"),
        # An instant says its own zone.
        ("dmy", "Asia/Tokyo", "2026-03-04T00:00:00Z", "2026-03-04T00:00:00.000Z"),
        # A day that begins at one o'clock, as the clocks change at its midnight.
        ("ymd", "Africa/Cairo", "2026-04-24", "2026-04-23T22:00:00.000Z"),
    ],
)
def test_a_date_is_midnight_in_the_stated_zone_and_order(
    tmp_path: Path, order: str, zone: str, cell: str, expected: str
) -> None:
    [row] = loaded(
        tmp_path,
        f"Code,Destination,Rate,Effective\n44,UK,0.01,{cell}\n",
        f'date_order = "{order}"\nzone = "{zone}"',
        'valid_from = "Effective"',
    )
    assert row["from"] == expected


@pytest.mark.parametrize(
    ("order", "zone", "cell"),
    [
        ("ymd", "UTC", "04/03/2026"),
        ("dmy", "UTC", "2026-03-04"),
        ("dmy", "UTC", "31/02/2026"),
        ("mdy", "UTC", "13/01/2026"),
        ("dmy", "UTC", "04/03/26"),
        ("ymd", "UTC", "46085"),
        ("ymd", "UTC", "2026-03-04 25:00"),
        ("ymd", "UTC", "soon"),
        ("ymd", "Asia/Tokyo", "0001-01-01"),
        ("ymd", "America/New_York", "9999-12-31 23:00"),
    ],
)
def test_a_date_that_is_not_in_the_stated_order_is_refused(tmp_path: Path, order: str, zone: str, cell: str) -> None:
    settings = f'date_order = "{order}"\nzone = "{zone}"'
    text = f"Code,Destination,Rate,Effective\n44,UK,0.01,{cell}\n"
    folder = carrier(tmp_path, text, settings, 'valid_from = "Effective"')
    assert lint_deck(folder).by_rule("error") == {"bad_date": 1}
    assert f"carrier.csv line 2: valid_from '{cell}'; expected a date in the order {order}" in refusal(folder)


# --- the file itself -------------------------------------------------------------------------------------------------


def test_a_file_without_a_header_is_described_by_places(tmp_path: Path) -> None:
    folder_of(
        tmp_path,
        settings='file = "carrier.csv"\nheader = false\n[columns]\nprefix = 2\nrate_per_minute = 4\ndestination = 1\n',
    )
    (tmp_path / "carrier.csv").write_text("UK,44,x,0.01\nDenmark,45,x,0.02\n")
    assert rows_of(load_deck(tmp_path)) == [
        {"prefix": "44", "name": "UK", "rate": "0.01"},
        {"prefix": "45", "name": "Denmark", "rate": "0.02"},
    ]


def test_title_lines_above_the_header_are_skipped_and_lines_are_still_counted_from_the_top(tmp_path: Path) -> None:
    text = 'ACME "Gold" rates\nvalid,from,"today\n\nCode,Destination,Rate\n44,UK,0.01\n45,Denmark,free\n'
    folder = carrier(tmp_path, text, "skip_lines = 3")
    assert "carrier.csv line 6: rate_per_minute 'free'; expected" in refusal(folder)
    (tmp_path / "carrier.csv").write_text(text.replace("free", "0.02"))
    assert prices_of(load_deck(folder)) == {"44": "0.01", "45": "0.02"}


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-8", "utf-8-sig", "utf-16", "cp850"])
def test_a_file_may_be_in_any_encoding_that_the_profile_names(tmp_path: Path, encoding: str) -> None:
    text = "Code,Destination,Rate\n225,Côte d'Ivoire,0.01\n"
    [row] = loaded(tmp_path, text, f'encoding = "{encoding}"', encoding=encoding)
    assert row["name"] == "Côte d'Ivoire"


def test_the_mark_at_the_beginning_of_utf_8_is_no_part_of_the_first_title(tmp_path: Path) -> None:
    for k, settings in enumerate(["", 'encoding = "utf-8"', 'encoding = "UTF8"']):
        assert loaded(tmp_path / str(k), "Code,Destination,Rate\n44,UK,0.01\n", settings, encoding="utf-8-sig")


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_lines_may_end_as_they_like(tmp_path: Path, newline: str) -> None:
    assert len(loaded(tmp_path, "Code,Destination,Rate\n44,UK,0.01\n45,DK,0.02\n", newline=newline)) == 2


def test_a_carriers_other_columns_and_empty_cells_at_the_end_do_no_harm(tmp_path: Path) -> None:
    text = """
        Id,Code,Destination,Rate,,
        1,44,UK,0.01,,,,
        2,45,Denmark,0.02
        3,46, Sweden ,0.03,?,?
    """
    assert [row["name"] for row in loaded(tmp_path, text)] == ["UK", "Denmark", "Sweden"]


def test_a_title_may_stand_on_two_lines(tmp_path: Path) -> None:
    folder = carrier(tmp_path, "", columns="")
    (folder / "deck.toml").write_text((folder / "deck.toml").read_text().replace('"Rate"', '"Rate\\nUSD"'))
    (folder / "carrier.csv").write_text('Code,Destination,"Rate\nUSD"\n44,UK,0.01\n45,Denmark,?\n')
    assert [(error.rule, error.line) for error in lint_deck(folder).errors] == [("bad_price", 4)]


def test_our_own_layout_may_be_written_with_a_carriers_habits(tmp_path: Path) -> None:
    text = "prefix;rate_per_minute;valid_from;increments\n+44;0,01;01.02.2026;60/1\n"
    settings = 'delimiter = ";"\ndecimal_mark = ","\nprefix_style = "+44"\ndate_order = "dmy"\n'
    [row] = rows_of(load_deck(folder_of(tmp_path, text, settings)))
    assert row == {"prefix": "44", "rate": "0.01", "increments": "60/1", "from": "2026-02-01T00:00:00.000Z"}


# --- one set of prices, one version ----------------------------------------------------------------------------------


def two_carriers(folder: Path, price_of_uk: str = "0,0100") -> list[Path]:
    ours = folder_of(
        folder / "ours",
        f"{HEADER}\n45,Denmark,DK,mobile,0.02,0.05,,30,6,2026-01-01T00:00:00Z,\n44,United Kingdom,,,0.01,,,,,,\n",
    )
    settings = 'delimiter = ";"\ndecimal_mark = ","\nprefix_style = "0044"\ndate_order = "dmy"\nzone = "UTC"\nencoding = "cp1252"\nskip_lines = 1'
    columns = 'connection_fee = "Setup"\nincrements = "Inc"\nvalid_from = "From"\nclass = "T"\ncountry = "C"\n[classes]\nm = "mobile"'
    theirs = carrier(
        folder / "theirs",
        f"""
        Größe
        T;C;Destination;Inc;Rate;Code;Setup;From
        ;;United Kingdom;;{price_of_uk};0044;;
        M;DK;Denmark;30/6;0,02;0045;0,050;1/1/2026
        """,
        settings,
        columns,
        encoding="cp1252",
    )
    return [ours, theirs]


def test_the_same_prices_from_two_carriers_are_one_version(tmp_path: Path) -> None:
    ours, theirs = map(load_deck, two_carriers(tmp_path))
    assert rows_of(ours) == rows_of(theirs)
    assert ours.version == theirs.version


def test_a_changed_price_is_another_version(tmp_path: Path) -> None:
    ours, theirs = map(load_deck, two_carriers(tmp_path, "0,010000001"))
    assert ours.version != theirs.version


# --- three real decks ------------------------------------------------------------------------------------------------

STORED_PROFILES = {
    "azure_acs": """
        currency = "USD"
        file = "{stored}/azure_acs/communication-services-pstn-rates.csv"
        [columns]
        prefix = "Prefix"
        destination = "Destination Name"
        country = "Country"
        rate_per_minute = "Price / min"
    """,
    "astpp": """
        currency = "USD"
        file = "{stored}/astpp/outbound_routes.csv"
        prefix_style = "^44.*"
        [columns]
        prefix = "pattern"
        destination = "comment"
        connection_fee = "connectcost"
        rate_per_minute = "cost"
        step_s = "inc"
    """,
    "ivozprovider": """
        currency = "EUR"
        file = "{stored}/ivozprovider/pricesSample.csv"
        prefix_style = "+44"
        [columns]
        prefix = "Prefix"
        destination = "Target Pattern Name"
        connection_fee = "Connection charge"
        rate_per_minute = "Per minute charge"
    """,
}


def stored(folder: Path, name: str) -> Path:
    (folder / "deck.toml").write_text(STORED_PROFILES[name].replace("{stored}", STORED.as_posix()))
    return folder


@needs_stored_decks
@pytest.mark.parametrize(
    ("name", "rows", "errors"),
    [
        ("azure_acs", 6_592, {}),
        ("astpp", 36_205, {}),
        ("ivozprovider", 4_743, {"above_ceiling": 310}),
    ],
)
def test_a_real_deck_is_read_whole_and_has_no_error_but_its_damage(
    tmp_path: Path, name: str, rows: int, errors: dict[str, int]
) -> None:
    report = lint_deck(stored(tmp_path, name))
    assert (report.rows, report.by_rule("error")) == (rows, errors)


@needs_stored_decks
def test_microsofts_deck_has_64_rows_of_another_country_and_no_root_for_1_and_33(tmp_path: Path) -> None:
    report = lint_deck(stored(tmp_path, "azure_acs"))
    assert report.by_rule("warning")["other_country"] == 64
    rootless = {finding.found for finding in report.warnings if finding.rule == "no_root"}
    assert {"no row for the calling code 1 itself", "no row for the calling code 33 itself"} <= rootless


@needs_stored_decks
def test_the_310_lost_decimal_points_refuse_the_whole_deck_and_the_ceiling_is_a_setting(tmp_path: Path) -> None:
    text = refusal(stored(tmp_path, "ivozprovider"))
    assert "is refused: 310 error(s)" in text
    assert "pricesSample.csv line 50: 1200 a minute for prefix 35534606; expected at most 20 a minute" in text
    assert "... and 300 more" in text
    profile = tmp_path / "deck.toml"
    profile.write_text('price_ceiling_per_minute = "5000"\n' + profile.read_text())
    assert load_deck(tmp_path).rows.size == 4_743


@needs_stored_decks
def test_prices_of_real_decks_are_those_of_the_files(tmp_path: Path) -> None:
    azure = load_deck(stored(tmp_path, "azure_acs"))
    assert price(azure, "93700000000") == "0.32"
    astpp = load_deck(stored(tmp_path, "astpp"))
    assert price(astpp, "93200000000") == "0.2093"
    assert price(astpp, "93750000000") == "0.2204"
    assert {int(step) for step in astpp.rows.step_s} == {1, 6}


# --- the page of docs ------------------------------------------------------------------------------------------------

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "decks.md").read_text("utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_decks_of_the_docs_can_be_read(tmp_path: Path) -> None:
    (own, described), (outbound, inbound, rates) = blocks("toml"), blocks("csv")
    folder_of(tmp_path, outbound, inbound=inbound)
    (tmp_path / "deck.toml").write_text(own, "utf-8")
    assert lint_deck(tmp_path).findings == []
    theirs = folder_of(tmp_path / "theirs")
    (theirs / "deck.toml").write_text(described, "utf-8")
    (theirs / "ACME rates 2026-02.csv").write_bytes(f"ACME\n\n\n{rates}".encode("cp1252"))
    rows = rows_of(load_deck(theirs))
    assert [told["prefix"] for told in rows] == ["447400", "447401", "447402", "447500"]
    assert rows[0] == {
        "prefix": "447400", "rate": "0.09", "name": "United Kingdom - Mobile", "country": "GB", "class": "mobile",
        "increments": "60/1", "from": "2026-01-31T23:00:00.000Z",
    }  # fmt: skip


def test_the_docs_name_every_key_and_every_rule_with_its_level() -> None:
    assert {key for key in KEYS if not re.search(rf"^\[?{key}\b", "\n".join(blocks("toml")), re.MULTILINE)} == set()
    table = re.findall(r"^\| (`.*?`) \| (error|warning) \|", PAGE, re.MULTILINE)
    told = {rule: level for rules, level in table for rule in re.findall(r"`(\w+)`", rules)}
    source = "".join(file.read_text("utf-8") for file in Path(decks.__file__).parent.glob("*.py"))
    assert {rule for rule in told if f'"{rule}"' not in source} == set()
    assert {rule for rule, level in told.items() if level == "warning"} == {
        "repeated_row", "row_of_several_lines", "other_country", "class_missing", "dear_under_cheap", "no_root", "fee_equals_rate",
    }  # fmt: skip
    given = r'(?:BadValue\(|_finding\(|ERROR,|WARNING,)\s*"([a-z]+_[a-z_]+)"'
    assert set(re.findall(given, source)) - set(told) == set()
