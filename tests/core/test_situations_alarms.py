"""Each threshold is announced once per crossing: pools, balance zero, blocked and restored, a missing rate."""

from tests.workbench import tell


def test_eighty_and_a_hundred_percent_of_a_pool_once_a_month():
    tell("""
        rate     1   0.01
        plan     MCOPSTN1 US 5 0
        licence  u MCOPSTN1
        funds    lot 9
        call     +12125550123 3m -> pooled 0
        call     +12125550123 1m at=2026-11-03T13:30 -> pooled 0
        ! pool.reached percent=80 used=4 capacity=5 pool=US/MCOPSTN1/domestic/2026-11 time=2026-11-03T13:31 \
id=contoso/pool.reached/US/MCOPSTN1/domestic/2026-11/80 cause=call
        call     +12125550123 2m -> charged 0.01 minutes=1+1
        ! pool.reached percent=100 used=5 capacity=5
        call     +12125550123 1m -> charged 0.01
        call     +12125550123 5m at=2026-12-01 -> pooled 0
        ! pool.reached percent=80 used=5 pool=US/MCOPSTN1/domestic/2026-12
        ! pool.reached percent=100 used=5
    """)


def test_a_pool_that_grew_does_not_repeat_what_it_said():
    tell("""
        rate     1   0.01
        plan     MCOPSTN1 US 5 0
        licence  u MCOPSTN1
        call     +12125550123 4m -> pooled 0
        ! pool.reached percent=80 capacity=5
        licence  v MCOPSTN1
        call     +12125550123 4m -> pooled 0
        call     +12125550123 2m -> pooled 0
        ! pool.reached percent=100 used=10 capacity=10
        licence  w MCOPSTN1
        call     +12125550123 5m -> pooled 0
    """)


def test_a_percentage_is_of_the_capacity_at_that_moment_and_is_looked_at_after_a_call_only():
    tell("""
        rate     1   0.01
        plan     MCOPSTN1 US 5 0
        licence  u MCOPSTN1
        licence  v MCOPSTN1
        call     +12125550123 4m -> pooled 0
        unlicence v MCOPSTN1
        call     +12125550123 1m -> pooled 0
        ! pool.reached percent=80 used=5 capacity=5
        ! pool.reached percent=100 used=5 capacity=5
    """)


def test_seventy_nine_percent_is_not_eighty():
    tell("""
        rate     1   0.01
        plan     MCOPSTN1 US 100 0
        licence  u MCOPSTN1
        call     +12125550123 79m -> pooled 0
        call     +12125550123 1m -> pooled 0
        ! pool.reached percent=80 used=80
        call     +12125550123 19m -> pooled 0
        call     +12125550123 1m -> pooled 0
        ! pool.reached percent=100 used=100
    """)


def test_each_counter_of_the_international_plan_is_a_pool_of_its_own():
    tell("""
        rate     1   0.01
        rate     44  0.01
        plan     MCOPSTN2 US 10 5
        licence  u MCOPSTN2
        call     +12125550123 8m -> pooled 0
        ! pool.reached percent=80 pool=US/MCOPSTN2/domestic/2026-11
        call     +442079460018 4m -> pooled 0
        ! pool.reached percent=80 pool=US/MCOPSTN2/international/2026-11
    """)


def test_balance_zero_is_announced_once_a_crossing():
    tell("""
        rate     1   1.00
        funds    a 1.00
        call     +12125550123 1m -> charged 1.00 balance=0
        ! balance.zero crossing=1 balance=0 id=contoso/balance.zero/1
        ! service.blocked balance=0 id=contoso/service.blocked/1
        call     +12125550123 1m -> charged 1.00 balance=-1
        funds    b 1.00
        call     +12125550123 1m -> charged 1.00 balance=-1
        funds    c 1.50
        ! service.restored balance=0.50 id=contoso/service.restored/1
        call     +12125550123 1m -> charged 1.00 balance=-0.50
        ! balance.zero crossing=2 balance=-0.50 id=contoso/balance.zero/2
        ! service.blocked id=contoso/service.blocked/2
        adjust   +0.500001
        ! service.restored balance=0.000001
    """)


