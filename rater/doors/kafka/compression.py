"""Compressed bodies of record batches: gzip, snappy, lz4 and zstd; when read, never more bytes out than the caller allows."""

import gzip
import io
import struct
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import cramjam
import numpy as np
import zstandard
from aiokafka.codec import snappy_decode, snappy_encode

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)  # as the attributes of a batch say it
CODECS = {"none": NONE, "gzip": GZIP, "snappy": SNAPPY, "lz4": LZ4, "zstd": ZSTD}
CODEC_NAMES = {number: name for name, number in CODECS.items()}

# A broker takes about one MiB a batch; what inflates to a hundred times that is no harvest of call records.
DECOMPRESSED_BYTES_MAX = 128 << 20
LIKELY_RATIO_MAX = 32  # rated calls become a tenth with zstd, rows of the state a sixth
FASTEST = 1
WORTH_PACKING_BYTES = 1_024  # the journal line and the rows of a few calls are written as they are
XERIAL = b"\x82SNAPPY\0"  # how Java frames snappy: blocks, each with its length in front
XERIAL_HEADER = 16


class NotDecompressed(ValueError):
    """Data that are not what their codec promises, or too many."""


def packed(codec: int, body: bytes | memoryview) -> tuple[bytes, int]:
    """What to store of a body, and its codec: as it is where that is no more bytes."""
    if codec == NONE or len(body) < WORTH_PACKING_BYTES:
        return bytes(body), NONE
    stored = PACKERS[codec](body)
    return (stored, codec) if len(stored) < len(body) else (bytes(body), NONE)


def pack_lz4(body: bytes | memoryview) -> bytes:
    frame = cramjam.lz4.Compressor(level=FASTEST, content_checksum=False, block_linked=False)
    frame.compress(body)
    return bytes(frame.finish())


# Lines of one kind look alike: a codec's lowest level finds nearly all of that (zstd at level 1: a tenth, at 3 no less), and
# most of it in the lines just before. With a table and a window that stay in the processor's cache, and nothing shorter than
# seven bytes looked for, zstd takes three quarters of level 1's time, for three bytes in a hundred more.
ZSTD_PARAMETERS = zstandard.ZstdCompressionParameters(
    strategy=zstandard.STRATEGY_FAST, window_log=17, hash_log=13, chain_log=12, search_log=1, min_match=7,
    write_content_size=True,
)  # fmt: skip
_kept = threading.local()  # a compressor with its tables and a decompressor for each thread: not for two at once


def pack_zstd(body: bytes | memoryview) -> bytes:
    if not hasattr(_kept, "zstd"):
        _kept.zstd = zstandard.ZstdCompressor(compression_params=ZSTD_PARAMETERS)
    stored: bytes = _kept.zstd.compress(body)
    return stored


PACKERS: dict[int, Callable[[bytes | memoryview], bytes]] = {
    GZIP: lambda body: gzip.compress(body, FASTEST, mtime=0),
    SNAPPY: lambda body: bytes(snappy_encode(bytes(body))),
    LZ4: pack_lz4,
    ZSTD: pack_zstd,
}


def decompressed(codec: int, stored: memoryview, bytes_max: int) -> bytes:
    """A body in full; never more than `bytes_max`, however far a few bytes say they inflate."""
    if codec == NONE:
        return bytes(stored)
    if codec not in CODEC_NAMES:
        raise NotDecompressed(f"found compression codec {codec}, expected one of {' '.join(CODECS)}")
    try:
        body = INFLATERS[codec](stored, bytes_max)
    except (cramjam.DecompressionError, OSError, EOFError, zlib.error, struct.error, ValueError) as problem:
        raise NotDecompressed(f"its {CODEC_NAMES[codec]} data cannot be decompressed: {problem}") from problem
    if body is None or len(body) > bytes_max:
        raise NotDecompressed(
            f"its {len(stored)} bytes of {CODEC_NAMES[codec]} data are more than {bytes_max} bytes decompressed, the most "
            "that is read; whoever wrote the batch must write smaller ones"
        )
    return body


def inflate_gzip(stored: memoryview, bytes_max: int) -> bytes:
    return gzip.GzipFile(fileobj=io.BytesIO(stored)).read(bytes_max + 1)


def inflate_snappy(stored: memoryview, bytes_max: int) -> bytes | None:
    return snappy_decode(bytes(stored)) if snappy_size(stored) <= bytes_max else None


def snappy_size(stored: memoryview) -> int:
    """How long the bytes will be: snappy says so in front of each block."""
    if bytes(stored[: len(XERIAL)]) != XERIAL:
        return int(cramjam.snappy.decompress_raw_len(bytes(stored)))
    size, at = 0, XERIAL_HEADER
    while at < len(stored):
        (length,) = struct.unpack_from(">i", stored, at)
        if length <= 0 or at + 4 + length > len(stored):
            raise ValueError(f"a block of {length} bytes at {at} of {len(stored)}")
        size += int(cramjam.snappy.decompress_raw_len(bytes(stored[at + 4 : at + 4 + min(length, 16)])))
        at += 4 + length
    return size


def into_growing(inflate: Callable[[Any, Any], int]) -> Callable[[memoryview, int], bytes | None]:
    """lz4 and zstd do not always say how long the bytes will be: give them room, and more room, up to the limit.

    Room that is not written to costs nothing; what did not fit is inflated a second time.
    """

    def inflated(stored: memoryview, bytes_max: int) -> bytes | None:
        room = min(bytes_max, max(1 << 20, LIKELY_RATIO_MAX * len(stored)))
        while True:
            out = np.empty(room, np.uint8)
            try:
                return out[: inflate(stored, out)].tobytes()
            except cramjam.DecompressionError as problem:
                if "whole buffer" not in str(problem):
                    raise
            if room == bytes_max:
                return None
            room = min(bytes_max, 4 * room)

    return inflated


inflate_unsized_zstd = into_growing(cramjam.zstd.decompress_into)


def inflate_zstd(stored: memoryview, bytes_max: int) -> bytes | None:
    """One frame that says how long it will be, as a worker writes it, goes straight to where it stays; any other is given room."""
    if not hasattr(_kept, "unzstd"):
        _kept.unzstd = zstandard.ZstdDecompressor()
    with suppress(zstandard.ZstdError):  # whatever it is, the other way finds out
        # An empty frame, or one to be passed over, says 0: there is more behind it.
        if 0 < zstandard.frame_content_size(stored) <= bytes_max:
            body: bytes = _kept.unzstd.decompress(stored, allow_extra_data=False)
            return body
    return inflate_unsized_zstd(stored, bytes_max)


INFLATERS: dict[int, Callable[[memoryview, int], bytes | None]] = {
    GZIP: inflate_gzip,
    SNAPPY: inflate_snappy,
    LZ4: into_growing(cramjam.lz4.decompress_into),
    ZSTD: inflate_zstd,
}
