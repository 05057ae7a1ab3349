"""The slow reader judges JSON and nothing else: what it refuses, and what it hands on unchanged in meaning."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rater.contract.reader import read_slowly
from rater.core.reasons import Reason
from tests.contract.generated import TEXTS, VALUES


@given(st.dictionaries(TEXTS, VALUES, max_size=5), st.booleans(), st.sampled_from([None, 1]))
def test_an_object_comes_back_compact_and_equal(record: dict[str, Any], ascii_only: bool, indent: int | None):
    read = read_slowly(json.dumps(record, ensure_ascii=ascii_only, indent=indent).encode())
    assert not isinstance(read, Reason)
    canonical, value = read
    assert orjson.loads(canonical) == value
    assert read_slowly(canonical) == (canonical, value)
    keys = list(orjson.loads(canonical))
    assert keys == sorted(keys)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", Reason.NOT_JSON),
        (b" ", Reason.NOT_JSON),
        (b"null", Reason.NOT_AN_OBJECT),
        (b"1", Reason.NOT_AN_OBJECT),
        (b'"text"', Reason.NOT_AN_OBJECT),
        (b"[{}]", Reason.NOT_AN_OBJECT),
        (b"{} {}", Reason.NOT_JSON),
        (b'{"a":1,}', Reason.NOT_JSON),
        (b"{'a':1}", Reason.NOT_JSON),
        (b'{"a":NaN}', Reason.NOT_JSON),
        (b'{"a":Infinity}', Reason.NOT_JSON),
        (b'{"a":-Infinity}', Reason.NOT_JSON),
        (b'{"a":01}', Reason.NOT_JSON),
        (b'{"a":+1}', Reason.NOT_JSON),
        (b'{"a":.5}', Reason.NOT_JSON),
        (b'{"a":1_000}', Reason.NOT_JSON),
        (b'{"a":0x10}', Reason.NOT_JSON),
        (b'{"a":"\xff"}', Reason.NOT_JSON),
        (b'{"a":"\xc0\xaf"}', Reason.NOT_JSON),
        (b'{"a":"\xed\xa0\x80"}', Reason.NOT_JSON),
        (b'{"a":"\\ud800"}', Reason.NOT_JSON),
        (b'{"a":"\\x41"}', Reason.NOT_JSON),
        (b'{"a":"\x01"}', Reason.NOT_JSON),
        (b'{"a":1}\x00', Reason.NOT_JSON),
        (b'\xef\xbb\xbf{"a":1}', Reason.NOT_JSON),
        ('{"a":1}'.encode("utf-16"), Reason.NOT_JSON),
        (b'{"a":1,"a":1}', Reason.DUPLICATE_KEY),
        (b'{"a":1,"\\u0061":2}', Reason.DUPLICATE_KEY),
        (b'{"a":{"b":1,"b":1}}', Reason.DUPLICATE_KEY),
        (b'{"a":[{"b":1,"b":1}]}', Reason.DUPLICATE_KEY),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", Reason.TOO_LARGE),
        (b'{"a":' + b"[" * 30_000 + b"]" * 30_000 + b"}", Reason.NOT_JSON),
        (b"[" * 60_000, Reason.NOT_JSON),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, Reason.NOT_JSON),
        (b" " * 65_537, Reason.TOO_LARGE),
    ],
)
def test_what_is_no_object_of_unique_keys(raw: bytes, reason: Reason):
    assert read_slowly(raw) is reason


@pytest.mark.parametrize("raw", [b'{"a":-0}', b'{"a":1e400}', b'{"a":9007199254740993}', b'{"a":18446744073709551616}',
                                 b'{"a":' + b"9" * 5000 + b"}", b'{"a":"\\ud83d\\ude00"}', b'{"":""}', b"{}"])  # fmt: skip
def test_odd_but_right_json_is_read_or_refused_and_never_stops_the_house(raw: bytes):
    read = read_slowly(raw)
    assert isinstance(read, Reason) or isinstance(read[1], dict)


@pytest.mark.parametrize("depth", [1, 100, 250, 251, 252, 253, 254, 255, 256, 500, 900, 990, 1000, 1023, 1024, 1025])
def test_how_deep_a_record_may_nest_does_not_depend_on_who_asks(depth: int):
    """The same bytes are judged alike however deep in its own calls the house stands, so an audit judges as the run did."""
    raw = b'{"a":' + b"[" * depth + b"]" * depth + b"}"

    def below(levels: int) -> object:
        return below(levels - 1) if levels else read_slowly(raw)

    assert repr(below(0)) == repr(below(150)) == repr(below(400))
