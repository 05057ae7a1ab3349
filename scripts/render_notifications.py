"""Every mail in every language as files to look at: `python -m scripts.render_notifications OUT [--pictures] [--templates DIR]`.

Writes a text and an HTML file for each example of each kind and an index.html. `--pictures` also takes pictures in a headless Chromium,
several mails side by side: light and dark, 900 and 390 pixels wide.
"""

import argparse
import html
import shutil
import subprocess
import sys
from pathlib import Path

from rater.notify.contacts import LANGUAGES
from rater.notify.examples import example_context
from rater.notify.kinds import KINDS
from rater.notify.rendering import Letter, Templates

WIDTHS = {"wide": (900, 2), "phone": (390, 4)}  # pixels of each mail, mails on a picture
HEIGHT = 1150
SCHEMES = ("light", "dark")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def write(out: Path, templates: Templates) -> list[Path]:
    """The HTML files, in the order of the kinds."""
    pages = []
    for language in LANGUAGES:
        for kind in KINDS:
            for n, context in enumerate(example_context(kind), 1):
                pages.append(_write_one(out, f"{language}-{kind}-{n}", templates.render(kind, language, context)))
    links = "".join(f'<li><a href="{page.name}">{html.escape(page.stem)}</a></li>' for page in pages)
    (out / "index.html").write_text(f"<!DOCTYPE html><title>Notifications</title><ul>{links}</ul>", "utf-8")
    return pages


def _write_one(out: Path, name: str, letter: Letter) -> Path:
    (out / f"{name}.txt").write_text(f"Subject: {letter.subject}\n\n{letter.text}", "utf-8")
    page = out / f"{name}.html"
    page.write_text(letter.html, "utf-8")
    return page


def take_pictures(pages: list[Path]) -> None:
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        sys.exit(f"no browser; expected one of {', '.join(BROWSERS)} on the PATH (Debian: apt-get install chromium)")
    for width, (pixels, beside) in WIDTHS.items():
        for n in range(0, len(pages), beside):
            for scheme in SCHEMES:
                _picture(browser, pages[n : n + beside], scheme, width, pixels)


def _picture(browser: str, pages: list[Path], scheme: str, width: str, pixels: int) -> None:
    """A headless window is never as narrow as a phone, so each mail stands in a frame."""
    first = pages[0]
    frame = first.with_name(f".{first.stem}-{width}.frame.html")
    frames = "".join(
        f'<iframe src="{page.name}" width="{pixels}" height="{HEIGHT}" style="border:0"></iframe>' for page in pages
    )
    frame.write_text(
        '<!DOCTYPE html><meta name="color-scheme" content="light dark">'
        f"<style>body{{margin:0;display:flex;gap:10px;background:#888}}</style>{frames}",
        "utf-8",
    )
    target = first.with_name(f"{first.stem}-{scheme}-{width}.png")
    command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
               f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}",
               f"--window-size={len(pages) * (pixels + 10)},{HEIGHT}", f"--screenshot={target}", frame.resolve().as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    frame.unlink()
    if done.returncode != 0 or not target.exists():
        sys.exit(f"{browser} took no picture of {first}: {done.stderr.strip()[-400:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write every mail in every language to a folder, to look at.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--pictures", action="store_true", help="also pictures, with a headless Chromium")
    parser.add_argument("--only", default="", help="pictures only of files whose name contains this")
    parser.add_argument("--templates", type=Path, help="an operator's own templates")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    pages = write(asked.out, Templates(asked.templates))
    print(f"{len(pages)} mails in {asked.out}")
    if asked.pictures:
        take_pictures([page for page in pages if asked.only in page.name])


if __name__ == "__main__":
    main()
