"""What people see: tables and progress. Every table also reads well in a file or a pipe, without colour or loss.

Nothing is decided here: each screen is told from the object that `--json` prints, or from a summary.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from rater.doors.decks import LintReport
from rater.doors.files.amounts import bytes_text, exact, grouped, plural, two_decimals
from rater.doors.files.audit import Audited
from rater.doors.files.mediate import CDRS, REJECTED_RAW, Tally
from rater.doors.files.outbox import INDEX, OUTBOX
from rater.doors.files.outputs import EVENTS, JOURNAL, RATED, REJECTED_CDRS, REJECTED_COMMANDS
from rater.doors.files.rate import RateRequest, Summary
from rater.doors.files.sentences import event_text

PIPE_COLUMNS = 1000  # nobody wraps a pipe; tables are only as wide as what stands in them
BAR_CELLS = 20
LINT_ROWS_SHOWN = 50
MONTHS_SHOWN = 12
FEW = 1_000  # of fewer than these, a figure for each says nothing
FILES = {
    RATED: "every rated call: its own bytes, what it cost, who paid",
    EVENTS: "what an account's owner is told: pools, recharges, blocks",
    REJECTED_CDRS: "call records that could not be rated, each with its reason and its bytes",
    REJECTED_COMMANDS: "commands that could not be applied, each with its reason and its bytes",
    JOURNAL: "one line a committed batch: what an audit replays",
}
MAILS = "the mails that the contacts would get, as a browser shows them"


def console() -> Console:
    """Standard output: as wide as the terminal, or as wide as the tables where there is none."""
    plain: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}
    if sys.stdout.isatty():
        return Console(**plain)
    return Console(**plain, width=PIPE_COLUMNS, no_color=True, force_terminal=False)


# --- progress --------------------------------------------------------------------------------------------------------


def _bytes_known(names: list[str]) -> int | None:
    """How many bytes will be read, where every file says so itself: not a pipe, not compressed."""
    total = 0
    for name in names:
        path = Path(name)
        try:
            if not path.is_file():
                return None
            with path.open("rb") as stream:
                if stream.read(2) == b"\x1f\x8b":
                    return None
            total += path.stat().st_size
        except OSError:
            return None
    return total


@contextmanager
def _bar(*columns: Any, total: int | None, label: str) -> Iterator[tuple[Progress, TaskID] | None]:
    """A bar on standard error where that is a terminal, else nothing."""
    if not sys.stderr.isatty():
        yield None
        return
    line = Console(stderr=True)
    with Progress(SpinnerColumn(), *columns, TimeElapsedColumn(), console=line, transient=True) as progress:
        yield progress, progress.add_task(label, total=total)


@contextmanager
def progress_bar(names: list[str]) -> Iterator[Callable[[str, int], None]]:
    """Progress over files: `progress(phase, bytes)` after every batch."""
    total = _bytes_known(names)
    with _bar(TextColumn("{task.description}"), BarColumn(), DownloadColumn(), total=total, label="reading") as bar:
        read = 0

        def step(phase: str, raw_bytes: int) -> None:
            nonlocal read
            read += raw_bytes
            if bar is not None:
                progress, task = bar
                # a switch's own records may be longer once they are canonical: then the end is not known after all
                known = total if total is not None and read <= total else None
                progress.update(task, description=phase, completed=read, total=known)

        yield step


@contextmanager
def counting(label: str) -> Iterator[Callable[[int, int], None]]:
    """Progress over things that can be counted: `progress(done, total)`."""
    counted = TextColumn("{task.completed:,.0f} of {task.total:,.0f}")
    with _bar(TextColumn("{task.description}"), BarColumn(), counted, total=1, label=label) as bar:

        def step(done: int, total: int) -> None:
            if bar is not None:
                progress, task = bar
                progress.update(task, completed=done, total=total)

        yield step


# --- tables ----------------------------------------------------------------------------------------------------------


def table_of(title: str, *columns: str, numbers: str = "") -> Table:
    """A table whose columns named in `numbers` stand to the right; no text is ever cut off."""
    table = Table(title=title or None, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    right = numbers.split()
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", no_wrap=name in right, overflow="fold")
    return table


def _facts(title: str) -> Table:
    """Two columns: what, and how much."""
    table = Table(title=title, box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def say(*things: str | Table) -> None:
    """Lines and tables, one below the other; a table brings its title and an empty line before it."""
    out = console()
    with out.capture() as captured:
        for thing in things:
            if isinstance(thing, Table):
                title, thing.title = thing.title, None
                out.print(Text(f"\n{title}" if title else "", "bold"), soft_wrap=True)
                out.print(thing)
            else:
                out.print(Text(thing), soft_wrap=True)
    lines = captured.get().split("\n")
    text = "\n".join(lines if out.is_terminal else [line.rstrip() for line in lines])
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))


def _listed(counts: dict[str, int]) -> str:
    """`pooled 12, charged 3`, largest first; nothing of what did not happen."""
    some = sorted(((count, name) for name, count in counts.items() if count), key=lambda pair: (-pair[0], pair[1]))
    return ", ".join(f"{name} {grouped(count)}" for count, name in some) or "none"


# --- rater rate ------------------------------------------------------------------------------------------------------


def show_summary(summary: Summary, request: RateRequest) -> None:
    """What a run came to, and where to look."""
    counts = summary.counts
    table = _facts("Interrupted run finished (counts are of the whole run)" if summary.resumed else "Run finished")
    table.add_row("call records read", grouped(counts.read))
    table.add_row("  rated", _with_parts(counts.rated, counts.by_outcome))
    table.add_row("  rejected", _with_parts(counts.rejected, counts.rejected_by_reason))
    table.add_row(
        "  duplicates", grouped(counts.duplicates) + (" (answered the first time)" if counts.duplicates else "")
    )
    if summary.blank_lines:
        table.add_row("blank lines passed over", grouped(summary.blank_lines))
    if summary.skipped:
        table.add_row("source rows that are no call", grouped(summary.skipped))
    if counts.unknown_fields:
        table.add_row("unknown fields, kept", grouped(counts.unknown_fields))
    for currency, charge in sorted(counts.charge_micros.items()):
        table.add_row("charged", two_decimals(charge, currency))
    minutes = f"{grouped(counts.pool_minutes)} from pools, {grouped(counts.credit_minutes)} paid"
    table.add_row("minutes", minutes)
    if counts.commands or counts.commands_rejected or counts.commands_duplicates:
        table.add_row("commands applied", grouped(counts.commands))
        table.add_row("  rejected", grouped(counts.commands_rejected))
        table.add_row("  duplicates", grouped(counts.commands_duplicates))
    events = {kind.removeprefix("rater."): count for kind, count in counts.events_by_type.items()}
    table.add_row("events", _with_parts(counts.events, events))
    if summary.mails:
        table.add_row("mails written, none sent", grouped(summary.mails))
    table.add_row("accounts", grouped(summary.tenants))
    table.add_row("ids kept", _ids(summary))
    table.add_row("time", _pace(0 if summary.resumed else counts.read, summary.wall_s))
    say(table, _files(request.out, request.state))


def show_mediation(tally: Tally, out: Path) -> None:
    """What `rater mediate` made of the records, and where to look."""
    table = _facts("Mediated")
    known = f" ({grouped(tally.files_known)} more were done before)" if tally.files_known else ""
    table.add_row("files", grouped(tally.files) + known)
    table.add_row("records read", _with_parts(tally.read, dict(tally.by_kind)))
    table.add_row("  call records written", grouped(tally.written))
    table.add_row("  connected", f"{grouped(tally.connected)}, {grouped(tally.billed_ms // 1000)} seconds billed")
    table.add_row("  not billed, as the profile says", grouped(tally.not_billed))
    table.add_row("  rejected", _with_parts(tally.rejected, dict(tally.rejected_by_reason)))
    files = table_of("Look at", "file", "what it holds")
    files.add_row(str(out / CDRS), "canonical call records: what `rater rate` reads")
    files.add_row(str(out / REJECTED_RAW), "records that became none, each with its reason and its bytes")
    say(table, files)


def _with_parts(count: int, parts: dict[str, int]) -> str:
    return f"{grouped(count)} ({_listed(parts)})" if count else "0"


def _ids(summary: Summary) -> str:
    text = f"{grouped(summary.ids_kept)} in {bytes_text(summary.ids_bytes)} of memory"
    if summary.ids_kept < FEW:
        return text
    return f"{text}, {summary.ids_bytes // summary.ids_kept} bytes an id"


def _pace(read: int, wall_s: float) -> str:
    pace = f", {grouped(int(read / wall_s))} calls/s with files and state" if wall_s > 0 and read >= FEW else ""
    return f"{wall_s:.2f} s{pace}"


def _files(folder: Path, state: Path) -> Table:
    table = table_of("Look at", "file", "size", "what it holds", numbers="size")
    for name, told in FILES.items():
        path = folder / name
        if path.exists():
            table.add_row(str(path), bytes_text(path.stat().st_size), told)
    if (index := folder / OUTBOX / INDEX).exists():
        table.add_row(str(index), bytes_text(index.stat().st_size), MAILS)
    if state.exists():
        table.add_row(
            str(state),
            bytes_text(state.stat().st_size),
            "the books: `rater balance`, `rater audit`; a later run goes on from here",
        )
    return table


# --- rater explain ---------------------------------------------------------------------------------------------------


def show_explanation(told: dict[str, Any]) -> None:
    """One price, then every step to it."""
    currency, rated = told["currency"], told["rated"]
    charge = exact(told["charge_micros"], currency)
    table = _facts(f"{rated['tenant']} {rated['record_id']}: {told['outcome']}, {charge}")
    paid = f"{told['pool_minutes']} from a pool, {told['credit_minutes']} from credits"
    table.add_row("billed minutes", f"{told['billed_minutes']}: {paid}" if told["billed_minutes"] else "0")
    table.add_row("capability", rated["capability"] or "none")
    balances = (exact(told[key], currency) for key in ("balance_before_micros", "balance_micros"))
    table.add_row("balance", " -> ".join(balances))
    table.add_row("would announce", _listed(_count_types(told["events"])))
    steps = Table(title="Step by step", box=None, show_header=False, pad_edge=False)
    steps.add_column(justify="right", style="dim", no_wrap=True)
    steps.add_column(overflow="fold")
    for number, step in enumerate(told["steps"], 1):
        steps.add_row(str(number), step)
    say(table, steps)


def _count_types(events: list[dict[str, Any]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for event in events:
        name = event["type"].removeprefix("rater.")
        counts[name] = counts.get(name, 0) + 1
    return counts


# --- rater balance ---------------------------------------------------------------------------------------------------


def show_balance(told: dict[str, Any]) -> None:
    """One tenant's books on one screen."""
    parts = (_wallet, _lots, _pools, _months, _licences, _numbers, _events)
    say(*(table for part in parts if (table := part(told)) is not None))


