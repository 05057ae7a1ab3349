"""Reading a file that is still written, until somebody says stop."""

import gzip
import time
from collections.abc import Callable
from io import BytesIO
from typing import IO, cast

from rater.doors.files.inputs import InputProblem

POLL_S = 0.5


class _Stop:
    """Set by a signal: a follower ends at the next quiet moment."""

    def __init__(self) -> None:
        self.is_set = False

    def __call__(self, *_: object) -> None:
        self.is_set = True


STOP = _Stop()


class Followed:
    """A file that is still written: whole lines as they come; waits at the end until `stop`."""

    def __init__(self, stream: IO[bytes], name: str, idle: Callable[[], None]) -> None:
        self._stream, self._name, self._idle = stream, name, idle
        self._lines = BytesIO()
        self._rest = b""
        if isinstance(cast(object, stream), gzip.GzipFile):
            raise InputProblem(f"{name}: a compressed file cannot be followed; read it when it is complete")

    def read(self, size: int = -1) -> bytes:
        return self._lines.read(size) or self._refilled().read(size)

    def readline(self, limit: int = -1) -> bytes:
        return self._lines.readline(limit) or self._refilled().readline(limit)

    def _refilled(self) -> BytesIO:
        self._lines = BytesIO(self._more())
        return self._lines

    def _more(self) -> bytes:
        """Whole lines; b"" when the reading was stopped."""
        while True:
            data = self._rest + self._stream.read(1 << 20)
            end = data.rfind(b"\n") + 1
            self._rest = data[end:]
            if end:
                return data[:end]
            self._idle()
            if STOP.is_set:
                return b""
            time.sleep(POLL_S)
