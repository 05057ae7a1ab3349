"""Calls as FreeSWITCH writes them in JSON, CSV and events, and the call records they become."""

import base64
import copy
import io
import json
import random
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rater.sources import ProfileRefused, SourceProfile, SourceRecord, load_profile, open_source
from rater.sources.freeswitch import ENDINGS, FAILURES
from rater.sources.record import DISPOSITIONS, RECORD_BYTES_MAX
from tests.sources.support import SAMPLES, call_of, calls, needs_samples, profile, read

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "sources"
A_LEG, B_LEG = "3f2b8c52-5a0e-4c5d-9d7e-0f6f6a1c2d11", "7a9d1f30-0c1b-4f44-8b0c-9e8f7a6b5c4d"
CORE = "0d0a2c1e-7a39-4f6b-9f0f-2d7c9d7f5f10"
TEXT = """
source = "freeswitch-json"
switch = "fs1"
[tenants]
same = true
[users]
column = "username"
[numbers]
bare = "e164"
[call_types]
by = "column"
column = "context"
[call_types.map]
default = "user_out"
public = "user_in"
[freeswitch]
"""
EVENTS = TEXT.replace("freeswitch-json", "freeswitch-event")
CSV = TEXT.replace("freeswitch-json", "freeswitch-csv").replace('"username"', '"caller_id_number"')
CSV = CSV.replace('switch = "fs1"', 'switch = "fs1"\nzone = "UTC"') + 'template = "example"\n'
VARIABLES: dict[str, Any] = {
    "uuid": A_LEG,
    "call_uuid": A_LEG,
    "accountcode": "acme",
    "hangup_cause": "NORMAL_CLEARING",
    "start_uepoch": "1768483800200000",
    "answer_uepoch": "1768483812700000",
    "end_uepoch": "1768483967250000",
    "duration": "167",
    "billsec": "155",
    "billmsec": "154550",
    "billusec": "154550999",
}
PROFILE = {
    "username": "u-1842",
    "caller_id_number": "+442079460018",
    "destination_number": "12125550123",
    "context": "default",
}


def leg(*, caller: dict[str, Any] | None = None, older: dict[str, Any] | None = None, **variables: Any) -> bytes:
    flow = [{"caller_profile": PROFILE | (caller or {})}]
    if older is not None:
        flow.append({"caller_profile": PROFILE | older})
    return orjson.dumps({"core-uuid": CORE, "switchname": "sw1", "variables": VARIABLES | variables, "callflow": flow})


def event(**changed: Any) -> bytes:
    headers = {
        "Event-Name": "CHANNEL_HANGUP_COMPLETE",
        "Core-UUID": CORE,
        "FreeSWITCH-Switchname": "sw1",
        "Unique-ID": A_LEG,
        "Caller-Username": "u-1842",
        "Caller-Caller-ID-Number": "+442079460018",
        "Caller-Destination-Number": "12125550123",
        "Caller-Context": "default",
    }
    return orjson.dumps(headers | {"variable_" + name: value for name, value in VARIABLES.items()} | changed)


ROW = {
    "caller_id_name": "J. Doe",
    "caller_id_number": "+442079460018",
    "destination_number": "12125550123",
    "context": "default",
    "start_stamp": "2026-01-15 13:30:00",
    "answer_stamp": "2026-01-15 13:30:12",
    "end_stamp": "2026-01-15 13:32:47",
    "duration": "167",
    "billsec": "155",
    "hangup_cause": "NORMAL_CLEARING",
    "uuid": A_LEG,
    "bleg_uuid": B_LEG,
    "accountcode": "acme",
    "read_codec": "PCMU",
    "write_codec": "PCMU",
}


def row(**changed: str) -> bytes:
    return ",".join(f'"{value}"' for value in (ROW | changed).values()).encode() + b"\n"


def one(prof: SourceProfile, data: bytes) -> SourceRecord:
    [record] = read(prof, data)
    return record


def refused(prof: SourceProfile, data: bytes) -> tuple[str, str]:
    record = one(prof, data)
    assert record.canonical is None
    assert record.reason
    return record.reason, record.detail


# JSON: which leg, which number, how long.


