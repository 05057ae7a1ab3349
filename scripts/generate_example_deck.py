"""Write `rates/example-usd`: a whole rate deck with invented prices, for the demo, the tests and the first minute.

The prefixes, countries and classes are real (this project's numbering table, place names from `phonenumbers`); every
price comes from a hash of the text of its prefix or country, so the same library version gives the same bytes.

    python scripts/generate_example_deck.py            writes the deck
    python scripts/generate_example_deck.py --check    exit 1 if the deck on disk is another one
"""

import argparse
import csv
import hashlib
import io
import sys
from pathlib import Path
from typing import NamedTuple

from phonenumbers import COUNTRY_CODE_TO_REGION_CODE
from phonenumbers.geodata import GEOCODE_DATA
from phonenumbers.geodata.locale import LOCALE_DATA

from rater.core.numbering import CLASSES, class_of_digits, country_of_digits, country_text, groups_of
from rater.core.numbering_table import CLASSES as CLASS_TABLE
from rater.core.numbering_table import COUNTRIES as COUNTRY_TABLE
from rater.core.plans import ZONE_A

DECK = Path(__file__).resolve().parent.parent / "rates" / "example-usd"
OUTBOUND_HEADER = (
    "prefix,destination,country,class,rate_per_minute,"
    "connection_fee,minimum_charge,initial_s,step_s,valid_from,valid_to"
)
INBOUND_HEADER = "number_country,number_type,origin_country,rate_per_minute,connection_fee"

# A place gets a row of its own down to three digits of its national number: area codes, not exchanges.
PLACE_NATIONAL_DIGITS = 3
# When the prices of one row in forty changed: the old row ends at the instant at which the new one begins.
PRICE_CHANGE = "2026-07-01T00:00:00Z"

# Prices are whole ten-thousandths of a dollar until they are written.
UNIT = 10_000
KNOWN_BASE = {"US": 205, "CA": 205, "PR": 240, "GB": 190, "DE": 165, "FR": 170, "MX": 310, "IN": 380, "CN": 240}
REMOTE_NAMES = "AC CK FK IO KI KM MH NF NR NU PM SB SH ST TA TK TL TO TV VU WF WS"
REMOTE = set(REMOTE_NAMES.split())
FAR_IN_THE_STATES = {"1907": 520, "1808": 340}
# Names that the library lacks, and one without the commas that would need quotes.
NAMES = {"AC": "Ascension Island", "BQ": "Caribbean Netherlands", "TA": "Tristan da Cunha", "XK": "Kosovo"}
WORLD = {  # prefix -> destination, price, connection fee
    "800": ("International freephone", 0, 0),
    "808": ("International shared cost", 3_000, 0),
    "870": ("Inmarsat", 59_000, 0),
    "878": ("Universal personal numbers", 3_500, 0),
    "881": ("Satellite networks", 64_500, 0),
    "882": ("International networks", 48_000, 0),
    "883": ("International networks", 9_500, 0),
    "888": ("Humanitarian relief", 4_500, 0),
    "979": ("International premium rate", 29_500, 10_000),
}
SHARED = "North America"  # +1 numbers that belong to the whole plan
CLASS_NAMES = {"mobile": "Mobile", "toll_free": "Toll-free", "premium": "Premium rate", "special": "Special services"}
INCREMENTS = [("", "")] * 4 + [("60", "1"), ("30", "6"), ("6", "6"), ("1", "1")]
DEFAULT_INCREMENTS = {"US", "CA", "PR", "GB"}

INBOUND_NAMES = "AE AR BH CL CO CR CY DO EG GE IL IS KE LT LV MT NG PA PE PH SA TR UY VN"
INBOUND_COUNTRIES = sorted({*ZONE_A, *INBOUND_NAMES.split()})
ORIGINS_OF_NORTH_AMERICA = {"US": ("CA", "PR", "MX", "GB"), "CA": ("US", "PR", "MX", "GB")}

