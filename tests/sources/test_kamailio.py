"""Kamailio's transactions, paired to calls, and the CDRs of its dialogs."""

import io
import random
import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rater.sources import Assembling, ProfileRefused, SourceProfile, SourceRecord, load_profile, open_source
from tests.sources.support import SAMPLES, call_of, calls, needs_samples, profile

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "sources" / "kamailio.toml"
PAIRS = """
source = "kamailio"
switch = "edge1"
[tenants]
same = true
[users]
column = "src_user"
column_in = "dst_user"
[call_types]
by = "numbers"
owned = ["+4420794600"]
[kamailio]
records = "transactions"
"""
CDRS = PAIRS.replace('"transactions"', '"cdr"\ncdr_start_on_confirmed = true')
INVITE: dict[str, Any] = {
    "method": "INVITE",
    "from_tag": "as7f01",
    "to_tag": "gK0a11",
    "callid": "b1946ac9-2026@198.51.100.7",
    "sip_code": "200",
    "sip_reason": "OK",
    "time": 1768483812,
    "src_user": "+442079460018",
    "dst_user": "+12125550123",
    "account": "acme",
}
BYE = {
    **INVITE,
    "method": "BYE",
    "from_tag": "gK0a11",
    "to_tag": "as7f01",
    "time": 1768483967,
    "src_user": "+12125550123",
    "dst_user": "+442079460018",
}
CDR: dict[str, Any] = {
    "start_time": "1768483812.700",
    "end_time": "1768483967.250",
    "duration": "154.550",
    "callid": "b1946ac9-2026@198.51.100.7",
    "src_user": "+442079460018",
    "dst_user": "+12125550123",
    "account": "acme",
}


def lines(*rows: dict[str, Any]) -> bytes:
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


def run(prof: SourceProfile, *files: bytes) -> list[SourceRecord]:
    """All files through one source, as a run reads them, and the end."""
    source = open_source(prof.source, prof)
    assert isinstance(source, Assembling)
    found = [record for data in files for record in source.read(io.BytesIO(data))]
    return [*found, *source.close()]


def one(folder: Path, *rows: dict[str, Any], text: str = PAIRS) -> dict[str, Any]:
    [record] = run(profile(folder, text), lines(*rows))
    return call_of(record)


def refused(folder: Path, *rows: dict[str, Any], text: str = PAIRS) -> tuple[str, str]:
    [record] = run(profile(folder, text), lines(*rows))
    assert record.canonical is None
    return record.reason, record.detail


def test_an_answered_invite_and_its_bye_are_one_call_whoever_hangs_up(tmp_path: Path) -> None:
    call = one(tmp_path, INVITE, BYE)
    assert call["record_id"] == "edge1:b1946ac9-2026@198.51.100.7:as7f01:gK0a11:INVITE"
    assert call["start"] == call["answer"] == "2026-01-15T13:30:12.000Z"
    assert (call["end"], call["billable_ms"]) == ("2026-01-15T13:32:47.000Z", 155_000)
    assert (call["tenant"], call["user"], call["caller"]) == ("acme", "+442079460018", "+442079460018")
    assert (call["callee"], call["call_type"], call["disposition"]) == ("+12125550123", "user_out", "answered")
    by_caller = {**BYE, "from_tag": "as7f01", "to_tag": "gK0a11"}
    assert one(tmp_path, by_caller, INVITE) == call


def test_a_call_from_outside_is_inbound(tmp_path: Path) -> None:
    swapped: Any = {"src_user": "+12125550123", "dst_user": "+442079460018"}
    call = one(tmp_path, {**INVITE, **swapped}, BYE)
    assert (call["call_type"], call["user"], call["caller"]) == ("user_in", "+442079460018", "+12125550123")


def test_numbers_may_stand_in_uris(tmp_path: Path) -> None:
    call = one(tmp_path, {**INVITE, "src_user": "sip:+442079460018@a.example", "dst_user": "tel:+12125550123"}, BYE)
    assert (call["caller"], call["callee"]) == ("+442079460018", "+12125550123")


