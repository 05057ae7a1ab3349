"""When the recharge agent says that an event is done: only when its command is published, for every delivery of it, and never for another's."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from rater.doors.service.agent_log import Delivery, TopicPartition
from rater.doors.service.recharge_agent import RechargeAgent
from rater.doors.service.recharge_work import take_answer
from rater.recharge.answers import Pending
from rater.recharge.steps import State
from tests.service.recharge_scene import failed, requested, succeeded
from tests.service.test_recharge_work import APPROVED, ID, Office, Scripted

PLACE = TopicPartition("account-events", 0)


class Log:
    """Deliveries, and which of them were acknowledged."""

    def __init__(self) -> None:
        self.done: list[int] = []
        self.next = 0

    def delivery(self, value: bytes) -> Delivery:
        offset, self.next = self.next, self.next + 1
        return Delivery("account-events", 0, offset, b"acme", value, (), 0, lambda: self.done.append(offset))


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.005)


def play(office: Office, scene: Callable[[RechargeAgent, Log], object]) -> Log:
    log = Log()

    async def run() -> None:
        agent = RechargeAgent(office.desk, office.registry, poll_ms=10)
        await agent.start(None)  # type: ignore[arg-type]  # the desk publishes
        await agent.assigned(frozenset({PLACE}))
        await scene(agent, log)  # type: ignore[misc]
        await agent.stop()

    asyncio.run(run())
    return log


def test_a_request_is_done_when_its_command_is_published_and_not_before(tmp_path: Path):
    office = Office(tmp_path, Scripted(Pending("p"), *[Pending("p")] * 1000))

    async def scene(agent: RechargeAgent, log: Log) -> None:
        await agent.caught_up(frozenset({PLACE}))
        for _ in range(3):
            await agent.take(log.delivery(requested("acme")))
        await agent.take(log.delivery(b'{"type":"rater.balance.zero"}'))
        await agent.take(log.delivery(b'rater.recharge. {"poison"'))
        await until(lambda: office.state() is State.PENDING)
        assert log.done == [3, 4]
        office.away = True
        take_answer(office.desk, ID, APPROVED)
        await until(lambda: office.state() is State.SETTLED)
        await asyncio.sleep(0.05)
        assert log.done == [3, 4]
        office.away = False
        await until(lambda: len(log.done) == 5)

    assert sorted(play(office, scene).done) == [0, 1, 2, 3, 4]
    assert office.verdicts() == ["approved"]


def test_nothing_is_asked_before_the_log_is_read_to_its_end_and_then_only_what_is_open(tmp_path: Path):
    provider = Scripted(APPROVED)
    office = Office(tmp_path, provider)

    async def scene(agent: RechargeAgent, log: Log) -> None:
        for number in (1, 2, 3):
            await agent.take(log.delivery(requested("acme", number)))
        await agent.take(log.delivery(succeeded("acme", 1)))
        await agent.take(log.delivery(failed("acme", 2)))
        await asyncio.sleep(0.05)
        assert provider.heard == []
        await agent.caught_up(frozenset({PLACE}))
        await until(lambda: len(log.done) == 5)

    play(office, scene)
    assert provider.heard == ["status acme:recharge:3"]
    assert office.verdicts() == ["approved"]


def test_what_the_log_tells_of_yesterday_counts_for_the_guards(tmp_path: Path):
    office = Office(tmp_path, Scripted(APPROVED), "per_day_max = 1")

    async def scene(agent: RechargeAgent, log: Log) -> None:
        early = log.delivery(succeeded("acme", 1))
        await agent.take(
            Delivery(early.topic, 0, 0, b"acme", early.value, (), office.now_ms - 3_600_000, early.acknowledge)
        )
        await agent.caught_up(frozenset({PLACE}))
        await agent.take(log.delivery(requested("acme", 2)))
        await until(lambda: len(log.done) == 2)

    play(office, scene)
    assert office.published[0]["reason"].startswith("not asked: 1 recharges in the last 24 hours")


def test_a_partition_that_went_away_is_nobodys_business_here(tmp_path: Path):
    provider = Scripted()
    office = Office(tmp_path, provider)

    async def scene(agent: RechargeAgent, log: Log) -> None:
        await agent.take(log.delivery(requested("acme")))
        await agent.revoked(frozenset({PLACE}))
        await agent.caught_up(frozenset({TopicPartition("account-events", 1)}))
        await asyncio.sleep(0.05)

    assert play(office, scene).done == []
    assert (provider.heard, office.published) == ([], [])
