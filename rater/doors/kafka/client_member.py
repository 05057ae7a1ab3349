"""A member of a consumer group: aiokafka does the group, the records come by requests of our own (`client_pump`).

The group's own idle rule (`max.poll.interval.ms`) is off: that we fetch says nothing about the work on the records.
"""

import asyncio
import logging
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from aiokafka import ConsumerRebalanceListener, TopicPartition, errors
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

from rater.doors.kafka.client_connection import (
    BACKOFF_S,
    CLOSE_S,
    Connection,
    close_client,
    problem_text,
    translated,
    within,
)
from rater.doors.kafka.client_pump import Held, Pump, Sizes
from rater.doors.kafka.log import Assigned, Block, LogProblem, Place, Revoked

UNKNOWN_ANSWER = errors.UnknownError.__name__
JOIN_SLACK_S = 5.0  # a join is answered when the slowest member has let go

log = logging.getLogger(__name__)


class Coordinator(GroupCoordinator):  # type: ignore[misc]  # aiokafka has no types
    """A static member that another process has replaced must end, and not replace that one in turn, for ever.

    A broker that no longer knows us says the same whether our session expired or our instance id was taken. aiokafka then
    joins as somebody new, who takes the instance id back. Here it first asks as the one it was: where the id was taken the
    broker calls that fenced, which ends us; where the session expired it does not, and we join anew.
    """

    member_id: str
    _former_id = ""
    _asking = False

    def reset_generation(self) -> None:
        if self._group_instance_id is not None and not self._asking:
            self._former_id = self.member_id or self._former_id
        super().reset_generation()

    async def _do_rejoin_group(self, subscription: Any) -> Any:
        former, self._former_id = self._former_id, ""
        self.member_id = former or self.member_id
        self._asking = True
        try:
            return await super()._do_rejoin_group(subscription)
        except errors.KafkaError as problem:
            if former and UNKNOWN_ANSWER in str(problem):  # aiokafka has no name for error 82, fenced instance id
                raise LogProblem(
                    f"another process has joined group {self.group_id} as instance {self._group_instance_id}; stop one, "
                    "or give each its own instance id"
                ) from problem
            raise
        finally:
            self._asking = False


