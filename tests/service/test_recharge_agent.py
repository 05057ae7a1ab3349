"""The recharge agent on a real Apache Kafka: one payment a recharge, whatever is killed and however often an event comes."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from rater.doors.clock import wall_ms
from rater.doors.failpoints import RECHARGE_FAILPOINTS
from tests.kafka.broker import KafkaCluster
from tests.kafka.workers import Deployment, ending
from tests.service.bank import Bank, approve, callback, decline, pend, take_more
from tests.service.processes import AgentProcess, committed, deployment, read, start_agent, write
from tests.service.recharge_scene import ledger_settings, requested, start_recharge_agent, succeeded

ACME = "acme:recharge:1"


@pytest.fixture
def deployed(kafka: KafkaCluster, tmp_path: Path) -> Deployment:
    return deployment(kafka, tmp_path, partitions=1)


def commands(deployed: Deployment, count: int = 1) -> list[dict[str, Any]]:
    found = read(deployed, "account-commands", lambda found: len(found) >= count)
    return [json.loads(record.value) for record in found]


def ask_for(deployed: Deployment, *events: bytes) -> None:
    write(deployed, "account-events", *((True, [("acme", event)]) for event in events))


def everything_committed(deployed: Deployment, agent: AgentProcess) -> None:
    agent.wait(lambda status: all(p["outstanding"] == 0 for p in status["partitions"].values()), "nothing outstanding")
    assert agent.stop() == 0
    assert committed(deployed, f"{deployed.name}-recharge", "account-events")[0] is not None


@pytest.mark.parametrize("failpoint", RECHARGE_FAILPOINTS)
def test_killed_between_any_two_steps_one_payment_and_one_command(deployed: Deployment, failpoint: str):
    bank = Bank()
    with bank.open() as url:
        first = start_recharge_agent(deployed, url, RATER_FAILPOINT=failpoint)
        with ending(first):
            first.wait_caught_up(1)
            ask_for(deployed, requested("acme"))
            assert first.ended() == -9
        second = start_recharge_agent(deployed, url)
        with ending(second):
            second.wait_caught_up(1)
            found = commands(deployed)
            everything_committed(deployed, second)
    assert (bank.taken, bank.asked) == ({ACME: 1}, [ACME]), "one payment, and nobody was asked twice"
    assert {command["command_id"] for command in found} == {f"{ACME}:approved"}
    assert len({json.dumps(command) for command in found}) == 1, "the same bytes each time"


@pytest.mark.parametrize(
    "failpoint", ["recharge-intended", "recharge-answered", "recharge-settled", "recharge-published"]
)
def test_killed_and_its_disk_lost_the_provider_is_asked_about_it_first(deployed: Deployment, failpoint: str):
    bank = Bank()
    with bank.open() as url:
        first = start_recharge_agent(deployed, url, number=1, RATER_FAILPOINT=failpoint)
        with ending(first):
            first.wait_caught_up(1)
            ask_for(deployed, requested("acme"))
            assert first.ended() == -9
        posts = len(bank.asked)
        second = start_recharge_agent(deployed, url, number=2)
        with ending(second):
            second.wait_caught_up(1)
            found = commands(deployed)
            everything_committed(deployed, second)
    assert bank.taken == {ACME: 1}
    assert bank.inquired == [ACME]
    assert len(bank.asked) == max(posts, 1), "asked again only where the provider had never heard of it"
    assert len({json.dumps(command) for command in found}) == 1


def test_an_event_delivered_a_hundred_times_is_paid_once(deployed: Deployment):
    bank = Bank()
    with bank.open() as url:
        agent = start_recharge_agent(deployed, url)
        with ending(agent):
            write(deployed, "account-events", *((True, [("acme", requested("acme"))] * 10) for _ in range(5)))
            agent.wait_caught_up(1)
            write(deployed, "account-events", *((True, [("acme", requested("acme"))] * 10) for _ in range(5)))
            found = commands(deployed)
            everything_committed(deployed, agent)
    assert (bank.taken, bank.asked) == ({ACME: 1}, [ACME])
    assert [command["command_id"] for command in found] == [f"{ACME}:approved"]


def test_a_pending_payment_survives_a_kill_and_is_settled_by_a_signed_callback_once(deployed: Deployment):
    bank = Bank()
    bank.behaviour = pend
    with bank.open() as url:
        first = start_recharge_agent(deployed, url)
        with ending(first):
            first.wait_caught_up(1)
            ask_for(deployed, requested("acme"))
            first.wait(lambda _: open_states(first) == ["pending"], "a pending payment")
            first.kill()
        second = start_recharge_agent(deployed, url)
        with ending(second):
            second.wait_caught_up(1)
            second.wait(lambda _: open_states(second) == ["pending"], "the same pending payment")
            answer = approve({"amount_micros": 15_000_000, "currency": "USD", "recharge_id": ACME})[1]
            headers, body = callback(ACME, answer, wall_ms() // 1000)
            assert post(second, headers | {"X-Rater-Signature": "v1=00"}, body) == 401
            assert post(second, headers, body) == 200
            assert post(second, headers, body) == 200
            assert post(second, *callback("nobody:recharge:1", answer, wall_ms() // 1000)) == 404
            found = commands(deployed)
            everything_committed(deployed, second)
    assert (bank.taken, bank.asked) == ({ACME: 1}, [ACME])
    assert [command["command_id"] for command in found] == [f"{ACME}:approved"]


def test_a_provider_that_is_down_and_then_hangs_up_delays_and_loses_nothing(deployed: Deployment):
    bank = Bank()
    bank.down = True
    bank.behaviour = lambda _asked: None  # takes the money and says nothing
    with bank.open() as url:
        agent = start_recharge_agent(deployed, url)
        with ending(agent):
            agent.wait_caught_up(1)
            ask_for(deployed, requested("acme"))
            agent.wait(lambda _: "looked at again in" in agent.log(), "an unclear payment")
            assert open_states(agent) == ["asking"]
            bank.down = False
            found = commands(deployed)
            everything_committed(deployed, agent)
    assert bank.taken == {ACME: 1}
    assert [command["command_id"] for command in found] == [f"{ACME}:approved"]


def test_brokers_that_are_away_delay_what_is_settled_and_lose_nothing(broker_possible: None, tmp_path: Path):
    bank = Bank()
    bank.behaviour = pend
    with KafkaCluster() as own, bank.open() as url:
        deployed = deployment(own, tmp_path, partitions=1)
        agent = start_recharge_agent(deployed, url, RATER_REQUEST_TIMEOUT_MS="1000")
        with ending(agent):
            agent.wait_caught_up(1)
            ask_for(deployed, requested("acme"))
            agent.wait(lambda _: open_states(agent) == ["pending"], "a pending payment")
            own.kill()
            answer = approve({"amount_micros": 15_000_000, "currency": "USD", "recharge_id": ACME})[1]
            assert post(agent, *callback(ACME, answer, wall_ms() // 1000)) == 200
            agent.wait(lambda _: "not confirmed by the brokers" in agent.log(), "a command that waits")
            own.restart()
            found = commands(deployed)
            agent.wait_caught_up(1)
            ask_for(deployed, requested("acme", 2))
            agent.wait(lambda _: open_states(agent) == ["pending"], "the next one")
    assert bank.taken == {ACME: 1, "acme:recharge:2": 1}
    assert len({json.dumps(command) for command in found}) == 1


def test_a_provider_that_takes_another_amount_is_found_out_and_no_funds_are_added(deployed: Deployment):
    bank = Bank()
    bank.behaviour = take_more
    with bank.open() as url:
        agent = start_recharge_agent(deployed, url)
        with ending(agent):
            agent.wait_caught_up(1)
            ask_for(deployed, requested("acme"))
            (command,) = commands(deployed)
            to_do = json.loads(agent.get("/recharges")[1])["to_do"]
            metrics = agent.get("/metrics")[1].decode()
            everything_committed(deployed, agent)
    assert command["type"] == "recharge.failed"
    assert "took 20.00 USD where 15.00 USD was asked (payment pay-acme:recharge:1)" in command["reason"]
    assert [entry["what"] for entry in to_do] == [
        f"{ACME}: refund payment pay-{ACME}: 20.00 USD was taken where 15.00 USD was asked"
    ]
    assert 'rater_recharge_outcomes_total{outcome="wrong"} 1.0' in metrics


def test_a_request_whose_outcome_stands_in_the_log_is_not_asked_for_again(deployed: Deployment):
    bank = Bank()
    ask_for(deployed, requested("acme"), succeeded("acme"))
    with bank.open() as url:
        agent = start_recharge_agent(deployed, url)
        with ending(agent):
            agent.wait_caught_up(1)
            ask_for(deployed, requested("acme", 2))
            (command,) = commands(deployed)
            everything_committed(deployed, agent)
    assert bank.asked == ["acme:recharge:2"]
    assert command["recharge_id"] == "acme:recharge:2"


def test_the_switch_works_without_a_restart_and_what_cannot_be_read_lets_nothing_through(deployed: Deployment):
    bank, guards = Bank(), deployed.folder / "guards.toml"
    guards.write_text("per_hour_max = 2\n")
    with bank.open() as url:
        agent = start_recharge_agent(deployed, url, RATER_RECHARGE_GUARDS=str(guards))
        with ending(agent):
            agent.wait_caught_up(1)
            guards.write_text("per_hour_max = two\n")
            ask_for(deployed, requested("acme"))
            agent.wait(lambda _: "nothing is asked for until they can" in agent.log(), "a request that waits")
            assert bank.asked == []
            guards.write_text('[tenants.beta]\nenabled = false\nwhy = "ticket 4711"\n')
            assert commands(deployed, 1)[0]["type"] == "funds.added"
            write(deployed, "account-events", (True, [("beta", requested("beta"))]))
            refused = commands(deployed, 2)[1]
            metrics = agent.get("/metrics")[1].decode()
            everything_committed(deployed, agent)
    assert refused["reason"].startswith("not asked: recharges of beta are switched off (ticket 4711)")
    assert 'rater_recharge_refusals_total{reason="tenant_switched_off"} 1.0' in metrics
    assert bank.asked == [ACME]


def test_forty_recharges_with_every_kind_of_answer_and_six_kills_are_paid_once_and_answered_each(deployed: Deployment):
    bank, tenants = Bank(), [f"t{number:02d}" for number in range(40)]
    kinds = [approve, decline, pend, take_more, lambda _asked: None]
    bank.behaviour = lambda asked: kinds[int(asked["tenant"][1:]) % len(kinds)](asked)
    write(deployed, "account-events", *((True, [(tenant, requested(tenant))]) for tenant in tenants))
    kills = [
        "recharge-heard:30",
        "recharge-intended:3",
        "recharge-answered:9",
        "recharge-settled:7",
        "recharge-published:5",
        "recharge-recorded:11",
    ]
    with bank.open() as url:
        for number, failpoint in enumerate(kills):
            agent = start_recharge_agent(deployed, url, number=number % 2, RATER_FAILPOINT=failpoint)
            with ending(agent):
                assert agent.ended() == -9
        for key, (status, answer) in list(bank.answers.items()):
            if status == 202:
                bank.answers[key] = approve(
                    answer | {"recharge_id": key, "amount_micros": 15_000_000, "currency": "USD"}
                )
        bank.behaviour = lambda asked: kinds[:2][int(asked["tenant"][1:]) % 2](asked)
        last = start_recharge_agent(deployed, url, number=1)
        with ending(last):
            last.wait_caught_up(1)
            last.wait(lambda _: open_states(last) == [], "nothing open")
            everything_committed(deployed, last)
    told = commands(deployed, len(tenants))
    by_recharge: dict[str, set[str]] = {}
    for command in told:
        by_recharge.setdefault(command["recharge_id"], set()).add(json.dumps(command))
    assert sorted(by_recharge) == [f"{tenant}:recharge:1" for tenant in tenants]
    assert bank.taken == dict.fromkeys(by_recharge, 1)
    for recharge_id, commands_of_it in by_recharge.items():
        verdicts = {json.loads(command)["command_id"].rsplit(":", 1)[1] for command in commands_of_it}
        said = bank.answers[recharge_id][1]
        paid = said["status"] == "approved" and said["amount_micros"] == 15_000_000
        assert verdicts == {"approved" if paid else "declined"}, said


def test_from_a_call_record_to_the_funds_in_the_wallet(deployed: Deployment):
    worker = deployed.worker()
    agent = start_agent(deployed, ("rater", "recharge-agent"),
                        **ledger_settings(deployed.folder, '[default]\nper_month = { USD = "30.00" }\n'))  # fmt: skip
    with ending(worker, agent):
        worker.wait_running(1)
        agent.wait_caught_up(1)
        deployed.feed("account-commands", ACCOUNT)
        worker.wait(lambda status: status["counts"]["commands"] >= 4, "4 commands")
        deployed.feed("cdrs", [CALL])
        events = read(
            deployed, "account-events", lambda found: any(b"recharge.succeeded" in one.value for one in found)
        )
        assert agent.stop() == 0
        assert worker.stop() == 0
    told = [json.loads(record.value) for record in events]
    done = next(event for event in told if event["type"] == "rater.recharge.succeeded")
    assert done["data"]["recharge_id"] == done["data"]["lot_id"] == ACME
    asked = next(event for event in told if event["type"] == "rater.recharge.requested")
    assert done["data"]["balance_micros"] == asked["data"]["balance_micros"] + 15_000_000


ACCOUNT = [
    b'{"command_id":"c1","tenant":"acme","type":"tenant.opened","at":"2026-11-01T00:00:00Z","country":"GB","currency":"USD",'
    b'"billing_mode":"prepaid"}',
    b'{"command_id":"c2","tenant":"acme","type":"licence.assigned","at":"2026-11-01T00:00:00Z","user":"u-1","plan":"MCOPSTNC",'
    b'"country":"GB"}',
    b'{"command_id":"c3","tenant":"acme","type":"funds.added","at":"2026-11-01T00:00:00Z","lot_id":"lot-1",'
    b'"amount_micros":5000000}',
    b'{"command_id":"c4","tenant":"acme","type":"recharge.configured","at":"2026-11-01T00:00:00Z","enabled":true,'
    b'"trigger_micros":5000000,"amount_micros":15000000}',
]
CALL = (
    b'{"record_id":"r-1","tenant":"acme","call_type":"user_out","user":"u-1","caller":null,"callee":"+12125550123",'
    b'"start":"2026-11-03T13:30:00Z","answer":"2026-11-03T13:30:00Z","end":"2026-11-03T13:32:00Z","billable_ms":120000,'
    b'"disposition":"answered"}'
)


def open_states(agent: AgentProcess) -> list[str]:
    return [one["state"] for one in json.loads(agent.get("/recharges")[1])["open"]]


def post(agent: AgentProcess, headers: dict[str, str], body: bytes) -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{agent.port}/recharge/callback", body, headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code
