"""Calls to the tenant's own numbers: who pays, and by whose country the price goes."""

import pytest

from tests.workbench import tell

RATES = """
        deck     increments=60/6
        rate     1    0.02
        inbound  US toll_free * 0.06
        inbound  US toll_free CA 0.60 fee=0.01
        inbound  US service * 0.03
        inbound  GB toll_free GB 0.12
        number   +18005550199 toll_free US
        number   +448081570000 toll_free GB
        number   +12125550000 service US
        number   +12125550777 user US
        funds    lot 10
"""


@pytest.mark.parametrize("way", ["ucap_in", "conf_in", "unassigned_in"])
def test_a_toll_free_number_costs_by_the_country_of_the_caller(way: str):
    tell(
        RATES
        + f"""
        call     +18005550199 61s type={way} from=+442079460018 -> charged 0.066 minutes=0+2 prefix=null destination=null \
rate_nanos_per_minute=60000000 capability=MCOPSTNPP destination_context=null destination_country=null flags=none
        call     +18005550199 61s type={way} from=+14165550123 -> charged 0.67 fee=0.01 rate_nanos_per_minute=600000000
        call     +18005550199 61s type={way} from=withheld -> charged 0.066
        balance  9.198
    """
    )


def test_a_caller_whom_no_inbound_row_covers_is_a_free_call_with_an_event():
    tell(
        RATES
        + """
        call     +448081570000 1m type=ucap_in from=+442079460018 -> charged 0.12
        call     +448081570000 1m type=ucap_in from=+12125550123 -> freecall 0 capability=FREECALL minutes=0+0
        ! rate.missing digits=1212 call_type=ucap_in
        call     +448081570000 1m type=ucap_in from=withheld -> freecall 0
        ! rate.missing digits=* id=contoso/rate.missing/*/2026-11-03
        call     +448081570000 1m type=ucap_in from=withheld -> freecall 0
    """
    )


@pytest.mark.parametrize("callee", ["+12125550000", "+12125550777", "+12125550888"])
@pytest.mark.parametrize("way", ["ucap_in", "conf_in", "unassigned_in", "user_in"])
def test_every_other_number_is_free_to_call(way: str, callee: str):
    tell(
        RATES
        + f"""
        call     {callee} 61s type={way} from=+14165550123 -> free 0 billed_minutes=2 minutes=0+0 prefix=null deck=null \
destination_context=null
        balance  10
    """
    )


def test_a_call_to_a_user_is_free_even_on_a_toll_free_number():
    tell(
        RATES
        + """
        call     +18005550199 61s type=user_in -> free 0
    """
    )


def test_an_organiser_who_pays_by_the_minute_pays_for_who_dials_in():
    tell(
        RATES
        + """
        licence  p MCOMEETACPEA
        licence  q MCOMEETACPEA
        licence  q MCOMEETADD
        call     +12125550000 61s type=conf_in by=p -> charged 0.033 minutes=0+2 capability=MCOMEETACPEA
        call     +12125550888 61s type=conf_in by=p -> charged 0.033
        call     +18005550199 61s type=conf_in by=p -> charged 0.066 capability=MCOMEETACPEA
        call     +12125550000 61s type=conf_in by=q -> free 0
        call     +12125550000 61s type=conf_in by=other -> free 0
        call     +12125550000 61s type=ucap_in by=p -> free 0
    """
    )


def test_a_number_taken_away_counts_as_nobodys_and_a_new_type_counts_at_once():
    tell(
        RATES
        + """
        call     +18005550199 1m type=ucap_in -> charged 0.06
        unnumber +18005550199
        call     +18005550199 1m type=ucap_in -> free 0
        unnumber +18005550199 -> not_assigned
        number   +18005550199 toll_free US
        number   +18005550199 toll_free US -> already_assigned
        call     +18005550199 1m type=ucap_in -> charged 0.06
        number   +18005550199 service US
        call     +18005550199 1m type=ucap_in -> free 0
    """
    )


def test_a_number_belongs_to_one_tenant():
    tell(
        RATES
        + """
        funds    lot 10 tenant=other
        call     +18005550199 1m type=ucap_in tenant=other -> free 0
    """
    )


def test_an_inbound_call_from_a_prepaid_tenant_below_zero_is_overdrawn():
    tell("""
        inbound  US toll_free * 0.06
        number   +18005550199 toll_free US
        funds    lot 0.05
        call     +18005550199 1m type=ucap_in -> charged 0.06 debt=0.01 flags=overdrawn balance=-0.01
    """)