def _wallet(told: dict[str, Any]) -> Table:
    currency, mode = told["currency"], told["billing_mode"].replace("_", "-")
    if mode != "prepaid":
        mode += ", overage on" if told["overage"] else ", overage off"
    table = _facts(f"{told['tenant']} ({told['country']}, {mode}) at {_moment(told['last_seen'])} UTC")
    blocked = ". BLOCKED: calls that credits would pay are refused" if told["blocked"] else ""
    table.add_row(
        "balance", f"{two_decimals(told['balance_micros'], currency)} ({exact(told['balance_micros'])}){blocked}"
    )
    if told["open_calls"]:
        minutes = plural(sum(pool["held"] for pool in told["pools"]), "minute")
        calls = plural(told["open_calls"], "authorized call")
        table.add_row("held", f"{exact(told['held_micros'], currency)} and {minutes} of pools for {calls}")
    if told["debt_micros"]:
        table.add_row("debt", exact(told["debt_micros"], currency))
    if told["billing_mode"] != "prepaid" or told["invoice_micros"]:
        table.add_row("invoice so far", exact(told["invoice_micros"], currency))
    table.add_row("recharge", _recharge(told["recharge"], currency))
    table.add_row("account version", grouped(told["account_version"]))
    return table


def _recharge(recharge: dict[str, Any], currency: str) -> str:
    if not recharge["enabled"]:
        return "off"
    amount, trigger = (two_decimals(recharge[key], currency) for key in ("amount_micros", "trigger_micros"))
    text = f"{amount} when the balance falls below {trigger}"
    if recharge["in_flight"]:
        text += f"; {recharge['in_flight']} in flight"
    if recharge["failures"]:
        declined = plural(recharge["failures"], "time")
        text += f"; declined {declined} in a row, asks again at a debit from {recharge['wait_until']}"
    return text


