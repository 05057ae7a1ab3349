"""Rate decks on disk: read through a profile, linted, and refused whole where there is an error."""

import gc
from collections.abc import Callable
from pathlib import Path

from rater.core.deck import RateDeck, make_deck
from rater.doors.decks.findings import ERROR, BadFile, DeckRefused, Finding, LintReport
from rater.doors.decks.inbound import read_inbound
from rater.doors.decks.lint import lint_inbound, lint_rates
from rater.doors.decks.profile import INBOUND, read_profile
from rater.doors.decks.reading import ReadDeck, read_outbound

__all__ = ["DeckRefused", "Finding", "LintReport", "lint_deck", "load_deck"]


def _take(report: LintReport, read_file: Callable[[], None]) -> None:
    """Read a file; where it cannot be read to its end, that is a finding beside those made so far."""
    try:
        read_file()
    except BadFile as bad:
        report.findings.append(bad.finding)


def _read(folder: Path) -> tuple[RateDeck | None, LintReport]:
    report = LintReport(str(folder))
    profile, report.findings = read_profile(folder)
    if profile is None:
        return None, report
    read = ReadDeck(findings=report.findings)
    inbound, direction = folder / INBOUND, profile.terms.direction
    # What the direction names must be there; what else is there is read, too.
    if direction != "inbound" or profile.file.exists():
        _take(report, lambda: read_outbound(profile, profile.file, read))
    if direction != "outbound" or inbound.exists():
        _take(report, lambda: read_inbound(inbound, read))
    report.rows, report.inbound_rows = len(read.rates), len(read.inbound)
    if not read.rates and not read.inbound and not report.errors:
        report.findings.append(Finding(ERROR, "empty_deck", str(profile.file), 0, "no row", "at least one rate"))
    read.sort()
    deck = make_deck(profile.terms, read.rates, read.inbound)
    report.findings += lint_rates(read, deck, profile.ceiling_nanos, str(profile.file))
    report.findings += lint_inbound(read, profile.ceiling_nanos, str(inbound))
    return deck, report


def _read_without_collector(folder: Path) -> tuple[RateDeck | None, LintReport]:
    """The garbage collector would look through hundreds of thousands of new rows again and again and find nothing."""
    collects = gc.isenabled()
    gc.disable()
    try:
        return _read(folder)
    finally:
        if collects:
            gc.enable()


def lint_deck(folder: Path) -> LintReport:
    """Everything that is wrong or odd in a deck folder."""
    return _read_without_collector(Path(folder))[1]


def load_deck(folder: Path) -> RateDeck:
    """The deck of a folder; raises `DeckRefused` with every finding where there is an error."""
    deck, report = _read_without_collector(Path(folder))
    if deck is None or report.errors:
        raise DeckRefused(report)
    return deck
