"""`rater rate` as a whole process: files in, committed files out, start-up included.

The floor is a process that reads the same lines, decodes and encodes each, and makes what it writes durable: what any
program that understands JSON has to do, without rating anything. A start is measured on one call: cold with an empty
cache (everything is compiled), warm as the second start on a machine.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import orjson

from benchmarks.report import Goal, Line, figure, progress
from benchmarks.workload import Shape, calls, commands, tenant_name, write_deck
from rater.doors.clock import stopwatch
from rater.doors.files.outputs import OUTPUTS
from rater.doors.rules import rates_folder

CALLS_PER_S_MIN = 200_000
COLD_S_MAX, WARM_S_MAX = 30.0, 1.5
PLANS = rates_folder() / "plans" / "calling-plans.csv"

FLOOR = """
import os, sys, orjson
with open(sys.argv[1], "rb") as calls, open(sys.argv[2], "wb", 1 << 20) as out:
    for line in calls:
        try:
            out.write(orjson.dumps(orjson.loads(line), option=orjson.OPT_APPEND_NEWLINE))
        except orjson.JSONDecodeError:
            pass
    out.flush()
    os.fsync(out.fileno())
"""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    calls: int = 1_000_000
    tenants: int = 10_000
    prefixes: int = 6_000
    runs: int = 3
    cold_start: bool = True


QUICK = Sizes(calls=100_000)


@dataclass(frozen=True, slots=True)
class Process:
    """One finished process: wall and CPU seconds, peak memory, what it printed."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    output: bytes


def run_process(arguments: list[str], environment: dict[str, str] | None = None) -> Process:
    """Run to the end; anything but exit status 0 is an error with what the process said."""
    seconds = stopwatch()
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complained:
        child = subprocess.Popen(arguments, stdout=said, stderr=complained, env=environment)
        _, status, used = os.wait4(child.pid, 0)
        wall = seconds()
        child.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        complained.seek(0)
        if child.returncode != 0:
            raise RuntimeError(
                f"{' '.join(arguments[:5])} ...: exit status {child.returncode}: {complained.read()[-500:]!r}"
            )
        return Process(wall, used.ru_utime + used.ru_stime, used.ru_maxrss * rss_unit() / 2**20, said.read())


def rss_unit() -> int:
    """`ru_maxrss` is kibibytes on Linux and bytes on macOS."""
    return 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True, slots=True)
class Scene:
    """A folder with a deck, files of calls and a state whose accounts are open."""

    folder: Path
    deck: Path
    calls: Path
    one_call: Path
    state: Path

    def rate(self, *more: str, name: str, state: Path) -> list[str]:
        rates = ["--rates", str(self.deck), "--plans", str(PLANS)]
        where = ["--state", str(state), "--out", str(self.folder / name), "--json"]
        return [sys.executable, "-m", "rater", "rate", *more, *rates, *where]

    def copied_state(self, name: str) -> Path:
        state = self.folder / f"{name}.db"
        shutil.copyfile(self.state, state)
        return state


def set_up(folder: Path, sizes: Sizes) -> tuple[Scene, Process]:
    """Write everything and open the accounts in a run of their own."""
    shape = Shape(tenants=sizes.tenants, prefixes=sizes.prefixes, calls=sizes.calls)
    scene = Scene(folder, folder / "deck", folder / "calls.jsonl", folder / "one.jsonl", folder / "state.db")
    write_deck(scene.deck, shape)
    lines = calls(shape)
    scene.calls.write_bytes(b"\n".join(lines) + b"\n")
    scene.one_call.write_bytes(lines[0] + b"\n")
    opening = folder / "commands.jsonl"
    opening.write_bytes(b"\n".join(commands(shape)) + b"\n")
    return scene, run_process(scene.rate("--commands", str(opening), name="opened", state=scene.state))


def output_bytes(folder: Path) -> int:
    return sum((folder / name).stat().st_size for name in OUTPUTS)


