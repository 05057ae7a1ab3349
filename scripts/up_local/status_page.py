"""One page of links: what runs, where it listens, how it is, the end of its log."""

import html
import time
from collections.abc import Mapping

import aiohttp
from aiohttp import web

from scripts.up_local.parts import HOST
from scripts.up_local.supervisor import Running, Supervisor

LOG_BYTES = 60_000
STYLE = """
:root{color-scheme:light dark;--line:#d9dee5;--soft:#5d6875;--back:#f6f7f9;--card:#fff;--ink:#18202a;--link:#0b5cad}
@media (prefers-color-scheme:dark){:root{--line:#333c47;--soft:#9aa6b4;--back:#12161b;--card:#1a2027;--ink:#e6eaef;--link:#7db8f5}}
*{box-sizing:border-box}body{margin:0;background:var(--back);color:var(--ink);font:15px/1.5 system-ui,"DejaVu Sans",sans-serif}
main{max-width:76rem;margin:0 auto;padding:2rem 1.5rem}h1{font-size:1.5rem;margin:0}h2{font-size:1.05rem;margin:2rem 0 .6rem}
p{margin:.3rem 0 1.2rem;color:var(--soft)}a{color:var(--link);text-decoration:none}a:hover{text-decoration:underline}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;overflow-x:auto}
table{border-collapse:collapse;width:100%}th{font-weight:600;text-align:left;color:var(--soft);font-size:.85rem}
th,td{padding:.5rem .9rem;border-bottom:1px solid var(--line);vertical-align:top}tr:last-child td{border-bottom:0}
td.num{font-variant-numeric:tabular-nums;white-space:nowrap}td small{color:var(--soft);display:block}td span{color:var(--soft);font-size:.85rem}
.links a{margin-right:.9rem;white-space:nowrap}
.state{white-space:nowrap}.state i{display:inline-block;width:.65rem;height:.65rem;border-radius:50%;margin-right:.5rem;background:#9aa6b4}
.well i{background:#2c9a4b}.unwell i,.ended i{background:#d1382f}.starting i{background:#d99a1c}
pre{margin:0;padding:1rem;overflow-x:auto;font:13px/1.5 "DejaVu Sans Mono",ui-monospace,monospace;white-space:pre-wrap;word-break:break-word}
"""


def page(title: str, body: str, refresh_s: int = 0) -> web.Response:
    again = f'<meta http-equiv="refresh" content="{refresh_s}">' if refresh_s else ""
    text = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">{again}'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style><main>{body}</main></html>"
    )
    return web.Response(text=text, content_type="text/html")


def status_application(supervisor: Supervisor, missing: Mapping[str, str], hints: Mapping[str, str]) -> web.Application:
    """`missing`: what of the set does not run here, and why; `hints`: a question -> a command that answers it."""

    async def overview(_: web.Request) -> web.Response:
        well = sum(running.state == "well" for running in supervisor.all)
        rows = "".join(_row(running) for running in supervisor.all)
        absent = "".join(
            f'<tr><td class="state"><i></i>not here</td><td>{html.escape(name)}</td><td colspan="4"><small>{html.escape(why)}</small></td></tr>'
            for name, why in missing.items()
        )
        asked = "\n".join(f"# {html.escape(what)}\n{html.escape(command)}\n" for what, command in hints.items())
        body = (
            f"<h1>rater on this machine</h1><p>{well} of {len(supervisor.all)} processes are well. Ctrl-C in the terminal "
            f"stops all of them; what they wrote stays in <code>{html.escape(str(supervisor.place.data))}</code>.</p>"
            '<div class="card"><table><tr><th>State</th><th>Process</th><th>Look at</th><th>Port</th><th>PID</th><th>Log</th></tr>'
            f"{rows}{absent}</table></div><h2>Ask it</h2><div class='card'><pre>{asked}</pre></div>"
        )
        return page("rater on this machine", body, refresh_s=5)

    async def log(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in {running.part.name for running in supervisor.all}:
            raise web.HTTPNotFound(text=f"nothing here is called {name}")
        file = supervisor.place.log_of(name)
        with file.open("rb") as opened:
            opened.seek(max(file.stat().st_size - LOG_BYTES, 0))
            text = opened.read().decode("utf-8", errors="replace")
        lines = html.escape("\n".join(text.splitlines()[-300:])) or "(nothing yet)"
        shown = f"<h1>{html.escape(name)}</h1><p><a href='/'>back</a> · the end of <code>{html.escape(str(file))}</code></p>"
        return page(f"{name}: log", f"{shown}<div class='card'><pre>{lines}</pre></div>")

    async def as_json(_: web.Request) -> web.Response:
        return web.json_response({running.part.name: running.state for running in supervisor.all})

    async def prometheus(request: web.Request) -> web.Response:
        """Debian's Prometheus keeps its pages under /classic, everybody else's at the top."""
        page_name, query = request.match_info["page"], request.query_string
        (port,) = (running.part.ports["pages"] for running in supervisor.all if running.part.name == "prometheus")
        classic = f"http://{HOST}:{port}/classic/{page_name}"
        async with aiohttp.ClientSession() as session, session.get(classic) as answer:
            found = classic if answer.status == 200 else f"http://{HOST}:{port}/{page_name}"
        raise web.HTTPFound(f"{found}?{query}" if query else found)

    application = web.Application()
    application.add_routes([web.get("/prometheus/{page}", prometheus)])
    application.add_routes([web.get("/", overview), web.get("/log/{name}", log), web.get("/status.json", as_json)])
    return application


def _row(running: Running) -> str:
    part = running.part
    links = "".join(f'<a href="{html.escape(url)}">{html.escape(text)}</a>' for text, url in part.links.items())
    ports = "".join(f"<div>{port} <span>{html.escape(use)}</span></div>" for use, port in part.ports.items())
    again = f"<small>started again {running.restarts} times</small>" if running.restarts else ""
    pid = running.process.pid if running.process is not None and running.process.returncode is None else ""
    minutes = int(max(time.time() - running.since_s, 0) // 60)
    return (
        f'<tr><td class="state {running.state}"><i></i>{running.state}{again}</td>'
        f"<td>{html.escape(part.name)}<small>{html.escape(part.what)}</small></td>"
        f'<td class="links">{links}</td><td class="num">{ports}</td><td class="num">{pid}<small>{minutes} min</small></td>'
        f'<td><a href="/log/{html.escape(part.name)}">log</a></td></tr>'
    )


def address(port: int) -> str:
    return f"http://{HOST}:{port}/"
