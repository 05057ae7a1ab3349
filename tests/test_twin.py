"""The engine against the slow twin: two implementations of one rule book, compared byte for field on generated streams."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from rater.core import numbering_table
from rater.core.plans import parse_plans
from rater.core.state import State
from rater.doors.accounts import account_object, account_row
from rater.doors.decks import load_deck
from rater.doors.rules import RuleBook, make_rule_book
from rater.pipeline import Batch, Outcome, Workspace, decide, records_of
from tests.streams import Scenario, stream
from tests.twin import Twin, read_numbering

SEEDS = range(200)
COUNTRY_OF, IS_EMERGENCY = read_numbering(Path(str(numbering_table.__file__)))


def cuts(items: list[bytes], rng: random.Random) -> Iterator[list[bytes]]:
    """A list in pieces of random size."""
    at = 0
    while at < len(items):
        size = rng.choice([1, 2, 3, 7, 1000])
        yield items[at : at + size]
        at += size


def decided(state: State, book: RuleBook, scenario: Scenario, seed: int) -> Outcome:
    """The scenario through the engine, its rounds cut into batches at random."""
    rng, workspace, whole = random.Random(seed), Workspace(), Outcome()
    command_at = call_at = 0
    for part in scenario.rounds:
        pieces = [(piece, []) for piece in cuts(part.commands, rng)] + [([], piece) for piece in cuts(part.calls, rng)]
        for commands, calls in pieces:
            batch = Batch(0, records_of(commands, command_at), records_of(calls, call_at), command_at, call_at)
            outcome = decide(state, book.rules, batch, workspace)
            state.committed()
            command_at, call_at = command_at + len(commands), call_at + len(calls)
            for name in ("rated", "events", "rejected_cdrs", "rejected_commands"):
                getattr(whole, name).extend(getattr(outcome, name))
            whole.counts.add(outcome.counts)
    return whole


def without_detail(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key != "detail"} for line in lines]


def compare(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], what: str) -> None:
    """Equal, or a message that names the first record and field."""
    for place, (a, b) in enumerate(zip(ours, theirs, strict=False)):
        different = {k: (a.get(k), b.get(k)) for k in {*a, *b} if a.get(k) != b.get(k)}
        assert not different, f"{what} {place}: engine, twin: {different}\n{a}"
        assert list(a) == list(b), f"{what} {place}: fields in another order"
    assert len(ours) == len(theirs), f"{what}: engine {len(ours)}, twin {len(theirs)}"


@pytest.mark.parametrize("seed", SEEDS)
def test_the_engine_and_the_twin_agree_on_every_field(seed: int, tmp_path: Path) -> None:
    scenario = stream(seed)
    for name, text in scenario.deck_files.items():
        (tmp_path / name).write_text(text)
    deck = load_deck(tmp_path)
    book = make_rule_book([deck], scenario.plans, "plans")
    twin = scenario.run(Twin(tmp_path, scenario.plans, COUNTRY_OF, IS_EMERGENCY, deck_version=deck.version))
    state = State.empty()
    outcome = decided(state, book, scenario, seed)

    compare(
        [orjson.loads(line) for block in outcome.rated for line in block.split(b"\n") if line], twin.rated, "rated call"
    )
    compare([orjson.loads(line) for line in outcome.events], twin.events, "event")
    for ours, theirs, what in (
        (outcome.rejected_cdrs, twin.rejected_cdrs, "rejected call"),
        (outcome.rejected_commands, twin.rejected_commands, "rejected command"),
    ):
        compare(without_detail([orjson.loads(line) for line in ours]), without_detail(theirs), what)
    plans = parse_plans(scenario.plans, "plans")
    for tenant in twin.accounts:
        row = account_row(state, tenant)
        ours_told, theirs_told = account_object(state, row, plans), twin.balance(tenant)
        for name in (
            "balance_micros",
            "held_micros",
            "open_calls",
            "debt_micros",
            "invoice_micros",
            "account_version",
            "currency",
        ):
            assert ours_told[name] == theirs_told[name], f"{tenant}: {name}"
        lots = [{k: lot[k] for k in ("lot_id", "left_micros", "expires_at")} for lot in ours_told["lots"]]
        assert lots == theirs_told["lots"]
        used = {pool["pool"]: pool for pool in ours_told["pools"] if pool["used"] or pool["held"]}
        assert used == {pool["pool"]: pool for pool in theirs_told["pools"] if pool["used"] or pool["held"]}
