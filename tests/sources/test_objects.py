"""Where a JSON row begins and ends, in arrays, pages and lines, broken ones included."""

import io
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rater.sources import objects
from rater.sources.objects import CUT_OFF, Objects, Piece
from rater.sources.record import RECORD_BYTES_MAX

A: dict[str, Any] = {"id": "a", "text": 'br}ce{s "quoted" \\ [x]', "n": 1}
B: dict[str, Any] = {"id": "b", "nested": {"list": [{"deep": "}"}, 2]}, "n": None}
C: dict[str, Any] = {"id": "c", "value": "no page"}


def pieces(data: bytes) -> list[Piece]:
    return list(Objects(io.BytesIO(data)))


def values(data: bytes) -> list[dict[str, Any] | None]:
    return [piece.value for piece in pieces(data)]


def page(*rows: dict[str, Any]) -> bytes:
    head = {"@odata.context": "https://example.com/$metadata#{}[", "@odata.count": 1000}
    return orjson.dumps({**head, "value": list(rows), "@odata.nextLink": "https://example.com/?$skip=[1{"})


@pytest.mark.parametrize("indent", [0, orjson.OPT_INDENT_2])
def test_arrays_pages_lines_and_single_objects_hold_the_same_rows(indent: int) -> None:
    rows = [orjson.dumps(row, option=indent) for row in (A, B, C)]
    spread = orjson.dumps(orjson.loads(page(A, B, C)), option=indent)
    files = [b"\n".join(rows), b"".join(rows), orjson.dumps([A, B, C], option=indent), spread, b"[" + spread + b"]"]
    files += [b"\xef\xbb\xbf" + rows[0] + b"\r\n" + rows[1] + b"\x1e" + rows[2], page(A) + b"\n" + page() + page(B, C)]
    for data in files:
        assert values(data) == [A, B, C]


def test_a_piece_has_the_bytes_as_they_came() -> None:
    raw = b'{ "id" : "a",\r\n\t"n":1 }'
    assert [piece.raw for piece in pieces(b"[\n" + raw + b" ,\n" + raw + b"]")] == [raw, raw]


def test_a_page_without_rows_and_an_empty_file_hold_nothing() -> None:
    assert pieces(page()) == pieces(b"") == pieces(b"[]\n") == pieces(b' \n{"value": []}') == []


@pytest.mark.parametrize(
    "broken",
    [
        b'{"id":"x","n":}',
        b'{"id":"x" "n":1}',
        b'{"id":"x,"n":1}',
        b'{"id":"x","n":NaN}',
        b'{"id":"x\n","n":1}',
        b'{"id":"x","n":1',
        b'{"id":"x","n":"1',
        b'{"id":"x","n":',
        b'{"id":"x","n":"\\u12"}',
    ],
)
def test_a_broken_line_is_rejected_with_its_bytes_and_the_next_one_is_whole(broken: bytes) -> None:
    a, c = orjson.dumps(A), orjson.dumps(C)
    found = pieces(b"\n".join([a, broken, c, a]) + b"\n")
    assert [piece.value for piece in found] == [A, None, C, A]
    assert (found[1].raw, found[1].reason) == (broken, "bad_source_row")


def test_a_broken_row_inside_an_array_ends_where_the_next_begins() -> None:
    a, c = orjson.dumps(A), orjson.dumps(C)
    for broken in (b'{"id":"x","n":}', b'{"id":"x,"n":1}', b'{"id":"x","n":"1}'):
        for data in (b"[" + a + b"," + broken + b"," + c + b"]", b'{"value":[' + a + b"," + broken + b"," + c + b"]}"):
            found = pieces(data)
            assert [piece.value for piece in found] == [A, None, C]
            assert found[1].raw == broken


def test_a_download_that_was_cut_off_says_so() -> None:
    data = page(A, B)
    whole, cut = pieces(data[: data.index(b',{"id":"b"')])
    assert (whole.value, cut.value, cut.fault) == (A, None, CUT_OFF)
    whole, part, cut = pieces(data[: data.index(b'"deep"')])
    assert part.reason == "bad_source_row"
    assert cut.fault == CUT_OFF


def test_text_that_is_no_json_is_rejected_line_by_line() -> None:
    found = pieces(b"<html>\n<body>\n" + orjson.dumps(A) + b"\ntrailing")
    assert [piece.value for piece in found] == [None, None, A, None]


def test_an_endless_object_is_cut_and_the_rows_after_it_are_found() -> None:
    data = b'{"id":"' + b"x" * (3 * RECORD_BYTES_MAX) + b'"}\n' + orjson.dumps(A)
    found = pieces(data)
    assert found[-1].value == A
    assert found[0].reason == "too_large"
    assert b"".join(piece.raw for piece in found[:-1]) == data[: -len(orjson.dumps(A)) - 1]


def test_the_size_of_what_is_read_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{**A, "n": index, "pad": "{" * (index % 700)} for index in range(600)]
    data = page(*rows[:300]) + b"[" + b" ,\n".join(orjson.dumps(row) for row in rows[300:]) + b"]"
    for size in (1000, 65_537, 262_144):
        monkeypatch.setattr(objects, "CHUNK_BYTES", size)
        assert values(data) == rows


def test_memory_is_bounded() -> None:
    class Endless(io.RawIOBase):
        def __init__(self) -> None:
            self.left = 40

        def read(self, _size: int = -1) -> bytes:
            self.left -= 1
            return (orjson.dumps(A) + b",") * 3000 if self.left >= 0 else b""

    reader = Objects(Endless())  # type: ignore[arg-type]
    most = max(len(reader.held) for _ in reader)
    assert most < 600_000


@given(st.lists(st.sampled_from([b"{", b"}", b"[", b"]", b'"', b"\\", b",", b":", b'"value"', b"\n", b"1", b"\xff"])))
def test_no_bytes_raise_and_none_but_brackets_and_page_frames_vanish(parts: list[bytes]) -> None:
    data = b"".join(parts)
    found = pieces(data)
    at = 0
    for piece in found:
        at = data.index(piece.raw, at) + len(piece.raw)
    assert all(first.raw or second.raw for first, second in pairwise(found))


@given(st.lists(st.sampled_from([A, B, C]), max_size=5), st.binary(max_size=30))
def test_rows_before_any_fault_are_whole(rows: list[dict[str, Any]], fault: bytes) -> None:
    data = b"\n".join(orjson.dumps(row) for row in rows) + b"\n" + fault
    assert values(data)[: len(rows)] == rows
