"""The requests of a transaction in the versions that aiokafka does not have: KIP-890 part 2, `transaction.version` 2.

With these the broker raises the producer's epoch at the end of every transaction, so that a request which comes late can
reach no later one, and adds partitions to a transaction when records arrive for them. Shapes: the JSON files under
`clients/src/main/resources/common/message` of Apache Kafka.
"""

from collections.abc import Mapping
from io import BytesIO
from typing import Any

from aiokafka.protocol.api import Request, RequestStruct, Response, ResponseHeader_v0
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
    UnsignedVarInt32,
)

from rater.doors.kafka.client_requests import Pieces
from rater.doors.kafka.log import Place

TEXT = CompactString("utf-8")
TAGS: tuple[str, Any] = ("tags", TaggedFields)
NO_TAGS = b"\x00"
ALL_REPLICAS = -1
NO_LEADER_EPOCH = -1
NOT_A_MEMBER = (-1, "")  # generation and member id of an offset commit from outside the group
FINALIZED_FEATURES = 2  # the tag
TRANSACTION_FEATURE = "transaction.version"


# ---------------------------------------------------------------------------------------------- which features


class FeaturesResponse(Response):
    API_KEY, API_VERSION = 18, 3
    SCHEMA = Schema(
        ("error_code", Int16),
        ("api_keys", CompactArray(("api_key", Int16), ("min_version", Int16), ("max_version", Int16), TAGS)),
        ("throttle_time_ms", Int32),
        TAGS,
    )


class FeaturesStruct(RequestStruct):
    API_KEY, API_VERSION, FLEXIBLE_VERSION = 18, 3, True
    RESPONSE_TYPE = FeaturesResponse
    SCHEMA = Schema(("client_software_name", TEXT), ("client_software_version", TEXT), TAGS)

    def parse_response_header(self, read_buffer: BytesIO | bytes) -> Any:
        """Of this one request the answer's header never has tags: whoever asks does not know yet what is spoken."""
        return ResponseHeader_v0.decode(read_buffer)


class FeaturesRequest(Request[FeaturesStruct]):
    """ApiVersions, asked for the features that the cluster has switched on."""

    API_KEY = 18

    def __init__(self, name: str, version: str) -> None:
        self._asked: tuple[Any, ...] = (name, version, {})

    def build(self, request_struct_class: type[FeaturesStruct]) -> FeaturesStruct:
        return request_struct_class(*self._asked)


FEATURES = CompactArray(("name", TEXT), ("max_level", Int16), ("min_level", Int16), TAGS)


def feature_level(tags: Mapping[int, bytes], feature: str) -> int:
    """The level of a feature in force in the cluster; 0 where the broker does not speak of it."""
    raw = tags.get(FINALIZED_FEATURES)
    levels = {name: int(level) for name, level, *_ in FEATURES.decode(BytesIO(raw))} if raw else {}
    return levels.get(feature, 0)


# ---------------------------------------------------------------------------------------------- records


class ProduceAnswer(Response):
    API_KEY, API_VERSION = 0, 12
    SCHEMA = Schema(
        ("topics", CompactArray(
            ("name", TEXT),
            ("partitions", CompactArray(
                ("number", Int32), ("error_code", Int16), ("first", Int64), ("append_time_ms", Int64), ("log_start", Int64),
                ("record_errors", CompactArray(("index", Int32), ("message", TEXT), TAGS)), ("message", TEXT), TAGS,
            )),
            TAGS,
        )),
        ("throttle_time_ms", Int32),
        TAGS,
    )  # fmt: skip


class ProduceStruct(RequestStruct):
    """The topics are encoded already (`produce_pieces`): a batch is a megabyte, and each level of a schema would copy it."""

    API_KEY, API_VERSION, FLEXIBLE_VERSION = 0, 12, True
    RESPONSE_TYPE = ProduceAnswer
    SCHEMA = Schema(("transactional_id", TEXT), ("acks", Int16), ("timeout_ms", Int32))

    def __init__(self, transactional_id: str | None, timeout_ms: int, topics: list[bytes]) -> None:
        super().__init__(transactional_id, ALL_REPLICAS, timeout_ms)
        self.encode = lambda: Pieces([self.SCHEMA.encode((transactional_id, ALL_REPLICAS, timeout_ms)), *topics])


