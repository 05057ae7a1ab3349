"""A payment provider of the `http` kind that counts: how often it was asked, and how often it took money. It outlives the agents."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from rater.doors.clock import wall_ms
from rater.doors.service.provider import CallbackRefused
from rater.doors.service.provider_http_wire import check_signature, signed_headers
from rater.doors.settings.secret import Secret

SECRET = Secret("whsec-of-a-test")

# What is done with a new payment: it gets the request and returns (HTTP status, answer), or None to take it and hang up.
Behaviour = Callable[[dict[str, Any]], tuple[int, dict[str, Any]] | None]


def approve(asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    return 200, {"status": "approved", "amount_micros": asked["amount_micros"], "currency": asked["currency"],
                 "reference": f"pay-{asked['recharge_id']}", "at": "2026-11-21T10:00:00.000Z"}  # fmt: skip


def pend(asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    return 202, {"status": "pending", "reference": f"pay-{asked['recharge_id']}"}


def decline(_asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    return 402, {"status": "declined", "reason": "the card has expired"}


def take_more(asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    return 200, approve(asked)[1] | {"amount_micros": asked["amount_micros"] + 5_000_000}


class Bank:
    """`answers[recharge_id]` is what it says now; `taken` counts money taken, `asked` every POST, `inquired` every GET."""

    def __init__(self) -> None:
        self.behaviour: Behaviour = approve
        self.answers: dict[str, tuple[int, dict[str, Any]]] = {}
        self.taken: dict[str, int] = {}
        self.asked: list[str] = []
        self.inquired: list[str] = []
        self.down = False  # no connection is answered
        self.unsigned = 0
        self.lock = threading.Lock()

    def post(self, key: str, asked: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
        with self.lock:
            self.asked.append(key)
            if key not in self.answers:
                self.taken[key] = self.taken.get(key, 0) + 1
                answer = self.behaviour(asked)
                self.answers[key] = answer or approve(asked)
                return answer
            return self.answers[key]

    def get(self, key: str) -> tuple[int, dict[str, Any]]:
        with self.lock:
            self.inquired.append(key)
            status, answer = self.answers.get(key, (404, {"error": "never heard of it"}))
            return (200 if status == 202 else status), answer

    @contextmanager
    def open(self) -> Iterator[str]:
        """Its address, while it is open."""
        bank = self

        class Counter(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                key = self.headers["Idempotency-Key"]
                if bank.down or not self._believed(body):
                    return
                self._say(bank.post(key, json.loads(body)))

            def do_GET(self) -> None:
                key = self.headers["Idempotency-Key"]
                if bank.down or not self._believed(key.encode()):
                    return
                self._say(bank.get(key))

            def _believed(self, payload: bytes) -> bool:
                try:
                    check_signature(
                        SECRET,
                        self.headers["X-Rater-Timestamp"],
                        self.headers["X-Rater-Signature"],
                        payload,
                        wall_ms() // 1000,
                    )
                except CallbackRefused:
                    bank.unsigned += 1
                    self._say((401, {"error": "bad signature"}))
                    return False
                return True

            def _say(self, answer: tuple[int, dict[str, Any]] | None) -> None:
                if answer is None:
                    return  # the connection ends without a word
                body = json.dumps(answer[1]).encode()
                self.send_response(answer[0])
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Counter)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/recharges"
        finally:
            server.shutdown()
            server.server_close()


def callback(
    recharge_id: str, answer: dict[str, Any], now_s: int, secret: Secret = SECRET
) -> tuple[dict[str, str], bytes]:
    """(headers, body) of what the provider sends by itself."""
    body = json.dumps(answer | {"recharge_id": recharge_id}).encode()
    return signed_headers(secret, now_s, body, recharge_id), body
