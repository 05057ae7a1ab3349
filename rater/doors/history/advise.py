"""`rater advise`: the questions it asks a history, and its answer as one object."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import orjson

from rater.core.instants import DAY_MS, day_text
from rater.core.money import MICROS
from rater.core.numbering import country_code, country_text
from rater.core.plans import CALLING_PLANS, MCOPSTN8, PLANS, allotment
from rater.doors.history.queries import Reflected, recharge_rows, reflected
from rater.doors.history.store import HistoryProblem, Read, Store
from rater.usage.advice import (
    AVERAGE_DAYS,
    MINIMUM_FUNDING,
    MONTH_DAYS,
    RechargeAdvice,
    Spend,
    enough,
    recharge_advice,
    spend_of,
)
from rater.usage.after_pool import family_of
from rater.usage.plan_advice import Buy, Drawn, Keep, Offer, Spent, buys, keeps
from rater.usage.recharges import REQUESTED

Prices = Mapping[tuple[str, str], int]
PRICE_HEADER = ["plan", "country", "price"]
PRICE_MICROS_MAX = 10**12


@dataclass(frozen=True, slots=True)
class Advice:
    """What `rater advise` says of one currency of a tenant (it has one), and up to where it has looked."""

    tenant: str
    spend: Spend
    enough: bool
    recharge: RechargeAdvice | None
    now: tuple[int, int] | None  # trigger and amount of the last recharge that was asked for
    invoiced_micros: int
    keeps: list[Keep] = field(default_factory=list)
    buys: list[Buy] = field(default_factory=list)
    spent: list[Spent] = field(default_factory=list)
    prices_given: int = 0
    reflects: list[Reflected] = field(default_factory=list)


def advise(store: Store, tenant: str, prices: Prices, plans: Any) -> Advice:
    """`plans`: the rows of the calling plans; `prices`: (plan, country) -> micro-units a licence and month."""
    with store.reading() as read:
        reflects = reflected(read, tenant)
        spend, invoiced = _spend(read, tenant)
        until_ms = (spend.last_day + 1) * DAY_MS
        since_ms = until_ms - min(spend.days, AVERAGE_DAYS) * DAY_MS
        spent = _spent(read, tenant, since_ms, until_ms)
        drawn = _drawn(read, tenant, since_ms, until_ms)
        licences = _licences(read, tenant, plans, until_ms)
        asked = [told.data() for told in recharge_rows(read, tenant) if told.type == REQUESTED]
    ready = enough(spend)
    offers = [_offer(key, price, plans, until_ms) for key, price in sorted(prices.items())]
    return Advice(
        tenant=tenant,
        spend=spend,
        enough=ready,
        recharge=recharge_advice(spend) if ready else None,
        now=(asked[-1]["trigger_micros"], asked[-1]["amount_micros"]) if asked else None,
        invoiced_micros=invoiced,
        keeps=keeps(drawn, prices, licences) if ready else [],
        buys=buys(spent, drawn, offers) if ready else [],
        spent=spent,
        prices_given=len(prices),
        reflects=reflects,
    )


# ---------------------------------------------------------------------------------------------- questions


def _spend(read: Read, tenant: str) -> tuple[Spend, int]:
    rows = read(
        f"select start_ms / {DAY_MS}, sum(charge_micros - invoice_micros), sum(invoice_micros), min(currency) "
        "from calls where tenant = ? group by 1 order by 1",
        (tenant,),
    )
    if not rows:
        raise HistoryProblem(f"the history has no call of tenant '{tenant}'; there is nothing to advise on yet")
    by_day = {int(day): int(micros) for day, micros, _, _ in rows}
    return spend_of(by_day, rows[-1][3], min(by_day), max(by_day)), sum(int(row[2]) for row in rows)


def _spent(read: Read, tenant: str, since_ms: int, until_ms: int) -> list[Spent]:
    rows = read(
        "select user_id, context, sum(credit_minutes), sum(charge_micros) from calls where tenant = ? and start_ms >= ? "
        "and start_ms < ? and charge_micros > 0 and context is not null and user_id is not null "
        "and call_type in ('user_out', 'user_out_conf', 'user_out_transfer', 'user_out_forwarding') "
        "group by 1, 2 order by 1, 2",
        (tenant, since_ms, until_ms),
    )
    return [Spent(user, context, int(minutes), int(micros)) for user, context, minutes, micros in rows]


def _drawn(read: Read, tenant: str, since_ms: int, until_ms: int) -> list[Drawn]:
    rows = read(
        "select user_id, pool, sum(pool_minutes), sum(pool_minutes * rate_nanos), "
        "sum(case when rate_nanos = 0 then pool_minutes else 0 end) from calls where tenant = ? and start_ms >= ? "
        "and start_ms < ? and pool is not null group by 1, 2 order by 1, 2",
        (tenant, since_ms, until_ms),
    )
    found: dict[tuple[str, str, str], list[int]] = {}
    for user, pool, minutes, nanos, without in rows:
        family, _ = family_of(pool)
        if family.country == "*":
            continue
        sums = found.setdefault((user or "", family.plan, family.country), [0, 0, 0])
        for at, value in enumerate((minutes, nanos, without)):
            sums[at] += int(value)
    return [Drawn(*key, minutes, nanos // 1000, without) for key, (minutes, nanos, without) in found.items()]


def _licences(read: Read, tenant: str, plans: Any, at_ms: int) -> dict[tuple[str, str], int]:
    """Licences assigned, as the capacity in the last event of each pool tells."""
    rows = read(
        "select body from events where tenant = ? and type = 'rater.pool.reached' order by feed, part, place", (tenant,)
    )
    found: dict[tuple[str, str], int] = {}
    for told in (_data(body) for (body,) in rows):
        family, _ = family_of(told["pool"])
        if family.country == "*" or family.plan == PLANS[MCOPSTN8]:
            continue
        offer = _offer((family.plan, family.country), None, plans, at_ms)
        each = offer.domestic if family.scope == "domestic" else offer.international
        if each and told["capacity"] % each == 0:
            found[family.plan, family.country] = told["capacity"] // each
    return found


def _data(body: str) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(body)["data"]
    return found


def _offer(key: tuple[str, str], price: int | None, plans: Any, at_ms: int) -> Offer:
    """Its minutes at the end of the window; a plan that is not sold in a country has none."""
    plan, country = key
    row = allotment(plans, PLANS.index(plan), country_code(country), at_ms)
    if row < 0:
        return Offer(plan, country, 0, 0, price)
    return Offer(plan, country, int(plans[row].domestic), int(plans[row].international), price)


# ---------------------------------------------------------------------------------------------- prices


def read_prices(given: Sequence[str], file: Path | None) -> dict[tuple[str, str], int]:
    """Of the options (`MCOPSTN1/GB=12.00`) and a file (plan,country,price), the options winning. Raises `HistoryProblem`."""
    found = {} if file is None else _from_file(file)
    for text in given:
        key, equals, price = text.partition("=")
        plan, slash, country = key.partition("/")
        if not equals or not slash:
            raise HistoryProblem(
                f"--plan-price is '{text[:60]}'; expected PLAN/COUNTRY=PRICE, for example MCOPSTN1/GB=12.00"
            )
        found.update([_price(plan, country, price, "--plan-price")])
    return found


def _from_file(file: Path) -> dict[tuple[str, str], int]:
    try:
        rows = list(csv.reader(file.read_text("utf-8-sig").splitlines(), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise HistoryProblem(f"{file}: {error}; expected a CSV of {','.join(PRICE_HEADER)}") from None
    if not rows or [cell.strip() for cell in rows[0]] != PRICE_HEADER:
        raise HistoryProblem(f"{file} line 1: expected the header {','.join(PRICE_HEADER)}")
    found: dict[tuple[str, str], int] = {}
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(PRICE_HEADER):
            raise HistoryProblem(f"{file} line {number}: {len(row)} cells; expected {','.join(PRICE_HEADER)}")
        plan, country, price = (cell.strip() for cell in row)
        found.update([_price(plan, country, price, f"{file} line {number}")])
    return found


def _price(plan: str, country: str, price: str, where: str) -> tuple[tuple[str, str], int]:
    sold = [PLANS[code] for code in CALLING_PLANS]
    if plan not in sold:
        raise HistoryProblem(f"{where}: plan '{plan[:20]}'; expected one of {' '.join(sold)}")
    try:
        place = country_text(country_code(country))
    except ValueError:
        place = ""
    if not place:
        raise HistoryProblem(
            f"{where}: country '{country[:20]}'; expected two capital letters, for example GB"
        ) from None
    try:
        micros = Decimal(price) * MICROS
    except InvalidOperation:
        micros = Decimal("NaN")
    if not micros.is_finite() or micros != micros.to_integral_value() or not 0 <= micros <= PRICE_MICROS_MAX:
        raise HistoryProblem(
            f"{where}: price '{price[:20]}'; expected an amount a licence and month, for example 12.00"
        )
    return (plan, place), int(micros)


# ---------------------------------------------------------------------------------------------- the answer


def advice_object(advice: Advice) -> dict[str, Any]:
    """`rater advise --json`"""
    spend, recharge = advice.spend, advice.recharge
    told: dict[str, Any] = {
        "tenant": advice.tenant,
        "currency": spend.currency,
        "enough": advice.enough,
        "days": spend.days,
        "days_needed": MONTH_DAYS,
        "first_day": day_text(spend.first_day * DAY_MS),
        "last_day": day_text(spend.last_day * DAY_MS),
        "spend_micros": sum(spend.micros),
        "invoice_micros": advice.invoiced_micros,
        "minimum_funding_micros": MINIMUM_FUNDING.get(spend.currency),
        "now": None if advice.now is None else {"trigger_micros": advice.now[0], "amount_micros": advice.now[1]},
        "recharge": None,
        "plan_prices_given": advice.prices_given,
        "plans": [asdict(one) | {"pays": one.pays, "break_even_micros": one.break_even_micros} for one in advice.keeps],
        "buy": [asdict(one) | {"gain_micros": one.gain_micros} for one in advice.buys],
        "credits_by_scope": _by_scope(advice.spent),
        "reflects": [asdict(one) for one in advice.reflects],
    }
    if recharge is not None:
        told["recharge"] = asdict(recharge) | {"worst_week_first_day": day_text(recharge.worst_week_first_day * DAY_MS)}
    return told


def _by_scope(spent: Sequence[Spent]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for one in spent:
        sums = found.setdefault(one.scope, {"scope": one.scope, "users": 0, "minutes": 0, "charge_micros": 0})
        sums["users"] += 1
        sums["minutes"] += one.minutes
        sums["charge_micros"] += one.micros
    return list(found.values())