@pytest.mark.parametrize(
    ("code", "disposition"), [("486", "busy"), ("487", "cancelled"), ("408", "no_answer"), ("404", "failed")]
)
def test_a_refused_invite_is_a_call_that_costs_nothing(tmp_path: Path, code: str, disposition: str) -> None:
    call = one(tmp_path, {**INVITE, "sip_code": code})
    assert (call["answer"], call["billable_ms"], call["disposition"]) == (None, 0, disposition)
    assert call["record_id"].endswith(f":INVITE:{code}:1768483812000")


def test_challenges_and_other_methods_are_legs(tmp_path: Path) -> None:
    for changed in ({"sip_code": "407"}, {"sip_code": "401"}, {"method": "CANCEL"}, {"method": "MESSAGE"}):
        [leg] = run(profile(tmp_path, PAIRS), lines({**INVITE, **changed}))
        assert (leg.kind, leg.reason, leg.canonical) == ("leg", "", None)


def test_a_call_without_its_bye_is_rejected_with_its_bytes(tmp_path: Path) -> None:
    [record] = run(profile(tmp_path, PAIRS), lines(INVITE))
    assert (record.reason, record.kind, record.raw) == ("missing_field", "incomplete", orjson.dumps(INVITE))
    assert "no BYE came" in record.detail
    assert "no answered INVITE" in refused(tmp_path, BYE)[1]


def test_a_call_whose_bye_does_not_come_is_closed_by_record_time(tmp_path: Path) -> None:
    later = [{**INVITE, "callid": f"later-{k}", "time": 1768483812 + 90_001 + k} for k in range(5)]
    prof = profile(tmp_path, PAIRS)
    found = list(open_source(prof.source, prof).read(io.BytesIO(lines(INVITE, *later))))
    assert [(record.kind, record.raw) for record in found] == [("incomplete", orjson.dumps(INVITE))]


def test_a_re_invite_changes_nothing(tmp_path: Path) -> None:
    again = {**INVITE, "from_tag": "gK0a11", "to_tag": "as7f01", "time": 1768483900, "src_user": "", "dst_user": ""}
    assert one(tmp_path, INVITE, again, BYE) == one(tmp_path, INVITE, BYE)
    assert one(tmp_path, again, INVITE, BYE) == one(tmp_path, INVITE, BYE)


def test_a_second_bye_is_a_correction_candidate_and_no_second_call(tmp_path: Path) -> None:
    call, late = run(profile(tmp_path, PAIRS), lines(INVITE, BYE, {**BYE, "time": 1768483969}))
    assert (late.canonical, late.kind, late.reason) == (None, "correction", "conflict")
    assert late.corrects == call_of(call)["record_id"]


def test_a_bye_before_its_invite_is_bad_times(tmp_path: Path) -> None:
    assert refused(tmp_path, INVITE, {**BYE, "time": 1768483000})[0] == "bad_times"


def test_forks_of_one_callid_are_calls_of_their_own(tmp_path: Path) -> None:
    rows = [INVITE, {**INVITE, "to_tag": "other"}, BYE, {**BYE, "from_tag": "other"}]
    first, second = calls(run(profile(tmp_path, PAIRS), lines(*rows)))
    assert first["record_id"] != second["record_id"]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"callid": ""}, "missing_field"),
        ({"to_tag": None}, "missing_field"),
        ({"time": None}, "missing_field"),
        ({"time": True}, "bad_field"),
        ({"time": "2026-01-15 13:30:12"}, "bad_field"),
        ({"sip_code": "100"}, "bad_field"),
        ({"sip_code": "\u0662\u0660\u0660"}, "bad_field"),
        ({"method": []}, "bad_field"),
        ({"dst_user": "NON-UTF8"}, "bad_field"),
        ({"src_user": {"a": 1}}, "bad_field"),
    ],
)
def test_a_value_that_cannot_be_read_rejects_its_record_at_once(
    tmp_path: Path, changed: dict[str, Any], reason: str
) -> None:
    assert refused(tmp_path, {**INVITE, **changed})[0] == reason


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"dst_user": "2125550123"}, "bad_field"),
        ({"dst_user": ""}, "missing_field"),
        ({"account": ""}, "missing_field"),
    ],
)
def test_what_the_profile_does_not_explain_rejects_the_call_with_both_parts(
    tmp_path: Path, changed: dict[str, Any], reason: str
) -> None:
    invite = {**INVITE, **changed}
    [record] = run(profile(tmp_path, PAIRS), lines(invite, BYE))
    assert (record.reason, record.parts) == (reason, 2)
    assert record.raw == orjson.dumps(invite) + b"\n" + orjson.dumps(BYE)
    assert "2125550123" not in record.detail


