"""The twin is trusted because its figures here were worked out by hand, from the contract and the decisions."""

import json
from typing import Any

import pytest

from tests.streams import guide_country, stream
from tests.twin import Row, Twin, instant_ms, instant_text, twelve_months_later

DECK = {
    "deck.toml": 'name = "hand"\ncurrency = "USD"\n',
    "outbound.csv": """\
prefix,destination,country,class,rate_per_minute,connection_fee,minimum_charge,initial_s,step_s,valid_from,valid_to
1,United States,US,,0.02,,,,,,
1212,United States - New York,US,,0.0205,,,,,,
44,United Kingdom,GB,,0.0100,,,60,60,,
447,"United Kingdom, mobile",GB,mobile,0.0900,,,60,1,,
44871,Premium,GB,premium,1.5,0.25,,60,60,,
33,France,FR,,0.0205,0.02,,30,6,,
49,Germany,DE,,0.03,,0.10,1,1,,
4930,Berlin,DE,,0.000000001,,,1,1,,
52,Mexico,MX,,0.05,,,,,,2026-11-10T00:00:00Z
52,Mexico,MX,,0.07,,,,,2026-11-10T00:00:00Z,
5255,Mexico City,MX,,0.01,,,,,,2026-11-05
234,Nigeria,NG,,0,,,,,,
55,Brazil,BR,,0.123456789,,,0,1,,
888,Unknown to numbering,GB,,0.01,,,,,,
""",
    "inbound.csv": """\
number_country,number_type,origin_country,rate_per_minute,connection_fee
US,toll_free,*,0.022,
US,toll_free,CA,0.033,0.01
GB,service,GB,0.015,
""",
}
PLANS = """\
plan,country,domestic_minutes,international_minutes,valid_from
MCOPSTN1,US,5,0,
MCOPSTN2,US,6,4,
MCOPSTN5,US,3,0,
MCOPSTN8,US,3,0,
MCOPSTN9,US,0,3,
MCOPSTN1,CA,5,0,
MCOPSTN1,GB,1200,0,
MCOPSTN1,GB,3000,0,2023-01-25
"""
NEW_YORK, LONDON, MOBILE, PARIS = "+12125550123", "+442079460018", "+447700900123", "+33142685300"
TORONTO, SAN_JUAN, BERLIN, MUNICH = "+14165550123", "+17875550123", "+4930123456", "+4989123456"
MEXICO, TOKYO, LAGOS, RIO = "+525512345678", "+81312345678", "+2348021234567", "+552112345678"
PREMIUM, TOLL_FREE = "+448712345678", "+18005550199"
ASKED = "rater.recharge.requested"


class Book:
    """One tenant, `contoso`, and short ways to write its commands and calls."""

    def __init__(self, country: str = "US", **opening: object) -> None:
        self.twin = Twin(DECK, PLANS, guide_country, deck_version="v")
        self.count = 0
        shape: Row = {"country": country, "currency": "USD", "billing_mode": "prepaid"} | opening
        self.do("tenant.opened", at="2020-01-01T00:00:00Z", **shape)

    def do(self, kind: str, at: str = "2026-11-01T00:00:00Z", **fields: object) -> None:
        self.count += 1
        record = {"command_id": f"c{self.count}", "tenant": "contoso", "type": kind, "at": at, "by": "ops", **fields}
        self.twin.command(json.dumps(record).encode(), self.count)

    def licence(self, *plans: str, user: str = "u", country: str = "US") -> None:
        for plan in plans:
            self.do("licence.assigned", user=user, plan=plan, country=country)

    def funds(self, lot_id: str, amount: int, at: str = "2026-11-01T00:00:00Z", **fields: object) -> None:
        self.do("funds.added", at, lot_id=lot_id, amount_micros=amount, **fields)

    def record(self, callee: str, ms: int, start: str = "2026-11-03T10:00:00Z", **fields: object) -> Row:
        """An answered call without ringing; `start` moves the whole call."""
        self.count += 1
        return {
            "record_id": f"r{self.count}", "tenant": "contoso", "call_type": "user_out", "user": "u",
            "caller": LONDON, "callee": callee, "start": start, "answer": start,
            "end": instant_text(instant_ms(start) + ms), "billable_ms": ms, "disposition": "answered",
        } | fields  # fmt: skip

    def send(self, record: Row) -> None:
        self.twin.call(json.dumps(record).encode(), self.count)

    def call(self, callee: str, ms: int, start: str = "2026-11-03T10:00:00Z", **fields: object) -> Row:
        self.send(self.record(callee, ms, start, **fields))
        return self.twin.rated[-1]

    def events(self) -> list[str]:
        return [event["type"].removeprefix("rater.") for event in self.twin.events]

    def data(self, kind: str) -> list[Row]:
        return [event["data"] for event in self.twin.events if event["type"] == f"rater.{kind}"]

    @property
    def balance(self) -> Row:
        return self.twin.balance("contoso")

    @property
    def refusals(self) -> list[str]:
        return [one["reason"] for one in self.twin.rejected_commands + self.twin.rejected_cdrs]


