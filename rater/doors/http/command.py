"""`rater api`: serve balances, usage and changes over HTTP; `rater api token`: who may ask."""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rater.doors.listening import Follower, Listener
    from rater.doors.questions import History
    from rater.doors.settings.connection import Connection

FILE = click.Path(path_type=Path)
OpenHistory = Callable[[str], AbstractContextManager["History"]]
MakeFollower = Callable[["Connection", str, "Listener"], "Follower"]
DAY_MS = 86_400_000
HELP = """Answer for balances, pools and usage over HTTP, and take changes to accounts.

\b
rater api token create finance --tenant contoso --scope funds      # shown once
rater api token create switch-1 --tenant '*' --scope authorize     # may a call start? POST /v1/authorize
export RATER_HISTORY_STORE=/var/lib/rater/history.db RATER_API_FILE=/var/lib/rater/api.db
export RATER_API_WORKERS=127.0.0.1:6066 RATER_BOOTSTRAP_SERVERS=kafka1:9092
rater api
curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:6070/v1/tenants/contoso/balance

Without workers no balance is answered, without a history no usage, without brokers nothing can be changed and no call authorized. It listens on this machine alone;
elsewhere it wants a certificate. http://127.0.0.1:6070/docs shows every question. SIGTERM ends it after the requests under way.
"""

file_option = click.option(
    "--file", "file", default="api.db", show_default=True, envvar="RATER_API_FILE", type=FILE, help="The API's own file. [RATER_API_FILE]"
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="One object on standard output and nothing else.")


def make_api_command(
    open_history: OpenHistory, require_packages: Callable[[], None], make_follower: MakeFollower
) -> click.Group:
    """The commands, given how the front door opens a history, checks for the packages and follows the log."""

    @click.group("api", help=HELP, short_help="Balances, usage and changes over HTTP.", invoke_without_command=True)
    @click.option("--config", type=FILE, help="Settings (TOML); variables RATER_* win over it.")
    @click.option("--port", metavar="PORT", help="Where to listen. [RATER_API_PORT, else 6070]")
    @click.pass_context
    def api_group(context: click.Context, config: Path | None, port: str | None) -> None:
        if context.invoked_subcommand is not None:
            return
        require_packages()
        from rater.doors.http.database import ApiProblem
        from rater.doors.http.serve import run_api
        from rater.doors.http.settings import load_api_settings

        settings = load_api_settings(config, api_port=port)
        with nullcontext(None) if settings.history is None else open_history(settings.history) as history:
            try:
                run_api(settings, history, make_follower)
            except ApiProblem as problem:
                raise click.UsageError(str(problem)) from None

    api_group.add_command(token_group)
    return api_group


@click.group("token")
def token_group() -> None:
    """Who may ask: tokens, kept as hashes in the API's file. A change counts from the next request on."""


@token_group.command("create")
@click.argument("label")
@click.option("--tenant", "tenants", multiple=True, required=True, help="Which tenant; * for all. Repeatable.")
@click.option("--scope", type=click.Choice(["read", "funds", "admin", "authorize"]), default="read", show_default=True,
              help="read: questions. funds: also funds and recharge settings. admin: everything. authorize: may a call start, and nothing else.")  # fmt: skip
@click.option("--days", type=click.IntRange(1, 3_650), help="In force for so many days. [until revoked]")
@file_option
@json_option
def create_command(
    label: str, tenants: tuple[str, ...], scope: str, days: int | None, file: Path, as_json: bool
) -> None:
    """Make a token and show it, once.

    \b
    rater api token create finance --tenant contoso --scope funds --days 365
    rater api token create dashboard --tenant '*'
    rater api token create switch-1 --tenant '*' --scope authorize
    """
    from rater.doors.clock import wall_ms

    now_ms = wall_ms()
    expires_ms = None if days is None else now_ms + days * DAY_MS
    text = _with(file, lambda tokens: tokens.create(label, scope, tenants, now_ms, expires_ms), make=True)
    if as_json:
        _print({"token": text, "label": label, "scope": scope, "tenants": list(tenants), "expires_ms": expires_ms})
        return
    click.echo(text)
    click.echo("Keep it now: it cannot be shown again.", err=True)


@token_group.command("list")
@file_option
@json_option
def list_command(file: Path, as_json: bool) -> None:
    """The tokens there are, without their secrets."""
    from rater.core.instants import instant_text

    told = _with(file, lambda tokens: tokens.listed())
    if as_json:
        _print({"tokens": told})
        return
    for one in told:
        state = f"revoked {instant_text(one['revoked_ms'])}" if one["revoked_ms"] else "in force"
        if one["expires_ms"] and not one["revoked_ms"]:
            state = f"until {instant_text(one['expires_ms'])}"
        click.echo(f"{one['id']}  {one['scope']:9}  {state}  {one['label']}  {' '.join(one['tenants'])}")


@token_group.command("revoke")
@click.argument("token_id", metavar="ID")
@file_option
def revoke_command(token_id: str, file: Path) -> None:
    """Refuse a token from the next request on; `rater api token list` shows the ids.

    \b
    rater api token revoke 1f2e3d4c
    """
    from rater.doors.clock import wall_ms

    _with(file, lambda tokens: tokens.revoke(token_id, wall_ms()))
    click.echo(f"token {token_id} is revoked")


def _with(file: Path, act: Callable[[Any], Any], make: bool = False) -> Any:
    from rater.doors.http.database import ApiProblem, Database
    from rater.doors.http.tokens import Tokens

    try:
        database: Database = Database(file, make=make)
        try:
            return act(Tokens(database))
        finally:
            database.close()
    except ApiProblem as problem:
        raise click.UsageError(str(problem)) from None


def _print(value: Any) -> None:
    import orjson

    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n")
    sys.stdout.flush()
