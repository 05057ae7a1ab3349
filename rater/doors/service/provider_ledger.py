"""The embedded provider: a file says how much each tenant may be recharged a month; what was approved is kept beside it.

    [default]
    per_month = { USD = "200.00", EUR = "180.00" }

    [tenants.contoso]
    per_month = { USD = "1000.00" }
    script = ["decline: the card has expired", "pending", "approve"]     # its first, second and third recharge; then by limit

It moves no money: it is for invoices paid later, for demonstrations and tests. A scripted `pending` is approved when asked about.
"""

import sqlite3
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rater.core.instants import instant_text, month_of, month_start_ms
from rater.doors.service.provider import CallbackRefused
from rater.doors.settings.values import SettingsRefused
from rater.recharge.amounts import amount_text
from rater.recharge.answers import Answer, Approved, Declined, Pending, Unknown
from rater.recharge.guards_file import GuardsRefused, amounts_by_currency
from rater.recharge.requests import Request

SCHEMA = """
CREATE TABLE IF NOT EXISTS payments (
    recharge_id TEXT PRIMARY KEY, tenant TEXT NOT NULL, amount_micros INTEGER NOT NULL, currency TEXT NOT NULL,
    verdict TEXT NOT NULL, reason TEXT NOT NULL, at_ms INTEGER NOT NULL
) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What one tenant may be recharged in a UTC month, by currency; and what its first recharges are answered, scripted."""

    per_month: Mapping[str, int] = field(default_factory=dict)
    script: tuple[str, ...] = ()


def load_agreements(path: Path) -> dict[str, Agreement]:
    """Tenant -> agreement, the default under an empty name. Raises `SettingsRefused`."""
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsRefused(f"{path}: {error}; expected TOML, for example [default] per_month = ...") from None
    known = {"default", "tenants"}
    if set(told) - known:
        raise SettingsRefused(
            f"{path}: {sorted(set(told) - known)[0]} is unknown; expected [default] and [tenants.NAME]"
        )
    found = {"": _agreement(path, "default", told.get("default", {}), Agreement())}
    for tenant, fields in told.get("tenants", {}).items():
        found[tenant] = _agreement(path, f"tenants.{tenant}", fields, found[""])
    return found


def _agreement(path: Path, where: str, fields: Any, base: Agreement) -> Agreement:
    if not isinstance(fields, dict) or set(fields) - {"per_month", "script"}:
        raise SettingsRefused(f"{path}: [{where}]: expected per_month and script alone")
    script = fields.get("script", [])
    if not isinstance(script, list) or not all(_scripted(line) for line in script):
        raise SettingsRefused(f"{path}: [{where}] script: expected a list of 'approve', 'pending', 'decline: reason'")
    try:
        per_month = (
            amounts_by_currency(fields["per_month"], f"{where}.per_month") if "per_month" in fields else base.per_month
        )
    except GuardsRefused as refused:
        raise SettingsRefused(f"{path}: {refused}") from None
    return Agreement(per_month, tuple(script))


def _scripted(line: object) -> bool:
    return isinstance(line, str) and (line in ("approve", "pending") or line.startswith("decline: "))


class LedgerProvider:
    """Approves within the agreement; the same recharge again gets the same answer."""

    name = "ledger"

    def __init__(self, agreements: Mapping[str, Agreement], file: Path, now_ms: Callable[[], int]) -> None:
        self._agreements, self._now_ms = agreements, now_ms
        self._db = sqlite3.connect(file, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(SCHEMA)

    async def ask(self, request: Request) -> Answer:
        known = self._answer_of(request.recharge_id)
        if known is not None:
            return known
        verdict, reason = self._decide(request)
        self._db.execute(
            "INSERT INTO payments VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                request.recharge_id,
                request.tenant,
                request.amount_micros,
                request.currency,
                verdict,
                reason,
                self._now_ms(),
            ),
        )
        answer = self._answer_of(request.recharge_id)
        return answer if answer is not None else Pending()

    async def status(self, request: Request, reference: str) -> Answer | Unknown:  # noqa: ARG002  # the id is enough
        self._db.execute(
            "UPDATE payments SET verdict = 'approve' WHERE recharge_id = ? AND verdict = 'pending'",
            (request.recharge_id,),
        )
        return self._answer_of(request.recharge_id) or Unknown()

    def callback(self, headers: Mapping[str, str], body: bytes, now_s: int) -> tuple[str, Answer]:  # noqa: ARG002
        raise CallbackRefused(404, "the provider is the ledger; it sends no callbacks")

    async def close(self) -> None:
        self._db.close()

    def _answer_of(self, recharge_id: str) -> Answer | None:
        row = self._db.execute(
            "SELECT amount_micros, currency, verdict, reason, at_ms FROM payments WHERE recharge_id = ?", (recharge_id,)
        ).fetchone()
        if row is None:
            return None
        amount, currency, verdict, reason, at_ms = row
        if verdict == "approve":
            return Approved(amount, currency, f"ledger:{recharge_id}", instant_text(at_ms))
        return Pending(f"ledger:{recharge_id}") if verdict == "pending" else Declined(reason, at=instant_text(at_ms))

    def _decide(self, request: Request) -> tuple[str, str]:
        agreement = self._agreements.get(request.tenant, self._agreements[""])
        (count,) = self._db.execute("SELECT count(*) FROM payments WHERE tenant = ?", (request.tenant,)).fetchone()
        if count < len(agreement.script):
            verdict, _, reason = agreement.script[count].partition(": ")
            return verdict, reason
        most = agreement.per_month.get(request.currency)
        if most is None:
            return "decline", f"no agreement on recharges in {request.currency}; ask your provider for one"
        (used,) = self._db.execute(
            "SELECT coalesce(sum(amount_micros), 0) FROM payments WHERE tenant = ? AND currency = ? AND verdict != 'decline'"
            " AND at_ms >= ?",
            (request.tenant, request.currency, month_start_ms(month_of(self._now_ms()))),
        ).fetchone()
        if used + request.amount_micros <= most:
            return "approve", ""
        return "decline", (
            f"{amount_text(used, request.currency)} of {amount_text(most, request.currency)} agreed for this month are used; "
            "ask your provider for more, or add funds by hand"
        )
