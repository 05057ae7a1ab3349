"""Lines of rated calls and events as tests make them, and ways to put them into a history."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson

from rater.core import numbering_table
from rater.doors.history.feeding import add_lines
from rater.doors.history.store import EVENTS, KAFKA, RATED, Batch, Partition, Position, Store
from tests.streams import Scenario, stream
from tests.twin import Twin, instant_ms, instant_text, read_numbering

ROOT = Path(__file__).resolve().parents[2]
COUNTRY_OF, IS_EMERGENCY = read_numbering(Path(str(numbering_table.__file__)))
EXAMPLE = ROOT / "schemas" / "examples" / "rated-cdrs" / "valid" / "contract-example.json"
OF_CALL = {"user", "caller", "callee", "call_type", "start", "answer", "end", "billable_ms", "disposition", "call_id",
           "conference_id", "source"}  # fmt: skip


def rated(number: int, tenant: str = "contoso", **fields: Any) -> dict[str, Any]:
    """A rated call, the contract's example with other fields; `start` moves the whole call."""
    told: dict[str, Any] = orjson.loads(EXAMPLE.read_bytes())
    call = told["call"]
    if "start" in fields:
        start = instant_ms(fields["start"])
        call["answer"], call["end"] = instant_text(start), instant_text(start + call["billable_ms"])
    record_id = fields.pop("record_id", f"r{number}")
    told["tenant"] = call["tenant"] = tenant
    told["record_id"] = call["record_id"] = record_id
    told["input"], told["account_version"] = [0, number], number + 1
    for name, value in fields.items():
        (call if name in OF_CALL else told)[name] = value
    return told


def event(number: int, kind: str, time: str, tenant: str = "contoso", **data: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0", "id": f"{tenant}/{kind}/{number}", "source": "rater", "type": f"rater.{kind}",
        "subject": tenant, "time": time, "datacontenttype": "application/json",
        "data": data | {"account_version": data.get("account_version", number + 1), "input": [0, number], "cause": "call"},
    }  # fmt: skip


def lines(told: Iterable[dict[str, Any]]) -> list[bytes]:
    return [orjson.dumps(one) for one in told]


def put(
    store: Store, calls: Sequence[dict[str, Any]] = (), events: Sequence[dict[str, Any]] = (), partition: int = 0
) -> None:
    """One transaction as a sink makes it, behind what the partition has already."""
    batch = Batch(store.feed(KAFKA, ""))
    known = store.positions(batch.feed)
    for topic, told in ((RATED, calls), (EVENTS, events)):
        place = Partition(topic, partition)
        began = known.get(place)
        first = 0 if began is None else began.place
        add_lines(batch, place, enumerate(lines(told), first))
        batch.moves[place] = began, Position(first + len(told))
    store.append(batch)


def twin_of(folder: Path, seed: int) -> tuple[Twin, Scenario]:
    """The slow twin after a whole scenario: its `rated` and `events` are what the history is fed with."""
    scenario = stream(seed)
    for name, text in scenario.deck_files.items():
        (folder / name).write_text(text)
    return scenario.run(
        Twin(folder, scenario.plans, COUNTRY_OF, IS_EMERGENCY, deck_version="0123456789abcdef")
    ), scenario
