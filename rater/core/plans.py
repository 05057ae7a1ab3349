"""Calling plans: minutes a licence gives in a month, by plan, country and date; what is domestic; what is Zone A.

Minutes are whole, instants UTC milliseconds. The table is data (`rates/plans/calling-plans.csv`); a door reads the file
and hands over its text. Nothing here knows how many licences a tenant has, or how many minutes it has used.
"""

import csv
import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from rater.core.compiled import kernel
from rater.core.instants import parse_instant
from rater.core.numbering import contains, country_code, country_text

PLANS = (
    "MCOPSTN1",
    "MCOPSTN2",
    "MCOPSTN5",
    "MCOPSTN6",
    "MCOPSTN8",
    "MCOPSTN9",
    "PAYG",
    "MCOPSTNC",
    "MCOMEETADD",
    "MCOMEETACPEA",
    "MCOMEETADD_DIALOUT_US",
)
MCOPSTN1 = 0  # domestic
MCOPSTN2 = 1  # domestic or international, whichever counter is reached first
MCOPSTN5 = 2  # domestic, 120
MCOPSTN6 = 3  # domestic, 240
MCOPSTN8 = 4  # domestic, 120 of each user's own
MCOPSTN9 = 5  # international
PAYG = 6  # pay as you go: no minutes, every call from credits
MCOPSTNC = 7  # Communications Credits
MCOMEETADD = 8  # Audio Conferencing
MCOMEETACPEA = 9  # Audio Conferencing by the minute
MCOMEETADD_DIALOUT_US = 10  # dial-out to the United States and Canada

CALLING_PLANS = (MCOPSTN1, MCOPSTN2, MCOPSTN5, MCOPSTN6, MCOPSTN8, MCOPSTN9)  # in the order in which they are tried
WITH_ALLOTMENTS = (*CALLING_PLANS, PAYG)

US = country_code("US")
CA = country_code("CA")
PR = country_code("PR")

# Where a conference may dial out on the Audio Conferencing subscription, and the minutes each licence adds to the pool.
ZONE_A_NAMES = (
    "AT AU BE BG BR CA CH CN CZ DE DK EE ES FI FR GB GR HK HR HU IE IN IT JP "
    "KR LU MX MY NL NO NZ PL PR PT RO RU SE SG SI SK TH TW US ZA"
)
ZONE_A = tuple(ZONE_A_NAMES.split())
ZONE_A_MINUTES = 60
ZONE_A_COUNTRIES = np.array(sorted(map(country_code, ZONE_A)), np.int16)

ALWAYS_MS = -(1 << 62)
MINUTES_MAX = 1_000_000
ALLOTMENT = np.dtype(
    [
        ("valid_from_ms", np.int64),
        ("domestic", np.int32),
        ("international", np.int32),
        ("plan", np.int16),
        ("country", np.int16),
    ],
    align=True,
)
HEADER = ["plan", "country", "domestic_minutes", "international_minutes", "valid_from"]


class PlansRefused(ValueError):
    """The table of allotments is wrong: where, what was found and what was expected."""

    def __init__(self, file: str, line: int, found: str, expected: str) -> None:
        super().__init__(f"{file} line {line}: {found}; expected {expected}")
        self.file, self.line, self.found, self.expected = file, line, found, expected


# --- kernels ---------------------------------------------------------------------------------------------------------


@kernel
def pool_country(country: Any) -> Any:
    """The country a pool is kept under: users in Puerto Rico share the pool of the United States."""
    return US if country == PR else country


@kernel
def is_domestic(licence_country: Any, destination_country: Any) -> Any:
    """Does a licence of this country count a call to that one as domestic?

    GB GB -> True      US PR -> True      US CA -> True      CA PR -> True      GB JE -> False      GB unknown -> False
    """
    if destination_country == 0:
        return False
    here, there = pool_country(licence_country), pool_country(destination_country)
    return here == there or (here == US and there == CA) or (here == CA and there == US)


@kernel
def in_zone_a(country: Any) -> Any:
    return contains(ZONE_A_COUNTRIES, country)


