"""Raw values of one partition -> outcomes, and which deliveries each outcome settles.

A value is whatever its source reads: one record, a batch, a whole file with its header. A delivery is acknowledged when
everything that was read of it is published, the parts that wait for others included: so the offset of an open call is
held back, a lost disk loses nothing, and a restart reads its parts again.
"""

import logging
from collections.abc import Iterator
from io import BytesIO
from typing import NamedTuple, cast

from rater.doors.failpoints import reached
from rater.doors.service.agent_log import Delivery
from rater.sources import Source, SourceRecord
from rater.sources.assembly import AssembledSource
from rater.sources.origins import OriginAssembly
from rater.sources.record import RECORD_BYTES_MAX

log = logging.getLogger("rater.mediation")

PARTS_WAITING_MAX = (
    40_000  # below what an AgentLog lets be outstanding, or nothing would ever be read that completes them
)


class Ticket:
    """One delivery and how many things hold it back."""

    __slots__ = ("delivery", "held")

    def __init__(self, delivery: Delivery) -> None:
        self.delivery, self.held = delivery, 0

    def hold(self) -> None:
        self.held += 1

    def release(self) -> None:
        self.held -= 1
        if self.held == 0:
            reached("mediate-before-acknowledge")
            self.delivery.acknowledge()
            reached("mediate-after-acknowledge")


class Outcome(NamedTuple):
    """One record as the source hands it out, the deliveries it holds back, its place in the value, whether the reader failed."""

    record: SourceRecord
    tickets: list[Ticket]
    number: int
    fault: bool = False

    @property
    def offsets(self) -> list[int]:
        return sorted({ticket.delivery.offset for ticket in self.tickets})


class Unbalanced(Exception):
    """The house contradicts itself: an outcome was lost between source and agent. Nothing of it is acknowledged."""


class PartitionReader:
    """The source of one raw partition. Parts of one call meet here, so they must come in one partition."""

    def __init__(self, source: Source, parts_waiting_max: int = PARTS_WAITING_MAX) -> None:
        self._source, self._parts_waiting_max = source, parts_waiting_max
        self._assembly: OriginAssembly | None = None
        if isinstance(source, AssembledSource):
            source.assembly = self._assembly = OriginAssembly(source.assembly)

    @property
    def parts_waiting(self) -> int:
        return self._assembly.parts_waiting if self._assembly is not None else 0

    def read(self, ticket: Ticket) -> Iterator[Outcome]:
        """Everything that this delivery decides, each outcome holding back what it is made of. Never raises for what is in a value."""
        value, number = ticket.delivery.value or b"", 0
        if self._assembly is not None:
            self._assembly.origin = ticket
        try:
            for number, record in enumerate(self._source.read(BytesIO(value)), 1):
                yield self._outcome(record, ticket, number)
        except Exception as fault:  # a reader that fails at a value would fail at it for ever
            log.critical(
                "%s: the reader failed: %s; the value goes to rejected-raw", ticket.delivery.place, type(fault).__name__
            )
            detail = f"the reader failed at record {number + 1}: {type(fault).__name__}"
            lost = SourceRecord(value[:RECORD_BYTES_MAX], None, "bad_source_row", detail)
            ticket.hold()
            yield Outcome(lost, [ticket], number + 1, fault=True)
            yield from self._interrupted(ticket)
        yield from self._crowded_out(ticket)
        if self._assembly is not None and self._assembly.unclaimed():
            raise Unbalanced(f"{ticket.delivery.place}: outcomes were made and not handed out")

    def _interrupted(self, ticket: Ticket) -> Iterator[Outcome]:
        """What was decided before the reader failed and not handed out."""
        for record in self._assembly.unclaimed() if self._assembly is not None else ():
            yield self._outcome(record, ticket, 0)

    def _outcome(self, record: SourceRecord, ticket: Ticket, number: int) -> Outcome:
        """Parts hold their tickets since they came; everything else holds the one at hand from here on."""
        tickets = cast(list[Ticket], self._assembly.origins_of(record)) if self._assembly is not None else []
        if not tickets:
            ticket.hold()
        return Outcome(record, tickets or [ticket], number)

    def _crowded_out(self, ticket: Ticket) -> Iterator[Outcome]:
        """Offsets cannot be held back without end: the oldest calls end as rejections, which may be sent again."""
        while self._assembly is not None and self.parts_waiting > self._parts_waiting_max:
            yield self._outcome(self._assembly.evicted(), ticket, 0)
