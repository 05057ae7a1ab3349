"""What the checker knows of a log: records, places, the rules calls were rated by, and how a violation is told.

Nothing here comes from `rater`: a fault of the product must not be hidden by the code that looks for it.
"""

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any, NamedTuple

from blake3 import blake3

from tests.twin import CountryOf, Deck, IsEmergency, Plans, default_emergency

Row = dict[str, Any]

CDRS, COMMANDS = "cdrs", "account-commands"
RATED, EVENTS = "rated-cdrs", "account-events"
REJECTED_CDRS, REJECTED_COMMANDS = "rejected-cdrs", "rejected-commands"
STATE, JOURNAL = "rater-state", "rater-journal"
INPUTS = (CDRS, COMMANDS)
OUTPUTS = (RATED, EVENTS, REJECTED_CDRS, REJECTED_COMMANDS)
TOPICS = (*INPUTS, *OUTPUTS, STATE, JOURNAL)
FORWARDED_FROM = "rater-forwarded-from"


class Record(NamedTuple):
    """A committed record as a read_committed reader gets it."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class End(NamedTuple):
    """Where a partition ends: for a reader of committed records, and for the broker."""

    stable: int
    high: int


Topics = Mapping[str, Sequence[Record]]  # by plain name, without a prefix
GroupOffsets = Mapping[tuple[str, int], int]  # (topic, partition) -> what the group reads next
Ends = Mapping[tuple[str, int], End]


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that should not be, as a sentence and as its parts."""

    invariant: str
    what: str
    topic: str = ""
    partition: int = -1
    offset: int = -1
    tenant: str = ""
    expected: object = ""
    found: object = ""

    def __str__(self) -> str:
        place = f"{self.topic}-{self.partition}" if self.topic else ""
        place += f" offset {self.offset}" if self.offset >= 0 else ""
        subject = f" (tenant {self.tenant})" if self.tenant else ""
        told = f"{self.invariant}: {place}{subject}: {self.what}"
        if self.expected != "" or self.found != "":
            told += f": expected {shown(self.expected)}, found {shown(self.found)}"
        return told