DECK_TOML = """\
# The deck that comes with rater. THE PRICES ARE INVENTED: nobody sells at them, and no bill should be made from them.
# Prefixes, countries, classes and place names are facts; scripts/generate_example_deck.py writes all three files.
name = "example-usd"
currency = "USD"
direction = "outbound"
# A price above this is a lost decimal point: the deck is refused.
price_ceiling_per_minute = "20"
# Increments where a row names none: every started minute counts whole.
initial_s = 60
step_s = 60
"""


class Row(NamedTuple):
    prefix: str
    destination: str
    country: str
    number_class: str
    price: int
    fee: int = 0
    minimum: int = 0
    initial_s: str = ""
    step_s: str = ""
    valid_from: str = ""
    valid_to: str = ""


def pick(text: str, count: int) -> int:
    """0 to count - 1, always the same for the same text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % count


def money(ten_thousandths: int) -> str:
    """205 -> 0.0205; nothing -> an empty cell."""
    if ten_thousandths == 0:
        return ""
    return f"{ten_thousandths // UNIT}.{ten_thousandths % UNIT:04d}".rstrip("0").rstrip(".")


# --- names -----------------------------------------------------------------------------------------------------------


def country_name(country: str) -> str:
    if country in NAMES:
        return NAMES[country]
    names = LOCALE_DATA[country]
    name = str(names["en"])
    return str(names[name[1:]]) if name.startswith("*") else name


def place_name(prefix: str) -> str:
    """`New York` of 1212, which the library calls `New York, NY`; empty where it knows no place."""
    return str(GEOCODE_DATA.get(prefix, {}).get("en", "")).split(",")[0].strip()


def destination(country: str, number_class: str, place: str) -> str:
    name = country_name(country) if country else SHARED
    detail = place if number_class == "geographic" else CLASS_NAMES[number_class]
    return f"{name} - {detail}" if detail and detail != name else name


# --- prices ----------------------------------------------------------------------------------------------------------


def base_price(country: str) -> int:
    """A landline of this country, per minute."""
    if country in KNOWN_BASE:
        return KNOWN_BASE[country]
    if country in ZONE_A:
        return 120 + 5 * pick(f"base {country}", 37)
    if country in REMOTE:
        return 9_000 + 100 * pick(f"base {country}", 71)
    return 450 + 25 * pick(f"base {country}", 123)


def price(prefix: str, country: str, number_class: str) -> int:
    """Cheaper in a town, dearer to a mobile, dear on premium numbers: each by what the prefix's hash says."""
    base = base_price(country) if country else KNOWN_BASE["US"]
    if number_class == "toll_free":
        return 0
    if number_class == "mobile":
        return base * (130 + 10 * pick(f"mobile {country}", 6) + 5 * pick(f"mobile {prefix}", 5)) // 100
    if number_class == "premium":
        return min(max(2_500, base * (20 + pick(f"premium {prefix}", 22))), 30_000)
    if number_class == "special":
        return base * (200 + 50 * pick(f"special {prefix}", 7)) // 100
    if country == "US":
        return FAR_IN_THE_STATES.get(prefix, base)
    return base * (85 + pick(f"town {prefix}", 16)) // 100 if place_name(prefix) else base


def fees(prefix: str, country: str, number_class: str) -> tuple[int, int]:
    """(connection fee, minimum charge)."""
    if number_class == "premium":
        return 2_500 * (1 + pick(f"fee {prefix}", 6)), 0
    if number_class == "mobile" and pick(f"fee {country}", 6) == 0:
        return 200, 0
    if number_class in ("geographic", "mobile") and country not in ZONE_A and pick(f"minimum {country}", 8) == 0:
        return 0, 2_000 if country in REMOTE else 500
    return 0, 0


def increments(country: str, number_class: str) -> tuple[str, str]:
    if number_class == "premium" or country == "MX":
        return "60", "60"
    if number_class == "toll_free" or not country or country in DEFAULT_INCREMENTS:
        return "", ""
    return INCREMENTS[pick(f"increments {country}", len(INCREMENTS))]


# --- the two files ---------------------------------------------------------------------------------------------------