def _moment(instant: str) -> str:
    """An instant without its T, and without milliseconds where there are none."""
    return instant.removesuffix("Z").removesuffix(".000").replace("T", " ")


def _lots(told: dict[str, Any]) -> Table | None:
    if not told["lots"]:
        return None
    table = table_of("Lots, in the order they are drawn", "lot", "left", "of", "added", "expires", numbers="left of")
    for lot in told["lots"]:
        left, whole = exact(lot["left_micros"]), exact(lot["amount_micros"])
        table.add_row(lot["lot_id"], left, whole, _moment(lot["added_at"]), _moment(lot["expires_at"] or "never"))
    return table


def _pools(told: dict[str, Any]) -> Table | None:
    if not told["pools"]:
        return None
    table = table_of("Pools of minutes", "pool", "", "used", "of", "left", numbers="used of left")
    for pool in told["pools"]:
        used, capacity = pool["used"], pool["capacity"]
        table.add_row(pool["pool"], _usage_bar(used, capacity), grouped(used), grouped(capacity), grouped(pool["left"]))
    return table


def _usage_bar(used: int, capacity: int) -> str:
    """Full only when nothing is left, empty only when nothing is used."""
    full, empty = ("█", "░") if (sys.stdout.encoding or "ascii").lower().startswith("utf") else ("#", ".")
    if used >= capacity:
        cells = BAR_CELLS
    else:
        cells = min(max(used * BAR_CELLS // capacity, int(used > 0)), BAR_CELLS - 1)
    percent = used * 100 // capacity if capacity else 100
    return f"{full * cells}{empty * (BAR_CELLS - cells)} {percent:>3} %"


def _months(told: dict[str, Any]) -> Table | None:
    if not told["months"]:
        return None
    title = f"Months, the last {MONTHS_SHOWN}" if len(told["months"]) > MONTHS_SHOWN else "Months"
    columns = ("calls", "connected", "minutes of pools", "of credits", "charged", "late")
    table = table_of(title, "month", *columns, "summary", numbers=" ".join(columns))
    for month in told["months"][:MONTHS_SHOWN]:
        counts = (month[name] for name in ("calls", "connected_calls", "pool_minutes", "credit_minutes"))
        charged, late = exact(month["charge_micros"]), grouped(month["late_calls"])
        summary = "told" if month["told"] else "open"
        table.add_row(month["month"], *map(grouped, counts), charged, late, summary)
    return table


def _licences(told: dict[str, Any]) -> Table | None:
    if not told["licences"]:
        return None
    held: dict[str, list[str]] = {}
    for licence in told["licences"]:
        held.setdefault(licence["user"], []).append(f"{licence['plan']} {licence['country']}")
    table = table_of(f"Licences ({plural(len(held), 'user')})", "user", "holds")
    for user, plans in held.items():
        table.add_row(user, ", ".join(plans))
    return table


def _numbers(told: dict[str, Any]) -> Table | None:
    if not told["numbers"]:
        return None
    table = table_of("Numbers", "number", "type", "country")
    for number in told["numbers"]:
        table.add_row(number["number"], number["number_type"], number["country"])
    return table


def _events(told: dict[str, Any]) -> Table | None:
    if not told["recent_events"]:
        return None
    table = table_of("Recent events, newest first", "time", "event", "about")
    for event in told["recent_events"]:
        about = event_text(event["type"], event["data"])
        table.add_row(_moment(event["time"]), event["type"].removeprefix("rater."), about)
    return table


# --- rater audit, rater deck lint ------------------------------------------------------------------------------------


def show_audit(audited: Audited) -> None:
    """The verdict, and what it rests on."""
    charges = ", ".join(two_decimals(amount, currency) for currency, amount in sorted(audited.charge_micros.items()))
    table = _facts("The books agree with the log, to the byte")
    for part in fields(audited):
        if part.name != "charge_micros":
            table.add_row(part.name, grouped(getattr(audited, part.name)))
    table.add_row("charged", charges or "nothing")
    say(table)


def show_partitions_audited(told: dict[str, Any]) -> None:
    """What `rater audit --bootstrap --json` prints, as a table and a verdict; what does not agree goes first."""
    partitions: list[dict[str, Any]] = told["partitions"]
    things: list[Any] = []
    for one in partitions:
        for problem, verb in ((one["difference"], "does not agree"), (one["cannot"], "cannot be audited")):
            if problem is not None:
                things.append(f"partition {one['partition']} {verb}: {problem}")
    columns = (
        "partition",
        "batches",
        "commands",
        "calls",
        "rated",
        "rejected",
        "duplicates",
        "forwarded",
        "events",
        "tenants",
    )
    table = table_of("", *columns, "balance", "verdict", numbers=" ".join((*columns, "balance")))
    for one in partitions:
        verdict = "agrees" if one["ok"] else "differs" if one["difference"] is not None else "not audited"
        table.add_row(*(grouped(one[name]) for name in columns), _amounts(one["balance_micros"]), verdict)
    things.append(table)
    things.append(f"charged {_amounts(told['charge_micros'])}; balances {_amounts(told['balance_micros'])}")
    if not all(one["group_checked"] for one in partitions if one["ok"] and one["batches"]):
        things.append("The group's offsets were not looked at: no --app-id")
    gone = sum(one["gone"] for one in partitions)
    if gone:
        things.append(f"{plural(gone, 'output record')} had been taken by retention and could not be compared")
    for one in partitions:
        if one["first_batch"] > 1:
            things.append(
                f"partition {one['partition']}: batches before {one['first_batch']} were taken from a snapshot, their inputs are gone"
            )
    things.append(
        "The topics agree with the replay, to the byte" if told["ok"] else "The topics do not agree with the replay"
    )
    say(*things)


def _amounts(amounts: dict[str, int]) -> str:
    return ", ".join(two_decimals(amount, currency) for currency, amount in sorted(amounts.items())) or "nothing"


def show_lint(report: LintReport) -> None:
    """Errors first; the rows that do not fit the screen are counted by rule."""
    findings = [*report.errors, *report.warnings]
    shown, rest = findings[:LINT_ROWS_SHOWN], findings[LINT_ROWS_SHOWN:]
    things: list[Any] = []
    if shown:
        table = table_of(report.folder, "place", "level", "rule", "found", "expected")
        for finding in shown:
            place = f"{finding.file}:{finding.line}" if finding.line else finding.file
            table.add_row(place, finding.level, finding.rule, finding.found, finding.expected)
        things.append(table)
    if rest:
        by_rule: dict[str, int] = {}
        for finding in rest:
            by_rule[finding.rule] = by_rule.get(finding.rule, 0) + 1
        things.append(f"{grouped(len(rest))} more: {_listed(by_rule)}; --json lists them all")
    rows = f"{plural(report.rows, 'outbound row')}, {plural(report.inbound_rows, 'inbound row')}"
    verdict = "refused" if report.errors else "usable"
    levels = f"{plural(len(report.errors), 'error')}, {plural(len(report.warnings), 'warning')}"
    say(*things, f"{report.folder}: {verdict}; {rows}; {levels}")
