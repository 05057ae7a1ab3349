"""The screen of `rater mediate --explain`: verdict, parts, then a line for each value, rule and field.

Phone numbers are shown whole: it goes to the terminal of the person who has the file.
"""

from typing import Any

import click

VALUE_CHARACTERS_MAX = 100


def show_told(told: dict[str, Any]) -> None:
    where = f"line {told['line']}, " if told["line"] else ""
    click.echo(f"{where}source {told['source']}, profile {told['profile']}")
    click.echo(f"\n  {told['why']}")
    if told["corrects"]:
        click.echo(f"  the call record that was written: {told['corrects']}")
    click.echo(f"\nThe record, {len(told['parts'])} part{'s' if len(told['parts']) > 1 else ''}:")
    for part in told["parts"]:
        click.echo(f"  {cut(part)}")
    fields = [item for item in told["fields"] if item["value"] is not None or item["read"] or item["done"]]
    click.echo("\nField by field:" if fields else "\nNo field was read.")
    width = max((len(item["field"]) for item in fields), default=0)
    for item in fields:
        value = "-" if item["value"] is None else item["value"]
        click.echo(f"  {item['field']:<{width}}  {value}")
        for read in item["read"]:
            as_read = f"   read as {read['as']}" if read["as"] is not None else ""
            named = (
                read["where"]
                if read["where"].rpartition(".")[2] == read["name"]
                else f"{read['name']} ({read['where']})"
            )
            click.echo(f"  {'':<{width}}    from {named}: {cut(read['raw']) or '(empty)'}{as_read}")
        for sentence in item["done"]:
            click.echo(f"  {'':<{width}}    {sentence}")
    if told["also_read"]:
        click.echo("\nAlso looked at:")
        for read in told["also_read"]:
            click.echo(f"  {read['name']} ({read['where']}): {cut(read['raw']) or '(empty)'}")


def cut(text: str) -> str:
    """One line of a value; the whole of it is in --json."""
    line = text.replace("\r", "").replace("\n", " ")
    return line if len(line) <= VALUE_CHARACTERS_MAX else f"{line[:VALUE_CHARACTERS_MAX]}... ({len(line)} characters)"
