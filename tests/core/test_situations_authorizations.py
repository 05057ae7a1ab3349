"""Before a call: may it start, who will pay, for how long; and what is held for it until its record comes."""

from tests.workbench import tell


def test_credits_answer_for_the_longest_call_they_can_pay_and_hold_its_price():
    tell("""
        rate     1   1.00
        licence  u MCOPSTNC
        funds    a 5.00
        ask      c1 +12125550123 10m id=q1
        ! call.authorized payer=credits seconds=300 amount=5.00 held=5.00 pool=null pool_minutes=0 balance=5.00 \
call_id=c1 call_type=user_out cause=command id=contoso/call.authorized/q1
        balance  5.00 held=5.00 open_calls=1
    """)


def test_calls_going_on_at_once_cannot_spend_the_same_credit():
    tell("""
        rate     1   1.00
        licence  u MCOPSTNC
        funds    a 5.00
        ask      c1 +12125550123 3m
        ! call.authorized seconds=180 held=3.00
        ask      c2 +12125550123 3m
        ! call.authorized seconds=120 held=5.00
        ask      c3 +12125550123 3m id=q3
        ! call.refused reason=no_credit held=5.00 balance=5.00 id=contoso/call.refused/q3
    """)


def test_the_record_of_the_call_ends_its_hold_and_costs_what_it_costs():
    tell("""
        rate     1   1.00
        licence  u MCOPSTNC
        funds    a 5.00
        ask      c1 +12125550123 5m
        ! call.authorized held=5.00
        call     +12125550123 2m call_id=c1 -> charged 2.00 balance=3.00
        balance  3.00 held=0 open_calls=0
        ask      c2 +12125550123 5m
        ! call.authorized seconds=180 amount=3.00 held=3.00
    """)


def test_a_call_that_was_never_answered_ends_its_hold_too():
    tell("""
        rate     1   1.00
        licence  u MCOPSTNC
        funds    a 5.00
        ask      c1 +12125550123 5m
        call     +12125550123 0s call_id=c1 answered=no -> not_connected
        balance  5.00 held=0 open_calls=0
    """)


def test_records_of_other_calls_and_tenants_leave_a_hold_alone():
    tell("""
        rate     1   1.00
        licence  u MCOPSTNC
        funds    a 5.00
        ask      c1 +12125550123 5m
        call     +12125550123 1m call_id=c2 -> charged 1.00
        call     +12125550123 1m call_id=c1 tenant=fabrikam -> charged 1.00
        balance  4.00 held=5.00 open_calls=1
    """)


def test_a_call_that_was_not_asked_about_is_charged_whatever_is_held():
    tell("""
        rate     1   1.00
        licence  u MCOPSTNC
        funds    a 5.00
        ask      c1 +12125550123 5m
        call     +12125550123 2m -> charged 2.00 balance=3.00
        balance  3.00 held=5.00
        ask      c2 +12125550123 1m
    """)


def test_the_pool_comes_first_and_credits_pay_the_rest():
    tell("""
        plan     MCOPSTN1 US 5 0
        rate     1   1.00
        licence  u MCOPSTN1
        licence  u MCOPSTNC
        funds    a 2.00
        ask      c1 +12125550123 4m
        ! call.authorized payer=pool seconds=240 pool=US/MCOPSTN1/domestic/2026-11 pool_minutes=4 amount=0 held=0
        ask      c2 +12125550123 10m
        ! call.authorized payer=pool_and_credits seconds=180 pool_minutes=1 amount=2.00 held=2.00
        call     +12125550123 4m call_id=c1 -> pooled 0 minutes=4+0
        ! pool.reached percent=80
        ask      c3 +12125550123 1m
        ! call.refused reason=no_credit
    """)


def test_held_minutes_are_not_used_and_come_back():
    tell("""
        plan     MCOPSTN1 US 5 0
        rate     1   1.00
        licence  u MCOPSTN1
        ask      c1 +12125550123 5m
        call     +12125550123 1m call_id=c1 -> pooled 0 minutes=1+0
        ask      c2 +12125550123 5m id=q2
        balance  0 pool=US/MCOPSTN1/domestic/2026-11=1/5 open_calls=1
        call     +12125550123 4m call_id=c2 -> pooled 0 minutes=4+0
    """)


def test_without_the_credit_licence_only_the_pool_can_pay():
    tell("""
        plan     MCOPSTN1 US 5 0
        rate     1   1.00
        rate     44  1.00
        licence  u MCOPSTN1
        funds    a 50.00
        ask      c1 +12125550123 10m
        ! call.authorized payer=pool seconds=300 pool_minutes=5 amount=0
        ask      c2 +442079460000 10m
        ! call.refused reason=no_credit_licence balance=50.00
        ask      c3 +442079460000 10m type=ucap_out by=bot
        ! call.authorized payer=credits seconds=600 amount=10.00
    """)


def test_a_call_nobody_knows_the_price_of_does_not_start():
    tell("""
        plan     MCOPSTN1 US 5 0
        rate     44  1.00
        licence  u MCOPSTN1
        licence  u MCOPSTNC
        funds    a 50.00
        ask      c1 +811234567 10m
        ! call.refused reason=no_rate
        ask      c2 +12125550123 10m
        ! call.authorized payer=pool seconds=300 pool_minutes=5
    """)


def test_the_longest_call_follows_the_increments_of_the_rate():
    tell("""
        rate     1   0.60  30/6 fee=0.10
        licence  u MCOPSTNC
        funds    a 0.46
        ask      c1 +12125550123 10m
        ! call.authorized seconds=36 amount=0.46
        adjust   -0.01
        ask      c2 +12125550123 10m
        ! call.refused reason=no_credit held=0.46 balance=0.45
        ask      c1 +12125550123 10m
        ! call.authorized seconds=30 amount=0.40 held=0.40
    """)


