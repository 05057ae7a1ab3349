"""Up to where an answer has seen the logs, and the promise that one client's answers never go back.

A text such as `batch:7:123,cdrs:7:9841,account-commands:7:55`: name, partition, number. `batch` counts a partition's committed batches, the
others are topics and the offset before which everything is in the answer. A client may send one back as X-Rater-At-Least.
"""

import re
import threading
from collections import OrderedDict
from collections.abc import Mapping

CLIENTS_MAX = 10_000  # (token, tenant) pairs remembered; the one not heard of for longest is forgotten first
MARKS_MAX = 32
HEADER, AT_LEAST = "X-Rater-Reflects", "X-Rater-At-Least"
_MARK = re.compile(r"([a-z][a-z0-9-]{0,63}):([0-9]{1,9}):([0-9]{1,18})")

Marks = dict[tuple[str, int], int]


def read_marks(text: str) -> Marks | None:
    """What a client sent back; None for what no answer had."""
    parts = text.split(",")
    found = [_MARK.fullmatch(part.strip()) for part in parts]
    if len(parts) > MARKS_MAX or not all(found):
        return None
    return {(match[1], int(match[2])): int(match[3]) for match in found if match is not None}


def marks_text(marks: Mapping[tuple[str, int], int]) -> str:
    return ",".join(f"{name}:{partition}:{number}" for (name, partition), number in sorted(marks.items()))


def behind(marks: Mapping[tuple[str, int], int], least: Mapping[tuple[str, int], int]) -> bool:
    """Whether an answer would go back behind `least`; names that it does not speak of are none of its business."""
    return any(number < least.get(name, 0) for name, number in marks.items())


class Memory:
    """The furthest that each client was told, tenant by tenant. Of this process: a restart forgets, the header does not."""

    def __init__(self, clients_max: int = CLIENTS_MAX) -> None:
        self._known: OrderedDict[tuple[str, str], Marks] = OrderedDict()
        self._clients_max = clients_max
        self._lock = threading.Lock()

    def least(self, token: str, tenant: str) -> Marks:
        with self._lock:
            return dict(self._known.get((token, tenant), {}))

    def told(self, token: str, tenant: str, marks: Mapping[tuple[str, int], int]) -> None:
        with self._lock:
            known = self._known.pop((token, tenant), {})
            for name, number in marks.items():
                known[name] = max(number, known.get(name, 0))
            self._known[token, tenant] = known
            while len(self._known) > self._clients_max:
                self._known.popitem(last=False)
