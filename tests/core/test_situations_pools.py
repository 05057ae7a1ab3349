"""Minute pools: whose they are, how large, what counts as domestic, when they end, and a call that outlasts one."""

import pytest

from tests.workbench import tell


def test_minutes_that_run_out_during_a_call_leave_the_rest_to_credits():
    tell("""
        rate     1   0.02
        plan     MCOPSTN1 US 5 0
        licence  u MCOPSTN1
        licence  u MCOPSTNC
        funds    lot 1
        call     +12125550123 3m -> pooled 0 minutes=3+0 pool=US/MCOPSTN1/domestic/2026-11 capability=MCOPSTN1 prefix=1
        call     +12125550123 3m -> charged 0.02 minutes=2+1 pool=US/MCOPSTN1/domestic/2026-11 capability=MCOPSTNPP
        call     +12125550123 1m -> charged 0.02 minutes=0+1 pool=null
        balance  0.96  pool=US/MCOPSTN1/domestic/2026-11=5/5
    """)


def test_whole_pool_minutes_come_off_the_raised_seconds():
    tell("""
        rate     1     0.06  60/1  fee=0.02
        rate     1212  0.06  60/60
        rate     1415  0.06  30/6
        plan     MCOPSTN1 US 1 0
        licence  u MCOPSTN1
        funds    lot 10
        call     +19295550123 61s   at=2026-08-01 -> charged 0.021 minutes=1+1 fee=0.02
        call     +12125550123 61s   at=2026-09-01 -> charged 0.060 minutes=1+1
        call     +14155550123 61s   at=2026-10-01 -> charged 0.006 minutes=1+1
        call     +14155550123 150s  at=2026-11-01 -> charged 0.090 minutes=1+2
    """)


def test_a_fee_is_due_only_when_something_is_paid():
    tell("""
        rate     1   0.02  60/60  fee=0.50  min=1.00
        plan     MCOPSTN1 US 2 0
        licence  u MCOPSTN1
        funds    lot 10
        call     +12125550123 1m -> pooled 0 fee=0 minutes=1+0 balance=10
        call     +12125550123 2m -> charged 1.00 fee=0.50 minutes=1+1 balance=9
    """)


def test_a_rest_that_costs_nothing_is_pooled_when_a_pool_gave_minutes():
    tell("""
        rate     1   0
        plan     MCOPSTN1 US 2 0
        licence  u MCOPSTN1
        call     +12125550123 5m -> pooled 0 minutes=2+3
        call     +12125550123 5m -> free 0 minutes=0+5
    """)


def test_a_pool_pays_what_no_deck_has_a_rate_for():
    tell("""
        rate     44   0.02
        plan     MCOPSTN1 US 5 0
        licence  u MCOPSTN1
        call     +12125550123 4m -> pooled 0 minutes=4+0 prefix=null
        ! pool.reached percent=80
        call     +12125550123 2m -> freecall 0 minutes=1+0 capability=FREECALL pool=US/MCOPSTN1/domestic/2026-11
        ! pool.reached percent=100
        ! rate.missing digits=1212
    """)


def test_a_call_belongs_to_the_utc_month_of_its_start():
    tell("""
        rate     1   0.02
        plan     MCOPSTN1 US 5 0
        licence  u MCOPSTN1
        funds    lot 10
        call     +12125550123 5m at=2026-11-30T23:59:59.999 -> pooled 0 pool=US/MCOPSTN1/domestic/2026-11
        call     +12125550123 4m at=2026-12-01T00:00:00.000 -> pooled 0 pool=US/MCOPSTN1/domestic/2026-12
        call     +12125550123 1m at=2026-11-30T23:59:59.999 -> charged 0.02
        call     +12125550123 1m at=2027-11-30 -> pooled 0 pool=US/MCOPSTN1/domestic/2027-11
    """)


def test_users_of_one_plan_and_country_share_one_pool():
    tell("""
        rate     1   0.02
        plan     MCOPSTN1 US 5 0
        licence  u MCOPSTN1
        licence  v MCOPSTN1
        funds    lot 10
        call     +12125550123 9m by=u -> pooled 0
        call     +12125550123 2m by=v -> charged 0.02 minutes=1+1
        balance  9.98 pool=US/MCOPSTN1/domestic/2026-11=10/10
    """)


