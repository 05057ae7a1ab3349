"""The front door: one command line, `rater --help`.

It introduces the doors to each other and turns what they refuse into one sentence and an exit status:
0 done, 1 a check failed, 2 wrong usage, configuration or deck. A user never sees a stack trace.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from rater.doors.files.mediate_command import mediate_command
from rater.doors.files.mediate_command import source_profile as source_profile_of
from rater.doors.history.advise_command import advise_command
from rater.doors.history.commands import Introduced
from rater.doors.history.question_commands import history_group
from rater.doors.http.command import make_api_command
from rater.doors.kafka.activate_command import activate_command
from rater.doors.kafka.commands import require_kafka, topics_group
from rater.doors.kafka.traffic_command import make_traffic_command
from rater.doors.service.mediation_command import make_mediation_command
from rater.doors.service.notification_command import notification_agent_command
from rater.doors.service.recharge_command import make_recharge_command

FILE = click.Path(path_type=Path)

HELP = """Rate call records and debit minute pools and credits, exactly once.

\b
First look:         rater demo
Rate a file:        rater rate calls.jsonl --rates rates/example-usd --commands accounts.jsonl --out rated
Go on tomorrow:     rater rate more.jsonl.gz --rates rates/example-usd --state rated/state.db --out rated
Why this price:     rater explain --rates rates/example-usd --state rated/state.db --call call.json
Who has what left:  rater balance contoso --state rated/state.db
Prove the books:    rater audit --state rated/state.db --out rated
                    rater audit --bootstrap kafka1:9092 --app-id rating-eu --rates rates/example-usd
Check a deck:       rater deck lint rates/example-usd
From Kafka:         rater worker --config worker.toml
What was used:      rater history load rated && rater history export contoso --month 2026-11
When to recharge:   rater advise contoso
From a switch:      rater rate Master.csv --source asterisk-csv --profile pbx.toml --rates rates/example-usd

