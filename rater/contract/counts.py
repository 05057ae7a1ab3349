"""What batches came to, in numbers: for the journal, the summary and the metrics."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Counts:
    """What a batch came to; sums of batches are sums of these."""

    read: int = 0
    rated: int = 0
    rejected: int = 0
    duplicates: int = 0
    commands: int = 0
    commands_rejected: int = 0
    commands_duplicates: int = 0
    misrouted: int = 0  # call records forwarded to the partition of their tenant
    commands_misrouted: int = 0
    unknown_fields: int = 0
    events: int = 0
    pool_minutes: int = 0
    credit_minutes: int = 0
    by_outcome: dict[str, int] = field(default_factory=dict)
    charge_micros: dict[str, int] = field(default_factory=dict)
    rejected_by_reason: dict[str, int] = field(default_factory=dict)
    events_by_type: dict[str, int] = field(default_factory=dict)

    def add(self, other: "Counts") -> None:
        for name in self.__dataclass_fields__:
            mine, theirs = getattr(self, name), getattr(other, name)
            if isinstance(mine, dict):
                for key, value in theirs.items():
                    mine[key] = mine.get(key, 0) + value
            else:
                setattr(self, name, mine + theirs)
