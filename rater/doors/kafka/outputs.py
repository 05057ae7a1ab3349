"""An outcome as what one transaction writes: bodies of records for every place, and the journal line that vouches for them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple

import numpy as np
import orjson

from rater.contract.journal import JournalLine, digest_of, encode_journal
from rater.doors.kafka.compression import packed
from rater.doors.kafka.log import Place, Stored
from rater.doors.kafka.names import (
    CDRS,
    COMMANDS,
    EVENTS,
    OUTPUTS,
    RATED,
    REJECTED_CDRS,
    REJECTED_COMMANDS,
    Names,
)
from rater.doors.kafka.record_batches import BodyWriter, Keep, Kept, frame_few
from rater.pipeline import Forward, Outcome

Array = np.ndarray[Any, Any]
Body = tuple[bytes, int]  # and the count of its records
FORWARDED_FROM = "rater-forwarded-from"  # header: "<partition>/<offset>", so that an auditor finds where it came from


class Packed(NamedTuple):
    """A body as it is stored, and its bytes before compression."""

    stored: bytes
    codec: int
    size: int


def packing(codec: int) -> Keep[Packed]:
    """What a `BodyWriter` of a worker keeps: compressed at once, a body is still in the processor's cache, and nothing is copied."""
    return lambda body: Packed(*packed(codec, body), len(body))


@dataclass(slots=True)
class Written(Generic[Kept]):
    """Bodies by place, in the order in which each place gets them."""

    bodies: dict[Place, list[tuple[Kept, int]]] = field(default_factory=dict)

    def add(self, place: Place, bodies: Iterable[tuple[Kept, int]]) -> None:
        bodies = list(bodies)
        if bodies:
            self.bodies.setdefault(place, []).extend(bodies)


def to_store(written: Written[Packed]) -> tuple[list[tuple[Place, Stored]], int]:
    """In the order in which it is to be written, and the bytes of all before compression."""
    bodies = [(place, body, count) for place, bodies in written.bodies.items() for body, count in bodies]
    stored = [(place, (body.stored, count, body.codec)) for place, body, count in bodies]
    return stored, sum(body.size for _, body, _ in bodies)


def rated_bodies(outcome: Outcome, writer: BodyWriter[Kept]) -> list[tuple[Kept, int]]:
    """One record a rated call: key the tenant, value the line without its line feed."""
    for block, (first, last) in zip(outcome.rated, outcome.rated_rows, strict=True):
        # Column by column: a row is wide, and picking whole rows would copy it.
        line_ends, key_starts, key_ends = (
            outcome.calls[name][first:last] for name in ("line_end", "tenant_at", "tenant_end")
        )
        rated = line_ends > 0
        ends, keys = line_ends[rated], (key_starts[rated], key_ends[rated])
        starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
        writer.add(outcome.buffer, *keys, np.frombuffer(block, np.uint8), starts, ends - 1)
    return writer.finish()


def _tenant_of(event: bytes) -> bytes:
    subject: str = orjson.loads(event)["subject"]
    return subject.encode()


def _keyed(keys: Sequence[bytes | None], values: Sequence[bytes]) -> list[tuple[bytes | None, bytes, tuple[()]]]:
    return [(key, value, ()) for key, value in zip(keys, values, strict=True)]


def _forward(
    written: Written[Kept], names: Names, topic: str, partition: int, forwards: Sequence[Forward], keep: Keep[Kept]
) -> None:
    for target in sorted({forward.partition for forward in forwards}):
        records = [
            (forward.key, forward.value, ((FORWARDED_FROM, f"{partition}/{forward.offset}".encode()),))
            for forward in forwards
            if forward.partition == target
        ]
        written.add(names.place(topic, target), kept(frame_few(records), keep))


def kept(bodies: Iterable[Body], keep: Keep[Kept]) -> list[tuple[Kept, int]]:
    return [(keep(body), count) for body, count in bodies]


def write_outcome(outcome: Outcome, partition: int, names: Names, writer: BodyWriter[Kept]) -> Written[Kept]:
    """Everything but journal and state: outputs of this partition, and what is forwarded to others."""
    written: Written[Kept] = Written()
    written.add(names.place(RATED, partition), rated_bodies(outcome, writer))
    few = (
        (EVENTS, [_tenant_of(event) for event in outcome.events], outcome.events),
        (REJECTED_CDRS, outcome.rejected_cdr_keys, outcome.rejected_cdrs),
        (REJECTED_COMMANDS, outcome.rejected_command_keys, outcome.rejected_commands),
    )
    for name, keys, values in few:
        written.add(names.place(name, partition), kept(frame_few(_keyed(keys, values)), writer.keep))
    _forward(written, names, CDRS, partition, outcome.forwarded_cdrs, writer.keep)
    _forward(written, names, COMMANDS, partition, outcome.forwarded_commands, writer.keep)
    return written


def vouch(line: JournalLine, outcome: Outcome) -> bytes:
    """The journal line with lengths and digests of the outputs: of each value and a line feed, as a file would hold them."""
    blocks: dict[str, Sequence[bytes | memoryview]] = {
        RATED: outcome.rated,
        EVENTS: _lines(outcome.events),
        REJECTED_CDRS: _lines(outcome.rejected_cdrs),
        REJECTED_COMMANDS: _lines(outcome.rejected_commands),
    }
    for name in OUTPUTS:
        line.bytes[name], line.digests[name] = sum(map(len, blocks[name])), digest_of(*blocks[name])
    return encode_journal(line)


def _lines(values: Sequence[bytes]) -> list[bytes]:
    return [value + b"\n" for value in values]


def journal_body(line: bytes, keep: Keep[Kept]) -> list[tuple[Kept, int]]:
    return kept(frame_few([(None, line, ())]), keep)
