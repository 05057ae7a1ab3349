"""What was dialled, as `+` and digits, by the rules of one profile.

A PBX writes numbers as its users dial them: with an access digit, a trunk prefix, as a short extension. Nothing here
guesses: a number that no rule of the profile explains is no number (None), and the source rejects the row.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

SEPARATORS = str.maketrans("", "", " -().")
EMERGENCY_EVERYWHERE = frozenset({"112", "911"})
BARE_E164_DIGITS_MIN = 8
NATIONAL_DIGITS_MIN = 5
DIGITS = frozenset("0123456789")
WITHHELD = frozenset({"", "anonymous", "unknown", "restricted", "private", "withheld", "unavailable", "asterisk"})


@dataclass(frozen=True, slots=True)
class NumberRules:
    """How one switch writes numbers; without any rule only `+` numbers are understood."""

    country_code: str = ""
    national: str = ""
    national_digits: tuple[int, ...] = ()
    international: tuple[str, ...] = ()
    access: tuple[str, ...] = ()
    bare: str = "reject"
    internal_digits_max: int = 0
    emergency: frozenset[str] = EMERGENCY_EVERYWHERE
    extensions: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


def is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def plus(digits: str) -> str | None:
    return "+" + digits if 3 <= len(digits) <= 15 and digits[0] != "0" else None


def without_access(digits: str, rules: NumberRules) -> str:
    """The number behind the digit that fetches an outside line; 9 00 44 ... -> 00 44 ..."""
    for prefix in rules.access:
        if digits.startswith(prefix) and len(digits) > len(prefix):
            return digits[len(prefix) :]
    return digits


def e164(text: str, rules: NumberRules, *, dialled: bool) -> str | None:
    """The full number, or None when no rule explains the text. Access digits count only in what a user `dialled`.

    country_code 44, national 0, international 00, access 9:
        +442079460018 -> itself    9 020 7946 0018 -> +442079460018    00 1 212 555 0123 -> +12125550123
    """
    extension = rules.extensions.get(text)
    if extension is not None:
        return extension
    if text[:1] == "+" and 4 <= len(text) <= 16 and is_digits(text[1:]):
        return text
    number = text.translate(SEPARATORS)
    if number.startswith("+"):
        digits = number[1:]
        return number if is_digits(digits) and 3 <= len(digits) <= 15 else None
    if not is_digits(number):
        return None
    if dialled:
        number = without_access(number, rules)
    for prefix in rules.international:
        if number.startswith(prefix):
            return plus(number[len(prefix) :])
    if rules.national and number.startswith(rules.national):
        return national_number(number[len(rules.national) :], rules)
    if rules.bare == "national":
        return national_number(number, rules)
    if rules.bare == "e164" and len(number) >= BARE_E164_DIGITS_MIN:
        return plus(number)
    return None


def national_number(digits: str, rules: NumberRules) -> str | None:
    """A national number behind its country code, when its length is one of the profile's, else at least five digits."""
    wrong_length = (
        len(digits) not in rules.national_digits if rules.national_digits else len(digits) < NATIONAL_DIGITS_MIN
    )
    if wrong_length or not rules.country_code:
        return None
    return plus(rules.country_code + digits)


def emergency_callee(text: str, rules: NumberRules) -> str | None:
    """`+112` when exactly an emergency number was dialled, with or without the access digit; else None.

    A number of two digits (15 in France) is too short for a call record; it stands behind the country code: +3315.
    """
    number = text.translate(SEPARATORS)
    if number.startswith("+") and len(number) == 4:  # no country has numbers this short
        number = number[1:]
    for digits in (number, without_access(number, rules)):
        if digits in rules.emergency:
            return "+" + digits if len(digits) >= 3 else "+" + rules.country_code + digits
    return None


def is_internal(text: str, rules: NumberRules) -> bool:
    """A short extension or a feature code (*98), where the profile says how long an extension can be."""
    if rules.internal_digits_max == 0 or text in rules.extensions:
        return False
    if text[:1] in ("*", "#"):
        return True
    return is_digits(text) and len(text) <= rules.internal_digits_max


def is_withheld(text: str) -> bool:
    """No number at all: empty, or a word such as `anonymous`."""
    return text.strip().lower() in WITHHELD or DIGITS.isdisjoint(text)


def unmasked(text: str) -> str | None:
    """The digits before the first `*` of a masked number, when at least three are left: +12345678*** -> +12345678."""
    known = text.partition("*")[0]
    return known if known.startswith("+") and is_digits(known[1:]) and len(known) >= 4 else None
