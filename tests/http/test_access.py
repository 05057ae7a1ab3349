"""Who may ask what: every endpoint of the document x every role x the own, a foreign and an unknown tenant; and tokens."""

import hashlib
import itertools
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from rater.doors.http.access import FAILURES_PER_MINUTE, RateLimit
from rater.doors.http.app import make_app
from rater.doors.http.tokens import RIGHTS
from tests.http.scene import NOW_MS, ROLES, Scene, scene

OPEN = {"/healthz", "/readyz"}
TENANT = "/v1/tenants/{tenant}"
NEEDED = {  # what is not a question for `read`
    ("post", f"{TENANT}/funds"): "funds",
    ("put", f"{TENANT}/recharge"): "funds",
    ("put", f"{TENANT}/contacts"): "admin",
    ("post", f"{TENANT}/licences"): "admin",
    ("get", f"{TENANT}/audit"): "admin",
    ("post", "/v1/authorize"): "authorize",
}
ANY = {"/v1/commands/{id}"}
ASKED = ("/v1/authorize",)  # the tenant stands in the body
BODIES: dict[str, dict[str, Any]] = {
    f"{TENANT}/funds": {"amount_micros": 1_000_000},
    f"{TENANT}/recharge": {"enabled": True, "trigger_micros": 1, "amount_micros": 2},
    f"{TENANT}/contacts": {"contacts": [{"email": "finance@contoso.example"}]},
    f"{TENANT}/licences": {"change": "assign", "user": "u-9", "plan": "MCOPSTN1", "country": "GB"},
    "/v1/authorize": {"call_id": "c-1", "call_type": "user_out", "user": "u-1", "callee": "+12125550123"},
}


def endpoints(api: Scene) -> list[tuple[str, str]]:
    document = api.client.get("/openapi.json").json()
    return [(method, path) for path, methods in document["paths"].items() for method in methods if path not in OPEN]


def asked(api: Scene, method: str, path: str, headers: dict[str, str], tenant: str, key: str) -> Any:
    address = path.replace("{tenant}", tenant).replace("{id}", "0" * 32)  # a command nobody gave
    body = BODIES.get(path)
    if path in ASKED and body is not None:
        body = body | {"tenant": tenant}
    more = {"json": body} if body is not None else {}
    return api.client.request(method, address, headers=headers | {"Idempotency-Key": key}, **more)


def test_every_endpoint_answers_each_role_for_each_tenant_as_it_should(api: Scene):
    found = endpoints(api)
    assert len(found) >= 10
    assert {pair for pair in found if pair[0] != "get"} <= set(NEEDED), "a change whose scope no test knows"
    keys = map(str, itertools.count())
    for method, path in found:
        needed = NEEDED.get((method, path), "read")
        per_tenant = "{tenant}" in path or path in ASKED
        for role in ROLES:
            headers = api.bearer(role, "contoso")
            others = ("fabrikam", "nobody") if path in ASKED else ("fabrikam", "nobody", "a%2fb", "%00", "*")
            for tenant in ("contoso", *others) if per_tenant else ("contoso",):
                answer = asked(api, method, path, headers, tenant, next(keys))
                where = f"{method} {path} as {role} of contoso for {tenant}: {answer.status_code} {answer.text}"
                if tenant != "contoso":
                    assert answer.status_code == 404, where
                    assert answer.json()["detail"] in ("no such tenant", "Not Found"), where
                elif needed not in RIGHTS[role] and path not in ANY:
                    assert answer.status_code == 403, where
                    assert f"expected {needed}" in answer.json()["detail"]
                elif per_tenant:
                    assert answer.status_code in (200, 202), where
                else:
                    assert answer.status_code == 404, where
        for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Basic cmF0ZXI6"}):
            answer = asked(api, method, path, headers, "contoso", next(keys))
            assert answer.status_code == 401, f"{method} {path} without a token: {answer.status_code}"
            assert answer.headers["www-authenticate"] == "Bearer"
            api.clock[0] += 60


