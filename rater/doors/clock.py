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


def wall_ms() -> int:
    """Milliseconds since 1970 by this machine's clock, for the timestamps of records written."""
    return time.time_ns() // 1_000_000


def now_utc() -> str:
    """The instant at which a person gives a command."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
