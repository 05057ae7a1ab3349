"""Amounts as people read them: text made from whole units, without a float and without a change of the amount.

`two_decimals` is for screens and rounds half up, away from zero; `exact` and `per_minute` show every unit there is. No
text made here is ever read back.
"""

from rater.core.money import MICROS

_MICROS_PER_CENT = MICROS // 100
_NANOS = 10**9


def grouped(number: int) -> str:
    """1234567 -> `1,234,567`"""
    return f"{number:,}"


def two_decimals(micros: int, currency: str = "") -> str:
    """1_005_000 -> `1.01`, -4_999 -> `0.00`, 41_000 with USD -> `0.04 USD`"""
    cents = (abs(micros) + _MICROS_PER_CENT // 2) // _MICROS_PER_CENT
    sign = "-" if micros < 0 and cents else ""
    text = f"{sign}{cents // 100:,}.{cents % 100:02d}"
    return f"{text} {currency}" if currency else text


def exact(micros: int, currency: str = "") -> str:
    """41_000 -> `0.041`, 1_000_000 -> `1.00`: at least two decimals, and never fewer than the amount has."""
    text = ("-" if micros < 0 else "") + _decimal(abs(micros), MICROS)
    return f"{text} {currency}" if currency else text


def per_minute(rate_nanos: int, currency: str) -> str:
    """20_500_000 -> `0.0205 USD a minute`"""
    return f"{_decimal(rate_nanos, _NANOS)} {currency} a minute"


def _decimal(units: int, scale: int) -> str:
    whole, part = divmod(units, scale)
    digits = f"{part:0{len(str(scale)) - 1}d}".rstrip("0")
    return f"{whole:,}.{digits:0<2}"


def plural(count: int, one: str, many: str = "") -> str:
    """`1 minute`, `2 minutes`, `3 reasons`"""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def bytes_text(count: int) -> str:
    """`812 B`, `1.4 MB`: for looking at, not for counting"""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            tenths = count * 10 // size
            return f"{tenths // 10:,}.{tenths % 10} {unit}"
    return f"{count} B"
