"""The arithmetic of the Kafka benchmark, and the calls it writes; the run itself needs a broker and a quiet machine."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import orjson
import pytest

from benchmarks import kafka, kafka_delay, kafka_peers, kafka_scene
from benchmarks.kafka_peers import PeerFailed, Took, streams_missing, streams_took
from benchmarks.kafka_scene import PARTITIONS, Pace, Sample, bodies_by_partition, both_paces
from benchmarks.peers.clock import Clock, through
from benchmarks.workload import Shape, calls
from rater.doors.kafka.client_protocol import ProduceStruct
from rater.doors.kafka.log import Block
from rater.doors.kafka.partitioning import partition_of
from rater.doors.kafka.record_batches import records_from_blocks

STREAMS_LINE = (
    "records=300000 wall_s=2.1 cpu_s=3.0 us_per_record_wall=7.0 us_per_record_cpu=10.0 warm_records=150000 "
    "warm_us_wall=5.5 warm_us_cpu=6.6"
)


def test_every_call_lies_once_in_the_partition_of_its_tenant_in_the_order_it_came():
    lines = calls(Shape(tenants=50, prefixes=150, calls=1_000))
    found = []
    for partition, bodies in enumerate(bodies_by_partition(lines, 10_000)):
        mine, at = [], 0
        for body, count in bodies:
            records, _ = records_from_blocks([Block(at, at + count, count, body, 0)], 0)
            at += count
            for place in range(records.count):
                mine.append(records.raw(place))
                key = records.key(place)
                assert key is not None
                assert partition_of(key, PARTITIONS) == partition
        assert mine == [line for line in lines if line in set(mine)]
        found += mine
    assert sorted(found) == sorted(lines)


def test_a_pace_counts_only_what_lies_between_two_looks():
    samples = [Sample(10.0, 1.0, 500), Sample(11.0, 2.0, 600), Sample(12.0, 3.5, 900), Sample(13.0, 4.0, 1_500)]
    whole, warm = both_paces(samples)
    assert (whole.records, whole.wall_s, whole.cpu_s) == (900, 2.0, 2.0)
    assert whole.per_s == 450
    assert (warm.records, warm.wall_s) == (600, 1.0)  # half way is 1,050: nearest is the look at 900


def test_too_few_looks_are_said_and_not_divided_by():
    with pytest.raises(RuntimeError, match="between two looks"):
        both_paces([Sample(10.0, 1.0, 0), Sample(11.0, 2.0, 900)])


def test_the_second_half_of_a_peer_is_told_apart(capfd: pytest.CaptureFixture[str]):
    clock = Clock(100)
    clock.begin()
    assert [clock.note(40), clock.note(40), clock.note(40)] == [False, False, True]
    clock.report()
    said = json.loads(capfd.readouterr().out)
    assert (said["records"], said["warm_records"]) == (120, 40)
    assert said.keys() >= set(Took.__dataclass_fields__)


def test_what_nobody_can_read_goes_through_as_it_is():
    assert through(b'{"a": 1}') == b'{"a":1}'
    assert through(b'{"a":') == b'{"a":'


def test_the_figures_of_kafka_streams_are_read_from_its_last_line():
    assert streams_took(STREAMS_LINE) == Took(300_000, 7.0, 10.0, 5.5, 6.6)
    with pytest.raises(PeerFailed, match="expected its figures"):
        streams_took("Exception in thread main")


def test_kafka_streams_is_left_out_with_a_word_where_it_is_not(tmp_path: Path):
    assert "not beside this checkout" in str(streams_missing(tmp_path))


def test_a_worker_never_sees_the_settings_of_the_benchmark(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RATER_STREAMS_PEER", "/elsewhere")
    assert not [name for name in kafka_peers.plain_environment() if name.startswith("RATER_")]


def test_a_delay_is_counted_from_the_append_of_the_batch_a_call_lies_in():
    appended = [(np.array([100, 110]), np.array([5_000, 5_020]))]
    seen = [kafka_delay.Seen(0, 110, 110, 5_050.0), kafka_delay.Seen(0, 109, 109, 5_040.0)]
    assert kafka_delay.delays_of(seen, appended).tolist() == [40.0, 30.0]


def test_a_batch_of_rated_calls_that_spans_two_appended_ones_is_counted_from_both():
    appended = [(np.array([100, 120]), np.array([5_000, 5_020]))]
    seen = [kafka_delay.Seen(0, 100, 120, 5_050.0)]
    assert kafka_delay.delays_of(seen, appended).tolist() == [50.0, 30.0]


def window_of(first: float, then: list[float], probes_us: Sequence[float] = ()) -> kafka_delay.Delays:
    spent = kafka_delay.Spent(0.0, 0.0, 0.0)
    return kafka_delay.Delays(np.array([first, *then]), 1_000.0, spent, 1.0, np.array(probes_us, float))


def test_windows_are_told_by_their_median_and_together_by_the_worst_of_them_and_a_start_is_in_neither():
    windows = [window_of(9_000.0, [late] * 4) for late in (30.0, 500.0, 40.0)]
    assert kafka_delay.median_ms(windows, 0.99) == 40.0
    assert kafka_delay.together_ms(windows, 0.99) == 500.0


def test_a_window_tells_how_often_the_processor_was_slowed_against_the_fastest_moment_of_all():
    windows = [window_of(0.0, [1.0], probes) for probes in ([100.0, 100.0, 125.0, 190.0], [180.0, 190.0], [])]
    assert kafka_delay.slowed_share(windows) == [0.25, 1.0, 0.0]


def test_the_offsets_a_batch_of_rated_calls_spans_are_those_of_its_first_and_last_call():
    body = b'.{"charge":1,"input":[3,17],"call":{}}..{"input":[3,18]}.{"charge":0,"input":[3,205],"call":{}}.'
    assert kafka_delay.span_of(Block(900, 903, 3, body, 0)) == (17, 205)


def test_the_load_is_a_request_a_linger_with_every_call_in_it_once():
    lines = calls(Shape(tenants=50, prefixes=150, calls=2_000))
    loads = kafka_delay.loads_of(lines, "cdrs", per_s=30_000)
    assert [load.calls for load in loads] == [600, 600, 600, 200]
    requests = [load.request.build(ProduceStruct) for load in loads]
    assert sum(bytes(request.encode()).count(b'"call_type"') for request in requests) == sum(
        line.count(b'"call_type"') for line in lines
    )


def test_the_same_calls_again_are_new_ones_and_what_nobody_can_read_stays_as_it_is():
    lines = [b'{"record_id":"sw1:7:0","tenant":"t"}', b'{"record_id":']
    assert kafka_delay.again(lines, 3) == [b'{"record_id":"3-sw1:7:0","tenant":"t"}', b'{"record_id":']
    calls_ = calls(Shape(tenants=50, prefixes=150, calls=1_000))
    assert not set(kafka_delay.again(calls_, 0)) & set(kafka_delay.again(calls_, 1)) - {
        line for line in calls_ if kafka_delay.RECORD_ID not in line
    }


class Broker:
    """Its compilers take so many seconds of each step; a step takes one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *compiling_s: float) -> None:
        self.spent_s, self.now_s, self._left, self.steps = 0.0, 0.0, list(compiling_s), 0
        monkeypatch.setattr(kafka_delay, "java_pid", lambda _: 1)
        monkeypatch.setattr(kafka_delay, "compilers_s", lambda _: {7: self.spent_s})
        monkeypatch.setattr(kafka_delay.time, "perf_counter", lambda: self.now_s)

    def step(self, number: int) -> Callable[[], None]:
        self.now_s += 100  # preparing is outside the clock

        def run() -> None:
            assert number == self.steps
            self.steps, self.now_s, self.spent_s = self.steps + 1, self.now_s + 1, self.spent_s + self._left.pop(0)

        return run


