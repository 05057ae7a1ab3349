"""What columns of a sample look like: delimiter, dates, numbers that people dial. Looks, counts and proves; decides nothing.

What two readings fit stays two readings: 03/04/2026 is a date in either order, and only a 13 settles it.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rater.sources.numbers import SEPARATORS, is_digits
from rater.sources.record import Unusable
from rater.sources.stamps import iso_text, read_pattern
from rater.sources.times import fields_of

DELIMITERS = (",", ";", "\t", "|", ":")
PATTERNS = (
    "%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S", "%d/%m/%Y %I:%M:%S %p", "%m/%d/%Y %I:%M:%S %p", "%d.%m.%Y %H:%M:%S",
    "%d-%m-%Y %H:%M:%S", "%m-%d-%Y %H:%M:%S", "%Y/%m/%d %H:%M:%S", "%Y%m%d%H%M%S", "%d-%b-%Y %H:%M:%S", "%Y-%m-%d %H:%M",
    "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", "%d/%m/%y %H:%M:%S", "%m/%d/%y %H:%M:%S",
)  # fmt: skip
PACKED = "%Y%m%d%H%M%S"
ROWS_MAX = 2_000
SHOWN_MAX = 12
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_ ./-]{0,60}")


class Frame(NamedTuple):
    """How the rows of a text split: by which character, into how many values, and the rows that do."""

    delimiter: str
    width: int
    rows: list[list[str]]
    others: int


def frames(lines: Sequence[str]) -> list[Frame]:
    """Every delimiter by which nine rows in ten have one width of more than two values; the widest first."""
    found = []
    for delimiter in DELIMITERS:
        rows = [values for line in lines if (values := split(line, delimiter)) is not None]
        widths = Counter(map(len, rows))
        if not widths:
            continue
        width, count = widths.most_common(1)[0]
        if width > 2 and count * 10 >= len(lines) * 9:
            found.append(Frame(delimiter, width, [row for row in rows if len(row) == width], len(lines) - count))
    return sorted(found, key=lambda frame: -frame.width)


def split(line: str, delimiter: str) -> list[str] | None:
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True), None)
    except csv.Error:
        return None


def looks_like_header(row: Sequence[str], below: Sequence[Sequence[str]]) -> bool:
    """Names, each another, over rows that hold figures: a row of names has none."""
    names = [value.strip() for value in row]
    has_figures = any(any(character.isdigit() for character in value) for other in below[:5] for value in other)
    return len(set(names)) == len(names) and all(NAME.fullmatch(name) for name in names) and bool(below) and has_figures


def time_formats(values: Iterable[str]) -> list[str]:
    """Every `time_format` that reads all of these values; empty when they are no times."""
    texts = [text.strip() for text in values if text.strip() not in ("", "0")]
    if not texts:
        return []
    found = [
        name
        for name, digits in (("epoch", (10,)), ("epoch_ms", (13,)), ("epoch_us", (16,)))
        if all_epochs(texts, digits)
    ]
    if all(is_iso(text) for text in texts):
        found.append("iso")
    return found + [pattern for pattern in PATTERNS if all(fits(pattern, text) for text in texts)]


def all_epochs(texts: Sequence[str], digits: tuple[int, ...]) -> bool:
    return all(
        is_digits(text.partition(".")[0]) and len(text.partition(".")[0]) in digits and text[0] in "12"
        for text in texts
    )


def is_iso(text: str) -> bool:
    try:
        fields_of("x", text)
    except Unusable:
        return False
    return True


def fits(pattern: str, text: str) -> bool:
    known = read_pattern(pattern)
    if known is None or (pattern == PACKED and len(text) != len("20260115133000")):
        return False
    try:
        fields_of("x", iso_text(known, "x", text))
    except (Unusable, ValueError):
        return False
    return True


def has_zone(values: Iterable[str]) -> bool:
    texts = [text.strip() for text in values if text.strip()]
    return bool(texts) and all(re.search(r"(Z|[+-][0-9]{2}:?[0-9]{2})$", text[10:]) for text in texts)


def number_shapes(values: Iterable[str]) -> dict[str, int]:
    """How many numbers begin how: `+`, `00`, `011`, `0`, `9 and more`, bare digits, or are short extensions."""
    found: Counter[str] = Counter()
    for value in values:
        text = value.translate(SEPARATORS)
        if text.startswith("+") and is_digits(text[1:]):
            found["+"] += 1
        elif is_digits(text):
            found[shape_of(text)] += 1
    return dict(found)


def shape_of(digits: str) -> str:
    if len(digits) <= 5:
        return "short"
    for prefix in ("9011", "900", "90", "011", "00"):
        if digits.startswith(prefix) and len(digits) > 8:
            return prefix
    return "0" if digits.startswith("0") else "bare"


def looks_like_numbers(values: Sequence[str]) -> bool:
    """Most of the values could be dialled, and at least one is long enough for a number with a country."""
    texts = [value.translate(SEPARATORS).removeprefix("+") for value in values if value.strip()]
    dialled = [text for text in texts if is_digits(text) and 2 <= len(text) <= 18]
    return bool(texts) and len(dialled) * 10 >= len(texts) * 8 and any(8 <= len(text) <= 18 for text in dialled)


def counted(values: Iterable[str]) -> list[tuple[str, int]]:
    """The words of a column and how often each stands there, the commonest first; a few."""
    return sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))[:SHOWN_MAX]