def test_wall_clock_times_need_the_profiles_zone_and_are_never_one_of_two(tmp_path: Path) -> None:
    text = PAIRS.replace("[tenants]", 'zone = "Europe/London"\n[tenants]', 1)
    summer = [{**INVITE, "time": "2026-07-01 12:00:00"}, {**BYE, "time": "2026-07-01 12:01:00"}]
    assert one(tmp_path, *summer, text=text)["start"] == "2026-07-01T11:00:00.000Z"
    reason, detail = refused(tmp_path, {**INVITE, "time": "2026-10-25 01:30:00"}, text=text)
    assert (reason, "comes twice" in detail) == ("bad_times", True)


# CDRs of dialogs.


def test_a_cdr_bills_its_duration(tmp_path: Path) -> None:
    call = one(tmp_path, CDR, text=CDRS)
    assert (call["start"], call["answer"]) == ("2026-01-15T13:30:12.700Z", "2026-01-15T13:30:12.700Z")
    assert (call["end"], call["billable_ms"]) == ("2026-01-15T13:32:47.250Z", 154_550)
    assert call["record_id"] == "edge1:b1946ac9-2026@198.51.100.7:::1768483812.700"


def test_a_failed_dialog_costs_nothing_and_its_code_says_why(tmp_path: Path) -> None:
    failed = {**CDR, "duration": "0", "end_time": "1768483820.000"}
    assert one(tmp_path, failed, text=CDRS)["disposition"] == "unknown"
    busy = one(tmp_path, {**failed, "sip_code": "486"}, text=CDRS)
    assert (busy["answer"], busy["disposition"], busy["billable_ms"]) == (None, "busy", 0)
    assert one(tmp_path, {**CDR, "sip_code": "487"}, text=CDRS)["disposition"] == "cancelled"


def test_a_duration_beyond_a_day_or_beside_its_times_is_rejected(tmp_path: Path) -> None:
    assert refused(tmp_path, {**CDR, "duration": "136298900000"}, text=CDRS)[0] == "bad_field"
    assert refused(tmp_path, {**CDR, "duration": "90000"}, text=CDRS)[0] == "bad_field"
    assert refused(tmp_path, {**CDR, "duration": "160"}, text=CDRS)[0] == "bad_times"
    assert refused(tmp_path, {**CDR, "callid": ""}, text=CDRS)[0] == "missing_field"


def test_the_kind_that_is_not_billed_is_a_leg_and_what_is_neither_is_rejected(tmp_path: Path) -> None:
    [leg] = run(profile(tmp_path, CDRS), lines(INVITE))
    assert (leg.kind, leg.reason) == ("leg", "")
    [leg] = run(profile(tmp_path, PAIRS), lines(CDR))
    assert (leg.kind, leg.reason) == ("leg", "")
    assert refused(tmp_path, {"a": 1})[0] == "bad_source_row"


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('records = "transactions"', "", "[kamailio] records"),
        ('records = "transactions"', 'records = "cdr"', "[kamailio] cdr_start_on_confirmed"),
        ('records = "transactions"', 'records = "transactions"\nclose_after_s = 5', "[kamailio] close_after_s"),
        ('records = "transactions"', 'records = "transactions"\ncalle = "x"', "[kamailio] calle"),
        ('switch = "edge1"', "", "switch"),
        ('by = "numbers"', 'by = "trunks"\ntrunks = ["c"]', "[kamailio] trunk_in, trunk_out"),
        ('by = "numbers"', 'by = "column"\n[call_types.map]\na = "user_out"', "[call_types.map] owned"),
    ],
)
def test_a_profile_that_leaves_something_open_is_refused(tmp_path: Path, old: str, new: str, key: str) -> None:
    with pytest.raises(ProfileRefused) as caught:
        profile(tmp_path, PAIRS.replace(old, new))
    assert caught.value.key == key


# Twice, shuffled, in two files, and over a restart.


