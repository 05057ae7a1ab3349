"""Sources say what the rest of the house says: its call types, its reasons; and the page about them is true."""

import ast
import re
from pathlib import Path

import pytest

import rater.sources
from rater.core.calls import CALL_TYPES, DISPOSITIONS
from rater.core.reasons import REASON_OF_TEXT
from rater.sources import load_profile, record

ROOM = Path(rater.sources.__file__).parent
PAGE = ROOM.parent.parent / "docs" / "sources.md"


def test_call_types_and_dispositions_are_the_engines() -> None:
    assert frozenset(CALL_TYPES) == record.CALL_TYPES
    assert frozenset(DISPOSITIONS) == record.DISPOSITIONS


def test_every_reason_is_one_of_the_contract() -> None:
    used = set()
    for file in ROOM.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Unusable":
                assert isinstance(node.args[0], ast.Constant)
                used.add(node.args[0].value)
    assert used >= {"bad_field", "bad_times", "missing_field", "unknown_tenant"}
    assert used <= set(REASON_OF_TEXT)


def test_sources_import_only_themselves_and_what_is_below() -> None:
    for file in ROOM.glob("*.py"):
        for line in file.read_text(encoding="utf-8").splitlines():
            if found := re.match(r"(?:from|import) (rater[.\w]*)", line):
                assert found[1].startswith(("rater.sources", "rater.core", "rater.contract"))


@pytest.mark.skipif(not PAGE.is_file(), reason="docs/ is not installed with the package")
def test_the_profiles_of_the_page_are_accepted(tmp_path: Path) -> None:
    examples = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        file = tmp_path / "profile.toml"
        file.write_text(example, encoding="utf-8")
        load_profile(file)
