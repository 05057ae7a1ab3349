"""What is asked for together, and what does not wait for what: the lanes of a member's pump, on a broker of our own."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.client import ConnectionGroup

from rater.doors.kafka import client_pump
from rater.doors.kafka.client_fetch import Answer
from rater.doors.kafka.client_pump import IDLE_WAIT_MS, WAIT_MS, Pump, Sizes
from rater.doors.kafka.log import Block, Place

CALLS, COMMANDS = Place("cdrs", 0), Place("account-commands", 0)


@dataclass(slots=True)
class Asked:
    """A request at the broker, which answers when the test says so."""

    node: int
    places: dict[Place, int]
    wait_ms: int
    group: Any
    answer: asyncio.Future[dict[Place, Answer]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def give(self, place: Place, body: bytes) -> None:
        block = Block(self.places[place], 1, 1, body, 0)
        self.answer.set_result({place: Answer([block], block.next_offset, None, None, False)})


@dataclass(slots=True)
class Broker:
    """The brokers, as the pump sees them; `nodes` tells the leader of a place."""

    nodes: dict[Place, int]
    open: list[Asked] = field(default_factory=list)
    refreshed: int = 0

    @property
    def cluster(self) -> Any:
        return SimpleNamespace(leader_for_partition=lambda place: self.nodes.get(place, -1))

    def force_metadata_update(self) -> None:
        self.refreshed += 1

    async def fetch(
        self, _client: Any, node: int, asked: Mapping[Place, int], _place_bytes: int, wait_ms: int, group: Any
    ) -> dict[Place, Answer]:
        request = Asked(node, dict(asked), wait_ms, group)
        self.open.append(request)
        try:
            return await request.answer
        finally:
            self.open.remove(request)

    def asking(self, place: Place) -> Asked | None:
        return next((one for one in self.open if place in one.places and not one.answer.done()), None)

    async def until_asked(self, place: Place) -> Asked:
        async with asyncio.timeout(30):
            while (found := self.asking(place)) is None:
                await asyncio.sleep(0.001)
        return found


@pytest.fixture
def pumping(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run a test's own coroutine beside a pump of these places, all of them running."""

    def run(test: Callable[[Broker, Pump], Any], nodes: dict[Place, int], sizes: Sizes | None = None) -> None:
        async def both() -> None:
            broker = Broker(nodes)
            monkeypatch.setattr(client_pump, "fetch", broker.fetch)
            pump = Pump(broker, sizes or Sizes(), lambda: None, urgent_topics=(COMMANDS.topic,))  # type: ignore[arg-type]
            pump.hold(nodes)
            for held in pump.held.values():
                held.begin_at(0)
                held.paused = False
            running = asyncio.ensure_future(pump.run())
            try:
                await test(broker, pump)
            finally:
                running.cancel()
                await asyncio.wait([running])

        asyncio.run(both())

    return run


def test_an_urgent_topic_has_a_request_and_a_connection_of_its_own(pumping: Any):
    others = (Place("cdrs", 1), Place("account-commands", 1))

    async def test(broker: Broker, _pump: Pump) -> None:
        calls, commands = await broker.until_asked(CALLS), await broker.until_asked(COMMANDS)
        assert set(calls.places) == {CALLS, others[0]}
        assert set(commands.places) == {COMMANDS, others[1]}
        assert (calls.group, commands.group) == (ConnectionGroup.DEFAULT, ConnectionGroup.COORDINATION)

    pumping(test, dict.fromkeys((CALLS, COMMANDS, *others), 1))


def test_commands_come_while_the_request_for_calls_waits_at_the_broker(pumping: Any):
    async def test(broker: Broker, pump: Pump) -> None:
        waiting = await broker.until_asked(CALLS)
        (await broker.until_asked(COMMANDS)).give(COMMANDS, b"may it start?")
        again = await broker.until_asked(COMMANDS)
        assert again.places == {COMMANDS: 1}
        assert [block.body for block in pump.take([CALLS, COMMANDS], 1 << 20)[COMMANDS]] == [b"may it start?"]
        assert broker.asking(CALLS) is waiting

    pumping(test, dict.fromkeys((CALLS, COMMANDS), 1))


def test_a_full_buffer_of_calls_shortens_no_wait_for_commands(pumping: Any):
    """The next wait for calls is short, for who has room again must not wait out a long one."""
    more = Place("cdrs", 1)

    async def test(broker: Broker, pump: Pump) -> None:
        first = await broker.until_asked(CALLS)
        assert (first.wait_ms, (await broker.until_asked(COMMANDS)).wait_ms) == (IDLE_WAIT_MS, IDLE_WAIT_MS)
        first.give(CALLS, bytes(100))
        second = await broker.until_asked(more)
        assert (set(second.places), second.wait_ms) == ({more}, WAIT_MS)
        (await broker.until_asked(COMMANDS)).give(COMMANDS, b"x")
        assert (await broker.until_asked(COMMANDS)).wait_ms == IDLE_WAIT_MS
        assert CALLS in pump.take([CALLS], 1 << 20)

    pumping(test, dict.fromkeys((CALLS, more, COMMANDS), 1), Sizes(buffer_bytes=100))


def test_each_broker_has_its_lanes_and_a_place_without_a_leader_is_looked_for(pumping: Any):
    lost = Place("account-commands", 1)

    async def test(broker: Broker, _pump: Pump) -> None:
        assert (await broker.until_asked(CALLS)).node == 1
        assert (await broker.until_asked(COMMANDS)).node == 2
        assert broker.refreshed > 0
        assert broker.asking(lost) is None
        broker.nodes[lost] = 1
        assert (await broker.until_asked(lost)).node == 1

    pumping(test, {CALLS: 1, COMMANDS: 2, lost: -1})