def test_a_call_has_its_microseconds_its_user_and_the_name_of_its_switch(tmp_path: Path) -> None:
    call = call_of(one(profile(tmp_path, TEXT), leg()))
    assert call["record_id"] == f"fs1:{CORE}:{A_LEG}"
    assert [call[name] for name in ("start", "answer", "end")] == [
        "2026-01-15T13:30:00.200Z",
        "2026-01-15T13:30:12.700Z",
        "2026-01-15T13:32:47.250Z",
    ]
    assert (call["billable_ms"], call["disposition"], call["user"]) == (154_550, "answered", "u-1842")
    assert (call["tenant"], call["switch"], call["call_id"]) == ("acme", "sw1", A_LEG)


def test_the_b_leg_is_a_leg_however_it_says_so_unless_the_profile_bills_it(tmp_path: Path) -> None:
    called = leg(caller={"originator": {"originator_caller_profiles": [{"uuid": A_LEG}]}}, uuid=B_LEG)
    bare = orjson.loads(leg(uuid=B_LEG, originating_leg_uuid=A_LEG, **PROFILE))
    del bare["callflow"]
    for body in (called, orjson.dumps(bare)):
        record = one(profile(tmp_path, TEXT), body)
        assert (record.kind, record.reason, record.canonical) == ("leg", "", None)
    wholesale = profile(tmp_path, TEXT + 'billed_leg = "b"\n')
    assert call_of(one(wholesale, called))["record_id"].endswith(B_LEG)
    assert one(wholesale, leg()).kind == "leg"


def test_a_called_leg_that_was_transferred_is_what_the_profile_says(tmp_path: Path) -> None:
    for moved in (leg(originating_leg_uuid=A_LEG), leg(older={"originator": {}})):
        reason, detail = refused(profile(tmp_path, TEXT), moved)
        assert (reason, "transferred" in detail) == ("bad_field", True)
        assert one(profile(tmp_path, TEXT + 'transferred = "leg"\n'), moved).kind == "leg"
        assert call_of(one(profile(tmp_path, TEXT + 'transferred = "call"\n'), moved))["billable_ms"] == 154_550


def test_an_inbound_call_reached_the_number_before_the_transfer_an_outbound_one_the_number_after(
    tmp_path: Path,
) -> None:
    prof = profile(tmp_path, TEXT + '[numbers.extensions]\n"1001" = "+442079461001"\n')
    first = {"destination_number": "442079460100"}
    inbound = leg(caller={"context": "public", "destination_number": "1001"}, older=first)
    assert call_of(one(prof, inbound))["callee"] == "+442079460100"
    assert call_of(one(prof, leg(older=first)))["callee"] == "+12125550123"


def test_an_emergency_call_is_one_also_where_the_dialplan_sent_it_on(tmp_path: Path) -> None:
    sent_on = leg(
        caller={"destination_number": "emergency-centre", "context": "e"}, older={"destination_number": "112"}
    )
    assert call_of(one(profile(tmp_path, TEXT), sent_on))["call_type"] == "emergency"


@pytest.mark.parametrize(
    ("changed", "billable_ms"),
    [
        ({"billusec": "67539896", "end_uepoch": "1768483880239896"}, 67_539),
        ({"billusec": ""}, 154_550),
        ({"billusec": None, "billmsec": None}, 155_000),
        ({"billusec": 154_550_000}, 154_550),
    ],
)
def test_the_finest_measure_counts_and_its_rest_is_cut(
    tmp_path: Path, changed: dict[str, Any], billable_ms: int
) -> None:
    assert call_of(one(profile(tmp_path, TEXT), leg(**changed)))["billable_ms"] == billable_ms


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"billusec": "-1"}, "bad_field"),
        ({"billusec": "1.5"}, "bad_field"),
        ({"billusec": 1.5}, "bad_field"),
        ({"billusec": True}, "bad_field"),
        ({"billusec": "136298900000000000"}, "bad_field"),
        ({"billusec": "99999999999"}, "bad_field"),
        ({"billusec": "900000000"}, "bad_times"),
        ({"end_uepoch": "1768483800000000"}, "bad_times"),
        ({"start_uepoch": "0"}, "missing_field"),
        ({"start_uepoch": None}, "missing_field"),
        ({"end_uepoch": "0"}, "missing_field"),
        ({"billusec": None, "billmsec": None, "billsec": None}, "missing_field"),
        ({"uuid": ""}, "missing_field"),
        ({"uuid": "\ud800"}, "bad_field"),
        ({"accountcode": ""}, "missing_field"),
        ({"accountcode": "a b"}, "bad_field"),
        ({"hangup_cause": ""}, "missing_field"),
        ({"hangup_cause": "GREMLINS"}, "bad_field"),
        ({"hangup_cause": []}, "bad_field"),
    ],
)
def test_a_variable_that_is_not_what_the_switch_promises_is_rejected(
    tmp_path: Path, changed: dict[str, Any], reason: str
) -> None:
    if changed.get("uuid") == "\ud800":
        body = leg(uuid="@@@").replace(b"@@@", b"\\ud800")
    else:
        body = leg(**changed)
    assert refused(profile(tmp_path, TEXT), body)[0] == reason


