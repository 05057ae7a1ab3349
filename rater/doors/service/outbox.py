"""The outbox: what is known of each message, by event and recipient, in a SQLite file that outlives the process.

It answers one question for good: was this message delivered, or given up? What is pending in it is pending only for whoever reads
the event again: its offset is not committed before, so a lost file loses no message, and a partition that moved to
another process and was served there is not served twice from here.

`PRAGMA synchronous` is NORMAL: what was committed survives a killed process. A loss of power may take back the last commits, and
then those messages go out again under the same name.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rater.notify.kinds import DIGEST, Message
from rater.notify.naming import digest_key

PENDING, DELIVERED, UNDELIVERED, MERGED = "pending", "delivered", "undelivered", "merged"
SCHEMA_VERSION = 1
# Longer than a group keeps the offsets of members that are away (Kafka: 7 days): older events are not read again.
KEPT_MS = 35 * 86_400_000

_TABLES = """
CREATE TABLE IF NOT EXISTS messages (
    key TEXT PRIMARY KEY, event_id TEXT NOT NULL, channel TEXT NOT NULL, address TEXT NOT NULL, language TEXT NOT NULL,
    kind TEXT NOT NULL, scope TEXT NOT NULL, pair TEXT NOT NULL, body BLOB NOT NULL, state TEXT NOT NULL,
    attempts INTEGER NOT NULL, first_ms INTEGER NOT NULL, due_ms INTEGER NOT NULL, settled_ms INTEGER, digest TEXT, reason TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_digest ON messages (digest) WHERE digest IS NOT NULL;
CREATE INDEX IF NOT EXISTS by_recipient ON messages (scope, address, settled_ms) WHERE state = 'delivered';
CREATE INDEX IF NOT EXISTS by_pair ON messages (pair, address) WHERE pair <> '';
CREATE INDEX IF NOT EXISTS by_age ON messages (settled_ms) WHERE settled_ms IS NOT NULL;
"""
_COLUMNS = "key, event_id, channel, address, language, kind, scope, body, state, attempts, first_ms, due_ms, digest"


class OutboxRefused(Exception):
    """The file is not an outbox this version can use; the text names it and says what to do."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A message as the outbox has it; `_ms` are instants of this machine's clock. `body`: the event's bytes, empty for a digest."""

    key: str
    event_id: str
    channel: str
    address: str
    language: str
    kind: str
    scope: str
    body: bytes
    state: str
    attempts: int
    first_ms: int
    due_ms: int
    digest: str | None

    @property
    def settled(self) -> bool:
        return self.state != PENDING


class Outbox:
    """One file, one process. Every method is one transaction."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None, timeout=2)
        try:
            self._open(path)
        except sqlite3.DatabaseError as wrong:
            self._db.close()
            raise OutboxRefused(
                f"{path}: {wrong}; expected an outbox that no other process has open. If it is damaged, move it away: unread "
                "events are read again, and their messages go out, some for the second time"
            ) from None

    def _open(self, path: Path) -> None:
        # Held for as long as the process lives: two agents on one file would each send what the other sends.
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version not in (0, SCHEMA_VERSION):
            raise OutboxRefused(f"{path}: layout {version}; this version of rater reads {SCHEMA_VERSION}")
        with self._transaction():
            for statement in filter(str.strip, _TABLES.split(";")):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def close(self) -> None:
        self._db.close()

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._db)

    # -------------------------------------------------------------------------------------------- what is known

    def record(self, messages: Sequence[Message], now_ms: int) -> list[Entry]:
        """Each message's entry, made where there was none. One that is there keeps what it knows."""
        with self._transaction():
            self._db.executemany(
                "INSERT INTO messages (key, event_id, channel, address, language, kind, scope, pair, body, state, attempts,"
                " first_ms, due_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', 0, ?, ?) ON CONFLICT DO NOTHING",
                [
                    (m.key, m.event.id, m.channel, m.address, m.language, m.kind, m.scope, m.pair, m.event.body, now_ms,
                     now_ms + m.wait_ms)
                    for m in messages
                ],
            )  # fmt: skip
            return [self.entry(message.key) for message in messages]

    def entry(self, key: str) -> Entry:
        return Entry(*self._db.execute(f"SELECT {_COLUMNS} FROM messages WHERE key = ?", (key,)).fetchone())

    def other_of_pair(self, message: Message) -> str | None:
        """The key of an untouched message of the same pair to the same recipient."""
        found = self._db.execute(
            "SELECT key FROM messages WHERE pair = ? AND pair <> '' AND address = ? AND channel = ? AND key <> ?"
            " AND kind <> ? AND state = 'pending' AND attempts = 0 AND digest IS NULL",
            (message.pair, message.address, message.channel, message.key, message.kind),
        ).fetchone()
        return None if found is None else str(found[0])

    def delivered_since(self, scope: str, address: str, since_ms: int) -> int:
        """How many mails this recipient got, a digest counting once."""
        (count,) = self._db.execute(
            "SELECT count(*) FROM messages WHERE state = 'delivered' AND scope = ? AND address = ? AND settled_ms > ?"
            " AND digest IS NULL",
            (scope, address, since_ms),
        ).fetchone()
        return int(count)

    # -------------------------------------------------------------------------------------------- what happens

    def settle(self, keys: Iterable[str], state: str, now_ms: int, reason: str | None = None) -> None:
        with self._transaction():
            self._db.executemany(
                "UPDATE messages SET state = ?, settled_ms = ?, reason = ? WHERE key = ? AND state = 'pending'",
                [(state, now_ms, reason, key) for key in keys],
            )

    def postpone(self, key: str, attempts: int, due_ms: int, reason: str) -> None:
        with self._transaction():
            self._db.execute(
                "UPDATE messages SET attempts = ?, due_ms = ?, reason = ? WHERE key = ? AND state = 'pending'",
                (attempts, due_ms, reason, key),
            )

    def make_digest(self, members: Sequence[Entry], now_ms: int) -> Entry:
        """One message of all of these. Who belongs to it is recorded before it is sent, so it is the same after a kill."""
        key, first = digest_key(member.key for member in members), members[0]
        with self._transaction():
            self._db.execute(
                "INSERT INTO messages (key, event_id, channel, address, language, kind, scope, pair, body, state, attempts,"
                " first_ms, due_ms) VALUES (?, '', ?, ?, ?, ?, ?, '', x'', 'pending', 0, ?, ?) ON CONFLICT DO NOTHING",
                (key, first.channel, first.address, first.language, DIGEST, first.scope,
                 min(member.first_ms for member in members), now_ms),
            )  # fmt: skip
            self._db.executemany(
                "UPDATE messages SET digest = ? WHERE key = ?", [(key, member.key) for member in members]
            )
        return self.entry(key)

    def members(self, digest: str) -> list[Entry]:
        rows = self._db.execute(f"SELECT {_COLUMNS} FROM messages WHERE digest = ? ORDER BY first_ms, key", (digest,))
        return [Entry(*row) for row in rows]

    def prune(self, now_ms: int) -> int:
        """Forget what was settled long ago; how many that were."""
        with self._transaction():
            return self._db.execute("DELETE FROM messages WHERE settled_ms < ?", (now_ms - KEPT_MS,)).rowcount


class _Transaction:
    """BEGIN IMMEDIATE ... COMMIT, or ROLLBACK when something raises."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, _problem: object, _trace: object) -> None:
        self._db.execute("COMMIT" if kind is None else "ROLLBACK")
