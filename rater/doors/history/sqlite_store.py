"""A history in one SQLite file: readers beside one writer, nothing to install.

Measured against DuckDB (docs/history.md): rows go in as fast, a page of a tenant comes out 15 times faster, and readers may
look while the sink writes, which a DuckDB file does not allow to another process. Sums over all tenants, where DuckDB is
faster, nobody asks for here.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from rater.doors.failpoints import reached
from rater.doors.history.store import (
    SCHEMA_VERSION,
    Batch,
    HistoryProblem,
    Partition,
    Position,
    Read,
    check_feed,
    moved,
    refuse_version,
    schema,
)
from rater.usage.rows import CALL_COLUMNS, EVENT_COLUMNS

BUSY_S = 30.0
CACHE_KIB = 65_536
CHECKPOINT_PAGES = 4_000  # 32 MB: several transactions of a load


class SqliteStore:
    """See `store.Store`. `make`: begin a history where there is no file; else that is refused."""

    def __init__(self, path: Path, *, make: bool = False) -> None:
        self.name = str(path)
        self._path = path
        self._lock = threading.Lock()  # one connection, and a sink's thread beside the one that asks
        if not path.exists() and not make:
            raise HistoryProblem(f"{path}: no such history; rater history load or rater history sink makes one")
        try:
            if make:
                path.parent.mkdir(parents=True, exist_ok=True)
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # it holds who called whom
            self._db = self._connect()
            self._prepare(make)
        except (sqlite3.Error, OSError) as error:
            raise HistoryProblem(f"{path}: not a usable history: {error}") from None

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, isolation_level=None, timeout=BUSY_S, check_same_thread=False)
        db.execute(f"pragma cache_size=-{CACHE_KIB}")
        return db

    def _prepare(self, make: bool) -> None:
        db = self._db
        if make:
            db.execute("pragma page_size=8192")
            db.execute("pragma journal_mode=wal")
            # A power cut may take the last transactions, rows and places together: they are read again.
            db.execute("pragma synchronous=normal")
            db.execute(f"pragma wal_autocheckpoint={CHECKPOINT_PAGES}")
        db.execute("begin immediate" if make else "begin")
        if not db.execute("select count(*) from sqlite_master").fetchone()[0]:
            if not make:
                raise HistoryProblem(
                    f"{self.name}: holds no history; rater history load or rater history sink makes one"
                )
            for statement in schema("integer", "text", "blob"):
                db.execute(statement)
            db.execute("insert into about values ('version', ?)", (str(SCHEMA_VERSION),))
        found = db.execute("select value from about where name = 'version'").fetchone()
        db.execute("commit")
        refuse_version(self.name, found[0] if found else "?")

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, or nothing of it."""
        with self._lock:
            try:
                self._db.execute("begin immediate")
                yield self._db
                reached("before-history-commit")
                self._db.execute("commit")
                reached("after-history-commit")
            except sqlite3.Error as error:
                self._roll_back()
                raise HistoryProblem(f"{self.name}: {error}; nothing of this batch was kept") from None
            except BaseException:
                self._roll_back()
                raise

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("rollback")

    def append(self, batch: Batch) -> None:
        with self._writing() as db:
            for partition, (began, ended) in batch.moves.items():
                self._move(db, batch.feed, partition, began, ended)
            reached("after-history-places")
            db.executemany(_insert("calls", len(CALL_COLUMNS)), batch.calls)
            reached("mid-history-rows")
            db.executemany(_insert("events", len(EVENT_COLUMNS)), batch.events)
            db.executemany("insert into aside values (?, ?, ?, ?, ?, ?)", [(batch.feed, *one) for one in batch.aside])
            db.executemany("insert or ignore into tenants values (?, ?, ?)", batch.homes())

    def _move(
        self, db: sqlite3.Connection, feed: int, partition: Partition, began: Position | None, ended: Position
    ) -> None:
        if began is None:
            changed = db.execute(
                "insert or ignore into positions values (?, ?, ?, ?, ?, ?)", (feed, *partition, *ended)
            )
        else:
            changed = db.execute(
                "update positions set place = ?, byte = ?, mark = ? where feed = ? and topic = ? and part = ? "
                "and place = ? and byte = ?",
                (*ended, feed, *partition, began.place, began.byte),
            )
        if changed.rowcount != 1:
            raise moved(self.name, partition, began)

    def feed(self, kind: str, name: str) -> int:
        with self._writing() as db:
            check_feed(self.name, db.execute("select kind, name from feeds").fetchall(), kind, name)
            db.execute("insert or ignore into feeds (kind, name) values (?, ?)", (kind, name))
            found = db.execute("select feed from feeds where kind = ? and name = ?", (kind, name)).fetchone()
            return int(found[0])

    def positions(self, feed: int) -> dict[Partition, Position]:
        with self.reading() as read:
            rows = read("select topic, part, place, byte, mark from positions where feed = ?", (feed,))
        return {Partition(topic, part): Position(*rest) for topic, part, *rest in rows}

    @contextmanager
    def reading(self) -> Iterator[Read]:
        """On a connection of its own: a long answer waits for no writer, and none for it."""
        try:
            with closing(self._connect()) as db:
                db.execute("pragma query_only=1")
                db.execute("begin")
                yield lambda sql, values: _all(db, sql, values)
        except sqlite3.Error as error:
            raise HistoryProblem(f"{self.name}: {error}") from None

    def forget(self, before_ms: int) -> tuple[int, int]:
        with self._writing() as db:
            calls = db.execute("delete from calls where start_ms < ?", (before_ms,)).rowcount
            return calls, db.execute("delete from events where time_ms < ?", (before_ms,)).rowcount

    def close(self) -> None:
        self._db.close()


def _all(db: sqlite3.Connection, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    return db.execute(sql, values).fetchall()


def _insert(table: str, columns: int) -> str:
    return f"insert into {table} values ({', '.join('?' * columns)})"
