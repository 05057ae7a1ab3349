"""What the HTTP door asks a history, and how it is refused: the door that keeps the history answers, the front door introduces them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


class NotAnswered(Exception):
    """No answer; the text is a sentence for whoever asked, without a name of a machine or a file in it."""


class NoSuchTenant(NotAnswered):
    """Nothing is known of this tenant."""


class BadQuestion(NotAnswered):
    """The question is wrong: what was found, what was expected."""


class Away(NotAnswered):
    """What would answer cannot be reached now; the same question may be asked again."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which calls. `month` (2026-11), or `begin` and `end` (days or instants in UTC, the end not included)."""

    user: str | None = None
    call_types: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    month: str | None = None
    begin: str | None = None
    end: str | None = None


Answer = dict[str, Any]


class History(Protocol):
    """Questions to the history, each of one moment; answers as `rater history ... --json` prints them. All raise `NotAnswered`.

    Every answer has `reflects`: a list of feed, topic, partition and the offset before which everything is in the answer.
    """

    def usage(self, tenant: str, wanted: Wanted, after: str | None, limit: int) -> Answer: ...

    def after_pool(self, tenant: str, wanted: Wanted) -> Answer: ...

    def recharges(self, tenant: str) -> Answer: ...

    def events(self, tenant: str, types: Sequence[str], after: str | None, limit: int) -> Answer: ...

    def daily(self, tenant: str, wanted: Wanted) -> Answer: ...

    def export(self, tenant: str, wanted: Wanted, path: Path, form: str, columns: str, mask: str | None) -> Answer: ...

    def latest_event(self, tenant: str, kind: str) -> Answer | None:
        """The newest event of a type (rater.contacts.set), None where there is none."""
