"""The loop over calls: one record at a time, in order, from scanned rows to rated lines."""

from typing import Any

import numpy as np
import orjson

from rater.contract.events import Cause, call_type_text, plain
from rater.contract.rated import LINE_ROOM, LOT_ROOM, write_rated
from rater.contract.records import read_calls
from rater.contract.rejected import call_detail, encode_rejection
from rater.contract.scanner import READ, RECORD_BYTES_MAX
from rater.core.accounts import Books, balance_of, touch
from rater.core.administration import DUPLICATE
from rater.core.ahead import BLOCK, look_ahead
from rater.core.charging import OUTCOMES
from rater.core.compiled import kernel
from rater.core.holds import end_hold_of_call
from rater.core.months import count_call
from rater.core.payers import Rules, settle
from rater.core.reasons import CONFLICT, KEY_MISMATCH, UNKNOWN_TENANT, Reason
from rater.core.seen import NEW, SAME, place_of, remember, verdict
from rater.core.state import State
from rater.core.thresholds import NEWS_PER_RECORD, expire_lots, watch_balance
from rater.pipeline.batch import Batch, Forward, Outcome, Respond, home_of
from rater.pipeline.commands import InForce, answer_requests
from rater.pipeline.workspace import ASKED, DONE, DRAW_FULL, NEWS_FULL, OUT_FULL, Workspace, tell

Array = np.ndarray[Any, Any]

# Places of the tally: outcomes first.
T_DUPLICATES, T_POOL_MINUTES, T_CREDIT_MINUTES, T_UNKNOWN_FIELDS, T_REJECTED, T_RATED = range(6, 12)
CURRENCIES_MAX = 256


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


def rejections(batch: Batch, columns: Array, buffer: Array, outcome: Outcome) -> None:
    """Calls that were not rated. One whose tenant is unknown here may be misplaced: only then its home is looked up."""
    records = batch.calls
    by_reason = outcome.counts.rejected_by_reason
    reasons = columns["reason"]
    for place in np.flatnonzero(reasons > 0).tolist():
        reason, offset = Reason(int(reasons[place])), int(records.offsets[place])
        fault = batch.faults.get(place)
        raw = fault.raw if fault else records.raw(place)
        if reason is Reason.UNKNOWN_TENANT:
            home = home_of(batch, buffer[columns["tenant_at"][place] : columns["tenant_end"][place]].tobytes())
            if home != batch.partition:
                outcome.forwarded_cdrs.append(Forward(home, records.key(place), raw, offset))
                continue
        detail = fault.detail if fault else call_detail(reason, int(columns["field"][place]))
        outcome.rejected_cdrs.append(encode_rejection(reason, detail, raw, batch.partition, offset))
        outcome.rejected_cdr_keys.append(records.key(place))
        by_reason[reason.text] = by_reason.get(reason.text, 0) + 1


def decide_cdrs(
    state: State, in_force: InForce, batch: Batch, workspace: Workspace, respond: Respond | None, outcome: Outcome
) -> None:
    """Rate and charge the batch's calls in order."""
    rules = in_force.after(outcome.activations)
    records = batch.calls
    workspace.begin()
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
            outcome.rated.append(workspace.lines(out_at))
            outcome.rated_rows.append((begun, done))
        if why == OUT_FULL and not out_at:
            workspace.grow_out(LINE_ROOM + text_room + RECORD_BYTES_MAX)
        elif why == NEWS_FULL:
            workspace.grow_news(workspace.news.size)
        elif why == DRAW_FULL:
            workspace.grow_draws(workspace.draw_rows.size)
        elif why == ASKED and respond is not None:
            asked = len(outcome.requests)
            tell(state, workspace, cause, outcome)
            turn(outcome, int(records.offsets[done - 1]) + 1)
            requests = outcome.requests[asked:]
            answer_requests(
                state, batch.partition, workspace, respond, in_force, outcome, requests, records.count - done
            )
    turn(outcome, int(records.offsets[done - 1]) + 1)
    tell(state, workspace, cause, outcome)
    outcome.calls, outcome.buffer = columns, buffer
    rejections(batch, columns, buffer, outcome)
    note_counts(outcome, done, tally, currencies, charges)


def note_counts(outcome: Outcome, read: int, tally: Array, currencies: Array, charges: Array) -> None:
    """What the loop tallied, into the counts of the batch."""
    counts = outcome.counts
    counts.read += read
    counts.rated += int(tally[T_RATED])
    counts.misrouted += len(outcome.forwarded_cdrs)
    counts.rejected += int(tally[T_REJECTED]) - len(outcome.forwarded_cdrs)
    counts.duplicates += int(tally[T_DUPLICATES])
    counts.unknown_fields += int(tally[T_UNKNOWN_FIELDS])
    counts.pool_minutes += int(tally[T_POOL_MINUTES])
    counts.credit_minutes += int(tally[T_CREDIT_MINUTES])
    for k, name in enumerate(OUTCOMES):
        counts.by_outcome[name] = int(tally[k])
    for place in np.flatnonzero(currencies).tolist():
        counts.charge_micros[int(currencies[place]).to_bytes(3, "big").decode()] = int(charges[place])


def turn(outcome: Outcome, calls_to: int) -> None:
    """The calls up to here are decided; what follows, a command or more calls, is a new segment."""
    outcome.segments[-1][3] = calls_to
    command_at = outcome.segments[-1][1]
    outcome.segments.append([command_at, command_at, calls_to, calls_to])
