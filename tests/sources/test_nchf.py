"""Messages of converged charging (TS 32.291), put together to calls."""

import copy
import io
import random
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rater.sources import Assembling, ProfileRefused, load_profile, open_source
from tests.sources.support import SAMPLES, call_of, calls, needs_samples, profile
from tests.sources.test_kamailio import lines, run, wild_values

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "sources" / "3gpp-json.toml"
TEXT = """
source = "3gpp-json"
switch = "chf1"
tenant = "acme"
[users]
column = "subscriberIdentifier"
[call_types]
by = "numbers"
owned = ["+4420794600"]
[3gpp]
session = ["iMSChargingInformation.iMSChargingIdentifier"]
create = "answer"
"""
SAMPLE = TEXT.replace(
    '["iMSChargingInformation.iMSChargingIdentifier"]',
    '["subscriberIdentifier", "nfConsumerIdentification.nFName", "iMSChargingInformation.calledPartyAddress"]',
)
T0 = "2026-01-15T13:30:12.700Z"
STAMPS = [T0, "2026-01-15T13:31:12.700Z", "2026-01-15T13:32:12.700Z", "2026-01-15T13:32:47.250Z"]
USED: list[int | None] = [None, 60, 60, 35]
WORDS = ["create", "update", "update", "release"]


def message(place: int, session: str = "icid-1", group: int = 100, **changed: Any) -> dict[str, Any]:
    """One of the four messages of the common call."""
    used = USED[place]
    unit: dict[str, Any] = {"ratingGroup": group}
    if used is not None:
        unit["usedUnitContainer"] = [{"localSequenceNumber": place, "time": used}]
    body = {
        "subscriberIdentifier": "msisdn-442079460018",
        "nfConsumerIdentification": {"nodeFunctionality": "IMS_Node", "nFName": "nf"},
        "invocationTimeStamp": STAMPS[place],
        "invocationSequenceNumber": place + 1,
        "multipleUnitUsage": [unit],
        "iMSChargingInformation": {"calledPartyAddress": "+12125550123", "iMSChargingIdentifier": session},
    }
    return {"op": WORDS[place], "body": body | changed}


def session(name: str = "icid-1", group: int = 100) -> list[dict[str, Any]]:
    return [message(place, name, group) for place in range(4)]


def one(folder: Path, *rows: dict[str, Any], text: str = TEXT) -> dict[str, Any]:
    [record] = run(profile(folder, text), lines(*rows))
    return call_of(record)


def refused(folder: Path, *rows: dict[str, Any], text: str = TEXT) -> tuple[str, str]:
    [record] = run(profile(folder, text), lines(*rows))
    assert record.canonical is None
    return record.reason, record.detail


def test_what_each_message_reports_adds_up(tmp_path: Path) -> None:
    call = one(tmp_path, *session())
    assert (call["start"], call["answer"], call["end"]) == (T0, T0, STAMPS[3])
    assert (call["billable_ms"], call["disposition"]) == (155_000, "answered")
    assert call["record_id"] == "chf1:icid-1:1768483812700"
    assert (call["caller"], call["callee"], call["call_id"]) == ("+442079460018", "+12125550123", "icid-1")
    assert (call["user"], call["call_type"]) == ("msisdn-442079460018", "user_out")


def test_messages_may_come_in_any_order(tmp_path: Path) -> None:
    assert one(tmp_path, *reversed(session())) == one(tmp_path, *session())


def test_a_retransmission_counts_once(tmp_path: Path) -> None:
    rows = session()
    rows.insert(2, {**rows[1], "body": {**rows[1]["body"], "retransmissionIndicator": True}})
    repeated, call = run(profile(tmp_path, TEXT), lines(*rows))
    assert (repeated.kind, repeated.reason) == ("repeat", "")
    assert call_of(call)["billable_ms"] == 155_000


