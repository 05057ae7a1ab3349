"""What a worker answers about its accounts: committed state and nothing else, whatever happens to the batch on its way."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from rater.contract.commands import decode_commands
from rater.doors.clock import monotonic
from rater.doors.http.workers import Workers
from rater.doors.kafka.crew import Crew
from rater.doors.kafka.live import LivePage
from rater.doors.kafka.log import LogTimeout
from rater.doors.kafka.memory import MemoryWriter
from rater.doors.kafka.partitioning import partition_of
from rater.doors.questions import Away
from rater.doors.settings.secret import Secret
from tests.http.scene import ROOT, command
from tests.kafka.harness import Bench

RATES = ROOT / "rates" / "example-usd"
OPENED = command("tenant.opened", "contoso", 0, country="GB", currency="USD", billing_mode="prepaid")


def cent(number: int) -> bytes:
    """Each adds 1 micro-unit, so the balance says how many were applied."""
    return command("funds.added", "contoso", number, lot_id=f"lot-{number}", amount_micros=1)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, RATES, partitions=2)


HOME = partition_of(b"contoso", 2)


async def with_crew(bench: Bench, act: Callable[[Crew, LivePage], Any], page: LivePage | None = None) -> None:
    crew = Crew(bench.kit(), lambda problem: pytest.fail(str(problem)))
    page = page or LivePage(None, "127.0.0.1")
    async with asyncio.timeout(120):
        await crew.join(None)
        page.open(crew, 2)
        while crew.assigned is None or len(crew.assigned) < 2:
            await asyncio.sleep(0.001)
        await act(crew, page)
        await crew.leave()


def test_an_answer_is_of_committed_state_though_commits_fail_all_the_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    """Of one tenant's commands the first opens it and every other adds 1: a row too many or too few shows at once."""
    commits = 0
    real = MemoryWriter.commit

    async def failing(writer: MemoryWriter) -> None:
        nonlocal commits
        commits += 1
        await asyncio.sleep(0.002)
        if commits % 3 == 0:
            raise LogTimeout("the coordinator does not answer")
        await real(writer)

    monkeypatch.setattr(MemoryWriter, "commit", failing)
    found: list[tuple[int, int]] = []

    async def act(_crew: Crew, page: LivePage) -> None:
        async def ask() -> None:
            while not found or found[-1][1] < 13:
                status, told = await page.answer("contoso", "", {})
                if status == 200:
                    found.append((told["account"]["balance_micros"], told["reflects"]["next_command"]))
                    account = bench.log.group("rating").offsets
                    assert told["reflects"]["next_command"] == account[bench.names.place("account-commands", HOME)]
                await asyncio.sleep(0)

        asking = asyncio.ensure_future(ask())
        bench.send("account-commands", [OPENED])
        for number in range(1, 13):
            bench.send("account-commands", [cent(number)])
            while not found or found[-1][1] < number:
                await asyncio.sleep(0)
        await asking

    asyncio.run(with_crew(bench, act))
    assert commits > 12
    assert len({upto for _, upto in found}) > 4, "only a few states were seen: this proves nothing"
    assert [balance for balance, _ in found] == [upto - 1 for _, upto in found]
    assert found == sorted(found), "an answer went back"


def test_a_batch_on_its_way_is_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    held = asyncio.Event()
    real = MemoryWriter.commit
    holding = False

    async def slow(writer: MemoryWriter) -> None:
        if holding:
            await held.wait()
        await real(writer)

    monkeypatch.setattr(MemoryWriter, "commit", slow)

    async def act(crew: Crew, page: LivePage) -> None:
        nonlocal holding
        bench.send("account-commands", [OPENED, cent(1)])
        while (await page.answer("contoso", "", {}))[0] != 200:
            await asyncio.sleep(0.001)
        holding = True
        bench.send("account-commands", [cent(2)])
        task = crew.task(HOME)
        assert task is not None
        while task.base is not None:
            await asyncio.sleep(0.001)
        asking = asyncio.ensure_future(page.answer("contoso", "", {}))
        for _ in range(50):
            await asyncio.sleep(0.001)
        assert not asking.done()
        holding = False
        held.set()
        status, told = await asking
        assert (status, told["account"]["balance_micros"], told["reflects"]["next_command"]) == (200, 2, 3)

    asyncio.run(with_crew(bench, act))


