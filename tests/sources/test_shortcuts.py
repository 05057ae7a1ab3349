"""What is remembered or shortened for speed says the same as the long way, whatever was read before."""

import csv
import io
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.mediation_calls import invented
from benchmarks.mediation_layouts import LAYOUTS_MEASURED, written
from rater.sources import SourceProfile, load_profile, open_source
from rater.sources.parties import URI, uri_number
from rater.sources.record import SourceRecord, instant_text
from rater.sources.rows import Splitter
from rater.sources.stamps import Minutes
from rater.sources.times import seconds_ms

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "sources"
TEXTS = st.text(alphabet="a\",;\\'\n\r \0é", max_size=12)
DIALECTS = [
    {"delimiter": ","},
    {"delimiter": ";", "quotechar": "'"},
    {"delimiter": ",", "quotechar": None, "quoting": csv.QUOTE_NONE, "escapechar": "\\"},
    {"delimiter": ",", "escapechar": "\\", "doublequote": False},
    {"delimiter": ",", "skipinitialspace": True},
]


def split_alone(line: str, dialect: dict[str, object]) -> list[str] | None:
    try:
        return next(csv.reader([line], strict=True, **dialect), None)  # type: ignore[call-overload]
    except csv.Error:
        return None


@pytest.mark.parametrize("dialect", DIALECTS)
@given(lines=st.lists(TEXTS, min_size=1, max_size=6))
def test_a_line_is_split_as_if_it_were_alone(dialect: dict[str, object], lines: list[str]) -> None:
    splitter = Splitter(**dialect)
    assert [splitter.split(line) for line in lines] == [split_alone(line, dialect) for line in lines]


@pytest.mark.parametrize(
    ("text", "ms"),
    [(":12", 12_000), (":12.7", 12_700), (":12.700", 12_700), (":59.9999", 59_999), (":00.0", 0)],
)
def test_the_seconds_behind_a_minute(text: str, ms: int) -> None:
    assert seconds_ms(text) == ms


@pytest.mark.parametrize(
    "text", ["", ":", ":1", ":60", ":12.", ":12.7x", ":1\uff12", "-12", ":12:00", ":12.1234567890", " :12"]
)
def test_what_is_no_second_is_left_to_the_long_way(text: str) -> None:
    minutes = Minutes()
    minutes.remember("day", "13:30:00", (1_768_483_800_000,))
    assert seconds_ms(text) is None
    assert minutes.instants("day", "13:30" + text) is None


def test_a_minute_is_remembered_by_its_day_and_hours_of_two_digits() -> None:
    minutes = Minutes()
    minutes.remember("UTC JAN 15 2026", "13:30:12.700", (1_768_483_812_700, 1_768_487_412_700))
    assert minutes.instants("UTC JAN 15 2026", "13:30:01.5") == (1_768_483_801_500, 1_768_487_401_500)
    assert minutes.instants("UTC JAN 16 2026", "13:30:01.5") is None
    minutes.remember("UTC JAN 15 2026", "3:30:12", (1_768_447_812_000,))
    assert minutes.instants("UTC JAN 15 2026", "3:30:12") is None


@given(
    name=st.sampled_from(["", '"J. Doe" ', '"<sip:+1@x>" ', "<"]),
    inside=st.from_regex(r"(sips?|SIP|tel):\+?[0-9a-c]{0,5}(;x)?(@[a-z<>]{0,4})?", fullmatch=True),
    tail=st.sampled_from(["", ">", ">;tag=1", "<", "\n"]),
)
def test_the_number_in_an_address_is_what_the_general_expression_finds(name: str, inside: str, tail: str) -> None:
    for text in (name + "<" + inside + tail, name + inside + tail):
        found = URI.match(text[text.rfind("<") + 1 :])
        if found is not None:
            assert uri_number(text) == (found[1] if found[1] is not None else found[2])


def test_an_instant_is_written_to_the_millisecond_also_before_1970() -> None:
    assert instant_text(1_768_483_800_200) == "2026-01-15T13:30:00.200Z"
    assert instant_text(-1) == "1969-12-31T23:59:59.999Z"
    assert instant_text(0) == "1970-01-01T00:00:00.000Z"


def records(profile: SourceProfile, data: bytes) -> list[SourceRecord]:
    return list(open_source(profile.source, profile).read(io.BytesIO(data)))


def mutated(draw: random.Random, line: bytes) -> bytes:
    """Cells moved and characters changed, digits and points first: what a half-broken switch would write."""
    cells = line.split(b",")
    for _ in range(draw.choice((1, 1, 2, 3))):
        place = draw.randrange(len(cells))
        cell = bytearray(cells[place])
        if cell and draw.random() < 0.8:
            cell[draw.randrange(len(cell))] = draw.choice(b'0123456789.:" <>@\xff-')
        else:
            cell = bytearray(draw.choice(cells))
        cells[place] = bytes(cell)
    return b",".join(cells)


@pytest.mark.parametrize("name", ["acme", "sonus"])
def test_what_was_read_before_changes_no_record(name: str) -> None:
    """Each broken stop alone, and all of them behind each other: the same call record, the same words."""
    layout, profile = LAYOUTS_MEASURED[name], load_profile(EXAMPLES / f"{name}.toml")
    draw = random.Random(name)
    whole = written(layout, invented(150)).splitlines()
    broken = [mutated(draw, line) for line in whole for _ in range(4)]
    alone = {line: records(profile, line) for line in broken if line.strip()}
    together = records(profile, b"\n".join([*whole, *broken]))
    seen = {record.raw: record for record in reversed(together)}
    accepted = 0
    for line, [record] in [(line, found) for line, found in alone.items() if len(found) == 1 and line in seen]:
        if seen[line].kind in ("repeat", "correction"):
            continue
        assert seen[line][:4] == record[:4]
        accepted += record.canonical is not None
    assert accepted > 0


def test_a_stamp_that_ends_in_a_point_is_refused_also_where_its_minute_is_known() -> None:
    profile = load_profile(EXAMPLES / "acme.toml")
    stop = written(LAYOUTS_MEASURED["acme"], invented(1)).replace(b"SDq9c0901-", b"other-")
    minute = stop.split(b'"')[11].decode()
    pointed = stop.replace(minute.encode(), (minute[:9] + minute[12:]).encode(), 1)
    assert minute[8] == "."
    first = records(profile, pointed)
    assert [record.reason for record in first] == ["bad_field"]
    assert records(profile, written(LAYOUTS_MEASURED["acme"], invented(1)) + pointed)[1:] == first
