"""The intake, the courier and a real outbox file, with a clock and servers that a test moves by hand."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import orjson

from rater.doors.metrics import NotificationMetrics, new_registry
from rater.doors.service.notification_courier import Courier, CourierRules
from rater.doors.service.notification_intake import Intake
from rater.doors.service.notification_outcome import Delivered, Outcome
from rater.doors.service.notification_storm import StormGuard, StormRules
from rater.doors.service.outbox import Entry, Outbox
from rater.notify.contacts import EMAIL, Contact
from rater.notify.events import Event
from rater.notify.kinds import DIGEST

OPERATOR = Contact(EMAIL, "noc@example.com")
ANNE = {"email": "anne@example.com"}


def event(type_of: str, number: int = 1, tenant: str = "contoso", version: int | None = None, **data: object) -> bytes:
    told = {"balance_micros": 0, "currency": "USD", "account_version": number if version is None else version} | data
    return orjson.dumps({
        "specversion": "1.0", "id": f"{tenant}/{type_of}/{number}", "source": "rater", "type": f"rater.{type_of}", "subject": tenant,
        "time": "2026-11-03T13:32:47.250Z", "datacontenttype": "application/json", "data": told,
    })  # fmt: skip


def pool(number: int, tenant: str = "contoso") -> bytes:
    return event(
        "pool.reached", number, tenant, percent=80, pool=f"GB/MCOPSTN1/domestic/2026-11/u-{number}", capacity=10, used=8
    )


class Scene:
    """One process. `outcome`: what the servers do next; `sent`: (address, kind, key, members) in order."""

    def __init__(
        self, folder: Path, rules: StormRules | None = None, expire_ms: int = 2 * 86_400_000, now: int = 10**12
    ) -> None:
        self.now = now
        self.outcome: Callable[[Entry], Outcome] = lambda _entry: Delivered()
        self.sent: list[tuple[str, str, str, int]] = []
        self.tried = 0
        self.given_up: list[tuple[str, str]] = []
        self.kept: list[str] = []
        self.acknowledged: list[int] = []
        self.publishing = True
        self.metrics = NotificationMetrics(new_registry())
        self.outbox = Outbox(folder / "outbox.sqlite3")
        clock = lambda: self.now  # noqa: E731
        self.courier = Courier(self.outbox, StormGuard(rules or StormRules()), CourierRules(expire_ms), self.metrics, clock,
                               self._hand, self._give_up)  # fmt: skip
        self.intake = Intake(self.outbox, self.courier, self.metrics, OPERATOR, clock, self._keep)
        self._next = 0

    async def _hand(self, entry: Entry, members: list[Entry]) -> Outcome:
        self.tried += 1
        outcome = self.outcome(entry)
        if isinstance(outcome, Delivered):
            self.sent.append((entry.address, entry.kind, entry.key, len(members)))
        return outcome

    async def _give_up(self, entry: Entry, reason: str, _detail: str) -> bool:
        if self.publishing:
            self.given_up.append((entry.event_id, reason))
        return self.publishing

    async def _keep(self, event: Event) -> bool:
        self.kept.append(event.id)
        return True

    def contacts(self, *contacts: dict[str, object], tenant: str = "contoso", version: int = 1) -> int:
        return self.take(event("contacts.set", version, tenant, contacts=list(contacts)))

    def take(self, body: bytes, offset: int | None = None) -> int:
        offset = self._next if offset is None else offset
        self._next = max(self._next, offset + 1)
        self.intake.take(0, body, f"account-events 0 {offset}", lambda: self.acknowledged.append(offset))
        return offset

    async def settle(self, seconds: float = 0.0, steps: int = 1) -> None:
        """Time passes in steps; after each, everything that can happen happens."""
        for _ in range(steps):
            self.now += int(1000 * seconds)
            for _ in range(200):
                self.courier.turn()
                before = self.tried, len(self.given_up)
                for _ in range(6):
                    await asyncio.sleep(0)
                if before == (self.tried, len(self.given_up)):
                    break

    def kinds(self) -> list[str]:
        return [kind for _, kind, _, _ in self.sent]

    def digests(self) -> list[int]:
        return [members for _, kind, _, members in self.sent if kind == DIGEST]

    def close(self) -> None:
        self.outbox.close()
