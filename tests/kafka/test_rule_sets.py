"""The decks and plans that the log names are found in the folder of rates, or among those kept; else it is said what lacks."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from rater.doors.kafka.rule_sets import DeckMissing, RuleSets
from rater.doors.rules import RuleBook, load_rule_book
from tests.workbench import Rates


def key(book: RuleBook) -> tuple[list[str], str]:
    return [deck.version for deck in book.decks], book.plans_version


class Folder:
    """A folder of rates whose content changes, and the folder of texts kept."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.kept = folder / "in", folder / "state" / "rates"
        self.said: list[str] = []

    def put(self, *rows: str, plans: tuple[str, ...] = ()) -> RuleBook:
        """Other rates take the place of those that were there."""
        shutil.rmtree(self.folder, ignore_errors=True)
        deck = Rates(outbound=list(rows), plans=list(plans)).write(self.folder)
        return load_rule_book(deck)

    def open(self) -> RuleSets:
        return RuleSets(self.folder / "deck", None, self.kept, self.said.append)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


OLD, NEW = "1,US,US,,0.02,,,,,,", "1,US,US,,0.03,,,,,,"


def test_the_folder_of_rates_is_current_and_is_found_by_its_versions(folder: Folder):
    book = folder.put(OLD)
    sets = folder.open()
    assert key(sets.current) == key(book)
    assert sets.find(*key(book)) is sets.current


def test_decks_are_found_in_whatever_order_the_log_names_them(tmp_path: Path):
    for currency in ("USD", "EUR"):
        made = Rates(currency=currency, outbound=[OLD]).write(tmp_path / currency)
        shutil.copytree(made, tmp_path / "rates" / currency)
    sets = RuleSets(tmp_path / "rates", None, tmp_path / "kept", print)
    decks, plans = key(sets.current)
    assert len(decks) == 2
    assert sets.find(decks, plans) is sets.find(decks[::-1], plans) is sets.current


def test_a_deck_put_there_later_is_found_without_a_new_start(folder: Folder):
    old = folder.put(OLD)
    sets = folder.open()
    new = folder.put(NEW)
    assert key(sets.find(*key(new))) == key(new)
    assert key(sets.current) == key(new)
    assert key(sets.find(*key(old))) == key(old), "what was loaded stays known"


def test_a_deck_that_was_kept_is_found_when_the_folder_has_moved_on(folder: Folder):
    old = folder.put(OLD, plans=("MCOPSTN1,US,5,0,",))
    sets = folder.open()
    sets.keep(sets.current)
    folder.put(NEW)
    again = folder.open()
    found = again.find(*key(old))
    assert key(found) == key(old)
    assert found.plans_text == old.plans_text
    assert [deck.canonical for deck in found.decks] == [deck.canonical for deck in old.decks]


def test_a_new_deck_with_kept_plans_is_found(folder: Folder):
    """An activation may name decks alone: the plans in force stay."""
    old = folder.put(OLD, plans=("MCOPSTN1,US,5,0,",))
    folder.open().keep(old)
    new = folder.put(NEW, plans=("MCOPSTN1,US,9,0,",))
    found = folder.open().find(key(new)[0], old.plans_version)
    assert key(found) == (key(new)[0], old.plans_version)


def test_keeping_twice_writes_once(folder: Folder):
    folder.put(OLD)
    sets = folder.open()
    sets.keep(sets.current)
    before = {path.name: path.stat().st_mtime_ns for path in folder.kept.iterdir()}
    assert len(before) == 2
    sets.keep(sets.current)
    assert {path.name: path.stat().st_mtime_ns for path in folder.kept.iterdir()} == before


def test_a_deck_that_is_nowhere_is_named_with_both_folders_and_what_is_there(folder: Folder):
    here = folder.put(OLD)
    with pytest.raises(DeckMissing) as missing:
        folder.open().find(["0123456789abcdef"], here.plans_version)
    told = str(missing.value)
    assert "deck 0123456789abcdef" in told
    assert f"{folder.folder / 'deck'} (there: {here.decks[0].version})" in told
    assert str(folder.kept) in told
    assert "goes on by itself" in told


def test_plans_that_are_nowhere_are_named(folder: Folder):
    here = folder.put(OLD)
    with pytest.raises(DeckMissing, match=r"plans feedfeedfeedfeed.*nor kept in"):
        folder.open().find(key(here)[0], "feedfeedfeedfeed")


def test_a_broken_folder_of_rates_is_passed_over_for_what_was_kept(folder: Folder):
    """A person edits the folder while workers run."""
    old = folder.put(OLD)
    folder.open().keep(old)
    folder.put(NEW)
    sets = folder.open()
    (folder.folder / "deck" / "outbound.csv").write_text("nonsense\n")
    assert key(sets.find(*key(old))) == key(old)
    assert any(str(folder.folder) in sentence and "passed over" in sentence for sentence in folder.said)


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"plan,country\n"])
def test_plans_broken_while_running_are_passed_over_too(folder: Folder, raw: bytes):
    old = folder.put(OLD)
    folder.open().keep(old)
    folder.put(NEW)
    sets = folder.open()
    (folder.folder / "plans" / "calling-plans.csv").write_bytes(raw)
    assert key(sets.find(*key(old))) == key(old)
    assert any("passed over" in sentence for sentence in folder.said)


def test_a_folder_of_rates_that_is_gone_is_passed_over(folder: Folder):
    old = folder.put(OLD)
    sets = folder.open()
    sets.keep(old)
    folder.put(NEW)
    shutil.rmtree(folder.folder)
    assert key(sets.find(*key(old))) == key(old)


@pytest.mark.parametrize("kind", ["deck", "plans"])
def test_a_kept_text_that_has_changed_is_refused(folder: Folder, kind: str):
    old = folder.put(OLD, plans=("MCOPSTN1,US,5,0,",))
    folder.open().keep(old)
    folder.put(NEW)
    path = next(folder.kept.glob(f"*.{kind}"))
    change = {"deck": (b"20000000", b"10000000"), "plans": (b"US,5", b"US,6")}[kind]
    assert change[0] in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(*change))
    with pytest.raises(DeckMissing, match="delete them"):
        folder.open().find(*key(old))


@pytest.mark.parametrize("raw", [b"", b"\xff", b"nonsense", b"{}", b"[1]"])
@pytest.mark.parametrize("kind", ["deck", "plans"])
def test_a_kept_text_that_cannot_be_read_is_refused_with_a_sentence(folder: Folder, kind: str, raw: bytes):
    old = folder.put(OLD, plans=("MCOPSTN1,US,5,0,",))
    folder.open().keep(old)
    folder.put(NEW, plans=("MCOPSTN1,US,9,0,",))
    next(folder.kept.glob(f"*.{kind}")).write_bytes(raw)
    with pytest.raises(DeckMissing, match="delete them"):
        folder.open().find(*key(old))


def test_a_first_start_with_a_broken_folder_is_refused(folder: Folder):
    folder.put(OLD)
    (folder.folder / "deck" / "outbound.csv").write_text("nonsense\n")
    with pytest.raises(Exception, match=r"outbound\.csv"):
        folder.open()


def test_books_are_told_apart_by_content_and_not_by_name(folder: Folder):
    first, second = folder.put(OLD), folder.put(NEW)
    assert key(first) != key(second)
    assert key(replace(first)) == key(first)
