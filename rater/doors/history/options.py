"""Options that the history commands share, and how they open a history and print an object."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from rater.doors.history.settings import DEFAULT, VARIABLE

if TYPE_CHECKING:
    from rater.doors.history.store import Store

FILE = click.Path(path_type=Path)
PAGE_MAX = 10_000  # as in queries

history_option = click.option(
    "--history", default=DEFAULT, show_default=True, envvar=VARIABLE, metavar="FILE|URL",
    help=f"The history: a file, or postgresql://HOST/DATABASE. [{VARIABLE}]",
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="One object on standard output and nothing else.")
month_options = (
    click.option("--month", metavar="YYYY-MM", help="Calls that started in this UTC month."),
    click.option("--from", "begin", metavar="DAY", help="Calls that started then (UTC) or later."),
    click.option("--to", "end", metavar="DAY", help="Calls that started before then (UTC); the day itself is not in."),
)
filter_options = (
    click.option("--user", help="Of this user alone."),
    click.option("--type", "call_types", multiple=True, help="Of this call type, for example user_out. Repeatable."),
    click.option("--capability", "capabilities", multiple=True, help="Paid by this, for example MCOPSTNPP. Repeatable."),
    click.option("--outcome", "outcomes", multiple=True, help="With this outcome, for example charged. Repeatable."),
    *month_options,
)  # fmt: skip


def with_options(*options: Any) -> Callable[[Any], Any]:
    def add(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@contextmanager
def opened(target: str, *, make: bool = False) -> "Iterator[Store]":
    from rater.doors.history.opening import open_history

    store = open_history(target, make=make)
    try:
        yield store
    finally:
        store.close()


def print_object(value: Any) -> None:
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n")
    sys.stdout.flush()
