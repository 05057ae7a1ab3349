"""What became of one attempt to hand a message over."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Delivered:
    """The server took it; what happens to it from here on is the server's."""


@dataclass(frozen=True, slots=True)
class Refused:
    """It can never be delivered. `reason` is one word for counting, `detail` a sentence without an address in it."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Later:
    """This message was not taken now; it is tried again by its own schedule, not before `wait_ms`."""

    detail: str
    wait_ms: int = 0


@dataclass(frozen=True, slots=True)
class Away:
    """The server itself cannot be used; says nothing about this message, and all others of the server wait with it."""

    detail: str


Outcome = Delivered | Refused | Later | Away
