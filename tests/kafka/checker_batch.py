"""What must hold of one batch: a function for each invariant of reliability.md, each saying every violation it finds."""

import base64
import binascii
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.kafka.checker_cut import Answer, Cut, Line
from tests.kafka.checker_model import (
    CDRS,
    COMMANDS,
    EVENTS,
    JOURNAL,
    OUTPUTS,
    RATED,
    REJECTED_CDRS,
    REJECTED_COMMANDS,
    Record,
    Row,
    Violation,
    digest,
    home_of,
    same,
    strict_object,
)
from tests.kafka.checker_months import Months
from tests.kafka.checker_twin import Expected, PartitionTwin

ID_BYTES = 16
NO_DIGEST = "0" * 32

# Which invariant a field of a rated call belongs to; the rest is "the same answer as the twin's", I11.
FIELD_INVARIANT = {
    "balance_micros": "I5", "account_version": "I5",
    "charge_micros": "I1", "lots": "I1", "debt_micros": "I1", "invoice_micros": "I1", "connection_fee_micros": "I1",
    "deck": "I13", "deck_version": "I13", "prefix": "I13", "rate_nanos_per_minute": "I13", "destination": "I13",
}  # fmt: skip


@dataclass
class Books:
    """What the batches of a partition have come to so far."""

    twin: PartitionTwin
    rated_ids: dict[tuple[str, str], str] = field(default_factory=dict)  # of all partitions: id -> place it was rated
    event_ids: set[str] = field(default_factory=set)
    seen: set[bytes] = field(default_factory=set)
    seen_count: int = 0
    lines: int = 0
    last: Line | None = None
    starts: dict[str, int] = field(default_factory=dict)  # where the inputs began
    ends: dict[str, int] = field(default_factory=lambda: {CDRS: 0, COMMANDS: 0})
    last_offset: dict[str, int] = field(default_factory=dict)  # of each output topic
    ledger: dict[str, int] = field(default_factory=dict)  # balance by the topics alone
    drift: dict[str, int] = field(default_factory=dict)  # by how much it was off when last told
    balances: dict[str, int] = field(default_factory=dict)  # the twin's
    forwards: list[tuple[str, Record, int]] = field(default_factory=list)  # (topic, source, where it belongs)
    months: Months = field(default_factory=Months)
    checked: Counter[str] = field(default_factory=Counter)

    @property
    def partition(self) -> int:
        return self.twin.partition


BatchCheck = Callable[[Books, Cut, Expected], Iterator[Violation]]


def about(answer: Answer, invariant: str, what: str, expected: object = "", found: object = "") -> Violation:
    record = answer.record
    return Violation(
        invariant, what, answer.topic, record.partition, record.offset, answer.tenant, expected, found
    )  # fmt: skip


def about_input(
    invariant: str, topic: str, record: Record, what: str, expected: object = "", found: object = ""
) -> Violation:
    tenant = (record.key or b"").decode("utf-8", "replace")
    return Violation(invariant, what, topic, record.partition, record.offset, tenant, expected, found)


def about_line(cut: Cut, invariant: str, what: str, expected: object = "", found: object = "") -> Violation:
    offset = cut.line.record.offset if cut.line else -1
    return Violation(invariant, what, JOURNAL, cut.partition, offset, "", expected, found)


# ---------------------------------------------------------------------------------------------- I1, I2 money


def whole(value: object) -> int:
    """An amount; 0 where it is not a whole number, which another function tells."""
    return value if type(value) is int else 0


def paid_of(row: Row) -> tuple[int, int, int]:
    """(from lots, debt, invoice) of a rated call."""
    lots = row.get("lots")
    drawn = (
        sum(whole(lot[1]) for lot in lots if isinstance(lot, list) and len(lot) == 2) if isinstance(lots, list) else 0
    )
    return drawn, whole(row.get("debt_micros")), whole(row.get("invoice_micros"))


def i1_conservation(books: Books, cut: Cut, expected: Expected) -> Iterator[Violation]:
    """What a call cost was paid by somebody; opening + money in - money out = every balance told; charges as the twin's."""
    for answer in cut.answers[RATED]:
        row = answer.row or {}
        paid, charge = sum(paid_of(row)), row.get("charge_micros")
        if not same(paid, charge):
            yield about(answer, "I1", "the parts paid by lots, debt and invoice are not the charge", charge, paid)
    yield from field_differences(books, cut, expected, "I1")
    yield from told_balances(books, cut)


