"""ops/grafana/dashboard.json from a table of panels: `python -m scripts.generate_dashboard`.

Grafana's JSON is a page a panel, and nobody reads a change of it. Here a panel is a title, a unit and its queries; a test holds the
file to this table, runs every query against a real Prometheus, and wants an answer from each.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parents[1] / "ops" / "grafana" / "dashboard.json"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24
HERE = 'instance=~"$instance"'
CALLS, FREE = 'input="cdrs"', 'outcome="freecall"'


@dataclass(frozen=True, slots=True)
class Panel:
    """`queries`: (expression, legend). `help_line` says what a person reads from it."""

    title: str
    help_line: str
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    height: int = 7
    stacked: bool = False


def rate(metric: str, labels: str = "") -> str:
    return f"rate({metric}{{{', '.join(filter(None, [HERE, labels]))}}}[$__rate_interval])"


def quantiles(metric: str, labels: str = "") -> list[tuple[str, str]]:
    buckets = f"sum by (le) ({rate(f'{metric}_bucket', labels)})"
    return [(f"histogram_quantile({q}, {buckets})", f"p{100 * q:.0f}") for q in (0.5, 0.95, 0.99)]


OVERVIEW = [
    Panel("Partitions rated", "Fewer than there are: the calls of some tenants wait.", [
        (f'sum(rater_partition_phase{{{HERE}, phase="running"}})', "running"), (f"max(rater_partitions{{{HERE}}})", "all")],
        kind="stat", width=4, height=5),
    Panel("Oldest call that waits", "By the broker's timestamp; balances are this old.", [(f"max(rater_lag_seconds{{{HERE}}})", "")],
          "s", "stat", 4, 5),
    Panel("Calls rated", "A second, all workers.", [(f"sum({rate('rater_calls_rated_total')})", "")], "cps", "stat", 4, 5),
    Panel("Rejected", "Share of the calls read; above 1 % somebody is woken.", [
        (f"sum({rate('rater_records_rejected_total')}) / sum({rate('rater_records_read_total', CALLS)})", "")],
        "percentunit", "stat", 4, 5),
    Panel("Without a rate", "Calls an hour that were given away: outcome freecall.", [
        (f"3600 * sum({rate('rater_calls_rated_total', FREE)})", "")], "short", "stat", 4, 5),
    Panel("Broker to commit, p99", "What a reader of rated-cdrs waits at most.", [quantiles("rater_end_to_end_seconds")[2]],
          "s", "stat", 4, 5),
]  # fmt: skip

RATING = [
    Panel("Calls by outcome", "A second. pooled: minutes paid; charged: credits; invoiced: post-usage.", [
        (f"sum by (outcome) ({rate('rater_calls_rated_total')})", "{{outcome}}")], "cps", stacked=True),
    Panel("What arrives and what is read", "Apart for long: lag grows.", [
        (f'sum(deriv(rater_input_end_offset{{{HERE}, input="cdrs"}}[$__rate_interval]))', "calls arriving"),
        (f"sum by (input) ({rate('rater_records_read_total')})", "{{input}} read")], "cps"),
    Panel("Rejected by reason", "Calls a second, and account commands refused. rejected-cdrs and rejected-commands hold them.", [
        (f"sum by (reason) ({rate('rater_records_rejected_total')})", "{{reason}}"),
        (f"sum({rate('rater_commands_rejected_total')})", "commands")], "cps"),
    Panel("Charged", "Units of the currency a second; the books are rated-cdrs, this is for watching.", [
        (f"sum by (currency) ({rate('rater_charge_micros_total')}) / 1e6", "{{currency}}")]),
    Panel("Minutes", "Who paid them: the pools of calling plans, or credits and invoices.", [
        (f"sum({rate('rater_pool_minutes_total')})", "pools"), (f"sum({rate('rater_credit_minutes_total')})", "credits")],
        stacked=True),
    Panel("Duplicates, misrouted, unknown fields", "A second. Duplicates come after a producer's restart; the others mean a sender "
          "has changed.", [
        (f"sum by (input) ({rate('rater_duplicates_total')})", "{{input}} duplicates"),
        (f"sum by (input) ({rate('rater_misrouted_total')})", "{{input}} misrouted"),
        (f"sum({rate('rater_unknown_fields_total')})", "unknown fields")], "cps"),
    Panel("Account events", "A second, by type: the work of the agents.", [
        (f"sum by (type) ({rate('rater_events_total')})", "{{type}}")], "cps", width=24, height=6, stacked=True),
]  # fmt: skip

LATENCY = [
    Panel("Broker to commit", "From a batch's oldest call to its commit.", quantiles("rater_end_to_end_seconds"), "s"),
    Panel("Where a batch's time goes", "Mean seconds. fetch includes the commit interval; commit is the brokers.", [
        (f"sum by (stage) ({rate('rater_batch_stage_seconds_sum')}) / sum by (stage) ({rate('rater_batch_stage_seconds_count')})",
         "{{stage}}")], "s", stacked=True),
    Panel("Commit", "Writing a batch's transaction.", quantiles("rater_batch_stage_seconds", 'stage="commit"'), "s"),
    Panel("Records in a batch", "At RATER_BATCH_RECORDS_MAX: catching up, or too small.", quantiles("rater_batch_records")),
    Panel("Batches", "A second, by partition.", [(f"sum by (partition) ({rate('rater_batches_total')})", "{{partition}}")], "ops"),
    Panel("Bytes", "In from the inputs, out to outputs, state and journal.", [
        (f"sum by (direction) ({rate('rater_batch_bytes_total')})", "{{direction}}")], "Bps"),
]  # fmt: skip

PARTITIONS = [
    Panel("Phase", "1 running, 2 restoring, 3 stopped. /partitions of the worker says why.", [
        (f'max by (partition) (rater_partition_phase{{{HERE}, phase="running"}} + on (instance, partition) '
         f'2 * rater_partition_phase{{{HERE}, phase="restoring"}} + on (instance, partition) '
         f'3 * rater_partition_phase{{{HERE}, phase="stopped"}})', "{{partition}}")], kind="state-timeline", width=12),
    Panel("Lag in seconds", "Since when the oldest call that is not rated waits.", [
        (f"max by (partition) (rater_lag_seconds{{{HERE}}})", "{{partition}}")], "s", width=6),
    Panel("Lag in records", "Behind the end of the input, as last heard.", [
        (f"sum by (partition, input) (rater_lag_records{{{HERE}}})", "{{partition}} {{input}}")], width=6),
    Panel("Since the last commit", "Long, with lag: nothing gets through.", [
        (f"time() - max by (partition) (rater_last_commit_timestamp_seconds{{{HERE}}})", "{{partition}}")], "s", width=6),
    Panel("Restores", "How long take-overs took.", quantiles("rater_restore_seconds"), "s", width=6),
    Panel("Restore under way", "Offsets left of the topic being read, records read of it.", [
        (f"sum by (partition) (rater_restore_offsets_left{{{HERE}}})", "{{partition}} left"),
        (f"sum by (partition) (rater_restore_records{{{HERE}}})", "{{partition}} read")], width=6),
    Panel("Faults", "In an hour: transactions aborted, producers opened anew, take-overs after a failure, disagreements.", [
        (f"sum(increase(rater_transactions_aborted_total{{{HERE}}}[1h]))", "aborted"),
        (f"sum by (cause) (increase(rater_writers_recreated_total{{{HERE}}}[1h]))", "writer {{cause}}"),
        (f"sum by (reason) (increase(rater_partition_failures_total{{{HERE}}}[1h]))", "{{reason}}"),
        (f"sum(increase(rater_witness_disagreements_total{{{HERE}}}[1h]))", "witnesses")], width=6),
]  # fmt: skip

STATE = [
    Panel("Decks in force", "The hash stands in every rated call. One version a deck, except while an activation is on its way.", [
        (f"count by (deck, currency, version) (rater_deck_info{{{HERE}}})", "")], kind="table", width=12),
    Panel("Age of the decks", "Since a worker's disk first held it.", [
        (f"max by (version) (time() - rater_deck_first_used_timestamp_seconds{{{HERE}}})", "{{version}}")], "s", width=6),
    Panel("Plans and numbering", "By content hash.", [
        (f"count by (plans, numbering) (rater_rules_info{{{HERE}}})", "")], kind="table", width=6),
    Panel("Ids kept", "For de-duplication, for ever: memory is planned by this.", [
        (f"sum by (partition) (rater_seen_ids{{{HERE}}})", "{{partition}}")], width=6, stacked=True),
    Panel("Memory of ids and state", "Both double in steps.", [
        (f"sum(rater_seen_bytes{{{HERE}}})", "ids"), (f"sum(rater_state_bytes{{{HERE}}})", "rows")], "bytes", width=6, stacked=True),
    Panel("Rows of the state", "By shelf.", [(f"sum by (shelf) (rater_state_rows{{{HERE}}})", "{{shelf}}")], width=6),
    Panel("Processes", "CPU seconds a second; memory; open files.", [
        (rate("process_cpu_seconds_total", 'job=~"rater.*"'), "{{instance}} CPU")], width=6),
    Panel("Memory of the processes", "Resident.", [
        (f'process_resident_memory_bytes{{{HERE}, job=~"rater.*"}}', "{{instance}}")], "bytes", width=12),
    Panel("Open files", "Sockets to brokers included; growth without end is a leak.", [
        (f'process_open_fds{{{HERE}, job=~"rater.*"}}', "{{instance}}")], width=12),
]  # fmt: skip

AGENTS = [
    Panel("Recharges", "In an hour, by what the payment provider answered.", [
        ("sum by (outcome) (increase(rater_recharge_outcomes_total[1h]))", "{{outcome}}")]),
    Panel("Recharges refused by a limit", "In an hour, by the rule that said no.", [
        ("sum by (reason) (increase(rater_recharge_refusals_total[1h]))", "{{reason}}")]),
    Panel("Oldest recharge, oldest notification", "Without an answer, not handed over.", [
        ("max(rater_recharge_oldest_pending_seconds)", "recharge"),
        ("max(rater_notification_oldest_pending_seconds)", "notification")], "s"),
    Panel("Notifications sent", "In an hour, by channel.", [
        ("sum by (channel) (increase(rater_notification_sent_total[1h]))", "{{channel}}")]),
    Panel("Notifications given up", "In an hour, by reason; the topic undelivered-notifications has them.", [
        ("sum by (channel, reason) (increase(rater_notification_undelivered_total[1h]))", "{{channel}} {{reason}}")]),
    Panel("Notifications waiting", "Messages, and attempts a second that failed and are repeated.", [
        ("sum(rater_notification_pending)", "waiting"),
        ("sum by (channel) (rate(rater_notification_attempts_failed_total[$__rate_interval]))", "{{channel}} failed")]),
]  # fmt: skip

MEDIATION = [
    Panel("Mediation", "Values read and calls published a second, by raw topic.", [
        ("sum by (topic) (rate(rater_mediation_values_total[$__rate_interval]))", "{{topic}} read"),
        ("sum by (topic) (rate(rater_mediation_calls_total[$__rate_interval]))", "{{topic}} calls")], "cps"),
    Panel("Mediation: rejected", "A second, by topic and reason; rejected-raw has them.", [
        ("sum by (topic, reason) (rate(rater_mediation_rejected_total[$__rate_interval]))", "{{topic}} {{reason}}")], "cps"),
    Panel("Mediation: parts waiting", "Parts of calls whose rest has not come; growth without end: it never will.", [
        ("sum by (topic) (rater_mediation_parts_waiting)", "{{topic}}")]),
]  # fmt: skip

API = [
    Panel("Calls asked about", "A second, by what the switch was told. late, busy, not_published, not_following: it was told nothing.", [
        ("sum by (outcome) (rate(rater_api_authorizations_total[$__rate_interval]))", "{{outcome}}")], "cps", stacked=True),
    Panel("Authorization, from question to answer", "Above 20 ms: the commits of the workers.", [
        (f"histogram_quantile({q}, sum by (le) "
         '(rate(rater_api_request_seconds_bucket{route="/v1/authorize"}[$__rate_interval])))', f"p{100 * q:.0f}")
        for q in (0.5, 0.95, 0.99)], "s"),
    Panel("API: answers", "A second, by class of status; 5xx are workers, brokers or history away.", [
        ("sum by (status) (rate(rater_api_requests_total[$__rate_interval]))", "{{status}}"),
        ("sum(rater_api_authorizations_waiting)", "questions waiting"),
        ("min(rater_api_following)", "following")], "short"),
]  # fmt: skip

ROWS: dict[str, list[Panel]] = {
    "At a glance": OVERVIEW,
    "Rating": RATING,
    "Latency": LATENCY,
    "Partitions": PARTITIONS,
    "State, decks, processes": STATE,
    "Agents": AGENTS + MEDIATION,
    "API": API,
}


def variables() -> list[dict[str, Any]]:
    instance = "label_values(rater_partitions, instance)"
    return [
        {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus", "hide": 0},
        {"name": "instance", "type": "query", "label": "Worker", "datasource": SOURCE, "query": instance, "definition": instance,
         "refresh": 2, "includeAll": True, "multi": True, "allValue": ".*",
         "current": {"selected": True, "text": ["All"], "value": ["$__all"]}},
    ]  # fmt: skip


def target(place: int, expression: str, legend: str, kind: str) -> dict[str, Any]:
    asked = {
        "refId": chr(ord("A") + place),
        "datasource": SOURCE,
        "expr": expression,
        "legendFormat": legend or "__auto",
    }
    return asked | ({"format": "table", "instant": True} if kind == "table" else {})


def appearance(panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit}
    if panel.kind == "timeseries":
        fill = {"fillOpacity": 30, "stacking": {"mode": "normal"}} if panel.stacked else {"fillOpacity": 5}
        defaults |= {"min": 0, "custom": {"lineWidth": 1, "showPoints": "never", **fill}}
    if panel.kind == "state-timeline":
        words = {"1": ("running", "green"), "2": ("restoring", "yellow"), "3": ("stopped", "red")}
        shown = {value: {"text": text, "color": color} for value, (text, color) in words.items()}
        defaults |= {"mappings": [{"type": "value", "options": shown}]}
    return {"defaults": defaults, "overrides": []}


def drawn(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    targets = [
        target(place, expression, legend, panel.kind) for place, (expression, legend) in enumerate(panel.queries)
    ]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.help_line,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
        "targets": targets,
        "fieldConfig": appearance(panel),
    }


def laid_out() -> list[dict[str, Any]]:
    """Rows from top to bottom; in a row, panels from left to right, into the next line where one is full."""
    found: list[dict[str, Any]] = []
    y = 0
    for title, panels in ROWS.items():
        found.append({"id": len(found) + 1, "type": "row", "title": title, "collapsed": False, "panels": [],
                      "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1}})  # fmt: skip
        y, x, tallest = y + 1, 0, 0
        for panel in panels:
            if x + panel.width > WIDTH:
                y, x, tallest = y + tallest, 0, 0
            found.append(drawn(panel, len(found) + 1, x, y))
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest
    return found


def dashboard() -> dict[str, Any]:
    return {
        "uid": "rater",
        "title": "rater",
        "tags": ["rater"],
        "description": "Generated by scripts/generate_dashboard.py. What each alert means: docs/operations.md.",
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "utc",
        "templating": {"list": variables()},
        "panels": laid_out(),
    }


def text() -> str:
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), "utf-8")
    print(f"{FILE}: {sum(len(panels) for panels in ROWS.values())} panels")
