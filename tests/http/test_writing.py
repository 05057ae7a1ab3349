"""Changes: each key once, whatever is repeated; what the engine made of it; who, before and after."""

import json
from pathlib import Path
from typing import Any

import pytest

from rater.doors.http import models
from rater.doors.http.changes import type_of
from tests.history.support import event, put
from tests.http.scene import ROOT, Scene, command, scene
from tests.schema_check import validate

BASE = "/v1/tenants/contoso"
FUNDS = {"amount_micros": 7_000_000}
RECHARGE = {"enabled": True, "trigger_micros": 9_000_000, "amount_micros": 20_000_000}
CONTACTS = {"contacts": [{"email": "finance@contoso.example", "events": ["rater.recharge.failed"]}]}
LICENCE = {"change": "assign", "user": "u-2", "plan": "MCOPSTN1", "country": "GB"}
CHANGES = [
    ("POST", "funds", FUNDS, "funds.added"),
    ("PUT", "recharge", RECHARGE, "recharge.configured"),
    ("PUT", "contacts", CONTACTS, "contacts.set"),
    ("POST", "licences", LICENCE, "licence.assigned"),
    ("POST", "licences", {**LICENCE, "change": "remove", "user": "u-1"}, "licence.removed"),
]


def change(
    api: Scene, method: str, what: str, body: Any, key: str | None = "k-1", role: str = "admin", **headers: str
) -> Any:
    given = api.bearer(role, "contoso") | ({} if key is None else {"Idempotency-Key": key}) | headers
    return api.client.request(method, f"{BASE}/{what}", json=body, headers=given)


def audit(api: Scene) -> list[dict[str, Any]]:
    answer = api.get(f"{BASE}/audit", role="admin")
    models.Audit.model_validate_json(answer.content, strict=True)
    found: list[dict[str, Any]] = answer.json()["changes"]
    return found


@pytest.mark.parametrize(("method", "what", "body", "kind"), CHANGES)
def test_a_change_becomes_a_command_of_the_contract_and_is_applied(
    api: Scene, method: str, what: str, body: Any, kind: str
):
    answer = change(api, method, what, body, Prefer="wait=5")
    assert answer.status_code == 200, answer.text
    told = answer.json()
    models.Command.model_validate_json(answer.content, strict=True)
    assert (told["state"], told["command_id"], told["type"], told["reason"]) == ("applied", "k-1", kind, None)
    assert told["placed"] == {"partition": 0, "offset": 8}
    [line] = api.log.lines
    validate("account-commands", line)
    assert json.loads(line)["by"].startswith("admin of contoso (api token ")
    assert api.get(f"/v1/commands/{told['id']}").json() == told


def test_a_change_is_accepted_first_and_applied_when_the_worker_has_read_it(api: Scene):
    api.log.at_once = False
    answer = change(api, "POST", "funds", FUNDS)
    assert answer.status_code == 202
    where = answer.headers["location"]
    assert api.get(where).json()["state"] == "accepted"
    assert (
        api.get(f"{BASE}/balance", headers={"X-Rater-At-Least": answer.headers["x-rater-reflects"]}).status_code == 503
    )
    api.log.deliver()
    assert api.get(where).json()["state"] == "applied"
    balance = api.get(f"{BASE}/balance", headers={"X-Rater-At-Least": answer.headers["x-rater-reflects"]})
    assert balance.json()["balance_micros"] == 57_000_000


def test_the_same_request_again_is_the_same_command_also_later(api: Scene):
    first = change(api, "POST", "funds", FUNDS, Prefer="wait=5").json()
    api.clock[0] += 3_600
    assert change(api, "POST", "funds", FUNDS, Prefer="wait=5").json() == first
    assert len(api.log.lines) == 1
    assert api.get(f"{BASE}/balance").json()["balance_micros"] == 57_000_000


