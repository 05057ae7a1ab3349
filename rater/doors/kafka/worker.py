"""`rater worker`: a Faust worker whose one service rates partitions.

Faust gives the process: signals, log, web pages, the life of services. Its streams, tables and transactions are not used:
the group and the partition tasks are ours (`crew`, `task`). Whatever a task cannot survive ends the process, and whoever
supervises it starts a new one.
"""

import asyncio
import logging
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import faust
import mode

from rater.doors.clock import monotonic
from rater.doors.faust_process import bare_app, run_app
from rater.doors.kafka.client import KafkaLog
from rater.doors.kafka.compression import CODECS
from rater.doors.kafka.crew import Crew, Kit
from rater.doors.kafka.live import LivePage, warm
from rater.doors.kafka.measures import Measures
from rater.doors.kafka.names import COMMANDS, Names
from rater.doors.kafka.rule_sets import RuleSets
from rater.doors.kafka.settings import WorkerSettings
from rater.doors.kafka.snapshot import Snapshots
from rater.doors.kafka.standing import EVERY_S, Standing
from rater.doors.kafka.status import StatusBoard
from rater.doors.kafka.surroundings import Limits, Surroundings
from rater.doors.kafka.topics import check_topics
from rater.doors.logs import set_up_logging
from rater.doors.metrics import CONTENT_TYPE, WorkerMetrics, exposition, new_registry
from rater.doors.rules import RuleBook
from rater.doors.start_memory import keep_start

log = logging.getLogger("rater.worker")
ASIDE_THREADS = 2  # one may wait for the disk while another partition is taken over
UNHURRIED_THREADS = 2  # one partition has its turn to save, one to make room


def limits_of(settings: WorkerSettings) -> Limits:
    return Limits(
        commit_interval_s=settings.commit_interval_ms / 1000,
        records_max=settings.batch_records_max,
        bytes_max=settings.batch_bytes_max,
        codec=CODECS[settings.compression],
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
        transaction_version=None if settings.transaction_version == "auto" else int(settings.transaction_version),
        urgent_topics=(settings.topic_prefix + COMMANDS,),
    )


def _say(partition: int, sentence: str) -> None:
    log.info("partition %d: %s", partition, sentence, extra={"event": "partition", "partition": partition})


class RatingService(mode.Service):
    """Rates the partitions that the group gives this process."""

    def __init__(
        self, settings: WorkerSettings, rules: RuleSets, board: StatusBoard, live: LivePage, **kwargs: Any
    ) -> None:
        self.settings, self.rules, self.board, self.live = settings, rules, board, live
        self._engine = ThreadPoolExecutor(
            settings.engine_threads, "rater-engine"
        )  # of partitions that have no thread of their own
        self._aside = ThreadPoolExecutor(ASIDE_THREADS, "rater-aside")
        self._unhurried = ThreadPoolExecutor(UNHURRIED_THREADS, "rater-unhurried")
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
            turn=threading.Semaphore(settings.engine_threads),
            in_thread=lambda work: loop.run_in_executor(self._engine, work),
            aside=lambda work: loop.run_in_executor(self._aside, work),
            unhurried=lambda work: loop.run_in_executor(self._unhurried, work),
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
        self.board.watch_crew(self._crew, partitions)
        self.live.open(self._crew, partitions)
        keep_start()
        await self._crew.join(settings.group_instance_id)
        self.add_future(self._watch_membership(self._crew))
        self.add_future(self._watch_standing(Standing(self._log, names, self.board)))

    async def _watch_membership(self, crew: Crew) -> None:
        """A process that another one has replaced (the same instance id) must end, not linger without partitions."""
        while not self.should_stop:
            await self.sleep(1.0)
            try:
                crew.check()
            except Exception as problem:
                self._end(problem)
                return

    async def _watch_standing(self, standing: Standing) -> None:
        while not self.should_stop:
            await self.sleep(EVERY_S)
            try:
                await standing.look()
            except Exception:  # it only watches
                log.exception("what waits before standing partitions is not known", extra={"event": "metrics"})
        await standing.close()

    def _end(self, problem: BaseException) -> None:
        log.critical("this worker ends: %s", problem)
        self.add_future(self.crash(problem))

    async def on_stop(self) -> None:
        if self._crew is not None:
            await self._crew.leave()
        if self._log is not None:
            await self._log.close()
        for threads in (self._engine, self._aside, self._unhurried):
            threads.shutdown(wait=False)


def first_used(kept: Path, book: RuleBook) -> dict[str, float]:
    """Since when each deck lies in the folder of decks used, seconds since 1970."""
    files = {deck.version: kept / f"{deck.version}.deck" for deck in book.decks}
    return {version: file.stat().st_mtime for version, file in files.items() if file.exists()}


def make_app(settings: WorkerSettings, rules: RuleSets) -> faust.App:
    """The Faust application of a worker: the rating service, and pages that say what it does."""
    registry = new_registry()
    board = StatusBoard(Measures(WorkerMetrics(registry)), lambda book: first_used(settings.state_dir / "rates", book))
    live = LivePage(settings.internal_secret, settings.web_host)
    warm()
    app = bare_app(settings.app_id, settings)

    async def partitions(view: Any, _request: Any) -> Any:
        return view.json(board.as_object())

    async def ready(view: Any, _request: Any) -> Any:
        return view.json({"ready": board.ready()}, status=200 if board.ready() else 503)

    async def alive(view: Any, _request: Any) -> Any:
        return view.json({"alive": True})  # an answer is the proof: the loop that rates gave it

    async def metrics(view: Any, _request: Any) -> Any:
        board.look_ahead()
        return view.bytes(exposition(registry), headers={"Content-Type": CONTENT_TYPE})

    async def account(view: Any, request: Any, tenant: str) -> Any:
        status, told = await live.answer(tenant, request.headers.get("Authorization", ""), request.query)
        return view.json(told, status=status)

    app.page("/live/{tenant}", name="live")(account)
    app.page("/partitions", name="partitions")(partitions)
    app.page("/readyz", name="readyz")(ready)
    app.page("/healthz", name="healthz")(alive)
    app.page("/metrics", name="metrics")(metrics)

    class Rating(RatingService):
        """What Faust makes when the rest of the application is up."""

        def __init__(self, **kwargs: Any) -> None:
            super().__init__(settings, rules, board, live, **kwargs)

    app.service(Rating)
    return app


def run_worker(settings: WorkerSettings) -> None:
    """Until a signal stops it; raises `SystemExit`. Decks are read, and refused, before anything else begins."""
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    set_up_logging(settings.log_format, settings.log_file)
    rules = RuleSets(settings.rates, settings.plans, settings.state_dir / "rates", log.warning)
    asyncio.run(check_topics(settings.connection, settings.topic_prefix))  # a sentence now, not a stack trace later
    run_app(make_app(settings, rules))
