"""Requests of a transaction that are lost on the way, or arrive when the next transaction is under way.

The late one is let go at the worst time: when the next transaction of the same transactional id has written everything and
its offsets are on their way. A client that goes on with the same epoch is torn there; ours must have fenced it.
"""

import asyncio

from tests.kafka.proxy import Api, Proxy, Rule, error_codes

CAUGHT_S, NEXT_S, ANSWER_S = 15.0, 25.0, 5.0


async def fault_on_the_way(proxy: Proxy, api: Api, holding: bytes, cut: bool, late: bool) -> tuple[bool, str]:
    """(whether it landed, what was seen). `holding`: what names the transactional id in a frame."""
    proxy.requests.clear()
    rule = proxy.catch(api, cut=cut, holding=holding)
    try:
        if not await seen(rule.caught, CAUGHT_S):
            return False, "no such request came"
        if not late:
            return True, "held for good"
        return await released_late(proxy, rule, holding)
    finally:
        rule.times = 0
        if rule in proxy._rules:
            proxy._rules.remove(rule)


async def released_late(proxy: Proxy, rule: Rule, holding: bytes) -> tuple[bool, str]:
    """Waits for the offsets of the next transaction, holds them, lets the late one go first."""
    since = len(proxy.requests)
    if rule.api is not Api.END_TXN and not await ended(proxy, since, holding):
        await rule.release()
        return False, "its transaction never ended"
    following = proxy.catch(Api.TXN_OFFSET_COMMIT, holding=holding)
    try:
        in_time = await seen(following.caught, NEXT_S)
        await rule.release()
        answered = await seen(rule.answers, ANSWER_S)
        said = f", error {error_codes(rule.answered)[0]}" if answered and rule.api is Api.END_TXN else ""
        return in_time and answered, f"next offsets on their way: {in_time}, broker answered: {answered}{said}"
    finally:
        await following.release()
        proxy._rules.remove(following)


async def ended(proxy: Proxy, since: int, holding: bytes) -> bool:
    """Whether the transaction of the caught request was ended: by EndTxn, or by a new writer."""
    deadline = asyncio.get_running_loop().time() + NEXT_S
    while asyncio.get_running_loop().time() < deadline:
        if any(
            api in (Api.END_TXN, Api.INIT_PRODUCER_ID) and holding in frame for api, frame in proxy.requests[since:]
        ):
            return True
        await asyncio.sleep(0.01)
    return False


async def seen(event: asyncio.Semaphore, patience_s: float) -> bool:
    try:
        await asyncio.wait_for(event.acquire(), patience_s)
    except TimeoutError:
        return False
    return True
