"""`pipeline.decide`, bytes to bytes: microseconds a record with every rule on, and what a larger state or deck adds.

Every run decides the same calls against a fresh copy of the same books, so nothing is a duplicate by accident and the
digest of the answers must be the same each time; if it moved between two versions, you timed different code. The floor is
`orjson.loads` + `orjson.dumps` of the same lines in the same run: a machine's mood is in both.
"""

import gc
import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import orjson

from benchmarks.report import Goal, Line, figure, progress
from benchmarks.workload import Shape, calls, commands, write_deck
from rater.contract.counts import Counts
from rater.core.accounts import Shelf
from rater.core.payers import Rules
from rater.core.state import State
from rater.doors.clock import stopwatch
from rater.doors.rules import load_rule_book, rates_folder
from rater.pipeline import Batch, Outcome, Records, Workspace, decide, records_of

BUDGET_US = 2.0
GROWTH_MAX = 1.15
BATCH_RECORDS = 5_000
COMMANDS_AT_ONCE = 20_000
CROWD_RUNS = 2  # times as many as of the others: books that no cache holds feel every neighbour of this machine
CHANGED_BY_CALLS = ("accounts", "lots", "pools", "totals")
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


def opened(raws: list[bytes], rules: Rules, state: State | None = None) -> tuple[State, float]:
    """Books with these commands applied, and microseconds each took. Every one has to be applied."""
    state = state or State.empty()
    workspace = Workspace()
    seconds, spent = stopwatch(), 0.0
    for first in range(0, len(raws), COMMANDS_AT_ONCE):
        records = records_of(raws[first : first + COMMANDS_AT_ONCE], first)
        begun = seconds()
        outcome = decide(state, rules, Batch(0, records, NOTHING), workspace)
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


@dataclass(slots=True)
class Work:
    """The same calls to be decided several times, each time against a fresh copy of the same books; and what it took."""

    books: State
    rules: Rules
    batches: list[Records]
    workspace: Workspace = field(default_factory=Workspace)
    runs_s: list[float] = field(default_factory=list)
    batches_s: list[float] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)  # of the last run, as are the next two
    output_bytes: int = 0
    digest: str = ""

    @property
    def records(self) -> int:
        return sum(batch.count for batch in self.batches)

    @property
    def best_us(self) -> float:
        return min(self.runs_s) / self.records * 1e6

    @property
    def median_us(self) -> float:
        return median(self.runs_s) / self.records * 1e6

    def run_once(self) -> None:
        state, counts, spent, written = fresh_copy(self.books), Counts(), 0.0, 0
        streams = [hashlib.blake2b(digest_size=16) for _ in range(3)]
        gc.collect()
        gc.disable()
        for seconds, outcome in _decided(state, self.rules, self.batches, self.workspace):
            spent += seconds
            self.batches_s.append(seconds)
            counts.add(outcome.counts)
            answers: tuple[Sequence[bytes | memoryview], ...] = (outcome.rated, outcome.events, outcome.rejected_cdrs)
            for digest, blocks in zip(streams, answers, strict=True):
                for block in blocks:
                    written += len(block)
                    digest.update(block)
        gc.enable()
        self.runs_s.append(spent)
        self.counts, self.output_bytes = counts, written
        digest_of_all = hashlib.blake2b(b"".join(digest.digest() for digest in streams), digest_size=16).hexdigest()
        if self.digest not in ("", digest_of_all):
            raise RuntimeError(f"the same calls against the same books gave {self.digest} and then {digest_of_all}")
        self.digest = digest_of_all


def _decided(
    state: State, rules: Rules, batches: list[Records], workspace: Workspace
) -> Iterator[tuple[float, Outcome]]:
    """(seconds, outcome) of each batch; what the caller does with it is not counted."""
    seconds = stopwatch()
    for batch in batches:
        begun = seconds()
        outcome = decide(state, rules, Batch(0, NOTHING, batch), workspace)
        state.committed()
        yield seconds() - begun, outcome


def timed(books: State, rules: Rules, lines: list[bytes], size: int, runs: int) -> Work:
    """Decide the calls `runs` times."""
    work = Work(books, rules, cut(lines, size))
    in_turns([work], runs)
    return work


def in_turns(works: list[Work], runs: int) -> None:
    """A run of each, then the next run of each: what disturbs the machine disturbs all of them alike."""
    for _ in range(runs):
        for work in works:
            work.run_once()


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True


