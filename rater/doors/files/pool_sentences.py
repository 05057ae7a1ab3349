"""Which plan or pool pays minutes of a call, and how many, in sentences.

The plan is chosen here a second time, by the rules' own functions; if the pool is not the engine's, nothing is told.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from rater.core.accounts import DOMESTIC, INTERNATIONAL, ZONE_A
from rater.core.instants import month_text
from rater.core.numbering import country_code, country_text
from rater.core.plans import (
    CALLING_PLANS,
    MCOMEETACPEA,
    MCOMEETADD,
    MCOMEETADD_DIALOUT_US,
    MCOPSTN2,
    MCOPSTN8,
    PAYG,
    PLANS,
    ZONE_A_MINUTES,
    allotment,
    in_zone_a,
    is_domestic,
    pool_country,
)
from rater.core.reasons import InvariantBroken
from rater.doors.files.amounts import grouped, plural
from rater.doors.files.scene import Facts, Scene, country_name

SCOPE_TEXTS = {DOMESTIC: "domestic", INTERNATIONAL: "international"}


@dataclass(frozen=True, slots=True)
class _Pool:
    """A pool as it was before the call."""

    name: str
    capacity: int
    used: int
    why: str


# --- calling plans ---------------------------------------------------------------------------------------------------


def plan_steps(scene: Scene, facts: Facts, premium: bool) -> list[str]:
    """Which plan of the user, seen from where, and what its pool gives."""
    who = f"User {scene.call['user']}" if scene.call.get("user") else "A call of nobody in particular"
    plans = [plan for plan in CALLING_PLANS if scene.holds(plan)]
    if premium:
        return [_context(scene, facts, plans)]
    if not plans:
        holds = ", ".join(name for code, name in enumerate(PLANS) if scene.holds(code)) or "no licence"
        return [f"{who} holds {holds}: no plan with minutes.", _context(scene, facts, plans)]
    tried, chosen = _tried(scene, plans)
    steps = [f"{who}: {'; '.join(tried)}."]
    if chosen < 0:
        return [*steps, _context(scene, facts, plans), "No plan of this user has minutes for it."]
    steps += [_context(scene, facts, [chosen]), f"{PLANS[chosen]} is asked for minutes: one plan, never two."]
    scope = DOMESTIC if facts.rated["destination_context"] == "Domestic" else INTERNATIONAL
    pool, stopped = _plan_pool(scene, chosen, scope)
    return [*steps, *stopped, _drawn(pool, facts, bool(stopped))]


def _tried(scene: Scene, plans: list[int]) -> tuple[list[str], int]:
    """The plans in the order in which they are tried, up to the one with minutes for the call (-1: none)."""
    told = []
    for plan in plans:
        country = _licence_country(scene, plan)
        scope = DOMESTIC if is_domestic(country, scene.destination) else INTERNATIONAL
        minutes = _allotted(scene, plan, scope)
        some = grouped(minutes) if minutes else "no"
        told.append(f"{PLANS[plan]} ({country_text(country)}) gives {some} {SCOPE_TEXTS[scope]} minutes a month")
        if minutes:
            return told, plan
    return told, -1


def _context(scene: Scene, facts: Facts, plans: list[int]) -> str:
    """Where the call is seen from: the licence of the plan, else of any plan, else the tenant's country."""
    home, why = country_code(facts.before["country"]), "the tenant's country"
    for plan in plans or [plan for plan in (PAYG,) if scene.holds(plan)]:
        home, why = int(scene.user().countries[plan]), f"where the user's {PLANS[plan]} is licensed"
        break
    there, context = country_name(scene.destination), str(facts.rated["destination_context"]).lower()
    if is_domestic(pool_country(home), scene.destination) != (context == "domestic"):
        raise InvariantBroken(f"explain: seen from {country_name(home)}, the engine calls {there} {context}")
    joined = ""
    if context == "domestic" and pool_country(home) != pool_country(scene.destination):
        joined = " (the United States and Canada count each other as domestic)"
    return f"Seen from {country_name(home)}, {why}, a call to {there} is {context}{joined}."


def _licence_country(scene: Scene, plan: int) -> int:
    return int(pool_country(int(scene.user().countries[plan])))


def _allotted(scene: Scene, plan: int, scope: int) -> int:
    plans = scene.book.rules.plans
    row = int(allotment(plans, plan, _licence_country(scene, plan), scene.start_ms))
    if row < 0:
        return 0
    return int(plans[row].domestic if scope == DOMESTIC else plans[row].international)


