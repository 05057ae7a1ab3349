"""A proxy between clients and one broker that understands frames: it can hold, drop and delay single requests and answers.

Clients reach the broker through it alone, because it puts its own port in the place of the broker's where an answer names
it (Metadata, FindCoordinator). A held request goes to the broker when it is released, also when the client that sent it is
long gone: that is what a network does now and then, and what transactions have to survive.
"""

import asyncio
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from types import TracebackType

HOST = "127.0.0.1"
LENGTH = struct.Struct(">i")
REQUEST = struct.Struct(">hhi")  # after the length: API key, version, correlation id
CORRELATION = struct.Struct(">i")  # after the length, of an answer


class Api(IntEnum):
    PRODUCE = 0
    FETCH = 1
    METADATA = 3
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS = 24
    ADD_OFFSETS = 25
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28


END_V0_BYTES = 14


class Side(Enum):
    REQUEST = "request"
    ANSWER = "answer"


@dataclass
class Rule:
    """What happens to the next `times` frames of an API on one side, and which were caught.

    `holding`: only frames with these bytes in them, a transactional id for example.
    `cut` closes the client's connection when one is caught. Drop: never `release`. Delay: release later.
    """

    api: Api
    side: Side
    times: int
    cut: bool
    holding: bytes = b""
    caught: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    held: list[tuple[asyncio.StreamWriter, bytes]] = field(default_factory=list)
    answered: list[bytes] = field(default_factory=list)  # what the broker said to requests that were held
    answers: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    async def release(self) -> None:
        """Send on what is held, in order; let everything later pass."""
        self.times = 0
        held, self.held = self.held, []
        for writer, frame in held:
            with suppress(OSError):
                writer.write(frame)
                await writer.drain()


class Proxy:
    """`async with Proxy(port) as proxy: ... proxy.bootstrap`."""

    def __init__(self, broker_port: int) -> None:
        self._broker_port = broker_port
        self._rules: list[Rule] = []
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.requests: list[tuple[int, bytes]] = []  # API key and frame of all that came

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _problem: BaseException | None, _trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    @property
    def bootstrap(self) -> str:
        return f"{HOST}:{self.port}"

    def catch(
        self, api: Api, side: Side = Side.REQUEST, *, times: int = 1, cut: bool = False, holding: bytes = b""
    ) -> Rule:
        rule = Rule(api, side, times, cut, holding)
        self._rules.append(rule)
        return rule

    def _rule(self, api: int, side: Side, frame: bytes) -> Rule | None:
        for rule in self._rules:
            if rule.api == api and rule.side is side and rule.times > 0 and rule.holding in frame:
                rule.times -= 1
                return rule
        return None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with suppress(OSError, asyncio.CancelledError):
                await Pipe(self, reader, writer, *await asyncio.open_connection(HOST, self._broker_port)).run()
        finally:
            self._connections.discard(task)

    def renamed(self, api: int, frame: bytes) -> bytes:
        """The answer with our port for the broker's, where it tells addresses: a string and an int32 behind it."""
        if api not in (Api.METADATA, Api.FIND_COORDINATOR):
            return frame
        address = len(HOST).to_bytes(2, "big") + HOST.encode()
        return frame.replace(address + LENGTH.pack(self._broker_port), address + LENGTH.pack(self.port))


class Pipe:
    """One connection of a client, and the one to the broker that belongs to it."""

    def __init__(
        self,
        proxy: Proxy,
        client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        broker: asyncio.StreamReader,
        to_broker: asyncio.StreamWriter,
    ) -> None:
        self._proxy = proxy
        self._client, self._to_client, self._broker, self._to_broker = client, to_client, broker, to_broker
        self._apis: dict[int, int] = {}
        self._waiting: dict[int, Rule] = {}  # requests that were held, by correlation id

    async def run(self) -> None:
        try:
            await asyncio.gather(self._requests(), self._answers())
        finally:
            self._to_client.close()
            self._to_broker.close()

    async def _requests(self) -> None:
        while (frame := await read_frame(self._client)) is not None:
            api, _, correlation = REQUEST.unpack_from(frame, LENGTH.size)
            self._apis[correlation] = api
            self._proxy.requests.append((api, frame))
            rule = self._proxy._rule(api, Side.REQUEST, frame)
            if rule is None:
                self._to_broker.write(frame)
                continue
            self._waiting[correlation] = rule
            rule.held.append((self._to_broker, frame))
            if rule.cut:
                self._to_client.close()
            rule.caught.release()
        if not self._waiting:
            self._to_broker.close()

    async def _answers(self) -> None:
        while (frame := await read_frame(self._broker)) is not None:
            (correlation,) = CORRELATION.unpack_from(frame, LENGTH.size)
            api = self._apis.pop(correlation)
            frame = self._proxy.renamed(api, frame)
            late = self._waiting.pop(correlation, None)
            if late is not None:
                late.answered.append(frame)
                late.answers.release()
            rule = self._proxy._rule(api, Side.ANSWER, frame)
            if rule is None:
                if not self._to_client.is_closing():
                    self._to_client.write(frame)
                continue
            rule.held.append((self._to_client, frame))
            if rule.cut:
                self._to_client.close()
            rule.caught.release()
        self._to_client.close()


async def read_frame(reader: asyncio.StreamReader) -> bytes | None:
    """A frame with its length in front; None at the end of the stream."""
    try:
        head = await reader.readexactly(LENGTH.size)
        return head + await reader.readexactly(LENGTH.unpack(head)[0])
    except (asyncio.IncompleteReadError, OSError):
        return None


def error_codes(answers: Sequence[bytes]) -> list[int]:
    """The error of EndTxn's answers: after length, correlation id and throttle time; v5, which is longer, has tags before that."""
    return [struct.unpack_from(">h", frame, 12 if len(frame) == END_V0_BYTES else 13)[0] for frame in answers]
