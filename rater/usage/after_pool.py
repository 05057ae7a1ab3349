"""Which calls credits paid because a pool had ended, and what each cost.

A rated call names the pool that gave it minutes; where the pool had none left it names none. So the pool is found from what
the tenant's log says in its order: a pool has ended with the first call it could not pay to the end, or when it reached
100 %. From then on a call of a user whose plan is that pool's (he drew on it before), in the same month and scope, that
credits paid, is one that the pool would have paid.

What the log cannot tell: the plan of a user who never had a minute of it, a number of class premium (never a pool's), and a
licence taken away in between.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from rater.core.instants import month_of, month_text
from rater.core.plans import ZONE_A
from rater.usage.rows import Usage

STRADDLED, ENDED = "straddled", "ended"
EITHER_COUNTER = "MCOPSTN2"  # one of its two pools at its cap stops the other
CONFERENCE = "MCOMEETADD"


class Family(NamedTuple):
    """A pool without its month: `GB/MCOPSTN1/domestic`, behind it the user where the minutes are one user's."""

    country: str
    plan: str
    scope: str
    user: str

    def pool(self, month: str) -> str:
        return "/".join([self.country, self.plan, self.scope, month, *filter(None, [self.user])])


@dataclass(frozen=True, slots=True)
class AfterPool:
    """One call that credits paid, wholly (`ended`) or from the minute on at which the pool ended (`straddled`)."""

    pool: str
    why: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class PoolEnd:
    """A pool at 100 %, as the account events tell it."""

    pool: str
    account_version: int


def family_of(pool: str) -> tuple[Family, str]:
    """A pool's name in its parts, and its month."""
    country, plan, scope, month, *user = pool.split("/", 4)
    return Family(country, plan, scope, user[0] if user else ""), month


def siblings(family: Family) -> list[Family]:
    """The pools whose end stops this one."""
    if family.plan != EITHER_COUNTER:
        return [family]
    return [family, family._replace(scope="international" if family.scope == "domestic" else "domestic")]


def after_pool(usages: Iterable[Usage], ends: Iterable[PoolEnd]) -> Iterator[AfterPool]:
    """`usages`: one tenant's calls in the order of its log, all those that a pool or credits paid."""
    ended = {end.pool: end.account_version for end in ends}
    drew: dict[str, dict[str, Family]] = {}  # user -> scope of the call -> pool
    for usage in usages:
        user = usage.user_id or ""
        if usage.pool is not None:
            family, _ = family_of(usage.pool)
            drew.setdefault(user, {})[_scope(usage)] = family
            if usage.credit_minutes > 0:
                ended.setdefault(usage.pool, usage.account_version)
                if usage.charge_micros > 0:
                    yield AfterPool(usage.pool, STRADDLED, usage)
            continue
        found = drew.get(user, {}).get(_scope(usage))
        if found is None or usage.charge_micros == 0 or not _could_pay(found, usage):
            continue
        month = month_text(month_of(usage.start_ms))
        for family in siblings(found):
            if ended.get(family.pool(month), usage.account_version) < usage.account_version:
                yield AfterPool(family.pool(month), ENDED, usage)
                break


def _scope(usage: Usage) -> str:
    """What decides which pool is asked: conferences have one, users one for each context."""
    return "zone-a" if usage.call_type == "conf_out" else str(usage.context)


def _could_pay(family: Family, usage: Usage) -> bool:
    return family.plan != CONFERENCE or usage.country in ZONE_A
