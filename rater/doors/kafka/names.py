"""The topics by name, after an optional prefix, and the places of one partition."""

from dataclasses import dataclass

from rater.doors.kafka.log import Place

CDRS, COMMANDS = "cdrs", "account-commands"
RATED, EVENTS = "rated-cdrs", "account-events"
REJECTED_CDRS, REJECTED_COMMANDS = "rejected-cdrs", "rejected-commands"
STATE, JOURNAL = "rater-state", "rater-journal"
INPUTS = (CDRS, COMMANDS)
OUTPUTS = (RATED, EVENTS, REJECTED_CDRS, REJECTED_COMMANDS)
TOPICS = (*INPUTS, *OUTPUTS, STATE, JOURNAL)


@dataclass(frozen=True, slots=True)
class Names:
    """What a deployment calls things. The group and the transactional ids begin with `app_id`."""

    app_id: str
    prefix: str = ""

    def topic(self, name: str) -> str:
        return self.prefix + name

    def topics(self) -> tuple[str, ...]:
        return tuple(self.prefix + name for name in TOPICS)

    def place(self, name: str, partition: int) -> Place:
        return Place(self.prefix + name, partition)

    def own_places(self, partition: int) -> list[Place]:
        """Where only the writer of this partition writes."""
        return [self.place(name, partition) for name in (*OUTPUTS, STATE, JOURNAL)]

    def transactional_id(self, partition: int) -> str:
        return f"{self.app_id}-{partition}"
