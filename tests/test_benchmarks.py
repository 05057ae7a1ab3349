"""Every benchmark runs here in miniature, so that none rots. Nothing is said about time: that belongs to a quiet machine."""

import json
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from benchmarks import decks, engine, files, mediation
from benchmarks.mediation_calls import invented
from benchmarks.mediation_layouts import LAYOUTS_MEASURED, Layout, written
from benchmarks.report import Goal, figure, machine
from benchmarks.workload import (
    TENANTS_IN_FULL,
    Shape,
    calls,
    commands,
    own_number,
    prefixes,
    tenant_name,
    write_deck,
    zipf_ranks,
)
from rater.doors.decks import lint_deck

ROOT = Path(__file__).resolve().parents[1]
TINY = Shape(tenants=50, prefixes=150, calls=2_000)


def parsed(line: bytes) -> dict[str, object]:
    """The object a line holds; an empty one when nobody can read it."""
    try:
        found: dict[str, object] = json.loads(line)
    except ValueError:
        return {}
    return found


def readable(lines: list[bytes]) -> list[dict[str, object]]:
    return [record for record in map(parsed, lines) if record]


def test_the_same_seed_writes_the_same_calls_and_another_seed_does_not():
    assert calls(TINY) == calls(TINY)
    assert commands(TINY) == commands(TINY)
    assert calls(TINY) != calls(TINY.with_(seed=2))


def test_a_call_has_the_size_and_key_order_of_a_switch():
    lines = calls(TINY)
    assert 300 <= sum(map(len, lines)) / len(lines) <= 330
    assert list(readable(lines)[0]) == [
        "record_id", "tenant", "call_type", "user", "caller", "callee", "start", "answer", "end", "billable_ms", "disposition",
        "source", "switch",
    ]  # fmt: skip


def test_another_key_order_says_the_same():
    plain, other = calls(TINY), calls(TINY.with_(other_key_order=True))
    assert plain != other
    assert readable(plain[:100]) == readable(other[:100])


def test_a_quarter_is_not_connected_and_few_are_busy_tenants_many_are_quiet():
    records = readable(calls(TINY.with_(calls=20_000)))
    assert 0.22 < sum(record["answer"] is None for record in records) / len(records) < 0.28
    of_first, of_last = (sum(record["tenant"] == tenant_name(rank) for record in records) for rank in (0, 49))
    assert of_first > 20 * of_last > 0


def test_every_call_type_of_the_mix_occurs_and_domestic_outbound_leads():
    records = readable(calls(TINY.with_(calls=20_000)))
    kinds = [record["call_type"] for record in records]
    assert {"user_out", "user_in", "conf_in", "conf_out", "ucap_in", "ucap_out", "unassigned_in", "emergency"} <= set(
        kinds
    )
    assert kinds.count("user_out") > len(kinds) / 2


def test_some_are_delivered_twice_and_some_cannot_be_read():
    lines = calls(TINY.with_(calls=20_000))
    assert 50 < len(lines) - len(set(lines)) < 200
    assert 0 < len(lines) - len(readable(lines)) < 20


def test_a_wider_shape_keeps_the_tenants_of_a_narrow_one():
    assert commands(TINY.with_(tenants=60))[: len(commands(TINY))] == commands(TINY)
    assert len(commands(Shape(tenants=TENANTS_IN_FULL + 3), TENANTS_IN_FULL)) == 6
    assert own_number(7, 7) != own_number(8, 7)


def test_ranks_stay_among_the_tenants():
    import numpy as np

    ranks = zipf_ranks(TINY, np.array([0.0, 0.5, 0.999999999]))
    assert ranks[0] == 0
    assert ranks[-1] == TINY.tenants - 1


def test_the_deck_has_as_many_prefixes_as_it_says_and_no_error(tmp_path: Path):
    assert len(prefixes(TINY)) == TINY.prefixes
    report = lint_deck(write_deck(tmp_path, TINY))
    assert not report.errors
    assert report.rows >= TINY.prefixes


def test_the_engine_gives_the_same_bytes_in_every_run_and_every_batch_size():
    rules, lines = engine.rules_for(TINY), calls(TINY)
    state, _ = engine.opened(commands(TINY), rules)
    small, large = (engine.timed(state, rules, lines, size, 2) for size in (300, 2_000))
    assert small.digest == large.digest
    counts = small.counts
    assert sum(counts.by_outcome.values()) + counts.duplicates + counts.rejected == counts.read == TINY.calls
    assert {name for name, count in counts.by_outcome.items() if count} >= {
        "pooled",
        "charged",
        "free",
        "not_connected",
    }


def test_a_run_leaves_the_books_it_was_given_untouched():
    rules = engine.rules_for(TINY)
    state, _ = engine.opened(commands(TINY), rules)
    before = state.rows("accounts").tobytes(), state.seen.tobytes()
    engine.timed(state, rules, calls(TINY), 500, 1)
    assert (state.rows("accounts").tobytes(), state.seen.tobytes()) == before


def test_a_command_that_is_refused_stops_the_benchmark():
    tick = b'{"command_id":"x","tenant":"nobody","type":"clock.ticked","at":"2026-01-01T00:00:00Z"}'
    with pytest.raises(RuntimeError, match="refused"):
        engine.opened([tick], engine.rules_for(TINY))


