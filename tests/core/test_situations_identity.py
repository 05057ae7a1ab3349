"""A record is charged once: duplicates, conflicts, what was rejected and comes again, and what counts as the same."""

import json
from typing import Any

import numpy as np
import orjson
import pytest

from rater.core.words import as_buffer
from rater.pipeline import Batch, Records, decide, records_of
from tests.workbench import Bench, Rates, call_record, tell


def bench() -> Bench:
    rates = Rates(outbound=["1,United States,US,,0.02,,,,,,"], plans=["MCOPSTN1,US,5,0,"])
    made = Bench(rates.book())
    made.command("tenant.opened", at="2020-01-01T00:00:00Z", country="US", currency="USD", billing_mode="prepaid")
    made.command("funds.added", lot_id="lot", amount_micros=10_000_000)
    return made


CALL = call_record("r-1", ms=61_000)


def shuffled(record: dict[str, Any]) -> bytes:
    return orjson.dumps(dict(reversed(record.items())))


def spaced(record: dict[str, Any]) -> bytes:
    return json.dumps(record, indent=3).replace("\n", "\r").replace(": ", "\t : \r ").encode()


def escaped(record: dict[str, Any]) -> bytes:
    text = json.dumps(record)
    return text.replace("contoso", "c\\u006fntoso").replace('"record_id"', '"\\u0072ecord_id"').encode()


@pytest.mark.parametrize("spelling", [orjson.dumps, shuffled, spaced, escaped])
def test_the_same_object_in_another_spelling_is_a_duplicate(spelling: Any):
    b = bench()
    first = b.run(calls=[orjson.dumps(CALL)])
    before = b.balance()
    again = b.run(calls=[spelling(CALL)])
    assert len(first.rated) == 1
    assert again.outcome.counts.duplicates == 1
    assert (again.rated, again.events, again.rejected) == ([], [], [])
    assert b.balance() == before


@pytest.mark.parametrize("spelling", [orjson.dumps, shuffled, spaced, escaped])
def test_every_spelling_is_charged_alike_and_keeps_its_own_bytes(spelling: Any):
    b = bench()
    raw = spelling(CALL)
    answers = b.run(calls=[raw])
    assert answers.rated[0]["charge_micros"] == 40_000
    assert (
        b'{"v":1,"call":' + raw + b',"outcome":"charged","tenant":"contoso","record_id":"r-1"'
        in answers.outcome.rated[0]
    )


@pytest.mark.parametrize(
    "change",
    [
        {"billable_ms": 61_001},
        {"callee": "+12125550124"},
        {"caller": None},
        {"end": "2026-11-03T12:01:01.001Z"},
        {"switch": "sw2"},
        {"note": "new"},
        {"note": None},
        {"disposition": "busy"},
    ],
)
def test_the_same_id_with_other_content_is_a_conflict_and_changes_nothing(change: dict[str, Any]):
    b = bench()
    b.run(calls=[orjson.dumps(CALL)])
    before = b.balance()
    answers = b.run(calls=[orjson.dumps(CALL | change)])
    assert answers.reasons == ["conflict"]
    assert answers.rejected[0]["raw_b64"]
    assert b.balance() == before
    assert b.run(calls=[orjson.dumps(CALL)]).outcome.counts.duplicates == 1


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (rb'{"a":[1.5,"\u00e9"],"b":1}', '{"a": [1.5, "é"], "b" :1}'.encode(), True),
        (b'{"a":1,"b":2}', b'{"b":2,"a":1}', True),
        (b'[{"a":1,"b":{"x":1,"y":2}}]', b'[{"b":{"y":2,"x":1},"a":1}]', True),
        (b"[1,2]", b"[2,1]", False),
        (b"1", b'"1"', False),
        (b"1.5", b"15e-1", False),  # a fraction is as it is spelled
        (b"0.1", b"0.10000000000000001", False),
        (b"123456789012345678901234567890", b"123456789012345678901234567891", False),
        (b"1e400", b"null", False),
        (b"true", b"1", False),
    ],
)
@pytest.mark.parametrize("is_command", [False, True])
def test_content_is_compared_by_value_and_not_by_writing(first: bytes, second: bytes, same: bool, is_command: bool):
    b = bench()
    good = b.command_bytes("clock.ticked") if is_command else orjson.dumps(CALL)
    raws = [good[:-1] + b',"x":' + value + b"}" for value in (first, second)]
    a, z = (b.run([raw]) if is_command else b.run(calls=[raw]) for raw in raws)
    if a.reasons == ["not_json"]:
        assert first == b"1e400"  # refused rather than read as something else
        return
    duplicates = z.outcome.counts.duplicates + z.outcome.counts.commands_duplicates
    assert (duplicates, z.reasons) == ((1, []) if same else (0, ["conflict"]))


