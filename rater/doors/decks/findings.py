"""What a linter has to say about a deck, in words that name file, line, what was found and what was expected."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

ERROR, WARNING = "error", "warning"
SHOWN = 10
CELL_SHOWN, SENTENCE_SHOWN = 60, 240


def as_shown(text: str, most: int = CELL_SHOWN) -> str:
    """Someone else's text as part of one line of ours: cut, and control characters written out."""
    cut = text[:most] + ("..." if len(text) > most else "")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in cut)


class BadFile(Exception):
    """A file that cannot be read on from here; the finding says where and why."""

    def __init__(self, finding: "Finding") -> None:
        super().__init__(str(finding))
        self.finding = finding


@dataclass(frozen=True, slots=True)
class Finding:
    """One place of one file."""

    level: str
    rule: str
    file: str
    line: int  # 0: the file as a whole
    found: str
    expected: str

    def __str__(self) -> str:
        place = f"{self.file} line {self.line}" if self.line else self.file
        return f"{place}: {self.found}; expected {self.expected}"


@dataclass(slots=True)
class LintReport:
    """All findings of one deck."""

    folder: str
    findings: list[Finding] = field(default_factory=list)
    rows: int = 0
    inbound_rows: int = 0

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.level == ERROR]

    @property
    def warnings(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.level == WARNING]

    def by_rule(self, level: str) -> dict[str, int]:
        return dict(Counter(finding.rule for finding in self.findings if finding.level == level))

    def to_json(self) -> dict[str, Any]:
        """`rater deck lint --json`"""
        return {
            "deck": self.folder,
            "ok": not self.errors,
            "rows": self.rows,
            "inbound_rows": self.inbound_rows,
            "errors": len(self.errors),
            "warnings": len(self.warnings),
            "errors_by_rule": self.by_rule(ERROR),
            "warnings_by_rule": self.by_rule(WARNING),
            "findings": [
                {
                    "level": f.level,
                    "rule": f.rule,
                    "file": f.file,
                    "line": f.line,
                    "found": f.found,
                    "expected": f.expected,
                }
                for f in self.findings
            ],
        }


class DeckRefused(Exception):
    """A deck with an error is refused whole; the text shows the first findings and how many there are."""

    def __init__(self, report: LintReport) -> None:
        self.report = report
        errors = report.errors
        shown = [f"  {finding}" for finding in errors[:SHOWN]]
        more = [f"  ... and {len(errors) - SHOWN} more; `rater deck lint {report.folder}` shows all"] * (
            len(errors) > SHOWN
        )
        super().__init__("\n".join([f"deck {report.folder} is refused: {len(errors)} error(s)", *shown, *more]))
