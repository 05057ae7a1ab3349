"""Named places between two steps where a test may kill the process.

`RATER_FAILPOINT=after-write:3` ends the process with SIGKILL when it comes to `after-write` for the third time: no handler
runs and nothing is flushed, as when the machine's owner pulls it. Unset, a place costs one comparison.
"""

import os
import signal

FAILPOINTS = (
    "before-write",
    "mid-write",
    "after-write",
    "after-sync",
    "in-transaction",
    "after-commit",
    "before-finish",
    # the Kafka door
    "opening-writer",
    "mid-restore",
    "after-poll",
    "after-begin",
    "mid-produce",
    "before-offsets",
    "after-offsets",
    "during-commit",
    "after-log-commit",
    "mid-snapshot",
    "in-revoke",
)

_name, _, _count = os.environ.get("RATER_FAILPOINT", "").partition(":")
_left = int(_count or "1")


def reached(name: str) -> None:
    """Die here if the environment says so."""
    global _left
    if name == _name:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
