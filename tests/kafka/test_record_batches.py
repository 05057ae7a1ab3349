"""Kafka's record format: what aiokafka and we write, each read by the other; damaged bytes end in a sentence."""

import gzip
import json
import os
import struct
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cramjam
import numpy as np
import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c, encode_varint
from hypothesis import given, settings
from hypothesis import strategies as st

from rater.core.compiled import kernel_sources
from rater.core.words import as_buffer
from rater.doors.kafka import checksum, record_batches
from rater.doors.kafka.checksum import crc32c
from rater.doors.kafka.compression import CODECS, packed
from rater.doors.kafka.log import Block
from rater.doors.kafka.record_batches import (
    APPEND_TIME,
    CONTROL,
    HEADER,
    TRANSACTIONAL,
    BodyWriter,
    CorruptBatch,
    Marker,
    batch_bytes,
    frame_few,
    read_batches,
    records_from_blocks,
)

ROOT = Path(__file__).resolve().parents[2]

Few = tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]


def built(
    records: Sequence[Few], codec: int = 0, base_offset: int = 0, time_ms: int = 1_000, step_ms: int = 1
) -> bytes:
    """A batch as aiokafka writes it; the base offset is what a broker would put in."""
    builder = DefaultRecordBatchBuilder(2, codec, False, -1, -1, -1, 1 << 30)
    for delta, (key, value, headers) in enumerate(records):
        assert builder.append(delta, time_ms + delta * step_ms, key, value, headers) is not None
    data = bytearray(builder.build())
    struct.pack_into(">q", data, 0, base_offset)  # not covered by the CRC
    return bytes(data)


def blocks_of(raw: bytes) -> list[Block]:
    return [batch.block() for batch in read_batches(raw)]


def read_back(raw: bytes, first_offset: int = 0) -> list[tuple[int, bytes | None, bytes]]:
    records, _ = records_from_blocks(blocks_of(raw), first_offset)
    return [(int(records.offsets[k]), records.key(k), records.raw(k)) for k in range(records.count)]


def theirs(body: bytes, count: int, codec: int = 0) -> list[tuple[int, bytes | None, bytes | None, Any]]:
    """A body of ours in a batch of ours, as aiokafka reads it."""
    stored, codec = packed(codec, body)
    batch = DefaultRecordBatch(bytearray(batch_bytes(stored, count, 77, attributes=codec)))
    assert batch.validate_crc()
    return [(record.offset, record.key, record.value, record.headers) for record in batch]


def spans(items: Sequence[bytes | None]) -> tuple[Any, Any, Any]:
    """A buffer, and where in it each item lies; -1 for None."""
    ends = np.cumsum([len(item or b"") for item in items]).astype(np.int64)
    starts = ends - np.array([len(item or b"") for item in items], np.int64)
    starts[[k for k, item in enumerate(items) if item is None]] = -1
    return as_buffer(b"".join(item or b"" for item in items)), starts, ends


def bodies_of(pairs: Sequence[tuple[bytes | None, bytes | None]], limit_bytes: int) -> list[tuple[bytes, int]]:
    writer = BodyWriter(bytes, limit_bytes)
    writer.add(*spans([key for key, _ in pairs]), *spans([value for _, value in pairs]))
    return writer.finish()


SOME: list[Few] = [
    (b"contoso", b'{"v":1}', []),
    (None, b"no key", [("trace", b"abc"), ("empty", b""), ("null", None)]),
    (b"", b"empty key", []),
    (b"tombstone", None, []),
    (b"x" * 200, b"y" * 70_000, [("h" * 300, b"z" * 300)]),
    (None, None, []),
]

# ------------------------------------------------------------------------------------------------ reading


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_what_aiokafka_writes_is_read_whatever_the_codec(codec: int):
    raw = built(SOME, codec, 40)
    (batch,) = read_batches(raw)
    assert (batch.codec, batch.count, batch.base_offset, batch.next_offset) == (codec, 6, 40, 46)
    assert (batch.control, batch.transactional, batch.producer_id) == (False, False, -1)
    assert read_back(raw) == [(40 + k, key, value or b"") for k, (key, value, _) in enumerate(SOME)]


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_a_batch_of_ten_thousand_records_keeps_offsets_and_times(codec: int):
    raw = built([(b"k%d" % k, b"value %d" % k * 9, []) for k in range(10_000)], codec, 1 << 40, 1_700_000_000_000, 7)
    records, times = records_from_blocks(blocks_of(raw), 0)
    assert records.offsets.tolist() == list(range(1 << 40, (1 << 40) + 10_000))
    assert times.tolist() == list(range(1_700_000_000_000, 1_700_000_000_000 + 70_000, 7))
    assert records.key(9_999) == b"k9999"
    assert records.raw(9_999) == b"value 9999" * 9


