"""Times and durations in the many shapes that switches write them, by a shape that the profile names.

A pattern is that of `strptime`, the part of it that is the same in every language: %Y %y %m %d %H %I %p %M %S %f %b
%z. Decimals finer than a millisecond are cut off, never rounded up, so that no time is invented.
"""

import re
from datetime import UTC
from typing import NamedTuple

from rater.sources.numbers import is_digits
from rater.sources.record import BILLABLE_MS_MAX, Unusable
from rater.sources.times import CACHE_MAX, WallClock, seconds_ms, zone_named

MONTHS = {name: index for index, name in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)}
DIRECTIVES = {
    "Y": r"(?P<Y>[0-9]{4})",
    "y": r"(?P<y>[0-9]{2})",
    "m": r"(?P<m>[0-9]{1,2})",
    "d": r"(?P<d>[0-9]{1,2})",
    "H": r"(?P<H>[0-9]{1,2})",
    "I": r"(?P<I>[0-9]{1,2})",
    "p": r"(?P<p>[AaPp][Mm])",
    "M": r"(?P<M>[0-9]{2})",
    "S": r"(?P<S>[0-9]{2})",
    "f": r"(?P<f>[0-9]{1,9})",
    "b": r"(?P<b>[A-Za-z]{3})",
    "z": r"(?P<z>Z|[+-][0-9]{2}:?[0-9]{2})",
    "%": "%",
}
EPOCHS = {"epoch": 1, "epoch_ms": 1000, "epoch_us": 1_000_000}
UNITS_MS = {"s": 1000, "min": 60_000, "ms": 1}
EPOCH = re.compile(r"([0-9]{1,19})(?:\.([0-9]{1,9}))?")
DECIMAL = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,12}))?")
HMS = re.compile(r"(?:([0-9]{1,5}):)?([0-9]{1,2}):([0-9]{2})(?:\.([0-9]{1,9}))?")
UNITS = ("s", "ms", "us", "10ms", "min", "hms")
YEAR_9999_S = 253_402_300_800
NEVER_DAYS = ("1970-01-01", "1969-12-31", "0000-00-00", "0001-01-01")


class Pattern(NamedTuple):
    expression: re.Pattern[str]
    zoned: bool


def read_pattern(text: str) -> Pattern | None:
    """A strptime pattern as an expression; None when it has a directive we do not know, or no full date and hour."""
    out = []
    seen: set[str] = set()
    place = 0
    while place < len(text):
        character = text[place]
        if character != "%":
            out.append(re.escape(character))
            place += 1
            continue
        name = text[place + 1 : place + 2]
        if name not in DIRECTIVES or name in seen:
            return None
        seen.update(name if name != "%" else "")
        out.append(DIRECTIVES[name])
        place += 2
    whole = (
        len(seen & {"Y", "y"}) == len(seen & {"m", "b"}) == len(seen & {"H", "I"}) == 1
        and {"d", "M"} <= seen
        and ("I" in seen) == ("p" in seen)
        and ("f" not in seen or "S" in seen)
    )
    return Pattern(re.compile("".join(out)), "z" in seen) if whole else None


def iso_text(pattern: Pattern, name: str, text: str) -> str:
    """The stamp as `YYYY-MM-DD HH:MM:SS.fff+hhmm`, whichever of its parts there are."""
    found = pattern.expression.fullmatch(text)
    if found is None:
        raise Unusable("bad_field", f"{name}: not a time of the shape that time_format says")
    part = found.groupdict()
    month = part.get("m") or MONTHS.get((part.get("b") or "").lower(), 0)
    hour = int(part.get("H") or part["I"])
    if part.get("p"):
        if not 1 <= hour <= 12:
            raise Unusable("bad_field", f"{name}: no such hour before or after noon; expected 1 to 12")
        hour = hour % 12 + (12 if part["p"].lower() == "pm" else 0)
    year = part.get("Y") or "20" + part["y"]
    decimals = "." + part["f"] if part.get("f") else ""
    return f"{year}-{int(month):02d}-{int(part['d']):02d} {hour:02d}:{part['M']}:{part.get('S') or '00'}{decimals}" + (
        part.get("z") or ""
    )


def epoch_ms(name: str, text: str, per_second: int) -> int:
    """Seconds, milliseconds or microseconds since 1970 as UTC milliseconds; 1768483812.700 -> 1768483812700."""
    found = EPOCH.fullmatch(text)
    if found is None:
        raise Unusable("bad_field", f"{name}: not a time since 1970; expected digits")
    if per_second == 1:
        ms = int(found[1]) * 1000 + int((found[2] or "0")[:3].ljust(3, "0"))
    else:
        ms = int(found[1]) // (per_second // 1000)
    if ms >= YEAR_9999_S * 1000:
        raise Unusable("bad_field", f"{name}: lies after the year 9999; is the unit right?")
    return ms


