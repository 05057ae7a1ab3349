"""Write `rater/core/numbering_table.py`: prefixes to country and class, and emergency numbers, from `phonenumbers`.

The library answers one number in 3 to 300 microseconds and refuses what it does not think valid; a bill needs
an answer in nanoseconds for every number that was really called. So its patterns are read once, here, and the shortest
prefixes that decide are written down. The library is a build-time tool only; its version is part of the table.

    python scripts/generate_numbering.py            writes the table
    python scripts/generate_numbering.py --check    exit 1 if the table on disk is another one
"""

import argparse
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import phonenumbers
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata, PhoneNumberDesc

TABLE = Path(__file__).resolve().parent.parent / "rater" / "core" / "numbering_table.py"

# A prefix of eight digits tells every country apart (Jersey from Guernsey, Saint Martin from Saint Barthélemy).
COUNTRY_DIGITS = 8
# National digits looked at to tell a class: one more would double the table and say little more, so only the numbers
# that cost something else (or nothing) are followed further.
CLASS_NATIONAL_DIGITS = {"geographic": 3, "mobile": 3, "toll_free": 4, "premium": 4, "special": 4}
NO_COUNTRY = "--"
SAYS_NOTHING = ""
DIGITS = "0123456789"

# +1 codes in service that the administrator lists without a country and the library does not describe (report of
# 2026-01-05). In-service codes that the library does not know yet (357 436 457 621 624 679 729 837 861) need no line
# here: they are in the United States, and so is everything under +1 that nobody else claims.
NANPA_DATE = "2026-01-05"
NANPA_WITHOUT_COUNTRY = ("538", "700")
# Personal numbers like 521 and 533, but the administrator books them under the United States, and so does the library.
NANPA_UNITED_STATES = ("526", "527", "528", "529", "532")

CLASS_OF_TYPE = {
    "fixed_line": "geographic",
    "mobile": "mobile",
    "toll_free": "toll_free",
    "premium_rate": "premium",
    "shared_cost": "special",
    "personal_number": "special",
    "pager": "special",
    "uan": "special",
    "voicemail": "special",
    "voip": SAYS_NOTHING,  # some carriers price it as a landline, some do not
}
WITHOUT_A_PLACE = {"toll_free", "premium", "special"}


class Automaton:
    """Several digit patterns read together; each state knows whose pattern it belongs to.

    Every state lies on the way to a match, so the owners of the states reached by some digits are exactly those who
    still have a number that begins with them.
    """

    def __init__(self) -> None:
        self.moves: list[list[tuple[str, int]]] = []  # state -> (digits, next state)
        self.free: list[list[int]] = []  # state -> states reached without a digit
        self.owner: list[str] = []
        self.final: set[int] = set()
        self.starts: list[int] = []

    def state(self, owner: str) -> int:
        self.moves.append([])
        self.free.append([])
        self.owner.append(owner)
        return len(self.owner) - 1

    def add(self, pattern: str, owner: str, open_ended: bool = False) -> None:
        reader = PatternReader(self, pattern, owner)
        start, end = reader.alternatives()
        if reader.at != len(pattern):
            raise ValueError(f"pattern {pattern!r}: {pattern[reader.at :]!r} left over")
        if open_ended:
            self.moves[end].append((DIGITS, end))
        self.final.add(end)
        self.starts.append(start)

    def close(self, states: list[int]) -> frozenset[int]:
        seen = set(states)
        waiting = list(states)
        while waiting:
            for state in self.free[waiting.pop()]:
                if state not in seen:
                    seen.add(state)
                    waiting.append(state)
        return frozenset(state for state in seen if self.moves[state] or state in self.final)

    def start(self) -> frozenset[int]:
        return self.close(self.starts)

    def step(self, states: frozenset[int], digit: str) -> frozenset[int]:
        return self.close([after for state in states for digits, after in self.moves[state] if digit in digits])

    def owners(self, states: frozenset[int]) -> set[str]:
        return {self.owner[state] for state in states}


