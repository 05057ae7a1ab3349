"""Transactions that the broker left open: aborted where their batch never counted, never where it did."""

import orjson
import pytest

from rater.doors.kafka.leftovers import counts_already
from rater.doors.kafka.log import Block
from rater.doors.kafka.record_batches import frame_few

NEXT_CDR, NEXT_COMMAND = 10, 5


def block(value: bytes) -> Block:
    ((body, count),) = frame_few([(b"t", value, ())])
    return Block(100, 100 + count, count, body, 0)


@pytest.mark.parametrize(
    ("output", "counts"),
    [
        ({"v": 1, "call": {}, "input": [0, 9]}, True),  # the last call that is done
        ({"v": 1, "call": {}, "input": [0, 10]}, False),  # the next one to read
        ({"v": 1, "reason": "not_json", "input": [0, 9]}, True),
        ({"v": 1, "reason": "not_json", "input": [0, 12]}, False),
        ({"type": "rater.balance.zero", "data": {"cause": "call", "input": [0, 9]}}, True),
        ({"type": "rater.balance.zero", "data": {"cause": "call", "input": [0, 10]}}, False),
        ({"type": "rater.lot.expired", "data": {"cause": "command", "input": [0, 4]}}, True),
        ({"type": "rater.lot.expired", "data": {"cause": "command", "input": [0, 5]}}, False),
    ],
)
def test_an_output_counts_when_the_input_it_names_is_done(output: object, counts: bool):
    assert counts_already(block(orjson.dumps(output)), NEXT_CDR, NEXT_COMMAND) is counts


@pytest.mark.parametrize("value", [b"", b"not json", b"[]", b"{}", b'{"input":null}', b'{"input":[0,"9"]}'])
def test_what_cannot_be_read_counts_so_that_nobody_aborts_it(value: bytes):
    assert counts_already(block(value), NEXT_CDR, NEXT_COMMAND) is True


def test_nothing_there_counts_for_nothing():
    assert counts_already(None, NEXT_CDR, NEXT_COMMAND) is False
