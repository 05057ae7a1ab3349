"""How a process by Faust ends."""

import asyncio
import logging
from typing import Any

import pytest

from rater.doors import faust_process
from rater.doors.faust_process import LAST_TURNS_S, Process


async def nothing(*_: Any) -> None:
    """All futures of this process have ended."""


def test_a_process_ends_with_its_services_and_not_a_second_later(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    process: Any = Process.__new__(Process)
    process.loop, process.log, process._crash_reason = asyncio.new_event_loop(), logging.getLogger("test"), None
    monkeypatch.setattr(Process, "_gather_futures", nothing)
    monkeypatch.setattr(faust_process.asyncio, "sleep", sleep)
    process._shutdown_loop()  # mode's own: the last thing it does is what is ours
    assert slept == [LAST_TURNS_S]
    assert process.loop.is_closed()
