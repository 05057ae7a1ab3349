"""`rater advise`: its options."""

from pathlib import Path

import click

from rater.doors.history.options import FILE, history_option, json_option, opened, print_object


@click.command("advise")
@click.argument("tenant")
@click.option("--plan-price", "plan_prices", multiple=True, metavar="PLAN/COUNTRY=PRICE",
              help="What a licence costs a month, in the tenant's currency. Repeatable.")  # fmt: skip
@click.option(
    "--plan-prices", "plan_prices_file", type=FILE, metavar="FILE", help="The same from a CSV: plan,country,price."
)
@click.option("--plans", type=FILE, help="Calling plans (CSV). [the shipped ones]")
@history_option
@json_option
def advise_command(tenant: str, plan_prices: tuple[str, ...], plan_prices_file: Path | None, plans: Path | None,
                   history: str, as_json: bool) -> None:  # fmt: skip
    """When to recharge and with how much, and whether minutes or credits are cheaper; needs a month of history.

    \b
    rater advise contoso
    rater advise contoso --plan-price MCOPSTN1/GB=12.00 --plan-price MCOPSTN2/GB=24.00 --json
    """
    from rater.core.plans import PlansRefused, parse_plans
    from rater.doors.history.advise import advice_object, advise, read_prices
    from rater.doors.history.show import show_advice
    from rater.doors.rules import PLANS_FILE, rates_folder

    file = plans or rates_folder() / "plans" / PLANS_FILE
    prices = read_prices(plan_prices, plan_prices_file)
    try:
        table = parse_plans(file.read_text("utf-8-sig"), str(file))
    except (PlansRefused, OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"--plans: {error}") from None
    with opened(history) as store:
        advice = advise(store, tenant, prices, table)
    print_object(advice_object(advice)) if as_json else show_advice(advice)