def test_the_engine_benchmark_says_every_figure():
    sizes = engine.Sizes(
        calls=1_000, runs=1, prefixes=150, prefixes_many=300, tenants=30, tenants_many=60, ids=(5_000,)
    )
    lines = list(engine.run(sizes))
    names = [line["name"] for line in lines]
    assert names[0] == "canonical, best run"
    assert {"canonical / floor", "many prefixes / canonical", "many tenants / canonical", "commands"} <= set(names)
    assert all(line["value"] > 0 for line in lines if line["name"] != "events")
    ids = next(line for line in lines if line["name"].startswith("ids seen"))
    assert 16 <= ids["value"] <= 40


def test_the_deck_benchmark_finds_a_row_for_nearly_every_number():
    lines = list(decks.run(decks.Sizes(prefixes=(150,), numbers=500, runs=1)))
    assert [line["unit"] for line in lines] == ["s", "ns"]
    assert lines[1]["with_a_row"] > 0.6 * lines[1]["numbers"]


def test_the_files_benchmark_rates_every_call_of_its_file():
    sizes = files.Sizes(calls=1_000, tenants=30, prefixes=150, runs=2, cold_start=False)
    lines = {line["name"]: line for line in files.run(sizes)}
    best = lines["rate, best run"]
    assert best["read"] == 1_000
    assert best["rated"] + best["rejected"] + best["duplicates"] == 1_000
    assert lines["peak memory"]["value"] > 10
    assert lines["warm start: balance"]["value"] > 0


def test_a_process_that_fails_is_shown_with_its_words():
    with pytest.raises(RuntimeError, match=r"exit status 3.*said why"):
        files.run_process([sys.executable, "-c", "import sys; sys.stderr.write('said why'); sys.exit(3)"])


def test_the_invented_calls_of_a_seed_are_the_same_and_one_in_five_is_not_answered():
    calls_of = invented(500)
    assert calls_of == invented(500)
    assert calls_of != invented(500, seed=2)
    assert 0.15 < sum(call.answer_ms is None for call in calls_of) / 500 < 0.25


def test_the_mediation_benchmark_makes_one_call_record_of_every_invented_call():
    lines = list(mediation.run(mediation.Sizes(calls=60, long_calls=20, runs=1)))
    assert [line["name"] for line in lines] == list(LAYOUTS_MEASURED)
    for line in lines:
        assert line["calls"] == (20 if line["bytes_per_record"] > mediation.LONG_RECORD_BYTES else 60), line["name"]
        assert line["value"] > 0
        assert line["times_floor"] > 0
    goals = {line["name"]: line["goal"] for line in lines if "goal" in line}
    assert {name for name, goal in goals.items() if goal == ">= 30,000"} >= {"asterisk-csv", "cucm", "acme", "sonus"}
    assert goals["freeswitch-json"] == ">= 10,000"


def test_a_record_of_freeswitch_is_as_long_as_a_real_one():
    assert 14_000 < len(written(LAYOUTS_MEASURED["freeswitch-json"], invented(1))) < 16_000


def test_a_start_stands_before_its_stop_and_belongs_to_the_same_call():
    [call] = [call for call in invented(5) if call.answer_ms is not None][:1]
    start, stop = written(LAYOUTS_MEASURED["sonus, start and stop"], [call]).splitlines()
    assert (start[:6], stop[:5]) == (b"START,", b"STOP,")
    assert start.split(b",")[1:7] == stop.split(b",")[1:7]


def test_the_benchmark_stops_where_a_source_rejects_what_was_invented(monkeypatch: pytest.MonkeyPatch):
    broken = Layout("delimited", lambda _: b"no;row", delimiter=";")
    monkeypatch.setattr(mediation, "LAYOUTS_MEASURED", {"broken": broken})
    with pytest.raises(RuntimeError, match="broken: 3 of 3 invented records were rejected"):
        list(mediation.run(mediation.Sizes(calls=3, runs=1, layouts=("broken",))))


def test_what_is_not_there_is_refused_with_what_is():
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks", "sofa"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert "no benchmark" in run.stderr
    assert "engine files decks mediation kafka" in run.stderr
    assert run.stdout == ""


def test_a_line_is_one_json_object_that_says_what_it_is_held_against():
    line = figure("engine", "canonical", 1.5, "us/record", Goal(2.0), tenants=3)
    assert orjson.loads(orjson.dumps(line)) == {
        "benchmark": "engine", "name": "canonical", "value": 1.5, "unit": "us/record", "goal": "<= 2", "met": True, "tenants": 3,
    }  # fmt: skip
    assert not figure("files", "rate", 1, "calls/s", Goal(2, at_most=False))["met"]
    assert machine()["cores"] >= 1


def test_a_table_shows_every_figure(capsys: pytest.CaptureFixture[str]):
    from benchmarks.report import print_table

    print_table([machine(), figure("engine", "canonical", 1.5, "us/record", Goal(2.0), tenants=3)])
    shown = capsys.readouterr().out
    assert "canonical" in shown
    assert "tenants 3" in shown
