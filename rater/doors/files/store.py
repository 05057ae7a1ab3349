"""The state file: rows, ids seen, journal, decks and the committed length of every output, in one SQLite transaction.

Rows are kept in pages of the shelf's own bytes, ids as one blob a batch. Only committed states are ever in the file, so
whatever kills the process, the next start finds the books, the journal and the outputs in agreement.
"""

import fcntl
import hashlib
import json
import secrets
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from rater.contract.journal import NO_DIGEST
from rater.core.state import SHELVES, State
from rater.doors.failpoints import reached

Array = np.ndarray[Any, Any]

SCHEMA_VERSION = 4  # of the tables, of the rows in `pages`, and of the journal's digests
PAGE_BYTES = 8192

_SCHEMA = """
create table meta (name text primary key, value blob) without rowid;
create table pages (shelf text, page integer, data blob, primary key (shelf, page)) without rowid;
create table seen (batch integer primary key, ids blob);
create table journal (batch integer primary key, out integer, line blob);
create table outs (id integer primary key, path text unique);
create table outputs (out integer, name text, length integer, primary key (out, name)) without rowid;
create table texts (kind text, version text, data blob, primary key (kind, version)) without rowid;
create table runs (id integer primary key, spec text, place text, finished integer, counts text);
"""


class StateProblem(Exception):
    """The state file cannot be used; the text says which, what was found and what to do."""


def rows_per_page(dtype: np.dtype[Any]) -> int:
    return max(1, PAGE_BYTES // dtype.itemsize)


@dataclass(slots=True)
class Commit:
    """Everything one transaction writes. Copies, so that the next batch may be decided while this one is written."""

    batch: int
    journal: bytes
    pages: list[tuple[str, int, bytes]]
    ids: bytes
    meta: dict[str, Any]
    out: int
    lengths: dict[str, int] = field(default_factory=dict)
    run: int = 0
    place: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)


