"""The scanner and the slow reader are one reader: whatever the scanner is sure of, the slow way round gives too."""

import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rater.contract.reader import read_slowly
from rater.contract.scanner import FIELDS, READ, RECORD_BYTES_MAX, UNSURE, scan, scan_scratch
from rater.core.calls import CALL, CALL_TYPES, DISPOSITIONS
from rater.core.instants import NEVER_MS
from rater.core.reasons import Reason
from rater.core.words import as_buffer
from tests.contract.generated import GOOD, damaged_bytes, record_bytes
from tests.workbench import call_record, instant_ms

SCRATCH = scan_scratch()


def scanned(raw: bytes, trusted: bool = False) -> tuple[Any, bytes]:
    rows = np.zeros(1, CALL).view(np.recarray)
    buffer = as_buffer(raw)
    starts, ends = np.zeros(1, np.int64), np.array([len(raw)], np.int64)
    scan(buffer, starts, ends, rows, 0, 1, trusted, SCRATCH)
    return rows[0], raw


def text_of(raw: bytes, start: int, end: int) -> str | None:
    return None if start < 0 else orjson.loads(b'"' + raw[start:end] + b'"')


def told(row: Any, raw: bytes) -> dict[str, Any]:
    """What a row says, in values; places mean nothing outside their buffer."""
    if row.reason != READ:
        return {"reason": int(row.reason), "field": int(row.field)}
    names = ("content", "start_ms", "answer_ms", "end_ms", "billable_ms", "call_type", "disposition", "unknown_fields")
    texts = ("record", "tenant", "user", "caller", "callee")
    found: dict[str, Any] = {name: int(row[name]) for name in names}
    return found | {name: text_of(raw, int(row[f"{name}_at"]), int(row[f"{name}_end"])) for name in texts}


def slowly(raw: bytes) -> dict[str, Any]:
    read = read_slowly(raw)
    if isinstance(read, Reason):
        return {"reason": int(read), "field": None}
    return told(*scanned(read[0], trusted=True))


def agree(raw: bytes) -> None:
    row, _ = scanned(raw)
    slow = slowly(raw)
    if row.reason == UNSURE:
        return
    fast = told(row, raw)
    if slow.get("field", 0) is None:
        assert fast["reason"] == slow["reason"], (raw, slow)
    else:
        assert fast == slow, raw


@settings(max_examples=400)
@given(record_bytes())
def test_the_scanner_says_what_the_slow_reader_says(raw: bytes):
    agree(raw)


@settings(max_examples=400)
@given(damaged_bytes())
def test_the_scanner_is_never_sure_of_what_is_no_json(raw: bytes):
    agree(raw)
    row, _ = scanned(raw)
    if row.reason != UNSURE:
        assert isinstance(json.loads(raw), dict)


@settings(max_examples=200)
@given(record_bytes())
def test_every_record_is_read_or_refused_for_a_reason(raw: bytes):
    slow = slowly(raw)
    assert slow.get("reason", 0) != UNSURE
    if "reason" not in slow:
        record = json.loads(raw)
        assert slow["record"] == record["record_id"]
        assert slow["tenant"] == record["tenant"]
        assert slow["user"] == record.get("user")
        assert slow["callee"] == record["callee"][1:]
        assert slow["caller"] == (record["caller"] and record["caller"][1:])
        assert CALL_TYPES[slow["call_type"]] == record["call_type"]
        assert DISPOSITIONS[slow["disposition"]] == record["disposition"]
        assert slow["billable_ms"] == record["billable_ms"]
        assert slow["start_ms"] == instant_ms(record["start"])
        assert slow["unknown_fields"] == len(set(record) - set(FIELDS))


@given(st.binary(max_size=60))
def test_any_bytes_at_all(raw: bytes):
    agree(raw)


def test_a_plain_record_never_needs_the_slow_reader():
    for k, kind in enumerate(CALL_TYPES):
        record = call_record(
            f"r{k}", call_type=kind, call_id="x", source="freeswitch", trunk="t1", hops=3, ok=True, why=None
        )
        row, _ = scanned(orjson.dumps(record))
        assert (row.reason, row.unknown_fields) == (READ, 4)


def reason(raw: bytes) -> tuple[str, str | None]:
    row, _ = scanned(raw)
    if row.reason == UNSURE:
        read = read_slowly(raw)
        if isinstance(read, Reason):
            return read.text, None
        row, _ = scanned(read[0], trusted=True)
    if row.reason == READ:
        return "none", None
    return Reason(int(row.reason)).text, FIELDS[int(row.field)] if row.field >= 0 else None


REQUIRED = FIELDS[:11]


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_field_is_named(name: str):
    record = {key: value for key, value in GOOD.items() if key != name}
    assert reason(orjson.dumps(record)) == ("missing_field", name)
    null = ("none", None) if name in ("caller",) else ("missing_field", name)
    if name == "answer":
        null = ("none", None)
    assert reason(orjson.dumps(GOOD | {name: None})) == null


