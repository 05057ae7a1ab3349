"""What a worker's partitions are doing: kept for people to look at, and told to the log when it changes."""

import logging
from dataclasses import asdict, dataclass
from typing import Any

from rater.contract.counts import Counts
from rater.doors.kafka.task import BatchReport, Phase

log = logging.getLogger("rater.worker")


@dataclass(slots=True)
class PartitionStatus:
    """One partition as an operator sees it."""

    phase: str = Phase.RELEASED.value
    why: str = ""
    restored: int = 0  # records read so far by a restore under way
    restore_left: int = 0  # offsets it still has to read, of the topic it reads now
    batch: int = 0
    next_cdr: int = 0
    next_command: int = 0
    aborted: int = 0


class StatusBoard:
    """The `Watch` of a worker."""

    def __init__(self) -> None:
        self.partitions: dict[int, PartitionStatus] = {}
        self.counts = Counts()

    def _of(self, partition: int) -> PartitionStatus:
        return self.partitions.setdefault(partition, PartitionStatus())

    def phase(self, partition: int, phase: Phase, why: str) -> None:
        status = self._of(partition)
        if (status.phase, status.why) != (phase.value, why):
            level = logging.ERROR if phase is Phase.STOPPED else logging.INFO
            log.log(level, "partition %d: %s%s", partition, phase.value, f": {why}" if why else "")
        status.phase, status.why = phase.value, why

    def restoring(self, partition: int, topic: str, read: int, offset: int, end: int) -> None:  # noqa: ARG002
        status = self._of(partition)
        status.restored, status.restore_left = read, max(end - offset, 0)

    def committed(self, partition: int, report: BatchReport) -> None:
        status, mark = self._of(partition), report.watermark
        status.batch, status.next_cdr, status.next_command = mark.batch, mark.next_cdr, mark.next_command
        self.counts.add(report.outcome.counts)

    def aborted(self, partition: int, why: str) -> None:  # noqa: ARG002  # `phase` has told it
        self._of(partition).aborted += 1

    def ready(self) -> bool:
        """Every partition of this worker is being rated."""
        mine = [status for status in self.partitions.values() if status.phase != Phase.RELEASED.value]
        return all(status.phase == Phase.RUNNING.value for status in mine)

    def as_object(self) -> dict[str, Any]:
        return {
            "ready": self.ready(),
            "partitions": {str(number): asdict(status) for number, status in sorted(self.partitions.items())},
            "counts": asdict(self.counts),
        }
