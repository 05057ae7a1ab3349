"""The `stripe` provider against a local server that answers in the shapes Stripe documents; it is not Stripe.

What is real here: the official library, its form encoding, its headers, its retries, its errors. What is ours: a server that keeps
PaymentIntents in a list, honours idempotency keys, and declines Stripe's documented test payment methods with the documented bodies.
"""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from rater.doors.service.provider import Unclear
from rater.doors.service.provider_stripe import Customer, StripeProvider, load_customers, micros_per_unit
from rater.doors.settings.secret import Secret
from rater.doors.settings.values import SettingsRefused
from rater.recharge.answers import Answer, Approved, Declined, Pending, Unknown
from rater.recharge.requests import Request

KEY = "rk_test_not_a_real_key"
CREATED = 1_795_255_200  # 2026-11-21T10:00:00Z


class Shapes:
    """PaymentIntents by id, and what was asked of them."""

    def __init__(self) -> None:
        self.intents: list[dict[str, Any]] = []
        self.by_key: dict[str, tuple[int, dict[str, Any]]] = {}
        self.seen: list[tuple[str, str, str]] = []
        self.busy = 0  # so many requests are answered 503 first

    def create(self, form: dict[str, str], key: str) -> tuple[int, dict[str, Any]]:
        if key in self.by_key:
            return self.by_key[key]
        method = form["payment_method"]
        intent = {
            "id": f"pi_{len(self.intents) + 1}", "object": "payment_intent", "amount": int(form["amount"]), "amount_received": 0,
            "currency": form["currency"], "customer": form["customer"], "created": CREATED, "status": "succeeded",
            "metadata": {"recharge_id": form["metadata[recharge_id]"], "tenant": form["metadata[tenant]"]},
            "last_payment_error": None, "livemode": False, "payment_method": method,
        }  # fmt: skip
        self.intents.insert(0, intent)
        status, answer = 200, intent
        if method == "pm_card_chargeDeclinedExpiredCard":
            status, answer = (
                402,
                self._card_error(intent, "requires_payment_method", "expired_card", "Your card has expired.", None),
            )
        elif method == "pm_card_authenticationRequired":
            status, answer = (
                402,
                self._card_error(
                    intent,
                    "requires_action",
                    "authentication_required",
                    "Your card was declined.",
                    "authentication_required",
                ),
            )
        elif method == "pm_usBankAccount_processing":
            intent["status"] = "processing"
        elif method == "pm_lies":
            intent["amount_received"] = intent["amount"] + 500
        else:
            intent["amount_received"] = intent["amount"]
        self.by_key[key] = status, answer
        return status, answer

    def _card_error(
        self, intent: dict[str, Any], status: str, code: str, message: str, decline: str | None
    ) -> dict[str, Any]:
        error = {
            "type": "card_error",
            "code": code,
            "message": message,
            "decline_code": decline,
            "doc_url": "",
            "charge": "ch_1",
        }
        intent |= {"status": status, "last_payment_error": dict(error)}
        return {"error": error | {"payment_intent": intent}}


@pytest.fixture
def stripe_like() -> Iterator[tuple[Shapes, str]]:
    shapes = Shapes()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = {
                name: values[0]
                for name, values in parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()).items()
            }
            path = urlsplit(self.path).path
            shapes.seen.append(("POST", path, self.headers.get("Idempotency-Key", "")))
            if self._refused():
                return
            if path == "/v1/payment_intents":
                assert (form["off_session"], form["confirm"]) == ("true", "true")
                if form["customer"] == "cus_unknown":
                    error = {
                        "type": "invalid_request_error",
                        "code": "resource_missing",
                        "message": "No such customer: 'cus_unknown'",
                    }
                    self._say(400, {"error": error})
                    return
                self._say(*shapes.create(form, self.headers["Idempotency-Key"]))
                return
            intent = next(one for one in shapes.intents if path == f"/v1/payment_intents/{one['id']}/cancel")
            intent["status"] = "canceled"
            self._say(200, intent)

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            shapes.seen.append(("GET", parts.path, ""))
            if self._refused():
                return
            if parts.path == "/v1/payment_intents":
                customer = parse_qs(parts.query)["customer"][0]
                found = [one for one in shapes.intents if one["customer"] == customer]
                self._say(200, {"object": "list", "url": "/v1/payment_intents", "has_more": False, "data": found})
                return
            self._say(200, next(one for one in shapes.intents if parts.path.endswith(one["id"])))

        def _refused(self) -> bool:
            if shapes.busy:
                shapes.busy -= 1
                self._say(503, {"error": {"type": "api_error", "message": "try again"}})
                return True
            if self.headers["Authorization"] != f"Bearer {KEY}":
                self._say(
                    401, {"error": {"type": "invalid_request_error", "message": "Invalid API Key provided: rk_****"}}
                )
                return True
            return False

        def _say(self, status: int, answer: dict[str, Any]) -> None:
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Request-Id", "req_test")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield shapes, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def asked_for(number: int = 1, amount: int = 15_000_000, currency: str = "USD", tenant: str = "acme") -> Request:
    return Request(f"{tenant}:recharge:{number}", tenant, amount, currency, "2026-11-21T09:59:30.000Z")


