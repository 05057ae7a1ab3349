"""`rater deck activate`: with which decks the workers rate from here on."""

import asyncio
from pathlib import Path

import click

from rater.doors.kafka.commands import FILE, print_json, require_kafka, with_connection


@click.command("activate")
@click.argument("deck", type=FILE)
@click.option("--plans", type=FILE, help="Calling plans (CSV). [beside the decks, else those that ship]")
@click.option("--at", metavar="INSTANT", help="When it was decided, for the record. [now]")
@click.option("--by", default="rater deck activate", show_default=True, help="Who decided it, for the record.")
@click.option("--id", "command_id", metavar="TEXT", help="Names this activation for ever. [from the versions and --at]")
@with_connection
def activate_command(deck: Path, plans: Path | None, at: str | None, by: str, command_id: str | None,
                     bootstrap: str | None, topic_prefix: str | None, config: Path | None, as_json: bool) -> None:  # fmt: skip
    """Put a deck, or a folder of decks, into force in every partition, from this place of the log on.

    \b
    rater deck lint rates/2026-12            # is it good?
    cp -r rates/2026-12 /etc/rater/rates     # every worker must have it: RATER_RATES
    rater deck activate rates/2026-12 --bootstrap kafka1:9092

    A worker that does not have the deck stops the partition and says so, until it has.
    """
    require_kafka()
    from rater.doors.clock import now_utc
    from rater.doors.kafka.activate import activate, activation_of
    from rater.doors.kafka.settings import load_connection
    from rater.doors.rules import load_rule_book

    connection, prefix = load_connection(config, bootstrap_servers=bootstrap, topic_prefix=topic_prefix)
    command = activation_of(load_rule_book(deck, plans), at or now_utc(), by, command_id)
    partitions = asyncio.run(activate(connection, prefix, command))
    if as_json:
        print_json({"partitions": partitions, "command": command})
        return
    click.echo(f"activated {' '.join(command['decks'])} with plans {command['plans']} in {partitions} partitions")