Exit status: 0 done (rejections included), 1 a check failed, 2 wrong usage, configuration or deck.
"""


class _Problem(click.ClickException):
    """Wrong usage, configuration or deck: one sentence, exit status 2."""

    exit_code = 2

    def show(self, file: Any = None) -> None:  # noqa: ARG002  # click's signature
        click.echo(f"rater: {self.format_message()}", err=True)


def _fail(message: str, status: int) -> None:
    click.echo(f"rater: {message}", err=True)
    sys.exit(status)


def _print_json(value: Any) -> None:
    import orjson

    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n")
    sys.stdout.flush()


def _load_rules(rates: Path, plans: Path | None) -> Any:
    from rater.core.plans import PlansRefused
    from rater.doors.decks import DeckRefused
    from rater.doors.rules import load_rule_book

    try:
        return load_rule_book(rates, plans)
    except (DeckRefused, PlansRefused) as refused:
        raise _Problem(str(refused)) from None
    except OSError as error:
        raise _Problem(f"{error.filename}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise _Problem(f"{plans or rates}: byte {error.start} is not UTF-8; expected a text file in UTF-8") from None


def _expected_problems() -> tuple[type[Exception], ...]:
    from rater.doors.files.balance import UnknownTenant
    from rater.doors.files.inputs import InputProblem
    from rater.doors.files.mediate import MediationProblem
    from rater.doors.files.outputs import OutputProblem
    from rater.doors.files.store import StateProblem
    from rater.doors.history.store import HistoryProblem
    from rater.doors.kafka.log import LogProblem
    from rater.doors.settings.values import SettingsRefused

    return (
        InputProblem, MediationProblem, OutputProblem, StateProblem, UnknownTenant, LogProblem, SettingsRefused,
        HistoryProblem,
    )  # fmt: skip


def _prepare_engine(with_kafka: bool = False) -> None:
    from importlib.util import find_spec

    from rater.doors.files.warm_up import prepare_engine

    if with_kafka and find_spec("aiokafka") is not None:
        from rater.doors.kafka.rehearsal import rehearse

        prepare_engine({"kafka": rehearse})
    else:
        prepare_engine()


@click.group(help=HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="rater")
def cli() -> None:
    """See HELP."""


@cli.command("rate")
@click.argument("calls", nargs=-1, metavar="CDRS...")
@click.option("--rates", required=True, type=FILE, help="Deck folder, or a folder of deck folders (one a currency).")
@click.option(
    "--commands", multiple=True, metavar="FILE", help="Account commands, applied before the calls. Repeatable."
)
@click.option("--state", type=FILE, help="State file; a later run goes on where the last one ended. [OUT/state.db]")
@click.option("--out", type=FILE, default=Path("rated"), show_default=True, help="Folder of the output files.")
@click.option("--recharge", type=click.Choice(["none", "approve", "decline"]), default="none", show_default=True,
              help="Answer recharge requests at once.")  # fmt: skip
@click.option(
    "--source",
    default="canonical",
    show_default=True,
    help="What wrote the call records: canonical, or a switch; `rater mediate --source help` lists what is read.",
)
@click.option("--profile", type=FILE, help="Source profile (TOML): zone, layout, tenants, numbers.")
@click.option("--plans", type=FILE, help="Calling plans (CSV). [beside the decks, else the shipped ones]")
@click.option("--abandon-unfinished", is_flag=True, help="Leave the rest of an interrupted run undone.")
@click.option(
    "--outbox/--no-outbox",
    default=True,
    show_default=True,
    help="Write the mails for the contacts of `contacts.set` to OUT/outbox; nothing is sent.",
)
@click.option("--json", "as_json", is_flag=True, help="One object on standard output and nothing else.")
def rate_command(calls: tuple[str, ...], rates: Path, commands: tuple[str, ...], state: Path | None, out: Path,
                 recharge: str, source: str, profile: Path | None, plans: Path | None, abandon_unfinished: bool,
                 outbox: bool, as_json: bool) -> None:  # fmt: skip
    """Rate files of call records (JSON lines, .gz, or - for standard input).

    \b
    rater rate monday.jsonl tuesday.jsonl.gz --rates rates/example-usd --commands accounts.jsonl
    zcat calls.gz | rater rate - --rates rates/example-usd --state billing.db --out rated --json
    rater rate may.jsonl --rates rates/example-usd --commands accounts.jsonl --recharge approve   # mails: rated/outbox/index.html
    rater rate Master.csv --source asterisk-csv --profile pbx.toml --rates rates/example-usd

    Exactly once: interrupted at any moment, the same command again ends in the same bytes. Records delivered twice are
    counted and dropped. Bad records end in rejected-cdrs.jsonl with their bytes, a reason and their place.
    """
    from rater.doors.files.rate import RateRequest, rate, settings_from_environment, summary_object
    from rater.doors.files.show import progress_bar, show_summary

    if not calls and not commands:
        raise click.UsageError("nothing to do: name files of call records, or --commands, or both")
    source_profile, profile_text = source_profile_of(source, profile)
    _prepare_engine()
    try:
        settings = settings_from_environment()
    except ValueError as error:
        raise _Problem(str(error)) from None
    request = RateRequest(list(calls), list(commands), state or out / "state.db", out, recharge, source, source_profile,
                          profile_text, abandon_unfinished=abandon_unfinished, outbox=outbox, **settings)  # fmt: skip
    book = _load_rules(rates, plans)
    with progress_bar([*commands, *calls]) as progress:
        summary = rate(request, book, progress)
    if as_json:
        _print_json(summary_object(summary, request))
    else:
        show_summary(summary, request)


@cli.command("explain")
@click.option("--rates", required=True, type=FILE, help="Deck folder, or a folder of deck folders.")
@click.option("--call", required=True, metavar="FILE|-", help="One call record.")
@click.option("--commands", multiple=True, metavar="FILE", help="Account commands to imagine first. Repeatable.")
@click.option("--state", type=FILE, help="The state to explain against; it is not changed.")
@click.option("--plans", type=FILE, help="Calling plans (CSV). [beside the decks, else the shipped ones]")
@click.option("--json", "as_json", is_flag=True, help="One object on standard output and nothing else.")
def explain_command(rates: Path, call: str, commands: tuple[str, ...], state: Path | None, plans: Path | None,
                    as_json: bool) -> None:  # fmt: skip
    """Every step to the price of one call; changes nothing.

    \b
    rater explain --rates rates/example-usd --state rated/state.db --call call.json
    echo '{"record_id":"x", ...}' | rater explain --rates rates/example-usd --commands accounts.jsonl --call -
    """
    from rater.doors.files.explain import CallRefused, explain
    from rater.doors.files.show import show_explanation

    _prepare_engine()
    book = _load_rules(rates, plans)
    try:
        told = explain(book, call, list(commands), state)
    except CallRefused as refused:
        _fail(str(refused), 1)
        return
    if as_json:
        _print_json(told)
    else:
        show_explanation(told)


@cli.command("balance")
@click.argument("tenant")
@click.option("--state", required=True, type=FILE, help="State file of `rater rate`.")
@click.option("--json", "as_json", is_flag=True, help="One object on standard output and nothing else.")
def balance_command(tenant: str, state: Path, as_json: bool) -> None:
    """Wallet, lots, pools, licences, recharge and recent events of one tenant.

    \b
    rater balance contoso --state rated/state.db
    """
    from rater.doors.files.balance import balance
    from rater.doors.files.show import show_balance

    told = balance(state, tenant)
    if as_json:
        _print_json(told)
    else:
        show_balance(told)


@cli.command("audit")
@click.option("--state", type=FILE, help="State file of `rater rate`.")
@click.option("--out", multiple=True, type=FILE, help="Folder of the output files. Repeatable.")
@click.option("--bootstrap", metavar="HOST:PORT,...", help="The brokers: audit topics. [RATER_BOOTSTRAP_SERVERS]")
@click.option("--app-id", metavar="TEXT", help="Group of the workers, a witness too. [RATER_APP_ID, else not asked]")
@click.option("--topic-prefix", metavar="TEXT", help="Before every topic's name. [RATER_TOPIC_PREFIX, else none]")
@click.option("--rates", type=FILE, help="Decks that the topics name. [RATER_RATES]")
@click.option("--state-dir", type=FILE, help="A worker's folder: older decks, snapshots. [RATER_STATE_DIR, else none]")
@click.option("--partition", "partitions", multiple=True, type=int, help="Only this one. Repeatable. [all]")
@click.option("--config", type=FILE, help="Settings of a worker (TOML); variables RATER_* win over it.")
@click.option("--json", "as_json", is_flag=True, help="One object on standard output and nothing else.")
def audit_command(state: Path | None, out: tuple[Path, ...], bootstrap: str | None, app_id: str | None,
                  topic_prefix: str | None, rates: Path | None, state_dir: Path | None, partitions: tuple[int, ...],
                  config: Path | None, as_json: bool) -> None:  # fmt: skip
    """Derive every balance again from the log; exit status 1 and the first difference if there is any.

    \b
    rater audit --state rated/state.db --out rated
    rater audit --bootstrap kafka1:9092 --app-id rating-eu --rates /etc/rater/rates --state-dir /var/lib/rater
    rater audit --config worker.toml --partition 7

    Of topics it replays each partition and compares every record of every output, the journal, the newest row of each key
    of rater-state, and the group's offsets. It joins no group, writes nothing, and may run beside live workers.
    """
    of_topics = {
        "--bootstrap": bootstrap, "--app-id": app_id, "--topic-prefix": topic_prefix, "--rates": rates,
        "--state-dir": state_dir, "--partition": partitions or None, "--config": config,
    }  # fmt: skip
    given = [name for name, value in of_topics.items() if value is not None]
    if state is not None or out:
        if given:
            raise click.UsageError(f"{given[0]} goes with topics, --state and --out with files; audit one of them")
        if state is None or not out:
            raise click.UsageError("files need both: --state FILE and --out FOLDER")
        _audit_files(state, out, as_json)
    elif bootstrap is None and config is None and "RATER_BOOTSTRAP_SERVERS" not in os.environ:
        raise click.UsageError("audit what? --state FILE --out FOLDER for files, --bootstrap HOST:PORT for topics")
    else:
        _audit_topics(bootstrap, app_id, topic_prefix, rates, state_dir, partitions, config, as_json)


def _audit_files(state: Path, out: tuple[Path, ...], as_json: bool) -> None:
    from rater.doors.differences import Difference
    from rater.doors.files.audit import audit
    from rater.doors.files.show import counting, show_audit

    _prepare_engine()
    try:
        with counting("auditing") as progress:
            audited = audit(state, list(out), progress)
    except Difference as difference:
        if as_json:
            _print_json({"ok": False, "difference": str(difference)})
            sys.exit(1)
        _fail(f"the books do not agree: {difference}", 1)
        return
    if as_json:
        from dataclasses import asdict

        _print_json({"ok": True, **asdict(audited)})
    else:
        show_audit(audited)


def _audit_topics(bootstrap: str | None, app_id: str | None, topic_prefix: str | None, rates: Path | None,
                  state_dir: Path | None, partitions: tuple[int, ...], config: Path | None, as_json: bool) -> None:  # fmt: skip
    require_kafka()
    from rater.doors.files.show import counting, show_partitions_audited
    from rater.doors.kafka.audit_command import audit_object, audit_topics
    from rater.doors.kafka.settings import load_audit_settings

    settings = load_audit_settings(
        config, bootstrap_servers=bootstrap, app_id=app_id, topic_prefix=topic_prefix,
        rates=None if rates is None else str(rates), state_dir=None if state_dir is None else str(state_dir),
    )  # fmt: skip
    _prepare_engine(with_kafka=True)
    _load_rules(settings.rates, settings.plans)  # refused in the words of every command
    with counting("auditing batches") as progress:
        found = audit_topics(settings, partitions, progress)
    told = audit_object(found)
    if as_json:
        _print_json(told)
    else:
        show_partitions_audited(told)
    if not told["ok"]:
        sys.exit(1)


@cli.command("demo")
@click.option("--out", type=FILE, default=Path("demo"), show_default=True, help="Folder the demo leaves its files in.")
def demo_command(out: Path) -> None:
    """The whole loop on invented traffic, no broker: rate, debit, pool 80 %, recharge, balance zero, summary."""
    from rater.doors.files.demo import demo

    _prepare_engine()
    demo(out)


@cli.command("worker")
@click.option("--config", type=FILE, help="Settings (TOML); variables RATER_* win over it.")
@click.option("--bootstrap", metavar="HOST:PORT,...", help="The brokers. [RATER_BOOTSTRAP_SERVERS]")
def worker_command(config: Path | None, bootstrap: str | None) -> None:
    """Rate calls from Kafka, exactly once, until stopped.

    \b
    rater topics create --partitions 12 --replication-factor 3 --bootstrap kafka1:9092
    export RATER_APP_ID=rating-eu RATER_BOOTSTRAP_SERVERS=kafka1:9092,kafka2:9092
    export RATER_RATES=/etc/rater/rates RATER_STATE_DIR=/var/lib/rater
    rater worker

    Start as many as you like, up to one a partition: the group shares the partitions out. SIGTERM finishes the
    transaction under way and gives the partitions back. http://127.0.0.1:6066/partitions says what each is doing.
    """
    require_kafka()
    from rater.doors.kafka.settings import load_worker_settings
    from rater.doors.kafka.worker import run_worker

    settings = load_worker_settings(config, bootstrap_servers=bootstrap)
    _prepare_engine(with_kafka=True)
    run_worker(settings)


@cli.command("warm-up")
@click.option("--part", type=click.Choice(["commands", "calls"]), hidden=True)
def warm_up_command(part: str | None) -> None:
    """Compile the engine now, so that no later start has to (for images and installs)."""
    from rater.doors.files.warm_up import compile_part

    if part is not None:
        compile_part(part)
    else:
        _prepare_engine(with_kafka=True)


@cli.group("deck")
def deck_group() -> None:
    """Rate decks."""


@deck_group.command("lint")
@click.argument("deck", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="One object on standard output and nothing else.")
def deck_lint_command(deck: Path, as_json: bool) -> None:
    """Find what is wrong or odd in a deck: file, line, what was found, what was expected.

    \b
    rater deck lint rates/example-usd

    Exit status 1 if there is an error (the deck would be refused), 0 if there are only warnings.
    """
    from rater.doors.decks import lint_deck
    from rater.doors.files.show import show_lint

    report = lint_deck(deck)
    if as_json:
        _print_json(report.to_json())
    else:
        show_lint(report)
    if report.errors:
        sys.exit(1)


async def _require_topics(connection: Any, names: Any) -> None:
    from rater.doors.kafka.presence import require_topics

    await require_topics(connection, names)


def _run(command: click.Command, args: list[str] | None = None) -> int:
    try:
        return int(command.main(args=args, prog_name="rater", standalone_mode=False) or 0)
    except click.ClickException as wrong:
        wrong.show()
        return wrong.exit_code
    except SystemExit as stop:
        return int(stop.code or 0)
    except BrokenPipeError:
        return 0
    except _expected_problems() as problem:
        click.echo(f"rater: {problem}", err=True)
        return 2
    except (KeyboardInterrupt, click.Abort):
        click.echo("rater: interrupted; the same command goes on from the last committed batch", err=True)
        return 130
    except Exception as error:
        if "RATER_TRACEBACK" in os.environ:
            raise
        click.echo(
            f"rater: unexpected: {type(error).__name__}: {error}. Nothing uncommitted counts. Set RATER_TRACEBACK=1 to see where.",
            err=True,
        )
        return 2


def _committed_lengths(state: Path, out: Path) -> dict[str, int]:
    from rater.doors.files.committed import committed_lengths

    return committed_lengths(state, out)


def _live_calls(now_ms: int) -> Any:
    from rater.doors.files.demo_live import LiveTraffic

    return LiveTraffic(now_ms)


@contextmanager
def _open_history(target: str) -> Iterator[Any]:
    from rater.doors.history.answers import HistoryAnswers
    from rater.doors.history.opening import open_history

    store = open_history(target)
    try:
        yield HistoryAnswers(store)
    finally:
        store.close()


def _require_http() -> None:
    from importlib.util import find_spec

    if any(find_spec(name) is None for name in ("fastapi", "uvicorn", "aiohttp")):
        raise _Problem(
            "rater api needs fastapi and uvicorn; install rater with its extra, in a checkout: pip install '.[http,kafka]'"
        )


def _open_tail(connection: Any, prefix: str) -> Any:
    require_kafka()
    from rater.doors.history.store import TOPICS
    from rater.doors.kafka.tail import open_tail

    _prepare_engine(with_kafka=True)
    return open_tail(connection, prefix, TOPICS)


def _make_follower(connection: Any, prefix: str, listener: Any) -> Any:
    from rater.doors.kafka.follow import make_follower

    return make_follower(connection, prefix, listener)


history_group.context_settings["obj"] = Introduced(_committed_lengths, _open_tail)
cli.add_command(make_api_command(_open_history, _require_http, _make_follower))
cli.add_command(advise_command)
cli.add_command(history_group)
cli.add_command(mediate_command)
cli.add_command(notification_agent_command)
cli.add_command(topics_group)
cli.add_command(make_traffic_command(_live_calls))
cli.add_command(make_mediation_command(require_kafka, _require_topics))
cli.add_command(make_recharge_command(require_kafka, _require_topics))
deck_group.add_command(activate_command)


def main() -> None:
    sys.exit(_run(cli))


if __name__ == "__main__":
    main()
