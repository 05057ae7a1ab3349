"""What a broker answers, read from the socket straight into the memory it is decoded from.

aiokafka reads through an `asyncio.StreamReader`: each quarter of a megabyte that the socket gives is appended to one buffer, reading
stops and goes on again around it, an answer is copied out of that buffer, and its records are copied out of the answer.
Of a fetch of two megabytes nothing is copied here but the records, once. Small answers come several at a time, as they did.
"""

import asyncio
import io
import types
from typing import Any

import aiokafka.conn
from aiokafka.conn import AIOKafkaConnection

SMALL_BYTES = 1 << 16  # answers up to this are taken from one buffer, as many as have come
KEPT_BYTES = 4 << 20  # memory for larger ones stays from one to the next up to this
FRAME_BYTES_MAX = 1 << 29  # what says it is longer is no answer of a broker


class Frames(asyncio.BufferedProtocol):
    """A connection's reader: what `_read` of aiokafka's connection asks of an `asyncio.StreamReader`, and the protocol that fills it.

    `streams` is the protocol that was there before; the connection's writer hears from it when to wait, and its owner of the end.
    """

    def __init__(self, transport: asyncio.Transport, streams: asyncio.StreamReaderProtocol) -> None:
        self._transport, self._streams = transport, streams
        self._small = memoryview(bytearray(SMALL_BYTES))
        self._start = self._end = 0  # what of it has come and was not taken yet
        self._large = memoryview(bytearray(0))
        self._target: memoryview | None = None  # the large answer that is coming, and how much of it is there
        self._filled = 0
        self._wanted = 0
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False
        self._ended = False
        self._problem: Exception | None = None

    # --- as the reader of a connection -----------------------------------------------------------------------------

    async def readexactly(self, size: int) -> bytes | memoryview:
        """The next `size` bytes: `bytes`, or for a large answer a view that holds until the next call.

        Raises `asyncio.IncompleteReadError` at the end of the connection, or what ended it.
        """
        if not 0 <= size <= FRAME_BYTES_MAX:
            raise ConnectionError(f"an answer of {size} bytes is announced; whoever listens there is no Kafka broker")
        return await self._read_small(size) if size <= SMALL_BYTES else await self._read_large(size)

    def at_eof(self) -> bool:
        return self._ended and self._start == self._end

    async def _read_small(self, size: int) -> bytes:
        while self._end - self._start < size:
            await self._wait(size)
        taken = bytes(self._small[self._start : self._start + size])
        self._start += size
        if self._start == self._end:
            self._start = self._end = 0
        self._read_on()
        return taken

    async def _read_large(self, size: int) -> memoryview:
        target, there = self._room(size), self._end - self._start
        target[:there] = self._small[self._start : self._end]
        self._start = self._end = 0
        self._target, self._filled = target, there
        self._read_on()
        try:
            while self._filled < size:
                await self._wait(size)
        finally:
            self._target = None
        return target

    def _room(self, size: int) -> memoryview:
        if size > KEPT_BYTES:
            return memoryview(bytearray(size))
        if len(self._large) < size:
            self._large = memoryview(bytearray(1 << (size - 1).bit_length()))
        return self._large[:size]

    async def _wait(self, size: int) -> None:
        if self._ended:
            raise self._problem or asyncio.IncompleteReadError(b"", size)
        self._wanted, self._waiter = size, asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _read_on(self) -> None:
        if self._paused:
            self._paused = False
            self._transport.resume_reading()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- as the protocol of a transport ----------------------------------------------------------------------------

    def get_buffer(self, _sizehint: int) -> memoryview:
        if self._target is not None and self._filled < len(self._target):
            return self._target[self._filled :]
        if self._end == SMALL_BYTES:  # and something of it was taken, or reading would rest
            there = self._end - self._start
            self._small[:there] = bytes(self._small[self._start : self._end])
            self._start, self._end = 0, there
        return self._small[self._end :]

    def buffer_updated(self, nbytes: int) -> None:
        if self._target is not None and self._filled < len(self._target):
            self._filled += nbytes
            if self._filled == len(self._target):
                self._wake()
            return
        self._end += nbytes
        there = self._end - self._start
        if there >= self._wanted:
            self._wake()
        if there == SMALL_BYTES:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool | None:
        self._end_with(None)
        return self._streams.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_with(exc)
        self._streams.connection_lost(exc)

    def _end_with(self, problem: Exception | None) -> None:
        self._ended, self._problem = True, self._problem or problem
        self._wake()

    def pause_writing(self) -> None:
        self._streams.pause_writing()

    def resume_writing(self) -> None:
        self._streams.resume_writing()


class Cursor:
    """A view as a file that is read once: of all that aiokafka's decoders ask of one."""

    def __init__(self, view: memoryview) -> None:
        self._view, self._at = view, 0

    def read(self, size: int) -> bytes:
        taken = bytes(self._view[self._at : self._at + size])
        self._at += len(taken)
        return taken


def as_file(frame: bytes | memoryview) -> io.BytesIO | Cursor:
    return Cursor(frame) if isinstance(frame, memoryview) else io.BytesIO(frame)


class FramedConnection(AIOKafkaConnection):  # type: ignore[misc]  # aiokafka has no types
    """aiokafka's connection, reading through `Frames`."""

    # The same method; only the file it makes of an answer is another.
    _handle_frame = types.FunctionType(
        AIOKafkaConnection._handle_frame.__code__,
        {**vars(aiokafka.conn), "io": types.SimpleNamespace(BytesIO=as_file)},
    )

    def _create_reader_task(self) -> Any:
        """Called once, when the transport is there and nothing has been asked, so nothing can have come."""
        transport = self._writer.transport
        self._reader = Frames(transport, self._protocol)
        transport.set_protocol(self._reader)
        return super()._create_reader_task()


async def create_conn(host: str, port: int, **arguments: Any) -> FramedConnection:
    """In place of `aiokafka.conn.create_conn`."""
    connection = FramedConnection(host, port, **arguments)
    await connection.connect()
    return connection
