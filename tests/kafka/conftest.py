"""A running Apache Kafka for the tests that ask for one; without Java or Maven they are skipped, in CI they fail."""

import os
from collections.abc import Iterator

import pytest

from tests.kafka import broker

BROKER_FIXTURES = {"kafka", "three_brokers", "secure_kafka"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What uses a broker is marked so. With `--dist loadgroup` one broker serves all tests of a folder, in one xdist process."""
    for item in items:
        if BROKER_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.kafka)
        if item.get_closest_marker("kafka") is not None:
            item.add_marker(pytest.mark.xdist_group(_group(item)))


def _group(item: pytest.Item) -> str:
    """Chaos has a broker of its own anyway, and takes as long as the rest of its folder."""
    return "chaos" if item.path.stem == "test_chaos" else f"kafka in {item.path.parent.name}"


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
