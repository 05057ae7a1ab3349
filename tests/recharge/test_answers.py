"""What an answer becomes: funds for what was asked, nothing else; and what a person has to do about a provider that errs."""

import json

import pytest

from rater.contract.commands import decode_commands
from rater.recharge.answers import APPROVED, DECLINED, WRONG, Approved, Declined, contradiction, refuse, settle
from rater.recharge.requests import Closed, Request, Unreadable, read_event
from rater.recharge.steps import State, Step, next_step
from tests.service.recharge_scene import failed, requested, succeeded

ASKED = Request("acme:recharge:3", "acme", 15_000_000, "USD", "2026-11-21T09:59:30.000Z")
NOW_MS = 1_795_255_200_000  # 2026-11-21T10:00:00Z


def command(answer: Approved | Declined) -> dict[str, object]:
    settled = settle(ASKED, answer, "recharge agent, test", NOW_MS)
    rows, _, details = decode_commands([settled.command])
    assert (int(rows[0].reason), details) == (0, [""]), "the engine reads it"
    found: dict[str, object] = json.loads(settled.command)
    return found


def test_an_approval_of_what_was_asked_is_funds_when_the_provider_says_it_was():
    found = command(Approved(15_000_000, "USD", "pay-1", "2026-11-21T09:59:58Z"))
    assert found == {
        "command_id": "acme:recharge:3:approved", "type": "funds.added", "lot_id": "acme:recharge:3", "amount_micros": 15_000_000,
        "tenant": "acme", "at": "2026-11-21T09:59:58.000Z", "by": "recharge agent, test", "recharge_id": "acme:recharge:3",
    }  # fmt: skip


@pytest.mark.parametrize("at", [None, "1999-01-01T00:00:00Z"])
def test_without_the_providers_instant_it_is_now_and_never_before_the_request(at: str | None):
    expected = "2026-11-21T10:00:00.000Z" if at is None else ASKED.at
    assert command(Approved(15_000_000, "USD", at=at))["at"] == expected


@pytest.mark.parametrize(
    ("amount", "currency"),
    [(15_000_001, "USD"), (14_999_999, "USD"), (15_000_000, "EUR"), (0, "USD"), (-15_000_000, "USD")],
)
def test_an_approval_of_anything_else_adds_nothing_and_names_the_payment(amount: int, currency: str):
    settled = settle(ASKED, Approved(amount, currency, "pay-1"), "x", NOW_MS)
    assert settled.verdict == WRONG
    assert json.loads(settled.command)["type"] == "recharge.failed"
    assert "refund payment pay-1" in settled.refund


def test_a_decline_and_a_refusal_fail_the_recharge_with_their_reason():
    found = command(Declined("the card\n has  expired"))
    assert (found["type"], found["command_id"], found["reason"]) == (
        "recharge.failed", "acme:recharge:3:declined", "the card has expired",
    )  # fmt: skip
    assert json.loads(refuse(ASKED, "not asked: why", "x", NOW_MS).command)["reason"] == "not asked: why"


def test_what_comes_behind_the_verdict_is_reported_when_money_may_be_in_the_wrong_place():
    approved, declined = Approved(15_000_000, "USD", "pay-1"), Declined("no")
    assert contradiction(ASKED, APPROVED, approved) == ""
    assert contradiction(ASKED, DECLINED, declined) == ""
    assert "refund payment pay-1" in contradiction(ASKED, DECLINED, approved)
    assert "ask the provider" in contradiction(ASKED, APPROVED, declined)
    assert "it says now that it took 16.00 USD" in contradiction(ASKED, APPROVED, Approved(16_000_000, "USD"))
    assert contradiction(ASKED, WRONG, Approved(20_000_000, "USD", "pay-1")) == ""


def test_events_about_recharges_are_read_and_others_are_none_of_it():
    assert read_event(requested("acme", 3)) == ASKED
    assert read_event(requested("acme", 3, cause="command")) != ASKED
    assert read_event(succeeded("acme")) == Closed(
        "acme:recharge:1", "acme", ASKED.at, lot_id="acme:recharge:1", amount_micros=15_000_000
    )
    assert read_event(failed("acme", reason="no")) == Closed("acme:recharge:1", "acme", ASKED.at, reason="no")
    assert read_event(b'{"type":"rater.balance.zero"}') is None


@pytest.mark.parametrize(
    "value",
    [
        None, b"", b"{", b"[]", b"{}", requested("acme").replace(b"15000000", b"15.0"), requested("acme").replace(b"15000000", b"-1"),
        requested("acme").replace(b'"subject": "acme"', b'"subject": null'), requested("acme").replace(b"2026-11-21T", b"yesterday"),
    ],
)  # fmt: skip
def test_a_poisoned_event_is_unreadable_and_says_why(value: bytes | None):
    with pytest.raises(Unreadable, match="expected"):
        read_event(value)


def test_nobody_is_asked_again_and_what_is_settled_is_only_told():
    assert next_step(State.HEARD, fresh=True) is Step.ASK
    assert next_step(State.HEARD, fresh=False) is Step.INQUIRE
    for fresh in (True, False):
        assert next_step(State.ASKING, fresh) is Step.INQUIRE
        assert next_step(State.PENDING, fresh) is Step.INQUIRE
        assert next_step(State.SETTLED, fresh) is Step.PUBLISH
        assert next_step(State.PUBLISHED, fresh) is Step.ACKNOWLEDGE
