"""What a source does with one record, watched from outside while it does it: values read, rules asked, answers given.

`rater mediate --explain` must tell what the mediation itself does, so nothing is computed here a second time: the
functions of `rater.sources` run as always, and Python's profiling hook tells of those whose names stand below with what
went in and what came out. A source that is not watched pays nothing for it, which an argument through every function
of every family would not have given. Where a value stood (column, JSON path, tag) is said by trace_places.py, what the
rules did in words by trace_words.py.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from rater.sources.trace_places import place_of

HERE = str(Path(__file__).parent)
RULES = frozenset(
    """e164 emergency_callee without_access national_number unmasked uri_number address party directory_number peer kind
    call_type settle tenant user instants instant epoch instant_ms epoch_ms stamp_ms instant_needed span_ms seconds_ms
    billable billable_ms measured_ms session_ms used_ms ticks talked count disposition cs_disposition disposition_of
    sip_disposition record_id check_leg canonical_call members answered_ms""".split()
)
FIELDS = {
    **dict.fromkeys(("tenant",), "tenant"),
    **dict.fromkeys(("user",), "user"),
    **dict.fromkeys(("kind", "call_type", "unknown_kind", "is_owned"), "call_type"),
    **dict.fromkeys(("caller",), "caller"),
    **dict.fromkeys(("callee", "dialled"), "callee"),
    **dict.fromkeys(("record_id", "id_parts", "identity", "named"), "record_id"),
    **dict.fromkeys(("disposition", "cs_disposition", "disposition_of", "sip_disposition", "reason"), "disposition"),
    **dict.fromkeys(("billable_ms", "measured_ms", "session_ms", "used_ms", "talked", "billable"), "billable_ms"),
    **dict.fromkeys(("times", "connected", "failed", "attempt_ends", "settled_start", "stop_ms", "part_ms"), "times"),
    **dict.fromkeys(("check_leg", "leg", "is_recording", "is_called"), "leg"),
    **dict.fromkeys(("switch",), "switch"),
    **dict.fromkeys(("call_id",), "call_id"),
    **dict.fromkeys(("forwarded_by",), "forwarded_by"),
}


@dataclass(slots=True)
class Read:
    """One value that a rule asked for: its name there, where it stands, as written and as it was read."""

    name: str
    place: str
    raw: str
    text: str
    used_for: str  # a field of the call record, `times`, `leg`, or nothing when only its value can say
    within: "Ruled | None" = None


@dataclass(slots=True)
class Ruled:
    """One rule that was asked: what went in, what came out (None also when it refused), and what it asked in turn."""

    rule: str
    used_for: str
    given: dict[str, Any]
    answer: Any = None
    inner: list["Ruled"] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)


@dataclass(slots=True)
class Trace:
    """Everything that was seen, in order."""

    reads: list[Read] = field(default_factory=list)
    ruled: list[Ruled] = field(default_factory=list)

    def all_ruled(self) -> list[Ruled]:
        """The rules in order, an inner one behind the one that asked it."""

        def walk(some: list[Ruled]) -> list[Ruled]:
            return [found for one in some for found in (one, *walk(one.inner))]

        return walk(self.ruled)


@dataclass(slots=True)
class _Seen:
    """A frame that is being watched."""

    frame: FrameType
    reader: str = ""
    field: str = ""
    ruled: Ruled | None = None
    place: tuple[str, str] = ("", "")


class Watching:
    """`with Watching() as trace:` sees what this thread does in rater.sources until the end of the block."""

    def __init__(self) -> None:
        self.trace = Trace()
        self._stack: list[_Seen] = []
        self._codes: dict[CodeType, tuple[bool, bool, str]] = {}
        self._before: Callable[..., Any] | None = None

    def __enter__(self) -> Trace:
        self._before = sys.getprofile()
        sys.setprofile(self._hook)
        return self.trace

    def __exit__(self, *_: object) -> None:
        sys.setprofile(self._before)

    def _hook(self, frame: FrameType, event: str, arg: Any) -> None:
        if event == "call":
            reader, rule, used_for = self._role(frame.f_code)
            if reader or rule or used_for:
                self._begin(frame, reader, rule, used_for)
        elif event == "return" and self._stack and self._stack[-1].frame is frame:
            self._end(self._stack.pop(), arg)

    def _role(self, code: CodeType) -> tuple[bool, bool, str]:
        known = self._codes.get(code)
        if known is None:
            inside = code.co_filename.startswith(HERE) and "trace" not in Path(code.co_filename).stem
            known = (
                (is_reader(code), code.co_name in RULES, FIELDS.get(code.co_name, "")) if inside else (False, False, "")
            )
            self._codes[code] = known
        return known

    def _begin(self, frame: FrameType, reader: bool, rule: bool, used_for: str) -> None:
        arguments = arguments_of(frame)
        seen = _Seen(frame, field=used_for)
        if reader:
            seen.reader = str(next(iter(arguments.values()), ""))
            seen.place = place_of(frame, seen.reader)
        elif rule:
            seen.ruled = Ruled(frame.f_code.co_name, used_for or self._used_for(), arguments)
            outer = self._asking()
            (self.trace.ruled if outer is None else outer.inner).append(seen.ruled)
        self._stack.append(seen)

    def _end(self, seen: _Seen, answer: Any) -> None:
        if seen.ruled is not None:
            seen.ruled.answer = answer
        if not seen.reader:
            return
        outer = self._stack[-1] if self._stack else None
        if outer is not None and outer.reader:
            outer.place = outer.place if outer.place[0] else seen.place
        elif answer is not None and seen.place[0]:
            asking = self._asking()
            read = Read(seen.reader, *seen.place, str(answer), self._used_for(), asking)
            self.trace.reads.append(read)
            if asking is not None:
                asking.reads.append(read)

    def _asking(self) -> Ruled | None:
        return next((one.ruled for one in reversed(self._stack) if one.ruled is not None), None)

    def _used_for(self) -> str:
        return next((one.field for one in reversed(self._stack) if one.field), "")


def is_reader(code: CodeType) -> bool:
    """A function that is asked for a value by its name, whatever the family calls it."""
    names = code.co_varnames[: code.co_argcount]
    if code.co_name in ("text_of", "whole") and names[:2] == ("name", "value"):
        return True
    by_name = names[:2] in (("self", "name"), ("self", "path")) or (names == ("name",) and code.co_name == "get")
    return by_name and code.co_name in ("get", "text", "needed", "value", "whole", "count")


def arguments_of(frame: FrameType) -> dict[str, Any]:
    code = frame.f_code
    names = code.co_varnames[
        : code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 4) + bool(code.co_flags & 8)
    ]
    return {name: frame.f_locals[name] for name in names if name != "self" and name in frame.f_locals}
