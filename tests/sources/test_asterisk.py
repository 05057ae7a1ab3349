"""Rows of Asterisk files and the call records they become."""

from pathlib import Path
from typing import Any

import pytest

from rater.sources import ProfileRefused
from rater.sources.asterisk_layouts import LAYOUTS
from tests.sources.support import ASTERISK, call_of, calls, profile, read, row

MASTER_18 = LAYOUTS["master-18"]


def one(folder: Path, text: str = ASTERISK, columns: tuple[str, ...] = MASTER_18, **changed: str) -> dict[str, Any]:
    [record] = read(profile(folder, text), row(columns, **changed))
    return call_of(record)


def refused(
    folder: Path, text: str = ASTERISK, columns: tuple[str, ...] = MASTER_18, **changed: str
) -> tuple[str, str]:
    [record] = read(profile(folder, text), row(columns, **changed))
    assert record.canonical is None
    assert record.raw + b"\n" == row(columns, **changed)
    return record.reason, record.detail


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_call(tmp_path: Path, layout: str) -> None:
    text = ASTERISK.replace("master-18", layout)
    call = one(tmp_path, text, LAYOUTS[layout])
    assert call["callee"] == "+12125550123"
    assert call["caller"] == "+442079460018"
    assert call["user"] == "desk"
    assert (call["start"], call["answer"]) == ("2026-01-15T13:30:00.000Z", "2026-01-15T13:30:12.000Z")
    assert (call["billable_ms"], call["disposition"]) == (154_000, "answered")
    assert call["source"] == "asterisk-csv"
    assert call["switch"] == "pbx1"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_row_of_another_width_is_rejected_with_both_widths(tmp_path: Path, layout: str) -> None:
    columns = LAYOUTS[layout]
    text = ASTERISK.replace("master-18", layout)
    reason, detail = refused(tmp_path, text, (*columns, "did"))
    assert reason == "bad_source_row"
    assert f"found {len(columns) + 1} columns, expected {len(columns)}" in detail


@pytest.mark.parametrize("layout", ["master-17", "newcolumns-20"])
def test_an_ambiguous_width_is_refused_and_the_choices_are_named(tmp_path: Path, layout: str) -> None:
    with pytest.raises(ProfileRefused, match=f"{layout}-uniqueid, {layout}-userfield"):
        profile(tmp_path, ASTERISK.replace("master-18", layout))


def test_an_explicit_list_of_columns_reads_any_mapping(tmp_path: Path) -> None:
    columns: tuple[str, ...] = (
        "linkedid",
        "userfield",
        "sequence",
        "uniqueid",
        "dst",
        "src",
        "dcontext",
        "channel",
        "start",
    )
    columns = (*columns, "answer", "end", "billsec", "disposition")
    listed = ", ".join("'-note'" if name == "userfield" else f"'{name}'" for name in columns)
    text = ASTERISK.replace('layout = "master-18"', f"columns = [{listed}]")
    assert one(tmp_path, text, columns)["record_id"] == "pbx1:1768483800.2591:1768483800.2591:5180"


def test_an_sql_export_is_read_by_its_header_and_its_missing_times_are_computed(tmp_path: Path) -> None:
    columns: tuple[str, ...] = (
        "start",
        "clid",
        "src",
        "dst",
        "dcontext",
        "channel",
        "dstchannel",
        "lastapp",
        "lastdata",
    )
    columns = (
        *columns,
        "duration",
        "billsec",
        "disposition",
        "amaflags",
        "accountcode",
        "uniqueid",
        "userfield",
        "did",
    )
    header = ",".join(columns).replace("start", "calldate").encode() + b"\r\n"
    text = ASTERISK.replace("master-18", "header")
    data = b"\xef\xbb\xbf" + header + row(columns) + row(columns, disposition="BUSY", billsec="0") + header
    records = read(profile(tmp_path, text), data)
    assert [record.kind for record in records] == ["header", "call", "call", "header"]
    answered, busy = calls(records)
    assert answered["answer"] == "2026-01-15T13:30:13.000Z"
    assert answered["end"] == "2026-01-15T13:32:47.000Z"
    assert (busy["answer"], busy["disposition"]) == (None, "busy")


