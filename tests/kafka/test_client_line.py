"""A thread's own connection to a broker (`client_line`), against one that answers in pieces, late, wrongly or not at all."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiokafka import errors
from aiokafka.protocol.admin import ApiVersionResponse_v0

from rater.doors.kafka.client_frames import SIZE
from rater.doors.kafka.client_line import Line
from rater.doors.kafka.client_protocol import End, EndAnswer, Produce
from rater.doors.kafka.log import Place
from tests.kafka.signing import Contexts

STUCK_S = 10.0
END, PRODUCE, VERSIONS = 26, 0, 18
SPOKEN = [(VERSIONS, 0, 3), (END, 0, 5), (PRODUCE, 0, 12)]
ENDED = (0, 0, 77, 3, {})  # the end of a transaction as a broker answers it: producer 77, epoch 3
Answer = Callable[["Told", socket.socket], None]


@dataclass(frozen=True)
class Told:
    """A request as it came."""

    api: int
    number: int
    size: int


def read(there: socket.socket, size: int) -> bytes:
    got = bytearray()
    while len(got) < size:
        some = there.recv(size - len(got))
        if not some:
            raise ConnectionError
        got += some
    return bytes(got)


def framed(number: int, body: bytes, flexible: bool = True) -> bytes:
    answer = number.to_bytes(4, "big") + (b"\0" if flexible else b"") + body
    return SIZE.pack(len(answer)) + answer


def ended(told: Told) -> bytes:
    return framed(told.number, EndAnswer(*ENDED).encode())


def at_once(told: Told, there: socket.socket) -> None:
    there.sendall(ended(told))


@dataclass
class Broker:
    """Says which versions it speaks, and answers the rest as `answer` does; one connection after the other."""

    answer: Answer
    context: ssl.SSLContext | None = None
    told: list[Told] = field(default_factory=list)
    connections: int = 0

    def __post_init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.address = self.listening.getsockname()
        self.serving = threading.Thread(target=self._serve, daemon=True)
        self.serving.start()

    def _serve(self) -> None:
        while True:
            try:
                there, _ = self.listening.accept()
            except OSError:
                return
            self.connections += 1
            try:
                with self.context.wrap_socket(there, server_side=True) if self.context else there as heard:
                    while True:
                        self._one(heard)
            except OSError:
                pass  # hung up, by either

    def _one(self, there: socket.socket) -> None:
        asked = read(there, SIZE.unpack(read(there, SIZE.size))[0])
        told = Told(int.from_bytes(asked[:2], "big"), int.from_bytes(asked[4:8], "big"), len(asked))
        if told.api == VERSIONS:
            there.sendall(framed(told.number, ApiVersionResponse_v0(0, SPOKEN).encode(), flexible=False))
            return
        self.told.append(told)
        self.answer(told, there)

    def close(self) -> None:
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()


@contextmanager
def broker_that(answer: Answer, context: ssl.SSLContext | None = None) -> Iterator[Broker]:
    broker = Broker(answer, context)
    try:
        yield broker
    finally:
        broker.close()


def line_to(broker: Broker, patience_s: float = STUCK_S, ours: ssl.SSLContext | None = None) -> Line:
    how: dict[str, Any] = {"security_protocol": "SSL", "ssl_context": ours} if ours else {}

    async def made() -> Line:
        return Line(*broker.address, request_timeout_ms=int(1000 * patience_s), **how)

    return asyncio.run(made())


def end_on(line: Line) -> Any:
    line.ready()
    return line.ask(End("id", (77, 2), committed=True))


@pytest.fixture(params=["plain", "tls"])
def sides(request: pytest.FixtureRequest, tls: Contexts) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    return (None, None) if request.param == "plain" else tls


def test_an_answer_in_single_bytes_is_heard_and_the_next_one_too(sides: Contexts):
    def in_bytes(told: Told, there: socket.socket) -> None:
        for byte in ended(told):
            there.sendall(bytes([byte]))

    with broker_that(in_bytes, sides[0]) as broker:
        line = line_to(broker, ours=sides[1])
        for _ in range(3):
            answer = end_on(line)
            assert (answer.error_code, answer.producer_id, answer.epoch) == (0, 77, 3)
        line.close()
    assert broker.connections == 1


def test_a_request_larger_than_any_buffer_arrives_whole(sides: Contexts):
    batch = bytes(12 << 20)
    with broker_that(at_once, sides[0]) as broker:
        line = line_to(broker, ours=sides[1])
        line.ready()
        line.tell(Produce("id", 1_000, {Place("rated", 0): batch}))
        while not broker.told:
            time.sleep(0.01)
        line.close()
    assert broker.told[0].api == PRODUCE
    assert 0 < broker.told[0].size - len(batch) < 100


def test_where_the_broker_hung_up_meanwhile_it_is_called_again(sides: Contexts, monkeypatch: pytest.MonkeyPatch):
    def once(told: Told, there: socket.socket) -> None:
        there.sendall(ended(told))
        raise ConnectionError

    monkeypatch.setattr("rater.doors.kafka.client_line.REST_S", 0.0)
    with broker_that(once, sides[0]) as broker:
        line = line_to(broker, ours=sides[1])
        for number in range(1, 4):
            assert end_on(line).producer_id == 77
            assert (broker.connections, len(broker.told)) == (number, number)
            time.sleep(0.05)
        line.close()


def test_a_connection_that_rests_is_used_again(sides: Contexts, monkeypatch: pytest.MonkeyPatch):
    """TLS has said something of its own meanwhile (its tickets), which is not the end."""
    monkeypatch.setattr("rater.doors.kafka.client_line.REST_S", 0.0)
    with broker_that(at_once, sides[0]) as broker:
        line = line_to(broker, ours=sides[1])
        for _ in range(3):
            assert end_on(line).producer_id == 77
            time.sleep(0.02)
        line.close()
    assert broker.connections == 1


def test_a_connection_that_rested_for_long_is_not_trusted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("rater.doors.kafka.client_line.IDLE_S", 0.01)
    with broker_that(at_once) as broker:
        line = line_to(broker)
        for _ in range(3):
            assert end_on(line).producer_id == 77
            time.sleep(0.02)
        line.close()
    assert broker.connections == 3


def hang_up(_told: Told, _there: socket.socket) -> None:
    raise ConnectionError


def half(told: Told, there: socket.socket) -> None:
    there.sendall(ended(told)[:-3])
    raise ConnectionError


def of_another(told: Told, there: socket.socket) -> None:
    there.sendall(framed(told.number + 1, EndAnswer(*ENDED).encode()))


def no_broker(_told: Told, there: socket.socket) -> None:
    there.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def cut_short(told: Told, there: socket.socket) -> None:
    there.sendall(framed(told.number, EndAnswer(*ENDED).encode()[:5]))


def silent(_told: Told, _there: socket.socket) -> None:
    pass


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (hang_up, errors.KafkaConnectionError), (half, errors.KafkaConnectionError), (no_broker, errors.KafkaConnectionError),
        (of_another, errors.CorrelationIdError), (silent, errors.RequestTimedOutError), (cut_short, errors.KafkaConnectionError),
    ],
)  # fmt: skip
def test_without_an_answer_there_is_a_problem_and_the_connection_is_given_up(answer: Answer, problem: Any):
    with broker_that(answer) as broker:
        line = line_to(broker, patience_s=0.3)
        with pytest.raises(problem):
            end_on(line)
        broker.answer = at_once
        assert end_on(line).producer_id == 77
        line.close()
    assert broker.connections == 2


def test_whoever_waits_is_interrupted_at_once_and_nothing_is_asked_after_that(sides: Contexts):
    with broker_that(silent, sides[0]) as broker:
        line = line_to(broker, ours=sides[1])
        line.ready()
        threading.Timer(0.2, line.interrupt).start()
        begun = time.monotonic()
        with pytest.raises(errors.KafkaConnectionError):
            line.ask(End("id", (77, 2), committed=True))
        assert time.monotonic() - begun < STUCK_S / 2
        with pytest.raises(errors.KafkaConnectionError, match="told to stop"):
            line.ready()
        time.sleep(0.05)
    assert len(broker.told) == 1


def test_nobody_listens(sides: Contexts):
    with broker_that(at_once) as broker:
        pass
    line = line_to(broker, ours=sides[1])
    with pytest.raises(OSError, match="refused"):
        line.ready()
