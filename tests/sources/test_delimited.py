"""Any delimited or fixed-width file, read by its profile alone."""

import random
import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rater.sources import ProfileRefused, SourceProfile, load_profile
from tests.sources.support import SAMPLES, call_of, calls, needs_samples, profile, read

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "sources" / "delimited.toml"
ROW = b"2026-01-15 13:30:00;2026-01-15 13:30:12;2026-01-15 13:32:47;+442079460018;0012125550123;154;OK;carrier1;acme;b1"
PLAIN = """
source = "delimited"
switch = "sw1"
zone = "UTC"
tenant = "acme"
[users]
column = "from"
[numbers]
bare = "e164"
[call_types]
by = "column"
column = "way"
[call_types.map]
out = "user_out"
in = "user_in"
[delimited]
columns = ["id", "from", "to", "way", "start", "secs", "status"]
[delimited.fields]
record_id = "id"
caller = "from"
called = "to"
start = "start"
duration = "secs"
billable = "secs"
disposition = "by_billable"
"""


@pytest.fixture(scope="module")
def example() -> SourceProfile:
    return load_profile(EXAMPLE)


def plain(folder: Path, line: str, **changed: str) -> dict[str, Any]:
    [call] = calls(read(profile(folder, changing(**changed)), line.encode("latin-1")))
    return call


def changing(**changed: str) -> str:
    """PLAIN with `[delimited]` keys more, or fields in another place."""
    text = PLAIN
    for key, value in changed.items():
        found = re.search(rf"^{key} = .*$", text, re.MULTILINE)
        if found:
            text = text.replace(found[0], f"{key} = {value}" if value else "")
        else:
            text = text.replace("[delimited.fields]", f"{key} = {value}\n[delimited.fields]")
    return text


def test_the_example_reads_its_line(example: SourceProfile) -> None:
    [call] = calls(read(example, ROW))
    assert call == {
        "record_id": "sbc1:b1",
        "tenant": "contoso",
        "call_type": "user_out",
        "user": "+442079460018",
        "caller": "+442079460018",
        "callee": "+12125550123",
        "start": "2026-01-15T13:30:00.000Z",
        "answer": "2026-01-15T13:30:12.000Z",
        "end": "2026-01-15T13:32:47.000Z",
        "billable_ms": 154_000,
        "disposition": "answered",
        "source": "delimited",
        "switch": "sbc1",
        "call_id": "b1",
    }


@pytest.mark.parametrize(
    ("old", "new", "reason", "kind"),
    [
        (b";OK;", b";BUSY;", "", "call"),
        (b";OK;", b";START;", "", "leg"),
        (b"carrier1", b"internal", "", "leg"),
        (b";acme;", b";nobody;", "unknown_tenant", "call"),
        (b";acme;", b";;", "missing_field", "call"),
        (b";b1", b";", "missing_field", "call"),
        (b"0012125550123", b"2125550123", "bad_field", "call"),
        (b"0012125550123", b"", "missing_field", "call"),
        (b";154;", b";;", "missing_field", "call"),
        (b";154;", b";one;", "bad_field", "call"),
        (b";154;", b";86401;", "bad_field", "call"),
        (b";154;", b";160;", "bad_times", "call"),
        (b"13:32:47", b"13:30:05", "bad_times", "call"),
        (b"13:30:00", b"13:30", "bad_field", "call"),
        (b"carrier1", b"carrier1;", "bad_source_row", "call"),
        (b"carrier1;acme", b"carrier1", "bad_source_row", "call"),
        (b";OK;", b';"OK;', "bad_source_row", "call"),
        (b"+44", b"#44", "", "call"),
        (b"b1", b"\xff", "bad_field", "call"),
    ],
)
def test_a_row_that_does_not_fit_says_why(
    example: SourceProfile, old: bytes, new: bytes, reason: str, kind: str
) -> None:
    line = ROW.replace(old, new)
    if new == b";BUSY;":
        line = line.replace(b"154", b"0")
    first, second = read(example, line + b"\n" + ROW + b"\n")
    assert (first.reason, first.kind, first.raw) == (reason, kind, line)
    assert (first.canonical is None) == (bool(reason) or kind != "call")
    assert call_of(second)["record_id"] == "sbc1:b1"
    assert "2125550123" not in first.detail


def test_emergency_comes_first_whatever_the_trunk(example: SourceProfile) -> None:
    [call] = calls(read(example, ROW.replace(b"0012125550123", b"112").replace(b"carrier1", b"other")))
    assert (call["call_type"], call["callee"]) == ("emergency", "+112")


