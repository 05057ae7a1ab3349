"""A broker that asks who we are and what we may: SCRAM, mutual TLS, and the ACLs of docs/operations.md, each of them needed.

The rights are those that the commands in the documentation give; what is done with them is what a worker does.
"""

import asyncio
import re
import shlex
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest

from rater.doors.kafka.admin import open_admin
from rater.doors.kafka.client import KafkaLog
from rater.doors.kafka.log import LogProblem, Place, Refused
from rater.doors.kafka.names import INPUTS, JOURNAL, STATE, TOPICS
from rater.doors.kafka.record_batches import frame_few
from rater.doors.kafka.topics import Wanted, check_topics, create_topics
from rater.doors.settings.connection import Connection
from rater.doors.settings.secret import Secret
from tests.kafka.broker import KafkaCluster, run_tool
from tests.kafka.signing import authority, certificate, openssl

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
APP_ID, USER, PASSWORD = "rating-eu", "rater", "a password of the test"
SCRAM_LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
UNIT_S = 60.0


# ------------------------------------------------------------------------------------------------ a cluster that asks


@dataclass(frozen=True)
class Certificates:
    """One authority; a broker's certificate for 127.0.0.1, a worker's, and what a stranger would have."""

    folder: Path

    def __truediv__(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("tls")
    authority(folder, "ca")
    authority(folder, "stranger-ca")
    certificate(folder, "broker", "ca", "IP:127.0.0.1")
    certificate(folder, "misnamed", "ca", "DNS:kafka.example.net")
    certificate(folder, USER, "ca", f"DNS:{USER}")
    certificate(folder, "stranger", "stranger-ca", "DNS:stranger")
    openssl(
        folder, "rsa", "-aes256", "-in", f"{USER}.key", "-out", f"{USER}.locked.key", "-passout", f"pass:{PASSWORD}"
    )
    (folder / f"{USER}.locked.key").chmod(0o600)
    return Certificates(folder)


def secured(certificates: Certificates, server: str = "broker") -> dict[str, str]:
    """Broker properties; INTERNAL and CONTROLLER are plain and may do everything: they are the operator's way in."""
    return {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "allow.everyone.if.no.acl.found": "false",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.scramtls.scram-sha-512.sasl.jaas.config": SCRAM_LOGIN,
        "listener.name.scram.scram-sha-512.sasl.jaas.config": SCRAM_LOGIN,
        "listener.name.mutual.ssl.client.auth": "required",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(certificates / f"{server}.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(certificates / "ca.pem"),
        "ssl.principal.mapping.rules": "RULE:^CN=([^,]+)$/$1/",
    }


LISTENERS = {"SCRAMTLS": "SASL_SSL", "SCRAM": "SASL_PLAINTEXT", "MUTUAL": "SSL"}
WITH_USER = ("--add-scram", f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]")


@pytest.fixture(scope="module")
def secure_kafka(broker_possible: None, certificates: Certificates) -> Iterator[KafkaCluster]:
    """All topics, and the rights that the documentation's commands give."""
    with KafkaCluster(properties=secured(certificates), listeners=LISTENERS, format_options=WITH_USER) as cluster:
        operator = Connection(bootstrap_servers=(cluster.bootstrap_of("INTERNAL"),))
        asyncio.run(create_topics(operator, "", Wanted(1, 1)))
        for command in documented_commands():
            run_tool(
                "org.apache.kafka.tools.AclCommand", "--bootstrap-server", cluster.bootstrap_of("INTERNAL"), *command
            )
        yield cluster


def documented_commands() -> list[list[str]]:
    """The arguments of the documentation's kafka-acls commands, but for how to reach the cluster."""
    block = re.search(r"```acl\n(.*?)```", OPERATIONS.read_text(), re.DOTALL)
    assert block is not None
    commands = [shlex.split(line) for line in block[1].splitlines()]
    reach = ["kafka-acls", "--bootstrap-server", "$BOOTSTRAP", "--command-config", "admin.properties"]
    assert all(command[:5] == reach for command in commands)
    return [command[5:] for command in commands]


def by_scram(kafka: KafkaCluster, certificates: Certificates) -> Connection:
    return Connection(
        bootstrap_servers=(kafka.bootstrap_of("SCRAMTLS"),), security_protocol="SASL_SSL", sasl_mechanism="SCRAM-SHA-512",
        sasl_username=USER, sasl_password=Secret(PASSWORD), ssl_ca_file=certificates / "ca.pem",
    )  # fmt: skip


def by_certificate(kafka: KafkaCluster, certificates: Certificates) -> Connection:
    return Connection(
        bootstrap_servers=(kafka.bootstrap_of("MUTUAL"),), security_protocol="SSL", ssl_ca_file=certificates / "ca.pem",
        ssl_cert_file=certificates / f"{USER}.crt", ssl_key_file=certificates / f"{USER}.key",
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ what a worker does


async def work(connection: Connection) -> None:
    """Every kind of request of a worker, once: check, join, restore, one transaction with all outputs, resume."""
    assert await check_topics(connection, "") == 1
    log = KafkaLog(connection.client_arguments(), deadline_s=8.0)
    reader = await log.open_reader()
    writer = await log.open_writer(f"{APP_ID}-0")
    try:
        for topic in (STATE, JOURNAL):
            _, end = await reader.bounds(Place(topic, 0))
            await reader.read(Place(topic, 0), end)
        await _one_transaction(writer)
        await _read_as_member(log)
    finally:
        await writer.close()
        await reader.close()
        await log.close()


async def _one_transaction(writer: Any) -> None:
    await writer.begin()
    for topic in TOPICS:
        ((body, count),) = frame_few([(b"tenant", b"{}", ())])
        await writer.write(Place(topic, 0), body, count)
    await writer.write_offsets(APP_ID, {Place(topic, 0): 0 for topic in INPUTS})
    await writer.commit()


async def _read_as_member(log: KafkaLog) -> None:
    joined = asyncio.Event()

    async def assigned(_: frozenset[int]) -> None:
        joined.set()

    async def revoked(_: frozenset[int]) -> None: ...

    member = await log.join(APP_ID, INPUTS, None, assigned, revoked)
    try:
        places = [Place(topic, 0) for topic in INPUTS]
        while not joined.is_set():
            await member.fetch(places, 1 << 20, 0.1)
        for place in places:
            assert await member.committed(place) == 0
            member.seek(place, 0)
        member.resume(places)
        left = set(places)
        while left:
            left -= set(await member.fetch(sorted(left), 1 << 20, 0.1))
    finally:
        await member.close()


def run(work_of: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(UNIT_S):
            await work_of()

    asyncio.run(bounded())


@pytest.mark.parametrize("way", [by_scram, by_certificate])
def test_with_the_documented_rights_a_worker_can_do_all_it_does(
    secure_kafka: KafkaCluster, certificates: Certificates, way: Callable[[KafkaCluster, Certificates], Connection]
) -> None:
    run(lambda: work(way(secure_kafka, certificates)))


def test_scram_without_tls_works_on_loopback(secure_kafka: KafkaCluster, certificates: Certificates) -> None:
    plain = replace(by_scram(secure_kafka, certificates), security_protocol="SASL_PLAINTEXT", ssl_ca_file=None,
                    bootstrap_servers=(secure_kafka.bootstrap_of("SCRAM"),))  # fmt: skip
    run(lambda: work(plain))


def test_an_encrypted_key_opens_with_its_password(secure_kafka: KafkaCluster, certificates: Certificates) -> None:
    locked = replace(by_certificate(secure_kafka, certificates), ssl_key_file=certificates / f"{USER}.locked.key",
                     ssl_key_password=Secret(PASSWORD))  # fmt: skip
    assert asyncio.run(check_topics(locked, "")) == 1


# ------------------------------------------------------------------------------------------------ not let in


def refused(connection: Connection) -> str:
    """What the check at the start says, and that the log on the client says no less loudly."""
    with pytest.raises(LogProblem) as problem:
        asyncio.run(check_topics(connection, ""))
    with pytest.raises(LogProblem):
        asyncio.run(KafkaLog(connection.client_arguments(), deadline_s=3.0).partition_counts(["cdrs"]))
    assert PASSWORD not in str(problem.value)
    return str(problem.value)


def test_a_wrong_password_is_told_with_the_user_and_the_settings_to_look_at(
    secure_kafka: KafkaCluster, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    wrong = replace(by_scram(secure_kafka, certificates), sasl_password=Secret("another password"))
    told = refused(wrong)
    assert f"refuses user '{USER}' by SCRAM-SHA-512" in told
    assert "check RATER_SASL_USERNAME and RATER_SASL_PASSWORD_FILE" in told
    assert "another password" not in told + caplog.text


def test_a_mechanism_that_is_not_offered_is_told(secure_kafka: KafkaCluster, certificates: Certificates) -> None:
    told = refused(replace(by_scram(secure_kafka, certificates), sasl_mechanism="SCRAM-SHA-256"))
    assert "SCRAM-SHA-256" in told
    assert "RATER_SASL_MECHANISM" in told


def test_a_broker_whose_certificate_nobody_signed_that_we_know_is_refused(
    secure_kafka: KafkaCluster, certificates: Certificates
) -> None:
    told = refused(replace(by_scram(secure_kafka, certificates), ssl_ca_file=certificates / "stranger-ca.pem"))
    assert "its certificate is not accepted" in told
    assert "check RATER_SSL_CA_FILE" in told


def test_a_broker_with_the_certificate_of_another_host_is_refused(
    broker_possible: None, certificates: Certificates
) -> None:
    with KafkaCluster(
        properties=secured(certificates, "misnamed"), listeners=LISTENERS, format_options=WITH_USER
    ) as kafka:
        told = refused(by_scram(kafka, certificates))
    assert "its certificate is not accepted" in told
    assert "127.0.0.1" in told


def test_without_a_certificate_of_our_own_mutual_tls_is_refused(
    secure_kafka: KafkaCluster, certificates: Certificates
) -> None:
    nobody = replace(by_certificate(secure_kafka, certificates), ssl_cert_file=None, ssl_key_file=None)
    assert "RATER_SSL_CERT_FILE" in refused(nobody)


def test_a_certificate_of_a_stranger_is_refused(secure_kafka: KafkaCluster, certificates: Certificates) -> None:
    stranger = replace(by_certificate(secure_kafka, certificates), ssl_cert_file=certificates / "stranger.crt",
                       ssl_key_file=certificates / "stranger.key")  # fmt: skip
    assert "RATER_SSL_CERT_FILE" in refused(stranger)


def test_plain_text_to_a_port_that_speaks_tls_is_told(secure_kafka: KafkaCluster) -> None:
    plain = Connection(bootstrap_servers=(secure_kafka.bootstrap_of("MUTUAL"),))
    assert "RATER_SECURITY_PROTOCOL is PLAINTEXT" in refused(plain)


def test_tls_to_a_port_that_speaks_plain_text_is_told(secure_kafka: KafkaCluster, certificates: Certificates) -> None:
    there = replace(by_certificate(secure_kafka, certificates), bootstrap_servers=(secure_kafka.bootstrap_of("INTERNAL"),),
                    request_timeout_ms=2_000)  # fmt: skip
    assert "RATER_SECURITY_PROTOCOL" in refused(there)


# ------------------------------------------------------------------------------------------------ not allowed


class Acl(NamedTuple):
    """A right, in the numbers of Kafka's protocol."""

    kind: int
    name: str
    pattern: int
    operation: int

    def __str__(self) -> str:
        kinds, operations = {v: k for k, v in KINDS.items()}, {v: k for k, v in ALLOWED.items()}
        return f"{operations[self.operation]} {kinds[self.kind]} {self.name}"


KINDS = {"topic": 2, "group": 3, "transactional-id": 5}
ALLOWED = {"Read": 3, "Write": 4, "DescribeConfigs": 10}
CREATE, DESCRIBE = 5, 8  # what an operator needs besides
ANY, LITERAL, PREFIXED, ALLOW = 1, 3, 4, 3


def topics(operation: str, names: tuple[str, ...]) -> list[Acl]:
    return [Acl(KINDS["topic"], name, LITERAL, ALLOWED[operation]) for name in names]


RIGHTS = [
    *topics("Read", (*INPUTS, STATE, JOURNAL)),
    *topics("Write", TOPICS),
    *topics("DescribeConfigs", TOPICS),
    Acl(KINDS["group"], APP_ID, LITERAL, ALLOWED["Read"]),
    Acl(KINDS["transactional-id"], f"{APP_ID}-", PREFIXED, ALLOWED["Write"]),
]


async def ask(kafka: KafkaCluster, request: Any) -> Any:
    client = AIOKafkaClient(bootstrap_servers=kafka.bootstrap_of("INTERNAL"))
    await client.bootstrap()
    try:
        return await client.send(client.get_random_node(), request)
    finally:
        await client.close()


async def rights(kafka: KafkaCluster) -> set[Acl]:
    """What the broker grants the user now."""
    answer = await ask(kafka, DescribeAclsRequest(ANY, None, ANY, None, None, ANY, ANY))  # null: any
    assert answer.error_code == 0
    return {
        Acl(kind, name, pattern, operation)
        for kind, name, pattern, acls in answer.resources
        for _, _, operation, permission in acls
        if permission == ALLOW
    }


async def change(
    kafka: KafkaCluster, request: type[CreateAclsRequest] | type[DeleteAclsRequest], right: Acl, there: bool
) -> None:
    """Give or take a right, and wait until the broker acts on it."""
    await ask(kafka, request(right.kind, right.name, right.pattern, f"User:{USER}", "*", right.operation, ALLOW))
    while (right in await rights(kafka)) is not there:
        await asyncio.sleep(0.02)


def test_the_documented_commands_give_exactly_these_rights(secure_kafka: KafkaCluster) -> None:
    assert asyncio.run(rights(secure_kafka)) == set(RIGHTS)


@pytest.mark.slow
@pytest.mark.parametrize("right", RIGHTS, ids=str)
def test_each_missing_right_ends_in_a_refusal_that_names_the_resource(
    secure_kafka: KafkaCluster, certificates: Certificates, right: Acl
) -> None:
    async def without() -> str:
        await change(secure_kafka, DeleteAclsRequest, right, there=False)
        try:
            with pytest.raises(Refused) as problem:
                await work(by_scram(secure_kafka, certificates))
        finally:
            await change(secure_kafka, CreateAclsRequest, right, there=True)
        return str(problem.value)

    told = asyncio.run(asyncio.wait_for(without(), UNIT_S))
    operation, _, name = str(right).split(" ", 2)
    assert name in told
    assert operation.lower() in told.lower()


def test_an_operator_with_create_describe_and_describe_configs_can_make_the_topics(
    secure_kafka: KafkaCluster, certificates: Certificates
) -> None:
    needed = [
        Acl(KINDS["topic"], "operator.", PREFIXED, operation)
        for operation in (CREATE, DESCRIBE, ALLOWED["DescribeConfigs"])
    ]
    operator = by_scram(secure_kafka, certificates)

    async def give_and_make() -> None:
        with pytest.raises(Refused, match=r"Describe topic operator\."):
            await create_topics(operator, "operator.", Wanted(1, 1))
        for right in needed:
            await change(secure_kafka, CreateAclsRequest, right, there=True)
        try:
            made = await create_topics(operator, "operator.", Wanted(1, 1))
            again = await create_topics(operator, "operator.", Wanted(1, 1))
        finally:
            for right in needed:
                await change(secure_kafka, DeleteAclsRequest, right, there=False)
        assert len(made.created) == len(again.existing) == len(TOPICS)

    asyncio.run(asyncio.wait_for(give_and_make(), UNIT_S))


def test_the_operator_may_look_at_everything(secure_kafka: KafkaCluster) -> None:
    async def look() -> int:
        async with open_admin(Connection(bootstrap_servers=(secure_kafka.bootstrap_of("INTERNAL"),))) as admin:
            return len(await admin.configs(list(TOPICS)))

    assert asyncio.run(look()) == len(TOPICS)
