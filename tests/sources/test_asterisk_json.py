"""Asterisk's JSON messages and the call records they become."""

import io
import json
import random
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rater.sources import ProfileRefused, SourceProfile, SourceRecord, load_profile, open_source
from tests.sources.support import ASTERISK, SAMPLES, call_of, calls, needs_samples, profile, read, row

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "sources" / "asterisk-json.toml"
TEXT = ASTERISK.replace("asterisk-csv", "asterisk-json").replace('layout = "master-18"\n', "")
WITHOUT_ZONE = TEXT.replace('zone = "UTC"\n', "")

BEANSTALK: dict[str, Any] = {
    "AccountCode": "acme",
    "Source": "+442079460018",
    "Destination": "12125550123",
    "DestinationContext": "from-internal",
    "CallerID": '"J. Doe" <+442079460018>',
    "Channel": "PJSIP/desk-00000a1f",
    "DestinationChannel": "PJSIP/carrier1-00000a20",
    "LastApplication": "Dial",
    "LastData": "PJSIP/12125550123@carrier1,60",
    "StartTime": "2026-01-15 13:30:00",
    "AnswerTime": "2026-01-15 13:30:12",
    "EndTime": "2026-01-15 13:32:47",
    "Duration": 167,
    "Billsec": 154,
    "Disposition": "ANSWERED",
    "AMAFlags": "DOCUMENTATION",
    "UniqueID": "1768483800.2591",
    "UserField": "",
}
MANAGER = {key: value for key, value in BEANSTALK.items() if key != "Billsec"} | {
    "Event": "Cdr",
    "Privilege": "cdr,all",
    "Duration": "167",
    "BillableSeconds": "154",
}
BRAAMS: dict[str, Any] = {
    "clid": '"J. Doe" <+442079460018>',
    "src": "+442079460018",
    "dst": "12125550123",
    "dcontext": "from-internal",
    "channel": "PJSIP/desk-00000a1f",
    "dstchannel": "PJSIP/carrier1-00000a20",
    "lastapp": "Dial",
    "lastdata": "PJSIP/12125550123@carrier1,60",
    "start": "2026-01-15 13:30:00",
    "answer": "2026-01-15 13:30:12",
    "end": "2026-01-15 13:32:47",
    "duration": 167,
    "billsec": 154,
    "disposition": 8,
    "amaflags": 3,
    "accountcode": "acme",
    "peeraccount": "",
    "flags": 0,
    "uniqueid": "1768483800.2591",
    "linkedid": "1768483800.2591",
    "userfield": "",
    "sequence": 5180,
}
VSGROUP: dict[str, Any] = {
    key: value for key, value in BRAAMS.items() if key not in ("uniqueid", "userfield", "flags", "duration")
} | {
    "EntityID": "02:00:5e:00:53:01",
    "SystemName": "pbx7",
    "start": "2026-01-15T13:30:00.200+0000",
    "answer": "2026-01-15T13:30:12.700+0000",
    "end": "2026-01-15T13:32:47.250+0000",
    "durationsec": 167,
    "disposition": "ANSWERED",
    "amaflags": "DOCUMENTATION",
}
ALL = {"beanstalkd": BEANSTALK, "manager": MANAGER, "braams": BRAAMS, "vsgroup": VSGROUP}
BILLED_MS = {"beanstalkd": 154_000, "manager": 154_000, "braams": 154_000, "vsgroup": 154_550}


def one(prof: SourceProfile, values: dict[str, Any], **changed: Any) -> SourceRecord:
    [record] = read(prof, json.dumps({**values, **changed}).encode())
    return record


def refused(prof: SourceProfile, values: dict[str, Any], **changed: Any) -> tuple[str, str]:
    record = one(prof, values, **changed)
    assert record.canonical is None
    return record.reason, record.detail


