"""A snapshot is the committed state to the bit, or it is passed over: never a wrong state, never a reason to stop."""

import hashlib
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from rater.contract.journal import row_bytes
from rater.core.state import SHELVES, State
from rater.doors.kafka import snapshot
from rater.doors.kafka.changelog import Watermark
from rater.doors.kafka.snapshot import DIGEST_BYTES, MAGIC, Base, Image, Room, Snapshots, SnapshotUnusable, image_of
from rater.doors.rules import load_rule_book
from rater.pipeline import Batch, decide, records_of
from tests.faults.scenarios import calls, commands, rates
from tests.kafka.test_changelog import KEY, mark_of

APP = "rating-eu"
PARTITION = 0


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    book = load_rule_book(rates().write(tmp_path_factory.mktemp("rates")))
    state = State.empty(KEY)
    decide(state, book.rules, Batch(0, records_of(commands()), records_of(calls(110))))
    mark = mark_of(state, 4)
    state.committed()
    return Base(state, mark, 70, 5, 4)


@pytest.fixture
def snapshots(tmp_path: Path) -> Snapshots:
    return Snapshots(tmp_path / "made" / "on demand", APP)


@pytest.fixture
def saved(snapshots: Snapshots, base: Base) -> Path:
    snapshots.save(PARTITION, image_of(base, APP, Room()))
    return snapshots.path(PARTITION)


def unusable(snapshots: Snapshots, partition: int = PARTITION) -> str:
    with pytest.raises(SnapshotUnusable) as why:
        snapshots.load(partition)
    assert str(snapshots.path(partition)) in str(why.value)
    return str(why.value)


def ids(state: State) -> list[tuple[int, int]]:
    return sorted(map(tuple, state.seen_ids().tolist()))


def test_a_large_one_goes_to_the_disk_in_pieces(snapshots: Snapshots, base: Base, monkeypatch: pytest.MonkeyPatch):
    sizes: list[int] = []
    sync = os.fsync
    monkeypatch.setattr(snapshot, "PIECE_BYTES", 1_000)
    monkeypatch.setattr(snapshot, "STEP_BYTES", 1_000)
    monkeypatch.setattr(os, "fsync", lambda at: (sizes.append(os.fstat(at).st_size), sync(at)))
    snapshots.save(PARTITION, image_of(base, APP, Room()))
    of_file = sizes[:-1]  # the last is the folder's
    assert len(of_file) > 5
    assert max(np.diff([0, *of_file])) < 3_000
    assert of_file[-1] == snapshots.path(PARTITION).stat().st_size
    assert ids(snapshots.load(PARTITION).state) == ids(base.state)


def test_what_is_loaded_is_what_was_saved_to_the_bit(snapshots: Snapshots, saved: Path, base: Base):
    found = snapshots.load(PARTITION)
    for name in SHELVES:
        assert np.array_equal(row_bytes(found.state.rows(name)), row_bytes(base.state.rows(name))), name
    assert ids(found.state) == ids(base.state)
    assert found.state.key.tobytes() == KEY
    assert replace(found, state=base.state) == base


def test_a_loaded_state_decides_as_the_saved_one_would(
    snapshots: Snapshots, saved: Path, base: Base, tmp_path_factory: pytest.TempPathFactory
):
    """The indexes are made again, and duplicates are still known."""
    book = load_rule_book(rates().write(tmp_path_factory.mktemp("rates")))
    lines = []
    for _ in range(2):
        state = snapshots.load(PARTITION).state
        outcome = decide(state, book.rules, Batch(0, records_of([]), records_of(calls(150))))
        lines.append(b"".join(outcome.rated))
        assert outcome.counts.duplicates >= 90
    assert lines[0] == lines[1]
    assert lines[0]


def test_an_image_is_a_copy_that_later_batches_do_not_change(base: Base, tmp_path: Path):
    image = image_of(base, APP, Room())
    before = [bytes(part) for part in image.parts]
    base.state.rows("accounts").version[0] += 1
    try:
        assert [bytes(part) for part in image.parts] == before
        assert image_of(base, APP, Room()).parts != image.parts
    finally:
        base.state.rows("accounts").version[0] -= 1


def test_a_state_without_tenants_can_be_saved(snapshots: Snapshots):
    state = State.empty(KEY)
    empty = Base(state, mark_of(state, 1), 1, 1, 0)
    size = snapshots.save(PARTITION, image_of(empty, APP, Room()))
    assert snapshots.path(PARTITION).stat().st_size == size + DIGEST_BYTES
    assert snapshots.load(PARTITION).watermark == empty.watermark


def test_a_later_snapshot_takes_the_place_of_an_earlier_one_and_leaves_nothing_beside_it(
    snapshots: Snapshots, saved: Path, base: Base
):
    snapshots.save(PARTITION, image_of(replace(base, state_offset=99), APP, Room()))
    assert snapshots.load(PARTITION).state_offset == 99
    assert os.listdir(saved.parent) == [saved.name]


def test_what_a_dead_process_left_half_written_is_cleared_away(snapshots: Snapshots, saved: Path, base: Base):
    half = saved.with_suffix(".4711.part")
    others = saved.with_name(f"{APP}-{PARTITION}1.4711.part")
    for path in (half, others):
        path.write_bytes(b"half")
    snapshots.save(PARTITION, image_of(base, APP, Room()))
    assert sorted(os.listdir(saved.parent)) == sorted([saved.name, others.name])


def test_without_a_file_there_is_no_snapshot_yet(snapshots: Snapshots):
    assert "no snapshot yet" in unusable(snapshots)


