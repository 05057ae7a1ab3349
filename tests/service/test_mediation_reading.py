"""What one raw partition makes of its deliveries, without a broker: what holds a delivery back, and what never stops the reading."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from rater.doors.service.agent_log import OUTSTANDING_MAX, Delivery
from rater.doors.service.mediation_agent import PUBLISHING_MAX, headers_of
from rater.doors.service.mediation_reading import PARTS_WAITING_MAX, Outcome, PartitionReader, Ticket
from rater.sources import SourceRecord, load_profile, open_source
from rater.sources.assembly import AssembledSource, Assembly, Limits, Part
from rater.sources.record import RECORD_BYTES_MAX
from tests.sources.test_origins import acc

DOCS = Path(__file__).resolve().parents[2] / "docs" / "sources"


class Partition:
    """Deliveries in order, and which of them were acknowledged."""

    def __init__(self, reader: PartitionReader) -> None:
        self.reader, self.acknowledged, self.offset = reader, list[int](), -1

    def take(self, value: bytes, publish: bool = True) -> list[Outcome]:
        self.offset += 1
        offset = self.offset
        delivery = Delivery("raw-cdrs.x", 3, offset, None, value, (), 0, lambda: self.acknowledged.append(offset))
        ticket = Ticket(delivery)
        ticket.hold()
        outcomes = list(self.reader.read(ticket))
        for outcome in outcomes if publish else []:
            for one in outcome.tickets:
                one.release()
        ticket.release()
        return outcomes


def kamailio(parts_waiting_max: int = 100) -> Partition:
    profile = load_profile(DOCS / "kamailio.toml")
    return Partition(PartitionReader(open_source(profile.source, profile), parts_waiting_max))


def test_a_delivery_is_acknowledged_when_all_it_became_part_of_is_published():
    partition = kamailio()
    assert partition.take(acc("INVITE", 1, 1768483812)) == []
    partition.take(acc("INVITE", 2, 1768483812))
    assert partition.acknowledged == []
    [call] = partition.take(acc("BYE", 1, 1768483967), publish=False)
    assert (call.offsets, partition.acknowledged) == ([0, 2], [])
    for ticket in call.tickets:
        ticket.release()
    assert sorted(partition.acknowledged) == [0, 2]
    assert partition.reader.parts_waiting == 1


def test_a_value_of_several_records_waits_for_the_last_of_them():
    partition = kamailio()
    partition.take(acc("INVITE", 1, 1768483812) + b"\n" + acc("INVITE", 2, 1768483812) + b"\n{broken\n")
    partition.take(acc("BYE", 2, 1768483967))
    assert partition.acknowledged == [1]
    partition.take(acc("BYE", 1, 1768483967))
    assert sorted(partition.acknowledged) == [0, 1, 2]


def test_a_part_that_comes_again_holds_nothing():
    partition = kamailio()
    partition.take(acc("INVITE", 1, 1768483812))
    [again] = partition.take(acc("INVITE", 1, 1768483812))
    assert (again.record.kind, partition.acknowledged) == ("repeat", [1])


def test_too_many_parts_that_wait_are_crowded_out_oldest_first():
    partition = kamailio(parts_waiting_max=3)
    outcomes = [outcome for call in range(6) for outcome in partition.take(acc("INVITE", call, 1768483812))]
    assert [(one.record.kind, one.offsets) for one in outcomes] == [
        ("incomplete", [0]),
        ("incomplete", [1]),
        ("incomplete", [2]),
    ]
    assert partition.acknowledged == [0, 1, 2]
    assert "closed as the oldest" in outcomes[0].record.detail


class Failing:
    """A reader with a fault: it hands out a record and falls."""

    def read(self, stream: BinaryIO) -> Iterator[SourceRecord]:
        yield SourceRecord(stream.read(), None, kind="header")
        raise ZeroDivisionError


def test_a_value_at_which_the_reader_fails_is_a_rejection_and_the_next_is_read(caplog: pytest.LogCaptureFixture):
    partition = Partition(PartitionReader(Failing()))
    secret = b"+442079460018" * 10_000
    for _ in range(2):
        header, fault = partition.take(secret)
        assert (header.record.kind, fault.record.reason, fault.fault) == ("header", "bad_source_row", True)
        assert fault.record.raw == secret[:RECORD_BYTES_MAX]
        assert fault.record.detail == "the reader failed at record 2: ZeroDivisionError"
    assert partition.acknowledged == [0, 1]
    assert "raw-cdrs.x partition 3 offset 1" in caplog.text
    assert "442079" not in caplog.text


class Falling(AssembledSource):
    """A family that fails after another call was decided by the same part."""

    def __init__(self) -> None:
        self.assembly = Assembly(self, Limits(close_after_ms=1), "falling")

    def read(self, stream: BinaryIO) -> Iterator[SourceRecord]:
        for number, word in enumerate(stream.read().split()):
            found = self.assembly.add(Part(word.decode(), str(number), 1_000 * int(word), word, {}))
            if word == b"13":
                raise KeyError(word)
            yield from found

    def is_complete(self, parts: object) -> bool:  # noqa: ARG002
        return False

    def lacks(self, parts: object) -> str:  # noqa: ARG002
        return "its end"

    def call(self, parts: object) -> tuple[str, bytes]:  # noqa: ARG002
        raise AssertionError


def test_what_was_decided_before_the_fault_is_handed_out_all_the_same():
    partition = Partition(PartitionReader(Falling()))
    for word in (b"1", b"2", b"3", b"4", b"5", b"6"):
        partition.take(word)
    outcomes = partition.take(b"13")
    assert [one.fault for one in outcomes].count(True) == 1
    assert {one.record.kind for one in outcomes if not one.fault} <= {"incomplete"}
    assert len(outcomes) > 1
    assert set(range(partition.offset)) - set(partition.acknowledged) <= set(range(6))


def test_the_headers_of_a_call_of_very_many_parts_stay_small():
    delivery = Delivery("raw-cdrs.x", 3, 7, None, b"", (), 0, lambda: None)
    told = headers_of(delivery, list(range(1_000)))
    assert told["raw-offsets"].count(b",") == 49
    assert told["raw-offsets"].startswith(b"0,1,")
    assert told["raw-offsets"].endswith(b",998,999")
    assert headers_of(delivery, [7]) == {"raw-topic": b"raw-cdrs.x", "raw-partition": b"3", "raw-offsets": b"7"}


def test_parts_that_wait_never_stop_the_reading_that_would_complete_them():
    assert PARTS_WAITING_MAX + PUBLISHING_MAX < OUTSTANDING_MAX
