"""What an operator types from the documentation is there: every command line of `rater` in it, with its options."""

import re
import shlex
from pathlib import Path

import click
import pytest

from rater.__main__ import cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("operations", "integration")


def command_lines(page: str) -> list[str]:
    """Of the blocks of a page: each line that begins with `rater`, its continuation put to it, and each `$(rater ...)`."""
    text = (ROOT / "docs" / f"{page}.md").read_text("utf-8")
    blocks = re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    joined = re.sub(r"\\\n\s*", " ", "\n".join(blocks))
    typed = re.findall(r"^(rater .*)$", joined, re.MULTILINE) + re.findall(r"\$\((rater [^)]*)\)", joined)
    spoken = re.findall(r"`(rater [a-z][a-z -]*)`", text)
    spoken = [line for line in spoken if "--" not in line]  # a sentence may name an option and not what goes with it
    return [line.partition(" #")[0] for line in [*typed, *spoken] if "..." not in line]


def understood(line: str) -> None:
    """With `--help` behind it a command line is read to its end, and does nothing. Raises `click.UsageError`."""
    words = shlex.split(line)[1:]
    cli.main([*words, "--help"], prog_name="rater", standalone_mode=False)


@pytest.mark.parametrize("line", sorted({line for page in PAGES for line in command_lines(page)}))
def test_a_documented_command_is_understood(line: str):
    understood(line)


@pytest.mark.parametrize("line", ["rater topics describe", "rater audit --fast", "rater deck activate x --when now"])
def test_a_command_that_is_not_there_would_be_found(line: str):
    with pytest.raises(click.UsageError):
        understood(line)


@pytest.mark.parametrize("page", PAGES)
def test_there_are_commands_to_look_at(page: str):
    assert len(command_lines(page)) > 3
