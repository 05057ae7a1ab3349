"""The topics of `rater notification-agent`, made on demand: no worker reads or writes them.

Both have as many partitions as the others: the agent reads a tenant's contacts from the partition its events are in.
"""

from rater.doors.kafka.topics import COMMON, INPUT_BYTES, Topic, exactly, output_topic

CONTACTS, UNDELIVERED = "notification-contacts", "undelivered-notifications"

NOTIFICATION_TOPICS = (
    Topic(
        CONTACTS,
        (
            exactly(
                "cleanup.policy",
                "compact",
                "the last list of a tenant's contacts is the list, and must never go by age",
            ),
            INPUT_BYTES,
            *COMMON,
        ),
    ),
    output_topic(UNDELIVERED),
)
