"""Questions to the history and to the committed accounts: what is answered, up to where, and that answers never go back."""

import csv
import io

import openpyxl
import pyarrow.parquet as pq
import pytest

from rater.doors.http import models
from tests.history.support import put, rated
from tests.http.scene import Scene, command

BASE = "/v1/tenants/contoso"
SHAPES = {
    "usage": models.UsagePage, "after-pool": models.AfterPool, "recharges": models.Recharges, "events": models.EventPage,
    "daily": models.Daily, "balance": models.Balance, "lots": models.Lots, "pools": models.Pools, "account": models.Account,
}  # fmt: skip


@pytest.mark.parametrize("question", SHAPES)
def test_an_answer_has_the_shape_that_the_document_promises(api: Scene, question: str):
    answer = api.get(f"{BASE}/{question}")
    assert answer.status_code == 200, answer.text
    SHAPES[question].model_validate_json(answer.content, strict=True)
    assert answer.headers["x-rater-reflects"]
    assert answer.headers["cache-control"] == "no-store"


def test_usage_is_filtered_and_paged_by_place(api: Scene):
    first = api.get(f"{BASE}/usage", params={"limit": 3, "month": "2026-11"}).json()
    second = api.get(f"{BASE}/usage", params={"limit": 3, "month": "2026-11", "after": first["next"]}).json()
    assert [call["record_id"] for call in first["calls"] + second["calls"]] == ["r0", "r1", "r2", "r3"]
    assert second["next"] is None
    assert first["reflects"] == [
        {"feed": "kafka", "topic": "account-events", "partition": 0, "offset": 4},
        {"feed": "kafka", "topic": "rated-cdrs", "partition": 0, "offset": 8},
    ]
    of_user = api.get(f"{BASE}/usage", params={"user": "u-1", "from": "2026-11-01", "to": "2026-11-04"}).json()
    assert [call["record_id"] for call in of_user["calls"]] == ["r1"]
    assert api.get(f"{BASE}/usage", params={"type": ["conf_out", "user_in"]}).json()["calls"] == []


@pytest.mark.parametrize(
    ("question", "told"),
    [
        ("usage?month=11", "expected year and month"),
        ("usage?month=2026-11&from=2026-11-01", "one way to say which calls"),
        ("usage?after=1.2.3", "what the answer before gave as next"),
        ("usage?after=99999999999999999999.1.1.1", "what the answer before gave as next"),
        ("usage?users=u-1", "expected after capability from limit month outcome to type user"),
        ("recharges?user=u-1", "expected none"),
        ("usage?user=u-1&user=u-0", "more than once"),
        ("daily?from=yesterday", "a day or an instant"),
        ("usage/export?mask=XX", "expected one of"),
    ],
)
def test_a_wrong_question_is_told_what_was_expected(api: Scene, question: str, told: str):
    answer = api.get(f"{BASE}/{question}")
    assert answer.status_code == 400
    assert told in answer.json()["detail"]
    assert "--" not in answer.json()["detail"], "options belong to the command line"


@pytest.mark.parametrize("form", ["csv", "xlsx", "parquet"])
def test_usage_can_be_had_as_a_file_of_which_nothing_stays_here(api: Scene, form: str):
    answer = api.get(f"{BASE}/usage/export", params={"format": form, "month": "2026-11"})
    assert answer.status_code == 200
    assert answer.headers["content-disposition"] == f'attachment; filename="PSTN.calls.contoso.{form}"'
    assert answer.headers["x-rater-rows"] == "4"
    read = {
        "csv": lambda data: [row["UsageId"] for row in csv.DictReader(io.StringIO(data.decode(), newline=""))],
        "xlsx": lambda data: [row[0].value for row in openpyxl.load_workbook(io.BytesIO(data)).active.iter_rows(min_row=2)],
        "parquet": lambda data: pq.read_table(io.BytesIO(data)).column("UsageId").to_pylist(),
    }[form]  # fmt: skip
    assert read(answer.content) == ["r0", "r1", "r2", "r3"]
    assert list(api.api.exports.iterdir()) == []


def test_a_balance_is_what_the_books_hold(api: Scene):
    told = api.get(f"{BASE}/balance").json()
    assert (told["balance_micros"], told["currency"], told["recharge"]["trigger_micros"]) == (
        50_000_000,
        "USD",
        5_000_000,
    )
    assert told["reflects"] == {"partition": 0, "batch": 1, "next_cdr": 0, "next_command": 8}
    assert api.get(f"{BASE}/lots").json()["lots"][0]["expires_at"] == "2027-11-01T00:00:00.000Z"


def test_a_pool_says_total_used_left_and_percent(api: Scene):
    [pool] = api.get(f"{BASE}/pools").json()["pools"]
    assert pool["pool"] == "GB/MCOPSTN1/domestic/2026-11"
    assert pool["total"] == pool["left"] > 0
    assert (pool["used"], pool["percent"]) == (0, 0.0)


def test_an_answer_never_goes_back_for_one_client(api: Scene):
    api.engine.take([command("funds.added", "contoso", 9, lot_id="lot-2", amount_micros=1)])
    newest = api.get(f"{BASE}/balance")
    assert newest.headers["x-rater-reflects"] == "account-commands:0:9,batch:0:2,cdrs:0:0"
    api.engine.behind_by = 1
    assert api.get(f"{BASE}/balance").status_code == 503
    assert api.get(f"{BASE}/balance", role="funds").status_code == 200, "another client was told nothing newer"
    asked = {"X-Rater-At-Least": newest.headers["x-rater-reflects"]}
    assert api.get(f"{BASE}/balance", role="funds", headers=asked).status_code == 503
    api.engine.behind_by = 0
    assert api.get(f"{BASE}/balance", role="funds", headers=asked).status_code == 200


def test_a_history_that_has_not_come_so_far_is_not_shown_as_if_it_had(api: Scene):
    asked = {"X-Rater-At-Least": "rated-cdrs:0:9"}
    refused = api.get(f"{BASE}/usage", headers=asked)
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert api.get(f"{BASE}/usage/export", headers=asked).status_code == 503
    put(api.store, [rated(9)])
    assert api.get(f"{BASE}/usage", headers=asked).status_code == 200
    assert api.get(f"{BASE}/usage", headers={"X-Rater-At-Least": "as new as possible"}).status_code == 400


def test_without_workers_or_history_the_answer_says_what_is_missing(api: Scene):
    api.api.live = api.api.history = None
    assert "no workers" in api.get(f"{BASE}/balance").json()["detail"]
    assert "no history" in api.get(f"{BASE}/usage").json()["detail"]
    assert api.client.get("/healthz").json() == {"alive": True}
