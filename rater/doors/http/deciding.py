"""What became of an accepted command: asked of the worker that owns the tenant, and kept with the command.

The committed state knows every command it applied, by id and content. A command that lies before the offset the state has come to, and that it
does not know, was refused. Why stands in `rejected-commands`, and `hearing` writes it into the row when it comes by.
"""

import asyncio
import logging
from typing import Any

import orjson
from starlette.concurrency import run_in_threadpool

from rater.doors.http.api import Api
from rater.doors.http.changes import content_of_body
from rater.doors.http.ledger import APPLIED, BEGUN, REJECTED, Entry
from rater.doors.http.workers import Seen
from rater.doors.questions import Away, NotAnswered

FOLLOW_S = 1.0
FOLLOWED_MAX = 50  # at once
FOLLOWED_MS = 24 * 3_600_000
AGAIN_S = 0.05
HEAR_TURNS = 10

log = logging.getLogger("rater.api")


async def look_again(api: Api, entry: Entry) -> Entry:
    """The entry as it stands now. Raises `Away` where nobody can tell."""
    if entry.decided:
        return entry
    if api.live is None:
        return await _by_the_log(api, entry)
    content, _ = await run_in_threadpool(content_of_body, entry.body)
    seen = await api.live.ask(entry.tenant, {}, (entry.command_id, content))
    state, reason = _verdict(entry, seen)
    if state is not None:
        if state == REJECTED and reason is None:
            await _hear_why(api, entry)
        after = await run_in_threadpool(standing, api, entry.tenant, entry.type, entry_fields(entry), seen, True)
        batch = seen.reflects["batch"]
        await run_in_threadpool(api.ledger.decided, entry, state, batch, api.now_ms(), reason, after)
        log.info("a command was %s: %s", state, entry.type, extra={"event": "command", "tenant": entry.tenant})
    return await run_in_threadpool(api.ledger.find, entry.id) or entry


async def _hear_why(api: Api, entry: Entry) -> None:
    """The state and the log's word on a rejection are committed together, and come by two ways: give the other one a moment."""
    for _ in range(HEAR_TURNS):
        if api.follower is None or api.follower.trouble:
            return
        found = await run_in_threadpool(api.ledger.find, entry.id)
        if found is None or found.reason is not None:
            return
        await asyncio.sleep(AGAIN_S)


async def _by_the_log(api: Api, entry: Entry) -> Entry:
    """Without workers to ask: a rejection that was heard is the end of a command; that one was applied nobody says."""
    if entry.reason is None:
        return entry
    await run_in_threadpool(api.ledger.decided, entry, REJECTED, None, api.now_ms(), entry.reason, None)
    return await run_in_threadpool(api.ledger.find, entry.id) or entry


def _verdict(entry: Entry, seen: Seen) -> tuple[str | None, str | None]:
    if seen.command == "applied":
        return APPLIED, None
    if entry.state == BEGUN or entry.place is None:
        return None, None
    if seen.reflects["partition"] != entry.part or seen.reflects["next_command"] <= entry.place:
        return None, None
    if seen.command == "conflict":
        return REJECTED, "conflict: another command of this tenant has this id; nothing was changed"
    return REJECTED, None


def entry_fields(entry: Entry) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(entry.body)
    return found


def standing(api: Api, tenant: str, kind: str, command: dict[str, Any], seen: Seen | None, decided: bool) -> Any:
    """The part of an account that a command of this kind is about, for the audit: before it, and after it. None: not known."""
    if kind == "contacts.set":
        return _contacts(api, tenant, command, decided)
    if seen is None or seen.account is None:
        return None
    account = seen.account
    if kind == "funds.added":
        return {name: account[name] for name in ("balance_micros", "debt_micros", "lots", "account_version")}
    if kind == "recharge.configured":
        return {"recharge": account["recharge"], "account_version": account["account_version"]}
    of_user = [one for one in account["licences"] if one["user"] == command.get("user")]
    return {"licences": of_user, "account_version": account["account_version"]}


def _contacts(api: Api, tenant: str, command: dict[str, Any], decided: bool) -> Any:
    """State does not hold contacts: before, the last event that the history has; after, what was asked for."""
    if decided:
        return {"contacts": command["contacts"]}
    if api.history is None:
        return None
    try:
        event = api.history.latest_event(tenant, "rater.contacts.set")
    except NotAnswered:
        return None
    return {"contacts": [] if event is None else event["data"]["contacts"]}


async def wait_decided(api: Api, entry: Entry, wait_s: float) -> Entry:
    """The entry when it is decided, or after so many seconds as it then is."""
    until = api.now_s() + wait_s
    try:
        async with asyncio.timeout(wait_s):
            while not entry.decided and api.now_s() < until:
                entry = await look_again(api, entry)
                if not entry.decided:
                    await asyncio.sleep(AGAIN_S)
    except (TimeoutError, Away):
        return api.ledger.find(entry.id) or entry
    return entry


async def follow(api: Api) -> None:
    """Until cancelled: what nobody asks about is decided in the audit, too."""
    while True:
        await asyncio.sleep(FOLLOW_S)
        try:
            for entry in await run_in_threadpool(api.ledger.pending, api.now_ms() - FOLLOWED_MS, FOLLOWED_MAX):
                await look_again(api, entry)
        except Away:
            continue  # the log has it
        except Exception as problem:
            log.error("what became of commands is not known: %s", type(problem).__name__, extra={"event": "command"})
