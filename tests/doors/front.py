"""The front door without a new process: arguments in, exit status and both streams out."""

import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rater.__main__ import _run, cli
from tests.faults.processes import Ended


@contextmanager
def streams(stdin: bytes) -> Iterator[tuple[io.BytesIO, io.BytesIO]]:
    kept = sys.stdin, sys.stdout, sys.stderr
    out, err = io.BytesIO(), io.BytesIO()
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.BytesIO(stdin)))
    sys.stdout, sys.stderr = io.TextIOWrapper(out, write_through=True), io.TextIOWrapper(err, write_through=True)
    try:
        yield out, err
    finally:
        sys.stdin, sys.stdout, sys.stderr = kept


def front(*args: str | Path, stdin: bytes = b"") -> Ended:
    with streams(stdin) as (out, err):
        status = _run(cli, [str(arg) for arg in args])
        return Ended(status, out.getvalue(), err.getvalue())


def told(ended: Ended) -> dict[str, Any]:
    """The one object that `--json` prints, and nothing else."""
    assert ended.status == 0, ended.stderr.decode()
    found = json.loads(ended.stdout)
    assert isinstance(found, dict)
    return found


def refused(ended: Ended, status: int = 2) -> str:
    """One sentence on stderr, no stack trace, nothing unexpected, nothing on stdout; the sentence."""
    text = ended.stderr.decode()
    assert ended.status == status, (ended.status, text)
    assert ended.stdout == b""
    assert "Traceback" not in text
    assert "unexpected" not in text
    assert text.strip()
    return text
