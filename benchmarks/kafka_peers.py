"""What others need for the same records on the same broker: each in a process of its own, in the same run.

The floor and two of the peers run with what a development install has. Quix Streams and the others get a virtual
environment of their own, made only when asked (`--peers`). The Kafka Streams application lies beside the checkout
(`../shared/peers/kafka_streams`, or `RATER_STREAMS_PEER`, or `--streams`) and is built by Maven in a temporary copy.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import orjson

from benchmarks.kafka_scene import PARTITIONS, Scene
from benchmarks.report import progress
from rater.doors.kafka.names import CDRS

ROOT = Path(__file__).resolve().parents[1]
STREAMS_BESIDE = ROOT.parent / "shared" / "peers" / "kafka_streams"
STREAMS_DECK = Path(
    "data/rate_decks/azure_acs/communication-services-pstn-rates.csv"
)  # from two folders above the peer
PACKAGES = ("quixstreams", "faust-streaming", "confluent-kafka", "orjson")
LIMIT_S = 900


@dataclass(frozen=True, slots=True)
class Took:
    """What a process needed for a record, in microseconds; `warm`: the second half of its records."""

    records: int
    us_wall: float
    us_cpu: float
    warm_us_wall: float
    warm_us_cpu: float


@dataclass(frozen=True, slots=True)
class Peer:
    """A program to measure: its module, its last arguments, and how many records are enough for it."""

    name: str
    module: str
    records: int
    more: tuple[str, ...] = ()


class PeerFailed(Exception):
    """A peer did not come to its end; the text has its last words."""


def plain_environment(**more: str) -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("RATER_")} | more


def said_by(command: list[str], environment: dict[str, str], folder: Path) -> str:
    """Its standard output. Raises `PeerFailed`."""
    try:
        done = subprocess.run(
            command, env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=LIMIT_S
        )
    except subprocess.TimeoutExpired:
        raise PeerFailed(f"did not end within {LIMIT_S} s") from None
    if done.returncode != 0:
        raise PeerFailed(f"exit status {done.returncode}: {done.stderr[-1500:] or done.stdout[-1500:]}")
    return done.stdout


def measure(scene: Scene, peer: Peer, python: Path) -> Took:
    """Run it on the calls of the scene, into a topic of its own."""
    progress(f"kafka: {peer.name}")
    target = scene.plain_topic(f"bench-{peer.module}{''.join(f'-{word}' for word in peer.more)}")
    arguments = [scene.bootstrap, scene.names.topic(CDRS), target, str(PARTITIONS), str(peer.records), *peer.more]
    command = [str(python), "-m", f"benchmarks.peers.{peer.module}", *arguments]
    said = said_by(command, plain_environment(PYTHONPATH=str(ROOT)), scene.folder)
    last = [line for line in said.splitlines() if line.startswith('{"records"')][-1:]
    if not last:
        raise PeerFailed(f"ended without its figures: {said[-1500:]}")
    found = orjson.loads(last[0])
    return Took(**{name: found[name] for name in Took.__dataclass_fields__})


def environment_for_peers(folder: Path) -> Path:
    """A new virtual environment with the peers in it; its interpreter."""
    progress("kafka: installing the peers into an environment of their own")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    return python


# --- Kafka Streams -----------------------------------------------------------------------------------------------------


def streams_folder(given: Path | None) -> Path:
    return given or Path(os.environ.get("RATER_STREAMS_PEER") or STREAMS_BESIDE)


def streams_missing(folder: Path) -> str | None:
    """Why the Kafka Streams application cannot be measured here, or None."""
    if not (folder / "pom.xml").is_file():
        return "the Kafka Streams application is not beside this checkout; name its folder by RATER_STREAMS_PEER or --streams"
    if shutil.which("mvn") is None:
        return "Maven is not installed; it builds the Kafka Streams application (Debian: maven)"
    if not streams_deck(folder).is_file():
        return (
            f"{STREAMS_DECK} is not two folders above the Kafka Streams application; its fill.py and it need that deck"
        )
    return None


def streams_deck(folder: Path) -> Path:
    return folder.resolve().parents[1] / STREAMS_DECK


def built_streams(folder: Path, into: Path) -> Path:
    """A copy that Maven has built: nothing is written beside the original."""
    copy = into / "kafka_streams"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("target", "__pycache__"))
    said_by(["mvn", "-q", "-B", "package"], plain_environment(), copy)
    return copy


# As the worker compresses: the lowest level, where Java's own default is the third.
STREAMS_ZSTD = ("--conf.producer.compression.type=zstd", "--conf.producer.compression.zstd.level=1")


def measure_streams(scene: Scene, folder: Path, records: int) -> tuple[Took, Took]:
    """Its own fill, then a run with de-duplication and stores in memory, as its README says; and another that writes compressed."""
    progress("kafka: Kafka Streams")
    copy, deck = built_streams(folder, scene.folder), streams_deck(folder)
    fill = [sys.executable, "fill.py", "--bootstrap", scene.bootstrap, "--partitions", str(PARTITIONS), "-n", str(records), "--deck", str(deck)]  # fmt: skip
    said_by(fill, plain_environment(), copy)
    told = {
        "BOOTSTRAP": scene.bootstrap,
        "N": str(records),
        "THREADS": "1",
        "DEDUP": "true",
        "STORE": "memory",
        "DECK": str(deck),
    }

    def measured(*more: str) -> Took:
        said = said_by(["sh", "run.sh", *more], plain_environment(**told), copy)
        return streams_took(said.strip().splitlines()[-1])

    return measured(), measured(*STREAMS_ZSTD)


def streams_took(line: str) -> Took:
    """From its last line: `records=N ... us_per_record_wall=... warm_us_cpu=...`."""
    found = dict(pair.split("=", 1) for pair in line.split() if "=" in pair)
    try:
        return Took(
            int(found["records"]), float(found["us_per_record_wall"]), float(found["us_per_record_cpu"]),
            float(found["warm_us_wall"]), float(found["warm_us_cpu"]),
        )  # fmt: skip
    except (KeyError, ValueError):
        raise PeerFailed(f"the Kafka Streams application ended with the line {line!r}; expected its figures") from None
