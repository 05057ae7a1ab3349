"""The `stripe` provider: an off-session PaymentIntent a recharge, with its id as idempotency key, by Stripe's own library.

    [tenants.contoso]
    customer = "cus_..."
    payment_method = "pm_..."          # without it, the customer's default for invoices is not used: Stripe refuses

Stripe forgets idempotency keys after a day or more; so a recharge that may have been asked for before is first looked for among the
customer's newest PaymentIntents, by the metadata `recharge_id`.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import stripe

from rater.core.instants import instant_text
from rater.doors.service.provider import CallbackRefused, Unclear
from rater.doors.settings.secret import Secret
from rater.doors.settings.values import SettingsRefused
from rater.recharge.answers import Answer, Approved, Declined, Pending, Unknown
from rater.recharge.requests import Request

TIMEOUT_S = 20.0
LOOKED_AT_MAX = 300
# Stripe counts in the smallest unit of a currency: none of these has the usual hundredth.
WITHOUT_DECIMALS = frozenset("BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF UGX VND VUV XAF XOF XPF".split())
THREE_DECIMALS = frozenset("BHD JOD KWD OMR TND".split())


@dataclass(frozen=True, slots=True)
class Customer:
    customer: str
    payment_method: str


def load_customers(path: Path) -> dict[str, Customer]:
    """Tenant -> customer and payment method. Raises `SettingsRefused`."""
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsRefused(f"{path}: {error}; expected TOML with [tenants.NAME] tables") from None
    found = {}
    for tenant, fields in told.get("tenants", {}).items():
        names = [fields.get(name) for name in ("customer", "payment_method")] if isinstance(fields, dict) else [None]
        if not all(isinstance(name, str) and name for name in names):
            raise SettingsRefused(
                f"{path}: [tenants.{tenant}]: expected customer and payment_method, as Stripe names them"
            )
        found[tenant] = Customer(str(names[0]), str(names[1]))
    return found


def micros_per_unit(currency: str) -> int:
    """Micro-units in Stripe's smallest unit of a currency: 10_000 for USD."""
    return 1_000_000 if currency in WITHOUT_DECIMALS else 1_000 if currency in THREE_DECIMALS else 10_000


class StripeProvider:
    """See `provider.Provider`. `url` is Stripe's own unless a test gives another."""

    name = "stripe"

    def __init__(self, key: Secret, customers: Mapping[str, Customer], url: str | None = None) -> None:
        self._customers = customers
        self._http = stripe.AIOHTTPClient(timeout=TIMEOUT_S)
        # The library repeats what passes (no connection, 409, 429, 5xx) with backoff and the same key.
        self._client = stripe.StripeClient(
            key.reveal(), http_client=self._http, max_network_retries=3, base_addresses={"api": url} if url else None
        )

    async def ask(self, request: Request) -> Answer:
        customer = self._customers.get(request.tenant)
        if customer is None:
            return Declined(
                f"no payment method of {request.tenant} is known; add one, then configure the recharge anew"
            )
        per_unit = micros_per_unit(request.currency)
        if request.amount_micros % per_unit:
            return Declined(
                f"the recharge amount is no whole number of the smallest unit of {request.currency}; configure another"
            )
        try:
            intent = await self._client.v1.payment_intents.create_async(
                {
                    "amount": request.amount_micros // per_unit,
                    "currency": request.currency.lower(),
                    "customer": customer.customer,
                    "payment_method": customer.payment_method,
                    "off_session": True,
                    "confirm": True,
                    "description": f"Recharge {request.recharge_id}",
                    "metadata": {"recharge_id": request.recharge_id, "tenant": request.tenant},
                },
                {"idempotency_key": request.recharge_id},
            )
        except stripe.CardError as error:
            return await self._declined(error)
        except stripe.IdempotencyError as error:
            raise Unclear(
                f"Stripe: {error.user_message}; the payment method changed while the recharge was asked for"
            ) from None
        except stripe.InvalidRequestError as error:
            return Declined(
                f"Stripe does not take the request: {error.user_message}; check customer and payment method"
            )
        except stripe.StripeError as error:
            raise Unclear(f"Stripe: {type(error).__name__}: {error.user_message}") from None
        return await self._answer(intent)

    async def status(self, request: Request, reference: str) -> Answer | Unknown:
        customer = self._customers.get(request.tenant)
        try:
            if reference:
                return await self._answer(await self._client.v1.payment_intents.retrieve_async(reference))
            if customer is None:
                return Unknown()
            found = await self._client.v1.payment_intents.list_async({"customer": customer.customer, "limit": 100})
            looked_at = 0
            async for intent in found.auto_paging_iter():
                if (plain(intent).get("metadata") or {}).get("recharge_id") == request.recharge_id:
                    return await self._answer(intent)
                looked_at += 1
                if looked_at >= LOOKED_AT_MAX:
                    break
        except stripe.StripeError as error:
            raise Unclear(f"Stripe: {type(error).__name__}: {error.user_message}") from None
        return Unknown()

    def callback(self, headers: Mapping[str, str], body: bytes, now_s: int) -> tuple[str, Answer]:  # noqa: ARG002
        raise CallbackRefused(404, "Stripe is asked about pending payments; it sends no callbacks here")

    async def close(self) -> None:
        await self._http.close_async()  # type: ignore[no-untyped-call]

    async def _declined(self, error: stripe.CardError) -> Answer:
        """The card's own words; an intent that still waits for the customer is cancelled, so that it cannot be paid later."""
        told = (error.json_body or {}).get("error", {}) if isinstance(error.json_body, dict) else {}
        intent = told.get("payment_intent") or {}
        if intent.get("status") == "requires_action":
            return await self._cancel(str(intent["id"]))
        code = told.get("decline_code") or error.code
        return Declined(_advice(error.user_message, code), str(intent.get("id", "")))

    async def _answer(self, intent: Any) -> Answer:
        told = plain(intent)
        reference, at = str(told["id"]), instant_text(int(told["created"]) * 1000)
        match told["status"]:
            case "succeeded":
                currency = str(told["currency"]).upper()
                return Approved(int(told["amount_received"]) * micros_per_unit(currency), currency, reference, at)
            case "requires_action" | "requires_confirmation" | "requires_capture":
                return await self._cancel(reference)
            case "requires_payment_method" | "canceled":
                problem = told.get("last_payment_error") or {}
                code = problem.get("decline_code") or problem.get("code")
                return Declined(_advice(problem.get("message"), code), reference, at)
        return Pending(reference)  # processing

    async def _cancel(self, reference: str) -> Answer:
        """Nobody is there to confirm. Cancelled, it can no longer be paid; if that fails it is asked about again."""
        try:
            await self._client.v1.payment_intents.cancel_async(reference, {"cancellation_reason": "abandoned"})
        except stripe.StripeError:
            return Pending(reference)
        return Declined(
            "the card's bank wants the customer to confirm the payment: authenticate the card once, then configure the recharge anew",
            reference,
        )


def plain(intent: Any) -> dict[str, Any]:
    """The library's object as it came."""
    found: dict[str, Any] = intent.to_dict()
    return found


def _advice(message: object, code: object) -> str:
    said = str(message or "The payment was declined.").rstrip(".")
    return f"{said}{f' ({code})' if code else ''}: check the payment method, then configure the recharge anew"
