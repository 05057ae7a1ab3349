"""One lane for each server that messages go to: how many at once, and how long to leave it alone when it is away.

A dead server is asked with one message at a time until it answers; the others wait in their order and count no attempt.
"""

from collections import deque
from collections.abc import Callable

from rater.notify.retry import lane_delay_ms

AT_ONCE = 4


class Lane:
    """The messages ready for one server. Instants are milliseconds of the clock the courier is given."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ready: deque[str] = deque()
        self.busy = 0
        self.failures = 0
        self.until_ms = 0

    def next(self, now_ms: int) -> str | None:
        """A message that may go now; None while the server is left alone, is busy enough, or has nothing."""
        at_once = AT_ONCE if self.failures == 0 else 1
        if not self.ready or self.busy >= at_once or now_ms < self.until_ms:
            return None
        self.busy += 1
        return self.ready.popleft()

    def answered(self) -> None:
        self.busy -= 1
        self.failures, self.until_ms = 0, 0

    def away(self, now_ms: int) -> None:
        """Several that were under way when the server died are one failure, not several."""
        self.busy -= 1
        if now_ms >= self.until_ms:
            self.failures += 1
            self.until_ms = now_ms + lane_delay_ms(self.name, self.failures)

    def wakes_ms(self) -> int | None:
        """When there is something to do again; None when only an answer under way can bring it."""
        return self.until_ms if self.ready and self.busy < (AT_ONCE if self.failures == 0 else 1) else None

    def idle(self) -> bool:
        """Nothing to remember of it."""
        return not self.ready and self.busy == 0 and self.failures == 0

    def take_out(self, wanted: Callable[[str], bool]) -> list[str]:
        """Those of the waiting ones for which `wanted` holds; they are no longer here."""
        out = [key for key in self.ready if wanted(key)]
        if out:
            gone = set(out)
            self.ready = deque(key for key in self.ready if key not in gone)
        return out
