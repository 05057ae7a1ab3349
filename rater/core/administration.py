"""One account command x its account -> changed rows (contract section 2). Commands are decoded by `contract.commands`."""

from typing import Any

import numpy as np

from rater.core.accounts import (
    Books,
    Shelf,
    add,
    balance_of,
    copy_name,
    find,
    fleet_identity,
    touch,
)
from rater.core.authorizing import authorize
from rater.core.charging import draw_lots, fund
from rater.core.compiled import kernel
from rater.core.hashing import (
    KIND_COMMAND,
    KIND_LOT,
    KIND_NUMBER,
    KIND_TENANT,
    KIND_USER,
    identity,
)
from rater.core.holds import expire_holds, expiring_holds
from rater.core.instants import HOUR_MS, NEVER_MS, month_of
from rater.core.money import BALANCE_MICROS_MAX
from rater.core.months import close_months
from rater.core.payers import Rules
from rater.core.plans import MCOMEETADD, pool_country
from rater.core.reasons import (
    ALREADY_ASSIGNED,
    ALREADY_OPEN,
    CONFLICT,
    NOT_ASSIGNED,
    NOT_IN_FLIGHT,
    OUT_OF_RANGE,
    UNKNOWN_TENANT,
)
from rater.core.seen import NEW, SAME, entry_of, place_of, remember, verdict
from rater.core.thresholds import (
    CONTACTS_SET,
    NEWS_PER_RECORD,
    RECHARGE_FAILED,
    RECHARGE_SUCCEEDED,
    announce,
    expire_lots,
    wait_after,
    warn_of_lots,
    watch_balance,
)

U8 = np.uint64

COMMAND_TYPES = (
    "tenant.opened", "licence.assigned", "licence.removed", "number.assigned", "number.removed",
    "funds.added", "recharge.configured", "recharge.failed", "account.adjusted", "clock.ticked", "contacts.set",
    "call.authorize", "deck.activated",
)  # fmt: skip
(
    TENANT_OPENED,
    LICENCE_ASSIGNED,
    LICENCE_REMOVED,
    NUMBER_ASSIGNED,
    NUMBER_REMOVED,
    FUNDS_ADDED,
    RECHARGE_CONFIGURED,
    RECHARGE_FAILED_COMMAND,
    ACCOUNT_ADJUSTED,
    CLOCK_TICKED,
    CONTACTS_SET_COMMAND,
    CALL_AUTHORIZE,
    DECK_ACTIVATED,  # of a whole partition, without a tenant
) = range(13)

# How a record or command ended; above 0 is a `Reason`. A misplaced one belongs to another partition.
APPLIED, DUPLICATE, NEEDS_ROOM, MISPLACED = 0, -2, -3, -4
NOBODY = 1 << 40  # owns the ids of commands without a tenant; no account row is so high
CLOSING_DELAY_MS = 48 * HOUR_MS

COMMAND = np.dtype(
    [
        ("kind", np.int64),
        ("reason", np.int64),  # set by the decoder when it is bad, else by the rules
        ("content", np.uint64),
        ("at_ms", np.int64),
        ("amount_micros", np.int64),
        ("trigger_micros", np.int64),
        ("expires_ms", np.int64),
        ("country", np.int64),
        ("currency", np.int64),
        ("plan", np.int64),
        ("number_type", np.int64),
        ("billing_mode", np.int64),
        ("flag", np.int64),  # overage, or recharge enabled
        ("question", np.int64),  # row of the call that is asked about
        ("seconds", np.int64),  # the longest it is to last
        ("recharge", np.int64),  # 0: none named, -1: none of ours, n: the tenant's n-th
        ("tenant_length", np.int64),
        ("id_length", np.int64),
        ("text_length", np.int64),
        ("tenant", np.uint8, (272,)),
        ("id", np.uint8, (272,)),
        ("text", np.uint8, (272,)),  # user (JSON text form), number, lot id
    ],
    align=True,
)


@kernel
def open_account(books: Books, command: Any, high: Any, low: Any) -> Any:
    row = add(books.accounts, high, low)
    account = books.accounts.rows[row]
    account.country = command.country
    account.currency = command.currency
    account.billing_mode = command.billing_mode
    account.overage = command.flag
    account.first_lot = -1
    account.first_open_month = -1
    account.first_hold = -1
    account.next_hold_ms = NEVER_MS
    account.next_expiry_ms = NEVER_MS
    account.last_seen_ms = command.at_ms
    account.name_length = command.tenant_length
    copy_name(account.name, command.tenant, command.tenant_length)
    return row


