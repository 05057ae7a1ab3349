"""Quix Streams, exactly once: decode, count per tenant in its state (RocksDB and a changelog), encode."""

import sys
import tempfile
from typing import Any

from quixstreams import Application  # type: ignore[import-not-found]  # installed only for a comparison

from benchmarks.peers.clock import Clock, through


def run(bootstrap: str, source: str, target: str, records: int) -> None:
    clock = Clock(records)

    def count(value: bytes, state: Any) -> bytes:
        clock.begin()
        state.set("calls", state.get("calls", 0) + 1)
        clock.note(1)
        return through(value)

    with tempfile.TemporaryDirectory(prefix="rater-bench-quix-") as folder:
        app = Application(
            broker_address=bootstrap, consumer_group=f"group-of-{target}", auto_offset_reset="earliest",
            processing_guarantee="exactly-once", commit_interval=0.1, state_dir=folder, loglevel="WARNING",
            producer_extra_config={"batch.size": 256 << 10, "queue.buffering.max.messages": 200_000},
        )  # fmt: skip
        frame = app.dataframe(app.topic(source, value_deserializer="bytes", key_deserializer="bytes"))
        frame = frame.apply(count, stateful=True)
        frame.to_topic(app.topic(target, value_serializer="bytes", key_serializer="bytes"))
        app.run(count=records, timeout=60)
        clock.report()


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[5]))
