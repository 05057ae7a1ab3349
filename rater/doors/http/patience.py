"""How the server deals with connections: how long a client may take to ask, how much it may send, and how many packets an answer is.

Who sends half a request, or a byte now and then, is not waited for. The server closes a connection that is idle after an answer; one that
has sent nothing yet, or the beginning of a request, it would keep for ever, and 256 such connections would keep everybody out. It would
also keep headers that never end, in memory. A body that does not come is ended by the gate, with the time of every request.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADERS_S = 10.0  # from the connection, or from the first byte of a request after an answer, to the end of its headers
HEAD_BYTES_MAX = 32 << 10  # of an address and headers that have not ended; of those that have, the gate judges
GATHERED_BYTES_MAX = 32 << 10


class Patient(HttpToolsProtocol):
    """The server's protocol with a clock, and a bound, on requests whose headers are not complete."""

    headers_s = HEADERS_S

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._clock: asyncio.TimerHandle | None = None
        self._in_head = False  # a request has begun, its headers have not ended
        self._in_body = False  # its headers have ended, it has not
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(Gathering(transport, self.loop))  # type: ignore[arg-type]
        self._wind()

    def data_received(self, data: bytes) -> None:
        was_in_head = self._in_head
        super().data_received(data)
        if (
            was_in_head and self._in_head and not self.transport.is_closing()
        ):  # what came with the end of a request before is one read at most
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self.send_400_response(f"more than {HEAD_BYTES_MAX} bytes of headers")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        if self._clock is None and not self._answering():
            self._wind()

    def on_headers_complete(self) -> None:
        self._in_head, self._in_body = False, True
        self._stop()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._in_body and not self._answering():  # answered before it was asked: nobody waits for the rest
            self.transport.close()
        if self._in_head and self._clock is None and not self._answering():  # it was sent along with the one before
            self._wind()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def _answering(self) -> bool:
        """The headers of a request are complete, and its answer is not."""
        return self.cycle is not None and not self.cycle.response_complete

    def _wind(self) -> None:
        self._clock = self.loop.call_later(self.headers_s, self._too_slow)

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _too_slow(self) -> None:
        """Without an answer: there is no request yet that could be answered."""
        self._clock = None
        if not self._answering():
            self.transport.close()


class Gathering:
    """A transport that sends what is written in one turn of the loop at once: an answer's headers and its short body are one packet."""

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._parts: list[bytes] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)
        self._size += len(data)
        if self._size > GATHERED_BYTES_MAX:  # so that the transport can say when it has enough
            self._flush()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._parts:
            gathered = b"".join(self._parts)
            self._parts.clear()
            self._size = 0
            self._transport.write(gathered)
