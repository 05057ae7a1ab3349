"""`rater audit` of topics proves honest ones and finds a single changed byte, in any topic, by partition and offset."""

import asyncio
import copy
import os
import re
from pathlib import Path

import orjson
import pytest

from rater.doors.files.show import show_partitions_audited
from rater.doors.kafka.audit import PartitionAudited, Scope, audit
from rater.doors.kafka.audit_command import audit_object
from rater.doors.kafka.log import Place
from rater.doors.kafka.names import (
    CDRS,
    COMMANDS,
    EVENTS,
    JOURNAL,
    OUTPUTS,
    RATED,
    REJECTED_CDRS,
    REJECTED_COMMANDS,
    STATE,
)
from rater.doors.kafka.record_batches import frame_few
from rater.doors.kafka.snapshot import Room, image_of
from tests.doors.front import front, refused
from tests.faults.scenarios import calls, commands, rates
from tests.kafka.harness import APP, Bench, body_of

HERE = 1  # the partition that has everything: forwards, events, rejections


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Two partitions rated in many batches, with calls and commands that a foreign partitioner has misplaced."""
    folder = tmp_path_factory.mktemp("honest")
    bench = Bench(folder, rates().write(folder / "in"), bytes_max=3_000)
    bench.send(COMMANDS, commands())
    bench.send(CDRS, calls(120))
    for topic, raws in ((CDRS, calls(40, first=130)), (COMMANDS, late_commands())):
        misplaced = [(key, raw) for raw in raws for key, home in [bench.home(raw)] if key is not None and home == 0]
        assert misplaced
        bench.put(Place(topic, HERE), misplaced)
    bench.run()
    assert bench.values(JOURNAL, HERE)[3:], "several batches"
    for topic in (RATED, EVENTS, REJECTED_CDRS, REJECTED_COMMANDS):
        assert bench.values(topic, HERE)
    return bench


def late_commands() -> list[bytes]:
    return [
        orjson.dumps({"command_id": f"late-{tenant}", "tenant": tenant, "type": "account.adjusted", "by": "ops",
                      "at": "2026-11-20T00:00:00Z", "amount_micros": 1, "reason": "late"})
        for tenant in ("contoso", "fabrikam", "adatum")
    ]  # fmt: skip


@pytest.fixture
def bench(honest: Bench) -> Bench:
    """A cluster of the test's own."""
    made = copy.copy(honest)
    made.log = copy.deepcopy(honest.log)
    return made


def audited(bench: Bench, group: str | None = APP, tries: int = 0, snapshots: bool = False) -> list[PartitionAudited]:
    scope = Scope(
        log=bench.log,
        names=bench.names,
        partitions=bench.partitions,
        rules=bench.rules(),
        sleep=lambda _seconds: asyncio.sleep(0),
        group=group,
        snapshots=bench.snapshots if snapshots else None,
        tries=tries,
    )
    return asyncio.run(audit(scope, range(bench.partitions)))


def difference(bench: Bench, partition: int = HERE, only: bool = True) -> str:
    """The sentence about the partition that was tampered with; the others agree."""
    found = audited(bench)
    assert found[partition].difference is not None
    if only:
        assert [one.partition for one in found if not one.ok] == [partition]
    return str(found[partition].difference)


def other(byte: int) -> int:
    """Another byte of the same kind, so that a record stays what it was in form."""
    if 48 <= byte <= 57:
        return 48 + (byte - 47) % 10
    return byte + 1 if 97 <= byte <= 121 else byte ^ 1


def changed(value: bytes, pattern: bytes) -> bytes:
    """One byte changed: group 1 of a pattern."""
    found = re.search(pattern, value)
    assert found is not None, value
    return value[: found.start(1)] + bytes([other(value[found.start(1)])]) + value[found.start(1) + 1 :]


