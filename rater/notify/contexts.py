"""A message -> what its templates may use: `tenant`, `time`, `data` (the event's own), and for a digest what it sums up."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rater.notify.events import Event
from rater.notify.kinds import KIND_OF, OPERATOR

DIGEST_LINES = 40


def context_of(event: Event) -> dict[str, Any]:
    return {"tenant": event.tenant, "time": event.time, "data": event.data}


def digest_context(scope: str, events: Sequence[Event]) -> dict[str, Any]:
    """The counts by kind, and the newest of them, newest first; `left_out` counts the others.

    `balance_micros` and `currency` are the last ones that any event of the tenant tells; None where none does.
    """
    ordered = sorted(events, key=lambda event: (event.time, event.account_version))
    counts = Counter(KIND_OF[event.type] for event in ordered)
    newest = ordered[: -DIGEST_LINES - 1 : -1]
    told = next((e.data for e in reversed(ordered) if isinstance(e.data.get("balance_micros"), int)), {})
    alone = scope != OPERATOR
    return {
        "tenant": scope if alone else None,
        "count": len(ordered),
        "counts": counts.most_common(),
        "first": ordered[0].time,
        "last": ordered[-1].time,
        "lines": [
            {"kind": KIND_OF[event.type], "tenant": event.tenant, "time": event.time, "data": event.data}
            for event in newest
        ],
        "left_out": len(ordered) - len(newest),
        "balance_micros": told.get("balance_micros") if alone else None,
        "currency": told.get("currency") if alone else None,
    }
