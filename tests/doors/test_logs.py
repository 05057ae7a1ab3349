"""What processes write: lines for eyes or for a collector, each kind a few times a minute, no phone number in full."""

import io
import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from rater.doors.logs import KINDS_MAX, LINES_MAX, Sparing, make_handler, masked, set_up_logging


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    logger = logging.getLogger("rater.test_logs")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    yield logger
    for handler in logger.handlers:
        handler.close()
    logger.handlers.clear()


def written(log: logging.Logger, kind: str, stream: io.StringIO) -> io.StringIO:
    log.addHandler(make_handler(kind, stream))
    return stream


def test_elsewhere_than_on_a_terminal_a_line_is_an_object_to_search_by(log: logging.Logger):
    out = written(log, "auto", io.StringIO())
    log.warning("a call was rejected: %s", "bad_times", extra={"event": "rejected", "partition": 3, "offset": 77,
                                                            "record_id": "sw1:9", "reason": "bad_times"})  # fmt: skip
    (line,) = out.getvalue().splitlines()
    found = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found.pop("time"))
    assert found == {
        "level": "warning", "logger": "rater.test_logs", "message": "a call was rejected: bad_times", "event": "rejected",
        "partition": 3, "offset": 77, "record_id": "sw1:9", "reason": "bad_times",
    }  # fmt: skip


def test_on_a_terminal_a_line_is_a_sentence(log: logging.Logger):
    out = written(log, "auto", Terminal())
    log.info("partition 3: running", extra={"event": "partition", "partition": 3})
    log.error("it stopped", extra={"offset": 9})
    first, second = out.getvalue().splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} partition 3: running", first)
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} ERROR it stopped  \[offset=9\]", second)


def test_a_traceback_stays_in_its_line_and_a_file_goes_on_after_it_was_moved_away(log: logging.Logger, tmp_path: Path):
    file = tmp_path / "new" / "worker.log"
    log.addHandler(make_handler("auto", Terminal(), file))
    try:
        raise ValueError("no good")
    except ValueError:
        log.exception("it failed")
    os.rename(file, tmp_path / "worker.log.1")
    log.info("and goes on")
    (failed,) = (tmp_path / "worker.log.1").read_text().splitlines()
    assert "ValueError: no good" in json.loads(failed)["traceback"]
    (following,) = file.read_text().splitlines()
    assert json.loads(following)["message"] == "and goes on"


# ---------------------------------------------------------------------------------------------- a few of each kind


def record(message: str, at: float = 0.0, level: int = logging.WARNING, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("rater", level, __file__, 1, message, None, None)
    made.created = at
    vars(made).update(extra)
    return made


def test_what_repeats_is_said_a_few_times_a_minute_and_that_more_was_left_out():
    sparing = Sparing()
    lines = [record(f"offset {n}: rejected", n / 100, reason="bad_field") for n in range(50)]
    passed = [line.getMessage() for line in lines if sparing.filter(line)]
    assert len(passed) == LINES_MAX
    assert passed[-1].endswith("more of this kind are left out for 60 s")
    later = record("offset 99: rejected", 61.0, reason="bad_field")
    assert sparing.filter(later)
    assert later.getMessage().endswith(f"{50 - LINES_MAX} more of this kind were left out before")


def test_one_reason_does_not_silence_another_nor_a_sentence_a_different_one():
    sparing = Sparing(lines_max=1)
    assert sparing.filter(record("rejected", reason="bad_field"))
    assert sparing.filter(record("rejected", reason="conflict"))
    assert sparing.filter(record("partition 1: running"))
    assert sparing.filter(record("partition 1: stopped"))
    assert not sparing.filter(record("partition 2: running"))  # the same sentence, another number


def test_the_end_of_a_process_is_always_told():
    sparing = Sparing(lines_max=1)
    assert all(sparing.filter(record("this worker ends", level=logging.CRITICAL)) for _ in range(5))


def test_kinds_without_number_are_not_remembered_without_end():
    sparing = Sparing()
    for number in range(2 * KINDS_MAX):
        sparing.filter(record("x", reason=f"r{number}"))
    assert len(sparing._windows) == KINDS_MAX


# ---------------------------------------------------------------------------------------------- no number, no secret


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("call from +442079460018 to +12125550123", "call from +44...18 to +1...23"),
        ("+420602123456", "+420...56"),
        ("offset +5, 12345678901", "offset +5, 12345678901"),
        ("+3535550100 is Irish", "+353...00 is Irish"),
    ],
)
def test_a_number_keeps_its_country_and_two_digits(said: str, shown: str):
    assert masked(said) == shown


def test_a_number_is_masked_in_messages_of_others_and_in_tracebacks(log: logging.Logger):
    out = written(log, "json", io.StringIO())
    try:
        raise KeyError("+442079460018")
    except KeyError:
        log.exception("no contact for %s", "+442079460018")
    assert "2079460018" not in out.getvalue()
    assert "no contact for +44...18" in out.getvalue()


def test_the_whole_process_speaks_one_way_and_libraries_only_when_something_is_wrong():
    handlers, level = logging.root.handlers[:], logging.root.level
    out = io.StringIO()
    try:
        set_up_logging("json", stream=out)
        logging.getLogger("aiokafka.conn").info("Discovered coordinator 1")
        logging.getLogger("aiokafka.conn").warning("it is gone")
        logging.getLogger("rater.doors.kafka.worker").info("[^%s]: Starting...", "-App")
        logging.getLogger("rater.worker").info("partition 1: running")
    finally:
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
        for chatty in ("aiohttp.access", "aiokafka", "faust", "mode"):
            logging.getLogger(chatty).setLevel(logging.NOTSET)
    assert [json.loads(line)["message"] for line in out.getvalue().splitlines()] == [
        "it is gone",
        "partition 1: running",
    ]