def test_a_header_without_the_needed_columns_is_named_and_no_row_is_guessed(tmp_path: Path) -> None:
    text = ASTERISK.replace("master-18", "header")
    first, second = read(profile(tmp_path, text), b"calldate,src,dst\n2026-01-15 13:30:00,1,2\n")
    assert (first.kind, first.reason) == ("header", "bad_source_row")
    assert "billsec (for every call record)" in first.detail
    assert second.reason == "bad_source_row"


def test_a_first_row_that_is_a_call_is_not_taken_for_the_header(tmp_path: Path) -> None:
    text = ASTERISK + "header = true\n"
    names = ",".join(MASTER_18).encode() + b"\n"
    assert [r.kind for r in read(profile(tmp_path, text), row(MASTER_18))] == ["call"]
    assert [r.kind for r in read(profile(tmp_path, text), names + row(MASTER_18))] == ["header", "call"]


# What was billed.


def test_no_answer_with_billsec_stays_no_answer(tmp_path: Path) -> None:
    call = one(tmp_path, disposition="NO ANSWER", answer="2026-01-15 13:32:22", billsec="25")
    assert (call["disposition"], call["billable_ms"]) == ("no_answer", 25_000)


def test_a_failed_attempt_with_a_stamp_of_the_dialplan_has_no_answer(tmp_path: Path) -> None:
    call = one(tmp_path, disposition="FAILED", billsec="0")
    assert (call["disposition"], call["answer"], call["billable_ms"]) == ("failed", None, 0)


@pytest.mark.parametrize("never", ["", "0", "1970-01-01 01:00:00", "1969-12-31 19:00:00", "0000-00-00 00:00:00"])
def test_an_empty_or_zero_answer_is_no_answer(tmp_path: Path, never: str) -> None:
    assert one(tmp_path, answer=never, billsec="0", disposition="NO ANSWER")["answer"] is None


@pytest.mark.parametrize(
    ("word", "expected"),
    [("BUSY", "busy"), ("CONGESTION", "congestion"), ("FAILED", "failed"), ("", "unknown"), ("16", "congestion")],
)
def test_dispositions(tmp_path: Path, word: str, expected: str) -> None:
    assert one(tmp_path, disposition=word, answer="", billsec="0")["disposition"] == expected


def test_an_unknown_disposition_is_rejected(tmp_path: Path) -> None:
    assert refused(tmp_path, disposition="MAYBE")[0] == "bad_field"


def test_billsec_may_be_one_second_away_and_two_are_bad_times_with_both_figures(tmp_path: Path) -> None:
    assert one(tmp_path, billsec="155")["billable_ms"] == 155_000
    reason, detail = refused(tmp_path, billsec="157")
    assert reason == "bad_times"
    assert "157.000 s" in detail
    assert "155.000 s" in detail


def test_fractions_of_a_second_are_kept_to_the_millisecond(tmp_path: Path) -> None:
    assert one(tmp_path, billsec="154.550987", duration="167.25")["billable_ms"] == 154_550


@pytest.mark.parametrize("text", ["", "-1", "1e3", "12s", "\u0661\u0662", " 154", "90000", "9999999999"])
def test_a_billsec_that_is_no_number_of_seconds_within_a_day_is_rejected(tmp_path: Path, text: str) -> None:
    assert refused(tmp_path, billsec=text)[0] in ("bad_field", "missing_field")


def test_a_call_that_ends_before_it_starts_is_bad_times(tmp_path: Path) -> None:
    assert refused(tmp_path, end="2026-01-15 13:29:59", answer="", billsec="0")[0] == "bad_times"


# Numbers and kinds of call.