def dirty_pages(state: State) -> list[tuple[str, int, bytes]]:
    """The pages that hold rows changed since the last commit."""
    pages: list[tuple[str, int, bytes]] = []
    for name, changed in state.changed().items():
        if not changed.size:
            continue
        per_page = rows_per_page(SHELVES[name])
        rows = state.rows(name)
        for page in np.unique(changed // per_page):
            pages.append((name, int(page), rows[page * per_page : (page + 1) * per_page].tobytes()))
    return pages


class Store:
    """One state file, opened for one process at a time."""

    def __init__(self, path: Path, read_only: bool = False) -> None:
        self.path = path
        self._lock: IO[bytes] | None = None
        exists = path.exists() and path.stat().st_size > 0
        if read_only and not exists:
            raise StateProblem(f"{path}: no such state file; `rater rate --state {path}` makes one")
        try:
            if not read_only:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._take(path)
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            if self._is_empty():  # new, or its very first write was cut short
                if read_only:
                    raise StateProblem(f"{path}: holds no state; its first run was cut short before it began")
                self._create()
            version = self.meta("schema_version", 0)
            if version != SCHEMA_VERSION:
                raise StateProblem(
                    f"{path}: state of version {version}; this rater reads version {SCHEMA_VERSION}. Go on with the rater that "
                    "wrote it, or rate its inputs again into a new --state and --out"
                )
            self._db.execute("pragma journal_mode=wal" if not read_only else "pragma query_only=1")
            self._db.execute("pragma synchronous=full")
        except (sqlite3.DatabaseError, OSError, ValueError) as error:
            raise StateProblem(f"{path}: not a usable state file: {error}") from None

    def _is_empty(self) -> bool:
        return not self._db.execute("select count(*) from sqlite_master").fetchone()[0]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Several writes as one, sealed."""
        self._db.execute("begin immediate")
        yield
        self._write_seal()
        self._db.execute("commit")

    def _take(self, path: Path) -> None:
        self._lock = path.open("ab")
        try:
            fcntl.flock(self._lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StateProblem(
                f"{path}: another rater is using this state; wait for it or choose another --state"
            ) from None

    def _create(self) -> None:
        self._db.execute("pragma page_size=8192")
        self._db.execute("begin immediate")
        for statement in _SCHEMA.split(";"):
            self._db.execute(statement)
        first = {
            "schema_version": SCHEMA_VERSION,
            "key": secrets.token_hex(16),
            "batch": 0,
            "next_cdr": 0,
            "next_command": 0,
            "state_digest": NO_DIGEST,
            "journal_digest": NO_DIGEST,
            "rows": dict.fromkeys(SHELVES, 0),
            "free": dict.fromkeys(SHELVES, -1),
        }
        self._db.executemany("insert into meta values (?, ?)", [(k, json.dumps(v)) for k, v in first.items()])
        self._write_seal()
        self._db.execute("commit")

    def close(self) -> None:
        self._db.close()
        if self._lock is not None:
            self._lock.close()

    def meta(self, name: str, default: Any = None) -> Any:
        found = self._db.execute("select value from meta where name = ?", (name,)).fetchone()
        return default if found is None else json.loads(found[0])

    # --- state ---------------------------------------------------------------------------------------------------

    def load_state(self) -> State:
        """The committed books."""
        state = State.empty(bytes.fromhex(self.meta("key")))
        counts, free = self.meta("rows"), self.meta("free")
        for name, dtype in SHELVES.items():
            data = self.shelf_bytes(name)
            count = counts.get(name, 0)
            if len(data) != count * dtype.itemsize:
                raise StateProblem(f"{self.path}: {name}: {len(data)} bytes of rows, expected {count * dtype.itemsize}")
            state.restore_shelf(name, np.frombuffer(data, dtype).view(np.recarray), free.get(name, -1))
        state.restore_seen(self.seen_ids())
        return state

    def seen_ids(self) -> Array:
        data = b"".join(row[0] for row in self._db.execute("select ids from seen order by batch"))
        return np.frombuffer(data, np.uint64).reshape(-1, 2)

    def text(self, kind: str, version: str) -> bytes:
        """A deck or plans that this state was rated with, in its canonical form."""
        found = self._db.execute("select data from texts where kind = ? and version = ?", (kind, version)).fetchone()
        if found is None:
            raise StateProblem(f"{self.path}: {kind} {version} is named by the journal but not kept in the state")
        try:
            return zlib.decompress(found[0])
        except zlib.error as error:
            raise StateProblem(f"{self.path}: {kind} {version}: damaged: {error}") from None

    def keep_text(self, kind: str, version: str, data: bytes) -> None:
        known = self._db.execute("select 1 from texts where kind = ? and version = ?", (kind, version)).fetchone()
        if known is None:
            self._db.execute("insert into texts values (?, ?, ?)", (kind, version, zlib.compress(data)))

    def contacts(self) -> list[bytes]:
        """The events that set who is told, one a tenant: an outbox may be begun in a folder that has none of them."""
        found = self._db.execute("select data from texts where kind = 'contacts' order by version")
        return [zlib.decompress(row[0]) for row in found]

    def keep_contacts(self, told: Iterable[tuple[str, bytes]]) -> None:
        """(tenant, event), each in the place of the one before. Within a `transaction`."""
        rows = [("contacts", tenant, zlib.compress(event)) for tenant, event in told]
        self._db.executemany("insert or replace into texts values (?, ?, ?)", rows)

    # --- outputs and runs ----------------------------------------------------------------------------------------

    def out_id(self, folder: Path) -> int:
        path = str(folder.resolve())
        self._db.execute("insert or ignore into outs (path) values (?)", (path,))
        return int(self._db.execute("select id from outs where path = ?", (path,)).fetchone()[0])

    def out_paths(self) -> dict[int, Path]:
        return {row[0]: Path(row[1]) for row in self._db.execute("select id, path from outs")}

    def lengths(self, out: int) -> dict[str, int]:
        return dict(self._db.execute("select name, length from outputs where out = ?", (out,)))

    def register_out(self, out: int, lengths: dict[str, int]) -> None:
        """Own the files of a folder from now on, so that an interrupted first batch can be cut off."""
        self._db.executemany(
            "insert or ignore into outputs values (?, ?, ?)", [(out, name, length) for name, length in lengths.items()]
        )

    def journal(self) -> Iterable[tuple[int, int, bytes]]:
        """(batch, out, line) of every committed batch."""
        return self._db.execute("select batch, out, line from journal order by batch")

    def batches_with_ids(self) -> list[int]:
        return [row[0] for row in self._db.execute("select batch from seen order by batch")]

    def shelf_bytes(self, name: str) -> bytes:
        """The rows of a shelf as they are stored, padding and all."""
        found = self._db.execute("select data from pages where shelf = ? order by page", (name,))
        return b"".join(row[0] for row in found)

    def batch_ids(self, batch: int) -> bytes:
        found = self._db.execute("select ids from seen where batch = ?", (batch,)).fetchone()
        return b"" if found is None else bytes(found[0])

    # --- proof -----------------------------------------------------------------------------------------------------

    def seal(self) -> str:
        """A digest of the small tables, which no replay can derive: what each run was asked and where it stands."""
        digest = hashlib.blake2b(digest_size=16)
        for query in (
            "select name, value from meta where name != 'seal' order by name",
            "select * from outs order by id",
            "select * from outputs order by out, name",
            "select kind, version from texts order by kind, version",
            "select * from runs order by id",
        ):
            for row in self._db.execute(query):
                digest.update(repr(row).encode())
        return digest.hexdigest()

    def _write_seal(self) -> None:
        self._db.execute("insert or replace into meta values ('seal', ?)", (json.dumps(self.seal()),))

    def check_seal(self) -> None:
        if self.meta("seal") != self.seal():
            raise StateProblem(
                f"{self.path}: the tables meta, outs, outputs, texts or runs were changed by another hand"
            )

    def check_integrity(self) -> None:
        """SQLite's own word on its pages."""
        try:
            found = self._db.execute("pragma integrity_check(1)").fetchone()[0]
        except sqlite3.DatabaseError as error:
            found = str(error)
        if found != "ok":
            raise StateProblem(f"{self.path}: damaged: {found}")

    def unfinished(self) -> tuple[int, dict[str, Any], dict[str, Any], dict[str, Any]] | None:
        """(id, what it was asked to do, how far it got, its counts) of a run that something interrupted."""
        found = self._db.execute("select id, spec, place, counts from runs where finished = 0").fetchone()
        return None if found is None else (found[0], json.loads(found[1]), json.loads(found[2]), json.loads(found[3]))

    def start_run(self, spec: dict[str, Any]) -> int:
        cursor = self._db.execute(
            "insert into runs (spec, place, finished, counts) values (?, '{}', 0, '{}')", (json.dumps(spec),)
        )
        return int(cursor.lastrowid or 0)

    def finish_run(self, run: int) -> None:
        """Within a `transaction`."""
        self._db.execute("update runs set finished = 1 where id = ?", (run,))

    def commit(self, commit: Commit) -> None:
        """Books, ids, journal, lengths and place of one batch, or nothing of them."""
        db = self._db
        db.execute("begin immediate")
        db.executemany("insert or replace into pages values (?, ?, ?)", commit.pages)
        db.execute("insert into seen values (?, ?)", (commit.batch, commit.ids))
        db.execute("insert into journal values (?, ?, ?)", (commit.batch, commit.out, commit.journal))
        db.executemany(
            "insert or replace into outputs values (?, ?, ?)",
            [(commit.out, name, length) for name, length in commit.lengths.items()],
        )
        db.executemany(
            "insert or replace into meta values (?, ?)", [(k, json.dumps(v)) for k, v in commit.meta.items()]
        )
        db.execute(
            "update runs set place = ?, counts = ? where id = ?",
            (json.dumps(commit.place), json.dumps(commit.counts), commit.run),
        )
        self._write_seal()
        reached("in-transaction")
        db.execute("commit")
        reached("after-commit")


def row_counts(state: State) -> dict[str, int]:
    return {name: int(state.rows(name).size) for name in SHELVES}
