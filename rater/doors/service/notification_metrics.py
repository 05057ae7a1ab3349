"""What the notification agent counts, in a registry of its own; `/metrics` of its web page shows it."""

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest


class NotificationMetrics:
    """One process's counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.events = Counter(
            "rater_notification_events", "Account events read, repeats included.", ["type"], registry=self.registry
        )
        self.unreadable = Counter(
            "rater_notification_events_unreadable",
            "Records of account-events that are no event: find out who writes there.",
            registry=self.registry,
        )
        self.sent = Counter(
            "rater_notification_sent",
            "Messages a mail server or a receiver took; a digest counts once.",
            ["channel", "kind"],
            registry=self.registry,
        )
        self.failed = Counter(
            "rater_notification_attempts_failed",
            "Attempts that did not succeed and are repeated. `away`: the server as a whole.",
            ["channel", "why"],
            registry=self.registry,
        )
        self.undelivered = Counter(
            "rater_notification_undelivered",
            "Messages given up; each is in the topic undelivered-notifications. Growth: look there for whom to call.",
            ["channel", "reason"],
            registry=self.registry,
        )
        self.digested = Counter(
            "rater_notification_digested", "Messages told together with others in a digest.", registry=self.registry
        )
        self.pending = Gauge("rater_notification_pending", "Messages waiting to be sent.", registry=self.registry)
        self.oldest_s = Gauge(
            "rater_notification_oldest_pending_seconds",
            "Age of the oldest message that waits. Minutes: the mail server is away or refuses us.",
            registry=self.registry,
        )

    def page(self) -> bytes:
        return generate_latest(self.registry)
