"""3GPP TS 32.298 records, encoded here by hand, one after another, filled up, cut off, in parts and twice."""

import io
import random
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rater.sources import Assembling, ProfileRefused, SourceProfile, load_profile, open_source
from rater.sources.record import SourceRecord
from tests.sources.support import SAMPLES, call_of, calls, needs_samples, profile, read

pytest.importorskip("asn1tools", reason="asn1tools is not installed: pip install 'rater[mediation]'")

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "sources" / "3gpp-ber.toml"


@pytest.fixture(scope="module")
def example() -> SourceProfile:
    return load_profile(EXAMPLE)


# A writer of BER, kept apart from the reader.


def tlv(number: int, content: bytes, constructed: bool = False) -> bytes:
    kind = 0xA0 if constructed else 0x80
    tag = bytes([kind | number]) if number < 31 else bytes([kind | 31, number])
    size = len(content)
    if size < 128:
        return tag + bytes([size]) + content
    return tag + (bytes([0x81, size]) if size < 256 else b"\x82" + size.to_bytes(2, "big")) + content


def integer(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def stamp(text: str, zone: str = "+0000") -> bytes:
    """260115133000 -> nine octets"""
    return bytes.fromhex(text) + zone[0].encode() + bytes.fromhex(zone[1:])


def number(digits: str, kind: int = 0x91, extra: bytes = b"") -> bytes:
    even = digits + "f" * (len(digits) % 2)
    return bytes([kind]) + extra + bytes(int(even[at + 1] + even[at], 16) for at in range(0, len(even), 2))


IMS = {
    0: integer(83),
    3: integer(0),
    5: b"b1946ac9-2026@198.51.100.7",
    6: tlv(0, b"sip:+442079460018@ims.example") + tlv(1, b"tel:+442079460018"),
    7: tlv(1, b"tel:+12125550123"),
    9: stamp("260115133000"),
    10: stamp("260115133012"),
    11: stamp("260115133247"),
    17: integer(0),
    19: b"icid-1",
    25: b"\x30\x03\x80\x01\x07",
    37: integer(200),
    38: integer(700),
    39: integer(250),
    110: b"\x80\x01\x00",
}
IMS_CONSTRUCTED, CS_CONSTRUCTED = frozenset({6, 7, 25, 110}), frozenset({31})
MOC = {
    0: integer(0),
    1: bytes.fromhex("42100011223344f5"),
    3: number("442079460018"),
    5: number("12125550123"),
    9: number("447700900001"),
    22: stamp("260115133000"),
    23: stamp("260115133012"),
    24: stamp("260115133247"),
    25: integer(155),
    30: integer(0),
    32: bytes.fromhex("0a0b0c"),
}
MTC = {
    0: integer(1),
    3: number("442079460018"),
    4: number("2125550123", 0x21, b"\x83"),
    6: number("447700900001"),
    20: stamp("260115133012"),
    21: stamp("260115133247"),
    22: integer(155),
    27: integer(0),
    29: bytes.fromhex("0a0b0d"),
}


def record(outer: int, fields: dict[int, bytes], changed: dict[int, bytes | None] | None = None) -> bytes:
    merged = {**fields, **(changed or {})}
    constructed = IMS_CONSTRUCTED if outer == 83 else CS_CONSTRUCTED
    inner = [tlv(tag, value, tag in constructed) for tag, value in merged.items() if value is not None]
    return tlv(outer, b"".join(inner), constructed=True)


def ims(changed: dict[int, bytes | None] | None = None) -> bytes:
    return record(83, IMS, changed)


def moc(changed: dict[int, bytes | None] | None = None) -> bytes:
    return record(0, MOC, changed)


def finished(prof: SourceProfile, data: bytes) -> list[SourceRecord]:
    source = open_source(prof.source, prof)
    assert isinstance(source, Assembling)
    return [*source.read(io.BytesIO(data)), *source.close()]


def one(prof: SourceProfile, data: bytes) -> dict[str, Any]:
    [found] = finished(prof, data)
    return call_of(found)


# Single records.


def test_an_mmtel_record_is_a_call_to_the_millisecond(example: SourceProfile) -> None:
    assert one(example, ims()) == {
        "record_id": "mmtel1::icid-1:originating:2026-01-15T13%3A30%3A00.200Z",
        "tenant": "contoso",
        "call_type": "user_out",
        "user": "+442079460018",
        "caller": "+442079460018",
        "callee": "+12125550123",
        "start": "2026-01-15T13:30:00.200Z",
        "answer": "2026-01-15T13:30:12.700Z",
        "end": "2026-01-15T13:32:47.250Z",
        "billable_ms": 154_550,
        "disposition": "answered",
        "source": "3gpp-ber",
        "switch": "mmtel1",
        "call_id": "b1946ac9-2026@198.51.100.7",
    }


@needs_samples
def test_the_call_of_the_nineteen_formats_comes_out_of_ber_too(example: SourceProfile) -> None:
    expected = orjson.loads((SAMPLES / "synthetic" / "expected_canonical.json").read_bytes())["call"]
    call = one(example, ims())
    for key in ("call_id", "caller", "callee", "start", "answer", "end", "billable_ms", "disposition"):
        assert call[key] == expected[key]


def test_members_in_any_order_and_unknown_ones_do_no_harm(example: SourceProfile) -> None:
    turned = dict(reversed(IMS.items()))
    assert one(example, record(83, turned)) == one(example, ims())
    assert one(example, ims({120: b"vendor", 64: b"\x00\x01"})) == one(example, ims())


def test_an_indefinite_length_ends_at_its_end_mark(example: SourceProfile) -> None:
    data = ims()
    content = data[5:] if data[2] == 0x82 else data[4:]
    open_ended = data[:2] + b"\x80" + content + b"\x00\x00"
    assert next(call_of(found) for found in finished(example, open_ended + moc())) == one(example, data)


def test_a_mobile_originated_call_of_an_msc(example: SourceProfile) -> None:
    call = one(example, moc())
    assert (call["caller"], call["callee"], call["user"]) == ("+442079460018", "+12125550123", "+442079460018")
    assert (call["billable_ms"], call["call_type"], call["answer"]) == (155_000, "user_out", "2026-01-15T13:30:12.000Z")
    assert call["record_id"] == "mmtel1:+447700900001:0a0b0c:originating:2026-01-15T13%3A30%3A00.000Z"


def test_a_mobile_terminated_call_with_a_number_that_is_not_international(example: SourceProfile) -> None:
    national = record(1, MTC, {4: number("02079460019", 0x21, b"\x83")})
    call = one(example, national)
    assert (call["call_type"], call["caller"], call["callee"]) == ("user_in", "+442079460019", "+442079460018")
    assert call["start"] == call["answer"]
    [unread] = finished(example, record(1, MTC))
    assert unread.reason == "bad_field"


def test_local_stamps_are_read_by_their_offset(example: SourceProfile) -> None:
    changed: dict[int, bytes | None] = {
        tag: stamp(f"260115083{at}", "-0500") for tag, at in ((9, "000"), (10, "012"), (11, "247"))
    }
    assert one(example, ims(changed)) == one(example, ims())


@pytest.mark.parametrize(
    ("changed", "disposition"),
    [
        ({23: None, 31: tlv(0, integer(17)), 30: integer(3)}, "busy"),
        ({23: None, 31: tlv(2, integer(19)), 30: integer(3)}, "no_answer"),
        ({23: None, 30: integer(3)}, "failed"),
        ({23: None, 30: integer(0)}, "unknown"),
    ],
)
def test_an_attempt_bills_nothing_of_its_holding_time(
    example: SourceProfile, changed: dict[int, bytes | None], disposition: str
) -> None:
    call = one(example, moc(changed))
    assert (call["answer"], call["billable_ms"], call["disposition"]) == (None, 0, disposition)


def test_emergency_by_number_and_by_name(example: SourceProfile) -> None:
    assert one(example, moc({5: number("999", 0x81)}))["callee"] == "+999"
    call = one(example, ims({7: tlv(2, b"urn:service:sos.police"), 6: None}))
    assert (call["call_type"], call["callee"], call["caller"]) == ("emergency", "+112", None)


@pytest.mark.parametrize(
    ("data", "reason", "kind"),
    [
        (ims({0: integer(64)}), "", "leg"),
        (record(6, MOC, {0: integer(6)}), "", "leg"),
        (ims({0: None}), "bad_source_row", "call"),
        (ims({9: b"123"}), "bad_field", "call"),
        (ims({10: stamp("261315133012")}), "bad_field", "call"),
        (ims({38: integer(1000)}), "bad_field", "call"),
        (ims({16: integer(-1)}), "bad_field", "call"),
        (ims({11: None}), "missing_field", "call"),
        (ims({19: None, 5: None}), "missing_field", "call"),
        (ims({7: None}), "missing_field", "call"),
        (ims({7: tlv(0, b"sip:198.51.100.7")}), "missing_field", "call"),
        (ims({7: tlv(1, b"tel:2125550123")}), "bad_field", "call"),
        (ims({3: None}), "bad_field", "call"),
        (moc({25: None}), "missing_field", "call"),
        (moc({25: integer(-5)}), "bad_field", "call"),
        (moc({25: integer(160)}), "bad_times", "call"),
        (moc({25: integer(86_401)}), "bad_field", "call"),
        (moc({22: None, 23: None}), "missing_field", "call"),
        (tlv(83, IMS[0] * 0 + tlv(0, integer(83)) + b"\x85\x7f"), "bad_source_row", "call"),
        (tlv(83, tlv(0, integer(83)) * 2, True), "bad_source_row", "call"),
    ],
)
def test_a_record_that_cannot_be_a_call_says_why(example: SourceProfile, data: bytes, reason: str, kind: str) -> None:
    first, second = finished(example, data + ims({19: b"other"}))
    assert (first.canonical, first.reason, first.kind, first.raw) == (None, reason, kind, data)
    assert "2125550123" not in first.detail
    assert call_of(second)["billable_ms"] == 154_550


# Files.


def test_filler_between_records_is_nothing(example: SourceProfile) -> None:
    data = (
        ims() + b"\x00" * 700 + moc() + b"\xff" * 3000 + record(1, MTC, {4: number("12125550123")}) + b"\x00" * 70_000
    )
    assert len(calls(finished(example, data))) == 3
    assert len(finished(example, data)) == 3


def test_a_broken_record_ends_where_the_next_one_begins(example: SourceProfile) -> None:
    broken = b"\xbf\x53\x88" + ims()[3:]
    records = finished(example, broken + moc() + b"\x85junk" + ims({19: b"i2"}) + ims({19: b"i3"})[:-3])
    assert [found.reason for found in records] == ["bad_source_row", "", "bad_source_row", "", "bad_source_row"]
    assert records[0].raw == broken
    assert "cut off" in records[-1].detail


def test_a_record_cut_in_the_middle_takes_no_other_with_it(example: SourceProfile) -> None:
    records = finished(example, ims()[:-40] + moc() + ims({19: b"i2"}))
    assert [found.reason for found in records] == ["bad_source_row", "", ""]
    assert records[0].raw == ims()[:-40]


def test_headers_of_ts_32297(tmp_path: Path) -> None:
    prof = profile(tmp_path, EXAMPLE.read_text(encoding="utf-8").replace('"concatenated"', '"ts32297"'))
    head = (50).to_bytes(4, "big").rjust(8, b"\0").ljust(50, b"\x07")

    def behind(data: bytes, form: int = 1) -> bytes:
        return len(data).to_bytes(2, "big") + bytes([0xE5, form << 5, 9]) + data

    data = head + behind(ims()) + behind(moc()) + behind(b"<x/>", 4) + behind(ims({19: b"i2"}))
    good, also, xer, last = finished(prof, data)
    assert [call_of(found)["billable_ms"] for found in (good, also, last)] == [154_550, 155_000, 154_550]
    assert xer.reason == "bad_source_row"
    assert [found.reason for found in finished(prof, ims() * 3)] == ["bad_source_row"]


# Parts, deliveries.


def partial(index: int, opened: str, closed: str, last: bool) -> bytes:
    return ims(
        {
            12: stamp(opened),
            13: stamp(closed),
            11: stamp(closed) if last else None,
            16: integer(index),
            17: integer(0 if last else 3),
            37: integer(0),
            38: integer(0),
            39: integer(0),
        }
    )


PARTS = [
    partial(1, "260115133000", "260115140012", False),
    partial(2, "260115140012", "260115143012", False),
    partial(3, "260115143012", "260115143247", True),
]


def test_partial_records_add_up_in_any_order(example: SourceProfile) -> None:
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        call = one(example, b"".join(PARTS[at] for at in order))
        assert call["billable_ms"] == 3_600_000 + 155_000
        assert (call["start"], call["end"]) == ("2026-01-15T13:30:00.000Z", "2026-01-15T14:32:47.000Z")


def test_a_missing_partial_record_is_a_rejection_with_the_others(example: SourceProfile) -> None:
    for kept in ((0, 2), (0, 1), (1, 2)):
        [found] = finished(example, b"".join(PARTS[at] for at in kept))
        assert (found.kind, found.reason, found.parts) == ("incomplete", "missing_field", 2)


def test_an_mscs_partial_records_sum_up_their_durations(example: SourceProfile) -> None:
    first = moc({24: stamp("260115140012"), 25: integer(1800), 30: integer(1), 33: integer(1)})
    second = moc({22: None, 23: stamp("260115140012"), 24: stamp("260115140512"), 25: integer(300), 33: integer(2)})
    assert one(example, second + first)["billable_ms"] == 2_100_000


def test_a_retransmission_is_a_repeat_and_another_content_a_correction(example: SourceProfile) -> None:
    again = ims({1: b""})
    changed = ims({11: stamp("260115133300")})
    kinds = [(found.kind, found.reason) for found in finished(example, ims() + again + changed)]
    assert kinds == [("call", ""), ("repeat", ""), ("correction", "conflict")]


def test_two_deliveries_shuffled_in_two_files_give_the_same_records(example: SourceProfile) -> None:
    records = [ims({19: f"icid-{index}".encode()}) for index in range(15)]
    records += [moc({32: index.to_bytes(3, "big")}) for index in range(15)] + PARTS
    once = sorted(found.canonical for found in finished(example, b"".join(records)) if found.canonical)
    assert len(once) == len({orjson.loads(text)["record_id"] for text in once}) == 31
    for seed in range(4):
        again = records + records
        random.Random(seed).shuffle(again)
        found = [item.canonical for item in finished(example, b"".join(again)) if item.canonical]
        assert sorted(found) == once
        halves = finished(example, b"".join(records[:9])) + finished(example, b"\xff" + b"".join(records))
        assert {item.canonical for item in halves if item.canonical} == set(once)


def test_open_calls_go_over_a_restart(example: SourceProfile) -> None:
    before, after = open_source("3gpp-ber", example), open_source("3gpp-ber", example)
    assert isinstance(before, Assembling)
    assert isinstance(after, Assembling)
    assert list(before.read(io.BytesIO(PARTS[0] + PARTS[2]))) == []
    after.resume(before.open_calls())
    [found] = after.read(io.BytesIO(PARTS[1]))
    assert call_of(found)["billable_ms"] == 3_755_000


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('switch = "mmtel1"', "", "switch"),
        ('column = "served"  ', 'column = "imsi"  ', "[users] column"),
        ('column = "role"', 'column = "way"', "[call_types] column"),
        ('"concatenated"', '"blocks"', "[3gpp] framing"),
    ],
)
def test_faults_of_a_profile_are_named(tmp_path: Path, old: str, new: str, key: str) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    assert old in text
    with pytest.raises(ProfileRefused) as caught:
        profile(tmp_path, text.replace(old, new, 1))
    assert caught.value.key == key


@settings(max_examples=300)
@given(
    st.sampled_from([ims(), moc(), record(1, MTC), b"".join(PARTS)]),
    st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), max_size=5),
    st.integers(0, 400),
)
def test_mutated_records_never_stop_the_reader_nor_make_time(
    example: SourceProfile, whole: bytes, changes: list[tuple[int, int]], cut: int
) -> None:
    row = bytearray(whole)
    for place, value in changes:
        row[place % len(row)] = value
    data = bytes(row) + bytes(row[:cut]) + ims({19: b"last"})
    records = finished(example, data)
    for found in records:
        if found.canonical is not None:
            call = call_of(found)
            talked = 0 if call["answer"] is None else 86_400_000
            assert call["billable_ms"] <= talked
    raw = sum(len(found.raw) - found.parts + 1 for found in records)
    assert raw <= len(data)


@given(st.binary(max_size=400))
def test_any_bytes_are_rejected_and_never_stop_the_reader(example: SourceProfile, data: bytes) -> None:
    assert all(found.canonical is None for found in read(example, data))
