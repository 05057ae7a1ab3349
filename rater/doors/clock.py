"""The only place that asks the machine what time it is; money never does."""

import time
from collections.abc import Callable


def stopwatch() -> Callable[[], float]:
    """Seconds since now, each time it is called."""
    start = time.perf_counter()
    return lambda: time.perf_counter() - start
