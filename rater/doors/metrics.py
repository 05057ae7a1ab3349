"""Every metric of rater, declared once: name, labels, and a line that tells an operator what to do with it.

A process makes the groups it needs on a registry of its own. Doors record once a batch, or when something happens, never
once a record. Labels are bounded: partition, input, outcome, reason, stage, channel, deck; never a tenant, a user or a
number, so 100,000 tenants cost as many series as one. What carries `partition` goes away when the partition does.

Prometheus keeps numbers as floats: sums of money here are for watching, exact up to 2^53 micro-units. The books are the log.
"""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from rater.core.reasons import Reason
from rater.doors.metric_groups import CONTENT_TYPE, Group, Words, exposition, new_registry, touch

__all__ = [
    "CONTENT_TYPE", "FAILURES", "INPUTS", "OUTCOMES", "PHASES", "NotificationMetrics", "PartitionSeries", "RechargeMetrics",
    "WorkerMetrics", "exposition", "new_registry",
]  # fmt: skip

INPUTS = ("cdrs", "account-commands")
STAGES = ("fetch", "decide", "encode", "commit")
# Of `core.charging`, which would bring the compiler into every process that only counts; a test holds them together.
OUTCOMES = ("pooled", "charged", "invoiced", "free", "not_connected", "freecall")
PHASES = ("restoring", "running", "stopped")
REASONS = tuple(reason.text for reason in Reason if reason is not Reason.NONE)
# Why a partition had to be taken over anew. `failure_reason` of the Kafka door finds the word.
FAILURES = ("disagreement", "deck_missing", "offset_gone", "refused", "timeout", "log", "other")
WRITER_CAUSES = ("tainted", "failure")
RECHARGE_OUTCOMES = ("approved", "declined")

STAGE_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0)
LATENCY_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
BATCH_BUCKETS = (1, 10, 50, 100, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
RESTORE_BUCKETS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)


