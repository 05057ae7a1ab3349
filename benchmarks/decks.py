"""Rate decks: how long a large one takes to read and lint, and what one longest-prefix lookup costs."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import Goal, Line, figure, progress
from benchmarks.workload import BEGIN_MS, Shape, calls, write_deck
from rater.core.compiled import kernel
from rater.core.deck import build_deck_set
from rater.core.prefixes import longest_prefix
from rater.core.words import as_buffer
from rater.doors.clock import stopwatch
from rater.doors.decks import lint_deck, load_deck

LOAD_S_MAX = 3.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    prefixes: tuple[int, ...] = (6_000, 200_000)
    numbers: int = 50_000
    runs: int = 3


QUICK = Sizes(numbers=20_000)


@kernel
def look_up_all(nodes: Any, rows: Any, root: Any, buffer: Any, starts: Any, ends: Any, at_ms: Any, found: Any) -> None:
    """The row of every number; the loop is compiled, so that the lookup alone is timed."""
    for k in range(starts.size):
        found[k] = longest_prefix(nodes, rows, root, buffer, starts[k], ends[k], at_ms)


def called_digits(shape: Shape) -> list[bytes]:
    """The digits that the canonical calls go to."""
    found = []
    for line in calls(shape):
        digits = line.partition(b'"callee":"+')[2].partition(b'"')[0]
        if digits:
            found.append(digits)
    return found


def lookup_ns(decks: Any, digits: list[bytes], runs: int) -> tuple[float, int]:
    """Nanoseconds a lookup (best run), and how many numbers had a row."""
    buffer = as_buffer(b"".join(digits))
    ends = np.cumsum([len(number) for number in digits]).astype(np.int64)
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
    found = np.zeros(len(digits), np.int64)
    best = float("inf")
    for _ in range(runs + 1):  # the first one compiles
        seconds = stopwatch()
        look_up_all(decks.nodes, decks.rows, int(decks.heads[0].root), buffer, starts, ends, BEGIN_MS, found)
        best = min(best, seconds())
    return best / len(digits) * 1e9, int(np.count_nonzero(found >= 0))


def run(sizes: Sizes) -> Iterator[Line]:
    digits = called_digits(Shape(calls=sizes.numbers))
    for count in sizes.prefixes:
        progress(f"decks: {count:,} prefixes")
        with tempfile.TemporaryDirectory(prefix="rater-bench-") as name:
            folder = write_deck(Path(name) / "deck", Shape(prefixes=count))
            rows = lint_deck(folder).rows  # compiles what linting needs
            seconds = stopwatch()
            load_deck(folder)  # reads, lints and builds
            spent = seconds()
            deck = load_deck(folder)
        goal = Goal(LOAD_S_MAX) if count >= 200_000 else None
        yield figure("decks", f"load and lint, {count:,} prefixes", spent, "s", goal, rows=rows, version=deck.version)
        decks = build_deck_set([deck])
        spent_ns, rated = lookup_ns(decks, digits, sizes.runs)
        size = {"mib": round((decks.nodes.nbytes + decks.rows.nbytes + decks.texts.nbytes) / 2**20, 1)}
        more = {"numbers": len(digits), "with_a_row": rated}
        yield figure("decks", f"lookup, {count:,} prefixes", spent_ns, "ns", None, **more, **size)
