"""`rater advise`: trigger and amount from the worst days, minutes against credits, and no word where a month is not over."""

from pathlib import Path
from typing import Any

import pytest

from rater.core.plans import parse_plans
from rater.doors.history.advise import advice_object, advise, read_prices
from rater.doors.history.store import HistoryProblem, Store
from rater.doors.rules import PLANS_FILE, rates_folder
from rater.usage.advice import MINIMUM_FUNDING, Spend, enough, recharge_advice, rounded_up, spend_of, worst
from rater.usage.plan_advice import Buy, Drawn, Offer, Spent, best_of, buys, keeps
from tests.doors.front import front, refused, told
from tests.history.support import event, put, rated
from tests.twin import instant_text

EURO = 1_000_000
DAY_MS = 86_400_000
FIRST_MS = 1_793_491_200_000  # 2026-11-01T00:00:00Z


@pytest.fixture(scope="module")
def plans() -> Any:
    file = rates_folder() / "plans" / PLANS_FILE
    return parse_plans(file.read_text("utf-8"), str(file))


def spend(*euros: int, currency: str = "EUR") -> Spend:
    return Spend(currency, 20_000, tuple(amount * EURO for amount in euros))


# ---------------------------------------------------------------------------------------------- trigger and amount


def test_the_trigger_lasts_the_worst_three_days_and_the_amount_the_worst_week():
    found = recharge_advice(spend(*[1] * 21, 10, 20, 30, 2, 2, 2, 2, 1, 1))
    assert found is not None
    assert found.worst_days_micros == 60 * EURO
    assert found.trigger_micros == 60 * EURO
    assert found.worst_week_micros == 68 * EURO
    assert found.worst_week_first_day == 20_021
    assert found.amount_micros == 70 * EURO
    assert found.trigger_days_tenths == 10 * 7 * 60 // 68
    assert found.amount_days_tenths == 10 * 7 * 70 // 68
    assert found.average_day_micros == 91 * EURO // 30
    assert found.recharges_a_month_tenths == 10 * 91 // 70


@pytest.mark.parametrize(("currency", "least"), [("USD", 50), ("EUR", 20), ("CHF", 5)])
def test_nobody_can_buy_less_than_the_least_funding(currency: str, least: int):
    found = recharge_advice(spend(*[0] * 27, 1, currency=currency))
    assert found is not None
    assert found.amount_micros == least * EURO
    assert found.minimum_micros == MINIMUM_FUNDING.get(currency)


def test_where_credits_paid_nothing_there_is_nothing_to_recharge_for():
    assert recharge_advice(spend(*[0] * 30)) is None


@pytest.mark.parametrize(("days", "ready"), [(27, False), (28, True)])
def test_a_month_has_at_least_28_days(days: int, ready: bool):
    assert enough(spend(*[1] * days)) is ready


def test_only_the_last_62_days_are_looked_at_and_days_without_calls_count():
    found = spend_of({0: 900, 99: 5, 100: 7}, "USD", 0, 100)
    assert (found.first_day, found.last_day, found.days) == (39, 100, 62)
    assert sum(found.micros) == 12


@pytest.mark.parametrize(
    ("micros", "amount"),
    [
        (1, 5),
        (5 * EURO, 5),
        (5 * EURO + 1, 10),
        (96 * EURO, 100),
        (100 * EURO, 100),
        (101 * EURO, 110),
        (1234 * EURO, 1300),
    ],
)
def test_amounts_are_such_as_people_choose(micros: int, amount: int):
    assert rounded_up(micros) == amount * EURO


def test_of_two_weeks_that_are_equal_the_later_one_is_told():
    assert worst((5, 0, 0, 5), 1) == (5, 3)
    assert worst((1, 2), 7) == (3, 0)


# ---------------------------------------------------------------------------------------------- minutes or credits

GB1 = Offer("MCOPSTN1", "GB", 1000, 0, 12 * EURO)


def test_licences_go_to_those_who_spend_most_and_as_many_as_gain_most():
    spent = [
        Spent("a", "Domestic", 300, 30 * EURO),
        Spent("b", "Domestic", 200, 20 * EURO),
        Spent("c", "Domestic", 10, EURO),
    ]
    assert buys(spent, [], [GB1]) == [Buy("MCOPSTN1", "GB", 2, 50 * EURO, 24 * EURO)]


