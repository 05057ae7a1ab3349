"""The application: routes behind the gate, an OpenAPI page, problems as one sentence."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp

from rater.doors.http import authorize_route, history_routes, live_routes, models, write_routes
from rater.doors.http.api import Api
from rater.doors.http.authorize_route import Straight
from rater.doors.http.docs_page import POLICY, docs_page
from rater.doors.http.gate import Gate
from rater.doors.http.problems import HANDLERS, Problem

DESCRIPTION = """Where the credits and minutes are, what was used, changes to an account, and whether a call may start.

Amounts are whole micro-units (millionths) of the currency, instants are UTC. Every answer about a tenant says up to where it has
seen the logs (reflects, and the header X-Rater-Reflects); answers to one token never go back, and X-Rater-At-Least asks for no less than an
earlier answer had. A tenant that is not the token's does not exist (404)."""

Opening = Callable[[Api], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def nothing_to_open(_api: Api) -> AsyncIterator[None]:
    yield


def queries_of(document: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, bool]]:
    """What may stand behind the ? of each address, by method and path, and whether more than once."""
    return {
        (method.upper(), path): {
            one["name"]: one["schema"].get("type") == "array"
            for one in told.get("parameters", ())
            if one["in"] == "query"
        }
        for path, methods in document["paths"].items()
        for method, told in methods.items()
    }


def make_app(api: Api, opening: Opening = nothing_to_open) -> ASGIApp:
    """`opening` makes what lives as long as the process: connections to workers and brokers."""

    @asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        async with opening(api):
            yield

    handlers: Any = HANDLERS
    app = FastAPI(
        title="rater", version="1", summary="Balances, pools, usage and changes of accounts.", description=DESCRIPTION,
        lifespan=life, exception_handlers=handlers, docs_url=None, redoc_url=None, redirect_slashes=False,
    )  # fmt: skip
    app.state.api = api
    app.include_router(authorize_route.router)
    app.include_router(live_routes.router)
    app.include_router(history_routes.router)
    app.include_router(write_routes.router)

    @app.get("/healthz", tags=["operation"])
    async def healthz() -> models.Health:
        """An answer is the proof."""
        return models.Health(alive=True)

    @app.get("/readyz", tags=["operation"], responses={503: models.REFUSALS[503]})
    async def readyz() -> models.Ready:
        """200: what this API is set up for can be answered; 503 while it does not hear what workers commit."""
        follower = api.follower
        if follower is not None and follower.trouble:
            raise Problem(503, f"not following the log: {follower.trouble}; no call is authorized meanwhile")
        return models.Ready(ready=True, following=None if follower is None else True)

    app.state.queries = queries_of(app.openapi())

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(docs_page(app.openapi()), headers={"Content-Security-Policy": POLICY})

    return Gate(Straight(app, api), api.limits, api.metrics)
