"""The story of a record: told while the same code mediates it, so it ends in the same call record, from every source."""

import io
from pathlib import Path

import orjson
import pytest

from rater.sources import SOURCES, Assembling, SourceRecord, load_profile, open_source
from rater.sources.asterisk_layouts import LAYOUTS
from rater.sources.trace import Watching
from rater.sources.trace_fields import FieldStory, stories
from tests.sources.support import ASTERISK, GRAPH, SAMPLES, needs_samples, profile, row
from tests.sources.test_ber import ims
from tests.sources.test_freeswitch_xml import CALL, XML, xml

DOCS = Path(__file__).resolve().parents[2] / "docs" / "sources"
MADE = {"source", "switch", "call_id", "conference_id", "forwarded_by"}  # may come from the profile alone

CDR_KAMAILIO = (
    DOCS.joinpath("kamailio.toml").read_text("utf-8").replace('"transactions"', '"cdr"')
    + "\ncdr_start_on_confirmed = true\n"
)
ASTERISK_ANY = ASTERISK.replace('tenant = "acme"', "[tenants]\nsame = true")
NCHF = DOCS.joinpath("3gpp-json.toml").read_text("utf-8").replace(
    '["iMSChargingInformation.iMSChargingIdentifier"]', '["nfConsumerIdentification.nFName"]'
).replace('by = "column"', 'by = "numbers"\nowned = ["+4420"]').replace(
    'column = "iMSChargingInformation.roleOfNode"\n[call_types.map]\nMO = "user_out"\nMT = "user_in"\n', ""
)  # fmt: skip
EVENT = (
    DOCS.joinpath("freeswitch-event.toml")
    .read_text("utf-8")
    .partition("[call_types]")[0]
    .replace('"username"', '"caller_id_number"')
    + """
[call_types]
by = "numbers"
owned = ["+4420"]
"""
)
OF_SAMPLES = {
    "acmepacket_stop.csv": "acme.toml",
    "asterisk_cdr_beanstalkd.json": "asterisk-json.toml",
    "asterisk_cdr_csv_Master.csv": ASTERISK_ANY,
    "asterisk_cdr_csv_newcolumns.csv": ASTERISK_ANY.replace("master-18", "newcolumns-21"),
    "asterisk_cdr_custom.csv": ASTERISK_ANY.replace("master-18", "cdr-custom"),
    "asterisk_kafka_braams.json": "asterisk-json.toml",
    "asterisk_kafka_vsgroup.json": "asterisk-json.toml",
    "cucm_cdr.txt": "cucm.toml",
    "freeswitch_cdr_csv_example.csv": "freeswitch-csv.toml",
    "freeswitch_json_cdr_a_leg.json": "freeswitch-json.toml",
    "freeswitch_json_cdr_b_leg.json": DOCS.joinpath("freeswitch-json.toml").read_text("utf-8").replace('"a"', '"b"'),
    "freeswitch_json_cdr_post_body.txt": "freeswitch-json.toml",
    "freeswitch_mod_event_kafka.json": EVENT,
    "graph_direct_routing_rows.json": GRAPH.replace("graph-pstn", "graph-direct-routing"),
    "graph_pstn_row.json": GRAPH,
    "kamailio_acc_json_cdr.json": CDR_KAMAILIO,
    "kamailio_acc_json_transactions.jsonl": "kamailio.toml",
    "nchf_32291.jsonl": NCHF,
    "opensips_E_ACC_CDR.json": "opensips.toml",
    "sonus_act.csv": "sonus.toml",
}


def made(file: Path, data: bytes) -> tuple[list[SourceRecord], list[SourceRecord], dict[str, FieldStory]]:
    """What comes out unwatched, what comes out watched, and the story of the first call of it."""
    prof = load_profile(file)

    def run() -> list[SourceRecord]:
        source = open_source(prof.source, prof)
        found = list(source.read(io.BytesIO(data)))
        return found + list(source.close()) if isinstance(source, Assembling) else found

    plain = run()
    with Watching() as trace:
        watched = run()
    first = next((record for record in watched if record.canonical is not None), watched[0])
    return plain, watched, {story.name: story for story in stories(trace, first, prof)[0]}


def profile_file(folder: Path, text: str) -> Path:
    return DOCS / text if text.endswith(".toml") else Path(profile(folder, text).file)


