"""The plan of the house, held against every import: one way, floor by floor, each library in its own room.

    __main__ -> doors -> pipeline, sources -> contract -> core

An arrow may skip a room and never turns back. A file is read as text, so an import inside a function is found, too.
"""

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "rater"

# A room may import itself and every room of a lower rank. Rooms of one rank stand side by side.
RANKS = {
    "core": 0,
    "contract": 1,
    "pipeline": 2,
    "sources": 2,
    "usage": 2,
    "notify": 2,
    "recharge": 2,
    "doors": 3,
    "__main__": 4,
}

# Inside core: a floor may import itself and the floors below.
FLOORS = {
    # knows nothing of the house
    "compiled": 0, "words": 0, "writing": 0, "hashing": 0, "money": 0, "instants": 0, "reasons": 0, "numbering": 0,
    "numbering_table": 0, "trie": 0,
    # shapes
    "calls": 1, "deck": 1, "accounts": 1, "plans": 1,
    # decides
    "seen": 2, "state": 2, "prefixes": 2, "rating": 2, "charging": 2, "thresholds": 2, "payers": 2, "months": 2, "holds": 2, "authorizing": 2, "ahead": 2, "administration": 2,
}  # fmt: skip

COMPILER = {"numpy", "numba", "llvmlite"}
LIBRARIES = {"core": COMPILER, "contract": COMPILER | {"orjson", "blake3"}, "pipeline": COMPILER | {"orjson"}}
LIBRARIES["sources"] = LIBRARIES["recharge"] = LIBRARIES["usage"] = LIBRARIES["pipeline"]
# What a mail says is text made of values: templates, and how amounts and dates are written in a language.
LIBRARIES["notify"] = LIBRARIES["pipeline"] | {"babel", "jinja2", "markupsafe"}
# Faust is the process: of the rating worker, and of the agents around it. It comes nowhere near the partition task.
FAUST = ("rater.doors.faust_process", "rater.doors.service", "rater.doors.kafka.worker")
# The agents' log is aiokafka's too: Faust's consumer reads records of transactions that were aborted.
AIOKAFKA = ("rater.doors.kafka", "rater.doors.service.agent_log", "rater.doors.publishing")
HISTORY = ("rater.doors.history",)
HTTP = ("rater.doors.http",)
OWNED = {
    "fastapi": HTTP,
    "starlette": HTTP,
    "pydantic": HTTP,
    "uvicorn": HTTP,
    "httptools": HTTP,
    "psycopg": HISTORY,
    "pyarrow": HISTORY,
    "openpyxl": HISTORY,
    "aiokafka": AIOKAFKA,
    "blake3": ("rater.contract.journal",),
    "cramjam": ("rater.doors.kafka",),
    "faust": FAUST,
    "mode": FAUST,
}

# What waits, asks a machine or draws lots has no place between gather and emit.
PURE = {"core", "contract", "notify", "pipeline", "recharge", "sources", "usage"}
IMPURE = {
    "asyncio", "http", "logging", "multiprocessing", "random", "secrets", "selectors", "socket", "sqlite3", "ssl",
    "subprocess", "threading", "time", "urllib",
}  # fmt: skip

