# ruff: noqa: RUF001 - these characters are ambiguous on purpose
"""Records that were made to hurt: each is rated, rejected with its own bytes and a reason, or a duplicate; none disappears.

The good records around them are charged to the byte as if the poison had never been there.
"""

import gzip
from base64 import b64decode
from typing import Any

import orjson
import pytest

from rater.contract.scanner import RECORD_BYTES_MAX
from tests.workbench import Bench, Rates, call_record

GOOD = call_record("poison", ms=61_000)
RAW = orjson.dumps(GOOD)


def bench() -> Bench:
    made = Bench(Rates(outbound=["1,,US,,0.02,,,,,,"], plans=["MCOPSTN1,US,5,0,"]).book())
    made.command("tenant.opened", at="2020-01-01T00:00:00Z", country="US", currency="USD", billing_mode="prepaid")
    made.command("funds.added", lot_id="lot", amount_micros=10_000_000)
    made.run(calls=[orjson.dumps(call_record("before"))])
    return made


def changed(name: str, written: str | bytes) -> bytes:
    """The good record with one value written in these very bytes."""
    written = written.encode() if isinstance(written, str) else written
    old = orjson.dumps({name: GOOD[name]})[1:-1]
    assert RAW.count(old) == 1
    return RAW.replace(old, f'"{name}":'.encode() + written)


def extra(written: str | bytes) -> bytes:
    written = written.encode() if isinstance(written, str) else written
    return RAW[:-1] + b',"x":' + written + b"}"


def sized(size: int) -> bytes:
    return extra(b'"' + b"a" * (size - len(extra(b'""'))) + b'"')


def called(**fields: Any) -> bytes:
    return orjson.dumps(GOOD | fields)


bomb = gzip.compress(b" " * 1_000_000, mtime=0)

