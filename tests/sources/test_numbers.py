"""Dialled digits to full numbers, by the rules of a profile and never by a guess."""

import pytest

from rater.sources.numbers import NumberRules, e164, emergency_callee, is_internal, is_withheld, unmasked

LONDON = NumberRules(
    country_code="44",
    national="0",
    international=("00",),
    access=("9",),
    internal_digits_max=4,
    emergency=frozenset({"112", "999"}),
    extensions={"1001": "+442079460018"},
)
NEW_YORK = NumberRules(
    country_code="1", national="1", national_digits=(10,), international=("011",), access=("9",), bare="national"
)
PARIS = NumberRules(country_code="33", national="0", international=("00",), emergency=frozenset({"15"}))
ROME = NumberRules(country_code="39", bare="national", national_digits=(9, 10, 11), international=("00",))


@pytest.mark.parametrize(
    ("rules", "text", "expected"),
    [
        (LONDON, "+442079460018", "+442079460018"),
        (LONDON, "02079460018", "+442079460018"),
        (LONDON, "902079460018", "+442079460018"),
        (LONDON, "9 020 7946-0018", "+442079460018"),
        (LONDON, "0012125550123", "+12125550123"),
        (LONDON, "90012125550123", "+12125550123"),
        (LONDON, "1001", "+442079460018"),
        (LONDON, "1002", None),
        (LONDON, "2079460018", None),
        (LONDON, "", None),
        (LONDON, "9", None),
        (LONDON, "0", None),
        (LONDON, "00", None),
        (LONDON, "0118", None),
        (LONDON, "+44x", None),
        (LONDON, "+1234567890123456", None),
        (LONDON, "\u0660\u0662\u0660", None),
        (LONDON, "00012125550123", None),
        (NEW_YORK, "12125550123", "+12125550123"),
        (NEW_YORK, "2125550123", "+12125550123"),
        (NEW_YORK, "912125550123", "+12125550123"),
        (NEW_YORK, "011442079460018", "+442079460018"),
        (NEW_YORK, "5550123", None),
        (PARIS, "0145678901", "+33145678901"),
        (ROME, "0612345678", "+390612345678"),
        (NumberRules(), "12125550123", None),
        (NumberRules(bare="e164"), "12125550123", "+12125550123"),
        (NumberRules(bare="e164"), "1234567", None),
    ],
)
def test_dialled_digits(rules: NumberRules, text: str, expected: str | None) -> None:
    assert e164(text, rules, dialled=True) == expected


def test_a_caller_has_no_access_digit() -> None:
    assert e164("902079460018", LONDON, dialled=False) is None


def test_emergency_is_exact_with_or_without_the_access_digit() -> None:
    for text, expected in {
        "999": "+999",
        "9999": "+999",
        "+112": "+112",
        "99999": None,
        "0999": None,
        "": None,
    }.items():
        assert emergency_callee(text, LONDON) == expected
    assert emergency_callee("15", PARIS) == "+3315"


def test_extensions_and_feature_codes_are_internal_unless_they_have_a_full_number() -> None:
    assert [is_internal(text, LONDON) for text in ("1002", "*98", "1001", "12345")] == [True, True, False, False]
    assert not is_internal("1002", NumberRules())


def test_withheld_is_a_word_or_nothing() -> None:
    assert [is_withheld(text) for text in ("", "Anonymous", "s", "1", "Bob 2")] == [True, True, True, False, False]


def test_masked_numbers_keep_what_is_known() -> None:
    known = {"+12345678***": "+12345678", "+12*": None, "***": None, "12345***": None}
    assert {text: unmasked(text) for text in known} == known
