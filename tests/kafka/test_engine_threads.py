"""How many threads rate at once, and what they are to the system's scheduler meanwhile."""

import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from rater.doors.kafka.engine_threads import IDLE, NORMAL, EngineThreads
from tests.kafka.scheduling import may_come_back


def scheduling(engine: EngineThreads) -> tuple[int, int]:
    """Of a new thread while it rates, and after that."""

    def rated() -> tuple[int, int]:
        with engine.turn():
            inside = os.sched_getscheduler(0)
        return inside, os.sched_getscheduler(0)

    with ThreadPoolExecutor(1) as threads:
        return threads.submit(rated).result()


def test_threads_give_way_while_they_rate_where_they_are_told_to_and_nobody_else_does() -> None:
    ours = os.sched_getscheduler(0)
    assert scheduling(EngineThreads(1, NORMAL)) == (ours, ours)
    assert scheduling(EngineThreads(1, IDLE)) == (os.SCHED_IDLE if may_come_back() else ours, ours)
    assert os.sched_getscheduler(0) == ours


def test_a_thread_comes_back_also_from_what_failed() -> None:
    engine, ours = EngineThreads(1, IDLE), os.sched_getscheduler(0)

    def failed() -> int:
        with pytest.raises(ZeroDivisionError), engine.turn():
            raise ZeroDivisionError
        return os.sched_getscheduler(0)

    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(failed).result() == ours
        assert threads.submit(failed).result() == ours  # its turn is given back


def test_threads_that_could_not_come_back_do_not_give_way_and_the_operator_is_told_how_to_allow_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ours, schedule = os.sched_getscheduler(0), os.sched_setscheduler

    def as_for_users(pid: int, policy: int, parameters: os.sched_param) -> None:
        if policy != os.SCHED_IDLE:
            raise PermissionError(1, "Operation not permitted")
        schedule(pid, policy, parameters)

    monkeypatch.setattr(os, "sched_setscheduler", as_for_users)
    with caplog.at_level(logging.WARNING):
        engine = EngineThreads(1, IDLE)
    assert "threads that rate do not give way" in caplog.text
    assert "LimitNICE=0" in caplog.text
    assert scheduling(engine) == (ours, ours)
    assert os.sched_getscheduler(0) == ours


def test_so_many_rate_at_once_whichever_threads_they_are() -> None:
    engine, inside, most = EngineThreads(2, NORMAL), 0, 0
    guard, both = threading.Lock(), threading.Barrier(2)

    def rate() -> None:
        nonlocal inside, most
        with engine.turn():
            with guard:
                inside += 1
                most = max(most, inside)
            both.wait(10)  # nobody gets here alone
            with guard:
                inside -= 1

    with ThreadPoolExecutor(6) as threads:
        for done in [threads.submit(rate) for _ in range(6)]:
            done.result()
    assert most == 2
