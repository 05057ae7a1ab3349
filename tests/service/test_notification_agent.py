"""The agent as a process, on a real Apache Kafka, with a real SMTP server and a real HTTP receiver: events in, messages out."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from rater.doors.failpoints import NOTIFICATION_FAILPOINTS
from rater.doors.kafka.notification_topics import NOTIFICATION_TOPICS
from rater.doors.kafka.raw_topics import create_more
from rater.doors.kafka.topics import Wanted
from tests.kafka.broker import KafkaCluster
from tests.kafka.workers import Deployment, connection, ending
from tests.schema_check import validate
from tests.service.mailbox import Mailbox
from tests.service.notification_scene import ANNE, event, pool
from tests.service.processes import AgentProcess, deployment, read, start_agent, write

SECRET = "whsec_" + "b2xk" * 10
TENANT = "contoso"


@pytest.fixture
def deployed(kafka: KafkaCluster, tmp_path: Path) -> Deployment:
    made = deployment(kafka, tmp_path, partitions=2)
    wanted = Wanted(made.partitions, made.replicas, None)
    asyncio.run(create_more(connection(made.bootstrap), made.prefix, NOTIFICATION_TOPICS, wanted))
    return made


@pytest.fixture
def box() -> Iterator[Mailbox]:
    with Mailbox() as opened:
        yield opened


def start(deployed: Deployment, box: Mailbox, number: int = 0, **extra: str) -> AgentProcess:
    settings = {
        "RATER_NOTIFICATION_MAIL_HOST": "127.0.0.1", "RATER_NOTIFICATION_MAIL_PORT": str(box.port),
        "RATER_NOTIFICATION_MAIL_SECURITY": "none", "RATER_NOTIFICATION_MAIL_FROM": "calling@example.com",
    }  # fmt: skip
    return start_agent(deployed, ("rater", "notification-agent"), "notification", number, **settings | extra)


def tell(deployed: Deployment, *events: bytes) -> None:
    """As a worker writes them: in transactions, keyed by the tenant."""
    write(deployed, "account-events", (True, [(json.loads(body)["subject"], body) for body in events]))


def contacts(*items: dict[str, object], tenant: str = TENANT) -> bytes:
    return event("contacts.set", 1, tenant, contacts=list(items))


def undelivered(deployed: Deployment, count: int) -> list[dict[str, object]]:
    records = read(deployed, "undelivered-notifications", lambda found: len(found) >= count)
    return [validate("undelivered-notifications", record.value) for record in records]


def wait_done(agent: AgentProcess) -> None:
    """Everything read is acknowledged."""
    agent.wait(
        lambda status: (
            status["partitions"]
            and all(held["caught_up"] and not held["outstanding"] for held in status["partitions"].values())
        ),
        "nothing outstanding",
    )


def test_an_event_that_was_delivered_a_hundred_times_is_one_mail(deployed: Deployment, box: Mailbox):
    tell(deployed, contacts(ANNE), *[event("recharge.failed", 1, recharge_id="r", reason="the card has expired", failures=1,
                                           next_attempt_after="2026-11-03T13:47:47.250Z")] * 100)  # fmt: skip
    agent = start(deployed, box)
    with ending(agent):
        box.wait_for(1)
        wait_done(agent)
        assert box.subjects() == ["contoso: recharge failed, please check the payment"]
        metrics = agent.get("/metrics")[1].decode()
        assert 'rater_notification_sent_total{channel="email",kind="recharge_failed"} 1.0' in metrics
        assert "rater_notification_pending 0.0" in metrics
        assert agent.stop() == 0
    again = start(deployed, box, RATER_NOTIFICATION_STORM_MESSAGES="5")
    with ending(again):
        tell(deployed, event("recharge.succeeded", 2, recharge_id="r", lot_id="r", amount_micros=5_000_000))
        box.wait_for(2)
        wait_done(again)
    assert len(box.taken) == 2


AFTER_SETTLING = {"notify-after-record", "notify-after-acknowledge"}


@pytest.mark.parametrize("failpoint", [name for name in NOTIFICATION_FAILPOINTS if name != "notify-after-undelivered"])
def test_killed_anywhere_each_event_is_told_under_one_name(deployed: Deployment, box: Mailbox, failpoint: str):
    """A second time only where the server had it and the outbox could not know; never again once it was recorded."""
    digest = failpoint == "notify-digest-recorded"
    storm = {"RATER_NOTIFICATION_STORM_MESSAGES": "1", "RATER_NOTIFICATION_STORM_WAIT_S": "1"} if digest else {}
    tell(deployed, contacts(ANNE), *[pool(n) for n in range(3 if digest else 1)])
    first = start(deployed, box, RATER_FAILPOINT=failpoint, **storm)
    with ending(first):
        assert first.ended() == -9
    before = len(box.taken)
    assert before == int(digest or failpoint == "notify-after-send" or failpoint in AFTER_SETTLING)
    second = start(deployed, box, **storm)
    with ending(second):
        if failpoint not in AFTER_SETTLING:
            box.wait_for(before + 1)
        wait_done(second)
    assert len(set(box.ids())) == (2 if digest else 1)
    assert len(box.taken) == (2 if digest or failpoint == "notify-after-send" else 1)


def test_killed_while_it_gives_up_nothing_is_given_up_in_silence(deployed: Deployment, box: Mailbox):
    box.refuse["anne@example.com"] = "550 5.1.1 unknown"
    tell(deployed, contacts(ANNE), pool(0))
    first = start(deployed, box, RATER_FAILPOINT="notify-after-undelivered")
    with ending(first):
        assert first.ended() == -9
    second = start(deployed, box)
    with ending(second):
        told = undelivered(deployed, 2)  # published, killed, published again
        wait_done(second)
    assert len({(item["event_id"], item["message"]) for item in told}) == 1
    assert {item["reason"] for item in told} == {"address_refused"}


def test_a_mail_server_that_is_down_delays_the_mails_and_not_the_reading(deployed: Deployment, box: Mailbox):
    box.close()
    tenants = [f"t{n}" for n in range(20)]
    tell(deployed, *[contacts(ANNE, tenant=tenant) for tenant in tenants])
    tell(deployed, *[event("service.restored", 1, tenant, call_types=["user_out"]) for tenant in tenants])
    agent = start(deployed, box)
    with ending(agent):
        agent.wait_caught_up(4)  # both topics, both partitions
        assert b"rater_notification_pending 20.0" in agent.get("/metrics")[1]
        agent.kill()  # and what is pending survives that, too
        second = start(deployed, box)
        with ending(second):
            second.wait_caught_up(4)
            box.open()
            box.wait_for(20)
            wait_done(second)
    assert len(set(box.ids())) == len(box.taken) == 20


def test_an_address_that_is_refused_is_told_to_the_operator_and_holds_up_nobody(deployed: Deployment, box: Mailbox):
    box.refuse["gone@example.com"] = "550 5.1.1 no such user"
    tell(deployed, contacts({"email": "gone@example.com"}, ANNE), event("service.restored", call_types=["user_out"]))
    agent = start(deployed, box)
    with ending(agent):
        (told,) = undelivered(deployed, 1)
        wait_done(agent)
    assert told["event_id"] == "contoso/service.restored/1"
    assert told["recipient"] == "gone@example.com"
    assert (told["channel"], told["reason"], told["attempts"]) == ("email", "address_refused", 1)
    assert "550 5.1.1" in str(told["detail"])
    assert [address for address, _ in box.taken] == ["anne@example.com"]
    assert "example.com" not in agent.log().replace("calling@example.com", "")


def test_a_storm_becomes_a_digest(deployed: Deployment, box: Mailbox):
    tell(deployed, contacts(ANNE, {"email": "bert@example.com", "language": "fr"}), *[pool(n) for n in range(1_000)])
    agent = start(deployed, box, RATER_NOTIFICATION_STORM_MESSAGES="3", RATER_NOTIFICATION_STORM_WAIT_S="3")
    with ending(agent):
        box.wait_for(8)
        wait_done(agent)
    by_recipient = {address: [str(m["Subject"]) for a, m in box.taken if a == address] for address, _ in box.taken}
    assert by_recipient["anne@example.com"][-1] == "contoso: 997 notifications in one"
    assert by_recipient["bert@example.com"][-1] == "contoso : 997 notifications en un message"
    assert len(box.taken) == 8


def test_a_process_that_takes_over_knows_the_contacts_and_tells_what_is_open(deployed: Deployment, box: Mailbox):
    first = start(deployed, box, 0)
    with ending(first):
        tell(deployed, contacts(ANNE), event("service.restored", 1, call_types=["user_out"]))
        box.wait_for(1)
        wait_done(first)
        first.kill()
    second = start(deployed, box, 1)  # another machine, with an empty folder
    with ending(second):
        tell(deployed, event("service.restored", 2, call_types=["user_out"]))
        box.wait_for(2)
        wait_done(second)
    assert len(set(box.ids())) == 2


class Receiver(BaseHTTPRequestHandler):
    got: list[tuple[dict[str, str], bytes]]
    answers: list[int]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.got.append((dict(self.headers), body))
        self.send_response(self.answers.pop(0) if self.answers else 204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_webhook_gets_the_event_signed_and_again_under_the_same_id_when_it_failed(
    deployed: Deployment, box: Mailbox, tmp_path: Path
):
    handler = type("Handler", (Receiver,), {"got": [], "answers": [500]})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    secrets = tmp_path / "webhooks.toml"
    secrets.write_text(f'[{TENANT}]\nsecrets = ["{SECRET}"]\n', "utf-8")
    secrets.chmod(0o600)
    body = event("recharge.requested", 1, recharge_id="r", amount_micros=5)
    tell(deployed, contacts({"webhook": f"http://127.0.0.1:{server.server_port}/hook"}), body)
    agent = start(
        deployed, box, RATER_NOTIFICATION_WEBHOOK_SECRETS=str(secrets), RATER_NOTIFICATION_WEBHOOK_ALLOW_PRIVATE="true"
    )
    try:
        with ending(agent):
            agent.wait_caught_up(4)
            wait_done(agent)
    finally:
        server.shutdown()
        server.server_close()
    assert [got for _, got in handler.got] == [body, body]
    assert len({headers["webhook-id"] for headers, _ in handler.got}) == 1
    Webhook(SECRET).verify(body, handler.got[-1][0])


def test_a_webhook_into_the_private_network_is_given_up_unsent(deployed: Deployment, box: Mailbox, tmp_path: Path):
    secrets = tmp_path / "webhooks.toml"
    secrets.write_text(f'[{TENANT}]\nsecrets = ["{SECRET}"]\n', "utf-8")
    secrets.chmod(0o600)
    tell(deployed, contacts({"webhook": "https://169.254.169.254/latest"}), event("recharge.requested", 1))
    agent = start(deployed, box, RATER_NOTIFICATION_WEBHOOK_SECRETS=str(secrets))
    with ending(agent):
        (told,) = undelivered(deployed, 1)
    assert told["reason"] == "address_refused"


def test_a_broken_template_is_refused_at_the_start_by_file_and_line(deployed: Deployment, box: Mailbox, tmp_path: Path):
    broken = tmp_path / "templates" / "en" / "balance_zero.txt"
    broken.parent.mkdir(parents=True)
    broken.write_text("{% block subject %}x{% endblock %}\n{{ data.balance_mikros }}\n", "utf-8")
    agent = start(deployed, box, RATER_NOTIFICATION_TEMPLATES=str(tmp_path / "templates"))
    with ending(agent):
        assert agent.ended() == 2
    assert "balance_zero.txt line 2: " in agent.log()
    assert "Traceback" not in agent.log()
