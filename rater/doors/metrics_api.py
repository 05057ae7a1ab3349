"""What `rater api` tells of its requests, and of the calls it was asked about. Routes are templates, so tenants make no series."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from rater.doors.metric_groups import Group, touch

ANSWERED = ("allowed", "refused", "rejected")
UNANSWERED = ("late", "not_published", "not_following", "busy", "gone")
OUTCOMES = ANSWERED + UNANSWERED
REQUEST_BUCKETS = (0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class ApiMetrics(Group):
    """What `rater api` tells."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        add = self.add
        self.requests = add(
            Counter, "rater_api_requests_total",
            "Answers by route and class of status. 5xx: workers, history or brokers are away, or a fault of ours; the log has "
            "which. 4xx of one route in plenty: a client is out of step or guesses tokens.", ["route", "status"],
        )  # fmt: skip
        self.seconds = add(
            Histogram, "rater_api_request_seconds",
            "From a request's headers to the end of its answer. /v1/authorize above 20 ms: the commits of the workers, see "
            "rater_batch_stage_seconds.", ["route"], buckets=REQUEST_BUCKETS,
        )  # fmt: skip
        self.authorizations = add(
            Counter, "rater_api_authorizations_total",
            "Questions whether a call may start, by outcome: allowed, refused, rejected (the question is wrong), and without an "
            "answer: late, not_published, not_following, busy, gone (the switch hung up). Without one a switch goes by its own rule.",
            ["outcome"],
        )  # fmt: skip
        touch(self.authorizations, OUTCOMES)
        self.waiting = add(
            Gauge, "rater_api_authorizations_waiting",
            "Questions that wait for the engine now. Near 192, where busy begins: the workers do not keep up.",
        )  # fmt: skip
        self.following = add(
            Gauge, "rater_api_following",
            "1 while the API hears what the workers commit, 0 while it does not: then no call is authorized, and why commands were "
            "rejected is found later. The log says why. NaN for an API without brokers.",
        )  # fmt: skip
