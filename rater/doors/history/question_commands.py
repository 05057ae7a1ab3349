"""`rater history usage|export|after-pool|recharges|events|daily`: the questions a tenant may ask."""

from pathlib import Path

import click

from rater.doors.history.commands import history_group
from rater.doors.history.options import (
    FILE,
    PAGE_MAX,
    filter_options,
    history_option,
    json_option,
    month_options,
    opened,
    print_object,
    with_options,
)

__all__ = ["history_group"]  # with the questions in it


@history_group.command("usage")
@click.argument("tenant")
@with_options(*filter_options)
@click.option("--after", metavar="PLACE", help="The page behind: what the page before gave as next.")
@click.option("--limit", type=click.IntRange(1, PAGE_MAX), default=50, show_default=True, help="Calls a page.")
@history_option
@json_option
def usage_command(tenant: str, user: str | None, call_types: tuple[str, ...], capabilities: tuple[str, ...],
                  outcomes: tuple[str, ...], month: str | None, begin: str | None, end: str | None, after: str | None,
                  limit: int, history: str, as_json: bool) -> None:  # fmt: skip
    """Calls of a tenant in the order of their start, a page at a time.

    \b
    rater history usage contoso --month 2026-11 --user u-1842
    rater history usage contoso --capability MCOPSTNPP --from 2026-11-01 --to 2026-12-01 --limit 1000 --json
    """
    from rater.doors.history import objects, queries
    from rater.doors.history.asking import filter_of
    from rater.doors.history.show import show_usage

    wanted = filter_of(user, call_types, capabilities, outcomes, month, begin, end)
    with opened(history) as store:
        page = queries.usage(store, tenant, wanted, after, limit)
    print_object(objects.usage_page(page)) if as_json else show_usage(tenant, page)


@history_group.command("export")
@click.argument("tenant")
@with_options(*filter_options)
@click.option("--format", "form", type=click.Choice(["csv", "xlsx", "parquet"]), default="csv", show_default=True)
@click.option("--out", type=FILE, help="The file. [PSTN.calls.TENANT.FORMAT]")
@click.option("--columns", type=click.Choice(["usage", "newer", "detail"]), default="usage", show_default=True,
              help="The portal's columns; its newer ones too; or also who paid which part, and at which price.")  # fmt: skip
@click.option(
    "--mask", "mask_country", metavar="COUNTRY", help="Mask the other party's number as this country asks for."
)
@history_option
@json_option
def export_command(tenant: str, user: str | None, call_types: tuple[str, ...], capabilities: tuple[str, ...],
                   outcomes: tuple[str, ...], month: str | None, begin: str | None, end: str | None, form: str,
                   out: Path | None, columns: str, mask_country: str | None, history: str, as_json: bool) -> None:  # fmt: skip
    """A tenant's usage as CSV, XLSX or Parquet, in the columns of the PSTN usage export.

    \b
    rater history export contoso --month 2026-11
    rater history export contoso --month 2026-11 --format xlsx --out november.xlsx --columns detail
    rater history export contoso --month 2026-11 --mask DE           the last three digits of the other party go

    Charges have two decimals here, half up, call by call; the sum that is printed is exact.
    """
    from rater.doors.history import objects
    from rater.doors.history.asking import filter_of
    from rater.doors.history.exports import export
    from rater.doors.history.show import exact
    from rater.usage.cells import MASKED

    if mask_country is not None and mask_country not in MASKED:
        raise click.UsageError(f"--mask is '{mask_country}'; expected one of {' '.join(sorted(MASKED))}")
    hidden = 0 if mask_country is None else MASKED[mask_country]
    wanted = filter_of(user, call_types, capabilities, outcomes, month, begin, end)
    with opened(history) as store:
        made = export(store, tenant, wanted, out or Path(f"PSTN.calls.{tenant}.{form}"), form, columns, hidden)
    if as_json:
        print_object(objects.exported_object(made))
        return
    sums = ", ".join(f"{exact(micros)} {currency}" for currency, micros in made.charge_micros.items())
    click.echo(f"{made.path}: {made.rows:,} calls{', ' + sums if sums else ''}")


@history_group.command("after-pool")
@click.argument("tenant")
@with_options(*month_options)
@history_option
@json_option
def after_pool_command(tenant: str, month: str | None, begin: str | None, end: str | None, history: str,
                       as_json: bool) -> None:  # fmt: skip
    """Which calls credits paid because a pool had ended, and what each cost."""
    from rater.doors.history import objects, queries
    from rater.doors.history.asking import window
    from rater.doors.history.show import show_after_pool

    with opened(history) as store:
        answer = queries.paid_after_pool(store, tenant, *window(month, begin, end))
    print_object(objects.after_pool_object(answer)) if as_json else show_after_pool(tenant, answer)


@history_group.command("recharges")
@click.argument("tenant")
@history_option
@json_option
def recharges_command(tenant: str, history: str, as_json: bool) -> None:
    """Every recharge that was asked for, and how it ended."""
    from rater.doors.history import objects, queries
    from rater.doors.history.show import show_recharges

    with opened(history) as store:
        answer = queries.recharge_history(store, tenant)
    print_object(objects.recharges_object(answer)) if as_json else show_recharges(tenant, answer)


@history_group.command("events")
@click.argument("tenant")
@click.option("--type", "types", multiple=True, help="For example rater.balance.zero. Repeatable.")
@click.option("--after", metavar="PLACE", help="The page behind: what the page before gave as next.")
@click.option("--limit", type=click.IntRange(1, PAGE_MAX), default=50, show_default=True, help="Events a page.")
@history_option
@json_option
def events_command(tenant: str, types: tuple[str, ...], after: str | None, limit: int, history: str,
                   as_json: bool) -> None:  # fmt: skip
    """What was announced of a tenant's account, in the order of its time."""
    from rater.doors.history import objects, queries
    from rater.doors.history.show import show_events

    with opened(history) as store:
        page = queries.events(store, tenant, types, after, limit)
    print_object(objects.event_page(page)) if as_json else show_events(tenant, page)


@history_group.command("daily")
@click.argument("tenant")
@with_options(*month_options)
@history_option
@json_option
def daily_command(tenant: str, month: str | None, begin: str | None, end: str | None, history: str,
                  as_json: bool) -> None:  # fmt: skip
    """Calls, minutes and charge of each day (UTC)."""
    from rater.doors.history import objects, queries
    from rater.doors.history.asking import window
    from rater.doors.history.show import show_daily

    with opened(history) as store:
        answer = queries.daily(store, tenant, *window(month, begin, end))
    print_object(objects.daily_object(answer)) if as_json else show_daily(tenant, answer)
