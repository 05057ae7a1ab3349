"""A rated call as bytes: the call's own first, then every field of the contract in its order."""

import orjson

from tests.workbench import Bench, Rates, call_record, tell

ORDER = """v call outcome tenant record_id charge_micros currency billed_minutes pool pool_minutes credit_minutes
connection_fee_micros rate_nanos_per_minute prefix destination destination_country destination_context capability deck
deck_version lots debt_micros invoice_micros balance_micros account_version flags input""".split()


def bench() -> Bench:
    rates = Rates(
        outbound=['1212,"New York, ""the"" city é",US,,0.0205,,,,,,'], plans=["MCOPSTN1,US,1,0,", "MCOPSTN8,US,1,0,"]
    )
    made = Bench(rates.book())
    made.command("tenant.opened", at="2020-01-01T00:00:00Z", country="US", currency="USD", billing_mode="prepaid")
    return made


def test_every_field_is_there_in_the_order_of_the_contract_whatever_came_of_the_call():
    b = bench()
    b.command("licence.assigned", user="u", plan="MCOPSTN1", country="US")
    outcomes = []
    for change in (
        {"ms": 120_000},
        {"disposition": "busy"},
        {"call_type": "dr_in"},
        {"callee": "+870123"},
        {"call_type": "user_in"},
    ):
        answers = b.call(**{"callee": "+12125550123"} | change)
        [rated] = answers.rated
        outcomes.append(rated["outcome"])
        assert list(rated) == ORDER
    assert outcomes == ["charged", "not_connected", "free", "freecall", "free"]


def test_a_line_is_compact_and_written_to_the_byte():
    b = bench()
    b.command("funds.added", lot_id='lot "7" \\', amount_micros=999_000)
    raw = orjson.dumps(call_record('id "1" \\ ~', ms=154_550, rang_ms=12_500, start="2026-11-03T13:30:00.200Z"))
    answers = b.run(calls=[raw])
    version = b.book.decks[0].version
    assert answers.outcome.rated[0].decode() == (
        '{"v":1,"call":' + raw.decode() + ',"outcome":"charged","tenant":"contoso","record_id":"id \\"1\\" \\\\ ~",'
        '"charge_micros":61500,"currency":"USD","billed_minutes":3,"pool":null,"pool_minutes":0,"credit_minutes":3,'
        '"connection_fee_micros":0,"rate_nanos_per_minute":20500000,"prefix":"1212",'
        '"destination":"New York, \\"the\\" city é","destination_country":"US","destination_context":"Domestic",'
        f'"capability":"MCOPSTNPP","deck":"story","deck_version":"{version}",'
        '"lots":[["lot \\"7\\" \\\\",61500]],"debt_micros":0,"invoice_micros":0,"balance_micros":937500,'
        '"account_version":3,"flags":["no_credit_licence","no_plan"],"input":[0,0]}\n'
    )


def test_the_pool_of_one_user_carries_the_users_name_as_json():
    b = bench()
    name = 'Jörg "J" \\ é€'
    b.command("licence.assigned", user=name, plan="MCOPSTN8", country="US")
    [rated] = b.call("+12125550123", 60_000, user=name).rated
    assert rated["pool"] == f"US/MCOPSTN8/domestic/2026-11/{name}"


def test_the_longest_names_and_many_lots_fit():
    b = bench()
    user, record_id = '"' * 128, '"' * 128
    b.command("licence.assigned", user=user, plan="MCOPSTN8", country="US")
    for k in range(120):
        b.command("funds.added", lot_id=f"{k:03d}" + '"' * 125, amount_micros=1)
    raw = orjson.dumps(call_record(record_id, ms=86_400_000, user=user, note="x" * 60_000))
    [rated] = b.run(calls=[raw]).rated
    assert len(rated["lots"]) == 120
    assert rated["record_id"] == record_id
    assert rated["pool"].endswith(user)
    assert rated["debt_micros"] + 120 == rated["charge_micros"]


def test_large_amounts_and_negative_balances():
    story = tell("""
        rate     1   10000
        adjust   -1000000000
        call     +12125550123 24h -> charged 14400000 debt=14400000 balance=-1014400000
    """)
    assert story.last is not None
