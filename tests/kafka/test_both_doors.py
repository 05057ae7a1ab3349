"""The same commands and calls give the same bytes by `rater rate` from files and by a worker from the log."""

import asyncio
import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from rater.doors.files.outputs import EVENTS as EVENTS_FILE
from rater.doors.files.outputs import RATED as RATED_FILE
from rater.doors.files.outputs import REJECTED_CDRS as REJECTED_CDRS_FILE
from rater.doors.files.outputs import REJECTED_COMMANDS as REJECTED_COMMANDS_FILE
from rater.doors.kafka.client import KafkaLog
from rater.doors.kafka.compression import WORTH_PACKING_BYTES, ZSTD
from rater.doors.kafka.log import Place
from rater.doors.kafka.names import CDRS, COMMANDS, EVENTS, OUTPUTS, RATED, REJECTED_CDRS, REJECTED_COMMANDS
from rater.doors.kafka.record_batches import read_batches, records_from_blocks
from tests.doors.front import front, refused, told
from tests.faults.scenarios import calls, commands, rates, write_lines
from tests.kafka.broker import KafkaCluster
from tests.kafka.harness import Bench
from tests.kafka.workers import Deployment, ending
from tests.streams import Round, stream

FILES = {
    RATED: RATED_FILE,
    EVENTS: EVENTS_FILE,
    REJECTED_CDRS: REJECTED_CDRS_FILE,
    REJECTED_COMMANDS: REJECTED_COMMANDS_FILE,
}


def by_files(rounds: Sequence[Round], deck: Path, folder: Path) -> dict[str, bytes]:
    """What `rater rate` writes: a run a round."""
    for number, part in enumerate(rounds):
        given = folder / f"{number}"
        given.mkdir(parents=True)
        args = ["rate", "--rates", deck, "--state", folder / "state.db", "--out", folder / "out", "--json"]
        args += ["--commands", write_lines(given / "commands.jsonl", part.commands)] if part.commands else []
        args += [write_lines(given / "calls.jsonl", part.calls)] if part.calls else []
        told(front(*args))
    return {topic: (folder / "out" / name).read_bytes() for topic, name in FILES.items()}


def by_log(rounds: Sequence[Round], deck: Path, folder: Path, each: int, bytes_max: int) -> dict[str, bytes]:
    """What a worker writes to one partition: commands of a round are rated before its calls are sent."""
    bench = Bench(folder, deck, 1, bytes_max)
    for part in rounds:
        for topic, raws in ((COMMANDS, part.commands), (CDRS, part.calls)):
            bench.send(topic, raws, each)
            bench.run()
    assert [reason for _, _, reason in bench.seen.phases if reason] == []
    return {topic: b"".join(value + b"\n" for value in bench.values(topic, 0)) for topic in OUTPUTS}


def same(found: dict[str, bytes], wanted: dict[str, bytes]) -> None:
    """Byte for byte; the first line that differs is shown."""
    for topic in OUTPUTS:
        lines = found[topic].split(b"\n")
        others = wanted[topic].split(b"\n")
        assert len(lines) > 1, topic
        for k in range(max(len(lines), len(others))):
            assert lines[k : k + 1] == others[k : k + 1], f"{topic}, record {k}"


@pytest.mark.parametrize(("each", "bytes_max"), [(1, 1), (7, 1), (7, 4 << 20), (50, 30_000), (10_000, 4 << 20)])
def test_files_and_log_give_the_same_bytes(tmp_path: Path, each: int, bytes_max: int):
    deck = rates().write(tmp_path / "in")
    rounds = [Round(commands(), calls(120)), Round([], calls(60, first=120))]
    files = by_files(rounds, deck, tmp_path / "files")
    same(by_log(rounds, deck, tmp_path / "log", each, bytes_max), files)


@pytest.mark.parametrize("seed", [1, 4, 9])
def test_dense_streams_give_the_same_bytes_by_both_doors(tmp_path: Path, seed: int):
    """Streams that the slow twin is compared with: every rule, poison, duplicates, conflicts, months and expiries."""
    made = stream(seed)
    deck = tmp_path / "in" / "deck"
    deck.mkdir(parents=True)
    for name, text in made.deck_files.items():
        (deck / name).write_text(text)
    (tmp_path / "in" / "plans").mkdir()
    (tmp_path / "in" / "plans" / "calling-plans.csv").write_text(made.plans)
    files = by_files(made.rounds, deck, tmp_path / "files")
    same(by_log(made.rounds, deck, tmp_path / "log", 1 + seed, 1 << (10 + seed)), files)


# ------------------------------------------------------------------------------------------------ a real broker