@kernel
def allotment(plans: Any, plan: Any, country: Any, at_ms: Any) -> Any:
    """The row in force for this plan and country: the latest that is valid from `at_ms` or before; -1 when none is.

    Rows are sorted by plan, country and date, so this is one binary search.
    """
    low, high = 0, len(plans)
    while low < high:
        middle = (low + high) // 2
        row = plans[middle]
        if row.plan != plan:
            is_before = row.plan < plan
        elif row.country != country:
            is_before = row.country < country
        else:
            is_before = row.valid_from_ms <= at_ms
        if is_before:
            low = middle + 1
        else:
            high = middle
    if low > 0 and plans[low - 1].plan == plan and plans[low - 1].country == country:
        return low - 1
    return -1


# --- the table -------------------------------------------------------------------------------------------------------


def parse_plans(text: str, name: str) -> Any:
    """The rows of a plans file, a recarray of `ALLOTMENT` sorted by plan, country and date; `name` is for messages.

    A cell of minutes left empty is 0, a date left empty is "always". `PlansRefused` when anything is not as it must be.
    """
    lines: dict[tuple[int, int, int], int] = {}
    minutes: dict[tuple[int, int, int], tuple[int, int]] = {}
    for line, cells in table_rows(text, name):
        key, value = parsed_row(cells, name, line)
        if key in lines:
            raise PlansRefused(
                name,
                line,
                f"{cells[0]} {cells[1]} again from the same date",
                f"one row; the first is line {lines[key]}",
            )
        lines[key], minutes[key] = line, value
    check_shared_pool(lines, minutes, name)
    rows = [
        (valid_from, *minutes[plan, country, valid_from], plan, country) for plan, country, valid_from in sorted(lines)
    ]
    return np.array(rows, ALLOTMENT).view(np.recarray)


def table_rows(text: str, name: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, [])
        if [cell.strip() for cell in header] != HEADER:
            raise PlansRefused(name, 1, f"header {','.join(header)!r}", f"{','.join(HEADER)!r}")
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise PlansRefused(name, reader.line_num, str(error), "a comma-separated row") from None


def parsed_row(cells: list[str], name: str, line: int) -> tuple[tuple[int, int, int], tuple[int, int]]:
    if len(cells) != len(HEADER):
        raise PlansRefused(name, line, f"{len(cells)} cells", f"{len(HEADER)}: {','.join(HEADER)}")
    plan, country, domestic, international, valid_from = cells
    if plan not in PLANS or PLANS.index(plan) not in WITH_ALLOTMENTS:
        raise PlansRefused(
            name, line, f"plan {plan!r}", f"one of {' '.join(PLANS[known] for known in WITH_ALLOTMENTS)}"
        )
    try:
        code = country_code(country)
    except ValueError:
        code = 0
    if code == 0:
        raise PlansRefused(name, line, f"country {country!r}", "two capital letters, for example GB")
    key = (PLANS.index(plan), code, parsed_date(valid_from, name, line))
    return key, (parsed_minutes(domestic, HEADER[2], name, line), parsed_minutes(international, HEADER[3], name, line))


def parsed_minutes(cell: str, column: str, name: str, line: int) -> int:
    if cell == "":
        return 0
    if not (cell.isascii() and cell.isdigit()) or len(cell) > 9 or int(cell) > MINUTES_MAX:
        raise PlansRefused(name, line, f"{column} {cell!r}", f"whole minutes from 0 to {MINUTES_MAX}, for example 1200")
    return int(cell)


def parsed_date(cell: str, name: str, line: int) -> int:
    """A day means its first UTC instant; the empty cell means always."""
    if cell == "":
        return ALWAYS_MS
    instant = parse_instant(f"{cell}T00:00:00Z" if len(cell) == len("2023-01-25") else cell)
    if instant is None:
        raise PlansRefused(name, line, f"valid_from {cell!r}", "a day or an instant in UTC, for example 2023-01-25")
    return instant


def check_shared_pool(
    lines: dict[tuple[int, int, int], int], minutes: dict[tuple[int, int, int], tuple[int, int]], name: str
) -> None:
    """Puerto Rico draws on the pool of the United States, so its licences must bring the same minutes."""
    for (plan, country, valid_from), value in minutes.items():
        if country == PR and value != minutes.get((plan, US, valid_from)):
            raise PlansRefused(
                name,
                lines[plan, country, valid_from],
                f"{PLANS[plan]} {country_text(PR)} gives {value[0]} and {value[1]} minutes",
                "the same as the US row of that plan and date: they share one pool",
            )