# (what it is, its bytes, what must come of it)
CORPUS: list[tuple[str, bytes, str]] = [
    # --- not JSON at all
    ("empty value", b"", "not_json"),
    ("one byte", b"x", "not_json"),
    ("one brace", b"{", "not_json"),
    ("one space", b" ", "not_json"),
    ("a NUL", b"\x00", "not_json"),
    ("a NUL behind", RAW + b"\x00", "not_json"),
    ("a NUL inside a text", changed("record_id", b'"a\x00b"'), "not_json"),
    ("trailing data", RAW + b"x", "not_json"),
    ("two records in one", RAW + RAW, "not_json"),
    ("cut off", RAW[:-1], "not_json"),
    ("cut off in a text", RAW[:30], "not_json"),
    ("byte order mark", b"\xef\xbb\xbf" + RAW, "not_json"),
    ("UTF-16", RAW.decode().encode("utf-16"), "not_json"),
    ("UTF-32", RAW.decode().encode("utf-32"), "not_json"),
    ("bad UTF-8", changed("user", b'"\xff"'), "not_json"),
    ("overlong UTF-8", changed("user", b'"\xc0\xaf"'), "not_json"),
    ("UTF-8 of a surrogate", changed("user", b'"\xed\xa0\x80"'), "not_json"),
    ("lone surrogate", changed("user", rb'"\ud800"'), "not_json"),
    ("lone surrogate in an unknown field", extra(rb'"\udfff"'), "not_json"),
    ("single quotes", RAW.replace(b'"', b"'"), "not_json"),
    ("a comma too many", RAW[:-1] + b",}", "not_json"),
    ("a comment", RAW[:-1] + b"/* */}", "not_json"),
    ("NaN", extra("NaN"), "not_json"),
    ("NaN for a duration", changed("billable_ms", "NaN"), "not_json"),
    ("Infinity", extra("Infinity"), "not_json"),
    ("-Infinity", changed("billable_ms", "-Infinity"), "not_json"),
    ("a line feed inside a text", changed("user", b'"u\n{"forged":1}"'), "not_json"),
    ("a tab inside a text", changed("user", b'"u\tv"'), "not_json"),
    ("1_000", changed("billable_ms", "61_000"), "not_json"),
    ("leading zero", changed("billable_ms", "061000"), "not_json"),
    ("plus sign", changed("billable_ms", "+61000"), "not_json"),
    ("hexadecimal", changed("billable_ms", "0xEE48"), "not_json"),
    ("Arabic digits bare", changed("billable_ms", "٦١٠٠٠"), "not_json"),
    ("nested 100,000 deep", b"[" * 100_000, "too_large"),
    ("nested 30,000 deep", b"[" * 30_000 + b"]" * 30_000, "not_json"),
    ("nested 30,000 deep in a field", extra(b"[" * 30_000 + b"]" * 30_000), "not_json"),
    ("objects 10,000 deep", extra(b'{"a":' * 10_000 + b"1" + b"}" * 10_000), "not_json"),
    ("a gzip bomb", bomb, "not_json"),
    ("a gzipped record", gzip.compress(RAW, mtime=0), "not_json"),
    # --- JSON of another kind
    ("null, a tombstone", b"null", "not_an_object"),
    ("a list", b"[" + RAW + b"]", "not_an_object"),
    ("a text", b'"' + b"a" * 100 + b'"', "not_an_object"),
    ("a number", b"1", "not_an_object"),
    ("true", b"true", "not_an_object"),
    # --- sizes
    ("one byte below the limit", sized(RECORD_BYTES_MAX - 1), "rated"),
    ("at the limit", sized(RECORD_BYTES_MAX), "rated"),
    ("one byte above the limit", sized(RECORD_BYTES_MAX + 1), "too_large"),
    ("a megabyte", sized(1_000_000), "too_large"),
    ("a megabyte of spaces", b" " * 1_000_000, "too_large"),
    # --- keys
    ("a key twice", RAW[:-1] + b',"tenant":"contoso"}', "duplicate_key"),
    ("a key twice with other content", RAW[:-1] + b',"tenant":"fabrikam"}', "duplicate_key"),
    ("a key twice in escapes", RAW[:-1] + rb',"\u0074enant":"fabrikam"}', "duplicate_key"),
    ("an unknown key twice", RAW[:-1] + b',"x":1,"x":1}', "duplicate_key"),
    ("a key twice deep inside", extra('{"a":[{"b":1,"b":2}]}'), "duplicate_key"),
    ("5,000 keys", orjson.dumps(GOOD | {f"k{k}": k for k in range(5000)}), "rated"),
    ("10,000 keys", orjson.dumps(GOOD | {f"k{k}": k for k in range(10_000)}), "too_large"),
    ("a key of nothing", RAW[:-1] + b',"":1}', "rated"),
    ("keys that a JavaScript engine treasures", RAW[:-1] + b',"__proto__":{"tenant":"x"},"constructor":1}', "rated"),
    ("an empty object", b"{}", "missing_field"),
    ("an object of strangers", b'{"a":1}', "missing_field"),
    # --- numbers
    ("1e400 as a duration", changed("billable_ms", "1e400"), "not_json"),
    ("an exponent", changed("billable_ms", "61e3"), "bad_field"),
    ("a float", changed("billable_ms", "61000.0"), "bad_field"),
    ("a fraction", changed("billable_ms", "61000.5"), "bad_field"),
    ("2^53 + 1", changed("billable_ms", str(2**53 + 1)), "bad_field"),
    ("2^63", changed("billable_ms", str(2**63)), "bad_field"),
    ("2^64 + 61000", changed("billable_ms", str(2**64 + 61_000)), "bad_field"),
    ("30 digits", changed("billable_ms", "9" * 30), "bad_field"),
    ("5,000 digits in an unknown field", extra("9" * 300), "rated"),
    ("-1", changed("billable_ms", "-1"), "bad_field"),
    ("a day and a millisecond", changed("billable_ms", "86400001"), "bad_field"),
    ("true for a number", changed("billable_ms", "true"), "bad_field"),
    ("a text for a number", changed("billable_ms", '"61000"'), "bad_field"),
    ("a list for a number", changed("billable_ms", "[61000]"), "bad_field"),
    ("null for a number", changed("billable_ms", "null"), "missing_field"),
    # --- times
    ("end before start", called(end="2026-11-03T11:59:59.999Z"), "bad_times"),
    ("answer before start", called(answer="2026-11-03T11:59:59Z"), "bad_times"),
    ("a duration that nobody spoke", called(billable_ms=86_400_000), "bad_times"),
    ("a zero duration of a minute's call", called(billable_ms=0), "bad_times"),
    ("a naive time", called(start="2026-11-03T12:00:00"), "bad_field"),
    ("another zone", called(start="2026-11-03T12:00:00+01:00"), "bad_field"),
    ("zone zero in digits", called(start="2026-11-03T12:00:00+00:00"), "bad_field"),
    ("a leap second", called(start="2016-12-31T23:59:60Z"), "bad_field"),
    ("the hour that a clock leaves out is an hour in UTC",
     called(start="2026-03-29T02:30:00Z", answer="2026-03-29T02:30:00Z", end="2026-03-29T02:31:01Z"), "rated"),
    ("the year 0", called(start="0000-01-01T00:00:00Z"), "bad_field"),
    ("the year 10000", called(end="10000-01-01T00:00:00Z"), "bad_field"),
    ("30 February", called(start="2026-02-30T00:00:00Z"), "bad_field"),
    ("seconds since 1970", called(start=1_793_707_200), "bad_field"),
    ("a time in Arabic digits", called(start="٢٠٢٦-١١-٠٣T12:00:00Z"), "bad_field"),
    ("full-width digits", called(start="２０２６-11-03T12:00:00Z"), "bad_field"),
    # --- who and whom
    ("unknown tenant", called(tenant="nobody"), "unknown_tenant"),
    ("another writing of the tenant", called(tenant="Contoso"), "unknown_tenant"),
    ("a tenant with a space behind", called(tenant="contoso "), "bad_field"),
    ("a tenant with a line feed", called(tenant="contoso\n"), "bad_field"),
    ("a tenant with a zero-width space", called(tenant="con\u200btoso"), "bad_field"),
    ("a Cyrillic tenant", called(tenant="соntoso"), "bad_field"),
    ("a path for a tenant", called(tenant="../../etc/passwd"), "bad_field"),
    ("an empty tenant", called(tenant=""), "bad_field"),
    ("an empty record id", called(record_id=""), "bad_field"),
    ("a record id of 129", called(record_id="x" * 129), "bad_field"),
    ("a record id with a line feed", called(record_id="a\nb"), "bad_field"),
    ("a record id with right-to-left marks", called(record_id="\u202ea"), "bad_field"),
    ("a number without a plus", called(callee="12125550123"), "bad_field"),
    ("an empty number", called(callee=""), "bad_field"),
    ("200 digits", called(callee="+" + "1" * 200), "bad_field"),
    ("16 digits", called(callee="+1234567890123456"), "bad_field"),
    ("Arabic digits", called(callee="+٤٤٢٠٧٩٤٦٠٠١٨"), "bad_field"),
    ("full-width digits dialled", called(callee="+４４２０７９４６００１８"), "bad_field"),
    ("superscripts", called(callee="+44²⁰⁷⁹"), "bad_field"),
    ("a number with underscores", called(callee="+44_207_946"), "bad_field"),
    ("a number with spaces around", called(callee=" +442079460018\n"), "bad_field"),
    ("an extension", called(callee="+442079460018;ext=1"), "bad_field"),
    ("an unknown call type", called(call_type="user_sideways"), "bad_field"),
    ("a disposition in capitals", called(disposition="ANSWERED"), "bad_field"),
    ("a user of a megabyte's worth of name", called(user="u" * 129), "bad_field"),
    ("a user with a bell", called(user="\x07"), "bad_field"),
    ("a user with a line feed, escaped", called(user="u\nforged: yes"), "bad_field"),
    # --- what means something elsewhere
    ("a formula", called(user="=cmd|'/C calc'!A1", source="=1+1", note="@SUM(A1)"), "rated"),
    ("a path", called(user="../../etc/passwd", switch="/dev/null"), "rated"),
    ("a lookup", called(user="${jndi:ldap://x/a}", source="{{7*7}}"), "rated"),
    ("a query", called(user="'; drop table pages; --"), "rated"),
    ("a tag", called(user="<script>alert(1)</script>"), "rated"),
    ("zero-width and right-to-left characters", called(user="a\u200b\u202eb"), "rated"),
    ("a line feed, escaped, in a free field", called(switch="a\n{\"outcome\":\"free\"}"), "rated"),
    ("a text that closes the line", called(note='"},"outcome":"free","charge_micros":0,"x":{"a":"'), "rated"),
    ("an outcome of its own", RAW[:-1] + b',"outcome":"free","charge_micros":0,"v":1,"call":{}}', "rated"),
    ("emoji in pairs of escapes", extra(rb'"\ud83d\ude00"'), "rated"),
    ("an escaped slash", changed("record_id", rb'"poi\/son"'), "rated"),
    ("white space around", b" \t\r" + RAW + b" \r ", "rated"),
    ("-0 milliseconds of an unanswered call", changed("billable_ms", "-0").replace(
        orjson.dumps({"answer": GOOD["answer"]})[1:-1], b'"answer":null'), "rated"),
    ("the first instant there is", called(start="0001-01-01T00:00:00Z", answer="0001-01-01T00:00:00Z",
                                          end="0001-01-01T00:01:01Z"), "rated"),
    # --- again
    ("the record before, again", orjson.dumps(call_record("before")), "duplicate"),
    ("the id before with other content", orjson.dumps(call_record("before", ms=1)), "conflict"),
]  # fmt: skip
# Expires every lot it meets: rated last of all.
FAR_FUTURE = called(start="9999-12-31T23:58:58.999Z", answer="9999-12-31T23:58:58.999Z", end="9999-12-31T23:59:59.999Z")


