"""Produce requests put together once. aiokafka's encoder copies a batch at each level of the request: eight times in all.

A batch of rated calls is about a megabyte, and a fresh megabyte for each copy costs more in page faults than in copying.
"""

from collections.abc import Iterable
from typing import Any

from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.types import Int16, Int32, String

SIMPLE_VERSIONS = range(3, 8)  # transactional id, acks, timeout, topics: the same bytes in all of them
TEXT = String("utf-8")


class Pieces:
    """Bytes in pieces. What is put before them with `+` becomes a piece, until all are asked for at once.

    aiokafka's connection writes `size + (header + encoded)`: the second `+` is given the size and makes the message.
    """

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    def __len__(self) -> int:
        return sum(map(len, self.pieces))

    def __bytes__(self) -> bytes:
        return b"".join(self.pieces)

    def __radd__(self, header: bytes) -> "Message":
        return Message([header, *self.pieces])


class Message(Pieces):
    """A request with its header, waiting for its size."""

    def __radd__(self, size: bytes) -> Any:
        return b"".join((size, *self.pieces))


class QuickProduceRequest(ProduceRequest):  # type: ignore[misc]  # aiokafka has no types
    """The same request, encoded in one go."""

    def __init__(self, other: ProduceRequest) -> None:
        super().__init__(other._transactional_id, other._required_acks, other._timeout, other._topics)

    def build(self, request_struct_class: Any) -> Any:
        built = super().build(request_struct_class)
        if request_struct_class.API_VERSION in SIMPLE_VERSIONS:
            built.encode = self._encoded
        return built

    def _encoded(self) -> Pieces:
        head = TEXT.encode(self._transactional_id) + Int16.encode(self._required_acks) + Int32.encode(self._timeout)
        return Pieces([head, *_array(self._topics, _topic)])


def _array(items: Iterable[Any], encode: Any) -> list[bytes]:
    items = list(items)
    return [Int32.encode(len(items)), *(piece for item in items for piece in encode(*item))]


def _topic(name: str, partitions: list[tuple[int, bytes]]) -> list[bytes]:
    return [TEXT.encode(name), *_array(partitions, _partition)]


def _partition(number: int, batch: bytes) -> list[bytes]:
    return [Int32.encode(number), Int32.encode(len(batch)), batch]


def quick(request: Any) -> Any:
    """A request to send in place of this one."""
    return QuickProduceRequest(request) if type(request) is ProduceRequest else request
