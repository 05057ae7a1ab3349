"""Calls whose records come in parts: collected by key, in any order, over files and restarts, each call once.

A part says which call it belongs to (`key`), which part it is (`name`), when (`at_ms`) and what matters in it (`facts`).
The family decides when a call is complete and writes its record; this module keeps parts until then, and knows nothing
of switches. What ends a call:

    complete        the call record, or the family's rejection, with all parts as its bytes
    time-out        nothing came for `close_after_ms` of record time: a rejection with all parts
    too many open   more than `calls_max` calls or `bytes_max` bytes wait: the oldest is rejected and says so
    too large       more than `call_bytes_max` bytes of parts in one call: rejected
    the end         `close()` without an instant: what the next run will not be given

Afterwards the call is remembered by digests. The same part again is a `repeat`; another part of it is a `correction`,
a rejection that names the published call record. It never becomes a second call. Only a call that ended as a rejection
opens again, when one of its own parts is sent again: nothing of it was billed, and a rejected record may be sent again.
The last `remembered_max` calls are remembered; a whole call delivered again after that is assembled to the same bytes,
which the engine knows by their record id.

Record time is taken from the parts alone, never from the machine: the instant that `WITNESSES` different stamps have
reached, so that single wild stamps close nothing. A call waits from the record time at which its last part came, so a
late file closes nothing of its own; but parts of one call that come further apart than the time-out, with newer records
between them, do miss each other. Everything here is decided by the parts and their order.
"""

import json
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from rater.sources.parts import (
    WITNESSES,
    ClosedCall,
    OpenCall,
    Part,
    RecordTime,
    bytes_of,
    digest_of,
    exported,
    holds,
    imported,
    memory_key,
    overdue,
)
from rater.sources.profile import Table
from rater.sources.record import NotBilled, SourceRecord, Unusable

STATE_VERSION = 1
CLOSE_AFTER_S = 90_000  # 25 h: a call may last 24 h
CALLS_MAX = 100_000
BYTES_MAX = 268_435_456
CALL_BYTES_MAX = 524_288
REMEMBERED_MAX = 100_000
REMEMBERED_BYTES_MAX = 67_108_864
KEY_DIGESTS_BYTES_MAX = 65_536


class StateRefused(Exception):
    """Bytes that are no exported state of this source; nothing was restored."""


class Family(Protocol):
    """What only the family knows. Parts come sorted by time and name, each name once."""

    def is_complete(self, parts: Sequence[Part]) -> bool: ...

    def lacks(self, parts: Sequence[Part]) -> str:
        """What an incomplete call waits for, in words without a number that somebody dialled: `no BYE`."""

    def call(self, parts: Sequence[Part]) -> tuple[str, bytes]:
        """Record id and call record; raises Unusable or NotBilled."""


@dataclass(frozen=True, slots=True)
class Limits:
    close_after_ms: int = CLOSE_AFTER_S * 1000
    settle_ms: int = 0
    calls_max: int = CALLS_MAX
    bytes_max: int = BYTES_MAX
    call_bytes_max: int = CALL_BYTES_MAX
    remembered_max: int = REMEMBERED_MAX


def read_limits(table: Table) -> Limits:
    """The keys that every assembling family has in its own table of the profile."""
    return Limits(
        close_after_ms=table.count("close_after_s", 60, 2_678_400, CLOSE_AFTER_S) * 1000,
        settle_ms=table.count("settle_s", 0, 86_400, 0) * 1000,
        calls_max=table.count("open_calls_max", 1, 10_000_000, CALLS_MAX),
    )


