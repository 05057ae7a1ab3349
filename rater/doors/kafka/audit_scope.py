"""What an audit of topics is given, and what it finds out about each partition."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from rater.contract.counts import Counts
from rater.doors.kafka.log import Log
from rater.doors.kafka.names import Names
from rater.doors.kafka.snapshot import Snapshots
from rater.doors.kafka.surroundings import Rules

SETTLE_TRIES, SETTLE_S = 25, 0.2  # a live worker's markers reach the topics one after the other

Progress = Callable[[int, int, int], None]  # partition, batch, last batch


def nobody_watches(partition: int, batch: int, last: int) -> None:
    """Nobody watches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What an audit is given. Without a group the offsets are no witness; without snapshots, inputs must be whole."""

    log: Log
    names: Names
    partitions: int
    rules: Rules
    sleep: Callable[[float], Awaitable[None]]
    group: str | None = None
    snapshots: Snapshots | None = None
    progress: Progress = nobody_watches
    tries: int = SETTLE_TRIES


@dataclass(slots=True)
class PartitionAudited:
    """What an audit has proved of one partition, and what came in its way."""

    partition: int
    batches: int = 0
    first_batch: int = 1
    commands: int = 0
    calls: int = 0
    rated: int = 0
    rejected: int = 0
    duplicates: int = 0
    forwarded: int = 0
    events: int = 0
    tenants: int = 0
    gone: int = 0  # records of outputs that retention has taken
    charge_micros: dict[str, int] = field(default_factory=dict)
    balance_micros: dict[str, int] = field(default_factory=dict)
    group_checked: bool = False
    difference: str | None = None
    cannot: str | None = None

    @property
    def ok(self) -> bool:
        return self.difference is None and self.cannot is None

    def count(self, counts: Counts) -> None:
        self.batches += 1
        self.commands += counts.commands
        self.calls += counts.read
        self.rated += counts.rated
        self.rejected += counts.rejected
        self.duplicates += counts.duplicates
        self.forwarded += counts.misrouted + counts.commands_misrouted
        self.events += counts.events
        for currency, charge in counts.charge_micros.items():
            self.charge_micros[currency] = self.charge_micros.get(currency, 0) + charge