@kernel
def user_named(books: Books, account_row: Any, command: Any, create: Any) -> Any:
    high, low = identity(books.key[0], books.key[1], KIND_USER, account_row, command.text, 0, command.text_length)
    row = find(books.users, high, low)
    if row < 0 and create:
        row = add(books.users, high, low)
        user = books.users.rows[row]
        user.account = account_row
        user.name_length = command.text_length
        copy_name(user.name, command.text, command.text_length)
    return row


@kernel
def fleet_of(fleets: Shelf, account_row: Any, country: Any, plan: Any) -> Any:
    high, low = fleet_identity(account_row, country, plan)
    row = find(fleets, high, low)
    if row < 0:
        row = add(fleets, high, low)
        fleets.rows[row].account = account_row
        fleets.rows[row].country = country
        fleets.rows[row].plan = plan
    return row


@kernel
def assign_licence(books: Books, account_row: Any, account: Any, command: Any) -> None:
    """The licence enters the pool of its country; a licence held elsewhere leaves that pool first."""
    row = user_named(books, account_row, command, True)
    touch(books.users, row)
    user = books.users.rows[row]
    plan = command.plan
    if user.held >> plan & 1:
        touch(books.fleets, user.fleets[plan])
        books.fleets.rows[user.fleets[plan]].assigned -= 1
    elif plan == MCOMEETADD:
        account.conference_licences += 1
    fleet = fleet_of(books.fleets, account_row, pool_country(command.country), plan)
    touch(books.fleets, fleet)
    books.fleets.rows[fleet].assigned += 1
    user.held |= 1 << plan
    user.countries[plan] = command.country
    user.fleets[plan] = fleet


@kernel
def remove_licence(books: Books, account_row: Any, account: Any, command: Any) -> None:
    row = user_named(books, account_row, command, False)
    touch(books.users, row)
    user = books.users.rows[row]
    plan = command.plan
    touch(books.fleets, user.fleets[plan])
    books.fleets.rows[user.fleets[plan]].assigned -= 1
    user.held &= ~(1 << plan)
    user.countries[plan] = 0
    if plan == MCOMEETADD:
        account.conference_licences -= 1


@kernel
def licence_refusal(books: Books, account_row: Any, command: Any) -> Any:
    """Why a licence cannot be assigned or removed; 0 when it can."""
    row = user_named(books, account_row, command, False)
    holds = row >= 0 and books.users.rows[row].held >> command.plan & 1 != 0
    same_place = holds and books.users.rows[row].countries[command.plan] == command.country
    if command.kind == LICENCE_ASSIGNED:
        return ALREADY_ASSIGNED if same_place else 0
    return 0 if holds and (command.country == 0 or same_place) else NOT_ASSIGNED


@kernel
def number_named(books: Books, account_row: Any, command: Any) -> Any:
    return identity(books.key[0], books.key[1], KIND_NUMBER, account_row, command.text, 0, command.text_length)


@kernel
def number_refusal(books: Books, account_row: Any, command: Any) -> Any:
    high, low = number_named(books, account_row, command)
    row = find(books.numbers, high, low)
    assigned = row >= 0 and books.numbers.rows[row].assigned != 0
    if command.kind == NUMBER_REMOVED:
        return 0 if assigned else NOT_ASSIGNED
    if assigned and books.numbers.rows[row].number_type == command.number_type:
        return ALREADY_ASSIGNED if books.numbers.rows[row].country == command.country else 0
    return 0


@kernel
def set_number(books: Books, account_row: Any, command: Any) -> None:
    """Assign (again with another type or country: the newer word counts) or remove."""
    high, low = number_named(books, account_row, command)
    row = find(books.numbers, high, low)
    if row < 0:
        row = add(books.numbers, high, low)
        books.numbers.rows[row].account = account_row
        books.numbers.rows[row].name_length = command.text_length
        copy_name(books.numbers.rows[row].name, command.text, command.text_length)
    touch(books.numbers, row)
    if command.kind == NUMBER_REMOVED:
        books.numbers.rows[row].assigned = 0
    else:
        books.numbers.rows[row].assigned = 1
        books.numbers.rows[row].country = command.country
        books.numbers.rows[row].number_type = command.number_type


@kernel
def lot_entry(books: Books, account_row: Any, command: Any) -> Any:
    high, low = identity(books.key[0], books.key[1], KIND_LOT, account_row, command.text, 0, command.text_length)
    first, second = entry_of(high, low, U8(0))
    return first, second, place_of(books.seen, first, second)


