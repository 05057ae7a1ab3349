"""The output files of a run: appended to, made durable, and cut back to what was committed."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO

from rater.doors.failpoints import reached

RATED, EVENTS = "rated-cdrs.jsonl", "account-events.jsonl"
REJECTED_CDRS, REJECTED_COMMANDS = "rejected-cdrs.jsonl", "rejected-commands.jsonl"
JOURNAL = "journal.jsonl"
OUTPUTS = (RATED, EVENTS, REJECTED_CDRS, REJECTED_COMMANDS, JOURNAL)


class OutputProblem(Exception):
    """The output folder cannot be used; the text says what was found and what to do."""


class Outputs:
    """Open output files of one folder, positioned at their committed lengths."""

    def __init__(self, folder: Path, committed: dict[str, int], names: Sequence[str] = OUTPUTS) -> None:
        self.folder = folder
        self.lengths = {name: committed.get(name, 0) for name in names}
        self._files: dict[str, IO[bytes]] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in names:
                self._files[name] = self._open(folder / name, name, bool(committed))
        except OSError as error:
            raise OutputProblem(f"{folder}: {error.strerror or error}") from None

    def _open(self, path: Path, name: str, known: bool) -> IO[bytes]:
        found = path.stat().st_size if path.exists() else 0
        expected = self.lengths[name]
        if found < expected:
            raise OutputProblem(
                f"{path}: {found} bytes found, {expected} were committed; restore the file, or begin anew with another "
                "--state and --out"
            )
        if found and not known:
            raise OutputProblem(
                f"{path}: exists, but no run of this state wrote it; choose another --out or move the file away"
            )
        stream = path.open("r+b" if path.exists() else "w+b")
        stream.truncate(expected)  # what was written after the last commit never happened
        stream.seek(expected)
        return stream

    def append(self, blocks: Mapping[str, Sequence[bytes | memoryview]]) -> None:
        """Write; the lengths grow. Nothing counts before it is durable and the state commits the lengths."""
        reached("before-write")
        for number, (name, parts) in enumerate(blocks.items()):
            stream = self._files[name]
            for part in parts:
                stream.write(part)
                self.lengths[name] += len(part)
            stream.flush()
            if number == 0:
                reached("mid-write")
        reached("after-write")

    def sync(self, names: Iterable[str]) -> None:
        """Make what was written durable."""
        for name in names:
            os.fdatasync(self._files[name].fileno())
        reached("after-sync")

    def close(self) -> None:
        for stream in self._files.values():
            stream.close()
