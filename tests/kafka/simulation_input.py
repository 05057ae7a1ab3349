"""What simulated producers send: slices of the streams that the twin is compared with, duplicated, misplaced and shuffled.

The rules are the same for every seed, so they are loaded once a process; streams are made once and cut differently.
"""

import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import orjson

from rater.core import numbering_table
from rater.doors.decks import load_deck
from rater.doors.kafka.names import CDRS, COMMANDS
from rater.doors.kafka.rule_sets import DeckMissing
from rater.doors.rules import RuleBook, make_rule_book
from tests.kafka.checker_model import RuleBook as TwinRules
from tests.kafka.checker_model import home_of, load_rule_book
from tests.streams import Scenario, stream
from tests.twin import read_numbering

STREAMS = (1, 4, 9, 10)
OTHER_RULES = 1004
LONGEST = 3_000  # bytes; longer records are the engine's own tests' affair


@dataclass(frozen=True, slots=True)
class Rulings:
    """Two sets of rules, as the engine and as the checker have them."""

    books: tuple[RuleBook, RuleBook]
    twin: TwinRules


@cache
def rulings() -> Rulings:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        books, folders, plans = [], [], []
        for number in (STREAMS[0], OTHER_RULES):
            scenario = stream(number)
            folders.append(_write(folder / str(number), scenario))
            plans.append(folder / f"{number}.csv")
            plans[-1].write_text(scenario.plans)
            books.append(make_rule_book([load_deck(folders[-1])], scenario.plans, "plans"))
        numbering = read_numbering(Path(str(numbering_table.__file__)))
        return Rulings((books[0], books[1]), load_rule_book(folders, plans, *numbering))


def _write(folder: Path, scenario: Scenario) -> Path:
    folder.mkdir()
    for name, text in scenario.deck_files.items():
        (folder / name).write_text(text)
    return folder


class SimulatedRules:
    """The `Rules` of one process, in memory: it knows the first set, and the second from `since` on."""

    def __init__(self, since: float, now: Callable[[], float]) -> None:
        self._since, self._now = since, now

    @property
    def current(self) -> RuleBook:
        return rulings().books[0]

    def find(self, decks: Sequence[str], plans: str) -> RuleBook:
        for book in rulings().books:
            if [deck.version for deck in book.decks] == sorted(decks) and book.plans_version == plans:
                if book is not self.current and self._now() < self._since:
                    break
                return book
        raise DeckMissing(f"the log activated {decks} with plans {plans}, which are not here yet")

    def keep(self, book: RuleBook) -> None:
        """In memory for good."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A record on its way to an input topic."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes


@dataclass(frozen=True, slots=True)
class _Raw:
    topic: str
    tenant: bytes | None
    value: bytes
    opens: bool


@cache
def _material(number: int) -> tuple[_Raw, ...]:
    found = []
    for part in stream(number).rounds:
        for topic, raws in ((COMMANDS, part.commands), (CDRS, part.calls)):
            found += [_raw(topic, value) for value in raws if len(value) <= LONGEST]
    return tuple(found)


def _raw(topic: str, value: bytes) -> _Raw:
    try:
        row = orjson.loads(value)
        tenant = row["tenant"]
        known = tenant.encode() if isinstance(tenant, str) else None
        return _Raw(topic, known, value, row.get("type") == "tenant.opened")
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, UnicodeEncodeError):
        return _Raw(topic, None, value, False)


def activation(number: int, book: RuleBook) -> bytes:
    return orjson.dumps({"command_id": f"rules-{number}", "type": "deck.activated", "at": "2026-01-01T00:00:00Z", "by": "ops",
                         "decks": [deck.version for deck in book.decks], "plans": book.plans_version})  # fmt: skip


def inputs(rng: random.Random, partitions: int, count: int) -> list[Sent]:
    """About `count` records in the order in which they are sent."""
    material = _material(rng.choice(STREAMS))
    openings = [raw for raw in material[:120] if raw.opens]
    chosen = sorted(rng.sample(range(len(material)), min(count, len(material))))
    raws = [*openings, *(material[at] for at in chosen)]
    for _ in range(rng.randint(0, 4)):  # late ones
        raws.insert(rng.randrange(len(raws)), raws.pop(rng.randrange(len(raws))))
    sent = [_sent(rng, raw, partitions) for raw in raws]
    for _ in range(rng.randint(0, count // 8)):  # sent twice, far apart
        again = rng.choice(sent)
        sent.insert(rng.randrange(len(sent)), again)
    for number in range(rng.choice([0, 0, 1, 3])):
        book = rulings().books[(number + 1) % 2]
        for partition in rng.sample(range(partitions), rng.randint(1, partitions)):
            sent.insert(rng.randrange(len(sent)), Sent(COMMANDS, partition, None, activation(number, book)))
    return sent


def _sent(rng: random.Random, raw: _Raw, partitions: int) -> Sent:
    key, chance = raw.tenant, rng.random()
    partition = home_of(key or b"?", partitions)
    if chance < 0.06:
        partition = rng.randrange(partitions)  # another partitioner's
    elif chance < 0.15:
        key = None
    elif chance < 0.17:
        key = b"somebody-else"
    return Sent(raw.topic, partition, key, raw.value)
