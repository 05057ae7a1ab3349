"""Work in a forked process that a failpoint kills: SIGKILL, no handler, nothing flushed."""

import os
import signal
import sys
import traceback
from collections.abc import Callable

from rater.doors import failpoints


def killed_at(failpoint: str, times: int, work: Callable[[], None]) -> bool:
    """Do `work` in a process of its own; did it die at that place (true), or did it end its work before (false)?"""
    child = os.fork()
    if child == 0:
        try:
            failpoints._name, failpoints._left, failpoints._signal = failpoint, times, signal.SIGKILL
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc(file=sys.stderr)
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), f"the work ended with {status}"
    return status != 0