def test_a_partition_that_does_not_run_is_said_not_to_in_time(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    async def never(_writer: MemoryWriter) -> None:
        raise LogTimeout("the coordinator does not answer")

    monkeypatch.setattr(MemoryWriter, "commit", never)

    async def act(_crew: Crew, page: LivePage) -> None:
        bench.send("account-commands", [OPENED])
        status, told = await page.answer("contoso", "", {})
        assert (status, told["partition"]) == (503, HOME)

    asyncio.run(with_crew(bench, act, LivePage(None, "127.0.0.1", wait_s=0.05)))


def test_the_page_knows_applied_conflicting_and_unknown_commands(bench: Bench):
    async def act(_crew: Crew, page: LivePage) -> None:
        bench.send("account-commands", [OPENED, cent(1), cent(1).replace(b": 1}", b": 2}")])
        rows, _, _ = decode_commands([cent(1), cent(1).replace(b": 1}", b": 2}"), cent(7)])
        while (await page.answer("contoso", "", {}))[1].get("reflects", {}).get("next_command") != 3:
            await asyncio.sleep(0.001)
        for row, expected in zip(rows, ("applied", "conflict", "unknown"), strict=True):
            number = 7 if expected == "unknown" else 1
            query = {"command_id": f"c-contoso-{number}", "content": str(int(row.content))}
            assert (await page.answer("contoso", "", query))[1]["command"] == expected
        nobody = next(name for name in ("a", "b", "c", "d") if partition_of(name.encode(), 2) == HOME)
        status, told = await page.answer(nobody, "", {"command_id": "x", "content": "1"})
        assert (status, told["command"], "account" in told) == (404, "unknown", False)
        for query in ({"command_id": "x"}, {"content": "1"}, {"command_id": "x", "content": str(1 << 64)}):
            assert (await page.answer("contoso", "", query))[0] == 400

    asyncio.run(with_crew(bench, act))


def test_without_the_secret_nobody_is_answered_and_without_any_only_this_machine():
    async def status(page: LivePage, authorization: str) -> int:
        return (await page.answer("contoso", authorization, {}))[0]

    closed, alone, open_to_all = (
        LivePage(Secret("s3cret"), "0.0.0.0"),
        LivePage(None, "127.0.0.1"),
        LivePage(None, "0.0.0.0"),
    )
    assert asyncio.run(status(closed, "Bearer s3cret")) == 503
    for wrong in ("", "Bearer ", "Bearer s3cre", "s3cret", "Bearer \u00e9"):
        assert asyncio.run(status(closed, wrong)) == 401
    assert asyncio.run(status(alone, "")) == 503
    assert asyncio.run(status(open_to_all, "")) == 401


# ---------------------------------------------------------------------------------------------- the API's side


async def served(handler: Any) -> tuple[web.AppRunner, str]:
    app = web.Application()
    app.router.add_get("/live/{tenant}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    return runner, f"http://127.0.0.1:{port}"


def reply(batch: int, **more: Any) -> web.Response:
    reflects = {"partition": 1, "batch": batch, "next_cdr": 0, "next_command": 0}
    return web.json_response({"reflects": reflects, "account": {"tenant": "contoso"}} | more)


def asked_of(handlers: list[Any], act: Callable[[Workers, list[int]], Any], secret: Secret | None = None) -> list[int]:
    """How often each worker was asked."""
    asked = [0] * len(handlers)

    async def run() -> None:
        def counted(k: int, handler: Any) -> Any:
            async def one(request: web.Request) -> web.Response:
                asked[k] += 1
                found: web.Response = handler(request)
                return found

            return one

        running = [await served(counted(k, handler)) for k, handler in enumerate(handlers)]
        workers = Workers([address for _, address in running], secret, monotonic, deadline_s=0.5)
        await workers.open()
        try:
            await act(workers, asked)
        finally:
            await workers.close()
            for runner, _ in running:
                await runner.cleanup()

    asyncio.run(run())
    return asked


def elsewhere(_request: web.Request) -> web.Response:
    return web.json_response({"partition": 1}, status=421)


def test_the_owner_is_found_and_remembered_until_it_is_another():
    async def act(workers: Workers, asked: list[int]) -> None:
        for _ in range(3):
            assert (await workers.ask("contoso", {})).reflects["batch"] == 5
        assert asked == [1, 3]

    asked_of([elsewhere, lambda _: reply(5)], act)


def test_a_worker_that_lags_behind_what_was_told_is_not_believed():
    """One that was stalled still thinks the partition is its own."""

    async def act(workers: Workers, _asked: list[int]) -> None:
        assert (await workers.ask("contoso", {("batch", 1): 9})).reflects["batch"] == 9
        with pytest.raises(Away):
            await workers.ask("contoso", {("batch", 1): 10})

    asked_of([lambda _: reply(8), lambda _: reply(9)], act)


@pytest.mark.parametrize(
    "handler",
    [
        elsewhere,
        lambda _: web.json_response({}, status=503),
        lambda _: web.json_response({}, status=500),
        lambda _: web.Response(text="<html>"),
        lambda _: web.json_response([1]),
        lambda _: web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}),
    ],
)
def test_what_is_no_answer_is_not_taken_for_one(handler: Any):
    async def act(workers: Workers, _asked: list[int]) -> None:
        with pytest.raises(Away) as told:
            await workers.ask("contoso", {})
        assert "127.0.0.1" not in str(told.value)

    asked_of([handler], act)


def test_workers_are_asked_with_the_secret_and_a_tenants_name_is_one_part_of_the_address():
    def strict(request: web.Request) -> web.Response:
        assert request.match_info["tenant"] == "a/../b c"
        assert request.query == {"command_id": "x&y=1", "content": "7"}
        return reply(1) if request.headers["Authorization"] == "Bearer s3cret" else elsewhere(request)

    async def act(workers: Workers, _asked: list[int]) -> None:
        assert (await workers.ask("a/../b c", {}, ("x&y=1", 7))).account is not None
        assert "s3cret" not in repr(workers)

    asked_of([strict], act, Secret("s3cret"))
