"""Which switch wrote a sample: the sources whose marks it bears, each with the evidence in words.

Marks are names of fields and places that no other family has. Several sources may be found; then a person chooses.
"""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rater.sources.asterisk import DISPOSITIONS
from rater.sources.asterisk_layouts import ALIASES, LAYOUTS
from rater.sources.freeswitch import ENDINGS, FAILURES
from rater.sources.freeswitch_csv import TEMPLATES
from rater.sources.freeswitch_json import Bodies
from rater.sources.freeswitch_xml import XmlRecords
from rater.sources.profile_shapes import ROWS_MAX, is_iso, split

ACME_STAMP = re.compile(r"[0-9]{1,2}:[0-9]{2}:[0-9]{2}\.[0-9]{1,9} [A-Z]{1,5} [A-Za-z]{3} +[0-9]{1,2} [0-9]{4}")
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
SONUS = ("START", "STOP", "ATTEMPT", "INTERMEDIATE", "REBOOT", "SWITCHOVER")
COLUMN = re.compile(r"\$\{([A-Za-z0-9_]+)\}")
JSON_MARKS: Sequence[tuple[str, tuple[tuple[str, ...], ...]]] = (
    ("freeswitch-event", (("Event-Name", "Core-UUID"),)),
    ("freeswitch-json", (("variables", "callflow"), ("core-uuid", "variables"))),
    ("graph-direct-routing", (("callType", "startDateTime", "successfulCall"), ("callType", "trunkFullyQualifiedDomainName"))),
    ("graph-pstn", (("callType", "startDateTime", "calleeNumber", "duration"),)),
    ("3gpp-json", (("invocationTimeStamp", "invocationSequenceNumber"),)),
    ("opensips", (("jsonrpc", "params"), ("callid", "ms_duration"), ("callid", "created"))),
    ("kamailio", (("method", "callid", "from_tag", "sip_code"), ("start_time", "end_time", "duration"))),
    ("asterisk-json", (("StartTime", "Source", "Destination"), ("src", "dst", "dcontext", "disposition"))),
)  # fmt: skip


class Found(NamedTuple):
    """One source that fits, its layout or template where it has one, and why."""

    source: str
    option: str
    why: str


class Sample(NamedTuple):
    """The beginning of a file in the two ways to read it."""

    objects: list[dict[str, Any]]
    lines: list[str]
    data: bytes


def sample_of(data: bytes) -> Sample:
    text = data.decode("utf-8-sig", "replace")
    objects: list[dict[str, Any]] = []
    if is_xml(data):
        objects = [piece.value for piece in XmlRecords(io.BytesIO(data)) if piece.value is not None][:ROWS_MAX]
    elif text.lstrip()[:1] in ("{", "[") or data.startswith((b"cdr=", b"%7B", b"%7b")):
        for piece in Bodies(io.BytesIO(data)):
            if piece.value is not None:
                objects.append(piece.value)
            if len(objects) >= ROWS_MAX:
                break
    return Sample(objects, [line for line in text.splitlines()[:ROWS_MAX] if line.strip()], data)


def is_xml(data: bytes) -> bool:
    return data.removeprefix(b"cdr=").lstrip()[:3].upper() in (b"<?X", b"<CD", b"%3C")  # base64 does not show it


def detect(sample: Sample) -> list[Found]:
    """Every source that fits; `delimited` only when no family does, and nothing for bytes that are no records."""
    if sample.objects and is_xml(sample.data):
        return [Found("freeswitch-xml", "", "elements <cdr> with variables and call flows")]
    if sample.objects:
        return of_objects(sample.objects)
    if b"\0" in sample.data[:4096] or sample.data[:1] in (b"\xbf", b"\xa0", b"\xa1", b"0"):
        if not sample.data[:1].isdigit():
            return [Found("3gpp-ber", "", "bytes that are no text and begin as a BER record")]
    return of_lines(sample.lines) or [Found("delimited", "", "no family's marks; rows of text")] if sample.lines else []


def of_objects(objects: Sequence[Mapping[str, Any]]) -> list[Found]:
    for source, marks in JSON_MARKS:
        for mark in marks:
            if all(any(name in row or name in inner(row) for row in objects) for name in mark):
                return [Found(source, "", f"fields {', '.join(mark)}")]
    return []


