"""What one call costs: minutes, increments, fee, minimum, the one rounding, and which row of the deck counts."""

import pytest

from rater.core.calls import CALL_TYPES
from tests.workbench import check_charges, tell


def test_the_longest_prefix_wins_even_when_a_shorter_one_is_cheaper():
    check_charges("""
        rate  44             0.0100   60/60
        rate  447            0.0900   60/1
        call  442079460123   61s      0.0200
        call  447700900123   61s      0.0915
        call  33199001234    61s      no_rate
    """)


def test_every_started_minute_counts():
    check_charges("""
        rate  1              0.0205
        call  12125550123    1ms      0.0205
        call  12125550123    59999ms  0.0205
        call  12125550123    60000ms  0.0205
        call  12125550123    60001ms  0.0410
        call  12125550123    24h      29.52
    """)


def test_a_call_is_raised_to_the_increments_of_its_row():
    check_charges("""
        rate  33             0.06     30/6
        rate  34             0.06     1/1
        rate  49             0.06     60/1
        rate  55             0.06     0/60
        call  33142685300    1s       0.030
        call  33142685300    30000ms  0.030
        call  33142685300    30001ms  0.036
        call  33142685300    36s      0.036
        call  33142685300    37s      0.042
        call  34911234567    1ms      0.001
        call  34911234567    7s       0.007
        call  4930123456     59s      0.060
        call  4930123456     60001ms  0.061
        call  551121234567   1s       0.060
    """)


def test_a_row_without_increments_takes_those_of_the_deck():
    check_charges("""
        deck  increments=6/6
        rate  33             0.06
        call  33142685300    1s       0.006
        call  33142685300    7s       0.012
    """)


def test_an_exact_half_is_rounded_up_and_anything_below_it_down():
    check_charges("""
        rate  33             0.000001     1/1
        rate  34             0.0000005
        rate  49             0.000000499
        rate  55             0.123456789  1/1
        call  33142685300    29s      0
        call  33142685300    30s      0.000001
        call  33142685300    89s      0.000001
        call  33142685300    90s      0.000002
        call  34911234567    60s      0.000001
        call  34911234567    3m       0.000002
        call  4930123456     60s      0
        call  551121234567   7s       0.014403
        call  551121234567   13s      0.026749
    """)


def test_money_is_rounded_once_a_call_and_not_once_a_second():
    check_charges("""
        rate  33             1.00     1/1
        call  33142685300    1s       0.016667
        call  33142685300    60s      1.000000
    """)


def test_the_connection_fee_comes_once_on_top_and_the_minimum_is_a_floor():
    check_charges("""
        rate  44             0.0100   60/60  fee=0.02
        rate  49             0.0300   1/1    min=0.10
        rate  33             0.0300   1/1    min=0.10  fee=0.08
        rate  234            0        60/60  fee=0.02
        call  442079460123   61s      0.04
        call  4930123456     100s     0.10
        call  4930123456     201s     0.1005
        call  33142685300    20s      0.10
        call  33142685300    60s      0.11
        call  2348021234567  3m       0.02
    """)


def test_the_row_in_force_at_the_start_counts_and_its_end_is_not_in_it():
    check_charges("""
        rate  44             0.01     60/60  to=2026-11-10
        rate  44             0.02     60/60  from=2026-11-10
        call  442079460123   10m      0.10   at=2026-11-09T23:59:59.999
        call  442079460123   10m      0.20   at=2026-11-10T00:00:00.000
    """)


def test_a_row_out_of_force_leaves_the_call_to_a_shorter_prefix_and_a_gap_to_none():
    check_charges("""
        rate  44             0.01     60/60
        rate  447            0.09     60/60  to=2026-11-05
        rate  33             0.03     60/60  to=2026-11-05
        rate  33             0.04     60/60  from=2026-11-06
        call  447700900123   1m       0.09    at=2026-11-04T23:59:59.999
        call  447700900123   1m       0.01    at=2026-11-05T00:00
        call  33142685300    1m       0.03    at=2026-11-04T23:59
        call  33142685300    1m       no_rate at=2026-11-05T12:00
        call  33142685300    1m       0.04    at=2026-11-06T00:00
    """)


def test_a_prefix_may_be_the_whole_number_and_one_digit_more_is_no_match():
    check_charges("""
        rate  4420           0.01
        rate  442079460018   0.05
        rate  4420794600189  0.07
        call  442079460018   1m       0.05
        call  442079460019   1m       0.01
        call  44207          1m       0.01
        call  442            1m       no_rate
    """)


