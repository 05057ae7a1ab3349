"""What was: usage, exports, calls after a pool's end, recharges, events, days. Read from the history."""

import os
import tempfile
import threading
from pathlib import Path
from typing import Annotated, Literal

import orjson
from fastapi import APIRouter, Depends, Query, Request
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, Response

from rater.doors.http import models
from rater.doors.http.access import Reading
from rater.doors.http.api import answered, api_of, least_for
from rater.doors.http.problems import Problem
from rater.doors.http.reflects import HEADER, Marks, behind, marks_text
from rater.doors.http.tokens import READ, Caller
from rater.doors.questions import Answer, Away, Wanted

PAGE_MAX = 10_000
WORDS_MAX = 50
EXPORTS_AT_ONCE = 2
UNFINISHED = "export-"
EXPORT_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "parquet": "application/vnd.apache.parquet",
}
_EXPORTING = threading.BoundedSemaphore(EXPORTS_AT_ONCE)

router = APIRouter(prefix="/v1/tenants/{tenant}", tags=["history"], responses=models.REFUSALS)

Reader = Annotated[Caller, Depends(Reading(READ))]
Text = Annotated[str, Query(max_length=200)]
Words = Annotated[list[Text], Query(max_length=WORDS_MAX)]
Month = Annotated[
    str | None, Query(description="UTC month of the start, 2026-11; goes without `from` and `to`.", max_length=20)
]
Begin = Annotated[
    str | None,
    Query(alias="from", description="Started then or later: 2026-11-01, or an instant in UTC.", max_length=40),
]
End = Annotated[
    str | None, Query(alias="to", description="Started before then: 2026-12-01, or an instant in UTC.", max_length=40)
]
After = Annotated[str | None, Query(description="What the page before gave as `next`.", max_length=120)]
Limit = Annotated[int, Query(ge=1, le=PAGE_MAX)]


def wanted_calls(
    month: Month = None, begin: Begin = None, end: End = None,
    user: Annotated[str | None, Query(max_length=256)] = None,
    type: Words = [],  # noqa: B006  # the name in the address; FastAPI copies it
    capability: Words = [],  # noqa: B006
    outcome: Words = [],  # noqa: B006
) -> Wanted:  # fmt: skip
    return Wanted(user, tuple(type), tuple(capability), tuple(outcome), month, begin, end)


def wanted_days(month: Month = None, begin: Begin = None, end: End = None) -> Wanted:
    return Wanted(month=month, begin=begin, end=end)


Calls = Annotated[Wanted, Depends(wanted_calls)]
Days = Annotated[Wanted, Depends(wanted_days)]


def marks_of(told: Answer) -> Marks:
    """By topic and partition; folders of files count together, each of them only grows."""
    marks: Marks = {}
    for one in told["reflects"]:
        name = one["topic"], one["partition"]
        marks[name] = marks.get(name, 0) + one["offset"]
    return marks


def _shown(told: Answer) -> Answer:
    """Where a folder lies on this machine is nobody's business outside."""
    for one in told["reflects"]:
        one["feed"] = str(one["feed"]).partition(":")[0]
    return told


def _answered(request: Request, caller: Caller, tenant: str, told: Answer) -> Response:
    marks = marks_of(told)
    return answered(request, caller, tenant, _shown(told), marks)


@router.get("/usage", response_model=models.UsagePage)
def usage(
    request: Request, caller: Reader, tenant: str, wanted: Calls, after: After = None, limit: Limit = 200
) -> Response:
    """Calls in the order of their start, a page at a time."""
    return _answered(request, caller, tenant, api_of(request).asked_history().usage(tenant, wanted, after, limit))


@router.get(
    "/usage/export",
    response_class=FileResponse,
    responses={200: {"content": {kind: {} for kind in EXPORT_TYPES.values()}}},
)
def export(
    request: Request, caller: Reader, tenant: str, wanted: Calls,
    format: Literal["csv", "xlsx", "parquet"] = "csv",
    columns: Literal["usage", "newer", "detail"] = "usage",
    mask: Annotated[str | None, Query(description="Mask the other party's number as this country asks for.", max_length=2)] = None,
) -> Response:  # fmt: skip
    """The usage as a file, in the columns of the PSTN usage export; charges rounded to two decimals call by call."""
    api = api_of(request)
    history = api.asked_history()
    if not _EXPORTING.acquire(blocking=False):
        raise Problem(503, f"{EXPORTS_AT_ONCE} exports are being written; ask again in a moment", {"Retry-After": "5"})
    api.exports.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=api.exports, prefix=UNFINISHED, suffix=f".{format}")
    os.close(handle)
    path = Path(name)
    try:
        told = history.export(tenant, wanted, path, format, columns, mask)
        marks = marks_of(told)
        if behind(marks, least_for(request, caller, tenant)):
            raise Away("the history is behind an answer you had before; ask again in a moment")
        api.memory.told(caller.token_id, tenant, marks)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        _EXPORTING.release()
    headers = {
        HEADER: marks_text(marks),
        "X-Rater-Rows": str(told["rows"]),
        "X-Rater-Charge-Micros": orjson.dumps(told["charge_micros"]).decode(),
    }
    done = BackgroundTask(path.unlink, missing_ok=True)
    return FileResponse(path, 200, headers, EXPORT_TYPES[format], done, f"PSTN.calls.{tenant}.{format}")


@router.get("/after-pool", response_model=models.AfterPool)
def after_pool(request: Request, caller: Reader, tenant: str, wanted: Days) -> Response:
    """Which calls credits paid because a pool had ended, and what each cost."""
    return _answered(request, caller, tenant, api_of(request).asked_history().after_pool(tenant, wanted))


@router.get("/recharges", response_model=models.Recharges)
def recharges(request: Request, caller: Reader, tenant: str) -> Response:
    """Every recharge that was asked for, and how it ended."""
    return _answered(request, caller, tenant, api_of(request).asked_history().recharges(tenant))


@router.get("/events", response_model=models.EventPage)
def events(
    request: Request, caller: Reader, tenant: str,
    type: Words = [],  # noqa: B006
    after: After = None, limit: Limit = 200,
) -> Response:  # fmt: skip
    """What was announced of the account, in the order of its time."""
    return _answered(request, caller, tenant, api_of(request).asked_history().events(tenant, type, after, limit))


@router.get("/daily", response_model=models.Daily)
def daily(request: Request, caller: Reader, tenant: str, wanted: Days) -> Response:
    """Calls, minutes and charge of each day (UTC)."""
    return _answered(request, caller, tenant, api_of(request).asked_history().daily(tenant, wanted))