async def values(log: KafkaLog, place: Place) -> list[bytes]:
    reader = await log.open_reader()
    offset, end = await reader.bounds(place)
    found: list[bytes] = []
    while offset < end:
        blocks, following = await reader.read(place, offset)
        records, _ = records_from_blocks(blocks, offset)
        found += [records.raw(k) for k in range(records.count)]
        offset = following
    await reader.close()
    return found


@dataclass(frozen=True)
class Rated:
    """One partition of a real broker that a worker process has rated, and what it has written."""

    deployment: Deployment
    found: dict[str, bytes]

    @property
    def args(self) -> list[str]:
        made = self.deployment
        return [
            "audit", "--bootstrap", made.bootstrap, "--app-id", made.name, "--topic-prefix", made.prefix,
            "--rates", str(made.rates), "--state-dir", str(made.folder / "state-0"),
        ]  # fmt: skip


@pytest.fixture(scope="module")
def rated(kafka: KafkaCluster, tmp_path_factory: pytest.TempPathFactory) -> Rated:
    folder = tmp_path_factory.mktemp("doors")
    deployment = Deployment(
        kafka.bootstrap, f"doors-{time.time_ns()}", folder, partitions=1, rates=rates().write(folder / "in")
    ).create()
    worker = deployment.worker()
    with ending(worker):
        for topic, raws, key in ((COMMANDS, commands(), "next_command"), (CDRS, calls(), "next_cdr")):
            deployment.feed(topic, raws)
            worker.wait(functools.partial(reached, key, len(raws)), f"{key} of {len(raws)}")
        assert worker.stop() == 0

    async def read() -> dict[str, bytes]:
        log = KafkaLog({"bootstrap_servers": kafka.bootstrap})
        places = {topic: Place(deployment.prefix + topic, 0) for topic in OUTPUTS}
        return {topic: b"".join(v + b"\n" for v in await values(log, place)) for topic, place in places.items()}

    return Rated(deployment, asyncio.run(read()))


def reached(key: str, offset: int, status: dict[str, Any]) -> bool:
    return any(int(partition[key]) >= offset for partition in status["partitions"].values())


def test_a_worker_process_on_a_real_broker_gives_the_bytes_of_the_files(rated: Rated, tmp_path: Path):
    same(rated.found, by_files([Round(commands(), calls())], rated.deployment.rates, tmp_path / "files"))


def test_what_a_worker_writes_lies_packed_on_the_brokers_disk(rated: Rated, kafka: KafkaCluster):
    topic = f"{rated.deployment.prefix}{RATED}-0"
    segment = (kafka.node().folder / "data" / topic / f"{0:020}.log").read_bytes()
    batches = [
        batch for batch in read_batches(segment) if not batch.control and len(batch.body()) >= WORTH_PACKING_BYTES
    ]
    assert {batch.codec for batch in batches} == {ZSTD}


def test_the_topics_of_a_real_broker_pass_an_audit(rated: Rated):
    found = told(front(*rated.args, "--json"))
    assert found["ok"] is True
    (one,) = found["partitions"]
    assert one["rated"] == rated.found[RATED].count(b"\n")
    assert one["group_checked"] is True
    charges = [orjson.loads(line)["charge_micros"] for line in rated.found[RATED].splitlines()]
    assert found["charge_micros"] == {"USD": sum(charges)}
    shown = front(*rated.args, "--partition", "0")
    assert shown.status == 0
    assert "to the byte" in shown.stdout.decode()


def test_an_audit_of_a_partition_that_is_not_there_is_refused(rated: Rated):
    assert "--partition is 7; expected 0 to 0" in refused(front(*rated.args, "--partition", "7"))


def test_an_audit_with_another_prefix_names_the_topics_that_are_missing(rated: Rated):
    args = rated.args
    args[args.index("--topic-prefix") + 1] = "elsewhere."
    assert "elsewhere.rater-journal" in refused(front(*args))


def test_a_forged_record_in_a_topic_of_a_real_broker_is_found(rated: Rated):
    """Last of its file: the topic stays as it is then."""
    rated.deployment.feed(RATED, [b'{"tenant":"contoso","forged":true}'])
    ended = front(*rated.args, "--json")
    assert ended.status == 1
    found = orjson.loads(ended.stdout)
    assert found["ok"] is False
    assert f"{rated.deployment.prefix}{RATED}-0 offset " in found["partitions"][0]["difference"]
    assert "no batch has written this record" in found["partitions"][0]["difference"]
    shown = front(*rated.args)
    assert shown.status == 1
    assert b"does not agree" in shown.stdout
