"""Compile every kernel of the loop by deciding one command and one call, so that no later start has to."""

from rater.core.state import State
from rater.doors.files.balance import account_row
from rater.doors.rules import load_rule_book, rates_folder
from rater.pipeline import Batch, decide, records_of

_OPENED = (
    b'{"command_id":"w","tenant":"warm","type":"tenant.opened","at":"2026-01-01T00:00:00Z","country":"US",'
    b'"currency":"USD","billing_mode":"prepaid"}'
)
_CALL = (
    b'{"record_id":"w","tenant":"warm","call_type":"user_out","user":"u","caller":null,"callee":"+12125550123",'
    b'"start":"2026-01-01T00:00:00Z","answer":"2026-01-01T00:00:00Z","end":"2026-01-01T00:01:00Z",'
    b'"billable_ms":60000,"disposition":"answered"}'
)


def warm_up() -> None:
    book = load_rule_book(rates_folder() / "example-usd")
    state = State.empty()
    decide(state, book.rules, Batch(0, records_of([_OPENED]), records_of([_CALL])))
    account_row(state, "warm")
