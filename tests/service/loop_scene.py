"""The whole loop as an operator starts it: topics by the command, one worker, one agent for recharges, one for mails."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rater.core.instants import MINUTE_MS, instant_text
from rater.doors.clock import wall_ms
from tests.kafka.workers import ROOT, Deployment, ending
from tests.service.mailbox import Mailbox
from tests.service.processes import AgentProcess, start_agent
from tests.service.recharge_scene import ledger_settings, start_recharge_agent

PARTITIONS = 2
TRIGGER, AMOUNT, FUNDS = 5_000_000, 15_000_000, 6_000_000
PREMIUM = "+449098790170"  # no plan gives minutes for it; in the example deck 1.25 USD and 0.456 a minute
GENEROUS = '[default]\nper_month = { USD = "10000.00" }\n'


def make_topics(deployed: Deployment) -> None:
    """By `rater topics create --notifications`, as docs/notifications.md says."""
    command = [sys.executable, "-m", "rater", "topics", "create", "--partitions", str(deployed.partitions),
               "--replication-factor", "1", "--notifications"]  # fmt: skip
    made = subprocess.run(command, env=deployed.environment({}), cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr


@contextmanager
def loop(deployed: Deployment, box: Mailbox, provider: dict[str, str] | str) -> Iterator[list[AgentProcess]]:
    """Everything runs and has caught up. `provider`: the bank's address, or settings of another provider."""
    mail = {
        "RATER_NOTIFICATION_MAIL_HOST": "127.0.0.1", "RATER_NOTIFICATION_MAIL_PORT": str(box.port),
        "RATER_NOTIFICATION_MAIL_SECURITY": "none", "RATER_NOTIFICATION_MAIL_FROM": "calling@example.com",
    }  # fmt: skip
    with contextlib.ExitStack() as stack:
        worker = deployed.worker()
        stack.enter_context(ending(worker))
        if isinstance(provider, str):
            recharge = start_recharge_agent(deployed, provider)
        else:
            recharge = start_agent(deployed, ("rater", "recharge-agent"), **provider)
        stack.enter_context(ending(recharge))
        notification = start_agent(deployed, ("rater", "notification-agent"), "notification", **mail)
        stack.enter_context(ending(notification))
        worker.wait_running(deployed.partitions)
        recharge.wait_caught_up(deployed.partitions)
        notification.wait_caught_up(2 * deployed.partitions)
        yield [recharge, notification]


def ledger(folder: Path, text: str = GENEROUS) -> dict[str, str]:
    return ledger_settings(folder, text)


def opening(tenant: str, contacts: Sequence[dict[str, Any]]) -> list[bytes]:
    """An account with little left, its recharge, and who is told."""
    at = instant_text(wall_ms() - 24 * 60 * MINUTE_MS)

    def command(number: int, kind: str, **fields: Any) -> bytes:
        common = {"command_id": f"open-{number}", "tenant": tenant, "type": kind, "at": at, "by": "test"}
        return json.dumps(common | fields).encode()

    return [
        command(1, "tenant.opened", country="US", currency="USD", billing_mode="prepaid"),
        command(2, "licence.assigned", user="ana", plan="MCOPSTNC", country="US"),
        command(3, "funds.added", lot_id="purchase-1", amount_micros=FUNDS),
        command(4, "recharge.configured", enabled=True, trigger_micros=TRIGGER, amount_micros=AMOUNT),
        command(5, "contacts.set", contacts=list(contacts)),
    ]


def top_up(tenant: str, amount_micros: int) -> bytes:
    return json.dumps({
        "command_id": "by-hand", "tenant": tenant, "type": "funds.added", "at": instant_text(wall_ms()), "by": "test",
        "lot_id": "by-hand", "amount_micros": amount_micros,
    }).encode()  # fmt: skip


def call(tenant: str, number: int, minutes: int) -> bytes:
    """A call to a premium number that has just ended."""
    end_ms = wall_ms()
    start_ms = end_ms - minutes * MINUTE_MS + 1_000
    start = instant_text(start_ms)
    return json.dumps({
        "record_id": f"{tenant}-{number}", "tenant": tenant, "call_type": "user_out", "user": "ana", "caller": "+12125550100",
        "callee": PREMIUM, "start": start, "answer": start, "end": instant_text(end_ms), "billable_ms": end_ms - start_ms,
        "disposition": "answered",
    }).encode()  # fmt: skip
