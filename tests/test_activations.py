"""Decks that the log puts in force count for what is behind them, however the commands are cut into batches."""

from typing import Any

import orjson
import pytest

from rater.core.state import State
from rater.doors.rules import RuleBook
from rater.pipeline import Batch, Workspace, decide, records_of
from tests.workbench import Rates, add_rate, call_record

AT = {"at": "2026-11-03T12:00:00Z", "by": "ops"}


def book_at(price: str) -> RuleBook:
    rates = Rates()
    add_rate(rates, ["1", price], {})
    return rates.book()


CHEAP, DEAR = book_at("1.00"), book_at("2.00")
BOOKS = {CHEAP.decks[0].version: CHEAP, DEAR.decks[0].version: DEAR}


def asked(call_id: str) -> dict[str, Any]:
    return {"command_id": f"ask-{call_id}", "tenant": "t", "type": "call.authorize", **AT, "call_id": call_id,
            "call_type": "ucap_out", "callee": "+12125550123", "seconds": 60}  # fmt: skip


def activated(book: RuleBook, number: int, plans: str | None) -> dict[str, Any]:
    decks = [deck.version for deck in book.decks]
    return {"command_id": f"deck-{number}", "type": "deck.activated", **AT, "decks": decks, "plans": plans}


COMMANDS = [
    {"command_id": "o", "tenant": "t", "type": "tenant.opened", **AT, "country": "US", "currency": "USD",
     "billing_mode": "prepaid"},
    {"command_id": "f", "tenant": "t", "type": "funds.added", **AT, "lot_id": "a", "amount_micros": 50_000_000},
    asked("before"),
    activated(DEAR, 1, "77aa77aa77aa77aa"),
    asked("dear"),
    activated(CHEAP, 2, None),
    asked("cheap"),
    activated(DEAR, 3, None),
]  # fmt: skip


def run(cuts: list[int]) -> tuple[list[bytes], list[bytes], list[tuple[str, str]]]:
    """(events, rated lines, [deck and plans put in force]); the call comes with the last batch."""
    state, workspace = State.empty(), Workspace()
    raws = [orjson.dumps(command) for command in COMMANDS]
    events: list[bytes] = []
    rated: list[bytes] = []
    in_force: list[tuple[str, str]] = []
    rules, plans = CHEAP.rules, "plans at first"

    def activate(named: dict[str, Any]) -> Any:
        nonlocal rules, plans
        plans = named.get("plans") or plans
        in_force.append((named["decks"][0], plans))
        rules = BOOKS[named["decks"][0]].rules
        return rules

    for start, end in zip([0, *cuts], [*cuts, len(raws)], strict=True):
        calls = [orjson.dumps(call_record("r", tenant="t"))] if end == len(raws) else []
        batch = Batch(0, records_of(raws[start:end], start), records_of(calls), first_command=start)
        outcome = decide(state, rules, batch, workspace, activate=activate)
        state.committed()
        events += outcome.events
        rated += outcome.rated
    return events, rated, in_force


@pytest.mark.parametrize("cuts", [[], [3], [4], [5, 6], [1, 2, 3, 4, 5, 6, 7]])
def test_decks_and_plans_come_into_force_one_after_the_other(cuts: list[int]):
    events, rated, in_force = run(cuts)
    held = {event["data"]["call_id"]: event["data"]["amount_micros"] for event in map(orjson.loads, events)}
    assert held == {"before": 1_000_000, "dear": 2_000_000, "cheap": 1_000_000}
    assert orjson.loads(rated[0])["charge_micros"] == 2_000_000
    assert [plans for _, plans in in_force] == ["77aa77aa77aa77aa"] * 3
    assert (events, rated, in_force) == run([])
