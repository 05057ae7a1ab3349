"""A short selection of chaos: each kind of fault a few times, every failpoint once. `make chaos SECONDS=...` mixes all of them.

Each test is one deployment under load; what is asserted is that its faults landed, and that the independent checker, which
watched and read every topic to its end, found nothing.
"""

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.kafka import chaos_faults as faults
from tests.kafka.broker import KafkaCluster
from tests.kafka.chaos import OF_BROKERS, Ground, Round, failure, ground, play, report
from tests.kafka.chaos_faults import POINTS, Fault, Injection
from tests.kafka.chaos_outside import NoCluster, admin_of, outside, plan_of_workers, settings
from tests.kafka.chaos_planted import catch
from tests.kafka.chaos_scene import Scene
from tests.kafka.planted import PLANTED
from tests.kafka.proxy import Api

RETRIES = 2  # a fault may miss its window on a busy machine; that is no finding, and no proof either


@pytest.fixture(scope="module")
def on(broker_possible: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """A broker of its own: it is killed and stopped."""
    with KafkaCluster() as kafka, ground(kafka, tmp_path_factory.mktemp("chaos")) as found:
        yield found


pytestmark = [pytest.mark.kafka, pytest.mark.slow]


def landing(fault: Fault) -> Fault:
    """Again until it lands."""

    def tried(scene: Scene) -> list[Injection]:
        found: list[Injection] = []
        for _ in range(1 + RETRIES):
            found = fault(scene)
            if all(injection.landed for injection in found):
                break
        return found

    return tried


def kills(*points: str) -> Fault:
    """Two workers at a time; a point that was missed is tried again on its own."""

    def all_of_them(scene: Scene) -> list[Injection]:
        found: list[Injection] = []
        for first in range(0, len(points), 2):
            pair = points[first : first + 2]
            for point, injection in zip(pair, faults.kills_at(scene, pair), strict=True):
                found += [injection] if injection.landed else landing(at(point))(scene)
        return found

    return all_of_them


def at(point: str) -> Fault:
    return lambda scene: faults.kills_at(scene, [point])


def sound(told: Round) -> None:
    assert told.survived, failure(told)
    missed = [injection for injection in told.injections if not injection.landed]
    assert not missed, f"seed {told.seed}: did not land: {missed}"
    assert told.rated > 0


def test_a_worker_killed_at_every_named_point_loses_and_doubles_nothing(on: Ground):
    sound(play(on, 1, [kills(*POINTS)], workers=2, static=True))  # static: nobody waits for a session to end


def test_zombies_cannot_publish_anything(on: Ground):
    between = landing(lambda scene: faults.zombie_at(scene, "after-offsets"))
    sound(play(on, 2, [landing(faults.zombie), between], workers=2))


def test_a_broker_of_three_may_die_and_stand_still(on: Ground):
    plan = [faults.broker_kill, lambda scene: faults.broker_stopped(scene, 15.0), landing(faults.random_kills)]
    with KafkaCluster(nodes=3) as brokers:
        sound(play(replace(on, kafka=brokers), 3, plan, workers=2))


def way(api: Api, cut: bool, late: bool) -> Fault:
    return landing(lambda scene: faults.on_the_way(scene, api, cut, late))


def test_requests_of_a_transaction_may_be_lost_and_arrive_in_the_next_one(on: Ground):
    plan = [way(Api.END_TXN, True, True), way(Api.END_TXN, False, True), way(Api.TXN_OFFSET_COMMIT, True, True),
            way(Api.PRODUCE, True, True), way(Api.PRODUCE, False, False)]  # fmt: skip
    sound(play(on, 4, plan, workers=2, proxied=True))


def test_by_the_older_protocol_of_transactions_too(on: Ground):
    plan = [way(Api.END_TXN, True, True), way(Api.TXN_OFFSET_COMMIT, True, True), way(Api.ADD_PARTITIONS, True, True),
            landing(faults.zombie)]  # fmt: skip
    sound(play(on, 7, plan, workers=2, proxied=True, version=1))


def test_offsets_that_an_operator_moved_are_refused_and_nothing_is_rated_again(on: Ground):
    def moved(how: str) -> Fault:
        return landing(lambda scene: faults.offsets_moved(scene, how))

    sound(play(on, 5, [moved("deleted"), moved("reset back")], workers=2))


def test_static_members_restart_and_snapshots_may_be_spoiled(on: Ground):
    def spoiled(how: str) -> Fault:
        return landing(lambda scene: faults.snapshots_spoiled(scene, how))

    plan = [faults.rolling_restart, faults.twin_instance, landing(faults.hijack), landing(faults.rebalance_storm),
            *map(spoiled, faults.SNAPSHOT_FAULTS)]  # fmt: skip
    sound(play(on, 6, plan, workers=2, static=True, partitions=4))


@pytest.mark.parametrize(
    "bug", ["offsets_outside_the_transaction", "no_new_producer_after_a_silent_retry", "no_deduplication"]
)
def test_a_planted_bug_is_caught(on: Ground, bug: str):
    assert bug in PLANTED
    told = catch(on, bug, 1)
    assert told["caught"], told


def test_rows_that_the_changelog_holds_in_an_old_form_are_caught_by_their_bytes(on: Ground):
    told = catch(on, "pools_written_once", 1)
    assert told["by"] == ["I10"], told


def test_a_cluster_that_is_already_there_is_left_as_it_was(on: Ground):
    there = outside(on.kafka.bootstrap)
    admin = admin_of(there.bootstrap)

    def topics() -> set[str]:
        """Without those that Kafka makes for itself when it is first used."""
        return {topic for topic in admin.list_topics(timeout=30.0).topics if not topic.startswith("__")}

    before = topics()
    sound(play(replace(on, kafka=there), 8, [landing(faults.random_kills)], settings=settings(), version=None))
    assert topics() == before


def test_faults_against_somebodys_cluster_strike_none_of_its_brokers():
    for seed in range(50):
        plan, shape = plan_of_workers(random.Random(seed))
        assert not {*plan} & {*OF_BROKERS, faults.lost_or_late}
        assert "proxied" not in shape


def test_a_cluster_that_does_not_answer_is_said_with_what_was_expected():
    with pytest.raises(NoCluster, match=r"no broker answered within 1 s .* expected host:port"):
        outside("127.0.0.1:9", patience_s=1.0)


def test_an_injection_of_a_failed_round_did_not_survive():
    injections = [Injection("a", True, ""), Injection("a", False, ""), Injection("b", True, "")]
    told = report([Round(1, "", injections, violations=["VIOLATION"]), Round(2, "", injections)])
    assert told["kinds"] == {
        "a": {"injected": 4, "landed": 2, "survived": 1},
        "b": {"injected": 2, "landed": 2, "survived": 1},
    }
    assert [found["seed"] for found in told["failed"]] == [1]