def told_balances(books: Books, cut: Cut) -> Iterator[Violation]:
    """Every balance in a rated call against a ledger kept from the topics alone: applied commands, expiries, charges."""
    lost = expiries(cut)
    if cut.line is not None:
        for offset, command in applied_commands(cut.line):
            tenant = str(command.get("tenant"))
            forfeited = lost.pop((COMMANDS, offset), 0)
            added = command.get("type") in ("funds.added", "account.adjusted")
            change = (whole(command.get("amount_micros")) if added else 0) - forfeited
            books.ledger[tenant] = books.ledger.get(tenant, 0) + change
    for answer in sorted(cut.answers[RATED], key=lambda one: one.place or (0, 0)):
        row, tenant = answer.row or {}, answer.tenant
        drawn, debt, _ = paid_of(row)
        forfeited = lost.pop((CDRS, answer.place[1] if answer.place else -1), 0)
        books.ledger[tenant] = books.ledger.get(tenant, 0) - drawn - debt - forfeited
        told = row.get("balance_micros")
        drift = whole(told) - books.ledger[tenant]
        if drift != books.drift.get(tenant, 0):
            books.drift[tenant] = drift
            yield about(answer, "I1", "opening + funds + adjustments - charges - expired lots is not the balance",
                        books.ledger[tenant], told)  # fmt: skip


def expiries(cut: Cut) -> dict[tuple[str, int], int]:
    """Input -> what expired lots took away before it was applied."""
    lost: Counter[tuple[str, int]] = Counter()
    for answer in cut.answers[EVENTS]:
        row = answer.row or {}
        if row.get("type") == "rater.lot.expired" and answer.place is not None:
            source = COMMANDS if answer.cause == "command" else CDRS
            lost[source, answer.place[1]] += whole(row["data"].get("forfeited_micros"))
    return dict(lost)


def applied_commands(line: Line) -> Iterator[tuple[int, Row]]:
    for entry in line.row["applied"]:
        try:
            yield entry[0], strict_object(entry[1].encode())
        except (ValueError, TypeError, AttributeError, IndexError):
            continue  # i8 tells


def i2_double_entry(books: Books, cut: Cut, expected: Expected) -> Iterator[Violation]:
    """Each currency balances to zero: what the twin's customers gained, against what the topics say moved. Months too."""
    yield from books.months.check(cut)
    if cut.line is None:
        remember_balances(books, expected)
        return
    zero: Counter[str] = Counter()
    currencies = {tenant: currency for tenant, (currency, _) in expected.balances.items()}
    for tenant, (currency, after) in expected.balances.items():
        zero[currency] += after - books.balances.get(tenant, 0)  # the customers' accounts
    for _, command in applied_commands(cut.line):
        if command.get("type") in ("funds.added", "account.adjusted"):
            zero[currencies.get(str(command.get("tenant")), "?")] -= whole(command.get("amount_micros"))  # funding
    for answer in cut.answers[RATED]:
        drawn, debt, _ = paid_of(answer.row or {})
        zero[currencies.get(answer.tenant, "?")] += drawn + debt  # revenue
    for answer in cut.answers[EVENTS]:
        if (answer.row or {}).get("type") == "rater.lot.expired":
            lost = whole((answer.row or {})["data"].get("forfeited_micros"))
            zero[currencies.get(answer.tenant, "?")] += lost  # forfeited money
    for currency, rest in zero.items():
        if rest != 0:
            yield about_line(cut, "I2", f"the double entry of the batch in {currency} does not come to zero", 0, rest)
    remember_balances(books, expected)
    yield from control_totals(cut)


def remember_balances(books: Books, expected: Expected) -> None:
    books.balances |= {tenant: after for tenant, (_, after) in expected.balances.items()}