@pytest.mark.parametrize(
    ("missing", "said"), [(0, "(create) never came"), (1, "1 of its messages"), (3, "(release) never came")]
)
def test_a_gap_waits_and_ends_as_a_rejection_with_what_came(tmp_path: Path, missing: int, said: str) -> None:
    rows = session()
    gone = rows.pop(missing)
    [record] = run(profile(tmp_path, TEXT), lines(*rows))
    assert (record.kind, record.reason, record.parts) == ("incomplete", "missing_field", 3)
    assert said in record.detail
    assert record.raw.split(b"\n") == [orjson.dumps(row) for row in rows]
    assert one(tmp_path, *rows, gone)["billable_ms"] == 155_000


def test_two_messages_of_one_number_that_differ_reject_the_session(tmp_path: Path) -> None:
    rows = session()
    rows.insert(1, message(1, invocationTimeStamp="2026-01-15T13:31:13.000Z"))
    assert refused(tmp_path, *rows)[0] == "conflict"


def test_a_message_after_the_release_is_a_correction_candidate(tmp_path: Path) -> None:
    call, late = run(profile(tmp_path, TEXT), lines(*session(), message(3, invocationSequenceNumber=5)))
    assert (late.kind, late.reason, late.corrects) == ("correction", "conflict", call_of(call)["record_id"])


def test_one_container_reported_twice_counts_once_and_with_two_times_not_at_all(tmp_path: Path) -> None:
    rows = session()
    containers = rows[2]["body"]["multipleUnitUsage"][0]["usedUnitContainer"]
    containers.append({"localSequenceNumber": 1, "time": 60})
    assert one(tmp_path, *rows)["billable_ms"] == 155_000
    containers[-1]["time"] = 61
    assert refused(tmp_path, *rows)[0] == "conflict"


def test_the_rating_group_that_counts_is_never_guessed(tmp_path: Path) -> None:
    rows = session()
    for row in rows[1:]:
        video = copy.deepcopy(row["body"]["multipleUnitUsage"][0])
        video["ratingGroup"] = 200
        row["body"]["multipleUnitUsage"].append(video)
    reason, detail = refused(tmp_path, *rows)
    assert (reason, "2 groups report time" in detail) == ("bad_field", True)
    assert one(tmp_path, *rows, text=TEXT + "rating_groups = [100]\n")["billable_ms"] == 155_000
    assert refused(tmp_path, *rows, text=TEXT + "rating_groups = [100, 200]\n")[0] == "bad_times"
    assert refused(tmp_path, *rows, text=TEXT + "rating_groups = [300]\n")[0] == "bad_field"


def test_seconds_rounded_up_per_container_are_rejected_or_cut_to_the_talking_time(tmp_path: Path) -> None:
    rows = session()
    rows[1]["body"]["multipleUnitUsage"][0]["usedUnitContainer"] = [
        {"localSequenceNumber": 10 + k, "time": 21} for k in range(3)
    ]
    assert refused(tmp_path, *rows)[0] == "bad_times"
    assert one(tmp_path, *rows, text=TEXT + 'rounding = "times"\n')["billable_ms"] == 154_550
    rows[3]["body"]["multipleUnitUsage"][0]["usedUnitContainer"][0]["time"] = 45
    assert refused(tmp_path, *rows, text=TEXT + 'rounding = "times"\n')[0] == "bad_times"


def test_a_session_that_begins_with_the_invite_is_answered_where_its_used_time_begins(tmp_path: Path) -> None:
    rows = session()
    rows[0]["body"]["invocationTimeStamp"] = "2026-01-15T13:30:00.200Z"
    call = one(tmp_path, *rows, text=TEXT.replace('"answer"', '"invite"'))
    assert (call["start"], call["answer"]) == ("2026-01-15T13:30:00.200Z", "2026-01-15T13:30:12.250Z")
    assert call["billable_ms"] == 155_000
    assert refused(tmp_path, *rows)[0] == "bad_times"


def test_a_session_without_used_time_was_not_answered(tmp_path: Path) -> None:
    call = one(tmp_path, message(0), {"op": "release", "body": {**message(0)["body"], "invocationSequenceNumber": 2}})
    assert (call["answer"], call["billable_ms"], call["disposition"]) == (None, 0, "unknown")