def test_times_may_run_backwards_within_a_batch():
    _, times = records_from_blocks(blocks_of(built(SOME, time_ms=1_000, step_ms=-3)), 0)
    assert times.tolist() == [1_000, 997, 994, 991, 988, 985]


def test_a_snappy_body_without_javas_frame_is_read_too():
    plain = built(SOME[:1] * 50)
    (batch,) = read_batches(plain)
    packed = cramjam.snappy.compress_raw(batch.body())
    raw = resealed(plain[: HEADER.size] + bytes(packed), attributes=CODECS["snappy"])
    assert read_back(raw) == read_back(plain)


def test_records_before_the_first_offset_are_left_out():
    raw = built(SOME, base_offset=10) + built(SOME, base_offset=20)
    assert [offset for offset, _, _ in read_back(raw, 13)] == [13, 14, 15, 20, 21, 22, 23, 24, 25]
    assert read_back(raw, 26) == []


def test_no_blocks_are_no_records():
    records, times = records_from_blocks([], 5)
    assert records.count == times.size == 0


def test_a_compacted_batch_keeps_its_gaps():
    """Compaction takes records out of a batch and leaves offsets and the last delta as they were; it may leave none."""
    whole = blocks_of(built([(b"a", b"1", []), (b"b", b"2", []), (b"c", b"3", [])], base_offset=7))[0]
    framed = len(whole.body) // 3
    gap = Block(7, 12, 2, whole.body[:framed] + whole.body[2 * framed :], 0)
    assert records_from_blocks([gap, Block(12, 14, 0, b"", 0)], 0)[0].offsets.tolist() == [7, 9]


def test_the_header_says_who_wrote_it_and_whether_in_a_transaction():
    (body, count) = frame_few([(b"k", b"v", [])])[0]
    raw = batch_bytes(body, count, 123, base_offset=9, attributes=TRANSACTIONAL, producer=(4_711, 3, 17))
    (batch,) = read_batches(raw)
    assert (batch.transactional, batch.control) == (True, False)
    assert (batch.producer_id, batch.producer_epoch, batch.base_sequence) == (4_711, 3, 17)
    assert batch.block() == Block(9, 10, 1, body, 123)


def test_where_the_topic_stamps_at_the_append_the_time_is_the_batchs():
    raw = bytearray(built(SOME[:1]))
    struct.pack_into(">q", raw, 35, 5_555)
    assert blocks_of(resealed(bytes(raw), attributes=APPEND_TIME))[0].timestamp_ms == 5_555


@pytest.mark.parametrize(("kind", "marker"), [(0, Marker.ABORT), (1, Marker.COMMIT), (2, None)])
def test_a_control_batch_says_how_the_transaction_ended(kind: int, marker: Marker | None):
    (body, count) = frame_few([(struct.pack(">hh", 0, kind), struct.pack(">hi", 0, 5), [])])[0]
    (batch,) = read_batches(batch_bytes(body, count, 0, attributes=CONTROL | TRANSACTIONAL, producer=(1, 0, -1)))
    assert batch.control
    assert batch.marker() == marker


def test_a_control_batch_without_a_key_is_corrupt():
    (body, count) = frame_few([(None, b"", [])])[0]
    (batch,) = read_batches(batch_bytes(body, count, 0, attributes=CONTROL))
    with pytest.raises(CorruptBatch, match="expected a key of version and type"):
        batch.marker()


# ------------------------------------------------------------------------------------------------ damage


def resealed(raw: bytes, attributes: int | None = None) -> bytes:
    """The batch with its length and CRC made right again, as somebody with intent would."""
    data = bytearray(raw)
    if attributes is not None:
        struct.pack_into(">h", data, 21, attributes)
    struct.pack_into(">i", data, 8, len(data) - 12)
    struct.pack_into(">I", data, 17, calc_crc32c(bytes(data[21:])))
    return bytes(data)


@given(st.integers(0, 10_000))
def test_a_last_batch_that_is_cut_is_left_out(cut: int):
    first, second = built(SOME[:4]), built(SOME[:4], base_offset=4)
    raw = first + second[: cut % len(second)]
    assert [batch.base_offset for batch in read_batches(raw)] == [0]
    assert list(read_batches(memoryview(raw)[: cut % len(first)])) == []


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_flipped_byte_is_found_by_the_crc(place: int, mask: int):
    """All bytes but base offset, length and leader epoch, which the broker itself changes, are covered."""
    raw = bytearray(built(SOME[:4]))
    at = 16 + place % (len(raw) - 16)
    raw[at] ^= mask
    with pytest.raises(CorruptBatch, match=r"CRC|format"):
        list(read_batches(bytes(raw)))


