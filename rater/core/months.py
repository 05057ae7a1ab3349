"""Calls counted by month: what a tenant's month came to, told once when the month is closed.

A call belongs to the UTC month of its `start`, however late it comes. The month that is running is counted in the account's own row,
which a call changes anyway; when a call of another month comes, or the month is closed, the sums go to a row of that month, which
stays for ever: no order of arrival can lose a sum. The account keeps a list of the rows that are not told yet, the earliest first.
"""

from typing import Any

from rater.core.accounts import Shelf, add, find, total_identity, touch
from rater.core.charging import FLAG_LATE, NOT_CONNECTED
from rater.core.compiled import kernel
from rater.core.instants import month_of
from rater.core.money import BALANCE_MICROS_MAX
from rater.core.thresholds import MONTH_CLOSED, announce

# Places of `totals` in a row of news.
CALLS, CONNECTED, CHARGE, INVOICE, POOL_MINUTES, CREDIT_MINUTES, LATE = range(7)


@kernel
def open_month(totals: Shelf, account_row: Any, account: Any, month: Any, high: Any, low: Any) -> Any:
    """The row of a month whose first call this is, in its place among the months not told."""
    row = add(totals, high, low)
    totals.rows[row].account = account_row
    totals.rows[row].month = month
    previous, following = -1, account.first_open_month
    while following >= 0 and totals.rows[following].month < month:
        previous, following = following, totals.rows[following].next
    totals.rows[row].next = following
    if previous < 0:
        account.first_open_month = row
    else:
        touch(totals, previous)
        totals.rows[previous].next = row
    account.open_months += 1
    return row


@kernel
def put_away(totals: Shelf, account_row: Any, account: Any) -> None:
    """Move what the account counted of its running month to the row of that month, made now if it has none."""
    if account.month_calls == 0:
        return
    high, low = total_identity(account_row, account.month)
    row = find(totals, high, low)
    if row < 0:
        row = open_month(totals, account_row, account, account.month, high, low)
    touch(totals, row)
    total = totals.rows[row]
    total.calls += account.month_calls
    total.connected += account.month_connected
    total.charge_micros += account.month_charge_micros
    total.invoice_micros += account.month_invoice_micros
    total.pool_minutes += account.month_pool_minutes
    total.credit_minutes += account.month_credit_minutes
    total.late += account.month_late
    account.month_calls = 0
    account.month_connected = 0
    account.month_charge_micros = 0
    account.month_invoice_micros = 0
    account.month_pool_minutes = 0
    account.month_credit_minutes = 0
    account.month_late = 0
    if total.charge_micros > BALANCE_MICROS_MAX:
        raise ArithmeticError("a month's charges beyond 4 * 10**18 micro-units; batch not emitted")


@kernel
def count_call(totals: Shelf, account_row: Any, account: Any, call: Any, answer: Any) -> None:
    """One rated call, whatever its outcome, into the sums of its month. Most calls are of the month of the call before."""
    month = month_of(call.start_ms)
    if account.month != month:
        put_away(totals, account_row, account)
        account.month = month
    account.month_calls += 1
    if answer.outcome != NOT_CONNECTED:
        account.month_connected += 1
    if answer.marks & FLAG_LATE:
        account.month_late += 1
    account.month_charge_micros += answer.charge_micros
    account.month_invoice_micros += answer.invoice_micros
    account.month_pool_minutes += answer.pool_minutes
    account.month_credit_minutes += answer.credit_minutes
    if account.month_charge_micros > BALANCE_MICROS_MAX:
        raise ArithmeticError("a month's charges beyond 4 * 10**18 micro-units; batch not emitted")


@kernel
def close_months(
    news: Any, news_tally: Any, account_row: Any, account: Any, totals: Shelf, record: Any, at_ms: Any
) -> None:
    """Tell every closed month that had a call and is not told yet, the earliest first."""
    if account.month < account.closed_before:
        put_away(totals, account_row, account)
    while account.first_open_month >= 0:
        row = account.first_open_month
        total = totals.rows[row]
        if total.month >= account.closed_before:
            return
        touch(totals, row)
        account.first_open_month = total.next
        account.open_months -= 1
        total.next = -1
        total.told = 1
        told = announce(news, news_tally, MONTH_CLOSED, account_row, account, record, 0, at_ms)
        news[told].number = total.month
        sums = news[told].totals
        sums[CALLS] = total.calls
        sums[CONNECTED] = total.connected
        sums[CHARGE] = total.charge_micros
        sums[INVOICE] = total.invoice_micros
        sums[POOL_MINUTES] = total.pool_minutes
        sums[CREDIT_MINUTES] = total.credit_minutes
        sums[LATE] = total.late