def test_bodies_alone_are_told_apart_by_what_they_report(tmp_path: Path) -> None:
    rows = [row["body"] for row in session()]
    rows[3]["multipleUnitUsage"][0]["usedUnitContainer"][0]["triggers"] = [{"triggerType": "FINAL"}]
    assert one(tmp_path, *rows) == one(tmp_path, *session())


def test_two_calls_of_a_session_name_that_is_not_unique_are_two_calls(tmp_path: Path) -> None:
    later = session()
    for row, stamp in zip(later, STAMPS, strict=True):
        row["body"]["invocationTimeStamp"] = stamp.replace("T13", "T15")
    first, second = calls(run(profile(tmp_path, SAMPLE), lines(*session(), *later)))
    assert (first["billable_ms"], second["billable_ms"]) == (155_000, 155_000)
    assert first["record_id"] != second["record_id"]


def test_the_role_may_say_what_kind_of_call_it_is(tmp_path: Path) -> None:
    text = TEXT.replace(
        'by = "numbers"\nowned = ["+4420794600"]',
        'by = "column"\ncolumn = "iMSChargingInformation.roleOfNode"\n[call_types.map]\nMO = "user_out"',
    )
    rows = session()
    rows[0]["body"]["iMSChargingInformation"]["roleOfNode"] = "MO"
    assert one(tmp_path, *rows, text=text)["call_type"] == "user_out"
    rows[0]["body"]["iMSChargingInformation"]["roleOfNode"] = "MT"
    assert refused(tmp_path, *rows, text=text)[0] == "bad_field"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"invocationSequenceNumber": None}, "missing_field"),
        ({"invocationSequenceNumber": "1"}, "bad_field"),
        ({"invocationSequenceNumber": True}, "bad_field"),
        ({"invocationTimeStamp": "2026-01-15T13:30:12"}, "bad_field"),
        ({"invocationTimeStamp": None}, "missing_field"),
        ({"iMSChargingInformation": None}, "missing_field"),
        ({"multipleUnitUsage": 5}, "bad_field"),
        ({"multipleUnitUsage": [{"ratingGroup": -1}]}, "bad_field"),
        (
            {
                "multipleUnitUsage": [
                    {"ratingGroup": 1, "usedUnitContainer": [{"localSequenceNumber": 1, "time": 60.5}]}
                ]
            },
            "bad_field",
        ),
        ({"multipleUnitUsage": [{"ratingGroup": 1, "usedUnitContainer": [{"time": 60}]}]}, "bad_field"),
    ],
)
def test_a_message_that_cannot_be_read_is_rejected_at_once(
    tmp_path: Path, changed: dict[str, Any], reason: str
) -> None:
    assert refused(tmp_path, message(1, **changed))[0] == reason


def test_a_one_time_event_is_a_leg_and_an_unknown_operation_is_rejected(tmp_path: Path) -> None:
    [leg] = run(profile(tmp_path, TEXT), lines(message(0, oneTimeEvent=True)))
    assert (leg.kind, leg.reason) == ("leg", "")
    assert refused(tmp_path, {**message(0), "op": "notify"})[0] == "bad_field"


def test_a_callee_that_no_rule_explains_rejects_the_call_with_all_its_messages(tmp_path: Path) -> None:
    rows = session()
    for row in rows:
        row["body"]["iMSChargingInformation"]["calledPartyAddress"] = "tel:2125550123"
    [record] = run(profile(tmp_path, TEXT), lines(*rows))
    assert (record.reason, record.parts) == ("bad_field", 4)
    assert "2125550123" not in record.detail


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('create = "answer"', "", "[3gpp] create"),
        ('session = ["iMSChargingInformation.iMSChargingIdentifier"]', "", "[3gpp] session"),
        ('create = "answer"', 'create = "answer"\nrating_groups = ["100"]', "[3gpp] rating_groups"),
        ('create = "answer"', 'create = "answer"\nrounding = "up"', "[3gpp] rounding"),
        ('switch = "chf1"', 'switch = "chf1"\nzone = "UTC"', "zone"),
        ('by = "numbers"', 'by = "trunks"', "[call_types] by"),
    ],
)
def test_a_profile_that_leaves_something_open_is_refused(tmp_path: Path, old: str, new: str, key: str) -> None:
    with pytest.raises(ProfileRefused) as caught:
        profile(tmp_path, TEXT.replace(old, new))
    assert caught.value.key == key


