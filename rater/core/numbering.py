"""Digits to country and class, and which digits are an emergency number: one trie in arrays, longest prefix first.

Digits are international (`442079460018`), ASCII, without a sign. The table says what a range is for, never whether a
number is valid or in service: a bill has to name the country of every number that was really called. It says nothing
where a prefix holds numbers of several classes, and nothing about number portability.

A country is an int16, its two letters packed ("GB" is 18242), and 0 where there is none: satellites, `+800`, and the
numbers under +1 that belong to the whole plan (800, 900, 500 ...). Where a country is found, the called numbers of
Puerto Rico, Guam and the like are countries of their own; only a pool of minutes joins PR to US.
"""

import hashlib
from functools import cache
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from rater.core import numbering_table
from rater.core.compiled import kernel

CLASSES = ("geographic", "mobile", "toll_free", "premium", "special")
UNKNOWN = 0
NO_COUNTRY = -1  # in the table only: these digits are known to have no country, though a shorter prefix has one
SAYS_NOTHING = -1  # of a class

# These reach help from every country, whatever its own numbers are.
EVERYWHERE = ("112", "911")
# A key is country * 10^7 + the digits behind a 1, so that Australia's 000 is not the number 0.
EMERGENCY_BASE = 10**7
EMERGENCY_DIGITS_MAX = 6

Array = TypeVar("Array", bound=npt.NDArray[Any])


class Numbering(NamedTuple):
    """The trie: a child of 0 is none, node 0 is the root."""

    nodes: npt.NDArray[np.int32]  # [n, 10]
    country: npt.NDArray[np.int16]  # [n]; 0: this prefix says nothing
    number_class: npt.NDArray[np.int8]  # [n]; -1: this prefix says nothing


def country_code(text: str) -> int:
    """`GB` -> 18242; the empty text is the unknown country, 0."""
    if text == "":
        return UNKNOWN
    if len(text) != 2 or not (text.isascii() and text.isalpha() and text.isupper()):
        raise ValueError(f"country {text!r}; expected two capital letters, for example GB")
    return ord(text[0]) * 256 + ord(text[1])


