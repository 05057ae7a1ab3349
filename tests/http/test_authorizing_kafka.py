"""May a call start, with everything real: switches over TLS, `rater api`, a worker, an Apache Kafka; and the worker killed in the middle."""

import asyncio
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.http.test_deployment import OPENED, SECRET, Answer, Client, serving
from tests.kafka.broker import KafkaCluster, free_ports
from tests.kafka.test_worker import read
from tests.kafka.workers import Deployment, Worker, ending

TENANT = "acme"
PRICE = 205_000  # ten minutes to New York by the example deck
ENOUGH_FOR = 7
CREDITS = b'{"command_id":"c2","tenant":"acme","type":"licence.assigned","at":"2026-11-01T00:00:00Z","user":"u-1","plan":"MCOPSTNC","country":"GB"}'
FUNDS = b'{"command_id":"c3","tenant":"acme","type":"funds.added","at":"2026-11-01T00:00:00Z","lot_id":"lot-1","amount_micros":%d}'
CALL = {
    "tenant": TENANT,
    "call_type": "user_out",
    "user": "u-1",
    "caller": "+442079460018",
    "callee": "+12125550123",
    "seconds": 600,
}
HELD = ("held_micros", "open_calls")


@dataclass
class Site:
    """A deployment with one worker and an API."""

    deployment: Deployment
    client: Client
    worker: Worker
    live: int  # port on which the API looks for the worker

    def ask(self, call_id: str, **fields: Any) -> Answer:
        return self.client.ask("POST", "/v1/authorize", CALL | {"call_id": call_id} | fields)

    def ask_all(self, call_ids: Sequence[str], **fields: Any) -> list[Answer]:
        with ThreadPoolExecutor(len(call_ids)) as switches:
            return list(switches.map(lambda call_id: self.ask(call_id, **fields), call_ids))

    def account(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.until(
            "GET", f"/v1/tenants/{TENANT}/account", lambda status, _: status == 200
        )
        return found

    def until_held(self, micros: int, calls: int) -> None:
        self.client.until(
            "GET", f"/v1/tenants/{TENANT}/account", lambda _, told: [told.get(name) for name in HELD] == [micros, calls]
        )


@contextmanager
def site(kafka: KafkaCluster, folder: Path, enough_for: int = ENOUGH_FOR) -> Iterator[Site]:
    deployment = Deployment(kafka.bootstrap, f"authorize-{os.getpid()}-{folder.name}", folder).create()
    live = free_ports(1)[0]
    worker = started(deployment, 1, live)
    with ending(worker), serving(deployment, [live]) as (client, log):
        worker.wait_running(2)
        deployment.feed("account-commands", [OPENED, CREDITS, FUNDS % (enough_for * PRICE)])
        client.until("GET", f"/v1/tenants/{TENANT}/balance", lambda _, told: told.get("account_version") == 3)
        client.until("GET", "/readyz", lambda status, _: status == 200)
        yield Site(deployment, client, worker, live)
    for written in (log.read_text(), worker.log()):
        for secret in (client.token.split("_", 2)[2], "+442079460018", "+12125550123"):
            assert secret not in written
        assert "Traceback" not in written


def started(deployment: Deployment, number: int, port: int) -> Worker:
    worker = deployment.worker(number, RATER_INTERNAL_SECRET=SECRET, RATER_WEB_PORT=str(port))
    worker.port = port
    return worker


def record(call_id: str, minutes: int) -> bytes:
    ended = f"2026-11-03T13:{minutes:02}:00Z"
    return json.dumps({
        "record_id": f"r-{call_id}", "tenant": TENANT, "call_id": call_id, "call_type": "user_out", "user": "u-1",
        "caller": "+442079460018", "callee": "+12125550123", "start": "2026-11-03T13:00:00Z", "answer": "2026-11-03T13:00:00Z",
        "end": ended, "billable_ms": 60_000 * minutes, "disposition": "answered",
    }).encode()  # fmt: skip


@dataclass
class Holds:
    """What the events say is held: the books of somebody who reads nothing else."""

    open: dict[str, int] = field(default_factory=dict)

    def follow(self, events: Sequence[dict[str, Any]], ended: Sequence[str] = ()) -> "Holds":
        for event in events:
            data = event["data"]
            if event["type"] == "rater.call.authorized":
                self.open[data["call_id"]] = data["amount_micros"]
            elif event["type"] in ("rater.authorization.expired", "rater.call.refused"):
                self.open.pop(data["call_id"], None)
        for call_id in ended:
            self.open.pop(call_id, None)
        return self


def events_of(site: Site, least: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = asyncio.run(read(site.deployment, "account-events", least))
    return [event for event in found if ".call." in event["type"] or "authorization" in event["type"]]


def test_fifty_calls_at_once_cannot_spend_the_credit_of_seven(kafka: KafkaCluster, tmp_path: Path):
    with site(kafka, tmp_path) as found:
        answers = found.ask_all([f"c-{n}" for n in range(50)])
        assert {status for status, _, _ in answers} == {200}
        told = [body for _, body, _ in answers]
        allowed = [body for body in told if body["allowed"]]
        assert len(allowed) == ENOUGH_FOR
        assert {(body["payer"], body["seconds"], body["held"]["amount_micros"]) for body in allowed} == {
            ("credits", 600, PRICE)
        }
        assert sorted(body["held_micros"] for body in allowed) == [PRICE * n for n in range(1, ENOUGH_FOR + 1)]
        assert {body["reason"] for body in told if not body["allowed"]} == {"no_credit"}
        assert {body["balance_micros"] for body in told} == {ENOUGH_FOR * PRICE}, "nothing is debited by a question"
        found.until_held(ENOUGH_FOR * PRICE, ENOUGH_FOR)

        # A record ends its hold and debits what the call cost: half of what was held is free again.
        done = allowed[0]["call_id"]
        found.deployment.feed("cdrs", [record(done, 5)])
        found.until_held((ENOUGH_FOR - 1) * PRICE, ENOUGH_FOR - 1)
        status, rest, _ = found.ask("after")
        assert (status, rest["allowed"], rest["seconds"], rest["held"]["amount_micros"]) == (200, True, 300, PRICE // 2)
        assert found.ask("one too many")[1]["reason"] == "no_credit"

        # The same call asked about again replaces what it held; it never adds to it.
        again = found.ask("after", seconds=60)[1]
        assert (again["allowed"], again["held"]["amount_micros"]) == (True, PRICE // 10)
        assert again["held_micros"] == (ENOUGH_FOR - 1) * PRICE + PRICE // 10

        events = events_of(found, 53)
        assert len({event["id"] for event in events}) == len(events)
        holds = Holds().follow(events, [done])
        account = found.account()
        assert [account[name] for name in HELD] == [sum(holds.open.values()), len(holds.open)]

        status, unknown, _ = found.ask("x", tenant="nobody")
        assert (status, unknown["detail"]) == (404, "no such tenant")
        status, wrong, _ = found.ask("x", user=None)
        assert (status, wrong["detail"].split(":")[0]) == (422, "body user")


def test_what_is_held_for_a_call_without_a_record_is_free_again_when_its_time_is_over(
    kafka: KafkaCluster, tmp_path: Path
):
    with site(kafka, tmp_path, 1) as found:
        assert found.ask("lost", hold_seconds=1)[1]["allowed"]
        refused = 0
        while not (told := found.ask("next")[1])["allowed"]:
            assert told["reason"] == "no_credit"
            refused += 1
        assert refused, "it was let go before its time"
        assert told["held_micros"] == PRICE
        [expired] = [event for event in events_of(found, 3) if event["type"] == "rater.authorization.expired"]
        assert (expired["data"]["call_id"], expired["data"]["amount_micros"]) == ("lost", PRICE)
        found.until_held(PRICE, 1)


def test_a_worker_killed_while_questions_wait_leaves_exactly_what_the_events_say(kafka: KafkaCluster, tmp_path: Path):
    with site(kafka, tmp_path, 40) as found:
        assert found.ask("before")[1]["allowed"]
        with ThreadPoolExecutor(24) as switches:
            waiting = [switches.submit(found.ask, f"c-{n}") for n in range(24)]
            found.worker.kill()
            answers = [one.result() for one in waiting]
        unanswered = [body for status, body, headers in answers if status == 503 and headers["retry-after"] == "1"]
        assert len(unanswered) + sum(status == 200 for status, _, _ in answers) == 24
        assert unanswered, "the worker was killed after it had answered everybody"
        assert all("decides by its own rule" in body["detail"] for body in unanswered)

        second = started(found.deployment, 2, found.live)
        with ending(second):
            second.wait_running(2)
            found.client.until("GET", "/readyz", lambda status, _: status == 200)
            told = found.ask_all([f"c-{n}" for n in range(24)])  # under the same call ids: nothing is held twice
            assert all(status == 200 and body["allowed"] for status, body, _ in told)
            holds = Holds().follow(events_of(found, 25))
            assert holds.open == dict.fromkeys(["before", *(f"c-{n}" for n in range(24))], PRICE)
            account = found.account()
            assert [account[name] for name in HELD] == [25 * PRICE, 25]
            assert second.stop() == 0
