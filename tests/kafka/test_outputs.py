"""What a batch writes: records by place with the tenant as key, and a journal line that vouches for every byte."""

from pathlib import Path

import orjson
import pytest

from rater.contract.journal import JournalLine, digest_of
from rater.core.state import State
from rater.doors.kafka.audit_streams import Record, forwarded_from, records_of_bodies
from rater.doors.kafka.log import Place
from rater.doors.kafka.names import CDRS, COMMANDS, EVENTS, OUTPUTS, RATED, REJECTED_CDRS, REJECTED_COMMANDS, Names
from rater.doors.kafka.outputs import Written, journal_body, rated_bodies, vouch, write_outcome
from rater.doors.kafka.record_batches import BodyWriter
from rater.doors.rules import load_rule_book
from rater.pipeline import Batch, Outcome, Records, decide
from tests.faults.scenarios import calls, commands, rates
from tests.kafka.harness import body_of, key_of
from tests.kafka.test_changelog import framed

NAMES = Names("rating", "eu.")
HOMES = {b"contoso": 0, b"fabrikam": 1, b"adatum": 2}


def keyed(raws: list[bytes], first: int = 0) -> Records:
    return framed([(key_of(raw), raw) for raw in raws], first)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A batch of partition 0, which is the home of contoso and of whoever is not known."""
    book = load_rule_book(rates().write(tmp_path_factory.mktemp("rates")))
    batch = Batch(0, keyed(commands(), 5), keyed(calls(110), 100), 5, 100, home=lambda tenant: HOMES.get(tenant, 0))
    return decide(State.empty(), book.rules, batch)


def records(written: Written, name: str, partition: int = 0) -> list[Record]:
    return records_of_bodies(written.bodies[NAMES.place(name, partition)])


@pytest.fixture(scope="module")
def written(outcome: Outcome) -> Written:
    return write_outcome(outcome, 0, NAMES, BodyWriter(bytes))


def test_a_rated_record_is_the_line_without_its_line_feed_under_its_tenant(outcome: Outcome, written: Written):
    found = records(written, RATED)
    assert b"".join(record.value + b"\n" for record in found) == b"".join(outcome.rated)
    assert len(found) == outcome.counts.rated > 20
    for record in found:
        assert record.key == orjson.loads(record.value)["tenant"].encode() == b"contoso"
        assert record.headers == ()


def test_rated_bodies_are_cut_at_their_limit_and_lose_nothing(outcome: Outcome):
    bodies = rated_bodies(outcome, BodyWriter(bytes, 5_000))
    assert len(bodies) > 3
    assert all(len(body) <= 5_000 for body, _ in bodies)
    assert b"".join(record.value + b"\n" for record in records_of_bodies(bodies)) == b"".join(outcome.rated)


def test_an_event_lies_under_the_tenant_it_is_about(outcome: Outcome, written: Written):
    found = records(written, EVENTS)
    assert [record.value for record in found] == outcome.events
    assert all(record.key == orjson.loads(record.value)["subject"].encode() for record in found)


@pytest.mark.parametrize("name", [REJECTED_CDRS, REJECTED_COMMANDS])
def test_a_rejection_lies_under_the_key_its_record_had(outcome: Outcome, written: Written, name: str):
    found = records(written, name)
    wanted = outcome.rejected_cdrs if name == REJECTED_CDRS else outcome.rejected_commands
    keys = outcome.rejected_cdr_keys if name == REJECTED_CDRS else outcome.rejected_command_keys
    assert [(record.key, record.value) for record in found] == list(zip(keys, wanted, strict=True))
    assert None in {record.key for record in found}
    assert found


@pytest.mark.parametrize("name", [CDRS, COMMANDS])
@pytest.mark.parametrize("home", [1, 2])
def test_a_misplaced_record_goes_home_as_it_came_and_says_where_from(written: Written, name: str, home: int):
    given = keyed(calls(110), 100) if name == CDRS else keyed(commands(), 5)
    at = {int(given.offsets[k]): (given.key(k), given.raw(k)) for k in range(given.count)}
    found = records(written, name, home)
    assert found
    sources = [forwarded_from(record) for record in found]
    assert sources == sorted(source for source in sources if source is not None)
    for record, source in zip(found, sources, strict=True):
        assert source is not None
        assert source[0] == 0
        assert (record.key, record.value) == at[source[1]]
        assert HOMES[record.key or b""] == home


def test_nothing_else_is_written(written: Written):
    wanted = {NAMES.place(name, 0) for name in OUTPUTS}
    wanted |= {NAMES.place(name, home) for name in (CDRS, COMMANDS) for home in (1, 2)}
    assert set(written.bodies) == wanted


def test_an_empty_batch_writes_nothing():
    assert write_outcome(Outcome(), 0, NAMES, BodyWriter(bytes)).bodies == {}


def test_the_journal_line_vouches_for_the_values_as_a_file_would_hold_them(outcome: Outcome, written: Written):
    line = orjson.loads(vouch(JournalLine(1, 0, [[5, 20, 100, 210]], outcome.counts), outcome))
    for name in OUTPUTS:
        text = b"".join(record.value + b"\n" for record in records(written, name))
        assert line["bytes"][name] == len(text)
        assert line["digests"][name] == digest_of(text)


def test_a_journal_line_is_one_record_without_a_key():
    ((body, count),) = journal_body(b"{}", bytes)
    assert (body, count) == body_of(b"{}", key=None)


def test_names_begin_with_the_prefix_and_ids_with_the_application(tmp_path: Path):
    assert NAMES.place(RATED, 4) == Place("eu.rated-cdrs", 4)
    assert NAMES.transactional_id(4) == "rating-4"
    assert all(topic.startswith("eu.") for topic in NAMES.topics())