def test_a_broker_is_warm_after_the_first_step_in_which_it_compiles_next_to_nothing(monkeypatch: pytest.MonkeyPatch):
    broker = Broker(monkeypatch, 0.4, 0.1, 0.015, 0.005, 0.0)
    steps, share = kafka_delay.until_compiled(SimpleNamespace(cluster=None), broker.step, 12)
    assert (steps, round(share, 3), broker.steps) == (4, 0.005, 4)


def test_a_broker_that_never_ends_compiling_is_measured_all_the_same_and_the_figure_says_so(
    monkeypatch: pytest.MonkeyPatch,
):
    broker = Broker(monkeypatch, 0.4, 0.3)
    steps, share = kafka_delay.until_compiled(SimpleNamespace(cluster=None), broker.step, 2)
    assert (steps, round(share, 3), broker.steps) == (2, 0.3, 2)


def test_the_files_of_a_broker_lie_in_memory_only_where_there_is_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    asked: list[Path | None] = []
    monkeypatch.setattr(kafka_scene, "KafkaCluster", lambda **more: asked.append(more["inside"]))
    monkeypatch.setattr(kafka_scene, "MEMORY", tmp_path)
    monkeypatch.setattr(kafka_scene, "MEMORY_BYTES_MIN", 1)
    kafka_scene.cluster_of("1g", None)
    kafka_scene.cluster_of("1g", Path("/srv"))
    monkeypatch.setattr(kafka_scene, "MEMORY_BYTES_MIN", 1 << 60)
    kafka_scene.cluster_of("1g", None)
    assert asked == [tmp_path, Path("/srv"), None]
    assert kafka_scene.files_of(SimpleNamespace(folder=tmp_path / "rater-kafka-1")) == "in memory"
    assert kafka_scene.files_of(SimpleNamespace(folder=Path("/srv/rater-kafka-1"))) == "on disk"


def test_the_last_line_has_what_the_contract_names_and_null_for_who_is_absent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kafka, "broker_name", lambda: "a broker")
    found = kafka.Found(one=(Pace(1_000, 0.01, 0.004), Pace(500, 0.004, 0.001)), absent={"Kafka Streams": "not here"})
    line = orjson.loads(orjson.dumps(kafka.summary(found)))
    assert line["worker_cpu_us"] == 2.0
    assert line["worker_wall_us"] == 8.0
    assert line["calls_per_s"] == 100_000
    assert line["broker"] == "a broker"
    assert [line[name] for name in ("floor_cpu_us", "streams_cpu_us", "p99_ms")] == [None, None, None]


def test_the_worker_is_compared_with_others_as_they_were_tuned_and_like_with_like():
    def took(warm_us_cpu: float) -> Took:
        return Took(1_000, 1.0, 1.0, 1.0, warm_us_cpu)

    found = kafka.Found(
        one=(Pace(1_000, 1.0, 1.0), Pace(1_000_000, 1.0, 4.5)), plain=Pace(1_000_000, 1.0, 4.0),
        floor=took(9.0), streams=took(8.0), streams_packed=took(10.0),
    )  # fmt: skip
    lines = {line["name"]: line for line in kafka.ratios(found)}
    floor = lines["worker / floor, CPU, warm"]
    streams = lines["worker / Kafka Streams, CPU, warm"]
    assert (floor["value"], floor["both_uncompressed"]) == (0.5, 0.444)
    assert (streams["value"], streams["met"]) == (0.562, False)
    assert (streams["both_uncompressed"], streams["both_zstd"]) == (0.5, 0.45)
    found.streams = found.streams_packed = None
    assert [line["name"] for line in kafka.ratios(found)] == ["worker / floor, CPU, warm"]