def test_no_message_holds_a_number_that_was_called(tmp_path: Path) -> None:
    prof = profile(tmp_path, TEXT.replace('bare = "e164"', ""))
    for called in ("12125550123", "abc12125550123"):
        assert called not in refused(prof, leg(caller={"destination_number": called}))[1]


def test_every_cause_has_a_disposition_and_a_failure_is_never_an_answer() -> None:
    assert not ENDINGS.keys() & FAILURES.keys()
    assert set(ENDINGS.values()) | set(FAILURES.values()) <= DISPOSITIONS - {"answered"}


@pytest.mark.parametrize(
    ("cause", "answered", "expected"),
    [
        ("NORMAL_CLEARING", True, "answered"),
        ("RECOVERY_ON_TIMER_EXPIRE", True, "answered"),
        ("ALLOTTED_TIMEOUT", True, "answered"),
        ("ATTENDED_TRANSFER", True, "answered"),
        ("USER_BUSY", True, "busy"),
        ("NORMAL_CLEARING", False, "no_answer"),
        ("USER_BUSY", False, "busy"),
        ("NO_ANSWER", False, "no_answer"),
        ("ORIGINATOR_CANCEL", False, "cancelled"),
        ("NORMAL_CIRCUIT_CONGESTION", False, "congestion"),
        ("CALL_REJECTED", False, "failed"),
        ("CUSTOMER_BARRED", False, "failed"),
    ],
)
def test_the_cause_says_how_it_ended(tmp_path: Path, cause: str, answered: bool, expected: str) -> None:
    never = {} if answered else {"answer_uepoch": "0", "billusec": "0"}
    prof = profile(tmp_path, TEXT + '[freeswitch.causes]\nCUSTOMER_BARRED = "failed"\n')
    call = call_of(one(prof, leg(hangup_cause=cause, **never)))
    assert (call["disposition"], call["answer"] is not None) == (expected, answered)


def test_variables_are_url_encoded_unless_the_profile_says_that_they_are_not(tmp_path: Path) -> None:
    text = TEXT.replace('"username"', '"sip_from_uri"')
    body = leg(sip_from_uri="desk%201%40example.com")
    assert call_of(one(profile(tmp_path, text), body))["user"] == "desk 1@example.com"
    assert call_of(one(profile(tmp_path, text + 'values = "plain"\n'), body))["user"] == "desk%201%40example.com"
    assert refused(profile(tmp_path, text), leg(sip_from_uri="%FF"))[0] == "bad_field"


# JSON: bodies and files.


def bodies(record: bytes) -> dict[str, bytes]:
    coded = base64.b64encode(record)
    return {
        "json": record,
        "json of several lines": orjson.dumps(orjson.loads(record), option=orjson.OPT_INDENT_2),
        "form, as the switch encodes": b"cdr=" + quote(record, safe="").encode(),
        "form, as a browser encodes": b"cdr=" + quote_plus(record).encode(),
        "form in base64": b"cdr=" + coded,
        "form in base64, its + made spaces": b"cdr=" + coded.replace(b"+", b" "),
        "form in base64, encoded once more": b"cdr=" + quote(coded, safe="").encode(),
        "error folder, encoded": quote(record, safe="").encode(),
        "error folder, base64": coded,
    }


@pytest.mark.parametrize("kind", bodies(b"{}"))
def test_every_body_gives_the_same_call(tmp_path: Path, kind: str) -> None:
    prof = profile(tmp_path, TEXT)
    record = leg(caller={"caller_id_name": 'J. Doe, "Sales" ~~~???>>> & + %41'})
    body = bodies(record)[kind]
    [found] = read(prof, body + b"\n")
    assert found.canonical == one(prof, record).canonical
    assert found.canonical is not None
    assert found.raw == body
    assert read(prof, body) == [found]


