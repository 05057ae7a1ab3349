"""Compile the engine ahead of its first record: commands and calls in two processes at once, then load both.

A cold start would otherwise compile in the middle of a run, one kernel after the other, in silence.
"""

import subprocess
import sys

from rater.core.compiled import CACHE_DIR, COMPILES, note_warm
from rater.core.state import State
from rater.doors.files.balance import account_row
from rater.doors.rules import load_rule_book, rates_folder
from rater.pipeline import Batch, decide, records_of

PARTS = ("commands", "calls")

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
    decide(state, book.rules, Batch(0, records_of(commands), records_of(calls)))
    account_row(state, "warm")


def warm_up() -> None:
    """Compile everything, as far as it is not compiled yet."""
    if not COMPILES:
        return
    CACHE_DIR.mkdir(parents=True, exist_ok=True)
    children = [
        subprocess.Popen([sys.executable, "-m", "rater", "warm-up", "--part", part], stdin=subprocess.DEVNULL)
        for part in PARTS
    ]
    for child in children:
        child.wait()
    compile_part("all")
    note_warm()
