"""What may be asked for: every guard says no with a sentence, and says it at its limit, not before."""

import pytest

from rater.core.instants import parse_instant
from rater.recharge.guards import HOUR_MS, MINUTE_MS, WORDS, Asked, Guards, Limits, refusal
from rater.recharge.guards_file import GuardsRefused, parse_guards
from rater.recharge.requests import Request

NOW_MS = parse_instant("2026-11-21T10:00:00Z") or 0
DOLLAR = 1_000_000


def request(amount: int = 15, by_command: bool = False) -> Request:
    return Request("acme:recharge:9", "acme", amount * DOLLAR, "USD", "2026-11-21T09:59:00.000Z", by_command)


def asked(minutes_ago: int, amount: int = 15, declined: bool = False, currency: str = "USD") -> Asked:
    return Asked(NOW_MS - minutes_ago * MINUTE_MS, amount * DOLLAR, currency, declined, counts=not declined)


def word(history: list[Asked], limits: Limits, **told: object) -> str | None:
    found = refusal(request(**told), history, Guards(everybody=limits), NOW_MS)  # type: ignore[arg-type]
    assert found is None or (found.word in WORDS and found.reason.startswith("not asked: "))
    return None if found is None else found.word


def test_the_hour_and_the_day_have_their_number_and_what_is_older_is_free_again():
    limits = Limits(per_hour_max=2, per_day_max=3)
    assert word([asked(59)], limits) is None
    assert word([asked(59), asked(1)], limits) == "per_hour"
    assert word([asked(60), asked(1)], limits) is None
    assert word([asked(1439), asked(70), asked(1)], limits) == "per_day"
    assert word([asked(1440), asked(70), asked(1)], limits) is None


def test_the_ceiling_counts_the_utc_day_and_its_currency_and_not_what_was_declined():
    limits = Limits(per_hour_max=99, daily_max_micros={"USD": 40 * DOLLAR}, pause_after_decline_ms=0)
    assert word([asked(599, 25)], limits) is None
    assert word([asked(599, 26)], limits) == "daily_ceiling"
    assert word([asked(601, 26)], limits) is None  # yesterday
    assert word([asked(10, 26, currency="EUR")], limits) is None
    assert word([asked(10, 26, declined=True)], limits) is None
    assert "26.00 USD recharged today and 15.00 USD more would pass the daily ceiling of 40.00 USD" in reason(
        [asked(599, 26)], limits
    )


def reason(history: list[Asked], limits: Limits) -> str:
    found = refusal(request(), history, Guards(everybody=limits), NOW_MS)
    assert found is not None
    return found.reason


def test_each_decline_in_a_row_doubles_the_pause_and_a_new_card_ends_it():
    limits = Limits()
    assert word([asked(14, declined=True)], limits) == "after_decline"
    assert word([asked(15, declined=True)], limits) is None
    assert word([asked(50, declined=True), asked(29, declined=True)], limits) == "after_decline"
    assert word([asked(50, declined=True), asked(30, declined=True)], limits) is None
    assert word([asked(50, declined=True), asked(14)], limits) is None  # approved since
    assert word([asked(14, declined=True)], limits, by_command=True) is None
    assert "the next try is at 2026-11-21T10:01:00.000Z" in reason([asked(14, declined=True)], limits)
    many = [asked(2000 + n, declined=True) for n in range(40)]
    assert word([*many, asked(1441, declined=True)], Limits(per_day_max=99)) is None  # a day at most


def test_the_switch_stops_all_or_one_whatever_led_to_the_request():
    off = parse_guards('enabled = false\nwhy = "bank moves"\n[tenants.acme]\nper_hour_max = 9')
    found = refusal(request(by_command=True), [], off, NOW_MS)
    assert found is not None
    assert (found.word, "(bank moves)" in found.reason) == ("switched_off", True)
    one = parse_guards('[tenants.acme]\nenabled = false\nwhy = "ticket 4711"')
    found = refusal(request(), [], one, NOW_MS)
    assert found is not None
    assert (found.word, "(ticket 4711)" in found.reason) == ("tenant_switched_off", True)
    assert refusal(Request("b:recharge:1", "b", 1, "USD", "2026-11-21T09:59:00.000Z"), [], one, NOW_MS) is None


def test_a_tenant_has_what_everybody_has_but_for_what_is_named():
    guards = parse_guards(
        'per_hour_max = 7\ndaily_max = { USD = "500", EUR = "0.5" }\npause_after_decline_minutes = 0\n[tenants.acme]\nper_day_max = 2'
    )
    assert guards.of("acme") == Limits(
        per_hour_max=7, per_day_max=2, daily_max_micros={"USD": 500_000_000, "EUR": 500_000}, pause_after_decline_ms=0
    )
    assert guards.of("other").per_day_max == 24
    assert HOUR_MS == 60 * MINUTE_MS


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("per_hour_max = 2.5", "per_hour_max is 2.5; expected a whole number from 0"),
        ("per_hour_max = -1", "expected a whole number"),
        ("enabled = 0", "enabled is 0; expected true or false"),
        ("daily_max = { USD = 500.0 }", "daily_max.USD is 500.0; expected a currency and a decimal amount as text"),
        ('daily_max = { usd = "5" }', "daily_max.usd"),
        ('daily_max = { USD = "1e3" }', "daily_max.USD is '1e3'"),
        ("[tenants.acme]\nperhour = 1", "tenants.acme.perhour is unknown; expected one of enabled"),
        ("[tenants]\nacme = 3", "tenants.acme is no table"),
        ("enabled: false", "expected TOML"),
    ],
)
def test_a_wrong_limit_is_refused_with_its_place(text: str, told: str):
    with pytest.raises(GuardsRefused) as refused:
        parse_guards(text)
    assert told in str(refused.value)
