"""The API's own file: tokens (hashed) and the commands it accepted, which are its audit record. SQLite, for its owner alone."""

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

VERSION = "1"
BUSY_S = 10.0
SCHEMA = """
create table about (name text primary key, value text not null);
create table tokens (
    id text primary key, label text not null, scope text not null, tenants text not null, hash blob not null,
    made_ms integer not null, expires_ms integer, revoked_ms integer);
create table commands (
    number integer primary key autoincrement, id text not null unique, tenant text not null, command_id text not null,
    type text not null, asked blob not null, body blob not null, token text not null, who text not null,
    received_ms integer not null, before text, state text not null, part integer, place integer,
    batch integer, decided_ms integer, reason text, after text, unique (tenant, command_id));
create index commands_of_tenant on commands (tenant, number);
create index commands_pending on commands (state, number);
"""


class ApiProblem(Exception):
    """The API's file cannot be used: which, what was found, what to do."""


class Database:
    """One connection behind a lock: its transactions are single rows."""

    def __init__(self, path: Path, *, make: bool = False) -> None:
        self.path = path
        self._lock = threading.Lock()
        if not path.exists() and not make:
            raise ApiProblem(f"{path}: no such file; rater api token create makes one")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._db = sqlite3.connect(path, isolation_level=None, timeout=BUSY_S, check_same_thread=False)
            self._prepare()
        except (sqlite3.Error, OSError) as error:
            raise ApiProblem(f"{path}: not a usable file of the API: {error}") from None

    def _prepare(self) -> None:
        db = self._db
        db.execute("pragma journal_mode=wal")
        db.execute("pragma synchronous=full")  # an accepted command must be found again after a power cut
        db.execute("begin immediate")
        if not db.execute("select count(*) from sqlite_master").fetchone()[0]:
            for statement in filter(str.strip, SCHEMA.split(";")):
                db.execute(statement)
            db.execute("insert into about values ('version', ?)", (VERSION,))
        found = db.execute("select value from about where name = 'version'").fetchone()
        db.execute("commit")
        if found is None or found[0] != VERSION:
            raise ApiProblem(f"{self.path}: version {found and found[0]}; this rater reads version {VERSION}")

    @contextmanager
    def _busy(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._db
            except sqlite3.Error as error:
                raise ApiProblem(f"{self.path}: {error}") from None

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._busy() as db:
            return db.execute(sql, values).fetchall()

    def write(self, sql: str, values: Sequence[Any] = ()) -> int:
        """One statement, durable when this returns; the rows it changed."""
        with self._busy() as db:
            return db.execute(sql, values).rowcount

    def close(self) -> None:
        with self._lock:
            self._db.close()
