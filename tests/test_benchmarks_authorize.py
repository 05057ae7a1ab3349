"""What the benchmark of authorizations asks, and the switch that asks it; the run itself needs a broker and a quiet machine."""

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import authorize, authorize_client
from benchmarks.workload import Shape, calls
from rater.doors.http.asked import read_question

TINY = Shape(tenants=50, prefixes=150, calls=2_000)


def test_the_questions_are_those_that_a_switch_would_have_asked_before_the_calls():
    found = list(authorize.questions_of(calls(TINY)))
    assert len(found) > 1_900
    read = [read_question(body) for body in found]
    assert len({question.call_id for question in read}) == len(read)
    assert {question.hold_seconds for question in read} == {authorize.HOLD_SECONDS}
    assert "user_out" in {question.call_type for question in read}


def test_what_was_asked_for_on_the_command_line_wins():
    assert authorize.sizes(False, None, None, None) == authorize.Sizes()
    assert authorize.sizes(True, 50, None, None).questions_per_s == 50
    assert authorize.sizes(True, 50, None, None).seconds == authorize.QUICK.seconds
    assert authorize.sizes(False, None, None, None, Path("/srv")).broker_files == Path("/srv")


def test_only_a_question_without_an_answer_counts_as_unanswered():
    told = {"answers_ms": [1.0, 2.0, 30.0], "kinds": {"allowed": 90, "refused": 5, "404": 1, "503": 3, "lost": 1}}
    lines = {line["name"]: line for line in authorize._answers(told, {})}
    assert lines["unanswered"]["value"] == 0.04
    assert lines["question to answer, p50"]["value"] == 2.0
    assert lines["question to answer, p99"]["met"] is False


def test_cpu_is_counted_beyond_the_rating_alone():
    begun, alone = authorize.Used(0, 0, 0, 0), authorize.Used(10, 5, 0, 1)
    first, last = authorize.Used(20, 10, 1, 2), authorize.Used(30, 16, 3, 4)
    found = {line["name"]: line["value"] for line in authorize._cpu(begun, alone, first, last, 1_000)}
    assert found == pytest.approx({"CPU of the api": 2_000, "CPU of the worker": 1_000, "CPU of the broker": 1_000})


@pytest.mark.parametrize("pieces", [1, 3])
def test_the_switch_counts_every_answer_and_the_clock_of_a_question_starts_when_it_is_due(pieces: int):
    """Against a server of ours that answers in several pieces, and one time in ten not at all."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            asked = json.loads(await reader.readexactly(size))
            status, body = (b"503", b"{}") if asked["n"] % 10 == 0 else (b"200", b'{"allowed":true}')
            answer = b"HTTP/1.1 %s X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)
            for part in np.array_split(np.frombuffer(answer, np.uint8), pieces):
                writer.write(part.tobytes())
                await writer.drain()
                await asyncio.sleep(0)

    async def run() -> authorize_client.Switch:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        switch = authorize_client.Switch(
            server.sockets[0].getsockname()[1], "token", [json.dumps({"n": n}).encode() for n in range(100)]
        )
        await switch.open()
        await switch.run(1_000, 0.1)
        server.close()
        return switch

    switch = asyncio.run(run())
    asked = len(switch.told)
    assert asked >= 90
    assert switch.kinds["lost"] == 0
    assert switch.kinds["503"] == -(-asked // 10)
    assert switch.kinds["allowed"] == asked - switch.kinds["503"]
    assert all(took > 0 for _, took in switch.told)
