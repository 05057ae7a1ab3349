"""`rater mediate --profile-new`: what a sample proves is in the proposal, what it does not is a question; nothing is guessed."""

import io
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import orjson
import pytest

from rater.sources import SOURCES, Assembling, ProfileRefused, open_source, profile_from
from rater.sources.asterisk_layouts import LAYOUTS
from tests.doors.front import front, refused, told
from tests.sources.support import SAMPLES, calls, needs_samples, row
from tests.sources.test_freeswitch_xml import CALL, FORMS

SOURCE_OF = {
    "synthetic/acmepacket_stop.csv": "acme",
    "synthetic/asterisk_cdr_beanstalkd.json": "asterisk-json",
    "synthetic/asterisk_cdr_csv_Master.csv": "asterisk-csv",
    "synthetic/asterisk_cdr_csv_newcolumns.csv": "asterisk-csv",
    "synthetic/asterisk_cdr_custom.csv": "asterisk-csv",
    "synthetic/asterisk_kafka_braams.json": "asterisk-json",
    "synthetic/asterisk_kafka_vsgroup.json": "asterisk-json",
    "synthetic/cucm_cdr.txt": "cucm",
    "synthetic/freeswitch_cdr_csv_example.csv": "freeswitch-csv",
    "synthetic/freeswitch_json_cdr_a_leg.json": "freeswitch-json",
    "synthetic/freeswitch_json_cdr_b_leg.json": "freeswitch-json",
    "synthetic/freeswitch_json_cdr_post_body.txt": "freeswitch-json",
    "synthetic/freeswitch_mod_event_kafka.json": "freeswitch-event",
    "synthetic/graph_direct_routing_rows.json": "graph-direct-routing",
    "synthetic/graph_pstn_row.json": "graph-pstn",
    "synthetic/kamailio_acc_json_cdr.json": "kamailio",
    "synthetic/kamailio_acc_json_transactions.jsonl": "kamailio",
    "synthetic/nchf_32291.jsonl": "3gpp-json",
    "synthetic/opensips_E_ACC_CDR.json": "opensips",
    "synthetic/sonus_act.csv": "sonus",
    "asterisk_lab_master/Master.csv": "asterisk-csv",
    "asterisk_testsuite/good.csv": "asterisk-csv",
    "asterisk_testsuite/buggy.csv": "delimited",  # one broken row proves nothing
    "cucm/cdr.txt": "cucm",
    "cucm/cmr.txt": "cucm",
    "cucm/sample_cdr.txt": "cucm",
    "cucm/sample_cmr.txt": "cucm",
    "freeswitch_cdr_csv/Master.csv": "delimited",  # a spreadsheet saved it: no template fits any more
    "freeswitch_json_cdr/fs_json_cdr_1.json": "freeswitch-json",
    "freeswitch_json_cdr/fs_json_cdr_2.json": "freeswitch-json",
    "freeswitch_json_cdr/fs_json_cdr_3.json": "freeswitch-json",
    "msgraph/pstn_calls.json": "graph-pstn",
    "msgraph/direct_routing_calls.json": "graph-direct-routing",
    "acmepacket_fieldmaps/C640_start.csv": "delimited",  # tables of a manual, no records
    "acmepacket_fieldmaps/C640_stop.csv": "delimited",
    "acmepacket_fieldmaps/D710_start.csv": "delimited",
}
# The answers of a person who knows the switch, by table and key.
NUMBERS_OWNED = {("call_types", "by"): '"numbers"', ("call_types", "owned"): '["+4420"]'}
EVERYWHERE = {("", "zone"): '"UTC"', ("", "tenant"): '"contoso"', ("numbers", "bare"): '"e164"', ("numbers", "internal_digits_max"): "4",
              ("freeswitch", "legs"): '"a"'}  # fmt: skip
