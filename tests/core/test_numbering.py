import csv
import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from rater.core import numbering, numbering_table
from rater.core.numbering import (
    CLASSES,
    EMERGENCY,
    NUMBERING_VERSION,
    as_buffer,
    class_of_digits,
    country_code,
    country_differs,
    country_of,
    country_of_digits,
    country_text,
    is_emergency,
    is_placeless_digits,
    load_emergency,
    load_numbering,
)

CHECKOUT = Path(__file__).resolve().parents[2]
DATA = CHECKOUT.parent / "shared" / "data" / "rate_decks"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the rate decks beside the checkout are not here")


def country(digits: str) -> str:
    return country_text(country_of_digits(digits))


def number_class(digits: str) -> str | None:
    found = class_of_digits(digits)
    return CLASSES[found] if found >= 0 else None


def reaches_help(digits: str, country: str) -> bool:
    return bool(is_emergency(load_emergency(), country_code(country), as_buffer(digits), 0, len(digits)))


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    pytest.importorskip("phonenumbers", reason="phonenumbers is a build-time tool and is not installed")
    spec = importlib.util.spec_from_file_location("generate_numbering", CHECKOUT / "scripts" / "generate_numbering.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- country ---------------------------------------------------------------------------------------------------------


def test_a_country_is_its_two_letters_as_a_number_and_back() -> None:
    assert country_code("GB") == 18242
    assert country_text(18242) == "GB"
    assert country_text(country_code("ZW")) == "ZW"
    assert (country_code(""), country_text(0)) == (0, "")


@pytest.mark.parametrize("text", ["gb", "G", "GBR", "001", "é1", "*"])
def test_a_country_that_is_not_two_capitals_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected two capital letters"):
        country_code(text)


@pytest.mark.parametrize(
    ("digits", "expected"),
    [
        ("442079460018", "GB"),
        ("447700900123", "GB"),  # a test number, which the library calls invalid
        ("441534123456", "JE"),
        ("447911123456", "GG"),
        ("12125550123", "US"),
        ("17875550123", "PR"),
        ("18765550123", "JM"),
        ("77011234567", "KZ"),
        ("73912123456", "RU"),
        ("390669812345", "VA"),
        ("59059027", "BL"),
        ("1", "US"),
        ("3", ""),
        ("", ""),
    ],
)
def test_the_longest_prefix_names_the_country(digits: str, expected: str) -> None:
    assert country(digits) == expected


@pytest.mark.parametrize("digits", ["8001234567", "870773123456", "881612345678", "9791234567", "37912345"])
def test_numbers_of_the_whole_world_and_of_nobody_have_no_country(digits: str) -> None:
    assert country(digits) == ""
    assert not is_placeless_digits(digits)


@pytest.mark.parametrize("digits", ["18005550123", "18885550123", "19005550123", "15005550123", "15225550123", "1700"])
def test_the_shared_numbers_of_plus_one_have_no_country_though_plus_one_has(digits: str) -> None:
    assert country(digits) == ""
    assert is_placeless_digits(digits)


def test_a_deck_may_give_a_country_to_a_number_without_one_but_not_the_wrong_one() -> None:
    assert not country_differs("1800", country_code("US"))
    assert not country_differs("44", country_code("GB"))
    assert country_differs("447509", country_code("GB"))
    assert country_differs("379", country_code("VA"))


def test_digits_end_where_the_caller_says_and_at_the_first_thing_that_is_none() -> None:
    table = load_numbering()
    buffer = np.frombuffer(b'"+441534123456"', np.uint8)
    assert country_text(int(country_of(table.nodes, table.country, buffer, 2, 14))) == "JE"
    assert country_text(int(country_of(table.nodes, table.country, buffer, 2, 5))) == "GB"
    assert country_text(int(country_of(table.nodes, table.country, buffer, 1, 14))) == ""
    assert country_text(int(country_of(table.nodes, table.country, as_buffer("44x534"), 0, 6))) == "GB"


@needs_data
def test_every_prefix_of_the_reference_table_gets_its_country() -> None:
    rows = rows_of(DATA / "numbering" / "prefix_to_region_libphonenumber.csv")
    wrong = [row for row in rows if country(row["prefix"]) != ("" if row["region"] == "001" else row["region"])]
    assert wrong == []
    assert len(rows) == 374


@needs_data
def test_every_area_code_in_service_gets_its_country_and_the_others_none() -> None:
    rows = rows_of(DATA / "numbering" / "npa_country.csv")
    assert len(rows) == 481
    placeless = [row["npa"] for row in rows if not row["nanpa_country"]]
    assert [npa for npa in placeless if country("1" + npa) or not is_placeless_digits("1" + npa)] == []
    names = {"US": "US", "CANADA": "CA"}
    for row in rows:
        if row["nanpa_country"]:
            expected = row["libphonenumber_region"] or names[row["nanpa_country"]]
            assert country(row["prefix"]) in expected.split("|"), row


@needs_data
def test_exactly_64_rows_of_the_azure_deck_name_another_country() -> None:
    rows = rows_of(DATA / "azure_acs" / "communication-services-pstn-rates.csv")
    differs = [row for row in rows if country_differs(row["Prefix"], country_code(row["Country"]))]
    assert len(rows) == 6592
    assert len(differs) == 64
    assert sum(row["Country"] == "KZ" and row["Prefix"].startswith("7") for row in differs) == 50


def test_the_numbering_table_is_what_the_generator_writes(generator: ModuleType) -> None:
    version = generator.phonenumbers.__version__
    if f"phonenumbers {version}," not in numbering_table.SOURCE:
        pytest.skip(f"the table is from {numbering_table.SOURCE}; phonenumbers {version} is installed")
    assert Path(numbering_table.__file__).read_text("utf-8") == generator.table_text()


def test_every_example_number_of_the_library_gets_its_region_and_never_another_class(generator: ModuleType) -> None:
    library = generator.phonenumbers
    for code, regions in library.COUNTRY_CODE_TO_REGION_CODE.items():
        for region in regions:
            metadata = generator.metadata_of(code, region)
            for kind, expected in generator.CLASS_OF_TYPE.items():
                described = getattr(metadata, kind)
                if described is None or not described.example_number:
                    continue
                digits = f"{code}{described.example_number}"
                if region != "001" and not is_placeless_digits(digits):
                    assert country(digits) == library.region_code_for_number(library.parse("+" + digits)), digits
                if region != "001" and number_class(digits) is not None:
                    assert number_class(digits) == expected, digits


def test_the_pattern_reader_understands_what_the_library_writes_and_nothing_else(generator: ModuleType) -> None:
    assert generator.matches("1(?:12|9[2-4])|0?7") == ["07", "112", "192", "193", "194", "7"]
    assert generator.matches("1{2}[05]{1,2}") == ["110", "1100", "1105", "115", "1150", "1155"]
    for pattern in ("1+", "1(?=2)", "[^1]2", "12)"):
        with pytest.raises(ValueError, match=r"not understood|left over"):
            generator.matches(pattern)


# --- class -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("digits", "expected"),
    [
        ("442079460018", "geographic"),
        ("447700900123", "mobile"),
        ("448001111111", "toll_free"),
        ("449098790000", "premium"),
        ("448430123456", "premium"),
        ("447012345678", "special"),  # a personal number, not a mobile
        ("18005550123", "toll_free"),
        ("19005550123", "premium"),
        ("8001234567", "toll_free"),
        ("9791234567", "premium"),
        ("881612345678", "special"),
        ("12125550123", None),  # a North American number does not tell whether it is mobile
        ("44", None),
        ("", None),
    ],
)
def test_a_class_is_named_only_where_every_number_of_the_range_has_it(digits: str, expected: str | None) -> None:
    assert number_class(digits) == expected


