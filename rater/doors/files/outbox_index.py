"""`outbox/index.html`: the mails of an outbox folder as a browser shows them, the newest first.

A mail's HTML stands in a frame that may run nothing; the same folder gives the same page.
"""

import email
import html
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

from rater.doors.files.outbox import INDEX, sync, write_whole

SHOWN_MAX = 300

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>Outbox</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem }}
details {{ border-top: 1px solid #8886 }}
summary {{ padding: .5rem 0; cursor: pointer }}
small {{ opacity: .75 }}
iframe {{ width: 100%; height: 44rem; border: 1px solid #8886; margin-bottom: 1rem }}
</style></head><body>
<h1>Outbox</h1>
<p>{told} Nothing was sent. Each file opens in a mail program, too.</p>
{mails}
</body></html>
"""
_MAIL = """<details><summary><b>{subject}</b><br><small>{when} &middot; to {to} &middot; <a href="{href}">{file}</a></small></summary>
<iframe sandbox loading="lazy" title="{subject}" srcdoc="{body}"></iframe></details>"""


def write_index(folder: Path) -> None:
    files = sorted(folder.glob("*/*.eml"), key=lambda file: (file.name, file.parent.name), reverse=True)
    shown = "\n".join(_mail(file, folder) for file in files[:SHOWN_MAX])
    told = f"{len(files):,} mails, the newest first." if len(files) != 1 else "1 mail."
    if len(files) > SHOWN_MAX:
        told += f" The newest {SHOWN_MAX} are shown, the others are in the folders beside this page."
    write_whole(folder / INDEX, _PAGE.format(told=told, mails=shown).encode())
    sync(folder / INDEX)


def _mail(file: Path, folder: Path) -> str:
    message = email.message_from_bytes(file.read_bytes(), policy=default)
    assert isinstance(message, EmailMessage)
    body = message.get_body(("html", "plain"))
    shown = {
        "subject": message["Subject"], "when": message["Date"].datetime.strftime("%Y-%m-%d %H:%M UTC"), "to": message["To"],
        "href": file.relative_to(folder).as_posix(), "file": file.name, "body": body.get_content() if body is not None else "",
    }  # fmt: skip
    return _MAIL.format(**{name: html.escape(str(value)) for name, value in shown.items()})
