"""Chaos on a real Apache Kafka: faults in random mixes under load, then rest, then the independent checker.

    python -m tests.kafka.chaos --seconds 600 --seed 1      # as many rounds as fit; prints a table
    python -m tests.kafka.chaos --planted                   # every planted bug, and what caught it
    python -m tests.kafka.chaos --bootstrap kafka1:9092     # against a cluster that is already there: see `chaos_outside`

A round is one deployment: some faults one after the other while records are sent, 60 seconds at most to come to rest, then
everything in the topics is judged. A round that fails leaves its logs, topics and timeline in a folder that it names; the
same seed makes the same choices, though a real broker does not repeat its timing.
"""

import argparse
import contextlib
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.kafka import chaos_faults as faults
from tests.kafka.broker import KafkaCluster
from tests.kafka.chaos_faults import Fault, Injection
from tests.kafka.chaos_kept import dump, open_transactions
from tests.kafka.chaos_load import Decks, make_decks
from tests.kafka.chaos_outside import LEFT_OUT, NoCluster, Outside, name_of, outside, plan_of_workers
from tests.kafka.chaos_scene import SETTLED_S, Scene, scene, until
from tests.kafka.nursery import Nursery, nursery

LOST, DOUBLED, BALANCE, ALARMS = {"I3"}, {"I4"}, {"I1", "I2", "I5"}, {"I7"}


@dataclass
class Round:
    """What one deployment came to."""

    seed: int
    shape: str
    injections: list[Injection] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    invariants: Counter[str] = field(default_factory=Counter)
    records: int = 0
    rated: int = 0
    batches: int = 0
    settle_s: float = 0.0
    seconds: float = 0.0
    kept: str = ""

    @property
    def survived(self) -> bool:
        return not self.violations


@dataclass(frozen=True, slots=True)
class Ground:
    """What rounds share: brokers, decks, a nursery, a folder."""

    kafka: KafkaCluster | Outside
    decks: Decks
    nursery: Nursery
    folder: Path


@contextlib.contextmanager
def ground(kafka: KafkaCluster | Outside, folder: Path) -> Iterator[Ground]:
    with nursery() as found:
        yield Ground(kafka, make_decks(folder / "decks"), found, folder)


def play(on: Ground, seed: int, plan: Sequence[Fault], **shape: Any) -> Round:
    """One round: the faults in order, rest, judgement."""
    begun = time.monotonic()
    told = Round(seed, " ".join(f"{name}={value}" for name, value in shape.items() if name != "settings"))
    name = name_of(seed)
    with scene(on.kafka, on.nursery, on.decks, on.folder / name, seed, name=name, **shape) as found:
        found.fleet.wait_running(found.partitions, 40.0)
        until(lambda: found.load.calls > 100, 40.0)  # tenants are open, and something is rated
        for fault in plan:
            try:
                injected = fault(found)
            except Exception as problem:
                found.timeline.note(
                    f"VIOLATION {getattr(fault, '__name__', fault)}: {type(problem).__name__}: {problem}"
                )
                injected = []
            for injection in injected:
                found.timeline.note(f"{injection.kind}: landed {injection.landed}, {injection.evidence}")
            told.injections += injected
        judge(found, told)
        if not told.survived:
            kept = Path(tempfile.mkdtemp(prefix=f"rater-chaos-failed-{seed}-"))
            dump(found, kept)
            told.kept = str(kept)
    if isinstance(on.kafka, Outside) and told.survived:
        on.kafka.forget(found.deployment)
    told.seconds = time.monotonic() - begun
    return told


def judge(found: Scene, told: Round) -> None:
    """Heal, rest, and everything that must be true then."""
    found.load.end()
    begun = time.monotonic()
    rests = found.watch.settle(SETTLED_S)
    told.settle_s = time.monotonic() - begun
    watcher = found.watch.finish()
    if not rests:
        found.timeline.note(f"VIOLATION I12 not at rest after {SETTLED_S:.0f} s; workers: {found.fleet.statuses()}")
        for line in open_transactions(found):
            found.timeline.note(f"VIOLATION I12 held back by: {line}")
    told.violations = [entry for entry in found.timeline.entries if "VIOLATION" in entry]
    told.invariants.update(violation.invariant for violation in found.watch.violations)
    told.batches = watcher.judged()
    lines = watcher.audit.books
    told.records = sum(books.checked["I3"] for books in lines) or found.load.sent
    told.rated = sum(books.checked["I4"] for books in lines)


