from pathlib import Path
from typing import Any

import pytest

from rater.core.instants import parse_instant
from rater.core.numbering import country_code
from rater.core.plans import (
    CALLING_PLANS,
    HEADER,
    PLANS,
    ZONE_A,
    PlansRefused,
    allotment,
    in_zone_a,
    is_domestic,
    parse_plans,
    pool_country,
)

TABLE = Path(__file__).resolve().parents[2] / "rates" / "plans" / "calling-plans.csv"


@pytest.fixture(scope="module")
def shipped() -> Any:
    return parse_plans(TABLE.read_text("utf-8"), TABLE.name)


def table(*rows: str) -> Any:
    return parse_plans("\n".join([",".join(HEADER), *rows, ""]), "plans.csv")


def minutes(plans: Any, plan: str, country: str, day: str = "2026-11-03") -> tuple[int, int] | None:
    """(domestic, international), or None where the plan has no row."""
    at_ms = parse_instant(day if "T" in day else f"{day}T00:00:00Z")
    row = allotment(plans, PLANS.index(plan), country_code(country), at_ms)
    return (int(plans[row].domestic), int(plans[row].international)) if row >= 0 else None


def refusal(*rows: str) -> PlansRefused:
    with pytest.raises(PlansRefused) as refused:
        table(*rows)
    return refused.value


# --- allotments ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "country", "expected"),
    [
        ("MCOPSTN1", "US", (3000, 0)),
        ("MCOPSTN1", "PR", (3000, 0)),
        ("MCOPSTN1", "CA", (3000, 0)),
        ("MCOPSTN1", "DE", (1200, 0)),
        ("MCOPSTN2", "US", (3000, 600)),
        ("MCOPSTN2", "MX", (1200, 600)),
        ("MCOPSTN5", "FR", (120, 0)),
        ("MCOPSTN6", "US", (240, 0)),
        ("MCOPSTN8", "GB", (120, 0)),
        ("MCOPSTN9", "GB", (0, 600)),
        ("PAYG", "ZA", (0, 0)),
        ("PAYG", "US", None),
        ("MCOPSTN5", "MX", None),
        ("MCOPSTN1", "AU", None),
        ("MCOPSTN1", "JP", None),
        ("MCOPSTN1", "IN", None),
    ],
)
def test_the_shipped_table_gives_each_plan_its_minutes(
    shipped: Any, plan: str, country: str, expected: tuple[int, int] | None
) -> None:
    assert minutes(shipped, plan, country) == expected


def test_a_british_licence_gives_3000_minutes_from_the_first_instant_of_25_january_2023(shipped: Any) -> None:
    for plan, international in (("MCOPSTN1", 0), ("MCOPSTN2", 600)):
        assert minutes(shipped, plan, "GB", "0001-01-01") == (1200, international)
        assert minutes(shipped, plan, "GB", "2023-01-24T23:59:59.999Z") == (1200, international)
        assert minutes(shipped, plan, "GB", "2023-01-25T00:00:00.000Z") == (3000, international)


def test_the_shipped_table_knows_every_country_where_plans_are_sold(shipped: Any) -> None:
    count = {plan: len(set(shipped.country[shipped.plan == PLANS.index(plan)])) for plan in PLANS[:7]}
    assert count == {
        "MCOPSTN1": 33, "MCOPSTN2": 33, "MCOPSTN5": 32, "MCOPSTN6": 32, "MCOPSTN8": 32, "MCOPSTN9": 33, "PAYG": 31
    }  # fmt: skip


def test_every_row_is_found_again_whatever_the_order_of_the_file(shipped: Any) -> None:
    header, *rows = TABLE.read_text("utf-8").splitlines()
    turned = parse_plans("\n".join([header, *reversed(rows)]), "turned.csv")
    assert (turned == shipped).all()
    for index, row in enumerate(shipped):
        assert allotment(shipped, row.plan, row.country, max(int(row.valid_from_ms), 0)) in (index, index + 1)
        assert allotment(shipped, row.plan, row.country, int(row.valid_from_ms)) == index


def test_a_plan_has_no_minutes_before_its_first_row() -> None:
    plans = table("MCOPSTN1,GB,1200,0,2020-01-01", "MCOPSTN1,GB,3000,,2023-01-25T12:00:00Z")
    assert minutes(plans, "MCOPSTN1", "GB", "2019-12-31") is None
    assert minutes(plans, "MCOPSTN1", "GB", "2020-01-01") == (1200, 0)
    assert minutes(plans, "MCOPSTN1", "GB", "2023-01-25") == (1200, 0)
    assert minutes(plans, "MCOPSTN1", "GB", "2023-01-26") == (3000, 0)
    assert minutes(plans, "MCOPSTN1", "FR") is None
    assert minutes(plans, "MCOPSTN2", "GB") is None


