"""A history as another door asks it: `rater.doors.questions.History`, with refusals that name no file and no machine."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import orjson

from rater.doors.history import asking, objects, queries
from rater.doors.history.exports import export
from rater.doors.history.queries import Filter
from rater.doors.history.store import HistoryProblem, Store
from rater.doors.questions import Answer, Away, BadQuestion, NoSuchTenant, Wanted
from rater.usage.cells import MASKED

log = logging.getLogger("rater.history")


@contextmanager
def _asked() -> Iterator[None]:
    """A wrong question is told as it is; what is wrong with the database is for the log."""
    try:
        yield
    except HistoryProblem as problem:
        log.error("the history does not answer: %s", problem, extra={"event": "history", "reason": "history"})
        raise Away("the history does not answer now; ask again in a moment") from None


@contextmanager
def _questioned() -> Iterator[None]:
    try:
        yield
    except HistoryProblem as problem:
        raise BadQuestion(str(problem).replace("--", "")) from None


class HistoryAnswers:
    """Every question opens a reading of its own: threads may ask side by side."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def usage(self, tenant: str, wanted: Wanted, after: str | None, limit: int) -> Answer:
        chosen = _filter(wanted)
        _check_cursor(after)
        with _asked(), _known():
            return objects.usage_page(queries.usage(self._store, tenant, chosen, after, limit))

    def after_pool(self, tenant: str, wanted: Wanted) -> Answer:
        chosen = _filter(wanted)
        with _asked(), _known():
            answer = queries.paid_after_pool(self._store, tenant, chosen.from_ms, chosen.to_ms)
        return objects.after_pool_object(answer)

    def recharges(self, tenant: str) -> Answer:
        with _asked(), _known():
            return objects.recharges_object(queries.recharge_history(self._store, tenant))

    def events(self, tenant: str, types: Sequence[str], after: str | None, limit: int) -> Answer:
        _check_cursor(after)
        with _asked(), _known():
            return objects.event_page(queries.events(self._store, tenant, types, after, limit))

    def daily(self, tenant: str, wanted: Wanted) -> Answer:
        chosen = _filter(wanted)
        with _asked(), _known():
            return objects.daily_object(queries.daily(self._store, tenant, chosen.from_ms, chosen.to_ms))

    def export(self, tenant: str, wanted: Wanted, path: Path, form: str, columns: str, mask: str | None) -> Answer:
        chosen = _filter(wanted)
        if mask is not None and mask not in MASKED:
            raise BadQuestion(f"mask is '{mask[:10]}'; expected one of {' '.join(sorted(MASKED))}")
        with _asked(), _known():
            made = export(self._store, tenant, chosen, path, form, columns, 0 if mask is None else MASKED[mask])
        return objects.exported_object(made)

    def latest_event(self, tenant: str, kind: str) -> Answer | None:
        with _asked(), self._store.reading() as read:
            rows = read(
                "select body from events where tenant = ? and type = ? order by feed desc, part desc, place desc limit 1",
                (tenant, kind),
            )
        return orjson.loads(rows[0][0]) if rows else None


def _filter(wanted: Wanted) -> Filter:
    with _questioned():
        return asking.filter_of(
            wanted.user, wanted.call_types, wanted.capabilities, wanted.outcomes, wanted.month, wanted.begin, wanted.end
        )


def _check_cursor(after: str | None) -> None:
    if after is not None:
        with _questioned():
            if any(abs(part) >= 1 << 62 for part in queries.cursor(after)):
                raise HistoryProblem(f"after is '{after[:60]}'; expected what the answer before gave as next")


@contextmanager
def _known() -> Iterator[None]:
    try:
        yield
    except queries.UnknownTenant:
        raise NoSuchTenant("no such tenant") from None
