"""Profiles in a few lines, files in a few bytes, and the contract's field rules written a second time."""

import io
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from rater.sources import SourceProfile, SourceRecord, load_profile, open_source

SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "data" / "cdr_samples"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="no ../shared/data/cdr_samples beside this checkout")

KEYS = """record_id tenant call_type user caller callee start answer end billable_ms disposition source switch
call_id conference_id forwarded_by""".split()
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")

ASTERISK = """
source = "asterisk-csv"
switch = "pbx1"
zone = "UTC"
tenant = "acme"
[users]
column = "channel-peer"
[numbers]
bare = "e164"
[call_types]
by = "dcontext"
[call_types.map]
from-internal = "user_out"
from-trunk = "user_in"
[asterisk]
layout = "master-18"
"""

GRAPH = """
source = "graph-pstn"
tenant = "contoso"
"""


def profile(folder: Path, text: str) -> SourceProfile:
    file = folder / "profile.toml"
    file.write_text(text, encoding="utf-8")
    return load_profile(file)


def read(prof: SourceProfile, data: bytes) -> list[SourceRecord]:
    return list(open_source(prof.source, prof).read(io.BytesIO(data)))


def calls(records: list[SourceRecord]) -> list[dict[str, Any]]:
    return [call_of(record) for record in records if record.canonical is not None]


def call_of(record: SourceRecord) -> dict[str, Any]:
    assert record.canonical is not None, (record.reason, record.detail)
    call: dict[str, Any] = orjson.loads(record.canonical)
    check_call(record.canonical, call)
    return call


def millis(text: str) -> int:
    assert INSTANT.fullmatch(text), text
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def check_call(line: bytes, call: dict[str, Any]) -> None:
    """The contract's rules for a call record; key order is that of its example."""
    assert line == orjson.dumps(call)
    assert b"\n" not in line
    assert list(call) == [key for key in KEYS if key in call]
    assert list(call)[:12] == KEYS[:12]
    assert re.fullmatch(r"[ -~]{1,128}", call["record_id"])
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", call["tenant"])
    assert re.fullmatch(r"\+[0-9]{3,15}", call["callee"])
    assert call["caller"] is None or re.fullmatch(r"\+[0-9]{3,15}", call["caller"])
    assert call["user"] or not call["call_type"].startswith(("user_", "conf_"))
    start, end = millis(call["start"]), millis(call["end"])
    assert start <= end
    assert type(call["billable_ms"]) is int
    assert 0 <= call["billable_ms"] <= 86_400_000
    if call["answer"] is not None:
        answer = millis(call["answer"])
        assert start <= answer <= end
        assert abs(call["billable_ms"] - (end - answer)) <= 1500
    for key in ("user", "source", "switch", "call_id", "conference_id"):
        assert call.get(key) is None or 1 <= len(call[key].encode()) <= 128


ROW = {
    "accountcode": "acme",
    "src": "+442079460018",
    "dst": "12125550123",
    "dcontext": "from-internal",
    "clid": '"J. Doe" <+442079460018>',
    "channel": "PJSIP/desk-00000a1f",
    "dstchannel": "PJSIP/carrier1-00000a20",
    "lastapp": "Dial",
    "lastdata": "PJSIP/12125550123@carrier1,60",
    "start": "2026-01-15 13:30:00",
    "answer": "2026-01-15 13:30:12",
    "end": "2026-01-15 13:32:47",
    "duration": "167",
    "billsec": "154",
    "disposition": "ANSWERED",
    "amaflags": "DOCUMENTATION",
    "uniqueid": "1768483800.2591",
    "userfield": "",
    "peeraccount": "",
    "linkedid": "1768483800.2591",
    "sequence": "5180",
    "did": "",
}


def row(columns: tuple[str, ...], delimiter: str = ",", **changed: str) -> bytes:
    """One row as Asterisk quotes it."""
    values = {**ROW, **changed}
    bare = ("duration", "billsec", "sequence")
    cells = [values[name] if name in bare else '"' + values[name].replace('"', '""') + '"' for name in columns]
    return delimiter.join(cells).encode() + b"\n"
