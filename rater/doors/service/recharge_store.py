"""What the recharge agent must not forget between two steps: one row a recharge, in SQLite, synced before the step counts.

A row is written before its provider is asked and before its command is published, so a killed process finds out where it stood. The
file may be lost: the log brings every open recharge again, and the provider knows the recharge's id.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rater.core.instants import DAY_MS
from rater.recharge.answers import APPROVED, DECLINED, REFUSED, WRONG, Outcome
from rater.recharge.guards import NOT_ASKED, Asked
from rater.recharge.requests import Closed, Request
from rater.recharge.steps import State

SCHEMA = """
CREATE TABLE IF NOT EXISTS recharges (
    recharge_id TEXT PRIMARY KEY, tenant TEXT NOT NULL, amount_micros INTEGER NOT NULL, currency TEXT NOT NULL,
    at TEXT NOT NULL, by_command INTEGER NOT NULL, state TEXT NOT NULL, heard_ms INTEGER NOT NULL, asked_ms INTEGER,
    reference TEXT NOT NULL DEFAULT '', verdict TEXT, reason TEXT NOT NULL DEFAULT '', command BLOB, closed_as TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS recharges_of_a_tenant ON recharges (tenant, asked_ms);
CREATE TABLE IF NOT EXISTS reports (
    recharge_id TEXT NOT NULL, sentence TEXT NOT NULL, at_ms INTEGER NOT NULL, PRIMARY KEY (recharge_id, sentence)
) STRICT;
"""
HISTORY_MS = 3 * DAY_MS


@dataclass(frozen=True, slots=True)
class Recharge:
    """A row. `closed_as`: the engine took an outcome that was not ours, while the provider had not answered."""

    request: Request
    state: State
    heard_ms: int
    asked_ms: int | None
    reference: str
    verdict: str | None
    reason: str
    command: bytes | None
    closed_as: str | None


class RechargeStore:
    """One file, one process. Every method that writes returns when the disk has it."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        self._db.close()

    def find(self, recharge_id: str) -> Recharge | None:
        row = self._db.execute(
            "SELECT recharge_id, tenant, amount_micros, currency, at, by_command, state, heard_ms, asked_ms, reference, verdict,"
            " reason, command, closed_as FROM recharges WHERE recharge_id = ?",
            (recharge_id,),
        ).fetchone()
        if row is None:
            return None
        recharge_id, tenant, amount, currency, at, by_command, state, *rest = row
        request = Request(recharge_id, tenant, amount, currency, at, bool(by_command))
        return Recharge(request, State(state), *rest)

    def hear(self, request: Request, now_ms: int) -> bool:
        """Whether it is heard for the first time."""
        done = self._db.execute(
            "INSERT OR IGNORE INTO recharges (recharge_id, tenant, amount_micros, currency, at, by_command, state, heard_ms)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (request.recharge_id, request.tenant, request.amount_micros, request.currency, request.at,
             int(request.by_command), State.HEARD.value, now_ms),
        )  # fmt: skip
        return done.rowcount == 1

    def intend(self, recharge_id: str, now_ms: int) -> None:
        """The provider is about to be asked. The first time counts for the guards."""
        self._db.execute(
            "UPDATE recharges SET state = ?, asked_ms = coalesce(asked_ms, ?) WHERE recharge_id = ? AND state IN (?, ?)",
            (State.ASKING.value, now_ms, recharge_id, State.HEARD.value, State.ASKING.value),
        )

    def pend(self, recharge_id: str, reference: str, now_ms: int) -> None:
        self._db.execute(
            "UPDATE recharges SET state = ?, asked_ms = coalesce(asked_ms, ?), reference = ? WHERE recharge_id = ?"
            " AND state IN (?, ?, ?)",
            (State.PENDING.value, now_ms, reference, recharge_id, State.HEARD.value, State.ASKING.value, State.PENDING.value),
        )  # fmt: skip

    def settle(self, recharge_id: str, outcome: Outcome, reference: str, now_ms: int) -> None:
        """The outcome, the very bytes that will be published, however often, and what a person has to do: all or nothing. What
        was refused was never asked."""
        with self._all_or_nothing():
            self._db.execute(
                "UPDATE recharges SET state = ?, asked_ms = CASE WHEN ? THEN NULL ELSE coalesce(asked_ms, ?) END, reference = ?,"
                " verdict = ?, reason = ?, command = ? WHERE recharge_id = ? AND command IS NULL",
                (State.SETTLED.value, outcome.verdict == REFUSED, now_ms, reference, outcome.verdict, outcome.reason,
                 outcome.command, recharge_id),
            )  # fmt: skip
            if outcome.refund:
                self.report(recharge_id, outcome.refund, now_ms)

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def advance(self, recharge_id: str, state: State) -> None:
        self._db.execute("UPDATE recharges SET state = ? WHERE recharge_id = ?", (state.value, recharge_id))

    def close_as(self, recharge_id: str, word: str) -> None:
        self._db.execute("UPDATE recharges SET closed_as = ? WHERE recharge_id = ?", (word, recharge_id))

    def remember_closed(self, closed: Closed, currency: str, asked_ms: int) -> None:
        """A recharge of which the log alone knows: the guards count it."""
        verdict = APPROVED if closed.succeeded else REFUSED if closed.reason.startswith(NOT_ASKED) else DECLINED
        self._db.execute(
            "INSERT OR IGNORE INTO recharges (recharge_id, tenant, amount_micros, currency, at, by_command, state, heard_ms,"
            " asked_ms, verdict, reason) VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?)",
            (closed.recharge_id, closed.tenant, closed.amount_micros, currency, closed.at, State.CLOSED.value, asked_ms,
             None if verdict == REFUSED else asked_ms, verdict, closed.reason),
        )  # fmt: skip

    def date(self, recharge_id: str, closed: Closed, asked_ms: int) -> None:
        """A recharge heard again whose outcome the log tells: closed, and counted where it was asked for."""
        verdict = APPROVED if closed.succeeded else REFUSED if closed.reason.startswith(NOT_ASKED) else DECLINED
        self._db.execute(
            "UPDATE recharges SET state = ?, verdict = coalesce(verdict, ?), reason = ?,"
            " asked_ms = CASE WHEN ? THEN NULL ELSE coalesce(asked_ms, ?) END WHERE recharge_id = ?",
            (State.CLOSED.value, verdict, closed.reason, verdict == REFUSED, asked_ms, recharge_id),
        )

    def history(self, tenant: str, but: str, now_ms: int) -> list[Asked]:
        """What was asked for this tenant in the last days, `but` for the one in question; oldest first."""
        rows = self._db.execute(
            "SELECT asked_ms, amount_micros, currency, verdict FROM recharges WHERE tenant = ? AND recharge_id != ?"
            " AND asked_ms > ? ORDER BY asked_ms, recharge_id",
            (tenant, but, now_ms - HISTORY_MS),
        )
        return [
            Asked(at_ms, amount, currency, declined=verdict in (DECLINED, WRONG), counts=verdict in (None, APPROVED, WRONG))
            for at_ms, amount, currency, verdict in rows
        ]  # fmt: skip

    def report(self, recharge_id: str, sentence: str, now_ms: int) -> bool:
        """Something a person has to do; whether it is new."""
        done = self._db.execute("INSERT OR IGNORE INTO reports VALUES (?, ?, ?)", (recharge_id, sentence, now_ms))
        return done.rowcount == 1

    def reports(self) -> list[tuple[str, str, int]]:
        return self._db.execute("SELECT recharge_id, sentence, at_ms FROM reports ORDER BY at_ms").fetchall()
