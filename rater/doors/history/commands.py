"""`rater history`: what feeds it, and where it stands. The front door brings what other doors know: committed lengths, a tail.

What a command needs is imported when it runs, so that `rater --help` does not wait for it.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rater.doors.history.options import FILE, history_option, json_option, opened, print_object
from rater.doors.history.settings import DEFAULT, VARIABLE

if TYPE_CHECKING:
    from rater.doors.history.sink import Tail
    from rater.doors.settings.connection import Connection


@dataclass(frozen=True, slots=True)
class Introduced:
    """What other doors do for this one."""

    committed_lengths: Callable[[Path, Path], dict[str, int]]  # state file, output folder -> file name: bytes
    # connection, topic prefix -> the tail and how many partitions its topics have
    open_tail: "Callable[[Connection, str], AbstractAsyncContextManager[tuple[Tail, int]]]"


@click.group("history")
def history_group() -> None:
    """Rated calls and account events, kept for questions: usage, exports, recharges.

    \b
    rater history load rated                         what rater rate --out rated wrote since the last time
    rater history sink --config worker.toml          what workers write to Kafka, until stopped
    rater history usage contoso --month 2026-11
    rater history export contoso --month 2026-11 --format xlsx
    """


@history_group.command("load")
@click.argument("folders", nargs=-1, required=True, type=FILE, metavar="OUT_DIR...")
@click.option("--state", type=FILE, help="State file of the runs; it knows what was committed. [OUT_DIR/state.db]")
@history_option
@json_option
@click.pass_obj
def load_command(
    introduced: Introduced, folders: tuple[Path, ...], state: Path | None, history: str, as_json: bool
) -> None:
    """Take what is new in the output folders of `rater rate`; each line once, however often this is run.

    \b
    rater history load rated
    rater history load rated-monday rated-tuesday --state billing.db --history history.db

    It may run while `rater rate` does: the state file says how far the files count.
    """
    from rater.doors.history.folder import Loaded, load_folder, shown

    total = Loaded()
    with opened(history, make=True) as store:
        for folder in folders:
            known = state or folder / "state.db"
            committed = introduced.committed_lengths(known, folder) if state or known.is_file() else None
            loaded = load_folder(store, folder, committed)
            for name in ("batches", "calls", "events", "aside"):
                setattr(total, name, getattr(total, name) + getattr(loaded, name))
    if as_json:
        print_object(shown(total))
        return
    aside = f", {total.aside:,} lines set aside (rater history status)" if total.aside else ""
    click.echo(f"{history}: {total.calls:,} calls and {total.events:,} events added{aside}")


@history_group.command("sink")
@click.option("--config", type=FILE, help="Settings (TOML); variables RATER_* win over it.")
@click.option("--bootstrap", metavar="HOST:PORT,...", help="The brokers. [RATER_BOOTSTRAP_SERVERS]")
@click.option("--topic-prefix", metavar="TEXT", help="Before every topic's name. [RATER_TOPIC_PREFIX, else none]")
@click.option("--history", metavar="FILE|URL", help=f"The history to feed. [{VARIABLE}, else {DEFAULT}]")
@click.pass_obj
def sink_command(introduced: Introduced, config: Path | None, bootstrap: str | None, topic_prefix: str | None,
                 history: str | None) -> None:  # fmt: skip
    """Feed a history from the topics rated-cdrs and account-events, each record once, until stopped.

    \b
    rater history sink --bootstrap kafka1:9092 --history /var/lib/rater/history.db
    RATER_HISTORY_STORE=postgresql://rater@db/rater rater history sink --config worker.toml

    It joins no group and writes nothing to Kafka. Where it is stands in the history, in the transaction that holds the
    rows: killed at any moment it goes on from there. SIGTERM ends it after the transaction under way.
    """
    from rater.doors.history.run_sink import run_sink
    from rater.doors.history.settings import load_sink_settings
    from rater.doors.logs import set_up_logging

    settings = load_sink_settings(config, bootstrap_servers=bootstrap, topic_prefix=topic_prefix, history_store=history)
    set_up_logging(settings.log_format, settings.log_file)
    with opened(settings.history, make=True) as store:
        run_sink(store, introduced.open_tail(settings.connection, settings.topic_prefix), settings.topic_prefix)


@history_group.command("status")
@history_option
@json_option
def status_command(history: str, as_json: bool) -> None:
    """What feeds the history, up to where, and what was set aside."""
    from rater.doors.history.status import show_status, status

    with opened(history) as store:
        told = status(store)
    print_object(told) if as_json else show_status(told)


@history_group.command("forget")
@click.option(
    "--before", required=True, metavar="DAY", help="Calls that started and events that happened before (UTC)."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@history_option
@json_option
def forget_command(before: str, yes: bool, history: str, as_json: bool) -> None:
    """Delete what is older than you may or want to keep; what was read stays read.

    \b
    rater history forget --before 2025-11-01
    """
    from rater.doors.history.asking import instant

    before_ms = instant(before, "--before")
    with opened(history) as store:
        if not yes:
            click.confirm(f"Delete everything before {before} (UTC) from {history}?", abort=True)
        calls, events = store.forget(before_ms)
    if as_json:
        print_object({"calls": calls, "events": events})
    else:
        click.echo(f"{history}: {calls:,} calls and {events:,} events deleted")
