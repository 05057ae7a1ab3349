"""Account events about recharges as the engine writes them, and the agent on a real broker with a bank that counts."""

import json
from pathlib import Path
from typing import Any

from tests.kafka.workers import Deployment
from tests.service.bank import SECRET
from tests.service.processes import AgentProcess, start_agent

AT = "2026-11-21T09:59:30.000Z"


def requested(tenant: str, number: int = 1, amount_micros: int = 15_000_000, cause: str = "call") -> bytes:
    data = {
        "recharge_id": f"{tenant}:recharge:{number}", "amount_micros": amount_micros, "trigger_micros": 5_000_000,
        "balance_micros": 4_000_000, "currency": "USD", "account_version": 9, "input": [0, 7], "cause": cause,
    }  # fmt: skip
    return _event("recharge.requested", tenant, str(number), data)


def succeeded(tenant: str, number: int = 1, lot_id: str = "", amount_micros: int = 15_000_000) -> bytes:
    recharge_id = f"{tenant}:recharge:{number}"
    data = {
        "recharge_id": recharge_id, "lot_id": lot_id or recharge_id, "amount_micros": amount_micros, "balance_micros": 19_000_000,
        "currency": "USD", "account_version": 10, "input": [0, 8], "cause": "command",
    }  # fmt: skip
    return _event("recharge.succeeded", tenant, f"{recharge_id}:approved", data)


def failed(tenant: str, number: int = 1, reason: str = "the card has expired") -> bytes:
    recharge_id = f"{tenant}:recharge:{number}"
    data = {
        "recharge_id": recharge_id, "reason": reason, "balance_micros": 4_000_000, "currency": "USD", "failures": 1,
        "next_attempt_after": "2026-11-21T10:15:00.000Z", "account_version": 10, "input": [0, 8], "cause": "command",
    }  # fmt: skip
    return _event("recharge.failed", tenant, f"{recharge_id}:declined", data)


def _event(kind: str, tenant: str, last: str, data: dict[str, Any]) -> bytes:
    return json.dumps({
        "specversion": "1.0", "id": f"{tenant}/{kind}/{last}", "source": "rater", "type": f"rater.{kind}", "subject": tenant,
        "time": AT, "datacontenttype": "application/json", "data": data,
    }).encode()  # fmt: skip


def start_recharge_agent(deployed: Deployment, url: str, number: int = 0, **extra: str) -> AgentProcess:
    """The very command, with a bank at `url`."""
    secret = deployed.folder / "secret"
    if not secret.exists():
        secret.write_text(SECRET.reveal())
        secret.chmod(0o600)
    told = {
        "RATER_RECHARGE_PROVIDER": "http", "RATER_RECHARGE_HTTP_URL": url, "RATER_RECHARGE_HTTP_SECRET_FILE": str(secret),
        "RATER_RECHARGE_HTTP_TIMEOUT_MS": "2000", "RATER_RECHARGE_POLL_MS": "500",
    }  # fmt: skip
    return start_agent(deployed, ("rater", "recharge-agent"), number=number, **(told | extra))


def ledger_settings(folder: Path, text: str) -> dict[str, str]:
    file = folder / "ledger.toml"
    file.write_text(text)
    return {"RATER_RECHARGE_PROVIDER": "ledger", "RATER_RECHARGE_LEDGER": str(file)}
