"""`make up-local`: what is in the way is named before anything starts, what dies is started again, nothing is left behind."""

import asyncio
import os
import signal
import smtplib
import socket
import sys
import time
import urllib.request
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path

import pytest
import yaml

from scripts.up_local import plan
from scripts.up_local.__main__ import _alone, _require_free
from scripts.up_local.parts import CannotStart, Part, Place, Ports
from scripts.up_local.supervisor import Supervisor

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
PAGE = "import http.server, sys; http.server.test(http.server.SimpleHTTPRequestHandler, port=int(sys.argv[1]), bind='127.0.0.1')"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(fulfilled: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not fulfilled():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_process_that_dies_is_started_again_and_all_are_gone_at_the_end(tmp_path: Path):
    port = free_port()
    page = Part("page", "", (sys.executable, "-c", PAGE, str(port)), health=f"http://127.0.0.1:{port}/")
    deaf = Part("deaf", "", (sys.executable, "-c", DEAF), stop_s=0.2)

    async def run() -> list[int]:
        supervisor = Supervisor(Place(tmp_path, tmp_path))
        await supervisor.start(page)
        await supervisor.start(deaf)
        (first, second) = supervisor.all
        assert first.process is not None
        assert second.process is not None
        pids = [first.process.pid, second.process.pid]
        log = supervisor.place.log_of("deaf")
        await until(lambda: "up" in log.read_text())
        os.kill(first.process.pid, signal.SIGKILL)
        await until(lambda: first.restarts == 1 and first.process is not None and first.process.pid not in pids)
        pids.append(first.process.pid)
        await supervisor.stop()
        return pids

    assert [pid for pid in asyncio.run(run()) if alive(pid)] == []


def test_a_process_that_ends_while_it_starts_is_told_with_its_last_words(tmp_path: Path):
    part = Part("sad", "", (sys.executable, "-c", "raise SystemExit('no such deck')"), health="tcp:1")
    with pytest.raises(CannotStart, match=r"sad ended while starting:\s+no such deck"):
        asyncio.run(Supervisor(Place(tmp_path, tmp_path)).start(part))


def test_every_port_that_is_taken_is_named_before_anything_starts():
    with socket.socket() as one, socket.socket() as other:
        for taken in (one, other):
            taken.bind(("127.0.0.1", 0))
            taken.listen()
        ports = [taken.getsockname()[1] for taken in (one, other)]
        parts = [
            Part("broker", "", (), ports={"clients": ports[0]}),
            Part("worker-1", "", (), ports={"pages": ports[1]}),
        ]
        with pytest.raises(CannotStart) as told:
            _require_free(parts, free_port())
    assert f"port {ports[0]} (broker, clients), {ports[1]} (worker-1, pages)" in str(told.value)
    assert "SHIFT=1000" in str(told.value)


def test_two_on_one_folder_are_one_too_many(tmp_path: Path):
    place = Place(tmp_path, tmp_path)
    with _alone(place), pytest.raises(CannotStart, match="another one runs on"), _alone(place):
        pass


def test_a_settings_variable_of_the_shell_does_not_reach_what_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RATER_TOPIC_PREFIX", "production.")
    place = Place(tmp_path, tmp_path)
    show = (sys.executable, "-c", "import os; print(sorted(key for key in os.environ if key.startswith('RATER_T')))")
    asyncio.run(Supervisor(place).run_once("show", show, {}))
    assert place.log_of("show").read_text() == "[]\n"


def test_prometheus_is_told_where_the_processes_of_this_machine_listen(tmp_path: Path):
    targets = plan.targets(Place(ROOT, tmp_path), Ports(shift=1000))
    jobs = {yaml.safe_dump(group["labels"]).strip(): group["targets"] for group in targets}
    assert jobs["job: rater-worker"] == ["127.0.0.1:7066", "127.0.0.1:7076"]
    assert jobs["job: rater-notification"] == ["127.0.0.1:7068"]


def test_a_mail_that_is_caught_is_shown_and_may_run_nothing(tmp_path: Path):
    smtp, pages = free_port(), free_port()
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "calling@rater.example", "finance@contoso.example", "<b>15.00</b> added"
    mail.set_content("in text")
    mail.add_alternative("<p>in HTML</p><script>alert(1)</script>", subtype="html")
    command = (sys.executable, "-m", "scripts.up_local.mail_catcher", "--smtp-port", str(smtp), "--web-port", str(pages),
               "--folder", str(tmp_path / "mails"))  # fmt: skip
    here = f"http://127.0.0.1:{pages}"

    def ask() -> tuple[str, str, str]:
        with smtplib.SMTP("127.0.0.1", smtp, timeout=PATIENCE_S) as server:
            server.send_message(mail)
        (file,) = (tmp_path / "mails").glob("*.eml")
        with urllib.request.urlopen(f"{here}/", timeout=PATIENCE_S) as answer:
            listed = answer.read().decode()
        with urllib.request.urlopen(f"{here}/mail/{file.name}/html", timeout=PATIENCE_S) as answer:
            return listed, answer.read().decode(), answer.headers["Content-Security-Policy"]

    async def run() -> tuple[str, str, str]:
        supervisor = Supervisor(Place(ROOT, tmp_path))
        await supervisor.start(Part("mail-catcher", "", command, health=f"{here}/healthz"))
        try:
            return await asyncio.to_thread(ask)
        finally:
            await supervisor.stop()

    listed, body, policy = asyncio.run(run())
    assert "&lt;b&gt;15.00&lt;/b&gt; added" in listed
    assert "in HTML" in body
    assert policy.startswith("default-src 'none'")
