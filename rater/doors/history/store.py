"""What a history needs of a database: rows and the places they were read up to, written together or not at all.

A feed is a log that is read: the topics of a deployment (kind `kafka`), or the output folder of `rater rate` (kind
`folder`). Of each partition of its topics the history keeps the place to read next in the same transaction as the rows read
before it, and moves it only from where the reader began. So a row cannot be in it twice, and none can be missing, whatever
is killed and however many readers there are: the second finds the place moved, and is refused.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from rater.usage.rows import CALL_COLUMNS, EVENT_COLUMNS, TEXT, Row

SCHEMA_VERSION = 1
RATED, EVENTS = "rated-cdrs", "account-events"
TOPICS = (RATED, EVENTS)
KAFKA, FOLDER = "kafka", "folder"


class HistoryProblem(Exception):
    """The history cannot be used: which, what was found, what to do."""


class Moved(HistoryProblem):
    """Somebody else has read on from where this reader began; nothing of its batch was kept."""


class StoreAway(HistoryProblem):
    """The database does not answer; whether the last transaction was kept is not known: ask for the places again."""


class Partition(NamedTuple):
    """Of a feed: a topic (without prefix) and a partition number; a folder's files are partition 0."""

    topic: str
    number: int


class Position(NamedTuple):
    """The place to read next; of a file also its byte, and a digest of what it followed."""

    place: int
    byte: int = 0
    mark: str = ""


class SetAside(NamedTuple):
    """A line that is no row: kept with its reason, so that nothing disappears."""

    topic: str
    part: int
    place: int
    reason: str
    raw: bytes


@dataclass(slots=True)
class Batch:
    """What one transaction adds. `moves`: partition -> (where the reader began, None for never; where to go on)."""

    feed: int
    moves: dict[Partition, tuple[Position | None, Position]] = field(default_factory=dict)
    calls: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    aside: list[SetAside] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.calls) + len(self.events) + len(self.aside)

    def homes(self) -> list[tuple[str, int, int]]:
        """(tenant, feed, partition) of every row, each once."""
        return sorted({(row[0], row[2], row[3]) for rows in (self.calls, self.events) for row in rows})


Read = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]


class Store(Protocol):
    """One history. Questions are written once, with `?` for values, in the SQL that both databases speak."""

    @property
    def name(self) -> str:
        """How sentences call it; never with a password."""

    def append(self, batch: Batch) -> None:
        """Rows and places in one transaction. Raises `Moved` and then has kept nothing."""

    def feed(self, kind: str, name: str) -> int:
        """The number of a feed, made when it is new. Raises `HistoryProblem` where the history has feeds that do not go with it."""

    def positions(self, feed: int) -> dict[Partition, Position]: ...

    def reading(self) -> AbstractContextManager[Read]:
        """Several questions to one moment of the history."""

    def forget(self, before_ms: int) -> tuple[int, int]:
        """Delete calls that started and events that happened before; (calls, events) deleted. Places stay."""

    def close(self) -> None: ...


def check_feed(store: str, known: Sequence[tuple[str, str]], kind: str, name: str) -> None:
    """Calls that come in two ways would be in the history twice: one deployment, or folders, never both."""
    for other_kind, other_name in known:
        if other_kind != kind or (kind == KAFKA and other_name != name):
            told = f"topics with the prefix '{other_name}'" if other_kind == KAFKA else "folders of rater rate"
            raise HistoryProblem(f"{store}: is fed from {told}; give another feed a history of its own (--history)")


def refuse_version(store: str, found: str) -> None:
    if found != str(SCHEMA_VERSION):
        raise HistoryProblem(f"{store}: a history of version {found}; this rater reads version {SCHEMA_VERSION}")


def moved(store: str, partition: Partition, began: Position | None) -> Moved:
    place = "its start" if began is None else f"place {began.place}"
    return Moved(
        f"{store}: {partition.topic}-{partition.number} was read from {place} on, and somebody else has read on from there; "
        "is another sink or load feeding this history? Nothing was kept twice; let only one of them run"
    )


def schema(whole: str, text: str, blob: str) -> list[str]:
    """The tables, with a database's own names for the three types."""
    types = {TEXT: text}
    calls = ", ".join(f"{name} {types.get(kind, whole)}" for name, kind in CALL_COLUMNS.items())
    events = ", ".join(f"{name} {types.get(kind, whole)}" for name, kind in EVENT_COLUMNS.items())
    return [
        f"create table about (name {text} primary key, value {text})",
        f"create table feeds (feed integer primary key, kind {text}, name {text}, unique (kind, name))",
        f"create table positions (feed integer, topic {text}, part integer, place {whole}, byte {whole}, mark {text}, "
        "primary key (feed, topic, part))",
        f"create table tenants (tenant {text}, feed integer, part integer, primary key (tenant, feed, part))",
        f"create table aside (feed integer, topic {text}, part integer, place {whole}, reason {text}, raw {blob}, "
        "primary key (feed, topic, part, place))",
        f"create table calls ({calls})",
        f"create table events ({events})",
        # Unique: the last wall against a row that is there twice.
        "create unique index calls_of_tenant on calls (tenant, start_ms, feed, part, place)",
        "create unique index events_of_tenant on events (tenant, time_ms, feed, part, place)",
    ]
