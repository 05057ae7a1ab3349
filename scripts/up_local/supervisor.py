"""Starts parts, starts again what ends by itself, stops everything in the reverse order; leaves no process behind.

Each part is a session of its own: Ctrl-C reaches this process only, which then asks each part to end. Where Linux offers it, a
part is killed by the kernel when this process dies without having asked.
"""

import asyncio
import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from scripts.up_local.parts import HOST, CannotStart, Part, Place

PATIENCE_S = 180.0  # a cold engine compiles for half a minute on a busy machine
RESTART_S = (1.0, 2.0, 5.0, 10.0, 30.0)  # between the ends of one part


@dataclass(slots=True)
class Running:
    """One part and what became of it."""

    part: Part
    process: asyncio.subprocess.Process | None = None
    watcher: "asyncio.Task[None] | None" = None
    state: str = "starting"  # starting, well, unwell, ended, stopped
    restarts: int = 0
    since_s: float = 0.0


class Supervisor:
    """All parts, in the order of their start."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.all: list[Running] = []
        self.stopping = False
        self._guard = shutil.which("setpriv")

    async def run_once(self, name: str, command: tuple[str, ...], environment: dict[str, str]) -> None:
        """To its end; raises `CannotStart` with what it said."""
        log = _fresh_log(self.place.log_of(name))
        with log.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                *self._guarded(command), cwd=self.place.root, env=_environment(environment), stdin=asyncio.subprocess.DEVNULL,
                stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
            try:
                status = await process.wait()
            except asyncio.CancelledError:
                _signal(process, signal.SIGKILL)
                raise
        if status:
            raise CannotStart(f"{name} ended with status {status}:\n{_tail(log, 15)}")

    async def start(self, part: Part) -> None:
        """Returns when the part is well; raises `CannotStart` when it ends before that, or is not well in time."""
        running = Running(part)
        self.all.append(running)
        _fresh_log(self.place.log_of(part.name))
        await self._launch(running)
        deadline = time.monotonic() + PATIENCE_S
        while not await self._is_well(running):
            if running.process is None or running.process.returncode is not None:
                raise CannotStart(f"{part.name} ended while starting:\n{_tail(self.place.log_of(part.name), 15)}")
            if time.monotonic() > deadline:
                raise CannotStart(
                    f"{part.name} did not answer within {PATIENCE_S:.0f} s:\n{_tail(self.place.log_of(part.name), 15)}"
                )
            await asyncio.sleep(0.3)
        running.state = "well"
        running.watcher = asyncio.create_task(self._watch(running))

    async def look(self) -> None:
        """Asks everything how it is, again and again, for the page."""
        while True:
            for running in self.all:
                if running.state in ("well", "unwell"):
                    running.state = "well" if await self._is_well(running) else "unwell"
            await asyncio.sleep(2.0)

    async def stop(self) -> None:
        """All but the first at once, then the first: the broker must be there while others give their partitions back.

        Whoever does not end in time is killed, and all it started with it.
        """
        self.stopping = True
        for running in self.all:
            if running.watcher is not None:
                running.watcher.cancel()
        await asyncio.gather(*(self._end(running) for running in self.all[1:]))
        for running in self.all[:1]:
            await self._end(running)

    async def _end(self, running: Running) -> None:
        process = running.process
        if process is not None and process.returncode is None:
            _signal(process, signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), running.part.stop_s)
            except TimeoutError:
                _signal(process, signal.SIGKILL)
                await process.wait()
        if process is not None:
            _signal(process, signal.SIGKILL)  # what it may have left of its group
        running.state = "stopped"

    async def _launch(self, running: Running) -> None:
        part = running.part
        with self.place.log_of(part.name).open("ab") as log:
            running.process = await asyncio.create_subprocess_exec(
                *self._guarded(part.command), cwd=self.place.root, env=_environment(dict(part.environment)),
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        running.since_s = time.time()

    async def _watch(self, running: Running) -> None:
        """As a supervisor of production would: what ends is started again, after a pause that grows."""
        while not self.stopping:
            if running.process is not None:
                await running.process.wait()
            running.state = "ended"
            await asyncio.sleep(RESTART_S[min(running.restarts, len(RESTART_S) - 1)])
            running.restarts += 1
            await self._launch(running)
            running.state = "unwell"

    async def _is_well(self, running: Running) -> bool:
        health = running.part.health
        if running.process is None or running.process.returncode is not None:
            return False
        if not health:
            return True
        try:
            if health.startswith("tcp:"):
                _, writer = await asyncio.wait_for(asyncio.open_connection(HOST, int(health[4:])), 2)
                writer.close()
                return True
            timeout = aiohttp.ClientTimeout(total=2)
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(health) as answer:
                return answer.status == 200
        except (OSError, TimeoutError, aiohttp.ClientError):
            return False

    def _guarded(self, command: tuple[str, ...]) -> tuple[str, ...]:
        return (self._guard, "--pdeathsig", "KILL", *command) if self._guard else command


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """To the whole group, which the session of the process began."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return


def _environment(more: dict[str, str]) -> dict[str, str]:
    """This one's without RATER_ settings that somebody's shell happens to hold; the caches may stay where they are."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RATER_") or key == "RATER_CACHE_DIR"}
    return kept | more | {"PYTHONUNBUFFERED": "1"}


def _fresh_log(log: Path) -> Path:
    """An empty file; the one of the last start is kept beside it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists():
        log.replace(log.with_suffix(".log.1"))
    log.touch()
    return log


def _tail(log: Path, lines: int) -> str:
    return "\n".join(log.read_text("utf-8", errors="replace").splitlines()[-lines:])
