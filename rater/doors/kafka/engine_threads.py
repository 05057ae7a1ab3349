"""The threads that rate, and how the system's scheduler is told to treat them."""

import logging
import os
from concurrent.futures import ThreadPoolExecutor

NORMAL, IDLE = SCHEDULING = ("normal", "idle")
CAN_BE_IDLE = hasattr(os, "SCHED_IDLE")  # Linux

log = logging.getLogger(__name__)


def engine_threads(count: int, scheduling: str) -> ThreadPoolExecutor:
    """Threads that rate, each a partition at a time.

    `idle` is Linux's SCHED_IDLE: whoever else wakes up gets the core at once. A batch is milliseconds of rating, and then ten
    messages one after the other between this process and a broker; where both share the cores, each message would wait for the
    slice of whoever rates the other partition to end.
    """
    return ThreadPoolExecutor(count, "rater-engine", initializer=_give_way if scheduling == IDLE else None)


def _give_way() -> None:
    """For the thread that calls it. Where it may not, it rates as it is."""
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except OSError as problem:
        log.warning(
            "RATER_ENGINE_SCHEDULING is idle, and the system does not allow it (%s): threads that rate do not give way",
            problem,
            extra={"event": "scheduling"},
        )
