"""A history by what an operator calls it: a file, or the address of a PostgreSQL database."""

from pathlib import Path

from rater.doors.history.sqlite_store import SqliteStore
from rater.doors.history.store import HistoryProblem, Store

POSTGRES = ("postgresql://", "postgres://")


def open_history(target: str, *, make: bool = False) -> Store:
    """`make` begins a history where there is none; without it that is refused. Raises `HistoryProblem`."""
    if not target.startswith(POSTGRES):
        return SqliteStore(Path(target), make=make)
    try:
        from rater.doors.history.postgres_store import PostgresStore
    except ImportError:
        raise HistoryProblem(
            "a history in PostgreSQL needs psycopg; install rater with its extra, in a checkout: pip install '.[postgres]'"
        ) from None
    return PostgresStore(target, make=make)