def test_different_plans_and_countries_and_tenants_share_nothing():
    tell("""
        rate     1   0.02
        rate     44  0.02
        plan     MCOPSTN1 US 5 0
        plan     MCOPSTN5 US 2 0
        plan     MCOPSTN1 GB 3 0
        licence  a MCOPSTN1 US
        licence  b MCOPSTN5 US
        licence  c MCOPSTN1 GB
        licence  a MCOPSTN1 US tenant=other
        call     +12125550123 5m by=a -> pooled 0 minutes=5+0 pool=US/MCOPSTN1/domestic/2026-11
        call     +12125550123 2m by=b -> pooled 0 minutes=2+0 pool=US/MCOPSTN5/domestic/2026-11
        call     +442079460018 3m by=c -> pooled 0 minutes=3+0 pool=GB/MCOPSTN1/domestic/2026-11
        call     +12125550123 5m by=a tenant=other -> pooled 0 minutes=5+0
    """)


def test_the_united_states_and_puerto_rico_are_one_pool():
    tell("""
        rate     1   0.02
        plan     MCOPSTN1 US 5 0
        plan     MCOPSTN1 PR 5 0
        licence  u MCOPSTN1 US
        licence  v MCOPSTN1 PR
        funds    lot 10
        call     +17875550123 6m by=u -> pooled 0 pool=US/MCOPSTN1/domestic/2026-11 destination_country=PR \
destination_context=Domestic
        call     +12125550123 5m by=v -> charged 0.02 minutes=4+1 pool=US/MCOPSTN1/domestic/2026-11
    """)


@pytest.mark.parametrize(
    ("home", "callee", "context"),
    [
        ("US", "+12125550123", "Domestic"),
        ("US", "+14165550123", "Domestic"),
        ("US", "+17875550123", "Domestic"),
        ("CA", "+12125550123", "Domestic"),
        ("CA", "+17875550123", "Domestic"),
        ("CA", "+14165550123", "Domestic"),
        ("PR", "+14165550123", "Domestic"),
        ("PR", "+12125550123", "Domestic"),
        ("US", "+442079460018", "International"),
        ("CA", "+442079460018", "International"),
        ("GB", "+442079460018", "Domestic"),
        ("GB", "+441534123456", "International"),  # Jersey
        ("GB", "+12125550123", "International"),
        ("US", "+18765550123", "International"),  # Jamaica
        ("US", "+88351234567", "International"),  # no country at all
    ],
)
def test_domestic_is_the_licence_country_with_us_pr_and_us_ca_as_one(home: str, callee: str, context: str):
    outcome = "pooled 0 minutes=1+0" if context == "Domestic" else "charged 0.02 minutes=0+1"
    tell(f"""
        rate     1   0.02
        rate     4   0.02
        rate     8   0.02
        plan     MCOPSTN1 US 5 0
        plan     MCOPSTN1 PR 5 0
        plan     MCOPSTN1 CA 5 0
        plan     MCOPSTN1 GB 5 0
        licence  u MCOPSTN1 {home}
        funds    lot 10
        call     {callee} 1m -> {outcome} destination_context={context}
    """)


def test_the_licence_and_not_the_tenant_says_where_home_is():
    tell("""
        rate     1   0.02
        rate     44  0.01
        plan     MCOPSTN1 GB 5 0
        open     US USD prepaid
        licence  u MCOPSTN1 GB
        funds    lot 1
        call     +442079460018 1m -> pooled 0 destination_context=Domestic
        call     +12125550123 1m -> charged 0.02 destination_context=International
        call     +12125550123 1m by=nobody -> charged 0.02 destination_context=Domestic flags=no_credit_licence,no_plan
    """)


