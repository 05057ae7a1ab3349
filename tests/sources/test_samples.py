"""The sample files: the same call from every format, real files, and broken ones."""

from pathlib import Path

import orjson
import pytest

from tests.sources.support import ASTERISK, GRAPH, SAMPLES, calls, needs_samples, profile, read

pytestmark = needs_samples

LAYOUT_OF = {
    "asterisk_cdr_csv_Master.csv": "master-18",
    "asterisk_cdr_csv_newcolumns.csv": "newcolumns-21",
    "asterisk_cdr_custom.csv": "cdr-custom",
}
TESTSUITE = """
source = "asterisk-csv"
switch = "lab"
zone = "UTC"
tenant = "lab"
[users]
column = "src"
[numbers.extensions]
"100" = "+442079460100"
"1234" = "+442079461234"
"6789" = "+442079466789"
[call_types]
by = "dcontext"
[call_types.map]
context = "user_out"
default = "user_out"
[asterisk]
layout = "master-18"
"""


@pytest.mark.parametrize("name", LAYOUT_OF)
def test_the_one_call_from_each_asterisk_file(tmp_path: Path, name: str) -> None:
    expected = orjson.loads((SAMPLES / "synthetic" / "expected_canonical.json").read_bytes())
    text = ASTERISK.replace("master-18", LAYOUT_OF[name])
    text = text.replace('tenant = "acme"', "[tenants]\nsame = true")
    call, *others = calls(read(profile(tmp_path, text), (SAMPLES / "synthetic" / name).read_bytes()))
    for key in ("tenant", "caller", "callee", "disposition"):
        assert call[key] == expected["call"][key]
    for key in ("start", "answer", "end"):
        assert call[key][:19] == expected["call"][key][:19]
    assert call["billable_ms"] == expected["billable_ms_per_source"][name]
    assert [(other["disposition"], other["billable_ms"]) for other in others] == (
        [("no_answer", 0)] if name == "asterisk_cdr_csv_Master.csv" else []
    )


@pytest.mark.parametrize("name", ["graph_pstn_row.json", "graph_direct_routing_rows.json"])
def test_the_one_call_from_each_graph_file(tmp_path: Path, name: str) -> None:
    expected = orjson.loads((SAMPLES / "synthetic" / "expected_canonical.json").read_bytes())
    routed = "direct_routing" in name
    text = GRAPH.replace("graph-pstn", "graph-direct-routing") if routed else GRAPH
    call, *others = calls(read(profile(tmp_path, text), (SAMPLES / "synthetic" / name).read_bytes()))
    assert call["billable_ms"] == expected["billable_ms_per_source"][name]
    for key in ("caller", "answer", "end", "disposition"):
        assert call[key] == expected["call"][key]
    assert call["start"] == expected["call"]["start" if routed else "answer"]
    assert expected["call"]["callee"].startswith(call["callee"])
    assert [(other["disposition"], other["billable_ms"]) for other in others] == ([("busy", 0)] if routed else [])


def test_microsofts_own_examples(tmp_path: Path) -> None:
    [pstn] = calls(read(profile(tmp_path, GRAPH), (SAMPLES / "msgraph" / "pstn_calls.json").read_bytes()))
    assert (pstn["call_type"], pstn["billable_ms"], pstn["start"]) == ("user_in", 219_000, "2019-11-01T00:00:08.258Z")
    direct = profile(tmp_path, GRAPH.replace("graph-pstn", "graph-direct-routing"))
    [routed] = calls(read(direct, (SAMPLES / "msgraph" / "direct_routing_calls.json").read_bytes()))
    assert (routed["call_type"], routed["billable_ms"], routed["callee"]) == ("dr_in", 5_000, "+01234567")


def test_the_good_rows_of_the_test_suite(tmp_path: Path) -> None:
    records = read(profile(tmp_path, TESTSUITE), (SAMPLES / "asterisk_testsuite" / "good.csv").read_bytes())
    assert [record.reason for record in records] == ["", "bad_times", "", "", ""]
    assert [call["disposition"] for call in calls(records)] == ["answered", "failed", "no_answer", "busy"]
    assert sum(call["billable_ms"] for call in calls(records)) == 5_000


def test_the_broken_row_of_the_test_suite_takes_no_other_with_it(tmp_path: Path) -> None:
    buggy = (SAMPLES / "asterisk_testsuite" / "buggy.csv").read_bytes()
    good = (SAMPLES / "asterisk_testsuite" / "good.csv").read_bytes()
    records = read(profile(tmp_path, TESTSUITE), good + buggy + good + buggy + buggy + good)
    broken = [record for record in records if record.reason == "bad_source_row"]
    assert [record.raw for record in broken] == [buggy.rstrip(b"\n")] * 3
    assert len(records) == 18
    assert len(calls(records)) == 12


def test_a_real_file_is_read_whole_and_its_ids_are_all_different(tmp_path: Path) -> None:
    text = TESTSUITE.replace("master-18", "cdr-custom").replace("UTC", "Indian/Antananarivo")
    data = (SAMPLES / "asterisk_lab_master" / "Master.csv").read_bytes()
    records = read(profile(tmp_path, text), data)
    found = calls(records)
    assert len(found) == len(records) == 14
    assert len({call["record_id"] for call in found}) == 14
    assert sum(call["disposition"] == "answered" for call in found) == 11
    assert b"".join(record.raw + b"\n" for record in records) == data
    assert records == read(profile(tmp_path, text), data)
