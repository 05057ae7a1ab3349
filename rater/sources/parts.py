"""Parts of calls while they wait: what is kept of an open call and of a closed one, and what time the records say it is.

No rule about when a call ends stands here; see assembly.py.
"""

import base64
import hashlib
import json
from bisect import insort
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson

WITNESSES = 5
PART_OVERHEAD_BYTES = 512  # what a part costs in memory beside its own bytes, as a round figure
DIGEST_BYTES = 8
NOTHING: Mapping[str, Any] = MappingProxyType({})


class Part(NamedTuple):
    """One record of a call. `facts` are JSON values; two parts of one name, instant and facts are the same part.

    `more` is carried along and not compared. `opens` marks a part with which calls begin, in families whose key is not
    unique for ever: when it lies after the end of the closed call of its key, it begins the next one.
    """

    key: str
    name: str
    at_ms: int
    raw: bytes
    facts: Mapping[str, Any]
    more: Mapping[str, Any] = NOTHING
    opens: bool = False


BY_TIME = attrgetter("at_ms", "name")
BY_TIME_AND_BYTES = attrgetter("at_ms", "name", "raw")


@dataclass(slots=True)
class OpenCall:
    """Parts by name. `since_ms` is the record time at which the last one came."""

    since_ms: int
    parts: dict[str, Part] = field(default_factory=dict)
    contested: list[Part] = field(default_factory=list)
    size: int = 0
    digests: dict[str, bytes] = field(default_factory=dict)  # of `parts`, as far as they were asked for

    def sorted(self) -> list[Part]:
        parts = list(self.parts.values())
        if len(parts) > 1:
            parts.sort(key=BY_TIME)
        return parts

    def everything(self) -> list[Part]:
        return (
            sorted([*self.parts.values(), *self.contested], key=BY_TIME_AND_BYTES) if self.contested else self.sorted()
        )

    def digest(self, part: Part) -> bytes:
        """The digest of one of its parts, taken once where nothing is contested."""
        if self.contested:
            return digest_of(part)
        return self.digests.get(part.name) or self.digests.setdefault(part.name, digest_of(part))


class ClosedCall(NamedTuple):
    """What is remembered of a key: its last call record and its end, digests of parts by what became of them."""

    record_id: str
    end_ms: int
    written: bytes
    rejected: bytes

    @property
    def size(self) -> int:
        return 256 + len(self.record_id) + len(self.written) + len(self.rejected)


def holds(digests: bytes, digest: bytes) -> bool:
    return any(digests.startswith(digest, place) for place in range(0, len(digests), DIGEST_BYTES))


def digest_of(part: Part) -> bytes:
    try:
        facts = orjson.dumps([part.name, part.at_ms, part.facts], option=orjson.OPT_SORT_KEYS)
    except TypeError:  # text with surrogates, from bytes that are no UTF-8
        facts = json.dumps([part.name, part.at_ms, part.facts], sort_keys=True).encode()
    return hashlib.blake2b(facts, digest_size=DIGEST_BYTES).digest()


def memory_key(key: str) -> bytes:
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def bytes_of(part: Part) -> int:
    return len(part.raw) + PART_OVERHEAD_BYTES


class RecordTime:
    """The greatest instant that WITNESSES different stamps have reached; with fewer stamps, the smallest of them."""

    def __init__(self) -> None:
        self.greatest: list[int] = []

    def see(self, at_ms: int) -> int:
        """Take note of a stamp; what time it is now."""
        greatest = self.greatest
        if at_ms not in greatest and (len(greatest) < WITNESSES or at_ms > greatest[0]):
            insort(greatest, at_ms)
            del greatest[:-WITNESSES]
        return greatest[0]

    @property
    def now_ms(self) -> int:
        return self.greatest[0] if self.greatest else 0


def overdue(queue: OrderedDict[str, OpenCall], now_ms: int, wait_ms: int) -> str | None:
    """The first call that has waited too long, if any.

    Record time may leap (a quiet weekend, the first stamps of all), so a call whose own stamps lie within the wait of
    what the time is now goes on waiting, from its own time. One that lies further ahead has a wild stamp.
    """
    while queue:
        key, call = next(iter(queue.items()))
        if now_ms - call.since_ms <= wait_ms:
            return None
        own_ms = max(part.at_ms for part in (*call.parts.values(), *call.contested))
        if abs(now_ms - own_ms) > wait_ms:
            return key
        call.since_ms = own_ms
        queue.move_to_end(key)
    return None


def exported(call: OpenCall) -> list[Any]:
    parts = [
        [
            part.name,
            part.at_ms,
            base64.b64encode(part.raw).decode(),
            dict(part.facts),
            dict(part.more),
            part.opens,
            contested,
        ]
        for contested, some in ((0, call.parts.values()), (1, call.contested))
        for part in some
    ]
    return [call.since_ms, parts]


def imported(key: str, item: Any) -> OpenCall:
    since_ms, parts = item
    call = OpenCall(int(since_ms))
    for name, at_ms, raw, facts, more, opens, contested in parts:
        part = Part(key, str(name), int(at_ms), base64.b64decode(raw), dict(facts), dict(more), bool(opens))
        call.size += bytes_of(part)
        if contested:
            call.contested.append(part)
        else:
            call.parts[part.name] = part
    return call
