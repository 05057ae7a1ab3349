"""The checker of Kafka runs, checked: a history made by the engine is clean, and every fault planted in one is named."""

import random
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import confluent_kafka
import numpy as np
import orjson
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from rater.contract.counts import Counts
from rater.contract.journal import NO_DIGEST, JournalLine, digest_of, encode_journal, state_digest
from rater.core import numbering_table
from rater.core.state import State
from rater.doors.decks import load_deck
from rater.doors.rules import RuleBook as EngineRules
from rater.doors.rules import make_rule_book
from rater.pipeline import Batch, Outcome, Records, Workspace, decide, records_of
from tests.kafka import checker_io
from tests.kafka.broker import KafkaCluster
from tests.kafka.checker import Reading, check, i9_never_back, i11_replay
from tests.kafka.checker_layout import SHELVES, fields_of
from tests.kafka.checker_model import (
    CDRS,
    COMMANDS,
    EVENTS,
    FORWARDED_FROM,
    JOURNAL,
    RATED,
    REJECTED_CDRS,
    REJECTED_COMMANDS,
    STATE,
    TOPICS,
    End,
    Record,
    RuleBook,
    Violation,
    deck_version,
    home_of,
    load_rule_book,
    murmur2,
)
from tests.kafka.checker_watch import Watcher
from tests.streams import Scenario, stream
from tests.twin import read_numbering

COUNTRY_OF, IS_EMERGENCY = read_numbering(Path(str(numbering_table.__file__)))

# ---------------------------------------------------------------------------------------------- a log, and a worker


@dataclass
class Act:
    """What became visible together: a producer's record, or a worker's transaction with the group offsets it moved."""

    worker: int | None = None
    records: list[tuple[str, Record]] = field(default_factory=list)
    offsets: dict[tuple[str, int], int] = field(default_factory=dict)


@dataclass
class History:
    """Topics in the making. A partition's offsets leap now and then, as markers and aborted records make them."""

    partitions: int
    book: RuleBook
    topics: dict[str, list[Record]] = field(default_factory=lambda: {topic: [] for topic in TOPICS})
    ends: dict[tuple[str, int], int] = field(default_factory=dict)
    offsets: dict[tuple[str, int], int] = field(default_factory=dict)
    acts: list[Act] = field(default_factory=lambda: [Act()])

    def append(self, topic: str, partition: int, key: bytes | None, value: bytes | None,
               headers: tuple[tuple[str, bytes | None], ...] = ()) -> None:  # fmt: skip
        offset = self.ends.get((topic, partition), 0)
        record = Record(partition, offset, key, value, headers)
        self.topics[topic].append(record)
        if self.acts:
            self.acts[-1].records.append((topic, record))
        self.ends[topic, partition] = offset + 1

    def marker(self, topic: str, partition: int) -> None:
        self.ends[topic, partition] = self.ends.get((topic, partition), 0) + 1

    def unread(self, topic: str, partition: int, since: int) -> list[Record]:
        return [r for r in self.topics[topic] if r.partition == partition and r.offset >= since]

    def violations(self) -> list[Violation]:
        ends = {place: End(end, end) for place, end in self.ends.items()}
        return check(self.topics, self.offsets, self.book, self.partitions, ends)

    def copy(self) -> "History":
        topics = {topic: list(records) for topic, records in self.topics.items()}
        return History(self.partitions, self.book, topics, dict(self.ends), dict(self.offsets), [])


def as_records(records: list[Record]) -> Records:
    """Records with keys and offsets of their own, as the engine takes them."""
    raws = [record.value or b"" for record in records]
    keys = [record.key for record in records]
    made = records_of(raws + [key or b"" for key in keys])
    count = len(records)
    present = np.array([key is not None for key in keys], bool)
    offsets = np.array([record.offset for record in records], np.int64)
    return Records(made.buffer, made.starts[:count], made.ends[:count], offsets,
                   np.where(present, made.starts[count:], -1), np.where(present, made.ends[count:], -1))  # fmt: skip