def without_place(rated: dict[str, Any]) -> dict[str, Any]:
    return rated | {"input": None}


@pytest.mark.parametrize(("raw", "fate"), [(raw, fate) for _, raw, fate in CORPUS], ids=[name for name, _, _ in CORPUS])
def test_a_poisoned_record_is_rated_or_rejected_or_a_duplicate(raw: bytes, fate: str):
    around = [orjson.dumps(call_record(f"around-{k}")) for k in range(4)]
    clean = bench().run(calls=around)
    b = bench()
    answers = b.run(calls=[*around[:2], raw, *around[2:]])
    counts = answers.outcome.counts
    assert counts.read == 5 == counts.rated + counts.rejected + counts.duplicates
    if fate == "rated":
        mine = [row for row in answers.rated if row["input"] == [0, 3]]
        assert len(mine) == 1
        assert raw in answers.outcome.rated[0]
        others = [
            without_place(row) | {"account_version": 0, "balance_micros": 0} for row in answers.rated if row not in mine
        ]
        assert others == [without_place(row) | {"account_version": 0, "balance_micros": 0} for row in clean.rated]
    else:
        assert [without_place(row) for row in answers.rated] == [without_place(row) for row in clean.rated]
    if fate == "duplicate":
        assert counts.duplicates == 1
    elif fate != "rated":
        [rejected] = answers.rejected
        assert rejected["reason"] == fate
        assert rejected["detail"]
        assert b64decode(rejected["raw_b64"], validate=True) == raw
        assert rejected["input"] == [0, 3]
        assert b.balance() == bench_after(around).balance()


