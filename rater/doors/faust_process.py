"""A process by Faust: signals, log, web pages and the life of services, for the rating worker and the agents around it.

Faust's consumer, producer, tables and transactions stay away: nothing of ours goes through them.
"""

from pathlib import Path
from typing import Any, Protocol

import faust
from faust.app.base import BootStrategy

from rater.doors.settings.connection import Connection


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


def run_app(app: faust.App) -> None:
    """Until a signal stops it; raises `SystemExit`."""
    worker: Any = faust.Worker(app, loglevel="INFO", redirect_stdouts=False, override_logging=False, quiet=True)
    worker.spinner = None  # it moves the cursor, also where there is no terminal
    worker.execute_from_commandline()
