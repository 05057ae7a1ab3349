"""`rater api` as a process: what it opens, and the server around the application."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn

from rater.doors.clock import monotonic, wall_ms
from rater.doors.http.api import Api
from rater.doors.http.app import make_app
from rater.doors.http.database import Database
from rater.doors.http.deciding import follow
from rater.doors.http.gate import HEADER_BYTES_MAX, TARGET_BYTES_MAX, Limits
from rater.doors.http.history_routes import UNFINISHED
from rater.doors.http.settings import ApiSettings
from rater.doors.http.workers import Workers
from rater.doors.logs import set_up_logging
from rater.doors.publishing import Placed, Publisher
from rater.doors.questions import History

CONNECTIONS_MAX = 256
KEEP_ALIVE_S = 15
GRACE_S = 20

COMMANDS = "account-commands"

log = logging.getLogger("rater.api")


class CommandWriter:
    """Nothing but account commands goes through it."""

    def __init__(self, publisher: Publisher, topic: str) -> None:
        self._publisher, self._topic = publisher, topic

    async def publish(self, tenant: str, value: bytes) -> Placed:
        return await self._publisher.publish(self._topic, tenant, value)


def make_api(settings: ApiSettings, history: History | None) -> Api:
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


def run_api(settings: ApiSettings, history: History | None) -> None:
    """Until a signal stops it; requests under way are finished."""
    set_up_logging(settings.log_format, settings.log_file)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # each step of its start: nobody's time
    api = make_api(settings, history)

    @asynccontextmanager
    async def opened(api: Api) -> AsyncIterator[None]:
        workers = Workers(settings.api_workers, settings.internal_secret, monotonic)
        await workers.open()
        api.live = workers if settings.api_workers else None
        publisher = None if settings.connection is None else Publisher(settings.connection)
        if publisher is not None:
            api.writer = CommandWriter(publisher, settings.topic_prefix + COMMANDS)
        following = asyncio.ensure_future(follow(api))
        try:
            yield
        finally:
            following.cancel()
            if publisher is not None:
                await publisher.close()
            await workers.close()

    tls = settings.api_tls_cert_file is not None
    log.info("listening on %s://%s port %d", "https" if tls else "http", settings.api_host, settings.api_port)
    server = Server(
        uvicorn.Config(
            make_app(api, opened), host=settings.api_host, port=settings.api_port, log_config=None, access_log=False,
            http="h11", ws="none", lifespan="on", server_header=False, proxy_headers=False,
            limit_concurrency=CONNECTIONS_MAX, timeout_keep_alive=KEEP_ALIVE_S, timeout_graceful_shutdown=GRACE_S,
            h11_max_incomplete_event_size=HEADER_BYTES_MAX + 2 * TARGET_BYTES_MAX,
            ssl_certfile=str(settings.api_tls_cert_file) if tls else None,
            ssl_keyfile=str(settings.api_tls_key_file) if tls else None,
        )
    )  # fmt: skip
    try:
        server.run()
        log.info("stopped")
    finally:
        api.database.close()
