"""Changes: each becomes one account command. The answer says that the log has it; what the account made of it is asked afterwards, or waited for.

The Idempotency-Key is the command's id. A request sent again with its key is the same command: it is published once more at the most, and
the engine drops what it has applied. So after any doubt (a time-out, a lost answer) the same request again is the right thing to do.
"""

import logging
import re
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi import Path as InPath
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from rater.doors.http import models
from rater.doors.http.access import NO_TENANT, Allowed, caller_of
from rater.doors.http.api import Api, api_of
from rater.doors.http.changes import (
    KEY,
    Change,
    Contacts,
    Funds,
    Licence,
    RechargeChange,
    command_of,
    content_of_body,
    digest_of_change,
    type_of,
)
from rater.doors.http.deciding import look_again, standing, wait_decided
from rater.doors.http.ledger import BEGUN, Entry, public_id
from rater.doors.http.problems import Problem
from rater.doors.http.tokens import ADMIN, FUNDS, Caller
from rater.doors.http.workers import Seen
from rater.doors.publishing import NotPublished
from rater.doors.questions import Away

WAIT_MAX_S = 20
PAGE_MAX = 1_000
NUMBER_MAX = 1 << 62
_WAIT = re.compile(r"(?:^|[,; ])wait=([0-9]{1,3})(?:$|[,; ])")

log = logging.getLogger("rater.api")

router = APIRouter(prefix="/v1", tags=["changes"], responses=models.REFUSALS)

Funder = Annotated[Caller, Depends(Allowed(FUNDS))]
Admin = Annotated[Caller, Depends(Allowed(ADMIN))]
Anyone = Annotated[Caller, Depends(caller_of)]
Key = Annotated[
    str, Header(alias="Idempotency-Key", pattern=KEY, description="The command's id: choose one for each change.")
]
Prefer = Annotated[str | None, Header(description=f"wait=N: answer when it is decided, after N seconds (at most {WAIT_MAX_S}).", max_length=100)]  # fmt: skip

ACCEPTED: dict[int | str, dict[str, Any]] = {
    200: {"model": models.Command, "description": "Decided: applied or rejected."},
    202: {"model": models.Command, "description": "The log has it; GET /v1/commands/{id} says when it is decided."},
    409: {
        "model": models.Problem,
        "description": "This key was used for another change.",
        "content": {"application/problem+json": {}},
    },
}


@router.post("/tenants/{tenant}/funds", responses=ACCEPTED)
async def add_funds(
    request: Request, caller: Funder, tenant: str, change: Funds, key: Key, prefer: Prefer = None
) -> Response:
    """Add credits: repays debt first, then a new lot."""
    return await take(request, caller, tenant, change, key, prefer)


@router.put("/tenants/{tenant}/recharge", responses=ACCEPTED)
async def set_recharge(
    request: Request, caller: Funder, tenant: str, change: RechargeChange, key: Key, prefer: Prefer = None
) -> Response:
    """When the account recharges itself, and with how much."""
    return await take(request, caller, tenant, change, key, prefer)


@router.put("/tenants/{tenant}/contacts", responses=ACCEPTED)
async def set_contacts(
    request: Request, caller: Admin, tenant: str, change: Contacts, key: Key, prefer: Prefer = None
) -> Response:
    """Who is told of what: the whole list, it replaces the one before."""
    return await take(request, caller, tenant, change, key, prefer)


@router.post("/tenants/{tenant}/licences", responses=ACCEPTED)
async def change_licence(
    request: Request, caller: Admin, tenant: str, change: Licence, key: Key, prefer: Prefer = None
) -> Response:
    """Assign or remove a licence: pools grow and shrink with it."""
    return await take(request, caller, tenant, change, key, prefer)


@router.get("/commands/{id}", response_model=models.Command)
async def command(request: Request, caller: Anyone, id: Annotated[str, InPath(max_length=64)]) -> Response:
    """What became of a change: begun, accepted, applied or rejected."""
    api = api_of(request)
    entry = await run_in_threadpool(api.ledger.find, id)
    if entry is None or not caller.knows(entry.tenant):
        raise Problem(404, "no such command")
    try:
        entry = await look_again(api, entry)
    except Away:
        log.info(
            "a command stays undecided: its worker does not answer", extra={"event": "command", "tenant": entry.tenant}
        )
    return _told(entry, 200)


