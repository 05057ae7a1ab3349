"""Runs of `rater` that can be killed: real processes, and quick ones forked from a process that has imported everything.

A forked run is a process of its own, and SIGKILL leaves it no last word; it only saves the second that Python and numba need
to start. What a run is told comes as JSON: arguments, a failpoint, bytes for standard input, and a fault to plant (see
`planted.py`) that exists in this process alone.
"""

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: its exit status, or minus the signal that killed it."""

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def killed(self) -> bool:
        return self.status == -signal.SIGKILL


def environment(**more: str) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("RATER_") or name == "RATER_CACHE_DIR"
    }
    return kept | {"PYTHONPATH": str(ROOT)} | more


def settings(failpoint: str = "", batch: int = 0) -> dict[str, str]:
    found = {"RATER_FAILPOINT": failpoint} if failpoint else {}
    return found | ({"RATER_BATCH_RECORDS_MAX": str(batch)} if batch else {})


def rater(
    args: Sequence[str], failpoint: str = "", batch: int = 0, stdin: bytes = b"", kill_after_s: float | None = None
) -> Ended:
    """One `python -m rater` of its own; `kill_after_s` sends SIGKILL from outside, wherever it is by then."""
    process = subprocess.Popen(
        [sys.executable, "-m", "rater", *args],
        env=environment(**settings(failpoint, batch)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        stdout, stderr = process.communicate(stdin, timeout=kill_after_s if kill_after_s is not None else 300)
    except subprocess.TimeoutExpired:
        process.kill()
        stdout, stderr = process.communicate()
    return Ended(process.returncode, stdout, stderr)


class Nursery:
    """A process that has imported `rater` and forks a run for every line it is sent."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.processes"],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def run(
        self,
        args: Sequence[str],
        failpoint: str = "",
        batch: int = 0,
        stdin: bytes = b"",
        kill_after_s: float | None = None,
        planted: str = "",
    ) -> Ended:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {
            "args": list(args), "env": settings(failpoint, batch), "stdin": base64.b64encode(stdin).decode(),
            "kill_after_s": kill_after_s, "planted": planted,
        }  # fmt: skip
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        self._process.stdin.flush()
        told = json.loads(self._process.stdout.readline())
        return Ended(told["status"], base64.b64decode(told["stdout"]), base64.b64decode(told["stderr"]))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


@contextmanager
def nursery() -> Iterator[Nursery]:
    found = Nursery()
    try:
        yield found
    finally:
        found.close()


# ---------------------------------------------------------------------------------------------- inside the nursery


def _child(asked: dict[str, Any], files: list[Any]) -> None:
    """Never returns: the run, in a process of its own."""
    for number, file in enumerate(files):
        os.dup2(file.fileno(), number)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode) for number, mode in ((0, "r"), (1, "w"), (2, "w")))
    os.environ.update(asked["env"])
    import importlib

    from rater.doors import failpoints

    importlib.reload(failpoints)  # it reads the environment once; its functions keep their names and see the new values
    if asked["planted"]:
        from tests.faults import planted

        getattr(planted, asked["planted"])()
    from rater.__main__ import _run, cli

    status = _run(cli, asked["args"])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _serve() -> None:
    import tempfile

    import rater.doors.files.audit
    import rater.doors.files.rate
    import rater.doors.files.show
    import rater.doors.rules  # noqa: F401
    from rater.doors.files.outbox_mails import house_templates
    from rater.doors.files.warm_up import warm_up

    warm_up()
    house_templates()
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            given.write(base64.b64decode(asked["stdin"]))
            given.seek(0)
            child = os.fork()
            if child == 0:
                try:
                    _child(asked, [given, out, err])
                finally:
                    os._exit(99)
            if asked["kill_after_s"] is not None:
                time.sleep(asked["kill_after_s"])
                os.kill(child, signal.SIGKILL)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            told = {"status": status}
            for name, file in (("stdout", out), ("stderr", err)):
                file.seek(0)
                told[name] = base64.b64encode(file.read()).decode()
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