@pytest.mark.parametrize("name", ALL)
def test_every_way_to_name_the_fields_gives_the_one_call(tmp_path: Path, name: str) -> None:
    call = call_of(one(profile(tmp_path, TEXT), ALL[name]))
    assert (call["caller"], call["callee"], call["user"]) == ("+442079460018", "+12125550123", "desk")
    assert (call["billable_ms"], call["disposition"]) == (BILLED_MS[name], "answered")
    assert call["answer"][:19] == "2026-01-15T13:30:12"
    assert call["call_id"] == "1768483800.2591"


def test_the_id_is_that_of_the_same_record_in_a_csv_file(tmp_path: Path) -> None:
    columns = "accountcode src dst dcontext clid channel dstchannel lastapp lastdata start answer end duration billsec"
    line = row(
        (*columns.split(), "disposition", "amaflags", "uniqueid", "userfield", "peeraccount", "linkedid", "sequence")
    )
    written = profile(tmp_path, ASTERISK.replace("master-18", "newcolumns-21"))
    [from_csv] = calls(read(written, line))
    from_json = call_of(one(profile(tmp_path, TEXT), BRAAMS))
    assert from_json | {"source": ""} == from_csv | {"source": ""}


def test_a_message_without_a_sequence_is_named_by_both_channels_and_its_start(tmp_path: Path) -> None:
    prof = profile(tmp_path, TEXT)
    first, second = one(prof, BEANSTALK), one(prof, BEANSTALK, DestinationChannel="PJSIP/carrier2-00000a21")
    assert call_of(first)["record_id"] != call_of(second)["record_id"]
    nameless = {"UniqueID": "", "Channel": ""}
    assert refused(profile(tmp_path, TEXT.replace("channel-peer", "src")), BEANSTALK, **nameless)[0] == "missing_field"


def test_milliseconds_are_used_only_where_they_agree_with_the_seconds(tmp_path: Path) -> None:
    prof = profile(tmp_path, TEXT)
    assert call_of(one(prof, VSGROUP))["billable_ms"] == 154_550
    assert call_of(one(prof, VSGROUP, billsec=155))["billable_ms"] == 155_000
    assert refused(prof, VSGROUP, billsec=150)[0] == "bad_times"
    short = {"end": "2026-01-15T13:30:13.300+0000", "billsec": 0}
    assert call_of(one(prof, VSGROUP, **short))["billable_ms"] == 0


def test_stamps_with_a_zone_need_none_in_the_profile_and_others_do(tmp_path: Path) -> None:
    prof = profile(tmp_path, WITHOUT_ZONE)
    west = {name: VSGROUP[name].replace("T13", "T08").replace("+0000", "-0500") for name in ("start", "answer", "end")}
    assert call_of(one(prof, VSGROUP, **west))["start"] == "2026-01-15T13:30:00.200Z"
    reason, detail = refused(prof, BRAAMS)
    assert (reason, "zone" in detail) == ("bad_field", True)


@pytest.mark.parametrize(
    ("name", "never"),
    [
        ("beanstalkd", {"AnswerTime": "", "Billsec": 0, "Disposition": "NO ANSWER"}),
        ("manager", {"AnswerTime": "", "BillableSeconds": "0", "Disposition": "NO ANSWER"}),
        ("braams", {"answer": "1970-01-01 03:00:00", "billsec": 0, "disposition": 0}),
        ("vsgroup", {"answer": "1969-12-31T21:00:00.000-0300", "billsec": 0, "disposition": "NO ANSWER"}),
    ],
)
def test_a_call_that_nobody_answered_has_no_answer(tmp_path: Path, name: str, never: dict[str, Any]) -> None:
    call = call_of(one(profile(tmp_path, TEXT), ALL[name], **never))
    assert (call["answer"], call["billable_ms"], call["disposition"]) == (None, 0, "no_answer")


@pytest.mark.parametrize(
    ("bit", "expected"),
    [
        (0, "no_answer"),
        (1, "unknown"),
        (2, "failed"),
        (4, "busy"),
        (8, "answered"),
        (16, "congestion"),
        (32, "cancelled"),
    ],
)
def test_the_bits_of_the_switchs_enum(tmp_path: Path, bit: int, expected: str) -> None:
    assert call_of(one(profile(tmp_path, TEXT), BRAAMS, disposition=bit))["disposition"] == expected


