"""From a call record to the funds in the wallet and the mail in the box: every process is the real command, the broker a real one.

What the wallet holds is read where everybody reads it: in `account-events`, and in the commands that `rater-journal` says were applied.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.loop import Sizes, measure
from tests.kafka.broker import KafkaCluster
from tests.kafka.workers import Deployment
from tests.schema_check import validate
from tests.service.bank import Bank, decline
from tests.service.loop_scene import (
    AMOUNT,
    FUNDS,
    PARTITIONS,
    TRIGGER,
    call,
    ledger,
    loop,
    make_topics,
    opening,
    top_up,
)
from tests.service.mailbox import Mailbox
from tests.service.processes import AgentProcess, numbers, read

ANNE, BERT = "anne@contoso.example", "bert@contoso.example"
CONTACTS = [{"email": ANNE}, {"email": BERT, "language": "fr"}]
TENANT = "contoso"


@pytest.fixture
def deployed(kafka: KafkaCluster, tmp_path: Path) -> Deployment:
    made = Deployment(kafka.bootstrap, f"loop-{next(numbers)}-{tmp_path.name}", tmp_path, PARTITIONS)
    make_topics(made)
    return made


class Provider:
    """Approves, until it is told to decline."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder, self.bank = name, folder, Bank()

    @contextlib.contextmanager
    def open(self) -> Iterator[dict[str, str] | str]:
        if self.name == "http":
            with self.bank.open() as url:
                yield url
        else:
            script = '\n[tenants.contoso]\nscript = ["approve", "decline: the card has expired"]\n'
            yield ledger(self.folder, '[default]\nper_month = { USD = "500.00" }\n' + script)

    def declines(self) -> None:
        self.bank.behaviour = decline  # the ledger's second answer says so already


def events(deployed: Deployment, count: int) -> dict[str, list[dict[str, Any]]]:
    """Type -> data of each, in order, of the one tenant; all of them as their schema promises."""
    found: dict[str, list[dict[str, Any]]] = {}
    for record in read(deployed, "account-events", lambda found: len(found) >= count):
        event = validate("account-events", record.value)
        assert event["subject"] == TENANT
        found.setdefault(event["type"].removeprefix("rater."), []).append(event["data"])
    return found


def applied(deployed: Deployment, until: str) -> list[str]:
    """The ids of the commands that the worker applied, as its journal has them word for word."""
    lines = read(deployed, "rater-journal", lambda found: any(until.encode() in record.value for record in found))
    return [json.loads(raw)["command_id"] for record in lines for _, raw in json.loads(record.value)["applied"]]


def settled(agents: list[AgentProcess]) -> None:
    for agent in agents:
        agent.wait(
            lambda status: all(p["outstanding"] == 0 for p in status["partitions"].values()), "nothing outstanding"
        )


def subjects(box: Mailbox, address: str) -> list[str]:
    return [str(message["Subject"]) for to, message in box.taken if to == address]


@pytest.mark.parametrize("name", ["ledger", "http"])
def test_a_call_brings_funds_and_mails_a_declined_card_stops_calls_a_top_up_restores_them(
    deployed: Deployment, tmp_path: Path, name: str
):
    provider = Provider(name, tmp_path)
    with Mailbox() as box, provider.open() as told, loop(deployed, box, told) as agents:
        deployed.feed("account-commands", opening(TENANT, CONTACTS))
        read(
            deployed, "account-events", lambda found: len(found) >= 1, more_s=0.0
        )  # contacts.set: the account is there

        deployed.feed("cdrs", [call(TENANT, 1, 2)])
        box.wait_for(2)
        seen = events(deployed, 3)
        (requested,), (succeeded,) = seen["recharge.requested"], seen["recharge.succeeded"]
        assert requested["balance_micros"] < TRIGGER
        assert succeeded["balance_micros"] == requested["balance_micros"] + AMOUNT
        assert succeeded["lot_id"] == f"{TENANT}:recharge:1"
        assert requested["balance_micros"] < FUNDS

        provider.declines()
        deployed.feed("cdrs", [call(TENANT, 2, 32)])
        box.wait_for(4)
        deployed.feed("cdrs", [call(TENANT, 3, 12)])
        box.wait_for(6)
        seen = events(deployed, 7)
        (failed,), (zero,), (blocked,) = seen["recharge.failed"], seen["balance.zero"], seen["service.blocked"]
        assert failed["reason"] == "the card has expired"
        assert 0 < failed["balance_micros"] < TRIGGER
        assert zero["balance_micros"] == blocked["balance_micros"] < 0

        deployed.feed("account-commands", [top_up(TENANT, 30_000_000)])
        box.wait_for(8)
        settled(agents)
        seen = events(deployed, 8)
        (restored,) = seen["service.restored"]
        assert restored["balance_micros"] == zero["balance_micros"] + 30_000_000

        ids = applied(deployed, "by-hand")
        assert [entry for entry in ids if "recharge" in entry] == [
            f"{TENANT}:recharge:1:approved",
            f"{TENANT}:recharge:2:declined",
        ]
        assert len(ids) == len(set(ids))
        assert subjects(box, ANNE) == [
            "contoso: $15.00 added to your calling credits", "contoso: recharge failed, please check the payment",
            "contoso: balance at zero, some calls are stopped", "contoso: calls are possible again",
        ]  # fmt: skip
        assert len(subjects(box, BERT)) == 4
        assert len(box.taken) == len(set(box.ids())) == 8
    if name == "http":
        assert provider.bank.taken == {f"{TENANT}:recharge:1": 1, f"{TENANT}:recharge:2": 1}


def test_the_benchmark_of_the_loop_counts_every_tenant_once(kafka: KafkaCluster, tmp_path: Path):
    lines = list(measure(kafka, tmp_path / "ledger", "ledger", Sizes(tenants=3, per_s=10.0, warm=1)))
    assert [line["name"] for line in lines] == [
        "call to funds, p50",
        "call to funds, p99",
        "call to mail, p50",
        "call to mail, p99",
    ]
    assert all(line["value"] > 0 and line["tenants"] == 3 for line in lines)
