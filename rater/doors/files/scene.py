"""What an explanation is told from: the rules, the books, the call, the engine's answer, and the books before it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from rater.contract.events import json_name
from rater.core.calls import CALL_TYPES, WAYS
from rater.core.instants import month_of, parse_instant
from rater.core.numbering import country_of, country_text
from rater.core.plans import MCOMEETACPEA, MCOMEETADD
from rater.core.reasons import InvariantBroken
from rater.core.state import State
from rater.core.words import as_buffer
from rater.doors.rules import RuleBook


@dataclass(frozen=True, slots=True)
class Scene:
    """The rules, the books after the call, the call itself, and the row the engine answered with."""

    book: RuleBook
    state: State
    account: int
    call: dict[str, Any]
    answer: Any

    @property
    def start_ms(self) -> int:
        return instant_ms(self.call["start"])

    @property
    def month(self) -> int:
        return int(month_of(self.start_ms))

    @property
    def digits(self) -> str:
        return str(self.call["callee"])[1:]

    @property
    def way(self) -> int:
        return int(WAYS[CALL_TYPES.index(self.call["call_type"])])

    @property
    def destination(self) -> int:
        return int(self.answer.destination)

    def rows(self, shelf: str) -> Any:
        return self.state.rows(shelf)

    def user_row(self) -> int:
        """The row of the call's user, or -1 for one who never held a licence."""
        users = self.rows("users")
        owned = (int(place) for place in np.flatnonzero(users.account == self.account))
        return next((place for place in owned if json_name(users[place]) == self.call.get("user")), -1)

    def user(self) -> Any:
        row = self.user_row()
        return None if row < 0 else self.rows("users")[row]

    def holds(self, plan: int) -> bool:
        user = self.user()
        return user is not None and bool(int(user.held) >> plan & 1)

    def organiser_pays_by_the_minute(self) -> bool:
        return self.holds(MCOMEETACPEA) and not self.holds(MCOMEETADD)

    def country_by_table(self, digits: str) -> int:
        numbering = self.book.rules.numbering
        return int(country_of(numbering.nodes, numbering.country, as_buffer(digits.encode()), 0, len(digits)))


@dataclass(frozen=True, slots=True)
class Facts:
    """The account before and after the call, the rated call, and what was announced."""

    before: dict[str, Any]
    after: dict[str, Any]
    rated: dict[str, Any]
    events: list[dict[str, Any]]

    @property
    def currency(self) -> str:
        return str(self.rated["currency"])


def instant_ms(text: str) -> int:
    found = parse_instant(text)
    if found is None:
        raise InvariantBroken(f"explain: the engine accepted an instant that cannot be read: {text}")
    return found


def country_name(code: int) -> str:
    return country_text(code) or "an unknown country"
