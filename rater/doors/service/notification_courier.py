"""Takes what is due from the outbox to its server, and records what became of it, in this order:

    recorded in the outbox -> handed over -> recorded as delivered -> the event may be acknowledged

A kill between the second and the third repeats the message under the same name; a kill anywhere else repeats nothing. Reading
events never waits for a server: `watch` only notes what is to be done.
"""

import asyncio
import heapq
import itertools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from rater.doors.failpoints import reached
from rater.doors.metrics import NotificationMetrics
from rater.doors.service.notification_lanes import Lane
from rater.doors.service.notification_outcome import Away, Delivered, Later, Outcome, Refused
from rater.doors.service.notification_storm import StormGuard
from rater.doors.service.outbox import DELIVERED, UNDELIVERED, Entry, Outbox
from rater.notify.contacts import EMAIL
from rater.notify.kinds import DIGEST
from rater.notify.retry import lane_delay_ms, retry_delay_ms

log = logging.getLogger("rater.notification")

Hand = Callable[[Entry, list[Entry]], Awaitable[Outcome]]  # the message, and the members where it is a digest
GiveUp = Callable[[Entry, str, str], Awaitable[bool]]  # entry, reason, detail -> is it published?


@dataclass(frozen=True, slots=True)
class CourierRules:
    """`expire_ms`: a message older than this is given up."""

    expire_ms: int = 2 * 86_400_000


