"""What is sent while faults happen: calls and commands of several tenants, and everything that may be wrong with them.

Duplicates, the same id with other content, poison, late and out-of-order records, records of another partitioner, rules
that change, half of it in transactions of the producer's own, one in six of them aborted.
"""

import itertools
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import confluent_kafka
import orjson

from benchmarks.workload import Shape, calls, commands, write_deck
from rater.doors.kafka.rule_sets import RuleSets
from rater.doors.rules import RuleBook, load_rule_book
from tests.kafka.checker_model import CDRS, COMMANDS, home_of
from tests.kafka.workers import tenant_of

TENANTS = 18
POISON, TWICE, CONFLICT, MISPLACED, LATE, ACTIVATION, ASKED = 0.05, 0.03, 0.01, 0.05, 0.03, 0.004, 0.05
CHEAPER = 100  # less money than the benchmark's tenants have, so that balances cross zero in a short run
POISONOUS = (
    b"", b"{", b"\xef\xbb\xbf{}", b"[]", b"null", b'{"tenant":"t-0000001"}', b'{"tenant":7}', b"\xff\xfe\x00", b"{" * 5_000,
    b'{"tenant":"t-0000001","tenant":"t-0000002"}',
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sent:
    """A record on its way."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes


@dataclass(frozen=True, slots=True)
class Decks:
    """Two decks that follow one another: the workers read the first, and know the second."""

    folder: Path
    books: tuple[RuleBook, RuleBook]

    @property
    def folders(self) -> tuple[Path, Path]:
        return self.folder / "first", self.folder / "second"

    def keep(self, state: Path) -> None:
        """As a worker has them that has once rated with both."""
        kept = RuleSets(self.folders[0], None, state / "rates", print)
        for book in self.books:
            kept.keep(book)


def make_decks(folder: Path) -> Decks:
    shape = Shape(prefixes=300, tenants=TENANTS)
    books = []
    for name, seed in (("first", 1), ("second", 2)):
        books.append(load_rule_book(write_deck(folder / name, shape.with_(seed=seed)), None))
    return Decks(folder, (books[0], books[1]))


def activation(number: int, book: RuleBook) -> bytes:
    return orjson.dumps({"command_id": f"rules-{number}", "type": "deck.activated", "at": "2026-11-01T00:00:00Z", "by": "ops",
                         "decks": [deck.version for deck in book.decks], "plans": book.plans_version})  # fmt: skip


def openings(shape: Shape) -> list[bytes]:
    """Commands that open the tenants, with little money."""
    found = []
    for raw in commands(shape):
        row = orjson.loads(raw)
        for name in ("amount_micros", "trigger_micros"):
            if name in row:
                row[name] //= CHEAPER
        found.append(orjson.dumps(row))
    return found


def stream(rng: random.Random, partitions: int, books: tuple[RuleBook, RuleBook]) -> Iterator[Sent]:
    """Without end."""
    shape = Shape(tenants=TENANTS, prefixes=300, calls=4_000, seed=rng.randrange(1 << 30))
    for raw in openings(shape):
        yield placed(rng, COMMANDS, raw, partitions)
    late: list[bytes] = []
    for number, raw in enumerate(endless_calls(shape, rng)):
        if rng.random() < ASKED and raw.endswith(b"}"):  # the shape's own calls have broken ones among them
            raw, question = asked_about(rng, raw, number)
            yield placed(rng, COMMANDS, question, partitions)
        for value in (*spoiled(rng, raw), *(late.pop() for _ in range(len(late) // 40))):
            if rng.random() < LATE:
                late.append(value)
                rng.shuffle(late)
            else:
                yield placed(rng, CDRS, value, partitions)
        if number % 12 == 0:
            for value in payments(rng, number):
                yield placed(rng, COMMANDS, value, partitions)
        if rng.random() < ACTIVATION:
            value = activation(number, books[rng.randrange(2)])
            yield from (Sent(COMMANDS, p, None, value) for p in range(partitions))


def endless_calls(shape: Shape, rng: random.Random) -> Iterator[bytes]:
    """The shape's calls, then others with other record ids."""
    for round_number in itertools.count(1):
        for raw in calls(shape):
            yield raw.replace(b'"record_id":"sw1:', b'"record_id":"sw%d:' % round_number)
        shape = shape.with_(seed=rng.randrange(1 << 30))


def spoiled(rng: random.Random, raw: bytes) -> list[bytes]:
    """A call, and now and then what should not be."""
    chance = rng.random()
    if chance < POISON:
        return [raw, rng.choice(POISONOUS) if rng.random() < 0.6 else raw[: rng.randrange(len(raw))]]
    if chance < POISON + TWICE:
        return [raw, raw]
    if chance < POISON + TWICE + CONFLICT:
        return [raw, raw.replace(b'"switch":"sw1"', b'"switch":"sw2"')]
    return [raw]


def asked_about(rng: random.Random, raw: bytes, number: int) -> tuple[bytes, bytes]:
    """The call, and a question whether it may start; of some the record never says which call it was."""
    call = orjson.loads(raw)
    asked = {name: call[name] for name in ("tenant", "call_type", "user", "caller", "callee") if name in call}
    call_id = f"call-{number}"
    asked |= {
        "command_id": f"ask-{number}",
        "type": "call.authorize",
        "at": call["start"],
        "by": "sbc",
        "call_id": call_id,
    }
    asked |= {"seconds": rng.randrange(1, 7_200), "hold_seconds": rng.choice([60, 3_600, 172_800])}
    named = raw if rng.random() < 0.2 else raw[:-1] + b',"call_id":"%s"}' % call_id.encode()
    return named, orjson.dumps(asked)


def payments(rng: random.Random, number: int) -> list[bytes]:
    row: dict[str, Any] = {
        "command_id": f"pay-{number}", "tenant": f"t-{rng.randrange(TENANTS):07d}", "type": "funds.added",
        "at": "2026-11-02T00:00:00Z", "by": "ops", "lot_id": f"pay-{number}", "amount_micros": rng.randrange(1, 900_000),
    }  # fmt: skip
    raw = orjson.dumps(row)
    chance = rng.random()
    if chance < 0.1:
        return [raw, raw]
    if chance < 0.15:
        return [raw, orjson.dumps(row | {"amount_micros": 1_000_001})]
    return [raw, b'{"command_id":'] if chance < 0.2 else [raw]


def placed(rng: random.Random, topic: str, value: bytes, partitions: int) -> Sent:
    tenant = tenant_of(value)
    partition = home_of(tenant, partitions) if tenant else rng.randrange(partitions)
    if rng.random() < MISPLACED:
        partition = rng.randrange(partitions)
    return Sent(topic, partition, tenant.encode() if tenant and rng.random() < 0.9 else None, value)


class Load:
    """A thread that produces until it is told to end. `rate`: records a second."""

    def __init__(self, bootstrap: str, prefix: str, partitions: int, decks: Decks, seed: int, rate: int) -> None:
        self._rng = random.Random(seed)
        self._bootstrap, self._prefix, self._rate = bootstrap, prefix, rate
        self._records = stream(self._rng, partitions, decks.books)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run_or_say_why, name="load", daemon=True)
        self._failed: BaseException | None = None
        self.sent = self.calls = self.transactions = self.aborted = self.problems = 0
        self._thread.start()

    def end(self) -> None:
        """The last records are delivered, or given up, when this returns. Raises what ended the load before its time: a
        scene that nobody sends to would pass every check."""
        self._ending.set()
        self._thread.join(120.0)
        if self._failed is not None:
            raise self._failed

    def _run_or_say_why(self) -> None:
        try:
            self._run()
        except BaseException as problem:
            self._failed = problem

    def _run(self) -> None:
        plain = confluent_kafka.Producer(self._settings("plain"))
        transactional: Any = None
        while not self._ending.is_set():
            begun = time.monotonic()
            batch = [next(self._records) for _ in range(self._rng.randrange(1, 1 + self._rate // 5))]
            if self._rng.random() < 0.5:
                self._produce(plain, batch)
                plain.flush(30.0)
            else:
                transactional = self._in_transaction(transactional, batch)
            self.sent += len(batch)
            self.calls += sum(sent.topic == CDRS for sent in batch)
            self._ending.wait(max(0.0, len(batch) / self._rate - (time.monotonic() - begun)))
        plain.flush(30.0)

    def _settings(self, kind: str) -> dict[str, Any]:
        settings = {"bootstrap.servers": self._bootstrap, "log_level": 0, "linger.ms": 2, "reconnect.backoff.max.ms": 500, "acks": "all",
                    "enable.idempotence": True}  # fmt: skip
        if kind != "plain":
            settings |= {"transactional.id": f"{self._prefix}{kind}", "transaction.timeout.ms": 10_000}
        return settings

    def _produce(self, producer: Any, batch: list[Sent]) -> None:
        for sent in batch:
            producer.produce(self._prefix + sent.topic, sent.value, sent.key, sent.partition)
            producer.poll(0)

    def _in_transaction(self, producer: Any, batch: list[Sent]) -> Any:
        """Committed, or aborted and sent again; a producer that failed is replaced, as its records may be there twice."""
        abort = self._rng.random() < 1 / 6
        try:
            if producer is None:
                producer = confluent_kafka.Producer(self._settings("upstream"))
                producer.init_transactions(30.0)
            self.transactions += 1
            if abort:
                producer.begin_transaction()
                self._produce(producer, batch)
                producer.flush(10.0)
                producer.abort_transaction(30.0)
                self.aborted += 1
            producer.begin_transaction()
            self._produce(producer, batch)
            producer.commit_transaction(30.0)
            return producer
        except confluent_kafka.KafkaException:
            self.problems += 1
            return None
