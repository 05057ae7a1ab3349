"""What declared metrics stand on: a registry, groups of metrics on it, bounded words, and the text that is scraped."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Sums by a word from outside (a currency, a deck's name) get no more series than this; the rest is `other`.
WORDS_MAX = 32
OTHER = "other"

Metric = Counter | Gauge | Histogram
M = TypeVar("M", Counter, Gauge, Histogram)


def new_registry() -> CollectorRegistry:
    """Empty but for the process itself: `process_cpu_seconds_total`, `process_resident_memory_bytes`, `process_open_fds`."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a `..._created` beside each counter doubles the series and tells nobody anything
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


def exposition(registry: CollectorRegistry) -> bytes:
    """What `/metrics` answers, in the text format that every Prometheus reads."""
    return generate_latest(registry)


class Words:
    """At most `WORDS_MAX` words of a kind, then `other`: what comes from outside must not make series without end."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def bounded(self, word: str) -> str:
        if word not in self._known:
            if len(self._known) >= WORDS_MAX:
                return OTHER
            self._known.add(word)
        return word


def touch(metric: Counter | Gauge | Histogram, words: Iterable[str]) -> None:
    """Series that are there from the start read 0 instead of nothing: `rate` and alerts see the first event."""
    for word in words:
        metric.labels(word)


class Group:
    """Metrics of one process, all on one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._partitioned: list[Metric] = []

    def add(self, kind: type[M], name: str, help_line: str, labels: Sequence[str] = (), **options: Any) -> M:
        metric = kind(name, help_line, labels, registry=self._registry, **options)
        if "partition" in labels:
            self._partitioned.append(metric)
        return metric

    def forget_partition(self, partition: int) -> None:
        """A partition that went elsewhere is no longer ours to speak of: what stayed here would be a lie that grows old."""
        for metric in self._partitioned:
            metric.remove_by_labels({"partition": str(partition)})
