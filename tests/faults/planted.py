"""Bugs to plant, each a mistake that someone could make: the kill tests are worth what they find of these.

Each function changes the house in this process alone and is called in a forked run (see `processes.py`).
"""

import json
import time
from dataclasses import replace
from typing import Any

from rater.core.state import State
from rater.doors.files import rate as rate_door
from rater.doors.files.outputs import JOURNAL, Outputs
from rater.doors.files.store import Commit, Store


def _change_commit(change: Any) -> None:
    honest = Store.commit

    def commit(self: Store, given: Commit) -> None:
        honest(self, change(given))

    Store.commit = commit  # type: ignore[method-assign]


def lengths_not_committed() -> None:
    """The outputs' lengths stay where the first run found them."""
    _change_commit(lambda commit: replace(commit, lengths={}))


def journal_length_forgotten() -> None:
    _change_commit(lambda commit: replace(commit, lengths={k: v for k, v in commit.lengths.items() if k != JOURNAL}))


def ids_not_kept() -> None:
    """What was seen is forgotten with the process."""
    _change_commit(lambda commit: replace(commit, ids=b""))


def place_not_kept() -> None:
    """An interrupted run begins again at the start."""
    _change_commit(lambda commit: replace(commit, place={}))


def offsets_not_kept() -> None:
    _change_commit(lambda commit: replace(commit, meta=commit.meta | {"next_cdr": 0}))


def lots_not_kept() -> None:
    """One shelf of the books is not written."""
    _change_commit(lambda commit: replace(commit, pages=[page for page in commit.pages if page[0] != "pools"]))


def commit_before_write() -> None:
    """The books are committed before the outputs are written."""

    def write(self: Any, item: Any) -> None:
        blocks, line, commit = item
        for name, parts in blocks.items():
            line.bytes[name], line.digests[name] = sum(map(len, parts)), rate_door.digest_of(*parts)
        line.previous = self._digest
        commit.journal = rate_door.encode_journal(line)
        self._digest = commit.meta["journal_digest"] = rate_door.digest_of(commit.journal)
        blocks[JOURNAL] = [commit.journal + b"\n"]
        commit.lengths = {name: self._outputs.lengths[name] + sum(map(len, parts)) for name, parts in blocks.items()}
        self._store.commit(commit)
        self._outputs.append(blocks)

    rate_door._Writer._write = write  # type: ignore[method-assign]
    rate_door._Writer._commit = lambda *_: None  # type: ignore[method-assign]


def lengths_taken_at_the_commit() -> None:
    """The committed lengths are those of the moment, when the next batch may be written already."""
    honest = Store.commit

    def commit(self: Store, given: Commit) -> None:
        time.sleep(0.02)  # long enough for the thread that writes to be ahead
        honest(self, replace(given, lengths=dict(opened[-1].lengths)))

    opened: list[Outputs] = []
    begin = Outputs.__init__

    def remember(self: Outputs, *args: Any, **named: Any) -> None:
        begin(self, *args, **named)
        opened.append(self)

    Outputs.__init__ = remember  # type: ignore[method-assign]
    Store.commit = commit  # type: ignore[method-assign]


def appends_behind_what_it_finds() -> None:
    """What an interrupted run wrote and did not commit is kept."""
    honest = Outputs._open

    def opened(self: Outputs, path: Any, name: str, known: bool) -> Any:
        stale = path.read_bytes() if path.exists() else b""
        stream = honest(self, path, name, known)
        stream.write(stale[self.lengths[name] :])
        return stream

    Outputs._open = opened  # type: ignore[method-assign]


def commits_in_pieces() -> None:
    """The run's place is committed on its own, ahead of the batch."""
    honest = Store.commit

    def commit(self: Store, given: Commit) -> None:
        self._db.execute("update runs set place = ? where id = ?", (json.dumps(given.place), given.run))
        honest(self, given)

    Store.commit = commit  # type: ignore[method-assign]


def forgets_free_rows() -> None:
    """Rows of emptied lots are not found again after a restart, so later lots lie elsewhere."""
    honest = State.restore_shelf

    def restore(self: State, name: str, rows: Any, free: int) -> None:
        honest(self, name, rows, -1)

    State.restore_shelf = restore  # type: ignore[method-assign]


PLANTED = (
    "lengths_not_committed", "journal_length_forgotten", "ids_not_kept", "place_not_kept", "offsets_not_kept", "lots_not_kept",
    "commit_before_write", "lengths_taken_at_the_commit", "appends_behind_what_it_finds", "commits_in_pieces", "forgets_free_rows",
)  # fmt: skip
