"""The hallway: bytes of commands and calls in, bytes of answers out. No broker, no file, no clock, no await.

`decide` reads a batch in order, commands before calls, and changes the rows of the state; every door runs this one
function. How many records a batch holds changes nothing in the answers.
"""

from rater.contract.records import Records, SourceFault, read_calls, records_of
from rater.core.payers import Rules
from rater.core.state import State
from rater.pipeline.batch import Activate, Batch, Forward, Outcome, Respond
from rater.pipeline.calls import decide_cdrs
from rater.pipeline.commands import InForce, decide_commands
from rater.pipeline.workspace import Workspace

__all__ = [
    "Activate", "Batch", "Forward", "Outcome", "Records", "Respond", "SourceFault", "Workspace", "decide", "read_calls", "records_of",
]  # fmt: skip


def decide(
    state: State,
    rules: Rules,
    batch: Batch,
    workspace: Workspace | None = None,
    respond: Respond | None = None,
    activate: Activate | None = None,
) -> Outcome:
    """Decide a batch: commands first, then calls, each in order.

    `activate` finds the rules that a `deck.activated` names, for what is behind it; doors whose decks are not named by the
    log leave it out.

    `respond` turns a recharge request into the command that answers it. The answer is applied right behind the record that
    asked, so the size of a batch changes nothing; doors whose answers come through the log leave it out.
    """
    workspace, in_force = workspace or Workspace(), InForce(rules, activate)
    outcome = Outcome()
    outcome.segments.append([batch.first_command, batch.first_command, batch.first_call, batch.first_call])
    state.reserve(batch.commands.count, batch.calls.count)
    if batch.commands.count:
        decide_commands(state, batch, workspace, respond, in_force, outcome, activate is not None)
    in_force.after(outcome.activations)  # what cannot be put in force stops the partition, calls or not
    if batch.calls.count:
        decide_cdrs(state, in_force, batch, workspace, respond, outcome)
    if len(outcome.segments) > 1 and outcome.segments[-1][0] == outcome.segments[-1][1]:
        outcome.segments.pop()  # nothing came after the last call
    return outcome
