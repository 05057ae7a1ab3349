"""Which files there are to mediate, and what tells one from another of the same name, also after it has grown."""

import zlib
from pathlib import Path
from typing import Any

from rater.doors.files.inputs import HEAD_BYTES, STANDARD_INPUT, InputProblem

UNFINISHED = (".tmp", ".part", ".partial", ".filepart", ".crdownload")  # how programs call what they still write


def files_of(given: str) -> list[str]:
    """A file, standard input, or the files of a folder in order of name, without hidden and unfinished ones."""
    if given == STANDARD_INPUT or not Path(given).is_dir():
        return [given]
    return [str(path) for path in sorted(Path(given).iterdir()) if path.is_file() and is_finished_name(path)]


def is_finished_name(path: Path) -> bool:
    return not path.name.startswith(".") and path.suffix not in UNFINISHED


def mark_of(name: str) -> dict[str, Any]:
    """What tells a file from another of the same name: its size, and a checksum of so many first bytes."""
    if name == STANDARD_INPUT:
        return {"name": name, "size": 0, "head_bytes": 0, "head": 0}
    path = Path(name)
    try:
        size = path.stat().st_size
        head_bytes = min(size, HEAD_BYTES)
        return {"name": str(path.resolve()), "size": size, "head_bytes": head_bytes, "head": head_of(path, head_bytes)}
    except OSError as error:
        raise InputProblem(f"{name}: {error.strerror or error}") from None


def head_of(path: Path, count: int) -> int:
    with path.open("rb") as stream:
        return zlib.crc32(stream.read(count))


def is_same_file(known: dict[str, Any], name: str) -> bool:
    """The same name and the same beginning; it may have grown since."""
    if name == STANDARD_INPUT or known["name"] != str(Path(name).resolve()):
        return False
    try:
        grown = Path(name).stat().st_size >= known["size"]
        return bool(grown and head_of(Path(name), known["head_bytes"]) == known["head"])
    except OSError as error:
        raise InputProblem(f"{name}: {error.strerror or error}") from None