def test_everything_twice_shuffled_in_two_files_and_over_a_restart_gives_the_same_calls(tmp_path: Path) -> None:
    prof = profile(tmp_path, TEXT)
    rows = [row for k in range(40) for row in session(f"icid-{k}")]
    once = {call["record_id"]: call for call in calls(run(prof, lines(*rows)))}
    assert len(once) == 40
    twice = rows + rows
    random.Random(6).shuffle(twice)
    for files in ([lines(*rows), lines(*rows)], [lines(*twice[:111]), lines(*twice[111:])]):
        records = run(prof, *files)
        found = calls(records)
        assert len(found) == 40
        assert {call["record_id"]: call for call in found} == once
        assert sum(record.parts for record in records) == len(twice)
    first, second = open_source(prof.source, prof), open_source(prof.source, prof)
    assert isinstance(first, Assembling)
    assert isinstance(second, Assembling)
    begun = list(first.read(io.BytesIO(lines(*twice[:77]))))
    second.resume(first.open_calls())
    assert [*begun, *second.read(io.BytesIO(lines(*twice[77:]))), *second.close()] == run(prof, lines(*twice))


def test_the_example_profile_is_accepted() -> None:
    if not EXAMPLE.is_file():
        pytest.skip("docs/ is not installed with the package")
    assert load_profile(EXAMPLE).source == "3gpp-json"


@needs_samples
def test_the_one_call_from_the_sample(tmp_path: Path) -> None:
    name = "nchf_32291.jsonl"
    expected = orjson.loads((SAMPLES / "synthetic" / "expected_canonical.json").read_bytes())
    data = (SAMPLES / "synthetic" / name).read_bytes()
    records = run(profile(tmp_path, SAMPLE), data)
    [call] = calls(records)
    assert [record.kind for record in records] == ["repeat", "call"]
    for key in ("tenant", "caller", "callee", "answer", "end", "disposition"):
        assert call[key] == expected["call"][key]
    assert call["billable_ms"] == expected["billable_ms_per_source"][name] == 155_000
    assert [record.canonical for record in run(profile(tmp_path, SAMPLE), data, data) if record.canonical] == [
        records[1].canonical
    ]


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(sorted(message(0)["body"])), wild_values()), max_size=8)
)
def test_wild_values_crash_nothing_and_invent_no_second(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, str, Any]]
) -> None:
    made = [message(place, **{name: value}) for place, name, value in rows] + session("other")
    random.Random(len(made)).shuffle(made)
    records = run(profile(tmp_path_factory.mktemp("p"), TEXT), lines(*made))
    assert sum(record.parts for record in records) == len(made)
    given_s = sum(USED[place] or 0 for place, _, _ in rows) + 155
    assert sum(call["billable_ms"] for call in calls(records)) <= given_s * 1000


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, 3000), byte=st.integers(0, 255), cut=st.integers(0, 3000))
def test_mutated_bytes_crash_nothing(tmp_path_factory: pytest.TempPathFactory, place: int, byte: int, cut: int) -> None:
    data = bytearray(lines(*session()))
    data[place % len(data)] = byte
    prof = profile(tmp_path_factory.mktemp("p"), TEXT)
    for mutated in (bytes(data), bytes(data[: cut % len(data)])):
        for record in run(prof, mutated):
            assert record.canonical is not None or record.reason or record.kind in ("leg", "repeat")
