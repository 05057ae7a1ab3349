"""Minutes or credits: would a plan have been cheaper than the credits that were spent, and are the plans there worth it?

Both questions are answered from thirty days of rated calls. Credits that users spent are held against licences that would
have given them minutes; minutes that pools gave are held against what the same minutes would have cost, at the rate that the
deck had for each of those calls. What a licence costs no rated call says: prices are given, or the answer is the price below
which a licence pays.

Not looked at: conferences and inbound calls (no calling plan pays them), increments below a minute, connection fees of calls
that a pool paid, and that one counter of MCOPSTN2 stops the other. Numbers of class premium, which no pool pays, cannot be
told apart in a rated call.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

DOMESTIC, INTERNATIONAL = "Domestic", "International"
NOT_SHARED = "MCOPSTN8"


class Offer(NamedTuple):
    """A licence one may buy: its minutes a month and its price, or None where nobody said."""

    plan: str
    country: str
    domestic: int
    international: int
    price_micros: int | None

    def minutes(self, scope: str) -> int:
        return self.domestic if scope == DOMESTIC else self.international


class Spent(NamedTuple):
    """What credits paid for one user's outbound calls of one scope."""

    user: str
    scope: str
    minutes: int
    micros: int


class Drawn(NamedTuple):
    """What one user drew from one plan's pools, and what the same minutes would have cost from credits."""

    user: str
    plan: str
    country: str
    minutes: int
    worth_micros: int
    minutes_without_rate: int


@dataclass(frozen=True, slots=True)
class Buy:
    """A plan for users whose calls credits paid. `licences` is the best number; `saved` and `cost` are of thirty days."""

    plan: str
    country: str
    licences: int
    saved_micros: int
    cost_micros: int

    @property
    def gain_micros(self) -> int:
        return self.saved_micros - self.cost_micros


@dataclass(frozen=True, slots=True)
class Keep:
    """A plan that is there: what its minutes were worth, and what its licences cost (None where nobody said)."""

    plan: str
    country: str
    licences: int
    licences_known: bool
    minutes: int
    worth_micros: int
    minutes_without_rate: int
    cost_micros: int | None

    @property
    def pays(self) -> bool | None:
        return None if self.cost_micros is None else self.worth_micros >= self.cost_micros

    @property
    def break_even_micros(self) -> int:
        """A licence below this price pays."""
        return self.worth_micros // self.licences if self.licences else 0


def keeps(
    drawn: Iterable[Drawn], prices: Mapping[tuple[str, str], int], licences: Mapping[tuple[str, str], int]
) -> list[Keep]:
    """`licences`: how many are assigned, where the account events told a pool's capacity; else users who drew are counted."""
    of: dict[tuple[str, str], list[Drawn]] = {}
    for one in drawn:
        of.setdefault((one.plan, one.country), []).append(one)
    found = []
    for (plan, country), users in sorted(of.items()):
        known = licences.get((plan, country))
        count = known if known is not None else len({one.user for one in users})
        price = prices.get((plan, country))
        found.append(
            Keep(
                plan, country, count, known is not None,
                sum(one.minutes for one in users), sum(one.worth_micros for one in users),
                sum(one.minutes_without_rate for one in users), None if price is None else price * count,
            )
        )  # fmt: skip
    return found


def buys(spent: Iterable[Spent], drawn: Iterable[Drawn], offers: Iterable[Offer]) -> list[Buy]:
    """For each offer with a price the best number of licences, where there is a gain; the largest gain first."""
    rows = list(spent)
    holders: dict[tuple[str, str], set[str]] = {}
    for one in drawn:
        holders.setdefault((one.plan, one.country), set()).add(one.user)
    found = [best_of(rows, holders.get((offer.plan, offer.country), set()), offer) for offer in offers]
    return sorted((one for one in found if one is not None and one.gain_micros > 0), key=lambda one: -one.gain_micros)


def best_of(rows: list[Spent], holders: set[str], offer: Offer) -> Buy | None:
    """Licences go to those who spend most; who holds the plan already shares what a further licence adds."""
    if offer.price_micros is None:
        return None
    useful = [row for row in rows if offer.minutes(row.scope) > 0]
    total: dict[str, int] = {}
    for row in useful:
        total[row.user] = total.get(row.user, 0) + row.micros
    order = sorted((user for user in total if user not in holders), key=lambda user: (-total[user], user))
    least = min((minutes for minutes in (offer.domestic, offer.international) if minutes), default=1)
    extra = -(-sum(row.minutes for row in useful if row.user in holders) // least)
    best: Buy | None = None
    for count in range(1, len(order) + extra + 1):
        covered = set(order[:count]) | holders
        saved = sum(_saved(useful, covered, scope, offer, count) for scope in (DOMESTIC, INTERNATIONAL))
        made = Buy(offer.plan, offer.country, count, saved, offer.price_micros * count)
        if best is None or made.gain_micros > best.gain_micros:
            best = made
    return best


def _saved(rows: list[Spent], covered: set[str], scope: str, offer: Offer, count: int) -> int:
    """What so many licences would have kept in credits: all of it, or the share that their minutes cover."""
    mine = [row for row in rows if row.scope == scope and row.user in covered]
    if offer.plan == NOT_SHARED:
        return sum(_share(row.micros, row.minutes, offer.minutes(scope)) for row in mine)
    minutes, micros = sum(row.minutes for row in mine), sum(row.micros for row in mine)
    return _share(micros, minutes, offer.minutes(scope) * count)


def _share(micros: int, minutes: int, covered: int) -> int:
    return micros if minutes <= covered else micros * covered // minutes