def country_text(code: int) -> str:
    """18242 -> `GB`; 0 -> the empty text."""
    return chr(code // 256) + chr(code % 256) if code else ""


# --- kernels ---------------------------------------------------------------------------------------------------------


@kernel
def country_of(nodes: Any, country: Any, buffer: Any, start: Any, end: Any) -> Any:
    """The country of the longest prefix that names one; 0 when none does.

    442079460018 -> GB      441534123456 -> JE      18005550123 -> 0      37912 -> 0
    """
    found = longest_country(nodes, country, buffer, start, end)
    return found if found > 0 else np.int16(0)


@kernel
def is_placeless(nodes: Any, country: Any, buffer: Any, start: Any, end: Any) -> Any:
    """Do these digits lie in a country's calling code and belong to no country? +1 800 does, +800 and +379 do not."""
    return longest_country(nodes, country, buffer, start, end) < 0


@kernel
def longest_country(nodes: Any, country: Any, buffer: Any, start: Any, end: Any) -> Any:
    found = np.int16(0)
    node = 0
    for at in range(start, end):
        digit = np.int64(buffer[at]) - 48
        if digit < 0 or digit > 9:
            break
        node = nodes[node, digit]
        if node == 0:
            break
        if country[node] != 0:
            found = country[node]
    return found


@kernel
def class_of(nodes: Any, number_class: Any, buffer: Any, start: Any, end: Any) -> Any:
    """The class (index in `CLASSES`) of every number that begins with these digits; -1 when the table cannot say.

    447700900123 -> 1, mobile      448001111 -> 2, toll-free      44 -> -1      12125550123 -> -1
    """
    found = np.int8(-1)
    node = 0
    for at in range(start, end):
        digit = np.int64(buffer[at]) - 48
        if digit < 0 or digit > 9:
            break
        node = nodes[node, digit]
        if node == 0:
            break
        if number_class[node] >= 0:
            found = number_class[node]
    return found


@kernel
def is_emergency(emergency: Any, country: Any, buffer: Any, start: Any, end: Any) -> Any:
    """Are the whole digits an emergency number of this country, or one that counts everywhere?

    999 in GB -> True      999 in US -> False      112 anywhere -> True      9110 -> False
    """
    if end - start < 1 or end - start > EMERGENCY_DIGITS_MAX:
        return False
    key = np.int64(1)
    for at in range(start, end):
        digit = np.int64(buffer[at]) - 48
        if digit < 0 or digit > 9:
            return False
        key = key * 10 + digit
    if contains(emergency, key):
        return True
    return contains(emergency, np.int64(country) * EMERGENCY_BASE + key)


@kernel
def contains(ascending: Any, key: Any) -> Any:
    low, high = 0, len(ascending)
    while low < high:
        middle = (low + high) // 2
        if ascending[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low < len(ascending) and ascending[low] == key


# --- the table as arrays ---------------------------------------------------------------------------------------------


def groups_of(text: str) -> dict[str, list[str]]:
    """`GB: 44 JE: 441534` -> {"GB": ["44"], "JE": ["441534"]}"""
    groups: dict[str, list[str]] = {}
    for word in text.split():
        if word.endswith(":"):
            groups[word[:-1]] = members = []
        else:
            members.append(word)
    return groups


EMERGENCY: dict[str, list[str]] = groups_of(numbering_table.EMERGENCY)

# Of the arrays' content, not of the file's bytes: two versions that agree in this text give the same answers.
NUMBERING_VERSION: str = (
    f"{numbering_table.SOURCE}, "
    + hashlib.sha256(
        f"{numbering_table.COUNTRIES}\n{numbering_table.CLASSES}\n{numbering_table.EMERGENCY}".encode()
    ).hexdigest()[:16]
)


@cache
def load_numbering() -> Numbering:
    """The generated table as a trie, built once a process; the arrays are read-only."""
    children: list[list[int]] = [[0] * 10]
    countries: dict[int, int] = {}
    classes: dict[int, int] = {}

    def node_of(prefix: str) -> int:
        node = 0
        for digit in map(int, prefix):
            if not children[node][digit]:
                children[node][digit] = len(children)
                children.append([0] * 10)
            node = children[node][digit]
        return node

    for name, prefixes in groups_of(numbering_table.COUNTRIES).items():
        code = NO_COUNTRY if name == "--" else country_code(name)
        countries |= {node_of(prefix): code for prefix in prefixes}
    for name, prefixes in groups_of(numbering_table.CLASSES).items():
        classes |= {node_of(prefix): CLASSES.index(name) for prefix in prefixes}

    nodes = np.array(children, np.int32)
    country = np.zeros(len(nodes), np.int16)
    country[list(countries)] = list(countries.values())
    number_class = np.full(len(nodes), SAYS_NOTHING, np.int8)
    number_class[list(classes)] = list(classes.values())
    return Numbering(frozen(nodes), frozen(country), frozen(number_class))


@cache
def load_emergency() -> npt.NDArray[np.int64]:
    """Every emergency number of every country as sorted keys; country 0 holds those that count everywhere."""
    keys = [key for country in EMERGENCY for key in emergency_keys(country_code(country))]
    return frozen(np.array(sorted({*keys, *emergency_keys(UNKNOWN)}), np.int64))


def emergency_keys(country: int) -> list[int]:
    """The keys of one country's own emergency numbers: AU 000 is (country * 10^7) + 1000."""
    numbers = EMERGENCY.get(country_text(country), []) if country else list(EVERYWHERE)
    return [country * EMERGENCY_BASE + int("1" + digits) for digits in numbers]


def frozen(array: Array) -> Array:
    array.setflags(write=False)
    return array


# --- one text at a time, for decks, linters and people ----------------------------------------------------------------


def country_of_digits(digits: str) -> int:
    table = load_numbering()
    return int(country_of(table.nodes, table.country, as_buffer(digits), 0, len(digits)))


def country_differs(digits: str, country: int) -> bool:
    """Does a deck that puts this prefix in `country` contradict the table?

    +1 800 priced as the United States does not: it has no country, and a carrier has to write something. +379 priced as
    the Vatican does: nobody is reached there.
    """
    return country_of_digits(digits) != country and not is_placeless_digits(digits)


def is_placeless_digits(digits: str) -> bool:
    table = load_numbering()
    return bool(is_placeless(table.nodes, table.country, as_buffer(digits), 0, len(digits)))


def class_of_digits(digits: str) -> int:
    table = load_numbering()
    return int(class_of(table.nodes, table.number_class, as_buffer(digits), 0, len(digits)))


def as_buffer(digits: str) -> npt.NDArray[np.uint8]:
    return np.frombuffer(digits.encode("ascii"), np.uint8)
