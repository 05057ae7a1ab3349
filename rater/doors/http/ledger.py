"""The commands that were accepted here: who asked, what was there before, what became of it. The audit record, and what makes a repeat harmless.

A row is written before the command is published, so a key that was used is known whatever happens in between; the bytes in it are those
that are published again. States: begun (nobody knows yet whether the brokers have it), accepted, applied, rejected. The engine's reason comes from
`rejected-commands`, before or after the state says that a command was not applied; until then `reason` is null in the row.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import orjson

from rater.core.instants import instant_text
from rater.doors.http.database import Database
from rater.doors.http.tokens import Caller

BEGUN, ACCEPTED, APPLIED, REJECTED = "begun", "accepted", "applied", "rejected"
NAMES = (
    "number", "id", "tenant", "command_id", "type", "asked", "body", "token", "who", "received_ms", "before", "state",
    "part", "place", "batch", "decided_ms", "reason", "after",
)  # fmt: skip
COLUMNS = ", ".join(NAMES)


@dataclass(frozen=True, slots=True)
class Entry:
    """One accepted command. `asked`: digest of the request; `before`, `after`: JSON, None where it is not known."""

    number: int
    id: str
    tenant: str
    command_id: str
    type: str
    asked: bytes
    body: bytes
    token: str
    who: str
    received_ms: int
    before: str | None
    state: str
    part: int | None
    place: int | None
    batch: int | None
    decided_ms: int | None
    reason: str | None
    after: str | None

    @property
    def decided(self) -> bool:
        return self.state in (APPLIED, REJECTED)

    def why(self) -> str | None:
        """Why it was rejected; where the log's word has not come yet, where it stands."""
        if self.state != REJECTED or self.reason is not None:
            return self.reason if self.state == REJECTED else None
        return f"the engine refused it; rejected-commands has why, under input [{self.part}, {self.place}]"

    def as_object(self) -> dict[str, Any]:
        """For whoever asked for the change."""
        placed = None if self.place is None else {"partition": self.part, "offset": self.place}
        return {
            "id": self.id,
            "tenant": self.tenant,
            "command_id": self.command_id,
            "type": self.type,
            "state": self.state,
            "received_at": instant_text(self.received_ms),
            "placed": placed,
            "batch": self.batch,
            "decided_at": None if self.decided_ms is None else instant_text(self.decided_ms),
            "reason": self.why(),
        }

    def as_audit(self) -> dict[str, Any]:
        """For whoever asks who changed what."""
        return self.as_object() | {
            "number": self.number,
            "who": self.who,
            "token": self.token,
            "command": orjson.loads(self.body),
            "before": None if self.before is None else orjson.loads(self.before),
            "after": None if self.after is None else orjson.loads(self.after),
        }


def public_id(tenant: str, command_id: str) -> str:
    """What a client asks again by; command ids are one tenant's."""
    return hashlib.sha256(f"{tenant}\0{command_id}".encode()).hexdigest()[:32]


class Ledger:
    """The rows of `commands`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, public: str) -> Entry | None:
        rows = self._database.read(f"select {COLUMNS} from commands where id = ?", (public,))
        return Entry(*rows[0]) if rows else None

    def begin(
        self, tenant: str, command: dict[str, Any], asked: bytes, caller: Caller, now_ms: int, before: Any
    ) -> Entry:
        """The row of this command; the one that is there already where its key was used before."""
        public = public_id(tenant, command["command_id"])
        told = None if before is None else orjson.dumps(before).decode()
        self._database.write(
            "insert or ignore into commands (id, tenant, command_id, type, asked, body, token, who, received_ms, before, state) "
            "values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (public, tenant, command["command_id"], command["type"], asked, orjson.dumps(command), caller.token_id,
             caller.label, now_ms, told, BEGUN),
        )  # fmt: skip
        found = self.find(public)
        assert found is not None
        return found

    def accepted(self, entry: Entry, part: int, place: int) -> None:
        """A reason that was heard of an earlier copy of the same bytes is not this one's."""
        self._database.write(
            "update commands set state = ?, part = ?, place = ?, reason = case when part = ? and place = ? then reason end "
            "where number = ? and state in (?, ?)",
            (ACCEPTED, part, place, part, place, entry.number, BEGUN, ACCEPTED),
        )

    def decided(self, entry: Entry, state: str, batch: int | None, now_ms: int, reason: str | None, after: Any) -> None:
        """`reason` only where the row has none: the log's own words are better."""
        told = None if after is None else orjson.dumps(after).decode()
        self._database.write(
            "update commands set state = ?, batch = ?, decided_ms = ?, reason = coalesce(reason, ?), after = ? "
            "where number = ? and decided_ms is null",
            (state, batch, now_ms, reason, told, entry.number),
        )

    def explain(self, public: str, body: bytes, part: int, place: int, reason: str) -> bool:
        """The log's word on these very bytes, if they are a command of this file: True. A command that was applied stays applied."""
        changed = self._database.write(
            "update commands set reason = ?, part = ?, place = ?, state = case when state = ? then ? else state end "
            "where id = ? and body = ? and state <> ? and (place is null or (part = ? and place = ?))",
            (reason, part, place, BEGUN, ACCEPTED, public, body, APPLIED, part, place),
        )
        return changed > 0

    def unexplained_since(self, since_ms: int) -> int | None:
        """When the oldest command was received whose end, or the reason for it, is not known; None where there is none."""
        rows = self._database.read(
            "select min(received_ms) from commands where received_ms >= ? and "
            "(state in (?, ?) or (state = ? and reason is null))",
            (since_ms, BEGUN, ACCEPTED, REJECTED),
        )
        return None if rows[0][0] is None else int(rows[0][0])

    def pending(self, since_ms: int, limit: int) -> list[Entry]:
        rows = self._database.read(
            f"select {COLUMNS} from commands where state in (?, ?) and received_ms >= ? order by number limit ?",
            (BEGUN, ACCEPTED, since_ms, limit),
        )
        return [Entry(*row) for row in rows]

    def of_tenant(self, tenant: str, before: int, limit: int) -> list[Entry]:
        """The newest first, those with a number below `before`."""
        rows = self._database.read(
            f"select {COLUMNS} from commands where tenant = ? and number < ? order by number desc limit ?",
            (tenant, before, limit),
        )
        return [Entry(*row) for row in rows]