def wall_instants(clock: WallClock, name: str, wall: str, decimals: str) -> tuple[int, ...]:
    """What a wall-clock stamp may mean, its decimals read apart, because a clock remembers minutes without them."""
    found = clock.instants(name, wall)
    if not decimals or not found:
        return found
    millis = int(decimals[1:4].ljust(3, "0"))
    return tuple([at_ms + millis for at_ms in found])


class Minutes:
    """The minutes that a switch's clock showed before, by their text; seconds and decimals are added here.

    For stamps of a day and a time that no WallClock reads as they stand, where taking them apart costs most.
    """

    def __init__(self) -> None:
        self.known: dict[str, tuple[int, ...]] = {}

    def instants(self, day: str, time: str) -> tuple[int, ...] | None:
        """What 13:30:12.700 on this day may mean; None when its minute is not known or it has another shape."""
        known = self.known.get(day + time[:5])
        rest_ms = None if known is None else seconds_ms(time[5:])
        if known is None or rest_ms is None:
            return None
        return (known[0] + rest_ms,) if len(known) == 1 else tuple([minute_ms + rest_ms for minute_ms in known])

    def remember(self, day: str, time: str, found: tuple[int, ...]) -> None:
        """Keep the minute of what was read the long way; hours of two digits only, so that a text is one minute."""
        if found and time[2:3] == ":":
            if len(self.known) >= CACHE_MAX:
                self.known.clear()
            self.known[day + time[:5]] = tuple([at_ms - at_ms % 60_000 for at_ms in found])


class Stamps:
    """Reads the stamps of one switch: `iso`, an epoch, or a pattern; wall-clock stamps by the switch's zone."""

    def __init__(self, shape: str, zone: str, never: tuple[str, ...] = ()) -> None:
        self.pattern = None if shape == "iso" or shape in EPOCHS else read_pattern(shape)
        self.per_second = EPOCHS.get(shape, 0)
        self.never = frozenset(("", "0", *never))
        self.zone = zone
        self.clock = WallClock(zone_named(zone) or UTC)

    def instants(self, name: str, text: str) -> tuple[int, ...]:
        """What the stamp may mean; empty when the switch wrote none."""
        if text in self.never:
            return ()
        if self.per_second:
            ms = epoch_ms(name, text, self.per_second)
            return (ms,) if ms else ()
        if self.pattern is not None:
            text = iso_text(self.pattern, name, text)
        if text.startswith(NEVER_DAYS):
            return ()
        found = self.clock.instants(name, text)
        if not found:
            raise Unusable("bad_times", f"{name}: this time does not exist in {self.zone}, the clocks skip it")
        if not self.zone and self.without_zone(text):
            raise Unusable("bad_field", f"{name}: has no zone, and neither has the profile")
        return found

    def without_zone(self, text: str) -> bool:
        return not (text.endswith("Z") or text[-5:-4] in ("+", "-") or text[-6:-5] in ("+", "-"))


def span_ms(name: str, text: str, unit: str) -> int:
    """A measured time in the unit of the profile, as milliseconds cut down: 154.5509 s -> 154550, 2:34 -> 154000."""
    if unit == "s" and len(text) <= 9 and is_digits(text):
        return checked(name, int(text) * 1000)
    if unit == "hms":
        parts = HMS.fullmatch(text)
        if parts is None or int(parts[3]) > 59 or (parts[1] is not None and int(parts[2]) > 59):
            raise Unusable("bad_field", f"{name}: not hours, minutes and seconds; expected for example 00:02:34")
        seconds = (int(parts[1] or 0) * 60 + int(parts[2])) * 60 + int(parts[3])
        return checked(name, seconds * 1000 + int((parts[4] or "0")[:3].ljust(3, "0")))
    found = DECIMAL.fullmatch(text)
    if found is None:
        raise Unusable("bad_field", f"{name}: not a measured time; expected for example 154 or 154.550")
    whole, decimals = int(found[1]), found[2] or ""
    if unit == "us":
        return checked(name, whole // 1000)
    if unit == "10ms":
        return checked(name, whole * 10)
    return checked(name, int(str(whole) + decimals) * UNITS_MS[unit] // 10 ** len(decimals))


def checked(name: str, ms: int) -> int:
    if ms > BILLABLE_MS_MAX:
        raise Unusable("bad_field", f"{name}: {ms // 1000} s is more than 86400 s (24 h)")
    return ms