CLOCK = "rater.doors.clock"
CLOCKS = {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time", "time.time_ns"}
CHANCE = {"random", "numpy.random"}


# ---------------------------------------------------------------------------------------------- reading the house


def modules() -> dict[str, str]:
    """Dotted name -> source text; a package goes by its own name."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file.read_text("utf-8")
    return found


# A folder of one subject that every door may use, like the plain modules beside it.
SHARED = {"decks", "settings"}


def sub_packages_of_doors(known: dict[str, str]) -> set[str]:
    depth = {name.split(".")[2] for name in known if name.startswith("rater.doors.") and name.count(".") > 2}
    return (depth | {"files", "kafka", "service"}) - SHARED


def imports_of(module: str, source: str, known: dict[str, str]) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import; `from rater.core import money` is rater.core.money."""
    is_package = any(name.startswith(module + ".") for name in known)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                here = module.split(".")[: len(module.split(".")) - node.level + is_package]
                base = ".".join([*here, *filter(None, [base])])
            for alias in node.names:
                deeper = f"{base}.{alias.name}"
                yield node.lineno, deeper if deeper in known or not base.startswith("rater") else base


def room_of(module: str) -> str:
    """core, contract, ...; empty for the package itself, which holds nothing but its version."""
    return module.split(".")[1] if "." in module else ""


def where(module: str, line: int) -> str:
    return f"{module.replace('.', '/')}.py line {line}"


# ---------------------------------------------------------------------------------------------- the rules


def house_faults(module: str, source: str, known: dict[str, str]) -> list[str]:
    """Everything a file imports that the plan forbids: where, what was found, what was expected."""
    faults = []
    for line, name in imports_of(module, source, known):
        top = name.split(".")[0]
        if top == "rater":
            wrong = wrong_room(module, name, known)
        elif top in sys.stdlib_module_names:
            wrong = f"{room_of(module)} neither waits, logs nor asks a machine" if impure(module, name) else ""
        else:
            wrong = wrong_library(module, top)
        if wrong:
            faults.append(f"{where(module, line)}: imports {name}; {wrong}")
    return faults


def impure(module: str, name: str) -> bool:
    """`urllib.parse` only cuts texts; the rest of its package fetches."""
    return room_of(module) in PURE and name.split(".")[0] in IMPURE and not name.startswith("urllib.parse")


def wrong_room(module: str, name: str, known: dict[str, str]) -> str:
    room, other = room_of(module), room_of(name)
    if not other:
        return ""
    if not room:
        return "the package itself imports no room"
    if room not in RANKS or other not in RANKS:
        return f"expected one of the rooms {' '.join(RANKS)}"
    if room != other and RANKS[other] >= RANKS[room]:
        return f"expected an import of a room below {room}; give it an argument instead"
    if room == other == "core":
        return wrong_floor(module, name)
    if room == other == "doors":
        return wrong_door(module, name, known)
    return ""


def wrong_floor(module: str, name: str) -> str:
    mine, theirs = (part.split(".")[2] if part.count(".") > 1 else "" for part in (module, name))
    if not mine or not theirs:
        return "" if not mine else "expected the module itself, not the room"
    if mine not in FLOORS or theirs not in FLOORS:
        return f"expected {mine} and {theirs} to have a floor in tests/test_house.py"
    return f"{mine} is on floor {FLOORS[mine]}, {theirs} on {FLOORS[theirs]}" if FLOORS[theirs] > FLOORS[mine] else ""


def wrong_door(module: str, name: str, known: dict[str, str]) -> str:
    mine, theirs = (part.split(".")[2] if part.count(".") > 1 else "" for part in (module, name))
    if theirs in sub_packages_of_doors(known) and theirs != mine:
        return "doors do not import each other; __main__ introduces them"
    return ""


def wrong_library(module: str, top: str) -> str:
    owners = OWNED.get(top)
    if owners is not None:
        allowed_here = any(module == owner or module.startswith(owner + ".") for owner in owners)
        return "" if allowed_here else f"only {' and '.join(owners)} names {top}"
    allowed = LIBRARIES.get(room_of(module))
    return f"expected one of {' '.join(sorted(allowed))}" if allowed is not None and top not in allowed else ""


def clock_faults(module: str, source: str, known: dict[str, str]) -> list[str]:
    """Where a file asks the machine's clock or draws lots. Only `doors/clock.py` may, and what invents traffic."""
    if module == CLOCK or any("demo" in part or "generator" in part for part in module.split(".")):
        return []
    found = []
    for line, name in imports_of(module, source, known):
        if name in CLOCKS or any(name == chance or name.startswith(chance + ".") for chance in CHANCE):
            found.append((line, name))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            tail = ".".join(dotted(node).split(".")[-2:])
            if tail in CLOCKS or tail in {"np.random", "numpy.random"}:
                found.append((node.lineno, tail))
    return [f"{where(module, line)}: {name}; expected the time as an argument, from {CLOCK}" for line, name in found]


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


# ---------------------------------------------------------------------------------------------- the house as it stands


@pytest.mark.parametrize("module", modules())
def test_imports_run_one_way(module: str):
    known = modules()
    assert house_faults(module, known[module], known) == []


@pytest.mark.parametrize("module", modules())
def test_only_the_clock_knows_what_time_it_is(module: str):
    known = modules()
    assert clock_faults(module, known[module], known) == []


def test_each_module_is_in_a_room_and_each_module_of_core_on_a_floor():
    known = modules()
    assert {room_of(module) for module in known} - {""} <= set(RANKS)
    core = {module.split(".")[2] for module in known if module.startswith("rater.core.")}
    assert core - set(FLOORS) == set()
    assert not [module for module in known if module.startswith("rater.core.") and module.count(".") > 2]


# ---------------------------------------------------------------------------------------------- the rules can fail


BACKWARD = [
    ("rater.core.money", "from rater.doors.decks import load_deck", "below core"),
    ("rater.core.money", "def f():\n    import rater.pipeline", "below core"),
    ("rater.core.money", "from rater import contract", "below core"),
    ("rater.core.money", "from ..contract import events", "below core"),
    ("rater.contract.rated", "from rater.pipeline import decide", "below contract"),
    ("rater.sources.rows", "from rater.pipeline import decide", "below sources"),
    ("rater.pipeline", "from rater.sources import rows", "below pipeline"),
    ("rater.pipeline", "from rater.doors.files import rate", "below pipeline"),
    ("rater.doors.files.rate", "import rater.__main__", "below doors"),
    ("rater.doors.files.rate", "from rater.doors.kafka import log", "each other"),
    ("rater.doors.files.rate", "from rater.doors.service.web import app", "each other"),
    ("rater.doors.decks", "from rater.doors.files import rate", "each other"),
    ("rater.doors.clock", "from .files import rate", "each other"),
    ("rater", "from rater.core import money", "no room"),
    ("rater.cellar", "from rater.core import money", "one of the rooms"),
    ("rater.core.money", "from rater.core.accounts import Books", "floor 0"),
    ("rater.core.money", "from .accounts import Books", "floor 0"),
    ("rater.core.deck", "from rater.core import prefixes", "floor 1"),
    ("rater.core.deck", "from rater.core import Attic", "the module itself"),
    ("rater.core.attic", "from rater.core.money import charge_micros", "have a floor"),
    ("rater.core.money", "import orjson", "llvmlite numba numpy"),
    ("rater.core.money", "import rich.table", "llvmlite numba numpy"),
    ("rater.contract.rated", "import click", "orjson"),
    ("rater.core.money", "import time", "neither waits"),
    ("rater.pipeline", "import logging", "neither waits"),
    ("rater.contract.rated", "from random import choice", "neither waits"),
    ("rater.doors.files.rate", "import aiokafka", "only rater.doors.kafka"),
    ("rater.doors.kafka.log", "from faust import App", "only rater.doors.faust_process"),
]


@pytest.mark.parametrize(("module", "source", "told"), BACKWARD)
def test_a_planted_import_is_found(module: str, source: str, told: str):
    faults = house_faults(module, source, modules() | {module: source})
    assert len(faults) == 1
    assert faults[0].startswith(f"{module.replace('.', '/')}.py line ")
    assert told in faults[0]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("rater.__main__", "from rater.doors.files import rate\nfrom rater.core.reasons import Reason\nimport click"),
        (
            "rater.doors.files.rate",
            "from rater.doors.decks import load_deck\nfrom rater.doors import clock\nimport sqlite3",
        ),
        (
            "rater.doors.files.rate",
            "from . import store\nfrom .store import open_store\nfrom rater.pipeline import decide",
        ),
        ("rater.doors.kafka.log", "import aiokafka\nimport asyncio"),
        ("rater.doors.service", "import faust"),
        ("rater.doors.kafka.worker", "import faust\nimport mode"),
        (
            "rater.pipeline",
            "from rater.contract.reader import read_slowly\nfrom rater.core.state import State\nimport numpy",
        ),
        (
            "rater.contract.rated",
            "from rater.core.money import charge_micros\nimport orjson\nfrom rater import __version__",
        ),
        ("rater.core.payers", "from rater.core.rating import paid_part\nfrom rater.core.money import charge_micros"),
    ],
)
def test_an_import_along_the_arrows_is_none_of_our_business(module: str, source: str):
    assert house_faults(module, source, modules() | {module: source}) == []


