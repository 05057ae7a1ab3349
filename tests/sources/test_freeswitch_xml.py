"""FreeSWITCH's XML: the same call as in JSON, by the same rules, under the same id; broken records take no other along."""

import base64
import io
import random
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rater.sources import load_profile, open_source
from rater.sources.record import RECORD_BYTES_MAX
from tests.sources.support import SAMPLES, calls, needs_samples, read
from tests.sources.test_freeswitch import TEXT, profile

DOCS = Path(__file__).resolve().parents[2] / "docs" / "sources"
XML = TEXT.replace("freeswitch-json", "freeswitch-xml")
CALL: dict[str, Any] = {
    "core-uuid": "0d0a2c1e-7a39-4f6b-9f0f-2d7c9d7f5f10",
    "switchname": "sw1",
    "variables": {
        "uuid": "3f2b8c52-5a0e-4c5d-9d7e-0f6f6a1c2d11", "accountcode": "acme", "hangup_cause": "NORMAL_CLEARING",
        "start_uepoch": "1768483800200000", "answer_uepoch": "1768483812700000", "end_uepoch": "1768483967250000",
        "billusec": "154550000", "effective_caller_id_name": "J.%20%22Doe%22%20%3Csales%3E",
    },
    "callflow": [{"caller_profile": {"username": "1001", "caller_id_number": "+442079460018", "destination_number": "12125550123",
                                     "context": "default"}}],
}  # fmt: skip


def xml(call: dict[str, Any], pretty: bool = False, declared: bool = True) -> bytes:
    """As FreeSWITCH writes it; the values of variables are URL-encoded already."""
    gap = "\n  " if pretty else ""

    def children(values: dict[str, Any]) -> str:
        return gap.join(
            f"<{name}>{children(value) if isinstance(value, dict) else escape(str(value))}</{name}>"
            for name, value in values.items()
        )

    flows = "".join(
        f'{gap}<callflow dialplan="XML" profile_index="{number}">{gap}<caller_profile>{children(flow["caller_profile"])}</caller_profile>{gap}</callflow>'
        for number, flow in enumerate(call["callflow"], 1)
    )
    head = f"<cdr core-uuid={quoteattr(call['core-uuid'])} switchname={quoteattr(call['switchname'])}>"
    app = '<app_log><application app_name="bridge" app_data="x &lt; y"></application></app_log>'
    text = f"{head}{gap}<channel_data><state>CS_REPORTING</state></channel_data>{gap}<variables>{children(call['variables'])}</variables>{gap}{app}{flows}</cdr>"
    return (('<?xml version="1.0"?>\n' if declared else "") + text + "\n").encode()


def changed(number: int, **variables: str) -> dict[str, Any]:
    return {
        **CALL,
        "variables": {**CALL["variables"], "uuid": f"3f2b8c52-5a0e-4c5d-9d7e-0f6f6a1c{number:04d}", **variables},
    }