@given(st.binary(max_size=60), st.binary(min_size=1, max_size=9), st.integers(0, 8_000))
def test_the_checksum_is_crc32c_with_and_without_the_instruction(head: bytes, pattern: bytes, times: int):
    body = pattern * times
    assert crc32c(head, body) == crc32c(head, memoryview(bytearray(body))) == calc_crc32c(head + body)


def test_the_old_format_is_named():
    raw = bytearray(built(SOME))
    raw[16] = 1
    with pytest.raises(CorruptBatch, match="found record format 1, expected 2"):
        list(read_batches(bytes(raw)))


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4), st.integers(0, 4))
def test_a_changed_body_is_read_or_refused_and_never_read_beyond(flips: list[tuple[int, int]], codec: int):
    raw = bytearray(built([*SOME[:4], (b"k", b"v" * 300, [("h", b"1")])], codec))
    for place, value in flips:
        raw[HEADER.size + place % (len(raw) - HEADER.size)] = value
    try:
        blocks = blocks_of(resealed(bytes(raw)))
        records, _ = records_from_blocks(blocks, 0)
    except CorruptBatch:
        return
    size = sum(len(block.body) for block in blocks)
    for starts, ends in ((records.starts, records.ends), (records.key_starts, records.key_ends)):
        there = starts >= 0
        assert np.all(starts[there] <= ends[there])
        assert np.all(ends[there] <= size)
    assert np.all(np.diff(records.offsets) > 0)


@given(st.binary(max_size=120), st.integers(0, 12))
def test_any_bytes_as_a_body_are_read_or_refused(body: bytes, count: int):
    try:
        records, _ = records_from_blocks([Block(0, 100, count, body, 0)], 0)
    except CorruptBatch:
        return
    assert records.count == count
    assert records.count == 0 or int(records.ends.max()) <= len(body)


def test_a_body_that_goes_wrong_is_named_by_batch_and_byte():
    good = blocks_of(built(SOME[:2]))[0]
    (body, _) = frame_few([(b"k", b"v", []), (b"k", b"v", [])])[0]
    bad = Block(30, 32, 2, body[: len(body) // 2] + b"\x01" + body[len(body) // 2 + 1 :], 0)
    with pytest.raises(CorruptBatch, match=r"batch at offset 30: byte 9 of its 18 decompressed bytes"):
        records_from_blocks([good, bad], 0)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda body: body + b"\0", "does not begin a record"),
        (lambda body: body[:-1], "does not begin a record"),
        (lambda body: b"\xff" * 11 + body, "does not begin a record"),
        (lambda _: b"", "found a count of 3 records in 0"),
    ],
)
def test_bytes_left_over_or_missing_are_refused(change: Any, told: str):
    (body, count) = frame_few([(b"k", b"value", [])] * 3)[0]
    with pytest.raises(CorruptBatch, match=told):
        records_from_blocks([Block(0, 3, count, change(body), 0)], 0)


@pytest.mark.parametrize("length", [5, 1 << 31, (1 << 62) - 1, (1 << 63) - 1, -(1 << 62)])
@pytest.mark.parametrize("where", ["record", "key", "value", "headers"])
def test_a_length_beyond_the_record_is_refused_however_large(length: int, where: str):
    """The largest would, added to a place, come out negative."""
    bad = bytearray()
    encode_varint(length, bad.append)
    parts = {"key": b"\x02k", "value": b"\x02v", "headers": b"\0"} | {where: bytes(bad)}
    inside = b"\0\0\0" + parts["key"] + parts["value"] + parts["headers"]
    framed_length = bytes(bad) if where == "record" else bytes([2 * len(inside)])
    body = framed_length + inside
    if length < 0 and where in ("key", "value"):  # any negative length is null
        inside_read = records_from_blocks([Block(0, 1, 1, body, 0)], 0)[0]
        assert inside_read.count == 1
        return
    with pytest.raises(CorruptBatch):
        records_from_blocks([Block(0, 1, 1, body, 0)], 0)


def test_offsets_beyond_the_batch_or_not_rising_are_refused():
    (body, count) = frame_few([(b"k", b"value", [])] * 3)[0]
    one = len(body) // 3
    for wrong in (Block(0, 2, count, body, 0), Block(0, 3, count, body[one:] + body[:one], 0)):
        with pytest.raises(CorruptBatch, match="does not begin a record"):
            records_from_blocks([wrong], 0)


