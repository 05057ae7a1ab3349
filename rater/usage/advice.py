"""After a month of usage: at which balance to recharge, and with how much (charging-rules 2.3, 5).

The trigger is what the worst three days in a row took from credits: a card declined on a Friday evening is mended on Monday,
and nobody stops calling until then. The amount is what the worst week took, and never less than the least that may be bought.
Both are raised to an amount a person would choose. What an invoice paid needs no credits and is not counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rater.core.money import MICROS

MONTH_DAYS = 28  # the shortest month there is; less says too little
WINDOW_DAYS = 62  # older usage says more about last season than about the next month
WEEK, WEEKEND = 7, 3
AVERAGE_DAYS = 30
MINIMUM_FUNDING = {"USD": 50 * MICROS, "EUR": 20 * MICROS}


@dataclass(frozen=True, slots=True)
class Spend:
    """What credits paid, day by day, from the first day looked at to the last; days without calls are 0."""

    currency: str
    first_day: int  # days since 1970, UTC
    micros: tuple[int, ...]

    @property
    def days(self) -> int:
        return len(self.micros)

    @property
    def last_day(self) -> int:
        return self.first_day + len(self.micros) - 1


@dataclass(frozen=True, slots=True)
class RechargeAdvice:
    """The proposal, with what it rests on. `..._tenths`: tenths of a day of the worst week that the amount lasts."""

    trigger_micros: int
    amount_micros: int
    trigger_days_tenths: int
    amount_days_tenths: int
    worst_week_micros: int
    worst_week_first_day: int
    worst_days_micros: int
    minimum_micros: int | None
    average_day_micros: int
    recharges_a_month_tenths: int


def spend_of(by_day: Mapping[int, int], currency: str, first_call_day: int, last_call_day: int) -> Spend:
    """The window that is looked at: at most `WINDOW_DAYS` up to the last day with a call."""
    first = max(first_call_day, last_call_day - WINDOW_DAYS + 1)
    return Spend(currency, first, tuple(by_day.get(day, 0) for day in range(first, last_call_day + 1)))


def enough(spend: Spend) -> bool:
    return spend.days >= MONTH_DAYS


def recharge_advice(spend: Spend) -> RechargeAdvice | None:
    """None where credits paid nothing: then there is nothing to recharge for."""
    if not sum(spend.micros):
        return None
    week, week_at = worst(spend.micros, WEEK)
    weekend, _ = worst(spend.micros, WEEKEND)
    minimum = MINIMUM_FUNDING.get(spend.currency)
    trigger = rounded_up(weekend)
    amount = rounded_up(max(week, minimum or 0))
    return RechargeAdvice(
        trigger_micros=trigger,
        amount_micros=amount,
        trigger_days_tenths=10 * WEEK * trigger // week,
        amount_days_tenths=10 * WEEK * amount // week,
        worst_week_micros=week,
        worst_week_first_day=spend.first_day + week_at,
        worst_days_micros=weekend,
        minimum_micros=minimum,
        average_day_micros=sum(spend.micros) // spend.days,
        recharges_a_month_tenths=10 * AVERAGE_DAYS * sum(spend.micros) // (spend.days * amount),
    )


def worst(micros: tuple[int, ...], length: int) -> tuple[int, int]:
    """(largest sum of so many days in a row, where they begin); the later one of two that are equal."""
    length = min(length, len(micros))
    running = sum(micros[:length])
    best = running, 0
    for at in range(1, len(micros) - length + 1):
        running += micros[at + length - 1] - micros[at - 1]
        best = max(best, (running, at))
    return best


def rounded_up(micros: int) -> int:
    """Up to an amount people choose: 5, 10, 15 ... 100, then two digits and zeros: 137.20 -> 140, 1_234 -> 1_300."""
    whole = max(-(-micros // MICROS), 1)
    step = 5 if whole <= 100 else 10 ** (len(str(whole)) - 2)
    return -(-whole // step) * step * MICROS