# ---------------------------------------------------------------------------------------------- plans


FREQUENT: tuple[Fault, ...] = (faults.kills_at_some,) * 2 + (faults.random_kills,) * 3 + (
    faults.zombie, faults.zombie_at_some, faults.zombie_at_some, faults.rebalance_storm, faults.hijack, faults.some_snapshot,
)  # fmt: skip
# On three brokers: a cluster of one that dies or stands still has no leaders for a moment, and Kafka 4.3 skips the markers of
# transactions that end in it (docs/kafka.md).
OF_BROKERS: tuple[Fault, ...] = (faults.broker_kill, faults.broker_stopped, faults.broker_stopped_briefly)
BROKERS_SHARE = 0.3


def random_plan(rng: random.Random, count: int = 7) -> tuple[list[Fault], dict[str, Any]]:
    brokers = rng.random() < BROKERS_SHARE
    shape = {"proxied": not brokers and rng.random() < 0.4, "static": rng.random() < 0.6, "workers": rng.choice((2, 3, 3)),
             "partitions": rng.choice((3, 4)), "version": rng.choice((1, 2, 2))}  # fmt: skip
    plan = [rng.choice(FREQUENT) for _ in range(count - 3)]
    if shape["proxied"]:
        plan = [faults.lost_or_late if rng.random() < 0.6 else fault for fault in plan]
    if shape["static"]:
        plan += [faults.twin_instance, faults.rolling_restart]
    if brokers:
        plan += rng.choices(OF_BROKERS, k=2)
    elif rng.random() < 0.3:
        plan.append(faults.some_offsets)
    plan += [faults.kill_storm] * 3
    rng.shuffle(plan)
    return plan, shape


def mixed(on: Ground, three: Ground | None, seconds: float, seed: int, tell: Console) -> list[Round]:
    """Rounds with random faults until the time is over; those that strike brokers on `three` of them, or never."""
    deadline = time.monotonic() + seconds
    rounds: list[Round] = []
    while time.monotonic() < deadline:
        own = seed * 10_000 + len(rounds)
        plan, shape = (random_plan if three else plan_of_workers)(random.Random(own))
        try:
            rounds.append(play(three if three and set(plan) & set(OF_BROKERS) else on, own, plan, **shape))
        except KeyboardInterrupt:
            break
        last = rounds[-1]
        landed = sum(injection.landed for injection in last.injections)
        tell.print(f"seed {own}: {landed}/{len(last.injections)} landed, {last.records:,} records, {last.batches} batches, "
                   f"rest after {last.settle_s:.1f} s, {last.seconds:.0f} s; {last.shape}", highlight=False)  # fmt: skip
        if not last.survived:
            tell.print(failure(last), markup=False, highlight=False, soft_wrap=True)
    return rounds


def failure(told: Round) -> str:
    first = "\n  ".join(told.violations[:30])
    return f"seed {told.seed} ({told.shape}) failed, everything is kept in {told.kept}:\n  {first}"


# ---------------------------------------------------------------------------------------------- the report


