"""A mail server that delivers nothing: every mail becomes a file, and a page shows them.

    python -m scripts.up_local.mail_catcher --smtp-port 1025 --web-port 8025 --folder mails

Loopback only, no TLS, no password: for trials. A mail's own HTML is shown in a frame that may run nothing and fetch nothing.
"""

import argparse
import asyncio
import contextlib
import email
import email.policy
import html
import signal
import time
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiohttp import web
from aiosmtpd.controller import UnthreadedController

from scripts.up_local.parts import HOST
from scripts.up_local.status_page import page

KEPT, SHOWN = 2000, 200
SAFE = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:"}


class Catcher:
    """Mails as files, by the moment they came."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._count = 0

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802  # aiosmtpd's name
        self._count += 1
        name = f"{time.time_ns() // 1_000_000:013d}-{self._count:06d}.eml"
        (self._folder / name).write_bytes(envelope.content)
        for old in self.files()[KEPT:]:
            old.unlink(missing_ok=True)
        return "250 kept, and delivered to nobody"

    def files(self) -> list[Path]:
        """The newest first."""
        return sorted(self._folder.glob("*.eml"), reverse=True)

    def read(self, name: str) -> EmailMessage:
        known = {file.name: file for file in self.files()}
        if name not in known:
            raise web.HTTPNotFound(text="no mail of that name")
        return read(known[name])


def read(file: Path) -> EmailMessage:
    message = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def body_of(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    return str(part.get_content()) if part is not None else ""


def application(catcher: Catcher) -> web.Application:
    async def overview(_: web.Request) -> web.Response:
        files = catcher.files()
        rows = "".join(_row(file) for file in files[:SHOWN])
        heads = "<tr><th>When</th><th>To</th><th>Subject</th></tr>"
        empty = "<tr><td colspan='3'>No mail yet.</td></tr>"
        body = f"<h1>Mails</h1><p>{len(files)} caught, delivered to nobody; the newest first.</p>"
        return page("mails", f"{body}<div class='card'><table>{heads}{rows or empty}</table></div>", refresh_s=10)

    async def one(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        message = catcher.read(name)
        heads = "".join(
            f"<tr><th>{head}</th><td>{html.escape(str(message[head] or ''))}</td></tr>"
            for head in ("From", "To", "Subject", "Date", "Message-ID")
        )
        frame = f"<iframe sandbox='allow-same-origin' src='/mail/{html.escape(name)}/html' style='border:0;width:100%;height:46rem;background:#fff'></iframe>"
        text = html.escape(body_of(message, "plain"))
        return page(
            str(message["Subject"]),
            f"<h1>{html.escape(str(message['Subject']))}</h1><p><a href='/'>back</a></p><div class='card'><table>{heads}</table></div>"
            f"<h2>As people see it</h2><div class='card'>{frame}</div><h2>As text</h2><div class='card'><pre>{text}</pre></div>",
        )

    async def frame(request: web.Request) -> web.Response:
        message = catcher.read(request.match_info["name"])
        return web.Response(text=body_of(message, "html"), content_type="text/html", headers=SAFE)

    async def well(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    made = web.Application()
    made.add_routes([web.get("/", overview), web.get("/healthz", well), web.get("/mail/{name}", one),
                     web.get("/mail/{name}/html", frame)])  # fmt: skip
    return made


def _row(file: Path) -> str:
    message = read(file)
    when = time.strftime("%H:%M:%S", time.localtime(int(file.name.split("-")[0]) / 1000))
    subject = html.escape(str(message["Subject"]))
    return (
        f"<tr><td class='num'>{when}</td><td>{html.escape(str(message['To']))}</td>"
        f"<td><a href='/mail/{html.escape(file.name)}'>{subject}</a></td></tr>"
    )


async def serve(smtp_port: int, web_port: int, folder: Path) -> None:
    """Until SIGTERM or Ctrl-C."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    catcher = Catcher(folder)
    smtp = await loop.create_server(UnthreadedController(catcher, loop=loop).factory, HOST, smtp_port)
    runner = web.AppRunner(application(catcher), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, web_port).start()
    print(f"SMTP {HOST}:{smtp_port}, mails at http://{HOST}:{web_port}/", flush=True)
    await stopped.wait()
    smtp.close()
    await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.up_local.mail_catcher", description="Takes every mail, delivers none."
    )
    parser.add_argument("--smtp-port", type=int, default=1025)
    parser.add_argument("--web-port", type=int, default=8025)
    parser.add_argument("--folder", type=Path, required=True)
    asked = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(asked.smtp_port, asked.web_port, asked.folder))


if __name__ == "__main__":
    main()