def test_comment_lines_and_titles_are_headers_and_lose_nothing(tmp_path: Path, example: SourceProfile) -> None:
    assert [record.kind for record in read(example, b"# a comment\n" + ROW + b"\n# the end\n")] == [
        "header",
        "call",
        "header",
    ]
    text = changing(skip_lines="2")
    data = b"Report of January\nPage 1\n1,+442079460018,12125550123,out,2026-01-15 13:30:00,5,\n"
    assert [record.kind for record in read(profile(tmp_path, text), data)] == ["header", "header", "call"]


@pytest.mark.parametrize(
    ("time_format", "stamp", "start"),
    [
        ("iso", "2026-01-15 13:30:00", "2026-01-15T13:30:00.000Z"),
        ("iso", "2026-01-15T13:30:00.123+0100", "2026-01-15T12:30:00.123Z"),
        ("epoch", "1768483800", "2026-01-15T13:30:00.000Z"),
        ("epoch", "1768483800.2009", "2026-01-15T13:30:00.200Z"),
        ("epoch_ms", "1768483800200", "2026-01-15T13:30:00.200Z"),
        ("epoch_us", "1768483800200999", "2026-01-15T13:30:00.200Z"),
        ("%m/%d/%Y %I:%M:%S %p", "1/15/2026 1:30:00 pm", "2026-01-15T13:30:00.000Z"),
        ("%m/%d/%Y %I:%M:%S %p", "1/15/2026 12:30:00 AM", "2026-01-15T00:30:00.000Z"),
        ("%d.%m.%y %H:%M:%S.%f", "15.01.26 13:30:00.25", "2026-01-15T13:30:00.250Z"),
        ("%Y%m%d%H%M%S%z", "20260115133000-0500", "2026-01-15T18:30:00.000Z"),
        ("%b %d %Y %H:%M", "Jan 15 2026 13:30", "2026-01-15T13:30:00.000Z"),
    ],
)
def test_times_in_every_shape(tmp_path: Path, time_format: str, stamp: str, start: str) -> None:
    line = f"1,+442079460018,12125550123,out,{stamp},5,"
    call = plain(tmp_path, line, time_format=repr(time_format))
    assert (call["start"], call["billable_ms"]) == (start, 5000)


@pytest.mark.parametrize("stamp", ["13/45/2026 13:30", "2026-02-30 10:00:00", "9" * 19, "x", "2026-01-15 25:00:00"])
@pytest.mark.parametrize("time_format", ["iso", "epoch", "epoch_us", "%d/%m/%Y %H:%M", "%m/%d/%Y %I:%M %p"])
def test_a_time_that_is_none_is_rejected(tmp_path: Path, time_format: str, stamp: str) -> None:
    text = changing(time_format=repr(time_format))
    [record] = read(profile(tmp_path, text), f"1,+442079460018,12125550123,out,{stamp},5,".encode())
    assert record.reason == "bad_field" or (time_format == "epoch_us" and stamp.isdigit())


@pytest.mark.parametrize(
    ("unit", "text", "billable_ms"),
    [
        ("s", "154", 154_000),
        ("s", "154.5509", 154_550),
        ("ms", "154550", 154_550),
        ("us", "154550999", 154_550),
        ("10ms", "15455", 154_550),
        ("min", "2.5", 150_000),
        ("min", "0.0001", 6),
        ("hms", "00:02:34", 154_000),
        ("hms", "2:34.5", 154_500),
    ],
)
def test_measured_time_in_every_unit_is_cut_never_rounded_up(
    tmp_path: Path, unit: str, text: str, billable_ms: int
) -> None:
    line = f"1,+442079460018,12125550123,out,2026-01-15 13:30:00,{text},"
    assert plain(tmp_path, line, unit=repr(unit))["billable_ms"] == billable_ms


def test_a_decimal_comma(tmp_path: Path) -> None:
    line = '1,+442079460018,12125550123,out,2026-01-15 13:30:00,"4,5",'
    assert plain(tmp_path, line, decimal='","')["billable_ms"] == 4500


def test_fixed_width_lines_and_their_length(tmp_path: Path) -> None:
    text = changing(widths="[4, 14, 14, 4, 20, 6, 2]")
    line = "1   +442079460018 12125550123   out 2026-01-15 13:30:00      5ok"
    assert len(line) == 64
    prof = profile(tmp_path, text)
    good, short, long = read(prof, f"{line}\n{line[:-2]}\n{line}x\n".encode())
    assert call_of(good)["billable_ms"] == 5000
    assert (short.detail, long.detail) == ("found 62 characters, expected 64", "found 65 characters, expected 64")
    loose = profile(tmp_path, changing(widths="[4, 14, 14, 4, 20, 6, 2]", short_lines="true"))
    assert len(calls(read(loose, line[:-2].encode()))) == 1