def rated(scene: Scene, sizes: Sizes) -> tuple[list[Process], dict[str, Any], int]:
    """Rate the file `runs` times, each time from the same state into a new folder."""
    processes: list[Process] = []
    summary: dict[str, Any] = {}
    written = 0
    for number in range(sizes.runs):
        name = f"run-{number}"
        state = scene.copied_state(name)
        processes.append(run_process(scene.rate(str(scene.calls), name=name, state=state)))
        found = orjson.loads(processes[-1].output)
        found.pop("wall_s")
        if summary and found != summary:
            raise RuntimeError(f"the same file from the same state came to {found}, before to {summary}")
        summary, written = found, output_bytes(scene.folder / name)
        shutil.rmtree(scene.folder / name)
        state.unlink()
    return processes, summary, written


def throughput(scene: Scene, sizes: Sizes) -> Iterator[Line]:
    processes, summary, written = rated(scene, sizes)
    best = min(processes, key=lambda process: process.wall_s)
    floor_out = scene.folder / "floor.jsonl"
    floors = []
    for _ in range(sizes.runs):
        floors.append(run_process([sys.executable, "-c", FLOOR, str(scene.calls), str(floor_out)]))
        floor_out.unlink()
    floor = min(process.wall_s for process in floors)
    goal = Goal(CALLS_PER_S_MIN, at_most=False)
    more = {"calls": sizes.calls, "wall_s": round(best.wall_s, 3), "runs": sizes.runs}
    counts = {name: summary[name] for name in ("read", "rated", "rejected", "duplicates", "events")}
    yield figure("files", "rate, best run", sizes.calls / best.wall_s, "calls/s", goal, **more, **counts)
    middle = median(process.wall_s for process in processes)
    yield figure("files", "rate, median run", sizes.calls / middle, "calls/s")
    yield figure("files", "rate, CPU", best.cpu_s / sizes.calls * 1e6, "us/call")
    yield figure("files", "floor: read, orjson, write, fsync", sizes.calls / floor, "calls/s")
    yield figure("files", "rate / floor, wall", best.wall_s / floor, "ratio")
    yield figure("files", "peak memory", best.peak_mib, "MiB")
    yield figure("files", "output", written / sizes.calls, "bytes/call")


def starts(scene: Scene, sizes: Sizes) -> Iterator[Line]:
    """One call, start-up included; and a look at a balance."""
    if sizes.cold_start:
        progress("files: cold start")
        cache = scene.folder / "cache"
        environment = {**os.environ, "RATER_CACHE_DIR": str(cache)}
        environment.pop("NUMBA_CACHE_DIR", None)
        state = scene.copied_state("cold")
        cold = run_process(scene.rate(str(scene.one_call), name="cold", state=state), environment)
        yield figure(
            "files", "cold start: one call, empty cache", cold.wall_s, "s", Goal(COLD_S_MAX), cpu_s=round(cold.cpu_s, 1)
        )
    warm, looks = [], []
    for number in range(sizes.runs):
        name = f"warm-{number}"
        state = scene.copied_state(name)
        warm.append(run_process(scene.rate(str(scene.one_call), name=name, state=state)).wall_s)
        look = [sys.executable, "-m", "rater", "balance", tenant_name(0), "--state", str(state), "--json"]
        looks.append(run_process(look).wall_s)
    yield figure("files", "warm start: one call", min(warm), "s", Goal(WARM_S_MAX), prefixes=sizes.prefixes)
    yield figure("files", "warm start: balance", min(looks), "s", Goal(WARM_S_MAX))


def run(sizes: Sizes) -> Iterator[Line]:
    with tempfile.TemporaryDirectory(prefix="rater-bench-") as name:
        progress("files: writing calls and opening accounts")
        scene, opening = set_up(Path(name), sizes)
        counts = orjson.loads(opening.output)
        yield figure(
            "files", "open accounts", opening.wall_s, "s", None, tenants=sizes.tenants, events=counts["events"]
        )
        progress("files: rating")
        yield from throughput(scene, sizes)
        yield from starts(scene, sizes)
