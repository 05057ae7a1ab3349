"""The only place that asks the machine what time it is; money never does."""

import time
from collections.abc import Callable
from datetime import UTC, datetime


def stopwatch() -> Callable[[], float]:
    """Seconds since now, each time it is called."""
    start = time.perf_counter()
    return lambda: time.perf_counter() - start


def monotonic() -> float:
    """Seconds that only grow, for deadlines and intervals."""
    return time.monotonic()


def now_utc() -> str:
    """The instant at which a person gives a command."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
