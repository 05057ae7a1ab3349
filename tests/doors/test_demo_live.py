"""The invented traffic of `rater traffic`: accepted as it is, the same accounts at each start, never one call id twice."""

import io
from pathlib import Path

import orjson

from rater.doors.files.demo_live import LiveTraffic
from rater.sources import load_profile, open_source
from tests.schema_check import validate

ROOT = Path(__file__).resolve().parents[2]
NOW_MS = 1_795_281_175_000


def test_a_second_start_opens_the_same_accounts_with_the_same_bytes():
    assert list(LiveTraffic(NOW_MS).opening()) == list(LiveTraffic(NOW_MS + 86_400_000).opening())


def test_the_accounts_are_what_the_schema_asks_for_and_keyed_by_tenant():
    for kind, key, raw in [*LiveTraffic(NOW_MS).opening(), *LiveTraffic(NOW_MS).ticks(NOW_MS)]:
        command = orjson.loads(raw)
        assert (kind, key) == ("command", command["tenant"])
        validate("account-commands", command)


def test_calls_end_now_and_no_two_runs_share_an_id():
    first, second = (calls(LiveTraffic(began_ms)) for began_ms in (NOW_MS, NOW_MS + 1))
    assert len({call["record_id"] for call in [*first, *second]}) == len({c["record_id"] for c in first}) + len(
        {c["record_id"] for c in second}
    )
    for call in first:
        validate("cdrs", call)
        assert "2026-11-21T17:11" <= call["end"] <= "2026-11-21T17:12:55.000Z"


def test_what_a_kamailio_would_write_is_read_by_the_profile_beside_it():
    traffic = LiveTraffic(NOW_MS)
    raw = [value for kind, _, value in traffic.ended(NOW_MS, 100, raw=True) if kind == "raw"]
    assert len(raw) == 40
    profile = load_profile(ROOT / "ops" / "mediation" / "edge1.toml")
    found = list(open_source("kamailio", profile).read(io.BytesIO(b"\n".join(raw))))
    assert {record.kind for record in found} == {"call"}
    assert len(found) == 20


def calls(traffic: LiveTraffic) -> list[dict[str, object]]:
    found = []
    for _, _, raw in traffic.ended(NOW_MS, 300, raw=False):
        try:
            found.append(orjson.loads(raw))
        except orjson.JSONDecodeError:
            continue  # one in some hundred is broken on purpose
    assert len(found) > 290
    return found