def test_columns_by_header_whatever_their_order(tmp_path: Path) -> None:
    text = changing(columns="", header="true")
    data = (
        b"\xef\xbb\xbfstatus,to,from,way,secs,start,id,more\n,12125550123,+442079460018,out,5,2026-01-15 13:30:00,7,x\n"
    )
    header, record = read(profile(tmp_path, text), data)
    assert (header.kind, call_of(record)["record_id"]) == ("header", "sw1:7")
    header, record = read(profile(tmp_path, text), data.replace(b"secs", b"sec"))
    assert header.detail.startswith("the header lacks secs")
    assert record.reason == "bad_source_row"


def test_columns_by_position(tmp_path: Path) -> None:
    text = changing(columns="", width="9")
    places = "id = 9\nfrom = 2\nto = 3\nway = 4\nstart = 5\nsecs = 7\nstatus = 8\n"
    text = text.replace("[delimited.fields]", f"[delimited.positions]\n{places}[delimited.fields]")
    [call] = calls(read(profile(tmp_path, text), b"?,+442079460018,12125550123,out,2026-01-15 13:30:00,?,5,,42\n"))
    assert (call["record_id"], call["billable_ms"]) == ("sw1:42", 5000)


def test_escaped_commas_and_unquoted_files(tmp_path: Path) -> None:
    line = r"a\,b,+442079460018,12125550123,out,2026-01-15 13:30:00,5,"
    assert plain(tmp_path, line, quote='""', escape=r'"\\"')["record_id"] == "sw1:a,b"
    bare = 'a"b,+442079460018,12125550123,out,2026-01-15 13:30:00,5,'
    assert plain(tmp_path, bare, quote='""')["record_id"] == 'sw1:a"b'


def test_another_encoding(tmp_path: Path) -> None:
    text = changing(encoding='"cp1252"').replace('column = "from"', 'column = "status"')
    [call] = calls(read(profile(tmp_path, text), b"1,+442079460018,12125550123,out,2026-01-15 13:30:00,5,Ren\xe9\n"))
    assert call["user"] == "Ren\u00e9"


def test_an_inbound_call_needs_a_caller_that_can_be_read(tmp_path: Path) -> None:
    prof = profile(tmp_path, PLAIN)
    withheld, unread = read(
        prof,
        b"1,anonymous,442079460018,in,2026-01-15 13:30:00,5,\n2,0207946001,442079460018,in,2026-01-15 13:30:00,5,\n",
    )
    assert call_of(withheld)["caller"] is None
    assert unread.reason == "bad_field"


def test_trunks_and_numbers_decide_too(tmp_path: Path) -> None:
    text = changing(columns='["id", "from", "to", "way", "start", "secs", "status", "via"]')
    text = text.replace('by = "column"\ncolumn = "way"', 'by = "trunks"\ntrunks = ["carrier*"]')
    text += 'trunk_in = "way"\ntrunk_out = "via"\n'
    prof = profile(tmp_path, text)
    row = b"1,+442079460018,12125550123,%s,2026-01-15 13:30:00,5,,%s\n"
    out, into, inside, through = read(
        prof,
        row % (b"pbx", b"carrier1")
        + row % (b"carrier2", b"pbx")
        + row % (b"a", b"b")
        + row % (b"carrier1", b"carrier2"),
    )
    assert (call_of(out)["call_type"], call_of(into)["call_type"]) == ("user_out", "user_in")
    assert (inside.kind, through.reason) == ("leg", "bad_field")
    owned = PLAIN.replace('by = "column"\ncolumn = "way"', 'by = "numbers"\nowned = ["+4420794600"]')
    [call] = calls(read(profile(tmp_path, owned), b"1,+442079460018,12125550123,,2026-01-15 13:30:00,5,\n"))
    assert call["call_type"] == "user_out"


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('switch = "sw1"', "", "switch"),
        ('column = "way"', "", "[call_types] column"),
        ('by = "column"\ncolumn = "way"', 'by = "dcontext"', "[call_types] by"),
        ('record_id = "id"', "", "[delimited.fields] record_id"),
        ('record_id = "id"', "record_id = []", "[delimited.fields] record_id"),
        ('start = "start"', "", "[delimited.fields] start"),
        ('disposition = "by_billable"', "", "[delimited.fields] disposition"),
        ('disposition = "by_billable"', 'disposition = "status"', "[delimited.dispositions]"),
        ('billable = "secs"', "", "[delimited.fields] billable"),
        ('duration = "secs"', 'duration = "sec"', "[delimited] columns"),
        ('duration = "secs"', 'durations = "secs"', "[delimited.fields] durations"),
        ("[delimited]\n", '[delimited]\ndelimiter = ";;"\n', "[delimited] delimiter"),
        ("[delimited]\n", "[delimited]\nwidths = [1, 2]\n", "[delimited] widths"),
        ("[delimited]\n", '[delimited]\nunit = "h"\n', "[delimited] unit"),
        ("[delimited]\n", '[delimited]\ntime_format = "%c"\n', "[delimited] time_format"),
        ("[delimited]\n", '[delimited]\ntime_format = "%d/%m %H:%M"\n', "[delimited] time_format"),
        ("[delimited]\n", '[delimited]\nencodings = "utf-8"\n', "[delimited] encodings"),
        ("[delimited]\n", "[delimited]\nwidth = 9\n", "[delimited] width"),
        ('columns = ["id", ', 'columns = ["id", "id", ', "[delimited] columns"),
        ('zone = "UTC"', 'zone = ""', "zone"),
    ],
)
def test_faults_of_a_profile_are_named(tmp_path: Path, old: str, new: str, key: str) -> None:
    assert old in PLAIN
    with pytest.raises(ProfileRefused) as caught:
        profile(tmp_path, PLAIN.replace(old, new, 1))
    assert caught.value.key == key


