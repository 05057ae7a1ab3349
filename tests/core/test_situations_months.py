"""Months: what a tenant's calls came to, told once when the month is closed, whatever the order in which they came."""

import orjson

from rater.doors.accounts import account_row, months_of
from tests.workbench import NOON, Bench, Rates, Row, call_record, tell


def test_a_month_is_told_at_the_first_tick_48_hours_after_its_end():
    tell("""
        rate     1   1.00
        funds    lot 9.00
        call     +12125550123 2m at=2026-11-03 -> charged 2.00
        call     +12125550123 0s at=2026-11-04 -> not_connected
        call     +12125550123 1m at=2026-11-30T23:59:59.999 -> charged 1.00
        call     +12125550123 1m at=2026-12-01 -> charged 1.00
        tick     at=2026-12-02T23:59:59.999
        tick     at=2026-12-03
        ! month.closed month=2026-11 calls=3 connected_calls=2 charge=3.00 invoice=0 pool_minutes=0 credit_minutes=3 late_calls=0 balance=5.00 currency=USD id=contoso/month.closed/2026-11 time=2026-12-03 cause=command
        tick     at=2026-12-04
        tick     at=2027-01-03
        ! month.closed month=2026-12 calls=1 charge=1.00
    """)


def test_a_month_without_calls_is_not_told():
    tell("""
        rate     1   1.00
        call     +12125550123 1m at=2026-09-03
        funds    lot 1.00 at=2026-10-03
        tick     at=2026-12-03
        ! month.closed month=2026-09
    """)


def test_the_parts_of_a_call_are_summed_each_in_its_column():
    tell("""
        rate     1   1.00
        plan     MCOPSTN1 US 4 0
        open     US USD overage
        licence  u MCOPSTN1
        funds    lot 1.00
        call     +12125550123 3m -> pooled 0 minutes=3+0
        call     +12125550123 4m -> invoiced 3.00 minutes=1+3 lots=lot:1.00 invoice=2.00
        ! pool.reached percent=80
        ! pool.reached percent=100
        ! balance.zero
        tick     at=2026-12-03
        ! month.closed calls=2 connected_calls=2 charge=3.00 invoice=2.00 pool_minutes=4 credit_minutes=3 balance=0
    """)


def test_months_that_close_at_once_are_told_the_earliest_first_whatever_came_first():
    tell("""
        rate     1   1.00
        funds    lot 90.00 at=2026-01-01
        call     +12125550123 1m at=2026-11-03
        call     +12125550123 1m at=2026-08-03
        call     +12125550123 1m at=2026-10-03
        call     +12125550123 1m at=2026-08-31
        call     +12125550123 1m at=2026-12-01
        tick     at=2026-12-03
        ! lot.expiring
        ! month.closed month=2026-08 calls=2
        ! month.closed month=2026-10 calls=1
        ! month.closed month=2026-11 calls=1
    """)


def test_a_call_that_comes_when_its_month_was_told_is_charged_and_changes_no_summary():
    story = tell("""
        rate     1   1.00
        funds    lot 9.00
        call     +12125550123 1m at=2026-11-03 -> charged 1.00
        tick     at=2026-12-03
        ! month.closed month=2026-11 calls=1 late_calls=0
        call     +12125550123 2m at=2026-11-04 -> charged 2.00 flags=no_credit_licence,late,no_plan
        tick     at=2027-06-03
    """)
    [november] = months(story.bench)
    assert (november["calls"], november["charge_micros"], november["late_calls"], november["told"]) == (
        2,
        3_000_000,
        1,
        True,
    )


def test_a_month_whose_calls_all_came_late_is_told_at_the_next_tick():
    tell("""
        rate     1   1.00
        funds    lot 9.00
        tick     at=2026-12-03
        call     +12125550123 1m at=2026-11-04 -> charged 1.00 flags=no_credit_licence,late,no_plan
        call     +12125550123 1m at=2026-11-05 -> charged 1.00 flags=no_credit_licence,late,no_plan
        tick     at=2026-11-01
        ! month.closed month=2026-11 calls=2 late_calls=2 time=2026-11-01
        tick     at=2026-12-04
    """)


def test_a_call_belongs_to_the_month_of_its_start_even_when_it_ends_in_the_next():
    tell("""
        rate     1   1.00
        funds    lot 9.00
        call     +12125550123 2m at=2026-11-30T23:59
        tick     at=2026-12-03
        ! month.closed month=2026-11 calls=1 credit_minutes=2
    """)


def test_duplicates_and_rejected_calls_are_in_no_month():
    tell("""
        rate     1   1.00
        funds    lot 9.00
        call     +12125550123 1m id=a
        again    a -> duplicate
        call     +12125550123 2m id=a -> conflict
        tick     at=2026-12-03
        ! month.closed calls=1 charge=1.00
    """)


def test_each_tenant_is_told_its_own():
    tell("""
        rate     1   1.00
        funds    lot 9.00 tenant=fabrikam
        funds    lot 9.00 tenant=adatum
        call     +12125550123 1m tenant=fabrikam
        call     +12125550123 2m tenant=adatum
        tick     at=2026-12-03 tenant=fabrikam
        ! month.closed subject=fabrikam charge=1.00
        tick     at=2026-12-03 tenant=adatum
        ! month.closed subject=adatum charge=2.00
    """)


