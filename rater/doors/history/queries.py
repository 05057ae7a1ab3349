"""What a tenant may ask of a history. Every answer says up to which place of which partition it has read.

All are plain functions of a store; a page goes on where the last one ended (`next`), by the place of its last row and not by
a count, so calls that arrive in between neither repeat nor hide a row. Windows are half-open: from <= start < to.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rater.core.instants import DAY_MS, day_text
from rater.doors.history.store import HistoryProblem, Read, Store
from rater.usage.after_pool import AfterPool, PoolEnd, after_pool
from rater.usage.recharges import RECHARGE_EVENTS, Recharge, recharges
from rater.usage.rows import CALL_COLUMNS, EVENT_COLUMNS, Told, Usage

PAGE_MAX = 10_000
CHUNK = 10_000
CALLS = ", ".join(CALL_COLUMNS)
TOLD = ", ".join(EVENT_COLUMNS)
POOL_REACHED = "rater.pool.reached"


class UnknownTenant(HistoryProblem):
    """The history has no line of this tenant."""


@dataclass(frozen=True, slots=True)
class Reflected:
    """Everything before this place of a partition is in the answer."""

    feed: str
    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Filter:
    """Which calls: of whom, of which types, paid by which capabilities, with which outcomes, started when (UTC ms)."""

    user: str | None = None
    call_types: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    from_ms: int | None = None
    to_ms: int | None = None


@dataclass(frozen=True, slots=True)
class UsagePage:
    usages: list[Usage]
    next: str | None  # give it as `after` for the page behind; None at the end
    reflects: list[Reflected]


@dataclass(frozen=True, slots=True)
class EventPage:
    events: list[Told]
    next: str | None
    reflects: list[Reflected]


@dataclass(frozen=True, slots=True)
class AfterPoolAnswer:
    calls: list[AfterPool]
    reflects: list[Reflected]

    @property
    def charge_micros(self) -> int:
        return sum(call.usage.charge_micros for call in self.calls)


@dataclass(frozen=True, slots=True)
class RechargeAnswer:
    recharges: list[Recharge]
    reflects: list[Reflected]


@dataclass(frozen=True, slots=True)
class Day:
    """One UTC day of a tenant, by the start of its calls."""

    day: str
    currency: str
    calls: int
    connected: int
    charge_micros: int
    invoice_calls: int
    billed_minutes: int
    pool_minutes: int
    credit_minutes: int


@dataclass(frozen=True, slots=True)
class DailyAnswer:
    days: list[Day]
    reflects: list[Reflected]


def usage(store: Store, tenant: str, wanted: Filter, after: str | None = None, limit: int = 200) -> UsagePage:
    """Calls of a tenant in the order of their start. Raises `UnknownTenant`, and `HistoryProblem` for a bad `after`."""
    began = None if after is None else cursor(after)
    limit = min(max(limit, 1), PAGE_MAX)
    with store.reading() as read:
        reflects = reflected(read, tenant)
        rows, following = _cut(_page(read, tenant, wanted, began, limit + 1), limit)
    return UsagePage([Usage(*row) for row in rows], following, reflects)


def usage_chunks(read: Read, tenant: str, wanted: Filter) -> Iterator[list[Usage]]:
    """All of them, a fetch at a time, within one reading: an export is of one moment."""
    began = None
    while True:
        rows = _page(read, tenant, wanted, began, CHUNK)
        if rows:
            yield [Usage(*row) for row in rows]
        if len(rows) < CHUNK:
            return
        began = rows[-1][1:5]


def events(
    store: Store, tenant: str, types: Sequence[str] = (), after: str | None = None, limit: int = 200
) -> EventPage:
    """Account events of a tenant in the order of their time."""
    began = None if after is None else cursor(after)
    limit = min(max(limit, 1), PAGE_MAX)
    with store.reading() as read:
        reflects = reflected(read, tenant)
        where, values = _where([("tenant = ?", tenant)], [("type", types)])
        if began is not None:
            where, values = f"{where} and (time_ms, feed, part, place) > (?, ?, ?, ?)", [*values, *began]
        rows, following = _cut(
            read(
                f"select {TOLD} from events where {where} order by time_ms, feed, part, place limit ?",
                [*values, limit + 1],
            ),
            limit,
        )
    return EventPage([Told(*row) for row in rows], following, reflects)


def recharge_history(store: Store, tenant: str) -> RechargeAnswer:
    """Every recharge that was asked for, and how it ended."""
    with store.reading() as read:
        reflects = reflected(read, tenant)
        return RechargeAnswer(recharges(recharge_rows(read, tenant)), reflects)


def paid_after_pool(store: Store, tenant: str, from_ms: int | None = None, to_ms: int | None = None) -> AfterPoolAnswer:
    """Calls that credits paid because a pool had ended, in the order they were rated in."""
    with store.reading() as read:
        reflects = reflected(read, tenant)
        ends = [
            PoolEnd(data["pool"], data["account_version"])
            for data in (told.data() for told in _told(read, tenant, (POOL_REACHED,)))
            if data["percent"] == 100
        ]
        # All there are, also from before the window: who drew on which pool is what tells the plan of a user.
        rows = read(
            f"select {CALLS} from calls where tenant = ? and (pool is not null or credit_minutes > 0) "
            "order by feed, part, place",
            (tenant,),
        )
    found = [call for call in after_pool((Usage(*row) for row in rows), ends) if _within(call.usage, from_ms, to_ms)]
    return AfterPoolAnswer(found, reflects)


def daily(store: Store, tenant: str, from_ms: int | None = None, to_ms: int | None = None) -> DailyAnswer:
    """What each day of a tenant came to; days without a call are left out."""
    where, values = _where(_window(tenant, Filter(from_ms=from_ms, to_ms=to_ms)), [])
    with store.reading() as read:
        reflects = reflected(read, tenant)
        rows = read(
            f"select start_ms / {DAY_MS}, currency, count(*), sum(case when outcome <> 'not_connected' then 1 else 0 end), "
            "sum(charge_micros), sum(case when outcome = 'invoiced' then 1 else 0 end), sum(billed_minutes), "
            f"sum(pool_minutes), sum(credit_minutes) from calls where {where} group by 1, 2 order by 1, 2",
            values,
        )
    days = [Day(day_text(int(day) * DAY_MS), currency, *map(int, sums)) for day, currency, *sums in rows]
    return DailyAnswer(days, reflects)


# ---------------------------------------------------------------------------------------------- parts of questions


def reflected(read: Read, tenant: str) -> list[Reflected]:
    """Where the tenant's partitions stand, within the same reading. Raises `UnknownTenant`."""
    rows = read(
        "select f.kind, f.name, p.topic, p.part, p.place from tenants t join positions p on p.feed = t.feed and p.part = t.part "
        "join feeds f on f.feed = t.feed where t.tenant = ? and p.topic <> 'rater-journal' order by 1, 2, 3, 4",
        (tenant,),
    )
    if not rows:
        raise UnknownTenant(f"the history has no call and no event of tenant '{tenant}'")
    return [Reflected(f"{kind}:{name}", topic, part, place) for kind, name, topic, part, place in rows]