@pytest.mark.parametrize("name", [name for name in FIELDS if name not in ("record_id",)])
@pytest.mark.parametrize("value", [[], {}, True, 1.5])
def test_a_value_of_another_kind_is_named(name: str, value: Any):
    assert reason(orjson.dumps(GOOD | {name: value})) == ("bad_field", name)


@pytest.mark.parametrize("first", range(len(REQUIRED)))
def test_the_first_fault_in_the_order_of_the_contract_is_the_one_reported(first: int):
    record = GOOD | {name: {} for name in REQUIRED[first:]}
    assert reason(orjson.dumps(record)) == ("bad_field", REQUIRED[first])
    assert reason(orjson.dumps(dict(reversed(record.items())))) == ("bad_field", REQUIRED[first])


@pytest.mark.parametrize(("kind", "needed"), [(kind, kind.startswith(("user_", "conf_"))) for kind in CALL_TYPES])
def test_who_is_charged_must_be_said_for_users_and_conferences(kind: str, needed: bool):
    record = {key: value for key, value in GOOD.items() if key != "user"} | {"call_type": kind}
    expected = ("missing_field", "user") if needed else ("none", None)
    assert reason(orjson.dumps(record)) == expected
    assert reason(orjson.dumps(record | {"user": None})) == expected


@pytest.mark.parametrize(
    ("change", "fine"),
    [
        ({}, True),
        ({"start": "2026-11-03T12:00:00.001Z"}, False),
        ({"answer": "2026-11-03T12:01:01.001Z"}, False),
        ({"billable_ms": 62_500}, True),
        ({"billable_ms": 62_501}, False),
        ({"billable_ms": 59_500}, True),
        ({"billable_ms": 59_499}, False),
        ({"answer": None, "billable_ms": 86_400_000}, True),
        ({"answer": None, "end": "2026-11-03T11:59:59.999Z"}, False),
        ({"answer": None, "end": "2026-11-03T12:00:00Z"}, True),
    ],
)
def test_times_must_agree(change: dict[str, Any], fine: bool):
    assert reason(orjson.dumps(GOOD | change)) == (("none", None) if fine else ("bad_times", None))


def test_times_are_judged_after_every_field():
    record = GOOD | {"end": "2026-11-03T11:00:00Z", "disposition": "gone"}
    assert reason(orjson.dumps(record)) == ("bad_field", "disposition")


def test_a_call_that_nobody_answered_has_no_answer():
    row, _ = scanned(orjson.dumps(GOOD | {"answer": None}))
    assert row.answer_ms == NEVER_MS


@pytest.mark.parametrize("size", [RECORD_BYTES_MAX - 1, RECORD_BYTES_MAX, RECORD_BYTES_MAX + 1])
@pytest.mark.parametrize("filler", ["x", "é", "\\/"])
def test_a_record_may_be_as_large_as_the_limit_and_no_larger(size: int, filler: str):
    head = orjson.dumps(GOOD)[:-1] + b',"pad":"'
    body = filler.encode() * ((size - len(head) - 2) // len(filler.encode()))
    raw = head + body + b'"}'
    raw += b" " * (size - len(raw))
    assert reason(raw)[0] == ("too_large" if size > RECORD_BYTES_MAX else "none")


def test_a_place_outside_the_buffer_is_no_record():
    buffer = as_buffer(orjson.dumps(GOOD))
    rows = np.zeros(3, CALL).view(np.recarray)
    starts, ends = np.array([-1, 10, 0], np.int64), np.array([5, 5, buffer.size], np.int64)
    scan(buffer, starts, ends, rows, 0, 3, False, SCRATCH)
    assert [int(row.reason) for row in rows] == [Reason.NOT_JSON] * 3


def test_neighbours_in_one_buffer_do_not_leak_into_each_other():
    raws = [orjson.dumps(GOOD)[:-1], b"}", orjson.dumps(GOOD), b'"', b"", orjson.dumps(GOOD), b'{"a":1']
    lengths = np.array([len(raw) for raw in raws], np.int64)
    ends = np.cumsum(lengths)
    rows = np.zeros(len(raws), CALL).view(np.recarray)
    scan(as_buffer(b"".join(raws)), ends - lengths, ends, rows, 0, len(raws), False, SCRATCH)
    assert [int(row.reason) for row in rows] == [UNSURE, UNSURE, READ, UNSURE, UNSURE, READ, UNSURE]


@given(st.permutations(list(GOOD.items())))
def test_the_order_of_keys_is_no_content(members: list[tuple[str, Any]]):
    row, _ = scanned(orjson.dumps(dict(members)))
    plain, _ = scanned(orjson.dumps(GOOD))
    assert row.content == plain.content


def test_swapping_two_values_is_other_content():
    seen = set()
    for change in ({}, {"call_id": "a", "switch": "b"}, {"call_id": "b", "switch": "a"}, {"x": "a", "y": "b"}, {"x": "b", "y": "a"},
                   {"x": "1"}, {"x": 1}, {"x": None}, {"xx": 1}, {"x": 11}, {"switch": ""}, {"switch": None}):  # fmt: skip
        row, _ = scanned(orjson.dumps(GOOD | change))
        seen.add(int(row.content) & 0xFFFFFFFF)
    assert len(seen) == 12
