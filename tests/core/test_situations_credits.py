"""Credits: lots first in first out, expiry, debt and repayment, post-usage invoices, corrections, and the flags."""

import pytest

from tests.workbench import tell


def test_lots_are_drawn_first_in_first_out_and_a_call_may_span_several():
    tell("""
        rate     1   1.00
        funds    late   2.00 at=2026-11-02
        funds    early  1.50 at=2026-11-01
        funds    same-b 1.00 at=2026-11-03
        funds    same-a 1.00 at=2026-11-03
        funds    same-B 1.00 at=2026-11-03
        balance  6.50 lots=early:1.50,late:2.00,same-B:1.00,same-a:1.00,same-b:1.00
        call     +12125550123 1m -> charged 1.00 lots=early:1.00 balance=5.50
        call     +12125550123 3m -> charged 3.00 lots=early:0.50,late:2.00,same-B:0.50 balance=2.50
        call     +12125550123 1m -> charged 1.00 lots=same-B:0.50,same-a:0.50
        balance  1.50 lots=same-a:0.50,same-b:1.00
    """)


def test_a_lot_bought_first_is_drawn_first_even_when_it_expires_last():
    tell("""
        rate     1   1.00
        funds    long   2.00 at=2026-11-01 expires=2030-01-01
        funds    short  2.00 at=2026-11-02 expires=2026-11-10
        call     +12125550123 1m -> charged 1.00 lots=long:1.00
    """)


def test_an_emptied_lot_makes_room_and_the_order_stays():
    tell("""
        rate     1   1.00
        funds    a 1.00 at=2026-11-01
        funds    b 1.00 at=2026-11-02
        call     +12125550123 1m -> charged 1.00 lots=a:1.00
        funds    c 1.00 at=2026-10-01
        funds    d 1.00 at=2026-11-03
        call     +12125550123 3m -> charged 3.00 lots=c:1.00,b:1.00,d:1.00 balance=0
    """)


def test_a_lot_that_expires_at_the_very_instant_pays_nothing_more():
    tell("""
        rate     1   1.00
        funds    lot 5.00 expires=2026-11-03T12:01:00
        call     +12125550123 59999ms -> charged 1.00 lots=lot:1.00 balance=4
        call     +12125550123 60000ms -> charged 1.00 lots=none debt=1.00 balance=-1 flags=no_credit_licence,overdrawn,no_plan
        ! lot.expired lot_id=lot forfeited=4.00 expires_at=2026-11-03T12:01:00 balance=0 cause=call id=contoso/lot.expired/lot
        ! balance.zero crossing=1 balance=0 time=2026-11-03T12:01:00
        ! service.blocked balance=0
    """)


def test_what_has_expired_stays_expired_however_late_the_next_record_is():
    tell("""
        rate     1   1.00
        funds    lot 5.00 expires=2026-11-05
        tick     at=2026-11-04T23:59:59.999
        ! lot.expiring lot_id=lot left=5.00
        balance  5.00
        tick     at=2026-11-05
        ! lot.expired lot_id=lot forfeited=5.00 cause=command
        ! balance.zero crossing=1
        ! service.blocked
        call     +12125550123 1m at=2026-11-03 -> charged 1.00 debt=1.00 balance=-1
    """)


@pytest.mark.parametrize(
    ("bought", "expires"),
    [
        ("2026-11-03T12:00:00Z", "2027-11-03T12:00:00.000Z"),
        ("2024-02-29T23:59:59.999Z", "2025-02-28T23:59:59.999Z"),
        ("2023-02-28T00:00:00Z", "2024-02-28T00:00:00.000Z"),
        ("2026-12-31T23:59:59Z", "2027-12-31T23:59:59.000Z"),
    ],
)
def test_funds_expire_twelve_calendar_months_after_purchase_unless_told_otherwise(bought: str, expires: str):
    story = tell(f"""
        funds    lot 5.00 at={bought}
    """)
    assert story.bench is not None
    assert story.bench.balance()["expires"] == {"lot": expires}


def test_only_what_has_expired_is_forfeited_in_the_order_of_purchase():
    tell("""
        rate     1   1.00
        funds    a 1.00 at=2026-11-01 expires=2026-11-04
        funds    b 1.00 at=2026-11-02 expires=2026-11-09
        funds    c 1.00 at=2026-11-03 expires=2026-11-04
        call     +12125550123 1m at=2026-11-04 -> charged 1.00 lots=b:1.00 balance=0
        ! lot.expired lot_id=a balance=2.00
        ! lot.expired lot_id=c balance=1.00
        ! balance.zero crossing=1
        ! service.blocked
    """)


def test_a_record_that_is_rejected_or_a_duplicate_is_not_seen_by_the_account():
    tell("""
        rate     1   1.00
        funds    lot 5.00 expires=2026-11-05
        call     +12125550123 1m id=a -> charged 1.00
        call     +12125550123 2m id=a at=2026-12-01 -> conflict
        again    a -> duplicate
        call     +12125550123 2m at=2026-12-01 call_type=dance -> bad_field
        licence  u MCOPSTN1 at=2026-11-04
        licence  u MCOPSTN1 at=2026-12-01 -> already_assigned
        balance  4.00 lots=lot:4.00
    """)


