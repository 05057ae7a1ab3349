"""A history in PostgreSQL, for several machines: rows go in by COPY, in the transaction that moves the places.

The same tables and the same questions as in a SQLite file. The role needs to be allowed to make tables in its schema the
first time, afterwards to read and write them. Prices and numbers stay in the database's own hands: encrypt the connection
(`sslmode=verify-full`).
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from rater.doors.failpoints import reached
from rater.doors.history.store import (
    SCHEMA_VERSION,
    Batch,
    HistoryProblem,
    Partition,
    Position,
    Read,
    StoreAway,
    check_feed,
    moved,
    refuse_version,
    schema,
)
from rater.usage.rows import CALL_COLUMNS, EVENT_COLUMNS, Row

CONNECT_S = 10
MAKING = 7_316_845_217  # an advisory lock: two sinks that start at once make the tables once

Connection = psycopg.Connection[tuple[Any, ...]]


class PostgresStore:
    """See `store.Store`. `target` is a connection string or URL of libpq; a password is better in PGPASSFILE."""

    def __init__(self, target: str, *, make: bool = False) -> None:
        self.name = _name(target)
        self._target = target
        self._lock = threading.Lock()
        self._db: Connection | None = None
        self._prepare(make)

    def _connect(self) -> Connection:
        try:
            return psycopg.connect(self._target, connect_timeout=CONNECT_S, application_name="rater history")
        except psycopg.OperationalError as error:
            raise StoreAway(f"{self.name}: {_reason(error)}") from None

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """One transaction, or nothing of it; a broken connection is not used again."""
        with self._lock:
            if self._db is None or self._db.closed:
                self._db = self._connect()
            db = self._db
            try:
                with db.transaction():
                    yield db
                    reached("before-history-commit")
                reached("after-history-commit")
            except psycopg.Error as error:
                broken = db.broken or db.closed or isinstance(error, psycopg.OperationalError)
                if broken:
                    db.close()
                told = f"{self.name}: {_reason(error)}"
                raise (StoreAway if broken else HistoryProblem)(told) from None

    def _prepare(self, make: bool) -> None:
        with self._writing() as db:
            db.execute("select pg_advisory_xact_lock(%s)", (MAKING,))
            found = db.execute("select to_regclass('about')").fetchone()
            if found is None or found[0] is None:
                if not make:
                    raise HistoryProblem(f"{self.name}: holds no history; rater history load or sink makes one")
                for statement in schema("bigint", "text", "bytea"):
                    db.execute(statement.replace("feed integer primary key", "feed serial primary key").encode())
                db.execute("insert into about values ('version', %s)", (str(SCHEMA_VERSION),))
            version = db.execute("select value from about where name = 'version'").fetchone()
        refuse_version(self.name, version[0] if version else "?")

    def append(self, batch: Batch) -> None:
        with self._writing() as db:
            for partition, (began, ended) in batch.moves.items():
                self._move(db, batch.feed, partition, began, ended)
            reached("after-history-places")
            _copy(db, "calls", list(CALL_COLUMNS), batch.calls)
            reached("mid-history-rows")
            _copy(db, "events", list(EVENT_COLUMNS), batch.events)
            with db.cursor() as cursor:
                cursor.executemany(
                    "insert into aside values (%s, %s, %s, %s, %s, %s)", [(batch.feed, *one) for one in batch.aside]
                )
                cursor.executemany("insert into tenants values (%s, %s, %s) on conflict do nothing", batch.homes())

    def _move(self, db: Connection, feed: int, partition: Partition, began: Position | None, ended: Position) -> None:
        if began is None:
            changed = db.execute(
                "insert into positions values (%s, %s, %s, %s, %s, %s) on conflict do nothing",
                (feed, *partition, *ended),
            )
        else:
            changed = db.execute(
                "update positions set place = %s, byte = %s, mark = %s "
                "where feed = %s and topic = %s and part = %s and place = %s and byte = %s",
                (*ended, feed, *partition, began.place, began.byte),
            )
        if changed.rowcount != 1:
            raise moved(self.name, partition, began)

    def feed(self, kind: str, name: str) -> int:
        with self._writing() as db:
            db.execute("select pg_advisory_xact_lock(%s)", (MAKING,))
            check_feed(self.name, _pairs(db), kind, name)
            db.execute("insert into feeds (kind, name) values (%s, %s) on conflict do nothing", (kind, name))
            found = db.execute("select feed from feeds where kind = %s and name = %s", (kind, name)).fetchone()
            return int(found[0]) if found else 0

    def positions(self, feed: int) -> dict[Partition, Position]:
        with self.reading() as read:
            rows = read("select topic, part, place, byte, mark from positions where feed = ?", (feed,))
        return {Partition(topic, part): Position(*rest) for topic, part, *rest in rows}

    @contextmanager
    def reading(self) -> Iterator[Read]:
        """On a connection of its own, to one moment: later commits are not seen."""
        db = self._connect()
        try:
            db.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            db.read_only = True

            def read(sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
                return db.execute(sql.replace("?", "%s").encode(), values).fetchall()

            yield read
        except psycopg.OperationalError as error:
            raise StoreAway(f"{self.name}: {_reason(error)}") from None
        except psycopg.Error as error:
            raise HistoryProblem(f"{self.name}: {_reason(error)}") from None
        finally:
            db.close()

    def forget(self, before_ms: int) -> tuple[int, int]:
        with self._writing() as db:
            calls = db.execute("delete from calls where start_ms < %s", (before_ms,)).rowcount
            return calls, db.execute("delete from events where time_ms < %s", (before_ms,)).rowcount

    def close(self) -> None:
        if self._db is not None:
            self._db.close()


def _pairs(db: Connection) -> list[tuple[str, str]]:
    return [(kind, name) for kind, name in db.execute("select kind, name from feeds").fetchall()]


def _copy(db: Connection, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
    if not rows:
        return
    with db.cursor().copy(f"copy {table} ({', '.join(columns)}) from stdin".encode()) as copy:
        for row in rows:
            copy.write_row(row)


def _name(target: str) -> str:
    """Host, port and database; never user or password."""
    try:
        told = conninfo_to_dict(target)
    except psycopg.ProgrammingError:
        raise HistoryProblem(
            "the history's address is no connection string of PostgreSQL; expected postgresql://HOST:PORT/DATABASE"
        ) from None
    return f"postgresql://{told.get('host', '')}:{told.get('port', 5432)}/{told.get('dbname', '')}"


def _reason(error: psycopg.Error) -> str:
    """Its first line: the rest may hold a row, and with it a number."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
