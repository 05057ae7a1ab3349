"""Metrics of a worker: what a batch leaves behind, what a partition takes with it, and that tenants make no series."""

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from rater.contract.journal import NO_DIGEST
from rater.contract.records import records_of
from rater.core.charging import OUTCOMES as ENGINE_OUTCOMES
from rater.core.state import State
from rater.doors.kafka.changelog import Watermark
from rater.doors.kafka.log import Fenced, LogProblem, LogTimeout, OffsetGone, Refused
from rater.doors.kafka.measures import Measures, failure_reason
from rater.doors.kafka.rule_sets import DeckMissing
from rater.doors.kafka.status import UNTOLD_MAX, StatusBoard
from rater.doors.kafka.surroundings import Backlog, BatchReport, Disagreement, Phase
from rater.doors.metric_groups import OTHER, WORDS_MAX, Words
from rater.doors.metrics import (
    FAILURES,
    OUTCOMES,
    MediationMetrics,
    NotificationMetrics,
    RechargeMetrics,
    WorkerMetrics,
    exposition,
    new_registry,
)
from rater.doors.rules import RuleBook, load_rule_book
from rater.pipeline import Batch, Outcome, Workspace, decide

RATES = Path(__file__).resolve().parents[2] / "rates" / "example-usd"
OPENED_AT = "2026-11-01T00:00:00Z"
NOW_MS = 1_800_000_000_000


@pytest.fixture(scope="module")
def book() -> RuleBook:
    return load_rule_book(RATES)


class Scene:
    """A partition's engine, and a board that measures what it commits."""

    def __init__(self, book: RuleBook) -> None:
        self.registry = new_registry()
        self.board = StatusBoard(
            Measures(WorkerMetrics(self.registry)), lambda _book: {}, lambda: NOW_MS, lambda: self.now_s
        )
        self.now_s = 0.0
        self.book, self.state, self.workspace = book, State.empty(bytes(16)), Workspace()
        self.number = self.next_cdr = self.next_command = 0

    def take_over(self, partition: int = 0) -> None:
        self.board.phase(partition, Phase.RESTORING, "")
        self.board.rules(partition, self.book)
        self.board.taken_over(partition, self.state, self.mark(partition))
        self.board.phase(partition, Phase.RUNNING, "")

    def mark(self, partition: int) -> Watermark:
        return Watermark(
            partition, self.number, self.next_cdr, self.next_command, NO_DIGEST, NO_DIGEST, self.state.row_counts(),
            self.state.free_rows(), 0, "", (), "",
        )  # fmt: skip

    def rate(
        self, commands: list[bytes], calls: list[bytes], partition: int = 0, oldest_ms: int = NOW_MS - 250
    ) -> Outcome:
        batch = Batch(partition, records_of(commands), records_of(calls), self.next_command, self.next_cdr)
        outcome = decide(self.state, self.book.rules, batch, self.workspace)
        self.state.committed()
        self.number, self.next_cdr = self.number + 1, self.next_cdr + len(calls)
        self.next_command += len(commands)
        self.board.committed(
            partition,
            BatchReport(outcome, self.state, 1_000, 2_000, 0.1, 0.02, 0.003, oldest_ms, self.mark(partition), 0.01),
        )
        return outcome

    def text(self) -> str:
        self.board.look_ahead()  # as the page does
        return exposition(self.registry).decode()

    def series(self) -> list[str]:
        return [line.rpartition(" ")[0] for line in self.text().splitlines() if not line.startswith("#")]

    def value(self, name: str, **labels: str) -> float | None:
        self.board.look_ahead()
        return self.registry.get_sample_value(name, labels)


@pytest.fixture
def scene(book: RuleBook) -> Scene:
    return Scene(book)


def opened(tenant: str) -> bytes:
    return orjson.dumps(
        {"command_id": f"{tenant}-1", "tenant": tenant, "type": "tenant.opened", "at": OPENED_AT, "country": "GB",
         "currency": "USD", "billing_mode": "post_usage", "overage": True}
    )  # fmt: skip