def control_totals(cut: Cut) -> Iterator[Violation]:
    """The sums in the journal line against the rated calls that are there."""
    assert cut.line is not None
    charges: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    minutes: Counter[str] = Counter()
    for answer in cut.answers[RATED]:
        row = answer.row or {}
        charges[str(row.get("currency"))] += whole(row.get("charge_micros"))
        outcomes[str(row.get("outcome"))] += 1
        for name in ("pool_minutes", "credit_minutes"):
            minutes[name] += whole(row.get(name))
    line = cut.line.row
    wanted: list[tuple[str, object, object]] = [
        ("by_outcome", non_zero(outcomes), non_zero(line["by_outcome"])),
        ("charge_micros", non_zero(charges), non_zero(line["totals"].get("charge_micros", {}))),
        *((name, minutes[name], line["totals"].get(name)) for name in ("pool_minutes", "credit_minutes")),
    ]
    for name, there, told in wanted:
        if not same(there, told):
            yield about_line(cut, "I2", f"{name} of the journal line is not the sum of its rated calls", there, told)


def non_zero(amounts: Any) -> Row:
    return {name: amount for name, amount in dict(amounts).items() if amount != 0}


# ---------------------------------------------------------------------------------------------- I3, I4 inputs


def i3_nothing_lost(books: Books, cut: Cut, expected: Expected) -> Iterator[Violation]:
    """Each input ends in exactly one of rated, rejected, duplicate, forwarded; the journal counts the same."""
    rated, rejected = cut.by_input(RATED), cut.by_input(REJECTED_CDRS)
    for record in cut.calls:
        found = ["rated"] * bool(rated.get(record.offset)) + ["rejected"] * bool(rejected.get(record.offset))
        wanted = fate_of_call(expected, record.offset)
        if found != wanted:
            invariant = "I4" if record.offset in expected.duplicate_cdrs else "I3"
            yield about_input(invariant, CDRS, record, "the call record did not end where it must",
                              fate_text(wanted, record.offset, expected.forwarded_cdrs), fate_text(found, -1, {}))  # fmt: skip
    refused = cut.by_input(REJECTED_COMMANDS)
    for record in cut.commands:
        wanted = ["rejected"] * (record.offset in expected.rejected_commands)
        found = ["rejected"] * bool(refused.get(record.offset))
        if found != wanted:
            yield about_input("I3", COMMANDS, record, "the command did not end where it must",
                              "rejected" if wanted else "not rejected", "rejected" if found else "not rejected")  # fmt: skip
    yield from strangers(cut)
    yield from call_bytes(cut)
    if cut.line is not None:
        yield from counts(cut, cut.line, expected)


def fate_of_call(expected: Expected, offset: int) -> list[str]:
    return ["rated"] * (offset in expected.rated) + ["rejected"] * (offset in expected.rejected_cdrs)


def fate_text(fate: list[str], offset: int, forwarded: dict[int, int]) -> str:
    if offset in forwarded:
        return f"forwarded to partition {forwarded[offset]}, and neither rated nor rejected here"
    return " and ".join(fate) or "neither rated nor rejected"


def strangers(cut: Cut) -> Iterator[Violation]:
    """Answers to inputs that are not there: between the records are only markers and aborted ones."""
    calls, commands = {record.offset for record in cut.calls}, {record.offset for record in cut.commands}
    for topic in OUTPUTS:
        for answer in cut.answers[topic]:
            known = commands if answer.cause == "command" else calls
            if answer.place is not None and answer.place[1] not in known:
                yield about(
                    answer,
                    "I3",
                    f"answers a {answer.cause} at an offset where no committed record is",
                    "",
                    answer.place,
                )


def call_bytes(cut: Cut) -> Iterator[Violation]:
    """A rated call carries the record's own bytes."""
    sources = {record.offset: record for record in cut.calls}
    for answer in cut.answers[RATED]:
        source = sources.get(answer.place[1]) if answer.place else None
        if source is not None:
            spliced = b'{"v":1,"call":' + (source.value or b"") + b',"outcome":'
            if not (answer.record.value or b"").startswith(spliced):
                yield about(answer, "I3", "`call` is not the record's own bytes", source.value, answer.record.value)


