"""Account events in, messages recorded and handed to the courier, the event acknowledged when the last of them is settled.

The contacts of a tenant are kept in the compacted topic `notification-contacts`, which is read whole whenever partitions are assigned:
`account-events` forgets after its retention, and a process that takes over a partition has not seen its past. Events of a
partition wait until its contacts are known.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rater.doors.failpoints import reached
from rater.doors.metrics import NotificationMetrics
from rater.doors.service.notification_courier import Courier
from rater.doors.service.outbox import MERGED, Outbox
from rater.notify.contacts import CONTACTS_SET, Contact, Directory
from rater.notify.events import Event, EventRefused, read_event
from rater.notify.kinds import KIND_OF, SERVICE_BLOCKED, Message, messages_of

log = logging.getLogger("rater.notification")

KeepContacts = Callable[[Event], Awaitable[bool]]  # publish to the contacts' topic; is it there?
Done = Callable[[], None]


@dataclass(slots=True)
class Ticket:
    """One event: how many of its messages are open."""

    open: int
    acknowledge: Done

    def settled(self) -> None:
        self.open -= 1
        if self.open == 0:
            self.acknowledge()
            reached("notify-after-acknowledge")


class Intake:
    """What is read, in the order of its partition."""

    def __init__(self, outbox: Outbox, courier: Courier, metrics: NotificationMetrics, operator: Contact | None,
                 now_ms: Callable[[], int], keep_contacts: KeepContacts) -> None:  # fmt: skip
        self._outbox, self._courier, self._metrics = outbox, courier, metrics
        self._operator, self._now_ms, self._keep = operator, now_ms, keep_contacts
        self._directory = Directory()
        self._waiting: dict[int, list[tuple[bytes, str, Done]]] = {}  # partitions whose contacts are not yet read
        self._keeping: set[asyncio.Task[None]] = set()

    # -------------------------------------------------------------------------------------------- partitions

    def assigned(self, partitions: set[int]) -> None:
        """These are ours; their events wait for their contacts."""
        self._waiting = {partition: [] for partition in partitions}

    def contacts_known(self, partition: int) -> None:
        for body, place, acknowledge in self._waiting.pop(partition, []):
            self._handle(body, place, acknowledge)

    async def revoked(self) -> None:
        self._waiting.clear()
        for task in list(self._keeping):
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)
        self._directory = Directory()
        await self._courier.forget()

    # -------------------------------------------------------------------------------------------- records

    def take_contacts(self, body: bytes | None, place: str) -> None:
        """A record of the contacts' topic. An empty one (a tombstone) says nothing: no tenant is ever forgotten."""
        event = self._read(body, place) if body else None
        if event is not None and event.type == CONTACTS_SET:
            self._directory.learn(event)

    def take(self, partition: int, body: bytes | None, place: str, acknowledge: Done) -> None:
        """A record of account-events."""
        reached("notify-after-read")
        waiting = self._waiting.get(partition)
        if waiting is not None:
            waiting.append((body or b"", place, acknowledge))
            return
        self._handle(body or b"", place, acknowledge)

    def _read(self, body: bytes, place: str) -> Event | None:
        try:
            return read_event(body)
        except EventRefused as wrong:
            self._metrics.unreadable.inc()
            log.error("%s: %s; passed over", place, wrong)
            return None

    def _handle(self, body: bytes, place: str, acknowledge: Done) -> None:
        event = self._read(body, place)
        if event is None:
            acknowledge()
            return
        self._metrics.events.labels(event.type if event.type in _COUNTED else "other").inc()
        if event.type == CONTACTS_SET:
            self._learn(event, acknowledge)
            return
        messages = messages_of(event, self._directory.of(event.tenant), self._operator)
        if not messages:
            acknowledge()
            return
        entries = self._outbox.record(messages, self._now_ms())
        self._merge_pairs(messages)
        reached("notify-after-recorded")
        ticket = Ticket(len(entries), acknowledge)
        for entry in entries:
            self._courier.watch(entry, ticket.settled)

    def _merge_pairs(self, messages: list[Message]) -> None:
        """`service.blocked` says all that `balance.zero` says: where both are to go to one recipient, the second is the mail."""
        for message in messages:
            if message.kind != SERVICE_BLOCKED:
                continue
            other = self._outbox.other_of_pair(message)
            if other is not None and self._courier.untouched(other):
                self._outbox.settle([other], MERGED, self._now_ms(), f"told by {message.key}")
                self._courier.settled(other)

    def _learn(self, event: Event, acknowledge: Done) -> None:
        """Known at once; acknowledged when it is kept where the next process finds it."""
        if not self._directory.learn(event):
            acknowledge()
            return
        task = asyncio.create_task(self._keep_until_kept(event, acknowledge))
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)

    async def _keep_until_kept(self, event: Event, acknowledge: Done) -> None:
        while not await self._keep(event):
            await asyncio.sleep(1.0)
        acknowledge()


_COUNTED = {*KIND_OF, CONTACTS_SET, "rater.recharge.requested"}
