"""Cells of an export: two decimals, seconds, and texts that no spreadsheet takes for a formula.

An amount is exact everywhere else; here, and only here, it has two decimals, because the column a customer knows is
numeric(16,2) (charging-rules 4.3). Half goes up.
"""

import re

from rater.core.money import MICROS

_PER_CENT = MICROS // 100
FORMULA_STARTS = frozenset("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")  # and what a spreadsheet folds into them
NUMBER = re.compile(r"\+[0-9]{3,15}|\+[0-9]{1,12}\*{3,4}")  # whole, or with its end masked

# External numbers that a tenant of this country may not see whole: how many of their last digits go (charging-rules 4.4).
MASKED = dict.fromkeys("CH FR".split(), 4) | dict.fromkeys("BE DE DK ES FI IT NL NO SE".split(), 3)
INBOUND_SUFFIX = "_in"


def cents(micros: int) -> int:
    """Hundredths, half up: 41_000 -> 4, 5_000 -> 1, 4_999 -> 0, 1_005_000 -> 101."""
    return (micros + _PER_CENT // 2) // _PER_CENT


def two_decimals(micros: int) -> str:
    """41_000 -> `0.04`, 1_234_567_890 -> `1234.57`, -5_001 -> `-0.01`; no grouping, always a point."""
    units = cents(micros)
    return f"{'-' if units < 0 else ''}{abs(units) // 100}.{abs(units) % 100:02d}"


def connected_seconds(billable_ms: int, outcome: str) -> int:
    """Connected seconds, a started one counted whole, as it is charged; 0 where nobody answered."""
    return 0 if outcome == "not_connected" else -(-billable_ms // 1000)


def harmless(text: str) -> str:
    """A text cell of a CSV that no spreadsheet carries out: an apostrophe before what looks like a formula.

    A phone number in E.164 begins with + and is none: `+442079460018` stays as it is, `+44-1` does not.
    """
    probe = text.lstrip(" \u00a0\ufeff")
    if not probe or probe[0] not in FORMULA_STARTS or NUMBER.fullmatch(text):
        return text
    return f"'{text}"


def is_inbound(call_type: str) -> bool:
    return call_type.endswith(INBOUND_SUFFIX) or call_type.startswith("dr_in")


def masked_number(number: str | None, hidden: int) -> str | None:
    """`+442079460018` with 3 hidden -> `+442079460***`"""
    return number if number is None or hidden == 0 else number[:-hidden] + "*" * min(hidden, len(number))


def masked_parties(caller: str | None, callee: str, call_type: str, hidden: int) -> tuple[str | None, str]:
    """Caller and callee with the external one masked: the caller of an inbound call, else the callee."""
    if is_inbound(call_type):
        return masked_number(caller, hidden), callee
    return caller, masked_number(callee, hidden) or ""
