"""Rows of Microsoft's two call logs and the call records they become."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from rater.sources import ProfileRefused
from tests.sources.support import GRAPH, call_of, calls, profile, read

PSTN: dict[str, Any] = {
    "id": "0a6f2a52-93d1-4f3b-8f0a-1b2c3d4e5f60",
    "callId": "1768483800_77@198.51.100.7",
    "userId": "11111111-2222-4333-8444-555555555555",
    "userPrincipalName": "j.doe@example.com",
    "startDateTime": "2026-01-15T13:30:12.7009999Z",
    "endDateTime": "2026-01-15T13:32:47.2500000Z",
    "duration": 155,
    "charge": 1.5,
    "callType": "user_out",
    "calleeNumber": "+12125550123",
    "callerNumber": "+442079460018",
    "conferenceId": None,
}
ROUTED: dict[str, Any] = {
    "id": "c0a80101-0000-4000-8000-000000000001",
    "correlationId": "c0a80101-aaaa-4000-8000-000000000001",
    "userId": "11111111-2222-4333-8444-555555555555",
    "startDateTime": "2026-01-15T13:30:12.700Z",
    "inviteDateTime": "2026-01-15T13:30:00.200Z",
    "failureDateTime": "0001-01-01T00:00:00Z",
    "endDateTime": "2026-01-15T13:32:47.250Z",
    "duration": 155,
    "callType": "ByotOut",
    "successfulCall": True,
    "callerNumber": "+442079460018",
    "calleeNumber": "+1212555****",
    "finalSipCode": 0,
    "trunkFullyQualifiedDomainName": "sbc1.example.com",
}
DIRECT = GRAPH.replace("graph-pstn", "graph-direct-routing")


def one(folder: Path, base: dict[str, Any], text: str, **changed: Any) -> dict[str, Any]:
    [record] = read(profile(folder, text), orjson.dumps({**base, **changed}))
    return call_of(record)


def refused(folder: Path, base: dict[str, Any], text: str, **changed: Any) -> tuple[str, str]:
    [record] = read(profile(folder, text), orjson.dumps({**base, **changed}))
    assert record.canonical is None
    assert orjson.loads(record.raw) == {**base, **changed}
    return record.reason, record.detail


def test_a_pstn_row_begins_with_its_answer_and_bills_its_whole_seconds(tmp_path: Path) -> None:
    call = one(tmp_path, PSTN, GRAPH)
    assert call["start"] == call["answer"] == "2026-01-15T13:30:12.700Z"
    assert call["end"] == "2026-01-15T13:32:47.250Z"
    assert (call["billable_ms"], call["disposition"]) == (155_000, "answered")
    assert call["record_id"] == PSTN["id"]
    assert call["user"] == PSTN["userId"]
    assert call["call_id"] == PSTN["callId"]
    assert "charge" not in call


def test_the_user_may_be_the_sign_in_name_or_mapped(tmp_path: Path) -> None:
    text = GRAPH + '[users]\ncolumn = "userPrincipalName"\n[users.map]\n"j.doe@example.com" = "u-1842"\n'
    assert one(tmp_path, PSTN, text)["user"] == "u-1842"


def test_an_unknown_call_type_is_named_and_the_profile_can_teach_it(tmp_path: Path) -> None:
    reason, detail = refused(tmp_path, PSTN, GRAPH, callType="oc_user_out")
    assert reason == "bad_field"
    assert "'oc_user_out'" in detail
    text = GRAPH + '[call_types.map]\noc_user_out = "user_out"\noc_user_in = "skip"\n'
    assert one(tmp_path, PSTN, text, callType="oc_user_out")["call_type"] == "user_out"
    [leg] = read(profile(tmp_path, text), orjson.dumps({**PSTN, "callType": "oc_user_in"}))
    assert (leg.kind, leg.reason, leg.canonical) == ("leg", "", None)


def test_a_masked_callee_cannot_be_rated_to_the_end_and_is_rejected_unless_the_profile_cuts(tmp_path: Path) -> None:
    masked = {"calleeNumber": "+4930123***"}
    assert refused(tmp_path, PSTN, GRAPH, **masked)[0] == "bad_field"
    assert one(tmp_path, PSTN, GRAPH + '[graph]\nmasked_callee = "cut"\n', **masked)["callee"] == "+4930123"


def test_a_masked_caller_is_cut_and_a_withheld_one_is_null(tmp_path: Path) -> None:
    assert one(tmp_path, PSTN, GRAPH, callType="user_in", callerNumber="+4930123***")["caller"] == "+4930123"
    for withheld in ("", None, "anonymous", "Anonymous", "+**********"):
        assert one(tmp_path, PSTN, GRAPH, callerNumber=withheld)["caller"] is None


def test_an_emergency_call_is_one_whatever_microsoft_calls_it(tmp_path: Path) -> None:
    for dialled in ("112", "+911"):
        call = one(tmp_path, PSTN, GRAPH, calleeNumber=dialled)
        assert (call["call_type"], call["callee"]) == ("emergency", "+" + dialled.lstrip("+"))
    routed = one(tmp_path, ROUTED, DIRECT, callType="dr_emergency_out", calleeNumber="000")
    assert (routed["call_type"], routed["callee"]) == ("dr_emergency_out", "+000")


@pytest.mark.parametrize(
    "name", ["id", "userId", "startDateTime", "endDateTime", "duration", "callType", "calleeNumber"]
)
def test_a_missing_field_is_named(tmp_path: Path, name: str) -> None:
    reason, detail = refused(tmp_path, PSTN, GRAPH, **{name: None})
    assert reason == "missing_field"
    assert name in detail


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("duration", 155.0),
        ("duration", "155"),
        ("duration", True),
        ("duration", -1),
        ("duration", 90_000),
        ("startDateTime", "2026-01-15 13:30:12"),
        ("startDateTime", "2026-13-15T13:30:12Z"),
        ("startDateTime", 5),
        ("calleeNumber", "12125550123"),
        ("calleeNumber", "sip:bob@example.com"),
        ("id", "é"),
        ("callId", "x" * 129),
        ("userId", "a\nb"),
    ],
)
def test_a_field_that_is_not_what_graph_promises_is_never_coerced(tmp_path: Path, name: str, value: Any) -> None:
    assert refused(tmp_path, PSTN, GRAPH, **{name: value})[0] == "bad_field"


def test_a_duration_that_the_times_contradict_is_bad_times_with_both_figures(tmp_path: Path) -> None:
    reason, detail = refused(tmp_path, PSTN, GRAPH, duration=157)
    assert reason == "bad_times"
    assert "157.000 s" in detail
    assert "154.550 s" in detail


def test_zero_seconds_is_a_call_that_nobody_answered(tmp_path: Path) -> None:
    call = one(tmp_path, PSTN, GRAPH, duration=0, endDateTime=PSTN["startDateTime"])
    assert (call["answer"], call["billable_ms"], call["disposition"]) == (None, 0, "unknown")


def test_a_direct_routing_call_has_its_invite_its_trunk_and_the_digits_that_are_left(tmp_path: Path) -> None:
    call = one(tmp_path, ROUTED, DIRECT)
    assert [call[name] for name in ("start", "answer", "end")] == [
        "2026-01-15T13:30:00.200Z",
        "2026-01-15T13:30:12.700Z",
        "2026-01-15T13:32:47.250Z",
    ]
    assert (call["call_type"], call["callee"], call["billable_ms"]) == ("dr_out", "+1212555", 155_000)
    assert (call["switch"], call["call_id"]) == ("sbc1.example.com", ROUTED["correlationId"])


def test_a_duration_counted_from_the_invite_bills_the_talking_time(tmp_path: Path) -> None:
    assert one(tmp_path, ROUTED, DIRECT, duration=167)["billable_ms"] == 154_550
    assert refused(tmp_path, ROUTED, DIRECT, duration=200)[0] == "bad_times"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (486, "busy"),
        (487, "cancelled"),
        (408, "no_answer"),
        (480, "no_answer"),
        (503, "congestion"),
        (500, "failed"),
        (404, "failed"),
        (603, "failed"),
        (0, "unknown"),
    ],
)
def test_a_failed_call_says_why(tmp_path: Path, code: int, expected: str) -> None:
    failed = {"successfulCall": False, "failureDateTime": "2026-01-15T13:30:01.300Z", "duration": 0}
    call = one(tmp_path, ROUTED, DIRECT, endDateTime="0001-01-01T00:00:00Z", finalSipCode=code, **failed)
    assert (call["disposition"], call["answer"], call["billable_ms"]) == (expected, None, 0)
    assert call["end"] == "2026-01-15T13:30:01.300Z"


def test_words_of_direct_routing(tmp_path: Path) -> None:
    words = {"ByotIn": "dr_in", "ByotInUcap": "dr_in_bot", "ByotOutUserForwarding": "dr_out_user_forwarding"}
    for word, expected in words.items():
        assert one(tmp_path, ROUTED, DIRECT, callType=word)["call_type"] == expected
    assert refused(tmp_path, ROUTED, DIRECT, callType="ByotSideways")[0] == "bad_field"


def test_fewer_than_three_digits_before_the_mask_are_no_number(tmp_path: Path) -> None:
    assert refused(tmp_path, ROUTED, DIRECT, calleeNumber="+12***")[0] == "bad_field"


def test_foreign_bytes_in_a_field_nobody_uses_lose_nothing_and_in_a_used_one_reject(tmp_path: Path) -> None:
    prof = profile(tmp_path, GRAPH)
    unused = orjson.dumps({**PSTN, "userDisplayName": "Ren@"}).replace(b"Ren@", b"Ren\xe9")
    [record] = read(prof, unused)
    assert call_of(record)["user"] == PSTN["userId"]
    assert record.raw == unused
    [bad] = read(prof, orjson.dumps({**PSTN, "userId": "Ren@"}).replace(b"Ren@", b"Ren\xe9"))
    assert bad.reason == "bad_field"


def test_pages_that_overlap_give_the_same_bytes_twice(tmp_path: Path) -> None:
    page = orjson.dumps({"@odata.count": 1, "value": [PSTN], "@odata.nextLink": "https://example.com/?a=[{"})
    first, second = read(profile(tmp_path, GRAPH), page + b"\n" + page)
    assert first == second
    assert len(calls([first, second])) == 2


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (GRAPH.replace("tenant", "# tenant"), "tenant"),
        (GRAPH + 'zone = "UTC"\n', "zone"),
        (GRAPH + '[users]\ncolumn = "src"\n', "[users] column"),
        (GRAPH + '[graph]\nmasked = "cut"\n', "[graph] masked"),
        (GRAPH + '[call_types]\nby = "trunks"\n', "[call_types] by"),
    ],
)
def test_a_profile_that_does_not_fit_graph_is_refused(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(ProfileRefused) as caught:
        profile(tmp_path, text)
    assert caught.value.key == key