def test_all_bodies_may_stand_in_one_file_with_what_is_broken_between_them(tmp_path: Path) -> None:
    prof = profile(tmp_path, TEXT)
    whole = list(bodies(leg()).values())
    broken = [b"cdr=%7Bcut", b"cdr=eyJjb3JlLXV1aWQ", b"<?xml version='1.0'?>", b"cdr=", b"A" * 70_000]
    records = read(prof, b"\n".join(item for pair in zip(whole, [*broken, *broken], strict=False) for item in pair))
    assert len(calls(records)) == len(whole)
    assert len({record.canonical for record in records}) == 2
    reasons = [record.reason for record in records if record.canonical is None]
    assert reasons.count("too_large") == 1
    assert set(reasons) == {"too_large", "bad_source_row"}
    assert all(len(record.raw) <= RECORD_BYTES_MAX for record in records)


def test_an_array_of_records_and_pretty_records_one_after_the_other(tmp_path: Path) -> None:
    prof = profile(tmp_path, TEXT)
    pretty = orjson.dumps(orjson.loads(leg()), option=orjson.OPT_INDENT_2)
    assert len(calls(read(prof, b"[" + leg() + b",\n" + leg() + b"]"))) == 2
    assert len(calls(read(prof, (pretty + b"\n") * 20))) == 20
    assert len(calls(read(prof, pretty + leg() + b"\n" + leg() + b" " + pretty))) == 4


def test_a_record_whose_parts_are_of_another_kind_is_rejected(tmp_path: Path) -> None:
    prof = profile(tmp_path, TEXT)
    for changed in ({"variables": []}, {"callflow": "x"}, {"callflow": [1]}, {"callflow": [{"caller_profile": 1}]}):
        assert refused(prof, orjson.dumps(orjson.loads(leg()) | changed))[0] == "bad_field"
    for lacking in ("core-uuid", "variables"):
        value = orjson.loads(leg())
        del value[lacking]
        assert refused(prof, orjson.dumps(value))[0] in ("missing_field", "bad_field")


# Events.


def test_the_event_and_the_json_of_one_call_have_one_id_and_say_the_same(tmp_path: Path) -> None:
    from_event = call_of(one(profile(tmp_path, EVENTS), event()))
    from_json = call_of(one(profile(tmp_path, TEXT), leg()))
    assert from_event | {"source": ""} == from_json | {"source": ""}


def test_other_events_are_no_calls_and_are_not_lost(tmp_path: Path) -> None:
    prof = profile(tmp_path, EVENTS)
    for name in ("CHANNEL_HANGUP", "HEARTBEAT"):
        record = one(prof, event(**{"Event-Name": name}))
        assert (record.kind, record.reason, record.canonical) == ("event", "", None)
    assert refused(prof, event(**{"Event-Name": None}))[0] == "missing_field"


def test_the_other_legs_type_says_which_leg_an_event_is_of(tmp_path: Path) -> None:
    prof = profile(tmp_path, EVENTS)
    assert one(prof, event(**{"Other-Type": "originator"})).kind == "leg"
    assert one(prof, event(variable_originator=A_LEG)).kind == "leg"
    assert call_of(one(prof, event(**{"Other-Type": "originatee"})))["billable_ms"] == 154_550
    assert refused(prof, event(**{"Other-Type": "originatee", "variable_originator": A_LEG}))[0] == "bad_field"


def test_an_event_may_hold_arrays_and_a_body_with_braces(tmp_path: Path) -> None:
    prof = profile(tmp_path, EVENTS)
    odd = event(variable_list=["a", "}"], _body='{"x": [}\n')
    assert len(calls(read(prof, odd + b"\n" + odd + odd))) == 3


# CSV.


def test_a_row_of_the_shipped_template(tmp_path: Path) -> None:
    call = call_of(one(profile(tmp_path, CSV), row()))
    assert call["record_id"] == f"fs1:{A_LEG}"
    assert (call["start"], call["billable_ms"]) == ("2026-01-15T13:30:00.000Z", 155_000)
    assert (call["tenant"], call["call_id"]) == ("acme", B_LEG)