@pytest.mark.parametrize("count", [-1, 1 << 30])
def test_a_count_that_cannot_be_is_refused_before_room_is_made_for_it(count: int):
    with pytest.raises(CorruptBatch):
        records_from_blocks([Block(0, 1 << 40, count, b"\0" * 70, 0)], 0)


def test_times_near_the_end_of_time_do_no_harm():
    (body, count) = frame_few([(b"k", b"value", [])])[0]
    for time_ms in (-(1 << 63), (1 << 63) - 1):
        assert records_from_blocks([Block(0, 1, count, body, time_ms)], 0)[0].count == 1


def test_a_length_below_a_headers_is_refused():
    raw = bytearray(built(SOME))
    for length in (-1, 0, 48):
        struct.pack_into(">i", raw, 8, length)
        with pytest.raises(CorruptBatch, match="expected at least a header's"):
            list(read_batches(bytes(raw)))


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_a_few_bytes_that_inflate_beyond_the_limit_are_refused(codec: str):
    raw = built([(b"k", b"\0" * 3_000_000, [])], CODECS[codec])
    assert len(raw) < 400_000
    (batch,) = read_batches(raw)
    for bytes_max in (1_000, 1_500_000, 2_999_999):
        with pytest.raises(CorruptBatch, match=f"bytes of {codec} data are more than {bytes_max} bytes decompressed"):
            batch.body(bytes_max)
    assert len(batch.body(3_000_100)) > 3_000_000


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_compressed_data_that_end_too_early_are_refused(codec: str):
    raw = built(SOME, CODECS[codec])
    for cut in (10, len(raw) - HEADER.size - 1):
        (batch,) = read_batches(resealed(raw[:-cut]))
        with pytest.raises(CorruptBatch, match=r"batch at offset 0: its \w+ data cannot be decompressed"):
            batch.body()


def test_gzip_in_several_members_is_one_body():
    plain = built(SOME)
    (batch,) = read_batches(plain)
    body = batch.body()
    raw = resealed(plain[: HEADER.size] + gzip.compress(body[:100]) + gzip.compress(body[100:]), attributes=1)
    assert read_back(raw) == read_back(plain)


def test_an_unknown_codec_is_named():
    (batch,) = read_batches(resealed(built(SOME), attributes=5))
    with pytest.raises(CorruptBatch, match="compression codec 5, expected one of none gzip snappy lz4 zstd"):
        batch.body()


# ------------------------------------------------------------------------------------------------ writing


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_what_we_frame_aiokafka_reads(codec: int):
    pairs = [(key, value) for key, value, _ in SOME]
    ((body, count),) = bodies_of(pairs, 900_000)
    assert theirs(body, count, codec) == [(k, key, value, []) for k, (key, value) in enumerate(pairs)]


@pytest.mark.parametrize("name", [name for name in CODECS if name != "none"])
def test_lines_that_look_alike_are_packed_small_and_read_by_aiokafka_and_by_us(name: str):
    lines = [b'{"record_id":"sw1:%08d","tenant":"contoso","outcome":"pooled"}' % k for k in range(2_000)]
    ((body, count),) = frame_few([(b"contoso", line, ()) for line in lines])
    stored, codec = packed(CODECS[name], body)
    assert codec == CODECS[name]
    assert len(stored) < len(body) / 3
    assert [value for _, _, value, _ in theirs(body, count, codec)] == lines
    assert [value for _, _, value in read_back(batch_bytes(stored, count, 0, attributes=codec))] == lines


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("body", [b"", b"short " * 100, os.urandom(50_000)], ids=["empty", "short", "noise"])
def test_a_body_that_packing_makes_no_smaller_is_stored_as_it_is(codec: int, body: bytes):
    assert packed(codec, body) == (body, 0)


def test_few_records_with_headers_are_read_by_aiokafka_and_by_us():
    ((body, count),) = frame_few(SOME)
    assert theirs(body, count) == [(k, key, value, headers) for k, (key, value, headers) in enumerate(SOME)]
    assert read_back(batch_bytes(body, count, 0)) == [(k, key, value or b"") for k, (key, value, _) in enumerate(SOME)]


def test_our_batches_are_aiokafkas_byte_for_byte():
    records: list[Few] = [(b"k%d" % k, b"v" * k, []) for k in range(300)]
    ((body, count),) = bodies_of([(key, value) for key, value, _ in records], 900_000)
    assert frame_few(records) == [(body, count)]
    assert batch_bytes(body, count, 1_000) == built(records, step_ms=0)


