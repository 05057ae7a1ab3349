"""`python -m benchmarks [engine|files|decks|mediation|kafka|loop|authorize] [--json] [--quick]`: the canonical workload, measured here."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.report import Line, machine, print_json, print_table

NAMES = ("engine", "files", "decks", "mediation", "kafka", "loop", "authorize")
WITH_BROKER = ("kafka", "loop", "authorize")


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="|".join(NAMES), help="What to measure; all when left out.")
    parser.add_argument("--json", action="store_true", help="One object a line on standard output and nothing else.")
    parser.add_argument("--quick", action="store_true", help="Less of everything: a few minutes in all.")
    kafka = parser.add_argument_group("kafka")
    kafka.add_argument("--large", action="store_true", help="Also restore a million accounts and ten million ids.")
    kafka.add_argument(
        "--peers", action="store_true", help="Also Quix Streams, Faust and confluent-kafka, installed apart."
    )
    kafka.add_argument("--peers-python", type=Path, metavar="FILE", help="An interpreter that has them already.")
    kafka.add_argument("--streams", type=Path, metavar="FOLDER", help="Sources of the Kafka Streams application.")
    for_brokers = parser.add_argument_group("kafka, authorize")
    for_brokers.add_argument(
        "--broker-files",
        type=Path,
        metavar="FOLDER",
        help="Where the broker keeps them. [in memory, where there is room]",
    )
    asking = parser.add_argument_group("authorize")
    asking.add_argument("--questions-per-s", type=float, metavar="N", help="Whether a call may start. [1000]")
    asking.add_argument("--calls-per-s", type=float, metavar="N", help="Rated beside the questions. [5000]")
    asking.add_argument("--partitions", type=int, metavar="N", help="Of the one worker. [1]")
    found = parser.parse_args(arguments)
    for name in found.names:
        if name not in NAMES:
            parser.error(f"'{name}' is no benchmark; expected one or more of: {' '.join(NAMES)}")
    why = _no_kafka()
    if why is not None and (asked := [name for name in found.names if name in WITH_BROKER]):
        parser.error(f"'{asked[0]}' cannot run here: {why}")
    if not found.names:
        found.names = [name for name in NAMES if name not in WITH_BROKER or why is None]
        if why is not None:
            print(f"benchmarks: {' and '.join(WITH_BROKER)} are left out: {why}", file=sys.stderr)
    return found


def _no_kafka() -> str | None:
    """Why no broker can be measured here, or None."""
    from tests.kafka import broker

    return broker.missing()


def _lines(found: argparse.Namespace) -> Iterator[Line]:
    yield machine()
    names, quick = found.names, found.quick
    if "engine" in names:
        from benchmarks import engine

        yield from engine.run(engine.QUICK if quick else engine.Sizes())
    if "decks" in names:
        from benchmarks import decks

        yield from decks.run(decks.QUICK if quick else decks.Sizes())
    if "files" in names:
        from benchmarks import files

        yield from files.run(files.QUICK if quick else files.Sizes())
    if "mediation" in names:
        from benchmarks import mediation

        yield from mediation.run(mediation.QUICK if quick else mediation.Sizes())
    if "kafka" in names:
        from benchmarks import kafka

        yield from kafka.run(
            kafka.sizes(quick, found.large, found.peers, found.peers_python, found.streams, found.broker_files)
        )
    if "loop" in names:
        from benchmarks import loop

        yield from loop.run(loop.QUICK if quick else loop.Sizes())
    if "authorize" in names:
        from benchmarks import authorize

        asked = (found.questions_per_s, found.calls_per_s, found.partitions, found.broker_files)
        yield from authorize.run(authorize.sizes(quick, *asked))


def main(arguments: list[str] | None = None) -> int:
    found = _arguments(arguments)
    (print_json if found.json else print_table)(_lines(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