def test_what_a_call_says_about_its_price():
    tell("""
        rate     1212   0.0205   name=New-York
        plan     MCOPSTN1 US 1 0
        licence  u MCOPSTN1
        licence  u MCOPSTNC
        funds    lot-7  0.999
        call     +12125550123 154550ms rang=12500ms id=sw1:3f2b6c1e:0 -> charged 0.041 minutes=1+2 \
billed_minutes=3 pool=US/MCOPSTN1/domestic/2026-11 fee=0 rate_nanos_per_minute=20500000 prefix=1212 \
destination=New-York destination_country=US destination_context=Domestic capability=MCOPSTNPP deck=story \
lots=lot-7:0.041 debt=0 invoice=0 balance=0.958 account_version=5 flags=none currency=USD
    """)


def test_nothing_is_due_for_a_call_that_nobody_connected():
    tell("""
        rate     1   0.02  60/60  fee=1.00
        funds    lot 5
        call     +12125550123 0s disposition=answered -> not_connected 0 billed_minutes=0 minutes=0+0 capability=null
        call     +12125550123 60s disposition=busy -> not_connected 0 billed_minutes=0 balance=5
        call     +12125550123 60s disposition=no_answer answered=no -> not_connected 0 prefix=null deck=null
        call     +12125550123 60s disposition=answered answered=no -> not_connected 0 destination_country=null
        call     +12125550123 60s disposition=failed -> not_connected 0 lots=none fee=0 flags=none
        balance  5.00
    """)


@pytest.mark.parametrize("way", [name for name in CALL_TYPES if name.startswith("dr_")])
def test_direct_routing_is_recorded_and_never_charged(way: str):
    tell(f"""
        rate     1   0.02
        plan     MCOPSTN1 US 5 0
        licence  u MCOPSTN1
        funds    lot 5
        call     +12125550123 61s type={way} -> free 0 billed_minutes=2 minutes=0+0 prefix=null capability=null flags=none
        balance  5.00  pool=US/MCOPSTN1/domestic/2026-11=0/5
    """)


def test_emergency_calls_are_free_by_type_and_by_number():
    tell("""
        rate     1    0.02
        rate     9    0.02
        rate     11   0.02
        funds    lot 5
        call     +112 1m -> free 0 minutes=0+0 capability=null destination_context=null prefix=null flags=none
        call     +911 1m -> free 0
        call     +911 1m type=conf_out -> free 0
        call     +911 1m type=ucap_out -> free 0
        call     +12125550123 61s type=emergency -> free 0 billed_minutes=2 destination_context=null
        balance  5.00
    """)


def test_an_emergency_number_must_be_the_whole_number():
    tell("""
        rate     9    0.02
        funds    lot 5
        call     +9111 1m -> charged 0.02
    """)


def test_the_emergency_numbers_of_a_country_are_those_of_its_tenants():
    tell("""
        rate     9    0.02
        open     GB USD prepaid
        funds    lot 5
        call     +999 1m -> free 0
    """)
    tell("""
        rate     9    0.02
        funds    lot 5
        call     +999 1m -> charged 0.02
    """)


def test_a_connected_call_without_a_rate_is_a_free_call_and_says_so():
    tell("""
        rate     1   0.02
        funds    lot 5
        call     +88351234 2m id=odd -> freecall 0 minutes=0+0 billed_minutes=2 capability=FREECALL prefix=null balance=5
        ! rate.missing digits=8835 day=2026-11-03 call_type=user_out record_id=odd id=contoso/rate.missing/8835/2026-11-03
    """)


def test_a_rate_of_nothing_is_free_and_not_a_free_call():
    tell("""
        rate     1   0
        funds    lot 5
        call     +12125550123 2m -> free 0 minutes=0+2 capability=MCOPSTNPP prefix=1 lots=none balance=5
    """)


def test_a_tenant_in_another_currency_is_never_converted():
    tell("""
        rate     1   0.02
        open     DE EUR prepaid
        funds    lot 5
        call     +12125550123 2m -> freecall 0 currency=EUR deck=null deck_version=null balance=5
        ! rate.missing digits=1212
    """)


def test_a_premium_number_never_draws_on_a_pool():
    tell("""
        rate     44    0.01
        rate     449   1.50  60/60  class=premium  fee=0.25
        plan     MCOPSTN1 GB 10 0
        licence  u MCOPSTN1 GB
        funds    lot 10
        call     +442079460018 1m -> pooled 0 minutes=1+0
        call     +449012345678 2m -> charged 3.25 minutes=0+2 pool=null fee=0.25 destination_context=Domestic
    """)


@pytest.mark.parametrize("kind", ["geographic", "mobile", "toll_free", "special"])
def test_every_other_class_draws_on_the_pool(kind: str):
    tell(f"""
        rate     448   1.50  60/60  class={kind}
        plan     MCOPSTN1 GB 10 0
        licence  u MCOPSTN1 GB
        call     +448712345678 2m -> pooled 0 minutes=2+0
    """)
