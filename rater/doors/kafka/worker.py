"""`rater worker`: a Faust worker whose one service rates partitions.

Faust gives the process: signals, log, web pages, the life of services. Its streams, tables and transactions are not used:
the group and the partition tasks are ours (`crew`, `task`). Whatever a task cannot survive ends the process, and whoever
supervises it starts a new one.
"""

import asyncio
import logging
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import faust
import mode
from faust.app.base import BootStrategy

from rater.doors.clock import monotonic
from rater.doors.kafka.client import KafkaLog
from rater.doors.kafka.crew import Crew, Kit
from rater.doors.kafka.names import Names
from rater.doors.kafka.rule_sets import RuleSets
from rater.doors.kafka.settings import WorkerSettings
from rater.doors.kafka.snapshot import Snapshots
from rater.doors.kafka.status import StatusBoard
from rater.doors.kafka.task import Limits, Surroundings
from rater.doors.kafka.topics import check_topics

log = logging.getLogger("rater.worker")


class Boot(BootStrategy):
    """Faust's own consumer and producer stay away: nothing of ours goes through them."""

    enable_kafka = False


def limits_of(settings: WorkerSettings) -> Limits:
    return Limits(
        commit_interval_s=settings.commit_interval_ms / 1000,
        records_max=settings.batch_records_max,
        bytes_max=settings.batch_bytes_max,
        snapshot_interval_s=float(settings.snapshot_interval_s),
    )


def kafka_log(settings: WorkerSettings) -> KafkaLog:
    arguments = settings.connection.client_arguments()
    arguments.pop("request_timeout_ms", None)
    return KafkaLog(
        arguments,
        request_timeout_ms=settings.request_timeout_ms,
        session_timeout_ms=settings.session_timeout_ms,
        transaction_timeout_ms=settings.transaction_timeout_ms,
    )


def _say(partition: int, sentence: str) -> None:
    log.info("partition %d: %s", partition, sentence)


class RatingService(mode.Service):
    """Rates the partitions that the group gives this process."""

    def __init__(self, settings: WorkerSettings, rules: RuleSets, board: StatusBoard, **kwargs: Any) -> None:
        self.settings, self.rules, self.board = settings, rules, board
        self._threads = ThreadPoolExecutor(settings.engine_threads, "rater-engine")
        self._log: KafkaLog | None = None
        self._crew: Crew | None = None
        super().__init__(**kwargs)

    async def on_start(self) -> None:
        settings = self.settings
        names = Names(settings.app_id, settings.topic_prefix)
        partitions = await check_topics(settings.connection, settings.topic_prefix)
        loop = asyncio.get_running_loop()
        around = Surroundings(
            now=monotonic,
            sleep=asyncio.sleep,
            in_thread=lambda work: loop.run_in_executor(self._threads, work),
            new_key=lambda: secrets.token_bytes(16),
            say=_say,
            watch=self.board,
        )
        self._log = kafka_log(settings)
        kit = Kit(
            log=self._log,
            names=names,
            partitions=partitions,
            rules=self.rules,
            snapshots=Snapshots(settings.state_dir, settings.app_id),
            limits=limits_of(settings),
            around=around,
        )
        self._crew = Crew(kit, self._end)
        await self._crew.join(settings.group_instance_id)
        self.add_future(self._watch_membership(self._crew))

    async def _watch_membership(self, crew: Crew) -> None:
        """A process that another one has replaced (the same instance id) must end, not linger without partitions."""
        while not self.should_stop:
            await self.sleep(1.0)
            try:
                crew.check()
            except Exception as problem:
                self._end(problem)
                return

    def _end(self, problem: BaseException) -> None:
        log.critical("this worker ends: %s", problem)
        self.add_future(self.crash(problem))

    async def on_stop(self) -> None:
        if self._crew is not None:
            await self._crew.leave()
        if self._log is not None:
            await self._log.close()
        self._threads.shutdown(wait=False)


def make_app(settings: WorkerSettings, rules: RuleSets) -> faust.App:
    """The Faust application of a worker: the rating service, and pages that say what it does."""
    board = StatusBoard()
    servers = ";".join(f"kafka://{server}" for server in settings.connection.bootstrap_servers)
    app = faust.App(
        settings.app_id,
        broker=servers,
        datadir=str(settings.state_dir / "faust"),
        web_bind=settings.web_host,
        web_host=settings.web_host,
        web_port=settings.web_port,
        autodiscover=False,
        loghandlers=[],
    )
    app.boot_strategy = Boot(app)

    async def partitions(view: Any, _request: Any) -> Any:
        return view.json(board.as_object())

    async def ready(view: Any, _request: Any) -> Any:
        return view.json({"ready": board.ready()}, status=200 if board.ready() else 503)

    app.page("/partitions", name="partitions")(partitions)
    app.page("/readyz", name="readyz")(ready)

    class Rating(RatingService):
        """What Faust makes when the rest of the application is up."""

        def __init__(self, **kwargs: Any) -> None:
            super().__init__(settings, rules, board, **kwargs)

    app.service(Rating)
    return app


def run_worker(settings: WorkerSettings) -> None:
    """Until a signal stops it; raises `SystemExit`. Decks are read, and refused, before anything else begins."""
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    rules = RuleSets(settings.rates, settings.plans, settings.state_dir / "rates", log.warning)
    asyncio.run(check_topics(settings.connection, settings.topic_prefix))  # a sentence now, not a stack trace later
    worker = faust.Worker(make_app(settings, rules), loglevel="INFO", redirect_stdouts=False)
    cast(Any, worker).execute_from_commandline()
