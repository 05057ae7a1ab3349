"""`rater mediate`: its options, and which of its five ways of working they ask for."""

import signal
import sys
from pathlib import Path
from typing import Any

import click
import orjson

FILE = click.Path(path_type=Path)


def print_object(value: Any) -> None:
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n")
    sys.stdout.flush()


def source_profile(source: str, profile: Path | None) -> tuple[Any, str]:
    """The profile and its text; (None, "") for canonical. InputProblem when it cannot be used."""
    from rater.doors.files.inputs import InputProblem
    from rater.sources import SOURCES, ProfileRefused, load_profile

    if source == "canonical":
        if profile is not None:
            raise click.UsageError("--profile goes with a --source other than canonical")
        return None, ""
    if source not in SOURCES:
        raise click.UsageError(f"--source is '{source}'; expected canonical or one of: {', '.join(sorted(SOURCES))}")
    if profile is None:
        raise click.UsageError(f"--source {source} needs --profile FILE.toml; docs/sources.md shows one")
    try:
        found = load_profile(profile)
        text = profile.read_text("utf-8")
    except ProfileRefused as refused:
        raise InputProblem(str(refused)) from None
    except OSError as error:
        raise InputProblem(f"{profile}: {error.strerror}") from None
    if found.source != source:
        raise InputProblem(f"{profile}: source: found {found.source!r}; expected {source!r}, as --source says")
    return found, text


@click.command("mediate")
@click.argument("cdrs", nargs=-1, metavar="CDRS...")
@click.option("--source", help="What wrote the records; `rater mediate --source help` lists them.")
@click.option("--profile", type=FILE, help="Source profile (TOML): zone, layout, tenants, numbers.")
@click.option("--out", type=FILE, default=Path("mediated"), show_default=True, help="Folder of the output files.")
@click.option("--follow", is_flag=True, help="Go on with the last file while it is written, until stopped.")
@click.option("--watch", type=FILE, metavar="DIR", help="Read what is dropped into DIR, each file once, until stopped.")
@click.option("--close", "close_", is_flag=True, help="End the calls that are still open: there is no next run.")
@click.option("--explain", metavar="LINE", help="Tell of one record, field by field, and write nothing: the number of its line (17; "
              "17:3 the third record on it; of 3gpp-ber the number of the record), its text, or - to read it.")  # fmt: skip
@click.option("--profile-new", metavar="NAME", help="Look at sample files and propose a profile for the switch NAME, with "
              "what they do not settle left open; on standard output.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One object on standard output and nothing else.")
def mediate_command(cdrs: tuple[str, ...], source: str | None, profile: Path | None, out: Path, follow: bool, watch: Path | None,
                    close_: bool, explain: str | None, profile_new: str | None, as_json: bool) -> None:  # fmt: skip
    """Make canonical call records of what a switch wrote: one line a billed call, a rejection with its reason for the rest.

    \b
    rater mediate Master.csv --source asterisk-csv --profile pbx.toml --out mediated
    rater mediate /var/spool/cdr --source freeswitch-json --profile fs.toml          # a folder, .gz too
    rater mediate /var/log/asterisk/cdr-csv/Master.csv --source asterisk-csv --profile pbx.toml --follow
    rater mediate --watch /srv/drop --source acme --profile sbc.toml                 # files that a switch pushes
    rater mediate Master.csv --source asterisk-csv --profile pbx.toml --explain 17   # what became of line 17, and why
    rater mediate sample.csv --profile-new pbx1 > pbx1.toml                          # a profile to complete

    Writes cdrs.jsonl, which `rater rate` reads, and rejected-raw.jsonl. Exactly once: the same command goes on where it was
    interrupted and passes over files that are done.
    """
    from rater.sources import SOURCES

    if source == "help":
        click.echo("\n".join(sorted(SOURCES)))
        return
    check_ways(cdrs, source, profile, follow, watch, close_, explain, profile_new)
    if profile_new is not None:
        propose_one(profile_new, cdrs, source, as_json)
        return
    found, text = source_profile(source or "", profile)
    if explain is not None:
        explain_one(cdrs, found, explain, as_json)
    else:
        mediate_all(cdrs, found, text, out, follow, watch, close_, as_json)


def check_ways(cdrs: tuple[str, ...], source: str | None, profile: Path | None, follow: bool, watch: Path | None, close_: bool,
               explain: str | None, profile_new: str | None) -> None:  # fmt: skip
    if profile_new is None and source is None:
        raise click.UsageError("Missing option '--source'; `rater mediate --source help` lists what is read")
    if source == "canonical":
        raise click.UsageError("--source canonical is what this command makes; rate such files with rater rate")
    alone = follow or watch is not None or close_
    if explain is not None and (alone or profile_new is not None):
        raise click.UsageError(
            "--explain tells of one record and writes nothing; it goes without --follow, --watch, --close, --profile-new"
        )
    if profile_new is not None and (alone or profile is not None):
        raise click.UsageError("--profile-new looks at samples and goes without --profile, --follow, --watch, --close")
    if profile_new is not None and not cdrs:
        raise click.UsageError("--profile-new NAME needs a sample file of the switch")
    if explain is None and profile_new is None and bool(cdrs) == (watch is not None):
        raise click.UsageError("name files or folders of call records, or --watch DIR; not both")


def mediate_all(cdrs: tuple[str, ...], profile: Any, text: str, out: Path, follow: bool, watch: Path | None, close_: bool,
                as_json: bool) -> None:  # fmt: skip
    from rater.doors.files.drop_folder import watch as watch_folder
    from rater.doors.files.following import STOP
    from rater.doors.files.mediate import MediateRequest, mediate
    from rater.doors.files.show import progress_bar, show_mediation

    request = MediateRequest(list(cdrs), profile.source, profile, text, out, follow, close_)
    if follow or watch is not None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, STOP)
    if watch is not None:
        tally = watch_folder(request, watch, lambda sentence: click.echo(sentence, err=True))
    else:
        with progress_bar(list(cdrs)) as progress:
            tally = mediate(request, progress)
    if as_json:
        print_object(tally.as_object())
    else:
        show_mediation(tally, out)


def explain_one(cdrs: tuple[str, ...], profile: Any, target: str, as_json: bool) -> None:
    from rater.doors.files.mediate_explain import explain, target_of
    from rater.doors.files.mediate_explain_show import show_told

    told = explain(cdrs, profile, target_of(target, sys.stdin.buffer))
    if as_json:
        print_object(told)
    else:
        show_told(told)


def propose_one(name: str, samples: tuple[str, ...], source: str | None, as_json: bool) -> None:
    from rater.doors.files.mediate_new import propose_from, show_proposal

    proposal = propose_from(name, samples, source)
    if as_json:
        print_object(proposal)
    else:
        show_proposal(proposal)
