"""Account commands: every field of every type, right, missing, null, and wrong; nothing is coerced."""

from typing import Any

import orjson
import pytest

from rater.contract.commands import decode_command, decode_commands, recharge_number
from rater.core.administration import COMMAND, COMMAND_TYPES
from rater.core.instants import NEVER_MS, parse_instant
from rater.core.plans import PLANS
from rater.core.reasons import Reason
from tests.schema_check import SchemaMismatch, validate

COMMON = {"command_id": "c-1", "tenant": "contoso", "at": "2026-11-03T12:00:00Z", "by": "ops"}
GOOD: dict[str, dict[str, Any]] = {
    "tenant.opened": {"country": "US", "currency": "USD", "billing_mode": "prepaid"},
    "licence.assigned": {"user": "u-1", "plan": "MCOPSTN1", "country": "GB"},
    "licence.removed": {"user": "u-1", "plan": "MCOPSTN1", "country": "GB"},
    "number.assigned": {"number": "+18005550199", "number_type": "toll_free", "country": "US"},
    "number.removed": {"number": "+18005550199"},
    "funds.added": {"lot_id": "lot-1", "amount_micros": 50_000_000},
    "recharge.configured": {"enabled": True, "trigger_micros": 1_000_000, "amount_micros": 5_000_000},
    "recharge.failed": {"recharge_id": "contoso:recharge:1", "reason": "declined"},
    "account.adjusted": {"amount_micros": -5, "reason": "goodwill"},
    "clock.ticked": {},
    "contacts.set": {"contacts": [{"email": "finance@contoso.example"}]},
    "call.authorize": {
        "call_id": "7f3a@edge1", "call_type": "user_out", "user": "u-1", "caller": "+442079460018", "callee": "+12125550123",
        "seconds": 600, "hold_seconds": 900,
    },
}  # fmt: skip
OPTIONAL = {
    ("licence.removed", "country"),
    *(("call.authorize", name) for name in ("caller", "seconds", "hold_seconds")),
}


def command(kind: str, **changes: Any) -> dict[str, Any]:
    record = COMMON | {"type": kind} | GOOD[kind] | changes
    return {name: value for name, value in record.items() if value is not ...}


def decoded(record: dict[str, Any] | bytes) -> tuple[str, str]:
    raw = record if isinstance(record, bytes) else orjson.dumps(record)
    rows, _, details = decode_commands([raw])
    return Reason(int(rows[0].reason)).text, details[0]


ACTIVATION: dict[str, Any] = {
    "command_id": "c-1", "type": "deck.activated", "at": "2026-11-03T12:00:00Z", "decks": ["9c1f00aa9c1f00aa"],
    "plans": "77aa77aa77aa77aa",
}  # fmt: skip


def test_every_type_of_the_contract_is_here():
    assert set(GOOD) | {"deck.activated"} == set(COMMAND_TYPES)


def activation_decoded(record: dict[str, Any]) -> tuple[str, str]:
    rows, _, details = decode_commands([orjson.dumps(record)], [b"any key"], True)
    return Reason(int(rows[0].reason)).text, details[0]


def test_an_activation_has_no_tenant_and_any_key():
    validate("account-commands", orjson.dumps(ACTIVATION))
    assert activation_decoded(ACTIVATION) == ("none", "")
    assert activation_decoded(ACTIVATION | {"plans": None}) == ("none", "")


def test_an_activation_names_versions():
    for decks in ([], ["latest"], "9c1f00aa9c1f00aa", [7], ["9C1F00AA9C1F00AA"], ["9c1f00aa9c1f00aa"] * 65):
        assert activation_decoded(ACTIVATION | {"decks": decks})[0] == "bad_field"
    assert activation_decoded({k: v for k, v in ACTIVATION.items() if k != "decks"})[0] == "missing_field"
    assert activation_decoded(ACTIVATION | {"plans": "mine"}) == (
        "bad_field",
        "plans: expected a version of the plans, 16 to 64 hex digits",
    )


