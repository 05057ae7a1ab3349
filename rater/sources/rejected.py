"""One line of `rejected-raw`: a record that became no call record, why, where it stood, its bytes."""

import base64
from collections.abc import Sequence
from typing import Any

import orjson

from rater.sources.record import RECORD_BYTES_MAX, SourceRecord

LINE_BYTES_MAX = 1_000_000  # what a producer sends in one message, unless told otherwise, is 1 MiB


def encode_rejected(
    record: SourceRecord, source: str, file: str, number: int, place: tuple[str, int, Sequence[int]] | None = None
) -> bytes:
    """`place` is raw topic, partition and offsets of what came by Kafka. What no message can hold keeps its beginning."""
    raw, detail = record.raw, record.detail
    if place is not None and len(raw) * 4 // 3 > LINE_BYTES_MAX:
        detail += f"; {len(raw)} bytes, of which the first {RECORD_BYTES_MAX} are kept"
        raw = raw[:RECORD_BYTES_MAX]
    line: dict[str, Any] = {
        "v": 1,
        "reason": record.reason,
        "detail": detail,
        "kind": record.kind,
        "parts": record.parts,
        "corrects": record.corrects or None,
        "source": source,
        "file": file.rpartition("/")[2] or None,
        "record": number or None,
    }
    line["input"] = None if place is None else {"topic": place[0], "partition": place[1], "offsets": list(place[2])}
    line["raw_b64"] = base64.b64encode(raw).decode()
    return orjson.dumps(line)
