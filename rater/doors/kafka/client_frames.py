"""What a broker answers, read from the socket straight into the memory it is decoded from, and decoded as soon as it is whole.

aiokafka reads through an `asyncio.StreamReader`: each quarter of a megabyte that the socket gives is appended to one buffer, reading
stops and goes on again around it, an answer is copied out of that buffer, and its records are copied out of the answer; a task
of its own waits for four bytes, and then for the rest. Of a fetch of two megabytes nothing is copied here but the records, once,
and an answer costs no turn of the loop beside the one in which its last byte came.
"""

import asyncio
import io
import struct
import types
import weakref
from collections.abc import Callable
from typing import Any

import aiokafka.conn
from aiokafka.conn import AIOKafkaConnection

SIZE = struct.Struct(">i")  # before each answer
SMALL_BYTES = 1 << 16  # answers up to this, with their size, are taken from one buffer, as many as have come
KEPT_BYTES = 4 << 20  # memory for larger ones stays from one to the next up to this
FRAME_BYTES_MAX = 1 << 29  # what says it is longer is no answer of a broker

Frame = bytes | memoryview
Handle = Callable[[Frame], None]


class Frames(asyncio.BufferedProtocol):
    """The protocol of a connection: gives every answer to `handle`, in order; a large one as a view that holds until it returns.

    `streams` is the protocol that was there before; the connection's writer hears from it when to wait, and its owner of the end.
    `ended` is done when nothing more will come; its result says why, where it was not just the end.
    """

    def __init__(self, streams: asyncio.StreamReaderProtocol, handle: Handle) -> None:
        self._streams, self._handle = streams, handle
        self._small = memoryview(bytearray(SMALL_BYTES))
        self._start = self._end = 0  # what of it has come and was not taken yet
        self._large = memoryview(bytearray(0))
        self._target: memoryview | None = None  # the large answer that is coming, and how much of it is there
        self._filled = 0
        self.ended: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def at_eof(self) -> bool:
        """What a connection asks of its reader."""
        return self.ended.done()

    # --- as the protocol of a transport ----------------------------------------------------------------------------

    def get_buffer(self, _sizehint: int) -> memoryview:
        if self._target is not None:
            return self._target[self._filled :]
        if self._end == SMALL_BYTES:  # and something of it was taken, or an answer would be whole
            there = self._end - self._start
            self._small[:there] = bytes(self._small[self._start : self._end])
            self._start, self._end = 0, there
        return self._small[self._end :]

    def buffer_updated(self, nbytes: int) -> None:
        if self.ended.done():
            self._start = self._end = self._filled = 0  # of no interest
            return
        try:
            if self._target is None:
                self._end += nbytes
                self._take_small()
            else:
                self._filled += nbytes
                self._take_large(self._target)
        except Exception as problem:  # an answer that cannot be read: nothing behind it can
            self._end_with(problem)

    def _take_small(self) -> None:
        while (there := self._end - self._start - SIZE.size) >= 0:
            (size,) = SIZE.unpack_from(self._small, self._start)
            if not 0 <= size <= FRAME_BYTES_MAX:
                raise ConnectionError(
                    f"an answer of {size} bytes is announced; whoever listens there is no Kafka broker"
                )
            begin = self._start + SIZE.size
            if size > SMALL_BYTES - SIZE.size:
                self._target, self._filled = self._room(size), there
                self._target[:there] = self._small[begin : self._end]
                self._start = self._end = 0
                return
            if there < size:
                return
            self._start = begin + size
            self._handle(bytes(self._small[begin : self._start]))
        if self._start == self._end:
            self._start = self._end = 0

    def _take_large(self, target: memoryview) -> None:
        if self._filled == len(target):
            self._target = None
            self._handle(target)

    def _room(self, size: int) -> memoryview:
        if size > KEPT_BYTES:
            return memoryview(bytearray(size))
        if len(self._large) < size:
            self._large = memoryview(bytearray(1 << (size - 1).bit_length()))
        return self._large[:size]

    def eof_received(self) -> bool | None:
        self._end_with(None)
        return self._streams.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_with(exc)
        self._streams.connection_lost(exc)

    def _end_with(self, problem: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(problem)

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


def as_file(frame: Frame) -> io.BytesIO | Cursor:
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
        held = weakref.ref(self)  # whoever drops a connection without closing it gets rid of it, as in aiokafka

        def handle(frame: Frame) -> None:
            connection = held()
            if connection is not None and connection._writer is not None:
                connection._handle_frame(frame)

        self._reader = Frames(self._protocol, handle)
        self._writer.transport.set_protocol(self._reader)
        return super()._create_reader_task()

    @staticmethod
    async def _read(held: Callable[[], "FramedConnection | None"]) -> None:
        """Ends when the connection does: aiokafka closes it then, and fails what was asked and not answered."""
        connection = held()
        if connection is None:
            return
        ended = connection._reader.ended
        del connection
        raise await ended or asyncio.IncompleteReadError(b"", SIZE.size)


async def create_conn(host: str, port: int, **arguments: Any) -> FramedConnection:
    """In place of `aiokafka.conn.create_conn`."""
    connection = FramedConnection(host, port, **arguments)
    await connection.connect()
    return connection
