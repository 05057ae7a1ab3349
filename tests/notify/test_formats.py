"""Amounts, dates and names as a reader of a language expects them, exact to the last micro-unit that decides a cent."""

import decimal

import pytest

from rater.notify import formats

NBSP, NARROW = "\u00a0", "\u202f"


@pytest.mark.parametrize(
    ("micros", "currency", "language", "expected"),
    [
        (50_000_000, "USD", "en", "$50.00"),
        (50_000_000, "USD", "fr", f"50,00{NBSP}$US"),
        (1_234_567_890, "EUR", "en", "€1,234.57"),
        (1_234_567_890, "EUR", "fr", f"1{NARROW}234,57{NBSP}€"),
        (5_000, "USD", "en", "$0.01"),  # half a cent goes up
        (4_999, "USD", "en", "$0.00"),
        (-5_000, "USD", "en", "-$0.01"),
        (-4_999, "USD", "en", "$0.00"),  # and nobody owes minus nothing
        (1_500_000, "JPY", "en", "¥2"),
        (4 * 10**18, "USD", "en", "$4,000,000,000,000.00"),
        (9_007_199_254_740_993, "USD", "en", "$9,007,199,254.74"),  # 2**53 + 1: a float would not know it
        (9_007_199_254_745_000, "USD", "en", "$9,007,199,254.75"),
    ],
)
def test_an_amount_is_written_as_the_language_writes_it(micros: int, currency: str, language: str, expected: str):
    assert formats.money(micros, currency, language) == expected


def test_an_amount_does_not_depend_on_what_others_did_to_the_decimal_context():
    with decimal.localcontext() as context:
        context.prec, context.rounding = 3, decimal.ROUND_DOWN
        assert formats.money(1_234_565_000, "USD", "en") == "$1,234.57"


def test_an_instant_says_that_it_is_utc():
    assert formats.instant("2026-11-03T13:32:47.250Z", "en") == f"3 November 2026, 13:32{NBSP}UTC"
    assert formats.instant("2026-11-03T13:32:47.250Z", "fr") == f"3 novembre 2026 à 13:32{NBSP}UTC"


def test_a_day_and_a_month_are_named():
    assert formats.day("2026-11-30T23:59:59.999Z", "fr") == "30 novembre 2026"
    assert formats.day("2026-11-30", "en") == "30 November 2026"
    assert formats.month("2026-02", "fr") == "février 2026"


def test_a_pool_is_named_by_country_plan_and_scope():
    assert formats.pool("GB/MCOPSTN1/domestic/2026-11", "en") == "United Kingdom, MCOPSTN1, domestic calls"
    assert (
        formats.pool("GB/MCOPSTN8/domestic/2026-11/u-1842", "fr") == "Royaume-Uni, MCOPSTN8, appels nationaux, u-1842"
    )
    assert formats.pool("*/MCOMEETADD/zone-a/2026-11", "en") == "MCOMEETADD, conference dial-out"
    assert formats.pool("something else", "en") == "something else"


def test_a_full_phone_number_in_a_free_text_is_cut():
    for number in ("+442079460018", "+44 20 7946 0018", "+1 (212) 555-0123", "00442079460018"):
        told = formats.without_numbers(f"call {number} please")
        assert "0018" not in told
        assert "0123" not in told
        assert told.startswith("call ")
        assert told.endswith("… please")
    assert formats.without_numbers("order 20261103, 50.00 USD") == "order 20261103, 50.00 USD"


def test_nothing_that_ends_a_line_or_turns_the_writing_around_is_left():
    assert formats.one_line("a\r\nBcc: b\u2028c\u202ed\u0000e\u0085f\u200bg") == "a Bcc: b c d e f g"


@pytest.mark.parametrize("language", ["en", "fr"])
def test_every_call_type_the_gate_refuses_has_a_name(language: str):
    from rater.core.calls import REFUSED_WITHOUT_CREDIT

    assert [name for name in REFUSED_WITHOUT_CREDIT if formats.service(name, language) == name] == []
