"""`python -m scripts.up_local`: starts the set, shows it on one page, stops it at Ctrl-C."""

import argparse
import asyncio
import fcntl
import shutil
import signal
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from aiohttp import web

from scripts.up_local import plan
from scripts.up_local.broker import broker
from scripts.up_local.parts import HOST, CannotStart, Part, Place, Ports
from scripts.up_local.status_page import address, status_application
from scripts.up_local.supervisor import Supervisor

ROOT = Path(__file__).resolve().parents[2]
NO_GRAFANA = "needs its own image; docker-compose.yml has it, ops/grafana/dashboard.json is what it shows"
NO_PROMETHEUS = "Prometheus is not installed (Debian: prometheus)"


def main() -> int:
    asked = _arguments()
    place = Place(ROOT, asked.data.resolve())
    try:
        with _alone(place):
            if asked.fresh:
                _forget(place)
            asyncio.run(_run(place, Ports(asked.shift), asked.calls_per_s))
    except CannotStart as why:
        print(f"up-local: {why}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.up_local",
        description="Broker, topics, two workers, three agents, history sink, Prometheus, a mail catcher and invented traffic, "
        "as plain processes of this machine, with one page of links. Ctrl-C stops all of it.",
    )
    parser.add_argument("--shift", type=int, default=0, metavar="N", help="add N to every port")
    parser.add_argument(
        "--data", type=Path, default=ROOT / ".up-local", metavar="DIR", help="what is written (default .up-local)"
    )
    parser.add_argument("--fresh", action="store_true", help="forget what an earlier start wrote")
    parser.add_argument("--calls-per-s", type=int, default=5, metavar="N", help="invented calls a second (default 5)")
    return parser.parse_args()


@contextmanager
def _alone(place: Place) -> Iterator[None]:
    """Two of them on one folder would fight for it."""
    place.data.mkdir(parents=True, exist_ok=True)
    with (place.data / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotStart(
                f"another one runs on {place.data}; stop it, or give this one --data and --shift"
            ) from None
        yield


def _forget(place: Place) -> None:
    for entry in place.data.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)


def _require_free(parts: Iterable[Part], status_port: int) -> None:
    """All ports are looked at before anything starts, and all that are taken are named at once."""
    wanted = {"status page": status_port} | {
        f"{part.name}, {use}": port for part in parts for use, port in part.ports.items()
    }
    taken = [f"{port} ({use})" for use, port in wanted.items() if not _is_free(port)]
    if taken:
        raise CannotStart(
            f"found in use: port {', '.join(taken)}; expected them free. Stop what listens there, or move all ports: make up-local SHIFT=1000"
        )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what just ended may linger
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


async def _run(place: Place, ports: Ports, calls_per_s: int) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    prometheus = plan.prometheus(place, ports)
    last = [part for part in (prometheus,) if part is not None]
    rater = [plan.mail_catcher(place, ports), *plan.parts_of_rater(place, ports, calls_per_s)]
    kafka = broker(place, ports)
    _require_free([kafka, *rater, *last], ports.status)

    supervisor = Supervisor(place)
    missing = {"grafana": NO_GRAFANA} | ({} if prometheus else {"prometheus": NO_PROMETHEUS})
    runner = web.AppRunner(status_application(supervisor, missing, _hints(place, ports)), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, ports.status).start()
    looking = asyncio.create_task(supervisor.look())
    starting = asyncio.create_task(_start(supervisor, place, ports, kafka, [*rater, *last]))
    waiting = asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            print(f"\nall is up: {address(ports.status)}   (Ctrl-C stops everything)", flush=True)
            await waiting
    finally:
        for task in (looking, starting, waiting):
            task.cancel()
        print("stopping ...", flush=True)
        await supervisor.stop()
        await runner.cleanup()
    print("all is down", flush=True)


async def _start(supervisor: Supervisor, place: Place, ports: Ports, kafka: Part, parts: Iterable[Part]) -> None:
    """The broker, then its topics and the compiled engine, then the rest, each as soon as the one before is well."""
    print(f"status page: {address(ports.status)}", flush=True)
    await _started(supervisor, kafka)
    environment = plan.common(place, ports)
    await supervisor.run_once("topics", plan.topics_command(), environment)
    await supervisor.run_once("warm-up", (*plan.RATER, "warm-up"), environment)
    for part in parts:
        await _started(supervisor, part)


async def _started(supervisor: Supervisor, part: Part) -> None:
    await supervisor.start(part)
    print(f"  {part.name:<20} {' '.join(str(port) for port in part.ports.values()):<12} {part.what}", flush=True)


def _hints(place: Place, ports: Ports) -> dict[str, str]:
    history, api = plan.history_file(place), plan.api_file(place)
    books = f"--bootstrap {HOST}:{ports.broker} --app-id {plan.APP_ID} --rates {plan.rates(place)}"
    tenant = f"http://{HOST}:{ports.api}/v1/tenants/contoso"
    return {
        "what contoso used, call by call": f"rater history usage contoso --history {history}",
        "its recharges": f"rater history recharges contoso --history {history}",
        "its balance now: a token, then the question": f"TOKEN=$(rater api token create me --tenant contoso --scope funds --file {api})\n"
        f'curl -H "Authorization: Bearer $TOKEN" {tenant}/balance',
        "every balance derived again from the topics, beside the workers": f"rater audit {books}",
        "are the topics as they should be?": f"rater topics check --bootstrap {HOST}:{ports.broker}",
    }


if __name__ == "__main__":
    sys.exit(main())
