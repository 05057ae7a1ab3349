"""Compile the engine ahead of its first record: commands and calls in two processes at once, then load both.

A cold start would otherwise compile in the middle of a run, one kernel after the other, in silence.
"""

import subprocess
import sys
from collections.abc import Callable, Mapping

import click

from rater.core.compiled import CACHE_DIR, COMPILES, is_warm, note_warm
from rater.core.seen import SMALLEST
from rater.core.state import State
from rater.doors.accounts import account_row
from rater.doors.clock import stopwatch
from rater.doors.rules import load_rule_book, rates_folder
from rater.pipeline import Batch, decide, records_of

PARTS = ("commands", "calls")
Rehearse = Callable[[list[bytes], list[bytes]], None]  # a door decides these commands and calls in its own way
NOTHING_MORE: Mapping[str, Rehearse] = {}

_OPENED = (
    b'{"command_id":"w","tenant":"warm","type":"tenant.opened","at":"2026-01-01T00:00:00Z","country":"US",'
    b'"currency":"USD","billing_mode":"prepaid"}'
)
_CALL = (
    b'{"record_id":"w","tenant":"warm","call_type":"user_out","user":"u","caller":null,"callee":"+12125550123",'
    b'"start":"2026-01-01T00:00:00Z","answer":"2026-01-01T00:00:00Z","end":"2026-01-01T00:01:00Z",'
    b'"billable_ms":60000,"disposition":"answered"}'
)


def compile_part(part: str) -> None:
    """Compile what this part of the loop needs; deciding one record does it."""
    book = load_rule_book(rates_folder() / "example-usd")
    commands = [_OPENED] if part != "calls" else []
    calls = [_CALL] if part != "commands" else []
    state = State.empty()
    if calls:
        state.reserve(0, SMALLEST)  # more ids than it has room for: they move
    decide(state, book.rules, Batch(0, records_of(commands), records_of(calls)))
    account_row(state, "warm")


def warm_up(rehearsals: Mapping[str, Rehearse] = NOTHING_MORE) -> None:
    """Compile everything, as far as it is not compiled yet. `rehearsals`: what doors add, by name."""
    if not COMPILES:
        return
    CACHE_DIR.mkdir(parents=True, exist_ok=True)
    if not is_warm():
        children = [
            subprocess.Popen([sys.executable, "-m", "rater", "warm-up", "--part", part], stdin=subprocess.DEVNULL)
            for part in PARTS
        ]
        for child in children:
            child.wait()
        compile_part("all")
        note_warm()
    for name, rehearse in rehearsals.items():  # afterwards: they decide a batch, and would compile the engine again
        if not is_warm(name):
            rehearse([_OPENED], [_CALL])
            note_warm(name)


def prepare_engine(rehearsals: Mapping[str, Rehearse] = NOTHING_MORE) -> None:
    """Compile on a cold start, and say so; a person would take twenty silent seconds for a hang."""
    if is_warm() and all(is_warm(name) for name in rehearsals):
        return
    click.echo(
        "rater: first start of this version here: compiling the engine, once (about half a minute) ...", err=True
    )
    seconds = stopwatch()
    warm_up(rehearsals)
    click.echo(f"rater: compiled in {seconds():.0f} s; later starts load it", err=True)
