"""Compile the engine ahead of its first record: commands and calls in two processes at once, then load both.

A cold start would otherwise compile in the middle of a run, one kernel after the other, in silence.
"""

import subprocess
import sys
from importlib.util import find_spec

import click

from rater.core.compiled import CACHE_DIR, COMPILES, is_warm, note_warm
from rater.core.state import State
from rater.doors.clock import stopwatch
from rater.doors.files.balance import account_row
from rater.doors.rules import load_rule_book, rates_folder
from rater.pipeline import Batch, decide, records_of

PARTS = ("commands", "calls")
KAFKA = "kafka"  # a part of its own: only where the Kafka packages are installed

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
    if part == KAFKA:
        from rater.doors.kafka.rehearsal import rehearse

        rehearse([_OPENED], [_CALL])
        return
    book = load_rule_book(rates_folder() / "example-usd")
    commands = [_OPENED] if part != "calls" else []
    calls = [_CALL] if part != "commands" else []
    state = State.empty()
    decide(state, book.rules, Batch(0, records_of(commands), records_of(calls)))
    account_row(state, "warm")


def warm_up(with_kafka: bool) -> None:
    """Compile everything, as far as it is not compiled yet."""
    if not COMPILES:
        return
    CACHE_DIR.mkdir(parents=True, exist_ok=True)
    parts = () if is_warm() else PARTS
    children = [
        subprocess.Popen([sys.executable, "-m", "rater", "warm-up", "--part", part], stdin=subprocess.DEVNULL)
        for part in parts
    ]
    for child in children:
        child.wait()
    if parts:
        compile_part("all")
        note_warm()
    if with_kafka:  # afterwards: it decides a batch, and would compile the engine for itself
        compile_part(KAFKA)
        note_warm(KAFKA)


def prepare_engine(with_kafka: bool = False) -> None:
    """Compile on a cold start, and say so; a person would take twenty silent seconds for a hang."""
    with_kafka = with_kafka and find_spec("aiokafka") is not None
    if is_warm() and (not with_kafka or is_warm(KAFKA)):
        return
    click.echo(
        "rater: first start of this version here: compiling the engine, once (about half a minute) ...", err=True
    )
    seconds = stopwatch()
    warm_up(with_kafka)
    click.echo(f"rater: compiled in {seconds():.0f} s; later starts load it", err=True)
