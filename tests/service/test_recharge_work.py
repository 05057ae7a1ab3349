"""One recharge, step by step, without a broker: the order that makes a payment happen once, and providers that err."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rater.core.instants import DAY_MS, parse_instant
from rater.doors.metrics import RechargeMetrics, new_registry
from rater.doors.service.agent_log import NotPublished
from rater.doors.service.provider import Provider, Unclear
from rater.doors.service.provider_http import HttpProvider
from rater.doors.service.provider_ledger import LedgerProvider, load_agreements
from rater.doors.service.recharge_guards import GuardsFile
from rater.doors.service.recharge_store import RechargeStore
from rater.doors.service.recharge_work import FAILED_ELSEWHERE, SUCCEEDED_ELSEWHERE, Desk, Later, advance, take_answer
from rater.doors.settings.values import SettingsRefused
from rater.recharge.answers import Answer, Approved, Declined, Pending, Unknown
from rater.recharge.requests import Request
from rater.recharge.steps import State
from tests.service.bank import SECRET, Bank, approve, decline, pend

NOW_MS = parse_instant("2026-11-21T10:00:00Z") or 0
ID = "acme:recharge:1"


def asked_for(number: int = 1, tenant: str = "acme", amount: int = 15_000_000) -> Request:
    return Request(f"{tenant}:recharge:{number}", tenant, amount, "USD", "2026-11-21T09:59:30.000Z")


class Scripted:
    """A provider that answers from a list and keeps what it was asked."""

    name = "scripted"

    def __init__(self, *answers: Answer | Unknown | Exception) -> None:
        self.answers = list(answers)
        self.heard: list[str] = []

    def _next(self, what: str) -> Any:
        self.heard.append(what)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def ask(self, request: Request) -> Answer:
        return self._next(f"ask {request.recharge_id}")  # type: ignore[no-any-return]

    async def status(self, request: Request, reference: str) -> Answer | Unknown:
        return self._next(f"status {request.recharge_id} {reference}".rstrip())  # type: ignore[no-any-return]

    def callback(self, *_: object) -> Any:
        raise NotImplementedError

    async def close(self) -> None:
        pass


class Office:
    """A desk whose commands end in a list; `away` makes the brokers not answer."""

    def __init__(self, folder: Path, provider: Provider, guards: str = "") -> None:
        self.published: list[dict[str, Any]] = []
        self.away = False
        self.file = folder / "guards.toml"
        self.file.write_text(guards)
        self.store = RechargeStore(folder / "recharges.db")
        self.registry = new_registry()
        self.now_ms = NOW_MS
        self.desk = Desk(self.store, provider, GuardsFile(self.file, lambda _: None), self._publish,
                         RechargeMetrics(self.registry), lambda: self.now_ms)  # fmt: skip

    async def _publish(self, tenant: str, command: bytes) -> None:
        if self.away:
            raise NotPublished("the brokers are away")
        self.published.append(json.loads(command))
        assert self.published[-1]["tenant"] == tenant

    def advance(self, request: Request, fresh: bool = True, ours: bool = True) -> bool:
        self.store.hear(request, self.now_ms)
        return asyncio.run(advance(self.desk, request.recharge_id, fresh, lambda: ours))

    def state(self, recharge_id: str = ID) -> State:
        found = self.store.find(recharge_id)
        assert found is not None
        return found.state

    def verdicts(self) -> list[str]:
        return [command["command_id"].rsplit(":", 1)[1] for command in self.published]


APPROVED = Approved(15_000_000, "USD", "pay-1")


def test_it_is_written_down_before_the_provider_hears_of_it_and_before_it_is_told(tmp_path: Path):
    seen: list[State] = []

    class Watching(Scripted):
        async def ask(self, request: Request) -> Answer:
            seen.append(office.state(request.recharge_id))
            return APPROVED

    office = Office(tmp_path, Watching())
    office.away = True
    with pytest.raises(NotPublished):
        office.advance(asked_for())
    assert (seen, office.state()) == ([State.ASKING], State.SETTLED)
    office.away = False
    assert office.advance(asked_for())
    assert (office.state(), office.verdicts()) == (State.PUBLISHED, ["approved"])


def test_an_unclear_answer_is_asked_about_and_asked_again_only_where_nobody_heard_of_it(tmp_path: Path):
    provider = Scripted(Unclear("hung up"), Unclear("hung up"), Unknown(), Pending("p-9"), Pending("p-9"), APPROVED)
    office = Office(tmp_path, provider)
    for _ in range(2):
        with pytest.raises(Unclear):
            office.advance(asked_for())
    with pytest.raises(Later, match="pending"):
        office.advance(asked_for())
    assert office.advance(asked_for())
    assert provider.heard == [
        f"ask {ID}",
        f"status {ID}",
        f"status {ID}",
        f"ask {ID}",
        f"status {ID} p-9",
        f"status {ID} p-9",
    ]
    assert office.verdicts() == ["approved"]


def test_a_pending_payment_the_provider_has_forgotten_is_never_asked_for_again(tmp_path: Path):
    provider = Scripted(Pending("p-9"), Unknown(), Unknown())
    office = Office(tmp_path, provider)
    for _ in range(2):
        with pytest.raises(Later, match="not asked again"):
            office.advance(asked_for())
    assert [what.split()[0] for what in provider.heard] == ["ask", "status", "status"]


def test_the_first_verdict_stands_and_a_later_one_is_reported_once(tmp_path: Path):
    office = Office(tmp_path, Scripted(Declined("the card has expired")))
    assert office.advance(asked_for())
    for _ in range(3):
        take_answer(office.desk, ID, APPROVED)
    assert office.verdicts() == ["declined"]
    assert [sentence for _, sentence, _ in office.store.reports()] == [
        f"{ID}: refund payment pay-1: 15.00 USD was approved after the recharge had failed"
    ]


def test_money_that_comes_when_a_person_has_settled_it_is_credited_or_named_but_never_both(tmp_path: Path):
    office = Office(tmp_path, Scripted(Pending(), APPROVED, Pending(), APPROVED))
    for number, how in ((1, FAILED_ELSEWHERE), (2, SUCCEEDED_ELSEWHERE)):
        request = asked_for(number)
        take = office.store
        take.hear(request, NOW_MS)
        take.intend(request.recharge_id, NOW_MS)
        take.pend(request.recharge_id, "p", NOW_MS)
        take.close_as(request.recharge_id, how)
        take_answer(office.desk, request.recharge_id, APPROVED)
    office.advance(asked_for(1))
    office.advance(asked_for(2))
    assert [command["recharge_id"] for command in office.published] == ["acme:recharge:1"]
    assert ["both were done" in sentence for _, sentence, _ in office.store.reports()] == [True]


def test_an_approval_behind_a_recharge_that_was_closed_by_hand_is_named_once(tmp_path: Path):
    office = Office(tmp_path, Scripted(Unclear("hung up"), Unknown()))
    with pytest.raises(Unclear):
        office.advance(asked_for())
    office.store.close_as(ID, FAILED_ELSEWHERE)
    assert office.advance(asked_for())
    assert office.state() is State.CLOSED
    for _ in range(2):
        take_answer(office.desk, ID, APPROVED)
    assert [sentence for _, sentence, _ in office.store.reports()] == [
        f"{ID}: refund payment pay-1: it was approved after the recharge was closed by hand"
    ]
    assert office.published == []


def test_a_refusal_fails_the_recharge_asks_nobody_and_does_not_count_as_asked(tmp_path: Path):
    provider = Scripted(APPROVED, APPROVED)
    office = Office(tmp_path, provider, "per_hour_max = 1")
    office.advance(asked_for(1))
    office.advance(asked_for(2))
    office.now_ms += DAY_MS
    office.advance(asked_for(3))
    assert office.verdicts() == ["approved", "declined", "approved"]
    assert office.published[1]["reason"].startswith("not asked: 1 recharges in the last hour, 1 are allowed")
    assert provider.heard == ["ask acme:recharge:1", "ask acme:recharge:3"]
    value = office.registry.get_sample_value("rater_recharge_refusals_total", {"reason": "per_hour"})
    assert value == 1


def test_two_requests_at_once_cannot_both_be_the_last_allowed(tmp_path: Path):
    office = Office(tmp_path, Scripted(APPROVED), "per_hour_max = 1")

    async def both() -> None:
        for number in (1, 2):
            office.store.hear(asked_for(number), NOW_MS)
        await asyncio.gather(*(advance(office.desk, f"acme:recharge:{n}", True, lambda: True) for n in (1, 2)))

    asyncio.run(both())
    assert sorted(office.verdicts()) == ["approved", "declined"]


def test_no_step_is_begun_for_a_partition_that_went_away(tmp_path: Path):
    provider = Scripted()
    assert not Office(tmp_path, provider).advance(asked_for(), ours=False)
    assert provider.heard == []


def test_limits_that_cannot_be_read_let_nothing_new_through_and_come_back(tmp_path: Path):
    office = Office(tmp_path, Scripted(APPROVED))
    office.file.unlink()
    with pytest.raises(Later, match="limits cannot be read"):
        office.advance(asked_for())
    assert office.state() is State.HEARD
    office.file.write_text("per_hour_max = 5")
    assert office.advance(asked_for())
    office.file.write_text("per_hour_max = '5'")
    with pytest.raises(SettingsRefused, match=r"guards\.toml: per_hour_max is"):
        GuardsFile(office.file)


# --- http


@pytest.fixture
def bank() -> Iterator[tuple[Bank, str]]:
    counting = Bank()
    with counting.open() as url:
        yield counting, url


def http(url: str, timeout_ms: int = 2_000) -> HttpProvider:
    import time

    return HttpProvider(url, SECRET, timeout_ms, lambda: int(time.time() * 1000), first_wait_s=0.001)


async def closing(provider: Provider, *coroutines: Any) -> list[Any]:
    found = [await asyncio.gather(one, return_exceptions=True) for one in coroutines]
    await provider.close()
    return [one[0] for one in found]


def test_what_passes_is_tried_again_with_the_same_key_and_taken_once(bank: tuple[Bank, str]):
    counting, url = bank
    busy = [(503, {}), (429, {}), None]
    counting.answers[ID] = (503, {})
    real = counting.post

    def post(key: str, asked: dict[str, Any]) -> Any:
        if busy:
            counting.asked.append(key)
            counting.answers.pop(key, None)
            return busy.pop(0)
        return real(key, asked)

    counting.post = post  # type: ignore[method-assign]
    provider = http(url)
    (answer,) = asyncio.run(closing(provider, provider.ask(asked_for())))
    assert answer == Approved(15_000_000, "USD", f"pay-{ID}", "2026-11-21T10:00:00.000Z")
    assert (counting.asked, counting.taken) == ([ID] * 4, {ID: 1})


def test_a_provider_too_slow_to_hear_is_tried_again_with_the_same_key_and_takes_once(bank: tuple[Bank, str]):
    counting, url = bank
    leave = threading.Event()

    def slowly(asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        leave.wait(30)
        return approve(asked)

    counting.behaviour = slowly
    provider = http(url, timeout_ms=300)

    async def ask_until_clear() -> Answer:
        with pytest.raises(Unclear, match="TimeoutError: no answer in time"):
            await provider.ask(asked_for())
        leave.set()
        return await provider.ask(asked_for())

    (answer,) = asyncio.run(closing(provider, ask_until_clear()))
    assert isinstance(answer, Approved)
    assert counting.taken == {ID: 1}


def test_the_answers_of_the_protocol_are_understood_and_nonsense_is_unclear(bank: tuple[Bank, str]):
    counting, url = bank
    provider = http(url)
    counting.behaviour = decline
    declined, known, unknown = asyncio.run(
        closing(
            provider, provider.ask(asked_for(1)), provider.status(asked_for(1), ""), provider.status(asked_for(7), "")
        )
    )
    assert declined == known == Declined("the card has expired")
    assert unknown == Unknown()
    counting.behaviour = pend
    provider = http(url)
    assert (
        asyncio.run(closing(provider, provider.ask(asked_for(2)), provider.status(asked_for(2), "")))
        == [Pending("pay-acme:recharge:2")] * 2
    )
    for number, nonsense in enumerate(
        [(200, {"status": "approved"}), (200, {"status": "yes"}), (200, {"status": "approved", "amount_micros": 15.0, "currency": "USD"}),
         (302, {}), (401, {}), (200, {"status": "pending", "recharge_id": "other"})], 10
    ):  # fmt: skip
        counting.behaviour = lambda _asked, answer=nonsense: answer
        provider = http(url)
        (unclear,) = asyncio.run(closing(provider, provider.ask(asked_for(number))))
        assert isinstance(unclear, Unclear), nonsense
    assert counting.unsigned == 0


def test_a_provider_that_is_away_is_unclear_and_says_where(tmp_path: Path):
    provider = http("http://127.0.0.1:1/recharges")
    (unclear,) = asyncio.run(closing(provider, provider.ask(asked_for())))
    assert isinstance(unclear, Unclear)
    assert str(unclear).startswith("http://127.0.0.1:1/recharges: ClientConnectorError")
    assert SECRET.reveal() not in str(unclear)


# --- ledger


def ledger(folder: Path, text: str) -> LedgerProvider:
    file = folder / "ledger.toml"
    file.write_text(text)
    return LedgerProvider(load_agreements(file), folder / "ledger.db", lambda: NOW_MS)


def test_the_ledger_approves_up_to_the_months_amount_and_remembers_each_answer(tmp_path: Path):
    provider = ledger(tmp_path, '[default]\nper_month = { USD = "30" }\n[tenants.poor]\nper_month = { EUR = "1" }')
    first = asyncio.run(provider.ask(asked_for(1)))
    assert isinstance(first, Approved)
    assert asyncio.run(provider.ask(asked_for(1))) == asyncio.run(provider.status(asked_for(1), "")) == first
    assert isinstance(asyncio.run(provider.ask(asked_for(2))), Approved)
    third = asyncio.run(provider.ask(asked_for(3)))
    assert isinstance(third, Declined)
    assert third.reason.startswith("30.00 USD of 30.00 USD agreed for this month are used")
    poor = asyncio.run(provider.ask(asked_for(1, "poor")))
    assert isinstance(poor, Declined)
    assert "no agreement on recharges in USD" in poor.reason
    assert asyncio.run(provider.status(asked_for(9), "")) == Unknown()


def test_the_ledger_follows_its_script_for_demonstrations(tmp_path: Path):
    provider = ledger(
        tmp_path,
        '[default]\nper_month = { USD = "99" }\nscript = ["decline: the card has expired", "pending", "approve"]',
    )
    assert asyncio.run(provider.ask(asked_for(1))) == Declined("the card has expired", at="2026-11-21T10:00:00.000Z")
    assert isinstance(asyncio.run(provider.ask(asked_for(2))), Pending)
    assert isinstance(asyncio.run(provider.status(asked_for(2), "")), Approved)
    assert isinstance(asyncio.run(provider.ask(asked_for(3))), Approved)
    with pytest.raises(SettingsRefused, match="expected a list of 'approve'"):
        ledger(tmp_path, '[default]\nscript = ["no"]')
