"""How many threads rate at once, and how the system's scheduler is told to treat them meanwhile."""

import logging
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

NORMAL, IDLE = SCHEDULING = ("normal", "idle")
CAN_BE_IDLE = hasattr(os, "SCHED_IDLE")  # Linux

log = logging.getLogger(__name__)


class EngineThreads:
    """So many threads rate at once, each a partition, whichever threads they are.

    `idle` is Linux's SCHED_IDLE for as long as a thread rates: whoever else wakes up gets the core at once. A batch is milliseconds of
    rating, and then ten messages one after the other between this process and a broker; where both share the cores, each message
    would wait for the slice of whoever rates the other partition to end.
    """

    def __init__(self, count: int, scheduling: str) -> None:
        self._turns = threading.Semaphore(count)
        self._gives_way = scheduling == IDLE and _may_come_back()
        self.pool = ThreadPoolExecutor(count, "rater-engine")  # for partitions that have no thread of their own

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Around what rates, in the thread that does."""
        with self._turns:
            if not self._gives_way:
                yield
                return
            _schedule(os.SCHED_IDLE)
            try:
                yield
            finally:
                _schedule(os.SCHED_OTHER)


def _schedule(policy: int) -> None:
    os.sched_setscheduler(0, policy, os.sched_param(0))


def _may_come_back() -> bool:
    """Whether a thread that gave way may stop doing so: its next questions to the broker would wait for whoever computes."""
    refused: list[OSError] = []

    def give_way_and_come_back() -> None:
        try:
            _schedule(os.SCHED_IDLE)
            _schedule(os.SCHED_OTHER)
        except OSError as problem:
            refused.append(problem)

    trial = threading.Thread(target=give_way_and_come_back, name="rater-engine-trial")  # it may have to stay idle
    trial.start()
    trial.join()
    if refused:
        log.warning(
            "RATER_ENGINE_SCHEDULING is idle, and the system does not allow a thread to come back from it (%s): threads that rate "
            "do not give way. Allow it with LimitNICE=0 in a systemd unit, --ulimit nice=20 for a container, or CAP_SYS_NICE",
            refused[0],
            extra={"event": "scheduling"},
        )
    return not refused
