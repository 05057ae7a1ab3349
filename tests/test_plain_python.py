"""A kernel is the Python function it is written as: with and without compilation the answers are the same bytes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

SCRIPT = """
import hashlib, json
from rater.core.compiled import COMPILES
from rater.doors.files.recharge import responder
from tests.faults.scenarios import calls, commands, rates
from tests.test_poison import CORPUS
from tests.workbench import Bench, everything

bench = Bench(rates().book(), responder("approve"))
poison = [raw.replace(b'"poison"', b'"poison-%d"' % k) for k, (_, raw, _) in enumerate(CORPUS) if len(raw) < 4000]
digest = hashlib.sha256()
lines = calls(200) + [raw.replace(b'"tenant":"contoso"', b'"tenant":"adatum"') for raw in poison]
for first in range(0, len(lines), 37):
    outcome = bench.decide(commands() if first == 0 else [], lines[first : first + 37])
    for topic in everything(outcome):
        digest.update(topic)
    digest.update(repr(outcome.segments).encode() + repr(outcome.counts).encode())
for name in bench.state.shelves:
    digest.update(bench.state.rows(name).tobytes())
print(json.dumps({"compiled": COMPILES, "digest": digest.hexdigest(), "version": int(bench.balance("adatum")["version"])}))
"""


def answers(compiled: bool) -> dict[str, object]:
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_DISABLE_JIT"} | {"PYTHONPATH": str(ROOT)}
    if not compiled:
        environment["NUMBA_DISABLE_JIT"] = "1"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_compiled_and_plain_python_give_the_same_bytes():
    compiled, plain = answers(True), answers(False)
    assert compiled.pop("compiled") is True
    assert plain.pop("compiled") is False
    assert compiled == plain
    assert compiled["version"] > 50  # type: ignore[operator]


@pytest.mark.parametrize("mode", ["plain"])
def test_nothing_warns_in_plain_python(mode: str):
    """Unsigned arithmetic wraps on purpose; numpy must not be heard of it, nor of anything else."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NUMBA_DISABLE_JIT": "1", "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
