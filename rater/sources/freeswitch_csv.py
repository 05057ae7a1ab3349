"""FreeSWITCH's mod_cdr_csv: rows written by a template, without a header, and without escaping what is in a value.

So the profile names the template, or is given its text as it stands in cdr_csv.conf.xml. A quote or a comma in a
caller's name breaks its row; such a row is rejected, never repaired. Times are whole seconds of a wall clock and
`billsec` is measured between two of them, unless the template writes epochs, `billmsec` or `billusec`.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import BinaryIO, NamedTuple

from rater.sources.freeswitch import ORIGINATORS, Calls, Leg, Settings, read_settings
from rater.sources.parties import Getter
from rater.sources.profile import SourceProfile, Table
from rater.sources.record import RECORD_BYTES_MAX, SourceRecord, Unusable, shown, words
from rater.sources.rows import Rows, Splitter, utf8

PLAIN = words(
    """caller_id_name caller_id_number destination_number context start_stamp answer_stamp end_stamp duration billsec
    hangup_cause uuid bleg_uuid accountcode"""
)
AS_ASTERISK = words(
    """accountcode caller_id_number destination_number context caller_id channel_name bridge_channel last_app last_arg
    start_stamp answer_stamp end_stamp duration billsec hangup_cause amaflags uuid userfield"""
)


def text_of(columns: tuple[str, ...]) -> str:
    return ",".join(f'"${{{name}}}"' for name in columns)


FALLBACK = text_of(AS_ASTERISK) + ";"
TEMPLATES: Mapping[str, str] = MappingProxyType(
    {
        "example": text_of((*PLAIN, "read_codec", "write_codec")),
        "default": text_of(PLAIN).replace(',"${accountcode}"', ', "${accountcode}"'),
        "sql": f"INSERT INTO cdr VALUES ({text_of(PLAIN)});".replace(',"${accountcode}"', ', "${accountcode}"'),
        "snom": text_of(
            (
                *PLAIN,
                *words("read_codec write_codec sip_user_agent call_clientcode sip_rtp_rxstat sip_rtp_txstat"),
                "sofia_record_file",
            )
        ).replace(',"${accountcode}"', ', "${accountcode}"'),
        "linksys": text_of((*PLAIN, *words("read_codec write_codec sip_user_agent sip_p_rtp_stat"))),
        "asterisk": text_of(AS_ASTERISK),
        "opencdrrate": text_of(
            words(
                """uuid signal_bond direction ani destination_number answer_stamp end_stamp billsec accountcode userfield
                network_addr -caller_id_initial sip_gateway_name"""
            )
        ),
        "fallback": FALLBACK,
    }
)
VARIABLE = re.compile(r"\$\{([A-Za-z0-9_]+)\}")
MOMENTS = ("_uepoch", "_epoch", "_stamp")


class Template(NamedTuple):
    """What a template makes of a row: text before it, text after it, and the columns between."""

    before: bytes
    after: bytes
    columns: tuple[str, ...]
    delimiter: str
    spaced: bool
    ends_itself: bool


def read_template(table: Table) -> Template:
    expected = "one of " + ", ".join(TEMPLATES) + "; or the text of your own, with its ${variables}"
    name = table.text("template", expected)
    delimiter = table.choice("delimiter", (",", ";", "\t", "|"), ",")
    text = TEMPLATES.get(name, name)
    first, last = text.find("${"), text.rfind("}")
    if first < 0 or last < first:
        raise table.refuse("template", expected)
    first -= text[first - 1 : first] == '"'
    last += 1 + (text[last + 1 : last + 2] == '"')
    inside = text[first:last]
    columns = tuple(
        [column_of(cell) for cell in next(csv.reader([inside], delimiter=delimiter, skipinitialspace=True))]
    )
    named = [column for column in columns if column]
    for column in named:
        if named.count(column) > 1:
            raise table.refuse("template", f"each variable once; {column} stands there twice")
    ends_itself = text is FALLBACK
    after = "" if ends_itself else text[last:].rstrip("\n")
    return Template(
        before=text[:first].encode(),
        after=after.encode(),
        columns=columns,
        delimiter=delimiter,
        spaced=delimiter + " " in inside,
        ends_itself=ends_itself,
    )


def column_of(cell: str) -> str:
    """The variable of a cell; empty for a constant or an expression, which is passed over."""
    found = VARIABLE.fullmatch(cell)
    return found[1] if found else ""


class TemplateRows(Rows):
    """Rows between the texts that a template writes before and after them."""

    def __init__(self, stream: BinaryIO, template: Template) -> None:
        super().__init__(stream, template.delimiter, len(template.columns))
        self.template = template
        self.splitter = Splitter(delimiter=template.delimiter, skipinitialspace=template.spaced)

    def parse(self, line: bytes) -> list[str] | None:
        template = self.template
        if template.before or template.after:
            if not (line.startswith(template.before) and line.endswith(template.after)):
                return None
            line = line[len(template.before) : len(line) - len(template.after)]
        return super().parse(line)


class Unbroken:
    """The file of the built-in template, which ends a row with `;` and starts no new line, as lines."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.held = b""
        self.ended = False

    def readline(self, size: int) -> bytes:
        """The next row and a line feed, or `size` bytes of it."""
        while True:
            self.held = self.held.lstrip(b"\r\n")
            end = self.row_end()
            if end >= 0 and end < size:
                line, self.held = self.held[:end] + b"\n", self.held[end + 1 :]
                return line
            if len(self.held) > size or self.ended:
                line, self.held = self.held[:size], self.held[size:]
                return line
            more = self.stream.read(RECORD_BYTES_MAX)
            self.ended = not more
            self.held += more

    def row_end(self) -> int:
        """Where a `;` follows a quote and is itself followed by a quote, a line end or nothing; -1 when nowhere."""
        at = self.held.find(b'";')
        while at >= 0:
            behind = self.held[at + 2 : at + 3]
            if behind in (b'"', b"\r", b"\n") or (not behind and self.ended):
                return at + 1
            at = self.held.find(b'";', at + 1)
        return -1