FORMS = {
    "plain": lambda call: xml(call, declared=False),
    "declared": xml,
    "pretty": lambda call: xml(call, pretty=True),
    "form": lambda call: b"cdr=" + quote(xml(call)).encode() + b"\n",
    "form-base64": lambda call: b"cdr=" + base64.b64encode(xml(call)) + b"\n",
    "form-base64-quoted": lambda call: b"cdr=" + quote(base64.b64encode(xml(call)).decode(), safe="").encode() + b"\n",
    "error-folder": lambda call: quote(xml(call, declared=False)).encode() + b"\n",
    "form-plain": lambda call: b"cdr=" + xml(call, declared=False),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_call_is_the_same_in_every_form_and_in_json(tmp_path: Path, form: str) -> None:
    [call] = calls(read(profile(tmp_path, XML), FORMS[form](CALL)))
    (tmp_path / "json").mkdir()
    [same] = calls(read(profile(tmp_path / "json", TEXT), orjson.dumps(CALL)))
    assert call == {**same, "source": "freeswitch-xml"}
    assert (call["billable_ms"], call["callee"]) == (154_550, "+12125550123")


@needs_samples
@pytest.mark.parametrize("name", ["freeswitch_json_cdr_a_leg.json", "freeswitch_json_cdr_b_leg.json"])
def test_the_one_call_of_the_samples_comes_out_of_xml_too(tmp_path: Path, name: str) -> None:
    call = orjson.loads((SAMPLES / "synthetic" / name).read_bytes())
    (tmp_path / "json").mkdir()
    [record] = read(profile(tmp_path, XML), xml(call, pretty=True))
    [same] = read(profile(tmp_path / "json", TEXT), orjson.dumps(call))
    assert (record.kind, record.reason, record.detail) == (same.kind, same.reason, same.detail)
    assert (record.canonical or b"").replace(b"-xml", b"-json") == (same.canonical or b"")


def test_a_b_leg_and_a_transferred_leg_are_told_by_their_originators(tmp_path: Path) -> None:
    originated = {
        "username": "1001",
        "originator": {"originator_caller_profiles": {"originator_caller_profile": {"username": "x"}}},
    }
    flow = {"caller_profile": {**CALL["callflow"][0]["caller_profile"], **originated}}
    [leg] = read(profile(tmp_path, XML), xml({**CALL, "callflow": [flow]}))
    assert leg.kind == "leg"
    moved = {**CALL, "callflow": [CALL["callflow"][0], flow]}
    [record] = read(profile(tmp_path, XML), xml(moved))
    assert record.reason == "bad_field"
    assert "transferred" in record.detail


def test_all_forms_in_one_file_delivered_twice_and_shuffled_have_the_same_ids(tmp_path: Path) -> None:
    pieces = [form(changed(number)) for number, form in enumerate(FORMS.values())]
    prof = profile(tmp_path, XML)
    once = {call["record_id"] for call in calls(read(prof, b"".join(pieces)))}
    again = [*pieces, *pieces]
    random.Random(3).shuffle(again)
    halves = calls(read(prof, b"".join(again[:5]))) + calls(read(prof, b"".join(again[5:])))
    assert len(once) == len(pieces)
    assert {call["record_id"] for call in halves} == once
    assert len(halves) == 2 * len(pieces)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"<cdr core-uuid='x'><variables></cdr>\n", "no XML"),
        (b"<cdr><variables><1bad>x</1bad></variables></cdr>\n", "no XML"),
        (b"<cdr>&unknown;</cdr>\n", "no XML"),
        (b"<cdr>\xff</cdr>\n", "no XML"),
        (b"cdr=%3Ccdr%3E%3Cvari\n", "was it cut off"),
        (b"cdr=!!!!\n", "was it cut off"),
        (b"what is this\n", "text where"),
        (xml(CALL, declared=False)[:300] + b"\n", "reading goes on"),
    ],
)
def test_a_broken_record_ends_where_the_next_begins(tmp_path: Path, data: bytes, why: str) -> None:
    records = read(profile(tmp_path, XML), xml(changed(1)) + data + xml(changed(2)) + xml(changed(3), declared=False))
    assert [record.canonical is not None for record in records] == [True, False, True, True]
    assert records[1].reason == "bad_source_row"
    assert why in records[1].detail
    assert records[1].raw == data.rstrip()


def test_a_document_type_with_entities_is_never_expanded(tmp_path: Path) -> None:
    bomb = b'<?xml version="1.0"?><!DOCTYPE cdr [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><cdr>&b;</cdr>\n'
    records = read(profile(tmp_path, XML), bomb + xml(CALL))
    assert [record.reason for record in records[:-1]] == ["bad_source_row"] * (len(records) - 1)
    assert records[-1].canonical is not None


def test_a_record_without_end_is_too_large_and_the_next_is_read(tmp_path: Path) -> None:
    records = read(profile(tmp_path, XML), b"<cdr><variables>" + b"x" * (2 * RECORD_BYTES_MAX) + b"\n" + xml(CALL))
    assert records[0].reason == "too_large"
    assert len(records[0].raw) <= RECORD_BYTES_MAX
    assert records[-1].canonical is not None


def test_a_file_cut_off_in_a_record_says_so(tmp_path: Path) -> None:
    records = read(profile(tmp_path, XML), xml(changed(1)) + xml(changed(2))[:200])
    assert "cut off" in records[-1].detail


def test_a_variable_that_stands_twice_with_two_values_is_not_chosen_among(tmp_path: Path) -> None:
    twice = xml(CALL).replace(
        b"<billusec>154550000</billusec>", b"<billusec>154550000</billusec><billusec>1</billusec>"
    )
    [record] = read(profile(tmp_path, XML), twice)
    assert (record.reason, record.detail) == ("bad_field", "billusec: found list; expected text")
    same = xml(CALL).replace(b"<billusec>154550000</billusec>", b"<billusec>154550000</billusec>" * 2)
    assert len(calls(read(profile(tmp_path, XML), same))) == 1


EXAMPLE = load_profile(DOCS / "freeswitch-xml.toml")


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2000), st.binary(max_size=20), st.integers(0, 60))
def test_mutated_records_never_raise_and_never_invent_seconds(place: int, junk: bytes, gone: int) -> None:
    data = xml(changed(1)) + xml(changed(2), pretty=True)
    place %= len(data)
    data = data[:place] + junk + data[place + gone :]
    records = list(open_source(EXAMPLE.source, EXAMPLE).read(io.BytesIO(data)))
    billed = sum(call["billable_ms"] for call in calls(records))
    digits = sum(int(found) for found in __import__("re").findall(rb"<billusec>([0-9]{1,17})<", data)) // 1000
    assert billed <= digits