def test_either_counter_of_the_international_plan_stops_both_once_it_is_full():
    tell("""
        rate     1   0.02
        rate     44  0.03
        plan     MCOPSTN2 US 6 4
        licence  u MCOPSTN2
        funds    lot 10
        call     +442079460018 3m -> pooled 0 pool=US/MCOPSTN2/international/2026-11 capability=MCOPSTN2
        call     +12125550123 1m -> pooled 0 pool=US/MCOPSTN2/domestic/2026-11
        call     +442079460018 2m -> charged 0.03 minutes=1+1
        call     +12125550123 1m -> charged 0.02 minutes=0+1
        call     +442079460018 1m at=2026-12-01 -> pooled 0
        call     +12125550123 7m at=2026-12-01 -> charged 0.02 minutes=6+1
        call     +442079460018 1m at=2026-12-02 -> charged 0.03 minutes=0+1
    """)


def test_a_plan_of_each_users_own_minutes():
    tell("""
        rate     1   0.02
        plan     MCOPSTN8 US 3 0
        licence  u MCOPSTN8
        licence  v MCOPSTN8
        funds    lot 10
        call     +12125550123 4m by=u -> charged 0.02 minutes=3+1 pool=US/MCOPSTN8/domestic/2026-11/u
        call     +12125550123 3m by=v -> pooled 0 pool=US/MCOPSTN8/domestic/2026-11/v
        balance  9.98 pool=US/MCOPSTN8/domestic/2026-11/u=3/3
    """)


def test_the_pure_international_plan_has_no_domestic_minutes():
    tell("""
        rate     1   0.02
        rate     44  0.03
        plan     MCOPSTN9 US 0 3
        plan     MCOPSTN1 US 5 0
        licence  u MCOPSTN9
        licence  v MCOPSTN9
        licence  v MCOPSTN1
        funds    lot 10
        call     +442079460018 2m by=u -> pooled 0 pool=US/MCOPSTN9/international/2026-11 capability=MCOPSTN9
        call     +12125550123 1m by=u -> charged 0.02 minutes=0+1 flags=no_credit_licence destination_context=Domestic
        call     +12125550123 1m by=v -> pooled 0 pool=US/MCOPSTN1/domestic/2026-11
        call     +442079460018 5m by=v -> charged 0.03 minutes=4+1 pool=US/MCOPSTN9/international/2026-11
    """)


def test_pay_as_you_go_pays_every_call():
    tell("""
        rate     1   0.02
        plan     PAYG US 0 0
        licence  u PAYG
        licence  u MCOPSTNC
        funds    lot 10
        call     +12125550123 2m -> charged 0.04 minutes=0+2 pool=null capability=MCOPSTNPP flags=none
    """)


def test_one_plan_pays_and_never_two_the_first_in_the_order_even_when_it_is_empty():
    tell("""
        rate     1   0.02
        plan     MCOPSTN1 US 2 0
        plan     MCOPSTN5 US 9 0
        licence  u MCOPSTN5
        licence  u MCOPSTN1
        funds    lot 10
        call     +12125550123 3m -> charged 0.02 minutes=2+1 pool=US/MCOPSTN1/domestic/2026-11
        call     +12125550123 1m -> charged 0.02 minutes=0+1 pool=null
    """)


def test_a_plan_without_an_allotment_where_its_user_lives_gives_nothing():
    tell("""
        rate     81  0.02
        plan     MCOPSTN1 US 5 0
        licence  u MCOPSTN1 JP
        funds    lot 10
        call     +81312345678 1m -> charged 0.02 minutes=0+1 flags=no_credit_licence destination_context=Domestic
    """)


def test_capacity_is_licences_assigned_now_and_what_is_left_is_never_below_nothing():
    tell("""
        rate     1   0.02
        plan     MCOPSTN1 US 3 0
        licence  u MCOPSTN1
        licence  v MCOPSTN1
        licence  w MCOPSTN1
        funds    lot 10
        call     +12125550123 7m -> pooled 0
        unlicence v MCOPSTN1
        unlicence w MCOPSTN1 US
        balance  10 pool=US/MCOPSTN1/domestic/2026-11=7/3
        call     +12125550123 1m -> charged 0.02 minutes=0+1
        licence  x MCOPSTN1
        licence  y MCOPSTN1
        call     +12125550123 3m -> charged 0.02 minutes=2+1
    """)


