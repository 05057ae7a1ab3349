"""Memory that the system has not given yet, asked for in steps, with rests: by a thread that nobody waits for."""

from collections.abc import Callable
from typing import Any

import numpy as np

from rater.doors.kafka.rests import STEP_BYTES, Rest

Array = np.ndarray[Any, Any]


def never() -> bool:
    """It goes on to the end."""
    return False


def ask_for(memory: Array, rest: Rest, ended: Callable[[], bool] = never) -> None:
    """Every page of these zeros, or bytes that mean nothing yet (uint8[n]), unless it ended before."""
    for at in range(0, memory.size, STEP_BYTES):
        if ended():
            return
        # Writing is what makes a page one's own. All of it and not a byte a page: numpy lets other threads run only while it writes
        # more than some hundred items, and a huge page may be 20 ms on its way.
        memory[at : at + STEP_BYTES] = 0
        rest()
