"""May a call start: questions over HTTP beside rating, every process the real command, on one real broker.

One worker rates the canonical calls at a steady pace, `rater api` is asked by a switch in a process of its own, and the clock of a
question runs from the moment it is due to its whole answer: through HTTP, the log, the engine's transaction, and back. CPU is what
each process used beyond what it uses for the rating alone, divided by the questions.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import orjson

from benchmarks import kafka_delay
from benchmarks.kafka_peers import plain_environment
from benchmarks.kafka_scene import (
    Scene,
    Worker,
    bodies_by_partition,
    broker_name,
    cluster_of,
    cpu_s_of,
    files_of,
    java_pid,
    wait_until,
)
from benchmarks.report import Goal, Line, figure, progress
from benchmarks.workload import Shape, calls, commands, write_deck
from rater.doors.kafka.names import CDRS, COMMANDS, Names
from tests.kafka.broker import free_ports

P99 = Goal(20)
UNANSWERED = Goal(0.001)
HOLD_SECONDS = 5  # no call record comes for these: what was held is free again soon
ANSWERED = ("allowed", "refused", "404", "422")  # canonical calls have tenants that nobody knows, and users left out
ASKED = ("call_type", "user", "caller", "callee", "tenant")


@dataclass(frozen=True, slots=True)
class Sizes:
    """Questions and calls a second, and for how long."""

    questions_per_s: float = 1_000
    calls_per_s: float = 5_000
    seconds: float = 20
    warm_s: float = 4  # not counted
    warm_step_s: float = 10.0
    warm_steps_max: int = kafka_delay.WARM_STEPS_MAX
    tenants: int = 1_000
    partitions: int = 1  # one transaction after the other is all that one worker's core has time for
    broker_files: Path | None = None


QUICK = Sizes(seconds=8, warm_s=2, warm_step_s=5, warm_steps_max=1, tenants=200)


def sizes(
    quick: bool,
    questions_per_s: float | None,
    calls_per_s: float | None,
    partitions: int | None,
    broker_files: Path | None = None,
) -> Sizes:
    """What was asked for on the command line."""
    given: dict[str, Any] = {
        "questions_per_s": questions_per_s, "calls_per_s": calls_per_s, "partitions": partitions, "broker_files": broker_files,
    }  # fmt: skip
    return replace(QUICK if quick else Sizes(), **{name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True, slots=True)
class Used:
    """CPU seconds of each process, and when."""

    at_s: float
    worker: float
    api: float
    broker: float


def run(sizes: Sizes) -> Iterator[Line]:
    seconds = sizes.warm_step_s + 2 * (sizes.seconds + sizes.warm_s)
    shape = Shape(sizes.tenants, 1_000, int(sizes.calls_per_s * seconds) + 1)
    with tempfile.TemporaryDirectory() as folder, cluster_of("1g", sizes.broker_files) as cluster:
        scene = Scene(cluster, Path(folder), Path(folder) / "deck", Names("authorize", "authorize."), sizes.partitions)
        write_deck(scene.deck, shape)
        scene.create()
        progress("authorize: opening accounts")
        scene.fill(COMMANDS, bodies_by_partition(commands(shape), partitions=sizes.partitions))
        worker = Worker(scene, "worker")
        try:
            wait_until(lambda: worker.running() == sizes.partitions, "a worker to begin")
            with serving(scene, worker) as (api, port, token):
                yield from measure(scene, worker, api, port, token, calls(shape), sizes)
        finally:
            worker.stop()


@contextmanager
def serving(scene: Scene, worker: Worker) -> Iterator[tuple[subprocess.Popen[bytes], int, str]]:
    """The API, when it follows the log; with a token for all tenants."""
    port, pages = free_ports(2)
    environment = plain_environment() | {name: os.environ[name] for name in ("RATER_CACHE_DIR",) if name in os.environ}
    environment |= {
        "RATER_API_FILE": str(scene.folder / "api.db"), "RATER_API_PORT": str(port), "RATER_API_PAGES_PORT": str(pages),
        "RATER_API_WORKERS": f"127.0.0.1:{worker.port}", "RATER_BOOTSTRAP_SERVERS": scene.bootstrap,
        "RATER_TOPIC_PREFIX": scene.names.prefix, "RATER_API_AUTHORIZATIONS_PER_MINUTE": "10000000",
    }  # fmt: skip
    token = subprocess.run(
        [sys.executable, "-m", "rater", "api", "token", "create", "switch", "--tenant", "*", "--scope", "authorize"],
        check=True, capture_output=True, text=True, env=environment,
    ).stdout.strip()  # fmt: skip
    said = scene.folder / "api.log"
    with said.open("wb") as out:
        api = subprocess.Popen([sys.executable, "-m", "rater", "api"], env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out)  # fmt: skip
    try:
        wait_until(lambda: _ready(port), f"the API to follow the log: {said.read_text()[-500:]}")
        yield api, port, token
    finally:
        api.terminate()
        api.wait(30)


def _ready(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return int(answer.status) == 200
    except (URLError, OSError):
        return False


def measure(
    scene: Scene, worker: Worker, api: subprocess.Popen[bytes], port: int, token: str, lines: list[bytes], sizes: Sizes
) -> Iterator[Line]:
    """First the rating alone, then with questions beside it, on a broker that has compiled itself."""
    questions = scene.folder / "questions.jsonl"
    questions.write_bytes(b"\n".join(questions_of(lines)))

    def used() -> Used:
        return Used(time.perf_counter(), worker.cpu_s(), cpu_s_of(api.pid), cpu_s_of(java_pid(scene.cluster)))

    with ThreadPoolExecutor(1) as rating:
        warm = int(sizes.calls_per_s * sizes.warm_step_s)
        steps, compiling = warm_up(scene, rating, port, token, questions, lines[:warm], sizes)
        lines = lines[warm:]
        half = int(sizes.calls_per_s * (sizes.seconds + sizes.warm_s))
        progress("authorize: rating alone")
        begun = used()
        feed(scene, lines[:half], sizes)
        alone = used()
        progress("authorize: questions beside it")
        beside = rating.submit(feed, scene, lines[half : 2 * half], sizes)
        first = used()
        told = ask(port, token, questions, sizes)
        last = used()
        reached = beside.result()
    more = {
        "questions_per_s": sizes.questions_per_s, "calls_per_s": round(reached), "seconds": sizes.seconds, "connections": "160 kept",
        "partitions": sizes.partitions, "broker": broker_name(), "broker_files": files_of(scene.cluster),
        "warmed_s": round(steps * sizes.warm_step_s), "still_compiling": round(compiling, 3),
    }  # fmt: skip
    yield from _answers(told, more)
    yield from _cpu(begun, alone, first, last, sum(told["kinds"].values()))
    asking_us = told["cpu_s"] / sum(told["kinds"].values()) * 1e6
    yield figure("authorize", "CPU of the asking switch", asking_us, "µs a question", None)


def warm_up(
    scene: Scene, rating: ThreadPoolExecutor, port: int, token: str, questions: Path, lines: list[bytes], sizes: Sizes
) -> tuple[int, float]:
    """The same load as is measured: see `kafka_delay.until_compiled`."""
    same = replace(sizes, seconds=sizes.warm_step_s, warm_s=0)

    def step(number: int) -> Callable[[], object]:
        fresh = kafka_delay.again(lines, number)

        def run() -> None:
            beside = rating.submit(feed, scene, fresh, sizes)
            ask(port, token, questions, same)
            beside.result()

        return run

    return kafka_delay.until_compiled(scene, step, sizes.warm_steps_max)


def questions_of(lines: list[bytes]) -> Iterator[bytes]:
    """What a switch would have asked before these calls; those that nobody can read ask nothing."""
    for number, line in enumerate(lines[:20_000]):
        try:
            call = orjson.loads(line)
            told = {name: call[name] for name in ASKED if call.get(name) is not None}
            if set(ASKED) - set(told) <= {"caller", "user"}:
                yield orjson.dumps(told | {"call_id": f"bench:{number}", "seconds": 600, "hold_seconds": HOLD_SECONDS})
        except (ValueError, KeyError, TypeError):
            continue


def feed(scene: Scene, lines: list[bytes], sizes: Sizes) -> float:
    """The pace that was reached."""
    topic = scene.names.topic(CDRS)
    loads = kafka_delay.loads_of(lines, topic, sizes.calls_per_s, scene.partitions)
    return asyncio.run(kafka_delay.feed(scene.bootstrap, topic, loads, sizes.calls_per_s))


def ask(port: int, token: str, questions: Path, sizes: Sizes) -> dict[str, Any]:
    """What the switch was told."""
    told_s = (str(sizes.questions_per_s), str(sizes.seconds + sizes.warm_s), str(sizes.warm_s))
    command = [sys.executable, "-m", "benchmarks.authorize_client", str(port), *told_s, str(questions)]
    done = subprocess.run(command, check=True, capture_output=True, env=plain_environment() | {"TOKEN": token})
    told: dict[str, Any] = orjson.loads(done.stdout)
    return told


def _answers(told: dict[str, Any], more: dict[str, Any]) -> Iterator[Line]:
    kinds = told["kinds"]
    count = sum(kinds.values())
    unanswered = sum(number for kind, number in kinds.items() if kind not in ANSWERED)
    for name, share, goal in (("p50", 50, None), ("p90", 90, None), ("p99", 99, P99)):
        value = float(np.percentile(np.array(told["answers_ms"] or [np.inf]), share))
        yield figure("authorize", f"question to answer, {name}", value, "ms", goal, **more)
    yield figure("authorize", "unanswered", unanswered / count, "share", UNANSWERED, questions=count, **kinds)


def _cpu(begun: Used, alone: Used, first: Used, last: Used, questions: int) -> Iterator[Line]:
    """Beyond what the rating alone takes in as many seconds."""
    for name in ("api", "worker", "broker"):
        idle = (getattr(alone, name) - getattr(begun, name)) / (alone.at_s - begun.at_s)
        spent = getattr(last, name) - getattr(first, name) - idle * (last.at_s - first.at_s)
        yield figure(
            "authorize", f"CPU of the {name}", spent / questions * 1e6, "µs a question", None, alone=f"{idle:.2f} cores"
        )
