"""The clock of a floor or a peer: from its first record to its last commit, and the second half of the records apart."""

import json
import os
import time

import orjson


def through(value: bytes) -> bytes:
    """The job of each: decoded and encoded; what nobody can read goes on as it is."""
    try:
        return orjson.dumps(orjson.loads(value))
    except orjson.JSONDecodeError:
        return value


class Clock:
    """Wall and CPU (every thread of the process) of `records` records."""

    def __init__(self, records: int) -> None:
        self.records = records
        self._marks: list[tuple[int, float, float]] = []
        self._done = 0

    def begin(self) -> None:
        """The first records are at hand; later calls say nothing new."""
        if not self._marks:
            self._mark()

    def note(self, done: int) -> bool:
        """So many more are committed (or handled); whether that is enough."""
        self._done += done
        if len(self._marks) == 1 and self._done >= self.records / 2:
            self._mark()
        return self._done >= self.records

    def _mark(self) -> None:
        self._marks.append((self._done, time.perf_counter(), time.process_time()))

    def report(self) -> None:
        """One JSON object on standard output."""
        self._mark()
        first, half, last = self._marks
        said = {
            "records": last[0],
            **_took("", first, last),
            "warm_records": last[0] - half[0],
            **_took("warm_", half, last),
        }
        os.write(1, json.dumps(said).encode() + b"\n")  # Faust takes `sys.stdout` for its log


def _took(name: str, since: tuple[int, float, float], until: tuple[int, float, float]) -> dict[str, float]:
    count = max(until[0] - since[0], 1)
    return {f"{name}us_wall": (until[1] - since[1]) / count * 1e6, f"{name}us_cpu": (until[2] - since[2]) / count * 1e6}
