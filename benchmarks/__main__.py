"""`python -m benchmarks [engine|files|decks] [--json] [--quick]`: the canonical workload, measured on this machine."""

import argparse
import sys
from collections.abc import Iterator

from benchmarks.report import Line, machine, print_json, print_table

NAMES = ("engine", "files", "decks")
LATER = ("kafka",)


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="engine|files|decks", help="What to measure; all when left out.")
    parser.add_argument("--json", action="store_true", help="One object a line on standard output and nothing else.")
    parser.add_argument("--quick", action="store_true", help="Less of everything: about a minute in all.")
    found = parser.parse_args(arguments)
    for name in found.names:
        if name in LATER:
            parser.error(f"'{name}' is not in this version: it comes with the Kafka door. Expected: {' '.join(NAMES)}")
        if name not in NAMES:
            parser.error(f"'{name}' is no benchmark; expected one or more of: {' '.join(NAMES)}")
    return found


def _lines(names: list[str], quick: bool) -> Iterator[Line]:
    yield machine()
    if "engine" in names:
        from benchmarks import engine

        yield from engine.run(engine.QUICK if quick else engine.Sizes())
    if "decks" in names:
        from benchmarks import decks

        yield from decks.run(decks.QUICK if quick else decks.Sizes())
    if "files" in names:
        from benchmarks import files

        yield from files.run(files.QUICK if quick else files.Sizes())


def main(arguments: list[str] | None = None) -> int:
    found = _arguments(arguments)
    lines = _lines(found.names or list(NAMES), found.quick)
    (print_json if found.json else print_table)(lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
