"""`rater notification-agent`: reads `account-events`, tells people by mail and programs by webhook.

At least once: an event is acknowledged when each of its messages was taken by a server or is in `undelivered-notifications`.
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Any

import orjson

from rater.core.instants import instant_text
from rater.doors.clock import wall_ms
from rater.doors.metrics import CONTENT_TYPE, NotificationMetrics, exposition, new_registry
from rater.doors.service.agent_app import Page, run_agent
from rater.doors.service.agent_log import AgentLog, Delivery, NotPublished, TopicPartition
from rater.doors.service.mail import MailSender
from rater.doors.service.notification_courier import Courier
from rater.doors.service.notification_intake import Intake
from rater.doors.service.notification_outcome import Outcome, Refused
from rater.doors.service.notification_settings import NotificationSettings
from rater.doors.service.notification_storm import StormGuard
from rater.doors.service.outbox import Entry, Outbox
from rater.doors.service.webhook_secrets import WebhookSecrets
from rater.doors.service.webhooks import WebhookSender
from rater.notify.contacts import EMAIL
from rater.notify.contexts import context_of, digest_context
from rater.notify.events import Event, read_event
from rater.notify.kinds import DIGEST
from rater.notify.mime import compose
from rater.notify.rendering import Templates, TemplatesRefused

log = logging.getLogger("rater.notification")

EVENTS, CONTACTS, UNDELIVERED = "account-events", "notification-contacts", "undelivered-notifications"
PRUNE_S = 3_600


class NotificationAgent:
    """An `Agent`: the intake, the courier and what they need, for one process."""

    def __init__(self, settings: NotificationSettings) -> None:
        """Everything that can be wrong with the settings is found here, before anything is read."""
        self.settings = settings
        self._registry = new_registry()
        self.metrics = NotificationMetrics(self._registry)
        self.templates = Templates(settings.templates, settings.mail.sender_name or "Calling")
        self.outbox = Outbox(settings.outbox)
        self._mail = MailSender(settings.mail)
        self._webhooks = WebhookSender(WebhookSecrets(settings.webhook_secrets), settings.webhooks, wall_ms)
        self.courier = Courier(self.outbox, StormGuard(settings.storm), settings.courier, self.metrics, wall_ms,
                               self._hand, self._give_up)  # fmt: skip
        self.intake = Intake(self.outbox, self.courier, self.metrics, settings.operator, wall_ms, self._keep_contacts)
        self._log: AgentLog | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._events, self._contacts = settings.agent.topic(EVENTS), settings.agent.topic(CONTACTS)

    # -------------------------------------------------------------------------------------------- life

    async def start(self, agent_log: AgentLog) -> None:
        self._log = agent_log
        self._tasks = [
            asyncio.create_task(self.courier.run(), name="courier"),
            asyncio.create_task(self._prune_regularly(), name="prune"),
        ]
        for task in self._tasks:
            task.add_done_callback(self._end)

    def _end(self, task: "asyncio.Task[None]") -> None:
        """Without one of these nothing would be told any more, in silence: the process ends and is started anew."""
        problem = None if task.cancelled() else task.exception()
        if problem is not None and self._log is not None:
            self._log.fail(problem)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.courier.forget()
        await self._webhooks.close()
        self.outbox.close()

    def pages(self) -> Mapping[str, Page]:
        return {"/metrics": self._metrics_page}

    def unhealthy(self) -> str:
        ended = [task.get_name() for task in self._tasks if task.done()]
        return f"the task '{ended[0]}' has ended" if ended else ""

    async def _metrics_page(self, view: Any, _request: Any) -> Any:
        oldest = self.courier.oldest_ms()
        self.metrics.pending.set(self.courier.pending())
        self.metrics.oldest_pending.set(0 if oldest is None else max(wall_ms() - oldest, 0) / 1000)
        return view.bytes(exposition(self._registry), headers={"Content-Type": CONTENT_TYPE})

    async def _prune_regularly(self) -> None:
        while True:
            self.outbox.prune(wall_ms())
            await asyncio.sleep(PRUNE_S)

    # -------------------------------------------------------------------------------------------- the log

    async def assigned(self, partitions: frozenset[TopicPartition]) -> None:
        events = {place.partition for place in partitions if place.topic == self._events}
        contacts = {place.partition for place in partitions if place.topic == self._contacts}
        if events - contacts:
            raise RuntimeError(
                f"{self._contacts} has no partition {min(events - contacts)}, and {self._events} has; expected a compacted topic "
                "with as many partitions: rater topics create --notifications"
            )
        self.intake.assigned(events)

    async def take(self, delivery: Delivery) -> None:
        if delivery.topic == self._contacts:
            self.intake.take_contacts(delivery.value, delivery.place)
            delivery.acknowledge()
        else:
            self.intake.take(delivery.partition, delivery.value, delivery.place, delivery.acknowledge)

    async def caught_up(self, partitions: frozenset[TopicPartition]) -> None:
        for place in sorted(partitions):
            if place.topic == self._contacts:
                self.intake.contacts_known(place.partition)

    async def revoked(self, _partitions: frozenset[TopicPartition]) -> None:
        await self.intake.revoked()

    def begin_at_ms(self, partition: TopicPartition) -> int | None:
        return 0 if partition.topic == self._contacts else None

    async def _publish(self, topic: str, tenant: str, value: bytes) -> bool:
        if self._log is None:
            return False
        try:
            await self._log.publish(topic, tenant, value)
        except NotPublished as problem:
            log.warning("%s; tried again", problem)
            return False
        return True

    async def _keep_contacts(self, event: Event) -> bool:
        return await self._publish(CONTACTS, event.tenant, event.body)

    # -------------------------------------------------------------------------------------------- one message

    async def _hand(self, entry: Entry, members: list[Entry]) -> Outcome:
        if entry.channel != EMAIL:
            event = read_event(entry.body)
            return await self._webhooks.send(entry.address, event.tenant, entry.key, entry.body)
        events = [read_event(member.body) for member in members]
        context = digest_context(entry.scope, events) if entry.kind == DIGEST else context_of(read_event(entry.body))
        try:
            letter = self.templates.render(entry.kind, entry.language, context)
            message = compose(letter, entry.address, entry.key, entry.first_ms, self._mail.server.writes_as)
        except TemplatesRefused as wrong:
            return Refused("not_rendered", str(wrong))
        except ValueError as wrong:
            return Refused("address_refused", str(wrong))
        return await self._mail.send(message)

    async def _give_up(self, entry: Entry, reason: str, detail: str) -> bool:
        event = read_event(entry.body)
        told = undelivered(entry, event, reason, detail, wall_ms())
        return await self._publish(UNDELIVERED, event.tenant, orjson.dumps(told))


def undelivered(entry: Entry, event: Event, reason: str, detail: str, now_ms: int) -> dict[str, Any]:
    """One line of `undelivered-notifications`: whom nobody told what, and why."""
    return {
        "v": 1,
        "event_id": event.id,
        "tenant": event.tenant,
        "channel": entry.channel,
        "recipient": entry.address,
        "kind": entry.kind,
        "message": entry.key,
        "reason": reason,
        "detail": detail,
        "attempts": entry.attempts + 1,
        "first_at": instant_text(entry.first_ms),
        "at": instant_text(now_ms),
        "event": orjson.Fragment(event.body),
    }


def run_notification_agent(settings: NotificationSettings) -> None:
    """Until a signal stops it; raises `SystemExit`."""
    agent = NotificationAgent(settings)
    with contextlib.closing(agent.outbox):
        run_agent(settings.agent, [EVENTS, CONTACTS], agent)
