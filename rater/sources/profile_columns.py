"""A sample by column names, whichever family wrote it: the names are those that a profile of the source uses."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rater.sources.asterisk_layouts import LAYOUTS
from rater.sources.freeswitch_csv import TEMPLATES
from rater.sources.profile_detect import COLUMN, Found, Sample
from rater.sources.profile_shapes import Frame, frames, looks_like_header, split


class Columns:
    """The sample by column names, whichever family it is of; a column that it does not have is empty."""

    def __init__(self, names: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
        self.names, self.rows = names, rows

    def values(self, name: str) -> list[str]:
        return [row.get(name, "") for row in self.rows]


def columns_of(found: Found, sample: Sample) -> tuple[Columns, Frame | None]:
    """The sample's columns by the names that a profile of this source uses."""
    if sample.objects:
        rows = [dict(leaves(row)) for row in sample.objects]
        names = list(dict.fromkeys(name for row in rows for name in row))
        return Columns(names, rows), None
    if found.source in ("3gpp-ber", "acme", "sonus"):
        return Columns([], []), None
    if found.source == "freeswitch-csv" and found.option in TEMPLATES:
        names = COLUMN.findall(TEMPLATES[found.option].rpartition("(")[2])
        return named(names, [split(line.rstrip(";"), ",") or [] for line in sample.lines]), None
    if found.source == "asterisk-csv" and found.option in LAYOUTS:
        return named(LAYOUTS[found.option], [split(line, ",") or [] for line in sample.lines]), None
    all_frames = frames(sample.lines) or frames(sample.lines[1:])
    if not all_frames:
        return Columns([], []), None
    frame = all_frames[0]
    if looks_like_header(frame.rows[0], frame.rows[1:]):
        return named([value.strip() for value in frame.rows[0]], frame.rows[1:]), frame
    return named([f"c{number}" for number in range(1, frame.width + 1)], frame.rows), frame


def named(names: Sequence[str], rows: Sequence[Sequence[str]]) -> Columns:
    return Columns(names, [dict(zip(names, row, strict=True)) for row in rows if len(row) == len(names)])


def leaves(value: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Plain values of an object by name; FreeSWITCH's variables, OpenSIPS's parameters and Nchf's body by theirs."""
    for name, item in value.items():
        if isinstance(item, dict) and name in ("variables", "params", "body"):
            yield from leaves(item)
        elif name == "callflow" and isinstance(item, list) and item and isinstance(item[0], dict):
            yield from leaves(item[0].get("caller_profile") or {})
        elif isinstance(item, str | int | float) and not isinstance(item, bool):
            yield name.removeprefix("variable_"), str(item)