def test_a_value_that_was_not_escaped_breaks_its_own_row_and_no_other(tmp_path: Path) -> None:
    prof = profile(tmp_path, CSV)
    for name in ('J. Doe, "Sales"', 'J. "Joe" Doe', 'J. Doe"', 'a","b'):
        before, broken, after = read(prof, row() + row(caller_id_name=name) + row())
        assert broken.reason == "bad_source_row"
        assert broken.raw + b"\n" == row(caller_id_name=name)
        assert before == after
        assert before.canonical is not None


@pytest.mark.parametrize("template", ["example", "default", "snom", "linksys", "asterisk", "opencdrrate", "sql"])
def test_every_template_that_the_switch_ships(tmp_path: Path, template: str) -> None:
    prof = profile(tmp_path, csv_profile(template))
    answered, missed = read(prof, filled(template) + filled(template, answer_stamp="", billsec="0"))
    call = call_of(answered)
    assert (call["callee"], call["billable_ms"], call["disposition"]) == ("+12125550123", 155_000, "answered")
    assert call["record_id"] == f"fs1:{A_LEG}"
    assert call["start"] == "2026-01-15T13:30:12.000Z" if template == "opencdrrate" else "2026-01-15T13:30:00.000Z"
    # One template writes neither start nor cause, so of a call that was not answered too little is known.
    assert (missed.reason == "missing_field") is (template == "opencdrrate")


def csv_profile(template: str) -> str:
    text = CSV.replace('"example"', f'"{template}"')
    if template == "opencdrrate":
        text = text.replace('by = "column"\ncolumn = "context"', 'by = "numbers"\nowned = ["+4420"]')
        text = text.replace('default = "user_out"\npublic = "user_in"', "")
        return text.replace('column = "caller_id_number"', 'column = "ani"') + 'caller = "ani"\n'
    return text


SHIPPED = {
    "example": '"{caller_id_name}","{caller_id_number}","{destination_number}","{context}","{start_stamp}",'
    '"{answer_stamp}","{end_stamp}","{duration}","{billsec}","{hangup_cause}","{uuid}","{bleg_uuid}","{accountcode}",'
    '"PCMU","PCMU"',
    "default": '"{caller_id_name}","{caller_id_number}","{destination_number}","{context}","{start_stamp}",'
    '"{answer_stamp}","{end_stamp}","{duration}","{billsec}","{hangup_cause}","{uuid}","{bleg_uuid}", "{accountcode}"',
    "asterisk": '"{accountcode}","{caller_id_number}","{destination_number}","{context}","{caller_id_name}","c","b","l",'
    '"a,b","{start_stamp}","{answer_stamp}","{end_stamp}","{duration}","{billsec}","{hangup_cause}","3","{uuid}",""',
    "opencdrrate": '"{uuid}","{bleg_uuid}","inbound","{caller_id_number}","{destination_number}","{answer_stamp}",'
    '"{end_stamp}","{billsec}","{accountcode}","","198.51.100.7","J","carrier1"',
}
SHIPPED["sql"] = "INSERT INTO cdr VALUES (" + SHIPPED["default"] + ");"
SHIPPED["snom"] = SHIPPED["default"] + ',"PCMU","PCMU","snom","","","",""'
SHIPPED["linksys"] = SHIPPED["example"] + ',"linksys",""'


def filled(template: str, **changed: str) -> bytes:
    return SHIPPED[template].format_map(ROW | changed).encode() + b"\n"


def test_the_built_in_template_starts_no_new_line(tmp_path: Path) -> None:
    prof = profile(tmp_path, csv_profile("fallback"))
    line = SHIPPED["asterisk"].format_map(ROW).encode()
    other = SHIPPED["asterisk"].format_map(ROW | {"uuid": B_LEG, "caller_id_name": 'x";"y'}).encode()
    records = read(prof, (line + b";") * 3 + other + b";" + line + b";\n" + line + b";" + line[:50])
    assert len(calls(records)) == 5
    assert {record.reason for record in records} == {"", "bad_source_row"}
    assert records[0].raw == line
    endless = read(prof, b'"' + b"x" * 200_000 + b";" + line + b";")
    assert [record.reason for record in endless] == ["too_large"]


