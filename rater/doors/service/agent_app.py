"""The process of an agent: a Faust application whose one service reads a topic and does something about each record.

Faust gives signals, log, web pages and the life of services; the records come by `agent_log`. At least once: an offset is committed
only when everything before it is acknowledged. Whatever the agent cannot survive ends the process, and its supervisor starts a new one.

    class Echo:                                     # a `Reader`, with `start` and `stop` around it: an `Agent`
        async def take(self, delivery):
            await self.log.publish("account-commands", tenant, value)
            delivery.acknowledge()

    run_agent(settings, ["account-events"], Echo())
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import faust
import mode
from faust.web.views import View

from rater.doors.faust_process import bare_app, run_app
from rater.doors.logs import set_up_logging
from rater.doors.service.agent_log import AgentLog, Reader
from rater.doors.settings.agent import AgentSettings

log = logging.getLogger("rater.agent")

SILENT_S = 60.0  # a reading loop that has not turned for so long is stuck

# A page gets Faust's view (`json`, `text`, `bytes` make answers) and aiohttp's request, by GET or POST.
Page = Callable[[Any, Any], Awaitable[Any]]


class Agent(Reader, Protocol):
    """A `Reader` with a life, and pages of its own."""

    async def start(self, agent_log: AgentLog) -> None:
        """Before the first record; the log can publish already."""

    async def stop(self) -> None:
        """After the last record; what is not acknowledged comes again."""

    def pages(self) -> Mapping[str, Page]:
        """Path -> page, for example `/metrics`."""

    def unhealthy(self) -> str:
        """Why this process should be replaced, in a sentence; empty when it should not."""


class AgentService(mode.Service):
    """Reads, hands over, commits; ends the process when it cannot."""

    def __init__(self, settings: AgentSettings, topics: Sequence[str], agent: Agent, **kwargs: Any) -> None:
        self.agent = agent
        self.agent_log = AgentLog(settings, topics, agent)
        self._reading: asyncio.Task[None] | None = None
        super().__init__(**kwargs)

    async def on_start(self) -> None:
        await self.agent.start(self.agent_log)
        await self.agent_log.start()
        self._reading = asyncio.create_task(self.agent_log.run(), name="reading")
        self.add_future(self._watch(self._reading))

    async def _watch(self, reading: "asyncio.Task[None]") -> None:
        try:
            await asyncio.shield(reading)
        except asyncio.CancelledError:
            return
        except Exception as problem:
            log.critical("this agent ends: %s: %s", type(problem).__name__, problem, exc_info=problem)
            await self.crash(problem)

    async def on_stop(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._reading
        await self.agent.stop()
        await self.agent_log.stop()

    def trouble(self) -> str:
        if self.agent_log.silent_s() > SILENT_S:
            return f"the reading loop has not turned for {self.agent_log.silent_s():.0f} s"
        return self.agent.unhealthy()


def make_agent_app(settings: AgentSettings, topics: Sequence[str], agent: Agent) -> faust.App:
    """The Faust application: the service, `/healthz`, `/readyz`, `/partitions`, and the agent's own pages."""
    app = bare_app(settings.group, settings)
    running: list[AgentService] = []

    class Running(AgentService):
        """What Faust makes when the rest of the application is up."""

        def __init__(self, **kwargs: Any) -> None:
            super().__init__(settings, topics, agent, **kwargs)
            running.append(self)

    app.service(Running)
    pages = {"/healthz": _health(running), "/readyz": _readiness(running), "/partitions": _partitions(running)}
    for path, page in (pages | dict(agent.pages())).items():
        app.page(path, name=path.strip("/").replace("/", "-"))(_view(page))
    return app


def _view(page: Page) -> type[View]:
    """Faust gives a function GET alone."""

    async def answer(view: Any, request: Any) -> Any:
        return await page(view, request)

    return type("Page", (View,), {"get": answer, "post": answer, "__doc__": page.__doc__})


def _health(running: Sequence[AgentService]) -> Page:
    async def healthz(view: Any, _request: Any) -> Any:
        why = running[0].trouble() if running else "starting"
        return view.json({"ok": not why, "why": why}, status=503 if running and why else 200)

    return healthz


def _readiness(running: Sequence[AgentService]) -> Page:
    async def readyz(view: Any, _request: Any) -> Any:
        ready = bool(running) and running[0].agent_log.ready()
        return view.json({"ready": ready}, status=200 if ready else 503)

    return readyz


def _partitions(running: Sequence[AgentService]) -> Page:
    async def partitions(view: Any, _request: Any) -> Any:
        return view.json({"partitions": running[0].agent_log.partitions() if running else {}})

    return partitions


def run_agent(settings: AgentSettings, topics: Sequence[str], agent: Agent) -> None:
    """Until a signal stops it; raises `SystemExit`."""
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    set_up_logging(settings.log_format, settings.log_file)
    run_app(make_agent_app(settings, topics, agent))
