"""Ribbon/Sonus ACT lines: places by type, ticks of 10 ms, sub-fields, stamps cut at a tenth of a second."""

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
from rater.sources.record import SourceRecord
from tests.sources.support import SAMPLES, call_of, calls, needs_samples, profile, read

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "sources" / "sonus.toml"
ID = "0x0001A2B3C4D5E6F7"
STOP = (
    f"STOP,sbc1,{ID},88213040,GMT,01/15/2026,13:30:00.2,1,92,1250,01/15/2026,13:32:47.2,88229745,15455,16,IP-TO-IP,"
    "IP-TO-IP,DEFAULT,,+442079460018,+12125550123"
)
ATTEMPT = (
    f"ATTEMPT,sbc1,{ID}8,88230001,GMT,01/15/2026,13:33:02.1,1,92,13:33:09.9,12,17,IP-TO-IP,IP-TO-IP,DEFAULT,,"
    "+442079460018,+12125550123"
)
START = f"START,sbc1,{ID},88213040,GMT,01/15/2026,13:30:00.2,1,92,1250,IP-TO-IP,IP-TO-IP,DEFAULT,,+442079460018"
INTERMEDIATE = f"INTERMEDIATE,sbc1,{ID},88213040,GMT,01/15/2026,13:30:00.2,1,1250,01/15/2026,13:31:00.0,4000"


@pytest.fixture(scope="module")
def example() -> SourceProfile:
    return load_profile(EXAMPLE)


def one(prof: SourceProfile, line: str) -> dict[str, Any]:
    [call] = calls(read(prof, line.encode()))
    return call


def finished(prof: SourceProfile, *lines: str) -> list[SourceRecord]:
    source = open_source(prof.source, prof)
    assert isinstance(source, Assembling)
    return [*source.read(io.BytesIO("\n".join(lines).encode())), *source.close()]


def test_a_stop_is_the_call_and_its_ticks_are_billed(example: SourceProfile) -> None:
    assert one(example, STOP) == {
        "record_id": f"sonus:sbc1:{ID}:STOP",
        "tenant": "contoso",
        "call_type": "user_out",
        "user": "+442079460018",
        "caller": "+442079460018",
        "callee": "+12125550123",
        "start": "2026-01-15T13:30:00.200Z",
        "answer": "2026-01-15T13:30:12.700Z",
        "end": "2026-01-15T13:32:47.200Z",
        "billable_ms": 154_550,
        "disposition": "answered",
        "source": "sonus",
        "switch": "sbc1",
        "call_id": ID,
    }


@pytest.mark.parametrize(
    ("reason", "disposition"),
    [("17", "busy"), ("19", "no_answer"), ("16", "cancelled"), ("34", "congestion"), ("3", "failed"), ("", "unknown")],
)
def test_an_attempt_is_a_call_that_was_never_answered(example: SourceProfile, reason: str, disposition: str) -> None:
    call = one(example, ATTEMPT.replace(",17,", f",{reason},"))
    assert (call["answer"], call["billable_ms"], call["disposition"]) == (None, 0, disposition)
    assert (call["record_id"], call["end"]) == (f"sonus:sbc1:{ID}8:ATTEMPT", "2026-01-15T13:33:09.900Z")


def test_the_end_of_an_attempt_in_its_three_shapes(example: SourceProfile) -> None:
    dated = ATTEMPT.replace("13:33:09.9,12,", "01/15/2026,13:33:09.9,")
    assert one(example, dated)["end"] == "2026-01-15T13:33:09.900Z"
    far = ATTEMPT + "," * 86 + ",01/16/2026"
    assert one(example, far)["end"] == "2026-01-16T13:33:09.900Z"
    midnight = ATTEMPT.replace("13:33:02.1", "23:59:58.0").replace("13:33:09.9", "00:00:05.0")
    assert one(example, midnight)["end"] == "2026-01-16T00:00:05.000Z"


def test_an_answer_in_the_tenth_after_the_end_is_the_end(example: SourceProfile) -> None:
    short = STOP.replace(",1250,", ",1259,").replace("13:32:47.2", "13:30:12.7").replace("15455", "0")
    call = one(example, short)
    assert (call["answer"], call["billable_ms"]) == (call["end"], 0)


