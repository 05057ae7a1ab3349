"""The demo shows what it promises, leaves honest files, and may be run again."""

import contextlib
import io
import re
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest

from rater.doors.files import demo_traffic as traffic
from rater.doors.files.demo import CHAPTERS, MARKER, demo
from rater.doors.files.outputs import OutputProblem
from tests.schema_check import validate

Row = dict[str, Any]

PROMISED = """
pool.reached recharge.requested recharge.succeeded recharge.failed balance.zero service.blocked service.restored
lot.expired lot.expiring rate.missing month.closed contacts.set
""".split()

# Numbers that regulators keep free for stories; and the one that nobody can have.
INVENTED = re.compile(
    r"\+(1\d{3}555(01\d\d)|442079460\d{3}|447700900\d{3}|449098790\d{3}|33199001\d{3}|4930231251\d\d|493023125100"
    r"|468465004\d\d|18005550199|911|9991234567)"
)


class Told:
    """One demo: its folder, what it said, and its lines."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.text = self.run()

    def run(self) -> str:
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            demo(self.out)
        return said.getvalue()

    def lines(self, name: str) -> list[Row]:
        return [orjson.loads(line) for line in (self.out / name).read_bytes().splitlines()]

    def bytes_of(self, *names: str) -> list[bytes]:
        return [(self.out / name).read_bytes() for name in names]

    def rated(self, record_id: str) -> Row:
        (found,) = (line for line in self.lines("rated-cdrs.jsonl") if line["record_id"] == record_id)
        return found


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    return Told(tmp_path_factory.mktemp("demo") / "out")


def test_every_kind_of_event_is_announced_to_contoso(told: Told) -> None:
    events = told.lines("account-events.jsonl")
    kinds = {event["type"].removeprefix("rater.") for event in events if event["subject"] == traffic.CONTOSO}
    assert set(PROMISED) <= kinds
    percents = {event["data"].get("percent") for event in events if event["type"] == "rater.pool.reached"}
    assert percents == {80, 100}


def test_the_story_tells_every_event_and_names_it(told: Told) -> None:
    events = told.lines("account-events.jsonl")
    named = Counter(re.findall(r"rater\.[a-z]+\.[a-z]+$", told.text, re.MULTILINE))
    assert named == Counter(event["type"] for event in events)


def test_one_call_takes_the_last_minutes_of_the_pool_and_pays_the_rest(told: Told) -> None:
    rated = told.rated(traffic.THE_SPLIT)
    assert [rated["outcome"], rated["pool_minutes"], rated["credit_minutes"]] == ["charged", 8, 5]
    assert f"contoso {traffic.THE_SPLIT}: charged, 0.1025 USD" in told.text
    assert rated["charge_micros"] == 102_500


def test_the_special_calls_come_out_as_the_story_says(told: Told) -> None:
    outcomes = {
        name: told.rated(name)["outcome"]
        for name in (traffic.THE_EMERGENCY, traffic.THE_TOLL_FREE, traffic.THE_CONFERENCE, traffic.THE_UNKNOWN)
    }
    assert list(outcomes.values()) == ["free", "charged", "pooled", "freecall"]
    assert told.rated(traffic.THE_CONFERENCE)["pool"] == "*/MCOMEETADD/zone-a/2026-11"
    assert told.rated(traffic.THE_PREMIUM)["pool_minutes"] == 0
    assert "overdrawn" in told.rated(traffic.THE_PREMIUM)["flags"]
    assert told.rated(traffic.THE_LATE)["flags"] == ["late"]
    assert told.rated(traffic.THE_FRESH)["pool"] == "US/MCOPSTN5/domestic/2026-12"


def test_no_call_is_charged_twice_though_a_whole_file_came_twice(told: Told) -> None:
    ids = [(line["tenant"], line["record_id"]) for line in told.lines("rated-cdrs.jsonl")]
    assert len(ids) == len(set(ids))
    assert re.search(r"1,0\d\d records came a second time: counted, and charged nothing", told.text)


def test_records_that_cannot_be_rated_leave_with_a_reason(told: Told) -> None:
    reasons = Counter(line["reason"] for line in told.lines("rejected-cdrs.jsonl"))
    assert set(reasons) == {"bad_field", "not_json", "unknown_tenant"}
    assert told.lines("rejected-commands.jsonl") == []


def test_every_line_is_what_the_schemas_promise(told: Told) -> None:
    for topic in ("rated-cdrs", "account-events", "rejected-cdrs"):
        for line in (told.out / f"{topic}.jsonl").read_bytes().splitlines():
            validate(topic, line)


def test_the_inputs_call_nobody_who_exists(told: Told) -> None:
    numbers: set[str] = set()
    for chapter in CHAPTERS:
        numbers |= set(re.findall(rb'"(?:caller|callee)":"(\+\d+)"', (told.out / "input" / chapter.calls).read_bytes()))
    assert numbers
    assert [number for number in numbers if not INVENTED.fullmatch(number.decode())] == []


def test_the_demo_is_of_a_size_that_one_can_look_at(told: Told) -> None:
    assert 2_000 <= len(told.lines("rated-cdrs.jsonl")) <= 5_000


def test_the_screen_ends_with_balance_explanation_verdict_and_files(told: Told) -> None:
    order = ["Who has what left?", "Pools of minutes", "Step by step", "The books agree with the log", "Look at"]
    places = [told.text.index(part) for part in order]
    assert places == sorted(places)
    assert "\x1b" not in told.text
    assert "…" not in told.text


MAILED = """
pool_reached lot_expiring lot_expired recharge_succeeded recharge_failed service_blocked service_restored month_closed
""".split()


def test_the_mails_of_the_month_lie_in_the_outbox_in_two_languages(told: Told) -> None:
    mails = list((told.out / "outbox").glob("*/*.eml"))
    kinds = {mail.name.split("-")[4] for mail in mails if mail.parent.name == traffic.CONTOSO}
    assert kinds == set(MAILED)
    assert {mail.name.split("-")[5] for mail in mails} == {"en", "fr"}
    assert {mail.parent.name for mail in mails} == {traffic.CONTOSO, traffic.FABRIKAM, traffic.NORTHWIND}
    page = (told.out / "outbox" / "index.html").read_text("utf-8")
    assert page.count("<iframe ") == len(mails)


def test_the_screen_says_where_the_mails_lie_and_how_one_is_opened(told: Told) -> None:
    assert f"a browser shows them all:   {told.out / 'outbox' / 'index.html'}" in told.text
    named = re.search(r"a mail program opens one:   (\S+\.eml)", told.text)
    assert named is not None
    assert Path(named[1]).read_bytes().startswith(b"From: Calling <calling@rater.invalid>\r\n")


def test_the_demo_may_be_run_again_and_says_the_same(told: Told) -> None:
    names = ("rated-cdrs.jsonl", "account-events.jsonl", "rejected-cdrs.jsonl", f"input/{CHAPTERS[0].calls}")
    mails = sorted(str(file.relative_to(told.out)) for file in (told.out / "outbox").rglob("*") if file.is_file())
    before = told.bytes_of(*names, *mails)
    again = told.run()
    assert told.bytes_of(*names, *mails) == before
    assert without_times(again) == without_times(told.text)


def without_times(text: str) -> str:
    return re.sub(r"\d+\.\d+ s\b", "", text)


def test_a_folder_that_no_demo_made_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "rated-cdrs.jsonl"
    mine.write_text("mine\n")
    with pytest.raises(OutputProblem, match=f"holds no {re.escape(MARKER)}.*choose another --out"):
        demo(tmp_path)
    assert mine.read_text() == "mine\n"
    assert list(tmp_path.iterdir()) == [mine]


def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "out"
    mine.write_text("mine\n")
    with pytest.raises(OutputProblem, match="choose another --out"):
        demo(mine)
    assert mine.read_text() == "mine\n"
