"""An agent for tests: it publishes each account event it reads, and acknowledges it; a value `hold` waits for a file in between.

`python -m tests.service.echo` with RATER_* and ECHO_FOLDER set; its settings are the common ones of the recharge agent.
"""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from rater.doors.service.agent_app import Page, run_agent
from rater.doors.service.agent_log import AgentLog, Delivery, TopicPartition
from rater.doors.settings.agent import load_agent_settings


class Echo:
    """Publishes what it reads to `account-commands`; a value `hold` is acknowledged only when the file `release` is there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: set[asyncio.Task[None]] = set()

    async def start(self, agent_log: AgentLog) -> None:
        self._log = agent_log

    async def stop(self) -> None:
        for task in self._held:
            task.cancel()

    def pages(self) -> Mapping[str, Page]:
        return {"/posted": self._posted}

    async def _posted(self, view: object, request: object) -> object:
        return view.json({"method": request.method, "bytes": len(await request.read())})  # type: ignore[attr-defined]

    def unhealthy(self) -> str:
        return ""

    async def assigned(self, partitions: frozenset[TopicPartition]) -> None:
        self._note("assigned", sorted(place.partition for place in partitions))

    async def caught_up(self, partitions: frozenset[TopicPartition]) -> None:
        self._note("caught-up", sorted(place.partition for place in partitions))

    async def revoked(self, partitions: frozenset[TopicPartition]) -> None:
        self._note("revoked", sorted(place.partition for place in partitions))

    def begin_at_ms(self, partition: TopicPartition) -> int | None:  # noqa: ARG002
        return None

    async def take(self, delivery: Delivery) -> None:
        if delivery.value == b"die":
            raise RuntimeError("told to die")
        task = asyncio.create_task(self._effect(delivery))
        self._held.add(task)
        task.add_done_callback(self._held.discard)

    async def _effect(self, delivery: Delivery) -> None:
        while delivery.value == b"hold" and not (self._folder / "release").exists():
            await asyncio.sleep(0.05)
        tenant = (delivery.key or b"nobody").decode()
        value = f"{delivery.partition}/{delivery.offset}:{(delivery.value or b'').decode()}".encode()
        await self._log.publish("account-commands", tenant, value, {"from": b"echo"})
        delivery.acknowledge()

    def _note(self, what: str, partitions: list[int]) -> None:
        with (self._folder / "notes").open("a") as notes:
            notes.write(f"{what} {partitions}\n")


def main() -> None:
    settings, _ = load_agent_settings("recharge", {})
    folder = Path(os.environ["ECHO_FOLDER"])
    folder.mkdir(parents=True, exist_ok=True)
    run_agent(settings, ["account-events"], Echo(folder))


if __name__ == "__main__":
    main()