ANSWERS: dict[str, dict[tuple[str, str], str]] = {
    "acme": {("users", "column"): '"calling"', ("acme", "release"): '"C6.4.0"', **NUMBERS_OWNED},
    "asterisk-csv": {("users", "column"): '"src"', **NUMBERS_OWNED},
    "asterisk-json": {("users", "column"): '"src"', **NUMBERS_OWNED},
    "cucm": {("users", "column"): '"callingPartyNumber"', ("call_types", "by"): '"trunks"', ("call_types", "trunks"): '["SIP-TRUNK-CARRIER1"]',
             ("numbers", "access"): '["9"]', ("numbers", "international"): '["00"]'},
    "freeswitch-csv": {("users", "column"): '"caller_id_number"', **NUMBERS_OWNED},
    "freeswitch-json": {("users", "column"): '"username"', **NUMBERS_OWNED},
    "freeswitch-event": {("users", "column"): '"caller_id_number"', **NUMBERS_OWNED},
    "kamailio": {("users", "column"): '"src_user"', ("kamailio", "cdr_start_on_confirmed"): "true", **NUMBERS_OWNED},
    "3gpp-json": {("users", "column"): '"subscriberIdentifier"', ("3gpp", "session"): '["nfConsumerIdentification.nFName"]',
                  ("3gpp", "create"): '"answer"', **NUMBERS_OWNED},
    "opensips": {("users", "column"): '"caller"', **NUMBERS_OWNED},
    "sonus": {("users", "column"): '"calling"', **NUMBERS_OWNED},
    "graph-pstn": {},
    "graph-direct-routing": {},
}  # fmt: skip


def proposed(name: str, *args: str | Path) -> dict[str, Any]:
    return told(front("mediate", SAMPLES / name, "--profile-new", "sw1", "--json", *args))


def answered(toml: str, answers: dict[tuple[str, str], str]) -> dict[str, Any]:
    """The proposal with the answers in the lines that ask for them; what is not answered stays a comment."""
    lines, table, given = [], "", set[tuple[str, str]]()
    for line in toml.splitlines():
        if line.startswith("["):
            table = line.strip("[]")
        found = re.match(r"# (\w+) = ", line)
        key = (table, found[1]) if found else ("", "")
        if key in answers and key not in given:
            lines.append(f"{key[1]} = {answers[key]}")
            given.add(key)
        else:
            lines.append(line)
    return tomllib.loads("\n".join(lines))


@needs_samples
def test_every_sample_has_its_row_here():
    files = {file.relative_to(SAMPLES).as_posix() for file in SAMPLES.rglob("*") if file.is_file()}
    assert files - {"SOURCES.md", "synthetic/expected_canonical.json"} == set(SOURCE_OF)


@needs_samples
@pytest.mark.parametrize("name", SOURCE_OF)
def test_a_proposal_names_the_source_asks_questions_and_is_refused_until_they_are_answered(name: str):
    found = proposed(name)
    assert found["source"] == SOURCE_OF[name]
    assert found["open"]
    assert found["toml"].count("\n#? ") == len(found["open"])
    for line, after in zip(found["toml"].splitlines(), found["toml"].splitlines()[1:], strict=False):
        assert not line.startswith("#? ") or after.startswith("# "), line
    data = tomllib.loads(found["toml"])
    assert (data["source"], data["switch"]) == (found["source"], "sw1")
    with pytest.raises(ProfileRefused):
        profile_from("proposal", data)


@needs_samples
@pytest.mark.parametrize("name", [name for name in SOURCE_OF if name.startswith("synthetic/")])
def test_with_the_answers_of_somebody_who_knows_the_one_call_comes_out(name: str):
    found = proposed(name)
    profile = profile_from("proposal", answered(found["toml"], EVERYWHERE | ANSWERS[found["source"]]))
    source = open_source(profile.source, profile)
    records = list(source.read(io.BytesIO((SAMPLES / name).read_bytes())))
    records += list(source.close()) if isinstance(source, Assembling) else []
    if name.endswith("b_leg.json"):
        assert [record.kind for record in records] == ["leg"]
        return
    expected = orjson.loads((SAMPLES / "synthetic" / "expected_canonical.json").read_bytes())
    call = calls(records)[0]
    assert call["billable_ms"] == expected["billable_ms_per_source"].get(Path(name).name, call["billable_ms"])
    assert (call["caller"], call["call_type"]) == ("+442079460018", "dr_out" if "direct" in name else "user_out")
    assert "+12125550123".startswith(call["callee"])


def test_two_layouts_that_fit_are_a_question(tmp_path: Path):
    file = tmp_path / "Master.csv"
    file.write_bytes(row(LAYOUTS["master-17-uniqueid"]))
    found = told(front("mediate", file, "--profile-new", "pbx1", "--json"))
    assert "layout" not in tomllib.loads(found["toml"]).get("asterisk", {})
    [question] = [one for one in found["open"] if one["table"] == "asterisk"]
    assert "master-17-uniqueid, master-17-userfield" in question["question"]


