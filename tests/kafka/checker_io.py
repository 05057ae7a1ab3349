"""The checker's eyes: topics of a real broker, read_committed, and the table it prints.

confluent-kafka reads here, since the product uses another client: a fault of one is not hidden by the same fault in the
other. It is imported when a broker is read, so the checker itself needs no client.
"""

import argparse
import contextlib
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.kafka.checker import INVARIANTS, audited
from tests.kafka.checker_model import (
    INPUTS,
    TOPICS,
    End,
    Ends,
    GroupOffsets,
    Record,
    RuleBook,
    Violation,
    load_rule_book,
)
from tests.twin import read_numbering

ROOT = Path(__file__).resolve().parents[2]
NUMBERING = ROOT / "rater" / "core" / "numbering_table.py"  # data: it is parsed, never run
PLANS = ROOT / "rates" / "plans" / "calling-plans.csv"
FIRST_SHOWN = 20
ASKED_S = 3.0  # how long one question may wait


class ReadProblem(Exception):
    """The topics could not be read to their ends; the text says which, and how far it came."""


class BrokerSource:
    """Committed records of all topics from their beginnings on; the group's offsets; the ends.

    A poll ends when each partition was read up to its last stable offset as it was when the poll began. Markers and aborted
    records are no records, so the position is known from `PARTITION_EOF`, which comes behind them.
    """

    def __init__(self, bootstrap: str, group: str, prefix: str = "", *, timeout_s: float = 60.0,
                 more: dict[str, Any] | None = None) -> None:  # fmt: skip
        import confluent_kafka

        self._kafka, self._prefix, self._timeout_s = confluent_kafka, prefix, timeout_s
        self._settings = {"bootstrap.servers": bootstrap, "isolation.level": "read_committed", "enable.auto.commit": False,
                          "check.crcs": True, "log_level": 2, **(more or {})}  # fmt: skip
        self._consumers: dict[tuple[str, ...], Any] = {}
        self._reached: dict[tuple[str, int], int] = {}
        self._group = confluent_kafka.Consumer({**self._settings, "group.id": group})
        self.partitions = self._count()

    def _count(self) -> int:
        metadata = self._group.list_topics(timeout=self._timeout_s).topics
        counts = {topic: len(metadata[self._prefix + topic].partitions) if self._prefix + topic in metadata else 0
                  for topic in TOPICS}  # fmt: skip
        if len(set(counts.values())) != 1 or 0 in counts.values():
            raise ReadProblem(f"the topics (prefix '{self._prefix}') have different or no partitions: {counts}; "
                              "check --bootstrap and --topic-prefix")  # fmt: skip
        return next(iter(counts.values()))

    def close(self) -> None:
        for consumer in (self._group, *self._consumers.values()):
            consumer.close()

    def poll(self, topics: Iterable[str]) -> list[tuple[str, Record]]:
        names = tuple(topics)
        consumer = self._consumer(names)
        targets = {(topic, p): self._stable(topic, p) for topic in names for p in range(self.partitions)}
        found: list[tuple[str, Record]] = []
        last_heard = time.monotonic()
        while behind := {place: end for place, end in targets.items() if self._reached[place] < end}:
            messages = consumer.consume(10_000, 0.2)
            last_heard = time.monotonic() if messages else last_heard
            if time.monotonic() - last_heard > self._timeout_s:
                raise ReadProblem(f"nothing came for {self._timeout_s:.0f} s; still to be read up to: {behind}, "
                                  f"read up to: {[self._reached[place] for place in behind]}")  # fmt: skip
            for message in messages:
                self._take(message, found)
        return found

    def _take(self, message: Any, found: list[tuple[str, Record]]) -> None:
        topic, place = message.topic()[len(self._prefix) :], message.partition()
        error = message.error()
        if error is not None:
            if error.code() != self._kafka.KafkaError._PARTITION_EOF:
                raise ReadProblem(f"{message.topic()}-{place}: {error.str()}")
            self._reached[topic, place] = max(self._reached[topic, place], message.offset())
            return
        headers = tuple((name, value) for name, value in message.headers() or ())
        found.append((topic, Record(place, message.offset(), message.key(), message.value(), headers)))
        self._reached[topic, place] = message.offset() + 1

    def _consumer(self, topics: tuple[str, ...]) -> Any:
        if topics not in self._consumers:
            consumer = self._kafka.Consumer({**self._settings, "group.id": "rater-checker", "enable.partition.eof": True,
                                             "auto.offset.reset": "error"})  # fmt: skip
            places = []
            for topic in topics:
                for p in range(self.partitions):
                    low, _ = self._bounds(self._group, topic, p)
                    places.append(self._kafka.TopicPartition(self._prefix + topic, p, low))
                    self._reached[topic, p] = low
            consumer.assign(places)
            self._consumers[topics] = consumer
        return self._consumers[topics]

    def _bounds(self, consumer: Any, topic: str, partition: int) -> tuple[int, int]:
        place = self._kafka.TopicPartition(self._prefix + topic, partition)
        give_up = time.monotonic() + self._timeout_s
        while True:
            try:
                low, high = consumer.get_watermark_offsets(place, timeout=ASKED_S, cached=False)
                return int(low), int(high)
            except self._kafka.KafkaException as wrong:  # a leader moves, or a topic is only just made
                if time.monotonic() > give_up:
                    raise ReadProblem(
                        f"{place.topic}-{partition}: no end was told for {self._timeout_s:.0f} s: {wrong}"
                    ) from wrong
                with contextlib.suppress(self._kafka.KafkaException):
                    consumer.list_topics(place.topic, timeout=ASKED_S)  # else it asks the old leader, for 20 s and more
                time.sleep(0.2)

    def _stable(self, topic: str, partition: int) -> int:
        """The last stable offset: a read_committed client that asks for the end is told this.

        Asked by a consumer that fetches nothing: on a connection that fetches, each question waits behind a long poll.
        """
        return self._bounds(self._group, topic, partition)[1]

    def group_offsets(self) -> GroupOffsets:
        places = [
            self._kafka.TopicPartition(self._prefix + topic, p) for topic in INPUTS for p in range(self.partitions)
        ]
        committed = self._group.committed(places, timeout=self._timeout_s)
        return {
            (place.topic[len(self._prefix) :], place.partition): place.offset
            for place in committed
            if place.offset >= 0
        }

    def ends(self) -> Ends:
        uncommitted = self._kafka.Consumer(
            {**self._settings, "group.id": "rater-checker", "isolation.level": "read_uncommitted"}
        )
        try:
            return {
                (topic, p): End(self._bounds(self._group, topic, p)[1], self._bounds(uncommitted, topic, p)[1])
                for topic in TOPICS
                for p in range(self.partitions)
            }
        finally:
            uncommitted.close()


