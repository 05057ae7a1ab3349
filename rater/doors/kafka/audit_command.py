"""`rater audit --bootstrap`: from settings to an audit, and from an audit to the object that `--json` prints."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from rater.doors.kafka.audit import PartitionAudited, Scope, audit
from rater.doors.kafka.client import KafkaLog
from rater.doors.kafka.log import Refused
from rater.doors.kafka.names import CDRS, Names
from rater.doors.kafka.rule_sets import RuleSets
from rater.doors.kafka.settings import AuditSettings
from rater.doors.kafka.snapshot import Snapshots
from rater.doors.settings.values import SettingsRefused

log = logging.getLogger(__name__)


def audit_topics(
    settings: AuditSettings, partitions: Sequence[int], progress: Callable[[int, int], None]
) -> list[PartitionAudited]:
    """Audit these partitions, or all. `progress` counts batches. Raises `LogProblem` where a topic cannot be read."""
    return asyncio.run(_audit(settings, partitions, progress))


async def _audit(
    settings: AuditSettings, partitions: Sequence[int], progress: Callable[[int, int], None]
) -> list[PartitionAudited]:
    kafka = KafkaLog(settings.connection.client_arguments(), request_timeout_ms=settings.connection.request_timeout_ms)
    names = Names(settings.app_id or "", settings.topic_prefix)
    counts = await kafka.partition_counts(names.topics())
    missing = [topic for topic in names.topics() if topic not in counts]
    if missing:
        raise Refused(
            f"topics {', '.join(missing)} are not there; expected the topics of a worker: is --topic-prefix right?"
        )
    count = counts[names.topic(CDRS)]
    for partition in partitions:
        if not 0 <= partition < count:
            raise SettingsRefused(f"--partition is {partition}; expected 0 to {count - 1}, the topics have {count}")
    scope = Scope(
        log=kafka,
        names=names,
        partitions=count,
        rules=rules_of(settings),
        sleep=asyncio.sleep,
        group=settings.app_id,
        snapshots=snapshots_of(settings),
        progress=_all_partitions(progress),
    )
    try:
        return await audit(scope, sorted(set(partitions)) or range(count))
    finally:
        await kafka.close()


def rules_of(settings: AuditSettings) -> RuleSets:
    """Decks by the names the log gives them: those of `rates`, and those a worker has kept."""
    kept = settings.rates if settings.state_dir is None else settings.state_dir / "rates"
    return RuleSets(settings.rates, settings.plans, kept, log.warning)


def snapshots_of(settings: AuditSettings) -> Snapshots | None:
    if settings.state_dir is None or settings.app_id is None:
        return None
    return Snapshots(settings.state_dir, settings.app_id)


def _all_partitions(progress: Callable[[int, int], None]) -> Callable[[int, int, int], None]:
    """One count over partitions that are audited one after the other; the total grows as each is opened."""
    done: dict[int, tuple[int, int]] = {}

    def step(partition: int, batch: int, last: int) -> None:
        done[partition] = batch, last
        progress(sum(one for one, _ in done.values()), sum(total for _, total in done.values()))

    return step


def audit_object(found: Sequence[PartitionAudited]) -> dict[str, Any]:
    """`rater audit --bootstrap --json`"""
    totals: dict[str, dict[str, int]] = {"charge_micros": {}, "balance_micros": {}}
    for one in found:
        for name, total in totals.items():
            for currency, amount in getattr(one, name).items():
                total[currency] = total.get(currency, 0) + amount
    return {
        "ok": all(one.ok for one in found),
        "batches": sum(one.batches for one in found),
        "calls": sum(one.calls for one in found),
        "events": sum(one.events for one in found),
        **totals,
        "partitions": [{"ok": one.ok, **asdict(one)} for one in found],
    }
