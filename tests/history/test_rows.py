"""Lines become rows as the contract means them; what is no line of rater's says which field, and never a number."""

from pathlib import Path

import orjson
import pytest

from rater.core.instants import parse_instant
from rater.doors.history import queries
from rater.doors.history.options import PAGE_MAX
from rater.usage.rows import CALL_COLUMNS, EVENT_COLUMNS, NotARow, Told, Usage, call_row, event_row, instant_ms
from tests.history.support import ROOT, event, rated

EXAMPLES = sorted((ROOT / "schemas" / "examples" / "rated-cdrs" / "valid").glob("*.json"))
EVENTS = sorted((ROOT / "schemas" / "examples" / "account-events" / "valid").glob("*.json"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_every_example_of_a_rated_call_is_a_row(file: Path):
    told = orjson.loads(file.read_bytes())
    usage = Usage(*call_row(orjson.dumps(told), 1, 2, 3))
    assert (usage.feed, usage.part, usage.place) == (1, 2, 3)
    same = {"charge_micros", "outcome", "currency", "billed_minutes", "pool", "pool_minutes", "credit_minutes", "prefix",
            "destination", "capability", "deck", "deck_version", "debt_micros", "invoice_micros", "balance_micros",
            "account_version", "tenant", "record_id"}  # fmt: skip
    assert {name: getattr(usage, name) for name in same} == {name: told[name] for name in same}
    renamed = {"fee_micros": "connection_fee_micros", "rate_nanos": "rate_nanos_per_minute", "country": "destination_country",
               "context": "destination_context"}  # fmt: skip
    assert {name: getattr(usage, name) for name in renamed} == {name: told[field] for name, field in renamed.items()}
    assert ([list(lot) for lot in usage.drawn()], usage.marks()) == (told["lots"], told["flags"])
    call = told["call"]
    assert (usage.user_id, usage.caller, usage.callee) == (call.get("user"), call["caller"], call["callee"])


@pytest.mark.parametrize("file", EVENTS, ids=lambda file: file.stem)
def test_every_example_of_an_event_is_a_row(file: Path):
    told = orjson.loads(file.read_bytes())
    row = Told(*event_row(orjson.dumps(told), 1, 2, 3))
    assert (row.tenant, row.event_id, row.type) == (told["subject"], told["id"], told["type"])
    assert row.account_version == told["data"]["account_version"]
    assert row.data() == told["data"]


def test_a_row_has_the_columns_that_its_names_say():
    assert tuple(CALL_COLUMNS) == Usage._fields
    assert tuple(EVENT_COLUMNS) == Told._fields
    assert PAGE_MAX == queries.PAGE_MAX


@pytest.mark.parametrize(
    "text",
    ["2026-11-03T13:30:12.700Z", "2026-11-03T13:30:12Z", "2026-11-03T13:30:12.7Z", "2026-11-03T13:30:12.712999999Z",
     "2024-02-29T23:59:59.999Z", "1969-12-31T23:59:59.999Z"],
)  # fmt: skip
def test_an_instant_is_read_as_the_engine_reads_it(text: str):
    assert instant_ms(text) == parse_instant(text)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"", "not JSON"), (b"[]", "expected a rated call"), (b'{"v":1}', "'call'"),
        (orjson.dumps(rated(0) | {"input": [0]}), "expected a rated call"),
        (orjson.dumps(rated(0) | {"lots": None, "outcome": None}).replace(b'"outcome":null,', b""), "'outcome'"),
        (orjson.dumps(rated(0)).replace(b"2026-11-03T13:30:00.200Z", b"+4420794600181234567890Z"), "ValueError"),
    ],
)  # fmt: skip
def test_what_is_no_rated_call_is_told_without_its_content(line: bytes, told: str):
    with pytest.raises(NotARow) as wrong:
        call_row(line, 1, 0, 0)
    assert told in str(wrong.value)
    assert "442079460018" not in str(wrong.value)


def test_what_is_no_event_is_told():
    with pytest.raises(NotARow, match="'subject'"):
        event_row(b'{"data":{}}', 1, 0, 0)
    with pytest.raises(NotARow, match="expected an account event"):
        event_row(b"7", 1, 0, 0)


def test_an_event_nobody_knows_yet_is_kept_whole():
    told = event(0, "lot.expiring", "2026-11-01T00:00:00.000Z", lot_id="lot-7")
    assert Told(*event_row(orjson.dumps(told), 1, 0, 0)).data()["lot_id"] == "lot-7"
