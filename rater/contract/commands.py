"""Account commands: bytes of `account-commands` -> COMMAND rows (contract section 2).

Commands are few beside calls, so they are decoded one by one with orjson; what they do is compiled
(`core.administration`). A fault in a command is named by reason and detail; nothing is coerced.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from rater.contract.contacts import BadContacts, read_contacts
from rater.contract.questions import TYPE_CODES as CALL_TYPE_CODES
from rater.contract.questions import json_text
from rater.contract.reader import read_slowly
from rater.contract.scanner import NEEDS_USER
from rater.core.administration import (
    ACCOUNT_ADJUSTED,
    CALL_AUTHORIZE,
    COMMAND,
    COMMAND_TYPES,
    CONTACTS_SET_COMMAND,
    DECK_ACTIVATED,
    FUNDS_ADDED,
    LICENCE_ASSIGNED,
    LICENCE_REMOVED,
    NUMBER_ASSIGNED,
    NUMBER_REMOVED,
    RECHARGE_CONFIGURED,
    RECHARGE_FAILED_COMMAND,
    TENANT_OPENED,
)
from rater.core.instants import months_later_ms, parse_instant
from rater.core.money import AMOUNT_MICROS_MAX
from rater.core.plans import PLANS
from rater.core.reasons import Reason

Array = np.ndarray[Any, Any]

TYPE_CODES = {name: code for code, name in enumerate(COMMAND_TYPES)}
PLAN_CODES = {name: code for code, name in enumerate(PLANS)}
NUMBER_TYPE_CODES = {"user": 0, "service": 1, "toll_free": 2}
BILLING_CODES = {"prepaid": 0, "post_usage": 1}

# How long an authorized call may last, unless the question says otherwise, and how much longer its record may take to come.
CALL_SECONDS, CALL_SECONDS_MAX = 3_600, 86_400
HOLD_LONGER_S, HOLD_SECONDS_MAX = 300, 172_800

_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PRINTABLE = re.compile(r"[ -~]{1,128}")
_COUNTRY = re.compile(r"[A-Z]{2}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_NUMBER = re.compile(r"\+[0-9]{3,15}")
_VERSION = re.compile(r"[0-9a-f]{16,64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Refused(Exception):
    """Why a command cannot be read: a reason of the contract and a sentence."""

    reason: Reason
    detail: str


def _missing(name: str) -> Refused:
    return Refused(Reason.MISSING_FIELD, f"{name}: missing")


def _bad(name: str, expected: str) -> Refused:
    return Refused(Reason.BAD_FIELD, f"{name}: expected {expected}")


def _text(fields: dict[str, Any], name: str, pattern: re.Pattern[str], expected: str) -> str:
    value = fields.get(name)
    if value is None:
        raise _missing(name)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise _bad(name, expected)
    return value


def _integer(fields: dict[str, Any], name: str, least: int, most: int) -> int:
    value = fields.get(name)
    if value is None:
        raise _missing(name)
    if type(value) is not int or not least <= value <= most:
        raise _bad(name, f"a whole number from {least} to {most}")
    return value


def _truth(fields: dict[str, Any], name: str) -> int:
    value = fields.get(name)
    if value is None:
        raise _missing(name)
    if not isinstance(value, bool):
        raise _bad(name, "true or false")
    return int(value)


def _choice(fields: dict[str, Any], name: str, codes: dict[str, int]) -> int:
    value = fields.get(name)
    if value is None:
        raise _missing(name)
    if not isinstance(value, str) or value not in codes:
        raise _bad(name, "one of " + " ".join(codes))
    return codes[value]


def _instant(fields: dict[str, Any], name: str) -> int:
    value = fields.get(name)
    if value is None:
        raise _missing(name)
    instant = parse_instant(value) if isinstance(value, str) else None
    if instant is None:
        raise _bad(name, "an instant such as 2026-11-03T13:30:00.200Z")
    return instant


def _country(fields: dict[str, Any], name: str) -> int:
    text = _text(fields, name, _COUNTRY, "a country code of two capital letters")
    return ord(text[0]) * 256 + ord(text[1])


def _named(fields: dict[str, Any], name: str) -> bytes:
    """A user or call id, in JSON text form."""
    value = fields.get(name)
    if value is None:
        raise _missing(name)
    if not isinstance(value, str) or not 1 <= len(value.encode("utf-8", "replace")) <= 128 or _CONTROL.search(value):
        raise _bad(name, "1 to 128 bytes of text without control characters")
    return json_text(value)


def _free_text(fields: dict[str, Any], name: str, required: bool) -> None:
    value = fields.get(name)
    if value is None and required:
        raise _missing(name)
    if value is not None and not isinstance(value, str):
        raise _bad(name, "text")


def _contacts(fields: dict[str, Any]) -> list[dict[str, Any]]:
    if fields.get("contacts") is None:
        raise _missing("contacts")
    try:
        return read_contacts(fields["contacts"])
    except BadContacts as bad:
        raise _bad(bad.place, bad.expected) from None


def _question(row: Any, fields: dict[str, Any]) -> None:
    """The call that is asked about; `contract.questions` makes a row of it."""
    _named(fields, "call_id")
    call_type = _choice(fields, "call_type", CALL_TYPE_CODES)
    if fields.get("user") is not None or NEEDS_USER[call_type]:
        _named(fields, "user")
    if fields.get("caller") is not None:
        _text(fields, "caller", _NUMBER, "+ and 3 to 15 digits")
    _text(fields, "callee", _NUMBER, "+ and 3 to 15 digits")
    row.seconds = CALL_SECONDS
    if fields.get("seconds") is not None:
        row.seconds = _integer(fields, "seconds", 1, CALL_SECONDS_MAX)
    hold_s = int(row.seconds) + HOLD_LONGER_S
    if fields.get("hold_seconds") is not None:
        hold_s = _integer(fields, "hold_seconds", 1, HOLD_SECONDS_MAX)
    row.expires_ms = int(row.at_ms) + 1000 * hold_s


def recharge_number(tenant: str, recharge_id: str) -> int:
    """n of the tenant's n-th recharge `<tenant>:recharge:<n>`; -1 for an id that is not one of ours."""
    prefix = f"{tenant}:recharge:"
    number = recharge_id[len(prefix) :]
    ours = recharge_id.startswith(prefix) and number.isascii() and number.isdigit() and number == str(int(number[:18]))
    return int(number) if ours and number != "0" else -1


