"""The storm guard: past so many mails to one recipient in a window, the rest is held and becomes one digest.

A group is one scope (a tenant, or the operator) and one address: nothing of a tenant stands in another's digest. Webhooks are
for programs and are never held.
"""

from dataclasses import dataclass, field

from rater.doors.service.outbox import Entry
from rater.notify.contacts import EMAIL
from rater.notify.kinds import DIGEST

Group = tuple[str, str, str]  # scope, address, language


@dataclass(frozen=True, slots=True)
class StormRules:
    """`messages` mails in `window_ms` go out one by one; a digest is made `wait_ms` after the first that was held."""

    messages: int = 10
    window_ms: int = 600_000
    wait_ms: int = 120_000


@dataclass(slots=True)
class Held:
    due_ms: int
    keys: list[str] = field(default_factory=list)


class StormGuard:
    """What is held. What went out is counted by the outbox; what is under way, here."""

    def __init__(self, rules: StormRules) -> None:
        self.rules = rules
        self._held: dict[Group, Held] = {}
        self._under_way: dict[Group, set[str]] = {}

    @staticmethod
    def concerns(entry: Entry) -> bool:
        return entry.channel == EMAIL and entry.kind != DIGEST

    @staticmethod
    def group(entry: Entry) -> Group:
        return entry.scope, entry.address, entry.language

    def must_hold(self, entry: Entry, delivered: int) -> bool:
        """`delivered`: mails this recipient got within the window. Once something is held, what follows joins it."""
        group = self.group(entry)
        return group in self._held or delivered + len(self._under_way.get(group, ())) >= self.rules.messages

    def hold(self, entry: Entry, now_ms: int) -> None:
        held = self._held.setdefault(self.group(entry), Held(now_ms + self.rules.wait_ms))
        held.keys.append(entry.key)

    def begin(self, entry: Entry) -> None:
        """It goes out one by one, and counts until `end` as if it had."""
        if self.concerns(entry):
            self._under_way.setdefault(self.group(entry), set()).add(entry.key)

    def end(self, entry: Entry) -> None:
        """What the outbox knows of it counts from here on."""
        group = self.group(entry)
        keys = self._under_way.get(group, set())
        keys.discard(entry.key)
        if not keys:
            self._under_way.pop(group, None)

    def due(self, now_ms: int) -> list[list[str]]:
        """The groups whose waiting is over, each the keys of one digest."""
        ready = [group for group, held in self._held.items() if held.due_ms <= now_ms]
        return [self._held.pop(group).keys for group in ready]

    def wakes_ms(self) -> int | None:
        return min((held.due_ms for held in self._held.values()), default=None)

    def held_count(self) -> int:
        return sum(len(held.keys) for held in self._held.values())

    def forget(self) -> None:
        self._held.clear()
        self._under_way.clear()
