"""`rater explain`: every step to one price, told from the engine's own answer; changes nothing.

The state is read into memory, the record decided there by the very `pipeline.decide` that rates files, and the answer
told in sentences (`sentences`). Only the id of this record is forgotten first, so that one may ask about a rated call.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from rater.contract.records import read_calls
from rater.contract.scanner import READ
from rater.core.hashing import KIND_CALL, identity
from rater.core.seen import NEW, OTHER, SAME, entry_of
from rater.core.state import State
from rater.doors.accounts import account_object, account_row
from rater.doors.files.amounts import plural
from rater.doors.files.audit import call_bytes
from rater.doors.files.inputs import STANDARD_INPUT, LineStream, Place, open_input, read_some
from rater.doors.files.rate import BATCH_BYTES_MAX, BATCH_RECORDS_MAX
from rater.doors.files.scene import Facts, Scene
from rater.doors.files.sentences import tell
from rater.doors.files.store import Store
from rater.doors.rules import RuleBook
from rater.pipeline import Batch, Outcome, Workspace, decide, records_of

READ_BYTES_MAX = 64 << 20
_HALF = np.uint64(32)


class CallRefused(Exception):
    """The record would be rejected, or there is none; the text says why."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The record to explain, what surrounded it, and what a rated line given in its place says it cost."""

    name: str
    raw: bytes
    more_lines: int = 0
    recorded: dict[str, Any] | None = None


# --- the record ------------------------------------------------------------------------------------------------------


def _object_of(data: bytes) -> dict[str, Any] | None:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def ask(call: str) -> Asked:
    """The first record of a file: a line, or one object over several lines; a rated line stands for its call."""
    name = "standard input" if call == STANDARD_INPUT else call
    stream = open_input(call)
    try:
        data = read_some(stream, READ_BYTES_MAX, name)
    finally:
        if call != STANDARD_INPUT:
            stream.close()
    lines = [line.strip() for line in data.split(b"\n") if line.strip()]
    if not lines:
        raise CallRefused(f"{name}: no record in it; expected one call record, a JSON object")
    if len(lines) > 1 and _object_of(data) is not None:
        lines = [data.strip()]
    return _unwrapped(name, lines[0], len(lines) - 1)


def _unwrapped(name: str, line: bytes, more_lines: int) -> Asked:
    found = _object_of(line)
    if found is not None and isinstance(found.get("call"), dict) and "outcome" in found:
        try:
            return Asked(name, call_bytes(line), more_lines, found)
        except ValueError:
            return Asked(name, orjson.dumps(found["call"]), more_lines, found)
    return Asked(name, line, more_lines)


# --- the books -------------------------------------------------------------------------------------------------------


def load_books(path: Path | None) -> State:
    """The books of a state file, in memory; without a file, none."""
    if path is None:
        return State.empty()
    store = Store(path, read_only=True)
    try:
        return store.load_state()
    finally:
        store.close()


def imagine(state: State, book: RuleBook, commands: list[str]) -> list[dict[str, Any]]:
    """Apply commands to the books in memory; those that were rejected, as they would be written."""
    rejected: list[dict[str, Any]] = []
    for piece in LineStream(commands, BATCH_RECORDS_MAX, BATCH_BYTES_MAX, Place(), 0).pieces():
        outcome = decide(state, book.rules, Batch(0, piece.records, records_of([])))
        rejected += [orjson.loads(line) for line in outcome.rejected_commands]
        state.committed()
    return rejected


def tenant_row(state: State, tenant: Any) -> int:
    """The row of the account that a record names, or -1."""
    return account_row(state, tenant) if isinstance(tenant, str) and tenant.isascii() else -1


