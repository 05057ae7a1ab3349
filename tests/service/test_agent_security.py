"""An agent on a cluster that asks who it is: SASL over TLS, with the rights that docs/recharge.md gives and no others."""

import asyncio
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from rater.doors.kafka.topics import Wanted, create_topics
from rater.doors.settings.connection import Connection
from tests.kafka.broker import KafkaCluster, run_tool
from tests.kafka.test_security import LISTENERS, PASSWORD, USER, WITH_USER, Certificates, certificates, secured
from tests.kafka.workers import ROOT, Deployment, ending
from tests.service.processes import committed, read, start_agent, write
from tests.service.recharge_scene import ledger_settings, requested

__all__ = ["certificates"]

LEDGER = '[default]\nper_month = { USD = "30.00" }\n'


class Unprefixed(Deployment):
    """The documented rights name the topics as they are."""

    @property
    def prefix(self) -> str:
        return ""


@pytest.fixture
def guarded(broker_possible: None, certificates: Certificates) -> Iterator[KafkaCluster]:
    with KafkaCluster(properties=secured(certificates), listeners=LISTENERS, format_options=WITH_USER) as cluster:
        operator = Connection(bootstrap_servers=(cluster.bootstrap_of("INTERNAL"),))
        asyncio.run(create_topics(operator, "", Wanted(1, 1)))
        yield cluster


def give_rights(kafka: KafkaCluster) -> None:
    block = re.search(r"```acl\n(.*?)```", (ROOT / "docs" / "recharge.md").read_text(), re.DOTALL)
    assert block is not None
    for line in block[1].splitlines():
        tool, *arguments = shlex.split(line)
        assert (tool, arguments[:4]) == (
            "kafka-acls",
            ["--bootstrap-server", "$BOOTSTRAP", "--command-config", "admin.properties"],
        )
        run_tool(
            "org.apache.kafka.tools.AclCommand", "--bootstrap-server", kafka.bootstrap_of("INTERNAL"), *arguments[4:]
        )


@pytest.mark.kafka
def test_an_agent_recharges_over_sasl_and_tls_with_the_documented_rights(
    guarded: KafkaCluster, certificates: Certificates, tmp_path: Path
):
    inside = Unprefixed(guarded.bootstrap_of("INTERNAL"), "rating-eu", tmp_path, partitions=1)
    write(inside, "account-events", (True, [("acme", requested("acme"))]))
    secret = tmp_path / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o600)
    login = {
        "RATER_BOOTSTRAP_SERVERS": guarded.bootstrap_of("SCRAMTLS"), "RATER_TOPIC_PREFIX": "", "RATER_APP_ID": "rating-eu",
        "RATER_SECURITY_PROTOCOL": "SASL_SSL", "RATER_SASL_MECHANISM": "SCRAM-SHA-512", "RATER_SASL_USERNAME": USER,
        "RATER_SASL_PASSWORD_FILE": str(secret), "RATER_SSL_CA_FILE": str(certificates / "ca.pem"),
        **ledger_settings(tmp_path, LEDGER),
    }  # fmt: skip
    without = start_agent(inside, ("rater", "recharge-agent"), number=1, **login)
    with ending(without):
        assert without.ended() == 2
        assert "the broker does not allow this user to Describe topic account-" in without.log()
    give_rights(guarded)
    agent = start_agent(inside, ("rater", "recharge-agent"), number=2, **login)
    with ending(agent):
        agent.wait_caught_up(1)
        (command,) = read(inside, "account-commands", lambda found: len(found) >= 1)
        agent.wait(
            lambda status: all(p["outstanding"] == 0 for p in status["partitions"].values()), "nothing outstanding"
        )
        assert agent.stop() == 0
    assert json.loads(command.value)["command_id"] == "acme:recharge:1:approved"
    assert committed(inside, "rating-eu-recharge", "account-events") == {0: 2}
    assert PASSWORD not in agent.log() + without.log()