def test_a_key_used_for_another_change_is_refused(api: Scene):
    change(api, "POST", "funds", FUNDS)
    assert change(api, "POST", "funds", {"amount_micros": 8_000_000}).status_code == 409
    assert change(api, "PUT", "recharge", RECHARGE).status_code == 409
    assert len(api.log.lines) == 1


@pytest.mark.parametrize("kept", [False, True])
def test_a_change_that_nobody_confirmed_is_repeated_with_the_same_bytes_and_counts_once(api: Scene, kept: bool):
    api.log.fails, api.log.kept = 1, kept
    doubtful = change(api, "POST", "funds", FUNDS)
    assert doubtful.status_code == 503
    assert "same request with the same key again" in doubtful.json()["detail"]
    api.clock[0] += 60
    again = change(api, "POST", "funds", FUNDS, Prefer="wait=5")
    assert again.json()["state"] == "applied"
    assert len(set(api.log.lines)) == 1
    assert api.get(f"{BASE}/balance").json()["balance_micros"] == 57_000_000


def test_a_command_that_the_engine_refuses_is_told_as_rejected(api: Scene):
    answer = change(api, "POST", "funds", {**FUNDS, "lot_id": "lot-1"}, Prefer="wait=5")
    assert answer.json()["state"] == "rejected"
    assert answer.json()["reason"] == "conflict: this id was used before with other content"
    assert api.get(f"{BASE}/balance").json()["balance_micros"] == 50_000_000


def test_a_command_id_that_somebody_else_used_is_a_conflict(api: Scene):
    api.engine.take([command("clock.ticked", "contoso", 1).replace(b"c-contoso-1", b"taken")])
    answer = change(api, "POST", "funds", FUNDS, key="taken", Prefer="wait=5")
    assert answer.json()["state"] == "rejected"
    assert answer.json()["reason"].startswith("conflict")


def test_the_audit_says_who_what_before_and_after(api: Scene):
    put(
        api.store,
        [],
        [event(9, "contacts.set", "2026-11-05T10:00:00.000Z", contacts=[{"email": "old@contoso.example"}])],
    )
    for number, (method, what, body, _) in enumerate(CHANGES):
        assert change(api, method, what, body, key=f"k-{number}", Prefer="wait=5").status_code == 200
    removed, assigned, contacts, recharge, funds = audit(api)
    assert (funds["before"]["balance_micros"], funds["after"]["balance_micros"]) == (50_000_000, 57_000_000)
    assert [lot["lot_id"] for lot in funds["after"]["lots"]] == ["lot-1", "k-0"]
    assert recharge["before"]["recharge"]["trigger_micros"] == 5_000_000
    assert recharge["after"]["recharge"]["trigger_micros"] == 9_000_000
    assert contacts["before"] == {"contacts": [{"email": "old@contoso.example"}]}
    assert contacts["after"]["contacts"][0]["email"] == "finance@contoso.example"
    assert (assigned["before"]["licences"], len(assigned["after"]["licences"])) == ([], 1)
    assert (len(removed["before"]["licences"]), removed["after"]["licences"]) == (1, [])
    for entry in (removed, assigned, contacts, recharge, funds):
        assert (entry["who"], entry["token"]) == ("admin of contoso", api.tokens["admin", "contoso"].split("_")[1])
        assert entry["command"]["tenant"] == "contoso"
    page = api.get(f"{BASE}/audit", role="admin", params={"limit": 2}).json()
    assert [entry["number"] for entry in page["changes"]] == [5, 4]
    rest = api.get(f"{BASE}/audit", role="admin", params={"after": page["next"]}).json()
    assert [entry["number"] for entry in rest["changes"]] == [3, 2, 1]
    assert api.get("/v1/tenants/fabrikam/audit", role="admin", tenant="fabrikam").json()["changes"] == []


