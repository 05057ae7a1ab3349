"""Where a row of a delimited file ends, broken ones included."""

import io

from hypothesis import given
from hypothesis import strategies as st

from rater.sources.record import RECORD_BYTES_MAX
from rater.sources.rows import Row, Rows


def rows(data: bytes, width: int | None = 3) -> list[Row]:
    return list(Rows(io.BytesIO(data), ",", width))


def test_a_value_may_hold_a_line_break() -> None:
    [spanning, after] = rows(b'"a","two\nlines",c\n1,2,3\n')
    assert spanning == Row(b'"a","two\nlines",c', ["a", "two\nlines", "c"])
    assert after.values == ["1", "2", "3"]


def test_an_unclosed_quote_ends_at_its_line_and_the_next_row_is_whole() -> None:
    broken, after, last = rows(b'"a","b","\n"d","e","f"\ng,h,i\n')
    assert (broken.raw, broken.values, broken.reason) == (b'"a","b","', None, "bad_source_row")
    assert after.values == ["d", "e", "f"]
    assert last.values == ["g", "h", "i"]


def test_two_unclosed_rows_do_not_close_each_other_over_a_good_one() -> None:
    data = b'a,b,"\n1,2,3\n",c,d\n4,5,6\n'
    assert [row.values for row in rows(data)] == [None, ["1", "2", "3"], None, ["4", "5", "6"]]


def test_an_unclosed_quote_at_the_end_of_the_file() -> None:
    assert [row.raw for row in rows(b'1,2,3\n"a","b","')] == [b"1,2,3", b'"a","b","']


def test_line_ends_of_windows_a_missing_last_one_and_blank_lines() -> None:
    assert [row.values for row in rows(b"1,2,3\r\n\r\n  \n4,5,6")] == [["1", "2", "3"], ["4", "5", "6"]]


def test_an_endless_line_is_cut_and_the_next_row_is_whole() -> None:
    for size in (RECORD_BYTES_MAX + 1, RECORD_BYTES_MAX + 2, RECORD_BYTES_MAX + 3, 5 * RECORD_BYTES_MAX):
        long, after = rows(b"x" * size + b"\n1,2,3\n")
        assert (long.reason, after.values) == ("too_large", ["1", "2", "3"])
        assert str(size) in long.fault
    assert [row.reason for row in rows(b"x" * RECORD_BYTES_MAX + b"\r\n1,2,3\n")] == ["bad_source_row", ""]


@given(st.lists(st.sampled_from([b'"', b'""', b",", b"\n", b"a", b"\r\n", b"\xff", b"\x00", b"1,2,3\n"]), max_size=30))
def test_every_byte_that_is_no_line_end_is_in_some_row(parts: list[bytes]) -> None:
    data = b"".join(parts)
    kept = b"".join(row.raw for row in rows(data))
    assert b"".join(kept.split()) == b"".join(data.split())


@given(st.lists(st.sampled_from([b'"', b'""', b",", b"a", b"\xff", b"\x00"]), max_size=20))
def test_no_broken_row_takes_a_good_row_with_it(parts: list[bytes]) -> None:
    data = b"".join(parts) + b'\n"7","8","9"\n1,2,3\n'
    assert [row.values for row in rows(data)][-2:] == [["7", "8", "9"], ["1", "2", "3"]]
