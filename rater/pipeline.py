"""The hallway: bytes of commands and calls in, bytes of answers out. No broker, no file, no clock, no await.

`decide` reads a batch in order, commands before calls, and changes the rows of the state; every door runs this one
function. How many records a batch holds changes nothing in the answers.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import orjson

from rater.contract.commands import decode_commands
from rater.contract.counts import Counts
from rater.contract.events import Cause, Shown, call_type_text, event_of, plain, read_news
from rater.contract.questions import questions_of
from rater.contract.rated import LINE_ROOM, LOT_ROOM, write_rated
from rater.contract.records import Records, SourceFault, read_calls, records_of
from rater.contract.rejected import call_detail, encode_rejection
from rater.contract.scanner import READ, RECORD_BYTES_MAX, scan_scratch
from rater.core.accounts import Books, balance_of, touch
from rater.core.administration import APPLIED, DECK_ACTIVATED, DUPLICATE, MISPLACED, NEEDS_ROOM, apply_command
from rater.core.ahead import BLOCK, look_ahead
from rater.core.charging import ANSWER, OUTCOMES
from rater.core.compiled import kernel
from rater.core.holds import end_hold_of_call
from rater.core.months import count_call
from rater.core.payers import Rules, settle
from rater.core.reasons import CONFLICT, KEY_MISMATCH, UNKNOWN_TENANT, Reason
from rater.core.seen import NEW, SAME, place_of, remember, verdict
from rater.core.state import State
from rater.core.thresholds import NEWS, NEWS_PER_RECORD, expire_lots, watch_balance

__all__ = ["Batch", "Outcome", "Records", "Respond", "SourceFault", "Workspace", "decide", "records_of"]

Array = np.ndarray[Any, Any]

# Why the loop over calls came back.
DONE, OUT_FULL, NEWS_FULL, DRAW_FULL, ASKED, ACTIVATED = range(6)

# Places of the tally: outcomes first.
T_DUPLICATES, T_POOL_MINUTES, T_CREDIT_MINUTES, T_UNKNOWN_FIELDS, T_REJECTED, T_RATED = range(6, 12)
CURRENCIES_MAX = 256


@dataclass(frozen=True, slots=True)
class Batch:
    """What one call of `decide` reads. `faults`: places among the calls that a source already refused."""

    partition: int
    commands: Records
    calls: Records
    first_command: int = 0  # offsets where the two inputs stand before this batch
    first_call: int = 0
    faults: dict[int, SourceFault] = field(default_factory=dict)
    home: Callable[[bytes], int] | None = None  # the partition of a tenant, where the log has more than this one


class Forward(NamedTuple):
    """A record that lies in a partition that is not its tenant's: it belongs to `partition`, as it came."""

    partition: int
    key: bytes | None
    value: bytes
    offset: int


@dataclass(slots=True)
class Outcome:
    """Everything a batch says, and in which order its inputs were decided."""

    segments: list[list[int]] = field(default_factory=list)  # [command from, to, call from, to], in order
    rated: list[bytes] = field(default_factory=list)  # blocks of lines, each line with its line feed
    events: list[bytes] = field(default_factory=list)  # lines without line feed
    rejected_cdrs: list[bytes] = field(default_factory=list)
    rejected_commands: list[bytes] = field(default_factory=list)
    rejected_cdr_keys: list[bytes | None] = field(default_factory=list)
    rejected_command_keys: list[bytes | None] = field(default_factory=list)
    forwarded_cdrs: list[Forward] = field(default_factory=list)
    forwarded_commands: list[Forward] = field(default_factory=list)
    calls: Any = None  # the CALL rows and the buffer they point into: keys of the rated lines
    buffer: Any = None
    rated_rows: list[tuple[int, int]] = field(default_factory=list)  # [first, last) of `calls` in each block of `rated`
    activations: list[dict[str, Any]] = field(default_factory=list)  # each `deck.activated` applied
    applied: list[tuple[int, bytes]] = field(default_factory=list)  # (offset, bytes) of each command applied
    requests: list[dict[str, Any]] = field(
        default_factory=list
    )  # data of each recharge requested, with `time`, `subject`
    counts: Counts = field(default_factory=Counts)


