"""Invented accounts and calls for `rater demo`: the same bytes every time.

Three companies that do not exist call numbers that regulators keep free for stories: 555-01xx in North America,
020 7946 0xxx and 07700 900xxx in Britain, 01 99 00 in France, (0)30 23125 in Germany, 08 465 004 in Sweden.
"""

import random
from dataclasses import dataclass, field
from typing import Any

import orjson

from rater.core.instants import DAY_MS, HOUR_MS, MINUTE_MS, instant_text, parse_instant

SEED = 20261101
CONTOSO, FABRIKAM, NORTHWIND = "contoso", "fabrikam", "northwind"
TOLL_FREE = "+18005550199"

NEAR_US = ("+1212555{:04d}", "+1415555{:04d}", "+1312555{:04d}", "+1206555{:04d}")
BAHAMAS, ANGUILLA = "+1242555{:04d}", "+1264555{:04d}"
LONDON, BRITISH_MOBILE, BRITISH_PREMIUM = "+4420794609{:02d}", "+4477009001{:02d}", "+4490987901{:02d}"
BERLIN, STOCKHOLM, PARIS, TORONTO = "+4930231251{:02d}", "+468465004{:02d}", "+331990012{:02d}", "+1416555{:04d}"
ABROAD = (LONDON, BRITISH_MOBILE, BERLIN, STOCKHOLM, PARIS)
NOBODY = "+9991234567"

# Records that the story points at.
THE_EMERGENCY, THE_TOLL_FREE, THE_CONFERENCE = "story-emergency", "story-toll-free", "story-conference"
THE_UNKNOWN, THE_TWICE, THE_SPLIT = "story-nobody", "story-sent-twice", "story-split"
THE_PREMIUM, THE_LATE, THE_FRESH = "story-premium", "story-late", "story-december"

# Of contoso's two contacts Ana is told of everything, Benoît of what he has to do something about, in French.
FOR_BENOIT = (
    "rater.recharge.failed", "rater.balance.zero", "rater.service.restored", "rater.lot.expiring", "rater.month.closed",
)  # fmt: skip

# Domestic minutes that contoso's three US licences of MCOPSTN5 use: 360 a month, so 80 % is 288.
FIRST_MINUTES, MIDDLE_MINUTES, SPLIT_MINUTES = 250, 102, 13


def at(text: str) -> int:
    """`11-03 13:30` of the year of the story."""
    day, _, time = text.partition(" ")
    found = parse_instant(f"2026-{day}T{time or '00:00'}:00Z")
    if found is None:
        raise ValueError(f"{text}: not an instant of the story")
    return found


@dataclass(slots=True)
class Traffic:
    """Calls in the making; `take` hands them over in the order in which a switch would."""

    chance: random.Random
    calls: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    made: int = 0

    def call(self, callee: str, start_ms: int, talk_ms: int, **fields: Any) -> None:
        """One call; the callee's `{}` is filled with a number that nobody has."""
        self.made += 1
        ring_ms = self.chance.randrange(1_500, 14_000)
        answer, end = instant_text(start_ms + ring_ms), instant_text(start_ms + ring_ms + talk_ms)
        record = {
            "record_id": f"sw1-{self.made:05d}",
            "tenant": CONTOSO,
            "call_type": "user_out",
            "user": "ana",
            "caller": "+12125550100",
            "callee": callee.format(self.chance.randrange(100) + (100 if "04d" in callee else 0)),
            "start": instant_text(start_ms),
            "answer": answer if talk_ms else None,
            "end": end,
            "billable_ms": talk_ms,
            "disposition": "answered" if talk_ms else self.chance.choice(["no_answer", "busy", "cancelled"]),
            "source": "demo",
        }  # fmt: skip
        self.calls.append((start_ms + ring_ms + talk_ms, record | fields))

    def minutes(self, most: int) -> int:
        """Milliseconds that are billed as at most so many minutes, rarely the most."""
        billed = min(1 + int(self.chance.expovariate(0.35)), most)
        return billed * MINUTE_MS - self.chance.randrange(50_000)

    def moment(self, first: str, last: str) -> int:
        """Some instant of office hours between two days."""
        days = (at(last) - at(first)) // DAY_MS
        return at(first) + self.chance.randrange(days) * DAY_MS + 8 * HOUR_MS + self.chance.randrange(10 * HOUR_MS)

    def take(self) -> list[bytes]:
        ordered = sorted(self.calls, key=lambda pair: pair[0])
        self.calls = []
        return [orjson.dumps(record) for _, record in ordered]


# --- accounts --------------------------------------------------------------------------------------------------------


def _command(kind: str, count: int, tenant: str, when: str, **fields: Any) -> bytes:
    common = {"command_id": f"{tenant}-{count}", "tenant": tenant, "type": kind, "at": instant_text(at(when))}
    return orjson.dumps(common | {"by": "demo"} | fields)


