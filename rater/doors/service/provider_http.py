"""The `http` provider: POST to ask, GET to ask about it, both signed; the answer comes now, or later by a signed callback.

A question is repeated by itself, with the same Idempotency-Key, for what passes: no connection, a time-out, 429, 5xx. What remains
unclear is told, and asked about later.
"""

from collections.abc import Callable, Mapping
from urllib.parse import quote

import aiohttp
import tenacity

from rater.doors.service.provider import CallbackRefused, Unclear
from rater.doors.service.provider_http_wire import (
    BODY_MAX,
    SIGNATURE,
    TIMESTAMP,
    check_signature,
    read_answer,
    request_body,
    signed_headers,
)
from rater.doors.settings.secret import Secret
from rater.recharge.answers import Answer, Unknown
from rater.recharge.requests import Request

TRIES = 4
PASSING = (408, 425, 429, 500, 502, 503, 504)
ANSWERS = (200, 201, 202, 402, 409)


class _TryAgain(Unclear):
    """Unclear for now: it may be answered in a moment."""


class HttpProvider:
    """See `provider.Provider`."""

    name = "http"

    def __init__(
        self, url: str, secret: Secret, timeout_ms: int, now_ms: Callable[[], int], first_wait_s: float = 0.2
    ) -> None:
        self._url, self._secret, self._now_ms = url.rstrip("/"), secret, now_ms
        self._timeout = aiohttp.ClientTimeout(total=timeout_ms / 1000)
        self._wait = tenacity.wait_exponential_jitter(multiplier=first_wait_s, max=5.0, jitter=first_wait_s)
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, request: Request) -> Answer:
        body = request_body(request)
        answer = await self._persist("POST", self._url, request.recharge_id, body, body)
        if isinstance(answer, Unknown):
            raise Unclear(f"{self._url}: 404 to a payment request; check RATER_RECHARGE_HTTP_URL")
        return answer

    async def status(self, request: Request, reference: str) -> Answer | Unknown:  # noqa: ARG002  # the id is enough
        url = f"{self._url}/{quote(request.recharge_id, safe='')}"
        return await self._persist("GET", url, request.recharge_id, None, request.recharge_id.encode())

    def callback(self, headers: Mapping[str, str], body: bytes, now_s: int) -> tuple[str, Answer]:
        check_signature(self._secret, headers.get(TIMESTAMP, ""), headers.get(SIGNATURE, ""), body, now_s)
        try:
            recharge_id, answer = read_answer(body)
        except Unclear as unclear:
            raise CallbackRefused(400, str(unclear)) from None
        if not recharge_id:
            raise CallbackRefused(400, "the callback has no recharge_id; expected the Idempotency-Key of the request")
        return recharge_id, answer

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _persist(self, method: str, url: str, key: str, body: bytes | None, signed: bytes) -> Answer | Unknown:
        async for attempt in tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(TRIES),
            wait=self._wait,
            retry=tenacity.retry_if_exception_type(_TryAgain),
            reraise=True,
        ):
            with attempt:
                return await self._once(method, url, key, body, signed)
        raise Unclear(f"{url}: no try was made")  # not reached: the last try returns or raises

    async def _once(self, method: str, url: str, key: str, body: bytes | None, signed: bytes) -> Answer | Unknown:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        headers = signed_headers(self._secret, self._now_ms() // 1000, signed, key) | {
            "Content-Type": "application/json"
        }
        try:
            async with self._session.request(
                method, url, data=body, headers=headers, allow_redirects=False
            ) as response:
                return self._read(url, method, key, response.status, await _bounded(url, response))
        except (TimeoutError, aiohttp.ClientError, OSError) as problem:
            raise _TryAgain(f"{url}: {type(problem).__name__}: {str(problem) or 'no answer in time'}") from None

    def _read(self, url: str, method: str, key: str, status: int, body: bytes) -> Answer | Unknown:
        if status == 404 and method == "GET":
            return Unknown()
        if status in PASSING:
            raise _TryAgain(f"{url}: status {status}")
        if status not in ANSWERS:
            raise Unclear(
                f"{url}: status {status}; expected an answer: check the URL, the secret and the provider's log"
            )
        named, answer = read_answer(body)
        if named and named != key:
            raise Unclear(f"{url}: the answer is about {named}, not about {key}; the provider mixes up its payments")
        return answer


async def _bounded(url: str, response: aiohttp.ClientResponse) -> bytes:
    body = b""
    async for chunk in response.content.iter_chunked(8192):
        body += chunk
        if len(body) > BODY_MAX:
            raise Unclear(f"{url}: an answer of more than {BODY_MAX} bytes; expected a small object")
    return body
