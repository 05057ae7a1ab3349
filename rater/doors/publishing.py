"""Publishing of few records: it returns when the brokers have the record, or says that nobody knows."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer, errors

from rater.doors.settings.connection import Connection

log = logging.getLogger("rater.publishing")

CLOSE_S = 5.0


class NotPublished(Exception):
    """The brokers did not confirm a record in time; whether they have it is not known, so the same bytes are published again."""


class Placed(NamedTuple):
    """Where a record lies."""

    partition: int
    offset: int


class Publisher:
    """One producer, opened at the first record and anew after any failure."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._producer: Any = None
        self._opening = asyncio.Lock()

    async def publish(
        self, topic: str, tenant: str, value: bytes, headers: Mapping[str, bytes] | None = None
    ) -> Placed:
        """Returns when every in-sync replica has it. The key is the tenant, the partition Kafka's own (murmur2 of the key).

        Raises `NotPublished`: publish the same bytes again, later; the engine knows a command by its id.
        """
        producer = None
        try:
            async with asyncio.timeout(2 * self._connection.request_timeout_ms / 1000):
                producer = await self._open()
                told = await producer.send_and_wait(
                    topic, value, key=tenant.encode(), headers=list((headers or {}).items())
                )
                return Placed(int(told.partition), int(told.offset))
        except (TimeoutError, errors.KafkaError, OSError) as problem:
            await self._drop(producer)
            raise NotPublished(f"{topic}: not confirmed by the brokers ({type(problem).__name__}: {problem})") from None

    async def close(self) -> None:
        await self._drop(self._producer)

    async def _open(self) -> Any:
        async with self._opening:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **self._connection.client_arguments(),
                    acks="all",
                    enable_idempotence=True,
                    request_timeout_ms=self._connection.request_timeout_ms,
                )
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer

    async def _drop(self, producer: Any) -> None:
        """After any failure a new one: an idempotent producer that has lost a batch refuses all that follow. Only the one that
        failed: another record may have opened the next already."""
        if producer is None or producer is not self._producer:
            return
        self._producer = None
        try:
            async with asyncio.timeout(CLOSE_S):
                await producer.stop()
        except Exception as problem:
            log.debug("closing a producer: %s", problem)