def cursor(text: str) -> tuple[int, ...]:
    """The place that `next` names."""
    parts = text.split(".")
    if len(parts) != 4 or not all(part.removeprefix("-").isdecimal() and part.isascii() for part in parts):
        raise HistoryProblem(f"after is '{text[:60]}'; expected what the answer before gave as next")
    return tuple(map(int, parts))


def _cut(rows: list[tuple[Any, ...]], limit: int) -> tuple[list[tuple[Any, ...]], str | None]:
    """A page, and its `next` where one row more than it holds was found."""
    if len(rows) <= limit:
        return rows, None
    return rows[:limit], ".".join(map(str, rows[limit - 1][1:5]))


def _page(read: Read, tenant: str, wanted: Filter, began: Sequence[int] | None, limit: int) -> list[tuple[Any, ...]]:
    where, values = _where(
        _window(tenant, wanted),
        [("call_type", wanted.call_types), ("capability", wanted.capabilities), ("outcome", wanted.outcomes)],
    )
    if began is not None:
        where, values = f"{where} and (start_ms, feed, part, place) > (?, ?, ?, ?)", [*values, *began]
    return read(
        f"select {CALLS} from calls where {where} order by start_ms, feed, part, place limit ?", [*values, limit]
    )


def _window(tenant: str, wanted: Filter) -> list[tuple[str, Any]]:
    return [
        ("tenant = ?", tenant),
        ("user_id = ?", wanted.user),
        ("start_ms >= ?", wanted.from_ms),
        ("start_ms < ?", wanted.to_ms),
    ]


def _where(conditions: Sequence[tuple[str, Any]], lists: Sequence[tuple[str, Sequence[str]]]) -> tuple[str, list[Any]]:
    """SQL and its values; conditions without a value are left out, and so are empty lists."""
    given = [(sql, value) for sql, value in conditions if value is not None]
    parts, values = [sql for sql, _ in given], [value for _, value in given]
    for column, words in lists:
        if words:
            parts.append(f"{column} in ({', '.join('?' * len(words))})")
            values += words
    return " and ".join(parts), values


def _told(read: Read, tenant: str, types: Sequence[str]) -> list[Told]:
    where, values = _where([("tenant = ?", tenant)], [("type", types)])
    return [Told(*row) for row in read(f"select {TOLD} from events where {where} order by feed, part, place", values)]


def recharge_rows(read: Read, tenant: str) -> list[Told]:
    """The events of recharges, in the order of the log."""
    return _told(read, tenant, RECHARGE_EVENTS)


def _within(found: Usage, from_ms: int | None, to_ms: int | None) -> bool:
    return (from_ms is None or found.start_ms >= from_ms) and (to_ms is None or found.start_ms < to_ms)