def test_minutes_beyond_the_pool_are_not_saved():
    found = best_of([Spent("a", "Domestic", 4000, 100 * EURO)], set(), GB1)
    assert found == Buy("MCOPSTN1", "GB", 1, 25 * EURO, 12 * EURO)


def test_who_holds_the_plan_already_shares_what_a_further_licence_adds():
    spent = [Spent("a", "Domestic", 2000, 100 * EURO)]
    assert best_of(spent, {"a"}, GB1) == Buy("MCOPSTN1", "GB", 2, 100 * EURO, 24 * EURO)


def test_minutes_of_a_plan_that_is_not_shared_are_each_users_own():
    own = Offer("MCOPSTN8", "GB", 100, 0, 1 * EURO)
    spent = [Spent("a", "Domestic", 200, 20 * EURO), Spent("b", "Domestic", 50, 5 * EURO)]
    assert best_of(spent, set(), own) == Buy("MCOPSTN8", "GB", 2, 15 * EURO, 2 * EURO)


def test_a_domestic_plan_saves_nothing_of_international_calls():
    assert buys([Spent("a", "International", 300, 90 * EURO)], [], [GB1]) == []
    both = Offer("MCOPSTN2", "GB", 1000, 600, 24 * EURO)
    assert buys([Spent("a", "International", 300, 90 * EURO)], [], [both])[0].gain_micros == 66 * EURO


def test_a_plan_is_held_against_what_its_minutes_would_have_cost():
    drawn = [Drawn("a", "MCOPSTN1", "GB", 100, 3 * EURO, 0), Drawn("b", "MCOPSTN1", "GB", 200, 5 * EURO, 10)]
    (unknown,) = keeps(drawn, {}, {})
    assert (unknown.pays, unknown.licences, unknown.licences_known) == (None, 2, False)
    assert unknown.break_even_micros == 4 * EURO
    (dear,) = keeps(drawn, {("MCOPSTN1", "GB"): 12 * EURO}, {("MCOPSTN1", "GB"): 3})
    assert (dear.pays, dear.cost_micros, dear.worth_micros, dear.minutes_without_rate) == (
        False,
        36 * EURO,
        8 * EURO,
        10,
    )
    (cheap,) = keeps(drawn, {("MCOPSTN1", "GB"): 4 * EURO}, {})
    assert cheap.pays is True


# ---------------------------------------------------------------------------------------------- of a history


def month(store: Store, days: int = 30) -> None:
    """Each day a call of 2.00 from credits and one of ten pool minutes; the last recharge was asked for at 5.00 with 10.00."""
    calls = []
    for day in range(days):
        start = instant_text(FIRST_MS + day * DAY_MS + 1000)
        calls.append(rated(2 * day, start=start, outcome="charged", pool=None, pool_minutes=0, credit_minutes=10,
                           charge_micros=2 * EURO, destination_context="Domestic", user="a"))  # fmt: skip
        calls.append(rated(2 * day + 1, start=start, outcome="pooled", pool="GB/MCOPSTN1/domestic/2026-11", pool_minutes=10,
                           credit_minutes=0, charge_micros=0, lots=[], user="b"))  # fmt: skip
    told = [
        event(0, "pool.reached", "2026-11-02T00:00:00.000Z", percent=80, pool="GB/MCOPSTN1/domestic/2026-11",
              capacity=6000, used=4800),
        event(1, "recharge.requested", "2026-11-03T00:00:00.000Z", recharge_id="contoso:recharge:1", trigger_micros=5 * EURO,
              amount_micros=10 * EURO, balance_micros=4 * EURO, currency="USD"),
    ]  # fmt: skip
    put(store, calls, told)


