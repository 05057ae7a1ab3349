"""What a client is told when something is wrong: RFC 9457 problem details, one sentence, never a stack trace."""

import itertools
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from rater.doors.logs import masked
from rater.doors.questions import Away, BadQuestion, NoSuchTenant, NotAnswered

MEDIA_TYPE = "application/problem+json"
FAULTS_TOLD = 10

log = logging.getLogger("rater.api")
_faults = itertools.count(1)


class Problem(Exception):
    """An answer that is a refusal."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})


def problem_response(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    told = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return Response(orjson.dumps(told), status, dict(headers or {}), MEDIA_TYPE)


def fault_response(problem: BaseException) -> Response:
    """Of what should not happen: a number, under which the log has the kind and the place. Not the text: it may hold what a client sent."""
    number = next(_faults)
    trace = problem.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    file = "?" if trace is None else trace.tb_frame.f_code.co_filename.rsplit("/", 1)[-1]
    where = file if trace is None else f"{file}:{trace.tb_lineno}"
    kind = type(problem).__name__
    about = {"event": "api_fault", "reason": f"{kind} {where}"}
    log.error("request %d failed: %s at %s", number, kind, where, extra=about)
    return problem_response(500, f"this failed here, not with you; the log has it as request {number}")


async def tell_fault(_request: Request, problem: Exception) -> Response:
    return fault_response(problem)


async def tell_problem(_request: Request, problem: Exception) -> Response:
    assert isinstance(problem, Problem)
    return problem_response(problem.status, problem.detail, problem.headers)


async def tell_not_answered(_request: Request, problem: Exception) -> Response:
    known: dict[type[Exception], int] = {NoSuchTenant: 404, BadQuestion: 400, Away: 503}
    status = known.get(type(problem), 500)
    return problem_response(status, str(problem), {"Retry-After": "1"} if isinstance(problem, Away) else None)


async def tell_http(_request: Request, problem: Exception) -> Response:
    """Of the framework: no such page, no such method."""
    assert isinstance(problem, HTTPException)
    return problem_response(problem.status_code, str(problem.detail), problem.headers)


async def tell_invalid(_request: Request, problem: Exception) -> Response:
    """Which field, and what was expected; what was sent is not repeated: it may be a number or a secret."""
    assert isinstance(problem, RequestValidationError)
    return problem_response(422, faults_text(problem.errors()))


def faults_text(faults: Sequence[Any]) -> str:
    """Of pydantic's faults, each with the place it is in: ("body", "lot_id")."""
    return "; ".join(_fault(fault) for fault in faults[:FAULTS_TOLD])


def _fault(fault: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in fault["loc"][1:] if not isinstance(part, int) or fault["loc"][0] == "body")
    return masked(f"{fault['loc'][0]} {place}: {fault['msg']}"[:300])


HANDLERS = {
    Problem: tell_problem,
    NotAnswered: tell_not_answered,
    HTTPException: tell_http,
    RequestValidationError: tell_invalid,
    Exception: tell_fault,
}