class WorkerMetrics(Group):
    """What `rater worker` tells of its partitions and batches."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self._declare_flow()
        self._declare_batches()
        self._declare_partitions()
        self._declare_faults()
        self._declare_state()
        self.currencies, self.event_types = Words(), Words()

    def _declare_flow(self) -> None:
        add = self.add
        self.read = add(
            Counter, "rater_records_read_total",
            "Records read, duplicates and rejected ones included. Flat while rater_lag_records grows: the partition is stuck, "
            "look at rater_partition_phase and /partitions.", ["partition", "input"],
        )  # fmt: skip
        self.rated = add(
            Counter, "rater_calls_rated_total",
            "Calls rated and committed. A growing outcome=\"freecall\" means calls given away: the deck lacks their prefix.",
            ["partition", "outcome"],
        )  # fmt: skip
        self.rejected = add(
            Counter, "rater_records_rejected_total",
            "Calls that were not rated, by the reason written to rejected-cdrs. Above 1 % of the calls read: a switch or a "
            "mediation profile has changed; read the topic's newest records.", ["reason"],
        )  # fmt: skip
        touch(self.rejected, REASONS)
        self.commands_rejected = add(
            Counter, "rater_commands_rejected_total",
            "Account commands that were not applied: somebody's money or licence is not what they think. Read "
            "rejected-commands.",
        )  # fmt: skip
        self.duplicates = add(
            Counter, "rater_duplicates_total",
            "Records delivered again and dropped: answered the first time. A burst after a producer's restart is normal.",
            ["input"],
        )  # fmt: skip
        self.misrouted = add(
            Counter, "rater_misrouted_total",
            "Records found in a partition that is not their tenant's and sent on. Steady growth: a producer does not use "
            "Kafka's default partitioner; it costs a second trip, nothing else.", ["input"],
        )  # fmt: skip
        for metric in (self.duplicates, self.misrouted):
            touch(metric, INPUTS)
        self.unknown_fields = add(
            Counter, "rater_unknown_fields_total",
            "Fields of call records that rater does not know; they travel along. A jump says that a switch has changed.",
        )  # fmt: skip
        self.charged = add(
            Counter, "rater_charge_micros_total",
            "Charged, in micro-units of the currency; for watching, the books are rated-cdrs. Flat while calls are rated: "
            "look at the outcomes.", ["currency"],
        )  # fmt: skip
        self.pool_minutes = add(Counter, "rater_pool_minutes_total", "Minutes that pools of calling plans paid.")
        self.credit_minutes = add(
            Counter, "rater_credit_minutes_total", "Minutes that no pool gave: credits or the invoice paid them."
        )
        self.events = add(
            Counter, "rater_events_total",
            "Account events written, by type: what the recharge and notification agents get to do.", ["type"],
        )  # fmt: skip

    def _declare_batches(self) -> None:
        add = self.add
        self.batches = add(
            Counter, "rater_batches_total",
            "Batches committed, one transaction each. Flat while there is lag: nothing gets through.", ["partition"],
        )  # fmt: skip
        self.batch_records = add(
            Histogram, "rater_batch_records",
            "Records in a batch. At RATER_BATCH_RECORDS_MAX all the time: the worker is catching up, or too small.",
            buckets=BATCH_BUCKETS,
        )  # fmt: skip
        self.bytes = add(
            Counter, "rater_batch_bytes_total",
            "Bytes of batches before compression, in from the inputs and out to outputs, state and journal.", ["direction"],
        )  # fmt: skip
        touch(self.bytes, ("in", "out"))
        self.stage = add(
            Histogram, "rater_batch_stage_seconds",
            "Where a batch's time goes. fetch: waiting for records, up to the commit interval; decide and encode: this "
            "machine; commit: the brokers. Whichever grew is where to look.", ["stage"], buckets=STAGE_BUCKETS,
        )  # fmt: skip
        touch(self.stage, STAGES)
        self.end_to_end = add(
            Histogram, "rater_end_to_end_seconds",
            "From the broker's timestamp of a batch's oldest call to its commit: what consumers of rated-cdrs wait at most. "
            "Broker and worker clocks are compared: keep both on NTP.", buckets=LATENCY_BUCKETS,
        )  # fmt: skip

    def _declare_partitions(self) -> None:
        add = self.add
        self.partitions = add(
            Gauge,
            "rater_partitions",
            "Partitions that the topics have. More than are running over all workers: the calls of some tenants wait.",
        )
        self.phase = add(
            Gauge, "rater_partition_phase",
            "1 for the phase a partition is in, 0 for the others. stopped: /partitions says why and what to do.",
            ["partition", "phase"],
        )  # fmt: skip
        self.stopped = add(
            Gauge,
            "rater_partition_stopped_info",
            "1 for the kind of thing a partition stands for; the sentence about it is in /partitions.",
            ["partition", "reason"],
        )
        self.lag_records = add(
            Gauge, "rater_lag_records",
            "Records behind the end of the input, as last heard. Growing for minutes: see the stage that grew, then add "
            "workers (up to one a partition).", ["partition", "input"],
        )  # fmt: skip
        self.lag_seconds = add(
            Gauge, "rater_lag_seconds",
            "How long the oldest record that is not rated yet has waited, by the broker's timestamp; 0 when all are rated.",
            ["partition"],
        )  # fmt: skip
        self.end_offset = add(
            Gauge, "rater_input_end_offset",
            "The end of the input as last heard: its rate is what arrives, whether it is rated or not.",
            ["partition", "input"],
        )  # fmt: skip
        self.last_commit = add(
            Gauge, "rater_last_commit_timestamp_seconds",
            "When a partition's last batch was committed. Long ago with lag above 0: nothing gets through.", ["partition"],
        )  # fmt: skip
        self.restored = add(
            Gauge, "rater_restore_records",
            "Records read so far by the restore under way, of the topic it reads now. Standing still: the broker does not "
            "answer.", ["partition"],
        )  # fmt: skip
        self.restore_left = add(
            Gauge, "rater_restore_offsets_left",
            "Offsets a restore still has to read of the topic it reads now; 0 when there is none.", ["partition"],
        )  # fmt: skip
        self.restore_seconds = add(
            Histogram, "rater_restore_seconds",
            "From the first word of a take-over to rating. Longer and longer: snapshots fail or RATER_STATE_DIR is lost at "
            "each start.", buckets=RESTORE_BUCKETS,
        )  # fmt: skip

    def _declare_faults(self) -> None:
        add = self.add
        self.aborted = add(
            Counter, "rater_transactions_aborted_total",
            "Transactions begun and not committed; their batch is read again, nothing is lost. More than a few an hour: "
            "brokers or network are unwell.",
        )  # fmt: skip
        self.failures = add(
            Counter, "rater_partition_failures_total",
            "Times a partition was thrown back to its log, by reason. disagreement, deck_missing, offset_gone and refused wait "
            "for a person; timeout and log heal by themselves.", ["reason"],
        )  # fmt: skip
        touch(self.failures, FAILURES)
        self.writers = add(
            Counter, "rater_writers_recreated_total",
            "Producers opened anew, by cause. tainted: a request was repeated or slow, and a new epoch makes it harmless; "
            "steady growth means slow brokers.", ["cause"],
        )  # fmt: skip
        touch(self.writers, WRITER_CAUSES)
        self.disagreements = add(
            Counter, "rater_witness_disagreements_total",
            "Take-overs at which group offsets, journal and state did not agree. Above 0: an operator moved offsets or a topic "
            "was restored; the partition stands until a person acts on the sentence in /partitions.",
        )  # fmt: skip

    def _declare_state(self) -> None:
        add = self.add
        self.seen_ids = add(
            Gauge, "rater_seen_ids",
            "Record ids kept for de-duplication, for ever. Plan memory by its growth: 20 to 40 bytes each.", ["partition"],
        )  # fmt: skip
        self.seen_bytes = add(Gauge, "rater_seen_bytes", "Memory of the ids kept; it doubles in steps.", ["partition"])
        self.open_calls = add(
            Gauge, "rater_open_calls_authorized",
            "Calls that were authorized and whose record has not come, nor has their hold expired: about the calls going on. "
            "Growth without end: call records do not carry the call_id that was asked about.", ["partition"],
        )  # fmt: skip
        self.state_rows = add(Gauge, "rater_state_rows", "Rows of the state in use, by shelf.", ["partition", "shelf"])
        self.state_bytes = add(
            Gauge,
            "rater_state_bytes",
            "Memory of the state's rows, with room to grow; it doubles in steps.",
            ["partition"],
        )
        self.deck = add(
            Gauge, "rater_deck_info",
            "1 for each deck in force, with the content hash that rated calls carry. Partitions differ for longer than a "
            "minute: an activation did not reach one of them.", ["partition", "deck", "currency", "version"],
        )  # fmt: skip
        self.deck_since = add(
            Gauge, "rater_deck_first_used_timestamp_seconds",
            "When this worker's disk first held the deck in force. Old: the carrier's new prices may not have been activated "
            "(rater deck activate). A new disk begins anew.", ["partition", "version"],
        )  # fmt: skip
        self.rules = add(
            Gauge, "rater_rules_info", "1 for the calling plans and the numbering in force, by content hash.",
            ["partition", "plans", "numbering"],
        )  # fmt: skip

    def of_partition(self, partition: int) -> "PartitionSeries":
        """The series of a partition, looked up once: a batch then costs no look-ups."""
        name = str(partition)
        return PartitionSeries(
            {input_: self.read.labels(name, input_) for input_ in INPUTS},
            {outcome: self.rated.labels(name, outcome) for outcome in OUTCOMES},
            self.batches.labels(name),
            {phase: self.phase.labels(name, phase) for phase in PHASES},
            {input_: self.lag_records.labels(name, input_) for input_ in INPUTS},
            self.lag_seconds.labels(name),
            {input_: self.end_offset.labels(name, input_) for input_ in INPUTS},
            self.last_commit.labels(name),
            self.restored.labels(name),
            self.restore_left.labels(name),
            self.seen_ids.labels(name),
            self.open_calls.labels(name),
            self.seen_bytes.labels(name),
            self.state_bytes.labels(name),
        )


@dataclass(frozen=True, slots=True)
class PartitionSeries:
    """Of one partition: every series with that label alone, or with a second one whose words are known."""

    read: dict[str, Counter]
    rated: dict[str, Counter]
    batches: Counter
    phase: dict[str, Gauge]
    lag_records: dict[str, Gauge]
    lag_seconds: Gauge
    end_offset: dict[str, Gauge]
    last_commit: Gauge
    restored: Gauge
    restore_left: Gauge
    seen_ids: Gauge
    open_calls: Gauge
    seen_bytes: Gauge
    state_bytes: Gauge


class RechargeMetrics(Group):
    """What the recharge agent tells."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self.outcomes = self.add(
            Counter, "rater_recharge_outcomes_total",
            "Recharges the payment provider has answered. declined grows faster than approved: customers' cards, or our "
            "account with the provider.", ["outcome"],
        )  # fmt: skip
        touch(self.outcomes, RECHARGE_OUTCOMES)
        self.refusals = self.add(
            Counter, "rater_recharge_refusals_total",
            "Recharges the agent refused to ask for, by the rule that said no: a limit was reached. Look who it protects.",
            ["reason"],
        )  # fmt: skip
        self.oldest_pending = self.add(
            Gauge, "rater_recharge_oldest_pending_seconds",
            "Age of the oldest recharge without an answer; 0 for none. Above minutes: the provider does not answer, and a "
            "customer's calls may be blocked meanwhile.",
        )  # fmt: skip