def test_a_month_of_a_tenant_becomes_advice(store: Store, plans: Any):
    month(store)
    found = advice_object(advise(store, "contoso", {("MCOPSTN1", "GB"): 12 * EURO}, plans))
    assert (found["enough"], found["days"], found["first_day"], found["last_day"]) == (
        True,
        30,
        "2026-11-01",
        "2026-11-30",
    )
    assert found["spend_micros"] == 60 * EURO
    assert found["now"] == {"trigger_micros": 5 * EURO, "amount_micros": 10 * EURO}
    assert (found["recharge"]["trigger_micros"], found["recharge"]["amount_micros"]) == (10 * EURO, 50 * EURO)
    (plan,) = found["plans"]
    assert (plan["plan"], plan["licences"], plan["licences_known"], plan["minutes"]) == ("MCOPSTN1", 2, True, 300)
    assert (plan["worth_micros"], plan["cost_micros"], plan["pays"]) == (300 * 20_500, 24 * EURO, False)
    (buy,) = found["buy"]
    assert (buy["licences"], buy["saved_micros"], buy["gain_micros"]) == (1, 60 * EURO, 48 * EURO)
    assert found["credits_by_scope"] == [{"scope": "Domestic", "users": 1, "minutes": 300, "charge_micros": 60 * EURO}]
    assert {one["topic"] for one in found["reflects"]} == {"rated-cdrs", "account-events"}


def test_of_27_days_nothing_is_proposed(sqlite_store: Store, plans: Any):
    month(sqlite_store, 27)
    found = advice_object(advise(sqlite_store, "contoso", {("MCOPSTN1", "GB"): EURO}, plans))
    assert (found["enough"], found["recharge"], found["plans"], found["buy"]) == (False, None, [], [])


def test_what_an_invoice_paid_needs_no_credits(sqlite_store: Store, plans: Any):
    put(sqlite_store, [rated(k, start=instant_text(FIRST_MS + k * DAY_MS), outcome="invoiced", charge_micros=2 * EURO, lots=[],
                             invoice_micros=2 * EURO) for k in range(30)])  # fmt: skip
    found = advice_object(advise(sqlite_store, "contoso", {}, plans))
    assert (found["spend_micros"], found["invoice_micros"], found["recharge"]) == (0, 60 * EURO, None)


def test_the_command_says_what_is_missing(sqlite_store: Store):
    month(sqlite_store)
    history = sqlite_store.name
    shown = front("advise", "contoso", "--history", history)
    assert shown.status == 0
    text = shown.stdout.decode()
    assert "What a plan costs is not in the data: give --plan-price PLAN/COUNTRY=PRICE" in text
    assert "when the balance falls below" in text
    assert told(front("advise", "contoso", "--history", history, "--json"))["plan_prices_given"] == 0
    assert "of tenant 'nobody'" in refused(front("advise", "nobody", "--history", history))


def test_too_little_history_is_said_with_the_day_to_ask_again(sqlite_store: Store):
    month(sqlite_store, 10)
    text = front("advise", "contoso", "--history", sqlite_store.name).stdout.decode()
    assert "Too little history for advice: 10 days, at least 28 are needed. Ask again after 2026-11-28." in text
    assert "proposed" not in text


def test_prices_come_from_options_and_a_file_and_the_options_win(tmp_path: Path):
    file = tmp_path / "prices.csv"
    file.write_text("plan,country,price\nMCOPSTN1,GB,12.00\nMCOPSTN2,GB,24\n")
    assert read_prices(["MCOPSTN1/GB=9.5"], file) == {
        ("MCOPSTN1", "GB"): 9_500_000, ("MCOPSTN2", "GB"): 24_000_000,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MCOPSTN1=1", "expected PLAN/COUNTRY=PRICE"), ("MCOPSTN3/GB=1", "expected one of MCOPSTN1"),
        ("MCOPSTN1/gb=1", "two capital letters"), ("MCOPSTN1/=1", "two capital letters"),
        ("MCOPSTN1/GB=-1", "an amount a licence"), ("MCOPSTN1/GB=1.0000001", "an amount a licence"),
        ("MCOPSTN1/GB=NaN", "an amount a licence"), ("MCOPSTN1/GB=", "an amount a licence"),
    ],
)  # fmt: skip
def test_a_price_that_is_none_is_refused(text: str, expected: str):
    with pytest.raises(HistoryProblem, match=expected):
        read_prices([text], None)


def test_a_file_of_prices_is_refused_with_its_line(tmp_path: Path):
    file = tmp_path / "prices.csv"
    file.write_text("plan,country,price\nMCOPSTN1,GB,cheap\n")
    with pytest.raises(HistoryProblem, match=r"prices\.csv line 2: price 'cheap'"):
        read_prices([], file)