def test_where_files_name_the_decks_an_activation_is_an_unknown_command():
    reason, detail = decoded(ACTIVATION)
    assert reason == "unknown_command"
    assert "deck.activated" not in detail


@pytest.mark.parametrize("kind", GOOD)
def test_a_right_command_is_read_and_its_schema_agrees(kind: str):
    validate("account-commands", orjson.dumps(command(kind)))
    assert decoded(command(kind)) == ("none", "")
    assert decoded(command(kind, extra={"a": [1.5]}, by=None)) == ("none", "")


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in GOOD for name in ("command_id", "tenant", "at", *GOOD[kind])]
)
def test_a_field_that_is_missing_or_null_is_named(kind: str, name: str):
    for value in (..., None):
        reason, detail = decoded(command(kind, **{name: value}))
        if (kind, name) in OPTIONAL:
            assert reason == "none"
        else:
            assert (reason, detail) == ("missing_field", f"{name}: missing")
            with pytest.raises(SchemaMismatch):
                validate("account-commands", orjson.dumps(command(kind, **{name: value})))


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in GOOD for name in ("command_id", "tenant", "at", *GOOD[kind])]
)
@pytest.mark.parametrize("value", [[], {}, 1.5, "", "\u0000", "x" * 129])
def test_a_value_that_is_no_value_of_the_field_is_named(kind: str, name: str, value: Any):
    if (name == "reason" and isinstance(value, str)) or (name == "contacts" and value == []):
        return  # free text; nobody to tell
    reason, detail = decoded(command(kind, **{name: value}))
    assert reason == "bad_field"
    assert detail.startswith(f"{name}: expected ")


WRONG: list[tuple[str, str, list[Any]]] = [
    ("tenant.opened", "country", ["us", "USA", "U1", "ÜS"]),
    ("tenant.opened", "currency", ["usd", "US", "USDD", "US1"]),
    ("tenant.opened", "billing_mode", ["postpaid", "Prepaid", True]),
    ("tenant.opened", "overage", [1, "true", 0]),
    ("tenant.opened", "tenant", ["-a", ".a", "a b", "a/b", "x" * 65, "é"]),
    ("tenant.opened", "command_id", ["é", "a\n", "\x7f", 7]),
    (
        "tenant.opened",
        "at",
        ["2026-11-03", "2026-11-03T12:00:00", 1762171200, "2026-11-03T12:00:60Z", "2026-11-03T12:00:00+00:00"],
    ),
    ("licence.assigned", "plan", ["mcopstn1", "MCOPSTN3", "MCOEV"]),
    ("licence.assigned", "user", ["x" * 129, "é" * 65, "a\tb", "\x7f"]),
    ("number.assigned", "number", ["18005550199", "+12", "+1234567890123456", "+1 800", "+١٢٣٤", "+1800555O199"]),
    ("number.assigned", "number_type", ["tollfree", "toll-free", ""]),
    ("funds.added", "amount_micros", [0, -1, "50", 50.0, True, 10**15 + 1, 2**63, 10**30]),
    ("funds.added", "expires_at", ["2026-11-03T12:00:00Z", "2026-11-03T11:59:59.999Z", "never", 0]),
    ("funds.added", "lot_id", ["é", "x" * 129]),
    ("funds.added", "recharge_id", ["", "é", 7]),
    ("recharge.configured", "enabled", [1, 0, "yes"]),
    ("recharge.configured", "trigger_micros", [-1, 1.0, "1", True, 10**15 + 1]),
    ("recharge.configured", "amount_micros", [0, -1, 10**15 + 1]),
    ("account.adjusted", "amount_micros", [0, 10**15 + 1, -(10**15) - 1, 1.0, "1", False]),
    ("account.adjusted", "by", [1, [], {}]),
]


