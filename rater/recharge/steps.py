"""What to do next about a recharge, from what is known of it. The order is the safety: remembered before asked, settled before told."""

from enum import Enum


class State(Enum):
    """How far a recharge has come, as the agent's file keeps it."""

    HEARD = "heard"  # requested; nobody was asked
    ASKING = "asking"  # somebody was about to be asked: the provider may know of it
    PENDING = "pending"  # the provider has it and will say later
    SETTLED = "settled"  # the outcome stands, and the bytes of its command
    PUBLISHED = "published"  # the brokers have the command
    CLOSED = "closed"  # the engine says so


class Step(Enum):
    """What the agent does next."""

    ASK = "ask"
    INQUIRE = "inquire"  # ask about it; never again for it
    PUBLISH = "publish"
    ACKNOWLEDGE = "acknowledge"


def next_step(state: State, fresh: bool) -> Step:
    """`fresh`: heard from the end of the log, by a process that has not asked yet. What was read while catching up may have been
    asked for by a process whose disk is gone, so the provider is asked about it first."""
    match state:
        case State.HEARD:
            return Step.ASK if fresh else Step.INQUIRE
        case State.ASKING | State.PENDING:
            return Step.INQUIRE
        case State.SETTLED:
            return Step.PUBLISH
        case State.PUBLISHED | State.CLOSED:
            return Step.ACKNOWLEDGE