def shown(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 200 else text[:200] + " ..."


# ---------------------------------------------------------------------------------------------- JSON without mercy


class Inexact(str):
    """A JSON number with a point or an exponent, as it was written. No money is ever one."""


class Huge(str):
    """A JSON integer longer than anything the contract has, as it was written."""


def strict_object(raw: bytes | None) -> Row:
    """A JSON object whose numbers keep their kind and whose keys stand once; `ValueError` otherwise."""
    if raw is None:
        raise ValueError("no value")

    def once(pairs: list[tuple[str, Any]]) -> Row:
        made = dict(pairs)
        if len(made) != len(pairs):
            raise ValueError("a key stands twice")
        return made

    value = json.loads(
        raw.decode("utf-8"),
        object_pairs_hook=once,
        parse_float=Inexact,
        parse_int=lambda digits: int(digits) if len(digits) < 40 else Huge(digits),
    )
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def same(a: object, b: object) -> bool:
    """Equal in value and kind: 1, true and 1.0 are three things."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def digest(*parts: bytes) -> str:
    """The first 128 bits of the BLAKE3, in hex, as the journal has it."""
    return blake3(b"".join(parts)).hexdigest()[:32]


# ---------------------------------------------------------------------------------------------- which partition


def murmur2(data: bytes) -> int:
    """Kafka's 32-bit murmur2, seed 0x9747b28c, as an unsigned number."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = (0x9747B28C ^ len(data)) & mask
    full = len(data) // 4
    for i in range(full):
        k = int.from_bytes(data[4 * i : 4 * i + 4], "little")
        k = (k * m) & mask
        k ^= k >> 24
        k = (k * m) & mask
        h = (h * m) & mask
        h ^= k
    tail = data[4 * full :]
    for place, byte in enumerate(tail):
        h ^= byte << (8 * place)
    if tail:
        h = (h * m) & mask
    h ^= h >> 13
    h = (h * m) & mask
    return h ^ (h >> 15)


def home_of(tenant: str | bytes, partitions: int) -> int:
    """The partition of a tenant, as every producer with Kafka's default partitioner has it."""
    name = tenant.encode() if isinstance(tenant, str) else tenant
    return (murmur2(name) & 0x7FFFFFFF) % partitions


# ---------------------------------------------------------------------------------------------- rules


@dataclass(frozen=True)
class RuleBook:
    """Every deck and plans table that the run may name, by content hash, and the numbering."""

    decks: Mapping[str, Deck]
    plans: Mapping[str, Plans]
    country_of: CountryOf
    is_emergency: IsEmergency = default_emergency


@dataclass(frozen=True)
class RuleSet:
    """What is in force in a partition: versions as the log names them."""

    deck_versions: tuple[str, ...] = ()
    plans_version: str = ""
    decks: Mapping[str, tuple[str, Deck]] = field(default_factory=dict)  # currency -> (version, deck)
    plans: Plans | None = None


class UnknownRules(Exception):
    """A content hash that is not among the decks and plans given to the checker."""


def rule_set(book: RuleBook, deck_versions: Iterable[str], plans_version: str) -> RuleSet:
    versions = tuple(deck_versions)
    missing = [version for version in versions if version not in book.decks]
    if missing or plans_version not in book.plans:
        missing += [] if plans_version in book.plans else [f"plans {plans_version}"]
        raise UnknownRules(f"no deck or plans given to the checker has the content hash {', '.join(missing)}")
    decks = {book.decks[version].currency: (version, book.decks[version]) for version in versions}
    return RuleSet(versions, plans_version, decks, book.plans[plans_version])


CLASSES = ("geographic", "mobile", "toll_free", "premium", "special")
NUMBER_TYPES = ("user", "service", "toll_free")
ALWAYS = 1 << 62


def country_number(country: str | None) -> int:
    return ord(country[0]) * 256 + ord(country[1]) if country else 0


def deck_version(folder: Path) -> str:
    """The content hash of a deck in the contract's own layout, computed a second time from its files."""
    head: Row = tomllib.loads((folder / "deck.toml").read_text("utf-8"))
    deck = Deck.from_folder(folder)
    words = {"out": "outbound", "in": "inbound"}
    direction = words.get(head.get("direction", "outbound"), head.get("direction", "outbound"))
    terms = ["rater deck 1", deck.name, deck.currency, direction, deck.initial_s, deck.step_s, -ALWAYS]
    lines = [json.dumps(terms, ensure_ascii=False)]
    outbound = sorted(
        (prefix, -ALWAYS if row["valid_from"] is None else row["valid_from"],
         ALWAYS if row["valid_to"] is None else row["valid_to"], row["destination"] or "", country_number(row["country"]),
         CLASSES.index(row["class"]), row["rate_nanos"], row["fee_micros"], row["minimum_micros"], row["initial_s"],
         row["step_s"])
        for prefix, rows in deck.rows.items()
        for row in rows
    )  # fmt: skip
    for prefix, since, until, destination, *numbers in outbound:
        lines.append("\t".join(map(str, [prefix, since, until, encode_basestring(destination), *numbers])))
    lines.append("inbound")
    inbound = sorted(
        (country_number(country), NUMBER_TYPES.index(kind), 0 if origin == "*" else country_number(origin),
         row["rate_nanos"], row["fee_micros"])
        for (country, kind, origin), row in deck.inbound.items()
    )  # fmt: skip
    lines += ["\t".join(map(str, row)) for row in inbound]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def plans_version(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def load_rule_book(folders: Iterable[Path], plans_files: Iterable[Path], country_of: CountryOf,
                   is_emergency: IsEmergency) -> RuleBook:  # fmt: skip
    """Deck folders (or folders of deck folders) and plans files, by the content hash that the log names them with."""
    decks: dict[str, Deck] = {}
    for folder in folders:
        inner = [folder] if (folder / "deck.toml").exists() else sorted(p.parent for p in folder.glob("*/deck.toml"))
        for one in inner:
            decks[deck_version(one)] = Deck.from_folder(one)
    texts = [path.read_text("utf-8-sig") for path in plans_files]
    return RuleBook(decks, {plans_version(text): Plans(text) for text in texts}, country_of, is_emergency)
