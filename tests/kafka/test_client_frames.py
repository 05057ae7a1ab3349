"""Answers as they come off a socket, in whatever pieces, through `client_frames`: over TCP on loopback and over TLS."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiokafka.conn import AIOKafkaProtocol

from rater.doors.kafka.client_frames import (
    FRAME_BYTES_MAX,
    KEPT_BYTES,
    SIZE,
    SMALL_BYTES,
    Cursor,
    Frame,
    Frames,
    as_file,
)
from tests.kafka.signing import Contexts

Serve = Callable[[asyncio.StreamWriter], Awaitable[None]]
STUCK_S = 10.0


class Heard:
    """A connection's `Frames`, and the answers they gave it."""

    def __init__(self, protocol: AIOKafkaProtocol) -> None:
        self.protocol, self.answers = protocol, asyncio.Queue[bytes]()
        self.frames = Frames(protocol, self.handle)

    def handle(self, frame: Frame) -> None:
        self.answers.put_nowait(bytes(frame))


@asynccontextmanager
async def connected(serve: Serve, tls: Contexts | None = None) -> AsyncIterator[Heard]:
    """A connection as aiokafka makes one, read through `Frames`; nothing here lasts longer than `STUCK_S`."""
    served: set[asyncio.Task[None]] = set()

    def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.add(asyncio.ensure_future(serve(writer)))

    theirs, ours = tls or (None, None)
    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=theirs)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    protocol = AIOKafkaProtocol(loop.create_future(), reader, loop=loop)
    transport, _ = await loop.create_connection(lambda: protocol, *server.sockets[0].getsockname(), ssl=ours)
    heard = Heard(protocol)
    transport.set_protocol(heard.frames)
    _writer = asyncio.StreamWriter(transport, protocol, reader, loop)  # it keeps the reader that was there before alive
    try:
        async with asyncio.timeout(STUCK_S):
            yield heard
    finally:
        transport.abort()
        for task in served:
            task.cancel()
        server.close()


def framed(answer: bytes) -> bytes:
    return SIZE.pack(len(answer)) + answer


def answers(seed: int, count: int) -> list[bytes]:
    draw = random.Random(seed)
    sizes = [0, 1, 3, SMALL_BYTES - 4, SMALL_BYTES, SMALL_BYTES + 1, KEPT_BYTES, KEPT_BYTES + 1]
    sizes += [int(2 ** draw.uniform(0, 20)) for _ in range(count - len(sizes))]
    draw.shuffle(sizes)
    return [draw.randbytes(size) for size in sizes]


def read_all(wanted: list[bytes], serve: Serve, tls: Contexts | None = None) -> list[bytes]:
    async def go() -> list[bytes]:
        async with connected(serve, tls) as heard:
            return [await heard.answers.get() for _ in wanted]

    return asyncio.run(go())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("over", ["plain", "tls"])
def test_answers_of_any_size_in_any_pieces_are_read_in_order(seed: int, over: str, tls: Contexts):
    wanted = answers(seed, 60)
    whole, draw = b"".join(map(framed, wanted)), random.Random(seed)

    async def in_pieces(writer: asyncio.StreamWriter) -> None:
        at = 0
        while at < len(whole):
            size = int(2 ** draw.uniform(0, 22 if seed % 2 else 16))
            writer.write(whole[at : at + size])
            at += size
            if draw.random() < 0.3:
                await writer.drain()
                await asyncio.sleep(0)

    assert read_all(wanted, in_pieces, tls if over == "tls" else None) == wanted


def test_many_small_answers_in_one_packet_are_read_one_by_one():
    wanted = [b"%d" % number for number in range(2_000)]

    async def at_once(writer: asyncio.StreamWriter) -> None:
        writer.write(b"".join(map(framed, wanted)))

    assert read_all(wanted, at_once) == wanted


