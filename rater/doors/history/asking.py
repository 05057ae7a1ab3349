"""Words of the command line -> windows and filters."""

import re
from datetime import date

from rater.core.instants import DAY_MS, days_of, parse_instant
from rater.doors.history.queries import Filter
from rater.doors.history.store import HistoryProblem

MONTH = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")


def instant(text: str, option: str) -> int:
    """A day (its first instant, UTC) or an instant, as UTC ms."""
    found = parse_instant(f"{text}T00:00:00Z" if len(text) == len("2026-11-30") else text)
    if found is None:
        raise HistoryProblem(f"{option} is '{text[:40]}'; expected a day or an instant in UTC, for example 2026-11-30")
    return found


def window(month: str | None, begin: str | None, end: str | None) -> tuple[int | None, int | None]:
    """(from, to) in UTC ms, `to` not included; None where it is open."""
    if month is None:
        return None if begin is None else instant(begin, "--from"), None if end is None else instant(end, "--to")
    if begin is not None or end is not None:
        raise HistoryProblem("--month goes without --from and --to; expected one way to say which calls")
    match = MONTH.fullmatch(month)
    if match is None:
        raise HistoryProblem(f"--month is '{month[:40]}'; expected year and month, for example 2026-11")
    first = date(int(match[1]), int(match[2]), 1)
    last = date(first.year + first.month // 12, first.month % 12 + 1, 1)
    return _day_ms(first), _day_ms(last)


def _day_ms(day: date) -> int:
    return int(days_of(day.year, day.month, day.day)) * DAY_MS


def filter_of(
    user: str | None, call_types: tuple[str, ...], capabilities: tuple[str, ...], outcomes: tuple[str, ...],
    month: str | None, begin: str | None, end: str | None,
) -> Filter:  # fmt: skip
    from_ms, to_ms = window(month, begin, end)
    return Filter(user, call_types, capabilities, outcomes, from_ms, to_ms)