def test_an_emergency_number_is_no_ordinary_number_whatever_else_is_wrong_with_the_row(tmp_path: Path) -> None:
    text = ASTERISK.replace("[numbers]", "[numbers]\naccess = ['9']\nemergency = ['999']")
    for dialled, callee in (("999", "+999"), ("112", "+112"), ("9112", "+112"), ("911", "+911"), ("9911", "+911")):
        call = one(tmp_path, text, dst=dialled, src="1001", channel="", dcontext="nowhere")
        assert (call["call_type"], call["callee"], call["user"]) == ("emergency", callee, None)


def test_trailing_digits_make_no_emergency(tmp_path: Path) -> None:
    assert refused(tmp_path, dst="9110")[0] == "bad_field"


def test_an_inbound_call_needs_a_caller_that_can_be_read_or_is_withheld(tmp_path: Path) -> None:
    inbound: Any = {"dcontext": "from-trunk", "dst": "442079460018"}
    assert one(tmp_path, src="anonymous", **inbound)["caller"] is None
    assert one(tmp_path, src="12125550123", **inbound)["caller"] == "+12125550123"
    assert refused(tmp_path, src="1001", **inbound)[0] == "bad_field"


def test_a_context_without_a_rule_is_rejected_and_one_to_skip_is_a_leg(tmp_path: Path) -> None:
    assert refused(tmp_path, dcontext="parking") == (
        "bad_field",
        "dcontext: 'parking' has no rule under [call_types.map]",
    )
    text = ASTERISK.replace("from-trunk =", '"*" = "skip"\nfrom-trunk =')
    [record] = read(profile(tmp_path, text), row(MASTER_18, dcontext="parking"))
    assert (record.kind, record.reason, record.canonical) == ("leg", "", None)


def test_extensions_and_feature_codes_are_legs_where_the_profile_says_how_long_they_are(tmp_path: Path) -> None:
    text = ASTERISK.replace("[numbers]", "[numbers]\ninternal_digits_max = 4")
    for dst in ("1002", "*98", "#1"):
        [record] = read(profile(tmp_path, text), row(MASTER_18, dst=dst))
        assert (record.kind, record.canonical) == ("leg", None)


def test_a_destination_of_the_dialplan_is_rejected_or_taken_from_lastdata(tmp_path: Path) -> None:
    assert refused(tmp_path, dst="s")[0] == "bad_field"
    text = ASTERISK + 'special_destination = "lastdata"\n'
    assert one(tmp_path, text, dst="s")["callee"] == "+12125550123"
    assert one(tmp_path, text, dst="s", lastdata="SIP/carrier1/12125550123,60")["callee"] == "+12125550123"
    assert refused(tmp_path, text, dst="s", lastdata="SIP/a/12125550123&SIP/b/12125550124")[0] == "missing_field"
    assert refused(tmp_path, text, dst="h", lastapp="Hangup", lastdata="")[0] == "missing_field"


def test_the_kind_by_trunks(tmp_path: Path) -> None:
    head, _, tail = ASTERISK.partition("[call_types]")
    text = head + "[call_types]\nby = 'trunks'\ntrunks = ['carrier1']\n" + tail[tail.index("[asterisk]") :]
    assert one(tmp_path, text)["call_type"] == "user_out"
    swapped: Any = {"channel": "PJSIP/carrier1-00000001", "dstchannel": "PJSIP/desk-00000002"}
    assert one(tmp_path, text, **swapped)["call_type"] == "user_in"
    [internal] = read(profile(tmp_path, text), row(MASTER_18, dstchannel="PJSIP/desk2-00000001"))
    assert internal.kind == "leg"
    assert refused(tmp_path, text, channel="PJSIP/carrier1-00000001")[0] == "bad_field"


def test_the_kind_by_owned_numbers(tmp_path: Path) -> None:
    head, _, tail = ASTERISK.partition("[call_types]")
    text = head + "[call_types]\nby = 'numbers'\nowned = ['+4420794600']\n" + tail[tail.index("[asterisk]") :]
    assert one(tmp_path, text)["call_type"] == "user_out"
    assert one(tmp_path, text, src="12125550123", dst="442079460018")["call_type"] == "user_in"
    [internal] = read(profile(tmp_path, text), row(MASTER_18, dst="442079460019"))
    assert internal.kind == "leg"


