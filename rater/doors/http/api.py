"""What the routes work with: one object, put together by whoever starts the application."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import orjson
from fastapi import Request
from starlette.responses import Response

from rater.doors.http.access import FAILURES_PER_MINUTE, RateLimit
from rater.doors.http.authorizing import Authorizing
from rater.doors.http.database import Database
from rater.doors.http.gate import Limits
from rater.doors.http.ledger import Ledger
from rater.doors.http.problems import Problem
from rater.doors.http.reflects import AT_LEAST, HEADER, Marks, Memory, behind, marks_text, read_marks
from rater.doors.http.tokens import Caller, Tokens
from rater.doors.http.workers import Live
from rater.doors.listening import Follower
from rater.doors.metrics_api import ApiMetrics
from rater.doors.publishing import Placed
from rater.doors.questions import Away, History


class Writer(Protocol):
    """Whoever puts commands into the log."""

    async def publish(self, tenant: str, value: bytes) -> Placed:
        """Returns when the brokers have it. Raises `NotPublished`."""


@dataclass(slots=True, kw_only=True)
class Api:
    """Everything a request may need. `live` is None where this API has no workers, `writer` and `follower` where it has no brokers."""

    database: Database
    history: History | None
    live: Live | None = None
    writer: Writer | None = None
    follower: Follower | None = None
    metrics: ApiMetrics
    limits: Limits
    exports: Path
    now_ms: Callable[[], int]
    now_s: Callable[[], float]
    requests_per_minute: int = 600
    authorizations_per_minute: int = 120_000
    memory: Memory = field(default_factory=Memory)
    tokens: Tokens = field(init=False)
    ledger: Ledger = field(init=False)
    requests: RateLimit = field(init=False)
    failures: RateLimit = field(init=False)
    authorizing: Authorizing = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = Tokens(self.database)
        self.ledger = Ledger(self.database)
        self.requests = RateLimit(self.requests_per_minute, self.now_s)
        self.failures = RateLimit(FAILURES_PER_MINUTE, self.now_s)
        self.authorizing = Authorizing(self.metrics, RateLimit(self.authorizations_per_minute, self.now_s), self.now_ms)
        self.metrics.following.set_function(self._follows)

    def _follows(self) -> float:
        return math.nan if self.follower is None else float(not self.follower.trouble)

    def asked_history(self) -> History:
        if self.history is None:
            raise Away("this API has no history; its operator sets RATER_HISTORY_STORE")
        return self.history

    def asked_live(self) -> Live:
        if self.live is None:
            raise Away("this API knows no workers; its operator sets RATER_API_WORKERS")
        return self.live


def api_of(request: Request) -> Api:
    found: Api = request.app.state.api
    return found


def least_for(request: Request, caller: Caller, tenant: str) -> Marks:
    """What the answer must not go back behind: what this client was told, and what it says it was told."""
    least = api_of(request).memory.least(caller.token_id, tenant)
    text = request.headers.get(AT_LEAST)
    if text is not None:
        given = read_marks(text)
        if given is None:
            raise Problem(400, f"{AT_LEAST} is not what an answer had as {HEADER}; expected for example batch:7:123")
        for name, number in given.items():
            least[name] = max(number, least.get(name, 0))
    return least


def answered(request: Request, caller: Caller, tenant: str, told: Any, marks: Marks) -> Response:
    """The answer, if it does not go back; what it reflects is remembered and stands in a header."""
    if behind(marks, least_for(request, caller, tenant)):
        raise Problem(
            503, "what answers now is behind an answer you had before; ask again in a moment", {"Retry-After": "1"}
        )
    api_of(request).memory.told(caller.token_id, tenant, marks)
    return Response(orjson.dumps(told), headers={HEADER: marks_text(marks)}, media_type="application/json")
