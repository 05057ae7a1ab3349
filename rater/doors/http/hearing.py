"""What the API does with what it hears from the log: the engine's word on questions, and the reasons of commands it refused.

Events are told to whoever waits. A line of `rejected-commands` is looked into only if the command in it is one of an API token's; if it is
one of this API's file, the reason goes into its row. After a restart the lines since the oldest command without an end are heard again.
"""

import asyncio
import logging
from base64 import b64decode
from collections.abc import Callable, Sequence
from typing import Any

import orjson
from starlette.concurrency import run_in_threadpool

from rater.doors.http.asked import AUTHORIZE_COMMAND
from rater.doors.http.authorizing import Waiting
from rater.doors.http.ledger import Ledger, public_id
from rater.doors.listening import EVENTS, Heard

OURS = b"(api token "  # in `by` of every command that came through an API
AGAIN_MS = 10_000  # of events: answers to what was asked before a connection was lost
LATE_MS = 300_000  # of rejections: clocks of brokers and of this machine may differ
LOOK_BACK_MS = 24 * 3_600_000
WRITING_MAX = 1_000

log = logging.getLogger("rater.api")


class Hearing:
    """See `listening.Listener`."""

    def __init__(self, waiting: Waiting, ledger: Ledger, now_ms: Callable[[], int]) -> None:
        self._waiting, self._ledger, self._now_ms = waiting, ledger, now_ms
        self._writing: set[asyncio.Task[None]] = set()

    def since_ms(self, topic: str) -> int:
        now_ms = self._now_ms()
        if topic == EVENTS:
            return now_ms - AGAIN_MS
        oldest = self._ledger.unexplained_since(now_ms - LOOK_BACK_MS)
        return (now_ms if oldest is None else oldest) - LATE_MS

    def mark(self, topic: str) -> bytes:
        return self._waiting.mark if topic == EVENTS else b"raw_b64"

    def hear(self, topic: str, heard: Sequence[Heard]) -> None:
        for one in heard:
            if topic == EVENTS:
                self._waiting.tell(one.value)
            else:
                self._rejected(one.value)

    def _rejected(self, value: bytes) -> None:
        try:
            line = orjson.loads(value)
            body = b64decode(line["raw_b64"])
            if OURS not in body:
                return
            command, (part, place) = orjson.loads(body), line["input"]
            kind, tenant, command_id = (_text(command[name]) for name in ("type", "tenant", "command_id"))
            reason, detail = (_text(line[name]) for name in ("reason", "detail"))
        except (ValueError, KeyError, TypeError):
            return  # somebody else's: no command of ours has such bytes
        if kind == AUTHORIZE_COMMAND:
            self._waiting.refuse(tenant, command_id, reason, detail)
        elif len(self._writing) < WRITING_MAX:
            told = f"{reason}: {detail}" if detail else str(reason)
            task = asyncio.ensure_future(self._explain(public_id(tenant, command_id), body, part, place, told))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    async def _explain(self, public: str, body: bytes, *told: Any) -> None:
        try:
            if await run_in_threadpool(self._ledger.explain, public, body, *told):
                log.info(
                    "a command was rejected, and why is known", extra={"event": "command", "reason": told[-1][:100]}
                )
        except Exception as problem:  # the file cannot be written: the reason is heard again after the next start
            log.error(
                "why a command was rejected could not be kept: %s", type(problem).__name__, extra={"event": "command"}
            )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("expected a text")
    return value