# A `deck.activated` command -> the rules it names.
Activate = Callable[[dict[str, Any]], Rules]
# A recharge request, and how many requests this very record has led to so far -> the command that answers it.
Respond = Callable[[dict[str, Any], int], bytes]


@kernel
def same_bytes(buffer: Any, a: Any, a_end: Any, b: Any, b_end: Any) -> Any:
    if a_end - a != b_end - b:
        return False
    for k in range(a_end - a):
        if buffer[a + k] != buffer[b + k]:
            return False
    return True


@kernel
def count_charge(currencies: Any, charges: Any, currency: Any, charge: Any) -> None:
    for k in range(currencies.size):
        if currencies[k] == currency or currencies[k] == 0:
            currencies[k] = currency
            charges[k] += charge
            return


@kernel
def decide_calls(
    books: Books,
    rules: Rules,
    buffer: Any,
    starts: Any,
    ends: Any,
    offsets: Any,
    key_starts: Any,
    key_ends: Any,
    partition: Any,
    calls: Any,
    first: Any,
    text_room: Any,
    stop_when_asked: Any,
    out: Any,
    out_at: Any,
    answers: Any,
    draw_rows: Any,
    draw_micros: Any,
    news: Any,
    news_tally: Any,
    tally: Any,
    currencies: Any,
    charges: Any,
) -> Any:
    """The loop: (next record, next free place of `out`, why it came back)."""
    decks = rules.decks
    looked_to = first
    answer = answers[0]
    for r in range(first, calls.size):
        if r == looked_to:
            looked_to = min(r + BLOCK, calls.size)
            look_ahead(books, buffer, calls, r, looked_to)
        call = calls[r]
        if call.reason != READ:
            tally[10] += 1
            continue
        if key_starts[r] >= 0:
            if not same_bytes(buffer, key_starts[r], key_ends[r], call.tenant_at, call.tenant_end):
                call.reason = KEY_MISMATCH
                tally[10] += 1
                continue
        account_row = call.account
        if account_row < 0:
            call.reason = UNKNOWN_TENANT
            tally[10] += 1
            continue
        entry, check = call.entry, call.check
        slot = place_of(books.seen, entry, check)
        known = verdict(books.seen, slot, check)
        if known != NEW:
            call.reason = DUPLICATE if known == SAME else CONFLICT
            tally[6 if known == SAME else 10] += 1
            continue
        account = books.accounts.rows[account_row]
        if out.size - out_at < LINE_ROOM + text_room + ends[r] - starts[r] + account.lot_count * LOT_ROOM:
            return r, out_at, OUT_FULL
        if news.size - news_tally[0] < NEWS_PER_RECORD + account.lot_count:
            return r, out_at, NEWS_FULL
        if draw_rows.size < account.lot_count:
            return r, out_at, DRAW_FULL
        remember(books.seen, books.fresh, books.seen_tally, slot, entry, check)
        touch(books.accounts, account_row)
        if account.hold_count > 0:
            end_hold_of_call(books, account_row, account, buffer, call)
        account.version += 1
        account.last_seen_ms = max(account.last_seen_ms, call.end_ms)
        before = balance_of(account)
        if expire_lots(news, news_tally, account_row, account, books.lots, r, 1, call.end_ms):
            watch_balance(news, news_tally, account_row, account, before, r, 1, call.end_ms, False)
            before = balance_of(account)
        settle(books, rules, buffer, account_row, account, call, answer, draw_rows, draw_micros, news, news_tally, r)
        count_call(books.totals, account_row, account, call, answer)
        if balance_of(account) != before:
            watch_balance(news, news_tally, account_row, account, before, r, 1, call.end_ms, True)
        out_at = write_rated(
            out,
            out_at,
            buffer,
            starts[r],
            ends[r],
            call,
            answer,
            account,
            books.pools.rows,
            books.users.rows,
            books.lots.rows,
            draw_rows,
            draw_micros,
            decks.heads,
            decks.rows,
            decks.texts,
            partition,
            offsets[r],
        )
        call.line_end = out_at
        tally[answer.outcome] += 1
        tally[7] += answer.pool_minutes
        tally[8] += answer.credit_minutes
        tally[9] += call.unknown_fields
        tally[11] += 1
        if answer.charge_micros > 0:
            count_charge(currencies, charges, account.currency, answer.charge_micros)
        if stop_when_asked and news_tally[1] > 0:
            return r + 1, out_at, ASKED
    return calls.size, out_at, DONE


