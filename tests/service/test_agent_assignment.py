# ruff: noqa: ARG002  # stand-ins have the signatures of what they stand for
"""What happens around an assignment, step by step: nothing is handed out that nobody holds, and nothing old counts for the new."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rater.doors.service.agent_log import AgentLog, Delivery, TopicPartition
from rater.doors.settings.agent import AgentSettings
from rater.doors.settings.connection import Connection

PLACE, OTHER = TopicPartition("account-events", 0), TopicPartition("account-events", 1)


@dataclass
class Consumer:
    """As much of aiokafka's as the log uses, with what it did, in order."""

    fetched: dict[TopicPartition, list[Any]] = field(default_factory=dict)
    did: list[str] = field(default_factory=list)
    offsets: dict[TopicPartition, int] = field(default_factory=dict)

    def pause(self, *places: TopicPartition) -> None:
        self.did.append("pause")

    def resume(self, *places: TopicPartition) -> None:
        self.did.append("resume")

    async def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        self.did.append("await")
        return dict.fromkeys(places, 100)

    async def offsets_for_times(self, wanted: dict[TopicPartition, int]) -> dict[TopicPartition, Any]:
        return {place: SimpleNamespace(offset=begin) for place, begin in wanted.items()}

    async def committed(self, place: TopicPartition) -> int | None:
        return 50

    def seek(self, place: TopicPartition, offset: int) -> None:
        self.did.append(f"seek {offset}")

    async def getmany(self, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        found, self.fetched = self.fetched, {}
        return found

    async def position(self, place: TopicPartition) -> int:
        return 0

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        self.offsets |= offsets


class Reader:
    """Takes; `on_take` may do something in between, as a rebalance does."""

    def __init__(self, begin: int | None = None) -> None:
        self.taken: list[Delivery] = []
        self.begin = begin
        self.on_take: Any = None

    def begin_at_ms(self, _partition: TopicPartition) -> int | None:
        return self.begin

    async def assigned(self, _partitions: frozenset[TopicPartition]) -> None: ...

    async def caught_up(self, _partitions: frozenset[TopicPartition]) -> None: ...

    async def revoked(self, _partitions: frozenset[TopicPartition]) -> None: ...

    async def take(self, delivery: Delivery) -> None:
        self.taken.append(delivery)
        if self.on_take is not None:
            act, self.on_take = self.on_take, None
            await act()


def record(offset: int) -> Any:
    return SimpleNamespace(offset=offset, key=b"acme", value=b"x", headers=(), timestamp=0)


def make(folder: Path, reader: Reader) -> tuple[AgentLog, Consumer]:
    settings = AgentSettings(
        agent="recharge",
        app_id="x",
        connection=Connection(bootstrap_servers=("127.0.0.1:1",)),
        state_dir=folder,
        web_port=1,
    )
    log, consumer = AgentLog(settings, ["account-events"], reader), Consumer()
    log._consumer = consumer
    return log, consumer


def test_fetching_waits_from_the_first_moment_of_an_assignment_to_its_last(tmp_path: Path):
    log, consumer = make(tmp_path, Reader(begin=20))
    asyncio.run(log.on_partitions_assigned([PLACE]))
    assert consumer.did == ["pause", "await", "seek 20", "resume"]


def test_what_was_fetched_for_an_assignment_that_is_over_is_not_taken_and_hides_nothing(tmp_path: Path):
    reader = Reader()
    log, consumer = make(tmp_path, reader)

    async def scene() -> None:
        await log.on_partitions_assigned([PLACE, OTHER])
        consumer.fetched = {PLACE: [record(5), record(6)], OTHER: [record(8)]}

        async def rebalance() -> None:
            await log.on_partitions_revoked([PLACE, OTHER])
            await log.on_partitions_assigned([PLACE, OTHER])

        reader.on_take = rebalance
        await log._turn()
        assert [(delivery.partition, delivery.offset) for delivery in reader.taken] == [(0, 5)]
        consumer.fetched = {PLACE: [record(5), record(6)], OTHER: [record(8)]}
        await log._turn()
        reader.taken[0].acknowledge()  # of the assignment that is over: says nothing about this one
        for delivery in reader.taken[2:]:
            delivery.acknowledge()
        await log.commit()

    asyncio.run(scene())
    assert [(delivery.partition, delivery.offset) for delivery in reader.taken[1:]] == [(0, 5), (0, 6), (1, 8)]
    assert consumer.offsets.get(PLACE) == 5


def test_what_is_read_again_never_sets_the_groups_offset_back(tmp_path: Path):
    reader = Reader(begin=20)
    log, consumer = make(tmp_path, reader)

    async def scene() -> None:
        await log.on_partitions_assigned([PLACE])
        consumer.fetched = {PLACE: [record(offset) for offset in range(20, 60)]}
        await log._turn()
        for delivery in reader.taken[:30]:
            delivery.acknowledge()
        await log.commit()
        assert consumer.offsets == {}
        for delivery in reader.taken[30:35]:
            delivery.acknowledge()
        await log.commit()

    asyncio.run(scene())
    assert consumer.offsets == {PLACE: 55}