def test_an_account_that_never_had_money_crosses_nothing():
    tell("""
        rate     1   1.00
        call     +12125550123 1m -> charged 1.00 balance=-1
        funds    a 1.00
        funds    b 1.00
        call     +12125550123 1m -> charged 1.00 balance=0
        ! balance.zero crossing=1
        ! service.blocked
    """)


def test_a_tenant_that_pays_after_use_is_not_blocked_when_it_has_overage():
    tell("""
        rate     1   1.00
        open     US USD overage
        funds    a 1.00
        call     +12125550123 2m -> invoiced 2.00 balance=0
        ! balance.zero crossing=1
        funds    b 1.00
        call     +12125550123 2m -> invoiced 2.00 balance=0
        ! balance.zero crossing=2
    """)


def test_a_tenant_that_pays_after_use_is_blocked_without_overage():
    tell("""
        rate     1   1.00
        open     US USD post_usage
        funds    a 1.00
        call     +12125550123 2m -> invoiced 2.00 balance=0
        ! balance.zero crossing=1
        ! service.blocked
        funds    b 1.00
        ! service.restored
    """)


def test_a_lot_that_expires_behind_others_crosses_nothing():
    tell("""
        rate     1   1.00
        funds    a 1.00 expires=2026-11-04
        funds    b 1.00
        tick     at=2026-11-04
        ! lot.expired lot_id=a forfeited=1.00 balance=1.00
    """)


def test_what_expires_is_told_before_what_the_record_itself_sets_off():
    tell("""
        rate     1   1.00
        plan     MCOPSTN1 US 1 0
        licence  u MCOPSTN1
        funds    a 1.00 expires=2026-11-04
        recharge on below=1.00 with=2.00
        call     +12125550123 2m at=2026-11-04 -> charged 1.00 minutes=1+1 balance=-1
        ! lot.expired lot_id=a balance=0
        ! balance.zero crossing=1 balance=0
        ! service.blocked balance=0
        ! recharge.requested recharge_id=contoso:recharge:1 balance=0
        ! pool.reached percent=80
        ! pool.reached percent=100
        funds    b 3.00 for=contoso:recharge:1 at=2026-11-04T01:00
        ! recharge.succeeded balance=2.00
        ! service.restored balance=2.00
    """)


def test_a_missing_rate_is_announced_once_a_day_and_four_digits():
    tell("""
        call     +88351234 1m at=2026-11-03T00:00 -> freecall 0
        ! rate.missing digits=8835 day=2026-11-03
        call     +88359999 1m at=2026-11-03T23:59:59.999 -> freecall 0
        call     +88369999 1m at=2026-11-03 -> freecall 0
        ! rate.missing digits=8836 day=2026-11-03
        call     +883 1m at=2026-11-03 -> freecall 0
        ! rate.missing digits=883 day=2026-11-03
        call     +88351234 1m at=2026-11-04T00:00 -> freecall 0
        ! rate.missing digits=8835 day=2026-11-04
        call     +88351234 1m at=2026-11-03 -> freecall 0
        call     +88351234 1m at=2026-11-03 tenant=other -> freecall 0
        ! rate.missing digits=8835 day=2026-11-03 subject=other
        call     +88351234 1m at=1969-12-31T23:59 -> freecall 0
        ! rate.missing digits=8835 day=1969-12-31
    """)


def test_a_call_that_was_not_connected_misses_no_rate():
    tell("""
        plan     MCOPSTN1 US 5 0
        licence  u MCOPSTN1
        call     +88351234 1m disposition=busy -> not_connected 0
        call     +12125550123 1m -> pooled 0
        call     +88351234 1m type=dr_out -> free 0
        call     +88351234 1m -> freecall 0
        ! rate.missing digits=8835
    """)