@pytest.mark.parametrize(
    ("method", "what", "body", "key"),
    [
        ("POST", "funds", FUNDS, None),
        ("POST", "funds", FUNDS, "contoso:recharge:1:approved"),
        ("POST", "funds", {"amount_micros": 0}, "k"),
        ("POST", "funds", {"amount_micros": 1.0}, "k"),
        ("POST", "funds", {"amount_micros": "1"}, "k"),
        ("POST", "funds", {"amount_micros": True}, "k"),
        ("POST", "funds", {**FUNDS, "lot_id": "contoso:recharge:1"}, "k"),
        ("POST", "funds", {**FUNDS, "lot_id": "a b"}, "k"),
        ("POST", "funds", {**FUNDS, "lot_id": "adj-1"}, "k"),
        ("POST", "funds", {**FUNDS, "expires_at": "2026-02-30T00:00:00Z"}, "k"),
        ("POST", "funds", {**FUNDS, "expires_at": "2020-01-01T00:00:00Z"}, "k"),
        ("POST", "funds", {**FUNDS, "tenant": "fabrikam"}, "k"),
        ("PUT", "recharge", {**RECHARGE, "enabled": 1}, "k"),
        ("PUT", "contacts", {"contacts": [{"email": "a@b.example", "webhook": "https://b.example"}]}, "k"),
        ("PUT", "contacts", {"contacts": [{"email": "a@b.example\nBcc: c@d.example"}]}, "k"),
        ("PUT", "contacts", {"contacts": [{}] * 51}, "k"),
        ("POST", "licences", {**LICENCE, "plan": "GOLD"}, "k"),
        ("POST", "licences", {**LICENCE, "user": "\x00"}, "k"),
        ("POST", "licences", {**LICENCE, "country": "gb"}, "k"),
    ],
)
def test_a_wrong_change_is_refused_before_anything_is_written(
    api: Scene, method: str, what: str, body: Any, key: str | None
):
    answer = change(api, method, what, body, key)
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"]
    assert api.log.lines == []
    assert audit(api) == []


def test_an_unknown_tenant_gets_no_command_into_the_log(api: Scene):
    headers = {"Idempotency-Key": "k", "Authorization": f"Bearer {api.api.tokens.create('all', 'admin', ('*',), 0)}"}
    assert api.client.post("/v1/tenants/nobody/funds", json=FUNDS, headers=headers).status_code == 404
    assert api.log.lines == []


def test_a_worker_that_is_away_does_not_keep_a_change_from_the_log(api: Scene):
    class Gone:
        async def ask(self, *_: Any) -> Any:
            from rater.doors.questions import Away

            raise Away("the worker of this tenant does not answer now")

    api.api.live = Gone()
    answer = change(api, "POST", "funds", FUNDS, Prefer="wait=1")
    assert answer.status_code == 202
    assert audit(api)[0]["before"] is None
    api.api.live = api.engine
    assert api.get(answer.headers["location"]).json()["state"] == "applied"


def test_a_command_of_a_foreign_tenant_is_none(api: Scene):
    told = change(api, "POST", "funds", FUNDS).json()
    assert api.get(f"/v1/commands/{told['id']}", tenant="fabrikam").status_code == 404
    assert api.get(f"/v1/commands/{told['id']}", role="read").status_code == 200


def test_an_api_without_brokers_changes_nothing(tmp_path: Path):
    with scene(tmp_path) as api:
        api.api.writer = None
        assert "changes nothing" in change(api, "POST", "funds", FUNDS).json()["detail"]


def test_every_change_has_a_type_that_the_contract_knows():
    known = json.loads((ROOT / "schemas" / "account-commands.v1.json").read_text())["properties"]["type"]["enum"]
    from rater.doors.http.changes import Contacts, Funds, Licence, RechargeChange

    made = [Funds(**FUNDS), RechargeChange(**RECHARGE), Contacts(**CONTACTS), Licence(**LICENCE)]  # type: ignore[arg-type]
    assert {type_of(one) for one in made} <= set(known)
