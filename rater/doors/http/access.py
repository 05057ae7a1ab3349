"""Who may ask what: a bearer token, its tenants, its scope; and how often.

In this order: no token that we know is a 401; a tenant that is not the token's is a 404, as one that does not exist; a scope that is
too small is a 403; too many questions are a 429.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from rater.doors.http.problems import Problem
from rater.doors.http.reflects import AT_LEAST, HEADER
from rater.doors.http.tokens import TENANT, Caller
from rater.doors.logs import masked

BUCKETS_MAX = 10_000
FAILURES_PER_MINUTE = 60  # of one address; who has a token is let in all the same, be it from behind the same proxy
NO_TENANT = "no such tenant"

bearer = HTTPBearer(auto_error=False, description="A token of `rater api token create`.")


@dataclass(slots=True)
class _Bucket:
    left: float
    at_s: float


class RateLimit:
    """So many a minute of one name, a tenth of it at once, never fewer than one. Names are forgotten when there are too many."""

    def __init__(self, per_minute: int, now_s: Callable[[], float]) -> None:
        self._per_s, self._most = per_minute / 60, max(per_minute / 10, 1.0)
        self._now_s = now_s
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._lock = threading.Lock()

    def wait_s(self, name: str) -> float:
        """0 if one more is allowed now, and counted; else the seconds until it is."""
        now = self._now_s()
        with self._lock:
            bucket = self._buckets.pop(name, None) or _Bucket(self._most, now)
            bucket.left = min(self._most, bucket.left + (now - bucket.at_s) * self._per_s)
            bucket.at_s = now
            self._buckets[name] = bucket
            while len(self._buckets) > BUCKETS_MAX:
                self._buckets.popitem(last=False)
            if bucket.left < 1:
                return (1 - bucket.left) / self._per_s
            bucket.left -= 1
            return 0.0


def _refuse_if(wait_s: float) -> None:
    if wait_s:
        raise Problem(429, "too many requests; ask again later", {"Retry-After": str(int(wait_s) + 1)})


Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]


async def caller_of(request: Request, credentials: Credentials) -> Caller:
    api = request.app.state.api
    token = None if credentials is None else credentials.credentials
    caller = known_caller(api, token, request.client.host if request.client else "?", api.requests)
    _refuse_unknown(request)
    return caller


def known_caller(api: Any, token: str | None, address: str, limit: RateLimit) -> Caller:
    """Whose token this is, if it is one in force and has not asked too often. Raises `Problem`."""
    caller: Caller | None = None if token is None else api.tokens.caller(token, api.now_ms())
    if caller is None:
        _refuse_if(api.failures.wait_s(address))
        raise Problem(401, "expected Authorization: Bearer with a token in force", {"WWW-Authenticate": "Bearer"})
    _refuse_if(limit.wait_s(caller.token_id))
    return caller


def _refuse_unknown(request: Request) -> None:
    """A filter that is misspelt and passed over would answer with everything; of two users only one would be answered for."""
    known = request.app.state.queries.get((request.method, request.scope["route"].path))
    if known is None:
        return
    for name in request.query_params:
        if name not in known:
            raise Problem(
                400, f"'{masked(name[:40])}' is no part of this question; expected {' '.join(sorted(known)) or 'none'}"
            )
        if not known[name] and len(request.query_params.getlist(name)) > 1:
            raise Problem(400, f"{name} is given more than once; expected one")


class Allowed:
    """A dependency: the caller, if the token may do this for the tenant of the address."""

    def __init__(self, scope: str) -> None:
        self.scope = scope

    async def __call__(self, request: Request, caller: Annotated[Caller, Depends(caller_of)]) -> Caller:
        refuse(caller, self.scope, request.path_params.get("tenant"))
        return caller


class Reading(Allowed):
    """The same, for an answer that may be asked not to go back behind an earlier one."""

    async def __call__(
        self,
        request: Request,
        caller: Annotated[Caller, Depends(caller_of)],
        at_least: Annotated[  # noqa: ARG002  # for the document; `least_for` reads it
            str | None, Header(alias=AT_LEAST, description=f"An earlier answer's {HEADER}: answer with no less.")
        ] = None,
    ) -> Caller:
        return await super().__call__(request, caller)


def refuse(caller: Caller, scope: str, tenant: Any) -> None:
    """Raises `Problem` unless this caller may do this for this tenant."""
    if tenant is not None and (not TENANT.fullmatch(tenant) or not caller.knows(tenant)):
        raise Problem(404, NO_TENANT)
    if not caller.may(scope):
        raise Problem(403, f"this token's scope is {caller.scope}; expected {scope}")