def test_two_deliveries_shuffled_in_two_files_give_the_same_records(example: SourceProfile) -> None:
    lines = [ROW.replace(b";b1", b";b%d" % index).replace(b";154;", b";15%d;" % (index % 5)) for index in range(60)]
    once = sorted(record.canonical or b"" for record in read(example, b"\n".join(lines)))
    again = lines + lines
    random.Random(7).shuffle(again)
    halves = read(example, b"\n".join(again[:60])) + read(example, b"\r\n".join(again[60:]))
    assert sorted(record.canonical or b"" for record in halves) == sorted(once + once)
    assert len({orjson.loads(line)["record_id"] for line in once if line}) == len([line for line in once if line])


def seconds_in(data: bytes) -> int:
    """Every run of digits as if it were seconds: no reading can bill more than that."""
    return sum(int(text) for text in re.findall(rb"[0-9]+", data)) * 1000


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6), st.integers(0, 120))
def test_mutated_lines_never_stop_the_reader_nor_make_time(
    example: SourceProfile, changes: list[tuple[int, int]], cut: int
) -> None:
    line = bytearray(ROW)
    for place, value in changes:
        line[place % len(line)] = value
    data = bytes(line) + b"\n" + bytes(line[:cut]) + b"\n" + ROW
    records = read(example, data)
    for call in calls(records):
        assert call["billable_ms"] <= seconds_in(data)
    assert sum(len(record.raw) for record in records) <= len(data)


@given(st.binary(max_size=400))
def test_any_bytes_are_rejected_and_never_lost(example: SourceProfile, data: bytes) -> None:
    records = read(example, data)
    assert all(record.canonical is None for record in records)
    kept = b"".join(record.raw for record in records)
    assert sum(map(len, [kept])) <= len(data)


@needs_samples
def test_other_families_files_by_profile_alone(tmp_path: Path) -> None:
    """An Asterisk file read as what it is: a delimited file, with the same answer."""
    text = """
source = "delimited"
switch = "pbx1"
zone = "UTC"
[tenants]
column = "accountcode"
same = true
[users]
column = "src"
[numbers]
bare = "e164"
[call_types]
by = "column"
column = "dcontext"
[call_types.map]
from-internal = "user_out"
[delimited]
columns = ["accountcode", "src", "dst", "dcontext", "-", "-", "-", "-", "-", "start", "answer", "end", "-", "billsec",
  "disposition", "-", "uniqueid", "-"]
[delimited.fields]
record_id = "uniqueid"
caller = "src"
called = "dst"
start = "start"
answer = "answer"
end = "end"
billable = "billsec"
disposition = "disposition"
[delimited.dispositions]
ANSWERED = "answered"
"NO ANSWER" = "no_answer"
"""
    expected = orjson.loads((SAMPLES / "synthetic" / "expected_canonical.json").read_bytes())
    data = (SAMPLES / "synthetic" / "asterisk_cdr_csv_Master.csv").read_bytes()
    call, missed = calls(read(profile(tmp_path, text), data))
    assert call["billable_ms"] == expected["billable_ms_per_source"]["asterisk_cdr_csv_Master.csv"]
    for key in ("tenant", "caller", "callee", "disposition"):
        assert call[key] == expected["call"][key]
    assert (missed["billable_ms"], missed["disposition"]) == (0, "no_answer")