class Assembly:
    """Open calls of one source. `add` and `close` hand out what is decided; `export` and `restore` carry the rest over.

    Every part is answered for exactly once: the `parts` of all records handed out, and the parts still open, sum up to
    the parts added.
    """

    def __init__(self, family: Family, limits: Limits, name: str = "") -> None:
        self.family = family
        self.limits = limits
        self.name = name
        self.time = RecordTime()
        self.waiting: OrderedDict[str, OpenCall] = OrderedDict()
        self.settling: OrderedDict[str, OpenCall] = OrderedDict()
        self.closed: OrderedDict[bytes, ClosedCall] = OrderedDict()
        self.open_bytes = 0
        self.closed_bytes = 0

    @property
    def open_count(self) -> int:
        return len(self.waiting) + len(self.settling)

    @property
    def open_parts(self) -> int:
        queues = (self.waiting, self.settling)
        return sum(len(call.parts) + len(call.contested) for queue in queues for call in queue.values())

    # In.

    def add(self, part: Part, memory: bytes | None = None) -> list[SourceRecord]:
        """What this part decides: usually nothing, or a call, or that it is a repeat; and what its instant closes.

        `memory` is `memory_key(part.key)` where the family knows it already.
        """
        self.see(part.at_ms)
        found = self.place(part, memory or memory_key(part.key))
        if self.waiting or self.settling:
            found += self.due(self.time.now_ms)
        while self.open_count > self.limits.calls_max or self.open_bytes > self.limits.bytes_max:
            found.append(self.evicted())
        return found

    def see(self, at_ms: int) -> None:
        """Let record time pass; also for records that are no parts."""
        before_ms = self.time.now_ms
        now_ms = self.time.see(at_ms)
        if now_ms < before_ms:  # among the first stamps only: a wild one came first
            for queue in (self.waiting, self.settling):
                for call in queue.values():
                    call.since_ms = min(call.since_ms, now_ms)

    def place(self, part: Part, memory: bytes) -> list[SourceRecord]:
        digest = digest_of(part)
        done = self.closed.get(memory)
        if done is None:
            if self.is_alone(part):
                return [self.alone(part, digest, memory)]
            return self.joined(part, digest)
        if holds(done.written, digest):
            return [repeat(part)]
        if part.key in self.waiting or part.key in self.settling or (part.opens and part.at_ms > done.end_ms):
            return self.joined(part, digest)
        if holds(done.rejected, digest):
            self.remember(memory, done._replace(rejected=b""))
            return self.joined(part, digest)
        if not done.written:
            self.remember(memory, done._replace(rejected=done.rejected + digest))
        return [self.late(part, done)]

    def is_alone(self, part: Part) -> bool:
        """A whole call in one part, and nothing of it waits: most calls of most switches."""
        waits = part.key in self.waiting or part.key in self.settling
        return not waits and self.limits.settle_ms == 0 and self.family.is_complete((part,))

    def alone(self, part: Part, digest: bytes, memory: bytes) -> SourceRecord:
        """What `joined` and `ended` come to for such a part: nothing to queue, to sort, to count or to contest."""
        try:
            record_id, canonical = self.family.call((part,))
        except Unusable as fault:
            self.remember(memory, ClosedCall("", part.at_ms, b"", digest))
            return SourceRecord(part.raw, None, fault.reason, fault.detail)
        except NotBilled as why:
            self.remember(memory, ClosedCall("", part.at_ms, digest, b""))
            return SourceRecord(part.raw, None, "", why.detail, "leg")
        self.remember(memory, ClosedCall(record_id, part.at_ms, digest, b""))
        return SourceRecord(part.raw, canonical)

    def late(self, part: Part, done: ClosedCall) -> SourceRecord:
        if done.written:
            why = "a part that came after its call record was written; a candidate for a correction"
        else:
            why = "a part that came after its call was closed and rejected; all of its parts may be sent again"
        return SourceRecord(part.raw, None, "conflict", why, "correction", corrects=done.record_id)

    def joined(self, part: Part, digest: bytes) -> list[SourceRecord]:
        call = self.waiting.pop(part.key, None) or self.settling.pop(part.key, None) or OpenCall(0)
        call.since_ms = self.time.now_ms
        twin = call.parts.get(part.name)
        if twin is not None and digest_of(twin) == digest:
            self.queue(part.key, call)
            return [repeat(part)]
        if twin is None:
            call.parts[part.name] = part
            call.digests[part.name] = digest
        elif any(digest_of(other) == digest for other in call.contested if other.name == part.name):
            self.queue(part.key, call)
            return [repeat(part)]
        else:
            call.contested.append(part)
        size = bytes_of(part)
        call.size += size
        self.open_bytes += size
        if call.size > self.limits.call_bytes_max and len(call.parts) + len(call.contested) > 1:
            return [self.ended(part.key, call, "too_large", f"more than {self.limits.call_bytes_max} bytes of parts")]
        if self.limits.settle_ms == 0 and self.family.is_complete(call.sorted()):
            return [self.completed(part.key, call)]
        self.queue(part.key, call)
        return []

    def queue(self, key: str, call: OpenCall) -> None:
        if self.limits.settle_ms and self.family.is_complete(call.sorted()):
            self.settling[key] = call
        else:
            self.waiting[key] = call

    # Out.

    def due(self, now_ms: int) -> list[SourceRecord]:
        """Every call whose waiting is over when record time is `now_ms`."""
        found = []
        while (key := overdue(self.settling, now_ms, self.limits.settle_ms)) is not None:
            found.append(self.completed(key, self.settling.pop(key)))
        while (key := overdue(self.waiting, now_ms, self.limits.close_after_ms)) is not None:
            waited_s = self.limits.close_after_ms // 1000
            why = f"nothing more came for {waited_s} s of record time"
            found.append(self.incomplete(key, self.waiting.pop(key), why))
        return found

    def close(self, until_ms: int | None = None) -> list[SourceRecord]:
        """What ends when record time reaches `until_ms`; without it everything ends now."""
        if until_ms is not None:
            return self.due(until_ms)
        found = []
        for key in list(self.settling):
            found.append(self.completed(key, self.settling.pop(key)))
        for key in list(self.waiting):
            found.append(self.incomplete(key, self.waiting.pop(key), "still open when the input ended"))
        return found

    def evicted(self) -> SourceRecord:
        """The oldest call goes, so that memory stays bounded; a complete one that was only settling goes first."""
        if self.settling:
            key, call = self.settling.popitem(last=False)
            return self.completed(key, call)
        key, call = self.waiting.popitem(last=False)
        limits = self.limits
        return self.incomplete(
            key,
            call,
            f"closed as the oldest: more than {limits.calls_max} open calls or {limits.bytes_max} bytes of them",
        )

    def completed(self, key: str, call: OpenCall) -> SourceRecord:
        if call.contested:
            return self.ended(key, call, "conflict", "two parts of one name contradict each other; none is chosen")
        parts = call.sorted()
        try:
            record_id, canonical = self.family.call(parts)
        except Unusable as fault:
            return self.ended(key, call, fault.reason, fault.detail)
        except NotBilled as why:
            return self.ended(key, call, "", why.detail, "leg", published=True)
        return self.ended(key, call, "", "", record_id=record_id, canonical=canonical, published=True)

    def incomplete(self, key: str, call: OpenCall, why: str) -> SourceRecord:
        lacks = self.family.lacks(call.sorted())
        return self.ended(key, call, "missing_field", f"an incomplete call: {lacks}; {why}", "incomplete")

    def ended(
        self,
        key: str,
        call: OpenCall,
        reason: str,
        detail: str,
        kind: str = "call",
        *,
        record_id: str = "",
        canonical: bytes | None = None,
        published: bool = False,
    ) -> SourceRecord:
        parts = call.everything()
        self.open_bytes -= call.size
        memory = memory_key(key)
        before = self.closed.get(memory) or ClosedCall("", 0, b"", b"")
        digests = b"".join(map(call.digest, parts))
        done = ClosedCall(
            record_id or before.record_id,
            max(part.at_ms for part in parts),
            (before.written + digests * published)[-KEY_DIGESTS_BYTES_MAX:],
            (before.rejected + digests * (not published))[-KEY_DIGESTS_BYTES_MAX:],
        )
        self.remember(memory, done)
        raw = b"\n".join(part.raw for part in parts)
        return SourceRecord(raw, canonical, reason, detail, kind, parts=len(parts))

    # Memory of what is done.

    def remember(self, memory: bytes, done: ClosedCall) -> None:
        before = self.closed.pop(memory, None)
        if before is not None:
            self.closed_bytes -= before.size
        if done.written or done.rejected:
            self.closed[memory] = done
            self.closed_bytes += done.size
        while len(self.closed) > self.limits.remembered_max or self.closed_bytes > REMEMBERED_BYTES_MAX:
            _, oldest = self.closed.popitem(last=False)
            self.closed_bytes -= oldest.size

    # Over restarts.

    def export(self) -> bytes:
        """Open calls, remembered calls and record time; the same state gives the same bytes."""
        state = {
            "v": STATE_VERSION,
            "source": self.name,
            "time": self.time.greatest,
            "open": [[key, exported(call)] for queue in (self.settling, self.waiting) for key, call in queue.items()],
            "closed": [
                [memory.hex(), done.record_id, done.end_ms, done.written.hex(), done.rejected.hex()]
                for memory, done in self.closed.items()
            ],
        }
        return json.dumps(state, separators=(",", ":")).encode()

    def restore(self, state: bytes) -> None:
        """Go on where `export` stopped. What is here already is replaced."""
        try:
            read = json.loads(state)
            if read["v"] != STATE_VERSION:
                raise StateRefused(f"state of open calls: version {read['v']!r}; expected {STATE_VERSION}")
            if read["source"] != self.name:
                raise StateRefused(f"state of open calls: written by {read['source']!r}; expected {self.name!r}")
            time = [int(at_ms) for at_ms in read["time"]]
            calls = [(str(key), imported(str(key), item)) for key, item in read["open"]]
            closed = [
                (
                    bytes.fromhex(key),
                    ClosedCall(str(name), int(end_ms), bytes.fromhex(written), bytes.fromhex(rejected)),
                )
                for key, name, end_ms, written, rejected in read["closed"]
            ]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StateRefused(f"state of open calls: cannot be read ({type(error).__name__})") from None
        fresh = Assembly(self.family, self.limits, self.name)
        self.time, self.waiting, self.settling, self.closed = fresh.time, fresh.waiting, fresh.settling, fresh.closed
        self.time.greatest = sorted(time)[-WITNESSES:]
        self.open_bytes = self.closed_bytes = 0
        for key, call in calls:
            self.open_bytes += call.size
            self.queue(key, call)
        for memory, done in closed:
            self.remember(memory, done)


def repeat(part: Part) -> SourceRecord:
    return SourceRecord(part.raw, None, "", "a part that was delivered before", "repeat")


class AssembledSource:
    """The three methods that a source with open calls has beside `read`; see `record.Assembling`."""

    assembly: Assembly

    def open_calls(self) -> bytes:
        return self.assembly.export()

    def resume(self, state: bytes) -> None:
        self.assembly.restore(state)

    def close(self, until_ms: int | None = None) -> Iterator[SourceRecord]:
        yield from self.assembly.close(until_ms)


__all__ = ["AssembledSource", "Assembly", "Family", "Limits", "Part", "StateRefused", "memory_key", "read_limits"]
