"""What a switch writes as a time, as UTC milliseconds.

Two kinds: stamps that carry their zone, and wall-clock stamps that do not. For the second kind the zone is an
argument, and the answer is a list: one instant as a rule, none in the hour that the clocks skip, two in the hour that
they repeat. Which of the two it was is decided by `settle`, from what else the row says. No machine clock is read.
"""

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import product
from zoneinfo import ZoneInfo

from rater.sources.record import DAY_MS, EPOCH_DAY, TOLERANCE_MS, Unusable

WALL = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[ T]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(Z|[+-][0-9]{2}:?[0-9]{2})?"
)
SECONDS = re.compile(r":([0-5][0-9])(?:\.([0-9]{1,9}))?")
CACHE_MAX = 100_000
LONGEST = len("2026-01-15 13:30:00.200")
HINT_BEFORE_MS = 2_000
HINT_AFTER_MS = 600_000


def zone_named(name: str) -> tzinfo | None:
    """The zone, or None when this machine knows no such zone."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        return None


@lru_cache(maxsize=CACHE_MAX)
def seconds_ms(text: str) -> int | None:
    """What stands behind the minute of a stamp, `:12` or `:12.700`, in milliseconds; None for any other text."""
    found = SECONDS.fullmatch(text)
    return int(found[1]) * 1000 + int((found[2] or "0")[:3].ljust(3, "0")) if found else None


@lru_cache(maxsize=4096)
def day_start_ms(day: str) -> int | None:
    """UTC midnight of a day given as YYYY-MM-DD; None when the calendar has no such day."""
    try:
        return (date.fromisoformat(day).toordinal() - EPOCH_DAY) * DAY_MS
    except ValueError:
        return None


def fields_of(name: str, text: str) -> tuple[int, str | None]:
    """The stamp read as if it were UTC, and its zone as written. Decimals beyond milliseconds are cut off."""
    match = WALL.fullmatch(text)
    midnight_ms = day_start_ms(match[1]) if match else None
    if match is None or midnight_ms is None:
        raise Unusable("bad_field", f"{name}: not a date and time; expected for example 2026-01-15 13:30:00")
    hour, minute, second = int(match[2]), int(match[3]), int(match[4])
    if hour > 23 or minute > 59 or second > 59:
        raise Unusable("bad_field", f"{name}: no such time of day; expected 00:00:00 to 23:59:59")
    millis = int((match[5] or "0")[:3].ljust(3, "0"))
    return midnight_ms + ((hour * 60 + minute) * 60 + second) * 1000 + millis, match[6]


def offset_ms(zone: str) -> int:
    if zone == "Z":
        return 0
    sign = -1 if zone[0] == "-" else 1
    return sign * (int(zone[1:3]) * 60 + int(zone[-2:])) * 60_000


def instant_ms(name: str, text: str) -> int:
    """A stamp that says its zone: 2019-11-01T00:00:08.2589935Z -> 1572566408258."""
    ms, zone = fields_of(name, text)
    if zone is None:
        raise Unusable("bad_field", f"{name}: has no zone; expected an instant that ends in Z")
    return ms - offset_ms(zone)


class WallClock:
    """A switch's clock on the wall: local stamps to instants, one zone, remembered minute by minute."""

    def __init__(self, zone: tzinfo) -> None:
        self.zone = zone
        self.minutes: dict[str, tuple[int, ...]] = {}

    def instants(self, name: str, text: str) -> tuple[int, ...]:
        """Every instant at which this clock shows `text`: none, one or two, the earlier first."""
        known = self.minutes.get(text[:16])
        if known is not None and len(text) <= LONGEST:
            rest_ms = seconds_ms(text[16:])
            if rest_ms is not None:
                return (known[0] + rest_ms,) if len(known) == 1 else tuple([start_ms + rest_ms for start_ms in known])
        ms, zone = fields_of(name, text)
        if zone is not None:
            return (ms - offset_ms(zone),)
        minute_ms, rest_ms = ms - ms % 60_000, ms % 60_000
        found = self.of_minute(minute_ms)
        if len(self.minutes) >= CACHE_MAX:
            self.minutes.clear()
        self.minutes[text[:16]] = found
        return tuple([start_ms + rest_ms for start_ms in found])

    def of_minute(self, wall_ms: int) -> tuple[int, ...]:
        wall = datetime(1970, 1, 1) + timedelta(milliseconds=wall_ms)
        found = set()
        for fold in (0, 1):
            try:
                instant = wall.replace(tzinfo=self.zone, fold=fold).astimezone(UTC)
                shows = instant.astimezone(self.zone).replace(tzinfo=None)
            except OverflowError:  # the first and last day of the calendar
                continue
            if shows == wall:
                found.add(round(instant.timestamp()) * 1000)
        return tuple(sorted(found))


def settle(
    starts: tuple[int, ...],
    answers: tuple[int | None, ...],
    ends: tuple[int, ...],
    duration_ms: int | None,
    billable_ms: int | None,
    born_ms: int | None,
) -> tuple[int, int | None, int]:
    """One start, answer and end out of those that the clock's stamps may mean.

    The night the clocks go back, 01:30 happens twice. The reading counts that agrees with the row itself: start
    before answer before end, end - start the duration, end - answer the billed time. When that leaves two, the one
    that begins within ten minutes after the channel was born (an epoch inside Asterisk's uniqueid); otherwise, and
    when nothing agrees, the first occurrence.
    """
    if len(starts) == len(answers) == len(ends) == 1:
        return starts[0], answers[0], ends[0]
    readings = list(product(starts, answers, ends))
    agreeing = [reading for reading in readings if agrees(*reading, duration_ms, billable_ms)] or readings
    if len(agreeing) > 1 and born_ms is not None:
        near = [reading for reading in agreeing if -HINT_BEFORE_MS <= reading[0] - born_ms <= HINT_AFTER_MS]
        agreeing = near or agreeing
    return agreeing[0]


def agrees(start_ms: int, answer_ms: int | None, end_ms: int, duration_ms: int | None, billable_ms: int | None) -> bool:
    if start_ms > end_ms or (answer_ms is not None and not start_ms <= answer_ms <= end_ms):
        return False
    if duration_ms is not None and abs(end_ms - start_ms - duration_ms) > TOLERANCE_MS:
        return False
    return answer_ms is None or billable_ms is None or abs(end_ms - answer_ms - billable_ms) <= TOLERANCE_MS