def read_topics(source: BrokerSource) -> dict[str, list[Record]]:
    """Everything committed. For a run that has stopped: outputs, journal and inputs are read one after the other."""
    topics: dict[str, list[Record]] = {topic: [] for topic in TOPICS}
    for topic, record in source.poll(TOPICS):
        topics[topic].append(record)
    return topics


def rules_of(rates: Sequence[Path], plans: Sequence[Path]) -> RuleBook:
    """Decks and plans as `rater worker` finds them: plans beside the decks, else those that ship."""
    beside = [folder.resolve().parent / "plans" / PLANS.name for folder in rates]
    files = [*plans, *(path for path in beside if path.is_file()), PLANS]
    country_of, is_emergency = read_numbering(NUMBERING)
    return load_rule_book(rates, files, country_of, is_emergency)


def table_of(checked: Counter[str], violations: Sequence[Violation]) -> Table:
    table = Table("invariant", "what", "checked", "violations", title="Kafka run, checked against the slow twin")
    broken = Counter(violation.invariant for violation in violations)
    for name, what in INVARIANTS.items():
        count = "not here" if name == "I9" else f"{checked[name]:,}"
        table.add_row(name, what, count, f"[red]{broken[name]:,}[/red]" if broken[name] else "0")
    return table


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kafka.checker", description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument(
        "--rates", required=True, action="append", type=Path, help="deck folder, or folder of deck folders"
    )
    parser.add_argument("--plans", action="append", type=Path, default=[], help="plans file; default: beside the decks")
    parser.add_argument("--app-id", default="rater", help="the worker's group")
    parser.add_argument("--topic-prefix", default="")
    parser.add_argument("--unsettled", action="store_true", help="inputs may be unread (I12 is left out)")
    asked = parser.parse_args(arguments)
    book = rules_of(asked.rates, asked.plans)
    source = BrokerSource(asked.bootstrap, asked.app_id, asked.topic_prefix)
    try:
        audit, violations = audited(read_topics(source), book, source.partitions)
        violations += audit.finish(source.group_offsets(), None if asked.unsettled else source.ends())
    finally:
        source.close()
    console = Console()
    console.print(table_of(audit.checked(), violations))
    for violation in violations[:FIRST_SHOWN]:
        console.print(str(violation), markup=False, highlight=False, soft_wrap=True)
    if len(violations) > FIRST_SHOWN:
        console.print(f"... and {len(violations) - FIRST_SHOWN:,} more")
    return 1 if violations else 0
