"""The guards as an operator writes them: TOML text -> `Guards`. What is unknown or wrong is refused with its place.

enabled = true                 # false stops every recharge; why = "..." is told to whoever asks
per_hour_max = 4
per_day_max = 24
pause_after_decline_minutes = 15
daily_max = { USD = "500.00", EUR = "450.00" }

[tenants.contoso]              # what is not named here is as for everybody
enabled = false
why = "card stolen, ticket 4711"
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rater.recharge.amounts import micros_of
from rater.recharge.guards import MINUTE_MS, Guards, Limits

KNOWN = ("enabled", "why", "per_hour_max", "per_day_max", "pause_after_decline_minutes", "daily_max")
_CURRENCY = re.compile(r"[A-Z]{3}")


class GuardsRefused(Exception):
    """The text names the place, what was found, what was expected."""


def parse_guards(text: str) -> Guards:
    """Raises `GuardsRefused`."""
    try:
        told = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise GuardsRefused(f"{error}; expected TOML, for example per_hour_max = 4") from None
    tenants = told.pop("tenants", {})
    if not isinstance(tenants, dict):
        raise GuardsRefused("tenants is no table; expected [tenants.NAME] with what differs for one tenant")
    everybody = _limits(Limits(), told, "")
    own = {
        name: _limits(replace(everybody, enabled=True, why_disabled=""), fields, f"tenants.{name}.")
        for name, fields in tenants.items()
    }
    # The switch of everybody stands above all tenants; it is no limit of theirs.
    return Guards(everybody.enabled, everybody.why_disabled, replace(everybody, enabled=True, why_disabled=""), own)


def _limits(base: Limits, fields: Any, where: str) -> Limits:
    if not isinstance(fields, dict):
        raise GuardsRefused(f"{where.rstrip('.')} is no table; expected [{where.rstrip('.')}] with settings below it")
    for name in fields:
        if name not in KNOWN:
            raise GuardsRefused(f"{where}{name} is unknown; expected one of {', '.join(KNOWN)}")
    changes: dict[str, Any] = {}
    if "enabled" in fields:
        changes["enabled"] = _truth(fields, "enabled", where)
    if "why" in fields:
        changes["why_disabled"] = _text(fields, "why", where)
    for name in ("per_hour_max", "per_day_max"):
        if name in fields:
            changes[name] = _whole(fields, name, where, 0, 10_000)
    if "pause_after_decline_minutes" in fields:
        changes["pause_after_decline_ms"] = _whole(fields, "pause_after_decline_minutes", where, 0, 1_440) * MINUTE_MS
    if "daily_max" in fields:
        changes["daily_max_micros"] = amounts_by_currency(fields["daily_max"], f"{where}daily_max")
    return replace(base, **changes)


def amounts_by_currency(table: Any, where: str) -> Mapping[str, int]:
    """{ USD = "500.00" } -> micro-units. Text, because a TOML number with a point is a float. Raises `GuardsRefused`."""
    if not isinstance(table, dict):
        raise GuardsRefused(f'{where} is {table!r}; expected amounts by currency, for example {{ USD = "500.00" }}')
    found = {}
    for currency, amount in table.items():
        micros = micros_of(amount) if isinstance(amount, str) else None
        if micros is None or not _CURRENCY.fullmatch(currency):
            raise GuardsRefused(
                f'{where}.{currency} is {amount!r}; expected a currency and a decimal amount as text, for example USD = "500.00"'
            )
        found[currency] = micros
    return found


def _truth(fields: Mapping[str, Any], name: str, where: str) -> bool:
    if not isinstance(fields[name], bool):
        raise GuardsRefused(f"{where}{name} is {fields[name]!r}; expected true or false")
    return bool(fields[name])


def _text(fields: Mapping[str, Any], name: str, where: str) -> str:
    if not isinstance(fields[name], str):
        raise GuardsRefused(f"{where}{name} is {fields[name]!r}; expected text")
    return " ".join(fields[name].split())


def _whole(fields: Mapping[str, Any], name: str, where: str, least: int, most: int) -> int:
    value = fields[name]
    if type(value) is not int or not least <= value <= most:
        raise GuardsRefused(f"{where}{name} is {value!r}; expected a whole number from {least} to {most}")
    return value
