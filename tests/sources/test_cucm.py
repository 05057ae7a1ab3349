"""Cisco CUCM's CDR files, row by row, by the names in their header."""

import csv
import io
import random
import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rater.sources import ProfileRefused, SourceProfile, load_profile
from rater.sources.cucm import DOCUMENTED
from tests.sources.support import SAMPLES, call_of, calls, needs_samples, profile, read

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "sources" / "cucm.toml"
NAMES = (*DOCUMENTED, "origDeviceType")
CALL = {
    "cdrRecordType": "1",
    "globalCallID_callManagerId": "2",
    "globalCallID_callId": "91377",
    "globalCallId_ClusterID": "cluster1",
    "pkid": "5e2f0c9a-3b7d-4a51-8f6e-1c2d3e4f5a6b",
    "dateTimeOrigination": "1768483800",
    "dateTimeConnect": "1768483812",
    "dateTimeDisconnect": "1768483967",
    "duration": "155",
    "callingPartyNumber": "5018",
    "originalCalledPartyNumber": "90012125550123",
    "finalCalledPartyNumber": "90012125550123",
    "outpulsedCallingPartyNumber": "+442079460018",
    "outpulsedCalledPartyNumber": "+12125550123",
    "origDeviceName": "SEP02005E005301",
    "destDeviceName": "SIP-TRUNK-CARRIER1",
    "origCause_value": "16",
    "callingPartyNumberPartition": "PT-Internal",
}
LAB = """
source = "cucm"
switch = "lab"
tenant = "lab"
[users]
column = "callingPartyNumber"
[numbers]
country_code = "1"
bare = "national"
national_digits = [10]
[call_types]
by = "trunks"
trunks = ["Genesys_Lab_*"]
internal = "user_out"
[cucm]
without_names = "documented"
"""


@pytest.fixture(scope="module")
def example() -> SourceProfile:
    return load_profile(EXAMPLE)


def line(names: tuple[str, ...] = NAMES, **changed: str) -> bytes:
    out = io.StringIO()
    values = {**CALL, **changed}
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n").writerow([values.get(name, "") for name in names])
    return out.getvalue().encode()


HEADER = line(**{name: name for name in NAMES})
TYPES = b",".join([b"INTEGER" if index % 2 else b"VARCHAR(50)" for index in range(len(NAMES))]) + b"\n"


def one(prof: SourceProfile, **changed: str) -> dict[str, Any]:
    [call] = calls(read(prof, HEADER + TYPES + line(**changed)))
    return call


def test_the_example_reads_a_call_to_a_trunk(example: SourceProfile) -> None:
    assert one(example) == {
        "record_id": "cluster1:5e2f0c9a-3b7d-4a51-8f6e-1c2d3e4f5a6b",
        "tenant": "contoso",
        "call_type": "user_out",
        "user": "5018",
        "caller": "+442079460018",
        "callee": "+12125550123",
        "start": "2026-01-15T13:30:00.000Z",
        "answer": "2026-01-15T13:30:12.000Z",
        "end": "2026-01-15T13:32:47.000Z",
        "billable_ms": 155_000,
        "disposition": "answered",
        "source": "cucm",
        "switch": "cluster1",
        "call_id": "cluster1:2:91377",
    }


def test_columns_are_found_by_name_in_any_order(example: SourceProfile) -> None:
    names = tuple(reversed(NAMES[1:]))
    names = (NAMES[0], *names)
    head = line(names, **{name: name for name in names})
    [call] = calls(read(example, head + line(names)))
    assert call == one(example)


def test_without_an_outpulsed_number_the_dialled_one_is_read_by_the_dial_plan(example: SourceProfile) -> None:
    call = one(example, outpulsedCalledPartyNumber="", outpulsedCallingPartyNumber="")
    assert (call["callee"], call["caller"]) == ("+12125550123", None)


def test_an_access_digit_is_never_taken_off_what_left_the_gateway(tmp_path: Path) -> None:
    prof = profile(tmp_path, LAB.replace("[10]", '[10]\naccess = ["9"]'))
    call = one(prof, destDeviceName="Genesys_Lab_1", outpulsedCalledPartyNumber="9725550123")
    assert call["callee"] == "+19725550123"