def test_a_file_that_cannot_be_read_is_passed_over(snapshots: Snapshots):
    snapshots.path(PARTITION).mkdir(parents=True)
    assert "cannot be read: Is a directory" in unusable(snapshots)


def test_a_discarded_snapshot_is_gone_and_discarding_again_is_no_error(snapshots: Snapshots, saved: Path):
    snapshots.discard(PARTITION)
    snapshots.discard(PARTITION)
    assert "no snapshot yet" in unusable(snapshots)


@pytest.mark.parametrize("seed", range(5))
def test_a_flipped_bit_anywhere_is_never_used(snapshots: Snapshots, saved: Path, seed: int):
    whole, rng = saved.read_bytes(), random.Random(seed)
    places = {0, len(MAGIC), len(MAGIC) + 6, len(whole) - 1, len(whole) - DIGEST_BYTES}
    for place in sorted(places | {rng.randrange(len(whole)) for _ in range(100)}):
        data = bytearray(whole)
        data[place] ^= 1 << rng.randrange(8)
        saved.write_bytes(data)
        assert "its digest does not fit" in unusable(snapshots)


def test_a_file_cut_short_anywhere_is_never_used(snapshots: Snapshots, saved: Path):
    whole = saved.read_bytes()
    rng = random.Random(7)
    for size in [0, 1, DIGEST_BYTES, len(MAGIC), *(rng.randrange(len(whole)) for _ in range(50)), len(whole) - 1]:
        saved.write_bytes(whole[:size])
        assert "cut short or changed" in unusable(snapshots)
    saved.write_bytes(whole + b"\0")
    assert "its digest does not fit" in unusable(snapshots)


def test_a_snapshot_of_another_partition_is_not_used(snapshots: Snapshots, saved: Path):
    saved.rename(snapshots.path(3))
    assert f"of {APP}, partition 0; expected {APP}, partition 3" in unusable(snapshots, 3)


def test_a_snapshot_of_another_application_is_not_used(snapshots: Snapshots, saved: Path):
    other = Snapshots(snapshots.folder, "rating-us")
    saved.rename(other.path(PARTITION))
    assert f"of {APP}, partition 0; expected rating-us, partition 0" in unusable(other)


def forged(path: Path, header: dict[str, Any], parts: tuple[bytes, ...], magic: bytes = MAGIC) -> None:
    """A file whose digest fits, as another version of rater could have written it."""
    raw = orjson.dumps(header)
    body = magic + len(raw).to_bytes(4, "big") + raw + b"".join(parts)
    path.write_bytes(body + hashlib.blake2b(body, digest_size=DIGEST_BYTES).digest())


@pytest.fixture
def image(base: Base) -> Image:
    return image_of(base, APP, Room())


def test_a_snapshot_of_another_layout_is_not_used(snapshots: Snapshots, saved: Path, image: Image, base: Base):
    header = orjson.loads(image.header)
    header["watermark"] = replace(base.watermark, layout="f" * 32).encode().decode()
    forged(saved, header, image.parts)
    assert "rows of another layout" in unusable(snapshots)


def test_a_snapshot_of_another_format_is_not_used(snapshots: Snapshots, saved: Path, image: Image):
    forged(saved, orjson.loads(image.header), image.parts, b"rater-snapshot-2\n")
    assert "not a snapshot of this version" in unusable(snapshots)


@pytest.mark.parametrize(
    "change",
    [
        {"watermark": "{}"},
        {"watermark": "nonsense"},
        {"watermark": None},
        {"ids": 10**9},
        {"ids": "many"},
        {"ids": None},
    ],
)
def test_a_header_that_makes_no_sense_is_passed_over(
    snapshots: Snapshots, saved: Path, image: Image, change: dict[str, Any]
):
    forged(saved, orjson.loads(image.header) | change, image.parts)
    unusable(snapshots)


@pytest.mark.parametrize("field", ["app_id", "watermark", "state_offset", "journal_offset", "line_offset", "ids"])
def test_a_header_without_one_of_its_fields_is_passed_over(snapshots: Snapshots, saved: Path, image: Image, field: str):
    header = orjson.loads(image.header)
    del header[field]
    forged(saved, header, image.parts)
    assert "cannot be read as rater wrote it" in unusable(snapshots)


def test_a_watermark_of_another_version_is_passed_over(snapshots: Snapshots, saved: Path, image: Image, base: Base):
    header = orjson.loads(image.header)
    header["watermark"] = base.watermark.encode().decode().replace('"v":1', '"v":9')
    forged(saved, header, image.parts)
    assert "a watermark of version 9" in unusable(snapshots)


def test_fewer_rows_than_the_header_says_are_passed_over(snapshots: Snapshots, saved: Path, image: Image):
    forged(saved, orjson.loads(image.header), image.parts[:-2])
    assert "cannot be read as rater wrote it" in unusable(snapshots)


def test_a_full_disk_leaves_the_older_snapshot(
    snapshots: Snapshots, saved: Path, base: Base, monkeypatch: pytest.MonkeyPatch
):
    def full(_file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        snapshots.save(PARTITION, image_of(replace(base, state_offset=99), APP, Room()))
    assert snapshots.load(PARTITION).state_offset == 70


def test_watermarks_say_whose_they_are(saved: Path, snapshots: Snapshots):
    assert isinstance(snapshots.load(PARTITION).watermark, Watermark)
    assert saved.name == f"{APP}-{PARTITION}.snapshot"
