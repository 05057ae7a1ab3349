"""Why a command was rejected: the log's own words in the answer and in the audit, whenever they come by."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from rater.contract.rejected import encode_rejection
from rater.core.reasons import Reason
from rater.doors.http.hearing import LATE_MS, LOOK_BACK_MS, OURS, Hearing
from rater.doors.listening import EVENTS, REJECTED_COMMANDS, Heard
from tests.http.scene import NOW_MS, Scene, scene

BASE = "/v1/tenants/contoso"
TAKEN = {"amount_micros": 7_000_000, "lot_id": "lot-1"}  # of the opening: the engine refuses it
WHY = "conflict: this id was used before with other content"
WHERE = "the engine refused it; rejected-commands has why, under input [0, 8]"


@pytest.fixture
def api(tmp_path: Path) -> Any:
    with scene(tmp_path) as found:
        yield found


def funds(api: Scene, body: Any = TAKEN, key: str = "k-1", **headers: str) -> Any:
    return api.post(f"{BASE}/funds", body, headers={"Idempotency-Key": key} | headers)


def deafen(api: Scene) -> list[bytes]:
    """The log tells rejections to nobody: what it would have told."""
    kept: list[bytes] = []

    def hear(_topic: str, heard: Any) -> None:
        kept.extend(one.value for one in heard)

    api.switchboard.hearing = type("Deaf", (), {"hear": staticmethod(hear)})()  # type: ignore[assignment]
    return kept


def hear(api: Scene, value: bytes, hearing: Hearing | None = None) -> None:
    """As whoever follows the log would, in the loop of the application; returns when the reason is kept."""
    found = hearing or Hearing(api.api.authorizing.waiting, api.api.ledger, api.api.now_ms)

    async def told() -> None:
        found.hear(REJECTED_COMMANDS, [Heard(0, 0, value)])
        await asyncio.gather(*found._writing)

    portal = api.client.portal
    assert portal is not None
    portal.call(told)


def audited(api: Scene) -> dict[str, Any]:
    found: dict[str, Any] = api.get(f"{BASE}/audit", role="admin").json()["changes"][0]
    return found


def test_the_reason_stands_in_the_answer_and_in_the_audit(api: Scene):
    answer = funds(api, Prefer="wait=10")
    assert (answer.json()["state"], answer.json()["reason"]) == ("rejected", WHY)
    assert audited(api)["reason"] == WHY
    assert api.get(f"/v1/commands/{answer.json()['id']}").json()["reason"] == WHY


def test_a_reason_that_comes_later_takes_the_place_of_where_it_stands(api: Scene):
    kept = deafen(api)
    api.switchboard.trouble = "the brokers cannot be reached"
    told = funds(api, Prefer="wait=10").json()
    assert (told["state"], told["reason"]) == ("rejected", WHERE)
    hear(api, kept[0])
    assert api.get(f"/v1/commands/{told['id']}").json()["reason"] == WHY


def test_a_reason_that_passed_while_the_api_was_away_is_found_after_its_restart(api: Scene, tmp_path: Path):
    kept = deafen(api)
    api.log.at_once = False
    told = funds(api).json()
    assert told["state"] == "accepted"
    api.log.deliver()  # the worker refuses it while nobody listens
    api.clock[0] += 3_600
    hearing = Hearing(api.api.authorizing.waiting, api.api.ledger, api.api.now_ms)
    assert hearing.since_ms(REJECTED_COMMANDS) == NOW_MS - LATE_MS, (
        "the following begins before the command was received"
    )
    hear(api, kept[0], hearing)
    found = api.get(f"/v1/commands/{told['id']}").json()
    assert (found["state"], found["reason"]) == ("rejected", WHY)
    assert hearing.since_ms(REJECTED_COMMANDS) == api.api.now_ms() - LATE_MS, "nothing is left to be explained"


def test_a_command_rejected_without_a_reason_is_looked_for_again_for_a_day(api: Scene):
    deafen(api)
    api.switchboard.trouble = "the brokers cannot be reached"
    funds(api, Prefer="wait=10")
    hearing = Hearing(api.api.authorizing.waiting, api.api.ledger, api.api.now_ms)
    assert hearing.since_ms(REJECTED_COMMANDS) == NOW_MS - LATE_MS
    api.clock[0] += LOOK_BACK_MS / 1000 + 1
    assert hearing.since_ms(REJECTED_COMMANDS) == api.api.now_ms() - LATE_MS


def test_of_events_only_the_last_seconds_are_asked_for(api: Scene):
    hearing = Hearing(api.api.authorizing.waiting, api.api.ledger, api.api.now_ms)
    assert api.api.now_ms() - 60_000 < hearing.since_ms(EVENTS) < api.api.now_ms()
    assert hearing.mark(EVENTS) == api.api.authorizing.waiting.mark


def test_an_accepted_command_does_not_show_a_reason_before_it_is_decided(api: Scene):
    api.log.at_once = False
    told = funds(api).json()
    hear(api, encode_rejection(Reason.CONFLICT, "", api.log.lines[0], 0, 8))
    api.api.live = Away()
    found = api.get(f"/v1/commands/{told['id']}").json()
    assert (found["state"], found["reason"]) == ("accepted", None)


class Away:
    async def ask(self, *_: Any) -> Any:
        from rater.doors.questions import Away as NotHere

        raise NotHere("the worker of this tenant does not answer now")


def test_without_workers_the_log_itself_says_that_a_command_was_rejected(api: Scene):
    api.api.live = None
    api.log.at_once = False
    told = funds(api).json()
    assert api.get(f"/v1/commands/{told['id']}").json()["state"] == "accepted"
    hear(api, encode_rejection(Reason.CONFLICT, "", api.log.lines[0], 0, 8))
    found = api.get(f"/v1/commands/{told['id']}").json()
    assert (found["state"], found["reason"], found["batch"]) == ("rejected", WHY, None)


def test_a_command_that_nobody_confirmed_and_the_engine_refused_is_rejected(api: Scene):
    api.log.fails, api.log.kept = 1, True
    assert funds(api).status_code == 503
    while audited(api)["placed"] is None:  # the reason is on its way, and with it the place
        pass
    told = funds(api, Prefer="wait=10").json()
    assert (told["state"], told["reason"]) == ("rejected", WHY)
    assert len(api.log.lines) == 1, "it is not published again"


def test_an_applied_command_has_no_reason_whatever_is_heard(api: Scene):
    told = funds(api, {"amount_micros": 1}, Prefer="wait=10").json()
    assert told["state"] == "applied"
    hear(api, encode_rejection(Reason.CONFLICT, "", api.log.lines[0], 0, 8))
    assert api.get(f"/v1/commands/{told['id']}").json() == told


def test_the_refusal_of_an_earlier_copy_of_the_same_bytes_is_not_this_ones(api: Scene):
    api.log.at_once = False
    told = funds(api).json()
    hear(api, encode_rejection(Reason.UNKNOWN_TENANT, "", api.log.lines[0], 0, 3))
    kept = deafen(api)
    api.log.deliver()
    hear(api, kept[0])
    assert api.get(f"/v1/commands/{told['id']}").json()["reason"] == WHY


@pytest.mark.parametrize(
    "raw",
    [
        b"{", b"[]", b"null", b"1", b'{"tenant":"contoso"}', OURS, b'["(api token 1)"]', b'{"by":"x (api token 1)"}',
        b'{"type":"funds.added","tenant":"contoso","command_id":"k-1","by":"x (api token 1)"}',
        b'{"type":[],"tenant":[],"command_id":{},"by":"x (api token 1)"}',
        b'{"type":"call.authorize","tenant":[],"command_id":{},"by":"x (api token 1)"}',
    ],
)  # fmt: skip
def test_what_others_wrote_into_the_log_explains_nothing_and_breaks_nothing(api: Scene, raw: bytes):
    api.log.at_once = False
    told = funds(api).json()
    hear(api, encode_rejection(Reason.BAD_FIELD, "x", raw, 0, 8))
    for line in (b"{}", b"[]", b"\xff", json.dumps({"raw_b64": "%%%", "input": [0, 8]}).encode()):
        hear(api, line)
    api.api.live = None
    assert api.get(f"/v1/commands/{told['id']}").json()["state"] == "accepted"