def report(rounds: Iterable[Round]) -> dict[str, Any]:
    rounds = list(rounds)
    kinds: dict[str, Counter[str]] = {}
    for told in rounds:
        for injection in told.injections:
            row = kinds.setdefault(injection.kind, Counter())
            row["injected"] += 1
            row["landed"] += injection.landed
            row["survived"] += injection.landed and told.survived
    broken: Counter[str] = sum((told.invariants for told in rounds), Counter())
    landed = sum(row["landed"] for row in kinds.values())
    return {
        "rounds": len(rounds),
        "failed": [{"seed": told.seed, "kept": told.kept, "first": told.violations[:3]} for told in rounds if not told.survived],
        "kinds": {kind: dict(row) for kind, row in sorted(kinds.items())},
        "injected": sum(row["injected"] for row in kinds.values()),
        "landed": landed,
        "survived": sum(row["survived"] for row in kinds.values()),
        "records": sum(told.records for told in rounds),
        "rated": sum(told.rated for told in rounds),
        "batches": sum(told.batches for told in rounds),
        "lost": sum(broken[name] for name in LOST),
        "doubled": sum(broken[name] for name in DOUBLED),
        "balance_errors": sum(broken[name] for name in BALANCE),
        "alarms_wrong": sum(broken[name] for name in ALARMS),
        "other_violations": sum(broken.values()) - sum(broken[name] for name in LOST | DOUBLED | BALANCE | ALARMS),
        "slowest_rest_s": round(max((told.settle_s for told in rounds), default=0.0), 1),
        "seconds": round(sum(told.seconds for told in rounds)),
        "seeds": [told.seed for told in rounds],
    }  # fmt: skip


def show(told: dict[str, Any], console: Console) -> None:
    table = Table("fault", "injected", "landed", "survived", title="Chaos on Apache Kafka")
    for kind, row in told["kinds"].items():
        table.add_row(kind, *(str(row.get(name, 0)) for name in ("injected", "landed", "survived")))
    table.add_section()
    table.add_row(f"{len(told['kinds'])} kinds", str(told["injected"]), str(told["landed"]), str(told["survived"]))
    console.print(table)
    console.print(
        f"{told['records']:,} records read ({told['rated']:,} rated) in {told['batches']:,} batches, {told['rounds']} rounds, "
        f"{told['seconds']} s; lost {told['lost']}, doubled {told['doubled']}, balance errors {told['balance_errors']}, alarms "
        f"wrong {told['alarms_wrong']}, other {told['other_violations']}; slowest rest {told['slowest_rest_s']} s; seeds "
        f"{told['seeds'][0]}-{told['seeds'][-1]}" if told["seeds"] else "nothing ran", highlight=False,
    )  # fmt: skip


def against(bootstrap: str, asked: argparse.Namespace, console: Console) -> list[Round]:
    """Somebody's cluster."""
    kafka = outside(bootstrap)
    console.print(f"{LEFT_OUT}. Topics chaos-* with {kafka.nodes} replicas are made, and deleted after a round without a fault",
                  highlight=False)  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="rater-chaos-") as folder, ground(kafka, Path(folder)) as on:
        return mixed(on, None, asked.seconds, asked.seed, console)


def on_our_own(asked: argparse.Namespace, console: Console) -> list[Round] | int:
    """One broker and three, started and stopped here; an exit status where planted bugs are asked for."""
    with (
        tempfile.TemporaryDirectory(prefix="rater-chaos-") as folder,
        KafkaCluster() as kafka,
        ground(kafka, Path(folder)) as on,
    ):
        if asked.planted is not None:
            from tests.kafka.chaos_planted import catch_all

            return catch_all(on, asked.planted, asked.seed, console, asked.json)
        with KafkaCluster(nodes=3) as brokers:
            return mixed(on, replace(on, kafka=brokers), asked.seconds, asked.seed, console)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kafka.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="no round begins later (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--bootstrap",
        metavar="HOST:PORT,...",
        help="a cluster that is already there, plain text: faults on brokers are left out",
    )
    parser.add_argument("--planted", nargs="*", metavar="BUG", help="planted bugs instead: these, or all")
    parser.add_argument(
        "--json", action="store_true", help="one object on standard output, everything else on standard error"
    )
    asked = parser.parse_args(arguments)
    console = Console(stderr=asked.json)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is done is told
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if asked.bootstrap is not None and asked.planted is not None:
        parser.error("--planted needs brokers of its own; leave out --bootstrap")
    try:
        rounds = against(asked.bootstrap, asked, console) if asked.bootstrap is not None else on_our_own(asked, console)
    except NoCluster as problem:
        print(problem, file=sys.stderr)
        return 2
    if isinstance(rounds, int):
        return rounds
    told = report(rounds)
    show(told, console)
    if asked.json:
        print(json.dumps(told, indent=1))
    return 0 if not told["failed"] else 1


if __name__ == "__main__":
    sys.exit(main())
