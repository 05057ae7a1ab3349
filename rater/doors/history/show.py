"""What people see of a history: tables. On a screen a number keeps its country and last two digits; exports are whole."""

import sys
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from rater.core.instants import DAY_MS, day_text, instant_text
from rater.core.money import MICROS
from rater.doors.history.advise import Advice
from rater.doors.history.queries import AfterPoolAnswer, DailyAnswer, EventPage, RechargeAnswer, Reflected, UsagePage
from rater.doors.logs import masked
from rater.usage.advice import MONTH_DAYS
from rater.usage.cells import two_decimals
from rater.usage.plan_advice import Keep
from rater.usage.rows import Usage

PIPE_COLUMNS = 1000


def console() -> Console:
    plain: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}
    if sys.stdout.isatty():
        return Console(**plain)
    return Console(**plain, width=PIPE_COLUMNS, no_color=True, force_terminal=False)


def table(title: str, *columns: str, numbers: str = "") -> Table:
    """`numbers`: names of the columns that are set to the right, with spaces between."""
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name in columns:
        made.add_column(name, justify="right" if name in numbers.split(",") else "left")
    return made


def exact(micros: int) -> str:
    """41_000 -> `0.041`: at least two decimals, and never fewer than the amount has."""
    whole, part = divmod(abs(micros), MICROS)
    digits = f"{part:06d}".rstrip("0")
    return f"{'-' if micros < 0 else ''}{whole:,}.{digits:0<2}"


def moment(ms: int | None) -> str:
    return "" if ms is None else instant_text(ms)[:19].replace("T", " ")


def show(*things: str | Table) -> None:
    screen = console()
    for thing in things:
        screen.print(thing, overflow="fold" if isinstance(thing, str) else "ellipsis")


def reflected(reflects: Sequence[Reflected]) -> str:
    places = ", ".join(f"{one.topic}-{one.partition} before {one.offset}" for one in reflects)
    return f"Reflects {places}."


def _call(usage: Usage) -> list[str]:
    return [
        moment(usage.start_ms), usage.user_id or "", usage.call_type, masked(usage.callee), usage.destination or "",
        str(usage.billed_minutes), str(usage.pool_minutes), str(usage.credit_minutes), exact(usage.charge_micros),
        usage.capability or usage.outcome,
    ]  # fmt: skip


CALL = ("start (UTC)", "user", "type", "called", "destination", "minutes", "pool", "credits", "charge", "paid by")
CALL_NUMBERS = "minutes,pool,credits,charge"


def show_usage(tenant: str, page: UsagePage) -> None:
    currency = page.usages[0].currency if page.usages else ""
    calls = table(f"Usage of {tenant} {currency}", *CALL, numbers=CALL_NUMBERS)
    for usage in page.usages:
        calls.add_row(*_call(usage))
    show(calls)
    if page.next is not None:
        show(f"More: --after {page.next}")
    show(reflected(page.reflects))


def show_after_pool(tenant: str, answer: AfterPoolAnswer) -> None:
    if not answer.calls:
        show(f"No call of {tenant} was paid by credits because a pool had ended.", reflected(answer.reflects))
        return
    calls = table(f"Calls of {tenant} that credits paid after a pool ended", "pool", *CALL, numbers=CALL_NUMBERS)
    for one in answer.calls:
        calls.add_row(one.pool, *_call(one.usage))
    currency = answer.calls[0].usage.currency
    show(calls, f"{len(answer.calls):,} calls, {exact(answer.charge_micros)} {currency}.", reflected(answer.reflects))


def show_recharges(tenant: str, answer: RechargeAnswer) -> None:
    if not answer.recharges:
        show(f"No recharge of {tenant} was asked for.", reflected(answer.reflects))
        return
    rows = table(f"Recharges of {tenant}", "recharge", "asked", "amount", "state", "closed", "paid", "reason",
                 numbers="amount,paid")  # fmt: skip
    for one in answer.recharges:
        amount = "" if one.asked_micros is None else f"{exact(one.asked_micros)} {one.currency}"
        paid = "" if one.paid_micros is None else exact(one.paid_micros)
        rows.add_row(
            one.recharge_id, moment(one.requested_ms), amount, one.state, moment(one.closed_ms), paid, one.reason or ""
        )
    show(rows, reflected(answer.reflects))


def show_events(tenant: str, page: EventPage) -> None:
    rows = table(f"Events of {tenant}", "time (UTC)", "event", "id")
    for event in page.events:
        rows.add_row(moment(event.time_ms), event.type.removeprefix("rater."), event.event_id)
    show(rows)
    if page.next is not None:
        show(f"More: --after {page.next}")
    show(reflected(page.reflects))


