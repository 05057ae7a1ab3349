"""`rater demo`: a month of three invented companies, as a series of ordinary runs against one state.

The inputs are written first, so that anybody can read them and rate them again; then every run is `rate` as on the
command line, and each thing that happens is told with the event or the file that says so.
"""

import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from rater.doors.clock import stopwatch
from rater.doors.files import demo_traffic as traffic
from rater.doors.files.amounts import exact, grouped, plural, two_decimals
from rater.doors.files.audit import audit
from rater.doors.files.balance import balance
from rater.doors.files.explain import explain
from rater.doors.files.outbox import INDEX, OUTBOX
from rater.doors.files.outputs import EVENTS, OUTPUTS, RATED, REJECTED_CDRS, OutputProblem
from rater.doors.files.rate import RateRequest, Summary, rate
from rater.doors.files.sentences import event_text
from rater.doors.files.show import FILES, MAILS, say, show_audit, show_balance, show_explanation, table_of
from rater.doors.rules import RuleBook, load_rule_book, rates_folder

MARKER = ".rater-demo"
MARKER_TEXT = "rater demo made this folder; the next demo empties it. Take what you want to keep elsewhere.\n"
STATE = "state.db"
DECK = "example-usd"

Lines = Callable[[traffic.Traffic], list[bytes]]


@dataclass(frozen=True, slots=True)
class Chapter:
    """One run: what happens in it, its files, and how recharge requests are answered."""

    title: str
    calls: str
    recharge: str = "none"
    commands: str | None = None


FIRST, SPLIT = "02-first-days.jsonl", "05-one-call.jsonl"
CHAPTERS = (
    Chapter("1-9 November: three companies open their accounts and call", FIRST, "approve", "01-accounts.jsonl"),
    Chapter(
        "10-18 November: the pool gets low, a promotion runs out", "04-middle-days.jsonl", "approve", "03-clock.jsonl"
    ),
    Chapter("19 November: one call takes the pool's last minutes", SPLIT, "approve"),
    Chapter("19-22 November: credits pay, and are recharged", "06-overage-days.jsonl", "approve"),
    Chapter("23-25 November: the card is declined, the balance runs out", "07-declined-days.jsonl", "decline"),
    Chapter("26-30 November: a top-up by hand", "09-last-days.jsonl", "none", "08-top-up.jsonl"),
    Chapter("December: the month is closed, the pools are new", "11-december-days.jsonl", "none", "10-month-end.jsonl"),
    Chapter("The first days' file is delivered a second time", FIRST, "none"),
)


def write_inputs(folder: Path) -> None:
    """Every input of the story, before any of it is rated."""
    flow = traffic.Traffic(random.Random(traffic.SEED))
    calls: dict[str, Lines] = {
        FIRST: traffic.first_days,
        "04-middle-days.jsonl": traffic.middle_days,
        SPLIT: traffic.the_split_call,
        "06-overage-days.jsonl": traffic.overage_days,
        "07-declined-days.jsonl": traffic.declined_days,
        "09-last-days.jsonl": traffic.last_days,
        "11-december-days.jsonl": traffic.december_days,
    }
    commands = {
        "01-accounts.jsonl": traffic.opening_commands,
        "03-clock.jsonl": traffic.clock_commands,
        "08-top-up.jsonl": traffic.top_up_commands,
        "10-month-end.jsonl": traffic.month_end_commands,
    }
    folder.mkdir(parents=True)
    for name, lines in calls.items():
        (folder / name).write_bytes(b"\n".join(lines(flow)) + b"\n")
    for name, made in commands.items():
        (folder / name).write_bytes(b"\n".join(made()) + b"\n")


def prepare(out: Path) -> Path:
    """An empty folder with the demo's mark on it: a new one, an empty one, or one that an earlier demo made."""
    try:
        if out.exists() and not (out / MARKER).is_file() and (not out.is_dir() or any(out.iterdir())):
            raise OutputProblem(
                f"{out}: exists, and holds no {MARKER}, so no demo made it; choose another --out or an empty folder"
            )
        out.mkdir(parents=True, exist_ok=True)
        (out / MARKER).write_text(MARKER_TEXT)
        for name in (*OUTPUTS, STATE, f"{STATE}-wal", f"{STATE}-shm"):
            (out / name).unlink(missing_ok=True)
        for name in ("input", OUTBOX):
            if (out / name).is_dir():
                shutil.rmtree(out / name)
    except OSError as error:
        raise OutputProblem(f"{out}: {error.strerror or error}") from None
    return out / "input"


# --- telling a run ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened, and where it is written."""

    when: str
    what: str
    says: str


class _Tail:
    """What a run has added to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = path.stat().st_size if path.exists() else 0

    def lines(self) -> Iterator[dict[str, Any]]:
        if self._path.exists():
            with self._path.open("rb") as stream:
                stream.seek(self._at)
                yield from map(orjson.loads, stream)


def happenings(rated: list[dict[str, Any]], events: list[dict[str, Any]], summary: Summary) -> list[Happening]:
    """What a newcomer should see of a run, in the order of the data's own time."""
    found = [Happening(e["time"], f"{e['subject']}: {_event_line(e)}", e["type"]) for e in events]
    found += [Happening(line["call"]["end"], told, RATED) for line in rated if (told := _point_at(line))]
    found.sort(key=lambda happening: happening.when)
    overdrawn = [line for line in rated if "overdrawn" in line["flags"]]
    if overdrawn:
        told = f"{plural(len(overdrawn), 'call')} took place though nothing was left to pay them: charged, and flagged"
        found.append(Happening("", f"{traffic.CONTOSO}: {told} 'overdrawn'", RATED))
    counts = summary.counts
    if counts.rejected:
        reasons = ", ".join(sorted(counts.rejected_by_reason))
        found.append(Happening("", f"{plural(counts.rejected, 'record')} rejected: {reasons}", REJECTED_CDRS))
    if counts.duplicates:
        told = f"{plural(counts.duplicates, 'record')} came a second time: counted, and charged nothing"
        found.append(Happening("", told, "the summary"))
    return found


