"""Three witnesses of how far a partition has come: the group's offsets, the last journal line, the state's watermark.

They are written in one transaction, so they agree, always. Where they do not, something that rater cannot undo has
happened (an operator moved offsets, a topic was restored from a backup, a transaction was torn), and rating on would lose
calls or charge them twice.
"""

from dataclasses import dataclass

from rater.doors.kafka.changelog import Watermark


@dataclass(frozen=True, slots=True)
class JournalEnd:
    """What the last line of a journal says."""

    batch: int
    next_cdr: int
    next_command: int
    state_digest: str
    digest: str  # of the line itself


@dataclass(frozen=True, slots=True)
class GroupOffsets:
    """The consumer group's offsets; None where it has none."""

    cdrs: int | None
    commands: int | None


NO_OFFSETS = GroupOffsets(None, None)


@dataclass(frozen=True, slots=True)
class Names:
    """What the sentences call things."""

    group: str
    partition: int
    cdrs: str = "cdrs"
    commands: str = "account-commands"


def never_started(watermark: Watermark | None, journal: JournalEnd | None, group: GroupOffsets) -> bool:
    """Nobody has ever rated this partition."""
    return watermark is None and journal is None and group == NO_OFFSETS


def disagreement(
    watermark: Watermark | None, journal: JournalEnd | None, group: GroupOffsets, names: Names
) -> str | None:
    """None where all three agree; else a sentence: who disagrees, by how much, and how to put it right."""
    where = f"partition {names.partition}"
    if watermark is None or journal is None:
        there = [name for name, found in (("the state", watermark), ("the journal", journal)) if found is not None]
        there += ["the group's offsets"] if group != NO_OFFSETS else []
        missing = [name for name, found in (("the state", watermark), ("the journal", journal)) if found is None]
        return (
            f"{where}: {' and '.join(there)} exist{'s' if len(there) == 1 and group == NO_OFFSETS else ''}, but {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} empty: topics were deleted or restored. Restore them from a backup; a new "
            "beginning needs a new RATER_APP_ID and a new RATER_TOPIC_PREFIX"
        )
    between = _between(watermark, journal)
    if between:
        return f"{where}: {between}. Which of the two is right, `rater audit --bootstrap` says"
    for topic, expected, found in (
        (names.cdrs, watermark.next_cdr, group.cdrs),
        (names.commands, watermark.next_command, group.commands),
    ):
        if found != expected:
            return f"{where}: {_offset_sentence(topic, expected, found, names)}"
    return None


def _between(watermark: Watermark, journal: JournalEnd) -> str | None:
    if watermark.batch != journal.batch:
        ahead = "the journal" if journal.batch > watermark.batch else "the state"
        far = abs(journal.batch - watermark.batch)
        return (
            f"{ahead} is {far} {'batch' if far == 1 else 'batches'} ahead: the state stands at batch {watermark.batch}, "
            f"the journal at {journal.batch}"
        )
    pairs = (
        ("next call record", watermark.next_cdr, journal.next_cdr),
        ("next command", watermark.next_command, journal.next_command),
        ("state digest", watermark.state_digest, journal.state_digest),
        ("journal digest", watermark.journal_digest, journal.digest),
    )
    for what, state, line in pairs:
        if state != line:
            return f"after batch {watermark.batch} the state says {what} {state}, the journal {line}"
    return None


def _offset_sentence(topic: str, expected: int, found: int | None, names: Names) -> str:
    repair = (
        f"stop the workers and set it back: kafka-consumer-groups.sh --group {names.group} --reset-offsets "
        f"--topic {topic}:{names.partition} --to-offset {expected} --execute"
    )
    if found is None:
        return (
            f"the group {names.group} has no offset for {topic}, state and journal say {expected}: it expired or was deleted; "
            + repair
        )
    far = abs(found - expected)
    which = (
        f"{far} behind: rating on would charge calls twice" if found < expected else f"{far} ahead: calls would be lost"
    )
    return f"the group's offset for {topic} is {found}, state and journal say {expected}: {which}; {repair}"
