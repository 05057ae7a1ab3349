"""Eight bytes at a time: the words a scanner reads and the marks it looks for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rater.core import words
from rater.core.compiled import kernel
from rater.core.words import PADDING, as_buffer, head_of, special_bytes, text_words


# What is one machine instruction when compiled can only be called by a kernel.
@kernel
def word(buffer, at):
    return words.word(buffer, at)


@kernel
def trailing_zeros(value):
    return words.trailing_zeros(value)


@kernel
def copy_bytes(target, at, source, start, count):
    words.copy_bytes(target, at, source, start, count)


eight = st.binary(min_size=8, max_size=8)


def number(data: bytes) -> np.uint64:
    return np.uint64(int.from_bytes(data, "little"))


@given(st.binary(min_size=8, max_size=40), st.data())
def test_a_word_is_eight_bytes_from_any_place(data: bytes, draw: st.DataObject):
    at = draw.draw(st.integers(0, len(data) - 8))
    assert int(word(as_buffer(data), at)) == int.from_bytes(data[at : at + 8], "little")


@given(st.binary(max_size=20))
def test_a_buffer_ends_in_zeros(data: bytes):
    buffer = as_buffer(data)
    assert buffer.tobytes() == data + bytes(PADDING)


@pytest.mark.parametrize("bit", range(64))
def test_the_lowest_bit_is_found(bit: int):
    assert trailing_zeros(np.uint64(1 << bit)) == bit
    assert trailing_zeros(np.uint64((1 << bit | 1 << 63) & (2**64 - 1))) == bit


def test_no_bit_is_sixty_four():
    assert trailing_zeros(np.uint64(0)) == 64


def is_special(byte: int) -> bool:
    return byte in (34, 92) or byte < 32 or byte > 126


@given(eight)
def test_the_first_byte_that_ends_a_plain_string_is_marked(data: bytes):
    marks = np.uint64(special_bytes(number(data)))
    first = next((k for k, byte in enumerate(data) if is_special(byte)), 8)
    assert (int(trailing_zeros(marks)) >> 3) == first


@pytest.mark.parametrize("byte", range(256))
@pytest.mark.parametrize("place", [0, 3, 7])
def test_every_byte_is_judged_in_every_place(byte: int, place: int):
    data = bytearray(b"aaaaaaaa")
    data[place] = byte
    marks = int(special_bytes(number(bytes(data))))
    assert (marks != 0) == is_special(byte)


@given(eight, st.integers(0, 8))
def test_a_head_keeps_its_first_bytes(data: bytes, length: int):
    assert int(head_of(number(data), length)) == int.from_bytes(data[:length], "little")


def test_a_text_in_words_is_what_word_reads():
    buffer = as_buffer(b"conference_id")
    assert text_words(b"conference_id", 2) == [int(word(buffer, 0)), int(head_of(np.uint64(word(buffer, 8)), 5))]


@given(st.binary(max_size=50), st.integers(0, 9), st.data())
def test_copying_moves_these_bytes_and_no_others(data: bytes, at: int, draw: st.DataObject):
    start = draw.draw(st.integers(0, len(data)))
    count = draw.draw(st.integers(0, len(data) - start))
    target = as_buffer(b"." * 80)
    copy_bytes(target, at, as_buffer(data), start, count)
    assert target.tobytes()[:80] == b"." * at + data[start : start + count] + b"." * (80 - at - count)
