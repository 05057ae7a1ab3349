"""A profile for a sample: what the sample proves is written, what it does not is a question above a line to complete.

A question begins with `#?`; the line below it is the answer to be completed, commented out. Until all are answered the
profile is refused, which is meant: a profile that was guessed bills the wrong people without a word.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rater.sources.profile_columns import Columns
from rater.sources.profile_detect import Found, Sample
from rater.sources.profile_shapes import (
    Frame,
    counted,
    has_zone,
    looks_like_numbers,
    number_shapes,
    split,
    time_formats,
)
from rater.sources.record import shown

QUESTION = "#? "
BY = {
    "asterisk": ("dcontext", "trunks", "numbers"),
    "freeswitch": ("column", "numbers"),
    "3gpp": ("column", "numbers"),
}
NO_ZONE = (
    "graph-pstn",
    "graph-direct-routing",
    "freeswitch-json",
    "freeswitch-xml",
    "freeswitch-event",
    "3gpp-json",
    "3gpp-ber",
    "cucm",
)


@dataclass(slots=True)
class Draft:
    """The lines of the profile, top and tables, and how many questions are in them."""

    top: list[str] = field(default_factory=list)
    tables: dict[str, list[str]] = field(default_factory=dict)
    questions: list[dict[str, str]] = field(default_factory=list)

    def table(self, name: str) -> list[str]:
        return self.tables.setdefault(name, [])

    def ask(self, table: str, question: str, *answers: str) -> None:
        """A question, and the line that answers it, to be completed; several are alternatives."""
        lines = self.table(table) if table else self.top
        lines.append(QUESTION + question)
        lines.extend("# " + answer for answer in answers)
        self.questions.append({"table": table, "question": question, "answer": answers[0] if answers else ""})

    def text(self) -> str:
        parts = ["\n".join(self.top)]
        parts += ["\n".join([f"[{name}]", *lines]) for name, lines in self.tables.items()]
        return "\n\n".join(parts) + "\n"


def propose(name: str, found: Found, sample: Sample, columns: Columns, frame: Frame | None) -> Draft:
    draft = Draft()
    family = found.source.partition("-")[0]
    draft.top += [
        f'source = "{found.source}"  # {found.why}',
        f'switch = "{name}"  # part of every record id: never change it',
    ]
    ask_zone(draft, found, columns)
    if family == "graph":
        draft.ask("", "Whose export is this? One tenant.", 'tenant = ""')
        draft.tables["graph"] = [
            'masked_callee = "reject"  # or "cut": rate a masked number by the digits before the mask'
        ]
        return draft
    ask_tenant(draft, columns, TENANT_COLUMNS.get(family, ""))
    ask_user(draft, columns, found.source)
    ask_numbers(draft, columns, found.source)
    ask_direction(draft, columns, family, found.source)
    OPTIONS.get(found.source, lambda *_: None)(draft, found, sample, columns, frame)
    return draft


TENANT_COLUMNS = {"asterisk": "accountcode", "freeswitch": "accountcode", "kamailio": "account", "opensips": "account", "acme": "ingress_realm",
                  "sonus": "provider", "3gpp": "tenantIdentifier"}  # fmt: skip


def ask_zone(draft: Draft, found: Found, columns: Columns) -> None:
    if found.source in NO_ZONE:
        return
    times = [name for name in columns.names if time_formats(columns.values(name))]
    zoned = [
        name
        for name in times
        if has_zone(columns.values(name)) or time_formats(columns.values(name))[0].startswith("epoch")
    ]
    if (found.source != "asterisk-csv" and times and zoned == times) or found.source in (
        "acme",
        "kamailio",
        "opensips",
    ):
        draft.top.append("# no zone: the stamps are epochs or carry theirs; one that does not would be rejected")
        return
    draft.ask(
        "",
        "Which zone does the switch's clock show? Its stamps carry none.",
        'zone = ""  # "UTC", "Europe/London", ...',
    )


def ask_tenant(draft: Draft, columns: Columns, column: str) -> None:
    draft.ask("", "Whose calls are these? One tenant for all, or the table [tenants].", 'tenant = ""')
    lines = [f'# column = "{column or "?"}"', "# same = true  # the code itself is the tenant; or [tenants.map]"]
    words = (
        [f"{shown(value)} ({count} times)" for value, count in counted(columns.values(column))]
        if column in columns.names
        else []
    )
    if words:
        lines.insert(0, f"# {column} holds: {', '.join(words)}")
    draft.top += ["# [tenants]  # instead of tenant", *lines]


def ask_user(draft: Draft, columns: Columns, source: str) -> None:
    names = [name for name in columns.names if name and any(columns.values(name))]
    default = {
        "asterisk-csv": "channel-peer",
        "asterisk-json": "channel-peer",
        "3gpp-ber": "served",
        "3gpp-json": "subscriberIdentifier",
    }.get(source, "")
    draft.ask("users", "Which column names the user who is charged?", f'column = "{default}"  # {listed(names)}')
    draft.table("users").append('# column_in = ""  # of an inbound call, when it is another one')


def ask_numbers(draft: Draft, columns: Columns, source: str) -> None:
    numbers = [
        name
        for name in columns.names
        if looks_like_numbers(columns.values(name)) and not time_formats(columns.values(name))
    ]
    lines = draft.table("numbers")
    lines.append(f"# columns that look like numbers: {listed(numbers) or 'none'}")
    shapes: dict[str, int] = {}
    for name in numbers:
        for shape, count in number_shapes(columns.values(name)).items():
            shapes[shape] = shapes.get(shape, 0) + count
    for shape, answers in ANSWERS.items():
        if shapes.get(shape):
            draft.ask("numbers", f"{shapes[shape]} numbers {answers[0]}", *answers[1:])
    if shapes.get("+"):
        lines.append(f"# {shapes['+']} numbers begin with +: they need no rule")
    if source == "3gpp-ber":
        draft.ask(
            "numbers", "Numbers that are not marked international: of which country are they?", 'country_code = ""'
        )


ANSWERS = {
    "9011": ("begin with 9011: is 9 the digit for an outside line, 011 international?", 'access = ["9"]', 'international = ["011"]'),
    "900": ("begin with 900: is 9 the digit for an outside line, 00 international?", 'access = ["9"]', 'international = ["00"]'),
    "90": ("begin with 90: is 9 the digit for an outside line, or are these bare numbers?", 'access = ["9"]'),
    "011": ("begin with 011: is that international?", 'international = ["011"]'),
    "00": ("begin with 00: is that international?", 'international = ["00"]'),
    "0": ("begin with 0: national numbers of which country?", 'country_code = ""', 'national = "0"', "national_digits = [9, 10]"),
    "bare": ("have no prefix at all: full numbers (e164), or national ones of which country?", 'bare = "e164"  # or "national", or "reject"'),
    "short": ("are short: extensions (they are legs), or something that is billed?", "internal_digits_max = 4"),
}  # fmt: skip


def ask_direction(draft: Draft, columns: Columns, family: str, source: str) -> None:
    ways = BY.get(family, ("column", "trunks", "numbers"))
    lines = draft.table("call_types")
    column = {"asterisk": "dcontext", "freeswitch": "context", "sonus": "direction"}.get(family, "")
    if source == "3gpp-ber":
        column = "role"
    draft.ask(
        "call_types", "What says which calls go out and which come in?", f'by = "{ways[0]}"  # or {", ".join(ways[1:])}'
    )
    if ways[0] == "column":
        lines.append(f'# column = "{column}"')
    lines += ['# trunks = [""]  # with by = "trunks"'] if "trunks" in ways else []
    lines += ['# owned = ["+"]  # with by = "numbers": the tenants\' own numbers or their beginnings']
    words = counted(columns.values(column)) if column in columns.names else []
    draft.ask("call_types.map", "What is a call with each of these: user_out, user_in, skip (a leg), ...?",
              *[f"{quoted(value)} = \"\"  # {count} times" for value, count in words if value] or ['"" = ""'])  # fmt: skip


def options_of_asterisk(draft: Draft, found: Found, *_: Any) -> None:
    choose(draft, "asterisk", "layout", found)


def options_of_template(draft: Draft, found: Found, *_: Any) -> None:
    choose(draft, "freeswitch", "template", found)
    draft.ask("freeswitch", "Which legs does cdr_csv.conf write? Rows do not show it.", 'legs = "a"  # or "b", "ab"')


def choose(draft: Draft, table: str, key: str, found: Found) -> None:
    """The one layout that fits; several that fit are a question, and so is none."""
    options = found.option.split("|") if found.option else [""]
    if len(options) == 1 and options[0]:
        draft.table(table).append(f'{key} = "{options[0]}"  # {found.why}')
    else:
        why = f"all of these fit: {', '.join(options)}" if options[0] else "none that is known fits"
        draft.ask(
            table, f"Which {key} is it? {why[0].upper()}{why[1:]}.", *[f'{key} = "{option}"' for option in options]
        )


def options_of_acme(draft: Draft, _found: Found, sample: Sample, *_: Any) -> None:
    widths = {
        len(values)
        for line in sample.lines
        if line.startswith(("2,", '"2"')) and (values := split(line, ",")) is not None
    }
    if widths == {175}:
        draft.ask("acme", "Stop records have 175 columns, as those of C6.4.0; options move columns. Is the map the one of dump_csv_format?",
                  'release = "C6.4.0"')  # fmt: skip
    else:
        draft.ask(
            "acme",
            f"Stop records have {listed(map(str, sorted(widths)))} columns: which release is this? C6.4.0 has 175.",
            'release = "own"',
        )
        draft.tables["acme.stop"] = [
            f"# width = {max(widths, default=0)}",
            "# session_id = 4  # and the other places, from 1",
        ]


def options_of_sip(draft: Draft, found: Found, sample: Sample, *_: Any) -> None:
    kinds = {"cdr" if is_cdr(row) else "transactions" for row in sample.objects}
    cdr = kinds == {"cdr"}
    if len(kinds) == 1:
        draft.table(found.source).append(f'records = "{kinds.pop()}"  # the sample holds nothing else')
    else:
        draft.ask(
            found.source,
            "The sample holds CDRs and transactions: which are billed? The others are legs.",
            'records = "cdr"  # or "transactions"',
        )
    if found.source == "kamailio" and cdr:
        draft.ask(
            "kamailio",
            "Does kamailio.cfg set cdr_start_on_confirmed? Without it the ringing would be billed.",
            "cdr_start_on_confirmed = true",
        )
    names = [
        name
        for row in sample.objects[:1]
        for name in (row.get("params", row) if isinstance(row.get("params", row), dict) else row)
    ]
    callers = ("src_user", "dst_user") if found.source == "kamailio" else ("caller", "callee")
    if not set(callers) <= set(names):
        keys = ("caller", "callee")
        draft.ask(
            found.source,
            f"Which fields hold caller and callee? Found: {listed(names)}",
            *[f'{key} = ""' for key in keys],
        )


def is_cdr(row: Mapping[str, Any]) -> bool:
    return "duration" in row or "ms_duration" in row or row.get("method") == "E_ACC_CDR"


def options_of_nchf(draft: Draft, _found: Found, sample: Sample, *_: Any) -> None:
    paths = sorted(
        {
            path
            for row in sample.objects
            for path in paths_of(row.get("body", row))
            if path.lower().endswith(("id", "identifier", "name"))
        }
    )
    draft.ask("3gpp", f"Which paths together name one session? Found: {listed(paths)}", 'session = [""]')
    draft.ask("3gpp", "Does the first message mark the answer, or the invite?", 'create = "answer"  # or "invite"')


def paths_of(value: Any, before: str = "") -> Iterable[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from paths_of(inner, f"{before}.{name}" if before else name)
    elif before and isinstance(value, str):
        yield before


def options_of_delimited(draft: Draft, _found: Found, sample: Sample, columns: Columns, frame: Frame | None) -> None:
    lines = draft.table("delimited")
    if frame is None:
        draft.ask(
            "delimited",
            "Where do the columns end? No delimiter gives rows of one width.",
            "widths = [10, 16]",
            'columns = ["", ""]',
        )
        draft.ask("delimited.fields", "Which column is which?", *[f'{name} = ""' for name in FIELD_NAMES])
        return
    has_header = list(columns.names) != [f"c{number}" for number in range(1, frame.width + 1)]
    escaped = "\\t" if frame.delimiter == "\t" else frame.delimiter
    lines.append(
        f'delimiter = "{escaped}"  # {len(frame.rows)} of {len(sample.lines)} lines have {frame.width} columns'
    )
    lines.append(
        "header = true" if has_header else "columns = [" + ", ".join(f'"{name}"' for name in columns.names) + "]"
    )
    times = {name: time_formats(columns.values(name)) for name in columns.names}
    times = {name: found for name, found in times.items() if found}
    shapes = sorted(set.intersection(*map(set, times.values()))) if times else []
    told = listed(times)
    if len(shapes) == 1:
        lines.append(f'time_format = "{shapes[0]}"  # reads every value of {told}')
    else:
        why = (
            f"{' and '.join(shapes)} both read every value of {told}"
            if shapes
            else "no shape reads the times of all columns"
        )
        draft.ask(
            "delimited",
            f"In which shape are the times? {why}.",
            *[f'time_format = "{shape}"' for shape in shapes or [""]],
        )
    ask_fields(draft, columns, list(times))
    figures = [name for name in columns.names if name not in times and all_figures(columns.values(name))]
    draft.ask("delimited", f"In which unit are measured times ({listed(figures)})?", 'unit = "s"')


FIELD_NAMES = ("record_id", "caller", "called", "start", "answer", "end", "billable", "disposition")


def ask_fields(draft: Draft, columns: Columns, times: Sequence[str]) -> None:
    numbers = [name for name in columns.names if name not in times and looks_like_numbers(columns.values(name))]
    unique = [
        name
        for name in columns.names
        if len(columns.rows) > 1 and len(set(columns.values(name))) == len(columns.rows) and name not in times
    ]
    figures = [
        name
        for name in columns.names
        if name not in times and name not in numbers and all_figures(columns.values(name))
    ]
    words = [name for name in columns.names if name not in times and name not in numbers and name not in figures]
    ask = draft.ask
    ask(
        "delimited.fields",
        f"Which columns name a record for ever? Different in every row: {listed(unique) or 'none'}",
        'record_id = [""]',
    )
    ask(
        "delimited.fields",
        f"Which are caller and called? Columns that look like numbers: {listed(numbers) or 'none'}",
        'caller = ""',
        'called = ""',
    )
    ask(
        "delimited.fields",
        f"Which are start, answer and end? Columns that are times: {listed(times) or 'none'}",
        'start = ""',
        'answer = ""',
        'end = ""',
    )
    ask(
        "delimited.fields",
        f"Which is the time that is billed? Columns of figures: {listed(figures) or 'none'}",
        'billable = ""',
    )
    ask(
        "delimited.fields",
        f"Which says how the call ended? Columns of words: {listed(words) or 'none'}; or by_billable",
        'disposition = "by_billable"',
    )


def all_figures(values: Sequence[str]) -> bool:
    texts = [text.strip() for text in values if text.strip()]
    return bool(texts) and all(text.replace(".", "", 1).replace(":", "").isdigit() for text in texts)


OPTIONS: Mapping[str, Any] = {
    "asterisk-csv": options_of_asterisk,
    "freeswitch-csv": options_of_template,
    "acme": options_of_acme,
    "kamailio": options_of_sip,
    "opensips": options_of_sip,
    "3gpp-json": options_of_nchf,
    "delimited": options_of_delimited,
}


def listed(names: Iterable[str]) -> str:
    some = list(names)
    return ", ".join(some[:20]) + (f" and {len(some) - 20} more" if len(some) > 20 else "")


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
