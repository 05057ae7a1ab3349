"""Account commands in their order: applied, duplicate, rejected or forwarded; recharge requests answered where they were made."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from rater.contract.commands import decode_commands
from rater.contract.events import Cause
from rater.contract.questions import questions_of
from rater.contract.rejected import encode_rejection
from rater.core.accounts import Books
from rater.core.administration import APPLIED, DECK_ACTIVATED, DUPLICATE, MISPLACED, NEEDS_ROOM, apply_command
from rater.core.compiled import kernel
from rater.core.payers import Rules
from rater.core.reasons import Reason
from rater.core.state import State
from rater.pipeline.batch import Activate, Batch, Forward, Outcome, Respond, home_of
from rater.pipeline.workspace import ACTIVATED, ASKED, DONE, NEWS_FULL, Workspace, tell


@kernel
def apply_commands(
    books: Books,
    rules: Rules,
    questions: Any,
    buffer: Any,
    commands: Any,
    first: Any,
    stop_when_asked: Any,
    answers: Any,
    draw_rows: Any,
    draw_micros: Any,
    news: Any,
    news_tally: Any,
) -> Any:
    """The loop over commands: (next command, why it came back). How each ended stands in its `reason`."""
    for r in range(first, commands.size):
        command = commands[r]
        if command.reason != 0:
            continue
        ended = apply_command(
            books, rules, questions, buffer, command, answers[0], draw_rows, draw_micros, news, news_tally, r
        )
        if ended == NEEDS_ROOM:
            return r, NEWS_FULL
        command.reason = ended
        if ended == APPLIED and command.kind == DECK_ACTIVATED:
            return r + 1, ACTIVATED
        if stop_when_asked and news_tally[1] > 0:
            return r + 1, ASKED
    return commands.size, DONE


@dataclass(slots=True)
class Commands:
    """Some commands on their way: rows for the kernel, fields and details for people, bytes and offsets for the log."""

    raws: list[bytes]
    keys: list[bytes | None]
    rows: Any
    fields: list[dict[str, Any]]
    details: list[str]
    offsets: list[int]
    questions: Any
    buffer: Any
    told: int = 0  # how many of them the outcome knows of

    @staticmethod
    def decoded(raws: list[bytes], keys: list[bytes | None], offsets: list[int], activations: bool) -> "Commands":
        rows, fields, details = decode_commands(raws, keys, activations)
        return Commands(raws, keys, rows, fields, details, offsets, *questions_of(rows, fields))


class InForce:
    """The rules that the log has put in force so far, each activation in its turn: a later one may leave the plans as they are."""

    def __init__(self, rules: Rules, activate: Activate | None) -> None:
        self._rules, self._activate, self._known = rules, activate, 0

    def after(self, activations: list[dict[str, Any]]) -> Rules:
        """Raises what `activate` raises."""
        if self._activate is not None:
            for named in activations[self._known :]:
                self._rules = self._activate(named)
        self._known = len(activations)
        return self._rules


def note_commands(commands: Commands, upto: int, partition: int, outcome: Outcome) -> None:
    """Applied, duplicate or rejected: into the outcome, in order."""
    counts = outcome.counts
    for place in range(commands.told, upto):
        reason = int(commands.rows[place].reason)
        raw, offset = commands.raws[place], commands.offsets[place]
        if reason == APPLIED:
            counts.commands += 1
            outcome.applied.append((offset, raw))
            if commands.rows[place].kind == DECK_ACTIVATED:
                outcome.activations.append(commands.fields[place])
        elif reason == DUPLICATE:
            counts.commands_duplicates += 1
        elif reason == MISPLACED:
            counts.commands_misrouted += 1
        else:
            counts.commands_rejected += 1
            detail = commands.details[place]
            outcome.rejected_commands.append(encode_rejection(Reason(reason), detail, raw, partition, offset))
            outcome.rejected_command_keys.append(commands.keys[place])
    outcome.segments[-1][1] += upto - commands.told
    commands.told = upto


def run_commands(
    state: State,
    partition: int,
    workspace: Workspace,
    respond: Respond | None,
    in_force: InForce,
    outcome: Outcome,
    commands: Commands,
    calls_left: int,
    in_a_row: int = 0,
) -> None:
    """Apply commands in order; with `respond`, each request is answered at the very place where it was made."""

    def cause(place: int) -> Cause:
        return Cause(commands.fields[place], "", "", [partition, commands.offsets[place]])

    done, why = 0, ASKED
    while why != DONE:
        done, why = apply_commands(
            state.books(),
            in_force.after(outcome.activations),
            commands.questions,
            commands.buffer,
            commands.rows,
            done,
            respond is not None,
            workspace.answer,
            workspace.draw_rows,
            workspace.draw_micros,
            workspace.news,
            workspace.news_tally,
        )
        if why == NEWS_FULL:
            workspace.grow_news(workspace.news.size)
            workspace.grow_draws(workspace.draw_rows.size)
            continue
        asked = len(outcome.requests)
        tell(state, workspace, cause, outcome)
        note_commands(commands, done, partition, outcome)
        if respond is not None:
            requests = outcome.requests[asked:]
            answers = answer_requests(
                state, partition, workspace, respond, in_force, outcome, requests, calls_left, in_a_row
            )
            commands.offsets[done:] = [offset + answers for offset in commands.offsets[done:]]


def answer_requests(
    state: State,
    partition: int,
    workspace: Workspace,
    respond: Respond,
    in_force: InForce,
    outcome: Outcome,
    requests: list[dict[str, Any]],
    calls_left: int,
    in_a_row: int = 0,
) -> int:
    """Answer requests, and what the answers request in turn; how many commands that made."""
    before = outcome.segments[-1][1]
    for request in requests:
        raw = respond(request, in_a_row + 1)
        state.reserve(1, calls_left)
        answer = Commands.decoded([raw], [None], [outcome.segments[-1][1]], False)
        run_commands(state, partition, workspace, respond, in_force, outcome, answer, calls_left, in_a_row + 1)
    return outcome.segments[-1][1] - before


def set_aside(batch: Batch, commands: Commands, outcome: Outcome) -> None:
    """Commands of tenants whose partition is another one are forwarded, and the loop passes over them."""
    for place in np.flatnonzero((commands.rows.reason == 0) & (commands.rows.kind != DECK_ACTIVATED)).tolist():
        home = home_of(batch, commands.fields[place]["tenant"].encode())
        if home != batch.partition:
            commands.rows[place].reason = MISPLACED
            forward = Forward(home, commands.keys[place], commands.raws[place], commands.offsets[place])
            outcome.forwarded_commands.append(forward)


def decide_commands(
    state: State,
    batch: Batch,
    workspace: Workspace,
    respond: Respond | None,
    in_force: InForce,
    outcome: Outcome,
    activations: bool = False,
) -> None:
    """Apply the batch's commands in order."""
    records = batch.commands
    raws = [records.raw(place) for place in range(records.count)]
    keys = [records.key(place) for place in range(records.count)]
    commands = Commands.decoded(raws, keys, records.offsets.tolist(), activations)
    if batch.home is not None:
        set_aside(batch, commands, outcome)
    run_commands(state, batch.partition, workspace, respond, in_force, outcome, commands, batch.calls.count)
