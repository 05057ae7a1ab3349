"""What every request passes first: limits of headers, body and time; and what every answer leaves by.

Nothing that goes wrong behind it reaches a client as more than a sentence and a number to ask the log for.
"""

import asyncio
from dataclasses import dataclass

from prometheus_client import Counter, Histogram
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rater.doors.clock import stopwatch
from rater.doors.http.problems import fault_response, problem_response
from rater.doors.metrics_api import ApiMetrics

HEADER_BYTES_MAX = 16 << 10
HEADERS_MAX = 64
TARGET_BYTES_MAX = 8 << 10
KEPT = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a request may be and how long it may take. An export may take `export_s`."""

    body_bytes_max: int
    timeout_s: float
    export_s: float = 600.0


class Gate:
    """An ASGI application around the application, that counts what comes out."""

    def __init__(self, app: ASGIApp, limits: Limits, metrics: ApiMetrics) -> None:
        self._app, self._limits, self._metrics = app, limits, metrics
        self._counters: dict[tuple[str, str], Counter] = {}
        self._clocks: dict[str, Histogram] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = "none"
        took = stopwatch()

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = f"{message['status'] // 100}xx"
            await send(message)

        refusal = _refusal(scope, self._limits)
        try:
            if refusal is not None:
                await problem_response(*refusal, {"Connection": "close"})(scope, receive, _kept(counted))
            else:
                await self._pass(scope, receive, counted)
        finally:
            self._count(scope, status, took())

    def _count(self, scope: Scope, status: str, seconds: float) -> None:
        """By the template of the address that fitted; all others are one route."""
        route = getattr(scope.get("route"), "path", "other")
        counter, clock = self._counters.get((route, status)), self._clocks.get(route)
        if counter is None or clock is None:
            counter = self._counters[route, status] = self._metrics.requests.labels(route, status)
            clock = self._clocks[route] = self._metrics.seconds.labels(route)
        counter.inc()
        clock.observe(seconds)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await _kept(send)(message)

        limits = self._limits
        allowed_s = limits.export_s if scope["path"].endswith("/export") else limits.timeout_s
        try:
            async with asyncio.timeout(allowed_s):
                await self._app(scope, _counted(receive, limits.body_bytes_max), watched)
            return
        except TimeoutError:
            late = problem_response(503, f"no answer within {allowed_s:g} s; ask again in a moment")
        except HTTPException as problem:
            late = problem_response(problem.status_code, str(problem.detail))
        except Exception as problem:
            if begun:
                return  # the framework has answered and told it; then it raises it once more
            late = fault_response(problem)
        if not begun:
            await late(scope, receive, _kept(send))


def _refusal(scope: Scope, limits: Limits) -> tuple[int, str] | None:
    headers = scope["headers"]
    if len(headers) > HEADERS_MAX or sum(len(name) + len(value) for name, value in headers) > HEADER_BYTES_MAX:
        return 431, f"more than {HEADERS_MAX} headers, or more than {HEADER_BYTES_MAX} bytes of them"
    if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > TARGET_BYTES_MAX:
        return 414, f"an address of more than {TARGET_BYTES_MAX} bytes"
    for name, value in headers:
        if name == b"content-length" and value.isdigit() and int(value[:18]) > limits.body_bytes_max:
            return 413, f"the body is larger than {limits.body_bytes_max} bytes"
    return None


def _counted(receive: Receive, most: int) -> Receive:
    taken = 0

    async def receive_counted() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > most:
            raise HTTPException(413, f"the body is larger than {most} bytes")  # the framework lets its own through
        return message

    return receive_counted


def _kept(send: Send) -> Send:
    """Answers are nobody else's to keep."""

    async def send_kept(message: Message) -> None:
        if message["type"] == "http.response.start":
            present = {name.lower() for name, _ in message["headers"]}
            message["headers"] = [*message["headers"], *(pair for pair in KEPT if pair[0] not in present)]
        await send(message)

    return send_kept
