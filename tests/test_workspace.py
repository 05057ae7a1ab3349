"""A workspace that lends its lines, as a worker's does, beside one that copies them."""

from functools import cache

from benchmarks.engine import NOTHING, fresh_copy, opened, rules_for
from benchmarks.workload import Shape, calls, commands
from rater.core.payers import Rules
from rater.core.state import State
from rater.pipeline import Batch, Outcome, Workspace, decide, records_of
from rater.pipeline.workspace import OUT_BYTES
from tests.workbench import everything

SHAPE = Shape(200, 300, 6_000)
BATCH_CALLS = 3_000  # of 880 bytes each when they are rated: more than two buffers


@cache
def opened_books() -> tuple[State, Rules]:
    rules = rules_for(SHAPE)
    return opened(commands(SHAPE), rules)[0], rules


def decided(workspace: Workspace) -> tuple[list[tuple[bytes, ...]], list[Outcome]]:
    """Two batches of the same calls on the same books: what each wrote, told at once, and both outcomes."""
    books, rules = opened_books()
    state = fresh_copy(books)
    lines, told, outcomes = calls(SHAPE), [], []
    for first in range(0, 2 * BATCH_CALLS, BATCH_CALLS):
        batch = Batch(0, NOTHING, records_of(lines[first : first + BATCH_CALLS], first))
        outcomes.append(decide(state, rules, batch, workspace))
        told.append(everything(outcomes[-1]))
        state.committed()
    return told, outcomes


def test_lines_that_are_lent_are_the_lines_that_are_copied() -> None:
    copied, _ = decided(Workspace())
    lent, outcomes = decided(Workspace(lends=True))
    assert lent == copied
    assert all(len(outcome.rated) > 2 for outcome in outcomes)


def test_copies_stay_and_lent_lines_are_good_until_the_next_batch() -> None:
    told, outcomes = decided(Workspace())
    assert [everything(outcome) for outcome in outcomes] == told
    told, outcomes = decided(Workspace(lends=True))
    assert everything(outcomes[1]) == told[1]
    assert everything(outcomes[0])[0][: OUT_BYTES // 2] == told[1][0][: OUT_BYTES // 2]  # in the same memory