def inner(row: Mapping[str, Any]) -> Mapping[str, Any]:
    body = row.get("body", row.get("params"))
    return body if isinstance(body, dict) else {}


def of_lines(lines: Sequence[str]) -> list[Found]:
    first = lines[0].lstrip('"')
    if first.startswith("cdrRecordType") or re.match(r'"?INTEGER"?,"?INTEGER"?,', lines[0]):
        return [
            Found("cucm", "", "the line of CUCM's names" if first.startswith("cdr") else "CUCM's line of SQL types")
        ]
    rows = [row for line in lines if (row := split(line, ",")) is not None]
    rows = rows or [line.split(",") for line in lines]
    if first.startswith("Sonus") or all(row[0].strip() in SONUS for row in rows):
        return [Found("sonus", "", "lines that begin with START, STOP or ATTEMPT")]
    if all(line.split(",")[0].strip('" ') in ("1", "2", "3") for line in lines) and any(
        ACME_STAMP.search(line) for line in lines
    ):
        return [Found("acme", "", "rows 1, 2, 3 with stamps such as 13:30:12.700 UTC JAN 15 2026")]
    return of_header(lines[0]) + of_asterisk(lines) + of_templates(lines)


def of_header(line: str) -> list[Found]:
    names = [name.strip().lower() for name in split(line, ",") or []]
    if {"src", "dst", "billsec", "disposition"} <= set(names):
        return [Found("asterisk-csv", "header", "a header with src, dst, billsec, disposition")]
    return []


def of_asterisk(lines: Sequence[str]) -> list[Found]:
    """The layouts in which every row of this width has a stamp, seconds and a disposition in their places."""
    rows = [row for line in lines if (row := split(line, ",")) is not None]
    found = []
    for layout, columns in LAYOUTS.items():
        mine = [row for row in rows if len(row) == len(columns)]
        place = {ALIASES.get(name, name): index for index, name in enumerate(columns)}
        fitting = [row for row in mine if is_call(row, place)]
        if fitting and len(fitting) * 10 >= len(lines) * 8:
            found.append(Found("asterisk-csv", layout, f"{len(fitting)} of {len(lines)} lines are rows of {layout}"))
    return found


def is_call(row: Sequence[str], place: Mapping[str, int]) -> bool:
    return (
        is_iso(row[place["start"]])
        and row[place["billsec"]].partition(".")[0].isdigit()
        and row[place["disposition"]] in DISPOSITIONS
        and row[place["disposition"]].isupper()
    )


def of_templates(lines: Sequence[str]) -> list[Found]:
    """The templates of FreeSWITCH whose uuid, cause and stamps stand where they should."""
    found = []
    for name, text in TEMPLATES.items():
        columns = COLUMN.findall(text.partition("(")[2] if name == "sql" else text)
        body = (
            [line.removeprefix("INSERT INTO cdr VALUES (").removesuffix(");") for line in lines]
            if name == "sql"
            else lines
        )
        rows = [row for line in body if (row := split(line.rstrip(";"), ",")) is not None and len(row) == len(columns)]
        fitting = [row for row in rows if is_leg(dict(zip(columns, row, strict=True)))]
        if fitting and len(fitting) * 2 >= len(lines):
            found.append(
                Found("freeswitch-csv", name, f"{len(fitting)} of {len(lines)} lines are rows of the template {name}")
            )
    return narrowed(found)


def narrowed(found: list[Found]) -> list[Found]:
    """`default` and `sql` differ by what stands around the row, `asterisk` and `fallback` by the last `;`."""
    return [
        one for one in found if not (one.option == "fallback" and any(other.option == "asterisk" for other in found))
    ]


def is_leg(row: Mapping[str, str]) -> bool:
    cause = row.get("hangup_cause", "NORMAL_CLEARING").strip()
    stamps = [row[name] for name in ("start_stamp", "end_stamp") if name in row]
    return bool(UUID.fullmatch(row["uuid"])) and (cause in ENDINGS or cause in FAILURES) and all(map(is_iso, stamps))