def test_a_template_of_ones_own_as_it_stands_in_the_configuration(tmp_path: Path) -> None:
    own = (
        "|${uuid}|${originator}|${direction}|${caller_id_number}|${destination_number}|${context}|${accountcode}|fixed|"
        "${regex(${x}^.)}|${start_uepoch}|${answer_uepoch}|${end_uepoch}|${billusec}|${hangup_cause}|"
    )
    text = CSV.replace('template = "example"', f"template = '{own}'\ndelimiter = '|'\nlegs = 'ab'")
    prof = profile(tmp_path, text.replace('zone = "UTC"\n', ""))
    values = f"|{A_LEG}||inbound|+442079460018|12125550123|default|acme|fixed|J|1768483800200000|1768483812700000"
    line = f"{values}|1768483967250000|154550000|NORMAL_CLEARING|\n".encode()
    call, called = read(
        prof, line + line.replace(A_LEG.encode() + b"||", B_LEG.encode() + b"|" + A_LEG.encode() + b"|")
    )
    assert call_of(call)["billable_ms"] == 154_550
    assert called.kind == "leg"
    assert read(prof, b"x" + line)[0].reason == "bad_source_row"


def test_a_file_of_both_legs_without_an_originator_goes_by_the_direction(tmp_path: Path) -> None:
    prof = profile(tmp_path, csv_profile("opencdrrate") + 'legs = "ab"\n')
    inbound = filled("opencdrrate")
    records = read(prof, inbound + inbound.replace(b"inbound", b"outbound") + inbound.replace(b"inbound", b"x"))
    assert [(record.kind, record.reason) for record in records] == [("call", ""), ("leg", ""), ("call", "bad_field")]


def test_in_the_hour_that_comes_twice_the_row_itself_and_its_uuid_say_which_it_was(tmp_path: Path) -> None:
    prof = profile(tmp_path, CSV.replace("UTC", "Europe/London"))
    stamps = {"start_stamp": "2026-10-25 01:59:00", "answer_stamp": "2026-10-25 01:59:12"}
    short = {"end_stamp": "2026-10-25 01:59:42", "duration": "42", "billsec": "30"}
    early = call_of(one(prof, row(**stamps, end_stamp="2026-10-25 01:01:47", duration="167", billsec="155")))
    assert early["start"] == "2026-10-25T00:59:00.000Z"
    ticks = (1792893540 * 1000 + 12_219_292_800_000) * 10_000  # 01:59 UTC, the second of the two
    hexed = f"{ticks:015x}"
    uuid = f"{hexed[7:]}-{hexed[3:7]}-1{hexed[:3]}-97a0-9dd79410affb"
    assert call_of(one(prof, row(**stamps, **short, uuid=uuid)))["start"] == "2026-10-25T01:59:00.000Z"
    assert refused(prof, row(start_stamp="2026-03-29 01:30:00"))[0] == "bad_times"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (TEXT + 'zone = "UTC"\n', "[freeswitch] zone"),
        (TEXT.replace("[tenants]", 'zone = "UTC"\n[tenants]'), "zone"),
        (TEXT + 'template = "example"\n', "[freeswitch] template"),
        (TEXT + 'values = "raw"\n', "[freeswitch] values"),
        (TEXT + 'transferred = "yes"\n', "[freeswitch] transferred"),
        (TEXT + '[freeswitch.causes]\nX = "fine"\n', "[freeswitch.causes] X"),
        (TEXT.replace('column = "context"', ""), "[call_types] column"),
        (TEXT.replace('switch = "fs1"', ""), "switch"),
        (EVENTS + 'values = "plain"\n', "[freeswitch] values"),
        (CSV.replace('zone = "UTC"', ""), "zone"),
        (CSV.replace('"example"', '"exampel"'), "[freeswitch] template"),
        (CSV.replace('"example"', '\'"${uuid}","${billsec}"\''), "[freeswitch] template"),
        (CSV + 'legs = "ab"\n', "[freeswitch] template"),
        (CSV + 'billed_leg = "b"\n', "[freeswitch] billed_leg"),
        (CSV + 'called = "sip_to_user"\n', "[freeswitch] template"),
    ],
)
def test_a_profile_that_does_not_fit_is_refused(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(ProfileRefused) as caught:
        profile(tmp_path, text)
    assert caught.value.key == key


# All three: samples, redelivery, noise.


@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="docs/ is not installed with the package")
@pytest.mark.parametrize("name", ["freeswitch-json", "freeswitch-csv", "freeswitch-event"])
def test_the_example_profile_is_accepted(name: str) -> None:
    assert load_profile(EXAMPLES / f"{name}.toml").source == name


