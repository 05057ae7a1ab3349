"""What was watched, field by field of the call record: which values it came from, what was done with them, what it is.

A value that was read inside the rule of a field belongs to it. One that was read before the rules (the two sides of a
call, a stamp) belongs to the field that was made of it, found by the value itself. Nothing is computed here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from rater.sources.ber_schema import MODULE, text_of
from rater.sources.profile import SourceProfile
from rater.sources.record import INBOUND_TYPES, SourceRecord, instant_text
from rater.sources.trace import Read, Ruled, Trace
from rater.sources.trace_words import told

CALL_FIELDS = """record_id tenant call_type user caller callee start answer end billable_ms disposition source switch
    call_id conference_id forwarded_by""".split()
TIMES = ("start", "answer", "end")
OF_THE_PROFILE = {"source": "source", "switch": "switch"}
TAGS = {
    "record_id": "chargingId sessionId callReference entity sequence",
    "call_type": "role recordType trunkIn trunkOut",
    "user": "served",
    "caller": "calling",
    "callee": "called",
    "start": "requested requestedMs seized opened",
    "answer": "answered answeredMs",
    "end": "ended endedMs released closed",
    "billable_ms": "duration",
    "disposition": "cause diagnostics",
}
FIELD_OF_TAG = {tag: name for name, tags in TAGS.items() for tag in tags.split()}


@dataclass(slots=True)
class FieldStory:
    """One field: where its values stood, what the rules did with them in words, and the answer (None: there is none)."""

    name: str
    reads: list[Read] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    value: Any = None


def stories(trace: Trace, record: SourceRecord, profile: SourceProfile) -> tuple[list[FieldStory], list[Read]]:
    """The fields in the order of the contract, and the values that were read and became part of none."""
    values = values_of(trace, record)
    found = {name: FieldStory(name, value=values.get(name)) for name in CALL_FIELDS}
    ruled = trace.all_ruled()
    columns = columns_of(profile, str(values.get("call_type") or ""))
    reads = once(trace.reads + tagged(ruled))
    left = [read for read in reads if not placed(read, found, ruled, values, columns)]
    known = {(read.place, read.text) for story in found.values() for read in story.reads}
    other = [read for read in left if (read.place, read.text) not in known]
    for one in ruled:
        for name in fields_of(one, values):
            sentence = told(one, profile)
            if sentence and sentence not in found[name].done:
                found[name].done.append(sentence)
    say_the_rest(found)
    if found["tenant"].value and not found["tenant"].done and profile.tenants.every:
        found["tenant"].done.append("tenant of the profile")
    for name, key in OF_THE_PROFILE.items():
        if found[name].value and not found[name].reads:
            found[name].done.append(f"{key} of the profile")
    shown = [story for story in found.values() if story.value is not None or story.reads or story.done or wanted(story)]
    return shown, other


def say_the_rest(found: Mapping[str, FieldStory]) -> None:
    """What no rule of its own decides, but the figures beside it."""
    billable, disposition = found["billable_ms"], found["disposition"]
    end, answer = found["end"].value, found["answer"].value
    if billable.value is not None and not any(f"{billable.value} ms" in sentence for sentence in billable.done):
        if end and answer and billable.value == between_ms(answer, end):
            billable.done.append(f"end - answer: {billable.value} ms")
        elif billable.value == 0 and answer is None:
            billable.done.append("never answered, nothing is billed")
    if disposition.value is not None and not disposition.done:
        disposition.done.append("there was an answer" if answer else "there was no answer")
    if answer and not (found["answer"].reads or found["answer"].done):
        with_it = answer == found["start"].value
        found["answer"].done.append(
            "a call begins with its answer here" if with_it else f"end - what is billed: {answer}"
        )
    if end and answer and not (found["end"].reads or found["end"].done) and between_ms(answer, end) == billable.value:
        found["end"].done.append(f"answer + what is billed: {end}")
    if found["answer"].value is None and found["start"].value is not None:
        found["answer"].done.append("there was none, or none that counts")


def between_ms(earlier: str, later: str) -> int:
    return round((datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds() * 1000)


def wanted(story: FieldStory) -> bool:
    return story.name not in ("call_id", "conference_id", "forwarded_by", "switch")


def values_of(trace: Trace, record: SourceRecord) -> Mapping[str, Any]:
    """The call record, or what it would have become before it was refused."""
    if record.canonical is not None:
        call: dict[str, Any] = orjson.loads(record.canonical)
        return call
    tried = next((one.given for one in reversed(trace.all_ruled()) if one.rule == "canonical_call"), {})
    call = {name: value for name, value in tried.items() if name in CALL_FIELDS}
    call |= {name: value for name, value in (tried.get("more") or {}).items() if value}
    for name in TIMES:
        at_ms = tried.get(name + "_ms")
        if at_ms is not None:
            call[name] = instant_text(at_ms)
    return call


def once(reads: Sequence[Read]) -> list[Read]:
    """Each value once for each use of it, where it was first seen."""
    found: dict[tuple[str, str, str], Read] = {}
    for read in reads:
        found.setdefault((read.name, read.text, read.used_for), read)
    return list(found.values())


def tagged(ruled: Sequence[Ruled]) -> list[Read]:
    """The members of a BER record, which are read all at once."""
    reads = []
    for one in ruled:
        if one.rule == "members" and isinstance(one.answer, dict):
            for name, value in one.answer.items():
                text = text_of(value) if isinstance(value, bytes) else str(value)
                reads.append(Read(name, tag_of(one.given["kind"], name), text, text, FIELD_OF_TAG.get(name, "")))
    return reads


def tag_of(kind: str, member: str) -> str:
    body = MODULE.partition(f"\n{kind} ::=")[2]
    return "tag [" + body.partition(f" {member} [")[2].partition("]")[0] + "]"


def is_of_stamp(read: Read, one: Ruled) -> bool:
    """Date and time in two fields may be the same text in others; then the names say which belong together."""
    return "clock" not in one.given or read.name.startswith(one.given["name"])


def columns_of(profile: SourceProfile, call_type: str) -> Mapping[str, list[str]]:
    """Which fields a column serves because the profile, or the family, says so."""
    columns = {column: [name] for column, name in NAMES.items()}
    users = profile.users
    said = {
        profile.tenants.column: "tenant",
        (users.column_in or users.column) if call_type in INBOUND_TYPES else users.column: "user",
        profile.call_types.column: "call_type",
    }
    for column, name in said.items():
        columns[column] = [*columns.get(column, []), name]
    return columns


def placed(
    read: Read,
    found: Mapping[str, FieldStory],
    ruled: Sequence[Ruled],
    values: Mapping[str, Any],
    columns: Mapping[str, list[str]],
) -> bool:
    names = [read.used_for] if read.used_for in found else by_value(read, ruled, values)
    if names == ["record_id"] and read.text == values.get("call_id"):
        names.append("call_id")
    by_family = set() if read.used_for or names else set(NAMES.values())
    names += [name for name in columns.get(read.name, []) if name in by_family or name not in NAMES.values()]
    for name in dict.fromkeys(names):
        if not any(known.place == read.place for known in found[name].reads):
            found[name].reads.append(read)
    return bool(names)


def by_value(read: Read, ruled: Sequence[Ruled], values: Mapping[str, Any]) -> list[str]:
    """The fields that were made of this text: a stamp by its instant, a side of the call by what `settle` was given."""
    if not read.text:
        return []
    names = fields_of(read.within, values) if read.within is not None and read.within.rule in STAMPS else []
    for one in ruled:
        texts = [
            given for key, given in one.given.items() if isinstance(given, str) and key not in ("name", "fraction")
        ]
        if one.rule in STAMPS and read.text in texts and is_of_stamp(read, one):
            names += fields_of(one, values)
        sides = one.given.get("sides")
        if sides is not None:
            made = {
                read.text,
                *(str(step.answer) for step in ruled if step.rule in UNWRAPPED and read.text in step.given.values()),
            }
            names += [name for side, name in SIDES.items() if getattr(sides, side, "") in made]
        if one.rule == "record_id" and read.text in one.given.get("parts", ()):
            names.append("record_id")
    if read.text == values.get("call_id"):
        names.append("call_id")
    return list(dict.fromkeys(names))


NAMES = {
    "answer_ticks": "answer",
    "duration_ticks": "billable_ms",
    "duration": "billable_ms",
    "ms_duration": "billable_ms",
    "time": "billable_ms",
    "sip_code": "disposition",
    "diversion": "forwarded_by",
    "switchname": "switch",
    "FreeSWITCH-Switchname": "switch",
    "gateway": "switch",
}
UNWRAPPED = ("uri_number", "address", "party", "directory_number")
SIDES = {"caller": "caller", "called": "callee", "reached": "callee", "also_dialled": "callee",
         "trunk_in": "call_type", "trunk_out": "call_type", "word": "call_type"}  # fmt: skip
STAMPS = ("instants", "instant", "epoch", "instant_ms", "instant_needed", "stamp_ms", "epoch_ms")


def fields_of(one: Ruled, values: Mapping[str, Any]) -> list[str]:
    """Which fields a rule spoke of: its own; of a stamp, those that have its instant, or else what it is called."""
    if one.rule in STAMPS or (one.rule == "settle" and "starts" in one.given):
        answer = one.answer if isinstance(one.answer, tuple) else (one.answer,)
        texts = [instant_text(at_ms) for at_ms in answer if type(at_ms) is int and 0 <= at_ms < 253_402_300_800_000]
        if one.rule == "settle":
            return list(TIMES)
        same = [name for name in TIMES if values.get(name) in texts]
        return by_name(one, same) or same or ([] if values else by_name(one, list(TIMES)))
    return [one.used_for] if one.used_for in CALL_FIELDS else []


WORDS = {
    "start": ("start", "setup", "origination", "invite", "created", "calldate", "requested", "seized"),
    "answer": ("answer", "dateTimeConnect", "connect"),
    "end": ("end", "disconnect", "failure", "released", "closed"),
}


def by_name(one: Ruled, among: list[str]) -> list[str]:
    """Of the fields with one instant (a call that was never answered ends where it starts) the one that the name says."""
    text = str(one.given.get("name", "")).lower()
    ends = "disconnect" in text or text.startswith(("end", "failure"))
    for name, words in WORDS.items():
        if name in among and not (ends and name != "end") and any(word.lower() in text for word in words):
            return [name]
    return []
