"""The mediation agent: raw topics -> `cdrs` keyed by tenant, and `rejected-raw`; at least once, nothing acknowledged before it is published.

It keeps nothing on disk. A raw record is acknowledged when everything it became part of is published, so the committed
offset stays before the oldest call that is still open, and whoever takes the partition over reads from there. What was
published before is then published again, the same bytes: the engine knows a call by its record id.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from rater.doors.failpoints import reached
from rater.doors.metrics import CONTENT_TYPE, MediationMetrics, exposition
from rater.doors.service.agent_app import Page
from rater.doors.service.agent_log import AgentLog, Delivery, NotPublished, TopicPartition
from rater.doors.service.mediation_names import CDRS, REJECTED_RAW
from rater.doors.service.mediation_reading import Outcome, PartitionReader, Ticket
from rater.sources import SourceProfile, open_source
from rater.sources.rejected import encode_rejected

log = logging.getLogger("rater.mediation")

PUBLISHING_MAX = 2_000  # messages on their way; beyond, reading waits
BREATH = 200  # outcomes of one value between two looks at everything else
FIRST_DELAY_S, DELAY_MAX_S = 0.2, 10.0
OFFSETS_SHOWN_MAX = 50


class MediationAgent:
    """See `agent_app.Agent`. `profiles` are those of the raw topics, by the topic's name without its prefix."""

    def __init__(self, profiles: Mapping[str, SourceProfile], topic_prefix: str, registry: Any) -> None:
        self._profiles = {topic_prefix + topic: profile for topic, profile in profiles.items()}
        self._registry, self._metrics = registry, MediationMetrics(registry)
        self._readers: dict[TopicPartition, PartitionReader] = {}
        self._publishing: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(PUBLISHING_MAX)
        self._failure = ""

    # ------------------------------------------------------------------------------------------------ life

    async def start(self, agent_log: AgentLog) -> None:
        self._log = agent_log

    async def stop(self) -> None:
        """What is on its way is not waited for: it is not acknowledged and comes again."""
        for task in list(self._publishing):
            task.cancel()
        await asyncio.gather(*self._publishing, return_exceptions=True)

    def unhealthy(self) -> str:
        return self._failure

    def begin_at_ms(self, partition: TopicPartition) -> int | None:  # noqa: ARG002  # the committed offset says it all
        return None

    async def assigned(self, partitions: frozenset[TopicPartition]) -> None:
        for place in partitions:
            profile = self._profiles[place.topic]
            self._readers[place] = PartitionReader(open_source(profile.source, profile))

    async def caught_up(self, partitions: frozenset[TopicPartition]) -> None:
        pass

    async def revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """Its open calls go with it: their parts are not acknowledged, and the next reader has them again."""
        for place in partitions:
            self._readers.pop(place, None)
            self._measure(place.topic)

    # ------------------------------------------------------------------------------------------------ reading

    async def take(self, delivery: Delivery) -> None:
        reached("mediate-taken")
        topic = delivery.topic
        self._metrics.read.labels(topic).inc()
        if not delivery.value:
            self._metrics.not_billed.labels(topic, "empty").inc()  # a tombstone says nothing of any call
            delivery.acknowledge()
            return
        place = TopicPartition(topic, delivery.partition)
        reader = self._readers[place]
        ticket = Ticket(delivery)
        ticket.hold()
        for count, outcome in enumerate(reader.read(ticket), 1):
            await self._send(outcome, delivery)
            if count % BREATH == 0:
                await asyncio.sleep(0)
        reached("mediate-read")
        ticket.release()
        self._measure(topic)

    def _measure(self, topic: str) -> None:
        waiting = sum(reader.parts_waiting for place, reader in self._readers.items() if place.topic == topic)
        self._metrics.waiting.labels(topic).set(waiting)

    async def _send(self, outcome: Outcome, delivery: Delivery) -> None:
        record, topic = outcome.record, delivery.topic
        if outcome.fault:
            self._metrics.faults.labels(topic).inc()
        if record.canonical is not None:
            tenant = str(orjson.loads(record.canonical)["tenant"])
            self._metrics.calls.labels(topic).inc()
            await self._publish(CDRS, tenant, record.canonical, headers_of(delivery, outcome.offsets), outcome.tickets)
        elif record.reason:
            self._metrics.rejected.labels(topic, record.reason).inc()
            place = (topic, delivery.partition, outcome.offsets)
            line = encode_rejected(record, self._profiles[topic].source, "", outcome.number, place)
            await self._publish(REJECTED_RAW, f"{topic}-{delivery.partition}", line, {}, outcome.tickets)
        else:
            self._metrics.not_billed.labels(topic, record.kind).inc()
            for ticket in outcome.tickets:
                ticket.release()

    # ------------------------------------------------------------------------------------------------ publishing

    async def _publish(
        self, topic: str, key: str, value: bytes, headers: Mapping[str, bytes], tickets: Sequence[Ticket]
    ) -> None:
        """Begun in the order of reading; the tickets are let go of when the brokers have it."""
        await self._room.acquire()
        task = asyncio.create_task(self._until_published(topic, key, value, headers, tickets))
        self._publishing.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._publishing.discard(task)
        self._room.release()
        if not task.cancelled() and (problem := task.exception()) is not None:
            self._failure = f"{type(problem).__name__}: {problem}"
            log.critical("publishing failed: %s", self._failure, exc_info=problem)

    async def _until_published(
        self, topic: str, key: str, value: bytes, headers: Mapping[str, bytes], tickets: Sequence[Ticket]
    ) -> None:
        delay_s = FIRST_DELAY_S
        reached("mediate-before-publish")
        while True:
            try:
                await self._log.publish(topic, key, value, headers)
                break
            except NotPublished as why:
                self._metrics.retries.inc()
                log.warning("%s; the same bytes again in %.1f s", why, delay_s)
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, DELAY_MAX_S)
        reached("mediate-after-publish")
        for ticket in tickets:
            ticket.release()

    # ------------------------------------------------------------------------------------------------ pages

    def pages(self) -> Mapping[str, Page]:
        return {"/metrics": self._metrics_page, "/mediation": self._mediation_page}

    async def _metrics_page(self, view: Any, _request: Any) -> Any:
        return view.bytes(exposition(self._registry), headers={"Content-Type": CONTENT_TYPE})

    async def _mediation_page(self, view: Any, _request: Any) -> Any:
        return view.json({
            "topics": {topic: {"source": profile.source, "switch": profile.switch} for topic, profile in sorted(self._profiles.items())},
            "parts_waiting": {f"{place.topic}-{place.partition}": reader.parts_waiting for place, reader in sorted(self._readers.items())},
            "publishing": len(self._publishing),
        })  # fmt: skip


def headers_of(delivery: Delivery, offsets: Sequence[int]) -> Mapping[str, bytes]:
    """Where the record of a call came from: topic, partition, and the offsets of all its parts (the first and last of very many)."""
    shown = (
        [*offsets[: OFFSETS_SHOWN_MAX // 2], *offsets[-OFFSETS_SHOWN_MAX // 2 :]]
        if len(offsets) > OFFSETS_SHOWN_MAX
        else offsets
    )
    return {
        "raw-topic": delivery.topic.encode(),
        "raw-partition": str(delivery.partition).encode(),
        "raw-offsets": ",".join(map(str, shown)).encode(),
    }