class Workspace:
    """Buffers that live from batch to batch, so that a batch allocates next to nothing."""

    def __init__(self) -> None:
        self.scan_scratch = scan_scratch()
        self.out = np.zeros(1 << 20, np.uint8)
        self.answer = np.zeros(1, ANSWER).view(np.recarray)
        self.news = np.zeros(1024, NEWS).view(np.recarray)
        self.news_tally = np.zeros(2, np.int64)
        self.draw_rows = np.zeros(64, np.int64)
        self.draw_micros = np.zeros(64, np.int64)
        self._decks: Any = None
        self._text_room = 0

    def text_room(self, rules: Rules) -> int:
        """`text_room_of`, looked up once for a deck set: it reads every row."""
        if self._decks is not rules.decks:
            self._decks, self._text_room = rules.decks, text_room_of(rules)
        return self._text_room

    def grow_out(self, least: int) -> None:
        self.out = np.zeros(max(2 * self.out.size, least), np.uint8)

    def grow_news(self, least: int) -> None:
        news = np.zeros(max(2 * self.news.size, least), NEWS).view(np.recarray)
        news[: self.news_tally[0]] = self.news[: self.news_tally[0]]
        self.news = news

    def grow_draws(self, least: int) -> None:
        size = max(2 * self.draw_rows.size, least)
        self.draw_rows, self.draw_micros = np.zeros(size, np.int64), np.zeros(size, np.int64)


def text_room_of(rules: Rules) -> int:
    """The longest texts a deck can add to a rated call."""
    longest = 0
    for rows in (rules.decks.rows, rules.decks.heads):
        if rows.size:
            longest += int(rows.text_length.max())
    return longest + 4 * 260


def _home_of(batch: Batch, tenant: bytes) -> int:
    return batch.partition if batch.home is None else batch.home(tenant)


def _rejections(batch: Batch, rows: Any, buffer: Array, outcome: Outcome) -> None:
    """Calls that were not rated. One whose tenant is unknown here may be misplaced: only then its home is looked up."""
    records = batch.calls
    by_reason = outcome.counts.rejected_by_reason
    for place in np.flatnonzero(rows.reason > 0).tolist():
        row = rows[place]
        reason, offset = Reason(int(row.reason)), int(records.offsets[place])
        fault = batch.faults.get(place)
        raw = fault.raw if fault else records.raw(place)
        if reason is Reason.UNKNOWN_TENANT:
            home = _home_of(batch, buffer[row.tenant_at : row.tenant_end].tobytes())
            if home != batch.partition:
                outcome.forwarded_cdrs.append(Forward(home, records.key(place), raw, offset))
                continue
        detail = fault.detail if fault else call_detail(reason, int(row.field))
        outcome.rejected_cdrs.append(encode_rejection(reason, detail, raw, batch.partition, offset))
        outcome.rejected_cdr_keys.append(records.key(place))
        by_reason[reason.text] = by_reason.get(reason.text, 0) + 1


