"""OpenSIPS's accounting events and the call records they become."""

import random
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rater.sources import ProfileRefused, load_profile
from tests.sources.support import SAMPLES, calls, needs_samples, profile
from tests.sources.test_kamailio import lines, one, refused, run, wild_values

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "sources" / "opensips.toml"
CDRS = """
source = "opensips"
switch = "proxy1"
[tenants]
same = true
[users]
column = "caller"
column_in = "callee"
[call_types]
by = "numbers"
owned = ["+4420794600"]
[opensips]
records = "cdr"
"""
PAIRS = CDRS.replace('"cdr"', '"transactions"')
PARAMS: dict[str, Any] = {
    "method": "INVITE",
    "from_tag": "as7f01",
    "to_tag": "gK0a11",
    "callid": "b1946ac9-2026@198.51.100.7",
    "sip_code": "200",
    "sip_reason": "OK",
    "time": 1768483812,
    "caller": "+442079460018",
    "callee": "+12125550123",
    "account": "acme",
    "duration": 155,
    "ms_duration": 154550,
    "setuptime": 12,
    "created": 1768483800,
}
TRANSACTION = {
    name: value for name, value in PARAMS.items() if name not in ("duration", "ms_duration", "setuptime", "created")
}
BYE = {**TRANSACTION, "method": "BYE", "from_tag": "gK0a11", "to_tag": "as7f01", "time": 1768483967}


def event(name: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": name, "params": params}


def cdr(**changed: Any) -> dict[str, Any]:
    return event("E_ACC_CDR", **{**PARAMS, **changed})


def test_a_cdr_bills_its_milliseconds_from_the_answer(tmp_path: Path) -> None:
    call = one(tmp_path, cdr(), text=CDRS)
    assert (call["start"], call["answer"]) == ("2026-01-15T13:30:00.000Z", "2026-01-15T13:30:12.000Z")
    assert (call["end"], call["billable_ms"]) == ("2026-01-15T13:32:46.550Z", 154_550)
    assert call["record_id"] == "proxy1:b1946ac9-2026@198.51.100.7:as7f01:gK0a11"
    assert (call["tenant"], call["user"], call["call_type"]) == ("acme", "+442079460018", "user_out")
    assert one(tmp_path, PARAMS, text=CDRS) == call


def test_each_leg_has_an_event_and_one_is_billed(tmp_path: Path) -> None:
    first, second = run(profile(tmp_path, CDRS), lines(cdr(), cdr(callee="+12125550199")))
    assert (first.kind, second.kind, second.canonical, second.reason) == ("call", "repeat", None, "")
    text = CDRS + 'leg = "leg_id"\nbilled_leg = "0"\n'
    rows = [cdr(leg_id="1", callee="+12125550199"), cdr(leg_id="0")]
    leg, call = run(profile(tmp_path, text), lines(*rows))
    assert (leg.kind, leg.canonical) == ("leg", None)
    assert orjson.loads(call.canonical or b"")["record_id"].endswith(":as7f01:gK0a11:0")


def test_another_cdr_of_the_same_dialog_is_a_correction_candidate(tmp_path: Path) -> None:
    call, late = run(profile(tmp_path, CDRS), lines(cdr(), cdr(ms_duration=154_900)))
    assert (late.kind, late.reason, late.canonical) == ("correction", "conflict", None)
    assert late.corrects == orjson.loads(call.canonical or b"")["record_id"]


def test_a_missed_event_is_never_billed(tmp_path: Path) -> None:
    [leg] = run(profile(tmp_path, CDRS), lines(event("E_ACC_MISSED_EVENT", **PARAMS)))
    assert (leg.kind, leg.canonical) == ("leg", None)


def test_an_answered_call_of_no_duration_is_rejected_since_the_cdr_flag_was_forgotten(tmp_path: Path) -> None:
    reason, detail = refused(tmp_path, cdr(duration=0, ms_duration=0), text=CDRS)
    assert (reason, "cdr flag" in detail) == ("bad_times", True)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"ms_duration": None}, "missing_field"),
        ({"ms_duration": 90_000_000, "duration": 90_000}, "bad_field"),
        ({"ms_duration": 154_550.5}, "bad_field"),
        ({"ms_duration": -5}, "bad_field"),
        ({"duration": 160}, "bad_times"),
        ({"duration": "OK"}, "bad_field"),
        ({"created": 1768483900}, "bad_times"),
        ({"callid": None}, "missing_field"),
        ({"account": None}, "missing_field"),
        ({"callee": "12125550123"}, "bad_field"),
        ({"sip_code": "OK"}, "bad_field"),
    ],
)
def test_shifted_or_missing_values_are_rejected(tmp_path: Path, changed: dict[str, Any], reason: str) -> None:
    found, detail = refused(tmp_path, cdr(**changed), text=CDRS)
    assert found == reason
    assert "2125550123" not in detail


def test_whole_seconds_are_billed_only_where_the_profile_says_so(tmp_path: Path) -> None:
    call = one(tmp_path, cdr(ms_duration=None), text=CDRS + "whole_seconds = true\n")
    assert call["billable_ms"] == 155_000


