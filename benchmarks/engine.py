"""`pipeline.decide`, bytes to bytes: microseconds a record with every rule on, and what a larger state or deck adds.

Every run decides the same calls against a fresh copy of the same books, so nothing is a duplicate by accident and the
digest of the answers must be the same each time; if it moved between two versions, you timed different code. The floor is
`orjson.loads` + `orjson.dumps` of the same lines in the same run: a machine's mood is in both.
"""

import gc
import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import orjson

from benchmarks.report import Goal, Line, figure, progress
from benchmarks.workload import Shape, calls, commands, write_deck
from rater.core.accounts import Shelf
from rater.core.payers import Rules
from rater.core.state import State
from rater.doors.clock import stopwatch
from rater.doors.rules import load_rule_book, rates_folder
from rater.pipeline import Batch, Records, Workspace, decide, records_of

BUDGET_US = 2.0
GROWTH_MAX = 1.15
BATCH_RECORDS = 5_000
COMMANDS_AT_ONCE = 20_000
CHANGED_BY_CALLS = ("accounts", "lots", "pools")
PLANS = rates_folder() / "plans" / "calling-plans.csv"

NOTHING = records_of([])


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    calls: int = 200_000
    runs: int = 5
    prefixes: int = 6_000
    prefixes_many: int = 200_000
    tenants: int = 10_000
    tenants_many: int = 1_000_000
    ids: tuple[int, ...] = (1_000_000, 3_000_000, 10_000_000)


QUICK = Sizes(calls=100_000, tenants_many=100_000, ids=(1_000_000, 3_000_000))


@dataclass(frozen=True, slots=True)
class Timing:
    """One way of deciding the same calls: seconds of every run and of every batch, and what came out."""

    records: int
    runs_s: list[float]
    batches_s: list[float]
    output_bytes: int
    digest: str
    by_outcome: dict[str, int]
    duplicates: int
    rejected: int
    events: int

    @property
    def best_us(self) -> float:
        return min(self.runs_s) / self.records * 1e6

    @property
    def median_us(self) -> float:
        return median(self.runs_s) / self.records * 1e6


def opened(raws: list[bytes], state: State | None = None) -> tuple[State, float]:
    """Books with these commands applied, and microseconds each took. Every one has to be applied."""
    state = state or State.empty()
    workspace, rules = Workspace(), None
    seconds, spent = stopwatch(), 0.0
    for first in range(0, len(raws), COMMANDS_AT_ONCE):
        records = records_of(raws[first : first + COMMANDS_AT_ONCE], first)
        begun = seconds()
        outcome = decide(state, rules, Batch(0, records, NOTHING), workspace)  # type: ignore[arg-type]  # no call, no rule
        spent += seconds() - begun
        state.committed()
        if outcome.counts.commands != records.count:
            raise RuntimeError(
                f"{records.count - outcome.counts.commands} commands refused: {outcome.rejected_commands[:1]}"
            )
    return state, spent / max(len(raws), 1) * 1e6


def rules_for(shape: Shape) -> Rules:
    with tempfile.TemporaryDirectory(prefix="rater-bench-") as folder:
        return load_rule_book(write_deck(Path(folder) / "deck", shape), PLANS).rules


def _copied(shelf: Shelf) -> Shelf:
    return Shelf(*(array.copy() for array in shelf))


def fresh_copy(state: State) -> State:
    """The books as they were; what no call changes is shared."""
    shelves = {name: _copied(shelf) if name in CHANGED_BY_CALLS else shelf for name, shelf in state.shelves.items()}
    return State(
        state.key.copy(), shelves, state.seen.copy(), state.fresh.copy(), state.seen_tally.copy(), state.scratch.copy()
    )


def cut(lines: list[bytes], size: int) -> list[Records]:
    """Batches as a door hands them over: one buffer each."""
    return [records_of(lines[k : k + size], k) for k in range(0, len(lines), size)]


def _decided(state: State, rules: Rules, batches: list[Records], workspace: Workspace) -> Iterator[tuple[float, Any]]:
    """(seconds, outcome) of each batch; what the caller does with it is not counted."""
    seconds = stopwatch()
    for batch in batches:
        begun = seconds()
        outcome = decide(state, rules, Batch(0, NOTHING, batch), workspace)
        state.committed()
        yield seconds() - begun, outcome


def timed(books: State, rules: Rules, lines: list[bytes], size: int, runs: int) -> Timing:
    """Decide the calls `runs` times, each time against the same books."""
    batches, workspace = cut(lines, size), Workspace()
    runs_s: list[float] = []
    batches_s: list[float] = []
    digests = set()
    for _ in range(runs):
        state = fresh_copy(books)
        spent, written, digest = 0.0, 0, hashlib.blake2b(digest_size=16)
        by_outcome: dict[str, int] = {}
        duplicates = rejected = events = 0
        gc.collect()
        gc.disable()
        for seconds, outcome in _decided(state, rules, batches, workspace):
            spent += seconds
            batches_s.append(seconds)
            for block in [*outcome.rated, *outcome.events, *outcome.rejected_cdrs]:
                written += len(block)
                digest.update(block)
            for name, count in outcome.counts.by_outcome.items():
                by_outcome[name] = by_outcome.get(name, 0) + count
            duplicates += outcome.counts.duplicates
            rejected += outcome.counts.rejected
            events += outcome.counts.events
        gc.enable()
        runs_s.append(spent)
        digests.add(digest.hexdigest())
    if len(digests) != 1:
        raise RuntimeError(f"the same calls against the same books gave {len(digests)} different outputs")
    return Timing(len(lines), runs_s, batches_s, written, digests.pop(), by_outcome, duplicates, rejected, events)