def _type_fields(row: Any, kind: int, fields: dict[str, Any], tenant: str, command_id: str) -> bytes:
    """Fill what this type of command carries; its text (user, number or lot id)."""
    if kind == TENANT_OPENED:
        row.country = _country(fields, "country")
        currency = _text(fields, "currency", _CURRENCY, "a currency code of three capital letters")
        row.currency = int.from_bytes(currency.encode(), "big")
        row.billing_mode = _choice(fields, "billing_mode", BILLING_CODES)
        row.flag = _truth(fields, "overage") if "overage" in fields and fields["overage"] is not None else 0
        return b""
    if kind in (LICENCE_ASSIGNED, LICENCE_REMOVED):
        text = _named(fields, "user")
        row.plan = _choice(fields, "plan", PLAN_CODES)
        optional = kind == LICENCE_REMOVED and fields.get("country") is None
        row.country = 0 if optional else _country(fields, "country")
        return text
    if kind in (NUMBER_ASSIGNED, NUMBER_REMOVED):
        number = _text(fields, "number", _NUMBER, "+ and 3 to 15 digits")
        if kind == NUMBER_ASSIGNED:
            row.number_type = _choice(fields, "number_type", NUMBER_TYPE_CODES)
            row.country = _country(fields, "country")
        return number[1:].encode()
    if kind == FUNDS_ADDED:
        lot = _text(fields, "lot_id", _PRINTABLE, "1 to 128 printable ASCII characters")
        row.amount_micros = _integer(fields, "amount_micros", 1, AMOUNT_MICROS_MAX)
        if fields.get("expires_at") is None:
            row.expires_ms = months_later_ms(int(row.at_ms), 12)
        else:
            row.expires_ms = _instant(fields, "expires_at")
            if row.expires_ms <= row.at_ms:
                raise _bad("expires_at", "an instant after `at`")
        if fields.get("recharge_id") is not None:
            recharge = _text(fields, "recharge_id", _PRINTABLE, "1 to 128 printable ASCII characters")
            row.recharge = recharge_number(tenant, recharge)
        return lot.encode()
    if kind == RECHARGE_CONFIGURED:
        row.flag = _truth(fields, "enabled")
        row.trigger_micros = _integer(fields, "trigger_micros", 0, AMOUNT_MICROS_MAX)
        row.amount_micros = _integer(fields, "amount_micros", 0 if not row.flag else 1, AMOUNT_MICROS_MAX)
    elif kind == RECHARGE_FAILED_COMMAND:
        recharge = _text(fields, "recharge_id", _PRINTABLE, "1 to 128 printable ASCII characters")
        row.recharge = recharge_number(tenant, recharge)
        _free_text(fields, "reason", True)
    elif kind == ACCOUNT_ADJUSTED:
        row.amount_micros = _integer(fields, "amount_micros", -AMOUNT_MICROS_MAX, AMOUNT_MICROS_MAX)
        if row.amount_micros == 0:
            raise _bad("amount_micros", "an amount other than 0")
        _free_text(fields, "reason", True)
        return f"adj-{command_id}".encode()
    elif kind == CALL_AUTHORIZE:
        _question(row, fields)
    elif kind == CONTACTS_SET_COMMAND:
        fields["contacts"] = _contacts(fields)
    return b""