def test_every_sample_has_its_row_here_and_every_source_but_two() -> None:
    if SAMPLES.is_dir():
        found = {file.name for file in (SAMPLES / "synthetic").iterdir()} - {"expected_canonical.json"}
        assert found == set(OF_SAMPLES)
    named = {load_profile(DOCS / text).source for text in OF_SAMPLES.values() if text.endswith(".toml")}
    named |= {next(line for line in text.splitlines() if line.startswith("source")).split('"')[1] for text in OF_SAMPLES.values()
              if not text.endswith(".toml")}  # fmt: skip
    assert set(SOURCES) - named == {"delimited", "3gpp-ber", "freeswitch-xml"}  # below


@needs_samples
@pytest.mark.parametrize("name", OF_SAMPLES)
def test_each_field_of_the_one_call_says_where_it_came_from(tmp_path: Path, name: str) -> None:
    file = profile_file(tmp_path, OF_SAMPLES[name])
    data = (SAMPLES / "synthetic" / name).read_bytes()
    plain, watched, told = made(file, data)
    assert plain == watched
    check_told(next(record for record in watched if record.canonical is not None), told, data)


def check_told(record: SourceRecord, told: dict[str, FieldStory], data: bytes) -> None:
    assert record.canonical is not None
    call = orjson.loads(record.canonical)
    assert {name: story.value for name, story in told.items() if story.value is not None} == {
        name: value for name, value in call.items() if value is not None
    }
    for name, story in told.items():
        if story.value is not None:
            assert story.reads or story.done, name
    for name in ("record_id", "caller", "callee", "start"):
        if call[name] is not None and call["source"] != "3gpp-json":
            assert told[name].reads, name
    for story in told.values():
        for read in story.reads:
            assert read.place
            assert read.raw.encode() in data or b"%" in data or read.place.startswith("tag"), read  # a form is encoded


def test_a_delimited_row_and_a_ber_record(tmp_path: Path) -> None:
    text = b"2026-01-15 13:30:00;2026-01-15 13:30:12;2026-01-15 13:32:47;+442079460018;0012125550123;154;OK;carrier1;acme;b1946ac9\n"
    plain, watched, told = made(DOCS / "delimited.toml", text)
    assert plain == watched
    check_told(watched[0], told, text)
    assert [(read.name, read.place, read.raw) for read in told["callee"].reads] == [
        ("called", "column 5", "0012125550123")
    ]
    assert told["callee"].done == ["0012125550123: international prefix 00 became +: +12125550123"]
    plain, watched, told = made(DOCS / "3gpp-ber.toml", ims())
    assert plain == watched
    check_told(watched[0], told, ims())
    assert told["callee"].reads[0].place == "tag [7]"


def test_a_record_of_freeswitch_in_xml(tmp_path: Path) -> None:
    file = Path(profile(tmp_path, XML).file)
    plain, watched, told = made(file, xml(CALL))
    assert plain == watched
    check_told(watched[0], told, xml(CALL))
    assert told["callee"].reads[0].place == "callflow[0].caller_profile.destination_number"


def test_what_the_profile_did_with_a_dialled_number(tmp_path: Path) -> None:
    rules = '[numbers]\ncountry_code = "44"\nnational = "0"\ninternational = ["00"]\naccess = ["9"]\nbare = "e164"\n[numbers.extensions]\n"77" = "+4420777"\n'
    file = Path(profile(tmp_path, ASTERISK.replace('[numbers]\nbare = "e164"\n', rules)).file)
    columns = LAYOUTS["master-18"]
    for dialled, sentence in {
        "90012125550123": "90012125550123: access digit 9 taken off, international prefix 00 became +: +12125550123",
        "9 020 7946 0018": "9 020 7946 0018: access digit 9 taken off, national prefix 0 became +44: +442079460018",
        "+12125550123": "+12125550123: a full number: +12125550123",
        "77": "77 stands under [numbers.extensions]: +4420777",
        "12125550123": '12125550123: bare = "e164": + before it: +12125550123',
        "999999999999999999": "no rule under [numbers] explains 999999999999999999",
    }.items():
        _, _, told = made(file, row(columns, dst=dialled))
        assert sentence in told["callee"].done, told["callee"].done


def test_a_record_that_was_refused_late_shows_what_it_would_have_become(tmp_path: Path) -> None:
    file = Path(profile(tmp_path, ASTERISK).file)
    _, [record], told = made(file, row(LAYOUTS["master-18"], billsec="25"))
    assert record.reason == "bad_times"
    assert (told["billable_ms"].value, told["answer"].value) == (25_000, "2026-01-15T13:30:12.000Z")
    assert [read.place for read in told["billable_ms"].reads] == ["column 14"]


def test_nothing_is_watched_outside_the_block() -> None:
    import sys

    before = sys.getprofile()
    with Watching():
        assert sys.getprofile() is not None
    assert sys.getprofile() is before
