"""`rater mediate --profile-new NAME SAMPLE...`: look at samples, propose a profile, leave open what they do not settle."""

from collections.abc import Sequence
from typing import Any

import click

from rater.doors.files.file_marks import files_of
from rater.doors.files.inputs import InputProblem, open_input
from rater.sources import SOURCES
from rater.sources.profile import SWITCH
from rater.sources.profile_columns import columns_of
from rater.sources.profile_detect import Found, Sample, detect, sample_of
from rater.sources.profile_propose import propose

SAMPLE_BYTES_MAX = 4 << 20
HEAD = """#:schema profile.v1.json
# Proposed by `rater mediate --profile-new {name}` from {samples}.
# A question begins with `#?`; complete the lines below it and take off their `#`. Until then the profile is refused: nothing is guessed.
# Then look at a record or two: rater mediate {samples} --source {source} --profile THIS.toml --explain 1
"""


def propose_from(name: str, samples: Sequence[str], source: str | None) -> dict[str, Any]:
    """Source, evidence, the TOML and the questions in it. InputProblem when the sample does not say what wrote it."""
    if not SWITCH.fullmatch(name):
        raise InputProblem(
            f"--profile-new {name!r}: expected the name of the switch: up to 64 letters, digits, '.', '_', '-'"
        )
    if source is not None and source not in SOURCES:
        raise InputProblem(f"--source {source!r}: expected one of {', '.join(sorted(SOURCES))}")
    names = [file for given in samples for file in files_of(given)]
    sample = sample_of(b"".join(beginning(file) for file in names))
    found = chosen(sample, source, names)
    columns, frame = columns_of(found, sample)
    draft = propose(name, found, sample, columns, frame)
    head = HEAD.format(name=name, samples=" ".join(names[:3]) + (" ..." if len(names) > 3 else ""), source=found.source)
    return {"source": found.source, "evidence": found.why, "toml": head + draft.text(), "open": draft.questions}


def beginning(name: str) -> bytes:
    with open_input(name) as stream:
        data = stream.read(SAMPLE_BYTES_MAX)
    if len(data) == SAMPLE_BYTES_MAX:
        data = data[: data.rfind(b"\n") + 1] or data
    return data if data.endswith(b"\n") or not data else data + b"\n"


def chosen(sample: Sample, source: str | None, names: Sequence[str]) -> Found:
    found = detect(sample)
    if source is not None:
        mine = [one for one in found if one.source == source]
        return joined(mine) if mine else Found(source, "", "as --source says")
    if not found:
        raise InputProblem(f"{', '.join(names)}: bears the marks of no source; name one with --source")
    if len({one.source for one in found}) > 1:
        told = "; ".join(f"{one.source} ({one.why})" for one in found)
        raise InputProblem(f"{', '.join(names)}: could be {told}; name one with --source")
    return joined(found)


def joined(found: Sequence[Found]) -> Found:
    """Several layouts of one source as one finding; which it is, is a question."""
    return Found(found[0].source, "|".join(one.option for one in found), "; ".join(one.why for one in found))


def show_proposal(proposal: dict[str, Any]) -> None:
    """The profile on standard output; on standard error how many questions it asks."""
    click.echo(proposal["toml"], nl=False)
    click.echo(
        f"{proposal['source']}: {proposal['evidence']}; {len(proposal['open'])} questions are left open", err=True
    )
