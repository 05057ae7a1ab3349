"""What the threads that rate are to the system's scheduler."""

import logging
import os

import pytest

from rater.doors.kafka.engine_threads import IDLE, NORMAL, engine_threads


def scheduling_inside(scheduling: str) -> int:
    threads = engine_threads(1, scheduling)
    try:
        return threads.submit(os.sched_getscheduler, 0).result()
    finally:
        threads.shutdown()


def test_threads_that_rate_give_way_where_they_are_told_to_and_nobody_else_does() -> None:
    ours = os.sched_getscheduler(0)
    assert scheduling_inside(NORMAL) == ours
    assert scheduling_inside(IDLE) == os.SCHED_IDLE
    assert os.sched_getscheduler(0) == ours


def test_threads_that_may_not_give_way_rate_all_the_same_and_say_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refused)
    with caplog.at_level(logging.WARNING):
        assert scheduling_inside(IDLE) == os.sched_getscheduler(0)
    assert "threads that rate do not give way" in caplog.text
