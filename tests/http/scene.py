"""An API in this process: a history, an engine in the place of a worker, a publisher that writes into the engine, tokens of every kind.

Where no worker is asked, `Switchboard` answers questions whether a call may start, with events of the contract.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from starlette.testclient import TestClient

from rater.contract.rejected import encode_rejection
from rater.core.reasons import REASON_OF_TEXT
from rater.core.state import State
from rater.doors.history.answers import HistoryAnswers
from rater.doors.history.opening import open_history
from rater.doors.history.store import Store
from rater.doors.http.api import Api
from rater.doors.http.app import make_app
from rater.doors.http.database import Database
from rater.doors.http.gate import Limits
from rater.doors.http.hearing import Hearing
from rater.doors.http.reflects import Marks, behind
from rater.doors.http.workers import Seen
from rater.doors.kafka.changelog import Watermark
from rater.doors.kafka.live import Asked, seen_by
from rater.doors.kafka.snapshot import Base
from rater.doors.listening import EVENTS, REJECTED_COMMANDS, Heard
from rater.doors.metric_groups import new_registry
from rater.doors.metrics_api import ApiMetrics
from rater.doors.publishing import NotPublished, Placed
from rater.doors.questions import Away
from rater.doors.rules import RuleBook, load_rule_book
from rater.pipeline import Batch, decide, records_of
from tests.history.support import event, put, rated

ROOT = Path(__file__).resolve().parents[2]
NOW_MS = 1_795_000_000_000  # 2026-11-18
ROLES = ("read", "funds", "admin", "authorize")
TENANTS = ("contoso", "fabrikam")


def command(kind: str, tenant: str, number: int, **fields: Any) -> bytes:
    told = {
        "command_id": f"c-{tenant}-{number}",
        "tenant": tenant,
        "type": kind,
        "at": "2026-11-01T00:00:00Z",
        **fields,
    }
    return json.dumps(told).encode()


def opening(tenant: str) -> list[bytes]:
    return [
        command("tenant.opened", tenant, 1, country="GB", currency="USD", billing_mode="prepaid"),
        command("funds.added", tenant, 2, lot_id="lot-1", amount_micros=50_000_000),
        command("licence.assigned", tenant, 3, user="u-1", plan="MCOPSTN1", country="GB"),
        command("recharge.configured", tenant, 4, enabled=True, trigger_micros=5_000_000, amount_micros=50_000_000),
    ]


@dataclass
class Engine:
    """One partition as a worker keeps it: `take` is a batch, `ask` what its live page answers."""

    book: RuleBook = field(default_factory=lambda: load_rule_book(ROOT / "rates" / "example-usd"))
    state: State = field(default_factory=lambda: State.empty(bytes(range(16))))
    batch: int = 0
    next_command: int = 0
    behind_by: int = 0  # answers as one that has not heard of so many batches
    asked: int = 0

    def take(self, commands: list[bytes]) -> list[bytes]:
        """The lines of `rejected-commands`."""
        outcome = decide(
            self.state,
            self.book.rules,
            Batch(0, records_of(commands, self.next_command), records_of([]), self.next_command),
        )
        self.state.committed()
        self.batch, self.next_command = self.batch + 1, self.next_command + len(commands)
        return list(outcome.rejected_commands)

    async def ask(self, tenant: str, least: Marks, command: tuple[str, int] | None = None) -> Seen:
        self.asked += 1
        mark = Watermark(
            0, self.batch - self.behind_by, 0, self.next_command - self.behind_by, "", "", {}, {}, 0, "", (), ""
        )
        _, told = seen_by(Base(self.state, mark, 0, 0, -1), self.book, Asked(tenant, *(command or ())))
        found = Seen(told.get("account"), told["reflects"], told.get("command"))
        if behind(found.marks, least):
            raise Away("the worker of this tenant does not answer now; ask again in a moment")
        return found


@dataclass
class Switchboard:
    """In the place of the engine and of whoever follows the log: an event for each question, at once or when told."""

    hearing: Hearing
    trouble: str = ""
    silent: bool = False
    refuses: str = ""  # a reason of rater.call.refused
    rejects: tuple[str, str] = ("", "")  # reason and detail in rejected-commands
    asked: list[dict[str, Any]] = field(default_factory=list)

    async def run(self) -> None:
        """Nothing to read."""

    def answer(self, value: bytes) -> None:
        command = json.loads(value)
        self.asked.append(command)
        if self.silent:
            return
        if self.rejects[0]:
            self.reject(value, *self.rejects)
            return
        self.hearing.hear(EVENTS, [Heard(0, 0, self.event(command))])

    def reject(self, value: bytes, reason: str, detail: str, place: int = 0) -> None:
        line = encode_rejection(REASON_OF_TEXT[reason], detail, value, 0, place)
        self.hearing.hear(REJECTED_COMMANDS, [Heard(0, 0, line)])

    def event(self, command: dict[str, Any]) -> bytes:
        kind = "refused" if self.refuses else "authorized"
        data = {"call_id": command["call_id"], "call_type": command["call_type"], "balance_micros": 50_000_000,
                "held_micros": 1_230_000, "currency": "USD", "account_version": 5, "input": [0, 8 + len(self.asked)], "cause": "command"}  # fmt: skip
        if self.refuses:
            data |= {"reason": self.refuses}
        else:
            data |= {"payer": "credits", "seconds": command.get("seconds", 3600), "pool": None, "pool_minutes": 0,
                     "amount_micros": 1_230_000, "expires_at": "2026-11-18T12:00:00.000Z"}  # fmt: skip
        tenant = command["tenant"]
        return json.dumps({
            "specversion": "1.0", "id": f"{tenant}/call.{kind}/{command['command_id']}", "source": "rater",
            "type": f"rater.call.{kind}", "subject": tenant, "time": command["at"], "datacontenttype": "application/json", "data": data,
        }).encode()  # fmt: skip


@dataclass
class Log:
    """In the place of the brokers: what is published waits until `deliver`, or goes into the engine at once."""

    engine: Engine
    switchboard: Switchboard
    at_once: bool = True
    fails: int = 0  # so many records are not confirmed; `kept`: the log has them all the same
    kept: bool = False
    lines: list[bytes] = field(default_factory=list)
    delivered: int = 0

    async def publish(self, tenant: str, value: bytes) -> Placed:
        told = json.loads(value)
        assert told["tenant"] == tenant
        if self.fails:
            self.fails -= 1
            if self.kept:
                self.lines.append(value)
                self.deliver()
            raise NotPublished("account-commands: not confirmed by the brokers (TimeoutError: )")
        if told["type"] == "call.authorize":
            self.switchboard.answer(value)
            return Placed(0, 0)
        self.lines.append(value)
        place = self.engine.next_command + len(self.lines) - self.delivered - 1
        if self.at_once:
            self.deliver()
        return Placed(0, place)

    def deliver(self) -> None:
        for line in self.engine.take(self.lines[self.delivered :]):
            self.switchboard.hearing.hear(REJECTED_COMMANDS, [Heard(0, 0, line)])
        self.delivered = len(self.lines)


@dataclass
class Scene:
    """The API and everything around it."""

    api: Api
    client: TestClient
    engine: Engine
    log: Log
    switchboard: Switchboard
    store: Store
    tokens: dict[tuple[str, str], str]  # (role, tenant) -> token
    clock: list[float]

    def get(self, path: str, role: str = "read", tenant: str = "contoso", **more: Any) -> Any:
        return self.client.get(path, headers=self.bearer(role, tenant) | more.pop("headers", {}), **more)

    def post(self, path: str, body: Any, role: str = "admin", tenant: str = "contoso", **more: Any) -> Any:
        return self.client.post(path, json=body, headers=self.bearer(role, tenant) | more.pop("headers", {}), **more)

    def bearer(self, role: str, tenant: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[role, tenant]}"}


def fill(store: Store) -> None:
    for tenant in TENANTS:
        put(
            store,
            [rated(k, tenant, start=f"2026-11-0{1 + k}T10:00:00.000Z", user=f"u-{k % 2}") for k in range(4)],
            [
                event(k, "recharge.requested", f"2026-11-0{1 + k}T10:00:00.000Z", tenant, recharge_id=f"{tenant}:recharge:1",
                      amount_micros=50_000_000, trigger_micros=5_000_000, balance_micros=1, currency="USD")
                for k in range(2)
            ],
        )  # fmt: skip


@contextmanager
def scene(
    folder: Path,
    *,
    limits: Limits | None = None,
    per_minute: int = 100_000,
    metrics: ApiMetrics | None = None,
    **parts: Any,
) -> Iterator[Scene]:
    store = open_history(str(folder / "history.db"), make=True)
    fill(store)
    engine = Engine()
    engine.take([line for tenant in TENANTS for line in opening(tenant)])
    clock = [0.0]
    api = Api(
        database=Database(folder / "api.db", make=True), history=HistoryAnswers(store), live=engine,
        limits=limits or Limits(1 << 16, 30.0), exports=folder / "exports", now_ms=lambda: NOW_MS + int(clock[0] * 1000),
        now_s=lambda: clock[0], requests_per_minute=per_minute,
        metrics=metrics or ApiMetrics(new_registry()), **parts,
    )  # fmt: skip
    switchboard = Switchboard(Hearing(api.authorizing.waiting, api.ledger, api.now_ms))
    api.writer, api.follower = Log(engine, switchboard), switchboard
    tokens = {
        (role, tenant): api.tokens.create(f"{role} of {tenant}", role, (tenant,), NOW_MS)
        for role in ROLES
        for tenant in TENANTS
    }
    tokens["read", "*"] = api.tokens.create("dashboard", "read", ("*",), NOW_MS)
    with TestClient(make_app(api), raise_server_exceptions=False) as client:
        yield Scene(api, client, engine, cast(Log, api.writer), switchboard, store, tokens, clock)
    api.database.close()
    store.close()