def show_daily(tenant: str, answer: DailyAnswer) -> None:
    rows = table(f"Days of {tenant} (UTC)", "day", "calls", "connected", "minutes", "pool", "credits", "charge", "",
                 numbers="calls,connected,minutes,pool,credits,charge")  # fmt: skip
    for day in answer.days:
        counts = (day.calls, day.connected, day.billed_minutes, day.pool_minutes, day.credit_minutes)
        rows.add_row(day.day, *(f"{count:,}" for count in counts), exact(day.charge_micros), day.currency)
    show(rows, reflected(answer.reflects))


# ---------------------------------------------------------------------------------------------- advice


def show_advice(advice: Advice) -> None:
    spend = advice.spend
    first, last = (day_text(day * DAY_MS) for day in (spend.first_day, spend.last_day))
    show(
        f"{advice.tenant}: {spend.days} days of usage, {first} to {last}; credits paid {_money(advice, sum(spend.micros))}."
    )
    if not advice.enough:
        show(
            f"Too little history for advice: {spend.days} days, at least {MONTH_DAYS} are needed. Ask again after "
            f"{day_text((spend.first_day + MONTH_DAYS - 1) * DAY_MS)}."
        )
    else:
        _show_recharge(advice)
        _show_plans(advice)
    show(reflected(advice.reflects))


def _money(advice: Advice, micros: int) -> str:
    return f"{two_decimals(micros)} {advice.spend.currency}"


def _show_recharge(advice: Advice) -> None:
    found = advice.recharge
    if found is None:
        paid = "the invoice paid the rest" if advice.invoiced_micros else "pools paid, or calls were free"
        show(f"Credits paid no call in this time ({paid}): no automatic recharge is needed.")
        return
    rows = table("Automatic recharge", "", "now", "proposed", "lasts in the worst week", numbers="now,proposed")
    now = [exact(micros) for micros in advice.now] if advice.now else ["", ""]
    rows.add_row("when the balance falls below", now[0], exact(found.trigger_micros), _days(found.trigger_days_tenths))
    rows.add_row("recharge with", now[1], exact(found.amount_micros), _days(found.amount_days_tenths))
    show(rows)
    minimum = (
        f"the least funding in {advice.spend.currency} is not known here"
        if found.minimum_micros is None
        else f"the least funding is {_money(advice, found.minimum_micros)}"
    )
    worst_week = day_text(found.worst_week_first_day * DAY_MS)
    show(
        f"Worst week {_money(advice, found.worst_week_micros)} (from {worst_week}), worst three days "
        f"{_money(advice, found.worst_days_micros)}, a day on average {_money(advice, found.average_day_micros)}; {minimum}. "
        f"At that pace a recharge comes {_tenths(found.recharges_a_month_tenths)} times a month."
    )


def _tenths(tenths: int) -> str:
    return f"{tenths // 10}.{tenths % 10}"


def _days(tenths: int) -> str:
    return f"{_tenths(tenths)} days"


def _show_plans(advice: Advice) -> None:
    if advice.keeps:
        rows = table("Plans there are, last 30 days", "plan", "licences", "minutes used", "worth at credit rates",
                     "licences cost", "", numbers="licences,minutes used,worth at credit rates,licences cost")  # fmt: skip
        for keep in advice.keeps:
            count = str(keep.licences) if keep.licences_known else f"at least {keep.licences}"
            cost = "not given" if keep.cost_micros is None else exact(keep.cost_micros)
            rows.add_row(
                f"{keep.plan} {keep.country}",
                count,
                f"{keep.minutes:,}",
                exact(keep.worth_micros),
                cost,
                _verdict(keep),
            )
        show(rows)
    for buy in advice.buys:
        show(
            f"{buy.licences} x {buy.plan} {buy.country} would have been cheaper than credits: {_money(advice, buy.saved_micros)} "
            f"of calls for {_money(advice, buy.cost_micros)}, {_money(advice, buy.gain_micros)} less in 30 days."
        )
    if not advice.prices_given:
        show(
            "What a plan costs is not in the data: give --plan-price PLAN/COUNTRY=PRICE (of a licence and month) to hear "
            "whether minutes or credits would have been cheaper."
        )
    elif not advice.buys:
        show("At these prices no further licence would have been cheaper than the credits that were spent.")


def _verdict(keep: Keep) -> str:
    if keep.pays is None:
        return f"pays below {two_decimals(keep.break_even_micros)} a licence"
    return "cheaper than credits" if keep.pays else "credits would have been cheaper"
