"""Families that write a call as start, interims and stop, where the stop alone says everything.

The stop becomes the call record as soon as it is read. A start or an interim says that a stop must come: without one
the call ends as a rejection with its parts. One that comes after its stop was read is a leg and changes nothing.
"""

import hashlib
from collections.abc import Callable, Sequence

from rater.sources.assembly import AssembledSource, Assembly, Limits, Part, memory_key
from rater.sources.record import SourceRecord

STOP = "stop"
Writer = Callable[[bytes], tuple[str, bytes]]


class StopFamily:
    """Complete with its stop; `write` makes record id and call record of the stop's bytes."""

    def __init__(self, write: Writer) -> None:
        self.write = write

    def is_complete(self, parts: Sequence[Part]) -> bool:
        return STOP in [part.name for part in parts]

    def lacks(self, parts: Sequence[Part]) -> str:
        return f"{len(parts)} start or interim records and no stop"

    def call(self, parts: Sequence[Part]) -> tuple[str, bytes]:
        [stop] = [part for part in parts if part.name == STOP]
        return self.write(stop.raw)


class StopSource(AssembledSource):
    """What the sources of such families share. A kind is `stop`, `start` or `interim`."""

    def assemble_by(self, write: Writer, limits: Limits, name: str) -> None:
        self.assembly = Assembly(StopFamily(write), limits, name)

    def part(self, key: str, kind: str, at_ms: int, raw: bytes) -> list[SourceRecord]:
        digest = hashlib.blake2b(raw, digest_size=8).hexdigest()
        memory = memory_key(key)
        done = self.assembly.closed.get(memory)
        written = done is not None and bool(done.written)
        if kind == STOP:
            # A stop that comes after its start was given up says all by itself; a second one never bills again.
            return self.assembly.add(Part(key, STOP, at_ms, raw, {"raw": digest}, opens=not written), memory)
        if written:
            self.assembly.see(at_ms)
            return [SourceRecord(raw, None, "", f"{article(kind)} of a call whose stop was read", "leg")]
        return self.assembly.add(Part(key, f"{kind}:{digest}", at_ms, raw, {}), memory)


def article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
