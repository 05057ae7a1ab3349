"""What the HTTP door wants to hear of committed records, and who tells it: the front door introduces the two.

The listener says from when on and which bytes; whoever follows the log reads on from there, for ever, and says when it cannot.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

EVENTS, REJECTED_COMMANDS = "account-events", "rejected-commands"


class Heard(NamedTuple):
    """One committed record."""

    partition: int
    offset: int
    value: bytes


class Listener(Protocol):
    """Called in the event loop; nothing here waits."""

    def since_ms(self, topic: str) -> int:
        """From which instant on (UTC, by the brokers' clock) records are wanted; asked each time the following begins anew."""

    def mark(self, topic: str) -> bytes:
        """A record without these bytes in it is somebody else's and is not handed over; empty: all are wanted."""

    def hear(self, topic: str, heard: Sequence[Heard]) -> None:
        """In the order of each partition; after a connection was lost some are heard again. Raises nothing."""


class Follower(Protocol):
    """Whoever reads the log for a listener."""

    @property
    def trouble(self) -> str:
        """Why nothing is heard at the moment, in a few words without an address; empty while everything is."""

    async def run(self) -> None:
        """Until cancelled, whatever becomes of the brokers."""