def opening_commands() -> list[bytes]:
    """Three companies, their licences, numbers and funds."""
    lines: list[tuple[str, str, dict[str, Any]]] = []

    def opened(tenant: str, country: str, billing_mode: str, **more: Any) -> None:
        lines.append(
            ("tenant.opened", tenant, {"country": country, "currency": "USD", "billing_mode": billing_mode} | more)
        )

    def licensed(tenant: str, user: str, country: str, *plans: str) -> None:
        lines.extend(("licence.assigned", tenant, {"user": user, "plan": plan, "country": country}) for plan in plans)

    opened(CONTOSO, "US", "prepaid")
    for user in ("ana", "ben", "eve"):
        licensed(CONTOSO, user, "US", "MCOPSTN5", "MCOPSTNC")
    licensed(CONTOSO, "eve", "US", "MCOMEETADD")
    licensed(CONTOSO, "cleo", "GB", "MCOPSTN5", "MCOPSTNC")
    lines.append(("number.assigned", CONTOSO, {"number": TOLL_FREE, "number_type": "toll_free", "country": "US"}))
    promotion = {"lot_id": "promotion", "amount_micros": 5_000_000, "expires_at": instant_text(at("11-12"))}
    lines.append(("funds.added", CONTOSO, promotion))
    lines.append(("funds.added", CONTOSO, {"lot_id": "purchase-1", "amount_micros": 20_000_000}))
    lines.append(
        ("recharge.configured", CONTOSO, {"enabled": True, "trigger_micros": 5_000_000, "amount_micros": 15_000_000})
    )
    lines.append(("contacts.set", CONTOSO, {"contacts": [_mail("ana", "en"), _mail("benoit", "fr", *FOR_BENOIT)]}))
    opened(FABRIKAM, "US", "post_usage", overage=True)
    for number in range(1, 21):
        licensed(FABRIKAM, f"fab-{number:02d}", "US", "MCOPSTN1")
    opened(NORTHWIND, "GB", "prepaid")
    for number in range(1, 11):
        licensed(NORTHWIND, f"nor-{number:02d}", "GB", "MCOPSTN2", "MCOPSTNC")
    lines.append(("funds.added", NORTHWIND, {"lot_id": "purchase-1", "amount_micros": 500_000_000}))
    lines.append(
        ("contacts.set", FABRIKAM, {"contacts": [_mail("chloe", "fr", "rater.month.closed", tenant=FABRIKAM)]})
    )
    lines.append(("contacts.set", NORTHWIND, {"contacts": [_mail("nigel", "en", tenant=NORTHWIND)]}))
    return [_command(kind, k, tenant, "11-01", **fields) for k, (kind, tenant, fields) in enumerate(lines, 1)]


def _mail(person: str, language: str, *events: str, tenant: str = CONTOSO) -> dict[str, Any]:
    """A contact; without events it is told of all."""
    contact: dict[str, Any] = {"email": f"{person}@{tenant}.example", "language": language}
    return contact | ({"events": list(events)} if events else {})


def clock_commands() -> list[bytes]:
    """The clock, told as data: two days before the promotion expires."""
    return [_command("clock.ticked", 101, CONTOSO, "11-10")]


def top_up_commands() -> list[bytes]:
    """A top-up by hand, and a new card for the recharges to come."""
    card = {"enabled": True, "trigger_micros": 5_000_000, "amount_micros": 15_000_000}
    return [
        _command("funds.added", 201, CONTOSO, "11-26 07:00", lot_id="top-up-by-hand", amount_micros=40_000_000),
        _command("recharge.configured", 202, CONTOSO, "11-26 07:05", **card),
    ]


def month_end_commands() -> list[bytes]:
    """The clock, told as data: 48 hours after its end, November is closed."""
    return [
        _command("clock.ticked", 300 + k, tenant, "12-03") for k, tenant in enumerate((CONTOSO, FABRIKAM, NORTHWIND))
    ]


# --- calls -----------------------------------------------------------------------------------------------------------


def others(traffic: Traffic, first: str, last: str, count: int) -> None:
    """The two other companies, so that there is something to count."""
    chance = traffic.chance
    for _ in range(count):
        talk_ms = 0 if chance.random() < 0.15 else traffic.minutes(40)
        when = traffic.moment(first, last)
        if chance.random() < 0.6:
            near = chance.choice(NEAR_US) if chance.random() < 0.85 else chance.choice(ABROAD)
            user, caller = f"fab-{chance.randrange(1, 21):02d}", "+14155550150"
            traffic.call(near, when, talk_ms, tenant=FABRIKAM, user=user, caller=caller)
        else:
            near = chance.choice((LONDON, BRITISH_MOBILE)) if chance.random() < 0.7 else chance.choice(ABROAD)
            user, caller = f"nor-{chance.randrange(1, 11):02d}", "+442079460150"
            traffic.call(near, when, talk_ms, tenant=NORTHWIND, user=user, caller=caller)


