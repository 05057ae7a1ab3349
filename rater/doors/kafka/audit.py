"""`rater audit --bootstrap`: every partition derived again from the topics alone, and the first record that does not agree.

The journal says which ranges of the inputs a batch has read. The audit reads the same ranges, decides them with the same
engine, key, decks and plans, and compares every record of every output, the journal line itself, the rows of `rater-state`
and the group's offsets. It joins no group and opens no writer, and so may run beside live workers: it takes the ends of
the topics at its start, and only whole batches count.
"""

from collections.abc import Sequence

from rater.doors.kafka.audit_partition import PartitionAudit
from rater.doors.kafka.audit_scope import PartitionAudited, Scope
from rater.doors.kafka.names import CDRS, COMMANDS

__all__ = ["PartitionAudited", "Scope", "audit"]


async def audit(scope: Scope, partitions: Sequence[int]) -> list[PartitionAudited]:
    """Each partition for itself; then whether what partitions say they were forwarded was forwarded to them."""
    reader = await scope.log.open_reader()
    try:
        audits = [PartitionAudit(scope, reader, partition) for partition in partitions]
        for one in audits:
            await one.run()
        _check_forwarded({one.partition: one for one in audits})
        return [one.audited for one in audits]
    finally:
        await reader.close()


def _check_forwarded(audits: dict[int, "PartitionAudit"]) -> None:
    """A record that claims to come from a partition which never forwarded anything here was written by somebody else."""
    for one in audits.values():
        claims = [(name, source, *at) for name in (CDRS, COMMANDS) for source, at in one.claimed(name).items()]
        for name, source, there, here in claims:
            other = audits.get(source)
            if (
                other is None
                or not other.audited.ok
                or not one.audited.ok
                or not other.never_forwarded(name, there, one)
            ):
                continue
            one.audited.difference = (
                f"{one.place(name)} offset {here}: its header says that it was forwarded from {other.place(name)} offset "
                f"{there}, which has not forwarded it"
            )
