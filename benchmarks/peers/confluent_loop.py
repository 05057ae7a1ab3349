"""A loop on confluent-kafka, exactly once: decode, count per tenant, encode, one transaction a batch."""

import sys
from collections import Counter
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.peers.clock import Clock, through

BATCH_RECORDS = 6_000


def run(bootstrap: str, source: str, target: str, partitions: int, records: int) -> None:
    group = f"group-of-{target}"
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False,
                         "auto.offset.reset": "earliest", "isolation.level": "read_committed"})  # fmt: skip
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": target, "linger.ms": 5, "batch.size": 256 << 10,
                         "queue.buffering.max.messages": 200_000})  # fmt: skip
    producer.init_transactions(30)
    consumer.assign([TopicPartition(source, partition, 0) for partition in range(partitions)])
    clock, enough, calls = Clock(records), False, Counter[Any]()
    while not enough:
        messages = consumer.consume(BATCH_RECORDS, 0.2)
        if not messages:
            continue
        clock.begin()
        producer.begin_transaction()
        message: Any
        for message in messages:
            key = message.key()
            calls[key] += 1
            producer.produce(target, through(message.value()), key, message.partition())
        producer.send_offsets_to_transaction(
            consumer.position(consumer.assignment()), consumer.consumer_group_metadata(), 30
        )
        producer.commit_transaction(30)
        enough = clock.note(len(messages))
    clock.report()
    consumer.close()


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
