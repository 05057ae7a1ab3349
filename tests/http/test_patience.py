"""Clients that are slow on purpose, against the server itself: half a request, a byte now and then, nothing at all."""

import asyncio
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from rater.doors.http.gate import Gate, Limits
from rater.doors.http.patience import Patient
from rater.doors.metric_groups import new_registry
from rater.doors.metrics_api import ApiMetrics

PATIENCE_S = 0.3
PAUSE_S = 0.03  # long enough to hear of a refusal before more is sent
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Hurried(Patient):
    headers_s = PATIENCE_S


async def page(_scope: Any, receive: Any, send: Any) -> None:
    """Answers when the body is there; /slow takes longer than the headers may."""
    while (await receive()).get("more_body"):
        pass
    if _scope["path"] == "/slow":
        await asyncio.sleep(3 * PATIENCE_S)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@contextmanager
def served(protocol: type[Patient], timeout_s: float = 30.0) -> Iterator[int]:
    gate = Gate(page, Limits(1_000, timeout_s), ApiMetrics(new_registry()))
    config = uvicorn.Config(gate, port=0, http=protocol, ws="none", lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    with served(Hurried) as found:
        yield found


@pytest.fixture(scope="module")
def calm() -> Iterator[int]:
    """The port of a server that has all the time in the world: what it refuses is not refused for being late."""
    with served(Patient) as found:
        yield found


async def said_until_closed(port: int, *parts: bytes, pause_s: float = PATIENCE_S / 5) -> bytes:
    """What the server answers to these parts, sent one after the other, until it closes the connection: it does, or the test fails."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    said = bytearray()

    async def read() -> None:
        while piece := await reader.read(4_096):
            said.extend(piece)

    reading = asyncio.ensure_future(read())
    try:
        for part in parts:
            if reading.done():
                break
            writer.write(part)
            await asyncio.sleep(pause_s)
        async with asyncio.timeout(30):
            await reading
    except ConnectionError:
        pass
    finally:
        reading.cancel()
        writer.close()
    return bytes(said)


def test_who_sends_nothing_is_not_waited_for(port: int):
    assert asyncio.run(said_until_closed(port)) == b""


def test_who_sends_a_byte_now_and_then_is_not_waited_for(port: int):
    headers = b"GET / HTTP/1.1\r\n" + b"X-Slow: 1\r\n" * 50
    assert asyncio.run(said_until_closed(port, *(headers[k : k + 1] for k in range(len(headers))))) == b""


def test_the_same_holds_for_the_second_request_of_a_connection(port: int):
    said = asyncio.run(said_until_closed(port, REQUEST, b"GET / HTT", b"P/1.1\r\n", *([b"X: 1\r\n"] * 100)))
    assert said.count(b"HTTP/1.1 200") == 1


def test_the_same_holds_for_a_beginning_that_was_sent_along_with_a_request(port: int):
    said = asyncio.run(said_until_closed(port, REQUEST + b"GET / HTT"))
    assert said.count(b"HTTP/1.1 200") == 1


def test_a_request_in_two_pieces_and_an_answer_that_takes_its_time_are_in_order(port: int):
    async def run() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for path in (b"/slow", b"/", b"/slow"):
            writer.write(b"GET " + path + b" HTTP/1.1\r\nHo")
            await asyncio.sleep(PATIENCE_S / 3)
            writer.write(b"st: x\r\n\r\n")
            answer = await reader.readuntil(b"ok")
            assert answer.startswith(b"HTTP/1.1 200")
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" * 1)
        return await reader.read()

    assert asyncio.run(run()).startswith(b"HTTP/1.1 200")


def test_pipelined_requests_are_all_answered(port: int):
    last = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert asyncio.run(said_until_closed(port, REQUEST * 3 + last)).count(b"HTTP/1.1 200") == 4


def test_a_body_that_does_not_come_is_ended_by_the_gate():
    with served(Patient, timeout_s=PATIENCE_S) as port:
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
        said = asyncio.run(said_until_closed(port, head, *([b"x"] * 20)))
    assert said.startswith(b"HTTP/1.1 503")


def test_headers_that_never_end_are_not_kept(calm: int):
    lines = [b"X-More: " + b"x" * 4_000 + b"\r\n"] * 100
    said = asyncio.run(said_until_closed(calm, b"GET / HTTP/1.1\r\nHost: x\r\n", *lines, pause_s=PAUSE_S))
    assert said.startswith(b"HTTP/1.1 400")
    assert said.endswith(b"more than 32768 bytes of headers")


def test_one_header_that_never_ends_is_not_kept(calm: int):
    said = asyncio.run(said_until_closed(calm, b"GET / HTTP/1.1\r\nX: ", *[b"x" * 4_000] * 100, pause_s=PAUSE_S))
    assert said.startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n folded\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_two_servers_could_read_differently_is_refused(calm: int, head: bytes):
    assert asyncio.run(said_until_closed(calm, head)).startswith(b"HTTP/1.1 400")
