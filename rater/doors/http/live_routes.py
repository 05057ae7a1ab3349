"""What is: balance, lots, pools, the whole account. Answered by the worker that owns the tenant's partition, from committed state."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from rater.doors.http import models
from rater.doors.http.access import NO_TENANT, Reading
from rater.doors.http.api import answered, api_of, least_for
from rater.doors.http.problems import Problem
from rater.doors.http.reflects import HEADER, marks_text
from rater.doors.http.tokens import READ, Caller
from rater.doors.http.workers import Seen

router = APIRouter(prefix="/v1/tenants/{tenant}", tags=["live"], responses=models.REFUSALS)
Reader = Annotated[Caller, Depends(Reading(READ))]

IN_BALANCE = (
    "tenant", "country", "currency", "billing_mode", "overage", "balance_micros", "held_micros", "open_calls", "debt_micros", "invoice_micros", "blocked",
    "recharge", "account_version", "last_seen",
)  # fmt: skip


async def seen(request: Request, caller: Caller, tenant: str) -> tuple[dict[str, Any], Seen]:
    """The account, from a state that is no older than what this client has seen. Raises `Problem` and `Away`."""
    found = await api_of(request).asked_live().ask(tenant, least_for(request, caller, tenant))
    if found.account is None:
        raise Problem(404, NO_TENANT, {HEADER: marks_text(found.marks)})
    return found.account, found


def pool_object(line: dict[str, Any]) -> dict[str, Any]:
    total, used = line["capacity"], line["used"]
    percent = round(100 * used / total, 1) if total else None
    told = {"pool": line["pool"], "total": total, "used": used, "left": line["left"]}
    return told | {"held": line["held"], "percent": percent}


@router.get("/balance", response_model=models.Balance)
async def balance(request: Request, caller: Reader, tenant: str) -> Response:
    """Balance, what is held for open calls, debt, invoice, recharge settings."""
    account, found = await seen(request, caller, tenant)
    told = {name: account[name] for name in IN_BALANCE} | {"reflects": found.reflects}
    return answered(request, caller, tenant, told, found.marks)


@router.get("/lots", response_model=models.Lots)
async def lots(request: Request, caller: Reader, tenant: str) -> Response:
    """Credits by lot, in the order they are drawn, with the instant each expires."""
    account, found = await seen(request, caller, tenant)
    told = {"tenant": tenant, "currency": account["currency"], "lots": account["lots"], "reflects": found.reflects}
    return answered(request, caller, tenant, told, found.marks)


@router.get("/pools", response_model=models.Pools)
async def pools(request: Request, caller: Reader, tenant: str) -> Response:
    """Minutes by pool and month: total, used, left, held for open calls, percent."""
    account, found = await seen(request, caller, tenant)
    told = {"tenant": tenant, "pools": [pool_object(line) for line in account["pools"]], "reflects": found.reflects}
    return answered(request, caller, tenant, told, found.marks)


@router.get("/account", response_model=models.Account)
async def account(request: Request, caller: Reader, tenant: str) -> Response:
    """Everything the books hold: also licences, numbers, months."""
    held, found = await seen(request, caller, tenant)
    told = held | {"pools": [pool_object(line) for line in held["pools"]], "reflects": found.reflects}
    return answered(request, caller, tenant, told, found.marks)
