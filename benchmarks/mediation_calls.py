"""Invented calls, before any switch wrote them down: the same seed gives the same calls.

Numbers are of the ranges kept for fiction. One call in five is not answered; callers, callees, tenants and instants differ
from line to line, so that no cache sees the same text twice that would not see it in life.
"""

import random
from dataclasses import dataclass
from datetime import UTC, datetime

BEGIN_MS = 1_768_435_200_000  # 2026-01-15
EVERY_MS = 173


@dataclass(frozen=True, slots=True)
class Call:
    """What happened, before any switch wrote it down. Instants are UTC milliseconds."""

    place: int
    uuid: str
    caller: str
    callee: str
    start_ms: int
    answer_ms: int | None
    end_ms: int

    @property
    def talked_ms(self) -> int:
        return 0 if self.answer_ms is None else self.end_ms - self.answer_ms

    @property
    def user(self) -> str:
        return f"desk{int(self.caller[-3:]) % 200}"


def invented(count: int, seed: int = 1) -> list[Call]:
    """This many calls, one every 173 ms, in the order in which they began."""
    draw = random.Random(seed)
    found = []
    for place in range(count):
        start_ms = BEGIN_MS + place * EVERY_MS
        rings_ms = draw.randrange(1_000, 30_000)
        answered = draw.random() < 0.8
        talks_ms = draw.randrange(1_000, 600_000) if answered else 0
        found.append(
            Call(
                place=place,
                uuid=f"{draw.getrandbits(32):08x}-{draw.getrandbits(16):04x}-4a51-8f6e-{draw.getrandbits(48):012x}",
                caller=f"+4420794600{draw.randrange(100):02d}",
                callee=f"+1212555{draw.randrange(100, 200):04d}",
                start_ms=start_ms,
                answer_ms=start_ms + rings_ms if answered else None,
                end_ms=start_ms + rings_ms + talks_ms,
            )
        )
    return found


def shown(at_ms: int | None, pattern: str) -> str:
    """An instant as a UTC clock shows it, to the second; empty for never."""
    return "" if at_ms is None else datetime.fromtimestamp(at_ms // 1000, UTC).strftime(pattern)


def iso(at_ms: int | None) -> str:
    return shown(at_ms, "%Y-%m-%d %H:%M:%S")


def seconds(at_ms: int | None) -> int:
    return (at_ms or 0) // 1000


def talked_s(call: Call) -> int:
    """As a switch has it that counts between two whole seconds."""
    return 0 if call.answer_ms is None else seconds(call.end_ms) - seconds(call.answer_ms)