def test_the_same_call_asked_about_again_begins_anew():
    tell("""
        rate     1   1.00
        licence  u MCOPSTNC
        funds    a 5.00
        ask      c1 +12125550123 2m
        ! call.authorized held=2.00
        ask      c1 +12125550123 4m
        ! call.authorized seconds=240 held=4.00
        balance  5.00 open_calls=1
    """)


def test_one_question_sent_twice_is_one_question():
    tell("""
        rate     1   1.00
        licence  u MCOPSTNC
        funds    a 5.00
        ask      c1 +12125550123 2m id=q1
        again    q1 -> duplicate
        balance  5.00 held=2.00 open_calls=1
    """)


def test_a_hold_expires_by_the_instant_of_a_command_and_says_so():
    tell("""
        rate     1   1.00
        licence  u MCOPSTNC
        funds    a 5.00
        ask      c1 +12125550123 5m hold=1h at=2026-11-03T12:00:00Z
        ! call.authorized expires_at=2026-11-03T13:00:00Z
        ask      c2 +12125550123 5m at=2026-11-03T12:59:59.999Z
        ! call.refused reason=no_credit
        ask      c3 +12125550123 5m at=2026-11-03T13:00:00Z
        ! authorization.expired call_id=c1 amount=5.00 held=0 expires_at=2026-11-03T13:00:00Z id=contoso/authorization.expired/1
        ! call.authorized seconds=300 held=5.00 expires_at=2026-11-03T13:10:00Z
        tick     at=2026-11-03T13:10:00Z
        ! authorization.expired call_id=c3 held=0 id=contoso/authorization.expired/2
        call     +12125550123 1m call_id=c3 -> charged 1.00 balance=4.00
        balance  4.00 held=0 open_calls=0
    """)


def test_calls_that_cost_nobody_anything_may_always_start():
    tell("""
        rate     1   1.00
        adjust   -3.00
        ask      c1 +911 type=emergency by=nobody
        ! call.authorized payer=nobody seconds=3600 amount=0 held=0
        ask      c2 +911 type=user_out
        ! call.authorized payer=nobody
        ask      c3 +12125550777 type=user_in
        ! call.authorized payer=nobody
        ask      c4 +12125550777 type=dr_out by=nobody
        ! call.authorized payer=nobody
        balance  -3.00 open_calls=4
    """)


def test_a_toll_free_number_is_held_for_by_the_callers_country():
    tell("""
        inbound  US toll_free CA 0.60 fee=0.01
        number   +18005550199 toll_free US
        funds    a 1.00
        ask      c1 +18005550199 10m type=unassigned_in by=nobody from=+14165550123
        ! call.authorized payer=credits seconds=60 amount=0.61
        ask      c2 +18005550199 10m type=unassigned_in by=nobody from=+442079460000
        ! call.refused reason=no_rate
    """)


def test_the_gate_refuses_an_unassigned_number_at_zero_though_nobody_pays():
    tell("""
        ask      c1 +12125550777 type=unassigned_in by=nobody
        ! call.refused reason=no_credit
        funds    a 0.01
        ask      c2 +12125550777 type=unassigned_in by=nobody
        ! call.authorized payer=nobody
    """)


def test_overage_goes_to_the_invoice_and_holds_no_credit():
    tell("""
        rate     1   1.00
        open     US USD overage
        ask      c1 +12125550123 10m
        ! call.authorized payer=invoice seconds=600 amount=0 held=0
    """)


def test_post_usage_without_overage_stops_where_the_credits_do():
    tell("""
        rate     1   1.00
        open     US USD post_usage
        funds    a 2.00
        ask      c1 +12125550123 10m
        ! call.authorized payer=credits seconds=120 amount=2.00
        ask      c2 +12125550123 10m
        ! call.refused reason=no_credit
    """)


def test_credits_that_expire_under_a_hold_are_not_promised_again():
    tell("""
        rate     1   1.00
        rate     44  0
        licence  u MCOPSTNC
        funds    a 5.00 expires=2026-11-03T12:30:00Z
        funds    b 1.00
        ask      c1 +12125550123 6m hold=2h
        ! call.authorized seconds=360 held=6.00
        ask      c2 +12125550123 1m at=2026-11-03T12:30:00Z
        ! lot.expired lot_id=a
        ! call.refused reason=no_credit balance=1.00 held=6.00
        ask      c3 +442079460000 1m at=2026-11-03T12:30:00Z
        ! call.authorized payer=nobody amount=0
    """)


def test_a_thousand_holds_come_and_go_in_any_order_and_leave_nothing():
    story = ["rate 1 1.00", "licence u MCOPSTNC", "funds a 1000.00"]
    story += [f"ask c{k} +12125550123 1m" for k in range(300)]
    story += [f"call +12125550123 1m call_id=c{k * 7 % 300} -> charged 1.00" for k in range(200)]
    story += [f"ask d{k} +12125550123 1m" for k in range(200)]
    story += ["balance 800.00 held=300.00 open_calls=300"]
    story += [f"call +12125550123 1m call_id=c{k * 7 % 300} -> charged 1.00" for k in range(200, 300)]
    story += [f"call +12125550123 1m call_id=d{199 - k} -> charged 1.00" for k in range(200)]
    story += ["balance 500.00 held=0 open_calls=0"]
    tell("\n".join(story))