def test_the_table_stays_small() -> None:
    assert 5_000 < sum(map(len, numbering.groups_of(numbering_table.CLASSES).values())) < 7_000


# --- emergency -------------------------------------------------------------------------------------------------------


def test_112_and_911_reach_help_from_every_country_and_from_an_unknown_one() -> None:
    for name in (*EMERGENCY, "", "ZZ"):
        assert reaches_help("112", name)
        assert reaches_help("911", name)


def test_a_country_has_its_own_emergency_numbers() -> None:
    assert reaches_help("999", "GB")
    assert not reaches_help("999", "US")
    assert reaches_help("110", "DE")
    assert reaches_help("15", "FR")


def test_an_emergency_number_is_the_whole_of_the_digits() -> None:
    for digits in ("9110", "1121", "91", "", "99", "9999999", "+112"):
        assert not reaches_help(digits, "GB")


def test_leading_zeros_count() -> None:
    assert reaches_help("000", "AU")
    assert not reaches_help("0", "AU")
    assert not reaches_help("00", "AU")
    assert not reaches_help("0112", "GB")


# --- the arrays ------------------------------------------------------------------------------------------------------


def test_the_table_is_built_once_and_cannot_be_changed() -> None:
    assert load_numbering() is load_numbering()
    assert [array.dtype for array in load_numbering()] == [np.int32, np.int16, np.int8]
    with pytest.raises(ValueError, match="read-only"):
        load_numbering().country[0] = 1
    keys = load_emergency()
    assert (np.diff(keys) > 0).all()


def test_the_version_names_the_library_and_the_content() -> None:
    assert NUMBERING_VERSION.startswith(numbering_table.SOURCE)
    assert len(NUMBERING_VERSION.split()[-1]) == 16