class NotificationMetrics(Group):
    """What the notification agent tells."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        add = self.add
        self.events = add(
            Counter, "rater_notification_events_total", "Account events read, repeats included.", ["type"]
        )
        self.unreadable = add(
            Counter, "rater_notification_events_unreadable_total",
            "Records of account-events that are no event: find out who writes there.",
        )  # fmt: skip
        self.sent = add(
            Counter, "rater_notification_sent_total",
            "Messages that a mail server or a receiver took; a digest counts once.", ["channel", "kind"],
        )  # fmt: skip
        self.failed = add(
            Counter, "rater_notification_attempts_failed_total",
            "Attempts that did not succeed and are repeated. away: the server as a whole.", ["channel", "why"],
        )  # fmt: skip
        self.undelivered = add(
            Counter, "rater_notification_undelivered_total",
            "Messages given up; each is in the topic undelivered-notifications. Growth: look there for whom to call.",
            ["channel", "reason"],
        )  # fmt: skip
        self.digested = add(
            Counter, "rater_notification_digested_total", "Messages told together with others in a digest."
        )
        self.pending = add(Gauge, "rater_notification_pending", "Messages waiting to be sent.")
        self.oldest_pending = add(
            Gauge, "rater_notification_oldest_pending_seconds",
            "Age of the oldest message that waits; 0 for none. Minutes: the mail server or a webhook is away or refuses us.",
        )  # fmt: skip


class MediationMetrics(Group):
    """What the mediation agent tells. `topic` is a raw topic that has a profile, so there are as many as profiles."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        add = self.add
        self.read = add(Counter, "rater_mediation_values_total", "Values read from a raw topic.", ["topic"])
        self.calls = add(Counter, "rater_mediation_calls_total", "Call records published to cdrs.", ["topic"])
        self.rejected = add(
            Counter, "rater_mediation_rejected_total",
            "Records published to rejected-raw. A jump after a change at the switch: its profile no longer fits; look with "
            "rater mediate --explain.", ["topic", "reason"],
        )  # fmt: skip
        self.not_billed = add(
            Counter, "rater_mediation_not_billed_total", "Records that the profile says are no call: legs, headers, events, repeats.",
            ["topic", "kind"],
        )  # fmt: skip
        self.faults = add(
            Counter, "rater_mediation_faults_total", "Values at which a reader failed: a fault of rater. Report it with the value.",
            ["topic"],
        )  # fmt: skip
        self.waiting = add(
            Gauge, "rater_mediation_parts_waiting",
            "Parts of calls that wait for the rest; their offsets are held back. Growth without end: the last parts never come.",
            ["topic"],
        )  # fmt: skip
        self.retries = add(
            Counter, "rater_mediation_publish_retries_total", "Publishing that the brokers did not confirm in time and that was repeated."
        )  # fmt: skip