class PatternReader:
    """Reads what the library's patterns are made of: digits, `\\d`, `[..]`, `(?:..)`, `|`, `?`, `{n}`, `{n,m}`."""

    def __init__(self, automaton: Automaton, pattern: str, owner: str) -> None:
        self.automaton, self.pattern, self.owner, self.at = automaton, pattern, owner, 0

    def peek(self, text: str) -> bool:
        return self.pattern.startswith(text, self.at)

    def take(self, text: str) -> bool:
        found = self.peek(text)
        self.at += len(text) if found else 0
        return found

    def until(self, text: str) -> str:
        end = self.pattern.index(text, self.at)
        inside, self.at = self.pattern[self.at : end], end + len(text)
        return inside

    def alternatives(self) -> tuple[int, int]:
        start, end = self.automaton.state(self.owner), self.automaton.state(self.owner)
        while True:
            first, last = self.sequence()
            self.automaton.free[start].append(first)
            self.automaton.free[last].append(end)
            if not self.take("|"):
                return start, end

    def sequence(self) -> tuple[int, int]:
        start = end = self.automaton.state(self.owner)
        while self.at < len(self.pattern) and not self.peek("|") and not self.peek(")"):
            begin_at = self.at
            piece = self.atom()
            least, most = self.repeat()
            after_at = self.at
            for count in range(most):
                if count:  # one more copy of the piece, read again
                    self.at = begin_at
                    piece = self.atom()
                if count >= least:
                    self.automaton.free[end].append(skip := self.automaton.state(self.owner))
                    self.automaton.free[piece[1]].append(skip)
                    self.automaton.free[end].append(piece[0])
                    end = skip
                else:
                    self.automaton.free[end].append(piece[0])
                    end = piece[1]
            self.at = after_at
        return start, end

    def atom(self) -> tuple[int, int]:
        if self.take("(?:") or self.take("("):
            inside = self.alternatives()
            if not self.take(")"):
                raise ValueError(f"pattern {self.pattern!r}: expected ) at {self.at}")
            return inside
        start, end = self.automaton.state(self.owner), self.automaton.state(self.owner)
        self.automaton.moves[start].append((self.digits(), end))
        return start, end

    def digits(self) -> str:
        if self.take("\\d"):
            return DIGITS
        if self.take("["):
            return expand(self.until("]"))
        digit = self.pattern[self.at]
        if not digit.isdigit():
            raise ValueError(f"pattern {self.pattern!r}: {digit!r} at {self.at} is not understood")
        self.at += 1
        return digit

    def repeat(self) -> tuple[int, int]:
        if self.take("?"):
            return 0, 1
        if self.take("{"):
            least, _, most = self.until("}").partition(",")
            return int(least), int(most or least)
        return 1, 1


def expand(ranges: str) -> str:
    """`1-35` is 1235."""
    digits = ""
    while ranges:
        last = ranges[2] if ranges[1:2] == "-" else ranges[0]
        digits += "".join(chr(code) for code in range(ord(ranges[0]), ord(last) + 1))
        ranges = ranges[3:] if ranges[1:2] == "-" else ranges[1:]
    if not digits.isdigit():
        raise ValueError(f"digit ranges {digits!r} are not understood")
    return digits


def metadata_of(code: int, region: str) -> PhoneMetadata:
    if region == "001":
        found = PhoneMetadata.metadata_for_nongeo_region(code)
    else:
        found = PhoneMetadata.metadata_for_region(region)
    if found is None:
        raise ValueError(f"phonenumbers has no metadata for +{code} {region}")
    return found


def patterns(metadata: PhoneMetadata) -> Iterator[tuple[str, str]]:
    for kind in CLASS_OF_TYPE:
        described: PhoneNumberDesc | None = getattr(metadata, kind)
        if described is not None and described.national_number_pattern:
            yield kind, described.national_number_pattern


# --- country ---------------------------------------------------------------------------------------------------------


def regions_of(code: int, regions: tuple[str, ...]) -> Automaton:
    """Whose number begins so? A region's leading digits decide where it has them, else its patterns."""
    automaton = Automaton()
    for region in regions:
        metadata = metadata_of(code, region)
        if metadata.leading_digits:
            automaton.add(metadata.leading_digits, region, open_ended=True)
        else:
            for _, pattern in patterns(metadata):
                automaton.add(pattern, region)
    return automaton


def country_rows(code: int, regions: tuple[str, ...]) -> list[tuple[str, str]]:
    """(prefix, country) of one calling code; a prefix is written only where it changes the answer of a shorter one."""
    if regions == ("001",):
        return []
    main = regions[0]
    rows = [(str(code), main)]
    automaton = regions_of(code, regions)
    placeless = placeless_area_codes(regions) if code == 1 else set()

    def walk(prefix: str, states: frozenset[int], inherited: str) -> None:
        owners = automaton.owners(states)
        if prefix in placeless:
            rows.append((prefix, NO_COUNTRY))
            inherited = NO_COUNTRY
        elif (inherited == NO_COUNTRY and main in owners) or not owners:
            return
        elif len(owners) == 1 or len(prefix) == COUNTRY_DIGITS:
            answer = next(region for region in regions if region in owners)
            if answer != inherited:
                rows.append((prefix, answer))
            return
        for digit in DIGITS:
            walk(prefix + digit, automaton.step(states, digit), inherited)

    if len(regions) > 1:
        for digit in DIGITS:
            walk(f"{code}{digit}", automaton.step(automaton.start(), digit), main)
    return rows


def placeless_area_codes(regions: tuple[str, ...]) -> set[str]:
    """The +1 codes that belong to no country: toll-free, premium and personal numbers of the whole plan."""
    automaton = classes_of(1, regions[:1])
    found = {f"1{area}" for area in NANPA_WITHOUT_COUNTRY}
    for area in range(200, 1000):
        states = automaton.start()
        for digit in str(area):
            states = automaton.step(states, digit)
        classes = automaton.owners(states)
        if classes and classes <= WITHOUT_A_PLACE:
            found.add(f"1{area}")
    return found - {f"1{area}" for area in NANPA_UNITED_STATES}