class MiniWorker:
    """One partition's worker in a dozen lines: the engine decides, and everything is written as one act."""

    def __init__(self, history: History, partition: int, rules: dict[str, EngineRules], first: EngineRules) -> None:
        self.history, self.partition, self.rules, self.book = history, partition, rules, first
        self.state, self.workspace = State.empty(bytes(range(16))), Workspace()
        self.batch, self.next = 0, {CDRS: 0, COMMANDS: 0}
        self.digest = self.previous = NO_DIGEST
        self.commit(Outcome(segments=[[0, 0, 0, 0]], counts=Counts()))

    def activate(self, command: dict[str, Any]) -> Any:
        self.book = self.rules[command["decks"][0]]
        return self.book.rules

    def step(self, most: int) -> bool:
        """One batch; whether there was anything to read."""
        found = {t: self.history.unread(t, self.partition, self.next[t])[:most] for t in (COMMANDS, CDRS)}
        if not any(found.values()):
            return False
        batch = Batch(
            self.partition, as_records(found[COMMANDS]), as_records(found[CDRS]), self.next[COMMANDS], self.next[CDRS],
            home=lambda tenant: home_of(tenant, self.history.partitions),
        )  # fmt: skip
        outcome = decide(self.state, self.book.rules, batch, self.workspace, activate=self.activate)
        ends = {t: records[-1].offset + 1 if records else self.next[t] for t, records in found.items()}
        outcome.segments = [[self.next[COMMANDS], ends[COMMANDS], self.next[CDRS], ends[CDRS]]]
        self.next = ends
        self.commit(outcome)
        return True

    def commit(self, outcome: Outcome) -> None:
        history, p = self.history, self.partition
        history.acts.append(Act(p))
        self.batch += 1
        self.digest = state_digest(self.digest, self.state)
        line = JournalLine(
            self.batch, p, outcome.segments, outcome.counts, [deck.version for deck in self.book.decks],
            self.book.plans_version, self.book.numbering_version, outcome.applied, [], state_digest=self.digest,
            previous=self.previous, seen=self.state.fresh_ids().tobytes(),
        )  # fmt: skip
        for topic, values in self.outputs(outcome).items():
            for key, value in values:
                history.append(topic, p, key, value)
            line.bytes[topic] = sum(len(value) + 1 for _, value in values)
            line.digests[topic] = digest_of(*(value + b"\n" for _, value in values))
            if values:
                history.marker(topic, p)
        for topic, forwards in ((CDRS, outcome.forwarded_cdrs), (COMMANDS, outcome.forwarded_commands)):
            for forward in forwards:
                source = ((FORWARDED_FROM, f"{p}/{forward.offset}".encode()),)
                history.append(topic, forward.partition, forward.key, forward.value, source)
                history.marker(topic, forward.partition)
        raw = encode_journal(line)
        self.previous = digest_of(raw)
        history.append(JOURNAL, p, None, raw)
        history.marker(JOURNAL, p)
        self.write_state(raw)
        history.acts[-1].offsets = {(topic, p): end for topic, end in self.next.items()}
        history.offsets |= history.acts[-1].offsets
        history.acts.append(Act())
        self.state.committed()

    def outputs(self, outcome: Outcome) -> dict[str, list[tuple[bytes | None, bytes]]]:
        rated = [line for block in outcome.rated for line in block.split(b"\n")[:-1]]
        return {
            RATED: [(orjson.loads(line)["tenant"].encode(), line) for line in rated],
            EVENTS: [(orjson.loads(line)["subject"].encode(), line) for line in outcome.events],
            REJECTED_CDRS: list(zip(outcome.rejected_cdr_keys, outcome.rejected_cdrs, strict=True)),
            REJECTED_COMMANDS: list(zip(outcome.rejected_command_keys, outcome.rejected_commands, strict=True)),
        }

    def write_state(self, raw: bytes) -> None:
        rows = {name: int(self.state.rows(name).size) for name in self.state.shelves}
        for name, changed in self.state.changed().items():
            for row in changed.tolist():
                value = self.state.rows(name)[row].tobytes().rstrip(b"\0")
                self.history.append(STATE, self.partition, f"{name}/{row}".encode(), value)
        meta = {"v": 1, "partition": self.partition, "batch": self.batch, "next_cdr": self.next[CDRS],
                "next_command": self.next[COMMANDS], "state_digest": self.digest, "journal_digest": digest_of(raw),
                "rows": rows, "free": self.state.free_rows(), "ids": int(self.state.seen_tally[0]),
                "key": self.state.key.tobytes().hex(), "decks": [d.version for d in self.book.decks],
                "plans": self.book.plans_version}  # fmt: skip
        self.history.append(STATE, self.partition, b"meta", orjson.dumps(meta))


# ---------------------------------------------------------------------------------------------- a history


def tenant_of(raw: bytes) -> bytes | None:
    """The key a well-behaved producer would give; None where the record has no tenant to speak of."""
    try:
        tenant = orjson.loads(raw)["tenant"]
        return tenant.encode() if isinstance(tenant, str) else None
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None


def write_deck(folder: Path, scenario: Scenario) -> Path:
    folder.mkdir()
    for name, text in scenario.deck_files.items():
        (folder / name).write_text(text)
    return folder


def make_history(folder: Path, seed: int = 1, partitions: int = 3) -> History:
    """A stream through a worker a partition, with records misplaced, without key, under a wrong key, and a new deck."""
    rng, scenario = random.Random(seed), stream(seed)
    first, second = write_deck(folder / "first", scenario), write_deck(folder / "second", stream(seed + 1000))
    (folder / "plans.csv").write_text(scenario.plans)
    book = load_rule_book([first, second], [folder / "plans.csv"], COUNTRY_OF, IS_EMERGENCY)
    history = History(partitions, book)
    engine = {deck.version: make_rule_book([deck], scenario.plans, "plans") for deck in map(load_deck, (first, second))}
    opening = engine[deck_version(first)]
    workers = [MiniWorker(history, p, engine, opening) for p in range(partitions)]
    for number, part in enumerate(scenario.rounds):
        if number == len(scenario.rounds) // 2:
            for p in range(partitions):
                history.append(COMMANDS, p, b"anything", activation("second", engine[deck_version(second)]))
        for topic, raws in ((COMMANDS, part.commands), (CDRS, part.calls)):
            for raw in raws:
                send(history, rng, topic, raw)
            drain(workers, rng)
    return history


def activation(name: str, rules: EngineRules) -> bytes:
    return orjson.dumps({"command_id": f"deck-{name}", "type": "deck.activated", "at": "2026-01-01T00:00:00Z", "by": "ops",
                         "decks": [deck.version for deck in rules.decks], "plans": rules.plans_version})  # fmt: skip


def send(history: History, rng: random.Random, topic: str, raw: bytes) -> None:
    key = tenant_of(raw)
    partition = home_of(key or b"?", history.partitions)
    chance = rng.random()
    if chance < 0.15 and topic == CDRS:
        partition = rng.randrange(history.partitions)  # another partitioner's
    if chance < 0.05 and topic == COMMANDS:
        partition = rng.randrange(history.partitions)
    if 0.15 < chance < 0.25:
        key = None
    if 0.25 < chance < 0.27:
        key = b"somebody-else"
    history.append(topic, partition, key, raw)
    if chance > 0.95:
        history.marker(topic, partition)


def drain(workers: list[MiniWorker], rng: random.Random) -> None:
    busy = True
    while busy:
        busy = False
        for worker in rng.sample(workers, len(workers)):
            busy |= worker.step(rng.choice([1, 3, 10, 40]))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("partitions", [2, 3])
def test_a_history_made_by_the_engine_is_clean(tmp_path: Path, seed: int, partitions: int) -> None:
    history = make_history(tmp_path, seed, partitions)
    assert [str(violation) for violation in history.violations()] == []