def test_beside_cdrs_only_refused_transactions_count(tmp_path: Path) -> None:
    rows = [event("E_ACC_EVENT", **TRANSACTION), event("E_ACC_EVENT", **BYE)]
    assert [record.kind for record in run(profile(tmp_path, CDRS), lines(*rows))] == ["leg", "leg"]
    busy = one(tmp_path, event("E_ACC_EVENT", **{**TRANSACTION, "sip_code": "486"}), text=CDRS)
    assert (busy["disposition"], busy["billable_ms"]) == ("busy", 0)


def test_transactions_are_paired_where_the_profile_bills_them(tmp_path: Path) -> None:
    call = one(tmp_path, event("E_ACC_EVENT", **TRANSACTION), event("E_ACC_EVENT", **BYE), text=PAIRS)
    assert (call["billable_ms"], call["disposition"]) == (155_000, "answered")
    assert one(tmp_path, BYE, TRANSACTION, text=PAIRS) == call
    [leg] = run(profile(tmp_path, PAIRS), lines(cdr()))
    assert leg.kind == "leg"


def test_an_event_of_another_kind_is_a_leg_and_no_event_is_rejected(tmp_path: Path) -> None:
    [leg] = run(profile(tmp_path, CDRS), lines(event("E_UL_CONTACT_INSERT", aor="x")))
    assert leg.kind == "leg"
    assert refused(tmp_path, {"a": 1}, text=CDRS)[0] == "bad_source_row"
    assert refused(tmp_path, {"params": {}}, text=CDRS)[0] == "bad_field"


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('records = "cdr"', "", "[opensips] records"),
        ('records = "cdr"', 'records = "cdr"\nleg = "leg_id"', "[opensips] leg, billed_leg"),
        ('column = "caller"\n', "", "[users] column"),
    ],
)
def test_a_profile_that_leaves_something_open_is_refused(tmp_path: Path, old: str, new: str, key: str) -> None:
    with pytest.raises(ProfileRefused) as caught:
        profile(tmp_path, CDRS.replace(old, new))
    assert caught.value.key == key


def test_everything_twice_shuffled_and_in_two_files_gives_the_same_calls(tmp_path: Path) -> None:
    rows = []
    for k in range(80):
        rows.append(cdr(callid=f"c{k}", time=1768483812 + k, ms_duration=1000 * (k + 1), duration=k + 1))
        rows.append(
            event("E_ACC_EVENT", **{**TRANSACTION, "callid": f"b{k}", "sip_code": "486", "time": 1768483812 + k})
        )
    prof = profile(tmp_path, CDRS)
    once = {call["record_id"]: call for call in calls(run(prof, lines(*rows)))}
    assert len(once) == 160
    twice = rows + rows
    random.Random(8).shuffle(twice)
    for files in ([lines(*rows), lines(*rows)], [lines(*twice[:50]), lines(*twice[50:])]):
        records = run(prof, *files)
        assert {call["record_id"]: call for call in calls(records)} == once
        assert sum(record.parts for record in records) == len(twice)
        assert sum(call["billable_ms"] for call in calls(records)) == sum(call["billable_ms"] for call in once.values())


def test_the_example_profile_is_accepted() -> None:
    if not EXAMPLE.is_file():
        pytest.skip("docs/ is not installed with the package")
    assert load_profile(EXAMPLE).source == "opensips"


@needs_samples
def test_the_one_call_from_the_sample(tmp_path: Path) -> None:
    name = "opensips_E_ACC_CDR.json"
    expected = orjson.loads((SAMPLES / "synthetic" / "expected_canonical.json").read_bytes())
    [call] = calls(run(profile(tmp_path, CDRS), (SAMPLES / "synthetic" / name).read_bytes()))
    for key in ("call_id", "tenant", "caller", "callee", "disposition"):
        assert call[key] == expected["call"][key]
    for key in ("start", "answer"):
        assert call[key][:19] == expected["call"][key][:19]
    assert call["billable_ms"] == expected["billable_ms_per_source"][name]


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from(sorted(PARAMS)), wild_values())),
    name=st.sampled_from(["E_ACC_CDR", "E_ACC_EVENT"]),
)
def test_wild_values_crash_nothing_and_invent_no_second(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, Any]], name: str
) -> None:
    made = [event(name, **{**PARAMS, key: value}) for key, value in rows]
    for text in (CDRS, PAIRS):
        found = calls(run(profile(tmp_path_factory.mktemp("p"), text), lines(*made)))
        figures = [row["params"]["ms_duration"] for row in made]
        given_ms = sum(int(ms) for ms in figures if str(ms).isdecimal())
        assert sum(call["billable_ms"] for call in found) <= given_ms


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, 500), byte=st.integers(0, 255), cut=st.integers(0, 500))
def test_mutated_bytes_crash_nothing(tmp_path_factory: pytest.TempPathFactory, place: int, byte: int, cut: int) -> None:
    data = bytearray(lines(cdr()))
    data[place % len(data)] = byte
    prof = profile(tmp_path_factory.mktemp("p"), CDRS)
    for mutated in (bytes(data), bytes(data[: cut % len(data)])):
        for record in run(prof, mutated):
            assert record.canonical is not None or record.reason or record.kind == "leg"