maybe_bytes = st.none() | st.binary(max_size=200)


@given(st.lists(st.tuples(maybe_bytes, maybe_bytes), max_size=30), st.integers(1, 400))
def test_bodies_hold_all_records_in_order_and_keep_to_the_limit(pairs: list[Any], limit_bytes: int):
    bodies = bodies_of(pairs, limit_bytes)
    assert bodies == frame_few([(key, value, []) for key, value in pairs], limit_bytes)
    read = [record[1:3] for body, count in bodies for record in theirs(body, count)]
    assert read == pairs
    assert all(len(body) <= limit_bytes or count == 1 for body, count in bodies)
    # as full as they can be: what opens a body did not fit into the one before
    for (body, _), (following, count) in pairwise(bodies):
        opening = len(following) if count == 1 else None
        assert opening is None or len(body) + opening + 2 > limit_bytes


def test_a_record_bigger_than_the_limit_gets_a_body_of_its_own():
    pairs = [(b"a", b"1"), (b"b", b"2" * 5_000), (b"c", b"3"), (None, b"4" * 200)]
    bodies = bodies_of(pairs, 100)
    assert [count for _, count in bodies] == [1, 1, 1, 1]
    assert [theirs(*body)[0][2] for body in bodies] == [value for _, value in pairs]


def test_a_writer_goes_on_where_it_was_and_is_empty_after_finish():
    writer = BodyWriter(bytes)
    keys, values = spans([b"a", b"b", b"c"]), spans([b"1", b"2", b"3"])
    writer.add(*keys, *values, 0, 1)
    writer.add(*keys, *values, 2)
    ((body, count),) = writer.finish()
    assert theirs(body, count) == [(0, b"a", b"1", []), (1, b"c", b"3", [])]
    assert writer.finish() == []
    writer.add(*keys, *values, 1, 2)
    ((body, count),) = writer.finish()
    assert theirs(body, count) == [(0, b"b", b"2", [])]


def test_twenty_thousand_rated_lines_come_back():
    pairs = [(b"tenant-%d" % (k % 700), b"%06d" % k + b"x" * 864) for k in range(20_000)]
    bodies = bodies_of(pairs, 900_000)
    assert all(len(body) <= 900_000 for body, _ in bodies)
    offset, blocks = 0, []
    for body, count in bodies:
        blocks.append(Block(offset, offset + count, count, body, 0))
        offset += count
    records, _ = records_from_blocks(blocks, 0)
    assert [(records.key(k), records.raw(k)) for k in range(0, 20_000, 97)] == pairs[::97]
    assert records.offsets.tolist() == list(range(20_000))


# ------------------------------------------------------------------------------------------------ both faces

SCRIPT = """
import hashlib, json, random
from rater.core.compiled import COMPILES
from rater.doors.kafka.compression import CODECS
from rater.doors.kafka.log import Block
from rater.doors.kafka.record_batches import CorruptBatch, records_from_blocks
from tests.kafka.test_record_batches import bodies_of

draw, said = random.Random(7), hashlib.sha256()
for _ in range(60):
    pairs = [(draw.choice([None, draw.randbytes(draw.randrange(90))]), draw.randbytes(draw.randrange(300))) for _ in range(9)]
    for body, count in bodies_of(pairs, 700):
        said.update(body)
        for damage in range(6):
            changed = bytearray(body)
            if damage:
                changed[draw.randrange(len(changed))] = draw.randrange(256)
            try:
                records, times = records_from_blocks([Block(3, 3 + count, count, bytes(changed), 1 << 62)], 5)
                said.update(repr([column.tolist() for column in (records.starts, records.ends, records.offsets,
                    records.key_starts, records.key_ends, times)]).encode())
            except CorruptBatch as problem:
                said.update(str(problem).encode())
print(json.dumps({"compiled": COMPILES, "said": said.hexdigest()}))
"""


def answers(plain: bool) -> dict[str, Any]:
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_DISABLE_JIT"} | {"PYTHONPATH": str(ROOT)}
    if plain:
        environment |= {"NUMBA_DISABLE_JIT": "1", "PYTHONWARNINGS": "error::RuntimeWarning"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_compiled_and_plain_python_say_the_same():
    compiled, plain = answers(plain=False), answers(plain=True)
    assert (compiled["compiled"], plain["compiled"]) == (True, False)
    assert compiled["said"] == plain["said"]


def test_the_machine_code_cache_knows_these_files():
    assert {Path(record_batches.__file__), Path(checksum.__file__)} <= set(kernel_sources())
