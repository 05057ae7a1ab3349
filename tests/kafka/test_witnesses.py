"""The three witnesses: silence where they agree, and a sentence for every way in which they can disagree."""

from dataclasses import replace

import pytest

from rater.contract.journal import NO_DIGEST
from rater.doors.kafka.changelog import Watermark
from rater.doors.kafka.witnesses import GroupOffsets, JournalEnd, Names, disagreement, never_started

MARK = Watermark(3, 7, 100, 20, "d" * 32, "e" * 32, {}, {}, 5, "00" * 16, (), "")
LINE = JournalEnd(7, 100, 20, "d" * 32, "e" * 32)
GROUP = GroupOffsets(100, 20)
NAMES = Names("rating-eu", 3, "eu.cdrs", "eu.account-commands")


def sentence(mark: Watermark | None = MARK, line: JournalEnd | None = LINE, group: GroupOffsets = GROUP) -> str:
    found = disagreement(mark, line, group, NAMES)
    assert found is not None
    assert found.startswith("partition 3: ")
    return found


def test_witnesses_that_agree_say_nothing():
    assert disagreement(MARK, LINE, GROUP, NAMES) is None


def test_a_partition_without_any_witness_was_never_started():
    assert never_started(None, None, GroupOffsets(None, None))


@pytest.mark.parametrize(
    ("mark", "line", "group"),
    [
        (MARK, None, GroupOffsets(None, None)),
        (None, LINE, GroupOffsets(None, None)),
        (None, None, GroupOffsets(1, None)),
        (None, None, GroupOffsets(None, 0)),
        (MARK, LINE, GroupOffsets(None, None)),
    ],
)
def test_one_witness_is_enough_to_have_started(mark: Watermark | None, line: JournalEnd | None, group: GroupOffsets):
    assert not never_started(mark, line, group)
    assert sentence(mark, line, group)


@pytest.mark.parametrize(
    ("mark", "line", "group", "told"),
    [
        (None, LINE, GROUP, "the journal and the group's offsets exist, but the state is empty"),
        (MARK, None, GROUP, "the state and the group's offsets exist, but the journal is empty"),
        (None, None, GROUP, "the group's offsets exist, but the state and the journal are empty"),
        (MARK, None, GroupOffsets(None, None), "the state exists, but the journal is empty"),
        (None, LINE, GroupOffsets(None, None), "the journal exists, but the state is empty"),
        (None, None, GroupOffsets(None, 4), "the group's offsets exist, but"),
    ],
)
def test_an_empty_topic_is_named_with_what_can_be_done(
    mark: Watermark | None, line: JournalEnd | None, group: GroupOffsets, told: str
):
    found = sentence(mark, line, group)
    assert told in found
    assert "Restore them from a backup" in found
    assert "RATER_APP_ID" in found


@pytest.mark.parametrize(
    ("batch", "told"),
    [
        (8, "the journal is 1 batch ahead: the state stands at batch 7, the journal at 8"),
        (12, "the journal is 5 batches ahead: the state stands at batch 7, the journal at 12"),
        (6, "the state is 1 batch ahead: the state stands at batch 7, the journal at 6"),
        (2, "the state is 5 batches ahead"),
    ],
)
def test_a_torn_transaction_says_who_is_ahead_and_by_how_much(batch: int, told: str):
    found = sentence(line=replace(LINE, batch=batch))
    assert told in found
    assert "`rater audit --bootstrap` says" in found


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (replace(LINE, next_cdr=99), "the state says next call record 100, the journal 99"),
        (replace(LINE, next_command=21), "the state says next command 20, the journal 21"),
        (replace(LINE, state_digest=NO_DIGEST), f"state digest {'d' * 32}, the journal {NO_DIGEST}"),
        (replace(LINE, digest=NO_DIGEST), f"journal digest {'e' * 32}, the journal {NO_DIGEST}"),
    ],
)
def test_state_and_journal_of_one_batch_that_differ_are_shown_side_by_side(line: JournalEnd, told: str):
    found = sentence(line=line)
    assert "after batch 7" in found
    assert told in found


REPAIR = "kafka-consumer-groups.sh --group rating-eu --reset-offsets --topic {}:3 --to-offset {} --execute"


@pytest.mark.parametrize(
    ("group", "topic", "right", "told"),
    [
        (GroupOffsets(97, 20), "eu.cdrs", 100, "is 97, state and journal say 100: 3 behind: rating on would charge"),
        (GroupOffsets(104, 20), "eu.cdrs", 100, "is 104, state and journal say 100: 4 ahead: calls would be lost"),
        (GroupOffsets(None, 20), "eu.cdrs", 100, "has no offset for eu.cdrs, state and journal say 100: it expired"),
        (GroupOffsets(100, 0), "eu.account-commands", 20, "is 0, state and journal say 20: 20 behind"),
        (GroupOffsets(100, None), "eu.account-commands", 20, "has no offset for eu.account-commands"),
        (GroupOffsets(None, None), "eu.cdrs", 100, "has no offset for eu.cdrs"),
    ],
)
def test_a_moved_offset_is_told_with_how_far_and_the_command_that_puts_it_back(
    group: GroupOffsets, topic: str, right: int, told: str
):
    found = sentence(group=group)
    assert told in found
    assert REPAIR.format(topic, right) in found


def test_state_against_journal_is_told_before_the_group():
    """Which offset would be right is not known while those two disagree."""
    assert "--to-offset" not in sentence(line=replace(LINE, batch=9), group=GroupOffsets(0, 0))