def calling_code(prefix: str) -> str:
    return next(prefix[:digits] for digits in (1, 2, 3) if int(prefix[:digits]) in COUNTRY_CODE_TO_REGION_CODE)


def prefixes() -> list[str]:
    """Every prefix where the country or the class changes, and every place that has an area code."""
    found = {prefix for group in groups_of(COUNTRY_TABLE).values() for prefix in group}
    for number_class, group in groups_of(CLASS_TABLE).items():
        found |= set(group) if number_class != "geographic" else set()
    for prefix in GEOCODE_DATA:
        is_short = len(prefix) - len(calling_code(prefix)) <= PLACE_NATIONAL_DIGITS
        if is_short and place_name(prefix) and class_of_digits(prefix) in (-1, CLASSES.index("geographic")):
            found.add(prefix)
    return sorted(found - set(WORLD))


def class_name(prefix: str, country: str) -> str:
    known = class_of_digits(prefix)
    if known >= 0:
        return CLASSES[known]
    return "geographic" if country else "special"


def rows_of(prefix: str) -> list[Row]:
    """One row, or two where the price changed."""
    country = country_text(country_of_digits(prefix))
    number_class = class_name(prefix, country)
    per_minute = price(prefix, country, number_class)
    row = Row(
        prefix,
        destination(country, number_class, place_name(prefix)),
        country,
        number_class,
        per_minute,
        *fees(prefix, country, number_class),
        *increments(country, number_class),
    )
    if country in ("", "US") or number_class not in ("geographic", "mobile") or pick(f"change {prefix}", 40):
        return [row]
    changed = per_minute * (88 + pick(f"changed {prefix}", 10) + 14 * pick(f"direction {prefix}", 2)) // 100
    return [row._replace(price=changed, valid_to=PRICE_CHANGE), row._replace(valid_from=PRICE_CHANGE)]


def outbound_text() -> str:
    rows = [row for prefix in prefixes() for row in rows_of(prefix)]
    for prefix, (name, per_minute, fee) in WORLD.items():
        rows.append(Row(prefix, name, "", CLASSES[class_of_digits(prefix)], per_minute, fee))
    rows.sort(key=lambda row: (row.prefix, row.valid_from))
    cells = [
        [*row[:4], money(row.price) or "0", money(row.fee), money(row.minimum), *row[7:]]
        for row in rows
    ]  # fmt: skip
    return csv_text(OUTBOUND_HEADER, cells)


def inbound_text() -> str:
    """Toll-free numbers, paid by their owner, and service numbers, paid where a conference is paid by the minute."""
    cells = []
    for country in INBOUND_COUNTRIES:
        base = base_price(country)
        toll_free = base * 2 + 60
        local = [country, "toll_free", country, money(toll_free), ""]
        anywhere = [country, "toll_free", "*", money(toll_free * 3), money(100) if country not in ZONE_A else ""]
        neighbours = [
            [country, "toll_free", origin, money(toll_free + base_price(origin)), ""]
            for origin in ORIGINS_OF_NORTH_AMERICA.get(country, ())
        ]
        service = [[country, "service", country, money(base // 2 + 20), ""], [country, "service", "*", money(base), ""]]
        cells += [anywhere, local, *neighbours, *service]
    return csv_text(INBOUND_HEADER, sorted(cells, key=lambda row: (row[0], row[1], row[2])))


def csv_text(header: str, rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return f"{header}\n{text.getvalue()}"


def deck_files() -> dict[str, str]:
    return {"deck.toml": DECK_TOML, "outbound.csv": outbound_text(), "inbound.csv": inbound_text()}


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the example deck; its prices are invented.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file would change")
    files = deck_files()
    if parser.parse_args().check:
        changed = [name for name, text in files.items() if (DECK / name).read_text("utf-8") != text]
        print(f"{DECK.name}: {'differs: ' + ' '.join(changed) if changed else 'up to date'}")
        return 1 if changed else 0
    DECK.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (DECK / name).write_text(text, "utf-8", newline="")
        print(f"{name}: {len(text.splitlines())} lines, {len(text.encode())} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
