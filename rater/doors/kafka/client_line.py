"""A connection on which a thread asks, and waits for the answer itself: no turn of an event loop lies between the two.

A transaction is three questions one after the other, up to fifty times a second in each partition. On the event loop each of them
waits for its turn, twice, behind whatever else of the process is to be done.

What is said is what aiokafka says: its requests, its choice of versions, its authentication.
"""

import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from aiokafka import errors
from aiokafka.conn import AIOKafkaConnection

from rater.doors.kafka.client_frames import FRAME_BYTES_MAX, SIZE, as_file
from rater.doors.kafka.client_requests import Pieces

READ_BYTES = 1 << 16
REST_S = 1.0  # after that long it is looked whether the broker has hung up
IDLE_S = 540.0  # after that long it has, or will, or something between has forgotten the connection
PIECES_MAX = 1024  # the system takes no more at once (IOV_MAX)

Result = TypeVar("Result")


class AtOnce:
    """In place of an event loop, for aiokafka's authenticators: this thread does what they would hand to another."""

    async def run_in_executor(self, _executor: None, work: Callable[..., Result], *arguments: Any) -> Result:
        return work(*arguments)


def driven(steps: Coroutine[Any, Any, Result]) -> Result:
    """The result of a coroutine that never waits for an event loop."""
    try:
        steps.send(None)
    except StopIteration as end:
        result: Result = end.value
        return result
    steps.close()
    raise RuntimeError(f"{steps} waits for an event loop, and there is none in this thread")


class Line(AIOKafkaConnection):  # type: ignore[misc]  # aiokafka has no types
    """Made on an event loop, used by one thread at a time; only `interrupt` is for others.

    `arguments` are those of aiokafka's connection. Every wait ends after its request's time-out.
    """

    def __init__(self, host: str, port: int, **arguments: Any) -> None:
        super().__init__(host, port, **arguments)
        self._loop = AtOnce()
        self._socket: socket.socket | None = None
        self._guard, self._interrupted = threading.Lock(), False
        self._asked: tuple[int, Any] | None = None  # the number of the question that is open, and the question
        self._used = 0.0

    def ready(self) -> None:
        """Connected and let in. Nothing was asked where this raises `OSError` or `KafkaError`."""
        rested = time.monotonic() - self._used
        if self._socket is not None and (rested > IDLE_S or (rested > REST_S and not self._alive(self._socket))):
            self.close()
        if self._socket is None:
            self._open()

    def ask(self, request: Any) -> Any:
        self.tell(request)
        return self.hear()

    def tell(self, request: Any) -> None:
        """Ask; one question at a time. Whatever this raises, it may have been heard."""
        assert self._asked is None
        asked = request.prepare(self._versions)
        number = self._next_correlation_id()
        head = asked.build_request_header(correlation_id=number, client_id=self._client_id).encode()
        body = asked.encode()
        pieces = [head, *(body.pieces if isinstance(body, Pieces) else [body])]
        self._asked = number, asked
        with self._told():
            self._send([SIZE.pack(sum(map(len, pieces))), *pieces])

    def hear(self) -> Any:
        """The answer to what was told. Raises `RequestTimedOutError`, or another `KafkaError` when the connection is of no use."""
        assert self._asked is not None
        number, asked = self._asked
        with self._told():
            frame = as_file(self._frame())
            header = asked.parse_response_header(frame)
            if header.correlation_id != number:
                raise errors.CorrelationIdError(f"asked as {number}, answered as {header.correlation_id}")
            answer = asked.RESPONSE_TYPE.decode(frame)
        self._asked, self._used = None, time.monotonic()
        return answer

    def interrupt(self) -> None:
        """Whoever waits here is told so now, and nothing will ever be asked here again."""
        with self._guard:
            self._interrupted = True
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def close(self, **_why: Any) -> None:
        """Hang up; `ready` may connect anew."""
        with self._guard:
            gone, self._socket, self._asked = self._socket, None, None
        if gone is not None:
            gone.close()

    async def send(self, request: Any) -> Any:
        """As aiokafka's own methods ask: for its versions, and to be let in."""
        return self.ask(request)

    # ------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        self._use(socket.create_connection((self._host, self._port), self._request_timeout))
        try:
            assert self._socket is not None
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._security_protocol in ("SSL", "SASL_SSL"):
                self._use(self._ssl_context.wrap_socket(self._socket, server_hostname=self._host))
            self._versions: dict[int, tuple[int, int]] = {}
            driven(self._do_version_lookup())
            if self._security_protocol in ("SASL_SSL", "SASL_PLAINTEXT"):
                driven(self._do_sasl_handshake())
        except BaseException:
            self.close()
            raise

    def _use(self, connected: socket.socket) -> None:
        with self._guard:
            self._socket = connected
            if not self._interrupted:
                return
        self.close()
        raise errors.KafkaConnectionError(f"{self._host}:{self._port}: told to stop while connecting")

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """The connection is of no use after a problem: an answer may still be on its way."""
        try:
            yield
        except BaseException as problem:
            self.close()
            if isinstance(problem, TimeoutError):
                raise errors.RequestTimedOutError() from problem
            if isinstance(problem, OSError | ValueError):
                raise errors.KafkaConnectionError(f"{self._host}:{self._port}: {problem}") from problem
            raise

    def _send(self, pieces: list[bytes]) -> None:
        there = self._connected()
        if isinstance(there, ssl.SSLSocket) or len(pieces) > PIECES_MAX:
            there.sendall(b"".join(pieces))
            return
        sent = there.sendmsg(pieces)
        if sent < sum(map(len, pieces)):
            there.sendall(memoryview(b"".join(pieces))[sent:])

    def _frame(self) -> bytes:
        """An answer without its size. Nothing else can come behind it."""
        there, read = self._connected(), bytearray()
        while len(read) < SIZE.size or len(read) < SIZE.size + self._size(read):
            some = there.recv(READ_BYTES)
            if not some:
                raise ConnectionError("the broker hung up")
            read += some
        return bytes(read[SIZE.size :])

    @staticmethod
    def _size(read: bytearray) -> int:
        size: int = SIZE.unpack_from(read)[0]
        if not 0 <= size <= FRAME_BYTES_MAX:
            raise ConnectionError(f"an answer of {size} bytes is announced; whoever listens there is no Kafka broker")
        return size

    def _connected(self) -> socket.socket:
        there = self._socket
        if there is None:
            raise ConnectionError("not connected")
        return there

    def _alive(self, there: socket.socket) -> bool:
        """Nothing has come: neither the end, nor what nobody asked for (TLS may have said something of its own)."""
        if not isinstance(there, ssl.SSLSocket):
            look = select.poll()
            look.register(there, select.POLLIN)
            return not look.poll(0)
        there.settimeout(0)
        try:
            there.recv(1)
        except ssl.SSLWantReadError:
            return True
        except OSError:
            return False
        finally:
            there.settimeout(self._request_timeout)
        return False