def test_a_date_that_reads_in_two_orders_is_a_question_and_one_that_does_not_is_no_question(tmp_path: Path):
    def asked(day: str) -> tuple[bool, Any]:
        file = tmp_path / "calls.csv"
        text = "".join(f"id{n};{day} 10:00:0{n};+44207946001{n};00121255501{n}3;{n}5;OK\n" for n in range(5))
        file.write_text("id;when;from;to;secs;state\n" + text, "utf-8")
        found = told(front("mediate", file, "--profile-new", "sbc1", "--json"))
        delimited = tomllib.loads(found["toml"])["delimited"]
        assert (delimited["delimiter"], delimited["header"]) == (";", True)
        return any("both read" in one["question"] for one in found["open"]), delimited.get("time_format")

    assert asked("03/04/2026") == (True, None)
    assert asked("13/04/2026") == (False, "%d/%m/%Y %H:%M:%S")
    assert asked("04/13/2026") == (False, "%m/%d/%Y %H:%M:%S")
    assert asked("2026-04-13") == (False, "iso")


def test_a_delimited_proposal_says_which_columns_are_times_numbers_and_names(tmp_path: Path):
    file = tmp_path / "calls.csv"
    text = "".join(f"id{n};2026-04-13 10:00:0{n};+44207946001{n};00121255501{n}3;{n}5;OK\n" for n in range(5))
    file.write_text(text, "utf-8")
    found = told(front("mediate", file, "--profile-new", "sbc1", "--json"))
    questions = {one["question"] for one in found["open"]}
    assert any("look like numbers: c3, c4" in question for question in questions)
    assert any("that are times: c2" in question for question in questions)
    assert any("Different in every row: c1" in question for question in questions)
    answers = {("", "zone"): '"UTC"', ("", "tenant"): '"contoso"', ("users", "column"): '"c3"', ("numbers", "international"): '["00"]',
               ("call_types", "by"): '"numbers"', ("call_types", "owned"): '["+4420"]', ("delimited.fields", "record_id"): '["c1"]',
               ("delimited.fields", "caller"): '"c3"', ("delimited.fields", "called"): '"c4"', ("delimited.fields", "start"): '"c2"',
               ("delimited.fields", "billable"): '"c5"', ("delimited.fields", "disposition"): '"by_billable"',
               ("delimited", "unit"): '"s"'}  # fmt: skip
    profile = profile_from("proposal", answered(found["toml"], answers))
    records = list(open_source("delimited", profile).read(io.BytesIO(text.encode())))
    assert [call["billable_ms"] for call in calls(records)] == []  # without an end or a duration no call has one
    assert {record.detail for record in records} == {"end: is empty, and no duration says when the call ended"}


def test_what_cannot_be_told_is_asked_for(tmp_path: Path):
    file = tmp_path / "thing.json"
    file.write_text(json.dumps({"what": "ever"}), "utf-8")
    assert "bears the marks of no source" in refused(front("mediate", file, "--profile-new", "x1"))
    assert "expected the name of the switch" in refused(front("mediate", file, "--profile-new", "x 1"))
    assert "needs a sample" in refused(front("mediate", "--profile-new", "x1"))
    given = told(front("mediate", file, "--profile-new", "x1", "--source", "kamailio", "--json"))
    assert given["evidence"] == "as --source says"


def test_the_proposal_holds_no_phone_number_and_goes_to_standard_output(tmp_path: Path):
    file = tmp_path / "Master.csv"
    file.write_bytes(row(LAYOUTS["master-18"], accountcode="447700900123"))
    ended = front("mediate", file, "--profile-new", "pbx1")
    assert ended.status == 0
    text = ended.stdout.decode()
    assert "questions are left open" in ended.stderr.decode()
    for number in ("442079460018", "12125550123", "447700900123"):
        assert number not in text
    assert set(SOURCES) >= {tomllib.loads(text)["source"]}


def test_xml_of_freeswitch_is_recognised(tmp_path: Path):
    for name, form in FORMS.items():
        file = tmp_path / f"{name}.xml"
        file.write_bytes(form(CALL))
        if "base64" not in name:
            assert told(front("mediate", file, "--profile-new", "fs1", "--json"))["source"] == "freeswitch-xml", name
