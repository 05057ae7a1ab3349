"""The deck sets a worker can rate with: what `RATER_RATES` holds now, and every set it has ever rated with.

The log names decks by content hash. A worker keeps the canonical text of each deck and of the plans it has used under its
state folder, so that it goes on with the set in force after the folder of rates has changed, until the log activates the new one.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from rater.core.plans import PlansRefused
from rater.doors.decks.findings import BadFile, DeckRefused
from rater.doors.kafka.log import LogProblem
from rater.doors.rules import RuleBook, kept_rule_book, load_rule_book


class DeckMissing(LogProblem):
    """The log asks for a deck or plans that this worker does not have."""


Key = tuple[tuple[str, ...], str]  # versions of the decks, sorted, and of the plans


def _key(book: RuleBook) -> Key:
    return tuple(sorted(deck.version for deck in book.decks)), book.plans_version


class RuleSets:
    """Finds rule books by what the log calls them."""

    def __init__(self, rates: Path, plans: Path | None, kept: Path, say: Callable[[str], None]) -> None:
        self._rates, self._plans, self._kept, self._say = rates, plans, kept, say
        self.current = load_rule_book(rates, plans)
        self._known: dict[Key, RuleBook] = {}
        self._remember(self.current)

    def find(self, decks: Sequence[str], plans: str) -> RuleBook:
        """The book of these versions. `RATER_RATES` is read again before `DeckMissing` is raised."""
        key = (tuple(sorted(decks)), plans)
        if key not in self._known:
            self._find(key)
        return self._known[key]

    def _find(self, key: Key) -> None:
        try:
            self.current = load_rule_book(self._rates, self._plans)
        except (DeckRefused, BadFile, PlansRefused, OSError, UnicodeDecodeError) as refused:
            self._say(f"{self._rates} is passed over: {refused}")
        self._remember(self.current)
        if key in self._known:
            return
        decks = [self._text("deck", version) for version in key[0]]
        plans = self._text("plans", key[1])
        try:
            book = kept_rule_book(decks, plans.decode())
        except (ValueError, KeyError, TypeError, PlansRefused, DeckRefused) as problem:
            raise DeckMissing(
                f"{self._kept}: texts kept as {' '.join(key[0])} and {key[1]} cannot be read any more ({problem}); delete them and "
                f"put the decks into {self._rates}"
            ) from None
        if _key(book) != key:
            raise DeckMissing(f"{self._kept}: texts kept as {key} turn out to be {_key(book)}: changed; delete them")
        self._known[key] = book

    def _text(self, kind: str, version: str) -> bytes:
        here = {("deck", deck.version): deck.canonical for deck in self.current.decks}
        here["plans", self.current.plans_version] = self.current.plans_text.encode()
        if (kind, version) in here:
            return here[kind, version]
        try:
            return (self._kept / f"{version}.{kind}").read_bytes()
        except FileNotFoundError:
            found = " ".join(sorted(found for k, found in here if k == kind))
            raise DeckMissing(
                f"the log activated {kind} {version}, which is neither in {self._rates} (there: {found}) nor kept in "
                f"{self._kept}; put it there, this partition goes on by itself"
            ) from None

    def _remember(self, book: RuleBook) -> None:
        self._known[_key(book)] = book

    def keep(self, book: RuleBook) -> None:
        """Make sure that these rules are still at hand when the folder of rates has moved on."""
        self._kept.mkdir(parents=True, exist_ok=True)
        texts = {f"{deck.version}.deck": deck.canonical for deck in book.decks}
        texts[f"{book.plans_version}.plans"] = book.plans_text.encode()
        for name, text in texts.items():
            path = self._kept / name
            if path.exists():
                continue
            beside = path.with_name(f"{name}.{os.getpid()}.part")
            beside.write_bytes(text)
            beside.replace(path)
