"""Invented calls that end now, for `rater traffic`: the demo's three companies, for as long as somebody looks.

What was opened once is opened again with the same ids and the same instants, so a second start changes nothing. A call that a
switch would have written down in this second is handed over in this second.
"""

import random
from collections.abc import Iterator

import orjson

from rater.core.instants import MINUTE_MS, instant_text
from rater.doors.files.demo_traffic import (
    ABROAD,
    ANGUILLA,
    BAHAMAS,
    BRITISH_MOBILE,
    CONTOSO,
    FABRIKAM,
    LONDON,
    NEAR_US,
    NORTHWIND,
    Traffic,
    opening_commands,
)

TENANTS = (CONTOSO, FABRIKAM, NORTHWIND)
# The demo opens its accounts at a day of its story; here they are open before any call, and their lots outlive the show.
OPENED_AT, LOTS_EXPIRE_AT = "2020-01-01T00:00:00Z", "2100-01-01T00:00:00Z"
CALL, COMMAND, RAW = "call", "command", "raw"

RINGS_MS = 14_000  # at most, before somebody answers: no call ends after now

# What goes wrong in real life, one in so many: rare enough for the alert at 1 % to stay quiet.
BROKEN_ONE_IN, TWICE_ONE_IN, NO_RATE_ONE_IN, NOT_ANSWERED_ONE_IN = 400, 100, 500, 8


def opening() -> Iterator[tuple[str, str, bytes]]:
    """(kind, tenant, bytes): the accounts, their funds and recharges, and who is told."""
    for line in opening_commands():
        command = orjson.loads(line) | {"at": OPENED_AT}
        command["command_id"] = f"traffic-{command['command_id']}"
        if command["type"] == "funds.added":
            command["expires_at"] = LOTS_EXPIRE_AT
        yield COMMAND, command["tenant"], orjson.dumps(command)
    for tenant, language in zip(TENANTS, ("en", "fr", "en"), strict=True):
        contact = {"email": f"finance@{tenant}.example", "language": language, "roles": ["finance"]}
        command = {"command_id": f"traffic-{tenant}-contacts", "tenant": tenant, "type": "contacts.set", "at": OPENED_AT,
                   "by": "traffic", "contacts": [contact]}  # fmt: skip
        yield COMMAND, tenant, orjson.dumps(command)


def ticks(now_ms: int) -> Iterator[tuple[str, str, bytes]]:
    """The clock, told as data, to each company: once a minute is plenty."""
    for tenant in TENANTS:
        command = {"command_id": f"traffic-tick-{now_ms // MINUTE_MS}", "tenant": tenant, "type": "clock.ticked",
                   "at": instant_text(now_ms // MINUTE_MS * MINUTE_MS), "by": "traffic"}  # fmt: skip
        yield COMMAND, tenant, orjson.dumps(command)


class LiveTraffic:
    """Calls without end. The instant a run began names it in every record id, so that no two runs have one in common."""

    def __init__(self, began_ms: int) -> None:
        self._chance = random.Random(began_ms)
        self._run = str(began_ms)
        self._made = 0

    def opening(self) -> Iterator[tuple[str, str, bytes]]:
        return opening()

    def ticks(self, now_ms: int) -> Iterator[tuple[str, str, bytes]]:
        return ticks(now_ms)

    def ended(self, now_ms: int, count: int, raw: bool) -> Iterator[tuple[str, str, bytes]]:
        """(kind, key, bytes) of `count` calls that end now; with `raw` some as the records of a Kamailio."""
        for _ in range(count):
            self._made += 1
            if raw and self._made % 5 == 0:
                yield from self._of_kamailio(now_ms)
            else:
                yield from self._of_our_own(now_ms)

    def _of_our_own(self, now_ms: int) -> Iterator[tuple[str, str, bytes]]:
        tenant, user, caller, callee = self._parties()
        traffic = Traffic(self._chance)
        talk_ms = 0 if self._one_in(NOT_ANSWERED_ONE_IN) else traffic.minutes(15)
        fields = {"record_id": f"live-{self._run}-{self._made}", "source": "traffic"}
        traffic.call(callee, now_ms - talk_ms - RINGS_MS, talk_ms, tenant=tenant, user=user, caller=caller, **fields)
        (line,) = traffic.take()
        if self._one_in(BROKEN_ONE_IN):
            line = line[:-40]  # a line that a full disk cut off
        yield CALL, tenant, line
        if self._one_in(TWICE_ONE_IN):
            yield CALL, tenant, line

    def _of_kamailio(self, now_ms: int) -> Iterator[tuple[str, str, bytes]]:
        """INVITE and BYE of one call of contoso's London office, as ops/mediation/edge1.toml reads them; the key is the call."""
        call_id = f"{self._run}-{self._made}@edge1.example"
        talk_s = self._chance.randrange(5, 400)
        callee = f"004930231251{self._chance.randrange(10, 100)}"
        parties = {"account": "acme", "user": "cleo", "src_user": "+442079460018", "dst_user": callee}
        tags = {"INVITE": ("a", "b"), "BYE": ("b", "a")}
        for method, at_s in (("INVITE", now_ms // 1000 - talk_s), ("BYE", now_ms // 1000)):
            record = {"method": method, "from_tag": tags[method][0], "to_tag": tags[method][1], "callid": call_id,
                      "sip_code": "200", "sip_reason": "OK", "time": str(at_s)}  # fmt: skip
            yield RAW, call_id, orjson.dumps(record | parties)

    def _parties(self) -> tuple[str, str, str, str]:
        """Tenant, user, caller, callee: mostly near, sometimes abroad, rarely where nobody has a price."""
        chance = self._chance
        share = chance.random()
        if self._one_in(NO_RATE_ONE_IN):
            return FABRIKAM, "fab-01", "+14155550150", "+9991234567"
        if share < 0.45:
            near = chance.choice(NEAR_US if chance.random() < 0.8 else ABROAD)
            return FABRIKAM, f"fab-{chance.randrange(1, 21):02d}", "+14155550150", near
        if share < 0.8:
            near = chance.choice((LONDON, BRITISH_MOBILE) if chance.random() < 0.7 else ABROAD)
            return NORTHWIND, f"nor-{chance.randrange(1, 11):02d}", "+442079460150", near
        user = chance.choice(("ana", "ben", "eve"))
        return CONTOSO, user, "+12125550100", chance.choice((*NEAR_US, *NEAR_US, *ABROAD, BAHAMAS, ANGUILLA))

    def _one_in(self, many: int) -> bool:
        return self._chance.randrange(many) == 0