def look(rated: Row, *names: str) -> tuple[Any, ...]:
    return tuple(rated[name] for name in names)


MONEY = ("outcome", "pool_minutes", "credit_minutes", "charge_micros")


# ---------------------------------------------------------------------------------------------- the charge


@pytest.mark.parametrize(
    ("callee", "ms", "charge"),
    [
        # 60/60 at 0.0100: every started minute
        (LONDON, 1, 10_000),
        (LONDON, 59_999, 10_000),
        (LONDON, 60_000, 10_000),
        (LONDON, 60_001, 20_000),
        # 60/1 at 0.0900: house style's 61 s = 0.0915
        (MOBILE, 61_000, 91_500),
        (MOBILE, 5_000, 90_000),
        (MOBILE, 60_001, 91_500),
        # 30/6 at 0.0205 with a fee of 0.02: 31 s -> 36 s: 20000 + 20500 * 36 / 60
        (PARIS, 29_999, 20_000 + 10_250),
        (PARIS, 30_001, 20_000 + 12_300),
        # 1/1 at 0.03, never below 0.10: 100 s = 50000 -> 100000; 201 s = 100500
        (MUNICH, 100_000, 100_000),
        (MUNICH, 201_000, 100_500),
        # 0/1 at 0.123456789: 7 s = 14403.29205 -> 14403; 35 s = 72016.46025; 13 s = 26748.97095 -> 26749
        (RIO, 7_000, 14_403),
        (RIO, 35_000, 72_016),
        (RIO, 13_000, 26_749),
        # 44871: 2 minutes at 1.5 and the fee
        (PREMIUM, 60_001, 3_250_000),
    ],
)
def test_a_call_paid_from_credits_costs_fee_and_increments_rounded_once(callee: str, ms: int, charge: int) -> None:
    book = Book()
    book.funds("lot", 10_000_000)
    rated = book.call(callee, ms)
    assert look(rated, "outcome", "charge_micros", "balance_micros") == ("charged", charge, 10_000_000 - charge)
    assert rated["lots"] == [["lot", charge]]
    assert rated["credit_minutes"] == rated["billed_minutes"] == -(-ms // 60_000)
    assert rated["capability"] == "MCOPSTNPP"


def test_half_a_micro_unit_is_rounded_up() -> None:
    # 0.000000001 a minute = 0.001 micro-units; 30,000 s = 500 minutes = 0.5 micro-units
    book = Book()
    book.funds("lot", 5)
    assert look(book.call(BERLIN, 29_999_000), "outcome", "charge_micros", "credit_minutes") == ("free", 0, 500)
    assert look(book.call(BERLIN, 30_000_000), "outcome", "charge_micros") == ("charged", 1)


def test_the_contracts_own_example_one_pool_minute_left_of_a_call_of_three() -> None:
    book = Book()
    book.licence("MCOPSTN1", "MCOPSTNC")
    book.funds("lot-7", 999_000)
    book.call(NEW_YORK, 4 * 60_000)
    rated = book.call(NEW_YORK, 154_550)
    assert look(rated, *MONEY) == ("charged", 1, 2, 41_000)
    assert rated["pool"] == "US/MCOPSTN1/domestic/2026-11"
    assert look(rated, "billed_minutes", "rate_nanos_per_minute", "prefix") == (3, 20_500_000, "1212")
    assert look(rated, "destination", "destination_country") == ("United States - New York", "US")
    assert look(rated, "destination_context", "capability") == ("Domestic", "MCOPSTNPP")
    assert look(rated, "deck", "deck_version", "lots") == ("hand", "v", [["lot-7", 41_000]])
    assert look(rated, "balance_micros", "account_version", "flags") == (958_000, 6, [])
    assert " ".join(rated) == (
        "v call outcome tenant record_id charge_micros currency billed_minutes pool pool_minutes credit_minutes "
        "connection_fee_micros rate_nanos_per_minute prefix destination destination_country destination_context "
        "capability deck deck_version lots debt_micros invoice_micros balance_micros account_version flags input"
    )


def test_pool_minutes_come_off_after_the_increments_and_the_fee_is_due_once() -> None:
    book = Book()
    book.licence("MCOPSTN9")
    book.funds("lot", 1_000_000)
    # international pool of 3: 200 s at 30/6 -> 30 + 29 * 6 = 204 s; less 180 = 24 s: 20000 + 20500 * 24 / 60 = 28200
    rated = book.call(PARIS, 200_000)
    assert look(rated, *MONEY) == ("charged", 3, 1, 28_200)
    assert rated["connection_fee_micros"] == 20_000
    assert rated["pool"] == "US/MCOPSTN9/international/2026-11"


def test_a_minimum_charge_holds_for_the_part_the_pool_left() -> None:
    book = Book()
    book.licence("MCOPSTN9")
    book.funds("lot", 1_000_000)
    # 181 s at 1/1, less 180 s: one second at 0.03 = 500, but never below 100000
    assert look(book.call(MUNICH, 181_000), *MONEY) == ("charged", 3, 1, 100_000)


def test_a_rest_priced_at_zero_is_pooled_with_a_pool_and_free_without() -> None:
    book = Book()
    book.licence("MCOPSTN9")
    first, second = book.call(LAGOS, 4 * 60_000), book.call(LAGOS, 60_000)
    assert look(first, *MONEY) == ("pooled", 3, 1, 0)
    assert look(second, *MONEY) == ("free", 0, 1, 0)
    assert second["capability"] == "MCOPSTNPP"
    assert second["flags"] == []


# ---------------------------------------------------------------------------------------------- which rate


def test_the_longest_prefix_in_force_at_start_wins_and_a_closed_one_gives_way() -> None:
    book = Book()
    book.funds("lot", 10_000_000)
    starts = ("2026-11-04T23:59:59.999Z", "2026-11-05T00:00:00Z", "2026-11-09T23:59:59.999Z", "2026-11-10T00:00:00Z")
    seen = [look(book.call(MEXICO, 60_000, start), "prefix", "charge_micros") for start in starts]
    assert seen == [("5255", 10_000), ("52", 50_000), ("52", 50_000), ("52", 70_000)]


def test_a_call_without_a_rate_is_a_freecall_announced_once_a_day() -> None:
    book = Book()
    rated = book.call(TOKYO, 61_000)
    book.call("+81399999999", 61_000)
    book.call(TOKYO, 61_000, "2026-11-04T00:00:00Z")
    assert look(rated, *MONEY) == ("freecall", 0, 0, 0)
    assert look(rated, "capability", "deck", "prefix", "billed_minutes") == ("FREECALL", "hand", None, 2)
    assert look(rated, "destination_country", "destination_context") == ("JP", "International")
    missing = [(data["digits"], data["day"]) for data in book.data("rate.missing")]
    assert missing == [("8131", "2026-11-03"), ("8139", "2026-11-03"), ("8131", "2026-11-04")]
    assert book.twin.events[0]["id"] == "contoso/rate.missing/8131/2026-11-03"


def test_pool_minutes_are_taken_even_when_the_rest_has_no_rate() -> None:
    book = Book()
    book.licence("MCOPSTN9")
    rated = book.call(TOKYO, 5 * 60_000)
    assert look(rated, *MONEY) == ("freecall", 3, 0, 0)
    assert rated["pool"] == "US/MCOPSTN9/international/2026-11"


def test_a_currency_without_a_deck_is_never_converted() -> None:
    book = Book(currency="EUR")
    assert look(book.call(LONDON, 60_000), "outcome", "currency", "deck") == ("freecall", "EUR", None)


def test_a_country_only_the_deck_knows_counts() -> None:
    book = Book("GB")
    book.licence("MCOPSTN1", country="GB")
    rated = book.call("+8881234567", 60_000)
    assert look(rated, "outcome", "destination_country", "destination_context") == ("pooled", "GB", "Domestic")


# ---------------------------------------------------------------------------------------------- pools


def test_us_and_puerto_rico_share_one_pool_and_canada_is_domestic_to_both() -> None:
    book = Book()
    book.licence("MCOPSTN1")
    book.licence("MCOPSTN1", user="pr", country="PR")
    assert look(book.call(SAN_JUAN, 6 * 60_000), *MONEY) == ("pooled", 6, 0, 0)
    rated = book.call(TORONTO, 4 * 60_000, user="pr")
    pool = "US/MCOPSTN1/domestic/2026-11"
    assert look(rated, "outcome", "pool", "destination_context") == ("pooled", pool, "Domestic")
    assert book.balance["pools"] == [{"pool": pool, "capacity": 10, "used": 10, "left": 0, "held": 0}]


def test_a_pool_announces_eighty_and_a_hundred_percent_once() -> None:
    book = Book()
    book.licence("MCOPSTN1")
    for ms in (180_000, 60_000, 60_000, 60_000):
        book.call(NEW_YORK, ms)
    reached = [(data["percent"], data["used"], data["capacity"]) for data in book.data("pool.reached")]
    assert reached == [(80, 4, 5), (100, 5, 5)]
    assert book.twin.events[0]["id"] == "contoso/pool.reached/US/MCOPSTN1/domestic/2026-11/80"


def test_a_month_has_its_own_pool_and_the_last_millisecond_belongs_to_it() -> None:
    book = Book()
    book.licence("MCOPSTN1")
    last, first = (book.call(NEW_YORK, 5 * 60_000, at) for at in ("2026-11-30T23:59:59.999Z", "2026-12-01T00:00:00Z"))
    assert look(last, "pool", "pool_minutes") == ("US/MCOPSTN1/domestic/2026-11", 5)
    assert look(first, "pool", "pool_minutes") == ("US/MCOPSTN1/domestic/2026-12", 5)


def test_a_counter_of_mcopstn2_at_its_cap_stops_the_other() -> None:
    book = Book()
    book.licence("MCOPSTN2")
    book.funds("lot", 10_000_000)
    assert look(book.call(NEW_YORK, 60_000), *MONEY) == ("pooled", 1, 0, 0)
    assert look(book.call(LONDON, 5 * 60_000), *MONEY) == ("charged", 4, 1, 10_000)
    assert look(book.call(NEW_YORK, 60_000), *MONEY) == ("charged", 0, 1, 20_500)
    assert book.twin.rated[-1]["pool"] is None


def test_mcopstn8_is_each_users_own() -> None:
    book = Book()
    book.licence("MCOPSTN8", user="a")
    book.licence("MCOPSTN8", user="b")
    book.funds("lot", 1_000_000)
    assert look(book.call(NEW_YORK, 4 * 60_000, user="a"), *MONEY) == ("charged", 3, 1, 20_500)
    rated = book.call(NEW_YORK, 2 * 60_000, user="b")
    assert look(rated, "outcome", "pool") == ("pooled", "US/MCOPSTN8/domestic/2026-11/b")


def test_the_first_plan_with_an_allotment_is_the_one_even_when_empty() -> None:
    book = Book()
    book.licence("MCOPSTN9", "MCOPSTN5", "MCOPSTN1")
    book.funds("lot", 1_000_000)
    assert look(book.call(NEW_YORK, 6 * 60_000), *MONEY) == ("charged", 5, 1, 20_500)  # MCOPSTN1, and not 5 after it
    assert look(book.call(NEW_YORK, 60_000), *MONEY) == ("charged", 0, 1, 20_500)
    assert book.call(LONDON, 60_000)["pool"] == "US/MCOPSTN9/international/2026-11"


def test_licences_taken_away_shrink_the_pool_but_never_below_nothing() -> None:
    book = Book()
    book.licence("MCOPSTN1")
    book.licence("MCOPSTN1", user="b")
    book.funds("lot", 1_000_000)
    book.call(NEW_YORK, 7 * 60_000)
    book.do("licence.removed", user="b", plan="MCOPSTN1")
    assert look(book.call(NEW_YORK, 60_000), *MONEY) == ("charged", 0, 1, 20_500)
    assert book.balance["pools"][0] | {"pool": ""} == {"pool": "", "capacity": 5, "used": 7, "left": 0, "held": 0}


def test_the_allotment_is_that_of_the_calls_start() -> None:
    book = Book("GB")
    book.licence("MCOPSTN1", country="GB")
    book.funds("lot", 10_000_000, expires_at="2027-01-01T00:00:00Z")
    assert look(book.call(LONDON, 1_201 * 60_000, "2023-01-24T00:00:00Z"), *MONEY) == ("charged", 1_200, 1, 10_000)
    assert look(book.call(LONDON, 10 * 60_000, "2023-01-25T00:00:00Z"), *MONEY) == ("pooled", 10, 0, 0)


def test_premium_numbers_never_draw_on_a_pool() -> None:
    book = Book("GB")
    book.licence("MCOPSTN1", country="GB")
    book.funds("lot", 10_000_000)
    assert look(book.call(PREMIUM, 60_000), *MONEY) == ("charged", 0, 1, 1_750_000)


# ---------------------------------------------------------------------------------------------- conferences, inbound


def test_a_conference_draws_sixty_zone_a_minutes_and_then_credits() -> None:
    book = Book()
    book.licence("MCOMEETADD", "MCOPSTN1")
    book.funds("lot", 1_000_000)
    rated = book.call(LONDON, 61 * 60_000, call_type="conf_out")
    assert look(rated, *MONEY) == ("charged", 60, 1, 10_000)
    assert look(rated, "pool", "flags") == ("*/MCOMEETADD/zone-a/2026-11", ["no_credit_licence"])
    # the pool is empty now, and a calling plan never pays a conference
    assert look(book.call(NEW_YORK, 60_000, call_type="conf_out"), *MONEY) == ("charged", 0, 1, 20_500)


def test_the_us_add_on_pays_for_us_canada_and_puerto_rico_without_end() -> None:
    book = Book()
    book.licence("MCOMEETADD_DIALOUT_US")
    for callee in (NEW_YORK, TORONTO, SAN_JUAN):
        rated = book.call(callee, 100 * 60_000, call_type="conf_out")
        assert look(rated, *MONEY) == ("free", 0, 0, 0)
        assert look(rated, "capability", "billed_minutes", "pool") == ("MCOMEETADD_DIALOUT_US", 100, None)


def test_pay_per_minute_conferences_pay_every_call_and_need_no_credit_licence() -> None:
    book = Book("GB")
    book.licence("MCOMEETACPEA", country="GB")
    book.licence("MCOMEETADD", user="other", country="GB")
    book.funds("lot", 1_000_000)
    out = book.call(LONDON, 60_000, call_type="conf_out")
    assert look(out, *MONEY) == ("charged", 0, 1, 10_000)
    assert look(out, "capability", "flags") == ("MCOMEETACPEA", [])
    # a toll number nobody assigned: service, of the country of its digits; caller in GB: 0.015
    inbound = book.call("+442079460999", 61_000, call_type="conf_in")
    assert look(inbound, *MONEY) == ("charged", 0, 2, 30_000)
    assert look(inbound, "capability", "prefix", "deck") == ("MCOMEETACPEA", None, "hand")
    assert inbound["rate_nanos_per_minute"] == 15_000_000
    assert look(book.call("+442079460999", 61_000, call_type="conf_in", user="other"), *MONEY) == ("free", 0, 0, 0)


def test_toll_free_inbound_is_priced_by_the_callers_country_else_by_the_star() -> None:
    book = Book()
    book.do("number.assigned", number=TOLL_FREE, number_type="toll_free", country="US")
    book.funds("lot", 1_000_000)
    from_canada = book.call(TOLL_FREE, 61_000, call_type="ucap_in", caller=TORONTO)
    assert look(from_canada, *MONEY) == ("charged", 0, 2, 76_000)  # 0.01 + 2 * 0.033
    assert look(from_canada, "destination_country", "destination_context") == (None, None)
    assert look(book.call(TOLL_FREE, 60_000, call_type="conf_in", caller=LONDON), *MONEY) == ("charged", 0, 1, 22_000)
    withheld = book.call(TOLL_FREE, 60_000, call_type="unassigned_in", caller=None)
    assert look(withheld, *MONEY) == ("charged", 0, 1, 22_000)
    assert look(book.call(TOLL_FREE, 60_000, call_type="user_in"), *MONEY) == ("free", 0, 0, 0)
    assert all(rated["flags"] == [] for rated in book.twin.rated)


def test_toll_free_inbound_without_a_row_is_a_freecall() -> None:
    book = Book()
    book.do("number.assigned", number="+448081570000", number_type="toll_free", country="GB")
    rated = book.call("+448081570000", 60_000, call_type="ucap_in", caller=None)
    assert look(rated, *MONEY) == ("freecall", 0, 0, 0)
    assert book.data("rate.missing")[0]["digits"] == "*"


@pytest.mark.parametrize(
    ("call_type", "callee"),
    [("emergency", "+112"), ("user_out", "+911"), ("conf_out", "+112"), ("ucap_out", "+911"), ("dr_out", LONDON),
     ("dr_emergency_out", "+911"), ("unassigned_in", LONDON), ("ucap_in", LONDON)],
)  # fmt: skip
def test_calls_that_are_free_by_kind_name_no_rate(call_type: str, callee: str) -> None:
    rated = Book().call(callee, 61_000, call_type=call_type)
    assert look(rated, *MONEY) == ("free", 0, 0, 0)
    nothing = look(rated, "capability", "prefix", "deck", "destination_country", "destination_context", "pool")
    assert nothing == (None,) * 6
    assert look(rated, "billed_minutes", "flags") == (2, [])


@pytest.mark.parametrize(
    "change", [{"answer": None}, {"disposition": "busy"}, {"billable_ms": 0, "end": "2026-11-03T10:00:00Z"}]
)
def test_a_call_that_was_not_connected_costs_nothing_and_is_recorded(change: Row) -> None:
    book = Book()
    rated = book.call(LONDON, 60_000, **change)
    assert look(rated, *MONEY) == ("not_connected", 0, 0, 0)
    assert look(rated, "billed_minutes", "prefix", "deck", "rate_nanos_per_minute", "flags") == (0, None, None, 0, [])
    assert rated["account_version"] == 2


# ---------------------------------------------------------------------------------------------- money


def test_lots_are_drawn_by_instant_then_id_and_the_rest_is_debt() -> None:
    book = Book()
    book.funds("b", 4_000, "2026-11-01T00:00:00Z")
    book.funds("a", 3_000, "2026-11-01T00:00:00Z")
    book.funds("late", 2_000, "2026-10-01T00:00:00Z")
    rated = book.call(LONDON, 60_000)
    assert rated["lots"] == [["late", 2_000], ["a", 3_000], ["b", 4_000]]
    assert look(rated, "debt_micros", "balance_micros", "flags") == (
        1_000, -1_000, ["no_credit_licence", "overdrawn", "no_plan"])  # fmt: skip
    assert [data["balance_micros"] for data in book.data("balance.zero")] == [-1_000]
    assert book.events() == ["balance.zero", "service.blocked"]
    book.funds("repays", 1_000)
    assert book.balance["lots"] == []
    book.funds("lifts", 1)
    assert book.events() == ["balance.zero", "service.blocked", "service.restored"]
    assert book.twin.events[-1]["id"] == "contoso/service.restored/1"


def test_post_usage_draws_its_lots_first_and_then_the_invoice() -> None:
    book = Book(billing_mode="post_usage", overage=True)
    book.funds("lot", 25_000)
    book.do("recharge.configured", enabled=True, trigger_micros=1, amount_micros=5)
    first, second, third = (book.call(LONDON, 2 * 60_000) for _ in range(3))
    assert look(first, "outcome", "lots", "invoice_micros") == ("charged", [["lot", 20_000]], 0)
    assert look(second, "outcome", "lots", "invoice_micros") == ("invoiced", [["lot", 5_000]], 15_000)
    assert look(third, "outcome", "lots", "invoice_micros") == ("invoiced", [], 20_000)
    assert book.balance["invoice_micros"] == 35_000
    assert third["flags"] == ["no_plan"]
    # zero is announced; nothing is blocked, because the overage pays; the trigger saw the second call only
    assert book.events() == ["balance.zero", "recharge.requested"]


def test_a_lot_is_gone_at_the_instant_it_expires_and_before_that_call_is_debited() -> None:
    book = Book()
    book.funds("a-short", 50_000, expires_at="2026-11-03T10:01:00Z")
    book.funds("b-long", 50_000)
    assert book.call(LONDON, 59_999)["lots"] == [["a-short", 10_000]]
    assert book.call(LONDON, 60_000)["lots"] == [["b-long", 10_000]]
    expired = look(book.data("lot.expired")[0], "lot_id", "forfeited_micros", "balance_micros")
    assert expired == ("a-short", 40_000, 50_000)
    assert look(book.call(LONDON, 1), "lots", "balance_micros") == ([["b-long", 10_000]], 30_000)  # earlier; stays gone


@pytest.mark.parametrize(
    ("at", "expires"),
    [
        ("2024-02-29T12:00:00.000Z", "2025-02-28T12:00:00.000Z"),
        ("2023-02-28T00:00:00.000Z", "2024-02-28T00:00:00.000Z"),
        ("2026-12-31T23:59:59.999Z", "2027-12-31T23:59:59.999Z"),
    ],
)
def test_twelve_calendar_months_clamp_the_day(at: str, expires: str) -> None:
    assert instant_text(twelve_months_later(instant_ms(at))) == expires


def test_an_expiry_asks_for_a_recharge_before_the_call_is_applied() -> None:
    book = Book()
    book.funds("short", 50_000, expires_at="2026-11-03T10:01:00Z")
    book.do("recharge.configured", enabled=True, trigger_micros=20_000, amount_micros=100_000)
    book.call(LONDON, 60_000)
    assert book.events() == ["lot.expired", "balance.zero", "service.blocked", "recharge.requested"]
    assert book.data("recharge.requested")[0]["balance_micros"] == 0
    assert book.twin.rated[-1]["balance_micros"] == -10_000


def test_the_trigger_is_strict_and_one_recharge_is_in_flight() -> None:
    book = Book()
    book.funds("lot", 30_000)
    book.do("recharge.configured", enabled=True, trigger_micros=20_000, amount_micros=5_000)
    book.call(LONDON, 60_000)  # 20000: at the trigger, not below
    assert book.events() == []
    book.call(LONDON, 60_000)
    book.call(LONDON, 1)
    assert book.events() == ["recharge.requested", "balance.zero", "service.blocked"]
    book.funds("r", 5_000, recharge_id="contoso:recharge:1")  # still below: asked again
    assert book.events()[3:] == ["recharge.succeeded", "service.restored", "recharge.requested"]
    assert book.balance["recharge"]["in_flight"] == "contoso:recharge:2"


def test_funds_without_a_recharge_id_leave_the_recharge_in_flight() -> None:
    book = Book()
    book.do("recharge.configured", enabled=True, trigger_micros=20_000, amount_micros=5_000)
    book.funds("own", 1_000_000)
    assert book.balance["recharge"]["in_flight"] == "contoso:recharge:1"
    book.funds("late", 1, recharge_id="contoso:recharge:99")
    assert book.balance["recharge"]["in_flight"] == "contoso:recharge:1"
    assert book.events() == ["recharge.requested", "recharge.succeeded"]


def test_a_declined_card_waits_fifteen_minutes_then_twice_as_long() -> None:
    book = Book()
    book.funds("lot", 1_000_000)
    book.do("recharge.configured", enabled=True, trigger_micros=2_000_000, amount_micros=5_000)
    book.do("recharge.failed", "2026-11-03T10:00:00Z", recharge_id="contoso:recharge:1", reason="declined")
    book.do("account.adjusted", "2026-11-03T11:00:00Z", amount_micros=-1, reason="does not ask")
    book.call(LONDON, 60_000, "2026-11-03T10:13:59.999Z")
    assert len(book.data("recharge.requested")) == 1
    book.call(LAGOS, 60_000, "2026-11-03T10:20:00Z")  # charged nothing
    assert len(book.data("recharge.requested")) == 1
    book.call(LONDON, 60_000, "2026-11-03T10:14:00Z")  # ends at the wait's last instant
    assert len(book.data("recharge.requested")) == 2
    book.do("recharge.failed", "2026-11-03T10:15:00Z", recharge_id="contoso:recharge:2", reason="declined")
    assert look(book.data("recharge.failed")[1], "failures", "next_attempt_after") == (2, "2026-11-03T10:45:00.000Z")
    book.funds("paid", 1, recharge_id="unknown")  # a success clears the wait
    assert len(book.data("recharge.requested")) == 3


def test_the_wait_never_exceeds_a_day() -> None:
    book = Book()
    book.do("recharge.configured", enabled=True, trigger_micros=2_000_000, amount_micros=5_000)
    waits = []
    for number in range(1, 10):
        at = f"2026-11-{number * 2:02}T00:00:00Z"
        book.do("recharge.failed", at, recharge_id=f"contoso:recharge:{number}", reason="declined")
        waits.append((instant_ms(book.data("recharge.failed")[-1]["next_attempt_after"]) - instant_ms(at)) // 60_000)
        book.call(LONDON, 60_000, f"2026-11-{number * 2 + 1:02}T00:00:00Z")
    assert waits == [15, 30, 60, 120, 240, 480, 960, 1_440, 1_440]


def test_an_adjustment_repays_debt_first_and_takes_lots_in_every_mode() -> None:
    book = Book(billing_mode="post_usage", overage=False)
    book.funds("lot", 10)
    book.do("account.adjusted", amount_micros=-15, reason="fee")
    assert look(book.balance, "balance_micros", "debt_micros", "invoice_micros") == (-5, 5, 0)
    book.do("account.adjusted", amount_micros=8, reason="back")
    assert book.balance["lots"] == [{"lot_id": "adj-c4", "left_micros": 3, "expires_at": None}]
    assert book.events() == ["balance.zero", "service.blocked", "service.restored"]


def test_a_month_closes_forty_eight_hours_after_its_end() -> None:
    book = Book()
    book.do("clock.ticked", "2026-11-02T23:59:59.999Z")
    assert book.call(LONDON, 1, "2026-10-31T23:59:59.999Z")["flags"] == ["no_credit_licence", "overdrawn", "no_plan"]
    book.do("clock.ticked", "2026-11-03T00:00:00Z")
    assert book.call(LONDON, 1, "2026-10-31T23:59:59.999Z")["flags"][2] == "late"
    assert book.call(LONDON, 1, "2026-10-31T23:59:59.999Z", answer=None)["flags"] == ["late"]
    assert "late" not in book.call(LONDON, 1, "2026-11-01T00:00:00Z")["flags"]


# ---------------------------------------------------------------------------------------------- identity and refusals


def test_the_same_content_in_other_bytes_is_a_duplicate_and_other_content_a_conflict() -> None:
    book = Book()
    record = book.record(LONDON, 60_000, extra={"a": 1})
    book.send(record)
    book.twin.call(b" " + json.dumps(dict(reversed(record.items())), indent=None).encode().replace(b"r", b"\\u0072"), 1)
    book.send(record | {"extra": {"a": True}})
    book.send(record | {"extra": {"a": 1.0}})
    assert book.twin.duplicates == {"cdrs": 1, "commands": 0}
    assert book.refusals == ["conflict", "conflict"]
    assert (len(book.twin.rated), book.balance["account_version"]) == (1, 2)


def test_a_rejected_record_is_not_remembered() -> None:
    book = Book()
    record = book.record(LONDON, 60_000, tenant="later")
    book.send(record)
    book.do("tenant.opened", tenant="later", country="US", currency="USD", billing_mode="prepaid")
    book.send(record)
    assert (book.refusals, book.twin.rated[-1]["tenant"]) == (["unknown_tenant"], "later")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"billable_ms": "60000"}, "bad_field"),
        ({"billable_ms": 60_000.0}, "bad_field"),
        ({"billable_ms": True}, "bad_field"),
        ({"billable_ms": 61_500}, None),
        ({"billable_ms": 61_501}, "bad_times"),
        ({"billable_ms": 58_499}, "bad_times"),
        ({"answer": "2026-11-03T09:59:59.999Z"}, "bad_times"),
        ({"answer": None, "end": "2026-11-03T09:00:00Z"}, "bad_times"),
        ({"answer": None, "billable_ms": 5}, None),
        ({"start": "2026-11-03T10:00:60Z"}, "bad_field"),
        ({"start": "2026-11-03T10:00:00.0009999Z"}, None),
        ({"start": "2026-11-03T10:00:00+00:00"}, "bad_field"),
        ({"callee": "+44\u0662\u0660\u0667"}, "bad_field"),
        ({"callee": None}, "missing_field"),
        ({"caller": None}, None),
        ({"user": None}, "missing_field"),
        ({"user": None, "call_type": "ucap_out"}, None),
        ({"user": "", "call_type": "ucap_out"}, "bad_field"),
        ({"switch": None}, None),
        ({"record_id": "caf\u00e9"}, "bad_field"),
        ({"call_type": "oc_out", "billable_ms": -1}, "bad_field"),
        ({"unknown": "\ud800"}, "not_json"),
        ({"unknown": float("nan")}, "not_json"),
        ({"unknown": "x" * 66_000}, "too_large"),
    ],
)
def test_a_record_is_refused_never_coerced(change: Row, reason: str | None) -> None:
    book = Book()
    book.send(book.record(LONDON, 60_000) | change)
    assert book.refusals == ([reason] if reason else [])


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (b"\xef\xbb\xbf{}", "not_json"),
        (b'{"a":"\xff"}', "not_json"),
        (b"[" * 60_000 + b"]" * 5_000, "not_json"),
        (b'[{"a":1,"a":2}]', "not_an_object"),
        (b'{"a":1,"\\u0061":2}', "duplicate_key"),
        (b"{}", "missing_field"),
    ],
)
def test_bytes_that_are_no_record(raw: bytes, reason: str) -> None:
    book = Book()
    book.twin.call(raw, 7)
    book.twin.command(raw, 8)
    assert book.refusals == [reason, reason]
    assert book.twin.rejected_cdrs[0]["input"] == [0, 7]