def domestic(traffic: Traffic, first: str, last: str, total_minutes: int) -> None:
    """Calls of contoso's US users inside North America that are billed as exactly so many minutes."""
    left = total_minutes
    while left:
        talk_ms = traffic.minutes(min(left, 12))
        left -= -(-talk_ms // MINUTE_MS)
        user = traffic.chance.choice(("ana", "ben"))
        callee = traffic.chance.choice((*NEAR_US, TORONTO))
        traffic.call(callee, traffic.moment(first, last), talk_ms, user=user)


def abroad(traffic: Traffic, first: str, last: str, count: int, *callees: str) -> None:
    """Calls of contoso that only credits can pay."""
    for _ in range(count):
        user = traffic.chance.choice(("ana", "ben", "cleo"))
        callee = traffic.chance.choice(callees)
        traffic.call(callee, traffic.moment(first, last), traffic.minutes(20), user=user)


def first_days(traffic: Traffic) -> list[bytes]:
    """1 to 9 November: everyday calls, one of each special kind, and what goes wrong in real life."""
    others(traffic, "11-01", "11-10", 900)
    domestic(traffic, "11-01", "11-10", FIRST_MINUTES)
    abroad(traffic, "11-01", "11-10", 15, *ABROAD)
    for _ in range(20):
        traffic.call(LONDON, traffic.moment("11-01", "11-10"), traffic.minutes(6), user="cleo", caller="+442079460018")
    traffic.call("+911", at("11-02 09:12"), 95_000, record_id=THE_EMERGENCY, call_type="emergency", user="ben")
    traffic.call(TOLL_FREE, at("11-03 10:00"), 372_000, record_id=THE_TOLL_FREE, call_type="ucap_in", user=None,
                 caller="+442079460018")  # fmt: skip
    conference = {"record_id": THE_CONFERENCE, "call_type": "conf_out", "user": "eve", "conference_id": "weekly"}
    traffic.call("+493023125100", at("11-04 15:00"), 1_190_000, **conference)
    traffic.call(NOBODY, at("11-05 11:00"), 61_000, record_id=THE_UNKNOWN)
    traffic.call(NEAR_US[0], at("11-06 16:20"), 0, record_id=THE_TWICE, user="ben")
    lines = traffic.take()
    twice = next(line for line in lines if THE_TWICE.encode() in line)
    lines.insert(
        len(lines) // 2, lines[0].replace(b'"+', b'"00', 1).replace(b'"sw1-', b'"bad-', 1)
    )  # no number of ours
    lines.insert(len(lines) // 3, lines[1].replace(b'"tenant":"', b'"tenant":"un', 1).replace(b'"sw1-', b'"bad-', 1))
    lines.insert(len(lines) // 4, lines[2][:-40])  # a line that a full disk cut off
    return [*lines, twice]


def middle_days(traffic: Traffic) -> list[bytes]:
    """10 to 18 November: the domestic pool passes 80 %, and a promotion runs out."""
    others(traffic, "11-10", "11-19", 900)
    domestic(traffic, "11-10", "11-19", MIDDLE_MINUTES)
    abroad(traffic, "11-10", "11-19", 15, *ABROAD)
    return traffic.take()


def the_split_call(traffic: Traffic) -> list[bytes]:
    """19 November: the pool's last minutes are fewer than the call's."""
    talk_ms = SPLIT_MINUTES * MINUTE_MS - 22_600
    traffic.call("+12125550123", at("11-19 07:30"), talk_ms, record_id=THE_SPLIT)
    return traffic.take()


def overage_days(traffic: Traffic) -> list[bytes]:
    """19 to 22 November: the pool is empty, credits pay everything, and run low."""
    others(traffic, "11-19", "11-23", 400)
    domestic(traffic, "11-19", "11-23", 60)
    abroad(traffic, "11-19", "11-23", 16, BAHAMAS, ANGUILLA)
    return traffic.take()


def declined_days(traffic: Traffic) -> list[bytes]:
    """23 to 25 November: the card is declined, and the balance runs out."""
    others(traffic, "11-23", "11-26", 300)
    abroad(traffic, "11-23", "11-26", 14, BAHAMAS, ANGUILLA)
    traffic.call(BRITISH_PREMIUM, at("11-25 17:40"), 281_000, record_id=THE_PREMIUM, user="ben")
    return traffic.take()


def last_days(traffic: Traffic) -> list[bytes]:
    """26 to 30 November: money again."""
    others(traffic, "11-26", "12-01", 500)
    domestic(traffic, "11-26", "12-01", 30)
    abroad(traffic, "11-26", "12-01", 8, *ABROAD)
    return traffic.take()


def december_days(traffic: Traffic) -> list[bytes]:
    """1 to 3 December: new pools; and a call of November that a switch had kept back."""
    others(traffic, "12-03", "12-04", 100)
    traffic.call("+14155550142", at("12-03 09:00"), 241_000, record_id=THE_FRESH)
    traffic.call("+12125550123", at("11-28 12:00"), 118_000, record_id=THE_LATE, user="ben")
    return [*traffic.take()]