@kernel
def remember_lot(books: Books, account_row: Any, command: Any) -> None:
    first, second, slot = lot_entry(books, account_row, command)
    remember(books.seen, books.fresh, books.seen_tally, slot, first, second)


@kernel
def money_refusal(books: Books, account_row: Any, account: Any, command: Any) -> Any:
    """A lot id is used once; no account may leave the range that `money` proves safe."""
    if command.amount_micros > 0:
        _, second, slot = lot_entry(books, account_row, command)
        if verdict(books.seen, slot, second) != NEW:
            return CONFLICT
    if account.lots_micros + command.amount_micros > BALANCE_MICROS_MAX:
        return OUT_OF_RANGE
    if account.debt_micros - command.amount_micros > BALANCE_MICROS_MAX:
        return OUT_OF_RANGE
    return 0


@kernel
def refusal(books: Books, account_row: Any, account: Any, command: Any) -> Any:
    """Why a command cannot be applied to its account now; 0 when it can."""
    kind = command.kind
    if kind == TENANT_OPENED:
        return ALREADY_OPEN
    if kind == LICENCE_ASSIGNED or kind == LICENCE_REMOVED:
        return licence_refusal(books, account_row, command)
    if kind == NUMBER_ASSIGNED or kind == NUMBER_REMOVED:
        return number_refusal(books, account_row, command)
    if kind == FUNDS_ADDED or kind == ACCOUNT_ADJUSTED:
        return money_refusal(books, account_row, account, command)
    if kind == RECHARGE_FAILED_COMMAND:
        return 0 if account.in_flight != 0 and command.recharge == account.recharges else NOT_IN_FLIGHT
    return 0


@kernel
def add_funds(
    books: Books, account_row: Any, account: Any, command: Any, news: Any, news_tally: Any, record: Any
) -> None:
    remember_lot(books, account_row, command)
    fund(
        account_row,
        account,
        books.lots,
        command.amount_micros,
        command.at_ms,
        command.expires_ms,
        command.text,
        command.text_length,
    )
    if command.recharge != 0:
        if command.recharge == account.recharges:
            account.in_flight = 0
        account.failures = 0
        account.wait_until_ms = 0
        row = announce(news, news_tally, RECHARGE_SUCCEEDED, account_row, account, record, 0, command.at_ms)
        news[row].amount_micros = command.amount_micros


@kernel
def adjust(books: Books, account_row: Any, account: Any, command: Any, draw_rows: Any, draw_micros: Any) -> None:
    """A correction by staff: up like funds that do not expire, down like a debit on no call."""
    if command.amount_micros > 0:
        remember_lot(books, account_row, command)
        fund(
            account_row,
            account,
            books.lots,
            command.amount_micros,
            command.at_ms,
            NEVER_MS,
            command.text,
            command.text_length,
        )
    else:
        _, rest = draw_lots(account, books.lots, -command.amount_micros, draw_rows, draw_micros)
        account.debt_micros += rest


@kernel
def fail_recharge(account_row: Any, account: Any, command: Any, news: Any, news_tally: Any, record: Any) -> None:
    account.in_flight = 0
    account.failures += 1
    account.wait_until_ms = command.at_ms + wait_after(account.failures)
    row = announce(news, news_tally, RECHARGE_FAILED, account_row, account, record, 0, command.at_ms)
    news[row].number = account.failures
    news[row].until_ms = account.wait_until_ms


@kernel
def configure_recharge(account: Any, command: Any) -> None:
    account.recharge_enabled = command.flag
    account.trigger_micros = command.trigger_micros
    account.recharge_micros = command.amount_micros
    account.failures = 0
    account.wait_until_ms = 0


@kernel
def tick(books: Books, account_row: Any, account: Any, command: Any, news: Any, news_tally: Any, record: Any) -> None:
    """Time passed, and what has expired is gone: tell of lots that will expire, close months, tell what those came to."""
    warn_of_lots(news, news_tally, account_row, account, books.lots, record, command.at_ms)
    account.closed_before = max(account.closed_before, month_of(command.at_ms - CLOSING_DELAY_MS))
    close_months(news, news_tally, account_row, account, books.totals, record, command.at_ms)


