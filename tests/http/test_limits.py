"""What a client may send and what it gets to see: sizes, times, no stack trace, nothing secret in any byte that is written."""

import asyncio
import io
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rater.doors.http.gate import HEADERS_MAX, Gate, Limits
from rater.doors.logs import make_handler
from rater.doors.metric_groups import new_registry
from rater.doors.metrics_api import ApiMetrics
from tests.http.scene import Scene, scene

BASE = "/v1/tenants/contoso"
NUMBER = "+442079460018"
QUESTION = {
    "tenant": "contoso",
    "call_id": f"canary-{NUMBER}",
    "call_type": "user_out",
    "user": "canary",
    "caller": NUMBER,
    "callee": NUMBER,
}


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """Every line that a process of rater would write, at the loudest."""
    out = io.StringIO()
    handler = make_handler("json", out)
    handler.addFilter(lambda record: not record.name.startswith("httpx"))  # the client of these tests
    logging.root.addHandler(handler)
    before = logging.root.level
    logging.root.setLevel(logging.DEBUG)
    yield out
    logging.root.setLevel(before)
    logging.root.removeHandler(handler)


def test_a_body_that_is_too_large_is_refused_with_and_without_a_length(tmp_path: Path):
    with scene(tmp_path, limits=Limits(1_000, 30.0)) as api:
        headers = api.bearer("admin", "contoso") | {"Idempotency-Key": "k", "Content-Type": "application/json"}
        body = b'{"amount_micros":1,"lot_id":"' + b"a" * 2_000 + b'"}'
        assert api.client.post(f"{BASE}/funds", content=body, headers=headers).status_code == 413
        assert api.client.post(f"{BASE}/funds", content=iter([body]), headers=headers).status_code == 413
        assert api.log.lines == []


def test_many_headers_long_headers_and_long_addresses_are_refused(api: Scene):
    many = {f"X-{k}": "1" for k in range(HEADERS_MAX + 1)}
    assert api.get(f"{BASE}/usage", headers=many).status_code == 431
    assert api.get(f"{BASE}/usage", headers={"X-Long": "a" * 20_000}).status_code == 431
    assert api.get(f"{BASE}/usage", params={"user": "a" * 9_000}).status_code == 414


def test_what_takes_too_long_is_ended_with_a_sentence(tmp_path: Path):
    class Slow:
        async def ask(self, *_: Any) -> Any:
            await asyncio.sleep(60)

    with scene(tmp_path, limits=Limits(1_000, 0.05)) as api:
        api.api.live = Slow()
        answer = api.get(f"{BASE}/balance")
        assert answer.status_code == 503
        assert answer.json()["detail"].startswith("no answer within 0.05 s")


def test_a_fault_of_ours_shows_nothing_but_a_number_to_ask_for(api: Scene, logged: io.StringIO):
    class Broken:
        async def ask(self, *_: Any) -> Any:
            raise RuntimeError(f"secret-canary {NUMBER}")

    api.api.live = Broken()
    answer = api.get(f"{BASE}/balance")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert re.search("the log has it as request [0-9]+$", answer.json()["detail"])
    assert "canary" not in answer.text
    assert "Traceback" not in answer.text
    assert "RuntimeError at test_limits.py:" in logged.getvalue()
    assert "canary" not in logged.getvalue()


def test_a_body_cut_off_in_the_middle_does_not_wait_for_ever():
    sent: list[Any] = []

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        while (await receive()).get("more_body"):
            pass

    async def receive() -> Any:
        await asyncio.sleep(60)

    async def send(message: Any) -> None:
        sent.append(message)

    found = {
        "type": "http",
        "method": "POST",
        "path": "/v1/tenants/contoso/funds",
        "raw_path": b"",
        "query_string": b"",
        "headers": [],
    }
    asyncio.run(Gate(app, Limits(1_000, 0.05), ApiMetrics(new_registry()))(found, receive, send))
    assert sent[0]["status"] == 503


def test_nothing_secret_and_no_number_is_in_any_byte_that_is_written(tmp_path: Path, logged: io.StringIO):
    """Canaries: the token, a wrong token, a number, a mailbox."""
    with scene(tmp_path) as api:
        wrong = "rater_00000000_" + "canary" * 7 + "c"
        api.client.get(f"{BASE}/balance", headers={"Authorization": f"Bearer {wrong}"})
        api.client.get(f"{BASE}/usage", headers={"Authorization": f"Basic {wrong}"})
        answers = [
            api.get(f"{BASE}/usage", params={"user": NUMBER}),
            api.get(f"{BASE}/usage", params={"after": NUMBER}),
            api.get(f"{BASE}/usage/export", params={"format": "csv"}),
            api.get(f"{BASE}/usage", params={"limit": NUMBER}),
            api.post(f"{BASE}/funds", {"amount_micros": 1}, headers={"Idempotency-Key": "k-1"}),
            api.post(f"{BASE}/funds", {"amount_micros": NUMBER}, headers={"Idempotency-Key": "k-2"}),
            api.client.put(f"{BASE}/contacts", json={"contacts": [{"email": "canary@contoso.example"}]},
                           headers=api.bearer("admin", "contoso") | {"Idempotency-Key": "k-3", "Prefer": "wait=3"}),
            api.post("/v1/authorize", QUESTION, role="authorize"),
            api.post("/v1/authorize", QUESTION | {"callee": NUMBER + "x"}, role="authorize"),
            api.post("/v1/authorize", QUESTION | {"callee": NUMBER, "call_type": NUMBER}, role="authorize"),
        ]  # fmt: skip
        assert [answer.status_code for answer in answers] == [200, 400, 200, 422, 202, 422, 200, 200, 422, 422]
        api.switchboard.rejects = ("missing_field", "user: missing")
        api.post("/v1/authorize", QUESTION, role="authorize")
        written = logged.getvalue()
        assert "a command was accepted" in written, "nothing was logged: this proves nothing"
        for secret in ("canary", NUMBER, NUMBER[1:], *(token.split("_", 2)[2] for token in api.tokens.values())):
            assert secret not in written
        for token in api.tokens.values():
            for file in tmp_path.iterdir():
                assert not file.is_file() or token.split("_", 2)[2].encode() not in file.read_bytes()


def test_no_answer_is_kept_by_anybody_else(api: Scene):
    for path in (f"{BASE}/balance", f"{BASE}/usage/export", "/nowhere", "/healthz"):
        answer = api.get(path)
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "server" not in answer.headers