def test_sub_fields_and_places_of_the_profile(tmp_path: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8").replace("# trunk_in = 34", 'trunk_in = 23\nrealm = "22.3"')
    text = text.replace('# call_id = "52.2"', 'call_id = "22.2"').replace('column = "calling"', 'column = "realm"')
    call = one(profile(tmp_path, text), STOP + ',"SIP,b1946ac9@198.51.100.7,desk",TG1')
    assert (call["call_id"], call["user"]) == ("b1946ac9@198.51.100.7", "desk")
    [short] = read(profile(tmp_path, text), STOP.encode())
    assert short.detail == "found 21 columns; this STOP has 23"


def test_start_and_intermediate_wait_for_their_stop_and_bill_nothing(example: SourceProfile) -> None:
    [record] = finished(example, START, INTERMEDIATE, STOP)
    assert (call_of(record)["billable_ms"], record.parts) == (154_550, 3)
    assert [record.kind for record in finished(example, STOP, START, INTERMEDIATE)] == ["call", "leg", "leg"]
    [open_call] = finished(example, START, INTERMEDIATE)
    assert (open_call.kind, open_call.reason, open_call.parts) == ("incomplete", "missing_field", 2)


def test_titles_and_other_lines_are_no_calls(example: SourceProfile) -> None:
    lines = ["Sonus Networks, Inc.0000000000FF600000", "REBOOT,sbc1,01/15/2026", "SWITCHOVER,sbc1", STOP]
    assert [record.kind for record in finished(example, *lines)] == ["header", "leg", "leg", "call"]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("STOP,", "STOPP,", "bad_source_row"),
        (",+12125550123", "", "bad_source_row"),
        (ID, "", "missing_field"),
        ("sbc1", "", "missing_field"),
        ("15455", "", "missing_field"),
        ("15455", "x", "bad_field"),
        ("15455", "15755", "bad_times"),
        ("15455", "8640001", "bad_field"),
        ("13:32:47.2", "13:30:02.2", "bad_times"),
        ("01/15/2026,13:32", "15/01/2026,13:32", "bad_field"),
        ("13:30:00.2", "25:30:00.2", "bad_field"),
        (",16,IP", ",IP,IP", "bad_field"),
        ("DEFAULT", "OTHER", "unknown_tenant"),
        ("+12125550123", "2125550123", "bad_field"),
        ("IP-TO-IP,DEFAULT", "PSTN-TO-IP,DEFAULT", "bad_field"),
    ],
)
def test_a_stop_that_cannot_be_a_call_says_why(example: SourceProfile, old: str, new: str, reason: str) -> None:
    line = STOP.replace(old, new, 1)
    first, second = finished(example, line, STOP.replace(ID, "0x2"))
    assert (first.canonical, first.reason) == (None, reason)
    assert "2125550123" not in first.detail
    assert call_of(second)["billable_ms"] == 154_550


def test_a_local_clock(tmp_path: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8").replace('zone = "UTC"', 'zone = "America/New_York"')
    assert one(profile(tmp_path, text), STOP)["start"] == "2026-01-15T18:30:00.200Z"


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('switch = "sonus"', "", "switch"),
        ('zone = "UTC"', "", "zone"),
        ('column = "direction"', 'column = "way"', "[call_types] column"),
        ('column = "calling"', 'column = "caller"', "[users] column"),
        ('by = "column"\n', 'by = "numbers"\n', "[call_types] column"),
        ("# trunk_in = 34", "trunk_in = 0", "[sonus.stop] trunk_in"),
        ("# trunk_in = 34", "trunk_in = true", "[sonus.stop] trunk_in"),
        ("close_after_s", "close_after", "[sonus] close_after"),
    ],
)
def test_faults_of_a_profile_are_named(tmp_path: Path, old: str, new: str, key: str) -> None:
    text = re.sub(r"( = \S+) +#.*", r"\1", EXAMPLE.read_text(encoding="utf-8"))
    assert old in text
    with pytest.raises(ProfileRefused) as caught:
        profile(tmp_path, text.replace(old, new))
    assert caught.value.key == key


@needs_samples
def test_the_one_call_in_nineteen_formats(example: SourceProfile) -> None:
    expected = orjson.loads((SAMPLES / "synthetic" / "expected_canonical.json").read_bytes())
    call, attempt = calls(read(example, (SAMPLES / "synthetic" / "sonus_act.csv").read_bytes()))
    assert call["billable_ms"] == expected["billable_ms_per_source"]["sonus_act.csv"]
    for key in ("caller", "callee", "start", "answer", "disposition"):
        assert call[key] == expected["call"][key]
    assert call["end"][:21] == expected["call"]["end"][:21]
    assert (attempt["billable_ms"], attempt["answer"], attempt["disposition"]) == (0, None, "busy")


def test_two_deliveries_shuffled_in_two_files_give_the_same_records(example: SourceProfile) -> None:
    lines = [line.replace(ID, f"0x{index:X}") for index in range(25) for line in (START, STOP, INTERMEDIATE)]
    lines += [ATTEMPT.replace(ID, f"0xA{index:X}") for index in range(10)]
    once = sorted(record.canonical for record in finished(example, *lines) if record.canonical)
    assert len(once) == len({orjson.loads(text)["record_id"] for text in once}) == 35
    for seed in range(5):
        again = lines + lines
        random.Random(seed).shuffle(again)
        one_run = finished(example, *again)
        assert {record.canonical for record in one_run if record.canonical} == set(once)
        assert all(record.reason == "" for record in one_run)
        two_runs = finished(example, *again[:70]) + finished(example, *again[70:])
        assert {record.canonical for record in two_runs if record.canonical} == set(once)


@settings(max_examples=150)
@given(
    st.sampled_from([STOP, ATTEMPT, START, INTERMEDIATE]),
    st.lists(st.tuples(st.integers(0, 250), st.integers(0, 255)), max_size=6),
    st.integers(0, 250),
)
def test_mutated_lines_never_stop_the_reader_nor_make_time(
    example: SourceProfile, line: str, changes: list[tuple[int, int]], cut: int
) -> None:
    row = bytearray(line.encode())
    for place, value in changes:
        row[place % len(row)] = value
    last = STOP.replace(ID, "0x99").encode()
    data = bytes(row) + b"\n" + bytes(row[:cut]) + b"\n" + last
    source = open_source("sonus", example)
    assert isinstance(source, Assembling)
    records = [*source.read(io.BytesIO(data)), *source.close()]
    allowed = sum(int(text) for text in re.findall(rb"[0-9]+", data)) * 10
    assert sum(call["billable_ms"] for call in calls(records)) <= allowed


@given(st.binary(max_size=300))
def test_any_bytes_are_rejected_and_never_lost(example: SourceProfile, data: bytes) -> None:
    assert all(record.canonical is None for record in read(example, data))
