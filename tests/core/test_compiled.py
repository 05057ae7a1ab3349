"""When machine code is there already: for this source, where it lies, as it was written."""

import os
import shutil
from pathlib import Path

import pytest

from rater.core import compiled
from rater.core.compiled import is_warm, note_warm, sources_digest, whereabouts


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "rating.py"
    path.write_text("def rate(): ...\n")
    return path


def test_a_source_left_alone_is_known_again(source: Path):
    assert whereabouts([source]) == whereabouts([source])


def test_the_same_text_in_another_folder_is_not_known(source: Path, tmp_path: Path):
    (tmp_path / "other").mkdir()
    copy = Path(shutil.copy2(source, tmp_path / "other"))
    assert copy.stat().st_mtime_ns == source.stat().st_mtime_ns
    assert sources_digest([copy]) == sources_digest([source])
    assert whereabouts([copy]) != whereabouts([source])


def test_the_same_text_written_anew_is_not_known(source: Path):
    before = whereabouts([source])
    os.utime(source, ns=(0, source.stat().st_mtime_ns + 1))
    assert whereabouts([source]) != before


@pytest.mark.skipif(
    not compiled.COMPILES, reason="NUMBA_DISABLE_JIT is set: nothing is compiled, and nothing has to be"
)
def test_a_second_checkout_with_the_cache_of_the_first_is_cold(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(compiled, "_config", type("Config", (), {"CACHE_DIR": str(tmp_path)}))
    monkeypatch.setattr(compiled, "kernel_sources", lambda: [source])
    assert not is_warm()
    note_warm()
    assert is_warm()
    assert not is_warm("kafka")
    (tmp_path / "other").mkdir()
    second = Path(shutil.copy2(source, tmp_path / "other"))
    monkeypatch.setattr(compiled, "kernel_sources", lambda: [second])
    assert not is_warm()