# Whose call it is.


def test_account_codes_become_tenants_by_the_table_and_no_code_is_guessed(tmp_path: Path) -> None:
    text = ASTERISK.replace('tenant = "acme"', "[tenants]\ndefault = 'house'\n[tenants.map]\nacme = 'contoso'")
    assert one(tmp_path, text)["tenant"] == "contoso"
    assert one(tmp_path, text, accountcode="")["tenant"] == "house"
    assert refused(tmp_path, text, accountcode="acmee")[0] == "unknown_tenant"
    same = ASTERISK.replace('tenant = "acme"', "[tenants]\nsame = true")
    assert one(tmp_path, same)["tenant"] == "acme"
    assert refused(tmp_path, same, accountcode="")[0] == "missing_field"
    assert refused(tmp_path, same, accountcode="a b")[0] == "bad_field"


def test_the_user_comes_from_the_column_of_its_direction_and_the_table(tmp_path: Path) -> None:
    users = 'column = "src"\ncolumn_in = "dst"\nunmapped = "reject"\n[users.map]\n"1001" = "u-1842"'
    text = ASTERISK.replace('column = "channel-peer"', users)
    assert one(tmp_path, text, src="1001")["user"] == "u-1842"
    assert refused(tmp_path, text, src="1002")[0] == "missing_field"
    text = text.replace("[numbers]", "[numbers]\n[numbers.extensions]\n'1001' = '+442079460018'\n[nope]").replace(
        '[nope]\nbare = "e164"\n', ""
    )
    call = one(tmp_path, text, dcontext="from-trunk", dst="1001", src="")
    assert (call["user"], call["callee"], call["caller"]) == ("u-1842", "+442079460018", None)


# Identity.


def test_the_record_id_is_made_of_all_that_the_layout_has(tmp_path: Path) -> None:
    newer = ASTERISK.replace("master-18", "newcolumns-21")
    assert one(tmp_path, newer, LAYOUTS["newcolumns-21"])["record_id"] == "pbx1:1768483800.2591:1768483800.2591:5180"
    assert one(tmp_path)["record_id"] == (
        "pbx1:1768483800.2591::PJSIP/desk-00000a1f:PJSIP/carrier1-00000a20:2026-01-15 13%3A30%3A00"
    )


def test_two_rows_of_one_uniqueid_are_two_records(tmp_path: Path) -> None:
    rows = row(MASTER_18, dstchannel="PJSIP/a-00000001") + row(MASTER_18, dstchannel="PJSIP/b-00000002")
    first, second = calls(read(profile(tmp_path, ASTERISK), rows))
    assert first["record_id"] != second["record_id"]


def test_a_long_or_foreign_id_is_hashed_and_stays_the_same(tmp_path: Path) -> None:
    long = one(tmp_path, dstchannel="Local/" + "x" * 200 + "-00000001")
    assert long["record_id"].startswith("pbx1:b2:")
    assert long["record_id"] == one(tmp_path, dstchannel="Local/" + "x" * 200 + "-00000001")["record_id"]
    assert one(tmp_path, dstchannel="Local/é-00000001")["record_id"].startswith("pbx1:b2:")


def test_a_second_delivery_gives_the_same_bytes(tmp_path: Path) -> None:
    data = row(MASTER_18) + row(MASTER_18, dst="44123") + row(MASTER_18, uniqueid="1768483801.1")
    prof = profile(tmp_path, ASTERISK)
    assert read(prof, data) == read(prof, data)


def test_the_first_leg_only_when_the_profile_says_so(tmp_path: Path) -> None:
    text = ASTERISK.replace("master-18", "newcolumns-21") + 'linkedid_policy = "first"\n'
    columns = LAYOUTS["newcolumns-21"]
    data = row(columns) + row(columns, uniqueid="1768483800.2592", sequence="5181")
    assert [record.kind for record in read(profile(tmp_path, text), data)] == ["call", "leg"]