class KafkaMember(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """See `log.Member`. `join` it."""

    def __init__(
        self,
        group_client: AIOKafkaClient,
        client: AIOKafkaClient,
        connection: Connection,
        group: str,
        topics: Sequence[str],
        instance_id: str | None,
        session_timeout_s: float,
        sizes: Sizes,
        urgent_topics: Collection[str],
        assigned: Assigned,
        revoked: Revoked,
    ) -> None:
        self._group_client, self._client, self._connection = group_client, client, connection
        self._group, self._topics = group, topics
        self._assigned, self._revoked = assigned, revoked
        self._pump = Pump(client, sizes, self._wake, urgent_topics)
        self._numbers: frozenset[int] = frozenset()
        self._failure: BaseException | None = None
        self._closing = False
        self.settled = False  # the group has said what is ours, also where it said nothing
        self._calling = asyncio.Lock()  # a listener
        self._waiters: set[asyncio.Future[None]] = set()
        self._subscription = SubscriptionState()
        self._subscription.register_fetch_waiters(self._waiters)
        self._subscription.subscribe(set(topics), listener=self)
        session_ms = int(1000 * session_timeout_s)
        self._coordinator = Coordinator(
            group_client,
            self._subscription,
            group_id=group,
            group_instance_id=instance_id,
            session_timeout_ms=session_ms,
            rebalance_timeout_ms=session_ms,
            heartbeat_interval_ms=min(3000, session_ms // 6),
            enable_auto_commit=False,
            assignors=(RangePartitionAssignor,),
        )
        self._pumping = asyncio.create_task(self._fetching(), name=f"fetching for group {group}")

    async def _fetching(self) -> None:
        with self._subscription.fetch_context():  # for the group we are never idle
            await self._pump.run()

    # ------------------------------------------------------------------------------------------------ the group

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        if self._closing:
            return
        places = [Place(*place) for place in assigned]
        # until we return, aiokafka sends no heartbeat: a slow start would cost us the membership
        self._coordinator._start_heartbeat_task()
        self._pump.hold(places)
        numbers = {topic: {place.partition for place in places if place.topic == topic} for topic in self._topics}
        self._numbers = frozenset().union(*numbers.values())
        async with self._calling:
            try:
                if any(of_topic != self._numbers for of_topic in numbers.values()):
                    raise LogProblem(
                        f"group {self._group}: got partitions {numbers}, expected the same ones of every topic; give all "
                        "topics the same number of partitions and all members the same topics"
                    )
                if self._numbers:
                    await self._assigned(self._numbers)
            except BaseException as problem:
                self._fail(problem, "assigned")
                raise
        self.settled = not self._closing

    async def on_partitions_revoked(self, _revoked: Iterable[TopicPartition]) -> None:
        try:
            await self._let_go()
        except BaseException as problem:
            self._fail(problem, "revoked")
            raise

    async def _let_go(self) -> None:
        """From the first line on, nothing more is handed out."""
        self._pump.hold([])
        self.settled = False
        async with self._calling:
            numbers, self._numbers = self._numbers, frozenset()
            if numbers:
                await self._revoked(numbers)

    def _fail(self, problem: BaseException, listener: str) -> None:
        """aiokafka logs what a listener raises and goes on; the next `fetch` raises it."""
        if isinstance(problem, asyncio.CancelledError):  # whoever fetches was not
            problem = LogProblem(f"group {self._group}: `{listener}` was cancelled")
        self._failure = self._failure or problem
        self._wake()

    async def committed(self, place: Place) -> int | None:
        doing = f"{place}: asking for the offset of group {self._group}"
        async with within(self._connection.deadline_s, doing, f"READ on group {self._group} and topic {place.topic}"):
            found = await self._coordinator.fetch_committed_offsets([TopicPartition(*place)])
        return int(found[place].offset) if place in found else None

    async def close(self) -> None:
        self._closing = True
        try:
            await self._let_go()
        finally:
            self._pumping.cancel()
            await asyncio.gather(self._pumping, return_exceptions=True)
            await self._leave()
            await close_client(self._group_client)
            await close_client(self._client)

    async def _leave(self) -> None:
        coordinator = self._coordinator
        try:
            async with asyncio.timeout(CLOSE_S):
                await coordinator.close()
        except Exception as problem:
            log.debug("leaving group %s: %s", self._group, problem_text(problem))
        for task in (coordinator._coordination_task, coordinator._heartbeat_task, coordinator._commit_refresh_task):
            if task is not None and not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=BACKOFF_S)

    # ------------------------------------------------------------------------------------------------ places

    def _of(self, place: Place) -> Held:
        if place not in self._pump.held:
            raise LogProblem(f"{place} is not assigned to this member of group {self._group}")
        return self._pump.held[place]

    def seek(self, place: Place, offset: int) -> None:
        self._of(place).begin_at(offset)
        self._pump.want()

    def resume(self, places: Iterable[Place]) -> None:
        for place in places:
            self._of(place).paused = False
        self._pump.want()
        self._wake()

    def pause(self, places: Iterable[Place]) -> None:
        for place in places:
            self._of(place).paused = True

    def position(self, place: Place) -> int:
        position = self._of(place).position
        if position is None:
            raise LogProblem(f"{place} has no position yet; seek first")
        return position

    def end(self, place: Place) -> int | None:
        return self._pump.held[place].stable_end if place in self._pump.held else None

    # ------------------------------------------------------------------------------------------------ handing out

    async def fetch(self, places: Sequence[Place], max_bytes: int, timeout_s: float) -> dict[Place, list[Block]]:
        now = asyncio.get_running_loop().time
        give_up = now() + timeout_s
        while True:
            self._raise_failure()
            found = self._pump.take(places, max_bytes)
            left_s = give_up - now()
            if found or left_s <= 0:
                return found
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await asyncio.wait([waiter], timeout=left_s)
            finally:
                self._waiters.discard(waiter)
                if waiter.done():
                    waiter.exception()  # the coordinator put it there; it says the same again when asked

    def check(self) -> None:
        if not self._closing:
            self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closing:
            raise LogProblem(f"this member of group {self._group} is closed")
        if self._pumping.done():
            self._pumping.result()
        try:
            self._coordinator.check_errors()
        except Exception as problem:
            needs = f"READ on group {self._group} and on topics {', '.join(self._topics)}"
            raise translated(problem, f"group {self._group}", needs) from problem

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)


async def join(
    connection: Connection,
    group: str,
    topics: Sequence[str],
    instance_id: str | None,
    session_timeout_s: float,
    sizes: Sizes,
    urgent_topics: Collection[str],
    assigned: Assigned,
    revoked: Revoked,
) -> KafkaMember:
    """Returns before the first call of `assigned`."""
    group_client = await connection.open(max(connection.request_timeout_s, session_timeout_s + JOIN_SLACK_S))
    try:
        client = await connection.open()
    except BaseException:
        await close_client(group_client)
        raise
    try:
        async with within(connection.deadline_s, f"joining group {group}", f"DESCRIBE on topics {', '.join(topics)}"):
            await group_client.set_topics(topics)
            await client.set_topics(topics)
    except BaseException:
        await close_client(group_client)
        await close_client(client)
        raise
    return KafkaMember(
        group_client,
        client,
        connection,
        group,
        topics,
        instance_id,
        session_timeout_s,
        sizes,
        urgent_topics,
        assigned,
        revoked,
    )