@pytest.mark.parametrize(
    ("changed", "disposition"),
    [
        ({"destCause_value": "17"}, "busy"),
        ({"destCause_value": "19"}, "no_answer"),
        ({"origCause_value": "16"}, "cancelled"),
        ({"origCause_value": "34"}, "congestion"),
        ({"origCause_value": "28"}, "failed"),
        ({"origCause_value": "0"}, "unknown"),
        ({"destCause_value": "393216"}, "unknown"),
    ],
)
def test_an_unanswered_call_says_why(example: SourceProfile, changed: dict[str, str], disposition: str) -> None:
    call = one(example, dateTimeConnect="0", duration="0", **changed)
    assert (call["answer"], call["billable_ms"], call["disposition"]) == (None, 0, disposition)


def test_an_inbound_call_belongs_to_the_number_it_reached(example: SourceProfile) -> None:
    call = one(
        example,
        origDeviceName="SIP-TRUNK-A",
        destDeviceName="SEP1",
        callingPartyNumber="0012125550123",
        originalCalledPartyNumber="02079460018",
        finalCalledPartyNumber="5018",
    )
    assert (call["call_type"], call["caller"], call["callee"], call["user"]) == (
        "user_in",
        "+12125550123",
        "+442079460018",
        "5018",
    )


def test_emergency_is_seen_before_and_after_the_gateway(example: SourceProfile) -> None:
    for changed in (
        {"originalCalledPartyNumber": "9999", "outpulsedCalledPartyNumber": "+441632960999"},
        {"outpulsedCalledPartyNumber": "999"},
        {"originalCalledPartyNumber": "112", "destDeviceName": "SEP2"},
    ):
        call = one(example, **changed)
        assert (call["call_type"], call["callee"]) in (("emergency", "+999"), ("emergency", "+112"))


@pytest.mark.parametrize(
    "changed",
    [
        {"origCalledPartyRedirectReason": "354"},
        {"lastRedirectRedirectReason": "354"},
        {"joinOnBehalfOf": "27"},
        {"destDeviceName": "SEP2"},
    ],
)
def test_recorders_and_calls_inside_the_house_are_legs_even_when_they_took_time(
    example: SourceProfile, changed: dict[str, str]
) -> None:
    record = read(example, HEADER + line(**changed))[1]
    assert (record.kind, record.canonical) == ("leg", None)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"pkid": ""}, "missing_field"),
        ({"cdrRecordType": "3"}, "bad_field"),
        ({"duration": "160"}, "bad_times"),
        ({"duration": "x"}, "bad_field"),
        ({"duration": "-5"}, "bad_field"),
        ({"duration": "86401"}, "bad_field"),
        ({"dateTimeDisconnect": "0"}, "missing_field"),
        ({"dateTimeOrigination": ""}, "missing_field"),
        ({"dateTimeConnect": "99999999999"}, "bad_field"),
        ({"outpulsedCalledPartyNumber": "2125550123"}, "bad_field"),
        ({"origDeviceName": "SIP-TRUNK-2"}, "bad_field"),
        ({"callingPartyNumber": ""}, "missing_field"),
    ],
)
def test_a_row_that_cannot_be_a_call_says_why(example: SourceProfile, changed: dict[str, str], reason: str) -> None:
    record = read(example, HEADER + line(**changed))[1]
    assert (record.canonical, record.reason) == (None, reason)
    assert "2125550123" not in record.detail


def test_a_file_without_names_is_rejected_unless_the_profile_knows_the_order(tmp_path: Path) -> None:
    strict = LAB.replace('"documented"', '"reject"')
    data = TYPES + line()
    assert [record.reason for record in read(profile(tmp_path, strict), data)] == ["", "bad_source_row"]
    [call] = calls(read(profile(tmp_path, LAB.replace("Genesys_Lab_", "SIP-")), data))
    assert call["billable_ms"] == 155_000
    bare = read(profile(tmp_path, strict), line())
    assert [record.reason for record in bare] == ["bad_source_row"]


def test_files_one_after_another_each_with_their_own_columns(example: SourceProfile) -> None:
    fewer = NAMES[:90]
    data = HEADER + TYPES + line() + line(fewer, **{name: name for name in fewer}) + line(fewer, pkid="b")
    assert [call["record_id"] for call in calls(read(example, data))][1] == "cluster1:b"
    wrong = read(example, HEADER + line(fewer))[1]
    assert wrong.detail == f"found 90 columns, expected {len(NAMES)}"


