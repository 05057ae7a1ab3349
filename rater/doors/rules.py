"""What rates calls, read from disk or from a state file: numbering, plans and decks, made ready for the kernels."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rater.core.deck import RateDeck, build_deck_set, deck_from_canonical
from rater.core.numbering import NUMBERING_VERSION, load_emergency, load_numbering
from rater.core.payers import Rules
from rater.core.plans import parse_plans
from rater.doors.decks import load_deck

PLANS_FILE = "calling-plans.csv"


@dataclass(frozen=True, slots=True)
class RuleBook:
    """The rules, and the texts they were made from, so that a state can keep what it was rated with."""

    rules: Rules
    decks: tuple[RateDeck, ...]
    plans_text: str
    plans_version: str
    numbering_version: str


def rates_folder() -> Path:
    """The rates that ship with rater: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "rates"
    return inside if inside.is_dir() else package.parent / "rates"


def make_rule_book(decks: Sequence[RateDeck], plans_text: str, plans_name: str) -> RuleBook:
    plans = parse_plans(plans_text, plans_name)
    rules = Rules(load_numbering(), load_emergency(), plans, build_deck_set(decks))
    version = hashlib.sha256(plans_text.encode()).hexdigest()[:16]
    return RuleBook(rules, tuple(decks), plans_text, version, NUMBERING_VERSION)


def find_plans(deck_folder: Path, plans: Path | None) -> Path:
    """The plans file named, else one beside the decks (`plans/calling-plans.csv`), else the one that ships."""
    if plans is not None:
        return plans
    beside = deck_folder.resolve().parent / "plans" / PLANS_FILE
    return beside if beside.is_file() else rates_folder() / "plans" / PLANS_FILE


def load_rule_book(deck_folder: Path, plans: Path | None = None) -> RuleBook:
    """A deck folder, or a folder of deck folders (one a currency), and the calling plans."""
    folders = [deck_folder]
    if not (deck_folder / "deck.toml").exists() and deck_folder.is_dir():
        folders = sorted(f.parent for f in deck_folder.glob("*/deck.toml")) or folders
    plans_path = find_plans(deck_folder, plans)
    text = plans_path.read_text(encoding="utf-8-sig")
    return make_rule_book([load_deck(folder) for folder in folders], text, str(plans_path))


def kept_rule_book(decks: Sequence[bytes], plans_text: str) -> RuleBook:
    """The rules a state was rated with, from the canonical texts it kept."""
    return make_rule_book([deck_from_canonical(deck) for deck in decks], plans_text, "the plans kept in the state")
