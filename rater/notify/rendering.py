"""Templates -> the text, the HTML and the subject of a mail.

`<language>/<kind>.txt` (with a block `subject`) and `<language>/<kind>.html`, Jinja2. An operator's folder is looked in first, and
what it lacks comes from the house. All are compiled and rendered once with an example at the start, so that a template
that cannot work is refused there, by file and line, and not when the mail is due.

HTML is escaped wherever a value enters. Every value, in text too, loses what could end a line or turn the writing around.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import (
    BaseLoader,
    ChoiceLoader,
    Environment,
    FileSystemLoader,
    PackageLoader,
    StrictUndefined,
    Template,
    TemplateError,
    TemplateSyntaxError,
)
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from rater.notify import formats
from rater.notify.contacts import LANGUAGES
from rater.notify.examples import example_context
from rater.notify.kinds import KINDS

SUBJECT_LONGEST = 150
VALUE_LONGEST = 500


class TemplatesRefused(Exception):
    """A template cannot be used; the text names file, line, and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A mail's content, in one language."""

    subject: str
    text: str
    html: str
    language: str


def _plain(value: Any) -> Any:
    """What Jinja does last with every value that a template writes out."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return formats.harmless(value)
    return value


def _free(text: str) -> str:
    """A text that somebody else wrote (a provider's reason): bounded, and without a full phone number."""
    return formats.without_numbers(formats.shortened(formats.one_line(text), VALUE_LONGEST))


_FORMATS: dict[str, Callable[..., str]] = {
    "money": formats.money, "number": formats.number, "instant": formats.instant, "day": formats.day,
    "month": formats.month, "pool": formats.pool, "pool_month": formats.pool_month, "service": formats.service,
}  # fmt: skip


def _filters(language: str) -> dict[str, Callable[..., str]]:
    """What a template may put behind a value: `{{ data.balance_micros | money(data.currency) }}`."""
    return {name: partial(function, language=language) for name, function in _FORMATS.items()} | {"free": _free}


class _Sources(BaseLoader):
    """`phrases.html` is `phrases.txt` compiled with escaping: one wording, and no unescaped way into HTML."""

    def __init__(self, files: BaseLoader) -> None:
        self._files = files

    def get_source(self, environment: Environment, template: str) -> tuple[str, str | None, Callable[[], bool] | None]:
        return self._files.get_source(environment, "phrases.txt" if template == "phrases.html" else template)


class Templates:
    """All templates, ready. Raises `TemplatesRefused`."""

    def __init__(self, folder: Path | None = None, name: str = "Calling") -> None:
        """`name`: who writes, at the top of each mail. `folder`: the operator's own templates."""
        self._name = name
        own = [] if folder is None else [FileSystemLoader(folder)]
        self._loader = _Sources(ChoiceLoader([*own, PackageLoader("rater.notify", "templates")]))
        self._environments = {language: self._environment(language) for language in LANGUAGES}
        if folder is not None:
            _refuse_strangers(folder)
        self._check()

    def _environment(self, language: str) -> Environment:
        made = ImmutableSandboxedEnvironment(
            loader=self._loader,
            autoescape=lambda name: name is not None and name.endswith(".html"),
            undefined=StrictUndefined,
            finalize=_plain,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        made.filters.update(_filters(language))
        return made

    def render(self, kind: str, language: str, context: dict[str, Any]) -> Letter:
        """Raises `TemplatesRefused` where an operator's template meets data it was not written for."""
        environment = self._environments[language]
        values = {"name": self._name, "language": language, **context}
        where = f"{language}/{kind}.txt"
        try:
            plain = environment.get_template(where)
            subject = _subject(plain, values)
            text = plain.render(values)
            where = f"{language}/{kind}.html"
            html = environment.get_template(where).render(values | {"subject": subject})
        except TemplateSyntaxError as wrong:
            raise TemplatesRefused(f"{wrong.filename or wrong.name} line {wrong.lineno}: {wrong.message}") from None
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as wrong:
            raise TemplatesRefused(f"{_place(wrong, where)}: {wrong or type(wrong).__name__}") from None
        return Letter(subject, text.strip() + "\n", html, language)

    def _check(self) -> None:
        for language in LANGUAGES:
            for kind in KINDS:
                for context in example_context(kind):
                    if not self.render(kind, language, context).subject:
                        raise TemplatesRefused(
                            f"{language}/{kind}.txt: its subject is empty; expected a text in the block 'subject'"
                        )


def _subject(template: Template, values: dict[str, Any]) -> str:
    block = template.blocks.get("subject")
    if block is None:
        raise TemplateError("no block 'subject'; expected {% block subject %}...{% endblock %}")
    written = "".join(block(template.new_context(values)))
    return formats.shortened(formats.one_line(written), SUBJECT_LONGEST)


def _place(wrong: BaseException, otherwise: str) -> str:
    """Where a template went wrong while it was rendered: the last line of the traceback that a template owns."""
    found, step = otherwise, wrong.__traceback__
    while step is not None:
        file = step.tb_frame.f_code.co_filename
        if file.endswith((".txt", ".html")):
            found = f"{file} line {step.tb_lineno}"
        step = step.tb_next
    return found


def _refuse_strangers(folder: Path) -> None:
    """A misspelt file would be passed over in silence and the house's template used."""
    known = {f"{language}/{kind}.{end}" for language in LANGUAGES for kind in KINDS for end in ("txt", "html")}
    known |= {"layout.txt", "layout.html", "parts.html", "phrases.txt"}
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if file.suffix in (".txt", ".html") and name not in known:
            raise TemplatesRefused(
                f"{file}: no message is called {name}; expected a language ({', '.join(LANGUAGES)}), a slash and one of "
                f"{', '.join(KINDS)} with .txt or .html"
            )
