"""Time as values, against `datetime` and `calendar`."""

import calendar
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rater.core.instants import (
    FIRST_MS,
    LAST_MS,
    date_of,
    day_text,
    days_of,
    instant_text,
    month_of,
    month_start_ms,
    month_text,
    months_later_ms,
    parse_instant,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
instants = st.integers(FIRST_MS, LAST_MS)


def moment(ms: int) -> datetime:
    return EPOCH + timedelta(milliseconds=ms)


@given(instants)
def test_an_instant_survives_its_text(ms: int):
    text = instant_text(ms)
    assert parse_instant(text) == ms
    assert text == moment(ms).strftime(f"{moment(ms).year:04d}-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"
    assert day_text(ms) == text[:10]


@given(instants)
def test_dates_and_months_are_the_calendars(ms: int):
    now = moment(ms)
    days = ms // 86_400_000
    assert date_of(days) == (now.year, now.month, now.day)
    assert days_of(now.year, now.month, now.day) == days
    assert month_of(ms) == now.year * 12 + now.month - 1
    assert month_text(month_of(ms)) == f"{now.year:04d}-{now.month:02d}"
    assert month_start_ms(month_of(ms)) <= ms < month_start_ms(month_of(ms) + 1)


@given(instants, st.integers(0, 36))
def test_months_later_is_the_same_day_or_the_months_last(ms: int, months: int):
    now = moment(ms)
    year, month = divmod(now.year * 12 + now.month - 1 + months, 12)
    later = months_later_ms(ms, months)
    if year > 9999:
        assert later == LAST_MS
        return
    day = min(now.day, calendar.monthrange(year, month + 1)[1])
    assert moment(later) == now.replace(year=year, month=month + 1, day=day)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2026-11-03T13:30:00Z", "2026-11-03T13:30:00.000Z"),
        ("2026-11-03T13:30:00.2Z", "2026-11-03T13:30:00.200Z"),
        ("2026-11-03T13:30:00.29Z", "2026-11-03T13:30:00.290Z"),
        ("2026-11-03T13:30:00.999999999Z", "2026-11-03T13:30:00.999Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z"),
        ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
        ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00.000Z"),
        ("2000-02-29T00:00:00Z", "2000-02-29T00:00:00.000Z"),
    ],
)
def test_milliseconds_are_kept_and_the_rest_is_cut_off(text: str, same: str):
    found = parse_instant(text)
    assert found is not None
    assert instant_text(found) == same


BAD = """
2026-11-03T13:30:00 2026-11-03T13:30:00+00:00 2026-11-03t13:30:00Z 2026-11-03T13:30:00z 2026-11-03 2026-11-03T13:30Z
2026-11-03T24:00:00Z 2026-11-03T23:60:00Z 2026-11-03T23:59:60Z 2026-11-31T00:00:00Z 2026-02-29T00:00:00Z
1900-02-29T00:00:00Z 2026-00-01T00:00:00Z 2026-13-01T00:00:00Z 2026-11-00T00:00:00Z 0000-01-01T00:00:00Z
2026-11-03T13:30:00.Z 2026-11-03T13:30:00.0000000000Z 2026-11-03T13:30:00,5Z 2026-11-03T13:30:00.5 20261103T133000Z
+026-11-03T13:30:00Z -026-11-03T13:30:00Z 2026-1-03T13:30:00Z 2026-11-3T13:30:00Z 12026-11-03T13:30:00Z 2026/11/03T13:30:00Z
2026-11-03T13.30.00Z 2026-11-03T1a:30:00Z 2026-11-03T13:30:00.1a2Z 2026-11-03T13:30:00.-12Z ٢٠٢٦-11-03T13:30:00Z 2026-11-03T13:30:00ZZ
2026-11-03T13:30:0:Z 2026-11-03T13:30:/0Z
""".split()


@pytest.mark.parametrize(
    "text", [*BAD, "", "Z", "2026-11-03 13:30:00Z", " 2026-11-03T13:30:00Z", "2026-11-03T13:30:00Z\n"]
)
def test_what_is_no_instant_of_the_contract(text: str):
    assert parse_instant(text) is None


@given(st.text(alphabet="0123456789-:.TZ +", min_size=18, max_size=32))
def test_whatever_is_read_is_an_rfc_3339_instant(text: str):
    found = parse_instant(text)
    if found is not None:
        whole, _, fraction = text[:-1].partition(".")
        assert datetime.fromisoformat(whole + "+00:00") == moment(found - found % 1000)
        assert found % 1000 == int((fraction + "000")[:3])
