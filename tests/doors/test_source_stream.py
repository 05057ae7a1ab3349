"""Files of a source whose calls lie in several of them: one stream, the same from every place an interrupted run left."""

from pathlib import Path

import orjson
import pytest

from rater.doors.files.inputs import Piece, Place, SourceStream
from rater.sources import load_profile, open_source

PROFILE = """
source = "kamailio"
switch = "edge1"
tenant = "acme"
[users]
column = "src_user"
[call_types]
by = "numbers"
owned = ["+4420794600"]
[kamailio]
records = "transactions"
"""


def row(method: str, callid: str, at: int) -> bytes:
    tags = {"from_tag": "a", "to_tag": "b"}
    users = {"src_user": "+442079460018", "dst_user": "+12125550123"}
    return (
        orjson.dumps({"method": method, "callid": callid, "sip_code": "200", "time": 1768483812 + at, **tags, **users})
        + b"\n"
    )


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    files = {
        "1.jsonl": [row("INVITE", "one", 0), row("INVITE", "two", 1), row("INVITE", "gone", 2), b"broken\n"],
        "2.jsonl": [row("BYE", "one", 60), row("BYE", "one", 60), row("BYE", "stray", 61)],
        "3.jsonl": [row("BYE", "two", 90), row("BYE", "two", 99)],
    }
    for name, rows in files.items():
        (tmp_path / name).write_bytes(b"".join(rows))
    (tmp_path / "profile.toml").write_text(PROFILE, encoding="utf-8")
    return [str(tmp_path / name) for name in files]


def pieces(names: list[str], most: int, start: Place) -> list[Piece]:
    profile = load_profile(Path(names[0]).parent / "profile.toml")
    return list(SourceStream(names, lambda: open_source("kamailio", profile), most, start, 0).pieces())


def told(found: list[Piece]) -> list[tuple[bytes, str]]:
    """Every record of the pieces: its bytes, and why it was refused."""
    listed = []
    for piece in found:
        records = piece.records
        for k in range(records.count):
            fault = piece.faults.get(k)
            raw = bytes(records.buffer[records.starts[k] : records.ends[k]])
            listed.append((raw, fault.detail if fault else ""))
    return listed


def test_calls_are_put_together_across_files_and_what_is_open_at_the_end_is_rejected(names: list[str]) -> None:
    found = told(pieces(names, 100, Place()))
    calls = [orjson.loads(raw) for raw, why in found if not why]
    assert [(call["call_id"], call["billable_ms"]) for call in calls] == [("one", 60_000), ("two", 89_000)]
    refused = [why for _, why in found if why]
    assert len(refused) == 4
    assert sum("still open when the input ended" in why for why in refused) == 2


@pytest.mark.parametrize("most", [1, 2, 3, 100])
def test_an_interrupted_run_goes_on_from_any_place_with_nothing_lost_or_doubled(names: list[str], most: int) -> None:
    whole = pieces(names, most, Place())
    for cut in range(len(whole) + 1):
        before = whole[:cut]
        after = pieces(names, most, before[-1].after if before else Place())
        assert told(before) + told(after) == told(whole)
        assert sum(piece.skipped for piece in before + after) == sum(piece.skipped for piece in whole) == 1
