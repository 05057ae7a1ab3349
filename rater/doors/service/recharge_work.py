"""One recharge from request to command: remembered before the provider is asked, settled before it is told, told before it is done.

Killed between any two steps, the next process begins where the file stands; without the file it asks the provider about the recharge
first. So there is one payment a recharge, and a command for each.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rater.doors.failpoints import reached
from rater.doors.metrics import RechargeMetrics
from rater.doors.service.provider import Provider
from rater.doors.service.recharge_guards import GuardsFile
from rater.doors.service.recharge_store import Recharge, RechargeStore
from rater.recharge.answers import APPROVED, Answer, Approved, Pending, Unknown, Verdict, contradiction, refuse, settle
from rater.recharge.guards import refusal
from rater.recharge.steps import State, Step, next_step

log = logging.getLogger("rater.recharge")

SUCCEEDED_ELSEWHERE, FAILED_ELSEWHERE = "succeeded", "failed"


class Later(Exception):
    """Nothing more can be done now; the text says why."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What the work on a recharge needs. `publish` returns when the brokers have the command of a tenant."""

    store: RechargeStore
    provider: Provider
    guards: GuardsFile
    publish: Callable[[str, bytes], Awaitable[None]]
    metrics: RechargeMetrics
    now_ms: Callable[[], int]

    @property
    def by(self) -> str:
        return f"recharge agent, {self.provider.name}"


async def advance(desk: Desk, recharge_id: str, fresh: bool, ours: Callable[[], bool]) -> bool:
    """All steps that can be made now; whether the recharge is done. Raises `Later` and `NotPublished`.

    `ours` turns false when the partition goes to another process: no step is begun then.
    """
    while ours():
        recharge = desk.store.find(recharge_id)
        if recharge is None:
            raise Later("it is not in the file; expected the row of a request that was taken")
        match next_step(recharge.state, fresh):
            case Step.ASK:
                await _ask(desk, recharge)
            case Step.INQUIRE:
                await _inquire(desk, recharge)
            case Step.PUBLISH:
                await _publish(desk, recharge)
            case Step.ACKNOWLEDGE:
                return True
    return False


async def _ask(desk: Desk, recharge: Recharge) -> None:
    """The guards look and the intention is written in one go: two requests of a tenant cannot both be the last allowed."""
    request, now_ms = recharge.request, desk.now_ms()
    guards = desk.guards.current()
    if guards is None:
        raise Later("the limits cannot be read; nothing is asked for until they can")
    refused = refusal(request, desk.store.history(request.tenant, request.recharge_id, now_ms), guards, now_ms)
    if refused is not None:
        desk.store.settle(request.recharge_id, refuse(request, refused.reason, desk.by, now_ms), "", now_ms)
        desk.metrics.refusals.labels(refused.word).inc()
        log.warning("%s: %s", request.recharge_id, refused.reason)
        reached("recharge-settled")
        return
    desk.store.intend(request.recharge_id, now_ms)
    reached("recharge-intended")
    answer = await desk.provider.ask(request)
    reached("recharge-answered")
    take_answer(desk, request.recharge_id, answer)


async def _inquire(desk: Desk, recharge: Recharge) -> None:
    request = recharge.request
    answer = await desk.provider.status(request, recharge.reference)
    reached("recharge-answered")
    if not isinstance(answer, Unknown):
        take_answer(desk, request.recharge_id, answer)
        if isinstance(answer, Pending):
            raise Later("pending at the provider")
        return
    if recharge.state is State.PENDING:
        raise Later(
            "the provider had it as pending and now knows nothing of it; it is not asked again: look into the provider's books"
        )
    if recharge.closed_as is not None:
        desk.store.advance(request.recharge_id, State.CLOSED)  # settled by hand, and the provider never had it
        return
    await _ask(desk, recharge)


def take_answer(desk: Desk, recharge_id: str, answer: Answer) -> None:
    """What the provider says, now or later, once or twice: the first verdict stands, what contradicts it is reported."""
    recharge, now_ms = desk.store.find(recharge_id), desk.now_ms()
    if recharge is None:
        return
    if isinstance(answer, Pending):
        desk.store.pend(recharge_id, answer.reference, now_ms)
        return
    request = recharge.request
    if recharge.verdict is not None:
        _report(desk, recharge_id, contradiction(request, recharge.verdict, answer))
        return
    if recharge.closed_as is not None and _settled_by_hand(desk, recharge, answer):
        return
    outcome = settle(request, answer, desk.by, now_ms)
    desk.store.settle(recharge_id, outcome, answer.reference, now_ms)
    desk.metrics.outcomes.labels(outcome.verdict).inc()
    log.info("%s: %s%s", recharge_id, outcome.verdict, f": {outcome.reason}" if outcome.reason else "")
    if outcome.refund:
        log.error("%s", outcome.refund)
    reached("recharge-settled")


def _settled_by_hand(desk: Desk, recharge: Recharge, answer: Verdict) -> bool:
    """The engine has taken somebody else's outcome meanwhile. Money that was taken is added unless somebody has added it."""
    recharge_id = recharge.request.recharge_id
    if isinstance(answer, Approved):
        payment = answer.reference or "without a reference"
        if recharge.closed_as == SUCCEEDED_ELSEWHERE:
            _report(
                desk,
                recharge_id,
                f"{recharge_id}: refund payment {payment} or take back what was added by hand: both were done",
            )
        elif recharge.state is not State.CLOSED:
            return False  # a lot of its own: the customer gets what was paid
        else:
            _report(
                desk,
                recharge_id,
                f"{recharge_id}: refund payment {payment}: it was approved after the recharge was closed by hand",
            )
    desk.store.advance(recharge_id, State.CLOSED)
    return True


def _report(desk: Desk, recharge_id: str, sentence: str) -> None:
    if sentence and desk.store.report(recharge_id, sentence, desk.now_ms()):
        desk.metrics.outcomes.labels("contradicted").inc()
        log.error("%s", sentence)


async def _publish(desk: Desk, recharge: Recharge) -> None:
    request = recharge.request
    if recharge.command is None:
        raise Later("it is settled and its command is missing; the file was changed by hand")
    if recharge.closed_as == SUCCEEDED_ELSEWHERE and recharge.verdict != APPROVED:
        desk.store.advance(request.recharge_id, State.CLOSED)
        return
    await desk.publish(request.tenant, recharge.command)
    reached("recharge-published")
    desk.store.advance(request.recharge_id, State.PUBLISHED)
    reached("recharge-recorded")
