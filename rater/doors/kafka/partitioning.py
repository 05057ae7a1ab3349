"""Which partition a key belongs to: murmur2 as Kafka's Java producer has it, so that every writer agrees."""

SEED = 0x9747B28C
MULTIPLIER = 0x5BD1E995
WORD = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """The 32 bits of `org.apache.kafka.common.utils.Utils.murmur2`, unsigned."""
    mixed = SEED ^ len(data)
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        word = int.from_bytes(data[at : at + 4], "little") * MULTIPLIER & WORD
        word = (word ^ word >> 24) * MULTIPLIER & WORD
        mixed = (mixed * MULTIPLIER & WORD) ^ word
    if whole < len(data):
        mixed = (mixed ^ int.from_bytes(data[whole:], "little")) * MULTIPLIER & WORD
    mixed = (mixed ^ mixed >> 13) * MULTIPLIER & WORD
    return mixed ^ mixed >> 15


def partition_of(tenant: bytes, partitions: int) -> int:
    """Where a producer with the default partitioner puts the records of a tenant, their key."""
    return (murmur2(tenant) & 0x7FFFFFFF) % partitions
