"""What a process of rater says: one line for each event worth a person's time.

On a terminal a line is for eyes; elsewhere it is one JSON object, so that a collector can find it by partition, offset,
record id or reason. What repeats is said `LINES_MAX` times a minute and then left out, with a word that it is: a broken switch
must not fill the disk. A phone number keeps its country and its last two digits, whoever wrote it into a message.
"""

import logging
import logging.handlers
import re
import sys
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import orjson

FORMATS = ("auto", "json", "text")
LINES_MAX = 10  # of one kind, in `WINDOW_S`
WINDOW_S = 60.0
KINDS_MAX = 1_000  # remembered; the one not heard of for longest is forgotten first

# What a caller may add with `extra=`, and a collector may search for.
FIELDS = ("event", "partition", "offset", "record_id", "reason", "batch", "tenant", "recharge_id", "count")

STEP = "[^"  # how mode begins a line about each step of a service's start and end, under the service's own logger

_DIGITS = re.compile(r"\d+")
_NUMBER = re.compile(r"\+(\d{6,15})(?!\d)")
# E.164: country codes of one and of two digits; all others have three.
_ONE = frozenset("17")
_TWO = frozenset(
    "20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65 66 81 82 84 86 90 91 "
    "92 93 94 95 98".split()
)


def masked(text: str) -> str:
    """Phone numbers with their country and last two digits only.

    masked("from +442079460018") == "from +44...18"
    """
    return _NUMBER.sub(lambda found: _mask(found[1]), text)


def _mask(digits: str) -> str:
    country = 1 if digits[0] in _ONE else 2 if digits[:2] in _TWO else 3
    return f"+{digits[:country]}...{digits[-2:]}"


def _time_text(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name in FIELDS if (value := getattr(record, name, None)) is not None}


class JsonLines(logging.Formatter):
    """One object a line: time, level, logger, message, what the caller added, a traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time_text(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": masked(record.getMessage()),
            **_fields(record),
        }
        if record.exc_info:
            line["traceback"] = masked(self.formatException(record.exc_info))
        return orjson.dumps(line, default=str).decode()


class PlainLines(logging.Formatter):
    """For a person: the time, the level where it is worth a look, the sentence, then what to search for."""

    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno == logging.INFO else f" {record.levelname}"
        added = "".join(
            f" {name}={value}" for name, value in _fields(record).items() if name not in ("event", "partition")
        )
        text = f"{_time_text(record)[11:-1]}{level} {masked(record.getMessage())}{f'  [{added[1:]}]' if added else ''}"
        return f"{text}\n{masked(self.formatException(record.exc_info))}" if record.exc_info else text


@dataclass(slots=True)
class _Window:
    until: float
    said: int = 0
    left_out: int = 0


class Sparing(logging.Filter):
    """Lets so many lines of one kind pass a minute. A kind is the `reason` given, else the sentence without its numbers."""

    def __init__(self, lines_max: int = LINES_MAX, window_s: float = WINDOW_S) -> None:
        super().__init__()
        self._lines_max, self._window_s = lines_max, window_s
        self._windows: OrderedDict[tuple[str, str], _Window] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.CRITICAL:
            return True
        if record.levelno <= logging.INFO and str(record.msg).startswith(STEP):
            return False
        window = self._window(record)
        if window.said >= self._lines_max:
            window.left_out += 1
            return False
        window.said += 1
        if window.said == self._lines_max:
            self._add(record, f"; more of this kind are left out for {self._window_s:.0f} s")
        return True

    def _window(self, record: logging.LogRecord) -> _Window:
        key = record.name, str(getattr(record, "reason", None) or _DIGITS.sub("#", record.getMessage()))
        window = self._windows.pop(key, None)
        if window is None or record.created >= window.until:
            left_out = 0 if window is None else window.left_out
            window = _Window(record.created + self._window_s)
            if left_out:
                self._add(record, f"; {left_out} more of this kind were left out before")
        self._windows[key] = window
        if len(self._windows) > KINDS_MAX:
            self._windows.popitem(last=False)
        return window

    @staticmethod
    def _add(record: logging.LogRecord, words: str) -> None:
        record.msg, record.args = record.getMessage() + words, None


def make_handler(kind: str, stream: TextIO, file: Path | None = None) -> logging.Handler:
    """`auto`: for eyes on a terminal, JSON elsewhere. A file may be moved away under it: a new one is begun."""
    handler: logging.Handler
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.handlers.WatchedFileHandler(file, encoding="utf-8")
    else:
        handler = logging.StreamHandler(stream)
    plain = kind == "text" or (kind == "auto" and file is None and stream.isatty())
    handler.setFormatter(PlainLines() if plain else JsonLines())
    handler.addFilter(Sparing())
    return handler


def set_up_logging(kind: str = "auto", file: Path | None = None, stream: TextIO | None = None) -> None:
    """The whole process speaks this way from now on: ours, and the libraries' warnings."""
    logging.root.handlers[:] = [make_handler(kind, stream or sys.stdout, file)]
    logging.root.setLevel(logging.INFO)
    for chatty in (
        "aiohttp.access",
        "aiokafka",
        "faust",
        "mode",
    ):  # every scrape, every step of their start: nobody's time
        logging.getLogger(chatty).setLevel(logging.WARNING)