def _tell(state: State, workspace: Workspace, causes: Any, outcome: Outcome) -> None:
    """Write the news of this round as events and clear them."""
    count = int(workspace.news_tally[0])
    if count:
        shelves = state.shelves
        shown = Shown(plain(shelves["accounts"].rows), shelves["pools"].rows, shelves["users"].rows)
        for news in read_news(workspace.news[:count]):
            event = event_of(news, shown, causes(news.record))
            outcome.events.append(orjson.dumps(event))
            kind = event["type"]
            outcome.counts.events_by_type[kind] = outcome.counts.events_by_type.get(kind, 0) + 1
            if kind == "rater.recharge.requested":
                outcome.requests.append(event["data"] | {"time": event["time"], "tenant": event["subject"]})
        outcome.counts.events += count
    workspace.news_tally[:] = 0


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
class _Commands:
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
    def decoded(raws: list[bytes], keys: list[bytes | None], offsets: list[int], activations: bool) -> "_Commands":
        rows, fields, details = decode_commands(raws, keys, activations)
        return _Commands(raws, keys, rows, fields, details, offsets, *questions_of(rows, fields))


class _InForce:
    """The rules that the log has put in force so far. Only who needs them looks them up: a replay may not have them all."""

    def __init__(self, rules: Rules, activate: Activate | None) -> None:
        self._rules, self._activate, self._known = rules, activate, 0

    def after(self, activations: list[dict[str, Any]]) -> Rules:
        """Raises what `activate` raises."""
        if self._activate is not None and len(activations) > self._known:
            self._rules, self._known = self._activate(activations[-1]), len(activations)
        return self._rules

    @property
    def last(self) -> Rules:
        """The last that somebody looked up, for commands that nothing rates."""
        return self._rules


def _note_commands(commands: _Commands, upto: int, partition: int, outcome: Outcome) -> None:
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


