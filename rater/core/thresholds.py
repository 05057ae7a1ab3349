"""The running balance and pools -> thresholds crossed, each announced once per crossing.

News are rows; the contract's room writes them as CloudEvents. The order inside one record is fixed: expiries, what follows
from them, contacts, lots that will expire and months that are closed, pool percentages, a missing rate, then balance zero,
blocked or restored, and the recharge request.
"""

from typing import Any

import numpy as np

from rater.core.accounts import POST_USAGE, Shelf, balance_of, copy_name, give_row, touch
from rater.core.compiled import kernel
from rater.core.instants import DAY_MS, NEVER_MS

(
    POOL_REACHED,
    RECHARGE_REQUESTED,
    RECHARGE_SUCCEEDED,
    RECHARGE_FAILED,
    BALANCE_ZERO,
    SERVICE_BLOCKED,
    SERVICE_RESTORED,
    LOT_EXPIRED,
    RATE_MISSING,
    CONTACTS_SET,
    LOT_EXPIRING,
    MONTH_CLOSED,
    CALL_AUTHORIZED,
    CALL_REFUSED,
    HOLD_EXPIRED,
) = range(15)

NEWS = np.dtype(
    [
        ("kind", np.int64),
        ("record", np.int64),  # place in the batch of the record or command that caused it
        ("is_call", np.int64),
        ("account", np.int64),
        ("version", np.int64),
        ("at_ms", np.int64),
        ("balance_micros", np.int64),
        ("number", np.int64),  # percent, crossing, request or failure number
        ("amount_micros", np.int64),
        ("until_ms", np.int64),
        ("pool", np.int64),
        ("used", np.int64),
        ("capacity", np.int64),
        ("totals", np.int64, (7,)),  # of a month; places: `core.months`; what is held: `core.holds`
        ("name_length", np.int16),
        ("name", np.uint8, (264,)),
    ],
    align=True,
)
NEWS_PER_RECORD = (
    12  # at most, besides one per lot (it expires, or will), per month that is closed and per hold that expires
)

WAIT_FIRST_MS, WAIT_LONGEST_MS = 900_000, 86_400_000
WARNING_MS = 30 * DAY_MS  # how long before its expiry a lot is told of


@kernel
def announce(
    news: Any, news_tally: Any, kind: Any, account_row: Any, account: Any, record: Any, is_call: Any, at_ms: Any
) -> Any:
    """The next news row, with what every event says already in it."""
    row = news_tally[0]
    news_tally[0] = row + 1
    news[row].kind = kind
    news[row].record = record
    news[row].is_call = is_call
    news[row].account = account_row
    news[row].version = account.version
    news[row].at_ms = at_ms
    news[row].balance_micros = balance_of(account)
    news[row].name_length = 0
    return row


@kernel
def wait_after(failures: Any) -> Any:
    """How long a declined card is left alone: 15 minutes, doubled with every failure in a row, at most a day."""
    if failures > 7:
        return WAIT_LONGEST_MS
    return min(WAIT_FIRST_MS << (failures - 1), WAIT_LONGEST_MS)


@kernel
def may_ask(account: Any, is_debit: Any, at_ms: Any) -> Any:
    """Strictly below the trigger, nothing in flight, and no wait that this cause may not end."""
    if account.recharge_enabled == 0 or account.in_flight != 0:
        return False
    if balance_of(account) >= account.trigger_micros:
        return False
    return account.failures == 0 or (is_debit and at_ms >= account.wait_until_ms)


@kernel
def gate_refuses_at_zero(account: Any) -> Any:
    """Prepaid, or post-usage without overage: nobody pays once the balance is gone."""
    return account.billing_mode != POST_USAGE or account.overage == 0


