"""`rater mediate --explain`: one record, field by field, with the verdict of the real run; nothing is written."""

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from rater.doors.files.mediate_explain import beginning
from rater.sources.asterisk_layouts import LAYOUTS
from tests.doors.front import front, refused, told
from tests.sources.support import ASTERISK, GRAPH, row
from tests.sources.test_ber import ims, moc

DOCS = Path(__file__).resolve().parents[2] / "docs" / "sources"
MASTER = LAYOUTS["master-18"]


def line(number: int, **changed: str) -> bytes:
    return row(MASTER, uniqueid=f"1768483800.{number}", **changed)


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    (tmp_path / "pbx.toml").write_text(ASTERISK, "utf-8")
    rows = [
        line(1),
        line(2, billsec="25"),
        b"not a row\n",
        line(4, userfield="two\nlines"),
        line(5),
        line(6, dcontext="park"),
    ]
    (tmp_path / "Master.csv").write_bytes(b"".join(rows))
    return tmp_path


def explained(
    desk: Path, target: str, *inputs: Path, profile: str = "pbx.toml", source: str = "asterisk-csv", stdin: bytes = b""
) -> dict[str, Any]:
    return told(front("mediate", *(inputs or (desk / "Master.csv",)), "--source", source, "--profile", desk / profile, "--explain", target,
                      "--json", stdin=stdin))  # fmt: skip


def invite(at: int = 1768483812, call: str = "b19@x") -> dict[str, Any]:
    return {"method": "INVITE", "from_tag": "a", "to_tag": "b", "callid": call, "sip_code": "200", "time": str(at),
            "src_user": "+442079460018", "dst_user": "+12125550123", "account": "acme"}  # fmt: skip


def bye(at: int = 1768483967, call: str = "b19@x") -> dict[str, Any]:
    return {**invite(at, call), "method": "BYE", "from_tag": "b", "to_tag": "a"}


def lines(*records: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def test_a_call_shows_column_raw_value_what_was_done_and_what_became_of_it(desk: Path):
    found = explained(desk, "1")
    assert (found["outcome"], found["line"], found["why"]) == ("call", 1, "a call record")
    [callee] = [field for field in found["fields"] if field["field"] == "callee"]
    assert callee == {
        "field": "callee",
        "value": "+12125550123",
        "read": [{"name": "dst", "where": "column 3", "raw": "12125550123", "as": None}],
        "done": ['12125550123: bare = "e164": + before it: +12125550123'],
    }
    assert found["call"]["record_id"].startswith("pbx1:1768483800.1:")


def test_it_is_the_record_that_mediate_writes(desk: Path):
    front(
        "mediate",
        desk / "Master.csv",
        "--source",
        "asterisk-csv",
        "--profile",
        desk / "pbx.toml",
        "--out",
        desk / "out",
    )
    written = [json.loads(text) for text in (desk / "out" / "cdrs.jsonl").read_bytes().splitlines()]
    assert [explained(desk, number)["call"] for number in ("1", "4", "6")] == written


def test_a_rejected_row_says_why_with_its_figures(desk: Path):
    found = explained(desk, "2")
    assert (found["outcome"], found["reason"]) == ("rejected", "bad_times")
    assert "25.000 s" in found["why"]
    assert explained(desk, "3")["why"].startswith("rejected bad_source_row: found 1 columns, expected 18")
    assert explained(desk, "7")["why"].startswith("rejected bad_field: dcontext: 'park' has no rule")


def test_a_row_over_two_lines_is_found_by_either(desk: Path):
    first, second = explained(desk, "4"), explained(desk, "5")
    assert first == second
    assert first["line"] == 4
    assert first["call"]["record_id"].startswith("pbx1:1768483800.4:")


def test_the_text_of_a_line_and_standard_input_do_as_well(desk: Path):
    text = line(9).decode().rstrip("\n")
    assert explained(desk, text)["call"] == explained(desk, "-", stdin=line(9))["call"]
    alone = told(
        front("mediate", "--source", "asterisk-csv", "--profile", desk / "pbx.toml", "--explain", text, "--json")
    )
    assert alone["call"]["record_id"].startswith("pbx1:1768483800.9:")


def test_a_header_before_the_record_is_read_with_it(desk: Path):
    (desk / "sql.toml").write_text(ASTERISK.replace("master-18", "header"), "utf-8")
    export = desk / "export.csv"
    export.write_bytes(",".join(MASTER).encode() + b"\n" + line(1) + line(2))
    found = explained(desk, "3", export, profile="sql.toml")
    assert found["call"]["record_id"].startswith("pbx1:1768483800.2:")
    assert explained(desk, line(2).decode(), export, profile="sql.toml")["call"] == found["call"]
    assert explained(desk, "1", export, profile="sql.toml")["why"] == "not billed: a header"


def test_compressed_files_and_pages_of_json(desk: Path):
    (desk / "Master.csv.gz").write_bytes(gzip.compress(line(1) + line(2)))
    assert explained(desk, "2", desk / "Master.csv.gz")["call"]["record_id"].startswith("pbx1:1768483800.2:")
    rows = [{"id": name, "callId": "c", "userId": "u", "startDateTime": "2026-01-15T13:30:12Z", "endDateTime": "2026-01-15T13:30:22Z",
             "duration": 10, "callType": "user_out", "calleeNumber": "+12125550123"} for name in ("one", "two", "three")]  # fmt: skip
    (desk / "graph.toml").write_text(GRAPH, "utf-8")
    (desk / "page.json").write_text(json.dumps({"value": rows}), "utf-8")
    found = [
        explained(desk, f"1:{n}", desk / "page.json", profile="graph.toml", source="graph-pstn")["call"]["record_id"]
        for n in (1, 2, 3)
    ]
    assert found == ["one", "two", "three"]


def test_a_call_of_two_records_shows_both_parts_from_either_line(desk: Path):
    calls = desk / "acc.jsonl"
    calls.write_bytes(lines(invite(), invite(call="other"), bye()))
    first, last = (
        explained(desk, number, calls, profile=str(DOCS / "kamailio.toml"), source="kamailio") for number in ("1", "3")
    )
    assert first["call"] == last["call"]
    assert (len(first["parts"]), first["why"]) == (2, "a call record, made of 2 records")
    assert {read["raw"] for field in first["fields"] if field["field"] == "end" for read in field["read"]} == {
        "1768483967"
    }


def test_a_call_that_still_waits_says_what_is_missing(desk: Path):
    calls = desk / "acc.jsonl"
    calls.write_bytes(lines(invite()))
    found = explained(desk, "1", calls, profile=str(DOCS / "kamailio.toml"), source="kamailio")
    assert found["outcome"] == "waiting"
    assert found["why"] == "an incomplete call: no BYE came; it waits for the rest, which may come in a later file"
    text = lines(bye()).decode()
    whole = explained(desk, text, calls, profile=str(DOCS / "kamailio.toml"), source="kamailio")
    assert (whole["outcome"], len(whole["parts"])) == ("call", 2)


def test_a_part_that_came_twice_is_a_repeat_the_second_time(desk: Path):
    calls = desk / "acc.jsonl"
    calls.write_bytes(lines(invite(), bye(), bye()))
    found = [
        explained(desk, number, calls, profile=str(DOCS / "kamailio.toml"), source="kamailio") for number in ("2", "3")
    ]
    assert [one["outcome"] for one in found] == ["call", "not billed"]
    assert found[1]["why"] == "not billed (repeat): a part that was delivered before"


def test_the_screen_tells_it_and_nothing_is_written_or_logged(desk: Path):
    before = sorted(path.name for path in desk.iterdir())
    shown = front(
        "mediate", desk / "Master.csv", "--source", "asterisk-csv", "--profile", desk / "pbx.toml", "--explain", "1"
    )
    text = shown.stdout.decode()
    assert shown.status == 0
    assert "from dst (column 3): 12125550123" in text
    assert "+442079460018" in text  # the terminal of the person who has the file
    assert shown.stderr == b""
    assert sorted(path.name for path in desk.iterdir()) == before


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("99", "no record begins on line 99"),
        ("0", "counted from 1"),
        ("-", "there is no record"),
    ],
)
def test_what_is_not_there_is_said(desk: Path, target: str, sentence: str):
    ended = front(
        "mediate", desk / "Master.csv", "--source", "asterisk-csv", "--profile", desk / "pbx.toml", "--explain", target
    )
    assert sentence in refused(ended)