@router.get("/tenants/{tenant}/audit", response_model=models.Audit)
def audit(
    request: Request, caller: Admin, tenant: str,
    after: Annotated[int, Query(ge=0, le=NUMBER_MAX, description="What the page before gave as `next`.")] = NUMBER_MAX,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 100,
) -> Response:  # fmt: skip
    """Who changed what through this API, the newest first: the command, what was there before, what was there after."""
    entries = api_of(request).ledger.of_tenant(tenant, after, limit + 1)
    following = entries[limit - 1].number if len(entries) > limit else None
    told = {"changes": [entry.as_audit() for entry in entries[:limit]], "next": following}
    return Response(orjson.dumps(told), media_type="application/json")


async def take(request: Request, caller: Caller, tenant: str, change: Change, key: str, prefer: str | None) -> Response:
    """Keep it, publish it, and say so; or say what the same request came to before."""
    api = api_of(request)
    if api.writer is None:
        raise Away("this API changes nothing; its operator sets RATER_BOOTSTRAP_SERVERS")
    entry = await run_in_threadpool(api.ledger.find, public_id(tenant, key))
    if entry is None:
        entry = await _begin(api, caller, tenant, change, key)
    if entry.asked != digest_of_change(change):
        raise Problem(409, "this Idempotency-Key was used for another change; choose a new one for a new change")
    if entry.state == BEGUN:
        entry = await _publish(api, entry)
    wait_s = _wait_s(prefer)
    if wait_s:
        entry = await wait_decided(api, entry, wait_s)
    return _told(entry, 200 if entry.decided else 202)


async def _begin(api: Api, caller: Caller, tenant: str, change: Change, key: str) -> Entry:
    command = command_of(change, tenant, key, caller, api.now_ms())
    _, wrong = await run_in_threadpool(content_of_body, orjson.dumps(command))
    if wrong:
        raise Problem(422, f"body {wrong}")
    seen = await _before(api, tenant)
    before = await run_in_threadpool(standing, api, tenant, type_of(change), command, seen, False)
    return await run_in_threadpool(
        api.ledger.begin, tenant, command, digest_of_change(change), caller, api.now_ms(), before
    )


async def _before(api: Api, tenant: str) -> Seen | None:
    """The account as it stands; None where nobody can say: the log takes the change all the same."""
    if api.live is None:
        return None
    try:
        seen = await api.live.ask(tenant, {})
    except Away:
        return None
    if seen.account is None:
        raise Problem(404, NO_TENANT)
    return seen


async def _publish(api: Api, entry: Entry) -> Entry:
    assert api.writer is not None
    try:
        placed = await api.writer.publish(entry.tenant, entry.body)
    except NotPublished as problem:
        log.error("a command was not published: %s", problem, extra={"event": "command", "reason": "not published"})
        detail = "the log did not confirm the change, and may have it all the same; send the same request with the same key again"
        raise Problem(503, detail, {"Retry-After": "1"}) from None
    await run_in_threadpool(api.ledger.accepted, entry, placed.partition, placed.offset)
    log.info("a command was accepted: %s", entry.type, extra={"event": "command", "tenant": entry.tenant})
    return await run_in_threadpool(api.ledger.find, entry.id) or entry


def _wait_s(prefer: str | None) -> float:
    found = _WAIT.search(prefer or "")
    return 0.0 if found is None else float(min(int(found[1]), WAIT_MAX_S))


def _told(entry: Entry, status: int) -> Response:
    headers = {"Location": f"/v1/commands/{entry.id}"}
    if entry.place is not None:
        # What a balance has to reflect to have this change in it: for X-Rater-At-Least.
        headers["X-Rater-Reflects"] = f"account-commands:{entry.part}:{entry.place + 1}"
    return Response(orjson.dumps(entry.as_object()), status, headers, "application/json")
