"""What the tests with a real worker need: a machine that can run a broker."""

from tests.kafka.conftest import broker_possible

__all__ = ["broker_possible"]