def counts(cut: Cut, line: Line, expected: Expected) -> Iterator[Violation]:
    told = line.row["counts"] | {name: line.row[name] for name in ("misrouted", "commands_misrouted")}
    wanted = {
        "read": len(cut.calls),
        "rated": len(cut.answers[RATED]),
        "rejected": len(cut.answers[REJECTED_CDRS]),
        "duplicates": len(expected.duplicate_cdrs),
        "misrouted": len(expected.forwarded_cdrs),
        "commands": len(expected.applied),
        "commands_rejected": len(cut.answers[REJECTED_COMMANDS]),
        "commands_duplicates": len(expected.duplicate_commands),
        "commands_misrouted": len(expected.forwarded_commands),
        "unknown_fields": expected.unknown_fields,
        "events": len(cut.answers[EVENTS]),
    }
    for name, there in wanted.items():
        if not same(there, told.get(name)):
            yield about_line(cut, "I3", f"the count {name} is not what is there", there, told.get(name))


def i4_nothing_twice(books: Books, cut: Cut, expected: Expected) -> Iterator[Violation]:
    """One rated call a record id, one answer an input; an id with other content is a conflict, and rejected so."""
    for topic in (RATED, REJECTED_CDRS, REJECTED_COMMANDS):
        for several in cut.by_input(topic).values():
            for again in several[1:]:
                yield about(again, "I4", "the same input was answered twice", "one record", f"{len(several)} records")
    for answer in cut.answers[RATED]:
        row = answer.row or {}
        name = (str(row.get("tenant")), str(row.get("record_id")))
        here = f"{answer.topic}-{answer.record.partition} offset {answer.record.offset}"
        first = books.rated_ids.setdefault(name, here)
        if first != here:
            yield about(answer, "I4", f"record id {name[1]} was rated before", "rated once", f"also {first}")
    found = cut.by_input(REJECTED_CDRS)
    for offset, row in expected.rejected_cdrs.items():
        if row["reason"] == "conflict" and not found.get(offset):
            yield Violation("I4", "a conflict (same id, other content) was dropped without a word", CDRS, cut.partition,
                            offset, "", "rejected as conflict", "no rejection")  # fmt: skip


# ---------------------------------------------------------------------------------------------- I5, I6, I7, I11, I13 answers


def field_differences(books: Books, cut: Cut, expected: Expected, invariant: str) -> Iterator[Violation]:
    """Fields of this invariant in which a rated call is not the twin's."""
    for answer in cut.answers[RATED]:
        wanted = expected.rated.get(answer.place[1]) if answer.place else None
        if wanted is None or answer.row is None:
            continue
        found = {name: value for name, value in answer.row.items() if name != "call"}
        books.checked[invariant] += 1
        for name in (*wanted, *(found.keys() - wanted.keys())):
            if FIELD_INVARIANT.get(name, "I11") == invariant and not same(wanted.get(name), found.get(name)):
                yield about(answer, invariant, name, wanted.get(name), found.get(name))
        if invariant == "I11" and list(wanted) != list(found) and wanted.keys() == found.keys():
            yield about(answer, "I11", "the fields stand in another order", list(wanted), list(found))


def i5_running_balance(books: Books, cut: Cut, expected: Expected) -> Iterator[Violation]:
    """The k-th change of an account carries version k and the twin's balance after k."""
    yield from field_differences(books, cut, expected, "I5")


def i6_order(books: Books, cut: Cut, expected: Expected) -> Iterator[Violation]:
    """Answers stand in the order of their inputs, batch behind batch, in the partition of their tenant."""
    for topic in OUTPUTS:
        highest = books.last_offset.get(topic, -1)
        previous: Answer | None = None
        for answer in cut.answers[topic]:
            books.checked["I6"] += 1
            if answer.record.offset < highest:
                yield about(
                    answer,
                    "I6",
                    "stands before an answer of an earlier batch",
                    f"behind offset {highest}",
                    answer.record.offset,
                )
            if previous is not None and place_in_batch(previous) > place_in_batch(answer):
                yield about(answer, "I6", "answers an earlier input than the record before it", f"after input {previous.place}",
                            f"input {answer.place}")  # fmt: skip
            previous = answer
            yield from keyed(books, answer)
        if cut.answers[topic]:
            books.last_offset[topic] = max(highest, cut.answers[topic][-1].record.offset)


def place_in_batch(answer: Answer) -> tuple[bool, int]:
    return answer.cause == "call", answer.place[1] if answer.place else -1


