"""The real Apache Kafka of `tests/kafka`, for the agents."""

from tests.kafka.conftest import broker_possible, kafka, pytest_collection_modifyitems

__all__ = ["broker_possible", "kafka", "pytest_collection_modifyitems"]
