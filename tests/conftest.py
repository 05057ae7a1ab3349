"""What all tests share: above all a running Apache Kafka for those that ask for one.

Without Java or Maven they are skipped, in CI they fail. Each xdist process has brokers of its own.
"""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.kafka import broker

# No deadline: the first example may compile a kernel, and a busy machine is not a fault.
settings.register_profile("rater", deadline=None)
settings.load_profile("rater")

BROKER_FIXTURES = {"kafka", "three_brokers", "secure_kafka"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What uses a broker is marked so."""
    for item in items:
        if BROKER_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.kafka)


@pytest.fixture(scope="session")
def broker_possible() -> None:
    """Ask for this before starting a broker of one's own."""
    why = broker.missing()
    if why is None:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI=true and {why}")
    pytest.skip(why)


@pytest.fixture(scope="session")
def kafka(broker_possible: None) -> Iterator[broker.KafkaCluster]:
    """One node, shared by all tests of this process: use topics, groups and transactional ids of your own."""
    with broker.KafkaCluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def three_brokers(broker_possible: None) -> Iterator[broker.KafkaCluster]:
    with broker.KafkaCluster(nodes=3) as cluster:
        yield cluster
