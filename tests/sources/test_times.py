"""Stamps of switches as instants."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from rater.sources.record import Unusable, instant_text
from rater.sources.times import WallClock, instant_ms, settle, zone_named

LONDON = WallClock(ZoneInfo("Europe/London"))


def read(text: str, clock: WallClock = LONDON) -> list[str]:
    return [instant_text(ms) for ms in clock.instants("start", text)]


def test_a_wall_clock_shows_a_time_once_never_or_twice() -> None:
    assert read("2026-01-15 13:30:00") == ["2026-01-15T13:30:00.000Z"]
    assert read("2026-07-15 13:30:59") == ["2026-07-15T12:30:59.000Z"]
    assert read("2026-03-29 01:30:00") == []
    assert read("2026-10-25 01:30:00") == ["2026-10-25T00:30:00.000Z", "2026-10-25T01:30:00.000Z"]
    assert read("2026-10-25 01:30:07") == ["2026-10-25T00:30:07.000Z", "2026-10-25T01:30:07.000Z"]


def test_half_hours_and_the_edges_of_the_calendar() -> None:
    assert read("2026-01-15 05:30:00", WallClock(ZoneInfo("Asia/Kolkata"))) == ["2026-01-15T00:00:00.000Z"]
    assert read("2026-04-05 01:45:00", WallClock(ZoneInfo("Australia/Lord_Howe"))) == [
        "2026-04-04T14:45:00.000Z",
        "2026-04-04T15:15:00.000Z",
    ]
    assert read("0001-01-01 00:00:00", WallClock(ZoneInfo("Asia/Tokyo"))) == []


def test_a_stamp_with_a_zone_of_its_own_needs_none() -> None:
    assert read("2026-07-15T13:30:00.2509+0200") == ["2026-07-15T11:30:00.250Z"]
    assert read("2026-07-15T13:30:00Z") == ["2026-07-15T13:30:00.000Z"]


@pytest.mark.parametrize(
    "text",
    ["", "soon", "2026-02-30 10:00:00", "2026-01-15 24:00:00", "2026-01-15 10:00:60", "2026-01-15 10:00", "15.01.2026"],
)
def test_what_is_no_time_is_refused_also_once_its_minute_is_known(text: str) -> None:
    read("2026-01-15 10:00:00")
    with pytest.raises(Unusable):
        read(text)


def test_instants_keep_milliseconds_and_need_a_zone() -> None:
    assert instant_text(instant_ms("end", "2019-11-01T00:00:08.2589935Z")) == "2019-11-01T00:00:08.258Z"
    with pytest.raises(Unusable):
        instant_ms("end", "2019-11-01T00:00:08")


def test_every_minute_of_a_year_reads_back_as_itself() -> None:
    zone = ZoneInfo("America/New_York")
    clock = WallClock(zone)
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    while moment.year == 2026:
        shown = moment.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")
        assert round(moment.timestamp()) * 1000 in clock.instants("start", shown)
        moment += timedelta(minutes=37)


def test_settle_takes_the_reading_that_agrees_else_the_first() -> None:
    hour = 3_600_000
    assert settle((0, hour), (None,), (60_000, hour + 60_000), hour + 60_000, 0, None) == (0, None, hour + 60_000)
    assert settle((0, hour), (None,), (60_000, hour + 60_000), 60_000, 0, None) == (0, None, 60_000)
    assert settle((0, hour), (None,), (60_000, hour + 60_000), 60_000, 0, hour - 500) == (hour, None, hour + 60_000)
    assert settle((0, hour), (None,), (5, hour + 5), 12_345_678, 0, None) == (0, None, 5)


def test_zones() -> None:
    assert zone_named("UTC") is UTC
    for name in ("Europe/Londn", "../etc/passwd", "", "Europe"):
        assert zone_named(name) is None