def test_the_histories_hold_what_the_planted_faults_need(history: History) -> None:
    reasons = {orjson.loads(record.value or b"")["reason"] for record in history.topics[REJECTED_CDRS]}
    assert {"key_mismatch", "conflict", "unknown_tenant", "not_json"} <= reasons
    assert len(forwarded(history, CDRS)) > 5
    assert len(forwarded(history, COMMANDS)) > 0
    assert len({decks_of(record) for record in history.topics[JOURNAL]}) == 2
    assert sum(orjson.loads(record.value or b"")["counts"]["duplicates"] for record in history.topics[JOURNAL]) > 0


# ---------------------------------------------------------------------------------------------- planting


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> History:
    return make_history(tmp_path_factory.mktemp("history"), RICH_SEED)


@pytest.fixture
def history(made: History) -> History:
    return made.copy()


RICH_SEED = 4  # with every kind of record that the planted faults need


def forwarded(history: History, topic: str) -> list[int]:
    return [at for at, record in enumerate(history.topics[topic]) if record.headers]


def decks_of(record: Record) -> tuple[str, ...]:
    return tuple(orjson.loads(record.value or b"")["decks"])


def row_of(record: Record) -> dict[str, Any]:
    row: dict[str, Any] = orjson.loads(record.value or b"")
    return row


Wanted = Callable[[dict[str, Any]], bool]


def find(history: History, topic: str, wanted: Wanted = lambda _: True, nth: int = 0) -> int:
    """Where the n-th record with such a row stands in its topic."""
    fitting = [at for at, record in enumerate(history.topics[topic]) if record.value and wanted(row_of(record))]
    assert len(fitting) > nth, f"the history has no such record in {topic}"
    return fitting[nth]


def change(history: History, topic: str, at: int, **fields: Any) -> None:
    """Fields of a JSON record, replaced in its bytes as the product would have written them."""
    record = history.topics[topic][at]
    value = record.value or b""
    row = row_of(record)
    for name, new in fields.items():
        old_text = b'"%s":%s' % (name.encode(), orjson.dumps(row[name]))
        new_text = b'"%s":%s' % (name.encode(), new if isinstance(new, bytes) else orjson.dumps(new))
        assert value.count(old_text) >= 1, (name, value)
        head, _, tail = value.rpartition(old_text)
        value = head + new_text + tail
    history.topics[topic][at] = record._replace(value=value)


def swap(history: History, topic: str, a: int, b: int) -> None:
    """Two records change places; offsets stay in order."""
    records = history.topics[topic]
    first, second = records[a], records[b]
    records[a], records[b] = second._replace(offset=first.offset), first._replace(offset=second.offset)


def pair(history: History, topic: str, wanted: Callable[[dict[str, Any], dict[str, Any]], bool]) -> tuple[int, int]:
    """Two records of one partition, one behind the other."""
    last: dict[int, int] = {}
    for at, record in enumerate(history.topics[topic]):
        before = last.get(record.partition)
        if before is not None and wanted(row_of(history.topics[topic][before]), row_of(record)):
            return before, at
        last[record.partition] = at
    raise AssertionError(f"no such pair in {topic}")


def middle_line(history: History, wanted: Wanted = lambda row: row["counts"]["rated"] > 1) -> int:
    return find(history, JOURNAL, wanted, 1)


def last_line(history: History) -> int:
    """The last journal line of a partition, of one that rated something."""
    last = {record.partition: at for at, record in enumerate(history.topics[JOURNAL])}
    return next(at for at in last.values() if row_of(history.topics[JOURNAL][at])["counts"]["read"])


def charged(row: dict[str, Any]) -> bool:
    return bool(row["charge_micros"] > 0)


def a_rated_call_dropped(history: History) -> None:
    del history.topics[RATED][find(history, RATED, nth=5)]


def a_rated_call_doubled(history: History) -> None:
    record = history.topics[RATED][find(history, RATED, nth=5)]
    history.append(RATED, record.partition, record.key, record.value)


def one_digit_of_a_balance(history: History) -> None:
    at = find(history, RATED, charged, 3)
    change(history, RATED, at, balance_micros=row_of(history.topics[RATED][at])["balance_micros"] + 1)


def a_version_skipped(history: History) -> None:
    at = find(history, RATED, nth=9)
    change(history, RATED, at, account_version=row_of(history.topics[RATED][at])["account_version"] + 1)


def a_charge_of_one_more(history: History) -> None:
    at = find(history, RATED, charged)
    change(history, RATED, at, charge_micros=row_of(history.topics[RATED][at])["charge_micros"] + 1)


def float_money(history: History) -> None:
    at = find(history, RATED, charged)
    amount = row_of(history.topics[RATED][at])["charge_micros"]
    change(history, RATED, at, charge_micros=b"%d.0" % amount)


def a_debt_forgotten(history: History) -> None:
    change(history, RATED, find(history, RATED, lambda row: row["debt_micros"] > 0), debt_micros=0)


def two_calls_of_an_account_swapped(history: History) -> None:
    swap(history, RATED, *pair(history, RATED, lambda a, b: a["tenant"] == b["tenant"]))


def an_input_offset_off_by_one(history: History) -> None:
    partition = history.topics[RATED][find(history, RATED, nth=4)].partition
    at = find(history, RATED, nth=4)
    change(history, RATED, at, input=[partition, row_of(history.topics[RATED][at])["input"][1] + 1])


def a_call_in_another_partition(history: History) -> None:
    at = find(history, RATED, nth=4)
    record = history.topics[RATED].pop(at)
    history.append(RATED, (record.partition + 1) % history.partitions, record.key, record.value)


def a_call_under_another_key(history: History) -> None:
    at = find(history, RATED)
    history.topics[RATED][at] = history.topics[RATED][at]._replace(key=b"fabrikam-2")


def a_call_encoded_again(history: History) -> None:
    at = find(history, RATED)
    record = history.topics[RATED][at]
    value = (record.value or b"").replace(b'"call":', b'"call": ', 1)
    history.topics[RATED][at] = record._replace(value=value)


def a_field_nobody_promised(history: History) -> None:
    at = find(history, RATED)
    record = history.topics[RATED][at]
    history.topics[RATED][at] = record._replace(value=(record.value or b"")[:-1] + b',"more":1}')


