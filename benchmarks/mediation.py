"""Mediation: records a second and core, from the bytes of a switch's file to call records, for each source.

Measured is the processor time of the process, so that another process on the same machine matters little; the floor is
what splitting alone takes in the same run: `csv.reader` over the decoded lines of a delimited file, `orjson.loads` of each
JSON record. No file is written and nothing is rated.
"""

import csv
import hashlib
import io
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson

from benchmarks.mediation_calls import Call, invented
from benchmarks.mediation_layouts import EXAMPLES, LAYOUTS_MEASURED, Layout, written
from benchmarks.report import Goal, Line, figure, progress
from rater.sources import Assembling, SourceProfile, load_profile, open_source

LONG_RECORD_BYTES = 5_000


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    calls: int = 50_000
    long_calls: int = 5_000
    runs: int = 5
    layouts: tuple[str, ...] = tuple(LAYOUTS_MEASURED)


QUICK = Sizes(calls=10_000, long_calls=2_000, runs=3)


@dataclass(frozen=True, slots=True)
class Told:
    """What one run made of a file; the digest is that of the call records."""

    records: int
    calls: int
    rejected: int
    digest: str


def cpu_s(run: Callable[[], object]) -> float:
    before_s = time.process_time()
    run()
    return time.process_time() - before_s


def profile_of(layout: Layout, folder: Path) -> SourceProfile:
    if not layout.profile:
        return load_profile(EXAMPLES / f"{layout.source}.toml")
    file = folder / f"{layout.source}.toml"
    file.write_text(layout.profile, encoding="utf-8")
    return load_profile(file)


def mediated(profile: SourceProfile, data: bytes) -> None:
    """The whole file through the source, its records handed on and forgotten, as a door does."""
    source = open_source(profile.source, profile)
    for _ in source.read(io.BytesIO(data)):
        pass


def told(profile: SourceProfile, data: bytes) -> Told:
    """The same, looked at."""
    source = open_source(profile.source, profile)
    found = list(source.read(io.BytesIO(data)))
    if isinstance(source, Assembling):
        found += source.close()
    digest = hashlib.sha256(b"\n".join(record.canonical for record in found if record.canonical is not None))
    return Told(
        records=sum(record.parts for record in found),
        calls=sum(record.canonical is not None for record in found),
        rejected=sum(bool(record.reason) for record in found),
        digest=digest.hexdigest()[:16],
    )


def split(layout: Layout, data: bytes, pieces: list[bytes]) -> None:
    """The floor."""
    if layout.delimiter:
        for _ in csv.reader(io.TextIOWrapper(io.BytesIO(data), "latin-1", newline=""), delimiter=layout.delimiter):
            pass
    else:
        for piece in pieces:
            orjson.loads(piece)


def measured(name: str, layout: Layout, sizes: Sizes, folder: Path) -> Line:
    """Best of the runs; source and floor in turns, so that what disturbs the machine disturbs both."""
    profile = profile_of(layout, folder)
    sample = len(layout.write(invented(1)[0]))
    calls = invented(sizes.long_calls if sample > LONG_RECORD_BYTES else sizes.calls)
    data = written(layout, calls)
    pieces = [] if layout.delimiter else [piece for call in calls for piece in records_of(layout, call)]
    result = told(profile, data)
    if result.rejected:
        raise RuntimeError(f"{name}: {result.rejected} of {result.records} invented records were rejected")
    best_s = floor_s = float("inf")
    for _ in range(sizes.runs):
        floor_s = min(floor_s, cpu_s(lambda: split(layout, data, pieces)))
        best_s = min(best_s, cpu_s(lambda: mediated(profile, data)))
    return figure(
        "mediation",
        name,
        result.records / best_s,
        "records/s and core",
        Goal(layout.goal_per_s, at_most=False) if layout.goal_per_s else None,
        us_per_record=round(best_s / result.records * 1e6, 1),
        floor="csv.reader" if layout.delimiter else "orjson.loads",
        times_floor=round(best_s / floor_s, 1),
        bytes_per_record=round(len(data) / result.records),
        records=result.records,
        calls=result.calls,
        digest=result.digest,
    )


def records_of(layout: Layout, call: Call) -> list[bytes]:
    """The JSON objects of one call: one, or one a line."""
    text = layout.write(call)
    return [text] if len(text) > LONG_RECORD_BYTES else text.split(b"\n")


def run(sizes: Sizes) -> Iterator[Line]:
    with TemporaryDirectory(prefix="rater-bench-") as folder:
        for name in sizes.layouts:
            progress(f"mediation: {name}")
            yield measured(name, LAYOUTS_MEASURED[name], sizes, Path(folder))