def _activation(fields: dict[str, Any]) -> None:
    """`deck.activated` names the content hashes of a deck set: the decks, and the plans unless they stay."""
    decks = fields.get("decks")
    if decks is None:
        raise _missing("decks")
    expected = "a list of deck versions, 16 to 64 hex digits each"
    if not isinstance(decks, list) or not decks or len(decks) > 64:
        raise _bad("decks", expected)
    if not all(isinstance(version, str) and _VERSION.fullmatch(version) for version in decks):
        raise _bad("decks", expected)
    if fields.get("plans") is not None:
        _text(fields, "plans", _VERSION, "a version of the plans, 16 to 64 hex digits")


def _fill(row: Any, fields: dict[str, Any], activations: bool) -> None:
    kind_name = fields.get("type")
    if kind_name is None:
        raise _missing("type")
    if not isinstance(kind_name, str):
        raise _bad("type", "text")
    if kind_name not in TYPE_CODES or (TYPE_CODES[kind_name] == DECK_ACTIVATED and not activations):
        # the same words through every door: what is unknown is a tenant's command
        raise Refused(Reason.UNKNOWN_COMMAND, "type: expected one of " + " ".join(COMMAND_TYPES[:DECK_ACTIVATED]))
    kind = row.kind = TYPE_CODES[kind_name]
    command_id = _text(fields, "command_id", _PRINTABLE, "1 to 128 printable ASCII characters")
    tenant = ""
    if kind == DECK_ACTIVATED:
        _activation(fields)
    else:
        tenant = _text(fields, "tenant", _TENANT, "[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
    row.at_ms = _instant(fields, "at")
    _free_text(fields, "by", False)
    text = _type_fields(row, kind, fields, tenant, command_id)
    for name, value in (("tenant", tenant.encode()), ("id", command_id.encode()), ("text", text)):
        row[f"{name}_length"] = len(value)
        row[name][: len(value)] = np.frombuffer(value, np.uint8)


def content_of(canonical: bytes) -> int:
    """A check of what a command says, whatever the way it was written."""
    return int.from_bytes(hashlib.sha256(canonical).digest()[:8], "little")


def decode_command(
    row: Any, raw: bytes, key: bytes | None = None, activations: bool = False
) -> tuple[dict[str, Any], str]:
    """Fill one COMMAND row: (the command's fields, contacts with their defaults; detail). `row.reason` is 0, or why the command cannot be read.

    `activations`: whether this door takes its decks from the log; elsewhere `deck.activated` is an unknown command.
    """
    read = read_slowly(raw)
    if isinstance(read, Reason):
        row.reason = int(read)
        return {}, ""
    canonical, fields = read
    try:
        _fill(row, fields, activations)
    except Refused as refused:
        row.reason = int(refused.reason)
        return fields, refused.detail
    if key is not None and row.kind != DECK_ACTIVATED and key != fields["tenant"].encode():
        row.reason = int(Reason.KEY_MISMATCH)
        return fields, "the record key is not the tenant"
    row.content = content_of(canonical)
    return fields, ""


def decode_commands(
    raws: list[bytes], keys: list[bytes | None] | None = None, activations: bool = False
) -> tuple[Array, list[dict[str, Any]], list[str]]:
    """(COMMAND rows, fields, details) of several commands."""
    rows = np.zeros(len(raws), COMMAND).view(np.recarray)
    fields: list[dict[str, Any]] = []
    details: list[str] = []
    for k, raw in enumerate(raws):
        found, detail = decode_command(rows[k], raw, keys[k] if keys else None, activations)
        fields.append(found)
        details.append(detail)
    return rows, fields, details