def bench_after(calls: list[bytes]) -> Bench:
    made = bench()
    made.run(calls=calls)
    return made


@pytest.mark.parametrize("name", ["user", "callee", "tenant", "record_id", "start", "billable_ms"])
def test_a_reason_names_the_field_and_never_its_value(name: str):
    [rejected] = bench().run(calls=[called(**{name: "\nsecret +442079460018"})]).rejected
    assert rejected["detail"].startswith(f"{name}: ")
    assert "secret" not in rejected["detail"]
    assert "442079460018" not in rejected["detail"]


def test_the_whole_corpus_in_one_batch_and_one_by_one_comes_to_the_same():
    raws = [raw for _, raw, _ in CORPUS if len(raw) < 10_000] + [FAR_FUTURE]
    raws = [raw.replace(b'"poison"', f'"poison-{k}"'.encode()) for k, raw in enumerate(raws)]
    a, b = bench(), bench()
    whole = a.decide([], raws)
    pieces = [b.decide([], [raw]) for raw in raws]
    assert b"".join(whole.rated) == b"".join(line for piece in pieces for line in piece.rated)
    assert whole.rejected_cdrs == [line for piece in pieces for line in piece.rejected_cdrs]
    assert whole.events == [line for piece in pieces for line in piece.events]
    counts = whole.counts
    assert counts.read == len(raws) == counts.rated + counts.rejected + counts.duplicates
    assert a.balance() == b.balance()


def test_a_call_at_the_end_of_time_is_rated_and_expires_what_it_must():
    b = bench()
    answers = b.run(calls=[FAR_FUTURE])
    assert [event["type"] for event in answers.events] == [
        "rater.lot.expired",
        "rater.balance.zero",
        "rater.service.blocked",
    ]
    assert answers.rated[0]["debt_micros"] == 40_000
    assert len(b.run(calls=[orjson.dumps(call_record("next"))]).rated) == 1


@pytest.mark.parametrize(
    ("name", "raw", "fate"),
    [
        (name, raw, fate)
        for name, raw, fate in CORPUS
        if fate in ("not_json", "not_an_object", "too_large", "duplicate_key")
    ],
)
def test_poisoned_commands_are_rejected_with_their_bytes(name: str, raw: bytes, fate: str):
    b = bench()
    before = b.balance()
    answers = b.run([raw, b.command_bytes("clock.ticked")])
    [rejected] = answers.rejected_commands
    assert rejected["reason"] == fate
    assert b64decode(rejected["raw_b64"], validate=True) == raw
    assert answers.outcome.counts.commands == 1
    assert b.balance()["version"] == before["version"] + 1