@pytest.mark.parametrize("there", [0, 2, 4, 5, 4 + SMALL_BYTES, 4 + 2 * SMALL_BYTES])
def test_a_connection_that_ends_within_an_answer_says_so(there: int):
    async def part(writer: asyncio.StreamWriter) -> None:
        writer.write(framed(bytes(3 * SMALL_BYTES))[:there])
        writer.close()

    async def go() -> None:
        async with connected(part) as heard:
            assert not heard.frames.at_eof()
            assert await heard.frames.ended is None
            assert heard.frames.at_eof()
            assert heard.answers.empty()

    asyncio.run(go())


def test_what_came_before_the_end_is_still_heard():
    async def two(writer: asyncio.StreamWriter) -> None:
        writer.write(framed(b"one") + framed(b"two"))
        writer.close()

    async def go() -> None:
        async with connected(two) as heard:
            await heard.frames.ended
            assert [heard.answers.get_nowait(), heard.answers.get_nowait()] == [b"one", b"two"]

    asyncio.run(go())


def test_a_connection_that_is_reset_ends_with_the_reason():
    async def silent(_: asyncio.StreamWriter) -> None:
        """Who listens says nothing more."""

    async def go() -> None:
        async with connected(silent) as heard:
            heard.frames.connection_lost(ConnectionResetError("for good"))
            assert str(await heard.frames.ended) == "for good"
            assert heard.protocol._closed_fut.done()

    asyncio.run(go())


@pytest.mark.parametrize("size", [-1, FRAME_BYTES_MAX + 1, SIZE.unpack(b"HTTP")[0]])
def test_what_no_broker_says_ends_the_connection_and_is_not_waited_for(size: int):
    async def strange(writer: asyncio.StreamWriter) -> None:
        writer.write(framed(b"fine") + SIZE.pack(size) + b"more")

    async def go() -> None:
        async with connected(strange) as heard:
            assert f"an answer of {size} bytes is announced" in str(await heard.frames.ended)
            assert heard.answers.get_nowait() == b"fine"

    asyncio.run(go())


def test_an_answer_that_cannot_be_read_ends_the_connection_and_nothing_behind_it_is_heard():
    async def go() -> None:
        sent = asyncio.Event()

        async def three(writer: asyncio.StreamWriter) -> None:
            writer.write(framed(b"good") + framed(b"bad") + framed(b"behind it"))
            await sent.wait()
            writer.write(framed(bytes(2 * SMALL_BYTES)) + framed(b"later"))

        async with connected(three) as heard:
            put = heard.handle

            def handle(frame: Frame) -> None:
                if frame == b"bad":
                    raise ValueError("no such field")
                put(frame)

            heard.frames._handle = handle
            assert str(await heard.frames.ended) == "no such field"
            sent.set()
            await asyncio.sleep(0.2)  # aiokafka would have closed it by now
            assert heard.answers.get_nowait() == b"good"
            assert heard.answers.empty()

    asyncio.run(go())


def test_memory_for_large_answers_stays_up_to_a_limit():
    sizes = [SMALL_BYTES + 1, KEPT_BYTES - 7, SMALL_BYTES + 9, KEPT_BYTES + 1, SMALL_BYTES + 9]

    async def all_of_them(writer: asyncio.StreamWriter) -> None:
        writer.write(b"".join(framed(bytes([number]) * size) for number, size in enumerate(sizes)))

    async def go() -> list[int]:
        kept = []
        async with connected(all_of_them) as heard:
            put = heard.handle

            def handle(frame: Frame) -> None:
                kept.append(len(heard.frames._large))
                put(frame)

            heard.frames._handle = handle
            for number, size in enumerate(sizes):
                assert await heard.answers.get() == bytes([number]) * size
        return kept

    assert asyncio.run(go()) == [2 * SMALL_BYTES, KEPT_BYTES, KEPT_BYTES, KEPT_BYTES, KEPT_BYTES]


def test_a_view_is_read_like_a_file():
    data = bytes(range(100))
    for file in (as_file(data), as_file(memoryview(data)), Cursor(memoryview(data))):
        assert [file.read(10), file.read(0), file.read(60), file.read(50), file.read(1)] == [
            data[:10], b"", data[10:70], data[70:], b"",
        ]  # fmt: skip
