"""Our encoding of produce requests is aiokafka's, byte for byte; where it does not know a version, it steps aside."""

import pytest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.produce import ProduceRequest, ProduceRequest_v2

from rater.doors.kafka.client_requests import SIMPLE_VERSIONS, quick

TOPICS = [("rated-cdrs", [(0, b"first batch"), (7, b"")]), ("journal-Ä", [(3, bytes(range(256)))])]


def sent(request: ProduceRequest, versions: tuple[int, int]) -> bytes:
    """What aiokafka's connection makes of a request: its length, its header, itself."""
    built = request.prepare({ProduceRequest.API_KEY: versions})
    message = built.build_request_header(correlation_id=5, client_id="rater").encode() + built.encode()
    return bytes(len(message).to_bytes(4, "big") + message)


@pytest.mark.parametrize("version", SIMPLE_VERSIONS)
@pytest.mark.parametrize("topics", [TOPICS, TOPICS[:1], []])
def test_a_request_is_the_same_bytes_in_every_version(version: int, topics: list[tuple[str, list[tuple[int, bytes]]]]):
    plain = ProduceRequest("rating-0", -1, 10_000, topics)
    assert sent(quick(plain), (version, version)) == sent(plain, (version, version))


def test_a_version_of_another_shape_is_left_to_aiokafka():
    old = (ProduceRequest_v2.API_VERSION, ProduceRequest_v2.API_VERSION)
    plain = ProduceRequest(None, -1, 10_000, TOPICS)
    assert sent(quick(plain), old) == sent(plain, old)


def test_it_is_still_a_produce_request_and_others_are_left_alone():
    assert isinstance(quick(ProduceRequest("rating-0", -1, 10_000, TOPICS)), ProduceRequest)
    other = MetadataRequest(topics=["rated-cdrs"])
    assert quick(other) is other


def test_a_request_that_is_sent_again_is_the_same_again():
    request = quick(ProduceRequest("rating-0", -1, 10_000, TOPICS))
    assert sent(request, (3, 7)) == sent(request, (3, 7))