def floor_us(lines: list[bytes], runs: int) -> float:
    """Reading and writing the same lines with the fastest JSON library and nothing in between."""
    best = float("inf")
    gc.disable()
    for _ in range(runs):
        seconds = stopwatch()
        for line in lines:
            try:
                orjson.dumps(orjson.loads(line))
            except orjson.JSONDecodeError:
                pass
        best = min(best, seconds())
    gc.enable()
    return best / len(lines) * 1e6


def rate_lines(name: str, timing: Timing, goal: Goal | None, **more: Any) -> list[Line]:
    best = figure("engine", f"{name}, best run", timing.best_us, "us/record", goal, runs=len(timing.runs_s), **more)
    return [
        best | {"records_per_s": round(1e6 / timing.best_us), "digest": timing.digest},
        figure("engine", f"{name}, median run", timing.median_us, "us/record", None, **more),
    ]


def canonical_lines(sizes: Sizes, state: State, rules: Rules, lines: list[bytes]) -> tuple[list[Line], Timing]:
    """The canonical workload: the figure of figures, and what it is held against."""
    timing = timed(state, rules, lines, BATCH_RECORDS, sizes.runs)
    floor = floor_us(lines, sizes.runs)
    found = rate_lines(
        "canonical", timing, Goal(BUDGET_US), tenants=sizes.tenants, prefixes=sizes.prefixes, batch=BATCH_RECORDS
    )
    shares = {name: round(count / timing.records, 4) for name, count in timing.by_outcome.items()}
    shares |= {
        "duplicates": round(timing.duplicates / timing.records, 4),
        "rejected": round(timing.rejected / timing.records, 4),
    }
    found += [
        figure("engine", "floor: orjson loads + dumps", floor, "us/record"),
        figure("engine", "canonical / floor", timing.best_us / floor, "ratio"),
        figure("engine", "input", sum(map(len, lines)) / len(lines), "bytes/record"),
        figure("engine", "output", timing.output_bytes / timing.records, "bytes/record"),
        figure("engine", "events", timing.events / timing.records * 1000, "per 1000 records", None, **shares),
    ]
    return found, timing


def batch_lines(sizes: Sizes, state: State, rules: Rules, lines: list[bytes]) -> Iterator[Line]:
    for size in (1_000, 5_000, 50_000):
        timing = timed(state, rules, lines, size, sizes.runs)
        p99 = float(np.quantile(np.array(timing.batches_s), 0.99)) * 1000
        more = {"batch": size, "batches": len(timing.batches_s), "us_per_record": round(timing.best_us, 3)}
        yield figure("engine", f"batch of {size:,}, p99", p99, "ms", None, **more)


def memory_lines(sizes: Sizes) -> Iterator[Line]:
    """Bytes an id in the de-duplication set, filled as a restore fills it."""
    draw = np.random.Generator(np.random.PCG64(7))
    for count in sizes.ids:
        state = State.empty()
        seconds = stopwatch()
        state.restore_seen(draw.integers(1, 2**64 - 1, (count, 2), np.uint64))
        more = {"ids": count, "mib": round(state.seen_bytes() / 2**20, 1), "restore_s": round(seconds(), 2)}
        yield figure(
            "engine", f"ids seen, {count / 1e6:g} million", state.seen_bytes() / count, "bytes/id", None, **more
        )


def run(sizes: Sizes) -> Iterator[Line]:
    """Every figure of the engine; the later ones are the earlier ones with one thing made larger."""
    shape = Shape(tenants=sizes.tenants, prefixes=sizes.prefixes, calls=sizes.calls)
    progress("engine: opening tenants and writing calls")
    opening = commands(shape)
    rules, lines = rules_for(shape), calls(shape)
    opened(opening[:1000])  # compiles
    state, command_us = opened(opening)
    timed(state, rules, lines[:20_000], BATCH_RECORDS, 1)
    found, canonical = canonical_lines(sizes, state, rules, lines)
    yield from found
    yield figure("engine", "commands", command_us, "us/command", None, commands=len(opening))
    other = timed(state, rules, calls(shape.with_(other_key_order=True)), BATCH_RECORDS, sizes.runs)
    yield from rate_lines("other key order and spaces", other, None)[:1]
    yield figure("engine", "other key order / canonical", other.best_us / canonical.best_us, "ratio")
    yield from batch_lines(sizes, state, rules, lines)
    progress("engine: the large deck")
    large = rules_for(shape.with_(prefixes=sizes.prefixes_many))
    many = timed(state, large, lines, BATCH_RECORDS, sizes.runs)
    again = timed(state, rules, lines, BATCH_RECORDS, sizes.runs)
    yield from rate_lines("many prefixes", many, None, prefixes=sizes.prefixes_many)[:1]
    yield figure("engine", "many prefixes / canonical", many.best_us / again.best_us, "ratio", Goal(GROWTH_MAX))
    progress("engine: many tenants")
    wide = shape.with_(tenants=sizes.tenants_many)
    state, _ = opened(commands(wide, sizes.tenants), state)
    crowd = timed(state, rules, calls(wide), BATCH_RECORDS, sizes.runs)
    same = timed(state, rules, lines, BATCH_RECORDS, sizes.runs)
    yield from rate_lines("many tenants", crowd, None, tenants=sizes.tenants_many)[:1]
    yield figure("engine", "many tenants / canonical", crowd.best_us / again.best_us, "ratio", Goal(GROWTH_MAX))
    more = {"of": f"the canonical calls in books of {sizes.tenants_many:,} tenants"}
    yield figure("engine", "many tenants, same calls / canonical", same.best_us / again.best_us, "ratio", None, **more)
    yield from memory_lines(sizes)
