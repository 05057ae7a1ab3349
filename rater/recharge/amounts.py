"""Amounts in sentences and settings: decimal text of the major unit <-> micro-units, exact both ways."""

import re

from rater.core.money import MICROS

_AMOUNT = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,6}))?")


def micros_of(text: str) -> int | None:
    """`50`, `12.50` -> micro-units; None for anything else, a sign or an exponent included."""
    match = _AMOUNT.fullmatch(text)
    if match is None:
        return None
    return int(match[1]) * MICROS + int((match[2] or "").ljust(6, "0"))


def amount_text(micros: int, currency: str) -> str:
    """15_000_000 with USD -> `15.00 USD`; every unit there is, at least two decimals."""
    whole, part = divmod(abs(micros), MICROS)
    digits = f"{part:06d}".rstrip("0").ljust(2, "0")
    return f"{'-' if micros < 0 else ''}{whole}.{digits} {currency}"
