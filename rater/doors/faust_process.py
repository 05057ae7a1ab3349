"""A process by Faust: signals, log, web pages and the life of services, for the rating worker and the agents around it.

Faust's consumer, producer, tables and transactions stay away: nothing of ours goes through them.
"""

import asyncio
from pathlib import Path
from typing import Any, Protocol

import faust
from faust.app.base import BootStrategy

from rater.doors.settings.connection import Connection

LAST_TURNS_S = 0.05  # for what was cancelled to end


class ProcessSettings(Protocol):
    """What a process must be told, whatever it does."""

    @property
    def connection(self) -> Connection: ...

    @property
    def state_dir(self) -> Path: ...

    @property
    def web_host(self) -> str: ...

    @property
    def web_port(self) -> int: ...


class Boot(BootStrategy):
    enable_kafka = False


def bare_app(name: str, settings: ProcessSettings) -> faust.App:
    """An application without services or pages yet."""
    app = faust.App(
        name,
        broker=";".join(f"kafka://{server}" for server in settings.connection.bootstrap_servers),
        datadir=str(settings.state_dir / "faust"),
        web_bind=settings.web_host,
        web_host=settings.web_host,
        web_port=settings.web_port,
        autodiscover=False,
        loghandlers=[],
    )
    app.boot_strategy = Boot(app)
    return app


class Process(faust.Worker):
    """A Faust worker that is gone when all of its services are."""

    async def _sentinel_task(self) -> None:
        """The last thing the event loop does. Of mode it is a second's sleep, however little there is left to end."""
        await asyncio.sleep(LAST_TURNS_S)


def run_app(app: faust.App) -> None:
    """Until a signal stops it; raises `SystemExit`."""
    worker: Any = Process(app, loglevel="INFO", redirect_stdouts=False, override_logging=False, quiet=True)
    worker.spinner = None  # it moves the cursor, also where there is no terminal
    worker.execute_from_commandline()
