"""The recharge agent: hears requests on `account-events`, works on each until its command is published, then acknowledges it.

What is read while catching up is only collected: the outcome of a request may stand further on in the log. A day is read again at each
assignment, so that the guards know what was asked even when the file is new or a partition came from another process.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from rater.core.instants import DAY_MS
from rater.doors.clock import monotonic
from rater.doors.failpoints import reached
from rater.doors.metrics import CONTENT_TYPE, exposition
from rater.doors.service.agent_app import Page
from rater.doors.service.agent_log import AgentLog, Delivery, NotPublished, TopicPartition
from rater.doors.service.provider import CallbackRefused, Unclear
from rater.doors.service.recharge_work import FAILED_ELSEWHERE, SUCCEEDED_ELSEWHERE, Desk, Later, advance, take_answer
from rater.recharge.answers import APPROVED, Pending
from rater.recharge.requests import Closed, Request, Unreadable, read_event
from rater.recharge.steps import State

log = logging.getLogger("rater.recharge")

EVENTS, COMMANDS = "account-events", "account-commands"
ABOUT_RECHARGES = b"rater.recharge."
AT_ONCE_MAX = 16  # questions to the provider under way
FIRST_DELAY_S = 0.5
LOOK_S = 0.2


class RechargeAgent:
    """See `agent_app.Agent`. Open recharges are those with a delivery that is not acknowledged."""

    def __init__(self, desk: Desk, registry: Any, poll_ms: int) -> None:
        self._desk, self._registry, self._poll_s = desk, registry, poll_ms / 1000
        self._open: dict[str, list[Delivery]] = {}
        self._fresh: set[str] = set()  # heard at the end of the log, for the first time, by this process
        self._caught_up: set[TopicPartition] = set()
        self._working: dict[str, asyncio.Task[None]] = {}
        self._due: dict[str, float] = {}
        self._delay_s: dict[str, float] = {}
        self._at_once = asyncio.Semaphore(AT_ONCE_MAX)
        self._looking: asyncio.Task[None] | None = None
        self._failure: Exception | None = None

    # ------------------------------------------------------------------------------------------------ life

    async def start(self, agent_log: AgentLog) -> None:  # noqa: ARG002  # the desk publishes
        self._looking = asyncio.create_task(self._look_regularly(), name="looking for what is due")

    async def stop(self) -> None:
        """What is under way is remembered; it goes on with the next process."""
        if self._looking is not None:
            self._looking.cancel()
        for task in list(self._working.values()):
            task.cancel()
        await asyncio.gather(*self._working.values(), return_exceptions=True)
        await self._desk.provider.close()
        self._desk.store.close()

    def unhealthy(self) -> str:
        return "" if self._failure is None else f"{type(self._failure).__name__}: {self._failure}"

    # ------------------------------------------------------------------------------------------------ reading

    def begin_at_ms(self, partition: TopicPartition) -> int | None:  # noqa: ARG002  # of each the same
        return self._desk.now_ms() - DAY_MS

    async def assigned(self, partitions: frozenset[TopicPartition]) -> None:
        self._caught_up -= partitions

    async def caught_up(self, partitions: frozenset[TopicPartition]) -> None:
        self._caught_up |= partitions
        for recharge_id, deliveries in self._open.items():
            if any(place_of(delivery) in partitions for delivery in deliveries):
                self._due[recharge_id] = monotonic()

    async def revoked(self, partitions: frozenset[TopicPartition]) -> None:
        self._caught_up -= partitions
        for recharge_id, deliveries in list(self._open.items()):
            kept = [delivery for delivery in deliveries if place_of(delivery) not in partitions]
            if kept:
                self._open[recharge_id] = kept
            else:
                self._forget(recharge_id)

    async def take(self, delivery: Delivery) -> None:
        if ABOUT_RECHARGES not in (delivery.value or b""):
            delivery.acknowledge()
            return
        try:
            told = read_event(delivery.value)
        except Unreadable as problem:
            log.error("%s: %s; passed over", delivery.place, problem)
            told = None
        if isinstance(told, Request):
            self._hear(told, delivery)
        elif isinstance(told, Closed):
            self._close(told, delivery)
        else:
            delivery.acknowledge()

    def _hear(self, request: Request, delivery: Delivery) -> None:
        reached("recharge-taken")
        recharge_id, live = request.recharge_id, place_of(delivery) in self._caught_up
        if self._desk.store.hear(request, self._desk.now_ms()) and live:
            self._fresh.add(recharge_id)
        reached("recharge-heard")
        recharge = self._desk.store.find(recharge_id)
        if recharge is not None and recharge.state in (State.PUBLISHED, State.CLOSED):
            delivery.acknowledge()
            return
        self._open.setdefault(recharge_id, []).append(delivery)
        if live:
            self._due.setdefault(recharge_id, monotonic())
            self._begin_due()

    def _close(self, closed: Closed, delivery: Delivery) -> None:
        """The engine has taken an outcome: ours, mostly."""
        store, recharge_id = self._desk.store, closed.recharge_id
        recharge = store.find(recharge_id)
        ours = closed.lot_id == recharge_id or not closed.succeeded
        if recharge is None:
            store.remember_closed(closed, "", delivery.timestamp_ms)
        elif recharge.state in (State.PUBLISHED, State.CLOSED):
            store.advance(recharge_id, State.CLOSED)
        elif recharge.state is State.SETTLED:
            if closed.succeeded == (recharge.verdict == APPROVED) and ours:
                store.advance(recharge_id, State.CLOSED)
            else:
                store.close_as(recharge_id, SUCCEEDED_ELSEWHERE if closed.succeeded else FAILED_ELSEWHERE)
        elif recharge.state is State.HEARD or (closed.succeeded and closed.lot_id == recharge_id):
            store.date(recharge_id, closed, delivery.timestamp_ms)
        else:
            log.warning(
                "%s: closed by somebody else while the provider has not answered; it is still asked about", recharge_id
            )
            store.close_as(recharge_id, SUCCEEDED_ELSEWHERE if closed.succeeded else FAILED_ELSEWHERE)
        self._acknowledge_if_done(recharge_id)
        delivery.acknowledge()

    # ------------------------------------------------------------------------------------------------ working

    async def _look_regularly(self) -> None:
        while True:
            try:
                self._begin_due()
                self._measure()
            except Exception as problem:
                self._failure = problem
                log.critical("looking for due recharges failed: %s", problem, exc_info=problem)
            await asyncio.sleep(LOOK_S)

    def _begin_due(self) -> None:
        now = monotonic()
        for recharge_id in [name for name, due in self._due.items() if due <= now and name not in self._working]:
            del self._due[recharge_id]
            task = asyncio.create_task(self._work(recharge_id), name=recharge_id)
            self._working[recharge_id] = task
            task.add_done_callback(lambda _, name=recharge_id: self._working.pop(name, None))  # type: ignore[misc]

    async def _work(self, recharge_id: str) -> None:
        try:
            async with self._at_once:
                fresh = recharge_id in self._fresh
                done = await advance(self._desk, recharge_id, fresh, lambda: recharge_id in self._open)
        except (Later, Unclear, NotPublished) as why:
            self._again(recharge_id, str(why))
        except Exception as problem:  # a fault of ours must not lose the recharge: it is due again, and told
            self._failure = problem
            log.exception("%s: unexpected", recharge_id)
            self._again(recharge_id, f"{type(problem).__name__}: {problem}")
        else:
            if done:
                self._acknowledge_if_done(recharge_id)

    def _again(self, recharge_id: str, why: str) -> None:
        if recharge_id not in self._open:
            return
        delay_s = min(self._delay_s.get(recharge_id, FIRST_DELAY_S), self._poll_s)
        self._delay_s[recharge_id] = 2 * delay_s
        self._due[recharge_id] = monotonic() + delay_s
        log.warning("%s: %s; looked at again in %.1f s", recharge_id, why, delay_s)

    def _acknowledge_if_done(self, recharge_id: str) -> None:
        recharge = self._desk.store.find(recharge_id)
        if recharge is None or recharge.state not in (State.PUBLISHED, State.CLOSED):
            return
        for delivery in self._open.get(recharge_id, []):
            delivery.acknowledge()
        reached("recharge-acknowledged")
        self._forget(recharge_id)

    def _forget(self, recharge_id: str) -> None:
        self._open.pop(recharge_id, None)
        self._fresh.discard(recharge_id)
        self._due.pop(recharge_id, None)
        self._delay_s.pop(recharge_id, None)

    # ------------------------------------------------------------------------------------------------ pages

    def pages(self) -> Mapping[str, Page]:
        return {
            "/metrics": self._metrics_page,
            "/recharges": self._open_page,
            "/recharge/callback": self._callback_page,
        }

    def _measure(self) -> None:
        now_ms = self._desk.now_ms()
        found = [self._desk.store.find(recharge_id) for recharge_id in self._open]
        ages = [now_ms - recharge.heard_ms for recharge in found if recharge is not None]
        self._desk.metrics.oldest_pending.set(max(ages, default=0) / 1000)

    async def _metrics_page(self, view: Any, _request: Any) -> Any:
        self._measure()
        return view.bytes(exposition(self._registry), headers={"Content-Type": CONTENT_TYPE})

    async def _open_page(self, view: Any, _request: Any) -> Any:
        now_ms = self._desk.now_ms()
        found = [self._desk.store.find(recharge_id) for recharge_id in sorted(self._open)]
        return view.json({
            "open": [
                {"recharge_id": one.request.recharge_id, "state": one.state.value, "age_s": (now_ms - one.heard_ms) // 1000,
                 "reference": one.reference}
                for one in found if one is not None
            ],
            "to_do": [{"recharge_id": name, "what": sentence} for name, sentence, _ in self._desk.store.reports()],
            "limits_readable": self._desk.guards.current() is not None,
        })  # fmt: skip

    async def _callback_page(self, view: Any, request: Any) -> Any:
        """The provider answers by itself. 200 when the answer is on disk; 404 where the recharge is not known: try again."""
        if request.method != "POST":
            return view.json({"error": "POST a signed answer"}, status=405)
        try:
            body = await request.read()
            recharge_id, answer = self._desk.provider.callback(request.headers, body, self._desk.now_ms() // 1000)
        except CallbackRefused as refused:
            log.warning("callback refused: %s", refused)
            return view.json({"error": str(refused)}, status=refused.status)
        if self._desk.store.find(recharge_id) is None:
            return view.json({"error": "this process does not know that recharge; send it again later"}, status=404)
        take_answer(self._desk, recharge_id, answer)
        if recharge_id in self._open and not isinstance(answer, Pending):
            self._due[recharge_id] = monotonic()
            self._begin_due()
        return view.json({"ok": True})


def place_of(delivery: Delivery) -> TopicPartition:
    return TopicPartition(delivery.topic, delivery.partition)
