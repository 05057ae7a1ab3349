"""What rated calls come to, month by month, added up from the topics alone and held against each summary that is told."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.kafka.checker_cut import Answer, Cut
from tests.kafka.checker_model import EVENTS, RATED, Row, Violation

SUMMARY = "rater.month.closed"
AMOUNTS = ("charge_micros", "invoice_micros", "pool_minutes", "credit_minutes")
FIELDS = ("calls", "connected_calls", *AMOUNTS, "late_calls")


@dataclass
class Months:
    """Sums of the rated calls of each tenant and month, over all batches so far."""

    sums: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    told: set[tuple[str, str]] = field(default_factory=set)

    def check(self, cut: Cut) -> Iterator[Violation]:
        """A batch: its summaries, which stand before its calls, then its calls."""
        for answer in cut.answers[EVENTS]:
            if (answer.row or {}).get("type") == SUMMARY:
                yield from self._check_summary(answer)
        for answer in cut.answers[RATED]:
            self._add(answer.tenant, answer.row or {})

    def _check_summary(self, answer: Answer) -> Iterator[Violation]:
        data = (answer.row or {})["data"]
        name = (answer.tenant, str(data.get("month")))
        here = self.sums.get(name, Counter())
        for part in FIELDS:
            if data.get(part) != here[part]:
                yield self._about(
                    answer, f"{part} of {name[1]} is not the sum of its rated calls", here[part], data.get(part)
                )
        if name in self.told:
            yield self._about(answer, f"{name[1]} was told before", "once", "again")
        self.told.add(name)

    def _about(self, answer: Answer, what: str, expected: object, found: object) -> Violation:
        record = answer.record
        return Violation("I2", what, EVENTS, record.partition, record.offset, answer.tenant, expected, found)

    def _add(self, tenant: str, row: Row) -> None:
        call = row.get("call")
        if not isinstance(call, dict):
            return  # another invariant tells
        sums = self.sums.setdefault((tenant, str(call.get("start"))[:7]), Counter())
        sums["calls"] += 1
        sums["connected_calls"] += row.get("outcome") != "not_connected"
        sums["late_calls"] += "late" in (row.get("flags") or [])
        for name in AMOUNTS:
            amount = row.get(name)
            sums[name] += amount if type(amount) is int else 0