def a_flag_forgotten(history: History) -> None:
    change(history, RATED, find(history, RATED, lambda row: bool(row["flags"])), flags=[])


def the_deck_before(history: History) -> None:
    at = find(history, RATED, lambda row: row["deck_version"] is not None)
    others = {row_of(record)["deck_version"] for record in history.topics[RATED]} - {None}
    others -= {row_of(history.topics[RATED][at])["deck_version"]}
    change(history, RATED, at, deck_version=others.pop())


def a_line_that_is_not_json(history: History) -> None:
    at = find(history, RATED)
    history.topics[RATED][at] = history.topics[RATED][at]._replace(value=b'{"v":1,')


def an_event_missing(history: History) -> None:
    del history.topics[EVENTS][find(history, EVENTS, nth=2)]


def an_event_twice(history: History) -> None:
    record = history.topics[EVENTS][find(history, EVENTS, nth=2)]
    history.append(EVENTS, record.partition, record.key, record.value)


def an_alarm_on_the_level(history: History) -> None:
    """A balance still below zero is announced as a new crossing."""
    record = history.topics[EVENTS][find(history, EVENTS, lambda row: row["type"] == "rater.balance.zero")]
    row = row_of(record)
    later = next(
        r
        for r in history.topics[RATED]
        if r.key == record.key and row_of(r)["account_version"] > row["data"]["account_version"]
    )
    number = row["data"]["crossing"] + 70
    row["id"] = f"{row['subject']}/balance.zero/{number}"
    row["data"] |= {"crossing": number, "input": row_of(later)["input"], "cause": "call"}
    history.append(EVENTS, record.partition, record.key, orjson.dumps(row))


def an_alarm_of_another_amount(history: History) -> None:
    at = find(history, EVENTS, lambda row: row["type"] == "rater.recharge.requested")
    record = history.topics[EVENTS][at]
    row = row_of(record)
    row["data"]["balance_micros"] += 1
    history.topics[EVENTS][at] = record._replace(value=orjson.dumps(row))


def two_events_swapped(history: History) -> None:
    swap(history, EVENTS, *pair(history, EVENTS, lambda a, b: a["data"]["input"] != b["data"]["input"]))


def the_bytes_of_a_rejection(history: History) -> None:
    at = find(history, REJECTED_CDRS, lambda row: len(row["raw_b64"]) > 20)
    raw = row_of(history.topics[REJECTED_CDRS][at])["raw_b64"]
    change(history, REJECTED_CDRS, at, raw_b64="AAAA" + raw[4:])


def the_reason_of_a_rejection(history: History) -> None:
    change(
        history,
        REJECTED_CDRS,
        find(history, REJECTED_CDRS, lambda row: row["reason"] == "not_json"),
        reason="bad_field",
    )


def the_key_of_a_rejection(history: History) -> None:
    at = find(history, REJECTED_CDRS, lambda row: row["reason"] == "key_mismatch")
    history.topics[REJECTED_CDRS][at] = history.topics[REJECTED_CDRS][at]._replace(key=None)


def a_rejection_dropped(history: History) -> None:
    del history.topics[REJECTED_CDRS][find(history, REJECTED_CDRS, lambda row: row["reason"] == "not_json")]


def a_rejected_command_dropped(history: History) -> None:
    del history.topics[REJECTED_COMMANDS][find(history, REJECTED_COMMANDS)]


def a_conflict_dropped(history: History) -> None:
    del history.topics[REJECTED_CDRS][find(history, REJECTED_CDRS, lambda row: row["reason"] == "conflict")]


def a_duplicate_rated_again(history: History) -> None:
    """No de-duplication: the answer to the first is written for the second, too."""
    line = row_of(history.topics[JOURNAL][find(history, JOURNAL, lambda row: row["counts"]["duplicates"] > 0)])
    partition, since, until = line["cdrs"]
    answered = {
        row_of(r)["input"][1] for t in (RATED, REJECTED_CDRS) for r in history.topics[t] if r.partition == partition
    }
    for source in history.topics[CDRS]:
        if source.partition == partition and since <= source.offset < until and source.offset not in answered:
            name = tenant_of(source.value or b""), orjson.loads(source.value or b"")["record_id"]
            if home_of(name[0] or b"", history.partitions) == partition:
                break
    at = find(history, RATED, lambda row: (row["tenant"].encode(), row["record_id"]) == name)
    record = history.topics[RATED][at]
    history.append(RATED, partition, record.key, record.value)
    change(history, RATED, len(history.topics[RATED]) - 1, input=[partition, source.offset])


def a_journal_line_missing(history: History) -> None:
    del history.topics[JOURNAL][middle_line(history)]


def the_last_journal_line_missing(history: History) -> None:
    """A torn transaction: outputs of a batch whose journal line was aborted."""
    del history.topics[JOURNAL][last_line(history)]


def a_journal_line_that_counts_otherwise(history: History) -> None:
    at = middle_line(history)
    counts = row_of(history.topics[JOURNAL][at])["counts"]
    change(history, JOURNAL, at, counts=counts | {"rated": counts["rated"] + 1})


def a_journal_total_off_by_one(history: History) -> None:
    at = middle_line(history, lambda row: bool(row["totals"]["charge_micros"]))
    totals = row_of(history.topics[JOURNAL][at])["totals"]
    charges = {currency: amount + 1 for currency, amount in totals["charge_micros"].items()}
    change(history, JOURNAL, at, totals=totals | {"charge_micros": charges})


def a_journal_line_unchained(history: History) -> None:
    change(history, JOURNAL, middle_line(history), previous="0" * 32)


def a_journal_digest(history: History) -> None:
    at = middle_line(history)
    digests = row_of(history.topics[JOURNAL][at])["digests"]
    change(history, JOURNAL, at, digests=digests | {RATED: "f" * 32})