def test_duplicates_in_one_batch_count_like_duplicates_of_yesterday():
    b = bench()
    answers = b.run(
        calls=[orjson.dumps(CALL), shuffled(CALL), orjson.dumps(CALL | {"switch": "x"}), orjson.dumps(CALL)]
    )
    assert len(answers.rated) == 1
    assert answers.reasons == ["conflict"]
    assert answers.outcome.counts.duplicates == 2
    assert answers.outcome.counts.read == 4


def test_an_id_belongs_to_its_tenant():
    tell("""
        rate     1   0.02
        call     +12125550123 1m id=a -> charged 0.02
        call     +12125550123 1m id=a tenant=other -> charged 0.02
        again    a -> duplicate
    """)


def test_calls_and_commands_and_lots_have_ids_of_their_own():
    tell("""
        rate     1   0.02
        funds    same 1.00 id=same
        call     +12125550123 1m id=same -> charged 0.02 lots=same:0.02
        licence  same MCOPSTN1
        number   +12125550123 user US
    """)


def test_a_rejected_record_is_not_remembered_and_is_rated_once_when_its_cause_is_gone():
    b = bench()
    late = orjson.dumps(call_record("r-1", tenant="fabrikam"))
    assert b.run(calls=[late, late]).reasons == ["unknown_tenant", "unknown_tenant"]
    b.command("tenant.opened", tenant="fabrikam", country="US", currency="USD", billing_mode="prepaid")
    assert len(b.run(calls=[late]).rated) == 1
    assert b.run(calls=[late]).outcome.counts.duplicates == 1


def test_a_rejected_command_is_not_remembered_either():
    b = bench()
    raw = b.command_bytes("licence.removed", user="u", plan="MCOPSTN1", country="US")
    assert b.run([raw]).reasons == ["not_assigned"]
    b.command("licence.assigned", user="u", plan="MCOPSTN1", country="US")
    assert b.run([raw]).reasons == []
    assert b.run([raw]).outcome.counts.commands_duplicates == 1


def test_a_command_again_is_a_duplicate_in_any_spelling_and_a_conflict_with_other_content():
    b = bench()
    record = orjson.loads(b.command_bytes("funds.added", lot_id="b", amount_micros=1))
    assert b.run([orjson.dumps(record)]).reasons == []
    for raw in (orjson.dumps(record), shuffled(record), spaced(record)):
        assert b.run([raw]).outcome.counts.commands_duplicates == 1
    assert b.run([orjson.dumps(record | {"by": "someone else"})]).reasons == ["conflict"]
    assert b.balance()["lots"] == {"lot": 10_000_000, "b": 1}


def test_a_tenant_is_opened_once():
    tell("""
        open     US USD prepaid id=1
        open     US USD prepaid id=2 -> already_open
        open     GB EUR post_usage id=3 -> already_open
        call     +12125550123 1m -> freecall 0 currency=USD account_version=2
    """)