def keyed(books: Books, answer: Answer) -> Iterator[Violation]:
    """Rated calls and events are keyed by tenant, so that a tenant's have one order."""
    if answer.topic not in (RATED, EVENTS):
        return
    if answer.record.key != answer.tenant.encode():
        yield about(answer, "I6", "the key is not the tenant", answer.tenant.encode(), answer.record.key)
    home = home_of(answer.tenant, books.twin.partitions)
    if home != answer.record.partition:
        yield about(answer, "I6", "lies outside its tenant's partition", home, answer.record.partition)


def i7_one_alarm(books: Books, cut: Cut, expected: Expected) -> Iterator[Violation]:
    """The events are the twin's: each crossing once, none on a mere level, ids made of what happened."""
    found: dict[str, Answer] = {}
    for answer in cut.answers[EVENTS]:
        books.checked["I7"] += 1
        name = str((answer.row or {}).get("id"))
        if name in books.event_ids:
            yield about(answer, "I7", f"event {name} was announced before", "once", "again")
        books.event_ids.add(name)
        found.setdefault(name, answer)
    wanted = {event["id"]: event for event in expected.events}
    for name, event in wanted.items():
        if name not in found:
            yield Violation(
                "I7", f"event {name} is missing", EVENTS, cut.partition, -1, event["subject"], event["data"], "nothing"
            )
        elif not same(event, found[name].row):
            yield about(found[name], "I7", f"event {name} is another than the twin's", event, found[name].row)
    for name, answer in found.items():
        if name not in wanted:
            yield about(answer, "I7", f"event {name}: nothing happened that it could tell of", "no event", answer.row)
    order = [name for name in wanted if name in found]
    if order != [name for name in found if name in wanted]:
        yield about(cut.answers[EVENTS][0], "I6", "the events of the batch stand in another order", order, list(found))


def i11_same_answer(books: Books, cut: Cut, expected: Expected) -> Iterator[Violation]:
    """The same input by the same rules gives the same answer: every other field of a rated call."""
    yield from field_differences(books, cut, expected, "I11")


def i13_rules_named(books: Books, cut: Cut, expected: Expected) -> Iterator[Violation]:
    """The deck that rated a call, and the rules the journal names, are those the log put in force."""
    yield from field_differences(books, cut, expected, "I13")
    if cut.line is not None:
        in_force, line = books.twin.in_force, cut.line.row
        if sorted(map(str, line["decks"])) != sorted(in_force.deck_versions):
            yield about_line(cut, "I13", "the decks of the journal line", list(in_force.deck_versions), line["decks"])
        if line["plans"] != in_force.plans_version:
            yield about_line(cut, "I13", "the plans of the journal line", in_force.plans_version, line["plans"])


# ---------------------------------------------------------------------------------------------- I8 atomicity


def i8_one_act(books: Books, cut: Cut, expected: Expected) -> Iterator[Violation]:
    """The journal line accounts for exactly what the batch read and wrote, and is chained to the line before it."""
    if cut.line is None:
        return
    line = cut.line.row
    for what, wanted in (("batch", books.lines + 1), ("previous", books.last.digest if books.last else NO_DIGEST),
                         ("cdrs", [cut.partition, cut.line.starts[CDRS], cut.line.ends[CDRS]]),
                         ("commands", [cut.partition, cut.line.starts[COMMANDS], cut.line.ends[COMMANDS]]),
                         ("applied", [[offset, raw.decode("utf-8", "replace")] for offset, raw in expected.applied]),
                         ("faults", [])):  # fmt: skip
        if not same(wanted, line[what]):
            yield about_line(cut, "I8", f"{what} of the journal line", wanted, line[what])
    for topic in OUTPUTS:
        yield from output_digest(cut, line, topic)
    yield from seen_ids(books, cut, line, expected)


def output_digest(cut: Cut, line: Row, topic: str) -> Iterator[Violation]:
    """Length and digest of the batch's values, end to end, with or without the line feed a file has behind each."""
    values = [answer.record.value or b"" for answer in cut.answers[topic]]
    name = next((name for name in (topic, f"{topic}.jsonl") if name in line["digests"]), None)
    if name is None:
        if values:
            yield about_line(
                cut, "I8", f"no digest of {topic}, where the batch wrote", f"one of {len(values)} records", "none"
            )
        return
    forms = [b"".join(values), b"".join(value + b"\n" for value in values)]
    told = [line["bytes"].get(name), line["digests"][name]]
    wanted = [[len(form), digest(form)] for form in forms]
    if told not in wanted:
        yield about_line(cut, "I8", f"bytes and digest of {topic}", wanted[1], told)