def test_commands_that_cannot_be_applied_are_refused_and_change_nothing() -> None:
    book = Book()
    book.licence("MCOPSTN1")
    book.funds("lot", 5)
    before = book.balance
    book.licence("MCOPSTN1")
    book.do("licence.removed", user="u", plan="MCOPSTN1", country="GB")
    book.do("licence.removed", user="u", plan="PAYG")
    book.funds("lot", 6)
    book.do("recharge.failed", recharge_id="contoso:recharge:1", reason="x")
    book.do("tenant.opened", country="US", currency="USD", billing_mode="prepaid")
    book.do("account.adjusted", amount_micros=0, reason="x")
    book.do("pool.reset")
    book.do("clock.ticked", tenant="nobody")
    reasons = "already_assigned not_assigned not_assigned conflict not_in_flight already_open bad_field unknown_command"
    assert book.refusals == [*reasons.split(), "unknown_tenant"]
    assert book.balance == before


def test_a_licence_that_moves_takes_its_minutes_along() -> None:
    book = Book()
    book.licence("MCOPSTN1")
    book.licence("MCOPSTN1", country="CA")
    rated = book.call(TORONTO, 60_000)
    assert rated["pool"] == "CA/MCOPSTN1/domestic/2026-11"
    book.do("licence.removed", user="u", plan="MCOPSTN1", country="US")
    assert book.refusals == ["not_assigned"]


# ---------------------------------------------------------------------------------------------- the streams


@pytest.mark.parametrize("seed", range(8))
def test_a_stream_is_its_seed_and_the_twins_books_balance(seed: int) -> None:
    scenario = stream(seed)
    assert scenario == stream(seed)
    twin = scenario.run(Twin(scenario.deck_files, scenario.plans, guide_country))
    read = sum(len(part.calls) for part in scenario.rounds)
    assert read == len(twin.rated) + len(twin.rejected_cdrs) + twin.duplicates["cdrs"]
    assert all(b"\n" not in raw and raw.strip() for part in scenario.rounds for raw in (*part.calls, *part.commands))
    for rated in twin.rated:
        paid = sum(part for _, part in rated["lots"]) + rated["debt_micros"] + rated["invoice_micros"]
        assert paid == rated["charge_micros"]
        if rated["outcome"] in ("pooled", "charged", "invoiced"):
            assert rated["pool_minutes"] + rated["credit_minutes"] == rated["billed_minutes"]
    assert len({event["id"] for event in twin.events}) == len(twin.events)
