"""Named places between two steps where a test may kill the process.

`RATER_FAILPOINT=after-write:3` ends the process with SIGKILL when it comes to `after-write` for the third time: no handler
runs and nothing is flushed, as when the machine's owner pulls it. `after-write:3:stop` makes a zombie of it: SIGSTOP, until
somebody sends SIGCONT. Unset, a place costs one comparison.
"""

import os
import signal

# Of the file door, in the order in which a batch comes to them; and of the Kafka door.
FAILPOINTS = (
    "before-write",
    "mid-write",
    "after-write",
    "after-sync",
    "in-transaction",
    "after-commit",
    "before-finish",
)
KAFKA_FAILPOINTS = (
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

_name, _count, _how = (os.environ.get("RATER_FAILPOINT", "") + "::").split(":")[:3]
_left = int(_count or "1")
_signal = signal.SIGSTOP if _how == "stop" else signal.SIGKILL


def reached(name: str) -> None:
    """Die, or stand still, here if the environment says so."""
    global _left
    if name == _name:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), _signal)
