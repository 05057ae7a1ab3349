"""I10, state = log: the rows that compaction leaves of `rater-state` are those an independent replay gives, byte for byte."""

import re
from collections.abc import Iterator

from tests.kafka.checker_batch import Books
from tests.kafka.checker_layout import fields_of
from tests.kafka.checker_model import STATE, Record, Row, Violation, same, strict_object

ROW_KEY = re.compile(rb"([a-z]+)/(0|[1-9][0-9]*)")
KEY_BYTES = re.compile(r"[0-9a-f]{32}")
FIRST_TOLD = 5  # rows of a shelf: what is wrong with one is often wrong with all


def meta_row(meta: Record) -> Row:
    try:
        return strict_object(meta.value)
    except (ValueError, RecursionError):
        return {}


def i10_state(books: Books, meta: Record | None, found: dict[bytes, Record]) -> Iterator[Violation]:
    """What the watermark counts, and each row. `found`: the newest record of each key."""
    if meta is None or books.last is None:
        return
    row, rows = meta_row(meta), books.twin.rows
    for what, wanted in (("rows", rows.counts()), ("free", rows.first_free()), ("ids", books.seen_count)):
        if not same(wanted, row.get(what)):
            yield Violation(
                "I10", f"{what} of the state", STATE, meta.partition, meta.offset, "", wanted, row.get(what)
            )
    key = row.get("key")
    if not isinstance(key, str) or not KEY_BYTES.fullmatch(key):
        yield Violation("I10", "the key of the hashes", STATE, meta.partition, meta.offset, "", "32 hex digits", key)
        return
    left = dict(found)
    for shelf, expected in rows.bytes(bytes.fromhex(key)).items():
        different = 0
        for number, wanted_bytes in enumerate(expected):
            record = left.pop(b"%s/%d" % (shelf.encode(), number), None)
            if record is None or record.value != wanted_bytes:
                different += 1
                if different <= FIRST_TOLD:
                    yield about_row(meta, shelf, number, wanted_bytes, record)
        if different > FIRST_TOLD:
            yield Violation("I10", f"{different} rows of {shelf} are not those of the replay", STATE, meta.partition)
    yield from beyond(left)


def about_row(meta: Record, shelf: str, number: int, wanted: bytes, record: Record | None) -> Violation:
    if record is None:
        what = f"row {number} of {shelf} is not in the changelog"
        return Violation("I10", what, STATE, meta.partition, -1, "", fields_of(shelf, wanted), "nothing")
    here, there = fields_of(shelf, wanted) or {}, fields_of(shelf, record.value or b"")
    if there is None:
        what, expected, other = f"row {number} of {shelf} is too long", len(wanted), len(record.value or b"")
        return Violation("I10", what, STATE, record.partition, record.offset, "", expected, other)
    names = [name for name in here if here[name] != there[name]]
    what = f"row {number} of {shelf}: {', '.join(names) or 'bytes between the fields'}"
    return Violation("I10", what, STATE, record.partition, record.offset, "", {n: here[n] for n in names} or wanted,
                     {n: there[n] for n in names} or record.value)  # fmt: skip


def beyond(left: dict[bytes, Record]) -> Iterator[Violation]:
    """Rows that the replay does not have."""
    for key, record in left.items():
        what = "a row that the replay does not have" if ROW_KEY.fullmatch(key) else "a key that is no row's"
        yield Violation("I10", what, STATE, record.partition, record.offset, "", "nothing", key)