class Produce(Request[ProduceStruct]):
    """One batch for each of some places of one broker; without an id outside any transaction."""

    API_KEY = 0

    def __init__(self, transactional_id: str | None, timeout_ms: int, batches: Mapping[Place, bytes]) -> None:
        self._asked = (transactional_id, timeout_ms, produce_pieces(batches))

    def build(self, request_struct_class: type[ProduceStruct]) -> ProduceStruct:
        return request_struct_class(*self._asked)


def produce_pieces(batches: Mapping[Place, bytes]) -> list[bytes]:
    by_topic: dict[str, list[Place]] = {}
    for place in batches:
        by_topic.setdefault(place.topic, []).append(place)
    pieces = [UnsignedVarInt32.encode(len(by_topic) + 1)]
    for topic, places in by_topic.items():
        pieces += [TEXT.encode(topic), UnsignedVarInt32.encode(len(places) + 1)]
        for place in places:
            batch = batches[place]
            pieces += [Int32.encode(place.partition), UnsignedVarInt32.encode(len(batch) + 1), batch, NO_TAGS]
        pieces.append(NO_TAGS)
    return [*pieces, NO_TAGS]


# ---------------------------------------------------------------------------------------------- offsets


class OffsetsAnswer(Response):
    API_KEY, API_VERSION = 28, 5
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("topics", CompactArray(("name", TEXT), ("partitions", CompactArray(("number", Int32), ("error_code", Int16), TAGS)), TAGS)),
        TAGS,
    )  # fmt: skip


class OffsetsStruct(RequestStruct):
    API_KEY, API_VERSION, FLEXIBLE_VERSION = 28, 5, True
    RESPONSE_TYPE = OffsetsAnswer
    SCHEMA = Schema(
        ("transactional_id", TEXT), ("group", TEXT), ("producer_id", Int64), ("epoch", Int16), ("generation", Int32),
        ("member", TEXT), ("instance", TEXT),
        ("topics", CompactArray(
            ("name", TEXT),
            ("partitions", CompactArray(
                ("number", Int32), ("offset", Int64), ("leader_epoch", Int32), ("metadata", TEXT), TAGS
            )),
            TAGS,
        )),
        TAGS,
    )  # fmt: skip


class TransactionOffsets(Request[OffsetsStruct]):
    """The offsets of a group as part of a transaction; the group itself is not asked who we are (the epoch fences)."""

    API_KEY = 28

    def __init__(
        self, transactional_id: str, group: str, producer: tuple[int, int], offsets: Mapping[Place, int]
    ) -> None:
        topics: dict[str, list[tuple[int, int, int, str, dict[int, bytes]]]] = {}
        for place, offset in offsets.items():
            topics.setdefault(place.topic, []).append((place.partition, offset, NO_LEADER_EPOCH, "", {}))
        self._asked: tuple[Any, ...] = (transactional_id, group, *producer, *NOT_A_MEMBER, None,
                       [(topic, partitions, {}) for topic, partitions in topics.items()], {})  # fmt: skip

    def build(self, request_struct_class: type[OffsetsStruct]) -> OffsetsStruct:
        return request_struct_class(*self._asked)


# ---------------------------------------------------------------------------------------------- the end


class EndAnswer(Response):
    API_KEY, API_VERSION = 26, 5
    SCHEMA = Schema(("throttle_time_ms", Int32), ("error_code", Int16), ("producer_id", Int64), ("epoch", Int16), TAGS)


class EndStruct(RequestStruct):
    API_KEY, API_VERSION, FLEXIBLE_VERSION = 26, 5, True
    RESPONSE_TYPE = EndAnswer
    SCHEMA = Schema(("transactional_id", TEXT), ("producer_id", Int64), ("epoch", Int16), ("committed", Boolean), TAGS)


class End(Request[EndStruct]):
    """Commit or abort; the answer has the producer id and the epoch of the next transaction."""

    API_KEY = 26

    def __init__(self, transactional_id: str, producer: tuple[int, int], committed: bool) -> None:
        self._asked: tuple[Any, ...] = (transactional_id, *producer, committed, {})

    def build(self, request_struct_class: type[EndStruct]) -> EndStruct:
        return request_struct_class(*self._asked)
