"""Account events as CloudEvents: what each says, and ids that are a function of what happened."""

import orjson
import pytest

from tests.workbench import Bench, Rates, Row

CALL_TYPES = """user_out user_out_conf user_out_transfer user_out_forwarding conf_out conf_in ucap_out ucap_in
unassigned_in""".split()


def everything_once() -> list[Row]:
    """A story in which every type of event occurs."""
    rates = Rates(outbound=["1,,US,,1.00,,,,,,"], plans=["MCOPSTN1,US,5,0,", "MCOPSTN8,US,5,0,"])
    b = Bench(rates.book())
    said: list[Row] = []
    at = "2026-11-03T10:00:00Z"
    for kind, fields in (
        ("tenant.opened", {"country": "US", "currency": "USD", "billing_mode": "prepaid"}),
        ("licence.assigned", {"user": 'ü"', "plan": "MCOPSTN8", "country": "US"}),
        ("funds.added", {"lot_id": "old", "amount_micros": 500_000, "expires_at": "2026-11-03T11:00:00Z"}),
        ("funds.added", {"lot_id": "lot", "amount_micros": 1_000_000}),
        ("recharge.configured", {"enabled": True, "trigger_micros": 500_000, "amount_micros": 3_000_000}),
    ):
        said += b.command(kind, at, **fields).events
    said += b.call("+12125550123", 300_000, user='ü"', record_id="full", start="2026-11-03T10:30:00Z").events
    said += b.call("+12125550123", 60_000, record_id="zero", start="2026-11-03T11:30:00.250Z").events
    said += b.command("recharge.failed", "2026-11-03T12:00:00Z", recharge_id="contoso:recharge:1", reason="card").events
    more = {"lot_id": "new", "amount_micros": 3_000_000, "recharge_id": "contoso:recharge:1"}
    said += b.command("funds.added", "2026-11-03T12:01:00Z", **more).events
    said += b.call("+88351234", 60_000, record_id='odd "1"').events
    said += b.command("contacts.set", at, contacts=[{"email": "a@b.example"}], command_id="people").events
    said += b.command("clock.ticked", "2027-10-05T00:00:00Z").events
    return said


def test_what_each_event_says():
    pool = 'US/MCOPSTN8/domestic/2026-11/ü"'
    money = {"balance_micros": 0, "currency": "USD"}
    call = {"cause": "call"}
    expected = [
        ("pool.reached", f"{pool}/80", "2026-11-03T10:35:00.000Z",
         {"percent": 80, "pool": pool, "capacity": 5, "used": 5, "account_version": 6, "input": [0, 0]} | call),
        ("pool.reached", f"{pool}/100", "2026-11-03T10:35:00.000Z",
         {"percent": 100, "pool": pool, "capacity": 5, "used": 5, "account_version": 6, "input": [0, 0]} | call),
        ("lot.expired", "old", "2026-11-03T11:31:00.250Z",
         {"lot_id": "old", "forfeited_micros": 500_000, "expires_at": "2026-11-03T11:00:00.000Z", "balance_micros": 1_000_000,
          "currency": "USD", "account_version": 7, "input": [0, 1]} | call),
        ("balance.zero", "1", "2026-11-03T11:31:00.250Z",
         money | {"crossing": 1, "account_version": 7, "input": [0, 1]} | call),
        ("service.blocked", "1", "2026-11-03T11:31:00.250Z",
         {"call_types": CALL_TYPES} | money | {"account_version": 7, "input": [0, 1]} | call),
        ("recharge.requested", "1", "2026-11-03T11:31:00.250Z",
         {"recharge_id": "contoso:recharge:1", "amount_micros": 3_000_000, "trigger_micros": 500_000} | money
         | {"account_version": 7, "input": [0, 1]} | call),
        ("recharge.failed", "c6", "2026-11-03T12:00:00.000Z",
         {"recharge_id": "contoso:recharge:1", "reason": "card"} | money
         | {"failures": 1, "next_attempt_after": "2026-11-03T12:15:00.000Z", "account_version": 8, "input": [0, 5],
            "cause": "command"}),
        ("recharge.succeeded", "c7", "2026-11-03T12:01:00.000Z",
         {"recharge_id": "contoso:recharge:1", "lot_id": "new", "amount_micros": 3_000_000, "balance_micros": 3_000_000,
          "currency": "USD", "account_version": 9, "input": [0, 6], "cause": "command"}),
        ("service.restored", "1", "2026-11-03T12:01:00.000Z",
         {"call_types": CALL_TYPES, "balance_micros": 3_000_000, "currency": "USD", "account_version": 9, "input": [0, 6],
          "cause": "command"}),
        ("rate.missing", "8835/2026-11-03", "2026-11-03T12:01:00.000Z",
         {"digits": "8835", "day": "2026-11-03", "call_type": "user_out", "record_id": 'odd "1"', "account_version": 10,
          "input": [0, 2]} | call),
        ("contacts.set", "people", "2026-11-03T10:00:00.000Z",
         {"contacts": [{"email": "a@b.example", "language": "en", "roles": [], "events": None}], "account_version": 11,
          "input": [0, 7], "cause": "command"}),
        ("lot.expiring", "new", "2027-10-05T00:00:00.000Z",
         {"lot_id": "new", "left_micros": 3_000_000, "expires_at": "2027-11-03T12:01:00.000Z", "balance_micros": 3_000_000,
          "currency": "USD", "account_version": 12, "input": [0, 8], "cause": "command"}),
        ("month.closed", "2026-11", "2027-10-05T00:00:00.000Z",
         {"month": "2026-11", "calls": 3, "connected_calls": 3, "charge_micros": 1_000_000, "invoice_micros": 0,
          "pool_minutes": 5, "credit_minutes": 1, "late_calls": 0, "balance_micros": 3_000_000, "currency": "USD",
          "account_version": 12, "input": [0, 8], "cause": "command"}),
    ]  # fmt: skip
    for event, (kind, period, time, data) in zip(everything_once(), expected, strict=True):
        whole = {"specversion": "1.0", "id": f"contoso/{kind}/{period}", "source": "rater", "type": f"rater.{kind}",
                 "subject": "contoso", "time": time, "datacontenttype": "application/json", "data": data}  # fmt: skip
        if kind in ("recharge.failed", "recharge.succeeded"):
            whole["id"] = event["id"]  # the command's id, which the bench numbers
            assert event["id"].startswith(f"contoso/{kind}/c")
        assert event == whole


def test_ids_are_unique_and_the_same_each_time():
    ids = [event["id"] for event in everything_once()]
    assert len(set(ids)) == len(ids)
    assert ids == [event["id"] for event in everything_once()]


@pytest.mark.parametrize("event", everything_once(), ids=lambda event: event["id"])
def test_no_event_names_a_whole_phone_number(event: Row):
    assert b"12125550123" not in orjson.dumps(event)
    assert b"88351234" not in orjson.dumps(event)