def _event_line(event: dict[str, Any]) -> str:
    return event_text(event["type"], event["data"])


def _point_at(rated: dict[str, Any]) -> str:
    """A sentence about a record of the story, empty for all others."""
    charge = exact(rated["charge_micros"], rated["currency"])
    minutes = plural(rated["billed_minutes"], "minute")
    pool = f"{rated['pool_minutes']} of {minutes} from pool {rated['pool']}"
    told = {
        traffic.THE_EMERGENCY: "an emergency call: free, always",
        traffic.THE_TOLL_FREE: f"somebody in Britain calls the toll-free number for {minutes}: {charge}",
        traffic.THE_CONFERENCE: f"a conference calls Berlin: {pool}",
        traffic.THE_UNKNOWN: f"{minutes} to a number no deck knows: {rated['outcome']}, {charge}",
        traffic.THE_SPLIT: f"{pool}, the other {rated['credit_minutes']} from credits: {charge}",
        traffic.THE_PREMIUM: f"a premium number, no pool asked: {charge}",
        traffic.THE_LATE: f"a call of November that comes late: {rated['outcome']}, {charge}, flags {rated['flags']}",
        traffic.THE_FRESH: f"a new month, a new pool: {pool}",
    }.get(rated["record_id"])
    return f"{rated['tenant']}: {told}" if told else ""


@dataclass(slots=True)
class _Told:
    """How far the story is."""

    chapter: int = 0
    happening: int = 0
    calls: int = 0


def run(chapter: Chapter, out: Path, book: RuleBook, told: _Told) -> None:
    """Rate one chapter and tell what came of it."""
    inputs = out / "input"
    commands = [str(inputs / chapter.commands)] if chapter.commands else []
    request = RateRequest([str(inputs / chapter.calls)], commands, out / STATE, out, chapter.recharge)
    rated, events = _Tail(out / RATED), _Tail(out / EVENTS)
    summary = rate(request, book)
    lines = list(rated.lines())
    told.chapter += 1
    told.calls += summary.counts.read
    charged = (
        " and ".join(two_decimals(amount, name) for name, amount in summary.counts.charge_micros.items()) or "nothing"
    )
    minutes = f"{grouped(summary.counts.pool_minutes)} minutes from pools"
    say("", f"{told.chapter}. {chapter.title}", f"   {_command(request, out)}")
    mails = f", {plural(summary.mails, 'mail')}" if summary.mails else ""
    say(f"   {plural(summary.counts.read, 'call')} in {summary.wall_s:.2f} s: {charged} charged, {minutes}{mails}")
    table = table_of("", "#", "when", "what happened", "which says so", numbers="#")
    for happening in happenings(lines, list(events.lines()), summary):
        told.happening += 1
        table.add_row(str(told.happening), happening.when[:16].replace("T", " "), happening.what, happening.says)
    say(table)


def _command(request: RateRequest, out: Path) -> str:
    """The run as one would type it."""
    words = ["rater rate", *request.calls, *(f"--commands {name}" for name in request.commands)]
    return " ".join([*words, f"--rates {_rates()} --out {out} --recharge {request.recharge}"])


def _rates() -> Path:
    """The deck as one would name it here."""
    deck, here = rates_folder() / DECK, Path.cwd()
    return deck.relative_to(here) if deck.is_relative_to(here) else deck


# --- the whole story -------------------------------------------------------------------------------------------------


def _say_mails(outbox: Path) -> None:
    """Where the mails lie, and how one is opened."""
    mails = sorted(outbox.glob("*/*.eml"))
    declined = next(mail for mail in mails if "recharge_failed-en" in mail.name)
    say("", f"Whom was it told? {plural(len(mails), 'mail')}, in English and French; none was sent.")
    say(f"   a browser shows them all:   {outbox / INDEX}", f"   a mail program opens one:   {declined}")


def demo(out: Path) -> None:
    """The whole loop; leaves its inputs, outputs and state in `out`."""
    seconds = stopwatch()
    inputs = prepare(out)
    write_inputs(inputs)
    book = load_rule_book(rates_folder() / DECK)
    say("Three invented companies, one invented month. The prices are invented too.")
    told = _Told()
    explained: dict[str, Any] = {}
    for chapter in CHAPTERS:
        if chapter.calls == SPLIT:
            explained = explain(book, str(inputs / SPLIT), [], out / STATE)
        run(chapter, out, book, told)
    state = f"--state {out / STATE}"
    say("", "Who has what left?", f"   rater balance {traffic.CONTOSO} {state}")
    show_balance(balance(out / STATE, traffic.CONTOSO))
    say("", "Why did the call of 19 November cost that? Asked before it was rated:")
    say(f"   rater explain --call {inputs / SPLIT} --rates {_rates()} {state}")
    show_explanation(explained)
    say("", "Can the books be trusted?", f"   rater audit {state} --out {out}")
    show_audit(audit(out / STATE, [out]))
    _say_mails(out / OUTBOX)
    table = table_of("Look at", "file", "what it holds")
    table.add_row(str(inputs), "the inputs, in the order in which they were rated")
    for name, what in FILES.items():
        table.add_row(str(out / name), what)
    table.add_row(str(out / OUTBOX / INDEX), MAILS)
    table.add_row(str(out / STATE), "the books; every command above goes on from them")
    say(table)
    say("", f"{grouped(told.calls)} calls, {len(CHAPTERS)} runs, an explanation and an audit in {seconds():.1f} s.")
