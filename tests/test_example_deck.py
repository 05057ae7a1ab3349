import csv
import importlib.util
import re
import tomllib
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from types import ModuleType

import pytest

from rater.core import numbering_table
from rater.core.numbering import (
    CLASSES,
    class_of_digits,
    country_of_digits,
    country_text,
    groups_of,
)
from rater.core.plans import ZONE_A

CHECKOUT = Path(__file__).resolve().parents[1]
DECK = CHECKOUT / "rates" / "example-usd"
NO_COUNTRY = "--"

Row = dict[str, str]


@pytest.fixture(scope="module")
def outbound() -> list[Row]:
    return rows_of("outbound.csv")


@pytest.fixture(scope="module")
def inbound() -> list[Row]:
    return rows_of("inbound.csv")


def rows_of(name: str) -> list[Row]:
    with (DECK / name).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def generator() -> ModuleType:
    library = pytest.importorskip("phonenumbers", reason="phonenumbers is a build-time tool and is not installed")
    if f"phonenumbers {library.__version__}," not in numbering_table.SOURCE:
        pytest.skip(f"the deck is from {numbering_table.SOURCE}; phonenumbers {library.__version__} is installed")
    script = CHECKOUT / "scripts" / "generate_example_deck.py"
    spec = importlib.util.spec_from_file_location(script.stem, script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_deck_is_what_its_generator_writes() -> None:
    for name, text in generator().deck_files().items():
        assert (DECK / name).read_bytes() == text.encode(), name


def test_the_deck_says_what_it_is_and_that_its_prices_are_invented() -> None:
    text = (DECK / "deck.toml").read_text("utf-8")
    assert "INVENTED" in text
    assert tomllib.loads(text) == {
        "name": "example-usd",
        "currency": "USD",
        "direction": "outbound",
        "price_ceiling_per_minute": "20",
        "initial_s": 60,
        "step_s": 60,
    }


def test_every_prefix_at_which_a_country_begins_has_a_row(outbound: list[Row]) -> None:
    priced = {row["prefix"] for row in outbound}
    for country, prefixes in groups_of(numbering_table.COUNTRIES).items():
        assert set(prefixes) <= priced, country


def test_every_row_is_in_the_country_and_class_that_the_numbering_table_names(outbound: list[Row]) -> None:
    for row in outbound:
        assert row["country"] == country_text(country_of_digits(row["prefix"])), row
        known = class_of_digits(row["prefix"])
        assert known < 0 or row["class"] == CLASSES[known], row
        assert row["class"] in CLASSES
        assert row["destination"]


def test_every_range_of_another_class_than_geographic_has_a_row(outbound: list[Row]) -> None:
    priced = {row["prefix"]: row["class"] for row in outbound}
    for number_class, prefixes in groups_of(numbering_table.CLASSES).items():
        if number_class != "geographic":
            assert {priced.get(prefix) for prefix in prefixes} == {number_class}


def test_prices_are_plain_decimals_below_the_ceiling(outbound: list[Row], inbound: list[Row]) -> None:
    amount = re.compile(r"\d{1,2}(\.\d{1,4})?")
    for row in [*outbound, *inbound]:
        assert amount.fullmatch(row["rate_per_minute"]), row
        assert Decimal(row["rate_per_minute"]) <= 20
        for column in ("connection_fee", "minimum_charge"):
            assert not row.get(column) or amount.fullmatch(row[column]), row


def test_toll_free_costs_nothing_and_everything_else_something(outbound: list[Row]) -> None:
    assert all((Decimal(row["rate_per_minute"]) == 0) == (row["class"] == "toll_free") for row in outbound)


def test_premium_numbers_are_dear_and_have_a_connection_fee(outbound: list[Row]) -> None:
    premium = [row for row in outbound if row["class"] == "premium"]
    assert len(premium) > 200
    assert all(Decimal(row["rate_per_minute"]) >= Decimal("0.25") and row["connection_fee"] for row in premium)


def test_no_price_is_fifty_times_the_one_it_refines(outbound: list[Row]) -> None:
    price: dict[str, Decimal] = {}
    for row in outbound:  # sorted by prefix, so a parent comes before its children
        prefix, rate = row["prefix"], Decimal(row["rate_per_minute"])
        parent = next((price[prefix[:n]] for n in range(len(prefix) - 1, 0, -1) if prefix[:n] in price), None)
        assert not parent or rate < 50 * parent, row
        price[prefix] = rate


def test_a_price_change_leaves_no_instant_without_a_price_or_with_two(outbound: list[Row]) -> None:
    by_prefix: dict[str, list[Row]] = defaultdict(list)
    for row in outbound:
        by_prefix[row["prefix"]].append(row)
    changed = 0
    for rows in by_prefix.values():
        windows = [(row["valid_from"], row["valid_to"]) for row in rows]
        if windows != [("", "")]:
            assert windows == [("", "2026-07-01T00:00:00Z"), ("2026-07-01T00:00:00Z", "")]
            assert rows[0]["rate_per_minute"] != rows[1]["rate_per_minute"]
            changed += 1
    assert changed > 100


def test_the_deck_shows_every_kind_of_increment_fee_and_minimum(outbound: list[Row]) -> None:
    increments = {(row["initial_s"], row["step_s"]) for row in outbound}
    assert increments == {("", ""), ("60", "60"), ("60", "1"), ("30", "6"), ("6", "6"), ("1", "1")}
    assert sum(bool(row["minimum_charge"]) for row in outbound) > 50
    assert sum(bool(row["connection_fee"]) for row in outbound) > 300


def test_the_deck_is_large_enough_to_be_a_deck_and_small_enough_to_read(outbound: list[Row]) -> None:
    assert 6_000 < len(outbound) <= 12_000
    assert (
        len({row["country"] for row in outbound}) == len(set(groups_of(numbering_table.COUNTRIES)) - {NO_COUNTRY}) + 1
    )


def test_the_contract_s_example_call_has_its_price(outbound: list[Row]) -> None:
    [row] = [row for row in outbound if row["prefix"] == "1212"]
    assert (row["destination"], row["rate_per_minute"]) == ("United States - New York", "0.0205")
    assert (row["initial_s"], row["connection_fee"]) == ("", "")


def test_each_inbound_country_has_a_price_for_any_origin(inbound: list[Row]) -> None:
    keys = [(row["number_country"], row["number_type"], row["origin_country"]) for row in inbound]
    assert len(set(keys)) == len(keys)
    countries = {country for country, _, _ in keys}
    assert set(ZONE_A) < countries
    for country in countries:
        for number_type in ("toll_free", "service"):
            assert {(country, number_type, "*"), (country, number_type, country)} <= set(keys)
    assert ("US", "toll_free", "CA") in keys
    assert all(Decimal(row["rate_per_minute"]) > 0 for row in inbound)