def test_it_goes_alone(desk: Path):
    args = (
        "mediate",
        desk / "Master.csv",
        "--source",
        "asterisk-csv",
        "--profile",
        desk / "pbx.toml",
        "--explain",
        "1",
    )
    assert "without --follow" in refused(front(*args, "--follow"))
    assert "is a line of one file; 2 files" in refused(front(*args, desk / "Master.csv"))


def test_of_a_long_file_only_its_beginning_is_read(desk: Path):
    long = desk / "long.csv"
    long.write_bytes(b"".join(line(n) for n in range(3_000)))
    assert explained(desk, "2", long)["call"]["record_id"].startswith("pbx1:1768483800.1:")
    assert explained(desk, "3000", long)["call"]["record_id"].startswith("pbx1:1768483800.2999:")
    assert len(beginning(str(long), 2)) < long.stat().st_size / 2


def test_records_without_lines_are_counted_or_read_from_standard_input(desk: Path):
    file = desk / "calls.ber"
    file.write_bytes(moc() + ims())
    ber = {"profile": str(DOCS / "3gpp-ber.toml"), "source": "3gpp-ber"}
    second, read = explained(desk, "2", file, **ber), explained_alone("-", ims(), **ber)
    assert second["call"] == read["call"]
    assert second["call"]["record_id"] != explained(desk, "1", file, **ber)["call"]["record_id"]
    [callee] = [field for field in second["fields"] if field["field"] == "callee"]
    assert callee["read"][0]["where"] == "tag [7]"


def test_what_was_rejected_can_be_asked_about_by_its_bytes(desk: Path):
    front(
        "mediate",
        desk / "Master.csv",
        "--source",
        "asterisk-csv",
        "--profile",
        desk / "pbx.toml",
        "--out",
        desk / "out",
    )
    for text in (desk / "out" / "rejected-raw.jsonl").read_bytes().splitlines():
        rejected = json.loads(text)
        found = explained_alone(
            "-", base64.b64decode(rejected["raw_b64"]), profile=str(desk / "pbx.toml"), source="asterisk-csv"
        )
        assert (found["reason"], found["detail"]) == (rejected["reason"], rejected["detail"])


def explained_alone(target: str, stdin: bytes, *, profile: str, source: str) -> dict[str, Any]:
    return told(front("mediate", "--source", source, "--profile", profile, "--explain", target, "--json", stdin=stdin))


def test_a_number_cannot_be_a_line_of_standard_input_where_parts_may_lie_anywhere(desk: Path):
    ended = front(
        "mediate",
        "-",
        "--source",
        "kamailio",
        "--profile",
        DOCS / "kamailio.toml",
        "--explain",
        "1",
        stdin=lines(invite()),
    )
    assert "give a file, or the record itself" in refused(ended)