def floor_us(lines: list[bytes], runs: int) -> float:
    """Reading and writing the same lines with the fastest JSON library and nothing in between."""
    readable = [line for line in lines if _is_json(line)]
    best = float("inf")
    gc.disable()
    for _ in range(runs):
        seconds = stopwatch()
        for line in readable:
            orjson.dumps(orjson.loads(line))
        best = min(best, seconds())
    gc.enable()
    return best / len(readable) * 1e6


def rate_lines(name: str, work: Work, goal: Goal | None, **more: Any) -> list[Line]:
    best = figure("engine", f"{name}, best run", work.best_us, "us/record", goal, runs=len(work.runs_s), **more)
    return [
        best | {"records_per_s": round(1e6 / work.best_us), "digest": work.digest},
        figure("engine", f"{name}, median run", work.median_us, "us/record", None, **more),
    ]


def canonical_lines(sizes: Sizes, work: Work, lines: list[bytes]) -> list[Line]:
    """The canonical workload: the figure of figures, and what it is held against."""
    floor = floor_us(lines, sizes.runs)
    size = {"tenants": sizes.tenants, "prefixes": sizes.prefixes, "batch": BATCH_RECORDS}
    found = rate_lines("canonical", work, Goal(BUDGET_US), **size)
    counts = work.counts.by_outcome | {"duplicates": work.counts.duplicates, "rejected": work.counts.rejected}
    shares = {name: round(count / work.records, 4) for name, count in counts.items()}
    return [
        *found,
        figure("engine", "floor: orjson loads + dumps", floor, "us/record"),
        figure("engine", "canonical / floor", work.best_us / floor, "ratio"),
        figure("engine", "input", sum(map(len, lines)) / len(lines), "bytes/record"),
        figure("engine", "output", work.output_bytes / work.records, "bytes/record"),
        figure("engine", "events", work.counts.events / work.records * 1000, "per 1000 records", None, **shares),
    ]


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
    """Every figure of the engine; the later ones are the canonical one with one thing made larger, measured in turns."""
    shape = Shape(tenants=sizes.tenants, prefixes=sizes.prefixes, calls=sizes.calls)
    progress("engine: opening tenants and writing calls")
    opening = commands(shape)
    rules, lines = rules_for(shape), calls(shape)
    opened(opening[:1000], rules)  # compiles
    state, command_us = opened(opening, rules)
    timed(state, rules, lines[:20_000], BATCH_RECORDS, 1)
    canonical = Work(state, rules, cut(lines, BATCH_RECORDS))
    other = Work(state, rules, cut(calls(shape.with_(other_key_order=True)), BATCH_RECORDS))
    many = Work(state, rules_for(shape.with_(prefixes=sizes.prefixes_many)), canonical.batches)
    progress("engine: deciding")
    in_turns([canonical, other, many], sizes.runs)
    yield from canonical_lines(sizes, canonical, lines)
    yield figure("engine", "commands", command_us, "us/command", None, commands=len(opening))
    yield from rate_lines("other key order and spaces", other, None)[:1]
    yield figure("engine", "other key order / canonical", other.best_us / canonical.best_us, "ratio")
    yield from rate_lines("many prefixes", many, None, prefixes=sizes.prefixes_many)[:1]
    yield figure("engine", "many prefixes / canonical", many.best_us / canonical.best_us, "ratio", Goal(GROWTH_MAX))
    yield from batch_lines(sizes, state, rules, lines)
    progress("engine: many tenants")
    yield from crowd_lines(sizes, shape, canonical)
    yield from memory_lines(sizes)


def crowd_lines(sizes: Sizes, shape: Shape, canonical: Work) -> Iterator[Line]:
    """Books of many more tenants: traffic spread over all of them, and the canonical traffic in the large books."""
    wide = shape.with_(tenants=sizes.tenants_many)
    books, _ = opened(commands(wide, sizes.tenants), canonical.rules, deepcopy(canonical.books))
    again = Work(canonical.books, canonical.rules, canonical.batches)
    crowd = Work(books, canonical.rules, cut(calls(wide), BATCH_RECORDS))
    same = Work(books, canonical.rules, canonical.batches)
    in_turns([again, crowd, same], CROWD_RUNS * sizes.runs)
    yield from rate_lines("many tenants", crowd, None, tenants=sizes.tenants_many)[:1]
    yield figure("engine", "many tenants / canonical", crowd.best_us / again.best_us, "ratio", Goal(GROWTH_MAX))
    more = {"of": f"the canonical calls in books of {sizes.tenants_many:,} tenants"}
    yield figure("engine", "many tenants, same calls / canonical", same.best_us / again.best_us, "ratio", None, **more)
