"""One batch through everything a worker compiles, without a broker: records in, outputs, changelog, and a restore of it."""

from rater.core.state import State
from rater.doors.kafka.changelog import LAYOUT, RowsRead, Watermark, write_changes
from rater.doors.kafka.log import Block
from rater.doors.kafka.names import Names
from rater.doors.kafka.outputs import write_outcome
from rater.doors.kafka.record_batches import BodyWriter, frame_few, records_from_blocks
from rater.doors.rules import load_rule_book, rates_folder
from rater.pipeline import Batch, decide


def _blocks(values: list[bytes]) -> list[Block]:
    return [Block(0, count, count, body, 0) for body, count in frame_few([(b"warm", value, ()) for value in values])]


def rehearse(commands: list[bytes], calls: list[bytes]) -> None:
    """Decide, write and read back; what it comes to is of no interest."""
    book = load_rule_book(rates_folder() / "example-usd")
    state = State.empty()
    (given, _), (called, _) = records_from_blocks(_blocks(commands), 0), records_from_blocks(_blocks(calls), 0)
    outcome = decide(state, book.rules, Batch(0, given, called, home=lambda _tenant: 0))
    writer = BodyWriter(bytes)
    write_outcome(outcome, 0, Names("warm"), writer)
    mark = Watermark(0, 1, 1, 1, "", "", state.row_counts(), state.free_rows(), 0, bytes(16).hex(), (), "", LAYOUT)
    read = RowsRead(None, "rehearsal")
    for body, count in write_changes(state, mark, writer):
        read.take(records_from_blocks([Block(0, count, count, body, 0)], 0)[0])
    ids = state.fresh_ids().copy()
    again = State.empty()
    read.into(again, mark)
    again.restore_seen(ids)
    again.add_seen(ids[:0])