@kernel
def carry_out(
    books: Books, rules: Rules, questions: Any, buffer: Any, account_row: Any, account: Any, command: Any, answer: Any,
    draw_rows: Any, draw_micros: Any, news: Any, news_tally: Any, record: Any,
) -> None:  # fmt: skip
    """Apply a command that nothing speaks against, and look at what its change of the balance sets off."""
    before = balance_of(account)
    if expire_lots(news, news_tally, account_row, account, books.lots, record, 0, command.at_ms):
        watch_balance(news, news_tally, account_row, account, before, record, 0, command.at_ms, False)
    before = balance_of(account)
    kind = command.kind
    if kind == CALL_AUTHORIZE or kind == CLOCK_TICKED:
        expire_holds(books, news, news_tally, account_row, account, record, command.at_ms)
    if kind == CALL_AUTHORIZE:
        call = questions[command.question]
        authorize(books, rules, buffer, account_row, account, call, command, answer, news, news_tally, record)
    elif kind == LICENCE_ASSIGNED:
        assign_licence(books, account_row, account, command)
    elif kind == LICENCE_REMOVED:
        remove_licence(books, account_row, account, command)
    elif kind == NUMBER_ASSIGNED or kind == NUMBER_REMOVED:
        set_number(books, account_row, command)
    elif kind == FUNDS_ADDED:
        add_funds(books, account_row, account, command, news, news_tally, record)
    elif kind == RECHARGE_CONFIGURED:
        configure_recharge(account, command)
    elif kind == RECHARGE_FAILED_COMMAND:
        fail_recharge(account_row, account, command, news, news_tally, record)
    elif kind == ACCOUNT_ADJUSTED:
        adjust(books, account_row, account, command, draw_rows, draw_micros)
    elif kind == CLOCK_TICKED:
        tick(books, account_row, account, command, news, news_tally, record)
    elif kind == CONTACTS_SET_COMMAND:
        announce(news, news_tally, CONTACTS_SET, account_row, account, record, 0, command.at_ms)
    if kind == FUNDS_ADDED or kind == ACCOUNT_ADJUSTED or kind == RECHARGE_CONFIGURED:
        watch_balance(news, news_tally, account_row, account, before, record, 0, command.at_ms, False)


@kernel
def activate(books: Books, command: Any) -> Any:
    """A deck set comes into force: nothing in the books changes but the id, so that a repeat does not bring it back."""
    high, low = identity(books.key[0], books.key[1], KIND_COMMAND, NOBODY, command.id, 0, command.id_length)
    first, second = entry_of(high, low, command.content)
    slot = place_of(books.seen, first, second)
    known = verdict(books.seen, slot, second)
    if known != NEW:
        return DUPLICATE if known == SAME else CONFLICT
    remember(books.seen, books.fresh, books.seen_tally, slot, first, second)
    return APPLIED


@kernel
def apply_command(
    books: Books, rules: Rules, questions: Any, buffer: Any, command: Any, answer: Any,
    draw_rows: Any, draw_micros: Any, news: Any, news_tally: Any, record: Any,
) -> Any:  # fmt: skip
    """APPLIED, DUPLICATE or the reason of the rejection, which leaves no trace in the books.

    NEEDS_ROOM, before anything is touched, where the news or draws of this account could overflow their arrays.
    """
    if command.kind == DECK_ACTIVATED:
        return activate(books, command)
    key_0, key_1 = books.key[0], books.key[1]
    high, low = identity(key_0, key_1, KIND_TENANT, 0, command.tenant, 0, command.tenant_length)
    account_row = find(books.accounts, high, low)
    if account_row >= 0:
        account = books.accounts.rows[account_row]
        more = account.lot_count + account.open_months + 1 + expiring_holds(account, command.at_ms)
        if news.size - news_tally[0] < NEWS_PER_RECORD + more or draw_rows.size < account.lot_count:
            return NEEDS_ROOM
    elif news.size - news_tally[0] < NEWS_PER_RECORD:
        return NEEDS_ROOM
    opens = account_row < 0 and command.kind == TENANT_OPENED
    if opens:
        account_row = open_account(books, command, high, low)
    elif account_row < 0:
        return UNKNOWN_TENANT
    high, low = identity(key_0, key_1, KIND_COMMAND, account_row, command.id, 0, command.id_length)
    first, second = entry_of(high, low, command.content)
    slot = place_of(books.seen, first, second)
    known = verdict(books.seen, slot, second)
    if known != NEW:
        return DUPLICATE if known == SAME else CONFLICT
    account = books.accounts.rows[account_row]
    reason = 0 if opens else refusal(books, account_row, account, command)
    if reason != 0:
        return reason
    remember(books.seen, books.fresh, books.seen_tally, slot, first, second)
    touch(books.accounts, account_row)
    account.version += 1
    account.last_seen_ms = max(account.last_seen_ms, command.at_ms)
    carry_out(
        books,
        rules,
        questions,
        buffer,
        account_row,
        account,
        command,
        answer,
        draw_rows,
        draw_micros,
        news,
        news_tally,
        record,
    )
    return APPLIED