def test_channel_events_and_other_manager_events_are_no_calls(tmp_path: Path) -> None:
    prof = profile(tmp_path, TEXT)
    cel = {"EventName": "HANGUP", "EventTime": "1768483967.250000", "UniqueID": "1768483800.2591"}
    for values in (cel, {"Event": "Hangup", "Channel": "PJSIP/desk-00000a1f"}):
        record = one(prof, values)
        assert (record.kind, record.reason, record.canonical) == ("event", "", None)


@pytest.mark.parametrize(
    ("values", "changed", "reason"),
    [
        (VSGROUP, {"billsec": "154"}, "bad_field"),
        (VSGROUP, {"sequence": "x"}, "bad_field"),
        (BRAAMS, {"billsec": 154.0}, "bad_field"),
        (BRAAMS, {"billsec": True}, "bad_field"),
        (BRAAMS, {"billsec": None}, "missing_field"),
        (BRAAMS, {"billsec": -1}, "bad_field"),
        (BRAAMS, {"billsec": 90_000}, "bad_field"),
        (BRAAMS, {"disposition": 64}, "bad_field"),
        (BRAAMS, {"start": ""}, "missing_field"),
        (BRAAMS, {"dst": 12125550123}, "bad_field"),
        (BRAAMS, {"dcontext": "elsewhere"}, "bad_field"),
        (BEANSTALK, {"Billsec": "154s"}, "bad_field"),
        (BEANSTALK, {"Billsec": 160}, "bad_times"),
        (BEANSTALK, {"UniqueID": ["x"]}, "bad_field"),
    ],
)
def test_a_field_that_is_not_what_the_module_writes_is_rejected(
    tmp_path: Path, values: dict[str, Any], changed: dict[str, Any], reason: str
) -> None:
    """Also what a variable of the dialplan has overwritten: it is text where the module writes a number."""
    assert refused(profile(tmp_path, TEXT), values, **changed)[0] == reason


def test_a_field_that_the_dialplan_added_can_name_the_user(tmp_path: Path) -> None:
    prof = profile(tmp_path, TEXT.replace("channel-peer", "staff"))
    assert call_of(one(prof, VSGROUP, staff="u-1842"))["user"] == "u-1842"
    assert refused(prof, VSGROUP)[0] == "missing_field"


def test_several_switches_in_one_topic_name_themselves(tmp_path: Path) -> None:
    prof = profile(tmp_path, TEXT + 'system = "SystemName"\n')
    here, there = call_of(one(prof, VSGROUP)), call_of(one(prof, VSGROUP, SystemName="pbx8"))
    assert (here["switch"], there["switch"]) == ("pbx7", "pbx8")
    assert here["record_id"] != there["record_id"]
    assert refused(prof, VSGROUP, SystemName="")[0] == "missing_field"


