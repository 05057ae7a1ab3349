"""What the linter finds in a deck: the place, what was found, what was expected; and which findings refuse it."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rater.doors.decks import DeckRefused, Finding, LintReport, lint_deck, load_deck
from rater.doors.decks.profile import KEYS
from tests.deck_tables import HEADER, INBOUND_HEADER

EXAMPLE = Path(__file__).resolve().parents[2] / "rates" / "example-usd"
SETTINGS = 'name = "test"\ncurrency = "USD"\n'
PLAIN = "prefix,rate_per_minute\n"


def folder_of(
    folder: Path, outbound: str | bytes | None = None, toml: str | bytes = SETTINGS, inbound: str | bytes | None = None
) -> Path:
    for name, content in (("deck.toml", toml), ("outbound.csv", outbound), ("inbound.csv", inbound)):
        if content is not None:
            (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def findings(folder: Path, *args: Any, **kwargs: Any) -> list[tuple[str, str, str]]:
    """(level, rule, text) of each finding, the text without the folder."""
    report = lint_deck(folder_of(folder, *args, **kwargs))
    return [(finding.level, finding.rule, told(finding, folder)) for finding in report.findings]


def told(finding: Finding, folder: Path) -> str:
    return str(finding).replace(f"{folder}/", "")


def the_finding(folder: Path, *args: Any, **kwargs: Any) -> tuple[str, str, str]:
    (found,) = findings(folder, *args, **kwargs)
    return found


def rows(*lines: str) -> str:
    return "\n".join([HEADER, *lines, ""])


# --- rules about rows ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "line", "text"),
    [
        ("bad_prefix", "44 7,,,,0.01,,,,,,", "prefix '44 7'; expected a prefix of digits only"),
        ("prefix_too_long", "4420794601234567,,,,0.01,,,,,,", "prefix '4420794601234567'; expected a prefix of at most 15 digits"),
        ("ambiguous_range", "4420-4422,,,,0.01,,,,,,", "prefix '4420-4422'; expected one prefix in the cell, or several_prefixes = true in deck.toml"),
        ("bad_country", "447,,gb,,0.01,,,,,,", "country 'gb'; expected a country code of two capital letters"),
        ("bad_class", "447,,,cheap,0.01,,,,,,", "class 'cheap'; expected one of geographic mobile toll_free premium special"),
        ("bad_price", "447,,,,free,,,,,,", "rate_per_minute 'free'; expected a price in decimal digits, such as 0.0205"),
        ("bad_price", "447,,,,,,,,,,", "rate_per_minute ''; expected a price a minute in decimal digits, such as 0.0205"),
        ("negative_price", "447,,,,-0.01,,,,,,", "rate_per_minute '-0.01'; expected a price of 0 or more"),
        ("thousands_separator", '447,,,,"1,000",,,,,,', "rate_per_minute '1,000'; expected a price without a thousands separator"),
        ("too_fine", "447,,,,0.0000000001,,,,,,", "rate_per_minute '0.0000000001'; expected a price of at most 9 decimals (a nano-unit)"),
        ("too_fine", "447,,,,0.01,0.0000001,,,,,", "connection_fee '0.0000001'; expected an amount of at most 6 decimals (a micro-unit)"),
        ("out_of_range", "447,,,,10001,,,,,,", "rate_per_minute '10001'; expected a price of at most 10000"),
        ("out_of_range", "447,,,,0.01,,1000001,,,,", "minimum_charge '1000001'; expected an amount of at most 1000000"),
        ("bad_increment", "447,,,,0.01,,,60s,,,", "initial_s '60s'; expected whole seconds from 0 to 86400"),
        ("bad_increment", "447,,,,0.01,,,,0,,", "step_s '0'; expected whole seconds from 1 to 86400"),
        ("bad_date", "447,,,,0.01,,,,,01/02/2026,", "valid_from '01/02/2026'; expected a date in the order ymd, or an instant such as 2026-01-01T00:00:00Z"),
        ("bad_validity", "447,,,,0.01,,,,,2026-02-01,2026-02-01", "valid_to '2026-02-01'; expected an end after valid_from"),
        ("bad_destination", f"447,{'x' * 257},,,0.01,,,,,,", f"destination '{'x' * 60}...'; expected a name of at most 256 characters"),
        ("bad_destination", "447,a\0b,,,0.01,,,,,,", r"destination 'a\x00b'; expected a name on one line (a quote that does not close?)"),
        ("bad_row", "447,UK,GB,,0,01,,,,,,", "12 cells; expected 11 cells as in the header"),
        ("bad_row", "447,UK", "2 cells; expected 11 cells as in the header"),
        ("above_ceiling", "45,,,,20.000000001,,,,,,", "20.000000001 a minute for prefix 45; expected at most 20 a minute (price_ceiling_per_minute; a lost decimal point?)"),
        ("overlap", "44,,GB,,0.02,,,,,,", "prefix 44 is in force together with line 2, at another price; expected one price for a prefix at any instant"),
        ("overlap", "44,,GB,,0.01,,,1,1,,", "prefix 44 is in force together with line 3, at another price; expected one price for a prefix at any instant"),
        ("overlap", "44,,,,0.01,,,,,,", "prefix 44 is in force together with line 3, in another country or class; expected one price for a prefix at any instant"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_trusted_is_an_error(tmp_path: Path, rule: str, line: str, text: str) -> None:
    at = 2 if "line 3" in text else 3
    level, found_rule, message = the_finding(tmp_path, rows("44,,GB,,0.01,,,,,,", line))
    assert (level, found_rule, message) == ("error", rule, f"outbound.csv line {at}: {text}")


@pytest.mark.parametrize(
    ("rule", "lines", "text"),
    [
        ("repeated_row", ["44,UK,GB,,0.01,,,,,,", "44,GB,GB,,0.01,,,,,,"], "line 2: prefix 44 is in force together with line 3, at the same price; expected one price for a prefix at any instant"),
        ("other_country", ["7,,RU,,0.01,,,,,,", "73,,KZ,,0.02,,,,,,"], "line 3: country KZ for prefix 73; expected RU, by the numbering table"),
        ("class_missing", ["44,,GB,,0.01,,,,,,", "44800,,GB,,0.01,,,,,,"], "line 3: no class for prefix 44800; expected toll_free, by the numbering table"),
        ("class_missing", ["44,,GB,,0.01,,,,,,", "4490912,,GB,,0.01,,,,,,"], "line 3: no class for prefix 4490912; expected premium, by the numbering table"),
        ("dear_under_cheap", ["44,,GB,,0.01,,,,,,", "447,,GB,,0.510000001,,,,,,"], "line 3: 0.510000001 a minute for prefix 447, 51 times its shorter prefix 44; expected at most 50 times; check that this is meant"),
        ("no_root", ["33199,,FR,,0.01,,,,,,", "33299,,FR,,0.01,,,,,,"], "line 2: no row for the calling code 33 itself; expected a row with prefix 33, or calls that match no row are free"),
        ("fee_equals_rate", ["44,,GB,,0.01,0.01,,,,,", "45,,DK,,0.02,0.02,,,,,"], ": the connection fee equals the price a minute in 2 of 2 rows; expected a fee of its own; two columns may be mixed up"),
        ("row_of_several_lines", ["44,,GB,,0.01,,,,,,", '45,,DK,"\n",0.02,,,,,,'], "line 3: a row that goes on to line 4; expected one row on a line; check that no quote has swallowed rows"),
    ],
)  # fmt: skip
def test_a_row_that_is_odd_is_a_warning_and_the_deck_is_used(
    tmp_path: Path, rule: str, lines: list[str], text: str
) -> None:
    level, found_rule, message = the_finding(tmp_path, rows(*lines))
    assert (level, found_rule, message) == ("warning", rule, f"outbound.csv {text}".replace(" :", ":"))
    assert load_deck(tmp_path).rows.size == 2


@pytest.mark.parametrize(
    "lines",
    [
        # Back to back, and with a gap.
        ["44,,,,0.01,,,,,,2026-01-01", "44,,,,0.02,,,,,2026-01-01,2026-02-01", "44,,,,0.03,,,,,2026-03-01,"],
        # At the ceiling, fifty times the parent, under a parent that is free.
        ["44,,GB,mobile,20,,,,,,", "45,,DK,mobile,0.01,,,,,,", "457,,DK,mobile,0.5,,,,,,"],
        ["44,,GB,mobile,0,,,,,,", "447,,GB,mobile,20,,,,,,"],
        # A class said, though another than ours; a placeless prefix with any country.
        ["44,,GB,,0.01,,,,,,", "44800,,GB,geographic,0.01,,,,,,"],
        # A shorter prefix than the calling code is a root, too; so is the code of one digit.
        ["3,,,,0.01,,,,,,", "33199,,FR,,0.01,,,,,,", "1,,US,,0.01,,,,,,", "1212,,US,,0.01,,,,,,"],
        # Nine of ten fees equal the price: not more than nine tenths.
        ["4,,,,0.5,0.1,,,,,", *(f"4{digit},,,,0.01,0.01,,,,," for digit in range(9))],
    ],
)
def test_what_is_as_it_should_be_is_not_mentioned(tmp_path: Path, lines: list[str]) -> None:
    assert findings(tmp_path, rows(*lines)) == []


def test_an_overlap_is_found_behind_a_row_that_lies_within_a_longer_one(tmp_path: Path) -> None:
    text = rows(
        "44,,,,0.01,,,,,2026-01-01,2026-12-01",
        "44,,,,0.01,,,,,2026-02-01,2026-03-01",
        "44,,,,0.02,,,,,2026-06-01,",
    )
    assert [(rule, message.split(",")[0]) for _, rule, message in findings(tmp_path, text)] == [
        ("repeated_row", "outbound.csv line 3: prefix 44 is in force together with line 2"),
        ("overlap", "outbound.csv line 4: prefix 44 is in force together with line 2"),
    ]


def test_each_wrong_row_is_named_and_the_findings_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = rows("44,,,,0.01,,,,,,", "4 5,,,,0.01,,,,,,", "46,,,,free,,,,,,", "47,,,,21,,,,,,", "33,,,,22,,,,,,")
    assert [(rule, message.split(":")[0]) for _, rule, message in findings(tmp_path, text)] == [
        ("bad_prefix", "outbound.csv line 3"),
        ("bad_price", "outbound.csv line 4"),
        ("above_ceiling", "outbound.csv line 5"),
        ("above_ceiling", "outbound.csv line 6"),
    ]


def test_the_ceiling_is_a_setting_of_the_deck(tmp_path: Path) -> None:
    for text in ('"0.02"', "0.02"):
        toml = f"{SETTINGS}price_ceiling_per_minute = {text}\n"
        assert findings(tmp_path, PLAIN + "44,0.02\n", toml) == []
        _, rule, message = the_finding(tmp_path, PLAIN + "44,0.020000001\n", toml)
        assert rule == "above_ceiling"
        assert "expected at most 0.02 a minute" in message


def test_a_thousand_rows_of_one_prefix_are_named_one_by_one(tmp_path: Path) -> None:
    found = findings(tmp_path, PLAIN + "".join(f"44,0.{k:04d}\n" for k in range(1, 1001)))
    assert [rule for _, rule, _ in found] == ["overlap"] * 999


# --- rules about inbound rows ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "line", "text"),
    [
        ("bad_country", "us,toll_free,*,0.02,", "number_country 'us'; expected a country code of two capital letters"),
        ("bad_country", ",toll_free,*,0.02,", "number_country ''; expected a country code of two capital letters"),
        ("bad_country", "US,toll_free,any,0.02,", "origin_country 'any'; expected a country code of two capital letters or *"),
        ("bad_number_type", "US,free,*,0.02,", "number_type 'free'; expected one of user service toll_free"),
        ("bad_price", "US,toll_free,*,,", "rate_per_minute ''; expected a price in decimal digits, such as 0.0205"),
        ("negative_price", "US,toll_free,*,0.02,-1", "connection_fee '-1'; expected an amount of 0 or more"),
        ("bad_row", "US,toll_free,*,0,02,", "6 cells; expected 5 cells as in the header"),
        ("bad_row", "US,toll_free", "2 cells; expected 5 cells as in the header"),
        ("above_ceiling", "US,toll_free,*,1998,", "1998 a minute; expected at most 20 a minute (price_ceiling_per_minute; a lost decimal point?)"),
        ("overlap", "US,service,,0.02,", "the same number country, type and origin as line 2; expected one price for each"),
    ],
)  # fmt: skip
def test_an_inbound_row_that_cannot_be_trusted_is_an_error(tmp_path: Path, rule: str, line: str, text: str) -> None:
    inbound = f"{INBOUND_HEADER}\nUS,service,*,0.01,\n{line}\n"
    found = the_finding(tmp_path, PLAIN + "44,0.01\n", inbound=inbound)
    assert found == ("error", rule, f"inbound.csv line 3: {text}")


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("number_country,number_type,rate", [("unknown_column", "column 'rate'"), ("missing_column", "no column rate_per_minute")]),
        ("number_country,number_type,rate_per_minute,number_type", [("repeated_column", "column 'number_type' twice")]),
        ("", [("missing_column", f"no column {name}") for name in ("number_country", "number_type", "rate_per_minute")]),
    ],
)  # fmt: skip
def test_an_inbound_header_that_is_not_ours_is_an_error(
    tmp_path: Path, header: str, found: list[tuple[str, str]]
) -> None:
    report = lint_deck(folder_of(tmp_path, PLAIN + "44,0.01\n", inbound=header))
    assert [(error.rule, error.found) for error in report.findings] == found
    assert {error.expected for error in report.findings} == {f"the columns {INBOUND_HEADER}"}


# --- rules about the files -------------------------------------------------------------------------------------------


def test_a_folder_without_deck_toml_is_no_deck(tmp_path: Path) -> None:
    assert findings(tmp_path, PLAIN, toml=None) == [  # type: ignore[arg-type]
        ("error", "no_deck", "deck.toml: no such file; expected a deck.toml in the deck folder")
    ]
    assert [finding.rule for finding in lint_deck(tmp_path / "nowhere").findings] == ["no_deck"]


@pytest.mark.parametrize(
    ("toml", "rule", "text"),
    [
        ("name = ", "bad_toml", "Invalid value"),
        ("a = 1\na = 2", "bad_toml", "Cannot overwrite a value"),
        ("a = " + "[" * 5_000, "bad_toml", "a value nested too deep; expected TOML"),
        ("a = " + "9" * 5_000, "bad_toml", "Exceeds the limit"),
        (b"name = '\xff'", "no_deck", "the file is not UTF-8; expected a text file in UTF-8"),
    ],
)
def test_a_deck_toml_that_cannot_be_read_is_an_error(tmp_path: Path, toml: str | bytes, rule: str, text: str) -> None:
    level, found_rule, message = the_finding(tmp_path, PLAIN + "44,0.01\n", toml)
    assert (level, found_rule) == ("error", rule)
    assert message.startswith(f"deck.toml: {text}")


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ('colour = "red"', "colour is 'red'; expected one of the keys classes columns currency "),
        ("name = 5", "name is 5; expected a name of 1 to 64 printable characters"),
        (r'name = "a\nb"', r"name is 'a\nb'; expected a name of 1 to 64 printable characters"),
        ('direction = "up"', "direction is 'up'; expected outbound, inbound or both"),
        ('price_ceiling_per_minute = "high"', "price_ceiling_per_minute is 'high'; expected a price such as \"20\""),
        ("price_ceiling_per_minute = true", 'price_ceiling_per_minute is True; expected a price such as "20"'),
        ("price_ceiling_per_minute = 0x" + "f" * 9_000, "price_ceiling_per_minute is a number of very many digits; expected"),
        ("initial_s = -1", "initial_s is -1; expected a whole number from 0 to 86400"),
        ("step_s = 0", "step_s is 0; expected a whole number from 1 to 86400"),
        ("step_s = 1.0", "step_s is 1.0; expected a whole number from 1 to 86400"),
        ("step_s = true", "step_s is True; expected a whole number from 1 to 86400"),
        ("step_s = 0x" + "f" * 9_000, "step_s is a number of very many digits; expected a whole number"),
        ('valid_from = "1.1.2026"', "valid_from is '1.1.2026'; expected a date such as \"2026-01-01\""),
        ("valid_from = 2026-01-01", 'valid_from is 2026-01-01; expected a date such as "2026-01-01"'),
        (r'file = "a\u0000b"', r"file is 'a\x00b'; expected the name of a CSV file"),
        ('file = ""', "file is ''; expected the name of a CSV file"),
        ('delimiter = ";;"', "delimiter is ';;'; expected one character, such as ';' or a tab"),
        (r'delimiter = "\n"', r"delimiter is '\n'; expected one character"),
        (r'delimiter = "\""', "delimiter is '\"'; expected one character"),
        ('encoding = "klingon"', "encoding is 'klingon'; expected an encoding such as utf-8 or cp1252"),
        ('encoding = "undefined"', "encoding is 'undefined'; expected an encoding such as utf-8 or cp1252"),
        ('encoding = "rot13"', "encoding is 'rot13'; expected an encoding such as utf-8 or cp1252"),
        ('encoding = "utf-7"', "encoding is 'utf-7'; expected an encoding such as utf-8 or cp1252"),
        ('decimal_mark = ""', "decimal_mark is ''; expected '.' or ','"),
        ('prefix_style = "e164"', "prefix_style is 'e164'; expected one of plain 44 + "),
        ('several_prefixes = "yes"', "several_prefixes is 'yes'; expected true or false"),
        ('date_order = "ydm"', "date_order is 'ydm'; expected ymd, dmy or mdy"),
        ('zone = "Europe/Nowhere"', "zone is 'Europe/Nowhere'; expected a time zone such as Europe/Paris or UTC"),
        ('zone = "../UTC"', "zone is '../UTC'; expected a time zone such as Europe/Paris or UTC"),
        ('zone = "America"', "zone is 'America'; expected a time zone such as Europe/Paris or UTC"),
        ("skip_lines = 1001", "skip_lines is 1001; expected a whole number from 0 to 1000"),
        ("header = false", "header is False; expected a table [columns] with the place of each column"),
        ("currency_sign = 1", "currency_sign is 1; expected the sign before a price"),
        ('default_class = "cheap"', "default_class is 'cheap'; expected one of geographic mobile toll_free premium special"),
        ('columns = "prefix"', 'columns is \'prefix\'; expected a table such as prefix = "Prefix"'),
        ('columns.prise = "Price"', "columns.prise is 'Price'; expected one of prefix destination country "),
        ("columns.prefix = 1", "columns.prefix is 1; expected the text of a column header"),
        ("columns.prefix = ['a']", "columns.prefix is a list; expected the text of a column header"),
        ('header = false\ncolumns.prefix = "A"', "columns.prefix is 'A'; expected the place of a column, counted from 1"),
        ("header = false\ncolumns.prefix = 0", "columns.prefix is 0; expected the place of a column, counted from 1"),
        ("classes = ['mobile']", 'classes is a list; expected a table such as "Mobile" = "mobile"'),
        ('classes.gsm = "cell"', "classes.gsm is 'cell'; expected one of geographic mobile toll_free premium special"),
    ],
)  # fmt: skip
def test_a_setting_that_nobody_knows_or_understands_is_an_error(tmp_path: Path, setting: str, text: str) -> None:
    folder_of(tmp_path, PLAIN + "44,0.01\n", 'currency = "USD"\n' + setting)
    found = [finding for finding in lint_deck(tmp_path).errors if finding.file.endswith("deck.toml")]
    assert [finding.rule for finding in found] == ["bad_setting"]
    assert told(found[0], tmp_path).startswith(f"deck.toml: {text}")
    with pytest.raises(DeckRefused, match=r"deck\.toml: "):
        load_deck(tmp_path)


@pytest.mark.parametrize("setting", ["", 'currency = "usd"', 'currency = "EURO"', "currency = 840"])
def test_a_deck_without_a_currency_is_refused(tmp_path: Path, setting: str) -> None:
    _, rule, message = the_finding(tmp_path, PLAIN + "44,0.01\n", setting)
    assert rule == "bad_setting"
    assert re.match(r"deck\.toml: currency is .*; expected a currency code of three capital letters", message)


@pytest.mark.parametrize(
    ("header", "rule", "text"),
    [
        ("prefix,rate_per_minute,prise", "unknown_column", "column 'prise'; expected columns among prefix,"),
        (
            "prefix,rate_per_minute,prefix",
            "repeated_column",
            "column 'prefix' 2 times; expected one column of that title",
        ),
        ("prefix,destination", "missing_column", "no column rate_per_minute; expected a column rate_per_minute"),
        ("rate_per_minute,destination", "missing_column", "no column prefix; expected a column prefix"),
    ],
)
def test_a_header_that_is_not_ours_is_an_error_and_its_rows_are_not_read(
    tmp_path: Path, header: str, rule: str, text: str
) -> None:
    level, found_rule, message = the_finding(tmp_path, f"{header}\n44,0.01,0.02\n")
    assert (level, found_rule) == ("error", rule)
    assert message.startswith(f"outbound.csv line 1: {text}")


@pytest.mark.parametrize(
    ("header", "columns", "rule", "text"),
    [
        ("Code,Price", 'rate_per_minute = "Rate"', "missing_column", "no column 'Rate' (for rate_per_minute); expected one of Code, Price"),
        ("Code,Rate,Rate", 'rate_per_minute = "Rate"', "repeated_column", "column 'Rate' 2 times; expected one column of that title"),
        ("Code,Rate", 'destination = "Rate"', "missing_column", "no column rate_per_minute; expected a column rate_per_minute in [columns] of deck.toml"),
    ],
)  # fmt: skip
def test_a_carriers_header_must_have_each_title_that_is_asked_for_once(
    tmp_path: Path, header: str, columns: str, rule: str, text: str
) -> None:
    toml = f'{SETTINGS}[columns]\nprefix = "Code"\n{columns}\n'
    found = the_finding(tmp_path, f"{header}\n44,0.01,0.02\n", toml)
    assert found == ("error", rule, f"outbound.csv line 1: {text}")


def test_a_comma_within_a_name_does_not_move_the_price_of_a_carriers_row(tmp_path: Path) -> None:
    toml = f'{SETTINGS}[columns]\nprefix = "Code"\nconnection_fee = "Setup"\nrate_per_minute = "Rate"\n'
    found = the_finding(tmp_path, "Code,Name,Setup,Rate,Note\n599,Bonaire, Saba,0.10,0.25,\n44,UK,0,0.01,,,\n", toml)
    assert found[1:] == ("bad_price", "outbound.csv line 2: connection_fee 'Saba'; expected an amount in decimal digits, such as 0.0205")  # fmt: skip
    found = the_finding(tmp_path, "Code,Name,Setup,Rate\n599,Saba, 7,0.10,0.25\n44,UK,0,0.01,,,\n", toml)
    assert found[1:] == ("bad_row", "outbound.csv line 2: 5 cells; expected 4 cells as in the header")


def test_rows_without_a_header_are_as_wide_as_the_first(tmp_path: Path) -> None:
    toml = f"{SETTINGS}header = false\n[columns]\nprefix = 1\nrate_per_minute = 3\n"
    found = the_finding(tmp_path, "44,UK,0.01\n45,Denmark,0.02,\n599,Saba,0.10,0.25\n", toml)
    assert found == ("error", "bad_row", "outbound.csv line 3: 4 cells; expected 3 cells as in the first row")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    text = "no such file; expected the CSV file that deck.toml names"
    assert the_finding(tmp_path) == ("error", "no_file", f"outbound.csv: {text}")
    found = the_finding(tmp_path, PLAIN, f'{SETTINGS}file = "carrier.csv"\n')
    assert found == ("error", "no_file", f"carrier.csv: {text}")
    (tmp_path / "carrier.csv").mkdir()
    assert lint_deck(tmp_path).by_rule("error") == {"no_file": 1}


@pytest.mark.parametrize(
    ("text", "rule"), [(PLAIN, "empty_deck"), (PLAIN + "\n \n", "empty_deck"), ("", "missing_column")]
)
def test_a_deck_without_a_row_is_an_error(tmp_path: Path, text: str, rule: str) -> None:
    assert {found[:2] for found in findings(tmp_path, text)} == {("error", rule)}


def test_a_file_in_another_encoding_is_an_error_with_the_line(tmp_path: Path) -> None:
    expected = "expected the file's own encoding, as `encoding` in deck.toml names it"
    name = "Côte d'Ivoire".encode("cp1252")
    # Beyond the first block that a stream decodes, too.
    for k in (0, 3, 20_000):
        text = b"prefix,destination,rate_per_minute\n" + b"44,UK,0.01\n" * k + b"225," + name + b",0.01\n"
        found = [f for f in findings(tmp_path, text) if f[1] == "bad_encoding"]
        assert found == [
            ("error", "bad_encoding", f"outbound.csv line {k + 2}: byte 0xf4 is not utf-8-sig; {expected}")
        ]
    found = findings(tmp_path, PLAIN + "1,0.01\n", f'{SETTINGS}encoding = "utf-16"\n')
    assert found == [
        ("error", "bad_encoding", f"outbound.csv: not utf-16: UTF-16 stream does not start with BOM; {expected}")
    ]


def test_an_inbound_file_that_is_not_utf_8_is_an_error_with_its_own_name(tmp_path: Path) -> None:
    inbound = INBOUND_HEADER.encode() + b"\n\xff,toll_free,*,0.02,\n"
    level, rule, message = the_finding(tmp_path, PLAIN + "44,0.01\n", inbound=inbound)
    assert (level, rule) == ("error", "bad_encoding")
    assert message.startswith("inbound.csv line 2: byte 0xff is not utf-8-sig; expected")


def test_a_byte_that_is_not_in_the_encoding_is_found_at_the_end_of_a_file(tmp_path: Path) -> None:
    found = findings(tmp_path, PLAIN.encode() + b"44,0.01\n45,0.0\xc3")
    assert [(rule, message.split(":")[0]) for _, rule, message in found] == [("bad_encoding", "outbound.csv line 3")]


@pytest.mark.parametrize(
    ("text", "line", "found"),
    [
        (PLAIN + '44,0.01\n"45,0.02\n46,0.03\n', 3, "unexpected end of data"),
        ('prefix,destination,rate_per_minute\n44,"UK,0.01\n45,"France",0.02\n', 2, "',' expected after '\"'"),
        (PLAIN + "44,0.01\n45," + "1" * 200_000 + "\n", 3, "field larger than field limit (131072)"),
    ],
)
def test_a_lone_quote_or_an_endless_cell_is_an_error_and_swallows_no_row(
    tmp_path: Path, text: str, line: int, found: str
) -> None:
    level, rule, message = the_finding(tmp_path, text)
    assert (level, rule) == ("error", "bad_csv")
    assert message == f"outbound.csv line {line}: a row that begins here cannot be split: {found}; expected quotes in pairs, and cells of text"  # fmt: skip


def test_a_pair_of_stray_quotes_that_swallows_a_row_is_an_error(tmp_path: Path) -> None:
    text = 'prefix,destination,rate_per_minute\n44,"UK,0.01\n45,Denmark,0.02\n46,Sweden",0.03\n'
    _, rule, message = findings(tmp_path, text)[-1]
    assert rule == "bad_destination"
    assert message.startswith(
        r"outbound.csv line 2: destination 'UK,0.01\n45,Denmark,0.02\n46,Sweden'; expected a name on"
    )


# --- reports and refusals --------------------------------------------------------------------------------------------


def test_a_deck_with_one_wrong_row_is_refused_whole(tmp_path: Path) -> None:
    folder_of(tmp_path, PLAIN + "".join(f"{k},0.01\n" for k in range(10, 99)) + "99,21\n")
    with pytest.raises(DeckRefused) as refused:
        load_deck(tmp_path)
    assert str(refused.value).splitlines() == [
        f"deck {tmp_path} is refused: 1 error(s)",
        f"  {tmp_path}/outbound.csv line 91: 21 a minute for prefix 99; expected at most 20 a minute (price_ceiling_per_minute; a lost decimal point?)",
    ]
    assert refused.value.report.rows == 90


@pytest.mark.parametrize(("count", "lines"), [(10, 11), (11, 12), (310, 12)])
def test_a_refusal_shows_ten_errors_and_how_many_there_are(tmp_path: Path, count: int, lines: int) -> None:
    folder_of(tmp_path, PLAIN + "".join(f"{k},\n" for k in range(100, 100 + count)))
    with pytest.raises(DeckRefused) as refused:
        load_deck(tmp_path)
    text = str(refused.value).splitlines()
    assert len(text) == lines
    assert text[0] == f"deck {tmp_path} is refused: {count} error(s)"
    assert "outbound.csv line 11: rate_per_minute ''" in text[10]
    if count > 10:
        assert text[-1] == f"  ... and {count - 10} more; `rater deck lint {tmp_path}` shows all"
    assert len(refused.value.report.errors) == count


def test_a_refusal_names_errors_and_no_warnings(tmp_path: Path) -> None:
    folder_of(tmp_path, PLAIN + "33199,0.01\n44,\n")
    with pytest.raises(DeckRefused) as refused:
        load_deck(tmp_path)
    assert "calling code" not in str(refused.value)
    assert refused.value.report.by_rule("warning") == {"no_root": 1}


def test_a_report_as_json_counts_by_rule_and_lists_every_finding(tmp_path: Path) -> None:
    folder_of(tmp_path, PLAIN + "33199,0.01\n44,\n45,x\n", inbound=f"{INBOUND_HEADER}\nUS,service,*,0.01,\n")
    told_as_json = lint_deck(tmp_path).to_json()
    listed = told_as_json.pop("findings")
    assert told_as_json == {
        "deck": str(tmp_path), "ok": False, "rows": 1, "inbound_rows": 1, "errors": 2, "warnings": 1,
        "errors_by_rule": {"bad_price": 2}, "warnings_by_rule": {"no_root": 1},
    }  # fmt: skip
    assert listed[1] == {
        "level": "error", "rule": "bad_price", "file": f"{tmp_path}/outbound.csv", "line": 4,
        "found": "rate_per_minute 'x'", "expected": "a price in decimal digits, such as 0.0205",
    }  # fmt: skip
    assert len(listed) == 3


def test_the_linter_has_nothing_to_say_about_the_example_deck() -> None:
    assert lint_deck(EXAMPLE).findings == []


def test_a_deck_of_200_000_rows_is_read_and_linted(tmp_path: Path) -> None:
    lines = [f"{k},Somewhere {k},,mobile,0.{k % 9000 + 1:04d},,,60,{k % 6 + 1},," for k in range(100_000, 300_000)]
    report = lint_deck(folder_of(tmp_path, rows(*lines)))
    assert (report.rows, report.errors) == (200_000, [])
    assert set(report.by_rule("warning")) == {"no_root"}


# --- whatever comes --------------------------------------------------------------------------------------------------

FUZZ = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

# Pieces of decks, put together without sense: deeper than random bytes reach.
pieces = st.sampled_from(
    [
        b"prefix,rate_per_minute\n", HEADER.encode() + b"\n", INBOUND_HEADER.encode() + b"\n", b"prefix", b"class", b",", b";", b"\n",
        b"\r", b"\r\n", b'"', b'""', b"44", b"+44", b"1-9", b"0-9,", b"0.01", b"-1", b"1e9", b"60/6", b"9" * 5000, b"9" * 5000 + b"-" + b"9" * 5000,
        b"US", b"toll_free", b"*", b"mobile", b"2026-01-01", b"2026-01-01T00:00:00Z", b"0001-01-01", b"9999-12-31", b"99/99/9999",
        b"\0", b"\xff", b"\xef\xbb\xbf", "４４é\u2028\ud7ff".encode(), b" ", b"\t", b"x" * 140_000,
    ]
)  # fmt: skip
texts = st.one_of(st.binary(max_size=200), st.lists(pieces, max_size=30).map(b"".join))
heads = st.sampled_from([b"", PLAIN.encode(), HEADER.encode() + b"\n"])

values = st.one_of(
    st.sampled_from(
        [
            "true", "false", "0", "1", "2", "-1", "1e400", "nan", "99999999999999999999", "0x" + "f" * 9000, "[]", "{}", "[[1]]",
            '""', '"."', '","', '";"', '"\\t"', '"\\n"', '"\\u0000"', '"\\""', '"+44"', '"^44.*"', '"dmy"', '"utf-16"', '"utf-32"',
            '"cp1252"', '"undefined"', '"idna"', '"base64"', '"mbcs"', '"Asia/Tokyo"', '"/"', '".."', '"a\\u0000b"', '"x"', '"20"',
            '"mobile"', '"both"', '"inbound"', '"USD"', "2026-01-01", "2026-01-01T00:00:00Z", "00:00:00", '"2026-01-01"',
            '{prefix = "prefix", rate_per_minute = "rate_per_minute"}', "{prefix = 1, rate_per_minute = 2}", "{prefix = [1]}",
            '{prefix = "", rate_per_minute = ""}', '{country_code = "prefix", rate_per_minute = "rate_per_minute"}',
            '{gsm = "mobile"}', '{gsm = ["mobile"]}', '{"" = "mobile"}', '{prefix = 99999999999999999999}',
        ]
    ),
    st.text(max_size=5).map(lambda text: '"' + "".join(f"\\U{ord(c):08x}" for c in text) + '"'),
)  # fmt: skip
profiles = st.dictionaries(st.sampled_from(sorted(KEYS)), values, max_size=5).map(
    lambda table: "".join(f"{key} = {value}\n" for key, value in table.items()).encode()
)


def takes_or_refuses(folder: Path) -> None:
    """A deck, or a refusal with words: nothing else may come of a folder."""
    report: LintReport = lint_deck(folder)
    for finding in report.findings:
        assert finding.rule
        assert "\n" not in str(finding)
        assert len(str(finding)) < 2_000 + len(finding.file)
    if report.errors:
        with pytest.raises(DeckRefused):
            load_deck(folder)
    else:
        load_deck(folder)


@FUZZ
@given(head=heads, text=texts)
def test_no_outbound_file_does_more_than_be_refused(tmp_path: Path, head: bytes, text: bytes) -> None:
    takes_or_refuses(folder_of(tmp_path, head + text))


@FUZZ
@given(head=st.sampled_from([b"", INBOUND_HEADER.encode() + b"\n"]), text=texts)
def test_no_inbound_file_does_more_than_be_refused(tmp_path: Path, head: bytes, text: bytes) -> None:
    takes_or_refuses(folder_of(tmp_path, PLAIN + "44,0.01\n", inbound=head + text))


@FUZZ
@given(toml=st.binary(max_size=200))
def test_no_bytes_in_deck_toml_do_more_than_be_refused(tmp_path: Path, toml: bytes) -> None:
    takes_or_refuses(folder_of(tmp_path, PLAIN + "44,0.01\n", toml))


@FUZZ
@given(toml=profiles, head=heads, text=texts)
def test_no_profile_does_more_than_refuse_its_file(tmp_path: Path, toml: bytes, head: bytes, text: bytes) -> None:
    takes_or_refuses(folder_of(tmp_path, head + b"44,0.01\n" + text, toml))


@FUZZ
@given(text=texts)
def test_a_carriers_prefixes_in_any_form_are_read_or_refused(tmp_path: Path, text: bytes) -> None:
    toml = f'{SETTINGS}several_prefixes = true\ndate_order = "dmy"\nzone = "Asia/Tokyo"\ndelimiter = ";"\n'
    takes_or_refuses(folder_of(tmp_path, b"prefix;rate_per_minute;valid_from\n" + text, toml))
