"""`rater api` as a process: what it opens, and the server around the application."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from prometheus_client import CollectorRegistry, start_http_server
from starlette.concurrency import run_in_threadpool

from rater.core.instants import instant_text
from rater.doors.clock import monotonic, wall_ms
from rater.doors.http.api import Api
from rater.doors.http.app import Opening, make_app
from rater.doors.http.database import ApiProblem, Database
from rater.doors.http.deciding import follow
from rater.doors.http.gate import Limits
from rater.doors.http.hearing import Hearing
from rater.doors.http.history_routes import UNFINISHED
from rater.doors.http.patience import Patient
from rater.doors.http.settings import ApiSettings
from rater.doors.http.workers import Workers
from rater.doors.listening import Follower, Listener
from rater.doors.logs import set_up_logging
from rater.doors.metric_groups import new_registry
from rater.doors.metrics_api import ApiMetrics
from rater.doors.publishing import Placed, Publisher
from rater.doors.questions import History
from rater.doors.settings.connection import Connection
from rater.doors.start_memory import keep_start

CONNECTIONS_MAX = 256
KEEP_ALIVE_S = 15
GRACE_S = 20

COMMANDS = "account-commands"

MakeFollower = Callable[[Connection, str, Listener], Follower]

log = logging.getLogger("rater.api")


class CommandWriter:
    """Nothing but account commands goes through it."""

    def __init__(self, publisher: Publisher, topic: str) -> None:
        self._publisher, self._topic = publisher, topic

    async def publish(self, tenant: str, value: bytes) -> Placed:
        return await self._publisher.publish(self._topic, tenant, value)


def make_api(settings: ApiSettings, history: History | None, metrics: ApiMetrics | None = None) -> Api:
    """The API's own file is made when it is not there: an API without a token answers nobody."""
    exports = settings.api_file.resolve().parent / "exports"
    for left in exports.glob(f"*{UNFINISHED}*"):  # of a process that was killed: it holds who called whom
        left.unlink(missing_ok=True)
    return Api(
        database=Database(settings.api_file, make=True),
        history=history,
        limits=Limits(settings.api_body_bytes_max, float(settings.api_timeout_s)),
        exports=exports,
        now_ms=wall_ms,
        now_s=monotonic,
        requests_per_minute=settings.api_requests_per_minute,
        authorizations_per_minute=settings.api_authorizations_per_minute,
        metrics=metrics or ApiMetrics(new_registry()),
    )


class Server(uvicorn.Server):
    """A signal ends it in order, and that is no failure: its own way would raise the signal once more at the end."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        yield

    def _end(self) -> None:
        self.should_exit = True


def opening(settings: ApiSettings, make_follower: MakeFollower) -> Opening:
    """What lives as long as the process: connections to workers and brokers."""

    @asynccontextmanager
    async def opened(api: Api) -> AsyncIterator[None]:
        await run_in_threadpool(instant_text, 0)  # loads the compiler: now, not while the first question waits
        workers = Workers(settings.api_workers, settings.internal_secret, monotonic)
        await workers.open()
        api.live = workers if settings.api_workers else None
        publisher = None
        running = [asyncio.ensure_future(follow(api))]
        if settings.connection is not None:
            publisher = Publisher(settings.connection)
            api.writer = CommandWriter(publisher, settings.topic_prefix + COMMANDS)
            hearing = Hearing(api.authorizing.waiting, api.ledger, wall_ms)
            api.follower = make_follower(settings.connection, settings.topic_prefix, hearing)
            running.append(asyncio.ensure_future(api.follower.run()))
        keep_start()
        try:
            yield
        finally:
            for task in running:
                task.cancel()
            await asyncio.wait(running)
            if publisher is not None:
                await publisher.close()
            await workers.close()

    return opened


def open_pages(settings: ApiSettings, registry: CollectorRegistry) -> None:
    """`/metrics` on a port of its own: what Prometheus asks needs no token, and is not for the clients of the API. Raises `ApiProblem`."""
    try:
        start_http_server(settings.api_pages_port, settings.api_pages_host, registry)
    except OSError as error:
        raise ApiProblem(
            f"RATER_API_PAGES_PORT {settings.api_pages_port} on {settings.api_pages_host}: {error.strerror}; "
            "expected a port that nobody listens on"
        ) from None


def run_api(settings: ApiSettings, history: History | None, make_follower: MakeFollower) -> None:
    """Until a signal stops it; requests under way are finished."""
    set_up_logging(settings.log_format, settings.log_file)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # each step of its start: nobody's time
    registry = new_registry()
    metrics = ApiMetrics(registry)
    api = make_api(settings, history, metrics)
    open_pages(settings, registry)
    tls = settings.api_tls_cert_file is not None
    log.info("listening on %s://%s port %d", "https" if tls else "http", settings.api_host, settings.api_port)
    server = Server(
        uvicorn.Config(
            make_app(api, opening(settings, make_follower)), host=settings.api_host, port=settings.api_port, log_config=None, access_log=False,
            http=Patient, loop="asyncio", ws="none", lifespan="on", server_header=False, proxy_headers=False,
            limit_concurrency=CONNECTIONS_MAX, timeout_keep_alive=KEEP_ALIVE_S, timeout_graceful_shutdown=GRACE_S,
            ssl_certfile=str(settings.api_tls_cert_file) if tls else None,
            ssl_keyfile=str(settings.api_tls_key_file) if tls else None,
        )
    )  # fmt: skip
    try:
        server.run()
        log.info("stopped")
    finally:
        api.database.close()