def test_a_tick_tells_of_more_months_and_lots_than_the_news_of_a_batch_have_room_for():
    """Two thousand months and a thousand lots: the array grows before anything is touched."""
    b = Bench(Rates(outbound=["1,,US,,0,,,,,,"]).book())
    b.command("tenant.opened", "0001-01-01T00:00:00Z", country="US", currency="USD", billing_mode="prepaid")
    b.decide([b.command_bytes("funds.added", NOON, lot_id=f"l{k}", amount_micros=1, expires_at="9000-01-01T00:00:00Z")
              for k in range(1_000)], [])  # fmt: skip
    starts = [f"{1_800 + k // 12}-{k % 12 + 1:02}-01T00:00:00Z" for k in range(2_000)]
    b.decide([], [orjson.dumps(call_record(f"r{k}", start=start)) for k, start in enumerate(starts[::-1])])
    events = b.command("clock.ticked", "8999-12-15T00:00:00Z").event_types()
    assert events == ["lot.expiring"] * 1_000 + ["month.closed"] * 2_000
    assert not b.command("clock.ticked", "8999-12-16T00:00:00Z").events


# ---------------------------------------------------------------------------------------------- lots that will expire


def test_a_lot_is_told_of_once_thirty_days_before_it_expires():
    tell("""
        rate     1   1.00
        funds    lot 9.00 expires=2026-12-31T12:00
        tick     at=2026-12-01T11:59:59.999
        call     +12125550123 1m -> charged 1.00
        tick     at=2026-12-01T12:00
        ! lot.expiring lot_id=lot left=8.00 expires_at=2026-12-31T12:00 balance=8.00 currency=USD id=contoso/lot.expiring/lot cause=command
        tick     at=2026-12-02
        tick     at=2026-12-31T12:00
        ! lot.expired lot_id=lot forfeited=8.00
        ! balance.zero
        ! service.blocked
        ! month.closed month=2026-11
    """)


def test_of_several_lots_those_are_told_that_expire_within_thirty_days_in_the_order_they_are_drawn():
    tell("""
        funds    c 3.00 at=2026-11-03 expires=2026-12-01
        funds    b 2.00 at=2026-11-02 expires=2027-11-30
        funds    a 1.00 at=2026-11-01 expires=2026-12-10
        funds    gone 1.00 at=2026-10-01 expires=2026-11-15
        tick     at=2026-11-20
        ! lot.expired lot_id=gone balance=6.00
        ! lot.expiring lot_id=a left=1.00 balance=6.00
        ! lot.expiring lot_id=c left=3.00
        funds    d 1.00 at=2026-11-20 expires=2026-12-01
        tick     at=2026-11-21
        ! lot.expiring lot_id=d
    """)


def test_a_lot_that_is_used_up_or_does_not_expire_is_not_told_of():
    tell("""
        rate     1   1.00
        funds    lot 1.00 at=2026-11-01 expires=2026-11-20
        adjust   5.00
        call     +12125550123 1m -> charged 1.00 lots=lot:1.00
        tick     at=2026-11-10
        tick     at=2026-11-20
        recharge on below=9.00 with=1.00
        ! recharge.requested balance=5.00
    """)


def test_only_a_tick_tells_of_a_lot():
    tell("""
        rate     1   1.00
        funds    lot 9.00 expires=2026-11-20
        call     +12125550123 1m
        adjust   1.00
        tick
        ! lot.expiring left=8.00
    """)


def test_a_lot_in_the_row_of_a_lot_that_was_told_of_is_told_of_too():
    tell("""
        rate     1   1.00
        funds    first 1.00 expires=2026-11-20
        tick
        ! lot.expiring lot_id=first
        call     +12125550123 1m -> charged 1.00
        ! balance.zero
        ! service.blocked
        funds    second 1.00 expires=2026-11-20
        ! service.restored
        tick
        ! lot.expiring lot_id=second
    """)


# ---------------------------------------------------------------------------------------------- contacts


def test_setting_contacts_is_a_change_of_the_account_and_is_told_with_its_defaults():
    b = Bench(Rates().book())
    b.command("tenant.opened", country="US", currency="USD", billing_mode="prepaid")
    given: list[Row] = [
        {"email": "finance@contoso.example", "roles": ["finance"], "events": ["rater.recharge.failed"], "note": "x"},
        {"webhook": "https://hooks.example/rater", "language": "fr"},
    ]
    [event] = b.command("contacts.set", command_id="mine", contacts=given).events
    assert event["id"] == "contoso/contacts.set/mine"
    assert event["time"] == "2026-11-03T12:00:00.000Z"
    assert event["data"] == {
        "contacts": [
            {
                "email": "finance@contoso.example",
                "language": "en",
                "roles": ["finance"],
                "events": ["rater.recharge.failed"],
            },
            {"webhook": "https://hooks.example/rater", "language": "fr", "roles": [], "events": None},
        ],
        "account_version": 2,
        "input": [0, 1],
        "cause": "command",
    }
    assert b.balance()["version"] == 2


def test_contacts_set_again_with_the_same_id_are_a_duplicate_and_told_once():
    tell("""
        contacts a@b.example https://hooks.example/x id=mine
        ! contacts.set account_version=2
        again    mine -> duplicate
        contacts id=none
        ! contacts.set contacts=[] account_version=3
    """)


def months(bench: Bench | None) -> list[Row]:
    assert bench is not None
    return months_of(bench.state, account_row(bench.state, "contoso"))
