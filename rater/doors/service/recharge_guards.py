"""The guards in force: read again whenever their file changes, so that the switch works without a restart.

A file that cannot be read, or says something wrong, stops nothing that was asked and lets nothing new be asked: whoever was
changing it may have wanted just that. Requests wait until it can be read again; none fails for it.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from rater.doors.settings.values import SettingsRefused
from rater.recharge.guards import Guards
from rater.recharge.guards_file import GuardsRefused, parse_guards

log = logging.getLogger("rater.recharge")


def read_guards(path: Path) -> Guards:
    """Raises `SettingsRefused`."""
    try:
        return parse_guards(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, GuardsRefused) as problem:
        raise SettingsRefused(f"{path}: {problem}") from None


class GuardsFile:
    """`current` is asked before every payment; it looks at the file's time and size first."""

    def __init__(self, path: Path | None, say: Callable[[str], None] = log.error) -> None:
        """Raises `SettingsRefused`: an agent does not start on wrong limits."""
        self._path, self._say = path, say
        self._mark = self._look()
        self._guards: Guards | None = Guards() if path is None else read_guards(path)

    def current(self) -> Guards | None:
        """None while the file cannot be read: ask nobody."""
        mark = self._look()
        if self._path is None or (mark == self._mark and mark is not None):
            return self._guards
        if mark == self._mark and self._guards is None:
            return None
        self._mark = mark
        try:
            self._guards = read_guards(self._path)
        except SettingsRefused as refused:
            if self._guards is not None:
                self._say(f"no recharge is asked for until the limits can be read again: {refused}")
            self._guards = None
        return self._guards

    def _look(self) -> tuple[int, int, int] | None:
        if self._path is None:
            return None
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
