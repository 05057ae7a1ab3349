"""Conference calls out: the US/CA add-on, the Zone A pool, credits; and the organiser who pays by the minute."""

from tests.workbench import tell

RATES = """
        rate     1    0.02
        rate     1900 2.00  60/60  class=premium
        rate     44   0.03
        rate     449  1.50  60/60  class=premium
        rate     234  0.05
        plan     MCOPSTN1 US 500 0
        funds    lot 1000
"""


def test_the_zone_a_pool_is_sixty_minutes_a_licence_whoever_organises():
    tell(
        RATES
        + """
        licence  a MCOMEETADD US
        licence  b MCOMEETADD GB
        call     +442079460018 100m type=conf_out by=a -> pooled 0 minutes=100+0 pool=*/MCOMEETADD/zone-a/2026-11 \
capability=MCOMEETADD destination_context=International
        call     +12125550123 21m type=conf_out by=nobody -> charged 0.02 minutes=20+1 capability=MCOPSTNPP \
flags=no_credit_licence destination_context=Domestic
        call     +12125550123 1m type=conf_out by=a at=2026-12-01 -> pooled 0 pool=*/MCOMEETADD/zone-a/2026-12
        balance  999.98 pool=*/MCOMEETADD/zone-a/2026-11=120/120
    """
    )


def test_outside_zone_a_and_to_premium_numbers_credits_pay_from_the_first_minute():
    tell(
        RATES
        + """
        licence  a MCOMEETADD
        licence  a MCOPSTNC
        call     +2348021234567 2m type=conf_out by=a -> charged 0.10 minutes=0+2 pool=null flags=none
        call     +449012345678 2m type=conf_out by=a -> charged 3.00 minutes=0+2 pool=null
    """
    )


def test_a_conference_never_draws_on_a_calling_plan():
    tell(
        RATES
        + """
        licence  a MCOPSTN1
        call     +12125550123 2m type=conf_out by=a -> charged 0.04 minutes=0+2 flags=no_credit_licence
        balance  999.96 pool=US/MCOPSTN1/domestic/2026-11=0/500
    """
    )


def test_the_dial_out_add_on_covers_the_united_states_puerto_rico_and_canada():
    tell(
        RATES
        + """
        licence  a MCOMEETADD
        licence  a MCOMEETADD_DIALOUT_US
        call     +12125550123 300m type=conf_out by=a -> free 0 minutes=0+0 pool=null capability=MCOMEETADD_DIALOUT_US
        call     +17875550123 300m type=conf_out by=a -> free 0 capability=MCOMEETADD_DIALOUT_US
        call     +14165550123 300m type=conf_out by=a -> free 0 capability=MCOMEETADD_DIALOUT_US
        call     +442079460018 2m type=conf_out by=a -> pooled 0 minutes=2+0 capability=MCOMEETADD
        call     +19005550123 1m type=conf_out by=a -> charged 2.00 minutes=0+1 pool=null
        call     +12125550123 2m type=user_out by=a -> charged 0.04 capability=MCOPSTNPP
        balance  997.96 pool=*/MCOMEETADD/zone-a/2026-11=2/60
    """
    )


def test_an_organiser_who_pays_by_the_minute_uses_no_pool_and_needs_no_credit_licence():
    tell(
        RATES
        + """
        licence  a MCOMEETADD
        licence  b MCOMEETACPEA
        licence  c MCOMEETACPEA
        licence  c MCOMEETADD
        call     +12125550123 2m type=conf_out by=b -> charged 0.04 minutes=0+2 capability=MCOMEETACPEA flags=none
        call     +12125550123 2m type=conf_out by=c -> pooled 0 minutes=2+0 capability=MCOMEETADD
        balance  999.96 pool=*/MCOMEETADD/zone-a/2026-11=2/120
    """
    )


def test_the_zone_a_pool_shrinks_with_its_licences_and_a_move_changes_nothing():
    tell(
        RATES
        + """
        licence  a MCOMEETADD US
        licence  b MCOMEETADD US
        licence  b MCOMEETADD GB
        call     +12125550123 100m type=conf_out by=a -> pooled 0
        unlicence b MCOMEETADD
        call     +12125550123 1m type=conf_out by=a -> charged 0.02 minutes=0+1
        balance  999.98 pool=*/MCOMEETADD/zone-a/2026-11=100/60
    """
    )


def test_eighty_and_a_hundred_percent_of_the_zone_a_pool_are_announced():
    tell(
        RATES
        + """
        licence  a MCOMEETADD
        call     +12125550123 47m type=conf_out by=a -> pooled 0
        call     +12125550123 1m type=conf_out by=a -> pooled 0
        ! pool.reached percent=80 used=48 capacity=60 pool=*/MCOMEETADD/zone-a/2026-11
        call     +12125550123 20m type=conf_out by=a -> charged 0.16 minutes=12+8
        ! pool.reached percent=100 used=60 capacity=60
    """
    )