def test_the_policy_for_legs_needs_both_ids(tmp_path: Path) -> None:
    prof = profile(tmp_path, TEXT + 'linkedid_policy = "first"\n')
    assert call_of(one(prof, BRAAMS))["billable_ms"] == 154_000
    assert one(prof, BRAAMS, uniqueid="1768483800.2592").kind == "leg"
    for values in (BEANSTALK, VSGROUP):
        assert refused(prof, values)[0] == "missing_field"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (TEXT + 'layout = "master-18"\n', "[asterisk] layout"),
        (TEXT + 'system = "Host"\n', "[asterisk] system"),
        (TEXT.replace('switch = "pbx1"', ""), "switch"),
        (TEXT.replace('by = "dcontext"', ""), "[call_types] by"),
    ],
)
def test_a_profile_that_does_not_fit_is_refused(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(ProfileRefused) as caught:
        profile(tmp_path, text)
    assert caught.value.key == key


@pytest.mark.skipif(not EXAMPLE.is_file(), reason="docs/ is not installed with the package")
def test_the_example_profile_is_accepted() -> None:
    assert load_profile(EXAMPLE).source == "asterisk-json"


@needs_samples
@pytest.mark.parametrize(
    "name", ["asterisk_cdr_beanstalkd.json", "asterisk_kafka_braams.json", "asterisk_kafka_vsgroup.json"]
)
def test_the_one_call_from_each_of_the_formats(tmp_path: Path, name: str) -> None:
    expected = orjson.loads((SAMPLES / "synthetic" / "expected_canonical.json").read_bytes())
    text = TEXT.replace('tenant = "acme"', "[tenants]\nsame = true")
    [call] = calls(read(profile(tmp_path, text), (SAMPLES / "synthetic" / name).read_bytes()))
    for key in ("tenant", "caller", "callee", "disposition"):
        assert call[key] == expected["call"][key]
    for key in ("start", "answer", "end"):
        length = 24 if "vsgroup" in name else 19
        assert call[key][:length] == expected["call"][key][:length]
    assert call["billable_ms"] == expected["billable_ms_per_source"][name]


@pytest.mark.parametrize("name", ALL)
def test_everything_twice_shuffled_and_in_two_files_gives_the_same_calls(tmp_path: Path, name: str) -> None:
    prof = profile(tmp_path, TEXT)
    ids = ("Channel", "channel", "sequence")
    lines = []
    for number in range(40):
        changed = {key: number if key == "sequence" else f"PJSIP/desk-{number:08x}" for key in ids if key in ALL[name]}
        lines.append(orjson.dumps(ALL[name] | changed))
    once = {record.canonical for record in read(prof, b"\n".join(lines))}
    again = lines * 2
    random.Random(7).shuffle(again)
    source = open_source(prof.source, prof)
    twice = [
        record.canonical for part in (again[:31], again[31:]) for record in source.read(io.BytesIO(b"\n".join(part)))
    ]
    assert len({call_of(SourceRecord(b"", line))["record_id"] for line in once}) == len(lines)
    assert sorted(filter(None, twice)) == sorted(2 * [line for line in once if line])


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.just("\ud800"),
    st.sampled_from(["0", "-1", "154", "154.9", "2026-01-15 13:30:12", "2026-01-15T13:30:12.999+0000", "١٢٣"]),
    st.lists(st.integers(), max_size=2),
)


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(list(ALL)),
    changed=st.dictionaries(st.sampled_from(sorted({*BEANSTALK, *MANAGER, *VSGROUP, *BRAAMS})), VALUES, max_size=5),
)
def test_any_value_in_any_field_is_a_call_or_a_reason(
    tmp_path_factory: pytest.TempPathFactory, name: str, changed: dict[str, Any]
) -> None:
    record = one(profile(tmp_path_factory.getbasetemp(), TEXT), ALL[name], **changed)
    if record.canonical is None:
        assert record.reason or record.kind in ("leg", "event")
        return
    values = ALL[name] | changed
    keys = ("BillableSeconds", "Billsec") if "StartTime" in values else ("billsec",)
    said = next(values[key] for key in keys if key in values)
    assert call_of(record)["billable_ms"] < (float(said) + 1) * 1000


@pytest.mark.parametrize("seed", range(6))
def test_damaged_bytes_never_stop_a_file(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    prof = profile(tmp_path, TEXT)
    for _ in range(60):
        data = bytearray(b"\n".join(orjson.dumps(values) for values in ALL.values()))
        for _ in range(rng.randint(1, 12)):
            place = rng.randrange(len(data))
            if rng.random() < 0.5:
                data[place] = rng.randrange(256)
            else:
                data[place : place + rng.randint(0, 40)] = bytes(rng.choices(b'{}[]",:;\n\\0', k=rng.randint(1, 3)))
        records = read(prof, bytes(data))
        assert records
        assert all(record.raw or record.reason for record in records)
        calls(records)
