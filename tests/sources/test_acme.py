"""Oracle/AcmePacket rows: places by release, quotes that nobody escapes, start, interim and stop."""

import io
import random
import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rater.sources import Assembling, ProfileRefused, SourceProfile, load_profile, open_source
from rater.sources.acme import C640_STOP, loose_values
from rater.sources.record import SourceRecord
from tests.sources.support import SAMPLES, call_of, calls, needs_samples, profile, read

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "sources" / "acme.toml"
STOP = {
    "session_id": '"SDq9c0901-b1946ac9@198.51.100.7"',
    "ingress_call_id": '"b1946ac9@198.51.100.7"',
    "calling": '"<sip:+442079460018@198.51.100.7>;tag=as7f01"',
    "called": '"<sip:+12125550123@203.0.113.9>;tag=gK0a11"',
    "terminate_cause": "1",
    "session_time": "155",
    "setup": '"13:30:00.200 UTC JAN 15 2026"',
    "connect": '"13:30:12.700 UTC JAN 15 2026"',
    "disconnect": '"13:32:47.250 UTC JAN 15 2026"',
    "egress_realm": "carrier1",
    "ingress_realm": "acme",
    "disposition": "3",
    "sip_status": "200",
}


@pytest.fixture(scope="module")
def example() -> SourceProfile:
    return load_profile(EXAMPLE)


def stop(width: int = 175, **changed: str) -> bytes:
    values = [""] * width
    values[0] = "2"
    for name, value in {**STOP, **changed}.items():
        values[C640_STOP[name] - 1] = value
    return ",".join(values).encode() + b"\n"


def started(kind: str = "1", session: str = STOP["session_id"], connect: str = STOP["connect"]) -> bytes:
    values = [kind, "198.51.100.7", "5060", session, "", "", "", "", "", STOP["calling"], STOP["called"], STOP["setup"]]
    return ",".join([*values, connect, *[""] * 109]).encode() + b"\n"


def one(prof: SourceProfile, **changed: str) -> dict[str, Any]:
    [call] = calls(read(prof, stop(**changed)))
    return call


def finished(prof: SourceProfile, data: bytes) -> list[SourceRecord]:
    source = open_source(prof.source, prof)
    assert isinstance(source, Assembling)
    return [*source.read(io.BytesIO(data)), *source.close()]


def test_a_stop_is_the_call(example: SourceProfile) -> None:
    assert one(example) == {
        "record_id": "sbc1:SDq9c0901-b1946ac9@198.51.100.7:stop:2026-01-15T13%3A30%3A00.200Z",
        "tenant": "acme",
        "call_type": "user_out",
        "user": "+442079460018",
        "caller": "+442079460018",
        "callee": "+12125550123",
        "start": "2026-01-15T13:30:00.200Z",
        "answer": "2026-01-15T13:30:12.700Z",
        "end": "2026-01-15T13:32:47.250Z",
        "billable_ms": 154_550,
        "disposition": "answered",
        "source": "acme",
        "switch": "sbc1",
        "call_id": "b1946ac9@198.51.100.7",
    }


@pytest.mark.parametrize(
    "calling",
    [
        '""J. Doe" <sip:+442079460018@198.51.100.7>;tag=1"',
        '""Doe, J" <sip:+442079460018@198.51.100.7>;tag=1"',
        '"""Doe, J"" <sip:+442079460018@198.51.100.7>;tag=1"',
        "<sip:+442079460018@198.51.100.7;user=phone>;tag=1",
        "sip:00442079460018;npdi@198.51.100.7",
        "tel:+44-20-7946-0018",
        "+442079460018",
    ],
)
def test_a_calling_address_however_it_is_quoted(example: SourceProfile, calling: str) -> None:
    assert one(example, calling=calling)["caller"] == "+442079460018"


def test_an_address_without_a_number_is_no_number(example: SourceProfile) -> None:
    for called in ("<sip:198.51.100.7>", "<sip:operator@198.51.100.7>", ""):
        [record] = read(example, stop(called=called))
        assert record.reason in ("bad_field", "missing_field")


def test_quotes_close_before_a_comma() -> None:
    assert loose_values('a,"b,c",""d, e" f",,"g') == ["a", "b,c", '"d, e" f', "", '"g']
    assert loose_values('"' * 9) == ['"' * 7] or loose_values('"' * 9)


