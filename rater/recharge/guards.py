"""What a recharge agent may ask for: not too often, not too much, not behind a declined card, not when somebody said stop.

A refusal is a sentence that a person can act on, and a short word for the metric. Limits are per tenant; amounts count per UTC day.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rater.core.instants import DAY_MS, instant_text
from rater.recharge.amounts import amount_text
from rater.recharge.requests import Request

HOUR_MS = 3_600_000
MINUTE_MS = 60_000
PAUSE_MOST_MS = DAY_MS

# Every refusal begins so: whoever reads the log later knows that no payment was asked for.
NOT_ASKED = "not asked: "


@dataclass(frozen=True, slots=True)
class Limits:
    """What is allowed to one tenant. `daily_max_micros` by currency; a currency that is not named has no ceiling in amount."""

    enabled: bool = True
    why_disabled: str = ""
    per_hour_max: int = 4
    per_day_max: int = 24
    daily_max_micros: Mapping[str, int] = field(default_factory=dict)
    pause_after_decline_ms: int = 15 * MINUTE_MS


@dataclass(frozen=True, slots=True)
class Guards:
    """The limits of everybody, of some tenants, and the switch above them all."""

    enabled: bool = True
    why_disabled: str = ""
    everybody: Limits = field(default_factory=Limits)
    tenants: Mapping[str, Limits] = field(default_factory=dict)

    def of(self, tenant: str) -> Limits:
        return self.tenants.get(tenant, self.everybody)


@dataclass(frozen=True, slots=True)
class Asked:
    """A recharge of this tenant that went to the provider: when, how much, and whether it was declined (or is unknown yet)."""

    at_ms: int
    amount_micros: int
    currency: str
    declined: bool = False
    counts: bool = True  # against the ceiling: approved, or not answered yet


@dataclass(frozen=True, slots=True)
class Refusal:
    """`word` for the metric, `reason` for the person."""

    word: str
    reason: str


WORDS = ("switched_off", "tenant_switched_off", "per_hour", "per_day", "daily_ceiling", "after_decline")


def refusal(request: Request, history: Sequence[Asked], guards: Guards, now_ms: int) -> Refusal | None:
    """Why this recharge is not asked for, or None. `history`: what was asked for this tenant in the last day or so, oldest first."""
    limits = guards.of(request.tenant)
    return (
        _switch(request, guards, limits)
        or _after_decline(request, history, limits, now_ms)
        or _too_often(history, limits, now_ms)
        or _too_much(request, history, limits, now_ms)
    )


def _switch(request: Request, guards: Guards, limits: Limits) -> Refusal | None:
    if not guards.enabled:
        why = f" ({guards.why_disabled})" if guards.why_disabled else ""
        return Refusal(
            "switched_off",
            f"{NOT_ASKED}all recharges are switched off{why}; add funds by hand, or wait until they are on again",
        )
    if not limits.enabled:
        why = f" ({limits.why_disabled})" if limits.why_disabled else ""
        return Refusal(
            "tenant_switched_off",
            f"{NOT_ASKED}recharges of {request.tenant} are switched off{why}; add funds by hand, or ask your provider",
        )
    return None


def _after_decline(request: Request, history: Sequence[Asked], limits: Limits, now_ms: int) -> Refusal | None:
    """Each decline in a row doubles the pause; a command (a new card, another amount) is a reason to try again at once."""
    if request.by_command:
        return None
    in_a_row = 0
    for asked in reversed(history):
        if not asked.declined:
            break
        in_a_row += 1
    if in_a_row == 0 or limits.pause_after_decline_ms == 0:
        return None
    until_ms = history[-1].at_ms + min(limits.pause_after_decline_ms << min(in_a_row - 1, 20), PAUSE_MOST_MS)
    if now_ms >= until_ms:
        return None
    times = "once" if in_a_row == 1 else f"{in_a_row} times in a row"
    return Refusal(
        "after_decline",
        f"{NOT_ASKED}the payment was declined {times}, the next try is at {instant_text(until_ms)}; "
        "check the payment method, or configure the recharge anew to try at once",
    )


def _too_often(history: Sequence[Asked], limits: Limits, now_ms: int) -> Refusal | None:
    for word, most, window_ms, name in (
        ("per_hour", limits.per_hour_max, HOUR_MS, "hour"),
        ("per_day", limits.per_day_max, DAY_MS, "24 hours"),
    ):
        count = sum(asked.at_ms > now_ms - window_ms for asked in history)
        if count >= most:
            return Refusal(
                word,
                f"{NOT_ASKED}{count} recharges in the last {name}, {most} are allowed; raise the recharge amount so that it lasts "
                "longer, or look for calls nobody knows of",
            )
    return None


def _too_much(request: Request, history: Sequence[Asked], limits: Limits, now_ms: int) -> Refusal | None:
    most = limits.daily_max_micros.get(request.currency)
    if most is None:
        return None
    midnight_ms = now_ms - now_ms % DAY_MS
    today = sum(
        asked.amount_micros
        for asked in history
        if asked.counts and asked.currency == request.currency and asked.at_ms >= midnight_ms
    )
    if today + request.amount_micros <= most:
        return None
    return Refusal(
        "daily_ceiling",
        f"{NOT_ASKED}{amount_text(today, request.currency)} recharged today and {amount_text(request.amount_micros, request.currency)} "
        f"more would pass the daily ceiling of {amount_text(most, request.currency)}; add funds by hand, or have the ceiling raised",
    )
