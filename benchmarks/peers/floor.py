"""The floor: what any exactly-once program in Python has to do for a record, without rating it.

aiokafka, a record at a time: `getmany`, decode, encode, send; one transaction a batch, offsets inside.
"""

import asyncio
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from benchmarks.peers.clock import Clock, through

BATCH_RECORDS = 6_000


async def run(bootstrap: str, source: str, target: str, partitions: int, records: int) -> None:
    group = f"group-of-{target}"
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False, isolation_level="read_committed"
    )
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=target, max_batch_size=256 << 10)
    places = [TopicPartition(source, partition) for partition in range(partitions)]
    await producer.start()
    await consumer.start()
    consumer.assign(places)
    await consumer.seek_to_beginning(*places)
    clock, enough = Clock(records), False
    while not enough:
        found = await consumer.getmany(timeout_ms=1000, max_records=BATCH_RECORDS)
        if not found:
            continue
        clock.begin()
        async with producer.transaction():
            for place, messages in found.items():
                for message in messages:
                    await producer.send(target, through(message.value), message.key, partition=place.partition)
            following = {place: messages[-1].offset + 1 for place, messages in found.items()}
            await producer.send_offsets_to_transaction(following, group)
        enough = clock.note(sum(map(len, found.values())))
    clock.report()
    await consumer.stop()
    await producer.stop()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])))