def test_a_change_of_the_plan_itself_counts_from_its_date_by_the_start_of_the_call():
    tell("""
        rate     44  0.01
        plan     MCOPSTN1 GB 2 0
        plan     MCOPSTN1 GB 5 0 from=2023-01-25
        open     GB USD prepaid at=2020-01-01
        licence  u MCOPSTN1 GB at=2020-01-01
        funds    lot 10 at=2022-12-01
        call     +442079460018 3m at=2023-01-24T23:59:59.999 -> charged 0.01 minutes=2+1
        call     +442079460018 4m at=2023-01-25T00:00:00.000 -> charged 0.01 minutes=3+1
        call     +442079460018 1m at=2023-01-24T12:00:00.000 -> charged 0.01 minutes=0+1
    """)


def test_a_licence_that_moves_leaves_the_old_pool_and_enters_the_new_one():
    tell("""
        rate     1   0.02
        rate     44  0.03
        plan     MCOPSTN1 US 5 0
        plan     MCOPSTN1 GB 4 0
        licence  u MCOPSTN1 US
        licence  v MCOPSTN1 US
        funds    lot 10
        call     +12125550123 2m by=u -> pooled 0 pool=US/MCOPSTN1/domestic/2026-11
        licence  u MCOPSTN1 GB
        licence  u MCOPSTN1 GB -> already_assigned
        call     +442079460018 4m by=u -> pooled 0 pool=GB/MCOPSTN1/domestic/2026-11
        call     +12125550123 1m by=u -> charged 0.02 destination_context=International
        call     +12125550123 4m by=v -> charged 0.02 minutes=3+1
        unlicence u MCOPSTN1 US -> not_assigned
        unlicence u MCOPSTN1
        unlicence u MCOPSTN1 -> not_assigned
        call     +442079460018 1m by=u -> charged 0.03 flags=no_credit_licence,no_plan
    """)


def test_a_closed_month_still_charges_its_calls_and_marks_them_late():
    tell("""
        rate     1   0.02
        plan     MCOPSTN1 US 5 0
        licence  u MCOPSTN1
        funds    lot 10
        call     +12125550123 1m at=2026-11-30 -> pooled 0 flags=none
        tick     at=2026-12-02T23:59:59.999
        call     +12125550123 1m at=2026-11-30 -> pooled 0 flags=none
        tick     at=2026-12-03T00:00:00.000
        call     +12125550123 1m at=2026-11-30T23:59:59.999 -> pooled 0 flags=late pool=US/MCOPSTN1/domestic/2026-11
        call     +12125550123 1m at=2026-12-01 -> pooled 0 flags=none
        call     +12125550123 1m at=2026-10-05 disposition=busy -> not_connected 0 flags=late
        call     +12125550123 1m at=2026-10-05 type=emergency -> free 0 flags=late
        tick     at=2026-11-03
        call     +12125550123 1m at=2026-11-30 -> pooled 0 flags=late
    """)


def test_a_bot_draws_on_the_plan_of_its_resource_account():
    tell("""
        rate     1   0.02
        plan     MCOPSTN1 US 1 0
        licence  queue MCOPSTN1
        funds    lot 10
        call     +12125550123 2m type=ucap_out by=queue -> charged 0.02 minutes=1+1 flags=none capability=MCOPSTNPP
        call     +12125550123 2m type=ucap_out by=other -> charged 0.04 minutes=0+2 flags=none
    """)


@pytest.mark.parametrize("way", ["user_out", "user_out_conf", "user_out_transfer", "user_out_forwarding"])
def test_every_way_a_user_calls_out_is_paid_alike(way: str):
    tell(f"""
        rate     1   0.02
        plan     MCOPSTN1 US 1 0
        licence  u MCOPSTN1
        funds    lot 10
        call     +12125550123 2m type={way} -> charged 0.02 minutes=1+1 flags=no_credit_licence
        call     +12125550123 1m type={way} by=v -> charged 0.02 flags=no_credit_licence,no_plan
    """)
