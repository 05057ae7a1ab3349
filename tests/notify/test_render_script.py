"""The script that shows every mail writes every mail."""

from pathlib import Path

from rater.notify.contacts import LANGUAGES
from rater.notify.kinds import KINDS
from rater.notify.rendering import Templates
from scripts.render_notifications import write


def test_every_kind_in_every_language_is_a_file_to_look_at(tmp_path: Path):
    pages = write(tmp_path, Templates())
    assert {page.stem.rsplit("-", 1)[0] for page in pages} == {f"{lang}-{kind}" for lang in LANGUAGES for kind in KINDS}
    assert all(page.with_suffix(".txt").read_text("utf-8").startswith("Subject: ") for page in pages)
    assert pages[0].name in (tmp_path / "index.html").read_text("utf-8")