@kernel
def watch_balance(
    news: Any,
    news_tally: Any,
    account_row: Any,
    account: Any,
    before_micros: Any,
    record: Any,
    is_call: Any,
    at_ms: Any,
    is_debit: Any,
) -> None:
    """What the balance's move from `before_micros` to now sets off: zero, blocked, restored, recharge."""
    after_micros = balance_of(account)
    if before_micros > 0 and after_micros <= 0:
        account.zero_crossings += 1
        row = announce(news, news_tally, BALANCE_ZERO, account_row, account, record, is_call, at_ms)
        news[row].number = account.zero_crossings
        if gate_refuses_at_zero(account):
            account.blocked = 1
            account.blocks += 1
            row = announce(news, news_tally, SERVICE_BLOCKED, account_row, account, record, is_call, at_ms)
            news[row].number = account.blocks
    elif account.blocked != 0 and after_micros > 0:
        account.blocked = 0
        row = announce(news, news_tally, SERVICE_RESTORED, account_row, account, record, is_call, at_ms)
        news[row].number = account.blocks
    if may_ask(account, is_debit, at_ms):
        account.in_flight = 1
        account.recharges += 1
        row = announce(news, news_tally, RECHARGE_REQUESTED, account_row, account, record, is_call, at_ms)
        news[row].number = account.recharges
        news[row].amount_micros = account.recharge_micros
        news[row].capacity = account.trigger_micros
        news_tally[1] += 1


@kernel
def tell_lot(told: Any, lot: Any) -> None:
    """What is left in a lot, until when, and its name."""
    told.amount_micros = lot.left_micros
    told.until_ms = lot.expires_ms
    told.name_length = lot.name_length
    copy_name(told.name, lot.name, lot.name_length)


@kernel
def warn_of_lots(
    news: Any, news_tally: Any, account_row: Any, account: Any, lots: Shelf, record: Any, at_ms: Any
) -> None:
    """Announce, once each and in the order of purchase, the lots that expire within 30 days; what has expired is gone already."""
    lot = account.first_lot
    while lot >= 0:
        if lots.rows[lot].warned == 0 and lots.rows[lot].expires_ms - at_ms <= WARNING_MS:
            touch(lots, lot)
            lots.rows[lot].warned = 1
            row = announce(news, news_tally, LOT_EXPIRING, account_row, account, record, 0, at_ms)
            tell_lot(news[row], lots.rows[lot])
        lot = lots.rows[lot].next


@kernel
def expire_lots(
    news: Any, news_tally: Any, account_row: Any, account: Any, lots: Shelf, record: Any, is_call: Any, at_ms: Any
) -> Any:
    """Forfeit every lot whose expiry the account has now seen, in the order of purchase; was there any?

    A lot that expires at the very instant at hand is gone before that instant's debit.
    """
    if at_ms < account.next_expiry_ms:
        return False
    earliest = NEVER_MS
    previous, lot, expired = -1, account.first_lot, False
    while lot >= 0:
        following = lots.rows[lot].next
        if lots.rows[lot].expires_ms <= at_ms:
            expired = True
            touch(lots, lot)
            account.lots_micros -= lots.rows[lot].left_micros
            account.lot_count -= 1
            if previous < 0:
                account.first_lot = following
            else:
                touch(lots, previous)
                lots.rows[previous].next = following
            row = announce(news, news_tally, LOT_EXPIRED, account_row, account, record, is_call, at_ms)
            tell_lot(news[row], lots.rows[lot])
            give_row(lots, lot)
        else:
            earliest = min(earliest, lots.rows[lot].expires_ms)
            previous = lot
        lot = following
    account.next_expiry_ms = earliest
    return expired


@kernel
def watch_pool(
    news: Any,
    news_tally: Any,
    account_row: Any,
    account: Any,
    pool_row: Any,
    pool: Any,
    capacity: Any,
    record: Any,
    at_ms: Any,
) -> None:
    """80 % and 100 % of the capacity of this moment, once each per pool and month."""
    for bit, percent in ((1, 80), (2, 100)):
        if pool.announced & bit == 0 and pool.used * 100 >= capacity * percent:
            pool.announced |= bit
            row = announce(news, news_tally, POOL_REACHED, account_row, account, record, 1, at_ms)
            news[row].number = percent
            news[row].pool = pool_row
            news[row].used = pool.used
            news[row].capacity = capacity
