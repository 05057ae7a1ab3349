"""What a benchmark says: one object a line, or a table; and the shape of the machine that said it."""

import os
import platform
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure is held against."""

    limit: float
    at_most: bool = True

    def met(self, value: float) -> bool:
        return value <= self.limit if self.at_most else value >= self.limit

    def text(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.limit:,g}"


def figure(benchmark: str, name: str, value: float | int, unit: str, goal: Goal | None = None, **more: Any) -> Line:
    """One measured figure; `more` says under which conditions."""
    line: Line = {"benchmark": benchmark, "name": name, "value": round(float(value), 3), "unit": unit}
    if goal is not None:
        line |= {"goal": goal.text(), "met": goal.met(float(value))}
    return line | more


def cpu_name() -> str:
    """The family of the processor, from the system's own word."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


def machine() -> Line:
    """Cores, processor and versions: a figure without them says nothing."""
    from importlib.metadata import version

    return {
        "benchmark": "machine",
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "numba": version("numba"),
        "numpy": version("numpy"),
        "orjson": version("orjson"),
    }


def print_json(lines: Iterable[Line]) -> None:
    for line in lines:
        sys.stdout.buffer.write(orjson.dumps(line) + b"\n")
        sys.stdout.flush()


def _shown(value: float) -> str:
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.3f}" if abs(value) < 100 else f"{value:,.0f}"


def print_table(lines: Iterable[Line]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 160)
    table = Table(title="rater benchmarks", title_justify="left")
    for name, justify in (("benchmark", "left"), ("figure", "left"), ("value", "right"), ("unit", "left"), ("goal", "left"),
                          ("conditions", "left")):  # fmt: skip
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    known = ("benchmark", "name", "value", "unit", "goal", "met")
    for line in lines:
        if line["benchmark"] == "machine":
            console.print(", ".join(f"{key} {value}" for key, value in line.items() if key != "benchmark"))
            continue
        met = line.get("met")
        goal = "" if met is None else f"{line['goal']} {'[green]met[/]' if met else '[red]missed[/]'}"
        conditions = ", ".join(f"{key} {value}" for key, value in line.items() if key not in known)
        table.add_row(line["benchmark"], line["name"], _shown(line["value"]), line["unit"], goal, conditions)
    console.print(table)


def progress(text: str) -> None:
    """What a person waits for; to a terminal only."""
    if sys.stderr.isatty():
        print(f"benchmarks: {text}", file=sys.stderr, flush=True)