def test_a_foreign_tenant_and_one_that_does_not_exist_cannot_be_told_apart(api: Scene):
    foreign = api.get("/v1/tenants/fabrikam/balance")
    unknown = api.get("/v1/tenants/nobody/balance")
    anywhere = api.get("/v1/tenants/nobody/balance", tenant="*")
    assert foreign.content == unknown.content == anywhere.content
    assert foreign.headers == unknown.headers
    assert api.get("/v1/tenants/fabrikam/balance", tenant="*").status_code == 200


@pytest.mark.parametrize(
    "spoil", [str.upper, lambda text: text[:-1], lambda text: text + "A", lambda text: text[:15] + text[16:]]
)
def test_a_token_that_is_nearly_right_is_wrong(api: Scene, spoil: Any):
    text = spoil(api.tokens["read", "contoso"])
    assert api.client.get("/v1/tenants/contoso/balance", headers={"Authorization": f"Bearer {text}"}).status_code == 401


def test_a_revoked_and_an_expired_token_are_refused_at_once(api: Scene):
    tokens = api.api.tokens
    text = tokens.create("short", "read", ("contoso",), NOW_MS, NOW_MS + 5_000)
    assert tokens.caller(text, NOW_MS + 4_999) is not None
    assert tokens.caller(text, NOW_MS + 5_000) is None
    tokens.revoke(api.tokens["read", "contoso"].split("_")[1], NOW_MS)
    assert api.get("/v1/tenants/contoso/balance").status_code == 401


def test_a_token_is_kept_as_a_hash_in_a_file_of_its_owner(api: Scene, tmp_path: Path):
    text = api.tokens["read", "contoso"]
    secret = text.split("_", 2)[2]
    for file in tmp_path.glob("api.db*"):
        assert secret.encode() not in file.read_bytes()
    assert (tmp_path / "api.db").stat().st_mode & 0o777 == 0o600
    db = sqlite3.connect(tmp_path / "api.db")
    [(kept,)] = db.execute("select hash from tokens where id = ?", (text.split("_")[1],)).fetchall()
    assert kept == hashlib.sha256(secret.encode()).digest()
    assert "hash" not in str(api.api.tokens.listed())


def test_too_many_questions_of_one_token_wait_and_others_do_not(tmp_path: Path):
    with scene(tmp_path, per_minute=60) as api:
        found = [api.get("/v1/tenants/contoso/balance").status_code for _ in range(7)]
        assert found == [200] * 6 + [429]
        assert int(api.get("/v1/tenants/contoso/balance").headers["retry-after"]) >= 1
        assert api.get("/v1/tenants/contoso/balance", role="funds").status_code == 200
        api.clock[0] += 1.0
        assert api.get("/v1/tenants/contoso/balance").status_code == 200


def test_guessing_tokens_is_slowed_down_and_keeps_nobody_out_who_has_one(api: Scene):
    wrong = {"Authorization": f"Bearer rater_00000000_{'A' * 43}"}
    found = [
        api.client.get("/v1/tenants/contoso/balance", headers=wrong).status_code for _ in range(FAILURES_PER_MINUTE)
    ]
    assert found[0] == 401
    assert found[-1] == 429
    assert api.get("/v1/tenants/contoso/balance").status_code == 200


def test_a_rate_limit_forgets_names_and_never_gives_more_than_it_may():
    clock = [0.0]
    limit = RateLimit(60, lambda: clock[0])
    for k in range(30_000):
        assert limit.wait_s(f"name {k}") == 0.0
    assert len(limit._buckets) == 10_000
    given = 0
    for _ in range(6_000):
        clock[0] += 0.01
        given += limit.wait_s("greedy") == 0.0
    assert given <= 60 + 6


def test_the_document_names_the_token_and_every_refusal(api: Scene):
    document = api.client.get("/openapi.json").json()
    assert document["components"]["securitySchemes"]
    for path, methods in document["paths"].items():
        for about in methods.values():
            if path not in OPEN:
                assert {"401", "403", "404", "429", "503"} <= set(about["responses"])
                assert about["security"]
    assert make_app(api.api) is not None
    assert api.client.get("/docs").status_code == 200