def forget(state: State, raw: bytes, tenant_row: int) -> int:
    """Take this record's id out of the ids seen: NEW, SAME (rated before) or OTHER (with other content)."""
    rows, buffer = read_calls(records_of([raw]), {}, Workspace().scan_scratch)
    call = rows[0]
    if call.reason != READ or tenant_row < 0:
        return NEW
    record_at, record_end = int(call.record_at), int(call.record_end)
    high, low = identity(state.key[0], state.key[1], KIND_CALL, tenant_row, buffer, record_at, record_end)
    first, second = entry_of(np.uint64(high), np.uint64(low), np.uint64(call.content))
    ids, checks = state.seen[:, 0], state.seen[:, 1]
    known = (ids == np.uint64(first)) & (checks >> _HALF == np.uint64(second) >> _HALF)
    if not known.any():
        return NEW
    same = bool((checks[known] == np.uint64(second)).any())
    state.restore_seen(state.seen[(ids != 0) & ~known])
    return SAME if same else OTHER


# --- the answer ------------------------------------------------------------------------------------------------------


def explain(book: RuleBook, call: str, commands: list[str], state: Path | None) -> dict[str, Any]:
    """`rater explain --json`"""
    asked = ask(call)
    books = load_books(state)
    rejected = imagine(books, book, commands)
    told = explain_record(book, books, asked, without_books=state is None and not commands)
    told["commands_rejected"] = len(rejected)
    told["steps"] = [*_command_steps(rejected), *told["steps"]]
    return told


def explain_record(book: RuleBook, books: State, asked: Asked, without_books: bool = False) -> dict[str, Any]:
    """Decide one record on books that nobody else uses, and tell it."""
    row = tenant_row(books, (_object_of(asked.raw) or {}).get("tenant"))
    known = forget(books, asked.raw, row)
    before = account_object(books, row, book.rules.plans) if row >= 0 else {}
    workspace = Workspace()
    outcome = decide(books, book.rules, Batch(0, records_of([]), records_of([asked.raw])), workspace)
    if not outcome.rated:
        raise _refusal(asked, outcome, without_books)
    rated = orjson.loads(outcome.rated[0])
    events = [orjson.loads(line) for line in outcome.events]
    after = account_object(books, row, book.rules.plans)
    scene = Scene(book, books, row, orjson.loads(asked.raw), workspace.answer[0].copy())
    return {
        "charge_micros": rated["charge_micros"],
        "currency": rated["currency"],
        "outcome": rated["outcome"],
        "billed_minutes": rated["billed_minutes"],
        "pool_minutes": rated["pool_minutes"],
        "credit_minutes": rated["credit_minutes"],
        "prefix": rated["prefix"],
        "rate_nanos_per_minute": rated["rate_nanos_per_minute"],
        "balance_before_micros": before["balance_micros"],
        "balance_micros": after["balance_micros"],
        "lots_before": before["lots"],
        "lots_after": after["lots"],
        "already_rated": known != NEW,
        "more_lines": asked.more_lines,
        "steps": [*_opening(asked, known), *tell(scene, Facts(before, after, rated, events))],
        "rated": rated,
        "events": events,
    }


def _refusal(asked: Asked, outcome: Outcome, without_books: bool) -> CallRefused:
    rejection = orjson.loads(outcome.rejected_cdrs[0])
    hint = "; no --state and no --commands were given, so no tenant is open" if without_books else ""
    unknown = hint if rejection["reason"] == "unknown_tenant" else ""
    return CallRefused(
        f"{asked.name}: the record would be rejected: {rejection['reason']}: {rejection['detail']}{unknown}"
    )


def _command_steps(rejected: list[dict[str, Any]]) -> list[str]:
    return [f"A command to imagine first could not be applied: {r['reason']}: {r['detail']}." for r in rejected]


def _opening(asked: Asked, known: int) -> list[str]:
    """What the reader must know before the first step."""
    told = []
    if asked.more_lines:
        told.append(f"{asked.name} holds {plural(asked.more_lines, 'more record')}; this explains the first.")
    if known != NEW:
        other = "" if known == SAME else " with other content, so as it stands here it would be rejected as a conflict"
        told.append(f"This record id was rated before{other}: delivered again, it is charged nothing.")
        told.append("What follows is its price if it came only now, on books that hold its first charge already.")
    if asked.recorded is not None:
        outcome, charge = asked.recorded.get("outcome"), asked.recorded.get("charge_micros")
        told.append(f"The rated line given here says: {outcome}, {charge} millionths of the currency.")
    return told