def call(tenant: str, number: int = 0, **changed: Any) -> bytes:
    return orjson.dumps(
        {"record_id": f"r-{number}", "tenant": tenant, "call_type": "user_out", "user": "u-1", "caller": "+442079460018",
         "callee": "+12125550123", "start": "2026-11-03T13:30:00Z", "answer": "2026-11-03T13:30:00Z",
         "end": "2026-11-03T13:32:00Z", "billable_ms": 120_000, "disposition": "answered"} | changed
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------- no tenant, no number


def random_tenants(count: int) -> Iterator[str]:
    chance = random.Random(20261103)
    for number in range(count):
        yield f"{chance.choice('abcdefgh')}{chance.getrandbits(40):x}-{number}"


@pytest.mark.slow
def test_a_hundred_thousand_random_tenants_cost_as_many_series_as_one(scene: Scene):
    tenants = list(random_tenants(100_000))
    scene.take_over()
    scene.rate([opened("first")], [call("first"), call("nobody"), b"{"])
    before = scene.series()
    for start in range(0, len(tenants), 20_000):
        some = tenants[start : start + 20_000]
        scene.rate([opened(tenant) for tenant in some], [call(tenant) for tenant in some])
        scene.rate(
            [], [call(f"un-{tenant}") for tenant in some[:2_000]] + [b"{" + tenant.encode() for tenant in some[:99]]
        )
    assert scene.series() == before
    assert scene.value("rater_calls_rated_total", partition="0", outcome="invoiced") == 100_001
    assert scene.value("rater_state_rows", partition="0", shelf="accounts") == 100_001


def test_no_tenant_and_no_number_stands_in_what_is_scraped(scene: Scene):
    scene.take_over()
    scene.rate([opened("contoso")], [call("contoso"), call("fabrikam"), call("contoso", 2, callee="+999123")])
    text = scene.text()
    assert "contoso" not in text
    assert "fabrikam" not in text
    assert not re.search(r"\+\d{5}|442079460018|12125550123", text)


def test_words_from_outside_are_bounded():
    words = Words()
    assert [words.bounded(f"w{n}") for n in range(WORDS_MAX)] == [f"w{n}" for n in range(WORDS_MAX)]
    assert words.bounded("one more") == OTHER
    assert words.bounded("w3") == "w3"


def test_every_label_is_one_of_the_bounded_ones_and_every_metric_says_what_to_do():
    registry = new_registry()
    groups = (
        WorkerMetrics(registry),
        RechargeMetrics(registry),
        NotificationMetrics(registry),
        MediationMetrics(registry),
    )
    allowed = {"partition", "input", "outcome", "reason", "stage", "phase", "shelf", "cause", "direction", "currency", "deck",
               "version", "plans", "numbering", "type", "channel", "kind", "why", "topic"}  # fmt: skip
    metrics = [metric for group in groups for metric in vars(group).values() if hasattr(metric, "_labelnames")]
    assert len(metrics) > 40
    for metric in metrics:
        assert set(metric._labelnames) <= allowed, metric._name
        assert metric._documentation.endswith("."), metric._name
        assert metric._name.startswith("rater_")


# ---------------------------------------------------------------------------------------------- a batch


def test_a_batch_is_counted_by_outcome_reason_and_stage(scene: Scene):
    scene.take_over()
    scene.rate([opened("contoso")], [call("contoso"), call("contoso"), call("contoso", 2, answer=None, disposition="busy",
                                     billable_ms=0), b"{", call("nobody", 3)])  # fmt: skip
    assert scene.value("rater_records_read_total", partition="0", input="cdrs") == 5
    assert scene.value("rater_records_read_total", partition="0", input="account-commands") == 1
    assert scene.value("rater_calls_rated_total", partition="0", outcome="invoiced") == 1
    assert scene.value("rater_calls_rated_total", partition="0", outcome="not_connected") == 1
    assert scene.value("rater_duplicates_total", input="cdrs") == 1
    assert scene.value("rater_records_rejected_total", reason="not_json") == 1
    assert scene.value("rater_records_rejected_total", reason="unknown_tenant") == 1
    assert scene.value("rater_charge_micros_total", currency="USD") > 0
    assert scene.value("rater_batch_stage_seconds_sum", stage="commit") == pytest.approx(0.01)
    assert scene.value("rater_end_to_end_seconds_sum") == pytest.approx(0.25)
    assert scene.value("rater_seen_ids", partition="0") >= 3
    assert scene.value("rater_seen_bytes", partition="0") == scene.state.seen_bytes()


def test_a_deck_is_named_by_its_content_and_an_old_one_goes_away(scene: Scene, tmp_path: Path):
    scene.take_over()
    (deck,) = scene.book.decks
    named = {"partition": "0", "deck": deck.name, "currency": "USD"}
    assert scene.value("rater_deck_info", **named, version=deck.version) == 1
    (tmp_path / "deck.toml").write_text('name = "example-usd"\ncurrency = "USD"\ndirection = "outbound"\n')
    (tmp_path / "outbound.csv").write_text("prefix,rate_per_minute\n1,0.0200\n")
    newer = load_rule_book(tmp_path)
    scene.board.rules(0, newer)
    assert scene.value("rater_deck_info", **named, version=deck.version) is None
    assert scene.value("rater_deck_info", **named, version=newer.decks[0].version) == 1


# ---------------------------------------------------------------------------------------------- partitions


def test_a_partition_is_in_one_phase_and_takes_its_series_along_when_it_goes(scene: Scene):
    scene.take_over(3)
    scene.rate([opened("contoso")], [call("contoso")], partition=3)
    assert [
        scene.value("rater_partition_phase", partition="3", phase=phase)
        for phase in ("restoring", "running", "stopped")
    ] == [0, 1, 0]
    scene.board.phase(3, Phase.STOPPED, "why")
    assert scene.value("rater_partition_phase", partition="3", phase="stopped") == 1
    scene.board.phase(3, Phase.RELEASED, "")
    assert [line for line in scene.series() if 'partition="3"' in line] == []
    assert scene.value("rater_charge_micros_total", currency="USD") > 0  # sums of the process stay


def test_a_partition_that_comes_back_begins_anew(scene: Scene):
    scene.take_over()
    scene.rate([opened("contoso")], [call("contoso")])
    scene.board.phase(0, Phase.RELEASED, "")
    scene.take_over()
    assert scene.value("rater_batches_total", partition="0") == 0
    assert scene.value("rater_partition_phase", partition="0", phase="running") == 1


def test_batches_are_told_without_being_asked_for_when_they_have_become_many(scene: Scene):
    scene.take_over()
    for _ in range(UNTOLD_MAX - 1):
        scene.rate([], [b"{"])
    assert scene.registry.get_sample_value("rater_batches_total", {"partition": "0"}) == 0
    scene.rate([], [b"{"])
    assert scene.registry.get_sample_value("rater_batches_total", {"partition": "0"}) == UNTOLD_MAX
    assert scene.board.counts.rejected == UNTOLD_MAX


def test_what_was_rated_is_counted_although_its_partition_goes_elsewhere_before_anybody_asks(scene: Scene):
    scene.take_over()
    scene.rate([], [b"{", b"["])
    scene.board.phase(0, Phase.RELEASED, "")
    reasons = scene.board.as_object()["counts"]["rejected_by_reason"]
    assert sum(reasons.values()) == 2
    for reason, count in reasons.items():
        assert scene.registry.get_sample_value("rater_records_rejected_total", {"reason": reason}) == count


def test_nothing_to_look_at_keeps_the_state_of_a_partition_that_does_not_run(scene: Scene):
    scene.take_over()
    scene.rate([opened("contoso")], [])
    scene.board.failed(0, LogProblem("p"))
    assert scene.board._states == {}
    scene.take_over()
    scene.board.phase(0, Phase.STOPPED, "why")
    assert scene.board._states == {}
    assert scene.value("rater_state_rows", partition="0", shelf="accounts") == 1  # as it was last


def test_a_restore_is_timed_from_its_first_word_to_rating_also_over_a_stop(scene: Scene):
    scene.board.phase(0, Phase.RESTORING, "")
    scene.board.restoring(0, "rater-journal", 10, 100, 400)
    assert scene.value("rater_restore_offsets_left", partition="0") == 300
    scene.now_s = 7.0
    scene.board.phase(0, Phase.RUNNING, "")
    assert scene.value("rater_restore_seconds_sum") == 7.0
    assert scene.value("rater_restore_offsets_left", partition="0") == 0


class Crew:
    """Says what it is told to say."""

    def __init__(self) -> None:
        self.assigned: frozenset[int] | None = None
        self.waiting: dict[int, Backlog] = {}

    def backlogs(self) -> dict[int, Backlog]:
        return self.waiting


def test_lag_is_told_in_records_and_since_the_oldest_that_waits(scene: Scene):
    crew = Crew()
    scene.board.watch_crew(crew, 4)
    scene.take_over()
    scene.rate([opened("contoso")], [call("contoso")])
    crew.waiting[0] = Backlog(11, 1, NOW_MS - 8_000)
    scene.board.look_ahead()
    assert scene.value("rater_lag_records", partition="0", input="cdrs") == 10
    assert scene.value("rater_lag_records", partition="0", input="account-commands") == 0
    assert scene.value("rater_lag_seconds", partition="0") == 8
    crew.waiting[0] = Backlog(1, 1, 0)
    scene.board.look_ahead()
    assert scene.value("rater_lag_seconds", partition="0") == 0
    assert scene.value("rater_partitions") == 4


def test_an_input_whose_end_nobody_has_heard_of_has_no_lag_yet(scene: Scene):
    crew = Crew()
    scene.board.watch_crew(crew, 1)
    scene.take_over()
    crew.waiting[0] = Backlog(None, None, 0)
    scene.board.look_ahead()
    assert scene.value("rater_lag_seconds", partition="0") == 0


def test_ready_means_the_group_has_spoken_and_all_that_is_ours_runs(scene: Scene):
    crew = Crew()
    assert not scene.board.ready()  # nobody has joined anything
    scene.board.watch_crew(crew, 2)
    assert not scene.board.ready()  # the group has not spoken
    crew.assigned = frozenset()
    assert scene.board.ready()  # a spare worker has nothing to do, and does it
    crew.assigned = frozenset({0, 1})
    scene.take_over(0)
    assert not scene.board.ready()  # nobody has heard of partition 1 yet
    scene.take_over(1)
    assert scene.board.ready()
    scene.board.phase(1, Phase.STOPPED, "why")
    assert not scene.board.ready()


# ---------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("problem", "word"),
    [
        (Disagreement("d"), "disagreement"),
        (DeckMissing("d"), "deck_missing"),
        (OffsetGone("o"), "offset_gone"),
        (Refused("r"), "refused"),
        (LogTimeout("t"), "timeout"),
        (Fenced("f"), "log"),
        (LogProblem("p"), "log"),
        (KeyError("k"), "other"),
    ],
)
def test_a_failure_has_one_word_of_a_short_list(scene: Scene, problem: Exception, word: str):
    assert failure_reason(problem) == word
    assert word in FAILURES
    scene.board.failed(0, problem)
    assert scene.value("rater_partition_failures_total", reason=word) == 1
    assert scene.value("rater_witness_disagreements_total") == (word == "disagreement")
    assert scene.value("rater_partition_stopped_info", partition="0", reason=word) == 1
    scene.board.phase(0, Phase.RUNNING, "")
    assert scene.value("rater_partition_stopped_info", partition="0", reason=word) is None


def test_transactions_and_writers_are_counted(scene: Scene):
    scene.board.aborted(0, "why")
    scene.board.writer_replaced(0, "tainted")
    assert scene.value("rater_transactions_aborted_total") == 1
    assert scene.value("rater_writers_recreated_total", cause="tainted") == 1


def test_a_fault_in_what_only_watches_does_not_reach_the_task(book: RuleBook, caplog: pytest.LogCaptureFixture):
    def fails(_book: RuleBook) -> dict[str, float]:
        raise OSError("the disk is gone")

    board = StatusBoard(Measures(WorkerMetrics(new_registry())), fails)
    board.rules(0, book)
    assert "rating goes on" in caplog.text


def test_the_outcomes_are_those_of_the_engine():
    assert OUTCOMES == ENGINE_OUTCOMES