def seen_ids(books: Books, cut: Cut, line: Row, expected: Expected) -> Iterator[Violation]:
    """The ids first seen: as many as the twin's, none twice in the life of the partition."""
    try:
        raw = base64.b64decode(line["seen_b64"], validate=True)
    except (binascii.Error, ValueError, TypeError):
        yield about_line(cut, "I8", "seen_b64 of the journal line", "base64", line["seen_b64"])
        return
    if len(raw) != ID_BYTES * expected.ids:
        yield about_line(cut, "I8", "bytes of ids in seen_b64", ID_BYTES * expected.ids, len(raw))
    for at in range(0, len(raw), ID_BYTES):
        one = raw[at : at + ID_BYTES]
        if one in books.seen:
            yield about_line(cut, "I4", "an id in seen_b64 was seen in an earlier batch", "new ids", one.hex())
        books.seen.add(one)
    books.seen_count += len(raw) // ID_BYTES


# ---------------------------------------------------------------------------------------------- I15 rejections

REJECTION_FIELDS = ["v", "reason", "detail", "raw_b64", "input"]


def i15_rejects_whole(books: Books, cut: Cut, expected: Expected) -> Iterator[Violation]:
    """A rejection has the bytes that came, under the key they came with, the reason and the place."""
    for topic, source, wanted in ((REJECTED_CDRS, cut.calls, expected.rejected_cdrs),
                                  (REJECTED_COMMANDS, cut.commands, expected.rejected_commands)):  # fmt: skip
        inputs = {record.offset: record for record in source}
        for answer in cut.answers[topic]:
            books.checked["I15"] += 1
            offset = answer.place[1] if answer.place else -1
            if offset in wanted and answer.row is not None:
                yield from rejection_differences(answer, wanted[offset], inputs[offset])


def rejection_differences(answer: Answer, wanted: Row, source: Record) -> Iterator[Violation]:
    row = answer.row or {}
    if list(row) != REJECTION_FIELDS:
        yield about(answer, "I15", "the fields of a rejection", REJECTION_FIELDS, list(row))
    for name in ("v", "reason", "raw_b64", "input"):
        if not same(wanted[name], row.get(name)):
            yield about(answer, "I15", f"{name} of the rejection", wanted[name], row.get(name))
    detail = row.get("detail")
    if not isinstance(detail, str) or not detail:
        yield about(answer, "I15", "detail of the rejection", "a sentence", detail)
    if answer.record.key != source.key:
        yield about(answer, "I15", "the key is not that of the rejected record", source.key, answer.record.key)


BATCH_CHECKS: dict[str, BatchCheck] = {
    "I1": i1_conservation,
    "I2": i2_double_entry,
    "I3": i3_nothing_lost,
    "I4": i4_nothing_twice,
    "I5": i5_running_balance,
    "I6": i6_order,
    "I7": i7_one_alarm,
    "I8": i8_one_act,
    "I11": i11_same_answer,
    "I13": i13_rules_named,
    "I15": i15_rejects_whole,
}


def check_batch(books: Books, cut: Cut, expected: Expected) -> Iterator[Violation]:
    """Every invariant of a batch; then the books know it."""
    found: list[Iterable[Violation]] = [check(books, cut, expected) for check in BATCH_CHECKS.values()]
    for violations in found:
        yield from violations
    books.checked.update({"I2": 1, "I3": len(cut.calls) + len(cut.commands), "I4": len(cut.answers[RATED]), "I8": 1})
    for topic, records, homes in ((CDRS, cut.calls, expected.forwarded_cdrs),
                                  (COMMANDS, cut.commands, expected.forwarded_commands)):  # fmt: skip
        books.forwards += [(topic, record, homes[record.offset]) for record in records if record.offset in homes]
    if cut.line is not None:
        books.lines += 1
        books.last = cut.line
        books.ends = {topic: max(end, books.ends[topic]) for topic, end in cut.line.ends.items()}