def offset_of(bench: Bench, topic: str, pattern: bytes = b"", partition: int = HERE) -> int:
    """A record in the middle of a topic that holds a pattern."""
    records = bench.records(topic, partition)
    found = [int(records.offsets[k]) for k in range(records.count) if re.search(pattern, records.raw(k))]
    return found[len(found) // 2]


def tamper(bench: Bench, topic: str, pattern: bytes) -> int:
    offset = offset_of(bench, topic, pattern)
    bench.rewrite(topic, HERE, offset, lambda key, value: (key, changed(value, pattern)))
    return offset


def names_place(sentence: str, topic: str, offset: int) -> None:
    assert re.search(rf"(?<![\w.]){topic}-{HERE},? offset {offset}\b", sentence), sentence


# ------------------------------------------------------------------------------------------------ honest topics


def test_honest_topics_agree_to_the_byte(honest: Bench):
    found = audited(honest)
    assert [one.ok for one in found] == [True, True]
    for one in found:
        assert one.rated == len(honest.values(RATED, one.partition))
        assert one.events == len(honest.values(EVENTS, one.partition))
        assert one.batches == len(honest.values(JOURNAL, one.partition))
        assert one.group_checked
        charges = [orjson.loads(line)["charge_micros"] for line in honest.values(RATED, one.partition)]
        assert one.charge_micros == {"USD": sum(charges)}
    assert found[HERE].forwarded > 0


def test_balances_are_those_of_the_last_calls(honest: Bench):
    last = {told["tenant"]: told["balance_micros"] for told in map(orjson.loads, honest.values(RATED, HERE))}
    found = audited(honest)[HERE]
    assert found.tenants == len(last) > 1
    assert found.balance_micros == {"USD": sum(last.values())}


def test_an_audit_changes_nothing_and_is_the_same_again(bench: Bench):
    before = {place: list(part.batches) for place, part in bench.log.broker.partitions.items()}
    assert audited(bench) == audited(bench)
    assert {place: list(part.batches) for place, part in bench.log.broker.partitions.items()} == before


def test_compaction_of_the_changelog_changes_nothing(bench: Bench):
    bench.log.compact(STATE)
    assert all(one.ok for one in audited(bench))


def test_without_a_group_the_offsets_are_no_witness(bench: Bench):
    bench.log.set_offset(APP, Place(CDRS, HERE), 3)
    assert all(one.ok and not one.group_checked for one in audited(bench, group=None))


def test_partitions_nobody_has_rated_agree(tmp_path: Path):
    bench = Bench(tmp_path, rates().write(tmp_path / "in"))
    found = audited(bench)
    assert [(one.ok, one.batches) for one in found] == [(True, 0), (True, 0)]


def test_topics_cut_into_other_batches_by_a_mirror_agree(bench: Bench):
    """A copy of a topic may hold the same records in other batches."""
    for name in OUTPUTS:
        partition = bench.log.broker.partition(Place(name, HERE))
        records = bench.records(name, HERE)
        partition.batches, partition._nexts, partition.end = [], [], 0
        for k in range(records.count):
            bench.log.append_body(Place(name, HERE), *body_of(records.raw(k), key=records.key(k)))
    assert all(one.ok for one in audited(bench))
    offset = offset_of(bench, EVENTS)
    bench.remove(EVENTS, HERE, offset)
    assert EVENTS in difference(bench)


# ------------------------------------------------------------------------------------------------ one byte

PLACES = [
    (RATED, rb'"charge_micros":(\d)'),
    (RATED, rb'"callee":"\+\d(\d)'),
    (RATED, rb'"input":\[\d+,(\d)'),
    (RATED, rb'"balance_micros":-?(\d)'),
    (RATED, rb'(\{)"v"'),
    (EVENTS, rb'"id":"(\w)'),
    (EVENTS, rb'"balance_micros":-?(\d)'),
    (EVENTS, rb'"time":"\d+-\d+-\d(\d)'),
    (REJECTED_CDRS, rb'"reason":"(\w)'),
    (REJECTED_CDRS, rb'"raw_b64":"\w\w(\w)'),
    (REJECTED_COMMANDS, rb'"detail":"(\w)'),
    (REJECTED_COMMANDS, rb'"input":\[\d+,(\d)'),
    (JOURNAL, rb'"batch":(\d)'),
    (JOURNAL, rb'"cdrs":\[\d,(\d)'),
    (JOURNAL, rb'"cdrs":\[\d,\d+,(\d)'),
    (JOURNAL, rb'"commands":\[\d,\d+,(\d)'),
    (JOURNAL, rb'"segments":\[\[(\d)'),
    (JOURNAL, rb'"rated":(\d)'),
    (JOURNAL, rb'"duplicates":(\d)'),
    (JOURNAL, rb'"rated-cdrs":"(\w)'),
    (JOURNAL, rb'"bytes":\{"rated-cdrs":(\d)'),
    (JOURNAL, rb'"state_digest":"(\w)'),
    (JOURNAL, rb'"previous":"(\w)'),
    (JOURNAL, rb'"seen_b64":"(\w)'),
    (JOURNAL, rb'"plans":"(\w)'),
    (JOURNAL, rb'"numbering":"(\w)'),
    (JOURNAL, rb'(\{)"v"'),
]  # fmt: skip


@pytest.mark.parametrize(("topic", "pattern"), PLACES, ids=[f"{t} {p.decode()}" for t, p in PLACES])
def test_a_changed_byte_is_found_at_its_offset(bench: Bench, topic: str, pattern: bytes):
    offset = tamper(bench, topic, pattern)
    names_place(difference(bench), topic, offset)


def test_the_field_that_was_changed_is_named_with_both_values(bench: Bench):
    offset = tamper(bench, RATED, rb'"charge_micros":(\d)')
    found = orjson.loads(bench.values(RATED, HERE)[list(bench.records(RATED, HERE).offsets).index(offset)])
    sentence = difference(bench)
    assert f"charge_micros is {found['charge_micros']}, the replay gives " in sentence
    assert re.search(r"batch \d+", sentence)


@pytest.mark.parametrize("topic", OUTPUTS)
def test_another_key_is_found(bench: Bench, topic: str):
    offset = offset_of(bench, topic)
    bench.rewrite(topic, HERE, offset, lambda _, value: (b"somebody", value))
    sentence = difference(bench)
    names_place(sentence, topic, offset)
    assert "the key is b'somebody', the replay gives" in sentence


@pytest.mark.parametrize("topic", OUTPUTS)
def test_a_missing_record_is_found(bench: Bench, topic: str):
    records = bench.records(topic, HERE)
    place = min(range(records.count), key=lambda k: abs(k - records.count // 2))
    gone, value = int(records.offsets[place]), records.raw(place)
    bench.remove(topic, HERE, gone)
    sentence = difference(bench)
    assert f"{topic}-{HERE}" in sentence
    assert repr(value[:40])[2:-1] in sentence or "the replay gives" in sentence


@pytest.mark.parametrize("topic", OUTPUTS)
def test_a_missing_last_record_is_found(bench: Bench, topic: str):
    records = bench.records(topic, HERE)
    bench.remove(topic, HERE, int(records.offsets[-1]))
    sentence = difference(bench)
    assert f"{topic}-{HERE}: ends at offset" in sentence
    assert "wrote 1 more" in sentence


@pytest.mark.parametrize("topic", OUTPUTS)
def test_a_record_too_many_at_the_end_is_found(bench: Bench, topic: str):
    offset = bench.log.append_body(Place(topic, HERE), *body_of(b'{"v":1,"forged":true}'))
    sentence = difference(bench)
    names_place(sentence, topic, offset)
    assert "no batch has written this record" in sentence


def test_a_record_too_many_within_a_batch_is_found(bench: Bench):
    stored = bench.stored(RATED, HERE)[0]
    value = bench.values(RATED, HERE)[0]
    more, _ = frame_few([(b"contoso", b"forged", ()), (b"contoso", value, ())])[0]
    stored.block = type(stored.block)(
        stored.block.first_offset, stored.block.next_offset, 2, more, stored.block.timestamp_ms
    )
    sentence = difference(bench)
    names_place(sentence, RATED, stored.block.first_offset)


@pytest.mark.parametrize("topic", [RATED, EVENTS])
def test_records_that_have_changed_places_are_found(bench: Bench, topic: str):
    stored = next(stored for stored in bench.stored(topic, HERE) if stored.block.count > 1)
    offset = int(stored.block.first_offset)
    bench.swap(topic, HERE, offset)
    sentence = difference(bench)
    names_place(sentence, topic, offset)
    assert "changed places" in sentence


def test_a_missing_journal_line_is_found(bench: Bench):
    offsets = [int(offset) for offset in bench.records(JOURNAL, HERE).offsets]
    bench.remove(JOURNAL, HERE, offsets[2])
    sentence = difference(bench)
    names_place(sentence, JOURNAL, offsets[3])
    assert "found batch 4, expected 3" in sentence


def test_a_journal_that_lost_its_beginning_is_found(bench: Bench):
    offsets = [int(offset) for offset in bench.records(JOURNAL, HERE).offsets]
    bench.log.delete_records(Place(JOURNAL, HERE), offsets[1])
    assert "begins with batch 2, expected 1" in difference(bench)


def test_a_foreign_line_in_the_journal_is_found(bench: Bench):
    offset = bench.log.append_body(Place(JOURNAL, HERE), *body_of(b"hello"))
    names_place(difference(bench), JOURNAL, offset)


def test_a_call_changed_in_the_input_is_found(bench: Bench):
    pattern = rb'"billable_ms":(\d)'
    offset = tamper(bench, CDRS, pattern)
    sentence = difference(bench)
    assert re.search(rf"({RATED}|{REJECTED_CDRS}|{JOURNAL})-{HERE}", sentence)
    assert str(offset) in sentence or "batch" in sentence


# ------------------------------------------------------------------------------------------------ forwarded records


def forwarded(bench: Bench, topic: str) -> int:
    """The offset in partition 0 of a record that partition 1 has forwarded."""
    from rater.doors.kafka.audit_streams import forwarded_from, records_in

    found = [
        record.offset
        for stored in bench.stored(topic, 0)
        for record in records_in(stored.block)
        if forwarded_from(record) is not None
    ]
    return found[0]


@pytest.mark.parametrize(
    ("topic", "pattern"), [(CDRS, rb'"record_id":"r(\d)'), (COMMANDS, rb'"command_id":"(\w)')], ids=[CDRS, COMMANDS]
)
def test_a_changed_forwarded_record_is_found_where_it_was_forwarded_to(bench: Bench, topic: str, pattern: bytes):
    offset = forwarded(bench, topic)
    bench.rewrite(topic, 0, offset, lambda key, value: (key, changed(value, pattern)))
    sentence = difference(bench, only=False)
    assert f"{topic}-0 offset {offset}" in sentence


def test_a_missing_forwarded_record_is_found(bench: Bench):
    offset = forwarded(bench, CDRS)
    bench.remove(CDRS, 0, offset)
    assert f"{CDRS}-0" in difference(bench, only=False)


def test_a_record_that_claims_to_be_forwarded_is_found(bench: Bench):
    value = bench.values(CDRS, HERE)[0]
    bench.log.append_body(Place(CDRS, HERE), *frame_few([(None, value, (("rater-forwarded-from", b"0/1"),))])[0])
    bench.run()
    sentence = difference(bench)
    assert "has not forwarded it" in sentence
    assert f"{CDRS}-{HERE}" in sentence


def test_a_forwarded_record_too_many_is_found(bench: Bench):
    value = bench.values(CDRS, 0)[0]
    ((body, count),) = frame_few([(None, value, (("rater-forwarded-from", b"1/1"),))])
    offset = bench.log.append_body(Place(CDRS, 0), body, count)
    sentence = difference(bench, only=False)
    assert f"{CDRS}-0 offset {offset}" in sentence
    assert "no batch has written this record" in sentence


# ------------------------------------------------------------------------------------------------ the state


@pytest.mark.parametrize("shelf", ["accounts", "lots", "users", "fleets", "pools", "numbers", "totals"])
def test_a_changed_row_is_found_by_shelf_row_and_tenant(bench: Bench, shelf: str):
    bench.log.compact(STATE)
    records = bench.records(STATE, HERE)
    at = next(k for k in range(records.count) if (records.key(k) or b"").startswith(shelf.encode()))
    offset, key = int(records.offsets[at]), records.key(at) or b""
    bench.rewrite(STATE, HERE, offset, lambda key, value: (key, value[:20] + bytes([value[20] ^ 1]) + value[21:]))
    sentence = difference(bench)
    names_place(sentence, STATE, offset)
    assert f"{shelf} row {key.split(b'/')[1].decode()}" in sentence
    assert "the replay gives" in sentence or "padding" in sentence


def test_a_changed_watermark_is_found(bench: Bench):
    bench.log.compact(STATE)
    records = bench.records(STATE, HERE)
    at = next(k for k in range(records.count) if records.key(k) == b"meta")
    offset = int(records.offsets[at])
    bench.rewrite(STATE, HERE, offset, lambda key, value: (key, changed(value, rb'"ids":(\d)')))
    sentence = difference(bench)
    names_place(sentence, STATE, offset)
    assert "watermark" in sentence
    assert "ids is" in sentence


def test_a_row_that_is_gone_is_found(bench: Bench):
    bench.log.compact(STATE)
    records = bench.records(STATE, HERE)
    bench.remove(STATE, HERE, int(records.offsets[0]))
    assert "1 of" in difference(bench)


def test_a_row_too_many_is_found(bench: Bench):
    """It stands before the last watermark, which does not count it."""
    last = bench.stored(STATE, HERE)[-1]
    records = bench.records(STATE, HERE)
    meta = next(records.raw(k) for k in reversed(range(records.count)) if records.key(k) == b"meta")
    ((body, count),) = frame_few([(b"pools/4000", b"forged", ()), (b"meta", meta, ())])
    first = bench.log.append_body(Place(STATE, HERE), body, count)
    assert last.block.next_offset <= first
    sentence = difference(bench)
    names_place(sentence, STATE, first)
    assert "pools row 4000: the replay has no such row" in sentence


def test_a_foreign_key_in_the_changelog_is_found(bench: Bench):
    offset = bench.log.append_body(Place(STATE, HERE), *body_of(b"x", key=b"who are you"))
    names_place(difference(bench), STATE, offset)


def test_a_changelog_behind_the_journal_is_a_disagreement(bench: Bench):
    """What a torn transaction leaves."""
    stored = bench.log.broker.partition(Place(STATE, HERE)).batches
    while stored[-1].marker is None or sum(s.readable for s in stored) == len(bench.stored(STATE, HERE)):
        last = stored.pop()
        bench.log.broker.partition(Place(STATE, HERE))._nexts.pop()
        if last.readable:
            break
    bench.log.broker.partition(Place(STATE, HERE)).end = stored[-1].block.next_offset
    sentence = difference(bench)
    assert "the journal is 1 batch ahead" in sentence


# ------------------------------------------------------------------------------------------------ the group


@pytest.mark.parametrize("topic", [CDRS, COMMANDS])
@pytest.mark.parametrize("by", [-1, 1, None])
def test_a_moved_group_offset_is_found_with_the_command_that_puts_it_back(bench: Bench, topic: str, by: int | None):
    place = Place(topic, HERE)
    right = bench.log.group(APP).offsets[place]
    bench.log.set_offset(APP, place, None if by is None else right + by)
    sentence = difference(bench)
    assert f"--group {APP} --reset-offsets --topic {topic}:{HERE} --to-offset {right} --execute" in sentence
    assert str(right) in sentence


def test_topics_without_a_journal_but_with_offsets_are_explained(tmp_path: Path):
    bench = Bench(tmp_path, rates().write(tmp_path / "in"))
    bench.log.set_offset(APP, Place(CDRS, HERE), 5)
    assert "the group's offsets exist, but the state and the journal are empty" in difference(bench)


# ------------------------------------------------------------------------------------------------ retention


def snapshot_at(bench: Bench, partition: int, folder: Path) -> int:
    """The batch at which a snapshot of now stands."""
    from rater.doors.kafka.restore import restore
    from rater.doors.kafka.snapshot import Base, Snapshots

    async def taken() -> int:
        reader = await bench.log.open_reader()
        found = await restore(reader, Place(STATE, partition), Place(JOURNAL, partition), None)
        assert found.state is not None
        assert found.watermark is not None
        base = Base(found.state, found.watermark, found.state_offset, found.journal_offset, found.line_offset)
        bench.snapshots = Snapshots(folder, APP)
        bench.snapshots.save(partition, image_of(base, APP, Room()))
        return found.watermark.batch

    return asyncio.run(taken())


def test_inputs_gone_by_retention_cannot_be_audited_and_it_says_from_where_on(bench: Bench):
    bench.log.delete_records(Place(CDRS, HERE), 10)
    found = audited(bench)[HERE]
    assert found.difference is None
    assert found.cannot is not None
    assert f"{CDRS}-{HERE}: cannot audit before offset 10" in found.cannot
    assert re.search(r"from batch \d+ on it could be audited", found.cannot)
    assert audited(bench)[0].ok


def more(bench: Bench) -> None:
    bench.send(CDRS, calls(60, first=180))
    bench.run()


def test_a_sound_snapshot_lets_it_audit_what_is_left(bench: Bench, tmp_path: Path):
    batch = snapshot_at(bench, HERE, tmp_path)
    bench.log.delete_records(Place(CDRS, HERE), 10)
    more(bench)
    found = audited(bench, snapshots=True)[HERE]
    assert (found.ok, found.first_batch) == (True, batch + 1), found
    assert found.batches > 0
    offset = [int(offset) for offset in bench.records(RATED, HERE).offsets][-1]
    bench.rewrite(RATED, HERE, offset, lambda key, value: (key, changed(value, rb'"charge_micros":(\d)')))
    sentence = audited(bench, snapshots=True)[HERE].difference or ""
    assert RATED in sentence


def test_a_snapshot_with_nothing_behind_it_is_compared_with_the_changelog(bench: Bench, tmp_path: Path):
    snapshot_at(bench, HERE, tmp_path)
    bench.log.delete_records(Place(CDRS, HERE), 10)
    found = audited(bench, snapshots=True)[HERE]
    assert (found.ok, found.batches) == (True, 0), found


def test_a_snapshot_older_than_what_is_left_is_not_used(bench: Bench, tmp_path: Path):
    snapshot_at(bench, HERE, tmp_path)
    more(bench)
    bench.log.delete_records(Place(CDRS, HERE), bench.last_record(Place(CDRS, HERE)))
    found = audited(bench, snapshots=True)[HERE]
    assert "the snapshot is older still" in (found.cannot or "")


def test_outputs_gone_by_retention_are_passed_over_and_counted(bench: Bench):
    offsets = [int(offset) for offset in bench.records(RATED, HERE).offsets]
    cut = len(offsets) // 2
    bench.log.delete_records(Place(RATED, HERE), offsets[cut])
    found = audited(bench)[HERE]
    assert (found.ok, found.gone) == (True, cut), found
    bench.rewrite(RATED, HERE, offsets[-1], lambda key, value: (key, changed(value, rb'"charge_micros":(\d)')))
    names_place(difference(bench), RATED, offsets[-1])


# ------------------------------------------------------------------------------------------------ beside live workers


def test_it_may_run_beside_a_worker(bench: Bench):
    """A worker commits batch after batch while the audit reads."""

    async def both() -> list[PartitionAudited]:
        scope = Scope(
            log=bench.log, names=bench.names, partitions=2, rules=bench.rules(), sleep=lambda _: asyncio.sleep(0.02),
            group=APP, tries=200,
        )  # fmt: skip
        bench.log.broker.step = pause
        bench.send(CDRS, calls(100, first=180), each=2)
        _, found = await asyncio.gather(bench.work(), audit(scope, range(2)))
        return found

    async def pause(_name: str) -> None:
        await asyncio.sleep(0)

    before = len(bench.values(JOURNAL, HERE))
    found = asyncio.run(both())
    assert [one.difference for one in found] == [None, None]
    assert len(bench.values(JOURNAL, HERE)) > before


# ------------------------------------------------------------------------------------------------ the command line


USAGE = [
    (["audit"], "audit what?"),
    (["audit", "--rates", "rates"], "audit what?"),
    (["audit", "--state", "s.db"], "files need both: --state FILE and --out FOLDER"),
    (["audit", "--out", "out"], "files need both: --state FILE and --out FOLDER"),
    (["audit", "--state", "s.db", "--out", "out", "--bootstrap", "localhost:9092"], "--bootstrap goes with topics"),
    (["audit", "--out", "out", "--partition", "0"], "--partition goes with topics"),
    (["audit", "--state", "s.db", "--out", "out", "--app-id", "a"], "--app-id goes with topics"),
    (["audit", "--state", "s.db", "--out", "out", "--state-dir", "x"], "--state-dir goes with topics"),
    (["audit", "--state", "s.db", "--out", "out", "--config", "x.toml"], "--config goes with topics"),
    (["audit", "--bootstrap", "localhost:9092"], "RATER_RATES is not set"),
    (["audit", "--bootstrap", "localhost"], "--bootstrap is 'localhost'; expected host:port"),
    (["audit", "--bootstrap", "localhost:9092", "--rates", "nowhere"], "--rates is 'nowhere'; expected a folder"),
    (["audit", "--bootstrap", "localhost:9092", "--partition", "one"], "--partition"),
]


@pytest.mark.parametrize(("args", "told"), USAGE, ids=[" ".join(args) for args, _ in USAGE])
def test_wrong_combinations_are_refused_with_a_sentence(args: list[str], told: str, monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in os.environ if name.startswith("RATER_") and name != "RATER_CACHE_DIR"]:
        monkeypatch.delenv(name)
    assert told in refused(front(*args))


def test_what_was_found_is_told_partition_by_partition_with_totals(honest: Bench, bench: Bench):
    tamper(bench, RATED, rb'"charge_micros":(\d)')
    whole, tampered = audit_object(audited(honest)), audit_object(audited(bench))
    assert (whole["ok"], tampered["ok"]) == (True, False)
    assert whole["batches"] == sum(one["batches"] for one in whole["partitions"])
    assert whole["balance_micros"] == {"USD": sum(one["balance_micros"]["USD"] for one in whole["partitions"])}
    assert [one["ok"] for one in tampered["partitions"]] == [True, False]
    assert RATED in tampered["partitions"][HERE]["difference"]


def test_the_table_names_what_differs_before_everything_else(bench: Bench, capsys: pytest.CaptureFixture[str]):
    offset = tamper(bench, RATED, rb'"charge_micros":(\d)')
    show_partitions_audited(audit_object(audited(bench)))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"partition {HERE} does not agree: {RATED}-{HERE} offset {offset}")
    assert any(line.split()[-1:] == ["agrees"] for line in lines)
    assert any(line.split()[-1:] == ["differs"] for line in lines)
    assert lines[-1] == "The topics do not agree with the replay"
