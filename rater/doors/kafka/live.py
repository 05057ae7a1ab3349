"""The page on which a worker answers for the accounts of its partitions: the committed state, and up to where it goes.

It is for `rater api`, not for people: whoever may ask it may ask about every tenant, so it asks for the secret that both know, and
without one it answers only on this machine. A batch on its way is waited for; nothing uncommitted is ever shown.
"""

import asyncio
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from rater.core.hashing import KIND_COMMAND, identity
from rater.core.seen import NEW, SAME, entry_of, place_of, verdict
from rater.core.state import State
from rater.core.words import as_buffer
from rater.doors.accounts import account_object, account_row
from rater.doors.kafka.partitioning import partition_of
from rater.doors.kafka.snapshot import Base
from rater.doors.kafka.task import PartitionTask
from rater.doors.rules import RuleBook
from rater.doors.settings.connection import is_loopback
from rater.doors.settings.secret import Secret

WAIT_S = 5.0  # for the batch on its way; a partition that restores takes longer, and is not waited for
ASKING_MAX = 64  # at once: questions wait in memory
COMMAND_ID_MAX = 128


class Tasks(Protocol):
    """What a crew knows of its tasks."""

    def task(self, partition: int) -> PartitionTask | None: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """One question. `command_id` with `content` (what a command says, `contract.commands.content_of`): was it applied?"""

    tenant: str
    command_id: str | None = None
    content: int | None = None


Reply = tuple[int, dict[str, Any]]  # HTTP status and object


def command_verdict(state: State, account: int, command_id: str, content: int) -> str:
    """`applied` (this very command), `conflict` (another one has its id), `unknown` (refused, or not read yet)."""
    name = command_id.encode()
    high, low = identity(state.key[0], state.key[1], KIND_COMMAND, account, as_buffer(name), 0, len(name))
    first, second = entry_of(np.uint64(high), np.uint64(low), np.uint64(content))
    slot = place_of(state.seen, np.uint64(first), np.uint64(second))
    found = int(verdict(state.seen, slot, np.uint64(second)))
    return {NEW: "unknown", SAME: "applied"}.get(found, "conflict")


def seen_by(base: Base, book: RuleBook, asked: Asked) -> Reply:
    """The answer of a committed state."""
    mark = base.watermark
    told: dict[str, Any] = {
        "reflects": {
            "partition": mark.partition,
            "batch": mark.batch,
            "next_cdr": mark.next_cdr,
            "next_command": mark.next_command,
        }
    }
    row = account_row(base.state, asked.tenant)
    if asked.command_id is not None and asked.content is not None:
        told["command"] = "unknown" if row < 0 else command_verdict(base.state, row, asked.command_id, asked.content)
    if row < 0:
        return 404, told
    return 200, told | {"account": account_object(base.state, row, book.rules.plans)}


class LivePage:
    """Answers `/live/{tenant}`. `open` gives it the crew, once there is one."""

    def __init__(self, secret: Secret | None, web_host: str, wait_s: float = WAIT_S) -> None:
        self._secret, self._alone = secret, is_loopback(web_host)
        self._wait_s = wait_s
        self._crew: Tasks | None = None
        self._partitions = 0
        self._asking = 0

    def open(self, crew: Tasks, partitions: int) -> None:
        self._crew, self._partitions = crew, partitions

    async def answer(self, tenant: str, authorization: str, query: Mapping[str, str]) -> Reply:
        if not self._trusts(authorization):
            return 401, {"detail": "expected the internal secret of this deployment (RATER_INTERNAL_SECRET_FILE)"}
        asked = _read(tenant, query)
        if asked is None:
            return 400, {"detail": "command_id and content go together: an id, and a whole number below 2^64"}
        if self._crew is None:
            return 503, {"detail": "this worker has not joined its group yet"}
        partition = partition_of(tenant.encode(), self._partitions)
        task = self._crew.task(partition)
        if task is None:
            return 421, {"detail": f"partition {partition} is another worker's", "partition": partition}
        if self._asking >= ASKING_MAX:
            return 503, {"detail": f"{ASKING_MAX} questions wait already"}
        return await self._ask(task, asked)

    async def _ask(self, task: PartitionTask, asked: Asked) -> Reply:
        self._asking += 1
        try:
            async with asyncio.timeout(self._wait_s):
                return await task.look(lambda base, book: seen_by(base, book, asked))
        except TimeoutError:
            return 503, {"detail": f"partition {task.partition} is not being rated now", "partition": task.partition}
        finally:
            self._asking -= 1

    def _trusts(self, authorization: str) -> bool:
        if self._secret is None:
            return self._alone
        return hmac.compare_digest(authorization.encode("utf-8", "replace"), f"Bearer {self._secret.reveal()}".encode())


def _read(tenant: str, query: Mapping[str, str]) -> Asked | None:
    command_id, content = query.get("command_id"), query.get("content")
    if command_id is None and content is None:
        return Asked(tenant)
    if command_id is None or content is None or not 1 <= len(command_id.encode("utf-8", "replace")) <= COMMAND_ID_MAX:
        return None
    if not (content.isascii() and content.isdigit() and len(content) <= 20 and int(content) < 1 << 64):
        return None
    return Asked(tenant, command_id, int(content))


def warm() -> None:
    """Compile what a first question would, before anything is rated."""
    state = State.empty()
    account_row(state, "warm")
    command_verdict(state, 0, "warm", 0)