def _run_commands(
    state: State,
    partition: int,
    workspace: Workspace,
    respond: Respond | None,
    in_force: _InForce,
    outcome: Outcome,
    commands: _Commands,
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
            in_force.after(outcome.activations) if commands.questions.size else in_force.last,
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
        _tell(state, workspace, cause, outcome)
        _note_commands(commands, done, partition, outcome)
        if respond is not None:
            requests = outcome.requests[asked:]
            answers = _respond(state, partition, workspace, respond, in_force, outcome, requests, calls_left, in_a_row)
            commands.offsets[done:] = [offset + answers for offset in commands.offsets[done:]]


def _respond(
    state: State,
    partition: int,
    workspace: Workspace,
    respond: Respond,
    in_force: _InForce,
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
        answer = _Commands.decoded([raw], [None], [outcome.segments[-1][1]], False)
        _run_commands(state, partition, workspace, respond, in_force, outcome, answer, calls_left, in_a_row + 1)
    return outcome.segments[-1][1] - before


def _set_aside(batch: Batch, commands: _Commands, outcome: Outcome) -> None:
    """Commands of tenants whose partition is another one are forwarded, and the loop passes over them."""
    for place in np.flatnonzero((commands.rows.reason == 0) & (commands.rows.kind != DECK_ACTIVATED)).tolist():
        home = _home_of(batch, commands.fields[place]["tenant"].encode())
        if home != batch.partition:
            commands.rows[place].reason = MISPLACED
            forward = Forward(home, commands.keys[place], commands.raws[place], commands.offsets[place])
            outcome.forwarded_commands.append(forward)


def decide_commands(
    state: State,
    batch: Batch,
    workspace: Workspace,
    respond: Respond | None,
    in_force: _InForce,
    outcome: Outcome,
    activations: bool = False,
) -> None:
    """Apply the batch's commands in order."""
    records = batch.commands
    raws = [records.raw(place) for place in range(records.count)]
    keys = [records.key(place) for place in range(records.count)]
    commands = _Commands.decoded(raws, keys, records.offsets.tolist(), activations)
    if batch.home is not None:
        _set_aside(batch, commands, outcome)
    _run_commands(state, batch.partition, workspace, respond, in_force, outcome, commands, batch.calls.count)


def decide_cdrs(
    state: State, in_force: _InForce, batch: Batch, workspace: Workspace, respond: Respond | None, outcome: Outcome
) -> None:
    """Rate and charge the batch's calls in order."""
    rules = in_force.after(outcome.activations)
    records = batch.calls
    rows, buffer = read_calls(records, batch.faults, workspace.scan_scratch)
    text_room = workspace.text_room(rules)
    tally = np.zeros(12, np.int64)
    currencies, charges = np.zeros(CURRENCIES_MAX, np.int64), np.zeros(CURRENCIES_MAX, np.int64)

    columns = plain(rows)

    def cause(place: int) -> Cause:
        record_at, record_end = columns["record_at"][place], columns["record_end"][place]
        record_id = orjson.loads(b'"' + buffer[record_at:record_end].tobytes() + b'"')
        call_type = call_type_text(columns["call_type"][place])
        return Cause(None, call_type, record_id, [batch.partition, int(records.offsets[place])])

    done, why = 0, OUT_FULL
    while why != DONE:
        begun = done
        done, out_at, why = decide_calls(
            state.books(),
            rules,
            buffer,
            records.starts,
            records.ends,
            records.offsets,
            records.key_starts,
            records.key_ends,
            batch.partition,
            rows,
            done,
            text_room,
            respond is not None,
            workspace.out,
            0,
            workspace.answer,
            workspace.draw_rows,
            workspace.draw_micros,
            workspace.news,
            workspace.news_tally,
            tally,
            currencies,
            charges,
        )
        if out_at:
            outcome.rated.append(workspace.out[:out_at].tobytes())
            outcome.rated_rows.append((begun, done))
        if why == OUT_FULL and not out_at:
            workspace.grow_out(LINE_ROOM + text_room + RECORD_BYTES_MAX)
        elif why == NEWS_FULL:
            workspace.grow_news(workspace.news.size)
        elif why == DRAW_FULL:
            workspace.grow_draws(workspace.draw_rows.size)
        elif why == ASKED and respond is not None:
            asked = len(outcome.requests)
            _tell(state, workspace, cause, outcome)
            _turn(outcome, int(records.offsets[done - 1]) + 1)
            requests = outcome.requests[asked:]
            _respond(state, batch.partition, workspace, respond, in_force, outcome, requests, records.count - done)
    _turn(outcome, int(records.offsets[done - 1]) + 1)
    _tell(state, workspace, cause, outcome)
    outcome.calls, outcome.buffer = rows, buffer
    _rejections(batch, rows, buffer, outcome)
    counts = outcome.counts
    counts.read += done
    counts.rated += int(tally[T_RATED])
    counts.misrouted += len(outcome.forwarded_cdrs)
    counts.rejected += int(tally[T_REJECTED]) - len(outcome.forwarded_cdrs)
    counts.duplicates += int(tally[T_DUPLICATES])
    counts.unknown_fields += int(tally[T_UNKNOWN_FIELDS])
    counts.pool_minutes += int(tally[T_POOL_MINUTES])
    counts.credit_minutes += int(tally[T_CREDIT_MINUTES])
    for k, name in enumerate(OUTCOMES):
        counts.by_outcome[name] = int(tally[k])
    for currency, charge in zip(currencies, charges, strict=True):
        if currency:
            counts.charge_micros[int(currency).to_bytes(3, "big").decode()] = int(charge)


def _turn(outcome: Outcome, calls_to: int) -> None:
    """The calls up to here are decided; what follows, a command or more calls, is a new segment."""
    outcome.segments[-1][3] = calls_to
    command_at = outcome.segments[-1][1]
    outcome.segments.append([command_at, command_at, calls_to, calls_to])


def decide(
    state: State,
    rules: Rules,
    batch: Batch,
    workspace: Workspace | None = None,
    respond: Respond | None = None,
    activate: Activate | None = None,
) -> Outcome:
    """Decide a batch: commands first, then calls, each in order.

    `activate` finds the rules that a `deck.activated` names, for the batch's calls; doors whose decks are not named by the
    log leave it out.

    `respond` turns a recharge request into the command that answers it. The answer is applied right behind the record that
    asked, so the size of a batch changes nothing; doors whose answers come through the log leave it out.
    """
    workspace, in_force = workspace or Workspace(), _InForce(rules, activate)
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
