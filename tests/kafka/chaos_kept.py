"""What is kept of a round of chaos that failed: logs, topics, timeline, and who holds a transaction open."""

import json
import shutil
from pathlib import Path

from tests.kafka.broker import KafkaCluster, run_tool
from tests.kafka.chaos_scene import Scene
from tests.kafka.checker_io import BrokerSource
from tests.kafka.checker_model import TOPICS

TRANSACTIONS = "org.apache.kafka.tools.TransactionsCommand"


def open_transactions(found: Scene) -> list[str]:
    """Who holds readers back, as the broker and its coordinator tell it: after the run nobody can be asked any more."""
    told = []
    source = BrokerSource(found.kafka.bootstrap, found.deployment.name, found.deployment.prefix)
    try:
        held = sorted(place for place, end in source.ends().items() if end.stable < end.high)
    finally:
        source.close()
    for topic, partition in held:
        asked = ["describe-producers", "--topic", found.deployment.prefix + topic, "--partition", str(partition)]
        told += [f"{topic}-{partition}: {line}" for line in _transactions(found, asked)]
    return told + _transactions(found, ["list"])


def _transactions(found: Scene, asked: list[str]) -> list[str]:
    try:
        said = run_tool(TRANSACTIONS, "--bootstrap-server", found.kafka.bootstrap, *asked, timeout_s=30.0)
    except Exception as problem:
        said = f"{asked}: {problem}"
    return [" ".join(line.split()) for line in said.splitlines() if line.strip()]


def dump(found: Scene, folder: Path) -> None:
    """Logs, topics and timeline of a run that failed."""
    shutil.copytree(found.deployment.folder, folder, dirs_exist_ok=True)
    (folder / "timeline.txt").write_text("\n".join(found.timeline.entries) + "\n")
    if isinstance(found.kafka, KafkaCluster):
        shutil.copy(found.kafka.node().log_file, folder / "broker.log")
    source = BrokerSource(found.kafka.bootstrap, found.deployment.name, found.deployment.prefix)
    try:
        with (folder / "topics.jsonl").open("w") as out:
            for topic in TOPICS:
                for name, record in source.poll((topic,)):
                    row = [name, record.partition, record.offset, *(text(part) for part in (record.key, record.value))]
                    out.write(json.dumps([*row, [[key, text(value)] for key, value in record.headers]]) + "\n")
        offsets = {f"{topic}-{p}": offset for (topic, p), offset in source.group_offsets().items()}
        (folder / "group-offsets.json").write_text(json.dumps(offsets, indent=1))
    finally:
        source.close()


def text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode("utf-8", "backslashreplace")
