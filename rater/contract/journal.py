"""The journal: one line per committed batch (topic `rater-journal`, file `journal.jsonl`).

It says which inputs the batch read, what they came to, and digests of everything that was written, chained to the line
before it. With the outputs it is enough to derive every balance again: applied commands stand in it word for word.
"""

import base64
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from blake3 import blake3

from rater.contract.counts import Counts
from rater.core.state import State

DIGEST_BYTES = 16
NO_DIGEST = "00" * DIGEST_BYTES
DIGESTS_BY = "blake3"  # what the digests below are; part of what a state written by another version is told by
Ids = bytes


def digest_of(*parts: bytes | memoryview) -> str:
    """The first 128 bits, in hex, of the BLAKE3 of the parts end to end: `b3sum --length 16` of a file says the same."""
    digest = blake3()
    for part in parts:
        digest.update(part)
    return digest.hexdigest(length=DIGEST_BYTES)


def row_bytes(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Rows as a table of bytes: copying a record copies its fields and leaves the bytes between them to chance."""
    return rows.view(np.ndarray).view(np.uint8).reshape(rows.size, rows.dtype.itemsize)


def state_digest(previous: str, state: State) -> str:
    """The digest of every row this batch changed, chained to the previous one."""
    digest = blake3(previous.encode())
    for name, changed in state.changed().items():
        digest.update(name.encode() + changed.size.to_bytes(8, "little") + changed.tobytes())
        if changed.size:
            digest.update(row_bytes(state.shelves[name].rows)[changed].data.cast("B"))
    digest.update(state.fresh_ids().tobytes())
    return digest.hexdigest(length=DIGEST_BYTES)


@dataclass(slots=True)
class JournalLine:
    """One committed batch. `segments`: [command from, to, call from, to] in the order they were decided."""

    batch: int
    partition: int
    segments: list[list[int]] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    decks: list[str] = field(default_factory=list)
    plans: str = ""
    numbering: str = ""
    applied: list[tuple[int, bytes]] = field(default_factory=list)
    faults: list[int] = field(default_factory=list)  # offsets that a source refused: no replay can judge them
    bytes: dict[str, int] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    state_digest: str = NO_DIGEST
    previous: str = NO_DIGEST
    seen: Ids | None = None  # ids first seen in this batch, 16 bytes each, where the journal is what restores them


def encode_journal(line: JournalLine) -> bytes:
    """The line without its line feed."""
    counts = line.counts
    segments = line.segments or [[0, 0, 0, 0]]
    of_a_log: dict[str, Any] = {}
    if line.seen is not None:
        of_a_log = {
            "misrouted": counts.misrouted,
            "commands_misrouted": counts.commands_misrouted,
            "seen_b64": base64.b64encode(line.seen).decode(),
        }
    return orjson.dumps(
        {
            "v": 1,
            "batch": line.batch,
            "cdrs": [line.partition, segments[0][2], segments[-1][3]],
            "commands": [line.partition, segments[0][0], segments[-1][1]],
            "segments": segments,
            "counts": {
                name: getattr(counts, name)
                for name in ("read", "rated", "rejected", "duplicates", "commands", "commands_rejected",
                             "commands_duplicates", "unknown_fields", "events")
            },
            "by_outcome": counts.by_outcome,
            "totals": {
                "charge_micros": counts.charge_micros,
                "pool_minutes": counts.pool_minutes,
                "credit_minutes": counts.credit_minutes,
            },
            "decks": line.decks,
            "plans": line.plans,
            "numbering": line.numbering,
            "applied": [[offset, raw.decode()] for offset, raw in line.applied],
            "faults": line.faults,
            "bytes": line.bytes,
            "digests": line.digests,
            "state_digest": line.state_digest,
            "previous": line.previous,
            **of_a_log,
        }
    )  # fmt: skip
