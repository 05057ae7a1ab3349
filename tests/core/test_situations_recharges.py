"""Auto-recharge: asked for strictly below the trigger, one in flight, and a declined card left alone for a while."""

import pytest

from rater.core.instants import DAY_MS, instant_text
from tests.workbench import instant_ms, tell


def test_a_recharge_is_asked_for_strictly_below_the_trigger_and_once_while_in_flight():
    tell("""
        rate     1   1.00
        funds    a 3.00
        recharge on below=1.00 with=5.00
        call     +12125550123 2m -> charged 2.00 balance=1.00
        call     +12125550123 1s -> charged 1.00 balance=0
        ! balance.zero crossing=1
        ! service.blocked
        ! recharge.requested recharge_id=contoso:recharge:1 amount=5.00 trigger=1.00 balance=0 cause=call \
id=contoso/recharge.requested/1
        call     +12125550123 1m -> charged 1.00 balance=-1
        funds    b 5.00 for=contoso:recharge:1 id=paid
        ! recharge.succeeded recharge_id=contoso:recharge:1 lot_id=b amount=5.00 balance=4.00 id=contoso/recharge.succeeded/paid
        ! service.restored balance=4.00
        call     +12125550123 3m -> charged 3.00 balance=1.00
        call     +12125550123 1m -> charged 1.00 balance=0
        ! balance.zero crossing=2
        ! service.blocked
        ! recharge.requested recharge_id=contoso:recharge:2
    """)


def test_configuring_a_recharge_asks_at_once_when_the_balance_is_below():
    tell("""
        recharge on below=1.00 with=5.00
        ! recharge.requested recharge_id=contoso:recharge:1 balance=0 cause=command
        recharge on below=2.00 with=5.00
    """)


def test_a_balance_at_the_trigger_is_not_below_it():
    tell("""
        funds    a 1.00
        recharge on below=1.00 with=5.00
        recharge on below=1.000001 with=5.00
        ! recharge.requested balance=1.00 trigger=1.000001
    """)


def test_a_recharge_that_is_switched_off_never_asks():
    tell("""
        rate     1   1.00
        recharge off below=1.00 with=5.00
        call     +12125550123 1m -> charged 1.00
        recharge on below=0 with=5.00
        ! recharge.requested balance=-1.00
    """)


def test_a_success_that_does_not_reach_the_trigger_asks_again():
    tell("""
        recharge on below=10.00 with=4.00
        ! recharge.requested recharge_id=contoso:recharge:1
        funds    a 4.00 for=contoso:recharge:1
        ! recharge.succeeded balance=4.00
        ! recharge.requested recharge_id=contoso:recharge:2
        funds    b 4.00 for=contoso:recharge:2
        ! recharge.succeeded balance=8.00
        ! recharge.requested recharge_id=contoso:recharge:3
        funds    c 4.00 for=contoso:recharge:3
        ! recharge.succeeded balance=12.00
    """)


def test_every_kind_of_change_looks_at_the_trigger():
    tell("""
        funds    a 5.00 expires=2026-11-05
        recharge on below=2.00 with=1.00
        adjust   -4.00
        ! recharge.requested recharge_id=contoso:recharge:1 balance=1.00
        funds    b 1.00 for=contoso:recharge:1
        ! recharge.succeeded balance=2.00
        tick     at=2026-11-05
        ! lot.expired lot_id=a forfeited=1.00
        ! recharge.requested recharge_id=contoso:recharge:2 balance=1.00
        funds    c 0.50 for=contoso:recharge:2
        ! recharge.succeeded balance=1.50
        ! recharge.requested recharge_id=contoso:recharge:3
    """)


def test_a_manual_top_up_leaves_the_recharge_in_flight():
    tell("""
        recharge on below=10.00 with=4.00
        ! recharge.requested recharge_id=contoso:recharge:1
        funds    a 1.00
        funds    b 1.00 for=someone-elses
        ! recharge.succeeded recharge_id=someone-elses balance=2.00
        fail     contoso:recharge:2 -> not_in_flight
        fail     contoso:recharge:1 at=2026-11-03T12:00
        ! recharge.failed recharge_id=contoso:recharge:1 failures=1 next_attempt_after=2026-11-03T12:15
    """)


def test_a_declined_card_is_asked_again_only_by_a_debit_after_the_wait():
    tell("""
        rate     1   0.01
        recharge on below=10.00 with=4.00
        ! recharge.requested recharge_id=contoso:recharge:1
        fail     contoso:recharge:1 at=2026-11-03T12:00 id=no
        ! recharge.failed next_attempt_after=2026-11-03T12:15 failures=1 id=contoso/recharge.failed/no
        call     +12125550123 1m at=2026-11-03T12:13:59.999 -> charged 0.01
        funds    a 1.00 at=2026-11-03T12:20
        adjust   -0.10 at=2026-11-03T12:30
        tick     at=2026-11-03T12:40
        call     +12125550123 1m at=2026-11-03T12:14 disposition=busy -> not_connected 0
        call     +12125550123 1m at=2026-11-03T12:14 type=emergency -> free 0
        call     +12125550123 1m at=2026-11-03T12:14 -> charged 0.01
        ! recharge.requested recharge_id=contoso:recharge:2
    """)


