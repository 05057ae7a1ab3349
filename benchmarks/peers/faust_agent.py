"""A Faust agent: decode, count per tenant in a table (memory and a changelog), encode, send. At least once, or exactly once."""

import os
import sys
import tempfile
from typing import Any

import faust

from benchmarks.peers.clock import Clock, through


def make_app(bootstrap: str, source: str, target: str, partitions: int, records: int, guarantee: str) -> faust.App:
    app = faust.App(
        f"group-of-{target}", broker=f"kafka://{bootstrap}", processing_guarantee=guarantee, topic_partitions=partitions,
        topic_replication_factor=1, topic_allow_declare=True, topic_disable_leader=True, web_enabled=False, store="memory://",
        consumer_auto_offset_reset="earliest", broker_commit_interval=0.1, producer_max_batch_size=256 << 10,
        datadir=tempfile.mkdtemp(prefix="rater-bench-faust-"), autodiscover=False,
    )  # fmt: skip
    plain: dict[str, Any] = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
    calls, out = app.topic(source, **plain), app.topic(target, **plain)
    table = app.Table("calls", default=int, partitions=partitions, key_type=str, value_type=int)
    clock = Clock(records)

    async def count(stream: Any) -> None:
        async for event in stream.events():
            clock.begin()
            table[event.key.decode()] += 1
            await out.send(key=event.key, value=through(event.value), partition=event.message.partition)
            if clock.note(1):
                clock.report()
                os._exit(0)  # what was measured has been said; a stop would wait for a thread or two

    app.agent(calls)(count)
    return app


if __name__ == "__main__":
    bootstrap, source, target, partitions, records, guarantee = sys.argv[1:7]
    app = make_app(bootstrap, source, target, int(partitions), int(records), guarantee)
    sys.argv = ["faust", "worker", "-l", "error", "--without-web"]
    app.main()
