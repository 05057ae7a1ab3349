"""A switch that asks: so many questions a second, open loop, over connections it keeps. A process of its own, one JSON object on stdout.

    TOKEN=... python -m benchmarks.authorize_client PORT PER_S SECONDS WARM_S FILE

The clock of a question starts when it is due, not when a connection was free for it: a server that stands still is not let off. FILE holds
bodies, one a line, taken in turn.
"""

import asyncio
import os
import sys
import time
from collections import Counter
from pathlib import Path

import orjson

CONNECTIONS = 160  # of the 256 that the API serves at once
STEP_S = 0.001
LAST_S = 5.0  # how long the last answers are waited for
END = b"\r\n\r\n"
LENGTH = b"content-length: "


class Line(asyncio.Protocol):
    """One connection with one question under way."""

    def __init__(self, switch: "Switch") -> None:
        self._switch = switch
        self._transport: asyncio.Transport | None = None
        self._due_s = 0.0
        self._said = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def ask(self, request: bytes, due_s: float) -> None:
        assert self._transport is not None
        self._due_s, self._said = due_s, b""
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._said += data
        head, found, body = self._said.partition(END)
        if not found:
            return
        at = head.lower().index(LENGTH) + len(LENGTH)
        if len(body) < int(head[at:].split(b"\r\n", 1)[0]):
            return
        self._switch.answered(self, head[9:12].decode(), body, self._due_s)

    def connection_lost(self, _problem: Exception | None) -> None:
        self._switch.lost(self)


class Switch:
    """Asks on whatever connection is free; without one the question waits, and its clock runs."""

    def __init__(self, port: int, token: str, bodies: list[bytes]) -> None:
        self._port = port
        head = f"POST /v1/authorize HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
        self._requests = [head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body for body in bodies]
        self._free: list[Line] = []
        self._waiting: list[tuple[bytes, float]] = []
        self._asked = 0
        self.told: list[tuple[float, float]] = []  # due, seconds until the answer
        self.kinds: Counter[str] = Counter()

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(CONNECTIONS):
            _, line = await loop.create_connection(lambda: Line(self), "127.0.0.1", self._port)
            self._free.append(line)

    async def run(self, per_s: float, seconds: float) -> None:
        begun = time.perf_counter()
        while (now := time.perf_counter() - begun) < seconds:
            while self._asked < now * per_s:
                self._ask(begun + self._asked / per_s)
            await asyncio.sleep(STEP_S)
        give_up = time.perf_counter() + LAST_S
        while len(self.told) < self._asked and time.perf_counter() < give_up:
            await asyncio.sleep(0.01)
        self.kinds["lost"] += self._asked - len(self.told)

    def _ask(self, due_s: float) -> None:
        request = self._requests[self._asked % len(self._requests)]
        self._asked += 1
        if self._free:
            self._free.pop().ask(request, due_s)
        else:
            self._waiting.append((request, due_s))

    def answered(self, line: Line, status: str, body: bytes, due_s: float) -> None:
        self.told.append((due_s, time.perf_counter() - due_s))
        allowed = "allowed" if b'"allowed":true' in body else "refused"
        self.kinds[allowed if status == "200" else status] += 1
        if self._waiting:
            line.ask(*self._waiting.pop(0))
        else:
            self._free.append(line)

    def lost(self, line: Line) -> None:
        if line in self._free:
            self._free.remove(line)


async def main() -> None:
    port, per_s, seconds, warm_s, file = sys.argv[1:6]
    switch = Switch(int(port), os.environ["TOKEN"], Path(file).read_bytes().splitlines())
    await switch.open()
    begun = time.perf_counter()
    await switch.run(float(per_s), float(seconds))
    kept = [1000 * took for due_s, took in switch.told if due_s - begun >= float(warm_s)]
    told = {"answers_ms": [round(one, 3) for one in kept], "kinds": switch.kinds, "cpu_s": time.process_time()}
    sys.stdout.buffer.write(orjson.dumps(told))


if __name__ == "__main__":
    asyncio.run(main())
