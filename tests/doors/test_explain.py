"""What `rater explain` tells: the engine's own price, every step to it, and nothing changed by asking."""

import copy
import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from rater.__main__ import cli
from rater.core.state import State
from rater.doors.decks import load_deck
from rater.doors.files.explain import Asked, CallRefused, explain, explain_record
from rater.doors.files.rate import RateRequest, rate
from rater.doors.files.show import show_explanation
from rater.doors.rules import RuleBook, load_rule_book, make_rule_book
from rater.pipeline import Batch, decide, records_of
from tests.streams import stream
from tests.workbench import Rates, add_rate, call_record

Row = dict[str, Any]

PRICES = """
1212        0.0205  60/60  name=New-York
1           0.0100  60/6   name=North-America
121         0.0150  60/60  to=2026-11-01
12125       0.0900  60/60  from=2027-01-01
449         1.50    60/60  fee=0.25 class=premium
1242        0.33    30/6
1284        0.001   60/60  min=0.05
46          0.0100001  1/1
"""
PLANS = ["MCOPSTN1,US,5,0,", "MCOPSTN2,US,5,2,", "MCOPSTN8,GB,4,0,"]
OPENED: list[Row] = [
    {"type": "tenant.opened", "country": "US", "currency": "USD", "billing_mode": "prepaid"},
    {"type": "licence.assigned", "user": "u", "plan": "MCOPSTN1", "country": "US"},
    {"type": "licence.assigned", "user": "u", "plan": "MCOPSTNC", "country": "US"},
    {"type": "number.assigned", "number": "+18005550199", "number_type": "toll_free", "country": "US"},
    {"type": "funds.added", "lot_id": "lot-1", "amount_micros": 30_000},
    {"type": "funds.added", "lot_id": "lot-2", "amount_micros": 5_000_000},
]