# --- class -----------------------------------------------------------------------------------------------------------


def classes_of(code: int, regions: tuple[str, ...]) -> Automaton:
    automaton = Automaton()
    for region in regions:
        for kind, pattern in patterns(metadata_of(code, region)):
            automaton.add(pattern, CLASS_OF_TYPE[kind])
    return automaton


def class_rows(code: int, regions: tuple[str, ...]) -> list[tuple[str, str]]:
    """(prefix, class) of one calling code: the shortest prefixes under which every number is of one class."""
    automaton = classes_of(code, regions)
    if regions == ("001",):  # satellites and networks of the whole world are neither a landline nor anyone's mobile
        classes = automaton.owners(automaton.start())
        return [(str(code), next(iter(classes)) if classes in ({"toll_free"}, {"premium"}) else "special")]
    rows: list[tuple[str, str]] = []

    def walk(prefix: str, states: frozenset[int]) -> None:
        classes = automaton.owners(states)
        national_digits = len(prefix) - len(str(code))
        if len(classes) == 1:
            found = next(iter(classes))
            if national_digits <= CLASS_NATIONAL_DIGITS.get(found, 0):
                rows.append((prefix, found))
        elif len(classes) > 1 and national_digits < max(CLASS_NATIONAL_DIGITS.values()):
            for digit in DIGITS:
                walk(prefix + digit, automaton.step(states, digit))

    for digit in DIGITS:
        walk(f"{code}{digit}", automaton.step(automaton.start(), digit))
    return rows


# --- emergency -------------------------------------------------------------------------------------------------------


def matches(pattern: str) -> list[str]:
    """Every text that a finite pattern matches, in order."""
    automaton = Automaton()
    automaton.add(pattern, "emergency")
    found: list[str] = []

    def walk(text: str, states: frozenset[int]) -> None:
        if states & automaton.final:
            found.append(text)
        for digit in DIGITS if states else "":
            walk(text + digit, automaton.step(states, digit))

    walk("", automaton.start())
    return found


def emergency_numbers(region: str) -> list[str]:
    metadata = PhoneMetadata.short_metadata_for_region(region)
    described = metadata.emergency if metadata else None
    return matches(described.national_number_pattern) if described and described.national_number_pattern else []


# --- the table -------------------------------------------------------------------------------------------------------


HEAD = f'''"""Generated by scripts/generate_numbering.py: do not edit.

Each string is a list of words: a name that ends in a colon, then what belongs to it.
`{NO_COUNTRY}` are prefixes without a country under a calling code that has one.
Facts from phonenumbers (Google libphonenumber, Apache License 2.0).
"""
'''


def grouped(rows: list[tuple[str, str]], sort_key: list[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {name: [] for name in sort_key}
    for prefix, name in rows:
        groups[name].append(prefix)
    return {name: sorted(prefixes) for name, prefixes in groups.items() if prefixes}


def quoted(text: str) -> str:
    """One long line of words as a parenthesised string of short lines."""
    lines = textwrap.wrap(text, 112, break_long_words=False, break_on_hyphens=False)
    return "(\n" + "".join(f'    "{line} "\n' for line in lines[:-1]) + f'    "{lines[-1]}"\n)\n'


def table_text() -> str:
    """The whole module, the same bytes for the same version of the library."""
    plan = sorted(COUNTRY_CODE_TO_REGION_CODE.items())
    country_of = [row for code, regions in plan for row in country_rows(code, regions)]
    class_of = [row for code, regions in plan for row in class_rows(code, regions)]
    regions = sorted({region for _, found in plan for region in found} - {"001"})
    emergency = {region: numbers for region in regions if (numbers := emergency_numbers(region))}
    countries = grouped(country_of, sorted({country for _, country in country_of}))
    classes = grouped(class_of, list(CLASS_NATIONAL_DIGITS))
    return (
        f"{HEAD}\n"
        f'SOURCE = "phonenumbers {phonenumbers.__version__}, nanpa {NANPA_DATE}"\n\n'
        f"# {len(country_of)} prefixes\nCOUNTRIES = {quoted(words(countries))}\n"
        f"# {len(class_of)} prefixes\nCLASSES = {quoted(words(classes))}\n"
        f"# {sum(map(len, emergency.values()))} numbers\nEMERGENCY = {quoted(words(emergency))}"
    )


def words(groups: dict[str, list[str]]) -> str:
    return " ".join(f"{name}: {' '.join(members)}" for name, members in groups.items())


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the numbering table from the phonenumbers package.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the table would change")
    text = table_text()
    if parser.parse_args().check:
        same = TABLE.read_text("utf-8") == text
        print(f"{TABLE.name}: {'up to date' if same else 'differs from what the installed phonenumbers would give'}")
        return 0 if same else 1
    TABLE.write_text(text, "utf-8")
    print(f"{TABLE.name}: {len(text)} bytes, phonenumbers {phonenumbers.__version__}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
