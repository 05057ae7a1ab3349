"""How every process of rater writes its log: for the worker and all agents the same two keys."""

from collections.abc import Mapping
from pathlib import Path

from rater.doors.logs import FORMATS
from rater.doors.settings import values
from rater.doors.settings.values import Parse, Value


def log_file(value: Value) -> Path:
    path = Path(value.text)
    if not value.text or path.is_dir():
        raise value.wrong("a file, made when it is not there, for example /var/log/rater/worker.log")
    return path


LOG_KEYS: Mapping[str, Parse] = {"log_format": values.one_of(*FORMATS), "log_file": log_file}