class Desk:
    """A folder with a deck and commands, and a person who asks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        rates = Rates(plans=list(PLANS), inbound=["US,toll_free,*,0.06,0.01"])
        for line in PRICES.strip().splitlines():
            words = [word for word in line.split() if "=" not in word]
            add_rate(rates, words, dict(word.split("=") for word in line.split() if "=" in word))
        self.rates = rates.write(folder / "rates")
        self.book: RuleBook = load_rule_book(self.rates)
        self.commands = self.write_commands("commands.jsonl", OPENED)
        self.state = folder / "state.db"

    def write_commands(self, name: str, commands: list[Row]) -> str:
        lines = [
            orjson.dumps({"command_id": f"{name}-{k}", "tenant": "contoso", "at": "2026-10-01T00:00:00Z"} | command)
            for k, command in enumerate(commands)
        ]
        (self.folder / name).write_bytes(b"\n".join(lines))
        return str(self.folder / name)

    def write_call(self, callee: str = "+12125550123", ms: int = 61_000, **fields: Any) -> str:
        path = self.folder / "call.json"
        path.write_bytes(orjson.dumps(call_record(fields.pop("record_id", "r1"), callee, ms, **fields)))
        return str(path)

    def ask(self, *arguments: Any, commands: list[Row] | None = None, **fields: Any) -> Row:
        names = [self.commands]
        if commands:
            names.append(self.write_commands("more.jsonl", commands))
        return explain(self.book, self.write_call(*arguments, **fields), names, None)

    def rate(self, call: str) -> Row:
        out = self.folder / "out"
        rate(RateRequest([call], [self.commands], self.state, out), self.book)
        rated: Row = orjson.loads((out / "rated-cdrs.jsonl").read_bytes().splitlines()[-1])
        return rated


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def told(answer: Row, *words: str) -> str:
    """The one step that holds all these words."""
    found = [step for step in answer["steps"] if all(word in step for word in words)]
    assert len(found) == 1, (words, answer["steps"])
    return str(found[0])


def untold(answer: Row, *words: str) -> bool:
    return not any(all(word in step for word in words) for step in answer["steps"])


# --- the price is the engine's ---------------------------------------------------------------------------------------


def test_the_price_told_beforehand_is_the_price_charged_afterwards(desk: Desk) -> None:
    before = explain(desk.book, desk.write_call(ms=400_000), [desk.commands], None)
    rated = desk.rate(desk.write_call(ms=400_000))
    assert before["charge_micros"] == rated["charge_micros"] == 41_000
    assert before["rated"] == rated | {
        "deck_version": before["rated"]["deck_version"],
        "input": before["rated"]["input"],
    }


@pytest.mark.parametrize("seed", range(12))
def test_every_call_of_a_generated_stream_is_explained_as_it_is_then_rated(seed: int, tmp_path: Path) -> None:
    """The steps are checked against the engine as they are told: plan, pool, minutes, context, product and rounding."""
    scenario = stream(seed)
    for name, text in scenario.deck_files.items():
        (tmp_path / name).write_text(text)
    book = make_rule_book([load_deck(tmp_path)], scenario.plans, "plans")
    state = State.empty()
    for part in scenario.rounds:
        decide(state, book.rules, Batch(0, records_of(part.commands), records_of([])))
        for raw in part.calls:
            imagined = copy.deepcopy(state)
            try:
                answer = explain_record(book, imagined, Asked("a call", raw))
            except CallRefused:
                answer = {"rated": None, "events": [], "already_rated": False}
            outcome = decide(state, book.rules, Batch(0, records_of([]), records_of([raw])))
            if outcome.counts.rated:
                assert answer["rated"] == orjson.loads(outcome.rated[0])
                assert answer["events"] == [orjson.loads(line) for line in outcome.events]
            assert answer["already_rated"] == (
                outcome.counts.duplicates == 1 or "conflict" in outcome.counts.rejected_by_reason
            )


def test_asking_changes_nothing_in_the_state(desk: Desk) -> None:
    desk.rate(desk.write_call())
    before = desk.state.read_bytes()
    explain(desk.book, desk.write_call(record_id="another"), [], desk.state)
    assert desk.state.read_bytes() == before


def test_the_fields_that_the_contract_promises_are_there(desk: Desk) -> None:
    answer = desk.ask()
    promised = "charge_micros billed_minutes pool_minutes credit_minutes outcome prefix rate_nanos_per_minute steps"
    assert set(promised.split()) <= set(answer)
    assert all(answer[name] == answer["rated"][name] for name in promised.split() if name != "steps")


# --- the steps -------------------------------------------------------------------------------------------------------


def test_the_longest_prefix_in_force_is_named_and_why_no_other_was_taken(desk: Desk) -> None:
    answer = desk.ask("+12125550123")
    assert told(answer, "longest prefix").startswith(
        "The longest prefix of 12125550123 in force at the start is 1212 (New-York): 0.0205 USD a minute"
    )
    others = told(answer, "Not taken")
    assert "1 at 0.01 USD a minute is in force but shorter" in others
    assert (
        "121 at 0.015 USD a minute is valid until 2026-11-01T00:00:00.000Z, so not at the start of this call" in others
    )
    assert "12125 at 0.09 USD a minute is valid from 2027-01-01T00:00:00.000Z" in others
    assert answer["prefix"] == "1212"


def test_the_deck_and_its_version_are_named(desk: Desk) -> None:
    answer = desk.ask()
    told(answer, "The deck is story, version", answer["rated"]["deck_version"])


def test_sixty_one_seconds_are_raised_to_sixty_six_by_increments_of_60_and_6(desk: Desk) -> None:
    answer = desk.ask("+13105550123", user="nobody")
    step = told(answer, "The rate counts 60/6")
    assert "the first 60 s whole, then every started 6 s" in step
    assert "61 started seconds, raised to 66 s" in step
    assert told(answer, "x 66 s / 60 s").endswith("11,000 millionths, 0.011 USD, exactly: there is nothing to round.")


def test_the_one_rounding_is_shown_with_the_exact_fraction(desk: Desk) -> None:
    answer = desk.ask("+46701234567", ms=61_000)
    assert told(answer, "rounded once") == (
        "0.0100001 USD a minute x 61 s / 60 s = 10,166 461/600 millionths, "
        "rounded once, half up, to 10,167: 0.010167 USD."
    )


def test_a_call_that_takes_the_last_minutes_of_a_pool_shows_both_payers(desk: Desk) -> None:
    answer = desk.ask(ms=400_000)
    assert told(answer, "Pool US/MCOPSTN1/domestic/2026-11") == (
        "Pool US/MCOPSTN1/domestic/2026-11 holds 5 minutes (5 x 1 licence assigned now), 0 used before this call: "
        "it gives 5 of the 7 minutes; 5 used now, 0 left."
    )
    told(answer, "Credits are asked for the other 2 minutes.")
    told(answer, "Less 300 s for the 5 minutes that the pool gave: 120 s are left to pay.")
    assert [answer["pool_minutes"], answer["credit_minutes"]] == [5, 2]


def test_capacity_is_the_allotment_times_the_licences_assigned(desk: Desk) -> None:
    more: list[Row] = [{"type": "licence.assigned", "user": user, "plan": "MCOPSTN1", "country": "US"} for user in "ab"]
    told(desk.ask(commands=more), "holds 15 minutes (5 x 3 licences assigned now)")


def test_the_counter_that_stops_the_other_is_named(desk: Desk) -> None:
    more: list[Row] = [
        {"type": "licence.removed", "user": "u", "plan": "MCOPSTN1"},
        {"type": "licence.assigned", "user": "u", "plan": "MCOPSTN2", "country": "US"},
    ]
    desk.commands = desk.write_commands("commands.jsonl", OPENED + more)
    desk.rate(desk.write_call("+46701234567", ms=120_000, record_id="abroad"))
    answer = explain(desk.book, desk.write_call(record_id="at-home"), [], desk.state)
    told(answer, "one at its cap stops the other", "US/MCOPSTN2/international/2026-11 has used 2 of 2")
    told(answer, "Pool US/MCOPSTN2/domestic/2026-11", "gives nothing")
    assert answer["pool_minutes"] == 0


def test_a_premium_number_asks_no_pool_and_pays_a_fee(desk: Desk) -> None:
    answer = desk.ask("+449001234567")
    told(answer, "no pool of minutes ever pays")
    told(answer, "connection fee of 0.25 USD")
    told(answer, "0.25 USD + 1.50 USD a minute x 120 s / 60 s")
    assert untold(answer, "Pool ")


def test_a_minimum_charge_is_told(desk: Desk) -> None:
    answer = desk.ask("+12845550123", ms=1_000, user="nobody")
    told(answer, "minimum charge is 0.05 USD: that is charged")
    assert answer["charge_micros"] == 50_000


def test_lots_are_told_before_and_after_in_the_order_they_are_drawn(desk: Desk) -> None:
    answer = desk.ask(user="nobody", ms=120_000)
    told(answer, "Lot lot-1 had 0.03 USD, pays 0.03 USD and is empty.")
    told(answer, "Lot lot-2 had 5.00 USD, pays 0.011 USD and keeps 4.989 USD.")
    assert [lot["lot_id"] for lot in answer["lots_before"]] == ["lot-1", "lot-2"]
    assert [lot["lot_id"] for lot in answer["lots_after"]] == ["lot-2"]
    told(answer, "The balance goes from 5.03 USD to 4.989 USD")


def test_what_no_lot_covers_becomes_debt_and_is_announced(desk: Desk) -> None:
    answer = desk.ask("+449001234567", ms=600_000)
    told(answer, "No lot is left for 10.22 USD: it becomes debt")
    told(answer, "Flag overdrawn")
    told(answer, "It would announce rater.balance.zero")
    told(answer, "It would announce rater.service.blocked")
    assert [event["type"] for event in answer["events"]] == ["rater.balance.zero", "rater.service.blocked"]


def test_a_lot_that_expires_before_the_call_ends_is_forfeited_first(desk: Desk) -> None:
    promotion = {"type": "funds.added", "lot_id": "gift", "amount_micros": 9, "expires_at": "2026-11-03T12:00:00Z"}
    told(desk.ask(commands=[promotion]), "Lot gift expired at 2026-11-03T12:00:00.000Z", "0.000009 USD")


def test_a_user_without_a_plan_or_licence_is_told_so(desk: Desk) -> None:
    answer = desk.ask(user="nobody")
    told(answer, "User nobody holds no licence: no plan with minutes.")
    told(answer, "Flag no_credit_licence")
    told(answer, "Flag no_plan")


def test_a_number_without_a_rate_is_let_go_free_and_reported(desk: Desk) -> None:
    answer = desk.ask("+9991234567")
    told(answer, "No prefix of 9991234567 has a rate in force")
    told(answer, "2 minutes would have to be paid, but there is no rate")
    told(answer, "It would announce rater.rate.missing")
    assert [answer["outcome"], answer["charge_micros"], answer["prefix"]] == ["freecall", 0, None]


def test_a_call_to_a_toll_free_number_is_priced_by_where_the_caller_is(desk: Desk) -> None:
    answer = desk.ask("+18005550199", call_type="ucap_in", user=None, caller="+442079460018")
    told(answer, "18005550199 is a toll-free number of US.")
    told(answer, "a call from GB to a toll-free number of US costs 0.06 USD a minute")
    told(answer, "connection fee of 0.01 USD")
    assert answer["charge_micros"] == 130_000


def test_a_call_that_nobody_answered_says_everything_that_is_missing(desk: Desk) -> None:
    answer = desk.ask(ms=0, answer=None, disposition="busy")
    assert told(answer, "Not connected") == (
        "Not connected: it has no instant of answer and the switch says 'busy' and nothing was measured "
        "(billable_ms is 0). It is recorded and costs nothing."
    )


@pytest.mark.parametrize(
    ("call_type", "callee", "why"),
    [
        ("emergency", "+911", "an emergency call: always allowed, always free"),
        ("dr_out", "+12125550123", "another carrier bills it"),
        ("user_in", "+12125550100", "free to receive"),
        ("user_out", "+911", "911 is an emergency number in US"),
        ("ucap_in", "+12125550777", "assigned to nobody: it counts as a service number of US"),
    ],
)
def test_what_is_free_says_why(desk: Desk, call_type: str, callee: str, why: str) -> None:
    answer = desk.ask(callee, call_type=call_type)
    told(answer, why)
    assert answer["charge_micros"] == 0


# --- what can be asked about -----------------------------------------------------------------------------------------


def test_a_call_that_was_rated_before_is_explained_and_the_explanation_says_so(desk: Desk) -> None:
    first = desk.rate(desk.write_call(user="nobody"))
    answer = explain(desk.book, desk.write_call(user="nobody"), [], desk.state)
    told(answer, "was rated before: delivered again, it is charged nothing")
    assert answer["already_rated"]
    assert answer["charge_micros"] == first["charge_micros"]
    assert answer["balance_before_micros"] == first["balance_micros"]


def test_the_same_id_with_other_content_is_said_to_be_a_conflict(desk: Desk) -> None:
    desk.rate(desk.write_call())
    told(explain(desk.book, desk.write_call(ms=62_000), [], desk.state), "rated before with other content", "conflict")


def test_a_rated_line_stands_for_its_call(desk: Desk) -> None:
    desk.rate(desk.write_call())
    answer = explain(desk.book, str(desk.folder / "out" / "rated-cdrs.jsonl"), [], desk.state)
    told(answer, "The rated line given here says: pooled, 0 millionths")
    assert answer["rated"]["record_id"] == "r1"


def test_one_record_may_stand_on_several_lines(desk: Desk) -> None:
    path = Path(desk.write_call())
    path.write_text(json.dumps(json.loads(path.read_text()), indent=2))
    answer = explain(desk.book, str(path), [desk.commands], None)
    assert answer["outcome"] == "pooled"
    assert answer["more_lines"] == 0


def test_of_several_records_the_first_is_explained_and_the_others_are_counted(desk: Desk) -> None:
    path = Path(desk.write_call())
    line = path.read_bytes()
    path.write_bytes(b"\n  \n" + line + b"\r\n" + line.replace(b'"r1"', b'"r2"') + b"\n" + line)
    answer = explain(desk.book, str(path), [desk.commands], None)
    told(answer, "holds 2 more records; this explains the first")
    assert answer["rated"]["record_id"] == "r1"


def test_a_command_that_cannot_be_imagined_is_told(desk: Desk) -> None:
    told(desk.ask(commands=[{"type": "licence.removed", "user": "x", "plan": "MCOPSTN1"}]), "not_assigned")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no record in it"),
        (b"\n \n", "no record in it"),
        (b"{", "not_json"),
        (b"[]", "not_an_object"),
        (b'{"record_id":"r"}', "missing_field: tenant: missing"),
        (b"\xff\xfe", "not_json"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_reason(desk: Desk, content: bytes, why: str) -> None:
    path = desk.folder / "call.json"
    path.write_bytes(content)
    with pytest.raises(CallRefused, match=why):
        explain(desk.book, str(path), [desk.commands], None)


def test_without_state_and_commands_the_refusal_says_what_to_give(desk: Desk) -> None:
    with pytest.raises(CallRefused, match=r"unknown_tenant.*no --state and no --commands were given"):
        explain(desk.book, desk.write_call(), [], None)


# --- the screen ------------------------------------------------------------------------------------------------------


def test_the_screen_shows_every_step_whole(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    answer = desk.ask(ms=400_000)
    show_explanation(answer)
    shown = capsys.readouterr().out
    assert "contoso r1: charged, 0.041 USD" in shown
    assert all(step in shown for step in answer["steps"])
    assert "\x1b" not in shown


def test_the_command_prints_one_object_and_says_no_with_status_1(desk: Desk) -> None:
    arguments = ["explain", "--rates", str(desk.rates), "--call", desk.write_call()]
    accepted = CliRunner().invoke(cli, [*arguments, "--commands", desk.commands, "--json"])
    assert accepted.exit_code == 0
    assert orjson.loads(accepted.stdout)["outcome"] == "pooled"
    refused = CliRunner().invoke(cli, arguments)
    assert refused.exit_code == 1
    assert "unknown_tenant" in refused.stderr
