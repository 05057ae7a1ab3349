"""The five lines where a small slip costs the most: change one, and the situations must notice.

The house is copied, one line of the copy is changed, and the tests run against the copy as plain Python. A mutation that no
test notices is a hole in the proof; a line that is not found exactly once has moved, and its mutation must move with it.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]

# (what goes wrong, file, the text, what it becomes, the tests that must fail)
MUTATIONS = [
    ("an exact half is rounded down", "core/money.py", "exact + _NANO_SECONDS_PER_MICRO // 2)",
     "exact + _NANO_SECONDS_PER_MICRO // 2 - 1)", "situations_charges"),
    ("money is cut off", "core/money.py", "exact + _NANO_SECONDS_PER_MICRO // 2)", "exact)", "situations_charges"),
    ("a row still counts at its end", "core/prefixes.py", "and at_ms < rows[row].valid_to_ms",
     "and at_ms <= rows[row].valid_to_ms", "situations_charges"),
    ("a row does not count at its first instant", "core/prefixes.py", "rows[row].valid_from_ms <= at_ms",
     "rows[row].valid_from_ms < at_ms", "situations_charges"),
    ("a pool gives the whole call or nothing", "core/charging.py", "    taken = min(wanted, left)\n",
     "    taken = wanted if wanted <= left else 0\n", "situations_pools"),
    ("a pool gives more than it has", "core/charging.py", "    taken = min(wanted, left)\n",
     "    taken = wanted if left > 0 else 0\n", "situations_pools"),
    ("lots are drawn last in first out", "core/charging.py", "        if other.at_ms > at_ms:\n",
     "        if other.at_ms < at_ms:\n", "situations_credits"),
    ("lots of one instant are drawn in any order", "core/charging.py",
     "name_compare(other.name, other.name_length, name, name_length) > 0",
     "name_compare(other.name, other.name_length, name, name_length) < 0", "situations_credits"),
    ("balance zero is announced at every debit below", "core/thresholds.py", "before_micros > 0 and after_micros <= 0",
     "after_micros <= 0", "situations_alarms"),
    ("balance zero waits until the balance is below", "core/thresholds.py", "before_micros > 0 and after_micros <= 0",
     "before_micros > 0 and after_micros < 0", "situations_alarms"),
    ("a percentage is announced at every call", "core/thresholds.py", "pool.announced & bit == 0 and ", "", "situations_alarms"),
    ("a recharge is asked for at the trigger", "core/thresholds.py",
     "    if balance_of(account) >= account.trigger_micros:\n", "    if balance_of(account) > account.trigger_micros:\n",
     "situations_recharges"),
    ("a lot lives through the instant it expires", "core/thresholds.py", "if lots.rows[lot].expires_ms <= at_ms:",
     "if lots.rows[lot].expires_ms < at_ms:", "situations_credits"),
    ("a conflict is taken for a duplicate", "core/seen.py",
     "return SAME if (seen[slot, 1] ^ second) & LOW_32 == U8(0) else OTHER", "return SAME",
     "situations_identity -k conflict"),
]  # fmt: skip


def copied(folder: Path) -> Path:
    """The house, its tests and what they read, in a folder of their own."""
    for name in ("rater", "tests", "rates", "schemas"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def passes(folder: Path, tests: str) -> tuple[bool, str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RATER_", "PYTEST_"))}
    environment |= {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    file, *only = tests.split(" ", 2)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        f"tests/core/test_{file}.py",
        *only,
    ]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr  # 1: tests failed; anything else: they did not run
    return done.returncode == 0, done.stdout


def test_the_copy_is_what_runs_and_passes_unchanged(tmp_path: Path):
    folder = copied(tmp_path)
    code = "import rater.core.money, sys; sys.exit(0 if sys.argv[1] in rater.core.money.__file__ else 3)"
    environment = os.environ | {"PYTHONPATH": str(folder), "NUMBA_DISABLE_JIT": "1"}
    assert (
        subprocess.run([sys.executable, "-c", code, str(folder)], cwd=folder, env=environment, check=False).returncode
        == 0
    )
    for tests in sorted({tests for *_, tests in MUTATIONS}):
        fine, said = passes(folder, tests)
        assert fine, said


@pytest.mark.parametrize(
    ("file", "text", "other", "tests"), [row[1:] for row in MUTATIONS], ids=[row[0] for row in MUTATIONS]
)
def test_a_wrong_line_is_noticed(tmp_path: Path, file: str, text: str, other: str, tests: str):
    folder = copied(tmp_path)
    path = folder / "rater" / file
    source = path.read_text("utf-8")
    assert source.count(text) == 1, f"{file}: {text!r} stands there {source.count(text)} times; expected once"
    path.write_text(source.replace(text, other), "utf-8")
    fine, said = passes(folder, tests)
    assert not fine, "no situation noticed"
    assert "AssertionError" in said
