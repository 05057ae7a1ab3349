"""`POST /v1/authorize`: may this call start? Asked a thousand times a second, so the framework describes this route and does not run it.

The document is made from the signature, as everywhere; what runs stands before the framework: it reads the body with the compiled model and
writes the answer. The rules are the same: 401, 429, 400, 422, then 404 for a tenant that is not the token's, 403 for its scope.
"""

from types import SimpleNamespace
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends
from pydantic import ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from rater.doors.http import models
from rater.doors.http.access import caller_of, known_caller, refuse
from rater.doors.http.api import Api
from rater.doors.http.asked import Question, read_question
from rater.doors.http.authorizing import ClientGone
from rater.doors.http.problems import Problem, faults_text, problem_response
from rater.doors.http.reflects import HEADER
from rater.doors.http.tokens import AUTHORIZE, Caller

PATH = "/v1/authorize"
JSON = b"application/json"

router = APIRouter(tags=["authorization"], responses=models.REFUSALS)


@router.post(PATH, response_model=models.Authorization, operation_id="authorize")
async def described(question: Question, caller: Annotated[Caller, Depends(caller_of)]) -> Any:
    """May this call start, who pays, for how many seconds at most; or why not.

    What the call may cost is held until its call record comes with the same `call_id`, or until `expires_at`. The same `call_id` asked
    again replaces what was held: that is how a call is extended, and how a lost answer is asked for again. Without an answer in time: 503.
    """
    raise NotImplementedError(f"{Straight.__name__} answers")


class Straight:
    """An ASGI application before the framework: it answers this one question and hands on every other."""

    def __init__(self, app: ASGIApp, api: Api) -> None:
        self._app, self._api = app, api
        self._route = SimpleNamespace(path=PATH)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        scope["route"] = self._route  # for whoever counts
        try:
            told = await self._answer(scope, receive)
        except Problem as problem:
            await problem_response(problem.status, problem.detail, problem.headers)(scope, receive, send)
            return
        except ClientGone:
            return
        where = told["reflects"]
        body = orjson.dumps(told)
        headers = [
            (b"content-type", JSON), (b"content-length", b"%d" % len(body)),
            (HEADER.lower().encode(), b"account-commands:%d:%d" % (where["partition"], where["next_command"])),
        ]  # fmt: skip
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> dict[str, Any]:
        """Raises `Problem`, and `ClientGone`."""
        api = self._api
        headers = dict(scope["headers"])
        address = scope["client"][0] if scope.get("client") else "?"
        caller = known_caller(api, _token(headers), address, api.authorizing.limit)
        if scope["query_string"]:
            raise Problem(400, "nothing may stand behind the ? of this address; the question is the body")
        question = await _question(headers, receive)
        refuse(caller, AUTHORIZE, question.tenant)

        async def gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        return await api.authorizing.ask(question, caller, api.writer, api.follower, gone)


def _token(headers: dict[bytes, bytes]) -> str | None:
    scheme, _, text = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    return text if scheme.lower() == "bearer" and text else None


async def _question(headers: dict[bytes, bytes], receive: Receive) -> Question:
    if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != JSON:
        raise Problem(422, "body: expected Content-Type application/json")
    try:
        return read_question(await _body(receive))
    except ValidationError as wrong:
        found = wrong.errors(include_url=False, include_context=False, include_input=False)
        raise Problem(422, faults_text([{**fault, "loc": ("body", *fault["loc"])} for fault in found])) from None


async def _body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)
