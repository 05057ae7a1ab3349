"""Workers and agents forked from a process that has imported everything and loaded the kernels: a start costs tenths of a second.

A forked one is a process of its own: SIGKILL leaves it no last word, SIGSTOP stops all of it. What it is told is its
arguments, its environment, a file for its log, and a bug to plant (see `planted`) that exists in this process alone. That
the command starts from nothing, too, is for the tests that start `python -m rater`.
"""

import atexit
import contextlib
import ctypes
import functools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PR_SET_PDEATHSIG = 1


class Forked:
    """A process, with what of `subprocess.Popen` the tests use."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = threading.Event()

    def end(self, status: int) -> None:
        self.returncode = status
        self._ended.set()

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired(f"worker {self.pid} ({self.standing()})", timeout or 0.0)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                self._ended.wait(5.0)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def stopped(self) -> bool:
        """Whether the process stands still (SIGSTOP)."""
        return self._threads()[:1] == ["T"]

    def standing(self) -> str:
        """For whoever waits in vain: what its threads do (R, S, D: at the disk, T, Z), or that the system has no such process."""
        return "".join(self._threads()) or "gone"

    def _threads(self) -> list[str]:
        """The state of each thread, the main one first; none where the process is gone."""
        found = []
        with contextlib.suppress(OSError):
            for thread in sorted(Path(f"/proc/{self.pid}/task").iterdir(), key=lambda path: path.name != str(self.pid)):
                found.append((thread / "stat").read_text().rpartition(")")[2].split()[0])
        return found


class Nursery:
    """Forks a process for every line it is sent, and tells when one has ended."""

    def __init__(self) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RATER_")}
        kept |= {name: os.environ[name] for name in ("RATER_CACHE_DIR",) if name in os.environ}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.kafka.nursery"], cwd=ROOT, env=kept | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in a terminal, and what `timeout` sends to its group, are for the test
        )  # fmt: skip
        self._born: list[Forked] = []
        self._workers: dict[int, Forked] = {}
        self._asking, self._birth = threading.Lock(), threading.Semaphore(0)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path, planted: str = "") -> Forked:
        """`rater` with these arguments."""
        asked = {"arguments": [*arguments], "env": dict(environment), "log": str(log), "planted": planted}
        with self._asking:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(asked).encode() + b"\n")
            self._process.stdin.flush()
            if not self._birth.acquire(timeout=120.0):
                raise RuntimeError("the nursery does not answer")
            return self._born.pop()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            if "status" in told:
                self._workers.pop(told["pid"]).end(told["status"])
                continue
            worker = self._workers[told["pid"]] = Forked(told["pid"])
            self._born.append(worker)
            self._birth.release()
        for worker in self._workers.values():  # the nursery is gone, and all of them with it (PR_SET_PDEATHSIG)
            worker.end(-signal.SIGKILL)

    def close(self) -> None:
        for worker in list(self._workers.values()):
            worker.kill()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


@functools.cache
def shared() -> Nursery:
    """One for all tests of this process; it ends with it."""
    made = Nursery()
    atexit.register(made.close)
    return made


@contextlib.contextmanager
def nursery() -> Iterator[Nursery]:
    found = Nursery()
    try:
        yield found
    finally:
        found.close()


# ---------------------------------------------------------------------------------------------- inside the nursery


def _child(asked: dict[str, Any]) -> None:
    """Never returns: the command, in a process of its own."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # no worker outlives the nursery
    with open(os.devnull, "rb") as nothing, open(asked["log"], "ab") as out:
        for number, file in ((0, nothing), (1, out), (2, out)):
            os.dup2(file.fileno(), number)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode) for number, mode in ((0, "r"), (1, "w"), (2, "w")))
    os.environ.clear()
    os.environ.update(asked["env"])
    import importlib

    from rater.doors import failpoints

    importlib.reload(failpoints)  # it reads the environment once; its functions keep their names and see the new values
    for name, module in list(sys.modules.items()):
        if name.startswith("rater.") and hasattr(module, "reached"):
            vars(module)["reached"] = failpoints.reached
    if asked["planted"]:
        from tests.kafka import planted

        planted.plant(asked["planted"])
    from rater.__main__ import _run, cli

    status = _run(cli, asked["arguments"])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _tell(**what: Any) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


def _reap() -> None:
    """Children that have ended. No thread: a process with threads must not fork."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _tell(pid=pid, status=os.waitstatus_to_exitcode(status))


def _serve() -> None:
    import select

    import faust  # noqa: F401

    import rater.doors.kafka.settings
    import rater.doors.kafka.worker
    import rater.doors.service.mediation_command
    import rater.doors.service.notification_command
    import rater.doors.service.recharge_command  # noqa: F401
    from rater.doors.files.warm_up import _CALL, _OPENED
    from rater.doors.kafka.rehearsal import rehearse

    rehearse([_OPENED], [_CALL])
    asked = b""
    while True:
        ready, _, _ = select.select([0], [], [], 0.05)
        _reap()
        if not ready:
            continue
        read = os.read(0, 1 << 20)
        if not read:
            return
        *lines, asked = (asked + read).split(b"\n")
        for line in lines:
            child = os.fork()
            if child == 0:
                try:
                    _child(json.loads(line))
                finally:
                    os._exit(99)
            _tell(pid=child)


if __name__ == "__main__":
    _serve()
