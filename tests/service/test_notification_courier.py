"""From an event to a delivered message: once, in whatever order things go wrong."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from rater.doors.service.notification_outcome import Away, Delivered, Later, Refused
from rater.doors.service.notification_storm import StormRules
from rater.doors.service.outbox import Outbox, OutboxRefused
from tests.service.notification_scene import ANNE, Scene, event, pool

HOUR_S = 3600
HOOK = {"webhook": "https://example.com/hook"}


def play(folder: Path, part: Callable[[Scene], Awaitable[None]], **options: object) -> Scene:
    """One process from its start to its end. The file stays in the folder, for the next one."""
    scene = Scene(folder, **options)  # type: ignore[arg-type]

    async def run() -> None:
        await part(scene)
        await scene.courier.forget(0.1)

    try:
        asyncio.run(run())
    finally:
        scene.close()
    return scene


# ---------------------------------------------------------------------------------------------- once


def test_an_event_is_told_once_and_acknowledged_then(tmp_path: Path):
    async def part(scene: Scene) -> None:
        scene.contacts(ANNE, {"email": "bert@example.com"})
        offset = scene.take(event("recharge.succeeded"))
        assert offset not in scene.acknowledged
        await scene.settle()
        assert [address for address, *_ in scene.sent] == ["anne@example.com", "bert@example.com"]
        assert scene.acknowledged == [0, offset]

    play(tmp_path, part)


def test_an_event_that_comes_a_hundred_times_is_told_once(tmp_path: Path):
    async def part(scene: Scene) -> None:
        scene.contacts(ANNE)
        for offset in range(1, 51):
            scene.take(event("recharge.succeeded"), offset)
        await scene.settle()
        for offset in range(51, 101):
            scene.take(event("recharge.succeeded"), offset)
        await scene.settle()
        assert len(scene.sent) == 1
        assert sorted(scene.acknowledged) == list(range(101))

    play(tmp_path, part)


def test_what_was_delivered_before_a_restart_is_not_sent_after_it(tmp_path: Path):
    async def before(scene: Scene) -> None:
        scene.contacts(ANNE)
        scene.take(event("recharge.succeeded"))
        await scene.settle()

    async def after(scene: Scene) -> None:
        scene.contacts(ANNE)
        offset = scene.take(event("recharge.succeeded"))
        await scene.settle(HOUR_S)
        assert scene.sent == []
        assert offset in scene.acknowledged

    assert len(play(tmp_path, before).sent) == 1
    play(tmp_path, after)


def test_what_was_pending_at_a_restart_is_sent_when_its_event_is_read_again_and_not_before(tmp_path: Path):
    async def before(scene: Scene) -> None:
        scene.outcome = lambda _entry: Away("closed")
        scene.contacts(ANNE)
        scene.take(event("recharge.succeeded"))
        await scene.settle()

    async def after(scene: Scene) -> None:
        scene.contacts(ANNE)
        await scene.settle(HOUR_S)
        assert scene.sent == []  # another process may have read the event and told it
        scene.take(event("recharge.succeeded"))
        await scene.settle()
        assert len(scene.sent) == 1

    play(tmp_path, before)
    play(tmp_path, after)


def test_a_lost_file_loses_no_message(tmp_path: Path):
    async def before(scene: Scene) -> None:
        scene.outcome = lambda _entry: Away("closed")
        scene.contacts(ANNE)
        scene.take(event("recharge.succeeded"))
        await scene.settle()
        assert scene.acknowledged == [0]

    async def after(scene: Scene) -> None:
        scene.contacts(ANNE)
        scene.take(event("recharge.succeeded"))
        await scene.settle()
        assert len(scene.sent) == 1

    play(tmp_path / "first", before)
    play(tmp_path / "second", after)


def test_events_wait_until_the_contacts_of_their_partition_are_known(tmp_path: Path):
    async def part(scene: Scene) -> None:
        scene.intake.assigned({0})
        offset = scene.take(event("recharge.succeeded"))
        await scene.settle()
        assert (scene.sent, scene.acknowledged) == ([], [])
        scene.intake.take_contacts(event("contacts.set", 1, contacts=[ANNE]), "notification-contacts 0 0")
        scene.intake.contacts_known(0)
        await scene.settle()
        assert len(scene.sent) == 1
        assert scene.acknowledged == [offset]

    play(tmp_path, part)


def test_contacts_are_kept_before_their_event_is_acknowledged(tmp_path: Path):
    async def part(scene: Scene) -> None:
        scene.contacts(ANNE)
        assert scene.acknowledged == []
        await scene.settle()
        assert scene.kept == ["contoso/contacts.set/1"]
        assert scene.acknowledged == [0]

    play(tmp_path, part)


def test_nobody_is_told_of_another_tenants_account(tmp_path: Path):
    async def part(scene: Scene) -> None:
        scene.contacts(ANNE)
        scene.contacts({"email": "bert@example.com"}, tenant="fabrikam")
        scene.take(event("recharge.succeeded", 1, "fabrikam"))
        await scene.settle()
        assert [address for address, *_ in scene.sent] == ["bert@example.com"]

    play(tmp_path, part)


@pytest.mark.parametrize("body", [b"", b"no event", b'{"id": 1}', event("something.new")])
def test_what_gives_no_message_is_acknowledged_at_once(tmp_path: Path, body: bytes):
    async def part(scene: Scene) -> None:
        scene.contacts(ANNE)
        offset = scene.take(body)
        assert offset in scene.acknowledged

    play(tmp_path, part)


def test_two_agents_on_one_file_are_refused(tmp_path: Path):
    outbox = Outbox(tmp_path / "outbox.sqlite3")
    outbox.prune(0)
    try:
        with pytest.raises(OutboxRefused, match="no other process"):
            Outbox(tmp_path / "outbox.sqlite3")
    finally:
        outbox.close()


# ---------------------------------------------------------------------------------------------- two events, one mail


def zero(number: int = 1) -> tuple[bytes, bytes]:
    return event("balance.zero", number, version=7), event(
        "service.blocked", number, version=7, call_types=["user_out"]
    )


def test_balance_zero_and_service_blocked_are_one_mail_that_says_what_stopped(tmp_path: Path):
    async def part(scene: Scene) -> None:
        scene.contacts(ANNE)
        for body in zero():
            scene.take(body)
        await scene.settle(1)
        assert scene.kinds() == ["service_blocked"]
        assert sorted(scene.acknowledged) == [0, 1, 2]

    play(tmp_path, part)


def test_balance_zero_alone_is_told_after_a_moment(tmp_path: Path):
    async def part(scene: Scene) -> None:
        scene.contacts(ANNE)
        scene.take(zero()[0])
        await scene.settle()
        assert scene.sent == []
        await scene.settle(1)
        assert scene.kinds() == ["balance_zero"]

    play(tmp_path, part)


def test_the_pair_is_one_mail_also_across_a_restart(tmp_path: Path):
    async def before(scene: Scene) -> None:
        scene.contacts(ANNE)
        for body in zero():
            scene.take(body)

    async def after(scene: Scene) -> None:
        scene.contacts(ANNE)
        for body in zero():
            scene.take(body)
        await scene.settle(1)
        assert scene.kinds() == ["service_blocked"]
        assert len(scene.acknowledged) == 3

    play(tmp_path, before)
    play(tmp_path, after)


def test_a_webhook_gets_both_events(tmp_path: Path):
    async def part(scene: Scene) -> None:
        scene.contacts(HOOK)
        for body in zero():
            scene.take(body)
        await scene.settle()
        assert scene.kinds() == ["rater.balance.zero", "rater.service.blocked"]

    play(tmp_path, part)


# ---------------------------------------------------------------------------------------------- servers that fail


def test_a_mail_server_that_is_away_for_an_hour_delays_everything_and_loses_nothing(tmp_path: Path):
    async def part(scene: Scene) -> None:
        scene.outcome = lambda _entry: Away("closed")
        for tenant in range(300):
            scene.contacts(ANNE, tenant=f"t{tenant}")
            scene.take(event("recharge.succeeded", 1, f"t{tenant}"))
        await scene.settle(10, steps=360)
        assert scene.tried < 120  # asked now and then, not 300 times over
        assert len(scene.acknowledged) == 300  # the contacts; no event was let go
        scene.outcome = lambda _entry: Delivered()
        await scene.settle(75)
        assert len({key for _, _, key, _ in scene.sent}) == len(scene.sent) == 300
        assert len(scene.acknowledged) == 600
        assert scene.given_up == []

    play(tmp_path, part)


def test_a_message_that_breaks_the_server_does_not_stop_the_others(tmp_path: Path):
    async def part(scene: Scene) -> None:
        scene.outcome = lambda entry: Away("broken off") if entry.scope == "t0" else Delivered()
        for tenant in range(5):
            scene.contacts(ANNE, tenant=f"t{tenant}")
            scene.take(event("recharge.succeeded", 1, f"t{tenant}"))
        await scene.settle(60, steps=20)
        assert len(scene.sent) == 4

    play(tmp_path, part)


def test_a_message_that_is_not_taken_now_is_tried_by_its_schedule_under_the_same_name(tmp_path: Path):
    async def part(scene: Scene) -> None:
        answers = [Later("grey"), Later("grey"), Delivered()]
        keys: list[str] = []
        scene.outcome = lambda entry: keys.append(entry.key) or answers.pop(0)  # type: ignore[func-returns-value]
        scene.contacts(ANNE)
        scene.take(event("recharge.succeeded"))
        await scene.settle()
        await scene.settle(3)
        assert scene.tried == 1
        await scene.settle(4)
        assert scene.tried == 2
        await scene.settle(75)
        assert scene.tried == 3
        assert len(set(keys)) == 1
        assert len(scene.acknowledged) == 2

    play(tmp_path, part)


def test_a_refused_address_is_given_up_with_the_reason_and_the_event_let_go(tmp_path: Path):
    async def part(scene: Scene) -> None:
        scene.outcome = lambda _entry: Refused("address_refused", "550")
        scene.contacts(ANNE)
        scene.take(event("recharge.succeeded"))
        await scene.settle()
        assert scene.given_up == [("contoso/recharge.succeeded/1", "address_refused")]
        assert len(scene.acknowledged) == 2
        scene.take(event("recharge.succeeded"))
        await scene.settle(HOUR_S)
        assert len(scene.given_up) == 1

    play(tmp_path, part)


def test_nothing_is_given_up_before_that_is_published(tmp_path: Path):
    async def before(scene: Scene) -> None:
        scene.publishing = False
        scene.outcome = lambda _entry: Refused("address_refused", "550")
        scene.contacts(ANNE)
        scene.take(event("recharge.succeeded"))
        await scene.settle()
        assert scene.acknowledged == [0]

    async def after(scene: Scene) -> None:
        scene.outcome = lambda _entry: Refused("address_refused", "550")
        scene.contacts(ANNE)
        scene.take(event("recharge.succeeded"))
        await scene.settle()
        assert len(scene.given_up) == 1
        assert len(scene.acknowledged) == 2

    play(tmp_path, before)
    play(tmp_path, after)


@pytest.mark.parametrize("outcome", [Away("closed"), Later("grey")])
def test_a_message_too_old_to_matter_is_given_up(tmp_path: Path, outcome: Away | Later):
    async def part(scene: Scene) -> None:
        scene.outcome = lambda _entry: outcome
        scene.contacts(ANNE)
        scene.take(event("recharge.succeeded"))
        await scene.settle(HOUR_S, steps=50)
        assert scene.given_up == [("contoso/recharge.succeeded/1", "expired")]
        assert len(scene.acknowledged) == 2

    play(tmp_path, part)


def test_a_receiver_that_fails_holds_up_no_other_and_no_mail(tmp_path: Path):
    async def part(scene: Scene) -> None:
        scene.outcome = lambda entry: Later("500") if "bad" in entry.address else Delivered()
        scene.contacts({"webhook": "https://bad.example/"}, {"webhook": "https://good.example/"}, ANNE)
        for number in range(20):
            scene.take(event("recharge.succeeded", number))
        await scene.settle(1)
        assert sum(1 for address, *_ in scene.sent if "good" in address) == 20
        assert sum(1 for address, *_ in scene.sent if "anne" in address) == 10  # the storm guard has the rest
        assert scene.tried < 40

    play(tmp_path, part)


def test_a_fault_of_our_own_with_one_message_is_tried_again_like_any(tmp_path: Path):
    async def part(scene: Scene) -> None:
        def broken(_entry: object) -> Delivered:
            raise KeyError("bug")

        scene.outcome = broken
        scene.contacts(ANNE)
        scene.take(event("recharge.succeeded"))
        await scene.settle()
        scene.outcome = lambda _entry: Delivered()
        await scene.settle(10)
        assert len(scene.sent) == 1

    play(tmp_path, part)


# ---------------------------------------------------------------------------------------------- storms


def test_ten_thousand_events_at_once_become_ten_mails_and_a_digest(tmp_path: Path):
    async def part(scene: Scene) -> None:
        scene.contacts(ANNE)
        for number in range(10_000):
            scene.take(pool(number))
        await scene.settle(1)
        assert len(scene.sent) == 10
        await scene.settle(120)
        assert len(scene.sent) == 11
        assert scene.digests() == [9_990]
        assert len(scene.acknowledged) == 10_001
        assert scene.courier.pending() == 0

    play(tmp_path, part)


def test_a_digest_holds_one_tenant_only(tmp_path: Path):
    async def part(scene: Scene) -> None:
        for tenant in ("contoso", "fabrikam"):
            scene.contacts(ANNE, tenant=tenant)
        for number in range(30):
            scene.take(pool(number))
            scene.take(pool(number, "fabrikam"))
        await scene.settle(1)
        await scene.settle(120)
        assert scene.digests() == [20, 20]

    play(tmp_path, part)


def test_one_message_too_many_is_no_digest_of_one(tmp_path: Path):
    async def part(scene: Scene) -> None:
        scene.contacts(ANNE)
        for number in range(11):
            scene.take(pool(number))
        await scene.settle(1)
        await scene.settle(120)
        assert len(scene.sent) == 11
        assert scene.digests() == []

    play(tmp_path, part)


def test_when_the_storm_is_over_mails_go_out_one_by_one_again(tmp_path: Path):
    async def part(scene: Scene) -> None:
        scene.contacts(ANNE)
        for number in range(30):
            scene.take(pool(number))
        await scene.settle(1)
        await scene.settle(120)
        await scene.settle(600)
        scene.take(pool(99))
        await scene.settle()
        assert len(scene.sent) == 12
        assert scene.digests() == [20]

    play(tmp_path, part)


def test_a_digest_is_the_same_message_after_a_restart(tmp_path: Path):
    keys: list[str] = []

    async def before(scene: Scene) -> None:
        scene.contacts(ANNE)
        for number in range(30):
            scene.take(pool(number))
        await scene.settle(1)
        scene.outcome = lambda entry: keys.append(entry.key) or Away("gone")  # type: ignore[func-returns-value]
        await scene.settle(120)
        assert len(keys) == 1

    async def after(scene: Scene) -> None:
        scene.contacts(ANNE)
        for number in range(35):  # some are new
            scene.take(pool(number))
        await scene.settle(1)
        assert scene.digests() == [20]
        assert keys[0] in [key for _, _, key, _ in scene.sent]
        await scene.settle(700)
        assert len({key for _, _, key, _ in scene.sent}) == len(scene.sent)
        assert len(scene.acknowledged) == 36

    first = play(tmp_path, before)
    play(tmp_path, after, now=first.now)


def test_a_storm_of_webhooks_is_delivered_event_by_event(tmp_path: Path):
    async def part(scene: Scene) -> None:
        scene.contacts(HOOK)
        for number in range(200):
            scene.take(pool(number))
        await scene.settle(1, steps=3)
        assert len(scene.sent) == 200

    play(tmp_path, part, rules=StormRules(messages=1))


def test_a_refused_digest_is_told_of_each_event(tmp_path: Path):
    async def part(scene: Scene) -> None:
        scene.outcome = lambda entry: Refused("message_refused", "554") if entry.kind == "digest" else Delivered()
        scene.contacts(ANNE)
        for number in range(15):
            scene.take(pool(number))
        await scene.settle(1)
        await scene.settle(120)
        assert len(scene.given_up) == 5
        assert len(scene.acknowledged) == 16

    play(tmp_path, part)


def test_what_is_settled_is_forgotten_after_a_while(tmp_path: Path):
    async def part(scene: Scene) -> None:
        scene.contacts(ANNE)
        scene.take(event("recharge.succeeded"))
        await scene.settle()
        assert scene.outbox.prune(scene.now) == 0
        assert scene.outbox.prune(scene.now + 36 * 86_400_000) == 1

    play(tmp_path, part)


def test_a_disk_that_takes_nothing_ends_the_process_instead_of_forgetting_a_message(tmp_path: Path):
    async def part(scene: Scene) -> None:
        scene.contacts(ANNE)
        scene.take(event("recharge.succeeded"))
        scene.outbox._db.execute(
            "CREATE TEMP TRIGGER full BEFORE UPDATE ON messages BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        )
        with pytest.raises(sqlite3.IntegrityError, match="disk full"):
            await scene.courier.run()
        assert scene.acknowledged == [0]

    play(tmp_path, part)
