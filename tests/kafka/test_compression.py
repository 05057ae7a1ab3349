"""Bodies that are inflated: zstd frames with and without a size, one and several, and room that grows."""

import cramjam
import pytest
import zstandard

from rater.doors.kafka.compression import (
    DECOMPRESSED_BYTES_MAX,
    LZ4,
    ZSTD,
    NotDecompressed,
    decompressed,
    pack_lz4,
    pack_zstd,
)

LINES = b"".join(b'{"call_id":"c-%d","amount":"0.0%d"}\n' % (k, k % 97) for k in range(40_000))  # 1.4 MB
ZEROS = bytes(5_000_000)  # a hundred times shorter when packed than what is guessed


def unsized(body: bytes) -> bytes:
    """As Java's producers write it: nobody knew how much would come."""
    return zstandard.ZstdCompressor(write_content_size=False).compress(body)


@pytest.mark.parametrize("body", [b"", b"x", LINES, ZEROS], ids=["none", "one", "lines", "zeros"])
@pytest.mark.parametrize("pack", [pack_zstd, unsized])
def test_a_frame_is_read_in_full_whether_it_says_its_size_or_not(pack, body: bytes):
    assert decompressed(ZSTD, memoryview(pack(body)), DECOMPRESSED_BYTES_MAX) == body


@pytest.mark.parametrize("body", [b"x", LINES, ZEROS], ids=["one", "lines", "zeros"])
def test_lz4_gets_room_until_all_of_it_is_there(body: bytes):
    assert decompressed(LZ4, memoryview(pack_lz4(body)), DECOMPRESSED_BYTES_MAX) == body


@pytest.mark.parametrize("first", [pack_zstd, unsized])
@pytest.mark.parametrize("second", [pack_zstd, unsized])
def test_of_two_frames_one_behind_the_other_nothing_is_lost(first, second):
    stored = first(LINES) + second(b"and the rest")
    assert decompressed(ZSTD, memoryview(stored), DECOMPRESSED_BYTES_MAX) == LINES + b"and the rest"


@pytest.mark.parametrize(
    "before", [pack_zstd(b""), unsized(b""), b"\x50\x2a\x4d\x18\x03\0\0\0abc"], ids=["empty", "unsized", "skip"]
)
def test_a_frame_with_nothing_in_it_hides_nothing_behind_it(before: bytes):
    """Empty ones, and one that the format says is to be passed over."""
    assert decompressed(ZSTD, memoryview(before + pack_zstd(LINES)), DECOMPRESSED_BYTES_MAX) == LINES


def test_what_is_exactly_as_long_as_allowed_is_read_and_a_byte_more_refused():
    stored = memoryview(pack_zstd(LINES))
    assert decompressed(ZSTD, stored, len(LINES)) == LINES
    with pytest.raises(NotDecompressed, match=f"more than {len(LINES) - 1} bytes decompressed"):
        decompressed(ZSTD, stored, len(LINES) - 1)


@pytest.mark.parametrize("said", [10, 70_000, (1 << 32) - 1])
def test_a_frame_that_lies_about_its_size_is_refused(said: int):
    """In a frame of 70,000 bytes the size is four bytes behind magic number, descriptor and window."""
    stored = bytearray(zstandard.ZstdCompressor().compress(LINES[:70_001]))
    at = stored.index((70_001).to_bytes(4, "little"))
    stored[at : at + 4] = said.to_bytes(4, "little")
    assert zstandard.frame_content_size(bytes(stored)) == said
    with pytest.raises(NotDecompressed):
        decompressed(ZSTD, memoryview(stored), DECOMPRESSED_BYTES_MAX)


def test_a_frame_that_cramjam_wrote_is_read():
    assert decompressed(ZSTD, memoryview(bytes(cramjam.zstd.compress(LINES))), DECOMPRESSED_BYTES_MAX) == LINES