@needs_samples
@pytest.mark.parametrize(
    ("text", "name"),
    [
        (TEXT, "freeswitch_json_cdr_a_leg.json"),
        (TEXT, "freeswitch_json_cdr_b_leg.json"),
        (TEXT, "freeswitch_json_cdr_post_body.txt"),
        (EVENTS, "freeswitch_mod_event_kafka.json"),
        (CSV, "freeswitch_cdr_csv_example.csv"),
    ],
)
def test_the_one_call_from_each_of_the_formats(tmp_path: Path, text: str, name: str) -> None:
    expected = orjson.loads((SAMPLES / "synthetic" / "expected_canonical.json").read_bytes())
    if text == EVENTS:  # the event of the sample has neither context nor user name
        text = text.replace('by = "column"\ncolumn = "context"', 'by = "numbers"\nowned = ["+4420"]')
        text = text.replace('default = "user_out"\npublic = "user_in"', "").replace('"username"', '"caller_id_number"')
    records = read(profile(tmp_path, text), (SAMPLES / "synthetic" / name).read_bytes())
    if name.endswith("b_leg.json"):
        assert [(record.kind, record.canonical) for record in records] == [("leg", None)]
        return
    [call] = calls(records)
    for key in ("tenant", "caller", "callee", "disposition"):
        assert call[key] == expected["call"][key]
    for key in ("start", "answer", "end"):
        length = 19 if name.endswith(".csv") else 24
        assert call[key][:length] == expected["call"][key][:length]
    billed = expected["billable_ms_per_source"]
    assert call["billable_ms"] == billed.get(name, billed["freeswitch_json_cdr_a_leg.json"])
    others = [record.reason for record in records if record.canonical is None]
    assert others == (["bad_source_row"] if name.endswith(".csv") else [])


LAB = TEXT.replace("same = true", 'same = true\ndefault = "lab"').replace('bare = "e164"', "") + (
    '[numbers.extensions]\n"1001" = "+442079461001"\n"1002" = "+442079461002"\n"1004" = "+442079461004"\n'
)


@needs_samples
@pytest.mark.parametrize(("number", "billable_ms"), [(1, 67_539), (2, None), (3, 20_599)])
def test_real_records_keep_their_fractions_of_a_second(tmp_path: Path, number: int, billable_ms: int | None) -> None:
    data = (SAMPLES / "freeswitch_json_cdr" / f"fs_json_cdr_{number}.json").read_bytes()
    record = one(profile(tmp_path, LAB), data)
    if billable_ms is None:
        assert (record.canonical, record.reason) == (None, "bad_field")
    else:
        call = call_of(record)
        assert (call["billable_ms"], call["disposition"], call["callee"]) == (billable_ms, "answered", "+442079461002")


@needs_samples
def test_rows_that_a_spreadsheet_has_changed_are_rejected_one_and_all(tmp_path: Path) -> None:
    text = LAB.replace("freeswitch-json", "freeswitch-csv").replace('"username"', '"caller_id_number"')
    text = text.replace("[tenants]", 'zone = "UTC"\n[tenants]').replace(
        "[freeswitch]", '[freeswitch]\ntemplate = "example"'
    )
    records = read(profile(tmp_path, text), (SAMPLES / "freeswitch_cdr_csv" / "Master.csv").read_bytes())
    assert [record.reason for record in records] == ["bad_field"] * 10


def deliveries() -> dict[str, tuple[str, list[bytes]]]:
    uuids = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(40)]
    return {
        "json": (TEXT, [leg(uuid=uuid) for uuid in uuids]),
        "event": (EVENTS, [event(variable_uuid=uuid) for uuid in uuids]),
        "csv": (CSV, [row(uuid=uuid).rstrip() for uuid in uuids]),
    }