@pytest.mark.parametrize(("failures", "minutes"), [(1, 15), (2, 30), (3, 60), (4, 120), (5, 240), (6, 480)])
def test_the_wait_doubles_with_every_failure_in_a_row(failures: int, minutes: int):
    """A call that ends a millisecond before the wait's end asks for nothing; one that ends with it does."""
    last = instant_ms(f"2026-11-{2 + failures:02d}T12:00") + minutes * 60_000
    tell(
        _declined(failures)
        + f"""
        call     +12125550123 1m at={instant_text(last - 60_001)} -> charged 0.01
        call     +12125550123 1m at={instant_text(last - 60_000)} -> charged 0.01
        ! recharge.requested recharge_id=contoso:recharge:{failures + 1}
    """
    )


def _declined(failures: int) -> str:
    """A card declined so many times in a row, at noon of one day after another; each day's first call asks again."""
    lines = ["rate 1 0.01", "recharge on below=10.00 with=4.00 at=2026-11-02", "! recharge.requested"]
    for k in range(1, failures + 1):
        day = f"2026-11-{2 + k:02d}"
        if k > 1:
            lines += [f"call +12125550123 1m at={day}T11:58 -> charged 0.01", "! recharge.requested"]
        lines += [f"fail contoso:recharge:{k} at={day}T12:00", f"! recharge.failed failures={k}"]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("failures", [7, 8, 9, 12])
def test_no_wait_is_longer_than_a_day(failures: int):
    lines = ["rate 1 0.01", "recharge on below=10.00 with=4.00 at=2026-11-02", "! recharge.requested"]
    for k in range(1, failures + 1):
        noon = instant_ms("2026-11-02T12:00") + 2 * k * DAY_MS
        wait = min(15 * 60_000 * 2 ** (k - 1), DAY_MS)
        if k > 1:
            lines += [f"call +12125550123 1m at={instant_text(noon - 120_000)} -> charged 0.01", "! recharge.requested"]
        lines += [
            f"fail contoso:recharge:{k} at={instant_text(noon)}",
            f"! recharge.failed failures={k} next_attempt_after={instant_text(noon + wait)}",
        ]
    tell("\n".join(lines))


def test_a_new_configuration_ends_the_wait():
    tell(
        _declined(3)
        + """
        recharge on below=10.00 with=4.00 at=2026-11-05T12:01
        ! recharge.requested recharge_id=contoso:recharge:4
        fail     contoso:recharge:4 at=2026-11-05T13:00
        ! recharge.failed failures=1 next_attempt_after=2026-11-05T13:15
    """
    )


def test_a_payment_that_comes_late_ends_the_wait_too():
    tell(
        _declined(2)
        + """
        funds    late 4.00 for=contoso:recharge:1 at=2026-11-04T12:01
        ! recharge.succeeded recharge_id=contoso:recharge:1
        ! recharge.requested recharge_id=contoso:recharge:3
        fail     contoso:recharge:2 at=2026-11-04T12:02 -> not_in_flight
        fail     contoso:recharge:3 at=2026-11-04T13:00
        ! recharge.failed failures=1 next_attempt_after=2026-11-04T13:15
    """
    )


@pytest.mark.parametrize(
    "name", ["contoso:recharge:99", "contoso:recharge:0", "contoso:recharge:01", "other:recharge:1", "x"]
)
def test_money_for_a_recharge_nobody_asked_for_is_still_money(name: str):
    tell(f"""
        rate     1   0.01
        recharge on below=10.00 with=4.00
        ! recharge.requested recharge_id=contoso:recharge:1
        funds    a 1.00 for={name}
        ! recharge.succeeded recharge_id={name} balance=1.00
        fail     {name} -> not_in_flight
        fail     contoso:recharge:1
        ! recharge.failed failures=1
        funds    b 1.00 for={name}
        ! recharge.succeeded recharge_id={name} balance=2.00
        ! recharge.requested recharge_id=contoso:recharge:2
    """)


def test_a_charge_that_went_wholly_to_the_invoice_asks_for_nothing():
    tell("""
        rate     1   1.00
        open     US USD overage
        funds    lot 1.00
        recharge on below=1.00 with=4.00
        call     +12125550123 1m -> charged 1.00
        ! balance.zero crossing=1
        ! recharge.requested recharge_id=contoso:recharge:1
        fail     contoso:recharge:1
        ! recharge.failed failures=1
        call     +12125550123 1m at=2026-11-04 -> invoiced 1.00 balance=0
        adjust   +0.50 at=2026-11-04 id=up
        call     +12125550123 1m at=2026-11-04 -> invoiced 1.00 lots=adj-up:0.50 invoice=0.50
        ! balance.zero crossing=2
        ! recharge.requested recharge_id=contoso:recharge:2
    """)
