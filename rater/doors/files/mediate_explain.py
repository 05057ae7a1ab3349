"""`rater mediate --explain`: what became of one record, field by field, told while the same code mediates it once more.

The files are read through the source as `rater mediate` reads them, so that the verdict is the one of the real run:
with the header before the record and the other parts of its call. Then the bytes of that outcome, and of the header, go
through a fresh source that is being watched; what was read and ruled there is the story. Nothing is written or logged.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from io import BytesIO
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, BinaryIO, cast

import orjson

from rater.doors.files.file_marks import files_of
from rater.doors.files.inputs import STANDARD_INPUT, InputProblem, open_input
from rater.sources import Assembling, SourceProfile, SourceRecord, open_source
from rater.sources.record import RECORD_BYTES_MAX
from rater.sources.trace import Watching
from rater.sources.trace_fields import stories

LINES_PER_RECORD = {"3gpp-ber"}  # families without lines: the number counts records
NUMBER_DIGITS_MAX = 12
STILL_OPEN = "; still open when the input ended"


@dataclass(frozen=True, slots=True)
class Target:
    """The record to tell of: the `nth` that begins on `line` of the only file, or the one with these bytes."""

    line: int = 0
    nth: int = 1
    text: bytes = b""


@dataclass(slots=True)
class Sought:
    """What was found: the outcome, where, and the bytes of headers before it."""

    outcome: SourceRecord | None = None
    line: int = 0
    headers: list[bytes] = field(default_factory=list)
    is_open: bool = False


def target_of(text: str, stdin: BinaryIO) -> Target:
    """`17` is a line of the file, `17:3` the third record that begins there; `-` is read; all else is the record itself."""
    line, colon, nth = text.partition(":")
    if line.isdigit() and line.isascii() and len(line) <= NUMBER_DIGITS_MAX and (nth.isdigit() or not colon):
        if int(line) < 1 or int(nth or 1) < 1:
            raise InputProblem(f"--explain {text}: lines and records are counted from 1")
        return Target(line=int(line), nth=int(nth or 1))
    data = stdin.read() if text == STANDARD_INPUT else text.encode("utf-8", "surrogateescape")
    if not data.strip():
        raise InputProblem(
            "--explain: there is no record; give the number of a line, the text of one, or - and the text on stdin"
        )
    return Target(text=data)


def explain(inputs: Sequence[str], profile: SourceProfile, target: Target) -> dict[str, Any]:
    """The story as one object: verdict, parts, fields, what else was read. InputProblem when there is no such record."""
    names = [name for given in inputs for name in files_of(given)]
    if target.line and len(names) != 1:
        raise InputProblem(f"--explain {target.line} is a line of one file; {len(names)} files were named")
    sought = by_line(names[0], profile, target) if target.line else by_text(names, profile, target)
    if sought.outcome is None:
        where = f"{names[0]}: no record" if target.line else "no record was made of this text"
        raise InputProblem(f"{where} {f'begins on line {target.line}' if target.line else ''}".rstrip())
    return told_of(sought, profile)


# --- finding it ------------------------------------------------------------------------------------------------------


class Locator:
    """Follows a source through the bytes of its file and says on which line each outcome began."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at, self._line = data, 0, 1

    def lines_of(self, raw: bytes) -> tuple[int, int]:
        """First and last line of a record that comes after the one before; (0, 0) when its bytes are not to be found."""
        first = raw.partition(b"\n")[0].rstrip(b"\r")
        place = self._data.find(first, self._at) if raw else -1
        if place < 0:
            return 0, 0
        self._line += self._data.count(b"\n", self._at, place)
        end = place + (len(raw) if self._data.startswith(raw, place) else len(first))
        begun = self._line
        self._line += self._data.count(b"\n", place, end)
        self._at = end
        return begun, begun + raw.count(b"\n")


@contextmanager
def opened(name: str) -> Iterator[IO[bytes]]:
    stream = open_input(name)
    with nullcontext(stream) if name == STANDARD_INPUT else stream:
        yield stream


def beginning(name: str, line: int) -> bytes:
    """The file up to this line and as much behind it as one record may hold: what comes later cannot change it."""
    found, behind = [], 0
    with opened(name) as stream:
        for count, text in enumerate(stream, 1):
            found.append(text)
            behind += len(text) if count > line else 0
            if behind > 2 * RECORD_BYTES_MAX:
                break
    return b"".join(found)


def line_of(name: str, line: int) -> tuple[bytes, int]:
    """The bytes of one line, and how many lines before it are the same."""
    if name == STANDARD_INPUT:
        raise InputProblem(f"--explain {line}: a call of this source may have parts elsewhere, so its input is read more than once; "
                           "give a file, or the record itself")  # fmt: skip
    with opened(name) as stream:
        text = next(islice(stream, line - 1, None), b"").strip()
    if not text:
        raise InputProblem(f"{name}: line {line} is empty or not there")
    with opened(name) as stream:
        return text, sum(other.strip() == text for other in islice(stream, line - 1))


def by_line(name: str, profile: SourceProfile, target: Target) -> Sought:
    source = open_source(profile.source, profile)
    if profile.source in LINES_PER_RECORD:
        with opened(name) as stream:
            return nth_record(stream.read(), profile, target)
    if not isinstance(source, Assembling):
        return nth_record(beginning(name, target.line), profile, target)
    text, before = line_of(name, target.line)
    return replace(of_text([name], b"", profile, text, again=before > 0), line=target.line)