@pytest.mark.parametrize("name", ["json", "event", "csv"])
def test_everything_twice_shuffled_and_in_two_files_gives_the_same_calls(tmp_path: Path, name: str) -> None:
    text, lines = deliveries()[name]
    prof = profile(tmp_path, text)
    once = {record.canonical for record in read(prof, b"\n".join(lines))}
    again = lines * 2
    random.Random(7).shuffle(again)
    source = open_source(prof.source, prof)
    twice = [
        record.canonical
        for part in (again[:31], again[31:])
        for record in source.read(io.BytesIO(b"\n".join(part) + b"\n"))
    ]
    assert len(once) == len(lines)
    assert sorted(filter(None, twice)) == sorted(2 * [line for line in once if line])
    assert len({call_of(SourceRecord(b"", line))["record_id"] for line in once}) == len(lines)


def real_lines(name: str) -> list[bytes]:
    """The samples of this format, where they lie beside the checkout."""
    patterns = {"json": "freeswitch_json_cdr/*", "event": "*/freeswitch_mod_event*", "csv": "freeswitch_cdr_csv/*"}
    return [file.read_bytes() for file in sorted(SAMPLES.glob(patterns[name]))]


def measured_ms(name: str, raw: bytes) -> int:
    """The longest that the record itself says, read in another way than the source does."""
    if name == "csv":
        before_the_cause = re.search(rb'([0-9]+)"?,"?[A-Z_]{4,}', raw)
        return int(before_the_cause[1]) * 1000 if before_the_cause else 0
    value = json.loads(raw.decode("utf-8", "replace"))
    found = value["variables"] if name == "json" else {key.removeprefix("variable_"): v for key, v in value.items()}
    us, ms, seconds = (found.get(key) or "" for key in ("billusec", "billmsec", "billsec"))
    return max(number(us) // 1000, number(ms), number(seconds) * 1000)


def number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


@pytest.mark.parametrize("name", ["json", "event", "csv"])
@pytest.mark.parametrize("seed", range(6))
def test_damaged_bytes_never_stop_a_file_and_never_add_a_second(tmp_path: Path, name: str, seed: int) -> None:
    rng = random.Random(seed)
    text, lines = deliveries()[name]
    prof = profile(tmp_path, text)
    if name == "json":
        lines = lines + list(bodies(lines[0]).values())
    lines = lines[:4] + lines[40:] + real_lines(name)
    for _ in range(60):
        data = bytearray(b"\n".join(rng.choices(lines, k=6)))
        for _ in range(rng.randint(1, 12)):
            place = rng.randrange(len(data))
            match rng.randrange(4):
                case 0:
                    data[place] = rng.randrange(256)
                case 1:
                    del data[place : place + rng.randint(1, 300)]
                case 2:
                    data[place:place] = bytes(rng.choices(b'{}[]",:;\n\\%=\xff0', k=rng.randint(1, 5)))
                case _:
                    del data[place:]
            if not data:
                break
        for record in read(prof, bytes(data)):
            if record.canonical is not None and not record.raw.startswith((b"cdr=", b"%", b"ey")):
                assert call_of(record)["billable_ms"] <= measured_ms(name, record.raw)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.just("\ud800"),
    st.sampled_from(["0", "-1", "155", "154550000", "1768483967250000", "%FF", "%41", "1e9", "١٢٣"]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
)


@settings(max_examples=300, deadline=None)
@given(
    variables=st.dictionaries(st.sampled_from([*VARIABLES, "originator"]), VALUES, max_size=6),
    caller=st.dictionaries(st.sampled_from([*PROFILE, "originator"]), VALUES, max_size=3),
    top=st.dictionaries(st.sampled_from(["core-uuid", "switchname", "variables", "callflow"]), VALUES, max_size=2),
)
def test_any_value_in_any_field_is_a_call_or_a_reason(
    tmp_path_factory: pytest.TempPathFactory,
    variables: dict[str, Any],
    caller: dict[str, Any],
    top: dict[str, Any],
) -> None:
    prof = profile(tmp_path_factory.getbasetemp(), TEXT)
    value = orjson.loads(leg())
    value["variables"] |= variables
    value["callflow"][0]["caller_profile"] |= caller
    before = copy.deepcopy(value | top)
    body = json.dumps(value | top).encode()
    record = one(prof, body)
    if record.canonical is not None:
        found = before["variables"]
        if found["billusec"]:
            measured = int(found["billusec"]) // 1000
        else:
            measured = int(found["billmsec"] or int(found["billsec"]) * 1000)
        assert call_of(record)["billable_ms"] == measured
    else:
        assert record.reason or record.kind == "leg"
