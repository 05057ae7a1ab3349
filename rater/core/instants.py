"""Time as values: UTC milliseconds, calendar months, RFC 3339 text. Nothing here asks a clock.

An instant is an int64 of milliseconds since 1970-01-01T00:00:00Z (negative before); a month is `year * 12 + month - 1`.
"""

from functools import lru_cache
from typing import Any

import numpy as np

from rater.core.compiled import kernel

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
MINUTE_MS = 60_000
NEVER_MS = 1 << 62  # an instant no record reaches: "does not expire"
FIRST_MS = -62_135_596_800_000  # 0001-01-01T00:00:00.000Z
LAST_MS = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z
BAD_INSTANT = -(1 << 62)


@kernel
def days_of(year: Any, month: Any, day: Any) -> Any:
    """Days from 1970-01-01 to a date of the Gregorian calendar (Howard Hinnant's days_from_civil)."""
    shifted = year - (1 if month <= 2 else 0)
    era = shifted // 400
    year_of_era = shifted - era * 400
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * 146_097 + day_of_era - 719_468


@kernel
def date_of(days: Any) -> Any:
    """The date (year, month, day) of a day number: the inverse of `days_of`."""
    shifted = days + 719_468
    era = shifted // 146_097
    day_of_era = shifted - era * 146_097
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted_month + 2) // 5 + 1
    month = shifted_month + (3 if shifted_month < 10 else -9)
    return year_of_era + era * 400 + (1 if month <= 2 else 0), month, day


@kernel
def month_of(instant_ms: Any) -> Any:
    """The UTC calendar month an instant lies in."""
    year, month, _ = date_of(instant_ms // 86_400_000)
    return year * 12 + month - 1


@kernel
def month_start_ms(month: Any) -> Any:
    return days_of(month // 12, month % 12 + 1, 1) * 86_400_000


@kernel
def days_in_month(year: Any, month: Any) -> Any:
    if month == 2:
        return 29 if (year % 4 == 0 and year % 100 != 0) or year % 400 == 0 else 28
    return 30 if month in (4, 6, 9, 11) else 31


@kernel
def months_later_ms(instant_ms: Any, months: Any) -> Any:
    """The same day and time of day `months` calendar months later; a day the month lacks becomes its last one.

    2024-02-29T12:00Z + 12 months = 2025-02-28T12:00Z
    """
    days = instant_ms // 86_400_000
    year, month, day = date_of(days)
    target = year * 12 + month - 1 + months
    target_year, target_month = target // 12, target % 12 + 1
    last = days_in_month(target_year, target_month)
    moved = days_of(target_year, target_month, min(day, last)) * 86_400_000 + (instant_ms - days * 86_400_000)
    return min(moved, 253_402_300_799_999)


@kernel
def _digit(buffer: Any, at: Any) -> Any:
    return np.int64(buffer[at]) - 48


@kernel
def _two(buffer: Any, at: Any) -> Any:
    """Two ASCII digits as a number; anything else as a number below 0 or above 99."""
    tens, ones = _digit(buffer, at), _digit(buffer, at + 1)
    if tens < 0 or tens > 9 or ones < 0 or ones > 9:
        return -1_000_000
    return tens * 10 + ones


@kernel
def parsed_instant(buffer: Any, start: Any, length: Any) -> Any:
    """`YYYY-MM-DDTHH:MM:SS[.1-9 digits]Z` as milliseconds (digits after the third are cut off); else `BAD_INSTANT`."""
    if length < 20 or length > 30 or buffer[start + length - 1] != 90:
        return BAD_INSTANT
    if buffer[start + 4] != 45 or buffer[start + 7] != 45 or buffer[start + 10] != 84:
        return BAD_INSTANT
    if buffer[start + 13] != 58 or buffer[start + 16] != 58:
        return BAD_INSTANT
    year = _two(buffer, start) * 100 + _two(buffer, start + 2)
    month, day = _two(buffer, start + 5), _two(buffer, start + 8)
    hour, minute, second = _two(buffer, start + 11), _two(buffer, start + 14), _two(buffer, start + 17)
    if year < 1 or month < 1 or month > 12 or day < 1 or day > 31:
        return BAD_INSTANT
    if day > 28 and day > days_in_month(year, month):
        return BAD_INSTANT
    if hour < 0 or hour > 23 or minute < 0 or minute > 59 or second < 0 or second > 59:
        return BAD_INSTANT
    milliseconds = 0
    if length > 20:
        if length == 21 or buffer[start + 19] != 46:
            return BAD_INSTANT
        scale = 100
        for at in range(start + 20, start + length - 1):
            digit = _digit(buffer, at)
            if digit < 0 or digit > 9:
                return BAD_INSTANT
            milliseconds += digit * scale
            scale //= 10
    return ((days_of(year, month, day) * 24 + hour) * 60 + minute) * 60_000 + second * 1000 + milliseconds


@lru_cache(maxsize=1024)
def date_text(days: int) -> str:
    """Of a day number; those that are told lie close together."""
    year, month, day = date_of(days)
    return f"{year:04d}-{month:02d}-{day:02d}"


def instant_text(instant_ms: int) -> str:
    """An instant as the contract writes it, with milliseconds; `null` instants are the caller's business."""
    days, rest = divmod(int(instant_ms), DAY_MS)
    hours, rest = divmod(rest, HOUR_MS)
    minutes, rest = divmod(rest, MINUTE_MS)
    seconds, milliseconds = divmod(rest, 1000)
    return f"{date_text(days)}T{hours:02d}:{minutes:02d}:{seconds:02d}.{milliseconds:03d}Z"


def day_text(instant_ms: int) -> str:
    return instant_text(instant_ms)[:10]


def month_text(month: int) -> str:
    return f"{int(month) // 12:04d}-{int(month) % 12 + 1:02d}"


def parse_instant(text: str) -> int | None:
    """The instant a text names, or None; the same reading as the compiled scanner's."""
    data = text.encode("utf-8", "surrogatepass")
    if not 20 <= len(data) <= 30:
        return None
    instant = int(parsed_instant(np.frombuffer(data.ljust(32, b"\0"), np.uint8).copy(), 0, len(data)))
    return None if instant == BAD_INSTANT else instant
