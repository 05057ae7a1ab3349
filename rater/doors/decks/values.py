"""Cells of a deck -> exact values. Prices go from their decimal text to integers; no float is ever in between."""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from rater.core.instants import parse_instant
from rater.core.money import FEE_MICROS_MAX, RATE_NANOS_MAX

PREFIX_DIGITS_MAX = 15
DESTINATION_MAX = 256
INCREMENT_S_MAX = 86_400

_DECIMAL = re.compile(r"(-?)([0-9]+)(?:\.([0-9]*))?|(-?)\.([0-9]+)", re.ASCII)
_GROUPED = re.compile(r"-?[0-9]{1,3}(?:[,.'  ][0-9]{3})+(?:[.,][0-9]+)?", re.ASCII)
_RANGE = re.compile(r"([0-9]+)-([0-9]+)", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_DATE = re.compile(
    r"([0-9]{1,4})[-/.]([0-9]{1,2})[-/.]([0-9]{1,4})(?:[ T]([0-9]{2}):([0-9]{2})(?::([0-9]{2}))?)?", re.ASCII
)


class BadValue(ValueError):
    """A cell that cannot be read; `rule` names the kind of fault, the text what was expected."""

    def __init__(self, rule: str, expected: str) -> None:
        super().__init__(expected)
        self.rule, self.expected, self.cell = rule, expected, ""


def _scaled(text: str, decimals: int, finest: str, most: int, what: str) -> int:
    """Decimal text as a whole number of the finest unit."""
    match = _DECIMAL.fullmatch(text)
    if match is None:
        if _GROUPED.fullmatch(text):
            raise BadValue("thousands_separator", f"{what} without a thousands separator")
        raise BadValue("bad_price", f"{what} in decimal digits, such as 0.0205")
    if text.startswith("-"):
        raise BadValue("negative_price", f"{what} of 0 or more")
    whole, fraction = match.group(2) or "0", match.group(3) or match.group(5) or ""
    if len(fraction) > decimals and fraction[decimals:].strip("0"):
        raise BadValue("too_fine", f"{what} of at most {decimals} decimals ({finest})")
    if len(whole) > 18:
        raise BadValue("out_of_range", f"{what} of at most {most // 10**decimals}")
    value: int = int(whole) * 10**decimals + int(fraction[:decimals].ljust(decimals, "0") or "0")
    if value > most:
        raise BadValue("out_of_range", f"{what} of at most {most // 10**decimals}")
    return value


def nanos_of(text: str) -> int:
    """A price a minute in nano-units: at most 9 decimals, at most 10,000."""
    return _scaled(text, 9, "a nano-unit", RATE_NANOS_MAX, "a price")


def micros_of(text: str) -> int:
    """A fee in micro-units: at most 6 decimals, at most 1,000,000."""
    return _scaled(text, 6, "a micro-unit", FEE_MICROS_MAX, "an amount")


def country_text_of(text: str, besides: str = "") -> str:
    """`GB`; whether there is such a country is for the linter to compare."""
    if len(text) != 2 or not (text.isascii() and text.isalpha() and text.isupper()):
        raise BadValue("bad_country", f"a country code of two capital letters{besides}")
    return text


def destination_of(text: str) -> str:
    """The name of a destination: one line, and no longer than names are, since each rated call carries it."""
    text = text.strip()
    if len(text) > DESTINATION_MAX:
        raise BadValue("bad_destination", f"a name of at most {DESTINATION_MAX} characters")
    if _CONTROL.search(text):
        raise BadValue("bad_destination", "a name on one line (a quote that does not close?)")
    return text


def plain_price(text: str, sign: str, mark: str) -> str:
    """A carrier's price with our decimal mark and without its currency sign."""
    text = text.strip()
    if sign and text.startswith(sign):
        text = text[len(sign) :].strip()
    if mark == ",":
        if "." in text or text.count(",") > 1:
            raise BadValue(
                "thousands_separator", "a price without a thousands separator and with ',' before the decimals"
            )
        text = text.replace(",", ".")
    return text


def seconds_of(text: str, least: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and least <= int(text) <= INCREMENT_S_MAX):
        raise BadValue("bad_increment", f"whole seconds from {least} to {INCREMENT_S_MAX}")
    return int(text)


def increments_of(text: str) -> tuple[int, int]:
    """`60/6` -> (60, 6)"""
    first, slash, then = text.strip().partition("/")
    if not slash:
        raise BadValue("bad_increment", "an increment such as 60/6")
    return seconds_of(first.strip(), 0), seconds_of(then.strip(), 1)


def _digits(text: str) -> str:
    if not text:
        raise BadValue("bad_prefix", "a prefix of 1 to 15 digits")
    if not (text.isascii() and text.isdigit()):
        raise BadValue("bad_prefix", "a prefix of digits only")
    if len(text) > PREFIX_DIGITS_MAX:
        raise BadValue("prefix_too_long", "a prefix of at most 15 digits")
    return text


def unstyled(text: str, style: str) -> str:
    """A prefix as a carrier writes it -> its digits, not yet checked."""
    text = text.strip()
    if style == "plus":
        if not text.startswith("+"):
            raise BadValue("bad_prefix", "a prefix that begins with + (prefix_style)")
        return text[1:]
    if style == "zeros" or style == "north":
        lead = "00" if style == "zeros" else "011"
        if not text.startswith(lead):
            raise BadValue("bad_prefix", f"a prefix that begins with {lead} (prefix_style)")
        return text[len(lead) :]
    if style == "regex":
        if not text.startswith("^"):
            raise BadValue("bad_prefix", "a pattern such as ^44.* (prefix_style)")
        text = text[1:]
        for tail in (".*", ".+", "$"):
            text = text.removesuffix(tail)
        return text
    return text


def _expanded(text: str) -> list[str]:
    """`5510-5512` -> its prefixes; a range that can be read in two ways is refused."""
    match = _RANGE.fullmatch(text)
    if match is None:
        return [_digits(text)]
    first, last = match.group(1), match.group(2)
    if len(first) != len(last):
        raise BadValue("ambiguous_range", "a range whose ends have the same number of digits")
    _digits(last)
    if int(last) < int(first) or int(last) - int(first) > 10_000:
        raise BadValue("ambiguous_range", "a range that goes up, over at most 10,000 prefixes")
    return [_digits(str(value).rjust(len(first), "0")) for value in range(int(first), int(last) + 1)]


def prefixes_of(text: str, style: str, several: bool, code: str = "") -> list[str]:
    """The prefixes of one cell, the country code in front of each where it has a column of its own."""
    if not several:
        bare = unstyled(text, style) if not code else text.strip()
        if _RANGE.fullmatch(bare):
            raise BadValue("ambiguous_range", "one prefix in the cell, or several_prefixes = true in deck.toml")
        return [_digits(unstyled(code, style) + bare if code else bare)]
    parts = [part.strip() for part in re.split(r"[,;]", text) if part.strip()]
    lead = unstyled(code, style) if code else ""
    if not parts and lead:
        return [_digits(lead)]
    found: list[str] = []
    for part in parts:
        found += [_digits(lead + prefix) for prefix in _expanded(part if lead else unstyled(part, style))]
    if not found:
        raise BadValue("bad_prefix", "a prefix of 1 to 15 digits")
    return found


@dataclass(frozen=True, slots=True)
class Dates:
    """How a carrier writes dates: the order of day, month and year, and the zone whose midnight it means."""

    order: str = "ymd"
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))

    def instant(self, text: str) -> int:
        """An RFC 3339 instant with Z, or a date (with a time of day) in the order and zone stated."""
        instant = parse_instant(text)
        if instant is not None:
            return instant
        match = _DATE.fullmatch(text.strip())
        expected = f"a date in the order {self.order}, or an instant such as 2026-01-01T00:00:00Z"
        if match is None:
            raise BadValue("bad_date", expected)
        parts = dict(zip(self.order, match.group(1, 2, 3), strict=True))
        if len(parts["y"]) != 4:
            raise BadValue("bad_date", expected)
        hour, minute, second = (int(part or 0) for part in match.group(4, 5, 6))
        try:
            moment = datetime(int(parts["y"]), int(parts["m"]), int(parts["d"]), hour, minute, second, tzinfo=self.zone)
            since = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
        except (ValueError, OverflowError):  # no such day; or the first or last day of the calendar, in UTC outside it
            raise BadValue("bad_date", expected) from None
        return since // timedelta(milliseconds=1)
