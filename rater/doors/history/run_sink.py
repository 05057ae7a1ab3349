"""The sink as a process: signals, and a line now and then about what it did."""

import asyncio
import logging
import signal
from contextlib import AbstractAsyncContextManager

from rater.doors.history.sink import Fed, Sink, Tail
from rater.doors.history.store import Store

TELL_S = 60.0

log = logging.getLogger("rater.history")


def run_sink(store: Store, tail: AbstractAsyncContextManager[tuple[Tail, int]], prefix: str) -> Fed:
    """Until SIGTERM or SIGINT; the transaction under way is finished. Raises `HistoryProblem` and what the tail raises."""
    return asyncio.run(_run(store, tail, prefix))


async def _run(store: Store, opening: AbstractAsyncContextManager[tuple[Tail, int]], prefix: str) -> Fed:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with opening as (tail, partitions):
        sink = Sink(store, tail, prefix, partitions)
        log.info("feeding %s from %s partitions of each topic", store.name, partitions)
        telling = asyncio.ensure_future(_tell(sink))
        try:
            fed = await sink.run(stop)
        finally:
            telling.cancel()
    log.info("stopped: %s calls and %s events added", fed.calls, fed.events)
    return fed


async def _tell(sink: Sink) -> None:
    told = (0, 0)
    while True:
        await asyncio.sleep(TELL_S)
        now = sink.fed.calls, sink.fed.events
        if now != told:
            log.info("%s calls and %s events added in %g s", now[0] - told[0], now[1] - told[1], TELL_S)
            told = now