@pytest.mark.parametrize(
    ("kind", "name", "value"), [(kind, name, value) for kind, name, values in WRONG for value in values]
)
def test_a_wrong_value_is_named_and_never_coerced(kind: str, name: str, value: Any):
    raw = orjson.dumps(command(kind, **{name: 0})).replace(
        f'"{name}":0'.encode(), f'"{name}":'.encode() + _dumped(value)
    )
    reason, detail = decoded(raw)
    assert reason == "bad_field"
    assert detail.startswith(f"{name}: expected ")


def _dumped(value: Any) -> bytes:
    import json

    return json.dumps(value).encode()


@pytest.mark.parametrize("plan", PLANS)
def test_every_plan_of_the_contract_is_known(plan: str):
    assert decoded(command("licence.assigned", plan=plan)) == ("none", "")


def test_unknown_types_and_broken_commands():
    assert decoded(command("clock.ticked", type="clock.tocked"))[0] == "unknown_command"
    assert decoded(command("clock.ticked", type=None)) == ("missing_field", "type: missing")
    assert decoded(command("clock.ticked", type=7))[0] == "bad_field"
    assert decoded(b"{")[0] == "not_json"
    assert decoded(b"[]")[0] == "not_an_object"
    assert decoded(b"") == ("not_json", "")
    assert decoded(orjson.dumps(command("clock.ticked"))[:-1] + b',"by":"x"}')[0] == "duplicate_key"
    assert decoded(orjson.dumps(command("clock.ticked", pad="x" * 65_536)))[0] == "too_large"


def test_a_record_key_must_be_the_tenant():
    rows, _, details = decode_commands([orjson.dumps(command("clock.ticked"))] * 3, [b"contoso", b"other", None])
    assert [Reason(int(row.reason)).text for row in rows] == ["none", "key_mismatch", "none"]
    assert details[1] == "the record key is not the tenant"


def row_of(kind: str, **changes: Any) -> Any:
    import numpy as np

    rows = np.zeros(1, COMMAND).view(np.recarray)
    decode_command(rows[0], orjson.dumps(command(kind, **changes)))
    return rows[0]


def test_what_a_command_says_reaches_its_row():
    row = row_of("funds.added", expires_at="2026-12-01T00:00:00Z", recharge_id="contoso:recharge:12")
    assert (row.amount_micros, row.recharge) == (50_000_000, 12)
    assert row.expires_ms == parse_instant("2026-12-01T00:00:00Z")
    assert row_of("funds.added").expires_ms == parse_instant("2027-11-03T12:00:00Z")
    assert row_of("funds.added").recharge == 0
    row = row_of("tenant.opened", billing_mode="post_usage", overage=True)
    assert (row.billing_mode, row.flag) == (1, 1)
    assert row_of("licence.removed", country=...).country == 0
    assert row_of("account.adjusted", amount_micros=-(10**15)).amount_micros == -(10**15)
    assert row_of("clock.ticked").at_ms == parse_instant("2026-11-03T12:00:00Z")
    assert row_of("clock.ticked").at_ms < NEVER_MS


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("contoso:recharge:1", 1),
        ("contoso:recharge:999999999999999999", 999999999999999999),
        ("contoso:recharge:01", -1),
        ("contoso:recharge:", -1),
        ("contoso:recharge:-1", -1),
        ("contoso:recharge:1 ", -1),
        ("contoso:recharge:1_0", -1),
        ("Contoso:recharge:1", -1),
        ("recharge:1", -1),
        ("1", -1),
        ("contoso:recharge:99999999999999999999999", -1),
    ],
)
def test_which_recharge_is_named(name: str, number: int):
    assert recharge_number("contoso", name) == number


def test_the_number_zero_is_no_recharge_of_ours():
    assert recharge_number("contoso", "contoso:recharge:0") == -1


def test_the_same_command_in_another_order_has_the_same_content():
    a, b = row_of("funds.added"), row_of("funds.added")
    assert a.content == b.content != row_of("funds.added", by="x").content
    import numpy as np

    rows = np.zeros(1, COMMAND).view(np.recarray)
    decode_command(rows[0], orjson.dumps(dict(reversed(command("funds.added").items())), option=orjson.OPT_INDENT_2))
    assert rows[0].content == a.content
