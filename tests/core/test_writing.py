"""Numbers, months and names as JSON text in a byte buffer, against `json`."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rater.core.numbering import country_code
from rater.core.writing import (
    fragment,
    fragments,
    put,
    put_choice,
    put_country,
    put_escaped,
    put_int,
    put_month,
    put_span,
)

ROOM = 64


def written(function, *args) -> str:
    out = np.full(ROOM * 8, ord("."), np.uint8)
    end = int(function(out, 5, *args))
    assert out[:5].tobytes() == b"....."
    assert set(out[end:].tobytes()) <= {ord(".")}, "wrote behind its end"
    return out[5:end].tobytes().decode()


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_a_whole_number_of_any_sign_and_size(value: int):
    assert written(put_int, np.int64(value)) == str(value)


@pytest.mark.parametrize("digits", range(19))
@pytest.mark.parametrize("sign", [1, -1])
def test_a_whole_number_where_its_length_changes(digits: int, sign: int):
    for value in (10**digits - 1, 10**digits, 10**digits + 1):
        assert written(put_int, np.int64(sign * value)) == str(sign * value)


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63) + 1, 2**31, 2**32, -(2**31), 0, 9, 10, 99, 100])
def test_the_edges_of_the_machine(value: int):
    assert written(put_int, np.int64(value)) == str(value)


@pytest.mark.parametrize("country", ["GB", "US", "AA", "ZZ"])
def test_a_country(country: str):
    assert written(put_country, np.int64(country_code(country))) == f'"{country}"'


def test_no_country_is_null():
    assert written(put_country, np.int64(0)) == "null"


@pytest.mark.parametrize(("year", "month"), [(1, 1), (999, 12), (2026, 11), (9999, 12), (2000, 1)])
def test_a_month(year: int, month: int):
    assert written(put_month, np.int64(year * 12 + month - 1)) == f"{year:04d}-{month:02d}"


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=120))
def test_printable_ascii_inside_a_json_string(text: str):
    data = np.zeros(136, np.uint8)
    data[: len(text)] = np.frombuffer(text.encode(), np.uint8)
    assert '"' + written(put_escaped, data, len(text)) + '"' == json.dumps(text)


def test_constant_texts():
    texts, bounds = fragments(["one", "", "three"])
    assert [written(put_choice, texts, bounds, k) for k in range(3)] == ["one", "", "three"]
    assert written(put, fragment("abc")) == "abc"
    assert written(put_span, fragment("abcdef"), 2, 5) == "cde"