@pytest.mark.parametrize(
    "source",
    [
        "from datetime import datetime\nx = datetime.now()",
        "import datetime\nx = datetime.datetime.now(datetime.UTC)",
        "from datetime import date\nx = date.today()",
        "import time\nx = time.time()",
        "from time import time_ns",
        "import random",
        "from random import Random",
        "import numpy as np\nx = np.random.default_rng()",
    ],
)
def test_a_planted_look_at_the_clock_is_found_and_allowed_to_the_clock_alone(source: str):
    assert clock_faults("rater.doors.files.rate", source, modules()) != []
    assert clock_faults(CLOCK, source, modules()) == []


def test_measuring_how_long_something_took_is_allowed():
    source = '"""Not datetime.now."""\nfrom time import monotonic, perf_counter\nx = perf_counter()'
    assert clock_faults("rater.doors.files.rate", source, modules()) == []


# ---------------------------------------------------------------------------------------------- what surrounds it


def pins(file: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", (ROOT / file).read_text("utf-8"), re.MULTILINE))


def test_the_locks_name_every_dependency_by_hash_and_no_place_to_get_it():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    runtime, dev = pins("requirements.lock"), pins("requirements-dev.lock")
    named = [re.split(r"[<>=!~\[ ]", text)[0] for text in project["dependencies"]]
    assert set(named) <= set(runtime)
    assert {re.split(r"[<>=!~\[ ]", text)[0] for text in project["optional-dependencies"]["dev"]} <= set(dev)
    assert runtime.items() <= dev.items()
    for file in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / file).read_text("utf-8")
        assert "://" not in text
        assert "--index" not in text
        assert text.count("--hash=sha256:") >= len(pins(file))


def test_the_wheel_carries_rates_and_types_and_nothing_of_the_workshop(tmp_path: Path):
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    shipped = {f"rater/{file.relative_to(ROOT).as_posix()}" for file in (ROOT / "rates").rglob("*") if file.is_file()}
    assert {"rater/py.typed", "rater/rates/plans/calling-plans.csv"} | shipped <= names
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"rater"}


def test_ci_is_a_program_and_each_target_of_make_has_a_line_of_help():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert targets is not None
    for target in targets[1].split():
        assert re.search(rf"^{target}:.* ## \S", makefile, re.MULTILINE), target


def test_each_page_of_docs_is_in_their_index_and_each_link_leads_somewhere():
    docs = ROOT / "docs"
    links = set(re.findall(r"\]\(([^)#:]+)\)", (docs / "README.md").read_text("utf-8")))
    pages = {file.name for file in docs.glob("*.md")} - {"README.md"}
    assert pages - links == set()
    assert {link for link in links if not (docs / link).exists()} == set()