def a_journal_line_of_other_decks(history: History) -> None:
    names = {decks_of(record) for record in history.topics[JOURNAL]}
    at = middle_line(history)
    change(history, JOURNAL, at, decks=list((names - {decks_of(history.topics[JOURNAL][at])}).pop()))


def an_offset_instead_of_the_next(history: History) -> None:
    """The range of a batch ends one early, so the next one reads its last record again."""
    at = middle_line(history)
    record = history.topics[JOURNAL][at]
    later = next(
        k
        for k in range(at + 1, len(history.topics[JOURNAL]))
        if history.topics[JOURNAL][k].partition == record.partition
    )
    segment = row_of(history.topics[JOURNAL][later])["segments"][0]
    segment[2] = row_of(record)["segments"][0][3] - 1
    change(history, JOURNAL, later, segments=[segment], cdrs=[record.partition, *segment[2:]])


def an_id_seen_and_not_kept(history: History) -> None:
    at = middle_line(history)
    change(history, JOURNAL, at, seen_b64="")


ADDED = '"amount_micros":'


def an_applied_command_altered(history: History) -> None:
    at = find(history, JOURNAL, lambda row: any(ADDED in text for _, text in row["applied"]))
    applied = row_of(history.topics[JOURNAL][at])["applied"]
    where = next(k for k, (_, text) in enumerate(applied) if ADDED in text)
    applied[where][1] = applied[where][1].replace(ADDED, ADDED + "1")
    change(history, JOURNAL, at, applied=applied)


def the_group_offset_moved(by: int) -> Callable[[History], None]:
    def plant(history: History) -> None:
        history.offsets[CDRS, 1] += by

    return plant


def the_group_offsets_deleted(history: History) -> None:
    del history.offsets[COMMANDS, 0]


def a_forwarded_call_lost(history: History) -> None:
    del history.topics[CDRS][forwarded(history, CDRS)[0]]


def a_forwarded_command_lost(history: History) -> None:
    del history.topics[COMMANDS][forwarded(history, COMMANDS)[0]]


def a_call_forwarded_twice(history: History) -> None:
    copy = history.topics[CDRS][forwarded(history, CDRS)[0]]
    history.append(CDRS, copy.partition, copy.key, copy.value, copy.headers)


def a_call_forwarded_elsewhere(history: History) -> None:
    at = forwarded(history, CDRS)[0]
    copy = history.topics[CDRS].pop(at)
    history.append(CDRS, (copy.partition + 1) % history.partitions, *copy[2:])


def a_forwarded_call_altered(history: History) -> None:
    at = forwarded(history, CDRS)[0]
    history.topics[CDRS][at] = history.topics[CDRS][at]._replace(key=b"other")


def a_copy_without_a_source(history: History) -> None:
    history.append(CDRS, 0, b"contoso", b"{}", ((FORWARDED_FROM, b"1/99999"),))


def a_stale_watermark(history: History) -> None:
    metas = [at for at, record in enumerate(history.topics[STATE]) if record.key == b"meta" and record.partition == 2]
    del history.topics[STATE][metas[-1]]


def a_state_row_lost(history: History) -> None:
    history.topics[STATE] = [record for record in history.topics[STATE] if record.key != b"accounts/0"]


def newest_rows(history: History, shelf: str, partition: int = 0) -> list[int]:
    """Where the newest record of each row of a shelf stands, in the order of the topic."""
    places = {
        record.key: at
        for at, record in enumerate(history.topics[STATE])
        if record.partition == partition and (record.key or b"").startswith(shelf.encode())
    }
    return sorted(places.values())


def a_row_not_written_again(history: History) -> None:
    """Its newest record is missing, an older one is there: nobody who only counts rows can see it."""
    before: dict[tuple[int, bytes | None], bytes | None] = {}
    for at, record in enumerate(history.topics[STATE]):
        if (record.key or b"").startswith(b"pools"):
            first = before.setdefault((record.partition, record.key), record.value)
            history.topics[STATE][at] = record._replace(value=first)


def a_row_too_many(history: History) -> None:
    number = len(newest_rows(history, "pools"))
    history.append(STATE, 0, b"pools/%d" % number, b"forged")


def two_rows_exchanged(history: History) -> None:
    """Both are there, under each other's number."""
    records = history.topics[STATE]
    one, other, *_ = newest_rows(history, "accounts")
    records[one], records[other] = (
        records[one]._replace(value=records[other].value), records[other]._replace(value=records[one].value),
    )  # fmt: skip


def another_free_row(history: History) -> None:
    at = max(k for k, record in enumerate(history.topics[STATE]) if record.key == b"meta")
    free = row_of(history.topics[STATE][at])["free"]
    change(history, STATE, at, free={**free, "lots": free["lots"] + 1})


def an_id_too_many_in_the_state(history: History) -> None:
    at = max(k for k, record in enumerate(history.topics[STATE]) if record.key == b"meta")
    change(history, STATE, at, ids=row_of(history.topics[STATE][at])["ids"] + 1)


def an_input_left_unread(history: History) -> None:
    history.append(CDRS, 0, b"contoso", b"{}")


def a_summary(row: dict[str, Any]) -> bool:
    return bool(row["type"] == "rater.month.closed")


def a_month_told_short_of_a_call(history: History) -> None:
    at = find(history, EVENTS, a_summary)
    data = row_of(history.topics[EVENTS][at])["data"]
    change_data(history, at, calls=data["calls"] - 1)


def a_month_told_with_another_charge(history: History) -> None:
    at = find(history, EVENTS, a_summary, 1)
    change_data(history, at, charge_micros=row_of(history.topics[EVENTS][at])["data"]["charge_micros"] + 1)


def a_month_told_twice(history: History) -> None:
    record = history.topics[EVENTS][find(history, EVENTS, a_summary)]
    history.append(EVENTS, record.partition, record.key, record.value)


def a_month_not_told(history: History) -> None:
    del history.topics[EVENTS][find(history, EVENTS, a_summary)]


def change_data(history: History, at: int, **data: Any) -> None:
    record = history.topics[EVENTS][at]
    row = row_of(record)
    history.topics[EVENTS][at] = record._replace(value=orjson.dumps(row | {"data": row["data"] | data}))