class FreeswitchCsv:
    """Reads the files of one FreeSWITCH, written by one template."""

    def __init__(self, profile: SourceProfile) -> None:
        table = profile.family_table()
        self.template = read_template(table)
        settings = read_settings(profile, table, "destination_number")
        self.legs = table.choice("legs", ("a", "b", "ab"), "a")
        table.done()
        self.profile = profile
        self.places = {name: place for place, name in enumerate(self.template.columns) if name}
        self.calls = Calls(profile, settings, begins_with_answer=not self.has_moment("start"))
        self.check_columns(settings)
        # A template may leave out the cause. Then what is known is whether there was an answer and how long it lasted.
        self.constants = {} if "hangup_cause" in self.places else {"hangup_cause": "NONE"}

    def has_moment(self, name: str) -> bool:
        return any(name + form in self.places for form in MOMENTS)

    def check_columns(self, settings: Settings) -> None:
        profile = self.profile
        wanted = [("uuid", "the record id"), (settings.caller, "caller"), (settings.called, "called")]
        wanted.append((settings.called_in, "called_in"))
        if not profile.tenants.every:
            wanted.append((profile.tenants.column or "accountcode", "[tenants]"))
        for key, column in (("column", profile.users.column), ("column_in", profile.users.column_in)):
            if column:
                wanted.append((column, f"[users] {key}"))
        if profile.call_types.by == "column":
            wanted.append((profile.call_types.column, "[call_types] column"))
        lacking = [f"{name} (for {why})" for name, why in wanted if name not in self.places]
        if not self.places.keys() & {"billusec", "billmsec", "billsec"}:
            lacking.append("billsec")
        lacking += [name + "_stamp" for name in ("answer", "end") if not self.has_moment(name)]
        if self.legs == "ab" and not self.places.keys() & {*ORIGINATORS, "direction"}:
            lacking.append("originator or direction (for legs = 'ab')")
        if lacking:
            raise profile.refuse("[freeswitch] template", "one without " + ", ".join(lacking), "one that has them")
        if settings.billed_leg not in self.legs:
            raise profile.refuse(
                "[freeswitch] billed_leg", repr(settings.billed_leg), f"a leg that the file holds: legs = {self.legs!r}"
            )
        stamped = any(
            name + "_stamp" in self.places and not self.places.keys() & {name + "_uepoch", name + "_epoch"}
            for name in ("start", "answer", "end")
        )
        if stamped and not profile.zone:
            raise profile.refuse(
                "zone", "nothing", "'UTC' or an IANA zone: a *_stamp is wall-clock time without a zone"
            )

    def read(self, stream: BinaryIO) -> Iterator[SourceRecord]:
        lines: BinaryIO = Unbroken(stream) if self.template.ends_itself else stream  # type: ignore[assignment]
        for row in TemplateRows(lines, self.template):
            if row.values is None:
                yield SourceRecord(row.raw, None, row.reason, row.fault)
            else:
                yield self.record(row.raw, row.values)

    def record(self, raw: bytes, values: list[str]) -> SourceRecord:
        places, constants = self.places, self.constants

        def get(name: str) -> str:
            place = places.get(name)
            if place is None:
                return constants.get(name, "")
            text = values[place]
            return text if text.isascii() else utf8(name, text)

        try:
            uuid = get("uuid")
            if not uuid:
                raise Unusable("missing_field", "uuid: is empty")
            leg = Leg(self.profile.switch, (uuid,), called_now=self.is_called(get("direction"), get), called_once=False)
        except Unusable as fault:
            return SourceRecord(raw, None, fault.reason, fault.detail)
        return self.calls.record(raw, get, leg)

    def is_called(self, direction: str, get: Getter) -> bool:
        """A B leg, where the file holds both kinds: it has an originator; or, seen from the switch, it goes out."""
        if self.legs != "ab":
            return self.legs == "b"
        if self.places.keys() & set(ORIGINATORS):
            return any(map(get, ORIGINATORS))
        if direction not in ("inbound", "outbound"):
            raise Unusable("bad_field", f"direction: {shown(direction)}; expected inbound or outbound")
        return direction == "outbound"
