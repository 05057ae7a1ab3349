"""A CloudEvent -> one signed POST, as Standard Webhooks has it (https://www.standardwebhooks.com).

    webhook-id         msg_<name of event and receiver>, the same in every attempt: a receiver drops repeats by it
    webhook-timestamp  seconds, of this attempt: a receiver refuses old ones
    webhook-signature  v1,<HMAC-SHA256 of "id.timestamp.body"> for each secret of the tenant

Taken is what 2xx says. A redirect is not followed: where it leads, nobody has looked. 410 Gone ends this message for good; all
else is tried again by the schedule of the specification.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

import aiohttp
from standardwebhooks import Webhook

from rater.doors.service.notification_outcome import Delivered, Later, Outcome, Refused
from rater.doors.service.webhook_addresses import AddressRefused, PublicResolver, is_literal, is_public
from rater.doors.service.webhook_secrets import WebhookSecrets
from rater.doors.settings.secret import Secret
from rater.notify.naming import webhook_id

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
RETRY_AFTER_MAX_S = 3_600


@dataclass(frozen=True, slots=True)
class WebhookRules:
    """Where webhooks may go. Without `allow_private` only https to the public internet."""

    allow_private: bool = False
    timeout_s: float = 15.0


def signed_headers(key: str, at_s: int, body: bytes, secrets: tuple[Secret, ...]) -> dict[str, str]:
    """The three headers; `at_s` is the instant of the attempt in seconds."""
    name, at = webhook_id(key), datetime.fromtimestamp(at_s, UTC)
    signatures = [Webhook(secret.reveal()).sign(name, at, body.decode()) for secret in secrets]
    return {"webhook-id": name, "webhook-timestamp": str(at_s), "webhook-signature": " ".join(signatures)}


class WebhookSender:
    """One HTTP client for all receivers: no proxy, no cookies, no redirects."""

    def __init__(self, secrets: WebhookSecrets, rules: WebhookRules, now_ms: Callable[[], int]) -> None:
        self._secrets, self._rules, self._now_ms = secrets, rules, now_ms
        self._session: aiohttp.ClientSession | None = None

    async def send(self, url: str, tenant: str, key: str, body: bytes) -> Outcome:
        secrets = self._secrets.of(tenant)
        if not secrets:
            return Refused("no_webhook_secret", f"the file of webhook secrets has none for the tenant {tenant}")
        refusal = self._refusal(url)
        if refusal is not None:
            return refusal
        headers = signed_headers(key, self._now_ms() // 1000, body, secrets) | {
            "content-type": CONTENT_TYPE,
            "user-agent": "rater-webhooks/1",
        }
        try:
            async with self._open().post(url, data=body, headers=headers, allow_redirects=False) as answer:
                return _verdict(answer)
        except aiohttp.ClientConnectorError as problem:
            if isinstance(problem.os_error, AddressRefused):
                return Refused("address_refused", str(problem.os_error))
            return Later("the receiver was not reached")
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as problem:
            return Later(f"the receiver did not answer: {type(problem).__name__}")

    def _refusal(self, url: str) -> Refused | None:
        """A literal address never asks the resolver, so it is looked at here."""
        if self._rules.allow_private:
            return None
        try:
            parts = urlsplit(url)
            host = parts.hostname or ""
        except ValueError:
            return Refused("address_refused", "the address is no URL")
        if parts.scheme != "https":
            return Refused("address_refused", "the address is not https")
        if is_literal(host) and not is_public(host):
            return Refused("address_refused", "the address is not on the public internet")
        return None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            resolver = None if self._rules.allow_private else PublicResolver()
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, limit=32, force_close=True),
                timeout=aiohttp.ClientTimeout(total=self._rules.timeout_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def _verdict(answer: aiohttp.ClientResponse) -> Outcome:
    if 200 <= answer.status < 300:
        return Delivered()
    if answer.status == 410:
        return Refused("gone", "the receiver answered 410 Gone: it wants no more of these")
    wait = answer.headers.get("retry-after", "")
    wait_s = min(int(wait), RETRY_AFTER_MAX_S) if wait.isascii() and wait.isdigit() and len(wait) < 9 else 0
    return Later(f"the receiver answered {answer.status}", 1000 * wait_s)
