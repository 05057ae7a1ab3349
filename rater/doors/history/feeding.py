"""Lines of a feed -> the rows of a batch. A line that is no row is set aside with its reason, and the feed goes on."""

import logging
from collections.abc import Iterable

from rater.doors.history.store import EVENTS, RATED, Batch, Partition, SetAside
from rater.usage.rows import NewerVersion, NotARow, call_row, event_row

RAW_BYTES_MAX = 1 << 20

log = logging.getLogger(__name__)


def add_lines(batch: Batch, partition: Partition, lines: Iterable[tuple[int, bytes]]) -> None:
    """`lines`: (place, line without its line feed), in order. Raises `NewerVersion`: then nothing may be passed over."""
    topic, part = partition
    rows, read = {RATED: (batch.calls, call_row), EVENTS: (batch.events, event_row)}[topic]
    feed, keep = batch.feed, rows.append
    for place, line in lines:
        try:
            keep(read(line, feed, part, place))
        except NewerVersion as newer:
            raise NewerVersion(
                f"{topic}-{part} place {place}: {newer}; upgrade rater here before the workers, nothing was lost"
            ) from None
        except NotARow as wrong:
            about = {"event": "set_aside", "partition": part, "offset": place, "reason": str(wrong)}
            log.error("%s-%s place %s: set aside: %s", topic, part, place, wrong, extra=about)
            batch.aside.append(SetAside(topic, part, place, str(wrong), line[:RAW_BYTES_MAX]))