def test_what_no_lot_covers_is_debt_and_new_money_repays_it_first():
    tell("""
        rate     1   1.00
        funds    a 0.20
        call     +12125550123 1m -> charged 1.00 lots=a:0.20 debt=0.80 invoice=0 balance=-0.80
        call     +12125550123 1m -> charged 1.00 lots=none debt=1.00 balance=-1.80
        balance  -1.80 debt=1.80 lots=none
        funds    b 1.00
        balance  -0.80 debt=0.80 lots=none
        funds    c 0.80
        balance  0 debt=0 lots=none
        funds    d 0.50
        balance  0.50 debt=0 lots=d:0.50
        call     +12125550123 1m -> charged 1.00 lots=d:0.50 debt=0.50
        funds    e 2.00
        balance  1.50 debt=0 lots=e:1.50
    """)


def test_a_post_usage_tenant_uses_its_lots_first_and_then_its_invoice():
    tell("""
        rate     1   1.00
        open     US USD overage
        funds    lot 1.50
        call     +12125550123 1m -> charged 1.00 lots=lot:1.00 invoice=0 debt=0 balance=0.50 flags=no_plan
        call     +12125550123 1m -> invoiced 1.00 lots=lot:0.50 invoice=0.50 debt=0 balance=0
        call     +12125550123 2m -> invoiced 2.00 lots=none invoice=2.00 balance=0
        balance  0 invoice=2.50 debt=0
    """)


def test_a_correction_down_is_debt_in_every_billing_mode_and_funds_repay_it():
    tell("""
        rate     1   1.00
        open     US USD post_usage
        funds    lot 1.00
        adjust   -1.50
        balance  -0.50 debt=0.50 invoice=0 lots=none
        call     +12125550123 1m -> invoiced 1.00 invoice=1.00 balance=-0.50
        adjust   +0.70 id=fix
        balance  0.20 debt=0 invoice=1.00 lots=adj-fix:0.20
    """)


def test_a_correction_up_is_a_lot_that_never_expires():
    story = tell("""
        rate     1   1.00
        funds    lot 1.00 at=2026-11-02
        adjust   +2.00 id=x at=2026-11-01
        call     +12125550123 1m -> charged 1.00 lots=adj-x:1.00
        tick     at=9999-12-31T23:59:59.999
        balance  1.00 lots=adj-x:1.00
    """)
    assert story.bench is not None
    assert story.bench.balance()["expires"] == {"adj-x": None}


def test_overdrawn_is_a_prepaid_balance_at_or_below_nothing_before_or_below_it_after():
    tell("""
        rate     1   1.00
        licence  u MCOPSTN1
        licence  u MCOPSTNC
        funds    lot 2.00
        call     +12125550123 2m -> charged 2.00 balance=0 flags=none
        call     +12125550123 1m -> charged 1.00 balance=-1 flags=overdrawn
        funds    more 1.50
        call     +12125550123 1m -> charged 1.00 balance=-0.50 flags=overdrawn
    """)


def test_nothing_is_overdrawn_that_costs_nothing():
    tell("""
        rate     1   1.00
        plan     MCOPSTN1 US 5 0
        licence  u MCOPSTN1
        adjust   -1.00
        call     +12125550123 1m -> pooled 0 flags=none balance=-1
    """)


def test_a_user_without_the_credit_licence_is_marked_when_a_prepaid_tenant_pays():
    tell("""
        rate     1   1.00
        rate     2   0
        plan     MCOPSTN1 US 1 0
        licence  u MCOPSTN1
        funds    lot 9
        call     +12125550123 1m -> pooled 0 flags=none
        call     +12125550123 1m -> charged 1.00 flags=no_credit_licence
        call     +2348021234567 1m -> free 0 flags=none
        licence  u MCOPSTNC
        call     +12125550123 1m -> charged 1.00 flags=none
        unlicence u MCOPSTNC
        call     +12125550123 1m -> charged 1.00 flags=no_credit_licence
    """)


def test_flags_are_written_in_one_order():
    tell("""
        rate     1   1.00
        tick     at=2027-01-03
        call     +12125550123 1m -> charged 1.00 flags=no_credit_licence,overdrawn,late,no_plan
    """)


def test_the_version_of_an_account_counts_every_change_without_a_gap():
    tell("""
        rate     1   1.00
        open     US USD prepaid
        funds    lot 9.00 id=f
        again    f -> duplicate
        funds    lot 1.00 -> conflict
        call     +12125550123 1m id=a -> charged 1.00 account_version=3
        again    a -> duplicate
        call     +12125550123 1m at=2026-11-03 callee=12 -> bad_field
        call     +12125550123 1m disposition=busy -> not_connected 0 account_version=4
        unlicence u MCOPSTN1 -> not_assigned
        tick
        call     +12125550123 1m -> charged 1.00 account_version=6
        call     +12125550123 1m tenant=other -> charged 1.00 account_version=2
    """)


def test_amounts_that_no_account_takes():
    tell("""
        adjust   0 -> bad_field
        funds    lot 0 -> bad_field
        funds    lot -1 -> bad_field
        funds    lot 1000000000.000001 -> bad_field
        funds    lot 1.00 expires=2026-11-03T12:00 -> bad_field
        funds    lot 1000000000
        balance  1000000000
    """)


def test_a_rejected_lot_may_be_sent_again_and_a_taken_one_may_not():
    tell("""
        funds    lot 1.00 expires=2026-01-01 -> bad_field
        funds    lot 1.00
        funds    lot 1.00 -> conflict
        funds    lot 1.00 tenant=other
        call     +12125550123 1m tenant=other -> freecall 0 balance=1
        balance  1.00
    """)
