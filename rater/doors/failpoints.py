"""Named places between two steps where a test may kill the process.

`RATER_FAILPOINT=after-write:3` ends the process with SIGKILL when it comes to `after-write` for the third time: no handler
runs and nothing is flushed, as when the machine's owner pulls it. `after-write:3:stop` makes a zombie of it: SIGSTOP, until
somebody sends SIGCONT. Unset, a place costs one comparison.
"""

import os
import signal
import threading

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
# Of the file door's mails, behind its batches and before "before-finish": once a mail, and once.
OUTBOX_FAILPOINTS = ("mid-outbox", "before-outbox-mark")
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
# Of a history's transaction, in its order.
HISTORY_FAILPOINTS = (
    "after-history-read",
    "after-history-places",
    "mid-history-rows",
    "before-history-commit",
    "after-history-commit",
)
# Of the notification agent, in the order in which one message comes to them.
NOTIFICATION_FAILPOINTS = (
    "notify-after-read",
    "notify-after-recorded",
    "notify-before-send",
    "notify-after-send",
    "notify-after-record",
    "notify-after-acknowledge",
    "notify-digest-recorded",
    "notify-after-undelivered",
)
# Of the recharge agent, between every two of its steps, in their order.
RECHARGE_FAILPOINTS = (
    "recharge-taken",
    "recharge-heard",
    "recharge-intended",
    "recharge-answered",
    "recharge-settled",
    "recharge-published",
    "recharge-recorded",
    "recharge-acknowledged",
)
# Of the mediation agent, in the order in which one raw record comes to them.
MEDIATION_FAILPOINTS = (
    "mediate-taken",
    "mediate-read",
    "mediate-before-publish",
    "mediate-after-publish",
    "mediate-before-acknowledge",
    "mediate-after-acknowledge",
)

_name, _count, _how = (os.environ.get("RATER_FAILPOINT", "") + "::").split(":")[:3]
_left = int(_count or "1")
_counting = threading.Lock()  # several threads may come to the same place
_signal = signal.SIGSTOP if _how == "stop" else signal.SIGKILL


def reached(name: str) -> None:
    """Die, or stand still, here if the environment says so."""
    global _left
    if name == _name:
        with _counting:
            _left -= 1
            if _left == 0:
                os.kill(os.getpid(), _signal)
