"""What a member's pump asks for together, how long it lets a broker wait, and when it rests; the broker is our own."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from rater.doors.kafka import client_pump
from rater.doors.kafka.client_fetch import Answer
from rater.doors.kafka.client_pump import CRUMBS_BYTES, CRUMBS_S, IDLE_WAIT_MS, URGENT_CRUMBS_S, WAIT_MS, Pump, Sizes
from rater.doors.kafka.log import Block, Place

CALLS, COMMANDS = Place("cdrs", 0), Place("account-commands", 0)


@dataclass(slots=True)
class Asked:
    """A request at the broker, which answers when the test says so."""

    node: int
    places: dict[Place, int]
    wait_ms: int
    answer: asyncio.Future[dict[Place, Answer]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def give(self, bodies: Mapping[Place, bytes]) -> None:
        blocks = {place: Block(self.places[place], 1, 1, body, 0) for place, body in bodies.items()}
        self.answer.set_result({place: Answer([block], 1, None, None, False) for place, block in blocks.items()})


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
        self, _client: Any, node: int, asked: Mapping[Place, int], _place_bytes: int, wait_ms: int
    ) -> dict[Place, Answer]:
        request = Asked(node, dict(asked), wait_ms)
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


def test_urgent_topics_are_asked_for_with_all_others(pumping: Any):
    """A command that was written before a call must not come after it."""
    others = (Place("cdrs", 1), Place("account-commands", 1))

    async def test(broker: Broker, pump: Pump) -> None:
        asked = await broker.until_asked(CALLS)
        assert set(asked.places) == {CALLS, COMMANDS, *others}
        asked.give({COMMANDS: b"open an account", CALLS: b"its first call"})
        await broker.until_asked(CALLS)
        taken = pump.take([CALLS, COMMANDS], 1 << 20)
        assert {place: [block.body for block in blocks] for place, blocks in taken.items()} == {
            COMMANDS: [b"open an account"],
            CALLS: [b"its first call"],
        }

    pumping(test, dict.fromkeys((CALLS, COMMANDS, *others), 1))


@pytest.mark.parametrize(
    ("bodies", "rest_s"),
    [
        ({CALLS: b"a few"}, CRUMBS_S),
        ({CALLS: b"a few", COMMANDS: b"may it start?"}, URGENT_CRUMBS_S),
        ({CALLS: bytes(CRUMBS_BYTES)}, 0),
        ({COMMANDS: bytes(CRUMBS_BYTES)}, 0),
        ({}, 0),
    ],
)
def test_the_rest_after_a_small_answer_is_short_where_somebody_waits(
    pumping: Any, bodies: dict[Place, bytes], rest_s: float
):
    async def test(broker: Broker, pump: Pump) -> None:
        asked = await broker.until_asked(CALLS)
        asked.give(bodies)
        assert pump._rest_s(await asked.answer) == rest_s

    pumping(test, dict.fromkeys((CALLS, COMMANDS), 1))


def test_a_full_buffer_shortens_the_wait_of_the_others(pumping: Any):
    """Who has room again must not wait out a long one."""

    async def test(broker: Broker, pump: Pump) -> None:
        first = await broker.until_asked(CALLS)
        assert first.wait_ms == IDLE_WAIT_MS
        first.give({CALLS: bytes(100)})
        second = await broker.until_asked(COMMANDS)
        assert (set(second.places), second.wait_ms) == ({COMMANDS}, WAIT_MS)
        assert CALLS in pump.take([CALLS], 1 << 20)

    pumping(test, dict.fromkeys((CALLS, COMMANDS), 1), Sizes(buffer_bytes=100))


def test_each_broker_is_asked_for_its_own_and_a_place_without_a_leader_is_looked_for(pumping: Any):
    lost = Place("account-commands", 1)

    async def test(broker: Broker, _pump: Pump) -> None:
        assert (await broker.until_asked(CALLS)).node == 1
        assert (await broker.until_asked(COMMANDS)).node == 2
        assert broker.refreshed > 0
        assert broker.asking(lost) is None
        broker.nodes[lost] = 3
        assert (await broker.until_asked(lost)).node == 3

    pumping(test, {CALLS: 1, COMMANDS: 2, lost: -1})