class Courier:
    """The messages this process has to deliver: those of the events it has read and not acknowledged."""

    def __init__(self, outbox: Outbox, guard: StormGuard, rules: CourierRules, metrics: NotificationMetrics,
                 now_ms: Callable[[], int], hand: Hand, give_up: GiveUp) -> None:  # fmt: skip
        self._outbox, self._guard, self._rules, self._metrics = outbox, guard, rules, metrics
        self._now_ms, self._hand, self._give_up = now_ms, hand, give_up
        self._watched: dict[str, list[Callable[[], None]]] = {}  # message -> whom to tell that it is settled
        self._digests: dict[str, set[str]] = {}  # digest -> its watched members
        self._entries: dict[str, Entry] = {}  # everything that is to be sent, by key
        self._timed: list[tuple[int, int, str]] = []  # due, in the order of arrival, message
        self._arrivals = itertools.count()
        self._lanes: dict[str, Lane] = {}
        self._under_way: dict[asyncio.Task[None], str] = {}
        self._wake = asyncio.Event()
        self._failure: BaseException | None = None

    # -------------------------------------------------------------------------------------------- from outside

    def watch(self, entry: Entry, settled: Callable[[], None]) -> None:
        """Send this one when it is due and call `settled` when nothing more will become of it."""
        if entry.settled:
            settled()
            return
        waiting = self._watched.setdefault(entry.key, [])
        waiting.append(settled)
        if len(waiting) > 1:
            return
        if entry.digest is None:
            self._schedule(entry)
            return
        members = self._digests.setdefault(entry.digest, set())
        members.add(entry.key)
        if entry.digest not in self._entries and entry.digest not in self._under_way.values():
            self._schedule(self._outbox.entry(entry.digest))

    def untouched(self, key: str) -> bool:
        """Is nothing under way with it?"""
        return key not in self._under_way.values()

    def settled(self, key: str) -> None:
        """It was settled in the outbox by somebody else."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._guard.end(entry)
        for tell in self._watched.pop(key, ()):
            tell()

    def pending(self) -> int:
        return len(self._watched)

    def oldest_ms(self) -> int | None:
        """When the oldest message that waits was first known."""
        return min((entry.first_ms for entry in self._entries.values()), default=None)

    async def forget(self, wait_s: float = 2.0) -> None:
        """The partitions are gone: start nothing more. What is under way may end, so that fewer are sent twice."""
        if self._under_way:
            await asyncio.wait(list(self._under_way), timeout=wait_s)
        for task in list(self._under_way):
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        self._watched.clear()
        self._digests.clear()
        self._entries.clear()
        self._timed.clear()
        self._lanes.clear()
        self._guard.forget()

    async def run(self) -> None:
        """Until cancelled; raises what kept a message from being handled (a full disk): the process has to start anew."""
        while True:
            if self._failure is not None:
                raise self._failure
            self._wake.clear()
            wait_ms = self.turn()
            try:
                async with asyncio.timeout(None if wait_ms is None else max(wait_ms, 1) / 1000):
                    await self._wake.wait()
            except TimeoutError:
                continue

    # -------------------------------------------------------------------------------------------- one turn

    def turn(self) -> int | None:
        """Start what may start now; milliseconds until there is something to do again, None when only news brings it."""
        now = self._now_ms()
        for keys in self._guard.due(now):
            self._digest([key for key in keys if key in self._entries], now)
        while self._timed and self._timed[0][0] <= now:
            _, _, key = heapq.heappop(self._timed)
            if key in self._entries:
                self._ready(self._entries[key], now)
        for lane in self._lanes.values():
            while (ready := lane.next(now)) is not None:
                self._start(lane, ready)
        self._lanes = {where: lane for where, lane in self._lanes.items() if not lane.idle()}
        return self._wakes_in(now)

    def _wakes_in(self, now: int) -> int | None:
        times = [lane.wakes_ms() for lane in self._lanes.values()] + [self._guard.wakes_ms()]
        times.append(self._timed[0][0] if self._timed else None)
        known = [at for at in times if at is not None]
        return max(min(known) - now, 0) if known else None

    def _schedule(self, entry: Entry) -> None:
        self._entries[entry.key] = entry
        heapq.heappush(self._timed, (entry.due_ms, next(self._arrivals), entry.key))
        self._wake.set()

    def _ready(self, entry: Entry, now: int) -> None:
        if self._guard.concerns(entry) and entry.attempts == 0:
            since = now - self._guard.rules.window_ms
            if self._guard.must_hold(entry, self._outbox.delivered_since(entry.scope, entry.address, since)):
                self._guard.hold(entry, now)
                return
        self._to_lane(entry)

    def _digest(self, keys: list[str], now: int) -> None:
        if not keys:
            return
        if len(keys) == 1:
            self._to_lane(self._entries[keys[0]])
            return
        digest = self._outbox.make_digest([self._entries.pop(key) for key in keys], now)
        self._digests[digest.key] = set(keys)
        self._metrics.digested.inc(len(keys))
        reached("notify-digest-recorded")
        self._schedule(digest)

    def _to_lane(self, entry: Entry) -> None:
        self._guard.begin(entry)
        where = EMAIL if entry.channel == EMAIL else entry.address
        self._lanes.setdefault(where, Lane(_shown(entry))).ready.append(entry.key)

    def _start(self, lane: Lane, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is None:  # merged into its pair meanwhile
            lane.busy -= 1
            return
        task = asyncio.create_task(self._deliver(lane, entry))
        self._under_way[task] = key
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._under_way.pop(task, None)
        self._wake.set()
        if not task.cancelled() and task.exception() is not None:
            self._failure = task.exception()

    # -------------------------------------------------------------------------------------------- one message

    async def _deliver(self, lane: Lane, entry: Entry) -> None:
        reached("notify-before-send")
        members = self._outbox.members(entry.key) if entry.kind == DIGEST else []
        outcome = await self._attempt(entry, members)
        now = self._now_ms()
        if isinstance(outcome, Away):
            lane.away(now)
            self._metrics.failed.labels(entry.channel, "away").inc()
            log.warning("%s: %s; failure %d in a row, asked again in %d s, %d wait", lane.name, outcome.detail,
                        lane.failures, max(lane.until_ms - now, 0) // 1000, len(lane.ready) + 1)  # fmt: skip
            await self._back_in_line(lane, entry, outcome, now)
            return
        lane.answered()
        if isinstance(outcome, Delivered):
            reached("notify-after-send")
            self._outbox.settle([entry.key, *(member.key for member in members)], DELIVERED, now)
            reached("notify-after-record")
            self._metrics.sent.labels(entry.channel, entry.kind).inc()
            self._tell(entry, members)
        elif isinstance(outcome, Refused):
            await self._undelivered(entry, members, outcome.reason, outcome.detail)
        else:
            await self._later(lane, entry, members, outcome, now)

    async def _attempt(self, entry: Entry, members: list[Entry]) -> Outcome:
        try:
            return await self._hand(entry, members)
        except Exception as problem:
            # A fault of ours with one message must neither end the process nor be tried as fast as the loop turns.
            log.exception("message %s could not be handed over", entry.key)
            return Later(f"{type(problem).__name__} while it was handed over")

    async def _back_in_line(self, lane: Lane, entry: Entry, outcome: Away, now: int) -> None:
        """At the end: if it is this message that the server cannot bear, the next one gets through."""
        self._entries[entry.key] = entry
        lane.ready.append(entry.key)
        expired = lane.take_out(lambda key: key in self._entries and self._expired(self._entries[key], now))
        for key in expired:
            old = self._entries.pop(key)
            of_old = self._outbox.members(key) if old.kind == DIGEST else []
            await self._undelivered(old, of_old, "expired", outcome.detail)

    async def _later(self, lane: Lane, entry: Entry, members: list[Entry], outcome: Later, now: int) -> None:
        self._guard.end(entry)
        attempts = entry.attempts + 1
        self._metrics.failed.labels(entry.channel, "later").inc()
        if self._expired(entry, now):
            await self._undelivered(entry, members, "expired", outcome.detail)
            return
        due = now + max(retry_delay_ms(entry.channel, entry.key, attempts), outcome.wait_ms)
        if entry.channel != EMAIL:
            # A receiver that fails one will most likely fail the next: the others of the lane wait a little, too.
            lane.failures += 1
            lane.until_ms = now + lane_delay_ms(lane.name, lane.failures)
        self._outbox.postpone(entry.key, attempts, due, outcome.detail)
        log.info("message %s: %s; attempt %d, again in %d s", entry.key, outcome.detail, attempts, (due - now) // 1000)
        if entry.key in self._watched or entry.key in self._digests:
            self._schedule(self._outbox.entry(entry.key))

    def _expired(self, entry: Entry, now: int) -> bool:
        return now - entry.first_ms >= self._rules.expire_ms

    async def _undelivered(self, entry: Entry, members: list[Entry], reason: str, detail: str) -> None:
        """Published, then recorded: a kill between them publishes it again, and nothing is given up in silence."""
        concerned = members or [entry]
        for one in concerned:
            while not await self._give_up(one, reason, detail):
                await asyncio.sleep(1.0)
        reached("notify-after-undelivered")
        self._outbox.settle([entry.key, *(member.key for member in members)], UNDELIVERED, self._now_ms(), reason)
        self._metrics.undelivered.labels(entry.channel, reason).inc(len(concerned))
        log.warning("message %s given up: %s: %s", entry.key, reason, detail)
        self._tell(entry, members)

    def _tell(self, entry: Entry, members: list[Entry]) -> None:
        self._guard.end(entry)
        self._digests.pop(entry.key, None)
        for key in (entry.key, *(member.key for member in members)):
            for tell in self._watched.pop(key, ()):
                tell()


def _shown(entry: Entry) -> str:
    """A lane's name in the log: of an URL the host, because what follows it may be a secret."""
    return EMAIL if entry.channel == EMAIL else f"webhook {urlsplit(entry.address).netloc.rpartition('@')[2]}"