def talk(
    url: str, method: str, *questions: tuple[str, Request, str], key: str = KEY, customer: str = "cus_1"
) -> list[Answer | Unknown]:
    async def all_of_them() -> list[Answer | Unknown]:
        provider = StripeProvider(Secret(key), {"acme": Customer(customer, method)}, url)
        try:
            return [
                await (provider.ask(request) if what == "ask" else provider.status(request, reference))
                for what, request, reference in questions
            ]
        finally:
            await provider.close()

    return asyncio.run(all_of_them())


def test_a_recharge_is_one_payment_intent_however_often_it_is_asked_for(stripe_like: tuple[Shapes, str]):
    shapes, url = stripe_like
    shapes.busy = 2
    answers = talk(url, "pm_card_visa", ("ask", asked_for(), ""), ("ask", asked_for(), ""), ("status", asked_for(), ""),
                   ("status", asked_for(), "pi_1"), ("status", asked_for(2), ""))  # fmt: skip
    approved = Approved(15_000_000, "USD", "pi_1", "2026-11-21T10:00:00.000Z")
    assert answers == [approved] * 4 + [Unknown()]
    assert len(shapes.intents) == 1
    assert shapes.intents[0]["amount"] == 1500
    assert {key for what, path, key in shapes.seen if what == "POST"} == {"acme:recharge:1"}


def test_a_declined_card_is_told_in_the_cards_words_with_what_to_do(stripe_like: tuple[Shapes, str]):
    _, url = stripe_like
    first, later = talk(url, "pm_card_chargeDeclinedExpiredCard", ("ask", asked_for(), ""), ("status", asked_for(), ""))
    assert isinstance(first, Declined)
    assert isinstance(later, Declined)
    assert (
        first.reason
        == later.reason
        == ("Your card has expired (expired_card): check the payment method, then configure the recharge anew")
    )
    assert first.reference == later.reference == "pi_1"


def test_a_card_that_wants_its_owner_is_declined_and_can_no_longer_be_paid(stripe_like: tuple[Shapes, str]):
    shapes, url = stripe_like
    (answer,) = talk(url, "pm_card_authenticationRequired", ("ask", asked_for(), ""))
    assert isinstance(answer, Declined)
    assert "authenticate the card once" in answer.reason
    assert shapes.intents[0]["status"] == "canceled"


def test_a_payment_under_way_is_pending_until_stripe_has_it(stripe_like: tuple[Shapes, str]):
    shapes, url = stripe_like
    assert talk(url, "pm_usBankAccount_processing", ("ask", asked_for(), "")) == [Pending("pi_1")]
    shapes.intents[0] |= {"status": "succeeded", "amount_received": 1500}
    (answer,) = talk(url, "pm_usBankAccount_processing", ("status", asked_for(), "pi_1"))
    assert isinstance(answer, Approved)


def test_what_was_taken_is_what_stripe_says_it_received(stripe_like: tuple[Shapes, str]):
    _, url = stripe_like
    (answer,) = talk(url, "pm_lies", ("ask", asked_for(), ""))
    assert isinstance(answer, Approved)
    assert answer.amount_micros == 20_000_000


def test_what_cannot_be_asked_is_declined_with_what_to_do_and_a_wrong_key_is_unclear(stripe_like: tuple[Shapes, str]):
    shapes, url = stripe_like
    unknown, odd, missing = (
        talk(url, "pm_card_visa", ("ask", asked_for(tenant="beta"), ""))[0],
        talk(url, "pm_card_visa", ("ask", asked_for(amount=15_000_001), ""))[0],
        talk(url, "pm_card_visa", ("ask", asked_for(), ""), customer="cus_unknown")[0],
    )
    for answer, told in (
        (unknown, "no payment method of beta"),
        (odd, "smallest unit of USD"),
        (missing, "No such customer"),
    ):
        assert isinstance(answer, Declined)
        assert told in answer.reason
    with pytest.raises(Unclear) as unclear:
        talk(url, "pm_card_visa", ("ask", asked_for(), ""), key="rk_wrong_secret")
    assert "rk_wrong_secret" not in str(unclear.value)
    assert shapes.intents == []


def test_amounts_are_counted_in_the_currencys_own_smallest_unit():
    assert [micros_per_unit(currency) for currency in ("USD", "JPY", "KWD")] == [10_000, 1_000_000, 1_000]


def test_the_file_of_customers_is_checked(tmp_path: Path):
    file = tmp_path / "customers.toml"
    file.write_text('[tenants.acme]\ncustomer = "cus_1"\npayment_method = "pm_1"\n')
    assert load_customers(file) == {"acme": Customer("cus_1", "pm_1")}
    file.write_text('[tenants.acme]\ncustomer = "cus_1"\n')
    with pytest.raises(SettingsRefused, match=r"\[tenants\.acme\]: expected customer and payment_method"):
        load_customers(file)
