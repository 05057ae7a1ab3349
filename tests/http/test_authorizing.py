"""May a call start: the question as a command, the engine's word as an answer, and what a switch is told when there is none."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rater.doors.http import authorizing, models
from rater.doors.http.access import RateLimit
from rater.doors.http.asked import Question
from rater.doors.http.authorizing import Authorizing, ClientGone, Waiting
from rater.doors.http.problems import Problem
from rater.doors.http.tokens import Caller
from rater.doors.metric_groups import new_registry
from rater.doors.metrics_api import OUTCOMES, ApiMetrics
from rater.doors.publishing import NotPublished, Placed
from tests.http.scene import NOW_MS, Scene, scene
from tests.schema_check import validate

PATH = "/v1/authorize"
CALL = {
    "tenant": "contoso", "call_id": "sw1:77", "call_type": "user_out", "user": "u-1", "caller": "+442079460018",
    "callee": "+12125550123", "seconds": 1_800,
}  # fmt: skip
SWITCH = Caller("00000000", "switch", "authorize", ("*",))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """For questions that change nothing."""
    with scene(tmp_path_factory.mktemp("authorizing")) as found:
        yield found


def ask(api: Scene, role: str = "authorize", **fields: Any) -> Any:
    return api.post(PATH, {name: value for name, value in (CALL | fields).items() if value != ""}, role=role)


def counted(api: Scene) -> dict[str, float]:
    found = {outcome: api.api.metrics.authorizations.labels(outcome)._value.get() for outcome in OUTCOMES}
    return {outcome: count for outcome, count in found.items() if count}


def test_a_call_that_may_start_is_told_who_pays_for_how_long_and_what_is_held(api: Scene):
    answer = ask(api)
    assert answer.status_code == 200, answer.text
    models.Authorization.model_validate_json(answer.content, strict=True)
    told = answer.json()
    assert (told["allowed"], told["call_id"], told["payer"], told["seconds"]) == (True, "sw1:77", "credits", 1_800)
    assert told["held"] == {"pool": None, "pool_minutes": 0, "amount_micros": 1_230_000, "currency": "USD"}
    assert told["reflects"] == {"partition": 0, "next_command": 10}
    assert answer.headers["x-rater-reflects"] == "account-commands:0:10"
    assert counted(api) == {"allowed": 1}
    assert len(api.api.authorizing.waiting) == 0


def test_the_question_is_a_command_with_everything_the_switch_said(api: Scene):
    ask(api, hold_seconds=2_000)
    [command] = api.switchboard.asked
    assert command.pop("command_id").startswith(api.api.authorizing.waiting.mark.decode())
    assert command.pop("by").startswith("authorize of contoso (api token ")
    assert command == CALL | {"type": "call.authorize", "at": "2026-11-18T11:06:40.000Z", "hold_seconds": 2_000}
    ask(api, user="", seconds="", caller=None)
    assert {"user", "seconds", "caller", "hold_seconds"} & set(api.switchboard.asked[1]) == set()


@pytest.mark.parametrize("reason", ["no_credit", "no_credit_licence", "no_rate"])
def test_a_call_that_may_not_start_is_told_why_in_a_sentence(api: Scene, reason: str):
    api.switchboard.refuses = reason
    answer = ask(api)
    models.Authorization.model_validate_json(answer.content, strict=True)
    told = answer.json()
    assert (answer.status_code, told["allowed"], told["reason"]) == (200, False, reason)
    assert len(told["detail"].split()) > 5
    assert "held" not in told
    assert counted(api) == {"refused": 1}


def test_each_question_has_an_id_of_its_own_also_for_the_same_call(api: Scene):
    for _ in range(3):
        assert ask(api).status_code == 200
    assert len({command["command_id"] for command in api.switchboard.asked}) == 3


def test_question_and_answers_are_of_the_contract(api: Scene):
    """So that the stand-in for the engine says what the engine says."""
    ask(api, hold_seconds=2_000)
    ask(api, user="", caller=None, seconds="", call_type="unassigned_in")
    for command in api.switchboard.asked:
        validate("account-commands", json.dumps(command).encode())
        validate("account-events", api.switchboard.event(command))
    api.switchboard.refuses = "no_credit"
    validate("account-events", api.switchboard.event(api.switchboard.asked[0]))


def test_balance_and_pools_say_what_is_held(api: Scene):
    told = api.get("/v1/tenants/contoso/balance").json()
    assert (told["held_micros"], told["open_calls"]) == (0, 0)
    question = CALL | {
        "command_id": "q-1",
        "type": "call.authorize",
        "at": "2026-11-03T10:00:00Z",
        "callee": "+442079460019",
    }
    api.engine.take([json.dumps(question).encode()])
    told = api.get("/v1/tenants/contoso/balance").json()
    pools = api.get("/v1/tenants/contoso/pools").json()["pools"]
    assert (told["held_micros"], told["open_calls"]) == (0, 1)
    assert [pool["held"] for pool in pools if pool["held"]] == [30]


def test_nothing_of_a_question_is_kept_in_the_file_of_the_api(api: Scene):
    ask(api)
    assert api.api.database.read("select count(*) from commands") == [(0,)]


@pytest.mark.parametrize(
    ("rejected", "status", "told"),
    [
        (("unknown_tenant", ""), 404, "no such tenant"),
        (("missing_field", "user: missing"), 422, "body user: missing"),
        (("unknown_command", ""), 503, "the workers are older than this API and authorize no calls"),
    ],
)
def test_what_the_engine_does_not_take_is_told_at_once(api: Scene, rejected: tuple[str, str], status: int, told: str):
    api.switchboard.rejects = rejected
    answer = ask(api)
    assert (answer.status_code, answer.json()["detail"]) == (status, told)
    assert counted(api) == {"rejected": 1}


def test_a_tenant_that_the_engine_does_not_know_looks_like_a_foreign_one(api: Scene):
    foreign = ask(api, tenant="fabrikam")
    api.switchboard.rejects = ("unknown_tenant", "")
    unknown = ask(api)
    assert (foreign.content, foreign.headers) == (unknown.content, unknown.headers)


@pytest.mark.parametrize(
    "wrong",
    [
        {"tenant": 1}, {"tenant": "a/b"}, {"tenant": ""}, {"call_id": ""}, {"call_id": None}, {"call_id": "x" * 129}, {"call_id": "é" * 65},
        {"call_id": "a\nb"}, {"call_type": "user"}, {"call_type": 3}, {"callee": "12125550123"}, {"callee": "+12"}, {"callee": None},
        {"callee": "+1212555012٣"}, {"callee": "+12125550123\n"}, {"caller": "anonymous"}, {"user": "\x00"}, {"seconds": 0},
        {"seconds": 86_401}, {"seconds": "60"}, {"seconds": 60.5}, {"seconds": True}, {"hold_seconds": 0}, {"hold_seconds": 172_801},
        {"at": "2026-11-18T11:06:40Z"}, {"command_id": "c-1"}, {"by": "me"},
    ],
)  # fmt: skip
def test_a_wrong_question_never_reaches_the_log(served: Scene, wrong: dict[str, Any]):
    answer = served.post(PATH, {name: value for name, value in (CALL | wrong).items() if value != ""}, role="authorize")
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"].startswith("body")
    assert served.switchboard.asked == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b'{"tenant":"\\ud800"}', b"1" * 10_000])
def test_what_is_no_question_at_all_is_refused_in_a_sentence(served: Scene, body: bytes):
    headers = served.bearer("authorize", "contoso") | {"Content-Type": "application/json"}
    answer = served.client.post(PATH, content=body, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("body")


def test_another_type_of_content_and_a_question_behind_the_address_are_refused(api: Scene):
    headers = api.bearer("authorize", "contoso") | {"Content-Type": "text/plain"}
    assert api.client.post(PATH, content=json.dumps(CALL), headers=headers).status_code == 422
    assert api.client.post(f"{PATH}?tenant=contoso", json=CALL, headers=headers).status_code == 400


def test_a_switch_may_ask_for_calls_and_see_nothing(api: Scene):
    for path in ("balance", "usage", "events", "audit", "account"):
        assert api.get(f"/v1/tenants/contoso/{path}", role="authorize").status_code == 403
    assert api.post("/v1/tenants/contoso/funds", {"amount_micros": 1}, role="authorize",
                    headers={"Idempotency-Key": "k"}).status_code == 403  # fmt: skip
    assert ask(api, role="funds").status_code == 403


def test_questions_have_a_limit_of_their_own(tmp_path: Path):
    with scene(tmp_path, per_minute=60, authorizations_per_minute=20) as api:
        assert [ask(api).status_code for _ in range(3)] == [200, 200, 429]
        assert api.get("/v1/tenants/contoso/balance").status_code == 200


# --- no answer ---------------------------------------------------------------------------------------------------------


def test_while_the_log_is_not_followed_a_switch_is_told_so_at_once(api: Scene):
    api.switchboard.trouble = "the brokers cannot be reached"
    answer = ask(api)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "the brokers cannot be reached" in answer.json()["detail"]
    assert "decides by its own rule" in answer.json()["detail"]
    assert api.switchboard.asked == []
    assert counted(api) == {"not_following": 1}
    assert api.client.get("/readyz").status_code == 503
    assert api.client.get("/healthz").status_code == 200
    api.switchboard.trouble = ""
    assert api.client.get("/readyz").json() == {"ready": True, "following": True}


def test_an_engine_that_does_not_answer_in_time_is_a_503(api: Scene, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(authorizing, "DEADLINE_S", 0.05)
    api.switchboard.silent = True
    answer = ask(api)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "did not answer within" in answer.json()["detail"]
    assert counted(api) == {"late": 1}
    assert len(api.api.authorizing.waiting) == 0


def test_a_question_that_the_log_does_not_confirm_is_a_503(api: Scene):
    api.log.fails = 1
    assert ask(api).status_code == 503
    assert counted(api) == {"not_published": 1}
    assert ask(api).status_code == 200


def test_an_api_without_brokers_authorizes_nothing_and_says_so(api: Scene):
    api.api.writer = api.api.follower = None
    assert "RATER_BOOTSTRAP_SERVERS" in ask(api).json()["detail"]
    assert api.client.get("/readyz").json() == {"ready": True, "following": None}


# --- the waiting -------------------------------------------------------------------------------------------------------


class Silent:
    """A log that takes what it gets, and whose answers a test gives."""

    trouble = ""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []

    async def publish(self, _tenant: str, value: bytes) -> Placed:
        self.taken.append(json.loads(value))
        return Placed(0, len(self.taken))

    async def run(self) -> None: ...


def made() -> tuple[Authorizing, ApiMetrics]:
    metrics = ApiMetrics(new_registry())
    return Authorizing(metrics, RateLimit(60, time.monotonic), lambda: NOW_MS), metrics


async def never() -> None:
    await asyncio.sleep(3_600)


def question(tenant: str = "contoso", call_id: str = "c") -> Question:
    return Question.model_validate(CALL | {"tenant": tenant, "call_id": call_id})


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.001)


def authorized(command: dict[str, Any], api: Scene) -> bytes:
    return api.switchboard.event(command)


def test_answers_find_their_questions_in_whatever_order_they_come(api: Scene):
    async def run() -> None:
        asking, _ = made()
        log = Silent()
        tasks = [
            asyncio.ensure_future(asking.ask(question(call_id=f"c-{n}"), SWITCH, log, log, never)) for n in range(50)
        ]
        await until(lambda: len(log.taken) == 50)
        foreign = [authorized(command | {"tenant": "fabrikam"}, api) for command in log.taken]
        for value in (
            *foreign,
            b"{",
            b"[]",
            b'{"subject":1,"id":2}',
            *(authorized(one, api) for one in reversed(log.taken)),
        ):
            asking.waiting.tell(value)
        assert [told["call_id"] for told in await asyncio.gather(*tasks)] == [f"c-{n}" for n in range(50)]
        for command in log.taken:
            asking.waiting.tell(authorized(command, api))  # heard again after a connection was lost
        assert len(asking.waiting) == 0

    asyncio.run(run())


def test_the_answer_may_come_before_the_log_has_confirmed_the_question(api: Scene):
    async def run() -> None:
        asking, _ = made()

        class Quick(Silent):
            async def publish(self, _tenant: str, value: bytes) -> Placed:
                asking.waiting.tell(authorized(json.loads(value), api))
                await asyncio.sleep(0)
                return Placed(0, 0)

        log = Quick()
        assert (await asking.ask(question(), SWITCH, log, log, never))["allowed"]

    asyncio.run(run())


def test_only_so_many_wait_and_the_next_one_is_told_at_once():
    async def run() -> None:
        asking, metrics = made()
        asking.waiting = Waiting(3)
        log = Silent()
        tasks = [asyncio.ensure_future(asking.ask(question(), SWITCH, log, log, never)) for _ in range(3)]
        await until(lambda: len(log.taken) == 3)
        assert metrics.waiting._value.get() == 3
        with pytest.raises(Problem, match="3 questions wait already"):
            await asking.ask(question(), SWITCH, log, log, never)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert (len(asking.waiting), metrics.waiting._value.get()) == (0, 0)

    asyncio.run(run())


def test_a_client_that_goes_away_gives_its_place_back():
    async def run() -> None:
        asking, metrics = made()
        log = Silent()
        left = asyncio.Event()
        task = asyncio.ensure_future(asking.ask(question(), SWITCH, log, log, left.wait))
        await until(lambda: len(log.taken) == 1)
        left.set()
        with pytest.raises(ClientGone):
            await task
        assert len(asking.waiting) == 0
        assert metrics.authorizations.labels("gone")._value.get() == 1

    asyncio.run(run())


def test_nothing_is_left_behind_whatever_goes_wrong(caplog: pytest.LogCaptureFixture):
    """Also no task and no complaint of asyncio about a future that nobody looked at."""

    async def run() -> None:
        asking, _ = made()

        class Failing(Silent):
            async def publish(self, tenant: str, value: bytes) -> Placed:
                command = json.loads(value)
                asking.waiting.refuse(tenant, command["command_id"], "bad_field", "user: expected a text")
                raise NotPublished("account-commands: not confirmed")

        log = Failing()
        with pytest.raises(Problem, match="did not confirm"):
            await asking.ask(question(), SWITCH, log, log, never)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert len(asking.waiting) == 0

    asyncio.run(run())
    assert caplog.text == ""


def test_ids_of_two_apis_are_never_the_same():
    first, second = Waiting(), Waiting()
    assert first.mark != second.mark
    assert len(first.mark) == 16