PLANTED: list[tuple[str, Callable[[History], None]]] = [
    ("I3", a_rated_call_dropped),
    ("I4", a_rated_call_doubled),
    ("I5", one_digit_of_a_balance),
    ("I1", one_digit_of_a_balance),
    ("I5", a_version_skipped),
    ("I1", a_charge_of_one_more),
    ("I2", a_charge_of_one_more),
    ("I1", float_money),
    ("I1", a_debt_forgotten),
    ("I2", a_debt_forgotten),
    ("I6", two_calls_of_an_account_swapped),
    ("I3", an_input_offset_off_by_one),
    ("I6", a_call_in_another_partition),
    ("I3", a_call_in_another_partition),
    ("I6", a_call_under_another_key),
    ("I3", a_call_encoded_again),
    ("I11", a_field_nobody_promised),
    ("I11", a_flag_forgotten),
    ("I13", the_deck_before),
    ("I8", a_line_that_is_not_json),
    ("I2", a_month_told_short_of_a_call),
    ("I7", a_month_told_short_of_a_call),
    ("I2", a_month_told_with_another_charge),
    ("I2", a_month_told_twice),
    ("I7", a_month_not_told),
    ("I7", an_event_missing),
    ("I7", an_event_twice),
    ("I7", an_alarm_on_the_level),
    ("I7", an_alarm_of_another_amount),
    ("I6", two_events_swapped),
    ("I15", the_bytes_of_a_rejection),
    ("I15", the_reason_of_a_rejection),
    ("I15", the_key_of_a_rejection),
    ("I3", a_rejection_dropped),
    ("I3", a_rejected_command_dropped),
    ("I4", a_conflict_dropped),
    ("I4", a_duplicate_rated_again),
    ("I8", a_journal_line_missing),
    ("I8", the_last_journal_line_missing),
    ("I3", a_journal_line_that_counts_otherwise),
    ("I2", a_journal_total_off_by_one),
    ("I8", a_journal_line_unchained),
    ("I8", a_journal_digest),
    ("I13", a_journal_line_of_other_decks),
    ("I8", an_offset_instead_of_the_next),
    ("I8", an_id_seen_and_not_kept),
    ("I8", an_applied_command_altered),
    ("I8", the_group_offset_moved(1)),
    ("I8", the_group_offset_moved(-1)),
    ("I8", the_group_offsets_deleted),
    ("I3", a_forwarded_call_lost),
    ("I3", a_forwarded_command_lost),
    ("I4", a_call_forwarded_twice),
    ("I3", a_call_forwarded_elsewhere),
    ("I3", a_forwarded_call_altered),
    ("I8", a_copy_without_a_source),
    ("I8", a_stale_watermark),
    ("I10", a_state_row_lost),
    ("I10", a_row_not_written_again),
    ("I10", a_row_too_many),
    ("I10", two_rows_exchanged),
    ("I10", another_free_row),
    ("I10", an_id_too_many_in_the_state),
    ("I12", an_input_left_unread),
]


@pytest.mark.parametrize(("invariant", "plant"), PLANTED, ids=lambda value: getattr(value, "__name__", value))
def test_a_planted_fault_is_named(history: History, invariant: str, plant: Callable[[History], None]) -> None:
    plant(history)
    found = history.violations()
    assert invariant in {violation.invariant for violation in found}, [str(violation) for violation in found]


@pytest.mark.parametrize("shelf", SHELVES)
def test_any_byte_of_a_row_is_told_by_shelf_row_and_field(history: History, shelf: str) -> None:
    """Of every shelf three rows at most, each with another byte changed."""
    rng = random.Random(shelf)
    places = newest_rows(history, shelf)
    assert places, f"the history has no {shelf}"
    for at in rng.sample(places, min(3, len(places))):
        record = history.topics[STATE][at]
        value = record.value or b""
        place = rng.randrange(len(value))
        forged = value[:place] + bytes([value[place] ^ rng.randrange(1, 256)]) + value[place + 1 :]
        one = history.copy()
        one.topics[STATE][at] = record._replace(value=forged)
        (told,) = one.violations()
        number = (record.key or b"").decode().split("/")[1]
        assert (told.invariant, told.topic, told.partition, told.offset) == ("I10", STATE, 0, record.offset)
        assert f"row {number} of {shelf}: " in told.what


def test_the_histories_use_rows_again_and_chain_months(made: History) -> None:
    """What the rows' bytes are hardest to foretell by."""
    metas = [row_of(record) for record in made.topics[STATE] if record.key == b"meta"]
    assert any(meta["free"]["lots"] >= 0 for meta in metas)
    rows = [
        fields_of("totals", record.value or b"") or {}
        for record in made.topics[STATE]
        if (record.key or b"").startswith(b"totals")
    ]
    assert any(row["next"] > 0 for row in rows)
    assert any(row["told"] for row in rows)


def test_a_fault_is_told_with_its_place_and_both_values(history: History) -> None:
    at = find(history, RATED, charged, 3)
    record = history.topics[RATED][at]
    right = row_of(record)["balance_micros"]
    change(history, RATED, at, balance_micros=right + 1)
    told = [violation for violation in history.violations() if violation.invariant == "I5"]
    assert [(v.topic, v.partition, v.offset, v.tenant, v.expected, v.found) for v in told] == [
        (RATED, record.partition, record.offset, (record.key or b"").decode(), right, right + 1)
    ]
    assert "balance_micros" in str(told[0])


def test_one_dropped_call_is_not_a_hundred_violations(history: History) -> None:
    a_rated_call_dropped(history)
    assert len(history.violations()) < 10


def test_an_open_transaction_is_not_settled(history: History) -> None:
    ends = {place: End(end, end) for place, end in history.ends.items()} | {(RATED, 0): End(3, 7)}
    found = check(history.topics, history.offsets, history.book, history.partitions, ends)
    assert [violation.invariant for violation in found] == ["I12"]