def _plan_pool(scene: Scene, plan: int, scope: int) -> tuple[_Pool, list[str]]:
    """The plan's pool; and, for MCOPSTN2, a sentence where its other counter has stopped it."""
    pool = _pool_before(scene, plan, scope)
    if plan != MCOPSTN2 or pool.used >= pool.capacity:
        return pool, []
    other = _pool_before(scene, plan, INTERNATIONAL if scope == DOMESTIC else DOMESTIC)
    if not 0 < other.capacity <= other.used:
        return pool, []
    counted = f"{other.name} has used {grouped(other.used)} of {grouped(other.capacity)}"
    return pool, [f"MCOPSTN2 has two counters, and one at its cap stops the other for the month: {counted}."]


def _pool_before(scene: Scene, plan: int, scope: int) -> _Pool:
    country, own = _licence_country(scene, plan), plan == MCOPSTN8
    minutes = _allotted(scene, plan, scope)
    licences = 1 if own else int(scene.rows("fleets")[int(scene.user().fleets[plan])].assigned)
    why = "the user's own" if own else f"{grouped(minutes)} x {plural(licences, 'licence')} assigned now"
    name = f"{country_text(country)}/{PLANS[plan]}/{SCOPE_TEXTS[scope]}/{month_text(scene.month)}"
    owner = scene.user_row() if own else -1
    used = _used_before(scene, owner, country, plan, scope)
    return _Pool(f"{name}/{scene.call['user']}" if own else name, minutes * licences, used, why)


def _used_before(scene: Scene, owner: int, country: int, plan: int, scope: int) -> int:
    pools = scene.rows("pools")
    same = (pools.account == scene.account) & (pools.user == owner) & (pools.country == country)
    places = np.flatnonzero(same & (pools.plan == plan) & (pools.scope == scope) & (pools.month == scene.month))
    if not places.size:
        return 0
    place = int(places[0])
    taken = int(scene.answer.pool_minutes) if place == int(scene.answer.pool) else 0
    return int(pools[place].used) - taken


def _drawn(pool: _Pool, facts: Facts, is_stopped: bool = False) -> str:
    """What the pool had, gave and has."""
    rated: dict[str, Any] = facts.rated
    taken, wanted = rated["pool_minutes"], rated["billed_minutes"]
    expected = 0 if is_stopped else min(wanted, max(pool.capacity - pool.used, 0))
    if taken != expected or (taken and rated["pool"] != pool.name):
        found = f"{taken} minutes from {rated['pool']}"
        raise InvariantBroken(f"explain: the steps give {expected} minutes from {pool.name}, the engine {found}")
    size = f"Pool {pool.name} holds {plural(pool.capacity, 'minute')} ({pool.why})"
    before = f"{size}, {grouped(pool.used)} used before this call"
    if not taken:
        return f"{before}: it gives nothing."
    part = (
        f"all {plural(wanted, 'minute')}" if taken == wanted else f"{grouped(taken)} of the {grouped(wanted)} minutes"
    )
    left = max(pool.capacity - pool.used - taken, 0)
    return f"{before}: it gives {part}; {grouped(pool.used + taken)} used now, {grouped(left)} left."


# --- conferences -----------------------------------------------------------------------------------------------------


def conference_steps(scene: Scene, facts: Facts, premium: bool) -> list[str]:
    """The organiser's add-on for US and Canada, else the tenant's Zone A pool."""
    organiser, there = scene.call["user"], country_name(scene.destination)
    steps = [f"A conference calls out: it is booked on the organiser, {organiser}, whose calling plans are not asked."]
    if facts.rated["capability"] == PLANS[MCOMEETADD_DIALOUT_US]:
        add_on = PLANS[MCOMEETADD_DIALOUT_US]
        return [*steps, f"The organiser's {add_on} covers calls to {there}: free, and no pool is touched."]
    if scene.organiser_pays_by_the_minute():
        return [*steps, f"The organiser pays conferences by the minute ({PLANS[MCOMEETACPEA]}): no pool gives minutes."]
    if premium:
        return steps
    if not in_zone_a(scene.destination):
        return [*steps, f"{there[0].upper()}{there[1:]} is not in Zone A: no pool gives minutes."]
    licences = int(scene.rows("accounts")[scene.account].conference_licences)
    name = f"*/{PLANS[MCOMEETADD]}/zone-a/{month_text(scene.month)}"
    why = f"{ZONE_A_MINUTES} x {plural(licences, f'{PLANS[MCOMEETADD]} licence')} assigned now"
    used = _used_before(scene, -1, 0, MCOMEETADD, ZONE_A)
    pool = _Pool(name, ZONE_A_MINUTES * licences, used, why)
    return [*steps, f"{there} is in Zone A, so the tenant's conference pool is asked.", _drawn(pool, facts)]