def test_a_header_without_a_needed_column_names_it(example: SourceProfile) -> None:
    names = tuple(name for name in NAMES if name != "duration")
    header, row = read(example, line(names, **{name: name for name in names}) + line(names))
    assert header.detail == "the line of names lacks duration"
    assert row.reason == "bad_source_row"


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('switch = "lab"', "", "switch"),
        ('by = "trunks"', 'by = "dcontext"', "[call_types] by"),
        ('trunks = ["Genesys_Lab_*"]', "", "[call_types] trunks"),
        ("without_names", "without_name", "[cucm] without_name"),
        ('tenant = "lab"', "[tenants]\nsame = true", "[tenants] column"),
    ],
)
def test_faults_of_a_profile_are_named(tmp_path: Path, old: str, new: str, key: str) -> None:
    with pytest.raises(ProfileRefused) as caught:
        profile(tmp_path, LAB.replace(old, new))
    assert caught.value.key == key


@needs_samples
def test_the_one_call_in_nineteen_formats(example: SourceProfile) -> None:
    expected = orjson.loads((SAMPLES / "synthetic" / "expected_canonical.json").read_bytes())
    [call] = calls(read(example, (SAMPLES / "synthetic" / "cucm_cdr.txt").read_bytes()))
    assert call["billable_ms"] == expected["billable_ms_per_source"]["cucm_cdr.txt"]
    for key in ("caller", "callee", "disposition"):
        assert call[key] == expected["call"][key]
    for key in ("start", "answer", "end"):
        assert call[key][:19] == expected["call"][key][:19]


@needs_samples
@pytest.mark.parametrize(
    ("name", "kinds", "billed_ms"),
    [
        ("cdr.txt", ["header", "header", "leg", "leg", "call"], 11_000),
        ("sample_cdr.txt", ["header", "call"], 60_000),
        ("cmr.txt", ["header", "header", "leg", "leg"], 0),
        ("sample_cmr.txt", ["header", "leg"], 0),
    ],
)
def test_real_files(tmp_path: Path, name: str, kinds: list[str], billed_ms: int) -> None:
    data = (SAMPLES / "cucm" / name).read_bytes()
    records = read(profile(tmp_path, LAB), data)
    assert [record.kind for record in records] == kinds
    assert [record.reason for record in records] == [""] * len(kinds)
    assert sum(call["billable_ms"] for call in calls(records)) == billed_ms
    assert b"\n".join(record.raw for record in records) == data.replace(b"\r\n", b"\n").rstrip(b"\n")


def test_two_deliveries_shuffled_in_two_files_give_the_same_records(example: SourceProfile) -> None:
    lines = [line(pkid=f"id-{index}", globalCallID_callId=str(index // 3)) for index in range(40)]
    once = sorted(record.canonical or b"" for record in read(example, HEADER + b"".join(lines))[1:])
    again = lines + lines
    random.Random(7).shuffle(again)
    first, second = HEADER + b"".join(again[:33]), HEADER + TYPES + b"".join(again[33:])
    both = [record.canonical for record in read(example, first) + read(example, second) if record.canonical]
    assert sorted(both) == sorted(once + once)
    assert len({orjson.loads(text)["record_id"] for text in once}) == 40


@given(st.lists(st.tuples(st.integers(0, 900), st.integers(0, 255)), max_size=6), st.integers(0, 400))
def test_mutated_rows_never_stop_the_reader_nor_make_time(
    example: SourceProfile, changes: list[tuple[int, int]], cut: int
) -> None:
    row = bytearray(line())
    for place, value in changes:
        row[place % len(row)] = value
    data = HEADER + bytes(row) + b"\n" + bytes(row[:cut]) + b"\n" + line()
    allowed = sum(int(text) for text in re.findall(rb"[0-9]+", data)) * 1000
    assert sum(call["billable_ms"] for call in calls(read(example, data))) <= allowed
    assert call_of(read(example, HEADER + line())[1])["billable_ms"] == 155_000


@given(st.binary(max_size=300))
def test_any_bytes_are_rejected_and_never_lost(example: SourceProfile, data: bytes) -> None:
    assert all(record.canonical is None for record in read(example, HEADER + data))
