"""Questions that wait for the engine's word: put into the log as commands, answered from the events that it commits.

A question never touches the API's own file: nothing is to be kept here. Whatever happens between the log and the answer, the state has the
truth: a hold that nobody was told of ends with its time, with the call's record, or when the same call is asked for again.
"""

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

import orjson

from rater.doors.http.access import RateLimit
from rater.doors.http.asked import Question, answer_of, command_of_question, problem_of
from rater.doors.http.problems import Problem
from rater.doors.http.tokens import Caller
from rater.doors.listening import Follower
from rater.doors.metrics_api import ApiMetrics
from rater.doors.publishing import NotPublished, Placed

DEADLINE_S = 2.0
WAITING_MAX = 192  # three quarters of the connections: the others stay for balances and health
LOOK_S = 0.1  # who waits longer is looked after: has the client gone away?
OWN_RULE = "the switch decides by its own rule, or asks again under the same call_id"

Publish = Callable[[str, bytes], Any]
Gone = Callable[[], Any]  # awaits the client's going away


class ClientGone(Exception):
    """Nobody is there to be answered."""


class Waiting:
    """Who waits for which command. Ids begin with 64 random bits of this process, so that others' events are told by a search for bytes."""

    def __init__(self, most: int = WAITING_MAX) -> None:
        self._own = secrets.token_hex(8)
        self._count = 0
        self._most = most
        self._futures: dict[tuple[str, str], asyncio.Future[dict[str, Any]]] = {}

    @property
    def mark(self) -> bytes:
        return self._own.encode()

    def __len__(self) -> int:
        return len(self._futures)

    @property
    def full(self) -> bool:
        return len(self._futures) >= self._most

    def enter(self, tenant: str) -> tuple[str, asyncio.Future[dict[str, Any]]]:
        """A new command's id, and what its event will be put into: before anybody publishes it."""
        self._count += 1
        command_id = f"{self._own}{self._count:016x}"
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._futures[tenant, command_id] = future
        return command_id, future

    def leave(self, tenant: str, command_id: str) -> None:
        self._futures.pop((tenant, command_id), None)

    def tell(self, value: bytes) -> None:
        """An event of the engine; what is not the answer to a question here is nobody's."""
        try:
            event = orjson.loads(value)
            future = self._futures.get((event["subject"], event["id"].rpartition("/")[2]))
        except (ValueError, KeyError, TypeError, AttributeError):
            return
        if future is not None and not future.done():
            future.set_result(event)

    def refuse(self, tenant: str, command_id: str, reason: str, detail: str) -> None:
        """The engine did not take the command."""
        future = self._futures.get((tenant, command_id))
        if future is not None and not future.done():
            future.set_exception(problem_of(reason, detail))


class Authorizing:
    """One question after the other, each to its answer or to a sentence why there is none."""

    def __init__(self, metrics: ApiMetrics, limit: RateLimit, now_ms: Callable[[], int]) -> None:
        self.waiting = Waiting()
        self.limit = limit
        self._metrics, self._now_ms = metrics, now_ms

    async def ask(
        self, question: Question, caller: Caller, writer: Any, follower: Follower | None, gone: Gone
    ) -> dict[str, Any]:
        """The answer's body. Raises `Problem`, and `ClientGone`."""
        self._check(writer, follower)
        tenant = question.tenant
        command_id, future = self.waiting.enter(tenant)
        self._metrics.waiting.set(len(self.waiting))
        try:
            body = command_of_question(question, command_id, caller, self._now_ms())
            event = await self._told(writer.publish, tenant, body, future, gone)
        finally:
            self.waiting.leave(tenant, command_id)
            self._metrics.waiting.set(len(self.waiting))
            if not future.cancel() and not future.cancelled():
                future.exception()  # looked at: asyncio complains of those that nobody looks at
        told = answer_of(event)
        self._count("allowed" if told["allowed"] else "refused")
        return told

    def _check(self, writer: Any, follower: Follower | None) -> None:
        if writer is None or follower is None:
            raise Problem(503, "this API authorizes no calls; its operator sets RATER_BOOTSTRAP_SERVERS")
        if follower.trouble:
            raise self._none("not_following", f"no answers can be heard now ({follower.trouble})")
        if self.waiting.full:
            raise self._none("busy", f"{len(self.waiting)} questions wait already")

    async def _told(
        self, publish: Publish, tenant: str, body: bytes, future: "asyncio.Future[dict[str, Any]]", gone: Gone
    ) -> dict[str, Any]:
        watching: list[asyncio.Task[None]] = []
        look = asyncio.get_running_loop().call_later(
            LOOK_S, lambda: watching.append(asyncio.ensure_future(_watch(gone, future)))
        )
        try:
            async with asyncio.timeout(DEADLINE_S):
                _placed: Placed = await publish(tenant, body)
                return await future
        except NotPublished:
            raise self._none("not_published", "the log did not confirm the question") from None
        except TimeoutError:
            raise self._none("late", f"the engine did not answer within {DEADLINE_S:g} s") from None
        except ClientGone:
            self._count("gone")
            raise
        except Problem:
            self._count("rejected")
            raise
        finally:
            look.cancel()
            for task in watching:
                task.cancel()

    def _none(self, outcome: str, why: str) -> Problem:
        self._count(outcome)
        return Problem(503, f"{why}; {OWN_RULE}", {"Retry-After": "1"})

    def _count(self, outcome: str) -> None:
        self._metrics.authorizations.labels(outcome).inc()


async def _watch(gone: Gone, future: "asyncio.Future[dict[str, Any]]") -> None:
    await gone()
    if not future.done():
        future.set_exception(ClientGone())