@pytest.mark.parametrize(
    ("status", "disposition"),
    [
        ("486", "busy"),
        ("487", "cancelled"),
        ("480", "no_answer"),
        ("503", "congestion"),
        ("404", "failed"),
        ("", "unknown"),
    ],
)
def test_a_call_that_never_connected(example: SourceProfile, status: str, disposition: str) -> None:
    for connect in ("", '"00:00:00.000 UTC JAN 01 1970"'):
        call = one(example, connect=connect, session_time="0", disposition="1", sip_status=status)
        assert (call["answer"], call["billable_ms"], call["disposition"]) == (None, 0, disposition)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"session_id": ""}, "missing_field"),
        ({"disconnect": ""}, "missing_field"),
        ({"setup": ""}, "missing_field"),
        ({"connect": "yesterday"}, "bad_field"),
        ({"connect": '"13:30:12.700 EST JAN 15 2026"'}, "bad_field"),
        ({"connect": '"13:30:12.700 UTC JAX 15 2026"'}, "bad_field"),
        ({"connect": ""}, "bad_field"),
        ({"disposition": "1"}, "bad_field"),
        ({"session_time": "160"}, "bad_times"),
        ({"session_time": "x"}, "bad_field"),
        ({"disconnect": '"13:30:05.000 UTC JAN 15 2026"'}, "bad_times"),
        ({"disconnect": '"13:30:05.000 UTC JAN 17 2026"', "session_time": ""}, "bad_field"),
        ({"ingress_realm": ""}, "missing_field"),
        ({"ingress_realm": "carrier2"}, "bad_field"),
        ({"called": "<sip:2125550123@x>"}, "bad_field"),
    ],
)
def test_a_stop_that_cannot_be_a_call_says_why(example: SourceProfile, changed: dict[str, str], reason: str) -> None:
    first, second = finished(example, stop(**changed) + stop(session_id="other"))
    assert (first.canonical, first.reason) == (None, reason)
    assert "2125550123" not in first.detail
    assert call_of(second)["billable_ms"] == 154_550


def test_a_row_of_another_width_or_no_kind_is_rejected(example: SourceProfile) -> None:
    records = read(example, stop(176) + b"9,a,b\n" + b"2,x\n" + b"\xff\xfe\n")
    assert [record.reason for record in records] == ["bad_source_row"] * 4
    assert "found 176 columns, expected 175" in records[0].detail


def test_another_zone_is_read_by_the_profiles(tmp_path: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8").replace("# zone", "zone", 1)
    changed = {name: STOP[name].replace("UTC", "EST") for name in ("setup", "connect", "disconnect")}
    assert one(profile(tmp_path, text), **changed)["start"] == "2026-01-15T18:30:00.200Z"


def test_whole_seconds_when_the_profile_says_so(tmp_path: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8").replace('"times"', '"session_time"')
    assert one(profile(tmp_path, text))["billable_ms"] == 155_000


def test_start_and_interim_wait_for_their_stop_and_bill_nothing(example: SourceProfile) -> None:
    [record] = finished(example, started() + started("3") + stop())
    assert call_of(record)["billable_ms"] == 154_550
    assert record.parts == 3
    late = finished(example, stop() + started() + started("3"))
    assert [(record.kind, record.reason) for record in late] == [("call", ""), ("leg", ""), ("leg", "")]


def test_a_start_without_a_stop_ends_as_a_rejection_with_its_parts(example: SourceProfile) -> None:
    [record] = finished(example, started() + started("3"))
    assert (record.kind, record.reason, record.parts) == ("incomplete", "missing_field", 2)
    assert "no stop" in record.detail
    assert sorted(record.raw.split(b"\n")) == [started().strip(), started("3").strip()]


def test_a_stop_after_its_start_was_given_up_is_the_call(example: SourceProfile) -> None:
    source = open_source("acme", example)
    assert isinstance(source, Assembling)
    given_up = [*source.read(io.BytesIO(started())), *source.close()]
    found = [*source.read(io.BytesIO(stop() + stop(terminate_cause="2")))]
    assert [record.kind for record in given_up + found] == ["incomplete", "call", "correction"]


def test_a_second_stop_is_a_repeat_or_a_correction_never_a_second_call(example: SourceProfile) -> None:
    first, repeat, changed = finished(example, stop() + stop() + stop(terminate_cause="2"))
    assert (first.kind, repeat.kind, changed.kind) == ("call", "repeat", "correction")
    assert changed.reason == "conflict"


def test_open_calls_go_over_a_restart(example: SourceProfile) -> None:
    before = open_source("acme", example)
    assert isinstance(before, Assembling)
    assert list(before.read(io.BytesIO(started()))) == []
    after = open_source("acme", example)
    assert isinstance(after, Assembling)
    after.resume(before.open_calls())
    [record] = after.read(io.BytesIO(stop()))
    assert (call_of(record)["billable_ms"], record.parts) == (154_550, 2)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('switch = "sbc1"', "", "switch"),
        ('"C6.4.0"', '"C9"', "[acme] release"),
        ('"C6.4.0"', '"own"', "[acme.stop] session_id"),
        ("width = 175", "width = 100", "[acme.stop] custom_200"),
        ("width = 175\ncustom_200 = 140", "width = 100", "[acme.stop] width"),
        ("custom_200 = 140", "custom_200 = 176", "[acme.stop] custom_200"),
        ('trunk_in = "ingress_realm"', 'trunk_in = "realm"', "[acme] trunk_in"),
        ('column = "calling"', 'column = "caller"', "[users] column"),
        ("billable", "billables", "[acme] billables"),
    ],
)
def test_faults_of_a_profile_are_named(tmp_path: Path, old: str, new: str, key: str) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    assert old in text
    with pytest.raises(ProfileRefused) as caught:
        profile(tmp_path, text.replace(old, new))
    assert caught.value.key == key