def nth_record(data: bytes, profile: SourceProfile, target: Target) -> Sought:
    """The outcome whose bytes cover the line; of several that begin on it, the nth. Without lines: the nth of all."""
    source = open_source(profile.source, profile)
    by_number = profile.source in LINES_PER_RECORD
    locator, sought, seen = Locator(data), Sought(), 0
    for count, record in enumerate(outcomes(source, [], data), 1):
        first, last = (count, count) if by_number else locator.lines_of(record.raw)
        if first <= target.line <= last:
            seen += 1
            if seen == target.nth or first < target.line:
                sought.outcome, sought.line = record, first
                return sought
        if record.kind == "header" and record.canonical is None:
            sought.headers.append(record.raw)
    return sought


def by_text(names: Sequence[str], profile: SourceProfile, target: Target) -> Sought:
    """What becomes of this text after the files that were named, which may hold its header and its other parts."""
    if profile.source in LINES_PER_RECORD:
        return of_text(names, target.text, profile, target.text, again=False)
    text = target.text.strip(b"\r\n")
    return of_text(names, text + b"\n", profile, text, again=False)


def of_text(names: Sequence[str], behind: bytes, profile: SourceProfile, text: bytes, *, again: bool) -> Sought:
    """The outcome that these bytes are part of. A part delivered `again` is told as what it was: a repeat."""
    source = open_source(profile.source, profile)
    sought = Sought()
    for record in outcomes(source, names, behind):
        is_it = text in record.raw or (len(record.raw) > 1 and record.raw in text)
        if is_it and (sought.outcome is None or (sought.outcome.kind == "repeat") != again):
            sought.outcome = record
            if (record.kind == "repeat") == again and record.kind != "header":
                break
        if record.kind == "header" and record.canonical is None:
            sought.headers.append(record.raw)
    return sought


def outcomes(source: Any, names: Sequence[str], behind: bytes) -> Iterator[SourceRecord]:
    """Everything that a run over these files, and what is behind them, would hand out; at last the calls still open."""
    for name in names:
        with opened(name) as stream:
            yield from source.read(cast(BinaryIO, stream))
    yield from source.read(BytesIO(behind))
    if isinstance(source, Assembling):
        for record in source.close():
            detail = record.detail.removesuffix(STILL_OPEN)
            if detail == record.detail:
                yield record
            else:
                yield SourceRecord(record.raw, None, record.reason, detail, "open", record.parts)


# --- telling it ------------------------------------------------------------------------------------------------------


def told_of(sought: Sought, profile: SourceProfile) -> dict[str, Any]:
    record = cast(SourceRecord, sought.outcome)
    headers = [] if record.kind == "header" else [raw for raw in sought.headers if raw]
    source = open_source(profile.source, plain(profile))
    for _ in source.read(BytesIO(b"".join(raw + b"\n" for raw in headers))):
        pass  # the header is not what was asked for
    with Watching() as trace:
        made = list(source.read(BytesIO(b"".join(raw + b"\n" for raw in headers) + record.raw)))
        if isinstance(source, Assembling):
            made += source.close()
    again = next((one for one in made if one.canonical == record.canonical and one.reason == record.reason), record)
    fields, other = stories(trace, again, profile)
    return {
        "source": profile.source,
        "profile": Path(profile.file).name,
        "line": sought.line or None,
        "outcome": outcome_of(record),
        "kind": record.kind,
        "reason": record.reason or None,
        "detail": record.detail or None,
        "why": why(record),
        "corrects": record.corrects or None,
        "parts": [shown(part) for part in parts_of(record)],
        "fields": [
            {
                "field": story.name,
                "value": story.value,
                "read": [
                    {
                        "name": read.name,
                        "where": read.place,
                        "raw": read.raw,
                        "as": None if read.raw == read.text else read.text,
                    }
                    for read in story.reads
                ],
                "done": story.done,
            }
            for story in fields
        ],
        "also_read": [{"name": read.name, "where": read.place, "raw": read.raw} for read in other],
        "call": None if record.canonical is None else orjson.loads(record.canonical),
    }


def plain(profile: SourceProfile) -> SourceProfile:
    """One record alone has no header of TS 32.297 before it."""
    if profile.options.get("framing") != "ts32297":
        return profile
    return replace(profile, options=MappingProxyType({**profile.options, "framing": "concatenated"}))


def parts_of(record: SourceRecord) -> list[bytes]:
    return record.raw.split(b"\n") if record.parts > 1 and record.raw.count(b"\n") == record.parts - 1 else [record.raw]


def shown(raw: bytes) -> str:
    """Text as it is; what is no text in hexadecimal."""
    text = raw.decode("utf-8", "replace")
    return text if "\ufffd" not in text and (text.isprintable() or "\n" in text) else raw.hex()


def outcome_of(record: SourceRecord) -> str:
    if record.canonical is not None:
        return "call"
    if record.kind == "open":
        return "waiting"
    return "rejected" if record.reason else "not billed"


def why(record: SourceRecord) -> str:
    """The verdict in one sentence."""
    several = f", made of {record.parts} records" if record.parts > 1 else ""
    match outcome_of(record):
        case "call":
            return f"a call record{several}"
        case "waiting":
            return f"{record.detail}; it waits for the rest, which may come in a later file"
        case "rejected":
            return f"rejected {record.reason}{several}: {record.detail}"
    return f"not billed ({record.kind}){several}: {record.detail}" if record.detail else f"not billed: a {record.kind}"