def test_a_table_without_rows_gives_nobody_minutes() -> None:
    assert minutes(table(), "MCOPSTN1", "GB") is None


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("MCOPSTN3,GB,1,1,", "plans.csv line 3: plan 'MCOPSTN3'; expected one of MCOPSTN1 MCOPSTN2"),
        ("MCOPSTNC,GB,1,1,", "plans.csv line 3: plan 'MCOPSTNC'; expected one of"),
        ("MCOPSTN1,UK1,1,1,", "plans.csv line 3: country 'UK1'; expected two capital letters"),
        ("MCOPSTN1,,1,1,", "plans.csv line 3: country ''; expected two capital letters"),
        ("MCOPSTN1,GB,1.5,0,", "plans.csv line 3: domestic_minutes '1.5'; expected whole minutes"),
        ("MCOPSTN1,GB,0,-1,", "plans.csv line 3: international_minutes '-1'; expected whole minutes"),
        ("MCOPSTN1,GB,1000001,0,", "plans.csv line 3: domestic_minutes '1000001'; expected whole minutes"),
        ("MCOPSTN1,GB,٣,0,", "plans.csv line 3: domestic_minutes '٣'; expected whole minutes"),
        ("MCOPSTN1,GB,1,0,25/01/2023", "plans.csv line 3: valid_from '25/01/2023'; expected a day or an instant"),
        ("MCOPSTN1,GB,1,0,2023-02-29", "plans.csv line 3: valid_from '2023-02-29'; expected a day or an instant"),
        ("MCOPSTN1,GB,1,0", "plans.csv line 3: 4 cells; expected 5"),
        ("MCOPSTN1,FR,1,0,", "plans.csv line 3: MCOPSTN1 FR again from the same date; expected one row; the first"),
        ('MCOPSTN1,GB,"1"2,0,', "plans.csv line 3: ',' expected after '\"'; expected a comma-separated row"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_refused_with_its_place_what_was_found_and_what_was_expected(row: str, message: str) -> None:
    assert str(refusal("MCOPSTN1,FR,1200,0,", row)).startswith(message)


def test_a_wrong_header_is_refused() -> None:
    with pytest.raises(
        PlansRefused, match=r"^plans.csv line 1: header 'plan,country'; expected 'plan,country,domestic"
    ):
        parse_plans("plan,country\n", "plans.csv")


def test_puerto_rico_must_bring_the_minutes_of_the_pool_it_shares() -> None:
    refused = refusal("MCOPSTN1,US,3000,0,", "MCOPSTN1,PR,1200,0,")
    assert (refused.file, refused.line) == ("plans.csv", 3)
    assert refused.found == "MCOPSTN1 PR gives 1200 and 0 minutes"
    assert "US row" in refusal("MCOPSTN1,PR,3000,0,").expected
    assert "US row" in refusal("MCOPSTN1,US,3000,0,", "MCOPSTN1,PR,3000,0,2023-01-25").expected
    assert len(table("MCOPSTN1,PR,3000,0,", "MCOPSTN1,US,3000,0,")) == 2


# --- countries -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("licence", "called", "expected"),
    [
        ("GB", "GB", True),
        ("GB", "JE", False),
        ("GB", "US", False),
        ("US", "PR", True),
        ("PR", "US", True),
        ("PR", "PR", True),
        ("US", "CA", True),
        ("CA", "US", True),
        ("CA", "PR", True),
        ("PR", "CA", True),
        ("US", "VI", False),
        ("US", "MX", False),
        ("US", "", False),
        ("", "", False),
    ],
)
def test_domestic_is_the_licence_country_and_north_america_is_one(licence: str, called: str, expected: bool) -> None:
    assert bool(is_domestic(country_code(licence), country_code(called))) is expected


def test_puerto_rico_has_no_pool_of_its_own() -> None:
    assert pool_country(country_code("PR")) == country_code("US")
    assert pool_country(country_code("GB")) == country_code("GB")
    assert pool_country(0) == 0


def test_zone_a_has_44_countries_and_an_unknown_country_is_not_one_of_them() -> None:
    assert len(set(ZONE_A)) == 44
    assert all(in_zone_a(country_code(name)) for name in ZONE_A)
    assert not any(in_zone_a(country_code(name)) for name in ("", "JE", "AR", "LT", "ZW", "AC", "VI"))


def test_plans_are_tried_from_domestic_to_international() -> None:
    assert [PLANS[plan] for plan in CALLING_PLANS] == [
        "MCOPSTN1", "MCOPSTN2", "MCOPSTN5", "MCOPSTN6", "MCOPSTN8", "MCOPSTN9"
    ]  # fmt: skip