def test_a_deck_that_the_checker_was_not_given_is_said_to_be_missing(history: History) -> None:
    book = RuleBook({}, history.book.plans, COUNTRY_OF, IS_EMERGENCY)
    first = dict([next(iter(history.book.decks.items()))])
    found = check(
        history.topics, history.offsets, RuleBook(first, book.plans, COUNTRY_OF, IS_EMERGENCY), history.partitions
    )
    assert any(violation.invariant == "I13" and "content hash" in violation.what for violation in found)


def test_answers_that_go_back_for_one_client_are_told() -> None:
    good = [Reading("a", 0, 5), Reading("b", 0, 3), Reading("a", 1, 2), Reading("a", 0, 5), Reading("b", 0, 4)]
    assert list(i9_never_back(good)) == []
    assert [v.invariant for v in i9_never_back([*good, Reading("a", 0, 4)])] == ["I9"]


def test_two_runs_over_the_same_input_must_write_the_same(history: History, made: History) -> None:
    assert list(i11_replay(made.topics, history.topics)) == []
    one_digit_of_a_balance(history)
    assert [v.invariant for v in i11_replay(made.topics, history.topics)] == ["I11"]


def test_murmur2_is_that_of_the_java_client() -> None:
    """Values of org.apache.kafka.common.utils.UtilsTest."""
    known = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536,
             b"a-little-bit-longer-string": -1486304829, b"abc": 479470107}  # fmt: skip
    assert {key: (murmur2(key) ^ 1 << 31) - (1 << 31) for key in known} == known


# ---------------------------------------------------------------------------------------------- while it runs


class Growing:
    """A history that becomes visible act by act; of each partition's last transaction, place by place, in any order.

    A transaction begins when the last one of its partition is visible everywhere, and reads inputs that are visible.
    """

    def __init__(self, history: History, seed: int) -> None:
        self.history, self.rng = history, random.Random(seed)
        self.acts = iter(history.acts)
        self.hidden: list[Act] = []  # begun to be visible, and not yet everywhere
        self.visible: list[tuple[str, Record]] = []
        self.read: dict[str, int] = {}
        self.offsets: dict[tuple[str, int], int] = {}
        self.done = False

    def reveal(self, wanted: Callable[[str, int], bool], acts: Iterable[Act]) -> None:
        for act in acts:
            self.visible += [(t, r) for t, r in act.records if wanted(t, r.partition)]
            act.records = [(t, r) for t, r in act.records if not wanted(t, r.partition)]

    def advance(self) -> None:
        """The next act begins to be visible; what must be visible before it, is."""
        act = next(self.acts, None)
        if act is None:
            self.finish()
            return
        act = Act(act.worker, list(act.records), dict(act.offsets))
        if act.worker is None:
            self.reveal(lambda t, _: t in (CDRS, COMMANDS), self.hidden)
            self.reveal(lambda *_: True, [act])
            return
        for earlier in [one for one in self.hidden if one.worker == act.worker]:
            self.complete(earlier)
        self.reveal(lambda t, _: t in (CDRS, COMMANDS), self.hidden)
        self.hidden.append(act)

    def complete(self, act: Act) -> None:
        self.reveal(lambda *_: True, [act])
        self.offsets |= act.offsets
        self.hidden.remove(act)

    def finish(self) -> None:
        for act in list(self.hidden):
            self.complete(act)
        self.done = True

    def wander(self) -> None:
        """Markers arrive here and there, and now and then more is done."""
        for act in self.hidden:
            places = sorted({(t, r.partition) for t, r in act.records})
            chosen = {place for place in places if self.rng.random() < 0.3}
            self.reveal(lambda t, p, chosen=chosen: (t, p) in chosen and t not in (CDRS, COMMANDS), [act])  # type: ignore[misc]
            if self.rng.random() < 0.3:
                self.offsets |= act.offsets
        for _ in range(self.rng.choice([0, 0, 1, 2, 30])):
            self.advance()

    def poll(self, topics: Iterable[str]) -> Iterator[tuple[str, Record]]:
        self.wander()
        for topic in topics:
            records = [r for t, r in self.visible if t == topic]
            fresh = records[self.read.get(topic, 0) :]
            self.read[topic] = len(records)
            yield from ((topic, record) for record in fresh)

    def group_offsets(self) -> dict[tuple[str, int], int]:
        self.wander()
        return dict(self.offsets)

    def ends(self) -> dict[tuple[str, int], End]:
        return {place: End(end, end) for place, end in self.history.ends.items()}


def watched(source: Growing) -> tuple[Watcher, list[Violation]]:
    """Steps until everything is visible; what was found before the end."""
    watcher, found = Watcher(source, source.history.book, source.history.partitions), []
    while not source.done:
        found += watcher.step()
    return watcher, found


@pytest.mark.parametrize("seed", range(6))
def test_a_clean_run_is_clean_at_every_step(made: History, seed: int) -> None:
    watcher, found = watched(Growing(made, seed))
    assert watcher.judged() > 0
    assert [str(violation) for violation in found + watcher.finish()] == []


def with_records(history: History, topic: str, change_one: Callable[[Record], Record | None]) -> History:
    """The history with one topic's records changed (None: left out) in its acts."""
    copy = history.copy()
    for act in history.acts:
        changed = [(t, change_one(r) if t == topic else r) for t, r in act.records]
        copy.acts.append(Act(act.worker, [(t, r) for t, r in changed if r is not None], dict(act.offsets)))
    return copy


def test_a_wrong_balance_is_told_while_it_runs(made: History) -> None:
    wrong = made.copy()
    one_digit_of_a_balance(wrong)
    altered = {(r.partition, r.offset): r for r in wrong.topics[RATED]}
    _, found = watched(Growing(with_records(made, RATED, lambda r: altered[r.partition, r.offset]), 1))
    assert "I5" in {violation.invariant for violation in found}


