"""The protocol of the `http` provider as bytes: what is sent, how it is signed, what an answer says. docs/recharge.md tells the other side."""

import hashlib
import hmac
from typing import Any

import orjson

from rater.core.instants import parse_instant
from rater.doors.service.provider import CallbackRefused, Unclear
from rater.doors.settings.secret import Secret
from rater.recharge.answers import Answer, Approved, Declined, Pending
from rater.recharge.requests import Request

TIMESTAMP, SIGNATURE, KEY = "X-Rater-Timestamp", "X-Rater-Signature", "Idempotency-Key"
CLOCKS_APART_S = 300  # a callback recorded and played again later is refused
BODY_MAX = 64 << 10


def request_body(request: Request) -> bytes:
    return orjson.dumps(
        {"recharge_id": request.recharge_id, "tenant": request.tenant, "amount_micros": request.amount_micros,
         "currency": request.currency, "requested_at": request.at}
    )  # fmt: skip


def sign(secret: Secret, timestamp_s: int, payload: bytes) -> str:
    """`v1=` and the HMAC-SHA256 of `<timestamp>.<payload>` in hex; the payload of a question without body is the recharge's id."""
    signed = str(timestamp_s).encode() + b"." + payload
    return "v1=" + hmac.new(secret.reveal().encode(), signed, hashlib.sha256).hexdigest()


def signed_headers(secret: Secret, timestamp_s: int, payload: bytes, key: str) -> dict[str, str]:
    return {TIMESTAMP: str(timestamp_s), SIGNATURE: sign(secret, timestamp_s, payload), KEY: key}


def check_signature(secret: Secret, timestamp: str, signature: str, payload: bytes, now_s: int) -> None:
    """Raises `CallbackRefused`. The header may hold several signatures, while a secret is being changed."""
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise CallbackRefused(401, f"{TIMESTAMP} is missing or no whole number of seconds since 1970")
    if abs(now_s - int(timestamp)) > CLOCKS_APART_S:
        raise CallbackRefused(
            401,
            f"{TIMESTAMP} is {abs(now_s - int(timestamp))} s away from this machine's clock; expected at most {CLOCKS_APART_S} s",
        )
    expected = sign(secret, int(timestamp), payload)
    given = [part.strip() for part in signature.split(",")]
    if not any(hmac.compare_digest(expected.encode(), part.encode()) for part in given):
        raise CallbackRefused(
            401, f"{SIGNATURE} does not fit; expected v1=<HMAC-SHA256 of '<timestamp>.<body>' in hex>"
        )


def read_answer(body: bytes) -> tuple[str, Answer]:
    """(recharge id or empty, answer). Raises `Unclear` for what says nothing."""
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Unclear("the provider's answer is not JSON; expected an object with `status`") from None
    status = told.get("status") if isinstance(told, dict) else None
    if status not in ("approved", "declined", "pending"):
        raise Unclear(f"the provider's answer has status {status!r}; expected approved, declined or pending")
    return _text(told, "recharge_id"), _answer(told, status)


def _answer(told: dict[str, Any], status: str) -> Answer:
    reference, at = _text(told, "reference"), _text(told, "at") or None
    if at is not None and parse_instant(at) is None:
        raise Unclear(f"the provider's answer has at {at!r}; expected an instant such as 2026-11-03T13:30:00Z")
    if status == "pending":
        return Pending(reference)
    if status == "declined":
        return Declined(_text(told, "reason") or "declined without a reason", reference, at)
    amount, currency = told.get("amount_micros"), _text(told, "currency")
    if type(amount) is not int or not currency:
        raise Unclear(
            "the provider approved without amount_micros (a whole number) and currency; expected what it took"
        )
    return Approved(amount, currency, reference, at)


def _text(told: dict[str, Any], name: str) -> str:
    value = told.get(name)
    return value[:500] if isinstance(value, str) else ""