@needs_samples
def test_the_one_call_in_nineteen_formats(example: SourceProfile) -> None:
    expected = orjson.loads((SAMPLES / "synthetic" / "expected_canonical.json").read_bytes())
    [call] = calls(read(example, (SAMPLES / "synthetic" / "acmepacket_stop.csv").read_bytes()))
    assert call["billable_ms"] == expected["billable_ms_per_source"]["acmepacket_stop.csv"]
    for key in ("call_id", "tenant", "caller", "callee", "start", "answer", "end", "disposition"):
        assert call[key] == expected["call"][key]


@needs_samples
def test_the_map_is_the_published_one() -> None:
    text = (SAMPLES / "acmepacket_fieldmaps" / "C640_stop.csv").read_text()
    names = {int(place): name for place, name, _ in (row.split(",") for row in text.split())}
    assert len(names) == 175
    for ours, theirs in {
        "session_id": "Acct-Session-Id",
        "calling": "Calling-Station-Id",
        "called": "Called-Station-Id",
        "session_time": "Acct-Session-Time",
        "setup": "h323-setup-time",
        "connect": "h323-connect-time",
        "disconnect": "h323-disconnect-time",
        "egress_realm": "Acme-Session-Egress-Realm",
        "ingress_realm": "Acme-Session-Ingress-Realm",
        "disposition": "Acme-Session-Disposition",
        "sip_status": "Acme-SIP-Status",
        "diversion": "Acme-SIP-Diversion",
    }.items():
        assert names[C640_STOP[ours]] == theirs
    for file in ("C640_start.csv", "D710_start.csv"):
        rows = (SAMPLES / "acmepacket_fieldmaps" / file).read_text().split()
        assert rows[3] == "4,Acct-Session-Id,nil"
        assert rows[11] == "12,h323-setup-time,nil"


def test_two_deliveries_shuffled_in_two_files_give_the_same_records(example: SourceProfile) -> None:
    lines = [stop(session_id=f"s{index}") for index in range(30)]
    lines += [started("1", f"s{index}") for index in range(30)]
    once = sorted(record.canonical for record in finished(example, b"".join(lines)) if record.canonical)
    assert len(once) == len({orjson.loads(text)["record_id"] for text in once}) == 30
    for seed in range(5):
        again = lines + lines
        random.Random(seed).shuffle(again)
        one_run = finished(example, b"".join(again))
        assert sorted(record.canonical for record in one_run if record.canonical) == once
        assert all(record.reason == "" for record in one_run)
        two_runs = finished(example, b"".join(again[:50])) + finished(example, b"".join(again[50:]))
        assert {record.canonical for record in two_runs if record.canonical} == set(once)


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=6), st.integers(0, 500))
def test_mutated_rows_never_stop_the_reader_nor_make_time(
    example: SourceProfile, changes: list[tuple[int, int]], cut: int
) -> None:
    row = bytearray(stop())
    for place, value in changes:
        row[place % len(row)] = value
    data = bytes(row) + b"\n" + bytes(row[:cut]) + b"\n" + stop(session_id="last")
    records = finished(example, data)
    for call in calls(records):
        assert call["billable_ms"] <= 1000 * max(int(text) for text in re.findall(rb"[0-9]+", data)) + 1500
    assert calls(records)


@given(st.binary(max_size=300))
def test_any_bytes_are_rejected_and_never_lost(example: SourceProfile, data: bytes) -> None:
    assert all(record.canonical is None for record in finished(example, data))