# Bytes.


def test_foreign_bytes_in_a_column_nobody_uses_lose_nothing_and_in_a_used_one_reject(tmp_path: Path) -> None:
    prof = profile(tmp_path, ASTERISK)
    latin = row(MASTER_18, clid="Ren\xe9").decode().encode("latin-1")
    [record] = read(prof, latin)
    assert call_of(record)["callee"] == "+12125550123"
    assert record.raw == latin.rstrip(b"\n")
    [bad] = read(prof, row(MASTER_18, channel="PJSIP/Ren\xe9-00000001").decode().encode("latin-1"))
    assert (bad.reason, bad.detail) == ("bad_field", "channel: bytes that are not UTF-8; expected UTF-8 text")
    [good] = read(prof, row(MASTER_18, channel="PJSIP/Ren\xe9-00000001"))
    assert call_of(good)["user"] == "Ren\xe9"


def test_no_message_holds_a_phone_number(tmp_path: Path) -> None:
    changes: list[Any] = [{"dst": "02079460018"}, {"dcontext": "02079460018"}, {"disposition": "02079460018"}]
    changes += [{"dcontext": "from-trunk", "src": "02079460018"}, {"billsec": "02079460018x"}, {"start": "02079460018"}]
    for changed in changes:
        reason, detail = refused(tmp_path, **changed)
        assert reason
        assert "2079460018" not in detail


# The nights the clocks change.


LONDON = ASTERISK.replace('"UTC"', '"Europe/London"')


def at(folder: Path, start: str, answer: str, end: str, **more: Any) -> list[str]:
    day = "2026-10-25 "
    call = one(folder, LONDON, start=day + start, answer=day + answer, end=day + end, **more)
    return [call[name][11:19] for name in ("start", "answer", "end")]


def test_summer_time_is_an_hour_before_utc(tmp_path: Path) -> None:
    times: Any = {name: f"2026-07-01 12:0{place}:00" for place, name in enumerate(("start", "answer", "end"))}
    call = one(tmp_path, LONDON, **times, duration="120", billsec="60")
    assert call["start"] == "2026-07-01T11:00:00.000Z"


def test_a_time_that_the_clocks_skip_is_rejected_and_the_zone_questioned(tmp_path: Path) -> None:
    reason, detail = refused(tmp_path, LONDON, start="2026-03-29 01:30:00")
    assert reason == "bad_times"
    assert "does not exist in Europe/London" in detail


def test_a_repeated_hour_is_settled_by_the_durations(tmp_path: Path) -> None:
    # Ends at 01:10 by the second round of the clock, half an hour after 01:40 by the first.
    assert at(tmp_path, "01:40:00", "01:40:00", "01:10:00", duration="1800", billsec="1800") == [
        "00:40:00",
        "00:40:00",
        "01:10:00",
    ]
    assert at(tmp_path, "00:59:00", "00:59:30", "01:05:00", duration="3960", billsec="3930", uniqueid="x") == [
        "23:59:00",
        "23:59:30",
        "01:05:00",
    ]


def test_a_repeated_hour_is_settled_by_the_birth_of_the_channel(tmp_path: Path) -> None:
    second = "1792891800.7"  # 2026-10-25T01:30:00Z
    times = ("01:30:00", "01:30:10", "01:31:00")
    assert at(tmp_path, *times, duration="60", billsec="50", uniqueid=second)[0] == "01:30:00"
    assert at(tmp_path, *times, duration="60", billsec="50", uniqueid="sys-" + second)[0] == "01:30:00"


def test_a_repeated_hour_that_nothing_settles_is_its_first_occurrence(tmp_path: Path) -> None:
    assert at(tmp_path, "01:30:00", "01:30:10", "01:31:00", duration="60", billsec="50", uniqueid="x")[0] == "00:30:00"