def test_nothing_happens_to_a_tenant_that_nobody_opened():
    b = Bench(Rates(outbound=["1,,US,,0.02,,,,,,"], plans=["MCOPSTN1,US,5,0,"]).book())
    assert b.command("funds.added", lot_id="a", amount_micros=1).reasons == ["unknown_tenant"]
    assert b.call().reasons == ["unknown_tenant"]
    assert b.command("tenant.closed").reasons == ["unknown_command"]


def test_unknown_fields_travel_along_untouched_and_are_counted():
    b = bench()
    raw = orjson.dumps(CALL)[:-1] + b', "trunk":\t[1, {"x": 1e3}] ,"note" :"caf\xc3\xa9 \\/ \\u20ac","n":-0.0}'
    answers = b.run(calls=[raw])
    assert raw in answers.outcome.rated[0]
    assert answers.outcome.counts.unknown_fields == 3
    assert answers.rated[0]["charge_micros"] == 40_000


def test_many_unknown_fields_are_read_too_and_one_that_stands_twice_is_found():
    b = bench()
    many = CALL | {f"field-{k}": k for k in range(300)}
    assert b.run(calls=[orjson.dumps(many)]).outcome.counts.unknown_fields == 300
    for k in (0, 3, 15, 16, 17, 299):
        twice = orjson.dumps(many | {"record_id": f"r{k}"})[:-1] + f',"field-{k}":0}}'.encode()
        assert b.run(calls=[twice]).reasons == ["duplicate_key"]


def test_a_record_key_must_be_the_tenant():
    b = bench()
    raw = orjson.dumps(CALL)
    for key, rated in ((b"contoso", 1), (b"contos", 0), (b"contosoo", 0), (b"Contoso", 0), (b"", 0)):
        buffer = as_buffer(raw + key)
        places = [np.array([value], np.int64) for value in (0, len(raw), 7, len(raw), len(raw) + len(key))]
        records = Records(buffer, *places)
        outcome = decide(b.state, b.book.rules, Batch(0, records_of([]), records))
        assert (outcome.counts.rated, outcome.counts.rejected) == (rated, 1 - rated)
        if not rated:
            assert b'"reason":"key_mismatch"' in outcome.rejected_cdrs[0]
            assert b'"input":[0,7]' in outcome.rejected_cdrs[0]
        raw = raw.replace(b"r-1", b"r-2")


def test_the_place_in_the_stream_is_counted_over_all_batches():
    b = bench()
    calls = [orjson.dumps(call_record(f"r{k}")) for k in range(3)]
    assert [row["input"] for row in b.run(calls=[*calls, b"junk", calls[0]]).rated] == [[0, 0], [0, 1], [0, 2]]
    answers = b.run([b"junk"], [orjson.dumps(call_record("r9")), b"{}"])
    assert answers.rated[0]["input"] == [0, 5]
    assert answers.rejected[0]["input"] == [0, 6]
    assert answers.rejected_commands[0]["input"] == [0, 2]


def test_names_that_differ_by_little_are_different_tenants_and_users():
    tell("""
        rate     1   0.02
        plan     MCOPSTN1 US 5 0
        licence  u MCOPSTN1 tenant=Contoso
        licence  U MCOPSTN1
        call     +12125550123 1m by=u tenant=Contoso -> pooled 0
        call     +12125550123 1m by=u tenant=contoso -> charged 0.02
        call     +12125550123 1m by=U tenant=contoso -> pooled 0
        call     +12125550123 1m by=U tenant=contoso. -> charged 0.02
    """)


@pytest.mark.parametrize("user", ['Jörg "the €" \\ o\'neil/', "u" * 128, "é" * 64, "日本", "a b", '"' * 128])
def test_a_user_may_have_any_name_and_is_the_same_in_every_spelling(user: str):
    b = bench()
    b.command("licence.assigned", user=user, plan="MCOPSTN1", country="US")
    plain = b.run(calls=[orjson.dumps(call_record("a", user=user))])
    ascii_only = b.run(calls=[json.dumps(call_record("b", user=user)).encode()])
    assert plain.rated[0]["outcome"] == ascii_only.rated[0]["outcome"] == "pooled"