def test_a_torn_transaction_is_told_while_it_runs(made: History) -> None:
    """The outputs of a batch become visible, and of the batch behind it, but never its journal line."""
    torn = made.topics[JOURNAL][middle_line(made)]
    _, found = watched(Growing(with_records(made, JOURNAL, lambda r: None if r == torn else r), 1))
    assert "I8" in {violation.invariant for violation in found}


def test_an_output_two_batches_ahead_of_the_journal_is_told(made: History) -> None:
    """Its place in the log is right, and no line is missing: it was only seen too early."""
    source = Growing(made, 1)
    watcher = Watcher(source, made.book, made.partitions)
    late = made.topics[RATED][find(made, RATED, nth=30)]
    source.visible.append((RATED, late))
    found = watcher.step()
    while not source.done:
        found += watcher.step()
    assert "was visible before the journal line" in " ".join(violation.what for violation in found)


def test_a_group_offset_that_goes_back_is_told(made: History) -> None:
    source = Growing(made, 1)
    watcher, found = watched(source)
    source.offsets[CDRS, 1] -= 1
    assert "the group offset went back" in {violation.what for violation in watcher.step()}
    assert found == []


# ---------------------------------------------------------------------------------------------- on a real broker


class Writing:
    """A history written to a broker, at the same offsets in the inputs, with aborted transactions between the others."""

    def __init__(self, bootstrap: str, history: History) -> None:
        self.history, self.bootstrap = history, bootstrap
        self.prefix = f"{uuid.uuid4().hex[:8]}."
        self.plain = confluent_kafka.Producer({"bootstrap.servers": bootstrap, "log_level": 2})
        settings = {"bootstrap.servers": bootstrap, "transactional.id": f"{self.prefix}writer", "log_level": 2}
        self.transactional = confluent_kafka.Producer(settings)
        self.transactional.init_transactions(30)
        topics = [NewTopic(self.prefix + topic, history.partitions, 1) for topic in TOPICS]
        admin = AdminClient({"bootstrap.servers": bootstrap})  # its futures end when nobody holds it any more
        for made in admin.create_topics(topics).values():
            made.result(30)

    def produce(self, producer: Any, topic: str, record: Record) -> None:
        headers = list(record.headers)
        producer.produce(self.prefix + topic, record.value, record.key, record.partition, headers=headers)

    def transaction(self, records: Iterable[tuple[str, Record]], commit: bool = True) -> None:
        self.transactional.begin_transaction()
        for topic, record in records:
            self.produce(self.transactional, topic, record)
        self.transactional.flush(30)
        if commit:
            self.transactional.commit_transaction(30)
        else:
            self.transactional.abort_transaction(30)

    def write(self) -> None:
        for topic in (CDRS, COMMANDS):
            for partition in range(self.history.partitions):
                self.inputs(topic, [r for r in self.history.topics[topic] if r.partition == partition])
        for number, act in enumerate(one for one in self.history.acts if one.worker is not None):
            outputs = [(topic, record) for topic, record in act.records if topic not in (CDRS, COMMANDS)]
            if number % 7 == 3:
                self.transaction(outputs, commit=False)
            self.transaction(outputs)
        group = confluent_kafka.Consumer({"bootstrap.servers": self.bootstrap, "group.id": "rater"})
        places = [confluent_kafka.TopicPartition(self.prefix + t, p, o) for (t, p), o in self.history.offsets.items()]
        group.commit(offsets=places, asynchronous=False)
        group.close()

    def inputs(self, topic: str, records: list[Record]) -> None:
        """Records up to a marker are one transaction; those behind the last marker are written plainly."""
        together: list[tuple[str, Record]] = []
        for record, after in zip(records, [*records[1:], None], strict=True):
            together.append((topic, record))
            next_offset = after.offset if after else self.history.ends[topic, record.partition]
            if next_offset == record.offset + 2:
                self.transaction(together)
                together = []
        # A commit returns before its markers are written; the next transaction begins behind them.
        self.transaction([(RATED, self.history.topics[RATED][0])], commit=False)
        for _, record in together:
            self.produce(self.plain, topic, record)
        self.plain.flush(30)


@pytest.mark.parametrize(("plant", "status", "told"), [(False, 0, None), (True, 1, "I8")])
def test_a_real_broker_is_read_to_its_end_and_judged(
    kafka: KafkaCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str], plant: bool, status: int, told: str | None
) -> None:
    history = make_history(tmp_path, RICH_SEED)
    if plant:
        history.offsets[CDRS, 0] += 1
    writing = Writing(kafka.bootstrap, history)
    writing.write()
    rates = [
        "--rates",
        str(tmp_path / "first"),
        "--rates",
        str(tmp_path / "second"),
        "--plans",
        str(tmp_path / "plans.csv"),
    ]
    found = checker_io.main(["--bootstrap", kafka.bootstrap, "--topic-prefix", writing.prefix, *rates])
    shown = capsys.readouterr().out
    assert (found, told is None or told + ":" in shown) == (status, True), shown


def test_a_watcher_follows_a_real_broker(kafka: KafkaCluster, made: History) -> None:
    writing = Writing(kafka.bootstrap, made)
    source = checker_io.BrokerSource(kafka.bootstrap, "rater", writing.prefix)
    watcher = Watcher(source, made.book, made.partitions)
    try:
        assert watcher.step() == []
        writing.write()
        assert [str(violation) for violation in watcher.step() + watcher.finish()] == []
        assert watcher.judged() == len(made.topics[JOURNAL])
    finally:
        source.close()


def test_an_open_transaction_is_seen_and_not_read(kafka: KafkaCluster, made: History) -> None:
    writing = Writing(kafka.bootstrap, made)
    source = checker_io.BrokerSource(kafka.bootstrap, "rater", writing.prefix)
    try:
        writing.transactional.begin_transaction()
        writing.produce(writing.transactional, RATED, made.topics[RATED][0]._replace(partition=0))
        writing.transactional.flush(30)
        assert checker_io.read_topics(source)[RATED] == []
        assert source.ends()[RATED, 0] == End(0, 1)
    finally:
        writing.transactional.abort_transaction(30)
        source.close()
