"""The log as the partition task needs it: places, blocks of records, one writer a transactional id, a member of a group.

Two things speak it: `client` (aiokafka, a real broker) and `memory` (transactions, fencing and the last stable offset in
one process, for simulation). One conformance suite holds both to what is written here. Every await ends: after its
deadline with `LogTimeout`, however dead the broker is.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from rater.doors.failpoints import reached

Stored = tuple[bytes, int, int]  # a body, the count of its records, and its codec: as `Writer.write` takes them


class Place(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


@dataclass(frozen=True, slots=True)
class Block:
    """One committed record batch as it is stored: the records of a v2 batch, decompressed, without the batch's header.

    Control batches and aborted transactions never become a block; their offsets are skipped by `next_offset`.
    """

    first_offset: int  # base offset: a record's own is this plus its delta
    next_offset: int
    count: int  # records in `body`
    body: bytes
    timestamp_ms: int  # base timestamp: a record's own is this plus its delta


class LogProblem(Exception):
    """The log did not do what was asked; the text says what, where and what to do."""


class LogTimeout(LogProblem):
    """A deadline of ours passed; whether the request took effect is not known."""


class Fenced(LogProblem):
    """A newer writer holds this transactional id: whatever this one still does is void."""


class OffsetGone(LogProblem):
    """The offset asked for is not in the log: before its start, or beyond its end."""


class Refused(LogProblem):
    """The broker refuses: authentication, authorization, or a topic that is not there."""


Bodies = Sequence[tuple[Place, Stored]]
Prepare = Callable[[], tuple[Bodies, Mapping[Place, int]]]  # what a transaction writes, and the offsets to read next
InThread = Callable[[Callable[[], Any]], Awaitable[Any]]


class Writer(Protocol):
    """One transactional id. Any failure spoils it: abort if possible, close it, open a new one, never commit.

    `tainted`: a request of a transaction was repeated, or was so slow that it may have been; it may still be under way
    and end a later transaction, so open a new writer (which bumps the epoch) before the next one.
    """

    @property
    def tainted(self) -> bool: ...

    async def begin(self) -> None: ...

    async def write(self, place: Place, body: bytes, count: int, codec: int = 0) -> int:
        """Append `count` records, framed as a v2 batch's records with deltas from 0 and packed by a codec of `compression` (0:
        none), as one batch; returns when the broker has them: the offset of the first. Different places may be written
        concurrently; writes to one place keep their order."""

    async def write_all(self, bodies: Bodies) -> list[int]:
        """As `write`, each of them, in as few requests as can be: the offsets of their first records. No request of it is under
        way any more when this returns or raises."""

    async def write_offsets(self, group: str, offsets: Mapping[Place, int]) -> None:
        """The offsets to read next, as part of the transaction."""

    async def transact(self, prepare: Prepare, group: str, in_thread: InThread) -> list[int]:
        """A whole transaction: `prepare` in a thread (`in_thread`, or one that the writer has), `begin`, `write_all`, `write_offsets`,
        `commit`; the offsets of the first records. What `prepare` raises is raised as it is. After an exception a transaction may
        be open: `abort`."""

    async def commit(self) -> None:
        """After a return the transaction is committed; after an exception it is not known: ask the log, never guess."""

    async def abort(self) -> None: ...

    async def close(self) -> None:
        """Let go of connections; never waits for a dead broker longer than its deadline. Raises nothing."""


async def each_written(writer: Writer, bodies: Bodies) -> list[int]:
    """`Writer.write_all` of a writer that has a request for each."""

    async def written(place: Place, stored: Stored) -> int:
        first = await writer.write(place, *stored)
        reached("mid-produce")
        return first

    ended = await asyncio.gather(*(written(*body) for body in bodies), return_exceptions=True)
    firsts: list[int] = []
    for end in ended:
        if isinstance(end, BaseException):
            raise end
        firsts.append(end)
    return firsts


async def step_by_step(writer: Writer, prepare: Prepare, group: str, in_thread: InThread) -> list[int]:
    """`Writer.transact` of a writer that has no shorter way."""
    bodies, offsets = await in_thread(prepare)
    if writer.tainted:
        raise LogProblem("a request was repeated while a batch was decided; open a new writer")
    await writer.begin()
    reached("after-begin")
    firsts = await writer.write_all(bodies)
    reached("before-offsets")
    await writer.write_offsets(group, offsets)
    reached("after-offsets")
    await writer.commit()
    return firsts


class Reader(Protocol):
    """Reads places from offsets of its own choice, committed records only, outside any group."""

    async def bounds(self, place: Place) -> tuple[int, int]:
        """(log start, last stable offset). Trust them only after the writer of that partition was opened."""

    async def held_back(self, place: Place) -> int:
        """How many offsets lie behind the last stable one: records of transactions that are open, and what follows them."""

    async def first_held(self, place: Place) -> Block | None:
        """The first block behind the last stable offset. It is not committed: only to find out what it belongs to."""

    async def read(self, place: Place, offset: int) -> tuple[Sequence[Block], int]:
        """Some blocks from `offset` on, and where to read next; none and an unmoved offset at the last stable offset.

        The first block may begin before `offset`: skip its first records. Raises `OffsetGone`.
        """

    async def close(self) -> None: ...


Assigned = Callable[[frozenset[int]], Awaitable[None]]
Revoked = Callable[[frozenset[int]], Awaitable[None]]


class Member(Protocol):
    """A member of a consumer group that reads the same partition numbers of several topics.

    `assigned` is called with partition numbers, all of them paused, before any of their records can be fetched; `revoked`
    is awaited before another member can get them. An exception in either ends the process: it surfaces in `fetch`.
    """

    @property
    def settled(self) -> bool:
        """The group has said which partitions are ours, also where it said none."""

    async def committed(self, place: Place) -> int | None:
        """The group's offset, read from the broker now."""

    def seek(self, place: Place, offset: int) -> None: ...

    def resume(self, places: Iterable[Place]) -> None: ...

    def pause(self, places: Iterable[Place]) -> None: ...

    async def fetch(self, places: Sequence[Place], max_bytes: int, timeout_s: float) -> dict[Place, list[Block]]:
        """Blocks of these places, in order, as soon as there are any; empty after `timeout_s`. At most about `max_bytes`
        of them (one block at least). Several tasks may fetch at once, each its own places. Nothing is ever fetched for a
        place that is paused or no longer assigned. Raises `OffsetGone`, and whatever a listener raised."""

    def position(self, place: Place) -> int:
        """The offset that `fetch` will return next."""

    def end(self, place: Place) -> int | None:
        """The last stable offset as last heard, for lag; None when not yet heard."""

    def check(self) -> None:
        """Raises what ended this membership for good, where something did: also when there is nothing to fetch."""

    async def close(self) -> None:
        """Leave the group (a static member does not), having called `revoked`."""


class Log(Protocol):
    """A cluster."""

    async def open_writer(self, transactional_id: str) -> Writer:
        """Returns when no older writer of this id can do anything any more and what it left open is aborted."""

    async def open_reader(self) -> Reader: ...

    async def join(
        self, group: str, topics: Sequence[str], instance_id: str | None, assigned: Assigned, revoked: Revoked
    ) -> Member: ...

    async def partition_counts(self, topics: Sequence[str]) -> dict[str, int]:
        """How many partitions each topic has; topics that are not there are left out."""

    async def group_offsets(self, group: str, places: Sequence[Place]) -> dict[Place, int]:
        """The committed offsets of a group, without joining it; places that have none are left out."""

    async def close(self) -> None: ...