def traffic(count: int) -> list[dict[str, Any]]:
    rows = []
    for k in range(count):
        at = 1768483812 + 7 * k
        rows.append({**INVITE, "callid": f"c{k}", "time": at})
        rows.append({**BYE, "callid": f"c{k}", "time": at + k % 300})
        rows.append({**INVITE, "callid": f"busy{k}", "sip_code": "486", "time": at + 1})
    return rows


def test_everything_twice_shuffled_and_in_two_files_gives_the_same_calls(tmp_path: Path) -> None:
    prof = profile(tmp_path, PAIRS)
    rows = traffic(60)
    once = {call["record_id"]: call for call in calls(run(prof, lines(*rows)))}
    assert len(once) == 120
    twice = rows + rows
    random.Random(3).shuffle(twice)
    for files in ([lines(*rows), lines(*rows)], [lines(*twice)], [lines(*twice[:99]), lines(*twice[99:])]):
        records = run(prof, *files)
        assert {call["record_id"]: call for call in calls(records)} == once
        assert sum(record.parts for record in records) == len(twice)
        paired = [call["record_id"] for call in calls(records) if call["answer"]]
        assert len(paired) == len(set(paired)) == 60


def test_a_restart_between_any_two_files_changes_nothing(tmp_path: Path) -> None:
    prof = profile(tmp_path, PAIRS)
    rows = traffic(20)
    random.Random(4).shuffle(rows)
    whole = run(prof, lines(*rows))
    for cut in range(0, len(rows), 7):
        first, second = open_source(prof.source, prof), open_source(prof.source, prof)
        assert isinstance(first, Assembling)
        assert isinstance(second, Assembling)
        found = list(first.read(io.BytesIO(lines(*rows[:cut]))))
        second.resume(first.open_calls())
        found += second.read(io.BytesIO(lines(*rows[cut:])))
        assert [*found, *second.close()] == whole


# Samples, examples, and what nobody expected.


def test_the_example_profile_is_accepted() -> None:
    if not EXAMPLE.is_file():
        pytest.skip("docs/ is not installed with the package")
    assert load_profile(EXAMPLE).source == "kamailio"


@needs_samples
@pytest.mark.parametrize(
    ("name", "text"), [("kamailio_acc_json_transactions.jsonl", PAIRS), ("kamailio_acc_json_cdr.json", CDRS)]
)
def test_the_one_call_from_each_sample(tmp_path: Path, name: str, text: str) -> None:
    expected = orjson.loads((SAMPLES / "synthetic" / "expected_canonical.json").read_bytes())
    [call] = calls(run(profile(tmp_path, text), (SAMPLES / "synthetic" / name).read_bytes()))
    for key in ("call_id", "tenant", "caller", "callee", "disposition"):
        assert call[key] == expected["call"][key]
    for key in ("answer", "end"):
        assert call[key][:19] == expected["call"][key][:19]
    assert call["billable_ms"] == expected["billable_ms_per_source"][name]


def wild_values() -> st.SearchStrategy[Any]:
    return (
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats()
        | st.text()
        | st.lists(st.booleans(), max_size=2)
    )


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from([INVITE, BYE, CDR]), st.sampled_from(sorted({*INVITE, *CDR})), wild_values())
    )
)
def test_wild_values_crash_nothing_and_invent_no_second(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[dict[str, Any], str, Any]]
) -> None:
    made = [{**row, name: value} for row, name, value in rows]
    for text in (PAIRS, CDRS):
        records = run(profile(tmp_path_factory.mktemp("p"), text), lines(*made))
        for call in calls(records):
            assert call["billable_ms"] == 0 or call["start"] != call["end"]


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, 500), byte=st.integers(0, 255), cut=st.integers(0, 500))
def test_mutated_bytes_crash_nothing_and_invent_no_second(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int, cut: int
) -> None:
    data = bytearray(lines(INVITE, BYE))
    data[place % len(data)] = byte
    prof = profile(tmp_path_factory.mktemp("p"), PAIRS)
    for mutated in (bytes(data), bytes(data[: cut % len(data)])):
        seconds = [int(digits) for digits in re.findall(rb"[0-9]{9,11}", mutated)]
        billed = sum(call["billable_ms"] for call in calls(run(prof, mutated)))
        assert billed <= (max(seconds, default=0) - min(seconds, default=0)) * 1000
